//! What adapters trust when they speak TLS: the public authorities, and those of a PEM file.

use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// A client's configuration that trusts the public authorities, and those in `root_ca_file` too.
/// The error says what is wrong with the file.
pub(crate) fn client_config(root_ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let pem = match root_ca_file {
        Some(path) => fs::read(path).map_err(|error| error.to_string())?,
        None => Vec::new(),
    };
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
        count += 1;
    }
    if root_ca_file.is_some() && count == 0 {
        return Err("no certificate".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// Whether a connection failed because the server's certificate is not trusted.
pub(crate) fn is_of_certificate(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
}

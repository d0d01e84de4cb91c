//! TLS and logins, as both clients want them.

use std::sync::Arc;

use rskafka::client::{Credentials, SaslConfig};

use super::options::{KafkaOptions, SaslMechanism};
use crate::adapters::tls;

/// The configuration of TLS, if it is spoken. The error names the option.
pub(super) fn tls(options: &KafkaOptions) -> Result<Option<Arc<rustls::ClientConfig>>, String> {
    if !options.tls {
        return Ok(None);
    }
    let path = options.root_ca_file.as_deref();
    let config = tls::client_config(path).map_err(|cause| {
        let path = path.map(|path| path.display().to_string()).unwrap_or_default();
        format!("kafka.root_ca_file: expected PEM certificates in {path}, found: {cause}")
    })?;
    Ok(Some(Arc::new(config)))
}

/// The login, as rskafka wants it.
pub(super) fn sasl(options: &KafkaOptions) -> Option<SaslConfig> {
    let credentials = Credentials::new(
        options.sasl_username.clone().unwrap_or_default(),
        options.sasl_password.clone().unwrap_or_default(),
    );
    match options.sasl_mechanism {
        SaslMechanism::None => None,
        SaslMechanism::Plain => Some(SaslConfig::Plain(credentials)),
        SaslMechanism::ScramSha256 => Some(SaslConfig::ScramSha256(credentials)),
        SaslMechanism::ScramSha512 => Some(SaslConfig::ScramSha512(credentials)),
    }
}

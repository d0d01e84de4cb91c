//! A certificate authority that signed nothing.

use tempfile::NamedTempFile;

/// Its certificate as a PEM file, gone when this is dropped.
pub(crate) fn stranger() -> NamedTempFile {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), made.cert.pem()).unwrap();
    file
}

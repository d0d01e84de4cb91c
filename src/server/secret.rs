//! The key of request fingerprints: keyed, because a request may hold a password, which nobody
//! who reads the store may be able to guess.

use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use rand::TryRng;
use rand::rngs::SysRng;
use sha2::Sha256;

const KEY_BYTES: usize = 32;
const KEY_DIGITS: usize = 2 * KEY_BYTES;

/// A 32-byte key. Servers that share a store must share it, too.
#[derive(Clone)]
pub struct SecretKey([u8; KEY_BYTES]);

/// Why a key can't be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file can't be read or made.
    #[error("the secret key in {path} can't be used: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: io::Error,
    },
    /// The file holds something else.
    #[error("the secret key in {path} can't be used: expected {KEY_BYTES} bytes, found {found}")]
    Length {
        /// The file.
        path: PathBuf,
        /// How many bytes it holds.
        found: usize,
    },
    /// The text is no key.
    #[error(
        "server.fingerprint_key: expected {KEY_DIGITS} hex digits, found {0}; \
         `openssl rand -hex {KEY_BYTES}` makes a key"
    )]
    Text(String),
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes: {0}")]
    Random(String),
}

impl SecretKey {
    /// This key.
    pub fn new(key: [u8; KEY_BYTES]) -> Self {
        Self(key)
    }

    /// The key that these hex digits spell.
    pub fn from_hex(text: &str) -> Result<Self, SecretError> {
        let mut key = [0; KEY_BYTES];
        hex::decode_to_slice(text, &mut key).map_err(|_| {
            // Not the text itself, which may be a key with a slip in it.
            SecretError::Text(match text.chars().count() {
                0 => "no text".to_owned(),
                count => format!("something else of {count} characters"),
            })
        })?;
        Ok(Self(key))
    }

    /// The key in a file, which is made with mode 0600 if it is missing. Blocks.
    pub fn load_or_create(path: &Path) -> Result<Self, SecretError> {
        match read(path) {
            Err(SecretError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => {
                create(path)?;
                // Whoever was first has written the key that counts.
                read(path)
            }
            found => found,
        }
    }

    /// A digest that is the same only for the same method and payload.
    pub fn fingerprint(&self, method: &str, payload: &[u8]) -> [u8; 32] {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else {
            unreachable!("HMAC takes a key of any length");
        };
        // The length keeps a method's end and a payload's beginning apart.
        mac.update(&(method.len() as u64).to_be_bytes());
        mac.update(method.as_bytes());
        mac.update(payload);
        mac.finalize().into_bytes().into()
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// Random bytes that nobody can guess.
pub fn random_bytes() -> Result<[u8; 32], SecretError> {
    let mut bytes = [0; 32];
    match SysRng.try_fill_bytes(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) => Err(SecretError::Random(error.to_string())),
    }
}

fn read(path: &Path) -> Result<SecretKey, SecretError> {
    let error = |error| SecretError::Io { path: path.to_owned(), error };
    let mut bytes = Vec::new();
    // One byte more than there may be, so that a file that is too long is noticed.
    let file = std::fs::File::open(path).map_err(error)?;
    file.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(error)?;
    let found = bytes.len();
    let key = bytes.try_into().map_err(|_| SecretError::Length { path: path.to_owned(), found })?;
    Ok(SecretKey(key))
}

/// Writes a new key beside the path and links it there, so that no reader sees half a key and
/// of two creators one wins.
fn create(path: &Path) -> Result<(), SecretError> {
    let error = |error| SecretError::Io { path: path.to_owned(), error };
    let key = random_bytes()?;
    let beside = path.with_extension(format!("{}.new", hex::encode(&random_bytes()?[..8])));
    let written = private_file(&beside)
        .and_then(|mut file| file.write_all(&key).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::hard_link(&beside, path));
    // What is left behind if this fails has no name that anything looks for.
    let _ = std::fs::remove_file(&beside);
    match written {
        Err(found) if found.kind() != ErrorKind::AlreadyExists => Err(error(found)),
        _ => Ok(()),
    }
}

fn private_file(path: &Path) -> io::Result<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret.key");
        let key = SecretKey::load_or_create(&path).unwrap();
        assert_eq!(SecretKey::load_or_create(&path).unwrap().0, key.0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        for (content, part) in [(&b"short"[..], "found 5"), (&[0; 99], "found 33")] {
            std::fs::write(&path, content).unwrap();
            let error = SecretKey::load_or_create(&path).unwrap_err().to_string();
            assert!(error.contains("secret.key") && error.contains(part), "{error}");
        }
        let error = SecretKey::load_or_create(&dir.path().join("no/where")).unwrap_err();
        assert!(error.to_string().contains("no/where"), "{error}");
    }

    #[test]
    fn a_key_is_spelled_in_hex_digits() {
        let key = SecretKey::from_hex(&"0a".repeat(32)).unwrap();
        assert_eq!(key.0, [10; 32]);
        for (text, part) in [("", "found no text"), ("0a0b", "of 4 characters"), ("xyz", "64 hex")]
        {
            let error = SecretKey::from_hex(text).unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains("0a0b"), "{error}");
        }
    }

    #[test]
    fn fingerprints_depend_on_key_method_and_payload() {
        let (a, b) = (SecretKey::new([1; 32]), SecretKey::new([2; 32]));
        let print = a.fingerprint("m", b"payload");
        assert_eq!(print, a.fingerprint("m", b"payload"));
        assert_ne!(print, b.fingerprint("m", b"payload"));
        assert_ne!(print, a.fingerprint("mp", b"ayload"));
        assert_ne!(print, a.fingerprint("m", b"other"));
        assert_eq!(format!("{a:?}"), "SecretKey(..)");
    }
}

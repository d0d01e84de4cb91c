//! Passwords: argon2id, off the async threads and bounded, because one hash takes about 40 ms
//! and 19 MiB.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::fault::Fault;

/// The bounds of password hashing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PasswordOptions {
    /// Hashes computed at the same time at most; each needs 19 MiB and a core.
    pub hash_concurrency_max: usize,
    /// Hashes that may wait for their turn; what comes beyond is answered "try again".
    pub hash_queue_max: usize,
}

impl Default for PasswordOptions {
    fn default() -> Self {
        Self { hash_concurrency_max: 2, hash_queue_max: 512 }
    }
}

/// The longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// A hash of nothing, with the parameters of every other: verifying against it takes the time
/// that verifying a wrong password takes.
const DUMMY: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Hashes and verifies passwords. Clones share the bounds.
#[derive(Clone, Debug)]
pub struct Passwords {
    turns: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    waiting_max: usize,
}

impl Passwords {
    /// A hasher within some bounds.
    pub fn new(options: PasswordOptions) -> Self {
        let turns = options.hash_concurrency_max.max(1);
        Self {
            turns: Arc::new(Semaphore::new(turns)),
            waiting: Arc::default(),
            waiting_max: options.hash_queue_max + turns,
        }
    }

    /// The hash of a password in PHC form, with a salt from the operating system.
    pub async fn hash(&self, password: String) -> Result<String, Fault> {
        self.run(move || hash_password(&password)).await?
    }

    /// Whether a password is that of a hash. Without a hash it is not, after the same time.
    pub async fn verify(&self, password: String, hash: Option<String>) -> Result<bool, Fault> {
        self.run(move || {
            let known = hash.is_some();
            let text = hash.unwrap_or_else(|| DUMMY.to_owned());
            let hash = PasswordHash::new(&text).map_err(|error| Fault::internal(&error))?;
            let fits = Argon2::default().verify_password(password.as_bytes(), &hash).is_ok();
            Ok(fits && known)
        })
        .await?
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let _waiting = Waiting::enter(&self.waiting, self.waiting_max)?;
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|error| Fault::internal(&error))?;
        // The turn goes with the work, which a caller that gives up does not stop.
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        })
        .await
        .map_err(|error| Fault::internal(&error))
    }
}

/// The hash of a password in PHC form; takes about 40 ms of its thread. For tools that have no
/// async threads to spare.
pub fn hash_password(password: &str) -> Result<String, Fault> {
    match Argon2::default().hash_password(password.as_bytes()) {
        Ok(hash) => Ok(hash.to_string()),
        Err(error) => Err(Fault::internal(&error)),
    }
}

/// A password's length is within bounds; the reason if it is not.
pub fn check_password(field: &str, password: &str) -> Result<(), String> {
    match password.len() {
        1..=PASSWORD_BYTES_MAX => Ok(()),
        found => Err(format!("{field}: expected 1 to {PASSWORD_BYTES_MAX} bytes, found {found}")),
    }
}

/// One of those that wait for a turn or have it.
struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn enter(count: &Arc<AtomicUsize>, max: usize) -> Result<Self, Fault> {
        let waiting = Self(Arc::clone(count));
        if count.fetch_add(1, Ordering::Relaxed) >= max {
            return Err(Fault::Unavailable(
                "too many passwords are being checked: try again".to_owned(),
            ));
        }
        Ok(waiting)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn passwords_are_verified_and_unknown_ones_refused() {
        let passwords = Passwords::new(PasswordOptions::default());
        let hash = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$"), "{hash}");
        assert_ne!(hash, passwords.hash("correct horse".to_owned()).await.unwrap());
        for (password, hash, expected) in [
            ("correct horse", Some(hash.clone()), true),
            ("correct horsf", Some(hash), false),
            ("correct horse", None, false),
        ] {
            assert_eq!(passwords.verify(password.to_owned(), hash).await, Ok(expected));
        }
    }

    #[test]
    fn the_dummy_costs_what_a_real_hash_costs() {
        let parameters = |hash: &str| hash.split('$').take(4).collect::<Vec<_>>().join("$");
        assert_eq!(parameters(&hash_password("x").unwrap()), parameters(DUMMY));
        assert!(PasswordHash::new(DUMMY).is_ok());
    }

    #[tokio::test]
    async fn what_waits_is_bounded() {
        let passwords =
            Passwords::new(PasswordOptions { hash_concurrency_max: 1, hash_queue_max: 0 });
        let _turn = passwords.turns.acquire().await.unwrap();
        let mut first = Box::pin(passwords.hash("a".to_owned()));
        assert!(futures::poll!(&mut first).is_pending());
        let second = passwords.hash("b".to_owned()).await;
        assert!(matches!(second, Err(Fault::Unavailable(_))), "{second:?}");
        drop(first);
        let mut third = Box::pin(passwords.hash("c".to_owned()));
        assert!(futures::poll!(&mut third).is_pending());
    }

    #[test]
    fn lengths_are_checked() {
        assert!(check_password("password", "x").is_ok());
        assert_eq!(
            check_password("password", "").unwrap_err(),
            "password: expected 1 to 1024 bytes, found 0"
        );
        assert!(check_password("password", &"x".repeat(1025)).is_err());
    }
}

//! Logging in: the same for both APIs, and the same answer, after the same time, for an unknown
//! account and a wrong password.

use std::net::IpAddr;
use std::sync::Arc;

use super::fault::Fault;
use super::password::{PASSWORD_BYTES_MAX, Passwords};
use super::store::{Account, AccountStore};
use super::throttle::{Attempt, Throttle};
use crate::model::Email;
use crate::pipeline::clock::Clock;

/// Checks passwords against accounts.
pub struct Logins {
    accounts: Arc<dyn AccountStore>,
    clock: Arc<dyn Clock>,
    passwords: Passwords,
    throttle: Throttle,
}

impl Logins {
    /// Logins to the accounts of a store.
    pub fn new(
        accounts: Arc<dyn AccountStore>,
        clock: Arc<dyn Clock>,
        passwords: Passwords,
        throttle: Throttle,
    ) -> Self {
        Self { accounts, clock, passwords, throttle }
    }

    /// The account of an address, if the password is its own. Counts against the throttle of
    /// the account and of the peer if it is not.
    pub async fn verify(
        &self,
        email: &Email,
        password: &str,
        peer: Option<IpAddr>,
    ) -> Result<Account, Fault> {
        let attempt = self.throttle.attempt(email.folded(), peer, self.clock.now())?;
        let mut unjudged = Unjudged { throttle: &self.throttle, attempt: Some(attempt) };
        if let Some(account) = self.judge(email, password).await? {
            return Ok(account);
        }
        unjudged.attempt = None;
        Err(Fault::Unauthenticated("the e-mail address or the password is wrong".to_owned()))
    }

    async fn judge(&self, email: &Email, password: &str) -> Result<Option<Account>, Fault> {
        // No account has a longer one, and a length says nothing of accounts.
        if password.len() > PASSWORD_BYTES_MAX {
            return Ok(None);
        }
        let account = self.accounts.account(email).await?;
        let hash = account.as_ref().and_then(|account| account.password_hash.clone());
        let fits = self.passwords.verify(password.to_owned(), hash).await?;
        Ok(account.filter(|_| fits))
    }
}

/// An attempt that does not count when this is dropped: it succeeded, was not judged, or its
/// caller gave up first. The original's clients do that at each deadline, up to 20 times in a
/// row, and would be throttled for the server's slowness.
struct Unjudged<'a> {
    throttle: &'a Throttle,
    attempt: Option<Attempt>,
}

impl Drop for Unjudged<'_> {
    fn drop(&mut self) {
        if let Some(attempt) = &self.attempt {
            self.throttle.forgive(attempt);
        }
    }
}

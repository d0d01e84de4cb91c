//! Logging in: the same for both APIs, and the same answer, after the same time, for an unknown
//! account and a wrong password.

use std::net::IpAddr;
use std::sync::Arc;

use super::fault::Fault;
use super::password::{PASSWORD_BYTES_MAX, Passwords};
use super::store::{Account, AccountStore};
use super::throttle::Throttle;
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
    /// the account and of the peer unless it is.
    pub async fn verify(
        &self,
        email: &Email,
        password: &str,
        peer: Option<IpAddr>,
    ) -> Result<Account, Fault> {
        let attempt = self.throttle.attempt(email.folded(), peer, self.clock.now())?;
        let result = self.judge(email, password).await;
        match &result {
            Ok(Some(_)) | Err(_) => self.throttle.forgive(&attempt),
            Ok(None) => {}
        }
        result?.ok_or_else(|| {
            Fault::Unauthenticated("the e-mail address or the password is wrong".to_owned())
        })
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

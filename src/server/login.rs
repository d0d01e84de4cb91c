//! Logging in: the same for both APIs, and the same answer, after the same time, for an unknown
//! account and a wrong password.

use std::net::IpAddr;
use std::sync::Arc;

use tracing::Instrument as _;

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

    /// A peer registers an account; says when to come again if there were too many.
    pub fn registration(&self, peer: Option<IpAddr>) -> Result<(), Fault> {
        self.throttle.registration(peer, self.clock.now())
    }

    /// The account of an address, if the password is its own. Counts against the throttle of
    /// the account and of the peer if it is not.
    ///
    /// It runs to its end, whatever becomes of its caller. The original's clients give up at
    /// each deadline, up to 20 times in a row: right passwords must not count for the server's
    /// slowness, and wrong ones must, or whoever gives up soon could try as many as he likes.
    pub async fn verify(
        self: &Arc<Self>,
        email: &Email,
        password: &str,
        peer: Option<IpAddr>,
    ) -> Result<Account, Fault> {
        let (logins, email, password) = (Arc::clone(self), email.clone(), password.to_owned());
        let run = async move { logins.run(&email, &password, peer).await };
        tokio::spawn(run.in_current_span())
            .await
            .unwrap_or_else(|error| Err(Fault::internal(&error)))
    }

    async fn run(
        &self,
        email: &Email,
        password: &str,
        peer: Option<IpAddr>,
    ) -> Result<Account, Fault> {
        let attempt = self.throttle.attempt(email.folded(), peer, self.clock.now()).await?;
        let mut open = Open { throttle: &self.throttle, attempt, end: Throttle::forgive };
        let account = self.judge(email, password).await?;
        open.end = if account.is_some() { Throttle::succeeded } else { Throttle::failed };
        if account.is_none() {
            // Not the address: people type their password in its place.
            let peer = peer.map(tracing::field::display);
            tracing::info!(peer, "a login failed: a wrong password, or an unknown address");
        }
        account.ok_or_else(wrong)
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

/// The answer to a wrong password and to an unknown address.
pub(super) fn wrong() -> Fault {
    Fault::Unauthenticated("the e-mail address or the password is wrong".to_owned())
}

/// An attempt that ends when this is dropped: unjudged, unless it is known better.
struct Open<'a> {
    throttle: &'a Throttle,
    attempt: Attempt,
    end: fn(&Throttle, &Attempt),
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        (self.end)(self.throttle, &self.attempt);
    }
}

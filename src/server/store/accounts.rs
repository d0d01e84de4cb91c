//! Port: accounts and their sessions.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::{Email, Timestamp, UserId};
use crate::pipeline::store::StoreError;

/// What an account may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Its own watches.
    User,
    /// That, and push ticks.
    Feeder,
    /// That, and dead letters and resets.
    Operator,
}

/// What tells an account's password from any other that it had or will have: a digest of its hash.
pub type PasswordMark = [u8; 32];

/// The mark of the password with this hash.
pub fn password_mark(password_hash: &str) -> PasswordMark {
    Sha256::digest(password_hash).into()
}

/// An account as logging in needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub user: UserId,
    /// Its address as typed.
    pub email: Email,
    /// Its role.
    pub role: Role,
    /// The password's hash; `None` for an account that cannot log in.
    pub password_hash: Option<String>,
}

impl Account {
    /// Which password the account has, if it has one.
    pub fn password(&self) -> Option<PasswordMark> {
        self.password_hash.as_deref().map(password_mark)
    }
}

/// A session that is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The account's id.
    pub user: UserId,
    /// Its address.
    pub email: Email,
    /// Its role at present.
    pub role: Role,
    /// When the session ends.
    pub expires: Timestamp,
}

/// What came of opening a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// It is open, and no other was closed.
    Alone,
    /// It is open, and the account's oldest were closed for it.
    ClosedOthers,
    /// It is not: the account is gone, or has another password.
    Refused,
}

/// Accounts and sessions. Tokens are known by their SHA-256 digests only.
#[async_trait]
pub trait AccountStore: Send + Sync + 'static {
    /// The account of an address.
    async fn account(&self, email: &Email) -> Result<Option<Account>, StoreError>;

    /// Opens a session, if the account still has the password hash that was verified; the
    /// oldest ones beyond the bound per account are closed.
    async fn open_session(
        &self,
        user: UserId,
        verified_hash: Option<&str>,
        token: [u8; 32],
        expires: Timestamp,
    ) -> Result<Opened, StoreError>;

    /// The session of a token, unless it has ended or was revoked.
    async fn session(&self, token: [u8; 32]) -> Result<Option<Session>, StoreError>;

    /// Revokes a token.
    async fn close_session(&self, token: [u8; 32]) -> Result<(), StoreError>;

    /// Creates or changes an account from the host: a role and, if given, a password. A password
    /// and a higher role revoke the account's sessions. Returns whether it was created.
    async fn put_account(
        &self,
        email: &Email,
        role: Option<Role>,
        password_hash: Option<&str>,
    ) -> Result<bool, StoreError>;

    /// A number that differs after another process has changed accounts or sessions: what this
    /// process caches of them is void then. Cheap.
    async fn generation(&self) -> Result<u64, StoreError>;
}

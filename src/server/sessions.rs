//! Sessions: bearer tokens, and a cache of them so that a query costs no read of the store.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::fault::Fault;
use super::login::wrong;
use super::secret::random_bytes;
use super::store::{Account, AccountStore, Opened, Session};
use crate::model::Timestamp;
use crate::pipeline::clock::Clock;

/// Bounds of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionOptions {
    /// Seconds for which a token is valid.
    pub lifetime_s: u64,
    /// Sessions held in memory at most; others are read from the store.
    pub cached_max: u64,
    /// Milliseconds after which another process's changes (a role, a password) are noticed.
    pub recheck_ms: u64,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { lifetime_s: 7 * 86_400, cached_max: 100_000, recheck_ms: 500 }
    }
}

/// What is kept of a token: its SHA-256 digest.
pub type TokenDigest = [u8; 32];

/// The digest of a token's text.
pub fn digest(token: &str) -> TokenDigest {
    Sha256::digest(token.as_bytes()).into()
}

/// The sessions of the accounts.
///
/// One number voids everything that is cached: an entry counts only while `void` is what it was
/// before the entry was read from the store. So a revoked token can't come back from a read
/// that began before its end.
pub struct Sessions {
    store: Arc<dyn AccountStore>,
    clock: Arc<dyn Clock>,
    options: SessionOptions,
    cached: Cache<TokenDigest, (u64, Arc<Session>)>,
    void: watch::Sender<u64>,
}

impl Sessions {
    /// The sessions in a store.
    pub fn new(
        options: SessionOptions,
        store: Arc<dyn AccountStore>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let cached = Cache::new(options.cached_max);
        Self { store, clock, options, cached, void: watch::Sender::new(0) }
    }

    /// Opens a session of an account whose password was right: its token, which is nowhere kept,
    /// and when it ends. The password is wrong after all if it was changed meanwhile.
    pub async fn open(&self, account: &Account) -> Result<(String, Timestamp), Fault> {
        let bytes = random_bytes().map_err(|error| Fault::internal(&error))?;
        let token = format!("tl_{}", hex::encode(bytes));
        let expires = self.clock.now().plus(Duration::from_secs(self.options.lifetime_s));
        let hash = account.password_hash.as_deref();
        let opened = self.store.open_session(account.user, hash, digest(&token), expires).await;
        match opened {
            Ok(Opened::Alone) => {}
            Ok(Opened::Refused) => return Err(wrong()),
            // Also after a failure, which may have committed.
            Ok(Opened::ClosedOthers) | Err(_) => self.void(),
        }
        opened?;
        Ok((token, expires))
    }

    /// The session of a token, if it is valid now.
    pub async fn find(&self, token: TokenDigest) -> Result<Option<Arc<Session>>, Fault> {
        let void = *self.void.borrow();
        let cached = self.cached.get(&token).await.filter(|(read_at, _)| *read_at == void);
        let session = match cached {
            Some((_, session)) => session,
            None => {
                let Some(session) = self.store.session(token).await? else { return Ok(None) };
                let session = Arc::new(session);
                self.cached.insert(token, (void, Arc::clone(&session))).await;
                session
            }
        };
        Ok((self.clock.now() < session.expires).then_some(session))
    }

    /// Revokes a token: it is dead when this returns.
    pub async fn close(&self, token: TokenDigest) -> Result<(), Fault> {
        if self.store.session(token).await?.is_none() {
            // Whoever asks need not have an account: no write, and nothing of others is voided.
            self.cached.invalidate(&token).await;
            return Ok(());
        }
        let closed = self.store.close_session(token).await;
        // Also after a failure, which may have committed.
        self.cached.invalidate(&token).await;
        self.void();
        Ok(closed?)
    }

    /// Voids what is cached, after a change of accounts.
    pub fn void(&self) {
        self.void.send_modify(|void| *void += 1);
    }

    /// Waits until a token is valid no more: what a stream that it opened ends with.
    pub async fn ended(&self, token: TokenDigest) -> Fault {
        let mut void = self.void.subscribe();
        loop {
            void.mark_unchanged();
            match self.find(token).await {
                Ok(Some(session)) => {
                    let left = session.expires.since(self.clock.now());
                    tokio::select! {
                        // The sender lives as long as `self`.
                        _ = void.changed() => {}
                        () = self.clock.sleep(left) => {}
                    }
                }
                Ok(None) => return log_in(),
                Err(fault) => return fault,
            }
        }
    }

    /// Notices what other processes change, until it is told to stop.
    pub async fn watch_store(&self, shutdown: CancellationToken) {
        let mut known = None;
        loop {
            match self.store.generation().await {
                Ok(generation) => {
                    if known.replace(generation).is_some_and(|before| before != generation) {
                        self.void();
                    }
                }
                // What is cached stays good for queries that need no store.
                Err(error) => tracing::warn!(%error, "changes of accounts can't be noticed now"),
            }
            let pause = Duration::from_millis(self.options.recheck_ms.max(1));
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.clock.sleep(pause) => {}
            }
        }
    }
}

/// What a call without a valid token is told.
pub fn log_in() -> Fault {
    Fault::Unauthenticated(
        "log in: expected the metadata \"authorization: Bearer TOKEN\" with a token that is valid"
            .to_owned(),
    )
}

//! Port: commands, each one transaction together with the record of its request.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{PasswordMark, WatchView};
use crate::model::{
    Change, Decimal, Email, Policy, PolicyKind, Price, Symbol, UserId, Watch, WatchId, WatchSpec,
    WatchSpecError,
};
use crate::pipeline::store::StoreError;

/// Who repeats which request: the key of at-most-once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestKey {
    /// The account (`user:17`), or the folded e-mail (`email:ann@example.com`).
    pub caller: String,
    /// The id that the caller gave the request.
    pub id: String,
}

/// A request that is to be carried out at most once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its key.
    pub key: RequestKey,
    /// The full name of the method.
    pub method: String,
    /// A keyed digest of method and payload: equal only for an equal request.
    pub fingerprint: [u8; 32],
}

/// A request as it was recorded with its effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The digest of the request that was carried out.
    pub fingerprint: [u8; 32],
    /// Its answer.
    pub reply: Reply,
    /// Whether it had been carried out before.
    pub again: bool,
    /// The watch that was changed, as the change left it, where the store knows that without being
    /// asked again. Not recorded.
    pub view: Option<WatchView>,
}

/// A threshold, or that there is none.
pub type Threshold = Option<Price>;

/// Changes of a policy; `None` leaves a part as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyPatch {
    /// Another policy.
    pub kind: Option<PolicyKind>,
    /// Another step, or the default one.
    pub step: Option<Option<Price>>,
    /// Another hysteresis, or the default one.
    pub hysteresis: Option<Option<Decimal>>,
}

impl PolicyPatch {
    /// The policy after this.
    pub fn apply(self, before: Policy) -> Policy {
        let (step, hysteresis) = before.parameters();
        let kind = self.kind.unwrap_or(before.kind());
        kind.with(self.step.unwrap_or(step), self.hysteresis.unwrap_or(hysteresis))
    }
}

impl From<Policy> for PolicyPatch {
    /// Replaces the whole policy.
    fn from(policy: Policy) -> Self {
        let (step, hysteresis) = policy.parameters();
        Self { kind: Some(policy.kind()), step: Some(step), hysteresis: Some(hysteresis) }
    }
}

/// Changes of a watch; `None` leaves a field as it is. Stores merge it with the watch as it is in
/// the command's transaction, so that concurrent changes of different fields all take effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchPatch {
    /// Another symbol.
    pub symbol: Option<Symbol>,
    /// Another low threshold, or none.
    pub low: Option<Threshold>,
    /// Another high threshold, or none.
    pub high: Option<Threshold>,
    /// Another policy, or another part of it.
    pub policy: PolicyPatch,
    /// Another cooldown, in seconds.
    pub cooldown_s: Option<u64>,
    /// Pause or resume.
    pub paused: Option<bool>,
}

impl WatchPatch {
    /// The watch after this, with the versions that follow from what changes; `None` if nothing
    /// does.
    pub fn apply(&self, old: &Watch) -> Result<Option<Watch>, WatchSpecError> {
        let spec = WatchSpec::new(
            self.symbol.unwrap_or(old.spec.symbol()),
            self.low.unwrap_or(old.spec.low()),
            self.high.unwrap_or(old.spec.high()),
            self.policy.apply(old.spec.policy()),
            self.cooldown_s.unwrap_or(old.spec.cooldown_s()),
        )?;
        let paused = self.paused.unwrap_or(old.paused);
        let change = old.spec.change_to(&spec);
        if change == Change::None && paused == old.paused {
            return Ok(None);
        }
        let version = old.version.next();
        let (fresh_since, cooldown_since) = match change {
            Change::None | Change::KeepsState => (old.fresh_since, old.cooldown_since),
            Change::EndsCooldown => (old.fresh_since, version),
            Change::StartsAfresh => (version, version),
        };
        Ok(Some(Watch { version, fresh_since, cooldown_since, paused, spec, ..*old }))
    }
}

/// Which watch of a user a command means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchRef {
    /// This one.
    Id(WatchId),
    /// The one with the smallest id, as the original's API has it.
    Oldest,
}

/// A command: one transaction, together with the record of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A new account, perhaps with a first watch.
    Register {
        /// Its address.
        email: Email,
        /// The password's argon2id hash in PHC form.
        password_hash: String,
        /// A watch to create with it.
        watch: Option<WatchSpec>,
    },
    /// Another password. Revokes the account's sessions but the one of `keep`.
    SetPassword {
        /// The account.
        user: UserId,
        /// The new hash.
        password_hash: String,
        /// The digest of the token that stays valid.
        keep: Option<[u8; 32]>,
    },
    /// Deletes the account, its sessions and its watches, and cancels what is undelivered.
    DeleteUser {
        /// The account.
        user: UserId,
    },
    /// A new watch.
    CreateWatch {
        /// Whose.
        user: UserId,
        /// What it asks for.
        spec: WatchSpec,
    },
    /// Changes a watch. Equal values change nothing and raise no version.
    ChangeWatch {
        /// Whose.
        user: UserId,
        /// Which.
        watch: WatchRef,
        /// What changes.
        patch: WatchPatch,
        /// Create this watch if the user has none (the original's `UpdateUser`).
        or_create: Option<WatchSpec>,
    },
    /// Deletes a watch, and cancels what is undelivered.
    DeleteWatch {
        /// Whose.
        user: UserId,
        /// Which.
        watch: WatchId,
    },
    /// Resets a symbol, as an operator.
    ResetSymbol {
        /// The symbol.
        symbol: Symbol,
    },
    /// Sends a dead delivery again: pending, due now, no attempts counted.
    RetryDelivery {
        /// The delivery's number.
        id: u64,
    },
    /// Takes a dead record away, because it was put back on its topic.
    RemoveDeadRecord {
        /// The record's number.
        id: u64,
    },
}

/// What a command did, as recorded: refusals are answers, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done; nothing more to say.
    Done,
    /// The account was created.
    Registered {
        /// Its id.
        user: u32,
        /// Which password it was given; versions before this field recorded none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        password: Option<PasswordMark>,
    },
    /// The watch was created or changed, and has this id now.
    Watch {
        /// Its id.
        id: u64,
    },
    /// Nothing was done.
    Refused(Refusal),
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The address has an account.
    #[error("an account with this e-mail address exists already")]
    EmailTaken,
    /// There is no such account (any more).
    #[error("there is no such account")]
    UnknownUser,
    /// The user has no such watch.
    #[error("you have no such watch")]
    UnknownWatch,
    /// The user has no watch at all.
    #[error("you have no watch yet: choose a ticker first")]
    NoWatch,
    /// The change would leave thresholds that exclude each other.
    #[error("{0}")]
    Thresholds(String),
    /// More watches than an account may have.
    #[error("an account has at most {0} watches")]
    TooManyWatches(u32),
    /// No such symbol was ever watched or priced.
    #[error("the symbol is not known")]
    UnknownSymbol,
    /// There is no such dead letter.
    #[error("there is no such dead letter")]
    UnknownDeadLetter,
    /// The request was well-formed and is against the rules; decided before the store was asked,
    /// and recorded so that a repetition gets the same answer.
    #[error("{0}")]
    Invalid(String),
}

impl From<WatchSpecError> for Refusal {
    fn from(error: WatchSpecError) -> Self {
        match error {
            WatchSpecError::Thresholds { .. } => Self::Thresholds(error.to_string()),
            _ => Self::Invalid(error.to_string()),
        }
    }
}

/// The commands' transactions.
#[async_trait]
pub trait CommandStore: Send + Sync + 'static {
    /// Carries a command out, at most once: if `request` is recorded already (in whatever
    /// process), nothing happens and the record is returned, whose fingerprint the caller
    /// compares. Otherwise effect and record commit together. Watch changes raise the version,
    /// record whether the state starts afresh, and are pending for the evaluator.
    async fn execute(
        &self,
        request: Option<&Request>,
        command: &Command,
    ) -> Result<Recorded, StoreError>;

    /// Records an answer that was decided without a transaction of its own; returns the one
    /// recorded first, as [`execute`](Self::execute) does.
    async fn record(&self, request: &Request, reply: &Reply) -> Result<Recorded, StoreError>;

    /// The record of a request, if it was carried out within the time that records are kept.
    async fn recorded(&self, key: &RequestKey) -> Result<Option<Recorded>, StoreError>;

    /// Creates users (who cannot log in) and watches, in one transaction, once per `content`
    /// digest: returns the number of watches created, or `None` when this content was loaded
    /// before. Watches get ids in the order given.
    async fn import(
        &self,
        content: [u8; 32],
        watches: &[(Email, WatchSpec)],
    ) -> Result<Option<u64>, StoreError>;
}

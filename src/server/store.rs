//! Ports: what the server needs of the store. Commands change, queries read; both APIs share them.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::{
    Alert, AlertId, Change, Condition, Currency, Decimal, Email, MarketState, Policy, PolicyKind,
    Price, Symbol, Timestamp, UserId, Watch, WatchId, WatchSpec, WatchSpecError, WatchState,
};
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

/// A price as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// The symbol.
    pub symbol: Symbol,
    /// Its instant.
    pub time: Timestamp,
    /// The price.
    pub price: Price,
    /// The currency pinned on the symbol.
    pub currency: Option<Currency>,
    /// The state of the market with this price, where it is known: of a newest price only.
    pub market: Option<MarketState>,
}

/// A watch with what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchView {
    /// The watch.
    pub watch: Watch,
    /// The state of its evaluation, carried to the watch's version.
    pub state: WatchState,
    /// The newest price of its symbol.
    pub last: Option<Quote>,
}

/// What became of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// On its way.
    Pending,
    /// Taken by the mail server.
    Delivered,
    /// Given up.
    Dead,
    /// Its watch or user was deleted first.
    Cancelled,
}

/// An alert with what became of it. `cursor` orders a user's alerts by when they were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertView {
    /// Its place in the listing.
    pub cursor: u64,
    /// The alert.
    pub alert: Alert,
    /// What became of it.
    pub delivery: DeliveryState,
}

/// The queries' reads.
#[async_trait]
pub trait QueryStore: Send + Sync + 'static {
    /// A page of a user's watches, by id, after `after`.
    async fn watches(
        &self,
        user: UserId,
        after: Option<WatchId>,
        limit: u32,
    ) -> Result<Vec<WatchView>, StoreError>;

    /// One watch of a user.
    async fn watch(&self, user: UserId, watch: WatchRef) -> Result<Option<WatchView>, StoreError> {
        let after = match watch {
            WatchRef::Oldest => None,
            WatchRef::Id(WatchId(0)) => return Ok(None),
            WatchRef::Id(WatchId(id)) => Some(WatchId(id - 1)),
        };
        let found = self.watches(user, after, 1).await?.pop();
        Ok(found.filter(|view| watch == WatchRef::Oldest || watch == WatchRef::Id(view.watch.id)))
    }

    /// The newest price of a symbol.
    async fn quote(&self, symbol: Symbol) -> Result<Option<Quote>, StoreError>;

    /// The newest `limit` prices kept of a symbol, newest first.
    async fn history(&self, symbol: Symbol, limit: u32) -> Result<Vec<Quote>, StoreError>;

    /// What the collector has noted of those of these symbols that have no price: why.
    async fn symbol_notes(&self, symbols: &[Symbol]) -> Result<Vec<(Symbol, String)>, StoreError>;

    /// A user's alerts, newest first, before `before`.
    async fn alerts(
        &self,
        user: UserId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<AlertView>, StoreError>;
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadLetter {
    /// A delivery that was given up.
    Delivery {
        /// Its number.
        id: u64,
        /// The alert.
        alert: Alert,
        /// Whom it was for.
        email: Email,
        /// Attempts judged.
        attempts: u32,
        /// What the mail server said last.
        reason: String,
        /// When it was given up.
        time: Timestamp,
    },
    /// A record that does not decode.
    Record {
        /// Its number.
        id: u64,
        /// The record.
        record: crate::pipeline::store::DeadRecord,
        /// When it was set aside.
        time: Timestamp,
    },
}

impl DeadLetter {
    /// Which one it is.
    pub fn id(&self) -> DeadLetterId {
        match self {
            Self::Delivery { id, .. } => DeadLetterId::Delivery(*id),
            Self::Record { id, .. } => DeadLetterId::Record(*id),
        }
    }
}

/// A page of dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetters {
    /// The letters, newest first.
    pub letters: Vec<DeadLetter>,
    /// The last of the page, where the next page goes on; `None` if there is none.
    pub next: Option<DeadLetterId>,
}

/// Which dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeadLetterId {
    /// A delivery: `delivery-17`.
    Delivery(u64),
    /// A record: `record-4`.
    Record(u64),
}

/// Counts for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Deliveries pending, claimed ones included.
    pub pending: u64,
    /// Dead deliveries.
    pub dead_deliveries: u64,
    /// Dead records.
    pub dead_records: u64,
}

/// What operators need, and upkeep.
#[async_trait]
pub trait OperatorStore: Send + Sync + 'static {
    /// A page of dead letters, newest first: deliveries and records merged by time, at most
    /// `limit` and of `bytes_max` bytes in all, but one at least. No others are read. `before` is
    /// the last of the page before; when it is no dead letter any more, the listing starts over:
    /// rather twice than never.
    async fn dead_letters(
        &self,
        before: Option<DeadLetterId>,
        limit: u32,
        bytes_max: u64,
    ) -> Result<DeadLetters, StoreError>;

    /// One dead letter.
    async fn dead_letter(&self, id: DeadLetterId) -> Result<Option<DeadLetter>, StoreError>;

    /// Counts for the metrics. Costs little, however much is stored.
    async fn backlog(&self) -> Result<Backlog, StoreError>;

    /// Deletes what has outlived its age, a bounded amount a call; returns whether there is more.
    async fn sweep(&self) -> Result<bool, StoreError>;

    /// The state of the alert of an id, for tests and tools.
    async fn delivery(&self, id: AlertId) -> Result<Option<DeliveryState>, StoreError>;
}

/// The condition last told, for a listing.
pub fn told(state: &WatchState) -> Option<Condition> {
    match state.told {
        crate::model::Told::Nothing => None,
        crate::model::Told::Told { condition, .. } => Some(condition),
    }
}

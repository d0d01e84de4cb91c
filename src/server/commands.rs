//! Commands: what changes something, at most once per request id.
//!
//! A command that has begun runs to its end, whatever becomes of its caller; callers with the
//! same request wait for it and share its answer. The request cache makes that quick; that
//! nothing happens twice is the store's, which records the answer together with the effect.

use std::future::Future;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::board::Board;
use super::cache::{Begin, RequestCache, Ticket};
use super::fault::Fault;
use super::login::Logins;
use super::password::Passwords;
use super::secret::SecretKey;
use super::sessions::{Sessions, TokenDigest};
use super::store::{
    AccountStore, Command, CommandStore, Recorded, Refusal, Reply, Request, RequestKey, Session,
};
use crate::metrics::Metrics;
use crate::model::{Email, WatchSpec};

/// What a request comes to once it is known to be the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// This is to be done.
    Execute(Box<Command>),
    /// Nothing is to be done, and this is the answer.
    Answer(Reply),
}

impl Work {
    /// A command, or the refusal that stands for it.
    pub fn of(command: Result<Command, Refusal>) -> Self {
        match command {
            Ok(command) => Self::Execute(Box::new(command)),
            Err(refusal) => Self::Answer(Reply::Refused(refusal)),
        }
    }
}

/// What commands need.
pub struct CommandPorts {
    /// Their transactions.
    pub store: Arc<dyn CommandStore>,
    /// Accounts, to spare a hash where an address is taken.
    pub accounts: Arc<dyn AccountStore>,
    /// Answers of requests.
    pub cache: Arc<dyn RequestCache>,
    /// The key of fingerprints.
    pub secret: SecretKey,
    /// Hashing.
    pub passwords: Passwords,
    /// Checking passwords.
    pub logins: Arc<Logins>,
    /// What a change of accounts voids.
    pub sessions: Arc<Sessions>,
    /// What a reset of a symbol voids.
    pub board: Arc<Board>,
    /// Where repetitions and conflicts are counted.
    pub metrics: Metrics,
}

/// The commands of both APIs.
#[derive(Clone)]
pub struct Commands {
    ports: Arc<CommandPorts>,
    running: TaskTracker,
    /// One for each command that runs, and for each caller that waits for one.
    places: Arc<Semaphore>,
}

impl Commands {
    /// Commands over some ports, of which `running_max` may run at the same time.
    pub fn new(ports: CommandPorts, running_max: usize) -> Self {
        let places = Arc::new(Semaphore::new(running_max.clamp(1, Semaphore::MAX_PERMITS)));
        Self { ports: Arc::new(ports), running: TaskTracker::new(), places }
    }

    /// A request to carry out at most once; `None` for one without an id.
    pub fn request(
        &self,
        key: Option<RequestKey>,
        method: &str,
        message: &impl Message,
    ) -> Option<Request> {
        let key = key?;
        let fingerprint = self.ports.secret.fingerprint(method, &message.encode_to_vec());
        Some(Request { key, method: method.to_owned(), fingerprint })
    }

    /// Carries a request out, or returns the answer of its first time. `work` checks who may
    /// act and what is asked, and is not polled for a repetition: that it is one the store is
    /// asked before.
    pub async fn run(
        &self,
        request: Option<Request>,
        work: impl Future<Output = Result<Work, Fault>> + Send + 'static,
    ) -> Result<Reply, Fault> {
        Ok(self.begin(request, true, work).await?.reply)
    }

    /// The same for work that costs nothing to know: the store finds a repetition when it records
    /// the request, which spares all others a question.
    pub async fn execute(&self, request: Option<Request>, work: Work) -> Result<Recorded, Fault> {
        self.begin(request, false, async { Ok(work) }).await
    }

    async fn begin(
        &self,
        request: Option<Request>,
        ask: bool,
        work: impl Future<Output = Result<Work, Fault>> + Send + 'static,
    ) -> Result<Recorded, Fault> {
        let place = self.place()?;
        let ticket = match &request {
            None => None,
            Some(asked) => match self.ports.cache.begin(&asked.key, asked.fingerprint).await {
                Begin::First(ticket) => Some(ticket),
                Begin::Answered { fingerprint, answer } => {
                    let reply = decode(&answer)?;
                    let recorded = Recorded { fingerprint, reply, again: true, view: None };
                    return self.answer(asked, recorded);
                }
                Begin::Differs => return Err(self.conflict()),
                Begin::Unavailable => None,
            },
        };
        // No await between the claim and the task: a caller that gives up leaves no claim behind.
        let commands = self.clone();
        let task = async move {
            let _place = place;
            commands.settle(request, ticket, ask, work).await
        };
        let task = self.running.spawn(task.in_current_span());
        task.await.unwrap_or_else(|error| Err(Fault::internal(&error)))
    }

    /// The answer of a request that was carried out before.
    pub async fn recorded(&self, request: &Request) -> Result<Option<Reply>, Fault> {
        match self.ports.store.recorded(&request.key).await? {
            Some(recorded) => Ok(Some(self.answer(request, recorded)?.reply)),
            None => Ok(None),
        }
    }

    /// Waits until every command that has begun has ended.
    pub async fn drain(&self) {
        self.running.close();
        self.running.wait().await;
    }

    /// Commands outlive their callers, so that the bound of calls is none of theirs.
    fn place(&self) -> Result<OwnedSemaphorePermit, Fault> {
        Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| Fault::Unavailable("too many commands are running: try again".to_owned()))
    }

    async fn settle(
        &self,
        request: Option<Request>,
        ticket: Option<Ticket>,
        ask: bool,
        work: impl Future<Output = Result<Work, Fault>> + Send,
    ) -> Result<Recorded, Fault> {
        let done =
            AssertUnwindSafe(self.carry_out(request.as_ref(), ask, work)).catch_unwind().await;
        let done = done.unwrap_or_else(|_| Err(Fault::internal(&"a command panicked")));
        let Some(ticket) = ticket else {
            let recorded = done?;
            return match &request {
                Some(request) => self.answer(request, recorded),
                None => Ok(recorded),
            };
        };
        match (done, &request) {
            (Ok(recorded), Some(request)) => {
                let answer = serde_json::to_vec(&recorded.reply);
                match answer {
                    Ok(answer) => {
                        self.ports.cache.finish(ticket, recorded.fingerprint, answer).await;
                    }
                    Err(_) => self.ports.cache.abandon(ticket).await,
                }
                self.answer(request, recorded)
            }
            (done, _) => {
                self.ports.cache.abandon(ticket).await;
                done
            }
        }
    }

    async fn carry_out(
        &self,
        request: Option<&Request>,
        ask: bool,
        work: impl Future<Output = Result<Work, Fault>> + Send,
    ) -> Result<Recorded, Fault> {
        let store = &self.ports.store;
        // Asked before the work, so that a repetition costs no hash and needs no login.
        if let Some(request) = request.filter(|_| ask)
            && let Some(recorded) = store.recorded(&request.key).await?
        {
            return Ok(recorded);
        }
        match (work.await?, request) {
            (Work::Execute(command), _) => {
                let done = store.execute(request, &command).await;
                // Also after a failure, which may have committed.
                self.after(&command);
                Ok(done?)
            }
            (Work::Answer(reply), Some(request)) => Ok(store.record(request, &reply).await?),
            (Work::Answer(reply), None) => {
                Ok(Recorded { fingerprint: [0; 32], reply, again: false, view: None })
            }
        }
    }

    fn after(&self, command: &Command) {
        match command {
            Command::SetPassword { .. } | Command::DeleteUser { .. } => self.ports.sessions.void(),
            Command::ResetSymbol { symbol } => self.ports.board.forget(*symbol),
            _ => {}
        }
    }

    /// What was recorded of a request, if it is the one that was carried out.
    fn answer(&self, request: &Request, recorded: Recorded) -> Result<Recorded, Fault> {
        if recorded.fingerprint != request.fingerprint {
            return Err(self.conflict());
        }
        if recorded.again {
            self.ports.metrics.request_repeats.inc();
        }
        Ok(recorded)
    }

    fn conflict(&self) -> Fault {
        self.ports.metrics.request_conflicts.inc();
        tracing::info!("a request id came again with another request");
        Fault::Conflict
    }

    /// Creates an account, perhaps with a first watch. Counts against the throttle of the peer,
    /// unless it is a repetition.
    pub async fn register(
        &self,
        request: Option<Request>,
        asked: Result<(Email, String, Option<WatchSpec>), Refusal>,
        peer: Option<IpAddr>,
    ) -> Result<Reply, Fault> {
        let ports = Arc::clone(&self.ports);
        self.run(request, async move {
            // Whatever comes of it: what is taken tells who has an account.
            ports.logins.registration(peer)?;
            let (email, password, watch) = match asked {
                Ok(asked) => asked,
                Err(refusal) => return Ok(Work::of(Err(refusal))),
            };
            // Spares the hash; the store decides, should another registration come first.
            if ports.accounts.account(&email).await?.is_some() {
                return Ok(Work::of(Err(Refusal::EmailTaken)));
            }
            let password_hash = ports.passwords.hash(password).await?;
            Ok(Work::of(Ok(Command::Register { email, password_hash, watch })))
        })
        .await
    }

    /// Sets another password, if the old one is right, and revokes the other sessions.
    pub async fn change_password(
        &self,
        request: Option<Request>,
        session: Arc<Session>,
        keep: TokenDigest,
        old: String,
        new: Result<String, Refusal>,
    ) -> Result<Reply, Fault> {
        let ports = Arc::clone(&self.ports);
        self.run(request, async move {
            let new = match new {
                Ok(new) => new,
                Err(refusal) => return Ok(Work::of(Err(refusal))),
            };
            ports.confirm("old_password", &session, &old).await?;
            let password_hash = ports.passwords.hash(new).await?;
            let user = session.user;
            Ok(Work::of(Ok(Command::SetPassword { user, password_hash, keep: Some(keep) })))
        })
        .await
    }

    /// Deletes an account, if the password is right.
    pub async fn delete_account(
        &self,
        request: Option<Request>,
        session: Arc<Session>,
        password: String,
    ) -> Result<Reply, Fault> {
        let ports = Arc::clone(&self.ports);
        self.run(request, async move {
            ports.confirm("password", &session, &password).await?;
            Ok(Work::of(Ok(Command::DeleteUser { user: session.user })))
        })
        .await
    }
}

impl CommandPorts {
    /// The password of a session's account is this one. A want of it is not recorded.
    async fn confirm(&self, field: &str, session: &Session, found: &str) -> Result<(), Fault> {
        match self.logins.verify(&session.email, found, None).await {
            // Not an account that took the address over since.
            Ok(account) if account.user == session.user => Ok(()),
            Ok(_) | Err(Fault::Unauthenticated(_)) => {
                Err(Fault::Denied(format!("{field}: expected the account's password")))
            }
            Err(fault) => Err(fault),
        }
    }
}

fn decode(answer: &[u8]) -> Result<Reply, Fault> {
    serde_json::from_slice(answer).map_err(|error| Fault::internal(&error))
}

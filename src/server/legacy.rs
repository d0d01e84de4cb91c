//! The API of the system that Tripline replaces: `usermanagement.UserService`.
//!
//! Its clients end a request at any status but DEADLINE_EXCEEDED and UNAVAILABLE, so that every
//! refusal is OK with `success = false` and a message, and what may work later is UNAVAILABLE.

pub(crate) mod answers;
mod conn;

use std::future::Future;
use std::sync::Arc;

use jiff::tz::TimeZone;
use serde::Deserialize;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Request, Response, Status, async_trait};

pub(super) use conn::Authorised;
use conn::Begun;

use self::answers::{Answer, details, read_email, read_symbol, read_threshold, refusal, say};
use super::Services;
use super::commands::Work;
use super::fault::Fault;
use super::incoming::{ConnInfo, peer};
use super::observe::Observed;
use super::password::check_password;
use super::queries::PRICES_MAX;
use super::store::{
    Account, Command, Refusal, Reply, RequestKey, Threshold, WatchPatch, WatchRef, WatchView,
};
use crate::model::{Email, Policy, PolicyKind, Symbol, UserId, WatchSpec};
use crate::proto::usermanagement::user_service_server::UserService;
use crate::proto::usermanagement::{
    AverageRequest, AverageResponse, DetailsResponse, HighThresholdRequest, LowThresholdRequest,
    StockValueResponse, UserIdentifier, UserLoginRequest, UserRegisterRequest, UserResponse,
    UserUpdateRequest,
};

/// The original's API.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LegacyOptions {
    /// Who may act on an account.
    pub authorisation: Authorisation,
    /// The time zone of time stamps, by its IANA name.
    pub time_zone: String,
}

impl Default for LegacyOptions {
    fn default() -> Self {
        Self { authorisation: Authorisation::default(), time_zone: "Europe/Rome".to_owned() }
    }
}

/// Who may act on an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Authorisation {
    /// Whoever registered it or logged in to it on the same connection.
    #[default]
    Connection,
    /// Anybody, as in the original: for a closed network.
    Open,
    /// Nobody: the service is not served. Right behind a proxy that shares connections.
    Off,
}

/// The service over the shared commands and queries.
#[derive(Clone)]
pub(super) struct Legacy {
    services: Arc<Services>,
    authorisation: Authorisation,
    time_zone: TimeZone,
}

impl Legacy {
    pub(super) fn new(
        services: Arc<Services>,
        authorisation: Authorisation,
        time_zone: TimeZone,
    ) -> Self {
        Self { services, authorisation, time_zone }
    }

    /// Counts and times a call, and turns its fault into an answer or a status.
    async fn observed<T: Answer>(
        &self,
        function: &'static str,
        call: impl Future<Output = Result<T, Fault>>,
    ) -> Result<Response<T>, Status> {
        let observed = Observed::begin(&self.services.metrics, function);
        let result = call.await;
        observed.end(result.is_ok());
        match result {
            Ok(answer) => Ok(Response::new(answer)),
            Err(fault @ (Fault::Unavailable(_) | Fault::Internal)) => {
                // At most once makes it safe to try again, also for what an operator must mend.
                Err(Status::unavailable(fault.to_string()))
            }
            Err(fault) => Ok(Response::new(T::refused(fault.to_string()))),
        }
    }

    /// The account of an address, if this connection may act on it.
    async fn account(&self, extensions: &Extensions, email: &Email) -> Result<UserId, Fault> {
        let account = self.services.accounts.account(email).await?;
        let connection = extensions.get::<ConnInfo>();
        let holds = |account: &Account| {
            connection.is_some_and(|connection| connection.authorised().holds(account))
        };
        let user = |account: Account| account.user;
        match self.authorisation {
            Authorisation::Open => account.map(user).ok_or(Fault::Refused(Refusal::UnknownUser)),
            // The same for an unknown address: a stranger learns nothing.
            _ => account.filter(holds).map(user).ok_or_else(|| {
                Fault::Unauthenticated(
                    "log in first: this connection is not authorised for this e-mail address"
                        .to_owned(),
                )
            }),
        }
    }

    /// The user's watch, which is the oldest.
    async fn watch(&self, extensions: &Extensions, email: &str) -> Result<WatchView, Fault> {
        let user = self.account(extensions, &read_email(email)?).await?;
        let view = self.services.queries.watch(user, WatchRef::Oldest).await?;
        Ok(view.ok_or(Refusal::NoWatch)?)
    }

    /// A command on an account by whoever may act on it.
    async fn command<M: prost::Message + 'static>(
        &self,
        method: &str,
        request: Request<M>,
        email: impl Fn(&M) -> &str,
        command: impl FnOnce(UserId, &M) -> Result<Command, Refusal> + Send + 'static,
    ) -> Result<UserResponse, Fault> {
        let key = key(request.metadata(), None)?;
        let (_, extensions, message) = request.into_parts();
        // Refused alike every time, so that nothing is recorded of it.
        let email = read_email(email(&message))?;
        let commands = &self.services.commands;
        let asked = commands.request(key, method, &message);
        let legacy = self.clone();
        let work = async move {
            let user = match legacy.account(&extensions, &email).await {
                Ok(user) => user,
                Err(Fault::Refused(refusal)) => return Ok(Work::of(Err(refusal))),
                Err(fault) => return Err(fault),
            };
            Ok(Work::of(command(user, &message)))
        };
        match commands.run(asked, work).await? {
            Reply::Refused(refusal) => Err(Fault::Refused(refusal)),
            _ => Ok(say("done")),
        }
    }
}

#[async_trait]
impl UserService for Legacy {
    async fn register_user(
        &self,
        request: Request<UserRegisterRequest>,
    ) -> Result<Response<UserResponse>, Status> {
        self.observed("RegisterUser", async {
            let _begun = begin(request.extensions())?;
            let email = read_email(&request.get_ref().email);
            let key = match &email {
                Ok(email) => key(request.metadata(), Some(email))?,
                // Nobody whose answer could be recorded.
                Err(_) => None,
            };
            let (_, extensions, message) = request.into_parts();
            let commands = &self.services.commands;
            let asked = commands.request(key, "/usermanagement.UserService/RegisterUser", &message);
            let account = email.and_then(|email| {
                check_password("password", &message.password).map_err(Refusal::Invalid)?;
                let watch = registered_watch(&message)?;
                Ok((email, message.password.clone(), Some(watch)))
            });
            let address = account.as_ref().ok().map(|(email, ..)| email.clone());
            let peer = peer(&extensions);
            match (commands.register(asked, account, peer).await?, address) {
                (Reply::Refused(refusal), _) => Err(Fault::Refused(refusal)),
                (Reply::Registered { user, password }, Some(email)) => {
                    // Not if the account was deleted or given another password since, should this
                    // be a repetition.
                    let same = |account: &Account| {
                        account.user == UserId(user) && account.password() == password
                    };
                    let account = self.services.accounts.account(&email).await?;
                    if let Some(account) = account.filter(same) {
                        authorise(&extensions, &account);
                    }
                    Ok(say("registered"))
                }
                _ => Ok(say("registered")),
            }
        })
        .await
    }

    async fn login_user(
        &self,
        request: Request<UserLoginRequest>,
    ) -> Result<Response<UserResponse>, Status> {
        self.observed("LoginUser", async {
            let _begun = begin(request.extensions())?;
            let (_, extensions, UserLoginRequest { email, password }) = request.into_parts();
            let peer = peer(&extensions);
            let login = async {
                let email = read_email(&email)?;
                self.services.logins.verify(&email, &password, peer).await
            };
            let login = login.await.inspect_err(|_: &Fault| self.services.metrics.login_failed());
            authorise(&extensions, &login?);
            Ok(say("logged in"))
        })
        .await
    }

    async fn update_user(
        &self,
        request: Request<UserUpdateRequest>,
    ) -> Result<Response<UserResponse>, Status> {
        let command = |user, message: &UserUpdateRequest| {
            let symbol = read_symbol("new_ticker", &message.new_ticker)?;
            let patch = WatchPatch { symbol: Some(symbol), ..WatchPatch::default() };
            let new = WatchSpec::new(symbol, None, None, step(), 0)
                .map_err(|error| refusal("new_ticker", &error))?;
            let watch = WatchRef::Oldest;
            Ok(Command::ChangeWatch { user, watch, patch, or_create: Some(new) })
        };
        let method = "/usermanagement.UserService/UpdateUser";
        let call = self.command(method, request, |message| &message.email, command);
        self.observed("UpdateUser", call).await
    }

    async fn delete_user(
        &self,
        request: Request<UserIdentifier>,
    ) -> Result<Response<UserResponse>, Status> {
        let command = |user, _: &UserIdentifier| Ok(Command::DeleteUser { user });
        let method = "/usermanagement.UserService/DeleteUser";
        let call = self.command(method, request, |message| &message.email, command);
        self.observed("DeleteUser", call).await
    }

    async fn update_high_value(
        &self,
        request: Request<HighThresholdRequest>,
    ) -> Result<Response<UserResponse>, Status> {
        let command = |user, message: &HighThresholdRequest| {
            let high = read_threshold("high_value", message.high_value)?;
            Ok(change(user, WatchPatch { high: Some(high), ..WatchPatch::default() }))
        };
        let method = "/usermanagement.UserService/UpdateHighValue";
        let call = self.command(method, request, |message| &message.email, command);
        self.observed("UpdateHighValue", call).await
    }

    async fn update_low_value(
        &self,
        request: Request<LowThresholdRequest>,
    ) -> Result<Response<UserResponse>, Status> {
        let command = |user, message: &LowThresholdRequest| {
            let low = read_threshold("low_value", message.low_value)?;
            Ok(change(user, WatchPatch { low: Some(low), ..WatchPatch::default() }))
        };
        let method = "/usermanagement.UserService/UpdateLowValue";
        let call = self.command(method, request, |message| &message.email, command);
        self.observed("UpdateLowValue", call).await
    }

    async fn get_latest_value(
        &self,
        request: Request<UserIdentifier>,
    ) -> Result<Response<StockValueResponse>, Status> {
        self.observed("GetLatestValue", async {
            let view = self.watch(request.extensions(), &request.get_ref().email).await?;
            let symbol = view.watch.spec.symbol();
            let quote = self.services.queries.quote(symbol).await?;
            let quote = quote.ok_or_else(|| no_price(symbol))?;
            answers::latest(&quote, &self.time_zone)
        })
        .await
    }

    async fn get_average_value(
        &self,
        request: Request<AverageRequest>,
    ) -> Result<Response<AverageResponse>, Status> {
        self.observed("GetAverageValue", async {
            let AverageRequest { email, num_values } = request.get_ref();
            let asked = u32::try_from(*num_values).ok().filter(|asked| *asked > 0);
            let asked = asked.ok_or_else(|| {
                Fault::invalid(format!("num_values: expected 1 or more, found {num_values}"))
            })?;
            let view = self.watch(request.extensions(), email).await?;
            let symbol = view.watch.spec.symbol();
            let average = self.services.queries.average(symbol, asked.min(PRICES_MAX)).await?;
            Ok(answers::average(symbol, average.ok_or_else(|| no_price(symbol))?, asked))
        })
        .await
    }

    async fn show_details(
        &self,
        request: Request<UserIdentifier>,
    ) -> Result<Response<DetailsResponse>, Status> {
        self.observed("ShowDetails", async {
            let view = self.watch(request.extensions(), &request.get_ref().email).await?;
            Ok(details(&view.watch.spec))
        })
        .await
    }
}

/// The original's repeat policy.
fn step() -> Policy {
    PolicyKind::Step.with(None, None)
}

fn change(user: UserId, patch: WatchPatch) -> Command {
    Command::ChangeWatch { user, watch: WatchRef::Oldest, patch, or_create: None }
}

fn no_price(symbol: Symbol) -> Fault {
    Fault::invalid(format!("there is no price of {symbol} yet"))
}

fn registered_watch(message: &UserRegisterRequest) -> Result<WatchSpec, Refusal> {
    let symbol = read_symbol("ticker", &message.ticker)?;
    let low: Threshold = read_threshold("low_value", message.low_value)?;
    let high: Threshold = read_threshold("high_value", message.high_value)?;
    WatchSpec::new(symbol, low, high, step(), 0)
        .map_err(|error| refusal("low_value and high_value", &error))
}

/// A login or a registration begins. A connection that is about to end takes none: its client
/// repeats it over the next one.
fn begin(extensions: &Extensions) -> Result<Option<Begun>, Fault> {
    let Some(connection) = extensions.get::<ConnInfo>() else { return Ok(None) };
    let begun = connection.authorised().begin();
    let ends = || Fault::Unavailable("this connection is about to end: try again".to_owned());
    begun.map(Some).ok_or_else(ends)
}

fn authorise(extensions: &Extensions, account: &Account) {
    if let Some(connection) = extensions.get::<ConnInfo>() {
        connection.authorised().add(account);
    }
}

/// The key of a request: `registers` is the address that a registration is for, which is its
/// caller; that of others is in the metadata.
fn key(metadata: &MetadataMap, registers: Option<&Email>) -> Result<Option<RequestKey>, Fault> {
    let Some(id) = text(metadata, "request_id", 128)? else { return Ok(None) };
    let caller = match registers {
        Some(email) => Some(email.folded().to_owned()),
        None => text(metadata, "user_id", 254)?.map(str::to_lowercase),
    };
    Ok(caller.map(|caller| RequestKey { caller: format!("email:{caller}"), id: id.to_owned() }))
}

fn text<'a>(
    metadata: &'a MetadataMap,
    name: &str,
    bytes_max: usize,
) -> Result<Option<&'a str>, Fault> {
    let Some(value) = metadata.get(name) else { return Ok(None) };
    match value.to_str() {
        Ok("") => Ok(None),
        Ok(text) if text.len() <= bytes_max => Ok(Some(text)),
        _ => Err(Fault::invalid(format!(
            "{name}: expected at most {bytes_max} bytes of printable ASCII, found others"
        ))),
    }
}

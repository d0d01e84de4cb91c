//! A server of canned answers: what a request asks for decides what it gets.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures::{Stream, StreamExt, stream};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use tripline::proto::v1::accounts_server::{Accounts, AccountsServer};
use tripline::proto::v1::alerts_server::{Alerts, AlertsServer};
use tripline::proto::v1::feed_server::{Feed, FeedServer};
use tripline::proto::v1::operator_server::{Operator, OperatorServer};
use tripline::proto::v1::quotes_server::{Quotes, QuotesServer};
use tripline::proto::v1::watches_server::{Watches, WatchesServer};
use tripline::proto::v1::*;

type Answer<T> = Result<Response<T>, Status>;
type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub const TOKEN: &str = "token-of-ann";
const TIME: &str = "2000-03-01T14:30:00Z";

/// What the server was asked, and how it goes on.
#[derive(Default)]
pub struct State {
    /// The calls, with what matters of them.
    pub calls: Vec<String>,
    /// The request ids of the calls that bore one.
    pub request_ids: Vec<String>,
    /// How many calls are still answered UNAVAILABLE.
    pub busy: u32,
    /// The alerts made so far, the newest first.
    pub alerts: Vec<Alert>,
    /// What each connection of `StreamAlerts` sends before it is lost; then they stay silent.
    pub streams: VecDeque<Vec<Alert>>,
}

#[derive(Clone, Default)]
pub struct Canned(pub Arc<Mutex<State>>);

impl Canned {
    pub async fn start() -> (Self, SocketAddr) {
        let canned = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = Server::builder()
            .add_service(AccountsServer::new(canned.clone()))
            .add_service(WatchesServer::new(canned.clone()))
            .add_service(QuotesServer::new(canned.clone()))
            .add_service(AlertsServer::new(canned.clone()))
            .add_service(FeedServer::new(canned.clone()))
            .add_service(OperatorServer::new(canned.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        (canned, addr)
    }

    pub fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn open<Q>(&self, request: &Request<Q>, call: String) -> Result<(), Status> {
        let mut state = self.state();
        state.calls.push(call);
        let id = request.metadata().get("request-id").and_then(|id| id.to_str().ok());
        state.request_ids.extend(id.map(str::to_owned));
        if state.busy > 0 {
            state.busy -= 1;
            return Err(Status::unavailable("stopping"));
        }
        Ok(())
    }

    /// Notes a call of someone who must be logged in.
    fn check<Q>(&self, request: &Request<Q>, call: String) -> Result<(), Status> {
        self.open(request, call)?;
        let token = request.metadata().get("authorization").and_then(|token| token.to_str().ok());
        if token != Some(&format!("Bearer {TOKEN}")) {
            return Err(Status::unauthenticated("expected a valid token, found another"));
        }
        Ok(())
    }
}

pub fn alert(number: u32) -> Alert {
    Alert {
        id: format!("7-1-{number}-above"),
        watch_id: 7,
        time: TIME.into(),
        symbol: "AAPL".into(),
        condition: "above".into(),
        price: format!("{number}.50"),
        threshold: "110".into(),
        delivery: DeliveryState::Delivered.into(),
    }
}

fn watch() -> Watch {
    let last = Quote {
        symbol: "AAPL".into(),
        time: TIME.into(),
        price: "118.50".into(),
        market: MarketState::Closed.into(),
        ..Quote::default()
    };
    Watch {
        id: 7,
        version: 2,
        symbol: "AAPL".into(),
        high: "120".into(),
        policy: Policy::Crossing.into(),
        status: WatchStatus::Armed.into(),
        last: Some(last),
        ..Watch::default()
    }
}

#[tonic::async_trait]
impl Accounts for Canned {
    async fn register(&self, request: Request<RegisterRequest>) -> Answer<RegisterResponse> {
        let RegisterRequest { email, password } = request.get_ref();
        self.open(&request, format!("register {email} {password}"))?;
        match email.contains('@') {
            true => Ok(Response::new(Default::default())),
            false => Err(Status::invalid_argument("email: expected an address, found \"ann\"")),
        }
    }

    async fn login(&self, request: Request<LoginRequest>) -> Answer<LoginResponse> {
        let LoginRequest { email, password } = request.get_ref();
        self.open(&request, format!("login {email} {password}"))?;
        if password == "wrong" {
            return Err(Status::unauthenticated("unknown email or wrong password"));
        }
        Ok(Response::new(LoginResponse { token: TOKEN.into(), expires: TIME.into() }))
    }

    async fn logout(&self, request: Request<LogoutRequest>) -> Answer<LogoutResponse> {
        self.check(&request, "logout".into())?;
        Ok(Response::new(Default::default()))
    }

    async fn change_password(
        &self,
        request: Request<ChangePasswordRequest>,
    ) -> Answer<ChangePasswordResponse> {
        let ChangePasswordRequest { old_password, new_password } = request.get_ref();
        self.check(&request, format!("password {old_password} {new_password}"))?;
        Ok(Response::new(Default::default()))
    }

    async fn delete_account(
        &self,
        request: Request<DeleteAccountRequest>,
    ) -> Answer<DeleteAccountResponse> {
        self.check(&request, format!("delete {}", request.get_ref().password))?;
        Ok(Response::new(Default::default()))
    }

    async fn who_am_i(&self, request: Request<WhoAmIRequest>) -> Answer<WhoAmIResponse> {
        self.check(&request, "whoami".into())?;
        let email = "ann@example.com".into();
        let role = Role::Operator.into();
        Ok(Response::new(WhoAmIResponse { email, role, expires: TIME.into() }))
    }
}

#[tonic::async_trait]
impl Watches for Canned {
    async fn create_watch(
        &self,
        request: Request<CreateWatchRequest>,
    ) -> Answer<CreateWatchResponse> {
        self.check(&request, format!("{:?}", request.get_ref()))?;
        let warnings = vec!["the source does not know the symbol \u{1b}[2J".into()];
        Ok(Response::new(CreateWatchResponse { watch: Some(watch()), warnings }))
    }

    async fn change_watch(
        &self,
        request: Request<ChangeWatchRequest>,
    ) -> Answer<ChangeWatchResponse> {
        self.check(&request, format!("{:?}", request.get_ref()))?;
        match request.get_ref().id {
            7 => Ok(Response::new(ChangeWatchResponse { watch: Some(watch()) })),
            id => Err(Status::not_found(format!("expected one of your watches, found {id}"))),
        }
    }

    async fn delete_watch(
        &self,
        request: Request<DeleteWatchRequest>,
    ) -> Answer<DeleteWatchResponse> {
        self.check(&request, format!("{:?}", request.get_ref()))?;
        Ok(Response::new(Default::default()))
    }

    async fn list_watches(
        &self,
        request: Request<ListWatchesRequest>,
    ) -> Answer<ListWatchesResponse> {
        let token = request.get_ref().page_token.clone();
        self.check(&request, format!("list {token:?}"))?;
        let next_page_token = if token.is_empty() { "2".into() } else { String::new() };
        Ok(Response::new(ListWatchesResponse { watches: vec![watch()], next_page_token }))
    }
}

#[tonic::async_trait]
impl Quotes for Canned {
    type StreamQuotesStream = Items<Quote>;

    async fn get_quote(&self, request: Request<GetQuoteRequest>) -> Answer<GetQuoteResponse> {
        let symbol = request.get_ref().symbol.clone();
        self.check(&request, format!("quote {symbol}"))?;
        match symbol.as_str() {
            "NONE" => Err(Status::not_found("expected a symbol with a price, found NONE")),
            "A B" => {
                Err(Status::invalid_argument("symbol: expected 1 to 32 of A-Z, found \"A B\""))
            }
            "DENIED" => Err(Status::permission_denied("expected an operator, found a user")),
            "MANY" => Err(Status::resource_exhausted("too many requests")),
            "BROKEN" => Err(Status::internal("")),
            _ => Ok(Response::new(GetQuoteResponse { quote: watch().last })),
        }
    }

    async fn get_average(&self, request: Request<GetAverageRequest>) -> Answer<GetAverageResponse> {
        let GetAverageRequest { symbol, count } = request.get_ref().clone();
        self.check(&request, format!("average {symbol} {count}"))?;
        Ok(Response::new(GetAverageResponse { symbol, average: "117.00000001".into(), count: 3 }))
    }

    async fn get_history(&self, request: Request<GetHistoryRequest>) -> Answer<GetHistoryResponse> {
        let GetHistoryRequest { symbol, count } = request.get_ref();
        self.check(&request, format!("history {symbol} {count}"))?;
        let quotes = vec![watch().last.unwrap(); *count as usize];
        Ok(Response::new(GetHistoryResponse { quotes }))
    }

    async fn stream_quotes(
        &self,
        _: Request<StreamQuotesRequest>,
    ) -> Answer<Self::StreamQuotesStream> {
        Err(Status::unimplemented("no client command asks for it"))
    }
}

#[tonic::async_trait]
impl Alerts for Canned {
    type StreamAlertsStream = Items<Alert>;

    async fn list_alerts(&self, request: Request<ListAlertsRequest>) -> Answer<ListAlertsResponse> {
        let ListAlertsRequest { page_size, page_token } = request.get_ref();
        self.check(&request, format!("alerts {page_size} {page_token:?}"))?;
        let from: usize = page_token.parse().unwrap_or(0);
        let all = self.state().alerts.clone();
        // Pages of at most two, so that there are some.
        let to = all.len().min(from + (*page_size as usize).min(2));
        let next_page_token = if to < all.len() { to.to_string() } else { String::new() };
        Ok(Response::new(ListAlertsResponse { alerts: all[from..to].to_vec(), next_page_token }))
    }

    async fn stream_alerts(
        &self,
        request: Request<StreamAlertsRequest>,
    ) -> Answer<Self::StreamAlertsStream> {
        self.check(&request, "follow".into())?;
        Ok(Response::new(match self.state().streams.pop_front() {
            Some(alerts) => {
                let lost = Err(Status::unavailable("gone"));
                stream::iter(alerts.into_iter().map(Ok).chain([lost])).boxed()
            }
            None => stream::pending().boxed(),
        }))
    }
}

#[tonic::async_trait]
impl Feed for Canned {
    type PushTicksStream = Items<PushTicksResponse>;

    async fn push_ticks(
        &self,
        request: Request<Streaming<PushTicksRequest>>,
    ) -> Answer<Self::PushTicksStream> {
        self.check(&request, "push".into())?;
        let canned = self.clone();
        Ok(Response::new(request.into_inner().map(move |batch| canned.take(&batch?.ticks)).boxed()))
    }
}

impl Canned {
    fn take(&self, ticks: &[TickInput]) -> Result<PushTicksResponse, Status> {
        let mut state = self.state();
        if state.busy > 0 {
            state.busy -= 1;
            return Err(Status::unavailable("stopping"));
        }
        state.calls.extend(ticks.iter().map(|tick| format!("{} {}", tick.symbol, tick.price)));
        let refused: Vec<_> = (0..)
            .zip(ticks)
            .filter(|(_, tick)| tick.symbol == "FUTURE")
            .map(|(index, _)| RefusedTick { index, reason: "it lies in the future".into() })
            .collect();
        let accepted = u32::try_from(ticks.len() - refused.len()).unwrap();
        Ok(PushTicksResponse { accepted, refused })
    }
}

#[tonic::async_trait]
impl Operator for Canned {
    async fn list_dead_letters(
        &self,
        request: Request<ListDeadLettersRequest>,
    ) -> Answer<ListDeadLettersResponse> {
        self.check(&request, "dead letters".into())?;
        let record = DeadLetter {
            id: "record-4".into(),
            kind: DeadLetterKind::Record.into(),
            time: TIME.into(),
            reason: "it does not decode".into(),
            topic: "ticks".into(),
            key: b"AAPL".into(),
            value: vec![0, 255],
            ..DeadLetter::default()
        };
        let delivery = DeadLetter {
            id: "delivery-17".into(),
            kind: DeadLetterKind::Delivery.into(),
            time: TIME.into(),
            reason: "550 no such user".into(),
            alert: Some(alert(118)),
            email: "ann@example.com".into(),
            attempts: 5,
            ..DeadLetter::default()
        };
        let dead_letters = vec![delivery, record];
        Ok(Response::new(ListDeadLettersResponse { dead_letters, ..Default::default() }))
    }

    async fn get_dead_letter(
        &self,
        request: Request<GetDeadLetterRequest>,
    ) -> Answer<GetDeadLetterResponse> {
        self.check(&request, "dead letter".into())?;
        Err(Status::not_found("expected a dead letter, found none"))
    }

    async fn retry_dead_letter(
        &self,
        request: Request<RetryDeadLetterRequest>,
    ) -> Answer<RetryDeadLetterResponse> {
        self.check(&request, format!("retry {}", request.get_ref().id))?;
        Ok(Response::new(Default::default()))
    }

    async fn reset_symbol(
        &self,
        request: Request<ResetSymbolRequest>,
    ) -> Answer<ResetSymbolResponse> {
        self.check(&request, format!("reset {}", request.get_ref().symbol))?;
        Ok(Response::new(Default::default()))
    }
}

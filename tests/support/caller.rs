//! A caller that repeats what got no answer, under the same request id, until it has one.
// Each test that shares this file uses a part of it.
#![allow(dead_code)]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures::stream;
use tokio::sync::watch;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Response, Status};
use tripline::model::Tick;
use tripline::proto::v1::accounts_client::AccountsClient;
use tripline::proto::v1::feed_client::FeedClient;
use tripline::proto::v1::{LoginRequest, PushTicksRequest, TickInput};

use crate::process::PATIENCE;

/// Everybody's password.
pub(crate) const PASSWORD: &str = "correct horse";

/// How long a call waits for an answer before it is repeated elsewhere.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

pub(crate) struct Caller {
    pub(crate) email: String,
    /// Where servers are at present; each call and each repetition goes to the next one.
    servers: watch::Receiver<Vec<SocketAddr>>,
    /// Counts the answers of everybody.
    answered: watch::Sender<u64>,
    /// How they are reached, if over TLS.
    tls: Option<ClientTlsConfig>,
    channels: HashMap<SocketAddr, Channel>,
    turn: usize,
    /// Calls that were repeated.
    pub(crate) retries: u64,
    token: Option<String>,
    requests: u64,
}

impl Caller {
    pub(crate) fn new(
        email: &str,
        servers: watch::Receiver<Vec<SocketAddr>>,
        answered: watch::Sender<u64>,
    ) -> Self {
        Self {
            email: email.to_owned(),
            servers,
            answered,
            tls: None,
            channels: HashMap::new(),
            turn: 0,
            retries: 0,
            token: None,
            requests: 0,
        }
    }

    /// The same over TLS, if at all.
    pub(crate) fn over(self, tls: Option<ClientTlsConfig>) -> Self {
        Self { tls, ..self }
    }

    pub(crate) async fn log_in(&mut self) {
        let login = LoginRequest { email: self.email.clone(), password: PASSWORD.to_owned() };
        let answer = self.call(login, async |channel, request| {
            AccountsClient::new(channel).login(request).await
        });
        self.token = Some(answer.await.token);
    }

    /// Pushes a batch, until it is accepted as a whole.
    pub(crate) async fn push(&mut self, ticks: &[Tick]) {
        let input = |tick: &Tick| TickInput {
            symbol: tick.symbol.to_string(),
            time: tick.time.to_string(),
            price: tick.price.to_string(),
            currency: String::new(),
        };
        let batch = PushTicksRequest { ticks: ticks.iter().map(input).collect() };
        let answer = self.call(batch, async |channel, request: Request<_>| {
            let request = request.map(|batch| stream::iter([batch]));
            let mut answers = FeedClient::new(channel).push_ticks(request).await?.into_inner();
            match answers.message().await? {
                Some(answer) => Ok(Response::new(answer)),
                None => Err(Status::unavailable("the stream ended without an answer")),
            }
        });
        let answer = answer.await;
        assert_eq!((answer.accepted as usize, answer.refused.len()), (ticks.len(), 0));
    }

    /// Calls until there is an answer, which must be one of success.
    pub(crate) async fn call<Asked: Clone, Answer>(
        &mut self,
        message: Asked,
        rpc: impl AsyncFn(Channel, Request<Asked>) -> Result<Response<Answer>, Status>,
    ) -> Answer {
        self.requests += 1;
        let (email, id) = (self.email.clone(), format!("{}-{}", self.email, self.requests));
        let attempts = async {
            let mut pause = tokio::time::interval(Duration::from_millis(20));
            loop {
                pause.tick().await;
                let mut request = Request::new(message.clone());
                request.metadata_mut().insert("request-id", id.parse().unwrap());
                if let Some(token) = &self.token {
                    let bearer = format!("Bearer {token}").parse().unwrap();
                    request.metadata_mut().insert("authorization", bearer);
                }
                let Some((server, channel)) = self.connect().await else { continue };
                let answer = tokio::time::timeout(ANSWER_WITHIN, rpc(channel, request)).await;
                let answer =
                    answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("it is silent")));
                match answer {
                    Ok(answer) => return answer.into_inner(),
                    Err(status) if is_no_answer(&status) => {
                        self.retries += 1;
                        self.channels.remove(&server);
                    }
                    Err(status) => panic!("{id}: {status}"),
                }
            }
        };
        let answer = tokio::time::timeout(3 * PATIENCE, attempts).await;
        let answer = answer.unwrap_or_else(|_| panic!("{email} never got an answer"));
        self.answered.send_modify(|count| *count += 1);
        answer
    }

    async fn connect(&mut self) -> Option<(SocketAddr, Channel)> {
        let servers = self.servers.wait_for(|servers| !servers.is_empty()).await.unwrap().clone();
        self.turn += 1;
        let server = servers[self.turn % servers.len()];
        if let Some(channel) = self.channels.get(&server) {
            return Some((server, channel.clone()));
        }
        let mut endpoint = Endpoint::from_shared(format!("http://{server}")).unwrap();
        if let Some(tls) = &self.tls {
            endpoint = Endpoint::from_shared(format!("https://{server}")).unwrap();
            endpoint = endpoint.tls_config(tls.clone()).unwrap();
        }
        let channel = endpoint.connect_timeout(ANSWER_WITHIN).connect().await.ok()?;
        self.channels.insert(server, channel.clone());
        Some((server, channel))
    }
}

/// Whether nobody knows what became of the call.
fn is_no_answer(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::Unknown
            | Code::Cancelled
            | Code::Internal
            | Code::DeadlineExceeded
    )
}

//! A caller that repeats what got no answer, under the same request id, until it has one.

use std::net::SocketAddr;
use std::time::Duration;

use futures::stream;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use tripline::model::Tick;
use tripline::proto::v1::accounts_client::AccountsClient;
use tripline::proto::v1::feed_client::FeedClient;
use tripline::proto::v1::{LoginRequest, PushTicksRequest, TickInput};

use crate::process::PATIENCE;

/// Everybody's password.
pub(crate) const PASSWORD: &str = "correct horse";

pub(crate) struct Caller {
    pub(crate) email: String,
    server: watch::Receiver<Option<SocketAddr>>,
    /// Counts the answers of everybody.
    answered: watch::Sender<u64>,
    channel: Option<(SocketAddr, Channel)>,
    token: Option<String>,
    requests: u64,
}

impl Caller {
    pub(crate) fn new(
        email: &str,
        server: watch::Receiver<Option<SocketAddr>>,
        answered: watch::Sender<u64>,
    ) -> Self {
        Self { email: email.to_owned(), server, answered, channel: None, token: None, requests: 0 }
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
                let Some(channel) = self.connect().await else { continue };
                match rpc(channel, request).await {
                    Ok(answer) => return answer.into_inner(),
                    Err(status) if is_no_answer(&status) => self.channel = None,
                    Err(status) => panic!("{id}: {status}"),
                }
            }
        };
        let answer = tokio::time::timeout(PATIENCE, attempts).await;
        let answer = answer.unwrap_or_else(|_| panic!("{email} never got an answer"));
        self.answered.send_modify(|count| *count += 1);
        answer
    }

    async fn connect(&mut self) -> Option<Channel> {
        let server = (*self.server.wait_for(Option::is_some).await.unwrap())?;
        if let Some((known, channel)) = &self.channel
            && *known == server
        {
            return Some(channel.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{server}")).unwrap();
        let channel = endpoint.connect().await.ok()?;
        self.channel = Some((server, channel.clone()));
        Some(channel)
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

//! The API `tripline.v1`: one file per gRPC service.

mod accounts;
mod alerts;
mod auth;
mod feed;
pub(crate) mod fields;
mod operator;
mod quotes;
mod status;
pub(crate) mod views;
mod watches;

use std::future::Future;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use tonic::codegen::BoxStream;
use tonic::service::RoutesBuilder;
use tonic::{Response, Status};

use self::auth::Caller;
use super::fault::Fault;
use super::observe::Observed;
use super::{SMALL_BYTES_MAX, Services};
use crate::proto::v1;

/// All services of the API over the shared commands and queries.
#[derive(Clone)]
pub(super) struct Api {
    services: Arc<Services>,
}

impl Api {
    pub(super) fn new(services: Arc<Services>) -> Self {
        Self { services }
    }

    /// Adds every service, taking messages of at most `bytes_max`: only ticks come in messages
    /// so large, those of the others are small.
    pub(super) fn add_to(&self, routes: &mut RoutesBuilder, bytes_max: usize) {
        let feed = v1::feed_server::FeedServer::new(self.clone());
        routes.add_service(feed.max_decoding_message_size(bytes_max));
        let bytes_max = bytes_max.min(SMALL_BYTES_MAX);
        macro_rules! add {
            ($($server:path),+ $(,)?) => {$(
                routes.add_service(
                    <$server>::new(self.clone()).max_decoding_message_size(bytes_max),
                );
            )+};
        }
        add!(
            v1::accounts_server::AccountsServer<Api>,
            v1::watches_server::WatchesServer<Api>,
            v1::quotes_server::QuotesServer<Api>,
            v1::alerts_server::AlertsServer<Api>,
            v1::operator_server::OperatorServer<Api>,
        );
    }

    /// Counts and times a call, and turns its fault into a status.
    async fn observed<T>(
        &self,
        function: &'static str,
        call: impl Future<Output = Result<T, Fault>>,
    ) -> Result<Response<T>, Status> {
        let observed = Observed::begin(&self.services.metrics, function);
        let result = call.await;
        observed.end(result.is_ok());
        Ok(Response::new(result?))
    }

    /// A stream that ends when the session that opened it does, its connection, or the server.
    fn while_valid<T: Send + 'static>(
        &self,
        caller: Caller,
        items: impl Stream<Item = Result<T, Fault>> + Send + 'static,
    ) -> BoxStream<T> {
        let services = Arc::clone(&self.services);
        let ended = Box::pin(async move {
            tokio::select! {
                fault = services.sessions.ended(caller.token) => fault,
                () = services.shutdown.cancelled() => {
                    Fault::Unavailable("the server is shutting down".to_owned())
                }
                () = caller.ending.cancelled() => {
                    Fault::Unavailable("the connection has reached its age: open another".to_owned())
                }
            }
        });
        let open = Some((Box::pin(items), ended));
        Box::pin(futures::stream::unfold(open, |open| async {
            let (mut items, mut ended) = open?;
            let item = tokio::select! {
                biased;
                fault = &mut ended => Err(fault),
                item = items.next() => item?,
            };
            let open = item.is_ok().then_some((items, ended));
            Some((item.map_err(Status::from), open))
        }))
    }
}

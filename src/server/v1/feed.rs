//! `tripline.v1.Feed`: ticks from callers, accepted through the door.

use futures::Stream;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::auth::{log_in, require};
use super::{Api, fields};
use crate::metrics::Reason;
use crate::pipeline::broker::HeaderName;
use crate::proto::v1::feed_server::Feed;
use crate::proto::v1::{PushTicksRequest, PushTicksResponse, RefusedTick};
use crate::server::fault::Fault;
use crate::server::sessions::TokenDigest;
use crate::server::store::Role;
use crate::trace::TraceParent;

const BATCH_MAX: usize = 10_000;
const FEEDERS: &[Role] = &[Role::Feeder, Role::Operator];

#[async_trait]
impl Feed for Api {
    type PushTicksStream = BoxStream<PushTicksResponse>;

    async fn push_ticks(
        &self,
        request: Request<Streaming<PushTicksRequest>>,
    ) -> Result<Response<Self::PushTicksStream>, Status> {
        self.observed("PushTicks", async {
            let before = request.metadata().get(&*HeaderName::TRACEPARENT);
            let before = before.and_then(|header| TraceParent::parse(header.as_bytes()));
            let (caller, batches) = self.open(request).await?;
            require(&caller.session, FEEDERS)?;
            let answers = self.clone().accept_all(caller.token, batches, before);
            Ok(self.while_valid(caller, answers))
        })
        .await
    }
}

impl Api {
    /// Answers batch by batch. The next one is taken when this one is durable, which is the
    /// caller's back-pressure. Every batch follows the span that the caller names, if it does.
    fn accept_all(
        self,
        token: TokenDigest,
        batches: Streaming<PushTicksRequest>,
        before: Option<TraceParent>,
    ) -> impl Stream<Item = Result<PushTicksResponse, Fault>> {
        futures::stream::unfold((self, batches), move |(api, mut batches)| async move {
            let answer = match batches.message().await {
                Ok(Some(batch)) => api.accept_of(token, batch, before).await,
                Ok(None) => return None,
                // The caller is gone, or sends what is no message.
                Err(status) => Err(Fault::invalid(status.message())),
            };
            Some((answer, (api, batches)))
        })
    }

    /// Accepts a batch, if the account may still feed: a stream outlives its role.
    async fn accept_of(
        &self,
        token: TokenDigest,
        batch: PushTicksRequest,
        before: Option<TraceParent>,
    ) -> Result<PushTicksResponse, Fault> {
        let session = self.services.sessions.find(token).await?.ok_or_else(log_in)?;
        require(&session, FEEDERS)?;
        self.accept(batch, before).await
    }

    async fn accept(
        &self,
        batch: PushTicksRequest,
        before: Option<TraceParent>,
    ) -> Result<PushTicksResponse, Fault> {
        let found = batch.ticks.len();
        if found > BATCH_MAX {
            return Err(Fault::invalid(format!(
                "ticks: expected at most {BATCH_MAX} in a batch, found {found}"
            )));
        }
        let mut refused = Vec::new();
        let (mut places, mut ticks) = (Vec::with_capacity(found), Vec::with_capacity(found));
        for (index, input) in (0u32..).zip(&batch.ticks) {
            match fields::tick(input) {
                Ok(tick) => {
                    places.push(index);
                    ticks.push(tick);
                }
                Err((reason, text)) => {
                    self.services.metrics.ticks_refused.get_or_create(&Reason { reason }).inc();
                    refused.push(RefusedTick { index, reason: text });
                }
            }
        }
        let judged = match ticks.is_empty() {
            true => Vec::new(),
            false => self.services.door.accept(ticks, before).await?,
        };
        for (index, reason) in places.iter().zip(judged) {
            refused.extend(reason.map(|reason| RefusedTick { index: *index, reason }));
        }
        refused.sort_unstable_by_key(|refused| refused.index);
        let accepted = u32::try_from(found - refused.len()).unwrap_or(u32::MAX);
        Ok(PushTicksResponse { accepted, refused })
    }
}

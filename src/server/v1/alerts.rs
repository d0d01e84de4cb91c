//! `tripline.v1.Alerts`.

use futures::StreamExt;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, async_trait};

use super::{Api, fields, views};
use crate::proto::v1::alerts_server::Alerts;
use crate::proto::v1::{Alert, ListAlertsRequest, ListAlertsResponse, StreamAlertsRequest};
use crate::server::store::DeliveryState;

#[async_trait]
impl Alerts for Api {
    async fn list_alerts(
        &self,
        request: Request<ListAlertsRequest>,
    ) -> Result<Response<ListAlertsResponse>, Status> {
        self.observed("ListAlerts", async {
            let (caller, message) = self.open(request).await?;
            let limit = fields::page_size(message.page_size)?;
            let before = fields::page_token(&message.page_token)?;
            let queries = &self.services.queries;
            // One more than a page says whether there is another page.
            let mut views = queries.alerts(caller.session.user, before, limit + 1).await?;
            let more = views.len() > limit as usize;
            views.truncate(limit as usize);
            let last = views.last().filter(|_| more).map(|view| view.cursor.to_string());
            Ok(ListAlertsResponse {
                alerts: views.iter().map(views::alert_view).collect(),
                next_page_token: last.unwrap_or_default(),
            })
        })
        .await
    }

    type StreamAlertsStream = BoxStream<Alert>;

    async fn stream_alerts(
        &self,
        request: Request<StreamAlertsRequest>,
    ) -> Result<Response<Self::StreamAlertsStream>, Status> {
        self.observed("StreamAlerts", async {
            let (caller, _) = self.open(request).await?;
            let stream = self.services.board.stream_alerts(caller.session.user)?;
            let stream =
                stream.map(|alert| alert.map(|alert| views::alert(&alert, DeliveryState::Pending)));
            Ok(self.while_valid(caller, stream))
        })
        .await
    }
}

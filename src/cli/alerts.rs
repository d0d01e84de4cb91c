//! `tripline alerts`: those made so far, and those to come.

use std::collections::{HashSet, VecDeque};

use clap::Args;
use serde::Serialize;
use tonic::{Code, Status};

use super::client::{Client, ClientArgs, RETRIES_MAX, pause};
use super::failure::{Failure, is_transient, note};
use super::output::{Cell, Output, Row, Tone, printable};
use crate::proto::v1::alerts_client::AlertsClient;
use crate::proto::v1::{Alert, DeliveryState, ListAlertsRequest, StreamAlertsRequest};

/// The largest page that servers give.
const PAGE_SIZE_MAX: u32 = 1_000;
/// Alerts listed without being asked how many.
const LIMIT: u32 = 100;
/// Alerts that are looked through after a pause for those that were missed.
const MISSED_MAX: u32 = 10_000;
/// Alerts remembered as printed already.
const SEEN_MAX: usize = 20_000;

/// Lists your alerts, the newest first, or prints them as they come.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  $ tripline alerts --limit 10
  $ tripline alerts --follow
  2000-03-01T14:30:00Z AAPL above 110 at 118.56 (watch 7)

--follow goes on after a lost connection, catches up on what it missed, and ends on Ctrl-C.")]
pub(super) struct Alerts {
    /// Print alerts as they come; none from before, unless --limit says how many.
    #[arg(long, short)]
    follow: bool,
    /// How many alerts to list at most [default: 100, or 0 with --follow].
    #[arg(long, short = 'n', value_name = "N")]
    limit: Option<u32>,
}

/// An alert as JSON and as a row.
#[derive(Serialize)]
pub(super) struct AlertRow<'a> {
    id: &'a str,
    time: &'a str,
    symbol: &'a str,
    condition: &'a str,
    price: &'a str,
    threshold: &'a str,
    watch_id: u64,
    delivery: &'static str,
}

impl<'a> AlertRow<'a> {
    pub(super) fn new(alert: &'a Alert) -> Self {
        let delivery = match alert.delivery() {
            DeliveryState::Pending => "pending",
            DeliveryState::Delivered => "delivered",
            DeliveryState::Dead => "dead",
            DeliveryState::Cancelled => "cancelled",
            DeliveryState::Unspecified => "unknown",
        };
        let Alert { id, watch_id, time, symbol, condition, price, threshold, .. } = alert;
        Self { id, time, symbol, condition, price, threshold, watch_id: *watch_id, delivery }
    }

    pub(super) const fn symbol(&self) -> &'a str {
        self.symbol
    }

    pub(super) fn sentence(&self) -> String {
        let Self { time, symbol, condition, threshold, price, watch_id, .. } = self;
        format!("{time} {symbol} {condition} {threshold} at {price} (watch {watch_id})")
    }
}

impl Row for AlertRow<'_> {
    const COLUMNS: &'static [&'static str] =
        &["TIME", "SYMBOL", "CONDITION", "THRESHOLD", "PRICE", "WATCH", "DELIVERY"];

    fn cells(&self) -> Vec<Cell> {
        let tone = match self.delivery {
            "delivered" => Tone::Good,
            "pending" => Tone::Warning,
            "dead" => Tone::Bad,
            _ => Tone::Quiet,
        };
        vec![
            Cell::text(self.time),
            Cell::text(self.symbol),
            Cell::text(self.condition),
            Cell::number(self.threshold),
            Cell::number(self.price),
            Cell::number(&self.watch_id.to_string()),
            Cell::text(self.delivery).tone(tone),
        ]
    }
}

impl Alerts {
    pub(super) async fn run(self, args: &ClientArgs) -> Result<(), Failure> {
        let client = Client::new(args)?;
        let output = Output::new(args.json);
        if self.follow {
            let limit = self.limit.unwrap_or(0);
            let mut follower = Follower { client, output, seen: Seen::default() };
            return tokio::select! {
                ended = follower.follow(limit) => ended,
                // Being told to stop is how this ends well.
                _ = tokio::signal::ctrl_c() => Ok(()),
            };
        }
        let alerts = list(&client, self.limit.unwrap_or(LIMIT), |_| false).await;
        let alerts = alerts.map_err(|status| client.failure(&status))?;
        let rows: Vec<_> = alerts.iter().map(AlertRow::new).collect();
        output.rows(&rows, "no alerts yet")
    }
}

/// The newest alerts, newest first, until there are `limit` or `is_last` holds for one.
async fn list(
    client: &Client,
    limit: u32,
    is_last: impl Fn(&Alert) -> bool,
) -> Result<Vec<Alert>, Status> {
    let (mut alerts, mut page_token) = (Vec::new(), String::new());
    loop {
        let rest = limit.saturating_sub(u32::try_from(alerts.len()).unwrap_or(u32::MAX));
        if rest == 0 {
            return Ok(alerts);
        }
        let request = ListAlertsRequest { page_size: rest.min(PAGE_SIZE_MAX), page_token };
        let send =
            |channel, request| async { AlertsClient::new(channel).list_alerts(request).await };
        let page = client.try_call(request, send).await?;
        for alert in page.alerts.into_iter().take(rest as usize) {
            if is_last(&alert) {
                return Ok(alerts);
            }
            alerts.push(alert);
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(alerts);
        }
    }
}

/// Prints each alert once, over as many connections as it takes.
struct Follower {
    client: Client,
    output: Output,
    seen: Seen,
}

/// How a stream ended.
enum Ended {
    Lost(Status),
    Failed(Failure),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Status> for Ended {
    fn from(status: Status) -> Self {
        Self::Lost(status)
    }
}

impl Follower {
    async fn follow(&mut self, limit: u32) -> Result<(), Failure> {
        let mut limit = Some(limit);
        let mut attempt = 0;
        loop {
            let status = match self.stream(&mut limit, &mut attempt).await {
                Ended::Lost(status) => status,
                Ended::Failed(failure) => return Err(failure),
            };
            // A reader that was too slow may connect again at once.
            let goes_on = is_transient(&status) || status.code() == Code::ResourceExhausted;
            // A server that never answered is not waited for.
            let is_hopeless = limit.is_some() && attempt >= RETRIES_MAX;
            if !goes_on || is_hopeless {
                return Err(self.client.failure(&status));
            }
            if attempt == 0 && limit.is_none() {
                let why = printable(status.message());
                note(&format!("warning: lost the stream ({why}); connecting again"));
            }
            pause(attempt).await;
            attempt += 1;
        }
    }

    /// One connection. Takes the `limit` away once the alerts before it are printed.
    async fn stream(&mut self, limit: &mut Option<u32>, attempt: &mut u32) -> Ended {
        match self.try_stream(limit, attempt).await {
            Ok(()) => Ended::Lost(Status::unavailable("the server ended it")),
            Err(ended) => ended,
        }
    }

    async fn try_stream(
        &mut self,
        limit: &mut Option<u32>,
        attempt: &mut u32,
    ) -> Result<(), Ended> {
        let mut alerts = AlertsClient::new(self.client.channel())
            .stream_alerts(self.client.request(StreamAlertsRequest {}))
            .await?
            .into_inner();
        // The stream is open, so that what is not listed now comes with it.
        let earlier = match *limit {
            // The newest one marks where to stop looking after a pause.
            Some(0) => {
                let newest = list(&self.client, 1, |_| false).await?;
                newest.into_iter().for_each(|alert| self.seen.insert(alert.id));
                Vec::new()
            }
            Some(limit) => list(&self.client, limit, |_| false).await?,
            None => list(&self.client, MISSED_MAX, |alert| self.seen.contains(&alert.id)).await?,
        };
        *limit = None;
        *attempt = 0;
        for alert in earlier.into_iter().rev() {
            self.print(alert)?;
        }
        while let Some(alert) = alerts.message().await? {
            self.print(alert)?;
        }
        Ok(())
    }

    fn print(&mut self, alert: Alert) -> Result<(), Failure> {
        let row = AlertRow::new(&alert);
        if self.seen.contains(row.id) {
            return Ok(());
        }
        self.output.say(&row, &row.sentence())?;
        self.seen.insert(alert.id);
        Ok(())
    }
}

/// The newest alerts printed: an alert comes at least once.
#[derive(Default)]
struct Seen {
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl Seen {
    fn contains(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    fn insert(&mut self, id: String) {
        if self.ids.insert(id.clone()) {
            self.order.push_back(id);
        }
        if self.order.len() > SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

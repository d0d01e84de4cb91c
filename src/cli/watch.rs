//! `tripline watch`: the thresholds that a user is told of.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::client::{Client, ClientArgs};
use super::failure::{Failure, note};
use super::output::{Output, printable};
use super::watch_row::WatchRow;
use crate::adapters::clock::SystemClock;
use crate::model::PolicyKind;
use crate::pipeline::clock::Clock;
use crate::proto::v1::watches_client::WatchesClient;
use crate::proto::v1::{
    ChangeWatchRequest, CreateWatchRequest, DeleteWatchRequest, ListWatchesRequest, Policy, Watch,
};

const PAGE_SIZE: u32 = 1_000;
const POLICIES: [&str; 3] =
    [PolicyKind::Crossing.as_str(), PolicyKind::Step.as_str(), PolicyKind::Once.as_str()];

const EXAMPLE: &str = "\
Example:
  $ tripline watch add AAPL --low 90 --high 120
  $ tripline watch list
  $ tripline watch set 7 --high 125 --no-low
  $ tripline watch pause 7
  $ tripline watch rm 7";

/// Adds, lists, changes and removes watches.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(super) struct WatchCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Add(Add),
    List(List),
    Set(Set),
    /// Tells nothing of a watch until it is resumed.
    #[command(after_help = "Example:\n  $ tripline watch pause 7")]
    Pause(OfWatch),
    /// Tells of a paused watch again; what was told before stays told.
    #[command(after_help = "Example:\n  $ tripline watch resume 7")]
    Resume(OfWatch),
    /// Removes a watch; its alerts that are not delivered yet are cancelled.
    #[command(after_help = "Example:\n  $ tripline watch rm 7")]
    Rm(OfWatch),
}

#[derive(Args, Debug)]
struct OfWatch {
    /// The watch, as `tripline watch list` numbers it.
    id: u64,
}

/// Adds a watch: you are told when the price goes below --low or above --high.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  $ tripline watch add AAPL --high 120
  $ tripline watch add VOD.L --low 90 --policy step --step 1
  $ tripline watch add MSFT --low 90 --high 120 --hysteresis 2 --cooldown 3600")]
struct Add {
    /// The symbol.
    symbol: String,
    /// Tell when the price goes below this.
    #[arg(long, value_name = "PRICE")]
    low: Option<String>,
    /// Tell when the price goes above this.
    #[arg(long, value_name = "PRICE", required_unless_present = "low")]
    high: Option<String>,
    #[command(flatten)]
    manner: Manner,
}

// When a standing condition is told again. (A doc comment would replace that of the command.)
#[derive(Args, Debug)]
struct Manner {
    /// crossing: each time the threshold is crossed; step: each time the price reaches another
    /// whole step beyond it; once: the first time only.
    #[arg(long, value_parser = policy())]
    policy: Option<Policy>,
    /// Of the policy step: the size of a step; 1 by default.
    #[arg(long, value_name = "PRICE")]
    step: Option<String>,
    /// Of the policy crossing: how far the price goes back before a crossing counts again.
    #[arg(long, value_name = "PRICE")]
    hysteresis: Option<String>,
    /// How long nothing more is told after an alert, in seconds.
    #[arg(long, value_name = "SECONDS")]
    cooldown: Option<u64>,
}

fn policy() -> impl TypedValueParser<Value = Policy> {
    PossibleValuesParser::new(POLICIES).try_map(|name| {
        name.parse::<PolicyKind>().map(|kind| match kind {
            PolicyKind::Crossing => Policy::Crossing,
            PolicyKind::Step => Policy::Step,
            PolicyKind::Once => Policy::Once,
        })
    })
}

/// Lists your watches with their prices and states.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  $ tripline watch list
  ID  SYMBOL  LOW  HIGH  POLICY     LAST   AGE  STATE
   7  AAPL     90   120  crossing  118.5  12 s  armed
   8  XYZ             5  once                   no price: the source does not know it

States: armed (tells when its condition is met), told (tells again when its policy says so), done
(policy once, and it told), paused, no price (and why, where it is known).")]
struct List {}

/// Changes what is named of a watch, and leaves the rest.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  $ tripline watch set 7 --high 125
  $ tripline watch set 7 --no-low --policy once")]
struct Set {
    /// The watch, as `tripline watch list` numbers it.
    id: u64,
    /// Another symbol.
    #[arg(long)]
    symbol: Option<String>,
    /// Tell when the price goes below this.
    #[arg(long, value_name = "PRICE")]
    low: Option<String>,
    /// Take the low threshold away.
    #[arg(long, conflicts_with = "low")]
    no_low: bool,
    /// Tell when the price goes above this.
    #[arg(long, value_name = "PRICE")]
    high: Option<String>,
    /// Take the high threshold away.
    #[arg(long, conflicts_with = "high")]
    no_high: bool,
    #[command(flatten)]
    manner: Manner,
}

#[derive(Serialize)]
struct Removed {
    removed: u64,
}

impl WatchCommand {
    pub(super) async fn run(self, args: &ClientArgs) -> Result<(), Failure> {
        let client = Client::new(args)?;
        let output = Output::new(args.json);
        match self.action {
            Action::Add(add) => show(output, &add.run(&client).await?),
            Action::List(List {}) => show(output, &list(&client).await?),
            Action::Set(set) => show(output, &change(&client, set.request()).await?),
            Action::Pause(of) => show(output, &change(&client, paused(of.id, true)).await?),
            Action::Resume(of) => show(output, &change(&client, paused(of.id, false)).await?),
            Action::Rm(of) => {
                remove(&client, of.id).await?;
                let text = format!("removed watch {}", of.id);
                output.say(&Removed { removed: of.id }, &text)
            }
        }
    }
}

impl Add {
    async fn run(self, client: &Client) -> Result<Vec<Watch>, Failure> {
        let Self { symbol, low, high, manner } = self;
        let request = CreateWatchRequest {
            symbol,
            low: low.unwrap_or_default(),
            high: high.unwrap_or_default(),
            policy: manner.policy.unwrap_or_default().into(),
            step: manner.step.unwrap_or_default(),
            hysteresis: manner.hysteresis.unwrap_or_default(),
            cooldown_seconds: manner.cooldown.unwrap_or_default(),
        };
        let answer = client
            .call(request, |channel, request| async {
                WatchesClient::new(channel).create_watch(request).await
            })
            .await?;
        for warning in &answer.warnings {
            note(&format!("warning: {}", printable(warning)));
        }
        Ok(answer.watch.into_iter().collect())
    }
}

impl Set {
    fn request(self) -> ChangeWatchRequest {
        let Self { id, symbol, low, no_low, high, no_high, manner } = self;
        let removed = |is_removed: bool| is_removed.then(String::new);
        ChangeWatchRequest {
            id,
            symbol,
            low: low.or(removed(no_low)),
            high: high.or(removed(no_high)),
            policy: manner.policy.map(Into::into),
            step: manner.step,
            hysteresis: manner.hysteresis,
            cooldown_seconds: manner.cooldown,
            paused: None,
        }
    }
}

fn paused(id: u64, paused: bool) -> ChangeWatchRequest {
    ChangeWatchRequest { id, paused: Some(paused), ..ChangeWatchRequest::default() }
}

async fn change(client: &Client, request: ChangeWatchRequest) -> Result<Vec<Watch>, Failure> {
    let send = |channel, request| async { WatchesClient::new(channel).change_watch(request).await };
    let answer = client.try_call(request, send).await.map_err(|status| no_watch(client, &status));
    Ok(answer?.watch.into_iter().collect())
}

async fn remove(client: &Client, id: u64) -> Result<(), Failure> {
    let send = |channel, request| async { WatchesClient::new(channel).delete_watch(request).await };
    let answer = client.try_call(DeleteWatchRequest { id }, send).await;
    answer.map(drop).map_err(|status| no_watch(client, &status))
}

fn no_watch(client: &Client, status: &tonic::Status) -> Failure {
    let failure = client.failure(status);
    if status.code() == tonic::Code::NotFound {
        return failure.or_next("`tripline watch list` numbers your watches");
    }
    failure
}

async fn list(client: &Client) -> Result<Vec<Watch>, Failure> {
    let (mut watches, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListWatchesRequest { page_size: PAGE_SIZE, page_token };
        let page = client
            .call(request, |channel, request| async {
                WatchesClient::new(channel).list_watches(request).await
            })
            .await?;
        watches.extend(page.watches);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(watches);
        }
    }
}

fn show(output: Output, watches: &[Watch]) -> Result<(), Failure> {
    let now = SystemClock.now();
    let rows: Vec<_> = watches.iter().map(|watch| WatchRow::new(watch, now)).collect();
    output.rows(&rows, "no watches yet; `tripline watch add SYMBOL --high PRICE` adds one")
}

//! Commands of an operator: what was given up, and symbols to start afresh.

use clap::{Args, Subcommand};
use serde::Serialize;
use tonic::Code;

use super::alerts::AlertRow;
use super::client::{Client, ClientArgs};
use super::failure::Failure;
use super::output::{Cell, Output, Row, Tone, some};
use crate::proto::v1::operator_client::OperatorClient;
use crate::proto::v1::{
    DeadLetter, DeadLetterKind, GetDeadLetterRequest, ListDeadLettersRequest, ResetSymbolRequest,
    RetryDeadLetterRequest,
};

/// The largest page that servers give.
const PAGE_SIZE_MAX: u32 = 1_000;

/// Shows what was given up, and tries it again. Needs the role operator.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  $ tripline dead-letters list
  $ tripline dead-letters show delivery-17
  $ tripline dead-letters retry delivery-17")]
pub(super) struct DeadLetters {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists deliveries that were given up and records that do not decode, the newest first.
    #[command(after_help = "Example:\n  $ tripline dead-letters list --limit 10")]
    List {
        /// How many at most.
        #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
        limit: u32,
    },
    /// Shows all that is known of one.
    #[command(after_help = "Example:\n  $ tripline dead-letters show record-4 --json")]
    Show {
        /// Its id, as the list has it.
        id: String,
    },
    /// Sends a delivery again, or puts a record back on its topic.
    #[command(after_help = "Example:\n  $ tripline dead-letters retry delivery-17")]
    Retry {
        /// Its id, as the list has it.
        id: String,
    },
}

/// A dead letter as JSON and as a row.
#[derive(Serialize)]
struct LetterRow<'a> {
    id: &'a str,
    kind: &'static str,
    time: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<Delivery<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<Record<'a>>,
}

#[derive(Serialize)]
struct Delivery<'a> {
    email: Option<&'a str>,
    attempts: u32,
    alert: Option<AlertRow<'a>>,
}

#[derive(Serialize)]
struct Record<'a> {
    topic: &'a str,
    partition: u32,
    offset: u64,
    key_hex: String,
    value_hex: String,
}

impl<'a> LetterRow<'a> {
    fn new(letter: &'a DeadLetter) -> Self {
        let kind = letter.kind();
        let delivery = (kind == DeadLetterKind::Delivery).then(|| Delivery {
            email: some(&letter.email),
            attempts: letter.attempts,
            alert: letter.alert.as_ref().map(AlertRow::new),
        });
        let record = (kind == DeadLetterKind::Record).then(|| Record {
            topic: &letter.topic,
            partition: letter.partition,
            offset: letter.offset,
            key_hex: hex::encode(&letter.key),
            value_hex: hex::encode(&letter.value),
        });
        let kind = match kind {
            DeadLetterKind::Delivery => "delivery",
            DeadLetterKind::Record => "record",
            DeadLetterKind::Unspecified => "unknown",
        };
        let DeadLetter { id, time, reason, .. } = letter;
        Self { id, kind, time, reason, delivery, record }
    }

    /// What it is about, in short.
    fn about(&self) -> String {
        if let Some(Delivery { email, alert, .. }) = &self.delivery {
            let symbol = alert.as_ref().map(AlertRow::symbol).unwrap_or_default();
            return format!("{symbol} to {}", email.unwrap_or("a deleted user"));
        }
        self.record
            .as_ref()
            .map_or_else(String::new, |Record { topic, partition, offset, .. }| {
                format!("{topic}[{partition}] at {offset}")
            })
    }
}

impl Row for LetterRow<'_> {
    const COLUMNS: &'static [&'static str] = &["ID", "TIME", "ABOUT", "REASON"];

    fn cells(&self) -> Vec<Cell> {
        vec![
            Cell::text(self.id),
            Cell::text(self.time),
            Cell::text(&self.about()),
            Cell::text(self.reason).tone(Tone::Bad),
        ]
    }
}

/// One thing known of a dead letter.
#[derive(Serialize)]
struct Field {
    name: &'static str,
    value: String,
}

impl Row for Field {
    const COLUMNS: &'static [&'static str] = &["FIELD", "VALUE"];

    fn cells(&self) -> Vec<Cell> {
        vec![Cell::text(self.name).tone(Tone::Quiet), Cell::text(&self.value)]
    }
}

fn fields(letter: &LetterRow<'_>) -> Vec<Field> {
    let mut fields = vec![
        ("id", letter.id.to_owned()),
        ("kind", letter.kind.to_owned()),
        ("time", letter.time.to_owned()),
        ("reason", letter.reason.to_owned()),
    ];
    if let Some(delivery) = &letter.delivery {
        fields.push(("email", delivery.email.unwrap_or_default().to_owned()));
        fields.push(("attempts", delivery.attempts.to_string()));
        fields.extend(delivery.alert.as_ref().map(|alert| ("alert", alert.sentence())));
    }
    if let Some(record) = &letter.record {
        fields.push(("topic", record.topic.to_owned()));
        fields.push(("partition", record.partition.to_string()));
        fields.push(("offset", record.offset.to_string()));
        fields.push(("key (hex)", record.key_hex.clone()));
        fields.push(("value (hex)", record.value_hex.clone()));
    }
    fields.into_iter().map(|(name, value)| Field { name, value }).collect()
}

#[derive(Serialize)]
struct Retried<'a> {
    retried: &'a str,
}

impl DeadLetters {
    pub(super) async fn run(self, args: &ClientArgs) -> Result<(), Failure> {
        let client = Client::new(args)?;
        let output = Output::new(args.json);
        match self.action {
            Action::List { limit } => {
                let letters = list(&client, limit).await?;
                let rows: Vec<_> = letters.iter().map(LetterRow::new).collect();
                output.rows(&rows, "no dead letters")
            }
            Action::Show { id } => {
                let send = |channel, request| async {
                    OperatorClient::new(channel).get_dead_letter(request).await
                };
                let answer = client.try_call(GetDeadLetterRequest { id }, send).await;
                let letter = answer.map_err(|status| no_letter(&client, &status))?.dead_letter;
                let letter = letter.unwrap_or_default();
                let row = LetterRow::new(&letter);
                if output.is_json() {
                    return output.rows(&[row], "");
                }
                output.rows(&fields(&row), "")
            }
            Action::Retry { id } => {
                let request = RetryDeadLetterRequest { id: id.clone() };
                let send = |channel, request| async {
                    OperatorClient::new(channel).retry_dead_letter(request).await
                };
                let answer = client.try_call(request, send).await;
                answer.map_err(|status| no_letter(&client, &status))?;
                output.say(&Retried { retried: &id }, &format!("retrying {id}"))
            }
        }
    }
}

fn no_letter(client: &Client, status: &tonic::Status) -> Failure {
    let failure = client.failure(status);
    if status.code() == Code::NotFound {
        return failure.or_next("`tripline dead-letters list` names them");
    }
    failure
}

async fn list(client: &Client, limit: u32) -> Result<Vec<DeadLetter>, Failure> {
    let (mut letters, mut page_token) = (Vec::new(), String::new());
    loop {
        let rest = limit.saturating_sub(u32::try_from(letters.len()).unwrap_or(u32::MAX));
        if rest == 0 {
            return Ok(letters);
        }
        let request = ListDeadLettersRequest { page_size: rest.min(PAGE_SIZE_MAX), page_token };
        let page = client
            .call(request, |channel, request| async {
                OperatorClient::new(channel).list_dead_letters(request).await
            })
            .await?;
        letters.extend(page.dead_letters);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(letters);
        }
    }
}

/// Forgets a symbol's last price and currency. Needs the role operator.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  $ tripline reset VOD.L
  reset VOD.L

The next price of the symbol counts whatever its currency, and the cooldowns of its watches end.")]
pub(super) struct Reset {
    /// The symbol.
    symbol: String,
}

#[derive(Serialize)]
struct Forgotten<'a> {
    reset: &'a str,
}

impl Reset {
    pub(super) async fn run(self, args: &ClientArgs) -> Result<(), Failure> {
        let symbol = self.symbol;
        Client::new(args)?
            .call(ResetSymbolRequest { symbol: symbol.clone() }, |channel, request| async {
                OperatorClient::new(channel).reset_symbol(request).await
            })
            .await?;
        Output::new(args.json).say(&Forgotten { reset: &symbol }, &format!("reset {symbol}"))
    }
}

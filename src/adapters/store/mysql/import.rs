//! Loading many watches at once.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use sqlx::mysql::MySqlConnection;

use super::bulk::{Bulk, padded};
use super::commands::Work;
use super::failure::is_duplicate;
use super::{Failure, MysqlStore, now_ms};
use crate::adapters::store::rows::{small, text};
use crate::model::{Email, UserId, WatchSpec};

/// How long it may take, however many there are.
pub(super) const LIMIT: Duration = Duration::from_secs(600);

/// One attempt. That the content is there after one whose end is unknown means that it has
/// committed: the row is waited for.
pub(super) async fn load(
    store: &MysqlStore,
    content: [u8; 32],
    watches: &[(Email, WatchSpec)],
    unknown: bool,
) -> Result<Option<u64>, Failure> {
    let mut tx = store.begin().await?;
    let first = sqlx::query(concat!(
        "INSERT INTO imports (content, imported_ms) VALUES (?, ",
        now_ms!(),
        ")"
    ))
    .bind(&content[..])
    .execute(&mut *tx)
    .await;
    match first {
        Ok(_) => {}
        Err(error) if is_duplicate(&error) => {
            tx.roll_back().await?;
            return Ok(unknown.then_some(watches.len() as u64));
        }
        Err(error) => return Err(error.into()),
    }
    let users = accounts(&mut tx, watches).await?;
    let owned: Vec<(UserId, WatchSpec)> = watches
        .iter()
        .filter_map(|(email, spec)| Some((*users.get(email.folded())?, *spec)))
        .collect();
    Work { tx: &mut tx, store, view: None }.insert_watches(&owned).await?;
    tx.commit().await?;
    Ok(Some(owned.len() as u64))
}

/// Makes sure that every address has an account, and holds them; returns them by folded address.
async fn accounts(
    tx: &mut MySqlConnection,
    watches: &[(Email, WatchSpec)],
) -> Result<HashMap<String, UserId>, Failure> {
    const INSERT: Bulk = Bulk {
        head: "INSERT INTO users (email, email_folded, role, created_ms) VALUES",
        row: concat!("(?, ?, 'user', ", now_ms!(), ")"),
        between: ",",
        tail: "ON DUPLICATE KEY UPDATE id = id",
    };
    const HOLD: Bulk = Bulk {
        head: "SELECT email_folded, id FROM users WHERE email_folded IN (",
        row: "?",
        between: ",",
        tail: ") FOR UPDATE",
    };
    let mut seen = HashSet::new();
    let mut emails: Vec<&Email> = watches
        .iter()
        .map(|(email, _)| email)
        .filter(|email| seen.insert(email.folded()))
        .collect();
    emails.sort_unstable_by_key(|email| email.folded());
    let mut accounts = HashMap::with_capacity(emails.len());
    for piece in padded(&emails) {
        let mut insert = INSERT.of(piece.len());
        for email in &piece {
            insert = insert.bind(email.as_str().to_owned()).bind(email.folded().to_owned());
        }
        insert.execute(&mut *tx).await?;
        let hold = HOLD.of(piece.len());
        let hold = piece.iter().fold(hold, |query, email| query.bind(email.folded().to_owned()));
        for row in hold.fetch_all(&mut *tx).await? {
            accounts.insert(text(&row, 0)?.to_owned(), UserId(small(&row, 1)?));
        }
    }
    Ok(accounts)
}

//! Which dead letters make a page: chosen by their sizes, before any of them is read.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::rows::{self, Cells};
use super::views::time;
use crate::pipeline::store::StoreError;
use crate::server::store::{DeadLetter, DeadLetterId, DeadLetters};

/// More bytes than the fields of a letter take whose sizes are not asked for.
const REST_BYTES: u64 = 1_024;

/// Where a listing goes on: before this time, and of that time before these numbers.
pub(super) struct Place {
    pub(super) time_ms: i64,
    pub(super) delivery: i64,
    pub(super) record: i64,
}

impl Place {
    /// Of one instant, deliveries come before records and greater numbers before smaller ones.
    pub(super) fn after(last: Option<&DeadLetter>) -> Self {
        let Some(last) = last else {
            return Self { time_ms: i64::MAX, delivery: i64::MAX, record: i64::MAX };
        };
        let (delivery, record) = match last.id() {
            DeadLetterId::Delivery(id) => (rows::signed(id), i64::MAX),
            DeadLetterId::Record(id) => (0, rows::signed(id)),
        };
        Self { time_ms: time(last).millis(), delivery, record }
    }
}

/// A letter that may come into the page.
struct Listed {
    id: DeadLetterId,
    time_ms: i64,
    bytes: u64,
}

fn listed(row: &impl Cells, kind: fn(u64) -> DeadLetterId) -> Result<Listed, StoreError> {
    Ok(Listed {
        id: kind(rows::number(row, 0)?),
        time_ms: rows::int(row, 1)?,
        bytes: rows::number(row, 2)?,
    })
}

/// The letters of a page, in their order.
pub(super) struct Chosen {
    ids: Vec<DeadLetterId>,
    more: bool,
}

impl Chosen {
    /// Chooses among the first of both kinds, each in its order and with one more than `limit`,
    /// if there is. The columns are number, time, bytes.
    pub(super) fn of<R: Cells>(
        deliveries: &[R],
        records: &[R],
        limit: u32,
        bytes_max: u64,
    ) -> Result<Self, StoreError> {
        let deliveries = deliveries.iter().map(|row| listed(row, DeadLetterId::Delivery));
        let records = records.iter().map(|row| listed(row, DeadLetterId::Record));
        let mut listed = deliveries.chain(records).collect::<Result<Vec<_>, _>>()?;
        // Stable: deliveries stay before records, and both are in their order already.
        listed.sort_by_key(|letter| Reverse(letter.time_ms));
        let mut bytes = 0;
        let fits = |letter: &&Listed| {
            bytes += letter.bytes + REST_BYTES;
            bytes <= bytes_max
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let count = listed.iter().take(limit).take_while(fits).count().max(1);
        let more = count < listed.len();
        Ok(Self { ids: listed.iter().take(count).map(|letter| letter.id).collect(), more })
    }

    /// The numbers of its deliveries, and of its records.
    pub(super) fn numbers(&self) -> (Vec<u64>, Vec<u64>) {
        let (mut deliveries, mut records) = (Vec::new(), Vec::new());
        for id in &self.ids {
            match id {
                DeadLetterId::Delivery(number) => deliveries.push(*number),
                DeadLetterId::Record(number) => records.push(*number),
            }
        }
        (deliveries, records)
    }

    /// The page, of those that are still there.
    pub(super) fn page(self, mut letters: Vec<DeadLetter>) -> DeadLetters {
        let places: HashMap<_, _> = self.ids.iter().zip(0..).map(|(id, at)| (*id, at)).collect();
        letters.sort_by_key(|letter| places.get(&letter.id()).copied().unwrap_or(usize::MAX));
        DeadLetters { letters, next: self.ids.last().filter(|_| self.more).copied() }
    }
}

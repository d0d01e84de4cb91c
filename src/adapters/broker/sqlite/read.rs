//! Reading: from the tail in memory, or from the file for those who are behind it.

use futures::TryStreamExt;
use sqlx::Row;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::error::explain;
use super::partition::{Part, Shared, Source};
use super::schema::{from_sql, to_sql};
use crate::adapters::broker::batch::{Batch, Page};
use crate::model::Offset;
use crate::pipeline::broker::{BrokerError, Placed};

/// What a batch in the file must match: its content and its place.
pub(super) fn checksum(part: &Part, base: Offset, count: u64, body: &[u8]) -> i64 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&part.id.to_le_bytes());
    crc.update(&base.0.to_le_bytes());
    crc.update(&count.to_le_bytes());
    crc.update(body);
    i64::from(crc.finalize())
}

/// The records from `from` on.
pub(super) async fn read(
    shared: &Shared,
    readers: &SqlitePool,
    part: &Part,
    from: Offset,
    bytes_max: usize,
) -> Result<Vec<Placed>, BrokerError> {
    let mut page = Page::new(from, bytes_max);
    match part.source(from, bytes_max)? {
        Source::Tail(batches) => {
            for batch in &batches {
                if !page.take(batch).map_err(|_| damaged(shared, part, batch.base))? {
                    break;
                }
            }
        }
        Source::File(end) => {
            read_file(shared, readers, part, &mut page, end).await?;
        }
    }
    Ok(page.finish())
}

async fn read_file(
    shared: &Shared,
    readers: &SqlitePool,
    part: &Part,
    page: &mut Page,
    end: Offset,
) -> Result<(), BrokerError> {
    let from = page.next();
    let explain = |error: sqlx::Error| explain(&shared.path, &error);
    let mut rows = sqlx::query(
        "SELECT base, records, bytes, crc, body FROM batch \
         WHERE partition = ?1 AND base < ?3 AND base >= \
             (SELECT max(base) FROM batch WHERE partition = ?1 AND base <= ?2) \
         ORDER BY base",
    )
    .bind(part.id)
    .bind(to_sql(from.0))
    .bind(to_sql(end.0))
    .fetch(readers);
    while let Some(row) = rows.try_next().await.map_err(explain)? {
        let (batch, crc) = batch_of(&row).map_err(explain)?;
        if batch.base > page.next() {
            return Err(damaged(shared, part, page.next()));
        }
        let expected = checksum(part, batch.base, batch.count, &batch.body);
        if crc != expected {
            return Err(damaged(shared, part, batch.base));
        }
        if !page.take(&batch).map_err(|_| damaged(shared, part, batch.base))? {
            break;
        }
    }
    if page.next() == from {
        // Retention may have dropped it in the meantime; otherwise it should have been there.
        part.source(from, 0)?;
        return Err(damaged(shared, part, from));
    }
    Ok(())
}

fn batch_of(row: &SqliteRow) -> Result<(Batch, i64), sqlx::Error> {
    let body: Vec<u8> = row.try_get(4)?;
    let batch = Batch {
        base: Offset(from_sql(row.try_get(0)?)),
        count: from_sql(row.try_get(1)?),
        size: from_sql(row.try_get(2)?),
        body: body.into(),
    };
    Ok((batch, row.try_get(3)?))
}

fn damaged(shared: &Shared, part: &Part, offset: Offset) -> BrokerError {
    BrokerError::Permanent(format!(
        "{} is damaged: the batch at offset {offset} of {}/{} is missing or not what was written; \
         restore a copy of the file, or go on behind it",
        shared.path.display(),
        part.topic,
        part.number
    ))
}

//! Where a partition begins and ends, and what follows an offset at which there is no record.

use std::cmp::Ordering;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest, TopicName};

use super::cluster::Cluster;
use super::{WireError, fetch, text};
use crate::model::{Offset, Partition};
use crate::pipeline::broker::Bounds;

const EARLIEST: i64 = -2;
const LATEST: i64 = -1;
/// Only what committed transactions wrote, and what was written outside of any.
pub(super) const READ_COMMITTED: i8 = 1;
/// No replica, but a client.
pub(super) const CLIENT: BrokerId = BrokerId(-1);

impl Cluster {
    /// The first offset and the end of what can be read.
    pub async fn bounds(&self, topic: &str, partition: Partition) -> Result<Bounds, WireError> {
        // The end first: what is dropped meanwhile must not make the first lie past it.
        let end = self.offset_at(topic, partition, LATEST).await?;
        let first = self.offset_at(topic, partition, EARLIEST).await?.min(end);
        Ok(Bounds { first, end })
    }

    async fn offset_at(
        &self,
        topic: &str,
        partition: Partition,
        timestamp: i64,
    ) -> Result<Offset, WireError> {
        let wanted = ListOffsetsPartition::default()
            .with_partition_index(index(partition))
            .with_timestamp(timestamp);
        let wanted = ListOffsetsTopic::default()
            .with_name(TopicName(text(topic)))
            .with_partitions(vec![wanted]);
        let request = ListOffsetsRequest::default()
            .with_replica_id(CLIENT)
            .with_isolation_level(READ_COMMITTED)
            .with_topics(vec![wanted]);
        let answer = self
            .call_leader((topic, partition), &request, 7, |answer| {
                let found = answer.topics.first().and_then(|topic| topic.partitions.first());
                found.map_or(-1, |partition| partition.error_code)
            })
            .await?;
        let found = answer.topics.first().and_then(|topic| topic.partitions.first());
        found
            .and_then(|partition| u64::try_from(partition.offset).ok())
            .map(Offset)
            .ok_or_else(|| WireError::Malformed(format!("no offset for {topic}/{partition}")))
    }

    /// The offset after what lies at `from` and holds no record: the marks of transactions, and
    /// what compaction took. To be asked after a fetch from there brought nothing; `None` at the
    /// end, and when records were appended since.
    pub async fn skip(
        &self,
        topic: &str,
        partition: Partition,
        from: Offset,
        bytes_max: u32,
    ) -> Result<Option<Offset>, WireError> {
        let request = fetch::request(&TopicName(text(topic)), partition, from, bytes_max);
        let asked = (topic, partition);
        let answer =
            self.call_leader(asked, &request, fetch::VERSION_MAX, fetch::error_code).await?;
        Ok(after_nothing(&fetch::found(answer), from))
    }
}

pub(super) fn index(partition: Partition) -> i32 {
    i32::try_from(partition.0).unwrap_or(i32::MAX)
}

/// The offset after what lies at `from` and holds no record, by the head of the first batch
/// (magic 2) that a fetch from there brings: its base in bytes 0 to 7, attributes in 21 and 22,
/// its last record's distance from the base in 23 to 26, the number of records in 57 to 60.
///
/// `None` for a batch with records that begins at `from`: it was appended after the fetch that
/// found nothing there.
fn after_nothing(records: &[u8], from: Offset) -> Option<Offset> {
    const CONTROL: u16 = 0x20;
    let base = u64::try_from(i64::from_be_bytes(*records.first_chunk()?)).ok()?;
    let attributes = u16::from_be_bytes(*records.get(21..)?.first_chunk()?);
    let last = u32::from_be_bytes(*records.get(23..)?.first_chunk()?);
    let count = u32::from_be_bytes(*records.get(57..)?.first_chunk()?);
    let end = base.checked_add(u64::from(last))?.checked_add(1)?;
    let next = match base.cmp(&from.0) {
        _ if attributes & CONTROL != 0 || count == 0 => end,
        // Whole batches are missing before it.
        Ordering::Greater => base,
        // Its later records are missing: were they there, the fetch would have brought them.
        Ordering::Less => end,
        Ordering::Equal => return None,
    };
    Some(Offset(next)).filter(|next| *next > from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(base: i64, attributes: u16, last: u32, count: u32) -> Vec<u8> {
        let mut batch = vec![0; 61];
        batch[..8].copy_from_slice(&base.to_be_bytes());
        batch[21..23].copy_from_slice(&attributes.to_be_bytes());
        batch[23..27].copy_from_slice(&last.to_be_bytes());
        batch[57..].copy_from_slice(&count.to_be_bytes());
        batch
    }

    #[test]
    fn only_what_holds_no_record_is_passed_over() {
        let after = |batch: Vec<u8>, from| after_nothing(&batch, Offset(from)).map(|next| next.0);
        for (what, batch, from, expected) in [
            ("appended meanwhile", batch(40, 0, 2, 3), 40, None),
            ("the mark of a transaction", batch(40, 0x20, 0, 1), 40, Some(41)),
            ("a batch without records", batch(40, 0, 2, 0), 40, Some(43)),
            ("the rest of a compacted batch", batch(40, 0, 2, 1), 41, Some(43)),
            ("missing batches", batch(45, 0, 2, 3), 40, Some(45)),
            ("a batch before", batch(30, 0, 2, 3), 40, None),
            ("half a head", vec![0; 60], 0, None),
            ("nothing", Vec::new(), 0, None),
        ] {
            assert_eq!(after(batch, from), expected, "{what}");
        }
    }
}

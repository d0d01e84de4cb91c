//! Where a partition begins and ends, and what follows an offset at which there is no record.

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, FetchRequest, ListOffsetsRequest, TopicName};

use super::cluster::Cluster;
use super::{WireError, text};
use crate::model::{Offset, Partition};
use crate::pipeline::broker::Bounds;

const EARLIEST: i64 = -2;
const LATEST: i64 = -1;
/// Only what committed transactions wrote, and what was written outside of any.
const READ_COMMITTED: i8 = 1;
/// No replica, but a client.
const CLIENT: BrokerId = BrokerId(-1);

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

    /// The offset after what lies at `from` on and holds no record: the marks of transactions,
    /// records that were aborted, and those that compaction took. `None` at the end.
    pub async fn skip(
        &self,
        topic: &str,
        partition: Partition,
        from: Offset,
        bytes_max: u32,
    ) -> Result<Option<Offset>, WireError> {
        let bytes_max = i32::try_from(bytes_max).unwrap_or(i32::MAX);
        let wanted = FetchPartition::default()
            .with_partition(index(partition))
            .with_fetch_offset(i64::try_from(from.0).unwrap_or(i64::MAX))
            .with_partition_max_bytes(bytes_max);
        let wanted =
            FetchTopic::default().with_topic(TopicName(text(topic))).with_partitions(vec![wanted]);
        let request = FetchRequest::default()
            .with_replica_id(CLIENT)
            .with_max_wait_ms(0)
            .with_max_bytes(bytes_max)
            .with_isolation_level(READ_COMMITTED)
            .with_topics(vec![wanted]);
        let answer = self
            .call_leader((topic, partition), &request, 11, |answer| {
                let found = answer.responses.first().and_then(|topic| topic.partitions.first());
                found.map_or(-1, |partition| partition.error_code)
            })
            .await?;
        let found = answer.responses.first().and_then(|topic| topic.partitions.first());
        let records = found.and_then(|partition| partition.records.as_deref()).unwrap_or_default();
        Ok(end_of_first_batch(records).filter(|end| *end > from))
    }
}

fn index(partition: Partition) -> i32 {
    i32::try_from(partition.0).unwrap_or(i32::MAX)
}

/// The offset after a record batch (magic 2): its base in bytes 0 to 7, its last record's
/// distance from that in bytes 23 to 26.
fn end_of_first_batch(records: &[u8]) -> Option<Offset> {
    let base = i64::from_be_bytes(*records.first_chunk()?);
    let last = i32::from_be_bytes(*records.get(23..)?.first_chunk()?);
    u64::try_from(base.checked_add(i64::from(last))?.checked_add(1)?).ok().map(Offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_batch_is_read_from_its_head() {
        let mut batch = vec![0; 61];
        batch[..8].copy_from_slice(&40i64.to_be_bytes());
        batch[23..27].copy_from_slice(&2i32.to_be_bytes());
        assert_eq!(end_of_first_batch(&batch), Some(Offset(43)));
        assert_eq!(end_of_first_batch(&batch[..26]), None);
        assert_eq!(end_of_first_batch(&[]), None);
    }
}

//! The offsets of a consumer group that has no members: ownership of partitions lies elsewhere,
//! and Kafka only keeps the positions, for its own tools.

use std::collections::BTreeMap;

use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{GroupId, OffsetCommitRequest, OffsetFetchRequest, TopicName};

use super::cluster::Cluster;
use super::{WireError, check, text};
use crate::model::{Offset, Partition};

/// Offsets by topic and partition.
pub type Offsets = BTreeMap<(String, u32), Offset>;

impl Cluster {
    /// Commits offsets for a group.
    pub async fn commit_offsets(&self, group: &str, offsets: &Offsets) -> Result<(), WireError> {
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for ((topic, partition), offset) in offsets {
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index(i32::try_from(*partition).unwrap_or(i32::MAX))
                .with_committed_offset(i64::try_from(offset.0).unwrap_or(i64::MAX))
                .with_committed_metadata(Some(text("")));
            topics.entry(topic).or_default().push(partition);
        }
        let topics = topics.into_iter().map(|(name, partitions)| {
            OffsetCommitRequestTopic::default()
                .with_name(TopicName(text(name)))
                .with_partitions(partitions)
        });
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(group)))
            // No generation and no member: the group has none.
            .with_generation_id_or_member_epoch(-1)
            .with_topics(topics.collect());
        let answer = self
            .call_coordinator(group, &request, 8, |answer| {
                let codes = answer.topics.iter().flat_map(|topic| &topic.partitions);
                codes.map(|partition| partition.error_code).find(|code| *code != 0).unwrap_or(0)
            })
            .await;
        answer.map(drop)
    }

    /// The offset that a group has committed for a partition, if it has.
    pub async fn committed_offset(
        &self,
        group: &str,
        topic: &str,
        partition: Partition,
    ) -> Result<Option<Offset>, WireError> {
        let index = i32::try_from(partition.0).unwrap_or(i32::MAX);
        let wanted = OffsetFetchRequestTopic::default()
            .with_name(TopicName(text(topic)))
            .with_partition_indexes(vec![index]);
        let request = OffsetFetchRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_topics(Some(vec![wanted]));
        let answer = self.call_coordinator(group, &request, 7, |answer| answer.error_code).await?;
        let found = answer.topics.iter().flat_map(|topic| &topic.partitions).next();
        let Some(found) = found else { return Ok(None) };
        check(found.error_code, &format!("the offset of {group} in {topic}/{partition}"), None)?;
        Ok(u64::try_from(found.committed_offset).ok().map(Offset))
    }
}

//! Topics: created with their configs, described, grown and deleted.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    TopicName,
};

use super::cluster::Cluster;
use super::{WireError, check, text};

/// The kind of resource that a topic is.
const TOPIC: i8 = 2;

/// Whether a topic was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is new.
    Now,
    /// It was there, as it is; nothing was changed.
    Before,
}

impl Cluster {
    /// Creates a topic if it is missing. Brokers learn of it a little later.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: u32,
        replication_factor: u16,
        configs: &[(&str, String)],
    ) -> Result<Created, WireError> {
        let configs = configs
            .iter()
            .map(|(name, value)| {
                CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
            })
            .collect();
        let topic = CreatableTopic::default()
            .with_name(TopicName(text(name)))
            .with_num_partitions(i32::try_from(partitions).unwrap_or(i32::MAX))
            .with_replication_factor(i16::try_from(replication_factor).unwrap_or(i16::MAX))
            .with_configs(configs);
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(self.timeout_ms());
        let answer = self.call_any(&request, 7).await?;
        let Some(result) = answer.topics.first() else { return Err(empty()) };
        match ResponseError::try_from_code(result.error_code) {
            Some(ResponseError::TopicAlreadyExists) => Ok(Created::Before),
            _ => {
                let what = format!("to create the topic {name}");
                check(result.error_code, &what, result.error_message.as_ref())?;
                Ok(Created::Now)
            }
        }
    }

    /// The configs of a topic, defaults included.
    pub async fn topic_configs(&self, name: &str) -> Result<BTreeMap<String, String>, WireError> {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(name))
            .with_configuration_keys(None);
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let answer = self.call_any(&request, 4).await?;
        let Some(result) = answer.results.first() else { return Err(empty()) };
        let what = format!("to describe the configs of {name}");
        check(result.error_code, &what, result.error_message.as_ref())?;
        Ok(result
            .configs
            .iter()
            .filter_map(|config| {
                Some((config.name.to_string(), config.value.as_ref()?.to_string()))
            })
            .collect())
    }

    /// Grows a topic to `total` partitions. Keys go to other partitions from then on: nothing
    /// may be produced, or wait to be read, meanwhile.
    pub async fn grow_topic(&self, name: &str, total: u32) -> Result<(), WireError> {
        let topic = CreatePartitionsTopic::default()
            .with_name(TopicName(text(name)))
            .with_count(i32::try_from(total).unwrap_or(i32::MAX))
            .with_assignments(None);
        let request = CreatePartitionsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(self.timeout_ms());
        let answer = self.call_any(&request, 3).await?;
        let Some(result) = answer.results.first() else { return Err(empty()) };
        let what = format!("to grow the topic {name} to {total} partitions");
        check(result.error_code, &what, result.error_message.as_ref())
    }

    /// Deletes a topic with all that it holds.
    pub async fn delete_topic(&self, name: &str) -> Result<(), WireError> {
        let request = DeleteTopicsRequest::default()
            .with_topic_names(vec![TopicName(text(name))])
            .with_timeout_ms(self.timeout_ms());
        let answer = self.call_any(&request, 5).await?;
        let Some(result) = answer.responses.first() else { return Err(empty()) };
        let what = format!("to delete the topic {name}");
        check(result.error_code, &what, result.error_message.as_ref())
    }

    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.request_timeout().as_millis()).unwrap_or(i32::MAX)
    }
}

fn empty() -> WireError {
    WireError::Malformed("nothing about what was asked".to_owned())
}

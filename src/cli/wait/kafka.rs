//! Whether Kafka is there: any one broker that answers, and topics that have leaders.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiKey, MetadataRequest, MetadataResponse, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable as _, Encodable as _, StrBytes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The version of Metadata that is spoken: the first that creates no topics by asking.
const METADATA: i16 = 4;
/// The longest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Asks the brokers in turn until one answers, and looks for the topics in what it says.
pub(super) async fn look(brokers: &[String], topics: &[&str]) -> Result<(), String> {
    let mut causes = Vec::new();
    for broker in brokers {
        match metadata(broker, topics).await {
            Ok(answer) => return check(&answer, topics),
            Err(cause) => causes.push(format!("{broker}: {cause}")),
        }
    }
    Err(format!("expected a broker, found: {}", causes.join(", ")))
}

/// One request on a connection of its own: there may be no broker that lasts for a second.
async fn metadata(broker: &str, topics: &[&str]) -> Result<MetadataResponse, String> {
    let said = |error: std::io::Error| error.to_string();
    let garbled = |_| "an answer that is not Kafka's".to_owned();
    let named = topics.iter().map(|topic| {
        let name = TopicName(StrBytes::from_string((*topic).to_owned()));
        MetadataRequestTopic::default().with_name(Some(name))
    });
    let request = MetadataRequest::default()
        .with_topics(Some(named.collect()))
        .with_allow_auto_topic_creation(false);
    let header = RequestHeader::default()
        .with_request_api_key(ApiKey::Metadata as i16)
        .with_request_api_version(METADATA)
        .with_client_id(Some(StrBytes::from_static_str("tripline-wait")));
    let mut bytes = BytesMut::new();
    header
        .encode(&mut bytes, ApiKey::Metadata.request_header_version(METADATA))
        .map_err(garbled)?;
    request.encode(&mut bytes, METADATA).map_err(garbled)?;

    let mut stream = TcpStream::connect(broker).await.map_err(said)?;
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    stream.write_u32(length).await.map_err(said)?;
    stream.write_all(&bytes).await.map_err(said)?;
    let length = stream.read_u32().await.map_err(said)? as usize;
    if length > ANSWER_BYTES_MAX {
        return Err(format!("an answer of {length} bytes"));
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await.map_err(said)?;
    let mut answer = Bytes::from(answer);
    let version = ApiKey::Metadata.response_header_version(METADATA);
    ResponseHeader::decode(&mut answer, version).map_err(garbled)?;
    MetadataResponse::decode(&mut answer, METADATA).map_err(garbled)
}

/// Whether the answer knows the topics, with a leader for each partition.
fn check(answer: &MetadataResponse, topics: &[&str]) -> Result<(), String> {
    if answer.brokers.is_empty() {
        return Err("expected brokers in the cluster, found none".to_owned());
    }
    for name in topics {
        let topic = answer
            .topics
            .iter()
            .find(|topic| topic.name.as_ref().is_some_and(|found| found.0.as_str() == *name));
        let partitions = match topic {
            Some(topic) if topic.error_code == 0 => &topic.partitions,
            _ => return Err(format!("expected the topic {name}, found none")),
        };
        let led = partitions.iter().filter(|partition| partition.leader_id.0 >= 0).count();
        if led < partitions.len() || led == 0 {
            let all = partitions.len();
            return Err(format!("expected leaders of {name}'s {all} partitions, found {led}"));
        }
    }
    Ok(())
}

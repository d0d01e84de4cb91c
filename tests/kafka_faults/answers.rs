//! What the brokers answer to each request.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, CreateTopicsRequest, CreateTopicsResponse,
    DescribeConfigsRequest, DescribeConfigsResponse, FetchRequest, FetchResponse,
    FindCoordinatorResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest,
    MetadataResponse, OffsetCommitRequest, OffsetCommitResponse, ProduceRequest, ProduceResponse,
    TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use crate::cluster::{Fault, FaultCluster, Log, State};

/// The requests that are served, with their versions.
const SERVED: [(ApiKey, i16, i16); 9] = [
    (ApiKey::Produce, 3, 7),
    (ApiKey::Fetch, 4, 11),
    (ApiKey::ListOffsets, 1, 7),
    (ApiKey::Metadata, 0, 12),
    (ApiKey::OffsetCommit, 2, 8),
    (ApiKey::FindCoordinator, 0, 3),
    (ApiKey::ApiVersions, 0, 3),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DescribeConfigs, 1, 4),
];

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// Answers a request at the broker `id`, or not at all: then the connection is to be lost.
pub(crate) async fn answer(
    cluster: &FaultCluster,
    id: i32,
    key: ApiKey,
    version: i16,
    mut request: Bytes,
    answer: &mut BytesMut,
) -> bool {
    let encoded = match key {
        ApiKey::ApiVersions => {
            let keys = SERVED.map(|(key, min, max)| {
                ApiVersion::default()
                    .with_api_key(key as i16)
                    .with_min_version(min)
                    .with_max_version(max)
            });
            ApiVersionsResponse::default().with_api_keys(keys.to_vec()).encode(answer, version)
        }
        ApiKey::Metadata => {
            let request = MetadataRequest::decode(&mut request, version).unwrap();
            metadata(&mut cluster.state(), &request).encode(answer, version)
        }
        ApiKey::CreateTopics => {
            let request = CreateTopicsRequest::decode(&mut request, version).unwrap();
            create(&mut cluster.state(), &request).encode(answer, version)
        }
        ApiKey::DescribeConfigs => {
            let request = DescribeConfigsRequest::decode(&mut request, version).unwrap();
            configs(&cluster.state(), &request).encode(answer, version)
        }
        ApiKey::Produce => {
            let request = ProduceRequest::decode(&mut request, version).unwrap();
            let fault = cluster.state().faults.pop_front();
            let mut produced = None;
            cluster.change(|state| produced = Some(produce(state, id, request, fault)));
            match fault {
                Some(Fault::LostAfterAppend) => return false,
                Some(Fault::Late(delay)) => tokio::time::sleep(delay).await,
                _ => {}
            }
            produced.unwrap().encode(answer, version)
        }
        ApiKey::Fetch => {
            let request = FetchRequest::decode(&mut request, version).unwrap();
            fetch(cluster, id, &request).await.encode(answer, version)
        }
        ApiKey::ListOffsets => {
            let request = ListOffsetsRequest::decode(&mut request, version).unwrap();
            offsets(&cluster.state(), id, &request).encode(answer, version)
        }
        ApiKey::FindCoordinator => {
            let state = cluster.state();
            let (node, port) = state.nodes.iter().next().map(|(id, n)| (*id, n.address)).unwrap();
            FindCoordinatorResponse::default()
                .with_node_id(BrokerId(node))
                .with_host(text(&port.ip().to_string()))
                .with_port(port.port().into())
                .encode(answer, version)
        }
        ApiKey::OffsetCommit => {
            let request = OffsetCommitRequest::decode(&mut request, version).unwrap();
            let mut committed = None;
            cluster.change(|state| committed = Some(commit(state, &request)));
            committed.unwrap().encode(answer, version)
        }
        other => panic!("the request {other:?} is not served"),
    };
    encoded.unwrap();
    true
}

fn metadata(state: &mut State, request: &MetadataRequest) -> MetadataResponse {
    let all: Vec<BrokerId> = state.nodes.keys().map(|id| BrokerId(*id)).collect();
    let names: Vec<String> = match &request.topics {
        Some(topics) => {
            topics.iter().filter_map(|topic| Some(topic.name.as_ref()?.to_string())).collect()
        }
        None => state.topics.keys().cloned().collect(),
    };
    let stale = state.stale > 0 && !names.is_empty();
    state.stale -= u32::from(stale);
    let topics = names.iter().map(|name| {
        let topic = MetadataResponseTopic::default().with_name(Some(TopicName(text(name))));
        let Some(logs) = state.topics.get(name) else {
            return topic.with_error_code(ResponseError::UnknownTopicOrPartition.code());
        };
        let partitions = logs.iter().zip(0..).map(|(log, index)| {
            MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_leader_id(BrokerId(if stale { 99 } else { log.leader }))
                .with_replica_nodes(all.clone())
                .with_isr_nodes(all.clone())
        });
        topic.with_partitions(partitions.collect())
    });
    let topics = topics.collect();
    let brokers = state.nodes.iter().map(|(id, node)| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(*id))
            .with_host(text(&node.address.ip().to_string()))
            .with_port(node.address.port().into())
    });
    MetadataResponse::default().with_brokers(brokers.collect()).with_topics(topics)
}

fn create(state: &mut State, request: &CreateTopicsRequest) -> CreateTopicsResponse {
    let results = request.topics.iter().map(|topic| {
        let leaders: Vec<i32> = state.nodes.keys().copied().collect();
        let logs = (0..topic.num_partitions as usize)
            .map(|index| Log { leader: leaders[index % leaders.len()], ..Log::default() });
        state.topics.insert(topic.name.to_string(), logs.collect());
        CreatableTopicResult::default()
            .with_name(topic.name.clone())
            .with_num_partitions(topic.num_partitions)
    });
    CreateTopicsResponse::default().with_topics(results.collect())
}

fn configs(state: &State, request: &DescribeConfigsRequest) -> DescribeConfigsResponse {
    let limit = DescribeConfigsResourceResult::default()
        .with_name(text("max.message.bytes"))
        .with_value(Some(text(&state.batch_bytes_max.to_string())));
    let result = DescribeConfigsResult::default()
        .with_resource_name(request.resources[0].resource_name.clone())
        .with_configs(vec![limit]);
    DescribeConfigsResponse::default().with_results(vec![result])
}

fn led<'a>(
    state: &'a mut State,
    id: i32,
    topic: &str,
    partition: i32,
) -> Result<&'a mut Log, ResponseError> {
    let log = state
        .topics
        .get_mut(topic)
        .and_then(|logs| logs.get_mut(usize::try_from(partition).ok()?))
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    if log.leader == id { Ok(log) } else { Err(ResponseError::NotLeaderOrFollower) }
}

fn produce(
    state: &mut State,
    id: i32,
    request: ProduceRequest,
    fault: Option<Fault>,
) -> ProduceResponse {
    let topic = &request.topic_data[0];
    let data = &topic.partition_data[0];
    let records = data.records.clone().unwrap();
    let too_large = records.len() > state.batch_bytes_max;
    let result = led(state, id, topic.name.as_str(), data.index).and_then(|log| match fault {
        _ if too_large => Err(ResponseError::MessageTooLarge),
        Some(Fault::Refused(error)) => Err(error),
        _ => {
            // The base offset lies outside what the checksum covers.
            let mut batch = BytesMut::from(&records[..]);
            batch[..8].copy_from_slice(&log.end.to_be_bytes());
            let count = i64::from((&batch[23..27]).get_i32()) + 1;
            let base = log.end;
            log.end += count;
            log.batches.push((base, log.end, batch.freeze()));
            Ok((base, count))
        }
    });
    let partition = PartitionProduceResponse::default().with_index(data.index);
    let partition = match (result, fault) {
        (Ok((_, count)), Some(Fault::RefusedAfterAppend(error))) => {
            state.produced.push(count);
            partition.with_error_code(error.code())
        }
        (Ok((base, count)), _) => {
            state.produced.push(count);
            partition.with_base_offset(base)
        }
        (Err(error), _) => partition.with_error_code(error.code()),
    };
    let topic = TopicProduceResponse::default()
        .with_name(topic.name.clone())
        .with_partition_responses(vec![partition]);
    ProduceResponse::default().with_responses(vec![topic])
}

async fn fetch(cluster: &FaultCluster, id: i32, request: &FetchRequest) -> FetchResponse {
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap());
    let until = tokio::time::Instant::now() + wait;
    let mut changes = cluster.changes.subscribe();
    let topic = &request.topics[0];
    let wanted = &topic.partitions[0];
    loop {
        changes.mark_unchanged();
        let data = fetched(&mut cluster.state(), id, topic.topic.as_str(), wanted);
        let some = data.error_code != 0 || data.records.as_ref().is_some_and(|r| !r.is_empty());
        if some || request.min_bytes == 0 || tokio::time::Instant::now() >= until {
            let topic = FetchableTopicResponse::default()
                .with_topic(topic.topic.clone())
                .with_partitions(vec![data]);
            return FetchResponse::default().with_responses(vec![topic]);
        }
        cluster.state().fetching.insert((topic.topic.to_string(), wanted.partition));
        let _ = tokio::time::timeout_at(until, changes.changed()).await;
    }
}

fn fetched(
    state: &mut State,
    id: i32,
    topic: &str,
    wanted: &kafka_protocol::messages::fetch_request::FetchPartition,
) -> PartitionData {
    let data = PartitionData::default()
        .with_partition_index(wanted.partition)
        .with_records(Some(Bytes::new()));
    let from = wanted.fetch_offset;
    match led(state, id, topic, wanted.partition) {
        Err(error) => data.with_error_code(error.code()),
        Ok(log) if from < log.first || from > log.end => {
            data.with_error_code(ResponseError::OffsetOutOfRange.code())
        }
        Ok(log) => {
            let mut records = BytesMut::new();
            for (_, end, batch) in &log.batches {
                let fits = records.len() + batch.len() <= wanted.partition_max_bytes as usize;
                if *end > from && (records.is_empty() || fits) {
                    records.extend_from_slice(batch);
                }
            }
            data.with_high_watermark(log.end)
                .with_last_stable_offset(log.end)
                .with_records(Some(records.freeze()))
        }
    }
}

fn offsets(state: &State, id: i32, request: &ListOffsetsRequest) -> ListOffsetsResponse {
    let topic = &request.topics[0];
    let wanted = &topic.partitions[0];
    let answer =
        ListOffsetsPartitionResponse::default().with_partition_index(wanted.partition_index);
    let log = state
        .topics
        .get(topic.name.as_str())
        .and_then(|logs| logs.get(usize::try_from(wanted.partition_index).ok()?));
    let answer = match log {
        None => answer.with_error_code(ResponseError::UnknownTopicOrPartition.code()),
        Some(log) if log.leader != id => {
            answer.with_error_code(ResponseError::NotLeaderOrFollower.code())
        }
        Some(log) => answer.with_offset(if wanted.timestamp == -2 { log.first } else { log.end }),
    };
    let topic = ListOffsetsTopicResponse::default()
        .with_name(topic.name.clone())
        .with_partitions(vec![answer]);
    ListOffsetsResponse::default().with_topics(vec![topic])
}

fn commit(state: &mut State, request: &OffsetCommitRequest) -> OffsetCommitResponse {
    let fault = state.commit_faults.pop_front();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            if fault.is_none() {
                let key = (request.group_id.to_string(), topic.name.to_string(), index);
                state.committed.insert(key, partition.committed_offset);
            }
            OffsetCommitResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(fault.map_or(0, |error| error.code()))
        });
        OffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

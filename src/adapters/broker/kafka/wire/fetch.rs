//! Fetching records, over connections that do nothing else: a fetch holds its own for as long as it
//! waits for something to come.
//!
//! rskafka fetches as well, but takes what is compressed out of the decompressor byte by byte,
//! which was most of what an evaluator's core did.

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{FetchRequest, FetchResponse, TopicName};
use kafka_protocol::records::{Record as Fetched, RecordBatchDecoder};

use super::cluster::Cluster;
use super::connection::Connection;
use super::offsets::{CLIENT, READ_COMMITTED, index};
use super::{WireError, check, text};
use crate::model::{Offset, Partition, Timestamp};
use crate::pipeline::broker::{HeaderName, Placed, Record};
use crate::pipeline::record::known_schema;

/// The newest version that names topics instead of numbering them.
pub(super) const VERSION_MAX: i16 = 11;

/// A connection to the leader of a partition. After an error or a cancelled fetch it must not be
/// used again.
pub struct FetchLine {
    connection: Connection,
    topic: TopicName,
    partition: Partition,
}

impl Cluster {
    /// A new connection to the leader of a partition.
    pub async fn fetch_line(
        &self,
        topic: &str,
        partition: Partition,
    ) -> Result<FetchLine, WireError> {
        let connection = self.connect_leader(topic, partition).await?;
        Ok(FetchLine { connection, topic: TopicName(text(topic)), partition })
    }
}

impl FetchLine {
    /// The records from an offset on, about `bytes_max` bytes of them; none at the end, after
    /// `wait_ms`, and where what follows holds none.
    pub async fn fetch(
        &mut self,
        from: Offset,
        bytes_max: u32,
        wait_ms: u32,
    ) -> Result<Vec<Placed>, WireError> {
        let request =
            request(&self.topic, self.partition, from, bytes_max).with_max_wait_ms(signed(wait_ms));
        let request = request.with_min_bytes(i32::from(wait_ms > 0));
        let answer = self.connection.call(&request, VERSION_MAX).await?;
        let what = || format!("a request for {}/{}", *self.topic, self.partition);
        check(error_code(&answer), &what(), None)?;
        read(found(answer), from)
            .map_err(|error| WireError::Malformed(format!("{} with no records: {error}", what())))
    }
}

/// A fetch from an offset that waits for nothing.
pub(super) fn request(
    topic: &TopicName,
    partition: Partition,
    from: Offset,
    bytes_max: u32,
) -> FetchRequest {
    let wanted = FetchPartition::default()
        .with_partition(index(partition))
        .with_fetch_offset(i64::try_from(from.0).unwrap_or(i64::MAX))
        .with_partition_max_bytes(signed(bytes_max));
    let wanted = FetchTopic::default().with_topic(topic.clone()).with_partitions(vec![wanted]);
    FetchRequest::default()
        .with_replica_id(CLIENT)
        .with_max_wait_ms(0)
        .with_max_bytes(signed(bytes_max))
        .with_isolation_level(READ_COMMITTED)
        .with_topics(vec![wanted])
}

fn signed(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

/// The error of the one partition that was asked for, or that the answer has none.
pub(super) fn error_code(answer: &FetchResponse) -> i16 {
    let found = answer.responses.first().and_then(|topic| topic.partitions.first());
    found.map_or(-1, |partition| partition.error_code)
}

/// The batches of the one partition that was asked for; the last one may be cut off.
pub(super) fn found(answer: FetchResponse) -> Bytes {
    let topic = answer.responses.into_iter().next();
    let partition = topic.and_then(|topic| topic.partitions.into_iter().next());
    partition.and_then(|partition| partition.records).unwrap_or_default()
}

/// The records of some batches. Brokers don't split batches, so the first may begin before `from`.
fn read(mut batches: Bytes, from: Offset) -> Result<Vec<Placed>, String> {
    /// Of a batch's base offset and of its length, which counts what follows it.
    const HEAD: usize = 12;
    let mut records = Vec::new();
    while let Some(head) = batches.first_chunk::<HEAD>() {
        let [.., a, b, c, d] = *head;
        let length = usize::try_from(i32::from_be_bytes([a, b, c, d]))
            .map_err(|_| "a batch of a negative length".to_owned())?;
        if batches.len() - HEAD < length {
            break;
        }
        let mut batch = batches.split_to(HEAD + length);
        let batch = RecordBatchDecoder::decode(&mut batch).map_err(|error| error.to_string())?;
        let placed = batch.records.into_iter().filter(|record| !record.control).map(placed);
        records.extend(placed.filter(|placed| placed.offset >= from));
    }
    Ok(records)
}

/// A record without a value has an empty one.
fn placed(fetched: Fetched) -> Placed {
    let headers = fetched.headers.into_iter().map(|(name, value)| {
        let value = value.unwrap_or_default();
        (HeaderName::from(&*name), known_schema(&value).unwrap_or(value))
    });
    Placed {
        offset: Offset(u64::try_from(fetched.offset).unwrap_or_default()),
        record: Record {
            key: fetched.key,
            value: fetched.value.unwrap_or_default(),
            headers: headers.collect(),
            time: Timestamp::from_millis(fetched.timestamp).unwrap_or_default(),
        },
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::records::{
        Compression, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
    };

    use super::*;

    fn batch(offsets: std::ops::Range<i64>, control: bool, compression: Compression) -> Bytes {
        let record = |offset| Fetched {
            transactional: control,
            control,
            delete_horizon: false,
            partition_leader_epoch: 0,
            producer_id: -1,
            producer_epoch: -1,
            timestamp_type: TimestampType::Creation,
            offset,
            // One that follows on keeps records in one batch.
            sequence: i32::try_from(offset).unwrap(),
            timestamp: 1_700_000_000_000 + offset,
            key: Some(Bytes::from_static(b"AAPL")),
            value: None,
            headers: [(text("b"), None), (text("a"), Some(Bytes::from_static(b"1")))].into(),
        };
        let records: Vec<_> = offsets.map(record).collect();
        let mut encoded = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression };
        RecordBatchEncoder::encode(&mut encoded, &records, &options).unwrap();
        encoded.freeze()
    }

    fn offsets(batches: &[&[u8]], from: u64) -> Vec<u64> {
        let read = read(batches.concat().into(), Offset(from)).unwrap();
        read.iter().map(|placed| placed.offset.0).collect()
    }

    #[test]
    fn records_are_read_from_the_offset_on_and_marks_and_what_is_cut_off_are_not() {
        let (first, mark) =
            (batch(5..8, false, Compression::Gzip), batch(8..9, true, Compression::None));
        let last = batch(9..11, false, Compression::Lz4);
        assert_eq!(offsets(&[&first, &mark, &last], 6), [6, 7, 9, 10]);
        for cut in 0..last.len() {
            assert_eq!(offsets(&[&first, &last[..cut]], 5), [5, 6, 7], "{cut} bytes");
        }
        assert!(offsets(&[], 5).is_empty());
    }

    #[test]
    fn a_record_is_what_was_sent() {
        let read = read(batch(5..6, false, Compression::Snappy), Offset(0)).unwrap();
        let [Placed { offset, record }] = &read[..] else { panic!("{read:?}") };
        assert_eq!((offset.0, record.key.as_deref()), (5, Some(&b"AAPL"[..])));
        assert_eq!((record.value.len(), record.time.millis()), (0, 1_700_000_000_005));
        let headers: Vec<_> =
            record.headers.iter().map(|(name, value)| (&**name, &value[..])).collect();
        assert_eq!(headers, [("b", &b""[..]), ("a", &b"1"[..])]);
    }

    #[test]
    fn a_damaged_batch_is_refused() {
        let mut damaged = batch(5..6, false, Compression::None).to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(read(damaged.into(), Offset(5)).unwrap_err().contains("redundancy"));
        let negative = [0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        assert!(read(Bytes::copy_from_slice(&negative), Offset(0)).is_err());
    }
}

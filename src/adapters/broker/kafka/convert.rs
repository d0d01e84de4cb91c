//! Records as rskafka has them. It keeps headers as a map: of headers of one name the last
//! counts, and they come back in the order of their names.

use bytes::Bytes;
use rskafka::chrono::DateTime;
use rskafka::record::{Record as KafkaRecord, RecordAndOffset};

use crate::model::{Offset, Timestamp};
use crate::pipeline::broker::{Placed, Record};
use crate::pipeline::record::known_schema;

/// To Kafka.
pub(super) fn to_kafka(record: &Record) -> KafkaRecord {
    KafkaRecord {
        key: record.key.as_ref().map(|key| key.to_vec()),
        value: Some(record.value.to_vec()),
        headers: record
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_vec()))
            .collect(),
        timestamp: DateTime::from_timestamp_millis(record.time.millis()).unwrap_or_default(),
    }
}

/// From Kafka. A record without a value has an empty one.
pub(super) fn from_kafka(found: RecordAndOffset) -> Placed {
    let RecordAndOffset { record, offset } = found;
    let headers = record.headers.into_iter().map(|(name, value)| {
        let known = known_schema(&value).map(|schema| Bytes::from_static(schema.as_bytes()));
        (name.as_str().into(), known.unwrap_or_else(|| value.into()))
    });
    Placed {
        offset: Offset(u64::try_from(offset).unwrap_or_default()),
        record: Record {
            key: record.key.map(Bytes::from),
            value: record.value.map(Bytes::from).unwrap_or_default(),
            headers: headers.collect(),
            time: Timestamp::from_millis(record.timestamp.timestamp_millis()).unwrap_or_default(),
        },
    }
}

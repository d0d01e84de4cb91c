//! Records as rskafka sends them. It keeps headers as a map: of headers of one name the last
//! counts, and they are sent in the order of their names.

use rskafka::chrono::DateTime;
use rskafka::record::Record as KafkaRecord;

use crate::pipeline::broker::Record;

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

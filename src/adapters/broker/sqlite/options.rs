//! The bounds of the embedded log.

use crate::pipeline::broker::BrokerError;

/// The largest batch that a row takes, with room for the encoding.
const BATCH_BYTES_LIMIT: usize = 256 * 1_024 * 1_024;

/// How much a [`SqliteLog`](super::SqliteLog) keeps, and in which portions.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqliteLogOptions {
    /// Seconds after which a batch is dropped, once every group has passed it. 0: never by age.
    pub retention_age_s: u64,
    /// Bytes of records in all topics together. Beyond, the oldest that every group has passed
    /// are dropped; when there are none, appends fail. The file grows somewhat larger.
    pub retention_bytes: u64,
    /// Seconds between two rounds of dropping and of saving the groups' positions.
    pub sweep_interval_s: u64,
    /// Bytes of records in one append.
    pub batch_bytes_max: usize,
    /// Appends that wait for the disk; further callers wait until there is room.
    pub append_queue_len: usize,
    /// Records that share one transaction (one append may hold more).
    pub group_commit_records_max: u64,
    /// Bytes of records that share one transaction (one append may hold more).
    pub group_commit_bytes_max: u64,
    /// Bytes of the newest records kept in memory, for each partition, so that readers who keep
    /// up never touch the disk.
    pub tail_bytes_per_partition: u64,
    /// Connections that read what is older than that.
    pub read_connections_max: u32,
    /// Milliseconds to wait for a file that another process has locked.
    pub busy_timeout_ms: u64,
}

impl Default for SqliteLogOptions {
    fn default() -> Self {
        Self {
            retention_age_s: 7 * 24 * 60 * 60,
            retention_bytes: 1_024 * 1_024 * 1_024,
            sweep_interval_s: 10,
            batch_bytes_max: 1_024 * 1_024,
            append_queue_len: 256,
            group_commit_records_max: 20_000,
            group_commit_bytes_max: 4 * 1_024 * 1_024,
            tail_bytes_per_partition: 16 * 1_024 * 1_024,
            read_connections_max: 2,
            busy_timeout_ms: 5_000,
        }
    }
}

impl SqliteLogOptions {
    /// Refuses bounds that nothing could work within.
    pub(super) fn check(&self) -> Result<(), BrokerError> {
        let refuse = |text: String| Err(BrokerError::Permanent(text));
        for (name, zero) in [
            ("sweep_interval_s", self.sweep_interval_s == 0),
            ("append_queue_len", self.append_queue_len == 0),
            ("read_connections_max", self.read_connections_max == 0),
        ] {
            if zero {
                return refuse(format!("{name}: expected at least 1, found 0"));
            }
        }
        let found = self.batch_bytes_max;
        if !(1..=BATCH_BYTES_LIMIT).contains(&found) {
            return refuse(format!(
                "batch_bytes_max: expected 1 to {BATCH_BYTES_LIMIT}, found {found}"
            ));
        }
        if self.retention_bytes < found as u64 {
            return refuse(format!(
                "retention_bytes: expected at least batch_bytes_max ({found}), found {}",
                self.retention_bytes
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_that_cannot_work_are_refused_by_name() {
        let good = SqliteLogOptions::default();
        assert_eq!(good.check(), Ok(()));
        for (bad, name) in [
            (SqliteLogOptions { append_queue_len: 0, ..good.clone() }, "append_queue_len"),
            (SqliteLogOptions { sweep_interval_s: 0, ..good.clone() }, "sweep_interval_s"),
            (SqliteLogOptions { read_connections_max: 0, ..good.clone() }, "read_connections_max"),
            (SqliteLogOptions { batch_bytes_max: usize::MAX, ..good.clone() }, "batch_bytes_max"),
            (SqliteLogOptions { retention_bytes: 1_000, ..good.clone() }, "retention_bytes"),
        ] {
            let error = bad.check().unwrap_err().to_string();
            assert!(error.contains(&format!("{name}: expected")), "{error}");
        }
    }
}

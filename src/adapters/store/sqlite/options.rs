//! Options of the embedded store: every bound, with its unit in its name.

use serde::Deserialize;

/// Bounds and ages of the embedded store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SqliteStoreOptions {
    /// Connections that read at the same time, at most.
    pub readers_max: u32,
    /// How long a read waits for one of them, in milliseconds.
    pub reader_wait_ms: u64,
    /// How long a write waits for those before it, in milliseconds.
    pub writer_wait_ms: u64,
    /// How long a write waits for another process that holds the file, in milliseconds.
    pub busy_timeout_ms: u64,
    /// Memory for pages of the file, per connection that writes, in KiB. Taken when used.
    pub writer_cache_kib: u32,
    /// Memory for pages of the file, per connection that reads, in KiB. Taken when used.
    pub reader_cache_kib: u32,
    /// Length of the write-ahead log, in KiB, from which on it is moved into the file. Longer
    /// ones write hot pages less often, and take longer to read after a crash.
    pub checkpoint_kib: u32,
    /// Newest prices kept of each symbol.
    pub prices_per_symbol: u32,
    /// Days after which prices of a symbol that gets no new ones are deleted.
    pub keep_prices_days: u32,
    /// Days after which alerts whose delivery has ended are deleted.
    pub keep_alerts_days: u32,
    /// Days after which ended deliveries, dead letters included, are deleted.
    pub keep_deliveries_days: u32,
    /// Hours for which the answer to a request is kept, so that it is carried out only once.
    pub keep_requests_h: u32,
    /// Days after which the record of an applied change is deleted.
    pub keep_applied_changes_days: u32,
    /// Sessions that an account may have; opening another closes the oldest.
    pub sessions_per_account_max: u32,
    /// Watches that an account may have.
    pub watches_per_account_max: u32,
    /// Rows that one sweep deletes from a table, at most.
    pub sweep_rows_max: u32,
}

impl Default for SqliteStoreOptions {
    fn default() -> Self {
        Self {
            readers_max: 4,
            reader_wait_ms: 5_000,
            writer_wait_ms: 10_000,
            busy_timeout_ms: 5_000,
            writer_cache_kib: 65_536,
            reader_cache_kib: 4_096,
            checkpoint_kib: 32_768,
            prices_per_symbol: 200,
            keep_prices_days: 365,
            keep_alerts_days: 90,
            keep_deliveries_days: 90,
            keep_requests_h: 24,
            keep_applied_changes_days: 7,
            sessions_per_account_max: 20,
            watches_per_account_max: 1_000,
            sweep_rows_max: 5_000,
        }
    }
}

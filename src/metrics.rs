//! Every series on the metrics page: those of the original system under their names, and
//! Tripline's own. Label values come from fixed sets, so the cardinality is bounded.

mod labels;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use labels::{
    Function, KafkaBroker, Outcome, Peer, Reason, Service, Stage, SymbolLabel, Topic,
    TopicPartition,
};

/// Seconds: the original's buckets (0.1 to 5) and finer ones below.
const LATENCY_S: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];
/// Seconds, for what may take an outage long.
const DELIVERY_S: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 900.0, 3_600.0];

/// No labels: for a series that is there only once it is known.
type Unlabelled = [(&'static str, &'static str); 0];
type Seconds = Gauge<f64, AtomicU64>;

/// All series. Cheap to clone: clones count into the same series.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    hostname: String,
    monitored_tickers: Family<Service, Gauge>,
    cache_size: Family<Service, Gauge>,
    production_latency: Family<Service, Histogram, fn() -> Histogram>,
    request_to_yf: Family<Service, Counter>,
    response_time: Family<Function, Histogram, fn() -> Histogram>,
    requests: Family<Service, Counter>,
    success_requests: Family<Service, Counter>,
    login_failures: Family<Service, Counter>,
    /// `tripline_records_in_total`: records that a stage took.
    pub records_in: Family<Stage, Counter>,
    /// `tripline_records_out_total`: records that a stage passed on.
    pub records_out: Family<Stage, Counter>,
    /// `tripline_stage_seconds`: how long one batch took in a stage.
    pub stage_seconds: Family<Stage, Histogram, fn() -> Histogram>,
    /// `tripline_queue_depth`: what waits before a stage.
    pub queue_depth: Family<Stage, Gauge>,
    /// `tripline_retries_total`: calls of a stage that were repeated after a transient failure.
    pub retries: Family<Stage, Counter>,
    /// `tripline_consumer_lag`: records that a partition's consumer has not committed yet.
    pub consumer_lag: Family<TopicPartition, Gauge>,
    /// `tripline_kafka_produce_seconds`: from sending a batch until all in-sync replicas have it.
    pub kafka_produce_seconds: Family<Topic, Histogram, fn() -> Histogram>,
    /// `tripline_kafka_produce_retries_total`: batches that were sent again.
    pub kafka_produce_retries: Family<Topic, Counter>,
    /// `tripline_ticks_late_total`: late and repeated ticks, which change nothing.
    pub ticks_late: Counter,
    /// `tripline_ticks_refused_total`: ticks refused, by reason.
    pub ticks_refused: Family<Reason, Counter>,
    /// `tripline_tick_age_seconds`: age of the newest tick, by symbol.
    pub tick_age: Family<SymbolLabel, Seconds>,
    /// `tripline_tick_age_max_seconds`: age of the newest tick of the watched symbol that has
    /// waited longest.
    pub tick_age_max: Seconds,
    /// `tripline_alerts_total`: alerts made.
    pub alerts: Counter,
    /// `tripline_deliveries_total`: attempts to deliver, by outcome (`delivered`, `retry`,
    /// `unreachable`, `dead`).
    pub deliveries: Family<Outcome, Counter>,
    /// `tripline_deliveries_pending`: deliveries that wait.
    pub deliveries_pending: Gauge,
    /// `tripline_dead_letters`: dead letters, deliveries and records together.
    pub dead_letters: Gauge,
    /// `tripline_dead_records_total`: records set aside because they do not decode.
    pub dead_records: Counter,
    /// `tripline_tick_to_mail_seconds`: from a tick's acceptance to its mail's acceptance.
    pub tick_to_mail: Histogram,
    /// `tripline_breaker_open`: 0 closed, 1 half open, 2 open.
    pub breaker: Family<Peer, Gauge>,
    /// `tripline_request_repeats_total`: requests that got a recorded answer.
    pub request_repeats: Counter,
    /// `tripline_request_conflicts_total`: request ids used again for something else.
    pub request_conflicts: Counter,
    /// `tripline_kafka_brokers`: brokers in the cluster; 0 when it does not answer. This and those
    /// below it are the admin node's, and there only where Kafka is the broker.
    pub kafka_brokers: Family<Unlabelled, Gauge>,
    /// `tripline_kafka_partitions_under_replicated`: partitions with fewer in-sync replicas than
    /// replicas.
    pub kafka_partitions_under_replicated: Family<Topic, Gauge>,
    /// `tripline_kafka_partitions_under_min_isr`: partitions with fewer in-sync replicas than
    /// appends need.
    pub kafka_partitions_under_min_isr: Family<Topic, Gauge>,
    /// `tripline_kafka_partitions_offline`: partitions without a leader.
    pub kafka_partitions_offline: Family<Topic, Gauge>,
    /// `tripline_kafka_leader_partitions`: partitions that a broker leads.
    pub kafka_leader_partitions: Family<KafkaBroker, Gauge>,
    /// `tripline_ready`: 1 when `/readyz` says so, else 0.
    pub ready: Gauge,
    /// `tripline_partitions`: partitions of a topic, where this process shares them.
    pub partitions: Family<Topic, Gauge>,
    /// `tripline_partitions_owned`: those that run in this process.
    pub partitions_owned: Family<Topic, Gauge>,
    /// `tripline_streams`: open streams of alerts and quotes.
    pub streams: Gauge,
}

const SERVER: &str = "server_exporter";
const COLLECTOR: &str = "data_collector_exporter";
const YAHOO: &str = "data-collector";

/// The rpcs of the original, each of which has its series from the start.
pub const FUNCTIONS: [&str; 9] = [
    "RegisterUser",
    "UpdateUser",
    "DeleteUser",
    "LoginUser",
    "UpdateHighValue",
    "UpdateLowValue",
    "GetLatestValue",
    "GetAverageValue",
    "ShowDetails",
];

impl Metrics {
    /// All series, at zero, for this host.
    pub fn new(hostname: &str) -> Self {
        let mut metrics = Self::unregistered(hostname.to_owned());
        metrics.registry = Arc::new(metrics.register());
        metrics.touch();
        metrics
    }

    fn unregistered(hostname: String) -> Self {
        let latency: fn() -> Histogram = || Histogram::new(LATENCY_S);
        Self {
            registry: Arc::default(),
            hostname,
            monitored_tickers: Family::default(),
            cache_size: Family::default(),
            production_latency: Family::new_with_constructor(latency),
            request_to_yf: Family::default(),
            response_time: Family::new_with_constructor(latency),
            requests: Family::default(),
            success_requests: Family::default(),
            login_failures: Family::default(),
            records_in: Family::default(),
            records_out: Family::default(),
            stage_seconds: Family::new_with_constructor(latency),
            queue_depth: Family::default(),
            retries: Family::default(),
            consumer_lag: Family::default(),
            kafka_produce_seconds: Family::new_with_constructor(latency),
            kafka_produce_retries: Family::default(),
            ticks_late: Counter::default(),
            ticks_refused: Family::default(),
            tick_age: Family::default(),
            tick_age_max: Seconds::default(),
            alerts: Counter::default(),
            deliveries: Family::default(),
            deliveries_pending: Gauge::default(),
            dead_letters: Gauge::default(),
            dead_records: Counter::default(),
            tick_to_mail: Histogram::new(DELIVERY_S),
            breaker: Family::default(),
            request_repeats: Counter::default(),
            request_conflicts: Counter::default(),
            kafka_brokers: Family::default(),
            kafka_partitions_under_replicated: Family::default(),
            kafka_partitions_under_min_isr: Family::default(),
            kafka_partitions_offline: Family::default(),
            kafka_leader_partitions: Family::default(),
            ready: Gauge::default(),
            partitions: Family::default(),
            partitions_owned: Family::default(),
            streams: Gauge::default(),
        }
    }

    fn register(&self) -> Registry {
        let mut all = Registry::default();
        // The library adds the suffix _total to counters itself.
        all.register(
            "monitored_tickers",
            "Distinct tickers watched",
            self.monitored_tickers.clone(),
        );
        all.register("cache_size", "Entries in the request cache", self.cache_size.clone());
        all.register(
            "production_latency",
            "Seconds from the start of producing until the log has it for good",
            self.production_latency.clone(),
        );
        all.register("request_to_yf", "Requests that gave a price", self.request_to_yf.clone());
        all.register(
            "response_time_seconds",
            "Seconds that a call took, by rpc",
            self.response_time.clone(),
        );
        all.register("request", "Requests received", self.requests.clone());
        all.register(
            "success_request",
            "Requests answered with success",
            self.success_requests.clone(),
        );
        all.register("login_failures", "Failed logins", self.login_failures.clone());
        all.register(
            "build",
            "The version that runs",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        self.register_own(all.sub_registry_with_prefix("tripline"));
        all
    }

    fn register_own(&self, own: &mut Registry) {
        own.register("records_in", "Records that a stage took", self.records_in.clone());
        own.register("records_out", "Records that a stage passed on", self.records_out.clone());
        own.register("stage_seconds", "Seconds that a batch took", self.stage_seconds.clone());
        own.register("queue_depth", "What waits before a stage", self.queue_depth.clone());
        own.register("retries", "Calls repeated after a transient failure", self.retries.clone());
        own.register("consumer_lag", "Records not committed yet", self.consumer_lag.clone());
        own.register(
            "kafka_produce_seconds",
            "Seconds from sending a batch until all in-sync replicas have it",
            self.kafka_produce_seconds.clone(),
        );
        own.register(
            "kafka_produce_retries",
            "Batches sent to Kafka again",
            self.kafka_produce_retries.clone(),
        );
        own.register("ticks_late", "Late and repeated ticks", self.ticks_late.clone());
        own.register("ticks_refused", "Ticks refused", self.ticks_refused.clone());
        own.register("tick_age_seconds", "Age of the newest tick", self.tick_age.clone());
        own.register(
            "tick_age_max_seconds",
            "Age of the newest tick of the symbol that has waited longest",
            self.tick_age_max.clone(),
        );
        own.register("alerts", "Alerts made", self.alerts.clone());
        own.register("deliveries", "Attempts to deliver", self.deliveries.clone());
        own.register("deliveries_pending", "Deliveries that wait", self.deliveries_pending.clone());
        own.register("dead_letters", "Dead letters", self.dead_letters.clone());
        own.register("dead_records", "Records that do not decode", self.dead_records.clone());
        own.register(
            "tick_to_mail_seconds",
            "Seconds from a tick's acceptance to its mail's",
            self.tick_to_mail.clone(),
        );
        own.register("breaker_open", "0 closed, 1 half open, 2 open", self.breaker.clone());
        own.register(
            "request_repeats",
            "Requests that got a recorded answer",
            self.request_repeats.clone(),
        );
        own.register(
            "request_conflicts",
            "Request ids used again for something else",
            self.request_conflicts.clone(),
        );
        self.register_kafka(own);
        own.register("ready", "1 when the process is ready, else 0", self.ready.clone());
        own.register("partitions", "Partitions of a topic", self.partitions.clone());
        own.register(
            "partitions_owned",
            "Partitions that run in this process",
            self.partitions_owned.clone(),
        );
        own.register("streams", "Open streams of alerts and quotes", self.streams.clone());
    }

    fn register_kafka(&self, own: &mut Registry) {
        own.register("kafka_brokers", "Brokers of the cluster", self.kafka_brokers.clone());
        own.register(
            "kafka_partitions_under_replicated",
            "Partitions with fewer in-sync replicas than replicas",
            self.kafka_partitions_under_replicated.clone(),
        );
        own.register(
            "kafka_partitions_under_min_isr",
            "Partitions with fewer in-sync replicas than appends need",
            self.kafka_partitions_under_min_isr.clone(),
        );
        own.register(
            "kafka_partitions_offline",
            "Partitions without a leader",
            self.kafka_partitions_offline.clone(),
        );
        own.register(
            "kafka_leader_partitions",
            "Partitions that a broker leads",
            self.kafka_leader_partitions.clone(),
        );
    }

    /// Makes every series of a fixed label set visible before anything happened.
    fn touch(&self) {
        drop(self.monitored_tickers.get_or_create(&self.service(COLLECTOR)));
        drop(self.production_latency.get_or_create(&self.service(COLLECTOR)));
        drop(self.request_to_yf.get_or_create(&self.service(YAHOO)));
        for family in [&self.requests, &self.success_requests, &self.login_failures] {
            drop(family.get_or_create(&self.service(SERVER)));
        }
        drop(self.cache_size.get_or_create(&self.service(SERVER)));
        for function in FUNCTIONS {
            self.response_time(function, |_| ());
        }
        for stage in ["collect", "evaluate", "notify", "deliver"] {
            drop(self.records_in.get_or_create(&Stage { stage }));
            drop(self.records_out.get_or_create(&Stage { stage }));
            drop(self.stage_seconds.get_or_create(&Stage { stage }));
            drop(self.retries.get_or_create(&Stage { stage }));
        }
        drop(self.queue_depth.get_or_create(&Stage { stage: "deliver" }));
        for reason in ["future", "currency", "price", "symbol", "unknown"] {
            drop(self.ticks_refused.get_or_create(&Reason { reason }));
        }
        for outcome in ["delivered", "retry", "unreachable", "dead"] {
            drop(self.deliveries.get_or_create(&Outcome { outcome }));
        }
        for peer in ["market", "mail"] {
            drop(self.breaker.get_or_create(&Peer { peer }));
        }
    }

    fn service(&self, uservice: &'static str) -> Service {
        Service { uservice, hostname: self.hostname.clone() }
    }

    fn response_time<T>(&self, function: &'static str, with: impl FnOnce(&Histogram) -> T) -> T {
        let labels = Function { uservice: SERVER, hostname: self.hostname.clone(), function };
        with(&self.response_time.get_or_create(&labels))
    }

    /// Counts a request of either API.
    pub fn request(&self) {
        self.requests.get_or_create(&self.service(SERVER)).inc();
    }

    /// Counts how a request went; `function` is the rpc's name.
    pub fn responded(&self, function: &'static str, seconds: f64, success: bool) {
        self.response_time(function, |histogram| histogram.observe(seconds));
        if success {
            self.success_requests.get_or_create(&self.service(SERVER)).inc();
        }
    }

    /// Counts a login that failed, for whatever reason.
    pub fn login_failed(&self) {
        self.login_failures.get_or_create(&self.service(SERVER)).inc();
    }

    /// States the size of the request cache.
    pub fn set_cache_size(&self, entries: u64) {
        self.cache_size
            .get_or_create(&self.service(SERVER))
            .set(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    /// States how many distinct symbols are watched.
    pub fn set_monitored_tickers(&self, symbols: u64) {
        self.monitored_tickers
            .get_or_create(&self.service(COLLECTOR))
            .set(i64::try_from(symbols).unwrap_or(i64::MAX));
    }

    /// Observes how long producing took until the log had it for good.
    pub fn produced(&self, seconds: f64) {
        self.production_latency.get_or_create(&self.service(COLLECTOR)).observe(seconds);
    }

    /// Counts a request to Yahoo Finance that gave a price.
    pub fn yahoo_price(&self) {
        self.request_to_yf.get_or_create(&self.service(YAHOO)).inc();
    }

    /// The page, in the OpenMetrics text format.
    pub fn page(&self) -> String {
        let mut page = String::new();
        // Writing into a String cannot fail.
        let _ = encode(&mut page, &self.registry);
        page
    }

    /// The content type of the page; Prometheus 2.42 refuses it as plain text.
    pub const CONTENT_TYPE: &'static str =
        "application/openmetrics-text; version=1.0.0; charset=utf-8";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_there_from_the_start_under_its_name() {
        let metrics = Metrics::new("host-1");
        let page = metrics.page();
        for line in [
            r#"monitored_tickers{uservice="data_collector_exporter",hostname="host-1"} 0"#,
            r#"request_to_yf_total{uservice="data-collector",hostname="host-1"} 0"#,
            r#"cache_size{uservice="server_exporter",hostname="host-1"} 0"#,
            r#"request_total{uservice="server_exporter",hostname="host-1"} 0"#,
            r#"success_request_total{uservice="server_exporter",hostname="host-1"} 0"#,
            r#"login_failures_total{uservice="server_exporter",hostname="host-1"} 0"#,
            r#"production_latency_bucket{le="0.1",uservice="data_collector_exporter",hostname="host-1"} 0"#,
            r#"response_time_seconds_bucket{le="5.0",uservice="server_exporter",hostname="host-1",function="ShowDetails"} 0"#,
            r#"tripline_deliveries_total{outcome="delivered"} 0"#,
            concat!("build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(page.contains(line), "{line} is missing in\n{page}");
        }
    }
}

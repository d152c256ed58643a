//! Figures for Prometheus. Every name of every metric is a constant of this file, of `broker_metrics.rs`,
//! of `cluster_metrics.rs` or of `producer_metrics.rs`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};
use weir_broker::BrokerStats;
use weir_client::ProducerStats;

use super::broker_metrics;
use super::cluster_metrics::{self, ClusterFigures};
use super::producer_metrics;

/// Type label of events that have no schema: their number is not bounded by us.
const OTHER_TYPE: &str = "other";

/// Seconds; from a fast local ack to the deadline of a lane.
const BUCKETS_SECONDS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 10.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct EventLabels {
    topic: String,
    event_type: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaneLabel {
    lane: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: String,
}

pub(super) type FloatGauge = Gauge<f64, AtomicU64>;
type Durations = Family<EventLabels, Histogram, fn() -> Histogram>;

/// All metrics of the process.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    published: Family<EventLabels, Counter>,
    processing: Durations,
    rejected: Family<CodeLabel, Counter>,
    ledger: Family<ReasonLabel, Gauge>,
    lane_depth: Family<LaneLabel, Gauge>,
    queue_size: Gauge,
    throughput: FloatGauge,
    breaker_open: Gauge,
    damaged: Counter,
    evicted: Counter,
    cluster: Mutex<Option<ClusterFigures>>,
    connections: Gauge,
    connections_refused: Counter,
}

/// What is read from the traffic manager and the HTTP doors when a scrape comes.
#[derive(Debug, Default)]
pub(crate) struct TrafficGauges {
    /// Ledger entries by name.
    pub(crate) ledger: Vec<(String, u64)>,
    /// Events waiting, by lane.
    pub(crate) lanes: Vec<(&'static str, u64)>,
    pub(crate) throughput_per_sec: f64,
    pub(crate) breaker_open: bool,
    /// HTTP connections that are open, and those refused since the start.
    pub(crate) connections: usize,
    pub(crate) connections_refused: u64,
    /// The producer to Kafka, if there is one.
    pub(crate) producer: Option<ProducerStats>,
}

/// Makes metrics that begin at nothing.
struct Adder<'a> {
    registry: &'a mut Registry,
}

impl Adder<'_> {
    fn metric<M: Metric + Clone + Default>(&mut self, name: &'static str, help: &'static str) -> M {
        let metric = M::default();
        self.registry.register(name, help, metric.clone());
        metric
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let processing: Durations =
            Family::new_with_constructor(|| Histogram::new(BUCKETS_SECONDS));
        registry.register(
            "kafka_event_processing_duration_seconds",
            "Time spent processing Kafka events",
            processing.clone(),
        );
        // The names that begin with `kafka` are those of spec 001; the encoder adds `_total` to counters.
        let mut add = Adder { registry: &mut registry };
        let (published, rejected) = (
            add.metric("kafka_events_published", "Total number of events published to Kafka"),
            add.metric("weir_events_rejected", "Events refused, by error code"),
        );
        let ledger = add.metric(
            "weir_ledger_events",
            "The ledger: accepted = delivered + queued + in flight + spilled + dropped",
        );
        let lane_depth = add.metric("weir_lane_depth", "Events waiting in a lane");
        let queue_size = add.metric("weir_queue_size", "Events waiting in all lanes");
        let throughput =
            add.metric("weir_throughput_per_second", "Events delivered per second, recently");
        let breaker_open =
            add.metric("weir_circuit_breaker_open", "1 while the circuit breaker is not closed");
        let damaged = add.metric(
            "weir_worker_batches_skipped",
            "Damaged batches the fleet worker could not read and went past",
        );
        let evicted = add.metric(
            "weir_worker_devices_evicted",
            "Devices the fleet worker no longer follows because others came: those silent the longest",
        );
        let connections = add.metric(
            "weir_http_connections",
            "HTTP connections of gateway and console that are open, WebSockets included",
        );
        let connections_refused = add.metric(
            "weir_http_connections_refused",
            "HTTP connections refused, since there were too many",
        );
        Self {
            registry,
            damaged,
            evicted,
            cluster: Mutex::default(),
            connections,
            connections_refused,
            published,
            processing,
            rejected,
            ledger,
            lane_depth,
            queue_size,
            throughput,
            breaker_open,
        }
    }

    /// An event was acknowledged by Kafka.
    pub(crate) fn count_published(&self, topic: &str, event_type: &str) {
        self.published.get_or_create(&labels(topic, event_type)).inc();
    }

    /// A handler spent this long on one event.
    pub(crate) fn observe_processing(&self, topic: &str, event_type: &str, seconds: f64) {
        self.processing.get_or_create(&labels(topic, event_type)).observe(seconds);
    }

    /// An event was refused with this code.
    pub(crate) fn count_rejected(&self, code: &str) {
        self.rejected.get_or_create(&CodeLabel { code: code.to_owned() }).inc();
    }

    /// A batch that cannot be read was skipped.
    pub(crate) fn count_damaged(&self) {
        self.damaged.inc();
    }

    /// So many devices gave way to others.
    pub(crate) fn count_evicted(&self, devices: u64) {
        self.evicted.inc_by(devices);
    }

    /// What Kafka said last of its partitions and groups.
    pub(crate) fn set_cluster(&self, figures: ClusterFigures) {
        *self.cluster.lock().unwrap_or_else(PoisonError::into_inner) = Some(figures);
    }

    /// The text of a scrape; `broker` is the embedded one, if there is one.
    pub(crate) fn render(&self, traffic: &TrafficGauges, broker: Option<&BrokerStats>) -> String {
        for (reason, count) in &traffic.ledger {
            let label = ReasonLabel { reason: reason.clone() };
            self.ledger.get_or_create(&label).set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
        let mut waiting = 0;
        for (lane, depth) in &traffic.lanes {
            waiting += depth;
            let label = LaneLabel { lane: (*lane).to_owned() };
            self.lane_depth.get_or_create(&label).set(i64::try_from(*depth).unwrap_or(i64::MAX));
        }
        self.queue_size.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.throughput.set(traffic.throughput_per_sec);
        self.breaker_open.set(i64::from(traffic.breaker_open));
        self.connections.set(i64::try_from(traffic.connections).unwrap_or(i64::MAX));
        self.connections_refused.inner().store(traffic.connections_refused, Ordering::Relaxed);
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode_registry(&mut text, &self.registry);
        if let Some(figures) = &*self.cluster.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = cluster_metrics::encode(&mut text, figures);
        }
        if let Some(stats) = &traffic.producer {
            let _ = producer_metrics::encode(&mut text, stats);
        }
        if let Some(stats) = broker {
            let _ = broker_metrics::encode(&mut text, stats);
        }
        let _ = encode_eof(&mut text);
        text
    }
}

/// Types without a schema share one label, so that senders cannot make labels without bound.
/// Topics named by senders are bounded by the broker's own limits.
fn labels(topic: &str, event_type: &str) -> EventLabels {
    let known = weir_fleet::schema(event_type).is_some();
    let event_type = if known { event_type } else { OTHER_TYPE };
    EventLabels { topic: topic.to_owned(), event_type: event_type.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrape_has_the_names_of_the_specification() {
        let metrics = Metrics::new();
        metrics.count_published("drone-events", "drone.heartbeat");
        metrics.count_published("drone-events", "drone.made.up.1");
        metrics.count_published("drone-events", "drone.made.up.2");
        metrics.observe_processing("drone-events", "drone.heartbeat", 0.002);
        let traffic = TrafficGauges {
            ledger: vec![("delivered".to_owned(), 3)],
            lanes: vec![("urgent", 1), ("low", 2)],
            ..TrafficGauges::default()
        };
        let text = metrics.render(&traffic, None);
        for line in [
            "kafka_events_published_total{topic=\"drone-events\",event_type=\"drone.heartbeat\"} 1",
            "kafka_events_published_total{topic=\"drone-events\",event_type=\"other\"} 2",
            "weir_ledger_events{reason=\"delivered\"} 3",
            "weir_queue_size 3",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(
            text.contains("kafka_event_processing_duration_seconds_bucket{le=\"0.0025\""),
            "{text}"
        );
    }
}

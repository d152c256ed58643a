//! What `/stats` shows: the six fields of the specification, then what explains them.

use serde::Serialize;
use weir_client::Priority;

use crate::circuit_breaker::BreakerState;
use crate::config::TrafficConfig;
use crate::dedup::DedupStats;
use crate::ledger::Ledger;

/// A picture of a traffic manager.
#[derive(Debug, Clone, Serialize)]
pub struct TrafficStats {
    /// Events offered.
    pub total_messages: u64,
    /// Events that went into a lane other than urgent, ever: urgent ones are not buffered.
    pub buffered_messages: u64,
    /// Events that did not reach the sink: rejected, refused or dropped. The ledger tells which; the
    /// callers of rejected and refused ones know, so only `dropped` is loss.
    pub dropped_messages: u64,
    /// Events delivered per second, over the last four seconds.
    pub throughput_per_sec: f64,
    /// Events in lanes now.
    pub current_queue_size: u64,
    /// From admission to the sink's answer, mean of the last ten to twenty seconds.
    pub avg_processing_time_ms: f64,
    /// Where every event is.
    pub ledger: Ledger,
    /// The lanes, urgent first.
    pub lanes: Vec<LaneStats>,
    /// The circuit breaker.
    pub breaker: BreakerStats,
    /// What the sink is doing.
    pub sink: SinkStats,
    /// The window of event ids, which the shell keeps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dedup: Option<DedupStats>,
    /// The limits in force.
    pub limits: TrafficConfig,
}

/// A lane.
#[derive(Debug, Clone, Serialize)]
pub struct LaneStats {
    /// Its class.
    pub lane: &'static str,
    /// Events in it.
    pub depth: u64,
    /// Bytes in it.
    pub bytes: u64,
    /// Share of `buffer_size` used by events in it and in flight, 0 to 1.
    pub used: f64,
    /// Age of the oldest event in it.
    pub oldest_age_ms: Option<u64>,
    /// Events of it in flight.
    pub in_flight: u64,
    /// From admission to batch, median.
    pub queue_p50_ms: Option<f64>,
    /// From admission to batch, 99th percentile.
    pub queue_p99_ms: Option<f64>,
    /// From admission to the sink's answer, median.
    pub p50_ms: Option<f64>,
    /// From admission to the sink's answer, 99th percentile.
    pub p99_ms: Option<f64>,
    /// From admission to the sink's answer, 99.9th percentile.
    pub p999_ms: Option<f64>,
}

impl LaneStats {
    /// The class of this lane.
    #[must_use]
    pub fn priority(&self) -> Option<Priority> {
        Priority::ALL.into_iter().find(|priority| priority.name() == self.lane)
    }
}

/// The circuit breaker.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct BreakerStats {
    /// Its state.
    pub state: BreakerState,
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// How often it has opened.
    pub opened: u64,
    /// Probes that did not return in time.
    pub probes_hung: u64,
    /// When it lets the next batch through, if it is open.
    pub retry_after_ms: Option<u64>,
}

/// What the sink is doing.
#[derive(Debug, Clone, Serialize)]
pub struct SinkStats {
    /// Batches on their way.
    pub batches_in_flight: usize,
    /// Batches that came back, well or not.
    pub batches_done: u64,
    /// Batches of which nothing was delivered though something should have been.
    pub batches_failed: u64,
    /// Events put back into their lane after a failure.
    pub events_retried: u64,
    /// For how long nothing has got through, if so.
    pub away_ms: Option<u64>,
    /// Why the last attempt failed, if it did.
    pub last_error: Option<String>,
}

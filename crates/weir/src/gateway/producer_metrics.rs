//! The figures of the producer to Kafka, for Prometheus.
//!
//! Spec 003 asks for `record-error-rate`, `buffer-available-bytes` and
//! `kafka_producer_transaction_aborted_total`; its alert rule reads `kafka_producer_record_error_total`. Rates
//! are left to Prometheus, which makes them of counters.

use std::fmt;

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use weir_client::ProducerStats;

use super::metrics::FloatGauge;

/// Appends the figures to the text of a scrape, without its end mark.
pub(super) fn encode(text: &mut String, stats: &ProducerStats) -> fmt::Result {
    let mut registry = Registry::default();
    // The encoder adds `_total` to counters.
    let counters = [
        ("kafka_producer_record_send", "Records acknowledged by Kafka", stats.records_acked),
        ("kafka_producer_record_error", "Records that failed for good", stats.records_failed),
        ("kafka_producer_record_retry", "Batches sent again", stats.retries),
        (
            "kafka_producer_batch_split",
            "Batches that were too large and went in halves",
            stats.splits,
        ),
        ("kafka_producer_request", "Produce requests made", stats.requests),
        (
            "kafka_producer_transaction_committed",
            "Transactions committed",
            stats.transactions_committed,
        ),
        ("kafka_producer_transaction_aborted", "Transactions aborted", stats.transactions_aborted),
        (
            "kafka_producer_throttle_ms",
            "Milliseconds that quotas made the producer wait",
            stats.throttle_ms,
        ),
    ];
    for (name, help, value) in counters {
        let counter: Counter = Counter::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    }
    let seconds = |ms: f64| ms / 1_000.0;
    let gauges = [
        (
            "kafka_producer_buffer_available_bytes",
            "Bytes that can still wait for their answer",
            Some(stats.buffer_available_bytes() as f64),
        ),
        (
            "kafka_producer_batch_size_avg",
            "Bytes of a batch before compression",
            stats.batch_bytes_avg(),
        ),
        (
            "kafka_producer_request_latency_avg_seconds",
            "From a produce request to its answer, on average since the start",
            stats.request_latency_ms_avg().map(seconds),
        ),
        (
            "kafka_producer_request_latency_max_seconds",
            "The longest time from a produce request to its answer",
            Some(stats.request_latency_us_max as f64 / 1e6),
        ),
        (
            "kafka_producer_produce_throttle_time_avg_seconds",
            "How long an answer made the producer wait for its quota, on average since the start",
            stats.throttle_ms_avg().map(seconds),
        ),
    ];
    for (name, help, value) in gauges {
        let Some(value) = value else { continue };
        let gauge = FloatGauge::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    }
    encode_registry(text, &registry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::metrics::{Metrics, TrafficGauges};

    #[test]
    fn a_scrape_has_the_producer_by_the_names_of_the_specification() {
        let producer = ProducerStats {
            records_acked: 90,
            records_failed: 10,
            answers: 4,
            request_latency_us: 8_000,
            request_latency_us_max: 5_000,
            throttle_ms: 2_000,
            batches: 2,
            batch_bytes: 3_000,
            buffered_bytes: 1_000,
            buffer_bytes_max: 10_000,
            transactions_aborted: 3,
            ..ProducerStats::default()
        };
        let traffic = TrafficGauges { producer: Some(producer), ..TrafficGauges::default() };
        let text = Metrics::new().render(&traffic, None);
        for line in [
            "kafka_producer_record_error_total 10",
            "kafka_producer_transaction_aborted_total 3",
            "kafka_producer_buffer_available_bytes 9000.0",
            "kafka_producer_batch_size_avg 1500.0",
            "kafka_producer_request_latency_avg_seconds 0.002",
            "kafka_producer_request_latency_max_seconds 0.005",
            "kafka_producer_produce_throttle_time_avg_seconds 0.5",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
        }
    }
}

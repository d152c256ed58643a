//! The embedded broker's figures for Prometheus: cleaner, transactions, what waits.
//!
//! Spec 003 calls two of them `kafka.logs.cleaned-bytes-total` and `kafka.logs.dirty-ratios`. Prometheus takes neither
//! dots nor dashes in a name, so they are `kafka_logs_cleaned_bytes_total` and `kafka_logs_dirty_ratios` here. Counters
//! begin at 0 with the broker.

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use weir_broker::{BrokerStats, CleanerStats, TransactionStats};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// Bounded by the broker's own limit of partitions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartitionLabels {
    topic: String,
    partition: i32,
}

/// Appends the figures to the text of a scrape, without its end mark.
///
/// The registry lives as long as the scrape: what is gone from the broker, such as a partition that can be cleaned
/// again, is gone from the text.
pub(super) fn encode(text: &mut String, stats: &BrokerStats) -> fmt::Result {
    let mut registry = Registry::default();
    cleaner(&mut registry, &stats.cleaner);
    transactions(&mut registry, &stats.transactions);
    let gauges = [
        ("weir_broker_connections", "Connections to the embedded broker", stats.connections),
        ("weir_broker_fetches_waiting", "Fetches that wait for data", stats.fetches_waiting),
        ("weir_broker_commits_waiting", "Answers that wait for the disk", stats.commits_waiting),
        (
            "weir_broker_offline",
            "1 when the log directory is offline after a failed write",
            usize::from(stats.failure.is_some()),
        ),
    ];
    for (name, help, value) in gauges {
        gauge(&mut registry, name, help, value);
    }
    encode_registry(text, &registry)
}

fn cleaner(registry: &mut Registry, stats: &CleanerStats) {
    let counters = [
        (
            "kafka_logs_cleaned_bytes",
            "Bytes that compaction has made logs smaller by",
            stats.bytes_cleaned,
        ),
        ("weir_cleaner_runs", "Cleanings that came to their end", stats.runs),
        ("weir_cleaner_read_bytes", "Bytes read by cleaning, dirty ones twice", stats.bytes_read),
        ("weir_cleaner_written_bytes", "Bytes written by cleaning", stats.bytes_written),
        ("weir_cleaner_records_dropped", "Records left out by cleaning", stats.records_dropped),
        (
            "weir_cleaner_keyless_dropped",
            "Records without a key among those left out by cleaning",
            stats.keyless_dropped,
        ),
    ];
    for (name, help, value) in counters {
        counter(registry, name, help, value);
    }
    partitions(registry, stats);
    let ratio = Gauge::<f64, AtomicU64>::default();
    ratio.set(stats.dirty_ratio_max);
    registry.register(
        "weir_cleaner_dirty_ratio_max",
        "The largest of kafka_logs_dirty_ratios, without partitions that are left alone",
        ratio,
    );
    let last = Gauge::<f64, AtomicU64>::default();
    last.set(stats.last_run_ms as f64 / 1_000.0);
    let help = "How long the last cleaning took";
    registry.register_with_unit("weir_cleaner_last_run", help, Unit::Seconds, last);
    let running = usize::from(stats.running.is_some());
    gauge(registry, "weir_cleaner_running", "1 while a log is being cleaned", running);
    gauge(
        registry,
        "weir_cleaner_uncleanable_partitions",
        "Partitions that could not be cleaned and are left alone",
        stats.uncleanable.len(),
    );
    let uncleanable = Family::<PartitionLabels, Gauge>::default();
    for one in &stats.uncleanable {
        let labels = PartitionLabels { topic: one.topic.clone(), partition: one.partition };
        uncleanable.get_or_create(&labels).set(1);
    }
    registry.register(
        "weir_cleaner_uncleanable",
        "1 for each partition that is left alone; the broker's log has the reason",
        uncleanable,
    );
}

fn partitions(registry: &mut Registry, stats: &CleanerStats) {
    let ratios = Family::<PartitionLabels, Gauge<f64, AtomicU64>>::default();
    let cleaned = Family::<PartitionLabels, Counter>::default();
    for one in &stats.partitions {
        let labels = PartitionLabels { topic: one.topic.clone(), partition: one.partition };
        ratios.get_or_create(&labels).set(one.dirty_ratio);
        cleaned.get_or_create(&labels).inc_by(one.bytes_cleaned);
    }
    registry.register(
        "kafka_logs_dirty_ratios",
        "Share of bytes not yet cleaned in a compacted log, when the cleaner last looked",
        ratios,
    );
    registry.register(
        "weir_cleaner_partition_cleaned_bytes",
        "Bytes that compaction has made a log smaller by",
        cleaned,
    );
}

fn transactions(registry: &mut Registry, stats: &TransactionStats) {
    gauge(
        registry,
        "weir_transactional_ids",
        "Transactional ids that are known",
        stats.transactional_ids,
    );
    let open = Family::<StateLabel, Gauge>::default();
    for (state, count) in [("ongoing", stats.ongoing), ("ending", stats.ending)] {
        open.get_or_create(&StateLabel { state }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    registry.register(
        "weir_transactions",
        "Transactions that are open (ongoing), or decided with markers to write (ending)",
        open,
    );
    let ended = Family::<OutcomeLabel, Counter>::default();
    for (outcome, count) in [("committed", stats.committed), ("aborted", stats.aborted)] {
        ended.get_or_create(&OutcomeLabel { outcome }).inc_by(count);
    }
    registry.register("weir_transactions_ended", "Transactions that were decided", ended);
    counter(
        registry,
        "weir_transactions_timed_out",
        "Transactions among the aborted that took longer than they may",
        stats.timed_out,
    );
}

fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let counter = Counter::<u64>::default();
    counter.inc_by(value);
    registry.register(name, help, counter);
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: usize) {
    let gauge = Gauge::<i64>::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    registry.register(name, help, gauge);
}

#[cfg(test)]
mod tests {
    use weir_broker::{CleanedPartition, Uncleanable};

    use super::*;
    use crate::gateway::metrics::{Metrics, TrafficGauges};

    fn stats() -> BrokerStats {
        BrokerStats {
            connections: 7,
            transactions: TransactionStats {
                transactional_ids: 3,
                ongoing: 2,
                ending: 1,
                committed: 40,
                aborted: 5,
                timed_out: 4,
            },
            cleaner: CleanerStats {
                runs: 6,
                bytes_cleaned: 1_234,
                records_dropped: 99,
                dirty_ratio_max: 0.25,
                last_run_ms: 1_500,
                running: Some(("state".to_owned(), 0)),
                uncleanable: vec![Uncleanable {
                    topic: "state".to_owned(),
                    partition: 3,
                    reason: "damaged".to_owned(),
                }],
                partitions: vec![CleanedPartition {
                    topic: "state".to_owned(),
                    partition: 3,
                    dirty_ratio: 0.125,
                    bytes_cleaned: 1_000,
                }],
                ..CleanerStats::default()
            },
            ..BrokerStats::default()
        }
    }

    #[test]
    fn a_scrape_has_the_brokers_figures_under_the_names_of_the_specification() {
        let text = Metrics::new().render(&TrafficGauges::default(), Some(&stats()));
        for line in [
            "kafka_logs_cleaned_bytes_total 1234",
            "kafka_logs_dirty_ratios{topic=\"state\",partition=\"3\"} 0.125",
            "weir_cleaner_partition_cleaned_bytes_total{topic=\"state\",partition=\"3\"} 1000",
            "weir_cleaner_dirty_ratio_max 0.25",
            "weir_cleaner_runs_total 6",
            "weir_cleaner_records_dropped_total 99",
            "weir_cleaner_last_run_seconds 1.5",
            "weir_cleaner_running 1",
            "weir_cleaner_uncleanable_partitions 1",
            "weir_cleaner_uncleanable{topic=\"state\",partition=\"3\"} 1",
            "weir_transactional_ids 3",
            "weir_transactions{state=\"ongoing\"} 2",
            "weir_transactions{state=\"ending\"} 1",
            "weir_transactions_ended_total{outcome=\"committed\"} 40",
            "weir_transactions_ended_total{outcome=\"aborted\"} 5",
            "weir_transactions_timed_out_total 4",
            "weir_broker_connections 7",
            "weir_broker_offline 0",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_scrape_ends_once_with_a_broker_and_without() {
        let metrics = Metrics::new();
        for stats in [None, Some(&stats())] {
            let text = metrics.render(&TrafficGauges::default(), stats);
            assert!(text.ends_with("# EOF\n"), "{text}");
            assert_eq!(text.matches("# EOF").count(), 1, "{text}");
            assert_eq!(text.contains("kafka_logs_"), stats.is_some(), "{text}");
        }
    }
}

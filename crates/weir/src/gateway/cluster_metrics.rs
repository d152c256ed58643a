//! What any Kafka says of its partitions and groups, for Prometheus.
//!
//! `kafka_consumer_lag_sum`, `kafka_partition_online_replicas` and `kafka_partition_replicas` are the names in the
//! alert rules of spec 001, which hold as written there.

use std::fmt;

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// As of one second. Bounded by what the cluster has.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClusterFigures {
    pub(crate) partitions: Vec<PartitionFigures>,
    /// Group, and records behind in all partitions.
    pub(crate) lags: Vec<(String, u64)>,
}

#[derive(Debug, Clone)]
pub(crate) struct PartitionFigures {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    /// Copies that there should be.
    pub(crate) replicas: usize,
    /// Copies whose broker is there.
    pub(crate) online: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GroupLabel {
    group: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartitionLabels {
    topic: String,
    partition: i32,
}

/// Appends the figures to the text of a scrape, without its end mark. The registry lives as long as the scrape: what is
/// gone from the cluster is gone from the text.
pub(super) fn encode(text: &mut String, figures: &ClusterFigures) -> fmt::Result {
    let lag = Family::<GroupLabel, Gauge>::default();
    for (group, records) in &figures.lags {
        set(&lag, GroupLabel { group: group.clone() }, *records);
    }
    let online = Family::<PartitionLabels, Gauge>::default();
    let replicas = Family::<PartitionLabels, Gauge>::default();
    for one in &figures.partitions {
        let labels = PartitionLabels { topic: one.topic.clone(), partition: one.partition };
        set(&online, labels.clone(), one.online as u64);
        set(&replicas, labels, one.replicas as u64);
    }
    let mut registry = Registry::default();
    registry.register(
        "kafka_consumer_lag_sum",
        "Records a consumer group is behind, over all its partitions",
        lag,
    );
    registry.register(
        "kafka_partition_online_replicas",
        "Copies of a partition whose broker is there",
        online,
    );
    registry.register("kafka_partition_replicas", "Copies of a partition", replicas);
    encode_registry(text, &registry)
}

fn set<L: Clone + std::hash::Hash + Eq>(family: &Family<L, Gauge>, labels: L, value: u64) {
    family.get_or_create(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::metrics::{Metrics, TrafficGauges};

    #[test]
    fn a_scrape_has_what_the_alert_rules_of_the_specification_ask_for() {
        let metrics = Metrics::new();
        let partition = |partition, online| PartitionFigures {
            topic: "drone-events".to_owned(),
            partition,
            replicas: 3,
            online,
        };
        metrics.set_cluster(ClusterFigures {
            partitions: vec![partition(0, 3), partition(1, 2)],
            lags: vec![("gone".to_owned(), 5)],
        });
        metrics.set_cluster(ClusterFigures {
            partitions: vec![partition(0, 3), partition(1, 2)],
            lags: vec![("weir-fleet".to_owned(), 1_200)],
        });
        let text = metrics.render(&TrafficGauges::default(), None);
        for line in [
            "kafka_consumer_lag_sum{group=\"weir-fleet\"} 1200",
            "kafka_partition_online_replicas{topic=\"drone-events\",partition=\"0\"} 3",
            "kafka_partition_online_replicas{topic=\"drone-events\",partition=\"1\"} 2",
            "kafka_partition_replicas{topic=\"drone-events\",partition=\"1\"} 3",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("gone"), "{text}");
    }
}

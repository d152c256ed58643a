//! What is known of the cluster: brokers, topics, leaders. A value; the client refreshes it.

use std::collections::{BTreeMap, HashMap};

use weir_protocol::api::metadata::{MetadataResponse, MetadataResponseTopic};
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{LeaderEpoch, NodeId, PartitionId, Str, Uuid};

use crate::connection::Endpoint;

/// A view of the cluster at one time.
#[derive(Debug, Clone, Default)]
pub struct ClusterView {
    /// The cluster's id, if the broker says it.
    pub cluster_id: Option<Str>,
    /// The controller, if there is one.
    pub controller: Option<NodeId>,
    /// Brokers by node.
    pub brokers: BTreeMap<NodeId, Endpoint>,
    /// Topics asked for so far, by name.
    pub topics: HashMap<Str, TopicView>,
}

/// A topic at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicView {
    /// Its id; zero where the broker gives none.
    pub id: Uuid,
    /// Whether it is Kafka's own.
    pub internal: bool,
    /// What the broker says of the topic as a whole.
    pub error: ErrorCode,
    /// Partitions in order of their number.
    pub partitions: Vec<PartitionView>,
}

/// A partition at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionView {
    /// Its leader, if it has one.
    pub leader: Option<NodeId>,
    /// The leader's epoch; -1 where not known.
    pub leader_epoch: LeaderEpoch,
    /// Nodes that have copies.
    pub replicas: Vec<NodeId>,
    /// Nodes whose copies are up to date.
    pub in_sync: Vec<NodeId>,
    /// Nodes with copies that are not there.
    pub offline: Vec<NodeId>,
}

impl TopicView {
    /// The partition of this number.
    pub fn partition(&self, partition: PartitionId) -> Option<&PartitionView> {
        self.partitions.get(usize::try_from(partition.get()).ok()?)
    }

    /// Leaders in order of partition.
    pub fn leaders(&self) -> Vec<Option<NodeId>> {
        self.partitions.iter().map(|partition| partition.leader).collect()
    }
}

impl ClusterView {
    /// Takes over an answer: brokers as a whole, topics one by one.
    ///
    /// An answer may be older than what is known, as each broker learns of changes in its own time: a
    /// leader with a lower epoch, of the same topic id, is not taken over (KIP-320).
    pub fn update(&mut self, response: MetadataResponse) {
        self.cluster_id = response.cluster_id.or_else(|| self.cluster_id.take());
        self.controller = node(response.controller_id);
        if !response.brokers.is_empty() {
            let endpoints = response.brokers.into_iter().filter_map(|broker| {
                let port = u16::try_from(broker.port).ok()?;
                Some((NodeId(broker.node_id), Endpoint { host: broker.host, port }))
            });
            self.brokers = endpoints.collect();
        }
        for topic in response.topics {
            self.update_topic(topic);
        }
    }

    fn update_topic(&mut self, topic: MetadataResponseTopic) {
        let Some(name) = topic.name.clone() else { return };
        let mut view = topic_view(topic);
        if let Some(known) = self.topics.get(&name) {
            if view.partitions.is_empty() && !known.partitions.is_empty() {
                // Gone or out of reach for now: leaders stay known, the error tells.
                view.partitions.clone_from(&known.partitions);
                view.id = known.id;
            } else if known.id == view.id {
                for (new, old) in view.partitions.iter_mut().zip(&known.partitions) {
                    if new.leader_epoch < old.leader_epoch {
                        new.clone_from(old);
                    }
                }
                // A topic loses no partitions: who has fewer has not heard of the others yet.
                let heard_of = view.partitions.len();
                view.partitions.extend(known.partitions.iter().skip(heard_of).cloned());
            }
        }
        self.topics.insert(name, view);
    }
}

/// A topic as the broker describes it, whatever was known before.
pub(crate) fn topic_view(topic: MetadataResponseTopic) -> TopicView {
    let mut partitions = topic.partitions;
    partitions.sort_by_key(|partition| partition.partition_index);
    // Numbers run from 0 without gaps; what does not fit is not addressed.
    let dense = partitions
        .into_iter()
        .enumerate()
        .take_while(|(number, partition)| i32::try_from(*number) == Ok(partition.partition_index));
    let nodes = |ids: Vec<i32>| ids.into_iter().map(NodeId).collect();
    let views = dense.map(|(_, partition)| PartitionView {
        leader: node(partition.leader_id),
        leader_epoch: LeaderEpoch(partition.leader_epoch),
        replicas: nodes(partition.replica_nodes),
        in_sync: nodes(partition.isr_nodes),
        offline: nodes(partition.offline_replicas),
    });
    TopicView {
        id: topic.topic_id,
        internal: topic.is_internal,
        error: ErrorCode::from_code(topic.error_code),
        partitions: views.collect(),
    }
}

/// Kafka writes -1 for "none".
fn node(id: i32) -> Option<NodeId> {
    (id >= 0).then_some(NodeId(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_protocol::api::metadata::{MetadataResponseBroker, MetadataResponsePartition};

    fn answer(leader: i32, epoch: i32, id: u8) -> MetadataResponse {
        MetadataResponse {
            brokers: vec![MetadataResponseBroker {
                node_id: leader,
                host: Str::from("h"),
                port: 9092,
                ..MetadataResponseBroker::default()
            }],
            topics: vec![MetadataResponseTopic {
                name: Some(Str::from("t")),
                topic_id: Uuid([id; 16]),
                partitions: vec![MetadataResponsePartition {
                    leader_id: leader,
                    leader_epoch: epoch,
                    ..MetadataResponsePartition::default()
                }],
                ..MetadataResponseTopic::default()
            }],
            ..MetadataResponse::default()
        }
    }

    fn leader(view: &ClusterView) -> Option<i32> {
        view.topics["t"].partitions[0].leader.map(NodeId::get)
    }

    #[test]
    fn an_older_leader_epoch_is_not_taken_over() {
        let mut view = ClusterView::default();
        view.update(answer(1, 5, 1));
        view.update(answer(2, 4, 1));
        assert_eq!(leader(&view), Some(1));
        view.update(answer(2, 6, 1));
        assert_eq!(leader(&view), Some(2));
    }

    #[test]
    fn an_older_answer_takes_no_partitions_away() {
        let mut more = answer(1, 5, 1);
        let partition = MetadataResponsePartition {
            partition_index: 1,
            ..more.topics[0].partitions[0].clone()
        };
        more.topics[0].partitions.push(partition);
        let mut view = ClusterView::default();
        view.update(more);
        view.update(answer(1, 5, 1));
        assert_eq!(view.topics["t"].partitions.len(), 2);
        // Made again it may well have fewer.
        view.update(answer(1, 0, 2));
        assert_eq!(view.topics["t"].partitions.len(), 1);
    }

    #[test]
    fn a_topic_made_again_starts_over() {
        let mut view = ClusterView::default();
        view.update(answer(1, 5, 1));
        view.update(answer(2, 0, 2));
        assert_eq!(leader(&view), Some(2));
    }

    #[test]
    fn partitions_of_a_lost_topic_stay_known() {
        let mut view = ClusterView::default();
        view.update(answer(1, 5, 1));
        let mut gone = answer(1, 5, 1);
        gone.topics[0].partitions.clear();
        gone.topics[0].error_code = ErrorCode::UnknownTopicOrPartition.code();
        view.update(gone);
        assert_eq!(leader(&view), Some(1));
        assert_eq!(view.topics["t"].error, ErrorCode::UnknownTopicOrPartition);
    }

    #[test]
    fn gaps_in_partition_numbers_are_not_addressed() {
        let mut response = answer(1, 5, 1);
        response.topics[0].partitions[0].partition_index = 3;
        let mut view = ClusterView::default();
        view.update(response);
        assert!(view.topics["t"].partitions.is_empty());
    }
}

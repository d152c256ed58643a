//! In which order commits were asked for, and which of them are still good. Pure.

use std::collections::BTreeMap;

use weir_protocol::api::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use weir_protocol::types::{LeaderEpoch, Str};

use super::holdings::Tenure;
use crate::consumer::{PartitionOffset, TopicPartition};

/// An older commit must not undo a newer one.
#[derive(Debug, Default)]
pub(crate) struct CommitOrder {
    next: u64,
    by_partition: BTreeMap<TopicPartition, Newest>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Newest {
    /// The last commit in the background asked for; those before it are of no use any more.
    in_background: u64,
    /// The last commit of any kind the broker took.
    done: u64,
}

/// A commit as it was asked for: in which generation, in which stay of each of its partitions, and as
/// which one in order.
#[derive(Debug)]
pub(crate) struct CommitTicket {
    /// Generation or member epoch; none without a place in the group.
    pub(crate) epoch: Option<i32>,
    /// By offset; none for partitions that are not held.
    pub(crate) tenures: Vec<Option<Tenure>>,
    number: u64,
    in_background: bool,
}

impl CommitOrder {
    /// Notes that this is asked for.
    pub(crate) fn ticket(
        &mut self,
        offsets: &[PartitionOffset],
        in_background: bool,
        member: (Option<i32>, Vec<Option<Tenure>>),
    ) -> CommitTicket {
        self.next += 1;
        let number = self.next;
        if in_background {
            for entry in offsets {
                let newest = self.by_partition.entry(entry.partition.clone()).or_default();
                newest.in_background = number;
            }
        }
        let (epoch, tenures) = member;
        CommitTicket { epoch, tenures, number, in_background }
    }

    /// Whether no newer commit has overtaken this offset.
    pub(crate) fn is_wanted(&self, entry: &PartitionOffset, ticket: &CommitTicket) -> bool {
        let newest = self.by_partition.get(&entry.partition).copied().unwrap_or_default();
        newest.done < ticket.number
            && !(ticket.in_background && newest.in_background > ticket.number)
    }

    /// The broker took these.
    pub(crate) fn note_done(&mut self, offsets: &[PartitionOffset], ticket: &CommitTicket) {
        for entry in offsets {
            let newest = self.by_partition.entry(entry.partition.clone()).or_default();
            newest.done = newest.done.max(ticket.number);
        }
    }
}

/// Offsets as OffsetCommit has them.
pub(crate) fn commit_topics(offsets: &[PartitionOffset]) -> Vec<OffsetCommitRequestTopic> {
    let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
    for entry in offsets {
        let partition = OffsetCommitRequestPartition {
            partition_index: entry.partition.partition.get(),
            committed_offset: entry.offset.get(),
            committed_leader_epoch: entry.leader_epoch.map_or(-1, LeaderEpoch::get),
            // Kafka itself writes an empty string where there is nothing to say.
            committed_metadata: Some(Str::default()),
        };
        match topics.iter_mut().find(|topic| topic.name == entry.partition.topic) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(OffsetCommitRequestTopic {
                name: entry.partition.topic.clone(),
                partitions: vec![partition],
            }),
        }
    }
    topics
}

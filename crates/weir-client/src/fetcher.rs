//! The consumer's core: positions, what is being fetched, what has been. Pure.
//!
//! # What holds
//! - `position` is the next offset `poll` returns; it moves only when records are handed over, so a
//!   dropped `poll` loses nothing.
//! - Each assignment or seek of a partition gets a new epoch; what was fetched under an older one is
//!   dropped.
//! - Bytes fetched and not handed over stay under `prefetch_bytes_max` plus one answer.

mod chunk;
mod fetching;
mod positions;

use std::collections::{BTreeMap, HashSet, VecDeque};

use weir_protocol::types::{LeaderEpoch, NodeId, Offset, PartitionId, Str, TimestampMs};

use crate::accumulator::MonoMs;
use crate::config::{AutoOffsetReset, ConsumerConfig};
use crate::consumer::{PartitionOffset, TopicPartition};
use crate::error::ClientError;
use crate::metadata::ClusterView;

use chunk::Chunk;

pub(crate) use fetching::{Fetching, Plan};

/// Where a partition without a position starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// At the group's committed offset, else by `auto_offset_reset`.
    Committed,
    /// By `auto_offset_reset`.
    Reset(AutoOffsetReset),
    /// At the first record of this time or later, else at the end.
    Time(TimestampMs),
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct FetchState {
    config: ConsumerConfig,
    partitions: BTreeMap<TopicPartition, Partition>,
    next_epoch: u64,
    chunks: VecDeque<Chunk>,
    buffered_bytes: usize,
    /// What `poll` has to tell, the newest per partition.
    errors: VecDeque<(TopicPartition, ClientError)>,
}

/// The next offset, and the leader epoch of the last batch before it, if known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    offset: Offset,
    leader_epoch: Option<LeaderEpoch>,
}

impl Place {
    fn of(self, partition: &TopicPartition) -> PartitionOffset {
        let Place { offset, leader_epoch } = self;
        PartitionOffset { partition: partition.clone(), offset, leader_epoch }
    }
}

#[derive(Debug)]
struct Partition {
    epoch: u64,
    position: Option<Place>,
    /// What `poll` had returned when it was called last: that much has been dealt with.
    consumed: Option<Place>,
    fetch_at: Option<Offset>,
    start: Start,
    /// Its start could not be found, or what comes next is damaged; told once, then it waits for a
    /// seek.
    failed: bool,
    paused: bool,
    fetching: bool,
    buffered_bytes: usize,
    end: Option<Offset>,
    retry_at: MonoMs,
}

impl FetchState {
    pub(crate) fn new(config: ConsumerConfig) -> Self {
        FetchState {
            config,
            partitions: BTreeMap::new(),
            next_epoch: 1,
            chunks: VecDeque::new(),
            buffered_bytes: 0,
            errors: VecDeque::new(),
        }
    }

    /// Replaces the assignment. Partitions in both keep their place.
    pub(crate) fn assign(&mut self, partitions: &[TopicPartition], start: Start) {
        let wanted: HashSet<&TopicPartition> = partitions.iter().collect();
        self.partitions.retain(|partition, _| wanted.contains(partition));
        self.errors.retain(|(partition, _)| wanted.contains(partition));
        self.add(partitions, start);
        self.drop_stale();
    }

    /// Takes these beside those that are assigned. Partitions that are keep their place.
    pub(crate) fn add(&mut self, partitions: &[TopicPartition], start: Start) {
        for partition in partitions {
            if !self.partitions.contains_key(partition) {
                let epoch = self.new_epoch();
                self.partitions.insert(partition.clone(), Partition::new(epoch, start));
            }
        }
    }

    /// Gives these up.
    pub(crate) fn unassign(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.partitions.remove(partition);
        }
        let assigned = &self.partitions;
        self.errors.retain(|(partition, _)| assigned.contains_key(partition));
        self.drop_stale();
    }

    pub(crate) fn assignment(&self) -> Vec<TopicPartition> {
        self.partitions.keys().cloned().collect()
    }

    /// Reads from here next; `false` if the partition is not assigned.
    pub(crate) fn seek(&mut self, partition: &TopicPartition, to: Offset) -> bool {
        self.restart(partition, |state| state.place(to, None))
    }

    /// Finds the place again by `start`; `false` if the partition is not assigned.
    pub(crate) fn seek_by(&mut self, partition: &TopicPartition, start: Start) -> bool {
        self.restart(partition, |state| {
            state.position = None;
            state.consumed = None;
            state.fetch_at = None;
            state.start = start;
        })
    }

    fn restart(&mut self, partition: &TopicPartition, edit: impl FnOnce(&mut Partition)) -> bool {
        let epoch = self.new_epoch();
        let Some(state) = self.partitions.get_mut(partition) else { return false };
        state.epoch = epoch;
        state.failed = false;
        // A fetch under way is of the old epoch; its answer will be dropped.
        state.fetching = false;
        state.retry_at = MonoMs::default();
        edit(state);
        self.errors.retain(|(of, _)| of != partition);
        self.drop_stale();
        true
    }

    fn new_epoch(&mut self) -> u64 {
        self.next_epoch += 1;
        self.next_epoch
    }

    fn drop_stale(&mut self) {
        let partitions = &mut self.partitions;
        let mut freed = 0;
        self.chunks.retain(|chunk| {
            let state = partitions.get_mut(&chunk.partition);
            let is_current = state.as_ref().is_some_and(|state| state.epoch == chunk.epoch);
            if !is_current {
                freed += chunk.bytes_held;
                if let Some(state) = state {
                    state.buffered_bytes -= chunk.bytes_held;
                }
            }
            is_current
        });
        self.buffered_bytes -= freed;
    }

    pub(crate) fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        Some(self.partitions.get(partition)?.position?.offset)
    }

    /// Positions of all partitions that have one.
    pub(crate) fn positions(&self) -> Vec<PartitionOffset> {
        let of =
            |(partition, state): (&TopicPartition, &Partition)| Some(state.position?.of(partition));
        self.partitions.iter().filter_map(of).collect()
    }

    /// Notes that everything returned so far has been dealt with.
    pub(crate) fn note_consumed(&mut self) {
        for state in self.partitions.values_mut() {
            state.consumed = state.position;
        }
    }

    /// What has been dealt with, as offsets to commit.
    pub(crate) fn consumed(&self) -> Vec<PartitionOffset> {
        let of =
            |(partition, state): (&TopicPartition, &Partition)| Some(state.consumed?.of(partition));
        self.partitions.iter().filter_map(of).collect()
    }

    /// Records between position and end, per partition where both are known.
    pub(crate) fn lag(&self) -> Vec<(TopicPartition, i64)> {
        let of = |(partition, state): (&TopicPartition, &Partition)| {
            let lag = state.end?.get() - state.position?.offset.get();
            Some((partition.clone(), lag.max(0)))
        };
        self.partitions.iter().filter_map(of).collect()
    }

    pub(crate) fn set_paused(&mut self, partitions: &[TopicPartition], paused: bool) {
        for partition in partitions {
            if let Some(state) = self.partitions.get_mut(partition) {
                state.paused = paused;
            }
        }
    }

    pub(crate) fn take_error(&mut self) -> Option<ClientError> {
        self.errors.pop_front().map(|(_, error)| error)
    }

    /// Leaves the error for `poll`. One per partition: who polls seldom must not find a heap of them.
    fn tell(&mut self, partition: &TopicPartition, error: ClientError) {
        match self.errors.iter_mut().find(|(of, _)| of == partition) {
            Some((_, pending)) => *pending = error,
            None => self.errors.push_back((partition.clone(), error)),
        }
    }
}

impl Partition {
    fn new(epoch: u64, start: Start) -> Self {
        Partition {
            epoch,
            position: None,
            consumed: None,
            fetch_at: None,
            start,
            failed: false,
            paused: false,
            fetching: false,
            buffered_bytes: 0,
            end: None,
            retry_at: MonoMs::default(),
        }
    }

    fn place(&mut self, offset: Offset, leader_epoch: Option<LeaderEpoch>) {
        let place = Some(Place { offset, leader_epoch });
        self.position = place;
        self.consumed = place;
        self.fetch_at = Some(offset);
    }
}

fn leader(view: &ClusterView, partition: &TopicPartition) -> Option<NodeId> {
    view.topics.get(&partition.topic)?.partition(partition.partition)?.leader
}

/// For tests and the shell: a partition by parts.
pub(crate) fn topic_partition(topic: &Str, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic.clone(), partition: PartitionId(partition) }
}

#[cfg(test)]
mod tests;

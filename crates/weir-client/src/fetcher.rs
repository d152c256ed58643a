//! The consumer's core: positions, what is being fetched, what has been. Pure.
//!
//! # What holds
//! - `position` is the next offset `poll` returns; it moves only when records are handed over, so a
//!   dropped `poll` loses nothing.
//! - Each assignment or seek of a partition gets a new epoch; what was fetched under an older one is
//!   dropped.
//! - Bytes fetched and not handed over, compressed as they come, stay under `prefetch_bytes_max` plus
//!   one answer of each broker.

mod chunk;
mod fetching;
mod positions;
mod session;
mod unfinished;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use weir_protocol::types::{LeaderEpoch, NodeId, Offset, PartitionId, Str, TimestampMs, Uuid};

use crate::accumulator::MonoMs;
use crate::config::{AutoOffsetReset, ConsumerConfig};
use crate::consumer::{PartitionOffset, TopicPartition};
use crate::error::ClientError;
use crate::metadata::ClusterView;

use chunk::Chunk;
use session::FetchSession;
use unfinished::Unfinished;

pub(crate) use fetching::{Fetching, Plan};
pub(crate) use positions::Check;

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
    sessions: HashMap<NodeId, FetchSession>,
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
    /// The epoch since which its position moved only by what was handed over: later ones dropped what was
    /// fetched, to fetch it again.
    placed_epoch: u64,
    position: Option<Place>,
    /// What `poll` had returned when it was called last: that much has been dealt with.
    consumed: Option<Place>,
    fetch_at: Option<Offset>,
    /// The log has nothing from here on, as it seemed ahead of `poll`: once the position is here that is
    /// looked at again.
    gone_from: Option<Offset>,
    /// The leader epoch of the last batch before `fetch_at`, if known.
    fetched_epoch: Option<LeaderEpoch>,
    /// The newest leader epoch that is known to have what was read.
    checked_epoch: LeaderEpoch,
    /// A newer leader is to be asked whether it has what was read.
    check_due: bool,
    /// The topic it was fetched from last; zero for none.
    topic_id: Uuid,
    /// Records that `poll` returned and nobody has called done; empty where nobody does.
    unfinished: Unfinished,
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
            sessions: HashMap::new(),
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
            state.topic_id = Uuid::ZERO;
            state.check_due = false;
            state.start = start;
        })
    }

    fn restart(&mut self, partition: &TopicPartition, edit: impl FnOnce(&mut Partition)) -> bool {
        let epoch = self.new_epoch();
        let Some(state) = self.partitions.get_mut(partition) else { return false };
        state.epoch = epoch;
        state.placed_epoch = epoch;
        state.failed = false;
        // A fetch under way is of the old epoch; its answer will be dropped.
        state.fetching = false;
        state.retry_at = MonoMs::default();
        state.gone_from = None;
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
        let of = |(partition, state): (&TopicPartition, &Partition)| {
            Some(state.up_to_unfinished(state.position?).of(partition))
        };
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
        let of = |(partition, state): (&TopicPartition, &Partition)| {
            Some(state.up_to_unfinished(state.consumed?).of(partition))
        };
        self.partitions.iter().filter_map(of).collect()
    }

    /// Whether what was read of this partition is of an earlier topic than the one of this id.
    pub(crate) fn is_of_another(&self, partition: &TopicPartition, topic_id: Uuid) -> bool {
        self.partitions.get(partition).is_some_and(|state| state.is_of_another(topic_id))
    }

    /// Notes that these were handed over and are under work until they are called done.
    pub(crate) fn begin_work(
        &mut self,
        partition: &TopicPartition,
        epoch: u64,
        offsets: impl Iterator<Item = Offset>,
    ) {
        if let Some(state) = self.at_same_place(partition, epoch) {
            state.unfinished.begin(offsets);
        }
    }

    /// This record is done with; `false` if it was not under work.
    pub(crate) fn finish(&mut self, partition: &TopicPartition, offset: Offset) -> bool {
        let state = self.partitions.get_mut(partition);
        state.is_some_and(|state| state.unfinished.finish(offset))
    }

    /// How old the next record is, in milliseconds, per partition where it is known: 0 where there is
    /// none. By the first timestamp of its batch.
    pub(crate) fn lag_ms(&self, now: TimestampMs) -> Vec<(TopicPartition, i64)> {
        let of = |(partition, state): (&TopicPartition, &Partition)| {
            if state.end?.get() <= state.position?.offset.get() {
                return Some((partition.clone(), 0));
            }
            let next = self.chunks.iter().find(|chunk| chunk.partition == *partition)?;
            let age = now.get().saturating_sub(next.first_timestamp?.get());
            Some((partition.clone(), age.max(0)))
        };
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
            placed_epoch: epoch,
            position: None,
            consumed: None,
            fetch_at: None,
            gone_from: None,
            fetched_epoch: None,
            checked_epoch: LeaderEpoch(-1),
            check_due: false,
            topic_id: Uuid::ZERO,
            unfinished: Unfinished::default(),
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
        self.fetched_epoch = leader_epoch;
        // The next fetch sees whether there is something to check.
        self.checked_epoch = LeaderEpoch(-1);
        self.check_due = false;
        // What is read again from here is begun again; what lies before is under work still.
        self.unfinished.keep_before(offset);
    }

    /// This place, or the first record before it that is not done.
    fn up_to_unfinished(&self, place: Place) -> Place {
        match self.unfinished.first().filter(|first| *first < place.offset) {
            Some(offset) => Place { offset, leader_epoch: None },
            None => place,
        }
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

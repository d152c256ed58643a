//! Finding where partitions start, and whether what was read is in the log still (KIP-320). Pure.

use weir_protocol::types::{LeaderEpoch, NodeId, Offset, Uuid};

use super::{FetchState, Partition, Place, Start};
use crate::config::AutoOffsetReset;
use crate::consumer::TopicPartition;
use crate::error::ClientError;
use crate::metadata::ClusterView;

/// Finding positions.
impl FetchState {
    /// Partitions whose position is to be found.
    pub(crate) fn unresolved(&self) -> Vec<(TopicPartition, u64, Start)> {
        let needs =
            |(_, state): &(&TopicPartition, &Partition)| state.position.is_none() && !state.failed;
        let of = |(partition, state): (&TopicPartition, &Partition)| {
            (partition.clone(), state.epoch, state.start)
        };
        self.partitions.iter().filter(needs).map(of).collect()
    }

    /// A position was found.
    pub(crate) fn resolve(
        &mut self,
        partition: &TopicPartition,
        epoch: u64,
        at: Offset,
        leader_epoch: Option<LeaderEpoch>,
    ) {
        // An answer that was given up and came all the same moves nothing.
        if let Some(state) = self.current(partition, epoch).filter(|state| state.position.is_none())
        {
            state.place(at, leader_epoch);
        }
    }

    /// There is no committed offset: go on with `auto_offset_reset`.
    pub(crate) fn no_committed(&mut self, partition: &TopicPartition, epoch: u64) {
        let reset = self.config.auto_offset_reset;
        let Some(state) = self.current(partition, epoch).filter(|state| state.position.is_none())
        else {
            return;
        };
        state.start = Start::Reset(reset);
        if reset == AutoOffsetReset::None {
            state.failed = true;
            let error = ClientError::NoOffset {
                topic: partition.topic.to_string(),
                partition: partition.partition,
            };
            self.tell(partition, error);
        }
    }

    /// The position cannot be found for a reason that does not pass.
    pub(crate) fn unresolvable(
        &mut self,
        partition: &TopicPartition,
        epoch: u64,
        error: &ClientError,
    ) {
        if let Some(state) = self.current(partition, epoch).filter(|state| state.position.is_none())
        {
            state.failed = true;
            self.tell(partition, error.clone());
        }
    }

    /// What was read cannot be checked, and the program is to know why.
    pub(crate) fn uncheckable(&mut self, check: &Check, error: ClientError) {
        if self.current(&check.partition, check.epoch).is_some() {
            self.tell(&check.partition, error);
        }
    }

    pub(super) fn current(
        &mut self,
        partition: &TopicPartition,
        epoch: u64,
    ) -> Option<&mut Partition> {
        self.partitions.get_mut(partition).filter(|state| state.epoch == epoch)
    }

    /// As [`FetchState::current`], also where the partition was only fetched again since.
    pub(super) fn at_same_place(
        &mut self,
        partition: &TopicPartition,
        epoch: u64,
    ) -> Option<&mut Partition> {
        self.partitions.get_mut(partition).filter(|state| state.placed_epoch <= epoch)
    }

    /// Partitions whose leader has changed since they were read: whether it has what we read is to be
    /// asked for.
    pub(crate) fn to_check(&self, view: &ClusterView) -> Vec<Check> {
        let of = |(partition, state): (&TopicPartition, &Partition)| {
            let topic = view.topics.get(&partition.topic)?;
            let known = topic.partition(partition.partition)?;
            let read_epoch = state.fetched_epoch.filter(|_| state.check_due)?;
            Some(Check {
                partition: partition.clone(),
                epoch: state.epoch,
                leader: known.leader,
                leader_epoch: known.leader_epoch,
                read_epoch,
            })
        };
        self.partitions.iter().filter_map(of).collect()
    }

    /// The leader says that the epoch of the last batch read ends here; `None` where it cannot say.
    pub(crate) fn checked(&mut self, check: &Check, end: Option<Offset>) {
        let Some(state) = self.current(&check.partition, check.epoch) else { return };
        state.check_due = false;
        state.checked_epoch = check.leader_epoch;
        let (Some(fetch_at), Some(position)) = (state.fetch_at, state.position) else { return };
        match end {
            Some(end) if end < position.offset => self.truncated(check, position.offset, end),
            // What was handed over is there; what was fetched beyond may not be.
            Some(end) if end < fetch_at => {
                self.refetch(&check.partition);
            }
            _ => {}
        }
    }

    fn truncated(&mut self, check: &Check, offset: Offset, end: Offset) {
        let partition = &check.partition;
        if self.config.auto_offset_reset != AutoOffsetReset::None {
            tracing::warn!(%partition, %offset, %end, "the log was truncated: reading from its end");
            self.restart(partition, |state| state.place(end, None));
            return;
        }
        self.restart(partition, |state| {
            state.failed = true;
            state.fetch_at = None;
        });
        let error = ClientError::LogTruncated {
            topic: partition.topic.to_string(),
            partition: partition.partition,
            offset,
            end,
        };
        self.tell(partition, error);
    }
}

/// A question to a leader: where does the epoch end in which we read last?
#[derive(Debug, Clone)]
pub(crate) struct Check {
    pub(crate) partition: TopicPartition,
    pub(crate) epoch: u64,
    pub(crate) leader: Option<NodeId>,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) read_epoch: LeaderEpoch,
}

impl Partition {
    pub(super) fn move_on(&mut self, next: Offset, leader_epoch: Option<LeaderEpoch>) {
        if let Some(position) = self.position.as_mut().filter(|place| place.offset < next) {
            *position =
                Place { offset: next, leader_epoch: leader_epoch.or(position.leader_epoch) };
        }
    }

    /// Whether nothing more can be fetched before `poll` has returned what is.
    pub(super) fn is_ahead(&self) -> bool {
        let from = self.gone_from;
        self.position.zip(from).is_some_and(|(place, from)| place.offset < from)
    }

    /// Whether its position is one in an earlier topic of the same name.
    pub(super) fn is_of_another(&self, topic_id: Uuid) -> bool {
        let known = [self.topic_id, topic_id];
        !known.contains(&Uuid::ZERO) && self.topic_id != topic_id
    }

    /// Whether a newer leader may not have what was read. Where the epoch of that is not known there is
    /// nothing to check by.
    pub(super) fn has_to_be_checked(&mut self, leader_epoch: LeaderEpoch) -> bool {
        if self.fetched_epoch.is_none() {
            self.checked_epoch = self.checked_epoch.max(leader_epoch);
            self.check_due = false;
        }
        self.check_due || leader_epoch > self.checked_epoch
    }
}

//! Finding where partitions start. Pure.

use weir_protocol::types::{LeaderEpoch, Offset};

use super::{FetchState, Partition, Start};
use crate::config::AutoOffsetReset;
use crate::consumer::TopicPartition;
use crate::error::ClientError;

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
        if let Some(state) = self.current(partition, epoch) {
            state.place(at, leader_epoch);
        }
    }

    /// There is no committed offset: go on with `auto_offset_reset`.
    pub(crate) fn no_committed(&mut self, partition: &TopicPartition, epoch: u64) {
        let reset = self.config.auto_offset_reset;
        let Some(state) = self.current(partition, epoch) else { return };
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
        if let Some(state) = self.current(partition, epoch) {
            state.failed = true;
            self.tell(partition, error.clone());
        }
    }

    pub(super) fn current(
        &mut self,
        partition: &TopicPartition,
        epoch: u64,
    ) -> Option<&mut Partition> {
        self.partitions.get_mut(partition).filter(|state| state.epoch == epoch)
    }
}

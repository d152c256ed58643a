//! How far the worker has come, as its consumer group must know it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use weir_client::{PartitionOffset, RebalanceHook, TopicPartition};
use weir_protocol::types::{Offset, PartitionId};

/// What the group must know before it moves partitions.
#[derive(Debug)]
pub(super) struct Progress {
    topic: &'static str,
    inner: Mutex<Moving>,
}

#[derive(Debug, Default)]
pub(super) struct Moving {
    /// Stored, but not yet told to Kafka.
    uncommitted: BTreeMap<PartitionId, Offset>,
    /// Partitions went or came since the last look: none of them stands where it was put.
    pub(super) moved: bool,
}

impl Progress {
    pub(super) fn new(topic: &'static str) -> Self {
        Self { topic, inner: Mutex::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Moving> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, offsets: impl IntoIterator<Item = (PartitionId, Offset)>) {
        self.lock().uncommitted.extend(offsets);
    }

    pub(super) fn take_uncommitted(&self) -> Vec<PartitionOffset> {
        std::mem::take(&mut self.lock().uncommitted)
            .into_iter()
            .map(|(partition, offset)| {
                PartitionOffset::new(TopicPartition::new(self.topic, partition), offset)
            })
            .collect()
    }
}

/// Another node begins at the group's offsets: so they must be true when a partition goes there.
impl RebalanceHook for Progress {
    fn revoked(&self, _: &[TopicPartition]) -> Vec<PartitionOffset> {
        self.lock().moved = true;
        self.take_uncommitted()
    }

    fn assigned(&self, _: &[TopicPartition]) {
        self.lock().moved = true;
    }

    fn lost(&self, _: &[TopicPartition]) {
        *self.lock() = Moving { moved: true, ..Moving::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_told_before_a_partition_goes_and_not_after_it_is_lost() {
        let progress = Progress::new("t");
        progress.add([(PartitionId(0), Offset(5)), (PartitionId(0), Offset(7))]);
        let told = progress.revoked(&[]);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].offset, Offset(7));
        assert!(std::mem::take(&mut progress.lock().moved));
        progress.add([(PartitionId(0), Offset(9))]);
        progress.lost(&[]);
        assert!(progress.take_uncommitted().is_empty(), "another has gone on from there");
        assert!(progress.lock().moved);
    }
}

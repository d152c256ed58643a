//! [`GroupKind`]: a group, classic or consumer, as far as both are the same.

use weir_protocol::{ErrorCode, Str, TimestampMs};

use crate::consumer_group::ConsumerGroup;
use crate::group::{Group, GroupState, CONSUMER_PROTOCOL_TYPE};

/// A group of either protocol.
#[derive(Debug)]
pub enum GroupKind {
    /// Its members share the partitions among themselves.
    Classic(Box<Group>),
    /// The server assigns (KIP-848).
    Consumer(Box<ConsumerGroup>),
}

impl GroupKind {
    /// The classic group.
    #[must_use]
    pub fn classic(&self) -> Option<&Group> {
        match self {
            Self::Classic(group) => Some(group),
            Self::Consumer(_) => None,
        }
    }

    /// The classic group.
    #[must_use]
    pub fn classic_mut(&mut self) -> Option<&mut Group> {
        match self {
            Self::Classic(group) => Some(group),
            Self::Consumer(_) => None,
        }
    }

    /// The consumer group.
    #[must_use]
    pub fn consumer(&self) -> Option<&ConsumerGroup> {
        match self {
            Self::Classic(_) => None,
            Self::Consumer(group) => Some(group),
        }
    }

    /// The consumer group.
    #[must_use]
    pub fn consumer_mut(&mut self) -> Option<&mut ConsumerGroup> {
        match self {
            Self::Classic(_) => None,
            Self::Consumer(group) => Some(group),
        }
    }

    /// Kafka's name of its type.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Classic(_) => "classic",
            Self::Consumer(_) => "consumer",
        }
    }

    /// Kafka's name of its state.
    #[must_use]
    pub fn state_name(&self) -> &'static str {
        match self {
            Self::Classic(group) => group.state().name(),
            Self::Consumer(group) => group.state().name(),
        }
    }

    /// `consumer`, `connect`, ...; `None` until somebody joined.
    #[must_use]
    pub fn protocol_type(&self) -> Option<Str> {
        match self {
            Self::Classic(group) => group.protocol_type().cloned(),
            Self::Consumer(_) => Some(CONSUMER_PROTOCOL_TYPE.into()),
        }
    }

    /// How many members there are.
    #[must_use]
    pub fn member_count(&self) -> usize {
        match self {
            Self::Classic(group) => group.member_count(),
            Self::Consumer(group) => group.member_count(),
        }
    }

    /// The generation, or the epoch.
    #[must_use]
    pub fn generation(&self) -> i32 {
        match self {
            Self::Classic(group) => group.generation(),
            Self::Consumer(group) => group.epoch(),
        }
    }

    /// Nobody is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Classic(group) => group.state() == GroupState::Empty,
            Self::Consumer(group) => group.member_count() == 0,
        }
    }

    /// Nobody is in it and nobody is on the way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        match self {
            Self::Classic(group) => group.is_idle(),
            Self::Consumer(group) => group.member_count() == 0,
        }
    }

    /// Its members are consumers, which say what they read.
    #[must_use]
    pub fn has_consumers(&self) -> bool {
        match self {
            Self::Classic(group) => group.has_consumers(),
            Self::Consumer(_) => true,
        }
    }

    /// Whether a member reads this topic.
    #[must_use]
    pub fn subscribes_to(&self, topic: &str) -> bool {
        match self {
            Self::Classic(group) => group.subscribes_to(topic),
            Self::Consumer(group) => group.subscribes_to(topic),
        }
    }

    /// Since when it has been empty, if it had members before.
    #[must_use]
    pub fn empty_since(&self) -> Option<TimestampMs> {
        match self {
            Self::Classic(group) => group.protocol_type().is_some().then(|| group.state_since()),
            Self::Consumer(group) => group.empty_since(),
        }
    }

    /// The next time it has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<TimestampMs> {
        match self {
            Self::Classic(group) => group.next_deadline(),
            Self::Consumer(group) => group.next_deadline(),
        }
    }

    /// Moves all deadlines: the clock was set.
    pub fn shift(&mut self, by_ms: i64) {
        match self {
            Self::Classic(group) => group.shift(by_ms),
            Self::Consumer(group) => group.shift(by_ms),
        }
    }

    /// Whether this member may commit offsets now, by OffsetCommit `version`.
    ///
    /// # Errors
    /// The code to answer with.
    pub fn check_commit(
        &mut self,
        id: &Str,
        instance: Option<&Str>,
        generation: i32,
        version: i16,
        now: TimestampMs,
    ) -> Result<(), ErrorCode> {
        match self {
            Self::Classic(group) => group.check_commit(id, instance, generation, now),
            Self::Consumer(group) => group.check_commit(id, generation, version),
        }
    }

    /// As [`GroupKind::check_commit`], for offsets that go with a transaction.
    ///
    /// # Errors
    /// The code to answer with.
    pub fn check_txn_commit(
        &self,
        id: &Str,
        instance: Option<&Str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        match self {
            Self::Classic(group) => group.check_txn_commit(id, instance, generation),
            Self::Consumer(group) => group.check_txn_commit(id, instance, generation),
        }
    }

    /// Whether this member may read committed offsets.
    ///
    /// # Errors
    /// The code to answer with.
    pub fn check_fetch(&self, id: Option<&Str>, epoch: i32) -> Result<(), ErrorCode> {
        match self {
            Self::Classic(_) => Ok(()),
            Self::Consumer(group) => group.check_fetch(id, epoch),
        }
    }
}

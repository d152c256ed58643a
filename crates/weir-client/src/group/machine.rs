//! The state machine of a member, of whichever protocol its group speaks.

use std::collections::BTreeSet;

use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{GenerationId, Str, Uuid};

use super::classic::ClassicMember;
use super::consumer_member::ConsumerMember;
use super::holdings::Holdings;
use super::{Effect, Event};
use crate::accumulator::MonoMs;
use crate::client::random;
use crate::config::{GroupConfig, GroupProtocol};
use crate::consumer::TopicPartition;

/// See the module's head.
#[derive(Debug)]
pub(crate) enum Machine {
    Classic(ClassicMember),
    Consumer(ConsumerMember),
}

impl Machine {
    pub(crate) fn new(config: &GroupConfig) -> Self {
        match config.protocol {
            GroupProtocol::Classic => Machine::Classic(ClassicMember::new(config)),
            GroupProtocol::Consumer => {
                let id = format!("{:016x}{:016x}", random(), random());
                Machine::Consumer(ConsumerMember::new(config, Str::copy_from(&id)))
            }
        }
    }

    pub(crate) fn handle(&mut self, event: Event, now: MonoMs) -> Vec<Effect> {
        match self {
            Machine::Classic(member) => member.handle(event, now),
            Machine::Consumer(member) => member.handle(event, now),
        }
    }

    pub(crate) fn deadline(&self) -> MonoMs {
        match self {
            Machine::Classic(member) => member.deadline(),
            Machine::Consumer(member) => member.deadline(),
        }
    }

    pub(crate) fn holdings(&self) -> &Holdings {
        match self {
            Machine::Classic(member) => member.holdings(),
            Machine::Consumer(member) => member.holdings(),
        }
    }

    pub(crate) fn member_id(&self) -> &Str {
        match self {
            Machine::Classic(member) => member.member_id(),
            Machine::Consumer(member) => member.member_id(),
        }
    }

    /// Generation or member epoch; none without a place in the group.
    pub(crate) fn epoch(&self) -> Option<i32> {
        match self {
            Machine::Classic(member) => member.generation().map(GenerationId::get),
            Machine::Consumer(member) => member.epoch(),
        }
    }

    /// The id of the topic that has the name of this partition's now, if what is held is of an earlier
    /// one. Classic groups do not know.
    pub(crate) fn made_again_as(&self, partition: &TopicPartition) -> Option<Uuid> {
        match self {
            Machine::Classic(_) => None,
            Machine::Consumer(member) => member.made_again_as(partition),
        }
    }

    /// Topics of the assignment whose names are not known.
    pub(crate) fn unnamed(&self) -> BTreeSet<Uuid> {
        match self {
            Machine::Classic(_) => BTreeSet::new(),
            Machine::Consumer(member) => member.unnamed(),
        }
    }

    /// Whether what refused a commit is over soon: a member that keeps partitions through a rebalance
    /// commits them in the next generation.
    pub(crate) fn awaits_epoch(&self, code: ErrorCode) -> bool {
        match self {
            Machine::Classic(member) => {
                matches!(code, ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration)
                    && member.is_between_generations()
                    && member.generation().is_some()
            }
            Machine::Consumer(member) => {
                code == ErrorCode::StaleMemberEpoch && member.epoch().is_some()
            }
        }
    }
}

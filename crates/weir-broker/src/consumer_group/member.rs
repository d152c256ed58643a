//! [`Member`]: one member of a consumer group, and what its records say of it.

use std::collections::{BTreeMap, BTreeSet};

use weir_protocol::api::consumer_group_records::{
    ClassicMemberMetadata, ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupMemberMetadataValue, TopicPartitions,
};
use weir_protocol::{Str, TimestampMs, Uuid};

/// Partitions by the id of their topic. No topic is there with no partition.
pub type Partitions = BTreeMap<Uuid, BTreeSet<i32>>;

/// The epoch of a static member that has gone and may come back (KIP-848).
pub(crate) const EPOCH_STATIC_GONE: i32 = -2;

/// Where a member stands between what it has and what it is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MemberState {
    /// It has all that its epoch gives it.
    #[default]
    Stable,
    /// It must give partitions up first, and has not said that it did.
    UnrevokedPartitions,
    /// It waits for partitions that others have not given up.
    UnreleasedPartitions,
    /// Written by a later version.
    Unknown,
}

impl MemberState {
    fn code(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::UnrevokedPartitions => 1,
            Self::UnreleasedPartitions => 2,
            Self::Unknown => 127,
        }
    }

    fn from_code(code: i8) -> Self {
        match code {
            0 => Self::Stable,
            1 => Self::UnrevokedPartitions,
            2 => Self::UnreleasedPartitions,
            _ => Self::Unknown,
        }
    }
}

/// What a member has now: the part of it that reconciliation changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Current {
    /// The epoch it was told, or is being told.
    pub epoch: i32,
    /// The one before: an answer may have been lost.
    pub previous_epoch: i32,
    /// Where it stands.
    pub state: MemberState,
    /// What it has, or may take.
    pub assigned: Partitions,
    /// What it still has and must give up.
    pub pending_revocation: Partitions,
}

/// One member.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Made by the client, or by the broker for old ones.
    pub id: Str,
    /// Given by the operator, of a static member.
    pub instance_id: Option<Str>,
    /// Where the client runs.
    pub rack_id: Option<Str>,
    /// Of its request header.
    pub client_id: Str,
    /// Where it is.
    pub client_host: Str,
    /// How long it may take to give partitions up.
    pub rebalance_timeout_ms: i32,
    /// The topics it names.
    pub topics: BTreeSet<Str>,
    /// The topics it means.
    pub regex: Option<Str>,
    /// The assignor it would like.
    pub assignor: Option<Str>,
    /// What it said in JoinGroup, if it uses the classic protocol.
    pub classic: Option<ClassicMemberMetadata>,
    /// What it has.
    pub current: Current,
    /// When its session ends.
    pub(super) session_deadline: Option<TimestampMs>,
    /// When it must have given up what it was asked to in this epoch.
    pub(super) rebalance_deadline: Option<(i32, TimestampMs)>,
    /// When a classic member must have joined again.
    pub(super) join_deadline: Option<TimestampMs>,
    /// When a classic member must have sent SyncGroup.
    pub(super) sync_deadline: Option<TimestampMs>,
}

impl Member {
    pub(super) fn new(id: Str) -> Self {
        Self {
            id,
            instance_id: None,
            rack_id: None,
            client_id: Str::new(),
            client_host: Str::new(),
            rebalance_timeout_ms: -1,
            topics: BTreeSet::new(),
            regex: None,
            assignor: None,
            classic: None,
            current: Current::default(),
            session_deadline: None,
            rebalance_deadline: None,
            join_deadline: None,
            sync_deadline: None,
        }
    }

    /// Whether it speaks JoinGroup and SyncGroup.
    #[must_use]
    pub fn is_classic(&self) -> bool {
        self.classic.is_some()
    }

    /// Its record, without what it has.
    pub(super) fn metadata(&self) -> ConsumerGroupMemberMetadataValue {
        ConsumerGroupMemberMetadataValue {
            instance_id: self.instance_id.clone(),
            rack_id: self.rack_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            subscribed_topic_names: self.topics.iter().cloned().collect(),
            subscribed_topic_regex: self.regex.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            server_assignor: self.assignor.clone(),
            classic_member_metadata: self.classic.clone(),
        }
    }

    pub(super) fn set_metadata(&mut self, value: ConsumerGroupMemberMetadataValue) {
        self.instance_id = value.instance_id;
        self.rack_id = value.rack_id;
        self.client_id = value.client_id;
        self.client_host = value.client_host;
        self.topics = value.subscribed_topic_names.into_iter().collect();
        self.regex = value.subscribed_topic_regex;
        self.rebalance_timeout_ms = value.rebalance_timeout_ms;
        self.assignor = value.server_assignor;
        self.classic = value.classic_member_metadata;
    }

    /// Without the time of its deadlines, which no record has.
    pub(super) fn deadlines_mut(&mut self) -> impl Iterator<Item = &mut TimestampMs> {
        let rebalance = self.rebalance_deadline.as_mut().map(|(_, at)| at);
        let plain = [&mut self.session_deadline, &mut self.join_deadline, &mut self.sync_deadline];
        plain.into_iter().filter_map(Option::as_mut).chain(rebalance)
    }

    pub(super) fn next_deadline(&self) -> Option<TimestampMs> {
        let rebalance = self.rebalance_deadline.map(|(_, at)| at);
        [self.session_deadline, self.join_deadline, self.sync_deadline, rebalance]
            .into_iter()
            .flatten()
            .min()
    }
}

impl Current {
    pub(super) fn record(&self) -> ConsumerGroupCurrentMemberAssignmentValue {
        ConsumerGroupCurrentMemberAssignmentValue {
            member_epoch: self.epoch,
            previous_member_epoch: self.previous_epoch,
            state: self.state.code(),
            assigned_partitions: to_wire(&self.assigned),
            partitions_pending_revocation: to_wire(&self.pending_revocation),
        }
    }

    pub(super) fn restore(value: ConsumerGroupCurrentMemberAssignmentValue) -> Self {
        Self {
            epoch: value.member_epoch,
            previous_epoch: value.previous_member_epoch,
            state: MemberState::from_code(value.state),
            assigned: from_wire(value.assigned_partitions),
            pending_revocation: from_wire(value.partitions_pending_revocation),
        }
    }

    /// All that nobody else may have.
    pub(super) fn held(&self) -> impl Iterator<Item = (Uuid, i32)> + '_ {
        each(&self.assigned).chain(each(&self.pending_revocation))
    }
}

/// Each partition.
pub(crate) fn each(partitions: &Partitions) -> impl Iterator<Item = (Uuid, i32)> + '_ {
    partitions.iter().flat_map(|(topic, indexes)| indexes.iter().map(|index| (*topic, *index)))
}

/// Gathers partitions by topic.
pub(crate) fn gather(partitions: impl Iterator<Item = (Uuid, i32)>) -> Partitions {
    let mut gathered = Partitions::new();
    for (topic, index) in partitions {
        gathered.entry(topic).or_default().insert(index);
    }
    gathered
}

/// Whether all of `part` is in `whole`.
pub(crate) fn is_subset(part: &Partitions, whole: &Partitions) -> bool {
    part.iter().all(|(topic, indexes)| {
        indexes.is_empty() || whole.get(topic).is_some_and(|all| indexes.is_subset(all))
    })
}

pub(super) fn to_wire(partitions: &Partitions) -> Vec<TopicPartitions> {
    partitions
        .iter()
        .map(|(topic, indexes)| TopicPartitions {
            topic_id: *topic,
            partitions: indexes.iter().copied().collect(),
        })
        .collect()
}

pub(super) fn from_wire(topics: Vec<TopicPartitions>) -> Partitions {
    gather(
        topics
            .into_iter()
            .flat_map(|topic| topic.partitions.into_iter().map(move |one| (topic.topic_id, one))),
    )
}

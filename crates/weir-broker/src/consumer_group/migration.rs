//! From a classic group to a consumer group and back, with its members and offsets (KIP-848, `group.consumer.migration.policy`).

use std::collections::BTreeMap;

use weir_protocol::api::consumer_group_records::{
    ClassicMemberMetadata, ClassicProtocol, ConsumerGroupMetadataValue,
    ConsumerGroupTargetAssignmentMetadataValue,
};
use weir_protocol::api::consumer_protocol::{self, ConsumerProtocolAssignment};
use weir_protocol::{Str, TimestampMs};

use super::changes::Change;
use super::classic::{assignment_bytes, ids_of, rack, subscription, version_of};
use super::member::{Current, Member, MemberState, Partitions};
use super::subscription::TopicLookup;
use super::{ConsumerGroup, ConsumerGroupLimits};
use crate::group::{self, Group, Protocol, CONSUMER_PROTOCOL_TYPE};
use crate::offset_records::{GroupMetadataValue, MemberRecord};

/// `group.consumer.migration.policy`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MigrationPolicy {
    /// Both ways.
    #[default]
    Bidirectional,
    /// From classic to consumer alone.
    Upgrade,
    /// From consumer to classic alone.
    Downgrade,
    /// Only groups without members change.
    Disabled,
}

impl MigrationPolicy {
    /// The policy of Kafka's name, in any case.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        match name.trim().to_ascii_lowercase().as_str() {
            "bidirectional" => Some(Self::Bidirectional),
            "upgrade" => Some(Self::Upgrade),
            "downgrade" => Some(Self::Downgrade),
            "disabled" => Some(Self::Disabled),
            _ => None,
        }
    }

    /// Kafka's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bidirectional => "bidirectional",
            Self::Upgrade => "upgrade",
            Self::Downgrade => "downgrade",
            Self::Disabled => "disabled",
        }
    }

    /// Whether a classic group with members may become a consumer group.
    #[must_use]
    pub const fn upgrades(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Upgrade)
    }

    /// Whether a consumer group whose members are all classic becomes a classic group.
    #[must_use]
    pub const fn downgrades(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Downgrade)
    }
}

impl ConsumerGroup {
    /// The consumer group that a classic one becomes: its members keep what they have, and its generation is the epoch.
    ///
    /// # Errors
    /// Words, if it cannot become one.
    pub fn upgraded(
        classic: &Group,
        limits: ConsumerGroupLimits,
        topics: &dyn TopicLookup,
        now: TimestampMs,
        out: &mut Vec<Change>,
    ) -> Result<Self, &'static str> {
        if !classic.has_consumers() {
            return Err("its members are not consumers");
        }
        if classic.member_count() > limits.members_max {
            return Err("it has more members than a consumer group may have");
        }
        let mut members = Vec::new();
        for member in classic.members() {
            let upgraded = upgraded_member(classic, member, topics);
            members.push(upgraded.ok_or("what its members subscribe to cannot be read")?);
        }
        let mut group = Self::new(limits, now);
        let epoch = classic.generation();
        group.emit(
            Change::Group(Some(ConsumerGroupMetadataValue { epoch, metadata_hash: 0 })),
            now,
            out,
        );
        for (member, assigned) in members {
            let id = member.id.clone();
            group.emit(Change::Member(id.clone(), Some(member.metadata())), now, out);
            group.emit_target(&id, &assigned, now, out);
            let state = MemberState::Stable;
            let current = Current {
                epoch,
                previous_epoch: epoch,
                state,
                assigned,
                pending_revocation: Partitions::new(),
            };
            group.emit(Change::Current(id, Some(current.record())), now, out);
        }
        let value = ConsumerGroupTargetAssignmentMetadataValue { assignment_epoch: epoch };
        group.emit(Change::TargetEpoch(Some(value)), now, out);
        group.restored(now);
        Ok(group)
    }

    /// Whether its last member of the consumer protocol has gone and classic ones are left.
    #[must_use]
    pub fn is_left_to_classic(&self) -> bool {
        !self.members.is_empty() && self.members.values().all(Member::is_classic)
    }

    /// As the record of a classic group, with all that its members said in JoinGroup.
    #[must_use]
    pub fn downgraded(
        &self,
        topics: &dyn TopicLookup,
        now: TimestampMs,
    ) -> (GroupMetadataValue, BTreeMap<Str, Vec<Protocol>>) {
        let mut protocols = BTreeMap::new();
        let mut members = Vec::new();
        for member in self.members.values() {
            let Some(classic) = &member.classic else { continue };
            let said = classic.supported_protocols.first();
            let metadata = said.map(|said| said.metadata.clone()).unwrap_or_default();
            let assigned = &member.current.assigned;
            members.push(MemberRecord {
                member_id: member.id.clone(),
                instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                session_timeout_ms: classic.session_timeout_ms,
                assignment: assignment_bytes(assigned, version_of(&metadata), topics),
                subscription: metadata,
            });
            let own = classic
                .supported_protocols
                .iter()
                .map(|one| Protocol { name: one.name.clone(), metadata: one.metadata.clone() });
            protocols.insert(member.id.clone(), own.collect());
        }
        let first = protocols.values().next().and_then(|own: &Vec<Protocol>| own.first());
        let record = GroupMetadataValue {
            protocol_type: CONSUMER_PROTOCOL_TYPE.into(),
            generation: self.epoch,
            protocol: first.map(|protocol| protocol.name.clone()),
            leader: members.first().map(|member| member.member_id.clone()),
            current_state_timestamp_ms: now.get(),
            members,
        };
        (record, protocols)
    }
}

fn upgraded_member(
    group: &Group,
    member: &group::Member,
    topics: &dyn TopicLookup,
) -> Option<(Member, Partitions)> {
    let chosen = group.protocol();
    let named = chosen.and_then(|name| member.protocols.iter().find(|one| one.name == *name));
    let said = subscription(&named.or(member.protocols.first())?.metadata)?;
    let assigned = match member.assignment.is_empty() {
        true => Partitions::new(),
        false => {
            let decoded =
                consumer_protocol::decode::<ConsumerProtocolAssignment>(member.assignment.clone());
            ids_of(&decoded.ok()?.1.assigned_partitions, topics)
        }
    };
    let mut upgraded = Member::new(member.id.clone());
    upgraded.instance_id.clone_from(&member.instance_id);
    upgraded.rack_id = rack(&said);
    upgraded.client_id = member.client_id.clone();
    upgraded.client_host = member.client_host.clone();
    upgraded.rebalance_timeout_ms = member.rebalance_timeout_ms;
    upgraded.topics = said.topics.iter().map(|topic| Str::copy_from(topic)).collect();
    upgraded.classic = Some(ClassicMemberMetadata {
        session_timeout_ms: member.session_timeout_ms,
        supported_protocols: member
            .protocols
            .iter()
            .map(|one| ClassicProtocol { name: one.name.clone(), metadata: one.metadata.clone() })
            .collect(),
    });
    Some((upgraded, assigned))
}

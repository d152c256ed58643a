//! How much memory groups may take: what their members say of themselves, and what they are assigned.
//!
//! In Kafka a group must fit in one record of `__consumer_offsets`, and so in `message.max.bytes` there. Here it has a bound
//! of its own, and all groups together have one, as nobody needs leave to begin a group.

use bytes::Bytes;
use weir_protocol::api::join_group::JoinGroupRequest;
use weir_protocol::api::sync_group::SyncGroupRequestAssignment;
use weir_protocol::{ErrorCode, Str};

use crate::broker::Broker;
use crate::consumer_group::{self, ConsumerGroup, Heartbeat, Refusal};
use crate::group::{Group, Member};
use crate::group_kind::GroupKind;

/// What a member takes beside its texts, about.
const MEMBER_BYTES: usize = 256;
/// What a group takes beside its name and its members, about.
const GROUP_BYTES: usize = 512;
/// What a protocol, a topic or a part of an assignment takes beside its texts, about: its place in a tree or a list, and
/// the heads of its own pieces of memory. Without it an empty name would cost nothing, and a request can bring a million.
const ENTRY_BYTES: usize = 64;
/// Protocols that a member may offer. Clients offer one to three.
const PROTOCOLS_MAX: usize = 100;

impl GroupKind {
    /// What its members take.
    fn metadata_bytes(&self) -> usize {
        match self {
            Self::Classic(group) => {
                let pending = group.pending_ids().map(|id| MEMBER_BYTES + id.len());
                group.members().map(classic_bytes).chain(pending).sum()
            }
            Self::Consumer(group) => group.members().map(consumer_bytes).sum(),
        }
    }
}

/// What a group of this name takes.
pub(crate) fn group_bytes(name: &str, group: &GroupKind) -> usize {
    GROUP_BYTES + name.len() + group.metadata_bytes()
}

fn len(text: Option<&Str>) -> usize {
    text.map_or(0, |text| text.len())
}

/// What named pieces take: protocols with their metadata, or members with their assignments.
fn entry_bytes<'a>(entries: impl Iterator<Item = (&'a Str, &'a Bytes)>) -> usize {
    entries.map(|(name, what)| ENTRY_BYTES + name.len() + what.len()).sum()
}

fn topic_bytes<'a>(topics: impl Iterator<Item = &'a Str>) -> usize {
    topics.map(|topic| ENTRY_BYTES + topic.len()).sum()
}

/// What it says of itself.
fn said_by(member: &Member) -> usize {
    MEMBER_BYTES
        + member.id.len()
        + len(member.instance_id.as_ref())
        + member.client_id.len()
        + member.client_host.len()
        + entry_bytes(member.protocols.iter().map(|one| (&one.name, &one.metadata)))
}

fn classic_bytes(member: &Member) -> usize {
    said_by(member) + member.assignment.len()
}

fn consumer_bytes(member: &consumer_group::Member) -> usize {
    let classic = member.classic.iter().flat_map(|classic| &classic.supported_protocols);
    MEMBER_BYTES
        + member.id.len()
        + len(member.instance_id.as_ref())
        + len(member.rack_id.as_ref())
        + member.client_id.len()
        + member.client_host.len()
        + topic_bytes(member.topics.iter())
        + len(member.regex.as_ref())
        + len(member.assignor.as_ref())
        + entry_bytes(classic.map(|one| (&one.name, &one.metadata)))
}

/// What the group keeps already of who joins.
fn known_of(group: &GroupKind, id: &str, instance: Option<&Str>) -> usize {
    let is_same = |known: &Str, known_instance: Option<&Str>| {
        **known == *id || instance.is_some() && known_instance == instance
    };
    match group {
        GroupKind::Classic(group) => {
            let mut members = group.members();
            let member = members.find(|one| is_same(&one.id, one.instance_id.as_ref()));
            member.map_or(0, said_by)
        }
        GroupKind::Consumer(group) => {
            let mut members = group.members();
            let member = members.find(|one| is_same(&one.id, one.instance_id.as_ref()));
            member.map_or(0, consumer_bytes)
        }
    }
}

impl Broker {
    /// Whether a group may take `more` bytes in place of `less` of its own.
    fn check_room(&self, group: &str, more: usize, less: usize) -> Result<(), ErrorCode> {
        if more <= less {
            return Ok(());
        }
        let of_group = self.coordinator.get(group).map_or(0, |entry| entry.bytes());
        if of_group.saturating_sub(less).saturating_add(more) > self.config.group_metadata_bytes_max
        {
            let bytes_max = self.config.group_metadata_bytes_max;
            tracing::warn!(
                group,
                bytes_max,
                "members of a group say more of themselves than it may keep"
            );
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        let total = self.coordinator.bytes().saturating_sub(less).saturating_add(more);
        match total > self.config.groups_metadata_bytes_max {
            true => Err(ErrorCode::CoordinatorNotAvailable),
            false => Ok(()),
        }
    }

    /// Whether there is room for who joins by the classic protocol.
    ///
    /// # Errors
    /// [`ErrorCode::GroupMaxSizeReached`], or [`ErrorCode::CoordinatorNotAvailable`] if all groups together take too much, or
    /// [`ErrorCode::InvalidRequest`] if it offers too many protocols.
    pub(crate) fn check_room_to_join(
        &self,
        request: &JoinGroupRequest,
        client_id: Option<&Str>,
    ) -> Result<(), ErrorCode> {
        if request.protocols.len() > PROTOCOLS_MAX {
            let (group, protocols) = (&*request.group_id, request.protocols.len());
            tracing::warn!(group, protocols, PROTOCOLS_MAX, "a client offers too many protocols");
            return Err(ErrorCode::InvalidRequest);
        }
        let group = self.coordinator.get(&request.group_id).map(|entry| &entry.group);
        let instance = request.group_instance_id.as_ref();
        let known = group.map_or(0, |group| known_of(group, &request.member_id, instance));
        let own = if group.is_none() { GROUP_BYTES + request.group_id.len() } else { 0 };
        let protocols = request.protocols.iter().map(|one| (&one.name, &one.metadata));
        let said = MEMBER_BYTES
            + request.member_id.len()
            + len(instance)
            + len(client_id)
            + entry_bytes(protocols);
        self.check_room(&request.group_id, own + said, known)
    }

    /// Whether a classic group has room for what its leader assigns.
    ///
    /// # Errors
    /// As [`Broker::check_room_to_join`].
    pub(crate) fn check_room_for_assignment(
        &self,
        name: &str,
        group: &Group,
        assignments: &[SyncGroupRequestAssignment],
    ) -> Result<(), ErrorCode> {
        let parts = assignments.iter().map(|one| (&one.member_id, &one.assignment));
        let bytes = entry_bytes(parts);
        let now: usize = group.members().map(|member| member.assignment.len()).sum();
        self.check_room(name, bytes, now)
    }

    /// Whether a consumer group has room for what a member says.
    ///
    /// # Errors
    /// As [`Broker::check_room_to_join`], with words.
    pub(crate) fn check_room_to_beat(
        &self,
        name: &str,
        group: &ConsumerGroup,
        beat: &Heartbeat,
    ) -> Result<(), Refusal> {
        if beat.topics.is_none() && beat.regex.is_none() {
            return Ok(());
        }
        let said = MEMBER_BYTES
            + beat.member_id.len()
            + len(beat.instance_id.as_ref())
            + len(beat.rack_id.as_ref())
            + beat.client_id.len()
            + topic_bytes(beat.topics.iter().flatten())
            + len(beat.regex.as_ref());
        let instance = beat.instance_id.as_ref();
        let is_same = |one: &&consumer_group::Member| {
            one.id == beat.member_id || instance.is_some() && one.instance_id.as_ref() == instance
        };
        let known = group.members().find(is_same).map_or(0, consumer_bytes);
        let words = "The members of the group say more of themselves than it may keep.";
        self.check_room(name, said, known).map_err(|error| Refusal::new(error, words))
    }
}

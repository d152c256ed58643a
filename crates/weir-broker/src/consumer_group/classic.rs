//! Members of the classic protocol in a consumer group, while its application moves from one protocol to the other.
//!
//! To such a member its epoch is the generation. It joins, gets the part of its target that is free, is told to join
//! again when there is more or something to give up, and never leads: the server assigns.

use std::collections::HashMap;

use bytes::Bytes;
use weir_protocol::api::consumer_group_records::{ClassicMemberMetadata, ClassicProtocol};
use weir_protocol::api::consumer_protocol::{
    self, ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicPartition,
};
use weir_protocol::{ErrorCode, Str, TimestampMs};

use super::changes::Change;
use super::member::{each, gather, Member, MemberState, Partitions};
use super::subscription::TopicLookup;
use super::ConsumerGroup;
use crate::group::{Join, Sync, CONSUMER_PROTOCOL_TYPE};
use crate::request::distinct;

/// What a classic member hears that has joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClassicJoined {
    pub(crate) member_id: Str,
    /// Its epoch.
    pub(crate) generation: i32,
    /// The one it likes best: all carry the same subscription.
    pub(crate) protocol: Str,
}

impl ConsumerGroup {
    /// A client of the classic protocol joins. An error comes with the id to answer with.
    pub(crate) fn join_classic(
        &mut self,
        join: Join,
        topics: &dyn TopicLookup,
        now: TimestampMs,
        out: &mut Vec<Change>,
    ) -> Result<ClassicJoined, (ErrorCode, Str)> {
        let is_unknown = join.member_id.is_empty();
        let id = if is_unknown { join.fresh_member_id.clone() } else { join.member_id.clone() };
        let refuse = |error: ErrorCode| (error, id.clone());
        self.check_room(&id).map_err(|refusal| refuse(refusal.error))?;
        if !self.supports_classic(&join) {
            return Err(refuse(ErrorCode::InconsistentGroupProtocol));
        }
        let first = join.protocols.first();
        let said = first.and_then(|first| subscription(&first.metadata));
        let said = said.ok_or_else(|| refuse(ErrorCode::InconsistentGroupProtocol))?;
        if is_unknown && join.instance_id.is_none() && join.knows_member_id_required {
            return Err(refuse(ErrorCode::MemberIdRequired));
        }
        let replaced = self.classic_place(&join, is_unknown).map_err(refuse)?;
        if let Some(old) = replaced {
            self.replace(&old, &id, now, out);
        }
        let protocol = first.map(|first| first.name.clone()).unwrap_or_default();
        let (session_ms, sync_ms) = (join.session_timeout_ms, join.rebalance_timeout_ms);
        let owned = owned(&said, topics);
        let member = self.classic_member(&id, join, said);
        let bump = self.take_over(member, now, out);
        self.refresh(bump, None, topics, now, out);
        self.retarget(topics, now, out);
        self.reconcile(&id, Some(&owned), now, out);
        let Some(member) = self.members.get_mut(&id) else {
            return Err((ErrorCode::UnknownMemberId, id));
        };
        member.session_deadline = Some(now.plus_ms(i64::from(session_ms).max(1)));
        member.sync_deadline = Some(now.plus_ms(i64::from(sync_ms).max(1)));
        member.join_deadline = None;
        Ok(ClassicJoined { generation: member.current.epoch, member_id: id, protocol })
    }

    /// Whether the classic members have a protocol in common with `join`.
    fn supports_classic(&self, join: &Join) -> bool {
        let mut classic = 0;
        // Name → how many know it. Each name counts once for each member, also where one says it twice.
        let mut knowing: HashMap<&Str, usize> = HashMap::new();
        for member in self.members.values().filter_map(|member| member.classic.as_ref()) {
            for protocol in distinct(&member.supported_protocols, |protocol| &protocol.name) {
                *knowing.entry(&protocol.name).or_default() += 1;
            }
            classic += 1;
        }
        let all_know = |name: &Str| knowing.get(name).copied().unwrap_or(0) == classic;
        *join.protocol_type == *CONSUMER_PROTOCOL_TYPE
            && join.protocols.iter().any(|protocol| all_know(&protocol.name))
    }

    /// The static member whose place is taken, if it is one.
    fn classic_place(&self, join: &Join, is_unknown: bool) -> Result<Option<Str>, ErrorCode> {
        let Some(instance) = &join.instance_id else { return Ok(None) };
        match self.static_members.get(instance) {
            None if is_unknown => Ok(None),
            None => Err(ErrorCode::UnknownMemberId),
            Some(holder) if is_unknown => Ok(Some(holder.clone())),
            Some(holder) if *holder == join.member_id => Ok(None),
            Some(_) => Err(ErrorCode::FencedInstanceId),
        }
    }

    fn classic_member(&self, id: &Str, join: Join, said: ConsumerProtocolSubscription) -> Member {
        let before = self.members.get(id).cloned();
        let mut member = before.unwrap_or_else(|| Member::new(id.clone()));
        member.instance_id = join.instance_id.or(member.instance_id);
        member.rack_id = rack(&said).or(member.rack_id);
        member.client_id = join.client_id;
        member.client_host = join.client_host;
        member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        member.topics = said.topics.iter().map(|topic| Str::copy_from(topic)).collect();
        member.regex = None;
        member.classic = Some(ClassicMemberMetadata {
            session_timeout_ms: join.session_timeout_ms,
            supported_protocols: join
                .protocols
                .into_iter()
                .map(|protocol| ClassicProtocol {
                    name: protocol.name,
                    metadata: protocol.metadata,
                })
                .collect(),
        });
        member
    }

    /// A classic member asks for what it has now.
    ///
    /// # Errors
    /// The code to answer with.
    pub(crate) fn sync_classic(
        &mut self,
        sync: &Sync,
        topics: &dyn TopicLookup,
        now: TimestampMs,
    ) -> Result<(Str, Bytes), ErrorCode> {
        let epoch = self.epoch;
        let member = self.classic_mut(&sync.member_id, sync.instance_id.as_ref())?;
        let Some(classic) = &member.classic else { return Err(ErrorCode::UnknownMemberId) };
        if sync.generation != member.current.epoch {
            return Err(ErrorCode::IllegalGeneration);
        }
        let protocol = classic.supported_protocols.first();
        let name = protocol.map(|protocol| protocol.name.clone()).unwrap_or_default();
        let other_type =
            sync.protocol_type.as_ref().is_some_and(|kind| *kind != CONSUMER_PROTOCOL_TYPE);
        if other_type || sync.protocol.as_ref().is_some_and(|said| *said != name) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        // Who must give something up has to learn what first.
        if epoch > member.current.epoch && member.current.state != MemberState::UnrevokedPartitions
        {
            expect_join(member, now);
            return Err(ErrorCode::RebalanceInProgress);
        }
        let session_ms = i64::from(classic.session_timeout_ms).max(1);
        let version = protocol.map_or(0, |protocol| version_of(&protocol.metadata));
        let assignment = assignment_bytes(&member.current.assigned, version, topics);
        member.sync_deadline = None;
        member.session_deadline = Some(now.plus_ms(session_ms));
        Ok((name, assignment))
    }

    /// A sign of life of a classic member. It is told to join again when there is something new for it.
    pub(crate) fn heartbeat_classic(
        &mut self,
        id: &Str,
        instance: Option<&Str>,
        generation: i32,
        now: TimestampMs,
    ) -> ErrorCode {
        let (epoch, waits) = (self.epoch, self.waits_for_others(id));
        let member = match self.classic_mut(id, instance) {
            Ok(member) => member,
            Err(error) => return error,
        };
        if generation != member.current.epoch {
            return ErrorCode::IllegalGeneration;
        }
        let session_ms = member.classic.as_ref().map_or(1, |classic| classic.session_timeout_ms);
        member.session_deadline = Some(now.plus_ms(i64::from(session_ms).max(1)));
        let is_behind = member.current.epoch < epoch
            || member.current.state == MemberState::UnrevokedPartitions
            || member.current.state == MemberState::UnreleasedPartitions && !waits;
        if is_behind {
            expect_join(member, now);
            return ErrorCode::RebalanceInProgress;
        }
        ErrorCode::None
    }

    /// Whether all that the member still lacks is held by others.
    fn waits_for_others(&self, id: &Str) -> bool {
        let Some(member) = self.members.get(id) else { return false };
        let assigned = &member.current.assigned;
        let has = |topic, index| assigned.get(&topic).is_some_and(|of| of.contains(&index));
        let target = self.target.get(id).map(each).into_iter().flatten();
        target
            .filter(|(topic, index)| !has(*topic, *index))
            .all(|place| self.owners.get(&place).is_some_and(|owner| owner != id))
    }

    /// A classic member goes, or an operator removes a static one by its instance alone.
    pub(crate) fn leave_classic(
        &mut self,
        id: &Str,
        instance: Option<&Str>,
        topics: &dyn TopicLookup,
        now: TimestampMs,
        out: &mut Vec<Change>,
    ) -> ErrorCode {
        let holder = instance.and_then(|instance| self.static_members.get(instance).cloned());
        let id = match (instance, holder) {
            (Some(_), Some(holder)) if id.is_empty() => holder,
            _ => id.clone(),
        };
        match self.classic_mut(&id, instance) {
            Err(error) => error,
            Ok(_) => {
                self.remove(&[id], topics, now, out);
                ErrorCode::None
            }
        }
    }

    fn classic_mut(&mut self, id: &Str, instance: Option<&Str>) -> Result<&mut Member, ErrorCode> {
        if let Some(instance) = instance {
            match self.static_members.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(holder) if holder != id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        let member = self.members.get_mut(id).filter(|member| member.is_classic());
        member.ok_or(ErrorCode::UnknownMemberId)
    }
}

fn expect_join(member: &mut Member, now: TimestampMs) {
    let timeout_ms = i64::from(member.rebalance_timeout_ms).max(1);
    member.join_deadline.get_or_insert_with(|| now.plus_ms(timeout_ms));
}

/// What the bytes of JoinGroup say, if they say it.
pub(super) fn subscription(metadata: &Bytes) -> Option<ConsumerProtocolSubscription> {
    consumer_protocol::decode(metadata.clone()).ok().map(|(_, said)| said)
}

/// Where the client runs. Some say nothing by an empty text.
pub(super) fn rack(said: &ConsumerProtocolSubscription) -> Option<Str> {
    said.rack_id.as_ref().filter(|rack| !rack.is_empty()).map(|rack| Str::copy_from(rack))
}

/// What a client has that joins. One that does not say has given all up before.
fn owned(said: &ConsumerProtocolSubscription, topics: &dyn TopicLookup) -> Partitions {
    ids_of(&said.owned_partitions, topics)
}

/// Partitions by the ids of their topics. What there is no more is left out.
pub(super) fn ids_of(named: &[TopicPartition], topics: &dyn TopicLookup) -> Partitions {
    gather(named.iter().flat_map(|topic| {
        let id = topics.find(&topic.topic).map(|(id, _)| id);
        id.into_iter().flat_map(|id| topic.partitions.iter().map(move |index| (id, *index)))
    }))
}

pub(super) fn version_of(metadata: &Bytes) -> i16 {
    let version = metadata.first_chunk::<2>().map_or(0, |bytes| i16::from_be_bytes(*bytes));
    version.clamp(0, consumer_protocol::VERSION_MAX)
}

pub(super) fn assignment_bytes(
    assigned: &Partitions,
    version: i16,
    topics: &dyn TopicLookup,
) -> Bytes {
    let named = assigned.iter().filter_map(|(id, indexes)| {
        let partitions = indexes.iter().copied().collect();
        Some(TopicPartition { topic: topics.name_of(*id)?, partitions })
    });
    let assignment =
        ConsumerProtocolAssignment { assigned_partitions: named.collect(), user_data: None };
    // Names and counts of topics that exist always fit.
    consumer_protocol::encode(&assignment, version).unwrap_or_default()
}

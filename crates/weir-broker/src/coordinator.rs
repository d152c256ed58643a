//! The group coordinator: requests of classic groups on one side, [`Group`] state machines on the other, and between them
//! the log `__consumer_offsets`, in which groups and offsets are kept.
//!
//! A committed offset is visible once it is on disk, and an assignment is handed out once it is on disk: both wait for
//! their commit in [`crate::commit_queue`]. Offsets are in [`crate::offsets`].

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use weir_protocol::api::delete_groups::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse,
};
use weir_protocol::api::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};
use weir_protocol::api::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use weir_protocol::api::join_group::{
    JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember,
};
use weir_protocol::api::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberResponse};
use weir_protocol::api::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};
use weir_protocol::api::sync_group::{SyncGroupRequest, SyncGroupResponse};
use weir_protocol::{ErrorCode, Offset, Str, TimestampMs};

use crate::broker::{Broker, Step};
use crate::commit_queue::{Due, Mark};
use crate::consumer_groups::{record_of, OffsetRecord};
use crate::effects::{Connection, Ticket};
use crate::group::{
    Group, GroupEffect, GroupLimits, GroupState, Join, Joined, Protocol, Sync, Synced,
};
use crate::group_kind::GroupKind;
use crate::group_room::group_bytes;
use crate::offset_records::{CommittedOffset, OffsetKey};
use crate::offsets::tombstones;
use crate::request::{distinct, Response};
use crate::transaction_coordinator::{supersede, TxnOffsets};

/// Operations on a group, as bits: without an authorizer everybody may do all of them.
pub(crate) const GROUP_OPERATIONS: i32 = 0b1101_0100_1000;

/// A group with its offsets.
#[derive(Debug)]
pub struct GroupEntry {
    /// The members.
    pub group: GroupKind,
    /// Records of the group that are not in the log yet: they go with the next ones.
    pub(crate) staged: Vec<OffsetRecord>,
    /// The commit after which all that the group has written is on disk.
    pub(crate) stored_at: Option<Mark>,
    /// Topic → partition → offset.
    pub offsets: BTreeMap<Str, BTreeMap<i32, CommittedOffset>>,
    /// Offsets that are in the log, whose commit is still under way, by the requests that wait for it. What is
    /// forgotten meanwhile leaves here too: its tombstone comes after it in the log.
    pub pending_offsets: BTreeMap<(Str, i32), Vec<Ticket>>,
    /// Offsets that are in the log, whose transaction is not decided.
    pub(crate) txn_offsets: TxnOffsets,
    /// No deadline of the group is before this; `None` if it is not among the deadlines.
    wake_at: Option<TimestampMs>,
    /// What it was counted to take; see [`Coordinator::recount`].
    bytes: usize,
}

impl GroupEntry {
    fn new(group: GroupKind) -> Self {
        Self {
            group,
            staged: Vec::new(),
            stored_at: None,
            offsets: BTreeMap::new(),
            pending_offsets: BTreeMap::new(),
            txn_offsets: TxnOffsets::new(),
            wake_at: None,
            bytes: 0,
        }
    }

    /// Memory that its members take, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records that say that there is no such group any more.
    pub(crate) fn group_tombstones(&self, name: &Str) -> Vec<OffsetRecord> {
        // What is staged is of parts that may not be in the group any more.
        let staged = self.staged.iter().map(|(key, _)| (key.clone(), None));
        let own = match &self.group {
            GroupKind::Classic(_) => vec![(OffsetKey::Group { group: name.clone() }, None)],
            GroupKind::Consumer(group) => {
                group.tombstones().iter().map(|change| record_of(name, change)).collect()
            }
        };
        staged.chain(own).collect()
    }

    /// The partitions it has offsets of in the log, also where the commit is still under way.
    pub(crate) fn offset_keys(&self) -> BTreeSet<(Str, i32)> {
        let seen = self.offsets.iter().flat_map(|(topic, partitions)| {
            partitions.keys().map(move |partition| (topic.clone(), *partition))
        });
        let in_transactions = self.txn_offsets.values().flat_map(|offsets| offsets.keys().cloned());
        seen.chain(self.pending_offsets.keys().cloned()).chain(in_transactions).collect()
    }

    /// Those of `topics` that it has offsets of in the log.
    pub(crate) fn topics_among(&self, topics: &HashSet<Str>) -> BTreeSet<Str> {
        let in_transactions = self.txn_offsets.values().flat_map(BTreeMap::keys);
        let pending = self.pending_offsets.keys().chain(in_transactions).map(|(topic, _)| topic);
        let all = self.offsets.keys().chain(pending);
        all.filter(|topic| topics.contains(*topic)).cloned().collect()
    }

    /// Forgets the offsets of a topic, and says of which partitions the log has some.
    pub(crate) fn forget_topic(&mut self, topic: &str) -> BTreeSet<i32> {
        let seen = self.offsets.remove(topic).unwrap_or_default();
        let mut partitions: BTreeSet<i32> = seen.into_keys().collect();
        self.pending_offsets.retain(|(of, partition), _| {
            let goes = *of == *topic;
            if goes {
                partitions.insert(*partition);
            }
            !goes
        });
        partitions.append(&mut self.forget_txn_offsets(topic));
        partitions
    }

    /// Forgets the offset of one partition.
    pub(crate) fn forget(&mut self, key: &(Str, i32)) {
        if let Some(partitions) = self.offsets.get_mut(&key.0) {
            partitions.remove(&key.1);
            if partitions.is_empty() {
                self.offsets.remove(&key.0);
            }
        }
        self.pending_offsets.remove(key);
        supersede(&mut self.txn_offsets, &[(key.clone(), Offset(i64::MAX))].into());
    }

    /// Takes `ticket` off those that wait for this offset. False if the offset was forgotten meanwhile.
    pub(crate) fn settle(&mut self, topic: &Str, partition: i32, ticket: Ticket) -> bool {
        let key = (topic.clone(), partition);
        let Some(waiting) = self.pending_offsets.get_mut(&key) else { return false };
        let before = waiting.len();
        waiting.retain(|one| *one != ticket);
        let found = waiting.len() < before;
        if waiting.is_empty() {
            self.pending_offsets.remove(&key);
        }
        found
    }
}

/// All groups.
#[derive(Debug, Default)]
pub struct Coordinator {
    groups: HashMap<Str, GroupEntry>,
    deadlines: BTreeSet<(TimestampMs, Str)>,
    /// The sum of what the groups were counted to take.
    bytes: usize,
}

impl Coordinator {
    /// The group of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&GroupEntry> {
        self.groups.get(name)
    }

    /// The group of this name.
    #[must_use]
    pub fn get_mut(&mut self, name: &str) -> Option<&mut GroupEntry> {
        self.groups.get_mut(name)
    }

    /// The group of this name, made if there is none.
    pub fn get_or_make(
        &mut self,
        name: &str,
        limits: GroupLimits,
        now: TimestampMs,
    ) -> &mut GroupEntry {
        let bytes = &mut self.bytes;
        self.groups.entry(Str::copy_from(name)).or_insert_with(|| {
            let mut entry = GroupEntry::new(GroupKind::Classic(Box::new(Group::new(limits, now))));
            entry.bytes = group_bytes(name, &entry.group);
            *bytes += entry.bytes;
            entry
        })
    }

    /// Memory that all groups take, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts anew what a group takes: its members have changed.
    ///
    /// Cost: a look at each member.
    pub(crate) fn recount(&mut self, name: &str) {
        let Some(entry) = self.groups.get_mut(name) else { return };
        let before = std::mem::replace(&mut entry.bytes, group_bytes(name, &entry.group));
        debug_assert!(before <= self.bytes, "each group is in the sum");
        self.bytes = self.bytes - before + entry.bytes;
    }

    /// Puts a group in, or another in its place: its offsets are kept.
    pub fn insert(&mut self, name: &Str, group: GroupKind) {
        match self.groups.get_mut(name) {
            Some(entry) => entry.group = group,
            None => drop(self.groups.insert(name.clone(), GroupEntry::new(group))),
        }
        self.recount(name);
        self.reschedule(name);
    }

    /// The group of this name, if it is classic.
    pub fn classic_mut(&mut self, name: &str) -> Option<&mut Group> {
        self.groups.get_mut(name)?.group.classic_mut()
    }

    /// Groups with their names, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Str, &GroupEntry)> {
        self.groups.iter()
    }

    /// How many groups there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Takes a group out.
    pub fn remove(&mut self, name: &str) -> Option<GroupEntry> {
        let entry = self.groups.remove(name)?;
        self.bytes -= entry.bytes;
        if let Some(at) = entry.wake_at {
            self.deadlines.remove(&(at, Str::copy_from(name)));
        }
        Some(entry)
    }

    /// Forgets every offset: their topic was deleted.
    pub fn forget_all_offsets(&mut self) {
        for entry in self.groups.values_mut() {
            entry.offsets.clear();
            entry.pending_offsets.clear();
            entry.txn_offsets.clear();
        }
    }

    /// The first time a group has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<TimestampMs> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Moves all deadlines, and since when offsets are kept. What is on disk keeps its time.
    pub fn shift(&mut self, by_ms: i64) {
        self.deadlines.clear();
        for (name, entry) in &mut self.groups {
            entry.group.shift(by_ms);
            for committed in entry.offsets.values_mut().flat_map(BTreeMap::values_mut) {
                committed.commit_timestamp_ms = committed.commit_timestamp_ms.saturating_add(by_ms);
            }
            entry.wake_at = entry.group.next_deadline();
            self.deadlines.extend(entry.wake_at.map(|at| (at, name.clone())));
        }
    }

    /// The groups whose time has come. They leave the deadlines; [`Coordinator::reschedule`] puts them back, and one that
    /// is due again at once waits for the next call: nothing a client asks for can hold the core here.
    fn take_due(&mut self, now: TimestampMs) -> Vec<Str> {
        let mut due = Vec::new();
        while self.deadlines.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, name)) = self.deadlines.pop_first() else { break };
            if let Some(entry) = self.groups.get_mut(&name) {
                entry.wake_at = None;
            }
            due.push(name);
        }
        due
    }

    /// Puts the group among the deadlines anew. A heartbeat needs none: it only moves a deadline further away, and a
    /// group that is woken too early goes back to sleep.
    pub fn reschedule(&mut self, name: &Str) {
        let Some(entry) = self.groups.get_mut(name) else { return };
        let next = entry.group.next_deadline();
        if entry.wake_at == next {
            return;
        }
        if let Some(before) = entry.wake_at.take() {
            self.deadlines.remove(&(before, name.clone()));
        }
        if let Some(at) = next {
            entry.wake_at = Some(at);
            self.deadlines.insert((at, name.clone()));
        }
    }
}

/// From this version on SyncGroup says of which protocol it is (KIP-559).
const SYNC_WITH_PROTOCOL: i16 = 5;

impl Broker {
    pub(crate) fn join_group(
        &mut self,
        connection: &Connection,
        ticket: Ticket,
        request: JoinGroupRequest,
        meta: RequestMeta<'_>,
        woken: &mut Vec<(Ticket, Response)>,
    ) -> Step {
        let RequestMeta { version, client_id, now } = meta;
        let refuse = |error: ErrorCode| {
            let member_id = request.member_id.clone();
            Step::Answer(Response::JoinGroup(joined_response(Joined::failed(error, member_id))))
        };
        if request.group_id.is_empty() {
            return refuse(ErrorCode::InvalidGroupId);
        }
        let sessions =
            self.config.group_session_timeout_ms_min..=self.config.group_session_timeout_ms_max;
        if !sessions.contains(&request.session_timeout_ms) {
            return refuse(ErrorCode::InvalidSessionTimeout);
        }
        if self.coordinator.get(&request.group_id).is_none() {
            if !request.member_id.is_empty() {
                return refuse(ErrorCode::UnknownMemberId);
            }
            if self.coordinator.len() >= self.config.groups_max || self.offsets_topic().is_err() {
                return refuse(ErrorCode::CoordinatorNotAvailable);
            }
        }
        if let Err(error) = self.check_room_to_join(&request, client_id) {
            return refuse(error);
        }
        let group_id = Str::copy_from(&request.group_id);
        let join = self.join_of(connection, request, version, client_id);
        self.make_way_for_classic(&group_id, now);
        let limits = self.group_limits();
        let mut effects = Vec::new();
        match &mut self.coordinator.get_or_make(&group_id, limits, now).group {
            GroupKind::Classic(group) => group.join(join, ticket, now, &mut effects),
            GroupKind::Consumer(_) => {
                return self.join_consumer_group(ticket, &group_id, join, now);
            }
        }
        self.group_effects(&group_id, effects, now, woken);
        Step::Parked
    }

    /// Copies out of the frame what the group keeps.
    fn join_of(
        &mut self,
        connection: &Connection,
        request: JoinGroupRequest,
        version: i16,
        client_id: Option<&Str>,
    ) -> Join {
        let client = client_id.map(|id| Str::copy_from(id)).unwrap_or_default();
        let instance_id = request.group_instance_id.as_ref().map(|id| Str::copy_from(id));
        let stem = instance_id.as_ref().unwrap_or(&client);
        let fresh_member_id = Str::from(format!("{stem}-{}", self.ids.java_uuid()));
        let rebalance_timeout_ms = if version == 0 {
            request.session_timeout_ms
        } else {
            request.rebalance_timeout_ms.max(0)
        };
        Join {
            member_id: Str::copy_from(&request.member_id),
            instance_id,
            client_id: client,
            client_host: connection.client_host.clone(),
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms,
            protocol_type: Str::copy_from(&request.protocol_type),
            protocols: request
                .protocols
                .iter()
                .map(|protocol| Protocol {
                    name: Str::copy_from(&protocol.name),
                    metadata: Bytes::copy_from_slice(&protocol.metadata),
                })
                .collect(),
            knows_member_id_required: version >= 4,
            knows_skip_assignment: version >= 9,
            fresh_member_id,
        }
    }

    pub(crate) fn sync_group(
        &mut self,
        ticket: Ticket,
        request: &SyncGroupRequest,
        version: i16,
        now: TimestampMs,
        woken: &mut Vec<(Ticket, Response)>,
    ) -> Step {
        let refuse = |error: ErrorCode| {
            Step::Answer(Response::SyncGroup(synced_response(Synced::failed(error))))
        };
        if version >= SYNC_WITH_PROTOCOL
            && (request.protocol_type.is_none() || request.protocol_name.is_none())
        {
            return refuse(ErrorCode::InconsistentGroupProtocol);
        }
        if request.group_id.is_empty() {
            return refuse(ErrorCode::InvalidGroupId);
        }
        let Some(entry) = self.coordinator.get(&request.group_id) else {
            return refuse(ErrorCode::UnknownMemberId);
        };
        if let GroupKind::Classic(group) = &entry.group {
            let assignments = &request.assignments;
            if let Err(error) =
                self.check_room_for_assignment(&request.group_id, group, assignments)
            {
                return refuse(error);
            }
        }
        let Some(entry) = self.coordinator.get_mut(&request.group_id) else {
            return refuse(ErrorCode::UnknownMemberId);
        };
        let sync = Sync {
            member_id: Str::copy_from(&request.member_id),
            instance_id: request.group_instance_id.clone(),
            generation: request.generation_id,
            protocol_type: request.protocol_type.clone(),
            protocol: request.protocol_name.clone(),
            assignments: request
                .assignments
                .iter()
                .map(|one| {
                    (Str::copy_from(&one.member_id), Bytes::copy_from_slice(&one.assignment))
                })
                .collect(),
        };
        let mut effects = Vec::new();
        match &mut entry.group {
            GroupKind::Classic(group) => group.sync(sync, ticket, now, &mut effects),
            GroupKind::Consumer(_) => {
                let name = Str::copy_from(&request.group_id);
                return self.sync_consumer_group(ticket, &name, &sync, now);
            }
        }
        self.group_effects(&Str::copy_from(&request.group_id), effects, now, woken);
        Step::Parked
    }

    pub(crate) fn heartbeat(&mut self, request: &HeartbeatRequest, now: TimestampMs) -> Step {
        let error = match self.coordinator.get_mut(&request.group_id) {
            _ if request.group_id.is_empty() => ErrorCode::InvalidGroupId,
            None => ErrorCode::UnknownMemberId,
            Some(entry) => {
                let (id, instance) = (&request.member_id, request.group_instance_id.as_ref());
                match &mut entry.group {
                    GroupKind::Classic(group) => {
                        group.heartbeat(id, instance, request.generation_id, now)
                    }
                    GroupKind::Consumer(group) => {
                        group.heartbeat_classic(id, instance, request.generation_id, now)
                    }
                }
            }
        };
        if error == ErrorCode::RebalanceInProgress {
            // It has a deadline now by which it must have joined again.
            self.coordinator.reschedule(&Str::copy_from(&request.group_id));
        }
        Step::Answer(Response::Heartbeat(HeartbeatResponse {
            throttle_time_ms: 0,
            error_code: error.code(),
        }))
    }

    pub(crate) fn leave_group(
        &mut self,
        request: &LeaveGroupRequest,
        version: i16,
        now: TimestampMs,
        woken: &mut Vec<(Ticket, Response)>,
    ) -> Step {
        let group_id = Str::copy_from(&request.group_id);
        let mut response = LeaveGroupResponse::default();
        let named: Vec<(Str, Option<Str>)> = match version {
            ..=2 => vec![(Str::copy_from(&request.member_id), None)],
            _ => request
                .members
                .iter()
                .map(|member| (member.member_id.clone(), member.group_instance_id.clone()))
                .collect(),
        };
        if group_id.is_empty() {
            response.error_code = ErrorCode::InvalidGroupId.code();
            return Step::Answer(Response::LeaveGroup(response));
        }
        let errors = self.leave(&group_id, &named, now, woken);
        if version < 3 {
            let error = errors.first().copied().unwrap_or(ErrorCode::None);
            response.error_code = error.code();
        } else {
            let answered = named.into_iter().zip(errors).map(|((member_id, instance), error)| {
                let error_code = error.code();
                MemberResponse { member_id, group_instance_id: instance, error_code }
            });
            response.members = answered.collect();
        }
        Step::Answer(Response::LeaveGroup(response))
    }

    fn leave(
        &mut self,
        group_id: &Str,
        named: &[(Str, Option<Str>)],
        now: TimestampMs,
        woken: &mut Vec<(Ticket, Response)>,
    ) -> Vec<ErrorCode> {
        let mut effects = Vec::new();
        let errors = match self.coordinator.get_mut(group_id).map(|entry| &mut entry.group) {
            None => return vec![ErrorCode::UnknownMemberId; named.len()],
            Some(GroupKind::Consumer(_)) => {
                return self.leave_consumer_group(group_id, named, now, woken);
            }
            Some(GroupKind::Classic(group)) => named
                .iter()
                .map(|(id, instance)| group.leave(id, instance.as_ref(), now, &mut effects))
                .collect(),
        };
        self.group_effects(group_id, effects, now, woken);
        errors
    }

    pub(crate) fn describe_groups(&self, request: &DescribeGroupsRequest, version: i16) -> Step {
        let groups = distinct(&request.groups, |name| name)
            .into_iter()
            .take(self.config.request_names_max)
            .map(|name| self.describe_group(name, version, request.include_authorized_operations))
            .collect();
        Step::Answer(Response::DescribeGroups(DescribeGroupsResponse {
            throttle_time_ms: 0,
            groups,
        }))
    }

    fn describe_group(&self, name: &Str, version: i16, with_operations: bool) -> DescribedGroup {
        let mut described = DescribedGroup { group_id: name.clone(), ..DescribedGroup::default() };
        if with_operations {
            described.authorized_operations = GROUP_OPERATIONS;
        }
        let group = match self.coordinator.get(name).map(|entry| &entry.group) {
            Some(GroupKind::Classic(group)) => group,
            other => {
                described.group_state = "Dead".into();
                if version >= 6 {
                    let what = if other.is_none() { "not found" } else { "not a classic group" };
                    described.error_code = ErrorCode::GroupIdNotFound.code();
                    described.error_message = Some(format!("Group {name} is {what}.").into());
                }
                return described;
            }
        };
        let stable = group.state() == GroupState::Stable;
        described.group_state = group.state().name().into();
        described.protocol_type = group.protocol_type().cloned().unwrap_or_default();
        described.protocol_data = group.protocol().filter(|_| stable).cloned().unwrap_or_default();
        described.members = group
            .members()
            .map(|member| DescribedGroupMember {
                member_id: member.id.clone(),
                group_instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                member_metadata: if stable { group.metadata_of(member) } else { Bytes::new() },
                // While the group rebalances, what it still works by.
                member_assignment: member.assignment.clone(),
            })
            .collect();
        described
    }

    pub(crate) fn list_groups(&self, request: &ListGroupsRequest) -> Step {
        // There are few names of states and types, whatever a filter says.
        let folded = |filter: &[Str]| -> BTreeSet<String> {
            filter.iter().map(|one| one.to_ascii_lowercase()).collect()
        };
        let (states, types) = (folded(&request.states_filter), folded(&request.types_filter));
        let among = |filter: &BTreeSet<String>, value: &str| {
            filter.is_empty() || filter.contains(&value.to_ascii_lowercase())
        };
        let mut groups: Vec<ListedGroup> = self
            .coordinator
            .iter()
            .filter(|(_, entry)| among(&states, entry.group.state_name()))
            .filter(|(_, entry)| among(&types, entry.group.type_name()))
            .map(|(name, entry)| ListedGroup {
                group_id: name.clone(),
                protocol_type: entry.group.protocol_type().unwrap_or_default(),
                group_state: entry.group.state_name().into(),
                group_type: entry.group.type_name().into(),
            })
            .collect();
        groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
        Step::Answer(Response::ListGroups(ListGroupsResponse {
            throttle_time_ms: 0,
            error_code: 0,
            groups,
        }))
    }

    /// Deletes groups without members, with their offsets. The answer waits until the tombstones are on disk.
    pub(crate) fn delete_groups(
        &mut self,
        ticket: Ticket,
        request: &DeleteGroupsRequest,
        now: TimestampMs,
    ) -> Step {
        // A name that comes twice is answered once.
        let names = distinct(&request.groups_names, |name| name);
        if let Err((error, _)) = self.check_names(names.len()) {
            let refused = names.into_iter().take(self.config.request_names_max);
            let results = refused.map(|name| DeletableGroupResult {
                group_id: name.clone(),
                error_code: error.code(),
            });
            let results = results.collect();
            let response = DeleteGroupsResponse { throttle_time_ms: 0, results };
            return Step::Answer(Response::DeleteGroups(response));
        }
        let mut results = Vec::with_capacity(names.len());
        for name in names {
            let error = self.delete_group(name, now).err().unwrap_or(ErrorCode::None);
            results.push(DeletableGroupResult { group_id: name.clone(), error_code: error.code() });
        }
        let response =
            Response::DeleteGroups(DeleteGroupsResponse { throttle_time_ms: 0, results });
        self.commit_queue.answer_when_synced(ticket, response)
    }

    fn delete_group(&mut self, name: &Str, now: TimestampMs) -> Result<(), ErrorCode> {
        let entry = self.coordinator.get(name).ok_or(ErrorCode::GroupIdNotFound)?;
        if !entry.group.is_idle() {
            return Err(ErrorCode::NonEmptyGroup);
        }
        let group = Str::copy_from(name);
        let keys = entry.offset_keys();
        let mut tombstones =
            tombstones(&group, keys.iter().map(|(topic, partition)| (&**topic, *partition)));
        tombstones.extend(entry.group_tombstones(&group));
        self.write_offset_records(&group, &tombstones, now)?;
        self.commit_queue.appended(true);
        self.coordinator.remove(name);
        Ok(())
    }

    /// Carries out what a group wants: answers, records.
    pub(crate) fn group_effects(
        &mut self,
        group_id: &Str,
        effects: Vec<GroupEffect>,
        now: TimestampMs,
        woken: &mut Vec<(Ticket, Response)>,
    ) {
        let mut pending = effects;
        while !pending.is_empty() {
            for effect in std::mem::take(&mut pending) {
                match effect {
                    GroupEffect::Joined(ticket, joined) => {
                        woken.push((ticket, Response::JoinGroup(joined_response(joined))));
                    }
                    GroupEffect::StoreThenJoined(ticket, joined) => {
                        self.store_then_answer(group_id, ticket, joined, now, woken);
                    }
                    GroupEffect::Synced(ticket, synced) => {
                        woken.push((ticket, Response::SyncGroup(synced_response(synced))));
                    }
                    GroupEffect::Store => {
                        if let Err(error) = self.store_group(group_id, now) {
                            tracing::warn!(group = %group_id, %error, "group metadata was not written");
                        }
                    }
                    GroupEffect::StoreAssignment { generation } => {
                        self.store_assignment(group_id, generation, now, &mut pending);
                    }
                }
            }
        }
        self.coordinator.recount(group_id);
        self.coordinator.reschedule(group_id);
    }

    fn store_then_answer(
        &mut self,
        group_id: &Str,
        ticket: Ticket,
        joined: Joined,
        now: TimestampMs,
        woken: &mut Vec<(Ticket, Response)>,
    ) {
        let answer = match self.store_group(group_id, now) {
            Ok(()) => {
                let response = Response::JoinGroup(joined_response(joined));
                return self.commit_queue.push(Due::Answer(ticket, response));
            }
            Err(error) => Joined::failed(error, joined.member_id),
        };
        woken.push((ticket, Response::JoinGroup(joined_response(answer))));
    }

    fn store_assignment(
        &mut self,
        group_id: &Str,
        generation: i32,
        now: TimestampMs,
        more: &mut Vec<GroupEffect>,
    ) {
        match self.store_group(group_id, now) {
            Ok(()) => {
                self.commit_queue.push(Due::Assignment { group: group_id.clone(), generation })
            }
            Err(error) => {
                if let Some(group) = self.coordinator.classic_mut(group_id) {
                    group.stored(generation, Err(error), now, more);
                }
            }
        }
    }

    fn store_group(&mut self, group_id: &Str, now: TimestampMs) -> Result<(), ErrorCode> {
        let Some(entry) = self.coordinator.get_mut(group_id) else { return Ok(()) };
        let Some(group) = entry.group.classic() else { return Ok(()) };
        let value = group.record().encode();
        entry.stage((OffsetKey::Group { group: group_id.clone() }, Some(value)));
        self.store_staged_records(group_id, now)
    }

    /// The commit of an assignment has ended.
    pub(crate) fn assignment_stored(
        &mut self,
        group_id: &Str,
        generation: i32,
        result: Result<(), ErrorCode>,
        now: TimestampMs,
        woken: &mut Vec<(Ticket, Response)>,
    ) {
        let mut effects = Vec::new();
        if let Some(group) = self.coordinator.classic_mut(group_id) {
            group.stored(generation, result, now, &mut effects);
        }
        self.group_effects(group_id, effects, now, woken);
    }

    /// Lets the groups' time pass.
    pub(crate) fn tick_groups(&mut self, now: TimestampMs, woken: &mut Vec<(Ticket, Response)>) {
        for name in self.coordinator.take_due(now) {
            let mut effects = Vec::new();
            match self.coordinator.get_mut(&name).map(|entry| &mut entry.group) {
                Some(GroupKind::Classic(group)) => {
                    group.tick(now, &mut effects);
                    debug_assert!(
                        group.next_deadline().is_none_or(|at| at > now),
                        "a tick settles what is due"
                    );
                    self.group_effects(&name, effects, now, woken);
                }
                Some(GroupKind::Consumer(_)) => self.tick_consumer_group(&name, now, woken),
                None => {}
            }
        }
    }

    pub(crate) fn group_limits(&self) -> GroupLimits {
        GroupLimits {
            members_max: self.config.group_members_max,
            initial_rebalance_delay_ms: self.config.group_initial_rebalance_delay_ms,
        }
    }
}

/// What a group request brings beside its body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestMeta<'a> {
    pub(crate) version: i16,
    pub(crate) client_id: Option<&'a Str>,
    pub(crate) now: TimestampMs,
}

pub(crate) fn joined_response(joined: Joined) -> JoinGroupResponse {
    JoinGroupResponse {
        throttle_time_ms: 0,
        error_code: joined.error.code(),
        generation_id: joined.generation,
        protocol_type: joined.protocol_type,
        protocol_name: joined.protocol,
        leader: joined.leader,
        skip_assignment: joined.skip_assignment,
        member_id: joined.member_id,
        members: joined
            .members
            .into_iter()
            .map(|(member_id, group_instance_id, metadata)| JoinGroupResponseMember {
                member_id,
                group_instance_id,
                metadata,
            })
            .collect(),
    }
}

pub(crate) fn synced_response(synced: Synced) -> SyncGroupResponse {
    SyncGroupResponse {
        throttle_time_ms: 0,
        error_code: synced.error.code(),
        protocol_type: synced.protocol_type,
        protocol_name: synced.protocol,
        assignment: synced.assignment,
    }
}

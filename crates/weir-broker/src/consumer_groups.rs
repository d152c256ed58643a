//! Requests of consumer groups (KIP-848): ConsumerGroupHeartbeat, ConsumerGroupDescribe, what classic members of such a
//! group ask, and groups that change from one protocol to the other.
//!
//! What a group writes is in the log before it is answered, and an answer that depends on what another one has written
//! waits for that commit too.

use std::collections::BTreeSet;

use weir_protocol::api::consumer_group_describe::{
    Assignment, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribedGroup,
    Member as DescribedMember, TopicPartitions as DescribedPartitions,
};
use weir_protocol::api::consumer_group_heartbeat::{
    Assignment as NewAssignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    TopicPartitions,
};
use weir_protocol::{ErrorCode, Str, TimestampMs};

use crate::broker::{Broker, Step};
use crate::commit_queue::Due;
use crate::consumer_group::{
    Assignor, Beat, Change, ConsumerGroup, ConsumerGroupLimits, Heartbeat, Partitions, Refusal,
    TopicLookup,
};
use crate::coordinator::{
    joined_response, synced_response, GroupEntry, RequestMeta, GROUP_OPERATIONS,
};
use crate::effects::{Connection, Ticket};
use crate::group::{Group, Join, Joined, Sync, Synced, CONSUMER_PROTOCOL_TYPE};
use crate::group_kind::GroupKind;
use crate::offset_records::OffsetKey;
use crate::request::{distinct, Response};
use crate::settings::ConfigOwner;

/// From this version on the client makes its own member id (KIP-1082).
const CLIENT_MAKES_ID_VERSION_MIN: i16 = 1;
/// ConsumerGroupDescribe tells of which protocol a member is.
const MEMBER_CLASSIC: i8 = 0;
const MEMBER_CONSUMER: i8 = 1;

/// A record of the log of committed offsets; without a value its tombstone.
pub(crate) type OffsetRecord = (OffsetKey, Option<Vec<u8>>);

impl Broker {
    pub(crate) fn consumer_group_heartbeat(
        &mut self,
        connection: &Connection,
        ticket: Ticket,
        request: &ConsumerGroupHeartbeatRequest,
        meta: RequestMeta<'_>,
        woken: &mut Vec<(Ticket, Response)>,
    ) -> Step {
        let RequestMeta { version, client_id, now } = meta;
        let beaten = check_heartbeat(request, version)
            .and_then(|()| self.heartbeat_of(connection, request, client_id))
            .and_then(|beat| self.beat(&Str::copy_from(&request.group_id), beat, now, woken));
        match beaten {
            Ok(beat) => {
                let group = &request.group_id;
                let response = Response::ConsumerGroupHeartbeat(self.beat_response(group, beat));
                self.answer_when_group_is_stored(group, ticket, response)
            }
            Err(refusal) => Step::Answer(Response::ConsumerGroupHeartbeat(refused(&refusal))),
        }
    }

    /// Copies out of the frame what the group keeps.
    fn heartbeat_of(
        &mut self,
        connection: &Connection,
        request: &ConsumerGroupHeartbeatRequest,
        client_id: Option<&Str>,
    ) -> Result<Heartbeat, Refusal> {
        if let Some(assignor) = &request.server_assignor {
            self.check_assignor(assignor)?;
        }
        let own = |text: &Option<Str>| text.as_ref().map(|text| Str::copy_from(text));
        let member_id = match request.member_id.is_empty() {
            true => Str::from(self.ids.uuid().to_string()),
            false => Str::copy_from(&request.member_id),
        };
        let names = request.subscribed_topic_names.as_ref();
        let owned = request.topic_partitions.as_ref().map(|topics| {
            let mut owned = Partitions::new();
            for topic in topics.iter().filter(|topic| !topic.partitions.is_empty()) {
                owned.entry(topic.topic_id).or_default().extend(&topic.partitions);
            }
            owned
        });
        Ok(Heartbeat {
            member_id,
            epoch: request.member_epoch,
            instance_id: own(&request.instance_id),
            rack_id: own(&request.rack_id),
            rebalance_timeout_ms: Some(request.rebalance_timeout_ms).filter(|ms| *ms != -1),
            topics: names.map(|names| names.iter().map(|name| Str::copy_from(name)).collect()),
            regex: own(&request.subscribed_topic_regex),
            assignor: own(&request.server_assignor),
            owned,
            client_id: client_id.map(|id| Str::copy_from(id)).unwrap_or_default(),
            client_host: connection.client_host.clone(),
        })
    }

    fn check_assignor(&self, name: &str) -> Result<(), Refusal> {
        let supported = &self.config.group_consumer_assignors;
        if Assignor::of(name).is_some_and(|assignor| supported.contains(&assignor)) {
            return Ok(());
        }
        let names: Vec<&str> = supported.iter().map(|assignor| assignor.name()).collect();
        let names = names.join(", ");
        let words =
            format!("ServerAssignor {name} is not supported. Supported assignors: {names}.");
        Err(Refusal::new(ErrorCode::UnsupportedAssignor, words))
    }

    fn beat(
        &mut self,
        name: &Str,
        beat: Heartbeat,
        now: TimestampMs,
        woken: &mut Vec<(Ticket, Response)>,
    ) -> Result<Beat, Refusal> {
        self.find_or_make_consumer_group(name, beat.epoch == 0, now, woken)?;
        let group = self.coordinator.get(name).and_then(|entry| entry.group.consumer());
        let room = group.map_or(Ok(()), |group| self.check_room_to_beat(name, group, &beat));
        if room.is_err() {
            self.forget_if_never_used(name);
        }
        room?;
        let mut changes = Vec::new();
        let limits = self.consumer_group_limits(name);
        let topics = &self.topics;
        let group = self.coordinator.get_mut(name).and_then(|entry| entry.group.consumer_mut());
        let Some(group) = group else { return Err(no_consumer_group(name)) };
        group.set_limits(limits);
        let beaten = group.heartbeat(beat, topics, now, &mut changes);
        let stored = self.store_changes(name, changes, now);
        self.downgrade_if_classic_is_left(name, now, woken);
        self.coordinator.reschedule(name);
        if beaten.is_err() {
            self.forget_if_never_used(name);
        }
        let beat = beaten?;
        stored.map_err(|error| Refusal::new(error, "The group could not be stored."))?;
        Ok(beat)
    }

    /// A group whose first member was refused is none.
    fn forget_if_never_used(&mut self, name: &Str) {
        let is_used = self.coordinator.get(name).is_none_or(|entry| {
            let is_new = |group: &ConsumerGroup| group.epoch() == 0 && group.member_count() == 0;
            let is_new = entry.group.consumer().is_some_and(is_new);
            !is_new || !entry.staged.is_empty() || !entry.offset_keys().is_empty()
        });
        if !is_used {
            self.coordinator.remove(name);
        }
    }

    /// Makes sure that there is a consumer group of this name: one is made for a member that joins, also out of a classic
    /// group, if it is empty or the policy lets it move with its members.
    fn find_or_make_consumer_group(
        &mut self,
        name: &Str,
        joins: bool,
        now: TimestampMs,
        woken: &mut Vec<(Ticket, Response)>,
    ) -> Result<(), Refusal> {
        let limits = self.consumer_group_limits(name);
        match self.coordinator.get(name).map(|entry| &entry.group) {
            Some(GroupKind::Consumer(_)) => Ok(()),
            None if !joins => {
                let words = format!("Consumer group {name} not found.");
                Err(Refusal::new(ErrorCode::GroupIdNotFound, words))
            }
            None => {
                let has_room = self.coordinator.len() < self.config.groups_max;
                if !has_room || self.offsets_topic().is_err() {
                    let words = "There is no room for another group.";
                    return Err(Refusal::new(ErrorCode::CoordinatorNotAvailable, words));
                }
                let kind = GroupKind::Consumer(Box::new(ConsumerGroup::new(limits, now)));
                self.coordinator.insert(name, kind);
                Ok(())
            }
            Some(GroupKind::Classic(_)) if !joins => Err(no_consumer_group(name)),
            Some(GroupKind::Classic(group)) if group.is_empty() => {
                self.stage_tombstone(name);
                let kind = GroupKind::Consumer(Box::new(ConsumerGroup::new(limits, now)));
                self.coordinator.insert(name, kind);
                Ok(())
            }
            Some(GroupKind::Classic(_)) => self.upgrade(name, limits, now, woken),
        }
    }

    /// The tombstone of a classic group goes before the first record of the consumer group it becomes.
    fn stage_tombstone(&mut self, name: &Str) {
        if let Some(entry) = self.coordinator.get_mut(name) {
            entry.stage((OffsetKey::Group { group: name.clone() }, None));
        }
    }

    fn upgrade(
        &mut self,
        name: &Str,
        limits: ConsumerGroupLimits,
        now: TimestampMs,
        woken: &mut Vec<(Ticket, Response)>,
    ) -> Result<(), Refusal> {
        let refuse = |why: &str| {
            let words =
                format!("Cannot upgrade classic group {name} to consumer group because {why}.");
            Refusal::new(ErrorCode::GroupIdNotFound, words)
        };
        if !self.config.group_consumer_migration_policy.upgrades() {
            return Err(refuse("online upgrade is disabled"));
        }
        let mut changes = Vec::new();
        let Some(entry) = self.coordinator.get_mut(name) else { return Err(refuse("it is gone")) };
        let Some(classic) = entry.group.classic_mut() else { return Ok(()) };
        let upgraded = ConsumerGroup::upgraded(classic, limits, &self.topics, now, &mut changes);
        let upgraded = upgraded.map_err(refuse)?;
        let mut effects = Vec::new();
        classic.release(&mut effects);
        entry.group = GroupKind::Consumer(Box::new(upgraded));
        tracing::info!(group = %name, "classic group became a consumer group");
        self.stage_tombstone(name);
        let stored = self.store_changes(name, changes, now);
        self.group_effects(name, effects, now, woken);
        stored.map_err(|error| Refusal::new(error, "The group could not be stored."))
    }

    /// A consumer group that has only classic members left becomes a classic group, if the policy says so.
    fn downgrade_if_classic_is_left(
        &mut self,
        name: &Str,
        now: TimestampMs,
        woken: &mut Vec<(Ticket, Response)>,
    ) {
        let limits = self.group_limits();
        let Some(entry) = self.coordinator.get_mut(name) else { return };
        let Some(group) = entry.group.consumer() else { return };
        let may = self.config.group_consumer_migration_policy.downgrades()
            && group.member_count() <= limits.members_max;
        if !may || !group.is_left_to_classic() {
            return;
        }
        let (record, protocols) = group.downgraded(&self.topics, now);
        let tombstones = group.tombstones();
        let mut effects = Vec::new();
        let classic = Group::downgraded(limits, record, protocols, now, &mut effects);
        entry.group = GroupKind::Classic(Box::new(classic));
        tracing::info!(group = %name, "consumer group became a classic group");
        if let Err(error) = self.store_changes(name, tombstones, now) {
            tracing::warn!(group = %name, %error, "records of a consumer group stay in the log");
        }
        self.group_effects(name, effects, now, woken);
    }

    /// An empty consumer group makes way for a classic one.
    pub(crate) fn make_way_for_classic(&mut self, name: &Str, now: TimestampMs) {
        let limits = self.group_limits();
        let Some(entry) = self.coordinator.get_mut(name) else { return };
        let Some(group) = entry.group.consumer().filter(|group| group.member_count() == 0) else {
            return;
        };
        for change in group.tombstones() {
            entry.stage(record_of(name, &change));
        }
        self.coordinator.insert(name, GroupKind::Classic(Box::new(Group::new(limits, now))));
    }

    /// Writes what a group has changed, and what could not be written before.
    fn store_changes(
        &mut self,
        name: &Str,
        changes: Vec<Change>,
        now: TimestampMs,
    ) -> Result<(), ErrorCode> {
        let Some(entry) = self.coordinator.get_mut(name) else { return Ok(()) };
        for change in &changes {
            entry.stage(record_of(name, change));
        }
        if !changes.is_empty() {
            self.coordinator.recount(name);
        }
        self.store_staged_records(name, now)
    }

    /// Writes the records that a group has staged. They stay if that fails.
    pub(crate) fn store_staged_records(
        &mut self,
        name: &Str,
        now: TimestampMs,
    ) -> Result<(), ErrorCode> {
        let Some(entry) = self.coordinator.get_mut(name) else { return Ok(()) };
        if entry.staged.is_empty() {
            return Ok(());
        }
        let staged = std::mem::take(&mut entry.staged);
        let written = self.write_offset_records(name, &staged, now);
        if written.is_ok() {
            self.commit_queue.appended(true);
        }
        let mark = self.commit_queue.mark();
        if let Some(entry) = self.coordinator.get_mut(name) {
            match written {
                Ok(()) => entry.stored_at = Some(mark),
                Err(_) => entry.keep_staged(staged),
            }
        }
        written
    }

    /// Answers once all that the group has written is on disk, which may be now.
    fn answer_when_group_is_stored(
        &mut self,
        name: &str,
        ticket: Ticket,
        response: Response,
    ) -> Step {
        let mark = self.coordinator.get(name).and_then(|entry| entry.stored_at);
        if mark.is_none_or(|mark| self.commit_queue.is_synced(mark)) {
            return Step::Answer(response);
        }
        self.commit_queue.push(Due::Answer(ticket, response));
        Step::Parked
    }

    fn beat_response(&self, group: &str, beat: Beat) -> ConsumerGroupHeartbeatResponse {
        let assignment = beat.assignment.map(|assigned| NewAssignment {
            topic_partitions: assigned
                .into_iter()
                .map(|(topic_id, indexes)| TopicPartitions {
                    topic_id,
                    partitions: indexes.into_iter().collect(),
                })
                .collect(),
        });
        let goes = beat.epoch < 0;
        ConsumerGroupHeartbeatResponse {
            member_id: Some(beat.member_id),
            member_epoch: beat.epoch,
            heartbeat_interval_ms: match goes {
                true => 0,
                false => self.consumer_group_limits(group).heartbeat_interval_ms,
            },
            assignment,
            ..ConsumerGroupHeartbeatResponse::default()
        }
    }

    pub(crate) fn consumer_group_describe(
        &self,
        request: &ConsumerGroupDescribeRequest,
        version: i16,
    ) -> Step {
        let groups = distinct(&request.group_ids, |name| name)
            .into_iter()
            .take(self.config.request_names_max)
            .map(|name| {
                self.describe_consumer_group(name, version, request.include_authorized_operations)
            })
            .collect();
        Step::Answer(Response::ConsumerGroupDescribe(ConsumerGroupDescribeResponse {
            throttle_time_ms: 0,
            groups,
        }))
    }

    fn describe_consumer_group(
        &self,
        name: &Str,
        version: i16,
        with_operations: bool,
    ) -> DescribedGroup {
        let failed = |error: ErrorCode, words: String| DescribedGroup {
            error_code: error.code(),
            error_message: Some(words.into()),
            group_id: name.clone(),
            ..DescribedGroup::default()
        };
        if name.is_empty() {
            return failed(ErrorCode::InvalidGroupId, "The group id is empty.".to_owned());
        }
        let group = match self.coordinator.get(name).map(|entry| &entry.group) {
            Some(GroupKind::Consumer(group)) => group,
            Some(GroupKind::Classic(_)) => {
                let words = format!("Group {name} is not a consumer group.");
                return failed(ErrorCode::GroupIdNotFound, words);
            }
            None => return failed(ErrorCode::GroupIdNotFound, format!("Group {name} not found.")),
        };
        DescribedGroup {
            group_id: name.clone(),
            group_state: group.state().name().into(),
            group_epoch: group.epoch(),
            assignment_epoch: group.target_epoch(),
            assignor_name: group.assignor().name().into(),
            members: self.describe_members(group, version),
            authorized_operations: if with_operations { GROUP_OPERATIONS } else { i32::MIN },
            ..DescribedGroup::default()
        }
    }

    fn describe_members(&self, group: &ConsumerGroup, version: i16) -> Vec<DescribedMember> {
        let none = Partitions::new();
        let named = |partitions: &Partitions| Assignment {
            topic_partitions: partitions
                .iter()
                .filter_map(|(id, indexes)| {
                    Some(DescribedPartitions {
                        topic_id: *id,
                        topic_name: self.topics.name_of(*id)?,
                        partitions: indexes.iter().copied().collect(),
                    })
                })
                .collect(),
        };
        let described = |member: &crate::consumer_group::Member| DescribedMember {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            rack_id: member.rack_id.clone(),
            member_epoch: member.current.epoch,
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            subscribed_topic_names: member.topics.iter().cloned().collect(),
            // As Kafka's node: empty, though the field may be null.
            subscribed_topic_regex: Some(member.regex.clone().unwrap_or_default()),
            assignment: named(&member.current.assigned),
            target_assignment: named(group.target_of(&member.id).unwrap_or(&none)),
            member_type: match version {
                0 => -1,
                _ if member.is_classic() => MEMBER_CLASSIC,
                _ => MEMBER_CONSUMER,
            },
        };
        group.members().map(described).collect()
    }

    /// A client of the classic protocol joins a consumer group.
    pub(crate) fn join_consumer_group(
        &mut self,
        ticket: Ticket,
        name: &Str,
        join: Join,
        now: TimestampMs,
    ) -> Step {
        let mut changes = Vec::new();
        let member_id = join.member_id.clone();
        let failed = |error: ErrorCode, id: Str| {
            Step::Answer(Response::JoinGroup(joined_response(Joined::failed(error, id))))
        };
        let topics = &self.topics;
        let group = self.coordinator.get_mut(name).and_then(|entry| entry.group.consumer_mut());
        let Some(group) = group else { return failed(ErrorCode::UnknownMemberId, member_id) };
        let joined = group.join_classic(join, topics, now, &mut changes);
        let stored = self.store_changes(name, changes, now);
        self.coordinator.reschedule(name);
        let joined = match (joined, stored) {
            (Ok(joined), Ok(())) => joined,
            (Err((error, id)), _) => return failed(error, id),
            (Ok(joined), Err(error)) => return failed(error, joined.member_id),
        };
        let response = joined_response(Joined {
            generation: joined.generation,
            protocol_type: Some(CONSUMER_PROTOCOL_TYPE.into()),
            protocol: Some(joined.protocol),
            ..Joined::failed(ErrorCode::None, joined.member_id)
        });
        self.answer_when_group_is_stored(name, ticket, Response::JoinGroup(response))
    }

    /// A classic member of a consumer group asks for its assignment.
    pub(crate) fn sync_consumer_group(
        &mut self,
        ticket: Ticket,
        name: &Str,
        sync: &Sync,
        now: TimestampMs,
    ) -> Step {
        let topics = &self.topics;
        let group = self.coordinator.get_mut(name).and_then(|entry| entry.group.consumer_mut());
        let synced = match group.map(|group| group.sync_classic(sync, topics, now)) {
            Some(Ok((protocol, assignment))) => Synced {
                error: ErrorCode::None,
                protocol_type: Some(CONSUMER_PROTOCOL_TYPE.into()),
                protocol: Some(protocol),
                assignment,
            },
            Some(Err(error)) => Synced::failed(error),
            None => Synced::failed(ErrorCode::UnknownMemberId),
        };
        self.coordinator.reschedule(name);
        let response = Response::SyncGroup(synced_response(synced));
        self.answer_when_group_is_stored(name, ticket, response)
    }

    /// A classic member of a consumer group goes.
    pub(crate) fn leave_consumer_group(
        &mut self,
        name: &Str,
        members: &[(Str, Option<Str>)],
        now: TimestampMs,
        woken: &mut Vec<(Ticket, Response)>,
    ) -> Vec<ErrorCode> {
        let mut changes = Vec::new();
        let topics = &self.topics;
        let group = self.coordinator.get_mut(name).and_then(|entry| entry.group.consumer_mut());
        let Some(group) = group else { return vec![ErrorCode::UnknownMemberId; members.len()] };
        let mut leave = |(id, instance): &(Str, Option<Str>)| {
            group.leave_classic(id, instance.as_ref(), topics, now, &mut changes)
        };
        let mut errors: Vec<ErrorCode> = members.iter().map(&mut leave).collect();
        if let Err(failed) = self.store_changes(name, changes, now) {
            errors.iter_mut().filter(|error| error.is_none()).for_each(|error| *error = failed);
        }
        self.downgrade_if_classic_is_left(name, now, woken);
        self.coordinator.reschedule(name);
        errors
    }

    /// Lets the time of a consumer group pass.
    pub(crate) fn tick_consumer_group(
        &mut self,
        name: &Str,
        now: TimestampMs,
        woken: &mut Vec<(Ticket, Response)>,
    ) {
        let mut changes = Vec::new();
        let topics = &self.topics;
        let entry = self.coordinator.get_mut(name);
        let Some(group) = entry.and_then(|entry| entry.group.consumer_mut()) else { return };
        group.tick(topics, now, &mut changes);
        if let Err(error) = self.store_changes(name, changes, now) {
            tracing::warn!(group = %name, %error, "changes of a consumer group were not written yet");
        }
        self.downgrade_if_classic_is_left(name, now, woken);
        self.coordinator.reschedule(name);
    }

    /// What a group obeys: its own configuration, under it the broker's.
    pub(crate) fn consumer_group_limits(&self, name: &str) -> ConsumerGroupLimits {
        let own = self.settings.configs(ConfigOwner::Group, name);
        let own = |key: &str| own.get(key).and_then(|value| value.trim().parse::<i32>().ok());
        let session_timeout_ms = own("consumer.session.timeout.ms");
        let heartbeat_interval_ms = own("consumer.heartbeat.interval.ms");
        ConsumerGroupLimits {
            members_max: self.config.group_consumer_members_max,
            session_timeout_ms: session_timeout_ms
                .unwrap_or(self.config.group_consumer_session_timeout_ms),
            heartbeat_interval_ms: heartbeat_interval_ms
                .unwrap_or(self.config.group_consumer_heartbeat_interval_ms),
            assignors: self.config.group_consumer_assignors.clone(),
        }
    }

    /// The configuration of a group was changed: it holds from the next heartbeat of each member on.
    pub(crate) fn apply_group_configs(&mut self, name: &str) {
        let limits = self.consumer_group_limits(name);
        let entry = self.coordinator.get_mut(name);
        if let Some(group) = entry.and_then(|entry| entry.group.consumer_mut()) {
            group.set_limits(limits);
        }
    }
}

impl GroupEntry {
    /// Stages a record that is to be written with the next one.
    pub(crate) fn stage(&mut self, record: OffsetRecord) {
        self.staged.push(record);
    }

    /// Keeps records that could not be written, of each key the last: there are no more than the group has parts.
    fn keep_staged(&mut self, staged: Vec<OffsetRecord>) {
        let mut seen = BTreeSet::new();
        let mut kept: Vec<OffsetRecord> =
            staged.into_iter().rev().filter(|(key, _)| seen.insert(key.encode())).collect();
        kept.reverse();
        self.staged = kept;
    }
}

pub(crate) fn record_of(name: &Str, change: &Change) -> OffsetRecord {
    (OffsetKey::Consumer { group: name.clone(), key: change.key() }, change.value())
}

fn check_heartbeat(request: &ConsumerGroupHeartbeatRequest, version: i16) -> Result<(), Refusal> {
    let invalid = |words: &str| Err(Refusal::new(ErrorCode::InvalidRequest, words));
    let is_blank = |text: &Option<Str>| text.as_ref().is_some_and(|text| text.trim().is_empty());
    let epoch = request.member_epoch;
    let needs_id = version >= CLIENT_MAKES_ID_VERSION_MIN || epoch > 0 || epoch == -1;
    if needs_id && request.member_id.trim().is_empty() {
        return invalid("MemberId can't be empty.");
    }
    if request.group_id.trim().is_empty() {
        return invalid("GroupId can't be empty.");
    }
    if is_blank(&request.instance_id) {
        return invalid("InstanceId can't be empty.");
    }
    if is_blank(&request.rack_id) {
        return invalid("RackId can't be empty.");
    }
    match epoch {
        0 if request.rebalance_timeout_ms == -1 => {
            invalid("RebalanceTimeoutMs must be provided in first request.")
        }
        0 if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) => {
            invalid("TopicPartitions must be empty when (re-)joining.")
        }
        0 if request.subscribed_topic_names.is_none()
            && request.subscribed_topic_regex.is_none() =>
        {
            invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.")
        }
        -2 if request.instance_id.is_none() => invalid("InstanceId can't be null."),
        ..=-3 => invalid("MemberEpoch is invalid."),
        _ => Ok(()),
    }
}

fn no_consumer_group(name: &Str) -> Refusal {
    let words = format!("Group {name} is not a consumer group.");
    Refusal::new(ErrorCode::GroupIdNotFound, words)
}

pub(crate) fn refused(refusal: &Refusal) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse {
        error_code: refusal.error.code(),
        error_message: Some(Str::copy_from(&refusal.message)),
        ..ConsumerGroupHeartbeatResponse::default()
    }
}

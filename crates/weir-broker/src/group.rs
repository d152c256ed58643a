//! [`Group`]: one classic consumer group as a pure state machine.
//!
//! ```text
//!            join                    all joined, or rebalance timeout
//!   Empty ─────────▶ PreparingRebalance ─────────────────────▶ CompletingRebalance
//!     ▲                 ▲      │  nobody left                    │  leader's assignment stored
//!     └─────────────────│──────┘                                 ▼
//!                       └───────── join, leave, expiry ─────── Stable
//! ```
//!
//! Follows `ClassicGroup` and the classic half of `GroupMetadataManager` of Kafka 4.1. Who waits for an answer is known
//! here by a [`Ticket`]; what happens comes out as [`GroupEffect`]s, in order. Time comes in as an argument.
//!
//! # Invariants
//! - A member is in at most one of: pending (told its id, KIP-394) or joined.
//! - The generation never goes back. Every answer with an assignment carries the generation it was made for, and all
//!   assignments of one generation come from one SyncGroup of its leader.
//! - The session of a member rests while its join or sync is parked: the broker owes the answer, not the client.

mod member;
mod members;
mod migration;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use weir_protocol::api::consumer_protocol::{self, ConsumerProtocolSubscription};
use weir_protocol::{ErrorCode, Str, TimestampMs};

use crate::effects::Ticket;
use crate::offset_records::{GroupMetadataValue, MemberRecord};
pub use member::{Member, Protocol};
use members::Members;

/// Limits that a group obeys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupLimits {
    /// Most members, pending ones too.
    pub members_max: usize,
    /// How long the first rebalance of an empty group waits for more members.
    pub initial_rebalance_delay_ms: i64,
}

/// Where a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupState {
    /// No member.
    Empty,
    /// Members are asked to join again.
    PreparingRebalance,
    /// All have joined; the leader works out the assignment.
    CompletingRebalance,
    /// Everybody has the assignment of this generation.
    Stable,
}

impl GroupState {
    /// Kafka's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// One JoinGroup request.
#[derive(Debug, Clone)]
pub struct Join {
    /// Empty if the client has none yet.
    pub member_id: Str,
    /// Of a static member (KIP-345).
    pub instance_id: Option<Str>,
    /// Of the request header.
    pub client_id: Str,
    /// Where the client is.
    pub client_host: Str,
    /// Without a heartbeat for so long, the member is out.
    pub session_timeout_ms: i32,
    /// How long the member may take to join a rebalance.
    pub rebalance_timeout_ms: i32,
    /// `consumer`, `connect`, ...
    pub protocol_type: Str,
    /// In the order of preference.
    pub protocols: Vec<Protocol>,
    /// The client knows MEMBER_ID_REQUIRED (JoinGroup v4, KIP-394).
    pub knows_member_id_required: bool,
    /// The client knows `skip_assignment` (JoinGroup v9, KIP-814).
    pub knows_skip_assignment: bool,
    /// The id this client gets if it has none; unique.
    pub fresh_member_id: Str,
}

/// One SyncGroup request.
#[derive(Debug, Clone)]
pub struct Sync {
    /// Who.
    pub member_id: Str,
    /// Of a static member.
    pub instance_id: Option<Str>,
    /// The generation the member joined.
    pub generation: i32,
    /// Said by clients since v5; must then be the group's.
    pub protocol_type: Option<Str>,
    /// Said by clients since v5; must then be the group's.
    pub protocol: Option<Str>,
    /// From the leader: member and assignment.
    pub assignments: Vec<(Str, Bytes)>,
}

/// The answer to a JoinGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// What went wrong.
    pub error: ErrorCode,
    /// The generation, −1 with an error.
    pub generation: i32,
    /// Of the group.
    pub protocol_type: Option<Str>,
    /// The one that was chosen.
    pub protocol: Option<Str>,
    /// Who makes the assignment.
    pub leader: Str,
    /// The leader need not make one (it kept its place as a static member).
    pub skip_assignment: bool,
    /// Of the member.
    pub member_id: Str,
    /// For the leader: everybody with the metadata of the chosen protocol.
    pub members: Vec<(Str, Option<Str>, Bytes)>,
}

impl Joined {
    /// An answer that is an error.
    #[must_use]
    pub fn failed(error: ErrorCode, member_id: Str) -> Self {
        Self {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: Str::new(),
            skip_assignment: false,
            member_id,
            members: Vec::new(),
        }
    }
}

/// The answer to a SyncGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// What went wrong.
    pub error: ErrorCode,
    /// Of the group.
    pub protocol_type: Option<Str>,
    /// The one that was chosen.
    pub protocol: Option<Str>,
    /// What this member is to do.
    pub assignment: Bytes,
}

impl Synced {
    /// An answer that is an error.
    #[must_use]
    pub fn failed(error: ErrorCode) -> Self {
        Self { error, protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

/// What a call has brought about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupEffect {
    /// Answer this JoinGroup.
    Joined(Ticket, Joined),
    /// Answer this SyncGroup.
    Synced(Ticket, Synced),
    /// Write [`Group::record`] and say [`Group::stored`] when it is on disk.
    StoreAssignment {
        /// To be handed back.
        generation: i32,
    },
    /// Write [`Group::record`], and answer this JoinGroup when it is on disk.
    StoreThenJoined(Ticket, Joined),
    /// Write [`Group::record`]; nobody waits.
    Store,
}

/// The protocol type of consumers.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// A round of a rebalance that nobody has joined takes at least so long, whatever its members ask for: it would only be
/// looked at again and again.
const EMPTY_ROUND_MS_MIN: i64 = 1_000;

/// How long an empty group's first rebalance still waits.
#[derive(Debug, Clone, Copy)]
struct InitialDelay {
    left_ms: i64,
    member_added: bool,
}

/// One classic group.
#[derive(Debug)]
pub struct Group {
    state: GroupState,
    limits: GroupLimits,
    protocol_type: Option<Str>,
    protocol: Option<Str>,
    generation: i32,
    leader: Option<Str>,
    members: Members,
    /// Instance id → member id.
    static_members: BTreeMap<Str, Str>,
    /// Told their id but not joined yet, with the time they are forgotten.
    pending: BTreeMap<Str, TimestampMs>,
    /// Of this generation, but have not sent SyncGroup.
    unsynced: BTreeSet<Str>,
    /// Sent by the leader, not stored yet.
    assignment: Option<BTreeMap<Str, Bytes>>,
    /// End of PreparingRebalance.
    join_deadline: Option<TimestampMs>,
    /// By then all members of this generation must have sent SyncGroup.
    sync_deadline: Option<TimestampMs>,
    initial: Option<InitialDelay>,
    state_since: TimestampMs,
}

impl Group {
    /// An empty group.
    #[must_use]
    pub fn new(limits: GroupLimits, now: TimestampMs) -> Self {
        Self {
            state: GroupState::Empty,
            limits,
            protocol_type: None,
            protocol: None,
            generation: 0,
            leader: None,
            members: Members::default(),
            static_members: BTreeMap::new(),
            pending: BTreeMap::new(),
            unsynced: BTreeSet::new(),
            assignment: None,
            join_deadline: None,
            sync_deadline: None,
            initial: None,
            state_since: now,
        }
    }

    /// The group as it was stored. Its members have a whole session to be heard of again.
    #[must_use]
    pub fn restore(limits: GroupLimits, record: GroupMetadataValue, now: TimestampMs) -> Self {
        let mut group = Self::new(limits, now);
        group.generation = record.generation;
        group.protocol_type = Some(record.protocol_type).filter(|kind| !kind.is_empty());
        group.state_since = TimestampMs(record.current_state_timestamp_ms);
        if record.members.is_empty() {
            return group;
        }
        group.state = GroupState::Stable;
        group.protocol.clone_from(&record.protocol);
        group.leader = record.leader;
        for stored in record.members {
            let member = Member::restore(stored, record.protocol.clone().unwrap_or_default(), now);
            if let Some(instance) = &member.instance_id {
                group.static_members.insert(instance.clone(), member.id.clone());
            }
            group.members.insert(member);
        }
        if group.members.len() > limits.members_max {
            // They join again, and those who come too late find no place.
            group.set_state(GroupState::PreparingRebalance, now);
            group.join_deadline = Some(now.plus_ms(group.rebalance_timeout_ms()));
        }
        group
    }

    /// What is to be stored: the group as it stands, with the assignment that is on its way.
    #[must_use]
    pub fn record(&self) -> GroupMetadataValue {
        let assigned = |member: &Member| match &self.assignment {
            Some(assignment) => assignment.get(&member.id).cloned().unwrap_or_default(),
            None => member.assignment.clone(),
        };
        GroupMetadataValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            current_state_timestamp_ms: self.state_since.get(),
            members: self
                .members
                .values()
                .map(|member| MemberRecord {
                    member_id: member.id.clone(),
                    instance_id: member.instance_id.clone(),
                    client_id: member.client_id.clone(),
                    client_host: member.client_host.clone(),
                    rebalance_timeout_ms: member.rebalance_timeout_ms,
                    session_timeout_ms: member.session_timeout_ms,
                    subscription: self.metadata_of(member),
                    assignment: assigned(member),
                })
                .collect(),
        }
    }

    /// Where the group stands.
    #[must_use]
    pub fn state(&self) -> GroupState {
        self.state
    }

    /// The round of the group.
    #[must_use]
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// `consumer`, `connect`, ...; `None` until somebody joined.
    #[must_use]
    pub fn protocol_type(&self) -> Option<&Str> {
        self.protocol_type.as_ref()
    }

    /// The chosen protocol.
    #[must_use]
    pub fn protocol(&self) -> Option<&Str> {
        self.protocol.as_ref()
    }

    /// Who makes the assignment.
    #[must_use]
    pub fn leader(&self) -> Option<&Str> {
        self.leader.as_ref()
    }

    /// The members, by id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Ids that were given to clients which have not come back with them.
    pub fn pending_ids(&self) -> impl Iterator<Item = &Str> {
        self.pending.keys()
    }

    /// How many members there are.
    #[must_use]
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Since when it has been in its state.
    #[must_use]
    pub fn state_since(&self) -> TimestampMs {
        self.state_since
    }

    /// What `member` said under the chosen protocol.
    #[must_use]
    pub fn metadata_of(&self, member: &Member) -> Bytes {
        self.protocol.as_ref().and_then(|name| member.metadata(name)).unwrap_or_default()
    }

    /// Nobody is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.state == GroupState::Empty
    }

    /// Its members are consumers, which say what they read.
    #[must_use]
    pub fn has_consumers(&self) -> bool {
        self.protocol_type.as_ref().is_some_and(|kind| *kind == CONSUMER_PROTOCOL_TYPE)
    }

    /// Whether a member reads this topic. Where that cannot be told, one may.
    #[must_use]
    pub fn subscribes_to(&self, topic: &str) -> bool {
        self.members.values().any(|member| {
            let metadata = self.protocol.as_ref().and_then(|name| member.metadata(name));
            let decoded = metadata.map(consumer_protocol::decode::<ConsumerProtocolSubscription>);
            match decoded {
                Some(Ok((_, said))) => said.topics.iter().any(|one| *one == *topic),
                _ => true,
            }
        })
    }

    /// Nobody is in it and nobody is on the way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.state == GroupState::Empty && self.pending.is_empty()
    }

    /// The next time [`Group::tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<TimestampMs> {
        let sessions = self.members.values().filter_map(|member| member.session_deadline).min();
        let pending = self.pending.values().copied().min();
        [sessions, pending, self.join_deadline, self.sync_deadline].into_iter().flatten().min()
    }

    /// Moves all deadlines: the clock was set.
    pub fn shift(&mut self, by_ms: i64) {
        self.state_since = self.state_since.plus_ms(by_ms);
        let sessions = self.members.values_mut().filter_map(|m| m.session_deadline.as_mut());
        let phases = [&mut self.join_deadline, &mut self.sync_deadline].into_iter().flatten();
        for deadline in sessions.chain(self.pending.values_mut()).chain(phases) {
            *deadline = deadline.plus_ms(by_ms);
        }
    }

    /// A client wants to be, or to stay, a member. The answer comes as [`GroupEffect::Joined`], now or later.
    pub fn join(
        &mut self,
        join: Join,
        ticket: Ticket,
        now: TimestampMs,
        out: &mut Vec<GroupEffect>,
    ) {
        let refuse = |error: ErrorCode| {
            GroupEffect::Joined(ticket, Joined::failed(error, join.member_id.clone()))
        };
        if !self.supports(&join) {
            return out.push(refuse(ErrorCode::InconsistentGroupProtocol));
        }
        if !self.has_room_for(&join) {
            out.push(refuse(ErrorCode::GroupMaxSizeReached));
            return self.expel(&join.member_id, now, out);
        }
        if join.member_id.is_empty() {
            return self.join_unknown(join, ticket, now, out);
        }
        if self.pending.contains_key(&join.member_id) {
            let id = join.member_id.clone();
            return self.add_member(id, join, ticket, now, out);
        }
        match self.check_member(&join.member_id, join.instance_id.as_ref()) {
            Ok(()) => self.rejoin(join, ticket, now, out),
            Err(error) => out.push(refuse(error)),
        }
    }

    /// Whether all members have a protocol in common with `join`.
    fn supports(&self, join: &Join) -> bool {
        if join.protocol_type.is_empty() || join.protocols.is_empty() {
            return false;
        }
        if self.members.is_empty() {
            return true;
        }
        self.protocol_type.as_ref() == Some(&join.protocol_type)
            && join.protocols.iter().any(|protocol| self.members.all_know(&protocol.name))
    }

    /// In a group that is over its size, which was made smaller since, those have a place that come back first.
    fn has_room_for(&self, join: &Join) -> bool {
        let members_max = self.limits.members_max;
        if self.state == GroupState::PreparingRebalance && self.members.len() > members_max {
            let awaits = |member: &&Member| member.join_waiter.is_some();
            return self.members.get(&join.member_id).filter(awaits).is_some()
                || self.members.values().filter(awaits).count() < members_max;
        }
        self.members.contains_key(&join.member_id)
            || self.pending.contains_key(&join.member_id)
            || join
                .instance_id
                .as_ref()
                .is_some_and(|instance| self.static_members.contains_key(instance))
            || self.members.len() + self.pending.len() < members_max
    }

    /// A member finds no place any more: it is not waited for.
    fn expel(&mut self, id: &Str, now: TimestampMs, out: &mut Vec<GroupEffect>) {
        if self.members.contains_key(id) {
            self.remove_members(std::slice::from_ref(id), now, out);
        }
    }

    fn join_unknown(
        &mut self,
        join: Join,
        ticket: Ticket,
        now: TimestampMs,
        out: &mut Vec<GroupEffect>,
    ) {
        let id = join.fresh_member_id.clone();
        debug_assert!(!self.members.contains_key(&id), "member ids are unique");
        let replaced = join
            .instance_id
            .as_ref()
            .and_then(|instance| self.static_members.get(instance).cloned());
        if let Some(old_id) = replaced {
            self.replace_static(&old_id, id, join, ticket, now, out);
        } else if join.instance_id.is_none() && join.knows_member_id_required {
            // KIP-394: members that never come back with their id would otherwise pile up behind retries.
            let timeout_ms = i64::from(join.session_timeout_ms).max(1);
            self.pending.insert(id.clone(), now.plus_ms(timeout_ms));
            out.push(GroupEffect::Joined(ticket, Joined::failed(ErrorCode::MemberIdRequired, id)));
        } else {
            self.add_member(id, join, ticket, now, out);
        }
    }

    fn add_member(
        &mut self,
        id: Str,
        join: Join,
        ticket: Ticket,
        now: TimestampMs,
        out: &mut Vec<GroupEffect>,
    ) {
        self.pending.remove(&id);
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        if let Some(instance) = &join.instance_id {
            self.static_members.insert(instance.clone(), id.clone());
        }
        self.leader.get_or_insert_with(|| id.clone());
        if let Some(initial) = &mut self.initial {
            initial.member_added = true;
        }
        self.members.insert(Member::new(id, join, ticket, now));
        self.rebalance(now, out);
    }

    /// A static member came back under a new id (its process restarted): the old id is fenced, its place is kept.
    fn replace_static(
        &mut self,
        old_id: &Str,
        new_id: Str,
        join: Join,
        ticket: Ticket,
        now: TimestampMs,
        out: &mut Vec<GroupEffect>,
    ) {
        let Some(mut member) = self.members.remove(old_id) else { return };
        if let Some(waiter) = member.join_waiter.take() {
            out.push(GroupEffect::Joined(
                waiter,
                Joined::failed(ErrorCode::FencedInstanceId, old_id.clone()),
            ));
        }
        if let Some(waiter) = member.sync_waiter.take() {
            out.push(GroupEffect::Synced(waiter, Synced::failed(ErrorCode::FencedInstanceId)));
        }
        let was_leader = self.leader.as_ref() == Some(old_id);
        if was_leader {
            self.leader = Some(new_id.clone());
        }
        self.unsynced.remove(old_id);
        if let Some(instance) = &join.instance_id {
            self.static_members.insert(instance.clone(), new_id.clone());
        }
        let knows_skip_assignment = join.knows_skip_assignment;
        let unchanged = member.protocols == join.protocols;
        member.id = new_id.clone();
        member.update(join);
        self.members.insert(member);
        let protocol_kept = unchanged || self.choose_protocol() == self.protocol;
        if self.state != GroupState::Stable || !protocol_kept {
            self.await_join(&new_id, ticket, out);
            return self.rebalance(now, out);
        }
        let mut answer = self.joined(&new_id, was_leader && knows_skip_assignment);
        if was_leader && knows_skip_assignment {
            answer.skip_assignment = true;
        } else if was_leader {
            // A client that cannot skip the assignment must not take itself for the leader (KAFKA-6995).
            answer.leader = old_id.clone();
        }
        self.touch(&new_id, now);
        // Else a crash would bring the old id back, and fence the member that was told the new one.
        out.push(GroupEffect::StoreThenJoined(ticket, answer));
    }

    fn rejoin(&mut self, join: Join, ticket: Ticket, now: TimestampMs, out: &mut Vec<GroupEffect>) {
        let id = join.member_id.clone();
        let Some(member) = self.members.get(&id) else { return };
        let unchanged = member.protocols == join.protocols;
        let is_leader = self.leader.as_ref() == Some(&id);
        // An answer may have been lost: who joins again unchanged gets the answer again, but the leader of a stable
        // group asks for a rebalance this way (its subscription's topics have changed).
        let answer_again = match self.state {
            GroupState::Stable => unchanged && !is_leader,
            GroupState::CompletingRebalance => unchanged,
            GroupState::PreparingRebalance | GroupState::Empty => false,
        };
        self.members.update(&id, join);
        if answer_again {
            self.touch(&id, now);
            let answer = self.joined(&id, is_leader);
            return out.push(GroupEffect::Joined(ticket, answer));
        }
        self.await_join(&id, ticket, out);
        self.rebalance(now, out);
    }

    fn await_join(&mut self, id: &Str, ticket: Ticket, out: &mut Vec<GroupEffect>) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.session_deadline = None;
        if let Some(before) = member.join_waiter.replace(ticket) {
            // The same member on a new connection; the old one is not listened to any more.
            out.push(GroupEffect::Joined(
                before,
                Joined::failed(ErrorCode::UnknownMemberId, id.clone()),
            ));
        }
    }

    /// Begins a rebalance, or ends the one that runs if all are there.
    fn rebalance(&mut self, now: TimestampMs, out: &mut Vec<GroupEffect>) {
        if self.state == GroupState::PreparingRebalance {
            return self.complete_join_if_all_are_there(now, out);
        }
        let from_empty = self.state == GroupState::Empty;
        self.drop_assignment(ErrorCode::RebalanceInProgress, now, out);
        self.set_state(GroupState::PreparingRebalance, now);
        let timeout_ms = self.rebalance_timeout_ms();
        let delay_ms = self.limits.initial_rebalance_delay_ms.min(timeout_ms);
        if from_empty && delay_ms > 0 {
            self.initial =
                Some(InitialDelay { left_ms: timeout_ms - delay_ms, member_added: false });
            self.join_deadline = Some(now.plus_ms(delay_ms));
            return;
        }
        self.join_deadline = Some(now.plus_ms(timeout_ms));
        self.complete_join_if_all_are_there(now, out);
    }

    /// At least 1: a deadline that is not in the future would be due again in the very tick that sets it.
    fn rebalance_timeout_ms(&self) -> i64 {
        let longest = self.members.values().map(|member| member.rebalance_timeout_ms).max();
        i64::from(longest.unwrap_or(0)).max(1)
    }

    /// Ends what CompletingRebalance or Stable was about.
    fn drop_assignment(&mut self, error: ErrorCode, now: TimestampMs, out: &mut Vec<GroupEffect>) {
        self.assignment = None;
        self.unsynced.clear();
        self.sync_deadline = None;
        let completing = self.state == GroupState::CompletingRebalance;
        for member in self.members.values_mut() {
            if completing {
                member.assignment = Bytes::new();
            }
            if let Some(waiter) = member.sync_waiter.take() {
                member.restart_session(now);
                out.push(GroupEffect::Synced(waiter, Synced::failed(error)));
            }
        }
    }

    fn complete_join_if_all_are_there(&mut self, now: TimestampMs, out: &mut Vec<GroupEffect>) {
        let joined = self.members.values().all(|member| member.join_waiter.is_some());
        let all = self.members.is_empty() || (self.pending.is_empty() && joined);
        if self.state == GroupState::PreparingRebalance && self.initial.is_none() && all {
            self.complete_join(now, out);
        }
    }

    /// Closes the join phase with those who came. Dynamic members who did not are out; static ones keep their place until
    /// their session ends, or the time to send SyncGroup.
    fn complete_join(&mut self, now: TimestampMs, out: &mut Vec<GroupEffect>) {
        debug_assert_eq!(self.state, GroupState::PreparingRebalance);
        self.initial = None;
        self.members.retain(|member| member.join_waiter.is_some() || member.instance_id.is_some());
        if self.members.is_empty() {
            return self.become_empty(now, out);
        }
        if !self.leader_has_joined() {
            self.leader = self
                .members
                .values()
                .find(|member| member.join_waiter.is_some())
                .map(|m| m.id.clone());
        }
        if self.leader.is_none() {
            // Only static members, and none of them is back: wait another round.
            let round_ms = self.rebalance_timeout_ms().max(EMPTY_ROUND_MS_MIN);
            self.join_deadline = Some(now.plus_ms(round_ms));
            return;
        }
        self.join_deadline = None;
        self.generation = next_generation(self.generation);
        self.protocol = self.choose_protocol();
        self.set_state(GroupState::CompletingRebalance, now);
        self.sync_deadline = Some(now.plus_ms(self.rebalance_timeout_ms()));
        // Static members that did not come are awaited once more, and out if they stay away (as in Kafka).
        self.unsynced = self.members.keys().cloned().collect();
        self.members.values_mut().for_each(|member| member.restart_session(now));
        self.answer_joins(out);
    }

    fn leader_has_joined(&self) -> bool {
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id));
        leader.is_some_and(|member| member.join_waiter.is_some())
    }

    fn answer_joins(&mut self, out: &mut Vec<GroupEffect>) {
        let waiting: Vec<Str> = self
            .members
            .values()
            .filter(|m| m.join_waiter.is_some())
            .map(|m| m.id.clone())
            .collect();
        for id in waiting {
            let answer = self.joined(&id, self.leader.as_ref() == Some(&id));
            let Some(member) = self.members.get_mut(&id) else { continue };
            if let Some(ticket) = member.join_waiter.take() {
                out.push(GroupEffect::Joined(ticket, answer));
            }
        }
    }

    fn become_empty(&mut self, now: TimestampMs, out: &mut Vec<GroupEffect>) {
        self.generation = next_generation(self.generation);
        self.protocol = None;
        self.leader = None;
        self.join_deadline = None;
        self.sync_deadline = None;
        self.initial = None;
        self.unsynced.clear();
        self.static_members.clear();
        self.set_state(GroupState::Empty, now);
        out.push(GroupEffect::Store);
    }

    /// The answer that puts `id` into the current generation.
    fn joined(&self, id: &Str, as_leader: bool) -> Joined {
        let members = if as_leader {
            self.members
                .values()
                .map(|m| (m.id.clone(), m.instance_id.clone(), self.metadata_of(m)))
                .collect()
        } else {
            Vec::new()
        };
        Joined {
            error: ErrorCode::None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: id.clone(),
            members,
        }
    }

    /// The protocol most members like best among those that all know. A tie goes to the first name.
    fn choose_protocol(&self) -> Option<Str> {
        let mut votes: BTreeMap<&Str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let mut names = member.protocols.iter().map(|protocol| &protocol.name);
            if let Some(vote) = names.find(|name| self.members.all_know(name)) {
                *votes.entry(vote).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.clone())
    }

    /// A member asks for its assignment; the leader brings everybody's.
    pub fn sync(
        &mut self,
        sync: Sync,
        ticket: Ticket,
        now: TimestampMs,
        out: &mut Vec<GroupEffect>,
    ) {
        if let Err(error) = self.check_sync(&sync) {
            return out.push(GroupEffect::Synced(ticket, Synced::failed(error)));
        }
        self.unsynced.remove(&sync.member_id);
        if self.unsynced.is_empty() {
            self.sync_deadline = None;
        }
        if self.state == GroupState::Stable {
            self.touch(&sync.member_id, now);
            let answer = self.synced(&sync.member_id);
            return out.push(GroupEffect::Synced(ticket, answer));
        }
        if let Some(member) = self.members.get_mut(&sync.member_id) {
            member.session_deadline = None;
            if let Some(before) = member.sync_waiter.replace(ticket) {
                out.push(GroupEffect::Synced(before, Synced::failed(ErrorCode::UnknownMemberId)));
            }
        }
        if self.leader.as_ref() == Some(&sync.member_id) && self.assignment.is_none() {
            // What is for nobody here would only be kept.
            let is_member = |(id, _): &(Str, Bytes)| self.members.contains_key(id);
            self.assignment = Some(sync.assignments.into_iter().filter(is_member).collect());
            out.push(GroupEffect::StoreAssignment { generation: self.generation });
        }
    }

    fn check_sync(&self, sync: &Sync) -> Result<(), ErrorCode> {
        self.check_member(&sync.member_id, sync.instance_id.as_ref())?;
        if sync.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |said: &Option<Str>, ours: &Option<Str>| said.is_some() && said != ours;
        if differs(&sync.protocol_type, &self.protocol_type)
            || differs(&sync.protocol, &self.protocol)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        match self.state {
            GroupState::Empty => Err(ErrorCode::UnknownMemberId),
            GroupState::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
        }
    }

    fn synced(&self, id: &Str) -> Synced {
        Synced {
            error: ErrorCode::None,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self
                .members
                .get(id)
                .map(|member| member.assignment.clone())
                .unwrap_or_default(),
        }
    }

    /// The assignment of `generation` is on disk, or could not be written.
    pub fn stored(
        &mut self,
        generation: i32,
        result: Result<(), ErrorCode>,
        now: TimestampMs,
        out: &mut Vec<GroupEffect>,
    ) {
        if self.state != GroupState::CompletingRebalance || self.generation != generation {
            return; // A rebalance has overtaken it, and answered those who waited.
        }
        let Some(assignment) = self.assignment.take() else { return };
        if let Err(error) = result {
            self.drop_assignment(error, now, out);
            return self.rebalance(now, out);
        }
        self.set_state(GroupState::Stable, now);
        let ids: Vec<Str> = self.members.keys().cloned().collect();
        for id in ids {
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.assignment = assignment.get(&id).cloned().unwrap_or_default();
            if let Some(ticket) = member.sync_waiter.take() {
                member.restart_session(now);
                out.push(GroupEffect::Synced(ticket, self.synced(&id)));
            }
        }
    }

    /// A sign of life.
    pub fn heartbeat(
        &mut self,
        id: &Str,
        instance: Option<&Str>,
        generation: i32,
        now: TimestampMs,
    ) -> ErrorCode {
        if let Err(error) = self.check_member(id, instance) {
            return error;
        }
        if generation != self.generation {
            return ErrorCode::IllegalGeneration;
        }
        self.touch(id, now);
        match self.state {
            GroupState::Empty => ErrorCode::UnknownMemberId,
            GroupState::PreparingRebalance => ErrorCode::RebalanceInProgress,
            GroupState::CompletingRebalance | GroupState::Stable => ErrorCode::None,
        }
    }

    /// A member goes. A static one may be named by its instance alone (an operator removes it).
    pub fn leave(
        &mut self,
        id: &Str,
        instance: Option<&Str>,
        now: TimestampMs,
        out: &mut Vec<GroupEffect>,
    ) -> ErrorCode {
        let id = match instance {
            Some(instance) if id.is_empty() => match self.static_members.get(instance) {
                Some(id) => id.clone(),
                None => return ErrorCode::UnknownMemberId,
            },
            _ => id.clone(),
        };
        if self.pending.remove(&id).is_some() {
            self.complete_join_if_all_are_there(now, out);
            return ErrorCode::None;
        }
        if let Err(error) = self.check_member(&id, instance) {
            return error;
        }
        self.remove_members(&[id], now, out);
        ErrorCode::None
    }

    /// Whether this member may commit offsets now.
    ///
    /// # Errors
    /// The code to answer with.
    pub fn check_commit(
        &mut self,
        id: &Str,
        instance: Option<&Str>,
        generation: i32,
        now: TimestampMs,
    ) -> Result<(), ErrorCode> {
        if generation < 0 && self.state == GroupState::Empty {
            return Ok(()); // A client that manages its partitions itself, or an operator.
        }
        if generation < 0 && id.is_empty() && instance.is_none() {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.check_member(id, instance)?;
        if generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if self.state == GroupState::CompletingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        self.touch(id, now);
        Ok(())
    }

    /// As [`Group::check_commit`], for offsets that go with a transaction. They are taken while members are assigned too, and
    /// from a client that names no member: before KIP-447 none did.
    ///
    /// # Errors
    /// The code to answer with.
    pub fn check_txn_commit(
        &self,
        id: &Str,
        instance: Option<&Str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        if generation < 0
            && (self.state == GroupState::Empty || id.is_empty() && instance.is_none())
        {
            return Ok(());
        }
        self.check_member(id, instance)?;
        match generation == self.generation {
            true => Ok(()),
            false => Err(ErrorCode::IllegalGeneration),
        }
    }

    /// Lets time pass: sessions, pending ids and phases end.
    pub fn tick(&mut self, now: TimestampMs, out: &mut Vec<GroupEffect>) {
        let pending_before = self.pending.len();
        self.pending.retain(|_, deadline| *deadline > now);
        let over = |deadline: Option<TimestampMs>| deadline.is_some_and(|deadline| deadline <= now);
        let mut gone: Vec<Str> = self
            .members
            .values()
            .filter(|m| over(m.session_deadline))
            .map(|m| m.id.clone())
            .collect();
        if over(self.sync_deadline) {
            self.sync_deadline = None;
            gone.extend(std::mem::take(&mut self.unsynced));
        }
        if !gone.is_empty() {
            self.remove_members(&gone, now, out);
        }
        if over(self.join_deadline) {
            self.end_join_phase(now, out);
        } else if self.pending.len() < pending_before {
            self.complete_join_if_all_are_there(now, out);
        }
    }

    fn end_join_phase(&mut self, now: TimestampMs, out: &mut Vec<GroupEffect>) {
        if let Some(initial) = &mut self.initial {
            if initial.member_added && initial.left_ms > 0 {
                let more_ms = self.limits.initial_rebalance_delay_ms.min(initial.left_ms);
                *initial = InitialDelay { left_ms: initial.left_ms - more_ms, member_added: false };
                self.join_deadline = Some(now.plus_ms(more_ms));
                return;
            }
        }
        self.complete_join(now, out);
    }

    fn remove_members(&mut self, ids: &[Str], now: TimestampMs, out: &mut Vec<GroupEffect>) {
        for id in ids {
            let Some(mut member) = self.members.remove(id) else { continue };
            if let Some(ticket) = member.join_waiter.take() {
                out.push(GroupEffect::Joined(
                    ticket,
                    Joined::failed(ErrorCode::UnknownMemberId, id.clone()),
                ));
            }
            if let Some(ticket) = member.sync_waiter.take() {
                out.push(GroupEffect::Synced(ticket, Synced::failed(ErrorCode::UnknownMemberId)));
            }
            if let Some(instance) = &member.instance_id {
                self.static_members.remove(instance);
            }
            self.unsynced.remove(id);
            if self.leader.as_ref() == Some(id) {
                self.leader = self.members.keys().next().cloned();
            }
        }
        self.rebalance(now, out);
    }

    /// Whether `id` is a member and, if it names an instance, the one that holds it.
    fn check_member(&self, id: &Str, instance: Option<&Str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            match self.static_members.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(holder) if holder != id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        match self.members.contains_key(id) {
            true => Ok(()),
            false => Err(ErrorCode::UnknownMemberId),
        }
    }

    /// Starts the session of `id` anew, unless it rests.
    fn touch(&mut self, id: &Str, now: TimestampMs) {
        if let Some(member) = self.members.get_mut(id) {
            if member.join_waiter.is_none() && member.sync_waiter.is_none() {
                member.restart_session(now);
            }
        }
    }

    fn set_state(&mut self, state: GroupState, now: TimestampMs) {
        self.state = state;
        self.state_since = now;
    }
}

/// The generation after this one. Clients take a negative one for "none", so 0 follows the largest.
fn next_generation(generation: i32) -> i32 {
    generation.checked_add(1).unwrap_or(0)
}

//! [`ConsumerGroup`]: one group of the consumer protocol (KIP-848) as a pure state machine.
//!
//! ```text
//!   member joins, leaves, subscribes anew; topics change
//!        │ epoch + 1
//!        ▼
//!   target assignment of that epoch (an assignor of the server)
//!        │ each member, at its own heartbeats
//!        ▼
//!   Stable ──must give up──▶ UnrevokedPartitions ──did──▶ UnreleasedPartitions ──others did──▶ Stable
//! ```
//!
//! Follows `GroupMetadataManager` and `ConsumerGroup` of Kafka 4.1. A call gives an answer and the [`Change`]s that are to
//! be written; each is applied already. Answers must wait until the changes are on disk. Time comes in as an argument.
//!
//! # Invariants
//! - A partition is held by one member at most: what a member must give up is its own until it says that it did.
//! - Neither the epoch of the group nor that of its target goes back, nor the epoch of a member while it stays.
//! - What the log has makes the same group again, but for its deadlines.

mod assignor;
mod changes;
mod classic;
mod member;
mod migration;
#[cfg(test)]
mod model;
mod reconcile;
mod subscription;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use weir_protocol::api::consumer_group_records::{
    ConsumerGroupMetadataValue, ConsumerGroupTargetAssignmentMemberValue,
    ConsumerGroupTargetAssignmentMetadataValue,
};
use weir_protocol::{ErrorCode, Str, TimestampMs, Uuid};

pub use assignor::Assignor;
pub use changes::Change;
use member::{is_subset, to_wire, EPOCH_STATIC_GONE};
pub use member::{Current, Member, MemberState, Partitions};
pub use migration::MigrationPolicy;
pub use subscription::TopicLookup;

/// The epoch of a member that leaves.
const EPOCH_GONE: i32 = -1;

/// What a group obeys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerGroupLimits {
    /// `group.consumer.max.size`
    pub members_max: usize,
    /// `group.consumer.session.timeout.ms`
    pub session_timeout_ms: i32,
    /// `group.consumer.heartbeat.interval.ms`
    pub heartbeat_interval_ms: i32,
    /// `group.consumer.assignors`; the first is for groups that name none.
    pub assignors: Vec<Assignor>,
}

/// Where a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumerGroupState {
    /// No member.
    Empty,
    /// The target is older than the group.
    Assigning,
    /// Members are on their way to the target.
    Reconciling,
    /// All have what the target gives them.
    Stable,
}

impl ConsumerGroupState {
    /// Kafka's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
        }
    }
}

/// One ConsumerGroupHeartbeat.
#[derive(Debug, Clone, Default)]
pub struct Heartbeat {
    /// Who.
    pub member_id: Str,
    /// 0 joins, −1 leaves, −2 leaves for a while.
    pub epoch: i32,
    /// Of a static member.
    pub instance_id: Option<Str>,
    /// Where the client runs.
    pub rack_id: Option<Str>,
    /// How long it may take to give partitions up; `None`: as before.
    pub rebalance_timeout_ms: Option<i32>,
    /// The topics it names; `None`: as before.
    pub topics: Option<BTreeSet<Str>>,
    /// The topics it means; `None`: as before, empty: none any more.
    pub regex: Option<Str>,
    /// The assignor it would like; `None`: as before.
    pub assignor: Option<Str>,
    /// What it has; `None`: as before.
    pub owned: Option<Partitions>,
    /// Of the request header.
    pub client_id: Str,
    /// Where it is.
    pub client_host: Str,
}

/// What a member hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// Who it is.
    pub member_id: Str,
    /// Its epoch from now on.
    pub epoch: i32,
    /// What it may have from now on; `None`: as before.
    pub assignment: Option<Partitions>,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Kafka's code.
    pub error: ErrorCode,
    /// Words for people.
    pub message: String,
}

impl Refusal {
    pub(crate) fn new(error: ErrorCode, message: impl Into<String>) -> Self {
        Self { error, message: message.into() }
    }
}

/// The topics that a pattern means.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ResolvedRegex {
    topics: BTreeSet<Str>,
    /// The version of the topics it was looked up in. Those of an earlier run mean nothing now.
    version: i64,
}

/// Whose place a joining member takes.
enum Place {
    /// Its own, which it has already or gets now.
    Own,
    /// That of the static member with this id.
    Of(Str),
}

/// One group.
#[derive(Debug, Clone)]
pub struct ConsumerGroup {
    limits: ConsumerGroupLimits,
    epoch: i32,
    metadata_hash: i64,
    target_epoch: i32,
    members: BTreeMap<Str, Member>,
    /// Instance id → member id.
    static_members: BTreeMap<Str, Str>,
    target: BTreeMap<Str, Partitions>,
    /// Who holds a partition, or still has to give it up.
    owners: BTreeMap<(Uuid, i32), Str>,
    regexes: BTreeMap<Str, ResolvedRegex>,
    /// The version of the topics that the epoch is up to.
    seen_topics: Option<u64>,
    empty_since: TimestampMs,
}

impl ConsumerGroup {
    /// A group without members.
    #[must_use]
    pub fn new(limits: ConsumerGroupLimits, now: TimestampMs) -> Self {
        Self {
            limits,
            epoch: 0,
            metadata_hash: 0,
            target_epoch: 0,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            target: BTreeMap::new(),
            owners: BTreeMap::new(),
            regexes: BTreeMap::new(),
            seen_topics: None,
            empty_since: now,
        }
    }

    /// What it obeys from now on. Sessions that run end as they would have.
    pub fn set_limits(&mut self, limits: ConsumerGroupLimits) {
        self.limits = limits;
    }

    /// The log is read: members have a whole session to be heard of again.
    pub fn restored(&mut self, now: TimestampMs) {
        let session_ms = self.limits.session_timeout_ms;
        for member in self.members.values_mut() {
            let session_ms = member.classic.as_ref().map_or(session_ms, |of| of.session_timeout_ms);
            member.session_deadline = Some(now.plus_ms(i64::from(session_ms).max(1)));
            if member.current.state == MemberState::UnrevokedPartitions {
                let timeout_ms = i64::from(member.rebalance_timeout_ms).max(1);
                member.rebalance_deadline = Some((member.current.epoch, now.plus_ms(timeout_ms)));
            }
        }
    }

    /// Where the group stands.
    #[must_use]
    pub fn state(&self) -> ConsumerGroupState {
        let reconciled = |member: &Member| {
            let current = &member.current;
            current.state == MemberState::Stable && current.epoch == self.target_epoch
        };
        if self.members.is_empty() {
            ConsumerGroupState::Empty
        } else if self.epoch > self.target_epoch {
            ConsumerGroupState::Assigning
        } else if self.members.values().all(reconciled) {
            ConsumerGroupState::Stable
        } else {
            ConsumerGroupState::Reconciling
        }
    }

    /// The epoch: it grows when members, subscriptions or topics change.
    #[must_use]
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// The epoch that the target was made for.
    #[must_use]
    pub fn target_epoch(&self) -> i32 {
        self.target_epoch
    }

    /// The members, by id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// How many members there are.
    #[must_use]
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    /// What a member is to have.
    #[must_use]
    pub fn target_of(&self, id: &Str) -> Option<&Partitions> {
        self.target.get(id)
    }

    /// Since when it has no member, if it has none.
    #[must_use]
    pub fn empty_since(&self) -> Option<TimestampMs> {
        self.members.is_empty().then_some(self.empty_since)
    }

    /// The next time [`ConsumerGroup::tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<TimestampMs> {
        self.members.values().filter_map(Member::next_deadline).min()
    }

    /// Moves all deadlines: the clock was set.
    pub fn shift(&mut self, by_ms: i64) {
        self.empty_since = self.empty_since.plus_ms(by_ms);
        for deadline in self.members.values_mut().flat_map(Member::deadlines_mut) {
            *deadline = deadline.plus_ms(by_ms);
        }
    }

    /// A member joins, says that it lives, or goes.
    ///
    /// # Errors
    /// Kafka's code and words; nothing has changed then.
    pub fn heartbeat(
        &mut self,
        beat: Heartbeat,
        topics: &dyn TopicLookup,
        now: TimestampMs,
        out: &mut Vec<Change>,
    ) -> Result<Beat, Refusal> {
        if beat.epoch < 0 {
            return self.leave(&beat, topics, now, out);
        }
        self.check_room(&beat.member_id)?;
        let place = self.place_of(&beat)?;
        let compiled = self.check_regex(&beat)?;
        let id = beat.member_id.clone();
        if let Place::Of(old) = place {
            self.replace(&old, &id, now, out);
        }
        let before = self.members.get(&id).map(|member| member.current.assigned.clone());
        let bump = self.update(&beat, now, out);
        self.refresh(bump, compiled, topics, now, out);
        self.retarget(topics, now, out);
        self.reconcile(&id, beat.owned.as_ref(), now, out);
        let session_ms = i64::from(self.limits.session_timeout_ms).max(1);
        let Some(member) = self.members.get_mut(&id) else {
            return Err(Refusal::new(ErrorCode::UnknownMemberId, "The member is gone."));
        };
        member.session_deadline = Some(now.plus_ms(session_ms));
        (member.join_deadline, member.sync_deadline) = (None, None);
        let current = &member.current;
        // Who says all wants to hear all: it joins, or an answer was lost.
        let is_full = beat.epoch == 0
            || beat.rebalance_timeout_ms.is_some()
                && (beat.topics.is_some() || beat.regex.is_some())
                && beat.owned.is_some();
        let has_changed = before.as_ref() != Some(&current.assigned);
        Ok(Beat {
            member_id: id,
            epoch: current.epoch,
            assignment: (is_full || has_changed).then(|| current.assigned.clone()),
        })
    }

    fn check_room(&self, id: &Str) -> Result<(), Refusal> {
        if self.members.len() < self.limits.members_max || self.members.contains_key(id) {
            return Ok(());
        }
        let max = self.limits.members_max;
        let words =
            format!("The consumer group has reached its maximum capacity of {max} members.");
        Err(Refusal::new(ErrorCode::GroupMaxSizeReached, words))
    }

    fn place_of(&self, beat: &Heartbeat) -> Result<Place, Refusal> {
        let Some(instance) = &beat.instance_id else {
            match self.members.get(&beat.member_id) {
                Some(member) => check_epoch(member, beat)?,
                None if beat.epoch == 0 => {}
                None => return Err(unknown_member(&beat.member_id)),
            }
            return Ok(Place::Own);
        };
        let holder = self.static_members.get(instance).and_then(|id| self.members.get(id));
        match holder {
            None if beat.epoch == 0 => Ok(Place::Own),
            None => Err(unknown_instance(instance)),
            Some(holder) if beat.epoch == 0 => {
                // It is free once its member has left for a while. A classic member does not say so when it upgrades.
                if holder.current.epoch != EPOCH_STATIC_GONE && !holder.is_classic() {
                    let words = format!(
                        "Static member {} with instance id {instance} cannot join the group because the instance id is owned by {} member.",
                        beat.member_id, holder.id
                    );
                    return Err(Refusal::new(ErrorCode::UnreleasedInstanceId, words));
                }
                Ok(Place::Of(holder.id.clone()))
            }
            Some(holder) => {
                check_instance(holder, &beat.member_id, instance)?;
                check_epoch(holder, beat)?;
                Ok(Place::Own)
            }
        }
    }

    /// A static member comes back under another id, or the same: it takes over what the old one had.
    fn replace(&mut self, old: &Str, new: &Str, now: TimestampMs, out: &mut Vec<Change>) {
        let Some(before) = self.members.get(old) else { return };
        let (metadata, mut current) = (before.metadata(), before.current.clone());
        (current.epoch, current.previous_epoch) = (0, 0);
        current.state = MemberState::Stable;
        current.pending_revocation.clear();
        let target = self.target.get(old).cloned();
        self.emit_removal(old, now, out);
        self.emit(Change::Member(new.clone(), Some(metadata)), now, out);
        if let Some(target) = target {
            self.emit_target(new, &target, now, out);
        }
        self.emit(Change::Current(new.clone(), Some(current.record())), now, out);
    }

    /// Takes over what the heartbeat says of its member. Whether that is a new epoch.
    fn update(&mut self, beat: &Heartbeat, now: TimestampMs, out: &mut Vec<Change>) -> bool {
        let id = &beat.member_id;
        let before = self.members.get(id);
        let mut member = before.cloned().unwrap_or_else(|| Member::new(id.clone()));
        member.client_id.clone_from(&beat.client_id);
        member.client_host.clone_from(&beat.client_host);
        member.classic = None;
        if beat.instance_id.is_some() {
            member.instance_id.clone_from(&beat.instance_id);
        }
        if beat.rack_id.is_some() {
            member.rack_id.clone_from(&beat.rack_id);
        }
        if let Some(timeout_ms) = beat.rebalance_timeout_ms {
            member.rebalance_timeout_ms = timeout_ms;
        }
        if let Some(topics) = &beat.topics {
            member.topics.clone_from(topics);
        }
        if let Some(regex) = &beat.regex {
            member.regex = Some(regex.clone()).filter(|regex| !regex.is_empty());
        }
        if beat.assignor.is_some() {
            member.assignor.clone_from(&beat.assignor);
        }
        self.take_over(member, now, out)
    }

    /// Writes a member that has changed. Whether that is a new epoch.
    fn take_over(&mut self, member: Member, now: TimestampMs, out: &mut Vec<Change>) -> bool {
        let before = self.members.get(&member.id);
        let is_new = before.is_none();
        let reads_else = before
            .is_none_or(|before| before.topics != member.topics || before.regex != member.regex);
        if before.is_none_or(|before| before.metadata() != member.metadata()) {
            let change = Change::Member(member.id.clone(), Some(member.metadata()));
            self.emit(change, now, out);
        }
        is_new || reads_else
    }

    /// A member goes, for good or for a while.
    fn leave(
        &mut self,
        beat: &Heartbeat,
        topics: &dyn TopicLookup,
        now: TimestampMs,
        out: &mut Vec<Change>,
    ) -> Result<Beat, Refusal> {
        let id = match &beat.instance_id {
            None => beat.member_id.clone(),
            Some(instance) => {
                let holder = self.static_members.get(instance).and_then(|id| self.members.get(id));
                let holder = holder.ok_or_else(|| unknown_instance(instance))?;
                check_instance(holder, &beat.member_id, instance)?;
                holder.id.clone()
            }
        };
        let member = self.members.get(&id).ok_or_else(|| unknown_member(&id))?;
        if beat.epoch == EPOCH_STATIC_GONE && beat.instance_id.is_some() {
            // Its partitions wait for it until its session ends.
            let gone = Current {
                epoch: EPOCH_STATIC_GONE,
                pending_revocation: Partitions::new(),
                ..member.current.clone()
            };
            self.emit(Change::Current(id.clone(), Some(gone.record())), now, out);
            if let Some(member) = self.members.get_mut(&id) {
                member.rebalance_deadline = None;
            }
        } else {
            self.remove(std::slice::from_ref(&id), topics, now, out);
        }
        Ok(Beat { member_id: beat.member_id.clone(), epoch: beat.epoch, assignment: None })
    }

    /// Lets time pass: members go that were not heard of, or have not given up what they were asked to. The topics are
    /// for the epoch that then begins.
    pub fn tick(&mut self, topics: &dyn TopicLookup, now: TimestampMs, out: &mut Vec<Change>) {
        let mut gone = Vec::new();
        for member in self.members.values_mut() {
            let over = |deadline: Option<TimestampMs>| deadline.is_some_and(|at| at <= now);
            let late = member.rebalance_deadline.filter(|(_, at)| *at <= now);
            if over(member.session_deadline)
                || over(member.join_deadline)
                || over(member.sync_deadline)
                || late.is_some_and(|(epoch, _)| epoch == member.current.epoch)
            {
                gone.push(member.id.clone());
            } else if late.is_some() {
                member.rebalance_deadline = None;
            }
        }
        if !gone.is_empty() {
            self.remove(&gone, topics, now, out);
        }
    }

    /// Members are gone: the others get their partitions in a new epoch.
    fn remove(
        &mut self,
        ids: &[Str],
        topics: &dyn TopicLookup,
        now: TimestampMs,
        out: &mut Vec<Change>,
    ) {
        for id in ids {
            self.emit_removal(id, now, out);
        }
        self.refresh(true, None, topics, now, out);
    }

    /// Makes the target of this epoch, if there is none.
    fn retarget(&mut self, topics: &dyn TopicLookup, now: TimestampMs, out: &mut Vec<Change>) {
        if self.target_epoch >= self.epoch {
            return;
        }
        let target = assignor::assign(self.assignor(), &self.members_for_assignor(topics));
        for (id, partitions) in target {
            if self.target.get(&id) != Some(&partitions) {
                self.emit_target(&id, &partitions, now, out);
            }
        }
        let value = ConsumerGroupTargetAssignmentMetadataValue { assignment_epoch: self.epoch };
        self.emit(Change::TargetEpoch(Some(value)), now, out);
    }

    /// The assignor most members would like, else the first that there is.
    #[must_use]
    pub fn assignor(&self) -> Assignor {
        let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
        let wanted = self.members.values().filter_map(|member| member.assignor.as_deref());
        for assignor in wanted.filter_map(Assignor::of) {
            *votes.entry(assignor).or_default() += 1;
        }
        let default = self.limits.assignors.first().copied().unwrap_or(Assignor::Uniform);
        let most = votes.into_iter().max_by_key(|(_, count)| *count);
        most.map_or(default, |(assignor, _)| assignor)
    }

    fn bump(&mut self, hash: i64, now: TimestampMs, out: &mut Vec<Change>) {
        // Clients take 0 for "join", so 1 follows the largest. Two thousand million changes are not reached.
        let epoch = self.epoch.checked_add(1).unwrap_or(1);
        let value = ConsumerGroupMetadataValue { epoch, metadata_hash: hash };
        self.emit(Change::Group(Some(value)), now, out);
    }

    fn emit(&mut self, change: Change, now: TimestampMs, out: &mut Vec<Change>) {
        self.apply(change.clone(), now);
        out.push(change);
    }

    fn emit_target(
        &mut self,
        id: &Str,
        target: &Partitions,
        now: TimestampMs,
        out: &mut Vec<Change>,
    ) {
        let value = ConsumerGroupTargetAssignmentMemberValue { topic_partitions: to_wire(target) };
        self.emit(Change::Target(id.clone(), Some(value)), now, out);
    }

    fn emit_removal(&mut self, id: &Str, now: TimestampMs, out: &mut Vec<Change>) {
        self.emit(Change::Current(id.clone(), None), now, out);
        self.emit(Change::Target(id.clone(), None), now, out);
        self.emit(Change::Member(id.clone(), None), now, out);
    }

    /// Tombstones of all its records.
    #[must_use]
    pub fn tombstones(&self) -> Vec<Change> {
        let ids = || self.members.keys().cloned();
        let mut all: Vec<Change> = Vec::new();
        all.extend(ids().map(|id| Change::Current(id, None)));
        all.extend(self.target.keys().cloned().map(|id| Change::Target(id, None)));
        all.push(Change::TargetEpoch(None));
        all.extend(ids().map(|id| Change::Member(id, None)));
        all.extend(self.regexes.keys().cloned().map(|regex| Change::Regex(regex, None)));
        all.push(Change::Group(None));
        all
    }

    /// Whether this member may commit offsets now.
    ///
    /// # Errors
    /// The code to answer with.
    pub fn check_commit(&self, id: &Str, epoch: i32, version: i16) -> Result<(), ErrorCode> {
        if epoch < 0 && self.members.is_empty() {
            return Ok(()); // An operator, or a client that manages its partitions itself.
        }
        let member = self.members.get(id).ok_or(ErrorCode::UnknownMemberId)?;
        if !member.is_classic() && version < COMMIT_WITH_EPOCH_VERSION_MIN {
            return Err(ErrorCode::UnsupportedVersion);
        }
        check_current(member, epoch)
    }

    /// As [`ConsumerGroup::check_commit`], for offsets that go with a transaction. A client need not name a member.
    ///
    /// # Errors
    /// The code to answer with.
    pub fn check_txn_commit(
        &self,
        id: &Str,
        instance: Option<&Str>,
        epoch: i32,
    ) -> Result<(), ErrorCode> {
        let names_nobody = id.is_empty() && instance.is_none();
        if epoch < 0 && (self.members.is_empty() || names_nobody) {
            return Ok(());
        }
        let member = self.members.get(id).ok_or(ErrorCode::UnknownMemberId)?;
        // TxnOffsetCommit has no word for a stale epoch.
        check_current(member, epoch).map_err(|_| ErrorCode::IllegalGeneration)
    }

    /// Whether this member may read committed offsets. Who names no member, may.
    ///
    /// # Errors
    /// The code to answer with.
    pub fn check_fetch(&self, id: Option<&Str>, epoch: i32) -> Result<(), ErrorCode> {
        match id {
            None if epoch < 0 => Ok(()),
            id => {
                let member = id.and_then(|id| self.members.get(id));
                check_current(member.ok_or(ErrorCode::UnknownMemberId)?, epoch)
            }
        }
    }
}

/// From this version on OffsetCommit has a member epoch.
const COMMIT_WITH_EPOCH_VERSION_MIN: i16 = 9;

fn check_current(member: &Member, epoch: i32) -> Result<(), ErrorCode> {
    match (member.current.epoch == epoch, member.is_classic()) {
        (true, _) => Ok(()),
        (false, true) => Err(ErrorCode::IllegalGeneration),
        (false, false) => Err(ErrorCode::StaleMemberEpoch),
    }
}

/// Whether the member knows its epoch, or the one before, as the answer with the new one may have been lost. Then it must
/// have nothing that the new one does not give it.
fn check_epoch(member: &Member, beat: &Heartbeat) -> Result<(), Refusal> {
    let Current { epoch, previous_epoch, assigned, .. } = &member.current;
    if beat.epoch == *epoch {
        return Ok(());
    }
    let answer_was_lost = beat.epoch < *epoch
        && beat.epoch == *previous_epoch
        && beat.owned.as_ref().is_some_and(|owned| is_subset(owned, assigned));
    if answer_was_lost {
        return Ok(());
    }
    let what = if beat.epoch > *epoch { "greater" } else { "smaller" };
    let words = format!(
        "The consumer group member has a {what} member epoch ({}) than the one known by the group coordinator ({epoch}). The member must abandon all its partitions and rejoin.",
        beat.epoch
    );
    Err(Refusal::new(ErrorCode::FencedMemberEpoch, words))
}

fn check_instance(holder: &Member, id: &Str, instance: &Str) -> Result<(), Refusal> {
    if holder.id == *id {
        return Ok(());
    }
    let holder = &holder.id;
    let words =
        format!("Static member {id} with instance id {instance} was fenced by member {holder}.");
    Err(Refusal::new(ErrorCode::FencedInstanceId, words))
}

fn unknown_member(id: &Str) -> Refusal {
    let words = format!("Member {id} is not a member of the group.");
    Refusal::new(ErrorCode::UnknownMemberId, words)
}

fn unknown_instance(instance: &Str) -> Refusal {
    Refusal::new(ErrorCode::UnknownMemberId, format!("Instance id {instance} is unknown."))
}

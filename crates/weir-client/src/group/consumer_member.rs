//! A member of a consumer group (KIP-848) as a state machine. Pure: `handle(event, now) -> effects`.
//!
//! The coordinator assigns; a member says in its heartbeats what it wants and what it holds, and hears
//! what it shall hold. What is to go is given up first and reported; what comes is free already, as the
//! coordinator puts nothing into an assignment that another holds.
//!
//! # What holds
//! - One heartbeat is under way at a time; each says only what has changed, but after a join, an error
//!   or a lost answer it says all, as soon as what is held is not on the move.
//! - What a heartbeat reports as held is what `poll` has taken and not given up.
//! - A fenced member owns nothing from that moment on, whatever `poll` has done yet.

use std::collections::{BTreeMap, BTreeSet};

use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{PartitionId, Str, Uuid};

use super::holdings::{Holdings, StepId};
use super::{is_of_coordinator, Effect, Event, Interest};
use crate::accumulator::MonoMs;
use crate::config::GroupConfig;
use crate::consumer::TopicPartition;
use crate::error::ClientError;

/// The member epoch of a member that joins.
const JOIN_EPOCH: i32 = 0;
/// The member epoch of a member that leaves.
const LEAVE_EPOCH: i32 = -1;
/// The member epoch of a static member that leaves and will be back.
const LEAVE_STATIC_EPOCH: i32 = -2;

/// A partition as assignments name it.
type Place = (Uuid, i32);

/// What a heartbeat says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Beat {
    pub(crate) attempt: u64,
    pub(crate) member_id: Str,
    pub(crate) epoch: i32,
    /// What is wanted; none if it has not changed. With it go the settings that never change.
    pub(crate) interest: Option<Interest>,
    /// What is held, by topic; none if it has not changed.
    pub(crate) held: Option<BTreeMap<Uuid, Vec<i32>>>,
}

/// What a heartbeat hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Beaten {
    pub(crate) member_id: Option<Str>,
    pub(crate) epoch: i32,
    /// Zero where the coordinator says nothing of use.
    pub(crate) interval_ms: u64,
    /// What is to be held; none if it has not changed.
    pub(crate) assigned: Option<BTreeSet<Place>>,
}

/// Why a heartbeat heard nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BeatFailed {
    pub(crate) error: ClientError,
    /// How long to wait before the next.
    pub(crate) wait_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not subscribed.
    Out,
    /// The next poll joins.
    Unjoined,
    /// It sends heartbeats; it is a member once it has an epoch.
    In,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct ConsumerMember {
    is_static: bool,
    session_timeout_ms: u64,
    poll_interval_ms_max: u64,
    interest: Interest,
    /// Nothing is begun any more; the goodbye is to come.
    is_closing: bool,
    phase: Phase,
    member_id: Str,
    epoch: Option<i32>,
    attempt: u64,
    is_beating: bool,
    beat_at: MonoMs,
    /// After a failure nothing is said before this time.
    rests_until: MonoMs,
    interval_ms: u64,
    answered_at: MonoMs,
    polled_at: Option<MonoMs>,
    /// Since when its static id has been somebody else's.
    unreleased_since: Option<MonoMs>,
    /// The coordinator may not know what is wanted.
    must_say_interest: bool,
    /// An answer was lost, perhaps with an assignment: it comes again only to a heartbeat that says both
    /// what is wanted and what is held.
    must_say_all: bool,
    /// What the coordinator has been told is held; none if that is not known.
    reported: Option<BTreeSet<Place>>,
    /// The next heartbeat says what is held, though it need not hurry for that.
    must_report: bool,
    /// Being told by the heartbeat under way.
    reporting: Option<BTreeSet<Place>>,
    target: BTreeSet<Place>,
    /// There is an assignment that `poll` has not heard of.
    is_new_target: bool,
    names: BTreeMap<Uuid, Str>,
    held_ids: BTreeMap<TopicPartition, Uuid>,
    holdings: Holdings,
}

impl ConsumerMember {
    /// The member makes its id itself, once for its life (KIP-1082).
    pub(crate) fn new(config: &GroupConfig, member_id: Str) -> Self {
        ConsumerMember {
            is_static: config.instance_id.is_some(),
            session_timeout_ms: config.session_timeout_ms.into(),
            poll_interval_ms_max: config.poll_interval_ms_max.into(),
            interest: Interest::default(),
            is_closing: false,
            phase: Phase::Out,
            member_id,
            epoch: None,
            attempt: 0,
            is_beating: false,
            beat_at: MonoMs::MAX,
            rests_until: MonoMs::default(),
            interval_ms: config.heartbeat_interval_ms.into(),
            answered_at: MonoMs::default(),
            polled_at: None,
            unreleased_since: None,
            must_say_interest: true,
            must_say_all: false,
            reported: None,
            must_report: false,
            reporting: None,
            target: BTreeSet::new(),
            is_new_target: false,
            names: BTreeMap::new(),
            held_ids: BTreeMap::new(),
            holdings: Holdings::default(),
        }
    }

    pub(crate) fn holdings(&self) -> &Holdings {
        &self.holdings
    }

    pub(crate) fn member_id(&self) -> &Str {
        &self.member_id
    }

    pub(crate) fn epoch(&self) -> Option<i32> {
        self.epoch
    }

    /// Topics of the assignment whose names are not known.
    pub(crate) fn unnamed(&self) -> BTreeSet<Uuid> {
        let topics = self.target.iter().map(|(id, _)| *id);
        topics.filter(|id| !self.names.contains_key(id)).collect()
    }

    /// The id of the topic that has the name of this partition's now, if what is held is of an earlier
    /// one.
    pub(crate) fn made_again_as(&self, partition: &TopicPartition) -> Option<Uuid> {
        let held = self.held_ids.get(partition)?;
        let has_its_name = |id: &&Uuid| self.names.get(*id) == Some(&partition.topic);
        let mut ids = self.target.iter().map(|(id, _)| id).filter(has_its_name);
        ids.find(|id| *id != held).copied()
    }

    /// When [`Event::Tick`] is due.
    pub(crate) fn deadline(&self) -> MonoMs {
        if self.phase != Phase::In {
            return MonoMs::MAX;
        }
        let beat_at = self.beat_at.max(self.rests_until);
        let is_silent = self.is_beating || self.is_closing;
        let beat_at = if is_silent { MonoMs::MAX } else { beat_at };
        let member_until = match self.epoch {
            Some(_) => {
                let session_until = self.answered_at.plus_ms(self.session_timeout_ms);
                let polls_until =
                    self.polled_at.map_or(MonoMs::MAX, |at| at.plus_ms(self.poll_interval_ms_max));
                session_until.min(polls_until)
            }
            None => MonoMs::MAX,
        };
        beat_at.min(member_until)
    }

    /// Takes what has happened.
    pub(crate) fn handle(&mut self, event: Event, now: MonoMs) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Subscribed(interest) => {
                self.interest = interest;
                self.must_say_interest = true;
                if self.phase == Phase::Out {
                    self.phase = Phase::Unjoined;
                }
                self.beat_if_due(now, &mut effects);
            }
            Event::Polled => {
                self.polled_at = Some(now);
                if self.phase == Phase::Unjoined && self.holdings.is_settled() {
                    self.phase = Phase::In;
                    self.beat_at = now;
                }
                self.beat_if_due(now, &mut effects);
            }
            Event::Waiting => self.polled_at = None,
            Event::StepDone(step) => self.on_step_done(step, now, &mut effects),
            Event::Beaten { attempt, result } if attempt == self.attempt => {
                self.is_beating = false;
                match result {
                    Ok(beaten) => self.on_beaten(beaten, now, &mut effects),
                    Err(failed) => self.on_beat_failed(failed, now, &mut effects),
                }
            }
            Event::Named(names) => {
                self.names.extend(names);
                self.reconcile(&mut effects);
            }
            Event::CommitRefused { epoch, error } if self.epoch == Some(epoch) => {
                self.on_commit_refused(&error, now, &mut effects);
            }
            Event::Tick => self.on_tick(now, &mut effects),
            Event::Closing => {
                self.is_closing = true;
                self.holdings.close();
            }
            Event::Left => self.on_left(&mut effects),
            Event::Beaten { .. }
            | Event::CommitRefused { .. }
            | Event::Grown
            | Event::Joined { .. }
            | Event::HeartbeatAnswered { .. } => {}
        }
        effects
    }

    fn held(&self) -> BTreeSet<Place> {
        let place = |partition: &TopicPartition| {
            Some((*self.held_ids.get(partition)?, partition.partition.get()))
        };
        self.holdings.owned().filter_map(place).collect()
    }

    /// Sends a heartbeat if it is time, or if there is something to say.
    fn beat_if_due(&mut self, now: MonoMs, effects: &mut Vec<Effect>) {
        if self.phase != Phase::In || self.is_beating || self.is_closing {
            return;
        }
        // While a step is not done what is held is on the move, and is reported when it has arrived.
        let held = self.held();
        let held_is_news = self.holdings.is_settled() && self.reported.as_ref() != Some(&held);
        let has_news = self.epoch.is_some() && (self.must_say_interest || held_is_news);
        if self.rests_until > now || (self.beat_at > now && !has_news) {
            return;
        }
        self.attempt += 1;
        self.is_beating = true;
        self.beat_at = now.plus_ms(self.interval_ms);
        let repeats_held = self.holdings.is_settled() && self.must_report;
        self.must_report &= !repeats_held;
        let says_held = self.epoch.is_none() || held_is_news || repeats_held;
        let says_all = self.epoch.is_none() || (says_held && self.must_say_all);
        self.must_say_all &= !says_all;
        let interest = (says_all || self.must_say_interest).then(|| {
            self.must_say_interest = false;
            self.interest.clone()
        });
        self.reporting = says_held.then(|| held.clone());
        effects.push(Effect::Beat(Beat {
            attempt: self.attempt,
            member_id: self.member_id.clone(),
            epoch: self.epoch.unwrap_or(JOIN_EPOCH),
            interest,
            held: says_held.then(|| by_topic(&held)),
        }));
    }

    fn on_beaten(&mut self, beaten: Beaten, now: MonoMs, effects: &mut Vec<Effect>) {
        self.answered_at = now;
        self.unreleased_since = None;
        if let Some(id) = beaten.member_id.filter(|id| !id.is_empty()) {
            self.member_id = id;
        }
        if beaten.interval_ms > 0 {
            self.interval_ms = beaten.interval_ms;
        }
        self.beat_at = now.plus_ms(self.interval_ms);
        let is_joining = self.epoch.is_none();
        self.epoch = Some(beaten.epoch);
        if let Some(reported) = self.reporting.take() {
            self.reported = Some(reported);
        }
        if let Some(assigned) = beaten.assigned {
            let is_new = is_joining || assigned != self.target;
            self.is_new_target |= is_new;
            // Also where what is held stays the same: the coordinator waits for the word that what it
            // took back is given up, or was never taken.
            if is_new {
                self.reported = None;
            }
            self.must_report = true;
            self.target = assigned;
        }
        self.reconcile(effects);
        self.beat_if_due(now, effects);
    }

    fn on_beat_failed(&mut self, failed: BeatFailed, now: MonoMs, effects: &mut Vec<Effect>) {
        let BeatFailed { error, wait_ms } = failed;
        self.rests_until = now.plus_ms(wait_ms);
        self.beat_at = self.rests_until;
        // It may have been heard or not: the next says all, or once `poll` has done its steps.
        self.must_say_interest = true;
        self.must_say_all = true;
        self.reported = None;
        self.reporting = None;
        match error.broker_code() {
            None => effects.push(Effect::ForgetCoordinator),
            Some(code) if is_of_coordinator(code) => self.answered_at = now,
            Some(_) => {}
        }
        match error.broker_code() {
            Some(ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId) => {
                self.fenced(effects);
            }
            Some(ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable) => {
                effects.push(Effect::ForgetCoordinator);
            }
            // The one who had it crashed and left no word: the coordinator waits for its session.
            Some(ErrorCode::UnreleasedInstanceId) if !self.is_unreleased_too_long(now) => {
                tracing::info!(member = %self.member_id, "the static id is not free yet");
            }
            _ if error.is_retriable() => {}
            _ => {
                self.fenced(effects);
                self.holdings.fail(error);
            }
        }
    }

    fn is_unreleased_too_long(&mut self, now: MonoMs) -> bool {
        let since = *self.unreleased_since.get_or_insert(now);
        // A bit more, for a session that began after ours did.
        now.since(since) > self.session_timeout_ms.saturating_mul(3) / 2
    }

    fn on_commit_refused(&mut self, error: &ClientError, now: MonoMs, effects: &mut Vec<Effect>) {
        match error.broker_code() {
            // The coordinator is ahead: its answer to the next heartbeat has the epoch.
            Some(ErrorCode::StaleMemberEpoch) => {
                self.beat_at = now;
                self.beat_if_due(now, effects);
            }
            Some(ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch) => {
                self.fenced(effects);
            }
            Some(ErrorCode::FencedInstanceId) => {
                self.fenced(effects);
                self.holdings.fail(error.clone());
            }
            _ => {}
        }
    }

    fn on_tick(&mut self, now: MonoMs, effects: &mut Vec<Effect>) {
        if self.phase == Phase::In && self.epoch.is_some() {
            if now.since(self.answered_at) >= self.session_timeout_ms {
                // Nobody has heard of us for so long: others read our partitions by now.
                return self.fenced(effects);
            }
            let is_late = |at: MonoMs| now.since(at) >= self.poll_interval_ms_max;
            if self.polled_at.is_some_and(is_late) {
                effects.push(self.goodbye());
                self.fenced(effects);
                let interval_ms = self.poll_interval_ms_max;
                return self.holdings.fail(ClientError::PollTooLate { interval_ms });
            }
        }
        self.beat_if_due(now, effects);
    }

    fn on_step_done(&mut self, step: StepId, now: MonoMs, effects: &mut Vec<Effect>) {
        self.holdings.confirm(step);
        if self.holdings.is_settled() {
            let held: BTreeSet<TopicPartition> = self.holdings.owned().cloned().collect();
            self.held_ids.retain(|partition, _| held.contains(partition));
            if self.phase == Phase::Unjoined && !self.is_closing {
                self.phase = Phase::In;
                self.beat_at = now;
            }
            self.reconcile(effects);
        }
        self.beat_if_due(now, effects);
    }

    /// Leaves the steps from what is held to what is to be held, as far as its names are known.
    fn reconcile(&mut self, effects: &mut Vec<Effect>) {
        let is_in = self.phase == Phase::In && self.epoch.is_some() && !self.is_closing;
        if !is_in || !self.holdings.is_settled() {
            return;
        }
        let is_wanted = |partition: &&TopicPartition| {
            let id = self.held_ids.get(*partition);
            id.is_some_and(|id| self.target.contains(&(*id, partition.partition.get())))
        };
        let gone: Vec<TopicPartition> =
            self.holdings.owned().filter(|partition| !is_wanted(partition)).cloned().collect();
        let held = self.held();
        let mut come = Vec::new();
        for (id, number) in self.target.difference(&held) {
            let Some(topic) = self.names.get(id) else { continue };
            let partition =
                TopicPartition { topic: topic.clone(), partition: PartitionId(*number) };
            come.push((partition, *id));
        }
        if gone.is_empty() && come.is_empty() && !self.is_new_target {
            return;
        }
        self.is_new_target = false;
        self.holdings.revoke(gone);
        self.holdings.assign(come.iter().map(|(partition, _)| partition.clone()).collect());
        self.held_ids.extend(come);
        effects.push(Effect::WakePoll);
    }

    /// The group goes on without us; the next poll joins again, with the same id.
    fn fenced(&mut self, effects: &mut Vec<Effect>) {
        self.phase = Phase::Unjoined;
        self.attempt += 1;
        self.is_beating = false;
        self.epoch = None;
        self.must_say_interest = true;
        self.reported = None;
        self.reporting = None;
        self.target.clear();
        self.held_ids.clear();
        self.holdings.lose();
        effects.push(Effect::WakePoll);
    }

    fn goodbye(&self) -> Effect {
        Effect::Beat(Beat {
            // Nobody waits for the answer.
            attempt: 0,
            member_id: self.member_id.clone(),
            epoch: if self.is_static { LEAVE_STATIC_EPOCH } else { LEAVE_EPOCH },
            interest: None,
            held: None,
        })
    }

    fn on_left(&mut self, effects: &mut Vec<Effect>) {
        // Also while it joins: the coordinator may have taken it in.
        if self.phase == Phase::In {
            effects.push(self.goodbye());
        }
        self.attempt += 1;
        self.phase = Phase::Out;
        self.epoch = None;
        self.holdings = Holdings::default();
    }
}

fn by_topic(places: &BTreeSet<Place>) -> BTreeMap<Uuid, Vec<i32>> {
    let mut topics: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
    for (id, number) in places {
        topics.entry(*id).or_default().push(*number);
    }
    topics
}

#[cfg(test)]
mod tests;

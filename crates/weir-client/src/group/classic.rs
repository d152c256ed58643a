//! A member of a classic group as a state machine: when it joins, what it gives up, what it takes.
//! Pure: `handle(event, now) -> effects`.
//!
//! Two ways partitions change hands (KIP-429). Eager: all are given up before each join, and the join
//! brings a new set. Cooperative: a member joins with what it has and goes on reading; the answer says
//! what goes, that is given up, and one more join hands it on.
//!
//! # What holds
//! - An eager member owns nothing while it joins.
//! - A partition is given up, with the commit and the hook that belong to it, before the join that may
//!   hand it to another.
//! - An answer to an earlier attempt changes nothing.
//! - A member that was expelled owns nothing from that moment on, whatever `poll` has done yet.

use std::collections::BTreeSet;

use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{GenerationId, Str};

use super::holdings::Holdings;
use super::{is_of_coordinator, Effect, Event};
use crate::accumulator::MonoMs;
use crate::assignor::{RebalanceProtocol, Subscription};
use crate::config::GroupConfig;
use crate::consumer::TopicPartition;
use crate::error::ClientError;

/// What a join says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinCall {
    pub(crate) attempt: u64,
    pub(crate) member_id: Str,
    pub(crate) subscription: Subscription,
}

/// What a join and its sync brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) member_id: Str,
    pub(crate) generation: GenerationId,
    pub(crate) assigned: Vec<TopicPartition>,
}

/// Why a join or its sync brought nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinFailed {
    pub(crate) error: ClientError,
    /// The id that the coordinator has given, if it came so far (KIP-394).
    pub(crate) member_id: Option<Str>,
    /// How long to wait before the next attempt.
    pub(crate) wait_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not subscribed.
    Out,
    /// The next poll joins.
    Unjoined,
    /// A join is under way.
    Joining,
    /// A join failed and is tried again at this time.
    Resting(MonoMs),
    /// It has a place in the present generation.
    Stable,
    /// Another has its static id, and is not to be put out in its turn: until it is subscribed anew each
    /// poll says so (KIP-345).
    Fenced,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct ClassicMember {
    protocol: RebalanceProtocol,
    is_static: bool,
    session_timeout_ms: u64,
    heartbeat_interval_ms: u64,
    poll_interval_ms_max: u64,
    topics: Vec<Str>,
    phase: Phase,
    member_id: Str,
    /// The generation in which it got what it owns; none while it owns nothing.
    generation: Option<GenerationId>,
    must_rejoin: bool,
    /// Counts joins; answers to heartbeats and joins of earlier ones are stale.
    attempt: u64,
    holdings: Holdings,
    heartbeat_at: MonoMs,
    heartbeat_is_out: bool,
    answered_at: MonoMs,
    /// When the program was in `poll` last; none while it waits there.
    polled_at: Option<MonoMs>,
}

impl ClassicMember {
    pub(crate) fn new(config: &GroupConfig) -> Self {
        ClassicMember {
            protocol: RebalanceProtocol::of(&config.assignors),
            is_static: config.instance_id.is_some(),
            session_timeout_ms: config.session_timeout_ms.into(),
            heartbeat_interval_ms: heartbeat_interval_ms(config),
            poll_interval_ms_max: config.poll_interval_ms_max.into(),
            topics: Vec::new(),
            phase: Phase::Out,
            member_id: Str::default(),
            generation: None,
            must_rejoin: false,
            attempt: 0,
            holdings: Holdings::default(),
            heartbeat_at: MonoMs::MAX,
            heartbeat_is_out: false,
            answered_at: MonoMs::default(),
            polled_at: None,
        }
    }

    pub(crate) fn holdings(&self) -> &Holdings {
        &self.holdings
    }

    pub(crate) fn member_id(&self) -> &Str {
        &self.member_id
    }

    pub(crate) fn generation(&self) -> Option<GenerationId> {
        self.generation
    }

    /// Whether a join is under way, whose end may bring another generation.
    pub(crate) fn is_between_generations(&self) -> bool {
        matches!(self.phase, Phase::Joining | Phase::Resting(_))
    }

    /// When [`Event::Tick`] is due.
    pub(crate) fn deadline(&self) -> MonoMs {
        let polls_until =
            self.polled_at.map_or(MonoMs::MAX, |at| at.plus_ms(self.poll_interval_ms_max));
        match self.phase {
            Phase::Out | Phase::Unjoined | Phase::Joining | Phase::Fenced => MonoMs::MAX,
            Phase::Resting(until) => until,
            Phase::Stable => {
                let session_until = self.answered_at.plus_ms(self.session_timeout_ms);
                self.heartbeat_at.min(session_until).min(polls_until)
            }
        }
    }

    /// Takes what has happened.
    pub(crate) fn handle(&mut self, event: Event, now: MonoMs) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Subscribed(interest) => {
                self.topics = interest.topics;
                self.must_rejoin = true;
                if matches!(self.phase, Phase::Out | Phase::Fenced) {
                    self.phase = Phase::Unjoined;
                }
            }
            Event::Polled => {
                self.polled_at = Some(now);
                if self.phase == Phase::Fenced && self.holdings.is_settled() {
                    self.holdings.fail(fenced());
                }
                self.advance(&mut effects);
            }
            Event::Waiting => self.polled_at = None,
            Event::StepDone(step) => {
                self.holdings.confirm(step);
                self.advance(&mut effects);
            }
            Event::Grown if self.phase == Phase::Stable => self.rejoin_soon(&mut effects),
            Event::Grown => {}
            // It closes: that it is a member is of use for leaving only.
            Event::Joined { result, .. } if self.phase == Phase::Out => {
                if let Ok(joined) = result {
                    self.member_id = joined.member_id;
                }
            }
            Event::Joined { attempt, result } if attempt == self.attempt => match result {
                Ok(joined) => self.on_joined(joined, now, &mut effects),
                Err(failed) => self.on_join_failed(failed, now, &mut effects),
            },
            Event::HeartbeatAnswered { attempt, result } if attempt == self.attempt => {
                self.heartbeat_is_out = false;
                if self.phase == Phase::Stable {
                    self.on_heartbeat(result, now, &mut effects);
                }
            }
            Event::Joined { .. }
            | Event::HeartbeatAnswered { .. }
            | Event::Beaten { .. }
            | Event::Named(_) => {}
            Event::CommitRefused { epoch, error } => {
                if self.phase == Phase::Stable && self.generation == Some(GenerationId(epoch)) {
                    self.on_refused(&error, &mut effects);
                }
            }
            Event::Tick => self.on_tick(now, &mut effects),
            Event::Closing => {
                // No join begins any more; what is given up is of the generation still.
                self.phase = Phase::Out;
                self.holdings.close();
            }
            Event::Left => self.on_left(&mut effects),
        }
        effects
    }

    /// Joins where it is time to, once `poll` has done what is to be done before.
    fn advance(&mut self, effects: &mut Vec<Effect>) {
        let wants = match self.phase {
            Phase::Unjoined => true,
            Phase::Stable => self.must_rejoin,
            Phase::Out | Phase::Joining | Phase::Resting(_) | Phase::Fenced => false,
        };
        if !wants || !self.holdings.is_settled() {
            return;
        }
        let to_give_up: Vec<TopicPartition> = match self.protocol {
            RebalanceProtocol::Eager => self.holdings.owned_list(),
            RebalanceProtocol::Cooperative => {
                let wanted: BTreeSet<&Str> = self.topics.iter().collect();
                let is_unwanted = |p: &&TopicPartition| !wanted.contains(&p.topic);
                self.holdings.owned().filter(is_unwanted).cloned().collect()
            }
        };
        if to_give_up.is_empty() {
            self.begin_join(effects);
        } else {
            self.holdings.revoke(to_give_up);
        }
    }

    /// What is asked of the member from now on is for the join after this one.
    fn begin_join(&mut self, effects: &mut Vec<Effect>) {
        self.attempt += 1;
        self.phase = Phase::Joining;
        self.must_rejoin = false;
        self.heartbeat_is_out = false;
        let owned_in = self.generation.filter(|_| !self.holdings.is_empty());
        if self.protocol == RebalanceProtocol::Eager {
            self.generation = None;
        }
        effects.push(Effect::Join(JoinCall {
            attempt: self.attempt,
            member_id: self.member_id.clone(),
            subscription: Subscription {
                topics: self.topics.clone(),
                owned: self.holdings.owned_list(),
                generation: owned_in.map_or(-1, GenerationId::get),
            },
        }));
    }

    fn on_joined(&mut self, joined: Joined, now: MonoMs, effects: &mut Vec<Effect>) {
        self.phase = Phase::Stable;
        self.member_id = joined.member_id;
        self.generation = Some(joined.generation);
        self.answered_at = now;
        self.heartbeat_at = now.plus_ms(self.heartbeat_interval_ms);
        if self.holdings.move_to(&joined.assigned) {
            // Others wait for what goes: one more join hands it on.
            self.must_rejoin = true;
        }
        effects.push(Effect::WakePoll);
    }

    fn on_join_failed(&mut self, failed: JoinFailed, now: MonoMs, effects: &mut Vec<Effect>) {
        if let Some(id) = failed.member_id {
            self.member_id = id;
        }
        let code = failed.error.broker_code();
        self.phase = Phase::Resting(now.plus_ms(failed.wait_ms));
        match code {
            Some(code) if is_of_coordinator(code) => self.answered_at = now,
            Some(_) => {}
            None => effects.push(Effect::ForgetCoordinator),
        }
        match code {
            Some(ErrorCode::MemberIdRequired) => self.begin_join(effects),
            Some(ErrorCode::RebalanceInProgress) => {}
            Some(ErrorCode::IllegalGeneration) => self.drop_everything(effects),
            Some(ErrorCode::UnknownMemberId) => {
                self.member_id = Str::default();
                self.drop_everything(effects);
            }
            _ if failed.error.is_retriable() => {
                let is_elsewhere = [ErrorCode::NotCoordinator, ErrorCode::CoordinatorNotAvailable];
                if code.is_some_and(|code| is_elsewhere.contains(&code)) {
                    effects.push(Effect::ForgetCoordinator);
                }
                if now.since(self.answered_at) >= self.session_timeout_ms {
                    self.drop_everything(effects);
                }
            }
            _ => {
                self.drop_everything(effects);
                self.holdings.fail(failed.error);
                self.phase = match code {
                    Some(ErrorCode::FencedInstanceId) => Phase::Fenced,
                    _ => Phase::Unjoined,
                };
                effects.push(Effect::WakePoll);
            }
        }
    }

    fn on_tick(&mut self, now: MonoMs, effects: &mut Vec<Effect>) {
        match self.phase {
            Phase::Resting(until) if until <= now => self.begin_join(effects),
            Phase::Stable => self.on_stable_tick(now, effects),
            _ => {}
        }
    }

    fn on_stable_tick(&mut self, now: MonoMs, effects: &mut Vec<Effect>) {
        if now.since(self.answered_at) >= self.session_timeout_ms {
            // Nobody has heard of us for so long: others read our partitions by now.
            return self.expel(effects);
        }
        let is_late = |at: MonoMs| now.since(at) >= self.poll_interval_ms_max;
        if self.polled_at.is_some_and(is_late) {
            return self.leave_unpolled(effects);
        }
        if self.heartbeat_at <= now {
            self.heartbeat_at = now.plus_ms(self.heartbeat_interval_ms);
            if let (Some(generation), false) = (self.generation, self.heartbeat_is_out) {
                self.heartbeat_is_out = true;
                let (attempt, member_id) = (self.attempt, self.member_id.clone());
                effects.push(Effect::Heartbeat { attempt, member_id, generation });
            }
        }
    }

    /// The program does not poll: the partitions go to members that do (KIP-62).
    fn leave_unpolled(&mut self, effects: &mut Vec<Effect>) {
        // A static member goes without a word: it keeps its place until the session ends.
        if !self.is_static {
            effects.push(Effect::Leave { member_id: self.member_id.clone() });
        }
        self.expel(effects);
        let interval_ms = self.poll_interval_ms_max;
        self.holdings.fail(ClientError::PollTooLate { interval_ms });
    }

    fn on_heartbeat(
        &mut self,
        result: Result<(), ClientError>,
        now: MonoMs,
        effects: &mut Vec<Effect>,
    ) {
        match result {
            Ok(()) => self.answered_at = now,
            Err(error) => {
                if error.broker_code() == Some(ErrorCode::RebalanceInProgress) {
                    self.answered_at = now;
                }
                self.on_refused(&error, effects);
            }
        }
    }

    /// The coordinator does not take a heartbeat or a commit of the present generation.
    fn on_refused(&mut self, error: &ClientError, effects: &mut Vec<Effect>) {
        match error.broker_code() {
            Some(ErrorCode::RebalanceInProgress) => self.rejoin_soon(effects),
            Some(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration) => self.expel(effects),
            Some(ErrorCode::FencedInstanceId) => {
                self.expel(effects);
                self.phase = Phase::Fenced;
                self.holdings.fail(error.clone());
            }
            _ => effects.push(Effect::ForgetCoordinator),
        }
    }

    fn rejoin_soon(&mut self, effects: &mut Vec<Effect>) {
        self.must_rejoin = true;
        effects.push(Effect::WakePoll);
    }

    /// The group goes on without us. The member id is of no use any more.
    fn expel(&mut self, effects: &mut Vec<Effect>) {
        self.phase = Phase::Unjoined;
        self.attempt += 1;
        self.member_id = Str::default();
        self.drop_everything(effects);
    }

    fn drop_everything(&mut self, effects: &mut Vec<Effect>) {
        self.generation = None;
        self.holdings.lose();
        effects.push(Effect::WakePoll);
    }

    fn on_left(&mut self, effects: &mut Vec<Effect>) {
        self.attempt += 1;
        self.phase = Phase::Out;
        self.generation = None;
        self.holdings = Holdings::default();
        let member_id = std::mem::take(&mut self.member_id);
        // A static member stays: it will be back.
        if !member_id.is_empty() && !self.is_static {
            effects.push(Effect::Leave { member_id });
        }
    }
}

fn fenced() -> ClientError {
    let message = Some("another member has this instance id".to_owned());
    ClientError::Broker { api: "JoinGroup", code: ErrorCode::FencedInstanceId, message }
}

/// At most a third of the session, so that one lost heartbeat does not end it.
fn heartbeat_interval_ms(config: &GroupConfig) -> u64 {
    config.heartbeat_interval_ms.min(config.session_timeout_ms / 3).max(1).into()
}

#[cfg(test)]
mod tests;

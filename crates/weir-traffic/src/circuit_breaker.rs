//! The circuit breaker: stops trying a sink that fails, and finds out when it works again.
//!
//! *Closed*: everything passes; `failures_max` failures in a row open it. *Open*: nothing passes for
//! `open_ms`. *Half-open*: exactly `probes` sends pass; all must succeed to close it, one failure opens
//! it again.
//!
//! Two faults of known breakers are ruled out by construction:
//! - More probes than allowed (resilience4j#1090, #1432): a probe is counted when it is let through,
//!   not when it returns.
//! - Stuck half-open because a probe never returned (resilience4j#903, #935): a probe has a deadline,
//!   and is a failure after it.
//!
//! A sink that tries by itself for long tells of each attempt, so that the breaker need not wait for
//! its final word ([`CircuitBreaker::on_attempts_failed`], [`CircuitBreaker::on_attempt_succeeded`]).
//!
//! A result that comes after the breaker moved on says nothing about now, and is ignored: a
//! [`Permit`] knows the round it was given in.

use serde::Serialize;

use crate::time::{earliest, Nanos};

/// Settings of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Failures in a row that open it; at least 1.
    pub failures_max: u32,
    /// How long it stays open.
    pub open_ms: u64,
    /// Probes when half-open, all of which must succeed; at least 1.
    pub probes: u32,
    /// A probe that takes longer has failed.
    pub probe_ms_max: u64,
}

/// What the breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// Everything.
    Closed,
    /// Nothing.
    Open,
    /// A counted number of probes.
    HalfOpen,
}

/// A change of state, to be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// From here,
    pub from: BreakerState,
    /// to here.
    pub to: BreakerState,
    /// Failures in a row that led to it.
    pub failures: u32,
}

/// The right to one send. Give it back with its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a permit not reported is a probe that times out"]
pub struct Permit {
    round: u64,
    probe: u64,
}

#[derive(Debug, Clone)]
enum State {
    Closed,
    Open { until: Nanos },
    HalfOpen { successes: u32, issued: u32, out: Vec<(u64, Nanos)> },
}

/// A circuit breaker.
#[derive(Debug, Clone)]
pub struct CircuitBreaker {
    config: BreakerConfig,
    state: State,
    /// Failures in a row.
    failures: u32,
    /// Grows with each change of state: results of earlier rounds are ignored.
    round: u64,
    probe_next: u64,
    probes_hung: u64,
    opened: u64,
    changes: Vec<Transition>,
}

/// Changes kept until they are taken for the log. A shell takes them after each call, so more than a few means nobody does.
const CHANGES_MAX: usize = 64;

impl CircuitBreaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            state: State::Closed,
            failures: 0,
            round: 0,
            probe_next: 0,
            probes_hung: 0,
            opened: 0,
            changes: Vec::new(),
        }
    }

    /// Its state. An open breaker whose time is over is open until somebody asks to send.
    #[must_use]
    pub const fn state(&self) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// How often it has opened.
    #[must_use]
    pub const fn opened(&self) -> u64 {
        self.opened
    }

    /// Failures in a row.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Probes that did not return in time.
    #[must_use]
    pub const fn probes_hung(&self) -> u64 {
        self.probes_hung
    }

    /// Whether a send would pass now.
    #[must_use]
    pub fn allows(&self, now: Nanos) -> bool {
        match &self.state {
            State::Closed => true,
            State::Open { until } => now >= *until,
            State::HalfOpen { issued, .. } => *issued < self.config.probes,
        }
    }

    /// When an open breaker lets the next send through.
    #[must_use]
    pub fn open_until(&self) -> Option<Nanos> {
        match self.state {
            State::Open { until } => Some(until),
            _ => None,
        }
    }

    /// The right to send once, if the breaker lets it through.
    pub fn try_acquire(&mut self, now: Nanos) -> Option<Permit> {
        if !self.allows(now) {
            return None;
        }
        if matches!(self.state, State::Open { .. }) {
            self.change(State::HalfOpen { successes: 0, issued: 0, out: Vec::new() });
        }
        let probe = self.probe_next;
        if let State::HalfOpen { issued, out, .. } = &mut self.state {
            *issued += 1;
            debug_assert!(*issued <= self.config.probes, "more probes than allowed");
            out.push((probe, now.plus_ms(self.config.probe_ms_max)));
            self.probe_next += 1;
        }
        Some(Permit { round: self.round, probe })
    }

    /// The result of the send that `permit` allowed.
    pub fn on_result(&mut self, permit: Permit, succeeded: bool, now: Nanos) {
        if permit.round != self.round {
            return;
        }
        self.failures = if succeeded { 0 } else { self.failures.saturating_add(1) };
        let mut closes = false;
        let mut opens = false;
        match &mut self.state {
            State::Closed => opens = self.failures >= self.config.failures_max,
            // Nothing is let through in an open round, so nothing can return from it.
            State::Open { .. } => debug_assert!(false, "a permit of an open round"),
            State::HalfOpen { successes, out, .. } => {
                let Some(at) = out.iter().position(|(probe, _)| *probe == permit.probe) else {
                    return;
                };
                out.swap_remove(at);
                *successes += u32::from(succeeded);
                opens = !succeeded;
                closes = *successes >= self.config.probes;
            }
        }
        if opens {
            self.open(now);
        } else if closes {
            self.change(State::Closed);
        }
    }

    /// Attempts failed that belong to no one send, such as connects: counted as failures in a row when
    /// closed, and enough to open it again when half-open.
    pub fn on_attempts_failed(&mut self, count: u32, now: Nanos) {
        if count == 0 || self.state() == BreakerState::Open {
            return;
        }
        self.failures = self.failures.saturating_add(count);
        if self.state() == BreakerState::HalfOpen || self.failures >= self.config.failures_max {
            self.open(now);
        }
    }

    /// An attempt succeeded that belongs to no one send: failures are not in a row any more, and an
    /// open breaker need not wait for its time to try.
    pub fn on_attempt_succeeded(&mut self, now: Nanos) {
        match &mut self.state {
            State::Closed => self.failures = 0,
            State::Open { until } => *until = now.min(*until),
            // The probes decide.
            State::HalfOpen { .. } => {}
        }
    }

    /// Fails the probes whose time is over.
    pub fn tick(&mut self, now: Nanos) {
        let State::HalfOpen { out, .. } = &self.state else { return };
        let hung = out.iter().filter(|(_, deadline)| now >= *deadline).count();
        if hung > 0 {
            self.probes_hung += u64::try_from(hung).unwrap_or(u64::MAX);
            self.failures = self.failures.saturating_add(1);
            self.open(now);
        }
    }

    /// When [`tick`](Self::tick) or a send will have something to do, if nothing happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Nanos> {
        match &self.state {
            State::Closed => None,
            State::Open { until } => Some(*until),
            State::HalfOpen { out, .. } => {
                out.iter().fold(None, |first, (_, deadline)| earliest(first, Some(*deadline)))
            }
        }
    }

    /// New settings, from the next decision on.
    pub fn set_config(&mut self, config: BreakerConfig) {
        self.config = config;
        // Fewer probes wanted than have succeeded already: that was enough.
        if matches!(&self.state, State::HalfOpen { successes, .. } if *successes >= config.probes) {
            self.change(State::Closed);
        }
    }

    /// The changes of state since the last call, oldest first.
    pub fn take_changes(&mut self) -> Vec<Transition> {
        std::mem::take(&mut self.changes)
    }

    fn open(&mut self, now: Nanos) {
        self.opened += 1;
        self.change(State::Open { until: now.plus_ms(self.config.open_ms) });
    }

    fn change(&mut self, to: State) {
        let from = self.state();
        self.state = to;
        self.round += 1;
        if self.changes.len() < CHANGES_MAX {
            self.changes.push(Transition { from, to: self.state(), failures: self.failures });
        }
        if self.state() == BreakerState::Closed {
            self.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests;

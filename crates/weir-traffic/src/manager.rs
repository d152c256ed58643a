//! The traffic manager's core: decides, without I/O, waiting or a clock.
//!
//! A caller [admits](TrafficManager::admit) events, asks for [batches](TrafficManager::next_batch) to
//! send, reports [what became of them](TrafficManager::on_batch_done), and takes back
//! [what has waited too long](TrafficManager::expire). [`TrafficManager::next_deadline`] says when
//! something will happen by itself.
//!
//! # What goes next
//! 1. Urgent events, at once: no linger, no rate limit, and an in-flight window of their own.
//! 2. Of high, normal and low, what is due ([`crate::batcher`]), in fair shares ([`crate::share`]), as
//!    far as the rate limit lets pass. While more waits than may pass, the limiter gathers a flush
//!    interval's worth (or a batch), so that the rate is kept in batches, not in single events.
//!
//! # While the rate is less than what comes
//! An event that would wait for longer than `wait_max` behind others of its class, at the configured
//! rate, is refused when it is offered: its caller would give up waiting, and send it again. Once
//! taken, no event is given back for waiting while the sink works.
//!
//! # While the sink is away
//! From the first attempt or batch that fails as a whole (or is not answered in time) until the next
//! that succeeds, the sink is *away*: events wait in their lanes for `wait_max` and are then given back to
//! their callers, who were never told "accepted". A failed batch goes back into its lane before all
//! later events of its keys; the next try comes after a backoff that doubles, and after `max_failures`
//! the circuit breaker stops trying.
//!
//! A sink that tries for long by itself, as a producer does until its delivery timeout, reports each
//! attempt ([`TrafficManager::on_attempts_failed`]), so the breaker opens while its batches are still on
//! their way; and it reports the first that succeeds again ([`TrafficManager::on_attempt_succeeded`]),
//! so nobody waits out the rest of `circuit_timeout` for a sink that is back.
//!
//! # Order for a sender that sends again
//! When an event is given back for now, later ones of its key that were admitted at the same moment
//! (with the same `now`: those of one request) and still wait are given back with it. A sender that
//! sends what it got back again, in order, keeps its order.
//!
//! # What is never retried here
//! An event that may have been written ([`Outcome::Refused`] with [`Reason::OutcomeUnknown`]). Sending
//! it again could write it twice and after its successors; its caller decides.

use weir_client::Priority;

use crate::batcher::{Batcher, Gathered};
use crate::circuit_breaker::{BreakerConfig, BreakerState, CircuitBreaker, Permit, Transition};
use crate::config::TrafficConfig;
use crate::error::{Reason, Refused, TrafficError};
use crate::histogram::{Histogram, RateMeter};
use crate::lane::{BatchId, BatchLimit, Broken, Entry, Lane};
use crate::ledger::Ledger;
use crate::rate_limiter::{Rate, RateLimiter};
use crate::share::{Shares, SHARED_LANES};
use crate::stats::{BreakerStats, LaneStats, SinkStats, TrafficStats};
use crate::time::{earliest, Nanos, NS_PER_MS};

/// What the manager needs to know of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Its class.
    pub priority: Priority,
    /// What it takes in its lane.
    pub bytes: usize,
    /// A well mixed hash of topic and key; `None`: no order to keep.
    pub key: Option<u64>,
}

/// What became of an event offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission<T> {
    /// It is in its lane.
    Queued,
    /// It is in the durable spool, which does not exist yet: not returned in this version.
    Spilled,
    /// It was not taken; here it is back.
    Rejected {
        /// The event.
        event: T,
        /// Why, and when to try again.
        refused: Refused,
    },
}

/// Events to send together, all of one class.
#[derive(Debug)]
#[must_use = "a batch not reported stays in flight for ever"]
pub struct Batch<T> {
    id: BatchId,
    priority: Priority,
    sent: Nanos,
    entries: Vec<Entry<T>>,
}

impl<T> Batch<T> {
    /// Its number.
    #[must_use]
    pub const fn id(&self) -> BatchId {
        self.id
    }

    /// The class of its events.
    #[must_use]
    pub const fn priority(&self) -> Priority {
        self.priority
    }

    /// When it was handed out.
    #[must_use]
    pub const fn sent(&self) -> Nanos {
        self.sent
    }

    /// How many events it holds; at least 1.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Its events, in the order they must be sent.
    pub fn events(&self) -> impl ExactSizeIterator<Item = &T> {
        self.entries.iter().map(|entry| &entry.payload)
    }

    pub(crate) fn events_mut(&mut self) -> impl ExactSizeIterator<Item = &mut T> {
        self.entries.iter_mut().map(|entry| &mut entry.payload)
    }
}

/// What the sink said of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged.
    Delivered,
    /// Certainly not written; to be tried again.
    NotSent,
    /// Not to be tried again: [`Reason::SinkRefused`], [`Reason::OutcomeUnknown`], or
    /// [`Reason::SinkAway`] if the sink works, but has no place for this event now.
    Refused(Reason),
}

/// An event that left the manager with its batch.
#[derive(Debug)]
pub struct Settled<T> {
    /// The event.
    pub payload: T,
    /// Its place in the batch; `None` for one that was still in its lane, and is given back since an
    /// earlier one of its key is.
    pub index: Option<usize>,
    /// Whether it was delivered.
    pub fate: Result<(), Refused>,
}

/// An event given back after waiting.
#[derive(Debug)]
pub struct GivenBack<T> {
    /// The event.
    pub payload: T,
    /// Why.
    pub refused: Refused,
}

/// A batch on its way.
#[derive(Debug)]
struct Flight {
    id: BatchId,
    lane: usize,
    events: usize,
    bytes: usize,
    sent: Nanos,
    permit: Permit,
    /// Its time was over, and it counted as a failure then.
    hung: bool,
}

#[derive(Debug)]
struct LaneState<T> {
    lane: Lane<T>,
    in_flight_batches: usize,
    in_flight_events: usize,
    in_flight_bytes: usize,
    /// No batch before this moment, since events of the last one failed.
    hold_until: Nanos,
    queue_time: Histogram,
    total_time: Histogram,
}

/// Indices of the lanes in [`Priority::ALL`].
const URGENT: usize = 0;
const LANES: usize = 4;
/// Backoff grows to so many times its first value.
const BACKOFF_FACTOR_MAX: u64 = 10;

/// The pure core. `T` is whatever the caller wants back: the event and who waits for it.
#[derive(Debug)]
pub struct TrafficManager<T> {
    config: TrafficConfig,
    lanes: [LaneState<T>; LANES],
    shares: Shares,
    limiter: Option<RateLimiter>,
    breaker: CircuitBreaker,
    ledger: Ledger,
    flights: Vec<Flight>,
    /// Nothing got through since.
    away_since: Option<Nanos>,
    /// No batch before this moment, since the last one failed as a whole.
    hold_until: Nanos,
    backoff_ms: u64,
    stopping: bool,
    now: Nanos,
    seq_next: u64,
    batch_next: u64,
    delivered: RateMeter,
    batches_done: u64,
    batches_failed: u64,
    events_retried: u64,
}

impl<T> TrafficManager<T> {
    /// A manager with empty lanes.
    ///
    /// # Errors
    /// [`TrafficError::Config`] if a value is out of its bounds.
    pub fn new(config: TrafficConfig) -> Result<Self, TrafficError> {
        config.validate()?;
        let lanes = std::array::from_fn(|_| LaneState {
            lane: Lane::new(config.buffer_size),
            in_flight_batches: 0,
            in_flight_events: 0,
            in_flight_bytes: 0,
            hold_until: Nanos(0),
            queue_time: Histogram::default(),
            total_time: Histogram::default(),
        });
        Ok(Self {
            lanes,
            shares: Shares::default(),
            limiter: rate_of(&config).map(RateLimiter::new),
            breaker: CircuitBreaker::new(breaker_of(&config)),
            ledger: Ledger::default(),
            flights: Vec::new(),
            away_since: None,
            hold_until: Nanos(0),
            backoff_ms: config.retry_backoff_ms,
            stopping: false,
            now: Nanos(0),
            seq_next: 0,
            batch_next: 0,
            delivered: RateMeter::default(),
            batches_done: 0,
            batches_failed: 0,
            events_retried: 0,
            config,
        })
    }

    /// Decides what happens to one event, without I/O, waiting or allocation.
    ///
    /// Being refused is an outcome, not an error: the event comes back with a reason and when to try
    /// again. `now` going backwards counts as standing still.
    ///
    /// Bounds count what is in the lane and what of it is in flight, so that a batch that fails always
    /// finds its place again.
    pub fn admit(&mut self, meta: Meta, payload: T, now: Nanos) -> Admission<T> {
        let now = self.advance(now);
        if let Some(reason) = self.refusal(&meta) {
            self.ledger.reject(meta.priority, reason);
            let refused = Refused::new(reason, self.retry_after_ms(meta.priority, now));
            debug_assert!(self.is_consistent());
            return Admission::Rejected { event: payload, refused };
        }
        let bytes = u32::try_from(meta.bytes).unwrap_or(u32::MAX);
        let entry = Entry::new(self.seq_next, meta.key, bytes, now, payload);
        self.seq_next += 1;
        self.ledger.queue(meta.priority);
        self.lanes[meta.priority.index()].lane.push(entry);
        debug_assert!(self.is_consistent());
        Admission::Queued
    }

    /// Accounts for an event its caller does not offer, since an earlier one of its key was refused.
    pub fn reject(&mut self, priority: Priority, reason: Reason) {
        self.ledger.reject(priority, reason);
    }

    fn refusal(&self, meta: &Meta) -> Option<Reason> {
        let state = &self.lanes[meta.priority.index()];
        let bytes_held = state.lane.bytes() + state.in_flight_bytes;
        if self.stopping {
            Some(Reason::ShuttingDown)
        } else if meta.bytes > self.config.buffer_bytes_max || u32::try_from(meta.bytes).is_err() {
            Some(Reason::EventTooLarge)
        } else if state.lane.len() + state.in_flight_events >= self.config.buffer_size {
            Some(Reason::LaneFull)
        } else if bytes_held + meta.bytes > self.config.buffer_bytes_max {
            Some(Reason::LaneBytesFull)
        } else if self.drain_ns(meta.priority) > self.config.wait_max_ms.saturating_mul(NS_PER_MS) {
            Some(Reason::WaitTooLong)
        } else {
            None
        }
    }

    /// How long a lane takes at the configured rate to send what waits in it. Lanes that have waited
    /// for two aging intervals share the rate equally ([`crate::share`]), and none waits behind more
    /// than all of them hold. 0 without a rate: then nobody knows.
    fn drain_ns(&self, priority: Priority) -> u64 {
        let Some(limiter) = self.limiter.as_ref().filter(|_| priority.index() != URGENT) else {
            return 0;
        };
        let queued = |lane: usize| self.lanes[lane].lane.len() as u128;
        let shared = || (URGENT + 1..LANES).map(queued);
        let others = (URGENT + 1..LANES)
            .filter(|lane| *lane != priority.index() && queued(*lane) > 0)
            .count();
        let ahead = (queued(priority.index()) * (others as u128 + 1)).min(shared().sum());
        let Rate { events, window_ns, .. } = limiter.rate();
        u64::try_from(ahead * u128::from(window_ns) / u128::from(events)).unwrap_or(u64::MAX)
    }

    /// The next batch to send, if one is due. Call again until there is none.
    pub fn next_batch(&mut self, now: Nanos) -> Option<Batch<T>> {
        let now = self.advance(now);
        if now < self.hold_until || !self.breaker.allows(now) {
            return None;
        }
        // A lane whose events all wait for their keys gives nothing, and is not chosen again before a
        // batch comes back: so this ends.
        loop {
            let lane = self.choose(now)?;
            if let Some(batch) = self.take(lane, now) {
                debug_assert!(self.is_consistent());
                return Some(batch);
            }
        }
    }

    fn choose(&mut self, now: Nanos) -> Option<usize> {
        if self.due(URGENT).is_some_and(|due| due <= now) {
            return Some(URGENT);
        }
        let (need, oldest) = self.shared_need(now);
        if self.limiter.as_ref().is_some_and(|limiter| limiter.available(now) < need) {
            return None;
        }
        let shared = self.shares.choose(oldest, self.config.aging_interval_ms, now)?;
        Some(shared + 1)
    }

    /// Which of the shared lanes are due, and how many cells the limiter should have before one sends.
    ///
    /// The need is counted over all of them: if each lane asked for its own, one that trickles would
    /// take every cell as it comes, and one that waits for a batch's worth would never get it.
    fn shared_need(&self, now: Nanos) -> (u64, [Option<Nanos>; SHARED_LANES]) {
        let mut ready = 0;
        let oldest = std::array::from_fn(|shared| {
            let lane = shared + 1;
            self.due(lane).filter(|due| *due <= now)?;
            ready += self.lanes[lane].lane.ready_len();
            self.lanes[lane].lane.ready_since()
        });
        let need = u64::try_from(ready.min(self.config.batch_size)).unwrap_or(u64::MAX);
        let burst = self.limiter.as_ref().map_or(u64::MAX, |limiter| limiter.rate().burst);
        (need.min(burst), oldest)
    }

    /// When this lane should send, as far as it goes by itself; `None` if it has nothing to send or no
    /// room in its window.
    fn due(&self, lane: usize) -> Option<Nanos> {
        let state = &self.lanes[lane];
        let oldest = state.lane.ready_since()?;
        let shared = || self.lanes[1..].iter().map(|state| state.in_flight_batches).sum();
        let window_used = if lane == URGENT { state.in_flight_batches } else { shared() };
        if window_used >= self.config.in_flight_max {
            return None;
        }
        if lane == URGENT || self.stopping {
            return Some(oldest.max(state.hold_until));
        }
        let batcher = Batcher {
            events_max: self.config.batch_size,
            bytes_max: self.config.batch_bytes_max,
            linger_ms_max: self.config.flush_interval_ms,
        };
        let due = batcher.due(&Gathered {
            events: state.lane.ready_len(),
            bytes: state.lane.bytes(),
            oldest,
            in_flight: state.in_flight_batches,
        });
        Some(due.max(state.hold_until))
    }

    fn take(&mut self, lane: usize, now: Nanos) -> Option<Batch<T>> {
        let limiter = self.limiter.as_mut().filter(|_| lane != URGENT);
        let cells = limiter.as_ref().map_or(u64::MAX, |limiter| limiter.available(now));
        let events = self.config.batch_size.min(usize::try_from(cells).unwrap_or(usize::MAX));
        let aside_max = self.config.batch_size * self.config.in_flight_max;
        let limit = BatchLimit { events, bytes: self.config.batch_bytes_max, aside_max };
        let id = BatchId(self.batch_next);
        let state = &mut self.lanes[lane];
        let mut entries = Vec::with_capacity(events.min(state.lane.ready_len()));
        state.lane.fill(id, limit, &mut entries);
        if entries.is_empty() {
            return None;
        }
        let Some(permit) = self.breaker.try_acquire(now) else {
            debug_assert!(false, "the breaker was asked before");
            state.lane.release(id, entries.iter().map(|entry| entry.key));
            state.lane.give_back(entries, now);
            return None;
        };
        let count = u64::try_from(entries.len()).unwrap_or(u64::MAX);
        if let Some(limiter) = limiter {
            let passed = limiter.try_take(count, now);
            debug_assert!(passed, "no more than the limiter had");
        }
        let bytes = entries.iter().map(|entry| entry.bytes as usize).sum();
        for entry in &entries {
            state.queue_time.record(now.since_ns(entry.admitted), now);
        }
        state.in_flight_batches += 1;
        state.in_flight_events += entries.len();
        state.in_flight_bytes += bytes;
        if lane != URGENT {
            self.shares.charge(lane - 1, entries.len(), bytes);
        }
        let priority = Priority::ALL[lane];
        self.batch_next += 1;
        self.ledger.send(priority, count);
        let flight =
            Flight { id, lane, events: entries.len(), bytes, sent: now, permit, hung: false };
        self.flights.push(flight);
        Some(Batch { id, priority, sent: now, entries })
    }

    /// Takes a batch back with what the sink said of each of its events; an event it said nothing of
    /// has an unknown outcome. Returns the events that are done with; the others are in their lane
    /// again.
    pub fn on_batch_done(
        &mut self,
        batch: Batch<T>,
        outcomes: &[Outcome],
        now: Nanos,
    ) -> Vec<Settled<T>> {
        let now = self.advance(now);
        let lane = batch.priority.index();
        let delivered = outcomes.iter().filter(|outcome| **outcome == Outcome::Delivered).count();
        self.land(&batch, outcomes, delivered, now);
        let retry_after_ms = self.retry_after_ms(batch.priority, now);
        let not_again = overtaken(&batch.entries, outcomes);
        let mut settled = Vec::with_capacity(batch.entries.len());
        let mut back = Vec::new();
        let mut broken = Broken::default();
        for (index, entry) in batch.entries.into_iter().enumerate() {
            let identity = entry.identity();
            let follows = identity.is_some_and(|identity| broken.contains(&identity));
            let outcome = match outcomes.get(index) {
                None => Outcome::Refused(Reason::OutcomeUnknown),
                Some(Outcome::NotSent) if follows || not_again.contains(&index) => {
                    Outcome::Refused(Reason::SinkAway)
                }
                Some(outcome) => *outcome,
            };
            let fate = match outcome {
                Outcome::Delivered => {
                    self.ledger.deliver(batch.priority);
                    let took = now.since_ns(entry.admitted);
                    self.lanes[lane].total_time.record(took, now);
                    Ok(())
                }
                Outcome::NotSent => {
                    self.ledger.give_back_to_lane(batch.priority);
                    back.push(entry.failed_at(now));
                    continue;
                }
                Outcome::Refused(reason) => {
                    self.ledger.refuse_in_flight(batch.priority, reason);
                    broken.extend(identity.filter(|_| reason.is_retriable()));
                    Err(Refused::new(reason, retry_after_ms))
                }
            };
            settled.push(Settled { payload: entry.payload, index: Some(index), fate });
        }
        self.delivered.add(u64::try_from(delivered).unwrap_or(u64::MAX), now);
        self.put_back(lane, back, now);
        for followed in self.give_back_followers(batch.priority, &broken, now) {
            let (payload, fate) = (followed.payload, Err(followed.refused));
            settled.push(Settled { payload, index: None, fate });
        }
        debug_assert!(self.is_consistent());
        settled
    }

    /// The callers of a batch on its way are told that its outcome is not known: gives back the events
    /// that wait behind them, as after a batch whose outcome is not known for good.
    pub fn on_batch_in_doubt(&mut self, batch: &Batch<T>, now: Nanos) -> Vec<GivenBack<T>> {
        let now = self.advance(now);
        let broken = batch.entries.iter().filter_map(Entry::identity).collect();
        self.give_back_followers(batch.priority, &broken, now)
    }

    fn give_back_followers(
        &mut self,
        priority: Priority,
        broken: &Broken,
        now: Nanos,
    ) -> Vec<GivenBack<T>> {
        if broken.is_empty() {
            return Vec::new();
        }
        let lane = priority.index();
        self.give_back_queued(Reason::SinkAway, now, |at, queue, out| {
            if at == lane {
                queue.take_followers(broken, out);
            }
        })
    }

    /// Closes the books of a flight: window, keys, breaker, absence, backoff.
    fn land(&mut self, batch: &Batch<T>, outcomes: &[Outcome], delivered: usize, now: Nanos) {
        let state = &mut self.lanes[batch.priority.index()];
        state.lane.release(batch.id, batch.entries.iter().map(|entry| entry.key));
        let Some(at) = self.flights.iter().position(|flight| flight.id == batch.id) else {
            debug_assert!(false, "a batch is handed out and reported once");
            return;
        };
        let flight = self.flights.swap_remove(at);
        state.in_flight_batches -= 1;
        state.in_flight_events -= flight.events;
        state.in_flight_bytes -= flight.bytes;
        // An event the sink refused shows that the sink works.
        let answered = outcomes.len() >= batch.entries.len()
            && outcomes.iter().all(|outcome| match outcome {
                Outcome::Delivered | Outcome::Refused(Reason::SinkRefused | Reason::SinkAway) => {
                    true
                }
                Outcome::NotSent | Outcome::Refused(_) => false,
            });
        let failed = delivered == 0 && !answered;
        self.batches_done += 1;
        self.batches_failed += u64::from(failed);
        if !flight.hung {
            self.breaker.on_result(flight.permit, !failed, now);
        }
        if failed {
            self.away_since.get_or_insert(now);
            self.hold_until = now.plus_ms(self.backoff_ms);
            let backoff_ms_max = self.config.retry_backoff_ms * BACKOFF_FACTOR_MAX;
            self.backoff_ms = (self.backoff_ms * 2).min(backoff_ms_max);
        } else if self.breaker.state() != BreakerState::Open {
            self.away_since = None;
            self.hold_until = now;
            self.backoff_ms = self.config.retry_backoff_ms;
        }
    }

    /// The sink could not get through so many times, though no batch has come back for it yet.
    pub fn on_attempts_failed(&mut self, count: u64, now: Nanos) {
        if count == 0 {
            return;
        }
        let now = self.advance(now);
        self.away_since.get_or_insert(now);
        self.breaker.on_attempts_failed(u32::try_from(count).unwrap_or(u32::MAX), now);
    }

    /// The sink got through again, or is known to be there again.
    pub fn on_attempt_succeeded(&mut self, now: Nanos) {
        let now = self.advance(now);
        self.away_since = None;
        self.hold_until = now;
        self.backoff_ms = self.config.retry_backoff_ms;
        self.breaker.on_attempt_succeeded(now);
    }

    fn put_back(&mut self, lane: usize, back: Vec<Entry<T>>, now: Nanos) {
        let Some(first_failed) = back.iter().filter_map(Entry::failed).min() else { return };
        self.events_retried += u64::try_from(back.len()).unwrap_or(u64::MAX);
        let state = &mut self.lanes[lane];
        state.hold_until = now.plus_ms(self.config.retry_backoff_ms);
        state.lane.give_back(back, first_failed.plus_ms(self.config.wait_max_ms));
    }

    /// Lets time pass: fails probes and batches that hang, and gives back the events that have waited
    /// too long for a sink that is away.
    pub fn expire(&mut self, now: Nanos) -> Vec<GivenBack<T>> {
        let now = self.advance(now);
        self.breaker.tick(now);
        for flight in &mut self.flights {
            if !flight.hung && flight.sent.plus_ms(self.config.send_timeout_ms) <= now {
                flight.hung = true;
                self.breaker.on_result(flight.permit, false, now);
                self.away_since.get_or_insert(now);
            }
        }
        let (away, wait_ms_max) = (self.away_since, self.config.wait_max_ms);
        self.give_back_queued(Reason::SinkAway, now, |_, lane, out| {
            lane.expire(now, away, wait_ms_max, out);
        })
    }

    fn give_back_queued(
        &mut self,
        reason: Reason,
        now: Nanos,
        mut remove: impl FnMut(usize, &mut Lane<T>, &mut Vec<Entry<T>>),
    ) -> Vec<GivenBack<T>> {
        let mut given_back = Vec::new();
        let mut out = Vec::new();
        for priority in Priority::ALL {
            remove(priority.index(), &mut self.lanes[priority.index()].lane, &mut out);
            let retry_after_ms = self.retry_after_ms(priority, now);
            for entry in out.drain(..) {
                self.ledger.refuse_queued(priority, reason);
                let refused = Refused::new(reason, retry_after_ms);
                given_back.push(GivenBack { payload: entry.payload, refused });
            }
        }
        debug_assert!(self.is_consistent());
        given_back
    }

    /// When to call [`next_batch`](Self::next_batch) and [`expire`](Self::expire), if nothing happens
    /// before. Not later than `now` if something is due.
    #[must_use]
    pub fn next_deadline(&self, now: Nanos) -> Option<Nanos> {
        let now = now.max(self.now);
        let mut first = None;
        for state in &self.lanes {
            let waited = state.lane.deadline(self.away_since, self.config.wait_max_ms);
            first = earliest(first, waited);
        }
        for flight in self.flights.iter().filter(|flight| !flight.hung) {
            first = earliest(first, Some(flight.sent.plus_ms(self.config.send_timeout_ms)));
        }
        if self.breaker.state() == BreakerState::HalfOpen {
            first = earliest(first, self.breaker.next_deadline());
        }
        earliest(first, self.next_send(now))
    }

    /// When the next batch is due.
    fn next_send(&self, now: Nanos) -> Option<Nanos> {
        let gate = match self.breaker.open_until() {
            Some(until) => until.max(self.hold_until),
            None if self.breaker.allows(now) => self.hold_until,
            None => return None,
        };
        let mut first = self.due(URGENT);
        for lane in URGENT + 1..LANES {
            let due = self.due(lane);
            // What is due already may wait for the limiter.
            first = earliest(first, due.filter(|due| self.limiter.is_none() || *due > now));
        }
        if let Some(limiter) = &self.limiter {
            let (need, _) = self.shared_need(now);
            first = earliest(first, (need > 0).then(|| limiter.when(need, now)));
        }
        first.map(|due| due.max(gate))
    }

    /// Takes no more events; what is in the lanes is sent without lingering.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Gives back everything that is still in a lane.
    pub fn give_back_all(&mut self, now: Nanos) -> Vec<GivenBack<T>> {
        let now = self.advance(now);
        self.give_back_queued(Reason::ShuttingDown, now, |_, lane, out| lane.drain(out))
    }

    /// Changes the limits. Nothing in a lane is lost: a lane that holds more than it now may only takes
    /// no more.
    ///
    /// # Errors
    /// [`TrafficError::Config`]; the old limits stay.
    pub fn set_config(&mut self, config: TrafficConfig, now: Nanos) -> Result<(), TrafficError> {
        config.validate()?;
        let now = self.advance(now);
        self.limiter = match (self.limiter.take(), rate_of(&config)) {
            (Some(mut limiter), Some(rate)) => {
                limiter.set_rate(rate, now);
                Some(limiter)
            }
            (None, Some(rate)) => Some(RateLimiter::new(rate)),
            (_, None) => None,
        };
        self.breaker.set_config(breaker_of(&config));
        self.backoff_ms = config.retry_backoff_ms;
        self.config = config;
        Ok(())
    }

    /// The limits in force.
    #[must_use]
    pub const fn config(&self) -> &TrafficConfig {
        &self.config
    }

    /// Where every event is.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Events in lanes.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.lanes.iter().map(|state| state.lane.len()).sum()
    }

    /// Batches on their way.
    #[must_use]
    pub fn batches_in_flight(&self) -> usize {
        self.flights.len()
    }

    /// The circuit breaker's state.
    #[must_use]
    pub const fn breaker_state(&self) -> BreakerState {
        self.breaker.state()
    }

    /// What the circuit breaker did since the last call, for the log.
    pub fn take_breaker_changes(&mut self) -> Vec<Transition> {
        self.breaker.take_changes()
    }

    /// A picture of it all.
    pub fn stats(&mut self, now: Nanos) -> TrafficStats {
        let now = self.advance(now);
        let total = self.ledger.total();
        let urgent = self.ledger.class(Priority::Urgent);
        let not_buffered = urgent.offered - urgent.rejected.total();
        let lanes = Priority::ALL.map(|priority| self.lane_stats(priority, now)).into();
        let (mut weighted_ms, mut count) = (0.0, 0);
        for state in &self.lanes {
            weighted_ms += state.total_time.mean_ms() * state.total_time.count() as f64;
            count += state.total_time.count();
        }
        TrafficStats {
            total_messages: total.offered,
            buffered_messages: total.offered - total.rejected.total() - not_buffered,
            dropped_messages: total.rejected.total()
                + total.refused.total()
                + total.dropped.total(),
            throughput_per_sec: self.delivered.per_second(now),
            current_queue_size: total.queued,
            avg_processing_time_ms: weighted_ms / count.max(1) as f64,
            ledger: self.ledger,
            lanes,
            breaker: BreakerStats {
                state: self.breaker.state(),
                consecutive_failures: self.breaker.failures(),
                opened: self.breaker.opened(),
                probes_hung: self.breaker.probes_hung(),
                retry_after_ms: self.breaker.open_until().map(|until| until.since_ms(now)),
            },
            sink: SinkStats {
                batches_in_flight: self.flights.len(),
                batches_done: self.batches_done,
                batches_failed: self.batches_failed,
                events_retried: self.events_retried,
                away_ms: self.away_since.map(|since| now.since_ms(since)),
                last_error: None,
            },
            dedup: None,
            limits: self.config.clone(),
        }
    }

    fn lane_stats(&mut self, priority: Priority, now: Nanos) -> LaneStats {
        let buffer_size = self.config.buffer_size;
        let state = &mut self.lanes[priority.index()];
        state.queue_time.rotate(now);
        state.total_time.rotate(now);
        let held = state.lane.len() + state.in_flight_events;
        LaneStats {
            lane: priority.name(),
            depth: u64::try_from(state.lane.len()).unwrap_or(u64::MAX),
            bytes: u64::try_from(state.lane.bytes()).unwrap_or(u64::MAX),
            used: held as f64 / buffer_size as f64,
            oldest_age_ms: state.lane.oldest().map(|admitted| now.since_ms(admitted)),
            in_flight: u64::try_from(state.in_flight_events).unwrap_or(u64::MAX),
            queue_p50_ms: state.queue_time.percentile_ms(50.0),
            queue_p99_ms: state.queue_time.percentile_ms(99.0),
            p50_ms: state.total_time.percentile_ms(50.0),
            p99_ms: state.total_time.percentile_ms(99.0),
            p999_ms: state.total_time.percentile_ms(99.9),
        }
    }

    /// When an event of this class might be taken: when the breaker lets the next batch through, or
    /// when a tenth of the lane has drained at the pace of the last seconds.
    fn retry_after_ms(&self, priority: Priority, now: Nanos) -> u64 {
        if let Some(until) = self.breaker.open_until() {
            return until.since_ms(now).max(1);
        }
        if self.away_since.is_some() {
            return self.backoff_ms;
        }
        let per_second = self.delivered.per_second(now);
        let tenth = self.lanes[priority.index()].lane.len() as f64 / 10.0;
        // Without a pace to go by, a second. A float past the range saturates.
        let ms = if per_second > 0.0 { (tenth * 1_000.0 / per_second) as u64 } else { 1_000 };
        ms.clamp(50, self.config.wait_max_ms.max(50))
    }

    fn advance(&mut self, now: Nanos) -> Nanos {
        self.now = self.now.max(now);
        self.now
    }

    /// Whether ledger, lanes and flights agree. Checked at every return in debug builds.
    fn is_consistent(&self) -> bool {
        let lanes_agree = Priority::ALL.into_iter().zip(&self.lanes).all(|(priority, state)| {
            let account = self.ledger.class(priority);
            let flights = || self.flights.iter().filter(|flight| flight.lane == priority.index());
            let events: usize = flights().map(|flight| flight.events).sum();
            account.queued == state.lane.len() as u64
                && account.in_flight == events as u64
                && events == state.in_flight_events
                && flights().count() == state.in_flight_batches
        });
        lanes_agree && self.ledger.balances()
    }
}

/// Events that were not sent although a later one of their key in the batch was, or may have been:
/// against the promise of a sink. Sending them now would change the order, so they are given back
/// instead.
fn overtaken<T>(entries: &[Entry<T>], outcomes: &[Outcome]) -> Vec<usize> {
    let is_written = |outcome: &Outcome| {
        matches!(outcome, Outcome::Delivered | Outcome::Refused(Reason::OutcomeUnknown))
    };
    let is_partial = outcomes.len() < entries.len();
    let mixed =
        outcomes.contains(&Outcome::NotSent) && (is_partial || outcomes.iter().any(is_written));
    if !mixed {
        return Vec::new();
    }
    let mut written_later = std::collections::HashSet::new();
    let mut overtaken = Vec::new();
    for (index, entry) in entries.iter().enumerate().rev() {
        // What the sink says nothing of has an unknown outcome.
        match (entry.key, outcomes.get(index)) {
            (Some(key), outcome) if outcome.is_none_or(is_written) => {
                written_later.insert(key);
            }
            (Some(key), Some(Outcome::NotSent)) if written_later.contains(&key) => {
                overtaken.push(index)
            }
            _ => {}
        }
    }
    overtaken
}

/// The limiter's rate: a burst is what a flush interval brings, so that a limiter that gathers for a
/// batch never waits longer than that; at least 1.
fn rate_of(config: &TrafficConfig) -> Option<Rate> {
    let events = config.max_rate?;
    let window_ms = config.rate_window_ms;
    let burst =
        u128::from(events) * u128::from(config.flush_interval_ms) / u128::from(window_ms.max(1));
    let burst = u64::try_from(burst).unwrap_or(u64::MAX).max(1);
    Some(Rate { events, window_ns: window_ms.saturating_mul(NS_PER_MS), burst })
}

fn breaker_of(config: &TrafficConfig) -> BreakerConfig {
    BreakerConfig {
        failures_max: config.max_failures,
        open_ms: config.circuit_timeout_ms,
        probes: config.half_open_successes,
        probe_ms_max: config.send_timeout_ms,
    }
}

#[cfg(test)]
mod tests;

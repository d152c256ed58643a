//! The shell: tasks, timers and callers around the pure core.
//!
//! There is no task between a caller and the sink: whoever admits an event or returns a batch takes the
//! next batches out of the core under the same lock and starts a task for each. One more task sleeps
//! until the core's next deadline.
//!
//! A caller that gives up (its future is dropped) changes nothing for its event: it is sent and
//! accounted for all the same.
//!
//! # Sending again what was refused
//! Within one call, no event of a key and class is taken after an earlier one was refused for now, and
//! when one that was taken is given back, later ones of its key and class that still wait are given
//! back with it. So a sender that sends what was refused again, in order, keeps its order. (An event
//! that counts as a repeat of one of *another* call shares its outcome, but does not hold up others.)
//!
//! # When the sink does not answer
//! After [`patience`] the callers of a batch are told [`Reason::OutcomeUnknown`], and their events stay
//! on their way: a repeat by id waits for the late answer and gets it. After twice that time more the
//! ids are forgotten. A sink that *answers* "unknown" will never know, and then the ids are forgotten
//! at once: a repeat may be written twice.

mod batch_log;
mod refusals;
mod waiter;

use std::collections::hash_map::{HashMap, RandomState};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{watch, Notify};
use tokio::time::{timeout, Instant};
use weir_client::Attempts;

use crate::circuit_breaker::{BreakerState, Transition};
use crate::config::TrafficConfig;
use crate::dedup::{DedupConfig, DedupSecret, DedupWindow, IdKey, Seen};
use crate::error::{Reason, Refused, TrafficError};
use crate::event::Outgoing;
use crate::lane::Identity;
use crate::ledger::Ledger;
use crate::manager::{Admission, Batch, Meta, Outcome, TrafficManager};
use crate::sequence::Sequence;
use crate::sink::{Accepted, Sink, SinkError};
use crate::stats::TrafficStats;
use crate::time::{earliest, Nanos};

use self::batch_log::BatchLog;
use self::refusals::Refusals;
use self::waiter::{Group, Waiter};

/// The answer to one event.
pub type Answer = Result<Accepted, Refused>;

/// An event in the core, with who waits for it.
#[derive(Debug)]
struct Pending {
    event: Outgoing,
    waiter: Waiter,
    id: Option<IdKey>,
}

#[derive(Debug)]
struct Core {
    manager: TrafficManager<Pending>,
    sequence: Sequence,
    log: BatchLog,
    /// Why the sink could not be reached the last time, while it cannot.
    last_error: Option<Arc<str>>,
}

/// The ids of one call that are on their way, each with the first event that has it.
type OwnIds = HashMap<IdKey, u32, BuildHasherDefault<Identity>>;

type Launch = Box<dyn Fn(Arc<Shared>, Batch<Pending>) + Send + Sync>;

struct Shared {
    core: Mutex<Core>,
    dedup: Mutex<DedupWindow<Waiter>>,
    /// Starts a task that sends a batch; it knows the sink's type, so that the handle need not.
    launch: Launch,
    /// Asks the sink for what has not left yet.
    recall: Box<dyn Fn() + Send + Sync>,
    key_hash: RandomState,
    origin: Instant,
    /// When the timer wakes up, as [`Nanos`].
    armed: AtomicU64,
    timer: Arc<Notify>,
    /// Told whenever nothing is queued or in flight.
    idle: Notify,
}

/// What has to happen after the lock is free again.
#[derive(Debug, Default)]
struct Effects {
    batches: Vec<Batch<Pending>>,
    answers: Vec<(Pending, Answer)>,
    changes: Vec<Transition>,
    deadline: Option<Nanos>,
    idle: bool,
}

/// A running traffic manager. Clones are the same one. Call [`TrafficHandle::shutdown`] at the end.
#[derive(Clone)]
pub struct TrafficHandle {
    shared: Arc<Shared>,
}

/// What a shutdown left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Where every event is: nothing is queued any more.
    pub ledger: Ledger,
    /// Events given back to their callers, since the deadline came first.
    pub given_back: u64,
    /// Events whose outcome was not known at the deadline; their callers hear it if it still comes.
    pub in_flight: u64,
}

impl TrafficHandle {
    /// Starts a traffic manager. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`TrafficError::Config`] if a value is out of its bounds.
    pub fn start<S: Sink>(config: TrafficConfig, sink: S) -> Result<Self, TrafficError> {
        Self::start_with(config, DedupConfig::default(), sink)
    }

    /// As [`TrafficHandle::start`], with this window of event ids.
    ///
    /// # Errors
    /// As there.
    pub fn start_with<S: Sink>(
        config: TrafficConfig,
        dedup: DedupConfig,
        sink: S,
    ) -> Result<Self, TrafficError> {
        let manager = TrafficManager::new(config)?;
        log_started(manager.config());
        let key_hash = RandomState::new();
        let secret = DedupSecret([1_u64, 2].map(|half| key_hash.hash_one(half)));
        let timer = Arc::new(Notify::new());
        let sink = Arc::new(sink);
        let attempts = sink.attempts();
        let recalled = Arc::clone(&sink);
        let shared = Arc::new(Shared {
            core: Mutex::new(Core {
                manager,
                sequence: Sequence::default(),
                log: BatchLog::default(),
                last_error: None,
            }),
            dedup: Mutex::new(DedupWindow::new(dedup, secret)),
            launch: launcher(sink, Handle::current()),
            recall: Box::new(move || recalled.recall()),
            key_hash,
            origin: Instant::now(),
            armed: AtomicU64::new(u64::MAX),
            timer: Arc::clone(&timer),
            idle: Notify::new(),
        });
        tokio::spawn(keep_time(Arc::downgrade(&shared), timer, shared.origin));
        if let Some(attempts) = attempts {
            tokio::spawn(follow_attempts(Arc::downgrade(&shared), attempts));
        }
        Ok(Self { shared })
    }

    /// Hands an event in and waits until the sink has acknowledged it.
    ///
    /// # Errors
    /// [`Refused`]: it was not accepted, with the reason and when to try again.
    pub async fn publish(&self, event: Outgoing) -> Answer {
        let mut answers = self.publish_many(vec![event]).await;
        answers.pop().unwrap_or_else(|| Err(Refused::new(Reason::OutcomeUnknown, 0)))
    }

    /// As [`publish`](Self::publish) for many events at once, in this order; one answer for each.
    ///
    /// When one is refused for now, later ones of its key and class are refused with it unless they
    /// are written already: sending the refused ones again, in order, keeps the order.
    pub async fn publish_many(&self, events: Vec<Outgoing>) -> Vec<Answer> {
        let group = Group::new(events.len());
        self.shared.offer(events, &group);
        group.answers().await
    }

    /// A picture of everything.
    #[must_use]
    pub fn stats(&self) -> TrafficStats {
        let now = self.shared.now();
        let mut stats = self.shared.core().manager.stats(now);
        stats.dedup = Some(self.shared.dedup().stats());
        stats.sink.last_error = self.shared.core().last_error.as_deref().map(str::to_owned);
        stats
    }

    /// The sink, known to be away, is there again: the circuit breaker need not wait out its time.
    pub fn sink_is_back(&self) {
        let shared = &self.shared;
        shared.core().manager.on_attempt_succeeded(shared.now());
        shared.turn();
    }

    /// Where every event is.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        *self.shared.core().manager.ledger()
    }

    /// The limits in force.
    #[must_use]
    pub fn config(&self) -> TrafficConfig {
        self.shared.core().manager.config().clone()
    }

    /// Changes the limits while running. Nothing that waits is lost.
    ///
    /// # Errors
    /// [`TrafficError::Config`]; the old limits stay.
    pub fn reload(&self, config: TrafficConfig) -> Result<(), TrafficError> {
        let now = self.shared.now();
        self.shared.core().manager.set_config(config, now)?;
        tracing::info!(target: "weir_traffic", "Traffic manager reloaded");
        self.shared.turn();
        Ok(())
    }

    /// Takes no more events, sends what it has, and gives back what is still waiting at the deadline.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        self.shared.core().manager.stop();
        self.shared.turn();
        let _ = tokio::time::timeout(deadline, self.shared.until_idle()).await;
        let (effects, ledger) = {
            let now = self.shared.now();
            let mut core = self.shared.core();
            let given_back = core.manager.give_back_all(now);
            let answers = given_back.into_iter().map(|event| (event.payload, Err(event.refused)));
            let effects = Effects { answers: answers.collect(), ..Effects::default() };
            core.log.write(now, true);
            (effects, *core.manager.ledger())
        };
        let given_back = u64::try_from(effects.answers.len()).unwrap_or(u64::MAX);
        self.shared.carry_out(effects);
        let total = ledger.total();
        tracing::info!(
            target: "weir_traffic",
            offered = total.offered,
            delivered = total.delivered,
            refused = total.rejected.total() + total.refused.total(),
            in_flight = total.in_flight,
            given_back,
            "Traffic manager stopped"
        );
        ShutdownReport { ledger, given_back, in_flight: total.in_flight }
    }
}

impl std::fmt::Debug for TrafficHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrafficHandle")
            .field("ledger", &self.ledger().total())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn now(&self) -> Nanos {
        Nanos(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    // A panic under a lock cannot leave the core half changed in a way its own checks would not see, and
    // stopping every other caller would turn one fault into many.
    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dedup(&self) -> MutexGuard<'_, DedupWindow<Waiter>> {
        self.dedup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn offer(self: &Arc<Self>, events: Vec<Outgoing>, group: &Arc<Group>) {
        let now = self.now();
        let mut refusals = Refusals::default();
        let fresh = self.without_repeats(events, group, &mut refusals, now);
        let mut effects = Effects::default();
        {
            let mut core = self.core();
            for mut pending in fresh {
                let meta = self.meta(&pending.event);
                let index = pending.waiter.index();
                if let Some(refused) = refusals.before(&meta, index) {
                    core.manager.reject(meta.priority, refused.reason);
                    effects.answers.push((pending, Err(refused)));
                    continue;
                }
                let seq = core.sequence.next(pending.event.timestamp_ms);
                pending.event.seq = seq;
                if let Admission::Rejected { event, refused } =
                    core.manager.admit(meta, pending, now)
                {
                    refusals.note(&meta, index, &refused);
                    effects.answers.push((event, Err(refused)));
                }
            }
            core.pull(now, &mut effects);
        }
        self.carry_out(effects);
    }

    /// Answers the events whose id was accepted before, and lets those wait whose id is on its way.
    fn without_repeats(
        &self,
        events: Vec<Outgoing>,
        group: &Arc<Group>,
        refusals: &mut Refusals,
        now: Nanos,
    ) -> Vec<Pending> {
        let mut fresh = Vec::with_capacity(events.len());
        let mut dedup = None;
        // A call of one event has no repeats of its own.
        let mut own = (events.len() > 1).then(OwnIds::default);
        for (index, mut event) in events.into_iter().enumerate() {
            let waiter = || Waiter::new(Arc::clone(group), index);
            let Some(id) = event.id.take() else {
                fresh.push(Pending { event, waiter: waiter(), id: None });
                continue;
            };
            let window = dedup.get_or_insert_with(|| self.dedup());
            let key = window.key(&id);
            // A repeat within the call waits with the first of its id, and takes no waiter of the window:
            // a call has as many as it likes, and none of them is refused.
            if let Some(first) = own.as_ref().and_then(|own| own.get(&key)) {
                group.repeat(*first, index);
                window.count_repeat();
                continue;
            }
            let seen = window.begin(key, waiter, now);
            if let (Some(own), Seen::New | Seen::Pending) = (&mut own, seen) {
                own.insert(key, u32::try_from(index).unwrap_or(u32::MAX));
            }
            match seen {
                Seen::New => fresh.push(Pending { event, waiter: waiter(), id: Some(key) }),
                Seen::Pending => {}
                Seen::Duplicate(place) => {
                    waiter().settle(Ok(Accepted { duplicate: true, ..place }))
                }
                Seen::Busy => {
                    let refused = Refused::new(Reason::TooManyRepeats, 1_000);
                    let waiter = waiter();
                    refusals.note(&self.meta(&event), waiter.index(), &refused);
                    waiter.settle(Err(refused));
                }
            }
        }
        fresh
    }

    fn meta(&self, event: &Outgoing) -> Meta {
        let key = event.key().map(|key| {
            let mut hasher = self.key_hash.build_hasher();
            hasher.write(event.topic.as_bytes());
            // No topic contains this byte, so topic and key cannot be split in another way.
            hasher.write_u8(0xff);
            hasher.write(key);
            hasher.finish()
        });
        Meta { priority: event.priority, bytes: event.size_bytes(), key }
    }

    /// A batch is not answered: tells its callers, and whoever waits for a repeat.
    fn in_doubt(self: &Arc<Self>, batch: &Batch<Pending>) {
        let unknown = || {
            Err(Refused::new(Reason::OutcomeUnknown, 1_000).with_detail(Some(
                "it is still on its way: a repeat with the same id waits for its outcome"
                    .to_owned(),
            )))
        };
        for pending in batch.events() {
            let repeats = pending.id.map(|id| self.dedup().doubt(id));
            repeats.into_iter().flatten().for_each(|waiter| waiter.settle(unknown()));
            pending.waiter.settle_early(unknown());
        }
        let mut effects = Effects::default();
        {
            let now = self.now();
            let mut core = self.core();
            for event in core.manager.on_batch_in_doubt(batch, now) {
                effects.answers.push((event.payload, Err(event.refused)));
            }
            core.pull(now, &mut effects);
        }
        self.carry_out(effects);
    }

    /// A batch in doubt is still not answered: its ids are new again.
    fn give_up(&self, batch: &Batch<Pending>) {
        for id in batch.events().filter_map(|pending| pending.id) {
            let waiters = self.dedup().forget(id);
            let unknown = || Err(Refused::new(Reason::OutcomeUnknown, 1_000));
            waiters.into_iter().for_each(|waiter| waiter.settle(unknown()));
        }
    }

    /// A batch came back.
    fn finish(self: &Arc<Self>, batch: Batch<Pending>, results: Vec<Result<Accepted, SinkError>>) {
        let outcomes: Vec<Outcome> = results
            .iter()
            .map(|result| result.as_ref().map_or_else(SinkError::outcome, |_| Outcome::Delivered))
            .collect();
        let mut results: Vec<Option<Result<Accepted, SinkError>>> =
            results.into_iter().map(Some).collect();
        let mut effects = Effects::default();
        {
            let now = self.now();
            let mut core = self.core();
            core.log.add(&batch, &outcomes, now);
            core.log.write(now, false);
            for settled in core.manager.on_batch_done(batch, &outcomes, now) {
                let said = settled.index.and_then(|index| results.get_mut(index)?.take());
                let answer = match (settled.fate, said) {
                    (Ok(()), Some(Ok(accepted))) => Ok(accepted),
                    (Err(refused), Some(Err(error))) => {
                        Err(refused.with_detail(Some(error.into_text())))
                    }
                    (Err(refused), _) => Err(refused),
                    // The fate is made from what the sink said.
                    (Ok(()), _) => Err(Refused::new(Reason::OutcomeUnknown, 0)),
                };
                effects.answers.push((settled.payload, answer));
            }
            core.pull(now, &mut effects);
        }
        self.carry_out(effects);
    }

    /// Lets time pass.
    fn turn(self: &Arc<Self>) -> Option<Nanos> {
        let mut effects = Effects::default();
        {
            let now = self.now();
            let mut core = self.core();
            let expired = core.manager.expire(now);
            let detail = core.absence();
            effects.answers.extend(
                expired
                    .into_iter()
                    .map(|event| (event.payload, Err(event.refused.with_detail(detail.clone())))),
            );
            core.log.write(now, false);
            core.pull(now, &mut effects);
        }
        let deadline = effects.deadline;
        self.carry_out(effects);
        deadline
    }

    fn carry_out(self: &Arc<Self>, effects: Effects) {
        for change in &effects.changes {
            log_breaker(change);
        }
        if effects.changes.iter().any(|change| change.to == BreakerState::Open) {
            (self.recall)();
        }
        for (pending, answer) in effects.answers {
            self.answer(pending, answer);
        }
        for batch in effects.batches {
            (self.launch)(Arc::clone(self), batch);
        }
        if effects.idle {
            self.idle.notify_waiters();
        }
        if let Some(deadline) = effects.deadline {
            if deadline.get() < self.armed.load(Ordering::Acquire) {
                self.timer.notify_one();
            }
        }
    }

    /// Tells the caller, and those that wait for a repeat of the same id.
    fn answer(&self, pending: Pending, answer: Answer) {
        let waiters = pending.id.map(|id| match &answer {
            Ok(accepted) => self.dedup().accept(id, *accepted, self.now()),
            Err(_) => self.dedup().forget(id),
        });
        for waiter in waiters.into_iter().flatten() {
            let repeated = answer.clone().map(|place| Accepted { duplicate: true, ..place });
            waiter.settle(repeated);
        }
        pending.waiter.settle(answer);
    }

    async fn until_idle(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            // Enabled before the look, so that what happens in between is not missed.
            idle.as_mut().enable();
            if self.core().is_idle() {
                return;
            }
            idle.await;
        }
    }
}

/// The timer holds no strong reference: it ends when the last handle and the last batch are gone.
impl Drop for Shared {
    fn drop(&mut self) {
        self.timer.notify_one();
    }
}

impl Core {
    fn pull(&mut self, now: Nanos, effects: &mut Effects) {
        while let Some(batch) = self.manager.next_batch(now) {
            effects.batches.push(batch);
        }
        effects.changes = self.manager.take_breaker_changes();
        effects.deadline = earliest(self.manager.next_deadline(now), self.log.next_deadline());
        effects.idle = self.is_idle();
    }

    /// What is known of a sink that is away, for those whose wait for it is over.
    fn absence(&self) -> Option<String> {
        let open = self.manager.breaker_state() == BreakerState::Open;
        let breaker = open.then_some("the circuit breaker is open");
        let said: Vec<&str> = breaker.into_iter().chain(self.last_error.as_deref()).collect();
        (!said.is_empty()).then(|| said.join("; "))
    }

    fn is_idle(&self) -> bool {
        self.manager.queued() == 0 && self.manager.batches_in_flight() == 0
    }
}

async fn keep_time(shared: Weak<Shared>, timer: Arc<Notify>, origin: Instant) {
    loop {
        let deadline = {
            let Some(shared) = shared.upgrade() else { return };
            let deadline = shared.turn();
            shared.armed.store(deadline.map_or(u64::MAX, Nanos::get), Ordering::Release);
            // Between the turn and the line above a caller may have brought a nearer deadline and seen
            // the old one armed: look again now that the new one is there.
            let now = shared.now();
            let core = shared.core();
            let again = earliest(core.manager.next_deadline(now), core.log.next_deadline());
            earliest(deadline, again)
        };
        let sleep = async {
            match deadline {
                // At least one step of the clock, so that a deadline the core cannot act on (it has
                // none, by its tests) would cost time and not the whole processor.
                Some(at) => {
                    let wake = origin + Duration::from_nanos(at.get());
                    tokio::time::sleep_until(wake.max(Instant::now() + Duration::from_micros(50)))
                        .await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleep => {}
            () = timer.notified() => {}
        }
    }
}

/// Tells the core of attempts until the manager or the sink is gone.
async fn follow_attempts(shared: Weak<Shared>, mut attempts: watch::Receiver<Attempts>) {
    let mut failed = 0;
    loop {
        let news = attempts.borrow_and_update().clone();
        {
            let Some(shared) = shared.upgrade() else { return };
            let now = shared.now();
            let mut core = shared.core();
            if news.failed_in_row > 0 {
                // Not more than in a row: a success in between may have been missed.
                let new = (news.failed - failed).min(news.failed_in_row);
                core.manager.on_attempts_failed(new, now);
            } else if news.failed > 0 {
                core.manager.on_attempt_succeeded(now);
            }
            core.last_error = news.last_error;
            drop(core);
            shared.turn();
        }
        failed = news.failed;
        if attempts.changed().await.is_err() {
            return;
        }
    }
}

fn launcher<S: Sink>(sink: Arc<S>, runtime: Handle) -> Launch {
    Box::new(move |shared, batch| {
        let sink = Arc::clone(&sink);
        runtime.spawn(async move {
            let mut flight = Flight { shared, batch: Some(batch), given_up: false };
            let Some(batch) = &flight.batch else { return };
            let results = {
                let patience = patience(flight.shared.core().manager.config());
                let events: Vec<&Outgoing> = batch.events().map(|pending| &pending.event).collect();
                let send = sink.send(&events);
                tokio::pin!(send);
                if let Ok(results) = timeout(patience, send.as_mut()).await {
                    results
                } else {
                    flight.shared.in_doubt(batch);
                    if let Ok(results) = timeout(2 * patience, send.as_mut()).await {
                        results
                    } else {
                        flight.shared.give_up(batch);
                        flight.given_up = true;
                        send.await
                    }
                }
            };
            flight.land(results);
        });
    })
}

/// How long callers wait for the answer of the sink: longer than a sink that bounds its own tries by
/// `wait_max`, as [`crate::ProducerSink`] should, so that in general the sink says it.
fn patience(config: &TrafficConfig) -> Duration {
    Duration::from_millis(config.wait_max_ms.saturating_add(config.send_timeout_ms))
}

/// A batch on its way. If its task ends without an answer (the sink panicked, the runtime stops), its
/// events have an unknown outcome; they are not lost from the ledger.
struct Flight {
    shared: Arc<Shared>,
    batch: Option<Batch<Pending>>,
    /// Its ids are forgotten: repeats may be on their way.
    given_up: bool,
}

impl Flight {
    fn land(&mut self, mut results: Vec<Result<Accepted, SinkError>>) {
        if let Some(mut batch) = self.batch.take() {
            if self.given_up {
                forget_failed(&mut batch, &mut results);
            }
            self.shared.finish(batch, results);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.land(Vec::new());
    }
}

/// Of a batch that was given up, only what was delivered still counts: nothing is tried again, and an
/// id is not forgotten a second time, since it may be a repeat's now.
fn forget_failed(batch: &mut Batch<Pending>, results: &mut Vec<Result<Accepted, SinkError>>) {
    let unknown = || Err(SinkError::Unknown("no answer in time".to_owned()));
    results.resize_with(batch.len(), unknown);
    for (pending, result) in batch.events_mut().zip(results) {
        if let Err(error) = result {
            pending.id = None;
            *error = SinkError::Unknown(
                std::mem::replace(error, SinkError::Unknown(String::new())).into_text(),
            );
        }
    }
}

fn log_started(config: &TrafficConfig) {
    tracing::info!(
        target: "weir_traffic",
        buffer_size = config.buffer_size,
        batch_size = config.batch_size,
        flush_interval_ms = config.flush_interval_ms,
        max_rate = config.max_rate,
        wait_max_ms = config.wait_max_ms,
        "Traffic manager started"
    );
}

fn log_breaker(change: &Transition) {
    match change.to {
        BreakerState::Open => tracing::warn!(
            target: "weir_traffic",
            failures = change.failures,
            "Circuit breaker opened"
        ),
        BreakerState::HalfOpen => {
            tracing::info!(target: "weir_traffic", "Circuit breaker half-open")
        }
        BreakerState::Closed => tracing::info!(target: "weir_traffic", "Circuit breaker closed"),
    }
}

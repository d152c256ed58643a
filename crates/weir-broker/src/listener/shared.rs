//! [`Shared`]: the core behind its mutex, and who waits for its answers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, Notify, Semaphore};
use weir_log::{Upkeep, UpkeepDone};
use weir_protocol::scram::{ScramCredential, ScramMechanism};
use weir_protocol::{Clock, ErrorCode, PartitionId, TimestampMs};

use super::file_limit;
use super::jump::JumpWatch;
use super::memory::{AnswerMemory, RequestMemory};
use super::pace::{Pacer, Rates, Turn};
use super::registry::{Activity, Registry};
use super::repeats::Repeats;
use super::users::ConfiguredUsers;
use crate::admin::{CleanRefused, CleanRequest};
use crate::broker::{Broker, CommitDone, PendingCommit};
use crate::config::BrokerConfig;
use crate::dynamic_configs::ConnectionLimits;
use crate::effects::{CommitNeed, ConnId, Connection, Reply, Ticket};
use crate::error::BrokerError;
use crate::forced_clean::{AskedClean, CleanProgress};
use crate::request::{RequestFrame, Response};
use crate::stats::BrokerStats;

/// Bytes that one permit of memory stands for.
pub(super) const PERMIT_BYTES: usize = 1 << 10;

/// Files that are read at once for large answers, each on a thread of its own.
const FILE_READS_MAX: usize = 16;

/// Batches that are inflated at once to look for keys: as many as take a small machine's processors.
const INFLATES_MAX: usize = 2;

/// Connections that came too fast and are not closed yet.
const HELD_BACK_MAX: usize = 256;

/// What becomes of a request, for its connection.
#[derive(Debug)]
pub(super) enum Answer {
    /// Here it is.
    Ready(Box<Response>),
    /// It will come.
    Waiting(oneshot::Receiver<Response>),
    /// There is none.
    None,
    /// There is none, and the connection is to be closed.
    Close,
    /// The request comes again when somebody has looked inside its batches.
    LookInside,
}

#[derive(Debug)]
struct Core {
    /// Gone once the broker is closed.
    broker: Option<Broker>,
    waiting: HashMap<Ticket, oneshot::Sender<Response>>,
    jumps: JumpWatch,
}

#[derive(Debug)]
struct CommitSignal {
    need: CommitNeed,
    stop: bool,
}

/// Tells the upkeep thread to end.
#[derive(Debug, Default)]
struct UpkeepSignal {
    stop: Mutex<bool>,
    changed: Condvar,
}

/// What all tasks share.
#[derive(Debug)]
pub(super) struct Shared {
    core: Mutex<Core>,
    commit_signal: Mutex<CommitSignal>,
    commit_wanted: Condvar,
    upkeep_signal: UpkeepSignal,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) config: BrokerConfig,
    /// When the timer wakes next.
    timer_at: AtomicI64,
    /// Tells the timer that it must wake earlier.
    pub(super) earlier_deadline: Notify,
    pub(super) request_memory: Arc<RequestMemory>,
    pub(super) answer_memory: Arc<AnswerMemory>,
    /// Turns to read files on threads that may wait: a disk is not faster with more of them.
    pub(super) file_reads: Arc<Semaphore>,
    /// Turns to inflate what was produced to compacted topics. Each may take `inflate_bytes_max` of memory.
    pub(super) inflates: Arc<Semaphore>,
    pub(super) registry: Registry,
    pacer: Mutex<Pacer>,
    /// Places for connections that came too fast, until they are closed.
    pub(super) held_back: Arc<Semaphore>,
    /// Users of the configuration.
    pub(super) users: ConfiguredUsers,
    repeats: Mutex<Repeats>,
    started: Instant,
    next_connection: AtomicU64,
}

impl Shared {
    pub(super) fn new(broker: Broker, config: BrokerConfig, clock: Arc<dyn Clock>) -> Self {
        let request_memory = Arc::new(RequestMemory::new(&config));
        let answer_memory = Arc::new(AnswerMemory::new(config.answer_bytes_waiting_total_max));
        let need = broker.commit_need();
        let jumps = JumpWatch::new(clock.now(), steady_now());
        let users = ConfiguredUsers::new(&config, &broker.scram_users);
        Self {
            core: Mutex::new(Core { broker: Some(broker), waiting: HashMap::new(), jumps }),
            commit_signal: Mutex::new(CommitSignal { need, stop: false }),
            commit_wanted: Condvar::new(),
            upkeep_signal: UpkeepSignal::default(),
            clock,
            config,
            timer_at: AtomicI64::new(i64::MAX),
            earlier_deadline: Notify::new(),
            request_memory,
            answer_memory,
            file_reads: Arc::new(Semaphore::new(FILE_READS_MAX)),
            inflates: Arc::new(Semaphore::new(INFLATES_MAX)),
            registry: Registry::default(),
            pacer: Mutex::default(),
            held_back: Arc::new(Semaphore::new(HELD_BACK_MAX)),
            users,
            repeats: Mutex::default(),
            started: steady_now(),
            next_connection: AtomicU64::new(1),
        }
    }

    pub(super) fn next_connection(&self) -> u64 {
        self.next_connection.fetch_add(1, Ordering::Relaxed)
    }

    /// Enters a connection for as long as the guard lives. `peer` is `None` for one that is no socket.
    pub(super) fn register(self: &Arc<Self>, id: ConnId, peer: Option<IpAddr>) -> Registered {
        let activity = self.registry.add(id, peer, self.steady_ms());
        Registered { shared: self.clone(), id, activity }
    }

    /// Milliseconds since the start, on a clock that nobody sets.
    pub(super) fn steady_ms(&self) -> u64 {
        let elapsed = steady_now().saturating_duration_since(self.started);
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether something is worth a line of its own in the log; else it is counted.
    pub(super) fn is_news(&self, reason: &'static str) -> bool {
        let mut repeats = self.repeats.lock().unwrap_or_else(PoisonError::into_inner);
        repeats.is_first(reason, self.steady_ms())
    }

    /// Writes what was counted.
    pub(super) fn log_repeats(&self) {
        let now_ms = self.steady_ms();
        let due = self.repeats.lock().unwrap_or_else(PoisonError::into_inner).take_due(now_ms);
        for (reason, more) in due {
            tracing::warn!(connections = more, reason, "the same happened to more connections");
        }
    }

    /// A panic under the lock leaves the core in a state nobody has thought of; but every one of its calls checks what it
    /// needs, and a broker that answers nobody would be worse.
    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a client has made of a user's password.
    pub(super) fn stored_credential(
        &self,
        mechanism: ScramMechanism,
        user: &str,
    ) -> Option<Arc<ScramCredential>> {
        self.lock().broker.as_ref()?.scram_users.get(mechanism, user)
    }

    /// The salt that belongs to a name.
    pub(super) fn salt(&self, mechanism: ScramMechanism, user: &str) -> Vec<u8> {
        let core = self.lock();
        core.broker
            .as_ref()
            .map(|broker| broker.scram_users.salt(mechanism, user))
            .unwrap_or_default()
    }

    /// Hands a request to the core.
    pub(super) fn handle(&self, connection: &Connection, frame: &mut RequestFrame) -> Answer {
        let mut core = self.lock();
        let now = core.now(&*self.clock);
        let Some(broker) = &mut core.broker else { return Answer::Close };
        let effects = broker.handle(connection, &frame.header, &mut frame.request, now);
        let (need, deadline) = (broker.commit_need(), broker.next_deadline());
        let answer = match effects.reply {
            Reply::Now(response) => Answer::Ready(response),
            Reply::Parked(ticket) => {
                let (sender, receiver) = oneshot::channel();
                core.waiting.insert(ticket, sender);
                Answer::Waiting(receiver)
            }
            Reply::Silent => Answer::None,
            Reply::Close => Answer::Close,
            Reply::LookInside => Answer::LookInside,
        };
        let woken = core.senders(effects.woken);
        drop(core);
        deliver(woken);
        self.want_commit(need);
        if deadline.get() < self.timer_at.load(Ordering::Relaxed) {
            self.earlier_deadline.notify_one();
        }
        answer
    }

    /// A connection is gone.
    pub(super) fn disconnect(&self, connection: ConnId) {
        let mut core = self.lock();
        let Some(broker) = &mut core.broker else { return };
        for ticket in broker.disconnect(connection) {
            core.waiting.remove(&ticket);
        }
    }

    /// Lets the core's time pass; returns in how many milliseconds it is needed next, or nothing once the broker is
    /// closed.
    pub(super) fn tick(&self) -> Option<i64> {
        let mut core = self.lock();
        let now = core.now(&*self.clock);
        let broker = core.broker.as_mut()?;
        let woken = broker.tick(now);
        let (need, next) = (broker.commit_need(), broker.next_deadline());
        self.timer_at.store(next.get(), Ordering::Relaxed);
        let woken = core.senders(woken);
        drop(core);
        deliver(woken);
        self.want_commit(need);
        Some(next.since(now))
    }

    /// How many connections there may be by now, as files allow, and how fast they may come.
    pub(super) fn connection_limits(&self, address: IpAddr) -> ConnectionLimits {
        let limits = self.lock().broker.as_ref().map(|broker| broker.connection_limits(address));
        let limits = limits.unwrap_or_default();
        let files = file_limit::for_connections_now(self.config.other_connections_max);
        ConnectionLimits { connections_max: limits.connections_max.min(files), ..limits }
    }

    /// A connection has come.
    pub(super) fn turn(&self, address: IpAddr, rates: Rates) -> Turn {
        let now = steady_now().saturating_duration_since(self.started);
        self.pacer.lock().unwrap_or_else(PoisonError::into_inner).turn(address, rates, now)
    }

    /// How much the cleaner may read and write in a second by now.
    pub(super) fn cleaner_io_bytes_per_second_max(&self) -> Option<u64> {
        self.lock().broker.as_ref()?.cleaner_io_bytes_per_second_max()
    }

    pub(super) fn stats(&self) -> BrokerStats {
        let core = self.lock();
        let stats = core.broker.as_ref().map(Broker::stats).unwrap_or_default();
        BrokerStats { connections: self.registry.len(), ..stats }
    }

    /// Commits everything and marks the directory clean.
    pub(super) fn close(&self) -> Result<(), BrokerError> {
        let mut core = self.lock();
        core.waiting.clear();
        match core.broker.take() {
            Some(broker) => broker.close(),
            None => Ok(()),
        }
    }

    fn want_commit(&self, need: CommitNeed) {
        if need == CommitNeed::None {
            return;
        }
        let mut signal = self.signal();
        if need > signal.need {
            signal.need = need;
            drop(signal);
            self.commit_wanted.notify_one();
        }
    }

    fn signal(&self) -> MutexGuard<'_, CommitSignal> {
        self.commit_signal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a commit must begin; false once the commit thread is to end.
    pub(super) fn wait_for_commit(&self) -> bool {
        let idle = |signal: &mut CommitSignal| signal.need == CommitNeed::None && !signal.stop;
        let mut signal = self
            .commit_wanted
            .wait_while(self.signal(), idle)
            .unwrap_or_else(PoisonError::into_inner);
        if signal.need == CommitNeed::Soon && !signal.stop {
            // More may come in the time that readers can wait.
            let lag = Duration::from_millis(self.config.sync_lag_ms_max);
            let patient = |signal: &mut CommitSignal| signal.need < CommitNeed::Now && !signal.stop;
            signal = match self.commit_wanted.wait_timeout_while(signal, lag, patient) {
                Ok((signal, _)) => signal,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        signal.need = CommitNeed::None;
        !signal.stop
    }

    pub(super) fn stop_commits(&self) {
        self.signal().stop = true;
        self.commit_wanted.notify_one();
    }

    pub(super) fn begin_commit(&self) -> Option<PendingCommit> {
        self.lock().broker.as_mut()?.begin_commit()
    }

    pub(super) fn finish_commit(&self, done: CommitDone) {
        let mut core = self.lock();
        let now = core.now(&*self.clock);
        let Some(broker) = &mut core.broker else { return };
        let woken = broker.finish_commit(done, now);
        let need = broker.commit_need();
        let woken = core.senders(woken);
        drop(core);
        deliver(woken);
        self.want_commit(need);
    }
}

impl Shared {
    /// The commit thread has panicked.
    pub(super) fn commit_panicked(&self) {
        let mut core = self.lock();
        let now = core.now(&*self.clock);
        let Some(broker) = &mut core.broker else { return };
        let woken = broker.abandon_commits(now);
        let woken = core.senders(woken);
        drop(core);
        deliver(woken);
    }
}

impl Shared {
    /// Waits until upkeep may be due; false once its thread is to end.
    pub(super) fn wait_for_upkeep(&self, interval: Duration) -> bool {
        let UpkeepSignal { stop, changed } = &self.upkeep_signal;
        let stop = stop.lock().unwrap_or_else(PoisonError::into_inner);
        match changed.wait_timeout_while(stop, interval, |stop| !*stop) {
            Ok((stop, _)) => !*stop,
            Err(poisoned) => !*poisoned.into_inner().0,
        }
    }

    pub(super) fn upkeep_stops(&self) -> bool {
        *self.upkeep_signal.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stop_upkeep(&self) {
        *self.upkeep_signal.stop.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.upkeep_signal.changed.notify_all();
    }

    pub(super) fn begin_upkeep(&self) -> Option<Upkeep> {
        let mut core = self.lock();
        let now = core.now(&*self.clock);
        let broker = core.broker.as_mut()?;
        let upkeep = broker.begin_upkeep(now);
        let need = broker.commit_need();
        drop(core);
        self.want_commit(need);
        upkeep
    }

    /// Returns whether more may be due at once.
    pub(super) fn finish_upkeep(&self, done: UpkeepDone) -> bool {
        let mut core = self.lock();
        let now = core.now(&*self.clock);
        let Some(broker) = &mut core.broker else { return false };
        let more = broker.finish_upkeep(done, now);
        let need = broker.commit_need();
        drop(core);
        self.want_commit(need);
        more
    }

    pub(super) fn request_clean(
        &self,
        topic: &str,
        partition: PartitionId,
    ) -> Result<bool, ErrorCode> {
        match &mut self.lock().broker {
            Some(broker) => broker.request_clean(topic, partition),
            None => Err(ErrorCode::BrokerNotAvailable),
        }
    }

    /// The upkeep thread finds it within a second.
    pub(super) fn begin_clean(&self, request: &CleanRequest) -> Result<AskedClean, CleanRefused> {
        match &mut self.lock().broker {
            Some(broker) => broker.begin_clean(request),
            None => Err(CleanRefused::Offline),
        }
    }

    pub(super) fn look_at_clean(
        &self,
        asked: &mut AskedClean,
    ) -> Result<CleanProgress, CleanRefused> {
        match &self.lock().broker {
            Some(broker) => broker.look_at_clean(asked),
            None => Err(CleanRefused::Offline),
        }
    }

    pub(super) fn upkeep_panicked(&self) {
        if let Some(broker) = &mut self.lock().broker {
            broker.abandon_upkeep();
        }
    }
}

#[allow(clippy::disallowed_methods)] // The shell reads time for the core.
fn steady_now() -> Instant {
    Instant::now()
}

impl Core {
    /// The time for the next call of the core, which is told first if the clock was set.
    fn now(&mut self, clock: &dyn Clock) -> TimestampMs {
        let now = clock.now();
        if let Some(jump_ms) = self.jumps.jump_ms(now, steady_now()) {
            tracing::warn!(jump_ms, "the clock was set; deadlines move along");
            if let Some(broker) = &mut self.broker {
                broker.clock_set(jump_ms);
            }
        }
        now
    }

    fn senders(
        &mut self,
        woken: Vec<(Ticket, Response)>,
    ) -> Vec<(oneshot::Sender<Response>, Response)> {
        woken
            .into_iter()
            .filter_map(|(ticket, response)| Some((self.waiting.remove(&ticket)?, response)))
            .collect()
    }
}

/// Outside the lock: it wakes tasks.
fn deliver(woken: Vec<(oneshot::Sender<Response>, Response)>) {
    for (sender, response) in woken {
        // Whose connection is gone does not listen any more.
        let _ = sender.send(response);
    }
}

/// One connection in the registry. Its end is also that of what it waits for, though its task be aborted.
#[derive(Debug)]
pub(super) struct Registered {
    shared: Arc<Shared>,
    pub(super) id: ConnId,
    activity: Arc<Activity>,
}

impl Registered {
    /// A request has come; it is under way for as long as the guard lives.
    pub(super) fn request(&self) -> UnderWay {
        self.activity.begin(self.shared.steady_ms());
        UnderWay { shared: self.shared.clone(), activity: self.activity.clone() }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.shared.registry.remove(self.id);
        self.shared.disconnect(self.id);
    }
}

/// One request whose answer is not out.
#[derive(Debug)]
pub(super) struct UnderWay {
    shared: Arc<Shared>,
    activity: Arc<Activity>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.activity.end(self.shared.steady_ms());
    }
}

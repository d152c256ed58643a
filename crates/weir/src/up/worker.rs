//! The fleet worker: reads drone-events in a consumer group and runs the four steps on each fix.
//!
//! One thread of its own, because SQLite blocks. What is stored and the position in the topic are
//! one SQLite transaction, so a trajectory is complete and free of repeats whatever happens; Kafka's
//! copy of the position is set from it, for `weir groups` and the console to see.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::watch;
use weir_client::admin::OffsetSpec;
use weir_client::{
    Admin, AutoOffsetReset, Client, ClientError, ConsumedRecord, Consumer, ConsumerConfig, Event,
    GroupConfig, PartitionOffset, RebalanceHook, TopicPartition,
};
use weir_fleet::location::DEVICES_MAX;
use weir_fleet::{
    validate, AlertChange, Commit, ConsumedOffset, Effect, LocationHandler, RecordRef,
    TopicIdentity, TrackPoint, TrajectoryStore, ZoneSet,
};
use weir_protocol::clock::Clock;
use weir_protocol::types::{Offset, PartitionId, TimestampMs, Uuid};

use super::consumed_log::ConsumedLog;
use super::damage::{tell_skipped, Damage, DamageCount};
use super::instance::instance_id;
use super::progress::{Moving, Progress};
use super::worker_words::{damage_event, summary};
use crate::config::Settings;
use crate::console::hub::{ConsoleHub, DeviceEvent, Position};
use crate::error::{Outcome, UserError};
use crate::gateway::ingest::Ingest;
use crate::gateway::outcome::EventOutcome;

/// The topic it reads.
pub(crate) const TOPIC: &str = "drone-events";
/// Longest wait of one poll: how fast a stop is noticed.
const POLL: Duration = Duration::from_millis(100);
/// How often old points are looked for.
const CLEAN_INTERVAL: Duration = Duration::from_secs(3_600);
/// A stored point dated further ahead than this is no device's last one: its clock was wrong.
const AHEAD_MS_MAX: i64 = weir_fleet::location::FUTURE_MS_MAX;
/// Old points deleted in one go: what waits meanwhile waits some tens of milliseconds.
const CLEAN_POINTS_MAX: usize = 20_000;
/// Alerts that are over and published, kept for those who ask the file.
const FINISHED_ALERTS_MAX: usize = 100_000;
/// Alerts published in one go; between two of them records are read.
const PUBLISH_MAX: usize = 200;
/// How it names itself in the log.
const WHO: &str = "fleet worker";
/// Longest wait for the last commit and the leave at a stop; a stop as a whole has 2 s.
const LEAVE_MAX: Duration = Duration::from_millis(700);
/// How often a failed call to Kafka is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// What the worker needs; all of it shared with the rest of the process.
#[derive(Debug)]
pub(crate) struct WorkerParts {
    pub(crate) client: Arc<Client>,
    pub(crate) ingest: Ingest,
    pub(crate) hub: ConsoleHub,
    pub(crate) zones: Arc<ZoneSet>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// The thread's way to asynchronous calls. One that is out when the worker is to stop is given up: the runtime
/// ends soon after, and whoever waits inside it then panics.
#[derive(Debug)]
struct Calls {
    runtime: Handle,
    stop: watch::Receiver<bool>,
}

impl Calls {
    /// Also when nobody is left to say it.
    fn is_stopping(&self) -> bool {
        *self.stop.borrow() || self.stop.has_changed().is_err()
    }

    fn wait<T>(&self, call: impl Future<Output = T>) -> Outcome<T> {
        let mut stop = self.stop.clone();
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                done = call => Ok(done),
                _ = stop.wait_for(|stop| *stop) => {
                    Err(UserError::new("WEIR-0808", "the fleet worker stops"))
                }
            }
        })
    }
}

/// A running worker.
#[derive(Debug)]
pub(crate) struct Worker {
    stop: watch::Sender<bool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Worker {
    /// Opens the store, restores the live state, and starts the thread.
    pub(crate) fn start(settings: &Settings, parts: WorkerParts, runtime: Handle) -> Outcome<Self> {
        let path = settings.data_dir.join("fleet.db");
        let store = open_store(&path, parts.clock.now())?;
        let (stop, stopping) = watch::channel(false);
        let calls = Calls { runtime, stop: stopping };
        let mut shift = Shift::new(parts, store, settings)?;
        let thread = thread::Builder::new()
            .name("weir-fleet".to_owned())
            .spawn(move || shift.run(&calls))
            .map_err(|error| {
                UserError::new("WEIR-0808", "cannot start the fleet worker").why(error)
            })?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// It takes no more records, commits, and leaves its group.
    pub(crate) fn begin_stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits for that. Blocks.
    pub(crate) fn stop(mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            if thread.join().is_err() {
                tracing::error!("the fleet worker ended by a panic");
            }
        }
    }
}

fn open_store(path: &Path, now: TimestampMs) -> Outcome<TrajectoryStore> {
    TrajectoryStore::open(path, now).map_err(|error| {
        UserError::new(error.code(), format!("cannot open {}", path.display())).why(&error).help(
            "move the file away to start without trajectories, from where the group stands; \
             weir ops reset-offset has them rebuilt from the topic",
        )
    })
}

/// The state of the thread.
struct Shift {
    parts: WorkerParts,
    store: TrajectoryStore,
    handler: LocationHandler,
    group: String,
    instance_id: String,
    session_timeout_ms: u32,
    commit_interval: Duration,
    retention_ms: u64,
    /// Where a partition starts that the store knows nothing of.
    first: OffsetSpec,
    /// What that came to, asked once.
    starts: BTreeMap<PartitionId, Offset>,
    /// Which topic of which cluster it reads, as of the last joining.
    topic: Option<TopicIdentity>,
    /// Partitions it had when that topic was made anew, not placed since: all of it came meanwhile, and a
    /// commit of the topic before may have gone to the new one, so that they begin at its start.
    renewed: BTreeSet<PartitionId>,
    /// Partitions of the last assignment there was, also while it joins again.
    held: BTreeSet<PartitionId>,
    /// Partitions of the present assignment that have been set to the store's position.
    placed: Vec<TopicPartition>,
    progress: Arc<Progress>,
    committed_at: Instant,
    cleaned_at: Option<Instant>,
    skipped: u64,
    damage: DamageCount,
    consumed: ConsumedLog,
    /// There are alerts to publish beyond what one go took.
    alerts_wait: bool,
    /// Devices that gave way to others, as last counted.
    evicted: u64,
}

impl Shift {
    fn new(parts: WorkerParts, mut store: TrajectoryStore, settings: &Settings) -> Outcome<Self> {
        let group = format!("{}-fleet", settings.group_prefix);
        let handler = restored(&parts, &mut store)?;
        Ok(Self {
            parts,
            store,
            handler,
            group,
            instance_id: instance_id(&settings.data_dir)?,
            session_timeout_ms: u32::try_from(settings.session_timeout_ms).unwrap_or(u32::MAX),
            commit_interval: Duration::from_millis(settings.commit_interval_ms),
            retention_ms: settings.trajectory_retention_ms,
            first: if settings.from_earliest { OffsetSpec::Earliest } else { OffsetSpec::Latest },
            starts: BTreeMap::new(),
            topic: None,
            renewed: BTreeSet::new(),
            held: BTreeSet::new(),
            placed: Vec::new(),
            progress: Arc::new(Progress::new(TOPIC)),
            committed_at: now(),
            cleaned_at: None,
            skipped: 0,
            damage: DamageCount::default(),
            consumed: ConsumedLog::default(),
            alerts_wait: false,
            evicted: 0,
        })
    }

    fn run(&mut self, calls: &Calls) {
        // The client starts tasks of its own, for which it needs the runtime.
        let _inside = calls.runtime.enter();
        let mut consumer: Option<Consumer> = None;
        while !calls.is_stopping() {
            let turned = match &consumer {
                Some(joined) => self.turn(calls, joined),
                None => calls
                    .wait(self.join())
                    .and_then(|joined| joined)
                    .map(|joined| consumer = Some(joined)),
            };
            match turned {
                Ok(()) => {}
                Err(_) if calls.is_stopping() => break,
                Err(error) => {
                    tracing::warn!(code = error.code, %error, "fleet worker: trying again");
                    if let Some(joined) = consumer.take() {
                        // Quietly: what failed may be the very connection it needs.
                        let _ = calls.wait(joined.close());
                    }
                    thread::sleep(RETRY);
                    self.start_over();
                }
            }
        }
        if let Some(joined) = consumer {
            let last = self.progress.take_uncommitted();
            let left = calls.runtime.block_on(tokio::time::timeout(LEAVE_MAX, async {
                joined.commit(&last).await?;
                joined.close().await
            }));
            match left {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "leaving the group"),
                // Nothing is lost: the next start goes on from what the store has.
                Err(_) => tracing::warn!("leaving the group: Kafka does not answer"),
            }
        }
    }

    /// After a failure the handler knows of fixes and alerts that may not be stored. It is made anew
    /// from the store, or the repeat of these records would find nothing new in them.
    fn start_over(&mut self) {
        *self.progress.lock() = Moving::default();
        self.placed.clear();
        match restored(&self.parts, &mut self.store) {
            Ok(handler) => (self.handler, self.evicted) = (handler, 0),
            Err(error) => tracing::warn!(code = error.code, %error, "fleet worker: restoring"),
        }
    }

    async fn join(&mut self) -> Outcome<Consumer> {
        let failed = |error: weir_client::ClientError| {
            UserError::new(error.code(), "cannot join the group of the fleet worker").why(error)
        };
        let admin = Admin::new(Arc::clone(&self.parts.client));
        let topic = admin.describe_topic(TOPIC).await.map_err(failed)?;
        let cluster = admin.describe_cluster().await.map_err(failed)?;
        let identity = TopicIdentity {
            cluster_id: cluster.cluster_id.map(|id| id.to_string()).unwrap_or_default(),
            topic_id: topic.id.to_string(),
            name: TOPIC.to_owned(),
        };
        if self.topic.as_ref() != Some(&identity) {
            self.starts.clear();
            let same_cluster = |known: &TopicIdentity| known.cluster_id == identity.cluster_id;
            if self.topic.as_ref().is_some_and(same_cluster) {
                self.renewed = std::mem::take(&mut self.held);
            }
            self.topic = Some(identity);
        }
        let asked: Vec<_> = topic
            .partitions
            .iter()
            .map(|partition| (TopicPartition::new(TOPIC, partition.partition), self.first))
            .collect();
        for (partition, first) in admin.list_offsets(&asked).await.map_err(failed)? {
            self.starts.entry(partition.partition).or_insert(first.unwrap_or(Offset(0)));
        }
        let mut group = GroupConfig::new(self.group.as_str());
        group.instance_id = Some(self.instance_id.clone());
        group.session_timeout_ms = self.session_timeout_ms;
        group.hook = Some(Arc::clone(&self.progress) as Arc<dyn RebalanceHook>);
        let config = ConsumerConfig {
            group: Some(group),
            auto_offset_reset: AutoOffsetReset::Earliest,
            ..ConsumerConfig::default()
        };
        let consumer = Consumer::new(Arc::clone(&self.parts.client), config).map_err(failed)?;
        consumer.subscribe(&[TOPIC]).map_err(failed)?;
        Ok(consumer)
    }

    /// Sets partitions that are new in the assignment to the store's position, whatever Kafka's
    /// copy of it says; those the store knows nothing of begin where the group stands, for another
    /// node may have read so far. Returns them: what this poll brought of them came from another
    /// position.
    fn place(&mut self, calls: &Calls, consumer: &Consumer) -> Outcome<Vec<TopicPartition>> {
        let failed =
            |error: ClientError| UserError::new(error.code(), "cannot set the position").why(error);
        if std::mem::take(&mut self.progress.lock().moved) {
            self.placed.clear();
        }
        let assigned = consumer.assignment();
        let new: Vec<_> =
            assigned.iter().filter(|partition| !self.placed.contains(partition)).cloned().collect();
        if let (false, Some(topic)) = (new.is_empty(), &self.topic) {
            let stored = self.store.offsets(&self.group, topic).map_err(storage)?;
            let mut committed = None;
            for partition in &new {
                let renewed = self.renewed.remove(&partition.partition);
                let at = match next_of(&stored, partition.partition) {
                    Some(at) => at,
                    None if renewed => Offset(0),
                    None => {
                        if committed.is_none() {
                            let admin = Admin::new(Arc::clone(&self.parts.client));
                            let asked = admin.group_offsets(&self.group);
                            committed = Some(calls.wait(asked)?.map_err(failed)?);
                        }
                        let committed = committed.as_deref().unwrap_or_default();
                        self.begin(partition, committed, stored.is_empty())?
                    }
                };
                consumer.seek(partition, at).map_err(failed)?;
            }
        }
        self.held = assigned.iter().map(|partition| partition.partition).collect();
        self.placed = assigned;
        Ok(new)
    }

    /// Where a partition begins that the store knows nothing of; said in the log. `is_first`: nor does it
    /// of any other of this topic.
    fn begin(
        &self,
        partition: &TopicPartition,
        committed: &[PartitionOffset],
        is_first: bool,
    ) -> Outcome<Offset> {
        let number = partition.partition;
        let group = committed.iter().find(|known| known.partition == *partition);
        let (at, by) = match group {
            Some(known) => (known.offset, "the group's committed offset"),
            None => {
                let first = self.starts.get(&number).copied().unwrap_or(Offset(0));
                (first, "kafka.auto_offset_reset")
            }
        };
        let another = match self.topic.as_ref().filter(|_| is_first) {
            Some(topic) => self.store.has_offsets_of_another(topic),
            None => Ok(false),
        };
        if another.map_err(storage)? {
            tracing::warn!(
                topic = TOPIC, partition = %number, offset = %at, by,
                "fleet worker: the position in fleet.db is of another cluster, or of a topic that was \
                 deleted; it is not used"
            );
        } else {
            tracing::info!(
                topic = TOPIC, partition = %number, offset = %at, by,
                "fleet worker: fleet.db has no position yet"
            );
        }
        Ok(at)
    }

    /// One poll: handle, store, publish alerts, commit. In this order, so that a crash anywhere
    /// repeats work that is recognised as a repeat, and skips none.
    fn turn(&mut self, calls: &Calls, consumer: &Consumer) -> Outcome {
        let failed = |error: weir_client::ClientError| {
            UserError::new(error.code(), "cannot read drone-events").why(error)
        };
        let wait = if self.alerts_wait { Duration::ZERO } else { POLL };
        let mut records = match calls.wait(consumer.poll(wait))?.map_err(Damage::of) {
            Ok(records) => records,
            Err(Ok(damage)) => {
                self.check_topic()?;
                let moved = self.place(calls, consumer)?;
                if moved.contains(&damage.place) {
                    // Met at Kafka's copy of the position; the store's decides.
                    return Ok(());
                }
                return self.meet_damage(calls, consumer, &damage);
            }
            Err(Err(error)) => return Err(failed(error)),
        };
        self.check_topic()?;
        let moved = self.place(calls, consumer)?;
        records.retain(|record| moved.iter().all(|new| new.partition != record.partition));
        if !records.is_empty() {
            let next = self.handle(&records)?;
            self.progress.add(next);
        }
        self.publish_alerts(calls)?;
        if self.committed_at.elapsed() >= self.commit_interval {
            self.committed_at = now();
            let offsets = self.progress.take_uncommitted();
            if !offsets.is_empty() {
                consumer.commit_async(offsets);
            }
        }
        self.clean()
    }

    /// Fails if the topic was deleted and made again: the client goes on with the new one by itself, and
    /// what it read of that must not be stored as of the one before. It is asked after each poll, as the
    /// client fetches by the id that it shows here, or by an earlier one.
    fn check_topic(&self) -> Outcome {
        let view = self.parts.client.view();
        let Some(id) = view.topics.get(TOPIC).map(|topic| topic.id) else { return Ok(()) };
        let is_known = |topic: &TopicIdentity| topic.topic_id == id.to_string();
        if id == Uuid::ZERO || self.topic.as_ref().is_none_or(is_known) {
            return Ok(());
        }
        // It may also be this view that is late.
        self.parts.client.refresh_soon();
        let what = format!("{TOPIC} was deleted and made again");
        Err(UserError::new("WEIR-0406", what))
    }

    /// Reads a damaged batch again, and goes past it once it is sure that it stays damaged: one batch
    /// must not end the work on all that follow. What is lost is said in the log, in a metric and on
    /// system-events.
    fn meet_damage(&mut self, calls: &Calls, consumer: &Consumer, damage: &Damage) -> Outcome {
        let Damage { place, offset, .. } = damage;
        let failed = |error: ClientError| {
            UserError::new(error.code(), "cannot go past a damaged batch").why(error)
        };
        if !self.damage.is_sure(WHO, damage) {
            return consumer.seek(place, *offset).map_err(failed);
        }
        let resume = calls.wait(damage.resume(&self.parts.client))?.map_err(failed)?;
        tell_skipped(WHO, damage, resume);
        self.parts.ingest.metrics().count_damaged();
        let offsets = [ConsumedOffset { partition: place.partition, next: resume }];
        self.commit(&offsets, &[], &[])?;
        self.progress.add([(place.partition, resume)]);
        consumer.seek(place, resume).map_err(failed)?;
        let event = damage_event(damage, resume, self.parts.clock.now());
        if let EventOutcome::Rejected(rejection) =
            calls.wait(self.parts.ingest.accept_one(event))?
        {
            let (code, message) = (rejection.code, rejection.message);
            tracing::error!(code, %message, "the damage could not be told on system-events");
        }
        Ok(())
    }

    /// Deletes what is older than the retention, once in a while and a part at a time.
    fn clean(&mut self) -> Outcome {
        if self.cleaned_at.is_some_and(|at| at.elapsed() < CLEAN_INTERVAL) {
            return Ok(());
        }
        let before =
            self.parts.clock.now().plus_ms(-i64::try_from(self.retention_ms).unwrap_or(i64::MAX));
        let points = self.store.delete_before(before, CLEAN_POINTS_MAX).map_err(storage)?;
        if points > 0 {
            tracing::info!(points, "old points of trajectories are deleted");
        }
        if points == CLEAN_POINTS_MAX {
            return Ok(()); // The next turn goes on.
        }
        self.cleaned_at = Some(now());
        let alerts =
            self.store.delete_finished_alerts(before, FINISHED_ALERTS_MAX).map_err(storage)?;
        let devices = self.store.delete_empty_devices().map_err(storage)?;
        if alerts + devices > 0 {
            tracing::info!(alerts, devices, "old alerts, and devices without points, are deleted");
        }
        Ok(())
    }

    /// One transaction of the store.
    fn commit(
        &mut self,
        offsets: &[ConsumedOffset],
        points: &[TrackPoint],
        alerts: &[AlertChange],
    ) -> Outcome {
        let Some(topic) = &self.topic else { return Ok(()) };
        let now = self.parts.clock.now();
        let commit = Commit { group: &self.group, topic, offsets, points, alerts, now };
        self.store.commit(&commit).map(drop).map_err(storage)
    }

    /// Runs the handler over the records and stores what comes of it. Returns the next offsets.
    fn handle(&mut self, records: &[ConsumedRecord]) -> Outcome<BTreeMap<PartitionId, Offset>> {
        let started = now();
        let (mut effects, mut events) = (Vec::with_capacity(records.len() * 2), Vec::new());
        let mut next = BTreeMap::new();
        let mut types: BTreeMap<String, u32> = BTreeMap::new();
        for record in records {
            next.insert(record.partition, Offset(record.offset.get() + 1));
            self.consumed.tell(record, started);
            match self.handle_one(record, &mut effects, &mut events) {
                Some(event_type) => *types.entry(event_type).or_default() += 1,
                None => self.skip(record),
            }
        }
        let (points, alerts) = self.show_effects(effects, records);
        // After the positions: the console takes no event of a device that it does not know.
        events.into_iter().for_each(|event| self.parts.hub.event(event));
        let offsets: Vec<ConsumedOffset> = next
            .iter()
            .map(|(partition, offset)| ConsumedOffset { partition: *partition, next: *offset })
            .collect();
        self.commit(&offsets, &points, &alerts)?;
        self.count_evicted();
        let mean_seconds = started.elapsed().as_secs_f64() / records.len() as f64;
        for (event_type, count) in types {
            for _ in 0..count {
                self.parts.ingest.metrics().observe_processing(TOPIC, &event_type, mean_seconds);
            }
        }
        Ok(next)
    }

    /// `None`: the record is no event of a known shape. Anybody may write to the topic.
    fn handle_one(
        &mut self,
        record: &ConsumedRecord,
        effects: &mut Vec<Effect>,
        events: &mut Vec<DeviceEvent>,
    ) -> Option<String> {
        let event = Event::parse(record.value.as_deref()?).ok()?;
        let checked = validate(&event.event_type, event.data.get()).ok()?;
        let at = event.timestamp.unwrap_or(record.timestamp);
        let place = RecordRef { partition: record.partition, offset: record.offset };
        self.handler.handle_event(&checked, at, record.timestamp, place, effects);
        if event.event_type != "drone.location.updated" && event.event_type != "drone.heartbeat" {
            events.push(DeviceEvent {
                device: event.key().into_owned(),
                event_type: event.event_type.to_string(),
                topic: TOPIC.to_owned(),
                partition: record.partition.get(),
                offset: record.offset.get(),
                at_ms: at.get(),
                summary: summary(&checked),
            });
        }
        Some(event.event_type.into_owned())
    }

    fn skip(&mut self, record: &ConsumedRecord) {
        self.skipped += 1;
        if self.skipped.is_power_of_two() {
            let (partition, offset, skipped) = (record.partition, record.offset, self.skipped);
            tracing::warn!(%partition, %offset, skipped, "record of {TOPIC} is no event: skipped");
        }
    }

    /// More devices than are kept: said in a metric, and in the log as their number doubles.
    fn count_evicted(&mut self) {
        let evicted = self.handler.live().evicted();
        let before = std::mem::replace(&mut self.evicted, evicted);
        self.parts.ingest.metrics().count_evicted(evicted - before);
        if evicted.checked_ilog2() > before.checked_ilog2() {
            tracing::warn!(
                evicted, devices_max = DEVICES_MAX,
                "more devices than are followed: those silent the longest gave way, and their alerts \
                 are closed"
            );
        }
    }

    fn show_effects(
        &self,
        effects: Vec<Effect>,
        records: &[ConsumedRecord],
    ) -> (Vec<TrackPoint>, Vec<AlertChange>) {
        let append_ms = records.last().map(|record| record.timestamp.get());
        let (mut points, mut alerts) = (Vec::with_capacity(records.len()), Vec::new());
        for effect in effects {
            match effect {
                Effect::Store(point) => points.push(point),
                Effect::Alert(change) => alerts.push(change),
                Effect::Push(live) => show(&self.parts.hub, &live, append_ms),
                Effect::Zone(_) => {}
            }
        }
        (points, alerts)
    }

    /// Sends some of the alerts that the store has and Kafka has not. Their ids are the same each time.
    fn publish_alerts(&mut self, calls: &Calls) -> Outcome {
        let mut waiting = self.store.unpublished(PUBLISH_MAX).map_err(storage)?;
        let all = waiting.len();
        waiting.truncate(together(&waiting));
        if waiting.is_empty() {
            self.alerts_wait = false;
            return Ok(());
        }
        let texts = waiting.iter().map(|change| Ok(Bytes::from(change.to_event_json()))).collect();
        let outcomes = calls.wait(self.parts.ingest.accept(texts, None))?;
        let mut published = Vec::with_capacity(waiting.len());
        for (change, outcome) in waiting.iter().zip(outcomes) {
            match outcome {
                EventOutcome::Accepted(_) | EventOutcome::Duplicate(_) => {}
                EventOutcome::Rejected(rejection) if rejection.retry_after_ms.is_some() => continue,
                EventOutcome::Rejected(rejection) => {
                    tracing::error!(code = rejection.code, message = %rejection.message, "alert refused");
                }
            }
            published.push(change.clone());
        }
        let all_taken = published.len() == waiting.len();
        self.alerts_wait = all_taken && (all == PUBLISH_MAX || waiting.len() < all);
        self.store.mark_published(&published).map_err(storage)
    }
}

/// How many of these may be sent together. An alert is not cleared in one go with its raising: one of
/// the two may be refused for now, and it must not be that one.
fn together(changes: &[AlertChange]) -> usize {
    let mut raised = HashSet::new();
    let splits = |change: &AlertChange| match change {
        AlertChange::Raised(alert) => {
            raised.insert(alert.alert_id.clone());
            false
        }
        AlertChange::Cleared(alert, _) => raised.contains(&alert.alert_id),
    };
    changes.iter().position(splits).unwrap_or(changes.len())
}

/// A handler that knows what the store knows, and the map with it.
fn restored(parts: &WorkerParts, store: &mut TrajectoryStore) -> Outcome<LocationHandler> {
    let mut handler = LocationHandler::new(Arc::clone(&parts.zones));
    let now = parts.clock.now();
    let closed = store.clear_open_beyond(DEVICES_MAX).map_err(storage)?;
    if closed > 0 {
        tracing::warn!(closed, "more open alerts than are followed: the oldest are closed");
    }
    let orphaned = handler.restore(
        store.last_points(now.plus_ms(AHEAD_MS_MAX), DEVICES_MAX).map_err(storage)?,
        store.open_alerts(DEVICES_MAX).map_err(storage)?,
    );
    store.store_alerts(&orphaned, now).map_err(storage)?;
    for live in handler.live().iter() {
        show(&parts.hub, live, None);
    }
    Ok(handler)
}

fn next_of(stored: &[ConsumedOffset], partition: PartitionId) -> Option<Offset> {
    stored.iter().find(|known| known.partition == partition).map(|known| known.next)
}

fn storage(error: weir_fleet::FleetError) -> UserError {
    UserError::new(error.code(), "cannot use fleet.db").why(error)
}

fn show(hub: &ConsoleHub, live: &weir_fleet::LivePosition, append_ms: Option<i64>) {
    hub.position(Position {
        device: &live.device,
        lat: live.latitude,
        lon: live.longitude,
        alt_m: live.altitude_m,
        heading_deg: live.heading,
        speed_mps: live.speed,
        battery_percent: live.battery,
        status: live.status.as_deref().unwrap_or("unknown"),
        timestamp_ms: live.at.get(),
        append_ms: append_ms.or(Some(live.at.get())),
    });
}

/// The worker is a shell: it measures how long handling takes.
#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

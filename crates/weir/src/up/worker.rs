//! The fleet worker: reads drone-events in a consumer group and runs the four steps on each fix.
//!
//! One thread of its own, because SQLite blocks. What is stored and the position in the topic are
//! one SQLite transaction, so a trajectory is complete and free of repeats whatever happens; Kafka's
//! copy of the position is set from it, for `weir groups` and the console to see.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use weir_client::admin::OffsetSpec;
use weir_client::event::HEADER_TRACE_ID;
use weir_client::timestamp::format_rfc3339;
use weir_client::{
    Admin, AutoOffsetReset, Client, ClientError, ConsumedRecord, Consumer, ConsumerConfig, Event,
    GroupConfig, PartitionOffset, TopicPartition,
};
use weir_fleet::{
    validate, AlertChange, Commit, ConsumedOffset, Effect, LocationHandler, RecordRef, TrackPoint,
    TrajectoryStore, ZoneSet,
};
use weir_protocol::clock::Clock;
use weir_protocol::types::{Offset, PartitionId, TimestampMs};

use super::instance::instance_id;
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
/// A batch that was found damaged so often stays damaged.
const DAMAGE_SURE: u32 = 3;
/// `weir explain` of a damaged batch.
const DAMAGED: &str = "WEIR-0422";
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

/// A running worker.
#[derive(Debug)]
pub(crate) struct Worker {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Worker {
    /// Opens the store, restores the live state, and starts the thread.
    pub(crate) fn start(settings: &Settings, parts: WorkerParts, runtime: Handle) -> Outcome<Self> {
        let path = settings.data_dir.join("fleet.db");
        let store = open_store(&path)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let mut shift = Shift::new(parts, store, settings)?;
        let thread = thread::Builder::new()
            .name("weir-fleet".to_owned())
            .spawn(move || shift.run(&runtime, &stopping))
            .map_err(|error| {
                UserError::new("WEIR-0808", "cannot start the fleet worker").why(error)
            })?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Lets it finish what it holds and leave its group.
    pub(crate) fn stop(mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            if thread.join().is_err() {
                tracing::error!("the fleet worker ended by a panic");
            }
        }
    }
}

fn open_store(path: &Path) -> Outcome<TrajectoryStore> {
    TrajectoryStore::open(path).map_err(|error| {
        UserError::new(error.code(), format!("cannot open {}", path.display())).why(&error).help(
            "move the file away to start without trajectories; they are rebuilt from the topic",
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
    /// Partitions of the present assignment that have been set to the store's position.
    placed: Vec<TopicPartition>,
    /// Stored, but not yet told to Kafka.
    uncommitted: BTreeMap<PartitionId, Offset>,
    committed_at: Instant,
    cleaned_at: Option<Instant>,
    skipped: u64,
    /// How often a damaged batch was met, by partition and position.
    damage_met: BTreeMap<(PartitionId, Offset), u32>,
}

/// A batch that cannot be read.
struct Damage {
    place: TopicPartition,
    offset: Offset,
    /// Where its header says that the next one begins.
    next: Option<Offset>,
    reason: String,
}

impl Shift {
    fn new(parts: WorkerParts, mut store: TrajectoryStore, settings: &Settings) -> Outcome<Self> {
        let group = format!("{}-fleet", settings.group_prefix);
        let handler = restored(&parts, &mut store, &group)?;
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
            placed: Vec::new(),
            uncommitted: BTreeMap::new(),
            committed_at: now(),
            cleaned_at: None,
            skipped: 0,
            damage_met: BTreeMap::new(),
        })
    }

    fn run(&mut self, runtime: &Handle, stop: &AtomicBool) {
        // The client starts tasks of its own, for which it needs the runtime.
        let _inside = runtime.enter();
        let mut consumer: Option<Consumer> = None;
        while !stop.load(Ordering::Acquire) {
            let turned = match &consumer {
                Some(joined) => self.turn(runtime, joined),
                None => runtime.block_on(self.join()).map(|joined| consumer = Some(joined)),
            };
            if let Err(error) = turned {
                tracing::warn!(code = error.code, %error, "fleet worker: trying again");
                if let Some(joined) = consumer.take() {
                    // Quietly: what failed may be the very connection it needs.
                    let _ = runtime.block_on(joined.close());
                }
                thread::sleep(RETRY);
                self.start_over();
            }
        }
        if let Some(joined) = consumer {
            let last = self.take_uncommitted();
            let left = runtime.block_on(async {
                joined.commit(&last).await?;
                joined.close().await
            });
            if let Err(error) = left {
                tracing::warn!(%error, "leaving the group");
            }
        }
    }

    /// After a failure the handler knows of fixes and alerts that may not be stored. It is made anew
    /// from the store, or the repeat of these records would find nothing new in them.
    fn start_over(&mut self) {
        self.uncommitted.clear();
        self.placed.clear();
        match restored(&self.parts, &mut self.store, &self.group) {
            Ok(handler) => self.handler = handler,
            Err(error) => tracing::warn!(code = error.code, %error, "fleet worker: restoring"),
        }
    }

    async fn join(&mut self) -> Outcome<Consumer> {
        let failed = |error: weir_client::ClientError| {
            UserError::new(error.code(), "cannot join the group of the fleet worker").why(error)
        };
        let admin = Admin::new(Arc::clone(&self.parts.client));
        let topic = admin.describe_topic(TOPIC).await.map_err(failed)?;
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
    /// copy of it says. Returns them: what this poll brought of them came from another position.
    fn place(&mut self, consumer: &Consumer) -> Outcome<Vec<TopicPartition>> {
        let assigned = consumer.assignment();
        let new: Vec<_> =
            assigned.iter().filter(|partition| !self.placed.contains(partition)).cloned().collect();
        if !new.is_empty() {
            let stored = self.store.offsets(&self.group, TOPIC).map_err(storage)?;
            for partition in &new {
                let number = partition.partition;
                let known = next_of(&stored, number).or_else(|| self.starts.get(&number).copied());
                consumer.seek(partition, known.unwrap_or(Offset(0))).map_err(|error| {
                    UserError::new(error.code(), "cannot set the position").why(error)
                })?;
            }
        }
        self.placed = assigned;
        Ok(new)
    }

    /// One poll: handle, store, publish alerts, commit. In this order, so that a crash anywhere
    /// repeats work that is recognised as a repeat, and skips none.
    fn turn(&mut self, runtime: &Handle, consumer: &Consumer) -> Outcome {
        let failed = |error: weir_client::ClientError| {
            UserError::new(error.code(), "cannot read drone-events").why(error)
        };
        let mut records = match runtime.block_on(consumer.poll(POLL)) {
            Ok(records) => records,
            Err(ClientError::CorruptBatch { topic, partition, offset, next, reason }) => {
                let place = TopicPartition::new(&topic, partition);
                if !self.placed.contains(&place) {
                    // Met at Kafka's copy of the position; the store's decides.
                    return self.place(consumer).map(drop);
                }
                return self.meet_damage(
                    runtime,
                    consumer,
                    &Damage { place, offset, next, reason },
                );
            }
            Err(error) => return Err(failed(error)),
        };
        let moved = self.place(consumer)?;
        records.retain(|record| moved.iter().all(|new| new.partition != record.partition));
        if !records.is_empty() {
            let next = self.handle(&records)?;
            self.uncommitted.extend(next);
        }
        self.publish_alerts(runtime)?;
        if !self.uncommitted.is_empty() && self.committed_at.elapsed() >= self.commit_interval {
            self.committed_at = now();
            consumer.commit_async(self.take_uncommitted());
        }
        self.clean()
    }

    /// Reads a damaged batch again, and goes past it once it is sure that it stays damaged: one batch
    /// must not end the work on all that follow. What is lost is said in the log, in a metric and on
    /// system-events.
    fn meet_damage(&mut self, runtime: &Handle, consumer: &Consumer, damage: &Damage) -> Outcome {
        let Damage { place, offset, next, reason } = damage;
        let failed = |error: ClientError| {
            UserError::new(error.code(), "cannot go past a damaged batch").why(error)
        };
        let met = self.damage_met.entry((place.partition, *offset)).or_default();
        *met += 1;
        let attempt = *met;
        tracing::error!(
            code = DAMAGED, topic = %place.topic, partition = %place.partition, %offset, attempt,
            %reason, "fleet worker: the batch is damaged"
        );
        if attempt < DAMAGE_SURE {
            return consumer.seek(place, *offset).map_err(failed);
        }
        self.damage_met.clear();
        // The end its header gives may be damaged too: not back, and not past the end of the log.
        let admin = Admin::new(Arc::clone(&self.parts.client));
        let asked = [(place.clone(), OffsetSpec::Latest)];
        let ends = runtime.block_on(admin.list_offsets(&asked)).map_err(failed)?;
        let end = ends.into_iter().find_map(|(_, end)| end).unwrap_or(offset.next());
        let resume = next.unwrap_or(offset.next()).min(end).max(offset.next());
        tracing::error!(
            code = DAMAGED, topic = %place.topic, partition = %place.partition,
            from = %offset, until = %resume, "fleet worker: records are skipped, they cannot be read"
        );
        self.parts.ingest.metrics().count_damaged();
        let offsets = [ConsumedOffset { partition: place.partition, next: resume }];
        let commit = Commit {
            group: &self.group,
            topic: TOPIC,
            offsets: &offsets,
            points: &[],
            alerts: &[],
        };
        self.store.commit(&commit).map_err(storage)?;
        self.uncommitted.insert(place.partition, resume);
        consumer.seek(place, resume).map_err(failed)?;
        let event = damage_event(damage, resume, self.parts.clock.now());
        if let EventOutcome::Rejected(rejection) =
            runtime.block_on(self.parts.ingest.accept_one(event))
        {
            let (code, message) = (rejection.code, rejection.message);
            tracing::error!(code, %message, "the damage could not be told on system-events");
        }
        Ok(())
    }

    /// Deletes points that are older than the retention, once in a while.
    fn clean(&mut self) -> Outcome {
        if self.cleaned_at.is_some_and(|at| at.elapsed() < CLEAN_INTERVAL) {
            return Ok(());
        }
        self.cleaned_at = Some(now());
        let before =
            self.parts.clock.now().plus_ms(-i64::try_from(self.retention_ms).unwrap_or(i64::MAX));
        let deleted = self.store.delete_before(before).map_err(storage)?;
        if deleted > 0 {
            tracing::info!(deleted, "old points of trajectories are deleted");
        }
        Ok(())
    }

    fn take_uncommitted(&mut self) -> Vec<PartitionOffset> {
        std::mem::take(&mut self.uncommitted)
            .into_iter()
            .map(|(partition, offset)| PartitionOffset {
                partition: TopicPartition::new(TOPIC, partition),
                offset,
            })
            .collect()
    }

    /// Runs the handler over the records and stores what comes of it. Returns the next offsets.
    fn handle(&mut self, records: &[ConsumedRecord]) -> Outcome<BTreeMap<PartitionId, Offset>> {
        let started = now();
        let mut effects = Vec::with_capacity(records.len() * 2);
        let mut next = BTreeMap::new();
        let mut types: BTreeMap<String, u32> = BTreeMap::new();
        for record in records {
            next.insert(record.partition, Offset(record.offset.get() + 1));
            match self.handle_one(record, &mut effects) {
                Some(event_type) => *types.entry(event_type).or_default() += 1,
                None => self.skip(record),
            }
        }
        let (points, alerts) = self.show_effects(effects, records);
        let offsets: Vec<ConsumedOffset> = next
            .iter()
            .map(|(partition, offset)| ConsumedOffset { partition: *partition, next: *offset })
            .collect();
        let commit = Commit {
            group: &self.group,
            topic: TOPIC,
            offsets: &offsets,
            points: &points,
            alerts: &alerts,
        };
        self.store.commit(&commit).map_err(storage)?;
        let mean_seconds = started.elapsed().as_secs_f64() / records.len() as f64;
        for (event_type, count) in types {
            for _ in 0..count {
                self.parts.ingest.metrics().observe_processing(TOPIC, &event_type, mean_seconds);
            }
        }
        Ok(next)
    }

    /// `None`: the record is no event of a known shape. Anybody may write to the topic.
    fn handle_one(&mut self, record: &ConsumedRecord, effects: &mut Vec<Effect>) -> Option<String> {
        let event = Event::parse(record.value.as_deref()?).ok()?;
        let checked = validate(&event.event_type, event.data.get()).ok()?;
        let trace_id = record.header(HEADER_TRACE_ID).and_then(|id| std::str::from_utf8(id).ok());
        tracing::debug!(
            "Consumed message, trace_id={}, offset={}",
            trace_id.unwrap_or("-"),
            record.offset
        );
        let at = event.timestamp.unwrap_or(record.timestamp);
        let place = RecordRef { partition: record.partition, offset: record.offset };
        self.handler.handle_event(&checked, at, record.timestamp, place, effects);
        if event.event_type != "drone.location.updated" && event.event_type != "drone.heartbeat" {
            self.parts.hub.event(DeviceEvent {
                device: event.key().into_owned(),
                event_type: event.event_type.to_string(),
                topic: TOPIC.to_owned(),
                partition: record.partition.get(),
                offset: record.offset.get(),
                at_ms: at.get(),
                summary: String::new(),
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

    /// Sends the alerts that the store has and Kafka has not. Their ids are the same each time.
    fn publish_alerts(&mut self, runtime: &Handle) -> Outcome {
        let waiting = self.store.unpublished().map_err(storage)?;
        if waiting.is_empty() {
            return Ok(());
        }
        let mut published = Vec::with_capacity(waiting.len());
        for change in waiting {
            let outcome = runtime.block_on(self.parts.ingest.accept_one(change.to_event_json()));
            match outcome {
                EventOutcome::Accepted(_) | EventOutcome::Duplicate(_) => published.push(change),
                EventOutcome::Rejected(rejection) if rejection.retry_after_ms.is_some() => break,
                EventOutcome::Rejected(rejection) => {
                    tracing::error!(code = rejection.code, message = %rejection.message, "alert refused");
                    published.push(change);
                }
            }
        }
        self.store.mark_published(&published).map_err(storage)
    }
}

/// A handler that knows what the store knows, and the map with it.
fn restored(
    parts: &WorkerParts,
    store: &mut TrajectoryStore,
    group: &str,
) -> Outcome<LocationHandler> {
    let mut handler = LocationHandler::new(Arc::clone(&parts.zones));
    let not_after = parts.clock.now().plus_ms(AHEAD_MS_MAX);
    let orphaned = handler.restore(
        store.last_points(not_after).map_err(storage)?,
        store.open_alerts().map_err(storage)?,
    );
    let clear = Commit { group, topic: TOPIC, offsets: &[], points: &[], alerts: &orphaned };
    store.commit(&clear).map_err(storage)?;
    for live in handler.live().iter() {
        show(&parts.hub, live, None);
    }
    Ok(handler)
}

fn damage_event(damage: &Damage, resume: Offset, now: TimestampMs) -> String {
    let Damage { place, offset, reason, .. } = damage;
    let data = serde_json::json!({
        "service": "weir",
        "status": "degraded",
        "code": DAMAGED,
        "reason": format!(
            "records {offset} to {resume} (exclusive) of {}-{} cannot be read and were skipped: {reason}",
            place.topic, place.partition
        ),
    });
    serde_json::json!({
        "id": format!("damaged-{}-{}-{offset}", place.topic, place.partition),
        "type": "system.health", "source": "weir", "timestamp": format_rfc3339(now), "data": data,
    })
    .to_string()
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

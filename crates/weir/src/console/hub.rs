//! What the console shows, held once and shared by all who look.
//!
//! Writers (the worker's consumers, the gateway, a sampler once a second) call the methods of
//! [`ConsoleHub`] from any thread; none of them waits for a reader. Readers take what is newer
//! than what they have ([`Cursor`]). Each section is serialised once per change, however many
//! consoles are open. Everything is bounded: 100,000 devices, [`ALERTS_MAX`] alerts,
//! [`TASKS_MAX`] tasks, [`HISTORY_MAX`] samples.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{Message, Utf8Bytes};
use serde::Serialize;
use serde_json::{json, Value};
use tokio::sync::Notify;

use super::fleet::{Fix, Fleet, Slot};

/// Alerts kept; the oldest goes first.
pub(crate) const ALERTS_MAX: usize = 200;
/// Tasks kept; the one least recently heard of goes first.
pub(crate) const TASKS_MAX: usize = 500;
/// Samples of the overview kept: five minutes at one a second.
pub(crate) const HISTORY_MAX: usize = 300;

/// Bytes kept of a text that an event brought. The list a text is in is held in memory and sent whole
/// to every console at each change; an event may have a megabyte of it.
pub(crate) const TEXT_BYTES_MAX: usize = 512;

/// Milliseconds since 1970, from the clock of the process that owns the hub.
pub(crate) type Now = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Points of a topic's or group's line, and what lies between them: five minutes.
const LINE_POINTS: usize = 60;
const LINE_STEP_MS: i64 = 5_000;
/// Topics or groups that have a line; a cluster may have thousands.
const LINES_MAX: usize = 256;

/// A quiet connection says that it lives at least this often.
const BEAT_MS: i64 = 1_000;
/// Changed sections wait for their pace; this is how often a quiet connection looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// One position of one device, as the fleet layer read it from the topic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position<'a> {
    /// Record key: the device's id as text.
    pub(crate) device: &'a str,
    /// Degrees, WGS84.
    pub(crate) lat: f64,
    /// Degrees, WGS84.
    pub(crate) lon: f64,
    /// Metres above take-off or sea level, as the device says it.
    pub(crate) alt_m: Option<f64>,
    /// Degrees clockwise from north.
    pub(crate) heading_deg: Option<f64>,
    /// Metres per second over ground.
    pub(crate) speed_mps: Option<f64>,
    /// 0 to 100, if the device has a battery that it knows.
    pub(crate) battery_percent: Option<f64>,
    /// The device's own word: `flying`, `returning`, `idle`.
    pub(crate) status: &'a str,
    /// When the device took the fix.
    pub(crate) timestamp_ms: i64,
    /// When Kafka got it. Decides how old the position is shown to be; `None` = now.
    pub(crate) append_ms: Option<i64>,
}

/// One event of one device, for the list in its panel.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DeviceEvent {
    /// Record key: the device's id as text.
    pub(crate) device: String,
    /// `drone.location.updated`
    pub(crate) event_type: String,
    /// Where it lies.
    pub(crate) topic: String,
    /// Where it lies.
    pub(crate) partition: i32,
    /// Where it lies.
    pub(crate) offset: i64,
    /// When it happened.
    pub(crate) at_ms: i64,
    /// A few words for a person, or empty.
    pub(crate) summary: String,
}

/// How bad an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// Good to know.
    Info,
    /// Somebody should look.
    Warning,
    /// Somebody must act.
    Critical,
}

impl Level {
    /// Reads the `level` of an alert event. An unknown word is a warning: it was worth an alert.
    pub(crate) fn of(text: &str) -> Self {
        match text {
            "info" | "information" | "notice" => Self::Info,
            "critical" | "error" | "emergency" | "fatal" => Self::Critical,
            _ => Self::Warning,
        }
    }
}

/// One alert, raised or cleared. The same `id` again replaces it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Alert {
    /// `alert_id` as text.
    pub(crate) id: String,
    /// `battery_low`, `no_fly_zone`; the console has words for the kinds it knows.
    pub(crate) kind: String,
    /// How bad.
    pub(crate) level: Level,
    /// As the event says it.
    pub(crate) message: String,
    /// In English, if the one who raised it knows both languages.
    pub(crate) message_en: Option<String>,
    /// In Chinese, likewise.
    pub(crate) message_zh: Option<String>,
    /// The device concerned.
    pub(crate) device: Option<String>,
    /// What weir does about it by itself: `return_to_base`.
    pub(crate) auto_action: Option<String>,
    /// When it was raised.
    pub(crate) at_ms: i64,
    /// When it was cleared; `None` = it still holds.
    pub(crate) cleared_ms: Option<i64>,
}

impl Alert {
    /// With no text longer than [`TEXT_BYTES_MAX`].
    pub(crate) fn shortened(mut self) -> Self {
        for text in [&mut self.id, &mut self.kind, &mut self.message] {
            shorten(text);
        }
        let optional =
            [&mut self.message_en, &mut self.message_zh, &mut self.device, &mut self.auto_action];
        optional.into_iter().flatten().for_each(shorten);
        self
    }
}

/// One task. The same `id` again replaces it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Task {
    /// `task_id` as text.
    pub(crate) id: String,
    /// The device that does it.
    pub(crate) device: String,
    /// 0 to 100.
    pub(crate) progress_percent: f64,
    /// As the event says it.
    pub(crate) current_step: String,
    /// When it should be done.
    pub(crate) estimated_completion_ms: Option<i64>,
    /// When it was last heard of.
    pub(crate) at_ms: i64,
}

/// State of the circuit breaker before Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Breaker {
    /// Kafka answers.
    Closed,
    /// Kafka is away; nothing is sent.
    Open,
    /// Trying again.
    HalfOpen,
}

/// One priority class of the traffic manager.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Lane {
    /// `urgent`, `high`, `normal`, `low`, most urgent first.
    pub(crate) name: String,
    /// Events waiting.
    pub(crate) depth: u64,
    /// Bytes waiting.
    pub(crate) bytes: u64,
    /// How long the oldest has waited; `None` = nothing waits.
    pub(crate) oldest_ms: Option<f64>,
}

/// The state of the whole, sampled once a second.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Overview {
    /// Events accepted from devices, per second.
    pub(crate) in_per_s: f64,
    /// Events acknowledged by Kafka, per second.
    pub(crate) out_per_s: f64,
    /// From admission to Kafka's answer over the last seconds; `None` = nothing was measured.
    pub(crate) p50_ms: Option<f64>,
    /// Likewise.
    pub(crate) p99_ms: Option<f64>,
    /// Likewise.
    pub(crate) p999_ms: Option<f64>,
    /// Most urgent first.
    pub(crate) lanes: Vec<Lane>,
    /// Events accepted since the start.
    pub(crate) accepted: u64,
    /// Events given up since the start.
    pub(crate) dropped: u64,
    /// Events in the spool now.
    pub(crate) spilled: u64,
    /// Whether Kafka is there.
    pub(crate) breaker: Breaker,
}

/// Which Kafka stands behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// weir's own broker, one node.
    Embedded,
    /// Apache Kafka.
    Cluster,
}

/// What does not change while weir runs, or only with its configuration.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct About {
    /// `0.1.0`
    pub(crate) version: String,
    /// Which Kafka stands behind.
    pub(crate) mode: Mode,
    /// `host:port` of the brokers.
    pub(crate) brokers: Vec<String>,
    /// Base address of the gateway, `http://127.0.0.1:8084`, used in the commands shown.
    pub(crate) gateway: String,
    /// False if `durability: relaxed` was asked for: acks=all is then answered before the disk.
    pub(crate) durable: bool,
    /// Data directory of the embedded broker.
    pub(crate) data_dir: Option<String>,
    /// The configured rate limit; `None` = downstream sets the pace.
    pub(crate) rate_max_per_s: Option<f64>,
    /// Events a lane holds.
    pub(crate) lane_events_max: u64,
    /// False if the gateway can be reached from other machines.
    pub(crate) loopback_only: bool,
}

/// One topic.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TopicRow {
    /// Its name.
    pub(crate) name: String,
    /// Records in each partition, by partition number.
    pub(crate) partition_records: Vec<u64>,
    /// Bytes on disk.
    pub(crate) bytes: u64,
    /// Records appended per second.
    pub(crate) per_s: f64,
    /// How long records are kept; `None` = for ever.
    pub(crate) retention_ms: Option<i64>,
}

/// Where a group's lag is going.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Trend {
    /// The lag shrinks.
    Gaining,
    /// It stays.
    Steady,
    /// It grows.
    Losing,
}

/// One consumer group.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct GroupRow {
    /// Its id.
    pub(crate) name: String,
    /// Kafka's word: `Stable`, `Empty`, `PreparingRebalance`.
    pub(crate) state: String,
    /// Members now.
    pub(crate) members: u32,
    /// Records behind, all partitions.
    pub(crate) lag: u64,
    /// Age of the oldest record not yet committed; `None` = not known.
    pub(crate) lag_ms: Option<i64>,
    /// Where the lag is going.
    pub(crate) trend: Trend,
}

/// A part of weir that can be on or off, and what turns it on. Pages name the layer they need.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Layer {
    /// `traffic`, `fleet`, `kafka`; later `patterns`, `streams`.
    pub(crate) id: String,
    /// Whether it runs in this process.
    pub(crate) on: bool,
    /// The command or the lines of weir.yaml that turn it on.
    pub(crate) turn_on: String,
}

/// One second of the past, for the lines.
#[derive(Debug, Clone, Copy, Serialize)]
struct Sample {
    at_ms: i64,
    in_per_s: f64,
    out_per_s: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    p999_ms: Option<f64>,
    waiting: u64,
}

/// The last five minutes of something that has a name: topics' rates, groups' lags.
#[derive(Debug, Default)]
struct Lines {
    by_name: BTreeMap<String, VecDeque<f64>>,
    pushed_ms: i64,
}

impl Lines {
    fn push<'a>(&mut self, now_ms: i64, values: impl Iterator<Item = (&'a str, f64)>) {
        let next = (now_ms - self.pushed_ms).abs() >= LINE_STEP_MS;
        if next {
            self.pushed_ms = now_ms;
        }
        let mut old = std::mem::take(&mut self.by_name);
        // What is gone loses its line.
        for (name, value) in values.take(LINES_MAX) {
            let mut line = old.remove(name).unwrap_or_default();
            if !next {
                line.pop_back();
            } else if line.len() == LINE_POINTS {
                line.pop_front();
            }
            line.push_back(value);
            self.by_name.insert(name.to_owned(), line);
        }
    }
}

/// The parts of the state that travel as JSON, each on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    About,
    Layers,
    Statuses,
    Zones,
    Overview,
    Alerts,
    Tasks,
    Topics,
    Groups,
}

impl Section {
    /// In the order in which a new console needs them.
    const ALL: [Self; 9] = [
        Self::About,
        Self::Layers,
        Self::Statuses,
        Self::Zones,
        Self::Overview,
        Self::Alerts,
        Self::Tasks,
        Self::Topics,
        Self::Groups,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::About => "about",
            Self::Layers => "layers",
            Self::Statuses => "statuses",
            Self::Zones => "zones",
            Self::Overview => "overview",
            Self::Alerts => "alerts",
            Self::Tasks => "tasks",
            Self::Topics => "topics",
            Self::Groups => "groups",
        }
    }

    /// A section is sent at most this often. Statuses name numbers in the next positions frame.
    const fn pace_ms(self) -> i64 {
        match self {
            Self::Statuses => 0,
            Self::Alerts => 200,
            _ => 900,
        }
    }
}

/// What one console has seen.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    version: u64,
    positions: u64,
    sections: [Sent; Section::ALL.len()],
    /// `None` before the first frame.
    spoke_ms: Option<i64>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Sent {
    version: u64,
    at_ms: i64,
}

/// The state of the console; cheap to clone.
#[derive(Clone)]
pub(crate) struct ConsoleHub {
    shared: Arc<Shared>,
}

struct Shared {
    now: Now,
    /// Grows with every change of anything.
    version: AtomicU64,
    changed: Notify,
    clients: AtomicUsize,
    fleet: Mutex<Fleet>,
    board: Mutex<Board>,
}

struct Board {
    about: Option<About>,
    layers: Vec<Layer>,
    zones: Value,
    overview: Option<Overview>,
    history: VecDeque<Sample>,
    /// Newest first.
    alerts: VecDeque<Alert>,
    /// Last heard of first.
    tasks: VecDeque<Task>,
    topics: Vec<TopicRow>,
    groups: Vec<GroupRow>,
    topic_rates: Lines,
    group_lags: Lines,
    statuses: Vec<String>,
    sections: [Held; Section::ALL.len()],
}

/// One section's version and its frame, serialised when first asked for.
#[derive(Debug, Default, Clone)]
struct Held {
    version: u64,
    at_ms: i64,
    frame: Option<Utf8Bytes>,
}

/// The place of one open console among `clients_max`; given back on drop.
pub(super) struct Seat {
    shared: Arc<Shared>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for ConsoleHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsoleHub").field("version", &self.shared.version).finish_non_exhaustive()
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").finish_non_exhaustive()
    }
}

/// Writers.
impl ConsoleHub {
    /// An empty console that tells the time by `now`.
    pub(crate) fn new(now: Now) -> Self {
        let board = Board {
            about: None,
            layers: Vec::new(),
            zones: json!({ "type": "FeatureCollection", "features": [] }),
            overview: None,
            history: VecDeque::with_capacity(HISTORY_MAX),
            alerts: VecDeque::new(),
            tasks: VecDeque::new(),
            topics: Vec::new(),
            groups: Vec::new(),
            topic_rates: Lines::default(),
            group_lags: Lines::default(),
            statuses: Vec::new(),
            sections: Default::default(),
        };
        let shared = Shared {
            now,
            version: AtomicU64::new(0),
            changed: Notify::new(),
            clients: AtomicUsize::new(0),
            fleet: Mutex::new(Fleet::new()),
            board: Mutex::new(board),
        };
        Self { shared: Arc::new(shared) }
    }

    /// What runs here; again when the configuration was reloaded.
    pub(crate) fn about(&self, about: About) {
        self.change(Section::About, |board| board.about = Some(about));
    }

    /// Which layers run.
    pub(crate) fn layers(&self, layers: Vec<Layer>) {
        self.change(Section::Layers, |board| board.layers = layers);
    }

    /// The zones as a GeoJSON FeatureCollection. Properties read by the map: `name` (text or
    /// `{zh, en}`), `kind`, `severity`, `lower_m`, `upper_m`.
    pub(crate) fn zones(&self, geojson: Value) {
        self.change(Section::Zones, |board| board.zones = geojson);
    }

    /// Takes a position. Only the last one of a device is kept.
    pub(crate) fn position(&self, position: Position<'_>) {
        let now_ms = (self.shared.now)();
        let position = Position { status: start_of(position.status), ..position };
        let grown = {
            let mut fleet = lock(&self.shared.fleet);
            // Under the lock, so that a reader who holds it has seen every version given out.
            let version = self.next_version();
            let grown = fleet.position(&position, version, now_ms);
            grown.then(|| fleet.statuses().to_vec())
        };
        match grown {
            Some(statuses) => self.change(Section::Statuses, |board| board.statuses = statuses),
            None => self.shared.changed.notify_waiters(),
        }
    }

    /// Takes an event of a device, for the list in its panel.
    pub(crate) fn event(&self, mut event: DeviceEvent) {
        for text in [&mut event.event_type, &mut event.topic, &mut event.summary] {
            shorten(text);
        }
        lock(&self.shared.fleet).event(event);
    }

    /// Takes an alert, raised or cleared.
    pub(crate) fn alert(&self, alert: Alert) {
        let alert = alert.shortened();
        self.change(Section::Alerts, |board| {
            upsert(&mut board.alerts, alert, ALERTS_MAX, |held| &held.id);
        });
    }

    /// Takes the state of a task.
    pub(crate) fn task(&self, mut task: Task) {
        for text in [&mut task.id, &mut task.device, &mut task.current_step] {
            shorten(text);
        }
        self.change(Section::Tasks, |board| {
            // A task moves to the front each time it is heard of.
            board.tasks.retain(|held| held.id != task.id);
            upsert(&mut board.tasks, task, TASKS_MAX, |held| &held.id);
        });
    }

    /// Takes the sample of this second.
    pub(crate) fn overview(&self, overview: Overview) {
        let sample = Sample {
            at_ms: (self.shared.now)(),
            in_per_s: overview.in_per_s,
            out_per_s: overview.out_per_s,
            p50_ms: overview.p50_ms,
            p99_ms: overview.p99_ms,
            p999_ms: overview.p999_ms,
            waiting: overview.lanes.iter().map(|lane| lane.depth).sum(),
        };
        self.change(Section::Overview, |board| {
            board.overview = Some(overview);
            if board.history.len() == HISTORY_MAX {
                board.history.pop_front();
            }
            board.history.push_back(sample);
        });
    }

    /// All topics.
    pub(crate) fn topics(&self, topics: Vec<TopicRow>) {
        let now_ms = (self.shared.now)();
        self.change(Section::Topics, |board| {
            let rates = topics.iter().map(|row| (row.name.as_str(), row.per_s));
            board.topic_rates.push(now_ms, rates);
            board.topics = topics;
        });
    }

    /// All groups.
    pub(crate) fn groups(&self, groups: Vec<GroupRow>) {
        let now_ms = (self.shared.now)();
        self.change(Section::Groups, |board| {
            let lags = groups.iter().map(|row| (row.name.as_str(), row.lag as f64));
            board.group_lags.push(now_ms, lags);
            board.groups = groups;
        });
    }

    fn change(&self, section: Section, set: impl FnOnce(&mut Board)) {
        let at_ms = (self.shared.now)();
        {
            let mut board = lock(&self.shared.board);
            set(&mut board);
            let version = self.next_version();
            board.sections[section as usize] = Held { version, at_ms, frame: None };
        }
        self.shared.changed.notify_waiters();
    }

    fn next_version(&self) -> u64 {
        self.shared.version.fetch_add(1, Ordering::AcqRel) + 1
    }
}

/// Readers.
impl ConsoleHub {
    /// A place for one more console, if there is one.
    pub(super) fn take_seat(&self, clients_max: usize) -> Option<Seat> {
        let clients = &self.shared.clients;
        let free = |taken: usize| (taken < clients_max).then_some(taken + 1);
        clients.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok()?;
        Some(Seat { shared: Arc::clone(&self.shared) })
    }

    /// Returns when there may be something newer than `cursor`, at the latest after
    /// [`LOOK_AGAIN`].
    pub(super) async fn changed(&self, cursor: &Cursor) {
        let notified = self.shared.changed.notified();
        tokio::pin!(notified);
        // Registered before looking, so that a change in between is not missed.
        notified.as_mut().enable();
        if self.shared.version.load(Ordering::Acquire) > cursor.version {
            return;
        }
        let _ = tokio::time::timeout(LOOK_AGAIN, notified).await;
    }

    /// Everything newer than `cursor` whose pace allows it, and moves the cursor. Positions only
    /// with `positions`; they are no older for having waited.
    pub(super) fn news(&self, cursor: &mut Cursor, positions: bool) -> Vec<Message> {
        let now_ms = (self.shared.now)();
        cursor.version = self.shared.version.load(Ordering::Acquire);
        let mut news = Vec::new();
        let first = cursor.spoke_ms.is_none();
        if first {
            news.push(self.hello(now_ms));
        }
        self.section_news(cursor, now_ms, &mut news);
        if positions {
            news.extend(self.position_news(cursor, now_ms));
        }
        if first {
            // After the positions, which name the devices.
            let trails = lock(&self.shared.fleet).trails(now_ms);
            news.extend(trails.map(|frame| Message::Binary(Bytes::from(frame))));
        }

        let quiet = cursor.spoke_ms.is_none_or(|at| (now_ms - at).abs() >= BEAT_MS);
        if news.is_empty() && quiet {
            news.push(text(json!({ "kind": "beat", "now_ms": now_ms }).to_string()));
        }
        if !news.is_empty() {
            cursor.spoke_ms = Some(now_ms);
        }
        news
    }

    fn hello(&self, now_ms: i64) -> Message {
        let board = lock(&self.shared.board);
        let hello = json!({
            "kind": "hello", "now_ms": now_ms, "history": board.history,
            "topic_rates": board.topic_rates.by_name, "group_lags": board.group_lags.by_name,
        });
        text(hello.to_string())
    }

    fn section_news(&self, cursor: &mut Cursor, now_ms: i64, news: &mut Vec<Message>) {
        let mut board = lock(&self.shared.board);
        for section in Section::ALL {
            let sent = &mut cursor.sections[section as usize];
            // A clock set back must not silence a section.
            let paced = sent.version == 0 || (now_ms - sent.at_ms).abs() >= section.pace_ms();
            let version = board.sections[section as usize].version;
            if version > sent.version && paced {
                news.push(Message::Text(board.frame(section)));
                *sent = Sent { version, at_ms: now_ms };
            }
        }
    }

    fn position_news(&self, cursor: &mut Cursor, now_ms: i64) -> Option<Message> {
        let fleet = lock(&self.shared.fleet);
        let reached = self.shared.version.load(Ordering::Acquire);
        let frame = fleet.frame(cursor.positions, now_ms)?;
        cursor.positions = reached;
        Some(Message::Binary(Bytes::from(frame)))
    }

    /// Everything, for `/api/state`.
    pub(super) fn state_json(&self, devices_max: usize) -> String {
        let (devices, total, refused) = {
            let fleet = lock(&self.shared.fleet);
            let shown = fleet.slots().iter().take(devices_max);
            let devices: Vec<Value> = shown.map(|slot| device_value(&fleet, slot)).collect();
            (devices, fleet.slots().len(), fleet.refused)
        };
        let board = lock(&self.shared.board);
        let mut state = serde_json::Map::new();
        state.insert("now_ms".to_owned(), json!((self.shared.now)()));
        for section in Section::ALL {
            state.insert(section.name().to_owned(), board.value(section));
        }
        state.insert("history".to_owned(), json!(board.history));
        state.insert("devices_total".to_owned(), json!(total));
        state.insert("positions_refused".to_owned(), json!(refused));
        state.insert("devices".to_owned(), Value::Array(devices));
        Value::Object(state).to_string()
    }

    /// One device with its last events, for `/api/device`.
    pub(super) fn device_json(&self, id: &str) -> Option<String> {
        let fleet = lock(&self.shared.fleet);
        let slot = fleet.get(id)?;
        let mut device = device_value(&fleet, slot);
        device["events"] = json!(slot.events);
        Some(device.to_string())
    }

    /// The layers, for `/api/layers`.
    pub(super) fn layers_json(&self) -> String {
        json!({ "layers": lock(&self.shared.board).layers }).to_string()
    }
}

impl Board {
    fn value(&self, section: Section) -> Value {
        match section {
            Section::About => json!(self.about),
            Section::Layers => json!(self.layers),
            Section::Statuses => json!(self.statuses),
            Section::Zones => self.zones.clone(),
            Section::Overview => json!(self.overview),
            Section::Alerts => json!(self.alerts),
            Section::Tasks => json!(self.tasks),
            Section::Topics => json!(self.topics),
            Section::Groups => json!(self.groups),
        }
    }

    fn frame(&mut self, section: Section) -> Utf8Bytes {
        let held = &self.sections[section as usize];
        if let Some(frame) = &held.frame {
            return frame.clone();
        }
        let at_ms = held.at_ms;
        let value = self.value(section);
        let frame = json!({ "kind": section.name(), "at_ms": at_ms, "data": value }).to_string();
        let frame = Utf8Bytes::from(frame);
        self.sections[section as usize].frame = Some(frame.clone());
        frame
    }
}

fn device_value(fleet: &Fleet, slot: &Slot) -> Value {
    let fix: &Fix = &slot.fix;
    json!({
        "device": slot.id, "lat": fix.lat, "lon": fix.lon, "alt_m": fix.alt_m,
        "heading_deg": fix.heading_deg, "speed_mps": fix.speed_mps,
        "battery_percent": fix.battery_percent, "status": fleet.status_name(fix),
        "timestamp_ms": fix.timestamp_ms, "append_ms": fix.append_ms,
    })
}

/// Replaces what has the same id, else puts `item` in front.
fn upsert<T>(held: &mut VecDeque<T>, item: T, items_max: usize, id: impl Fn(&T) -> &String) {
    match held.iter_mut().find(|old| id(old) == id(&item)) {
        Some(old) => *old = item,
        None => {
            held.push_front(item);
            held.truncate(items_max);
        }
    }
}

/// As much of a text as is kept.
fn start_of(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn shorten(text: &mut String) {
    let end = start_of(text).len();
    if end < text.len() {
        text.truncate(end);
        text.shrink_to_fit();
    }
}

fn text(json: String) -> Message {
    Message::Text(Utf8Bytes::from(json))
}

/// A writer that panicked left whole values behind, since each is set in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

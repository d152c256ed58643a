//! The console alone, over an invented fleet: for work on the page and for its browser test.
//!
//! `cargo run -p weir --example console_demo -- [port] [drones] [empty | outage | half-open]`

#[path = "../src/console/mod.rs"]
mod console;

#[path = "../src/http/mod.rs"]
#[allow(dead_code)] // Of the doors the console knows who may come in.
mod http;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use console::hub::{
    About, Alert, Breaker, ConsoleHub, DeviceEvent, GroupRow, Lane, Layer, Level, Mode, Overview,
    Position, Task, TopicRow, Trend,
};
use console::{router, ConsoleConfig};
use serde_json::json;

/// Battery Park, so that there is water, land and a coast to look at.
const BASE: (f64, f64) = (40.713, -74.006);
const STEP_MS: u64 = 500;
const METRES_PER_DEGREE: f64 = 111_320.0;

#[tokio::main]
async fn main() -> Result<(), std::io::Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, or: usize| {
        arguments.get(at).and_then(|text| text.parse::<usize>().ok()).unwrap_or(or)
    };
    let port = u16::try_from(number(0, 8090)).unwrap_or(8090);
    let hub = ConsoleHub::new(Arc::new(now_ms));
    let asked = |word: &str| arguments.iter().any(|argument| argument == word);
    let empty = asked("empty");
    let breaker = match (asked("outage"), asked("half-open")) {
        (true, _) => Breaker::Open,
        (_, true) => Breaker::HalfOpen,
        _ => Breaker::Closed,
    };
    // A broker of one's own does not go away alone.
    let mode = if breaker == Breaker::Closed { Mode::Embedded } else { Mode::Cluster };
    hub.about(about(port, mode));
    hub.layers(layers(!empty));
    if !empty {
        let drones = (0..number(1, 24)).map(Drone::new).collect();
        tokio::spawn(fly(hub.clone(), drones));
        tokio::spawn(sample(hub.clone(), breaker));
    }
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let listener = tokio::net::TcpListener::bind(address).await?;
    axum::serve(listener, router(hub, ConsoleConfig::default())).await
}

#[allow(clippy::disallowed_methods)]
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn about(port: u16, mode: Mode) -> About {
    About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        mode,
        brokers: vec!["127.0.0.1:9092".to_owned()],
        gateway: format!("http://127.0.0.1:{}", port - 6),
        durable: true,
        data_dir: Some("./weir-data".to_owned()),
        rate_max_per_s: None,
        lane_events_max: 10_000,
        loopback_only: true,
    }
}

fn layers(fleet_on: bool) -> Vec<Layer> {
    let layer = |id: &str, on: bool, turn_on: &str| Layer {
        id: id.to_owned(),
        on,
        turn_on: turn_on.to_owned(),
    };
    vec![layer("traffic", true, ""), layer("kafka", true, ""), layer("fleet", fleet_on, "weir up")]
}

#[derive(Debug)]
struct Drone {
    id: String,
    task: usize,
    centre: (f64, f64),
    radius_m: f64,
    phase: f64,
    battery: f64,
    alerted: bool,
    progress: f64,
}

impl Drone {
    /// Spread by the golden angle: even, and the same in every run.
    fn new(n: usize) -> Self {
        let turn = n as f64 * 2.399_963;
        let away_m = 420.0 * (n as f64).sqrt();
        Self {
            id: format!("drone-{}", n + 1),
            task: 100 + n,
            centre: moved(BASE, away_m * turn.sin(), away_m * turn.cos()),
            radius_m: 150.0 + 40.0 * (n % 7) as f64,
            phase: turn,
            battery: 24.0 + ((n * 37) % 76) as f64,
            alerted: false,
            progress: ((n * 29) % 100) as f64,
        }
    }

    fn step(&mut self) {
        let seconds = STEP_MS as f64 / 1000.0;
        if self.status() != "charging" {
            self.phase += seconds * 11.0 / self.radius_m;
        }
        self.battery = if self.battery < 12.0 { 100.0 } else { self.battery - seconds * 0.12 };
        self.progress = (self.progress + seconds * 0.4) % 100.5;
    }

    fn status(&self) -> &'static str {
        match self.battery {
            battery if battery < 20.0 => "returning",
            battery if battery > 96.0 => "charging",
            _ => "flying",
        }
    }

    fn place(&self) -> (f64, f64) {
        moved(self.centre, self.radius_m * self.phase.cos(), self.radius_m * self.phase.sin())
    }

    fn alt_m(&self) -> f64 {
        if self.status() == "charging" {
            0.0
        } else {
            80.0 + 30.0 * (self.phase * 0.7).sin()
        }
    }
}

fn moved(from: (f64, f64), north_m: f64, east_m: f64) -> (f64, f64) {
    let lat = from.0 + north_m / METRES_PER_DEGREE;
    let lon = from.1 + east_m / (METRES_PER_DEGREE * from.0.to_radians().cos());
    (lat, lon)
}

/// Every drone moves twice a second, each at its own moment, as devices do.
async fn fly(hub: ConsoleHub, mut drones: Vec<Drone>) {
    hub.zones(zones());
    let mut tick = tokio::time::interval(Duration::from_millis(STEP_MS / 10));
    for round in 0_i64.. {
        tick.tick().await;
        let part = usize::try_from(round % 10).unwrap_or(0);
        for drone in drones.iter_mut().skip(part).step_by(10) {
            drone.step();
            tell(&hub, drone, round);
        }
        if round == 40 {
            hub.alert(breach("drone-3"));
        }
    }
}

fn tell(hub: &ConsoleHub, drone: &mut Drone, round: i64) {
    let now = now_ms();
    let (lat, lon) = drone.place();
    let charging = drone.status() == "charging";
    hub.position(Position {
        device: &drone.id,
        lat,
        lon,
        alt_m: Some(drone.alt_m()),
        heading_deg: Some((drone.phase.to_degrees() + 90.0).rem_euclid(360.0)),
        speed_mps: Some(if charging { 0.0 } else { 11.0 }),
        battery_percent: Some(drone.battery),
        status: drone.status(),
        timestamp_ms: now - 3,
        append_ms: Some(now),
    });
    hub.event(DeviceEvent {
        device: drone.id.clone(),
        event_type: "drone.location.updated".to_owned(),
        topic: "drone-events".to_owned(),
        partition: 1,
        offset: round,
        at_ms: now,
        summary: String::new(),
    });
    if round % 40 < 10 && !charging {
        hub.task(task(drone, now));
    }
    let low = drone.battery < 20.0;
    if low != drone.alerted {
        drone.alerted = low;
        hub.alert(battery_low(&drone.id, now, (!low).then_some(now)));
    }
}

fn task(drone: &Drone, now: i64) -> Task {
    Task {
        id: drone.task.to_string(),
        device: drone.id.clone(),
        progress_percent: drone.progress.min(100.0),
        current_step: format!("巡检点位 {}", 1 + drone.progress as u32 / 12),
        estimated_completion_ms: Some(now + ((100.0 - drone.progress) * 2_500.0) as i64),
        at_ms: now,
    }
}

fn battery_low(device: &str, at_ms: i64, cleared_ms: Option<i64>) -> Alert {
    Alert {
        id: format!("battery-{device}"),
        kind: "battery_low".to_owned(),
        level: Level::of("warning"),
        message: "无人机电量低于20%".to_owned(),
        message_en: Some("battery below 20 %, returns to base".to_owned()),
        message_zh: Some("电量低于 20 %，正在返航".to_owned()),
        device: Some(device.to_owned()),
        auto_action: Some("return_to_base".to_owned()),
        at_ms,
        cleared_ms,
    }
}

fn breach(device: &str) -> Alert {
    Alert {
        id: "breach-1".to_owned(),
        kind: "no_fly_zone".to_owned(),
        level: Level::of("critical"),
        message: "entered City Hall, 0–300 m".to_owned(),
        message_en: Some("entered City Hall at 96 m (0–300 m)".to_owned()),
        message_zh: Some("进入禁飞区 City Hall，高度 96 米（0–300 米）".to_owned()),
        device: Some(device.to_owned()),
        auto_action: None,
        at_ms: now_ms(),
        cleared_ms: None,
    }
}

fn zones() -> serde_json::Value {
    let around = |centre: (f64, f64), radius_m: f64, corners: u32| -> Vec<[f64; 2]> {
        (0..=corners)
            .map(|n| {
                let turn = f64::from(n) / f64::from(corners) * std::f64::consts::TAU;
                let (lat, lon) = moved(centre, radius_m * turn.cos(), radius_m * turn.sin());
                [lon, lat]
            })
            .collect()
    };
    let zone = |name: &str, kind: &str, ceiling_m: f64, ring: Vec<[f64; 2]>| {
        json!({ "type": "Feature",
            "properties": { "name": name, "kind": kind, "lower_m": 0, "upper_m": ceiling_m },
            "geometry": { "type": "Polygon", "coordinates": [ring] } })
    };
    json!({ "type": "FeatureCollection", "features": [
        zone("City Hall", "no_fly", 300.0, around(moved(BASE, 500.0, 700.0), 380.0, 6)),
        zone("Heliport", "no_fly", 120.0, around(moved(BASE, -1_300.0, 300.0), 300.0, 40)),
        zone("Harbour works", "notice", 60.0, around(moved(BASE, -200.0, -1_500.0), 520.0, 4)),
    ]})
}

/// Once a second: figures that breathe, and one group that falls behind and catches up.
async fn sample(hub: ConsoleHub, breaker: Breaker) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut written = 4_200_000_f64;
    for second in 0_u32.. {
        tick.tick().await;
        let t = f64::from(second);
        let rate = 1_204.0 + 90.0 * (t * 0.21).sin() + 60.0 * (t * 1.7).sin();
        written += rate;
        hub.overview(overview(rate, t, written, breaker));
        hub.topics(topics(rate, written));
        hub.groups(groups(t));
    }
}

fn overview(rate: f64, t: f64, written: f64, breaker: Breaker) -> Overview {
    let wave = 1.0 + 0.4 * (t * 0.37).sin() + 0.2 * (t * 2.3).sin();
    let depth = |share: f64| (rate * share * wave / 100.0).max(0.0) as u64;
    let lane = |name: &str, depth: u64, oldest_ms: f64| Lane {
        name: name.to_owned(),
        depth,
        bytes: depth * 212,
        oldest_ms: (depth > 0).then_some(oldest_ms * wave),
    };
    let lanes = vec![
        lane("urgent", 0, 0.0),
        lane("high", depth(0.3), 1.1),
        lane("normal", depth(0.9), 2.8),
        lane("low", depth(0.0), 0.0),
    ];
    Overview {
        in_per_s: rate,
        out_per_s: rate - 6.0 + 9.0 * (t * 0.9).sin(),
        p50_ms: Some(0.41 * wave),
        p99_ms: Some(2.1 + 1.2 * wave),
        p999_ms: Some(4.0 + 2.4 * wave),
        lanes,
        accepted: written as u64,
        dropped: 0,
        spilled: 0,
        breaker,
    }
}

fn topics(rate: f64, written: f64) -> Vec<TopicRow> {
    const DAY_MS: i64 = 86_400_000;
    let row = |name: &str, share: f64, partitions: u64, days: Option<i64>| {
        let records = (written * share) as u64;
        TopicRow {
            name: name.to_owned(),
            partition_records: (0..partitions)
                .map(|n| records / partitions + records / 40 * (n * 5 % 7))
                .collect(),
            bytes: records * 231,
            per_s: rate * share,
            retention_ms: days.map(|days| days * DAY_MS),
        }
    };
    vec![
        row("iot-sensor-data", 0.71, 12, Some(7)),
        row("drone-events", 0.17, 3, Some(7)),
        row("monitoring-data", 0.06, 3, Some(1)),
        row("application-logs", 0.03, 3, Some(7)),
        row("task-events", 0.02, 3, Some(7)),
        row("alert-events", 0.004, 3, Some(7)),
        row("user-events", 0.003, 3, Some(7)),
        row("system-events", 0.003, 3, None),
    ]
}

fn groups(t: f64) -> Vec<GroupRow> {
    let behind = ((t * 0.05).sin() * 9_000.0).max(0.0);
    let trend = match (t * 0.05).cos() {
        _ if behind < 1.0 => Trend::Steady,
        slope if slope > 0.0 => Trend::Losing,
        _ => Trend::Gaining,
    };
    let row = |name: &str, members: u32, lag_ms: f64, trend: Trend| GroupRow {
        name: name.to_owned(),
        state: if members == 0 { "Empty" } else { "Stable" }.to_owned(),
        members,
        lag: (lag_ms * 0.2) as u64,
        lag_ms: Some(lag_ms as i64),
        trend,
    };
    vec![
        row("weir-locations", 1, 12.0, Trend::Steady),
        row("weir-trajectories", 1, 40.0, Trend::Steady),
        row("weir-tasks", 1, 0.0, Trend::Steady),
        row("billing", 2, behind, trend),
        row("audit-2024", 0, 0.0, Trend::Steady),
    ]
}

//! What happens around the drones: sensors, operators, services, metrics, logs.

use weir_client::event::Priority;

use super::drone::Drone;
use super::write::{Head, Writer};
use super::TICK_MS;
use crate::random::Random;
use crate::sensor::{Sensor, SensorKind};

/// Each sensor reads every 3 s (spec 004), staggered over as many ticks.
const SENSOR_TICKS: u64 = 3_000 / TICK_MS as u64;
const METRIC_TICKS: u64 = 10;
const LOG_TICKS: u64 = 7;
const HEALTH_TICKS: u64 = 30;

/// Two buildings of two floors of two rooms, each with the five sensors: 40.
const BUILDINGS: [&str; 2] = ["A", "B"];
const FLOORS: u32 = 2;
const ROOMS: u32 = 2;

const OPERATORS: [(&str, &str); 5] = [
    ("王芳", "前海指挥中心"),
    ("李伟", "前海指挥中心"),
    ("陈静", "后海基地"),
    ("Maria Keller", "福田基地"),
    ("张磊", "福田基地"),
];

const LOGS: [(&str, &str, &str); 8] = [
    ("info", "mission plan accepted", "task-service"),
    ("info", "video stream opened", "media-service"),
    ("info", "telemetry batch stored", "trajectory-service"),
    ("info", "route recalculated for wind", "drone-control-service"),
    ("warn", "radio link below -90 dBm, switching channel", "drone-control-service"),
    ("info", "firmware check passed", "device-service"),
    ("warn", "map tile cache miss rate above 5 percent", "media-service"),
    ("error", "weather provider timed out, retrying", "weather-service"),
];

const SERVICES: [&str; 3] = ["drone-control-service", "task-service", "monitoring-service"];

#[derive(Debug)]
pub(super) struct Backdrop {
    sensors: Vec<Device>,
    operators: Vec<Operator>,
    random: Random,
    ticks: u64,
}

#[derive(Debug)]
struct Device {
    key: String,
    /// Building, floor and room as JSON.
    place: String,
    sensor: Sensor,
}

#[derive(Debug)]
struct Operator {
    key: String,
    name: &'static str,
    station: &'static str,
    signed_in: bool,
    /// Ticks until it signs in or out.
    wait: u64,
    random: Random,
}

impl Backdrop {
    /// Streams from here on are those of the backdrop; drones have the lower numbers.
    const STREAM: u64 = 1 << 32;

    pub(super) fn new(seed: u64) -> Self {
        let mut sensors = Vec::new();
        for building in BUILDINGS {
            for room in (1..=FLOORS).flat_map(|floor| (1..=ROOMS).map(move |room| (floor, room))) {
                for kind in SensorKind::ALL {
                    sensors.push(Device::new(seed, sensors.len() as u64, building, room, kind));
                }
            }
        }
        let operators = OPERATORS.iter().enumerate().map(|(at, (name, station))| {
            let mut random = Random::new(seed, Self::STREAM + 1_000 + at as u64);
            Operator {
                key: format!("op-{}", at + 1),
                name,
                station,
                signed_in: false,
                wait: 2 + 5 * at as u64 + random.below(6) as u64,
                random,
            }
        });
        Self {
            sensors,
            operators: operators.collect(),
            random: Random::new(seed, Self::STREAM + 2_000),
            ticks: 0,
        }
    }

    pub(super) fn tick(&mut self, elapsed_ms: i64, drones: &[Drone], writer: &mut Writer) {
        if elapsed_ms == 0 {
            for (at, service) in SERVICES.iter().enumerate() {
                let head = head("system.started", service, service, Priority::Normal, at as i64);
                writer.event(
                    head,
                    format_args!(
                        r#""service":"{service}","version":"{}""#,
                        env!("CARGO_PKG_VERSION")
                    ),
                );
            }
        }
        for (at, device) in self.sensors.iter_mut().enumerate() {
            let slot = (self.ticks + at as u64) % SENSOR_TICKS;
            if slot == 0 {
                device.read(at as i64 * 12, writer);
            }
        }
        for operator in &mut self.operators {
            operator.tick(writer);
        }
        if self.ticks % METRIC_TICKS == METRIC_TICKS / 2 {
            self.metrics(drones, writer);
        }
        if self.ticks % LOG_TICKS == LOG_TICKS / 2 {
            let (level, message, service) = LOGS[self.random.below(LOGS.len())];
            let head = head("log.written", service, service, Priority::Low, 310);
            writer.event(
                head,
                format_args!(r#""level":"{level}","message":"{message}","service":"{service}""#),
            );
        }
        if self.ticks % HEALTH_TICKS == HEALTH_TICKS - 1 {
            let service = SERVICES[(self.ticks / HEALTH_TICKS) as usize % SERVICES.len()];
            let head = head("system.health", service, service, Priority::Normal, 410);
            let uptime_s = elapsed_ms / 1_000;
            writer.event(
                head,
                format_args!(r#""service":"{service}","status":"ok","uptime_s":{uptime_s}"#),
            );
        }
        self.ticks += 1;
    }

    fn metrics(&mut self, drones: &[Drone], writer: &mut Writer) {
        let airborne = drones.iter().filter(|drone| drone.status().is_airborne()).count();
        let battery = drones.iter().map(Drone::battery).sum::<f64>() / drones.len().max(1) as f64;
        let latency_ms = (35.0 + 8.0 * self.random.normal()).max(5.0);
        let metrics = [
            ("fleet.airborne", airborne as f64, "drones"),
            ("fleet.battery.mean", battery, "%"),
            ("link.latency", latency_ms, "ms"),
        ];
        for (at, (name, value, unit)) in metrics.into_iter().enumerate() {
            let source = "monitoring-service";
            let head = head("metric.reported", source, source, Priority::Low, 210 + at as i64);
            writer.event(
                head,
                format_args!(
                    r#""name":"{name}","value":{value:.2},"unit":"{unit}","service":"{source}""#
                ),
            );
        }
    }
}

impl Device {
    fn new(
        seed: u64,
        at: u64,
        building: &str,
        (floor, room): (u32, u32),
        kind: SensorKind,
    ) -> Self {
        let number = floor * 100 + room;
        Self {
            key: format!("{building}-{floor}F-{number}-{}", kind.name()),
            place: format!(r#"{{"building":"{building}","floor":{floor},"room":"{number}"}}"#),
            sensor: Sensor::new(kind, Random::new(seed, Backdrop::STREAM + at)),
        }
    }

    fn read(&mut self, phase_ms: i64, writer: &mut Writer) {
        let kind = self.sensor.kind();
        let value = self.sensor.read();
        let status = if kind.is_alarm(value) { "alarm" } else { "normal" };
        let head = head("sensor.reading", "sensor-gateway", &self.key, Priority::Normal, phase_ms);
        let (key, place, name) = (&self.key, &self.place, kind.name());
        match kind.unit() {
            Some(unit) => writer.event(
                head,
                format_args!(
                    r#""device_id":"{key}","sensor":"{name}","value":{value:.2},"unit":"{unit}","status":"{status}","place":{place}"#
                ),
            ),
            None => {
                let value = if value > 0.5 { "ON" } else { "OFF" };
                writer.event(
                    head,
                    format_args!(
                        r#""device_id":"{key}","sensor":"{name}","value":"{value}","status":"{status}","place":{place}"#
                    ),
                );
            }
        }
    }
}

impl Operator {
    fn tick(&mut self, writer: &mut Writer) {
        self.wait = self.wait.saturating_sub(1);
        if self.wait > 0 {
            return;
        }
        self.signed_in = !self.signed_in;
        // At work for one to five minutes, away for half a minute to two: a working day, made short.
        let seconds = if self.signed_in {
            self.random.between(60.0, 300.0)
        } else {
            self.random.between(30.0, 120.0)
        };
        self.wait = (seconds * 1_000.0) as u64 / TICK_MS as u64;
        let event_type = if self.signed_in { "user.login" } else { "user.logout" };
        let head = head(event_type, "user-service", &self.key, Priority::Normal, 150);
        writer.event(
            head,
            format_args!(
                r#""user_id":"{}","name":"{}","station":"{}""#,
                self.key, self.name, self.station
            ),
        );
    }
}

const fn head<'a>(
    event_type: &'static str,
    source: &'static str,
    key: &'a str,
    priority: Priority,
    phase_ms: i64,
) -> Head<'a> {
    Head { event_type, source, key, priority, phase_ms }
}

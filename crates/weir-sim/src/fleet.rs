//! What a fleet is: its devices, their intervals, the seed. From it every part of it can be made anywhere.

use std::time::Duration;

use weir_protocol::types::TimestampMs;

use crate::random::mix;
use crate::record::Format;
use crate::scenario::{Profile, Scenario};
use crate::sensor::SensorKind;

/// Everything that the streams of a fleet follow from.
#[derive(Debug, Clone)]
pub struct FleetSpec {
    /// The same seed and start give the same bytes.
    pub seed: u64,
    /// The time of the schedule's beginning.
    pub start: TimestampMs,
    /// Devices, if the scenario has no profiles.
    pub devices: u32,
    /// How often a device reads all of its sensors, unless its profile says it.
    pub interval: Duration,
    /// Records per second of the whole fleet, instead of all intervals.
    pub rate: Option<f64>,
    /// Chance of a healthy reading that an anomaly begins with it.
    pub anomaly_rate: f64,
    /// How much of the variance trends make, squared: 0 to 1.
    pub trend_strength: f64,
    /// How much of the specified deviation sensors have: 0 to 1.
    pub data_variation: f64,
    /// How records are written.
    pub format: Format,
    /// Profiles, phases, disturbances.
    pub scenario: Scenario,
}

impl Default for FleetSpec {
    /// 100 devices at 5 s, trends on, no anomalies.
    fn default() -> Self {
        Self {
            seed: 1,
            start: TimestampMs(0),
            devices: 100,
            interval: Duration::from_secs(5),
            rate: None,
            anomaly_rate: 0.0,
            trend_strength: 0.3,
            data_variation: 1.0,
            format: Format::Json,
            scenario: Scenario::default(),
        }
    }
}

/// Which devices of a fleet one generator makes: those of its shard and worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// From 0.
    pub shard: u32,
    /// Processes that share the fleet.
    pub shards: u32,
    /// From 0.
    pub worker: u32,
    /// Threads that share the shard.
    pub workers: u32,
}

impl Part {
    /// The whole fleet.
    pub const WHOLE: Self = Self { shard: 0, shards: 1, worker: 0, workers: 1 };

    /// Whether device `index` is of this part.
    pub const fn has(&self, index: u32) -> bool {
        index % self.shards == self.shard && index / self.shards % self.workers == self.worker
    }

    /// Its name in the ground truth.
    pub fn name(&self) -> String {
        format!("part-{}/{}-{}/{}", self.shard + 1, self.shards, self.worker + 1, self.workers)
    }
}

/// What the devices of a group have.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Equipment {
    /// One sensor each: the five kinds in turn.
    InTurn,
    /// All of these each.
    Sensors(Vec<SensorKind>),
    /// They fly.
    Drones,
}

/// Devices of one kind and interval.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) devices: u32,
    pub(crate) interval_ns: u64,
    pub(crate) equipment: Equipment,
    pub(crate) anomaly_rate: Option<f64>,
}

impl Group {
    fn of_profile(profile: &Profile, interval: Duration) -> Self {
        Self {
            devices: profile.devices,
            interval_ns: nanos(profile.interval.unwrap_or(interval)),
            equipment: match profile.drones {
                true => Equipment::Drones,
                false => Equipment::Sensors(profile.sensors.clone()),
            },
            anomaly_rate: profile.anomaly_rate,
        }
    }

    /// Records that each of its devices makes at once.
    pub(crate) fn records_per_device(&self) -> u32 {
        match &self.equipment {
            Equipment::Sensors(sensors) => sensors.len() as u32,
            Equipment::InTurn | Equipment::Drones => 1,
        }
    }
}

impl FleetSpec {
    /// Devices of all profiles together.
    pub fn devices_total(&self) -> u32 {
        match self.scenario.profiles.as_slice() {
            [] => self.devices,
            profiles => profiles.iter().map(|profile| profile.devices).sum(),
        }
    }

    /// Records per second that the schedule has, the scenario's rate being 1.
    pub fn records_per_second(&self) -> f64 {
        let of_group = |group: &Group| {
            let per_round = f64::from(group.devices) * f64::from(group.records_per_device());
            per_round * 1e9 / group.interval_ns as f64
        };
        self.groups().iter().map(of_group).sum()
    }

    /// Source of its events: the same for all parts of a run, another for another run.
    pub fn source(&self) -> String {
        let run = mix(self.seed ^ mix(self.start.get() as u64));
        format!("sim-{:08x}", run as u32)
    }

    /// The id of a device, of those that were there from the start or of those added later.
    pub fn device_id(&self, index: u32) -> String {
        let mut first = 0;
        for group in self.groups() {
            let is_its = (first..first + group.devices).contains(&index);
            if is_its && group.equipment == Equipment::Drones {
                return format!("drone-{:05}", index + 1);
            }
            first += group.devices;
        }
        let devices = self.devices_total().max(index + 1);
        self.scenario.site(self.devices_total()).place(index, devices).device_id(index)
    }

    pub(crate) fn groups(&self) -> Vec<Group> {
        let mut groups: Vec<Group> = match self.scenario.profiles.as_slice() {
            [] => vec![Group {
                devices: self.devices,
                interval_ns: nanos(self.interval),
                equipment: Equipment::InTurn,
                anomaly_rate: None,
            }],
            profiles => {
                profiles.iter().map(|profile| Group::of_profile(profile, self.interval)).collect()
            }
        };
        if let Some(rate) = self.rate {
            let records = |group: &Group| f64::from(group.devices * group.records_per_device());
            let round = groups.iter().map(records).sum::<f64>();
            // All devices alike, each rate / devices times a second where a device makes one record.
            let interval_ns = (round * 1e9 / rate).max(1.0) as u64;
            groups.iter_mut().for_each(|group| group.interval_ns = interval_ns);
        }
        groups
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4).max(1)
}

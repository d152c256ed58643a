//! The demonstration fleet: drones on missions around Shenzhen Bay, sensors in two buildings, operators,
//! metrics and logs, so that every topic of spec 001 is alive.
//!
//! What it plays, so that every page has something to show within a minute: drone 7 starts with a
//! battery that falls below 20 % after some 30 s, and drone 12 strays into the mangrove reserve after
//! some 25 s. A drone that is told so returns to its base, lands, charges and starts again.
//!
//! Time goes in ticks of [`TICK_MS`]. All of a tick is computed at its start; its events are spread
//! over it and handed out when due. So the stream of events depends on the seed, the start, and the
//! ticks at which orders came, and not on how often [`DemoFleet::step`] is called.

mod backdrop;
mod drone;
mod plane;
mod write;

use std::collections::VecDeque;
use std::sync::Arc;

use weir_client::event::Priority;
use weir_fleet::{Order, ZoneSet};
use weir_protocol::types::TimestampMs;

use crate::random::Random;
use backdrop::Backdrop;
use drone::Drone;
use write::Writer;

/// The zones of the demonstration, as GeoJSON.
pub const DEMO_ZONES_GEOJSON: &str = include_str!("../assets/demo-zones.geojson");

/// Half a second: drones report their position twice a second.
pub const TICK_MS: i64 = 500;
/// How many drones fly.
pub const DRONES: u32 = 24;
/// The drone whose battery is low soon after the start.
pub const LOW_BATTERY_DRONE: u32 = 7;
/// The drone that strays into a zone soon after the start, and on every third mission.
pub const STRAY_DRONE: u32 = 12;
/// The part of the Earth it all happens in: west, south, east, north.
pub const AREA: [f64; 4] = [113.76, 22.45, 114.10, 22.69];

/// After a longer pause (a machine that slept) the fleet goes on from where it was instead of making up
/// for every tick.
const CATCH_UP_MS_MAX: i64 = 60_000;

/// The zones of the demonstration, indexed.
pub fn demo_zones() -> ZoneSet {
    // The file is part of the program and a test reads it; without zones nothing could be broken into.
    ZoneSet::from_geojson(DEMO_ZONES_GEOJSON).unwrap_or_else(|_| ZoneSet::empty())
}

/// One event, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimEvent {
    /// Its type.
    pub event_type: &'static str,
    /// Its record key, by the rule of the gateway.
    pub key: String,
    /// The whole event, as the gateway takes it.
    pub json: String,
    /// Its priority class.
    pub priority: Priority,
    /// Its event time, which is also in `json`.
    pub at: TimestampMs,
}

/// What became of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obeyed {
    /// The drone turns home.
    Turning,
    /// It has had this order before.
    Repeat,
    /// It is on the ground, or already on its way home.
    NothingToDo,
    /// There is no such drone.
    Unknown,
}

/// The fleet. See the module's description.
#[derive(Debug)]
pub struct DemoFleet {
    start: TimestampMs,
    next_tick: TimestampMs,
    drones: Vec<Drone>,
    backdrop: Backdrop,
    writer: Writer,
    /// Events of the current tick that are not due yet, in order of time.
    waiting: VecDeque<SimEvent>,
}

impl DemoFleet {
    /// A fleet that starts at `now`; the same seed and start give the same fleet.
    pub fn new(seed: u64, now: TimestampMs) -> Self {
        let zones = Arc::new(demo_zones());
        let drones = (1..=DRONES)
            .map(|id| Drone::new(id, Random::new(seed, u64::from(id)), &zones))
            .collect();
        Self {
            start: now,
            next_tick: now,
            drones,
            backdrop: Backdrop::new(seed),
            writer: Writer::new(seed, now),
            waiting: VecDeque::new(),
        }
    }

    /// The events since the last step up to `now`, in order of their time.
    ///
    /// A `now` before the last one gives nothing.
    pub fn step(&mut self, now: TimestampMs) -> Vec<SimEvent> {
        if now.since(self.next_tick) > CATCH_UP_MS_MAX {
            self.next_tick = now;
        }
        while self.next_tick <= now {
            let tick = self.next_tick;
            self.next_tick = tick.plus_ms(TICK_MS);
            self.compute(tick);
        }
        let due = self.waiting.partition_point(|event| event.at <= now);
        self.waiting.drain(..due).collect()
    }

    /// Gives an order, which takes effect with the next tick. The same order twice is obeyed once.
    pub fn obey(&mut self, order: &Order) -> Obeyed {
        let drone = self.drones.iter_mut().find(|drone| drone.key() == order.device);
        drone.map_or(Obeyed::Unknown, |drone| drone.obey(order))
    }

    /// Whether a drone stands on the ground at its base.
    pub fn is_home(&self, id: u32) -> bool {
        self.drones.iter().any(|drone| drone.id() == id && drone.is_home())
    }

    fn compute(&mut self, tick: TimestampMs) {
        let elapsed_ms = tick.since(self.start);
        self.writer.begin(tick);
        for drone in &mut self.drones {
            drone.tick(elapsed_ms, &mut self.writer);
        }
        self.backdrop.tick(elapsed_ms, &self.drones, &mut self.writer);
        self.waiting.extend(self.writer.finish());
    }
}

#[cfg(test)]
mod tests;

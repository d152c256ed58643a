//! One drone: its missions, its battery, its way home.

use std::collections::VecDeque;
use std::sync::Arc;

use weir_client::event::Priority;
use weir_client::timestamp::format_rfc3339;
use weir_fleet::{AutoAction, Order, ZoneSet};

use super::plane::{is_free, way_is_free, Spot};
use super::write::{Head, Writer};
use super::{Obeyed, LOW_BATTERY_DRONE, STRAY_DRONE, TICK_MS};
use crate::random::Random;

const TICK_S: f64 = TICK_MS as f64 / 1_000.0;
/// Reports on the ground, and heartbeats, come every 5 s; progress every 10 s.
const GROUND_TICKS: u64 = 10;
const PROGRESS_TICKS: u64 = 20;
const CLIMB_MPS: f64 = 5.0;
const SINK_MPS: f64 = 4.0;
const TURN_DEGREES_PER_S: f64 = 30.0;
/// A waypoint counts as reached from here on: more than the radius of a turn at full speed.
const REACHED_M: f64 = 45.0;
/// A battery lasts 40 to 55 minutes, so that from 20 % every drone reaches home from the furthest point
/// (5 km at 12 m/s: 17 %); that of the show is old.
const DRAIN_PERCENT_PER_S: [f64; 2] = [0.030, 0.040];
const OLD_DRAIN_PERCENT_PER_S: f64 = 0.06;
/// Furthest middle of a mission from its base; its points lie up to 1.1 km around it.
const REACH_M: f64 = 3_800.0;
const NEAR_REACH_M: f64 = 900.0;
/// Fast, so that the show goes on.
const CHARGE_PERCENT_PER_S: f64 = 1.0;
const CHARGED_PERCENT: f64 = 95.0;
/// Below this a drone says itself that its battery is low.
const LOW_PERCENT: f64 = 20.0;
/// Below this it goes home though nobody told it to,
const FAILSAFE_PERCENT: f64 = 10.0;
/// and below this it comes down where it is.
const EMERGENCY_PERCENT: f64 = 3.0;
/// Orders a drone remembers, so that each is obeyed once whatever comes between its repeats.
const ORDERS_MAX: usize = 64;
/// Seconds from the start until the low battery and the straying show.
const LOW_BATTERY_AFTER_S: f64 = 29.0;
const STRAY_AFTER_S: f64 = 24.0;

/// Bases by `id % 3`: latitude, longitude.
const BASES: [(f64, f64); 3] = [(22.5480, 114.0300), (22.5400, 113.8950), (22.5340, 113.9350)];
const TASK_NAMES: [&str; 4] = ["园区巡检", "岸线巡查", "电力巡线", "桥梁检测"];
/// Through the north of the mangrove reserve and out again; its second point lies inside.
const STRAY_ROUTE: [(f64, f64); 4] =
    [(22.5360, 114.0180), (22.5245, 114.0080), (22.5360, 113.9980), (22.5420, 114.0100)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Idle,
    TakingOff,
    Flying,
    Returning,
    Landing,
    Charging,
}

impl Status {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::TakingOff => "taking_off",
            Self::Flying => "flying",
            Self::Returning => "returning",
            Self::Landing => "landing",
            Self::Charging => "charging",
        }
    }

    pub(super) const fn is_airborne(self) -> bool {
        matches!(self, Self::TakingOff | Self::Flying | Self::Returning | Self::Landing)
    }
}

#[derive(Debug)]
struct Mission {
    task_id: u32,
    name: &'static str,
    points: Vec<Spot>,
    /// Index of the point it is on its way to.
    next: usize,
    length_m: f64,
}

#[derive(Debug)]
pub(super) struct Drone {
    id: u32,
    key: String,
    random: Random,
    zones: Arc<ZoneSet>,
    pad: Spot,
    at: Spot,
    altitude_m: f64,
    cruise_m: f64,
    heading: f64,
    speed_mps: f64,
    drain_percent_per_s: f64,
    battery: f64,
    low_told: bool,
    status: Status,
    /// Ticks left on the ground before the next mission.
    wait: u32,
    mission: Option<Mission>,
    missions: u32,
    ticks: u64,
    ordered: bool,
    /// Alerts whose orders were taken, the oldest first.
    orders: VecDeque<String>,
}

impl Drone {
    pub(super) fn new(id: u32, mut random: Random, zones: &Arc<ZoneSet>) -> Self {
        let (latitude, longitude) = BASES[id as usize % BASES.len()];
        let base = Spot::from_degrees(latitude, longitude);
        // Each has a pad of its own around the middle of the base.
        let pad = base.moved(f64::from(id) * 45.0, 30.0 + f64::from(id));
        let mut drone = Self {
            id,
            key: id.to_string(),
            zones: Arc::clone(zones),
            pad,
            at: pad,
            altitude_m: 0.0,
            cruise_m: random.between(60.0, 120.0).round(),
            heading: random.between(0.0, 360.0),
            speed_mps: random.between(12.0, 16.0),
            drain_percent_per_s: random.between(DRAIN_PERCENT_PER_S[0], DRAIN_PERCENT_PER_S[1]),
            battery: random.between(35.0, 98.0),
            low_told: false,
            status: Status::Idle,
            wait: 10 + random.below(60) as u32,
            mission: None,
            missions: 0,
            ticks: 0,
            ordered: false,
            orders: VecDeque::new(),
            random,
        };
        // Most are in the air at once; every sixth begins on the ground, and takes off soon.
        if id % 6 != 5 {
            drone.put_on_mission();
        }
        drone
    }

    pub(super) const fn id(&self) -> u32 {
        self.id
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(super) const fn status(&self) -> Status {
        self.status
    }

    pub(super) const fn battery(&self) -> f64 {
        self.battery
    }

    pub(super) fn is_home(&self) -> bool {
        !self.status.is_airborne() && self.at.distance_m(self.pad) < 1.0
    }

    pub(super) fn obey(&mut self, order: &Order) -> Obeyed {
        if self.orders.contains(&order.alert_id) {
            return Obeyed::Repeat;
        }
        if self.orders.len() == ORDERS_MAX {
            self.orders.pop_front();
        }
        self.orders.push_back(order.alert_id.clone());
        match (order.action, self.status) {
            (AutoAction::ReturnToBase, Status::TakingOff | Status::Flying) => {
                self.ordered = true;
                Obeyed::Turning
            }
            (AutoAction::ReturnToBase, _) => Obeyed::NothingToDo,
        }
    }

    pub(super) fn tick(&mut self, elapsed_ms: i64, writer: &mut Writer) {
        self.ticks += 1;
        if elapsed_ms == 0 && self.mission.is_some() {
            self.tell_created(writer);
            self.tell_status(Status::Idle, "mission", writer);
        }
        self.turn_home_if_needed(writer);
        match self.status {
            Status::Idle => self.wait_for_mission(writer),
            Status::TakingOff => self.climb(writer),
            Status::Flying => self.fly(writer),
            Status::Returning => self.fly_home(writer),
            Status::Landing => self.land(writer),
            Status::Charging => self.charge(writer),
        }
        self.use_battery(writer);
        self.report(writer);
    }

    fn turn_home_if_needed(&mut self, writer: &mut Writer) {
        let ordered = std::mem::take(&mut self.ordered);
        if !matches!(self.status, Status::TakingOff | Status::Flying) {
            return;
        }
        if ordered {
            self.break_off("return_to_base", writer);
        } else if self.battery < FAILSAFE_PERCENT {
            self.break_off("failsafe", writer);
        }
    }

    fn break_off(&mut self, reason: &'static str, writer: &mut Writer) {
        if let Some(mission) = self.mission.take() {
            writer.event(
                self.head("task.completed", "task-service", 60),
                format_args!(
                    r#""task_id":{},"drone_id":{},"result":"aborted","reason":"{reason}""#,
                    mission.task_id, self.id
                ),
            );
        }
        self.set_status(Status::Returning, reason, writer);
    }

    fn wait_for_mission(&mut self, writer: &mut Writer) {
        self.wait = self.wait.saturating_sub(1);
        if self.wait > 0 {
            return;
        }
        self.mission = Some(self.plan());
        self.tell_created(writer);
        self.set_status(Status::TakingOff, "mission", writer);
    }

    fn climb(&mut self, writer: &mut Writer) {
        self.altitude_m += CLIMB_MPS * TICK_S;
        if self.altitude_m >= self.cruise_m {
            self.altitude_m = self.cruise_m;
            self.set_status(Status::Flying, "mission", writer);
        }
    }

    fn fly(&mut self, writer: &mut Writer) {
        let Some(mission) = &self.mission else {
            return self.set_status(Status::Returning, "no mission", writer);
        };
        let target = mission.points[mission.next];
        let reached = self.advance(target);
        let Some(mission) = &mut self.mission else { return };
        if !reached {
            let slot = (self.ticks + u64::from(self.id)) % PROGRESS_TICKS;
            if slot == 0 {
                self.tell_progress(writer);
            }
            return;
        }
        if mission.next + 1 < mission.points.len() {
            mission.next += 1;
            return self.tell_progress(writer);
        }
        let task_id = mission.task_id;
        self.mission = None;
        writer.event(
            self.head("task.completed", "task-service", 60),
            format_args!(r#""task_id":{task_id},"drone_id":{},"result":"done""#, self.id),
        );
        self.set_status(Status::Returning, "mission done", writer);
    }

    fn fly_home(&mut self, writer: &mut Writer) {
        if self.altitude_m < self.cruise_m {
            self.altitude_m = (self.altitude_m + CLIMB_MPS * TICK_S).min(self.cruise_m);
        }
        if self.advance(self.pad) {
            self.set_status(Status::Landing, "at base", writer);
        }
    }

    fn land(&mut self, writer: &mut Writer) {
        // Straight above the pad when it is near; after an emergency, where it is.
        if self.at.distance_m(self.pad) <= 2.0 * REACHED_M {
            let ticks_left = (self.altitude_m / (SINK_MPS * TICK_S)).max(1.0);
            self.at = self.at.towards(self.pad, 1.0 / ticks_left);
        }
        self.altitude_m -= SINK_MPS * TICK_S;
        if self.altitude_m > 0.0 {
            return;
        }
        self.altitude_m = 0.0;
        if self.at.distance_m(self.pad) <= 2.0 * REACHED_M {
            self.at = self.pad;
        }
        self.set_status(Status::Charging, "landed", writer);
    }

    fn charge(&mut self, writer: &mut Writer) {
        self.battery = (self.battery + CHARGE_PERCENT_PER_S * TICK_S).min(100.0);
        if self.battery >= CHARGED_PERCENT {
            self.low_told = false;
            self.wait = 10 + self.random.below(40) as u32;
            self.set_status(Status::Idle, "charged", writer);
        }
    }

    /// Flies one tick towards a spot; says whether it is reached.
    fn advance(&mut self, target: Spot) -> bool {
        let wanted = self.at.bearing_to(target);
        let off = (wanted - self.heading + 540.0).rem_euclid(360.0) - 180.0;
        let turn = TURN_DEGREES_PER_S * TICK_S;
        self.heading = (self.heading + off.clamp(-turn, turn)).rem_euclid(360.0);
        self.at = self.at.moved(self.heading, self.speed_mps * TICK_S);
        self.at.distance_m(target) <= REACHED_M
    }

    fn use_battery(&mut self, writer: &mut Writer) {
        if !self.status.is_airborne() {
            return;
        }
        self.battery = (self.battery - self.drain_percent_per_s * TICK_S).max(0.0);
        if self.battery < LOW_PERCENT && !self.low_told {
            self.low_told = true;
            let head = Head { priority: Priority::High, ..self.head("battery.low", SOURCE, 120) };
            writer.event(
                head,
                format_args!(
                    r#""drone_id":{},"battery":{:.1},"threshold":{LOW_PERCENT}"#,
                    self.id, self.battery
                ),
            );
        }
        if self.battery < EMERGENCY_PERCENT && self.status != Status::Landing {
            let head =
                Head { priority: Priority::Urgent, ..self.head("emergency.landing", SOURCE, 130) };
            writer.event(
                head,
                format_args!(
                    r#""drone_id":{},"location":{},"battery":{:.1},"reason":"battery_critical""#,
                    self.id,
                    self.location(),
                    self.battery
                ),
            );
            self.set_status(Status::Landing, "emergency", writer);
        }
    }

    fn report(&self, writer: &mut Writer) {
        let slot = (self.ticks + u64::from(self.id)) % GROUND_TICKS;
        if slot == 0 {
            writer.event(
                self.head("drone.heartbeat", SOURCE, 200),
                format_args!(
                    r#""drone_id":{},"status":"{}","battery":{:.1}"#,
                    self.id,
                    self.status.name(),
                    self.battery
                ),
            );
        }
        if !self.status.is_airborne() && slot != 5 {
            return;
        }
        let moving = matches!(self.status, Status::Flying | Status::Returning);
        let speed = if moving { self.speed_mps } else { 0.0 };
        writer.event(
            self.head("drone.location.updated", SOURCE, 0),
            format_args!(
                r#""drone_id":{},"location":{},"heading":{:.1},"speed":{speed:.1},"battery":{:.1},"status":"{}""#,
                self.id,
                self.location(),
                // 359.96 would round to 360.0, which is the same as 0.
                (self.heading * 10.0).round().rem_euclid(3_600.0) / 10.0,
                self.battery,
                self.status.name()
            ),
        );
    }

    fn set_status(&mut self, status: Status, reason: &'static str, writer: &mut Writer) {
        let old = std::mem::replace(&mut self.status, status);
        self.tell_status(old, reason, writer);
    }

    fn tell_status(&self, old: Status, reason: &'static str, writer: &mut Writer) {
        writer.event(
            self.head("drone.status.changed", SOURCE, 100),
            format_args!(
                r#""drone_id":{},"old_status":"{}","new_status":"{}","location":{},"battery":{:.1},"reason":"{reason}""#,
                self.id,
                old.name(),
                self.status.name(),
                self.location(),
                self.battery
            ),
        );
    }

    fn tell_created(&self, writer: &mut Writer) {
        let Some(mission) = &self.mission else { return };
        let done_at = self.completion(mission, writer);
        writer.event(
            self.head("task.created", "task-service", 40),
            format_args!(
                r#""task_id":{},"drone_id":{},"name":"{}","steps":{},"estimated_completion":"{done_at}""#,
                mission.task_id,
                self.id,
                mission.name,
                mission.points.len()
            ),
        );
    }

    fn tell_progress(&self, writer: &mut Writer) {
        let Some(mission) = &self.mission else { return };
        let left = mission.left_m(self.at) / mission.length_m;
        let progress = ((1.0 - left) * 100.0).round().clamp(0.0, 99.0);
        let done_at = self.completion(mission, writer);
        writer.event(
            self.head("task.progress", "task-service", 60),
            format_args!(
                r#""task_id":{},"drone_id":{},"progress":{progress:.0},"current_step":"巡检点位{}","estimated_completion":"{done_at}""#,
                mission.task_id,
                self.id,
                mission.next + 1
            ),
        );
    }

    fn completion(&self, mission: &Mission, writer: &Writer) -> String {
        let left_ms = mission.left_m(self.at) / self.speed_mps * 1_000.0;
        // Whole seconds: nobody plans finer.
        format_rfc3339(writer.at(0).plus_ms((left_ms / 1_000.0).round() as i64 * 1_000))
    }

    fn head(&self, event_type: &'static str, source: &'static str, after_ms: i64) -> Head<'_> {
        // Spread over the tick, so that the fleet does not speak in one breath.
        let phase_ms = (i64::from(self.id) * 37 + after_ms).rem_euclid(TICK_MS);
        Head { event_type, source, key: &self.key, priority: Priority::Normal, phase_ms }
    }

    fn location(&self) -> String {
        format!(
            r#"{{"latitude":{:.6},"longitude":{:.6},"altitude":{:.1}}}"#,
            self.at.latitude(),
            self.at.longitude(),
            self.altitude_m
        )
    }

    /// Before the start: puts the drone somewhere on its first mission.
    fn put_on_mission(&mut self) {
        let mut mission = self.plan();
        self.status = Status::Flying;
        self.altitude_m = self.cruise_m;
        if self.id == LOW_BATTERY_DRONE {
            // Long enough that the battery is low before it is done.
            mission.points = mission.points.repeat(3);
            mission.length_m = mission.left_m(self.at).max(1.0);
        }
        if self.id == STRAY_DRONE {
            mission.next = 1;
            self.at = self.before_the_border(mission.points[0], mission.points[1]);
        } else {
            // In the first half, so that missions do not all end at once.
            mission.next = 1 + self.random.below(mission.points.len() / 3);
            let (from, to) = (mission.points[mission.next - 1], mission.points[mission.next]);
            self.at = from.towards(to, self.random.between(0.1, 0.6));
        }
        self.heading = self.at.bearing_to(mission.points[mission.next]);
        if self.id == LOW_BATTERY_DRONE {
            self.drain_percent_per_s = OLD_DRAIN_PERCENT_PER_S;
            self.battery = LOW_PERCENT + self.drain_percent_per_s * LOW_BATTERY_AFTER_S;
        }
        self.mission = Some(mission);
    }

    /// The spot on the way from which the first zone is as many seconds away as the show wants.
    fn before_the_border(&self, from: Spot, to: Spot) -> Spot {
        let length = from.distance_m(to);
        let border_m = (0..length as u32).find(|metre| {
            let spot = from.towards(to, f64::from(*metre) / length);
            !self.zones.hits(spot.latitude(), spot.longitude(), Some(self.cruise_m)).is_empty()
        });
        let start_m = border_m.map_or(0.0, f64::from) - self.speed_mps * STRAY_AFTER_S;
        from.towards(to, (start_m / length).max(0.0))
    }

    fn plan(&mut self) -> Mission {
        let number = self.missions;
        self.missions += 1;
        let strays = self.id == STRAY_DRONE && matches!(number % 3, 0);
        let points = if strays {
            STRAY_ROUTE
                .map(|(latitude, longitude)| Spot::from_degrees(latitude, longitude))
                .to_vec()
        } else {
            self.plan_points()
        };
        let mut mission = Mission {
            task_id: 1_000 + self.id * 100 + number % 100,
            name: TASK_NAMES[(self.id + number) as usize % TASK_NAMES.len()],
            points,
            next: 0,
            length_m: 0.0,
        };
        mission.length_m = mission.left_m(self.at).max(1.0);
        mission
    }

    /// A round of points clear of all zones, each of which leads home over free ground.
    fn plan_points(&mut self) -> Vec<Spot> {
        // The one that is to come home within the first minutes stays near.
        let (reach_m, size) =
            if self.id == LOW_BATTERY_DRONE { (NEAR_REACH_M, 0.5) } else { (REACH_M, 1.0) };
        for attempt in 0..60 {
            let shrink = 1.0 - f64::from(attempt) / 80.0;
            let centre = self.pad.moved(
                self.random.between(0.0, 360.0),
                self.random.between(0.4, 1.0) * reach_m * shrink,
            );
            let wide = self.random.between(300.0, 1_100.0) * shrink * size;
            let high = self.random.between(300.0, 900.0) * shrink * size;
            let count = 4 + self.random.below(4);
            let turn = self.random.between(0.0, 360.0);
            let points: Vec<Spot> = (0..count)
                .map(|at| {
                    let (east, north) =
                        (turn + 360.0 * at as f64 / count as f64).to_radians().sin_cos();
                    Spot {
                        east_m: centre.east_m + east * wide,
                        north_m: centre.north_m + north * high,
                    }
                })
                .collect();
            if self.round_is_free(&points) {
                return points;
            }
        }
        // Around the base: free, for bases are.
        (0..4).map(|at| self.pad.moved(f64::from(at) * 90.0, 250.0)).collect()
    }

    fn round_is_free(&self, points: &[Spot]) -> bool {
        let legs = points.windows(2).all(|pair| way_is_free(pair[0], pair[1], &self.zones));
        legs && points.windows(2).all(|pair| {
            (0..=4).all(|quarter| {
                let spot = pair[0].towards(pair[1], f64::from(quarter) / 4.0);
                is_free(spot, &self.zones) && way_is_free(spot, self.pad, &self.zones)
            })
        })
    }
}

const SOURCE: &str = "drone-control-service";

impl Mission {
    /// Metres from a spot over the points that are left.
    fn left_m(&self, at: Spot) -> f64 {
        let legs = self.points[self.next..].windows(2).map(|pair| pair[0].distance_m(pair[1]));
        at.distance_m(self.points[self.next]) + legs.sum::<f64>()
    }
}

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use weir_fleet::{
    validate, AlertChange, AutoAction, Checked, Effect, Id, LocationHandler, Order, RecordRef,
    Rule, TaskBook, TaskState,
};
use weir_protocol::types::{Offset, PartitionId, TimestampMs};
use weir_sim::demo::{AREA, LOW_BATTERY_DRONE, STRAY_DRONE};
use weir_sim::{demo_zones, DemoFleet, Obeyed, SimEvent};

const START: TimestampMs = TimestampMs(1_754_217_000_000);

/// A fleet and what stands behind it, in virtual time.
struct World {
    fleet: DemoFleet,
    handler: LocationHandler,
    tasks: TaskBook,
    offset: i64,
    obeys: bool,
    /// Seconds since the start, and what happened.
    alerts: Vec<(i64, AlertChange)>,
    orders: Vec<Obeyed>,
    types: BTreeMap<&'static str, u64>,
}

impl World {
    fn new(seed: u64, obeys: bool) -> Self {
        Self {
            fleet: DemoFleet::new(seed, START),
            handler: LocationHandler::new(Arc::new(demo_zones())),
            tasks: TaskBook::new(),
            offset: 0,
            obeys,
            alerts: Vec::new(),
            orders: Vec::new(),
            types: BTreeMap::new(),
        }
    }

    fn run(&mut self, from_s: i64, to_s: i64, mut each: impl FnMut(&mut Self, i64)) {
        for half in from_s * 2..to_s * 2 {
            let now = START.plus_ms(half * 500);
            for event in self.fleet.step(now) {
                self.take(&event);
            }
            each(self, half / 2);
        }
    }

    fn take(&mut self, event: &SimEvent) {
        *self.types.entry(event.event_type).or_default() += 1;
        let json: Value = serde_json::from_str(&event.json).unwrap();
        assert_eq!(json["type"], event.event_type);
        let data = json["data"].to_string();
        let checked = validate(event.event_type, &data).unwrap_or_else(|error| {
            panic!("{error}: {}", event.json);
        });
        assert_ne!(checked, Checked::Untyped, "{}", event.event_type);
        assert_eq!(key_of(&json), event.key, "{}", event.json);
        let record = RecordRef { partition: PartitionId(0), offset: Offset(self.offset) };
        self.offset += 1;
        let mut effects = Vec::new();
        self.handler.handle_event(&checked, event.at, event.at, record, &mut effects);
        self.tasks.handle(&checked, event.at);
        for effect in effects {
            let Effect::Alert(change) = effect else { continue };
            if let (true, AlertChange::Raised(alert)) = (self.obeys, &change) {
                if let Some(order) = Order::from_alert(alert) {
                    self.orders.push(self.fleet.obey(&order));
                    assert_ne!(self.fleet.obey(&order), Obeyed::Turning, "obeyed twice");
                }
            }
            self.alerts.push((change.at().since(START) / 1_000, change));
        }
    }

    fn first(&self, rule: Rule) -> Option<(i64, Id<'static>)> {
        self.alerts.iter().find_map(|(at, change)| match change {
            AlertChange::Raised(alert) if alert.rule == rule => Some((*at, alert.device.clone())),
            _ => None,
        })
    }
}

/// The record key by design: the first of these fields of the data, else the source.
fn key_of(json: &Value) -> String {
    ["device_id", "drone_id", "order_id", "task_id", "user_id"]
        .iter()
        .find_map(|name| json["data"].get(name))
        .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        .unwrap_or_else(|| json["source"].as_str().unwrap().to_owned())
}

#[test]
fn a_breach_and_a_low_battery_come_in_time_and_the_drone_comes_home() {
    for seed in (0..12).chain([42, 2025]) {
        let mut world = World::new(seed, true);
        world.run(0, 60, |_, _| {});
        let (breach_s, stray) = world.first(Rule::ZoneBreach).expect("a breach within a minute");
        let (battery_s, low) =
            world.first(Rule::BatteryLow).expect("a low battery within a minute");
        assert!((20..=30).contains(&breach_s), "seed {seed}: breach after {breach_s} s");
        assert!((20..=40).contains(&battery_s), "seed {seed}: battery low after {battery_s} s");
        assert_eq!(stray, Id::Number(u64::from(STRAY_DRONE)));
        assert_eq!(low, Id::Number(u64::from(LOW_BATTERY_DRONE)));
        assert_eq!(world.orders, [Obeyed::Turning], "seed {seed}");
        let breaches = world.alerts.iter().filter(|(_, change)| {
            matches!(change, AlertChange::Raised(alert) if alert.rule == Rule::ZoneBreach)
        });
        assert_eq!(breaches.count(), 1, "seed {seed}: nobody else strays");

        let live = world.handler.live().get(&LOW_BATTERY_DRONE.to_string()).unwrap();
        let on_its_way = matches!(live.status.as_deref(), Some("returning" | "landing"));
        assert!(on_its_way, "seed {seed}: {live:?}");
        let mut home_after_s = None;
        world.run(60, 420, |world, second| {
            if world.fleet.is_home(LOW_BATTERY_DRONE) {
                home_after_s = home_after_s.or(Some(second));
            }
        });
        assert!(home_after_s.is_some_and(|second| second < 300), "seed {seed}: {home_after_s:?}");
        let cleared: BTreeSet<String> = world
            .alerts
            .iter()
            .filter(|(_, change)| matches!(change, AlertChange::Cleared(..)))
            .map(|(_, change)| format!("{}:{}", change.alert().rule.name(), change.alert().device))
            .collect();
        assert!(cleared.contains(&format!("battery_low:{LOW_BATTERY_DRONE}")), "{cleared:?}");
        assert!(cleared.contains(&format!("zone_breach:{STRAY_DRONE}")), "{cleared:?}");
    }
}

#[test]
fn an_order_is_what_turns_the_drone() {
    let mut world = World::new(1, false);
    world.run(0, 60, |_, _| {});
    let live = world.handler.live().get(&LOW_BATTERY_DRONE.to_string()).unwrap();
    assert_eq!(live.status.as_deref(), Some("flying"));
    let device = LOW_BATTERY_DRONE.to_string();
    let order = |alert_id: &str, device: &str| Order {
        alert_id: alert_id.to_owned(),
        device: device.to_owned(),
        action: AutoAction::ReturnToBase,
    };
    assert_eq!(world.fleet.obey(&order("a", "999")), Obeyed::Unknown);
    assert_eq!(world.fleet.obey(&order("a", &device)), Obeyed::Turning);
    assert_eq!(world.fleet.obey(&order("a", &device)), Obeyed::Repeat);
    world.run(60, 62, |_, _| {});
    let live = world.handler.live().get(&device).unwrap();
    assert_eq!(live.status.as_deref(), Some("returning"));
    assert_eq!(world.fleet.obey(&order("b", &device)), Obeyed::NothingToDo);
}

#[test]
fn every_topic_is_alive_within_a_minute() {
    let mut world = World::new(7, true);
    world.run(0, 60, |_, _| {});
    for event_type in [
        "drone.status.changed",
        "drone.location.updated",
        "drone.heartbeat",
        "battery.low",
        "task.created",
        "task.progress",
        "user.login",
        "system.started",
        "system.health",
        "metric.reported",
        "log.written",
        "sensor.reading",
    ] {
        assert!(world.types.contains_key(event_type), "{event_type} in {:?}", world.types);
    }
    let readings = world.types["sensor.reading"];
    assert!((790..=800).contains(&readings), "{readings} of 40 sensors every 3 s");
    let fixes = world.types["drone.location.updated"];
    assert!((1_800..=2_880).contains(&fixes), "{fixes} fixes of 24 drones, twice a second");
    assert_eq!(world.handler.live().len(), 24);
}

#[test]
fn the_show_goes_on_for_half_an_hour() {
    let mut world = World::new(11, true);
    world.run(0, 1_800, |_, _| {});
    let [west, south, east, north] = AREA;
    for live in world.handler.live().iter() {
        assert!((west..=east).contains(&live.longitude), "{live:?}");
        assert!((south..=north).contains(&live.latitude), "{live:?}");
    }
    assert!(world.types["user.logout"] >= 2);
    let done = world.tasks.iter().filter(|task| task.result.as_deref() == Some("done")).count();
    assert!(done >= 10, "{done} missions done");
    assert!(world.tasks.iter().any(|task| task.state == TaskState::Running));
    for (_, change) in &world.alerts {
        let alert = change.alert();
        if alert.rule == Rule::ZoneBreach {
            assert_eq!(alert.device, Id::Number(u64::from(STRAY_DRONE)), "{alert:?}");
        }
    }
    assert!(!world.types.contains_key("emergency.landing"), "orders bring them home in time");
}

#[test]
fn without_orders_drones_go_home_by_themselves() {
    let mut world = World::new(11, false);
    let mut home = false;
    world.run(0, 400, |world, _| home |= world.fleet.is_home(LOW_BATTERY_DRONE));
    assert!(home, "the failsafe at 10 %");
}

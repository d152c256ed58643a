//! The location handler: the four steps of spec 001 for every fix, as values.
//!
//! Step 1: update the live position. Step 2: check the no-fly zones. Step 3: push to the console.
//! Step 4: store the trajectory point. [`LocationHandler::handle`] does 1 and 2 and says 3 and 4 as [`Effect`]s; nothing
//! here waits, writes or reads a clock, so the same records give the same effects on every replay.
//!
//! **Order.** A fix is newer than the live position if its event time is later, or equal with a later
//! offset in the same partition (two fixes of one second). A fix that is not newer is stored and does
//! nothing else: the live position never moves back, and old fixes open no episodes.
//!
//! **Zones.** A device enters a zone with the first fix inside it, and has left after
//! [`ZONE_EXIT_FIXES`] newer fixes outside in a row. So jitter on a border is one entry and one alert.
//! Only fixes are looked at, not the line between two: what crosses a zone between them is not seen.
//!
//! **Bound.** The state of [`DEVICES_MAX`] devices is kept. One more takes the place of the device that
//! has been silent the longest; the alerts of that one are cleared, for nothing that happens later
//! could clear them. When it reports again it is new.

mod recency;

use std::collections::HashMap;
use std::sync::Arc;

use weir_protocol::types::{Offset, PartitionId, TimestampMs};

use crate::alert::{Alert, AlertChange, AlertEngine, Occasion, Rule};
use crate::events::{Checked, DroneLocationUpdated, Id, Location};
use crate::geofence::{ZoneIndex, ZoneSet};
use crate::trajectory::TrackPoint;
use recency::Recency;

/// Fixes outside in a row after which a device has left a zone.
pub const ZONE_EXIT_FIXES: u8 = 3;
/// Devices whose live state is kept unless set otherwise, about 300 bytes each.
pub const DEVICES_MAX: usize = 200_000;
/// A fix dated further than this after its arrival does not move the live position: one wrong clock
/// would else freeze its device until that time comes. Ten minutes.
pub const FUTURE_MS_MAX: i64 = 600_000;

/// Which record of a topic something came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordRef {
    /// Its partition.
    pub partition: PartitionId,
    /// Its offset there.
    pub offset: Offset,
}

/// One position report.
#[derive(Debug, Clone)]
pub struct Fix<'a> {
    /// Whose.
    pub device: Id<'a>,
    /// Event time.
    pub at: TimestampMs,
    /// When it arrived: the record's timestamp, so that a replay sees the same.
    pub received: TimestampMs,
    /// Where.
    pub location: Location,
    /// Degrees clockwise from north.
    pub heading: Option<f64>,
    /// Metres per second.
    pub speed: Option<f64>,
    /// Percent.
    pub battery: Option<f64>,
    /// What the device is doing.
    pub status: Option<&'a str>,
    /// Where it stands in the topic.
    pub record: RecordRef,
}

impl<'a> Fix<'a> {
    /// The fix in a `drone.location.updated` event; `None` without a device, which validation excludes.
    pub fn from_event(
        event: &'a DroneLocationUpdated<'a>,
        at: TimestampMs,
        received: TimestampMs,
        record: RecordRef,
    ) -> Option<Self> {
        Some(Self {
            device: event.device_id.as_ref().or(event.drone_id.as_ref())?.clone(),
            at,
            received,
            location: event.location,
            heading: event.heading.map(|value| value.get()),
            speed: event.speed.map(|value| value.get()),
            battery: event.battery.map(|value| value.get()),
            status: event.status.as_deref(),
            record,
        })
    }
}

/// What a device is like now.
#[derive(Debug, Clone, PartialEq)]
pub struct LivePosition {
    /// Its id as text: the record key.
    pub device: Arc<str>,
    /// Whether it writes its id as a number.
    pub device_is_number: bool,
    /// Its place in the [`LiveMap`], from 0; it keeps it until it gives way to another device.
    pub index: u32,
    /// Number of the change that made this state, over all devices: a reader that knows `seq` n asks
    /// for what is greater.
    pub seq: u64,
    /// Event time of the fix.
    pub at: TimestampMs,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// Metres.
    pub altitude_m: Option<f64>,
    /// Degrees clockwise from north.
    pub heading: Option<f64>,
    /// Metres per second.
    pub speed: Option<f64>,
    /// Percent.
    pub battery: Option<f64>,
    /// What it is doing.
    pub status: Option<Arc<str>>,
    /// How many zones it is in.
    pub zones_inside: u16,
}

impl LivePosition {
    /// The id as the device writes it.
    pub fn id(&self) -> Id<'static> {
        match self.device.parse() {
            Ok(number) if self.device_is_number => Id::Number(number),
            _ => Id::Text(self.device.to_string().into()),
        }
    }
}

/// A device went into a zone or out of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ZoneTransition {
    /// Which device.
    pub device: Arc<str>,
    /// Which zone.
    pub zone: ZoneIndex,
    /// In, or out.
    pub entered: bool,
    /// Event time of the fix that decided it.
    pub at: TimestampMs,
}

/// What shall happen because of a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Step 2: a zone was entered or left.
    Zone(ZoneTransition),
    /// Step 2: an alert for `alert-events`.
    Alert(AlertChange),
    /// Step 3: to the console.
    Push(LivePosition),
    /// Step 4: to the trajectory store.
    Store(TrackPoint),
}

/// The live positions of the devices heard of last.
#[derive(Debug)]
pub struct LiveMap {
    by_device: HashMap<Arc<str>, u32>,
    devices: Vec<Tracked>,
    /// Which device has been silent the longest, by place.
    recency: Recency,
    seq: u64,
    devices_max: usize,
    evicted: u64,
}

#[derive(Debug)]
struct Tracked {
    live: LivePosition,
    /// Whether it has ever said where it is; else `live` has no place yet.
    located: bool,
    position_mark: Option<Mark>,
    /// Of battery and status, which heartbeats carry too.
    state_mark: Option<Mark>,
    zones: Vec<Presence>,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    at: TimestampMs,
    record: RecordRef,
}

#[derive(Debug, Clone, Copy)]
struct Presence {
    zone: ZoneIndex,
    fixes_outside: u8,
}

impl LiveMap {
    fn new(devices_max: usize) -> Self {
        Self {
            by_device: HashMap::new(),
            devices: Vec::new(),
            recency: Recency::default(),
            seq: 0,
            devices_max: devices_max.max(1),
            evicted: 0,
        }
    }

    /// One device, if it has said where it is.
    pub fn get(&self, device: &str) -> Option<&LivePosition> {
        let index = *self.by_device.get(device)?;
        let tracked = self.devices.get(index as usize)?;
        tracked.located.then_some(&tracked.live)
    }

    /// Every device that has said where it is, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &LivePosition> {
        self.devices.iter().filter(|tracked| tracked.located).map(|tracked| &tracked.live)
    }

    /// Number of the last change.
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// How many devices there are, those that have not said where they are included.
    pub fn len(&self) -> usize {
        self.devices.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// Devices that gave way to others since the start.
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The device's state, made if it is new, and the device that gave way to it.
    fn track(
        &mut self,
        device: &Id<'_>,
        location: Option<Location>,
    ) -> (&mut Tracked, Option<Evicted>) {
        let text = device.as_text();
        if let Some(index) = self.by_device.get(text.as_ref()) {
            let index = *index;
            self.recency.touch(index);
            let tracked = &mut self.devices[index as usize];
            if let (false, Some(location)) = (tracked.located, location) {
                tracked.put(location);
            }
            return (tracked, None);
        }
        let name: Arc<str> = Arc::from(text.as_ref());
        let is_number = matches!(device, Id::Number(_));
        let (index, evicted) = match self.recency.oldest() {
            Some(oldest) if self.devices.len() >= self.devices_max => (oldest, self.evict(oldest)),
            _ => (self.devices.len() as u32, None),
        };
        let new = Tracked::new(Arc::clone(&name), is_number, index, location);
        match self.devices.get_mut(index as usize) {
            Some(place) => *place = new,
            None => self.devices.push(new),
        }
        self.by_device.insert(name, index);
        self.recency.touch(index);
        (&mut self.devices[index as usize], evicted)
    }

    /// Makes a place free. What was in it stays there until it is overwritten.
    fn evict(&mut self, index: u32) -> Option<Evicted> {
        let tracked = self.devices.get(index as usize)?;
        self.by_device.remove(&tracked.live.device);
        self.evicted += 1;
        let marks = [tracked.position_mark, tracked.state_mark];
        let last = marks.into_iter().flatten().map(|mark| mark.at).max();
        Some(Evicted { device: Arc::clone(&tracked.live.device), last })
    }
}

/// A device that gave way to another.
struct Evicted {
    device: Arc<str>,
    /// Event time of the last thing it said.
    last: Option<TimestampMs>,
}

/// Takes the records of `drone-events` and says what shall happen.
#[derive(Debug)]
pub struct LocationHandler {
    zones: Arc<ZoneSet>,
    live: LiveMap,
    alerts: AlertEngine,
    hits: Vec<ZoneIndex>,
}

impl LocationHandler {
    /// With these zones, and [`DEVICES_MAX`] devices at most.
    pub fn new(zones: Arc<ZoneSet>) -> Self {
        Self::with_devices_max(zones, DEVICES_MAX)
    }

    /// With these zones, and live state for at most so many devices.
    pub fn with_devices_max(zones: Arc<ZoneSet>, devices_max: usize) -> Self {
        Self {
            zones,
            live: LiveMap::new(devices_max),
            alerts: AlertEngine::new(),
            hits: Vec::new(),
        }
    }

    /// Takes up where a worker stopped: the last point of each device and the alerts then open.
    ///
    /// Breaches of zones that are no longer there, or of devices that are no longer known, come back
    /// as cleared: nothing that happens later could clear them.
    #[must_use = "orphaned alerts stay open in the store unless their clearing is committed"]
    pub fn restore(
        &mut self,
        last_points: impl IntoIterator<Item = TrackPoint>,
        open_alerts: impl IntoIterator<Item = Alert>,
    ) -> Vec<AlertChange> {
        for point in last_points {
            let id = Id::Text(point.device.as_ref().into());
            let Some(location) = point.location() else { continue };
            if self.live.len() >= self.live.devices_max {
                break;
            }
            self.live.seq += 1;
            let seq = self.live.seq;
            let (tracked, _) = self.live.track(&id, Some(location));
            tracked.live = LivePosition {
                seq,
                at: point.at,
                heading: point.heading,
                speed: point.speed,
                battery: point.battery,
                device_is_number: point.device_is_number,
                ..tracked.live.clone()
            };
            let mark = Mark { at: point.at, record: point.record };
            tracked.position_mark = Some(mark);
            tracked.state_mark = Some(mark);
        }
        let mut orphans = Vec::new();
        for alert in open_alerts {
            let holds = match alert.rule {
                Rule::ZoneBreach => self.restore_presence(&alert),
                Rule::BatteryLow => self.restore_device(&alert.device),
            };
            if !holds {
                let opened = alert.opened;
                orphans.push(AlertChange::Cleared(alert, opened));
            } else {
                self.alerts.restore(alert);
            }
        }
        orphans
    }

    /// Puts a device back into the zone that an alert is about; false if either is gone.
    fn restore_presence(&mut self, alert: &Alert) -> bool {
        let subject = alert.subject.as_deref();
        let zone = self.zones.zones().iter().position(|zone| Some(zone.id.as_str()) == subject);
        let Some(zone) = zone.filter(|_| self.knows(&alert.device)) else { return false };
        let (tracked, _) = self.live.track(&alert.device, None);
        tracked.zones.push(Presence { zone: ZoneIndex(zone as u32), fixes_outside: 0 });
        tracked.live.zones_inside = tracked.zones.len() as u16;
        true
    }

    fn knows(&self, device: &Id<'_>) -> bool {
        self.live.by_device.contains_key(device.as_text().as_ref())
    }

    /// A device that has said how its battery is, but never where it is; false if there is no room.
    fn restore_device(&mut self, device: &Id<'_>) -> bool {
        if self.live.len() >= self.live.devices_max {
            return self.knows(device);
        }
        self.live.track(device, None);
        true
    }

    /// The live positions.
    pub const fn live(&self) -> &LiveMap {
        &self.live
    }

    /// The open alerts.
    pub const fn alerts(&self) -> &AlertEngine {
        &self.alerts
    }

    /// The zones.
    pub const fn zones(&self) -> &Arc<ZoneSet> {
        &self.zones
    }

    /// Takes one event of `drone-events`; its effects are appended to `effects`.
    ///
    /// `at` is its event time, `received` its record's timestamp.
    pub fn handle_event(
        &mut self,
        event: &Checked<'_>,
        at: TimestampMs,
        received: TimestampMs,
        record: RecordRef,
        effects: &mut Vec<Effect>,
    ) {
        if let Checked::DroneLocationUpdated(update) = event {
            if let Some(fix) = Fix::from_event(update, at, received, record) {
                self.handle(&fix, effects);
            }
            return;
        }
        let Some(device) = event.device() else { return };
        let (status, battery, location) = match event {
            Checked::DroneStatusChanged(e) => (Some(&*e.new_status), e.battery, e.location),
            Checked::DroneHeartbeat(e) => (e.status.as_deref(), e.battery, None),
            Checked::EmergencyLanding(e) => (Some("emergency_landing"), e.battery, e.location),
            Checked::BatteryLow(e) => (None, Some(e.battery), None),
            _ => return,
        };
        let mark = Mark { at, record };
        if at.since(received) > FUTURE_MS_MAX {
            return;
        }
        let (tracked, evicted) = self.live.track(device, location);
        forget(&mut self.alerts, evicted, effects);
        if !mark.is_newer_than(tracked.state_mark) {
            return;
        }
        tracked.state_mark = Some(mark);
        let place = tracked.place();
        tracked.set_state(status, battery.map(|value| value.get()));
        let index = tracked.live.index;
        self.battery(device, mark, battery.map(|value| value.get()), place, effects);
        self.push(index, effects);
    }

    /// Takes one fix; its effects are appended to `effects`.
    pub fn handle(&mut self, fix: &Fix<'_>, effects: &mut Vec<Effect>) {
        let mark = Mark { at: fix.at, record: fix.record };
        let (tracked, evicted) = self.live.track(&fix.device, Some(fix.location));
        let device = Arc::clone(&tracked.live.device);
        forget(&mut self.alerts, evicted, effects);
        let in_time = fix.at.since(fix.received) <= FUTURE_MS_MAX;
        if in_time && mark.is_newer_than(tracked.position_mark) {
            let index = tracked.live.index;
            let state_is_newer = mark.is_newer_than(tracked.state_mark);
            tracked.move_to(fix, mark);
            if state_is_newer {
                tracked.state_mark = Some(mark);
                tracked.set_state(fix.status, fix.battery);
            }
            let place = tracked.place();
            self.check_zones(index, fix, effects);
            if state_is_newer {
                self.battery(&fix.device, mark, fix.battery, place, effects);
            }
            self.push(index, effects);
        }
        effects.push(Effect::Store(TrackPoint::from_fix(device, fix)));
    }

    fn check_zones(&mut self, index: u32, fix: &Fix<'_>, effects: &mut Vec<Effect>) {
        let (latitude, longitude) = (fix.location.latitude.get(), fix.location.longitude.get());
        let altitude = fix.location.altitude.map(|altitude| altitude.get());
        self.zones.hits_into(latitude, longitude, altitude, &mut self.hits);
        let Some(tracked) = self.live.devices.get_mut(index as usize) else { return };
        // The common case: never near a zone.
        if self.hits.is_empty() && tracked.zones.is_empty() {
            return;
        }
        let occasion = Occasion {
            device: &fix.device,
            at: fix.at,
            record: fix.record,
            location: Some((latitude, longitude, altitude)),
        };
        let device = Arc::clone(&tracked.live.device);
        let mut transition = |zone: ZoneIndex, entered: bool| {
            effects.push(Effect::Zone(ZoneTransition {
                device: Arc::clone(&device),
                zone,
                entered,
                at: fix.at,
            }));
            let change = self.zones.get(zone).and_then(|zone| {
                if entered {
                    self.alerts.on_zone_enter(zone, occasion)
                } else {
                    self.alerts.on_zone_exit(zone, occasion)
                }
            });
            effects.extend(change.map(Effect::Alert));
        };
        tracked.zones.retain_mut(|presence| {
            let inside = self.hits.contains(&presence.zone);
            presence.fixes_outside = if inside { 0 } else { presence.fixes_outside + 1 };
            let stays = presence.fixes_outside < ZONE_EXIT_FIXES;
            if !stays {
                transition(presence.zone, false);
            }
            stays
        });
        for zone in &self.hits {
            if !tracked.zones.iter().any(|presence| presence.zone == *zone) {
                tracked.zones.push(Presence { zone: *zone, fixes_outside: 0 });
                transition(*zone, true);
            }
        }
        tracked.live.zones_inside = tracked.zones.len() as u16;
    }

    fn battery(
        &mut self,
        device: &Id<'_>,
        mark: Mark,
        percent: Option<f64>,
        location: Option<(f64, f64, Option<f64>)>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(percent) = percent else { return };
        let occasion = Occasion { device, at: mark.at, record: mark.record, location };
        effects.extend(self.alerts.on_battery(percent, occasion).map(Effect::Alert));
    }

    fn push(&mut self, index: u32, effects: &mut Vec<Effect>) {
        self.live.seq += 1;
        if let Some(tracked) = self.live.devices.get_mut(index as usize) {
            tracked.live.seq = self.live.seq;
            if tracked.located {
                effects.push(Effect::Push(tracked.live.clone()));
            }
        }
    }
}

/// Closes what is open of a device that is no longer known.
fn forget(alerts: &mut AlertEngine, evicted: Option<Evicted>, effects: &mut Vec<Effect>) {
    let Some(Evicted { device, last }) = evicted else { return };
    effects.extend(alerts.forget(&device, last).map(Effect::Alert));
}

impl Mark {
    fn is_newer_than(self, known: Option<Self>) -> bool {
        let Some(known) = known else { return true };
        self.at > known.at
            || (self.at == known.at
                && self.record.partition == known.record.partition
                && self.record.offset > known.record.offset)
    }
}

impl Tracked {
    fn new(device: Arc<str>, is_number: bool, index: u32, location: Option<Location>) -> Self {
        let mut tracked = Self {
            live: LivePosition {
                device,
                device_is_number: is_number,
                index,
                seq: 0,
                at: TimestampMs(i64::MIN),
                latitude: 0.0,
                longitude: 0.0,
                altitude_m: None,
                heading: None,
                speed: None,
                battery: None,
                status: None,
                zones_inside: 0,
            },
            located: false,
            position_mark: None,
            state_mark: None,
            zones: Vec::new(),
        };
        if let Some(location) = location {
            tracked.put(location);
        }
        tracked
    }

    /// Where it is until its first fix that is in time.
    fn put(&mut self, location: Location) {
        self.located = true;
        self.live.latitude = location.latitude.get();
        self.live.longitude = location.longitude.get();
        self.live.altitude_m = location.altitude.map(|altitude| altitude.get());
    }

    fn move_to(&mut self, fix: &Fix<'_>, mark: Mark) {
        self.position_mark = Some(mark);
        let live = &mut self.live;
        live.at = fix.at;
        live.latitude = fix.location.latitude.get();
        live.longitude = fix.location.longitude.get();
        live.altitude_m = fix.location.altitude.map(|altitude| altitude.get());
        live.heading = fix.heading;
        live.speed = fix.speed;
    }

    fn set_state(&mut self, status: Option<&str>, battery: Option<f64>) {
        if battery.is_some() {
            self.live.battery = battery;
        }
        if let Some(status) = status {
            if self.live.status.as_deref() != Some(status) {
                self.live.status = Some(Arc::from(status));
            }
        }
    }

    fn place(&self) -> Option<(f64, f64, Option<f64>)> {
        self.located.then_some((self.live.latitude, self.live.longitude, self.live.altitude_m))
    }
}

#[cfg(test)]
mod tests;

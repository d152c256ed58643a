//! The last known position of every device, and the binary frame that carries positions.
//!
//! A device has a slot for as long as it is heard from. Frames name devices by slot, so that a
//! moving device costs [`RECORD_BYTES`] and its id travels once per connection.
//!
//! Frame, little endian:
//!
//! ```text
//! offset  type  field
//!  0      u8    1 = positions
//!  1      u8    format version, 1
//!  2      u16   0
//!  4      u32   names that follow
//!  8      u32   records that follow the names
//! 12      u32   devices known to the server
//! 16      f64   sent_ms, the server's clock
//! 24      f64   append_ms of the oldest record in this frame; 0 = unknown
//! 32            names: u32 slot, u16 bytes, UTF-8; then zeros up to a multiple of 4
//!               records: u32 slot, i32 latitude 1e-7°, i32 longitude 1e-7°, i32 heard − sent_ms,
//!               i16 altitude 0.5 m, u16 heading 0.01°, u16 speed cm/s, u8 battery %, u8 status.
//!               Unknown: altitude i16::MIN, heading and speed 65,535, battery 255.
//! ```
//!
//! Once per connection, the last minute of a fleet of up to [`TRAILS_MAX`] devices, so that a new
//! console has trails and altitude profiles at once: the same head with 2 for 1 and no names, then
//! records, oldest first per device: u32 slot, i32 latitude, i32 longitude, i32 heard − sent_ms,
//! i16 altitude, u16 0.

use std::collections::{HashMap, VecDeque};

use super::hub::{DeviceEvent, Position};

/// Devices held. Beyond it a new device is shown once another has been silent for [`IDLE_MS`].
pub(super) const DEVICES_MAX: usize = 100_000;
/// Different status texts held; further ones are shown as the last, `other`.
pub(super) const STATUSES_MAX: usize = 64;
/// Events held for all devices together, at most [`EVENTS_PER_DEVICE`] for one.
const EVENTS_MAX: usize = 100_000;
const EVENTS_PER_DEVICE: usize = 16;
/// A device silent for this long may lose its slot to a new one.
const IDLE_MS: i64 = 600_000;
/// How often a full table is searched for idle slots.
const SEARCH_MS: i64 = 10_000;
/// Fleets up to this size have trails.
const TRAILS_MAX: usize = 2_000;
const TRAIL_STEP_MS: i64 = 2_000;
const TRAIL_POINTS: usize = 31;
/// Bytes of a device id shown.
const ID_BYTES_MAX: usize = 128;

/// Bytes of one position in a frame.
pub(super) const RECORD_BYTES: usize = 24;
/// Bytes of one past position.
const POINT_BYTES: usize = 20;
/// Bytes before the names of a frame.
pub(super) const HEAD_BYTES: usize = 32;

#[derive(Debug)]
pub(super) struct Fleet {
    slots: Vec<Slot>,
    by_id: HashMap<Box<str>, u32>,
    /// Version of the last change of each slot; apart from `slots` because every frame scans it.
    changed: Vec<u64>,
    statuses: Vec<String>,
    idle: Vec<u32>,
    searched_ms: i64,
    /// Positions of devices for which there was no slot.
    pub(super) refused: u64,
}

/// One device as `/api/state` shows it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: Box<str>,
    pub(super) fix: Fix,
    pub(super) events: VecDeque<DeviceEvent>,
    /// Oldest first, [`TRAIL_STEP_MS`] apart.
    trail: VecDeque<Point>,
    /// Version at which the slot got its id.
    named: u64,
}

/// The last position, as it was handed in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fix {
    pub(super) lat: f64,
    pub(super) lon: f64,
    pub(super) alt_m: Option<f64>,
    pub(super) heading_deg: Option<f64>,
    pub(super) speed_mps: Option<f64>,
    pub(super) battery_percent: Option<f64>,
    pub(super) status: u8,
    pub(super) timestamp_ms: i64,
    pub(super) append_ms: Option<i64>,
    heard_ms: i64,
}

/// A past position, as the frame carries it.
#[derive(Debug, Clone, Copy)]
struct Point {
    lat_e7: i32,
    lon_e7: i32,
    altitude: i16,
    heard_ms: i64,
}

impl Fleet {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            by_id: HashMap::new(),
            changed: Vec::new(),
            statuses: Vec::new(),
            idle: Vec::new(),
            searched_ms: i64::MIN,
            refused: 0,
        }
    }

    /// Takes a position; the last one handed in wins, since order per device is Kafka's.
    /// Returns whether the list of statuses grew.
    pub(super) fn position(&mut self, position: &Position<'_>, version: u64, now_ms: i64) -> bool {
        let finite = position.lat.is_finite() && position.lon.is_finite();
        let Some(slot) = finite.then(|| self.slot_for(position.device, version, now_ms)).flatten()
        else {
            self.refused += 1;
            return false;
        };
        let (status, new_status) = self.status_index(position.status);
        let fix = Fix {
            lat: position.lat,
            lon: position.lon,
            alt_m: position.alt_m,
            heading_deg: position.heading_deg,
            speed_mps: position.speed_mps,
            battery_percent: position.battery_percent,
            status,
            timestamp_ms: position.timestamp_ms,
            append_ms: position.append_ms,
            heard_ms: position.append_ms.unwrap_or(now_ms),
        };
        let trails = self.slots.len() <= TRAILS_MAX;
        let held = &mut self.slots[slot as usize];
        held.fix = fix;
        if trails {
            held.remember();
        } else if !held.trail.is_empty() {
            held.trail = VecDeque::new();
        }
        self.changed[slot as usize] = version;
        new_status
    }

    /// Takes an event of a device that has a position; others have no page to be shown on.
    pub(super) fn event(&mut self, event: DeviceEvent) {
        let Some(slot) = self.by_id.get(event.device.as_str()) else { return };
        let kept = (EVENTS_MAX / self.slots.len().max(1)).min(EVENTS_PER_DEVICE);
        let events = &mut self.slots[*slot as usize].events;
        events.push_front(event);
        events.truncate(kept);
    }

    pub(super) fn get(&self, id: &str) -> Option<&Slot> {
        self.by_id.get(id).map(|slot| &self.slots[*slot as usize])
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub(super) fn statuses(&self) -> &[String] {
        &self.statuses
    }

    pub(super) fn status_name(&self, fix: &Fix) -> &str {
        self.statuses.get(usize::from(fix.status)).map_or("", String::as_str)
    }

    /// Everything that changed after `seen`, or `None` if nothing did.
    pub(super) fn frame(&self, seen: u64, now_ms: i64) -> Option<Vec<u8>> {
        let fresh: Vec<u32> = (0u32..)
            .zip(&self.changed)
            .filter_map(|(slot, changed)| (*changed > seen).then_some(slot))
            .collect();
        if fresh.is_empty() {
            return None;
        }
        let mut frame = head(1, fresh.len(), self.slots.len(), now_ms);
        frame.reserve(fresh.len() * (RECORD_BYTES + 8));
        let names = self.encode_names(&fresh, seen, &mut frame);
        let mut oldest_append_ms = i64::MAX;
        for slot in &fresh {
            let fix = &self.slots[*slot as usize].fix;
            oldest_append_ms = oldest_append_ms.min(fix.append_ms.unwrap_or(i64::MAX));
            encode_record(*slot, fix, now_ms, &mut frame);
        }
        let append_ms = if oldest_append_ms == i64::MAX { 0 } else { oldest_append_ms };
        frame[4..8].copy_from_slice(&names.to_le_bytes());
        frame[24..32].copy_from_slice(&(append_ms as f64).to_le_bytes());
        Some(frame)
    }

    /// The last minute of every device, or `None` if the fleet is too large for trails.
    pub(super) fn trails(&self, now_ms: i64) -> Option<Vec<u8>> {
        let points: usize = self.slots.iter().map(|slot| slot.trail.len()).sum();
        if points == 0 || self.slots.len() > TRAILS_MAX {
            return None;
        }
        let mut frame = head(2, points, self.slots.len(), now_ms);
        frame.reserve(points * POINT_BYTES);
        for (slot, held) in (0u32..).zip(&self.slots) {
            for point in &held.trail {
                frame.extend_from_slice(&slot.to_le_bytes());
                frame.extend_from_slice(&point.lat_e7.to_le_bytes());
                frame.extend_from_slice(&point.lon_e7.to_le_bytes());
                frame.extend_from_slice(&before(point.heard_ms, now_ms).to_le_bytes());
                frame.extend_from_slice(&point.altitude.to_le_bytes());
                frame.extend_from_slice(&[0, 0]);
            }
        }
        Some(frame)
    }

    fn encode_names(&self, fresh: &[u32], seen: u64, frame: &mut Vec<u8>) -> u32 {
        let mut names = 0;
        for slot in fresh {
            let held = &self.slots[*slot as usize];
            if held.named > seen {
                frame.extend_from_slice(&slot.to_le_bytes());
                // At most ID_BYTES_MAX, see `slot_for`.
                frame.extend_from_slice(&(held.id.len() as u16).to_le_bytes());
                frame.extend_from_slice(held.id.as_bytes());
                names += 1;
            }
        }
        frame.resize(frame.len().next_multiple_of(4), 0);
        names
    }

    fn slot_for(&mut self, id: &str, version: u64, now_ms: i64) -> Option<u32> {
        if let Some(slot) = self.by_id.get(id) {
            return Some(*slot);
        }
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            return None;
        }
        let fresh = Slot {
            id: id.into(),
            fix: Fix::UNKNOWN,
            events: VecDeque::new(),
            trail: VecDeque::new(),
            named: version,
        };
        let slot = if self.slots.len() < DEVICES_MAX {
            self.slots.push(fresh);
            self.changed.push(version);
            u32::try_from(self.slots.len() - 1).ok()?
        } else {
            let slot = self.idle_slot(now_ms)?;
            let gone = std::mem::replace(&mut self.slots[slot as usize], fresh);
            self.by_id.remove(&gone.id);
            slot
        };
        self.by_id.insert(id.into(), slot);
        Some(slot)
    }

    /// The table is searched at most every [`SEARCH_MS`], so that a flood of new ids stays cheap.
    fn idle_slot(&mut self, now_ms: i64) -> Option<u32> {
        let silent = |slot: &Slot| now_ms.saturating_sub(slot.fix.heard_ms) > IDLE_MS;
        if self.idle.is_empty() && now_ms.saturating_sub(self.searched_ms) >= SEARCH_MS {
            self.searched_ms = now_ms;
            let slots = (0u32..).zip(&self.slots);
            self.idle = slots.filter(|(_, held)| silent(held)).map(|(slot, _)| slot).collect();
        }
        // A device may have spoken since the search.
        while let Some(slot) = self.idle.pop() {
            if silent(&self.slots[slot as usize]) {
                return Some(slot);
            }
        }
        None
    }

    fn status_index(&mut self, status: &str) -> (u8, bool) {
        if let Some(at) = self.statuses.iter().position(|known| known == status) {
            return (at as u8, false);
        }
        if self.statuses.len() >= STATUSES_MAX {
            return ((STATUSES_MAX - 1) as u8, false);
        }
        let last = self.statuses.len() == STATUSES_MAX - 1;
        self.statuses.push(if last { "other".to_owned() } else { status.to_owned() });
        ((self.statuses.len() - 1) as u8, true)
    }
}

impl Fix {
    const UNKNOWN: Self = Self {
        lat: 0.0,
        lon: 0.0,
        alt_m: None,
        heading_deg: None,
        speed_mps: None,
        battery_percent: None,
        status: 0,
        timestamp_ms: 0,
        append_ms: None,
        heard_ms: i64::MIN,
    };
}

fn encode_record(slot: u32, fix: &Fix, sent_ms: i64, frame: &mut Vec<u8>) {
    let heard = before(fix.heard_ms, sent_ms);
    let altitude = half_metres(fix.alt_m);
    let heading = known(fix.heading_deg)
        .map_or(u16::MAX, |degrees| (degrees.rem_euclid(360.0) * 100.0).round() as u16);
    let speed = known(fix.speed_mps)
        .map_or(u16::MAX, |mps| (mps * 100.0).round().clamp(0.0, f64::from(u16::MAX - 1)) as u16);
    let battery = known(fix.battery_percent)
        .map_or(u8::MAX, |percent| percent.clamp(0.0, 100.0).round() as u8);
    frame.extend_from_slice(&slot.to_le_bytes());
    frame.extend_from_slice(&e7(fix.lat).to_le_bytes());
    frame.extend_from_slice(&e7(fix.lon).to_le_bytes());
    frame.extend_from_slice(&heard.to_le_bytes());
    frame.extend_from_slice(&altitude.to_le_bytes());
    frame.extend_from_slice(&heading.to_le_bytes());
    frame.extend_from_slice(&speed.to_le_bytes());
    frame.push(battery);
    frame.push(fix.status);
}

impl Slot {
    fn remember(&mut self) {
        let heard_ms = self.fix.heard_ms;
        let last_ms = self.trail.back().map_or(i64::MIN, |point| point.heard_ms);
        if heard_ms.saturating_sub(last_ms) < TRAIL_STEP_MS {
            return;
        }
        if self.trail.len() == TRAIL_POINTS {
            self.trail.pop_front();
        }
        self.trail.push_back(Point {
            lat_e7: e7(self.fix.lat),
            lon_e7: e7(self.fix.lon),
            altitude: half_metres(self.fix.alt_m),
            heard_ms,
        });
    }
}

fn head(kind: u8, records: usize, devices: usize, now_ms: i64) -> Vec<u8> {
    let mut head = vec![0; HEAD_BYTES];
    head[0] = kind;
    head[1] = 1;
    head[8..12].copy_from_slice(&saturate_u32(records).to_le_bytes());
    head[12..16].copy_from_slice(&saturate_u32(devices).to_le_bytes());
    head[16..24].copy_from_slice(&(now_ms as f64).to_le_bytes());
    head
}

/// Float casts saturate, so a position off the globe stays within the frame.
fn e7(degrees: f64) -> i32 {
    (degrees * 1e7).round() as i32
}

fn half_metres(alt_m: Option<f64>) -> i16 {
    known(alt_m).map_or(i16::MIN, |metres| {
        (metres * 2.0).round().clamp(f64::from(-i16::MAX), f64::from(i16::MAX)) as i16
    })
}

fn before(heard_ms: i64, sent_ms: i64) -> i32 {
    heard_ms.saturating_sub(sent_ms).clamp(i64::from(i32::MIN), 0) as i32
}

fn known(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite())
}

fn saturate_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

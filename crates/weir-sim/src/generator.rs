//! A part of a fleet, making records when they are due.
//!
//! [`Generator::fill`] hands out every record that is due by a time, in order of the time it is sent. What a
//! device sends, and in which order, follows from [`FleetSpec`] and the device's number: not from the part it
//! is in, nor from how often `fill` is called, nor from whether the sink took a record at once. That is so
//! because a device draws from streams of its own, due times are computed and not counted up, and what is
//! held back is ordered by due time, then device, then sequence.
//!
//! Devices of a group are due one after the other, evenly over their interval: device `p` of `n` at
//! `(k + p / n) * interval`. So a round goes through memory in order, and no timer is kept per device.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use weir_protocol::types::TimestampMs;

use crate::anomaly::Label;
use crate::channel::Channel;
use crate::disturb::{Disturbances, Sent, Skew};
use crate::fleet::{Equipment, FleetSpec, Group, Part};
use crate::mission::Drone;
use crate::normal::Marginal;
use crate::random::mix;
use crate::record::{self, Format, Head, Stamp, RECORD_BYTES_HINT};
use crate::sensor::{Influence, SensorKind};
use crate::trend::Trends;
use crate::truth;
use crate::warp::Warp;

/// Most records held back at once; beyond it the ones due first go out early and are counted.
pub const HELD_MAX: usize = 1_000_000;
const NS_PER_MS: u64 = 1_000_000;

/// Where a record goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// Readings of sensors.
    Readings,
    /// Positions of drones.
    Fixes,
    /// The ground truth.
    Truth,
}

/// Takes records.
pub trait RecordSink {
    /// Takes this record, or returns false: it is offered again, first, with the next `fill`.
    fn take(&mut self, draft: &Draft<'_>) -> bool;
}

/// What a `fill` came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filled {
    /// Records taken.
    pub records: usize,
    /// The sink took no more.
    pub full: bool,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Readings and fixes made, once each.
    pub records: u64,
    /// Those of them that are fixes of drones.
    pub fixes: u64,
    /// Second copies.
    pub copies: u64,
    /// Readings held back for a time.
    pub held: u64,
    /// Readings that an outage or a gap left out.
    pub silent: u64,
    /// Anomalies that are over.
    pub anomalies: u64,
    /// Records sent early, for too many were held.
    pub hurried: u64,
}

impl Counts {
    /// Adds those of another part.
    pub fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.fixes += other.fixes;
        self.copies += other.copies;
        self.held += other.held;
        self.silent += other.silent;
        self.anomalies += other.anomalies;
        self.hurried += other.hurried;
    }
}

/// See the module's head.
#[derive(Debug)]
pub struct Generator {
    /// The same for all records of a run: ids are unique under it.
    source: String,
    start: TimestampMs,
    format: Format,
    anomaly_rate: f64,
    part: Part,
    trends: Trends,
    warp: Warp,
    disturbances: Option<Disturbances>,
    groups: Vec<Rounds>,
    devices: Vec<Device>,
    lines: Vec<Line>,
    texts: Vec<u8>,
    /// The device that is due next, and which of its sensors.
    tick: Option<Tick>,
    pending: Option<Pending>,
    held: BinaryHeap<Reverse<Held>>,
    truths: VecDeque<(u32, String)>,
    /// The time of the tick, as text.
    stamp: Stamp,
    influences: [Influence; 5],
    influences_of_second: i64,
    counts: Counts,
    finishing: bool,
}

/// A group's way through its devices, round after round.
#[derive(Debug)]
struct Rounds {
    interval_ns: u64,
    anomaly_rate: Option<f64>,
    /// Those of this part, with their place within a round.
    due: Vec<(u32, u64)>,
    next: usize,
    round_starts_ns: u64,
}

impl Rounds {
    fn nominal_ns(&self) -> Option<u64> {
        self.due.get(self.next).map(|(_, phase_ns)| self.round_starts_ns + phase_ns)
    }

    fn step(&mut self) {
        self.next += 1;
        if self.next == self.due.len() {
            self.next = 0;
            self.round_starts_ns += self.interval_ns;
        }
    }
}

#[derive(Debug)]
struct Device {
    /// In the fleet, from 0.
    index: u32,
    seq: u64,
    id: Span,
    first_line: u32,
    lines: u32,
    drone: Option<Box<Flyer>>,
    skew: Option<Box<Skew>>,
}

/// A drone and the start of its records.
#[derive(Debug)]
struct Flyer {
    drone: Drone,
    text: Vec<u8>,
    text_crc: u32,
}

/// One sensor of a device.
#[derive(Debug)]
struct Line {
    channel: Channel,
    text: Span,
    text_crc: u32,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    at: u32,
    bytes: u32,
}

#[derive(Debug, Clone, Copy)]
struct Tick {
    group: usize,
    device: u32,
    line: u32,
    at_ns: u64,
}

/// A record on its way to the sink.
#[derive(Debug)]
enum Pending {
    Reading {
        device: u32,
        line: u32,
        seq: u64,
        at_ns: u64,
        value: f64,
        alarm: bool,
    },
    Fix {
        device: u32,
        seq: u64,
        at_ns: u64,
    },
    /// Boxed, as the truth: rare, and larger than a reading, which is moved about.
    Held(Box<Held>),
    Truth {
        device: u32,
        at_ns: u64,
        text: Box<str>,
    },
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    due_ns: u64,
    /// In the fleet, so that parts agree.
    index: u32,
    seq: u64,
    copy: bool,
    device: u32,
    stream: Stream,
    bytes: Box<[u8]>,
}

impl Generator {
    /// The devices of `part`, at the start of the schedule. Some milliseconds per 10,000 devices; the first of
    /// a process computes the sensors' distributions, too.
    pub fn new(spec: &FleetSpec, part: Part) -> Self {
        // All kinds are computed here, so that the first reading does not wait for them.
        let _ = Marginal::of(SensorKind::Temperature);
        let mut generator = Self {
            source: spec.source(),
            start: spec.start,
            format: spec.format,
            anomaly_rate: spec.anomaly_rate,
            part,
            trends: Trends::new(spec.seed, spec.trend_strength, spec.data_variation),
            warp: spec.scenario.warp(),
            disturbances: Disturbances::new(spec.seed, &spec.scenario),
            groups: Vec::new(),
            devices: Vec::new(),
            lines: Vec::new(),
            texts: Vec::new(),
            tick: None,
            pending: None,
            held: BinaryHeap::new(),
            truths: VecDeque::new(),
            stamp: Stamp::new(spec.start),
            influences: [Influence::NONE; 5],
            influences_of_second: i64::MIN,
            counts: Counts::default(),
            finishing: false,
        };
        let mut first = 0;
        for group in &spec.groups() {
            generator.add_group(spec, group, first);
            first += group.devices;
        }
        generator
    }

    fn add_group(&mut self, spec: &FleetSpec, group: &Group, first: u32) {
        let mut due = Vec::new();
        let part = self.part;
        let positions = (0..group.devices).filter(|position| part.has(first + position));
        for position in positions {
            let phase = u128::from(position) * u128::from(group.interval_ns);
            due.push((self.devices.len() as u32, (phase / u128::from(group.devices)) as u64));
            self.add_device(spec, group, first + position);
        }
        let (interval_ns, anomaly_rate) = (group.interval_ns, group.anomaly_rate);
        self.groups.push(Rounds { interval_ns, anomaly_rate, due, next: 0, round_starts_ns: 0 });
    }

    fn add_device(&mut self, spec: &FleetSpec, group: &Group, index: u32) {
        let in_turn = [SensorKind::ALL[index as usize % 5]];
        let (kinds, drone): (&[SensorKind], _) = match &group.equipment {
            Equipment::InTurn => (&in_turn, None),
            Equipment::Sensors(kinds) => (kinds, None),
            Equipment::Drones => (&[], Some(Drone::new(spec.seed, index))),
        };
        let devices = spec.devices_total();
        let place = spec.scenario.site(devices).place(index, devices.max(index + 1));
        let id = match drone {
            Some(_) => format!("drone-{:05}", index + 1),
            None => place.device_id(index),
        };
        let first_line = self.lines.len() as u32;
        let rate = group.anomaly_rate.unwrap_or(spec.anomaly_rate);
        for (n, kind) in kinds.iter().enumerate() {
            let stream = u64::from(index) << 8 | n as u64;
            let text = match spec.format {
                Format::Json => record::reading_text(&self.source, &id, &place.json(), *kind),
                Format::Protobuf => record::reading_fields(&self.source, &id, place, *kind),
            };
            let text_crc = crc32c::crc32c(&text);
            let text = self.keep(&text);
            let channel = Channel::new(*kind, spec.seed, stream, rate);
            self.lines.push(Line { channel, text, text_crc });
        }
        let skew = self.disturbances.as_ref().and_then(|all| all.skew(index)).map(Box::new);
        if let Some(skew) = &skew {
            let text = truth::skew(&self.source, &id, self.start, skew);
            self.truths.push_back((self.devices.len() as u32, text));
        }
        let span = self.keep(id.as_bytes());
        let drone = drone.map(|drone| {
            let text = record::fix_text(&self.source, &id);
            Box::new(Flyer { drone, text_crc: crc32c::crc32c(&text), text })
        });
        let lines = kinds.len() as u32;
        self.devices.push(Device { index, seq: 0, id: span, first_line, lines, drone, skew });
    }

    fn keep(&mut self, text: &[u8]) -> Span {
        let at = self.texts.len() as u32;
        self.texts.extend_from_slice(text);
        Span { at, bytes: text.len() as u32 }
    }

    fn text(&self, span: Span) -> &[u8] {
        &self.texts[span.at as usize..(span.at + span.bytes) as usize]
    }
}

/// Going on.
impl Generator {
    /// Hands `sink` the records due by `until_ns` nanoseconds after the start, at most `records_max`.
    ///
    /// Returns how many were taken. Fewer than `records_max`, and not `full`, means nothing more is due.
    #[inline]
    pub fn fill(
        &mut self,
        until_ns: u64,
        records_max: usize,
        sink: &mut impl RecordSink,
    ) -> Filled {
        let mut filled = Filled::default();
        while filled.records < records_max {
            let Some(pending) = self.pending.take().or_else(|| self.advance(until_ns)) else {
                break;
            };
            let taken = sink.take(&Draft { generator: self, pending: &pending });
            if !taken {
                self.pending = Some(pending);
                filled.full = true;
                break;
            }
            filled.records += 1;
        }
        filled
    }

    /// When the next record is due, in nanoseconds since the start; `None`: never.
    pub fn next_due_ns(&mut self) -> Option<u64> {
        if self.pending.is_some() || !self.truths.is_empty() {
            return Some(0);
        }
        let held = self.held.peek().map(|held| held.0.due_ns);
        let fresh = self.peek_tick().map(|tick| tick.at_ns);
        held.into_iter().chain(fresh).min()
    }

    /// Ends the run: no new readings, and what is held back, with the rest of the truth, is due at once.
    pub fn finish(&mut self) {
        if std::mem::replace(&mut self.finishing, true) {
            return;
        }
        self.tick = None;
        for device in 0..self.devices.len() {
            let (from, count) = (self.devices[device].first_line, self.devices[device].lines);
            for line in from..from + count {
                let channel = &self.lines[line as usize].channel;
                if let Some(label) = channel.unfinished() {
                    let kind = channel.kind();
                    self.tell(device as u32, kind, &label, false);
                }
            }
        }
    }

    /// The record about this part that ends its ground truth: to be sent after all others.
    pub fn total(&self) -> String {
        truth::total(&self.source, &self.part.name(), &self.counts)
    }

    /// The part's name, the key of [`Generator::total`].
    pub fn part_name(&self) -> String {
        self.part.name()
    }

    /// Counters since the start.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// How many devices it has.
    pub fn devices(&self) -> usize {
        self.devices.len()
    }

    /// Ids of its devices, by their number here.
    pub fn device_ids(&self) -> impl Iterator<Item = &[u8]> + '_ {
        self.devices.iter().map(|device| self.text(device.id))
    }

    /// Adds device `index`, which no part has had yet, with the sensors and the interval of the first group.
    /// False if it is not of this part. It is due within an interval, at a place in the round that is its own.
    pub fn add(&mut self, spec: &FleetSpec, index: u32) -> bool {
        let groups = spec.groups();
        let (Some(group), true) = (groups.first(), self.part.has(index)) else { return false };
        let device = self.devices.len() as u32;
        self.add_device(spec, group, index);
        let Some(rounds) = self.groups.first_mut() else { return false };
        let phase_ns = mix(u64::from(index)) % rounds.interval_ns.max(1);
        let at = rounds.due.partition_point(|(_, phase)| *phase <= phase_ns);
        rounds.due.insert(at, (device, phase_ns));
        // What is before the next in the round has had its turn; so has what stands at the place of one that
        // is among its sensors.
        let is_busy = self.tick.is_some_and(|tick| tick.line > 0 && tick.group == 0);
        let has_passed = at < rounds.next || (at == rounds.next && (at > 0 || is_busy));
        rounds.next += usize::from(has_passed);
        self.tick = self.tick.filter(|tick| tick.line > 0);
        true
    }

    /// Takes a device out; false if it is not here. What it has still to send is sent.
    pub fn remove(&mut self, device_id: &str) -> bool {
        for group in &mut self.groups {
            let is_it = |(device, _): &(u32, u64)| {
                let Span { at, bytes } = self.devices[*device as usize].id;
                &self.texts[at as usize..(at + bytes) as usize] == device_id.as_bytes()
            };
            let Some(at) = group.due.iter().position(is_it) else { continue };
            let (gone, _) = group.due.remove(at);
            group.next -= usize::from(at < group.next);
            if group.next >= group.due.len() {
                group.next = 0;
                group.round_starts_ns += group.interval_ns;
            }
            // One that is among its sensors goes on with them, unless it is this one.
            self.tick = self.tick.filter(|tick| tick.line > 0 && tick.device != gone);
            return true;
        }
        false
    }

    /// Takes another anomaly rate from now on, where no profile has its own.
    pub fn set_anomaly_rate(&mut self, rate: f64) {
        self.anomaly_rate = rate;
        for group in self.groups.iter().filter(|group| group.anomaly_rate.is_none()) {
            for (device, _) in &group.due {
                let Device { first_line, lines, .. } = self.devices[*device as usize];
                let lines = &mut self.lines[first_line as usize..(first_line + lines) as usize];
                lines.iter_mut().for_each(|line| line.channel.set_anomaly_rate(rate));
            }
        }
    }

    /// Takes other trends from now on.
    pub fn set_trends(&mut self, trends: Trends) {
        self.trends = trends;
        self.influences_of_second = i64::MIN;
    }

    fn advance(&mut self, until_ns: u64) -> Option<Pending> {
        loop {
            if let Some((device, text)) = self.truths.pop_front() {
                let at_ns = self.since_start(self.stamp.at);
                return Some(Pending::Truth { device, at_ns, text: text.into() });
            }
            let tick = self.peek_tick();
            if let Some(held) = self.held.peek() {
                let due_ns = held.0.due_ns;
                let first = tick.is_none_or(|tick| due_ns <= tick.at_ns);
                let hurried = self.held.len() > HELD_MAX;
                if (first && due_ns <= until_ns) || hurried || self.finishing {
                    self.counts.hurried += u64::from(hurried);
                    return self.held.pop().map(|held| Pending::Held(Box::new(held.0)));
                }
            }
            let tick = tick.filter(|tick| tick.at_ns <= until_ns)?;
            if let Some(pending) = self.make(tick) {
                return Some(pending);
            }
        }
    }

    #[inline]
    fn peek_tick(&mut self) -> Option<Tick> {
        if self.tick.is_none() && !self.finishing {
            let due = self.groups.iter().enumerate();
            let due = due.filter_map(|(group, rounds)| Some((rounds.nominal_ns()?, group)));
            let (nominal_ns, group) = due.min()?;
            let at_ns = self.warp.actual_ns(nominal_ns)?;
            let rounds = &self.groups[group];
            let (device, _) = rounds.due[rounds.next];
            self.tick = Some(Tick { group, device, line: 0, at_ns });
        }
        self.tick
    }

    /// The record of a tick, unless it is not sent, or not now.
    fn make(&mut self, tick: Tick) -> Option<Pending> {
        let at = self.start.plus_ms((tick.at_ns / NS_PER_MS) as i64);
        if self.stamp.at != at {
            self.stamp = Stamp::new(at);
        }
        let device = &self.devices[tick.device as usize];
        let (lines, first_line) = (device.lines, device.first_line);
        if tick.line + 1 < lines {
            self.tick = Some(Tick { line: tick.line + 1, ..tick });
        } else {
            self.tick = None;
            self.groups[tick.group].step();
        }
        let seq = self.devices[tick.device as usize].seq;
        let pending = if lines == 0 {
            Pending::Fix { device: tick.device, seq, at_ns: tick.at_ns }
        } else {
            let line = first_line + tick.line;
            let (value, alarm) = self.read(tick, line, at)?;
            Pending::Reading { device: tick.device, line, seq, at_ns: tick.at_ns, value, alarm }
        };
        if self.disturbances.is_some() {
            return self.disturb(tick, pending, seq);
        }
        self.count(tick.device, seq);
        Some(pending)
    }

    #[inline]
    fn count(&mut self, device: u32, seq: u64) {
        let device = &mut self.devices[device as usize];
        device.seq = seq + 1;
        self.counts.records += 1;
        self.counts.fixes += u64::from(device.lines == 0);
    }

    #[inline]
    fn read(&mut self, tick: Tick, line: u32, at: TimestampMs) -> Option<(f64, bool)> {
        let second = at.get().div_euclid(1_000);
        if self.influences_of_second != second {
            // Once a second is often enough for what takes hours, and the same in every part.
            let of_second = TimestampMs(second * 1_000);
            self.influences = SensorKind::ALL.map(|kind| self.trends.influence(kind, of_second));
            self.influences_of_second = second;
        }
        let rate = self.groups[tick.group].anomaly_rate.unwrap_or(self.anomaly_rate);
        let channel = &mut self.lines[line as usize].channel;
        let kind = channel.kind();
        let reading = channel.read(self.influences[kind as usize], rate, at);
        if let Some(label) = reading.ended {
            self.counts.anomalies += 1;
            self.tell(tick.device, kind, &label, true);
        }
        match reading.value {
            Some(value) => Some((value, reading.alarm)),
            None => {
                self.counts.silent += 1;
                None
            }
        }
    }

    fn tell(&mut self, device: u32, kind: SensorKind, label: &Label, finished: bool) {
        let id = String::from_utf8_lossy(self.text(self.devices[device as usize].id)).into_owned();
        let text = truth::anomaly(&self.source, &id, kind, label, finished);
        self.truths.push_back((device, text));
    }

    fn disturb(&mut self, tick: Tick, pending: Pending, seq: u64) -> Option<Pending> {
        let index = self.devices[tick.device as usize].index;
        let interval_ns = self.groups[tick.group].interval_ns;
        let fate = self.disturbances.as_ref()?.fate(index, seq, tick.at_ns, interval_ns);
        if fate.sent == Sent::Never {
            self.counts.silent += 1;
            return None;
        }
        self.count(tick.device, seq);
        let mut due_ns = tick.at_ns;
        if let Sent::At(at_ns, reason) = fate.sent {
            due_ns = at_ns;
            self.counts.held += 1;
            self.tell_record(reason.name(), &pending, tick.at_ns, at_ns);
        }
        let delayed = due_ns != tick.at_ns;
        if !delayed && fate.again_after_ns.is_none() {
            return Some(pending);
        }
        let bytes = self.rendered(&pending, due_ns);
        let stream = match pending {
            Pending::Fix { .. } => Stream::Fixes,
            _ => Stream::Readings,
        };
        let held = |due_ns: u64, copy: bool, bytes: Box<[u8]>| {
            Reverse(Held { due_ns, index, seq, copy, device: tick.device, stream, bytes })
        };
        if let Some(after_ns) = fate.again_after_ns {
            self.counts.copies += 1;
            let again_ns = due_ns + after_ns;
            self.tell_record("duplicate", &pending, tick.at_ns, again_ns);
            self.held.push(held(again_ns, true, bytes.clone()));
        }
        if delayed {
            self.held.push(held(due_ns, false, bytes));
            return None;
        }
        Some(pending)
    }

    fn tell_record(&mut self, kind: &str, pending: &Pending, at_ns: u64, sent_ns: u64) {
        let Some((device, seq)) = pending.of() else { return };
        let id = String::from_utf8_lossy(self.text(self.devices[device as usize].id)).into_owned();
        let (at, sent) = (self.time(at_ns), self.time(sent_ns));
        let text = truth::record(kind, &self.source, &id, seq, at, sent);
        self.truths.push_back((device, text));
    }

    fn rendered(&self, pending: &Pending, due_ns: u64) -> Box<[u8]> {
        let mut bytes = Vec::with_capacity(RECORD_BYTES_HINT);
        self.write(pending, &Stamp::new(self.time(due_ns)), &mut bytes);
        bytes.into_boxed_slice()
    }

    fn time(&self, at_ns: u64) -> TimestampMs {
        self.start.plus_ms((at_ns / NS_PER_MS) as i64)
    }

    fn since_start(&self, at: TimestampMs) -> u64 {
        at.since(self.start).max(0) as u64 * NS_PER_MS
    }

    /// Writes what was made at the time of `self.stamp`.
    fn write(&self, pending: &Pending, sent: &Stamp, out: &mut Vec<u8>) {
        match pending {
            Pending::Held(held) => out.extend_from_slice(&held.bytes),
            Pending::Truth { text, .. } => out.extend_from_slice(text.as_bytes()),
            Pending::Reading { device, line, seq, at_ns, value, alarm } => {
                let device = &self.devices[*device as usize];
                let line = &self.lines[*line as usize];
                let skewed = device.skew.as_deref().map(|skew| self.skewed(skew, *at_ns));
                let event = skewed.as_ref().unwrap_or(&self.stamp);
                let (text, text_crc) = (self.text(line.text), line.text_crc);
                let number = device.index + 1;
                let head = Head { text, text_crc, seq: *seq, event, sent, number };
                let kind = line.channel.kind();
                match self.format {
                    Format::Json => record::write_reading(out, &head, kind, *value, *alarm),
                    Format::Protobuf => record::write_reading_protobuf(out, &head, *value, *alarm),
                }
            }
            Pending::Fix { device, seq, at_ns } => {
                let device = &self.devices[*device as usize];
                let Some(flyer) = &device.drone else { return };
                let skewed = device.skew.as_deref().map(|skew| self.skewed(skew, *at_ns));
                let event = skewed.as_ref().unwrap_or(&self.stamp);
                let (text, text_crc) = (flyer.text.as_slice(), flyer.text_crc);
                let number = device.index + 1;
                let head = Head { text, text_crc, seq: *seq, event, sent, number };
                record::write_fix(out, &head, &flyer.drone.at(*at_ns as f64 / 1e9));
            }
        }
    }

    fn skewed(&self, skew: &Skew, at_ns: u64) -> Stamp {
        let drifted_ms = (at_ns as f64 / NS_PER_MS as f64 * skew.drift) as i64;
        Stamp::new(self.time(at_ns).plus_ms(skew.offset_ms + drifted_ms))
    }
}

impl Pending {
    /// Device here and sequence, of a reading or a fix.
    fn of(&self) -> Option<(u32, u64)> {
        match self {
            Self::Reading { device, seq, .. } | Self::Fix { device, seq, .. } => {
                Some((*device, *seq))
            }
            Self::Held(held) => Some((held.device, held.seq)),
            Self::Truth { .. } => None,
        }
    }
}

/// A record that a sink may take: where it goes, and its bytes when they are asked for.
pub struct Draft<'a> {
    generator: &'a Generator,
    pending: &'a Pending,
}

impl std::fmt::Debug for Draft<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Draft").field("pending", self.pending).finish_non_exhaustive()
    }
}

impl<'a> Draft<'a> {
    /// Where it goes.
    #[inline]
    pub fn stream(&self) -> Stream {
        match self.pending {
            Pending::Reading { .. } => Stream::Readings,
            Pending::Fix { .. } => Stream::Fixes,
            Pending::Truth { .. } => Stream::Truth,
            Pending::Held(held) => held.stream,
        }
    }

    /// The number of its device in this generator; see [`Generator::device_ids`].
    #[inline]
    pub fn device(&self) -> usize {
        match self.pending {
            Pending::Reading { device, .. } | Pending::Fix { device, .. } => *device as usize,
            Pending::Held(held) => held.device as usize,
            Pending::Truth { device, .. } => *device as usize,
        }
    }

    /// Its key: the id of its device.
    #[inline]
    pub fn key(&self) -> &'a [u8] {
        self.generator.text(self.generator.devices[self.device()].id)
    }

    /// When it is sent by schedule, in nanoseconds since the start.
    #[inline]
    pub fn due_ns(&self) -> u64 {
        match self.pending {
            Pending::Reading { at_ns, .. }
            | Pending::Fix { at_ns, .. }
            | Pending::Truth { at_ns, .. } => *at_ns,
            Pending::Held(held) => held.due_ns,
        }
    }

    /// Writes its value to the end of `out`.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>) {
        self.generator.write(self.pending, &self.generator.stamp, out);
    }
}

#[cfg(test)]
mod tests;

//! From the consumer's side: what was lost, what came twice, what came out of order, what was damaged.
//!
//! Each record of the simulator has a source, a device, a sequence counted from 0 and a CRC. A
//! [`Verifier`] sees records as they are read, in the order of their partitions, and the ground truth, in any order
//! between them; its report sets what the simulator did on purpose apart from what happened on the way.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;

use crate::record::{self, Format};

/// Ranges of missing sequences that are told apart for one device; beyond it they are counted only.
const RANGES_MAX: usize = 10_000;
/// Repeats and late comers that are kept to be explained by the ground truth.
const NOTED_MAX: usize = 4_000_000;
const READING_HEAD: &[u8] = br#"{"type":"sensor.reading","source":""#;
const FIX_HEAD: &[u8] = br#"{"type":"drone.location.updated","source":""#;

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The next of its device.
    InOrder,
    /// A later one came before it.
    OutOfOrder,
    /// It was seen before.
    Duplicate,
    /// Its CRC is not that of its bytes.
    Damaged,
    /// No record of the simulator.
    Foreign,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Records of the simulator, copies included.
    pub records: u64,
    /// Devices they come from.
    pub devices: u64,
    /// Runs they come from.
    pub runs: u64,
    /// Sequences that never came.
    pub lost: u64,
    /// Records seen before, that the simulator did not repeat itself.
    pub duplicates: u64,
    /// Those that it did.
    pub duplicates_injected: u64,
    /// Records that a later one overtook, and that the simulator had not held back.
    pub out_of_order: u64,
    /// Those that it had.
    pub out_of_order_injected: u64,
    /// Records whose CRC is wrong.
    pub damaged: u64,
    /// Records that are none of the simulator's.
    pub foreign: u64,
    /// Runs or parts of runs whose end is not told, so that nothing is known about losses at their end.
    pub open_runs: u64,
}

impl Report {
    /// Nothing lost, damaged, twice or out of order but on purpose.
    pub const fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicates == 0 && self.out_of_order == 0 && self.damaged == 0
    }
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct Verifier {
    runs: HashMap<Box<str>, Run>,
    records: u64,
    damaged: u64,
    foreign: u64,
}

#[derive(Debug, Default)]
struct Run {
    devices: HashMap<Box<[u8]>, Seen>,
    /// Repeats and late comers, to be explained.
    repeats: Vec<(Box<[u8]>, u64)>,
    overtaken: Vec<(Box<[u8]>, u64)>,
    unnoted: u64,
    injected_repeats: HashSet<(Box<[u8]>, u64)>,
    injected_delays: HashSet<(Box<[u8]>, u64)>,
    /// Records by part, as the simulator tells at its end.
    told: HashMap<Box<str>, Told>,
}

/// Records of a part, without copies.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    readings: u64,
    fixes: u64,
}

/// The sequences of one device.
#[derive(Debug, Default)]
struct Seen {
    next: u64,
    /// Below `next`: from, to (not included).
    missing: BTreeMap<u64, u64>,
    distinct: u64,
    /// A drone's, which go to another topic than readings.
    is_fixes: bool,
}

impl Seen {
    /// `seq` is not the last that there can be: [`Verifier::see`] has refused that.
    fn see(&mut self, seq: u64) -> Verdict {
        if seq >= self.next {
            if seq > self.next && self.missing.len() < RANGES_MAX {
                self.missing.insert(self.next, seq);
            }
            self.next = seq + 1;
            self.distinct += 1;
            return Verdict::InOrder;
        }
        let range = self.missing.range(..=seq).next_back().map(|(from, to)| (*from, *to));
        let Some((from, to)) = range.filter(|(_, to)| seq < *to) else { return Verdict::Duplicate };
        self.missing.remove(&from);
        for (from, to) in [(from, seq), (seq + 1, to)] {
            if from < to {
                self.missing.insert(from, to);
            }
        }
        self.distinct += 1;
        Verdict::OutOfOrder
    }
}

/// What is read of the ground truth.
#[derive(Debug, Deserialize)]
struct Truth<'a> {
    #[serde(borrow)]
    kind: &'a str,
    #[serde(borrow)]
    source: &'a str,
    #[serde(borrow)]
    device_id: &'a str,
    seq: Option<u64>,
    readings: Option<u64>,
    fixes: Option<u64>,
}

impl Verifier {
    /// Sees a record.
    pub fn see(&mut self, format: Format, key: Option<&[u8]>, value: &[u8]) -> Verdict {
        let read = match format {
            Format::Json => read_json(value),
            Format::Protobuf => read_protobuf(value),
        };
        // Sequences are counted from 0: one that has no next is forged.
        let read = read.filter(|read| read.seq < u64::MAX);
        let (Some(key), Some(read)) = (key, read) else {
            self.foreign += 1;
            return Verdict::Foreign;
        };
        self.records += 1;
        if !read.whole {
            self.damaged += 1;
            return Verdict::Damaged;
        }
        let run = self.run(read.source);
        let seen = match run.devices.get_mut(key) {
            Some(seen) => seen,
            None => {
                let seen = Seen { is_fixes: read.is_fix, ..Seen::default() };
                run.devices.entry(key.into()).or_insert(seen)
            }
        };
        let verdict = seen.see(read.seq);
        let noted = match verdict {
            Verdict::Duplicate => &mut run.repeats,
            Verdict::OutOfOrder => &mut run.overtaken,
            _ => return verdict,
        };
        match noted.len() < NOTED_MAX {
            true => noted.push((key.into(), read.seq)),
            false => run.unnoted += 1,
        }
        verdict
    }

    /// Sees a record of the ground truth; false if it is none.
    pub fn see_truth(&mut self, value: &[u8]) -> bool {
        let Ok(truth) = serde_json::from_slice::<Truth<'_>>(value) else { return false };
        let run = self.run(truth.source);
        let reading = |seq| (Box::from(truth.device_id.as_bytes()), seq);
        match (truth.kind, truth.seq, truth.readings) {
            ("duplicate", Some(seq), _) => {
                run.injected_repeats.insert(reading(seq));
            }
            ("late" | "out_of_order" | "outage", Some(seq), _) => {
                run.injected_delays.insert(reading(seq));
            }
            ("run", _, Some(readings)) => {
                let told = Told { readings, fixes: truth.fixes.unwrap_or(0) };
                run.told.insert(truth.device_id.into(), told);
            }
            _ => {}
        }
        true
    }

    fn run(&mut self, source: &str) -> &mut Run {
        if !self.runs.contains_key(source) {
            self.runs.insert(source.into(), Run::default());
        }
        // Just put there if it was not.
        self.runs.entry(source.into()).or_default()
    }

    /// What was found up to now.
    pub fn report(&self) -> Report {
        let mut report = Report {
            records: self.records,
            damaged: self.damaged,
            foreign: self.foreign,
            ..Report::default()
        };
        for run in self.runs.values() {
            run.add_to(&mut report);
        }
        report
    }
}

impl Run {
    fn add_to(&self, report: &mut Report) {
        report.runs += 1;
        report.devices += self.devices.len() as u64;
        // Sequences and what is told come from outside: sums of them saturate.
        let gaps = self.devices.values().map(|seen| seen.next - seen.distinct);
        let gaps = gaps.fold(0, u64::saturating_add);
        let lost = match self.whole() {
            // What is told counts what was never seen of a device, too.
            Some(told) => self.unseen(told).max(gaps),
            None => {
                report.open_runs += 1;
                gaps
            }
        };
        report.lost = report.lost.saturating_add(lost);
        let explained = |noted: &[(Box<[u8]>, u64)], known: &HashSet<(Box<[u8]>, u64)>| {
            noted.iter().filter(|note| known.contains(note)).count() as u64
        };
        let repeats = explained(&self.repeats, &self.injected_repeats);
        report.duplicates_injected += repeats;
        report.duplicates += self.repeats.len() as u64 - repeats;
        // The copy may come first: then the original is what comes late.
        let overtaken = self.overtaken.iter().filter(|note| {
            self.injected_delays.contains(note) || self.injected_repeats.contains(note)
        });
        let overtaken = overtaken.count() as u64;
        report.out_of_order_injected += overtaken;
        report.out_of_order += self.overtaken.len() as u64 - overtaken + self.unnoted;
    }

    /// What was told and never seen. Fixes are in another topic: where none is seen, that is not read.
    fn unseen(&self, told: Told) -> u64 {
        let seen = |fixes: bool| {
            let devices = self.devices.values().filter(|seen| seen.is_fixes == fixes);
            devices.map(|seen| seen.distinct).sum::<u64>()
        };
        let (readings, fixes) = (seen(false), seen(true));
        let unseen_readings = told.readings.saturating_sub(readings);
        let unseen_fixes = told.fixes.saturating_sub(fixes);
        match (readings, fixes) {
            (_, 0) => unseen_readings,
            (0, _) => unseen_fixes,
            _ => unseen_readings.saturating_add(unseen_fixes),
        }
    }

    /// Records of all parts together, if each has told its own: parts are named `part-1/2-1/1`, the first
    /// of two shards, of one worker.
    fn whole(&self) -> Option<Told> {
        let parts_of = |name: &str| {
            let mut numbers = name.strip_prefix("part-")?.split(['/', '-']);
            let mut next = || numbers.next()?.parse::<usize>().ok();
            let (_, shards, _, workers) = (next()?, next()?, next()?, next()?);
            Some((shards, workers))
        };
        let mut by_shard: HashMap<&str, (usize, usize)> = HashMap::new();
        let mut shards = 0;
        for name in self.told.keys() {
            let (of_shards, workers) = parts_of(name)?;
            shards = of_shards;
            let shard = name.split('/').next()?;
            let entry = by_shard.entry(shard).or_insert((0, workers));
            entry.0 += 1;
        }
        let complete = shards > 0
            && by_shard.len() == shards
            && by_shard.values().all(|(told, workers)| told == workers);
        let add = |sum: Told, told: &Told| Told {
            readings: sum.readings.saturating_add(told.readings),
            fixes: sum.fixes.saturating_add(told.fixes),
        };
        complete.then(|| self.told.values().fold(Told::default(), add))
    }
}

/// The parts of a record that are looked at.
#[derive(Debug)]
struct Read<'a> {
    source: &'a str,
    seq: u64,
    whole: bool,
    is_fix: bool,
}

/// The end of every record is of one shape:
/// `,"seq":17,"sent":1754217000000,"crc":"89abcdef"},"timestamp":"2025-08-03T10:30:00.000Z","id":"D42-17"}`.
fn read_json(value: &[u8]) -> Option<Read<'_>> {
    let (rest, is_fix) = match value.strip_prefix(READING_HEAD) {
        Some(rest) => (rest, false),
        None => (value.strip_prefix(FIX_HEAD)?, true),
    };
    let source = &rest[..rest.iter().take(64).position(|byte| *byte == b'"')?];
    let (before, of_id) = number_at_end(value.strip_suffix(br#""}"#)?)?;
    let (before, _) = number_at_end(before.strip_suffix(b"-")?)?;
    let before = before.strip_suffix(br#"","id":"D"#)?;
    let (before, _) = before.split_at_checked(before.len().checked_sub(24)?)?;
    let before = before.strip_suffix(br#""},"timestamp":""#)?;
    let (before, crc) = before.split_at_checked(before.len().checked_sub(8)?)?;
    let after = &value[before.len() + 8..];
    let (before_sent, _) = number_at_end(before.strip_suffix(br#","crc":""#)?)?;
    // Before 1970 it is negative.
    let before_sent = before_sent.strip_suffix(b"-").unwrap_or(before_sent);
    let (before_seq, seq) = number_at_end(before_sent.strip_suffix(br#","sent":"#)?)?;
    before_seq.strip_suffix(br#","seq":"#)?;
    // Of the value with zeros for the digits of the CRC.
    let summed = crc32c::crc32c_append(crc32c::crc32c(before), b"00000000");
    let whole = crc == record::hex(crc32c::crc32c_append(summed, after)) && seq == of_id;
    Some(Read { source: std::str::from_utf8(source).ok()?, seq, whole, is_fix })
}

/// A number and what is before it.
fn number_at_end(bytes: &[u8]) -> Option<(&[u8], u64)> {
    let digits = bytes.iter().rev().take(20).take_while(|byte| byte.is_ascii_digit()).count();
    let (before, digits) = bytes.split_at(bytes.len() - digits);
    let text = std::str::from_utf8(digits).ok()?;
    Some((before, text.parse().ok()?))
}

/// Fields 7 (source) and 10 (seq) of `SensorReading`.
fn read_protobuf(value: &[u8]) -> Option<Read<'_>> {
    let (before, crc) = value.split_at_checked(value.len().checked_sub(5)?)?;
    let crc = crc.strip_prefix(&[record::PROTOBUF_CRC_TAG])?;
    let whole = crc == crc32c::crc32c(before).to_le_bytes();
    let (mut rest, mut source, mut seq) = (before, None, None);
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match tag & 7 {
            0 => {
                let number = varint(&mut rest)?;
                seq = if tag >> 3 == 10 { Some(number) } else { seq };
            }
            1 => rest = rest.get(8..)?,
            2 => {
                let bytes = usize::try_from(varint(&mut rest)?).ok()?;
                let (text, after) = rest.split_at_checked(bytes)?;
                source = if tag >> 3 == 7 { std::str::from_utf8(text).ok() } else { source };
                rest = after;
            }
            _ => return None,
        }
    }
    // A seq that is 0 may be left out by other writers.
    Some(Read { source: source?, seq: seq.unwrap_or(0), whole, is_fix: false })
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests;

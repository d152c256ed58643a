//! What is sent: readings and fixes as JSON or Protobuf, written straight into the batch they travel in.
//!
//! Every record of a device has a sequence number counted from 0, the time it is sent by schedule, and a
//! CRC-32C. The CRC is the last field; it is of all bytes of the value before it (before `,"crc"` in JSON,
//! before the field's tag in Protobuf), so a consumer checks what it got without parsing it first.
//!
//! A JSON value is an event as the gateway takes it (`id`, `type`, `source`, `timestamp`, `data`). Its text
//! is mostly the same from reading to reading of a channel, so that part is made once.

use weir_client::timestamp::write_rfc3339;
use weir_protocol::types::TimestampMs;

use crate::mission::Fix;
use crate::sensor::SensorKind;

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Events, as the gateway takes them.
    #[default]
    Json,
    /// `SensorReading` of `assets/weir-sim.proto`; fixes of drones stay JSON.
    Protobuf,
}

/// Most bytes of the two records of one channel that do not change.
const STATIC_BYTES: usize = 256;
/// About how long a JSON record is: a hint for buffers.
pub const RECORD_BYTES_HINT: usize = 384;

/// A time as the texts it is written as.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp {
    pub(crate) at: TimestampMs,
    rfc3339: [u8; 24],
}

impl Stamp {
    pub(crate) fn new(at: TimestampMs) -> Self {
        let mut text = String::with_capacity(24);
        write_rfc3339(&mut text, at);
        let mut rfc3339 = [b'0'; 24];
        // The format has 24 bytes always.
        rfc3339.copy_from_slice(&text.as_bytes()[..24]);
        Self { at, rfc3339 }
    }
}

/// What a record says beside its reading.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head<'a> {
    /// The run, the same for all of its records.
    pub(crate) run: &'a Run,
    /// The record's parts that do not change.
    pub(crate) text: &'a [u8],
    pub(crate) seq: u64,
    /// By the device's clock.
    pub(crate) event: &'a Stamp,
    /// When it is sent by schedule.
    pub(crate) sent: &'a Stamp,
    pub(crate) number: u32,
}

/// The parts of a record that a run has in common.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// `sim-` and 8 hexadecimal digits of seed and start: ids are unique under it.
    pub(crate) source: String,
    reading_head: Vec<u8>,
    fix_head: Vec<u8>,
}

impl Run {
    pub(crate) fn new(source: String) -> Self {
        let head = |event_type: &str| {
            format!(r#"{{"type":"{event_type}","source":"{source}","id":"D"#).into_bytes()
        };
        let (reading_head, fix_head) = (head("sensor.reading"), head("drone.location.updated"));
        Self { source, reading_head, fix_head }
    }
}

/// The text of a channel that does not change, for [`Format::Json`].
pub(crate) fn reading_text(device_id: &str, place: &str, kind: SensorKind) -> Vec<u8> {
    let unit = kind.unit().map(|unit| format!(r#","unit":"{unit}""#)).unwrap_or_default();
    let name = kind.name();
    let text =
        format!(r#"{{"device_id":"{device_id}","place":{place},"sensor":"{name}"{unit},"value":"#);
    debug_assert!(text.len() <= STATIC_BYTES, "longer than buffers are made for");
    text.into_bytes()
}

/// The text of a drone that does not change.
pub(crate) fn fix_text(device_id: &str) -> Vec<u8> {
    format!(r#"{{"drone_id":"{device_id}","location":{{"latitude":"#).into_bytes()
}

/// Writes a reading as JSON to the end of `out`.
pub(crate) fn write_reading(
    out: &mut Vec<u8>,
    head: &Head<'_>,
    kind: SensorKind,
    value: f64,
    alarm: bool,
) {
    let start = begin(out, &head.run.reading_head, head);
    match kind {
        SensorKind::Switch if value > 0.5 => out.extend_from_slice(br#""ON""#),
        SensorKind::Switch => out.extend_from_slice(br#""OFF""#),
        _ => push_fixed(out, value, 100),
    }
    out.extend_from_slice(match alarm {
        true => br#","status":"alarm","seq":"#,
        false => br#","status":"normal","seq":"#,
    });
    finish(out, start, head);
}

/// Writes a drone's fix as JSON to the end of `out`.
pub(crate) fn write_fix(out: &mut Vec<u8>, head: &Head<'_>, fix: &Fix) {
    let start = begin(out, &head.run.fix_head, head);
    push_fixed(out, fix.latitude, 1_000_000);
    out.extend_from_slice(br#","longitude":"#);
    push_fixed(out, fix.longitude, 1_000_000);
    out.extend_from_slice(br#","altitude":"#);
    push_fixed(out, fix.altitude_m, 10);
    out.extend_from_slice(br#"},"heading":"#);
    // 359.96 would round to 360.0, which is the same as 0.
    push_fixed(out, if fix.heading >= 359.95 { 0.0 } else { fix.heading }, 10);
    out.extend_from_slice(br#","speed":"#);
    push_fixed(out, fix.speed_mps, 10);
    out.extend_from_slice(br#","battery":"#);
    push_fixed(out, fix.battery, 10);
    out.extend_from_slice(br#","status":""#);
    out.extend_from_slice(fix.status.name().as_bytes());
    out.extend_from_slice(br#"","mission":"#);
    push_number(out, fix.mission);
    out.extend_from_slice(br#","seq":"#);
    finish(out, start, head);
}

/// Everything before the reading; returns where the record starts.
#[inline]
fn begin(out: &mut Vec<u8>, run_head: &[u8], head: &Head<'_>) -> usize {
    let start = out.len();
    out.reserve(RECORD_BYTES_HINT);
    out.extend_from_slice(run_head);
    push_number(out, u64::from(head.number));
    out.push(b'-');
    push_number(out, head.seq);
    out.extend_from_slice(br#"","timestamp":""#);
    out.extend_from_slice(&head.event.rfc3339);
    out.extend_from_slice(br#"","data":"#);
    out.extend_from_slice(head.text);
    start
}

/// Everything after the name of `seq`.
#[inline]
fn finish(out: &mut Vec<u8>, start: usize, head: &Head<'_>) {
    push_number(out, head.seq);
    out.extend_from_slice(br#","sent":"#);
    push_signed(out, head.sent.at.get());
    let crc = crc32c::crc32c(&out[start..]);
    out.extend_from_slice(br#","crc":""#);
    out.extend_from_slice(&hex(crc));
    out.extend_from_slice(br#""}}"#);
}

/// What follows the bytes that a JSON record's CRC is of.
pub(crate) const CRC_FIELD: &[u8] = br#","crc":""#;

pub(crate) fn hex(crc: u32) -> [u8; 8] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 8];
    for (at, digit) in text.iter_mut().enumerate() {
        *digit = DIGITS[(crc >> (28 - 4 * at) & 0xf) as usize];
    }
    text
}

#[inline]
fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn push_signed(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// A number with as many decimals as `scale` has zeros, rounded.
#[inline]
fn push_fixed(out: &mut Vec<u8>, value: f64, scale: u32) {
    // Values are of sensors: far from what 63 bits hold.
    let scaled = (value * f64::from(scale)).round() as i64;
    if scaled < 0 {
        out.push(b'-');
    }
    let scaled = scaled.unsigned_abs();
    push_number(out, scaled / u64::from(scale));
    out.push(b'.');
    let (mut part, mut place) = (scaled % u64::from(scale), u64::from(scale) / 10);
    while place > 0 {
        out.push(b'0' + (part / place) as u8);
        part %= place;
        place /= 10;
    }
}

/// The fields of a channel that do not change, for [`Format::Protobuf`].
pub(crate) fn reading_fields(
    run: &Run,
    device_id: &str,
    place: crate::place::Place,
    kind: SensorKind,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(STATIC_BYTES);
    put_text(&mut out, 1, device_id);
    put_text(&mut out, 2, kind.name());
    put_text(&mut out, 3, kind.unit().unwrap_or_default());
    put_text(&mut out, 4, &format!("B{:02}", place.building));
    put_varint(&mut out, 5 << 3);
    put_varint(&mut out, u64::from(place.floor));
    put_text(&mut out, 6, &format!("R{:03}", place.room));
    put_text(&mut out, 7, &run.source);
    out
}

/// Writes a reading as Protobuf to the end of `out`; `head.text` is of [`reading_fields`].
pub(crate) fn write_reading_protobuf(out: &mut Vec<u8>, head: &Head<'_>, value: f64, alarm: bool) {
    let start = out.len();
    out.extend_from_slice(head.text);
    out.push(8 << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
    out.extend_from_slice(&[9 << 3, u8::from(alarm)]);
    out.push(10 << 3);
    put_varint(out, head.seq);
    out.push(11 << 3);
    put_varint(out, head.event.at.get() as u64);
    out.push(12 << 3);
    put_varint(out, head.sent.at.get() as u64);
    let crc = crc32c::crc32c(&out[start..]);
    out.push(PROTOBUF_CRC_TAG);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// `fixed32 crc = 13`.
pub(crate) const PROTOBUF_CRC_TAG: u8 = 13 << 3 | 5;

fn put_text(out: &mut Vec<u8>, field: u64, text: &str) {
    put_varint(out, field << 3 | 2);
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_fleet::{validate, Checked};

    use super::*;
    use crate::mission::Drone;
    use crate::place::Place;

    const PLACE: Place = Place { building: 1, floor: 3, room: 12 };

    fn with_head<R>(text: &[u8], write: impl FnOnce(&Head<'_>) -> R) -> R {
        let (event, sent) = (
            Stamp::new(TimestampMs(1_754_217_000_123)),
            Stamp::new(TimestampMs(1_754_217_000_125)),
        );
        let run = Run::new("sim-00c0ffee".to_owned());
        write(&Head { run: &run, text, seq: 17, event: &event, sent: &sent, number: 42 })
    }

    fn json_of(kind: SensorKind, value: f64) -> String {
        let text = reading_text("B01-F03-R012-D00042", &PLACE.json(), kind);
        with_head(&text, |head| {
            let mut out = Vec::new();
            write_reading(&mut out, head, kind, value, false);
            String::from_utf8(out).unwrap()
        })
    }

    #[test]
    fn a_reading_is_an_event_that_passes_its_schema() {
        let json = json_of(SensorKind::Temperature, 25.314);
        assert!(json.len() < RECORD_BYTES_HINT, "{}", json.len());
        let event: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(event["id"], "D42-17");
        assert_eq!(event["timestamp"], "2025-08-03T10:30:00.123Z");
        assert_eq!(event["data"]["value"], 25.31);
        assert_eq!(event["data"]["unit"], "°C");
        assert_eq!(event["data"]["sent"], 1_754_217_000_125_i64);
        for kind in SensorKind::ALL {
            let json: serde_json::Value = serde_json::from_str(&json_of(kind, 1.0)).unwrap();
            let data = json["data"].to_string();
            let checked = validate("sensor.reading", &data).unwrap();
            assert!(matches!(checked, Checked::SensorReading(_)), "{data}");
        }
        let at = json.find(r#","crc""#).unwrap();
        let crc = crc32c::crc32c(json[..at].as_bytes());
        assert!(json.ends_with(&format!(r#","crc":"{crc:08x}"}}}}"#)), "{json}");
    }

    #[test]
    fn a_fix_is_an_event_that_passes_its_schema() {
        let drone = Drone::new(1, 0);
        for second in 0..2_400 {
            let fix = drone.at(f64::from(second));
            let mut out = Vec::new();
            with_head(&fix_text("drone-00001"), |head| write_fix(&mut out, head, &fix));
            let event: serde_json::Value = serde_json::from_slice(&out).unwrap();
            let data = event["data"].to_string();
            validate("drone.location.updated", &data)
                .unwrap_or_else(|error| panic!("{error}: {data}"));
        }
    }

    #[test]
    fn protobuf_has_the_bytes_of_the_wire_format() {
        let run = Run::new("sim-00c0ffee".to_owned());
        let text = reading_fields(&run, "d1", PLACE, SensorKind::Current);
        let mut out = Vec::new();
        with_head(&text, |head| write_reading_protobuf(&mut out, head, 2.5, true));
        assert_eq!(&out[..4], b"\x0a\x02d1");
        let at = out.len() - 5;
        assert_eq!(out[at], PROTOBUF_CRC_TAG);
        assert_eq!(out[at + 1..], crc32c::crc32c(&out[..at]).to_le_bytes());
        // 8: double 2.5, 9: true, 10: seq 17.
        let tail: Vec<u8> =
            [&[0x41][..], &2.5_f64.to_le_bytes(), &[0x48, 1, 0x50, 17, 0x58]].concat();
        assert!(out.windows(tail.len()).any(|window| window == tail), "{out:02x?}");
    }

    proptest! {
        #[test]
        fn fixed_numbers_are_as_the_formatter_writes_them(hundredths in -10_000_000_i64..10_000_000) {
            // Halves are rounded away from zero by one and to even by the other: keep off them.
            let value = hundredths as f64 / 100.0 + 0.001;
            let mut out = Vec::new();
            push_fixed(&mut out, value, 100);
            let text = String::from_utf8(out).unwrap();
            let wanted = format!("{value:.2}");
            prop_assert!(text == wanted || (text == "0.00" && wanted == "-0.00"), "{text} {wanted}");
        }
    }
}

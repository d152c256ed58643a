//! What is sent: readings and fixes as JSON or Protobuf, written straight into the batch they travel in.
//!
//! Every record of a device has a sequence number counted from 0, the time it is sent by schedule, and a
//! CRC-32C of the whole value: in JSON with zeros for its eight digits, in Protobuf of all bytes before its
//! field, which is the last. So a consumer checks what it got without parsing it first.
//!
//! A JSON value is an event as the gateway takes it (`id`, `type`, `source`, `timestamp`, `data`). What does
//! not change from reading to reading of a channel stands first, so that its text, and the CRC up to there,
//! are made once; what changes is put together in a buffer on the stack and copied once.

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

/// About how many bytes of a Protobuf record do not change.
const STATIC_BYTES: usize = 128;
/// About how long a JSON record is: a hint for buffers.
pub const RECORD_BYTES_HINT: usize = 384;

/// A time as the texts it is written as.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp {
    pub(crate) at: TimestampMs,
    rfc3339: [u8; 24],
    ms: Digits,
}

/// A number as text: copied whole, and as much of it counted as there is.
#[derive(Debug, Clone, Copy)]
struct Digits {
    text: [u8; 20],
    bytes: usize,
}

impl Digits {
    fn new(number: impl itoa::Integer) -> Self {
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(number).as_bytes();
        let mut text = [0; 20];
        // The longest 64-bit number has 20 digits.
        text[..digits.len()].copy_from_slice(digits);
        Self { text, bytes: digits.len() }
    }
}

impl Stamp {
    pub(crate) fn new(at: TimestampMs) -> Self {
        let mut text = String::with_capacity(24);
        write_rfc3339(&mut text, at);
        let mut rfc3339 = [b'0'; 24];
        // The format has 24 bytes always.
        rfc3339.copy_from_slice(&text.as_bytes()[..24]);
        Self { at, rfc3339, ms: Digits::new(at.get()) }
    }
}

/// What a record says beside its reading.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head<'a> {
    /// What does not change: the start of the record.
    pub(crate) text: &'a [u8],
    /// The CRC of that.
    pub(crate) text_crc: u32,
    pub(crate) seq: u64,
    /// By the device's clock.
    pub(crate) event: &'a Stamp,
    /// When it is sent by schedule.
    pub(crate) sent: &'a Stamp,
    /// The number of the device.
    pub(crate) number: u32,
}

/// The start of a channel's records, for [`Format::Json`].
pub(crate) fn reading_text(source: &str, id: &str, place: &str, kind: SensorKind) -> Vec<u8> {
    let unit = kind.unit().map(|unit| format!(r#","unit":"{unit}""#)).unwrap_or_default();
    let name = kind.name();
    format!(
        r#"{{"type":"sensor.reading","source":"{source}","data":{{"device_id":"{id}","place":{place},"sensor":"{name}"{unit},"value":"#
    )
    .into_bytes()
}

/// The start of a drone's records.
pub(crate) fn fix_text(source: &str, id: &str) -> Vec<u8> {
    format!(
        r#"{{"type":"drone.location.updated","source":"{source}","data":{{"drone_id":"{id}","location":{{"latitude":"#
    )
    .into_bytes()
}

/// The changing end of a record. Room for the longest there can be: a test has it.
struct Tail {
    bytes: [u8; Self::BYTES],
    len: usize,
}

impl Tail {
    const BYTES: usize = 448;

    fn new() -> Self {
        Self { bytes: [0; Self::BYTES], len: 0 }
    }

    #[inline]
    fn put<const N: usize>(&mut self, text: &[u8; N]) {
        self.bytes[self.len..self.len + N].copy_from_slice(text);
        self.len += N;
    }

    #[inline]
    fn put_digits(&mut self, digits: &Digits) {
        self.bytes[self.len..self.len + 20].copy_from_slice(&digits.text);
        self.len += digits.bytes;
    }

    fn put_text(&mut self, text: &str) {
        self.bytes[self.len..self.len + text.len()].copy_from_slice(text.as_bytes());
        self.len += text.len();
    }

    /// A number with so many decimals, rounded.
    #[inline]
    fn put_fixed<const DECIMALS: usize>(&mut self, value: f64) {
        let scale = const { 10_u64.pow(DECIMALS as u32) };
        // Values are of sensors: far from what 63 bits hold.
        let scaled = (value.abs() * scale as f64 + 0.5) as u64;
        if value < 0.0 && scaled > 0 {
            self.put(b"-");
        }
        self.put_digits(&Digits::new(scaled / scale));
        let mut decimals = [b'.'; DECIMALS];
        let mut rest = scaled % scale;
        for digit in decimals.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        self.put(b".");
        self.put(&decimals);
    }

    /// Everything after the reading, and its CRC.
    #[inline]
    fn finish(&mut self, head: &Head<'_>) {
        let seq = Digits::new(head.seq);
        self.put(br#","seq":"#);
        self.put_digits(&seq);
        self.put(br#","sent":"#);
        self.put_digits(&head.sent.ms);
        self.put(br#","crc":""#);
        let crc_at = self.len;
        self.put(b"00000000");
        self.put(br#""},"timestamp":""#);
        self.put(&head.event.rfc3339);
        self.put(br#"","id":"D"#);
        self.put_digits(&Digits::new(head.number));
        self.put(b"-");
        self.put_digits(&seq);
        self.put(br#""}"#);
        let crc = crc32c::crc32c_append(head.text_crc, &self.bytes[..self.len]);
        self.bytes[crc_at..crc_at + 8].copy_from_slice(&hex(crc));
    }

    #[inline]
    fn write(&self, head: &Head<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(head.text);
        out.extend_from_slice(&self.bytes[..self.len]);
    }
}

/// Writes a reading as JSON to the end of `out`.
#[inline]
pub(crate) fn write_reading(
    out: &mut Vec<u8>,
    head: &Head<'_>,
    kind: SensorKind,
    value: f64,
    alarm: bool,
) {
    let mut tail = Tail::new();
    match kind {
        SensorKind::Switch if value > 0.5 => tail.put(br#""ON""#),
        SensorKind::Switch => tail.put(br#""OFF""#),
        _ => tail.put_fixed::<2>(value),
    }
    match alarm {
        true => tail.put(br#","status":"alarm""#),
        false => tail.put(br#","status":"normal""#),
    }
    tail.finish(head);
    tail.write(head, out);
}

/// Writes a drone's fix as JSON to the end of `out`.
pub(crate) fn write_fix(out: &mut Vec<u8>, head: &Head<'_>, fix: &Fix) {
    let mut tail = Tail::new();
    tail.put_fixed::<6>(fix.latitude);
    tail.put(br#","longitude":"#);
    tail.put_fixed::<6>(fix.longitude);
    tail.put(br#","altitude":"#);
    tail.put_fixed::<1>(fix.altitude_m);
    tail.put(br#"},"heading":"#);
    // 359.96 would round to 360.0, which is the same as 0.
    tail.put_fixed::<1>(if fix.heading >= 359.95 { 0.0 } else { fix.heading });
    tail.put(br#","speed":"#);
    tail.put_fixed::<1>(fix.speed_mps);
    tail.put(br#","battery":"#);
    tail.put_fixed::<1>(fix.battery);
    tail.put(br#","status":""#);
    tail.put_text(fix.status.name());
    tail.put(br#"","mission":"#);
    tail.put_digits(&Digits::new(fix.mission));
    tail.finish(head);
    tail.write(head, out);
}

pub(crate) fn hex(crc: u32) -> [u8; 8] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 8];
    for (at, digit) in text.iter_mut().enumerate() {
        *digit = DIGITS[(crc >> (28 - 4 * at) & 0xf) as usize];
    }
    text
}

/// The fields of a channel that do not change, for [`Format::Protobuf`].
pub(crate) fn reading_fields(
    source: &str,
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
    put_text(&mut out, 7, source);
    out
}

/// Writes a reading as Protobuf to the end of `out`; `head.text` is of [`reading_fields`].
pub(crate) fn write_reading_protobuf(out: &mut Vec<u8>, head: &Head<'_>, value: f64, alarm: bool) {
    let start = out.len() + head.text.len();
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
    let crc = crc32c::crc32c_append(head.text_crc, &out[start..]);
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
        let event = Stamp::new(TimestampMs(1_754_217_000_123));
        let sent = Stamp::new(TimestampMs(1_754_217_000_125));
        let text_crc = crc32c::crc32c(text);
        write(&Head { text, text_crc, seq: 17, event: &event, sent: &sent, number: 42 })
    }

    fn json_of(kind: SensorKind, value: f64) -> String {
        let text = reading_text("sim-00c0ffee", "B01-F03-R012-D00042", &PLACE.json(), kind);
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
        let at = json.find(r#""crc":""#).unwrap() + 7;
        let mut zeroed = json.clone().into_bytes();
        zeroed[at..at + 8].fill(b'0');
        assert_eq!(json[at..at + 8], format!("{:08x}", crc32c::crc32c(&zeroed)));
    }

    #[test]
    fn the_longest_record_there_can_be_has_room() {
        let text = fix_text("s", "d");
        let late = Stamp::new(TimestampMs(i64::MIN));
        let head = Head {
            text: &text,
            text_crc: 0,
            seq: u64::MAX,
            event: &late,
            sent: &late,
            number: u32::MAX,
        };
        let far = Fix {
            latitude: f64::MIN,
            longitude: f64::MIN,
            altitude_m: f64::MIN,
            heading: f64::MIN,
            speed_mps: f64::MIN,
            battery: f64::MIN,
            status: crate::mission::Status::TakingOff,
            mission: u64::MAX,
        };
        let mut out = Vec::new();
        write_fix(&mut out, &head, &far);
        write_reading(&mut out, &head, SensorKind::Current, f64::NAN, true);
        assert!(out.len() > text.len());
    }

    #[test]
    fn a_fix_is_an_event_that_passes_its_schema() {
        let drone = Drone::new(1, 0);
        for second in 0..2_400 {
            let fix = drone.at(f64::from(second));
            let mut out = Vec::new();
            with_head(&fix_text("sim-00c0ffee", "drone-00001"), |head| {
                write_fix(&mut out, head, &fix)
            });
            let event: serde_json::Value = serde_json::from_slice(&out).unwrap();
            let data = event["data"].to_string();
            validate("drone.location.updated", &data)
                .unwrap_or_else(|error| panic!("{error}: {data}"));
        }
    }

    #[test]
    fn protobuf_has_the_bytes_of_the_wire_format() {
        let text = reading_fields("sim-00c0ffee", "d1", PLACE, SensorKind::Current);
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
            let mut tail = Tail::new();
            tail.put_fixed::<2>(value);
            let text = String::from_utf8(tail.bytes[..tail.len].to_vec()).unwrap();
            let wanted = format!("{value:.2}");
            prop_assert!(text == wanted || (text == "0.00" && wanted == "-0.00"), "{text} {wanted}");
        }
    }
}

//! The load of the benches: the readings they send, and the CPU time they take.
//!
//! The same records as in `bench/load` and `bench/franz-go`: sensor JSON of about 180 bytes under a key
//! of 13, so 200 bytes in a batch, from 10,000 devices.
// Each bench uses its part.
#![allow(dead_code)]

use std::sync::OnceLock;

use weir_client::SystemClock;
use weir_protocol::types::TimestampMs;
use weir_protocol::Clock;

/// xorshift64: the bench must not measure a random generator.
pub(crate) struct Rng(u64);

impl Default for Rng {
    fn default() -> Self {
        Self(88_172_645_463_325_252)
    }
}

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// One of 10,000 devices.
    pub(crate) fn device(&mut self) -> u32 {
        (self.next() % 10_000) as u32
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// About normal: the sum of four.
    fn normal(&mut self) -> f64 {
        let sum: f64 = (0..4).map(|_| self.unit()).sum();
        (sum - 2.0) * 1.732
    }
}

/// The key of a device.
pub(crate) struct Key(pub(crate) [u8; 13]);

impl Key {
    pub(crate) fn of(device: u32) -> Self {
        let mut key = *b"dev-000000000";
        key[4..].copy_from_slice(itoa::Buffer::new().format(100_000_000 + device).as_bytes());
        Key(key)
    }
}

/// Event time of a reading: a thousand are made per millisecond, from the start of the bench on. Older
/// ones would fall to retention while they are measured.
pub(crate) fn event_time(seq: u64) -> TimestampMs {
    static START: OnceLock<TimestampMs> = OnceLock::new();
    START.get_or_init(|| SystemClock.now()).plus_ms((seq / 1_000) as i64)
}

/// Writes a reading to the end of `out`.
pub(crate) fn push_reading(
    out: &mut Vec<u8>,
    device: u32,
    seq: u64,
    rng: &mut Rng,
    at: TimestampMs,
) {
    out.extend_from_slice(b"{\"device_id\":\"dev-");
    push_number(out, 100_000_000 + device);
    out.extend_from_slice(
        b"\",\"building\":\"B1\",\"floor\":3,\"room\":\"R12\",\"type\":\"temperature\",\"unit\":\"C\",\"value\":",
    );
    push_two_decimals(out, 25.0 + 5.0 * rng.normal());
    out.extend_from_slice(b",\"seq\":");
    push_number(out, seq);
    out.extend_from_slice(b",\"ts\":");
    push_number(out, at.get());
    out.extend_from_slice(b",\"quality\":\"good\",\"anomaly\":false}");
}

/// The `seq` of a reading.
pub(crate) fn seq_of(reading: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b",\"seq\":";
    let at = reading.windows(NAME.len()).position(|window| window == NAME)? + NAME.len();
    let digits = reading[at..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

fn push_number(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn push_two_decimals(out: &mut Vec<u8>, value: f64) {
    let hundredths = (value * 100.0) as i64;
    if hundredths < 0 {
        out.push(b'-');
    }
    push_number(out, hundredths.abs() / 100);
    let rest = (hundredths.abs() % 100) as u8;
    out.extend_from_slice(&[b'.', b'0' + rest / 10, b'0' + rest % 10]);
}

/// User and system time of this process, in seconds. Clock ticks are 1/100 s on Linux.
pub(crate) fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let field = |index: usize| -> f64 {
        after_name.split_whitespace().nth(index).and_then(|text| text.parse().ok()).unwrap_or(0.0)
    };
    (field(11) + field(12)) / 100.0
}

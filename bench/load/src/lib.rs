//! The load of the bench: what every Rust client of it makes and how it reports.
//!
//! The records are those of weir's own bench examples and of `../franz-go`: sensor JSON of about 180
//! bytes under a key of 13, so 200 bytes in a batch, from [`DEVICES`] devices. Making them is part of
//! what is measured.

mod report;

pub use report::{Measurement, Outcome};

/// Different keys.
pub const DEVICES: u64 = 10_000;

/// Event time of the first record, in milliseconds; a thousand records are made per millisecond.
const FIRST_MS: i64 = 1_790_000_000_000;

/// The key of a record: `dev-` and nine digits.
pub type Key = [u8; 13];

/// What fills a reading up, 64 bytes at a time.
const FILL: &[u8; 64] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";

/// Makes readings, the same ones in every run.
#[derive(Debug)]
pub struct Readings {
    random: u64,
    made: u64,
    /// Bytes that a field `raw` is filled up to; none without it.
    value_bytes: Option<usize>,
}

impl Default for Readings {
    fn default() -> Self {
        Self { random: 88_172_645_463_325_252, made: 0, value_bytes: None }
    }
}

impl Readings {
    /// Readings with a field `raw` that fills each up to `value_bytes`.
    pub fn filled(value_bytes: usize) -> Self {
        Self { value_bytes: Some(value_bytes), ..Self::default() }
    }

    /// Writes the next reading to the end of `out` and returns its key.
    pub fn push_next(&mut self, out: &mut Vec<u8>) -> Key {
        let device = 100_000_000 + self.random() % DEVICES;
        let at_ms = self.event_time_ms();
        let celsius = 25.0 + 5.0 * self.normal();
        let start = out.len();
        out.extend_from_slice(b"{\"device_id\":\"dev-");
        push_number(out, device);
        out.extend_from_slice(
            b"\",\"building\":\"B1\",\"floor\":3,\"room\":\"R12\",\"type\":\"temperature\",\"unit\":\"C\",\"value\":",
        );
        push_two_decimals(out, celsius);
        out.extend_from_slice(b",\"seq\":");
        push_number(out, self.made);
        out.extend_from_slice(b",\"ts\":");
        push_number(out, at_ms);
        out.extend_from_slice(b",\"quality\":\"good\",\"anomaly\":false");
        if let Some(value_bytes) = self.value_bytes {
            push_raw(out, start + value_bytes);
        }
        out.push(b'}');
        self.made += 1;
        let mut key = *b"dev-000000000";
        key[4..].copy_from_slice(itoa::Buffer::new().format(device).as_bytes());
        key
    }

    /// Event time of the next reading, in milliseconds.
    pub fn event_time_ms(&self) -> i64 {
        FIRST_MS + (self.made / 1_000) as i64
    }

    /// xorshift64: the bench must not measure a random generator.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn unit(&mut self) -> f64 {
        (self.random() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// About normal: the sum of four, scaled to a deviation of one.
    fn normal(&mut self) -> f64 {
        let sum: f64 = (0..4).map(|_| self.unit()).sum();
        (sum - 2.0) * 1.732
    }
}

/// The field `raw`, so long that `out` ends at `end` with the brace that closes it all.
fn push_raw(out: &mut Vec<u8>, end: usize) {
    out.extend_from_slice(b",\"raw\":\"");
    let mut rest = end.saturating_sub(out.len() + 2);
    while rest > 0 {
        let more = rest.min(FILL.len());
        out.extend_from_slice(&FILL[..more]);
        rest -= more;
    }
    out.push(b'"');
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_about_180_bytes_and_names_its_key() {
        let (mut readings, mut value) = (Readings::default(), Vec::new());
        for _ in 0..100_000 {
            value.clear();
            let key = readings.push_next(&mut value);
            assert!((160..190).contains(&value.len()), "{}", value.len());
            assert_eq!(value[14..27], key);
        }
    }

    #[test]
    fn a_filled_reading_is_as_long_as_wanted() {
        for value_bytes in [980, 9_980] {
            let (mut readings, mut value) = (Readings::filled(value_bytes), Vec::new());
            for _ in 0..1_000 {
                value.clear();
                readings.push_next(&mut value);
                assert_eq!(value.len(), value_bytes);
                assert!(value.ends_with(b"\"}"));
            }
        }
    }
}

//! Durations and byte sizes as people write them: `50ms`, `10s`, `7d`, `16MiB`.

/// Milliseconds of a text such as `50ms`, `1.5s`, `10m`, `12h`, `7d`; a bare number is milliseconds.
pub(super) fn parse_duration_ms(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Ok(ms) = text.parse::<u64>() {
        return i64::try_from(ms).is_ok().then_some(ms); // The largest is no f64.
    }
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let factor = match unit.trim() {
        "" | "ms" => 1.0,
        "us" | "µs" => 0.001,
        "s" => 1e3,
        "m" | "min" => 60e3,
        "h" => 3_600e3,
        "d" => 86_400e3,
        _ => return None,
    };
    let ms = number * factor;
    (ms.is_finite() && ms >= 0.0 && ms <= i64::MAX as f64).then_some(ms.ceil() as u64)
}

/// Bytes of a text such as `1048576`, `16MiB`, `1GB`.
pub(crate) fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// Bytes per second: a size, or a number above 0 such as `1.5e6`. The largest double, Kafka's default, is no limit.
pub(super) fn parse_rate(text: &str) -> Option<f64> {
    let rate = match parse_bytes(text) {
        Some(bytes) => bytes as f64,
        None => text.trim().parse().ok()?,
    };
    (rate > 0.0 && f64::is_finite(rate)).then_some(rate)
}

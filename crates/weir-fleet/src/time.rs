//! RFC 3339 text to milliseconds and back.
//!
//! Dates are days in the proleptic Gregorian calendar by Howard Hinnant's `days_from_civil`
//! (howardhinnant.github.io/date_algorithms.html), so no calendar crate is needed for one format.

use std::fmt;

use weir_protocol::types::TimestampMs;

const DAY_MS: i64 = 86_400_000;

/// Reads an RFC 3339 time such as `2025-08-03T10:30:00Z` or `2025-08-03T18:30:00.250+08:00`.
///
/// Fractions finer than a millisecond are cut. A leap second (`:60`) counts as the next minute.
pub fn parse(text: &str) -> Option<TimestampMs> {
    let bytes = text.as_bytes();
    if bytes.len() < 20 || bytes.len() > 40 {
        return None;
    }
    let separators = bytes[4] == b'-'
        && bytes[7] == b'-'
        && matches!(bytes[10], b'T' | b't' | b' ')
        && bytes[13] == b':'
        && bytes[16] == b':';
    if !separators {
        return None;
    }
    let (year, month, day) =
        (digits(&bytes[0..4])?, digits(&bytes[5..7])?, digits(&bytes[8..10])?);
    let (hour, minute, second) =
        (digits(&bytes[11..13])?, digits(&bytes[14..16])?, digits(&bytes[17..19])?);
    let in_range = (1..=12).contains(&month)
        && day >= 1
        && day <= days_in_month(year, month)
        && hour <= 23
        && minute <= 59
        && second <= 60;
    if !in_range {
        return None;
    }
    let (millis, rest) = fraction_ms(&bytes[19..])?;
    let zone_minutes = zone_minutes(rest)?;
    let of_day = ((hour * 60 + minute - zone_minutes) * 60 + second) * 1_000 + millis;
    Some(TimestampMs(days_from_civil(year, month, day) * DAY_MS + of_day))
}

/// A time as `2025-08-03T10:30:00.000Z` when displayed; nothing is allocated.
#[derive(Debug, Clone, Copy)]
pub struct Rfc3339(pub TimestampMs);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0 .0;
        let (year, month, day) = civil_from_days(ms.div_euclid(DAY_MS));
        let of_day = ms.rem_euclid(DAY_MS);
        let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
        let (second, millis) = (of_day / 1_000 % 60, of_day % 1_000);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
        )
    }
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0_i64, |value, byte| {
        byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0'))
    })
}

fn fraction_ms(bytes: &[u8]) -> Option<(i64, &[u8])> {
    if bytes.first() != Some(&b'.') {
        return Some((0, bytes));
    }
    let count = bytes[1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 {
        return None;
    }
    let millis = (1..=3).fold(0_i64, |value, at| {
        value * 10 + if at <= count { i64::from(bytes[at] - b'0') } else { 0 }
    });
    Some((millis, &bytes[1 + count..]))
}

fn zone_minutes(bytes: &[u8]) -> Option<i64> {
    match bytes {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), rest @ ..] if rest.len() == 5 && rest[2] == b':' => {
            let (hours, minutes) = (digits(&rest[0..2])?, digits(&rest[3..5])?);
            let offset = hours * 60 + minutes;
            (hours <= 23 && minutes <= 59).then_some(if *sign == b'-' { -offset } else { offset })
        }
        _ => None,
    }
}

const fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expect_ms: Option<i64>) {
        assert_eq!(parse(text).map(|at| at.0), expect_ms, "{text}");
    }

    #[test]
    fn times_of_the_specification_are_read() {
        check("1970-01-01T00:00:00Z", Some(0));
        check("2025-08-03T10:30:00Z", Some(1_754_217_000_000));
        check("2025-08-03T18:30:00.25+08:00", Some(1_754_217_000_250));
        check("2025-08-03t10:30:00.1239999z", Some(1_754_217_000_123));
        check("2024-02-29T00:00:00Z", Some(1_709_164_800_000));
        check("1969-12-31T23:59:59.999Z", Some(-1));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2025-08-03",
            "2025-08-03T10:30:00",
            "2025-08-03T10:30:00.Z",
            "2025-02-29T10:30:00Z",
            "2025-13-03T10:30:00Z",
            "2025-08-03T24:30:00Z",
            "2025-08-03T10:60:00Z",
            "2025-08-03T10:30:00+8:00",
            "2025-08-03T10:30:00Zx",
            "+025-08-03T10:30:00Z",
            "2025-08-03T10:30:00\u{e9}\u{e9}",
        ] {
            check(text, None);
        }
    }

    proptest! {
        #[test]
        fn text_and_milliseconds_agree(ms in -62_135_596_800_000_i64..253_402_300_800_000) {
            let text = Rfc3339(TimestampMs(ms)).to_string();
            prop_assert_eq!(parse(&text), Some(TimestampMs(ms)), "{}", text);
        }
    }
}

//! RFC 3339 timestamps to and from milliseconds since 1970.
//!
//! Written here because events carry nothing else of a calendar: two functions against a dependency
//! with time zones. The day arithmetic is Howard Hinnant's `days_from_civil`.

use weir_protocol::types::TimestampMs;

const DAY_MS: i64 = 86_400_000;

/// Parses RFC 3339, e.g. `2025-08-03T10:30:00Z` or `2025-08-03T18:30:00.123+08:00`.
///
/// `t`, `z` and a space for `T` are accepted, as the RFC allows. Digits after the millisecond are cut.
/// A leap second (`:60`) reads as the second after. `None` for anything else.
pub fn parse_rfc3339(text: &str) -> Option<TimestampMs> {
    let bytes = text.as_bytes();
    let date_time = bytes.get(..19)?;
    let shape_is_right = date_time[4] == b'-'
        && date_time[7] == b'-'
        && matches!(date_time[10], b'T' | b't' | b' ')
        && date_time[13] == b':'
        && date_time[16] == b':';
    if !shape_is_right {
        return None;
    }
    let year = digits(&bytes[0..4])?;
    let month = digits(&bytes[5..7])?;
    let day = digits(&bytes[8..10])?;
    let (hour, minute, second) =
        (digits(&bytes[11..13])?, digits(&bytes[14..16])?, digits(&bytes[17..19])?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction_ms, zone) = split_fraction(&bytes[19..])?;
    let offset_ms = zone_offset_ms(zone)?;
    let time_ms = (hour * 3_600 + minute * 60 + second) * 1_000 + fraction_ms;
    Some(TimestampMs(days_from_civil(year, month, day) * DAY_MS + time_ms - offset_ms))
}

/// Formats as RFC 3339 in UTC with milliseconds: `2025-08-03T10:30:00.000Z`.
///
/// Years outside 0-9999 do not fit the format and are clamped to its ends.
pub fn format_rfc3339(at: TimestampMs) -> String {
    let mut text = String::with_capacity(24);
    write_rfc3339(&mut text, at);
    text
}

/// As [`format_rfc3339`], appended to `out`.
pub fn write_rfc3339(out: &mut String, at: TimestampMs) {
    const FIRST_MS: i64 = -62_167_219_200_000; // 0000-01-01T00:00:00.000Z
    const LAST_MS: i64 = 253_402_300_799_999; // 9999-12-31T23:59:59.999Z
    let ms = at.get().clamp(FIRST_MS, LAST_MS);
    let (year, month, day) = civil_from_days(ms.div_euclid(DAY_MS));
    let of_day_ms = ms.rem_euclid(DAY_MS);
    push_padded(out, year, 4);
    out.push('-');
    push_padded(out, month, 2);
    out.push('-');
    push_padded(out, day, 2);
    out.push('T');
    push_padded(out, of_day_ms / 3_600_000, 2);
    out.push(':');
    push_padded(out, of_day_ms / 60_000 % 60, 2);
    out.push(':');
    push_padded(out, of_day_ms / 1_000 % 60, 2);
    out.push('.');
    push_padded(out, of_day_ms % 1_000, 3);
    out.push('Z');
}

fn push_padded(out: &mut String, value: i64, width: u32) {
    for place in (0..width).rev() {
        let digit = value / 10_i64.pow(place) % 10;
        // In 0..=9 by the remainder.
        out.push(char::from(b'0' + digit as u8));
    }
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0_i64, |value, &byte| {
        byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0'))
    })
}

/// The fraction in milliseconds, and what follows it.
fn split_fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let Some((b'.', rest)) = rest.split_first() else {
        return Some((0, rest));
    };
    let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if length == 0 {
        return None;
    }
    let written = rest[..length].iter().map(|digit| i64::from(digit - b'0'));
    let thousandths = written.chain(std::iter::repeat(0)).take(3);
    let fraction_ms = thousandths.fold(0, |value, digit| value * 10 + digit);
    Some((fraction_ms, &rest[length..]))
}

fn zone_offset_ms(zone: &[u8]) -> Option<i64> {
    match zone {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset_ms = (hours * 60 + minutes) * 60_000;
            Some(if *sign == b'-' { -offset_ms } else { offset_ms })
        }
        _ => None,
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 (howardhinnant.github.io/date_algorithms.html).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Inverse of [`days_from_civil`], from the same page.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expect: Option<i64>) {
        assert_eq!(parse_rfc3339(text), expect.map(TimestampMs), "{text}");
    }

    #[test]
    fn known_times_parse() {
        check("1970-01-01T00:00:00Z", Some(0));
        check("2025-08-03T10:30:00Z", Some(1_754_217_000_000));
        check("2025-08-03T18:30:00+08:00", Some(1_754_217_000_000));
        check("2025-08-03T10:30:00.5Z", Some(1_754_217_000_500));
        check("2025-08-03t10:30:00.123456789z", Some(1_754_217_000_123));
        check("2025-08-03 05:30:00-05:00", Some(1_754_217_000_000));
        check("2024-02-29T00:00:00Z", Some(1_709_164_800_000));
        check("1969-12-31T23:59:59.999Z", Some(-1));
        check("2016-12-31T23:59:60Z", Some(1_483_228_800_000));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2025-08-03",
            "2025-08-03T10:30:00",
            "2025-13-03T10:30:00Z",
            "2025-02-29T10:30:00Z",
            "2025-08-00T10:30:00Z",
            "2025-08-03T24:00:00Z",
            "2025-08-03T10:60:00Z",
            "2025-08-03T10:30:00.Z",
            "2025-08-03T10:30:00+8:00",
            "2025-08-03T10:30:00+24:00",
            "2025-08-03T10:30:00Zx",
            "2025/08/03T10:30:00Z",
            "+025-08-03T10:30:00Z",
            "二零二五-08-03T10:30:00Z",
        ] {
            check(text, None);
        }
    }

    proptest! {
        #[test]
        fn format_and_parse_are_inverse(ms in -62_167_219_200_000_i64..=253_402_300_799_999) {
            let text = format_rfc3339(TimestampMs(ms));
            prop_assert_eq!(parse_rfc3339(&text), Some(TimestampMs(ms)), "{}", text);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
            let _ = parse_rfc3339(&text);
        }
    }
}

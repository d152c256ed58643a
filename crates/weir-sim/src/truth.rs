//! The ground truth: what was done to readings, for those who look for it in them.
//!
//! One JSON record per anomaly when it is over, one per reading that was delayed or repeated on purpose,
//! one per device with a wrong clock, and one per part of the fleet at the end of a run. Keys are device
//! ids, so the truth about a device is in order.

use std::fmt::Write as _;

use weir_client::timestamp::format_rfc3339;
use weir_protocol::types::TimestampMs;

use crate::anomaly::Label;
use crate::disturb::Skew;
use crate::generator::Counts;
use crate::sensor::SensorKind;

/// An anomaly of a sensor that is over, or, at the end of a run, as far as it came.
pub(crate) fn anomaly(
    source: &str,
    device_id: &str,
    sensor: SensorKind,
    label: &Label,
    finished: bool,
) -> String {
    let mut text = head(label.kind.name(), source, device_id);
    let (start, end) = (format_rfc3339(label.start), format_rfc3339(label.end));
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        r#","sensor":"{}","start":"{start}","end":"{end}","magnitude":{},"readings":{},"finished":{finished}}}"#,
        sensor.name(),
        label.magnitude,
        label.readings,
    );
    text
}

/// A reading that is sent at another time than it was made, or twice.
pub(crate) fn record(
    kind: &str,
    source: &str,
    device_id: &str,
    seq: u64,
    at: TimestampMs,
    sent: TimestampMs,
) -> String {
    let mut text = head(kind, source, device_id);
    let (at, by) = (format_rfc3339(at), sent.since(at));
    let _ = write!(text, r#","start":"{at}","end":"{at}","magnitude":{by},"seq":{seq}}}"#);
    text
}

/// A device whose clock is wrong, from the start of the run.
pub(crate) fn skew(source: &str, device_id: &str, start: TimestampMs, skew: &Skew) -> String {
    let mut text = head("clock_skew", source, device_id);
    let start = format_rfc3339(start);
    let (offset_ms, ppm) = (skew.offset_ms, skew.drift * 1e6);
    let _ = write!(
        text,
        r#","start":"{start}","end":null,"magnitude":{offset_ms},"drift_ppm":{ppm:.3}}}"#
    );
    text
}

/// What a part of the fleet has sent in a run, records with their copies.
pub(crate) fn total(source: &str, part: &str, counts: &Counts) -> String {
    let mut text = head("run", source, part);
    let Counts { records, fixes, copies, .. } = counts;
    let readings = records - fixes;
    let _ = write!(text, r#","readings":{readings},"fixes":{fixes},"copies":{copies}}}"#);
    text
}

fn head(kind: &str, source: &str, device_id: &str) -> String {
    format!(r#"{{"kind":"{kind}","source":"{source}","device_id":"{device_id}""#)
}

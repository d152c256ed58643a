//! The batches a snapshot leaves out.
//!
//! Kafka's snapshot has the last batch of each producer alone, but a producer has up to five in flight.
//! After a crash it sends those again whose answers it missed. Kafka answers all but the last with
//! OUT_OF_ORDER_SEQUENCE_NUMBER; an idempotent client then takes a new epoch (KIP-360), begins again at
//! sequence 0, and what was in the log is there twice. So the headers before the snapshot are read back
//! until each producer that wrote there has all that a live broker would remember. A clean stop writes
//! them down (`producer_state/remembered.rs`), so that the next start reads nothing back.
//!
//! # Bounds
//! At most [`WINDOW_BYTES_MAX`] of log before the snapshot are looked at, headers only, beginning with
//! [`WINDOW_BYTES_MIN`]: with few producers that is enough. A producer that has not written there may still
//! send again: others went on while it was cut off, or waited through several starts. So what lies before
//! its last batch is read too, as long as it was there within [`RETRY_MS_MAX`], and up to as many bytes for
//! all of them together, the latest first.

use std::collections::VecDeque;

use weir_protocol::{Offset, ProducerId};

use crate::error::LogError;
use crate::header::HeaderWalk;
use crate::log::Log;
use crate::producer_state::ProducerStates;
use crate::segment::Segment;

const WINDOW_BYTES_MIN: u64 = 64 << 10;
const WINDOW_BYTES_MAX: u64 = 32 << 20;
const WINDOW_GROWTH: u64 = 8;
/// Nobody sends a batch again after so long: `delivery.timeout.ms` is 2 minutes in Java's client, and
/// `message.timeout.ms` 5 in librdkafka.
const RETRY_MS_MAX: i64 = 60 * 60 * 1000;
const _: () = assert!(WINDOW_BYTES_MIN < WINDOW_BYTES_MAX && WINDOW_GROWTH > 1);

/// Adds to `states`, which a snapshot at `up_to` said, the earlier batches of its producers.
///
/// What cannot be read is left out: the state is then Kafka's.
pub(super) fn complete(
    log: &Log,
    states: &mut ProducerStates,
    up_to: Offset,
) -> Result<(), LogError> {
    if states.len() == 0 {
        return Ok(());
    }
    let mut window_bytes = WINDOW_BYTES_MIN;
    loop {
        let (seen, is_all) = read_back(log, up_to, window_bytes)?;
        if is_all || window_bytes >= WINDOW_BYTES_MAX || states.is_completed_by(&seen) {
            states.complete_from(&seen);
            return if is_all { Ok(()) } else { complete_absent(log, states) };
        }
        window_bytes = (window_bytes * WINDOW_GROWTH).min(WINDOW_BYTES_MAX);
    }
}

/// As [`complete`], of producers that wrote last before the window, or have not all their batches in it.
fn complete_absent(log: &Log, states: &mut ProducerStates) -> Result<(), LogError> {
    let mut left_bytes = WINDOW_BYTES_MAX;
    for (id, last_offset) in states.incomplete(log.opened.plus_ms(-RETRY_MS_MAX)) {
        let mut window_bytes = WINDOW_BYTES_MIN;
        // Another's window may have had its batches.
        while !states.is_complete(id) && left_bytes > 0 {
            let bytes = window_bytes.min(left_bytes);
            let (seen, is_all) = read_back(log, last_offset.next(), bytes)?;
            states.complete_from(&seen);
            left_bytes -= bytes;
            if is_all || window_bytes >= WINDOW_BYTES_MAX {
                break;
            }
            window_bytes = (window_bytes * WINDOW_GROWTH).min(WINDOW_BYTES_MAX);
        }
    }
    Ok(())
}

/// The producers of about the last `window_bytes` before `up_to`, and whether that is all there is.
fn read_back(
    log: &Log,
    up_to: Offset,
    window_bytes: u64,
) -> Result<(ProducerStates, bool), LogError> {
    let mut left = window_bytes;
    let mut parts: VecDeque<(&Segment, u64)> = VecDeque::new();
    for segment in log.segments.iter().rev().filter(|segment| segment.base < up_to) {
        let (start, taken) = segment.position_before(up_to, left)?;
        parts.push_front((segment, start));
        left = left.saturating_sub(taken);
        if left == 0 {
            break;
        }
    }
    let first = log.segments.front().map(|segment| segment.base);
    let is_all = parts.front().is_none_or(|(part, at)| Some(part.base) == first && *at == 0);
    let mut seen = ProducerStates::default();
    for (segment, start) in parts {
        read_part(log, segment, start, up_to, &mut seen)?;
    }
    Ok((seen, is_all))
}

fn read_part(
    log: &Log,
    segment: &Segment,
    start: u64,
    up_to: Offset,
    seen: &mut ProducerStates,
) -> Result<(), LogError> {
    // More than a window lies between only if the index is missing.
    let end = segment.size_bytes.min(start.saturating_add(2 * WINDOW_BYTES_MAX));
    let path = segment.path();
    let file = segment.reader()?;
    let mut walk = HeaderWalk::new(&*file, &path, start, end);
    loop {
        match walk.next() {
            Ok(Some((_, header))) if header.base_offset < up_to => {
                if !header.is_control && header.producer_id >= ProducerId(0) {
                    seen.add(&header, log.opened);
                }
            }
            // What follows the snapshot may be anything; it is not looked at yet.
            Ok(_) | Err(LogError::Damaged { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

//! Events as JSON text, written once, field by field.

use std::fmt::{self, Write as _};

use weir_client::event::Priority;
use weir_client::timestamp::write_rfc3339;
use weir_protocol::types::TimestampMs;

use super::SimEvent;
use crate::random::mix;

/// Collects the events of one tick.
#[derive(Debug)]
pub(super) struct Writer {
    /// Differs by seed and start, so that a fleet started anew does not repeat the ids of the last.
    salt: u64,
    count: u64,
    tick: TimestampMs,
    events: Vec<SimEvent>,
}

/// What an event says beside its data.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) event_type: &'static str,
    pub(super) source: &'static str,
    pub(super) key: &'a str,
    pub(super) priority: Priority,
    /// Its place within the tick, 0 to 499 ms.
    pub(super) phase_ms: i64,
}

impl Writer {
    pub(super) fn new(seed: u64, start: TimestampMs) -> Self {
        let salt = mix(seed ^ mix(start.get() as u64));
        Self { salt, count: 0, tick: start, events: Vec::new() }
    }

    pub(super) fn begin(&mut self, tick: TimestampMs) {
        self.tick = tick;
    }

    /// The time of a phase of this tick.
    pub(super) fn at(&self, phase_ms: i64) -> TimestampMs {
        self.tick.plus_ms(phase_ms.rem_euclid(super::TICK_MS))
    }

    /// Adds an event whose data are these fields, without the braces. Texts in it must need no escapes.
    pub(super) fn event(&mut self, head: Head<'_>, fields: fmt::Arguments<'_>) {
        self.count += 1;
        let at = self.at(head.phase_ms);
        let mut json = String::with_capacity(384);
        // Writing to a String cannot fail.
        let _ = write!(
            json,
            r#"{{"id":"{}","type":"{}","source":"{}","timestamp":""#,
            EventId(mix(self.salt ^ mix(self.count)), mix(self.salt.wrapping_add(self.count))),
            head.event_type,
            head.source
        );
        write_rfc3339(&mut json, at);
        let _ = write!(json, r#"","data":{{{fields}}}}}"#);
        self.events.push(SimEvent {
            event_type: head.event_type,
            key: head.key.to_owned(),
            json,
            priority: head.priority,
            at,
        });
    }

    /// The events of this tick in order of time; those of one time as they were written.
    pub(super) fn finish(&mut self) -> impl Iterator<Item = SimEvent> + '_ {
        self.events.sort_by_key(|event| event.at);
        self.events.drain(..)
    }
}

/// 128 bits as a UUID of version 8 (RFC 9562 §5.8: "custom"), for they are neither random nor a time.
struct EventId(u64, u64);

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let high = (self.0 & !0xf000) | 0x8000;
        let low = (self.1 & !(0b11 << 62)) | (0b10 << 62);
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        )
    }
}

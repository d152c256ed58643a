//! When a lane sends: adaptive linger.
//!
//! A fixed linger makes every event wait though the sink is idle: at 1,000 events a second, 50 ms and
//! batches of 100, the timer always fires first and the mean wait is 25 ms. Here a lane sends at once
//! while none of its batches is on the way; while one is, events gather until a batch is full, the
//! batch comes back, or the oldest has waited for the flush interval. So an idle sink costs no wait,
//! a busy one gives large batches, and the flush interval is an upper bound as long as the in-flight
//! window has room.

use crate::time::Nanos;

/// What the decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct Gathered {
    /// Events that could be sent.
    pub events: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Admission of the oldest.
    pub oldest: Nanos,
    /// Batches of this lane on their way.
    pub in_flight: usize,
}

/// When a batch is worth sending.
#[derive(Debug, Clone, Copy)]
pub struct Batcher {
    /// A batch of so many events is full.
    pub events_max: usize,
    /// A batch of so many bytes is full.
    pub bytes_max: usize,
    /// The longest wait for company.
    pub linger_ms_max: u64,
}

impl Batcher {
    /// When these events should be sent, if nothing changes: `now` or earlier means now.
    #[must_use]
    pub fn due(&self, gathered: &Gathered) -> Nanos {
        let full = gathered.events >= self.events_max || gathered.bytes >= self.bytes_max;
        if full || gathered.in_flight == 0 {
            gathered.oldest
        } else {
            gathered.oldest.plus_ms(self.linger_ms_max)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_waits_only_for_a_reason_and_never_longer_than_the_interval() {
        let batcher = Batcher { events_max: 100, bytes_max: 1_000, linger_ms_max: 50 };
        let check = |events, bytes, in_flight, wait_ms| {
            let oldest = Nanos::from_ms(7);
            let due = batcher.due(&Gathered { events, bytes, oldest, in_flight });
            assert_eq!(due, oldest.plus_ms(wait_ms), "{events} events, {bytes} bytes, {in_flight}");
        };
        check(1, 10, 0, 0);
        check(1, 10, 1, 50);
        check(99, 999, 4, 50);
        check(100, 10, 4, 0);
        check(2, 1_000, 4, 0);
    }
}

//! [`JumpWatch`]: notices that the machine's clock was set.
//!
//! Sessions, long polls and rebalances have their deadlines on the same clock as timestamps of records. Were that clock
//! set forward, by hand or at the first answer of a time server, every session would be over at once; set back, none
//! would end for as long. So the core is told by how much the clock has jumped, and moves its deadlines along.

use std::time::Instant;

use weir_protocol::TimestampMs;

/// A smaller difference is no jump: it is how a clock is kept right, and shorter than any timeout matters.
const JUMP_MS_MIN: i64 = 1_000;

/// Compares the machine's clock with one that cannot be set.
#[derive(Debug)]
pub(super) struct JumpWatch {
    wall: TimestampMs,
    steady: Instant,
}

impl JumpWatch {
    pub(super) fn new(wall: TimestampMs, steady: Instant) -> Self {
        Self { wall, steady }
    }

    /// How far the clock has jumped since the last call, forward or back; `None` if it went on as it should.
    pub(super) fn jump_ms(&mut self, wall: TimestampMs, steady: Instant) -> Option<i64> {
        let elapsed = steady.saturating_duration_since(self.steady).as_millis();
        let elapsed_ms = i64::try_from(elapsed).unwrap_or(i64::MAX);
        let jump_ms = wall.since(self.wall.plus_ms(elapsed_ms));
        *self = Self { wall, steady };
        (jump_ms.saturating_abs() >= JUMP_MS_MIN).then_some(jump_ms)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)] // An Instant can be had in no other way.
    fn only_a_clock_that_was_set_has_jumped() {
        let start = Instant::now();
        let after = |ms: u64| start + Duration::from_millis(ms);
        let mut watch = JumpWatch::new(TimestampMs(1_000_000), start);
        assert_eq!(watch.jump_ms(TimestampMs(1_060_010), after(60_000)), None);
        assert_eq!(watch.jump_ms(TimestampMs(4_660_010), after(60_000)), Some(3_600_000));
        assert_eq!(watch.jump_ms(TimestampMs(4_660_510), after(60_500)), None);
        assert_eq!(watch.jump_ms(TimestampMs(1_060_510), after(60_500)), Some(-3_600_000));
    }
}

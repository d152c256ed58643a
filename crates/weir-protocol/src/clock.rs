//! The seam through which time comes in.
//!
//! Cores take `now` as an argument. Shells hold a [`Clock`]; tests hold a [`ManualClock`] and turn
//! it by hand.

use std::fmt::Debug;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::types::TimestampMs;

/// Tells the time.
pub trait Clock: Send + Sync + Debug {
    /// Milliseconds since 1970. May go backwards when somebody sets the machine's clock.
    fn now(&self) -> TimestampMs;
}

/// A clock that stands still until it is turned.
#[derive(Debug, Default)]
pub struct ManualClock {
    now_ms: AtomicI64,
}

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub const fn new(now: TimestampMs) -> Self {
        Self { now_ms: AtomicI64::new(now.0) }
    }

    /// Sets the time, forwards or backwards.
    pub fn set(&self, now: TimestampMs) {
        self.now_ms.store(now.0, Ordering::SeqCst);
    }

    /// Moves on by `ms` and returns the new time.
    pub fn advance_ms(&self, ms: i64) -> TimestampMs {
        TimestampMs(self.now_ms.fetch_add(ms, Ordering::SeqCst)).plus_ms(ms)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> TimestampMs {
        TimestampMs(self.now_ms.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_shows_what_it_was_set_to() {
        let clock = ManualClock::new(TimestampMs(5));
        assert_eq!(clock.now(), TimestampMs(5));
        assert_eq!(clock.advance_ms(10), TimestampMs(15));
        assert_eq!(clock.now(), TimestampMs(15));
        clock.set(TimestampMs(1));
        assert_eq!(clock.now(), TimestampMs(1));
    }
}

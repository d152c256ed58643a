//! The wall clock, for the shells that need one.

use std::time::{SystemTime, UNIX_EPOCH};

pub use weir_protocol::clock::{Clock, ManualClock};
use weir_protocol::types::TimestampMs;

/// The machine's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    /// Milliseconds since 1970. A clock set before 1970 reads as 0.
    // This is the one place of the crate where wall time enters.
    #[allow(clippy::disallowed_methods)]
    fn now(&self) -> TimestampMs {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        TimestampMs(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }
}

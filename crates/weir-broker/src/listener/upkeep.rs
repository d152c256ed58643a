//! The upkeep thread: removes files, builds indexes again and cleans logs, while the core goes on.

use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::shared::Shared;
use crate::error::BrokerError;

/// How often it looks for something to do.
const INTERVAL: Duration = Duration::from_secs(1);

/// A thread, as removing a large file blocks.
#[derive(Debug)]
pub(super) struct UpkeepThread {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

impl UpkeepThread {
    pub(super) fn start(shared: Arc<Shared>) -> Result<Self, BrokerError> {
        let run = {
            let shared = shared.clone();
            move || {
                while shared.wait_for_upkeep(INTERVAL) {
                    while upkeep(&shared) {}
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("weir-upkeep".to_owned())
            .spawn(run)
            .map_err(BrokerError::UpkeepThread)?;
        Ok(Self { shared, thread })
    }

    /// Ends it; what it is at is left for the next start.
    pub(super) fn stop(self) {
        self.shared.stop_upkeep();
        if self.thread.join().is_err() {
            tracing::error!("the upkeep thread has panicked");
        }
    }
}

/// Holds reading and writing to a rate, by waiting once a tenth of a second's worth is done.
#[derive(Debug)]
struct Throttle {
    bytes_per_second_max: Option<u64>,
    owed_bytes: u64,
}

impl Throttle {
    /// How long to wait after `bytes` more.
    fn wait_for(&mut self, bytes: u64) -> Option<Duration> {
        let rate = self.bytes_per_second_max?.max(1);
        self.owed_bytes += bytes;
        if self.owed_bytes < rate / 10 {
            return None;
        }
        let owed = std::mem::take(&mut self.owed_bytes);
        Some(Duration::from_millis(owed.saturating_mul(1_000) / rate))
    }
}

/// Does what is due once. Returns whether there may be more.
///
/// A panic costs the work that was at hand and nothing else.
fn upkeep(shared: &Shared) -> bool {
    let one = || {
        let Some(upkeep) = shared.begin_upkeep() else { return false };
        let rate = shared.cleaner_io_bytes_per_second_max();
        let mut throttle = Throttle { bytes_per_second_max: rate, owed_bytes: 0 };
        let done = upkeep.run(&mut |bytes| {
            let goes_on = match throttle.wait_for(bytes) {
                Some(pause) => shared.wait_for_upkeep(pause),
                None => !shared.upkeep_stops(),
            };
            if goes_on {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        shared.finish_upkeep(done)
    };
    // Nothing but the core is seen again after a panic, and the core is told.
    match std::panic::catch_unwind(AssertUnwindSafe(one)) {
        Ok(more) => more && !shared.upkeep_stops(),
        Err(_) => {
            shared.upkeep_panicked();
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttle_waits_as_long_as_its_bytes_are_worth() {
        let mut throttle = Throttle { bytes_per_second_max: Some(1_000_000), owed_bytes: 0 };
        let pieces = (0..1_000).map(|_| 7_000);
        let waited: Duration = pieces.filter_map(|bytes| throttle.wait_for(bytes)).sum();
        assert!((6_800..=7_000).contains(&waited.as_millis()), "{waited:?}");
        let mut throttle = Throttle { bytes_per_second_max: None, owed_bytes: 0 };
        assert_eq!(throttle.wait_for(u64::MAX), None);
        let mut throttle = Throttle { bytes_per_second_max: Some(0), owed_bytes: 0 };
        assert_eq!(throttle.wait_for(1), Some(Duration::from_secs(1)));
    }
}

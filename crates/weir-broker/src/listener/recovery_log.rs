//! Lines that say how far a recovery is, for whoever waits for a start that takes long.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use weir_log::RecoveryWatch;

/// Between two lines, and before the first: a start that is quicker says nothing of it.
const INTERVAL: Duration = Duration::from_secs(2);

/// A watch that writes a line every [`INTERVAL`].
#[allow(clippy::disallowed_methods)] // The shell reads time for the core.
pub(super) fn watch() -> RecoveryWatch {
    let last = Mutex::new(Instant::now());
    RecoveryWatch::new(move |progress| {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() < INTERVAL {
            return;
        }
        *last = Instant::now();
        tracing::info!(
            partitions = progress.logs_done,
            partitions_total = progress.logs_total,
            topic = progress.topic,
            partition = progress.partition,
            bytes = progress.bytes_done,
            bytes_total = progress.bytes_total,
            "recovering after an unclean stop"
        );
    })
}

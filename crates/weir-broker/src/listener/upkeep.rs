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

/// Does what is due once. Returns whether there may be more.
///
/// A panic costs the work that was at hand and nothing else.
fn upkeep(shared: &Shared) -> bool {
    let one = || {
        let Some(upkeep) = shared.begin_upkeep() else { return false };
        let done = upkeep.run(&mut |_| match shared.upkeep_stops() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
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

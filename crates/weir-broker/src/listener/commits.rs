//! The commit thread: syncs, while the core goes on appending.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::shared::Shared;
use crate::error::BrokerError;

/// A thread, as a sync blocks: one commit after the other, each with all that was appended during the one before.
#[derive(Debug)]
pub(super) struct CommitThread {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

impl CommitThread {
    pub(super) fn start(shared: Arc<Shared>) -> Result<Self, BrokerError> {
        let run = {
            let shared = shared.clone();
            move || {
                while shared.wait_for_commit() {
                    commit(&shared);
                }
                // What was appended since.
                commit(&shared);
            }
        };
        let thread = std::thread::Builder::new()
            .name("weir-commit".to_owned())
            .spawn(run)
            .map_err(BrokerError::CommitThread)?;
        Ok(Self { shared, thread })
    }

    /// Ends it after a last commit.
    pub(super) fn stop(self) {
        self.shared.stop_commits();
        if self.thread.join().is_err() {
            tracing::error!("the commit thread has panicked");
        }
    }
}

/// A panic here must not leave a broker that goes on to take records nobody syncs: it takes the directory offline, and
/// whoever waits learns of it.
fn commit(shared: &Shared) {
    let one = || {
        if let Some(pending) = shared.begin_commit() {
            shared.finish_commit(pending.run());
        }
    };
    // Nothing but the core is seen again after a panic, and the core is told.
    if std::panic::catch_unwind(AssertUnwindSafe(one)).is_err() {
        shared.commit_panicked();
    }
}

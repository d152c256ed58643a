//! The commit thread: syncs, while the core goes on appending. And the flush thread: makes room in the commit journal.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::Arc;
use std::thread::JoinHandle;

use weir_log::Flush;

use super::shared::Shared;
use crate::error::BrokerError;

/// A thread, as a sync blocks: one commit after the other, each with all that was appended during the one before.
#[derive(Debug)]
pub(super) struct CommitThread {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
    /// Ends with the commit thread.
    flushes: JoinHandle<()>,
}

impl CommitThread {
    pub(super) fn start(shared: Arc<Shared>) -> Result<Self, BrokerError> {
        // There is one flush at a time.
        let (flush, to_flush) = mpsc::sync_channel(1);
        let flushes = spawn("weir-flush", move || run_flushes(&to_flush))?;
        let run = {
            let shared = shared.clone();
            move || {
                while shared.wait_for_commit() {
                    commit(&shared, &flush);
                }
                // What was appended since.
                commit(&shared, &flush);
            }
        };
        let thread = spawn("weir-commit", run)?;
        Ok(Self { shared, thread, flushes })
    }

    /// Ends it after a last commit.
    pub(super) fn stop(self) {
        self.shared.stop_commits();
        if self.thread.join().is_err() {
            tracing::error!("the commit thread has panicked");
        }
        if self.flushes.join().is_err() {
            tracing::error!("the flush thread has panicked");
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, BrokerError> {
    let spawned: io::Result<_> = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map_err(BrokerError::CommitThread)
}

fn run_flushes(to_flush: &Receiver<Flush>) {
    for flush in to_flush {
        if let Err(error) = flush.run() {
            // The directory is offline: the next commit says so to whoever waits.
            tracing::error!(%error, "flush failed; the log directory is offline");
        }
    }
}

/// A panic here must not leave a broker that goes on to take records nobody syncs: it takes the directory offline, and
/// whoever waits learns of it.
fn commit(shared: &Shared, flushes: &SyncSender<Flush>) {
    let one = || {
        if let Some(pending) = shared.begin_commit() {
            let mut done = pending.run();
            let flush = done.take_flush();
            shared.finish_commit(done);
            if let Some(flush) = flush {
                // Without its thread, commits make room themselves.
                let _ = flushes.try_send(flush);
            }
        }
    };
    // Nothing but the core is seen again after a panic, and the core is told.
    if std::panic::catch_unwind(AssertUnwindSafe(one)).is_err() {
        shared.commit_panicked();
    }
}

//! The one seam of durability: how an append becomes something a power cut cannot take back.
//!
//! ```text
//! broker's core (under its lock)      commit thread (no lock)
//! append, append, append
//! begin_commit() ------------------>  CommitGroup::run(): syncs
//! append, append (next group)
//! finish_commit(Committed) <--------  Ok(Committed)
//! ```
//!
//! Today `run` syncs the segment files themselves. A commit journal can take its place without a
//! change above: everything it needs is collected in `begin_commit`.
use crate::error::CommitError;

/// Everything appended since the last [`crate::LogDir::begin_commit`], to be made durable.
///
/// Groups may run at the same time; they take effect in the order in which they were begun. A
/// group that is dropped without being run takes the directory offline, as what it covers would
/// never become durable.
#[derive(Debug)]
#[must_use = "what a group covers becomes durable only by run()"]
pub struct CommitGroup {}

/// Proof that a group is on disk, for [`crate::LogDir::finish_commit`].
#[derive(Debug)]
#[must_use = "offsets become visible only by LogDir::finish_commit"]
pub struct Committed {}

impl CommitGroup {
    /// Does the blocking I/O. Call it on a thread of its own, without any lock.
    ///
    /// # Errors
    /// When a sync or write failed. The directory is then offline: this and every later append and
    /// commit is refused, and all parked answers must fail. Never retry.
    pub fn run(self) -> Result<Committed, CommitError> {
        unimplemented!()
    }

    /// How many logs have new data in it.
    #[must_use]
    pub fn log_count(&self) -> usize {
        unimplemented!()
    }

    /// Bytes appended that it covers.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        unimplemented!()
    }
}

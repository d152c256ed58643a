//! [`Shared`]: what the logs of a directory and its running commits have in common.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::disk::DiskFile;
use crate::error::{lacks_handle, CommitError, LogError};
use crate::log_dir::LogId;
use crate::producer_state::ProducerRoom;

/// What the next commit has to do beside the segments, and whether there may be one at all.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// The first failure. Set once; the directory is offline from then on.
    failure: OnceLock<Arc<str>>,
    has_dirty: AtomicBool,
    dirty: Mutex<Dirty>,
    /// Bytes appended since the last checkpoint.
    appended_bytes: AtomicU64,
    /// A file of the directory that stays open, for `syncfs` when no other is at hand.
    anchor: Option<Arc<dyn DiskFile>>,
    /// How many producers may be remembered.
    pub(crate) producers: ProducerRoom,
}

/// What waits for the next commit.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    /// Logs with appended data.
    pub(crate) logs: Vec<LogId>,
    /// Directories in which files were created or renamed.
    pub(crate) dirs: BTreeSet<PathBuf>,
    /// New files beside the segments.
    pub(crate) files: Vec<Arc<dyn DiskFile>>,
    /// The offset checkpoints must be written with it: a log start moved, or a log was deleted.
    pub(crate) offsets: bool,
}

impl Shared {
    pub(crate) fn new(anchor: Arc<dyn DiskFile>, producers: ProducerRoom) -> Self {
        Self { anchor: Some(anchor), producers, ..Self::default() }
    }

    pub(crate) const fn anchor(&self) -> Option<&Arc<dyn DiskFile>> {
        self.anchor.as_ref()
    }

    /// Takes the directory offline. Only the first reason is kept.
    pub(crate) fn fail(&self, reason: &str) -> CommitError {
        let reason = self.failure.get_or_init(|| Arc::from(reason));
        CommitError { reason: Arc::clone(reason) }
    }

    pub(crate) fn failure(&self) -> Option<CommitError> {
        self.failure.get().map(|reason| CommitError { reason: Arc::clone(reason) })
    }

    /// `Err` if the directory is offline.
    pub(crate) fn check(&self) -> Result<(), LogError> {
        match self.failure.get() {
            None => Ok(()),
            Some(reason) => Err(LogError::Offline { reason: Arc::clone(reason) }),
        }
    }

    /// Takes the directory offline if a file may be in a state nobody knows; gives the error back.
    /// A full disk and a file or directory that cannot be opened change nothing.
    pub(crate) fn judge(&self, error: LogError) -> LogError {
        match &error {
            // Removing and listing need a handle too.
            LogError::Io { action, source, .. } if *action != "open" && !lacks_handle(source) => {
                self.fail(&error.to_string());
            }
            _ => {}
        }
        error
    }

    pub(crate) fn note(&self, change: impl FnOnce(&mut Dirty)) {
        change(&mut self.lock());
        self.has_dirty.store(true, Ordering::Release);
    }

    pub(crate) fn has_dirty(&self) -> bool {
        self.has_dirty.load(Ordering::Acquire)
    }

    /// Takes all that waits.
    pub(crate) fn take(&self) -> Dirty {
        let mut dirty = self.lock();
        self.has_dirty.store(false, Ordering::Release);
        std::mem::take(&mut *dirty)
    }

    pub(crate) fn add_appended(&self, bytes: u64) {
        self.appended_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn appended_bytes(&self) -> &AtomicU64 {
        &self.appended_bytes
    }

    fn lock(&self) -> MutexGuard<'_, Dirty> {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

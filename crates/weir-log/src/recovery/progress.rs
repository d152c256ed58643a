//! [`RecoveryWatch`]: who is told how far a recovery is.

use std::fmt;
use std::sync::Arc;

/// Bytes that are scanned between two calls of the watch: a few hundredths of a second's worth.
pub(super) const STEP_BYTES: u64 = 16 << 20;

/// How far the recovery of a directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryProgress {
    /// Logs that are open.
    pub logs_done: usize,
    /// Logs in the directory.
    pub logs_total: usize,
    /// The one that is being scanned: its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Bytes of it that were scanned.
    pub bytes_done: u64,
    /// Bytes of it from its recovery point on.
    pub bytes_total: u64,
}

/// A function that is told of the progress while a directory is opened, on the thread that opens it. It
/// decides itself how often that is worth a line: there is no clock here.
#[derive(Clone, Default)]
pub struct RecoveryWatch(Option<Arc<Watch>>);

type Watch = dyn Fn(&RecoveryProgress) + Send + Sync;

impl RecoveryWatch {
    /// Calls `watch` for each log that has something to scan, and again after each 16 MiB of it.
    pub fn new(watch: impl Fn(&RecoveryProgress) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(watch)))
    }

    /// Whether nobody listens.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn tell(&self, progress: &RecoveryProgress) {
        if let Some(watch) = &self.0 {
            watch(progress);
        }
    }
}

impl fmt::Debug for RecoveryWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RecoveryWatch").field(&self.0.is_some()).finish()
    }
}

/// What is told while one log is opened.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) watch: RecoveryWatch,
    pub(crate) progress: RecoveryProgress,
    told_bytes: u64,
}

impl Watched {
    pub(crate) fn new(watch: RecoveryWatch, progress: RecoveryProgress) -> Self {
        Self { watch, progress, told_bytes: 0 }
    }

    /// So many bytes are to be scanned.
    pub(super) fn begin(&mut self, bytes_total: u64) {
        (self.progress.bytes_done, self.progress.bytes_total, self.told_bytes) =
            (0, bytes_total, 0);
        if bytes_total > 0 {
            self.watch.tell(&self.progress);
        }
    }

    /// So many more were.
    pub(super) fn scanned(&mut self, bytes: u64) {
        self.progress.bytes_done += bytes;
        if self.progress.bytes_done - self.told_bytes >= STEP_BYTES {
            self.told_bytes = self.progress.bytes_done;
            self.watch.tell(&self.progress);
        }
    }
}

//! The one seam of durability: how an append becomes something a power cut cannot take back.
//!
//! ```text
//! broker's core (under its lock)      commit thread (no lock)
//! append, append, append
//! LogDir::begin_commit() ---------->  CommitGroup::run(): writes and syncs
//! append, append (next group)
//! LogDir::finish_commit() <---------  Ok(Committed)
//! ```
//!
//! Many appends share one sync, and further appends go on meanwhile. At most one group is under
//! way: a second fdatasync of the same file would only wait for the first.
//!
//! A group of appends goes into the commit journal ([`crate::journal`]), in one write. One that is large,
//! or has anything else in it, goes the straight way: the segment files themselves are synced, each
//! alone if they are few, with one `syncfs` if they are many; new files count only once their directory
//! is synced too.
//!
//! # What holds
//! - A synced offset never exceeds what was really synced: it moves in `finish_commit` only.
//! - After a failure nothing is retried: [`crate::CommitError`] says why.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::{replace_files, Disk, DiskFile, OpenMode};
use crate::error::{is_passing, CommitError};
use crate::journal::{Appended, Flush, Journal};
use crate::log::{CheckpointDone, CheckpointWork, LogPosition, RolledSnapshot, UnwrittenSnapshot};
use crate::log_dir::LogId;
use crate::shared::Shared;

/// Everything appended since the last [`crate::LogDir::begin_commit`], to be made durable.
///
/// A group that is dropped without being run takes the directory offline, as what it covers would
/// never become durable.
#[derive(Debug)]
#[must_use = "what a group covers becomes durable only by run()"]
pub struct CommitGroup {
    disk: Arc<dyn Disk>,
    shared: Arc<Shared>,
    journal: Option<Arc<Journal>>,
    work: Option<Work>,
}

/// What a group does.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) logs: Vec<CommittedLog>,
    /// What the journal takes, if it can take all.
    pub(crate) appended: Vec<Appended>,
    /// There is more to it than `appended`.
    pub(crate) is_straight: bool,
    pub(crate) files: Vec<Arc<dyn DiskFile>>,
    pub(crate) dirs: BTreeSet<PathBuf>,
    pub(crate) size_bytes: u64,
    /// Producer snapshots of segments that were rolled, with their log and its generation.
    pub(crate) snapshots: Vec<(LogId, u64, RolledSnapshot)>,
    pub(crate) checkpoints: Vec<(LogId, CheckpointWork)>,
    /// The offset checkpoints of the directory, after all else.
    pub(crate) offsets: Vec<(PathBuf, Vec<u8>)>,
}

/// How far one log is on disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommittedLog {
    pub(crate) id: LogId,
    pub(crate) end: LogPosition,
    pub(crate) generation: u64,
}

/// Proof that a group is on disk, for [`crate::LogDir::finish_commit`].
#[derive(Debug)]
#[must_use = "offsets become visible only by LogDir::finish_commit"]
pub struct Committed {
    pub(crate) logs: Vec<CommittedLog>,
    pub(crate) checkpoint: CheckpointOutcome,
    /// Snapshots that found no room.
    pub(crate) unwritten: Vec<(LogId, UnwrittenSnapshot)>,
    pub(crate) flush: Option<Flush>,
}

impl Committed {
    /// What is due in the background, on another thread than the commits': without it, commits wait for
    /// room in the journal now and then.
    pub fn take_flush(&mut self) -> Option<Flush> {
        self.flush.take()
    }
}

/// What became of the checkpoints in a group.
#[derive(Debug)]
pub(crate) enum CheckpointOutcome {
    Written(Vec<(LogId, CheckpointDone)>),
    /// The disk is full, or too many files are open. Nothing is lost but time at the next recovery; it
    /// is tried again.
    PutOff {
        logs: Vec<(LogId, CheckpointWork)>,
        /// The offset checkpoints were to be written with it.
        offsets: bool,
    },
}

impl CommitGroup {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        shared: Arc<Shared>,
        journal: Option<Arc<Journal>>,
        work: Work,
    ) -> Self {
        Self { disk, shared, journal, work: Some(work) }
    }

    /// How many logs have new data in it.
    #[must_use]
    pub fn log_count(&self) -> usize {
        self.work.as_ref().map_or(0, |work| work.logs.len())
    }

    /// Bytes appended that it covers.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.work.as_ref().map_or(0, |work| work.size_bytes)
    }

    /// Does the blocking I/O. Call it on a thread of its own, without any lock.
    ///
    /// # Errors
    /// When a sync or write failed, or had failed before. The directory is offline then: every
    /// later append and commit is refused, and all parked answers must fail. Never retry.
    pub fn run(mut self) -> Result<Committed, CommitError> {
        if let Some(failure) = self.shared.failure() {
            return Err(failure);
        }
        let Some(work) = self.work.take() else {
            return Err(self.shared.fail("a commit was run twice"));
        };
        let dirs: Vec<PathBuf> = work.dirs.into_iter().collect();
        let appended = (!work.is_straight).then_some(&*work.appended);
        self.make_durable(appended, work.files, &dirs)
            .map_err(|error| self.shared.fail(&format!("cannot sync the log: {error}")))?;
        // Before the checkpoint, which may be the one that syncs them.
        let unwritten = self.write_snapshots(work.snapshots)?;
        let checkpoint = self.run_checkpoint(work.checkpoints, &work.offsets)?;
        let flush = self.journal.as_ref().and_then(|journal| journal.take_flush(&self.shared));
        Ok(Committed { logs: work.logs, checkpoint, unwritten, flush })
    }

    /// Writes the snapshots of segments that were rolled. Returns those that found no room.
    fn write_snapshots(
        &self,
        snapshots: Vec<(LogId, u64, RolledSnapshot)>,
    ) -> Result<Vec<(LogId, UnwrittenSnapshot)>, CommitError> {
        let mut unwritten = Vec::new();
        for (id, generation, mut snapshot) in snapshots {
            match snapshot.write.run() {
                Ok(()) => {}
                Err(error) if is_passing(&error) => {
                    unwritten.push((id, snapshot.unwritten(generation)));
                }
                Err(error) => {
                    return Err(self.shared.fail(&format!("cannot write a snapshot: {error}")))
                }
            }
        }
        Ok(unwritten)
    }

    /// By the journal, if all that is to be done is `appended`; else by syncing files and directories.
    fn make_durable(
        &self,
        appended: Option<&[Appended]>,
        mut files: Vec<Arc<dyn DiskFile>>,
        dirs: &[PathBuf],
    ) -> io::Result<()> {
        let Some(journal) = &self.journal else { return self.sync_many(files, dirs) };
        if let Some(appended) = appended {
            if journal.commit(appended)? {
                return Ok(());
            }
        }
        journal.settle(&mut files, |files| self.sync_many(files.to_vec(), dirs))
    }

    /// Directories need no handle of their own when one of a file is there: a sync must not fail for
    /// want of one.
    fn sync_many(&self, mut files: Vec<Arc<dyn DiskFile>>, dirs: &[PathBuf]) -> io::Result<()> {
        if files.is_empty() && !dirs.is_empty() {
            files.extend(self.shared.anchor().cloned());
        }
        self.disk.sync_many(&files, dirs)
    }

    fn run_checkpoint(
        &self,
        mut logs: Vec<(LogId, CheckpointWork)>,
        offsets: &[(PathBuf, Vec<u8>)],
    ) -> Result<CheckpointOutcome, CommitError> {
        match self.write_checkpoint(&mut logs, offsets) {
            Ok(()) => Ok(CheckpointOutcome::Written(
                logs.into_iter().map(|(id, work)| (id, work.done)).collect(),
            )),
            Err(error) if is_passing(&error) => {
                Ok(CheckpointOutcome::PutOff { logs, offsets: !offsets.is_empty() })
            }
            Err(error) => Err(self.shared.fail(&format!("cannot write a checkpoint: {error}"))),
        }
    }

    /// Indexes and snapshots first, then what says that they may be believed.
    fn write_checkpoint(
        &self,
        logs: &mut [(LogId, CheckpointWork)],
        offsets: &[(PathBuf, Vec<u8>)],
    ) -> io::Result<()> {
        let mut files = Vec::new();
        let mut dirs = BTreeSet::new();
        for (_, work) in &mut *logs {
            for write in &mut work.writes {
                write.run()?;
                files.push(Arc::clone(&write.file));
            }
            for path in &work.files {
                match self.disk.open(path, OpenMode::Existing) {
                    Ok(file) => files.push(file),
                    // Its segment was deleted meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            dirs.insert(work.dir.to_path_buf());
        }
        let dirs: Vec<PathBuf> = dirs.into_iter().collect();
        self.sync_many(files, &dirs)?;
        self.rename_written(logs)?;
        if !offsets.is_empty() {
            replace_files(&*self.disk, offsets)?;
        }
        for path in logs.iter().flat_map(|(_, work)| &work.remove) {
            match self.disk.remove(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn rename_written(&self, logs: &[(LogId, CheckpointWork)]) -> io::Result<()> {
        let mut dirs = Vec::new();
        for (_, work) in logs {
            let Some((from, to)) = &work.rename else { continue };
            match self.disk.rename(from, to) {
                Ok(()) => dirs.push(work.dir.to_path_buf()),
                // The log was deleted meanwhile: its directory has another name now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        self.sync_many(Vec::new(), &dirs)
    }
}

impl Drop for CommitGroup {
    fn drop(&mut self) {
        if self.work.is_some() {
            self.shared.fail("a commit was begun and abandoned");
        }
    }
}

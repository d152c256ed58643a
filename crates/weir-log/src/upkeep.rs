//! Upkeep: the slow work on files that nobody waits for, off the lock of whoever owns the directory.
//!
//! ```text
//! broker's core (under its lock)      upkeep thread (no lock)
//! LogDir::begin_upkeep() ---------->  Upkeep::run(): unlinks, scans, writes, syncs
//! append, read, commit
//! LogDir::finish_upkeep() <---------  UpkeepDone
//! ```
//!
//! What takes long is done in `run`: removing a file of a gigabyte, building an index again, cleaning a
//! compacted log ([`crate::cleaner`]), that in slices. Under the lock only names change. At most one upkeep is under way; one that is lost (its thread panicked) is
//! given up with [`LogDir::abandon_upkeep`].
//!
//! # What holds
//! - `run` works on paths and open files, and the log they belong to may be deleted meanwhile, and
//!   another may have its name. So it never touches a file that a log uses: it makes files under names
//!   that a start drops, and `finish` takes them in if their log is still the one that was begun with.
//! - Nothing in here is needed for a record to be safe: an upkeep that is stopped or lost costs room
//!   and time.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use weir_protocol::{Offset, TimestampMs};

use crate::cleaner::{CleanOutcome, CleanerState, Running, SliceDone};
use crate::disk::Disk;
use crate::error::LogError;
use crate::log_dir::{LogDir, LogId};
use crate::segment::{IndexRebuild, RebuiltIndexes};

/// After a failed removal it is tried again so much later.
const RETRY_MS: i64 = 60_000;

/// What is due, to be done without a lock.
#[derive(Debug)]
#[must_use = "nothing is done before run()"]
pub struct Upkeep {
    disk: Arc<dyn Disk>,
    remove: Vec<PathBuf>,
    rebuild: Option<(RebuildFor, IndexRebuild)>,
    clean: Option<Running>,
}

/// Whose index is built again.
#[derive(Debug, Clone, Copy)]
struct RebuildFor {
    log: LogId,
    generation: u64,
    base: Offset,
}

/// An upkeep that has run, for [`LogDir::finish_upkeep`].
#[derive(Debug)]
#[must_use = "the next upkeep begins only after LogDir::finish_upkeep"]
pub struct UpkeepDone {
    removed: usize,
    /// What was not removed, and why, if it was tried.
    kept: Vec<(PathBuf, Option<LogError>)>,
    rebuilt: Option<(RebuildFor, Result<RebuiltIndexes, LogError>, [PathBuf; 2])>,
    cleaned: Option<SliceDone>,
}

/// What an upkeep did.
#[derive(Debug, Default)]
pub struct UpkeepReport {
    /// Files and directories that were removed for good.
    pub files_removed: usize,
    /// Segments whose indexes were found to be bad while reading and have been built again.
    pub indexes_rebuilt: usize,
    /// What came of cleaning, if a log was at hand.
    pub cleaning: Option<CleanOutcome>,
    /// What could not be done. It is tried again, unless it is damage, which readers are told of.
    pub errors: Vec<LogError>,
}

/// What a directory knows of its upkeep.
#[derive(Debug, Default)]
pub(crate) struct UpkeepState {
    running: bool,
    /// Directories of deleted logs, files of deleted segments whose log was deleted, and what an
    /// upkeep left.
    pub(crate) graveyard: Vec<(TimestampMs, PathBuf)>,
    pub(crate) cleaner: CleanerState,
}

impl Upkeep {
    /// Does the blocking I/O. Call it on a thread of its own, without any lock.
    ///
    /// `pace` is told of bytes read and written, and may wait before it returns; it is also asked
    /// between files, with 0 bytes. On [`ControlFlow::Break`] the rest is left for another time.
    pub fn run(self, pace: &mut dyn FnMut(u64) -> ControlFlow<()>) -> UpkeepDone {
        let mut done = UpkeepDone { removed: 0, kept: Vec::new(), rebuilt: None, cleaned: None };
        for path in self.remove {
            if pace(0).is_break() {
                done.kept.push((path, None));
                continue;
            }
            match self.disk.remove(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    let error = LogError::io("remove", &path, error);
                    done.kept.push((path, Some(error)));
                }
                _ => done.removed += 1,
            }
        }
        if let Some((whose, rebuild)) = self.rebuild.filter(|_| pace(0).is_continue()) {
            let outcome = rebuild.run();
            done.rebuilt = Some((whose, outcome, rebuild.leftovers()));
        }
        done.cleaned = self.clean.map(|running| running.slice(pace));
        done
    }
}

impl LogDir {
    /// Collects what is due. `None` if nothing is, while an upkeep is running, or when the directory
    /// is offline. After [`LogDir::finish_upkeep`] there may be more at once.
    pub fn begin_upkeep(&mut self, now: TimestampMs) -> Option<Upkeep> {
        if self.upkeep.running || self.failure().is_some() {
            return None;
        }
        let remove = self.take_due_files(now);
        let rebuild = self.next_rebuild(now);
        let clean = self.begin_cleaning(now);
        if remove.is_empty() && rebuild.is_none() && clean.is_none() {
            return None;
        }
        self.upkeep.running = true;
        Some(Upkeep { disk: self.disk(), remove, rebuild, clean })
    }

    fn take_due_files(&mut self, now: TimestampMs) -> Vec<PathBuf> {
        let mut due = Vec::new();
        for graveyard in self.graveyards() {
            graveyard.retain(|(then, path)| {
                if *then <= now {
                    due.push(path.clone());
                }
                *then > now
            });
        }
        due
    }

    /// The first segment whose index was found to lie while reading. One whose file cannot be opened
    /// now waits.
    fn next_rebuild(&self, now: TimestampMs) -> Option<(RebuildFor, IndexRebuild)> {
        let commit_running = self.commit_is_running();
        self.logs().find_map(|(id, log)| {
            let interval_bytes = log.config.index_interval_bytes;
            // What a commit writes into the active segment's index is not to be replaced meanwhile.
            let count = log.segments.len() - usize::from(commit_running);
            let mut segments = log.segments.iter().take(count);
            let rebuild = segments
                .find_map(|segment| segment.index_rebuild(interval_bytes, now).ok().flatten())?;
            let generation = log.commit.generation;
            Some((RebuildFor { log: id, generation, base: rebuild.base }, rebuild))
        })
    }

    /// Takes a finished upkeep in.
    pub fn finish_upkeep(&mut self, done: UpkeepDone, now: TimestampMs) -> UpkeepReport {
        self.upkeep.running = false;
        let mut report = UpkeepReport { files_removed: done.removed, ..UpkeepReport::default() };
        for (path, error) in done.kept {
            let again = if error.is_some() { now.plus_ms(RETRY_MS) } else { now };
            self.upkeep.graveyard.push((again, path));
            report.errors.extend(error);
        }
        if let Some((whose, outcome, leftovers)) = done.rebuilt {
            match self.finish_rebuild(whose, outcome) {
                Ok(true) => report.indexes_rebuilt += 1,
                outcome => {
                    report.errors.extend(outcome.err());
                    let leftovers = leftovers.into_iter().map(|path| (now, path));
                    self.upkeep.graveyard.extend(leftovers);
                }
            }
        }
        report.cleaning = done.cleaned.map(|slice| self.finish_slice(slice, now));
        report
    }

    /// Puts the new indexes in place, unless the segment is not what it was. Returns whether it did.
    fn finish_rebuild(
        &mut self,
        whose: RebuildFor,
        outcome: Result<RebuiltIndexes, LogError>,
    ) -> Result<bool, LogError> {
        // A commit may be writing the indexes of the active segment, as they were.
        let commit_running = self.commit_is_running();
        let Some(log) = self.get_mut(whose.log) else { return Ok(false) };
        let active = log.active().base;
        if log.commit.generation != whose.generation || commit_running && whose.base == active {
            return Ok(false);
        }
        let interval_bytes = log.config.index_interval_bytes;
        let Ok(at) = log.segments.binary_search_by_key(&whose.base, |segment| segment.base) else {
            return Ok(false);
        };
        let Some(segment) = log.segments.get_mut(at) else { return Ok(false) };
        match outcome {
            Ok(rebuilt) => {
                segment.adopt_indexes(rebuilt, interval_bytes)?;
                let paths = [segment.offsets.file().path(), segment.times.file().path()];
                log.note_new_files(paths);
                Ok(true)
            }
            Err(error) => {
                if matches!(error, LogError::Damaged { .. }) {
                    segment.give_up_indexes();
                }
                Err(error)
            }
        }
    }

    /// The upkeep that was begun will never be finished, as its thread has panicked.
    pub fn abandon_upkeep(&mut self) {
        self.upkeep.running = false;
        self.abandon_cleaning();
    }
}

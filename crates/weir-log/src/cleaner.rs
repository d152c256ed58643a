//! The cleaner: compaction of logs with `cleanup.policy=compact`.
//!
//! ```text
//! log start            cleaned to                    limit        log end
//!    |  clean: one record a key  |  dirty               |            |
//!    +---------------------------+----------------------+------------+
//!                                                        never cleaned
//! ```
//!
//! For each key the last record stays, at its offset, so offsets have gaps afterwards; batches keep
//! their first and last offset, and readers find their way ([`crate::Log::read`]). A record without a
//! value (a tombstone) is the last of its key too, and goes once readers had `delete.retention.ms` to
//! see it: the first cleaning that keeps it writes the time into its batch (the delete horizon,
//! KIP-534), a later one takes it away.
//!
//! | module | what it holds |
//! |---|---|
//! | `select` | which log is due |
//! | `run` | one cleaning of one log, in slices |
//! | `offset_map` | the last offset of each key, in bounded memory |
//! | `transactions` | aborted data, and markers that are still needed |
//! | `group` | what stays of a few segments, written as one |
//! | `swap` | how that takes their place |
//!
//! # What holds
//! - Nothing at or above the limit is touched: the active segment, what is not decided (the last stable
//!   offset), what is younger than `min.compaction.lag.ms`, and what the recovery point on file has not
//!   passed: nothing is written into a cleaned segment any more, and a start that finds a gap above
//!   that point knows it for a hole.
//! - Keys that do not fit `log.cleaner.dedupe.buffer.size` are left for another round: the dirty part
//!   is then cleaned in several.
//! - A log that cannot be cleaned (damage, a full map) is left alone and named in
//!   [`CleanerStats::uncleanable`]; appends and reads go on.

mod group;
mod offset_map;
mod run;
mod select;
mod sip_hash;
mod swap;
mod transactions;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use weir_protocol::{Offset, TimestampMs};

pub(crate) use run::{CleanRun, LastBatch};

use crate::error::{is_passing, LogError};
use crate::log_dir::{LogDir, LogId};
use run::{RunStats, Step};

/// How logs are compacted, as a broker is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanerOptions {
    /// `log.cleaner.enable`
    pub enabled: bool,
    /// `log.cleaner.dedupe.buffer.size`: memory for the keys of the one log that is being cleaned. Taken
    /// only meanwhile, and only as much as its keys need: 24 bytes each.
    pub dedupe_buffer_bytes_max: u64,
    /// `log.cleaner.backoff.ms`: pause when no log is due.
    pub backoff_ms: i64,
    /// Longest inflated form of a batch.
    pub inflate_bytes_max: usize,
}

impl Default for CleanerOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            dedupe_buffer_bytes_max: 128 << 20,
            backoff_ms: 15_000,
            inflate_bytes_max: 128 << 20,
        }
    }
}

/// What the cleaner has done since the start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CleanerStats {
    /// Cleanings that came to their end.
    pub runs: u64,
    /// Bytes of batches read, each dirty one twice.
    pub bytes_read: u64,
    /// Bytes of batches written.
    pub bytes_written: u64,
    /// Bytes that logs have become smaller by.
    pub bytes_cleaned: u64,
    /// Records that were left out.
    pub records_dropped: u64,
    /// Those among them that had no key, which a compacted topic does not take.
    pub keyless_dropped: u64,
    /// The largest share of dirty bytes in a compacted log, when it was last looked.
    pub dirty_ratio_max: f64,
    /// How long the last cleaning took.
    pub last_run_ms: i64,
    /// The log that is being cleaned.
    pub running: Option<(String, i32)>,
    /// Logs that are left alone, and why.
    pub uncleanable: Vec<Uncleanable>,
    /// The compacted logs.
    pub partitions: Vec<CleanedPartition>,
}

/// How the cleaning of one log stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanState {
    /// It was asked for and is not done, or is under way.
    pub is_asked: bool,
    /// The log is left alone.
    pub is_uncleanable: bool,
    /// Bytes that it has become smaller by since the start.
    pub bytes_cleaned: u64,
    /// Records that were left out of it since the start.
    pub records_dropped: u64,
}

/// A compacted log.
#[derive(Debug, Clone, PartialEq)]
pub struct CleanedPartition {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// The share of dirty bytes among those that may be cleaned, when it was last looked.
    pub dirty_ratio: f64,
    /// Bytes that it has become smaller by since the start.
    pub bytes_cleaned: u64,
}

/// A log that could not be cleaned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uncleanable {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// What stood in the way.
    pub reason: String,
}

/// What came of a slice of cleaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CleanOutcome {
    /// It goes on.
    Goes,
    /// A log is clean up to an offset.
    Cleaned {
        /// Its topic.
        topic: String,
        /// Its partition.
        partition: i32,
        /// Records below were looked at.
        cleaned_to: Offset,
        /// What its segments had, and have.
        bytes_before: u64,
        /// See `bytes_before`.
        bytes_after: u64,
    },
    /// The log changed under it (retention, deletion, a new policy), or it was told to stop.
    GivenUp,
    /// There is no room, or too many files are open. It is tried again.
    PutOff,
    /// The log is left alone from now on.
    Uncleanable(Uncleanable),
}

/// What a directory knows of its cleaner.
#[derive(Debug, Default)]
pub(crate) struct CleanerState {
    /// The run that goes on with the next upkeep.
    waiting: Option<Running>,
    /// The log of the run that is under way.
    current: Option<LogId>,
    /// What was asked for, and where the logs ended then.
    forced: BTreeMap<LogId, Offset>,
    uncleanable: BTreeMap<LogId, String>,
    next_look: TimestampMs,
    stats: CleanerStats,
    /// Of each compacted log, when it was last looked.
    dirty_ratios: BTreeMap<LogId, f64>,
    /// Bytes that each log has become smaller by, and records that were left out of it, since the start.
    cleaned: BTreeMap<LogId, (u64, u64)>,
    /// There is a `cleaner-offset-checkpoint`, or should be.
    pub(crate) has_offsets: bool,
}

impl CleanerState {
    /// The clock was set.
    pub(crate) fn shift(&mut self, by_ms: i64) {
        self.next_look = self.next_look.plus_ms(by_ms);
    }
}

/// A run and what its log was at its start.
#[derive(Debug)]
pub(crate) struct Running {
    run: CleanRun,
    /// The request that it answers.
    asked_to: Option<Offset>,
    bytes_before: u64,
    reported: RunStats,
}

/// A slice that has run.
#[derive(Debug)]
pub(crate) struct SliceDone {
    running: Running,
    step: Result<Step, LogError>,
}

impl Running {
    pub(crate) fn slice(mut self, pace: &mut dyn FnMut(u64) -> ControlFlow<()>) -> SliceDone {
        let step = self.run.run(pace);
        SliceDone { running: self, step }
    }
}

impl LogDir {
    /// Cleans a log with the next upkeeps, however little of it is dirty, and also if it could not be
    /// cleaned before. What stands in its active segment is sealed first. Returns whether the log is
    /// compacted at all.
    ///
    /// # Errors
    /// [`LogError::NoSuchLog`].
    pub fn request_clean(&mut self, id: LogId) -> Result<bool, LogError> {
        let log = self.get(id).ok_or(LogError::NoSuchLog)?;
        let is_compacted = log.config().cleanup_compact && self.options.cleaner.enabled;
        let end = log.end.offset;
        if is_compacted {
            self.upkeep.cleaner.forced.insert(id, end);
        }
        Ok(is_compacted)
    }

    /// How the cleaning of a log stands; `None` if it is deleted.
    #[must_use]
    pub fn clean_state(&self, id: LogId) -> Option<CleanState> {
        self.get(id)?;
        let state = &self.upkeep.cleaner;
        let (bytes_cleaned, records_dropped) = state.cleaned.get(&id).copied().unwrap_or_default();
        Some(CleanState {
            is_asked: state.forced.contains_key(&id) || state.current == Some(id),
            is_uncleanable: state.uncleanable.contains_key(&id),
            bytes_cleaned,
            records_dropped,
        })
    }

    /// What the cleaner has done.
    #[must_use]
    pub fn cleaner_stats(&self) -> CleanerStats {
        let state = &self.upkeep.cleaner;
        let name = |id: &LogId| {
            let log = self.get(*id)?;
            Some((log.topic().to_owned(), log.partition().get()))
        };
        let uncleanable = state.uncleanable.iter().filter_map(|(id, reason)| {
            let (topic, partition) = name(id)?;
            Some(Uncleanable { topic, partition, reason: reason.clone() })
        });
        let partitions = state.dirty_ratios.iter().filter_map(|(id, dirty_ratio)| {
            let (topic, partition) = name(id)?;
            let bytes_cleaned = state.cleaned.get(id).map_or(0, |(bytes, _)| *bytes);
            Some(CleanedPartition { topic, partition, dirty_ratio: *dirty_ratio, bytes_cleaned })
        });
        CleanerStats {
            partitions: partitions.collect(),
            running: state.current.as_ref().and_then(name),
            uncleanable: uncleanable.collect(),
            ..state.stats.clone()
        }
    }

    /// The run that goes on, or a new one.
    pub(crate) fn begin_cleaning(&mut self, now: TimestampMs) -> Option<Running> {
        if !self.options.cleaner.enabled {
            return None;
        }
        if let Some(running) = self.upkeep.cleaner.waiting.take() {
            return Some(running);
        }
        let is_time = now >= self.upkeep.cleaner.next_look;
        if !is_time && self.upkeep.cleaner.forced.is_empty() {
            return None;
        }
        let run = self.select(now, is_time);
        if is_time && run.is_none() {
            self.upkeep.cleaner.next_look = now.plus_ms(self.options.cleaner.backoff_ms);
        }
        let (run, asked_to) = run?;
        self.upkeep.cleaner.current = Some(run.log);
        let bytes_before = run.sources.iter().map(|source| source.size_bytes).sum();
        Some(Running { run, asked_to, bytes_before, reported: RunStats::default() })
    }

    /// Takes a slice in: puts a finished group in place, or says why there is none.
    pub(crate) fn finish_slice(&mut self, done: SliceDone, now: TimestampMs) -> CleanOutcome {
        let SliceDone { mut running, step } = done;
        self.count(&mut running);
        let (log, generation) = (running.run.log, running.run.generation);
        let is_void = self
            .get(log)
            .is_none_or(|log| log.commit.generation != generation || !log.config.cleanup_compact);
        let swapped = match step {
            _ if is_void => return self.give_up(&running, now),
            Ok(Step::Stopped) => return self.give_up(&running, now),
            Err(error) => return self.refuse(&running, &error, now),
            Ok(Step::Done { clean_to }) => return self.cleaned(&running, clean_to, now),
            Ok(Step::More) => Ok(true),
            Ok(Step::Swap(group)) => match self.get_mut(log) {
                Some(log) => log.swap_in(*group, now),
                None => Ok(false),
            },
        };
        match swapped {
            Ok(true) => {
                self.upkeep.cleaner.waiting = Some(running);
                CleanOutcome::Goes
            }
            Ok(false) => self.give_up(&running, now),
            Err(error) => self.refuse(&running, &error, now),
        }
    }

    fn count(&mut self, running: &mut Running) {
        let (stats, now, before) =
            (&mut self.upkeep.cleaner.stats, running.run.stats, running.reported);
        stats.bytes_read += now.bytes_read - before.bytes_read;
        stats.bytes_written += now.bytes_written - before.bytes_written;
        stats.records_dropped += now.records_dropped - before.records_dropped;
        stats.keyless_dropped += now.keyless_dropped - before.keyless_dropped;
        let records = now.records_dropped - before.records_dropped;
        self.upkeep.cleaner.cleaned.entry(running.run.log).or_default().1 += records;
        running.reported = now;
    }

    fn end_run(&mut self, running: &Running, now: TimestampMs) -> i64 {
        self.upkeep.cleaner.current = None;
        now.since(running.run.rules.now)
    }

    /// What a run has made and is not wanted any more is removed with the next upkeep.
    fn bury_leftovers(&mut self, running: &Running, now: TimestampMs) {
        let leftovers: Vec<PathBuf> = running.run.leftovers();
        self.upkeep.graveyard.extend(leftovers.into_iter().map(|path| (now, path)));
    }

    fn give_up(&mut self, running: &Running, now: TimestampMs) -> CleanOutcome {
        self.end_run(running, now);
        self.bury_leftovers(running, now);
        self.upkeep.cleaner.next_look = now.plus_ms(self.options.cleaner.backoff_ms);
        if self.get(running.run.log).is_none() {
            self.upkeep.cleaner.forced.remove(&running.run.log);
        }
        CleanOutcome::GivenUp
    }

    fn refuse(&mut self, running: &Running, error: &LogError, now: TimestampMs) -> CleanOutcome {
        let id = running.run.log;
        let passes = match error {
            LogError::DiskFull { .. } => true,
            LogError::Io { source, .. } => is_passing(source),
            _ => false,
        };
        // A segment that retention took away is no fault of the log.
        let changed = self.get(id).is_none_or(|log| {
            let bases = running.run.sources.iter().map(|source| source.base);
            let first = bases.min().unwrap_or(Offset(0));
            log.segments.front().is_none_or(|front| front.base > first)
        });
        let outcome = self.give_up(running, now);
        if changed {
            return outcome;
        }
        if passes {
            return CleanOutcome::PutOff;
        }
        self.upkeep.cleaner.forced.remove(&id);
        let reason = error.to_string();
        self.upkeep.cleaner.uncleanable.insert(id, reason.clone());
        let (topic, partition) = self
            .get(id)
            .map(|log| (log.topic().to_owned(), log.partition().get()))
            .unwrap_or_default();
        CleanOutcome::Uncleanable(Uncleanable { topic, partition, reason })
    }

    fn cleaned(&mut self, running: &Running, clean_to: Offset, now: TimestampMs) -> CleanOutcome {
        let id = running.run.log;
        let is_whole = running.run.sources.last().is_none_or(|last| last.end <= clean_to);
        let last_run_ms = self.end_run(running, now);
        let state = &mut self.upkeep.cleaner;
        (state.has_offsets, state.stats.last_run_ms) = (true, last_run_ms);
        state.stats.runs += 1;
        state.uncleanable.remove(&id);
        let answers = running.asked_to.is_some();
        if is_whole && answers && state.forced.get(&id).copied() == running.asked_to {
            state.forced.remove(&id);
        }
        // The next one may be due at once.
        state.next_look = now;
        let first = running.run.sources.first().map_or(Offset(0), |source| source.base);
        let Some(log) = self.get_mut(id) else { return CleanOutcome::GivenUp };
        log.cleaned_to = Some(clean_to.max(log.cleaned_to.unwrap_or(clean_to)));
        let end = running.run.sources.last().map_or(first, |source| source.end);
        let ours = log.segments.iter().filter(|one| one.base >= first && one.base < end);
        let bytes_after = ours.map(|segment| segment.size_bytes).sum();
        let (topic, partition) = (log.topic().to_owned(), log.partition().get());
        // After the names that have changed, with the commit that makes those durable.
        log.note_dir();
        log.shared.note(|dirty| dirty.offsets = true);
        let bytes_before = running.bytes_before;
        let bytes_cleaned = bytes_before.saturating_sub(bytes_after);
        self.upkeep.cleaner.stats.bytes_cleaned += bytes_cleaned;
        self.upkeep.cleaner.cleaned.entry(id).or_default().0 += bytes_cleaned;
        CleanOutcome::Cleaned { topic, partition, cleaned_to: clean_to, bytes_before, bytes_after }
    }

    /// The thread of the run has panicked.
    pub(crate) fn abandon_cleaning(&mut self) {
        let state = &mut self.upkeep.cleaner;
        if let Some(id) = state.current.take() {
            state.forced.remove(&id);
            state.uncleanable.insert(id, "the thread that cleaned it has panicked".to_owned());
        }
    }
}

//! [`CleanRun`]: one cleaning of one log, in slices, without a lock.
//!
//! First the dirty part is read, oldest first, and the last offset of each key noted; then the whole
//! log up to there is read again, a group of segments at a time, and what counts no more is left out.
//! Each group becomes one segment, which takes its place before the next group is begun, in the order
//! of offsets: a tombstone is never gone while an older value is still there.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::path::PathBuf;

use weir_protocol::batch::BatchFilter;
use weir_protocol::{Offset, ProducerEpoch, ProducerId, TimestampMs};

use super::group::{CleanedGroup, GroupRun};
use super::offset_map::OffsetMap;
use super::transactions::Transactions;
use crate::disk::OpenMode;
use crate::error::LogError;
use crate::header::HeaderWalk;
use crate::index::Place;
use crate::log_dir::LogId;
use crate::recovery::{end_marker_kind, scan, Region};
use crate::txn_index::{self, AbortedTxn};

/// Bytes read in one slice, so that other upkeep is not held up by a large log.
const SLICE_BYTES: u64 = 64 << 20;
/// Bytes between two questions whether to go on.
const PACE_BYTES: u64 = 64 << 10;

/// What a run goes by.
#[derive(Debug, Clone)]
pub(crate) struct CleanRules {
    /// The time at the start: horizons are judged and set by it.
    pub(crate) now: TimestampMs,
    pub(crate) delete_retention_ms: i64,
    pub(crate) segment_bytes_max: u64,
    pub(crate) segment_index_bytes_max: u64,
    pub(crate) index_interval_bytes: u64,
    pub(crate) dedupe_bytes_max: u64,
    pub(crate) inflate_bytes_max: usize,
    pub(crate) hash_key: [u64; 2],
    /// The last batch of each producer that is remembered.
    pub(crate) producers: HashMap<ProducerId, LastBatch>,
}

/// What keeps a producer's place: the batch with its last sequence, or a marker with its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastBatch {
    /// `None` if only markers of this epoch are known.
    pub(crate) last_offset: Option<Offset>,
    pub(crate) epoch: ProducerEpoch,
}

/// A sealed segment as it was when the run began.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) base: Offset,
    /// Where the next segment begins.
    pub(crate) end: Offset,
    pub(crate) size_bytes: u64,
    pub(crate) path: PathBuf,
    /// Entries in its two indexes.
    pub(crate) index_entries: [usize; 2],
}

/// What a run has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RunStats {
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
    pub(crate) records_dropped: u64,
    pub(crate) keyless_dropped: u64,
}

/// What a slice came to.
#[derive(Debug)]
pub(crate) enum Step {
    /// There is more to do.
    More,
    /// A group is ready to take its place; go on when it has.
    Swap(Box<CleanedGroup>),
    /// All below is clean.
    Done { clean_to: Offset },
    /// It was told to stop.
    Stopped,
}

/// One cleaning of one log.
#[derive(Debug)]
pub(crate) struct CleanRun {
    pub(crate) log: LogId,
    /// Counts truncations; after one the run is void.
    pub(crate) generation: u64,
    pub(crate) place: Place,
    pub(crate) rules: CleanRules,
    /// All of the log that may be cleaned, rising.
    pub(crate) sources: Vec<Source>,
    /// Where the segments behind begin; transactions that end there may have begun here.
    pub(crate) later: Vec<Offset>,
    pub(crate) first_dirty: Offset,
    pub(crate) stats: RunStats,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    New,
    Map(Box<MapBuild>),
    Groups(Box<Groups>),
}

#[derive(Debug)]
struct MapBuild {
    map: OffsetMap,
    aborted: Vec<AbortedTxn>,
    transactions: Transactions,
    filter: BatchFilter,
    /// Where to go on.
    source: usize,
    position: u64,
    /// The map knows all keys from the first dirty offset to here.
    end: Offset,
    is_full: bool,
}

#[derive(Debug)]
struct Groups {
    cleaning: Cleaning,
    waiting: VecDeque<Vec<Source>>,
    current: Option<GroupRun>,
}

/// What all groups share.
#[derive(Debug)]
pub(crate) struct Cleaning {
    pub(crate) map: OffsetMap,
    pub(crate) map_end: Offset,
    pub(crate) aborted: Vec<AbortedTxn>,
    pub(crate) transactions: Transactions,
    pub(crate) filter: BatchFilter,
}

/// Counts bytes, and asks now and then whether to go on.
pub(crate) struct Meter<'a> {
    pace: &'a mut dyn FnMut(u64) -> ControlFlow<()>,
    unasked: u64,
    left: u64,
    pub(crate) stopped: bool,
}

impl std::fmt::Debug for Meter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meter").field("left", &self.left).finish_non_exhaustive()
    }
}

impl<'a> Meter<'a> {
    fn new(pace: &'a mut dyn FnMut(u64) -> ControlFlow<()>) -> Self {
        Self { pace, unasked: 0, left: SLICE_BYTES, stopped: false }
    }

    /// Notes bytes that were read or written.
    pub(crate) fn spend(&mut self, bytes: u64) {
        self.left = self.left.saturating_sub(bytes);
        self.unasked += bytes;
        if self.unasked >= PACE_BYTES {
            self.ask();
        }
    }

    fn ask(&mut self) {
        self.stopped |= (self.pace)(std::mem::take(&mut self.unasked)).is_break();
    }

    /// Whether the slice is over.
    pub(crate) const fn is_over(&self) -> bool {
        self.left == 0 || self.stopped
    }
}

impl CleanRun {
    pub(crate) fn new(
        log: LogId,
        generation: u64,
        place: Place,
        rules: CleanRules,
        sources: Vec<Source>,
        later: Vec<Offset>,
        first_dirty: Offset,
    ) -> Self {
        let (stats, phase) = (RunStats::default(), Phase::New);
        Self { log, generation, place, rules, sources, later, first_dirty, stats, phase }
    }

    /// Goes on for a slice. Blocks.
    ///
    /// # Errors
    /// What stands in the way of cleaning this log: damage, or what the disk says.
    pub(crate) fn run(
        &mut self,
        pace: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Step, LogError> {
        let mut meter = Meter::new(pace);
        let step = match std::mem::replace(&mut self.phase, Phase::New) {
            Phase::New => {
                self.phase = Phase::Map(Box::new(self.begin()?));
                Step::More
            }
            Phase::Map(mut build) => {
                if self.build_map(&mut build, &mut meter)? {
                    self.phase = Phase::Groups(Box::new(self.group(*build)?));
                } else {
                    self.phase = Phase::Map(build);
                }
                Step::More
            }
            Phase::Groups(mut groups) => {
                let step = self.clean(&mut groups, &mut meter)?;
                self.phase = Phase::Groups(groups);
                step
            }
        };
        meter.ask();
        match step {
            Step::More if meter.stopped => Ok(Step::Stopped),
            step => Ok(step),
        }
    }

    /// Files that the run has made and nobody wants any more.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        self.sources
            .iter()
            .flat_map(|source| super::group::staged_paths(&self.place, source.base))
            .collect()
    }

    /// Where all that may be cleaned ends.
    fn limit(&self) -> Offset {
        self.sources.last().map_or(self.first_dirty, |source| source.end)
    }

    fn begin(&self) -> Result<MapBuild, LogError> {
        let aborted = self.read_aborted()?;
        let keys = self.count_dirty_records()?;
        let CleanRules { dedupe_bytes_max, inflate_bytes_max, hash_key, .. } = self.rules;
        let first = self.sources.partition_point(|source| source.end <= self.first_dirty);
        Ok(MapBuild {
            map: OffsetMap::new(keys, dedupe_bytes_max, hash_key),
            transactions: Transactions::new(&aborted, self.first_dirty),
            aborted,
            filter: BatchFilter::new(inflate_bytes_max),
            source: first,
            position: 0,
            end: self.first_dirty,
            is_full: false,
        })
    }

    /// The aborted transactions with data in the sources.
    fn read_aborted(&self) -> Result<Vec<AbortedTxn>, LogError> {
        let mut found = Vec::new();
        for source in &self.sources {
            found.extend(txn_index::read(&self.place, source.base)?);
        }
        let limit = self.limit();
        for base in &self.later {
            for txn in txn_index::read(&self.place, *base)? {
                found.extend(Some(txn).filter(|txn| txn.first_offset < limit));
                if txn.last_stable_offset >= limit {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    /// An upper bound for the keys in the dirty part, from the headers, or that they are too many.
    fn count_dirty_records(&self) -> Result<u64, LogError> {
        let keys_max = OffsetMap::keys_max(self.rules.dedupe_bytes_max);
        let mut count = 0_u64;
        for source in self.sources.iter().filter(|source| source.end > self.first_dirty) {
            let file = self.place.open(&source.path, OpenMode::Existing)?;
            let mut walk = HeaderWalk::new(&*file, &source.path, 0, source.size_bytes);
            while let Some((_, header)) = walk.next()? {
                count += u64::try_from(header.record_count).unwrap_or(0);
            }
            if count > keys_max {
                break;
            }
        }
        Ok(count)
    }

    /// Notes the keys of the dirty part. Returns whether it came to the end, or the map is full.
    fn build_map(&mut self, build: &mut MapBuild, meter: &mut Meter<'_>) -> Result<bool, LogError> {
        while !build.is_full {
            let Some(source) = self.sources.get(build.source) else { break };
            let position = self.map_segment(source, build, meter)?;
            self.stats.bytes_read += position - build.position;
            build.position = position;
            if !build.is_full && position < source.size_bytes {
                return Ok(false);
            }
            if !build.is_full {
                build.end = build.end.max(source.end);
                (build.source, build.position) = (build.source + 1, 0);
            }
        }
        Ok(true)
    }

    fn map_segment(
        &self,
        source: &Source,
        build: &mut MapBuild,
        meter: &mut Meter<'_>,
    ) -> Result<u64, LogError> {
        let file = self.place.open(&source.path, OpenMode::Existing)?;
        let (path, end) = (&source.path, source.size_bytes);
        let region = Region { file: &*file, path, from: build.position, end };
        let first_dirty = self.first_dirty;
        let mut nothing = Vec::new();
        let outcome = scan(region, |_, header, batch| {
            if meter.is_over() || build.is_full {
                return Ok(Some(String::new()));
            }
            meter.spend(header.size_bytes);
            if header.last_offset() < first_dirty {
                return Ok(None);
            }
            if header.is_control {
                if let Err(unknown) = build.transactions.marker(header, end_marker_kind(batch)) {
                    return Ok(Some(unknown.to_string()));
                }
            } else if !build.transactions.is_aborted(header) {
                let (map, is_full) = (&mut build.map, &mut build.is_full);
                let note = |record: &weir_protocol::batch::RecordView<'_>| {
                    let key = record.key.filter(|_| record.offset >= first_dirty && !*is_full);
                    *is_full |= key.is_some_and(|key| map.put(key, record.offset).is_err());
                    true
                };
                let horizon = weir_protocol::batch::Horizon::Never;
                if let Err(error) = build.filter.filter(batch, horizon, note, &mut nothing) {
                    return Ok(Some(error.to_string()));
                }
            }
            if !build.is_full {
                build.end = header.last_offset().next();
            }
            Ok(None)
        })?;
        match outcome.problem {
            Some(what) if !what.is_empty() => {
                Err(LogError::Damaged { path: path.clone(), position: outcome.position, what })
            }
            _ => Ok(outcome.position),
        }
    }

    /// Groups the segments up to where the map knows all keys.
    fn group(&self, build: MapBuild) -> Result<Groups, LogError> {
        if build.is_full && build.end <= self.first_dirty {
            return Err(LogError::BadFile {
                path: self.place.dir.to_path_buf(),
                what: format!(
                    "the keys of one batch at offset {} do not fit log.cleaner.dedupe.buffer.size",
                    self.first_dirty
                ),
            });
        }
        let count = self.sources.partition_point(|source| source.base < build.end);
        let waiting =
            super::group::plan(self.sources.get(..count).unwrap_or_default(), &self.rules);
        let from = self.sources.first().map_or(self.first_dirty, |source| source.base);
        let cleaning = Cleaning {
            map: build.map,
            map_end: build.end,
            transactions: Transactions::new(&build.aborted, from),
            aborted: build.aborted,
            filter: build.filter,
        };
        Ok(Groups { cleaning, waiting, current: None })
    }

    fn clean(&mut self, groups: &mut Groups, meter: &mut Meter<'_>) -> Result<Step, LogError> {
        let mut run = match (groups.current.take(), groups.waiting.pop_front()) {
            (Some(run), next) => {
                if let Some(next) = next {
                    groups.waiting.push_front(next);
                }
                run
            }
            (None, Some(sources)) => GroupRun::new(&self.place, sources),
            (None, None) => return Ok(Step::Done { clean_to: groups.cleaning.map_end }),
        };
        let is_whole = run.run(&mut groups.cleaning, &self.rules, &mut self.stats, meter)?;
        if !is_whole {
            groups.current = Some(run);
            return Ok(Step::More);
        }
        let group = run.finish(&groups.cleaning, &mut self.stats)?;
        Ok(group.map_or(Step::More, |group| Step::Swap(Box::new(group))))
    }
}

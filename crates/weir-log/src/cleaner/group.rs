//! [`GroupRun`]: a few neighbouring segments become one, without what counts no more.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_protocol::batch::{write_empty, BatchView, Horizon};
use weir_protocol::Offset;

use super::run::{CleanRules, Cleaning, Meter, RunStats, Source};
use crate::disk::{read_exact_at, DiskFile, OpenMode};
use crate::error::LogError;
use crate::files;
use crate::header::{BatchHeader, HeaderWalk};
use crate::index::Place;
use crate::offset_index;
use crate::recovery::{end_marker_kind, scan, Region};
use crate::segment::{Segment, SEGMENT_BYTES_LIMIT};
use crate::time_index;
use crate::txn_index::{self, AbortedTxn};

/// Segments that become one. It bounds the renames of a swap, which are done under the lock.
const GROUP_SEGMENTS_MAX: usize = 64;
/// Bytes that are written at once.
const WRITE_BYTES: usize = 1 << 20;

/// A new segment, whole and synced, still under names that a start drops.
#[derive(Debug)]
pub(crate) struct CleanedGroup {
    /// The segments it takes the place of.
    pub(crate) sources: Vec<Source>,
    pub(crate) segment: Segment,
    pub(crate) has_txn_index: bool,
}

/// Deals the segments out, as Kafka's `Cleaner.groupSegmentsBySize`: what goes into one by its size,
/// its indexes and its offsets.
pub(crate) fn plan(sources: &[Source], rules: &CleanRules) -> VecDeque<Vec<Source>> {
    let bytes_max = rules.segment_bytes_max.min(SEGMENT_BYTES_LIMIT);
    let index_bytes_max = usize::try_from(rules.segment_index_bytes_max).unwrap_or(usize::MAX);
    let entries_max =
        [offset_index::ENTRY_BYTES, time_index::ENTRY_BYTES].map(|bytes| index_bytes_max / bytes);
    let mut groups: VecDeque<Vec<Source>> = VecDeque::new();
    for source in sources {
        let fits = |group: &&mut Vec<Source>| {
            let bytes: u64 = group.iter().map(|one| one.size_bytes).sum();
            let entries = |index: usize| {
                let all = group.iter().chain([source]);
                all.map(|one| one.index_entries.get(index).copied().unwrap_or(0)).sum::<usize>()
            };
            let base = group.first().map_or(source.base, |first| first.base);
            group.len() < GROUP_SEGMENTS_MAX
                && bytes + source.size_bytes <= bytes_max
                && entries(0) <= entries_max[0]
                && entries(1) <= entries_max[1]
                && source.end.get() - base.get() <= i64::from(i32::MAX)
        };
        match groups.back_mut().filter(fits) {
            Some(group) => group.push(source.clone()),
            None => groups.push_back(vec![source.clone()]),
        }
    }
    groups
}

/// The names under which a segment is made.
pub(crate) fn staged_paths(place: &Place, base: Offset) -> [PathBuf; 4] {
    let staged = place.staged(files::CLEANED);
    [files::LOG, files::OFFSET_INDEX, files::TIME_INDEX, files::TXN_INDEX]
        .map(|suffix| staged.path(base, suffix))
}

/// The cleaning of one group.
#[derive(Debug)]
pub(crate) struct GroupRun {
    place: Place,
    sources: Vec<Source>,
    /// Where to go on.
    source: usize,
    position: u64,
    /// Bytes of the sources that are not read yet.
    left_bytes: u64,
    /// `None` as long as all of a lone segment stays as it is: then nothing need be written.
    writer: Option<Writer>,
    /// What readers must be told of still.
    aborted: Vec<AbortedTxn>,
}

impl GroupRun {
    pub(crate) fn new(place: &Place, sources: Vec<Source>) -> Self {
        let left_bytes = sources.iter().map(|source| source.size_bytes).sum();
        Self {
            place: place.clone(),
            sources,
            source: 0,
            position: 0,
            left_bytes,
            writer: None,
            aborted: Vec::new(),
        }
    }

    /// Goes on until the slice is over. Returns whether all was read.
    pub(crate) fn run(
        &mut self,
        cleaning: &mut Cleaning,
        rules: &CleanRules,
        stats: &mut RunStats,
        meter: &mut Meter<'_>,
    ) -> Result<bool, LogError> {
        if self.sources.len() > 1 && self.writer.is_none() {
            self.open_writer(rules)?;
        }
        while let Some(source) = self.sources.get(self.source).cloned() {
            let file = self.place.open(&source.path, OpenMode::Existing)?;
            let (path, from) = (&source.path, self.position);
            let region = Region { file: &*file, path, from, end: source.size_bytes };
            let outcome = scan(region, |position, header, batch| {
                if meter.is_over() {
                    return Ok(Some(String::new()));
                }
                self.left_bytes = self.left_bytes.saturating_sub(header.size_bytes);
                let before = self.written_bytes();
                let at = At { file: &*file, path, position };
                self.batch(&at, header, batch, cleaning, rules, stats)?;
                meter.spend(header.size_bytes + self.written_bytes() - before);
                Ok(None)
            })?;
            stats.bytes_read += outcome.position - from;
            self.position = outcome.position;
            match outcome.problem {
                Some(what) if what.is_empty() => return Ok(false),
                Some(what) => {
                    let (path, position) = (source.path, outcome.position);
                    return Err(LogError::Damaged { path, position, what });
                }
                None => (self.source, self.position) = (self.source + 1, 0),
            }
        }
        Ok(true)
    }

    fn written_bytes(&self) -> u64 {
        self.writer.as_ref().map_or(0, |writer| writer.segment.size_bytes)
    }

    /// Decides about one batch, and writes what stays of it.
    fn batch(
        &mut self,
        at: &At<'_>,
        header: &BatchHeader,
        batch: &BatchView<'_>,
        cleaning: &mut Cleaning,
        rules: &CleanRules,
        stats: &mut RunStats,
    ) -> Result<(), LogError> {
        let mut output = Vec::new();
        let fate = self.judge(at, header, batch, cleaning, rules, stats, &mut output)?;
        // The sum of the sources fits; a batch that grew (another codec level, a horizon) may not.
        let room = SEGMENT_BYTES_LIMIT.saturating_sub(self.written_bytes() + self.left_bytes);
        match fate {
            Fate::Replace if output.len() as u64 > room.max(header.size_bytes) => {
                self.keep(header, batch, rules)
            }
            Fate::Keep => self.keep(header, batch, rules),
            Fate::Replace => {
                self.open_writer_at(at, rules)?;
                let header = BatchHeader::decode(&output).map_err(|what| at.damaged(what))?;
                self.push(&output, &header, rules)
            }
            Fate::Drop => self.open_writer_at(at, rules),
        }
    }

    fn keep(
        &mut self,
        header: &BatchHeader,
        batch: &BatchView<'_>,
        rules: &CleanRules,
    ) -> Result<(), LogError> {
        match self.writer {
            Some(_) => self.push(batch.bytes(), header, rules),
            None => Ok(()),
        }
    }

    fn push(
        &mut self,
        bytes: &[u8],
        header: &BatchHeader,
        rules: &CleanRules,
    ) -> Result<(), LogError> {
        let interval_bytes = rules.index_interval_bytes;
        self.writer.as_mut().map_or(Ok(()), |writer| writer.push(bytes, header, interval_bytes))
    }

    /// What stays of a batch, as Kafka's `Cleaner.checkBatchRetention` and `shouldRetainRecord` say it.
    #[allow(clippy::too_many_arguments)] // What a batch is judged by.
    fn judge(
        &mut self,
        at: &At<'_>,
        header: &BatchHeader,
        batch: &BatchView<'_>,
        cleaning: &mut Cleaning,
        rules: &CleanRules,
        stats: &mut RunStats,
        output: &mut Vec<u8>,
    ) -> Result<Fate, LogError> {
        let Cleaning { map, map_end, transactions, filter, .. } = cleaning;
        let is_past = |horizon| horizon <= rules.now;
        let (is_discarded, is_obsolete) = if header.is_control {
            let fate = transactions.marker(header, end_marker_kind(batch));
            let fate = fate.map_err(|unknown| at.damaged(unknown.to_string()))?;
            self.aborted.extend(fate.aborted);
            let is_past = batch.delete_horizon().is_some_and(is_past);
            (fate.is_obsolete && is_past, fate.is_obsolete)
        } else {
            (transactions.is_aborted(header), false)
        };
        let count = u64::try_from(header.record_count).unwrap_or(0);
        let keeps_producer = is_last_of_producer(header, rules);
        let emptied = |output: &mut Vec<u8>| match keeps_producer {
            true => {
                write_empty(batch, output);
                Fate::Replace
            }
            false => Fate::Drop,
        };
        if count == 0 {
            return Ok(if keeps_producer { Fate::Keep } else { Fate::Drop });
        }
        if is_discarded {
            stats.records_dropped += count;
            return Ok(emptied(output));
        }
        let horizon_at = rules.now.plus_ms(rules.delete_retention_ms);
        let horizon = match header.last_offset() < *map_end {
            _ if is_obsolete => Horizon::Always(horizon_at),
            // Older values of what lies beyond are not looked for in this run.
            true => Horizon::IfTombstone(horizon_at),
            false => Horizon::Never,
        };
        let tombstones_stay = !batch.delete_horizon().is_some_and(is_past);
        let keep = |record: &weir_protocol::batch::RecordView<'_>| {
            if header.is_control || record.offset >= *map_end {
                return true;
            }
            let Some(key) = record.key else {
                stats.keyless_dropped += 1;
                return false;
            };
            let is_latest = map.get(key).is_none_or(|latest| record.offset >= latest);
            is_latest && (record.value.is_some() || tombstones_stay)
        };
        let filtered = filter.filter(batch, horizon, keep, output);
        let filtered = filtered.map_err(|error| at.damaged(error.to_string()))?;
        stats.records_dropped += filtered.dropped as u64;
        Ok(match filtered {
            _ if filtered.unchanged => Fate::Keep,
            _ if filtered.kept == 0 => emptied(output),
            _ => Fate::Replace,
        })
    }

    fn open_writer(&mut self, rules: &CleanRules) -> Result<&mut Writer, LogError> {
        let base = self.sources.first().map_or(Offset(0), |source| source.base);
        let staged = self.place.staged(files::CLEANED);
        // What an earlier attempt left of it says something of another segment.
        match self.place.disk.remove(&staged.path(base, files::TXN_INDEX)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(LogError::io("remove", staged.path(base, files::TXN_INDEX), error));
            }
            _ => {}
        }
        let segment = Segment::create(&staged, base, rules.now)?;
        let file = segment.reader()?;
        Ok(self.writer.insert(Writer { segment, file, buffer: Vec::new() }))
    }

    /// Something changes at `at`: what came before it in a lone segment is copied.
    fn open_writer_at(&mut self, at: &At<'_>, rules: &CleanRules) -> Result<(), LogError> {
        if self.writer.is_some() {
            return Ok(());
        }
        let writer = self.open_writer(rules)?;
        let mut walk = HeaderWalk::new(at.file, at.path, 0, at.position);
        let mut bytes = Vec::new();
        while let Some((position, header)) = walk.next()? {
            bytes.resize(usize::try_from(header.size_bytes).unwrap_or(0), 0);
            read_exact_at(at.file, &mut bytes, position)
                .map_err(|error| LogError::io("read", at.path, error))?;
            writer.push(&bytes, &header, rules.index_interval_bytes)?;
        }
        Ok(())
    }

    /// Completes and syncs the new segment. `None` if the old one stays as it is.
    pub(crate) fn finish(
        self,
        cleaning: &Cleaning,
        stats: &mut RunStats,
    ) -> Result<Option<CleanedGroup>, LogError> {
        let Some(writer) = self.writer else { return Ok(None) };
        stats.bytes_written += writer.segment.size_bytes;
        let base = self.sources.first().map_or(Offset(0), |source| source.base);
        let end = self.sources.last().map_or(base, |source| source.end);
        // An index that becomes empty must take the place of the old one all the same.
        let has_txn_index =
            cleaning.aborted.iter().any(|txn| txn.last_offset >= base && txn.last_offset < end);
        let segment = writer.finish(&self.place, has_txn_index.then_some(&*self.aborted))?;
        Ok(Some(CleanedGroup { sources: self.sources, segment, has_txn_index }))
    }
}

/// Where a batch stands.
struct At<'a> {
    file: &'a dyn DiskFile,
    path: &'a Path,
    position: u64,
}

impl At<'_> {
    fn damaged(&self, what: String) -> LogError {
        LogError::Damaged { path: self.path.to_owned(), position: self.position, what }
    }
}

/// What becomes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Its bytes pass through.
    Keep,
    /// Other bytes take its place.
    Replace,
    Drop,
}

/// Whether a batch must stay, if only as a header, so that its producer can go on where it was
/// (Kafka's `isBatchLastRecordOfProducer`).
fn is_last_of_producer(header: &BatchHeader, rules: &CleanRules) -> bool {
    let Some(last) = rules.producers.get(&header.producer_id) else { return false };
    match last.last_offset {
        Some(offset) => header.last_offset() == offset,
        None => header.is_control && header.producer_epoch == last.epoch,
    }
}

/// A segment that is being written.
#[derive(Debug)]
struct Writer {
    /// Its size counts what is in the buffer too.
    segment: Segment,
    file: Arc<dyn DiskFile>,
    buffer: Vec<u8>,
}

impl Writer {
    fn push(
        &mut self,
        bytes: &[u8],
        header: &BatchHeader,
        index_interval_bytes: u64,
    ) -> Result<(), LogError> {
        let position = self.segment.size_bytes;
        self.segment.note(header, position, index_interval_bytes)?;
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LogError> {
        let position = self.segment.size_bytes - self.buffer.len() as u64;
        let written = self.file.write_at(&self.buffer, position);
        self.buffer.clear();
        written.map_err(|error| LogError::io("write", self.segment.path(), error))
    }

    fn finish(
        mut self,
        place: &Place,
        txn_index: Option<&[AbortedTxn]>,
    ) -> Result<Segment, LogError> {
        self.flush()?;
        self.segment.seal()?;
        self.segment.close_file();
        let staged = place.staged(files::CLEANED);
        let mut paths = vec![self.segment.offsets.file().path(), self.segment.times.file().path()];
        if let Some(aborted) = txn_index {
            paths.push(txn_index::create(&staged, self.segment.base, aborted)?);
        }
        let mut synced = vec![self.file];
        for path in &paths {
            synced.push(place.open(path, OpenMode::Existing)?);
        }
        let outcome = place.disk.sync_many(&synced, &[]);
        outcome.map_err(|error| LogError::io("sync", self.segment.path(), error))?;
        Ok(self.segment)
    }
}

//! Opening a log, and what is done about what an unclean stop leaves.
//!
//! After a clean stop nothing is scanned: sizes of files, one index entry, and the few headers behind
//! it say where the log ends. After any other, everything from the recovery point on is read and its
//! CRC checked:
//!
//! - A *torn tail*, that is bytes at the end that are no valid batch, with no valid batch behind them,
//!   is what a crash leaves of appends that nobody was told of. It is cut.
//! - *Damage* is a bad batch with valid ones behind it, or a hole between segments. It may be the
//!   disk's fault, so it is reported, and all bytes from there on are kept in files beside the
//!   segments (`<segment>.log.damaged-<position>`) before they are cut.
//!
//! A compaction that was interrupted is completed or dropped first; see [`crate::cleaner`].
//!
//! - A *segment that is gone* or empty, though its indexes say that there was something in it, is reported
//!   whatever the last stop was; see `recovery/missing.rs`. Readers go on behind it.
//!
//! Indexes and producer state of what was read are built again. Then the log is synced, as what a
//! killed process left in the page cache is not on disk yet, and the leader epoch is raised, so that
//! clients notice that offsets above the cut have been given anew (KIP-320).

mod last_batches;
mod missing;
mod open;
mod progress;
pub(crate) mod scan;
mod swap;

use std::ops::Range;
use std::path::PathBuf;

use weir_protocol::batch::{BatchView, ControlMarker};
use weir_protocol::{Offset, ProducerId, TimestampMs};

use crate::disk::{read_all, read_exact_at};
use crate::error::LogError;
use crate::files;
use crate::header::HeaderWalk;
use crate::log::Log;
use crate::producer_state::{self, EndMarker, ProducerRoom, ProducerStates};
use crate::segment::Segment;

pub(crate) use open::{open_log, OpenRequest};
pub(crate) use progress::Watched;
pub use progress::{RecoveryProgress, RecoveryWatch};
pub(crate) use scan::{scan, unused_name, Region};

/// What opening a directory found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The last stop was clean, and nothing contradicts it, so nothing had to be scanned.
    pub clean: bool,
    /// Logs in the directory.
    pub logs: usize,
    /// Logs of which something was scanned.
    pub logs_recovered: usize,
    /// Bytes that were scanned.
    pub bytes_scanned: u64,
    /// Records that were cut, torn tails and damage together, as far as their headers can be read.
    pub records_cut: u64,
    /// Bytes that were cut, torn tails and damage together.
    pub bytes_cut: u64,
    /// Segments whose indexes were missing or bad and have been built again.
    pub indexes_rebuilt: usize,
    /// What is no torn tail. Its bytes are kept.
    pub damage: Vec<Damage>,
    /// Files beside the segments that could not be understood and were made anew.
    pub bad_files: Vec<String>,
    /// Commits that were found in the journal and brought into the segments.
    pub journal_records: u64,
    /// Bytes that were written to segments for it.
    pub journal_bytes: u64,
    /// What an operator should know, though nothing that was there is lost by it.
    pub warnings: Vec<String>,
}

/// Bytes in a log that are no valid batch, though valid ones follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The segment file.
    pub segment: PathBuf,
    /// Where in it.
    pub position: u64,
    /// The offset that should be there.
    pub offset: Offset,
    /// Bytes from there to the end of the log that were cut and kept. 0 if nothing was cut: the damage
    /// lies before the recovery point, and reading there fails; or the log ends there, though more of
    /// it was synced once.
    pub bytes_cut: u64,
    /// Where the first of them are now.
    pub kept_in: PathBuf,
    /// What is wrong.
    pub what: String,
}

impl RecoveryReport {
    /// Adds what opening one log found.
    pub(crate) fn add(&mut self, one: Self) {
        self.clean &= one.clean;
        self.logs += one.logs;
        self.logs_recovered += one.logs_recovered;
        self.bytes_scanned += one.bytes_scanned;
        self.records_cut += one.records_cut;
        self.bytes_cut += one.bytes_cut;
        self.indexes_rebuilt += one.indexes_rebuilt;
        self.damage.extend(one.damage);
        self.bad_files.extend(one.bad_files);
        self.journal_records += one.journal_records;
        self.journal_bytes += one.journal_bytes;
        self.warnings.extend(one.warnings);
    }
}

/// What a control batch says: the end of a transaction, or something this version does not know.
pub(crate) fn end_marker(batch: &BatchView<'_>) -> Option<EndMarker> {
    // A control batch is never compressed and holds one record of a few bytes.
    const CONTROL_BYTES_MAX: usize = 4096;
    let record = batch.records(CONTROL_BYTES_MAX).ok()?.next()?.ok()?;
    let key = record.key?;
    let value = record.value?;
    let kind = i16::from_be_bytes([*key.get(2)?, *key.get(3)?]);
    let epoch = value.get(2..6)?.first_chunk().copied()?;
    match kind {
        0 | 1 => {
            Some(EndMarker { commit: kind == 1, coordinator_epoch: i32::from_be_bytes(epoch) })
        }
        _ => None,
    }
}

/// How a control batch ends a transaction, if it does and has its record still.
pub(crate) fn end_marker_kind(batch: &BatchView<'_>) -> Option<ControlMarker> {
    end_marker(batch)
        .map(|marker| if marker.commit { ControlMarker::Commit } else { ControlMarker::Abort })
}

/// Makes the producer state that of the log end: the latest good snapshot, and what was appended
/// after it. Snapshots beyond the log end are dropped.
///
/// `remembered` is what a clean stop wrote down: if it is about this end, nothing is read back.
pub(crate) fn reload_producers(
    log: &mut Log,
    remembered: Option<&(Offset, ProducerStates)>,
) -> Result<(), LogError> {
    let end = log.end.offset;
    let (states, from) = load_snapshot(log, end, remembered)?;
    log.producers = states;
    replay(log, from, end)?;
    log.producers.set_synced(log.synced.offset);
    Ok(())
}

/// The latest good snapshot not beyond `up_to`, and the offset it stands for. Later ones and bad ones
/// are removed: they say nothing about this log.
///
/// One from before the first segment is not used. What was deleted in between is missing in it, so
/// that it would refuse the next batch of a producer; one that is not known may begin anywhere.
pub(crate) fn load_snapshot(
    log: &mut Log,
    up_to: Offset,
    remembered: Option<&(Offset, ProducerStates)>,
) -> Result<(ProducerStates, Offset), LogError> {
    let first = log.segments.front().map_or(Offset(0), |segment| segment.base);
    while let Some(offset) = log.snapshots.last().copied().filter(|offset| *offset >= first) {
        let path = log.place.path(offset, files::SNAPSHOT);
        if offset <= up_to {
            let bytes = read_all(&*log.place.disk, &path)
                .map_err(|error| LogError::io("read", &path, error))?;
            if let Ok(mut states) = producer_state::decode(&bytes) {
                log.shared.producers.bound(&mut states, 0);
                match remembered.filter(|(end, _)| *end == offset) {
                    Some((_, remembered)) => states.complete_from(remembered),
                    None => last_batches::complete(log, &mut states, offset)?,
                }
                return Ok((states, offset));
            }
        }
        log.place.disk.remove(&path).map_err(|error| LogError::io("remove", &path, error))?;
        log.snapshots.pop();
    }
    Ok((ProducerStates::default(), first))
}

/// Enters the batches of `[from, to)` into the producer state, reading headers only. On an error it
/// holds what could be read.
pub(crate) fn replay(log: &mut Log, from: Offset, to: Offset) -> Result<(), LogError> {
    let mut producers = std::mem::take(&mut log.producers);
    let first = log.segments.partition_point(|segment| segment.base <= from).saturating_sub(1);
    let segments = log.segments.iter().skip(first).take_while(|segment| segment.base < to);
    let mut outcome = Ok(());
    for segment in segments.take_while(|_| from < to) {
        let room = &log.shared.producers;
        outcome = replay_segment(segment, from..to, &mut producers, room, log.opened);
        if outcome.is_err() {
            break;
        }
    }
    log.producers = producers;
    outcome
}

fn replay_segment(
    segment: &Segment,
    range: Range<Offset>,
    producers: &mut ProducerStates,
    room: &ProducerRoom,
    now: TimestampMs,
) -> Result<(), LogError> {
    let Some(start) = segment.locate(range.start)? else { return Ok(()) };
    let path = segment.path();
    let file = segment.reader()?;
    let mut walk = HeaderWalk::new(&*file, &path, start.position, segment.size_bytes);
    while let Some((position, header)) = walk.next()? {
        if header.base_offset >= range.end {
            break;
        }
        if header.base_offset < range.start || header.producer_id < ProducerId(0) {
            continue;
        }
        if !header.is_control {
            let before = producers.len();
            producers.add(&header, now);
            room.bound(producers, before);
            continue;
        }
        let mut bytes = vec![0; usize::try_from(header.size_bytes).unwrap_or(0)];
        read_exact_at(&*file, &mut bytes, position)
            .map_err(|error| LogError::io("read", &path, error))?;
        let marker = BatchView::parse(&bytes).ok().and_then(|batch| end_marker(&batch));
        if let Some(marker) = marker {
            producers.add_marker(&header, marker, now);
        }
    }
    Ok(())
}

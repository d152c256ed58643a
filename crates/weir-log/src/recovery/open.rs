//! From the files of one partition to a [`Log`].

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use weir_protocol::{LeaderEpoch, Offset, PartitionId, TimestampMs, Uuid};

use super::missing;
use super::scan::{keep_aside, scan, survivors, unused_name, Region, Survivors};
use super::swap;
use super::{end_marker, load_snapshot, reload_producers, replay, Damage, RecoveryReport, Watched};
use crate::checkpoint;
use crate::config::LogConfig;
use crate::error::LogError;
use crate::files::{self, FileKind};
use crate::header::HeaderWalk;
use crate::index::Place;
use crate::leader_epochs::LeaderEpochs;
use crate::log::{CommitState, Log, LogPosition};
use crate::log_dir::LogId;
use crate::producer_state::{self, ProducerStates};
use crate::segment::Segment;
use crate::shared::Shared;
use crate::txn_index;

/// Which log to open, and what the directory knows of it.
#[derive(Debug)]
pub(crate) struct OpenRequest {
    pub(crate) place: Place,
    pub(crate) shared: Arc<Shared>,
    pub(crate) id: LogId,
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) config: LogConfig,
    /// `None` after a clean stop.
    pub(crate) recovery_point: Option<Offset>,
    /// As the checkpoint says, also after a clean stop. `None` if it cannot be read.
    pub(crate) recovery_point_on_file: Option<Offset>,
    pub(crate) log_start: Option<Offset>,
    /// Up to where it was synced once, as the checkpoints say.
    pub(crate) synced: Option<Offset>,
    /// Up to where it was compacted.
    pub(crate) cleaned_to: Option<Offset>,
    /// After a clean stop: where it ended, and the batches that its snapshot has no room for.
    pub(crate) remembered: Option<(Offset, ProducerStates)>,
    pub(crate) now: TimestampMs,
}

/// The files of a partition, by kind.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Size by base offset and suffix.
    sizes: BTreeMap<(Offset, &'static str), u64>,
    pub(super) graveyard: Vec<PathBuf>,
    /// A compaction was completed: names have changed.
    swapped: bool,
}

/// Opens a log. `None` if it was never created whole: nobody was told of it, and it is removed.
pub(crate) fn open_log(
    mut request: OpenRequest,
    watched: &mut Watched,
) -> Result<(Option<Log>, RecoveryReport), LogError> {
    let clean = request.recovery_point.is_none();
    let mut report = RecoveryReport { clean, logs: 1, ..RecoveryReport::default() };
    let mut listing = Listing::read(&request.place)?;
    drop_torn_snapshots(&request.place, &mut listing, &mut report)?;
    let scanned_from = request.recovery_point.unwrap_or(Offset(i64::MAX));
    drop_orphaned_indexes(&request.place, &mut listing, scanned_from)?;
    let topic_id =
        match checkpoint::read_partition_metadata(&*request.place.disk, &request.place.dir) {
            Ok(topic_id) => topic_id,
            Err(error @ LogError::BadFile { .. }) => {
                report.bad_files.push(error.to_string());
                None
            }
            Err(error) => return Err(error),
        };
    if topic_id.is_none() && request.recovery_point.is_some() && listing.is_empty() {
        let dir = request.place.dir.to_path_buf();
        request.place.disk.remove(&dir).map_err(|error| LogError::io("remove", &dir, error))?;
        return Ok((None, RecoveryReport { logs: 0, ..report }));
    }
    let remembered = request.remembered.take();
    let (recovery_point, synced) = (request.recovery_point, request.synced.unwrap_or(Offset(0)));
    let mut log = assemble(request, &listing, topic_id.unwrap_or(Uuid::ZERO), &mut report)?;
    drop_leftovers(&mut log, &mut report)?;
    missing::report(&log, &listing, scanned_from, &mut report);
    match recovery_point {
        None => {
            let outcome = open_clean(&mut log, remembered.as_ref(), &mut report);
            if let Err(error) = outcome.and_then(|()| check_end(&log, synced)) {
                recover_unexpectedly(&mut log, error, &mut report, watched)?;
            }
        }
        Some(point) => recover(&mut log, point, &mut report, watched)?,
    }
    report_gap(&log, synced, &mut report);
    debug_assert!(log.synced.offset <= log.end.offset, "what readers see is there");
    log.epochs.truncate_from_start(log.log_start);
    // What it says of offsets that are gone would be taken for those that come.
    log.cleaned_to = log.cleaned_to.filter(|cleaned_to| *cleaned_to <= log.end.offset);
    log.recovery_point_on_file = log.recovery_point_on_file.min(log.recovery_point);
    Ok((Some(log), report))
}

impl Listing {
    fn read(place: &Place) -> Result<Self, LogError> {
        let mut listing = Self::default();
        let list = || place.disk.list(&place.dir);
        let mut entries = list().map_err(|error| LogError::io("list", &*place.dir, error))?;
        if entries.iter().any(|entry| files::kind_of(&entry.name) == FileKind::Swap) {
            swap::complete(place, &entries)?;
            listing.swapped = true;
            entries = list().map_err(|error| LogError::io("list", &*place.dir, error))?;
        }
        for entry in entries.iter().filter(|entry| !entry.is_dir) {
            match files::kind_of(&entry.name) {
                FileKind::AtOffset(offset, suffix) => {
                    listing.sizes.insert((offset, suffix), entry.len_bytes);
                }
                FileKind::Deleted => listing.graveyard.push(place.dir.join(&entry.name)),
                FileKind::Leftover => remove_if_there(place, &place.dir.join(&entry.name))?,
                FileKind::Other | FileKind::Swap => {}
            }
        }
        Ok(listing)
    }

    pub(super) fn offsets_of(&self, suffix: &'static str) -> impl Iterator<Item = Offset> + '_ {
        let of_suffix =
            move |(offset, found): &(Offset, &'static str)| (*found == suffix).then_some(*offset);
        self.sizes.keys().filter_map(of_suffix)
    }

    pub(super) fn size(&self, base: Offset, suffix: &'static str) -> Option<u64> {
        self.sizes.get(&(base, suffix)).copied()
    }

    fn is_empty(&self) -> bool {
        self.offsets_of(files::LOG).all(|base| self.size(base, files::LOG) == Some(0))
    }
}

/// Removes snapshots that are cut or empty, as a disk without room leaves them. What they would say is
/// read from the log again.
fn drop_torn_snapshots(
    place: &Place,
    listing: &mut Listing,
    report: &mut RecoveryReport,
) -> Result<(), LogError> {
    let is_torn = |size| !producer_state::is_snapshot_size(size);
    let torn: Vec<Offset> = listing
        .offsets_of(files::SNAPSHOT)
        .filter(|offset| listing.size(*offset, files::SNAPSHOT).is_some_and(is_torn))
        .collect();
    for offset in torn {
        let path = place.path(offset, files::SNAPSHOT);
        remove_if_there(place, &path)?;
        listing.sizes.remove(&(offset, files::SNAPSHOT));
        // A crash leaves such ones too, and there is nothing in them that is not in the log.
        if report.clean {
            report.warnings.push(format!(
                "{} was cut; it was removed, and producers are known from the log",
                path.display()
            ));
        }
    }
    Ok(())
}

/// Removes indexes whose log was being deleted when the last process ended, and those without a log from
/// `scanned_from` on: the scan tells what is missing there.
fn drop_orphaned_indexes(
    place: &Place,
    listing: &mut Listing,
    scanned_from: Offset,
) -> Result<(), LogError> {
    for base in missing::orphans(listing) {
        if base < scanned_from && !missing::is_on_its_way_out(place, listing, base) {
            continue;
        }
        for suffix in [files::OFFSET_INDEX, files::TIME_INDEX, files::TXN_INDEX] {
            remove_if_there(place, &place.path(base, suffix))?;
            listing.sizes.remove(&(base, suffix));
        }
    }
    Ok(())
}

fn remove_if_there(place: &Place, path: &Path) -> Result<(), LogError> {
    match place.disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(LogError::io("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// The log as its files say, without a look into segments; its end is not known yet.
fn assemble(
    request: OpenRequest,
    listing: &Listing,
    topic_id: Uuid,
    report: &mut RecoveryReport,
) -> Result<Log, LogError> {
    let OpenRequest { place, shared, id, topic, partition, config, log_start, now, .. } = request;
    let (cleaned_to, on_file) = (request.cleaned_to, request.recovery_point_on_file);
    let was_cleaned = config.cleanup_compact || cleaned_to.is_some();
    // Nothing is cleaned before the recovery point on file has passed it.
    let gaps_to = on_file.unwrap_or(Offset(i64::MAX)).max(cleaned_to.unwrap_or(Offset(0)));
    let gaps_to = if was_cleaned { gaps_to } else { Offset(0) };
    let recovery_point_on_file = on_file.unwrap_or(Offset(0));
    let mut segments = VecDeque::new();
    for base in listing.offsets_of(files::LOG) {
        let size_bytes = listing.size(base, files::LOG).unwrap_or(0);
        let mut segment = Segment::existing(&place, base, size_bytes, now);
        let offset_index = listing.size(base, files::OFFSET_INDEX);
        let time_index = listing.size(base, files::TIME_INDEX);
        segment.set_index_sizes(offset_index, time_index);
        segment.has_aborts = listing.size(base, files::TXN_INDEX).is_some_and(|bytes| bytes > 0);
        segments.push_back(segment);
    }
    let sealed = segments.len().saturating_sub(1);
    segments.iter_mut().take(sealed).for_each(Segment::distrust_emptied_times);
    if segments.is_empty() {
        segments.push_back(Segment::create(&place, log_start.unwrap_or(Offset(0)), now)?);
        let dir = place.dir.to_path_buf();
        shared.note(|dirty| {
            dirty.dirs.insert(dir);
        });
    }
    let first = segments.front().map_or(Offset(0), |segment| segment.base);
    if listing.swapped {
        let dir = place.dir.to_path_buf();
        shared.note(|dirty| {
            dirty.dirs.insert(dir);
        });
    }
    let (epochs, epochs_changed) = read_epochs(&place, report)?;
    let start = LogPosition { offset: first, base: first, position: 0 };
    Ok(Log {
        shared,
        id,
        place,
        topic: topic.into_boxed_str(),
        partition: PartitionId(partition),
        topic_id,
        config,
        log_start: log_start.unwrap_or(first).max(first),
        segments,
        end: start,
        synced: start,
        recovery_point: first,
        recovery_point_on_file,
        cleaned_to,
        gaps_to,
        epochs,
        epochs_changed,
        epoch_is_unused: false,
        leader_epoch: LeaderEpoch(0),
        producers: ProducerStates::default(),
        snapshots: listing.offsets_of(files::SNAPSHOT).collect(),
        commit: CommitState::default(),
        graveyard: listing.graveyard.iter().map(|path| (now, path.clone())).collect(),
        hints: Mutex::default(),
        opened: now,
    })
}

/// Takes empty segments out that begin below the end of the one before them: what a roll leaves that
/// fails half-way. The log would seem to end there.
fn drop_leftovers(log: &mut Log, report: &mut RecoveryReport) -> Result<(), LogError> {
    let mut kept: VecDeque<Segment> = VecDeque::with_capacity(log.segments.len());
    let mut dropped = false;
    for segment in std::mem::take(&mut log.segments) {
        let before = kept.iter().rev().find(|before| before.size_bytes > 0);
        let is_leftover = match before.filter(|_| segment.size_bytes == 0) {
            None => false,
            Some(before) => match before.locate(segment.base) {
                Ok(found) => found.is_some(),
                // What comes now finds it too, and says so.
                Err(LogError::Damaged { .. }) => false,
                Err(error) => return Err(error),
            },
        };
        if !is_leftover {
            kept.push_back(segment);
            continue;
        }
        dropped = true;
        let path = segment.path();
        report.bad_files.push(format!(
            "{} is empty and begins below the end of the segment before it; it was removed",
            path.display()
        ));
        for suffix in [files::LOG, files::OFFSET_INDEX, files::TIME_INDEX, files::TXN_INDEX] {
            remove_if_there(&log.place, &log.place.path(segment.base, suffix))?;
        }
    }
    log.segments = kept;
    if dropped {
        let dir = log.place.dir.to_path_buf();
        log.shared.note(|dirty| {
            dirty.dirs.insert(dir);
        });
    }
    Ok(())
}

/// The leader epochs on file, and whether the file must be written again.
fn read_epochs(
    place: &Place,
    report: &mut RecoveryReport,
) -> Result<(LeaderEpochs, bool), LogError> {
    let path = place.dir.join(files::LEADER_EPOCHS);
    match checkpoint::read_epochs(&*place.disk, &path) {
        Ok(Some(entries)) => Ok((LeaderEpochs::from_entries(entries), false)),
        Ok(None) => Ok((LeaderEpochs::default(), true)),
        Err(error @ LogError::BadFile { .. }) => {
            report.bad_files.push(error.to_string());
            Ok((LeaderEpochs::default(), true))
        }
        Err(error) => Err(error),
    }
}

/// After a clean stop: everything is believed, and the end is found from the last index entry.
fn open_clean(
    log: &mut Log,
    remembered: Option<&(Offset, ProducerStates)>,
    report: &mut RecoveryReport,
) -> Result<(), LogError> {
    rebuild_bad_indexes(log, report)?;
    let active = log.active_mut();
    let offset = active.load_tail()?;
    let (base, position) = (active.base, active.size_bytes);
    log.end = LogPosition { offset, base, position };
    if offset < log.log_start {
        return Err(LogError::Damaged {
            path: log.active().path(),
            position,
            what: "the log ends before it starts".to_owned(),
        });
    }
    log.synced = log.end;
    log.recovery_point = offset;
    log.commit.taken = Some(log.end);
    if log.epochs.entries().is_empty() {
        read_epochs_of_batches(log)?;
    }
    log.leader_epoch = log.epochs.latest().unwrap_or(LeaderEpoch(0));
    log.epochs_changed |= log.epochs.assign(log.leader_epoch, offset);
    reload_producers(log, remembered)?;
    keep_producers(log)
}

/// Writes down what was read from the log for want of a snapshot, so that the next start need not.
fn keep_producers(log: &mut Log) -> Result<(), LogError> {
    let end = log.end.offset;
    let is_empty = log.segments.front().is_none_or(|first| first.base == end);
    if is_empty || log.snapshots.last() == Some(&end) {
        return Ok(());
    }
    match log.write_snapshot(end) {
        // The next start reads it again.
        Err(LogError::DiskFull { .. } | LogError::Io { action: "open", .. }) => Ok(()),
        outcome => outcome,
    }
}

fn gap(log: &Log, synced: Offset) -> Option<String> {
    let end = log.end.offset;
    (end < synced).then(|| format!("the log ends at offset {end}, it was synced up to {synced}"))
}

/// A log that lost what was synced did not stop cleanly, whatever the mark says.
fn check_end(log: &Log, synced: Offset) -> Result<(), LogError> {
    match gap(log, synced) {
        None => Ok(()),
        Some(what) => {
            let (path, position) = (log.active().path(), log.end.position);
            Err(LogError::Damaged { path, position, what })
        }
    }
}

/// Tells of records that were acknowledged, and are gone.
fn report_gap(log: &Log, synced: Offset, report: &mut RecoveryReport) {
    let Some(what) = gap(log, synced) else { return };
    let segment = log.active().path();
    report.damage.push(Damage {
        topic: log.topic.to_string(),
        partition: log.partition.get(),
        position: log.end.position,
        offset: log.end.offset,
        bytes_cut: 0,
        kept_in: segment.clone(),
        segment,
        what,
    });
}

/// A clean stop promised something that is not so. All is scanned that can be.
fn recover_unexpectedly(
    log: &mut Log,
    error: LogError,
    report: &mut RecoveryReport,
    watched: &mut Watched,
) -> Result<(), LogError> {
    match &error {
        LogError::Damaged { .. } | LogError::BadFile { .. } => {}
        LogError::Io { source, .. } if source.kind() == io::ErrorKind::UnexpectedEof => {}
        // Not bytes, but the disk: scanning would not help.
        _ => return Err(error),
    }
    report.bad_files.push(error.to_string());
    report.clean = false;
    let point = log.active().base;
    if log.gaps_to > Offset(0) {
        log.gaps_to = log.gaps_to.max(point);
    }
    // What the clean opening has believed: else readers would be shown an end that is cut away now.
    let first = log.segments.front().map_or(Offset(0), |segment| segment.base);
    let start = LogPosition { offset: first, base: first, position: 0 };
    (log.end, log.synced, log.recovery_point) = (start, start, first);
    log.commit = CommitState::default();
    log.producers = ProducerStates::default();
    recover(log, point, report, watched)
}

/// Builds the indexes that are missing or cannot be right.
fn rebuild_bad_indexes(log: &mut Log, report: &mut RecoveryReport) -> Result<(), LogError> {
    let interval_bytes = log.config.index_interval_bytes;
    for segment in log.segments.iter_mut().filter(|segment| segment.index_is_bad()) {
        report.indexes_rebuilt += 1;
        segment.rebuild_indexes(interval_bytes)?;
    }
    Ok(())
}

fn read_epochs_of_batches(log: &mut Log) -> Result<(), LogError> {
    for segment in &log.segments {
        let (path, file) = (segment.path(), segment.reader()?);
        let mut walk = HeaderWalk::new(&*file, &path, 0, segment.size_bytes);
        while let Some((_, header)) = walk.next()? {
            log.epochs.assign(header.leader_epoch, header.base_offset);
        }
    }
    log.epochs_changed = true;
    Ok(())
}

/// Where recovery begins: a segment, a position in it, and the offset that must follow.
#[derive(Debug, Clone, Copy)]
struct Start {
    segment: usize,
    position: u64,
    offset: Offset,
}

/// After an unclean stop: reads everything from `point` on.
fn recover(
    log: &mut Log,
    point: Offset,
    report: &mut RecoveryReport,
    watched: &mut Watched,
) -> Result<(), LogError> {
    let start = find_start(log, point)?;
    rebuild_before(log, start.segment, report)?;
    let (states, covered) = load_snapshot(log, start.offset, None)?;
    log.producers = states;
    replay_before(log, covered, start)?;
    if log.epochs.entries().is_empty() && read_epochs_of_batches(log).is_err() {
        log.epochs_changed = true;
    }
    let known = log.epochs.clone();
    log.epochs.truncate_from_end(start.offset.next());
    let before = report.bytes_scanned + report.bytes_cut;
    scan_from(log, start, report, watched)?;
    log.log_start = log.log_start.min(log.end.offset);
    raise_epoch(log, &known);
    if report.bytes_scanned + report.bytes_cut > before {
        report.logs_recovered += 1;
        let first = start.segment.min(log.segments.len() - 1);
        log.mark_unsynced(first)
    } else {
        // All lies below the recovery point, which is synced.
        log.synced = log.end;
        log.producers.set_synced(log.end.offset);
        log.recovery_point = log.end.offset;
        log.commit.taken = Some(log.end);
        Ok(())
    }
}

/// Enters what lies before the start into the producer state. Damage there ends it early; readers are
/// told when they come to it.
fn replay_before(log: &mut Log, from: Offset, start: Start) -> Result<(), LogError> {
    let Some(segment) = log.segments.get_mut(start.segment) else { return Ok(()) };
    // What follows the start may be anything.
    let size_bytes = std::mem::replace(&mut segment.size_bytes, start.position);
    let outcome = replay(log, from, start.offset);
    if let Some(segment) = log.segments.get_mut(start.segment) {
        segment.size_bytes = size_bytes;
    }
    match outcome {
        Err(LogError::Damaged { .. }) => Ok(()),
        outcome => outcome,
    }
}

/// Begins a new leader epoch, above all that clients may have seen.
fn raise_epoch(log: &mut Log, known: &LeaderEpochs) {
    log.epochs.truncate_from_end(log.end.offset.next());
    log.epochs_changed |= log.epochs != *known;
    log.leader_epoch = match known.latest().max(log.epochs.latest()) {
        Some(latest) => LeaderEpoch(latest.get().saturating_add(1)),
        None => LeaderEpoch(0),
    };
    log.epochs.assign(log.leader_epoch, log.end.offset);
    log.epoch_is_unused = true;
}

/// The batch boundary at the recovery point, found over the indexes before it. If there is none, the
/// recovery point is not this log's: everything is scanned.
fn find_start(log: &mut Log, point: Offset) -> Result<Start, LogError> {
    // A segment that ends at the point is looked at too: it may have been sealed after the checkpoint,
    // and then the last entry of its time index is not on disk.
    let count = log.segments.partition_point(|segment| segment.base < point).max(1);
    let all = Start {
        segment: 0,
        position: 0,
        offset: log.segments.front().map_or(Offset(0), |segment| segment.base),
    };
    let at = count - 1;
    let follows = log.segments.get(count).is_some_and(|next| next.base == point);
    let Some(segment) = log.segments.get_mut(at) else { return Ok(all) };
    if segment.index_is_bad() {
        return Ok(Start { segment: at, position: 0, offset: segment.base });
    }
    segment.cut_indexes(point, segment.size_bytes)?;
    match walk_to(segment, point) {
        Ok(Some((position, offset))) => Ok(Start { segment: at, position, offset }),
        // Compaction may have taken its last batches.
        Ok(None) if follows => Ok(Start { segment: count, position: 0, offset: point }),
        Ok(None) => Ok(all),
        Err(LogError::Damaged { .. }) => {
            Ok(Start { segment: at, position: 0, offset: segment.base })
        }
        Err(error) => Err(error),
    }
}

/// The first boundary at or after `point`. `None` if the segment ends before.
fn walk_to(segment: &Segment, point: Offset) -> Result<Option<(u64, Offset)>, LogError> {
    let entry = segment.offsets.last()?;
    let from = entry.map_or(0, |entry| entry.position);
    let (path, file) = (segment.path(), segment.reader()?);
    let mut walk = HeaderWalk::new(&*file, &path, from, segment.size_bytes);
    let mut next = segment.base;
    let mut is_first = true;
    while next < point {
        let Some((position, header)) = walk.next()? else { return Ok(None) };
        if let Some(entry) = entry.filter(|_| is_first) {
            if header.last_offset() != entry.offset {
                return Err(LogError::Damaged {
                    path,
                    position,
                    what: "the index entry does not point to a batch".to_owned(),
                });
            }
        }
        is_first = false;
        next = header.last_offset().next();
        if next >= point {
            return Ok(Some((position + header.size_bytes, next)));
        }
    }
    Ok(Some((from, next)))
}

/// Indexes before the recovery point are rebuilt if need be. What cannot be read there is reported.
fn rebuild_before(
    log: &mut Log,
    count: usize,
    report: &mut RecoveryReport,
) -> Result<(), LogError> {
    let interval_bytes = log.config.index_interval_bytes;
    let (topic, partition) = (log.topic.to_string(), log.partition.get());
    for segment in log.segments.iter_mut().take(count).filter(|segment| segment.index_is_bad()) {
        report.indexes_rebuilt += 1;
        match segment.rebuild_indexes(interval_bytes) {
            Err(LogError::Damaged { path, position, what }) => report.damage.push(Damage {
                topic: topic.clone(),
                partition,
                segment: path.clone(),
                position,
                offset: segment.base,
                bytes_cut: 0,
                kept_in: path,
                what,
            }),
            outcome => outcome?,
        }
    }
    Ok(())
}

/// Scans segment after segment, until the end or the first problem.
fn scan_from(
    log: &mut Log,
    start: Start,
    report: &mut RecoveryReport,
    watched: &mut Watched,
) -> Result<(), LogError> {
    let sizes = log.segments.iter().skip(start.segment).map(|segment| segment.size_bytes);
    watched.begin(sizes.sum::<u64>().saturating_sub(start.position));
    let mut at = start.segment;
    let mut position = start.position;
    let mut next = start.offset;
    while let Some(base) = log.segments.get(at).map(|segment| segment.base) {
        let has_hole = base > next && base > log.gaps_to && at > start.segment;
        if has_hole || base < next && at > start.segment {
            let what = format!("the segment begins at offset {base}, {next} should follow");
            set_segments_aside(log, at, &what, report)?;
            break;
        }
        next = next.max(base);
        let problem = scan_segment(log, at, position, &mut next, report, watched)?;
        if let Some((bad_position, what)) = problem {
            cut_at(log, at, bad_position, next, &what, report)?;
            break;
        }
        at += 1;
        position = 0;
        let is_sealed = at < log.segments.len();
        if let Some(segment) = log.segments.get_mut(at - 1).filter(|_| is_sealed) {
            segment.seal()?;
            // Its last time entry may be new, though nothing else is.
            let paths = [segment.offsets.file().path(), segment.times.file().path()];
            log.note_new_files(paths);
            log.write_snapshot(next)?;
        }
    }
    let active = log.active();
    log.end = LogPosition { offset: next, base: active.base, position: active.size_bytes };
    Ok(())
}

/// Scans one segment from `position`; indexes, epochs and producers take each batch in. Returns where
/// the first problem is.
fn scan_segment(
    log: &mut Log,
    at: usize,
    position: u64,
    next: &mut Offset,
    report: &mut RecoveryReport,
    watched: &mut Watched,
) -> Result<Option<(u64, String)>, LogError> {
    let Some(segment) = log.segments.get_mut(at) else { return Ok(None) };
    let (base, end) = (segment.base, segment.size_bytes);
    if position == 0 {
        segment.offsets.file().create()?;
        segment.times.file().create()?;
    }
    segment.end_at(*next, position)?;
    let (path, file) = (segment.path(), segment.reader()?);
    let cut = txn_index::truncate(&log.place, base, *next)?;
    if cut.is_some() {
        log.note_new_files(cut);
    }
    let interval_bytes = log.config.index_interval_bytes;
    let gaps_to = log.gaps_to;
    let region = Region { file: &*file, path: &path, from: position, end };
    let now = log.opened;
    let outcome = scan(region, |position, header, batch| {
        let is_gap = header.base_offset > *next && header.base_offset <= gaps_to;
        let follows = header.base_offset == *next || is_gap;
        if !follows {
            return Ok(Some(format!("it has offset {}, {next} should follow", header.base_offset)));
        }
        if header.last_offset().get() - base.get() > i64::from(i32::MAX) {
            return Ok(Some("its offset is too far from the segment's base".to_owned()));
        }
        *next = header.last_offset().next();
        log.epochs.assign(header.leader_epoch, header.base_offset);
        if let Some(segment) = log.segments.get_mut(at) {
            segment.note(header, position, interval_bytes)?;
        }
        let marker = if header.is_control { end_marker(batch) } else { None };
        log.index_abort(header, marker)?;
        log.note_producer(header, marker, now);
        watched.scanned(header.size_bytes);
        Ok(None)
    })?;
    report.bytes_scanned += outcome.position - position;
    Ok(outcome.problem.map(|what| {
        // The size on file, so that what follows the problem can be looked at.
        if let Some(segment) = log.segments.get_mut(at) {
            segment.size_bytes = end;
        }
        (outcome.position, what)
    }))
}

/// Cuts the log at a problem. What lies behind it is kept if any of it is valid.
fn cut_at(
    log: &mut Log,
    at: usize,
    position: u64,
    next: Offset,
    what: &str,
    report: &mut RecoveryReport,
) -> Result<(), LogError> {
    let Some(segment) = log.segments.get(at) else { return Ok(()) };
    let (path, file) = (segment.path(), segment.reader()?);
    let region = Region { file: &*file, path: &path, from: position, end: segment.size_bytes };
    let behind = Region { from: (position + 1).min(region.end), ..region };
    let found = survivors(behind, next)?;
    let later_segments = log.segments.len() > at + 1;
    let cut_bytes = region.end - region.from;
    let has_damage = found != Survivors::default() || later_segments;
    if has_damage {
        let kept_in = keep_aside(&*log.place.disk, region)?;
        report.damage.push(Damage {
            topic: log.topic.to_string(),
            partition: log.partition.get(),
            segment: path.clone(),
            position,
            offset: next,
            bytes_cut: cut_bytes,
            kept_in,
            what: what.to_owned(),
        });
    }
    report.bytes_cut += cut_bytes;
    report.records_cut += found.records + records_of_torn(region)?;
    if let Some(segment) = log.segments.get_mut(at) {
        segment.truncate(next, position)?;
    }
    if later_segments {
        set_segments_aside(log, at + 1, "it lies behind damage", report)?;
    }
    Ok(())
}

/// How many records a batch that is cut or broken says it had.
fn records_of_torn(region: Region<'_>) -> Result<u64, LogError> {
    let mut header = [0; crate::header::HEADER_BYTES];
    let read = region
        .file
        .read_at(&mut header, region.from)
        .map_err(|error| LogError::io("read", region.path, error))?;
    let there = header.get(..read).unwrap_or_default();
    let Ok(header) = crate::header::BatchHeader::decode(there) else { return Ok(0) };
    let plausible = i64::from(header.record_count) == i64::from(header.last_offset_delta) + 1;
    Ok(if plausible { u64::try_from(header.record_count).unwrap_or(0) } else { 0 })
}

/// Takes the segments from `at` on out of the log. Their files are renamed, unless they are empty.
fn set_segments_aside(
    log: &mut Log,
    at: usize,
    what: &str,
    report: &mut RecoveryReport,
) -> Result<(), LogError> {
    while log.segments.len() > at {
        let Some(segment) = log.segments.pop_back() else { break };
        let path = segment.path();
        if segment.size_bytes == 0 {
            remove_if_there(&log.place, &path)?;
        } else {
            let file = segment.reader()?;
            let region = Region { file: &*file, path: &path, from: 0, end: segment.size_bytes };
            report.records_cut += survivors(region, segment.base)?.records;
            report.bytes_cut += segment.size_bytes;
            let kept_in = unused_name(&*log.place.disk, &path, 0);
            log.place
                .disk
                .rename(&path, &kept_in)
                .map_err(|error| LogError::io("rename", &path, error))?;
            report.damage.push(Damage {
                topic: log.topic.to_string(),
                partition: log.partition.get(),
                segment: path,
                position: 0,
                offset: segment.base,
                bytes_cut: segment.size_bytes,
                kept_in,
                what: what.to_owned(),
            });
        }
        for suffix in [files::OFFSET_INDEX, files::TIME_INDEX, files::TXN_INDEX] {
            remove_if_there(&log.place, &log.place.path(segment.base, suffix))?;
        }
    }
    let dir = log.place.dir.to_path_buf();
    log.shared.note(|dirty| {
        dirty.dirs.insert(dir);
    });
    Ok(())
}

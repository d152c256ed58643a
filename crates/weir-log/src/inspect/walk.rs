//! The walk over one segment: batch after batch, and around what is none.
//!
//! Base offset, length, leader epoch and magic lie outside what a batch's CRC covers. So a right CRC is
//! not enough: offsets must follow one another, and epochs agree with the checkpoint and with the
//! neighbours. The other way round, if only those fields are wrong, the records are intact and the
//! header can be [mended](Mend).
//!
//! Behind bytes that are no batch, the next one is looked for. A value may itself contain whole batches
//! (somebody stores segments in records), so a candidate is believed only if the batches after it lead
//! to a place that is known: where the damaged batch ends by its own length, an index entry, or the end
//! of the file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_protocol::batch::BatchView;
use weir_protocol::{LeaderEpoch, Offset};

use super::{OffsetIndexReader, SegmentFiles};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::LogError;
use crate::files;
use crate::header::{BatchHeader, HEADER_BYTES};
use crate::recovery::scan::{Region, Window, BATCH_BYTES_MAX};

/// Entries of an offset index that are kept to find the way again: 16 MiB, more than Kafka's
/// `segment.index.bytes`.
const INDEX_ENTRIES_MAX: usize = 1 << 20;
/// Index entries behind a damaged place that are tried.
const INDEX_TRIES_MAX: usize = 16;
/// Batches after a candidate that are followed.
const LINKS_MAX: usize = 4096;
/// Batches after a candidate that suffice where nothing else is known.
const LINKS_ENOUGH: usize = 64;
/// Bytes whose CRC is computed while looking for batches, per segment: what somebody writes into values
/// must not make a walk take for ever.
const SEARCH_BYTES_MAX: u64 = 4 << 30;

/// What a walk expects.
#[derive(Debug, Clone)]
pub struct WalkRules {
    /// The offset of the first batch.
    pub next: Offset,
    /// Below this offset some may be missing: the cleaner has been there.
    pub gaps_below: Offset,
    /// The offset that follows the segment, if that is known.
    pub ends_at: Option<Offset>,
    /// The start offsets of leader epochs, rising; empty if they are not known.
    pub epochs: Vec<(LeaderEpoch, Offset)>,
    /// Whether `epochs` is complete. After an unclean stop the last may be missing.
    pub epochs_are_complete: bool,
    /// The leader epoch of the batch before the segment.
    pub epoch_before: Option<LeaderEpoch>,
    /// The leader epoch of the batch behind the segment.
    pub epoch_behind: Option<LeaderEpoch>,
    /// Take every batch whose CRC is right, whatever its offset and epoch.
    pub any_offsets: bool,
}

impl WalkRules {
    /// For a look at the file alone: every batch with a right CRC is taken.
    #[must_use]
    pub fn any(base: Offset) -> Self {
        Self {
            next: base,
            gaps_below: Offset(i64::MAX),
            ends_at: None,
            epochs: Vec::new(),
            epochs_are_complete: false,
            epoch_before: None,
            epoch_behind: None,
            any_offsets: true,
        }
    }
}

/// What a walk comes to.
#[derive(Debug)]
pub enum Found<'a> {
    /// A batch whose CRC is right.
    Batch {
        /// Where it begins.
        position: u64,
        /// The batch.
        batch: BatchView<'a>,
    },
    /// Offsets that no batch has, though they should be there. The batch behind comes next.
    Hole {
        /// Where they should be.
        position: u64,
        /// The first of them.
        from: Offset,
        /// One past the last.
        to: Offset,
    },
    /// Bytes that are not the batch that should be there.
    Bad(BadRegion),
}

/// Bytes that are not the batch that should be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRegion {
    /// Where they begin.
    pub from: u64,
    /// Where they end: at the next batch, or at the end of the file.
    pub to: u64,
    /// The offset that should be there.
    pub offset: Offset,
    /// The base offset of the valid batch right behind. `None`: there is none in this file.
    pub follows: Option<Offset>,
    /// What is wrong.
    pub what: String,
    /// The first 61 bytes, fewer at the end of the file.
    pub head: Vec<u8>,
    /// How the header can be set right, if the records are intact.
    pub mend: Option<Mend>,
}

/// A header that makes a bad region a batch with a right CRC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mend {
    /// The header.
    pub header: [u8; HEADER_BYTES],
    /// The fields that change.
    pub fields: String,
    /// The last offset of the batch.
    pub last_offset: Offset,
}

/// How a walk ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalkEnd {
    /// The offset that would come next.
    pub next: Offset,
    /// The last batch's leader epoch.
    pub epoch: Option<LeaderEpoch>,
    /// The start offsets of leader epochs, with those that were not complete before.
    pub epochs: Vec<(LeaderEpoch, Offset)>,
    /// The first offset whose batches agree on an epoch that the checkpoint does not have there.
    pub epochs_disagree: Option<(Offset, LeaderEpoch)>,
}

/// What is thought of the bytes at a position.
enum Verdict {
    Good {
        size_bytes: u64,
    },
    /// It is good, and offsets before it are missing.
    AfterHole {
        size_bytes: u64,
        base: Offset,
    },
    Bad {
        what: String,
        size_bytes: Option<u64>,
        crc_is_right: bool,
    },
}

struct Walker<'a> {
    region: Region<'a>,
    window: Window<'a>,
    base: Offset,
    rules: &'a WalkRules,
    index: Vec<(Offset, u64)>,
    next: Offset,
    epoch: Option<LeaderEpoch>,
    epochs: Vec<(LeaderEpoch, Offset)>,
    epochs_disagree: Option<(Offset, LeaderEpoch)>,
    search_bytes_left: u64,
}

/// See [`super::walk_segment`].
pub(crate) fn walk(
    disk: &dyn Disk,
    dir: &Path,
    segment: &SegmentFiles,
    rules: &WalkRules,
    visit: &mut dyn FnMut(Found<'_>) -> Result<(), LogError>,
) -> Result<WalkEnd, LogError> {
    let path = segment.path(dir, files::LOG);
    let file = open(disk, &path)?;
    // A writer may have cut or extended it since it was listed.
    let end = file.len_bytes().map_err(|error| LogError::io("read", &path, error))?;
    let end = end.min(segment.log_bytes);
    let region = Region { file: &*file, path: &path, from: 0, end };
    let mut walker = Walker {
        region,
        window: Window::new(region),
        base: segment.base,
        rules,
        index: read_index(disk, dir, segment.base)?,
        next: rules.next,
        epoch: rules.epoch_before,
        epochs: rules.epochs.clone(),
        epochs_disagree: None,
        search_bytes_left: SEARCH_BYTES_MAX,
    };
    walker.run(visit)?;
    let Walker { next, epoch, epochs, epochs_disagree, .. } = walker;
    Ok(WalkEnd { next, epoch, epochs, epochs_disagree })
}

/// The leader epoch of the first batch of a segment, if there is one.
pub(crate) fn first_epoch(
    disk: &dyn Disk,
    dir: &Path,
    segment: &SegmentFiles,
) -> Result<Option<LeaderEpoch>, LogError> {
    let path = segment.path(dir, files::LOG);
    let mut bytes = [0; HEADER_BYTES];
    let read = open(disk, &path)?
        .read_at(&mut bytes, 0)
        .map_err(|error| LogError::io("read", &path, error))?;
    let header = BatchHeader::decode(bytes.get(..read).unwrap_or_default());
    Ok(header.ok().map(|header| header.leader_epoch))
}

fn open(disk: &dyn Disk, path: &PathBuf) -> Result<Arc<dyn DiskFile>, LogError> {
    disk.open(path, OpenMode::Existing).map_err(|error| LogError::io("open", path, error))
}

fn read_index(disk: &dyn Disk, dir: &Path, base: Offset) -> Result<Vec<(Offset, u64)>, LogError> {
    let mut reader = OffsetIndexReader::open(disk, dir, base)?;
    let path = files::at_offset(dir, base, files::OFFSET_INDEX);
    let mut entries: Vec<(Offset, u64)> = Vec::new();
    while entries.len() < INDEX_ENTRIES_MAX {
        let entry = reader.next_entry().map_err(|error| LogError::io("read", &path, error))?;
        let Some(entry) = entry else { break };
        // What does not rise is damage, or room that was not used.
        if entries.last().is_some_and(|last| entry.1 <= last.1) {
            break;
        }
        entries.push(entry);
    }
    Ok(entries)
}

impl Walker<'_> {
    fn run(
        &mut self,
        visit: &mut dyn FnMut(Found<'_>) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let mut position = self.region.from;
        while position < self.region.end {
            let size_bytes = match self.judge(position)? {
                Verdict::Good { size_bytes } => size_bytes,
                Verdict::AfterHole { size_bytes, base } => {
                    visit(Found::Hole { position, from: self.next, to: base })?;
                    size_bytes
                }
                Verdict::Bad { what, size_bytes, crc_is_right } => {
                    let bad = self.bad_region(position, what, size_bytes, crc_is_right)?;
                    position = bad.to;
                    let mended = bad.mend.as_ref().map(|mend| mend.last_offset.next());
                    self.next = bad.follows.or(mended).unwrap_or(self.next).max(self.next);
                    visit(Found::Bad(bad))?;
                    continue;
                }
            };
            let bytes = self.window.get(position, size_bytes)?;
            let Ok(batch) = BatchView::parse(bytes) else { break };
            self.epoch = Some(batch.partition_leader_epoch());
            self.next = self.next.max(batch.last_offset().next());
            visit(Found::Batch { position, batch })?;
            position += size_bytes;
        }
        Ok(())
    }

    fn judge(&mut self, position: u64) -> Result<Verdict, LogError> {
        let bad = |what| Verdict::Bad { what, size_bytes: None, crc_is_right: false };
        let left = self.region.end - position;
        let header = match BatchHeader::decode(self.window.get(position, HEADER_BYTES as u64)?) {
            Ok(header) => header,
            Err(what) => return Ok(bad(what)),
        };
        if header.size_bytes > left.min(BATCH_BYTES_MAX) {
            let what = format!("the batch takes {} bytes, {left} are left", header.size_bytes);
            return Ok(bad(what));
        }
        let size_bytes = header.size_bytes;
        let checked = BatchView::parse(self.window.get(position, size_bytes)?)
            .and_then(|batch| batch.verify_crc());
        if let Err(error) = checked {
            let (what, size_bytes) = (error.to_string(), Some(size_bytes));
            return Ok(Verdict::Bad { what, size_bytes, crc_is_right: false });
        }
        if self.rules.any_offsets {
            return Ok(Verdict::Good { size_bytes });
        }
        let judged = match self.judge_epoch(position, &header)? {
            Some(what) => Err(what),
            None => self.judge_offset(position, &header)?,
        };
        Ok(match judged {
            Ok(true) => Verdict::Good { size_bytes },
            Ok(false) => Verdict::AfterHole { size_bytes, base: header.base_offset },
            Err(what) => Verdict::Bad { what, size_bytes: Some(size_bytes), crc_is_right: true },
        })
    }

    /// `Ok(false)` if the batch is right and offsets before it are missing.
    fn judge_offset(
        &self,
        position: u64,
        header: &BatchHeader,
    ) -> Result<Result<bool, String>, LogError> {
        let (base, last, next) = (header.base_offset, header.last_offset(), self.next);
        if last.get() - self.base.get() > i64::from(i32::MAX) {
            return Ok(Err(format!("its offset {last} is too far from the segment's base")));
        }
        if base == next {
            return Ok(Ok(true));
        }
        let after = position + header.size_bytes;
        let behind = match self.header_at(after)? {
            Some(follower) => Some(follower.base_offset),
            None if after == self.region.end => self.rules.ends_at,
            None => None,
        };
        if base > next && base <= self.rules.gaps_below {
            let shifted = next.plus(i64::from(header.last_offset_delta));
            let contradicted = behind.is_some_and(|behind| behind <= last && behind > shifted);
            return Ok(match contradicted {
                true => {
                    Err(format!("its offsets go to {last}, and {} is behind it", pretty(behind)))
                }
                false => Ok(true),
            });
        }
        if base > next && behind == Some(last.next()) {
            return Ok(Ok(false));
        }
        Ok(Err(format!("it has offset {base}, {next} should follow")))
    }

    /// What is wrong with the leader epoch of a batch, if anything is.
    ///
    /// There are three witnesses: the checkpoint, the batch before, and the batch behind. A batch that
    /// one of its neighbours agrees with is believed, and the checkpoint is not.
    fn judge_epoch(
        &mut self,
        position: u64,
        header: &BatchHeader,
    ) -> Result<Option<String>, LogError> {
        let (epoch, before) = (header.leader_epoch, self.epoch);
        let known = self.known_epoch(self.next);
        if known == Some(epoch) {
            return Ok(None);
        }
        let after = position + header.size_bytes;
        let behind = match self.header_at(after)? {
            Some(follower) => Some(follower.leader_epoch),
            None if after == self.region.end => self.rules.epoch_behind,
            None => None,
        };
        let rises = before.is_none_or(|before| before <= epoch)
            && behind.is_none_or(|behind| epoch <= behind);
        let Some(known) = known else {
            let wrong = !rises && (before > Some(epoch) || behind == before || before.is_none());
            return Ok(wrong.then(|| format!("its leader epoch is {epoch}, out of order")));
        };
        let latest = self.epochs.last().map(|(latest, _)| *latest);
        let may_be_new = !self.rules.epochs_are_complete && latest < Some(epoch);
        if may_be_new && rises && (behind == Some(epoch) || behind.is_none()) {
            self.epochs.push((epoch, header.base_offset));
            return Ok(None);
        }
        if rises && (before == Some(epoch) || behind == Some(epoch)) {
            self.epochs_disagree.get_or_insert((header.base_offset, epoch));
            return Ok(None);
        }
        Ok(Some(format!("its leader epoch is {epoch}, {known} should be there")))
    }

    fn known_epoch(&self, offset: Offset) -> Option<LeaderEpoch> {
        let count = self.epochs.partition_point(|(_, start)| *start <= offset);
        self.epochs.get(count.checked_sub(1)?).map(|(epoch, _)| *epoch)
    }

    /// The header at a position, if it can be one of a batch that fits.
    fn header_at(&self, position: u64) -> Result<Option<BatchHeader>, LogError> {
        if position + HEADER_BYTES as u64 > self.region.end {
            return Ok(None);
        }
        let mut bytes = [0; HEADER_BYTES];
        let read = self
            .region
            .file
            .read_at(&mut bytes, position)
            .map_err(|error| LogError::io("read", self.region.path, error))?;
        let header = BatchHeader::decode(bytes.get(..read).unwrap_or_default()).ok();
        let left = (self.region.end - position).min(BATCH_BYTES_MAX);
        Ok(header.filter(|header| header.size_bytes <= left))
    }

    /// The header at a position, if a batch with a right CRC begins there.
    fn valid_at(&mut self, position: u64) -> Result<Option<BatchHeader>, LogError> {
        let Some(header) = self.header_at(position)? else { return Ok(None) };
        let Some(left) = self.search_bytes_left.checked_sub(header.size_bytes) else {
            return Ok(None);
        };
        self.search_bytes_left = left;
        let batch = BatchView::parse(self.window.get(position, header.size_bytes)?);
        let is_valid = batch.is_ok_and(|batch| batch.verify_crc().is_ok());
        Ok(is_valid.then_some(header))
    }

    fn bad_region(
        &mut self,
        position: u64,
        what: String,
        size_bytes: Option<u64>,
        crc_is_right: bool,
    ) -> Result<BadRegion, LogError> {
        let to = self.find_next(position, size_bytes, crc_is_right)?;
        let to = to.unwrap_or(self.region.end);
        let follower = if to < self.region.end { self.valid_at(to)? } else { None };
        let follows = follower.map(|header| header.base_offset).filter(|base| *base >= self.next);
        let head = self.window.get(position, HEADER_BYTES as u64)?.to_vec();
        let mend = self.mend(position, to, follows)?;
        Ok(BadRegion { from: position, to, offset: self.next, follows, what, head, mend })
    }

    /// Where the next batch begins. `None` if there is none in this file.
    fn find_next(
        &mut self,
        position: u64,
        size_bytes: Option<u64>,
        crc_is_right: bool,
    ) -> Result<Option<u64>, LogError> {
        let end = self.region.end;
        if let Some(claimed) = size_bytes.map(|size_bytes| position + size_bytes) {
            if crc_is_right {
                return Ok((claimed < end).then_some(claimed));
            }
            if let Some(follower) = self.valid_at(claimed)? {
                let header = self.header_at(position)?;
                let agrees = header.is_some_and(|header| {
                    let next = header.last_offset().next();
                    let is_gap = follower.base_offset <= self.rules.gaps_below;
                    header.base_offset == self.next
                        && (next == follower.base_offset || is_gap && next < follower.base_offset)
                });
                if agrees {
                    return Ok(Some(claimed));
                }
                // The length may be what is wrong, and lead over batches that are right.
                return Ok(self.search(position + 1, claimed, Some(claimed))?.or(Some(claimed)));
            }
        }
        match self.indexed_after(position)? {
            Some(known) => Ok(self.search(position + 1, known, Some(known))?.or(Some(known))),
            None => self.search(position + 1, end, None),
        }
    }

    /// Where a batch begins according to the offset index, checked.
    fn indexed_after(&mut self, position: u64) -> Result<Option<u64>, LogError> {
        let from = self.index.partition_point(|(_, at)| *at <= position);
        for at in from..self.index.len().min(from + INDEX_TRIES_MAX) {
            let Some((offset, at)) = self.index.get(at).copied() else { break };
            if self.valid_at(at)?.is_some_and(|header| header.last_offset() == offset) {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// Looks at each byte of `[from, to)` for a batch that leads to `goal`.
    fn search(&mut self, from: u64, to: u64, goal: Option<u64>) -> Result<Option<u64>, LogError> {
        let mut position = from;
        while position + HEADER_BYTES as u64 <= to.min(self.region.end) {
            let bytes = self.window.get(position, HEADER_BYTES as u64)?;
            // The magic first: it tells almost all positions apart without decoding.
            let header = match bytes.get(16) {
                Some(2) => BatchHeader::decode(bytes).ok(),
                _ => None,
            };
            if let Some(header) = header.filter(|header| self.may_follow(header)) {
                let leads = self.leads_to(position, &header, goal)?;
                if leads && self.valid_at(position)?.is_some() {
                    return Ok(Some(position));
                }
            }
            position += 1;
        }
        Ok(None)
    }

    fn may_follow(&self, header: &BatchHeader) -> bool {
        header.base_offset >= self.next
            && header.last_offset().get().saturating_sub(self.base.get()) <= i64::from(i32::MAX)
            && header.record_count >= 0
    }

    /// Whether the headers from `position` on lead to `goal`; without one, whether they lead anywhere.
    fn leads_to(
        &self,
        position: u64,
        header: &BatchHeader,
        goal: Option<u64>,
    ) -> Result<bool, LogError> {
        let goal_or_end = goal.unwrap_or(self.region.end);
        let (mut at, mut last) = (position + header.size_bytes, header.last_offset());
        for links in 0..LINKS_MAX {
            if at >= goal_or_end {
                return Ok(at == goal_or_end);
            }
            match self.header_at(at)?.filter(|header| header.base_offset > last) {
                Some(header) if goal.is_some() || links < LINKS_ENOUGH => {
                    (at, last) = (at + header.size_bytes, header.last_offset());
                }
                Some(_) => return Ok(true),
                None => return Ok(goal.is_none() && links > 0),
            }
        }
        Ok(goal.is_none())
    }

    /// A header for `[from, to)` under which the CRC is right and the offsets fit, if there is one.
    fn mend(
        &mut self,
        from: u64,
        to: u64,
        follows: Option<Offset>,
    ) -> Result<Option<Mend>, LogError> {
        let size_bytes = to - from;
        if size_bytes < HEADER_BYTES as u64 || size_bytes > BATCH_BYTES_MAX {
            return Ok(None);
        }
        let behind = follows.or(self.rules.ends_at.filter(|_| to == self.region.end));
        let (next, gaps_below) = (self.next, self.rules.gaps_below);
        let (known, before) = (self.known_epoch(next), self.epoch);
        let any_offsets = self.rules.any_offsets;
        let bytes = self.window.get(from, size_bytes)?;
        let (Some(old), Some(covered)) = (bytes.first_chunk::<HEADER_BYTES>(), bytes.get(21..))
        else {
            return Ok(None);
        };
        if any_offsets || crc32c::crc32c(covered).to_be_bytes() != old[17..21] {
            return Ok(None);
        }
        let delta = i64::from(i32::from_be_bytes([old[23], old[24], old[25], old[26]]));
        let own = Offset(i64::from_be_bytes(old[..8].try_into().unwrap_or_default()));
        let fits = |base: &Offset| {
            let after = base.plus(delta).next();
            let begins = *base == next || *base > next && *base <= gaps_below;
            let ends = behind
                .is_none_or(|behind| after == behind || after < behind && behind <= gaps_below);
            begins && ends
        };
        let Some(base) = [own, next].into_iter().find(fits).filter(|_| delta >= 0) else {
            return Ok(None);
        };
        let own_epoch = LeaderEpoch(i32::from_be_bytes([old[12], old[13], old[14], old[15]]));
        let epoch = known.or(before).unwrap_or(own_epoch);
        let mut header = *old;
        let length = i32::try_from(size_bytes - 12).unwrap_or(i32::MAX);
        header[..8].copy_from_slice(&base.get().to_be_bytes());
        header[8..12].copy_from_slice(&length.to_be_bytes());
        header[12..16].copy_from_slice(&epoch.get().to_be_bytes());
        header[16] = 2;
        let names =
            [("offset", 0..8), ("length", 8..12), ("leader epoch", 12..16), ("magic", 16..17)];
        let changed = names.into_iter().filter(|(_, at)| header[at.clone()] != old[at.clone()]);
        let fields: Vec<&str> = changed.map(|(name, _)| name).collect();
        let mend = Mend { header, fields: fields.join(", "), last_offset: base.plus(delta) };
        Ok((!fields.is_empty()).then_some(mend))
    }
}

fn pretty(offset: Option<Offset>) -> String {
    offset.map_or_else(|| "nothing".to_owned(), |offset| offset.to_string())
}

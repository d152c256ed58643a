//! Judging one partition.

use std::io;
use std::path::PathBuf;

use weir_protocol::batch::BatchView;
use weir_protocol::{LeaderEpoch, Offset};

use super::indexes::{OffsetIndexCheck, SegmentState, TimeIndexCheck};
use super::plan::{Action, Change, PartitionPlan, SegmentPlan};
use super::txns::TxnCheck;
use super::{Context, Finding, FindingKind, VerifyReport};
use crate::error::LogError;
use crate::files;
use crate::inspect::{self, walk, BadRegion, Found, PartitionFiles, SegmentFiles, WalkRules};

/// Kafka's topics that are always compacted.
const COMPACTED: [&str; 2] = ["__consumer_offsets", "__transaction_state"];

const REMEDY_DAMAGE: &str = "`weir log verify --repair` keeps a copy and makes the log readable \
                             around it; or restore the segment from a copy";
const REMEDY_MEND: &str =
    "the records are intact; `weir log verify --repair` sets the header right";
const REMEDY_INDEX: &str = "`weir log verify --repair` builds it again from the log";
const REMEDY_STALE: &str = "nothing: the next start builds it again";
const REMEDY_TAIL: &str = "nothing: the next start cuts it, nobody was told of these records";
const REMEDY_JOURNAL: &str =
    "nothing: the next start writes what was committed again, from the commit journal";
const REMEDY_START: &str =
    "start and stop the broker once: its commit journal may write it again; \
                            then verify once more";
const REMEDY_RECORDS: &str = "the bytes are as the producer sent them: fix the producer, and let \
                              consumers seek past them";
const REMEDY_SNAPSHOT: &str =
    "`weir log verify --repair` sets it aside, and a start reads the log \
                               instead; one that is cut or empty a start removes by itself";
const REMEDY_EPOCHS: &str = "`weir log verify --repair` writes it anew from the batches";
const REMEDY_METADATA: &str = "restore it from a copy; weir goes on without it, Kafka does not";

/// Judges the files of one partition and says what a repair would do, if anything.
pub(super) fn judge(
    context: &Context<'_>,
    files: &PartitionFiles,
    report: &mut VerifyReport,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Option<PartitionPlan>, LogError> {
    let mut judge = Judge::new(context, files, report, progress);
    judge.small_files()?;
    judge.segments()?;
    judge.end()?;
    judge.snapshots()?;
    let plan = judge.plan;
    Ok((!plan.is_empty()).then_some(plan))
}

struct Judge<'a, 'c> {
    context: &'a Context<'c>,
    files: &'a PartitionFiles,
    report: &'a mut VerifyReport,
    progress: &'a mut dyn FnMut(u64, u64),
    plan: PartitionPlan,
    /// As the checkpoint says; empty if it is not there or bad.
    epochs: Vec<(LeaderEpoch, Offset)>,
    /// As the batches say.
    seen_epochs: Vec<(LeaderEpoch, Offset)>,
    epochs_disagree: Option<String>,
    /// Of the last batch so far.
    epoch_before: Option<LeaderEpoch>,
    /// Below it everything was on disk once.
    synced: Offset,
    /// Where the next start begins to read after an unclean stop.
    recovery_point: Offset,
    gaps_below: Offset,
    /// The offset that should come next.
    next: Offset,
    txns: TxnCheck,
    /// A bad end was reported, so that a short log needs no finding of its own.
    tail_is_reported: bool,
}

/// What a walk over one segment gathers.
struct SegmentWalk {
    offsets: OffsetIndexCheck,
    times: TimeIndexCheck,
    bad: Vec<BadRegion>,
    has_damage: bool,
    bytes: u64,
}

impl<'a, 'c> Judge<'a, 'c> {
    fn new(
        context: &'a Context<'c>,
        files: &'a PartitionFiles,
        report: &'a mut VerifyReport,
        progress: &'a mut dyn FnMut(u64, u64),
    ) -> Self {
        let key = (files.topic.clone(), files.partition);
        let recovery_point = context.recovery_points.get(&key);
        let high_watermark = context.high_watermarks.get(&key).filter(|_| !context.is_replayed);
        let synced = recovery_point.max(high_watermark).copied();
        let cleaned = context.cleaned.get(&key).copied();
        let active = files.segments.last().map(|segment| segment.base);
        let is_compacted = COMPACTED.contains(&&*files.topic)
            || (context.options.is_compacted)(&files.topic).unwrap_or(false);
        Self {
            plan: PartitionPlan {
                topic: files.topic.clone(),
                partition: files.partition,
                dir: files.dir.clone(),
                segments: std::collections::BTreeMap::new(),
                epochs: None,
                bad_files: Vec::new(),
            },
            epochs: Vec::new(),
            seen_epochs: Vec::new(),
            epochs_disagree: None,
            epoch_before: None,
            synced: synced.unwrap_or(Offset(0)),
            recovery_point: recovery_point.copied().unwrap_or(Offset(0)),
            gaps_below: cleaned.max(active.filter(|_| is_compacted)).unwrap_or(Offset(0)),
            next: files.segments.first().map_or(Offset(0), |segment| segment.base),
            txns: TxnCheck::default(),
            tail_is_reported: false,
            context,
            files,
            report,
            progress,
        }
    }

    fn finding(&self, kind: FindingKind, file: PathBuf, what: String) -> Finding {
        let remedy = match kind {
            FindingKind::DamagedBatch | FindingKind::MissingRecords | FindingKind::LostTail => {
                REMEDY_DAMAGE
            }
            FindingKind::BadRecords => REMEDY_RECORDS,
            FindingKind::OffsetIndex | FindingKind::TimeIndex | FindingKind::TxnIndex => {
                REMEDY_INDEX
            }
            FindingKind::Snapshot => REMEDY_SNAPSHOT,
            FindingKind::LeaderEpochs => REMEDY_EPOCHS,
            FindingKind::Checkpoint => super::REMEDY_CHECKPOINT,
            FindingKind::Metadata => REMEDY_METADATA,
            FindingKind::TornTail => REMEDY_TAIL,
            FindingKind::Note => "nothing",
        };
        Finding {
            kind,
            partition: Some((self.files.topic.clone(), self.files.partition)),
            file,
            position: None,
            offset: None,
            to_offset: None,
            bytes: 0,
            records: 0,
            what,
            remedy,
        }
    }

    fn add(&mut self, finding: Finding) {
        self.report.add(finding, self.context.options.findings_max);
    }

    fn segment_plan(&mut self, base: Offset) -> &mut SegmentPlan {
        self.plan.segments.entry(base).or_default()
    }

    fn small_files(&mut self) -> Result<(), LogError> {
        match inspect::topic_id(self.context.disk, &self.files.dir) {
            Err(LogError::BadFile { path, what }) => {
                self.add(self.finding(FindingKind::Metadata, path, what));
            }
            outcome => drop(outcome?),
        }
        let path = self.files.dir.join(files::LEADER_EPOCHS);
        match inspect::leader_epochs(self.context.disk, &path) {
            Err(LogError::BadFile { what, .. }) => self.epochs_disagree = Some(what),
            outcome => {
                let epochs = outcome?.unwrap_or_default();
                let rises = epochs.windows(2).all(|pair| match pair {
                    [(e1, o1), (e2, o2)] => e1 < e2 && o1 < o2,
                    _ => true,
                });
                match rises {
                    true => self.epochs = epochs,
                    false => self.epochs_disagree = Some("its lines do not rise".to_owned()),
                }
            }
        }
        for name in self.files.others.iter().filter(|name| name.contains(".damaged")) {
            let what = "bytes of an earlier damage, kept".to_owned();
            self.add(self.finding(FindingKind::Note, self.files.dir.join(name), what));
        }
        Ok(())
    }

    fn segments(&mut self) -> Result<(), LogError> {
        let files = self.files;
        for (at, segment) in files.segments.iter().enumerate() {
            let later = files.segments.get(at + 1..).unwrap_or_default();
            match self.segment(segment, later) {
                // Retention has taken it away meanwhile.
                Err(LogError::Io { source, path, .. })
                    if source.kind() == io::ErrorKind::NotFound && !self.context.clean =>
                {
                    let what = "it was removed meanwhile".to_owned();
                    self.add(self.finding(FindingKind::Note, path, what));
                    self.next = later.first().map_or(self.next, |next| next.base);
                }
                outcome => outcome?,
            }
            self.report.segments += 1;
        }
        Ok(())
    }

    fn segment(&mut self, segment: &SegmentFiles, later: &[SegmentFiles]) -> Result<(), LogError> {
        let (disk, dir, base) = (self.context.disk, &self.files.dir, segment.base);
        if base > self.next && base > self.gaps_below {
            self.hole_before(segment, self.next);
        }
        let begins_below = base < self.next;
        if segment.log_bytes == 0 && begins_below {
            let what = format!("it is empty and begins below offset {}", self.next);
            self.add(self.finding(FindingKind::Note, segment.path(dir, files::LOG), what));
            return Ok(());
        }
        self.next = self.next.max(base);
        let is_last = later.iter().all(|segment| segment.log_bytes == 0);
        let rules = WalkRules {
            next: self.next,
            gaps_below: self.gaps_below,
            ends_at: match later.first() {
                Some(next) => Some(next.base).filter(|_| next.base > self.gaps_below),
                None => self.context.clean.then_some(self.synced),
            },
            epochs: self.epochs.clone(),
            epochs_are_complete: self.context.clean,
            epoch_before: self.epoch_before,
            epoch_behind: match later.iter().find(|segment| segment.log_bytes > 0) {
                Some(next) => walk::first_epoch(disk, dir, next)?,
                None => None,
            },
            any_offsets: false,
        };
        let mut walk = SegmentWalk {
            offsets: OffsetIndexCheck::open(disk, dir, segment)?,
            times: TimeIndexCheck::open(disk, dir, segment)?,
            bad: Vec::new(),
            has_damage: false,
            bytes: 0,
        };
        // A sealed segment may have grown since it was listed, up to when it was sealed.
        let mut listed = segment.clone();
        if !later.is_empty() {
            listed.log_bytes = u64::MAX;
        }
        let end = inspect::walk_segment(disk, dir, &listed, &rules, &mut |found| {
            self.take(&mut walk, segment, found)
        })?;
        if let Some((offset, epoch)) = end.epochs_disagree {
            self.epochs_disagree.get_or_insert_with(|| {
                format!(
                    "the batches from offset {offset} on have epoch {epoch}, which it does not say"
                )
            });
        }
        self.next = self.next.max(end.next);
        (self.epoch_before, self.epochs) = (end.epoch, end.epochs);
        self.judge_bad(&mut walk, segment, later, is_last);
        self.judge_indexes(walk, segment, later.is_empty())
    }

    /// Offsets are missing between the end of the segment before and the beginning of this one.
    fn hole_before(&mut self, segment: &SegmentFiles, from: Offset) {
        let before = self.files.segments.iter().rev().find(|one| one.base < segment.base);
        let Some((base, bytes)) = before.map(|before| (before.base, before.log_bytes)) else {
            return;
        };
        let mut finding = self.finding(
            FindingKind::MissingRecords,
            files::at_offset(&self.files.dir, base, files::LOG),
            format!("the segment ends before offset {from}, the next begins at {}", segment.base),
        );
        (finding.position, finding.offset) = (Some(bytes), Some(from));
        finding.to_offset = Some(segment.base);
        finding.records = span(from, segment.base);
        self.add(finding);
        self.fill(base, bytes, bytes, from, segment.base);
    }

    /// Plans an empty batch for `[from, to)`, if there is an offset in it.
    fn fill(&mut self, base: Offset, from: u64, to: u64, first: Offset, end: Offset) {
        let known = self.epochs.iter().rev().find(|(_, start)| *start <= first);
        let epoch = known.or(self.seen_epochs.last()).map_or(LeaderEpoch(0), |(epoch, _)| *epoch);
        // An offset index cannot hold more.
        let fits = end.get().saturating_sub(base.get()) <= i64::from(i32::MAX);
        let action = match first < end && fits {
            true => Action::Fill { from: first, to: end, epoch },
            false if from == to => return,
            false => Action::Drop,
        };
        self.segment_plan(base).changes.push(Change { from, to, action });
    }

    fn take(
        &mut self,
        walk: &mut SegmentWalk,
        segment: &SegmentFiles,
        found: Found<'_>,
    ) -> Result<(), LogError> {
        let dir = &self.files.dir;
        match found {
            Found::Batch { position, batch } => {
                walk.offsets.batch(dir, position, &batch)?;
                walk.times.batch(dir, &batch, batch.base_offset() < self.gaps_below)?;
                self.txns.batch(&batch);
                self.note_epoch(&batch);
                self.report.batches += 1;
                self.report.records += u64::try_from(batch.record_count()).unwrap_or(0);
                self.judge_records(segment, position, &batch);
                self.note_bytes(walk, batch.size_bytes() as u64);
            }
            Found::Hole { position, from, to } => {
                walk.has_damage = true;
                let mut finding = self.finding(
                    FindingKind::MissingRecords,
                    segment.path(dir, files::LOG),
                    format!("the batch has offset {to}, {from} should follow"),
                );
                (finding.position, finding.offset) = (Some(position), Some(from));
                (finding.to_offset, finding.records) = (Some(to), span(from, to));
                self.add(finding);
                self.fill(segment.base, position, position, from, to);
            }
            Found::Bad(bad) => {
                walk.offsets.skip(dir, bad.to)?;
                walk.times.skip_all();
                self.txns.blind();
                self.note_bytes(walk, bad.to - bad.from);
                walk.bad.push(bad);
            }
        }
        Ok(())
    }

    fn note_bytes(&mut self, walk: &mut SegmentWalk, bytes: u64) {
        walk.bytes += bytes;
        self.report.bytes += bytes;
        (self.progress)(self.report.bytes, self.report.problems);
    }

    fn note_epoch(&mut self, batch: &BatchView<'_>) {
        let epoch = batch.partition_leader_epoch();
        if self.seen_epochs.last().is_none_or(|(last, _)| *last < epoch) {
            self.seen_epochs.push((epoch, batch.base_offset()));
        }
    }

    fn judge_records(&mut self, segment: &SegmentFiles, position: u64, batch: &BatchView<'_>) {
        let count = i64::from(batch.record_count());
        let what = if count < 0 || count > i64::from(batch.last_offset_delta()) + 1 {
            Some(format!(
                "the header says {count} records for offsets {} to {}",
                batch.base_offset(),
                batch.last_offset()
            ))
        } else if let Err(error) = batch.codec() {
            Some(error.to_string())
        } else if self.context.options.deep {
            decode_all(batch, self.context.options.inflate_bytes_max)
        } else {
            None
        };
        let Some(what) = what else { return };
        let path = segment.path(&self.files.dir, files::LOG);
        let mut finding = self.finding(FindingKind::BadRecords, path, what);
        (finding.position, finding.offset) = (Some(position), Some(batch.base_offset()));
        finding.to_offset = Some(batch.last_offset().next());
        finding.bytes = batch.size_bytes() as u64;
        finding.records = u64::try_from(count).unwrap_or(0);
        self.add(finding);
    }

    /// Torn tail or damage: what the bad regions of a segment are.
    fn judge_bad(
        &mut self,
        walk: &mut SegmentWalk,
        segment: &SegmentFiles,
        later: &[SegmentFiles],
        is_last: bool,
    ) {
        let end = walk.bytes;
        let log_end = match later.first() {
            Some(next) => next.base,
            None => self.synced,
        };
        for bad in std::mem::take(&mut walk.bad) {
            let at_end = bad.to >= end && bad.follows.is_none();
            // The journal holds what was committed last. What has valid batches behind it is reported all
            // the same: only the next start can tell.
            let is_journaled = self.context.is_replayed && bad.offset >= self.synced;
            let is_replayed = is_journaled && at_end && is_last;
            let is_tail = at_end && is_last && !self.context.clean && bad.offset >= log_end;
            let to_offset = bad.follows.or(bad.mend.as_ref().map(|mend| mend.last_offset.next()));
            let to_offset = to_offset.unwrap_or(log_end).max(bad.offset);
            let kind = if is_tail || is_replayed {
                FindingKind::TornTail
            } else {
                FindingKind::DamagedBatch
            };
            let path = segment.path(&self.files.dir, files::LOG);
            let mut finding = self.finding(kind, path, bad.what.clone());
            (finding.position, finding.offset) = (Some(bad.from), Some(bad.offset));
            finding.bytes = bad.to - bad.from;
            if is_replayed {
                finding.remedy = REMEDY_JOURNAL;
                self.add(finding);
                continue;
            }
            if is_tail {
                self.segment_plan(segment.base).cut_at = Some(bad.from);
                self.add(finding);
                continue;
            }
            walk.has_damage = true;
            if is_journaled {
                finding.remedy = REMEDY_START;
            }
            finding.to_offset = Some(to_offset);
            finding.records = span(bad.offset, to_offset);
            self.tail_is_reported |= at_end && later.is_empty();
            match bad.mend {
                Some(mend) => {
                    finding.remedy = if is_journaled { REMEDY_START } else { REMEDY_MEND };
                    finding.what = format!("{} (wrong in its header: {})", bad.what, mend.fields);
                    let action = Action::Mend {
                        header: mend.header,
                        fields: mend.fields,
                        offset: bad.offset,
                        last_offset: mend.last_offset,
                    };
                    let change = Change { from: bad.from, to: bad.to, action };
                    self.segment_plan(segment.base).changes.push(change);
                }
                None => self.fill(segment.base, bad.from, bad.to, bad.offset, to_offset),
            }
            if at_end {
                self.next = self.next.max(to_offset);
            }
            self.add(finding);
        }
    }

    fn judge_indexes(
        &mut self,
        walk: SegmentWalk,
        segment: &SegmentFiles,
        is_active: bool,
    ) -> Result<(), LogError> {
        if segment.log_bytes == 0 && walk.bytes == 0 {
            return Ok(());
        }
        let dir = self.files.dir.clone();
        let clean = self.context.clean;
        let state = SegmentState {
            is_final: clean || !is_active,
            is_cleaned: segment.base < self.gaps_below,
            has_damage: walk.has_damage,
            end: walk.bytes,
        };
        // What the next start reads again it also indexes again.
        let is_recovered = !clean && (is_active || self.next > self.synced);
        let found = [
            (FindingKind::OffsetIndex, files::OFFSET_INDEX, walk.offsets.finish(state)),
            (FindingKind::TimeIndex, files::TIME_INDEX, walk.times.finish(state)),
        ];
        for (kind, suffix, problem) in found {
            let Some(what) = problem else { continue };
            let kind = if is_recovered { FindingKind::Note } else { kind };
            let mut finding = self.finding(kind, segment.path(&dir, suffix), what);
            if is_recovered {
                finding.remedy = REMEDY_STALE;
            } else {
                self.segment_plan(segment.base).rebuild_indexes = true;
            }
            self.add(finding);
        }
        self.judge_txns(segment, is_recovered)
    }

    fn judge_txns(&mut self, segment: &SegmentFiles, is_recovered: bool) -> Result<(), LogError> {
        let path = segment.path(&self.files.dir, files::TXN_INDEX);
        let stored = match segment.txn_index_bytes {
            None => Ok(Vec::new()),
            Some(_) => match inspect::aborted_txns(self.context.disk, &path) {
                Ok(stored) => Ok(stored),
                Err(LogError::BadFile { what, .. }) => Err(what),
                Err(error) => return Err(error),
            },
        };
        let is_cleaned = segment.base < self.gaps_below;
        let kept_to = if is_recovered { self.recovery_point } else { self.next };
        let problem = self.txns.finish(stored, segment.base, self.next, kept_to, is_cleaned);
        let Some((what, right, stays)) = problem else { return Ok(()) };
        let is_recovered = is_recovered && !stays;
        let kind = if is_recovered { FindingKind::Note } else { FindingKind::TxnIndex };
        let mut finding = self.finding(kind, path, what);
        if is_recovered {
            finding.remedy = REMEDY_STALE;
        } else {
            self.segment_plan(segment.base).txns = Some(right);
        }
        self.add(finding);
        Ok(())
    }

    /// What only the whole log shows.
    fn end(&mut self) -> Result<(), LogError> {
        let key = (self.files.topic.clone(), self.files.partition);
        let last = self.files.segments.last();
        let path = last
            .map_or_else(|| self.files.dir.clone(), |last| last.path(&self.files.dir, files::LOG));
        if self.next < self.synced && !self.tail_is_reported {
            let what = format!(
                "the log ends at offset {}, it was synced up to {}",
                self.next, self.synced
            );
            let mut finding = self.finding(FindingKind::LostTail, path.clone(), what);
            (finding.position, finding.offset) = (last.map(|last| last.log_bytes), Some(self.next));
            finding.to_offset = Some(self.synced);
            finding.records = span(self.next, self.synced);
            self.add(finding);
            if let Some((base, bytes)) = last.map(|last| (last.base, last.log_bytes)) {
                self.fill(base, bytes, bytes, self.next, self.synced);
            }
        }
        let log_start = self.context.log_starts.get(&key).copied();
        if let Some(start) = log_start.filter(|start| *start > self.next.max(self.synced)) {
            let what = format!("the log starts at offset {start} and ends at {}", self.next);
            let finding = self.finding(FindingKind::Checkpoint, path, what);
            self.add(Finding { remedy: super::REMEDY_NONE, ..finding });
        }
        if let Some(what) = self.epochs_disagree.take() {
            let path = self.files.dir.join(files::LEADER_EPOCHS);
            self.add(self.finding(FindingKind::LeaderEpochs, path, what));
            self.plan.epochs = Some(std::mem::take(&mut self.seen_epochs));
        }
        self.plan.segments.retain(|_, plan| !plan.is_empty());
        Ok(())
    }

    fn snapshots(&mut self) -> Result<(), LogError> {
        for offset in self.files.snapshots.clone() {
            let path = files::at_offset(&self.files.dir, offset, files::SNAPSHOT);
            if offset > self.next.max(self.synced) {
                let what = format!("it is for offset {offset}, the log ends at {}", self.next);
                let finding = self.finding(FindingKind::Note, path, what);
                self.add(Finding { remedy: REMEDY_STALE, ..finding });
                continue;
            }
            let what = match inspect::producer_snapshot(self.context.disk, &path) {
                Ok(entries) => {
                    let wrong = entries.iter().find(|entry| entry.last_offset >= offset);
                    wrong.map(|entry| {
                        format!("producer {} has offset {}", entry.producer_id, entry.last_offset)
                    })
                }
                Err(LogError::BadFile { what, .. }) => Some(what),
                Err(LogError::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && !self.context.clean =>
                {
                    None
                }
                Err(error) => return Err(error),
            };
            let Some(what) = what else { continue };
            self.add(self.finding(FindingKind::Snapshot, path.clone(), what));
            self.plan.bad_files.push(path);
        }
        Ok(())
    }
}

fn span(from: Offset, to: Offset) -> u64 {
    u64::try_from(to.get().saturating_sub(from.get())).unwrap_or(0)
}

fn decode_all(batch: &BatchView<'_>, inflate_bytes_max: usize) -> Option<String> {
    let mut records = match batch.records(inflate_bytes_max) {
        Ok(records) => records,
        Err(error) => return Some(error.to_string()),
    };
    while let Some(record) = records.next_view() {
        if let Err(error) = record {
            return Some(error.to_string());
        }
    }
    None
}

//! Judging the files of a log directory, and repairing them, without opening it as a log.
//!
//! [`verify`] reads every byte of every segment: the CRC of each batch, whether offsets follow one
//! another, whether index entries point at batches, whether snapshots, checkpoints and leader epochs are
//! sound and agree with the log. It writes nothing and takes no lock, so it may run beside a broker.
//!
//! [`repair`] takes the directory's lock and makes the log readable around what is damaged. It drops
//! nothing in silence: before a segment is written anew, the old one is copied beside it.
//!
//! # Torn tail or damage
//! Bytes at the end of a log that are no batch are what a crash leaves of an append that nobody was told
//! of: a *torn tail*. They are damage all the same if the last stop was clean, or if they lie below an
//! offset that the checkpoints call synced. Bad bytes with valid batches behind them are always damage.
//!
//! After an unclean stop with a commit journal, a bad end above the recovery point counts as torn too:
//! the next start writes what was committed again. A repair is refused until then.
//!
//! # What it cannot see
//! - A leader epoch or base offset that was changed where no witness is left: in the only batch of a log
//!   without checkpoint, or inside a gap that the cleaner left.
//! - Records that were wrong when the producer made them; `deep` finds those that do not decode.

mod indexes;
mod partition;
mod plan;
mod repair;
mod txns;

use std::path::{Path, PathBuf};

use weir_protocol::{Offset, TimestampMs};

use crate::checkpoint::Offsets;
use crate::disk::{Disk, OpenMode};
use crate::error::LogError;
use crate::files;
use crate::inspect;
use crate::journal;

pub use repair::{repair, RepairAction, RepairReport};

/// What is wrong, or worth saying, sorted by what a person worries about first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FindingKind {
    /// Bytes in a segment that are not the batch that should be there.
    DamagedBatch,
    /// Offsets that no batch has.
    MissingRecords,
    /// The log ends before an offset that was synced.
    LostTail,
    /// Records of a batch with a right CRC do not decode; or its header says what cannot be.
    BadRecords,
    /// An offset index does not fit its segment.
    OffsetIndex,
    /// A time index does not fit its segment.
    TimeIndex,
    /// A transaction index does not fit its segment.
    TxnIndex,
    /// A producer snapshot cannot be read, or says what cannot be.
    Snapshot,
    /// The leader epoch checkpoint cannot be read, or contradicts the log.
    LeaderEpochs,
    /// A checkpoint of the directory cannot be read, or contradicts a log.
    Checkpoint,
    /// `partition.metadata` or `meta.properties` cannot be read.
    Metadata,
    /// Bytes at the end that the next start cuts: nobody was told of them.
    TornTail,
    /// Something to know, and nothing to mend.
    Note,
}

impl FindingKind {
    /// Whether something must be done about it.
    #[must_use]
    pub const fn is_problem(self) -> bool {
        !matches!(self, Self::TornTail | Self::Note)
    }

    /// Whether records are lost or cannot be read.
    #[must_use]
    pub const fn is_damage(self) -> bool {
        matches!(
            self,
            Self::DamagedBatch | Self::MissingRecords | Self::LostTail | Self::BadRecords
        )
    }

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DamagedBatch => "damaged batch",
            Self::MissingRecords => "missing records",
            Self::LostTail => "lost tail",
            Self::BadRecords => "bad records",
            Self::OffsetIndex => "offset index",
            Self::TimeIndex => "time index",
            Self::TxnIndex => "transaction index",
            Self::Snapshot => "producer snapshot",
            Self::LeaderEpochs => "leader epochs",
            Self::Checkpoint => "checkpoint",
            Self::Metadata => "metadata",
            Self::TornTail => "torn tail",
            Self::Note => "note",
        }
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing.
    pub kind: FindingKind,
    /// The partition, unless it is about the directory.
    pub partition: Option<(String, i32)>,
    /// The file.
    pub file: PathBuf,
    /// Where in it.
    pub position: Option<u64>,
    /// The first offset concerned.
    pub offset: Option<Offset>,
    /// One past the last, if that is known.
    pub to_offset: Option<Offset>,
    /// Bytes concerned.
    pub bytes: u64,
    /// Records concerned, at most.
    pub records: u64,
    /// What is wrong.
    pub what: String,
    /// What can be done.
    pub remedy: &'static str,
}

/// How to verify.
#[derive(Clone, Copy)]
pub struct VerifyOptions<'a> {
    /// Decode every record too.
    pub deep: bool,
    /// What the records of one batch may inflate to, in bytes.
    pub inflate_bytes_max: usize,
    /// Only this topic.
    pub topic: Option<&'a str>,
    /// Only this partition of each topic.
    pub partition: Option<i32>,
    /// Findings that are kept; more are counted.
    pub findings_max: usize,
    /// Whether the cleaner compacts a topic, if the caller knows. Else only what the cleaner's
    /// checkpoint names may have gaps, and Kafka's own topics.
    pub is_compacted: &'a dyn Fn(&str) -> Option<bool>,
    /// The time for what a repair writes anew.
    pub now: TimestampMs,
}

impl std::fmt::Debug for VerifyOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyOptions")
            .field("deep", &self.deep)
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .finish_non_exhaustive()
    }
}

impl Default for VerifyOptions<'_> {
    fn default() -> Self {
        Self {
            deep: false,
            inflate_bytes_max: 128 << 20,
            topic: None,
            partition: None,
            findings_max: 10_000,
            is_compacted: &|_| None,
            now: TimestampMs(0),
        }
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of segments that were read.
    pub bytes_done: u64,
    /// Bytes of all segments.
    pub bytes_total: u64,
    /// Partitions that are done.
    pub partitions_done: usize,
    /// All partitions.
    pub partitions_total: usize,
    /// Problems so far.
    pub problems: u64,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// The last stop was clean.
    pub clean: bool,
    /// Partitions that were read.
    pub partitions: usize,
    /// Segments that were read.
    pub segments: usize,
    /// Bytes of segments that were read.
    pub bytes: u64,
    /// Batches whose CRC is right.
    pub batches: u64,
    /// Records in them, as their headers say.
    pub records: u64,
    /// What was found, partition by partition.
    pub findings: Vec<Finding>,
    /// Problems, kept or not.
    pub problems: u64,
    /// Findings that were not kept.
    pub findings_dropped: u64,
}

impl VerifyReport {
    /// Whether nothing must be done.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.problems == 0
    }

    fn add(&mut self, finding: Finding, findings_max: usize) {
        self.problems += u64::from(finding.kind.is_problem());
        if self.findings.len() < findings_max {
            self.findings.push(finding);
        } else {
            self.findings_dropped += 1;
        }
    }
}

/// What the directory says of its logs.
struct Context<'a> {
    disk: &'a dyn Disk,
    options: &'a VerifyOptions<'a>,
    clean: bool,
    recovery_points: Offsets,
    log_starts: Offsets,
    high_watermarks: Offsets,
    cleaned: Offsets,
    /// The next start writes what was committed last again, from the commit journal.
    is_replayed: bool,
}

const REMEDY_CHECKPOINT: &str =
    "the next start recovers every log; `weir log verify --repair` sets the file aside";
const REMEDY_NONE: &str = "nothing: restore the file from a copy";

/// Verifies a log directory. See the [module](self).
///
/// # Errors
/// What the disk says of files that are there; what is wrong with their bytes is a finding.
pub fn verify(
    disk: &dyn Disk,
    dir: &Path,
    options: &VerifyOptions<'_>,
    progress: &mut dyn FnMut(&Progress),
) -> Result<VerifyReport, LogError> {
    judge_all(disk, dir, options, progress).map(|(report, _)| report)
}

/// As [`verify`], and what a repair would do.
fn judge_all(
    disk: &dyn Disk,
    dir: &Path,
    options: &VerifyOptions<'_>,
    progress: &mut dyn FnMut(&Progress),
) -> Result<(VerifyReport, plan::Plan), LogError> {
    let mut report = VerifyReport::default();
    let mut plan = plan::Plan::default();
    // Before the logs: while a broker writes, these only grow behind what is read later.
    let context = read_context(disk, dir, options, &mut report, &mut plan)?;
    report.clean = context.clean;
    let mut partitions = inspect::partitions(disk, dir)?;
    let is_asked_for = |topic: &str, partition: i32| {
        options.topic.is_none_or(|asked| topic == asked)
            && options.partition.is_none_or(|asked| partition == asked)
    };
    partitions.retain(|files| is_asked_for(&files.topic, files.partition));
    if context.clean {
        // After any other stop one may have been deleted since the checkpoint.
        let is_there = |topic: &str, partition: i32| {
            partitions.iter().any(|files| files.topic == topic && files.partition == partition)
        };
        let points = context.recovery_points.iter();
        let gone = points.filter(|((topic, partition), point)| {
            **point > Offset(0) && is_asked_for(topic, *partition) && !is_there(topic, *partition)
        });
        for ((topic, partition), point) in gone {
            let name = files::partition_dir(topic, *partition);
            if files::parse_partition_dir(&name).is_some() {
                report.add(
                    gone_partition(dir.join(name), topic, *partition, *point),
                    options.findings_max,
                );
            }
        }
    }
    let bytes = |files: &inspect::PartitionFiles| -> u64 {
        files.segments.iter().map(|segment| segment.log_bytes).sum()
    };
    let mut state = Progress {
        bytes_total: partitions.iter().map(bytes).sum(),
        partitions_total: partitions.len(),
        ..Progress::default()
    };
    for files in &partitions {
        let planned =
            partition::judge(&context, files, &mut report, &mut |bytes_done, problems| {
                (state.bytes_done, state.problems) = (bytes_done, problems);
                progress(&state);
            })?;
        plan.partitions.extend(planned);
        report.partitions += 1;
        state.partitions_done += 1;
    }
    progress(&Progress { bytes_done: report.bytes, problems: report.problems, ..state });
    Ok((report, plan))
}

fn gone_partition(file: PathBuf, topic: &str, partition: i32, point: Offset) -> Finding {
    Finding {
        kind: FindingKind::LostTail,
        partition: Some((topic.to_owned(), partition)),
        file,
        position: None,
        offset: Some(Offset(0)),
        to_offset: Some(point),
        bytes: 0,
        records: u64::try_from(point.get()).unwrap_or(0),
        what: format!("the directory is gone; the log in it was synced up to offset {point}"),
        remedy: REMEDY_NONE,
    }
}

fn read_context<'a>(
    disk: &'a dyn Disk,
    dir: &Path,
    options: &'a VerifyOptions<'a>,
    report: &mut VerifyReport,
    plan: &mut plan::Plan,
) -> Result<Context<'a>, LogError> {
    let finding = |kind, file: PathBuf, what, remedy| Finding {
        kind,
        partition: None,
        file,
        position: None,
        offset: None,
        to_offset: None,
        bytes: 0,
        records: 0,
        what,
        remedy,
    };
    let meta = dir.join(files::META_PROPERTIES);
    match crate::checkpoint::MetaProperties::read(disk, &meta) {
        Err(LogError::BadFile { path, what }) => {
            let of_dir = finding(FindingKind::Metadata, path, what, REMEDY_NONE);
            report.add(of_dir, options.findings_max);
        }
        outcome => drop(outcome?),
    }
    let clean = inspect::has_clean_mark(disk, dir)?;
    let mut read = |name: &str| match inspect::offset_checkpoint(disk, &dir.join(name)) {
        // Kafka makes them empty, and fills them later.
        Err(LogError::BadFile { path, .. }) if !clean && is_empty(disk, &path) => {
            Ok(Offsets::new())
        }
        Err(LogError::BadFile { path, what }) => {
            plan.bad_files.push(path.clone());
            let of_file = finding(FindingKind::Checkpoint, path, what, REMEDY_CHECKPOINT);
            report.add(of_file, options.findings_max);
            Ok(Offsets::new())
        }
        outcome => outcome,
    };
    Ok(Context {
        is_replayed: !clean && journal::is_needed(disk, dir)?,
        recovery_points: read(files::RECOVERY_POINTS)?,
        log_starts: read(files::LOG_STARTS)?,
        high_watermarks: read(files::HIGH_WATERMARKS)?,
        cleaned: read(files::CLEANED_OFFSETS)?,
        clean,
        disk,
        options,
    })
}

fn is_empty(disk: &dyn Disk, path: &Path) -> bool {
    let len_bytes = disk.open(path, OpenMode::Existing).and_then(|file| file.len_bytes());
    len_bytes.is_ok_and(|len_bytes| len_bytes == 0)
}

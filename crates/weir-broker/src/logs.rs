//! [`Logs`]: the core's view of its log directory, in the words of Kafka's protocol.
//!
//! All that the broker asks of weir-log goes through here, so that what an error of a log means to a client is said once.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use weir_log::{
    AppendError, AppendOrigin, CleanOutcome, CleanState, CleanerOptions, CleanerStats, CommitError,
    CommitGroup, Committed, Disk, FileSlice, Log, LogConfig, LogDir, LogDirOptions, LogError,
    LogId, RecoveryReport, Uncleanable, Upkeep, UpkeepDone,
};
use weir_protocol::api::fetch::AbortedTransaction;
use weir_protocol::batch::{self, BatchView, Record};
use weir_protocol::{ErrorCode, LeaderEpoch, Offset, PartitionId, Str, TimestampMs, Uuid};

use crate::produce::Refusal;
use crate::time_search::{TimeSearch, Wanted};

/// What became of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    /// Offset of its first record.
    pub(crate) base_offset: Offset,
    /// The time that was written into it, if its topic wants that.
    pub(crate) append_time: Option<TimestampMs>,
    /// It had been appended before, nothing was written.
    pub(crate) duplicate: bool,
    /// The first offset of its log.
    pub(crate) log_start_offset: Offset,
}

/// The offsets of a partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The first that is kept.
    pub(crate) start: Offset,
    /// Readers see what is before it: the synced offset.
    pub(crate) high_watermark: Offset,
    /// Readers of what is committed see what is before it.
    pub(crate) last_stable: Offset,
    /// One past the last.
    pub(crate) end: Offset,
    /// Of new batches.
    pub(crate) leader_epoch: LeaderEpoch,
}

impl Bounds {
    /// A partition that has not been written to.
    const EMPTY: Self = Self {
        start: Offset(0),
        high_watermark: Offset(0),
        last_stable: Offset(0),
        end: Offset(0),
        leader_epoch: LeaderEpoch(0),
    };

    /// Whether a client's idea of the leader epoch is current (KIP-320).
    pub(crate) fn check_epoch(&self, known: LeaderEpoch) -> Result<(), ErrorCode> {
        match known {
            LeaderEpoch::NONE => Ok(()),
            known if known < self.leader_epoch => Err(ErrorCode::FencedLeaderEpoch),
            known if known > self.leader_epoch => Err(ErrorCode::UnknownLeaderEpoch),
            _ => Ok(()),
        }
    }
}

/// A record found by its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimedOffset {
    pub(crate) offset: Offset,
    pub(crate) timestamp: TimestampMs,
    pub(crate) leader_epoch: LeaderEpoch,
}

/// The logs.
#[derive(Debug)]
pub(crate) struct Logs {
    dir: LogDir,
    /// Why the directory is offline, though it does not know itself.
    offline: Option<CommitError>,
    full: Option<DiskFull>,
    /// It was said that producers are forgotten before their time.
    forgetting_said: bool,
    inflate_bytes_max: usize,
}

/// Appends were refused for want of room.
#[derive(Debug)]
struct DiskFull {
    why: String,
    /// When the last one was.
    last: TimestampMs,
    /// When it was last said in the log.
    said: TimestampMs,
}

/// A full disk is said this often while it lasts; it is over when none was refused for as long.
const FULL_SAID_MS: i64 = 10_000;

impl Logs {
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        path: &Path,
        options: LogDirOptions,
        inflate_bytes_max: usize,
        now: TimestampMs,
    ) -> Result<(Self, RecoveryReport), LogError> {
        let (dir, report) = LogDir::open(disk, path, options, now)?;
        Ok((
            Self { dir, offline: None, full: None, forgetting_said: false, inflate_bytes_max },
            report,
        ))
    }

    pub(crate) fn cluster_id(&self) -> &str {
        self.dir.cluster_id()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (LogId, &Log)> {
        self.dir.logs()
    }

    pub(crate) fn get(&self, log: LogId) -> Option<&Log> {
        self.dir.get(log)
    }

    pub(crate) fn create(
        &mut self,
        topic: &str,
        topic_id: Uuid,
        partition: PartitionId,
        config: LogConfig,
        now: TimestampMs,
    ) -> Result<LogId, LogError> {
        self.check_offline()?;
        self.dir.create_log(topic, topic_id, partition, config, now)
    }

    pub(crate) fn delete(&mut self, log: LogId, now: TimestampMs) -> Result<(), LogError> {
        self.dir.delete_log(log, now)
    }

    pub(crate) fn set_config(&mut self, log: LogId, config: LogConfig) {
        if let Some(log) = self.dir.get_mut(log) {
            log.set_config(config);
        }
    }

    pub(crate) fn set_cleaner(&mut self, options: CleanerOptions) {
        self.dir.set_cleaner(options);
    }

    pub(crate) fn delete_records(
        &mut self,
        log: LogId,
        before: Offset,
        now: TimestampMs,
    ) -> Result<Offset, ErrorCode> {
        self.check_offline().map_err(|error| error_of(&error))?;
        let log = self.dir.get_mut(log).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        log.delete_records(before, now).map_err(|error| error_of(&error))
    }

    pub(crate) fn find(&self, topic: &str, partition: PartitionId) -> Option<LogId> {
        self.dir.find(topic, partition)
    }

    /// Appends one batch whose CRC was checked; its offset is written into it in place.
    pub(crate) fn append(
        &mut self,
        log: LogId,
        batch: &mut [u8],
        origin: AppendOrigin,
        now: TimestampMs,
    ) -> Result<Taken, Refusal> {
        self.check_offline().map_err(|error| refusal(&AppendError::Log(error)))?;
        let log = self.dir.get_mut(log).ok_or(Refusal::bare(ErrorCode::UnknownTopicOrPartition))?;
        let appended = log.append(batch, origin, now);
        let log_start_offset = log.log_start_offset();
        match appended {
            Ok(appended) => {
                self.note_room(now);
                Ok(Taken {
                    base_offset: appended.base_offset,
                    append_time: appended.log_append_time,
                    duplicate: appended.duplicate,
                    log_start_offset,
                })
            }
            Err(error) => {
                self.note_full(&error, now);
                Err(refusal(&error))
            }
        }
    }

    /// Why records are refused for want of room, if they were lately.
    pub(crate) fn disk_full(&self) -> Option<&str> {
        self.full.as_ref().map(|full| full.why.as_str())
    }

    /// Each refused producer is told; whoever runs the broker is, too.
    fn note_full(&mut self, error: &AppendError, now: TimestampMs) {
        let AppendError::Log(full @ LogError::DiskFull { .. }) = error else { return };
        let why = full.to_string();
        let said = match &self.full {
            Some(before) if now.since(before.said) < FULL_SAID_MS => before.said,
            _ => {
                tracing::error!(%why, "records are refused until there is room");
                now
            }
        };
        self.full = Some(DiskFull { why, last: now, said });
    }

    /// A small record may find room where a large one did not, so one alone does not end it.
    fn note_room(&mut self, now: TimestampMs) {
        if self.full.take_if(|full| now.since(full.last) >= FULL_SAID_MS).is_some() {
            tracing::info!("there is room on the disk again");
        }
    }

    pub(crate) fn bounds(&self, log: LogId) -> Option<Bounds> {
        let log = self.dir.get(log)?;
        let high_watermark = log.synced_offset();
        Some(Bounds {
            start: log.log_start_offset(),
            high_watermark,
            last_stable: log.last_stable_offset().min(high_watermark),
            end: log.log_end_offset(),
            leader_epoch: log.leader_epoch(),
        })
    }

    /// The offsets of a partition that may not have been written to.
    pub(crate) fn bounds_or_empty(&self, log: Option<LogId>) -> Bounds {
        log.and_then(|log| self.bounds(log)).unwrap_or(Bounds::EMPTY)
    }

    pub(crate) fn read(
        &self,
        log: LogId,
        offset: Offset,
        bytes_max: usize,
        up_to: Offset,
    ) -> Result<(Vec<FileSlice>, Offset), ErrorCode> {
        let log = self.dir.get(log).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let read = log.read(offset, bytes_max, up_to).map_err(|error| error_of(&error))?;
        Ok((read.slices, read.next_offset))
    }

    /// The aborted transactions that a reader of `[from, up_to)` must leave out.
    pub(crate) fn aborted(
        &self,
        log: LogId,
        from: Offset,
        up_to: Offset,
    ) -> Result<Vec<AbortedTransaction>, ErrorCode> {
        let log = self.dir.get(log).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let aborted = log.aborted_txns(from, up_to).map_err(|error| error_of(&error))?;
        let listed = aborted.into_iter().map(|txn| AbortedTransaction {
            producer_id: txn.producer_id.get(),
            first_offset: txn.first_offset.get(),
        });
        Ok(listed.collect())
    }

    /// The epoch `offset` was written under; the current one if it has not been written yet.
    pub(crate) fn epoch_of(&self, log: LogId, offset: Offset) -> LeaderEpoch {
        let Some(log) = self.dir.get(log) else { return LeaderEpoch::NONE };
        log.epoch_for_offset(offset).unwrap_or_else(|| log.leader_epoch())
    }

    /// The largest epoch up to `epoch`, and where it ends. A partition that has not been written to is in its first.
    pub(crate) fn epoch_end(
        &self,
        log: Option<LogId>,
        epoch: LeaderEpoch,
    ) -> Option<(LeaderEpoch, Offset)> {
        match log {
            Some(log) => self.dir.get(log)?.end_offset_for_epoch(epoch),
            None if epoch == Bounds::EMPTY.leader_epoch => Some((epoch, Bounds::EMPTY.end)),
            None => None,
        }
    }

    /// A search for the first record at or after `time` that readers below `bound` see.
    pub(crate) fn search_time(
        &self,
        log: LogId,
        time: TimestampMs,
        bound: Offset,
    ) -> Result<TimeSearch, ErrorCode> {
        let log = self.dir.get(log).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let walk = log.time_walk(time, log.log_start_offset()).map_err(|error| error_of(&error))?;
        let beyond = walk.beyond().filter(|beyond| *beyond < bound).map(|offset| {
            let leader_epoch = log.epoch_for_offset(offset).unwrap_or_else(|| log.leader_epoch());
            TimedOffset { offset, timestamp: time, leader_epoch }
        });
        Ok(self.search(log, bound, Wanted::AtOrAfter { time, walk, beyond }))
    }

    /// A search for the first of the records with the largest timestamp.
    pub(crate) fn search_latest(&self, log: LogId, bound: Offset) -> Result<TimeSearch, ErrorCode> {
        let log = self.dir.get(log).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let max = log.max_timestamp().map_err(|error| error_of(&error))?;
        Ok(self.search(log, bound, Wanted::Latest(max)))
    }

    fn search(&self, log: &Log, bound: Offset, wanted: Wanted) -> TimeSearch {
        let range = log.log_start_offset()..bound;
        TimeSearch { wanted, range, inflate_bytes_max: self.inflate_bytes_max }
    }

    /// Reads the records of a log from its start to its end, but for control records.
    pub(crate) fn for_each_record(
        &self,
        log: LogId,
        bytes_max: usize,
        mut then: impl FnMut(Option<Bytes>, Option<Bytes>),
    ) -> Result<(), LogError> {
        self.for_each_batch(log, bytes_max, |batch, records| {
            if !batch.is_control() {
                records.for_each(|record| then(record.key, record.value));
            }
        })
    }

    /// Reads the batches of a log from its start to its end.
    pub(crate) fn for_each_batch(
        &self,
        log: LogId,
        bytes_max: usize,
        mut then: impl FnMut(&BatchView<'_>, &mut dyn Iterator<Item = Record>),
    ) -> Result<(), LogError> {
        let Some(log) = self.dir.get(log) else { return Err(LogError::NoSuchLog) };
        let mut offset = log.log_start_offset();
        let end = log.log_end_offset();
        while offset < end {
            let read = log.read(offset, bytes_max, end)?;
            for slice in &read.slices {
                let bytes = slice.read().map_err(|source| LogError::Io {
                    action: "read",
                    path: format!("{}-{}", log.topic(), log.partition()).into(),
                    source,
                })?;
                for view in batch::batches(&bytes).map_while(Result::ok) {
                    let Ok(records) = view.records(self.inflate_bytes_max) else { continue };
                    then(&view, &mut records.map_while(Result::ok));
                }
            }
            if read.next_offset <= offset {
                break;
            }
            offset = read.next_offset;
        }
        Ok(())
    }

    pub(crate) fn has_dirty(&self) -> bool {
        self.dir.has_dirty()
    }

    pub(crate) fn begin_commit(&mut self) -> Option<CommitGroup> {
        if self.offline.is_some() {
            return None;
        }
        self.dir.begin_commit()
    }

    pub(crate) fn finish_commit(&mut self, committed: Committed) -> Vec<(LogId, Offset)> {
        self.dir.finish_commit(committed)
    }

    pub(crate) fn failure(&self) -> Option<CommitError> {
        self.offline.clone().or_else(|| self.dir.failure())
    }

    /// Refuses appends and commits from now on.
    pub(crate) fn take_offline(&mut self, reason: &str) {
        self.offline.get_or_insert_with(|| CommitError { reason: Arc::from(reason) });
    }

    fn check_offline(&self) -> Result<(), LogError> {
        match &self.offline {
            None => Ok(()),
            Some(error) => Err(LogError::Offline { reason: Arc::clone(&error.reason) }),
        }
    }

    pub(crate) fn tick(&mut self, now: TimestampMs) -> Result<(), LogError> {
        let report = self.dir.tick(now)?;
        if report.segments_deleted > 0 {
            tracing::info!(segments = report.segments_deleted, "retention deleted segments");
        }
        if report.producers_forgotten > 0 && !self.forgetting_said {
            self.forgetting_said = true;
            tracing::warn!(
                producers = report.producers_forgotten,
                "there are too many idempotent producers: those that have been silent for longest are forgotten, and a \
                 batch that one of them sends again is written twice; this is said once"
            );
        }
        Ok(())
    }

    /// The clock was set.
    pub(crate) fn clock_set(&mut self, by_ms: i64) {
        self.dir.clock_set(by_ms);
        if let Some(full) = &mut self.full {
            (full.last, full.said) = (full.last.plus_ms(by_ms), full.said.plus_ms(by_ms));
        }
    }

    pub(crate) fn begin_upkeep(&mut self, now: TimestampMs) -> Option<Upkeep> {
        if self.offline.is_some() {
            return None;
        }
        self.dir.begin_upkeep(now)
    }

    /// Returns whether it got on.
    pub(crate) fn finish_upkeep(&mut self, done: UpkeepDone, now: TimestampMs) -> bool {
        let report = self.dir.finish_upkeep(done, now);
        for error in &report.errors {
            tracing::warn!(%error, code = error.code(), "upkeep of the logs failed");
        }
        let goes_on = match report.cleaning {
            Some(outcome) => report_cleaning(outcome),
            None => false,
        };
        report.files_removed + report.indexes_rebuilt > 0 || goes_on
    }

    pub(crate) fn request_clean(&mut self, log: LogId) -> Result<bool, ErrorCode> {
        self.dir.request_clean(log).map_err(|error| error_of(&error))
    }

    pub(crate) fn clean_state(&self, log: LogId) -> Option<CleanState> {
        self.dir.clean_state(log)
    }

    pub(crate) fn cleaner_stats(&self) -> CleanerStats {
        self.dir.cleaner_stats()
    }

    pub(crate) fn abandon_upkeep(&mut self) {
        self.dir.abandon_upkeep();
    }

    pub(crate) fn close(self) -> Result<(), LogError> {
        self.check_offline()?;
        self.dir.close()
    }
}

/// Says what came of a slice of cleaning; returns whether there is more to do at once.
fn report_cleaning(outcome: CleanOutcome) -> bool {
    match outcome {
        CleanOutcome::Goes => true,
        CleanOutcome::Cleaned { topic, partition, cleaned_to, bytes_before, bytes_after } => {
            tracing::info!(
                topic,
                partition,
                cleaned_to = cleaned_to.get(),
                bytes_before,
                bytes_after,
                "log cleaned"
            );
            true
        }
        CleanOutcome::GivenUp => false,
        CleanOutcome::PutOff => {
            tracing::warn!(
                "a log could not be cleaned for want of room or open files; it is tried again"
            );
            false
        }
        CleanOutcome::Uncleanable(Uncleanable { topic, partition, reason }) => {
            tracing::error!(
                topic,
                partition,
                reason,
                "this log cannot be cleaned and is left alone: it will grow, reads and writes go on"
            );
            false
        }
    }
}

/// What an append that failed means to a producer.
fn refusal(error: &AppendError) -> Refusal {
    let code = match error {
        AppendError::Batch(error) => error.error_code(),
        AppendError::TooLarge { .. } => ErrorCode::MessageTooLarge,
        AppendError::LargerThanSegment { .. } => ErrorCode::RecordListTooLarge,
        AppendError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        AppendError::InvalidTxnState { .. } => ErrorCode::InvalidTxnState,
        AppendError::CoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
        AppendError::Log(error) => error_of(error),
        _ => ErrorCode::InvalidRecord,
    };
    Refusal { error: code, message: Some(Str::from(error.to_string())), records: Vec::new() }
}

/// What a log that failed means to a client.
pub(crate) fn error_of(error: &LogError) -> ErrorCode {
    match error {
        LogError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        LogError::NoSuchLog => ErrorCode::UnknownTopicOrPartition,
        LogError::Damaged { .. } => ErrorCode::CorruptMessage,
        LogError::Exists { .. } => ErrorCode::TopicAlreadyExists,
        LogError::BadTopicName { .. } => ErrorCode::InvalidTopicException,
        _ => ErrorCode::KafkaStorageError,
    }
}

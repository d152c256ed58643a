//! [`TimeSearch`]: the part of a search by time that reads and inflates batches.
//!
//! The core finds the batch by index and headers; which of its records it is, is only seen inside. That is read outside the
//! core's lock, on a thread that may wait, as it may cost a batch of `inflate_bytes_max`.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use weir_log::{BatchAt, FileSlice, MaxTimestamp};
use weir_protocol::batch::{self, BatchView};
use weir_protocol::{ErrorCode, Offset, TimestampMs};

use crate::logs::{error_of, TimedOffset};

/// Bytes of a batch's header that say how long it is and how late its latest record: up to its largest timestamp.
const HEAD_BYTES: usize = 43;

/// A search whose batches are still in their files.
#[derive(Debug)]
pub(crate) struct TimeSearch {
    pub(crate) wanted: Wanted,
    /// From the log start to where the reader may see.
    pub(crate) range: Range<Offset>,
    /// Longest inflated form of a batch.
    pub(crate) inflate_bytes_max: usize,
}

/// What is searched for.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// The first record at or after a time.
    AtOrAfter {
        time: TimestampMs,
        /// The batch that has one, by its header.
        found: BatchAt,
        /// What follows it: its header may tell of a record below the log start.
        after: Vec<FileSlice>,
        /// The answer if there is none in `after` either, but more behind: a reader that begins there sees older records
        /// too, and misses none.
        beyond: Option<TimedOffset>,
    },
    /// The first of the records with the largest timestamp.
    Latest(MaxTimestamp),
}

impl TimeSearch {
    /// Reads and inflates.
    pub(crate) fn run(self) -> Result<Option<TimedOffset>, ErrorCode> {
        match self.wanted {
            Wanted::AtOrAfter { time, ref found, ref after, beyond } => {
                if let Some(record) = self.first_at(&found.slice, time)? {
                    return Ok(Some(record));
                }
                for slice in after {
                    if let Some(record) = self.first_in(slice.clone(), time)? {
                        return Ok(Some(record));
                    }
                }
                Ok(beyond)
            }
            Wanted::Latest(ref max) => {
                let [first, whole] = max.find().map_err(|error| error_of(&error))?;
                let mut latest: Option<TimedOffset> = None;
                // The first batch may reach below the log start, so it is looked into only if it can have the latest.
                for found in [whole, first].into_iter().flatten() {
                    let is_earlier =
                        latest.is_some_and(|so_far| so_far.timestamp > found.max_timestamp);
                    if is_earlier || found.base_offset >= self.range.end {
                        continue;
                    }
                    let record = self.latest_in(&found.slice)?;
                    // Of records of one time the first counts.
                    let later = |record: &TimedOffset| {
                        latest.is_none_or(|so_far| record.timestamp >= so_far.timestamp)
                    };
                    latest = record.filter(later).or(latest);
                }
                Ok(latest)
            }
        }
    }

    /// The first record at or after `time` in many batches, of which those are read that may have one.
    fn first_in(
        &self,
        mut slice: FileSlice,
        time: TimestampMs,
    ) -> Result<Option<TimedOffset>, ErrorCode> {
        while slice.len_bytes() > 0 {
            let head = read(&slice.clone().split_to(HEAD_BYTES))?;
            let (size_bytes, max_timestamp) = sizes(&head).ok_or(ErrorCode::CorruptMessage)?;
            let one = slice.split_to(size_bytes);
            if max_timestamp < time {
                continue;
            }
            if let Some(record) = self.first_at(&one, time)? {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    fn first_at(
        &self,
        batch: &FileSlice,
        time: TimestampMs,
    ) -> Result<Option<TimedOffset>, ErrorCode> {
        let mut first = None;
        self.each_record(batch, |record| {
            first = (record.timestamp >= time).then_some(record);
            first.is_none()
        })?;
        Ok(first)
    }

    fn latest_in(&self, batch: &FileSlice) -> Result<Option<TimedOffset>, ErrorCode> {
        let mut latest: Option<TimedOffset> = None;
        self.each_record(batch, |record| {
            if latest.is_none_or(|so_far| record.timestamp > so_far.timestamp) {
                latest = Some(record);
            }
            true
        })?;
        Ok(latest)
    }

    /// Hands out the records that a reader sees, until told to stop.
    fn each_record(
        &self,
        batch: &FileSlice,
        mut goes_on: impl FnMut(TimedOffset) -> bool,
    ) -> Result<(), ErrorCode> {
        let damaged = |_| ErrorCode::CorruptMessage;
        let bytes = read(batch)?;
        let view = BatchView::parse_shared(&bytes).map_err(damaged)?;
        let append_time = view.timestamp_type() == batch::TimestampType::LogAppendTime;
        let leader_epoch = view.partition_leader_epoch();
        for record in view.records(self.inflate_bytes_max).map_err(damaged)? {
            let record = record.map_err(damaged)?;
            let timestamp = if append_time { view.max_timestamp() } else { record.timestamp };
            let offset = record.offset;
            if self.range.contains(&offset)
                && !goes_on(TimedOffset { offset, timestamp, leader_epoch })
            {
                break;
            }
        }
        Ok(())
    }
}

fn read(slice: &FileSlice) -> Result<Bytes, ErrorCode> {
    slice.read().map_err(|_: io::Error| ErrorCode::KafkaStorageError)
}

/// Bytes of a batch, and its largest timestamp.
fn sizes(head: &[u8]) -> Option<(usize, TimestampMs)> {
    let length = i32::from_be_bytes(*head.get(8..)?.first_chunk()?);
    let max_timestamp = i64::from_be_bytes(*head.get(35..)?.first_chunk()?);
    // The offset and the length stand before what the length counts.
    let size_bytes = usize::try_from(length).ok()?.checked_add(12)?;
    (size_bytes > HEAD_BYTES).then_some((size_bytes, TimestampMs(max_timestamp)))
}

//! [`TimeSearch`]: the part of a search by time that reads headers, and reads and inflates batches.
//!
//! The core finds by index where to begin. From there to the batch it may be a whole segment of headers, and which of its
//! records it is, is only seen inside. That is read outside the core's lock, on a thread that may wait.

use std::io;
use std::mem;
use std::ops::Range;

use bytes::Bytes;
use weir_log::{FileSlice, MaxTimestamp, TimeWalk};
use weir_protocol::batch::{self, BatchView};
use weir_protocol::{ErrorCode, Offset, TimestampMs};

use crate::logs::{error_of, TimedOffset};

/// Bytes of batches that are read at most, if there is no such record in those whose headers say so.
const SEARCH_BYTES_MAX: usize = 16 << 20;

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
        /// The batches that have one, by their headers: one may tell of a record below the log start.
        walk: TimeWalk,
        /// The answer if there is none in those, but more behind: a reader that begins there sees older records too, and
        /// misses none.
        beyond: Option<TimedOffset>,
    },
    /// The first of the records with the largest timestamp.
    Latest(MaxTimestamp),
}

impl TimeSearch {
    /// Reads and inflates.
    pub(crate) fn run(mut self) -> Result<Option<TimedOffset>, ErrorCode> {
        match self.wanted {
            Wanted::AtOrAfter { time, ref mut walk, beyond } => {
                let walk = mem::take(walk);
                self.first_in(walk, time, beyond)
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

    /// The first record at or after `time` in the batches of `walk`; `beyond` if there is none in them.
    fn first_in(
        &self,
        mut walk: TimeWalk,
        time: TimestampMs,
        beyond: Option<TimedOffset>,
    ) -> Result<Option<TimedOffset>, ErrorCode> {
        let mut read_bytes = 0;
        while let Some(found) = walk.next_batch().map_err(|error| error_of(&error))? {
            if found.base_offset >= self.range.end {
                return Ok(None);
            }
            if let Some(record) = self.first_at(&found.slice, time)? {
                return Ok(Some(record));
            }
            read_bytes += found.slice.len_bytes();
            let (offset, leader_epoch) = (found.last_offset.next(), found.leader_epoch);
            if read_bytes > SEARCH_BYTES_MAX && offset < self.range.end {
                return Ok(Some(TimedOffset { offset, timestamp: time, leader_epoch }));
            }
        }
        Ok(beyond)
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

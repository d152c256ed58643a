//! Headers of record batches, read from a file without the records.

use std::path::Path;

use weir_protocol::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};

use crate::disk::DiskFile;
use crate::error::LogError;

/// Bytes of a batch before its records.
pub(crate) const HEADER_BYTES: usize = 61;
/// Bytes before those the length field counts.
const LENGTH_END: usize = 12;
/// Batches of small records stand close together, so several headers come with one read.
const CHUNK_BYTES: usize = 4096;

/// The header of one record batch; the layout stands in `weir_protocol::batch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) base_offset: Offset,
    /// Header included.
    pub(crate) size_bytes: u64,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) is_transactional: bool,
    pub(crate) is_control: bool,
    pub(crate) last_offset_delta: i32,
    pub(crate) max_timestamp: TimestampMs,
    pub(crate) producer_id: ProducerId,
    pub(crate) producer_epoch: ProducerEpoch,
    pub(crate) base_sequence: Sequence,
    pub(crate) record_count: i32,
}

impl BatchHeader {
    /// Decodes the first 61 bytes of a batch.
    ///
    /// # Errors
    /// Says in words why they cannot be a batch. The CRC is not looked at.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let bytes: &[u8; HEADER_BYTES] =
            bytes.first_chunk().ok_or_else(|| "the header is cut".to_owned())?;
        let magic = bytes[16];
        if magic != 2 {
            return Err(format!("the magic is {magic}, not 2"));
        }
        let length = i32_at(bytes, 8);
        let size_bytes = u64::try_from(length).unwrap_or(0) + LENGTH_END as u64;
        if size_bytes < HEADER_BYTES as u64 {
            return Err(format!("the length is {length}"));
        }
        let attributes = i16_at(bytes, 21);
        let header = Self {
            base_offset: Offset(i64_at(bytes, 0)),
            size_bytes,
            leader_epoch: LeaderEpoch(i32_at(bytes, 12)),
            is_transactional: attributes & 1 << 4 != 0,
            is_control: attributes & 1 << 5 != 0,
            last_offset_delta: i32_at(bytes, 23),
            max_timestamp: TimestampMs(i64_at(bytes, 35)),
            producer_id: ProducerId(i64_at(bytes, 43)),
            producer_epoch: ProducerEpoch(i16_at(bytes, 51)),
            base_sequence: Sequence(i32_at(bytes, 53)),
            record_count: i32_at(bytes, 57),
        };
        if header.base_offset < Offset(0) || header.last_offset_delta < 0 {
            return Err(format!(
                "the offsets are {} and {} more",
                header.base_offset, header.last_offset_delta
            ));
        }
        Ok(header)
    }

    pub(crate) fn last_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.last_offset_delta))
    }

    pub(crate) fn last_sequence(&self) -> Sequence {
        if self.base_sequence < Sequence(0) {
            Sequence::NONE
        } else {
            self.base_sequence.plus(self.last_offset_delta)
        }
    }
}

fn i16_at(bytes: &[u8; HEADER_BYTES], at: usize) -> i16 {
    i16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn i32_at(bytes: &[u8; HEADER_BYTES], at: usize) -> i32 {
    i32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn i64_at(bytes: &[u8; HEADER_BYTES], at: usize) -> i64 {
    i64::from(i32_at(bytes, at)) << 32 | i64::from(i32_at(bytes, at + 4) as u32)
}

/// Walks over the headers in a segment file, from one position to another.
#[derive(Debug)]
pub(crate) struct HeaderWalk<'a> {
    file: &'a dyn DiskFile,
    path: &'a Path,
    position: u64,
    end: u64,
    chunk: Vec<u8>,
    chunk_at: u64,
}

impl<'a> HeaderWalk<'a> {
    /// `from` must be where a batch begins, and `end` where one ends.
    pub(crate) fn new(file: &'a dyn DiskFile, path: &'a Path, from: u64, end: u64) -> Self {
        Self { file, path, position: from, end, chunk: Vec::new(), chunk_at: from }
    }

    /// The next header and where its batch begins. `None` at the end.
    ///
    /// # Errors
    /// [`LogError::Damaged`] if there is no batch, or it reaches beyond the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, BatchHeader)>, LogError> {
        if self.position >= self.end {
            return Ok(None);
        }
        let at = self.position;
        let damaged =
            |what: String| LogError::Damaged { path: self.path.to_owned(), position: at, what };
        let in_chunk = usize::try_from(at - self.chunk_at).unwrap_or(usize::MAX);
        let header = match self.chunk.get(in_chunk..).filter(|rest| rest.len() >= HEADER_BYTES) {
            Some(rest) => BatchHeader::decode(rest).map_err(damaged)?,
            None => {
                let wanted = CHUNK_BYTES.min(usize::try_from(self.end - at).unwrap_or(CHUNK_BYTES));
                self.chunk.resize(wanted, 0);
                self.chunk_at = at;
                let read = self
                    .file
                    .read_at(&mut self.chunk, at)
                    .map_err(|error| LogError::io("read", self.path, error))?;
                self.chunk.truncate(read);
                BatchHeader::decode(&self.chunk).map_err(damaged)?
            }
        };
        if header.size_bytes > self.end - at {
            return Err(LogError::Damaged {
                path: self.path.to_owned(),
                position: at,
                what: format!(
                    "the batch takes {} bytes, {} are left",
                    header.size_bytes,
                    self.end - at
                ),
            });
        }
        self.position += header.size_bytes;
        Ok(Some((at, header)))
    }
}

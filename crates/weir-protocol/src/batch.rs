//! Record batch format v2 (magic 2): reading, checking, changing in place, and building.
//!
//! # The bytes (all numbers big-endian; Kafka's `DefaultRecordBatch`)
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 8 | base offset |
//! | 8 | 4 | length of all that follows, so the batch takes 12 bytes more |
//! | 12 | 4 | partition leader epoch |
//! | 16 | 1 | magic = 2 |
//! | 17 | 4 | CRC-32C of byte 21 to the end |
//! | 21 | 2 | attributes: 0–2 codec, 3 timestamp type, 4 transactional, 5 control, 6 delete horizon |
//! | 23 | 4 | last offset delta |
//! | 27 | 8 | base timestamp (the first record's, or the delete horizon) |
//! | 35 | 8 | max timestamp |
//! | 43 | 8 | producer id |
//! | 51 | 2 | producer epoch |
//! | 53 | 4 | base sequence |
//! | 57 | 4 | record count |
//! | 61 | … | records, together compressed with the codec |
//!
//! Base offset and leader epoch lie before what the CRC covers: a broker assigns them in place
//! ([`assign`]) and the checksum the producer made holds from device to disk to reader.
//!
//! # What holds
//! - No bytes make this module panic or allocate more than it is told to: lengths and counts are
//!   checked against the bytes left, and what a batch inflates to is capped by the caller.
//! - Keys, values and headers are slices of the batch, or of the one buffer it was inflated to.
//! - The producer side ([`BatchBuilder`]) allocates nothing per record.

#![deny(clippy::indexing_slicing)]

mod builder;
mod edit;
mod error;
mod filter;
mod produce;
mod recode;
mod record;

use std::borrow::Cow;

use bytes::Bytes;

use crate::compression::{self, Codec};
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};

pub use builder::{build_control, BatchBuilder, BatchPool, ControlMarker};
pub use edit::{assign, set_append_time, set_producer};
pub use error::{BatchError, RecordError};
pub use filter::{write_empty, BatchFilter, Filtered, Horizon};
pub use produce::{validate_for_produce, RecordsSummary};
pub use recode::Recoding;
pub use record::{Header, Headers, HeadersView, Record, RecordIter, RecordView};

/// Bytes of a batch before its first record.
pub const HEADER_BYTES: usize = 61;

/// Bytes of a batch before what its length field counts: base offset and that field.
const LENGTH_END: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
/// Where the CRC begins to cover, and the attributes stand.
const CRC_FROM: usize = 21;
const BASE_TIMESTAMP_AT: usize = 27;
const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_AT: usize = 43;
const RECORD_COUNT_AT: usize = 57;

const MAGIC: i8 = 2;

const CODEC_BITS: i16 = 0b111;
const LOG_APPEND_TIME_BIT: i16 = 1 << 3;
const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;
const DELETE_HORIZON_BIT: i16 = 1 << 6;

/// Who dated the records of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer.
    CreateTime,
    /// The broker, when it appended the batch: all records have the batch's max timestamp.
    LogAppendTime,
}

/// One batch in somebody else's bytes, its header decoded.
///
/// Parsing checks that the batch is of format 2 and is all there, and nothing else: the log's and the
/// consumer's checks are [`verify_crc`](Self::verify_crc) and the record iterator, the broker's is
/// [`validate_for_produce`].
#[derive(Debug, Clone, Copy)]
pub struct BatchView<'a> {
    /// The whole batch, and nothing after it.
    bytes: &'a [u8],
    /// What `bytes` is a slice of, if that can be shared.
    shared: Option<&'a Bytes>,
    base_offset: i64,
    leader_epoch: i32,
    crc: u32,
    attributes: i16,
    last_offset_delta: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    record_count: i32,
}

impl<'a> BatchView<'a> {
    /// Reads the batch at the front of `bytes`; more may follow it.
    ///
    /// # Errors
    /// [`BatchError::Torn`] if `bytes` ends before the batch does, [`BatchError::Magic`],
    /// [`BatchError::Length`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let size_bytes = whole_batch_bytes(bytes)?;
        let torn = BatchError::Torn { needed_bytes: size_bytes, left_bytes: bytes.len() };
        let bytes = bytes.get(..size_bytes).ok_or(torn)?;
        Self::decode_header(bytes)
            .ok_or(BatchError::Torn { needed_bytes: HEADER_BYTES, left_bytes: bytes.len() })
    }

    /// As [`parse`](Self::parse); the records are then slices of `bytes`, without a copy.
    ///
    /// # Errors
    /// As `parse`.
    pub fn parse_shared(bytes: &'a Bytes) -> Result<Self, BatchError> {
        Ok(Self { shared: Some(bytes), ..Self::parse(bytes)? })
    }

    fn decode_header(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        let base_offset = i64::from_be_bytes(take(&mut rest)?);
        let _length = take::<4>(&mut rest)?;
        let leader_epoch = i32::from_be_bytes(take(&mut rest)?);
        let _magic = take::<1>(&mut rest)?;
        Some(Self {
            bytes,
            shared: None,
            base_offset,
            leader_epoch,
            crc: u32::from_be_bytes(take(&mut rest)?),
            attributes: i16::from_be_bytes(take(&mut rest)?),
            last_offset_delta: i32::from_be_bytes(take(&mut rest)?),
            base_timestamp: i64::from_be_bytes(take(&mut rest)?),
            max_timestamp: i64::from_be_bytes(take(&mut rest)?),
            producer_id: i64::from_be_bytes(take(&mut rest)?),
            producer_epoch: i16::from_be_bytes(take(&mut rest)?),
            base_sequence: i32::from_be_bytes(take(&mut rest)?),
            record_count: i32::from_be_bytes(take(&mut rest)?),
        })
    }

    /// The whole batch.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Length of the whole batch, header included.
    #[must_use]
    pub const fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Offset of the first record (also after compaction took that record away).
    #[must_use]
    pub const fn base_offset(&self) -> Offset {
        Offset(self.base_offset)
    }

    /// Offset of the last record.
    #[must_use]
    pub const fn last_offset(&self) -> Offset {
        Offset(self.base_offset.saturating_add(self.last_offset_delta as i64))
    }

    /// Last offset minus base offset.
    #[must_use]
    pub const fn last_offset_delta(&self) -> i32 {
        self.last_offset_delta
    }

    /// Epoch of the leader that appended it.
    #[must_use]
    pub const fn partition_leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(self.leader_epoch)
    }

    /// The CRC-32C as it stands in the batch; see [`verify_crc`](Self::verify_crc).
    #[must_use]
    pub const fn crc(&self) -> u32 {
        self.crc
    }

    /// The attribute bits.
    #[must_use]
    pub const fn attributes(&self) -> i16 {
        self.attributes
    }

    /// How the records are compressed.
    ///
    /// # Errors
    /// [`BatchError::Codec`] for 5, 6 and 7, which nobody has defined.
    pub const fn codec(&self) -> Result<Codec, BatchError> {
        // Three bits fit any integer.
        let id = (self.attributes & CODEC_BITS) as u8;
        match Codec::from_id(id) {
            Some(codec) => Ok(codec),
            None => Err(BatchError::Codec { id }),
        }
    }

    /// Who dated the records.
    #[must_use]
    pub const fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME_BIT == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether it belongs to a transaction.
    #[must_use]
    pub const fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether it holds a commit or abort marker instead of data.
    #[must_use]
    pub const fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// When compaction may drop its tombstones and markers, if a compaction has set that (KIP-534).
    #[must_use]
    pub const fn delete_horizon(&self) -> Option<TimestampMs> {
        if self.attributes & DELETE_HORIZON_BIT == 0 {
            None
        } else {
            Some(TimestampMs(self.base_timestamp))
        }
    }

    /// What the records' timestamps are relative to: the first record's, or the delete horizon.
    #[must_use]
    pub const fn base_timestamp(&self) -> TimestampMs {
        TimestampMs(self.base_timestamp)
    }

    /// The latest timestamp of its records.
    #[must_use]
    pub const fn max_timestamp(&self) -> TimestampMs {
        TimestampMs(self.max_timestamp)
    }

    /// The idempotent producer, or [`ProducerId::NONE`].
    #[must_use]
    pub const fn producer_id(&self) -> ProducerId {
        ProducerId(self.producer_id)
    }

    /// The producer's epoch, or [`ProducerEpoch::NONE`].
    #[must_use]
    pub const fn producer_epoch(&self) -> ProducerEpoch {
        ProducerEpoch(self.producer_epoch)
    }

    /// Sequence of the first record, or [`Sequence::NONE`].
    #[must_use]
    pub const fn base_sequence(&self) -> Sequence {
        Sequence(self.base_sequence)
    }

    /// Sequence of the last record, or [`Sequence::NONE`].
    #[must_use]
    pub const fn last_sequence(&self) -> Sequence {
        if self.base_sequence < 0 {
            Sequence::NONE
        } else {
            self.base_sequence().plus(self.last_offset_delta)
        }
    }

    /// How many records it says it holds. Not checked: may be negative.
    #[must_use]
    pub const fn record_count(&self) -> i32 {
        self.record_count
    }

    /// Compares the CRC-32C with the bytes it covers.
    ///
    /// # Errors
    /// [`BatchError::Crc`].
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        let computed = crc_of(self.bytes);
        if computed == self.crc {
            Ok(())
        } else {
            Err(BatchError::Crc { stored: self.crc, computed })
        }
    }

    /// The records as they stand after the header, compressed or not.
    #[must_use]
    pub fn records_bytes(&self) -> &'a [u8] {
        self.bytes.get(HEADER_BYTES..).unwrap_or_default()
    }

    /// Its records, owned: they may outlive the view and share one buffer.
    ///
    /// Of a compressed batch that buffer is what it inflates to, at most `inflate_bytes_max`. Of
    /// another it is the batch itself, if the view was made from [`Bytes`]; else one copy of it.
    ///
    /// # Errors
    /// [`BatchError::Codec`], [`BatchError::Inflate`]. What is wrong with single records comes from
    /// the iterator.
    pub fn records(&self, inflate_bytes_max: usize) -> Result<RecordIter, BatchError> {
        let bytes = match (self.inflated(inflate_bytes_max)?, self.shared) {
            (Cow::Owned(inflated), _) => Bytes::from(inflated),
            (Cow::Borrowed(part), Some(shared)) => shared.slice_ref(part),
            (Cow::Borrowed(part), None) => Bytes::copy_from_slice(part),
        };
        Ok(RecordIter::new(record::Walk::new(self), bytes))
    }

    fn inflated(&self, inflate_bytes_max: usize) -> Result<Cow<'a, [u8]>, BatchError> {
        match self.codec()? {
            Codec::None => Ok(Cow::Borrowed(self.records_bytes())),
            codec => {
                let inflated =
                    compression::decompress(codec, self.records_bytes(), inflate_bytes_max)?;
                Ok(Cow::Owned(inflated))
            }
        }
    }
}

/// The batches in `bytes`, one after the other, as in a fetch response.
///
/// What follows the last whole batch comes as one [`BatchError::Torn`], which a reader of fetch
/// responses expects ([`BatchError::is_torn`]); any other error is damage. Either is the last item.
#[must_use]
pub fn batches(bytes: &Bytes) -> BatchIter<'_> {
    BatchIter { rest: bytes, shared: Some(bytes), position: 0 }
}

/// As [`batches`], for bytes that cannot be shared.
#[must_use]
pub const fn batches_in(bytes: &[u8]) -> BatchIter<'_> {
    BatchIter { rest: bytes, shared: None, position: 0 }
}

/// See [`batches`].
#[derive(Debug, Clone)]
pub struct BatchIter<'a> {
    rest: &'a [u8],
    shared: Option<&'a Bytes>,
    position: usize,
}

impl BatchIter<'_> {
    /// Bytes of the batches seen so far: where the next begins, or after an error the broken one.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.position
    }
}

impl<'a> Iterator for BatchIter<'a> {
    type Item = Result<BatchView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match BatchView::parse(self.rest) {
            Ok(view) => {
                self.position += view.size_bytes();
                self.rest = self.rest.get(view.size_bytes()..).unwrap_or_default();
                Some(Ok(BatchView { shared: self.shared, ..view }))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

/// The size of the batch at the front of `bytes`, as its length field says, whether or not it is all
/// there.
///
/// Magic before length: it stands at the same place in Kafka's older message formats, whose lengths
/// mean other things.
fn whole_batch_bytes(bytes: &[u8]) -> Result<usize, BatchError> {
    let torn = BatchError::Torn { needed_bytes: HEADER_BYTES, left_bytes: bytes.len() };
    let [magic] = field::<1>(bytes, MAGIC_AT).ok_or(torn.clone())?;
    let magic = i8::from_be_bytes([magic]);
    if magic != MAGIC {
        return Err(BatchError::Magic { magic });
    }
    let length = i32::from_be_bytes(field(bytes, LENGTH_END - 4).ok_or(torn)?);
    match usize::try_from(length) {
        Ok(counted) if counted >= HEADER_BYTES - LENGTH_END => Ok(counted + LENGTH_END),
        _ => Err(BatchError::Length { length }),
    }
}

/// The CRC-32C of a batch that is at least its header.
fn crc_of(batch: &[u8]) -> u32 {
    crc32c::crc32c(batch.get(CRC_FROM..).unwrap_or_default())
}

/// The `N` bytes at `at`.
fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Takes `N` bytes off the front of `rest`.
fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*head)
}

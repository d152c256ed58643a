//! What can be wrong with a record batch.

use crate::compression::{Codec, CompressionError};
use crate::error_code::ErrorCode;
use crate::types::TimestampMs;

/// Bytes that are not the batch they should be, or a batch a broker does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The bytes end before the batch does: a torn tail, or damage to its length.
    #[error("record batch is cut: {needed_bytes} bytes needed, {left_bytes} left")]
    Torn {
        /// What the batch takes by its own word, or its header if even that is cut.
        needed_bytes: usize,
        /// What is there.
        left_bytes: usize,
    },
    /// Another format than v2 (0 and 1 are Kafka's before 0.11), or no batch at all.
    #[error("record batch has magic {magic}, only 2 is supported")]
    Magic {
        /// What stands in its place.
        magic: i8,
    },
    /// A length field that cannot even hold the header.
    #[error("record batch has length {length}, which is less than its header")]
    Length {
        /// What it says.
        length: i32,
    },
    /// The bytes are not those the producer wrote.
    #[error("record batch has crc {stored:#010x}, its bytes have {computed:#010x}")]
    Crc {
        /// As it stands in the batch.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// A codec number nobody has defined.
    #[error("record batch has unknown codec {id}")]
    Codec {
        /// The number, 5 to 7.
        id: u8,
    },
    /// The records do not inflate.
    #[error("records do not inflate: {0}")]
    Inflate(#[from] CompressionError),
    /// The record count is negative, or more than the batch holds, or less.
    #[error("record batch announces {announced} records and holds {held}")]
    Count {
        /// What its header says.
        announced: i32,
        /// How many were found; by [`validate_for_produce`](super::validate_for_produce), how many
        /// its last offset implies.
        held: i64,
    },
    /// A record that cannot be read.
    #[error("record {index} of the batch is damaged: {cause}")]
    Record {
        /// Its place in the batch, from 0.
        index: i32,
        /// What is wrong.
        cause: RecordError,
    },
    /// Bytes after the last record.
    #[error("record batch has {left_bytes} bytes after its last record")]
    Trailing {
        /// How many.
        left_bytes: usize,
    },
    /// A produce request with no batch for a partition.
    #[error("no record batch, exactly one is expected")]
    Empty,
    /// A produce request with more than a batch for a partition.
    #[error("{left_bytes} bytes after the record batch, exactly one batch is expected")]
    NotOneBatch {
        /// Bytes after the first.
        left_bytes: usize,
    },
    /// Clients do not write markers.
    #[error("control batches are written by brokers only")]
    Control,
    /// An idempotent producer counts its records from 0.
    #[error("record batch of an idempotent producer has base sequence {base_sequence}")]
    Sequence {
        /// What it says.
        base_sequence: i32,
    },
    /// Timestamps that a producer cannot have meant: the latest before the first, or dated by a
    /// broker.
    #[error("record batch has base timestamp {base_timestamp}, max timestamp {max_timestamp} and log append time {log_append_time}")]
    Timestamps {
        /// The first record's.
        base_timestamp: TimestampMs,
        /// The latest.
        max_timestamp: TimestampMs,
        /// Whether it is marked as dated by a broker.
        log_append_time: bool,
    },
    /// Under the codec of its topic it is larger than it may be.
    #[error("record batch takes {size_bytes} bytes under its topic's codec, {size_bytes_max} are allowed")]
    RecodedTooLarge {
        /// What it takes.
        size_bytes: usize,
        /// What it may.
        size_bytes_max: usize,
    },
    /// A codec that the version of the request does not know (KIP-110).
    #[error("{codec} needs a newer produce request than version {produce_version}")]
    CodecTooNew {
        /// The codec.
        codec: Codec,
        /// The version of the request.
        produce_version: i16,
    },
}

impl BatchError {
    /// Whether more bytes could make it whole: the end of a fetch response or of a log after a crash.
    #[must_use]
    pub const fn is_torn(&self) -> bool {
        matches!(self, Self::Torn { .. })
    }

    /// What a broker answers to a produce request with such a batch, as Kafka's `LogValidator`.
    #[must_use]
    pub const fn error_code(&self) -> ErrorCode {
        match self {
            Self::Length { .. } | Self::Crc { .. } => ErrorCode::CorruptMessage,
            Self::Inflate(_) => ErrorCode::CorruptMessage,
            // A format that no version of Kafka has written is damage; an old one is the producer's fault.
            Self::Magic { magic } if *magic < 0 || *magic > 2 => ErrorCode::CorruptMessage,
            Self::Codec { .. } | Self::CodecTooNew { .. } => ErrorCode::UnsupportedCompressionType,
            Self::Timestamps { .. } => ErrorCode::InvalidTimestamp,
            Self::RecodedTooLarge { .. } => ErrorCode::MessageTooLarge,
            // What is cut is no whole batch, and Kafka finds none then.
            Self::Torn { .. }
            | Self::Magic { .. }
            | Self::Count { .. }
            | Self::Record { .. }
            | Self::Trailing { .. }
            | Self::Empty
            | Self::NotOneBatch { .. }
            | Self::Control
            | Self::Sequence { .. } => ErrorCode::InvalidRecord,
        }
    }

    /// The code of the page that explains it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Empty
            | Self::NotOneBatch { .. }
            | Self::Control
            | Self::Sequence { .. }
            | Self::Timestamps { .. }
            | Self::RecodedTooLarge { .. }
            | Self::Magic { .. } => "WEIR-0111",
            Self::Inflate(error) => error.code(),
            Self::Codec { .. } | Self::CodecTooNew { .. } => "WEIR-0113",
            Self::Torn { .. }
            | Self::Length { .. }
            | Self::Crc { .. }
            | Self::Count { .. }
            | Self::Record { .. }
            | Self::Trailing { .. } => "WEIR-0110",
        }
    }
}

/// What is wrong with one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It ends inside a field.
    #[error("it ends inside a field")]
    End,
    /// A varint longer than its type.
    #[error("a varint is longer than its type")]
    Varint,
    /// A length that is negative without meaning null, or more than the bytes left.
    #[error("length {length} is impossible with {left_bytes} bytes left")]
    Length {
        /// What it says.
        length: i32,
        /// Bytes left: of the batch for the record, of the record for a field.
        left_bytes: usize,
    },
    /// Its fields end before it does.
    #[error("{left_bytes} bytes are left after its last header")]
    Trailing {
        /// How many.
        left_bytes: usize,
    },
    /// Its offset is not the next one.
    #[error("it has offset delta {offset_delta}")]
    OffsetDelta {
        /// What it says.
        offset_delta: i32,
    },
}

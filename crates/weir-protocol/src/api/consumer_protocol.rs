//! What members of a classic consumer group put into the bytes of JoinGroup and SyncGroup: subscription and assignment.
//!
//! Both begin with their version (`i16`). Whoever reads a version newer than 3 reads it as 3, as Kafka's
//! `ConsumerProtocol` does: later versions only add at the end.

use bytes::Bytes;

use crate::error::{DecodeError, EncodeError};
use crate::primitive::{Decoder, Encoder, Wire};
use crate::types::Str;

/// The newest version that is read and written here.
pub const VERSION_MAX: i16 = 3;

messages! {
    never flexible;

    struct ConsumerProtocolSubscription {
        topics: Vec<Str>;
        user_data: Option<Bytes> = None;
        owned_partitions: Vec<TopicPartition> [versions 1..];
        generation_id: i32 [versions 2..] = -1;
        rack_id: Option<Str> [versions 3..] = None;
    }

    struct ConsumerProtocolAssignment {
        assigned_partitions: Vec<TopicPartition>;
        user_data: Option<Bytes> = None;
    }

    struct TopicPartition {
        topic: Str;
        partitions: Vec<i32>;
    }
}

/// Writes the version, then `data` in that version.
///
/// # Errors
/// If `data` cannot be written.
pub fn encode<T: Wire>(data: &T, version: i16) -> Result<Bytes, EncodeError> {
    let mut encoder = Encoder::new();
    encoder.i16(version);
    data.encode(&mut encoder, version);
    Ok(encoder.finish()?.freeze())
}

/// Reads the version, then the data in that version. Bytes after it are passed over.
///
/// # Errors
/// If the bytes are not such data, or the version is negative.
pub fn decode<T: Wire>(bytes: Bytes) -> Result<(i16, T), DecodeError> {
    let mut decoder = Decoder::new(bytes);
    let version = decoder.i16()?;
    if version < 0 {
        return Err(DecodeError::Length { length: version.into(), left_bytes: decoder.remaining() });
    }
    Ok((version, T::decode(&mut decoder, version.min(VERSION_MAX))?))
}

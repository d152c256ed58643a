//! What members of a classic consumer group put into the bytes of JoinGroup and SyncGroup:
//! subscription and assignment.
//!
//! Both begin with their version (`i16`). Whoever reads a version newer than 3 reads it as 3, as
//! Kafka's `ConsumerProtocol` does: later versions only add at the end.

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
        return Err(DecodeError::Length {
            length: version.into(),
            left_bytes: decoder.remaining(),
        });
    }
    Ok((version, T::decode(&mut decoder, version.min(VERSION_MAX))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscription_v1_is_the_bytes_java_sends() {
        let owned = TopicPartition { topic: "t".into(), partitions: vec![1] };
        let subscription = ConsumerProtocolSubscription {
            topics: vec!["t".into()],
            owned_partitions: vec![owned],
            ..ConsumerProtocolSubscription::default()
        };
        let expected = [
            &[0, 1, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff][..],
            &[0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 1],
        ]
        .concat();
        let bytes = encode(&subscription, 1).unwrap();
        assert_eq!(bytes, expected);
        assert_eq!(decode(bytes), Ok((1, subscription)));
    }

    #[test]
    fn a_version_from_the_future_is_read_as_the_newest_known() {
        let assignment = ConsumerProtocolAssignment {
            assigned_partitions: vec![TopicPartition { topic: "t".into(), partitions: vec![0, 2] }],
            user_data: None,
        };
        let mut bytes = encode(&assignment, VERSION_MAX).unwrap().to_vec();
        bytes.splice(..2, [0, 9]);
        bytes.extend([1, 2, 3]);
        assert_eq!(decode(bytes.into()), Ok((9, assignment)));
        assert!(decode::<ConsumerProtocolAssignment>(Bytes::from_static(&[0xff; 8])).is_err());
    }
}

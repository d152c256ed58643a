//! The values of the records that hold a consumer group of KIP-848 in `__consumer_offsets`.
//!
//! Each has its version (`i16`, 0) in front, is flexible, and belongs to the key of its name in Kafka's
//! `group-coordinator/src/main/resources/common/message`.

use bytes::Bytes;

use crate::error::{DecodeError, EncodeError};
use crate::primitive::{Decoder, Encoder, Wire};
use crate::types::{Str, Uuid};

/// The version of the values that are read and written here.
pub const VERSION: i16 = 0;

messages! {
    always flexible;

    struct ConsumerGroupMetadataValue {
        epoch: i32;
        metadata_hash: i64 [tag 0];
    }

    struct ConsumerGroupMemberMetadataValue {
        instance_id: Option<Str>;
        rack_id: Option<Str>;
        client_id: Str;
        client_host: Str;
        subscribed_topic_names: Vec<Str>;
        subscribed_topic_regex: Option<Str>;
        rebalance_timeout_ms: i32 = -1;
        server_assignor: Option<Str>;
        classic_member_metadata: Option<ClassicMemberMetadata> [tag 0] = None;
    }

    struct ClassicMemberMetadata {
        session_timeout_ms: i32;
        supported_protocols: Vec<ClassicProtocol>;
    }

    struct ClassicProtocol {
        name: Str;
        metadata: Bytes;
    }

    struct ConsumerGroupTargetAssignmentMetadataValue {
        assignment_epoch: i32;
    }

    struct ConsumerGroupTargetAssignmentMemberValue {
        topic_partitions: Vec<TopicPartitions>;
    }

    struct ConsumerGroupCurrentMemberAssignmentValue {
        member_epoch: i32;
        previous_member_epoch: i32;
        state: i8;
        assigned_partitions: Vec<TopicPartitions>;
        partitions_pending_revocation: Vec<TopicPartitions>;
    }

    struct TopicPartitions {
        topic_id: Uuid;
        partitions: Vec<i32>;
    }

    struct ConsumerGroupRegularExpressionValue {
        topics: Vec<Str>;
        version: i64;
        timestamp: i64;
    }
}

/// Writes the version, then `value`.
///
/// # Errors
/// If `value` cannot be written.
pub fn encode<T: Wire>(value: &T) -> Result<Bytes, EncodeError> {
    let mut encoder = Encoder::new();
    encoder.i16(VERSION);
    value.encode(&mut encoder, VERSION);
    Ok(encoder.finish()?.freeze())
}

/// Reads a value of version 0. A later one is an error, as it is to Kafka.
///
/// # Errors
/// If the bytes are not such a value.
pub fn decode<T: Wire>(bytes: Bytes) -> Result<T, DecodeError> {
    let mut decoder = Decoder::new(bytes);
    let version = decoder.i16()?;
    if version != VERSION {
        let left_bytes = decoder.remaining();
        return Err(DecodeError::Length { length: version.into(), left_bytes });
    }
    T::decode(&mut decoder, VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Wire + PartialEq + std::fmt::Debug>(value: &T, hex: &str) {
        let bytes = encode(value).unwrap();
        let ours: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(ours, hex);
        assert_eq!(decode::<T>(bytes).as_ref(), Ok(value));
    }

    fn partitions() -> Vec<TopicPartitions> {
        vec![TopicPartitions { topic_id: Uuid([7; 16]), partitions: vec![0, 5] }]
    }

    #[test]
    fn values_of_another_version_are_errors() {
        let mut bytes = encode(&ConsumerGroupMetadataValue::default()).unwrap().to_vec();
        *bytes.get_mut(1).unwrap() = 1;
        assert!(decode::<ConsumerGroupMetadataValue>(bytes.into()).is_err());
    }

    /// The bytes are those of Kafka 4.1.0's own classes.
    #[test]
    fn values_are_the_bytes_kafka_writes() {
        let group = ConsumerGroupMetadataValue { epoch: 3, metadata_hash: 0 };
        check(&group, "00000000000300");
        let group = ConsumerGroupMetadataValue { metadata_hash: -2, ..group };
        check(&group, "000000000003010008fffffffffffffffe");
        let epoch = ConsumerGroupTargetAssignmentMetadataValue { assignment_epoch: 4 };
        check(&epoch, "00000000000400");
        let target = ConsumerGroupTargetAssignmentMemberValue { topic_partitions: partitions() };
        check(&target, "000002070707070707070707070707070707070300000000000000050000");
        let current = ConsumerGroupCurrentMemberAssignmentValue {
            member_epoch: 4,
            previous_member_epoch: 3,
            state: 1,
            assigned_partitions: partitions(),
            partitions_pending_revocation: Vec::new(),
        };
        check(
            &current,
            "00000000000400000003010207070707070707070707070707070707030000000000000005000100",
        );
        let regex = ConsumerGroupRegularExpressionValue {
            topics: vec!["t".into()],
            version: 2,
            timestamp: 8,
        };
        check(&regex, "00000202740000000000000002000000000000000800");
    }

    #[test]
    fn members_are_the_bytes_kafka_writes() {
        let member = ConsumerGroupMemberMetadataValue {
            instance_id: Some("i".into()),
            client_id: "c".into(),
            client_host: "/h".into(),
            subscribed_topic_names: vec!["t".into()],
            subscribed_topic_regex: Some("t.*".into()),
            rebalance_timeout_ms: 9,
            server_assignor: Some("range".into()),
            ..ConsumerGroupMemberMetadataValue::default()
        };
        check(&member, "00000269010263032f6802027404742e2a000000090672616e676500");
        let protocol =
            ClassicProtocol { name: "range".into(), metadata: Bytes::from_static(&[1, 2]) };
        let classic = ConsumerGroupMemberMetadataValue {
            instance_id: Some(Str::new()),
            subscribed_topic_regex: Some(Str::new()),
            server_assignor: Some(Str::new()),
            classic_member_metadata: Some(ClassicMemberMetadata {
                session_timeout_ms: 5,
                supported_protocols: vec![protocol],
            }),
            ..member
        };
        check(
            &classic,
            "000001010263032f680202740100000009010100110100000005020672616e67650301020000",
        );
    }
}

//! The records of `__consumer_offsets`, byte for byte as Kafka 4.1 writes them, so that `kafka-dump-log
//! --offsets-decoder` reads them.
//!
//! | record | key | value |
//! |---|---|---|
//! | committed offset | `i16` 1, group, topic, partition | `i16` 3, offset, leader epoch, metadata, commit time |
//! | group | `i16` 2, group | `i16` 3, protocol type, generation, protocol, leader, state time, members |
//! | consumer group | `i16` 3 to 8 or 16, group, member or pattern | `i16` 0, see [`weir_protocol::api::consumer_group_records`] |
//!
//! All big endian; but for the values of the last line, not flexible. A key without value is a tombstone. Schemas: `OffsetCommitKey`, `OffsetCommitValue`,
//! `GroupMetadataKey`, `GroupMetadataValue` in Kafka's `group-coordinator/src/main/resources/common/message`. Other value
//! versions are read, also the flexible ones, in which Kafka 4.1 has the offsets of topics whose id the client named; keys of share
//! and streams groups are passed over.

use bytes::{BufMut, Bytes};
use weir_protocol::{DecodeError, Decoder, Str};

/// The record type of an offset commit. Type 0 is its older twin.
const KEY_OFFSET_COMMIT: i16 = 1;
/// The record type of a classic group.
const KEY_GROUP: i16 = 2;
/// What Kafka 4.1 writes while a commit carries neither an expiry nor the id of its topic.
const VALUE_VERSION: i16 = 3;
/// From here on values are flexible.
const VALUE_VERSION_FLEXIBLE: i16 = 4;
/// Bytes that one member takes at least: four empty strings or byte fields, two numbers, one null.
const MEMBER_BYTES_MIN: usize = 2 + 2 + 2 + 2 + 4 + 4 + 4 + 4;

/// What a record is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OffsetKey {
    /// A committed offset.
    Commit {
        /// The group that committed.
        group: Str,
        /// The topic.
        topic: Str,
        /// Its partition.
        partition: i32,
    },
    /// A group.
    Group {
        /// Its name.
        group: Str,
    },
    /// A part of a consumer group (KIP-848).
    Consumer {
        /// Its name.
        group: Str,
        /// Which part.
        key: ConsumerKey,
    },
    /// A kind that is not known here.
    Other(i16),
}

/// Which part of a consumer group a record is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConsumerKey {
    /// `ConsumerGroupMetadata`
    Group,
    /// `ConsumerGroupPartitionMetadata`, which Kafka 4.1 only takes away.
    PartitionMetadata,
    /// `ConsumerGroupMemberMetadata`, of the member.
    Member(Str),
    /// `ConsumerGroupTargetAssignmentMetadata`
    TargetEpoch,
    /// `ConsumerGroupTargetAssignmentMember`, of the member.
    Target(Str),
    /// `ConsumerGroupCurrentMemberAssignment`, of the member.
    Current(Str),
    /// `ConsumerGroupRegularExpression`, of the pattern.
    Regex(Str),
}

impl ConsumerKey {
    /// The record type, and what the key names beside the group.
    fn parts(&self) -> (i16, Option<&Str>) {
        match self {
            Self::Group => (3, None),
            Self::PartitionMetadata => (4, None),
            Self::Member(id) => (5, Some(id)),
            Self::TargetEpoch => (6, None),
            Self::Target(id) => (7, Some(id)),
            Self::Current(id) => (8, Some(id)),
            Self::Regex(regex) => (16, Some(regex)),
        }
    }
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to read.
    pub offset: i64,
    /// Of the last record read, −1 if the client did not say.
    pub leader_epoch: i32,
    /// Opaque text of the client.
    pub metadata: Str,
    /// When it was committed.
    pub commit_timestamp_ms: i64,
}

/// A classic group as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupMetadataValue {
    /// `consumer`, `connect`, ...
    pub protocol_type: Str,
    /// The round.
    pub generation: i32,
    /// The chosen protocol.
    pub protocol: Option<Str>,
    /// The member that makes the assignment.
    pub leader: Option<Str>,
    /// Since when it is in this state; −1 in old records.
    pub current_state_timestamp_ms: i64,
    /// The members.
    pub members: Vec<MemberRecord>,
}

/// A member as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberRecord {
    /// Given by the broker.
    pub member_id: Str,
    /// Of a static member.
    pub instance_id: Option<Str>,
    /// Of the request header.
    pub client_id: Str,
    /// Where it was.
    pub client_host: Str,
    /// How long it may take to join a rebalance.
    pub rebalance_timeout_ms: i32,
    /// Without a heartbeat for so long, it is out.
    pub session_timeout_ms: i32,
    /// What it said under the chosen protocol.
    pub subscription: Bytes,
    /// Its share.
    pub assignment: Bytes,
}

impl OffsetKey {
    /// The bytes of the key. [`OffsetKey::Other`] is never written.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        match self {
            Self::Commit { group, topic, partition } => {
                out.put_i16(KEY_OFFSET_COMMIT);
                put_string(&mut out, group);
                put_string(&mut out, topic);
                out.put_i32(*partition);
            }
            Self::Group { group } => {
                out.put_i16(KEY_GROUP);
                put_string(&mut out, group);
            }
            Self::Consumer { group, key } => {
                let (kind, name) = key.parts();
                out.put_i16(kind);
                put_string(&mut out, group);
                if let Some(name) = name {
                    put_string(&mut out, name);
                }
            }
            Self::Other(kind) => out.put_i16(*kind),
        }
        out
    }

    /// Reads a key.
    ///
    /// # Errors
    /// If the bytes are not one.
    pub fn decode(key: Bytes) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(key);
        match decoder.i16()? {
            0 | KEY_OFFSET_COMMIT => Ok(Self::Commit {
                group: string(&mut decoder, false)?,
                topic: string(&mut decoder, false)?,
                partition: decoder.i32()?,
            }),
            KEY_GROUP => Ok(Self::Group { group: string(&mut decoder, false)? }),
            kind @ (3..=8 | 16) => {
                let group = string(&mut decoder, false)?;
                let key = match kind {
                    3 => ConsumerKey::Group,
                    4 => ConsumerKey::PartitionMetadata,
                    5 => ConsumerKey::Member(string(&mut decoder, false)?),
                    6 => ConsumerKey::TargetEpoch,
                    7 => ConsumerKey::Target(string(&mut decoder, false)?),
                    8 => ConsumerKey::Current(string(&mut decoder, false)?),
                    _ => ConsumerKey::Regex(string(&mut decoder, false)?),
                };
                Ok(Self::Consumer { group, key })
            }
            other => Ok(Self::Other(other)),
        }
    }
}

impl CommittedOffset {
    /// The bytes of the value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + self.metadata.len());
        out.put_i16(VALUE_VERSION);
        out.put_i64(self.offset);
        out.put_i32(self.leader_epoch);
        put_string(&mut out, &self.metadata);
        out.put_i64(self.commit_timestamp_ms);
        out
    }

    /// Reads a value of version 0 to 4. What version 4 has as a tagged field, the topic's id, is left out.
    ///
    /// # Errors
    /// If the bytes are not one.
    pub fn decode(value: Bytes) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(value);
        let version = decoder.i16()?;
        let offset = decoder.i64()?;
        let leader_epoch = if version >= 3 { decoder.i32()? } else { -1 };
        let flexible = version >= VALUE_VERSION_FLEXIBLE;
        Ok(Self {
            offset,
            leader_epoch,
            metadata: string(&mut decoder, flexible)?,
            commit_timestamp_ms: decoder.i64()?,
        })
    }
}

impl GroupMetadataValue {
    /// The bytes of the value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.put_i16(VALUE_VERSION);
        put_string(&mut out, &self.protocol_type);
        out.put_i32(self.generation);
        put_nullable(&mut out, self.protocol.as_ref());
        put_nullable(&mut out, self.leader.as_ref());
        out.put_i64(self.current_state_timestamp_ms);
        out.put_i32(self.members.len() as i32);
        for member in &self.members {
            put_string(&mut out, &member.member_id);
            put_nullable(&mut out, member.instance_id.as_ref());
            put_string(&mut out, &member.client_id);
            put_string(&mut out, &member.client_host);
            out.put_i32(member.rebalance_timeout_ms);
            out.put_i32(member.session_timeout_ms);
            put_bytes(&mut out, &member.subscription);
            put_bytes(&mut out, &member.assignment);
        }
        out
    }

    /// Reads a value of version 0 to 4.
    ///
    /// # Errors
    /// If the bytes are not one.
    pub fn decode(value: Bytes) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(value);
        let version = decoder.i16()?;
        let flexible = version >= VALUE_VERSION_FLEXIBLE;
        let mut group = Self {
            protocol_type: string(&mut decoder, flexible)?,
            generation: decoder.i32()?,
            protocol: nullable(&mut decoder, flexible)?,
            leader: nullable(&mut decoder, flexible)?,
            current_state_timestamp_ms: if version >= 2 { decoder.i64()? } else { -1 },
            members: Vec::new(),
        };
        let count = match flexible {
            true => i32::try_from(decoder.uvarint()?).unwrap_or(i32::MAX).saturating_sub(1),
            false => decoder.i32()?,
        };
        let member_bytes_min = if flexible { MEMBER_BYTES_MIN / 2 } else { MEMBER_BYTES_MIN - 4 };
        let left_bytes = decoder.remaining();
        let fits = usize::try_from(count)
            .is_ok_and(|count| count.saturating_mul(member_bytes_min) <= left_bytes);
        if !fits {
            return Err(DecodeError::Length { length: i64::from(count), left_bytes });
        }
        for _ in 0..count {
            group.members.push(MemberRecord::decode(&mut decoder, version)?);
        }
        Ok(group)
    }
}

impl MemberRecord {
    fn decode(decoder: &mut Decoder, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= VALUE_VERSION_FLEXIBLE;
        let member_id = string(decoder, flexible)?;
        let instance_id = if version >= 3 { nullable(decoder, flexible)? } else { None };
        let client_id = string(decoder, flexible)?;
        let client_host = string(decoder, flexible)?;
        let rebalance = if version >= 1 { Some(decoder.i32()?) } else { None };
        let session_timeout_ms = decoder.i32()?;
        let member = Self {
            member_id,
            instance_id,
            client_id,
            client_host,
            rebalance_timeout_ms: rebalance.unwrap_or(session_timeout_ms),
            session_timeout_ms,
            subscription: bytes(decoder, flexible)?,
            assignment: bytes(decoder, flexible)?,
        };
        if flexible {
            decoder.tagged_fields(|_, _| Ok(false))?;
        }
        Ok(member)
    }
}

/// The partition of `__consumer_offsets` that holds `group`: `abs(hash(group)) % partitions`, the hash being Java's
/// `String.hashCode` over UTF-16, and `abs` Kafka's `Utils.abs`, which has 0 for the smallest number.
#[must_use]
pub fn partition_of(group: &str, partitions: i32) -> i32 {
    debug_assert!(partitions > 0, "a topic has partitions");
    let hash = group
        .encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    hash.checked_abs().unwrap_or(0) % partitions
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    // What comes from requests is shorter than this already; a member id made of a long client id may not be.
    let text = text.get(..i16::MAX as usize).unwrap_or(text);
    out.put_i16(text.len() as i16);
    out.put_slice(text.as_bytes());
}

fn put_nullable(out: &mut Vec<u8>, text: Option<&Str>) {
    match text {
        Some(text) => put_string(out, text),
        None => out.put_i16(-1),
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_i32(bytes.len() as i32);
    out.put_slice(bytes);
}

fn nullable(decoder: &mut Decoder, flexible: bool) -> Result<Option<Str>, DecodeError> {
    // Copied, so that what is kept of a record does not keep its whole batch in memory.
    Ok(decoder.nullable_string(flexible)?.map(|text| Str::copy_from(&text)))
}

fn string(decoder: &mut Decoder, flexible: bool) -> Result<Str, DecodeError> {
    Ok(nullable(decoder, flexible)?.unwrap_or_default())
}

fn bytes(decoder: &mut Decoder, flexible: bool) -> Result<Bytes, DecodeError> {
    Ok(decoder
        .nullable_bytes(flexible)?
        .map(|bytes| Bytes::copy_from_slice(&bytes))
        .unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consumer(key: ConsumerKey) -> OffsetKey {
        OffsetKey::Consumer { group: "g".into(), key }
    }

    #[test]
    fn keys_come_back() {
        for key in [
            OffsetKey::Commit { group: "g".into(), topic: "t".into(), partition: 7 },
            OffsetKey::Group { group: "组".into() },
            consumer(ConsumerKey::Group),
            consumer(ConsumerKey::PartitionMetadata),
            consumer(ConsumerKey::Member("m".into())),
            consumer(ConsumerKey::TargetEpoch),
            consumer(ConsumerKey::Target("m".into())),
            consumer(ConsumerKey::Current("m".into())),
            consumer(ConsumerKey::Regex("t.*".into())),
        ] {
            assert_eq!(OffsetKey::decode(key.encode().into()).unwrap(), key);
        }
        assert_eq!(
            OffsetKey::decode(Bytes::from_static(&[0, 9, 1, 2])).unwrap(),
            OffsetKey::Other(9)
        );
    }

    #[test]
    fn offset_commit_bytes_are_those_of_kafka() {
        let key = OffsetKey::Commit { group: "g".into(), topic: "tt".into(), partition: 3 };
        assert_eq!(key.encode(), [0, 1, 0, 1, b'g', 0, 2, b't', b't', 0, 0, 0, 3]);
        let value = CommittedOffset {
            offset: 5,
            leader_epoch: 2,
            metadata: "m".into(),
            commit_timestamp_ms: 9,
        };
        let bytes = [0, 3, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 1, b'm', 0, 0, 0, 0, 0, 0, 0, 9];
        assert_eq!(value.encode(), bytes);
        assert_eq!(CommittedOffset::decode(Bytes::copy_from_slice(&bytes)).unwrap(), value);
    }

    /// As Kafka 4.1 wrote it for a commit that named the topic by its id.
    #[test]
    fn a_flexible_offset_commit_is_read() {
        let mut bytes = vec![0, 4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 2, 2, b'm'];
        bytes.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 9, 1, 0, 16]);
        bytes.extend_from_slice(&[7; 16]);
        let value = CommittedOffset::decode(bytes.into()).unwrap();
        let metadata: Str = "m".into();
        let read = (value.offset, value.leader_epoch, value.metadata, value.commit_timestamp_ms);
        assert_eq!(read, (5, 2, metadata, 9));
    }

    #[test]
    fn a_flexible_group_is_read() {
        let mut bytes = vec![0, 4, 2, b'c', 0, 0, 0, 4, 2, b'r', 2, b'm'];
        bytes.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 77, 2]);
        bytes.extend_from_slice(&[2, b'm', 0, 2, b'i', 2, b'h', 0, 0, 0, 1, 0, 0, 0, 2]);
        bytes.extend_from_slice(&[2, b's', 2, b'a', 0, 0]);
        let group = GroupMetadataValue::decode(bytes.into()).unwrap();
        assert_eq!((&*group.protocol_type, group.generation), ("c", 4));
        let member = &group.members[0];
        assert_eq!((&*member.member_id, &member.instance_id), ("m", &None));
        assert_eq!((&*member.subscription, &*member.assignment), (&b"s"[..], &b"a"[..]));
        let lies = [0, 4, 1, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 77, 0xff, 0xff, 0xff, 0xff, 7];
        assert!(GroupMetadataValue::decode(Bytes::copy_from_slice(&lies)).is_err());
    }

    #[test]
    fn a_group_comes_back() {
        let group = GroupMetadataValue {
            protocol_type: "consumer".into(),
            generation: 4,
            protocol: Some("range".into()),
            leader: Some("m-1".into()),
            current_state_timestamp_ms: 77,
            members: vec![MemberRecord {
                member_id: "m-1".into(),
                instance_id: Some("i".into()),
                client_id: "c".into(),
                client_host: "/127.0.0.1".into(),
                rebalance_timeout_ms: 1,
                session_timeout_ms: 2,
                subscription: Bytes::from_static(b"sub"),
                assignment: Bytes::from_static(b"ass"),
            }],
        };
        assert_eq!(GroupMetadataValue::decode(group.encode().into()).unwrap(), group);
    }

    #[test]
    fn a_member_count_that_lies_is_an_error() {
        let mut bytes = GroupMetadataValue::default().encode();
        let at = bytes.len() - 4;
        bytes[at..].copy_from_slice(&i32::MAX.to_be_bytes());
        assert!(GroupMetadataValue::decode(bytes.into()).is_err());
    }

    /// Values of Java's `"...".hashCode()`: "" 0, "a" 97, "test-group" 1145114683, "polygenelubricants" -2147483648.
    #[test]
    fn coordinator_partition_is_that_of_java() {
        assert_eq!(partition_of("", 50), 0);
        assert_eq!(partition_of("a", 50), 47);
        assert_eq!(partition_of("polygenelubricants", 50), 0);
    }
}

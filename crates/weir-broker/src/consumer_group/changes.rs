//! [`Change`]: a record of a consumer group, and how the group takes one in.
//!
//! The group changes through its records alone: what a request brings about is written as records, and each is applied
//! as it is written. So a group that is read back from the log is the one that wrote it, but for its deadlines.

use std::collections::BTreeSet;

use weir_protocol::api::consumer_group_records::{
    self as records, ConsumerGroupCurrentMemberAssignmentValue, ConsumerGroupMemberMetadataValue,
    ConsumerGroupMetadataValue, ConsumerGroupRegularExpressionValue,
    ConsumerGroupTargetAssignmentMemberValue, ConsumerGroupTargetAssignmentMetadataValue,
};
use weir_protocol::{DecodeError, Str, TimestampMs, Wire};

use super::member::{from_wire, Current, Member};
use super::{ConsumerGroup, ResolvedRegex, EPOCH_GONE};
use crate::offset_records::ConsumerKey;

/// One record, or with no value its tombstone.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The epoch of the group. Without it there is no group.
    Group(Option<ConsumerGroupMetadataValue>),
    /// Who a member is and what it reads.
    Member(Str, Option<ConsumerGroupMemberMetadataValue>),
    /// The epoch that the target was made for.
    TargetEpoch(Option<ConsumerGroupTargetAssignmentMetadataValue>),
    /// What a member is to have.
    Target(Str, Option<ConsumerGroupTargetAssignmentMemberValue>),
    /// What a member has.
    Current(Str, Option<ConsumerGroupCurrentMemberAssignmentValue>),
    /// The topics that a pattern means.
    Regex(Str, Option<ConsumerGroupRegularExpressionValue>),
}

impl Change {
    /// The key of its record.
    #[must_use]
    pub fn key(&self) -> ConsumerKey {
        match self {
            Self::Group(_) => ConsumerKey::Group,
            Self::Member(id, _) => ConsumerKey::Member(id.clone()),
            Self::TargetEpoch(_) => ConsumerKey::TargetEpoch,
            Self::Target(id, _) => ConsumerKey::Target(id.clone()),
            Self::Current(id, _) => ConsumerKey::Current(id.clone()),
            Self::Regex(regex, _) => ConsumerKey::Regex(regex.clone()),
        }
    }

    /// The value of its record; `None` of a tombstone.
    #[must_use]
    pub fn value(&self) -> Option<Vec<u8>> {
        match self {
            Self::Group(value) => bytes(value.as_ref()),
            Self::Member(_, value) => bytes(value.as_ref()),
            Self::TargetEpoch(value) => bytes(value.as_ref()),
            Self::Target(_, value) => bytes(value.as_ref()),
            Self::Current(_, value) => bytes(value.as_ref()),
            Self::Regex(_, value) => bytes(value.as_ref()),
        }
    }

    /// Reads a record. `None` for the metadata of partitions, which Kafka 4.1 does not write any more.
    ///
    /// # Errors
    /// If the value is not one of its key.
    pub fn decode(
        key: ConsumerKey,
        value: Option<bytes::Bytes>,
    ) -> Result<Option<Self>, DecodeError> {
        fn of<T: Wire>(value: Option<bytes::Bytes>) -> Result<Option<T>, DecodeError> {
            // Copied, so that what is kept of a record does not keep its whole batch in memory.
            let own = |value: bytes::Bytes| bytes::Bytes::copy_from_slice(&value);
            value.map(own).map(records::decode).transpose()
        }
        Ok(Some(match key {
            ConsumerKey::Group => Self::Group(of(value)?),
            ConsumerKey::PartitionMetadata => return Ok(None),
            ConsumerKey::Member(id) => Self::Member(id, of(value)?),
            ConsumerKey::TargetEpoch => Self::TargetEpoch(of(value)?),
            ConsumerKey::Target(id) => Self::Target(id, of(value)?),
            ConsumerKey::Current(id) => Self::Current(id, of(value)?),
            ConsumerKey::Regex(regex) => Self::Regex(regex, of(value)?),
        }))
    }
}

fn bytes<T: Wire>(value: Option<&T>) -> Option<Vec<u8>> {
    // What is written came from requests, so it fits.
    value.map(|value| records::encode(value).map(|bytes| bytes.to_vec()).unwrap_or_default())
}

impl ConsumerGroup {
    /// Takes in a record that was written at `at`.
    pub fn apply(&mut self, change: Change, at: TimestampMs) {
        match change {
            Change::Group(value) => {
                let value = value.unwrap_or_default();
                self.epoch = value.epoch;
                self.metadata_hash = value.metadata_hash;
            }
            Change::Member(id, Some(value)) => self.apply_member(id, value),
            Change::Member(id, None) => self.apply_removal(&id, at),
            Change::TargetEpoch(value) => {
                self.target_epoch = value.unwrap_or_default().assignment_epoch;
            }
            Change::Target(id, Some(value)) => {
                self.target.insert(id, from_wire(value.topic_partitions));
            }
            Change::Target(id, None) => drop(self.target.remove(&id)),
            Change::Current(id, value) => self.apply_current(&id, value.map(Current::restore)),
            Change::Regex(regex, Some(value)) => {
                let topics: BTreeSet<Str> = value.topics.into_iter().collect();
                self.regexes.insert(regex, ResolvedRegex { topics, version: value.version });
            }
            Change::Regex(regex, None) => drop(self.regexes.remove(&regex)),
        }
    }

    fn apply_member(&mut self, id: Str, value: ConsumerGroupMemberMetadataValue) {
        let member = self.members.entry(id.clone()).or_insert_with(|| Member::new(id.clone()));
        let before = member.instance_id.clone();
        let instance = value.instance_id.clone();
        member.set_metadata(value);
        if before != instance {
            self.forget_instance(before.as_ref(), &id);
        }
        if let Some(instance) = instance {
            self.static_members.insert(instance, id);
        }
    }

    fn apply_removal(&mut self, id: &Str, at: TimestampMs) {
        self.apply_current(id, None);
        let Some(member) = self.members.remove(id) else { return };
        self.forget_instance(member.instance_id.as_ref(), id);
        if self.members.is_empty() {
            self.empty_since = at;
        }
    }

    fn forget_instance(&mut self, instance: Option<&Str>, id: &Str) {
        let Some(instance) = instance else { return };
        if self.static_members.get(instance) == Some(id) {
            self.static_members.remove(instance);
        }
    }

    fn apply_current(&mut self, id: &Str, current: Option<Current>) {
        // A compacted log may have what a member has before who it is.
        let known = self.members.contains_key(id);
        if !known && current.is_none() {
            return;
        }
        let member = self.members.entry(id.clone()).or_insert_with(|| Member::new(id.clone()));
        for place in member.current.held() {
            if self.owners.get(&place) == Some(id) {
                self.owners.remove(&place);
            }
        }
        member.current =
            current.unwrap_or_else(|| Current { epoch: EPOCH_GONE, ..Current::default() });
        for place in member.current.held() {
            self.owners.insert(place, id.clone());
        }
    }
}

//! [`ApiKey`]: the APIs of Kafka 4.1, their versions, and the header versions that go with them.

use std::fmt;
use std::ops::RangeInclusive;

use crate::error::DecodeError;

/// The flexible-from version of APIs that have no flexible version.
pub(crate) const NEVER: i16 = i16::MAX;

macro_rules! api_keys {
    ($($name:ident = $key:literal, $versions:expr, $flexible_from:expr;)+) => {
        /// An API of Kafka, by the number that stands in the request header.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        #[non_exhaustive]
        #[allow(missing_docs)] // The names are Kafka's.
        pub enum ApiKey {
            $($name = $key,)+
        }

        impl ApiKey {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Kafka's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            /// The versions that a Kafka 4.1.0 broker advertises. For APIs only controllers serve,
            /// or that it keeps switched off, the stable versions of the schema.
            ///
            /// Produce begins at 0, though 0 to 2 are refused: else librdkafka up to 2.8 sends
            /// uncompressed (KAFKA-18659). What is decoded here is
            /// [`Request::VERSIONS`](crate::Request::VERSIONS).
            #[must_use]
            pub const fn versions(self) -> RangeInclusive<i16> {
                match self {
                    $(Self::$name => $versions,)+
                }
            }

            /// The first flexible version (KIP-482), `i16::MAX` if there is none.
            #[must_use]
            pub const fn flexible_from(self) -> i16 {
                match self {
                    $(Self::$name => $flexible_from,)+
                }
            }
        }

        impl TryFrom<i16> for ApiKey {
            type Error = DecodeError;

            fn try_from(key: i16) -> Result<Self, DecodeError> {
                match key {
                    $($key => Ok(Self::$name),)+
                    _ => Err(DecodeError::UnknownApiKey(key)),
                }
            }
        }
    };
}

// 4 to 7 belonged to ZooKeeper's controllers and are gone since Kafka 4.0.
api_keys! {
    Produce = 0, 0..=13, 9;
    Fetch = 1, 4..=18, 12;
    ListOffsets = 2, 1..=10, 6;
    Metadata = 3, 0..=13, 9;
    OffsetCommit = 8, 2..=9, 8;
    OffsetFetch = 9, 1..=9, 6;
    FindCoordinator = 10, 0..=6, 3;
    JoinGroup = 11, 0..=9, 6;
    Heartbeat = 12, 0..=4, 4;
    LeaveGroup = 13, 0..=5, 4;
    SyncGroup = 14, 0..=5, 4;
    DescribeGroups = 15, 0..=6, 5;
    ListGroups = 16, 0..=5, 3;
    SaslHandshake = 17, 0..=1, NEVER;
    ApiVersions = 18, 0..=4, 3;
    CreateTopics = 19, 2..=7, 5;
    DeleteTopics = 20, 1..=6, 4;
    DeleteRecords = 21, 0..=2, 2;
    InitProducerId = 22, 0..=5, 2;
    OffsetForLeaderEpoch = 23, 2..=4, 4;
    AddPartitionsToTxn = 24, 0..=5, 3;
    AddOffsetsToTxn = 25, 0..=4, 3;
    EndTxn = 26, 0..=5, 3;
    WriteTxnMarkers = 27, 1..=1, 1;
    TxnOffsetCommit = 28, 0..=5, 3;
    DescribeAcls = 29, 1..=3, 2;
    CreateAcls = 30, 1..=3, 2;
    DeleteAcls = 31, 1..=3, 2;
    DescribeConfigs = 32, 1..=4, 4;
    AlterConfigs = 33, 0..=2, 2;
    AlterReplicaLogDirs = 34, 1..=2, 2;
    DescribeLogDirs = 35, 1..=4, 2;
    SaslAuthenticate = 36, 0..=2, 2;
    CreatePartitions = 37, 0..=3, 2;
    CreateDelegationToken = 38, 1..=3, 2;
    RenewDelegationToken = 39, 1..=2, 2;
    ExpireDelegationToken = 40, 1..=2, 2;
    DescribeDelegationToken = 41, 1..=3, 2;
    DeleteGroups = 42, 0..=2, 2;
    ElectLeaders = 43, 0..=2, 2;
    IncrementalAlterConfigs = 44, 0..=1, 1;
    AlterPartitionReassignments = 45, 0..=1, 0;
    ListPartitionReassignments = 46, 0..=0, 0;
    OffsetDelete = 47, 0..=0, NEVER;
    DescribeClientQuotas = 48, 0..=1, 1;
    AlterClientQuotas = 49, 0..=1, 1;
    DescribeUserScramCredentials = 50, 0..=0, 0;
    AlterUserScramCredentials = 51, 0..=0, 0;
    Vote = 52, 0..=2, 0;
    BeginQuorumEpoch = 53, 0..=1, 1;
    EndQuorumEpoch = 54, 0..=1, 1;
    DescribeQuorum = 55, 0..=2, 0;
    AlterPartition = 56, 2..=3, 0;
    UpdateFeatures = 57, 0..=2, 0;
    Envelope = 58, 0..=0, 0;
    FetchSnapshot = 59, 0..=1, 0;
    DescribeCluster = 60, 0..=2, 0;
    DescribeProducers = 61, 0..=0, 0;
    BrokerRegistration = 62, 0..=4, 0;
    BrokerHeartbeat = 63, 0..=1, 0;
    UnregisterBroker = 64, 0..=0, 0;
    DescribeTransactions = 65, 0..=0, 0;
    ListTransactions = 66, 0..=2, 0;
    AllocateProducerIds = 67, 0..=0, 0;
    ConsumerGroupHeartbeat = 68, 0..=1, 0;
    ConsumerGroupDescribe = 69, 0..=1, 0;
    ControllerRegistration = 70, 0..=0, 0;
    GetTelemetrySubscriptions = 71, 0..=0, 0;
    PushTelemetry = 72, 0..=0, 0;
    AssignReplicasToDirs = 73, 0..=0, 0;
    ListConfigResources = 74, 0..=1, 0;
    DescribeTopicPartitions = 75, 0..=0, 0;
    ShareGroupHeartbeat = 76, 1..=1, 0;
    ShareGroupDescribe = 77, 1..=1, 0;
    ShareFetch = 78, 1..=1, 0;
    ShareAcknowledge = 79, 1..=1, 0;
    AddRaftVoter = 80, 0..=0, 0;
    RemoveRaftVoter = 81, 0..=0, 0;
    UpdateRaftVoter = 82, 0..=0, 0;
    InitializeShareGroupState = 83, 0..=0, 0;
    ReadShareGroupState = 84, 0..=0, 0;
    WriteShareGroupState = 85, 0..=0, 0;
    DeleteShareGroupState = 86, 0..=0, 0;
    ReadShareGroupStateSummary = 87, 0..=0, 0;
    StreamsGroupHeartbeat = 88, 0..=0, 0;
    StreamsGroupDescribe = 89, 0..=0, 0;
    DescribeShareGroupOffsets = 90, 0..=0, 0;
    AlterShareGroupOffsets = 91, 0..=0, 0;
    DeleteShareGroupOffsets = 92, 0..=0, 0;
}

impl ApiKey {
    /// The number on the wire.
    #[must_use]
    pub const fn get(self) -> i16 {
        self as i16
    }

    /// Whether `version` is flexible (KIP-482).
    #[must_use]
    pub const fn is_flexible(self, version: i16) -> bool {
        version >= self.flexible_from()
    }

    /// The versions of the request and the response header.
    ///
    /// An ApiVersions response always has header 0: a client that does not know the broker yet must
    /// be able to read it.
    #[must_use]
    pub const fn header_versions(self, version: i16) -> (i16, i16) {
        match (self.is_flexible(version), self) {
            (false, _) => (1, 0),
            (true, Self::ApiVersions) => (2, 0),
            (true, _) => (2, 1),
        }
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_by_its_number() {
        for key in ApiKey::ALL {
            assert_eq!(ApiKey::try_from(key.get()), Ok(*key));
        }
        assert_eq!(ApiKey::try_from(4), Err(DecodeError::UnknownApiKey(4)));
        assert_eq!(ApiKey::try_from(-1), Err(DecodeError::UnknownApiKey(-1)));
    }

    #[test]
    fn api_versions_response_header_is_never_flexible() {
        assert_eq!(ApiKey::ApiVersions.header_versions(2), (1, 0));
        assert_eq!(ApiKey::ApiVersions.header_versions(3), (2, 0));
        assert_eq!(ApiKey::Produce.header_versions(8), (1, 0));
        assert_eq!(ApiKey::Produce.header_versions(9), (2, 1));
        assert_eq!(ApiKey::SaslHandshake.header_versions(1), (1, 0));
    }
}

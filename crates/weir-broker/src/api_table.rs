//! What is served, and so advertised: never a key that is not (clients infer the broker's version from it), and for the
//! keys that are, exactly the versions of a Kafka 4.1.0 node.

use std::ops::RangeInclusive;

use weir_protocol::api::api_versions::{
    ApiVersion, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use weir_protocol::{ApiKey, ErrorCode, Str};

/// The keys that are served.
pub const SERVED: &[ApiKey] = &[
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::FindCoordinator,
    ApiKey::JoinGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::SyncGroup,
    ApiKey::DescribeGroups,
    ApiKey::ListGroups,
    ApiKey::SaslHandshake,
    ApiKey::ApiVersions,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::DeleteRecords,
    ApiKey::InitProducerId,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::AddPartitionsToTxn,
    ApiKey::AddOffsetsToTxn,
    ApiKey::EndTxn,
    ApiKey::WriteTxnMarkers,
    ApiKey::TxnOffsetCommit,
    ApiKey::DescribeAcls,
    ApiKey::CreateAcls,
    ApiKey::DeleteAcls,
    ApiKey::DescribeConfigs,
    ApiKey::AlterConfigs,
    ApiKey::AlterReplicaLogDirs,
    ApiKey::DescribeLogDirs,
    ApiKey::SaslAuthenticate,
    ApiKey::CreatePartitions,
    ApiKey::DeleteGroups,
    ApiKey::ElectLeaders,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::AlterPartitionReassignments,
    ApiKey::ListPartitionReassignments,
    ApiKey::OffsetDelete,
    ApiKey::DescribeClientQuotas,
    ApiKey::AlterClientQuotas,
    ApiKey::DescribeUserScramCredentials,
    ApiKey::AlterUserScramCredentials,
    ApiKey::DescribeQuorum,
    ApiKey::UpdateFeatures,
    ApiKey::DescribeCluster,
    ApiKey::DescribeProducers,
    ApiKey::UnregisterBroker,
    ApiKey::DescribeTransactions,
    ApiKey::ListTransactions,
    ApiKey::ListConfigResources,
    ApiKey::ConsumerGroupHeartbeat,
    ApiKey::ConsumerGroupDescribe,
    ApiKey::DescribeTopicPartitions,
];

/// Features: name, lowest version and finalized level, as on a new Kafka 4.1.0 node. `kafka-features upgrade
/// --release-version 4.1` names all of them, and fails where one is not known.
///
/// `metadata.version` 27 is 4.1-IV1. `transaction.version` 2 is KIP-890, `group.version` 1 is KIP-848. What
/// `eligible.leader.replicas.version` and `kraft.version` mean is about replicas and voters, of which there is one.
/// `share.version` would come with its APIs.
pub(crate) const FEATURES: &[(&str, i16, i16)] = &[
    ("eligible.leader.replicas.version", 0, 1),
    ("group.version", 0, 1),
    (KRAFT_VERSION, 0, 1),
    ("metadata.version", 7, 27),
    ("transaction.version", 0, 2),
];
/// It is supported, but 0 on a new node with one voter, and a level of 0 is not said.
const KRAFT_VERSION: &str = "kraft.version";
/// Older clients take a supported feature that begins at 0 for an error (KAFKA-17011).
const FEATURES_FROM_0_VERSION_MIN: i16 = 4;

/// Produce 0 to 2 are advertised, else librdkafka up to 2.8 sends uncompressed (KAFKA-18659), but refused.
pub const PRODUCE_VERSION_MIN: i16 = 3;

/// The versions of `key` that are advertised; `None` if it is not served.
#[must_use]
pub fn advertised(key: ApiKey) -> Option<RangeInclusive<i16>> {
    SERVED.contains(&key).then(|| key.versions())
}

/// The answer to ApiVersions `version`.
///
/// A version that is not known gets the answer of version 0 with UNSUPPORTED_VERSION and the range of ApiVersions alone,
/// so that the client can ask again (KIP-511).
#[must_use]
pub fn api_versions(version: i16) -> ApiVersionsResponse {
    if !ApiKey::ApiVersions.versions().contains(&version) {
        return ApiVersionsResponse {
            error_code: ErrorCode::UnsupportedVersion.code(),
            api_keys: vec![api_version(ApiKey::ApiVersions)],
            ..ApiVersionsResponse::default()
        };
    }
    ApiVersionsResponse {
        api_keys: SERVED.iter().map(|key| api_version(*key)).collect(),
        supported_features: FEATURES
            .iter()
            .filter(|(_, min_version, _)| {
                *min_version > 0 || version >= FEATURES_FROM_0_VERSION_MIN
            })
            .map(|(name, min_version, max_version)| SupportedFeatureKey {
                name: Str::from_static(name),
                min_version: *min_version,
                max_version: *max_version,
            })
            .collect(),
        finalized_features_epoch: 1,
        finalized_features: FEATURES
            .iter()
            .filter(|(name, _, _)| *name != KRAFT_VERSION)
            .map(|(name, _, level)| FinalizedFeatureKey {
                name: Str::from_static(name),
                max_version_level: *level,
                min_version_level: *level,
            })
            .collect(),
        ..ApiVersionsResponse::default()
    }
}

/// The answer to ApiVersions of software whose name or version is none.
pub(crate) fn to_bad_software() -> ApiVersionsResponse {
    let error_code = ErrorCode::InvalidRequest.code();
    ApiVersionsResponse { error_code, ..ApiVersionsResponse::default() }
}

fn api_version(key: ApiKey) -> ApiVersion {
    let versions = key.versions();
    ApiVersion { api_key: key.get(), min_version: *versions.start(), max_version: *versions.end() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_version_of_api_versions_gets_its_range() {
        let answer = api_versions(99);
        assert_eq!(answer.error_code, ErrorCode::UnsupportedVersion.code());
        assert_eq!(answer.api_keys.len(), 1);
        assert_eq!((answer.api_keys[0].api_key, answer.api_keys[0].max_version), (18, 4));
    }

    #[test]
    fn transactions_are_advertised_as_by_kafka() {
        let answer = api_versions(4);
        let ranges = [
            (24, 0, 5),
            (25, 0, 4),
            (26, 0, 5),
            (27, 1, 1),
            (28, 0, 5),
            (61, 0, 0),
            (65, 0, 0),
            (66, 0, 2),
        ];
        for (api_key, min_version, max_version) in ranges {
            let wanted = ApiVersion { api_key, min_version, max_version };
            assert!(answer.api_keys.contains(&wanted), "{wanted:?}");
        }
        let is_txn = |name: &Str| *name == "transaction.version";
        let supported = |answer: &ApiVersionsResponse| {
            answer.supported_features.iter().any(|feature| is_txn(&feature.name))
        };
        assert!(supported(&answer));
        assert!(!supported(&api_versions(3)), "KAFKA-17011");
        for answer in [answer, api_versions(3)] {
            let level = answer.finalized_features.iter().find(|feature| is_txn(&feature.name));
            assert_eq!(level.unwrap().max_version_level, 2);
        }
    }

    #[test]
    fn consumer_groups_are_advertised_as_by_kafka() {
        let answer = api_versions(4);
        for (api_key, max_version) in [(47, 0), (68, 1), (69, 1)] {
            let wanted = ApiVersion { api_key, min_version: 0, max_version };
            assert!(answer.api_keys.contains(&wanted), "{wanted:?}");
        }
        let is_group = |name: &Str| *name == "group.version";
        let level = answer.finalized_features.iter().find(|feature| is_group(&feature.name));
        assert_eq!(level.unwrap().max_version_level, 1);
        let old = api_versions(3).supported_features;
        assert!(!old.iter().any(|feature| is_group(&feature.name)), "KAFKA-17011");
    }

    /// librdkafka up to 2.8 takes a feature only if these exact versions are in range (its rdkafka_feature.c).
    #[test]
    fn old_librdkafka_finds_its_versions() {
        let check = |key: ApiKey, version: i16| {
            assert!(advertised(key).unwrap().contains(&version), "{key} {version}")
        };
        check(ApiKey::Produce, 0);
        check(ApiKey::Produce, 2);
        check(ApiKey::Produce, 7);
        check(ApiKey::Fetch, 4);
        check(ApiKey::Fetch, 10);
        check(ApiKey::FindCoordinator, 0);
        check(ApiKey::JoinGroup, 0);
        check(ApiKey::SyncGroup, 0);
        check(ApiKey::Heartbeat, 0);
        check(ApiKey::LeaveGroup, 0);
        check(ApiKey::OffsetCommit, 2);
        check(ApiKey::OffsetFetch, 1);
        check(ApiKey::ListOffsets, 1);
        check(ApiKey::InitProducerId, 0);
    }
}

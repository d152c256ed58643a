//! APIs of clusters, as one node answers them: elections that are not needed, replicas that cannot go elsewhere, a quorum
//! of one, features at their only level.
//!
//! Tools and admin clients ask for them all the same. What one node cannot do is refused with Kafka's error.

use weir_protocol::api::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartition,
    ReassignablePartitionResponse, ReassignableTopic, ReassignableTopicResponse,
};
use weir_protocol::api::alter_replica_log_dirs::{
    AlterReplicaLogDir, AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopic,
    AlterReplicaLogDirTopicResult, AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse,
};
use weir_protocol::api::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node, PartitionDataResponse,
    ReplicaState, TopicDataResponse,
};
use weir_protocol::api::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
    TopicPartitions,
};
use weir_protocol::api::list_partition_reassignments::ListPartitionReassignmentsResponse;
use weir_protocol::api::unregister_broker::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use weir_protocol::api::update_features::{
    FeatureUpdateKey, UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse,
};
use weir_protocol::{ErrorCode, PartitionId, Str, TimestampMs, Uuid};

use crate::api_table::FEATURES;
use crate::broker::{Broker, Step, NODE_ID};
use crate::effects::Connection;
use crate::request::Response;
use crate::topic_requests::Refused;

/// The topic of Kafka's metadata quorum, which is no log here.
pub(crate) const METADATA_TOPIC: &str = "__cluster_metadata";
/// Election of the preferred replica, and of any in sync or not.
const ELECTION_TYPES: std::ops::RangeInclusive<i8> = 0..=1;
/// Ways to change a feature's level (KIP-584, KIP-778).
const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;
const UNSAFE_DOWNGRADE: i8 = 3;

const TOO_MANY: Str = Str::from_static("The request names too many partitions.");

impl Broker {
    fn names_too_many(&self, counts: impl Iterator<Item = usize>) -> bool {
        counts.sum::<usize>() > self.config.request_partitions_max
    }

    /// The only replica is the leader already.
    pub(crate) fn elect_leaders(&self, request: &ElectLeadersRequest, version: i16) -> Step {
        let mut response = ElectLeadersResponse::default();
        let named = request.topic_partitions.as_deref().unwrap_or_default();
        let known_type = version == 0 || ELECTION_TYPES.contains(&request.election_type);
        if self.names_too_many(named.iter().map(|topic| topic.partitions.len())) {
            response.error_code = ErrorCode::InvalidRequest.code();
            return Step::Answer(Response::ElectLeaders(response));
        }
        if !known_type {
            response.error_code = ErrorCode::InvalidRequest.code();
        }
        response.replica_election_results = match &request.topic_partitions {
            // Of all partitions those alone are told that got another leader.
            None => self.topics.iter().map(|topic| elected(topic.name(), Vec::new())).collect(),
            Some(topics) => topics
                .iter()
                .map(|topic| {
                    let partitions = topic.partitions.iter().map(|partition| match known_type {
                        true => self.election(topic, *partition),
                        false => {
                            let words = format!("Unknown election type {}", request.election_type);
                            (ErrorCode::InvalidRequest, words.into())
                        }
                    });
                    let results = topic.partitions.iter().zip(partitions);
                    let results = results.map(|(partition_id, (error, words))| PartitionResult {
                        partition_id: *partition_id,
                        error_code: error.code(),
                        error_message: Some(words),
                    });
                    elected(&topic.topic, results.collect())
                })
                .collect(),
        };
        Step::Answer(Response::ElectLeaders(response))
    }

    fn election(&self, topic: &TopicPartitions, partition: i32) -> (ErrorCode, Str) {
        let unknown = |words: String| (ErrorCode::UnknownTopicOrPartition, words.into());
        let Some(found) = self.topics.get(&topic.topic) else {
            return unknown(format!("No such topic as {}", topic.topic));
        };
        match found.existing_log(PartitionId(partition)) {
            Err(_) => unknown(format!("No such partition as {}-{partition}", topic.topic)),
            Ok(_) => {
                let words = "Leader election not needed for topic partition.";
                (ErrorCode::ElectionNotNeeded, Str::from_static(words))
            }
        }
    }

    /// Replicas stay where they are; to leave them there is no error.
    pub(crate) fn alter_partition_reassignments(
        &self,
        request: &AlterPartitionReassignmentsRequest,
    ) -> Step {
        let mut response = AlterPartitionReassignmentsResponse {
            allow_replication_factor_change: request.allow_replication_factor_change,
            error_message: None,
            ..AlterPartitionReassignmentsResponse::default()
        };
        if self.names_too_many(request.topics.iter().map(|topic| topic.partitions.len())) {
            response.error_code = ErrorCode::InvalidRequest.code();
            response.error_message = Some(TOO_MANY);
            return Step::Answer(Response::AlterPartitionReassignments(response));
        }
        let of_partition = |topic: &ReassignableTopic, partition: &ReassignablePartition| {
            let outcome = self.reassign(topic, partition);
            let (error, words) = outcome.err().unwrap_or((ErrorCode::None, None));
            ReassignablePartitionResponse {
                partition_index: partition.partition_index,
                error_code: error.code(),
                error_message: words,
            }
        };
        let of_topic = |topic: &ReassignableTopic| ReassignableTopicResponse {
            name: topic.name.clone(),
            partitions: topic.partitions.iter().map(|one| of_partition(topic, one)).collect(),
        };
        response.responses = request.topics.iter().map(of_topic).collect();
        Step::Answer(Response::AlterPartitionReassignments(response))
    }

    fn reassign(
        &self,
        topic: &ReassignableTopic,
        partition: &ReassignablePartition,
    ) -> Result<(), (ErrorCode, Option<Str>)> {
        let unknown = |words: String| (ErrorCode::UnknownTopicOrPartition, Some(words.into()));
        let found = self.topics.get(&topic.name);
        let found = found
            .ok_or_else(|| unknown(format!("Unable to find a topic named {}.", topic.name)))?;
        let index = partition.partition_index;
        found
            .existing_log(PartitionId(index))
            .map_err(|_| unknown(format!("Unable to find partition {}:{index}.", topic.name)))?;
        let Some(replicas) = &partition.replicas else {
            return Err((ErrorCode::NoReassignmentInProgress, None));
        };
        let invalid =
            |words: String| Err((ErrorCode::InvalidReplicaAssignment, Some(words.into())));
        if replicas.is_empty() {
            let words = "The manual partition assignment includes an empty replica list.";
            return invalid(words.to_owned());
        }
        if let Some(other) = replicas.iter().find(|replica| **replica != NODE_ID) {
            return invalid(format!(
                "The manual partition assignment includes broker {other}, but no such broker is registered."
            ));
        }
        if replicas.len() > 1 {
            return invalid(format!(
                "The manual partition assignment includes the broker {NODE_ID} more than once."
            ));
        }
        Ok(())
    }

    /// None is ever under way.
    pub(crate) fn list_partition_reassignments() -> Step {
        Step::Answer(Response::ListPartitionReassignments(ListPartitionReassignmentsResponse {
            error_message: None,
            ..ListPartitionReassignmentsResponse::default()
        }))
    }

    /// There is one log directory: partitions may "move" to where they are.
    pub(crate) fn alter_replica_log_dirs(&self, request: &AlterReplicaLogDirsRequest) -> Step {
        let topics = request.dirs.iter().flat_map(|dir| &dir.topics);
        let too_many = self.names_too_many(topics.map(|topic| topic.partitions.len()));
        let of_topic = |dir: &AlterReplicaLogDir, topic: &AlterReplicaLogDirTopic| {
            let partitions = topic.partitions.iter().map(|partition| {
                let error = match too_many {
                    true => ErrorCode::InvalidRequest,
                    false => self.move_replica(&dir.path, &topic.name, PartitionId(*partition)),
                };
                let error_code = error.code();
                AlterReplicaLogDirPartitionResult { partition_index: *partition, error_code }
            });
            AlterReplicaLogDirTopicResult {
                topic_name: topic.name.clone(),
                partitions: partitions.collect(),
            }
        };
        let results = request.dirs.iter();
        let results = results.flat_map(|dir| dir.topics.iter().map(move |topic| (dir, topic)));
        Step::Answer(Response::AlterReplicaLogDirs(AlterReplicaLogDirsResponse {
            throttle_time_ms: 0,
            results: results.map(|(dir, topic)| of_topic(dir, topic)).collect(),
        }))
    }

    fn move_replica(&self, path: &str, topic: &str, partition: PartitionId) -> ErrorCode {
        if *std::path::Path::new(path) != *self.config.data_dir {
            return ErrorCode::LogDirNotFound;
        }
        let found = self.topics.get(topic).map(|topic| topic.existing_log(partition));
        match found {
            Some(Ok(_)) => ErrorCode::None,
            _ => ErrorCode::UnknownTopicOrPartition,
        }
    }

    /// The quorum is this node. It has no metadata log, so its offsets are 0.
    pub(crate) fn describe_quorum(
        &self,
        connection: &Connection,
        request: &DescribeQuorumRequest,
        now: TimestampMs,
    ) -> Step {
        let mut response = DescribeQuorumResponse::default();
        if self.names_too_many(request.topics.iter().map(|topic| topic.partitions.len())) {
            response.error_code = ErrorCode::InvalidRequest.code();
            response.error_message = Some(TOO_MANY);
            return Step::Answer(Response::DescribeQuorum(response));
        }
        // Nothing else may be asked, as in Kafka.
        let is_quorum = match request.topics.as_slice() {
            [topic] => {
                let first = topic.partitions.first().map(|partition| partition.partition_index);
                topic.topic_name == METADATA_TOPIC
                    && topic.partitions.len() == 1
                    && first == Some(0)
            }
            _ => false,
        };
        let partition = |index: i32| match is_quorum {
            true => quorum_partition(now),
            false => PartitionDataResponse {
                partition_index: index,
                error_code: ErrorCode::UnknownTopicOrPartition.code(),
                error_message: Some(Str::from_static(
                    "This server does not host this topic-partition.",
                )),
                ..PartitionDataResponse::default()
            },
        };
        let topics = request.topics.iter().map(|topic| TopicDataResponse {
            topic_name: topic.topic_name.clone(),
            partitions: topic.partitions.iter().map(|one| partition(one.partition_index)).collect(),
        });
        response.topics = topics.collect();
        if is_quorum {
            let (host, port) = connection.advertised.clone();
            let listeners = vec![Listener { name: Str::from_static("PLAINTEXT"), host, port }];
            response.nodes = vec![Node { node_id: NODE_ID, listeners }];
        }
        Step::Answer(Response::DescribeQuorum(response))
    }

    /// Each feature has the level it was built with: to ask for that is no error, for another one is.
    pub(crate) fn update_features(request: &UpdateFeaturesRequest, version: i16) -> Step {
        let mut response =
            UpdateFeaturesResponse { error_message: None, ..UpdateFeaturesResponse::default() };
        let failed = request.feature_updates.iter().find_map(|update| {
            let (error, words) = check_feature(update, version).err()?;
            let level = update.max_version_level;
            Some((
                error,
                format!(
                    "The update failed for all features since the following feature had an error: Invalid update \
                     version {level} for feature {}. {words}",
                    update.feature
                ),
            ))
        });
        match failed {
            Some((error, words)) => {
                response.error_code = error.code();
                response.error_message = Some(words.into());
            }
            None => {
                let result = |update: &FeatureUpdateKey| UpdatableFeatureResult {
                    feature: update.feature.clone(),
                    error_code: 0,
                    error_message: Some(Str::from_static("NONE")),
                };
                if version <= 1 {
                    response.results = request.feature_updates.iter().map(result).collect();
                }
            }
        }
        Step::Answer(Response::UpdateFeatures(response))
    }

    /// This node is the only one, and stays.
    pub(crate) fn unregister_broker(request: &UnregisterBrokerRequest) -> Step {
        let id = request.broker_id;
        let (error, words) = match id {
            NODE_ID => (ErrorCode::InvalidRequest, "This broker runs, and is the only one.".into()),
            _ => (
                ErrorCode::BrokerIdNotRegistered,
                format!("Broker ID {id} is not currently registered"),
            ),
        };
        Step::Answer(Response::UnregisterBroker(UnregisterBrokerResponse {
            throttle_time_ms: 0,
            error_code: error.code(),
            error_message: Some(words.into()),
        }))
    }
}

fn elected(topic: &Str, partition_result: Vec<PartitionResult>) -> ReplicaElectionResult {
    ReplicaElectionResult { topic: topic.clone(), partition_result }
}

fn quorum_partition(now: TimestampMs) -> PartitionDataResponse {
    let voter = ReplicaState {
        replica_id: NODE_ID,
        replica_directory_id: Uuid::ZERO,
        log_end_offset: 0,
        last_fetch_timestamp: now.get(),
        last_caught_up_timestamp: now.get(),
    };
    PartitionDataResponse {
        leader_id: NODE_ID,
        current_voters: vec![voter],
        ..PartitionDataResponse::default()
    }
}

/// The checks of Kafka's `FeatureControlManager`, for features that have one level.
fn check_feature(update: &FeatureUpdateKey, version: i16) -> Result<(), Refused> {
    let invalid = |words: String| Err((ErrorCode::InvalidUpdateVersion, words));
    let wanted = update.max_version_level;
    let upgrade_type = match (version, update.allow_downgrade) {
        (0, true) => SAFE_DOWNGRADE,
        (0, false) => UPGRADE,
        _ => update.upgrade_type,
    };
    if !matches!(upgrade_type, UPGRADE | SAFE_DOWNGRADE | UNSAFE_DOWNGRADE) {
        return invalid("The controller does not support the given upgrade type.".to_owned());
    }
    let known = FEATURES.iter().find(|(name, _, _)| *update.feature == **name);
    let Some((_, min, level)) = known else {
        return invalid("Local controller 0 does not support this feature.".to_owned());
    };
    if wanted < 0 {
        return invalid("A feature version cannot be less than 0.".to_owned());
    }
    if !(*min..=*level).contains(&wanted) {
        return invalid(format!("Local controller 0 only supports versions {min}-{level}"));
    }
    match (wanted < *level, upgrade_type) {
        (false, _) => Ok(()),
        (true, UPGRADE) => invalid(
            "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe \
             downgrade."
                .to_owned(),
        ),
        (true, _) => invalid(format!("This broker has the feature at version {level} alone.")),
    }
}

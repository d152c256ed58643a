//! The messages, one module per API, as Kafka 4.1.0's schemas declare them.
//!
//! Types and fields have Kafka's names (fields in snake case) and Kafka's defaults, so Kafka's
//! documentation is theirs. Three things to know:
//!
//! - **A nullable field's default is null only where Kafka says so.** Else it is the empty string,
//!   the empty list: `MetadataRequest::default().topics` is `Some(vec![])`, no topic, and not
//!   `None`, all topics. Error messages are mostly `Some("")` by default; name them.
//! - **A field that a version does not have is not written**, whatever its value, and gets its
//!   default when read.
//! - Numbers are plain integers. [`crate::types`] has the types they turn into.
//!
//! # How a message is declared
//! ```text
//! messages! {
//!     api Produce, versions 3..=13;              // what is read and written here
//!
//!     request ProduceRequest {
//!         transactional_id: Option<Str> = None;  // in all versions; nullable in all; the default
//!         cluster_id: Option<Str> [versions 12..] [nullable 13..] [tag 0] = None;
//!     }
//!     struct ...                                 // parts of the request
//!     response ProduceResponse { ... }
//!     struct ...                                 // parts of the response
//! }
//! ```
//! The order of the fields is their order on the wire; tagged fields come last, by rising tag.
#![deny(clippy::indexing_slicing)]
// Names and meaning are those of Kafka's schema; a second copy of its texts would only age.
#![allow(missing_docs)]

use std::ops::RangeInclusive;

use crate::api_key::ApiKey;
use crate::error::{DecodeError, EncodeError};
use crate::primitive::{Encoder, Wire};

#[macro_use]
mod messages;
#[cfg(test)]
#[allow(clippy::indexing_slicing)] // Test data.
mod sample;

/// A request, and what answers it.
pub trait Request: Wire {
    /// The API it belongs to.
    const API_KEY: ApiKey;

    /// The versions that are read and written here.
    const VERSIONS: RangeInclusive<i16>;

    /// The first flexible version (KIP-482), `i16::MAX` if there is none.
    const FLEXIBLE_FROM: i16 = Self::API_KEY.flexible_from();

    /// What answers it.
    type Response: Wire;
}

/// Declares the modules and the list of their requests.
macro_rules! apis {
    ($($module:ident::$request:ident,)+) => {
        $(pub mod $module;)+

        /// Calls a macro with the module and the type of every request:
        /// `then! { produce::ProduceRequest; ... }`.
        #[macro_export]
        macro_rules! for_each_request {
            ($then:ident) => {
                $then! { $($module::$request;)+ }
            };
        }
    };
}

apis! {
    api_versions::ApiVersionsRequest,
    metadata::MetadataRequest,
    produce::ProduceRequest,
    fetch::FetchRequest,
    list_offsets::ListOffsetsRequest,
    find_coordinator::FindCoordinatorRequest,
    join_group::JoinGroupRequest,
    sync_group::SyncGroupRequest,
    heartbeat::HeartbeatRequest,
    leave_group::LeaveGroupRequest,
    offset_commit::OffsetCommitRequest,
    offset_fetch::OffsetFetchRequest,
    init_producer_id::InitProducerIdRequest,
    create_topics::CreateTopicsRequest,
    delete_topics::DeleteTopicsRequest,
    describe_configs::DescribeConfigsRequest,
    describe_cluster::DescribeClusterRequest,
    list_groups::ListGroupsRequest,
    describe_groups::DescribeGroupsRequest,
    create_partitions::CreatePartitionsRequest,
    delete_records::DeleteRecordsRequest,
    delete_groups::DeleteGroupsRequest,
    offset_for_leader_epoch::OffsetForLeaderEpochRequest,
    alter_configs::AlterConfigsRequest,
    incremental_alter_configs::IncrementalAlterConfigsRequest,
    describe_log_dirs::DescribeLogDirsRequest,
    sasl_handshake::SaslHandshakeRequest,
    sasl_authenticate::SaslAuthenticateRequest,
    add_partitions_to_txn::AddPartitionsToTxnRequest,
    add_offsets_to_txn::AddOffsetsToTxnRequest,
    end_txn::EndTxnRequest,
    write_txn_markers::WriteTxnMarkersRequest,
    txn_offset_commit::TxnOffsetCommitRequest,
    offset_delete::OffsetDeleteRequest,
    describe_topic_partitions::DescribeTopicPartitionsRequest,
    consumer_group_heartbeat::ConsumerGroupHeartbeatRequest,
    consumer_group_describe::ConsumerGroupDescribeRequest,
    describe_producers::DescribeProducersRequest,
    describe_transactions::DescribeTransactionsRequest,
    list_transactions::ListTransactionsRequest,
    elect_leaders::ElectLeadersRequest,
    alter_replica_log_dirs::AlterReplicaLogDirsRequest,
    alter_partition_reassignments::AlterPartitionReassignmentsRequest,
    list_partition_reassignments::ListPartitionReassignmentsRequest,
    describe_quorum::DescribeQuorumRequest,
    update_features::UpdateFeaturesRequest,
    unregister_broker::UnregisterBrokerRequest,
    describe_acls::DescribeAclsRequest,
    create_acls::CreateAclsRequest,
    delete_acls::DeleteAclsRequest,
    describe_client_quotas::DescribeClientQuotasRequest,
    alter_client_quotas::AlterClientQuotasRequest,
    describe_user_scram_credentials::DescribeUserScramCredentialsRequest,
    alter_user_scram_credentials::AlterUserScramCredentialsRequest,
    list_config_resources::ListConfigResourcesRequest,
}

pub mod consumer_group_records;
pub mod consumer_protocol;

fn check_encode_version(
    encoder: &mut Encoder,
    api_key: ApiKey,
    versions: &RangeInclusive<i16>,
    version: i16,
) {
    if !versions.contains(&version) {
        encoder.fail(EncodeError::UnsupportedVersion { api_key, version });
    }
}

fn check_decode_version(
    api_key: ApiKey,
    versions: &RangeInclusive<i16>,
    version: i16,
) -> Result<(), DecodeError> {
    if versions.contains(&version) {
        Ok(())
    } else {
        Err(DecodeError::UnsupportedVersion { api_key, version })
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests;

//! [`Request`] and [`Response`]: what goes into the core and what comes out of it, and the way from and to frames.
//!
//! Both ways run outside the core's lock: decoding, the checks of a record batch that need no log ([`crate::produce`]),
//! reading the files of a fetch, encoding.

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use weir_protocol::api::{
    add_offsets_to_txn, add_partitions_to_txn, alter_client_quotas, alter_configs,
    alter_partition_reassignments, alter_replica_log_dirs, alter_user_scram_credentials,
    api_versions, consumer_group_describe, consumer_group_heartbeat, create_acls,
    create_partitions, create_topics, delete_acls, delete_groups, delete_records, delete_topics,
    describe_acls, describe_client_quotas, describe_cluster, describe_configs, describe_groups,
    describe_log_dirs, describe_producers, describe_quorum, describe_topic_partitions,
    describe_transactions, describe_user_scram_credentials, elect_leaders, end_txn, fetch,
    find_coordinator, heartbeat, incremental_alter_configs, init_producer_id, join_group,
    leave_group, list_config_resources, list_groups, list_offsets, list_partition_reassignments,
    list_transactions, metadata, offset_commit, offset_delete, offset_fetch,
    offset_for_leader_epoch, produce, sasl_authenticate, sasl_handshake, sync_group,
    txn_offset_commit, unregister_broker, update_features, write_txn_markers,
};
use weir_protocol::frame::{self, RequestHeader};
use weir_protocol::{ApiKey, DecodeError, Decoder, EncodeError, Str};

use crate::api_table;
use crate::fetch::FetchAnswer;
use crate::list_offsets::ListOffsetsAnswer;
use crate::log_dirs::LogDirsAnswer;
use crate::produce::Produce;

/// Declares the two enums and the ways between frames and those messages that need nothing special.
macro_rules! messages {
    ($($name:ident: $module:ident::$request:ident => $response:ident;)+) => {
        /// A decoded request.
        #[derive(Debug)]
        #[allow(missing_docs)] // The names are Kafka's.
        pub enum Request {
            /// Its batches are checked and lie in its frame.
            Produce(Produce),
            /// Also in a version that is not known, which has an answer of its own.
            ApiVersions,
            /// Of software whose name or version is none.
            BadApiVersions,
            Fetch(Box<fetch::FetchRequest>),
            ListOffsets(Box<list_offsets::ListOffsetsRequest>),
            DescribeLogDirs(Box<describe_log_dirs::DescribeLogDirsRequest>),
            $($name(Box<$module::$request>),)+
        }

        /// An answer.
        #[derive(Debug)]
        #[allow(missing_docs)] // The names are Kafka's.
        pub enum Response {
            Produce(produce::ProduceResponse),
            ApiVersions(api_versions::ApiVersionsResponse),
            /// Its record bytes are still in their files.
            Fetch(FetchAnswer),
            /// The batches of its searches are still in their files.
            ListOffsets(ListOffsetsAnswer),
            /// Its volume may not have been asked yet.
            DescribeLogDirs(LogDirsAnswer),
            $($name($module::$response),)+
        }

        fn decode_plain(key: ApiKey, decoder: Decoder, version: i16) -> Result<Request, DecodeError> {
            match key {
                ApiKey::Fetch => Ok(Request::Fetch(Box::new(frame::decode_request(decoder, version)?))),
                ApiKey::ListOffsets => {
                    Ok(Request::ListOffsets(Box::new(frame::decode_request(decoder, version)?)))
                }
                ApiKey::DescribeLogDirs => {
                    Ok(Request::DescribeLogDirs(Box::new(frame::decode_request(decoder, version)?)))
                }
                $(ApiKey::$name => {
                    Ok(Request::$name(Box::new(frame::decode_request::<$module::$request>(decoder, version)?)))
                })+
                _ => Err(DecodeError::UnsupportedVersion { api_key: key, version }),
            }
        }

        impl Response {
            /// The frame of this answer in pieces, length in front. Record bytes are pieces of their own.
            ///
            /// The files of a fetch must have been read ([`FetchAnswer::read`]), searches be done
            /// ([`ListOffsetsAnswer::search_next`]), and the volume be asked ([`LogDirsAnswer::ask_volume`]).
            ///
            /// # Errors
            /// If it cannot be written in this version.
            pub fn encode(
                &self,
                key: ApiKey,
                version: i16,
                correlation_id: i32,
            ) -> Result<Vec<Bytes>, EncodeError> {
                match self {
                    Self::Produce(body) => frame::encode_response_segments(key, version, correlation_id, body),
                    Self::Fetch(body) => frame::encode_response_segments(key, version, correlation_id, &body.response),
                    Self::ListOffsets(body) => {
                        frame::encode_response_segments(key, version, correlation_id, &body.response)
                    }
                    Self::DescribeLogDirs(body) => {
                        frame::encode_response_segments(key, version, correlation_id, &body.response)
                    }
                    // Below version 7 it may not be null.
                    Self::JoinGroup(body) if version < 7 && body.protocol_name.is_none() => {
                        let protocol_name = Some(Str::default());
                        let body = &join_group::JoinGroupResponse { protocol_name, ..body.clone() };
                        frame::encode_response_segments(key, version, correlation_id, body)
                    }
                    Self::ApiVersions(body) => {
                        // An unknown version is answered as version 0 (KIP-511).
                        let known = ApiKey::ApiVersions.versions().contains(&version);
                        let version = if known { version } else { 0 };
                        frame::encode_response_segments(key, version, correlation_id, body)
                    }
                    $(Self::$name(body) => frame::encode_response_segments(key, version, correlation_id, body),)+
                }
            }
        }
    };
}

messages! {
    Metadata: metadata::MetadataRequest => MetadataResponse;
    OffsetCommit: offset_commit::OffsetCommitRequest => OffsetCommitResponse;
    OffsetFetch: offset_fetch::OffsetFetchRequest => OffsetFetchResponse;
    FindCoordinator: find_coordinator::FindCoordinatorRequest => FindCoordinatorResponse;
    JoinGroup: join_group::JoinGroupRequest => JoinGroupResponse;
    Heartbeat: heartbeat::HeartbeatRequest => HeartbeatResponse;
    LeaveGroup: leave_group::LeaveGroupRequest => LeaveGroupResponse;
    SyncGroup: sync_group::SyncGroupRequest => SyncGroupResponse;
    DescribeGroups: describe_groups::DescribeGroupsRequest => DescribeGroupsResponse;
    ListGroups: list_groups::ListGroupsRequest => ListGroupsResponse;
    CreateTopics: create_topics::CreateTopicsRequest => CreateTopicsResponse;
    DeleteTopics: delete_topics::DeleteTopicsRequest => DeleteTopicsResponse;
    InitProducerId: init_producer_id::InitProducerIdRequest => InitProducerIdResponse;
    SaslHandshake: sasl_handshake::SaslHandshakeRequest => SaslHandshakeResponse;
    SaslAuthenticate: sasl_authenticate::SaslAuthenticateRequest => SaslAuthenticateResponse;
    DescribeUserScramCredentials: describe_user_scram_credentials::DescribeUserScramCredentialsRequest => DescribeUserScramCredentialsResponse;
    AlterUserScramCredentials: alter_user_scram_credentials::AlterUserScramCredentialsRequest => AlterUserScramCredentialsResponse;
    OffsetForLeaderEpoch: offset_for_leader_epoch::OffsetForLeaderEpochRequest => OffsetForLeaderEpochResponse;
    DescribeAcls: describe_acls::DescribeAclsRequest => DescribeAclsResponse;
    CreateAcls: create_acls::CreateAclsRequest => CreateAclsResponse;
    DeleteAcls: delete_acls::DeleteAclsRequest => DeleteAclsResponse;
    DescribeConfigs: describe_configs::DescribeConfigsRequest => DescribeConfigsResponse;
    AlterConfigs: alter_configs::AlterConfigsRequest => AlterConfigsResponse;
    DescribeClientQuotas: describe_client_quotas::DescribeClientQuotasRequest => DescribeClientQuotasResponse;
    AlterClientQuotas: alter_client_quotas::AlterClientQuotasRequest => AlterClientQuotasResponse;
    ListConfigResources: list_config_resources::ListConfigResourcesRequest => ListConfigResourcesResponse;
    AlterReplicaLogDirs: alter_replica_log_dirs::AlterReplicaLogDirsRequest => AlterReplicaLogDirsResponse;
    ElectLeaders: elect_leaders::ElectLeadersRequest => ElectLeadersResponse;
    AlterPartitionReassignments: alter_partition_reassignments::AlterPartitionReassignmentsRequest => AlterPartitionReassignmentsResponse;
    ListPartitionReassignments: list_partition_reassignments::ListPartitionReassignmentsRequest => ListPartitionReassignmentsResponse;
    DescribeQuorum: describe_quorum::DescribeQuorumRequest => DescribeQuorumResponse;
    UpdateFeatures: update_features::UpdateFeaturesRequest => UpdateFeaturesResponse;
    UnregisterBroker: unregister_broker::UnregisterBrokerRequest => UnregisterBrokerResponse;
    DescribeTopicPartitions: describe_topic_partitions::DescribeTopicPartitionsRequest => DescribeTopicPartitionsResponse;
    DeleteGroups: delete_groups::DeleteGroupsRequest => DeleteGroupsResponse;
    ConsumerGroupHeartbeat: consumer_group_heartbeat::ConsumerGroupHeartbeatRequest => ConsumerGroupHeartbeatResponse;
    ConsumerGroupDescribe: consumer_group_describe::ConsumerGroupDescribeRequest => ConsumerGroupDescribeResponse;
    OffsetDelete: offset_delete::OffsetDeleteRequest => OffsetDeleteResponse;
    CreatePartitions: create_partitions::CreatePartitionsRequest => CreatePartitionsResponse;
    DeleteRecords: delete_records::DeleteRecordsRequest => DeleteRecordsResponse;
    IncrementalAlterConfigs: incremental_alter_configs::IncrementalAlterConfigsRequest => IncrementalAlterConfigsResponse;
    DescribeCluster: describe_cluster::DescribeClusterRequest => DescribeClusterResponse;
    AddPartitionsToTxn: add_partitions_to_txn::AddPartitionsToTxnRequest => AddPartitionsToTxnResponse;
    AddOffsetsToTxn: add_offsets_to_txn::AddOffsetsToTxnRequest => AddOffsetsToTxnResponse;
    EndTxn: end_txn::EndTxnRequest => EndTxnResponse;
    WriteTxnMarkers: write_txn_markers::WriteTxnMarkersRequest => WriteTxnMarkersResponse;
    TxnOffsetCommit: txn_offset_commit::TxnOffsetCommitRequest => TxnOffsetCommitResponse;
    DescribeProducers: describe_producers::DescribeProducersRequest => DescribeProducersResponse;
    DescribeTransactions: describe_transactions::DescribeTransactionsRequest => DescribeTransactionsResponse;
    ListTransactions: list_transactions::ListTransactionsRequest => ListTransactionsResponse;
}

/// A request with what its answer needs.
#[derive(Debug)]
pub struct RequestFrame {
    /// Which API.
    pub key: ApiKey,
    /// The header as it came.
    pub header: RequestHeader,
    /// The body.
    pub request: Request,
}

/// From this version on ApiVersions says which software asks (KIP-511).
const SOFTWARE_NAMED: i16 = 3;

/// Letters, digits, dots and dashes between letters and digits (KIP-511).
fn is_software_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let ends = name.bytes().next().into_iter().chain(name.bytes().last());
    !name.is_empty()
        && name.bytes().all(is_inner)
        && ends.into_iter().all(|byte| byte.is_ascii_alphanumeric())
}

/// Reads a frame (without its length).
///
/// The body of an ApiVersions request of unknown version is not looked at: nobody knows its form (KIP-511).
///
/// # Errors
/// If it is no request that is served; the connection is to be closed, as Kafka does.
pub fn decode(bytes: BytesMut, heap_bytes_max: usize) -> Result<RequestFrame, DecodeError> {
    let bytes = bytes.freeze();
    let mut decoder = Decoder::with_heap_bytes_max(bytes.clone(), heap_bytes_max);
    let header = frame::decode_request_header(&mut decoder)?;
    let key = ApiKey::try_from(header.api_key)?;
    let version = header.api_version;
    if key == ApiKey::ApiVersions {
        if key.versions().contains(&version) {
            let body = frame::decode_request::<api_versions::ApiVersionsRequest>(decoder, version)?;
            let names = [&body.client_software_name, &body.client_software_version];
            if version >= SOFTWARE_NAMED && !names.into_iter().all(|name| is_software_name(name)) {
                let header = owned(header);
                return Ok(RequestFrame { key, header, request: Request::BadApiVersions });
            }
        }
        return Ok(RequestFrame { key, header: owned(header), request: Request::ApiVersions });
    }
    let served = api_table::advertised(key).is_some_and(|versions| versions.contains(&version));
    if !served || (key == ApiKey::Produce && version < api_table::PRODUCE_VERSION_MIN) {
        return Err(DecodeError::UnsupportedVersion { api_key: key, version });
    }
    if key == ApiKey::Produce {
        let body = frame::decode_request::<produce::ProduceRequest>(decoder, version)?;
        let header = owned(header);
        return Ok(RequestFrame {
            key,
            header,
            request: Request::Produce(Produce::prepare(bytes, body, version)),
        });
    }
    let request = decode_plain(key, decoder, version)?;
    Ok(RequestFrame { key, header, request })
}

/// The entries of a request, each once: an answer says of a name so much more than the request did that one repeated
/// often enough would take all memory.
pub(crate) fn distinct<'a, T, K: Eq + std::hash::Hash>(
    entries: &'a [T],
    key: impl Fn(&'a T) -> K,
) -> Vec<&'a T> {
    let mut seen = HashSet::with_capacity(entries.len());
    entries.iter().filter(|entry| seen.insert(key(entry))).collect()
}

/// A header that does not share its frame: the frame of a Produce must have one owner.
fn owned(header: RequestHeader) -> RequestHeader {
    let client_id = header.client_id.map(|id| weir_protocol::Str::copy_from(&id));
    RequestHeader { client_id, ..header }
}

//! The nodes' side of the wire: one request after the other, as Kafka does per connection.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use weir_protocol::api::api_versions::{ApiVersion, ApiVersionsResponse, FinalizedFeatureKey};
use weir_protocol::api::fetch::{
    AbortedTransaction, FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use weir_protocol::api::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use weir_protocol::api::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use weir_protocol::api::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use weir_protocol::api::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use weir_protocol::error_code::ErrorCode;
use weir_protocol::frame::{self, RequestHeader};
use weir_protocol::types::{Str, Uuid};
use weir_protocol::{ApiKey, Decoder, Wire};

use super::{FakeCluster, FakePartition, Fault, State};

/// What a handler wants done.
pub(super) enum Reply {
    Frame(Bytes),
    /// The answer, then the end.
    Cut,
    Silence,
    /// Nothing more is read.
    Stall,
}

pub(crate) async fn serve(cluster: FakeCluster, node: i32, mut stream: DuplexStream) {
    loop {
        let mut prefix = [0; 4];
        if stream.read_exact(&mut prefix).await.is_err() {
            return;
        }
        let mut body = vec![0; frame::frame_len(&prefix, 100 << 20).unwrap()];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        let mut decoder = Decoder::new(body.into());
        let header = frame::decode_request_header(&mut decoder).unwrap();
        let garbage = cluster.state().garbage.take();
        let reply = match garbage {
            Some(bytes) => Reply::Frame(bytes.into()),
            None => handle(&cluster, node, &header, decoder).await,
        };
        match reply {
            Reply::Frame(bytes) => {
                let mut bytes = bytes.to_vec();
                if header.api_key == ApiKey::Produce.get() {
                    if let Some(mangle) = &mut cluster.state().mangle {
                        mangle(&mut bytes);
                    }
                }
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Reply::Cut => return,
            Reply::Silence => {}
            Reply::Stall => std::future::pending().await,
        }
    }
}

async fn handle(
    cluster: &FakeCluster,
    node: i32,
    header: &RequestHeader,
    decoder: Decoder,
) -> Reply {
    let version = header.api_version;
    match ApiKey::try_from(header.api_key).unwrap() {
        ApiKey::ApiVersions => {
            while cluster.state().mute_new {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            api_versions(&cluster.state(), header)
        }
        ApiKey::Metadata => {
            let request = frame::decode_request(decoder, version).unwrap();
            answer(header, &metadata(&mut cluster.state(), &request))
        }
        ApiKey::InitProducerId => {
            let request: InitProducerIdRequest =
                frame::decode_request(decoder.clone(), version).unwrap();
            if request.transactional_id.is_some() {
                return super::transaction::handle(
                    cluster,
                    header,
                    ApiKey::InitProducerId,
                    decoder,
                );
            }
            let mut state = cluster.state();
            state.next_producer_id += 1;
            let error = match state.hold_ids {
                true => ErrorCode::CoordinatorNotAvailable,
                false => ErrorCode::None,
            };
            let response = InitProducerIdResponse {
                error_code: error.code(),
                producer_id: state.next_producer_id,
                ..InitProducerIdResponse::default()
            };
            answer(header, &response)
        }
        ApiKey::Produce => {
            let request = frame::decode_request(decoder, version).unwrap();
            produce(cluster, node, header, request).await
        }
        ApiKey::ListOffsets => {
            let request = frame::decode_request(decoder, version).unwrap();
            let found = list_offsets(&cluster.state(), &request);
            let delay = cluster.state().list_delay;
            tokio::time::sleep(delay).await;
            answer(header, &found)
        }
        ApiKey::Fetch => {
            let request: FetchRequest = frame::decode_request(decoder, version).unwrap();
            cluster.state().fetches += 1;
            let mut response = fetch(&cluster.state(), node, &request);
            if is_empty(&response) {
                let wait = u64::try_from(request.max_wait_ms).unwrap_or(0);
                tokio::time::sleep(Duration::from_millis(wait)).await;
                response = fetch(&cluster.state(), node, &request);
            }
            answer(header, &response)
        }
        key @ (ApiKey::AddPartitionsToTxn
        | ApiKey::AddOffsetsToTxn
        | ApiKey::TxnOffsetCommit
        | ApiKey::EndTxn) => super::transaction::handle(cluster, header, key, decoder),
        key => super::group::handle(cluster, header, key, decoder).await,
    }
}

pub(super) fn answer<T: Wire>(header: &RequestHeader, response: &T) -> Reply {
    let key = ApiKey::try_from(header.api_key).unwrap();
    let bytes = frame::encode_response(key, header.api_version, header.correlation_id, response);
    Reply::Frame(bytes.unwrap().freeze())
}

fn api_versions(state: &State, header: &RequestHeader) -> Reply {
    let offered = |(key, min_version, max_version): (ApiKey, i16, i16)| ApiVersion {
        api_key: key.get(),
        min_version,
        max_version,
    };
    let mut response = ApiVersionsResponse {
        api_keys: [
            (ApiKey::Produce, 3, 13),
            (ApiKey::Fetch, 4, 17),
            (ApiKey::ListOffsets, 1, 9),
            (ApiKey::Metadata, 1, 12),
            (ApiKey::InitProducerId, 0, 5),
            (ApiKey::FindCoordinator, 4, 6),
            (ApiKey::JoinGroup, 5, 9),
            (ApiKey::SyncGroup, 3, 5),
            (ApiKey::Heartbeat, 3, 4),
            (ApiKey::LeaveGroup, 3, 5),
            (ApiKey::OffsetCommit, 7, 9),
            (ApiKey::OffsetFetch, 8, 9),
            (ApiKey::ApiVersions, 0, state.api_versions_max),
            (ApiKey::AddPartitionsToTxn, 0, 5),
            (ApiKey::AddOffsetsToTxn, 0, 4),
            (ApiKey::TxnOffsetCommit, 0, 5),
            (ApiKey::EndTxn, 0, 5),
        ]
        .into_iter()
        .filter(|(key, ..)| !state.without.contains(key))
        .map(offered)
        .collect(),
        finalized_features: (state.transactions.version > 0)
            .then(|| FinalizedFeatureKey {
                name: Str::from("transaction.version"),
                max_version_level: state.transactions.version,
                min_version_level: 0,
            })
            .into_iter()
            .collect(),
        ..ApiVersionsResponse::default()
    };
    if header.api_version <= state.api_versions_max {
        return answer(header, &response);
    }
    response.error_code = ErrorCode::UnsupportedVersion.code();
    let in_version_0 = RequestHeader { api_version: 0, ..header.clone() };
    answer(&in_version_0, &response)
}

fn metadata(state: &mut State, request: &MetadataRequest) -> MetadataResponse {
    state.metadata_requests += 1;
    let names: Vec<String> = match &request.topics {
        None => state.topics.keys().cloned().collect(),
        Some(topics) => topics.iter().filter_map(|t| Some(t.name.as_ref()?.to_string())).collect(),
    };
    if let (true, Some(count)) = (request.allow_auto_topic_creation, state.auto_create_partitions) {
        for name in names.iter().filter(|name| !name.contains(' ')) {
            if !state.topics.contains_key(name) {
                state.add_topic(name, count);
            }
        }
    }
    let broker = |node_id| MetadataResponseBroker {
        node_id,
        host: Str::from(format!("node{node_id}")),
        port: 9092,
        rack: None,
    };
    MetadataResponse {
        brokers: (1..=state.node_count).map(broker).collect(),
        cluster_id: Some(Str::from("fake")),
        controller_id: 1,
        topics: names.into_iter().map(|name| metadata_topic(state, name)).collect(),
        ..MetadataResponse::default()
    }
}

fn metadata_topic(state: &State, name: String) -> MetadataResponseTopic {
    let code = match state.topics.contains_key(&name) {
        true => ErrorCode::None,
        false if name.contains(' ') => ErrorCode::InvalidTopicException,
        false => ErrorCode::UnknownTopicOrPartition,
    };
    let partition = |(index, partition): (usize, &FakePartition)| MetadataResponsePartition {
        partition_index: index as i32,
        leader_id: partition.leader,
        leader_epoch: partition.leader_epoch,
        ..MetadataResponsePartition::default()
    };
    let partitions = state.topics.get(&name).into_iter().flatten();
    MetadataResponseTopic {
        error_code: code.code(),
        topic_id: state.topic_id(&name),
        partitions: partitions.enumerate().map(partition).collect(),
        name: Some(Str::from(name)),
        ..MetadataResponseTopic::default()
    }
}

async fn produce(
    cluster: &FakeCluster,
    node: i32,
    header: &RequestHeader,
    request: ProduceRequest,
) -> Reply {
    let mut response = ProduceResponse::default();
    let mut places = Vec::new();
    for topic in &request.topic_data {
        for data in &topic.partition_data {
            places.push((name_of(&cluster.state(), &topic.name, topic.topic_id), data.index));
        }
    }
    cluster.state().produces.push((node, places));
    let mut cut = false;
    for topic in request.topic_data {
        let name = name_of(&cluster.state(), &topic.name, topic.topic_id);
        let mut partitions = Vec::new();
        for data in topic.partition_data {
            if !cluster.state().topics.contains_key(&name) {
                partitions.push(PartitionProduceResponse {
                    index: data.index,
                    error_code: ErrorCode::UnknownTopicOrPartition.code(),
                    ..PartitionProduceResponse::default()
                });
                continue;
            }
            let fault = {
                let mut state = cluster.state();
                let partition = &mut state.topics.get_mut(&name).unwrap()[data.index as usize];
                partition.produces += 1;
                let count = partition.produces;
                (state.script)(&name, data.index, count)
            };
            match fault {
                Fault::CutBefore => return Reply::Cut,
                Fault::CutAfter => cut = true,
                Fault::Swallow => return Reply::Silence,
                Fault::Stall => return Reply::Stall,
                Fault::Delay(delay) => tokio::time::sleep(delay).await,
                Fault::MoveLeader => cluster.state().move_leader(&name, data.index),
                Fault::None | Fault::Refuse(_) | Fault::WriteAndRefuse(_) => {}
            }
            let records = data.records.unwrap();
            let place = (name.as_str(), data.index);
            let version = header.api_version;
            let done = write(&mut cluster.state(), (node, version), place, &records, fault);
            let (code, base_offset) = done.map_or_else(|code| (code.code(), -1), |base| (0, base));
            partitions.push(PartitionProduceResponse {
                index: data.index,
                error_code: code,
                base_offset,
                ..PartitionProduceResponse::default()
            });
        }
        response.responses.push(TopicProduceResponse {
            name: topic.name,
            topic_id: topic.topic_id,
            partition_responses: partitions,
        });
    }
    if cut {
        return Reply::Cut;
    }
    response.throttle_time_ms = cluster.state().throttle_ms;
    answer(header, &response)
}

fn write(
    state: &mut State,
    (node, version): (i32, i16),
    (topic, index): (&str, i32),
    records: &Bytes,
    fault: Fault,
) -> Result<i64, ErrorCode> {
    if state.topics[topic][index as usize].leader != node {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    if records.len() > state.batch_bytes_max {
        return Err(ErrorCode::MessageTooLarge);
    }
    if !matches!(fault, Fault::Refuse(_)) {
        state.check_transactional_write(topic, index, version, records)?;
    }
    let partition = &mut state.topics.get_mut(topic).unwrap()[index as usize];
    match fault {
        Fault::Refuse(code) => Err(code),
        Fault::WriteAndRefuse(code) => {
            partition.log.append(records)?;
            Err(code)
        }
        _ => partition.log.append(records),
    }
}

fn name_of(state: &State, name: &Str, id: Uuid) -> String {
    state.topic_of_id(id).unwrap_or_else(|| name.to_string())
}

fn list_offsets(state: &State, request: &ListOffsetsRequest) -> ListOffsetsResponse {
    let topic = |topic: &weir_protocol::api::list_offsets::ListOffsetsTopic| {
        let logs = &state.topics[&*topic.name];
        let partition = |asked: &weir_protocol::api::list_offsets::ListOffsetsPartition| {
            let FakePartition { log, list_refusal, .. } = &logs[asked.partition_index as usize];
            ListOffsetsPartitionResponse {
                partition_index: asked.partition_index,
                error_code: list_refusal.map_or(0, ErrorCode::code),
                offset: match asked.timestamp {
                    -1 => log.end(),
                    -2 => log.start,
                    time => log.first_since(time).unwrap_or(-1),
                },
                ..ListOffsetsPartitionResponse::default()
            }
        };
        ListOffsetsTopicResponse {
            name: topic.name.clone(),
            partitions: topic.partitions.iter().map(partition).collect(),
        }
    };
    ListOffsetsResponse {
        topics: request.topics.iter().map(topic).collect(),
        ..ListOffsetsResponse::default()
    }
}

fn fetch(state: &State, node: i32, request: &FetchRequest) -> FetchResponse {
    let mut response = FetchResponse::default();
    for topic in &request.topics {
        let name = name_of(state, &topic.topic, topic.topic_id);
        let partitions = topic.partitions.iter().map(|asked| {
            let partition = &state.topics[&name][asked.partition as usize];
            let log = &partition.log;
            let mut data = PartitionData {
                partition_index: asked.partition,
                high_watermark: log.end(),
                last_stable_offset: log.end(),
                aborted_transactions: None,
                records: Some(Bytes::new()),
                ..PartitionData::default()
            };
            let offset = asked.fetch_offset;
            if partition.leader != node {
                data.error_code = ErrorCode::NotLeaderOrFollower.code();
            } else if offset < log.start || offset > log.end() {
                data.error_code = ErrorCode::OffsetOutOfRange.code();
            } else {
                data.records = Some(log.read(offset, asked.partition_max_bytes as usize));
                let aborted =
                    |&(producer_id, first_offset)| AbortedTransaction { producer_id, first_offset };
                data.aborted_transactions = Some(log.aborted.iter().map(aborted).collect());
            }
            data
        });
        response.responses.push(FetchableTopicResponse {
            topic: topic.topic.clone(),
            topic_id: topic.topic_id,
            partitions: partitions.collect(),
        });
    }
    response
}

fn is_empty(response: &FetchResponse) -> bool {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.into_iter().all(|partition| {
        partition.error_code == 0 && partition.records.as_ref().is_none_or(Bytes::is_empty)
    })
}

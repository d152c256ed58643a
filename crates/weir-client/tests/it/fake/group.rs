//! A group coordinator for one member, with what a test may do to it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use weir_protocol::api::find_coordinator::{Coordinator, FindCoordinatorResponse};
use weir_protocol::api::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use weir_protocol::api::join_group::{
    JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember,
};
use weir_protocol::api::leave_group::LeaveGroupResponse;
use weir_protocol::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
};
use weir_protocol::api::offset_fetch::{
    OffsetFetchRequest, OffsetFetchResponse, OffsetFetchResponseGroup,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use weir_protocol::api::sync_group::{SyncGroupRequest, SyncGroupResponse};
use weir_protocol::error_code::ErrorCode;
use weir_protocol::frame::{self, RequestHeader};
use weir_protocol::types::Str;
use weir_protocol::{ApiKey, Decoder};

use super::serve::{answer, Reply};
use super::FakeCluster;

/// A commit as it came: member, generation, and the first partition's offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeenCommit {
    pub(crate) member: String,
    pub(crate) generation: i32,
    pub(crate) offset: i64,
}

#[derive(Debug, Default)]
pub(crate) struct FakeGroup {
    pub(crate) member: String,
    pub(crate) generation: i32,
    /// Members ever made; each gets a new id.
    members_made: usize,
    /// Heartbeats answer REBALANCE_IN_PROGRESS until the next join.
    pub(crate) rebalancing: bool,
    pub(crate) join_delay: Duration,
    /// The node that coordinates; none for the first.
    pub(crate) moved_to: Option<i32>,
    pub(crate) sync_delay: Duration,
    /// Heartbeats get no answer.
    pub(crate) deaf: bool,
    pub(crate) joins: usize,
    pub(crate) syncs: usize,
    pub(crate) heartbeats: usize,
    /// Topics of the last join's subscription, as its bytes.
    pub(crate) subscription: Bytes,
    pub(crate) commits: Vec<SeenCommit>,
    /// What every OffsetFetch answers.
    pub(crate) fetch_refusal: Option<ErrorCode>,
    /// Refusals of the next commits, first come first.
    pub(crate) commit_refusals: Vec<ErrorCode>,
    /// What commits of these topics are answered.
    pub(crate) commit_codes: BTreeMap<String, ErrorCode>,
    /// Commits are answered after so long.
    pub(crate) commit_delay: Duration,
    pub(crate) committed: BTreeMap<(String, i32), i64>,
}

impl FakeGroup {
    fn check(&self, member: &str, generation: i32) -> ErrorCode {
        if generation < 0 && member.is_empty() {
            return ErrorCode::None;
        }
        if member != self.member {
            return ErrorCode::UnknownMemberId;
        }
        if generation != self.generation {
            return ErrorCode::IllegalGeneration;
        }
        ErrorCode::None
    }
}

pub(super) async fn handle(
    cluster: &FakeCluster,
    header: &RequestHeader,
    key: ApiKey,
    decoder: Decoder,
) -> Reply {
    let version = header.api_version;
    match key {
        ApiKey::FindCoordinator => {
            let state = cluster.state();
            let (error, moved_to) = (state.coordinator_error, state.group.moved_to);
            drop(state);
            answer(header, &coordinator(error, moved_to))
        }
        ApiKey::JoinGroup => {
            let request: JoinGroupRequest = frame::decode_request(decoder, version).unwrap();
            let delay = cluster.state().group.join_delay;
            cluster.state().group.joins += 1;
            tokio::time::sleep(delay).await;
            answer(header, &join(&mut cluster.state().group, &request))
        }
        ApiKey::SyncGroup => {
            let request: SyncGroupRequest = frame::decode_request(decoder, version).unwrap();
            let delay = cluster.state().group.sync_delay;
            tokio::time::sleep(delay).await;
            cluster.state().group.syncs += 1;
            let code = cluster.state().group.check(&request.member_id, request.generation_id);
            let assignment = request.assignments.into_iter().next().unwrap_or_default().assignment;
            let response = SyncGroupResponse {
                error_code: code.code(),
                assignment,
                ..SyncGroupResponse::default()
            };
            answer(header, &response)
        }
        ApiKey::Heartbeat => {
            let request: HeartbeatRequest = frame::decode_request(decoder, version).unwrap();
            let mut state = cluster.state();
            let group = &mut state.group;
            group.heartbeats += 1;
            if group.deaf {
                return Reply::Silence;
            }
            let code = match group.check(&request.member_id, request.generation_id) {
                ErrorCode::None if group.rebalancing => ErrorCode::RebalanceInProgress,
                code => code,
            };
            let response =
                HeartbeatResponse { error_code: code.code(), ..HeartbeatResponse::default() };
            answer(header, &response)
        }
        ApiKey::LeaveGroup => answer(header, &LeaveGroupResponse::default()),
        ApiKey::OffsetCommit => {
            let request = frame::decode_request(decoder, version).unwrap();
            let committed = commit(&mut cluster.state().group, &request);
            let delay = cluster.state().group.commit_delay;
            tokio::time::sleep(delay).await;
            answer(header, &committed)
        }
        ApiKey::OffsetFetch => {
            let request = frame::decode_request(decoder, version).unwrap();
            answer(header, &fetch(&cluster.state().group, &request))
        }
        other => panic!("the fake has no {}", other.name()),
    }
}

fn coordinator(error: ErrorCode, moved_to: Option<i32>) -> FindCoordinatorResponse {
    let node_id = moved_to.unwrap_or(1);
    FindCoordinatorResponse {
        coordinators: vec![Coordinator {
            node_id,
            host: Str::from(format!("node{node_id}")),
            error_code: error.code(),
            port: 9092,
            ..Coordinator::default()
        }],
        ..FindCoordinatorResponse::default()
    }
}

fn join(group: &mut FakeGroup, request: &JoinGroupRequest) -> JoinGroupResponse {
    if request.member_id.is_empty() {
        group.members_made += 1;
        group.member = format!("member-{}", group.members_made);
    } else if *request.member_id != *group.member {
        let error_code = ErrorCode::UnknownMemberId.code();
        return JoinGroupResponse { error_code, ..JoinGroupResponse::default() };
    }
    group.generation += 1;
    group.rebalancing = false;
    group.subscription = request.protocols[0].metadata.clone();
    let member_id = Str::copy_from(&group.member);
    JoinGroupResponse {
        generation_id: group.generation,
        protocol_name: Some(request.protocols[0].name.clone()),
        leader: member_id.clone(),
        member_id: member_id.clone(),
        members: vec![JoinGroupResponseMember {
            member_id,
            metadata: request.protocols[0].metadata.clone(),
            ..JoinGroupResponseMember::default()
        }],
        ..JoinGroupResponse::default()
    }
}

fn commit(group: &mut FakeGroup, request: &OffsetCommitRequest) -> OffsetCommitResponse {
    let offset = request.topics[0].partitions[0].committed_offset;
    let generation = request.generation_id_or_member_epoch;
    let member = request.member_id.to_string();
    let mut code = group.check(&member, generation);
    group.commits.push(SeenCommit { member, generation, offset });
    if !group.commit_refusals.is_empty() {
        code = group.commit_refusals.remove(0);
    }
    let mut topics = Vec::new();
    let of_all = code;
    for topic in &request.topics {
        let code = group.commit_codes.get(&*topic.name).copied().unwrap_or(of_all);
        let mut partitions = Vec::new();
        for partition in &topic.partitions {
            let place = (topic.name.to_string(), partition.partition_index);
            if code.is_none() {
                group.committed.insert(place, partition.committed_offset);
            }
            partitions.push(OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: code.code(),
            });
        }
        topics.push(OffsetCommitResponseTopic { name: topic.name.clone(), partitions });
    }
    OffsetCommitResponse { topics, ..OffsetCommitResponse::default() }
}

fn fetch(group: &FakeGroup, request: &OffsetFetchRequest) -> OffsetFetchResponse {
    let asked = request.groups[0].topics.iter().flatten();
    let topics = asked.map(|topic| OffsetFetchResponseTopics {
        name: topic.name.clone(),
        partitions: topic
            .partition_indexes
            .iter()
            .map(|index| OffsetFetchResponsePartitions {
                partition_index: *index,
                committed_offset: group
                    .committed
                    .get(&(topic.name.to_string(), *index))
                    .copied()
                    .unwrap_or(-1),
                ..OffsetFetchResponsePartitions::default()
            })
            .collect(),
    });
    OffsetFetchResponse {
        groups: vec![OffsetFetchResponseGroup {
            group_id: request.groups[0].group_id.clone(),
            error_code: group.fetch_refusal.map_or(0, ErrorCode::code),
            topics: topics.collect(),
        }],
        ..OffsetFetchResponse::default()
    }
}

//! Membership in a classic group: join, sync, heartbeat, commit, leave.
//!
//! The consumer drives it from `poll`, so that partitions change hands only between polls. Heartbeats
//! go out in the background all the time; they are how a member learns that it must join again.
//!
//! Join and sync wait on the broker for other members, so they have a lane of their own; heartbeats
//! and commits must not stand behind them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use weir_protocol::api::heartbeat::HeartbeatRequest;
use weir_protocol::api::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use weir_protocol::api::leave_group::{LeaveGroupRequest, MemberIdentity};
use weir_protocol::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use weir_protocol::api::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{GenerationId, NodeId, Offset, Str};
use weir_protocol::Request;

use crate::admin::Admin;
use crate::assignor::{self, Assignor, Member};
use crate::client::{Client, Lane};
use crate::config::GroupConfig;
use crate::consumer::{PartitionOffset, TopicPartition};
use crate::error::ClientError;

/// Kafka's protocol type of consumers.
const PROTOCOL_TYPE: &str = "consumer";

/// The broker answers a join within the rebalance timeout; this much later something is wrong.
const JOIN_GRACE_MS: u32 = 5_000;

/// One consumer's place in its group.
#[derive(Debug)]
pub(crate) struct Membership {
    client: Arc<Client>,
    config: GroupConfig,
    lane: Lane,
    state: Mutex<State>,
    /// Held while a commit is under way: two at once could land in either order.
    commit_turn: tokio::sync::Mutex<()>,
    order: Mutex<CommitOrder>,
}

#[derive(Debug, Default)]
struct State {
    member_id: Str,
    /// The present generation; none while joining, so that no heartbeat speaks for the last one.
    generation: Option<GenerationId>,
    /// Offsets are those of a member: without a generation nothing may be committed.
    is_subscribed: bool,
    coordinator: Option<NodeId>,
    /// What the leader dealt from: topic to partition count; empty for others.
    dealt: BTreeMap<Str, i32>,
    must_rejoin: bool,
    /// The group went on without us: what we had is somebody else's already.
    lost: bool,
}

/// In which order commits were asked for. An older one must not undo a newer one.
#[derive(Debug, Default)]
struct CommitOrder {
    next: u64,
    by_partition: BTreeMap<TopicPartition, Newest>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Newest {
    /// The last commit in the background asked for; those before it are of no use any more.
    in_background: u64,
    /// The last commit of any kind the broker took.
    done: u64,
}

/// A commit as it was asked for: by which member of which generation, and as which one in order.
#[derive(Debug)]
pub(crate) struct CommitTicket {
    member_id: Str,
    generation: Option<GenerationId>,
    number: u64,
    in_background: bool,
}

/// Why the present assignment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejoin {
    /// It does not.
    No,
    /// A rebalance: there is time to commit.
    Rebalance,
    /// We were expelled.
    Lost,
}

impl Membership {
    pub(crate) fn new(client: Arc<Client>, config: GroupConfig) -> Self {
        let lane = client.new_lane();
        Membership {
            client,
            config,
            lane,
            state: Mutex::default(),
            commit_turn: tokio::sync::Mutex::default(),
            order: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn config(&self) -> &GroupConfig {
        &self.config
    }

    /// Whether it has a place in the present generation.
    pub(crate) fn is_member(&self) -> bool {
        self.state().generation.is_some()
    }

    /// Whether the assignment must be given up and joined again.
    pub(crate) fn rejoin(&self) -> Rejoin {
        let state = self.state();
        match (state.lost, state.must_rejoin) {
            (true, _) => Rejoin::Lost,
            (false, true) => Rejoin::Rebalance,
            (false, false) if self.has_grown(&state) => Rejoin::Rebalance,
            (false, false) => Rejoin::No,
        }
    }

    /// Asks for a rejoin: the subscription has changed.
    pub(crate) fn want_rejoin(&self) {
        let mut state = self.state();
        state.must_rejoin = true;
        state.is_subscribed = true;
    }

    /// Ends the present generation here, before the join that brings the next.
    ///
    /// A heartbeat of the old generation would be refused from the moment on when the others have
    /// joined, and cost the member its id. What is asked of the member from now on is for the join
    /// after this one, so the topics to join for must be read after this call.
    pub(crate) fn begin_join(&self) {
        let mut state = self.state();
        state.generation = None;
        state.must_rejoin = false;
    }

    /// Topics the leader dealt from; others than its own must stay in view too.
    pub(crate) fn dealt_topics(&self) -> Vec<Str> {
        self.state().dealt.keys().cloned().collect()
    }

    /// The leader watches the partition counts it dealt from: a topic has more now, or was made again.
    fn has_grown(&self, state: &State) -> bool {
        let view = self.client.view();
        state.dealt.iter().any(|(topic, count)| {
            let now = view.topics.get(topic).map_or(0, |topic| topic.partitions.len());
            // 0: not known now.
            i32::try_from(now).is_ok_and(|now| now > 0 && now != *count)
        })
    }

    /// Joins and syncs, again and again until it has an assignment or fails for good.
    pub(crate) async fn join(&self, topics: &[Str]) -> Result<Vec<TopicPartition>, ClientError> {
        let mut failures = 0;
        loop {
            match self.join_once(topics).await {
                Ok(partitions) => return Ok(partitions),
                Err(error) if self.after_join_error(&error) => {
                    tracing::debug!(%error, group = %self.config.group_id, "join again");
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(self.client.retry_wait(failures)).await;
            failures += 1;
        }
    }

    /// Whether to try again, with the state set so that it can succeed.
    fn after_join_error(&self, error: &ClientError) -> bool {
        let mut state = self.state();
        let Some(code) = error.broker_code() else {
            state.coordinator = None;
            return error.is_retriable();
        };
        match code {
            ErrorCode::MemberIdRequired
            | ErrorCode::RebalanceInProgress
            | ErrorCode::IllegalGeneration => true,
            ErrorCode::UnknownMemberId => {
                state.member_id = Str::default();
                true
            }
            ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable => {
                state.coordinator = None;
                true
            }
            code => code.is_retriable(),
        }
    }

    async fn join_once(&self, topics: &[Str]) -> Result<Vec<TopicPartition>, ClientError> {
        let joined = self.join_group(topics).await?;
        let generation = GenerationId(joined.generation_id);
        let is_leader = joined.leader == joined.member_id;
        let protocol = joined.protocol_name.clone().unwrap_or_default();
        let (dealt, assignments) = if is_leader && !joined.skip_assignment {
            self.deal(&joined, &protocol).await?
        } else {
            (BTreeMap::new(), Vec::new())
        };
        let request = SyncGroupRequest {
            group_id: self.group_id(),
            generation_id: generation.get(),
            member_id: joined.member_id.clone(),
            group_instance_id: self.instance_id(),
            protocol_type: Some(Str::from(PROTOCOL_TYPE)),
            protocol_name: Some(protocol),
            assignments,
        };
        let synced = self.ask_waiting(&request).await?;
        check("SyncGroup", synced.error_code)?;
        let assigned = assignor::decode_assignment(synced.assignment)
            .map_err(|error| self.malformed("SyncGroup", &error.to_string()))?;
        let dealt = match is_leader && joined.skip_assignment {
            true => self.dealt_before(&joined).await,
            false => dealt,
        };
        let mut state = self.state();
        state.generation = Some(generation);
        state.dealt = dealt;
        state.lost = false;
        Ok(assigned)
    }

    async fn join_group(&self, topics: &[Str]) -> Result<JoinGroupResponse, ClientError> {
        let metadata = assignor::encode_subscription(topics)
            .map_err(|error| self.malformed("JoinGroup", &error.to_string()))?;
        let protocols = self.config.assignors.iter().map(|assignor| JoinGroupRequestProtocol {
            name: Str::from(assignor.name()),
            metadata: metadata.clone(),
        });
        let millis = |ms: u32| i32::try_from(ms).unwrap_or(i32::MAX);
        let request = JoinGroupRequest {
            group_id: self.group_id(),
            session_timeout_ms: millis(self.config.session_timeout_ms),
            rebalance_timeout_ms: millis(self.config.rebalance_timeout_ms),
            member_id: self.state().member_id.clone(),
            group_instance_id: self.instance_id(),
            protocol_type: Str::from(PROTOCOL_TYPE),
            protocols: protocols.collect(),
            reason: None,
        };
        let joined = self.ask_waiting(&request).await?;
        if !joined.member_id.is_empty() {
            // With MEMBER_ID_REQUIRED too: the next join carries it (KIP-394).
            self.state().member_id = joined.member_id.clone();
        }
        check("JoinGroup", joined.error_code)?;
        Ok(joined)
    }

    /// As leader: what each member gets, and the partition counts it was dealt from.
    async fn deal(
        &self,
        joined: &JoinGroupResponse,
        protocol: &str,
    ) -> Result<(BTreeMap<Str, i32>, Vec<SyncGroupRequestAssignment>), ClientError> {
        let assignor = Assignor::parse(protocol)
            .ok_or_else(|| self.malformed("JoinGroup", &format!("assignor {protocol:?}")))?;
        let mut members = Vec::with_capacity(joined.members.len());
        for member in &joined.members {
            let topics = assignor::decode_subscription(member.metadata.clone())
                .map_err(|error| self.malformed("JoinGroup", &error.to_string()))?;
            members.push(Member {
                member_id: member.member_id.clone(),
                instance_id: member.group_instance_id.clone(),
                topics,
            });
        }
        let counts = self.partition_counts(&members).await?;
        let assigned = assignor.assign(&members, &counts);
        let mut assignments = Vec::with_capacity(members.len());
        for (member, partitions) in members.into_iter().zip(assigned) {
            let assignment = assignor::encode_assignment(&partitions)
                .map_err(|error| self.malformed("SyncGroup", &error.to_string()))?;
            let member_id = member.member_id;
            assignments.push(SyncGroupRequestAssignment { member_id, assignment });
        }
        Ok((counts, assignments))
    }

    /// As leader of a group that goes on as it was (a static member that is back, KIP-814): the partition
    /// counts it was dealt from, by what its members have. So partitions are found that were added
    /// while no leader looked.
    async fn dealt_before(&self, joined: &JoinGroupResponse) -> BTreeMap<Str, i32> {
        let admin = Admin::new(Arc::clone(&self.client));
        let described = match admin.describe_groups(&[&self.config.group_id]).await {
            Ok(described) => described,
            Err(error) => {
                tracing::debug!(%error, group = %self.config.group_id, "what was dealt before");
                return BTreeMap::new();
            }
        };
        let members = joined.members.iter();
        let topics = members.flat_map(|one| assignor::decode_subscription(one.metadata.clone()));
        let mut dealt: BTreeMap<Str, i32> = topics.flatten().map(|topic| (topic, 0)).collect();
        let members = described.iter().flat_map(|group| &group.members);
        for partition in members.flat_map(|member| &member.assignment) {
            *dealt.entry(partition.topic.clone()).or_default() += 1;
        }
        dealt
    }

    /// Partition counts of all topics somebody wants; a topic that does not exist counts 0, and the
    /// group rebalances when it appears.
    async fn partition_counts(
        &self,
        members: &[Member],
    ) -> Result<BTreeMap<Str, i32>, ClientError> {
        let mut counts: BTreeMap<Str, i32> =
            members.iter().flat_map(|member| &member.topics).map(|t| (t.clone(), 0)).collect();
        self.client.track(counts.keys().map(|topic| &**topic));
        self.client.refresh().await?;
        let view = self.client.view();
        for (topic, count) in &mut counts {
            let known = view.topics.get(topic).map_or(0, |topic| topic.partitions.len());
            *count = i32::try_from(known).unwrap_or(i32::MAX);
        }
        Ok(counts)
    }

    /// Sends heartbeats for ever; `changed` is called when the assignment must be given up.
    pub(crate) async fn heartbeats(&self, changed: impl Fn()) {
        let interval_ms = self.heartbeat_interval_ms();
        let interval = Duration::from_millis(interval_ms.into());
        let session = Duration::from_millis(self.config.session_timeout_ms.into());
        let mut last_answer = Instant::now();
        loop {
            tokio::time::sleep(interval).await;
            let Some(generation) = self.state().generation else {
                last_answer = Instant::now();
                continue;
            };
            let answered = self.heartbeat(generation, interval_ms).await;
            let mut state = self.state();
            if state.generation != Some(generation) {
                continue;
            }
            match answered {
                Ok(()) => last_answer = Instant::now(),
                Err(error) => self.after_heartbeat_error(&error, &mut state),
            }
            if last_answer.elapsed() >= session {
                // Nobody has heard of us for so long: others read our partitions by now.
                state.expel();
            }
            let gone = state.must_rejoin || state.lost;
            drop(state);
            if gone {
                changed();
            }
        }
    }

    /// At most a third of the session, so that one lost heartbeat does not end it.
    fn heartbeat_interval_ms(&self) -> u32 {
        self.config.heartbeat_interval_ms.min(self.config.session_timeout_ms / 3).max(1)
    }

    /// Asks within what the session leaves: an answer after its end is of no use.
    async fn heartbeat(
        &self,
        generation: GenerationId,
        interval_ms: u32,
    ) -> Result<(), ClientError> {
        let left_ms = self.config.session_timeout_ms.saturating_sub(interval_ms).max(1);
        let timeout_ms = self.request_timeout_ms().min(left_ms);
        let timeout = Duration::from_millis(timeout_ms.into());
        // Finding the coordinator and connecting count too.
        let asked = tokio::time::timeout(timeout, self.ask_heartbeat(generation, timeout_ms)).await;
        asked.unwrap_or_else(|_| {
            let broker = format!("coordinator of {}", self.config.group_id);
            Err(ClientError::RequestTimeout { api: "Heartbeat", broker, timeout_ms })
        })
    }

    async fn ask_heartbeat(
        &self,
        generation: GenerationId,
        timeout_ms: u32,
    ) -> Result<(), ClientError> {
        let request = HeartbeatRequest {
            group_id: self.group_id(),
            generation_id: generation.get(),
            member_id: self.state().member_id.clone(),
            group_instance_id: self.instance_id(),
        };
        let response = self.ask(&request, Lane::SHARED, timeout_ms).await?;
        check("Heartbeat", response.error_code)
    }

    fn after_heartbeat_error(&self, error: &ClientError, state: &mut State) {
        tracing::debug!(%error, group = %self.config.group_id, "heartbeat");
        match error.broker_code() {
            Some(ErrorCode::RebalanceInProgress) => state.must_rejoin = true,
            Some(
                ErrorCode::UnknownMemberId
                | ErrorCode::IllegalGeneration
                | ErrorCode::FencedInstanceId,
            ) => state.expel(),
            _ => state.coordinator = None,
        }
    }

    /// Notes who asks for a commit, and when: it is fenced by that, however late it goes out.
    pub(crate) fn commit_ticket(
        &self,
        offsets: &[PartitionOffset],
        in_background: bool,
    ) -> CommitTicket {
        let (member_id, generation) = {
            let state = self.state();
            (state.member_id.clone(), state.generation)
        };
        let mut order = self.order();
        order.next += 1;
        let number = order.next;
        if in_background {
            for entry in offsets {
                let newest = order.by_partition.entry(entry.partition.clone()).or_default();
                newest.in_background = number;
            }
        }
        CommitTicket { member_id, generation, number, in_background }
    }

    fn order(&self) -> MutexGuard<'_, CommitOrder> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits offsets, one commit at a time; without a generation for a consumer that only keeps its
    /// offsets here.
    pub(crate) async fn commit(
        &self,
        offsets: &[PartitionOffset],
        ticket: &CommitTicket,
    ) -> Result<(), ClientError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let _turn = self.commit_turn.lock().await;
        let client = &self.client;
        client.with_retries("commit", || self.commit_once(offsets, ticket)).await
    }

    /// What of these offsets no newer commit has overtaken.
    fn still_wanted(
        &self,
        offsets: &[PartitionOffset],
        ticket: &CommitTicket,
    ) -> Vec<PartitionOffset> {
        let order = self.order();
        let is_wanted = |entry: &&PartitionOffset| {
            let newest = order.by_partition.get(&entry.partition).copied().unwrap_or_default();
            newest.done < ticket.number
                && !(ticket.in_background && newest.in_background > ticket.number)
        };
        offsets.iter().filter(is_wanted).cloned().collect()
    }

    fn note_committed(&self, offsets: &[PartitionOffset], number: u64) {
        let mut order = self.order();
        for entry in offsets {
            let newest = order.by_partition.entry(entry.partition.clone()).or_default();
            newest.done = newest.done.max(number);
        }
    }

    /// Whether the member is still who it was when the commit was asked for.
    fn check_fence(&self, ticket: &CommitTicket) -> Result<(), ClientError> {
        let state = self.state();
        let is_same = match ticket.generation {
            Some(_) => state.generation == ticket.generation && state.member_id == ticket.member_id,
            None => !state.is_subscribed && state.generation.is_none(),
        };
        if is_same {
            return Ok(());
        }
        Err(ClientError::Broker {
            api: "OffsetCommit",
            code: ErrorCode::IllegalGeneration,
            message: Some("the group has gone on without this member".to_owned()),
        })
    }

    async fn commit_once(
        &self,
        offsets: &[PartitionOffset],
        ticket: &CommitTicket,
    ) -> Result<(), ClientError> {
        self.check_fence(ticket)?;
        let offsets = self.still_wanted(offsets, ticket);
        if offsets.is_empty() {
            return Ok(());
        }
        let is_member = ticket.generation.is_some();
        let request = OffsetCommitRequest {
            group_id: self.group_id(),
            generation_id_or_member_epoch: ticket.generation.map_or(-1, GenerationId::get),
            member_id: if is_member { ticket.member_id.clone() } else { Str::default() },
            group_instance_id: if is_member { self.instance_id() } else { None },
            topics: commit_topics(&offsets),
            ..OffsetCommitRequest::default()
        };
        let response = self.ask(&request, Lane::SHARED, self.request_timeout_ms()).await?;
        let codes = response.topics.iter().flat_map(|topic| &topic.partitions);
        for partition in codes {
            let checked = check("OffsetCommit", partition.error_code);
            if let Err(error) = checked {
                self.after_commit_error(&error, ticket);
                return Err(error);
            }
        }
        self.note_committed(&offsets, ticket.number);
        Ok(())
    }

    fn after_commit_error(&self, error: &ClientError, ticket: &CommitTicket) {
        let mut state = self.state();
        // What is said of an earlier generation says nothing of this one.
        let is_present = state.generation.is_some() && state.generation == ticket.generation;
        match error.broker_code() {
            Some(ErrorCode::RebalanceInProgress) if is_present => state.must_rejoin = true,
            Some(
                ErrorCode::UnknownMemberId
                | ErrorCode::IllegalGeneration
                | ErrorCode::FencedInstanceId,
            ) if is_present => state.expel(),
            Some(ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable) => {
                state.coordinator = None;
            }
            _ => {}
        }
    }

    /// Committed offsets of these partitions, in their order.
    pub(crate) async fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Option<Offset>>, ClientError> {
        let group = self.config.group_id.as_str();
        let found = self
            .client
            .with_retries("fetch committed offsets", || async {
                let coordinator = self.coordinator().await?;
                let asked = Some(partitions);
                let result = crate::admin::fetch_offsets(&self.client, coordinator, group, asked);
                result.await.inspect_err(|_| self.state().coordinator = None)
            })
            .await?;
        let offset_of = |partition: &TopicPartition| {
            let entry = found.iter().find(|entry| entry.partition == *partition);
            entry.map(|entry| entry.offset)
        };
        Ok(partitions.iter().map(offset_of).collect())
    }

    /// Leaves, so that others need not wait for the session to end. A static member stays: it will be
    /// back.
    pub(crate) async fn leave(&self) -> Result<(), ClientError> {
        let member_id = {
            let mut state = self.state();
            state.generation = None;
            state.dealt.clear();
            std::mem::take(&mut state.member_id)
        };
        self.client.drop_lane(self.lane);
        if member_id.is_empty() || self.config.instance_id.is_some() {
            return Ok(());
        }
        let request = LeaveGroupRequest {
            group_id: self.group_id(),
            member_id: member_id.clone(),
            members: vec![MemberIdentity { member_id, ..MemberIdentity::default() }],
        };
        let response = self.ask(&request, Lane::SHARED, self.request_timeout_ms()).await?;
        check("LeaveGroup", response.error_code)
    }

    async fn coordinator(&self) -> Result<NodeId, ClientError> {
        let known = self.state().coordinator;
        if let Some(node) = known {
            return Ok(node);
        }
        let node = self.client.find_group_coordinator(&self.config.group_id).await?;
        self.state().coordinator = Some(node);
        Ok(node)
    }

    async fn ask<R: Request>(
        &self,
        request: &R,
        lane: Lane,
        timeout_ms: u32,
    ) -> Result<R::Response, ClientError> {
        let node = self.coordinator().await?;
        let asked = async {
            let connection = self.client.connection(node, lane).await?;
            connection.request(request, i16::MAX, timeout_ms).await
        };
        // A broker that cannot be reached may have handed the group on.
        asked.await.inspect_err(|_| self.state().coordinator = None)
    }

    /// Join and sync are answered when the others have come, or at the rebalance timeout.
    async fn ask_waiting<R: Request>(&self, request: &R) -> Result<R::Response, ClientError> {
        let timeout_ms = self.config.rebalance_timeout_ms.saturating_add(JOIN_GRACE_MS);
        self.ask(request, self.lane, timeout_ms.max(self.request_timeout_ms())).await
    }

    fn request_timeout_ms(&self) -> u32 {
        self.client.config().request_timeout_ms
    }

    fn group_id(&self) -> Str {
        Str::copy_from(&self.config.group_id)
    }

    fn instance_id(&self) -> Option<Str> {
        self.config.instance_id.as_deref().map(Str::copy_from)
    }

    fn malformed(&self, api: &'static str, reason: &str) -> ClientError {
        ClientError::MalformedAnswer {
            api,
            broker: format!("coordinator of {}", self.config.group_id),
            reason: reason.to_owned(),
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.client.drop_lane(self.lane);
    }
}

impl State {
    /// The group goes on without us. The member id is of no use any more.
    fn expel(&mut self) {
        self.generation = None;
        self.member_id = Str::default();
        self.dealt.clear();
        self.lost = true;
    }
}

fn check(api: &'static str, code: i16) -> Result<(), ClientError> {
    match ErrorCode::from_code(code) {
        ErrorCode::None => Ok(()),
        code => Err(ClientError::Broker { api, code, message: None }),
    }
}

pub(crate) fn commit_topics(offsets: &[PartitionOffset]) -> Vec<OffsetCommitRequestTopic> {
    let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
    for entry in offsets {
        let partition = OffsetCommitRequestPartition {
            partition_index: entry.partition.partition.get(),
            committed_offset: entry.offset.get(),
            // Kafka itself writes an empty string where there is nothing to say.
            committed_metadata: Some(Str::default()),
            ..OffsetCommitRequestPartition::default()
        };
        match topics.iter_mut().find(|topic| topic.name == entry.partition.topic) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(OffsetCommitRequestTopic {
                name: entry.partition.topic.clone(),
                partitions: vec![partition],
            }),
        }
    }
    topics
}

//! What a member asks of its coordinator. One attempt each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_protocol::api::consumer_group_heartbeat::{
    Assignment, ConsumerGroupHeartbeatRequest, TopicPartitions,
};
use weir_protocol::api::heartbeat::HeartbeatRequest;
use weir_protocol::api::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use weir_protocol::api::leave_group::{LeaveGroupRequest, MemberIdentity};
use weir_protocol::api::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{GenerationId, NodeId, Str, Uuid};
use weir_protocol::Request;

use super::classic::{JoinCall, Joined};
use super::consumer_member::{Beat, Beaten};
use super::{Event, Interest, Membership};
use crate::admin::Admin;
use crate::assignor::{self, Assignor, Member, Subscription};
use crate::client::Lane;
use crate::error::ClientError;

/// Kafka's protocol type of consumers.
const PROTOCOL_TYPE: &str = "consumer";

/// The broker answers a join within the rebalance timeout; this much later something is wrong.
const JOIN_GRACE_MS: u32 = 5_000;

impl Membership {
    /// Joins and syncs. `given` is the member id that the coordinator gave, as soon as it did.
    pub(super) async fn join(
        &self,
        call: &JoinCall,
        given: &mut Option<Str>,
    ) -> Result<Joined, ClientError> {
        let joined = self.join_group(call, given).await?;
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
        *self.dealt() = dealt;
        Ok(Joined { member_id: joined.member_id, generation, assigned })
    }

    async fn join_group(
        &self,
        call: &JoinCall,
        given: &mut Option<Str>,
    ) -> Result<JoinGroupResponse, ClientError> {
        let mut protocols = Vec::with_capacity(self.config.assignors.len());
        for assignor in &self.config.assignors {
            let metadata = assignor::encode_subscription(*assignor, &call.subscription)
                .map_err(|error| self.malformed("JoinGroup", &error.to_string()))?;
            protocols.push(JoinGroupRequestProtocol { name: Str::from(assignor.name()), metadata });
        }
        let millis = |ms: u32| i32::try_from(ms).unwrap_or(i32::MAX);
        let request = JoinGroupRequest {
            group_id: self.group_id(),
            session_timeout_ms: millis(self.config.session_timeout_ms),
            rebalance_timeout_ms: millis(self.config.poll_interval_ms_max),
            member_id: call.member_id.clone(),
            group_instance_id: self.instance_id(),
            protocol_type: Str::from(PROTOCOL_TYPE),
            protocols,
            reason: None,
        };
        let joined = self.ask_waiting(&request).await?;
        if !joined.member_id.is_empty() {
            // With MEMBER_ID_REQUIRED too: the next join carries it (KIP-394).
            *given = Some(joined.member_id.clone());
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
            let Subscription { topics, owned, generation } =
                assignor::decode_subscription(member.metadata.clone())
                    .map_err(|error| self.malformed("JoinGroup", &error.to_string()))?;
            members.push(Member {
                member_id: member.member_id.clone(),
                instance_id: member.group_instance_id.clone(),
                topics,
                owned,
                generation,
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
        let wanted = members.flat_map(|one| assignor::decode_subscription(one.metadata.clone()));
        let mut dealt: BTreeMap<Str, i32> =
            wanted.flat_map(|wanted| wanted.topics).map(|topic| (topic, 0)).collect();
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

    /// Asks within what the session leaves: an answer after its end is of no use.
    pub(super) async fn heartbeat(
        &self,
        member_id: Str,
        generation: GenerationId,
    ) -> Result<(), ClientError> {
        let request = HeartbeatRequest {
            group_id: self.group_id(),
            generation_id: generation.get(),
            member_id,
            group_instance_id: self.instance_id(),
        };
        let interval_ms = self.config.heartbeat_interval_ms.min(self.config.session_timeout_ms / 3);
        let left_ms = self.config.session_timeout_ms.saturating_sub(interval_ms).max(1);
        let response = self.ask_within("Heartbeat", &request, left_ms).await?;
        check("Heartbeat", response.error_code)
    }

    /// The heartbeat of KIP-848. Asks as long as a session without a heartbeat lasts.
    pub(super) async fn beat(&self, beat: &Beat) -> Result<Beaten, ClientError> {
        let mut request = ConsumerGroupHeartbeatRequest {
            group_id: self.group_id(),
            member_id: beat.member_id.clone(),
            member_epoch: beat.epoch,
            instance_id: self.instance_id(),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        if let Some(interest) = &beat.interest {
            let timeout_ms = self.config.poll_interval_ms_max;
            request.rebalance_timeout_ms = i32::try_from(timeout_ms).unwrap_or(i32::MAX);
            request.server_assignor = self.config.server_assignor.as_deref().map(Str::copy_from);
            request.subscribed_topic_names = Some(interest.topics.clone());
            // Empty takes an earlier one back.
            request.subscribed_topic_regex = Some(interest.pattern.clone().unwrap_or_default());
            self.check_pattern(interest).await?;
        }
        request.topic_partitions = beat.held.as_ref().map(|held| {
            let topic = |(id, partitions): (&Uuid, &Vec<i32>)| TopicPartitions {
                topic_id: *id,
                partitions: partitions.clone(),
            };
            held.iter().map(topic).collect()
        });
        let within_ms = self.config.session_timeout_ms;
        let answer = self.ask_within("ConsumerGroupHeartbeat", &request, within_ms).await?;
        match ErrorCode::from_code(answer.error_code) {
            ErrorCode::None => {}
            code => {
                let message = answer.error_message.map(|text| text.to_string());
                return Err(ClientError::Broker { api: "ConsumerGroupHeartbeat", code, message });
            }
        }
        let places = |assignment: Assignment| {
            let of_topic = |topic: TopicPartitions| {
                topic.partitions.into_iter().map(move |number| (topic.topic_id, number))
            };
            assignment.topic_partitions.into_iter().flat_map(of_topic).collect()
        };
        Ok(Beaten {
            member_id: answer.member_id,
            epoch: answer.member_epoch,
            interval_ms: u64::try_from(answer.heartbeat_interval_ms).unwrap_or(0),
            assigned: answer.assignment.map(places),
        })
    }

    /// Version 0 has no room for a pattern, and would leave it out without a word.
    async fn check_pattern(&self, interest: &Interest) -> Result<(), ClientError> {
        if interest.pattern.is_none() {
            return Ok(());
        }
        let node = self.coordinator().await?;
        let connection = self.client.connection(node, Lane::SHARED).await?;
        match connection.version::<ConsumerGroupHeartbeatRequest>(i16::MAX)? {
            0 => Err(ClientError::UnsupportedVersion {
                api: "ConsumerGroupHeartbeat",
                broker: connection.endpoint().to_string(),
                broker_min: 0,
                broker_max: 0,
                client_min: 1,
                client_max: 1,
            }),
            _ => Ok(()),
        }
    }

    /// Finds out the names of assigned topics: assignments have ids only.
    pub(super) async fn name_topics(&self) {
        let mut unnamed = self.machine().unnamed();
        if unnamed.is_empty() {
            return;
        }
        let mut names = BTreeMap::new();
        for (name, topic) in &self.client.view().topics {
            if unnamed.remove(&topic.id) {
                names.insert(topic.id, name.clone());
            }
        }
        if !unnamed.is_empty() {
            match self.client.topic_names(unnamed).await {
                Ok(found) => names.extend(found),
                // The next heartbeat asks again.
                Err(error) => tracing::debug!(%error, "names of assigned topics"),
            }
        }
        self.handle(Event::Named(names));
    }

    pub(super) async fn leave_group(&self, member_id: Str) -> Result<(), ClientError> {
        let request = LeaveGroupRequest {
            group_id: self.group_id(),
            member_id: member_id.clone(),
            members: vec![MemberIdentity { member_id, ..MemberIdentity::default() }],
        };
        let response = self.ask(&request, Lane::SHARED, self.request_timeout_ms()).await?;
        check("LeaveGroup", response.error_code)
    }

    /// As [`Membership::ask`], with finding the coordinator and connecting inside the time too.
    pub(super) async fn ask_within<R: Request>(
        &self,
        api: &'static str,
        request: &R,
        within_ms: u32,
    ) -> Result<R::Response, ClientError> {
        let timeout_ms = self.request_timeout_ms().min(within_ms);
        let asking = self.ask(request, Lane::SHARED, timeout_ms);
        let asked = tokio::time::timeout(Duration::from_millis(timeout_ms.into()), asking).await;
        asked.unwrap_or_else(|_| {
            let broker = format!("coordinator of {}", self.config.group_id);
            Err(ClientError::RequestTimeout { api, broker, timeout_ms })
        })
    }

    pub(super) async fn coordinator(&self) -> Result<NodeId, ClientError> {
        let known = *self.known_coordinator();
        if let Some(node) = known {
            return Ok(node);
        }
        let node = self.client.find_group_coordinator(&self.config.group_id).await?;
        *self.known_coordinator() = Some(node);
        Ok(node)
    }

    pub(super) async fn ask<R: Request>(
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
        asked.await.inspect_err(|_| *self.known_coordinator() = None)
    }

    /// Join and sync are answered when the others have come, or at the rebalance timeout. That is long:
    /// meanwhile it is looked whether the coordinator is another by now, as when this one hangs.
    async fn ask_waiting<R: Request>(&self, request: &R) -> Result<R::Response, ClientError> {
        let timeout_ms = self.config.poll_interval_ms_max.saturating_add(JOIN_GRACE_MS);
        let node = self.coordinator().await?;
        let asking = self.ask(request, self.lane, timeout_ms.max(self.request_timeout_ms()));
        // Boxed: a caller's future would be large by it.
        let mut asking = Box::pin(asking);
        let interval_ms = (self.config.session_timeout_ms / 3).max(1);
        let interval = Duration::from_millis(interval_ms.into());
        loop {
            if let Ok(answer) = tokio::time::timeout(interval, &mut asking).await {
                return answer;
            }
            let finding = self.client.find_group_coordinator(&self.config.group_id);
            let found = tokio::time::timeout(interval, finding).await;
            if let Some(moved_to) = found.ok().and_then(Result::ok).filter(|now| *now != node) {
                *self.known_coordinator() = Some(moved_to);
                return Err(ClientError::ConnectionLost {
                    broker: format!("coordinator of {}", self.config.group_id),
                    reason: "another broker has the group now".to_owned(),
                });
            }
        }
    }

    pub(super) fn request_timeout_ms(&self) -> u32 {
        self.client.config().request_timeout_ms
    }

    pub(super) fn group_id(&self) -> Str {
        Str::copy_from(&self.config.group_id)
    }

    pub(super) fn instance_id(&self) -> Option<Str> {
        self.config.instance_id.as_deref().map(Str::copy_from)
    }

    pub(super) fn malformed(&self, api: &'static str, reason: &str) -> ClientError {
        ClientError::MalformedAnswer {
            api,
            broker: format!("coordinator of {}", self.config.group_id),
            reason: reason.to_owned(),
        }
    }
}

pub(super) fn check(api: &'static str, code: i16) -> Result<(), ClientError> {
    match ErrorCode::from_code(code) {
        ErrorCode::None => Ok(()),
        code => Err(ClientError::Broker { api, code, message: None }),
    }
}

//! Administrative calls that change groups, and the description of consumer groups (KIP-848).

use weir_protocol::api::consumer_group_describe::{
    Assignment, ConsumerGroupDescribeRequest, DescribedGroup, Member,
};
use weir_protocol::api::delete_groups::DeleteGroupsRequest;
use weir_protocol::api::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{PartitionId, Str};

use super::acls::refused;
use super::{check, Admin, GroupDescription, MemberDescription};
use crate::client::Lane;
use crate::consumer::TopicPartition;
use crate::error::ClientError;

/// Each partition with what became of it.
pub type PartitionResults = Vec<(TopicPartition, Result<(), ClientError>)>;

impl Admin {
    /// Deletes groups without members, offsets included; one result per group, in their order.
    ///
    /// # Errors
    /// If a coordinator could not be asked. That it refuses a group is in its result.
    pub async fn delete_groups(
        &self,
        groups: &[&str],
    ) -> Result<Vec<Result<(), ClientError>>, ClientError> {
        let mut results = Vec::with_capacity(groups.len());
        for group in groups {
            let request = DeleteGroupsRequest { groups_names: vec![Str::copy_from(group)] };
            let ask = || async {
                let response = self.ask_coordinator(group, &request).await?;
                let code = response.results.first().map_or(0, |result| result.error_code);
                retriable("DeleteGroups", code)?;
                Ok(check("DeleteGroups", code))
            };
            results.push(self.client.with_retries("delete groups", ask).await?);
        }
        Ok(results)
    }

    /// Deletes committed offsets of a group that does not read these topics now (KIP-496).
    ///
    /// # Errors
    /// If the coordinator could not be asked or refused. That it refuses a partition is in its result.
    pub async fn delete_group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<PartitionResults, ClientError> {
        let mut topics: Vec<OffsetDeleteRequestTopic> = Vec::new();
        for TopicPartition { topic, partition } in partitions {
            let entry = OffsetDeleteRequestPartition { partition_index: partition.get() };
            match topics.iter_mut().find(|known| known.name == *topic) {
                Some(known) => known.partitions.push(entry),
                None => topics.push(OffsetDeleteRequestTopic {
                    name: topic.clone(),
                    partitions: vec![entry],
                }),
            }
        }
        let request = OffsetDeleteRequest { group_id: Str::copy_from(group), topics };
        let ask = || async {
            let response = self.ask_coordinator(group, &request).await?;
            check("OffsetDelete", response.error_code)?;
            Ok(response)
        };
        let response = self.client.with_retries("delete group offsets", ask).await?;
        let mut results = Vec::with_capacity(partitions.len());
        for topic in response.topics {
            for partition in topic.partitions {
                let place =
                    TopicPartition::new(&topic.name, PartitionId(partition.partition_index));
                results.push((place, check("OffsetDelete", partition.error_code)));
            }
        }
        Ok(results)
    }

    /// A group of the consumer protocol; `None` if there is none of this name.
    pub(super) async fn describe_consumer_group(
        &self,
        group: &str,
    ) -> Result<Option<GroupDescription>, ClientError> {
        let request = ConsumerGroupDescribeRequest {
            group_ids: vec![Str::copy_from(group)],
            ..ConsumerGroupDescribeRequest::default()
        };
        let response = match self.ask_coordinator(group, &request).await {
            // A broker without the protocol has no such groups.
            Err(ClientError::UnsupportedVersion { .. }) => return Ok(None),
            other => other?,
        };
        let found = response.groups.into_iter().next().unwrap_or_default();
        match ErrorCode::from_code(found.error_code) {
            ErrorCode::GroupIdNotFound => Ok(None),
            _ => {
                let message = found.error_message.as_ref();
                refused("ConsumerGroupDescribe", found.error_code, message)?;
                Ok(Some(describe(found)))
            }
        }
    }

    pub(super) async fn ask_coordinator<R: weir_protocol::Request>(
        &self,
        group: &str,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        let node = self.client.find_group_coordinator(group).await?;
        let connection = self.client.connection(node, Lane::SHARED).await?;
        connection.request(request, i16::MAX, self.client.config().request_timeout_ms).await
    }
}

/// An error for a code that passes, so that the call is repeated.
fn retriable(api: &'static str, code: i16) -> Result<(), ClientError> {
    if ErrorCode::from_code(code).is_retriable() {
        check(api, code)
    } else {
        Ok(())
    }
}

fn describe(group: DescribedGroup) -> GroupDescription {
    let member = |member: Member| MemberDescription {
        member_id: member.member_id,
        instance_id: member.instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
        assignment: partitions(member.assignment),
    };
    GroupDescription {
        group_id: group.group_id,
        state: group.group_state,
        protocol: group.assignor_name,
        members: group.members.into_iter().map(member).collect(),
    }
}

fn partitions(assignment: Assignment) -> Vec<TopicPartition> {
    let mut all = Vec::new();
    for topic in assignment.topic_partitions {
        let name = topic.topic_name;
        all.extend(
            topic.partitions.into_iter().map(|number| TopicPartition {
                topic: name.clone(),
                partition: PartitionId(number),
            }),
        );
    }
    all
}

//! Administrative calls. Each repeats what fails for a passing reason, up to `api_timeout_ms`.

mod acls;
mod configs;
mod groups;
mod lag;
mod partitions;
mod storage;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_protocol::api::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use weir_protocol::api::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use weir_protocol::api::describe_cluster::DescribeClusterRequest;
use weir_protocol::api::describe_groups::{
    DescribeGroupsRequest, DescribedGroup, DescribedGroupMember,
};
use weir_protocol::api::list_groups::ListGroupsRequest;
use weir_protocol::api::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use weir_protocol::api::offset_commit::OffsetCommitRequest;
use weir_protocol::api::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    OffsetFetchResponse,
};
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{LeaderEpoch, NodeId, Offset, PartitionId, Str, TimestampMs, Uuid};

use crate::client::{Client, Lane};
use crate::config::IsolationLevel;
use crate::consumer::{PartitionOffset, TopicPartition};
use crate::error::ClientError;
use crate::metadata::{topic_view, ClusterView, TopicView};

pub use acls::{Acl, AclFilter, ANY, PATTERN_LITERAL};
pub use configs::{ConfigChange, ConfigEntry, ConfigResource};
pub use groups::PartitionResults;
pub use lag::PartitionLag;
pub use storage::{ApiVersionRange, DeletedRecords, LogDirDescription, ReplicaSize};

/// A topic to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions, or `None` for the broker's default.
    pub partitions: Option<i32>,
    /// How many replicas, or `None` for the broker's default.
    pub replication: Option<i16>,
    /// Topic settings by Kafka's names.
    pub configs: Vec<(String, String)>,
}

impl NewTopic {
    /// With so many partitions and the broker's replication.
    pub fn new(name: impl Into<String>, partitions: i32) -> Self {
        NewTopic {
            name: name.into(),
            partitions: Some(partitions),
            replication: None,
            configs: Vec::new(),
        }
    }

    /// With so many replicas.
    #[must_use]
    pub fn with_replication(mut self, replication: i16) -> Self {
        self.replication = Some(replication);
        self
    }

    /// With this setting.
    #[must_use]
    pub fn with_config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.push((name.into(), value.into()));
        self
    }
}

/// What became of creating one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It was made now.
    Made,
    /// It was there.
    Existed,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: Str,
    /// Its id; zero where the broker gives none.
    pub id: Uuid,
    /// Whether it is Kafka's own.
    pub internal: bool,
    /// Its partitions, in order.
    pub partitions: Vec<PartitionDescription>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionDescription {
    /// Its number.
    pub partition: PartitionId,
    /// Its leader, if it has one.
    pub leader: Option<NodeId>,
    /// Nodes that have copies.
    pub replicas: Vec<NodeId>,
    /// Nodes whose copies are up to date.
    pub in_sync: Vec<NodeId>,
    /// Nodes with copies that are not there.
    pub offline: Vec<NodeId>,
}

/// A group in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// Its id.
    pub group_id: Str,
    /// `consumer` for groups of consumers.
    pub protocol_type: Str,
    /// Kafka's name of its state; empty where the broker gives none.
    pub state: Str,
}

/// A group with its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its id.
    pub group_id: Str,
    /// Kafka's name of its state; `Dead` for a group there is not.
    pub state: Str,
    /// The assignor in use.
    pub protocol: Str,
    /// Its members.
    pub members: Vec<MemberDescription>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    /// Its id.
    pub member_id: Str,
    /// Its static id, if any.
    pub instance_id: Option<Str>,
    /// What its client calls itself.
    pub client_id: Str,
    /// Where it connected from.
    pub client_host: Str,
    /// What it reads.
    pub assignment: Vec<TopicPartition>,
}

/// Which offset is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// That of the first record.
    Earliest,
    /// The end.
    Latest,
    /// That of the first record of this time or later.
    AtTime(TimestampMs),
}

impl OffsetSpec {
    const fn code(self) -> i64 {
        match self {
            OffsetSpec::Latest => -1,
            OffsetSpec::Earliest => -2,
            OffsetSpec::AtTime(time) => time.get(),
        }
    }
}

/// The cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDescription {
    /// Its id, if the broker says it.
    pub cluster_id: Option<Str>,
    /// The controller, if there is one.
    pub controller: Option<NodeId>,
    /// Brokers: node, host, port.
    pub brokers: Vec<(NodeId, Str, u16)>,
}

/// Administrative calls. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Admin {
    client: Arc<Client>,
}

impl Admin {
    /// Over this client.
    pub fn new(client: Arc<Client>) -> Admin {
        Admin { client }
    }

    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.client.config().request_timeout_ms).unwrap_or(i32::MAX)
    }

    /// Creates topics; one result per topic, in their order. A topic that exists is
    /// [`Created::Existed`], whatever its settings.
    ///
    /// # Errors
    /// If the cluster could not be asked.
    pub async fn create_topics(
        &self,
        topics: &[NewTopic],
    ) -> Result<Vec<Result<Created, ClientError>>, ClientError> {
        let request = CreateTopicsRequest {
            topics: topics.iter().map(creatable).collect(),
            timeout_ms: self.timeout_ms(),
            validate_only: false,
        };
        let response = self
            .client
            .with_retries("create topics", || async {
                let response = self.client.ask_controller(&request).await?;
                let codes = response.topics.iter().map(|topic| topic.error_code);
                passing(&self.client, "CreateTopics", codes)?;
                Ok(response)
            })
            .await?;
        let result_of = |topic: &NewTopic| {
            let result = response.topics.iter().find(|result| result.name == topic.name);
            let code = result.map_or(ErrorCode::UnknownServerError, |result| {
                ErrorCode::from_code(result.error_code)
            });
            match code {
                ErrorCode::None => Ok(Created::Made),
                ErrorCode::TopicAlreadyExists => Ok(Created::Existed),
                code => {
                    let message = result.and_then(|result| words(result.error_message.as_ref()));
                    Err(ClientError::Broker { api: "CreateTopics", code, message })
                }
            }
        };
        Ok(topics.iter().map(result_of).collect())
    }

    /// Deletes topics; one result per topic, in their order.
    ///
    /// # Errors
    /// If the cluster could not be asked.
    pub async fn delete_topics(
        &self,
        topics: &[&str],
    ) -> Result<Vec<Result<(), ClientError>>, ClientError> {
        let by_name = |name: &&str| DeleteTopicState {
            name: Some(Str::copy_from(name)),
            ..Default::default()
        };
        let request = DeleteTopicsRequest {
            topics: topics.iter().map(by_name).collect(),
            topic_names: topics.iter().map(|name| Str::copy_from(name)).collect(),
            timeout_ms: self.timeout_ms(),
        };
        let response = self
            .client
            .with_retries("delete topics", || async {
                let response = self.client.ask_controller(&request).await?;
                let codes = response.responses.iter().map(|topic| topic.error_code);
                passing(&self.client, "DeleteTopics", codes)?;
                Ok(response)
            })
            .await?;
        let result_of = |name: &&str| {
            let is_meant = |result: &&weir_protocol::api::delete_topics::DeletableTopicResult| {
                result.name.as_deref() == Some(*name)
            };
            let result = response.responses.iter().find(is_meant);
            let code = result.map_or(ErrorCode::UnknownServerError, |result| {
                ErrorCode::from_code(result.error_code)
            });
            match code {
                ErrorCode::None => Ok(()),
                ErrorCode::UnknownTopicOrPartition => {
                    Err(ClientError::UnknownTopic { topic: (*name).to_owned() })
                }
                code => {
                    let message = result.and_then(|result| words(result.error_message.as_ref()));
                    Err(ClientError::Broker { api: "DeleteTopics", code, message })
                }
            }
        };
        Ok(topics.iter().map(result_of).collect())
    }

    /// All topics, by name, Kafka's own included.
    ///
    /// # Errors
    /// If the cluster could not be asked.
    pub async fn list_topics(&self) -> Result<Vec<TopicDescription>, ClientError> {
        let response = self
            .client
            .with_retries("list topics", || self.client.fetch_metadata(None, false))
            .await?;
        let mut topics: Vec<TopicDescription> = response
            .topics
            .into_iter()
            .filter_map(|topic| Some(describe(topic.name.clone()?, topic_view(topic))))
            .collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// One topic. Does not create it.
    ///
    /// # Errors
    /// [`ClientError::UnknownTopic`] if there is none; or if the cluster could not be asked.
    pub async fn describe_topic(&self, topic: &str) -> Result<TopicDescription, ClientError> {
        let name = Str::copy_from(topic);
        let ask = || self.client.fetch_metadata(Some(vec![name.clone()]), false);
        let response = self.client.with_retries("describe topic", ask).await?;
        let unknown = || ClientError::UnknownTopic { topic: topic.to_owned() };
        let found = response.topics.into_iter().next().ok_or_else(unknown)?;
        match ErrorCode::from_code(found.error_code) {
            ErrorCode::None | ErrorCode::LeaderNotAvailable => {
                Ok(describe(name, topic_view(found)))
            }
            ErrorCode::UnknownTopicOrPartition => Err(unknown()),
            code => Err(ClientError::Broker { api: "Metadata", code, message: None }),
        }
    }

    /// All groups of all brokers, by id.
    ///
    /// # Errors
    /// If a broker could not be asked.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>, ClientError> {
        let nodes: Vec<NodeId> = self.client.view().brokers.keys().copied().collect();
        let mut groups = BTreeMap::new();
        for node in nodes {
            let response = self
                .client
                .with_retries("list groups", || async {
                    let request = ListGroupsRequest::default();
                    let connection = self.client.connection(node, Lane::SHARED).await?;
                    let timeout_ms = self.client.config().request_timeout_ms;
                    let response = connection.request(&request, i16::MAX, timeout_ms).await?;
                    check("ListGroups", response.error_code)?;
                    Ok(response)
                })
                .await?;
            for group in response.groups {
                groups.insert(
                    group.group_id.clone(),
                    GroupListing {
                        group_id: group.group_id,
                        protocol_type: group.protocol_type,
                        state: group.group_state,
                    },
                );
            }
        }
        Ok(groups.into_values().collect())
    }

    /// Groups with their members, in the order asked for.
    ///
    /// # Errors
    /// If a coordinator could not be asked or refused.
    pub async fn describe_groups(
        &self,
        groups: &[&str],
    ) -> Result<Vec<GroupDescription>, ClientError> {
        let mut described = Vec::with_capacity(groups.len());
        for group in groups {
            let one =
                self.client.with_retries("describe group", || self.describe_group(group)).await?;
            described.push(one);
        }
        Ok(described)
    }

    async fn describe_group(&self, group: &str) -> Result<GroupDescription, ClientError> {
        let request = DescribeGroupsRequest {
            groups: vec![Str::copy_from(group)],
            ..DescribeGroupsRequest::default()
        };
        let node = self.client.find_group_coordinator(group).await?;
        let connection = self.client.connection(node, Lane::SHARED).await?;
        let timeout_ms = self.client.config().request_timeout_ms;
        let response = connection.request(&request, i16::MAX, timeout_ms).await?;
        let found = response.groups.into_iter().next().unwrap_or_default();
        match ErrorCode::from_code(found.error_code) {
            ErrorCode::None => Ok(describe_group(found)),
            // DescribeGroups v6 says so for a group there is not; older versions say Dead.
            // Also for one of the consumer protocol.
            ErrorCode::GroupIdNotFound => {
                let of_consumers = self.describe_consumer_group(group).await?;
                Ok(of_consumers.unwrap_or_else(|| GroupDescription {
                    group_id: Str::copy_from(group),
                    state: Str::from("Dead"),
                    protocol: Str::default(),
                    members: Vec::new(),
                }))
            }
            code => {
                let message = words(found.error_message.as_ref());
                Err(ClientError::Broker { api: "DescribeGroups", code, message })
            }
        }
    }

    /// All committed offsets of a group; none for a group that never was.
    ///
    /// # Errors
    /// If the coordinator could not be asked or refused.
    pub async fn group_offsets(&self, group: &str) -> Result<Vec<PartitionOffset>, ClientError> {
        let ask = || async {
            let node = self.client.find_group_coordinator(group).await?;
            fetch_offsets(&self.client, node, group, None).await
        };
        self.client.with_retries("fetch group offsets", ask).await
    }

    /// Sets committed offsets of a group without members.
    ///
    /// # Errors
    /// If the coordinator could not be asked or refused, as it does while the group has members.
    pub async fn set_group_offsets(
        &self,
        group: &str,
        offsets: &[PartitionOffset],
    ) -> Result<(), ClientError> {
        let request = OffsetCommitRequest {
            group_id: Str::copy_from(group),
            topics: crate::group::commit_topics(offsets),
            ..OffsetCommitRequest::default()
        };
        let ask = || async {
            let node = self.client.find_group_coordinator(group).await?;
            let connection = self.client.connection(node, Lane::SHARED).await?;
            let timeout_ms = self.client.config().request_timeout_ms;
            let response = connection.request(&request, i16::MAX, timeout_ms).await?;
            let mut partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            partitions.try_for_each(|partition| check("OffsetCommit", partition.error_code))
        };
        self.client.with_retries("set group offsets", ask).await
    }

    /// Offsets by kind or time, in any order; `None` where no record matches.
    ///
    /// # Errors
    /// If a leader could not be asked or refused.
    pub async fn list_offsets(
        &self,
        asked: &[(TopicPartition, OffsetSpec)],
    ) -> Result<Vec<(TopicPartition, Option<Offset>)>, ClientError> {
        let topics: BTreeSet<Str> =
            asked.iter().map(|(partition, _)| partition.topic.clone()).collect();
        let ask = || async {
            // Of its own: what is asked for once must not stay in view for ever.
            let names = topics.iter().cloned().collect();
            let mut view = ClusterView::default();
            view.update(self.client.fetch_metadata(Some(names), false).await?);
            list_offsets(&self.client, &view, asked, IsolationLevel::ReadUncommitted).await
        };
        self.client.with_retries("list offsets", ask).await
    }

    /// Brokers and controller.
    ///
    /// # Errors
    /// If the cluster could not be asked.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, ClientError> {
        let request = DescribeClusterRequest::default();
        let response = self
            .client
            .with_retries("describe cluster", || async {
                let response = self.client.ask_any(&request).await?;
                check("DescribeCluster", response.error_code)?;
                Ok(response)
            })
            .await?;
        let brokers = response.brokers.into_iter().filter_map(|broker| {
            Some((NodeId(broker.broker_id), broker.host, u16::try_from(broker.port).ok()?))
        });
        Ok(ClusterDescription {
            cluster_id: Some(response.cluster_id).filter(|id| !id.is_empty()),
            controller: (response.controller_id >= 0).then_some(NodeId(response.controller_id)),
            brokers: brokers.collect(),
        })
    }
}

fn creatable(topic: &NewTopic) -> CreatableTopic {
    let config = |(name, value): &(String, String)| CreatableTopicConfig {
        name: Str::copy_from(name),
        value: Some(Str::copy_from(value)),
    };
    CreatableTopic {
        name: Str::copy_from(&topic.name),
        // -1 is the broker's default (KIP-464).
        num_partitions: topic.partitions.unwrap_or(-1),
        replication_factor: topic.replication.unwrap_or(-1),
        assignments: Vec::new(),
        configs: topic.configs.iter().map(config).collect(),
    }
}

fn describe(name: Str, view: TopicView) -> TopicDescription {
    let partitions = (0..).zip(view.partitions).map(|(number, partition)| PartitionDescription {
        partition: PartitionId(number),
        leader: partition.leader,
        replicas: partition.replicas,
        in_sync: partition.in_sync,
        offline: partition.offline,
    });
    TopicDescription {
        name,
        id: view.id,
        internal: view.internal,
        partitions: partitions.collect(),
    }
}

fn describe_group(group: DescribedGroup) -> GroupDescription {
    let member = |member: DescribedGroupMember| MemberDescription {
        assignment: crate::assignor::decode_assignment(member.member_assignment)
            .unwrap_or_default(),
        member_id: member.member_id,
        instance_id: member.group_instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
    };
    GroupDescription {
        group_id: group.group_id,
        state: group.group_state,
        protocol: group.protocol_data,
        members: group.members.into_iter().map(member).collect(),
    }
}

/// The broker's words, where there are any.
fn words(message: Option<&Str>) -> Option<String> {
    message.filter(|text| !text.is_empty()).map(ToString::to_string)
}

fn check(api: &'static str, code: i16) -> Result<(), ClientError> {
    match ErrorCode::from_code(code) {
        ErrorCode::None => Ok(()),
        code => Err(ClientError::Broker { api, code, message: None }),
    }
}

/// An error if one of the codes is that of a moved controller, so that the whole call is repeated.
fn passing(
    client: &Client,
    api: &'static str,
    mut codes: impl Iterator<Item = i16>,
) -> Result<(), ClientError> {
    if codes.any(|code| code == ErrorCode::NotController.code()) {
        client.refresh_soon();
        return check(api, ErrorCode::NotController.code());
    }
    Ok(())
}

/// Asks each leader for the offsets of its partitions. One attempt.
pub(crate) async fn list_offsets(
    client: &Client,
    view: &ClusterView,
    asked: &[(TopicPartition, OffsetSpec)],
    isolation: IsolationLevel,
) -> Result<Vec<(TopicPartition, Option<Offset>)>, ClientError> {
    let mut by_leader: BTreeMap<NodeId, Vec<&(TopicPartition, OffsetSpec)>> = BTreeMap::new();
    for entry in asked {
        let TopicPartition { topic, partition } = &entry.0;
        let known = view.topics.get(topic).and_then(|topic| topic.partition(*partition));
        let Some(leader) = known.and_then(|partition| partition.leader) else {
            client.refresh_soon();
            return Err(ClientError::NoLeader { topic: topic.to_string(), partition: *partition });
        };
        by_leader.entry(leader).or_default().push(entry);
    }
    let mut found = Vec::with_capacity(asked.len());
    for (leader, entries) in by_leader {
        for (place, offset) in offsets_of_leader(client, leader, &entries, isolation).await? {
            found.push((place, offset?));
        }
    }
    Ok(found)
}

/// What an answer has of each partition.
pub(crate) type Each<T> = Vec<(TopicPartition, Result<Option<T>, ClientError>)>;

/// Asks one broker for the offsets of partitions that it leads. One attempt.
pub(crate) async fn offsets_of_leader(
    client: &Client,
    leader: NodeId,
    asked: &[&(TopicPartition, OffsetSpec)],
    isolation: IsolationLevel,
) -> Result<Each<Offset>, ClientError> {
    let request = ListOffsetsRequest {
        replica_id: -1,
        isolation_level: i8::from(isolation == IsolationLevel::ReadCommitted),
        topics: list_offsets_topics(asked),
        timeout_ms: i32::try_from(client.config().request_timeout_ms).unwrap_or(i32::MAX),
    };
    let connection = client.connection(leader, Lane::SHARED).await?;
    let timeout_ms = client.config().request_timeout_ms;
    let response = connection.request(&request, i16::MAX, timeout_ms).await?;
    let mut found = Vec::with_capacity(asked.len());
    for topic in response.topics {
        for partition in topic.partitions {
            let place = crate::fetcher::topic_partition(&topic.name, partition.partition_index);
            let offset = (partition.offset >= 0).then_some(Offset(partition.offset));
            found.push((place, check("ListOffsets", partition.error_code).map(|()| offset)));
        }
    }
    Ok(found)
}

fn list_offsets_topics(entries: &[&(TopicPartition, OffsetSpec)]) -> Vec<ListOffsetsTopic> {
    let mut topics: Vec<ListOffsetsTopic> = Vec::new();
    for (place, spec) in entries {
        let partition = ListOffsetsPartition {
            partition_index: place.partition.get(),
            timestamp: spec.code(),
            ..ListOffsetsPartition::default()
        };
        match topics.iter_mut().find(|topic| topic.name == place.topic) {
            Some(topic) => topic.partitions.push(partition),
            None => topics
                .push(ListOffsetsTopic { name: place.topic.clone(), partitions: vec![partition] }),
        }
    }
    topics
}

/// Committed offsets of these partitions, or of all. One attempt.
pub(crate) async fn fetch_offsets(
    client: &Client,
    coordinator: NodeId,
    group: &str,
    partitions: Option<&[TopicPartition]>,
) -> Result<Vec<PartitionOffset>, ClientError> {
    let each = fetch_offsets_of_each(client, coordinator, group, partitions).await?;
    each.into_iter().filter_map(|(_, offset)| offset.transpose()).collect()
}

/// As [`fetch_offsets`], with what the coordinator says of each partition.
pub(crate) async fn fetch_offsets_of_each(
    client: &Client,
    coordinator: NodeId,
    group: &str,
    partitions: Option<&[TopicPartition]>,
) -> Result<Each<PartitionOffset>, ClientError> {
    let by_topic = partitions.map(|partitions| {
        let mut topics: BTreeMap<Str, Vec<i32>> = BTreeMap::new();
        for partition in partitions {
            topics.entry(partition.topic.clone()).or_default().push(partition.partition.get());
        }
        topics
    });
    let old_form = by_topic.as_ref().map(|topics| {
        let topic = |(name, indexes): (&Str, &Vec<i32>)| OffsetFetchRequestTopic {
            name: name.clone(),
            partition_indexes: indexes.clone(),
        };
        topics.iter().map(topic).collect()
    });
    let new_form = by_topic.map(|topics| {
        let topic =
            |(name, partition_indexes)| OffsetFetchRequestTopics { name, partition_indexes };
        topics.into_iter().map(topic).collect()
    });
    let request = OffsetFetchRequest {
        group_id: Str::copy_from(group),
        topics: old_form,
        groups: vec![OffsetFetchRequestGroup {
            group_id: Str::copy_from(group),
            topics: new_form,
            ..OffsetFetchRequestGroup::default()
        }],
        require_stable: true,
    };
    let connection = client.connection(coordinator, Lane::SHARED).await?;
    let timeout_ms = client.config().request_timeout_ms;
    let response = connection.request(&request, i16::MAX, timeout_ms).await?;
    committed_offsets(response)
}

/// Both forms of the answer; -1 is "none".
fn committed_offsets(response: OffsetFetchResponse) -> Result<Each<PartitionOffset>, ClientError> {
    check("OffsetFetch", response.error_code)?;
    let mut offsets = Vec::new();
    let mut take = |topic: &Str, index: i32, offset: i64, epoch: i32, code: i16| {
        let partition = crate::fetcher::topic_partition(topic, index);
        let leader_epoch = (epoch >= 0).then_some(LeaderEpoch(epoch));
        let entry =
            PartitionOffset { partition: partition.clone(), offset: Offset(offset), leader_epoch };
        let entry = (offset >= 0).then_some(entry);
        offsets.push((partition, check("OffsetFetch", code).map(|()| entry)));
    };
    for topic in response.topics {
        for partition in topic.partitions {
            let (offset, epoch) = (partition.committed_offset, partition.committed_leader_epoch);
            take(&topic.name, partition.partition_index, offset, epoch, partition.error_code);
        }
    }
    for group in response.groups {
        check("OffsetFetch", group.error_code)?;
        for topic in group.topics {
            for partition in topic.partitions {
                let (offset, epoch) =
                    (partition.committed_offset, partition.committed_leader_epoch);
                take(&topic.name, partition.partition_index, offset, epoch, partition.error_code);
            }
        }
    }
    Ok(offsets)
}

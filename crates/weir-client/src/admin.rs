//! API skeleton, being filled in.
use std::sync::Arc;
use weir_protocol::types::{NodeId, Offset, PartitionId, Str, TimestampMs, Uuid};
use crate::client::Client;
use crate::consumer::{PartitionOffset, TopicPartition};
use crate::error::ClientError;

/// A topic to create. Also exists: `NewTopic::new(name, partitions).with_replication(n).with_config(key, value)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic { /// Name.
    pub name: String, /// Partitions, or `None` for the broker's default.
    pub partitions: Option<i32>, /// Replicas, or `None` for the broker's default.
    pub replication: Option<i16>, /// Topic configs by Kafka's names.
    pub configs: Vec<(String, String)> }
/// What became of creating one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created { /// It was made now.
    Made, /// It was there.
    Existed }
/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription { /// Name.
    pub name: Str, /// Id (zero where the broker gives none).
    pub id: Uuid, /// Whether Kafka's own.
    pub internal: bool, /// Partitions in order.
    pub partitions: Vec<PartitionDescription> }
/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionDescription { /// Number.
    pub partition: PartitionId, /// Leader, if any.
    pub leader: Option<NodeId>, /// Replicas.
    pub replicas: Vec<NodeId>, /// In sync.
    pub in_sync: Vec<NodeId> }
/// A group in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing { /// Group id.
    pub group_id: Str, /// `consumer` for consumer groups.
    pub protocol_type: Str, /// Kafka's state name; empty where the broker gives none.
    pub state: Str }
/// A group with its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription { /// Group id.
    pub group_id: Str, /// Kafka's state name.
    pub state: Str, /// Chosen assignor.
    pub protocol: Str, /// Members.
    pub members: Vec<MemberDescription> }
/// A group member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription { /// Member id.
    pub member_id: Str, /// Static id.
    pub instance_id: Option<Str>, /// Client id.
    pub client_id: Str, /// Client host.
    pub client_host: Str, /// Assigned.
    pub assignment: Vec<TopicPartition> }
/// Which offset `list_offsets` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec { /// First.
    Earliest, /// End.
    Latest, /// First record at or after this time.
    AtTime(TimestampMs) }
/// The cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDescription { /// Id.
    pub cluster_id: Option<Str>, /// Controller.
    pub controller: Option<NodeId>, /// Brokers: id, host, port.
    pub brokers: Vec<(NodeId, Str, u16)> }
/// One setting of a topic or broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry { /// Kafka's name.
    pub name: Str, /// Value; `None` if hidden or null.
    pub value: Option<Str>, /// Whether it is the default.
    pub is_default: bool, /// Read only.
    pub read_only: bool, /// Hidden.
    pub sensitive: bool }

/// Administrative calls.
#[derive(Debug, Clone)]
pub struct Admin {}
impl Admin {
    /// Over this client.
    pub fn new(client: Arc<Client>) -> Admin { let _ = client; todo!() }
    /// Creates topics; one result per topic. A topic that exists is `Created::Existed`.
    pub async fn create_topics(&self, topics: &[NewTopic]) -> Result<Vec<Result<Created, ClientError>>, ClientError> { let _ = topics; todo!() }
    /// Deletes topics; one result per topic.
    pub async fn delete_topics(&self, topics: &[&str]) -> Result<Vec<Result<(), ClientError>>, ClientError> { let _ = topics; todo!() }
    /// All topics.
    pub async fn list_topics(&self) -> Result<Vec<TopicDescription>, ClientError> { todo!() }
    /// One topic; `UnknownTopic` if there is none.
    pub async fn describe_topic(&self, topic: &str) -> Result<TopicDescription, ClientError> { let _ = topic; todo!() }
    /// All groups of all brokers.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>, ClientError> { todo!() }
    /// Groups with members.
    pub async fn describe_groups(&self, groups: &[&str]) -> Result<Vec<GroupDescription>, ClientError> { let _ = groups; todo!() }
    /// All committed offsets of a group.
    pub async fn group_offsets(&self, group: &str) -> Result<Vec<PartitionOffset>, ClientError> { let _ = group; todo!() }
    /// Sets committed offsets of an empty group.
    pub async fn set_group_offsets(&self, group: &str, offsets: &[PartitionOffset]) -> Result<(), ClientError> { let _ = (group, offsets); todo!() }
    /// Offsets by kind or time; `None` where no record matches.
    pub async fn list_offsets(&self, asked: &[(TopicPartition, OffsetSpec)]) -> Result<Vec<(TopicPartition, Option<Offset>)>, ClientError> { let _ = asked; todo!() }
    /// Brokers and controller.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, ClientError> { todo!() }
    /// All settings of a topic.
    pub async fn describe_topic_configs(&self, topic: &str) -> Result<Vec<ConfigEntry>, ClientError> { let _ = topic; todo!() }
}

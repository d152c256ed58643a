//! API skeleton, being filled in.
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use weir_protocol::types::{Offset, PartitionId, Str, TimestampMs};
use crate::client::Client;
use crate::config::ConsumerConfig;
use crate::error::ClientError;
use crate::record::ConsumedRecord;

/// One partition of one topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition { 
    /// Topic name.
    pub topic: Str, 
    /// Partition number.
    pub partition: PartitionId }
impl TopicPartition {
    /// From its parts.
    pub fn new(topic: &str, partition: PartitionId) -> Self { TopicPartition { topic: Str::copy_from(topic), partition } }
}
/// An offset in a partition: for commits, the next one to read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PartitionOffset { 
    /// The partition.
    pub partition: TopicPartition, 
    /// The offset.
    pub offset: Offset }

/// Told of partitions given and taken; called from inside `poll` and `close`.
pub trait RebalanceHook: Send + Sync + fmt::Debug {
    /// These partitions go away; what is returned is committed before they do.
    fn revoked(&self, partitions: &[TopicPartition]) -> Vec<PartitionOffset> { let _ = partitions; Vec::new() }
    /// These partitions are ours now.
    fn assigned(&self, partitions: &[TopicPartition]) { let _ = partitions; }
    /// These partitions were lost (session expired): too late to commit.
    fn lost(&self, partitions: &[TopicPartition]) { let _ = partitions; }
}

/// Reads records. All methods take `&self`; one task polls.
#[derive(Debug)]
pub struct Consumer {}
impl Consumer {
    /// Makes a consumer without partitions. Must be called inside a tokio runtime.
    pub fn new(client: Arc<Client>, config: ConsumerConfig) -> Result<Consumer, ClientError> { let _ = (client, config); todo!() }
    /// Joins the group for these topics (at the next poll).
    pub fn subscribe(&self, topics: &[&str]) -> Result<(), ClientError> { let _ = topics; todo!() }
    /// Reads exactly these partitions, from the committed offset or by `auto_offset_reset`.
    pub fn assign(&self, partitions: &[TopicPartition]) -> Result<(), ClientError> { let _ = partitions; todo!() }
    /// What is assigned now.
    pub fn assignment(&self) -> Vec<TopicPartition> { todo!() }
    /// The next poll reads from here.
    pub fn seek(&self, partition: &TopicPartition, offset: Offset) -> Result<(), ClientError> { let _ = (partition, offset); todo!() }
    /// The next polls read from the first record at or after the time.
    pub async fn seek_to_time(&self, time: TimestampMs) -> Result<(), ClientError> { let _ = time; todo!() }
    /// The next record `poll` would return, if known.
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> { let _ = partition; todo!() }
    /// Records behind the end, per partition, as of the last fetch.
    pub fn lag(&self) -> Vec<(TopicPartition, i64)> { todo!() }
    /// Stops returning records of these partitions, keeping what is fetched.
    pub fn pause(&self, partitions: &[TopicPartition]) { let _ = partitions; todo!() }
    /// Undoes `pause`.
    pub fn resume(&self, partitions: &[TopicPartition]) { let _ = partitions; todo!() }
    /// Records, as soon as there are any; an empty vector after `timeout`. Cancel safe: no record is lost if the future is dropped.
    pub async fn poll(&self, timeout: Duration) -> Result<Vec<ConsumedRecord>, ClientError> { let _ = timeout; todo!() }
    /// Commits these offsets (the next to read).
    pub async fn commit(&self, offsets: &[PartitionOffset]) -> Result<(), ClientError> { let _ = offsets; todo!() }
    /// Commits everything returned by polls so far.
    pub async fn commit_consumed(&self) -> Result<(), ClientError> { todo!() }
    /// Commits in the background; errors are logged.
    pub fn commit_async(&self, offsets: Vec<PartitionOffset>) { let _ = offsets; todo!() }
    /// Committed offsets of these partitions; `None` where there is none.
    pub async fn committed(&self, partitions: &[TopicPartition]) -> Result<Vec<Option<Offset>>, ClientError> { let _ = partitions; todo!() }
    /// Commits if configured so, leaves the group, stops fetching.
    pub async fn close(&self) -> Result<(), ClientError> { todo!() }
}

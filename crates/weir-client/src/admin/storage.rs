//! Administrative calls about what lies on the brokers' disks: sizes, and deleting old records.

use std::collections::BTreeMap;

use weir_protocol::api::api_versions::ApiVersionsRequest;
use weir_protocol::api::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use weir_protocol::api::describe_log_dirs::{DescribeLogDirsRequest, DescribeLogDirsResult};
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{NodeId, Offset, PartitionId, Str};

use super::{check, Admin};
use crate::client::Lane;
use crate::consumer::TopicPartition;
use crate::error::ClientError;
use crate::metadata::ClusterView;

/// A log directory of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDirDescription {
    /// The broker.
    pub node: NodeId,
    /// The directory, as the broker names it.
    pub path: Str,
    /// Bytes of its file system; `None` where the broker does not say.
    pub total_bytes: Option<u64>,
    /// Bytes that are free there; `None` where the broker does not say.
    pub usable_bytes: Option<u64>,
    /// Its partitions; or why the directory cannot be used.
    pub partitions: Result<Vec<ReplicaSize>, ErrorCode>,
}

/// A copy of a partition in a log directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaSize {
    /// The partition.
    pub partition: TopicPartition,
    /// Bytes of its segments.
    pub size_bytes: u64,
    /// How many records it is behind the leader.
    pub offset_lag: i64,
    /// Whether it is being moved to this directory and does not serve yet.
    pub is_future: bool,
}

/// What became of deleting the records of one partition: its new log start.
pub type DeletedRecords = Vec<(TopicPartition, Result<Offset, ClientError>)>;

/// The versions of one API that a broker serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiVersionRange {
    /// Kafka's number of the API.
    pub api_key: i16,
    /// The oldest version.
    pub version_min: i16,
    /// The newest version.
    pub version_max: i16,
}

impl Admin {
    /// What lies in the log directories of all brokers.
    ///
    /// # Errors
    /// If a broker could not be asked.
    pub async fn describe_log_dirs(&self) -> Result<Vec<LogDirDescription>, ClientError> {
        let nodes: Vec<NodeId> = self.client.view().brokers.keys().copied().collect();
        let request = DescribeLogDirsRequest { topics: None };
        let mut found = Vec::new();
        for node in nodes {
            let ask = || async {
                let connection = self.client.connection(node, Lane::SHARED).await?;
                let timeout_ms = self.client.config().request_timeout_ms;
                let response = connection.request(&request, i16::MAX, timeout_ms).await?;
                check("DescribeLogDirs", response.error_code)?;
                Ok(response)
            };
            let response = self.client.with_retries("describe log dirs", ask).await?;
            found.extend(response.results.into_iter().map(|dir| describe(node, dir)));
        }
        Ok(found)
    }

    /// Deletes the records before an offset in each partition, by moving its log start. What is below
    /// cannot be read any more; bytes are freed by whole segments.
    ///
    /// # Errors
    /// If the cluster could not be asked at all. A broker that refuses a partition is in its result.
    pub async fn delete_records(
        &self,
        before: &[(TopicPartition, Offset)],
    ) -> Result<DeletedRecords, ClientError> {
        let mut names: Vec<Str> = before.iter().map(|(place, _)| place.topic.clone()).collect();
        names.dedup();
        let ask = || async {
            let mut view = ClusterView::default();
            view.update(self.client.fetch_metadata(Some(names.clone()), false).await?);
            self.delete_by_leader(&view, before).await
        };
        self.client.with_retries("delete records", ask).await
    }

    /// One attempt. Deleting twice does no harm, so the whole call may be repeated.
    async fn delete_by_leader(
        &self,
        view: &ClusterView,
        before: &[(TopicPartition, Offset)],
    ) -> Result<DeletedRecords, ClientError> {
        let mut by_leader: BTreeMap<NodeId, BTreeMap<Str, Vec<DeleteRecordsPartition>>> =
            BTreeMap::new();
        for (place, offset) in before {
            let known =
                view.topics.get(&place.topic).and_then(|topic| topic.partition(place.partition));
            let Some(leader) = known.and_then(|partition| partition.leader) else {
                let (topic, partition) = (place.topic.to_string(), place.partition);
                return Err(ClientError::NoLeader { topic, partition });
            };
            let partition = DeleteRecordsPartition {
                partition_index: place.partition.get(),
                offset: offset.get(),
            };
            let topics = by_leader.entry(leader).or_default();
            topics.entry(place.topic.clone()).or_default().push(partition);
        }
        let mut done = Vec::with_capacity(before.len());
        for (leader, topics) in by_leader {
            let topic = |(name, partitions)| DeleteRecordsTopic { name, partitions };
            let request = DeleteRecordsRequest {
                topics: topics.into_iter().map(topic).collect(),
                timeout_ms: self.timeout_ms(),
            };
            let connection = self.client.connection(leader, Lane::SHARED).await?;
            let timeout_ms = self.client.config().request_timeout_ms;
            let response = connection.request(&request, i16::MAX, timeout_ms).await?;
            for topic in response.topics {
                for partition in topic.partitions {
                    let index = PartitionId(partition.partition_index);
                    let outcome = check("DeleteRecords", partition.error_code)
                        .map(|()| Offset(partition.low_watermark));
                    done.push((TopicPartition::new(&topic.name, index), outcome));
                }
            }
        }
        Ok(done)
    }

    /// The APIs that a broker serves, by number.
    ///
    /// # Errors
    /// If no broker could be asked.
    pub async fn api_versions(&self) -> Result<Vec<ApiVersionRange>, ClientError> {
        let request = ApiVersionsRequest {
            client_software_name: Str::from("weir"),
            client_software_version: Str::from(env!("CARGO_PKG_VERSION")),
        };
        let ask = || async {
            let response = self.client.ask_any(&request).await?;
            check("ApiVersions", response.error_code)?;
            Ok(response)
        };
        let response = self.client.with_retries("ask for API versions", ask).await?;
        let range = |api: &weir_protocol::api::api_versions::ApiVersion| ApiVersionRange {
            api_key: api.api_key,
            version_min: api.min_version,
            version_max: api.max_version,
        };
        let mut ranges: Vec<ApiVersionRange> = response.api_keys.iter().map(range).collect();
        ranges.sort_unstable_by_key(|range| range.api_key);
        Ok(ranges)
    }
}

fn describe(node: NodeId, dir: DescribeLogDirsResult) -> LogDirDescription {
    let partitions = match ErrorCode::from_code(dir.error_code) {
        ErrorCode::None => {
            let topics = dir.topics.into_iter();
            Ok(topics
                .flat_map(|topic| {
                    topic.partitions.into_iter().map(move |partition| ReplicaSize {
                        partition: TopicPartition::new(
                            &topic.name,
                            PartitionId(partition.partition_index),
                        ),
                        size_bytes: u64::try_from(partition.partition_size).unwrap_or(0),
                        offset_lag: partition.offset_lag,
                        is_future: partition.is_future_key,
                    })
                })
                .collect())
        }
        code => Err(code),
    };
    LogDirDescription {
        node,
        path: dir.log_dir,
        total_bytes: u64::try_from(dir.total_bytes).ok(),
        usable_bytes: u64::try_from(dir.usable_bytes).ok(),
        partitions,
    }
}

//! Administrative calls about partitions: more of them, and who leads them.

use std::collections::BTreeMap;

use weir_protocol::api::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use weir_protocol::api::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{PartitionId, Str};

use super::acls::refused;
use super::groups::PartitionResults;
use super::{check, passing, Admin};
use crate::consumer::TopicPartition;
use crate::error::ClientError;

impl Admin {
    /// Gives a topic so many partitions in all. Keys may go to other partitions from then on.
    ///
    /// # Errors
    /// If the cluster could not be asked, or refused, as it does if there are as many or more.
    pub async fn create_partitions(&self, topic: &str, count: i32) -> Result<(), ClientError> {
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name: Str::copy_from(topic),
                count,
                assignments: None,
            }],
            timeout_ms: self.timeout_ms(),
            validate_only: false,
        };
        let ask = || async {
            let response = self.client.ask_controller(&request).await?;
            let codes = response.results.iter().map(|result| result.error_code);
            passing(&self.client, "CreatePartitions", codes)?;
            Ok(response)
        };
        let response = self.client.with_retries("create partitions", ask).await?;
        self.client.refresh_soon();
        response.results.iter().try_for_each(|result| {
            refused("CreatePartitions", result.error_code, result.error_message.as_ref())
        })
    }

    /// Makes the first replica of each of these partitions its leader. One that leads already is a
    /// success.
    ///
    /// # Errors
    /// If the cluster could not be asked. That it refuses a partition is in its result.
    pub async fn elect_preferred_leaders(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<PartitionResults, ClientError> {
        let mut topics: BTreeMap<Str, Vec<i32>> = BTreeMap::new();
        for TopicPartition { topic, partition } in partitions {
            topics.entry(topic.clone()).or_default().push(partition.get());
        }
        let topics = topics.into_iter();
        let request = ElectLeadersRequest {
            election_type: 0,
            topic_partitions: Some(
                topics.map(|(topic, partitions)| TopicPartitions { topic, partitions }).collect(),
            ),
            timeout_ms: self.timeout_ms(),
        };
        let ask = || async {
            let response = self.client.ask_controller(&request).await?;
            check("ElectLeaders", response.error_code)?;
            Ok(response)
        };
        let response = self.client.with_retries("elect leaders", ask).await?;
        self.client.refresh_soon();
        let mut results = Vec::with_capacity(partitions.len());
        for topic in response.replica_election_results {
            for partition in topic.partition_result {
                let place = TopicPartition::new(&topic.topic, PartitionId(partition.partition_id));
                let code = partition.error_code;
                let result = match ErrorCode::from_code(code) {
                    ErrorCode::ElectionNotNeeded => Ok(()),
                    _ => refused("ElectLeaders", code, partition.error_message.as_ref()),
                };
                results.push((place, result));
            }
        }
        Ok(results)
    }
}

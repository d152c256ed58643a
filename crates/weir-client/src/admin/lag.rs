//! How far a group is behind, in records and in time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weir_protocol::types::{Offset, TimestampMs};

use super::{Admin, OffsetSpec};
use crate::config::{AutoOffsetReset, ConsumerConfig};
use crate::consumer::{Consumer, TopicPartition};
use crate::error::ClientError;

/// Enough for the first batch of several partitions at once; a larger one comes alone.
const LOOK_BYTES: u32 = 64 << 10;

/// How long the first record of each partition is waited for.
const LOOK: Duration = Duration::from_secs(10);

/// How far a group is behind in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionLag {
    /// The partition.
    pub partition: TopicPartition,
    /// The next offset that the group reads.
    pub committed: Offset,
    /// The end of the partition.
    pub end: Offset,
    /// Offsets between the two.
    pub records: i64,
    /// How old the record at the committed offset is, in milliseconds: 0 where all is read, `None` where
    /// it could not be looked at in time.
    pub age_ms: Option<i64>,
}

impl Admin {
    /// How far a group is behind in each partition that it has committed in. Reads one batch of each
    /// partition that is behind.
    ///
    /// # Errors
    /// If the cluster could not be asked.
    pub async fn group_lag(
        &self,
        group: &str,
        now: TimestampMs,
    ) -> Result<Vec<PartitionLag>, ClientError> {
        let committed = self.group_offsets(group).await?;
        let asked: Vec<(TopicPartition, OffsetSpec)> =
            committed.iter().map(|entry| (entry.partition.clone(), OffsetSpec::Latest)).collect();
        let ends: BTreeMap<TopicPartition, Option<Offset>> =
            self.list_offsets(&asked).await?.into_iter().collect();
        let mut lags: Vec<PartitionLag> = Vec::with_capacity(committed.len());
        for entry in committed {
            let end = ends.get(&entry.partition).copied().flatten().unwrap_or(entry.offset);
            let records = (end.get() - entry.offset.get()).max(0);
            let age_ms = (records == 0).then_some(0);
            let (partition, committed) = (entry.partition, entry.offset);
            lags.push(PartitionLag { partition, committed, end, records, age_ms });
        }
        let behind: Vec<(TopicPartition, Offset)> = lags
            .iter()
            .filter(|lag| lag.records > 0)
            .map(|lag| (lag.partition.clone(), lag.committed))
            .collect();
        let times = self.first_times(&behind).await?;
        for lag in &mut lags {
            if let Some(time) = times.get(&lag.partition) {
                lag.age_ms = Some(now.get().saturating_sub(time.get()).max(0));
            }
        }
        lags.sort_by(|a, b| a.partition.cmp(&b.partition));
        Ok(lags)
    }

    /// The time of the first record from each offset on.
    async fn first_times(
        &self,
        from: &[(TopicPartition, Offset)],
    ) -> Result<BTreeMap<TopicPartition, TimestampMs>, ClientError> {
        let mut times = BTreeMap::new();
        if from.is_empty() {
            return Ok(times);
        }
        let config = ConsumerConfig {
            // Retention may have passed the group by.
            auto_offset_reset: AutoOffsetReset::Earliest,
            partition_fetch_bytes_max: LOOK_BYTES,
            ..ConsumerConfig::default()
        };
        let consumer = Consumer::new(Arc::clone(&self.client), config)?;
        let partitions: Vec<TopicPartition> = from.iter().map(|(p, _)| p.clone()).collect();
        consumer.assign(&partitions)?;
        for (partition, offset) in from {
            consumer.seek(partition, *offset)?;
        }
        let deadline = Instant::now() + LOOK;
        while times.len() < from.len() && Instant::now() < deadline {
            let seen_before = times.len();
            let look = consumer.poll_each(Duration::from_millis(200), |record| {
                let place =
                    TopicPartition { topic: record.topic.clone(), partition: record.partition };
                times.entry(place).or_insert(record.timestamp);
            });
            look.await?;
            if times.len() > seen_before {
                let seen: Vec<TopicPartition> = times.keys().cloned().collect();
                consumer.pause(&seen);
            }
        }
        consumer.close().await?;
        Ok(times)
    }
}

//! Cleaning on request: what was asked for, and how it stands.

use weir_log::LogId;
use weir_protocol::PartitionId;

use crate::admin::{CleanRefused, CleanRequest, CleanedNow};
use crate::broker::Broker;
use crate::topics::Topic;

/// Partitions whose cleaning was asked for.
#[derive(Debug)]
pub struct AskedClean {
    partitions: Vec<Asked>,
}

#[derive(Debug)]
struct Asked {
    log: LogId,
    /// What cleaning had done to it before.
    bytes_cleaned: u64,
    records_dropped: u64,
    now: CleanedNow,
}

/// How a cleaning stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanProgress {
    /// Nothing more comes of the request.
    pub is_done: bool,
    /// A log is being cleaned, this or another.
    pub is_running: bool,
}

impl AskedClean {
    /// What has become of it.
    #[must_use]
    pub fn into_cleaned(self) -> Vec<CleanedNow> {
        self.partitions.into_iter().map(|one| one.now).collect()
    }
}

impl Broker {
    /// Asks for the cleaning of a compacted topic, however little of it is dirty.
    ///
    /// # Errors
    /// Why there is nothing to clean.
    pub fn begin_clean(&mut self, request: &CleanRequest) -> Result<AskedClean, CleanRefused> {
        if self.logs.failure().is_some() {
            return Err(CleanRefused::Offline);
        }
        if !self.config.cleaner_enabled {
            return Err(CleanRefused::CleanerDisabled);
        }
        let topic = self.topics.get(&request.topic).ok_or(CleanRefused::NoTopic)?;
        if !is_compacted(topic) {
            return Err(CleanRefused::NotCompacted);
        }
        let wanted = request.partition.map(PartitionId);
        let is_wanted = |partition| wanted.is_none_or(|wanted| wanted == partition);
        let logs: Vec<(PartitionId, LogId)> =
            topic.logs().filter(|(partition, _)| is_wanted(*partition)).collect();
        if logs.is_empty() && wanted.is_some() {
            return Err(CleanRefused::NoPartition);
        }
        let mut partitions = Vec::with_capacity(logs.len());
        for (partition, log) in logs {
            let Some(state) = self.logs.clean_state(log) else { continue };
            let bytes_before = self.logs.get(log).map_or(0, weir_log::Log::size_bytes);
            if self.logs.request_clean(log) != Ok(true) {
                continue;
            }
            let now = CleanedNow {
                partition: partition.get(),
                bytes_before,
                bytes_after: bytes_before,
                records_dropped: 0,
                is_clean: false,
            };
            let (bytes_cleaned, records_dropped) = (state.bytes_cleaned, state.records_dropped);
            partitions.push(Asked { log, bytes_cleaned, records_dropped, now });
        }
        Ok(AskedClean { partitions })
    }

    /// Brings what was asked for up to date.
    ///
    /// # Errors
    /// The log directory went offline.
    pub fn look_at_clean(&self, asked: &mut AskedClean) -> Result<CleanProgress, CleanRefused> {
        if self.logs.failure().is_some() {
            return Err(CleanRefused::Offline);
        }
        let mut is_done = true;
        for one in &mut asked.partitions {
            // A log that was deleted meanwhile is done with.
            let Some(state) = self.logs.clean_state(one.log) else { continue };
            let bytes = state.bytes_cleaned - one.bytes_cleaned;
            one.now.bytes_after = one.now.bytes_before.saturating_sub(bytes);
            one.now.records_dropped = state.records_dropped - one.records_dropped;
            one.now.is_clean = !state.is_asked && !state.is_uncleanable;
            is_done &= !state.is_asked;
        }
        Ok(CleanProgress { is_done, is_running: self.logs.cleaner_stats().running.is_some() })
    }
}

fn is_compacted(topic: &Topic) -> bool {
    topic.limits.compacted
}

//! [`BrokerStats`]: what there is, for consoles and `/stats`.

use std::collections::BTreeMap;

pub use weir_log::{CleanedPartition, CleanerStats, Uncleanable};

/// What there is.
#[derive(Debug, Clone, Default)]
pub struct BrokerStats {
    /// The id of the cluster.
    pub cluster_id: String,
    /// The topics, by name.
    pub topics: Vec<TopicStats>,
    /// The groups, in no order.
    pub groups: Vec<GroupStats>,
    /// The transactions.
    pub transactions: TransactionStats,
    /// The last stop was clean.
    pub clean_start: bool,
    /// Partitions that were scanned at the start.
    pub partitions_recovered: usize,
    /// Records that the start found torn or damaged and cut off.
    pub records_cut: u64,
    /// Fetches that wait for data.
    pub fetches_waiting: usize,
    /// Answers that wait for a commit.
    pub commits_waiting: usize,
    /// Why the log directory is offline, if it is.
    pub failure: Option<String>,
    /// Why records are refused for want of room, if they were lately.
    pub disk_full: Option<String>,
    /// Connections now; the core does not know, the listener fills it in.
    pub connections: usize,
    /// What compaction has done.
    pub cleaner: CleanerStats,
}

/// The transactions. What is counted, is counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TransactionStats {
    /// Transactional ids that are known.
    pub transactional_ids: usize,
    /// Transactions that are open.
    pub ongoing: usize,
    /// Transactions that are decided, whose markers are being written.
    pub ending: usize,
    /// Transactions that were committed.
    pub committed: u64,
    /// Transactions that were aborted, by their producer, another one or a timeout.
    pub aborted: u64,
    /// Of those, the ones that took longer than they may.
    pub timed_out: u64,
}

/// One topic.
#[derive(Debug, Clone, Default)]
pub struct TopicStats {
    /// Its name.
    pub name: String,
    /// The broker alone writes to it.
    pub internal: bool,
    /// How many partitions it has.
    pub partitions: usize,
    /// Bytes of all its logs.
    pub size_bytes: u64,
    /// Bytes of the log of each partition.
    pub sizes_bytes: Vec<u64>,
    /// The first offset of each partition.
    pub start_offsets: Vec<i64>,
    /// The high watermark of each partition.
    pub end_offsets: Vec<i64>,
}

/// One group.
#[derive(Debug, Clone, Default)]
pub struct GroupStats {
    /// Its name.
    pub name: String,
    /// Kafka's name of its state.
    pub state: &'static str,
    /// How many members it has.
    pub members: usize,
    /// The round.
    pub generation: i32,
    /// Topic → partition → committed offset.
    pub offsets: BTreeMap<String, BTreeMap<i32, i64>>,
}

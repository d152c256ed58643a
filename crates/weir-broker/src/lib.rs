//! A single-node Kafka broker over weir-log.
//!
//! Speaks Kafka's protocol as a node of Kafka 4.1 does, so far as one node can; what is served is what is advertised
//! ([`api_table`]). Two halves:
//!
//! - the core, [`Broker`]: `handle(request, now) -> effects`, without tokio, clock, or I/O but through weir-log;
//! - the shell, [`listener`]: connections, frames, order of answers, limits, the commit thread.
//!
//! | module | what it holds |
//! |---|---|
//! | [`broker`] | the core: dispatch, tickets, time, commits |
//! | [`request`] | requests and answers, from and to frames |
//! | [`produce`], [`fetch`], [`list_offsets`], [`metadata`] | the APIs of records |
//! | [`fetch_session`] | incremental fetches as a pure state machine |
//! | [`log_dirs`] | what the logs take, and what room there is |
//! | [`topics`], [`topic_requests`], [`partition_requests`], [`topic_defaults`] | topics and their configuration, durable in `weir-topics` |
//! | [`configs`], [`alter_configs`], [`dynamic_configs`] | configurations of all kinds, told and changed |
//! | [`describe_topic_partitions`], [`single_node`] | what is asked of clusters, answered by one node |
//! | [`settings`], [`acls`], [`quotas`] | what else admin clients set, durable in `weir-settings` |
//! | [`group`], [`consumer_group`] | a classic group, and one of KIP-848, as pure state machines; [`group_kind`] is either |
//! | [`coordinator`], [`offsets`], [`offset_delete`], [`offset_records`] | groups and committed offsets, and their log |
//! | [`commit_queue`], [`purgatory`] | what waits for a commit, and for data |
//! | [`transaction`] | the transactions of one transactional id as a pure state machine |
//! | [`transaction_coordinator`], [`transaction_records`] | transactions of all producers, and their log |
//! | [`admin`], [`forced_clean`] | the socket through which `weir log clean` asks, and what it asks for |
//! | [`producer_ids`] | ids for idempotent producers, durable in `weir-producer-ids` |
//! | [`security`] | listeners with TLS and SASL, logins as pure state machines |
//! | [`scram_users`] | users that clients make, durable in `weir-scram-users` |
//!
//! # Non-obvious
//! - acks=all, OffsetCommit, DeleteGroups and the assignment of a group are answered after a sync. The high watermark is
//!   the synced offset, so nobody reads what a power cut can take back.
//! - A batch is written in place: it gets its offset in the very bytes that came from the socket, which is why a Produce
//!   frame must have one owner.
//! - After a failed sync nothing is retried: whatever waited fails, and the directory is offline until the next start.
//! - A transaction's markers are written once its decision is on disk, and EndTxn is answered once they are.
//! - A consumer group changes through its records alone, so the log makes the same group again; what could not be written
//!   stays staged with the group and goes before its next record.

pub mod acls;
pub mod admin;
pub mod alter_configs;
pub mod api_table;
pub mod broker;
pub mod commit_queue;
pub mod config;
pub mod configs;
pub mod consumer_group;
mod consumer_groups;
pub mod coordinator;
pub mod describe_topic_partitions;
pub mod dynamic_configs;
pub mod effects;
pub mod error;
mod failed;
pub mod fetch;
pub mod fetch_session;
mod files;
pub mod forced_clean;
pub mod group;
mod group_configs;
pub mod group_kind;
mod group_room;
mod ids;
mod kafka_metadata;
pub mod list_offsets;
pub mod listener;
pub mod log_dirs;
mod logs;
pub mod metadata;
pub mod offset_delete;
pub mod offset_records;
pub mod offsets;
pub mod partition_requests;
pub mod produce;
pub mod producer_ids;
pub mod purgatory;
pub mod quotas;
mod re2;
pub mod request;
mod resource_configs;
pub mod scram_users;
pub mod security;
pub mod settings;
pub mod single_node;
pub mod staged;
pub mod stats;
mod time_search;
pub mod topic_defaults;
pub mod topic_requests;
pub mod topics;
pub mod transaction;
pub mod transaction_coordinator;
pub mod transaction_records;

pub use broker::{Broker, CommitDone, PendingCommit};
pub use config::{BrokerConfig, Durability, KnownTopic};
pub use dynamic_configs::ConnectionLimits;
pub use effects::{CommitNeed, ConnId, Connection, Effects, Reply, Ticket};
pub use error::BrokerError;
pub use listener::{raise_file_limit, BrokerServer};
pub use request::{Request, Response};
pub use stats::{
    BrokerStats, CleanedPartition, CleanerStats, GroupStats, TopicStats, TransactionStats,
    Uncleanable,
};
pub use topic_defaults::TopicDefaults;

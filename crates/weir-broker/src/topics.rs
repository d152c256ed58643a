//! [`Topics`]: which topics there are, with id, partition count and configuration.
//!
//! # What is durable, and how
//! One file, `weir-topics`, in the data directory is the truth; it is written anew (temporary file, sync, rename, sync of
//! the directory) by the commit that a change goes with ([`crate::staged`]), before the change is seen or answered. Kafka's own place for this is its metadata log, which one node has no use
//! for. Text, one thing a line:
//!
//! ```text
//! 0                                                   version
//! topic orders kE0xAAAAAAAAAAAAAAAAAA 4               name, id, partitions
//! config orders retention.ms=3600000                  of the topic before
//! deleting old-orders vQ9tAAAAAAAAAAAAAAAAAA          logs of this id are on their way out
//! ```
//! A creation is written before the logs are made, a deletion before they are removed. So after a crash in between, a
//! topic without directories gets them when it is written to, and a `deleting` line is carried out at the start. It stays until
//! the logs and the committed offsets of the topic are gone for good, and so long its name is not free. A log
//! that no line names is left alone and reported: it is somebody's data. No topic is made in its place until it was
//! moved away. Without the file the directory was Kafka's or
//! is new, and its topics are taken from the logs there are (their `partition.metadata` has the ids).

mod catalog;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use weir_log::{LogConfig, LogId};
use weir_protocol::batch::Recoding;
use weir_protocol::compression::Codec;
use weir_protocol::{ErrorCode, PartitionId, Str, Uuid};

use crate::configs::topic_key;
use crate::consumer_group::TopicLookup;
use crate::topic_defaults::TopicDefaults;
pub use catalog::{parse, print, Deleting, FILE};

/// The topic of committed offsets and groups.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// The topic of transactions.
pub const TRANSACTIONS_TOPIC: &str = "__transaction_state";

/// What a topic's key says: its own value, the broker's default, or Kafka's.
#[must_use]
pub fn topic_value<'a>(
    own: &'a BTreeMap<String, String>,
    defaults: &'a TopicDefaults,
    name: &str,
) -> &'a str {
    let given = own.get(name).map(String::as_str).or_else(|| defaults.value(name));
    given.unwrap_or_else(|| topic_key(name).map_or("", |key| key.default))
}

/// What the logs of a topic obey that has this configuration of its own.
///
/// # Errors
/// Words for the client.
pub(crate) fn log_config(
    own: &BTreeMap<String, String>,
    defaults: &TopicDefaults,
) -> Result<LogConfig, String> {
    let own = own.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let defaults = defaults.values().map(|(key, value): (&str, &str)| (key, value));
    LogConfig::from_pairs(defaults.chain(own)).map_err(|error| error.to_string())
}

/// What a topic's configuration means for a produce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicLimits {
    /// `cleanup.policy` contains `compact`
    pub compacted: bool,
    /// `message.timestamp.type` is `LogAppendTime`
    pub log_append_time: bool,
    /// `message.timestamp.after.max.ms`
    pub timestamp_after_max_ms: i64,
    /// `message.timestamp.before.max.ms`
    pub timestamp_before_max_ms: i64,
    /// `max.message.bytes`
    pub batch_bytes_max: usize,
    /// `compression.type` and the level of that codec; `None`: as the producer has it.
    pub recoding: Option<Recoding>,
}

impl TopicLimits {
    fn new(configs: &BTreeMap<String, String>, defaults: &TopicDefaults) -> Self {
        let value = |key: &str| topic_value(configs, defaults, key).trim();
        let number = |key: &str, default: i64| value(key).parse::<i64>().unwrap_or(default);
        Self {
            compacted: value("cleanup.policy").contains("compact"),
            log_append_time: value("message.timestamp.type") == "LogAppendTime",
            timestamp_after_max_ms: number("message.timestamp.after.max.ms", 3_600_000),
            timestamp_before_max_ms: number("message.timestamp.before.max.ms", i64::MAX),
            batch_bytes_max: usize::try_from(number("max.message.bytes", 0)).unwrap_or(0),
            recoding: recoding(value),
        }
    }

    /// Whether batches may have to be looked into before they are taken.
    #[must_use]
    pub fn looks_inside(&self) -> bool {
        self.compacted || self.recoding.is_some() || self.has_oldest()
    }

    /// Whether a record may be too old.
    #[must_use]
    pub fn has_oldest(&self) -> bool {
        !self.log_append_time && self.timestamp_before_max_ms < i64::MAX
    }
}

/// What `compression.type` means. Kafka's `uncompressed` is no codec.
fn recoding<'a>(value: impl Fn(&str) -> &'a str) -> Option<Recoding> {
    let codec = match value("compression.type") {
        "uncompressed" => Codec::None,
        name => Codec::from_name(name)?,
    };
    let level = value(&format!("compression.{codec}.level")).parse().ok();
    // Kafka's -1 is gzip's default; to zstd it is a level.
    let level = level.filter(|level: &i32| codec != Codec::Gzip || *level != -1);
    Some(Recoding { codec, level })
}

/// One topic.
#[derive(Debug, Clone)]
pub struct Topic {
    name: Str,
    id: Uuid,
    /// A partition without a log has not been written to yet.
    logs: Vec<Option<LogId>>,
    configs: BTreeMap<String, String>,
    /// What holds where `configs` says nothing.
    defaults: Arc<TopicDefaults>,
    /// What [`Topic::configs`] means for a produce.
    pub limits: TopicLimits,
}

impl Topic {
    /// A topic whose partitions have no logs yet. It gets the broker's defaults from [`Topics::insert`].
    #[must_use]
    pub fn new(name: Str, id: Uuid, partitions: usize, configs: BTreeMap<String, String>) -> Self {
        let defaults = Arc::<TopicDefaults>::default();
        let limits = TopicLimits::new(&configs, &defaults);
        Self { name, id, logs: vec![None; partitions], configs, defaults, limits }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Str {
        &self.name
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Its own configuration, without defaults.
    #[must_use]
    pub fn configs(&self) -> &BTreeMap<String, String> {
        &self.configs
    }

    /// What a key says: its own value, the broker's default, or Kafka's.
    #[must_use]
    pub fn value(&self, key: &str) -> &str {
        topic_value(&self.configs, &self.defaults, key)
    }

    /// What its logs obey. Its values were checked when they were set; with one that a later version dropped,
    /// defaults hold.
    pub(crate) fn log_config(&self) -> LogConfig {
        log_config(&self.configs, &self.defaults)
            .or_else(|_| log_config(&BTreeMap::new(), &self.defaults))
            .unwrap_or_default()
    }

    fn set_defaults(&mut self, defaults: Arc<TopicDefaults>) {
        self.limits = TopicLimits::new(&self.configs, &defaults);
        self.defaults = defaults;
    }

    /// How many partitions it has.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.logs.len()
    }

    /// Whether the broker alone writes to it.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        is_internal(&self.name)
    }

    /// The log of a partition; `None` if there is no such partition, or it has not been written to.
    #[must_use]
    pub fn log(&self, partition: PartitionId) -> Option<LogId> {
        self.existing_log(partition).ok().flatten()
    }

    /// The log of a partition, if it has one yet.
    ///
    /// # Errors
    /// If there is no such partition.
    pub fn existing_log(&self, partition: PartitionId) -> Result<Option<LogId>, ErrorCode> {
        let index =
            usize::try_from(partition.get()).map_err(|_| ErrorCode::UnknownTopicOrPartition)?;
        self.logs.get(index).copied().ok_or(ErrorCode::UnknownTopicOrPartition)
    }

    /// The logs there are, with their partitions.
    pub fn logs(&self) -> impl Iterator<Item = (PartitionId, LogId)> + '_ {
        (0..)
            .map(PartitionId)
            .zip(&self.logs)
            .filter_map(|(partition, log)| Some((partition, (*log)?)))
    }

    /// All partitions, with the logs of those that have one.
    pub fn partitions(&self) -> impl Iterator<Item = (PartitionId, Option<LogId>)> + '_ {
        (0..).map(PartitionId).zip(self.logs.iter().copied())
    }

    pub(crate) fn set_configs(&mut self, configs: BTreeMap<String, String>) {
        self.limits = TopicLimits::new(&configs, &self.defaults);
        self.configs = configs;
    }

    /// Grows the topic; shrinks it only to take back a growth that could not be stored.
    pub(crate) fn set_partition_count(&mut self, count: usize) {
        self.logs.resize(count, None);
    }

    pub(crate) fn set_log(&mut self, partition: PartitionId, log: LogId) {
        let place =
            usize::try_from(partition.get()).ok().and_then(|index| self.logs.get_mut(index));
        if let Some(place) = place {
            *place = Some(log);
        }
    }
}

/// The topics.
#[derive(Debug, Default)]
pub struct Topics {
    by_name: BTreeMap<Str, Topic>,
    names: HashMap<Uuid, Str>,
    /// [`plain_name`] → names. More than one lie under it only if an earlier version made them.
    by_plain_name: HashMap<String, BTreeSet<Str>>,
    /// The sum of all: it is asked for each topic that is to be made.
    partition_count: usize,
    defaults: Arc<TopicDefaults>,
    /// Grows with each change of names and partitions.
    version: u64,
    /// Topics whose logs are still being removed.
    pub deleting: Vec<Deleting>,
}

impl Topics {
    /// The topic of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Topic> {
        self.by_name.get(name)
    }

    /// The topic of this name.
    #[must_use]
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Topic> {
        self.by_name.get_mut(name)
    }

    /// The topic of this id.
    #[must_use]
    pub fn get_by_id(&self, id: Uuid) -> Option<&Topic> {
        self.names.get(&id).and_then(|name| self.by_name.get(name))
    }

    /// All topics, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.by_name.values()
    }

    /// Partitions of all topics.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// What the broker says for topics that do not say it themselves, those that are added later too.
    pub fn set_defaults(&mut self, defaults: TopicDefaults) {
        self.defaults = Arc::new(defaults);
        for topic in self.by_name.values_mut() {
            topic.set_defaults(Arc::clone(&self.defaults));
        }
    }

    /// Adds a topic.
    pub fn insert(&mut self, mut topic: Topic) {
        topic.set_defaults(Arc::clone(&self.defaults));
        self.version += 1;
        self.names.insert(topic.id, topic.name.clone());
        let plain = plain_name(&topic.name);
        self.by_plain_name.entry(plain).or_default().insert(topic.name.clone());
        self.partition_count += topic.partition_count();
        if let Some(before) = self.by_name.insert(topic.name.clone(), topic) {
            self.partition_count -= before.partition_count();
        }
    }

    /// Takes a topic out.
    pub fn remove(&mut self, name: &str) -> Option<Topic> {
        let topic = self.by_name.remove(name)?;
        self.version += 1;
        self.names.remove(&topic.id);
        self.partition_count -= topic.partition_count();
        let plain = plain_name(name);
        if let Some(names) = self.by_plain_name.get_mut(&plain) {
            names.remove(name);
            if names.is_empty() {
                self.by_plain_name.remove(&plain);
            }
        }
        Some(topic)
    }

    /// Gives a topic more partitions. How many it had; `None` if there is no such topic.
    pub(crate) fn grow(&mut self, name: &str, partitions: usize) -> Option<usize> {
        let topic = self.by_name.get_mut(name)?;
        let before = topic.partition_count();
        topic.set_partition_count(partitions);
        self.partition_count = self.partition_count - before + partitions;
        self.version += 1;
        Some(before)
    }

    /// A topic whose name differs from `name` in dots and underscores alone. Kafka's metric names would be the same, so it
    /// refuses the second one.
    #[must_use]
    pub fn colliding(&self, name: &str) -> Option<&Topic> {
        if !name.contains(['.', '_']) {
            return None;
        }
        let names = self.by_plain_name.get(&plain_name(name))?;
        names.iter().find(|other| ***other != *name).and_then(|other| self.get(other))
    }
}

impl TopicLookup for Topics {
    fn version(&self) -> u64 {
        self.version
    }

    fn find(&self, name: &str) -> Option<(Uuid, i32)> {
        let topic = self.get(name)?;
        Some((topic.id(), i32::try_from(topic.partition_count()).unwrap_or(i32::MAX)))
    }

    fn name_of(&self, id: Uuid) -> Option<Str> {
        self.names.get(&id).cloned()
    }

    fn for_each_name(&self, then: &mut dyn FnMut(&Str)) {
        self.by_name.keys().for_each(then);
    }
}

/// A name as Kafka's names of metrics have it: topics whose names are the same there collide.
pub(crate) fn plain_name(name: &str) -> String {
    name.replace('.', "_")
}

/// Whether the broker alone writes to topics of this name.
#[must_use]
pub fn is_internal(name: &str) -> bool {
    name == OFFSETS_TOPIC || name == TRANSACTIONS_TOPIC
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_and_underscores_collide() {
        let mut topics = Topics::default();
        topics.insert(Topic::new("a.b".into(), Uuid([1; 16]), 1, BTreeMap::new()));
        assert!(topics.colliding("a_b").is_some());
        assert!(topics.colliding("a.b").is_none());
        assert!(topics.colliding("ab").is_none());
    }
}

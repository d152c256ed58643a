//! What the console and `/metrics` are told once a second: rates, lanes, topics, groups.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use weir_broker::BrokerServer;
use weir_client::admin::{GroupDescription, OffsetSpec, TopicDescription};
use weir_client::{
    Admin, AutoOffsetReset, Client, ClientError, Consumer, ConsumerConfig, PartitionOffset,
    TopicPartition,
};
use weir_protocol::clock::Clock;
use weir_protocol::types::Uuid;
use weir_traffic::{BreakerState, TrafficStats};

use crate::console::hub::{Breaker, ConsoleHub, GroupRow, Lane, Overview, TopicRow, Trend};
use crate::gateway::cluster_metrics::{ClusterFigures, PartitionFigures};
use crate::gateway::ingest::Ingest;

const INTERVAL: Duration = Duration::from_secs(1);
/// Longest look at the first unread records of one group.
const PROBE: Duration = Duration::from_millis(100);
/// A lag that moved by less than this share of itself is steady.
const STEADY_SHARE: f64 = 0.05;
/// A topic's settings may be changed by anybody at any time; this is how old they may be.
const CONFIGS_AGE_MS_MAX: i64 = 60_000;

/// What the feed reads from and writes to.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) client: Arc<Client>,
    pub(super) ingest: Ingest,
    pub(super) hub: ConsoleHub,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) broker: Option<Weak<BrokerServer>>,
}

/// What was true a second ago, to make rates of.
#[derive(Debug, Default)]
struct Before {
    at_ms: i64,
    accepted: u64,
    delivered: u64,
    topic_ends: HashMap<String, u64>,
    group_lags: HashMap<String, u64>,
    retention: HashMap<String, Retention>,
    /// Groups whose trouble is in the log already.
    troubled: HashSet<String>,
}

/// What a topic said of itself.
#[derive(Debug, Clone, Copy)]
struct Retention {
    /// Made again, a topic has another id and other settings.
    topic_id: Uuid,
    asked_ms: i64,
    /// `retention.ms`; `None`: kept for ever.
    ms: Option<i64>,
}

impl Before {
    /// Forgets what is no longer there.
    fn keep_topics(&mut self, topics: &[TopicRow]) {
        let names: HashSet<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
        self.topic_ends.retain(|name, _| names.contains(name.as_str()));
        self.retention.retain(|name, _| names.contains(name.as_str()));
    }

    /// Likewise.
    fn keep_groups(&mut self, names: &HashSet<&str>) {
        self.group_lags.retain(|name, _| names.contains(name.as_str()));
        self.troubled.retain(|name| names.contains(name.as_str()));
    }
}

impl Feed {
    /// Runs until `stop` turns true.
    pub(super) async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut before = self.first();
        let probe = match Probe::new(&self.client) {
            Ok(probe) => probe,
            Err(error) => {
                tracing::error!(%error, "console feed");
                return;
            }
        };
        // The first tick of an interval comes at once, when there is nothing to make a rate of.
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + INTERVAL, INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = stop.changed() => return,
                _ = ticks.tick() => {}
            }
            if let Err(error) = self.tell(&mut before, &probe).await {
                tracing::debug!(%error, "console feed");
            }
        }
    }

    fn first(&self) -> Before {
        let total = self.ingest.traffic().stats().ledger.total();
        Before {
            at_ms: self.clock.now().get(),
            accepted: total.accepted(),
            delivered: total.delivered,
            ..Before::default()
        }
    }

    async fn tell(&self, before: &mut Before, probe: &Probe) -> Result<(), ClientError> {
        let now_ms = self.clock.now().get();
        let seconds = ((now_ms - before.at_ms) as f64 / 1000.0).max(0.001);
        before.at_ms = now_ms;
        let stats = self.ingest.traffic().stats();
        self.hub.overview(overview(&stats, before, seconds));
        let admin = Admin::new(Arc::clone(&self.client));
        let listed = admin.list_topics().await?;
        let partitions = listed.iter().flat_map(partition_figures).collect();
        let topics = self.topics(&admin, before, seconds, listed).await;
        // One that fails must not hide the other.
        let groups = groups(&admin, before, probe, now_ms).await?;
        let lags = groups.iter().map(|group| (group.name.clone(), group.lag)).collect();
        self.ingest.metrics().set_cluster(ClusterFigures { partitions, lags });
        self.hub.groups(groups);
        let topics = topics?;
        before.keep_topics(&topics);
        self.hub.topics(topics);
        Ok(())
    }

    async fn topics(
        &self,
        admin: &Admin,
        before: &mut Before,
        seconds: f64,
        listed: Vec<TopicDescription>,
    ) -> Result<Vec<TopicRow>, ClientError> {
        let sizes: HashMap<String, u64> = self
            .broker
            .as_ref()
            .and_then(Weak::upgrade)
            .into_iter()
            .flat_map(|broker| broker.stats().topics)
            .map(|topic| (topic.name, topic.size_bytes))
            .collect();
        let topics: Vec<_> = listed.into_iter().filter(|topic| !topic.internal).collect();
        let partitions: Vec<TopicPartition> = topics
            .iter()
            .flat_map(|topic| {
                topic.partitions.iter().map(|p| TopicPartition::new(&topic.name, p.partition))
            })
            .collect();
        let starts = ends(admin, &partitions, OffsetSpec::Earliest).await?;
        let tops = ends(admin, &partitions, OffsetSpec::Latest).await?;
        let mut rows = Vec::with_capacity(topics.len());
        for topic in topics {
            let of = |offsets: &HashMap<TopicPartition, u64>, partition| {
                offsets.get(&TopicPartition::new(&topic.name, partition)).copied().unwrap_or(0)
            };
            let numbers = || topic.partitions.iter().map(|p| p.partition);
            let top: u64 = numbers().map(|p| of(&tops, p)).sum();
            let name = topic.name.to_string();
            let known = before.topic_ends.insert(name.clone(), top).unwrap_or(top);
            let retention_ms = retention(admin, before, &topic).await?;
            rows.push(TopicRow {
                partition_records: numbers()
                    .map(|p| of(&tops, p).saturating_sub(of(&starts, p)))
                    .collect(),
                bytes: sizes.get(&name).copied().unwrap_or(0),
                per_s: top.saturating_sub(known) as f64 / seconds,
                retention_ms,
                name,
            });
        }
        Ok(rows)
    }
}

async fn ends(
    admin: &Admin,
    partitions: &[TopicPartition],
    spec: OffsetSpec,
) -> Result<HashMap<TopicPartition, u64>, ClientError> {
    let asked: Vec<_> = partitions.iter().map(|partition| (partition.clone(), spec)).collect();
    let answered = admin.list_offsets(&asked).await?;
    let number = |offset: Option<weir_protocol::types::Offset>| {
        offset.and_then(|offset| u64::try_from(offset.get()).ok()).unwrap_or(0)
    };
    Ok(answered.into_iter().map(|(partition, offset)| (partition, number(offset))).collect())
}

fn partition_figures(topic: &TopicDescription) -> impl Iterator<Item = PartitionFigures> + '_ {
    topic.partitions.iter().map(|partition| PartitionFigures {
        topic: topic.name.to_string(),
        partition: partition.partition.get(),
        replicas: partition.replicas.len(),
        online: partition.replicas.len().saturating_sub(partition.offline.len()),
    })
}

/// A topic's `retention.ms`; `None`: for ever, or it is gone since it was listed.
async fn retention(
    admin: &Admin,
    before: &mut Before,
    topic: &TopicDescription,
) -> Result<Option<i64>, ClientError> {
    let now_ms = before.at_ms;
    if let Some(known) = before.retention.get(&*topic.name) {
        if known.holds(topic.id, now_ms) {
            return Ok(known.ms);
        }
    }
    let configs = match admin.describe_topic_configs(&topic.name).await {
        Err(ClientError::UnknownTopic { .. }) => return Ok(None),
        answer => answer?,
    };
    let entry = configs.iter().find(|entry| &*entry.name == "retention.ms");
    let ms = entry.and_then(|entry| entry.value.as_deref()?.parse().ok()).filter(|ms| *ms >= 0);
    let known = Retention { topic_id: topic.id, asked_ms: now_ms, ms };
    before.retention.insert(topic.name.to_string(), known);
    Ok(ms)
}

impl Retention {
    fn holds(&self, topic_id: Uuid, now_ms: i64) -> bool {
        self.topic_id == topic_id && (0..CONFIGS_AGE_MS_MAX).contains(&(now_ms - self.asked_ms))
    }
}

/// Looks at single records, to tell how old the first unread one of a group is.
#[derive(Debug)]
struct Probe {
    consumer: Consumer,
}

impl Probe {
    fn new(client: &Arc<Client>) -> Result<Self, ClientError> {
        let config = ConsumerConfig {
            auto_offset_reset: AutoOffsetReset::Earliest,
            // One batch of each partition is all that is looked at.
            partition_fetch_bytes_max: 1,
            ..ConsumerConfig::default()
        };
        Ok(Self { consumer: Consumer::new(Arc::clone(client), config)? })
    }

    /// The oldest timestamp at these offsets; `None` if none of them answered in time.
    async fn oldest_ms(&self, at: &[PartitionOffset]) -> Result<Option<i64>, ClientError> {
        let partitions: Vec<_> = at.iter().map(|at| at.partition.clone()).collect();
        self.consumer.assign(&partitions)?;
        let found = self.look(at).await;
        // Whatever was met: the next group must not meet it again.
        self.consumer.assign(&[])?;
        found
    }

    async fn look(&self, at: &[PartitionOffset]) -> Result<Option<i64>, ClientError> {
        for at in at {
            self.consumer.seek(&at.partition, at.offset)?;
        }
        let deadline = tokio::time::Instant::now() + PROBE;
        let mut found: HashMap<TopicPartition, i64> = HashMap::new();
        while found.len() < at.len() {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if left.is_zero() {
                break;
            }
            for record in self.consumer.poll(left).await? {
                let partition = TopicPartition::new(&record.topic, record.partition);
                found.entry(partition).or_insert(record.timestamp.get());
            }
        }
        Ok(found.into_values().min())
    }
}

/// One row for each group. What cannot be told of one group does not keep back the others.
async fn groups(
    admin: &Admin,
    before: &mut Before,
    probe: &Probe,
    now_ms: i64,
) -> Result<Vec<GroupRow>, ClientError> {
    let listed = admin.list_groups().await?;
    before.keep_groups(&listed.iter().map(|group| &*group.group_id).collect());
    let mut rows = Vec::with_capacity(listed.len());
    for group in &listed {
        let mut trouble = None;
        match group_row(admin, before, probe, now_ms, &group.group_id, &mut trouble).await {
            Ok(row) => rows.extend(row),
            Err(error) => trouble = Some(error),
        }
        tell_trouble(&mut before.troubled, &group.group_id, trouble.as_ref());
    }
    Ok(rows)
}

/// Once, until it has passed.
fn tell_trouble(troubled: &mut HashSet<String>, group: &str, trouble: Option<&ClientError>) {
    match trouble {
        None => {
            troubled.remove(group);
        }
        Some(error) if troubled.insert(group.to_owned()) => {
            tracing::warn!(
                group, %error, code = error.code(),
                "console: the age of this group's lag, or all of it, is not known"
            );
        }
        Some(_) => {}
    }
}

/// `None`: it is gone since it was listed. What kept the age of its lag from being known is `trouble`.
async fn group_row(
    admin: &Admin,
    before: &mut Before,
    probe: &Probe,
    now_ms: i64,
    name: &str,
    trouble: &mut Option<ClientError>,
) -> Result<Option<GroupRow>, ClientError> {
    let described: Option<GroupDescription> = admin.describe_groups(&[name]).await?.pop();
    let Some(group) = described else { return Ok(None) };
    let committed = admin.group_offsets(name).await?;
    let partitions: Vec<_> = committed.iter().map(|at| at.partition.clone()).collect();
    let tops = ends(admin, &partitions, OffsetSpec::Latest).await?;
    let behind = |at: &weir_client::PartitionOffset| {
        let top = tops.get(&at.partition).copied().unwrap_or(0);
        top.saturating_sub(u64::try_from(at.offset.get()).unwrap_or(0))
    };
    let lag = committed.iter().map(behind).sum();
    let unread: Vec<_> = committed.into_iter().filter(|at| behind(at) > 0).collect();
    let lag_ms = match unread.is_empty() {
        true => Some(0),
        false => match probe.oldest_ms(&unread).await {
            Ok(oldest) => oldest.map(|oldest| (now_ms - oldest).max(0)),
            // Such as a damaged batch, which only those who read it can go past.
            Err(error) => {
                *trouble = Some(error);
                None
            }
        },
    };
    let known = before.group_lags.insert(name.to_owned(), lag).unwrap_or(lag);
    Ok(Some(GroupRow {
        name: name.to_owned(),
        state: group.state.to_string(),
        members: u32::try_from(group.members.len()).unwrap_or(u32::MAX),
        lag,
        lag_ms,
        trend: trend(known, lag),
    }))
}

fn trend(before: u64, now: u64) -> Trend {
    let margin = (before as f64 * STEADY_SHARE) as u64;
    if now > before.saturating_add(margin) {
        Trend::Losing
    } else if now < before.saturating_sub(margin) {
        Trend::Gaining
    } else {
        Trend::Steady
    }
}

fn overview(stats: &TrafficStats, before: &mut Before, seconds: f64) -> Overview {
    let ledger = stats.ledger.total();
    let rate = |known: &mut u64, now: u64| {
        let past = std::mem::replace(known, now);
        now.saturating_sub(past) as f64 / seconds
    };
    let slowest = |of: fn(&weir_traffic::stats::LaneStats) -> Option<f64>| {
        stats.lanes.iter().filter_map(of).reduce(f64::max)
    };
    let lane = |lane: &weir_traffic::stats::LaneStats| Lane {
        name: lane.lane.to_owned(),
        depth: lane.depth,
        bytes: lane.bytes,
        oldest_ms: lane.oldest_age_ms.map(|ms| ms as f64),
    };
    Overview {
        in_per_s: rate(&mut before.accepted, ledger.accepted()),
        out_per_s: rate(&mut before.delivered, ledger.delivered),
        p50_ms: slowest(|lane| lane.p50_ms),
        p99_ms: slowest(|lane| lane.p99_ms),
        p999_ms: slowest(|lane| lane.p999_ms),
        lanes: stats.lanes.iter().map(lane).collect(),
        accepted: ledger.accepted(),
        dropped: ledger.dropped.total(),
        spilled: ledger.spilled,
        breaker: match stats.breaker.state {
            BreakerState::Closed => Breaker::Closed,
            BreakerState::Open => Breaker::Open,
            BreakerState::HalfOpen => Breaker::HalfOpen,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_forgotten_and_settings_are_asked_for_again() {
        let retention = Retention { topic_id: Uuid([1; 16]), asked_ms: 1_000, ms: Some(5) };
        assert!(retention.holds(Uuid([1; 16]), 1_000 + CONFIGS_AGE_MS_MAX - 1));
        assert!(!retention.holds(Uuid([1; 16]), 1_000 + CONFIGS_AGE_MS_MAX), "it may be changed");
        assert!(!retention.holds(Uuid([2; 16]), 1_001), "the topic was made again");
        let mut before = Before::default();
        for name in ["gone", "there"] {
            before.topic_ends.insert(name.to_owned(), 1);
            before.retention.insert(name.to_owned(), retention);
            before.group_lags.insert(name.to_owned(), 1);
            before.troubled.insert(name.to_owned());
        }
        before.keep_topics(&[TopicRow {
            name: "there".to_owned(),
            partition_records: Vec::new(),
            bytes: 0,
            per_s: 0.0,
            retention_ms: None,
        }]);
        before.keep_groups(&["there"].into());
        let left = [
            before.topic_ends.len(),
            before.retention.len(),
            before.group_lags.len(),
            before.troubled.len(),
        ];
        assert_eq!(left, [1, 1, 1, 1]);
    }

    #[test]
    fn trend_of_a_lag_ignores_small_moves() {
        assert_eq!(trend(0, 0), Trend::Steady);
        assert_eq!(trend(1000, 1040), Trend::Steady);
        assert_eq!(trend(1000, 1100), Trend::Losing);
        assert_eq!(trend(1000, 900), Trend::Gaining);
        assert_eq!(trend(0, 1), Trend::Losing);
    }
}

//! What the console is told once a second: rates, lanes, topics, groups.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use weir_broker::BrokerServer;
use weir_client::admin::OffsetSpec;
use weir_client::{
    Admin, AutoOffsetReset, Client, ClientError, Consumer, ConsumerConfig, PartitionOffset,
    TopicPartition,
};
use weir_protocol::clock::Clock;
use weir_traffic::{BreakerState, TrafficHandle, TrafficStats};

use crate::console::hub::{Breaker, ConsoleHub, GroupRow, Lane, Overview, TopicRow, Trend};

const INTERVAL: Duration = Duration::from_secs(1);
/// Longest look at the first unread records of one group.
const PROBE: Duration = Duration::from_millis(100);
/// A lag that moved by less than this share of itself is steady.
const STEADY_SHARE: f64 = 0.05;

/// What the feed reads from and writes to.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) client: Arc<Client>,
    pub(super) traffic: TrafficHandle,
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
    /// `retention.ms` by topic, asked once; `None`: kept for ever.
    retention_ms: HashMap<String, Option<i64>>,
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
        let total = self.traffic.stats().ledger.total();
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
        let stats = self.traffic.stats();
        self.hub.overview(overview(&stats, before, seconds));
        let admin = Admin::new(Arc::clone(&self.client));
        self.hub.topics(self.topics(&admin, before, seconds).await?);
        self.hub.groups(groups(&admin, before, probe, now_ms).await?);
        Ok(())
    }

    async fn topics(
        &self,
        admin: &Admin,
        before: &mut Before,
        seconds: f64,
    ) -> Result<Vec<TopicRow>, ClientError> {
        let sizes: HashMap<String, u64> = self
            .broker
            .as_ref()
            .and_then(Weak::upgrade)
            .into_iter()
            .flat_map(|broker| broker.stats().topics)
            .map(|topic| (topic.name, topic.size_bytes))
            .collect();
        let topics: Vec<_> =
            admin.list_topics().await?.into_iter().filter(|topic| !topic.internal).collect();
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
            let retention_ms = retention(admin, &mut before.retention_ms, &name).await?;
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

/// A topic's `retention.ms`; `None`: for ever.
async fn retention(
    admin: &Admin,
    known: &mut HashMap<String, Option<i64>>,
    topic: &str,
) -> Result<Option<i64>, ClientError> {
    if let Some(ms) = known.get(topic) {
        return Ok(*ms);
    }
    let configs = admin.describe_topic_configs(topic).await?;
    let entry = configs.iter().find(|entry| &*entry.name == "retention.ms");
    let ms = entry.and_then(|entry| entry.value.as_deref()?.parse().ok()).filter(|ms| *ms >= 0);
    known.insert(topic.to_owned(), ms);
    Ok(ms)
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
        self.consumer.assign(&[])?;
        Ok(found.into_values().min())
    }
}

async fn groups(
    admin: &Admin,
    before: &mut Before,
    probe: &Probe,
    now_ms: i64,
) -> Result<Vec<GroupRow>, ClientError> {
    let listed = admin.list_groups().await?;
    let names: Vec<&str> = listed.iter().map(|group| &*group.group_id).collect();
    let mut rows = Vec::with_capacity(names.len());
    for group in admin.describe_groups(&names).await? {
        let committed = admin.group_offsets(&group.group_id).await?;
        let partitions: Vec<_> = committed.iter().map(|at| at.partition.clone()).collect();
        let tops = ends(admin, &partitions, OffsetSpec::Latest).await?;
        let behind = |at: &weir_client::PartitionOffset| {
            let top = tops.get(&at.partition).copied().unwrap_or(0);
            top.saturating_sub(u64::try_from(at.offset.get()).unwrap_or(0))
        };
        let lag = committed.iter().map(behind).sum();
        let name = group.group_id.to_string();
        let unread: Vec<_> = committed.into_iter().filter(|at| behind(at) > 0).collect();
        let lag_ms = match unread.is_empty() {
            true => Some(0),
            false => probe.oldest_ms(&unread).await?.map(|oldest| (now_ms - oldest).max(0)),
        };
        let known = before.group_lags.insert(name.clone(), lag).unwrap_or(lag);
        rows.push(GroupRow {
            name,
            state: group.state.to_string(),
            members: u32::try_from(group.members.len()).unwrap_or(u32::MAX),
            lag,
            lag_ms,
            trend: trend(known, lag),
        });
    }
    Ok(rows)
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
        p999_ms: None,
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
    fn trend_of_a_lag_ignores_small_moves() {
        assert_eq!(trend(0, 0), Trend::Steady);
        assert_eq!(trend(1000, 1040), Trend::Steady);
        assert_eq!(trend(1000, 1100), Trend::Losing);
        assert_eq!(trend(1000, 900), Trend::Gaining);
        assert_eq!(trend(0, 1), Trend::Losing);
    }
}

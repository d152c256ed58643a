//! A member of a group that reads, commits what it has read, and never gives up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::watch;
use tokio::time::Instant;
use weir_client::{
    Admin, AutoOffsetReset, Client, ConsumedRecord, Consumer, ConsumerConfig, GroupConfig,
    PartitionOffset, RebalanceHook, TopicPartition,
};
use weir_protocol::types::{Offset, PartitionId};

use super::recorder::Recorder;
use super::{Load, Phase, DRAIN_MAX};
use crate::history::Event;

const POLL: Duration = Duration::from_millis(100);
/// Short, so that a member that a dead broker has forgotten is not waited for.
const SESSION_TIMEOUT_MS: u32 = 3_000;
const HEARTBEAT_INTERVAL_MS: u32 = 200;
/// How long a rebalance waits for a member that has gone without a word.
const POLL_INTERVAL_MS_MAX: u32 = 10_000;
/// Often, so that a broker dies in the middle of many commits.
const COMMIT_INTERVAL: Duration = Duration::from_millis(50);
/// How long a member stays before it leaves, or is gone without a word, and comes back as a new one: between this and
/// three times this.
const STAY: Duration = Duration::from_secs(3);
/// One in so many goes without a word; the others then wait for its session to end.
const SILENT_ONE_IN: u32 = 6;
/// The longest that leaving may take while the broker is away.
const LEAVE_MAX: Duration = Duration::from_secs(10);

/// Offset and value of each record, by partition, in their order.
pub(super) fn by_partition(records: &[ConsumedRecord]) -> BTreeMap<i32, Vec<(i64, String)>> {
    let mut parts: BTreeMap<i32, Vec<(i64, String)>> = BTreeMap::new();
    for record in records {
        let text = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default());
        let value = text.split(' ').next().unwrap_or_default().to_owned();
        parts.entry(record.partition.get()).or_default().push((record.offset.get(), value));
    }
    parts
}

#[derive(Debug)]
struct Hook {
    consumer: String,
    group: String,
    recorder: Arc<Recorder>,
}

impl RebalanceHook for Hook {
    fn assigned(&self, partitions: &[TopicPartition]) {
        self.recorder.write(&Event::Assign {
            consumer: self.consumer.clone(),
            group: self.group.clone(),
            partitions: partitions.iter().map(|entry| entry.partition.get()).collect(),
        });
    }
}

/// Whether its group has read everything in the end.
pub(super) async fn run(
    load: Load,
    name: String,
    client: Arc<Client>,
    recorder: Arc<Recorder>,
    phase: watch::Receiver<Phase>,
) -> Result<bool> {
    let admin = Admin::new(Arc::clone(&client));
    let number: u32 = name.bytes().map(u32::from).sum();
    for life in number.. {
        let consumer = join(&load, &name, &client, &recorder)?;
        let (load, name) = (load.clone(), name.clone());
        let recorder = Arc::clone(&recorder);
        let mut member = Member { load, name, consumer, recorder, read_to: BTreeMap::new() };
        let until = Instant::now() + STAY + STAY * (life % 5) / 2;
        if let Some(is_drained) = member.read(&admin, &phase, until).await? {
            return Ok(is_drained);
        }
        // Dropped without a word, it is gone as in a crash.
        if life % SILENT_ONE_IN != 0 {
            let _ = tokio::time::timeout(LEAVE_MAX, member.consumer.close()).await;
        }
    }
    Ok(false)
}

fn join(
    load: &Load,
    name: &str,
    client: &Arc<Client>,
    recorder: &Arc<Recorder>,
) -> Result<Consumer> {
    let mut group = GroupConfig::new(load.name.clone());
    group.session_timeout_ms = SESSION_TIMEOUT_MS;
    group.heartbeat_interval_ms = HEARTBEAT_INTERVAL_MS;
    group.poll_interval_ms_max = POLL_INTERVAL_MS_MAX;
    group.hook = Some(Arc::new(Hook {
        consumer: name.to_owned(),
        group: load.name.clone(),
        recorder: Arc::clone(recorder),
    }));
    let config = ConsumerConfig {
        group: Some(group),
        auto_offset_reset: AutoOffsetReset::Earliest,
        fetch_wait_ms_max: 100,
        ..ConsumerConfig::default()
    };
    let consumer = Consumer::new(Arc::clone(client), config)?;
    consumer.subscribe(&[load.topic.as_str()])?;
    Ok(consumer)
}

struct Member {
    load: Load,
    name: String,
    consumer: Consumer,
    recorder: Arc<Recorder>,
    /// Read and not yet committed: the next offset of each partition.
    read_to: BTreeMap<i32, i64>,
}

impl Member {
    /// Reads until its time is over, or, in the end, until its group has read everything: whether it has.
    async fn read(
        &mut self,
        admin: &Admin,
        phase: &watch::Receiver<Phase>,
        until: Instant,
    ) -> Result<Option<bool>> {
        let mut committed_at = Instant::now();
        let mut deadline = None;
        loop {
            match self.consumer.poll(POLL).await {
                Ok(records) => self.note(&records),
                Err(error) => eprintln!("{}: poll: {} {error}", self.name, error.code()),
            }
            if committed_at.elapsed() >= COMMIT_INTERVAL {
                self.commit().await;
                committed_at = Instant::now();
            }
            if *phase.borrow() != Phase::Finishing {
                if Instant::now() > until {
                    return Ok(None);
                }
                continue;
            }
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + DRAIN_MAX);
            let is_drained = self.read_to.is_empty() && self.group_is_done(admin).await?;
            if is_drained || Instant::now() > deadline {
                self.consumer.close().await?;
                return Ok(Some(is_drained));
            }
        }
    }

    fn note(&mut self, records: &[ConsumedRecord]) {
        for (partition, records) in by_partition(records) {
            if let Some((last, _)) = records.last() {
                self.read_to.insert(partition, last + 1);
            }
            self.recorder.write(&Event::Poll {
                consumer: self.name.clone(),
                group: self.load.name.clone(),
                partition,
                records,
            });
        }
    }

    async fn commit(&mut self) {
        let mine: Vec<i32> =
            self.consumer.assignment().iter().map(|entry| entry.partition.get()).collect();
        // What was read before a rebalance is for its new owner to read again.
        self.read_to.retain(|partition, _| mine.contains(partition));
        if self.read_to.is_empty() {
            return;
        }
        let offsets: Vec<PartitionOffset> = self
            .read_to
            .iter()
            .map(|(partition, offset)| {
                let partition = TopicPartition::new(&self.load.topic, PartitionId(*partition));
                PartitionOffset::new(partition, Offset(*offset))
            })
            .collect();
        // Refused in the middle of a rebalance: the records come again.
        let is_committed = self.consumer.commit(&offsets).await.is_ok();
        for (partition, offset) in std::mem::take(&mut self.read_to) {
            if is_committed {
                let (consumer, group) = (self.name.clone(), self.load.name.clone());
                self.recorder.write(&Event::Commit { consumer, group, partition, offset });
            }
        }
    }

    /// Whether the group has committed all there is.
    async fn group_is_done(&self, admin: &Admin) -> Result<bool> {
        let ends = super::ends(admin, &self.load.topic, self.load.partitions).await?;
        let committed = admin.group_offsets(&self.load.name).await?;
        Ok((0..).zip(ends).all(|(partition, end)| {
            let of_it = committed.iter().find(|entry| entry.partition.partition.get() == partition);
            end == 0 || of_it.is_some_and(|entry| entry.offset.get() >= end)
        }))
    }
}

//! Clients on weir-client that live through the deaths of their broker.
//!
//! What a rig tells and hears:
//!
//! ```text
//! stdin   stop      producers make no more records, and settle those under way
//!         finish    consumers read to the ends, commit, and leave; the history is complete
//! stdout  {"acked":812,"unknown":0,"polled":700,"commits":12}      every 50 ms
//!         {"settled":true}                                         after stop
//!         {"drained":true}                                         after finish; then the process ends
//! ```

mod consumer;
mod producer;
mod recorder;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{bail, Result};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::watch;
use tokio::task::JoinSet;
use weir_client::admin::OffsetSpec;
use weir_client::{
    Admin, AutoOffsetReset, Client, ClientConfig, Consumer, ConsumerConfig, TopicPartition,
};
use weir_protocol::types::{Offset, PartitionId};

use crate::history::Event;
use recorder::Recorder;

/// The longest a broker may be away for a client to get over it.
const AWAY_MS_MAX: u32 = 120_000;
/// The longest that reading what is left may take.
const DRAIN_MAX: Duration = Duration::from_secs(60);
const REPORT_INTERVAL: Duration = Duration::from_millis(50);

/// What a load is.
#[derive(Debug, Clone)]
pub struct Load {
    /// `host:port` of the broker, or of some of a cluster's, with commas between.
    pub brokers: String,
    /// The topic; it must exist.
    pub topic: String,
    /// Its partitions.
    pub partitions: i32,
    /// The first part of the names of its clients, and the name of their group.
    pub name: String,
    /// Producers.
    pub producers: u32,
    /// Consumers.
    pub consumers: u32,
    /// Records per second and producer.
    pub rate: u64,
    /// Where the history goes.
    pub history: PathBuf,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Running,
    /// No more records.
    Stopping,
    /// Read what is left.
    Finishing,
}

/// Settings for a broker that goes away often and soon comes back.
async fn connect(brokers: &str) -> Result<Arc<Client>> {
    let mut config = ClientConfig::new(brokers.split(','));
    config.reconnect_backoff_ms = 5;
    config.reconnect_backoff_max_ms = 50;
    config.retry_backoff_ms = 10;
    config.retry_backoff_max_ms = 100;
    config.api_timeout_ms = AWAY_MS_MAX;
    config.auto_create_topics = false;
    Ok(Client::connect_tcp(config).await?)
}

/// Runs until the rig says to finish.
///
/// # Errors
/// A broker that does not answer at the start, a history that cannot be written, or a client that ends
/// before its time.
pub async fn run(load: Load) -> Result<()> {
    let recorder = Recorder::create(&load.history)?;
    let client = connect(&load.brokers).await?;
    let (phase, watched) = watch::channel(Phase::Running);
    let mut producers = JoinSet::new();
    for number in 0..load.producers {
        let name = format!("{}-{number}", load.name);
        producers.spawn(producer::run(
            load.clone(),
            name,
            Arc::clone(&client),
            Arc::clone(&recorder),
            watched.clone(),
        ));
    }
    let mut consumers = JoinSet::new();
    for number in 0..load.consumers {
        let name = format!("{}-c{number}", load.name);
        // Connections of its own, as in a process of its own.
        let client = connect(&load.brokers).await?;
        consumers.spawn(consumer::run(
            load.clone(),
            name,
            client,
            Arc::clone(&recorder),
            watched.clone(),
        ));
    }
    let reporting = tokio::spawn(report(Arc::clone(&recorder)));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => match line?.as_deref() {
                Some("stop") => {
                    phase.send_replace(Phase::Stopping);
                    while let Some(ended) = producers.join_next().await {
                        ended??;
                    }
                    say(r#"{"settled":true}"#);
                }
                Some("finish") => break,
                other => bail!("the rig says {other:?}"),
            },
            // A client that dies is a fault of its own.
            Some(ended) = consumers.join_next() => {
                ended??;
                bail!("a consumer has ended");
            }
        }
    }
    phase.send_replace(Phase::Finishing);
    let mut is_drained = true;
    while let Some(ended) = consumers.join_next().await {
        is_drained &= ended??;
    }
    reporting.abort();
    recorder.finish()?;
    say(&format!(r#"{{"drained":{is_drained}}}"#));
    Ok(())
}

async fn report(recorder: Arc<Recorder>) {
    let mut tick = tokio::time::interval(REPORT_INTERVAL);
    loop {
        tick.tick().await;
        say(&recorder.figures());
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // A rig that is gone hears nothing; stdin tells us next.
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// Reads a topic from start to end, and what groups have committed, into a history.
///
/// # Errors
/// What the broker says, or a topic that cannot be read to its end in time.
pub async fn read_all(
    brokers: &str,
    topic: &str,
    partitions: i32,
    groups: &[&str],
    history: &std::path::Path,
) -> Result<()> {
    let recorder = Recorder::create(history)?;
    let client = connect(brokers).await?;
    let admin = Admin::new(Arc::clone(&client));
    let ends = ends(&admin, topic, partitions).await?;
    let config = ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::Earliest,
        ..ConsumerConfig::default()
    };
    let consumer = Consumer::new(client, config)?;
    let all: Vec<_> = (0..partitions).map(|p| TopicPartition::new(topic, PartitionId(p))).collect();
    consumer.assign(&all)?;
    let reading = async {
        let mut at = vec![0; ends.len()];
        while at.iter().zip(&ends).any(|(at, end)| at < end) {
            let records = consumer.poll(Duration::from_millis(500)).await?;
            for (partition, records) in consumer::by_partition(&records) {
                if let Some((offset, _)) = records.last() {
                    at[usize::try_from(partition)?] = offset + 1;
                }
                recorder.write(&Event::Final { partition, records });
            }
        }
        anyhow::Ok(())
    };
    match tokio::time::timeout(DRAIN_MAX, reading).await {
        Ok(read) => read?,
        Err(_) => bail!("the topic cannot be read to its ends {ends:?}"),
    }
    for (partition, offset) in (0..).zip(ends) {
        recorder.write(&Event::End { partition, offset, read_to: None });
    }
    for group in groups {
        let committed = admin.group_offsets(group).await?;
        for partition in 0..partitions {
            let found = committed.iter().find(|entry| entry.partition.partition.get() == partition);
            let offset = found.map_or(-1, |entry| entry.offset.get());
            recorder.write(&Event::Committed { group: (*group).to_owned(), partition, offset });
        }
    }
    recorder.finish()
}

/// The end of each partition.
async fn ends(admin: &Admin, topic: &str, partitions: i32) -> Result<Vec<i64>> {
    let ask: Vec<_> = (0..partitions)
        .map(|p| (TopicPartition::new(topic, PartitionId(p)), OffsetSpec::Latest))
        .collect();
    let mut told = admin.list_offsets(&ask).await?;
    told.sort_by_key(|(partition, _)| partition.partition);
    Ok(told.into_iter().map(|(_, offset)| offset.map_or(0, Offset::get)).collect())
}

//! `weir log clean`: compaction now, however little of a topic is dirty.
//!
//! A running broker is asked to do it ([`super::clean_running`]). Else the directory is opened as a start of the broker opens it, with its lock, its recovery and its catalog, so that what
//! is cleaned, and how, is what a running broker would do. It listens nowhere.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use serde_json::{json, Value};
use weir_broker::admin::{CleanRequest, CleanedNow};
use weir_broker::{Broker, BrokerError, BrokerStats, CommitNeed};
use weir_client::SystemClock;
use weir_log::FileDisk;
use weir_protocol::clock::Clock;
use weir_protocol::{PartitionId, TimestampMs};

use super::clean_running;
use crate::cli::CleanArgs;
use crate::config::{Settings, Values};
use crate::error::{Outcome, UserError};
use crate::output::{bytes, grouped, Align, Table};

/// The cleaner looks for work of its own once, and not again while this command runs.
const BACKOFF_MS: i64 = 100 * YEAR_MS;
/// Beyond any `file.delete.delay.ms` that makes sense: there are no readers to wait for.
const REMOVAL_MS: i64 = YEAR_MS;
const YEAR_MS: i64 = 365 * 24 * 3_600_000;
/// Upkeeps in a row that may bring nothing. A few commits lie between a request and its cleaning.
const IDLE_MAX: usize = 10;

/// What became of a partition.
#[derive(Debug, Clone, Copy, Default)]
struct Cleaned {
    bytes_before: u64,
    bytes_after: u64,
    records_dropped: u64,
    /// Its cleaning came to an end, or there was nothing to clean.
    is_done: bool,
}

impl Cleaned {
    fn by_broker(one: &CleanedNow) -> (i32, Self) {
        let CleanedNow { bytes_before, bytes_after, records_dropped, is_clean, .. } = *one;
        let cleaned = Self { bytes_before, bytes_after, records_dropped, is_done: is_clean };
        (one.partition, cleaned)
    }
}

pub(super) fn run(args: &CleanArgs) -> Outcome {
    let data_dir = super::data_dir(&args.dir)?;
    let dir = super::log_dir(&data_dir)?;
    if let Some(pid) = super::holder(&dir) {
        let request = CleanRequest { topic: args.topic.clone(), partition: args.partition };
        let cleaned = clean_running::clean(&dir, pid, &request)?;
        return report(args, &cleaned.iter().map(Cleaned::by_broker).collect());
    }
    if !dir.join(weir_broker::topics::FILE).exists() {
        return Err(UserError::new(
            "WEIR-0223",
            format!("{} has no list of topics", dir.display()),
        )
        .why("it was never weir's, so nothing says which topics are compacted")
        .help("clean it with the Kafka that it belongs to"));
    }
    let mut broker = open(args, &dir)?;
    let outcome = clean(&mut broker, args, &SystemClock);
    // Also after a refusal: the start has been a start, and has an end.
    let closed = broker.close().map_err(|error| failed("cannot close the log directory", &error));
    let cleaned = outcome?;
    closed?;
    report(args, &cleaned)
}

fn report(args: &CleanArgs, cleaned: &BTreeMap<i32, Cleaned>) -> Outcome {
    match args.json {
        true => outln!("{}", report_json(&args.topic, cleaned)),
        false => print(&args.topic, cleaned),
    }
    match cleaned.values().all(|one| one.is_done) {
        true => Ok(()),
        false => Err(UserError::new("WEIR-0223", format!("{} is not all clean", args.topic))
            .why("an open transaction, min.compaction.lag.ms or a full disk holds the rest back")
            .help("run it again later; weir doctor says how much room there is")),
    }
}

fn failed(what: &str, error: &BrokerError) -> UserError {
    UserError::new(error.code(), what).why(error)
}

fn open(args: &CleanArgs, dir: &Path) -> Outcome<Broker> {
    let values = Values::load(args.dir.file.config.as_deref(), std::env::vars())?;
    let mut config = crate::up::broker_config(&Settings::from_values(&values)?)?;
    config.data_dir = dir.to_owned();
    // Who asks for it wants it.
    config.cleaner_enabled = true;
    config.cleaner_backoff_ms = BACKOFF_MS;
    let part = || u128::from(RandomState::new().hash_one(std::process::id()));
    let seed = (part() << 64) | part();
    Broker::open(config, Arc::new(FileDisk), seed, SystemClock.now())
        .map_err(|error| failed("cannot open the log directory", &error))
}

/// Asks for the partitions and does all upkeep until they are clean.
fn clean(
    broker: &mut Broker,
    args: &CleanArgs,
    clock: &impl Clock,
) -> Outcome<BTreeMap<i32, Cleaned>> {
    commit_all(broker, clock)?;
    let mut cleaned = request(broker, args)?;
    let mut idle = 0;
    while idle < IDLE_MAX {
        let got_on = upkeep(broker, &args.topic, &mut cleaned, clock.now());
        commit_all(broker, clock)?;
        idle = if got_on { 0 } else { idle + 1 };
    }
    // What was replaced is let go of once its replacement is on disk.
    while upkeep(broker, &args.topic, &mut cleaned, clock.now().plus_ms(REMOVAL_MS)) {}
    let stats = broker.stats();
    if let Some(bad) = stats.cleaner.uncleanable.iter().find(|bad| bad.topic == args.topic) {
        let what = format!("{}-{} cannot be cleaned", bad.topic, bad.partition);
        return Err(UserError::new("WEIR-0223", what)
            .why(&bad.reason)
            .help("weir log verify says what is wrong with its files"));
    }
    let sizes = sizes(&stats, &args.topic);
    for (partition, one) in &mut cleaned {
        one.bytes_after = sizes.get(partition).copied().unwrap_or(0);
    }
    Ok(cleaned)
}

/// Requests the cleaning of all that is meant and has been written to.
fn request(broker: &mut Broker, args: &CleanArgs) -> Outcome<BTreeMap<i32, Cleaned>> {
    let topic = &args.topic;
    let sizes = sizes(&broker.stats(), topic);
    if sizes.is_empty() {
        return Err(no_topic(topic));
    }
    let meant = sizes.into_iter().filter(|(index, _)| args.partition.is_none_or(|p| p == *index));
    let mut cleaned = BTreeMap::new();
    for (partition, bytes_before) in meant {
        match broker.request_clean(topic, PartitionId(partition)) {
            Ok(true) => {
                let is_done = bytes_before == 0;
                cleaned.insert(partition, Cleaned { bytes_before, is_done, ..Cleaned::default() });
            }
            Ok(false) => {
                return Err(not_compacted(topic));
            }
            // It has no log yet.
            Err(_) if args.partition.is_none() => {}
            Err(_) => break,
        }
    }
    match (cleaned.is_empty(), args.partition) {
        (true, Some(partition)) => Err(no_partition(topic, partition)),
        _ => Ok(cleaned),
    }
}

pub(super) fn no_topic(topic: &str) -> UserError {
    UserError::new("WEIR-0223", format!("there is no topic \"{topic}\""))
        .help("`weir log dump` lists what there is")
}

pub(super) fn no_partition(topic: &str, partition: i32) -> UserError {
    let what = format!("{topic}-{partition} does not exist, or has no record yet");
    UserError::new("WEIR-0223", what).help("`weir log dump` lists what there is")
}

pub(super) fn not_compacted(topic: &str) -> UserError {
    UserError::new("WEIR-0223", format!("topic \"{topic}\" is not compacted"))
        .why("its cleanup.policy is delete: old segments go by age and size, and no record before")
        .help("set cleanup.policy=compact on the topic if its newest record per key is enough")
}

/// Does what upkeep there is, but no cleaning of other logs. Returns whether it got on.
fn upkeep(
    broker: &mut Broker,
    topic: &str,
    cleaned: &mut BTreeMap<i32, Cleaned>,
    now: TimestampMs,
) -> bool {
    let Some(upkeep) = broker.begin_upkeep(now) else { return false };
    let before = broker.stats().cleaner;
    let partition = before.running.as_ref().filter(|(name, _)| name == topic).map(|(_, p)| *p);
    let ours = partition.and_then(|partition| cleaned.get_mut(&partition));
    let is_others = before.running.is_some() && ours.is_none();
    let done = upkeep.run(&mut |_| match is_others {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    });
    let got_on = broker.finish_upkeep(done, now);
    if let Some(ours) = ours {
        let after = broker.stats().cleaner;
        ours.records_dropped += after.records_dropped - before.records_dropped;
        ours.is_done |= after.runs > before.runs;
    }
    got_on
}

/// Bytes of each partition.
fn sizes(stats: &BrokerStats, topic: &str) -> BTreeMap<i32, u64> {
    let found = stats.topics.iter().find(|one| one.name == topic);
    (0..).zip(found.into_iter().flat_map(|one| one.sizes_bytes.iter().copied())).collect()
}

fn commit_all(broker: &mut Broker, clock: &impl Clock) -> Outcome {
    while broker.commit_need() > CommitNeed::None {
        let Some(pending) = broker.begin_commit() else { break };
        let mut done = pending.run();
        let flush = done.take_flush();
        broker.finish_commit(done, clock.now());
        let flushed = flush.map_or(Ok(()), weir_log::Flush::run).map_err(|error| error.to_string());
        if let Some(why) = flushed.err().or_else(|| broker.stats().failure) {
            return Err(UserError::new("WEIR-0303", "cannot write the log directory").why(why));
        }
    }
    Ok(())
}

fn report_json(topic: &str, cleaned: &BTreeMap<i32, Cleaned>) -> Value {
    let partitions = cleaned.iter().map(|(partition, one)| {
        json!({"topic": topic, "partition": partition, "bytes_before": one.bytes_before,
               "bytes_after": one.bytes_after, "records_dropped": one.records_dropped,
               "clean": one.is_done})
    });
    Value::Array(partitions.collect())
}

fn print(topic: &str, cleaned: &BTreeMap<i32, Cleaned>) {
    let head = [
        ("PARTITION", Align::Left),
        ("BEFORE", Align::Right),
        ("AFTER", Align::Right),
        ("RECORDS DROPPED", Align::Right),
    ];
    let mut table = Table::new(&head);
    for (partition, one) in cleaned {
        table.row(vec![
            format!("{topic}-{partition}"),
            bytes(one.bytes_before),
            bytes(one.bytes_after),
            grouped(one.records_dropped),
        ]);
    }
    table.print();
}

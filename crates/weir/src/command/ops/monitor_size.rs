//! `weir ops monitor-size`: how large topics and partitions are, and how fast they grow.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{json, Value};
use weir_client::admin::LogDirDescription;
use weir_client::{Admin, TopicPartition};
use weir_log::{inspect, ReadOnlyDisk};
use weir_protocol::PartitionId;

use super::size;
use crate::cli::MonitorSizeArgs;
use crate::command::kafka::{block_on, connect, failed};
use crate::error::{Outcome, UserError};
use crate::output::{bytes, grouped, is_terminal, Align, Table};

/// The copies of one partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Size {
    copies: usize,
    /// Of the largest copy.
    bytes: u64,
}

type Sizes = BTreeMap<TopicPartition, Size>;

/// A measurement and how it compares with the one before.
struct Sample {
    sizes: Sizes,
    growth_per_hour: Option<HashMap<TopicPartition, f64>>,
}

pub(super) fn run(args: &MonitorSizeArgs) -> Outcome {
    let threshold = args.threshold.as_deref().map(size).transpose()?;
    block_on(async {
        let admin = match &args.data_dir {
            Some(_) => None,
            None => Some(Admin::new(connect(args.brokers.brokers.as_deref()).await?)),
        };
        let mut before: Option<(Instant, Sizes)> = None;
        let mut left = args.count.unwrap_or(u64::MAX);
        loop {
            let mut sizes = measure(admin.as_ref(), args).await?;
            sizes.retain(|place, _| args.topic.as_ref().is_none_or(|topic| place.topic == **topic));
            let at = now();
            let growth_per_hour = before.as_ref().map(|(then, earlier)| {
                growth(earlier, &sizes, at.saturating_duration_since(*then))
            });
            before = Some((at, sizes.clone()));
            print(args, &Sample { sizes, growth_per_hour }, threshold);
            left = left.saturating_sub(1);
            let Some(seconds) = args.watch.filter(|_| left > 0) else { return Ok(()) };
            tokio::time::sleep(Duration::from_secs(seconds.max(1))).await;
        }
    })
}

async fn measure(admin: Option<&Admin>, args: &MonitorSizeArgs) -> Outcome<Sizes> {
    match (admin, &args.data_dir) {
        (Some(admin), _) => {
            let dirs = admin
                .describe_log_dirs()
                .await
                .map_err(|error| failed("cannot ask for the log directories", &error))?;
            Ok(of_brokers(&dirs))
        }
        (None, dir) => of_directory(dir.as_deref().unwrap_or(Path::new("."))),
    }
}

fn of_brokers(dirs: &[LogDirDescription]) -> Sizes {
    let mut sizes = Sizes::new();
    for dir in dirs {
        match &dir.partitions {
            Ok(replicas) => {
                for replica in replicas.iter().filter(|replica| !replica.is_future) {
                    let size = sizes.entry(replica.partition.clone()).or_default();
                    size.copies += 1;
                    size.bytes = size.bytes.max(replica.size_bytes);
                }
            }
            Err(code) => eprintln!("warning: {} on node {}: {code:?}", dir.path, dir.node),
        }
        if let (Some(usable), Some(total)) = (dir.usable_bytes, dir.total_bytes) {
            if usable < total / 10 {
                eprintln!(
                    "warning: {} on node {} has {} of {} left",
                    dir.path,
                    dir.node,
                    bytes(usable),
                    bytes(total)
                );
            }
        }
    }
    sizes
}

fn of_directory(data_dir: &Path) -> Outcome<Sizes> {
    let dir = crate::command::log::log_dir(data_dir)?;
    let partitions = inspect::partitions(&ReadOnlyDisk, &dir).map_err(|error| {
        UserError::new(error.code(), format!("cannot read {}", dir.display())).why(error)
    })?;
    let size = |files: inspect::PartitionFiles| {
        let place = TopicPartition::new(&files.topic, PartitionId(files.partition));
        let bytes = files.segments.iter().map(|segment| segment.log_bytes).sum();
        (place, Size { copies: 1, bytes })
    };
    Ok(partitions.into_iter().map(size).collect())
}

/// Bytes per hour; negative where retention took more than came.
fn growth(before: &Sizes, after: &Sizes, taken: Duration) -> HashMap<TopicPartition, f64> {
    let hours = taken.as_secs_f64().max(0.001) / 3600.0;
    let of = |(place, size): (&TopicPartition, &Size)| {
        let was = before.get(place).map_or(0, |size| size.bytes);
        (place.clone(), (size.bytes as f64 - was as f64) / hours)
    };
    after.iter().map(of).collect()
}

fn print(args: &MonitorSizeArgs, sample: &Sample, threshold: Option<u64>) {
    let totals = totals(&sample.sizes);
    match (args.json, is_terminal()) {
        (true, _) => outln!("{}", as_json(sample, &totals, threshold)),
        (false, true) => out!("{}", table(sample, &totals).render(true)),
        (false, false) => print_plain(sample),
    }
    for (topic, total) in totals.iter().filter(|(_, total)| Some(**total) > threshold) {
        let Some(threshold) = threshold else { continue };
        eprintln!("warning: topic {topic} has {}, over {}", bytes(*total), bytes(threshold));
    }
}

fn totals(sizes: &Sizes) -> BTreeMap<String, u64> {
    let mut totals = BTreeMap::new();
    for (place, size) in sizes {
        *totals.entry(place.topic.to_string()).or_default() += size.bytes;
    }
    totals
}

/// As the script: `topic-partition: N bytes`, sorted as text.
fn print_plain(sample: &Sample) {
    outln!("=== Topic Sizes ===");
    let line = |(place, size): (&TopicPartition, &Size)| {
        let growth = sample.growth_per_hour.as_ref().and_then(|growth| growth.get(place));
        let growth =
            growth.map_or_else(String::new, |rate| format!(", {} per hour", signed(*rate)));
        format!("{place}: {} bytes{growth}", size.bytes)
    };
    let mut lines: Vec<String> = sample.sizes.iter().map(line).collect();
    lines.sort();
    for line in lines {
        outln!("{line}");
    }
}

/// The largest topic first.
fn table(sample: &Sample, totals: &BTreeMap<String, u64>) -> Table {
    let mut head = vec![
        ("TOPIC", Align::Left),
        ("TOPIC SIZE", Align::Right),
        ("PARTITION", Align::Right),
        ("COPIES", Align::Right),
        ("BYTES", Align::Right),
    ];
    if sample.growth_per_hour.is_some() {
        head.push(("PER HOUR", Align::Right));
    }
    let mut table = Table::new(&head);
    let total = |place: &TopicPartition| totals.get(&*place.topic).copied().unwrap_or(0);
    let mut rows: Vec<(&TopicPartition, &Size)> = sample.sizes.iter().collect();
    rows.sort_by_key(|(place, _)| (std::cmp::Reverse(total(place)), (*place).clone()));
    let mut last = None;
    for (place, size) in rows {
        let is_first = last != Some(&place.topic);
        last = Some(&place.topic);
        let topic = |text: String| if is_first { text } else { String::new() };
        let mut cells = vec![
            topic(place.topic.to_string()),
            topic(bytes(total(place))),
            place.partition.to_string(),
            size.copies.to_string(),
            grouped(size.bytes),
        ];
        if let Some(growth) = &sample.growth_per_hour {
            cells.push(growth.get(place).map_or_else(String::new, |rate| signed(*rate)));
        }
        table.row(cells);
    }
    table
}

fn signed(rate: f64) -> String {
    let sign = if rate < 0.0 { "−" } else { "+" };
    format!("{sign}{}", bytes(rate.abs() as u64))
}

fn as_json(sample: &Sample, totals: &BTreeMap<String, u64>, threshold: Option<u64>) -> Value {
    let partition = |(place, size): (&TopicPartition, &Size)| {
        let growth = sample.growth_per_hour.as_ref().and_then(|growth| growth.get(place));
        json!({"topic": &*place.topic, "partition": place.partition.get(), "copies": size.copies,
               "bytes": size.bytes, "bytes_per_hour": growth})
    };
    let topic = |(topic, total): (&String, &u64)| {
        let over = threshold.is_some_and(|threshold| *total > threshold);
        json!({"topic": topic, "bytes": total, "over_threshold": over})
    };
    json!({"topics": totals.iter().map(topic).collect::<Vec<_>>(),
           "partitions": sample.sizes.iter().map(partition).collect::<Vec<_>>()})
}

/// The command is a shell: it measures over time.
#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_per_hour_and_may_be_negative() {
        let sizes = |bytes| {
            Sizes::from([(TopicPartition::new("a", PartitionId(0)), Size { copies: 1, bytes })])
        };
        let rate = |from, to| {
            let growth = growth(&sizes(from), &sizes(to), Duration::from_secs(60));
            growth.into_values().next().unwrap()
        };
        assert_eq!(rate(100, 200), 6000.0);
        assert_eq!(rate(200, 100), -6000.0);
        assert_eq!(signed(-6000.0), "−6.00 kB");
    }
}

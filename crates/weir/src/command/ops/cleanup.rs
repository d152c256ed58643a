//! `weir ops cleanup`: deletes old records through the broker, never files under it.
//!
//! The script of the specification removed files by their age. Here the broker moves each log's start
//! (DeleteRecords): nobody reads what is below, and the broker frees whole segments itself.

use std::collections::HashMap;
use std::path::Path;

use serde_json::json;
use weir_client::admin::{LogDirDescription, OffsetSpec};
use weir_client::{Admin, SystemClock, TopicPartition};
use weir_log::inspect::{OffsetIndexReader, PartitionFiles};
use weir_log::ReadOnlyDisk;
use weir_protocol::clock::Clock;
use weir_protocol::{Offset, TimestampMs};

use super::{size, time};
use crate::cli::CleanupArgs;
use crate::command::kafka::{block_on, connect, failed, offsets};
use crate::error::{Outcome, UserError};
use crate::output::{bytes, grouped, is_terminal, Align, Table};

/// As in the script.
const DAYS_DEFAULT: u32 = 7;
const DAY_MS: i64 = 86_400_000;

/// Which records go.
#[derive(Debug, Clone, Copy)]
enum What {
    Before(TimestampMs),
    AllBut(u64),
}

/// A partition and what would become of it.
struct Row {
    place: TopicPartition,
    start: Offset,
    end: Offset,
    new_start: Offset,
    size_bytes: u64,
    /// Bytes of whole segments below the new start.
    freed_bytes: u64,
    /// The files were not at hand, so the bytes are in proportion to the records.
    is_estimate: bool,
}

pub(super) fn run(args: &CleanupArgs) -> Outcome {
    let what = match (&args.before, &args.keep_bytes) {
        (Some(before), _) => What::Before(time(before)?),
        (None, Some(keep)) => What::AllBut(size(keep)?),
        (None, None) => {
            let days = args.days.unwrap_or(DAYS_DEFAULT);
            if !args.json {
                outln!("Cleaning up logs older than {days} days");
            }
            What::Before(SystemClock.now().plus_ms(-i64::from(days) * DAY_MS))
        }
    };
    block_on(async {
        let admin = Admin::new(connect(args.brokers.brokers.as_deref()).await?);
        let topics = topics(&admin, args).await?;
        let rows = rows(&admin, &topics, what).await?;
        let outcome = if args.yes { delete(&admin, &rows).await } else { Ok(()) };
        if outcome.is_ok() {
            print(args, &rows);
        }
        outcome
    })
}

/// The topics to look at: the one that is named, else all whose old records may be deleted.
async fn topics(admin: &Admin, args: &CleanupArgs) -> Outcome<Vec<TopicPartition>> {
    let failed = |error| failed("cannot list topics", &error);
    let mut listed = match &args.topic {
        Some(topic) => vec![admin.describe_topic(topic).await.map_err(failed)?],
        None => admin.list_topics().await.map_err(failed)?,
    };
    listed.retain(|topic| args.topic.is_some() || !topic.internal);
    let mut places = Vec::new();
    for topic in listed {
        let configs = admin.describe_topic_configs(&topic.name).await.map_err(failed)?;
        let policy = configs.iter().find(|entry| &*entry.name == "cleanup.policy");
        let policy = policy.and_then(|entry| entry.value.clone()).unwrap_or_default();
        if policy.is_empty() || policy.split(',').any(|one| one.trim() == "delete") {
            let of_topic = topic.partitions.iter();
            places.extend(of_topic.map(|one| TopicPartition::new(&topic.name, one.partition)));
        } else if args.topic.is_some() {
            return Err(UserError::new("WEIR-0825", format!("topic {} is compacted", topic.name))
                .why(format!(
                    "its cleanup.policy is {policy}: the latest record of each key is kept"
                ))
                .help("delete keys by writing them without a value"));
        }
    }
    Ok(places)
}

async fn rows(admin: &Admin, places: &[TopicPartition], what: What) -> Outcome<Vec<Row>> {
    let starts = offsets(admin, places, OffsetSpec::Earliest).await?;
    let ends = offsets(admin, places, OffsetSpec::Latest).await?;
    let dirs = admin
        .describe_log_dirs()
        .await
        .map_err(|error| failed("cannot ask for the log directories", &error))?;
    let sizes = sizes(&dirs);
    let found = match what {
        What::Before(time) => {
            let asked: Vec<_> =
                places.iter().map(|one| (one.clone(), OffsetSpec::AtTime(time))).collect();
            let answered = admin
                .list_offsets(&asked)
                .await
                .map_err(|error| failed("cannot list offsets", &error))?;
            answered.into_iter().collect()
        }
        What::AllBut(_) => HashMap::new(),
    };
    let bounds = starts.into_iter().zip(ends);
    let row = |(place, (start, end)): (&TopicPartition, (Offset, Offset))| {
        let size_bytes = sizes.get(place).copied().unwrap_or(0);
        let files = local_files(&dirs, place, size_bytes);
        let new_start = match what {
            // Nothing is that late: all of it is older.
            What::Before(_) => found.get(place).copied().flatten().unwrap_or(end),
            What::AllBut(keep) => keep_bytes(files.as_ref(), start, end, size_bytes, keep),
        };
        let new_start = new_start.clamp(start, end.max(start));
        let (freed_bytes, is_estimate) = match &files {
            Some(files) => (bytes_below(files, new_start), false),
            None => (share(size_bytes, start, end, new_start), true),
        };
        Row { place: place.clone(), start, end, new_start, size_bytes, freed_bytes, is_estimate }
    };
    let mut rows: Vec<Row> = places.iter().zip(bounds).map(row).collect();
    rows.sort_by(|a, b| b.freed_bytes.cmp(&a.freed_bytes).then_with(|| a.place.cmp(&b.place)));
    Ok(rows)
}

fn sizes(dirs: &[LogDirDescription]) -> HashMap<TopicPartition, u64> {
    let mut sizes: HashMap<TopicPartition, u64> = HashMap::new();
    for replica in dirs.iter().filter_map(|dir| dir.partitions.as_ref().ok()).flatten() {
        let size = sizes.entry(replica.partition.clone()).or_default();
        *size = (*size).max(replica.size_bytes);
    }
    sizes
}

/// The partition's files, if the broker's directory is on this machine. They count as the broker's if
/// they are as large as it says.
fn local_files(
    dirs: &[LogDirDescription],
    place: &TopicPartition,
    size_bytes: u64,
) -> Option<PartitionFiles> {
    dirs.iter().find_map(|dir| {
        let path = Path::new(&*dir.path).join(place.to_string());
        let files = PartitionFiles::read(&ReadOnlyDisk, &path).ok()??;
        let bytes: u64 = files.segments.iter().map(|segment| segment.log_bytes).sum();
        (bytes == size_bytes).then_some(files)
    })
}

/// Bytes of segments that end before `start`: what the broker frees. The last one always stays.
fn bytes_below(files: &PartitionFiles, start: Offset) -> u64 {
    let next_bases = files.segments.iter().skip(1).map(|next| next.base);
    let pairs = files.segments.iter().zip(next_bases);
    pairs.take_while(|(_, next)| *next <= start).map(|(segment, _)| segment.log_bytes).sum()
}

/// The share of `size_bytes` that the records before `new_start` have, if all are of one size.
fn share(size_bytes: u64, start: Offset, end: Offset, new_start: Offset) -> u64 {
    let all = u128::try_from(end.get() - start.get()).unwrap_or(0).max(1);
    let gone = u128::try_from(new_start.get() - start.get()).unwrap_or(0);
    u64::try_from(u128::from(size_bytes) * gone / all).unwrap_or(u64::MAX)
}

/// The offset from which on at least `keep` bytes are left, as nearly as can be known.
fn keep_bytes(
    files: Option<&PartitionFiles>,
    start: Offset,
    end: Offset,
    size_bytes: u64,
    keep: u64,
) -> Offset {
    let Some(mut surplus) = size_bytes.checked_sub(keep).filter(|surplus| *surplus > 0) else {
        return start;
    };
    let Some(files) = files else {
        let all = u128::try_from(end.get() - start.get()).unwrap_or(0);
        let gone = all * u128::from(surplus) / u128::from(size_bytes.max(1));
        return start.plus(i64::try_from(gone).unwrap_or(0));
    };
    for (segment, next) in files.segments.iter().zip(files.segments.iter().skip(1)) {
        match surplus.checked_sub(segment.log_bytes) {
            Some(left) => surplus = left,
            None => return indexed(&files.dir, segment.base, surplus).min(next.base),
        }
    }
    files.segments.last().map_or(start, |last| indexed(&files.dir, last.base, surplus))
}

/// The first offset of the last indexed batch that begins at or before `position`.
fn indexed(dir: &Path, base: Offset, position: u64) -> Offset {
    let mut found = base;
    let Ok(mut reader) = OffsetIndexReader::open(&ReadOnlyDisk, dir, base) else { return found };
    let mut before = None;
    while let Ok(Some((last, at))) = reader.next_entry() {
        // The entry names the last offset of its batch, so what precedes the batch may go.
        if at > position || before.is_some_and(|before| at <= before) {
            break;
        }
        (found, before) = (last, Some(at));
    }
    found
}

async fn delete(admin: &Admin, rows: &[Row]) -> Outcome {
    let moved = rows.iter().filter(|row| row.new_start > row.start);
    let before: Vec<_> = moved.map(|row| (row.place.clone(), row.new_start)).collect();
    if before.is_empty() {
        return Ok(());
    }
    let done = admin
        .delete_records(&before)
        .await
        .map_err(|error| failed("cannot delete records", &error))?;
    let refused: Vec<_> =
        done.iter().filter_map(|(place, outcome)| Some((place, outcome.as_ref().err()?))).collect();
    match refused.first() {
        None => Ok(()),
        Some((place, error)) => {
            let what = format!("cannot delete records of {place}");
            let others = refused.len() - 1;
            let why = match others {
                0 => error.to_string(),
                _ => format!("{error}; {others} other partitions were refused too"),
            };
            Err(UserError::new(error.code(), what).why(why))
        }
    }
}

fn print(args: &CleanupArgs, rows: &[Row]) {
    let records = |row: &Row| u64::try_from(row.new_start.get() - row.start.get()).unwrap_or(0);
    if args.json {
        let row = |row: &Row| {
            json!({"topic": &*row.place.topic, "partition": row.place.partition.get(),
                   "log_start": row.start.get(), "new_log_start": row.new_start.get(),
                   "log_end": row.end.get(), "records": records(row),
                   "bytes": row.size_bytes, "freed_bytes": row.freed_bytes,
                   "is_estimate": row.is_estimate})
        };
        let rows: Vec<_> = rows.iter().map(row).collect();
        outln!("{}", json!({"done": args.yes, "partitions": rows}));
        return;
    }
    let mut table = Table::new(&[
        ("TOPIC", Align::Left),
        ("PARTITION", Align::Right),
        ("LOG START", Align::Right),
        ("NEW LOG START", Align::Right),
        ("LOG END", Align::Right),
        ("RECORDS GONE", Align::Right),
        ("BYTES FREED", Align::Right),
    ]);
    for row in rows.iter().filter(|row| records(row) > 0) {
        let about = if row.is_estimate { "≈ " } else { "" };
        table.row(vec![
            row.place.topic.to_string(),
            row.place.partition.to_string(),
            row.start.to_string(),
            row.new_start.to_string(),
            row.end.to_string(),
            grouped(records(row)),
            format!("{about}{}", grouped(row.freed_bytes)),
        ]);
    }
    let all: u64 = rows.iter().map(records).sum();
    if all == 0 {
        outln!("nothing to delete");
        return;
    }
    out!("{}", table.render(is_terminal()));
    let freed: u64 = rows.iter().map(|row| row.freed_bytes).sum();
    let (records, freed) = (grouped(all), bytes(freed));
    match args.yes {
        true => outln!("deleted {records} records; the broker frees {freed} by whole segments"),
        false => {
            outln!("would delete {records} records and free {freed} by whole segments");
            outln!("the same with --yes does it");
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_log::inspect::SegmentFiles;

    use super::*;

    fn files() -> PartitionFiles {
        let segment = |base, log_bytes| SegmentFiles {
            base: Offset(base),
            log_bytes,
            offset_index_bytes: None,
            time_index_bytes: None,
            txn_index_bytes: None,
        };
        PartitionFiles {
            topic: "a".to_owned(),
            partition: 0,
            dir: "/nowhere".into(),
            segments: vec![segment(0, 100), segment(10, 100), segment(20, 50)],
            snapshots: Vec::new(),
            others: Vec::new(),
        }
    }

    #[test]
    fn only_whole_segments_below_the_start_are_freed_and_never_the_last() {
        let freed = |start| bytes_below(&files(), Offset(start));
        assert_eq!([9, 10, 19, 20, 99].map(freed), [0, 100, 100, 200, 200]);
    }

    #[test]
    fn at_least_as_many_bytes_as_asked_for_are_kept() {
        let start = |keep| keep_bytes(Some(&files()), Offset(0), Offset(30), 250, keep).get();
        assert_eq!([250, 300, 150, 149, 50, 10].map(start), [0, 0, 10, 10, 20, 20]);
        let guess = |keep| keep_bytes(None, Offset(0), Offset(100), 1000, keep).get();
        assert_eq!([1000, 500, 0].map(guess), [0, 50, 100]);
        assert_eq!(share(1000, Offset(0), Offset(100), Offset(25)), 250);
    }
}

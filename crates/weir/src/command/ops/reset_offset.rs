//! `weir ops reset-offset GROUP TOPIC OFFSET`: where a group goes on reading.

use std::collections::HashMap;

use serde_json::json;
use weir_client::admin::OffsetSpec;
use weir_client::{Admin, PartitionOffset, TopicPartition};
use weir_protocol::{Offset, PartitionId};

use super::time;
use crate::cli::ResetOffsetArgs;
use crate::command::kafka::{block_on, connect, failed, offsets};
use crate::error::{Outcome, UserError};
use crate::output::{is_terminal, Align, Table};

/// Where to.
enum Target {
    Offset(i64),
    Spec(OffsetSpec),
}

struct Row {
    place: TopicPartition,
    before: Option<i64>,
    after: Offset,
}

pub(super) fn run(args: &ResetOffsetArgs) -> Outcome {
    let target = match (&*args.offset, args.offset.parse::<i64>()) {
        (_, Ok(offset)) if offset >= 0 => Target::Offset(offset),
        ("earliest", _) => Target::Spec(OffsetSpec::Earliest),
        ("latest", _) => Target::Spec(OffsetSpec::Latest),
        (text, _) => Target::Spec(OffsetSpec::AtTime(time(text).map_err(|error| {
            error.help("give an offset, earliest, latest, or a time as 2025-08-03T10:30:00Z")
        })?)),
    };
    block_on(async {
        let admin = Admin::new(connect(args.brokers.brokers.as_deref()).await?);
        let rows = rows(&admin, args, &target).await?;
        if args.yes {
            set(&admin, args, &rows).await?;
        }
        print(args, &rows);
        Ok(())
    })
}

async fn rows(admin: &Admin, args: &ResetOffsetArgs, target: &Target) -> Outcome<Vec<Row>> {
    let what = format!("cannot reset the offsets of group \"{}\"", args.group);
    let topic = admin.describe_topic(&args.topic).await.map_err(|error| failed(&what, &error))?;
    let wanted = |number: &PartitionId| args.partition.is_none_or(|one| one == number.get());
    let numbers = topic.partitions.iter().map(|partition| partition.partition).filter(wanted);
    let places: Vec<_> = numbers.map(|number| TopicPartition::new(&args.topic, number)).collect();
    if places.is_empty() {
        let count = topic.partitions.len();
        return Err(UserError::new("WEIR-0823", format!("{what}: no such partition")).why(
            format!("topic {} has the partitions 0 to {}", args.topic, count.saturating_sub(1)),
        ));
    }
    let starts = offsets(admin, &places, OffsetSpec::Earliest).await?;
    let ends = offsets(admin, &places, OffsetSpec::Latest).await?;
    let aimed: Vec<Offset> = match target {
        Target::Offset(offset) => vec![Offset(*offset); places.len()],
        Target::Spec(spec) => found_or_end(admin, &places, &ends, *spec).await?,
    };
    let committed =
        admin.group_offsets(&args.group).await.map_err(|error| failed(&what, &error))?;
    let committed: HashMap<TopicPartition, i64> =
        committed.into_iter().map(|at| (at.partition, at.offset.get())).collect();
    let bounds = starts.into_iter().zip(ends);
    let rows = places.into_iter().zip(aimed).zip(bounds).map(|((place, aim), (start, end))| Row {
        before: committed.get(&place).copied(),
        // As Kafka's tool: what is out of range becomes the nearest that is not.
        after: aim.clamp(start, end.max(start)),
        place,
    });
    Ok(rows.collect())
}

/// The offsets of a time; the end where nothing is that late.
async fn found_or_end(
    admin: &Admin,
    places: &[TopicPartition],
    ends: &[Offset],
    spec: OffsetSpec,
) -> Outcome<Vec<Offset>> {
    let asked: Vec<_> = places.iter().map(|place| (place.clone(), spec)).collect();
    let answered =
        admin.list_offsets(&asked).await.map_err(|error| failed("cannot list offsets", &error))?;
    let known: HashMap<TopicPartition, Option<Offset>> = answered.into_iter().collect();
    let found = places.iter().zip(ends);
    Ok(found.map(|(place, end)| known.get(place).copied().flatten().unwrap_or(*end)).collect())
}

async fn set(admin: &Admin, args: &ResetOffsetArgs, rows: &[Row]) -> Outcome {
    let what = format!("cannot reset the offsets of group \"{}\"", args.group);
    let described =
        admin.describe_groups(&[&args.group]).await.map_err(|error| failed(&what, &error))?;
    let members: usize = described.iter().map(|group| group.members.len()).sum();
    if members > 0 {
        return Err(UserError::new("WEIR-0824", what)
            .why(format!("{members} of its members are running and would overwrite them"))
            .help("stop the consumers of the group first"));
    }
    let row = |row: &Row| PartitionOffset::new(row.place.clone(), row.after);
    let offsets: Vec<PartitionOffset> = rows.iter().map(row).collect();
    admin.set_group_offsets(&args.group, &offsets).await.map_err(|error| failed(&what, &error))
}

fn print(args: &ResetOffsetArgs, rows: &[Row]) {
    let ResetOffsetArgs { group, topic, offset, yes, .. } = args;
    if args.json {
        let row = |row: &Row| {
            json!({"topic": &*row.place.topic, "partition": row.place.partition.get(),
                   "old_offset": row.before, "new_offset": row.after.get()})
        };
        let rows: Vec<_> = rows.iter().map(row).collect();
        outln!("{}", json!({"group": group, "done": yes, "partitions": rows}));
        return;
    }
    match yes {
        true => outln!("Resetting offset for group {group} on topic {topic} to {offset}"),
        false => outln!("would reset the offset for group {group} on topic {topic} to {offset}"),
    }
    let mut table = Table::new(&[
        ("GROUP", Align::Left),
        ("TOPIC", Align::Left),
        ("PARTITION", Align::Right),
        ("OLD-OFFSET", Align::Right),
        ("NEW-OFFSET", Align::Right),
    ]);
    for row in rows {
        table.row(vec![
            group.clone(),
            row.place.topic.to_string(),
            row.place.partition.to_string(),
            row.before.map_or_else(|| "-".to_owned(), |offset| offset.to_string()),
            row.after.to_string(),
        ]);
    }
    out!("{}", table.render(is_terminal()));
    if !yes {
        outln!("the same with --yes does it");
    }
}

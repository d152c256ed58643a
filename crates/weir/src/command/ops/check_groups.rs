//! `weir ops check-groups`: every group with its partitions, who reads them, and how far behind.

use std::collections::HashMap;

use serde_json::json;
use weir_client::admin::{GroupDescription, MemberDescription, OffsetSpec};
use weir_client::{Admin, TopicPartition};

use crate::cli::CheckGroupsArgs;
use crate::command::kafka::{block_on, connect, failed, offsets};
use crate::error::Outcome;
use crate::output::{grouped, is_terminal, Align, Table};

/// A group and its partitions.
struct Group {
    name: String,
    state: String,
    lag: u64,
    rows: Vec<Row>,
}

struct Row {
    place: TopicPartition,
    committed: Option<i64>,
    end: i64,
    lag: Option<u64>,
    member: Option<MemberDescription>,
}

pub(super) fn run(args: &CheckGroupsArgs) -> Outcome {
    block_on(async {
        let admin = Admin::new(connect(args.brokers.brokers.as_deref()).await?);
        let groups = groups(&admin, args.group.as_deref()).await?;
        match (args.json, is_terminal()) {
            (true, _) => outln!("{}", as_json(&groups, args.threshold)),
            (false, true) => out!("{}", table(&groups, true).render(true)),
            (false, false) => print_plain(&groups),
        }
        for group in groups.iter().filter(|group| group.lag > args.threshold) {
            eprintln!(
                "warning: group {} is {} records behind, over {}",
                group.name,
                grouped(group.lag),
                grouped(args.threshold)
            );
        }
        Ok(())
    })
}

/// As the script: a heading, then each group with its own table.
fn print_plain(groups: &[Group]) {
    outln!("=== Consumer Groups Status ===");
    for group in groups {
        outln!("Group: {}", group.name);
        out!("{}", table(std::slice::from_ref(group), false).render(false));
        outln!("---");
    }
}

fn table(groups: &[Group], is_grouped: bool) -> Table {
    let mut table = Table::new(&[
        ("GROUP", Align::Left),
        ("TOPIC", Align::Left),
        ("PARTITION", Align::Right),
        ("CURRENT-OFFSET", Align::Right),
        ("LOG-END-OFFSET", Align::Right),
        ("LAG", Align::Right),
        ("CONSUMER-ID", Align::Left),
        ("HOST", Align::Left),
        ("CLIENT-ID", Align::Left),
        ("STATE", Align::Left),
    ]);
    let number = |n: Option<i64>| match n.and_then(|n| u64::try_from(n).ok()) {
        Some(n) if is_grouped => grouped(n),
        Some(n) => n.to_string(),
        None => "-".to_owned(),
    };
    for group in groups {
        for row in &group.rows {
            let member = |of: fn(&MemberDescription) -> &str| {
                row.member.as_ref().map_or_else(|| "-".to_owned(), |member| of(member).to_owned())
            };
            table.row(vec![
                group.name.clone(),
                row.place.topic.to_string(),
                row.place.partition.to_string(),
                number(row.committed),
                number(Some(row.end)),
                number(row.lag.and_then(|lag| i64::try_from(lag).ok())),
                member(|member| &member.member_id),
                member(|member| &member.client_host),
                member(|member| &member.client_id),
                group.state.clone(),
            ]);
        }
    }
    table
}

fn as_json(groups: &[Group], threshold: u64) -> serde_json::Value {
    let row = |row: &Row| {
        let member = row.member.as_ref();
        json!({"topic": &*row.place.topic, "partition": row.place.partition.get(),
               "current_offset": row.committed, "log_end_offset": row.end, "lag": row.lag,
               "consumer_id": member.map(|member| &*member.member_id),
               "host": member.map(|member| &*member.client_host),
               "client_id": member.map(|member| &*member.client_id)})
    };
    let group = |group: &Group| {
        json!({"group": group.name, "state": group.state, "lag": group.lag,
               "over_threshold": group.lag > threshold,
               "partitions": group.rows.iter().map(row).collect::<Vec<_>>()})
    };
    json!(groups.iter().map(group).collect::<Vec<_>>())
}

async fn groups(admin: &Admin, only: Option<&str>) -> Outcome<Vec<Group>> {
    let what = "cannot check the groups";
    let names: Vec<String> = match only {
        Some(name) => vec![name.to_owned()],
        None => {
            let listed = admin.list_groups().await.map_err(|error| failed(what, &error))?;
            listed.iter().map(|group| group.group_id.to_string()).collect()
        }
    };
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let described = admin.describe_groups(&names).await.map_err(|error| failed(what, &error))?;
    let mut groups = Vec::with_capacity(described.len());
    for group in described {
        groups.push(rows(admin, group).await?);
    }
    groups.sort_by(|a, b| b.lag.cmp(&a.lag).then_with(|| a.name.cmp(&b.name)));
    Ok(groups)
}

async fn rows(admin: &Admin, group: GroupDescription) -> Outcome<Group> {
    let committed = admin
        .group_offsets(&group.group_id)
        .await
        .map_err(|error| failed("cannot check the groups", &error))?;
    let committed: HashMap<TopicPartition, i64> =
        committed.into_iter().map(|at| (at.partition, at.offset.get())).collect();
    let mut readers: HashMap<TopicPartition, MemberDescription> = HashMap::new();
    for member in &group.members {
        for place in &member.assignment {
            readers.insert(place.clone(), member.clone());
        }
    }
    let mut places: Vec<TopicPartition> = committed.keys().chain(readers.keys()).cloned().collect();
    places.sort();
    places.dedup();
    let ends = offsets(admin, &places, OffsetSpec::Latest).await?;
    let row = |(place, end): (TopicPartition, weir_protocol::Offset)| {
        let committed = committed.get(&place).copied();
        let lag = committed.map(|at| u64::try_from(end.get() - at).unwrap_or(0));
        Row { member: readers.remove(&place), committed, end: end.get(), lag, place }
    };
    let mut rows: Vec<Row> = places.into_iter().zip(ends).map(row).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.lag));
    Ok(Group {
        name: group.group_id.to_string(),
        state: group.state.to_string(),
        lag: rows.iter().filter_map(|row| row.lag).sum(),
        rows,
    })
}

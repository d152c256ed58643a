//! `weir groups`: consumer groups with members and lag, the furthest behind first.

use serde_json::json;
use weir_client::admin::OffsetSpec;
use weir_client::Admin;

use super::kafka::{block_on, connect, failed, offsets};
use crate::cli::GroupsArgs;
use crate::error::Outcome;
use crate::output::{grouped, Align, Table};

struct Row {
    group: String,
    state: String,
    members: usize,
    partitions: usize,
    lag: u64,
}

pub(crate) fn run(args: &GroupsArgs) -> Outcome {
    block_on(async {
        let admin = Admin::new(connect(args.brokers.brokers.as_deref()).await?);
        let rows = rows(&admin).await?;
        if args.json {
            let rows: Vec<_> = rows
                .iter()
                .map(|row| {
                    json!({"group": row.group, "state": row.state, "members": row.members,
                           "partitions": row.partitions, "lag": row.lag})
                })
                .collect();
            outln!("{}", json!(rows));
        } else {
            table(&rows).print();
        }
        Ok(())
    })
}

fn table(rows: &[Row]) -> Table {
    let head = [
        ("GROUP", Align::Left),
        ("STATE", Align::Left),
        ("MEMBERS", Align::Right),
        ("PARTITIONS", Align::Right),
        ("LAG RECORDS", Align::Right),
    ];
    let mut table = Table::new(&head);
    for row in rows {
        table.row(vec![
            row.group.clone(),
            row.state.clone(),
            row.members.to_string(),
            row.partitions.to_string(),
            grouped(row.lag),
        ]);
    }
    table
}

async fn rows(admin: &Admin) -> Outcome<Vec<Row>> {
    let what = "cannot list groups";
    let listed = admin.list_groups().await.map_err(|error| failed(what, &error))?;
    let names: Vec<&str> = listed.iter().map(|group| &*group.group_id).collect();
    let described = admin.describe_groups(&names).await.map_err(|error| failed(what, &error))?;
    let mut rows = Vec::with_capacity(described.len());
    for group in described {
        let committed =
            admin.group_offsets(&group.group_id).await.map_err(|error| failed(what, &error))?;
        let partitions: Vec<_> = committed.iter().map(|at| at.partition.clone()).collect();
        let ends = offsets(admin, &partitions, OffsetSpec::Latest).await?;
        let lag = committed
            .iter()
            .zip(ends)
            .map(|(at, end)| u64::try_from(end.get() - at.offset.get()).unwrap_or(0))
            .sum();
        rows.push(Row {
            group: group.group_id.to_string(),
            state: group.state.to_string(),
            members: group.members.len(),
            partitions: partitions.len(),
            lag,
        });
    }
    rows.sort_by(|a, b| b.lag.cmp(&a.lag).then_with(|| a.group.cmp(&b.group)));
    Ok(rows)
}

//! `weir topics`: list, create, delete.

use serde_json::json;
use weir_client::admin::{Created, NewTopic, OffsetSpec, TopicDescription};
use weir_client::{Admin, TopicPartition};

use super::kafka::{block_on, connect, described, failed, offsets};
use crate::cli::TopicsArgs;
use crate::error::{Outcome, UserError};
use crate::output::{grouped, Align, Table};

pub(crate) fn run(args: &TopicsArgs) -> Outcome {
    block_on(async {
        let admin = Admin::new(connect(args.brokers.brokers.as_deref()).await?);
        match (&args.create, &args.delete) {
            (Some(name), _) => create(&admin, name, args.partitions).await,
            (None, Some(name)) => delete(&admin, name, args).await,
            (None, None) => list(&admin, args).await,
        }
    })
}

async fn create(admin: &Admin, name: &str, partitions: i32) -> Outcome {
    let what = format!("cannot create topic \"{name}\"");
    let topic = NewTopic::new(name, partitions);
    let results = admin.create_topics(&[topic]).await.map_err(|error| failed(&what, &error))?;
    for result in results {
        match result.map_err(|error| failed(&what, &error))? {
            Created::Made => {
                // So that the next command finds it.
                described(admin, name).await.map_err(|error| failed(&what, &error))?;
                outln!("created {name} with {partitions} partitions");
            }
            Created::Existed => outln!("{name} exists already"),
        }
    }
    Ok(())
}

async fn delete(admin: &Admin, name: &str, args: &TopicsArgs) -> Outcome {
    let what = format!("cannot delete topic \"{name}\"");
    let topic = admin
        .describe_topic(name)
        .await
        .map_err(|error| failed(&what, &error).help("weir topics lists them"))?;
    // Kafka's broker would do it, and every group would forget where it was.
    if topic.internal {
        return Err(UserError::new("WEIR-0820", what)
            .why("Kafka keeps the positions of consumer groups and its transactions there")
            .help("to be rid of a group, let its last member leave and its offsets expire"));
    }
    let records = records(admin, std::slice::from_ref(&topic)).await?.into_iter().sum();
    let partitions = topic.partitions.len();
    if !args.yes {
        outln!("would delete {name}: {partitions} partitions, {} records", grouped(records));
        let named = args.brokers.brokers.as_deref().filter(|brokers| !brokers.is_empty());
        let brokers = named.map_or_else(String::new, |named| format!(" --brokers {named}"));
        outln!("weir topics --delete {name}{brokers} --yes does it");
        return Ok(());
    }
    let results = admin.delete_topics(&[name]).await.map_err(|error| failed(&what, &error))?;
    for result in results {
        result.map_err(|error| failed(&what, &error))?;
    }
    outln!("deleted {name}: {partitions} partitions, {} records", grouped(records));
    Ok(())
}

async fn list(admin: &Admin, args: &TopicsArgs) -> Outcome {
    let mut topics = admin
        .list_topics()
        .await
        .map_err(|error| UserError::new(error.code(), "cannot list topics").why(error))?;
    topics.retain(|topic| args.all || !topic.internal);
    let counts = records(admin, &topics).await?;
    let mut rows: Vec<_> = topics.iter().zip(counts).collect();
    // The largest first: what a person looks for.
    rows.sort_by(|(a, a_records), (b, b_records)| {
        b_records.cmp(a_records).then_with(|| a.name.cmp(&b.name))
    });
    if args.json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(topic, records)| {
                json!({"topic": &*topic.name, "partitions": topic.partitions.len(),
                       "records": records, "internal": topic.internal})
            })
            .collect();
        outln!("{}", json!(rows));
        return Ok(());
    }
    let head = [("TOPIC", Align::Left), ("PARTITIONS", Align::Right), ("RECORDS", Align::Right)];
    let mut table = Table::new(&head);
    for (topic, records) in rows {
        table.row(vec![
            topic.name.to_string(),
            topic.partitions.len().to_string(),
            grouped(records),
        ]);
    }
    table.print();
    Ok(())
}

/// Records between the start and the end of each topic's partitions; one question for all topics.
async fn records(admin: &Admin, topics: &[TopicDescription]) -> Outcome<Vec<u64>> {
    let partitions: Vec<_> = topics
        .iter()
        .flat_map(|topic| {
            topic.partitions.iter().map(|p| TopicPartition::new(&topic.name, p.partition))
        })
        .collect();
    let starts = offsets(admin, &partitions, OffsetSpec::Earliest).await?;
    let ends = offsets(admin, &partitions, OffsetSpec::Latest).await?;
    let mut counts = starts
        .iter()
        .zip(&ends)
        .map(|(start, end)| u64::try_from(end.get() - start.get()).unwrap_or(0));
    Ok(topics.iter().map(|topic| counts.by_ref().take(topic.partitions.len()).sum()).collect())
}

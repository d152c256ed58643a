//! The topics of the configuration: made at a start, and kept as it says.

use std::sync::Arc;

use weir_client::admin::{ConfigChange, ConfigResource, Created, NewTopic, TopicDescription};
use weir_client::{Admin, Client, ClientError};

use crate::config::TopicSettings;
use crate::error::{Outcome, UserError};

/// Replicas of topics that weir makes on a cluster, if it has so many brokers.
const REPLICATION_MAX: usize = 3;
/// Kafka's name of what `topics.*.retention` sets.
const RETENTION: &str = "retention.ms";

/// Makes those that are missing. Of those that are there it sets what the configuration names and leaves
/// the rest: weir's own defaults are for topics that it makes.
///
/// # Errors
/// If a topic cannot be made. What cannot be asked or changed is said in the log.
pub(super) async fn prepare(client: &Arc<Client>, topics: &[TopicSettings]) -> Outcome {
    let admin = Admin::new(Arc::clone(client));
    let made = create(&admin, topics).await?;
    let existed = topics.iter().zip(made).filter(|(_, made)| *made == Created::Existed);
    let existed: Vec<&TopicSettings> = existed.map(|(topic, _)| topic).collect();
    for topic in existed.iter().filter(|topic| topic.retention_named) {
        if let Err(error) = keep_retention(&admin, topic).await {
            let (code, topic) = (error.code(), topic.name.as_str());
            tracing::warn!(code, %error, "topics.{topic}.retention could not be set on the topic");
        }
    }
    if existed.iter().any(|topic| topic.partitions_named) {
        match admin.list_topics().await {
            Ok(found) => existed.iter().for_each(|topic| compare_partitions(topic, &found)),
            Err(error) => {
                tracing::warn!(code = error.code(), %error, "topics could not be compared")
            }
        }
    }
    Ok(())
}

/// What became of each.
async fn create(admin: &Admin, topics: &[TopicSettings]) -> Outcome<Vec<Created>> {
    let failed = |error: weir_client::ClientError| {
        UserError::new(error.code(), "cannot create the topics").why(error)
    };
    let brokers = admin.describe_cluster().await.map_err(failed)?.brokers.len();
    let replication = i16::try_from(brokers.clamp(1, REPLICATION_MAX)).unwrap_or(1);
    let wanted: Vec<NewTopic> = topics
        .iter()
        .map(|topic| {
            let partitions = i32::try_from(topic.partitions).unwrap_or(i32::MAX);
            let mut new =
                NewTopic::new(topic.name.as_str(), partitions).with_replication(replication);
            if replication > 2 {
                // Otherwise acks=all is the leader alone once the others have fallen behind.
                new = new.with_config("min.insync.replicas", "2");
            }
            match topic.retention_ms {
                Some(ms) => new.with_config(RETENTION, ms.to_string()),
                None => new,
            }
        })
        .collect();
    let results = admin.create_topics(&wanted).await.map_err(failed)?.into_iter().zip(topics);
    let made = results.map(|(result, topic)| {
        result.map_err(|error| {
            UserError::new(error.code(), format!("cannot create topic \"{}\"", topic.name))
                .why(error)
        })
    });
    made.collect()
}

/// Sets the retention of a topic that is there, if it is another.
async fn keep_retention(admin: &Admin, topic: &TopicSettings) -> Result<(), ClientError> {
    let Some(wanted) = topic.retention_ms.map(|ms| ms.to_string()) else { return Ok(()) };
    let known = admin.describe_topic_configs(&topic.name).await?;
    let before = known.into_iter().find(|entry| &*entry.name == RETENTION);
    let before = before.and_then(|entry| entry.value);
    if before.as_deref() == Some(wanted.as_str()) {
        return Ok(());
    }
    let resource = ConfigResource::Topic(topic.name.clone());
    let change = ConfigChange::Set(wanted.clone());
    admin.alter_configs(&resource, &[(RETENTION, change)]).await?;
    tracing::info!(
        topic = %topic.name, before = before.as_deref().unwrap_or("unknown"), now = %wanted,
        "{RETENTION} is set as topics.{}.retention says", topic.name
    );
    Ok(())
}

/// Partitions are neither added nor taken away by a start: records of one key would then lie in two of
/// them, and lose their order.
fn compare_partitions(topic: &TopicSettings, found: &[TopicDescription]) {
    let Some(there) = found.iter().find(|there| *there.name == *topic.name) else { return };
    let (name, count, wanted) = (&topic.name, there.partitions.len(), topic.partitions as usize);
    if !topic.partitions_named || count == wanted {
        return;
    }
    let help = match count < wanted {
        true => format!(
            "`kafka-topics.sh --bootstrap-server HOST:PORT --alter --topic {name} --partitions {wanted}` \
             adds them (keys move to others then)"
        ),
        false => "partitions cannot be taken away: correct weir.yaml".to_owned(),
    };
    tracing::warn!("{name} has {count} partitions, topics.{name}.partitions says {wanted}: {help}");
}

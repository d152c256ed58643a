//! What the commands that talk to Kafka share.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use weir_client::admin::{OffsetSpec, TopicDescription};
use weir_client::{Admin, Client, ClientConfig, ClientError, TopicPartition};
use weir_protocol::types::Offset;

use crate::config::{KafkaSecurity, Values};
use crate::error::{Outcome, UserError};

/// Where `weir up` puts its own.
const DEFAULT_BROKER: &str = "127.0.0.1:9092";
/// How often, and in what distance, a topic is asked for that may be new.
const NEWS_TRIES: u32 = 20;
const NEWS_INTERVAL: Duration = Duration::from_millis(100);

/// Runs one asynchronous command to its end.
pub(super) fn block_on<T>(command: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime
        .map_err(|error| UserError::new("WEIR-0808", "cannot start the runtime").why(error))?;
    runtime.block_on(command)
}

/// Connects to `host:port,...`, or to the Kafka of weir.yaml, and checks that Kafka answers.
pub(super) async fn connect(brokers: Option<&str>) -> Outcome<Arc<Client>> {
    let values = Values::load(None, std::env::vars())?;
    let brokers = named(brokers).map_or_else(|| configured(&values), str::to_owned);
    connect_with(&values, &brokers, |_| ()).await
}

/// What `--brokers` or its variable says; an empty variable is one that is not set.
pub(super) fn named(brokers: Option<&str>) -> Option<&str> {
    brokers.filter(|brokers| !(brokers.is_empty() && unset("KAFKA_BROKERS")))
}

/// Connects with the logins of this configuration, and checks that Kafka answers.
pub(super) async fn connect_with(
    values: &Values,
    brokers: &str,
    set: impl FnOnce(&mut ClientConfig),
) -> Outcome<Arc<Client>> {
    let list = crate::config::brokers(brokers).map_err(|fault| {
        UserError::new("WEIR-0803", format!("--brokers: {fault}"))
            .why("in --brokers, or the variable KAFKA_BROKERS")
            .help("name them as HOST:PORT, with commas between: kafka-1:9092,kafka-2:9092")
    })?;
    let mut config = ClientConfig::new(list);
    // A person waits: fail after seconds, not after the minute a service would give it.
    config.api_timeout_ms = 10_000;
    config.auto_create_topics = false;
    // As `weir up` in this directory would connect.
    config.security = KafkaSecurity::from_values(values)?.resolve()?;
    set(&mut config);
    Client::connect_tcp(config).await.map_err(|error| unreachable(brokers, &error))
}

/// The Kafka that `weir up` in this directory would use: a cluster, else its own broker.
pub(super) fn configured(values: &Values) -> String {
    if let Some(brokers) = values.get("kafka.brokers").filter(|brokers| !brokers.is_empty()) {
        return brokers.to_owned();
    }
    let listen = values.get("broker.listen").and_then(|text| text.parse::<SocketAddr>().ok());
    // Of port 0 nobody can know here which it got.
    match listen.filter(|at| at.port() != 0) {
        Some(at) if at.ip().is_unspecified() => format!("127.0.0.1:{}", at.port()),
        Some(at) => at.to_string(),
        None => DEFAULT_BROKER.to_owned(),
    }
}

fn unset(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| value.is_empty())
}

pub(super) fn unreachable(brokers: &str, error: &ClientError) -> UserError {
    if let ClientError::Authentication { .. } | ClientError::Config { .. } = error {
        let what = format!("Kafka at {brokers} does not let weir in");
        return UserError::new(error.code(), what).why(error);
    }
    UserError::new("WEIR-0809", format!("Kafka at {brokers} does not answer"))
        .why(error)
        .help("start one with `weir up`, or name another with --brokers HOST:PORT")
}

/// A topic, which may have been created a moment ago: the nodes of a cluster learn of it one after the other, and some time
/// after its creation was answered.
pub(super) async fn described(admin: &Admin, topic: &str) -> Result<TopicDescription, ClientError> {
    for _ in 0..NEWS_TRIES {
        match admin.describe_topic(topic).await {
            Err(ClientError::UnknownTopic { .. }) => tokio::time::sleep(NEWS_INTERVAL).await,
            outcome => return outcome,
        }
    }
    admin.describe_topic(topic).await
}

/// A failure of a call to Kafka, with the client's own code.
pub(super) fn failed(what: impl Into<String>, error: &ClientError) -> UserError {
    UserError::new(error.code(), what).why(error)
}

/// The ends of partitions, in the order asked; an empty or unknown partition ends at 0.
pub(super) async fn offsets(
    admin: &Admin,
    partitions: &[TopicPartition],
    spec: OffsetSpec,
) -> Outcome<Vec<Offset>> {
    let asked: Vec<_> = partitions.iter().map(|partition| (partition.clone(), spec)).collect();
    let answered =
        admin.list_offsets(&asked).await.map_err(|error| failed("cannot list offsets", &error))?;
    let known: HashMap<TopicPartition, Option<Offset>> = answered.into_iter().collect();
    let offset_of = |partition| known.get(partition).copied().flatten().unwrap_or(Offset(0));
    Ok(partitions.iter().map(offset_of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_use_the_kafka_that_up_would_use_here() {
        for (variables, expected) in [
            (&[][..], "127.0.0.1:9092"),
            (&[("WEIR_KAFKA_BROKERS", "a:1,b:2")], "a:1,b:2"),
            (&[("WEIR_BROKER_LISTEN", "127.0.0.1:7777")], "127.0.0.1:7777"),
            (&[("WEIR_BROKER_LISTEN", "0.0.0.0:7777")], "127.0.0.1:7777"),
            (&[("WEIR_BROKER_LISTEN", "127.0.0.1:0")], "127.0.0.1:9092"),
        ] {
            let variables = variables.iter().map(|(name, value)| (*name, *value));
            let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let values = Values::load(None, variables).unwrap();
            assert_eq!(configured(&values), expected);
        }
    }
}

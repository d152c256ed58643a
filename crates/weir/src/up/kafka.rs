//! The Kafka under everything: the embedded broker or a cluster, the client, the topics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use weir_broker::{BrokerConfig, BrokerServer, Durability, KnownTopic};
use weir_client::{
    Client, ClientConfig, Codec, Partitioner, Producer, ProducerConfig, SystemClock,
};

use super::{cannot_listen, security, topics};
use crate::config::{Settings, TopicSettings};
use crate::error::{Outcome, UserError};

/// How long a start waits for a cluster.
const CONNECT: Duration = Duration::from_secs(10);
const BATCH_BYTES_MAX: usize = 1_040_000;
/// Longest wait for metadata or room: the lanes are where events wait.
const MAX_BLOCK_MS: u32 = 3_000;
/// Shortest time a produce request gets, however short the lanes' own deadline is.
const DELIVERY_TIMEOUT_MS_MIN: u64 = 5_000;

/// Starts the embedded broker on `data_dir/kafka`, beside so many connections of other parts.
pub(super) async fn start_broker(
    settings: &Settings,
    other_connections_max: usize,
) -> Outcome<BrokerServer> {
    if settings.broker_durability == Durability::Relaxed {
        tracing::warn!("durability is relaxed: acks=all is answered before it is on disk");
    }
    let config = BrokerConfig { other_connections_max, ..broker_config(settings)? };
    BrokerServer::start(config, Arc::new(SystemClock)).await.map_err(|error| match &error {
        weir_broker::BrokerError::Bind { address, .. } if *address == settings.broker_listen => {
            cannot_listen("the broker", "--kafka-port", settings.broker_listen, &error)
        }
        _ => UserError::new(error.code(), "cannot start the broker").why(&error),
    })
}

/// What the embedded broker is told.
pub(crate) fn broker_config(settings: &Settings) -> Outcome<BrokerConfig> {
    let mut config = BrokerConfig {
        data_dir: settings.data_dir.join("kafka"),
        listen: settings.broker_listen,
        advertised: settings.broker_advertised.clone(),
        insecure_listen: settings.insecure_listen,
        journal_bytes_max: settings.broker_journal_bytes_max as u64,
        num_partitions: i32::try_from(settings.broker_num_partitions).unwrap_or(i32::MAX),
        auto_create_topics: settings.broker_auto_create_topics,
        durability: settings.broker_durability,
        known_topics: settings.topics.iter().map(known_topic).collect(),
        ..BrokerConfig::default()
    };
    security::apply(&mut config, settings)?;
    for (key, value) in &settings.broker_log_keys {
        let taken = config
            .set_log_key(key, value)
            .and_then(|taken| Ok(taken || config.set_group_key(key, value)?));
        let taken = taken.map_err(|error| {
            UserError::new("WEIR-0803", format!("{key} is nothing the broker takes")).why(error)
        })?;
        debug_assert!(taken, "{key} is declared and the broker does not know it");
    }
    Ok(config)
}

/// One that was deleted comes back as it was made.
fn known_topic(topic: &TopicSettings) -> (String, KnownTopic) {
    let retention = topic.retention_ms.map(|ms| ("retention.ms".to_owned(), ms.to_string()));
    let partitions = i32::try_from(topic.partitions).unwrap_or(i32::MAX);
    (topic.name.clone(), KnownTopic { partitions, configs: retention.into_iter().collect() })
}

/// Its listeners for others: address, and what holds there.
pub(super) fn network_listeners(broker: &BrokerServer) -> Vec<(SocketAddr, &'static str)> {
    broker.listeners().skip(1).map(|(_, address, protocol)| (address, protocol.name())).collect()
}

/// Stops it: last commit, clean-shutdown marker.
pub(super) async fn stop_broker(broker: BrokerServer) {
    if let Err(error) = broker.shutdown().await {
        tracing::error!(%error, "stopping the broker");
    }
}

/// As [`stop_broker`], for the last holder; readers that still hold it make its next start a recovery.
pub(super) async fn stop_shared_broker(broker: Arc<BrokerServer>) {
    match Arc::try_unwrap(broker) {
        Ok(broker) => stop_broker(broker).await,
        Err(_) => tracing::error!("the broker is still in use: its next start is a recovery"),
    }
}

/// Connects, makes the topics that are missing, and sets what the configuration names of the others.
pub(super) async fn connect(settings: &Settings, brokers: &[String]) -> Outcome<Arc<Client>> {
    let listed = brokers.join(",");
    let mut config = ClientConfig::new(brokers.iter().map(String::as_str));
    config.api_timeout_ms = 10_000;
    // The embedded broker's own listener asks for nothing.
    if !settings.brokers.is_empty() {
        config.security = settings.kafka_security.resolve()?;
    }
    let absent = |why: String| {
        UserError::new("WEIR-0809", format!("Kafka at {listed} does not answer")).why(why).help(
            "check the address with `kcat -b HOST:PORT -L`; without --brokers weir runs its own",
        )
    };
    let connected = tokio::time::timeout(CONNECT, Client::connect_tcp(config)).await;
    let client = match connected {
        Ok(Ok(client)) => client,
        Ok(Err(
            error @ (weir_client::ClientError::Authentication { .. }
            | weir_client::ClientError::Config { .. }),
        )) => {
            let what = format!("Kafka at {listed} does not let weir in");
            return Err(UserError::new(error.code(), what).why(error));
        }
        Ok(Err(error)) => return Err(absent(error.to_string())),
        Err(_) => return Err(absent(format!("no answer within {} s", CONNECT.as_secs()))),
    };
    topics::prepare(&client, &settings.topics).await?;
    Ok(client)
}

/// The producer behind the traffic manager.
pub(super) fn producer(settings: &Settings, client: Arc<Client>) -> Outcome<Arc<Producer>> {
    let partitioners = settings.topics.iter().filter_map(|topic| {
        Some((topic.name.clone(), Partitioner::from_name(&topic.partitioner)?))
    });
    let config = ProducerConfig {
        // The largest event with its headers, under the broker's max.message.bytes of 1,048,588.
        batch_bytes_max: BATCH_BYTES_MAX,
        max_block_ms: MAX_BLOCK_MS,
        compression: Codec::from_name(&settings.compression).unwrap_or_default(),
        topic_partitioners: partitioners.collect(),
        // A caller waits for what was sent no longer than for what was not.
        delivery_timeout_ms: u32::try_from(
            settings.traffic.wait_max_ms.max(DELIVERY_TIMEOUT_MS_MIN),
        )
        .unwrap_or(u32::MAX),
        ..ProducerConfig::default()
    };
    let producer = Producer::new(client, config)
        .map_err(|error| UserError::new(error.code(), "cannot start the producer").why(error))?;
    Ok(Arc::new(producer))
}

//! A real cluster: the embedded broker in this process, or the Kafka that `WEIR_TEST_BROKERS` names.
//!
//! `WEIR_TEST_BROKERS=a:1,b:2,c:3 WEIR_TEST_REPLICATION=3 cargo test -p weir-client --test it` runs these
//! tests on three nodes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use weir_broker::{BrokerConfig, BrokerServer};
use weir_client::admin::NewTopic;
use weir_client::{
    Admin, AutoOffsetReset, Client, ClientConfig, Consumer, ConsumerConfig, GroupConfig, Producer,
    ProducerConfig, Record, SystemClock,
};
use weir_log::{Disk, MemDisk};
use weir_protocol::types::PartitionId;

/// A poll that is short enough to look around between two.
pub(crate) const POLL: Duration = Duration::from_millis(50);

/// A cluster; the embedded broker ends with it.
pub(crate) struct Cluster {
    brokers: Vec<String>,
    replication: Option<i16>,
    _server: Option<BrokerServer>,
}

impl Cluster {
    pub(crate) async fn start() -> Cluster {
        let named = std::env::var("WEIR_TEST_BROKERS").ok().filter(|brokers| !brokers.is_empty());
        if let Some(brokers) = named {
            let replication = std::env::var("WEIR_TEST_REPLICATION").ok();
            return Cluster {
                brokers: brokers.split(',').map(str::to_owned).collect(),
                replication: replication.map(|count| count.parse().unwrap()),
                _server: None,
            };
        }
        let mut config =
            BrokerConfig { data_dir: PathBuf::from("/weir/data"), ..BrokerConfig::default() };
        config.listen.set_port(0);
        let disk: Arc<dyn Disk> = Arc::new(MemDisk::new());
        let server = BrokerServer::start_on(config, disk, Arc::new(SystemClock)).await.unwrap();
        let brokers = vec![server.local_addr().to_string()];
        Cluster { brokers, replication: None, _server: Some(server) }
    }

    /// Whether it is the broker of this process.
    pub(crate) fn is_embedded(&self) -> bool {
        self._server.is_some()
    }

    pub(crate) async fn client(&self) -> Arc<Client> {
        Client::connect_tcp(ClientConfig::new(self.brokers.iter().map(String::as_str)))
            .await
            .unwrap()
    }

    pub(crate) async fn admin(&self) -> Admin {
        Admin::new(self.client().await)
    }

    /// A new topic, whose name no other run has.
    pub(crate) async fn topic(&self, what: &str, partitions: i32) -> String {
        let name = unique(what);
        self.make_topic(&name, partitions).await;
        name
    }

    pub(crate) async fn make_topic(&self, name: &str, partitions: i32) {
        let mut topic = NewTopic::new(name, partitions);
        topic.replication = self.replication;
        let made = self.admin().await.create_topics(&[topic]).await.unwrap();
        made.into_iter().for_each(|result| {
            result.unwrap();
        });
        self.client().await.topic(name, Duration::from_secs(30)).await.unwrap();
    }

    /// Writes `first..first + count` as text to each partition, and waits for the acks.
    pub(crate) async fn fill(&self, topic: &str, partitions: i32, first: i32, count: i32) {
        let producer = Producer::new(self.client().await, ProducerConfig::default()).unwrap();
        producer.ready(topic).await.unwrap();
        let mut sent = Vec::new();
        for number in first..first + count {
            for partition in 0..partitions {
                let value = format!("{partition}:{number}");
                let record =
                    Record::new(topic, value.as_bytes()).with_partition(PartitionId(partition));
                sent.push(producer.send_wait(record).await.unwrap());
            }
        }
        producer.flush().await;
        for delivery in sent {
            delivery.await.unwrap();
        }
    }

    pub(crate) async fn member(&self, config: GroupConfig, topic: &str) -> Consumer {
        let consumer = self.consumer(Some(config)).await;
        consumer.subscribe(&[topic]).unwrap();
        consumer
    }

    pub(crate) async fn consumer(&self, group: Option<GroupConfig>) -> Consumer {
        let config = ConsumerConfig {
            group,
            auto_offset_reset: AutoOffsetReset::Earliest,
            ..ConsumerConfig::default()
        };
        Consumer::new(self.client().await, config).unwrap()
    }
}

/// Text that no other run has, since topics of a cluster outlive a test.
pub(crate) fn unique(what: &str) -> String {
    format!("{what}-{}", uuid::Uuid::new_v4())
}

/// The deadline of a wait: long enough for a busy machine.
pub(crate) fn deadline() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(60)
}

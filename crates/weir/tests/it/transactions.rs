//! Transactions of weir's own client, on the embedded broker and on Apache Kafka alike, by both versions
//! of the protocol.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_client::admin::NewTopic;
use weir_client::{
    Admin, AutoOffsetReset, Client, ClientConfig, Consumer, ConsumerConfig, ErrorClass,
    ExactlyOnce, GroupConfig, IsolationLevel, Producer, ProducerConfig, Record, TopicPartition,
    TransactionError, TxnVersion,
};
use weir_protocol::types::PartitionId;

use crate::process::{cluster, Weir};

const VERSIONS: [TxnVersion; 2] = [TxnVersion::V1, TxnVersion::V2];
const PARTITIONS: i32 = 3;

/// The Kafka at hand: the one the environment names, or an embedded broker of its own.
struct Kafka {
    address: String,
    /// A shared cluster keeps topics, groups and transactional ids of earlier runs.
    run: String,
    _weir: Option<(Weir, tempfile::TempDir)>,
}

impl Kafka {
    fn at_hand() -> Self {
        let run = uuid::Uuid::new_v4().simple().to_string();
        if let Some(address) = cluster() {
            return Kafka { address, run, _weir: None };
        }
        let dir = tempfile::tempdir().unwrap();
        let weir = Weir::up(dir.path(), &[]);
        Kafka { address: weir.kafka.clone(), run, _weir: Some((weir, dir)) }
    }

    fn name(&self, what: &str, version: TxnVersion) -> String {
        format!("{what}-{version:?}-{}", self.run)
    }

    async fn client(&self) -> Arc<Client> {
        Client::connect_tcp(ClientConfig::new([self.address.as_str()])).await.unwrap()
    }

    async fn make_topic(&self, name: &str) {
        let topic = NewTopic::new(name, PARTITIONS);
        for made in Admin::new(self.client().await).create_topics(&[topic]).await.unwrap() {
            made.unwrap();
        }
    }

    async fn producer(&self, topic: &str, id: &str, version: TxnVersion) -> Producer {
        let config = ProducerConfig {
            transactional_id: Some(id.to_owned()),
            transaction_version_max: version,
            ..ProducerConfig::default()
        };
        let producer = Producer::new(self.client().await, config).unwrap();
        producer.ready(topic).await.unwrap();
        producer.init_transactions().await.unwrap();
        producer
    }

    /// All committed values of the topic, by partition, once there are as many as expected; then nothing
    /// more may come.
    async fn committed(&self, topic: &str, count: usize) -> BTreeMap<i32, Vec<String>> {
        let config = ConsumerConfig {
            isolation: IsolationLevel::ReadCommitted,
            auto_offset_reset: AutoOffsetReset::Earliest,
            ..ConsumerConfig::default()
        };
        let consumer = Consumer::new(self.client().await, config).unwrap();
        let place = |number| TopicPartition::new(topic, PartitionId(number));
        consumer.assign(&(0..PARTITIONS).map(place).collect::<Vec<_>>()).unwrap();
        let mut seen: BTreeMap<i32, Vec<String>> = BTreeMap::new();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        let mut quiet = 0;
        while quiet < 3 {
            assert!(tokio::time::Instant::now() < deadline, "{count} expected, seen {seen:?}");
            let records = consumer.poll(Duration::from_millis(200)).await.unwrap();
            let total: usize = seen.values().map(Vec::len).sum();
            quiet = if records.is_empty() && total >= count { quiet + 1 } else { 0 };
            for record in records {
                let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                seen.entry(record.partition.get()).or_default().push(value);
            }
        }
        seen
    }
}

fn to<'a>(topic: &'a str, partition: i32, value: &'a str) -> Record<'a> {
    Record::new(topic, value.as_bytes()).with_partition(PartitionId(partition))
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_committed_records_see_whole_transactions_and_no_aborted_one() {
    let kafka = Kafka::at_hand();
    for version in VERSIONS {
        let topic = kafka.name("whole", version);
        kafka.make_topic(&topic).await;
        let producer = kafka.producer(&topic, &kafka.name("tx", version), version).await;
        let mut expected: BTreeMap<i32, Vec<String>> = BTreeMap::new();
        for number in 0..30 {
            producer.begin_transaction().unwrap();
            let value = number.to_string();
            for partition in 0..PARTITIONS {
                producer.send(to(&topic, partition, &value)).unwrap();
            }
            if number % 3 == 1 {
                producer.flush().await;
                producer.abort_transaction().await.unwrap();
            } else {
                producer.commit_transaction().await.unwrap();
                for partition in 0..PARTITIONS {
                    expected.entry(partition).or_default().push(value.clone());
                }
            }
        }
        let count = expected.values().map(Vec::len).sum();
        assert_eq!(kafka.committed(&topic, count).await, expected, "{version:?}");
        producer.close(Duration::from_secs(5)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_is_fenced_and_what_a_dead_producer_left_open_is_aborted() {
    let kafka = Kafka::at_hand();
    for version in VERSIONS {
        let topic = kafka.name("zombie", version);
        let id = kafka.name("zombie-tx", version);
        kafka.make_topic(&topic).await;
        let dead = kafka.producer(&topic, &id, version).await;
        dead.begin_transaction().unwrap();
        dead.send(to(&topic, 0, "dead")).unwrap().await.unwrap();
        // Killed: it says nothing to anybody.
        drop(dead);

        let zombie = kafka.producer(&topic, &id, version).await;
        zombie.begin_transaction().unwrap();
        zombie.send(to(&topic, 0, "zombie")).unwrap().await.unwrap();
        let heir = kafka.producer(&topic, &id, version).await;
        heir.begin_transaction().unwrap();
        heir.send(to(&topic, 0, "heir")).unwrap().await.unwrap();

        let refused = zombie.send(to(&topic, 0, "late")).unwrap().await.unwrap_err();
        assert_eq!(refused.class(), ErrorClass::Abortable, "{version:?}: {refused}");
        assert_eq!(zombie.commit_transaction().await.unwrap_err().class(), ErrorClass::Abortable);
        let fenced = zombie.abort_transaction().await.unwrap_err();
        assert!(matches!(fenced, TransactionError::Fenced { .. }), "{version:?}: {fenced}");
        assert_eq!(zombie.send(to(&topic, 0, "later")).unwrap_err().class(), ErrorClass::Fatal);

        heir.commit_transaction().await.unwrap();
        let seen = kafka.committed(&topic, 1).await;
        assert_eq!(seen.into_values().collect::<Vec<_>>(), [["heir"]], "{version:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_by_instances_that_are_killed_has_each_record_once() {
    let kafka = Kafka::at_hand();
    for version in VERSIONS {
        let (from, into) = (kafka.name("from", version), kafka.name("into", version));
        kafka.make_topic(&from).await;
        kafka.make_topic(&into).await;
        let count = 600;
        let source = Producer::new(kafka.client().await, ProducerConfig::default()).unwrap();
        source.ready(&from).await.unwrap();
        for number in 0..count {
            source.send(to(&from, number % PARTITIONS, &number.to_string())).unwrap();
        }
        source.close(Duration::from_secs(20)).await.unwrap();

        let mut copied = 0;
        let mut instances = 0;
        while copied < count {
            instances += 1;
            assert!(instances < 60, "{copied} of {count} copied");
            let copier = copier(&kafka, (&from, &into), version).await;
            for step in 0..3 {
                let seen = copier
                    .step(Duration::from_secs(10), |record, outbox| {
                        let value = record.value.as_deref();
                        let partition = Some(record.partition);
                        outbox.push(&Record {
                            topic: &into,
                            value,
                            partition,
                            ..Record::default()
                        });
                    })
                    .await;
                copied += i32::try_from(seen.unwrap()).unwrap();
                if copied == count {
                    break;
                }
                if step == 2 {
                    // Killed in the middle of a transaction: something is written, nothing committed.
                    let producer = copier.producer();
                    producer.begin_transaction().unwrap();
                    producer.send(to(&into, 0, "torn")).unwrap().await.unwrap();
                }
            }
            copier.consumer().close().await.unwrap();
        }
        assert!(instances > 1, "one instance did it all");
        let seen = kafka.committed(&into, usize::try_from(count).unwrap()).await;
        for (partition, values) in seen {
            let expected: Vec<String> =
                (0..count).filter(|n| n % PARTITIONS == partition).map(|n| n.to_string()).collect();
            assert_eq!(values, expected, "{version:?}, partition {partition}");
        }
    }
}

async fn copier(kafka: &Kafka, (from, into): (&str, &str), version: TxnVersion) -> ExactlyOnce {
    let config = ConsumerConfig {
        group: Some(GroupConfig::new(format!("copy-{from}"))),
        auto_offset_reset: AutoOffsetReset::Earliest,
        isolation: IsolationLevel::ReadCommitted,
        poll_records_max: 40,
        ..ConsumerConfig::default()
    };
    let consumer = Consumer::new(kafka.client().await, config).unwrap();
    consumer.subscribe(&[from]).unwrap();
    let producer = kafka.producer(into, &format!("copier-{from}"), version).await;
    ExactlyOnce::new(consumer, producer).await.unwrap()
}

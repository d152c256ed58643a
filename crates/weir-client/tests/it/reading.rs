//! Reading on a real cluster: where it starts, what it is bounded by, what it survives.

use std::time::Duration;

use weir_client::clock::Clock;
use weir_client::{
    AutoOffsetReset, ClientError, Consumer, ConsumerConfig, PartitionOffset, Producer,
    ProducerConfig, Record, SystemClock, TopicPartition,
};
use weir_protocol::types::{Offset, PartitionId, TimestampMs};

use crate::cluster::{deadline, Cluster, POLL};

fn at(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, PartitionId(partition))
}

async fn reader(cluster: &Cluster, config: ConsumerConfig, places: &[TopicPartition]) -> Consumer {
    let consumer = Consumer::new(cluster.client().await, config).unwrap();
    consumer.assign(places).unwrap();
    consumer
}

fn earliest() -> ConsumerConfig {
    ConsumerConfig { auto_offset_reset: AutoOffsetReset::Earliest, ..ConsumerConfig::default() }
}

async fn read(consumer: &Consumer, count: usize) -> Vec<(i32, i64)> {
    let until = deadline();
    let mut seen = Vec::new();
    while seen.len() < count {
        assert!(tokio::time::Instant::now() < until, "only {} of {count}", seen.len());
        let records = consumer.poll(POLL).await.unwrap();
        seen.extend(records.iter().map(|r| (r.partition.get(), r.offset.get())));
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn many_partitions_are_read_within_a_session_through_pauses_and_seeks() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("session", 8).await;
    cluster.fill(&topic, 8, 0, 20).await;
    let places: Vec<TopicPartition> = (0..8).map(|number| at(&topic, number)).collect();
    let config = ConsumerConfig { poll_records_max: 7, ..earliest() };
    let consumer = reader(&cluster, config, &places).await;
    read(&consumer, 160).await;
    for round in 1..=5 {
        consumer.pause(&places[..4]);
        cluster.fill(&topic, 8, round * 20, 5).await;
        let open = read(&consumer, 20).await;
        assert!(open.iter().all(|(partition, _)| *partition >= 4), "{open:?}");
        consumer.seek(&places[7], Offset(3)).unwrap();
        let again = read(&consumer, 17 + 5 * round as usize).await;
        assert!(again.iter().all(|(partition, _)| *partition == 7), "{again:?}");
        consumer.resume(&places[..4]);
        let rest = read(&consumer, 20).await;
        assert!(rest.iter().all(|(partition, _)| *partition < 4), "{rest:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_by_age_and_a_seek_by_time_find_their_record() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("time", 1).await;
    let producer = Producer::new(cluster.client().await, ProducerConfig::default()).unwrap();
    producer.ready(&topic).await.unwrap();
    let now = SystemClock.now().get();
    for hours in [5, 4, 3, 2, 1] {
        let mut record = Record::new(&topic, b"v");
        record.timestamp = Some(TimestampMs(now - hours * 3_600_000));
        producer.send_wait(record).await.unwrap().await.unwrap();
    }
    let age = Duration::from_secs(2 * 3_600 + 1_800);
    let config = ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::ByDuration(age),
        ..ConsumerConfig::default()
    };
    let consumer = reader(&cluster, config, &[at(&topic, 0)]).await;
    assert_eq!(read(&consumer, 2).await, [(0, 3), (0, 4)]);
    let time = TimestampMs(now - 4 * 3_600_000 - 1);
    consumer.seek_partition_to_time(&at(&topic, 0), time).unwrap();
    assert_eq!(read(&consumer, 4).await[0], (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_again_is_read_from_its_beginning() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("again", 1).await;
    cluster.fill(&topic, 1, 0, 10).await;
    let latest = ConsumerConfig::default();
    let consumer = reader(&cluster, latest, &[at(&topic, 0)]).await;
    consumer.seek(&at(&topic, 0), Offset(0)).unwrap();
    read(&consumer, 10).await;
    let admin = cluster.admin().await;
    admin.delete_topics(&[&topic]).await.unwrap().remove(0).unwrap();
    let until = deadline();
    // A cluster forgets a name in its own time.
    loop {
        let new = weir_client::admin::NewTopic::new(topic.as_str(), 1);
        let made = admin.create_topics(&[new]).await.unwrap().remove(0);
        if matches!(made, Ok(weir_client::admin::Created::Made)) {
            break;
        }
        assert!(tokio::time::Instant::now() < until, "{made:?}");
        tokio::time::sleep(POLL).await;
    }
    cluster.fill(&topic, 1, 0, 20).await;
    // More than before, so that the old position exists in the new topic.
    let offsets: Vec<i64> = read(&consumer, 20).await.into_iter().map(|(_, at)| at).collect();
    assert_eq!(offsets, (0..20).collect::<Vec<i64>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_offset_carries_its_leader_epoch_and_is_checked_by_it() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("epoch", 1).await;
    cluster.fill(&topic, 1, 0, 10).await;
    let group = crate::cluster::unique("epoch");
    let mut config = earliest();
    config.group = Some(weir_client::GroupConfig::new(group.as_str()));
    config.poll_records_max = 6;
    let consumer = reader(&cluster, config.clone(), &[at(&topic, 0)]).await;
    assert_eq!(read(&consumer, 6).await.len(), 6);
    consumer.commit_consumed().await.unwrap();
    let admin = cluster.admin().await;
    let committed = admin.group_offsets(&group).await.unwrap();
    assert_eq!(committed[0].offset, Offset(6));
    assert!(committed[0].leader_epoch.is_some(), "{committed:?}");
    consumer.close().await.unwrap();
    let next = reader(&cluster, config.clone(), &[at(&topic, 0)]).await;
    assert_eq!(read(&next, 4).await[0], (0, 6));
    next.close().await.unwrap();

    // An offset beyond what its epoch ever had: the log has been cut.
    let beyond = PartitionOffset { offset: Offset(500), ..committed[0].clone() };
    admin.set_group_offsets(&group, &[beyond]).await.unwrap();
    config.auto_offset_reset = AutoOffsetReset::None;
    let cut = reader(&cluster, config, &[at(&topic, 0)]).await;
    let until = deadline();
    let error = loop {
        match cut.poll(POLL).await {
            Err(error) => break error,
            Ok(records) => assert_eq!(records, []),
        }
        assert!(tokio::time::Instant::now() < until);
    };
    assert!(
        matches!(error, ClientError::LogTruncated { offset: Offset(500), end: Offset(10), .. }),
        "{error}"
    );
}

//! Administrative calls on a real cluster.

use weir_client::admin::{Acl, AclFilter, ConfigChange, ConfigResource, OffsetSpec};
use weir_client::{
    GroupConfig, GroupProtocol, PartitionOffset, Producer, ProducerConfig, Record, TopicPartition,
};
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{Offset, PartitionId, Str, TimestampMs};

use crate::cluster::{deadline, unique, Cluster, POLL};

fn at(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, PartitionId(partition))
}

fn code<T: std::fmt::Debug>(result: Result<T, weir_client::ClientError>) -> ErrorCode {
    result.unwrap_err().broker_code().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_added_and_read() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("grow", 2).await;
    let admin = cluster.admin().await;
    let mut config = GroupConfig::new(unique("grow"));
    config.heartbeat_interval_ms = 300;
    let member = cluster.member(config, &topic).await;
    let until = deadline();
    while member.assignment().len() < 2 {
        assert!(tokio::time::Instant::now() < until);
        member.poll(POLL).await.unwrap();
    }
    admin.create_partitions(&topic, 5).await.unwrap();
    assert_eq!(code(admin.create_partitions(&topic, 4).await), ErrorCode::InvalidPartitions);
    let until = deadline();
    loop {
        let described = admin.describe_topic(&topic).await.unwrap();
        if described.partitions.len() == 5
            && described.partitions.iter().all(|partition| partition.leader.is_some())
        {
            break;
        }
        assert!(tokio::time::Instant::now() < until, "{described:?}");
    }
    let places: Vec<TopicPartition> = (0..5).map(|number| at(&topic, number)).collect();
    for (place, result) in admin.elect_preferred_leaders(&places).await.unwrap() {
        assert!(result.is_ok(), "{place}: {result:?}");
    }
    member.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_change_one_by_one() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("configs", 1).await;
    let admin = cluster.admin().await;
    let resource = ConfigResource::Topic(topic.clone());
    let set = |value: &str| ConfigChange::Set(value.to_owned());
    admin
        .alter_configs(&resource, &[("retention.ms", set("1000")), ("segment.ms", set("2000"))])
        .await
        .unwrap();
    admin.alter_configs(&resource, &[("segment.ms", ConfigChange::Delete)]).await.unwrap();
    let until = deadline();
    loop {
        let entries = admin.describe_configs(&resource).await.unwrap();
        let of = |name: &str| entries.iter().find(|entry| entry.name == name).unwrap().clone();
        if of("retention.ms").value.as_deref() == Some("1000") && of("segment.ms").is_default {
            break;
        }
        // A broker of several learns of it in its own time.
        assert!(tokio::time::Instant::now() < until, "{entries:?}");
    }
    let append = [("cleanup.policy", ConfigChange::Append("compact".to_owned()))];
    admin.alter_configs(&resource, &append).await.unwrap();
    let refused = admin.alter_configs(&resource, &[("retention.ms", set("soon"))]).await;
    assert_eq!(code(refused), ErrorCode::InvalidConfig);
    let node = admin.describe_cluster().await.unwrap().brokers[0].0;
    let broker = ConfigResource::Broker(Some(node));
    assert!(!admin.describe_configs(&broker).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_described_and_its_offsets_are_altered_and_deleted() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("groups", 2).await;
    cluster.fill(&topic, 2, 0, 3).await;
    let admin = cluster.admin().await;
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        let group = unique("groups");
        let mut config = GroupConfig::new(group.as_str());
        config.protocol = protocol;
        let member = cluster.member(config, &topic).await;
        let until = deadline();
        while member.assignment().len() < 2 {
            assert!(tokio::time::Instant::now() < until);
            member.poll(POLL).await.unwrap();
        }
        // The coordinator may hear of it with the next heartbeat only.
        let described = loop {
            let described = admin.describe_groups(&[&group]).await.unwrap().remove(0);
            if described.members.iter().any(|member| member.assignment.len() == 2) {
                break described;
            }
            assert!(tokio::time::Instant::now() < until, "{described:?}");
            member.poll(POLL).await.unwrap();
        };
        assert_eq!((&*described.state, described.members.len()), ("Stable", 1));
        assert!(admin.list_groups().await.unwrap().iter().any(|listed| *listed.group_id == *group));
        assert_eq!(
            code(admin.delete_groups(&[&group]).await.unwrap().remove(0)),
            ErrorCode::NonEmptyGroup
        );
        member.close().await.unwrap();

        let offsets = [
            PartitionOffset::new(at(&topic, 0), Offset(1)),
            PartitionOffset::new(at(&topic, 1), Offset(3)),
        ];
        admin.set_group_offsets(&group, &offsets).await.unwrap();
        assert_eq!(admin.group_offsets(&group).await.unwrap().len(), 2);
        let deleted = admin.delete_group_offsets(&group, &[at(&topic, 1)]).await.unwrap();
        assert_eq!(deleted, [(at(&topic, 1), Ok(()))]);
        let left = admin.group_offsets(&group).await.unwrap();
        assert_eq!((left.len(), left[0].offset), (1, Offset(1)));
        admin.delete_groups(&[&group]).await.unwrap().remove(0).unwrap();
        assert_eq!(admin.group_offsets(&group).await.unwrap(), []);
        let gone = admin.describe_groups(&[&group]).await.unwrap().remove(0);
        assert_eq!((&*gone.state, gone.members.len()), ("Dead", 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_is_told_in_records_and_in_time() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("lag", 2).await;
    let producer = Producer::new(cluster.client().await, ProducerConfig::default()).unwrap();
    producer.ready(&topic).await.unwrap();
    for number in 0..10 {
        let mut record = Record::new(&topic, b"v").with_partition(PartitionId(0));
        record.timestamp = Some(TimestampMs(1_000_000 + number * 1_000));
        producer.send_wait(record).await.unwrap().await.unwrap();
    }
    let group = unique("lag");
    let admin = cluster.admin().await;
    let committed = [
        PartitionOffset::new(at(&topic, 0), Offset(4)),
        PartitionOffset::new(at(&topic, 1), Offset(0)),
    ];
    admin.set_group_offsets(&group, &committed).await.unwrap();
    let lag = admin.group_lag(&group, TimestampMs(1_064_000)).await.unwrap();
    let told: Vec<(i64, Option<i64>)> = lag.iter().map(|lag| (lag.records, lag.age_ms)).collect();
    assert_eq!(told, [(6, Some(60_000)), (0, Some(0))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_deleted_up_to_an_offset() {
    let cluster = Cluster::start().await;
    let topic = cluster.topic("delete", 1).await;
    cluster.fill(&topic, 1, 0, 10).await;
    let admin = cluster.admin().await;
    let deleted = admin.delete_records(&[(at(&topic, 0), Offset(6))]).await.unwrap();
    assert_eq!(deleted, [(at(&topic, 0), Ok(Offset(6)))]);
    let first = admin.list_offsets(&[(at(&topic, 0), OffsetSpec::Earliest)]).await.unwrap();
    assert_eq!(first, [(at(&topic, 0), Some(Offset(6)))]);
    let dirs = admin.describe_log_dirs().await.unwrap();
    let holds = |replica: &weir_client::admin::ReplicaSize| replica.partition == at(&topic, 0);
    assert!(dirs.iter().any(|dir| dir.partitions.as_ref().unwrap().iter().any(holds)));
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_made_found_and_deleted() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin().await;
    let name = unique("acl");
    let acl = Acl {
        resource_type: 2,
        resource_name: Str::copy_from(&name),
        pattern_type: 3,
        principal: Str::from("User:alice"),
        host: Str::from("*"),
        operation: 3,
        permission: 3,
    };
    let filter = AclFilter { resource_type: 2, resource_name: Some(name), ..AclFilter::default() };
    let made = admin.create_acls(std::slice::from_ref(&acl)).await.unwrap();
    if let Err(refused) = made.into_iter().next().unwrap() {
        // A Kafka without an authorizer has no rules, and says so.
        assert!(!cluster.is_embedded(), "{refused}");
        assert_eq!(refused.broker_code(), Some(ErrorCode::SecurityDisabled));
        return;
    }
    assert_eq!(admin.describe_acls(&filter).await.unwrap(), std::slice::from_ref(&acl));
    assert_eq!(admin.delete_acls(&filter).await.unwrap(), [acl]);
    assert_eq!(admin.describe_acls(&filter).await.unwrap(), []);
}

//! A member of a group: joins, heartbeats, commits, and what a rebalance does to them.

use std::sync::Arc;
use std::time::Duration;

use weir_client::assignor::Assignor;
use weir_client::{
    AutoOffsetReset, Consumer, ConsumerConfig, GroupConfig, PartitionOffset, RebalanceHook,
    TopicPartition,
};
use weir_protocol::batch::BatchBuilder;
use weir_protocol::compression::Codec;
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{Offset, PartitionId, TimestampMs};

use crate::fake::{FakeCluster, SeenCommit};
use crate::membership::Told;

const TICK: Duration = Duration::from_millis(100);

fn config(edit: impl FnOnce(&mut GroupConfig)) -> ConsumerConfig {
    let mut group = GroupConfig::new("g");
    group.session_timeout_ms = 10_000;
    edit(&mut group);
    ConsumerConfig {
        group: Some(group),
        auto_offset_reset: AutoOffsetReset::Earliest,
        ..ConsumerConfig::default()
    }
}

async fn member(cluster: &FakeCluster, config: ConsumerConfig) -> Consumer {
    let consumer = Consumer::new(cluster.client().await, config).unwrap();
    consumer.subscribe(&["t"]).unwrap();
    poll_until(&consumer, || !consumer.assignment().is_empty()).await;
    consumer
}

/// Polls until it is so; fails after two minutes of virtual time.
async fn poll_until(consumer: &Consumer, is_so: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "it never came");
        consumer.poll(TICK).await.unwrap();
    }
}

async fn wait_until(is_so: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "it never came");
        tokio::time::sleep(TICK).await;
    }
}

fn at(offset: i64) -> Vec<PartitionOffset> {
    let partition = TopicPartition::new("t", PartitionId(0));
    vec![PartitionOffset::new(partition, Offset(offset))]
}

#[tokio::test(start_paused = true)]
async fn a_member_keeps_its_id_through_a_rebalance_with_a_slow_sync() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let consumer = member(&cluster, config(|_| {})).await;
    {
        let mut state = cluster.state();
        state.group.rebalancing = true;
        // Long enough for heartbeats between the join's end and the sync's answer.
        state.group.sync_delay = Duration::from_secs(8);
    }
    poll_until(&consumer, || cluster.state().group.syncs == 2).await;
    poll_until(&consumer, || !consumer.assignment().is_empty()).await;
    consumer.commit(&at(5)).await.unwrap();
    let seen = cluster.state().group.commits.clone();
    assert_eq!(seen, [SeenCommit { member: "member-1".to_owned(), generation: 2, offset: 5 }]);
    assert_eq!(cluster.state().group.joins, 2, "no third join");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_changed_during_a_join_is_joined_for() {
    let cluster = FakeCluster::new(1).with_topic("t", 1).with_topic("u", 1);
    cluster.state().group.join_delay = Duration::from_secs(5);
    let consumer = Consumer::new(cluster.client().await, config(|_| {})).unwrap();
    consumer.subscribe(&["t"]).unwrap();
    poll_until(&consumer, || cluster.state().group.joins == 1).await;
    consumer.subscribe(&["u"]).unwrap();
    let wanted = [TopicPartition::new("u", PartitionId(0))];
    poll_until(&consumer, || consumer.assignment() == wanted).await;
}

#[tokio::test(start_paused = true)]
async fn a_consumer_dropped_without_close_leaves_no_connection() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let client = cluster.client().await;
    wait_until(|| cluster.state().open_connections == 1).await;
    let consumer = Consumer::new(std::sync::Arc::clone(&client), config(|_| {})).unwrap();
    consumer.subscribe(&["t"]).unwrap();
    poll_until(&consumer, || !consumer.assignment().is_empty()).await;
    assert!(cluster.state().open_connections > 1);
    drop(consumer);
    wait_until(|| cluster.state().open_connections == 1).await;
    client.ping().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_short_session_is_kept_by_heartbeats_three_times_as_frequent() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let consumer = member(&cluster, config(|group| group.session_timeout_ms = 3_000)).await;
    let before = cluster.state().group.heartbeats;
    consumer.poll(Duration::from_secs(30)).await.unwrap();
    let sent = cluster.state().group.heartbeats - before;
    assert!((28..=31).contains(&sent), "{sent} in 30 s");
    let none = config(|group| group.session_timeout_ms = 0);
    assert_eq!(Consumer::new(cluster.client().await, none).unwrap_err().code(), "WEIR-0408");
}

#[tokio::test(start_paused = true)]
async fn a_member_nobody_answers_gives_up_when_its_session_is_over() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let consumer = member(&cluster, config(|_| {})).await;
    cluster.state().group.deaf = true;
    let started = tokio::time::Instant::now();
    poll_until(&consumer, || cluster.state().group.joins == 2).await;
    let waited = started.elapsed();
    // At most one interval before it the last heartbeat was answered.
    assert!(waited <= Duration::from_millis(13_500), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn of_commits_in_the_background_the_newest_is_the_last() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let consumer = member(&cluster, config(|_| {})).await;
    // The first is refused at 0 and 50 ms and tried again at 150 ms; the second is asked for between.
    cluster.state().group.commit_refusals = vec![ErrorCode::CoordinatorLoadInProgress; 2];
    consumer.commit_async(at(3));
    wait_until(|| cluster.state().group.commits.len() == 2).await;
    consumer.commit_async(at(7));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let offsets: Vec<i64> =
        cluster.state().group.commits.iter().map(|commit| commit.offset).collect();
    assert_eq!(offsets, [3, 3, 7]);
}

#[tokio::test(start_paused = true)]
async fn a_commit_of_a_member_that_was_expelled_is_not_sent() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let consumer = member(&cluster, config(|_| {})).await;
    // Nobody polls between the expulsion and the commit, so there is no new join.
    cluster.state().group.member = "another".to_owned();
    let before = cluster.state().group.heartbeats;
    wait_until(|| cluster.state().group.heartbeats > before).await;
    tokio::time::sleep(TICK).await;
    let refused = consumer.commit(&at(4)).await.unwrap_err();
    assert_eq!(refused.broker_code(), Some(ErrorCode::IllegalGeneration), "{refused}");
    assert_eq!(cluster.state().group.commits, []);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_only_keeps_offsets_in_a_group_commits_without_a_member() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let consumer = Consumer::new(cluster.client().await, config(|_| {})).unwrap();
    let partition = TopicPartition::new("t", PartitionId(0));
    consumer.assign(std::slice::from_ref(&partition)).unwrap();
    consumer.commit(&at(6)).await.unwrap();
    assert_eq!(consumer.committed(&[partition]).await.unwrap(), [Some(Offset(6))]);
}

/// A cooperative member of topics `t` and `u` that commits what it has read when it gives it up, and has
/// read so much of each.
async fn cooperative(cluster: &FakeCluster, told: &Arc<Told>, read: usize) -> Consumer {
    let config = config(|group| {
        group.assignors = vec![Assignor::CooperativeSticky];
        group.commit_on_revoke = true;
        group.hook = Some(Arc::clone(told) as Arc<dyn RebalanceHook>);
    });
    let consumer = Consumer::new(cluster.client().await, config).unwrap();
    consumer.subscribe(&["t", "u"]).unwrap();
    let mut seen = 0;
    while seen < read {
        seen += consumer.poll(TICK).await.unwrap().len();
    }
    consumer
}

fn two_topics(records: u8) -> FakeCluster {
    let cluster = FakeCluster::new(1).with_topic("t", 1).with_topic("u", 1);
    for topic in ["t", "u"] {
        append(&cluster, topic, records);
    }
    cluster
}

fn append(cluster: &FakeCluster, topic: &str, records: u8) {
    let mut builder = BatchBuilder::new(Codec::None);
    for number in 0..records {
        builder.append(TimestampMs(1), None, Some(&[number]), &[]);
    }
    let batch = builder.build().to_vec();
    let mut state = cluster.state();
    state.topics.get_mut(topic).unwrap()[0].log.push_batch(batch, i32::from(records) - 1);
}

fn committed(cluster: &FakeCluster, topic: &str) -> Option<i64> {
    cluster.state().group.committed.get(&(topic.to_owned(), 0)).copied()
}

#[tokio::test(start_paused = true)]
async fn a_member_expelled_by_the_commit_of_a_revocation_loses_all_it_has() {
    let cluster = two_topics(10);
    let told = Arc::new(Told::default());
    let consumer = cooperative(&cluster, &told, 20).await;
    // Others have expelled it, and one of them has read less of `u`.
    {
        let mut state = cluster.state();
        state.group.commit_refusals = vec![ErrorCode::UnknownMemberId];
        state.group.committed.insert(("u".to_owned(), 0), 4);
    }
    consumer.subscribe(&["u"]).unwrap();
    let mut seen = Vec::new();
    for _ in 0..50 {
        seen.extend(
            consumer.poll(TICK).await.unwrap().into_iter().map(|record| record.offset.get()),
        );
    }
    assert_eq!(told.count("lost"), 2, "{told:?}");
    assert_eq!(consumer.assignment(), [TopicPartition::new("u", PartitionId(0))]);
    assert_eq!(seen, [4, 5, 6, 7, 8, 9], "from where the other stopped");
}

#[tokio::test(start_paused = true)]
async fn a_close_after_a_poll_dropped_in_a_revocation_commits_everything() {
    let cluster = two_topics(10);
    let told = Arc::new(Told::default());
    let consumer = cooperative(&cluster, &told, 20).await;
    consumer.subscribe(&["u"]).unwrap();
    cluster.state().group.commit_delay = Duration::from_secs(2);
    let dropped = tokio::time::timeout(TICK, consumer.poll(TICK)).await;
    assert!(dropped.is_err(), "it was in the commit of the revocation");
    cluster.state().group.commit_delay = Duration::ZERO;
    consumer.close().await.unwrap();
    assert_eq!([committed(&cluster, "t"), committed(&cluster, "u")], [Some(10); 2]);
    assert_eq!(told.count("revoked"), 1 + 2, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_dropped_revocation_was_to_commit_is_not_committed_by_a_later_one() {
    let cluster = two_topics(10);
    let told = Arc::new(Told::default());
    let consumer = cooperative(&cluster, &told, 20).await;
    consumer.subscribe(&["u"]).unwrap();
    cluster.state().group.commit_delay = Duration::from_secs(2);
    let dropped = tokio::time::timeout(TICK, consumer.poll(TICK)).await;
    assert!(dropped.is_err(), "it was in the commit of the revocation");
    // It is expelled, and another reads on.
    {
        let mut state = cluster.state();
        state.group.commit_delay = Duration::ZERO;
        state.group.member = "another".to_owned();
        state.group.committed.insert(("t".to_owned(), 0), 15);
    }
    append(&cluster, "t", 10);
    let before = cluster.state().group.heartbeats;
    wait_until(|| cluster.state().group.heartbeats > before).await;
    tokio::time::sleep(TICK).await;
    consumer.subscribe(&["t"]).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 5 {
        seen.extend(consumer.poll(TICK).await.unwrap());
    }
    assert_eq!(seen[0].offset, Offset(15));
    consumer.subscribe(&["u"]).unwrap();
    poll_until(&consumer, || consumer.assignment() == [TopicPartition::new("u", PartitionId(0))])
        .await;
    assert_eq!(committed(&cluster, "t"), Some(20));
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_gone_holds_up_no_commit_of_others() {
    let cluster = two_topics(10);
    let told = Arc::new(Told::default());
    let consumer = cooperative(&cluster, &told, 20).await;
    let gone = ErrorCode::UnknownTopicOrPartition;
    cluster.state().group.commit_codes.insert("t".to_owned(), gone);
    let started = tokio::time::Instant::now();
    let refused = consumer.commit_consumed().await.unwrap_err();
    assert_eq!(refused.broker_code(), Some(gone));
    assert_eq!([committed(&cluster, "t"), committed(&cluster, "u")], [None, Some(10)]);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn only_what_was_not_taken_is_committed_again() {
    let cluster = two_topics(10);
    let told = Arc::new(Told::default());
    let consumer = cooperative(&cluster, &told, 20).await;
    let passing = ErrorCode::CoordinatorLoadInProgress;
    cluster.state().group.commit_codes.insert("t".to_owned(), passing);
    let committing = consumer.commit_consumed();
    let clearing = async {
        wait_until(|| cluster.state().group.commits.len() > 1).await;
        cluster.state().group.commit_codes.clear();
        // It would be seen if it came again.
        cluster.state().group.committed.insert(("u".to_owned(), 0), 77);
    };
    tokio::join!(committing, clearing).0.unwrap();
    assert_eq!([committed(&cluster, "t"), committed(&cluster, "u")], [Some(10), Some(77)]);
}

#[tokio::test(start_paused = true)]
async fn commits_in_the_background_are_waited_for_at_close_and_before_a_rebalance() {
    for closes in [true, false] {
        let cluster = FakeCluster::new(1).with_topic("t", 1);
        let consumer = member(&cluster, config(|_| {})).await;
        {
            let mut state = cluster.state();
            state.group.commit_refusals = vec![ErrorCode::CoordinatorLoadInProgress; 3];
            state.group.rebalancing = true;
        }
        consumer.commit_async(at(4));
        match closes {
            true => consumer.close().await.unwrap(),
            // Eager: all is given up before the join.
            false => poll_until(&consumer, || cluster.state().group.joins == 2).await,
        }
        assert_eq!(committed(&cluster, "t"), Some(4), "closes: {closes}");
    }
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let consumer = Consumer::new(cluster.client().await, config(|_| {})).unwrap();
    consumer.commit_async(at(4));
    consumer.close().await.unwrap();
    assert_eq!(committed(&cluster, "t"), Some(4), "nothing is assigned");
}

#[tokio::test(start_paused = true)]
async fn a_close_whose_commit_fails_says_so() {
    let cluster = two_topics(10);
    let told = Arc::new(Told::default());
    let refused = cooperative(&cluster, &told, 20).await;
    cluster.state().group.commit_refusals = vec![ErrorCode::GroupAuthorizationFailed];
    let error = refused.close().await.unwrap_err();
    assert_eq!(error.broker_code(), Some(ErrorCode::GroupAuthorizationFailed));
    let cluster = two_topics(10);
    let slow = cooperative(&cluster, &told, 20).await;
    cluster.state().group.commit_delay = Duration::from_secs(8);
    assert_eq!(slow.close().await.unwrap_err().code(), "WEIR-0409");
}

#[tokio::test(start_paused = true)]
async fn a_join_at_a_coordinator_that_hangs_goes_to_the_one_that_took_over() {
    let cluster = FakeCluster::new(2).with_topic("t", 1);
    cluster.state().group.join_delay = Duration::from_secs(100_000);
    let consumer = Consumer::new(cluster.client().await, config(|_| {})).unwrap();
    consumer.subscribe(&["t"]).unwrap();
    poll_until(&consumer, || cluster.state().group.joins == 1).await;
    {
        let mut state = cluster.state();
        state.group.moved_to = Some(2);
        state.group.join_delay = Duration::ZERO;
    }
    let started = tokio::time::Instant::now();
    poll_until(&consumer, || !consumer.assignment().is_empty()).await;
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

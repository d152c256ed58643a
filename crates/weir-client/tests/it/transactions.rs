//! Transactions: through any mix of faults, what is committed is seen once and in order, and nothing of
//! what was aborted. By both versions of the protocol.

use std::sync::Arc;
use std::time::Duration;

use weir_client::{
    ErrorClass, GroupMetadata, PartitionOffset, ProduceError, Producer, ProducerConfig, Record,
    TopicPartition, TransactionError, TxnVersion,
};
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{Offset, PartitionId};
use weir_protocol::ApiKey;

use crate::fake::{FakeCluster, Fault, TxnFault};
use crate::seeded::{for_seeds, Rng};

const VERSIONS: [TxnVersion; 2] = [TxnVersion::V1, TxnVersion::V2];

fn config(version: TxnVersion) -> ProducerConfig {
    ProducerConfig {
        transactional_id: Some("tx".to_owned()),
        transaction_version_max: version,
        ..ProducerConfig::default()
    }
}

async fn producer(cluster: &FakeCluster, config: ProducerConfig) -> Producer {
    let producer = Producer::new(cluster.client().await, config).unwrap();
    producer.ready("t").await.unwrap();
    producer.init_transactions().await.unwrap();
    producer
}

fn to(partition: i32, value: &str) -> Record<'_> {
    Record::new("t", value.as_bytes()).with_partition(PartitionId(partition))
}

/// What a reader of committed records sees.
fn committed(cluster: &FakeCluster, partition: usize) -> Vec<String> {
    let entries = cluster.entries("t", partition).into_iter();
    entries.filter(|entry| entry.committed == Some(true)).map(|entry| entry.value).collect()
}

fn calls(cluster: &FakeCluster, api: &str) -> usize {
    cluster.state().transactions.calls.get(api).copied().unwrap_or(0)
}

fn offset(offset: i64) -> [PartitionOffset; 1] {
    [PartitionOffset::new(TopicPartition::new("in", PartitionId(0)), Offset(offset))]
}

#[tokio::test(start_paused = true)]
async fn what_is_committed_is_seen_and_what_is_aborted_is_not() {
    for version in VERSIONS {
        let cluster = FakeCluster::new(2).with_topic("t", 2);
        let producer = producer(&cluster, config(version)).await;
        for (name, commit) in [("a", true), ("b", false), ("c", true)] {
            producer.begin_transaction().unwrap();
            let delivery = producer.send(to(0, name)).unwrap();
            producer.send(to(1, name)).unwrap();
            if commit {
                producer.commit_transaction().await.unwrap();
                delivery.await.unwrap();
            } else {
                producer.flush().await;
                producer.abort_transaction().await.unwrap();
            }
        }
        for partition in 0..2 {
            assert_eq!(committed(&cluster, partition), ["a", "c"], "{version:?}");
            assert_eq!(cluster.values("t", partition), ["a", "b", "c"], "{version:?}");
        }
        let adds = calls(&cluster, "AddPartitionsToTxn");
        assert_eq!(adds > 0, version == TxnVersion::V1, "{adds}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_without_the_feature_is_spoken_to_by_version_1() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    cluster.state().transactions.version = 0;
    let producer = producer(&cluster, config(TxnVersion::V2)).await;
    producer.begin_transaction().unwrap();
    producer.send(to(0, "a")).unwrap();
    producer.commit_transaction().await.unwrap();
    assert_eq!(committed(&cluster, 0), ["a"]);
    assert!(calls(&cluster, "AddPartitionsToTxn") > 0);
}

#[tokio::test(start_paused = true)]
async fn an_empty_transaction_costs_no_request() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let producer = producer(&cluster, config(TxnVersion::V2)).await;
    producer.begin_transaction().unwrap();
    producer.commit_transaction().await.unwrap();
    producer.begin_transaction().unwrap();
    producer.abort_transaction().await.unwrap();
    assert_eq!(calls(&cluster, "EndTxn"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_newer_producer_fences_the_older_and_aborts_what_it_left_open() {
    for version in VERSIONS {
        let cluster = FakeCluster::new(1).with_topic("t", 1);
        let zombie = producer(&cluster, config(version)).await;
        zombie.begin_transaction().unwrap();
        zombie.send(to(0, "zombie")).unwrap().await.unwrap();

        let heir = producer(&cluster, config(version)).await;
        assert_eq!(cluster.entries("t", 0)[0].committed, Some(false));
        heir.begin_transaction().unwrap();
        heir.send(to(0, "heir")).unwrap().await.unwrap();

        let refused = zombie.send(to(0, "late")).unwrap().await.unwrap_err();
        assert_eq!(refused.class(), ErrorClass::Abortable, "{refused}");
        let commit = zombie.commit_transaction().await.unwrap_err();
        assert_eq!(commit.class(), ErrorClass::Abortable, "{commit}");
        let abort = zombie.abort_transaction().await.unwrap_err();
        assert!(matches!(abort, TransactionError::Fenced { .. }), "{abort}");
        assert_eq!(abort.class(), ErrorClass::Fatal);
        assert_eq!(zombie.send(to(0, "later")).unwrap_err(), ProduceError::Fenced);
        assert!(matches!(zombie.begin_transaction(), Err(TransactionError::Fenced { .. })));

        heir.commit_transaction().await.unwrap();
        assert_eq!(committed(&cluster, 0), ["heir"], "{version:?}");
        assert_eq!(cluster.values("t", 0), ["zombie", "heir"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_took_too_long_is_lost_and_so_is_its_producer() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let producer = producer(&cluster, config(TxnVersion::V2)).await;
    producer.begin_transaction().unwrap();
    producer.send(to(0, "slow")).unwrap().await.unwrap();
    cluster.state().time_out_transaction("tx");
    let error = producer.commit_transaction().await.unwrap_err();
    assert!(matches!(error, TransactionError::Fenced { .. }), "{error}");
    assert_eq!(committed(&cluster, 0), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_record_costs_its_transaction_and_the_next_one_works() {
    for version in VERSIONS {
        let cluster = FakeCluster::new(1).with_topic("t", 2);
        cluster.script(|_, partition, count| match (partition, count) {
            (1, 1) => Fault::Refuse(ErrorCode::InvalidRecord),
            _ => Fault::None,
        });
        let producer = producer(&cluster, config(version)).await;
        producer.begin_transaction().unwrap();
        producer.send(to(0, "good")).unwrap().await.unwrap();
        producer.send(to(1, "bad")).unwrap().await.unwrap_err();
        let refused = producer.send(to(0, "more")).unwrap_err();
        assert!(matches!(refused, ProduceError::TransactionFailed { .. }), "{refused}");
        let error = producer.commit_transaction().await.unwrap_err();
        assert!(matches!(error, TransactionError::MustAbort { .. }), "{error}");
        producer.abort_transaction().await.unwrap();

        producer.begin_transaction().unwrap();
        producer.send(to(0, "next")).unwrap();
        producer.send(to(1, "next")).unwrap();
        producer.commit_transaction().await.unwrap();
        assert_eq!(committed(&cluster, 0), ["next"], "{version:?}");
        assert_eq!(committed(&cluster, 1), ["next"], "{version:?}");
        // Version 1 has asked for the next epoch itself.
        let inits = if version == TxnVersion::V1 { 2 } else { 1 };
        assert_eq!(calls(&cluster, "InitProducerId"), inits);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_lost_at_the_end_is_asked_for_again() {
    for version in VERSIONS {
        for fault in [TxnFault::CutAfter, TxnFault::CutBefore] {
            let cluster = FakeCluster::new(1).with_topic("t", 1);
            cluster.state().transactions.script = Box::new(move |api, count| match (api, count) {
                (ApiKey::EndTxn, 1) => fault,
                (ApiKey::InitProducerId | ApiKey::AddPartitionsToTxn, 1) => TxnFault::CutAfter,
                _ => TxnFault::None,
            });
            let producer = producer(&cluster, config(version)).await;
            for value in ["a", "b"] {
                producer.begin_transaction().unwrap();
                producer.send(to(0, value)).unwrap();
                producer.commit_transaction().await.unwrap();
            }
            assert_eq!(committed(&cluster, 0), ["a", "b"], "{version:?} {fault:?}");
            assert_eq!(cluster.entries("t", 0).len(), 2);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_stays_away_is_a_timeout_and_the_same_call_goes_on() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let config = ProducerConfig { max_block_ms: 2_000, ..config(TxnVersion::V2) };
    let producer = producer(&cluster, config).await;
    producer.begin_transaction().unwrap();
    producer.send(to(0, "a")).unwrap().await.unwrap();
    cluster.state().transactions.script = Box::new(|api, _| match api {
        ApiKey::EndTxn => TxnFault::Refuse(ErrorCode::CoordinatorLoadInProgress),
        _ => TxnFault::None,
    });
    let started = tokio::time::Instant::now();
    let error = producer.commit_transaction().await.unwrap_err();
    assert!(matches!(error, TransactionError::Timeout { .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::Retriable);
    assert!(started.elapsed() <= Duration::from_millis(2_100), "{:?}", started.elapsed());
    let abort = producer.abort_transaction().await.unwrap_err();
    assert!(matches!(abort, TransactionError::WrongState { .. }), "it may be committed: {abort}");
    cluster.state().transactions.script = Box::new(|_, _| TxnFault::None);
    producer.commit_transaction().await.unwrap();
    assert_eq!(committed(&cluster, 0), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn markers_that_take_their_time_hold_up_the_next_transaction_briefly() {
    for version in VERSIONS {
        let cluster = FakeCluster::new(1).with_topic("t", 1);
        cluster.state().transactions.slow_markers = 3;
        let producer = producer(&cluster, config(version)).await;
        let started = tokio::time::Instant::now();
        for value in ["a", "b", "c"] {
            producer.begin_transaction().unwrap();
            producer.send(to(0, value)).unwrap();
            producer.commit_transaction().await.unwrap();
        }
        assert_eq!(committed(&cluster, 0), ["a", "b", "c"]);
        assert!(started.elapsed() < Duration::from_millis(400), "{:?}", started.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn offsets_are_committed_with_the_transaction_or_not_at_all() {
    for version in VERSIONS {
        let cluster = FakeCluster::new(1).with_topic("t", 1);
        let producer = producer(&cluster, config(version)).await;
        let group = GroupMetadata::new("g");
        let place = ("g".to_owned(), "in".to_owned(), 0);
        producer.begin_transaction().unwrap();
        producer.send_offsets_to_transaction(&offset(5), &group).await.unwrap();
        assert!(cluster.state().transactions.committed.is_empty());
        producer.commit_transaction().await.unwrap();
        assert_eq!(cluster.state().transactions.committed[&place], 5, "{version:?}");

        producer.begin_transaction().unwrap();
        producer.send_offsets_to_transaction(&offset(9), &group).await.unwrap();
        producer.abort_transaction().await.unwrap();
        assert_eq!(cluster.state().transactions.committed[&place], 5, "{version:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_lost_its_place_must_abort() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let producer = producer(&cluster, config(TxnVersion::V2)).await;
    let gone = GroupMetadata {
        generation_id: 3,
        member_id: "member-1".to_owned(),
        ..GroupMetadata::new("g")
    };
    producer.begin_transaction().unwrap();
    let error = producer.send_offsets_to_transaction(&offset(5), &gone).await.unwrap_err();
    assert!(matches!(error, TransactionError::MustAbort { .. }), "{error}");
    assert!(producer.commit_transaction().await.is_err());
    producer.abort_transaction().await.unwrap();
    assert!(cluster.state().transactions.committed.is_empty());
}

#[tokio::test(start_paused = true)]
async fn offsets_given_up_half_way_must_be_aborted() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let producer = producer(&cluster, config(TxnVersion::V2)).await;
    cluster.state().transactions.script = Box::new(|api, _| match api {
        ApiKey::TxnOffsetCommit => TxnFault::Refuse(ErrorCode::CoordinatorLoadInProgress),
        _ => TxnFault::None,
    });
    producer.begin_transaction().unwrap();
    let (offsets, group) = (offset(5), GroupMetadata::new("g"));
    let sending = producer.send_offsets_to_transaction(&offsets, &group);
    assert!(tokio::time::timeout(Duration::from_millis(500), sending).await.is_err());
    let error = producer.commit_transaction().await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Abortable, "{error}");
    producer.abort_transaction().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn closing_aborts_what_is_open_and_a_new_start_takes_over_again() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let producer = producer(&cluster, config(TxnVersion::V2)).await;
    producer.begin_transaction().unwrap();
    producer.send(to(0, "open")).unwrap().await.unwrap();
    producer.close(Duration::from_secs(5)).await.unwrap();
    assert_eq!(cluster.entries("t", 0)[0].committed, Some(false));
    producer.start().unwrap();
    assert!(producer.begin_transaction().is_err(), "not before init_transactions");
    producer.init_transactions().await.unwrap();
    producer.begin_transaction().unwrap();
    producer.send(to(0, "again")).unwrap();
    producer.commit_transaction().await.unwrap();
    assert_eq!(committed(&cluster, 0), ["again"]);
}

#[tokio::test(start_paused = true)]
async fn a_producer_without_transactional_id_has_no_transactions() {
    let cluster = FakeCluster::new(1);
    let client = cluster.client().await;
    let plain = Producer::new(Arc::clone(&client), ProducerConfig::default()).unwrap();
    assert_eq!(plain.begin_transaction(), Err(TransactionError::NotTransactional));
    assert_eq!(plain.init_transactions().await, Err(TransactionError::NotTransactional));
    for config in [
        ProducerConfig { transactional_id: Some(String::new()), ..ProducerConfig::default() },
        ProducerConfig { idempotent: false, ..config(TxnVersion::V2) },
    ] {
        let error = Producer::new(Arc::clone(&client), config).unwrap_err();
        assert!(error.to_string().contains("transactional_id"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn version_1_offsets_that_arrive_late_are_not_of_the_next_transaction() {
    for aborts in [true, false] {
        let cluster = FakeCluster::new(1).with_topic("t", 1);
        let config = ProducerConfig { max_block_ms: 1_000, ..config(TxnVersion::V1) };
        let producer = producer(&cluster, config).await;
        let group = GroupMetadata::new("g");
        // It arrives when the next transaction has added its offsets.
        let mut of_the_first = 0;
        cluster.state().transactions.script = Box::new(move |api, _| match api {
            ApiKey::TxnOffsetCommit if of_the_first == 0 => {
                of_the_first += 1;
                TxnFault::Late(if aborts { 5 } else { 6 })
            }
            ApiKey::TxnOffsetCommit if aborts && of_the_first == 1 => {
                of_the_first += 1;
                TxnFault::Refuse(ErrorCode::IllegalGeneration)
            }
            _ => TxnFault::None,
        });
        producer.begin_transaction().unwrap();
        let sent = producer.send_offsets_to_transaction(&offset(5), &group).await;
        if aborts {
            assert_eq!(sent.unwrap_err().class(), ErrorClass::Abortable);
            producer.abort_transaction().await.unwrap();
        } else {
            sent.unwrap();
            producer.commit_transaction().await.unwrap();
        }
        assert_eq!(calls(&cluster, "InitProducerId"), 2, "a new epoch");
        for next in [7, 8] {
            producer.begin_transaction().unwrap();
            producer.send_offsets_to_transaction(&offset(next), &group).await.unwrap();
            producer.commit_transaction().await.unwrap();
            let place = ("g".to_owned(), "in".to_owned(), 0);
            assert_eq!(cluster.state().transactions.committed[&place], next, "{aborts}");
        }
        assert_eq!(calls(&cluster, "InitProducerId"), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn no_call_waits_longer_than_max_block_ms_for_another() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let config = ProducerConfig { max_block_ms: 2_000, ..config(TxnVersion::V2) };
    let producer = producer(&cluster, config).await;
    cluster.state().transactions.script = Box::new(|api, _| match api {
        ApiKey::EndTxn => TxnFault::Refuse(ErrorCode::CoordinatorLoadInProgress),
        _ => TxnFault::None,
    });
    producer.begin_transaction().unwrap();
    producer.send(to(0, "a")).unwrap().await.unwrap();
    // Begun, and not polled any more.
    let commit = producer.commit_transaction();
    tokio::pin!(commit);
    let _ = tokio::time::timeout(Duration::from_millis(100), commit.as_mut()).await;
    let started = tokio::time::Instant::now();
    let ended = tokio::time::timeout(Duration::from_secs(60), producer.abort_transaction()).await;
    let error = ended.expect("it is bounded").unwrap_err();
    assert!(matches!(error, TransactionError::Timeout { .. }), "{error}");
    assert!(started.elapsed() <= Duration::from_millis(2_100), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_end_waits_for_partitions_being_added_no_longer_than_max_block_ms() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let config = ProducerConfig { max_block_ms: 2_000, ..config(TxnVersion::V1) };
    let producer = producer(&cluster, config).await;
    cluster.state().transactions.script = Box::new(|api, count| match (api, count) {
        (ApiKey::AddPartitionsToTxn, 1) => TxnFault::Stall,
        _ => TxnFault::None,
    });
    producer.begin_transaction().unwrap();
    producer.send(to(0, "a")).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let started = tokio::time::Instant::now();
    let error = producer.abort_transaction().await.unwrap_err();
    assert!(matches!(error, TransactionError::Timeout { .. }), "{error}");
    assert!(started.elapsed() <= Duration::from_millis(2_100), "{:?}", started.elapsed());
    while let Err(error) = producer.abort_transaction().await {
        assert!(matches!(error, TransactionError::Timeout { .. }), "{error}");
        assert!(started.elapsed() < Duration::from_secs(60), "it ends with the request");
    }
    producer.begin_transaction().unwrap();
    producer.send(to(0, "b")).unwrap();
    producer.commit_transaction().await.unwrap();
    assert_eq!(committed(&cluster, 0), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_asked_at_all_fails_the_transaction_at_once() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    cluster.state().without = vec![ApiKey::AddPartitionsToTxn];
    let producer = producer(&cluster, config(TxnVersion::V1)).await;
    let started = tokio::time::Instant::now();
    producer.begin_transaction().unwrap();
    let error = producer.send(to(0, "a")).unwrap().await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Abortable, "{error}");
    assert!(error.to_string().contains("AddPartitionsToTxn"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_transactional_id_that_is_not_allowed_is_refused_for_good_and_says_so() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    cluster.state().coordinator_error = ErrorCode::TransactionalIdAuthorizationFailed;
    let producer = Producer::new(cluster.client().await, config(TxnVersion::V2)).unwrap();
    let error = producer.init_transactions().await.unwrap_err();
    let code = ErrorCode::TransactionalIdAuthorizationFailed;
    assert!(matches!(error, TransactionError::Refused { code: c, .. } if c == code), "{error}");
    assert_eq!((error.code(), error.class()), ("WEIR-0455", ErrorClass::Fatal));
    assert_eq!(producer.begin_transaction().unwrap_err().code(), "WEIR-0455");
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_not_allowed_costs_the_transaction_and_not_the_producer() {
    let cluster = FakeCluster::new(1).with_topic("t", 1);
    let producer = producer(&cluster, config(TxnVersion::V2)).await;
    cluster.state().coordinator_error = ErrorCode::GroupAuthorizationFailed;
    producer.begin_transaction().unwrap();
    let group = GroupMetadata::new("g");
    let error = producer.send_offsets_to_transaction(&offset(5), &group).await.unwrap_err();
    assert!(matches!(error, TransactionError::MustAbort { .. }), "{error}");
    producer.abort_transaction().await.unwrap();
}

fn produce_fault(rng: &mut Rng, percent: u64) -> Fault {
    if rng.below(100) >= percent {
        return Fault::None;
    }
    match rng.below(7) {
        0 => Fault::MoveLeader,
        1 => Fault::CutBefore,
        2 => Fault::CutAfter,
        3 => Fault::Refuse(ErrorCode::NotLeaderOrFollower),
        4 => Fault::WriteAndRefuse(ErrorCode::NotEnoughReplicasAfterAppend),
        // For good: the transaction must be aborted.
        5 => Fault::Refuse(ErrorCode::InvalidRecord),
        _ => Fault::Delay(Duration::from_millis(rng.below(40))),
    }
}

fn txn_fault(rng: &mut Rng, percent: u64) -> TxnFault {
    if rng.below(100) >= percent {
        return TxnFault::None;
    }
    match rng.below(6) {
        0 => TxnFault::CutBefore,
        1 => TxnFault::CutAfter,
        2 => TxnFault::Refuse(ErrorCode::NotCoordinator),
        3 => TxnFault::Refuse(ErrorCode::CoordinatorLoadInProgress),
        4 => TxnFault::Refuse(ErrorCode::ConcurrentTransactions),
        _ => TxnFault::Refuse(ErrorCode::CoordinatorNotAvailable),
    }
}

/// Ends the transaction as asked, or by an abort where it has failed; whether it was committed.
async fn end(producer: &Producer, commit: bool, seed: u64) -> bool {
    if commit {
        loop {
            match producer.commit_transaction().await {
                Ok(()) => return true,
                Err(TransactionError::Timeout { .. }) => {}
                Err(TransactionError::MustAbort { .. }) => break,
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
    }
    loop {
        match producer.abort_transaction().await {
            Ok(()) => return false,
            Err(TransactionError::Timeout { .. }) => {}
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
}

async fn run(seed: u64) {
    let mut rng = Rng(seed);
    let cluster = FakeCluster::new(3).with_topic("t", 3);
    let percent = rng.below(30);
    let mut faults = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    cluster.script(move |_, _, _| produce_fault(&mut faults, percent));
    let mut faults = Rng(seed.wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1);
    cluster.state().transactions.script = Box::new(move |_, _| txn_fault(&mut faults, percent));
    cluster.state().transactions.slow_markers = rng.below(3) as usize;
    let version = VERSIONS[rng.below(2) as usize];
    let config = ProducerConfig { linger_ms: 1, batch_bytes_max: 300, ..config(version) };
    let mut producer = producer(&cluster, config.clone()).await;
    let mut expected = vec![Vec::new(); 3];
    let mut expected_offset = None;
    for number in 0..40 {
        if rng.below(10) == 0 {
            // A crash: nothing is told to anybody. Its heir goes on.
            producer = {
                drop(producer);
                self::producer(&cluster, config.clone()).await
            };
        }
        producer.begin_transaction().unwrap();
        let mut sent = Vec::new();
        for record in 0..1 + rng.below(12) {
            let partition = rng.below(3) as usize;
            let value = format!("{number}-{record}");
            match producer.send_wait(to(partition as i32, &value)).await {
                Ok(_) => sent.push((partition, value)),
                Err(error) => {
                    assert_eq!(error.class(), ErrorClass::Abortable, "seed {seed}: {error}");
                    break;
                }
            }
            if rng.below(8) == 0 {
                tokio::time::sleep(Duration::from_millis(rng.below(20))).await;
            }
        }
        let group = GroupMetadata::new("g");
        let with_offsets = rng.below(3) == 0
            && producer.send_offsets_to_transaction(&offset(number), &group).await.is_ok();
        if rng.below(12) == 0 {
            continue_after_crash(&mut producer, &cluster, &config).await;
            continue;
        }
        if end(&producer, rng.below(4) > 0, seed).await {
            for (partition, value) in sent {
                expected[partition].push(value);
            }
            expected_offset = if with_offsets { Some(number) } else { expected_offset };
        }
    }
    for (partition, expected) in expected.iter().enumerate() {
        assert_eq!(&committed(&cluster, partition), expected, "seed {seed} {version:?}");
    }
    let place = ("g".to_owned(), "in".to_owned(), 0);
    let offset = cluster.state().transactions.committed.get(&place).copied();
    assert_eq!(offset, expected_offset, "seed {seed} {version:?}");
    assert_eq!(producer.stats().buffered_bytes, 0, "seed {seed}");
}

/// The producer dies in the middle of a transaction.
async fn continue_after_crash(
    producer: &mut Producer,
    cluster: &FakeCluster,
    config: &ProducerConfig,
) {
    let heir = self::producer(cluster, config.clone()).await;
    drop(std::mem::replace(producer, heir));
}

#[test]
fn committed_transactions_are_whole_once_and_in_order_and_aborted_ones_are_nowhere() {
    for_seeds(60, run);
}

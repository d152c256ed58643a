//! The broker's own files: what changes them is seen and answered once it is on disk, and nobody syncs under the lock.

use weir_log::disk::{Fault, FaultKind};
use weir_log::Disk;
use weir_protocol::api::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use weir_protocol::api::create_topics::CreateTopicsRequest;
use weir_protocol::api::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use weir_protocol::api::init_producer_id::InitProducerIdRequest;
use weir_protocol::api::metadata::{MetadataRequest, MetadataRequestTopic};
use weir_protocol::{ErrorCode, Str, Uuid};

use crate::harness::*;

fn metadata(name: &str, create: bool) -> MetadataRequest {
    let name = Some(Str::copy_from(name));
    MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { name, ..Default::default() }]),
        allow_auto_topic_creation: create,
        ..MetadataRequest::default()
    }
}

fn delete(name: &str) -> DeleteTopicsRequest {
    DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: Some(Str::copy_from(name)), topic_id: Uuid::ZERO }],
        ..DeleteTopicsRequest::default()
    }
}

fn new_producer() -> InitProducerIdRequest {
    InitProducerIdRequest { transactional_id: None, producer_id: -1, ..Default::default() }
}

fn seen(h: &mut Harness, name: &str) -> i16 {
    h.call(12, &metadata(name, false)).answer().topics[0].error_code
}

/// Directories of partitions on the disk.
fn log_dirs(h: &Harness) -> usize {
    let metadata = h.disk.files().into_keys();
    metadata.filter(|path| path.ends_with("partition.metadata")).count()
}

#[test]
fn the_logs_of_many_partitions_are_made_a_few_with_each_commit() {
    let mut h = Harness::new();
    let topic = |name: &str, partitions| {
        create_request(name, partitions, &[]).topics.into_iter().next().unwrap()
    };
    let topics = vec![topic("a", 100), topic("b", 1), topic("c", 100)];
    let request = CreateTopicsRequest { topics, ..create_request("a", 1, &[]) };
    let ticket = h.call(7, &request).ticket();
    h.commit();
    let answer = h.answer::<CreateTopicsRequest>(ticket).unwrap();
    assert!(answer.topics.iter().all(|topic| topic.error_code == 0));
    assert_eq!(log_dirs(&h), 32);
    // One that has no log yet takes records all the same.
    assert_eq!(h.produce("c", 99, batch(&["x"])).error_code, 0);
    assert_eq!(h.read("c", 99, 0), ["x"]);
    assert_eq!(h.read("c", 98, 0), [""; 0]);
    h.commit_all();
    assert_eq!(log_dirs(&h), 201);
    // A topic that goes meanwhile takes those along that were not made.
    let ticket = h.call(7, &create_request("d", 100, &[])).ticket();
    h.commit();
    h.answer::<CreateTopicsRequest>(ticket).unwrap();
    h.call(6, &delete("d")).ticket();
    h.commit_all();
    let mut h = h.reopened();
    assert_eq!(seen(&mut h, "d"), UNKNOWN);
    assert_eq!(h.read("c", 99, 0), ["x"]);
}

const UNKNOWN: i16 = ErrorCode::UnknownTopicOrPartition.code();
const OFFLINE: i16 = ErrorCode::KafkaStorageError.code();

#[test]
fn a_topic_is_seen_and_answered_once_it_is_on_disk() {
    let mut h = Harness::new();
    let ticket = h.call(7, &create_request("t", 1, &[])).ticket();
    assert_eq!(seen(&mut h, "t"), UNKNOWN);
    let early = h.ask(9, &produce_request("t", 0, 1, batch(&["a"])));
    assert_eq!(first(early).error_code, UNKNOWN);
    assert!(h.answer::<CreateTopicsRequest>(ticket).is_none());
    h.commit();
    assert_eq!(h.answer::<CreateTopicsRequest>(ticket).unwrap().topics[0].error_code, 0);
    assert_eq!(seen(&mut h, "t"), 0);
    for seed in 0..20 {
        let mut h = Harness::new();
        let _ = h.call(7, &create_request("t", 1, &[])).ticket();
        let mut h = h.after_power_cut(seed);
        assert_eq!(seen(&mut h, "t"), UNKNOWN);
        // Nothing of the first attempt is in the way.
        h.create("t", 1, &[]);
        let mut h = h.after_power_cut(seed);
        assert_eq!(seen(&mut h, "t"), 0);
    }
}

#[test]
fn no_request_waits_for_a_disk_under_the_lock() {
    let mut h = Harness::new();
    h.create("old", 1, &[]);
    h.commit_all();
    h.disk.inject(Fault { after: 0, kind: FaultKind::SyncError });
    let created = h.call(7, &create_request("t", 1, &[])).ticket();
    let deleted = h.call(6, &delete("old")).ticket();
    let id = h.call(4, &new_producer()).ticket();
    let auto = h.call(12, &metadata("u", true)).ticket();
    // Had one of them synced, the fault would have hit it.
    h.disk.clear_fault();
    h.commit();
    assert_eq!(h.answer::<CreateTopicsRequest>(created).unwrap().topics[0].error_code, 0);
    assert_eq!(h.answer::<DeleteTopicsRequest>(deleted).unwrap().responses[0].error_code, 0);
    assert_eq!(h.answer::<InitProducerIdRequest>(id).unwrap().error_code, 0);
    assert_eq!(h.answer::<MetadataRequest>(auto).unwrap().topics[0].error_code, 0);
}

#[test]
fn those_who_want_the_same_topic_wait_for_the_same_commit() {
    let mut h = Harness::new();
    let one = h.call(12, &metadata("t", true)).ticket();
    let two = h.call(12, &metadata("t", true)).ticket();
    let create = h.call(7, &create_request("t", 1, &[])).ticket();
    let grow = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic { name: "t".into(), count: 9, assignments: None }],
        ..CreatePartitionsRequest::default()
    };
    let grow = h.call(3, &grow).ticket();
    h.commit();
    for ticket in [one, two] {
        assert_eq!(h.answer::<MetadataRequest>(ticket).unwrap().topics[0].error_code, 0);
    }
    let again = h.answer::<CreateTopicsRequest>(create).unwrap();
    assert_eq!(again.topics[0].error_code, ErrorCode::TopicAlreadyExists.code());
    assert!(h.answer::<CreatePartitionsRequest>(grow).is_none(), "it has only just begun");
    h.commit();
    assert_eq!(h.answer::<CreatePartitionsRequest>(grow).unwrap().results[0].error_code, 0);
    let mut h = h.after_power_cut(1);
    let topics = h.ask(12, &metadata("t", false)).topics;
    assert_eq!(topics[0].partitions.len(), 9);
}

#[test]
fn a_catalog_in_an_unknown_state_takes_the_directory_offline() {
    // The sync of the new text, then that of its name.
    for after in 0..2 {
        for seed in 0..10 {
            let mut h = Harness::new();
            h.create("t", 1, &[]);
            assert_eq!(h.produce("t", 0, batch(&["a"])).error_code, 0);
            h.commit_all();
            let ticket = h.call(6, &delete("t")).ticket();
            let auto = h.call(12, &metadata("u", true)).ticket();
            h.disk.inject(Fault { after, kind: FaultKind::SyncError });
            h.commit();
            h.disk.clear_fault();
            let answer = h.answer::<DeleteTopicsRequest>(ticket).unwrap();
            assert_eq!(answer.responses[0].error_code, OFFLINE);
            assert_eq!(h.answer::<MetadataRequest>(auto).unwrap().topics[0].error_code, OFFLINE);
            assert!(h.broker.stats().failure.is_some());
            // An acknowledgement now could be lost with the topic.
            assert_eq!(h.produce("t", 0, batch(&["b"])).error_code, OFFLINE);
            let mut h = h.after_power_cut(seed);
            match seen(&mut h, "t") {
                0 => assert_eq!(h.read("t", 0, 0), ["a"]),
                other => assert_eq!(other, UNKNOWN),
            }
        }
    }
}

#[test]
fn a_full_disk_refuses_changes_and_goes_on_when_there_is_room() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    h.commit_all();
    h.disk.inject(Fault { after: 0, kind: FaultKind::Full });
    assert_eq!(h.ask(6, &delete("t")).responses[0].error_code, OFFLINE);
    assert_eq!(h.ask(12, &metadata("u", true)).topics[0].error_code, OFFLINE);
    assert_ne!(h.ask(4, &new_producer()).error_code, 0);
    h.disk.clear_fault();
    assert_eq!(h.broker.stats().failure, None);
    assert_eq!(h.produce("t", 0, batch(&["a"])).error_code, 0);
    assert_eq!(h.ask(4, &new_producer()).producer_id, 0);
    assert_eq!(h.ask(6, &delete("t")).responses[0].error_code, 0);
}

#[test]
fn too_many_open_files_refuse_changes_and_take_nothing_offline() {
    for after in 0..12 {
        let mut h = Harness::new();
        h.create("t", 1, &[("segment.bytes", "1048576")]);
        h.commit_all();
        h.disk.inject(Fault { after, kind: FaultKind::TooManyOpen });
        let record = "x".repeat(400_000);
        // Segments roll; producer ids, a topic made, one grown, one deleted.
        let written = (0..6).filter(|_| h.produce("t", 0, batch(&[&record])).error_code == 0);
        let written = i64::try_from(written.count()).unwrap();
        let mut refused = u32::from(written < 6);
        refused += u32::from(h.ask(4, &new_producer()).error_code != 0);
        refused += u32::from(h.ask(12, &metadata("u", true)).topics[0].error_code != 0);
        refused += u32::from(h.ask(6, &delete("t")).responses[0].error_code != 0);
        h.commit_all();
        assert!(refused > 0, "after {after}: something needs a handle");
        assert_eq!(h.broker.stats().failure, None, "after {after}");
        h.disk.clear_fault();
        if seen(&mut h, "t") == 0 {
            assert_eq!(h.produce("t", 0, batch(&["a"])).error_code, 0, "after {after}");
            let mut read = 0;
            loop {
                match h.read("t", 0, read).len() {
                    0 => break,
                    more => read += i64::try_from(more).unwrap(),
                }
            }
            assert_eq!(read, written + 1, "after {after}");
        }
        assert_eq!(h.ask(4, &new_producer()).error_code, 0);
        assert_eq!(h.ask(12, &metadata("u", true)).topics[0].error_code, 0);
        assert_eq!(h.produce("u", 0, batch(&["b"])).error_code, 0);
        h.commit_all();
        let mut h = h.after_power_cut(after);
        assert_eq!(h.read("u", 0, 0), ["b"], "after {after}");
    }
}

#[test]
fn no_producer_id_is_given_twice_across_a_power_cut() {
    let mut h = Harness::new();
    let mut last = -1;
    for n in 0..1_700 {
        let id = match h.call(4, &new_producer()) {
            Called::Answered(answer) => answer.producer_id,
            // The next block is there before this one is used up.
            Called::Parked(ticket) if n == 0 => {
                h.commit();
                h.answer::<InitProducerIdRequest>(ticket).unwrap().producer_id
            }
            other => panic!("{n}: {other:?}"),
        };
        assert_eq!(id, last + 1);
        last = id;
        h.commit_all();
    }
    let mut h = h.after_power_cut(7);
    assert!(h.ask(4, &new_producer()).producer_id > last);
}

/// As in Kafka any id is taken in a batch; but it must not use up those that are to be given.
#[test]
fn an_id_that_nobody_gave_is_taken_and_changes_nothing_for_others() {
    let ask = |h: &mut Harness, producer_id: i64, producer_epoch: i16| {
        let asked = InitProducerIdRequest { producer_id, producer_epoch, ..new_producer() };
        let answer = h.ask(4, &asked);
        (ErrorCode::from_code(answer.error_code), answer.producer_id, answer.producer_epoch)
    };
    for with_file in [true, false] {
        let mut h = Harness::new();
        h.create("t", 1, &[]);
        if with_file {
            assert_eq!(ask(&mut h, -1, -1), (ErrorCode::None, 0, 0));
        }
        for id in [i64::MAX, 1 << 50, 17] {
            assert_eq!(h.produce("t", 0, idempotent(id, 0, 0, &["a"])).error_code, 0, "{id}");
        }
        let mut h = h.reopened();
        let (error, next, _) = ask(&mut h, -1, -1);
        assert_eq!((error, next), (ErrorCode::None, if with_file { 1_000 } else { 18 }));
        assert_eq!(ask(&mut h, i64::MAX, 0), (ErrorCode::None, next + 1, 0), "never given");
        // Two that say they are the same one must not get one sequence space.
        assert_eq!(ask(&mut h, next, 0), (ErrorCode::None, next + 2, 0), "a new one, as in Kafka");
        assert_eq!(ask(&mut h, next, 0), (ErrorCode::None, next + 3, 0), "and another");
        assert_eq!(ask(&mut h, next, -1), (ErrorCode::InvalidRequest, -1, -1), "as Kafka");
        assert_eq!(ask(&mut h, -1, 3), (ErrorCode::InvalidRequest, -1, -1), "as Kafka");
    }
}

#[test]
fn producer_ids_go_on_above_those_of_the_logs_if_their_file_is_lost() {
    let mut h = Harness::new();
    h.create("t", 2, &[]);
    assert_eq!(h.produce("t", 0, idempotent(4_711, 0, 0, &["a"])).error_code, 0);
    assert_eq!(h.produce("t", 1, idempotent(17, 0, 0, &["a"])).error_code, 0);
    let (disk, now) = (h.disk.clone(), h.now);
    h.broker.close().unwrap();
    // It never was: nobody asked for an id.
    assert!(disk.remove(&config().data_dir.join("weir-producer-ids")).is_err());
    let mut h = Harness::on(disk, config());
    h.now = now;
    assert_eq!(h.ask(4, &new_producer()).producer_id, 4_712);
}

//! The machine's clock is set, by hand or at the first answer of a time server: nothing is forgotten, and nothing stops.

use std::path::Path;

use weir_log::disk::OpenMode;
use weir_log::Disk;
use weir_protocol::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use weir_protocol::api::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};

use crate::harness::{batch, idempotent, Harness};

const DAY_MS: i64 = 86_400_000;

fn set_clock(h: &mut Harness, by_ms: i64) {
    h.broker.clock_set(by_ms);
    h.now = h.now.plus_ms(by_ms);
}

/// Lets minutes pass as the shell does, tick by tick.
fn pass_minutes(h: &mut Harness, minutes: i64) {
    for _ in 0..minutes * 60 {
        h.pass_ms(1_000);
        h.commit_all();
    }
}

fn text_of(h: &Harness, name: &str) -> String {
    let path = Path::new("/weir/data").join(name);
    let Ok(file) = h.disk.open(&path, OpenMode::Existing) else { return String::new() };
    let mut bytes = vec![0; usize::try_from(file.len_bytes().unwrap()).unwrap()];
    file.read_at(&mut bytes, 0).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_producer_is_known_however_far_the_clock_is_set() {
    // Further back the batch would be dated more than an hour ahead, and refused.
    for by_ms in [2 * DAY_MS, -1_800_000, 20_000 * DAY_MS] {
        let mut h = Harness::new();
        // Records are as old as their timestamps say.
        h.create("a", 1, &[("retention.ms", "-1")]);
        let once = idempotent(7, 0, 0, &["once"]);
        assert_eq!(h.produce("a", 0, once.clone()).base_offset, 0);
        set_clock(&mut h, by_ms);
        pass_minutes(&mut h, 11);
        let again = h.produce("a", 0, once);
        assert_eq!((again.error_code, again.base_offset), (0, 0), "set by {by_ms} ms");
        assert_eq!(h.read("a", 0, 0), ["once"], "set by {by_ms} ms");
    }
}

#[test]
fn a_producer_is_forgotten_a_day_after_its_last_batch_by_a_clock_that_was_set() {
    for by_ms in [0, DAY_MS / 2, -1_800_000] {
        let mut h = Harness::new();
        h.create("a", 1, &[]);
        let once = idempotent(7, 0, 0, &["once"]);
        h.produce("a", 0, once.clone());
        h.pass_ms(1_000);
        set_clock(&mut h, by_ms);
        h.pass_ms(DAY_MS - 2_000);
        assert_eq!(h.produce("a", 0, once.clone()).base_offset, 0, "set by {by_ms} ms");
        // What is forgotten is looked for every ten minutes.
        h.pass_ms(602_000);
        assert_eq!(h.produce("a", 0, once).base_offset, 1, "set by {by_ms} ms");
    }
}

#[test]
fn checkpoints_go_on_however_far_the_clock_is_set_back() {
    for by_ms in [-DAY_MS, -20_000 * DAY_MS, DAY_MS] {
        let mut h = Harness::new();
        h.create("a", 1, &[]);
        h.produce("a", 0, batch(&["x"]));
        h.commit_all();
        set_clock(&mut h, by_ms);
        pass_minutes(&mut h, 2);
        let points = text_of(&h, "recovery-point-offset-checkpoint");
        assert!(points.lines().any(|line| line == "a 0 1"), "set by {by_ms} ms: {points:?}");
    }
}

#[test]
fn retention_goes_on_when_the_clock_is_set_back() {
    let mut h = Harness::new();
    let configs = [("segment.bytes", "1048576"), ("retention.bytes", "1048576")];
    h.create("a", 1, &configs);
    h.pass_ms(1_000);
    for _ in 0..20 {
        h.produce("a", 0, batch(&["x".repeat(300_000).as_str()]));
    }
    h.commit_all();
    assert_eq!(h.broker.stats().topics[0].start_offsets, [0]);
    set_clock(&mut h, -DAY_MS);
    pass_minutes(&mut h, 6);
    assert!(h.broker.stats().topics[0].start_offsets[0] > 10);
}

#[test]
fn files_of_a_deleted_topic_go_after_their_delay_whatever_the_clock_says() {
    for by_ms in [-DAY_MS, DAY_MS] {
        let mut h = Harness::new();
        h.create("a", 1, &[("file.delete.delay.ms", "60000")]);
        h.produce("a", 0, batch(&["x"]));
        let delete = weir_protocol::api::delete_topics::DeleteTopicsRequest {
            topic_names: vec!["a".into()],
            timeout_ms: 1_000,
            ..Default::default()
        };
        assert_eq!(h.ask(4, &delete).responses[0].error_code, 0);
        h.commit_all();
        set_clock(&mut h, by_ms);
        let buried = |h: &mut Harness| {
            let upkeep = h.broker.begin_upkeep(h.now);
            if let Some(upkeep) = upkeep {
                let done = upkeep.run(&mut |_| std::ops::ControlFlow::Continue(()));
                h.broker.finish_upkeep(done, h.now);
            }
            h.disk.files().keys().any(|path| path.to_string_lossy().contains("-delete/"))
        };
        h.pass_ms(59_000);
        assert!(buried(&mut h), "set by {by_ms} ms: too early");
        h.pass_ms(1_000);
        assert!(!buried(&mut h), "set by {by_ms} ms: too late");
    }
}

#[test]
fn committed_offsets_are_kept_when_the_clock_is_set_forward() {
    let mut h = Harness::with_coordinator();
    h.create("t", 1, &[]);
    let commit = OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: 5,
                ..Default::default()
            }],
        }],
        ..Default::default()
    };
    assert_eq!(h.ask(7, &commit).topics[0].partitions[0].error_code, 0);
    set_clock(&mut h, 30 * DAY_MS);
    pass_minutes(&mut h, 11);
    let fetch = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: "g".into(),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: "t".into(),
                partition_indexes: vec![0],
            }]),
            ..Default::default()
        }],
        ..Default::default()
    };
    let group = h.ask(9, &fetch).groups.remove(0);
    assert_eq!(group.topics[0].partitions[0].committed_offset, 5);
}

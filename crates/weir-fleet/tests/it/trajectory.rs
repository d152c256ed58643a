//! Exactly once into SQLite: over replays, across reopening, and with a failure in the middle.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use weir_fleet::alert::{AlertEngine, Occasion};
use weir_fleet::{
    AlertChange, Commit, ConsumedOffset, FleetError, Id, RecordRef, TopicIdentity, TrackPoint,
    TrajectoryStore,
};
use weir_protocol::types::{Offset, PartitionId, TimestampMs};

const GROUP: &str = "weir-worker";
const NOW: TimestampMs = TimestampMs(1_000_000);

fn topic() -> TopicIdentity {
    topic_of("cluster-1", "topic-1")
}

fn topic_of(cluster_id: &str, topic_id: &str) -> TopicIdentity {
    TopicIdentity {
        cluster_id: cluster_id.to_owned(),
        topic_id: topic_id.to_owned(),
        name: "drone-events".to_owned(),
    }
}

fn point(device: &str, at: i64, partition: i32, offset: i64) -> TrackPoint {
    TrackPoint {
        device: Arc::from(device),
        device_is_number: false,
        at: TimestampMs(at),
        latitude: 47.0 + offset as f64 / 1000.0,
        longitude: 8.0,
        altitude_m: Some(100.0),
        heading: None,
        speed: Some(12.5),
        battery: None,
        received: TimestampMs(1_000 + offset),
        record: RecordRef { partition: PartitionId(partition), offset: Offset(offset) },
    }
}

fn offset(partition: i32, next: i64) -> ConsumedOffset {
    ConsumedOffset { partition: PartitionId(partition), next: Offset(next) }
}

fn commit<'a>(
    topic: &'a TopicIdentity,
    points: &'a [TrackPoint],
    offsets: &'a [ConsumedOffset],
    alerts: &'a [AlertChange],
) -> Commit<'a> {
    Commit { group: GROUP, topic, offsets, points, alerts, now: NOW }
}

#[test]
fn points_and_offsets_survive_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trajectories.db");
    let points = [point("a", 10, 0, 0), point("b", 20, 1, 0), point("a", 30, 0, 1)];
    {
        let mut store = TrajectoryStore::open(&path, NOW).unwrap();
        let done =
            store.commit(&commit(&topic(), &points, &[offset(0, 2), offset(1, 1)], &[])).unwrap();
        assert_eq!((done.points_stored, done.points_known), (3, 0));
    }
    let mut store = TrajectoryStore::open(&path, NOW).unwrap();
    assert_eq!(store.offsets(GROUP, &topic()).unwrap(), [offset(0, 2), offset(1, 1)]);
    assert!(store.offsets("another", &topic()).unwrap().is_empty());
    let read = store.points("a", TimestampMs(10), TimestampMs(30), 10).unwrap();
    assert_eq!(read, [points[0].clone(), points[2].clone()]);
    assert_eq!(store.points("a", TimestampMs(11), TimestampMs(29), 10).unwrap(), []);
    assert_eq!(store.points("a", TimestampMs(0), TimestampMs(99), 1).unwrap().len(), 1);
    assert_eq!(
        store.last_points(TimestampMs(i64::MAX), 10).unwrap(),
        [points[1].clone(), points[2].clone()],
        "the one heard of last is last"
    );
    let done = store.commit(&commit(&topic(), &points, &[offset(0, 2)], &[])).unwrap();
    assert_eq!((done.points_stored, done.points_known), (0, 3));
    assert_eq!(store.counts().unwrap(), [("a".to_owned(), 2), ("b".to_owned(), 1)]);
    assert_eq!(store.last_points(TimestampMs(i64::MAX), 1).unwrap(), [points[2].clone()]);
}

#[test]
fn positions_are_those_of_one_topic_of_one_cluster() {
    let mut store = TrajectoryStore::in_memory().unwrap();
    store.commit(&commit(&topic(), &[point("a", 10, 0, 0)], &[offset(0, 300)], &[])).unwrap();
    for other in [topic_of("cluster-2", "topic-1"), topic_of("cluster-1", "topic-2")] {
        assert!(store.offsets(GROUP, &other).unwrap().is_empty(), "{other:?}");
        assert!(store.has_offsets_of_another(&other).unwrap());
        // The same place in another topic is another record.
        let done = store.commit(&commit(&other, &[point("a", 10, 0, 0)], &[offset(0, 1)], &[]));
        assert_eq!(done.unwrap().points_stored, 1);
        assert_eq!(store.offsets(GROUP, &other).unwrap(), [offset(0, 1)]);
    }
    assert_eq!(store.offsets(GROUP, &topic()).unwrap(), [offset(0, 300)]);
}

#[test]
fn points_are_kept_by_when_weir_took_them_not_by_what_their_devices_say() {
    let mut store = TrajectoryStore::in_memory().unwrap();
    // Of 1970, and of a device that is far ahead; taken at 1,000 and 1,001.
    let points = [point("old", 10, 0, 0), point("ahead", i64::MAX / 2, 0, 1)];
    store.commit(&commit(&topic(), &points, &[], &[])).unwrap();
    assert_eq!(store.delete_before(TimestampMs(1_000), 10).unwrap(), 0);
    assert_eq!(store.delete_before(TimestampMs(1_001), 10).unwrap(), 1);
    assert_eq!(store.counts().unwrap(), [("ahead".to_owned(), 1)]);
    assert_eq!(store.delete_empty_devices().unwrap(), 1);
    // A device that was forgotten can come again.
    store.commit(&commit(&topic(), &points, &[], &[])).unwrap();
    assert_eq!(
        store.delete_before(TimestampMs(i64::MAX), 1).unwrap(),
        1,
        "not more than asked for"
    );
    assert_eq!(store.delete_before(TimestampMs(i64::MAX), 1).unwrap(), 1);
    assert_eq!(store.delete_before(TimestampMs(i64::MAX), 1).unwrap(), 0);
}

/// The tables as version 1 made them.
const VERSION_1: &str = "
CREATE TABLE device (no INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, is_number INTEGER NOT NULL);
CREATE TABLE topic (no INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE point (
  device_no INTEGER NOT NULL, ts_ms INTEGER NOT NULL,
  topic_no INTEGER NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
  lat REAL NOT NULL, lon REAL NOT NULL, alt_m REAL, heading REAL, speed REAL, battery REAL,
  PRIMARY KEY (device_no, ts_ms, topic_no, partition, offset)
) WITHOUT ROWID;
CREATE TABLE consumed (
  group_id TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL,
  next_offset INTEGER NOT NULL, PRIMARY KEY (group_id, topic, partition)
) WITHOUT ROWID;
CREATE TABLE alert (
  alert_id TEXT PRIMARY KEY, rule TEXT NOT NULL, level TEXT NOT NULL, device TEXT NOT NULL,
  device_is_number INTEGER NOT NULL, subject TEXT, auto_action TEXT, message TEXT NOT NULL,
  message_en TEXT NOT NULL, opened_ms INTEGER NOT NULL, cleared_ms INTEGER,
  lat REAL, lon REAL, alt_m REAL,
  raised_published INTEGER NOT NULL DEFAULT 0, cleared_published INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX alert_pending ON alert (opened_ms)
  WHERE raised_published = 0 OR (cleared_ms IS NOT NULL AND cleared_published = 0);
CREATE INDEX alert_open ON alert (opened_ms) WHERE cleared_ms IS NULL;
CREATE VIEW track AS
  SELECT d.id AS device, p.ts_ms, p.lat, p.lon, p.alt_m, p.heading, p.speed, p.battery,
         t.name AS topic, p.partition, p.offset
  FROM point p JOIN device d ON d.no = p.device_no JOIN topic t ON t.no = p.topic_no;
PRAGMA user_version = 1;
INSERT INTO device VALUES (1, 'a', 0);
INSERT INTO topic VALUES (1, 'drone-events');
INSERT INTO point VALUES (1, 10, 1, 0, 0, 47.0, 8.0, 100.0, NULL, 12.5, NULL);
INSERT INTO consumed VALUES ('weir-worker', 'drone-events', 0, 300);
INSERT INTO alert VALUES ('battery_low:7:5-0-5', 'battery_low', 'warning', '7', 1, NULL,
  'return_to_base', 'm', 'm', 5, NULL, NULL, NULL, NULL, 1, 0);
";

#[test]
fn a_file_of_version_1_keeps_its_points_and_alerts_and_no_position_of_an_unknown_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trajectories.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch(VERSION_1).unwrap();
    for _ in 0..2 {
        let store = TrajectoryStore::open(&path, NOW).unwrap();
        let kept = store.points("a", TimestampMs(0), TimestampMs(99), 10).unwrap();
        assert_eq!(kept, [TrackPoint { received: NOW, ..point("a", 10, 0, 0) }]);
        assert_eq!(store.open_alerts(10).unwrap()[0].alert_id, "battery_low:7:5-0-5");
        assert!(store.offsets(GROUP, &topic()).unwrap().is_empty());
    }
    let mut store = TrajectoryStore::open(&path, NOW).unwrap();
    let done = store.commit(&commit(&topic(), &[point("a", 10, 0, 0)], &[offset(0, 1)], &[]));
    assert_eq!(done.unwrap().points_known, 1, "a record read again is recognised");
    drop(store);
    let tracks: i64 = rusqlite::Connection::open(&path)
        .unwrap()
        .query_row("SELECT count(*) FROM track WHERE topic = 'drone-events'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(tracks, 1);
}

#[test]
fn a_commit_that_fails_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trajectories.db");
    let mut store = TrajectoryStore::open(&path, NOW).unwrap();
    // NULL in a NOT NULL column: SQLite stores NaN as NULL, so the second point fails.
    let mut broken = point("new", 20, 0, 1);
    broken.latitude = f64::NAN;
    let points = [point("new", 10, 0, 0), broken];
    // `INSERT OR IGNORE` would skip a NULL in silence; the store must not.
    let outcome = store.commit(&commit(&topic(), &points, &[offset(0, 2)], &[]));
    let error = outcome.unwrap_err();
    assert_eq!(error.code(), "WEIR-0603");
    assert!(store.counts().unwrap().is_empty());
    assert!(store.offsets(GROUP, &topic()).unwrap().is_empty());
    // The device numbers of the failed transaction are forgotten too.
    let done = store.commit(&commit(&topic(), &points[..1], &[offset(0, 1)], &[])).unwrap();
    assert_eq!(done.points_stored, 1);
    assert_eq!(store.counts().unwrap(), [("new".to_owned(), 1)]);
}

#[test]
fn a_file_of_a_newer_weir_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trajectories.db");
    drop(TrajectoryStore::open(&path, NOW).unwrap());
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(connection);
    let error = TrajectoryStore::open(&path, NOW).unwrap_err();
    assert!(matches!(error, FleetError::StoreTooNew { found: 99, .. }), "{error}");
    assert_eq!(error.code(), "WEIR-0604");
}

#[test]
fn alerts_wait_until_they_are_published_and_open_ones_survive() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trajectories.db");
    let device = Id::Number(7);
    let record = RecordRef { partition: PartitionId(0), offset: Offset(5) };
    let location = Some((47.0, 8.0, None));
    let occasion = |at| Occasion { device: &device, at: TimestampMs(at), record, location };
    let mut engine = AlertEngine::new();
    let raised = engine.on_battery(15.0, occasion(5)).unwrap();
    let mut store = TrajectoryStore::open(&path, NOW).unwrap();
    store.commit(&commit(&topic(), &[], &[offset(0, 6)], std::slice::from_ref(&raised))).unwrap();
    drop(store);

    let mut store = TrajectoryStore::open(&path, NOW).unwrap();
    assert_eq!(store.unpublished(100).unwrap(), std::slice::from_ref(&raised));
    assert_eq!(store.open_alerts(100).unwrap(), [raised.alert().clone()]);
    // A replay of the same records stores the same alert: still one.
    store.commit(&commit(&topic(), &[], &[offset(0, 6)], std::slice::from_ref(&raised))).unwrap();
    store.mark_published(std::slice::from_ref(&raised)).unwrap();
    store.commit(&commit(&topic(), &[], &[offset(0, 6)], std::slice::from_ref(&raised))).unwrap();
    assert!(store.unpublished(100).unwrap().is_empty(), "published once is published");

    let cleared = engine.on_battery(90.0, occasion(50)).unwrap();
    store.commit(&commit(&topic(), &[], &[offset(0, 7)], std::slice::from_ref(&cleared))).unwrap();
    assert!(store.open_alerts(100).unwrap().is_empty());
    assert_eq!(store.unpublished(100).unwrap(), std::slice::from_ref(&cleared));
    store.mark_published(std::slice::from_ref(&cleared)).unwrap();
    assert!(store.unpublished(100).unwrap().is_empty());
}

#[test]
fn alerts_are_handed_out_in_parts_in_order_and_finished_ones_do_not_stay_for_ever() {
    let mut store = TrajectoryStore::in_memory().unwrap();
    let mut engine = AlertEngine::new();
    let mut expected = Vec::new();
    for at in 0..20 {
        let device = Id::Number((at % 5) as u64);
        let record = RecordRef { partition: PartitionId(0), offset: Offset(at) };
        let occasion = Occasion { device: &device, at: TimestampMs(at), record, location: None };
        let percent = if (at / 5) % 2 == 0 { 10.0 } else { 90.0 };
        let change = engine.on_battery(percent, occasion).unwrap();
        store.commit(&commit(&topic(), &[], &[], std::slice::from_ref(&change))).unwrap();
        expected.push(change);
    }
    let mut published = Vec::new();
    loop {
        let part = store.unpublished(3).unwrap();
        assert!(part.len() <= 3);
        if part.is_empty() {
            break;
        }
        store.mark_published(&part).unwrap();
        published.extend(part);
    }
    assert_eq!(published, expected, "in order of time, whatever the parts");
    assert_eq!(store.delete_finished_alerts(NOW, 100).unwrap(), 0);
    assert_eq!(store.delete_finished_alerts(NOW, 4).unwrap(), 6, "the latest four stay");
    assert_eq!(store.delete_finished_alerts(TimestampMs(NOW.get() + 1), 100).unwrap(), 4);
}

#[test]
fn open_alerts_beyond_the_limit_are_closed_the_oldest_first() {
    let mut store = TrajectoryStore::in_memory().unwrap();
    let mut engine = AlertEngine::new();
    for at in 0..10 {
        let device = Id::Number(at as u64);
        let record = RecordRef { partition: PartitionId(0), offset: Offset(at) };
        let occasion = Occasion { device: &device, at: TimestampMs(at), record, location: None };
        let change = engine.on_battery(10.0, occasion).unwrap();
        store.commit(&commit(&topic(), &[], &[], &[change])).unwrap();
    }
    assert_eq!(store.clear_open_beyond(4).unwrap(), 6);
    let open: Vec<i64> =
        store.open_alerts(10).unwrap().iter().map(|alert| alert.opened.get()).collect();
    assert_eq!(open, [9, 8, 7, 6]);
}

/// One step of a worker's life: it reads some records and commits, or is killed and reads again from
/// what the store says, or is set back by hand.
#[derive(Debug, Clone)]
enum Step {
    Commit(usize),
    Reopen,
    SetBack(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(
        prop_oneof![
            4 => (1_usize..20).prop_map(Step::Commit),
            1 => Just(Step::Reopen),
            1 => (0_i64..60).prop_map(Step::SetBack),
        ],
        1..25,
    )
}

proptest! {
    // Each case writes a real file.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.min(64), ..ProptestConfig::default() })]

    #[test]
    fn every_record_is_stored_exactly_once_whatever_happens(steps in steps()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trajectories.db");
        // Three devices, times that go back and repeat: the log of one partition.
        let log: Vec<TrackPoint> = (0..60)
            .map(|at| point(["a", "b", "c"][at as usize % 3], (at * 7) % 40, 0, at))
            .collect();
        let mut store = TrajectoryStore::open(&path, NOW).unwrap();
        let mut position = 0_usize;
        let mut seen = BTreeSet::new();
        for step in steps {
            match step {
                Step::Commit(count) => {
                    let end = (position + count).min(log.len());
                    store
                        .commit(&commit(&topic(), &log[position..end], &[offset(0, end as i64)], &[]))
                        .unwrap();
                    seen.extend(position..end);
                    position = end;
                }
                Step::Reopen => {
                    drop(store);
                    store = TrajectoryStore::open(&path, NOW).unwrap();
                    let offsets = store.offsets(GROUP, &topic()).unwrap();
                    position = offsets.first().map_or(0, |offset| offset.next.get() as usize);
                }
                Step::SetBack(to) => position = position.min(to as usize),
            }
        }
        let mut stored = BTreeSet::new();
        for device in ["a", "b", "c"] {
            let points =
                store.points(device, TimestampMs(0), TimestampMs(1_000), 1_000).unwrap();
            for point in points {
                prop_assert!(stored.insert(point.record.offset.get() as usize), "twice");
                prop_assert_eq!(&point, &log[point.record.offset.get() as usize]);
            }
        }
        prop_assert_eq!(stored, seen);
    }
}

//! Exactly once into SQLite: over replays, across reopening, and with a failure in the middle.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use weir_fleet::alert::{AlertEngine, Occasion};
use weir_fleet::{
    AlertChange, Commit, ConsumedOffset, FleetError, Id, RecordRef, TrackPoint, TrajectoryStore,
};
use weir_protocol::types::{Offset, PartitionId, TimestampMs};

const GROUP: &str = "weir-worker";
const TOPIC: &str = "drone-events";

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
        record: RecordRef { partition: PartitionId(partition), offset: Offset(offset) },
    }
}

fn offset(partition: i32, next: i64) -> ConsumedOffset {
    ConsumedOffset { partition: PartitionId(partition), next: Offset(next) }
}

fn commit<'a>(
    points: &'a [TrackPoint],
    offsets: &'a [ConsumedOffset],
    alerts: &'a [AlertChange],
) -> Commit<'a> {
    Commit { group: GROUP, topic: TOPIC, offsets, points, alerts }
}

#[test]
fn points_and_offsets_survive_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trajectories.db");
    let points = [point("a", 10, 0, 0), point("b", 20, 1, 0), point("a", 30, 0, 1)];
    {
        let mut store = TrajectoryStore::open(&path).unwrap();
        let done = store.commit(&commit(&points, &[offset(0, 2), offset(1, 1)], &[])).unwrap();
        assert_eq!((done.points_stored, done.points_known), (3, 0));
    }
    let mut store = TrajectoryStore::open(&path).unwrap();
    assert_eq!(store.offsets(GROUP, TOPIC).unwrap(), [offset(0, 2), offset(1, 1)]);
    assert!(store.offsets("another", TOPIC).unwrap().is_empty());
    let read = store.points("a", TimestampMs(10), TimestampMs(30), 10).unwrap();
    assert_eq!(read, [points[0].clone(), points[2].clone()]);
    assert_eq!(store.points("a", TimestampMs(11), TimestampMs(29), 10).unwrap(), []);
    assert_eq!(store.points("a", TimestampMs(0), TimestampMs(99), 1).unwrap().len(), 1);
    assert_eq!(
        store.last_points(TimestampMs(i64::MAX)).unwrap(),
        [points[2].clone(), points[1].clone()]
    );
    let done = store.commit(&commit(&points, &[offset(0, 2)], &[])).unwrap();
    assert_eq!((done.points_stored, done.points_known), (0, 3));
    assert_eq!(store.counts().unwrap(), [("a".to_owned(), 2), ("b".to_owned(), 1)]);
    assert_eq!(store.delete_before(TimestampMs(20)).unwrap(), 1);
    assert_eq!(store.counts().unwrap(), [("a".to_owned(), 1), ("b".to_owned(), 1)]);
}

#[test]
fn a_commit_that_fails_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trajectories.db");
    let mut store = TrajectoryStore::open(&path).unwrap();
    // NULL in a NOT NULL column: SQLite stores NaN as NULL, so the second point fails.
    let mut broken = point("new", 20, 0, 1);
    broken.latitude = f64::NAN;
    let points = [point("new", 10, 0, 0), broken];
    // `INSERT OR IGNORE` would skip a NULL in silence; the store must not.
    let outcome = store.commit(&commit(&points, &[offset(0, 2)], &[]));
    let error = outcome.unwrap_err();
    assert_eq!(error.code(), "WEIR-0603");
    assert!(store.counts().unwrap().is_empty());
    assert!(store.offsets(GROUP, TOPIC).unwrap().is_empty());
    // The device numbers of the failed transaction are forgotten too.
    let done = store.commit(&commit(&points[..1], &[offset(0, 1)], &[])).unwrap();
    assert_eq!(done.points_stored, 1);
    assert_eq!(store.counts().unwrap(), [("new".to_owned(), 1)]);
}

#[test]
fn a_file_of_a_newer_weir_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trajectories.db");
    drop(TrajectoryStore::open(&path).unwrap());
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(connection);
    let error = TrajectoryStore::open(&path).unwrap_err();
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
    let mut store = TrajectoryStore::open(&path).unwrap();
    store.commit(&commit(&[], &[offset(0, 6)], std::slice::from_ref(&raised))).unwrap();
    drop(store);

    let mut store = TrajectoryStore::open(&path).unwrap();
    assert_eq!(store.unpublished().unwrap(), std::slice::from_ref(&raised));
    assert_eq!(store.open_alerts().unwrap(), [raised.alert().clone()]);
    // A replay of the same records stores the same alert: still one.
    store.commit(&commit(&[], &[offset(0, 6)], std::slice::from_ref(&raised))).unwrap();
    store.mark_published(std::slice::from_ref(&raised)).unwrap();
    store.commit(&commit(&[], &[offset(0, 6)], std::slice::from_ref(&raised))).unwrap();
    assert!(store.unpublished().unwrap().is_empty(), "published once is published");

    let cleared = engine.on_battery(90.0, occasion(50)).unwrap();
    store.commit(&commit(&[], &[offset(0, 7)], std::slice::from_ref(&cleared))).unwrap();
    assert!(store.open_alerts().unwrap().is_empty());
    assert_eq!(store.unpublished().unwrap(), std::slice::from_ref(&cleared));
    store.mark_published(std::slice::from_ref(&cleared)).unwrap();
    assert!(store.unpublished().unwrap().is_empty());
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
        let mut store = TrajectoryStore::open(&path).unwrap();
        let mut position = 0_usize;
        let mut seen = BTreeSet::new();
        for step in steps {
            match step {
                Step::Commit(count) => {
                    let end = (position + count).min(log.len());
                    store
                        .commit(&commit(&log[position..end], &[offset(0, end as i64)], &[]))
                        .unwrap();
                    seen.extend(position..end);
                    position = end;
                }
                Step::Reopen => {
                    drop(store);
                    store = TrajectoryStore::open(&path).unwrap();
                    let offsets = store.offsets(GROUP, TOPIC).unwrap();
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

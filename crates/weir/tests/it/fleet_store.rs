//! fleet.db: which cluster its positions are of, what two nodes share, how long points stay.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use weir_fleet::TrajectoryStore;
use weir_protocol::types::TimestampMs;

use crate::main_job::records;
use crate::process::{cluster, command, eventually, Weir};

fn fix(device: &str, number: u32, battery: u32) -> String {
    let latitude = 40.0 + f64::from(number) * 1e-4;
    format!(
        r#"{{"type":"drone.location.updated","source":"t","data":{{"drone_id":"{device}","location":{{"latitude":{latitude},"longitude":5.0,"altitude":10}},"battery":{battery}}}}}"#
    )
}

fn post(weir: &Weir, events: &[String]) {
    let (status, answer) = weir.post(&events.join("\n"));
    // One event is answered by itself.
    let rejected = answer.get("rejected").unwrap_or(&Value::Null);
    assert!(status == 200 && rejected.as_u64().unwrap_or(0) == 0, "{answer}");
}

/// Points by device; none while the file is not there.
fn points(data_dir: &Path) -> Vec<(String, u64)> {
    let path = data_dir.join("fleet.db");
    match path.exists() {
        true => TrajectoryStore::open(&path, TimestampMs(0)).unwrap().counts().unwrap(),
        false => Vec::new(),
    }
}

fn wait_for_points(what: &str, data_dir: &Path, of: &str, count: u64) {
    eventually(what, 60, || {
        let found = points(data_dir);
        let of = found.iter().filter(|(device, _)| device.starts_with(of));
        (of.map(|(_, points)| points).sum::<u64>() == count).then_some(())
    });
}

pub(crate) fn log(data_dir: &Path) -> String {
    fs::read_to_string(data_dir.join("stderr.log")).unwrap()
}

fn alert_ids(brokers: &str) -> Vec<String> {
    let id = |value: &[u8]| -> Option<String> {
        let event: Value = serde_json::from_slice(value).ok()?;
        Some(event["data"]["alert_id"].as_str()?.to_owned())
    };
    let records = records(brokers, "alert-events");
    records.iter().filter_map(|record| id(record.value.as_deref()?)).collect()
}

#[test]
fn positions_of_one_cluster_mean_nothing_on_another() {
    if cluster().is_some() {
        return; // It brings two clusters of its own.
    }
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let embedded = Weir::up(one.path(), &[]);
    let events = |of: &str, count: u32| -> Vec<String> {
        (0..count).map(|number| fix(&format!("{of}{}", number % 9), number, 50)).collect()
    };
    post(&embedded, &events("first", 60));
    wait_for_points("points on the embedded broker", one.path(), "first", 60);
    embedded.terminate();

    let other = Weir::up(two.path(), &[]);
    post(&other, &events("second", 90));
    wait_for_points("points on the other cluster", two.path(), "second", 90);
    // The first directory on the second cluster, as a reader of its own.
    let config = one.path().join("weir.yaml");
    fs::write(&config, "kafka: {group_id: another}\n").unwrap();
    let args = ["--brokers", &other.kafka, "--config", config.to_str().unwrap()];
    let moved = Weir::up(one.path(), &args);
    wait_for_points("every point of the other cluster", one.path(), "second", 90);
    wait_for_points("and those that were there", one.path(), "first", 60);
    assert!(log(one.path()).contains("is of another cluster"), "{}", log(one.path()));
    moved.terminate();
}

#[test]
fn a_second_node_goes_on_where_the_group_stands_and_tells_no_alert_again() {
    if cluster().is_some() {
        return; // It needs alert-events for itself.
    }
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = Weir::up(one.path(), &[]);
    let devices: Vec<String> = (0..20).map(|number| format!("d{number}")).collect();
    for (number, battery) in [(0, 10), (1, 90)] {
        let events: Vec<String> = devices.iter().map(|d| fix(d, number, battery)).collect();
        post(&first, &events);
    }
    wait_for_points("the first node's points", one.path(), "d", 40);
    let told = eventually("every alert, raised and cleared", 20, || {
        let ids = alert_ids(&first.kafka);
        (ids.len() == 40).then_some(ids)
    });

    let second = Weir::up(two.path(), &["--brokers", &first.kafka]);
    eventually("both are in the group", 60, || {
        let state = first.get("/api/state");
        let groups = state["groups"].as_array()?;
        let group = groups.iter().find(|g| g["name"].as_str().unwrap().ends_with("-fleet"))?;
        (group["members"] == 2 && group["state"] == "Stable").then_some(())
    });
    // Every partition has something new; who reads which is the group's matter.
    let events: Vec<String> = devices.iter().map(|device| fix(device, 2, 50)).collect();
    post(&first, &events);
    eventually("each of the new points is in one of the two files", 60, || {
        let count = |of: &Path| points(of).iter().map(|(_, points)| points).sum::<u64>();
        (count(one.path()) + count(two.path()) == 60).then_some(())
    });
    assert!(!points(two.path()).is_empty(), "the second node reads a part");
    assert!(points(two.path()).iter().all(|(_, points)| *points == 1), "{:?}", points(two.path()));
    let again = alert_ids(&first.kafka);
    assert_eq!(again.len(), told.len(), "no alert is told again");
    assert_eq!(again.iter().collect::<BTreeSet<_>>().len(), 20, "each was raised and cleared");
    second.terminate();
    first.terminate();
}

#[test]
fn points_of_old_tracks_stay_as_long_as_any() {
    let directory = tempfile::tempdir().unwrap();
    let old = |number: u32| {
        format!(
            r#"{{"type":"drone.location.updated","source":"t","timestamp":"2018-08-01T12:00:{number:02}Z","data":{{"device_id":"old-4b1812","location":{{"latitude":47.0,"longitude":8.0}}}}}}"#
        )
    };
    let weir = Weir::up(directory.path(), &[]);
    post(&weir, &(0..5).map(old).collect::<Vec<_>>());
    wait_for_points("the points are stored", directory.path(), "old-4b1812", 5);
    weir.terminate();
    let weir = Weir::up(directory.path(), &[]);
    // What is old is deleted in the worker's first turn: the second record comes after it.
    post(&weir, &[old(10)]);
    wait_for_points("a new one comes after the cleaning", directory.path(), "old-4b1812", 6);
    post(&weir, &[old(11)]);
    wait_for_points("and another", directory.path(), "old-4b1812", 7);
    assert!(!log(directory.path()).contains("old points"), "{}", log(directory.path()));
    weir.terminate();
}

#[test]
fn a_burst_of_alerts_is_told_once_each_and_in_batches() {
    if cluster().is_some() {
        return; // It needs alert-events for itself.
    }
    let directory = tempfile::tempdir().unwrap();
    let weir = Weir::up(directory.path(), &[]);
    let low = |number: u32| {
        format!(
            r#"{{"type":"drone.heartbeat","source":"t","data":{{"drone_id":"low{number}","battery":5}}}}"#
        )
    };
    post(&weir, &(0..3_000).map(low).collect::<Vec<_>>());
    let ids = eventually("every alert is told", 60, || {
        let ids = alert_ids(&weir.kafka);
        (ids.len() >= 3_000).then_some(ids)
    });
    assert_eq!(ids.len(), 3_000);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 3_000, "each once");
    // One at a time they would have been one batch each.
    let segments = fs::read_dir(directory.path().join("kafka")).unwrap().flatten();
    let bytes: u64 = segments
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("alert-events-"))
        .map(|entry| fs::metadata(entry.path().join("00000000000000000000.log")).unwrap().len())
        .sum();
    let record: usize = records(&weir.kafka, "alert-events")
        .iter()
        .map(|record| record.value.as_ref().map_or(0, |value| value.len()))
        .sum();
    assert!(bytes > record as u64 / 20, "{bytes} bytes hold {record}");
    weir.terminate();
}

#[test]
fn points_of_a_topic_made_again_while_weir_runs_are_stored_once_though_it_is_killed() {
    if cluster().is_some() {
        return; // It deletes drone-events.
    }
    let dir = tempfile::tempdir().unwrap();
    // The group's positions are no help: none is committed before the kill.
    let config = dir.path().join("weir.yaml");
    fs::write(&config, "kafka: {commit_interval: 1h}\n").unwrap();
    let args = ["--config", config.to_str().unwrap()];
    let weir = Weir::up(dir.path(), &args);
    let events = |of: &str, count: u32| -> Vec<String> {
        (0..count).map(|number| fix(&format!("{of}{}", number % 30), number, 50)).collect()
    };
    post(&weir, &events("first", 60));
    wait_for_points("points of the first topic", dir.path(), "first", 60);
    let mut delete = command();
    delete.args(["topics", "--brokers", &weir.kafka, "--delete", "drone-events", "--yes"]);
    let deleted = delete.output().unwrap();
    assert!(deleted.status.success(), "{deleted:?}");
    post(&weir, &events("second", 150));
    wait_for_points("points of the second topic", dir.path(), "second", 150);
    weir.kill();

    let weir = Weir::up(dir.path(), &args);
    post(&weir, &events("third", 60));
    wait_for_points("points after the restart", dir.path(), "third", 60);
    wait_for_points("those of the second topic once each", dir.path(), "second", 150);
    wait_for_points("those of the first are kept", dir.path(), "first", 60);
    assert!(!log(dir.path()).contains("is of another cluster"), "{}", log(dir.path()));
    weir.terminate();
}

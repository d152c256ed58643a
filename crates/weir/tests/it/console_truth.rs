//! What the console and `/metrics` say holds whatever lies in the log.

use std::fs;

use serde_json::Value;

use crate::damage::find;
use crate::process::{cluster, command, eventually, get, Weir};

fn flip_a_byte_of(data_dir: &std::path::Path, topic: &str, text: &str) {
    let (log, at) = find(data_dir, topic, text);
    let mut bytes = fs::read(&log).unwrap();
    bytes[at] ^= 1;
    fs::write(&log, bytes).unwrap();
}

fn post(weir: &Weir, event: &str) {
    let (status, answer) = weir.post(event);
    assert_eq!(status, 200, "{answer}");
}

fn alert(id: &str) -> String {
    format!(
        r#"{{"id":"ev-{id}","type":"alert.created","source":"m","data":{{"alert_id":"{id}","type":"x","level":"warning","message":"m","drone_id":1,"auto_action":"return_to_base"}}}}"#
    )
}

fn without_fleet(weir_dir: &std::path::Path) -> String {
    let config = weir_dir.join("without-fleet.yaml");
    fs::write(&config, "layers: {fleet: false}\n").unwrap();
    config.to_str().unwrap().to_owned()
}

#[test]
fn alerts_behind_a_damaged_batch_are_shown() {
    if cluster().is_some() {
        return; // It damages the log of the embedded broker.
    }
    let directory = tempfile::tempdir().unwrap();
    let weir = Weir::up(directory.path(), &["--config", &without_fleet(directory.path())]);
    for id in ["AL0", "AL1", "AL2"] {
        post(&weir, &alert(id));
    }
    weir.terminate();
    flip_a_byte_of(directory.path(), "alert-events", "ev-AL1");

    let weir = Weir::up(directory.path(), &[]);
    let shown = |weir: &Weir| -> Vec<String> {
        let state = weir.get("/api/state");
        let alerts = state["alerts"].as_array().unwrap();
        alerts.iter().map(|alert| alert["id"].as_str().unwrap().to_owned()).collect()
    };
    eventually("the alerts around it are shown", 20, || {
        let shown = shown(&weir);
        (shown.contains(&"AL0".to_owned()) && shown.contains(&"AL2".to_owned())).then_some(())
    });
    post(&weir, &alert("AL9"));
    eventually("and a new one", 20, || shown(&weir).contains(&"AL9".to_owned()).then_some(()));
    assert!(!shown(&weir).contains(&"AL1".to_owned()));
    weir.terminate();
    let log = fs::read_to_string(directory.path().join("stderr.log")).unwrap();
    assert_eq!(log.matches("views of tasks and alerts: the batch is damaged").count(), 3, "{log}");
    assert!(!log.contains("views of tasks and alerts: trying again"), "{log}");
}

#[test]
fn a_group_before_a_damaged_batch_does_not_freeze_the_others() {
    if cluster().is_some() {
        return; // It damages the log of the embedded broker.
    }
    let directory = tempfile::tempdir().unwrap();
    let weir = Weir::up(directory.path(), &["--config", &without_fleet(directory.path())]);
    for number in 0..3 {
        let event = format!(
            r#"{{"id":"ev-{number}","type":"order.x","source":"m","data":{{"order_id":1}}}}"#
        );
        post(&weir, &event);
    }
    weir.terminate();
    flip_a_byte_of(directory.path(), "order-events", "ev-0");

    let weir = Weir::up(directory.path(), &[]);
    let reset = |group: &str, topic: &str| {
        let args =
            ["ops", "reset-offset", group, topic, "earliest", "--yes", "--brokers", &weir.kafka];
        let done = command().args(args).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    let group = |name: &str| {
        let state = weir.get("/api/state");
        state["groups"].as_array()?.iter().find(|group| group["name"] == name).cloned()
    };
    reset("stuck", "order-events");
    let stuck = eventually("the group before it is shown", 20, || group("stuck"));
    assert_eq!((&stuck["lag"], &stuck["lag_ms"]), (&Value::from(3), &Value::Null), "{stuck}");
    reset("second", "order-events");
    reset("third", "drone-events");
    eventually("and those that come after it", 20, || group("second").and(group("third")));
    let said = || fs::read_to_string(directory.path().join("stderr.log")).unwrap();
    eventually("it is said once for each", 20, || {
        (said().matches("the age of this group's lag").count() == 2).then_some(())
    });
    weir.terminate();
    assert_eq!(said().matches("the age of this group's lag").count(), 2, "{}", said());
}

#[test]
fn metrics_log_and_console_have_what_the_specification_names() {
    let directory = tempfile::tempdir().unwrap();
    let weir = Weir::up(directory.path(), &[]);
    post(
        &weir,
        r#"{"type":"drone.location.updated","source":"t","data":{"drone_id":"truth","location":{"latitude":1,"longitude":2}}}"#,
    );
    post(
        &weir,
        r#"{"type":"drone.status.changed","source":"t","data":{"drone_id":"truth","old_status":"idle","new_status":"flying","reason":"mission"}}"#,
    );
    eventually("/metrics has the names of the alert rules", 20, || {
        let (_, text) = get(&format!("{}/metrics", weir.gateway));
        let has = |name: &str| text.lines().any(|line| line.starts_with(name));
        (has("kafka_consumer_lag_sum{group=")
            && has(r#"kafka_partition_online_replicas{topic="drone-events",partition="0"}"#)
            && has(r#"kafka_partition_replicas{topic="drone-events",partition="0"}"#))
        .then_some(())
    });
    eventually("the console has the tail of the latency", 20, || {
        weir.get("/api/state")["overview"]["p999_ms"].as_f64()
    });
    let event = eventually("the console has the event in words", 20, || {
        let device = weir.get("/api/device?id=truth");
        device["events"].as_array()?.iter().find(|e| e["summary"] != "").cloned()
    });
    assert_eq!(event["summary"], "idle → flying: mission", "{event}");
    let log = eventually("the line of spec 003 is there at the default level", 10, || {
        let log = fs::read_to_string(directory.path().join("stderr.log")).unwrap();
        log.contains("Consumed message, trace_id=").then_some(log)
    });
    let line = log.lines().find(|line| line.contains("Consumed message")).unwrap();
    assert!(line.contains(", offset="), "{line}");
    weir.terminate();
}

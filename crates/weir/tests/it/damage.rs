//! A byte of the log has changed on its disk: the worker says so and goes on.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::main_job::records;
use crate::process::{cluster, eventually, get, Weir};

/// The segment of the topic that holds this text, and where.
pub(crate) fn find(data_dir: &Path, topic: &str, text: &str) -> (PathBuf, usize) {
    let partitions = fs::read_dir(data_dir.join("kafka")).unwrap().flatten();
    let logs = partitions
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(topic))
        .map(|entry| entry.path().join("00000000000000000000.log"));
    logs.filter_map(|log| {
        let bytes = fs::read(&log).ok()?;
        let at = bytes.windows(text.len()).position(|window| window == text.as_bytes())?;
        Some((log, at))
    })
    .next()
    .expect("it was written")
}

#[test]
fn the_worker_goes_past_a_damaged_batch_and_says_what_it_skipped() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("without-fleet.yaml");
    fs::write(&config, "layers: {fleet: false}\n").unwrap();
    if cluster().is_some() {
        return; // It damages the log of the embedded broker.
    }
    let weir = Weir::up(directory.path(), &["--config", config.to_str().unwrap()]);
    for number in 0..3 {
        // One batch each, in one partition.
        let (status, answer) = weir.post(&format!(
            r#"{{"id":"event-{number}","type":"drone.heartbeat","source":"t","data":{{"drone_id":"d"}}}}"#
        ));
        assert_eq!(status, 200, "{answer}");
    }
    weir.terminate();
    let (log, at) = find(directory.path(), "drone-events", "event-1");
    let mut bytes = fs::read(&log).unwrap();
    bytes[at] ^= 1;
    fs::write(&log, bytes).unwrap();

    let weir = Weir::up(directory.path(), &[]);
    eventually("the worker goes past it", 20, || {
        let (_, text) = get(&format!("{}/metrics", weir.gateway));
        text.contains("weir_worker_batches_skipped_total 1").then_some(())
    });
    eventually("the records around it are handled", 20, || {
        let (_, text) = get(&format!("{}/metrics", weir.gateway));
        let line = text.lines().find(|line| {
            line.starts_with("kafka_event_processing_duration_seconds_count")
                && line.contains("drone.heartbeat")
        })?;
        line.ends_with(" 2").then_some(())
    });
    let health = eventually("an event tells of it", 10, || {
        records(&weir.kafka, "system-events").iter().find_map(|record| {
            let event: Value = serde_json::from_slice(record.value.as_deref()?).ok()?;
            (event["type"] == "system.health").then_some(event)
        })
    });
    assert_eq!(health["data"]["code"], "WEIR-0422", "{health}");
    let reason = health["data"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("records 1 to 2 (exclusive) of drone-events-"), "{reason}");
    let log = fs::read_to_string(directory.path().join("stderr.log")).unwrap();
    assert_eq!(log.matches("the batch is damaged").count(), 3, "{log}");
    assert!(log.contains("WEIR-0422") && log.contains("records are skipped"), "{log}");
}

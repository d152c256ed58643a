//! The main job: events in by HTTP, on Kafka under the right topic and key, a fleet that flies,
//! and all of it there again after a restart.
//!
//! With `WEIR_TEST_BROKERS=host:port` the same tests run on that Kafka.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{json, Value};
use weir_client::{
    Admin, AutoOffsetReset, Client, ClientConfig, ConsumedRecord, Consumer, ConsumerConfig,
    TopicPartition,
};

use crate::process::{cluster, command, eventually, up_fails, Weir};

/// The three samples of spec 001, as written there.
const SAMPLES: [(&str, &str, &str); 3] = [
    (
        "drone-events",
        "1",
        r#"{
  "id": "event-uuid",
  "type": "drone.status.changed",
  "source": "drone-control-service",
  "timestamp": "2025-08-03T10:30:00Z",
  "data": {
    "drone_id": 1,
    "old_status": "idle",
    "new_status": "flying",
    "location": {
      "latitude": 40.7128,
      "longitude": -74.0060,
      "altitude": 100.5
    },
    "battery": 85
  }
}"#,
    ),
    (
        "task-events",
        "1",
        r#"{
  "id": "event-uuid",
  "type": "task.progress",
  "source": "task-service",
  "timestamp": "2025-08-03T10:35:00Z",
  "data": {
    "task_id": 123,
    "drone_id": 1,
    "progress": 75,
    "current_step": "巡检点位3",
    "estimated_completion": "2025-08-03T11:00:00Z"
  }
}"#,
    ),
    (
        "alert-events",
        "1",
        r#"{
  "id": "event-uuid",
  "type": "alert.created",
  "source": "monitoring-service",
  "timestamp": "2025-08-03T10:40:00Z",
  "data": {
    "alert_id": 456,
    "type": "battery_low",
    "level": "warning",
    "message": "无人机电量低于20%",
    "drone_id": 1,
    "auto_action": "return_to_base"
  }
}"#,
    ),
];

/// Text that no other run has, since topics of a cluster outlive a test.
fn unique(what: &str) -> String {
    format!("{what}-{}", uuid::Uuid::new_v4())
}

/// Every record of a topic now, by partition and offset.
pub(crate) fn records(brokers: &str, topic: &str) -> Vec<ConsumedRecord> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::connect_tcp(ClientConfig::new([brokers])).await.unwrap();
        let admin = Admin::new(Arc::clone(&client));
        let topic = admin.describe_topic(topic).await.unwrap();
        let partitions: Vec<_> = topic
            .partitions
            .iter()
            .map(|p| TopicPartition::new(&topic.name, p.partition))
            .collect();
        let asked: Vec<_> = partitions
            .iter()
            .map(|p| (p.clone(), weir_client::admin::OffsetSpec::Latest))
            .collect();
        let ends: BTreeMap<_, _> = admin.list_offsets(&asked).await.unwrap().into_iter().collect();
        let config =
            ConsumerConfig { auto_offset_reset: AutoOffsetReset::Earliest, ..Default::default() };
        let consumer = Consumer::new(client, config).unwrap();
        consumer.assign(&partitions).unwrap();
        let mut records = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(30);
        let at_end = |consumer: &Consumer| {
            ends.iter().all(|(partition, end)| {
                end.is_none_or(|end| end.get() == 0 || consumer.position(partition) >= Some(end))
            })
        };
        while !at_end(&consumer) {
            assert!(Instant::now() < deadline, "cannot read {} to its end", topic.name);
            records.extend(consumer.poll(Duration::from_millis(100)).await.unwrap());
        }
        records
    })
}

fn find<'a>(records: &'a [ConsumedRecord], value: &str) -> Vec<&'a ConsumedRecord> {
    records.iter().filter(|record| record.value.as_deref() == Some(value.as_bytes())).collect()
}

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}

#[test]
fn samples_of_the_specification_lie_in_their_topics_under_their_keys_as_they_came() {
    let dir = tempfile::tempdir().unwrap();
    let weir = Weir::up(dir.path(), &[]);
    for (topic, key, sample) in SAMPLES {
        // All three have the id "event-uuid", from three sources.
        let (status, answer) = weir.post(sample);
        assert_eq!((status, answer["status"].as_str()), (200, Some("accepted")), "{answer}");
        assert_eq!(answer["topic"], topic);
        let records = records(&weir.kafka, topic);
        // A cluster may have them of an earlier run too.
        let record = find(&records, sample).pop().unwrap();
        // Spec 001 keys a task event by its drone: device ids come before task ids.
        assert_eq!(text(record.key.as_deref()), key);
        assert_eq!(i64::from(record.partition.get()), answer["partition"].as_i64().unwrap());
        assert_eq!(Some(record.offset.get()), answer["offset"].as_i64());
        assert_eq!(text(record.header("event-id")), answer["id"].as_str().unwrap());

        let (status, again) = weir.post(sample);
        assert_eq!((status, again["status"].as_str()), (200, Some("duplicate")), "{again}");
        assert_eq!(again["offset"], answer["offset"]);
    }
}

#[test]
fn smallest_event_topic_and_priority_are_obeyed() {
    let dir = tempfile::tempdir().unwrap();
    let weir = Weir::up(dir.path(), &[]);
    assert!(weir.banner.contains("ready in"), "{}", weir.banner);
    let (status, answer) =
        weir.post(r#"{"type":"drone.heartbeat","source":"t","data":{"drone_id":1}}"#);
    assert_eq!((status, answer["topic"].as_str()), (200, Some("drone-events")), "{answer}");

    let source = unique("t");
    let event = json!({"type": "drone.heartbeat", "source": source, "data": {"drone_id": 1},
                       "topic": "user-events", "priority": "urgent"})
    .to_string();
    let (status, answer) = weir.post(&event);
    assert_eq!((status, answer["topic"].as_str()), (200, Some("user-events")), "{answer}");
    let records = records(&weir.kafka, "user-events");
    let found = find(&records, &event);
    assert_eq!(found.len(), 1);
    assert_eq!(text(found[0].header("priority")), "urgent");
    assert_eq!(text(found[0].header("event-type")), "drone.heartbeat");
    assert_eq!(text(found[0].header("trace_id")).len(), 32);
    assert!(text(found[0].header("seq")).parse::<u64>().is_ok());
}

#[test]
fn each_fault_is_named_and_the_good_events_of_the_same_batch_go_through() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("small.yaml");
    std::fs::write(&config, "gateway: {body_bytes_max: 4096}").unwrap();
    let weir = Weir::up(dir.path(), &["--config", config.to_str().unwrap()]);
    let huge = format!(
        r#"{{"type":"drone.heartbeat","source":"t","data":{{"drone_id":1,"x":"{}"}}}}"#,
        "x".repeat(5000)
    );
    let faults = [
        ("{\"type\":", 400, "WEIR-0901"),
        (r#"{"type":"nothing.known","source":"t","data":{}}"#, 400, "WEIR-0903"),
        (r#"{"type":"drone.x","source":"t","data":{},"priority":"asap"}"#, 400, "WEIR-0433"),
        (r#"{"type":"drone.x","source":"t","data":{},"prioritty":"low"}"#, 400, "WEIR-0431"),
        (r#"{"type":"drone.heartbeat","source":"t","data":{}}"#, 400, "WEIR-0905"),
        (r#"{"type":"drone.heartbeat","data":{"drone_id":1}}"#, 400, "WEIR-0432"),
    ];
    for (body, status, code) in faults.into_iter().chain([(huge.as_str(), 413, "WEIR-0906")]) {
        let (got, answer) = weir.post(body);
        let shown = body.get(..60).unwrap_or(body);
        assert_eq!((got, answer["code"].as_str()), (status, Some(code)), "{shown}: {answer}");
        assert!(!answer["message"].as_str().unwrap().is_empty());
    }
    let good = |n: u32| {
        format!(r#"{{"type":"drone.heartbeat","source":"batch","data":{{"drone_id":{n}}}}}"#)
    };
    let mut lines: Vec<String> = faults.iter().map(|(body, ..)| (*body).to_owned()).collect();
    lines.insert(0, good(1));
    lines.insert(3, good(2));
    lines.push(good(3));
    let (status, answer) = weir.post(&lines.join("\n"));
    assert_eq!(status, 207, "{answer}");
    assert_eq!((answer["accepted"].as_u64(), answer["rejected"].as_u64()), (Some(3), Some(6)));
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), lines.len());
    for (index, line) in lines.iter().enumerate() {
        let accepted = results[index]["status"] == "accepted";
        assert_eq!(accepted, line.contains("\"batch\""), "{line}: {}", results[index]);
    }
}

#[test]
fn stream_takes_the_same_bodies_as_the_post_and_answers_each_in_order() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;

    let dir = tempfile::tempdir().unwrap();
    let weir = Weir::up(dir.path(), &[]);
    let url = format!("{}/v1/stream", weir.gateway.replacen("http", "ws", 1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answers: Vec<Value> = runtime.block_on(async {
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        let event = r#"{"type":"drone.heartbeat","source":"ws","data":{"drone_id":1}}"#;
        for body in [event.to_owned(), format!("[{event},{event}]"), "{\"type\":".to_owned()] {
            socket.send(Message::text(body)).await.unwrap();
        }
        let mut answers = Vec::new();
        while answers.len() < 3 {
            let answer = tokio::time::timeout(Duration::from_secs(10), socket.next()).await;
            if let Message::Text(text) = answer.unwrap().unwrap().unwrap() {
                answers.push(serde_json::from_str(&text).unwrap());
            }
        }
        answers
    });
    assert_eq!(answers[0]["status"], "accepted", "{answers:?}");
    assert_eq!(answers[1]["accepted"], 2, "{answers:?}");
    assert_eq!(answers[2]["code"], "WEIR-0901", "{answers:?}");
}

/// accepted = delivered + queued + in flight + spilled + dropped; what was refused is no longer
/// accepted, and its caller knows.
pub(crate) fn balances(stats: &Value) -> bool {
    let total = &stats["ledger"]["total"];
    let number = |value: &Value| value.as_u64().unwrap();
    let sum = |value: &Value| value.as_object().unwrap().values().map(number).sum::<u64>();
    let places = ["delivered", "queued", "in_flight", "spilled"];
    let held: u64 = places.iter().map(|name| number(&total[name])).sum();
    let accepted = number(&total["accepted"]);
    accepted == held + sum(&total["dropped"])
        && number(&total["offered"]) == accepted + sum(&total["rejected"]) + sum(&total["refused"])
        && total["balanced"] == true
}

#[test]
fn stats_have_the_fields_of_the_specification_and_the_ledger_balances_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let weir = Weir::up(dir.path(), &[]);
    let done = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = 0;
            while !done.load(Ordering::Acquire) {
                let stats = weir.get("/stats");
                assert!(balances(&stats), "{stats}");
                seen += 1;
            }
            seen
        });
        let senders: Vec<_> = (0..3)
            .map(|sender| {
                let weir = &weir;
                scope.spawn(move || {
                    for _ in 0..10 {
                        let line = format!(
                            r#"{{"type":"drone.heartbeat","source":"load","data":{{"drone_id":{sender}}}}}"#
                        );
                        let (status, answer) = weir.post(&vec![line; 300].join("\n"));
                        assert_eq!((status, answer["accepted"].as_u64()), (200, Some(300)));
                    }
                })
            })
            .collect();
        for sender in senders {
            sender.join().unwrap();
        }
        done.store(true, Ordering::Release);
        watcher.join().unwrap()
    });
    assert!(seen > 0);
    let stats = weir.get("/stats");
    for field in [
        "total_messages",
        "buffered_messages",
        "dropped_messages",
        "throughput_per_sec",
        "current_queue_size",
        "avg_processing_time_ms",
    ] {
        assert!(stats[field].is_number(), "{field} is missing in {stats}");
    }
    assert!(stats["total_messages"].as_u64().unwrap() >= 9_000);
    assert_eq!(stats["dropped_messages"], 0);
    let (status, metrics) = crate::process::get(&format!("{}/metrics", weir.gateway));
    assert_eq!(status, 200);
    assert!(metrics.contains("kafka_events_published_total{topic=\"drone-events\""), "{metrics}");
}

#[test]
fn full_lane_is_answered_429_with_retry_after_and_the_ledger_balances() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("slow.yaml");
    let yaml = "traffic_control: {buffer_size: 10, batch_size: 5, max_rate: 20}";
    std::fs::write(&config, yaml).unwrap();
    let weir = Weir::up(dir.path(), &["--config", config.to_str().unwrap()]);
    let line = |n: u32| {
        format!(r#"{{"type":"drone.heartbeat","source":"flood","data":{{"drone_id":{n}}}}}"#)
    };
    let body: Vec<String> = (0..60).map(line).collect();
    let (status, answer) = weir.post(&body.join("\n"));
    assert_eq!(status, 207, "{answer}");
    assert!(answer["accepted"].as_u64().unwrap() > 0, "{answer}");
    let refused: Vec<&Value> =
        answer["results"].as_array().unwrap().iter().filter(|r| r["code"] == "WEIR-0501").collect();
    assert!(!refused.is_empty(), "{answer}");
    assert!(refused
        .iter()
        .all(|r| r["retry_after_ms"].as_u64() > Some(0) && r["http_status"] == 429));
    let stats = weir.get("/stats");
    assert!(balances(&stats), "{stats}");
    let rejected = stats["ledger"]["total"]["rejected"]["lane_full"].as_u64().unwrap();
    assert!(rejected >= refused.len() as u64, "{stats}");
}

#[test]
fn ingest_sends_every_line_once_through_refusals_and_reports_the_bad_ones() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("slow.yaml");
    let yaml = "traffic_control: {buffer_size: 200, batch_size: 100, max_rate: 2000}";
    std::fs::write(&config, yaml).unwrap();
    let weir = Weir::up(dir.path(), &["--config", config.to_str().unwrap()]);
    let source = unique("ingest");
    // 501 good lines: the last request has one event. None has an id. Two lines are bad.
    let line = |n: u32| {
        format!(
            r#"{{"type":"drone.heartbeat","source":"{source}","data":{{"drone_id":{},"n":{n}}}}}"#,
            n % 7
        )
    };
    let mut lines: Vec<String> = (0..501).map(line).collect();
    lines.insert(100, "{\"type\":".to_owned());
    lines.insert(300, r#"{"type":"nothing.known","source":"x","data":{}}"#.to_owned());
    let file = dir.path().join("events.ndjson");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let ran = command()
        .args([
            "ingest",
            file.to_str().unwrap(),
            "--gateway",
            &weir.gateway,
            "--json",
            "--batch",
            "251",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    let result: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(
        (result["events"]["accepted"].as_u64(), result["events"]["refused"].as_u64()),
        (Some(501), Some(2)),
        "{result} {said}"
    );
    assert!(result["events"]["retried"].as_u64() > Some(0), "no line met a full lane: {result}");
    assert!(said.contains("line 101: WEIR-0901") && said.contains("line 301: WEIR-0903"), "{said}");
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    let mut count = 0;
    for record in records(&weir.kafka, "drone-events") {
        if text(record.header("source")) != source {
            continue;
        }
        count += 1;
        let event: Value = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
        let n = event["data"]["n"].as_u64().unwrap();
        let before = last.insert(text(record.key.as_deref()), n);
        assert!(before.is_none_or(|before| before < n), "order of a device");
    }
    assert_eq!(count, 501, "every line is there once");
}

/// Events of a topic as JSON, with their partition.
fn events(brokers: &str, topic: &str) -> Vec<Value> {
    let parse = |record: &ConsumedRecord| serde_json::from_slice(record.value.as_deref()?).ok();
    records(brokers, topic).iter().filter_map(parse).collect()
}

#[test]
fn demo_fills_every_topic_raises_its_alerts_and_the_drone_turns_home_and_a_restart_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let started_ms = u64::try_from(since_1970.as_millis()).unwrap();
    let weir = Weir::up(dir.path(), &["--demo"]);
    eventually("drones are on the map within 10 s", 10, || {
        (weir.get("/api/state")["devices_total"].as_u64()? >= 20).then_some(())
    });
    let low = eventually("a zone breach and a battery alert within 60 s", 60, || {
        let state = weir.get("/api/state");
        // A cluster still has the alerts of earlier runs.
        let alert = |kind: &str| {
            let mut alerts = state["alerts"].as_array()?.iter();
            alerts.find(|a| a["kind"] == kind && a["at_ms"].as_u64() >= Some(started_ms)).cloned()
        };
        alert("zone_breach").and(alert("battery_low"))
    });
    assert!(started.elapsed() < Duration::from_secs(60));
    let (drone, action) = (&low["device"], &low["auto_action"]);
    assert_eq!(action, "return_to_base");
    eventually("the drone turns home", 20, || {
        let state = weir.get("/api/state");
        let devices = state["devices"].as_array()?;
        let found = devices.iter().find(|device| &device["device"] == drone)?;
        found["status"].as_str()?.contains("return").then_some(())
    });
    let topics = [
        "drone-events",
        "task-events",
        "user-events",
        "alert-events",
        "system-events",
        "monitoring-data",
        "application-logs",
        "iot-sensor-data",
    ];
    for topic in topics {
        eventually(&format!("{topic} is alive"), 30, || {
            (!records(&weir.kafka, topic).is_empty()).then_some(())
        });
    }
    let published = events(&weir.kafka, "alert-events");
    let kafka_alerts = published.iter().filter(|event| event["type"] == "alert.created");
    assert!(kafka_alerts.clone().any(|event| event["data"]["type"] == "battery_low"));
    let before: BTreeSet<String> =
        published.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect();
    let known = weir.get("/api/state")["devices_total"].as_u64().unwrap();
    let took = weir.terminate();
    assert!(took < Duration::from_secs(2), "stopping took {took:?}");

    let weir = Weir::up(dir.path(), &[]);
    let state = weir.get("/api/state");
    assert!(state["devices_total"].as_u64().unwrap() >= known, "live positions are back at once");
    eventually("alerts are back", 10, || {
        (!weir.get("/api/state")["alerts"].as_array()?.is_empty()).then_some(())
    });
    let after: BTreeSet<String> = events(&weir.kafka, "alert-events")
        .iter()
        .map(|event| event["id"].as_str().unwrap().to_owned())
        .collect();
    assert!(after.is_superset(&before), "alerts survive a restart");
}

#[test]
fn accepted_events_survive_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let source = unique("killed");
    let mut accepted = Vec::new();
    for _ in 0..3 {
        let weir = Weir::up(dir.path(), &[]);
        for n in 0..50 {
            let event = format!(
                r#"{{"type":"drone.heartbeat","source":"{source}","data":{{"drone_id":{n}}}}}"#
            );
            let (status, answer) = weir.post(&event);
            assert_eq!(status, 200, "{answer}");
            accepted.push(answer["id"].as_str().unwrap().to_owned());
        }
        weir.kill();
    }
    let weir = Weir::up(dir.path(), &[]);
    let there: Vec<String> = records(&weir.kafka, "drone-events")
        .iter()
        .filter(|record| text(record.header("source")) == source)
        .map(|record| text(record.header("event-id")))
        .collect();
    let ids: BTreeSet<&String> = there.iter().collect();
    assert_eq!(ids.len(), there.len(), "none is there twice");
    assert!(accepted.iter().all(|id| ids.contains(id)), "every accepted event is there");
}

#[test]
fn second_process_on_the_directory_and_busy_ports_are_told_who_is_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let weir = Weir::up(dir.path(), &[]);
    let second = up_fails(dir.path(), &[]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1));
    assert!(
        said.contains("WEIR-0814") && said.contains(&format!("process {}", weir.pid())),
        "{said}"
    );
    assert!(said.contains(&weir.console), "{said}");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let other = tempfile::tempdir().unwrap();
    for flag in ["--gateway-port", "--console-port", "--kafka-port"] {
        if flag == "--kafka-port" && cluster().is_some() {
            continue;
        }
        let mut command = command();
        command.args(["up", "--data-dir"]).arg(other.path());
        if let Some(brokers) = cluster() {
            command.args(["--brokers", &brokers]);
        }
        let others = ["--gateway-port", "--console-port", "--kafka-port"];
        for free in others.iter().filter(|other| **other != flag) {
            command.args([free, "0"]);
        }
        let failed = command.args([flag, &port]).output().unwrap();
        let said = String::from_utf8_lossy(&failed.stderr).into_owned();
        let me = format!("process {}", std::process::id());
        assert!(said.contains("WEIR-0807") && said.contains(&me), "{flag}: {said}");
    }
}

#[test]
fn open_address_without_authentication_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("open.yaml");
    std::fs::write(&config, "gateway: {listen: \"0.0.0.0:0\"}").unwrap();
    let refused = command()
        .args(["up", "--data-dir"])
        .arg(dir.path())
        .args(["--config", config.to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("WEIR-0815") && said.contains("--insecure-listen"), "{said}");
}

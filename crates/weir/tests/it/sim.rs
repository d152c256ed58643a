//! `weir sim` as its user meets it: the same bytes from any parts, nothing lost on the way, and a verifier
//! that finds what is.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::process::{agent, command, eventually, get, Weir};

fn sim(args: &[&str]) -> Output {
    command().arg("sim").args(args).output().unwrap()
}

fn ok(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&ok(output)).unwrap()
}

fn verify(kafka: &str, more: &[&str]) -> Output {
    sim(&[&["verify", "--brokers", kafka, "--json"], more].concat())
}

const ROUGH: &str = "
profiles:
  - {name: climate, devices: 30, interval: 500ms, sensors: [temperature, humidity, switch]}
  - {name: patrol, devices: 4, interval: 1s, drones: true}
phases: [{duration: 10s, rate: 4, easing: ease-in}, {duration: 10s, rate: 1}]
outages: [{at: 12s, duration: 3s, share: 0.3, after: resend}]
late: {share: 0.05, delay: 1s, delay_max: 5s}
duplicates: {share: 0.05, delay: 1s}
out_of_order: {share: 0.1}
clock_skew: {share: 0.2, offset_max: 1m, drift_ppm: 100}
";

/// Of its own: a cluster that tests share has other records in the usual one.
const TOPIC: &str = "sim-arrives";
/// 300 devices, 10,000 records.
const SMOOTH: [&str; 10] = [
    "--devices",
    "300",
    "--rate",
    "5000",
    "--duration",
    "2s",
    "--start",
    "2025-08-03T10:30:00Z",
    "--topic",
    TOPIC,
];

/// Lines of files by their device, in the order of the file.
fn streams(files: &[&Path]) -> BTreeMap<String, Vec<String>> {
    let mut streams: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in files {
        for line in std::fs::read_to_string(file).unwrap().lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            let data = event.get("data").unwrap_or(&event);
            let id = data.get("device_id").or_else(|| data.get("drone_id")).unwrap();
            // How many a part made is of the part.
            if event["kind"] != "run" {
                streams.entry(id.as_str().unwrap().to_owned()).or_default().push(line.to_owned());
            }
        }
    }
    streams
}

#[test]
fn parts_on_any_number_of_processes_and_threads_write_the_streams_of_one() {
    let dir = tempfile::tempdir().unwrap();
    let scenario = dir.path().join("rough.yaml");
    std::fs::write(&scenario, ROUGH).unwrap();
    let write = |name: &str, more: &[&str]| {
        let file = dir.path().join(name);
        let fixed = ["--seed", "7", "--start", "2025-08-03T10:30:00Z", "--duration", "30s"];
        let paths = ["--scenario", scenario.to_str().unwrap(), "--output", file.to_str().unwrap()];
        ok(&sim(&[&fixed, &paths[..], &["--anomaly-rate", "0.01"], more].concat()));
        (file.clone(), dir.path().join(format!("{name}.truth")))
    };
    let whole = write("whole", &["--speed", "max", "--workers", "1"]);
    let threads = write("threads", &["--speed", "1000", "--workers", "5"]);
    let shards: Vec<_> = ["1/3", "2/3", "3/3"]
        .iter()
        .map(|shard| {
            write(&shard.replace('/', "-"), &["--speed", "max", "--shard", shard, "--workers", "2"])
        })
        .collect();
    let records = streams(&[&whole.0]);
    assert_eq!(records.len(), 34);
    assert!(records.values().map(Vec::len).sum::<usize>() > 5_000);
    assert_eq!(records, streams(&[&threads.0]));
    let of_shards: Vec<&Path> = shards.iter().map(|shard| shard.0.as_path()).collect();
    assert_eq!(records, streams(&of_shards));
    let truths: Vec<&Path> = shards.iter().map(|shard| shard.1.as_path()).collect();
    assert_eq!(streams(&[&whole.1]), streams(&truths));
}

#[test]
fn what_is_sent_arrives_whole_and_a_record_too_many_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let weir = Weir::up(dir.path(), &[]);
    let scenario = dir.path().join("rough.yaml");
    std::fs::write(&scenario, ROUGH).unwrap();
    let fixed = ["--brokers", &weir.kafka, "--json", "--anomaly-rate", "0.01"];
    let smooth =
        json(&sim(&[&fixed[..2], &["--json", "--compression", "lz4"], &SMOOTH[..]].concat()));
    assert_eq!(smooth["dropped"], 0);
    assert_eq!(smooth["success_rate"], 1.0);
    assert!((9_000..=10_000).contains(&smooth["records"].as_u64().unwrap()), "{smooth}");
    let more = [
        "--topic",
        TOPIC,
        "--scenario",
        scenario.to_str().unwrap(),
        "--speed",
        "100",
        "--duration",
        "30s",
        "--seed",
        "2",
    ];
    let rough = json(&sim(&[&fixed[..], &more].concat()));
    let report = json(&verify(&weir.kafka, &["--topic", TOPIC]));
    assert_eq!(
        (&report["lost"], &report["damaged"], &report["runs"]),
        (&0.into(), &0.into(), &2.into()),
        "{report}"
    );
    assert_eq!(
        (&report["duplicates"], &report["out_of_order"]),
        (&0.into(), &0.into()),
        "{report}"
    );
    assert!(report["duplicates_injected"].as_u64().unwrap() > 50, "{report} {rough}");
    assert!(report["out_of_order_injected"].as_u64().unwrap() > 50, "{report}");

    // One more of what is there, and one that was changed on the way: the same run again, into a file.
    let file = dir.path().join("again");
    let more = ["--seed", "1", "--speed", "max", "--output", file.to_str().unwrap()];
    ok(&sim(&[&SMOOTH[..], &more].concat()));
    let text = std::fs::read_to_string(&file).unwrap();
    let one = text.lines().next().unwrap();
    let event: Value = serde_json::from_str(one).unwrap();
    let key = event["data"]["device_id"].as_str().unwrap();
    let changed = one.replacen("\"data\":{", "\"data\":{ ", 1);
    produce(&weir.kafka, &[format!("{key}|{one}"), format!("{key}|{changed}")]);
    let found = verify(&weir.kafka, &["--topic", TOPIC]);
    assert_eq!(found.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!((&report["duplicates"], &report["damaged"]), (&1.into(), &1.into()), "{report}");
    assert!(String::from_utf8_lossy(&found.stderr).contains("WEIR-0704"));
}

fn produce(kafka: &str, lines: &[String]) {
    let mut child = command()
        .args(["produce", TOPIC, "--brokers", kafka, "--key-separator", "|"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{}", lines.join("\n")).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_gateway_takes_the_same_records() {
    let dir = tempfile::tempdir().unwrap();
    let weir = Weir::up(dir.path(), &[]);
    let args = [
        "--gateway",
        &weir.gateway,
        "--devices",
        "50",
        "--rate",
        "500",
        "--duration",
        "2s",
        "--json",
    ];
    let summary = json(&sim(&args));
    assert_eq!(summary["failed"], 0);
    // What goes through a gateway has no ground truth, so its end is not known.
    let report = json(&verify(&weir.kafka, &[]));
    assert_eq!(report["records"], summary["records"]);
    assert_eq!(
        (&report["lost"], &report["damaged"], &report["open_runs"]),
        (&0.into(), &0.into(), &1.into())
    );
}

/// `weir broker`, killed when it is dropped.
struct Broker {
    child: Child,
    address: String,
}

impl Broker {
    fn start(data_dir: &Path, port: &str) -> Self {
        let mut child = command()
            .args(["broker", "--kafka-port", port, "--data-dir"])
            .arg(data_dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let line = lines.find(|line| line.trim_start().starts_with("Kafka")).expect("it is ready");
        let address = line.split_whitespace().nth(1).unwrap().to_owned();
        // Whoever closes the pipe ends the writer.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn nothing_is_lost_while_the_broker_is_killed_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(dir.path(), "0");
    let kafka = broker.address.clone();
    let port = kafka.rsplit(':').next().unwrap().to_owned();
    let mut running: Child = command()
        .args(["sim", "--brokers", &kafka, "--devices", "500", "--rate", "2000"])
        .args(["--duration", "6s", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    for records_min in [1_000_u64, 4_000] {
        eventually("records come", 20, || {
            let report: Value = serde_json::from_slice(&verify(&kafka, &[]).stdout).ok()?;
            (report["records"].as_u64()? > records_min).then_some(())
        });
        drop(broker);
        broker = Broker::start(dir.path(), &port);
    }
    assert!(running.wait().unwrap().success());
    let report = json(&verify(&kafka, &[]));
    assert_eq!(report["open_runs"], 0, "{report}");
    assert!(report["records"].as_u64().unwrap() >= 11_000, "{report}");
}

#[test]
fn what_is_asked_wrongly_is_named_before_anything_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let scenario = dir.path().join("wrong.yaml");
    std::fs::write(&scenario, "late: {share: 3, delay: 1s}").unwrap();
    for (args, words) in [
        (&["--scenario", scenario.to_str().unwrap()][..], &["WEIR-0703", "late.share"][..]),
        (&["--devices", "100001"], &["WEIR-0803", "device_simulation.device_count", "100000"]),
        (&["--interval", "50ms"], &["WEIR-0803", "device_simulation.sample_interval"]),
        (&["--anomaly-rate", "0.2"], &["WEIR-0803", "device_simulation.anomaly_rate", "0.1"]),
        (&["--shard", "4/3"], &["WEIR-0803", "--shard"]),
        (&["--shard", "2/3"], &["WEIR-0803", "--shard", "--start"]),
        (&["--speed", "1001"], &["WEIR-0803", "--speed"]),
        (&["--start", "yesterday"], &["WEIR-0803", "--start"]),
        (&["--rate", "0"], &["WEIR-0803", "--rate"]),
        (&["--topic", "a b"], &["WEIR-0803", "--topic"]),
        (&["--acks", "2"], &["WEIR-0803", "kafka_producer.required_acks"]),
    ] {
        let output = sim(args);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        for word in words {
            assert!(stderr.contains(word), "{args:?}: {stderr}");
        }
    }
}

#[test]
fn the_shares_of_alarms_are_printed() {
    let table = ok(&sim(&["sensors", "--readings", "20000"]));
    let pressure = table.lines().find(|line| line.starts_with("pressure")).unwrap();
    assert!(pressure.contains("5.82"), "{table}");
    let schema: Value = serde_json::from_str(&ok(&sim(&["schema"]))).unwrap();
    assert_eq!(schema["properties"]["type"]["const"], "sensor.reading");
}

/// A `weir sim` that runs until it is told to end, and what it says on its way.
struct Running {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Running {
    fn start(args: &[&str]) -> Self {
        let mut child =
            command().arg("sim").args(args).stderr(Stdio::piped()).spawn().expect("it starts");
        let said: Arc<Mutex<String>> = Arc::default();
        let (stderr, heard) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&said));
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                heard.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        Self { child, said }
    }

    /// What follows these words, up to the next space.
    fn hear(&self, words: &str) -> String {
        eventually(words, 20, || {
            let said = self.said.lock().unwrap();
            let (_, after) = said.split_once(words)?;
            let (rest, _) = after.split_once('\n')?;
            rest.split_whitespace().next().map(str::to_owned)
        })
    }

    fn terminate(mut self) -> String {
        let killed = std::process::Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(killed.unwrap().success());
        let status = eventually("it ends", 20, || self.child.try_wait().unwrap());
        let said = self.said.lock().unwrap().clone();
        assert!(status.success(), "{said}");
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn devices_are_listed_added_and_removed_and_metrics_have_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("readings");
    let running = Running::start(&[
        "--output",
        file.to_str().unwrap(),
        "--devices",
        "5",
        "--interval",
        "100ms",
        "--listen",
        "127.0.0.1:0",
    ]);
    let url = running.hear("health, metrics and devices on ");
    let json = |path: &str| -> Value {
        let (status, text) = get(&format!("{url}{path}"));
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    };
    assert_eq!(json("/health")["status"], "ok");
    let before = json("/devices");
    assert_eq!(before["total"], 5);
    let posted = agent()
        .post(format!("{url}/devices"))
        .content_type("application/json")
        .send(r#"{"count":2}"#)
        .unwrap()
        .body_mut()
        .read_to_string()
        .unwrap();
    let added: Value = serde_json::from_str(&posted).unwrap();
    let new = added["added"][1].as_str().unwrap().to_owned();
    let gone = before["devices"][0].as_str().unwrap().to_owned();
    let deleted = agent().delete(format!("{url}/devices/{gone}")).call().unwrap();
    assert_eq!(deleted.status().as_u16(), 200);
    let again = agent().delete(format!("{url}/devices/{gone}")).call().unwrap();
    assert_eq!(again.status().as_u16(), 404);
    assert_eq!(json("/devices")["total"], 6);
    let (_, metrics) = get(&format!("{url}/metrics"));
    for name in [
        "kafka_producer_messages_per_second",
        "kafka_producer_bytes_per_second",
        "kafka_producer_send_latency_histogram_bucket{le=\"+Inf\"}",
        "kafka_producer_error_rate 0",
        "kafka_producer_device_count 6",
    ] {
        assert!(metrics.contains(name), "{name}: {metrics}");
    }
    let lines_of = |id: &str| {
        let text = std::fs::read_to_string(&file).unwrap();
        text.lines().filter(|line| line.contains(id)).count()
    };
    // The file is written in large pieces, so what is there at the end is looked at.
    eventually("the new device is asked for some time", 20, || {
        let records = json("/health")["records"].as_u64()?;
        (records > 100).then_some(())
    });
    running.terminate();
    assert!(lines_of(&new) > 5, "{new}");
    assert!(lines_of(&gone) < lines_of(&new), "{gone}");
}

#[test]
fn a_configuration_that_changes_is_obeyed_and_a_wrong_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (config, file) = (dir.path().join("sim.yaml"), dir.path().join("readings"));
    let write = |rate: &str| {
        let yaml = format!("device_simulation:\n  device_count: 20\n  anomaly_rate: {rate}\n");
        std::fs::write(&config, yaml).unwrap();
    };
    write("0");
    let running = Running::start(&[
        "--config",
        config.to_str().unwrap(),
        "--output",
        file.to_str().unwrap(),
        "--rate",
        "2000",
    ]);
    running.hear("20 devices, ");
    // Files have times; a change within one tick of the clock is none.
    let changed = |words: &str, rate: &str| {
        eventually(words, 20, || {
            write(rate);
            running.said.lock().unwrap().contains(words).then_some(())
        });
    };
    changed("is not obeyed", "3");
    changed("anomaly_rate 0.1", "0.1");
    eventually("anomalies come", 30, || {
        let truth = std::fs::read_to_string(dir.path().join("readings.truth")).unwrap();
        truth.contains("\"kind\":\"spike\"").then_some(())
    });
    let said = running.terminate();
    assert!(said.contains("device_simulation.anomaly_rate"), "{said}");
}

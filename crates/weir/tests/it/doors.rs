//! The doors of a running weir, met by those who hold them open, ask too much, or come again.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::process::{cluster, command, eventually, get, Weir};

const FILES_MAX: u32 = 512;

fn event(drone: u32) -> String {
    format!(r#"{{"type":"drone.heartbeat","source":"doors","data":{{"drone_id":{drone}}}}}"#)
}

/// Makes a topic and writes one record to it, with the commands.
fn produce(weir: &Weir, topic: &str) {
    let run = |args: &[&str], input: &[u8]| {
        let mut child = command()
            .args(args)
            .args(["--brokers", &weir.kafka])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // One that reads nothing may have ended.
        let _ = child.stdin.take().unwrap().write_all(input);
        let ended = child.wait_with_output().unwrap();
        assert!(ended.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ended.stderr));
    };
    run(&["topics", "--create", topic], b"");
    run(&["produce", topic], b"x\n");
}

fn metric(weir: &Weir, name: &str) -> Option<u64> {
    let (_, text) = get(&format!("{}/metrics", weir.gateway));
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn idle_connections_leave_the_broker_its_files_and_are_gone_when_they_close() {
    if cluster().is_some() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let weir = Weir::up_with_files(dir.path(), &[], FILES_MAX);
    let address = weir.gateway.strip_prefix("http://").unwrap();
    let mut held = Vec::new();
    for _ in 0..FILES_MAX {
        let mut socket = TcpStream::connect(address).unwrap();
        // Refused ones are closed by the other side.
        let _ = socket.write_all(b"GET /stats HTTP/1.1\r\nHost: localhost\r\n");
        held.push(socket);
    }
    produce(&weir, "made.meanwhile");
    drop(held);
    let ready = eventually("the gateway answers again", 10, || {
        let agent = crate::process::agent();
        let answer = agent.get(format!("{}/ready", weir.gateway)).call().ok()?;
        (answer.status() != 503 || answer.headers().get("retry-after").is_none())
            .then(|| answer.status().as_u16())
    });
    assert_eq!(ready, 200);
    let (status, answer) = weir.post(&event(1));
    assert_eq!(status, 200, "{answer}");
    assert!(metric(&weir, "weir_http_connections_refused_total") > Some(0));
    produce(&weir, "made.afterwards");
    weir.terminate();
}

#[test]
fn an_event_sent_three_times_is_counted_as_published_once() {
    let dir = tempfile::tempdir().unwrap();
    let weir = Weir::up(dir.path(), &[]);
    let event = event(1).replacen('{', r#"{"id":"once","#, 1);
    for expected in ["accepted", "duplicate", "duplicate"] {
        assert_eq!(weir.post(&event).1["status"], expected);
    }
    let name =
        "kafka_events_published_total{topic=\"drone-events\",event_type=\"drone.heartbeat\"}";
    assert_eq!(metric(&weir, name), Some(1));
}

#[test]
fn who_would_wait_too_long_for_the_rate_is_told_so_at_once_and_the_ledger_balances() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("slow.yaml");
    std::fs::write(&config, "traffic_control: {max_rate: 20, wait_max: 1s}").unwrap();
    let weir = Weir::up(dir.path(), &["--config", config.to_str().unwrap()]);
    let body: Vec<String> = (0..200).map(event).collect();
    let begun = std::time::Instant::now();
    let (status, answer) = weir.post(&body.join("\n"));
    assert!(begun.elapsed().as_secs() < 8, "{:?}", begun.elapsed());
    assert_eq!(status, 207, "{answer}");
    let accepted = answer["accepted"].as_u64().unwrap();
    assert!((20..40).contains(&accepted), "{answer}");
    let mut refused = answer["results"].as_array().unwrap().iter();
    assert!(refused.any(|one| one["code"] == "WEIR-0509"
        && one["http_status"] == 429
        && one["retry_after_ms"].as_u64() > Some(0)));
    let total = &weir.get("/stats")["ledger"]["total"];
    assert_eq!(total["balanced"], true, "{total}");
    assert_eq!(total["rejected"]["wait_too_long"], 200 - accepted, "{total}");
}

fn ingest(weir: &Weir, file: &Path) -> Value {
    let ran = command()
        .args(["ingest", file.to_str().unwrap(), "--gateway", &weir.gateway, "--json"])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice::<Value>(&ran.stdout).unwrap()["events"].take()
}

#[test]
fn a_file_sent_again_is_known_line_by_line_though_no_line_has_an_id() {
    let dir = tempfile::tempdir().unwrap();
    let weir = Weir::up(dir.path(), &[]);
    let file = dir.path().join("events.ndjson");
    // The same line twice is two events.
    let lines: Vec<String> = (0..40).map(|n| event(n / 2)).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let first = ingest(&weir, &file);
    assert_eq!((&first["accepted"], &first["duplicate"]), (&40.into(), &0.into()), "{first}");
    let again = ingest(&weir, &file);
    assert_eq!((&again["accepted"], &again["duplicate"]), (&0.into(), &40.into()), "{again}");
}

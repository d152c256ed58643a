//! The hub's promises, and the router over a real socket.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::Arc;

use axum::extract::ws::Message;
use serde_json::{json, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::fleet::{Fleet, DEVICES_MAX, HEAD_BYTES, RECORD_BYTES, STATUSES_MAX};
use super::hub::*;
use super::*;

fn hub_at(start_ms: i64) -> (ConsoleHub, Arc<AtomicI64>) {
    let time = Arc::new(AtomicI64::new(start_ms));
    let clock = Arc::clone(&time);
    (ConsoleHub::new(Arc::new(move || clock.load(Ordering::Relaxed))), time)
}

fn at(device: &str) -> Position<'_> {
    Position {
        device,
        lat: 40.7128,
        lon: -74.006,
        alt_m: Some(100.5),
        heading_deg: Some(270.0),
        speed_mps: Some(12.5),
        battery_percent: Some(85.0),
        status: "flying",
        timestamp_ms: 900,
        append_ms: Some(950),
    }
}

fn alert(id: &str) -> Alert {
    Alert {
        id: id.to_owned(),
        kind: "battery_low".to_owned(),
        level: Level::of("warning"),
        message: "below 20 %".to_owned(),
        message_en: None,
        message_zh: None,
        device: Some("1".to_owned()),
        auto_action: None,
        at_ms: 1,
        cleared_ms: None,
    }
}

fn kinds(news: &[Message]) -> Vec<String> {
    let kind = |message: &Message| match message {
        Message::Text(text) => {
            let value: Value = serde_json::from_str(text).unwrap();
            value["kind"].as_str().unwrap().to_owned()
        }
        Message::Binary(frame) => ["positions", "trails"][usize::from(frame[0]) - 1].to_owned(),
        other => format!("{other:?}"),
    };
    news.iter().map(kind).collect()
}

fn u32_at(frame: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(frame[at..at + 4].try_into().unwrap())
}

fn i32_at(frame: &[u8], at: usize) -> i32 {
    i32::from_le_bytes(frame[at..at + 4].try_into().unwrap())
}

#[test]
fn a_new_console_gets_everything_once_and_then_only_news() {
    let (hub, time) = hub_at(1_000);
    hub.position(at("1"));
    hub.alert(alert("a"));
    let mut cursor = Cursor::default();
    assert_eq!(
        kinds(&hub.news(&mut cursor, true)),
        ["hello", "statuses", "alerts", "positions", "trails"]
    );
    assert!(hub.news(&mut cursor, true).is_empty());
    hub.position(at("1"));
    assert_eq!(kinds(&hub.news(&mut cursor, true)), ["positions"]);
    time.store(2_500, Ordering::Relaxed);
    assert_eq!(kinds(&hub.news(&mut cursor, true)), ["beat"]);
}

#[test]
fn a_section_that_changes_faster_than_its_pace_is_sent_late_but_last() {
    let (hub, time) = hub_at(1_000);
    hub.alert(alert("a"));
    let mut cursor = Cursor::default();
    hub.news(&mut cursor, true);
    hub.alert(alert("b"));
    hub.alert(alert("c"));
    assert!(hub.news(&mut cursor, true).is_empty(), "its pace is 200 ms");
    time.store(1_200, Ordering::Relaxed);
    let news = hub.news(&mut cursor, true);
    let Message::Text(text) = &news[0] else { panic!("{news:?}") };
    let value: Value = serde_json::from_str(text).unwrap();
    let ids: Vec<&str> =
        value["data"].as_array().unwrap().iter().map(|a| a["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["c", "b", "a"]);
}

#[test]
fn a_positions_frame_carries_names_once_and_fixed_point_records() {
    let mut fleet = Fleet::new();
    fleet.position(&at("drone-17"), 1, 1_000);
    let frame = fleet.frame(0, 1_000).unwrap();
    assert_eq!((u32_at(&frame, 4), u32_at(&frame, 8), u32_at(&frame, 12)), (1, 1, 1));
    assert_eq!(frame.len(), HEAD_BYTES + (4 + 2 + "drone-17".len() + 2) + RECORD_BYTES);
    let record = &frame[frame.len() - RECORD_BYTES..];
    assert_eq!(i32_at(record, 4), 407_128_000);
    assert_eq!(i32_at(record, 8), -740_060_000);
    assert_eq!(i32_at(record, 12), -50, "heard 50 ms before it was sent");
    assert_eq!(record[16..22], [201, 0, 0x78, 0x69, 0xe2, 0x04]);
    assert_eq!(record[22], 85);

    fleet.position(&at("drone-17"), 2, 1_000);
    let frame = fleet.frame(1, 1_000).unwrap();
    assert_eq!(frame.len(), HEAD_BYTES + RECORD_BYTES, "the name is known");
    assert!(fleet.frame(2, 1_000).is_none());
}

#[test]
fn a_trail_holds_the_last_minute_and_no_more() {
    let mut fleet = Fleet::new();
    for n in 0..300 {
        let at_ms = n * 500;
        fleet.position(&Position { append_ms: Some(at_ms), ..at("drone-17") }, 1, at_ms);
    }
    let frame = fleet.trails(150_000).unwrap();
    assert_eq!((frame[0], u32_at(&frame, 8)), (2, 31));
    assert_eq!(frame.len(), HEAD_BYTES + 31 * 20);
    assert_eq!(i32_at(&frame, HEAD_BYTES + 12), 88_000 - 150_000, "the oldest first");
}

#[test]
fn a_full_fleet_refuses_new_devices_until_one_has_been_silent() {
    let mut fleet = Fleet::new();
    for n in 0..DEVICES_MAX {
        let id = n.to_string();
        fleet.position(&Position { append_ms: Some(0), ..at(&id) }, 1, 0);
    }
    fleet.position(&at("late"), 2, 1_000);
    assert!(fleet.get("late").is_none());
    assert_eq!(fleet.refused, 1);
    fleet.position(&at("late"), 3, 700_000);
    assert!(fleet.get("late").is_some());
    assert_eq!(fleet.slots().len(), DEVICES_MAX);
    let frame = fleet.frame(2, 700_000).unwrap();
    assert_eq!((u32_at(&frame, 4), u32_at(&frame, 8)), (1, 1), "the slot is named anew");
}

#[test]
fn strange_positions_are_refused_or_saturate() {
    let mut fleet = Fleet::new();
    fleet.position(&Position { lat: f64::NAN, ..at("nan") }, 1, 0);
    fleet.position(&at(""), 1, 0);
    fleet.position(&at(&"x".repeat(300)), 1, 0);
    assert_eq!((fleet.refused, fleet.slots().len()), (3, 0));
    let high = Position {
        alt_m: Some(1e9),
        speed_mps: Some(f64::NAN),
        heading_deg: Some(-90.0),
        ..at("high")
    };
    fleet.position(&Position { battery_percent: Some(f64::NAN), ..high }, 1, 0);
    let frame = fleet.frame(0, 0).unwrap();
    let record = &frame[frame.len() - RECORD_BYTES..];
    assert_eq!(record[16..22], [0xff, 0x7f, 0x78, 0x69, 0xff, 0xff]);
    assert_eq!(record[22], 255);
}

#[test]
fn statuses_beyond_the_limit_are_other() {
    let mut fleet = Fleet::new();
    for n in 0..STATUSES_MAX + 5 {
        let status = format!("s{n}");
        fleet.position(&Position { status: &status, ..at("1") }, 1, 0);
    }
    assert_eq!(fleet.statuses().len(), STATUSES_MAX);
    assert_eq!(fleet.status_name(&fleet.get("1").unwrap().fix), "other");
}

#[test]
fn lists_are_bounded_and_the_same_id_replaces() {
    let (hub, _) = hub_at(0);
    for n in 0..ALERTS_MAX + 50 {
        hub.alert(alert(&n.to_string()));
    }
    hub.alert(Alert { cleared_ms: Some(9), ..alert("249") });
    let state: Value = serde_json::from_str(&hub.state_json(10)).unwrap();
    let alerts = state["alerts"].as_array().unwrap();
    assert_eq!(alerts.len(), ALERTS_MAX);
    assert_eq!(alerts[0]["id"], "249");
    assert_eq!(alerts[0]["cleared_ms"], 9);
}

#[test]
fn texts_of_events_are_kept_in_part_only() {
    let (hub, _) = hub_at(0);
    // Three bytes each: no multiple of the bound.
    let long = "\u{8b66}".repeat(300_000);
    let some = || Some(long.clone());
    hub.position(Position { status: &long, ..at("1") });
    hub.alert(Alert {
        kind: long.clone(),
        message: long.clone(),
        message_en: some(),
        message_zh: some(),
        auto_action: some(),
        ..alert("a")
    });
    hub.task(Task {
        id: "t".to_owned(),
        device: "1".to_owned(),
        progress_percent: 1.0,
        current_step: long.clone(),
        estimated_completion_ms: None,
        at_ms: 1,
    });
    hub.event(DeviceEvent {
        device: "1".to_owned(),
        event_type: long.clone(),
        topic: "t".to_owned(),
        partition: 0,
        offset: 0,
        at_ms: 1,
        summary: long.clone(),
    });
    let (state, device) = (hub.state_json(10), hub.device_json("1").unwrap());
    assert!(state.len() < 10_000 && device.len() < 3_000, "{} {}", state.len(), device.len());
    let state: Value = serde_json::from_str(&state).unwrap();
    let kept = state["alerts"][0]["message"].as_str().unwrap();
    assert!(long.starts_with(kept) && kept.len() == 510, "{}", kept.len());
}

#[test]
fn a_line_has_a_point_every_five_seconds_and_its_last_is_now() {
    let (hub, time) = hub_at(10_000);
    let row = |per_s| TopicRow {
        name: "t".to_owned(),
        partition_records: vec![1],
        bytes: 1,
        per_s,
        retention_ms: None,
    };
    for second in 0..12 {
        time.store(10_000 + second * 1_000, Ordering::Relaxed);
        hub.topics(vec![row(second as f64)]);
    }
    let news = hub.news(&mut Cursor::default(), true);
    let Message::Text(hello) = &news[0] else { panic!("{news:?}") };
    let hello: Value = serde_json::from_str(hello).unwrap();
    assert_eq!(hello["topic_rates"]["t"], json!([4.0, 9.0, 11.0]));
}

#[tokio::test]
async fn a_change_between_looking_and_waiting_is_not_missed() {
    let (hub, _) = hub_at(0);
    let mut cursor = Cursor::default();
    hub.news(&mut cursor, true);
    hub.position(at("1"));
    // Would take 250 ms, and time out here, if only later changes counted.
    tokio::time::timeout(std::time::Duration::from_millis(200), hub.changed(&cursor))
        .await
        .unwrap();
}

/// One request over a real socket; returns the head and the body.
async fn ask(config: ConsoleConfig, hub: ConsoleHub, request: &str) -> (String, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = router(hub, config);
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    server.abort();
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    (String::from_utf8_lossy(&answer[..end]).to_lowercase(), answer[end + 4..].to_vec())
}

async fn get(path: &str, headers: &str) -> (String, Vec<u8>) {
    let (hub, _) = hub_at(0);
    hub.position(at("drone-17"));
    hub.layers(vec![Layer { id: "fleet".to_owned(), on: true, turn_on: String::new() }]);
    let config = ConsoleConfig { hosts: vec!["Weir.Example".to_owned()], clients_max: 0 };
    let close = if headers.contains("Connection:") { "" } else { "Connection: close\r\n" };
    let request = format!("GET {path} HTTP/1.1\r\n{close}{headers}\r\n");
    ask(config, hub, &request).await
}

#[tokio::test]
async fn only_own_names_are_answered() {
    for host in ["localhost:1", "127.0.0.1:8090", "[::1]:8090", "10.0.0.1:8090", "weir.example:80"]
    {
        let (head, _) = get("/api/state", &format!("Host: {host}\r\n")).await;
        assert!(head.starts_with("http/1.1 200"), "{host}: {head}");
    }
    for host in ["evil.example:8090", "localhost.evil.example", "", "[x]"] {
        let (head, body) = get("/api/state", &format!("Host: {host}\r\n")).await;
        assert!(head.starts_with("http/1.1 403"), "{host}: {head}");
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["error"]["code"], "WEIR-1001");
    }
}

#[tokio::test]
async fn the_live_door_checks_origin_and_seats() {
    let upgrade = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (origin, code) in [("http://evil.example", "WEIR-1002"), ("null", "WEIR-1002")] {
        let headers = format!(
            "Host: localhost:1\r\nOrigin: {origin}\r\nConnection: upgrade, close\r\n{upgrade}"
        );
        let (_, body) = get("/live", &headers).await;
        assert!(String::from_utf8_lossy(&body).contains(code));
    }
    let headers =
        format!("Host: localhost:1\r\nOrigin: http://localhost:1\r\nConnection: upgrade, close\r\n{upgrade}");
    let (head, body) = get("/live", &headers).await;
    assert!(head.starts_with("http/1.1 503"), "no seats: {head}");
    assert!(String::from_utf8_lossy(&body).contains("WEIR-1003"));
}

#[tokio::test]
async fn assets_are_compressed_tagged_and_fenced() {
    let local = "Host: localhost\r\n";
    let (head, plain) = get("/app.js", local).await;
    assert!(head.contains("default-src 'self'") && !head.contains("content-encoding"), "{head}");
    let (head, packed) = get("/app.js", &format!("{local}Accept-Encoding: br, gzip\r\n")).await;
    assert!(head.contains("content-encoding: gzip"), "{head}");
    assert!(packed.len() < plain.len() / 2);
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: w/")).unwrap().to_owned();
    let (head, body) = get("/app.js", &format!("{local}If-None-Match: W/{tag}\r\n")).await;
    assert!(head.starts_with("http/1.1 304") && body.is_empty(), "{head}");
}

#[tokio::test]
async fn only_pages_and_files_are_there_and_all_else_is_404_as_json() {
    let local = "Host: localhost\r\n";
    for page in ["/", "/map", "/map/", "/map?device=17", "/alerts", "/tasks", "/topics", "/groups"]
    {
        let (head, _) = get(page, local).await;
        assert!(head.starts_with("http/1.1 200") && head.contains("text/html"), "{page}: {head}");
    }
    for missing in [
        "/app.js.gz",
        "/x.js",
        "/api",
        "/api/nothing",
        "/api/state/x",
        "/../Cargo.toml",
        "/no-such-page",
        "/map/17",
        "/Map",
        "/.env",
        "/wp-admin",
        "//index.html",
        "/%2e%2e/Cargo.toml",
    ] {
        let (head, body) = get(missing, local).await;
        assert!(head.starts_with("http/1.1 404"), "{missing}: {head}");
        assert!(head.contains("application/json"), "{missing}: {head}");
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["error"]["code"], "WEIR-1004", "{missing}");
    }
}

#[tokio::test]
async fn a_browser_that_asks_for_a_page_which_is_not_there_gets_the_page_that_says_so() {
    let browser = "Host: localhost\r\nAccept: text/html,application/xhtml+xml\r\n";
    for missing in ["/no-such-page", "/map/17"] {
        let (head, body) = get(missing, browser).await;
        assert!(
            head.starts_with("http/1.1 404") && head.contains("text/html"),
            "{missing}: {head}"
        );
        assert_eq!(body, get("/", browser).await.1, "{missing}");
    }
    let (head, _) = get("/api/nothing", browser).await;
    assert!(head.starts_with("http/1.1 404") && head.contains("application/json"), "{head}");
}

#[tokio::test]
async fn a_wrong_method_or_query_is_refused_with_a_code() {
    let (hub, _) = hub_at(0);
    for (request, status, code) in [
        ("POST /api/state", 405, "WEIR-1005"),
        ("DELETE /map", 405, "WEIR-1005"),
        ("GET /api/state?devices_max=-1", 400, "WEIR-1006"),
        ("GET /api/device", 400, "WEIR-1006"),
    ] {
        let request = format!("{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let (head, body) = ask(ConsoleConfig::default(), hub.clone(), &request).await;
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{request}: {head}");
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["error"]["code"], code, "{request}");
    }
}

#[tokio::test]
async fn the_api_tells_devices_and_layers() {
    let (_, body) = get("/api/state?devices_max=0", "Host: localhost\r\n").await;
    let state: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&state["devices_total"], &state["devices"]), (&json!(1), &json!([])));
    let (_, body) = get("/api/device?id=drone-17", "Host: localhost\r\n").await;
    let device: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&device["status"], &device["lat"]), (&json!("flying"), &json!(40.7128)));
    let (head, _) = get("/api/device?id=none", "Host: localhost\r\n").await;
    assert!(head.starts_with("http/1.1 404"));
    let (_, body) = get("/api/layers", "Host: localhost\r\n").await;
    let layers: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(layers["layers"][0]["id"], "fleet");
}

#[tokio::test]
async fn a_frame_that_announces_more_than_a_console_says_ends_the_connection() {
    let (hub, _) = hub_at(0);
    let config = ConsoleConfig { hosts: Vec::new(), clients_max: 1 };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = router(hub, config);
    tokio::spawn(async move { axum::serve(listener, app).await });
    let mut socket = TcpStream::connect(address).await.unwrap();
    let upgrade = format!(
        "GET /live HTTP/1.1\r\nHost: {address}\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    socket.write_all(upgrade.as_bytes()).await.unwrap();
    // Masked, 8 MiB, and nothing of them.
    let head = [&[0x82, 0x80 | 127][..], &(8_u64 << 20).to_be_bytes(), &[0; 4]].concat();
    socket.write_all(&head).await.unwrap();
    let mut rest = Vec::new();
    let reading =
        tokio::time::timeout(std::time::Duration::from_secs(10), socket.read_to_end(&mut rest));
    let ended = reading.await.expect("it is closed");
    assert!(ended.is_err() || rest.starts_with(b"HTTP/1.1 101"), "{rest:?}");
}

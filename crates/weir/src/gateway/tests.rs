//! The router over a real socket and a sink that takes everything, as a client that means harm meets it.

use std::collections::HashMap;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Instant;
use weir_client::{Priority, SystemClock};
use weir_traffic::{Accepted, Outgoing, Sink, SinkError, TrafficConfig, TrafficHandle};

use super::metrics::Metrics;
use super::prepare::Rules;
use super::route::RouteTable;
use super::*;
use crate::config::Validation;

const EVENT: &str = r#"{"type":"drone.x","source":"t","data":{"drone_id":1}}"#;
const LIMITS: Limits = Limits {
    body_bytes_max: 4_096,
    body_time: Duration::from_secs(20),
    events_per_request_max: 100,
    requests_max: 8,
    request_bytes_max: 16_384,
    streams_max: 8,
    stream_message_bytes_max: 4_096,
};
/// No test waits so long unless it fails.
const PATIENCE: Duration = Duration::from_secs(10);

struct Works;

impl Sink for Works {
    async fn send(&self, batch: &[&Outgoing]) -> Vec<Result<Accepted, SinkError>> {
        vec![Ok(Accepted { partition: 0, offset: Some(0), duplicate: false }); batch.len()]
    }
}

async fn start(limits: Limits) -> SocketAddr {
    let rules = Rules {
        routes: RouteTable::new(&[]),
        priority_of: Arc::new(|_| Priority::Normal),
        validation: Validation::Strict,
        event_bytes_max: 4_096,
        key_fields: HashMap::new(),
    };
    let traffic = TrafficHandle::start(TrafficConfig::default(), Works).unwrap();
    let ingest = Ingest::new(rules, traffic, Arc::new(Metrics::new()), Arc::new(SystemClock));
    let kafka = watch::Sender::new(None).subscribe();
    let gateway = Gateway::new(ingest, limits, Arc::new(AtomicBool::new(true)), kafka, "strict");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, gateway.router()).await });
    address
}

async fn send(address: SocketAddr, bytes: impl AsRef<[u8]>) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(bytes.as_ref()).await.unwrap();
    socket
}

/// Reads until the other side closes.
async fn read_all(socket: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let reading = socket.read_to_end(&mut answer);
    tokio::time::timeout(PATIENCE, reading).await.expect("it closes").unwrap();
    answer
}

fn head(headers: &str) -> String {
    format!("POST /v1/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")
}

fn whole(headers: &str, body: &str) -> String {
    format!("{}{body}", head(&format!("Content-Length: {}\r\n{headers}", body.len())))
}

/// Head in lower case, and the JSON of the body.
async fn answer(mut socket: TcpStream) -> (String, Value) {
    let text = String::from_utf8(read_all(&mut socket).await).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let body = serde_json::from_str(body).unwrap_or_else(|_| panic!("{text}"));
    (head.to_lowercase(), body)
}

async fn check(address: SocketAddr, request: &str, status: u16, code: &str) -> String {
    let (head, body) = answer(send(address, request).await).await;
    assert!(head.starts_with(&format!("http/1.1 {status}")), "{head} {body}");
    assert_eq!((&body["code"], &body["http_status"]), (&code.into(), &status.into()), "{body}");
    head
}

async fn check_taken(address: SocketAddr) {
    let (_, body) = answer(send(address, whole("", EVENT)).await).await;
    assert_eq!(body["status"], "accepted", "{body}");
}

#[tokio::test]
async fn a_compressed_body_is_refused_as_such_and_identity_is_taken() {
    let address = start(LIMITS).await;
    for coding in ["gzip", "GZIP", "br", "identity, gzip", "zstd\r\nContent-Encoding: identity"] {
        let request = whole(&format!("Content-Encoding: {coding}\r\n"), "\u{1f}\u{8b}");
        let head = check(address, &request, 415, "WEIR-0915").await;
        assert!(head.contains("accept-encoding: identity"), "{head}");
    }
    let request = whole("Content-Encoding: Identity\r\n", EVENT);
    let (_, body) = answer(send(address, request).await).await;
    assert_eq!(body["status"], "accepted", "{body}");
}

#[tokio::test]
async fn a_body_that_announces_too_much_is_refused_before_a_byte_of_it() {
    let address = start(LIMITS).await;
    for length in ["4097", "1000000000000", "18446744073709551613"] {
        check(address, &head(&format!("Content-Length: {length}\r\n")), 413, "WEIR-0906").await;
    }
    let waits = head("Content-Length: 5000\r\nExpect: 100-continue\r\n");
    check(address, &waits, 413, "WEIR-0906").await;
    let chunk = format!("800\r\n{}\r\n", "x".repeat(2_048));
    let chunks = format!("{}{}", head("Transfer-Encoding: chunked\r\n"), chunk.repeat(3));
    check(address, &chunks, 413, "WEIR-0906").await;
}

#[tokio::test]
async fn a_slow_body_is_408_with_a_code_of_its_own() {
    let limits = Limits { body_time: Duration::from_millis(100), ..LIMITS };
    let address = start(limits).await;
    check(address, &head("Content-Length: 10\r\n"), 408, "WEIR-0916").await;
    let broken = format!("{}zz\r\n", head("Transfer-Encoding: chunked\r\n"));
    check(address, &broken, 400, "WEIR-0916").await;
}

#[tokio::test]
async fn slow_senders_hold_neither_places_nor_memory_that_others_need() {
    let limits = Limits { requests_max: 1, ..LIMITS };
    let address = start(limits).await;
    let mut slow = Vec::new();
    // Together they announce more than the gateway may hold, and are more than it may handle.
    for _ in 0..10 {
        slow.push(send(address, format!("{}{{", head("Content-Length: 4000\r\n"))).await);
    }
    let begun = Instant::now();
    check_taken(address).await;
    assert!(begun.elapsed() < PATIENCE);
    // What they really send counts, to the last kilobyte of the bound.
    let larger = whole("", &format!("{EVENT}{}", " ".repeat(2_000)));
    for socket in &mut slow {
        socket.write_all(&[b' '; 3_990]).await.unwrap();
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (head, body) = answer(send(address, &larger).await).await;
        if head.starts_with("http/1.1 503") {
            assert_eq!(body["code"], "WEIR-0908");
            break;
        }
        assert!(Instant::now() < deadline, "the memory of bodies has no bound");
    }
    drop(slow);
    while answer(send(address, &larger).await).await.1["status"] != "accepted" {
        assert!(Instant::now() < deadline, "the memory is not given back");
    }
}

#[tokio::test]
async fn many_repeats_in_one_request_are_duplicates() {
    let address = start(LIMITS).await;
    let event = r#"{"id":"a","type":"drone.x","source":"t","data":{}}"#;
    let body = vec![event; 60].join("\n");
    let (_, body) = answer(send(address, whole("", &body)).await).await;
    assert_eq!((&body["accepted"], &body["duplicate"]), (&1.into(), &59.into()), "{body}");
}

#[tokio::test]
async fn answers_that_nobody_reads_hold_no_more_memory_than_bodies_may() {
    let limits = Limits {
        body_bytes_max: 1 << 20,
        events_per_request_max: 40_000,
        request_bytes_max: 24 << 20,
        ..LIMITS
    };
    let address = start(limits).await;
    // Each is answered by more than a system takes of it while nobody reads.
    let request = whole("", &"{}\n".repeat(40_000));
    let mut unread = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        // A system takes megabytes for a reader with a large buffer.
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let mut socket = socket.connect(address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut head = [0; 12];
        socket.read_exact(&mut head).await.unwrap();
        if &head == b"HTTP/1.1 503" {
            break;
        }
        unread.push(socket);
        assert!(unread.len() < 10, "{} answers wait to be read", unread.len());
        assert!(Instant::now() < deadline, "the memory of answers has no bound");
    }
    drop(unread);
    let deadline = Instant::now() + PATIENCE;
    while answer(send(address, &request).await).await.1["rejected"] != 40_000 {
        assert!(Instant::now() < deadline, "the memory is not given back");
    }
}

#[tokio::test]
async fn an_answer_is_bounded_whatever_came() {
    let limits = Limits { body_bytes_max: 1 << 20, request_bytes_max: 4 << 20, ..LIMITS };
    let address = start(limits).await;
    let long = "\u{7f}".repeat(3_900);
    let bad = format!(r#"{{"type":"drone.x","source":"t","data":{{}},"priority":"{long}"}}"#);
    let body = [format!("\"{long}\""), bad, format!("{{\"{long}\":1}}")];
    let body = vec![body.join("\n"); 30].join("\n");
    let mut socket = send(address, whole("", &body)).await;
    let answer = read_all(&mut socket).await;
    assert!(answer.len() < 90 * 1_500 && answer.len() < body.len(), "{} bytes", answer.len());
}

#[tokio::test]
async fn a_duplicate_lies_where_its_answer_says() {
    let address = start(LIMITS).await;
    for (event_type, status, topic) in [
        ("drone.x", "accepted", "drone-events"),
        ("drone.x", "duplicate", "drone-events"),
        ("log.x", "accepted", "application-logs"),
        ("log.x", "duplicate", "application-logs"),
        ("drone.y", "duplicate", "drone-events"),
    ] {
        let event = format!(r#"{{"id":"X1","type":"{event_type}","source":"t","data":{{}}}}"#);
        let (_, body) = answer(send(address, whole("", &event)).await).await;
        assert_eq!((&body["status"], &body["topic"]), (&status.into(), &topic.into()), "{body}");
    }
}

/// A stream, upgraded.
async fn stream(address: SocketAddr) -> TcpStream {
    let upgrade = "GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut socket = send(address, upgrade).await;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    socket
}

/// A client's frame: masked with zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    assert!(length < 126);
    [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

#[tokio::test]
async fn a_stream_that_breaks_the_protocol_is_closed_with_its_code() {
    let address = start(LIMITS).await;
    let too_long = [&[0x82, 0x80 | 126][..], &5_000_u16.to_be_bytes(), &[0; 4]].concat();
    let huge = [&[0x82, 0x80 | 127][..], &(1_u64 << 62).to_be_bytes(), &[0; 4]].concat();
    for (name, bytes, code) in [
        ("not masked", vec![0x81, 0x01, b'x'], 1002),
        ("reserved bit", frame(0xC1, b"{}"), 1002),
        ("no such opcode", frame(0x83, b"{}"), 1002),
        ("continuation of nothing", frame(0x80, b"{}"), 1002),
        ("no UTF-8", frame(0x81, b"\"\xff\xfe\""), 1007),
        ("too long", too_long, 1009),
        ("longer than memory", huge, 1009),
    ] {
        let mut socket = stream(address).await;
        socket.write_all(&bytes).await.unwrap();
        let answer = read_all(&mut socket).await;
        assert_eq!(answer.first(), Some(&0x88), "{name}: {answer:?}");
        assert_eq!(u16::from_be_bytes([answer[2], answer[3]]), code, "{name}");
        assert_eq!(usize::from(answer[1]), answer.len() - 2, "{name}: the reason is whole");
        assert!(answer.len() > 10, "{name} has no reason");
    }
}

#[tokio::test]
async fn parts_of_a_message_together_have_the_limit_of_one() {
    let address = start(LIMITS).await;
    let mut socket = stream(address).await;
    let part = [b' '; 125];
    socket.write_all(&frame(0x01, &part)).await.unwrap();
    // 33 parts are more than 4,096 bytes.
    for _ in 0..32 {
        socket.write_all(&frame(0x00, &part)).await.unwrap();
    }
    let answer = read_all(&mut socket).await;
    assert_eq!((answer[0], u16::from_be_bytes([answer[2], answer[3]])), (0x88, 1009));
}

#[tokio::test]
async fn there_are_no_more_streams_than_have_room_for_a_message_each() {
    // Four messages are all that is allowed for bodies.
    let address = start(LIMITS).await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(stream(address).await);
    }
    let upgrade = "GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade, close\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    check(address, upgrade, 503, "WEIR-0908").await;
    streams.pop();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut socket = send(address, upgrade).await;
        let mut head = [0; 12];
        socket.read_exact(&mut head).await.unwrap();
        if &head == b"HTTP/1.1 101" {
            break;
        }
        assert!(Instant::now() < deadline, "the place is not given back");
    }
}

#[tokio::test]
async fn a_page_of_a_name_that_resolves_to_this_machine_reads_nothing() {
    let address = start(LIMITS).await;
    let get = |path: &str, host: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
    };
    for path in ["/stats", "/metrics", "/health", "/v1/schemas", "/nothing"] {
        check(address, &get(path, "evil.example:8084"), 403, "WEIR-0909").await;
    }
    let post = whole("", EVENT).replace("localhost", "evil.example");
    check(address, &post, 403, "WEIR-0909").await;
    for host in ["localhost:8084", "127.0.0.1:8084", "[::1]", "10.1.2.3:8084"] {
        let (head, _) = answer(send(address, get("/health", host)).await).await;
        assert!(head.starts_with("http/1.1 200"), "{host}: {head}");
    }
    let foreign = get("/health", "localhost\r\nOrigin: http://127.0.0.1:8090");
    check(address, &foreign, 403, "WEIR-0909").await;
}

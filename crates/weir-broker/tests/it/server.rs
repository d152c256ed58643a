#![allow(clippy::disallowed_methods)] // Deadlines of tests that wait for a real server.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use weir_broker::{BrokerConfig, BrokerServer};
use weir_log::disk::{DirEntry, DiskFile, DiskLock, LockFailure, OpenMode, VolumeBytes};
use weir_log::{Disk, MemDisk};
use weir_protocol::api::fetch::FetchRequest;
use weir_protocol::api::metadata::MetadataRequest;
use weir_protocol::api::produce::ProduceRequest;
use weir_protocol::{frame, Clock, ErrorCode, Request, TimestampMs};

use crate::harness::{batch, create_request, fetch_request, fetched, first, produce_request};

#[derive(Debug)]
struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> TimestampMs {
        TimestampMs(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64)
    }
}

pub(crate) fn config() -> BrokerConfig {
    let mut config = crate::harness::config();
    config.listen.set_port(0);
    config
}

pub(crate) async fn start_on(disk: Arc<MemDisk>, config: BrokerConfig) -> BrokerServer {
    BrokerServer::start_on(config, disk as Arc<dyn Disk>, Arc::new(WallClock)).await.unwrap()
}

pub(crate) async fn start_on_disk(disk: Arc<dyn Disk>, config: BrokerConfig) -> BrokerServer {
    BrokerServer::start_on(config, disk, Arc::new(WallClock)).await.unwrap()
}

async fn start() -> BrokerServer {
    start_on(Arc::new(MemDisk::new()), config()).await
}

pub(crate) async fn connect(server: &BrokerServer) -> TcpStream {
    TcpStream::connect(server.local_addr()).await.unwrap()
}

pub(crate) async fn send<R: Request>(
    stream: &mut (impl AsyncWrite + Unpin),
    id: i32,
    version: i16,
    request: &R,
) {
    let frame = frame::encode_request(id, Some("t"), version, request).unwrap();
    stream.write_all(&frame).await.unwrap();
    // TLS may hold it back.
    stream.flush().await.unwrap();
}

pub(crate) async fn receive<R: Request>(
    stream: &mut (impl AsyncRead + Unpin),
    version: i16,
) -> (i32, R::Response) {
    let deadline = Duration::from_secs(20);
    let len = tokio::time::timeout(deadline, stream.read_i32()).await.expect("an answer").unwrap();
    let mut body = vec![0; len as usize];
    stream.read_exact(&mut body).await.unwrap();
    frame::decode_response::<R>(Bytes::from(body), version).unwrap()
}

pub(crate) async fn ask<R: Request>(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    version: i16,
    request: &R,
) -> R::Response {
    send(stream, 1, version, request).await;
    receive::<R>(stream, version).await.1
}

#[tokio::test]
async fn a_record_goes_in_and_out_over_a_socket() {
    let server = start().await;
    let mut stream = connect(&server).await;
    ask(&mut stream, 7, &create_request("t", 1, &[])).await;
    let answer = ask(&mut stream, 9, &produce_request("t", 0, -1, batch(&["a"]))).await;
    assert_eq!(first(answer).error_code, 0);
    let answer = ask(&mut stream, 12, &fetch_request("t", 0, 0, 5_000)).await;
    assert_eq!(fetched(&answer), ["a"]);
    let answer =
        ask(&mut stream, 12, &MetadataRequest { topics: None, ..Default::default() }).await;
    assert_eq!(answer.brokers[0].port, i32::from(server.local_addr().port()));
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_pipe_in_memory_is_served_like_a_socket() {
    let server = Arc::new(start().await);
    let (mut ours, theirs) = tokio::io::duplex(64 << 10);
    let serving = tokio::spawn({
        let server = server.clone();
        async move { server.serve_connection(theirs).await }
    });
    ask(&mut ours, 7, &create_request("t", 1, &[])).await;
    let answer = ask(&mut ours, 9, &produce_request("t", 0, 1, batch(&["a"]))).await;
    assert_eq!(first(answer).error_code, 0);
    // acks=1: it is seen once it is synced, which nobody else has asked for.
    let answer = ask(&mut ours, 12, &fetch_request("t", 0, 0, 5_000)).await;
    assert_eq!(fetched(&answer), ["a"]);
    drop(ours);
    assert!(matches!(serving.await.unwrap(), weir_broker::listener::ConnectionEnd::Closed));
}

/// TLS keeps what its socket does not take at once, and sends it when it is told to.
#[tokio::test]
async fn what_a_stream_holds_back_is_flushed() {
    let server = Arc::new(start().await);
    let (mut ours, theirs) = tokio::io::duplex(64 << 10);
    let serving = tokio::spawn({
        let server = server.clone();
        async move { server.serve_connection(tokio::io::BufStream::new(theirs)).await }
    });
    for _ in 0..3 {
        let answer = ask(&mut ours, 12, &MetadataRequest::default()).await;
        assert_eq!(answer.brokers.len(), 1);
    }
    drop(ours);
    serving.await.unwrap();
}

#[tokio::test]
async fn answers_leave_in_the_order_of_their_requests() {
    let server = start().await;
    let mut stream = connect(&server).await;
    ask(&mut stream, 7, &create_request("t", 1, &[])).await;
    // The long poll holds back the two behind it, which are handled all the same.
    send(&mut stream, 10, 12, &fetch_request("t", 0, 0, 10_000)).await;
    send(&mut stream, 11, 9, &produce_request("t", 0, -1, batch(&["a"]))).await;
    send(&mut stream, 12, 12, &MetadataRequest::default()).await;
    let (id, answer) = receive::<FetchRequest>(&mut stream, 12).await;
    assert_eq!((id, fetched(&answer)), (10, vec!["a".to_owned()]));
    assert_eq!(receive::<ProduceRequest>(&mut stream, 9).await.0, 11);
    assert_eq!(receive::<MetadataRequest>(&mut stream, 12).await.0, 12);
}

#[tokio::test]
async fn many_produces_in_flight_share_commits() {
    let server = start().await;
    let mut stream = connect(&server).await;
    ask(&mut stream, 7, &create_request("t", 1, &[])).await;
    for id in 0..200 {
        send(&mut stream, id, 9, &produce_request("t", 0, -1, batch(&["x"]))).await;
    }
    for expect in 0..200 {
        let (id, answer) = receive::<ProduceRequest>(&mut stream, 9).await;
        assert_eq!((id, first(answer).base_offset), (expect, i64::from(expect)));
    }
    assert_eq!(server.stats().topics[0].end_offsets, [200]);
}

#[tokio::test]
async fn a_poll_ends_at_its_deadline() {
    let server = start().await;
    let mut stream = connect(&server).await;
    ask(&mut stream, 7, &create_request("t", 1, &[])).await;
    let begin = Instant::now();
    let answer = ask(&mut stream, 12, &fetch_request("t", 0, 0, 300)).await;
    assert!(fetched(&answer).is_empty());
    let elapsed = begin.elapsed();
    assert!(
        elapsed >= Duration::from_millis(290) && elapsed < Duration::from_secs(5),
        "{elapsed:?}"
    );
}

#[tokio::test]
async fn what_is_no_request_closes_its_connection_alone() {
    let server = start().await;
    let mut good = connect(&server).await;
    ask(&mut good, 7, &create_request("t", 1, &[])).await;
    for bytes in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 0, 0, 4, 0, 3, 0, 99], &[0xff; 64], &[0, 0, 0, 0]]
    {
        let mut bad = connect(&server).await;
        bad.write_all(bytes).await.unwrap();
        let read =
            tokio::time::timeout(Duration::from_secs(10), bad.read_u8()).await.expect("the end");
        assert!(read.is_err(), "{bytes:?}");
    }
    let answer = ask(&mut good, 9, &produce_request("t", 0, -1, batch(&["a"]))).await;
    assert_eq!(first(answer).error_code, 0);
}

#[tokio::test]
async fn an_announced_size_takes_no_memory_and_a_stall_ends() {
    let server = start_on(
        Arc::new(MemDisk::new()),
        BrokerConfig { request_stall_ms_max: 200, request_bytes_total_max: 100 << 20, ..config() },
    )
    .await;
    let mut liars = Vec::new();
    for _ in 0..20 {
        let mut liar = connect(&server).await;
        // 100 MiB are announced by each, and hardly anything comes.
        liar.write_all(&(100_i32 << 20).to_be_bytes()).await.unwrap();
        liar.write_all(&[0; 100]).await.unwrap();
        liars.push(liar);
    }
    let mut good = connect(&server).await;
    ask(&mut good, 7, &create_request("t", 1, &[])).await;
    let large = batch(&["x".repeat(500_000).as_str()]);
    let answer = ask(&mut good, 9, &produce_request("t", 0, -1, large)).await;
    assert_eq!(first(answer).error_code, 0);
    for liar in &mut liars {
        let read =
            tokio::time::timeout(Duration::from_secs(10), liar.read_u8()).await.expect("the end");
        assert!(read.is_err());
    }
}

#[tokio::test]
async fn connections_over_the_limit_are_closed() {
    let server =
        start_on(Arc::new(MemDisk::new()), BrokerConfig { connections_max: 1, ..config() }).await;
    let mut one = connect(&server).await;
    ask(&mut one, 12, &MetadataRequest::default()).await;
    let mut two = connect(&server).await;
    let read = tokio::time::timeout(Duration::from_secs(10), two.read_u8()).await.expect("the end");
    assert!(read.is_err());
    ask(&mut one, 12, &MetadataRequest::default()).await;
}

#[tokio::test]
async fn a_flood_of_silent_connections_locks_nobody_out() {
    let server =
        start_on(Arc::new(MemDisk::new()), BrokerConfig { connections_max: 8, ..config() }).await;
    let mut poll = connect(&server).await;
    ask(&mut poll, 7, &create_request("t", 1, &[])).await;
    send(&mut poll, 9, 12, &fetch_request("t", 0, 0, 60_000)).await;
    let mut flood = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut client = loop {
        flood.push(connect(&server).await);
        let mut client = connect(&server).await;
        let request = frame::encode_request(1, None, 12, &MetadataRequest::default()).unwrap();
        // Refused until one of the flood has been silent for long enough.
        if client.write_all(&request).await.is_ok() && client.read_i32().await.is_ok() {
            break client;
        }
        assert!(Instant::now() < deadline, "nobody made room");
    };
    let mut rest = vec![0; 1 << 10];
    assert!(client.read(&mut rest).await.unwrap() > 0);
    assert!(server.stats().connections <= 8);
    // Who waits for an answer was not taken for idle.
    ask(&mut client, 9, &produce_request("t", 0, -1, batch(&["a"]))).await;
    assert_eq!(fetched(&receive::<FetchRequest>(&mut poll, 12).await.1), ["a"]);
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let server = start_on(
        Arc::new(MemDisk::new()),
        BrokerConfig { connection_idle_ms_max: 100, ..config() },
    )
    .await;
    let mut stream = connect(&server).await;
    let read =
        tokio::time::timeout(Duration::from_secs(10), stream.read_u8()).await.expect("the end");
    assert!(read.is_err());
}

#[tokio::test]
async fn a_stop_is_quick_and_clean_though_polls_are_waiting() {
    let disk = Arc::new(MemDisk::new());
    let server = start_on(disk.clone(), config()).await;
    let mut stream = connect(&server).await;
    ask(&mut stream, 7, &create_request("t", 1, &[])).await;
    ask(&mut stream, 9, &produce_request("t", 0, 1, batch(&["a"]))).await;
    let mut poll = connect(&server).await;
    send(&mut poll, 1, 12, &fetch_request("t", 0, 1, 60_000)).await;
    let begin = Instant::now();
    server.shutdown().await.unwrap();
    assert!(begin.elapsed() < Duration::from_millis(1_500), "{:?}", begin.elapsed());
    let server = start_on(disk, config()).await;
    assert!(server.stats().clean_start);
    let mut stream = connect(&server).await;
    let answer = ask(&mut stream, 12, &fetch_request("t", 0, 0, 5_000)).await;
    assert_eq!(fetched(&answer), ["a"]);
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let server = start().await;
    let config = BrokerConfig { listen: server.local_addr(), ..config() };
    let error = BrokerServer::start_on(config, Arc::new(MemDisk::new()), Arc::new(WallClock))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "WEIR-0301");
    assert!(error.to_string().contains(&server.local_addr().to_string()), "{error}");
}

#[tokio::test]
async fn an_open_address_needs_a_word() {
    let mut open = config();
    open.listen.set_ip("0.0.0.0".parse().unwrap());
    let error = BrokerServer::start_on(open.clone(), Arc::new(MemDisk::new()), Arc::new(WallClock))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "WEIR-0302");
    let server =
        start_on(Arc::new(MemDisk::new()), BrokerConfig { insecure_listen: true, ..open }).await;
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn several_requests_in_one_packet_and_one_in_many() {
    let server = start().await;
    let mut stream = connect(&server).await;
    let mut packet = BytesMut::new();
    for id in 0..50 {
        packet.extend_from_slice(
            &frame::encode_request(id, None, 12, &MetadataRequest::default()).unwrap(),
        );
    }
    stream.write_all(&packet).await.unwrap();
    for expect in 0..50 {
        assert_eq!(receive::<MetadataRequest>(&mut stream, 12).await.0, expect);
    }
    for byte in frame::encode_request(77, None, 12, &MetadataRequest::default()).unwrap() {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(receive::<MetadataRequest>(&mut stream, 12).await.0, 77);
}

#[tokio::test]
async fn nothing_more_is_read_while_answers_take_too_much_memory() {
    let config = BrokerConfig { answer_bytes_waiting_max: 64 << 10, ..config() };
    let server = Arc::new(start_on(Arc::new(MemDisk::new()), config).await);
    // A pipe that holds next to nothing: what was not read stays with the client.
    let (mut ours, theirs) = tokio::io::duplex(1 << 10);
    let serving = tokio::spawn({
        let server = server.clone();
        async move { server.serve_connection(theirs).await }
    });
    ask(&mut ours, 7, &create_request("t", 1_000, &[])).await;
    let frame =
        frame::encode_request(1, None, 12, &MetadataRequest { topics: None, ..Default::default() })
            .unwrap();
    let mut taken = 0;
    for _ in 0..900 {
        // Nobody reads the answers, of some 30 kB each. A hundred requests fit into one read.
        match tokio::time::timeout(Duration::from_millis(300), ours.write_all(&frame)).await {
            Ok(written) => written.unwrap(),
            Err(_) => break,
        }
        taken += 1;
    }
    assert!((2..140).contains(&taken), "{taken} requests were taken");
    drop(ours);
    serving.await.unwrap();
}

/// A disk whose syncs panic once it is told so.
#[tokio::test]
async fn who_comes_too_fast_waits_and_holds_up_nobody_who_is_there() {
    let config = BrokerConfig { connection_creation_rate_max: Some(1), ..config() };
    let server = start_on(Arc::new(MemDisk::new()), config).await;
    let asked = MetadataRequest::default();
    let began = Instant::now();
    let mut first = connect(&server).await;
    ask(&mut first, 12, &asked).await;
    // Ten seconds' worth comes at once.
    for _ in 0..9 {
        ask(&mut connect(&server).await, 12, &asked).await;
    }
    let mut late = connect(&server).await;
    send(&mut late, 1, 12, &asked).await;
    let mut flood = Vec::new();
    for _ in 0..50 {
        flood.push(connect(&server).await);
    }
    ask(&mut first, 12, &asked).await;
    receive::<MetadataRequest>(&mut late, 12).await;
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(1), "{took:?}");
    let seconds = took.as_secs() as usize;
    assert!(server.stats().connections <= 11 + seconds, "{}", server.stats().connections);
    drop(flood);
    server.shutdown().await.unwrap();
}

#[derive(Debug)]
struct PanicDisk {
    disk: MemDisk,
    armed: Arc<AtomicBool>,
}

/// A file of it whose writes are syncs.
#[derive(Debug)]
struct PanicFile {
    file: Arc<dyn DiskFile>,
    armed: Arc<AtomicBool>,
}

impl DiskFile for PanicFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buf, position)
    }

    fn write_at(&self, buf: &[u8], position: u64) -> io::Result<()> {
        assert!(!self.armed.load(Ordering::Relaxed), "a test wants this panic");
        self.file.write_at(buf, position)
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        self.file.set_len(len_bytes)
    }

    fn len_bytes(&self) -> io::Result<u64> {
        self.file.len_bytes()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

impl Disk for PanicDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(path, mode)
    }

    fn open_direct(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open_direct(path)?;
        Ok(Arc::new(PanicFile { file, armed: Arc::clone(&self.armed) }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn sync_many(&self, files: &[Arc<dyn DiskFile>], dirs: &[PathBuf]) -> io::Result<()> {
        assert!(!self.armed.load(Ordering::Relaxed), "a test wants this panic");
        self.disk.sync_many(files, dirs)
    }

    fn volume_bytes(&self, path: &Path) -> io::Result<VolumeBytes> {
        self.disk.volume_bytes(path)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DiskLock>, LockFailure> {
        self.disk.lock(path)
    }
}

#[tokio::test]
async fn a_panic_of_a_commit_takes_the_directory_offline() {
    let disk = Arc::new(PanicDisk { disk: MemDisk::new(), armed: Arc::default() });
    let server =
        BrokerServer::start_on(config(), disk.clone() as Arc<dyn Disk>, Arc::new(WallClock))
            .await
            .unwrap();
    let mut stream = connect(&server).await;
    ask(&mut stream, 7, &create_request("t", 1, &[])).await;
    ask(&mut stream, 9, &produce_request("t", 0, -1, batch(&["a"]))).await;
    disk.armed.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        let answer = ask(&mut stream, 9, &produce_request("t", 0, -1, batch(&["b"]))).await;
        assert_eq!(first(answer).error_code, ErrorCode::KafkaStorageError.code());
    }
    let answer = ask(&mut stream, 12, &fetch_request("t", 0, 0, 0)).await;
    assert_eq!(fetched(&answer), ["a"]);
    assert!(server.stats().failure.is_some());
    assert!(server.shutdown().await.is_err(), "no mark of a clean stop");
}

#[tokio::test]
async fn a_compacted_topic_is_cleaned_by_the_running_server() {
    let server = start().await;
    let mut stream = connect(&server).await;
    ask(&mut stream, 7, &create_request("t", 1, &[("cleanup.policy", "compact")])).await;
    for value in ["a", "b", "c"] {
        let request = produce_request("t", 0, -1, batch(&[value]));
        assert_eq!(first(ask(&mut stream, 9, &request).await).error_code, 0);
    }
    assert_eq!(server.request_clean("t", 0), Ok(true));
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.stats().cleaner.runs == 0 {
        assert!(Instant::now() < deadline, "{:?}", server.stats().cleaner);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let answer = ask(&mut stream, 12, &fetch_request("t", 0, 0, 0)).await;
    assert_eq!(fetched(&answer), ["c"]);
    server.shutdown().await.unwrap();
}

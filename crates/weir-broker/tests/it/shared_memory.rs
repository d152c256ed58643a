//! Memory that all connections share: who holds it and is slow goes when others wait.

#![allow(clippy::disallowed_methods)] // Deadlines of tests that wait for a real server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir_broker::{BrokerConfig, BrokerServer};
use weir_log::MemDisk;
use weir_protocol::api::fetch::FetchRequest;
use weir_protocol::api::metadata::MetadataRequest;
use weir_protocol::frame;

use crate::harness::{batch, create_request, fetch_request, first, produce_request};
use crate::server::{ask, config, connect, start_on};

/// A frame of this size that is never whole: all but some bytes come, and then one now and then.
async fn trickle(server: &BrokerServer, frame_bytes: usize) -> tokio::task::JoinHandle<()> {
    let mut stream = connect(server).await;
    stream.write_i32(i32::try_from(frame_bytes).unwrap()).await.unwrap();
    stream.write_all(&vec![0; frame_bytes - 1_000]).await.unwrap();
    tokio::spawn(async move {
        let (mut reading, mut writing) = stream.into_split();
        let ended = tokio::spawn(async move { reading.read_u8().await });
        while writing.write_all(&[0]).await.is_ok() && !ended.is_finished() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
}

#[tokio::test]
async fn requests_that_trickle_make_room_for_who_waits() {
    let config = BrokerConfig {
        request_bytes_max: 1 << 20,
        request_bytes_total_max: 2 << 20,
        // Nothing ends in time by these.
        request_stall_ms_max: 60_000,
        request_read_ms_max: 120_000,
        ..config()
    };
    let server = start_on(Arc::new(MemDisk::new()), config).await;
    let mut good = connect(&server).await;
    ask(&mut good, 7, &create_request("t", 1, &[])).await;
    let one = trickle(&server, 1 << 20).await;
    let other = trickle(&server, 1 << 20).await;
    // Nobody waits for them yet.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(!one.is_finished() && !other.is_finished());
    let begun = Instant::now();
    let large = batch(&["x".repeat(700_000).as_str()]);
    let answer = ask(&mut good, 9, &produce_request("t", 0, -1, large)).await;
    assert_eq!(first(answer).error_code, 0);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let one_went = tokio::time::timeout(Duration::from_secs(10), async {
        tokio::select! { _ = one => {}, _ = other => {} }
    });
    one_went.await.expect("a slow one was closed");
}

/// Connections that ask much and read nothing: a pipe holds next to nothing, so it stays with the server.
struct Greedy {
    server: Arc<BrokerServer>,
    ends: Vec<tokio::task::JoinHandle<()>>,
    pipes: Vec<tokio::io::DuplexStream>,
}

impl Greedy {
    async fn ask(&mut self, request: &[u8], times: usize) -> usize {
        let (mut ours, theirs) = tokio::io::duplex(1 << 10);
        let server = self.server.clone();
        self.ends.push(tokio::spawn(async move {
            server.serve_connection(theirs).await;
        }));
        let mut taken = 0;
        for _ in 0..times {
            let write = tokio::time::timeout(Duration::from_millis(50), ours.write_all(request));
            match write.await {
                Ok(Ok(())) => taken += 1,
                _ => break,
            }
        }
        self.pipes.push(ours);
        taken
    }

    async fn one_is_closed(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.ends.iter().any(|end| end.is_finished()) {
            assert!(Instant::now() < deadline, "none is closed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn answers_that_nobody_reads_are_bounded_in_sum_and_hold_up_others_briefly() {
    let config = BrokerConfig { answer_bytes_waiting_total_max: 512 << 10, ..config() };
    let server = Arc::new(start_on(Arc::new(MemDisk::new()), config).await);
    let mut good = connect(&server).await;
    ask(&mut good, 7, &create_request("t", 1_000, &[])).await;
    let every = MetadataRequest { topics: None, ..Default::default() };
    let frame = frame::encode_request(1, None, 12, &every).unwrap();
    let mut greedy = Greedy { server: server.clone(), ends: Vec::new(), pipes: Vec::new() };
    let mut taken = 0;
    for _ in 0..10 {
        // Some 30 kB each. What fits into a pipe and one read of the server is taken in any case.
        taken += greedy.ask(&frame, 400).await;
    }
    assert!(taken < 1_500, "{taken} requests were taken, of 4,000");
    let begun = Instant::now();
    assert_eq!(ask(&mut good, 12, &every).await.topics.len(), 1);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    greedy.one_is_closed().await;
    drop(greedy);
    // What they held is free again: nobody waits.
    let begun = Instant::now();
    for _ in 0..20 {
        ask(&mut good, 12, &every).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn records_that_nobody_reads_hold_up_others_briefly() {
    let config = BrokerConfig { answer_bytes_waiting_total_max: 512 << 10, ..config() };
    let server = Arc::new(start_on(Arc::new(MemDisk::new()), config).await);
    let mut good = connect(&server).await;
    ask(&mut good, 7, &create_request("t", 1, &[])).await;
    for _ in 0..3 {
        let records = batch(&["x".repeat(200_000).as_str()]);
        ask(&mut good, 9, &produce_request("t", 0, -1, records)).await;
    }
    let mut greedy = Greedy { server: server.clone(), ends: Vec::new(), pipes: Vec::new() };
    for partition_bytes in [250_000, 250_000, 1 << 20, 1 << 20] {
        let mut fetch = fetch_request("t", 0, 0, 0);
        fetch.topics[0].partitions[0].partition_max_bytes = partition_bytes;
        greedy.ask(&frame::encode_request(1, None, 12, &fetch).unwrap(), 1).await;
    }
    let begun = Instant::now();
    let fetched = ask::<FetchRequest>(&mut good, 12, &fetch_request("t", 0, 0, 0)).await;
    let records = fetched.responses[0].partitions[0].records.as_ref().unwrap();
    assert!(records.len() > 500_000, "{}", records.len());
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    greedy.one_is_closed().await;
}

//! How fast a broker sends what is in the page cache: `fetch_probe MEGABYTES [FETCH_MEGABYTES]`, in one process on one disk.
//!
//! Prints the throughput of large fetches, and what a hop to a blocking thread costs beside reading a chunk.
#![allow(clippy::print_stdout, clippy::disallowed_methods)] // A main function that measures time.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir_broker::{BrokerConfig, BrokerServer};
use weir_protocol::api::create_topics::{CreatableTopic, CreateTopicsRequest};
use weir_protocol::api::fetch::{FetchPartition, FetchRequest, FetchTopic};
use weir_protocol::api::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use weir_protocol::batch::{batches, BatchBuilder};
use weir_protocol::compression::Codec;
use weir_protocol::{frame, Clock, Request, TimestampMs};

type Failure = Box<dyn std::error::Error>;

#[derive(Debug)]
struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> TimestampMs {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        TimestampMs(i64::try_from(since.as_millis()).unwrap_or(0))
    }
}

async fn ask<R: Request>(
    stream: &mut TcpStream,
    version: i16,
    request: &R,
) -> Result<R::Response, Failure> {
    stream.write_all(&frame::encode_request(1, None, version, request)?).await?;
    let len = usize::try_from(stream.read_i32().await?)?;
    let mut body = BytesMut::zeroed(len);
    stream.read_exact(&mut body).await?;
    Ok(frame::decode_response::<R>(body.freeze(), version)?.1)
}

async fn fill(stream: &mut TcpStream, megabytes: usize) -> Result<(), Failure> {
    let topic = CreatableTopic {
        name: "t".into(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let answer = ask(stream, 7, &request).await?;
    if let Some(failed) = answer.topics.iter().find(|topic| topic.error_code != 0) {
        return Err(format!("create: {failed:?}").into());
    }
    let mut builder = BatchBuilder::new(Codec::None);
    for _ in 0..4_700 {
        builder.append(WallClock.now(), None, Some(&[b'x'; 200]), &[]);
    }
    let records = builder.build();
    for _ in 0..megabytes {
        let data = PartitionProduceData { index: 0, records: Some(records.clone()) };
        let request = ProduceRequest {
            acks: -1,
            topic_data: vec![TopicProduceData {
                name: "t".into(),
                partition_data: vec![data],
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = ask(stream, 9, &request).await?;
        let mut partitions = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
        if let Some(failed) = partitions.find(|partition| partition.error_code != 0) {
            return Err(format!("produce: {failed:?}").into());
        }
    }
    Ok(())
}

/// Reads the topic once; returns bytes and seconds.
async fn read(stream: &mut TcpStream, fetch_bytes: i32) -> Result<(usize, f64), Failure> {
    let (mut offset, mut bytes) = (0, 0);
    let begun = Instant::now();
    loop {
        let partition = FetchPartition {
            fetch_offset: offset,
            partition_max_bytes: fetch_bytes,
            ..Default::default()
        };
        let request = FetchRequest {
            max_bytes: fetch_bytes,
            topics: vec![FetchTopic {
                topic: "t".into(),
                partitions: vec![partition],
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = ask(stream, 12, &request).await?;
        let records = answer.responses.first().and_then(|topic| topic.partitions.first());
        let records = records.and_then(|partition| partition.records.clone()).unwrap_or_default();
        let Some(last) = batches(&records).map_while(Result::ok).last() else { break };
        offset = last.last_offset().get() + 1;
        bytes += records.len();
    }
    Ok((bytes, begun.elapsed().as_secs_f64()))
}

/// Microseconds that a hop to a blocking thread and back takes, and those of reading a chunk.
async fn hop_and_read(path: &std::path::Path, chunk_bytes: usize) -> Result<(f64, f64), Failure> {
    use std::os::unix::fs::FileExt;
    const ROUNDS: u32 = 2_000;
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        tokio::task::spawn_blocking(|| ()).await?;
    }
    let hop = begun.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS);
    let file = std::fs::File::open(path)?;
    let mut chunk = vec![0; chunk_bytes];
    let begun = Instant::now();
    for round in 0..u64::from(ROUNDS) {
        file.read_exact_at(&mut chunk, round % 40 * chunk_bytes as u64)?;
    }
    Ok((hop, begun.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS)))
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let megabytes: usize = arguments.next().unwrap_or("500".into()).parse()?;
    let fetch_megabytes: i32 = arguments.next().unwrap_or("50".into()).parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let data_dir = std::env::temp_dir().join(format!("fetch-probe-{}", std::process::id()));
        let mut config = BrokerConfig { data_dir: data_dir.clone(), ..BrokerConfig::default() };
        config.listen.set_port(0);
        let server = BrokerServer::start(config, Arc::new(WallClock)).await?;
        let mut stream = TcpStream::connect(server.local_addr()).await?;
        fill(&mut stream, megabytes).await?;
        for _ in 0..5 {
            let (bytes, seconds) = read(&mut stream, fetch_megabytes << 20).await?;
            println!("{:.0} MB/s", bytes as f64 / 1e6 / seconds);
        }
        let segment = data_dir.join("t-0/00000000000000000000.log");
        for kilobytes in [16, 64, 256, 1024] {
            let (hop, read) = hop_and_read(&segment, kilobytes << 10).await?;
            println!("hop {hop:.1} us, reading {kilobytes} KiB {read:.1} us");
        }
        server.shutdown().await?;
        std::fs::remove_dir_all(&data_dir)?;
        Ok(())
    })
}

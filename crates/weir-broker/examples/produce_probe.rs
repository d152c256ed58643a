//! How fast a broker takes batches from one connection: `produce_probe HOST:PORT TOPIC ACKS RECORDS_PER_BATCH BATCHES IN_FLIGHT`.
//!
//! Works against any Kafka. Batches are built once, so that the figures are the broker's.
#![allow(clippy::print_stdout, clippy::disallowed_methods)] // A main function that measures time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir_protocol::api::create_topics::{CreatableTopic, CreateTopicsRequest};
use weir_protocol::api::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use weir_protocol::batch::BatchBuilder;
use weir_protocol::compression::Codec;
use weir_protocol::{frame, Request, Str, TimestampMs};

type Failure = Box<dyn std::error::Error>;

async fn receive<R: Request>(stream: &mut TcpStream, version: i16) -> Result<R::Response, Failure> {
    let len = usize::try_from(stream.read_i32().await?)?;
    let mut body = BytesMut::zeroed(len);
    stream.read_exact(&mut body).await?;
    Ok(frame::decode_response::<R>(body.freeze(), version)?.1)
}

fn produce_frame(topic: &str, acks: i16, records: usize) -> Result<Bytes, Failure> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis();
    let mut builder = BatchBuilder::new(Codec::None);
    let value = [b'x'; 188];
    for _ in 0..records {
        builder.append(TimestampMs(i64::try_from(now)?), Some(b"key-0123"), Some(&value), &[]);
    }
    let data = PartitionProduceData { index: 0, records: Some(builder.build()) };
    let request = ProduceRequest {
        acks,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: Str::copy_from(topic),
            partition_data: vec![data],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    };
    Ok(frame::encode_request(1, Some("probe"), 9, &request)?.freeze())
}

async fn take_answer(
    stream: &mut TcpStream,
    sent: &mut VecDeque<Instant>,
) -> Result<Duration, Failure> {
    let answer = receive::<ProduceRequest>(stream, 9).await?;
    let error = answer.responses[0].partition_responses[0].error_code;
    if error != 0 {
        return Err(format!("produce failed with {error}").into());
    }
    Ok(sent.pop_front().map(|at| at.elapsed()).unwrap_or_default())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().collect();
    let [_, address, topic, acks, records, batches, in_flight] = args.as_slice() else {
        return Err("HOST:PORT TOPIC ACKS RECORDS_PER_BATCH BATCHES IN_FLIGHT".into());
    };
    let (acks, records): (i16, usize) = (acks.parse()?, records.parse()?);
    let (batches, in_flight): (usize, usize) = (batches.parse()?, in_flight.parse()?);
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let create = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: Str::copy_from(topic),
            num_partitions: 1,
            replication_factor: 1,
            ..CreatableTopic::default()
        }],
        ..CreateTopicsRequest::default()
    };
    stream.write_all(&frame::encode_request(1, Some("probe"), 7, &create)?).await?;
    receive::<CreateTopicsRequest>(&mut stream, 7).await?;

    let produce = produce_frame(topic, acks, records)?;
    let begin = Instant::now();
    let mut sent = VecDeque::new();
    let mut latencies = Vec::with_capacity(batches);
    for _ in 0..batches {
        if sent.len() == in_flight {
            latencies.push(take_answer(&mut stream, &mut sent).await?);
        }
        sent.push_back(Instant::now());
        stream.write_all(&produce).await?;
    }
    while !sent.is_empty() {
        latencies.push(take_answer(&mut stream, &mut sent).await?);
    }
    let seconds = begin.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at =
        |share: usize| latencies.get(latencies.len() * share / 100).copied().unwrap_or_default();
    let total = records * batches;
    println!(
        "{total} records in {seconds:.2} s: {:.0} /s, p50 {:?}, p99 {:?}",
        total as f64 / seconds,
        at(50),
        at(99)
    );
    Ok(())
}

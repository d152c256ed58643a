//! Records for compacted topics are looked at outside the core's lock.

use bytes::{Buf, Bytes};
use weir_broker::request::{self, Request, RequestFrame};
use weir_broker::{ConnId, Connection, Reply};
use weir_protocol::batch::BatchBuilder;
use weir_protocol::compression::Codec;
use weir_protocol::{frame, ErrorCode, TimestampMs};

use crate::harness::{
    create_request, fetch_request, fetched, first, produce_request, Harness, START_MS,
};
use crate::server::{ask, config, connect, start_on};

/// One record of `bytes` zeros, which compresses to next to nothing.
fn compressed(key: Option<&[u8]>, bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::Zstd);
    builder.append(TimestampMs(START_MS), key, Some(&vec![b'0'; bytes]), &[]);
    builder.build()
}

fn decoded(batch: Bytes) -> RequestFrame {
    let request = produce_request("t", 0, -1, batch);
    let mut frame = frame::encode_request(7, None, 9, &request).unwrap();
    frame.advance(4);
    request::decode(frame, 1 << 20).unwrap()
}

fn handle(h: &mut Harness, frame: &mut RequestFrame) -> Reply {
    let connection = Connection {
        id: ConnId(1),
        client_host: "/127.0.0.1".into(),
        advertised: ("localhost".into(), 9092),
        principal: "User:ANONYMOUS".into(),
    };
    h.broker.handle(&connection, &frame.header, &mut frame.request, h.now).reply
}

#[test]
fn nothing_of_a_batch_for_a_compacted_topic_is_taken_before_its_keys_were_looked_at() {
    let mut h = Harness::new();
    h.create("t", 1, &[("cleanup.policy", "compact")]);
    h.commit_all();
    let mut frame = decoded(compressed(Some(b"k"), 1 << 20));
    for _ in 0..2 {
        let reply = handle(&mut h, &mut frame);
        assert!(matches!(reply, Reply::LookInside), "{reply:?}");
    }
    h.commit_all();
    assert_eq!(h.broker.stats().topics[0].end_offsets, [0]);
    let Request::Produce(produce) = &mut frame.request else { panic!("a produce") };
    assert!(produce.is_dear_to_look_inside());
    produce.look_inside(2 << 20);
    let reply = handle(&mut h, &mut frame);
    assert!(matches!(reply, Reply::Parked(_)), "{reply:?}");
    assert_eq!(h.broker.stats().topics.len(), 1);
}

#[test]
fn batches_for_other_topics_are_taken_at_once() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    h.commit_all();
    let reply = handle(&mut h, &mut decoded(compressed(None, 100)));
    assert!(matches!(reply, Reply::Parked(_)), "{reply:?}");
}

#[tokio::test]
async fn compressed_batches_for_a_compacted_topic_go_through_the_server() {
    let mut config = config();
    config.inflate_bytes_max = 1 << 20;
    let disk = std::sync::Arc::new(weir_log::MemDisk::new());
    let server = start_on(disk, config).await;
    let mut stream = connect(&server).await;
    ask(&mut stream, 7, &create_request("t", 1, &[("cleanup.policy", "compact")])).await;
    for (batch, error) in [
        (compressed(Some(b"k"), 3), ErrorCode::None),
        (compressed(None, 3), ErrorCode::InvalidRecord),
        (compressed(Some(b"k"), 2 << 20), ErrorCode::CorruptMessage),
    ] {
        let answer = first(ask(&mut stream, 9, &produce_request("t", 0, -1, batch)).await);
        assert_eq!(answer.error_code, error.code(), "{:?}", answer.error_message);
    }
    let answer = ask(&mut stream, 12, &fetch_request("t", 0, 0, 0)).await;
    assert_eq!(fetched(&answer), ["000"]);
    server.shutdown().await.unwrap();
}

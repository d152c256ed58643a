//! Topics with a codec of their own, and topics that bound the age of records: what came is looked into before it is taken.

use bytes::{Bytes, BytesMut};
use weir_log::MemDisk;
use weir_protocol::api::end_txn::EndTxnRequest;
use weir_protocol::api::fetch::FetchRequest;
use weir_protocol::api::init_producer_id::InitProducerIdRequest;
use weir_protocol::batch::{batches, set_producer, BatchBuilder, BatchView, Header, HEADER_BYTES};
use weir_protocol::compression::Codec;
use weir_protocol::{ErrorCode, ProducerEpoch, ProducerId, Sequence, TimestampMs};

use crate::harness::*;
use crate::server::{ask, config, connect, start_on};

const INFLATE_BYTES_MAX: usize = 1 << 20;

fn batch_of(codec: Codec, values: &[&str], producer: Option<(i64, i16, i32)>) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    for (at, value) in values.iter().enumerate() {
        let time = TimestampMs(START_MS + at as i64);
        let headers = [Header { key: "trace", value: Some(b"7") }];
        builder.append(time, Some(b"key"), Some(value.as_bytes()), &headers);
    }
    if let Some((id, epoch, sequence)) = producer {
        builder.set_producer(ProducerId(id), ProducerEpoch(epoch), Sequence(sequence));
    }
    builder.build()
}

/// The batches of `t` from `offset` on, as a reader gets them.
fn stored(h: &mut Harness, offset: i64) -> Bytes {
    let answer = h.ask(12, &fetch_request("t", 0, offset, 0));
    answer.responses[0].partitions[0].records.clone().unwrap()
}

fn codecs(records: &Bytes) -> Vec<Codec> {
    batches(records).map(|view| view.unwrap().codec().unwrap()).collect()
}

fn same(records: &Bytes, expect: &[&str]) {
    let mut at = 0;
    for view in batches(records) {
        let view = view.unwrap();
        view.verify_crc().unwrap();
        assert_eq!(view.base_offset().get(), at as i64);
        for record in view.records(INFLATE_BYTES_MAX).unwrap() {
            let record = record.unwrap();
            assert_eq!(record.value.as_deref(), Some(expect[at].as_bytes()));
            assert_eq!(record.headers.iter().count(), 1);
            at += 1;
        }
    }
    assert_eq!(at, expect.len());
}

#[test]
fn a_batch_is_stored_under_the_codec_of_its_topic_whatever_its_producer_had() {
    let text = "some text, some text, some text, some text, some text, some text, some text";
    for (kind, codec) in [
        ("gzip", Codec::Gzip),
        ("snappy", Codec::Snappy),
        ("lz4", Codec::Lz4),
        ("zstd", Codec::Zstd),
        ("uncompressed", Codec::None),
    ] {
        let mut h = Harness::new();
        h.create("t", 1, &[("compression.type", kind)]);
        for (at, from) in Codec::ALL.into_iter().enumerate() {
            let sent = batch_of(from, &[text, "b"], Some((5, 0, 2 * at as i32)));
            let answer = h.produce("t", 0, sent);
            assert_eq!((answer.error_code, answer.base_offset), (0, 2 * at as i64), "{kind}");
        }
        let records = stored(&mut h, 0);
        assert_eq!(codecs(&records), [codec; 5], "{kind}");
        same(&records, &[text, "b"].repeat(5));
        let again = h.produce("t", 0, batch_of(Codec::Lz4, &[text, "b"], Some((5, 0, 8))));
        assert_eq!((again.error_code, again.base_offset), (0, 8), "{kind}: a repeat is known");
        for view in batches(&records) {
            let view = view.unwrap();
            assert_eq!(view.producer_id(), ProducerId(5));
            assert_eq!(view.base_timestamp(), TimestampMs(START_MS));
            assert_eq!(view.max_timestamp(), TimestampMs(START_MS + 1));
        }
    }
}

#[test]
fn what_has_the_codec_already_goes_by_as_it_came() {
    let mut h = Harness::new();
    h.create("t", 1, &[("compression.type", "zstd"), ("compression.zstd.level", "19")]);
    let value = "abc ".repeat(200);
    let sent = batch_of(Codec::Zstd, &[&value], None);
    h.produce("t", 0, sent.clone());
    // But for the eight bytes of its offset and the four of its epoch.
    let records = stored(&mut h, 0);
    assert_eq!(records[16..], sent[16..]);
}

/// KIP-110.
#[test]
fn a_client_that_need_not_know_zstd_is_told_so_by_a_topic_that_has_it() {
    let mut h = Harness::new();
    h.create("t", 1, &[("compression.type", "zstd")]);
    h.produce("t", 0, batch_of(Codec::None, &["a"], None));
    for (version, error) in [(9, ErrorCode::UnsupportedCompressionType), (10, ErrorCode::None)] {
        let answer = h.ask(version, &fetch_request("t", 0, 0, 0));
        assert_eq!(answer.responses[0].partitions[0].error_code, error.code(), "{version}");
    }
}

#[test]
fn a_level_is_obeyed() {
    let value: String = (0..20_000).map(|n| format!("{} ", n * n % 9_973)).collect();
    let mut sizes = Vec::new();
    for (kind, key, level) in [
        ("gzip", "compression.gzip.level", "1"),
        ("gzip", "compression.gzip.level", "9"),
        ("zstd", "compression.zstd.level", "-5"),
        ("zstd", "compression.zstd.level", "22"),
    ] {
        let mut h = Harness::new();
        h.create("t", 1, &[("compression.type", kind), (key, level)]);
        assert_eq!(h.produce("t", 0, batch_of(Codec::None, &[&value], None)).error_code, 0);
        let records = stored(&mut h, 0);
        same(&records, &[&value]);
        sizes.push(records.len());
    }
    assert!(sizes[1] < sizes[0] && sizes[3] < sizes[2], "{sizes:?}");
}

#[test]
fn the_size_counts_before_and_after() {
    let mut h = Harness::new();
    h.create("t", 1, &[("compression.type", "uncompressed"), ("max.message.bytes", "2000")]);
    let zeros = "0".repeat(4_000);
    let small = batch_of(Codec::Zstd, &[&zeros], None);
    assert!(small.len() < 200);
    let answer = h.produce("t", 0, small);
    assert_eq!(answer.error_code, ErrorCode::MessageTooLarge.code(), "after");
    let mut h = Harness::new();
    h.create("t", 1, &[("compression.type", "zstd"), ("max.message.bytes", "2000")]);
    let answer = h.produce("t", 0, batch_of(Codec::None, &[&zeros], None));
    assert_eq!(answer.error_code, ErrorCode::MessageTooLarge.code(), "before, as in Kafka");
    assert!(stored(&mut h, 0).is_empty());
}

#[test]
fn broken_records_are_refused_where_they_are_looked_at() {
    let mut h = Harness::new();
    h.create("t", 1, &[("compression.type", "zstd")]);
    let mut broken = BytesMut::from(&batch_of(Codec::None, &["value"], None)[..]);
    // The length of the first record: -1.
    broken[HEADER_BYTES] = 1;
    // Makes a CRC that fits.
    set_producer(&mut broken, ProducerId::NONE, ProducerEpoch::NONE, Sequence::NONE).unwrap();
    let answer = h.produce("t", 0, broken.freeze());
    assert_eq!(answer.error_code, ErrorCode::InvalidRecord.code(), "{:?}", answer.error_message);
}

#[test]
fn a_changed_codec_counts_from_the_next_batch_on_and_the_brokers_for_topics_without_one() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    crate::configs::set(&mut h, crate::configs::BROKER, "", "compression.type", "gzip");
    h.produce("t", 0, batch_of(Codec::None, &["a"], None));
    crate::configs::set(&mut h, crate::configs::TOPIC, "t", "compression.type", "producer");
    h.produce("t", 0, batch_of(Codec::None, &["b"], None));
    assert_eq!(codecs(&stored(&mut h, 0)), [Codec::Gzip, Codec::None]);
}

#[test]
fn a_transaction_stays_one() {
    let mut h = Harness::with_coordinator();
    h.create("t", 1, &[("compression.type", "lz4")]);
    let init = InitProducerIdRequest {
        transactional_id: Some("tx".into()),
        transaction_timeout_ms: 60_000,
        ..InitProducerIdRequest::default()
    };
    while h.ask(4, &init).error_code != 0 {
        h.commit_all();
    }
    let answer = h.ask(4, &init);
    let (id, epoch) = (answer.producer_id, answer.producer_epoch);
    let mut builder = BatchBuilder::new(Codec::Gzip);
    builder.append(TimestampMs(START_MS), None, Some(b"in a transaction"), &[]);
    builder.set_producer(ProducerId(id), ProducerEpoch(epoch), Sequence(0));
    builder.set_transactional(true);
    let mut request = produce_request("t", 0, -1, builder.build());
    request.transactional_id = Some("tx".into());
    // Produce 12 adds the partition by itself (KIP-890).
    let answer = first(h.ask(12, &request));
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    let mut committed = fetch_request("t", 0, 0, 0);
    committed.isolation_level = 1;
    assert!(fetched(&h.ask(12, &committed)).is_empty(), "not before it is");
    let end = EndTxnRequest {
        transactional_id: "tx".into(),
        producer_id: id,
        producer_epoch: epoch,
        committed: true,
    };
    assert_eq!(h.ask(5, &end).error_code, 0);
    let records = h.ask(12, &committed).responses[0].partitions[0].records.clone().unwrap();
    let view = BatchView::parse(&records).unwrap();
    assert!(view.is_transactional() && view.codec() == Ok(Codec::Lz4));
}

#[test]
fn append_time_and_codec_go_together() {
    let mut h = Harness::new();
    let configs = [("compression.type", "zstd"), ("message.timestamp.type", "LogAppendTime")];
    h.create("t", 1, &configs);
    let answer = h.produce("t", 0, batch_of(Codec::Gzip, &["a", "b"], None));
    assert_eq!(answer.log_append_time_ms, h.now.get());
    let records = stored(&mut h, 0);
    assert_eq!(codecs(&records), [Codec::Zstd]);
    for record in BatchView::parse(&records).unwrap().records(INFLATE_BYTES_MAX).unwrap() {
        assert_eq!(record.unwrap().timestamp, h.now);
    }
}

#[test]
fn each_record_may_be_too_old_not_the_latest_alone_and_one_without_a_time_is_not() {
    let mut h = Harness::new();
    h.create("t", 1, &[("message.timestamp.before.max.ms", "1000")]);
    let mut dated = |times: &[i64]| {
        let mut builder = BatchBuilder::new(Codec::None);
        for time in times {
            builder.append(TimestampMs(*time), None, Some(b"v"), &[]);
        }
        let answer = h.produce("t", 0, builder.build());
        let records: Vec<i32> = answer.record_errors.iter().map(|one| one.batch_index).collect();
        (ErrorCode::from_code(answer.error_code), records)
    };
    assert_eq!(dated(&[START_MS - 1_000, START_MS]), (ErrorCode::None, vec![]));
    assert_eq!(
        dated(&[START_MS, START_MS - 1_001, START_MS]),
        (ErrorCode::InvalidTimestamp, vec![1])
    );
    assert_eq!(dated(&[-1]), (ErrorCode::None, vec![]));
}

#[tokio::test]
async fn many_batches_that_grow_are_refused_before_they_take_all_memory() {
    let given = weir_broker::BrokerConfig { inflate_bytes_max: 3 << 20, ..config() };
    let server = start_on(std::sync::Arc::new(MemDisk::new()), given).await;
    let mut stream = connect(&server).await;
    let configs = [("compression.type", "uncompressed"), ("max.message.bytes", "2000000")];
    ask(&mut stream, 7, &create_request("t", 4, &configs)).await;
    let zeros = "0".repeat(1 << 20);
    let mut request = produce_request("t", 0, -1, batch_of(Codec::Zstd, &[&zeros], None));
    let one = request.topic_data[0].partition_data[0].clone();
    request.topic_data[0].partition_data = (0..4)
        .map(|index| {
            let mut one = one.clone();
            one.index = index;
            one
        })
        .collect();
    let answer = ask(&mut stream, 9, &request).await;
    let errors = answer.responses[0].partition_responses.iter().map(|one| one.error_code);
    let too_large = ErrorCode::MessageTooLarge.code();
    assert_eq!(errors.collect::<Vec<_>>(), [0, 0, too_large, too_large]);
    let mut fetch = fetch_request("t", 1, 0, 0);
    fetch.max_bytes = 8 << 20;
    fetch.topics[0].partitions[0].partition_max_bytes = 8 << 20;
    let answer = ask::<FetchRequest>(&mut stream, 12, &fetch).await;
    let records = answer.responses[0].partitions[0].records.clone().unwrap();
    assert!(records.len() > 1 << 20 && codecs(&records) == [Codec::None]);
    server.shutdown().await.unwrap();
}

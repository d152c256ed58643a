//! Record batches: against a model, against Java's bytes, against the crate kafka-protocol, and against
//! damage.

#![allow(clippy::unwrap_used)] // In helpers of tests too, not only in the tests.

use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as oracle;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use weir_protocol::batch::{
    self, build_control, validate_for_produce, BatchBuilder, BatchError, BatchPool, BatchView,
    ControlMarker, Header, Recoding, Record, RecordError, TimestampType, HEADER_BYTES,
};
use weir_protocol::compression::{self, Codec, Compressor};
use weir_protocol::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};
use weir_protocol::ErrorCode;

const INFLATE_BYTES_MAX: usize = 16 << 20;
const NOW: TimestampMs = TimestampMs(1_790_000_000_000);

/// What a record is, apart from any format.
#[derive(Debug, Clone, PartialEq)]
struct Model {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Model {
    fn text(key: &str, value: &str) -> Self {
        let (key, value) = (Some(key.into()), Some(value.into()));
        Self { timestamp: NOW.get(), key, value, headers: Vec::new() }
    }

    fn append(&self, builder: &mut BatchBuilder, in_place: bool) -> usize {
        let headers: Vec<Header<'_>> = self
            .headers
            .iter()
            .map(|(key, value)| Header { key, value: value.as_deref() })
            .collect();
        let timestamp = TimestampMs(self.timestamp);
        match &self.value {
            Some(value) if in_place => {
                builder.append_with(timestamp, self.key.as_deref(), &headers, |buffer| {
                    buffer.extend_from_slice(value);
                })
            }
            value => builder.append(timestamp, self.key.as_deref(), value.as_deref(), &headers),
        }
    }

    fn of(record: &Record) -> Self {
        let headers = record.headers.iter();
        Self {
            timestamp: record.timestamp.get(),
            key: record.key.as_deref().map(<[u8]>::to_vec),
            value: record.value.as_deref().map(<[u8]>::to_vec),
            headers: headers
                .map(|(key, value)| (key.as_str().to_owned(), value.map(|value| value.to_vec())))
                .collect(),
        }
    }
}

fn build(codec: Codec, models: &[Model]) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    for model in models {
        model.append(&mut builder, false);
    }
    builder.build()
}

fn read(batch: &Bytes) -> Result<Vec<Record>, BatchError> {
    BatchView::parse_shared(batch)?.records(INFLATE_BYTES_MAX)?.collect()
}

fn models_of(batch: &Bytes) -> Vec<Model> {
    read(batch).unwrap().iter().map(Model::of).collect()
}

/// Makes the CRC right again after a test changed something under it.
fn with_crc(mut batch: Vec<u8>) -> Vec<u8> {
    let crc = crc32c_of(&batch);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

fn crc32c_of(batch: &[u8]) -> u32 {
    match BatchView::parse(batch).unwrap().verify_crc() {
        Err(BatchError::Crc { computed, .. }) => computed,
        _ => BatchView::parse(batch).unwrap().crc(),
    }
}

/// A small batch with every field set.
fn sample(codec: Codec) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    let value = "{\"value\":21.50,\"room\":\"R12\"}".repeat(12);
    let headers = [
        Header { key: "event-type", value: Some(b"sensor.temperature") },
        Header { key: "trace_id", value: None },
    ];
    builder.set_producer(ProducerId(4711), ProducerEpoch(3), Sequence(i32::MAX - 1));
    builder.set_transactional(true);
    builder.append(NOW, Some(b"dev-1"), Some(value.as_bytes()), &headers);
    builder.append(NOW.plus_ms(300), None, Some("流".as_bytes()), &[]);
    builder.append(NOW.plus_ms(-1), Some(b""), None, &[]);
    builder.build()
}

fn any_codec() -> impl Strategy<Value = Codec> {
    prop::sample::select(Codec::ALL.to_vec())
}

fn any_value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..80),
        // Compressible, and over the edges where its length takes another byte.
        (any::<u8>(), prop_oneof![0..300_usize, 8_150..8_220_usize])
            .prop_map(|(byte, len)| vec![byte; len]),
    ]
}

fn any_timestamp() -> impl Strategy<Value = i64> {
    prop_oneof![4 => (0..100_000_i64).prop_map(|ms| NOW.get() + ms), 1 => any::<i64>()]
}

fn any_model() -> impl Strategy<Value = Model> {
    let header = (".{0,12}", option::of(vec(any::<u8>(), 0..20)));
    (
        any_timestamp(),
        option::of(vec(any::<u8>(), 0..20)),
        option::weighted(0.9, any_value()),
        vec(header, 0..4),
    )
        .prop_map(|(timestamp, key, value, headers)| Model { timestamp, key, value, headers })
}

proptest! {
    #[test]
    fn what_is_built_is_read(
        codec in any_codec(),
        models in vec((any_model(), any::<bool>()), 1..40),
        base_offset in 0..i64::MAX / 2,
    ) {
        let mut builder = BatchBuilder::new(codec);
        for (index, (model, in_place)) in models.iter().enumerate() {
            prop_assert_eq!(model.append(&mut builder, *in_place), index);
        }
        prop_assert_eq!(builder.count(), models.len());
        let size_bytes = builder.size_bytes();
        let mut bytes = builder.build().to_vec();
        prop_assert!(bytes.len() <= size_bytes);
        batch::assign(&mut bytes, Offset(base_offset), LeaderEpoch(4)).unwrap();
        let bytes = Bytes::from(bytes);

        let view = BatchView::parse_shared(&bytes).unwrap();
        view.verify_crc().unwrap();
        prop_assert_eq!(view.size_bytes(), bytes.len());
        prop_assert_eq!(view.base_offset(), Offset(base_offset));
        prop_assert_eq!(view.last_offset(), Offset(base_offset + models.len() as i64 - 1));
        prop_assert_eq!(view.partition_leader_epoch(), LeaderEpoch(4));
        prop_assert_eq!(view.record_count() as usize, models.len());
        prop_assert_eq!(view.base_timestamp().get(), models[0].0.timestamp);
        let latest = models.iter().map(|(model, _)| model.timestamp).max();
        prop_assert_eq!(Some(view.max_timestamp().get()), latest);
        let codec_found = view.codec().unwrap();
        prop_assert!(codec_found == codec || (codec_found == Codec::None && bytes.len() == size_bytes));

        let records: Vec<Record> =
            view.records(INFLATE_BYTES_MAX).unwrap().collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(records.len(), models.len());
        for (index, (record, (model, _))) in records.iter().zip(&models).enumerate() {
            prop_assert_eq!(record.offset, Offset(base_offset + index as i64));
            prop_assert_eq!(&Model::of(record), model);
        }
        let summary = view.check_records(INFLATE_BYTES_MAX).unwrap();
        prop_assert_eq!(summary.max_timestamp, Some(view.max_timestamp()));
        let keyless = models.iter().position(|(model, _)| model.key.is_none());
        prop_assert_eq!(summary.keyless_index.map(|index| index as usize), keyless);
        let dated = models.iter().map(|(model, _)| model.timestamp).filter(|time| *time != -1);
        let oldest = summary.oldest.map(|(time, _)| time.get());
        prop_assert_eq!(oldest, dated.min());
        let at = summary.oldest.map(|(_, index)| models[index as usize].0.timestamp);
        prop_assert_eq!(at, oldest);
    }

    #[test]
    fn a_batch_under_another_codec_is_the_same_batch(
        models in vec(any_model(), 1..20),
        from in any_codec(),
        to in any_codec(),
        level in option::of(1..=9),
        transactional in any::<bool>(),
    ) {
        let mut builder = BatchBuilder::new(from);
        models.iter().for_each(|model| { model.append(&mut builder, false); });
        builder.set_producer(ProducerId(7), ProducerEpoch(3), Sequence(40));
        builder.set_transactional(transactional);
        let bytes = builder.build();
        let view = BatchView::parse_shared(&bytes).unwrap();
        let recoding = Recoding { codec: to, level };
        let mut compressor = Compressor::default();
        let mut recode = |bytes_max| view.recode(recoding, &mut compressor, INFLATE_BYTES_MAX, bytes_max);
        let (recoded, summary) = recode(usize::MAX).unwrap();
        prop_assert_eq!(summary, view.check_records(INFLATE_BYTES_MAX).unwrap());
        let too_large = recode(recoded.len() - 1).unwrap_err();
        prop_assert_eq!(too_large.error_code(), ErrorCode::MessageTooLarge);
        prop_assert!(recode(recoded.len()).is_ok());

        let after = validate_for_produce(&recoded, 9).unwrap();
        prop_assert_eq!(after.size_bytes(), recoded.len());
        prop_assert_eq!(after.codec(), Ok(to));
        let head = |view: &BatchView<'_>| (
            (view.base_timestamp(), view.max_timestamp(), view.timestamp_type()),
            (view.producer_id(), view.producer_epoch(), view.base_sequence()),
            (view.record_count(), view.last_offset_delta(), view.is_transactional()),
        );
        prop_assert_eq!(head(&after), head(&view));
        let records = |view: &BatchView<'_>| -> Vec<Record> {
            view.records(INFLATE_BYTES_MAX).unwrap().collect::<Result<_, _>>().unwrap()
        };
        prop_assert_eq!(records(&after), records(&view));
    }

    #[test]
    fn the_size_with_a_record_is_foretold_exactly(models in vec(any_model(), 1..20)) {
        let mut builder = BatchBuilder::new(Codec::None);
        prop_assert_eq!(builder.size_bytes(), HEADER_BYTES);
        for model in &models {
            let headers: Vec<Header<'_>> = model
                .headers
                .iter()
                .map(|(key, value)| Header { key, value: value.as_deref() })
                .collect();
            let foretold = builder.size_bytes_with(
                TimestampMs(model.timestamp), model.key.as_deref(), model.value.as_deref(), &headers,
            );
            model.append(&mut builder, false);
            prop_assert_eq!(builder.size_bytes(), foretold);
        }
        let size_bytes = builder.size_bytes();
        prop_assert_eq!(builder.build().len(), size_bytes);
    }

    /// Base offset and leader epoch are the broker's: everything else is equal to the byte.
    #[test]
    fn writing_in_place_gives_the_same_bytes(models in vec(any_model(), 1..20)) {
        let mut in_place = BatchBuilder::new(Codec::None);
        for model in &models {
            model.append(&mut in_place, true);
        }
        prop_assert_eq!(in_place.build(), build(Codec::None, &models));
    }

    #[test]
    fn kafka_protocol_reads_what_we_write(
        codec in any_codec(),
        models in vec(oracle_model(), 1..20),
        sequence in 0..1_000_000_i32,
        transactional: bool,
    ) {
        let mut builder = BatchBuilder::new(codec);
        builder.set_producer(ProducerId(9), ProducerEpoch(2), Sequence(sequence));
        builder.set_transactional(transactional);
        for model in &models {
            model.append(&mut builder, true);
        }
        let mut bytes = builder.build();
        let inflate = |bytes: &mut Bytes, found: oracle::Compression| {
            let codec = Codec::from_id(found as u8).unwrap();
            Ok(Bytes::from(compression::decompress(codec, bytes, INFLATE_BYTES_MAX).unwrap()))
        };
        let read =
            oracle::RecordBatchDecoder::decode_with_custom_compression(&mut bytes, Some(inflate))
                .unwrap();
        let expected = theirs(&models, sequence, transactional);
        prop_assert_eq!(read.records, expected);
    }

    #[test]
    fn we_read_what_kafka_protocol_writes(
        codec in any_codec(),
        models in vec(oracle_model(), 1..20),
        sequence in 0..1_000_000_i32,
        transactional: bool,
    ) {
        let records = theirs(&models, sequence, transactional);
        let compression = match codec {
            Codec::None => oracle::Compression::None,
            Codec::Gzip => oracle::Compression::Gzip,
            Codec::Snappy => oracle::Compression::Snappy,
            Codec::Lz4 => oracle::Compression::Lz4,
            Codec::Zstd => oracle::Compression::Zstd,
        };
        let deflate = |records: &mut BytesMut, batch: &mut BytesMut, _: oracle::Compression| {
            batch.extend_from_slice(&compression::compress(codec, records).unwrap());
            Ok(())
        };
        let mut bytes = BytesMut::new();
        oracle::RecordBatchEncoder::encode_with_custom_compression(
            &mut bytes,
            &records,
            &oracle::RecordEncodeOptions { version: 2, compression },
            Some(deflate),
        )
        .unwrap();
        let bytes = bytes.freeze();
        let view = validate_for_produce(&bytes, 9).unwrap();
        prop_assert_eq!(view.codec().unwrap(), codec);
        prop_assert_eq!(view.producer_id(), ProducerId(9));
        prop_assert_eq!(view.base_sequence(), Sequence(sequence));
        prop_assert_eq!(view.last_sequence(), Sequence(sequence + models.len() as i32 - 1));
        prop_assert_eq!(view.is_transactional(), transactional);
        prop_assert_eq!(models_of(&bytes), models);
    }

    #[test]
    fn random_bytes_are_no_panic(bytes in vec(any::<u8>(), 0..300), codec in any_codec()) {
        read_in_every_way(&bytes);
        let _ = compression::decompress(codec, &bytes, 1 << 16);
        // With a header that leads to the records.
        let mut batch = sample(Codec::None)[..HEADER_BYTES].to_vec();
        batch[22] = codec.id();
        batch.extend_from_slice(&bytes);
        batch[8..12].copy_from_slice(&((49 + bytes.len()) as i32).to_be_bytes());
        read_in_every_way(&batch);
    }

    #[test]
    fn damaged_batches_are_no_panic(
        codec in any_codec(),
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in option::of(any::<prop::sample::Index>()),
    ) {
        let mut batch = sample(codec).to_vec();
        for (place, byte) in edits {
            let place = place.index(batch.len());
            batch[place] = byte;
        }
        if let Some(cut) = cut {
            batch.truncate(cut.index(batch.len()));
        }
        read_in_every_way(&batch);
    }
}

/// Whatever it says, it must say it, and within its caps.
fn read_in_every_way(bytes: &[u8]) {
    const CAP: usize = 1 << 20;
    let shared = Bytes::copy_from_slice(bytes);
    for view in batch::batches(&shared).flatten() {
        let _ = view.verify_crc();
        let _ = view.check_records(CAP);
        let _ = format!("{view:?}");
        for record in view.records(CAP).into_iter().flatten().flatten() {
            let _ = format!("{record:?}");
        }
    }
    let _ = validate_for_produce(bytes, 9);
    let mut copy = bytes.to_vec();
    let _ = batch::assign(&mut copy, Offset(1), LeaderEpoch(1));
    let _ = batch::set_append_time(&mut copy, NOW);
    let _ = batch::set_producer(&mut copy, ProducerId(1), ProducerEpoch(1), Sequence(1));
}

/// kafka-protocol keeps headers in a map, and overflows on far timestamps.
fn oracle_model() -> impl Strategy<Value = Model> {
    any_model().prop_map(|mut model| {
        model.timestamp = NOW.get() + model.timestamp.rem_euclid(100_000);
        model.headers.sort();
        model.headers.dedup_by(|one, other| one.0 == other.0);
        model
    })
}

fn theirs(models: &[Model], sequence: i32, transactional: bool) -> Vec<oracle::Record> {
    let bytes = |bytes: &Option<Vec<u8>>| bytes.clone().map(Bytes::from);
    let record = |(index, model): (usize, &Model)| oracle::Record {
        transactional,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: 9,
        producer_epoch: 2,
        timestamp_type: oracle::TimestampType::Creation,
        offset: index as i64,
        sequence: sequence + index as i32,
        timestamp: model.timestamp,
        key: bytes(&model.key),
        value: bytes(&model.value),
        headers: model
            .headers
            .iter()
            .map(|(key, value)| (StrBytes::from_string(key.clone()), bytes(value)))
            .collect::<IndexMap<_, _>>(),
    };
    models.iter().enumerate().map(record).collect()
}

/// The bytes of Java's own builder; see golden/JavaBatches.java.
fn java_batch(name: &str) -> Vec<u8> {
    let lines = include_str!("golden/java_batches.txt").lines();
    let hex = lines.filter_map(|line| line.split_once(' ')).find(|(found, _)| *found == name);
    let (_, hex) = hex.unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn java_batches_are_read_with_every_codec() {
    let expected = models_of(&sample(Codec::None));
    for codec in Codec::ALL {
        let bytes = Bytes::from(java_batch(codec.name()));
        let view = validate_for_produce(&bytes, 9).unwrap();
        assert_eq!(view.codec(), Ok(codec));
        assert_eq!(view.base_offset(), Offset(0));
        assert_eq!(view.last_offset(), Offset(2));
        assert_eq!(view.base_timestamp(), NOW);
        assert_eq!(view.max_timestamp(), NOW.plus_ms(300));
        assert_eq!(view.timestamp_type(), TimestampType::CreateTime);
        assert_eq!(view.producer_id(), ProducerId(4711));
        assert_eq!(view.producer_epoch(), ProducerEpoch(3));
        assert_eq!(view.base_sequence(), Sequence(i32::MAX - 1));
        assert_eq!(view.last_sequence(), Sequence(0), "0 follows the largest");
        assert!(view.is_transactional() && !view.is_control());
        assert_eq!(view.delete_horizon(), None);
        assert_eq!(models_of(&bytes), expected, "{codec}");
    }
}

#[test]
fn our_batches_are_java_s_to_the_byte() {
    assert_eq!(sample(Codec::None)[..], java_batch("none")[..]);
    let marker = |marker| build_control(marker, ProducerId(4711), ProducerEpoch(3), 9, NOW);
    assert_eq!(marker(ControlMarker::Abort)[..], java_batch("abort")[..]);
    let mut commit = marker(ControlMarker::Commit).to_vec();
    batch::assign(&mut commit, Offset(7), LeaderEpoch(5)).unwrap();
    assert_eq!(commit, java_batch("commit"));
}

#[test]
fn a_commit_marker_is_these_bytes() {
    #[rustfmt::skip]
    let expected = [
        0, 0, 0, 0, 0, 0, 0, 7,                         // base offset
        0, 0, 0, 66,                                    // length: 49 of header, 17 of record
        0, 0, 0, 5,                                     // leader epoch
        2,                                              // magic
        0xb0, 0xd2, 0x28, 0x7b,                         // CRC-32C of what follows
        0, 0x30,                                        // control, transactional
        0, 0, 0, 0,                                     // last offset delta
        0, 0, 0x01, 0xa0, 0xc4, 0x50, 0x6c, 0,          // base timestamp 1,790,000,000,000
        0, 0, 0x01, 0xa0, 0xc4, 0x50, 0x6c, 0,          // max timestamp
        0, 0, 0, 0, 0, 0, 0x12, 0x67,                   // producer id 4711
        0, 3,                                           // producer epoch
        0xff, 0xff, 0xff, 0xff,                         // base sequence: none
        0, 0, 0, 1,                                     // record count
        0x20, 0, 0, 0,                                  // length 16, attributes, two deltas
        8, 0, 0, 0, 1,                                  // key of 4: version 0, type 1 = commit
        12, 0, 0, 0, 0, 0, 9,                           // value of 6: version 0, coordinator epoch
        0,                                              // no headers
    ];
    let mut batch =
        build_control(ControlMarker::Commit, ProducerId(4711), ProducerEpoch(3), 9, NOW).to_vec();
    batch::assign(&mut batch, Offset(7), LeaderEpoch(5)).unwrap();
    assert_eq!(batch, expected);

    let view = BatchView::parse(&expected).unwrap();
    view.verify_crc().unwrap();
    assert!(view.is_control() && view.is_transactional());
    assert_eq!(view.last_sequence(), Sequence::NONE);
    let records: Vec<Record> = read(&Bytes::copy_from_slice(&expected)).unwrap();
    let key = records[0].key.as_deref().unwrap();
    assert_eq!(ControlMarker::from_key(key), Some(ControlMarker::Commit));
    assert_eq!(ControlMarker::from_key(&[0, 0, 0, 0]), Some(ControlMarker::Abort));
    assert_eq!(ControlMarker::from_key(&[0, 0, 0, 2]), None, "KRaft's leader change");
    assert_eq!(ControlMarker::from_key(&[0, 0, 0]), None);
}

#[test]
fn a_bit_flip_behind_the_crc_is_found() {
    let batch = sample(Codec::None).to_vec();
    for at in 17..batch.len() {
        for bit in 0..8 {
            let mut damaged = batch.clone();
            damaged[at] ^= 1 << bit;
            let view = BatchView::parse(&damaged).unwrap();
            assert!(matches!(view.verify_crc(), Err(BatchError::Crc { .. })), "{at} {bit}");
        }
    }
}

#[test]
fn placing_a_batch_keeps_its_crc() {
    let mut batch = sample(Codec::Zstd).to_vec();
    let before = batch.clone();
    batch.extend_from_slice(b"the next batch");
    batch::assign(&mut batch, Offset(1 << 40), LeaderEpoch(77)).unwrap();
    let view = BatchView::parse(&batch).unwrap();
    view.verify_crc().unwrap();
    assert_eq!((view.base_offset(), view.last_offset()), (Offset(1 << 40), Offset((1 << 40) + 2)));
    assert_eq!(view.partition_leader_epoch(), LeaderEpoch(77));
    assert_eq!(batch[16..before.len()], before[16..]);
    assert_eq!(&batch[before.len()..], b"the next batch");
}

#[test]
fn append_time_dates_every_record() {
    let mut batch = sample(Codec::Lz4).to_vec();
    let later = NOW.plus_ms(86_400_000);
    batch.extend_from_slice(&sample(Codec::None));
    batch::set_append_time(&mut batch, later).unwrap();
    let bytes = Bytes::from(batch);
    let views: Vec<_> = batch::batches(&bytes).collect::<Result<_, _>>().unwrap();
    views[0].verify_crc().unwrap();
    views[1].verify_crc().unwrap();
    assert_eq!(views[0].timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(views[0].max_timestamp(), later);
    assert_eq!(views[1].timestamp_type(), TimestampType::CreateTime, "only the first is changed");
    for record in views[0].records(INFLATE_BYTES_MAX).unwrap() {
        assert_eq!(record.unwrap().timestamp, later);
    }
}

#[test]
fn a_batch_goes_on_under_another_producer() {
    let mut batch = sample(Codec::None).to_vec();
    batch::set_producer(&mut batch, ProducerId(5), ProducerEpoch(1), Sequence(0)).unwrap();
    let view = BatchView::parse(&batch).unwrap();
    view.verify_crc().unwrap();
    assert_eq!(view.producer_id(), ProducerId(5));
    assert_eq!(view.producer_epoch(), ProducerEpoch(1));
    assert_eq!((view.base_sequence(), view.last_sequence()), (Sequence(0), Sequence(2)));
    assert_eq!(models_of(&Bytes::from(batch)), models_of(&sample(Codec::None)));
}

/// Every place where a log can be cut by a crash, or a fetch response by its limit.
#[test]
fn a_torn_tail_comes_after_the_whole_batches() {
    let (first, second) = (sample(Codec::None), sample(Codec::Gzip));
    let both = Bytes::from([first.clone(), second.clone()].concat());
    for len in 0..=both.len() {
        let cut = both.slice(..len);
        let mut iter = batch::batches(&cut);
        let found: Vec<_> = iter.by_ref().collect();
        let whole = [first.len(), both.len()].into_iter().filter(|end| *end <= len).count();
        let at_edge = [0, first.len(), both.len()].contains(&len);
        assert_eq!(found.len(), whole + usize::from(!at_edge), "{len}");
        assert!(found[..whole].iter().all(Result::is_ok), "{len}");
        assert!(found[whole..]
            .iter()
            .flat_map(|torn| torn.as_ref().err())
            .all(BatchError::is_torn));
        assert_eq!(iter.position(), [0, first.len(), both.len()][whole]);
        assert!(iter.next().is_none(), "an error is the last item");
    }
    let needed = batch::batches_in(&both[..both.len() - 1]).last().unwrap().unwrap_err();
    let left_bytes = second.len() - 1;
    assert_eq!(needed, BatchError::Torn { needed_bytes: second.len(), left_bytes });
}

#[test]
fn damage_of_the_header_has_a_name() {
    fn check(change: impl Fn(&mut Vec<u8>), expected: &BatchError) {
        let mut batch = sample(Codec::None).to_vec();
        change(&mut batch);
        assert_eq!(&BatchView::parse(&batch).unwrap_err(), expected);
    }
    let set_length = |length: i32| {
        move |batch: &mut Vec<u8>| batch[8..12].copy_from_slice(&length.to_be_bytes())
    };
    check(|batch| batch[16] = 1, &BatchError::Magic { magic: 1 });
    check(|batch| batch[16] = 0xff, &BatchError::Magic { magic: -1 });
    check(|batch| batch.fill(0), &BatchError::Magic { magic: 0 });
    check(set_length(48), &BatchError::Length { length: 48 });
    check(set_length(0), &BatchError::Length { length: 0 });
    check(set_length(-1), &BatchError::Length { length: -1 });
    let left_bytes = sample(Codec::None).len();
    let needed_bytes = i32::MAX as usize + 12;
    check(set_length(i32::MAX), &BatchError::Torn { needed_bytes, left_bytes });
}

#[test]
fn a_batch_of_an_unknown_codec_has_a_header_and_no_records() {
    let mut batch = sample(Codec::None).to_vec();
    batch[22] |= 5;
    let view = BatchView::parse(&batch).unwrap();
    assert_eq!(view.codec(), Err(BatchError::Codec { id: 5 }));
    assert_eq!(view.records(INFLATE_BYTES_MAX).unwrap_err(), BatchError::Codec { id: 5 });
    assert_eq!(view.record_count(), 3);
}

/// Reads a batch of `count` announced records whose records are `records`.
fn read_raw(count: i32, records: &[u8]) -> Result<usize, BatchError> {
    let mut batch = sample(Codec::None)[..HEADER_BYTES].to_vec();
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    batch.extend_from_slice(records);
    batch[8..12].copy_from_slice(&((49 + records.len()) as i32).to_be_bytes());
    read(&Bytes::from(batch)).map(|records| records.len())
}

#[test]
fn damage_of_the_records_has_a_name() {
    // Length 6, attributes, deltas 0 0, null key, null value, no headers.
    const RECORD: [u8; 7] = [12, 0, 0, 0, 1, 1, 0];
    let twice = [RECORD, RECORD].concat();
    assert_eq!(read_raw(2, &twice), Ok(2));
    assert_eq!(read_raw(3, &twice), Err(BatchError::Count { announced: 3, held: 2 }));
    assert_eq!(read_raw(1, &twice), Err(BatchError::Trailing { left_bytes: 7 }));
    assert_eq!(read_raw(-1, &twice), Err(BatchError::Count { announced: -1, held: 0 }));
    assert_eq!(read_raw(0, &[]), Ok(0), "compaction leaves such");

    let check = |record: &[u8], cause: RecordError| {
        let records = [&RECORD, record].concat();
        assert_eq!(read_raw(2, &records), Err(BatchError::Record { index: 1, cause }));
    };
    let length = |length, left_bytes| RecordError::Length { length, left_bytes };
    check(&[14, 0, 0, 0, 1, 1, 0], length(7, 6));
    check(&[1, 0, 0, 0, 1, 1, 0], length(-1, 6));
    check(&[10, 0, 0, 0, 1, 1, 0], RecordError::End);
    check(&[14, 0, 0, 0, 1, 1, 0, 0], RecordError::Trailing { left_bytes: 1 });
    check(&[12, 0, 0, 0, 6, 1, 0], length(3, 2));
    check(&[12, 0, 0, 0, 3, 1, 0], length(-2, 2));
    check(&[12, 0, 0, 0, 1, 1, 2], length(1, 0));
    check(&[12, 0, 0, 0, 1, 1, 1], length(-1, 0));
    check(&[0x80, 0x80, 0x80, 0x80, 0x80, 0], RecordError::Varint);
    check(&[0xff, 0xff, 0xff, 0xff, 0x1f, 0], RecordError::Varint);
    let mut long_time = [0x80; 18];
    long_time[..2].copy_from_slice(&[34, 0]);
    check(&long_time, RecordError::Varint);
}

#[test]
fn only_what_a_client_may_write_is_taken() {
    fn check(change: impl Fn(&mut Vec<u8>), expected: &BatchError, answer: ErrorCode) {
        let mut batch = sample(Codec::None).to_vec();
        change(&mut batch);
        let found = validate_for_produce(&batch, 9).unwrap_err();
        assert_eq!((&found, found.error_code()), (expected, answer));
    }
    /// Writes `bytes` at `at` and makes the CRC right again.
    fn set(at: usize, bytes: &'static [u8]) -> impl Fn(&mut Vec<u8>) {
        move |batch| {
            batch[at..at + bytes.len()].copy_from_slice(bytes);
            *batch = with_crc(std::mem::take(batch));
        }
    }
    let invalid = ErrorCode::InvalidRecord;
    let len = sample(Codec::None).len();
    let torn = BatchError::Torn { needed_bytes: len, left_bytes: len - 1 };

    check(Vec::clear, &BatchError::Empty, invalid);
    check(
        |batch| batch.extend(sample(Codec::None)),
        &BatchError::NotOneBatch { left_bytes: len },
        invalid,
    );
    check(|batch| batch.push(0), &BatchError::NotOneBatch { left_bytes: 1 }, invalid);
    check(|batch| batch.truncate(len - 1), &torn, invalid);
    check(|batch| batch[16] = 9, &BatchError::Magic { magic: 9 }, ErrorCode::CorruptMessage);
    check(|batch| batch[16] = 1, &BatchError::Magic { magic: 1 }, invalid);
    check(set(57, &[0, 0, 0, 2]), &BatchError::Count { announced: 2, held: 3 }, invalid);
    check(set(57, &[0, 0, 0, 0]), &BatchError::Count { announced: 0, held: 3 }, invalid);
    let overflow = BatchError::Count { announced: 3, held: 1 << 31 };
    check(set(23, &[0x7f, 0xff, 0xff, 0xff]), &overflow, invalid);
    check(set(21, &[0, 0x30]), &BatchError::Control, invalid);
    check(set(53, &[0xff; 4]), &BatchError::Sequence { base_sequence: -1 }, invalid);
    check(set(21, &[0, 0x17]), &BatchError::Codec { id: 7 }, ErrorCode::UnsupportedCompressionType);
    let max_timestamp = TimestampMs(1);
    let timestamps = |log_append_time, max_timestamp| BatchError::Timestamps {
        base_timestamp: NOW,
        max_timestamp,
        log_append_time,
    };
    check(
        set(35, &[0, 0, 0, 0, 0, 0, 0, 1]),
        &timestamps(false, max_timestamp),
        ErrorCode::InvalidTimestamp,
    );
    check(set(21, &[0, 0x18]), &timestamps(true, NOW.plus_ms(300)), ErrorCode::InvalidTimestamp);

    let mut flipped = sample(Codec::None).to_vec();
    flipped[len - 1] ^= 1;
    assert_eq!(
        validate_for_produce(&flipped, 9).unwrap_err().error_code(),
        ErrorCode::CorruptMessage
    );

    let zstd = sample(Codec::Zstd);
    let too_new = BatchError::CodecTooNew { codec: Codec::Zstd, produce_version: 6 };
    assert_eq!(validate_for_produce(&zstd, 6).unwrap_err(), too_new);
    assert!(validate_for_produce(&zstd, 7).is_ok());
    let mut no_time = sample(Codec::None).to_vec();
    set(35, &[0xff; 8])(&mut no_time);
    assert!(validate_for_produce(&no_time, 9).is_ok(), "a max timestamp of −1 is none");
}

#[test]
fn offsets_with_gaps_are_found_by_reading_the_records() {
    let mut batch = build(Codec::None, &[Model::text("a", "1"), Model::text("b", "2")]).to_vec();
    // The second record: length, attributes, time delta, offset delta.
    let second = HEADER_BYTES + (batch.len() - HEADER_BYTES) / 2;
    assert_eq!(batch[second + 3], 2);
    batch[second + 3] = 6;
    let batch = with_crc(batch);
    let view = validate_for_produce(&batch, 9).unwrap();
    let cause = RecordError::OffsetDelta { offset_delta: 3 };
    assert_eq!(view.check_records(0), Err(BatchError::Record { index: 1, cause }));
}

#[test]
fn records_share_the_bytes_of_their_batch() {
    let models =
        [Model { headers: vec![("h".into(), Some(vec![7]))], ..Model::text("key", "value") }];
    let batch = build(Codec::None, &models);
    let inside = |bytes: &[u8]| batch.as_ptr_range().contains(&bytes.as_ptr());
    let record = read(&batch).unwrap().remove(0);
    assert!(inside(record.key.as_deref().unwrap()) && inside(record.value.as_deref().unwrap()));
    assert!(record
        .headers
        .iter()
        .all(|(name, value)| inside(name.as_bytes()) && inside(&value.unwrap())));

    // A view of plain bytes has nothing to share: its records still outlive it.
    let copied = {
        let plain = batch.to_vec();
        let view = BatchView::parse(&plain).unwrap();
        view.records(0).unwrap().next().unwrap().unwrap()
    };
    assert_eq!(copied, record);
}

#[test]
fn the_last_header_of_a_name_counts() {
    let headers =
        vec![("a".into(), Some(vec![1])), ("b".into(), None), ("a".into(), Some(vec![2]))];
    let batch = build(Codec::None, &[Model { headers, ..Model::text("k", "v") }]);
    let record = read(&batch).unwrap().remove(0);
    assert_eq!(record.headers.len(), 3);
    assert_eq!(record.headers.get("a"), Some(Some(&[2][..])));
    assert_eq!(record.headers.get("b"), Some(None));
    assert_eq!(record.headers.get("c"), None);
}

#[test]
fn a_header_name_that_is_not_utf8_is_shown_all_the_same() {
    let models = [Model { headers: vec![("xy".into(), None)], ..Model::text("k", "v") }];
    let mut batch = build(Codec::None, &models).to_vec();
    let at = batch.windows(2).position(|pair| pair == b"xy").unwrap();
    batch[at] = 0xff;
    let record = read(&Bytes::from(batch)).unwrap().remove(0);
    assert_eq!(record.headers.iter().next().unwrap().0, "\u{fffd}y");
}

#[test]
fn a_value_that_does_not_serialise_leaves_the_batch_as_it_was() {
    let mut builder = BatchBuilder::new(Codec::None);
    let failing = |builder: &mut BatchBuilder| {
        builder.try_append_with(NOW.plus_ms(-9), Some(b"k"), &[], |buffer| {
            buffer.extend_from_slice(b"half a val");
            Err("no")
        })
    };
    assert_eq!(failing(&mut builder), Err("no"));
    assert_eq!((builder.count(), builder.size_bytes()), (0, HEADER_BYTES));
    builder.append(NOW, Some(b"k"), Some(b"1"), &[]);
    assert_eq!(failing(&mut builder), Err("no"));
    builder.append(NOW, Some(b"k"), Some(b"2"), &[]);
    let expected = build(Codec::None, &[Model::text("k", "1"), Model::text("k", "2")]);
    assert_eq!(builder.build(), expected);
}

#[test]
fn records_that_do_not_shrink_go_uncompressed() {
    for codec in Codec::ALL {
        let batch = build(codec, &[Model::text("k", "v")]);
        assert_eq!(batch, build(Codec::None, &[Model::text("k", "v")]), "{codec}");
    }
}

#[test]
fn a_reset_builder_forgets_records_and_producer() {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.set_producer(ProducerId(1), ProducerEpoch(1), Sequence(1));
    builder.set_transactional(true);
    builder.append(NOW.plus_ms(99), None, Some(b"gone"), &[]);
    builder.reset();
    assert!(builder.is_empty());
    Model::text("k", "v").append(&mut builder, false);
    assert_eq!(builder.build(), build(Codec::None, &[Model::text("k", "v")]));
}

#[test]
fn memory_comes_back_when_the_batch_is_dropped_and_not_before() {
    let pool = BatchPool::new(1 << 20);
    let batch_of = |text: &str| {
        let mut builder = BatchBuilder::with_pool(Codec::None, &pool);
        Model::text("k", text).append(&mut builder, false);
        builder.build()
    };
    let first = batch_of("first");
    let second = batch_of("other");
    assert_eq!(pool.idle_bytes(), 0);
    let (copy, place) = (first.clone(), first.as_ptr());
    assert_ne!(second.as_ptr(), place);
    drop(first);
    assert_eq!(pool.idle_bytes(), 0, "a clone still holds it");
    assert_eq!(models_of(&copy), [Model::text("k", "first")]);
    drop(copy);
    assert!(pool.idle_bytes() > 0);
    assert_eq!(batch_of("third").as_ptr(), place, "the same memory");
    assert_eq!(models_of(&second), [Model::text("k", "other")]);
}

#[test]
fn a_pool_keeps_no_more_than_it_may() {
    let pool = BatchPool::new(10_000);
    let batches: Vec<Bytes> = (0..8)
        .map(|_| {
            let mut builder = BatchBuilder::with_pool(Codec::None, &pool);
            builder.append(NOW, None, Some(&[b'x'; 3_000]), &[]);
            builder.build()
        })
        .collect();
    drop(batches);
    let idle = pool.idle_bytes();
    assert!((3_000..=10_000).contains(&idle), "{idle}");
}

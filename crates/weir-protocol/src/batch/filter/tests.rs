#![allow(clippy::indexing_slicing)]

use super::*;
use crate::batch::{set_append_time, BatchBuilder, Header};
use crate::types::{Offset, ProducerEpoch, ProducerId, Sequence};

const T0: i64 = 1_763_700_000_000;

/// Ten records, the sixth a tombstone, of a producer, at offsets 100 to 109.
fn batch(codec: Codec) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    builder.set_producer(ProducerId(7), ProducerEpoch(2), Sequence(40));
    for n in 0..10_u8 {
        let headers = [Header { key: "h", value: Some(&[n]) }];
        let value = vec![n; 50];
        let value = (n != 5).then_some(&*value);
        builder.append(TimestampMs(T0 + i64::from(n % 4)), Some(&[n]), value, &headers);
    }
    let mut bytes = Vec::from(builder.build());
    super::super::assign(&mut bytes, Offset(100), crate::types::LeaderEpoch(3)).unwrap();
    bytes
}

type Plain = (i64, i64, Vec<u8>, Option<Vec<u8>>, usize);

fn records(bytes: &[u8]) -> Vec<Plain> {
    let view = BatchView::parse(bytes).unwrap();
    view.verify_crc().unwrap();
    assert_eq!(view.size_bytes(), bytes.len());
    let plain = |record: crate::batch::Record| {
        let (key, value) = (record.key.unwrap().to_vec(), record.value.map(|v| v.to_vec()));
        (record.offset.get(), record.timestamp.get(), key, value, record.headers.len())
    };
    view.records(1 << 20).unwrap().map(|record| plain(record.unwrap())).collect()
}

#[test]
fn what_is_kept_is_as_it_was() {
    for codec in Codec::ALL {
        let bytes = batch(codec);
        let before = records(&bytes);
        let view = BatchView::parse(&bytes).unwrap();
        for horizon in [
            Horizon::Never,
            Horizon::IfTombstone(TimestampMs(5)),
            Horizon::Always(TimestampMs(i64::MAX)),
        ] {
            for mask in [0b11_1111_1110, 0b10_0000_0001, 0b00_0010_0000, 0b00_0100_0000] {
                let keep = |record: &RecordView<'_>| mask >> record.offset_delta & 1 == 1;
                let mut output = vec![1, 2, 3];
                let mut filter = BatchFilter::new(1 << 20);
                let filtered = filter.filter(&view, horizon, keep, &mut output).unwrap();
                assert_eq!(filtered.kept + filtered.dropped, 10);
                assert!(!filtered.unchanged);
                let expect: Vec<Plain> =
                    before.iter().filter(|one| mask >> (one.0 - 100) & 1 == 1).cloned().collect();
                let after = &output[3..];
                assert_eq!(records(after), expect, "{codec} {horizon:?} {mask:b}");
                let after = BatchView::parse(after).unwrap();
                assert_eq!((after.base_offset(), after.last_offset()), (Offset(100), Offset(109)));
                assert_eq!(
                    (after.producer_id(), after.base_sequence()),
                    (ProducerId(7), Sequence(40))
                );
                assert_eq!(after.last_sequence(), Sequence(49));
                assert_eq!(after.partition_leader_epoch(), view.partition_leader_epoch());
                assert_eq!(after.codec().unwrap(), codec);
                assert_eq!(
                    after.max_timestamp().get(),
                    expect.iter().map(|one| one.1).max().unwrap()
                );
                let tombstone = mask >> 5 & 1 == 1;
                let wanted = match horizon {
                    Horizon::Always(at) => Some(at),
                    Horizon::IfTombstone(at) if tombstone => Some(at),
                    _ => None,
                };
                assert_eq!(after.delete_horizon(), wanted);
            }
        }
    }
}

#[test]
fn a_horizon_that_is_set_is_not_moved() {
    let bytes = batch(Codec::None);
    let mut filter = BatchFilter::new(1 << 20);
    let mut first = Vec::new();
    let horizon = |at| Horizon::IfTombstone(TimestampMs(at));
    let view = BatchView::parse(&bytes).unwrap();
    let filtered = filter.filter(&view, horizon(T0), |_| true, &mut first).unwrap();
    assert_eq!(filtered, Filtered { kept: 10, dropped: 0, unchanged: false });
    let view = BatchView::parse(&first).unwrap();
    let mut second = Vec::new();
    let filtered = filter.filter(&view, horizon(T0 + 9), |_| true, &mut second).unwrap();
    assert!(filtered.unchanged && second.is_empty());
    filter.filter(&view, horizon(T0 + 9), |record| record.offset_delta > 2, &mut second).unwrap();
    assert_eq!(BatchView::parse(&second).unwrap().delete_horizon(), Some(TimestampMs(T0)));
    assert_eq!(records(&second), records(&bytes)[3..]);
}

#[test]
fn nothing_is_written_if_nothing_changes_or_nothing_is_left() {
    let bytes = batch(Codec::Zstd);
    let view = BatchView::parse(&bytes).unwrap();
    let mut filter = BatchFilter::new(1 << 20);
    let mut output = Vec::new();
    let all = filter.filter(&view, Horizon::Never, |_| true, &mut output).unwrap();
    assert!(all.unchanged && all.kept == 10 && output.is_empty());
    let none =
        filter.filter(&view, Horizon::Always(TimestampMs(1)), |_| false, &mut output).unwrap();
    assert!(none.kept == 0 && none.dropped == 10 && output.is_empty());
}

#[test]
fn an_empty_batch_keeps_offsets_and_sequences() {
    let bytes = batch(Codec::Lz4);
    let view = BatchView::parse(&bytes).unwrap();
    let mut output = vec![9];
    write_empty(&view, &mut output);
    let empty = &output[1..];
    assert_eq!(empty.len(), HEADER_BYTES);
    assert!(records(empty).is_empty());
    let empty = BatchView::parse(empty).unwrap();
    assert_eq!((empty.base_offset(), empty.last_offset()), (Offset(100), Offset(109)));
    assert_eq!((empty.producer_epoch(), empty.last_sequence()), (ProducerEpoch(2), Sequence(49)));
    assert_eq!((empty.record_count(), empty.codec().unwrap()), (0, Codec::None));
    assert_eq!(empty.max_timestamp(), view.max_timestamp());
}

#[test]
fn records_dated_by_the_broker_keep_its_date() {
    let mut bytes = batch(Codec::Snappy);
    set_append_time(&mut bytes, TimestampMs(T0 + 77)).unwrap();
    let view = BatchView::parse(&bytes).unwrap();
    let mut output = Vec::new();
    let mut filter = BatchFilter::new(1 << 20);
    let horizon = Horizon::Always(TimestampMs(3));
    filter.filter(&view, horizon, |record| record.offset_delta == 4, &mut output).unwrap();
    assert_eq!(records(&output), records(&bytes)[4..5]);
    assert_eq!(BatchView::parse(&output).unwrap().max_timestamp(), TimestampMs(T0 + 77));
}

#[test]
fn a_batch_that_inflates_to_too_much_is_refused_and_leaves_nothing() {
    let bytes = batch(Codec::Gzip);
    let view = BatchView::parse(&bytes).unwrap();
    let mut output = vec![1];
    let error = BatchFilter::new(100).filter(&view, Horizon::Never, |_| false, &mut output);
    assert!(matches!(error, Err(BatchError::Inflate(_))), "{error:?}");
    assert_eq!(output, [1]);
}

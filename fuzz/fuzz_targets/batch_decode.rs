//! Any bytes as a log of record batches, and as the records of one batch in each codec.
//!
//! Nothing may panic or inflate beyond the cap, and a batch whose records can all be read is built again and read back
//! equal.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use weir_protocol::batch::{self, BatchBuilder, BatchView, Header, Record};
use weir_protocol::types::{LeaderEpoch, Offset, TimestampMs};

const INFLATE_BYTES_MAX: usize = 1 << 16;

/// Bytes before what the length field counts.
const LENGTH_END: usize = 12;

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    for view in batch::batches(&bytes).map_while(Result::ok) {
        check(&view);
    }
    // A fuzzer does not find magic, length and CRC by itself.
    if let [attributes, count, records @ ..] = data {
        let framed = Bytes::from(framed(*attributes, *count, records));
        check(&BatchView::parse_shared(&framed).expect("header and length are right"));
    }
});

/// A batch whose header is right, with `records` as they are.
fn framed(attributes: u8, count: u8, records: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; batch::HEADER_BYTES];
    bytes[8..12].copy_from_slice(
        &((batch::HEADER_BYTES - LENGTH_END + records.len()) as i32).to_be_bytes(),
    );
    bytes[16] = 2; // magic
    bytes[22] = attributes;
    bytes[26] = count.wrapping_sub(1); // last offset delta
    bytes[60] = count;
    bytes.extend_from_slice(records);
    bytes
}

fn check(view: &BatchView<'_>) {
    let _ = view.verify_crc();
    let _ = batch::validate_for_produce(view.bytes(), 9);
    let checked = view.check_records(INFLATE_BYTES_MAX);
    let records: Vec<Record> = match view.records(INFLATE_BYTES_MAX) {
        Err(_) => return,
        Ok(records) => match records.collect() {
            Err(_) => {
                assert!(
                    checked.is_err(),
                    "what readers refuse must be refused when it is produced"
                );
                return;
            }
            Ok(records) => records,
        },
    };
    edit(view);
    rebuild(view, &records);
}

/// What a broker changes in place leaves a batch that verifies.
fn edit(view: &BatchView<'_>) {
    let mut bytes = view.bytes().to_vec();
    batch::assign(&mut bytes, Offset(77), LeaderEpoch(3)).expect("it was parsed before");
    let assigned = BatchView::parse(&bytes).expect("it is still a batch");
    assert_eq!(assigned.base_offset(), Offset(77));
    assert_eq!(assigned.verify_crc().is_ok(), view.verify_crc().is_ok());
    batch::set_append_time(&mut bytes, TimestampMs(1)).expect("it was parsed before");
    let dated = BatchView::parse(&bytes).expect("it is still a batch");
    dated.verify_crc().expect("dating makes a new CRC");
}

fn rebuild(view: &BatchView<'_>, records: &[Record]) {
    let Ok(codec) = view.codec() else { return };
    if records.is_empty() {
        return;
    }
    let mut builder = BatchBuilder::new(codec);
    for record in records {
        let headers: Vec<_> = record.headers.iter().collect();
        let headers: Vec<Header<'_>> =
            headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
        builder.append(record.timestamp, record.key.as_deref(), record.value.as_deref(), &headers);
    }
    let built = builder.build();
    let again = BatchView::parse_shared(&built).expect("what is built is a batch");
    again.verify_crc().expect("its CRC is right");
    assert_eq!(again.record_count() as usize, records.len());
    let reread = again.records(usize::MAX).expect("it inflates");
    for (record, reread) in records.iter().zip(reread) {
        let reread = reread.expect("it is a record");
        assert_eq!((&reread.key, &reread.value), (&record.key, &record.value));
        assert_eq!(reread.timestamp, record.timestamp);
        assert!(reread.headers.iter().eq(record.headers.iter()));
    }
}

//! A batch that the broker finds too large, in halves.

use bytes::Bytes;
use weir_protocol::batch::{BatchBuilder, BatchPool, BatchView, Header};
use weir_protocol::compression::Codec;

/// One half, built under the identity of the whole; it is stamped anew when it is sent.
#[derive(Debug)]
pub(super) struct Half {
    pub(super) bytes: Bytes,
    pub(super) count: i32,
    /// Before compression.
    pub(super) size_bytes: usize,
}

/// The records of a batch in two batches, in order. `None`: it has one record, or cannot be read again.
pub(super) fn halves(
    bytes: &Bytes,
    codec: Codec,
    pool: &BatchPool,
    inflate_bytes_max: usize,
) -> Option<[Half; 2]> {
    let view = BatchView::parse_shared(bytes).ok()?;
    let count = view.record_count();
    if count < 2 {
        return None;
    }
    let mut records = view.records(inflate_bytes_max).ok()?;
    let mut half = |count: i32| {
        let mut builder = BatchBuilder::with_pool(codec, pool);
        builder.set_transactional(view.is_transactional());
        for _ in 0..count {
            let record = records.next_view()?.ok()?;
            let header = |(key, value)| Some(Header { key: std::str::from_utf8(key).ok()?, value });
            let headers: Vec<Header<'_>> =
                record.headers.iter().map(header).collect::<Option<_>>()?;
            builder.append(record.timestamp, record.key, record.value, &headers);
        }
        let size_bytes = builder.size_bytes();
        Some(Half { bytes: builder.build(), count, size_bytes })
    };
    Some([half(count / 2)?, half(count - count / 2)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_protocol::types::TimestampMs;

    #[test]
    fn halves_have_all_records_in_order_with_keys_headers_and_times() {
        for codec in Codec::ALL {
            let mut builder = BatchBuilder::new(codec);
            for number in 0..7_u8 {
                let headers = [Header { key: "h", value: Some(&[number]) }];
                let time = TimestampMs(100 + i64::from(number));
                builder.append(time, Some(&[number]), Some(&[number; 50]), &headers);
            }
            let whole = builder.build();
            let read = |bytes: &Bytes| -> Vec<_> {
                let view = BatchView::parse(bytes).unwrap();
                view.verify_crc().unwrap();
                view.records(1 << 20)
                    .unwrap()
                    .map(|record| {
                        let record = record.unwrap();
                        (record.timestamp, record.key, record.value, record.headers)
                    })
                    .collect()
            };
            let [first, second] = halves(&whole, codec, &BatchPool::default(), 1 << 20).unwrap();
            assert_eq!((first.count, second.count), (3, 4));
            let mut both = read(&first.bytes);
            both.extend(read(&second.bytes));
            assert_eq!(both, read(&whole), "{codec}");
        }
    }

    #[test]
    fn a_single_record_has_no_halves() {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.append(TimestampMs(1), None, Some(b"v"), &[]);
        assert!(halves(&builder.build(), Codec::None, &BatchPool::default(), 1 << 20).is_none());
    }
}

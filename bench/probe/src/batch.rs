//! A record batch v2, written in place (Kafka's `DefaultRecordBatch` has the table of its fields).

use bench_load::Readings;

/// From the start of the batch.
const LENGTH_AT: usize = 8;
const CRC_AT: usize = 17;
const CRC_FROM: usize = 21;
/// `length` counts from behind itself.
const LENGTH_FROM: usize = 12;

/// Who writes a batch, and its place in the writer's sequence for the partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Producer {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
    pub(crate) sequence: i32,
}

/// Appends a batch of `count` readings to `out`. `value` is a buffer to reuse.
pub(crate) fn push(
    out: &mut Vec<u8>,
    count: u32,
    producer: Producer,
    readings: &mut Readings,
    value: &mut Vec<u8>,
) {
    let start = out.len();
    let timestamp_ms = readings.event_time_ms();
    out.extend_from_slice(&0_i64.to_be_bytes()); // base offset: the broker's to give
    out.extend_from_slice(&0_i32.to_be_bytes()); // length: below
    out.extend_from_slice(&(-1_i32).to_be_bytes()); // leader epoch: the broker's to give
    out.push(2); // magic
    out.extend_from_slice(&0_u32.to_be_bytes()); // CRC: below
    out.extend_from_slice(&0_i16.to_be_bytes()); // attributes: no codec, create time
    out.extend_from_slice(&(count as i32 - 1).to_be_bytes());
    out.extend_from_slice(&timestamp_ms.to_be_bytes());
    out.extend_from_slice(&timestamp_ms.to_be_bytes());
    out.extend_from_slice(&producer.id.to_be_bytes());
    out.extend_from_slice(&producer.epoch.to_be_bytes());
    out.extend_from_slice(&producer.sequence.to_be_bytes());
    out.extend_from_slice(&(count as i32).to_be_bytes());
    for offset_delta in 0..count {
        push_record(out, offset_delta, readings, value);
    }
    let length = (out.len() - start - LENGTH_FROM) as i32;
    out[start + LENGTH_AT..][..4].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&out[start + CRC_FROM..]);
    out[start + CRC_AT..][..4].copy_from_slice(&crc.to_be_bytes());
}

fn push_record(out: &mut Vec<u8>, offset_delta: u32, readings: &mut Readings, value: &mut Vec<u8>) {
    value.clear();
    let key = readings.push_next(value);
    // Attributes, timestamp delta and header count are one byte each, all zero.
    let length = 3
        + varint_len(offset_delta as usize)
        + varint_len(key.len())
        + key.len()
        + varint_len(value.len())
        + value.len();
    push_varint(out, length);
    out.extend_from_slice(&[0, 0]);
    push_varint(out, offset_delta as usize);
    push_varint(out, key.len());
    out.extend_from_slice(&key);
    push_varint(out, value.len());
    out.extend_from_slice(value);
    out.push(0);
}

/// Zigzag varint of a number that is not negative.
fn push_varint(out: &mut Vec<u8>, number: usize) {
    let mut rest = number << 1;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn varint_len(number: usize) -> usize {
    let bits = usize::BITS - (number << 1 | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varint_len_is_what_push_varint_writes() {
        for number in [0, 1, 63, 64, 8_191, 8_192, 1_048_575, 1_048_576] {
            let mut out = Vec::new();
            push_varint(&mut out, number);
            assert_eq!(out.len(), varint_len(number), "{number}");
        }
    }
}

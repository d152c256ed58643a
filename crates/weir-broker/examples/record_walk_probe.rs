//! What it would cost to walk over the lengths of records on produce: `record_walk_probe`.
//!
//! The broker does not; `docs/adr` says why ("Records inside batches are opaque").
#![allow(clippy::print_stdout, clippy::disallowed_methods)] // A main function that measures time.

use std::hint::black_box;
use std::time::Instant;

use weir_protocol::batch::{BatchBuilder, BatchView};
use weir_protocol::compression::Codec;
use weir_protocol::TimestampMs;

/// Bytes of a varint of 32 bits, at most.
const VARINT_BYTES_MAX: usize = 5;

/// Whether `records`, the bytes behind a batch's header, are `count` records with their lengths before them, to the last
/// byte.
fn lengths_fit(records: &[u8], count: i32) -> bool {
    let mut at = 0_usize;
    for _ in 0..count {
        let Some((len, len_bytes)) = length_at(records, at) else { return false };
        at = match at.checked_add(len_bytes + len) {
            Some(next) if next <= records.len() => next,
            _ => return false,
        };
    }
    at == records.len()
}

/// A length in zigzag, and the bytes it takes; `None` if it is negative, cut or too long.
#[inline]
fn length_at(records: &[u8], at: usize) -> Option<(usize, usize)> {
    // Records of 64 to 8,191 bytes have two bytes of length.
    if let Some([low, high]) = records.get(at..at.checked_add(2)?) {
        if *low >= 0x80 && *high < 0x80 {
            let raw = usize::from(*low & 0x7f) | usize::from(*high) << 7;
            return (raw & 1 == 0).then_some((raw >> 1, 2));
        }
    }
    let mut raw = 0_u64;
    for (index, byte) in records.get(at..)?.iter().take(VARINT_BYTES_MAX).enumerate() {
        raw |= u64::from(byte & 0x7f) << (7 * index);
        if *byte < 0x80 {
            let is_length = raw <= u64::from(u32::MAX) && raw & 1 == 0;
            return is_length
                .then(|| usize::try_from(raw >> 1).ok().map(|len| (len, index + 1)))?;
        }
    }
    None
}

/// More batches than the caches hold, so that each is as cold as one that came from a socket.
const BATCHES: usize = 200;
const ROUNDS: usize = 7;

fn nanoseconds(work: impl Fn() -> usize) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let records = work();
        best = best.min(begun.elapsed().as_secs_f64() * 1e9 / records as f64);
    }
    best
}

fn main() {
    for (count, value_bytes) in [(5_000, 200), (1_000, 1_000), (100, 200), (20_000, 20)] {
        let mut builder = BatchBuilder::new(Codec::None);
        for n in 0..count {
            // No two neighbours of one length.
            let value = vec![b'x'; value_bytes - 10 + n % 20];
            builder.append(TimestampMs(1), Some(b"key-0123"), Some(&value), &[]);
        }
        let one = builder.build().to_vec();
        let batches = vec![one; BATCHES];
        let views: Vec<BatchView<'_>> =
            batches.iter().flat_map(|one| BatchView::parse(one)).collect();
        let crc = nanoseconds(|| {
            views.iter().map(|view| usize::from(view.verify_crc().is_ok()) * count).sum()
        });
        let both = nanoseconds(|| {
            let check = |view: &BatchView<'_>| {
                let fine = view.verify_crc().is_ok()
                    && lengths_fit(black_box(view.records_bytes()), view.record_count());
                usize::from(fine) * count
            };
            views.iter().map(check).sum()
        });
        println!(
            "{count} records of {value_bytes} B: CRC {crc:.2} ns per record, and the walk {:.2}",
            both - crc
        );
    }
}

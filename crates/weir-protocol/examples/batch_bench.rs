//! Nanoseconds per record of what happens to each record batch on its way: building, CRC, reading.
//!
//! `cargo run --release -p weir-protocol --example batch_bench [ROUNDS]`. One thread; the median of the
//! rounds is printed, so that a neighbour's burst does not count. Compressed lines use values that
//! repeat as sensor JSON does.
#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::unwrap_used)]

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use bytes::Bytes;
use weir_protocol::batch::{self, BatchBuilder, BatchPool, BatchView, Header};
use weir_protocol::compression::Codec;
use weir_protocol::types::{LeaderEpoch, Offset, TimestampMs};

const RECORDS: usize = 5_000;
const VALUE_BYTES: usize = 200;
const ROUNDS_DEFAULT: usize = 201;
const INFLATE_BYTES_MAX: usize = 64 << 20;
const NOW: TimestampMs = TimestampMs(1_790_000_000_000);

/// 200 bytes that differ from record to record as a sensor's do: a few digits.
fn values() -> Vec<Vec<u8>> {
    let value = |index: usize| {
        let mixed = index.wrapping_mul(2_654_435_761) % 1_000_003;
        let mut json = format!(
            "{{\"device_id\":\"dev-{:09}\",\"building\":\"B1\",\"floor\":3,\"room\":\"R12\",\
             \"type\":\"temperature\",\"unit\":\"C\",\"value\":{}.{:02},\"seq\":{index},\
             \"quality\":\"good\",\"note\":\"",
            mixed % 10_000,
            20 + mixed % 9,
            mixed % 100
        );
        while json.len() < VALUE_BYTES - 2 {
            json.push('-');
        }
        json.push_str("\"}");
        json.into_bytes()
    };
    (0..RECORDS).map(value).collect()
}

/// Prints the median over `rounds` of the time `work` takes per record.
fn measure(name: &str, rounds: usize, mut work: impl FnMut()) {
    let mut nanos: Vec<u128> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_nanos()
        })
        .collect();
    nanos.sort_unstable();
    let per_record = |nanos: u128| nanos as f64 / RECORDS as f64;
    let (median, best) = (per_record(nanos[rounds / 2]), per_record(nanos[0]));
    println!("{name:<44} {median:>8.1} ns/record   best {best:>7.1}");
}

fn fill(builder: &mut BatchBuilder, values: &[Vec<u8>], headers: &[Header<'_>]) -> Bytes {
    for (index, value) in values.iter().enumerate() {
        let timestamp = NOW.plus_ms(index as i64 / 1_000);
        builder.append(timestamp, Some(b"dev-100001234"), Some(value), headers);
    }
    builder.build()
}

fn building(rounds: usize, values: &[Vec<u8>]) {
    let pool = BatchPool::new(32 << 20);
    let mut builder = BatchBuilder::with_pool(Codec::None, &pool);
    measure("append, build, crc", rounds, || {
        black_box(fill(&mut builder, values, &[]));
    });
    let headers = [
        Header { key: "event-type", value: Some(b"sensor.temperature") },
        Header { key: "trace_id", value: Some(&[7; 16]) },
    ];
    measure("append, build, crc; 2 headers", rounds, || {
        black_box(fill(&mut builder, values, &headers));
    });
    measure("append_with, build, crc", rounds, || {
        for value in values {
            builder.append_with(NOW, Some(b"dev-100001234"), &[], |buffer| {
                buffer.extend_from_slice(value);
            });
        }
        black_box(builder.build());
    });
    measure("append without build", rounds, || {
        for value in values {
            builder.append(NOW, Some(b"dev-100001234"), Some(value), &[]);
        }
        black_box(builder.size_bytes());
        builder.reset();
    });
}

/// What a pool is worth: a builder per batch, records spread over partitions, and another thread that
/// drops the batches some time later, as answers do.
fn pooling(codec: Codec, per_batch: usize, pool: &BatchPool) -> f64 {
    const PARTITIONS: usize = 12;
    const IN_FLIGHT: usize = 8;
    const TOTAL: usize = 1_000_000;
    let (sender, receiver) = sync_channel::<Bytes>(IN_FLIGHT);
    let dropper = std::thread::spawn(move || {
        let mut unanswered = VecDeque::new();
        for batch in receiver {
            unanswered.push_back(batch);
            if unanswered.len() > IN_FLIGHT {
                unanswered.pop_front();
            }
        }
    });
    let value = [b'x'; VALUE_BYTES];
    let new_builder = || BatchBuilder::with_pool(codec, pool);
    let mut builders: Vec<BatchBuilder> = (0..PARTITIONS).map(|_| new_builder()).collect();
    let start = Instant::now();
    for index in 0..TOTAL {
        let builder = &mut builders[index % PARTITIONS];
        builder.append(NOW, Some(b"dev-100001234"), Some(&value), &[]);
        if builder.count() == per_batch {
            let mut full = std::mem::replace(builder, new_builder());
            sender.send(full.build()).unwrap();
        }
    }
    let nanos = start.elapsed().as_nanos() as f64 / TOTAL as f64;
    drop(sender);
    dropper.join().unwrap();
    nanos
}

/// Alternates, so that both see the same neighbours.
fn compare_pools() {
    for (codec, per_batch) in [(Codec::None, RECORDS), (Codec::None, 70), (Codec::Zstd, 70)] {
        let runs = (0..5).map(|_| {
            let with = pooling(codec, per_batch, &BatchPool::new(64 << 20));
            (with, pooling(codec, per_batch, &BatchPool::new(0)))
        });
        let (mut with, mut without): (Vec<f64>, Vec<f64>) = runs.unzip();
        with.sort_unstable_by(f64::total_cmp);
        without.sort_unstable_by(f64::total_cmp);
        println!(
            "12 partitions, {codec}, {per_batch} per batch: {:.1} ns/record with a pool, {:.1} without",
            with[2], without[2]
        );
    }
}

fn reading(rounds: usize, batch: &Bytes) {
    let view = BatchView::parse_shared(batch).unwrap();
    measure("verify_crc", rounds, || black_box(view).verify_crc().unwrap());
    measure("validate_for_produce", rounds, || {
        black_box(batch::validate_for_produce(black_box(batch), 9).unwrap());
    });
    measure("check_records", rounds, || {
        black_box(view.check_records(INFLATE_BYTES_MAX).unwrap());
    });
    measure("records, borrowed", rounds, || {
        let mut records = view.records(INFLATE_BYTES_MAX).unwrap();
        while let Some(record) = records.next_view() {
            black_box(record.unwrap());
        }
    });
    measure("records, shared", rounds, || {
        for record in view.records(INFLATE_BYTES_MAX).unwrap() {
            black_box(record.unwrap());
        }
    });
    let mut copy = batch.to_vec();
    measure("assign (per batch of 5,000)", rounds, || {
        for _ in 0..RECORDS {
            batch::assign(black_box(&mut copy), Offset(7), LeaderEpoch(1)).unwrap();
        }
    });
}

fn compressing(rounds: usize, values: &[Vec<u8>]) {
    for codec in Codec::ALL.into_iter().skip(1) {
        let mut builder = BatchBuilder::new(codec);
        let batch = fill(&mut builder, values, &[]);
        println!("{codec}: {} bytes", batch.len());
        measure("  build", rounds / 10 + 1, || {
            black_box(fill(&mut builder, values, &[]));
        });
        let view = BatchView::parse_shared(&batch).unwrap();
        measure("  records, borrowed", rounds / 10 + 1, || {
            let mut records = view.records(INFLATE_BYTES_MAX).unwrap();
            while let Some(record) = records.next_view() {
                black_box(record.unwrap());
            }
        });
    }
}

fn main() {
    let rounds =
        std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(ROUNDS_DEFAULT);
    let values = values();
    let batch = fill(&mut BatchBuilder::new(Codec::None), &values, &[]);
    println!(
        "{RECORDS} records, values of {VALUE_BYTES} B, key 13 B: batch of {} bytes",
        batch.len()
    );
    building(rounds, &values);
    compare_pools();
    reading(rounds, &batch);
    compressing(rounds, &values);
}

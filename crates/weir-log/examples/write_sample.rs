//! Writes a data directory with a bit of everything, for Kafka's own tools to read.
//!
//! `cargo run -p weir-log --example write_sample -- DIR [--crash]`
//!
//! Several segments, indexes, an idempotent producer, a committed and an aborted transaction, two
//! leader epochs, all codecs. With `--crash` it ends without closing the directory, in the middle of
//! a batch.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use weir_log::{AppendOrigin, FileDisk, LogConfig, LogDir, LogDirOptions, LogId};
use weir_protocol::batch::{build_control, BatchBuilder, ControlMarker};
use weir_protocol::compression::Codec;
use weir_protocol::{PartitionId, ProducerEpoch, ProducerId, Sequence, TimestampMs, Uuid};

const T0: TimestampMs = TimestampMs(1_763_700_000_000);
const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

fn main() {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "sample".to_owned());
    let crash = std::env::args().any(|argument| argument == "--crash");
    let dir = Path::new(&dir);
    let (mut log_dir, id) = open(dir);
    fill(&mut log_dir, id, 0);
    drop(log_dir);
    let (mut log_dir, id) = open(dir);
    fill(&mut log_dir, id, 200);
    if crash {
        let log = log_dir.get(id).unwrap().dir().to_owned();
        drop(log_dir);
        let logs = std::fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().path());
        let newest = logs.filter(|path| path.extension().is_some_and(|e| e == "log")).max();
        let mut file = std::fs::File::options().append(true).open(newest.unwrap()).unwrap();
        file.write_all(&batch(Codec::None, 0, 5, None)[..100]).unwrap();
    } else {
        log_dir.close().unwrap();
    }
    println!("{}", dir.display());
}

fn open(dir: &Path) -> (LogDir, LogId) {
    let config =
        LogConfig::from_pairs([("segment.bytes", "20000"), ("index.interval.bytes", "1000")])
            .unwrap();
    let options = LogDirOptions { default_config: config.clone(), ..LogDirOptions::default() };
    let (mut log_dir, _) = LogDir::open(Arc::new(FileDisk), dir, options, T0).unwrap();
    let id = log_dir.find("sample", PartitionId(0)).unwrap_or_else(|| {
        log_dir.create_log("sample", Uuid([7; 16]), PartitionId(0), config, T0).unwrap()
    });
    (log_dir, id)
}

fn batch(codec: Codec, at: i64, records: i64, producer: Option<(i64, i32, bool)>) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    if let Some((producer_id, sequence, transactional)) = producer {
        builder.set_producer(ProducerId(producer_id), ProducerEpoch(0), Sequence(sequence));
        builder.set_transactional(transactional);
    }
    for n in 0..records {
        let value =
            format!("value {n} of batch {at}, and some more that compresses well, well, well");
        let key = format!("device-{}", n % 7);
        let timestamp = T0.plus_ms(at * 100 + n);
        builder.append(timestamp, Some(key.as_bytes()), Some(value.as_bytes()), &[]);
    }
    builder.build().to_vec()
}

fn fill(log_dir: &mut LogDir, id: LogId, from: i64) {
    let log = log_dir.get_mut(id).unwrap();
    let mut append = |mut batch: Vec<u8>, origin: AppendOrigin| {
        log.append(&mut batch, origin, T0).unwrap();
    };
    for at in from..from + 200 {
        let codec = CODECS[usize::try_from(at).unwrap() % CODECS.len()];
        append(batch(codec, at, 1 + at % 9, None), AppendOrigin::Client);
        let sequence = i32::try_from(at).unwrap() * 2;
        append(batch(codec, at, 2, Some((1000, sequence, false))), AppendOrigin::Client);
        if at % 10 == 5 {
            let sequence = i32::try_from(at / 10).unwrap();
            append(batch(codec, at, 1, Some((2000, sequence, true))), AppendOrigin::Client);
            let marker = if at % 20 == 5 { ControlMarker::Commit } else { ControlMarker::Abort };
            let end = build_control(marker, ProducerId(2000), ProducerEpoch(0), 0, T0);
            append(end.to_vec(), AppendOrigin::Coordinator);
        }
    }
    while let Some(group) = log_dir.begin_commit() {
        let committed = group.run().unwrap();
        log_dir.finish_commit(committed);
    }
}

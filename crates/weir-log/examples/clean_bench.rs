//! How fast a log is compacted, for orientation.
//!
//! ```text
//! cargo run --release -p weir-log --example clean_bench -- [DIR] [MB] [KEYS] [CODEC]
//! ```
//!
//! Writes MB megabytes (200) of 200-byte records over KEYS keys (100000), in batches of 16 kB and
//! segments of 64 MiB, and compacts them.

#![allow(clippy::print_stdout, clippy::disallowed_methods)] // It is a program that tells a time.

use std::error::Error;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use weir_log::{AppendOrigin, CleanOutcome, FileDisk, LogConfig, LogDir, LogDirOptions};
use weir_protocol::batch::{BatchBuilder, BatchPool};
use weir_protocol::compression::Codec;
use weir_protocol::{PartitionId, TimestampMs, Uuid};

const NOW: TimestampMs = TimestampMs(1_763_700_000_000);
const BATCH_BYTES: usize = 16 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let dir =
        args.next().map_or_else(|| std::env::temp_dir().join("weir-clean-bench"), PathBuf::from);
    let megabytes: u64 = args.next().map_or(Ok(200), |text| text.parse())?;
    let keys: u64 = args.next().map_or(Ok(100_000), |text| text.parse())?;
    let codec = args.next().and_then(|name| Codec::from_name(&name)).unwrap_or_default();
    let config = LogConfig::from_pairs([
        ("cleanup.policy", "compact"),
        ("segment.bytes", "67108864"),
        ("file.delete.delay.ms", "0"),
    ])?;
    let (mut log_dir, _) = LogDir::open(Arc::new(FileDisk), &dir, LogDirOptions::default(), NOW)?;
    let id = log_dir.create_log("bench", Uuid([7; 16]), PartitionId(0), config, NOW)?;
    let log = log_dir.get_mut(id).ok_or("no log")?;
    let mut builder = BatchBuilder::with_pool(codec, &BatchPool::default());
    let (mut written, mut draw) = (0_u64, 1_u64);
    while written < megabytes << 20 {
        while builder.size_bytes() < BATCH_BYTES {
            draw = draw
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let key = format!("device-{:08}", (draw >> 33) % keys);
            let value = format!(
                "{{\"id\":\"{key}\",\"lat\":{},\"lon\":{}}}{:>130}",
                draw >> 40,
                draw >> 44,
                "x"
            );
            builder.append(NOW, Some(key.as_bytes()), Some(value.as_bytes()), &[]);
        }
        written += builder.size_bytes() as u64;
        log.append(&mut builder.build().to_vec(), AppendOrigin::Client, NOW)?;
    }
    let size_bytes = log.size_bytes();
    while let Some(group) = log_dir.begin_commit() {
        let committed = group.run()?;
        log_dir.finish_commit(committed);
    }
    let started = Instant::now();
    log_dir.request_clean(id)?;
    let outcome = loop {
        let upkeep = log_dir.begin_upkeep(NOW);
        while let Some(group) = log_dir.begin_commit() {
            let committed = group.run()?;
            log_dir.finish_commit(committed);
        }
        let Some(upkeep) = upkeep else { continue };
        let done = upkeep.run(&mut |_| ControlFlow::Continue(()));
        match log_dir.finish_upkeep(done, NOW).cleaning {
            Some(CleanOutcome::Goes) | None => {}
            Some(outcome) => break outcome,
        }
    };
    let seconds = started.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss)] // For people.
    let rate = size_bytes as f64 / 1e6 / seconds;
    println!("{outcome:?}");
    println!(
        "{codec}: {size_bytes} bytes in {seconds:.2} s, {rate:.0} MB/s; {:?}",
        log_dir.cleaner_stats()
    );
    drop(log_dir);
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

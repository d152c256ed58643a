//! What the disk gives: one small durable write, and a long sequential one.

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Instant;

const SMALL_BYTES: usize = 4_096;
const SMALL_WRITES: u64 = 500;
const CHUNK_BYTES: usize = 1 << 20;
const CHUNKS: u64 = 256;
/// `O_DSYNC` of Linux on x86-64 and ARM: a write returns when its data is on disk.
pub(crate) const O_DSYNC: i32 = 0o10000;

pub(crate) fn run(dir: &Path) -> Result<(), Box<dyn Error>> {
    let path = dir.join("disk-probe");
    let measured = small(&path).and_then(|small| Ok((small, sequential(&path)?)));
    std::fs::remove_file(&path)?;
    let (small_ms, mb_per_second) = measured?;
    println!(
        "{{\"small_write_ms_p50\":{small_ms:.4},\"sequential_mb_per_second\":{mb_per_second:.1}}}"
    );
    Ok(())
}

/// Milliseconds that half of the small writes stay under. The blocks are allocated beforehand, as in a
/// journal.
fn small(path: &Path) -> std::io::Result<f64> {
    let block = [0x5a; SMALL_BYTES];
    File::create(path)?.write_all(&vec![0; SMALL_BYTES * SMALL_WRITES as usize])?;
    File::open(path)?.sync_all()?;
    let file = OpenOptions::new().write(true).custom_flags(O_DSYNC).open(path)?;
    let mut took_ms = Vec::with_capacity(SMALL_WRITES as usize);
    for index in 0..SMALL_WRITES {
        let started = Instant::now();
        file.write_all_at(&block, index * SMALL_BYTES as u64)?;
        took_ms.push(started.elapsed().as_secs_f64() * 1e3);
    }
    took_ms.sort_by(f64::total_cmp);
    Ok(took_ms[took_ms.len() / 2])
}

/// Megabytes per second of a file written and then synced once.
fn sequential(path: &Path) -> std::io::Result<f64> {
    let chunk = vec![0x5a; CHUNK_BYTES];
    let started = Instant::now();
    let mut file = File::create(path)?;
    for _ in 0..CHUNKS {
        file.write_all(&chunk)?;
    }
    file.sync_data()?;
    Ok((CHUNKS * CHUNK_BYTES as u64) as f64 / 1e6 / started.elapsed().as_secs_f64())
}

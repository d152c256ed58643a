//! What a log of batches could reach on this disk: the same files, the same batches, the same commits, and nothing else.
//!
//! Batches go to the files by turns; eight make a commit, as eight requests are in flight. There are two ways to make a
//! commit durable, and the better one for this size is the limit: `direct` syncs each file of it; `journal` writes the batches
//! a second time, one after the other, through O_DSYNC into blocks that are allocated already, and syncs the files once at
//! the end.

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::disk::O_DSYNC;

/// Batches of one commit.
const COMMIT_BATCHES: u64 = 8;
/// The ring that the journal goes round in; all of it is written before.
const RING_BYTES: u64 = 64 << 20;
/// What is written to a disk past its cache is a multiple of this.
const BLOCK_BYTES: usize = 4_096;

pub(crate) fn run(
    dir: &Path,
    files: usize,
    batch_bytes: usize,
    batches: u64,
) -> Result<(), Box<dyn Error>> {
    let dir = dir.join("disk-log");
    std::fs::create_dir_all(&dir)?;
    let batch = vec![0x5a; batch_bytes];
    let measured = direct(&dir, files.max(1), &batch, batches)
        .and_then(|direct| Ok((direct, journal(&dir, files.max(1), &batch, batches)?)));
    std::fs::remove_dir_all(&dir)?;
    let (direct, journal) = measured?;
    let rate = |seconds: f64| batches as f64 / seconds;
    println!(
        "{{\"direct_batches_per_second\":{:.1},\"journal_batches_per_second\":{:.1}}}",
        rate(direct),
        rate(journal)
    );
    Ok(())
}

/// Seconds, with one `fdatasync` of each file that a commit touches, all at once.
fn direct(dir: &Path, files: usize, batch: &[u8], batches: u64) -> io::Result<f64> {
    let mut files = open(dir, files)?;
    let (count, mut next) = (files.len() as u64, 0_u64);
    let started = Instant::now();
    while next < batches {
        let mut touched = vec![false; files.len()];
        for _ in 0..COMMIT_BATCHES.min(batches - next) {
            let file = (next % count) as usize;
            files[file].write_all(batch)?;
            touched[file] = true;
            next += 1;
        }
        let touched =
            files.iter().zip(touched).filter_map(|(file, touched)| touched.then_some(file));
        sync_all(touched)?;
    }
    Ok(started.elapsed().as_secs_f64())
}

fn sync_all<'a>(files: impl Iterator<Item = &'a File>) -> io::Result<()> {
    std::thread::scope(|scope| {
        let syncs: Vec<_> = files.map(|file| scope.spawn(move || file.sync_data())).collect();
        syncs.into_iter().try_for_each(|sync| {
            sync.join().unwrap_or_else(|_| Err(io::Error::other("a sync has panicked")))
        })
    })
}

/// Seconds, with one durable write of a whole commit into a ring, and the files synced at the end.
fn journal(dir: &Path, files: usize, batch: &[u8], batches: u64) -> io::Result<f64> {
    let mut files = open(dir, files)?;
    let path = dir.join("ring");
    File::create(&path)?.write_all(&vec![0; RING_BYTES as usize])?;
    File::open(&path)?.sync_all()?;
    let ring = OpenOptions::new().write(true).custom_flags(O_DSYNC).open(&path)?;
    let (count, mut next, mut at) = (files.len() as u64, 0_u64, 0_u64);
    let mut commit = Vec::new();
    let started = Instant::now();
    while next < batches {
        commit.clear();
        for _ in 0..COMMIT_BATCHES.min(batches - next) {
            files[(next % count) as usize].write_all(batch)?;
            commit.extend_from_slice(batch);
            next += 1;
        }
        commit.resize(commit.len().next_multiple_of(BLOCK_BYTES), 0);
        if at + commit.len() as u64 > RING_BYTES {
            at = 0;
        }
        ring.write_all_at(&commit, at)?;
        at += commit.len() as u64;
    }
    sync_all(files.iter())?;
    Ok(started.elapsed().as_secs_f64())
}

fn open(dir: &Path, files: usize) -> io::Result<Vec<File>> {
    let path = |number: usize| -> PathBuf { dir.join(format!("{number}.log")) };
    (0..files).map(|number| File::create(path(number))).collect()
}

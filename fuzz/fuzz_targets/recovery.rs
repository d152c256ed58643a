//! Any bytes as any file of a log directory, or in the middle of one, after a clean stop and after a kill.
//!
//! Nothing may panic or run on for ever: the directory opens or says why not; what is read gets on or says why not; it is
//! verified, repaired, cleaned, written to, and opened again.
#![no_main]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use weir_log::disk::{Disk, MemDisk, OpenMode};
use weir_log::verify::{repair, verify, VerifyOptions};
use weir_log::{AppendOrigin, LogConfig, LogDir, LogDirOptions, LogId};
use weir_protocol::batch::{build_control, BatchBuilder, ControlMarker};
use weir_protocol::compression::Codec;
use weir_protocol::{
    Offset, PartitionId, ProducerEpoch, ProducerId, Sequence, TimestampMs, Uuid,
};

const NOW: TimestampMs = TimestampMs(1_763_700_000_000);
const READ_BYTES: usize = 4096;
/// More reads than this directory has batches.
const READS_MAX: usize = 10_000;

type Files = BTreeMap<PathBuf, Vec<u8>>;

fuzz_target!(|data: &[u8]| {
    let [stop, file, change, at_high, at_low, bytes @ ..] = data else { return };
    let files = &states()[usize::from(*stop) % 2];
    let mut files = files.clone();
    let index = usize::from(*file) % files.len();
    let Some(content) = files.values_mut().nth(index) else { return };
    let at = usize::from(u16::from_be_bytes([*at_high, *at_low])).min(content.len());
    match change % 4 {
        0 => *content = bytes.to_vec(),
        1 => content.truncate(at),
        2 => {
            let end = (at + bytes.len()).min(content.len());
            content[at..end].copy_from_slice(&bytes[..end - at]);
        }
        _ => {
            content.splice(at..at, bytes.iter().copied());
        }
    }
    let disk = disk_of(&files);
    let dir = Path::new("/d");
    let options = VerifyOptions { deep: true, ..VerifyOptions::default() };
    let _ = verify(&disk, dir, &options, &mut |_| {});
    use_it(&disk);
    let disk = disk_of(&files);
    let repaired: Arc<dyn Disk> = Arc::new(disk.clone());
    let _ = repair(&repaired, dir, &options, &mut |_| {});
    use_it(&disk);
});

fn options() -> LogDirOptions {
    LogDirOptions {
        new_cluster_id: Uuid([1; 16]),
        new_directory_id: Uuid([2; 16]),
        default_config: config(),
        journal_bytes_max: Some(64 << 10),
        ..LogDirOptions::default()
    }
}

fn config() -> LogConfig {
    let pairs = [
        ("segment.bytes", "600"),
        ("index.interval.bytes", "100"),
        ("cleanup.policy", "compact"),
        ("file.delete.delay.ms", "0"),
    ];
    LogConfig::from_pairs(pairs).expect("they are Kafka's")
}

/// The files after a clean stop, and after a kill.
fn states() -> &'static [Files; 2] {
    static STATES: OnceLock<[Files; 2]> = OnceLock::new();
    STATES.get_or_init(|| [written(true), written(false)])
}

fn written(is_clean: bool) -> Files {
    let disk = MemDisk::new();
    let opened = LogDir::open(Arc::new(disk.clone()), Path::new("/d"), options(), NOW);
    let (mut logs, _) = opened.expect("an empty disk");
    let id = logs
        .create_log("t", Uuid([3; 16]), PartitionId(0), config(), NOW)
        .expect("it is new");
    for number in 0..30 {
        append(&mut logs, id, &batch(number));
        if number % 5 == 4 {
            let marker = if number % 2 == 0 { ControlMarker::Abort } else { ControlMarker::Commit };
            let end = build_control(marker, ProducerId(7), ProducerEpoch(0), 0, NOW);
            append(&mut logs, id, &end);
        }
        if number % 4 == 0 {
            commit(&mut logs);
        }
    }
    commit(&mut logs);
    if is_clean {
        logs.close().expect("the disk works");
    }
    disk.files()
}

fn batch(number: i32) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.set_producer(ProducerId(7), ProducerEpoch(0), Sequence(number));
    builder.set_transactional(true);
    builder.append(NOW.plus_ms(number.into()), Some(&[b'a' + (number % 5) as u8]), Some(b"some value"), &[]);
    builder.build().to_vec()
}

fn append(logs: &mut LogDir, id: LogId, bytes: &[u8]) {
    if let Some(log) = logs.get_mut(id) {
        let _ = log.append(&mut bytes.to_vec(), AppendOrigin::Coordinator, NOW);
    }
}

fn commit(logs: &mut LogDir) {
    while let Some(group) = logs.begin_commit() {
        let Ok(mut committed) = group.run() else { return };
        let flush = committed.take_flush();
        logs.finish_commit(committed);
        if let Some(flush) = flush {
            let _ = flush.run();
        }
    }
}

fn disk_of(files: &Files) -> MemDisk {
    let disk = MemDisk::new();
    for (path, bytes) in files {
        let parent = path.parent().expect("they lie in directories");
        disk.create_dir_all(parent).expect("memory");
        let file = disk.open(path, OpenMode::Create).expect("memory");
        file.write_at(bytes, 0).expect("memory");
    }
    disk
}

fn use_it(disk: &MemDisk) {
    for _ in 0..2 {
        let opened = LogDir::open(Arc::new(disk.clone()), Path::new("/d"), options(), NOW);
        let Ok((mut logs, _)) = opened else {
            disk.kill();
            return;
        };
        let ids: Vec<LogId> = logs.logs().map(|(id, _)| id).collect();
        for id in &ids {
            read(&logs, *id);
            append(&mut logs, *id, &batch(30));
            let _ = logs.request_clean(*id);
        }
        commit(&mut logs);
        for _ in 0..200 {
            let Some(upkeep) = logs.begin_upkeep(NOW) else { break };
            let done = upkeep.run(&mut |_| ControlFlow::Continue(()));
            logs.finish_upkeep(done, NOW);
            commit(&mut logs);
        }
        for id in ids {
            read(&logs, id);
        }
        let _ = logs.close();
    }
}

fn read(logs: &LogDir, id: LogId) {
    let Some(log) = logs.get(id) else { return };
    let (mut at, end) = (log.log_start_offset(), log.synced_offset());
    for _ in 0..READS_MAX {
        if at >= end {
            break;
        }
        let Ok(read) = log.read(at, READ_BYTES, end) else { break };
        for slice in &read.slices {
            let _ = slice.read();
        }
        assert!(read.next_offset > at, "a reader stands still at {at} of {end}");
        at = read.next_offset;
    }
    let _ = log.aborted_txns(Offset(0), end);
    let _ = log.offset_for_timestamp(NOW.plus_ms(10));
}

//! Any bytes as the file of a commit journal, and as what stands in a record whose CRC is right.
//!
//! Nothing may panic; records are found by rising number; and a directory with such a journal opens, and serves batches
//! that are whole.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use weir_log::disk::{Disk, MemDisk, OpenMode};
use weir_log::journal::format::{self, Header, RECORD_HEAD_BYTES};
use weir_log::journal::replay::{find_header, find_records, read_record};
use weir_log::journal::ring::{Mark, RING_START};
use weir_log::{AppendOrigin, LogConfig, LogDir, LogDirOptions};
use weir_protocol::batch::{self, BatchBuilder};
use weir_protocol::compression::Codec;
use weir_protocol::{PartitionId, TimestampMs, Uuid};

const DIRECTORY_ID: Uuid = Uuid([2; 16]);
const TOPIC_ID: Uuid = Uuid([3; 16]);
const BLOCK: usize = 4096;
const NOW: TimestampMs = TimestampMs(1_763_700_000_000);

fuzz_target!(|data: &[u8]| {
    search(data);
    // A fuzzer does not find magic, length and CRC by itself.
    let [count, body @ ..] = data else { return };
    if body.len() > 64 << 10 {
        return;
    }
    let file = with_record(u32::from(*count) % 8, body);
    search(&file);
    replay(&file);
});

/// A journal with one valid record, which holds `body`.
fn with_record(append_count: u32, body: &[u8]) -> Vec<u8> {
    let mut record = vec![0; RECORD_HEAD_BYTES + body.len()];
    record[RECORD_HEAD_BYTES..].copy_from_slice(body);
    let tail = Mark { position: RING_START, sequence: 10 };
    format::seal(&mut record, tail.sequence, append_count, DIRECTORY_ID);
    let mut file = vec![0; (2 * BLOCK + record.len()).next_multiple_of(BLOCK)];
    for number in [1, 2] {
        let at = (number as usize - 1) * BLOCK;
        let header = Header { number, directory_id: DIRECTORY_ID, tail, closed: false };
        header.encode(&mut file[at..at + BLOCK]);
    }
    file[2 * BLOCK..2 * BLOCK + record.len()].copy_from_slice(&record);
    file
}

fn search(file: &[u8]) {
    let Ok(found) = find_header(file).expect("memory can be read") else { return };
    let records = find_records(file, &found).expect("memory can be read");
    assert!(records.records.windows(2).all(|pair| pair[0].sequence < pair[1].sequence));
    for mark in &records.records {
        assert!(mark.sequence < records.next_sequence);
        let record = read_record(file, found.header.directory_id, *mark).expect("memory can be read");
        let record = record.expect("it was found before");
        if let Ok(appends) = format::appends(&record) {
            let again = format::encode_record(&appends, mark.sequence, found.header.directory_id);
            assert_eq!(again[..record.len()], record, "what was read is written equal");
        }
    }
}

fn options() -> LogDirOptions {
    LogDirOptions {
        new_directory_id: DIRECTORY_ID,
        journal_bytes_max: Some(16 << 10),
        ..LogDirOptions::default()
    }
}

/// Opens a directory with one log on `file`.
fn replay(file: &[u8]) {
    let (disk, dir) = (MemDisk::new(), Path::new("/d"));
    let open = || LogDir::open(Arc::new(disk.clone()), dir, options(), NOW);
    let (mut logs, _) = open().expect("an empty disk");
    let id = logs
        .create_log("t", TOPIC_ID, PartitionId(0), LogConfig::default(), NOW)
        .expect("it is new");
    let mut builder = BatchBuilder::new(Codec::None);
    builder.append(NOW, None, Some(b"value"), &[]);
    let mut bytes = builder.build().to_vec();
    let log = logs.get_mut(id).expect("it was made");
    log.append(&mut bytes, AppendOrigin::Client, NOW).expect("it is valid");
    let group = logs.begin_commit().expect("there is something to commit");
    let committed = group.run().expect("the disk works");
    logs.finish_commit(committed);
    drop(logs);
    disk.kill();
    let path = dir.join("weir-commit-journal");
    let journal = disk.open(&path, OpenMode::Truncate).expect("the disk works");
    journal.write_at(file, 0).expect("the disk works");
    let (logs, _) = open().expect("no journal keeps a directory from opening");
    for (_, log) in logs.logs() {
        let (start, end) = (log.log_start_offset(), log.synced_offset());
        let read = log.read(start, usize::MAX, end).expect("it was scanned");
        for slice in read.slices {
            let bytes = slice.read().expect("the disk works");
            for view in batch::batches(&bytes) {
                view.expect("it was scanned").verify_crc().expect("it was scanned");
            }
        }
    }
}

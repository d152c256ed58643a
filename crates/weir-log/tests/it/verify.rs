//! Verifying and repairing: what is damaged is found, and what is not stays what it was.
//!
//! `DAMAGE_CASES` sets how many bits are flipped (default 2,000), `DAMAGE_SEED` which.

#![allow(clippy::print_stdout)] // Seeds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_log::verify::{repair, verify, Finding, FindingKind, VerifyOptions, VerifyReport};
use weir_log::{AppendOrigin, Disk, LogConfig, MemDisk};
use weir_protocol::batch::{self, BatchBuilder, ControlMarker};
use weir_protocol::compression::Codec;
use weir_protocol::{Offset, ProducerEpoch, ProducerId, Sequence};

use crate::rig::{batch_of, open, path, producer_batch, read_all, txn_batch, Rig, DIR, T0, TOPIC};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

fn config() -> LogConfig {
    LogConfig::from_pairs([("segment.bytes", "2500"), ("index.interval.bytes", "200")]).unwrap()
}

/// Two logs, one with a bit of everything: several segments, two leader epochs, every codec, an idempotent
/// producer, committed and aborted transactions, and values that are batches themselves.
fn filled(clean: bool) -> MemDisk {
    let mut rig = filled_rig();
    // What a start writes again from there is another test's business.
    rig.empty_journal();
    let disk = rig.disk.clone();
    if clean {
        rig.dir.close().unwrap();
    } else {
        drop(rig);
        disk.kill();
    }
    disk
}

fn filled_rig() -> Rig {
    let mut rig = Rig::new(config());
    let mut sequence = 0;
    for n in 0..60_usize {
        if n == 30 {
            rig = rig.kill_and_reopen().0;
        }
        rig.append(batch_of(1 + n % 7)).unwrap();
        rig.append(producer_batch(7, 0, sequence, 2)).unwrap();
        sequence += 2;
        let mut builder = BatchBuilder::new(Codec::ALL[n % 5]);
        builder.set_producer(ProducerId(9), ProducerEpoch(0), Sequence(i32::try_from(n).unwrap()));
        let value = if n % 10 == 3 { segment_in_a_value(n) } else { vec![7; n] };
        builder.append(T0.plus_ms(n as i64), Some(b"key"), Some(&value), &[]);
        rig.append(builder.build().to_vec()).unwrap();
        if n % 10 == 5 {
            rig.append(txn_batch(8, i32::try_from(n / 10).unwrap())).unwrap();
            let marker = if n % 20 == 5 { ControlMarker::Abort } else { ControlMarker::Commit };
            let end = batch::build_control(marker, ProducerId(8), ProducerEpoch(0), 0, T0);
            rig.log_mut().append(&mut end.to_vec(), AppendOrigin::Coordinator, T0).unwrap();
        }
        rig.commit();
    }
    rig
}

/// Two batches whose offsets would fit, as somebody has them who stores segments in records.
fn segment_in_a_value(n: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (at, count) in [(0, 2), (2, 3)] {
        let mut one = batch_of(count);
        one[..8].copy_from_slice(&((n * 9 + 8 + at) as i64).to_be_bytes());
        bytes.extend_from_slice(&one);
    }
    bytes
}

fn look(disk: &MemDisk) -> VerifyReport {
    let options = VerifyOptions { deep: true, ..VerifyOptions::default() };
    verify(disk, Path::new(DIR), &options, &mut |_| {}).unwrap()
}

fn problems(report: &VerifyReport) -> Vec<&Finding> {
    report.findings.iter().filter(|finding| finding.kind.is_problem()).collect()
}

fn copy_of(disk: &MemDisk) -> MemDisk {
    // Everything was synced, so a power cut takes nothing.
    let copy = disk.crash(0);
    for (path, bytes) in disk.files() {
        copy.damage(&path, |there| *there = bytes).unwrap();
    }
    copy
}

fn logs(disk: &MemDisk) -> Vec<(PathBuf, usize)> {
    let files = disk.files().into_iter();
    files
        .filter(|(path, _)| path.extension().is_some_and(|end| end == "log"))
        .map(|(path, bytes)| (path, bytes.len()))
        .filter(|(_, len)| *len > 0)
        .collect()
}

/// Batches by base offset, as they are in the files.
fn batches(disk: &MemDisk) -> BTreeMap<i64, Vec<u8>> {
    let mut found = BTreeMap::new();
    for (path, _) in logs(disk) {
        let bytes = disk.files().remove(&path).unwrap();
        for view in batch::batches_in(&bytes).map(Result::unwrap) {
            found.insert(view.base_offset().get(), view.bytes().to_vec());
        }
    }
    found
}

#[test]
fn a_sound_directory_has_no_problem_after_a_clean_stop_or_a_kill() {
    for clean in [true, false] {
        let disk = filled(clean);
        let report = look(&disk);
        assert!(report.is_sound(), "clean: {clean}: {:#?}", report.findings);
        assert_eq!((report.clean, report.partitions), (clean, 2));
        let files = logs(&disk);
        // And the empty one of the other log.
        assert_eq!(report.segments, files.len() + 1);
        assert_eq!(report.bytes, files.iter().map(|(_, len)| *len as u64).sum::<u64>());
        assert_eq!(report.batches as usize, batches(&disk).len());
    }
}

#[test]
fn every_flipped_bit_of_a_log_is_found_where_it_is() {
    let (cases, seed) = (number("DAMAGE_CASES", 2_000), number("DAMAGE_SEED", 1));
    println!("DAMAGE_SEED={seed} DAMAGE_CASES={cases}");
    let mut random = Random(seed);
    let (mut found, mut torn) = (0, 0);
    for clean in [true, false] {
        let disk = filled(clean);
        let files = logs(&disk);
        let (last_file, last_len) = files.last().unwrap().clone();
        let last_batch = batches(&disk).last_entry().unwrap().get().len();
        for case in 0..cases / 2 {
            let (path, len) = &files[random.below(files.len() as u64) as usize];
            let (at, bit) = (random.below(*len as u64), random.below(8));
            let flip = |bytes: &mut Vec<u8>| bytes[at as usize] ^= 1 << bit;
            disk.damage(path, flip).unwrap();
            let report = look(&disk);
            let place = format!("case {case}, clean {clean}, bit {bit} of byte {at} of {path:?}");
            let here = |finding: &&Finding| {
                let from = finding.position.unwrap_or(u64::MAX);
                finding.file == *path && from <= at && at < from + finding.bytes.max(1)
            };
            // Of the last batch nobody may have been told: without a clean stop it is a torn tail.
            let is_tail = !clean && *path == last_file && at as usize >= last_len - last_batch;
            match report.findings.iter().find(here).map(|finding| finding.kind) {
                Some(kind) if kind.is_damage() => found += 1,
                // Its leader epoch has no witness at all there.
                Some(FindingKind::TornTail) | None if is_tail => torn += 1,
                kind => panic!("{place}: {kind:?} in {report:#?}"),
            }
            disk.damage(path, flip).unwrap();
        }
    }
    println!("{found} damages and {torn} tails of {cases} flipped bits reported");
    assert_eq!(found + torn, cases / 2 * 2);
}

#[test]
fn a_repair_keeps_every_batch_but_the_damaged_one_and_the_log_goes_on() {
    let (cases, seed) = (number("DAMAGE_CASES", 2_000) / 10, number("DAMAGE_SEED", 1));
    println!("DAMAGE_SEED={seed}, {cases} repairs");
    let mut random = Random(seed ^ 0xabcd);
    for clean in [true, false] {
        let sound = filled(clean);
        let (written, files) = (batches(&sound), logs(&sound));
        for case in 0..cases / 2 {
            let disk = copy_of(&sound);
            let (path, len) = &files[random.below(files.len() as u64) as usize];
            let (at, bit) = (random.below(*len as u64) as usize, random.below(8));
            let place = format!("case {case}, clean {clean}, bit {bit} of byte {at} of {path:?}");
            disk.damage(path, |bytes| bytes[at] ^= 1 << bit).unwrap();
            check_repair(&disk, &written, &place);
        }
    }
}

/// Repairs, opens and reads: at most one batch of those written may be missing, and none may be other
/// than it was, but for its leader epoch.
fn check_repair(disk: &MemDisk, written: &BTreeMap<i64, Vec<u8>>, place: &str) {
    let before = disk.files();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = VerifyOptions { now: T0, ..VerifyOptions::default() };
    let repaired = repair(&shared, Path::new(DIR), &options, &mut |_| {}).unwrap();
    assert!(repaired.after.is_sound(), "{place}: {repaired:#?}");
    assert_eq!(repaired.actions.is_empty(), repaired.before.findings.is_empty(), "{place}");
    for action in repaired.actions.iter().filter(|action| action.lost_from.is_some()) {
        let kept = disk.files().remove(action.kept_in.as_ref().unwrap()).unwrap();
        assert_eq!(kept, before[&action.file], "{place}: the old bytes are kept");
    }
    let (mut dir, report) = open(disk, &config()).unwrap();
    assert!(report.damage.is_empty(), "{place}: {report:#?}\n{repaired:#?}");
    let id = dir.find(TOPIC, weir_protocol::PartitionId(0)).unwrap();
    let log = dir.get(id).unwrap();
    let mut served = BTreeMap::new();
    let mut at = Offset(0);
    while at < log.synced_offset() {
        let read = log.read(at, 1500, log.synced_offset()).unwrap();
        assert!(read.next_offset > at, "{place}: a read gets on");
        for view in batch::batches_in(&read_all(&read.slices)).map(Result::unwrap) {
            view.verify_crc().unwrap();
            if view.record_count() > 0 {
                served.insert(view.base_offset().get(), view.bytes().to_vec());
            }
        }
        at = read.next_offset;
    }
    let lost = written.keys().filter(|base| !served.contains_key(*base)).count();
    assert!(lost <= 1, "{place}: {lost} batches lost, {repaired:#?}");
    for (base, bytes) in &served {
        let known = written.get(base).map(|batch| without_epoch(batch));
        assert_eq!(Some(without_epoch(bytes)), known, "{place}: the batch at {base}");
    }
    let log = dir.get_mut(id).unwrap();
    let end = log.log_end_offset();
    let last = written.iter().next_back().map(|(base, _)| *base).unwrap();
    assert!(end.get() >= last, "{place}: the log ends at {end}");
    log.append(&mut batch_of(3), AppendOrigin::Client, T0).unwrap();
    assert_eq!(log.log_end_offset(), end.plus(3));
}

fn without_epoch(batch: &[u8]) -> Vec<u8> {
    let mut bytes = batch.to_vec();
    bytes[12..16].fill(0);
    bytes
}

#[test]
fn a_header_that_the_crc_does_not_cover_is_set_right_without_a_loss() {
    // Base offset, length, leader epoch, magic.
    for at in [0, 3, 7, 8, 11, 12, 15, 16] {
        let disk = filled(true);
        let written = batches(&disk);
        let (file, _) = logs(&disk).swap_remove(1);
        let first = batch::BatchView::parse(&disk.files()[&file]).unwrap().size_bytes();
        disk.damage(&file, |bytes| bytes[first + at] ^= 4).unwrap();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let options = VerifyOptions::default();
        let report = repair(&shared, Path::new(DIR), &options, &mut |_| {}).unwrap();
        assert!(!report.before.is_sound() && report.after.is_sound(), "byte {at}: {report:#?}");
        assert!(report.actions.iter().all(|action| action.lost_from.is_none()), "{report:#?}");
        let mended = batches(&disk);
        assert!(mended == written, "byte {at}: {report:#?}");
    }
}

#[test]
fn a_torn_tail_is_no_problem_after_a_kill_and_one_after_a_clean_stop() {
    let check = |clean: bool, expect: FindingKind| {
        let disk = filled(clean);
        let (file, _) = logs(&disk).pop().unwrap();
        disk.damage(&file, |bytes| bytes.extend_from_slice(&batch_of(4)[..70])).unwrap();
        let report = look(&disk);
        let kinds: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
        assert_eq!(kinds, [expect], "{report:#?}");
        assert_eq!(report.is_sound(), !clean);
    };
    check(false, FindingKind::TornTail);
    check(true, FindingKind::DamagedBatch);
}

#[test]
fn a_cut_below_the_synced_offset_is_a_lost_tail_and_its_offsets_are_not_given_again() {
    let disk = filled(true);
    let (file, len) = logs(&disk).pop().unwrap();
    let (last, bytes) = batches(&disk).pop_last().unwrap();
    disk.damage(&file, |there| there.truncate(len - bytes.len())).unwrap();
    let report = look(&disk);
    let lost = problems(&report).into_iter().find(|one| one.kind == FindingKind::LostTail).unwrap();
    assert_eq!(lost.offset, Some(Offset(last)));
    check_repair(&disk, &batches(&filled(true)), "a lost tail");
}

#[test]
fn indexes_snapshots_and_checkpoints_are_judged_and_made_anew() {
    let base = {
        let disk = filled(true);
        let (file, _) = logs(&disk).swap_remove(1);
        file.file_stem().unwrap().to_string_lossy().parse::<i64>().unwrap()
    };
    let newest = |disk: &MemDisk, suffix: &str| {
        let files = disk.files().into_keys();
        files.filter(|path| path.extension().is_some_and(|end| end == suffix)).max().unwrap()
    };
    type Change = fn(&mut Vec<u8>);
    let check = |file: PathBuf, change: Change, expect: FindingKind| {
        let disk = filled(true);
        disk.damage(&file, change).unwrap();
        let report = look(&disk);
        let kinds: Vec<_> = problems(&report).iter().map(|finding| finding.kind).collect();
        assert_eq!(kinds, [expect], "{file:?}: {report:#?}");
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let repaired =
            repair(&shared, Path::new(DIR), &VerifyOptions::default(), &mut |_| {}).unwrap();
        assert!(repaired.after.is_sound(), "{file:?}: {repaired:#?}");
        open(&disk, &config()).unwrap();
    };
    use FindingKind as Kind;
    let disk = filled(true);
    check(path(base, "index"), |bytes| bytes[3] ^= 1, Kind::OffsetIndex);
    check(path(base, "index"), |bytes| bytes[7] ^= 1, Kind::OffsetIndex);
    check(path(base, "index"), |bytes| bytes.truncate(9), Kind::OffsetIndex);
    check(path(base, "timeindex"), |bytes| bytes[7] ^= 1, Kind::TimeIndex);
    check(path(base, "timeindex"), |bytes| bytes[11] ^= 64, Kind::TimeIndex);
    check(path(base, "timeindex"), |bytes| bytes.truncate(bytes.len() - 12), Kind::TimeIndex);
    check(newest(&disk, "txnindex"), |bytes| bytes[17] ^= 1, Kind::TxnIndex);
    check(newest(&disk, "txnindex"), |bytes| bytes.truncate(33), Kind::TxnIndex);
    check(newest(&disk, "snapshot"), |bytes| bytes[12] ^= 1, Kind::Snapshot);
    let dir = Path::new(DIR);
    let epochs = dir.join(format!("{TOPIC}-0/leader-epoch-checkpoint"));
    check(epochs.clone(), |bytes| bytes.truncate(5), Kind::LeaderEpochs);
    check(epochs, |bytes| *bytes = b"0\n1\n0 0\n".to_vec(), Kind::LeaderEpochs);
    let points = dir.join("recovery-point-offset-checkpoint");
    check(points, |bytes| bytes[0] = b'x', Kind::Checkpoint);
}

#[test]
fn arbitrary_damage_to_any_file_never_panics() {
    let (cases, seed) = (number("DAMAGE_CASES", 2_000) / 2, number("DAMAGE_SEED", 1));
    println!("DAMAGE_SEED={seed}, {cases} cases");
    let mut random = Random(seed ^ 0x5eed);
    for clean in [true, false] {
        let disk = filled(clean);
        let files: Vec<(PathBuf, Vec<u8>)> = disk.files().into_iter().collect();
        for _ in 0..cases / 2 {
            let (path, bytes) = &files[random.below(files.len() as u64) as usize];
            let mut bad = bytes.clone();
            match random.below(4) {
                0 => bad.truncate(random.below(bad.len() as u64 + 1) as usize),
                1 => {
                    bad.iter_mut().skip(random.below(3000) as usize).take(700).for_each(|b| *b = 0)
                }
                2 => bad.extend((0..random.below(200)).map(|n| n as u8)),
                _ => {
                    for _ in 0..random.below(30) {
                        let at = random.below(bad.len() as u64) as usize;
                        if let Some(byte) = bad.get_mut(at) {
                            *byte = random.below(256) as u8;
                        }
                    }
                }
            }
            disk.damage(path, |there| *there = bad).unwrap();
            let report = look(&disk);
            let is_log = path.extension().is_some_and(|end| end == "log");
            let intact = disk.files()[path] == *bytes;
            let unsound = report.findings.iter().any(|finding| finding.file == *path);
            assert!(!is_log || intact || unsound || !clean, "{path:?}: {report:#?}");
            disk.damage(path, |there| *there = bytes.clone()).unwrap();
        }
    }
}

#[test]
fn what_the_commit_journal_holds_is_left_to_the_next_start() {
    let damaged = |disk: &MemDisk| {
        let (file, len) = logs(disk).pop().unwrap();
        disk.damage(&file, |bytes| bytes[len - 200..len - 100].fill(0)).unwrap();
        look(disk)
    };
    assert!(!damaged(&filled(false)).is_sound(), "an empty journal mends nothing");
    let journaled = || {
        let rig = filled_rig();
        let disk = rig.disk.clone();
        drop(rig);
        disk.kill();
        disk
    };
    let disk = journaled();
    let report = damaged(&disk);
    assert!(
        !report.is_sound(),
        "valid batches are behind it, only the next start can tell: {report:#?}"
    );
    let shared: Arc<dyn Disk> = Arc::new(disk);
    let error =
        repair(&shared, Path::new(DIR), &VerifyOptions::default(), &mut |_| {}).unwrap_err();
    assert_eq!(error.code(), "WEIR-0221");
    let disk = journaled();
    let (file, len) = logs(&disk).pop().unwrap();
    disk.damage(&file, |bytes| bytes[len - 10..].fill(0)).unwrap();
    let report = look(&disk);
    assert!(report.is_sound() && !report.findings.is_empty(), "a bad end: {report:#?}");
}

#[test]
fn a_locked_directory_is_not_repaired() {
    let disk = filled(true);
    let held = disk.lock(&Path::new(DIR).join(".lock")).unwrap();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let error =
        repair(&shared, Path::new(DIR), &VerifyOptions::default(), &mut |_| {}).unwrap_err();
    assert_eq!(error.code(), "WEIR-0202");
    drop(held);
}

//! Damage to any byte of any file: mended, or cut as a torn tail, or reported; never a panic, never wrong
//! bytes, and nothing lost in silence.
//!
//! ```sh
//! DAMAGE_CASES=10000 cargo test --release -p weir-log --test it damaged_files -- --nocapture
//! ```
//!
//! `DAMAGE_CASES` says how many (default 400), `DAMAGE_SEED` which, `DAMAGE_CASE` that only this one of them is judged. Each case damages one file of a
//! directory as a clean stop, a kill or a power cut leaves it, commit journal included, verifies it, starts
//! on it, and reads everything: in order, from each batch, by time, and the aborted transactions. Then it
//! appends, cleans, stops and starts again.
//!
//! A reader is one that checks the CRC of each batch, as Kafka's clients do.
//!
//! | column | what |
//! |---|---|
//! | verify | `weir log verify` had found it before |
//! | torn | the end of a log that did not stop cleanly is gone, as if it had never been written |
//! | reported | the start told of it, or a read was refused, or a CRC was wrong |
//! | refused | there was no start, with a code that says why |
//! | rebuilt | the start has built the indexes again |
//! | harmless | everything is as it was |
//! | SILENT | records are missing, and nobody was told |
//! | WRONG | a record was served that was never written |
//! | misled | nobody was told but by `verify`: an index below the recovery point, which is not read at a start, led to another answer by time or of aborted transactions, or a base offset is another, which no CRC covers |
//! | UNKNOWN | as misled, and `verify` does not find it either: allowed for another number in `log-start-offset-checkpoint` |

#![allow(clippy::print_stdout)] // The table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use weir_log::verify::{verify, FindingKind, VerifyOptions};
use weir_log::{AbortedTxn, AppendOrigin, Disk, LogDir, LogError, MemDisk, RecoveryReport};
use weir_protocol::batch::{self, BatchView};
use weir_protocol::Offset;

use crate::damage_scenes::{find, open, records_of, scenes, Known, Scene, TOPICS};
use crate::rig::{batch_of, read_all, DIR, T0};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound.max(1) as u64) as usize
    }
}

/// What happens to a file.
const DAMAGES: [&str; 8] =
    ["bit flip", "noise", "zeros", "cut", "emptied", "appended", "misplaced", "gone"];

/// The bytes afterwards. `None`: the file is gone.
fn damaged(kind: &str, bytes: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let mut bad = bytes.to_vec();
    let at = random.below(bad.len());
    match kind {
        "bit flip" if !bad.is_empty() => bad[at] ^= 1 << random.below(8),
        "noise" => {
            let count = 1 + random.below(30);
            bad.iter_mut().skip(at).take(count).for_each(|byte| *byte = random.below(256) as u8);
        }
        "zeros" => {
            let count = 1 + random.below(700);
            bad.iter_mut().skip(at).take(count).for_each(|byte| *byte = 0);
        }
        "cut" => bad.truncate(at),
        "emptied" => bad.clear(),
        "appended" => {
            let zeros = random.below(3) == 0;
            let byte = |random: &mut Random| if zeros { 0 } else { random.below(256) as u8 };
            bad.extend((0..1 + random.below(200)).map(|_| byte(random)).collect::<Vec<_>>());
        }
        // A sector of this file where another belongs.
        "misplaced" if bad.len() > 1 => {
            let len = 512.min(bad.len() / 2);
            let from = random.below(bad.len() - len);
            let to = random.below(bad.len() - len);
            bad.copy_within(from..from + len, to);
        }
        "gone" => return None,
        _ => {}
    }
    Some(bad)
}

fn kind_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match path.extension().and_then(|end| end.to_str()) {
        Some("log") => "segment".to_owned(),
        Some("index") => "offset index".to_owned(),
        Some("timeindex") => "time index".to_owned(),
        Some("txnindex") => "transaction index".to_owned(),
        Some("snapshot") => "producer snapshot".to_owned(),
        _ => name,
    }
}

/// What came of one case.
#[derive(Debug, Default)]
struct Outcome {
    /// The start refused the directory, with a code.
    is_refused: bool,
    /// The start told of damage or bad files, or gave a warning; or a read was refused; or a batch's
    /// CRC is wrong.
    is_reported: bool,
    /// `weir log verify` found it beforehand.
    is_found: bool,
    /// Batches at the end were cut, and counted.
    is_cut: bool,
    /// Indexes were built again.
    is_rebuilt: bool,
    /// Something that was there whole is not served any more: its bytes are in a file of their own.
    set_aside: usize,
    /// A batch is served under another base offset, and lacks where it was.
    is_moved: bool,
    /// Violations, in words.
    wrong: Vec<String>,
    silent: Vec<String>,
    /// Deleted records that are there again.
    undead: Vec<String>,
    /// What nobody was told of, and `weir log verify` alone finds: other answers than before by time or of
    /// aborted transactions, another base offset, deleted records that are there again.
    misled: Vec<String>,
}

impl Outcome {
    fn is_told(&self) -> bool {
        self.is_refused || self.is_reported
    }
}

#[derive(Debug, Default, Clone)]
struct Row {
    cases: u64,
    found: u64,
    cut: u64,
    reported: u64,
    refused: u64,
    mended: u64,
    harmless: u64,
    wrong: u64,
    silent: u64,
    misled: u64,
    unknown: u64,
    panics: u64,
}

impl Row {
    fn count(&mut self, outcome: Option<&Outcome>) {
        self.cases += 1;
        let Some(outcome) = outcome else {
            self.panics += 1;
            return;
        };
        self.found += u64::from(outcome.is_found);
        self.wrong += u64::from(!outcome.wrong.is_empty());
        self.silent += u64::from(!outcome.silent.is_empty());
        self.misled += u64::from(!outcome.misled.is_empty() && outcome.is_found);
        self.unknown += u64::from(!outcome.misled.is_empty() && !outcome.is_found);
        let place = if outcome.is_refused {
            &mut self.refused
        } else if outcome.is_reported {
            &mut self.reported
        } else if outcome.is_cut {
            &mut self.cut
        } else if outcome.is_rebuilt {
            &mut self.mended
        } else if outcome.misled.is_empty() {
            &mut self.harmless
        } else {
            return;
        };
        *place += 1;
    }

    fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.fields_mut().into_iter().zip(other.clone().fields_mut()) {
            *mine += *theirs;
        }
    }

    fn fields_mut(&mut self) -> [&mut u64; 12] {
        [
            &mut self.cases,
            &mut self.found,
            &mut self.cut,
            &mut self.reported,
            &mut self.refused,
            &mut self.mended,
            &mut self.harmless,
            &mut self.silent,
            &mut self.wrong,
            &mut self.misled,
            &mut self.unknown,
            &mut self.panics,
        ]
    }
}

const COLUMNS: [&str; 12] = [
    "cases", "verify", "torn", "reported", "refused", "rebuilt", "harmless", "SILENT", "WRONG",
    "misled", "UNKNOWN", "PANICS",
];

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for field in self.clone().fields_mut() {
            write!(f, " {field:>8}")?;
        }
        Ok(())
    }
}

#[test]
fn damaged_files_are_mended_or_reported_and_never_served() {
    let (cases, seed) = (number("DAMAGE_CASES", 400), number("DAMAGE_SEED", 1));
    let only: Option<u64> = std::env::var("DAMAGE_CASE").ok().and_then(|case| case.parse().ok());
    println!("DAMAGE_CASES={cases} DAMAGE_SEED={seed}");
    let scenes = scenes(seed);
    let mut random = Random(seed);
    let mut rows: BTreeMap<(String, usize), Row> = BTreeMap::new();
    let mut violations = Vec::new();
    for case in 0..cases {
        let (scene, path, damage, bad) = draw(&scenes, &mut random);
        if only.is_some_and(|only| only != case) {
            continue;
        }
        let disk = scene.disk.crash_as_kill();
        match &bad {
            Some(bad) => disk.damage(&path, |bytes| bytes.clone_from(bad)).unwrap(),
            None => disk.remove(&path).unwrap(),
        }
        // A panic is printed by itself, with its place.
        let outcome = catch_unwind(AssertUnwindSafe(|| judge(scene, &disk, &path, bad.as_deref())));
        let place =
            format!("case {case}: {} of {} ({})", DAMAGES[damage], path.display(), scene.name);
        match &outcome {
            Ok(outcome) => {
                let is_unknown = !outcome.is_found && !has_no_checksum(&path);
                let unknown = outcome.misled.iter().filter(|_| is_unknown);
                let all = outcome.wrong.iter().chain(&outcome.silent).chain(unknown);
                violations.extend(all.take(1).map(|what| format!("{place}: {what}")));
            }
            Err(_) => violations.push(format!("{place}: it panicked")),
        }
        rows.entry((kind_of(&path), damage)).or_default().count(outcome.as_ref().ok());
    }
    print_table(&rows);
    for violation in violations.iter().take(100) {
        println!("{violation}");
    }
    assert!(violations.is_empty(), "{} of {cases} cases, DAMAGE_SEED={seed}", violations.len());
}

fn print_table(rows: &BTreeMap<(String, usize), Row>) {
    print!("{:33} {:9}", "file", "damage");
    COLUMNS.iter().for_each(|column| print!(" {column:>8}"));
    println!();
    let mut total = Row::default();
    for ((file, damage), row) in rows {
        println!("{file:33} {:9}{row}", DAMAGES[*damage]);
        total.add(row);
    }
    println!("{:33} {:9}{total}", "all", "");
}

/// A scene, a file in it, what happens to it, and its bytes afterwards, which are others.
fn draw<'a>(
    scenes: &'a [Scene],
    random: &mut Random,
) -> (&'a Scene, PathBuf, usize, Option<Vec<u8>>) {
    loop {
        let scene = &scenes[random.below(scenes.len())];
        let files: Vec<(PathBuf, Vec<u8>)> = scene.disk.files().into_iter().collect();
        let kinds: BTreeSet<String> = files.iter().map(|(path, _)| kind_of(path)).collect();
        // Every third one in a segment, every sixth in the journal.
        let kind = match random.below(6) {
            0 | 1 => "segment".to_owned(),
            2 => "weir-commit-journal".to_owned(),
            _ => kinds.iter().nth(random.below(kinds.len())).unwrap().clone(),
        };
        let of_kind: Vec<_> = files.iter().filter(|(path, _)| kind_of(path) == kind).collect();
        let (path, bytes) = of_kind[random.below(of_kind.len())];
        let damage = random.below(DAMAGES.len());
        let bad = damaged(DAMAGES[damage], bytes, random);
        if bad.as_deref() != Some(bytes) {
            return (scene, path.clone(), damage, bad);
        }
    }
}

fn judge(scene: &Scene, disk: &MemDisk, path: &Path, bad: Option<&[u8]>) -> Outcome {
    let mut outcome = Outcome::default();
    let options = VerifyOptions { deep: true, ..VerifyOptions::default() };
    outcome.is_found = match verify(disk, Path::new(DIR), &options, &mut |_| {}) {
        Ok(report) => report.findings.iter().any(|finding| finding.kind != FindingKind::Note),
        Err(_) => true,
    };
    let (mut dir, report) = match open(disk) {
        Ok(opened) => opened,
        Err(error) => {
            assert!(error.code().starts_with("WEIR-02"), "{error}");
            outcome.is_refused = true;
            return outcome;
        }
    };
    outcome.is_reported |= is_told(&report);
    outcome.is_rebuilt = report.indexes_rebuilt > 0;
    for topic in TOPICS {
        judge_log(scene, disk, &dir, topic, &report, (path, bad), &mut outcome);
    }
    let ends = go_on(&mut dir);
    match dir.close() {
        // A log that cannot be read where it ends.
        Err(error) => assert!(outcome.is_told(), "{error}"),
        Ok(()) => {
            let (dir, again) = open(disk).unwrap();
            outcome.is_reported |= is_told(&again);
            for topic in TOPICS {
                let up_to = ends.get(topic).copied();
                read_in_order(&dir, topic, &scene.logs[topic], up_to, &mut outcome);
            }
        }
    }
    if outcome.is_told() {
        outcome.misled.clear();
        outcome.undead.clear();
    }
    outcome.misled.append(&mut outcome.undead);
    if has_no_checksum(path) || outcome.is_moved {
        outcome.misled.append(&mut outcome.silent);
    }
    outcome
}

/// Kafka's checkpoints are text without a checksum: another number is as good as the one that was there. Where
/// logs start stands nowhere else.
fn has_no_checksum(path: &Path) -> bool {
    path.ends_with("log-start-offset-checkpoint")
}

fn is_told(report: &RecoveryReport) -> bool {
    !report.damage.is_empty() || !report.bad_files.is_empty() || !report.warnings.is_empty()
}

/// Reads one log in all ways, and holds it against what is known.
fn judge_log(
    scene: &Scene,
    disk: &MemDisk,
    dir: &LogDir,
    topic: &'static str,
    report: &RecoveryReport,
    (path, bad): (&Path, Option<&[u8]>),
    outcome: &mut Outcome,
) {
    let known = &scene.logs[topic];
    let mut served = read_in_order(dir, topic, known, None, outcome);
    served.extend(read_each(dir, topic, known, outcome));
    let lost: Vec<i64> =
        known.batches.keys().filter(|base| !served.contains(*base)).copied().collect();
    if !lost.is_empty() && !outcome.is_told() {
        let is_tail = known.batches.keys().rev().take(lost.len()).all(|base| lost.contains(base));
        // One that ends where a batch ends is as if the rest had never come to the disk.
        if is_tail && (report.bytes_cut > 0 || scene.name != "clean stop") {
            outcome.is_cut = true;
        } else {
            outcome.silent.push(format!("{topic} lacks the batches at {lost:?}: {report:?}"));
        }
    }
    judge_answers(dir, topic, known, outcome);
    // What the damage left whole is served, or kept aside.
    let Some(places) = scene.places.get(path).filter(|_| is_of(path, topic)) else { return };
    let before = &scene.disk.files()[path];
    let whole = places.iter().filter(|(base, range)| {
        lost.contains(base)
            && bad.is_some_and(|bad| bad.get(range.clone()) == before.get(range.clone()))
    });
    let files = disk.files();
    for (base, range) in whole {
        let bytes = &before[range.clone()][21..];
        let is_kept = files
            .iter()
            .filter(|(path, _)| path.to_string_lossy().contains("damaged"))
            .any(|(_, kept)| kept.windows(bytes.len()).any(|window| window == bytes));
        outcome.set_aside += 1;
        if !is_kept && !outcome.is_refused && find(dir, topic).is_some() {
            let is_there = files[path].windows(bytes.len()).any(|window| window == bytes);
            if !is_there {
                outcome.silent.push(format!(
                    "{topic}: the batch at {base} was whole, and is dropped: {report:?}"
                ));
            }
        }
    }
}

fn is_of(path: &Path, topic: &str) -> bool {
    path.parent().is_some_and(|dir| dir.ends_with(format!("{topic}-0")))
}

fn is_same(one: &[AbortedTxn], other: &[AbortedTxn]) -> bool {
    let told = |txn: &AbortedTxn| (txn.producer_id, txn.first_offset, txn.last_offset);
    one.iter().map(told).eq(other.iter().map(told))
}

/// By time, and which transactions were aborted.
fn judge_answers(dir: &LogDir, topic: &str, known: &Known, outcome: &mut Outcome) {
    let Some(log) = find(dir, topic) else { return };
    let mut answers = Vec::new();
    match log.aborted_txns(known.start, known.end) {
        // Where all before was decided is for the search alone; less than there was makes it longer.
        Ok(found) if !is_same(&found, &known.aborted) => {
            answers.push(format!("{topic} has aborted {found:?}, not {:?}", known.aborted));
        }
        Ok(_) => {}
        Err(_) => outcome.is_reported = true,
    }
    for (time, wanted) in &known.by_time {
        match log.offset_for_timestamp(*time) {
            Ok(found) => {
                let found = found.map(|found| found.base_offset);
                if found != *wanted {
                    answers.push(format!("{topic} at {time}: {found:?}, not {wanted:?}"));
                }
            }
            Err(_) => outcome.is_reported = true,
        }
    }
    if !outcome.is_cut {
        outcome.misled.extend(answers);
    }
}

/// The batches that a reader gets which goes from the start to the end.
fn read_in_order(
    dir: &LogDir,
    topic: &str,
    known: &Known,
    up_to: Option<Offset>,
    outcome: &mut Outcome,
) -> BTreeSet<i64> {
    let mut served = BTreeSet::new();
    let Some(log) = find(dir, topic) else { return served };
    let mut at = log.log_start_offset();
    let mut before = -1;
    while at < log.synced_offset() {
        let read = match log.read(at, 600, log.synced_offset()) {
            Ok(read) => read,
            Err(LogError::Damaged { .. } | LogError::BadFile { .. } | LogError::Io { .. }) => {
                outcome.is_reported = true;
                break;
            }
            Err(error) => panic!("{error}"),
        };
        let bytes = read_all(&read.slices);
        for view in batch::batches(&bytes) {
            let Some(view) = view.ok().filter(|view| view.verify_crc().is_ok()) else {
                outcome.is_reported = true;
                return served;
            };
            let base = view.base_offset().get();
            if up_to.is_some_and(|up_to| view.base_offset() >= up_to) {
                continue;
            }
            check_batch(topic, &view, known, outcome);
            if base <= before {
                outcome.misled.push(format!("{topic}: {base} behind {before}"));
            }
            before = base;
            served.insert(base);
        }
        if read.next_offset <= at {
            outcome.silent.push(format!("{topic}: a read at {at} gets no further"));
            break;
        }
        at = read.next_offset;
    }
    served
}

/// The batches that readers get which ask for just that one.
fn read_each(dir: &LogDir, topic: &str, known: &Known, outcome: &mut Outcome) -> BTreeSet<i64> {
    let mut served = BTreeSet::new();
    let Some(log) = find(dir, topic) else { return served };
    for base in known.batches.keys().copied() {
        let asked = Offset(base).max(log.log_start_offset());
        if asked >= log.synced_offset() {
            continue;
        }
        let read = match log.read(asked, 1, log.synced_offset()) {
            Ok(read) => read,
            Err(LogError::Damaged { .. } | LogError::BadFile { .. } | LogError::Io { .. }) => {
                outcome.is_reported = true;
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let bytes = read_all(&read.slices);
        for view in batch::batches(&bytes) {
            let Some(view) = view.ok().filter(|view| view.verify_crc().is_ok()) else {
                outcome.is_reported = true;
                break;
            };
            let found = view.base_offset().get();
            check_batch(topic, &view, known, outcome);
            if found == base {
                served.insert(base);
            } else if found > base {
                outcome
                    .misled
                    .push(format!("{topic}: asked for {base}, the answer begins at {found}"));
            }
        }
    }
    served
}

/// Whether the records of a batch whose CRC is right are those that were written there.
fn check_batch(topic: &str, view: &BatchView<'_>, known: &Known, outcome: &mut Outcome) {
    for (offset, words) in records_of(view) {
        if known.records.get(&offset) != Some(&words) {
            let there = known.records.get(&offset);
            let what = format!("{topic} at {offset}: served {words}, written {there:?}");
            // The base offset is the one thing in a batch that readers use and no CRC covers.
            if known.records.values().any(|one| *one == words) {
                outcome.is_moved = true;
                outcome.misled.push(what);
            } else {
                outcome.wrong.push(what);
            }
            return;
        }
        if offset < known.start.get() && view.last_offset() < known.start {
            outcome.undead.push(format!("{topic} at {offset}: it was deleted"));
            return;
        }
    }
}

/// The log is used on. Returns where each ended before.
fn go_on(dir: &mut LogDir) -> BTreeMap<&'static str, Offset> {
    let mut ends = BTreeMap::new();
    dir.tick(T0).unwrap();
    crate::rig::upkeep(dir, T0);
    for topic in TOPICS {
        let Some(id) = dir.find(topic, weir_protocol::PartitionId(0)) else { continue };
        ends.insert(topic, dir.get(id).unwrap().log_end_offset());
        dir.get_mut(id).unwrap().append(&mut batch_of(3), AppendOrigin::Client, T0).unwrap();
    }
    while let Some(group) = dir.begin_commit() {
        let committed = group.run().unwrap();
        dir.finish_commit(committed);
    }
    ends
}

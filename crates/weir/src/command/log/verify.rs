//! `weir log verify`: is everything in the files as it must be, and if not, what is lost and what to do.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{json, Value};
use weir_broker::TopicDefaults;
use weir_client::SystemClock;
use weir_log::verify::{
    repair, verify, Finding, FindingKind, Progress, RepairAction, RepairReport, VerifyOptions,
    VerifyReport,
};
use weir_log::{Disk, FileDisk, LogError, ReadOnlyDisk};
use weir_protocol::clock::Clock;
use weir_protocol::Offset;

use super::{failed, holder};
use crate::cli::VerifyArgs;
use crate::config::{Settings, Values};
use crate::error::{Outcome, UserError};
use crate::output::{bytes, grouped};

/// How often the progress line is written, and the first time.
const PROGRESS: Duration = Duration::from_millis(200);
/// A file of this many bytes that holds topics is not weir's.
const CATALOG_BYTES_MAX: u64 = 64 << 20;

pub(super) fn run(args: &VerifyArgs) -> Outcome {
    let data_dir = super::data_dir(&args.dir)?;
    let dir = super::log_dir(&data_dir)?;
    let compacted = compacted_topics(&dir, defaults(args));
    let is_compacted = |topic: &str| compacted.as_ref().map(|names| names.contains(topic));
    let options = VerifyOptions {
        deep: args.deep,
        topic: args.topic.as_deref(),
        partition: args.partition,
        is_compacted: &is_compacted,
        now: SystemClock.now(),
        ..VerifyOptions::default()
    };
    let held_by = holder(&dir);
    if let (Some(pid), false) = (held_by, args.repair) {
        eprintln!("process {pid} uses {}: the tails may move", dir.display());
    }
    let mut line = ProgressLine::new();
    let mut progress = |state: &Progress| line.show(state);
    if args.repair {
        let disk: Arc<dyn Disk> = Arc::new(FileDisk);
        let outcome = repair(&disk, &dir, &options, &mut progress);
        let taken = line.end();
        let report = outcome.map_err(|error| not_repaired(&error, &dir))?;
        print_repair(args, &report, taken);
        return verdict(&report.after, &dir, true);
    }
    let outcome = verify(&ReadOnlyDisk, &dir, &options, &mut progress);
    let taken = line.end();
    let report = outcome.map_err(|error| failed("cannot verify the log directory", &error))?;
    match args.json {
        true => outln!("{}", report_json(&report)),
        false => print_report(&report, taken),
    }
    verdict(&report, &dir, false)
}

fn not_repaired(error: &LogError, dir: &Path) -> UserError {
    let failure = failed("cannot repair the log directory", error);
    match error {
        LogError::Locked { .. } => failure.help("stop that process first"),
        LogError::Unrecovered { .. } => failure.help(format!(
            "start and stop the broker once: weir broker --data-dir {}",
            dir.parent().unwrap_or(dir).display()
        )),
        _ => failure,
    }
}

fn verdict(report: &VerifyReport, dir: &Path, repaired: bool) -> Outcome {
    if report.is_sound() {
        return Ok(());
    }
    let count = report.problems;
    let plural = if count == 1 { "" } else { "s" };
    let error = UserError::new(
        "WEIR-0220",
        format!("{count} problem{plural} in the files of {}", dir.display()),
    );
    Err(match repaired {
        true => error.why("what is left cannot be repaired; the report says what to do"),
        false => {
            error.help("stop the broker, then `weir log verify --repair` (it keeps the old bytes)")
        }
    })
}

/// What the configuration says of topics that do not say it; Kafka's defaults if it cannot be read, as a check of files
/// needs none.
fn defaults(args: &VerifyArgs) -> TopicDefaults {
    let values = Values::load(args.dir.file.config.as_deref(), std::env::vars()).ok();
    let settings = values.and_then(|values| Settings::from_values(&values).ok());
    let config = settings.and_then(|settings| crate::up::broker_config(&settings).ok());
    config.map(|config| config.topic_defaults).unwrap_or_default()
}

/// The topics that the catalog of an embedded broker says are compacted; `None` without a catalog.
fn compacted_topics(dir: &Path, defaults: TopicDefaults) -> Option<BTreeSet<String>> {
    let path = dir.join(weir_broker::topics::FILE);
    let is_small = std::fs::metadata(&path).is_ok_and(|file| file.len() <= CATALOG_BYTES_MAX);
    let text = is_small.then(|| std::fs::read_to_string(&path).ok()).flatten()?;
    let mut topics = weir_broker::topics::parse(&text).ok()?;
    topics.set_defaults(defaults);
    let compacted = topics.iter().filter(|topic| topic.limits.compacted);
    Some(compacted.map(|topic| topic.name().to_string()).collect())
}

/// How far it is, on a terminal, once it takes longer than a moment.
struct ProgressLine {
    started: Instant,
    next: Instant,
    is_terminal: bool,
    is_shown: bool,
}

impl ProgressLine {
    fn new() -> Self {
        let started = now();
        let is_terminal = std::io::stderr().is_terminal();
        Self { started, next: started + PROGRESS, is_terminal, is_shown: false }
    }

    fn show(&mut self, state: &Progress) {
        if !self.is_terminal || now() < self.next {
            return;
        }
        self.next = now() + PROGRESS;
        self.is_shown = true;
        eprint!("\r\x1b[2K{}", progress_text(state, self.started.elapsed()));
        let _ = std::io::stderr().flush();
    }

    /// Clears the line and says how long it took.
    fn end(&mut self) -> Duration {
        if self.is_shown {
            eprint!("\r\x1b[2K");
            self.is_shown = false;
        }
        self.started.elapsed()
    }
}

fn progress_text(state: &Progress, taken: Duration) -> String {
    let rate = state.bytes_done as f64 / taken.as_secs_f64().max(0.001);
    let left = state.bytes_total.saturating_sub(state.bytes_done) as f64 / rate.max(1.0);
    format!(
        "{} of {} · {}/s · {left:.0} s left · partition {} of {} · {} problems",
        bytes(state.bytes_done),
        bytes(state.bytes_total),
        bytes(rate as u64),
        (state.partitions_done + 1).min(state.partitions_total),
        state.partitions_total,
        state.problems
    )
}

/// What a person worries about first: the kind, then how much.
fn sorted(report: &VerifyReport) -> Vec<&Finding> {
    let mut findings: Vec<&Finding> = report.findings.iter().collect();
    findings.sort_by_key(|one| (one.kind, std::cmp::Reverse((one.records, one.bytes))));
    findings
}

fn mark(kind: FindingKind) -> &'static str {
    match kind {
        kind if kind.is_damage() => "■",
        kind if kind.is_problem() => "▲",
        FindingKind::TornTail => "◆",
        _ => "○",
    }
}

fn print_report(report: &VerifyReport, taken: Duration) {
    for finding in sorted(report) {
        print_finding(finding);
    }
    if report.findings_dropped > 0 {
        outln!("and {} findings more", grouped(report.findings_dropped));
    }
    let stop = if report.clean { "stopped cleanly" } else { "not stopped cleanly, or in use" };
    outln!(
        "{} partitions, {} segments, {}, {} batches, {} records in {:.1} s · {stop} · {}",
        grouped(report.partitions as u64),
        grouped(report.segments as u64),
        bytes(report.bytes),
        grouped(report.batches),
        grouped(report.records),
        taken.as_secs_f64(),
        match report.problems {
            0 => "● no problem".to_owned(),
            count => format!("■ {} problems", grouped(count)),
        }
    );
}

fn print_finding(finding: &Finding) {
    let mut place = finding.place();
    let file = finding.file.file_name().unwrap_or_default().to_string_lossy();
    place.push_str(&format!("  {file}"));
    if let Some(position) = finding.position {
        place.push_str(&format!("  byte {position}"));
    }
    if let Some(range) = range(finding.offset, finding.to_offset) {
        place.push_str(&format!("  {range}"));
    }
    outln!("{} {:<16}  {place}", mark(finding.kind), finding.kind.name());
    outln!("    {}", finding.what);
    if finding.records > 0 || finding.bytes > 0 {
        outln!(
            "    affected: {} bytes, {} records",
            grouped(finding.bytes),
            grouped(finding.records)
        );
    }
    if finding.kind != FindingKind::Note {
        outln!("    help: {}", finding.remedy);
    }
}

fn range(from: Option<Offset>, to: Option<Offset>) -> Option<String> {
    let from = from?.get();
    Some(match to.map(|to| to.get() - 1) {
        Some(last) if last > from => format!("offsets {from} to {last}"),
        _ => format!("offset {from}"),
    })
}

fn print_repair(args: &VerifyArgs, report: &RepairReport, taken: Duration) {
    if args.json {
        let actions: Vec<Value> = report.actions.iter().map(action_json).collect();
        outln!(
            "{}",
            json!({"before": report_json(&report.before), "actions": actions,
                   "after": report_json(&report.after)})
        );
        return;
    }
    for finding in sorted(&report.before) {
        print_finding(finding);
    }
    if report.actions.is_empty() {
        outln!("nothing to repair");
    }
    for action in &report.actions {
        outln!("● {}", action.file.display());
        outln!("    {}", action.what);
        if let Some(lost) = range(action.lost_from, action.lost_to) {
            outln!("    lost: {lost}");
        }
        if let Some(kept) = &action.kept_in {
            outln!("    the old bytes are in {}", kept.display());
        }
    }
    let after = &report.after;
    outln!(
        "{} things done in {:.1} s · {} problems before, {} after",
        report.actions.len(),
        taken.as_secs_f64(),
        grouped(report.before.problems),
        grouped(after.problems)
    );
}

fn finding_json(finding: &Finding) -> Value {
    let (topic, partition) = match &finding.partition {
        Some((topic, partition)) => (Some(topic), Some(partition)),
        None => (None, None),
    };
    json!({
        "kind": finding.kind.name(),
        "problem": finding.kind.is_problem(),
        "topic": topic,
        "partition": partition,
        "file": finding.file.display().to_string(),
        "position": finding.position,
        "offset": finding.offset.map(Offset::get),
        "to_offset": finding.to_offset.map(Offset::get),
        "bytes": finding.bytes,
        "records": finding.records,
        "what": finding.what,
        "remedy": finding.remedy,
    })
}

fn action_json(action: &RepairAction) -> Value {
    json!({
        "file": action.file.display().to_string(),
        "what": action.what,
        "lost_from": action.lost_from.map(Offset::get),
        "lost_to": action.lost_to.map(Offset::get),
        "kept_in": action.kept_in.as_ref().map(|path| path.display().to_string()),
    })
}

fn report_json(report: &VerifyReport) -> Value {
    let findings: Vec<Value> = sorted(report).into_iter().map(finding_json).collect();
    json!({
        "clean": report.clean,
        "partitions": report.partitions,
        "segments": report.segments,
        "bytes": report.bytes,
        "batches": report.batches,
        "records": report.records,
        "problems": report.problems,
        "findings": findings,
        "findings_dropped": report.findings_dropped,
    })
}

/// The command is a shell: it tells how long it took.
#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

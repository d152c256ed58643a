//! `weir ingest FILE|-`: posts NDJSON events to a gateway and loses none of them.
//!
//! One request is out at a time, so order per device holds. An event that the gateway refuses for
//! now (429, 503) is sent again after the Retry-After it gave; one that it refuses for good is
//! reported with its line and left out. A request without an answer is sent again whole: so that the
//! gateway knows which of its events it has, each line without an id is given one (`ingest/line_id.rs`).

mod line_id;
mod refused;

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use self::line_id::LineIds;
use self::refused::RefusedLines;
use super::{gateway, lines};
use crate::cli::IngestArgs;
use crate::error::{Outcome, UserError};
use crate::output::grouped;

/// Longest time without any progress before giving up.
const STALLED_MAX: Duration = Duration::from_secs(120);
/// Wait before another try when the gateway gives no Retry-After or cannot be reached.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_millis(500);
/// Longest event a gateway can be set to take, in bytes.
const EVENT_BYTES_MAX: usize = 1_000_000;
/// Bytes after which a request is sent, however few events it has; half of what a gateway takes.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Time without progress after which a person is told.
const SILENT_MAX: Duration = Duration::from_secs(1);
/// How often.
const WAITING_LINE_INTERVAL: Duration = Duration::from_secs(10);
/// How long a Ctrl-C may go unnoticed while holding back.
const PACE_STEP: Duration = Duration::from_millis(100);
/// Of an answer that is not understood.
const ANSWER_SHOWN_CHARS_MAX: usize = 200;
/// Of lines after the first without an answer.
const SOME_AFTER: &str =
    "some of those after it too: sent again they are duplicates if they have ids";
/// Refused lines that are shown; the rest are only counted.
const REFUSALS_SHOWN_MAX: usize = 10;

/// The gateway's answer to a request with `results=refused`.
#[derive(Debug, Default, Deserialize)]
struct Answer {
    #[serde(default)]
    accepted: u64,
    #[serde(default)]
    duplicate: u64,
    #[serde(default)]
    results: Vec<Refusal>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    index: usize,
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    retry_after_ms: Option<u64>,
}

/// What became of one request.
enum Posted {
    /// Each event has its answer; refused ones may be sent again after the wait.
    Answered(Answer, Duration),
    /// Nothing can be said about the events: they are sent again. Those with an id are recognised
    /// if they had arrived.
    Unknown(String),
    /// The request as a whole will not be taken.
    Refused(String),
    /// Whatever answers there is no gateway, or not at this path.
    NoGateway(String),
}

/// What became of the events so far.
#[derive(Debug, Default, serde::Serialize)]
struct Tally {
    sent: u64,
    accepted: u64,
    duplicate: u64,
    refused: u64,
    retried: u64,
}

impl Tally {
    /// Events that have their answer.
    fn decided(&self) -> u64 {
        self.accepted + self.duplicate + self.refused
    }
}

/// One event waiting for acceptance, with its line in the input.
struct Line {
    number: u64,
    text: String,
}

pub(crate) fn run(args: &IngestArgs) -> Outcome {
    let mut input = open(&args.file)?;
    let url = gateway::events_url(&args.gateway)?;
    let mut sender = Sender::new(url, Interrupt::watch()?, LineIds::of(&args.file));
    let mut number = 0;
    let started = now();
    let ended = pump(&mut *input, &mut sender, &mut number, args);
    // What was accepted is said whatever ended it.
    report(args, &sender.tally, started.elapsed());
    ended?;
    match sender.tally.refused {
        0 => Ok(()),
        refused => {
            Err(UserError::new("WEIR-0810", format!("{} refused for good", events(refused)))
                .help(sender.refused.advice(&args.file, Path::exists)))
        }
    }
}

/// Sends everything there is, or fails at the line after `number`.
fn pump(
    input: &mut dyn BufRead,
    sender: &mut Sender,
    number: &mut u64,
    args: &IngestArgs,
) -> Outcome {
    loop {
        let before = *number;
        let batch = read_batch(input, sender, number, args.batch)?;
        if *number == before {
            return Ok(());
        }
        sender.pace(args.rate);
        if sender.interrupted.is_set() {
            return Err(interrupted(before + 1, "this one and later ones were not sent"));
        }
        sender.send_all(batch)?;
        sender.progress();
    }
}

fn interrupted(line: u64, fate: &str) -> UserError {
    UserError::new("WEIR-0819", format!("interrupted before line {line}"))
        .why(before(line, fate))
        .help(resume(line))
}

/// What became of the lines around the first that has no answer.
fn before(line: u64, fate: &str) -> String {
    match line {
        0 | 1 => {
            "no line has its answer; sent again they are duplicates if they have ids".to_owned()
        }
        _ => format!("the lines before line {line} have their answer, {fate}"),
    }
}

fn resume(line: u64) -> String {
    format!("tail -n +{} FILE | weir ingest - goes on from there", line.max(1))
}

/// What an answer means that says nothing of the events.
fn unaccounted(status: u16, text: &str) -> Posted {
    let shown: String = text.trim().chars().take(ANSWER_SHOWN_CHARS_MAX).collect();
    let why = format!("it answered {status}: {shown}");
    match status {
        408 | 429 | 500 | 502..=504 | 507 => Posted::Unknown(why),
        // What a gateway answers to a body that it cannot take as a whole.
        400 | 413 | 415 | 422 => Posted::Refused(why),
        _ => Posted::NoGateway(why),
    }
}

fn no_gateway(url: &str, why: String, line: u64) -> UserError {
    let before = match line {
        0 | 1 => String::new(),
        line => format!("; the lines before {line} have their answer"),
    };
    let url = url.split('?').next().unwrap_or(url);
    UserError::new("WEIR-0803", format!("{url} takes no events"))
        .why(format!("{why}{before}"))
        .help("give the gateway's address, as the ready line of `weir up` prints it: --gateway http://127.0.0.1:8084")
}

fn events(count: u64) -> String {
    match count {
        1 => "1 event was".to_owned(),
        count => format!("{} events were", grouped(count)),
    }
}

fn report(args: &IngestArgs, tally: &Tally, took: Duration) {
    if args.json {
        outln!("{}", serde_json::json!({ "seconds": took.as_secs_f64(), "events": tally }));
        return;
    }
    outln!(
        "{} accepted, {} duplicate, {} refused, {} retried in {:.1} s ({} events/s)",
        grouped(tally.accepted),
        grouped(tally.duplicate),
        grouped(tally.refused),
        grouped(tally.retried),
        took.as_secs_f64(),
        grouped((tally.decided() as f64 / took.as_secs_f64().max(0.001)) as u64),
    );
}

fn open(path: &Path) -> Outcome<Box<dyn BufRead>> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    let unreadable = |why: &dyn std::fmt::Display| {
        UserError::new("WEIR-0804", format!("cannot read {}", path.display()))
            .why(why)
            .help("give a file with one event per line, or - for standard input")
    };
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(unreadable(&"it is a directory"));
    }
    Ok(Box::new(BufReader::with_capacity(1 << 20, file)))
}

/// Up to `count_max` events of at most [`BATCH_BYTES_MAX`] together, or one larger one. Lines that
/// cannot be an event are refused here.
fn read_batch(
    input: &mut dyn BufRead,
    sender: &mut Sender,
    number: &mut u64,
    count_max: u32,
) -> Outcome<Vec<Line>> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    while batch.len() < count_max as usize && bytes < BATCH_BYTES_MAX {
        let read = lines::read(input, EVENT_BYTES_MAX).map_err(|error| {
            UserError::new("WEIR-0804", format!("cannot read the input after line {number}"))
                .why(error)
        })?;
        let Some(line) = read else { break };
        *number += 1;
        match event_text(line, *number) {
            Ok(text) if text.is_empty() => {}
            Ok(text) => {
                let text = sender.ids.give(text, *number, EVENT_BYTES_MAX);
                bytes += text.len();
                batch.push(Line { number: *number, text });
            }
            Err((code, message)) => sender.refuse(*number, code, &message),
        }
    }
    Ok(batch)
}

/// The text of a line without the space around it.
fn event_text(line: lines::Line, number: u64) -> Result<String, (&'static str, String)> {
    let bytes = match line {
        lines::Line::Whole(bytes) => bytes,
        lines::Line::TooLong(bytes) => {
            let (bytes, max) = (grouped(bytes), grouped(EVENT_BYTES_MAX as u64));
            return Err(("WEIR-0906", format!("the line has {bytes} bytes, {max} is the limit")));
        }
    };
    let text = String::from_utf8(bytes).map_err(|error| {
        let byte = error.utf8_error().valid_up_to() + 1;
        ("WEIR-0901", format!("the line is not UTF-8 from byte {byte} on"))
    })?;
    // Some editors begin a file with a byte order mark.
    let text = if number == 1 { text.trim_start_matches('\u{feff}') } else { &text };
    Ok(text.trim().to_owned())
}

/// Whether Ctrl-C was pressed; a second one ends the process at once.
struct Interrupt {
    pressed: Arc<AtomicBool>,
}

impl Interrupt {
    fn watch() -> Outcome<Self> {
        let failed = |error| UserError::new("WEIR-0808", "cannot wait for signals").why(error);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let pressed = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&pressed);
        let watch = async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                if seen.swap(true, Ordering::AcqRel) {
                    std::process::exit(130);
                }
                eprintln!("stopping after the request that is out (again to force)");
            }
        };
        let watching = thread::Builder::new().name("weir-signals".to_owned());
        watching.spawn(move || runtime.block_on(watch)).map_err(failed)?;
        Ok(Self { pressed })
    }

    fn is_set(&self) -> bool {
        self.pressed.load(Ordering::Acquire)
    }
}

struct Sender {
    agent: ureq::Agent,
    url: String,
    interrupted: Interrupt,
    ids: LineIds,
    tally: Tally,
    shown: usize,
    refused: RefusedLines,
    started: Instant,
    last_progress: Instant,
    last_line: Instant,
    said_waiting: Option<Instant>,
}

impl Sender {
    fn new(url: String, interrupted: Interrupt, ids: LineIds) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .new_agent();
        let started = now();
        Self {
            agent,
            url,
            interrupted,
            ids,
            tally: Tally::default(),
            shown: 0,
            refused: RefusedLines::default(),
            started,
            last_progress: started,
            last_line: started,
            said_waiting: None,
        }
    }

    /// Sends until the gateway has decided every event for good.
    fn send_all(&mut self, batch: Vec<Line>) -> Outcome {
        self.tally.sent += batch.len() as u64;
        self.last_progress = now();
        self.send(batch)
    }

    fn send(&mut self, mut batch: Vec<Line>) -> Outcome {
        while !batch.is_empty() {
            let body: String = batch.iter().flat_map(|line| [line.text.as_str(), "\n"]).collect();
            let (answer, wait) = match self.post(&body) {
                Posted::Answered(answer, wait) => (answer, wait),
                Posted::Unknown(why) => {
                    self.wait_or_give_up(RETRY_AFTER_DEFAULT, &why, &batch)?;
                    self.tally.retried += batch.len() as u64;
                    continue;
                }
                Posted::Refused(why) if batch.len() > 1 => {
                    // Something in it, or its size: halves find out what.
                    let rest = batch.split_off(batch.len() / 2);
                    tracing::debug!(why, "request refused whole: halving it");
                    self.send(batch)?;
                    return self.send(rest);
                }
                Posted::Refused(why) => {
                    self.refuse(batch.first().map_or(0, |line| line.number), "", &why);
                    return Ok(());
                }
                Posted::NoGateway(why) => {
                    let line = batch.first().map_or(0, |line| line.number);
                    return Err(no_gateway(&self.url, why, line));
                }
            };
            let waiting = self.settle(batch, &answer);
            if waiting.is_empty() {
                return Ok(());
            }
            self.tally.retried += waiting.len() as u64;
            batch = waiting;
            self.wait_or_give_up(wait, "the gateway keeps refusing events", &batch)?;
        }
        Ok(())
    }

    /// Counts what was decided and returns the events to send again, in order.
    fn settle(&mut self, batch: Vec<Line>, answer: &Answer) -> Vec<Line> {
        if answer.accepted + answer.duplicate > 0 {
            self.last_progress = now();
        }
        self.tally.accepted += answer.accepted;
        self.tally.duplicate += answer.duplicate;
        let mut refusals = answer.results.iter().peekable();
        let mut waiting = Vec::new();
        for (index, line) in batch.into_iter().enumerate() {
            let Some(refusal) = refusals.next_if(|refusal| refusal.index == index) else {
                continue;
            };
            if refusal.retry_after_ms.is_some() {
                waiting.push(line);
                continue;
            }
            self.refuse(line.number, &refusal.code, &refusal.message);
        }
        waiting
    }

    fn refuse(&mut self, line: u64, code: &str, message: &str) {
        self.tally.refused += 1;
        self.refused.add(line);
        self.last_progress = now();
        if self.shown < REFUSALS_SHOWN_MAX {
            self.shown += 1;
            eprintln!("line {line}: {code} {message}");
        }
    }

    fn post(&self, body: &str) -> Posted {
        let request = self.agent.post(&self.url).content_type("application/x-ndjson");
        let mut response = match request.send(body) {
            Ok(response) => response,
            // What answers there speaks no HTTP.
            Err(ureq::Error::Protocol(error)) => return Posted::NoGateway(error.to_string()),
            Err(error) => return Posted::Unknown(format!("{}: {error}", self.url)),
        };
        let retry_after = response.headers().get("retry-after");
        let seconds: Option<f64> =
            retry_after.and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
        let status = response.status().as_u16();
        let text = match response.body_mut().read_to_string() {
            Ok(text) => text,
            // Halves have shorter ones; the events that were taken are duplicates then.
            Err(ureq::Error::BodyExceedsLimit(_)) => {
                return Posted::Refused("its answer is too long".to_owned())
            }
            Err(error) => return Posted::Unknown(error.to_string()),
        };
        let answer: Answer = serde_json::from_str(&text).unwrap_or_default();
        if answer.accepted + answer.duplicate == 0 && answer.results.is_empty() {
            return unaccounted(status, &text);
        }
        let asked = answer.results.iter().filter_map(|refusal| refusal.retry_after_ms).max();
        let seconds = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let wait = asked.map(Duration::from_millis).or(seconds);
        Posted::Answered(answer, wait.unwrap_or(RETRY_AFTER_DEFAULT))
    }

    fn wait_or_give_up(&mut self, wait: Duration, why: &str, waiting: &[Line]) -> Outcome {
        let stalled = self.last_progress.elapsed();
        if stalled > STALLED_MAX {
            let tried = STALLED_MAX.as_secs();
            let first = waiting.first().map_or(0, |line| line.number);
            return Err(UserError::new(
                "WEIR-0811",
                format!("the gateway takes no events for {tried} s"),
            )
            .why(format!("{why}; {}", before(first, SOME_AFTER)))
            .help(format!(
                "is `weir up` running? see its /health and /stats; then {}",
                resume(first)
            )));
        }
        // Without this a person would look at nothing for two minutes.
        let due = self.said_waiting.is_none_or(|said| said.elapsed() > WAITING_LINE_INTERVAL);
        if stalled > SILENT_MAX && due {
            self.said_waiting = Some(now());
            let left = (STALLED_MAX - stalled).as_secs();
            eprintln!("waiting for the gateway, giving up in {left} s: {why}");
        }
        let until = now() + wait.clamp(Duration::from_millis(1), Duration::from_secs(10));
        while !self.interrupted.is_set() {
            match until.saturating_duration_since(now()) {
                Duration::ZERO => return Ok(()),
                left => thread::sleep(left.min(PACE_STEP)),
            }
        }
        let line = waiting.first().map_or(0, |line| line.number);
        Err(interrupted(line, SOME_AFTER))
    }

    /// Holds back so that no more than `rate` events per second have left since the start.
    fn pace(&self, rate: Option<u32>) {
        let Some(rate) = rate else { return };
        let due = Duration::from_secs_f64(self.tally.sent as f64 / f64::from(rate));
        while !self.interrupted.is_set() {
            match due.saturating_sub(self.started.elapsed()) {
                Duration::ZERO => return,
                left => thread::sleep(left.min(PACE_STEP)),
            }
        }
    }

    fn progress(&mut self) {
        if self.last_line.elapsed() >= Duration::from_secs(2) {
            self.last_line = now();
            let rate = self.tally.sent as f64 / self.started.elapsed().as_secs_f64();
            eprintln!("{} sent, {} events/s", grouped(self.tally.sent), grouped(rate as u64));
        }
    }
}

/// This command is a shell: it paces a real sender.
#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender() -> Sender {
        let interrupted = Interrupt { pressed: Arc::new(AtomicBool::new(false)) };
        Sender::new("http://127.0.0.1:9".to_owned(), interrupted, LineIds::of(Path::new("-")))
    }

    #[test]
    fn lines_that_are_no_text_or_too_long_are_refused_by_number_and_the_rest_goes_on() {
        let mut input = b"\xef\xbb\xbf{\"id\":1}\r\n\n{\"\xff\":2}\n".to_vec();
        input.extend(std::iter::repeat_n(b'x', EVENT_BYTES_MAX + 1));
        input.extend(b"\n  {\"id\":3}");
        let (mut sender, mut number) = (sender(), 0);
        let batch = read_batch(&mut input.as_slice(), &mut sender, &mut number, 500).unwrap();
        let read: Vec<_> = batch.iter().map(|line| (line.number, line.text.as_str())).collect();
        assert_eq!(read, [(1, "{\"id\":1}"), (5, "{\"id\":3}")]);
        assert_eq!((sender.tally.refused, number), (2, 5));
    }

    #[test]
    fn only_a_gateways_own_refusal_is_looked_for_line_by_line() {
        for status in [400, 413, 422] {
            assert!(matches!(unaccounted(status, "{}"), Posted::Refused(_)), "{status}");
        }
        for status in [408, 429, 500, 503] {
            assert!(matches!(unaccounted(status, ""), Posted::Unknown(_)), "{status}");
        }
        for status in [200, 204, 301, 401, 403, 404, 405, 501] {
            assert!(matches!(unaccounted(status, "<html>"), Posted::NoGateway(_)), "{status}");
        }
    }

    #[test]
    fn giving_up_says_from_which_line_to_go_on() {
        let mut sender = sender();
        sender.last_progress = now().checked_sub(STALLED_MAX * 2).unwrap();
        let waiting = [Line { number: 4_711, text: String::new() }];
        let said = sender.wait_or_give_up(PACE_STEP, "nobody is there", &waiting).unwrap_err();
        assert_eq!(said.code, "WEIR-0811");
        assert!(said.why.unwrap().contains("lines before line 4711 have their answer"));
        assert!(said.help.unwrap().contains("tail -n +4711 FILE"));
    }

    #[test]
    fn a_batch_of_long_lines_is_cut_by_its_bytes() {
        let line = format!("{}\n", "x".repeat(EVENT_BYTES_MAX));
        let (text, mut sender, mut number) = (line.repeat(9), sender(), 0);
        let mut input = text.as_bytes();
        let counts: Vec<usize> = (0..3)
            .map(|_| read_batch(&mut input, &mut sender, &mut number, 500).unwrap().len())
            .collect();
        assert_eq!(counts, [5, 4, 0]);
    }
}

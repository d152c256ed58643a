//! `weir ingest FILE|-`: posts NDJSON events to a gateway and loses none of them.
//!
//! One request is out at a time, so order per device holds. An event that the gateway refuses for
//! now (429, 503) is sent again after the Retry-After it gave; one that it refuses for good is
//! reported with its line and left out.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::cli::IngestArgs;
use crate::error::{Outcome, UserError};
use crate::output::grouped;

/// Longest time without any progress before giving up.
const STALLED_MAX: Duration = Duration::from_secs(120);
/// Wait before another try when the gateway gives no Retry-After or cannot be reached.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_millis(500);
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

/// One event waiting for acceptance, with its line in the input.
struct Line {
    number: u64,
    text: String,
}

pub(crate) fn run(args: &IngestArgs) -> Outcome {
    let mut input = open(&args.file)?;
    let mut sender = Sender::new(args);
    let started = now();
    let mut number = 0;
    loop {
        let batch = read_batch(&mut input, &mut number, args.batch.max(1))?;
        if batch.is_empty() {
            break;
        }
        sender.pace(args.rate, started);
        sender.send_all(batch)?;
        sender.progress(started);
    }
    report(args, &sender.tally, started.elapsed());
    match sender.tally.refused {
        0 => Ok(()),
        refused => {
            Err(UserError::new("WEIR-0810", format!("{refused} events were refused for good"))
                .help("see the lines above; mend them and ingest the file again"))
        }
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
        grouped((tally.sent as f64 / took.as_secs_f64().max(0.001)) as u64),
    );
}

fn open(path: &Path) -> Outcome<Box<dyn BufRead>> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    let file = File::open(path).map_err(|error| {
        UserError::new("WEIR-0804", format!("cannot read {}", path.display())).why(error)
    })?;
    Ok(Box::new(BufReader::with_capacity(1 << 20, file)))
}

fn read_batch(input: &mut dyn BufRead, number: &mut u64, count_max: usize) -> Outcome<Vec<Line>> {
    let mut batch = Vec::with_capacity(count_max.min(10_000));
    while batch.len() < count_max {
        let mut text = String::new();
        let read = input.read_line(&mut text).map_err(|error| {
            UserError::new("WEIR-0804", format!("cannot read the input after line {number}"))
                .why(error)
        })?;
        if read == 0 {
            break;
        }
        *number += 1;
        if !text.trim().is_empty() {
            text.truncate(text.trim_end().len());
            batch.push(Line { number: *number, text });
        }
    }
    Ok(batch)
}

struct Sender {
    agent: ureq::Agent,
    url: String,
    tally: Tally,
    shown: usize,
    last_progress: Instant,
    last_line: Instant,
}

impl Sender {
    fn new(args: &IngestArgs) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .new_agent();
        let url = format!("{}/v1/events?results=refused", args.gateway.trim_end_matches('/'));
        let started = now();
        Self {
            agent,
            url,
            tally: Tally::default(),
            shown: 0,
            last_progress: started,
            last_line: started,
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
                    self.wait_or_give_up(RETRY_AFTER_DEFAULT, &why)?;
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
            };
            let waiting = self.settle(batch, &answer);
            if waiting.is_empty() {
                return Ok(());
            }
            self.tally.retried += waiting.len() as u64;
            batch = waiting;
            self.wait_or_give_up(wait, "the gateway keeps refusing events")?;
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
            Err(error) => return Posted::Unknown(format!("{}: {error}", self.url)),
        };
        let retry_after = response.headers().get("retry-after");
        let seconds: Option<f64> =
            retry_after.and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
        let status = response.status().as_u16();
        let text = match response.body_mut().read_to_string() {
            Ok(text) => text,
            Err(error) => return Posted::Unknown(error.to_string()),
        };
        let answer: Answer = serde_json::from_str(&text).unwrap_or_default();
        if answer.accepted + answer.duplicate == 0 && answer.results.is_empty() {
            let why = format!("the gateway answered {status}: {text}");
            let for_now = status == 429 || status >= 500;
            return if for_now { Posted::Unknown(why) } else { Posted::Refused(why) };
        }
        let asked = answer.results.iter().filter_map(|refusal| refusal.retry_after_ms).max();
        let wait = asked.map(Duration::from_millis).or(seconds.map(Duration::from_secs_f64));
        Posted::Answered(answer, wait.unwrap_or(RETRY_AFTER_DEFAULT))
    }

    fn wait_or_give_up(&self, wait: Duration, why: &str) -> Outcome {
        if self.last_progress.elapsed() > STALLED_MAX {
            return Err(UserError::new("WEIR-0811", "the gateway takes no events")
                .why(why)
                .help("is `weir up` running? see its /health and /stats"));
        }
        thread::sleep(wait.clamp(Duration::from_millis(1), Duration::from_secs(10)));
        Ok(())
    }

    /// Holds back so that no more than `rate` events per second have left since `started`.
    fn pace(&self, rate: Option<u32>, started: Instant) {
        let Some(rate) = rate.filter(|rate| *rate > 0) else { return };
        let due = Duration::from_secs_f64(self.tally.sent as f64 / f64::from(rate));
        thread::sleep(due.saturating_sub(started.elapsed()));
    }

    fn progress(&mut self, started: Instant) {
        if self.last_line.elapsed() >= Duration::from_secs(2) {
            self.last_line = now();
            let rate = self.tally.sent as f64 / started.elapsed().as_secs_f64();
            eprintln!("{} sent, {} events/s", grouped(self.tally.sent), grouped(rate as u64));
        }
    }
}

/// This command is a shell: it paces a real sender.
#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

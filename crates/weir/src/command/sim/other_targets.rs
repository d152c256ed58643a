//! Records of `weir sim` to a gateway or into a file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use weir_sim::record::RECORD_BYTES_HINT;
use weir_sim::{Draft, Filled, Format, Generator, RecordSink, Stream};

use super::drive::{Pacer, Shared, Target};
use crate::error::{Outcome, UserError};

/// Events in one request.
const REQUEST_EVENTS: usize = 500;
/// How long a gateway that says nothing of it is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Posts events, and posts them again until they are taken: they have ids, so a gateway knows a repeat.
pub(super) struct GatewayTarget {
    agent: ureq::Agent,
    url: String,
    shared: Arc<Shared>,
}

struct Body {
    text: Vec<u8>,
    events: u64,
    first_due_ns: Option<u64>,
}

impl RecordSink for Body {
    fn take(&mut self, draft: &Draft<'_>) -> bool {
        // The ground truth is no event.
        if draft.stream() != Stream::Truth {
            self.first_due_ns.get_or_insert(draft.due_ns());
            draft.write(&mut self.text);
            self.text.push(b'\n');
            self.events += 1;
        }
        true
    }
}

impl GatewayTarget {
    pub(super) fn new(url: String, shared: Arc<Shared>) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .build()
            .new_agent();
        Self { agent, url, shared }
    }

    fn post(&self, body: &Body) -> Result<(u16, Duration, String), String> {
        let sent =
            self.agent.post(&self.url).content_type("application/x-ndjson").send(&body.text[..]);
        let mut response = sent.map_err(|error| error.to_string())?;
        let wait = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let wait = wait.and_then(|text| text.parse().ok()).map_or(RETRY_AFTER, Duration::from_secs);
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().map_err(|error| error.to_string())?;
        Ok((status, wait, text))
    }
}

impl Target for GatewayTarget {
    fn fill(
        &mut self,
        generator: &mut Generator,
        until_ns: u64,
        records_max: usize,
        pacer: Pacer,
    ) -> Result<Filled, String> {
        let text = Vec::with_capacity(REQUEST_EVENTS * RECORD_BYTES_HINT);
        let mut body = Body { text, events: 0, first_due_ns: None };
        let filled = generator.fill(until_ns, records_max.min(REQUEST_EVENTS), &mut body);
        if body.events == 0 {
            return Ok(filled);
        }
        loop {
            let (status, text) = match self.post(&body) {
                Ok((200, ..)) => break,
                Ok((429 | 503, wait, _)) if !self.shared.is_stopping() => {
                    std::thread::sleep(wait);
                    continue;
                }
                Err(_) if !self.shared.is_stopping() => {
                    std::thread::sleep(RETRY_AFTER);
                    continue;
                }
                Ok((status, _, text)) => (status, text),
                Err(error) => (0, error),
            };
            // Some or all were refused; the answer counts them, unless it is of the request as a whole.
            let answer: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            let rejected = answer["rejected"].as_u64().unwrap_or(body.events);
            self.shared.fail(rejected, || format!("HTTP {status}: {text}"));
            return Ok(filled);
        }
        let due = pacer.wall(body.first_due_ns.unwrap_or(0));
        self.shared.answered(pacer.elapsed().saturating_sub(due), body.events);
        Ok(filled)
    }

    fn wait_for_room(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn total(&mut self, _key: &str, _text: &str) -> Result<(), String> {
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// A file that workers share; records of one are together.
pub(super) struct FileTarget {
    records: Arc<Mutex<dyn Write + Send>>,
    truth: Option<Arc<Mutex<dyn Write + Send>>>,
    format: Format,
}

impl Clone for FileTarget {
    fn clone(&self) -> Self {
        Self { records: Arc::clone(&self.records), truth: self.truth.clone(), format: self.format }
    }
}

#[derive(Default)]
struct Lines {
    records: Vec<u8>,
    truth: Vec<u8>,
    scratch: Vec<u8>,
    delimited: bool,
}

impl RecordSink for Lines {
    fn take(&mut self, draft: &Draft<'_>) -> bool {
        match draft.stream() {
            Stream::Truth => {
                draft.write(&mut self.truth);
                self.truth.push(b'\n');
            }
            _ if self.delimited => {
                self.scratch.clear();
                draft.write(&mut self.scratch);
                // As Protobuf's writeDelimitedTo: a varint of the length, then the message.
                let mut bytes = self.scratch.len();
                while bytes >= 0x80 {
                    self.records.push(bytes as u8 | 0x80);
                    bytes >>= 7;
                }
                self.records.push(bytes as u8);
                self.records.extend_from_slice(&self.scratch);
            }
            _ => {
                draft.write(&mut self.records);
                self.records.push(b'\n');
            }
        }
        true
    }
}

impl FileTarget {
    /// Records to `path`, the ground truth beside it in `PATH.truth`; `-` is standard output, without truth.
    pub(super) fn create(path: &Path, format: Format, truth: bool) -> Outcome<Self> {
        let open = |path: &Path| -> Outcome<Arc<Mutex<dyn Write + Send>>> {
            let file = File::create(path).map_err(|error| {
                UserError::new("WEIR-0804", format!("cannot write {}", path.display())).why(error)
            })?;
            Ok(Arc::new(Mutex::new(BufWriter::new(file))))
        };
        if path == Path::new("-") {
            return Ok(Self { records: Arc::new(Mutex::new(io::stdout())), truth: None, format });
        }
        let mut beside = path.as_os_str().to_owned();
        beside.push(".truth");
        let truth = truth.then(|| open(Path::new(&beside))).transpose()?;
        Ok(Self { records: open(path)?, truth, format })
    }

    fn write(&self, lines: &Lines) -> io::Result<()> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.write_all(&lines.records)?;
        drop(records);
        if let Some(truth) = &self.truth {
            truth.lock().unwrap_or_else(PoisonError::into_inner).write_all(&lines.truth)?;
        }
        Ok(())
    }
}

impl Target for FileTarget {
    fn fill(
        &mut self,
        generator: &mut Generator,
        until_ns: u64,
        records_max: usize,
        _pacer: Pacer,
    ) -> Result<Filled, String> {
        let mut lines = Lines { delimited: self.format == Format::Protobuf, ..Lines::default() };
        let filled = generator.fill(until_ns, records_max, &mut lines);
        self.write(&lines).map_err(|error| error.to_string())?;
        Ok(filled)
    }

    fn wait_for_room(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn total(&mut self, _key: &str, text: &str) -> Result<(), String> {
        let truth = format!("{text}\n").into_bytes();
        self.write(&Lines { truth, ..Lines::default() }).map_err(|error| error.to_string())
    }

    fn close(&mut self) -> Result<(), String> {
        for file in [Some(&self.records), self.truth.as_ref()].into_iter().flatten() {
            let flushed = file.lock().unwrap_or_else(PoisonError::into_inner).flush();
            flushed.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

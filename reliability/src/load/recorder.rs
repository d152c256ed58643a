//! The history as it is written, and what of it a rig wants to know meanwhile.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

use crate::history::{Event, Outcome};

#[derive(Debug)]
pub(super) struct Recorder {
    file: Mutex<Output>,
    acked: AtomicU64,
    unknown: AtomicU64,
    polled: AtomicU64,
    commits: AtomicU64,
}

#[derive(Debug)]
struct Output {
    file: BufWriter<File>,
    /// The first failure; told at the end, as a history with a hole is none.
    failure: Option<std::io::Error>,
}

impl Recorder {
    pub(super) fn create(path: &Path) -> Result<Arc<Self>> {
        let file = Output { file: BufWriter::new(File::create(path)?), failure: None };
        Ok(Arc::new(Self {
            file: Mutex::new(file),
            acked: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            polled: AtomicU64::new(0),
            commits: AtomicU64::new(0),
        }))
    }

    pub(super) fn write(&self, event: &Event) {
        let (counter, count) = match event {
            Event::Send(send) if send.outcome == Outcome::Acked => (&self.acked, 1),
            Event::Send(_) => (&self.unknown, 1),
            Event::Poll { records, .. } => (&self.polled, records.len() as u64),
            Event::Commit { .. } => (&self.commits, 1),
            _ => (&self.polled, 0),
        };
        counter.fetch_add(count, Ordering::Relaxed);
        let mut output = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let written = serde_json::to_writer(&mut output.file, event)
            .map_err(std::io::Error::from)
            .and_then(|()| output.file.write_all(b"\n"));
        if let Err(error) = written {
            output.failure.get_or_insert(error);
        }
    }

    pub(super) fn figures(&self) -> String {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (acked, unknown) = (get(&self.acked), get(&self.unknown));
        let (polled, commits) = (get(&self.polled), get(&self.commits));
        format!(r#"{{"acked":{acked},"unknown":{unknown},"polled":{polled},"commits":{commits}}}"#)
    }

    pub(super) fn finish(&self) -> Result<()> {
        let mut output = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = output.failure.take() {
            return Err(failure.into());
        }
        Ok(output.file.flush()?)
    }
}

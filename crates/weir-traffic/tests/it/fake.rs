//! A sink that does as it is told, and a subscriber that keeps log lines.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use weir_client::Attempts;
use weir_traffic::{Accepted, Outgoing, Sink, SinkError};

/// What the fake does with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Takes it after this time.
    Works(Duration),
    /// Cannot send it.
    Away,
    /// Takes it and never answers.
    Hangs,
    /// Panics.
    Panics,
    /// Refuses every event for good.
    Refuses,
    /// Fails from a random event on, deterministically by a counter.
    Flaky,
}

/// What was written, in order, and how it was batched.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) values: Vec<String>,
    /// The number of each, in the order of admission.
    pub(crate) seqs: Vec<i64>,
    /// Values by topic, key and class.
    pub(crate) by_key: HashMap<(String, Vec<u8>, &'static str), Vec<String>>,
    pub(crate) batches: Vec<usize>,
    pub(crate) calls: u64,
    pub(crate) recalls: u64,
    pub(crate) at_once_max: usize,
    at_once: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Fake {
    pub(crate) mood: Arc<Mutex<Mood>>,
    pub(crate) written: Arc<Mutex<Written>>,
    attempts: Arc<watch::Sender<Attempts>>,
}

impl Fake {
    pub(crate) fn new(mood: Mood) -> Self {
        Self { mood: Arc::new(Mutex::new(mood)), written: Arc::default(), attempts: Arc::default() }
    }

    /// Tells of one attempt, as a producer does that tries by itself.
    pub(crate) fn attempt(&self, error: Option<&str>) {
        self.attempts.send_modify(|attempts| {
            attempts.failed += u64::from(error.is_some());
            attempts.failed_in_row = error.map_or(0, |_| attempts.failed_in_row + 1);
            attempts.last_error = error.map(Arc::from);
        });
    }

    pub(crate) fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    pub(crate) fn values(&self) -> Vec<String> {
        self.written.lock().unwrap().values.clone()
    }

    pub(crate) fn calls(&self) -> u64 {
        self.written.lock().unwrap().calls
    }

    pub(crate) fn recalls(&self) -> u64 {
        self.written.lock().unwrap().recalls
    }

    fn write(&self, event: &Outgoing) -> Accepted {
        let mut written = self.written.lock().unwrap();
        let value = String::from_utf8(event.value.to_vec()).unwrap();
        if let Some(key) = event.key() {
            let key = (event.topic.to_string(), key.to_vec(), event.priority.name());
            written.by_key.entry(key).or_default().push(value.clone());
        }
        written.values.push(value);
        written.seqs.push(event.seq());
        let offset = i64::try_from(written.values.len() - 1).unwrap();
        Accepted { partition: 0, offset: Some(offset), duplicate: false }
    }

    fn flaky(&self, batch: &[&Outgoing], call: u64) -> Vec<Result<Accepted, SinkError>> {
        // A xorshift of the call's number: which event of the batch is the first to fail, if any.
        let mut x = call.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        x ^= x >> 31;
        let good = usize::try_from(x % 7).unwrap() * batch.len() / 4;
        let write = |(index, event): (usize, &&Outgoing)| {
            if index < good {
                Ok(self.write(event))
            } else {
                Err(SinkError::NotSent("flaky".to_owned()))
            }
        };
        batch.iter().enumerate().map(write).collect()
    }
}

impl Sink for Fake {
    fn attempts(&self) -> Option<watch::Receiver<Attempts>> {
        Some(self.attempts.subscribe())
    }

    fn recall(&self) {
        self.written.lock().unwrap().recalls += 1;
    }

    async fn send(&self, batch: &[&Outgoing]) -> Vec<Result<Accepted, SinkError>> {
        let mood = *self.mood.lock().unwrap();
        let call = {
            let mut written = self.written.lock().unwrap();
            written.calls += 1;
            written.batches.push(batch.len());
            written.at_once += 1;
            written.at_once_max = written.at_once_max.max(written.at_once);
            written.calls
        };
        let results = match mood {
            Mood::Works(delay) => {
                tokio::time::sleep(delay).await;
                batch.iter().map(|event| Ok(self.write(event))).collect()
            }
            Mood::Away => vec![Err(SinkError::NotSent("away".to_owned())); batch.len()],
            Mood::Hangs => std::future::pending().await,
            Mood::Panics => panic!("the sink panics, as it was told"),
            Mood::Refuses => vec![Err(SinkError::Refused("too large".to_owned())); batch.len()],
            Mood::Flaky => {
                tokio::time::sleep(Duration::from_millis(call % 5)).await;
                self.flaky(batch, call)
            }
        };
        self.written.lock().unwrap().at_once -= 1;
        results
    }
}

/// Keeps the messages of target `weir_traffic`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lines(pub(crate) Arc<Mutex<Vec<String>>>);

impl Lines {
    pub(crate) fn count(&self, line: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|text| text.as_str() == line).count()
    }
}

struct Message<'a>(&'a mut String);

impl tracing::field::Visit for Message<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            *self.0 = format!("{value:?}");
        }
    }
}

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "weir_traffic"
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = String::new();
        event.record(&mut Message(&mut text));
        self.0.lock().unwrap().push(text);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

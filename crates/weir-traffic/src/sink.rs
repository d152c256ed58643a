//! Where batches go: the trait, and Kafka behind it.

use std::future::Future;
use std::sync::Arc;

use serde::Serialize;
use weir_client::{Appender, Delivery, Header, ProduceError, Producer, Record};

use crate::event::Outgoing;
use crate::manager::Outcome;
use crate::Reason;

/// An event the sink has acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Accepted {
    /// The partition it lies in.
    pub partition: i32,
    /// Its offset there, where the sink told it.
    pub offset: Option<i64>,
    /// Whether this was a repeat of an event accepted before, which lies there.
    pub duplicate: bool,
}

/// Why a sink did not acknowledge an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// It was certainly not written; it will be tried again.
    #[error("not sent: {0}")]
    NotSent(String),
    /// It was sent, and may or may not be written. It is not tried again; its caller is told.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// It cannot be written. It is not tried again; its caller is told.
    #[error("refused: {0}")]
    Refused(String),
}

impl SinkError {
    /// Whether the manager tries it again by itself.
    #[must_use]
    pub const fn retriable(&self) -> bool {
        matches!(self, SinkError::NotSent(_))
    }

    pub(crate) const fn outcome(&self) -> Outcome {
        match self {
            SinkError::NotSent(_) => Outcome::NotSent,
            SinkError::Unknown(_) => Outcome::Refused(Reason::OutcomeUnknown),
            SinkError::Refused(_) => Outcome::Refused(Reason::SinkRefused),
        }
    }

    pub(crate) fn into_text(self) -> String {
        match self {
            SinkError::NotSent(text) | SinkError::Unknown(text) | SinkError::Refused(text) => text,
        }
    }
}

/// Takes batches.
///
/// # What a sink promises
/// - It answers each event, in order, and sooner or later: an answer missing counts as
///   [`SinkError::Unknown`], a batch never answered stays in flight.
/// - It writes the events of one key of a batch in their order, and once one of them is
///   [`SinkError::NotSent`], so are all later ones of that key. (If it breaks this, the earlier event
///   is given back to its caller instead of being sent late.)
///
/// It promises nothing across batches: two batches on their way never hold the same key of the same
/// class.
pub trait Sink: Send + Sync + 'static {
    /// Sends the events of one batch; at least one.
    fn send(
        &self,
        batch: &[&Outgoing],
    ) -> impl Future<Output = Vec<Result<Accepted, SinkError>>> + Send;
}

/// Kafka, through [`Producer`].
///
/// Its `delivery_timeout_ms` bounds how long a batch can stay in flight: set it to `wait_max`, so that
/// a caller hears of a Kafka that is away in the same time whether its event was sent or not.
/// It needs an idempotent producer for "certainly not written" to be certain.
#[derive(Debug, Clone)]
pub struct ProducerSink {
    producer: Arc<Producer>,
}

/// Where an event of a batch stands.
enum Progress {
    Sent(Delivery),
    Failed(SinkError),
}

impl ProducerSink {
    /// Sends through this producer.
    #[must_use]
    pub const fn new(producer: Arc<Producer>) -> Self {
        Self { producer }
    }

    /// Hands all events to the producer, in order, waiting for room and for the metadata of topics.
    async fn hand_over(&self, batch: &[&Outgoing]) -> Vec<Progress> {
        let mut progress = Vec::with_capacity(batch.len());
        // Topics that are not to be had now. The key of an event includes its topic, so all later ones
        // of the same key fail with it.
        let mut away: Vec<(&str, String)> = Vec::new();
        // The event that was waited for last: a topic that is ready and then is not must not be asked
        // for in a circle.
        let mut waited_at = None;
        while let Some(rest) = batch.get(progress.len()..).filter(|rest| !rest.is_empty()) {
            let stopped =
                self.producer.send_batch(|appender| append(appender, rest, &away, &mut progress)).0;
            let (Some(error), Some(event)) = (stopped, batch.get(progress.len())) else { continue };
            let again = waited_at.replace(progress.len()) == Some(progress.len());
            let waited = match error {
                ProduceError::TopicNotReady { .. } if !again => {
                    self.producer.ready(&event.topic).await
                }
                ProduceError::BufferFull { .. } => self.producer.wait_for_room().await,
                other => Err(other),
            };
            match waited {
                Ok(()) => {}
                Err(error @ ProduceError::TopicNotReady { .. }) => {
                    away.push((&event.topic, error.to_string()));
                }
                Err(error) if is_about_the_event(&error) => {
                    progress.push(Progress::Failed(SinkError::Refused(error.to_string())));
                }
                Err(error) => {
                    let text = error.to_string();
                    let not_sent = || Progress::Failed(SinkError::NotSent(text.clone()));
                    progress.resize_with(batch.len(), not_sent);
                }
            }
        }
        progress
    }
}

/// Appends until the producer says no; its error, and `progress` is that long.
fn append(
    appender: &mut Appender<'_>,
    events: &[&Outgoing],
    away: &[(&str, String)],
    progress: &mut Vec<Progress>,
) -> Option<ProduceError> {
    for event in events {
        if let Some((_, why)) = away.iter().find(|(topic, _)| **topic == *event.topic) {
            progress.push(Progress::Failed(SinkError::NotSent(why.clone())));
            continue;
        }
        let headers: Vec<Header<'_>> =
            event.headers.iter().map(|(key, value)| Header { key, value: Some(value) }).collect();
        let record = Record {
            topic: &event.topic,
            partition: None,
            key: event.key.as_deref(),
            value: Some(&event.value),
            headers: &headers,
            timestamp: Some(event.timestamp_ms.into()),
        };
        match appender.append_tracked(&record) {
            Ok(delivery) => progress.push(Progress::Sent(delivery)),
            Err(error) => return Some(error),
        }
    }
    None
}

/// Errors before the sending that concern this event alone and will not pass.
const fn is_about_the_event(error: &ProduceError) -> bool {
    matches!(
        error,
        ProduceError::RecordTooLarge { .. }
            | ProduceError::NoSuchPartition { .. }
            | ProduceError::TopicRefused { .. }
    )
}

impl Sink for ProducerSink {
    async fn send(&self, batch: &[&Outgoing]) -> Vec<Result<Accepted, SinkError>> {
        let mut results = Vec::with_capacity(batch.len());
        for progress in self.hand_over(batch).await {
            results.push(match progress {
                Progress::Failed(error) => Err(error),
                Progress::Sent(delivery) => match delivery.await {
                    Ok(metadata) => Ok(Accepted {
                        partition: metadata.partition.get(),
                        offset: metadata.offset.map(|offset| offset.get()),
                        duplicate: false,
                    }),
                    Err(error) => Err(after_sending(&error)),
                },
            });
        }
        results
    }
}

/// What a failed delivery means. Only a clear no of the broker says that nothing was written: a
/// retriable code is reported after the last of several tries, of which an earlier one may have
/// succeeded (`NOT_ENOUGH_REPLICAS_AFTER_APPEND` even says so).
fn after_sending(error: &ProduceError) -> SinkError {
    match error {
        ProduceError::Refused { .. } if !error.is_retriable() => {
            SinkError::Refused(error.to_string())
        }
        _ if is_about_the_event(error) => SinkError::Refused(error.to_string()),
        _ => SinkError::Unknown(error.to_string()),
    }
}

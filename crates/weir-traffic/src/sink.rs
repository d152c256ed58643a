//! Where batches go: the trait, and Kafka behind it.

use std::collections::HashMap;
use std::future::Future;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use weir_client::event::{HEADER_PRIORITY, HEADER_SEQ};
use weir_client::{Appender, Attempts, Client, Delivery, Header, ProduceError, Producer, Record};

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
    /// It was certainly not written, for a reason that concerns its topic and not the sink. It is not
    /// tried again; its caller is told to come again.
    #[error("not ready: {0}")]
    NotReady(String),
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
            SinkError::NotReady(_) => Outcome::Refused(Reason::SinkAway),
            SinkError::Refused(_) => Outcome::Refused(Reason::SinkRefused),
        }
    }

    pub(crate) fn into_text(self) -> String {
        match self {
            SinkError::NotSent(text)
            | SinkError::Unknown(text)
            | SinkError::NotReady(text)
            | SinkError::Refused(text) => text,
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

    /// News of attempts that fail while batches are on their way, for a sink that tries for long by
    /// itself. `None`: the answers of [`Sink::send`] are all there is.
    fn attempts(&self) -> Option<watch::Receiver<Attempts>> {
        None
    }

    /// The circuit breaker has opened: answer [`SinkError::NotSent`] soon for what has not left yet.
    /// Events wait in their lanes then, where their deadline is, and leave room for probes.
    fn recall(&self) {}
}

/// Kafka, through [`Producer`].
///
/// Its `delivery_timeout_ms` bounds how long a batch can stay in flight: set it to `wait_max`, so that
/// a caller hears of a Kafka that is away in the same time whether its event was sent or not.
/// It needs an idempotent producer for "certainly not written" to be certain.
///
/// # Topics that are not there
/// Events of topics that are ready go at once. Those of others wait up to a second, beside the
/// deliveries, and then fail alone: for good if the cluster says that there is no such topic, for now
/// otherwise. What was found is remembered for a few seconds, so that a topic that does not exist
/// holds up one batch, and not each.
#[derive(Debug, Clone)]
pub struct ProducerSink {
    producer: Arc<Producer>,
    client: Option<Arc<Client>>,
    missing: Arc<Mutex<Missing>>,
}

/// Where an event of a batch stands.
enum Progress {
    Sent(Delivery),
    Failed(SinkError),
    /// Its topic is not ready.
    Waits,
}

/// An event and its place in the batch.
type Placed<'a> = (usize, &'a Outgoing);
type Answers = Vec<(usize, Result<Accepted, SinkError>)>;

/// Kafka's code for a topic that does not exist.
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
/// How long a batch waits for topics that are not ready.
const TOPIC_WAIT: Duration = Duration::from_secs(1);
/// How long it is remembered that the cluster has no such topic.
const UNKNOWN_REMEMBERED: Duration = Duration::from_secs(5);
/// How long it is remembered that a topic was not ready: it may be about to be created.
const NOT_READY_REMEMBERED: Duration = Duration::from_secs(1);
/// How many topics that are not ready are remembered.
const MISSING_MAX: usize = 1_000;

impl ProducerSink {
    /// Sends through this producer.
    #[must_use]
    pub fn new(producer: Arc<Producer>) -> Self {
        Self { producer, client: None, missing: Arc::default() }
    }

    /// Looks up in this client what the cluster says of a topic that is not ready. Without it, a topic
    /// that does not exist is refused for now and not for good, and so are events for a topic never
    /// seen before while Kafka is away.
    #[must_use]
    pub fn with_client(mut self, client: Arc<Client>) -> Self {
        self.client = Some(client);
        self
    }

    /// Hands all events of ready topics to the producer, in order, waiting for room.
    async fn hand_over(&self, events: &[Placed<'_>]) -> Vec<Progress> {
        let mut progress = Vec::with_capacity(events.len());
        // Once an event waits for its topic, so do all later ones of it, ready or not: their order.
        let mut waits: Vec<&str> = Vec::new();
        while let Some(rest) = events.get(progress.len()..).filter(|rest| !rest.is_empty()) {
            let stopped = self
                .producer
                .send_batch(|appender| append(appender, rest, &waits, &mut progress))
                .0;
            let (Some(error), Some((_, event))) = (stopped, events.get(progress.len())) else {
                continue;
            };
            let waited = match error {
                ProduceError::TopicNotReady { .. } => {
                    waits.push(&event.topic);
                    Ok(())
                }
                ProduceError::BufferFull { .. } => self.producer.wait_for_room().await,
                other => Err(other),
            };
            match waited {
                Ok(()) => {}
                Err(error) if is_about_the_event(&error) => {
                    progress.push(Progress::Failed(SinkError::Refused(error.to_string())));
                }
                Err(error) => {
                    let text = error.to_string();
                    let not_sent = || Progress::Failed(SinkError::NotSent(text.clone()));
                    progress.resize_with(events.len(), not_sent);
                }
            }
        }
        progress
    }

    /// The events of topics that are not ready: sent once they are, failed when they are not in time.
    async fn send_late(&self, waiting: Vec<Placed<'_>>) -> Answers {
        let mut answers = Answers::new();
        let mut sent = Vec::new();
        // Looked up once for all, and not while others look too.
        let (refused, mut topics) = self.missing().sort(waiting, Instant::now());
        answers.extend(refused);
        let mut lookups = JoinSet::new();
        for topic in topics.values().filter_map(|events| events.first()) {
            let (producer, topic) = (Arc::clone(&self.producer), Arc::clone(&topic.1.topic));
            lookups.spawn(async move {
                let ready = tokio::time::timeout(TOPIC_WAIT, producer.ready(&topic)).await;
                (topic, ready.ok())
            });
        }
        while let Some(found) = lookups.join_next().await {
            // A lookup that panicked answers nothing: see below.
            let Ok((topic, ready)) = found else { continue };
            let events = topics.remove(&*topic).unwrap_or_default();
            let progress = match &ready {
                Some(Ok(())) => self.hand_over(&events).await,
                _ => events.iter().map(|_| Progress::Waits).collect(),
            };
            let failed = ready.and_then(Result::err);
            for ((index, _), progress) in events.into_iter().zip(progress) {
                match progress {
                    Progress::Sent(delivery) => sent.push((index, delivery)),
                    Progress::Failed(error) => answers.push((index, Err(error))),
                    Progress::Waits => {
                        answers.push((index, Err(self.not_ready(&topic, failed.as_ref()))));
                    }
                }
            }
        }
        let left = topics.into_values().flatten();
        answers.extend(
            left.map(|(index, _)| (index, Err(SinkError::NotSent("no metadata".to_owned())))),
        );
        answers.extend(settle(sent).await);
        answers
    }

    /// What an event is told whose topic was not ready in time. Remembers it, unless nothing is known
    /// of the topic: then Kafka itself may be away.
    fn not_ready(&self, topic: &Arc<str>, error: Option<&ProduceError>) -> SinkError {
        let view = self.client.as_ref().map(|client| client.view());
        let said =
            view.as_ref().map(|view| view.topics.get(&**topic).map(|topic| topic.error.code()));
        let text = || format!("topic {topic} is not ready");
        let (verdict, how_long) = match (error, said) {
            (Some(error), _) if is_about_the_event(error) => {
                (SinkError::Refused(error.to_string()), UNKNOWN_REMEMBERED)
            }
            (_, Some(Some(UNKNOWN_TOPIC_OR_PARTITION))) => {
                let text = format!("topic {topic} does not exist");
                (SinkError::Refused(text), UNKNOWN_REMEMBERED)
            }
            (_, Some(None)) => return SinkError::NotSent(text()),
            _ => (SinkError::NotReady(text()), NOT_READY_REMEMBERED),
        };
        self.missing().put(topic, verdict.clone(), Instant::now() + how_long);
        verdict
    }

    fn missing(&self) -> MutexGuard<'_, Missing> {
        // Every change is one call of the map.
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Topics that were not ready, what their events are told, and until when.
#[derive(Debug, Default)]
struct Missing {
    topics: HashMap<Arc<str>, (Instant, SinkError)>,
}

impl Missing {
    fn get(&self, topic: &str, now: Instant) -> Option<SinkError> {
        self.topics.get(topic).filter(|(until, _)| *until > now).map(|(_, error)| error.clone())
    }

    /// Parts what is remembered to have no place from what is worth a try, by topic. All events of a
    /// topic go the same way, however soon it is forgotten: none is refused whose successor is sent.
    fn sort<'a>(
        &self,
        waiting: Vec<Placed<'a>>,
        now: Instant,
    ) -> (Answers, HashMap<&'a str, Vec<Placed<'a>>>) {
        let (mut refused, mut topics) = (Answers::new(), HashMap::<_, Vec<_>>::new());
        for (index, event) in waiting {
            match self.get(&event.topic, now) {
                Some(error) => refused.push((index, Err(error))),
                None => topics.entry(&*event.topic).or_default().push((index, event)),
            }
        }
        (refused, topics)
    }

    /// Does not remember it if there are too many.
    fn put(&mut self, topic: &Arc<str>, error: SinkError, until: Instant) {
        if self.topics.len() >= MISSING_MAX {
            let now = Instant::now();
            self.topics.retain(|_, (until, _)| *until > now);
        }
        if self.topics.len() < MISSING_MAX || self.topics.contains_key(topic) {
            self.topics.insert(Arc::clone(topic), (until, error));
        }
    }
}

async fn settle(sent: Vec<(usize, Delivery)>) -> Answers {
    let mut answers = Answers::with_capacity(sent.len());
    for (index, delivery) in sent {
        let answer = match delivery.await {
            Ok(metadata) => Ok(Accepted {
                partition: metadata.partition.get(),
                offset: metadata.offset.map(|offset| offset.get()),
                duplicate: false,
            }),
            Err(error) => Err(after_sending(&error)),
        };
        answers.push((index, answer));
    }
    answers
}

/// Appends until the producer says no; its error, and `progress` is that long.
fn append(
    appender: &mut Appender<'_>,
    events: &[Placed<'_>],
    waits: &[&str],
    progress: &mut Vec<Progress>,
) -> Option<ProduceError> {
    let mut seq = Decimal::default();
    for (_, event) in events {
        if waits.contains(&&*event.topic) {
            progress.push(Progress::Waits);
            continue;
        }
        let class = (HEADER_PRIORITY, event.priority.name().as_bytes());
        let headers: Vec<Header<'_>> = event
            .headers()
            .chain([class, (HEADER_SEQ, seq.text(event.seq()))])
            .map(|(key, value)| Header { key, value: Some(value) })
            .collect();
        let record = Record {
            topic: &event.topic,
            partition: None,
            key: event.key(),
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

/// Room for the digits of a number, so that a header costs no allocation.
#[derive(Default)]
struct Decimal {
    /// `i64::MIN` has 20 characters.
    text: [u8; 20],
}

impl Decimal {
    fn text(&mut self, number: i64) -> &[u8] {
        let mut rest: &mut [u8] = &mut self.text;
        // There is room for every number.
        let _ = write!(rest, "{number}");
        let left = rest.len();
        &self.text[..20 - left]
    }
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
    fn attempts(&self) -> Option<watch::Receiver<Attempts>> {
        Some(self.producer.attempts())
    }

    fn recall(&self) {
        self.producer.recall_unsent();
    }

    async fn send(&self, batch: &[&Outgoing]) -> Vec<Result<Accepted, SinkError>> {
        let placed: Vec<Placed<'_>> =
            batch.iter().enumerate().map(|(index, event)| (index, *event)).collect();
        let (mut answers, mut sent, mut waiting) = (Answers::new(), Vec::new(), Vec::new());
        let progress = self.hand_over(&placed).await;
        for ((index, event), progress) in placed.into_iter().zip(progress) {
            match progress {
                Progress::Sent(delivery) => sent.push((index, delivery)),
                Progress::Failed(error) => answers.push((index, Err(error))),
                Progress::Waits => waiting.push((index, event)),
            }
        }
        if waiting.is_empty() {
            answers.extend(settle(sent).await);
        } else {
            let (early, late) = tokio::join!(settle(sent), self.send_late(waiting));
            answers.extend(early.into_iter().chain(late));
        }
        debug_assert_eq!(answers.len(), batch.len());
        answers.sort_unstable_by_key(|(index, _)| *index);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }
}

/// What a failed delivery means. Only a clear no of the broker, or that it never left, says that nothing was written: a
/// retriable code is reported after the last of several tries, of which an earlier one may have
/// succeeded (`NOT_ENOUGH_REPLICAS_AFTER_APPEND` even says so).
fn after_sending(error: &ProduceError) -> SinkError {
    match error {
        ProduceError::Refused { .. } if !error.is_retriable() => {
            SinkError::Refused(error.to_string())
        }
        ProduceError::NotSent { .. } | ProduceError::PartitionGone { .. } => {
            SinkError::NotSent(error.to_string())
        }
        _ if is_about_the_event(error) => SinkError::Refused(error.to_string()),
        _ => SinkError::Unknown(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_events_of_a_topic_have_one_verdict_however_soon_it_is_forgotten() {
        let mut missing = Missing::default();
        let (begun, lasts) = (Instant::now(), Duration::from_micros(200));
        let event = Outgoing::new("t", "v", 0);
        missing.put(&event.topic, SinkError::NotReady("t".to_owned()), begun + lasts);
        // It runs out while so many are looked at.
        let events = (0..50_000).map(|index| (index, &event)).collect();
        let (refused, topics) = missing.sort(events, Instant::now());
        let tried = topics.values().map(Vec::len).sum::<usize>();
        assert!(refused.len() == 50_000 || tried == 50_000, "{} and {tried}", refused.len());
        assert!(begun.elapsed() > lasts);
    }

    #[test]
    fn a_number_is_written_as_its_digits() {
        for number in [0, 7, -1, 1_790_000_000_000_123, i64::MAX, i64::MIN] {
            assert_eq!(Decimal::default().text(number), number.to_string().as_bytes());
        }
    }
}

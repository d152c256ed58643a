//! The one way in: HTTP, WebSocket, the demo and weir's own alerts all pass here.

use std::sync::Arc;

use axum::http::StatusCode;
use bytes::Bytes;
use weir_client::event::{HEADER_EVENT_ID, HEADER_EVENT_TYPE, HEADER_SOURCE, HEADER_TRACE_ID};
use weir_protocol::clock::Clock;
use weir_traffic::{Accepted, Headers, Outgoing, Reason, Refused, TrafficHandle};

use super::metrics::Metrics;
use super::outcome::{EventOutcome, Place, Rejection};
use super::prepare::{Prepared, Rules};
use super::trace::TraceId;

/// Takes events as text, checks them, and waits until each is safe or refused.
#[derive(Debug, Clone)]
pub(crate) struct Ingest {
    rules: Arc<Rules>,
    traffic: TrafficHandle,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
}

impl Ingest {
    pub(crate) fn new(
        rules: Rules,
        traffic: TrafficHandle,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { rules: Arc::new(rules), traffic, metrics, clock }
    }

    /// Takes the events of one request, in order; the answers are in the same order.
    ///
    /// Bad events are answered and left out. Good ones are admitted together, with one `now`, so
    /// that those of one key wait and expire together. When one is refused for now, later ones of
    /// its key and priority are refused with it: a sender that sends the refused ones again in
    /// order keeps its order.
    ///
    /// `trace` is the trace of the request; without one each event begins its own.
    pub(crate) async fn accept(
        &self,
        events: Vec<Result<Bytes, String>>,
        trace: Option<TraceId>,
    ) -> Vec<EventOutcome> {
        let now = self.clock.now();
        let mut outcomes: Vec<Option<EventOutcome>> = Vec::with_capacity(events.len());
        let mut prepared: Vec<(usize, Prepared)> = Vec::with_capacity(events.len());
        for (index, event) in events.into_iter().enumerate() {
            let checked = event
                .map_err(|why| Rejection::bad("WEIR-0901", format!("not JSON: {why}")))
                .and_then(|text| self.rules.prepare(text, now));
            match checked {
                Ok(event) => {
                    prepared.push((index, event));
                    outcomes.push(None);
                }
                Err(rejection) => outcomes.push(Some(self.reject(rejection))),
            }
        }
        let outgoing = prepared
            .iter()
            .map(|(_, event)| {
                let trace = trace.clone().unwrap_or_else(TraceId::random);
                outgoing(event, &trace)
            })
            .collect();
        let answers = self.traffic.publish_many(outgoing).await;
        debug_assert_eq!(answers.len(), prepared.len());
        for ((index, event), answer) in prepared.into_iter().zip(answers) {
            outcomes[index] = Some(self.settle(event, answer));
        }
        outcomes.into_iter().flatten().collect()
    }

    /// Takes one event of weir's own.
    pub(crate) async fn accept_one(&self, text: String) -> EventOutcome {
        let mut outcomes = self.accept(vec![Ok(Bytes::from(text))], None).await;
        outcomes.pop().unwrap_or_else(|| {
            EventOutcome::Rejected(Rejection::bad("WEIR-0901", "the event got no answer"))
        })
    }

    pub(crate) fn traffic(&self) -> &TrafficHandle {
        &self.traffic
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn settle(&self, event: Prepared, answer: Result<Accepted, Refused>) -> EventOutcome {
        match answer {
            Ok(accepted) => {
                if !accepted.duplicate {
                    self.metrics.count_published(&event.topic, &event.event_type);
                }
                let place = Place {
                    id: event.id,
                    topic: event.topic,
                    partition: accepted.partition,
                    offset: accepted.offset,
                };
                match accepted.duplicate {
                    true => EventOutcome::Duplicate(place),
                    false => EventOutcome::Accepted(place),
                }
            }
            Err(refused) => self.reject(refusal(&refused)),
        }
    }

    fn reject(&self, rejection: Rejection) -> EventOutcome {
        self.metrics.count_rejected(rejection.code);
        EventOutcome::Rejected(rejection)
    }
}

fn outgoing(event: &Prepared, trace: &TraceId) -> Outgoing {
    let entries = [
        (HEADER_EVENT_ID, event.id.as_bytes()),
        (HEADER_EVENT_TYPE, event.event_type.as_bytes()),
        (HEADER_SOURCE, event.source.as_bytes()),
        (HEADER_TRACE_ID, trace.as_bytes()),
    ];
    let bytes = |(name, value): &(&str, &[u8])| Headers::entry_bytes(name, value.len());
    let room: usize = entries.iter().map(bytes).sum();
    let mut headers = Headers::with_capacity(room + Headers::entry_bytes("", event.key.len()))
        .with_key(event.key.as_bytes());
    for (name, value) in entries {
        headers.push(name, value);
    }
    Outgoing::new(event.topic.as_str(), event.value.clone(), event.taken.get())
        .with_headers(headers)
        .with_priority(event.priority)
        .with_id(&dedup_id(event))
}

/// An id is unique for its source only, as in CloudEvents: two senders may both count from 1. One that
/// comes again for another topic is no repeat: what was written first does not lie there.
fn dedup_id(event: &Prepared) -> String {
    format!("{}\u{0}{}\u{0}{}", event.source, event.topic, event.id)
}

/// A full lane is the sender's pace (429); an absent Kafka is ours (503).
fn refusal(refused: &Refused) -> Rejection {
    let status = match refused.reason {
        Reason::LaneFull | Reason::LaneBytesFull | Reason::TooManyRepeats | Reason::WaitTooLong => {
            StatusCode::TOO_MANY_REQUESTS
        }
        Reason::EventTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Reason::SinkRefused => StatusCode::UNPROCESSABLE_ENTITY,
        Reason::SinkAway | Reason::ShuttingDown | Reason::OutcomeUnknown => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    let message = refused.to_string();
    match refused.retry_after_ms {
        Some(ms) => Rejection::later(refused.code, message, status, ms),
        None => Rejection::bad(refused.code, message).status(status),
    }
}

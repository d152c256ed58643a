//! The demo fleet inside `weir up`: its events go through the gateway's own way in.

use bytes::Bytes;
use weir_sim::{EventSink, SimError, SimEvent};

use crate::gateway::ingest::Ingest;
use crate::gateway::outcome::EventOutcome;

/// Sends simulated events as a device would, without the HTTP.
#[derive(Debug)]
pub(super) struct IngestSink(pub(super) Ingest);

impl EventSink for IngestSink {
    async fn send(&mut self, events: Vec<SimEvent>) -> Result<(), SimError> {
        let texts = events.into_iter().map(|event| Ok(Bytes::from(event.json))).collect();
        let outcomes = self.0.accept(texts, None).await;
        let refused = outcomes.iter().filter_map(|outcome| match outcome {
            EventOutcome::Rejected(rejection) => Some(rejection),
            _ => None,
        });
        let (count, first) = (refused.clone().count(), refused.clone().next());
        match first {
            None => Ok(()),
            Some(rejection) => Err(SimError::SinkRefused {
                events: count,
                reason: format!("{} {}", rejection.code, rejection.message),
            }),
        }
    }
}

//! The gateway: HTTP and WebSocket for devices and services.
//!
//! | path | answer |
//! |---|---|
//! | `POST /v1/events` | takes events: one, an array, or NDJSON ([`events`]) |
//! | `GET /v1/stream` | the same over a WebSocket ([`stream`]) |
//! | `GET /v1/schemas`, `/v1/schemas/TYPE` | event types and their JSON schemas |
//! | `GET /stats` | the six fields of spec 000, lanes, ledger |
//! | `GET /health`, `/ready` | liveness, readiness |
//! | `GET /metrics` | Prometheus text, with the embedded broker's figures ([`broker_metrics`]) |

mod answer_room;
mod body;
mod bounds;
mod broker_metrics;
pub(crate) mod cluster_metrics;
mod events;
pub(crate) mod health;
pub(crate) mod ingest;
pub(crate) mod metrics;
mod origin;
pub(crate) mod outcome;
pub(crate) mod prepare;
mod producer_metrics;
mod receive;
pub(crate) mod route;
mod status;
mod stream;
#[cfg(test)]
mod tests;
pub(crate) mod trace;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::middleware;
use axum::routing::{get, post};
use axum::Router;
use tokio::sync::{watch, Semaphore, SemaphorePermit};
use weir_broker::BrokerServer;
use weir_client::Producer;

use self::answer_room::AnswerRoom;
use self::ingest::Ingest;
use crate::http::guard::Hosts;
use crate::http::server::Connections;

/// Memory for bodies is counted in these.
const ROOM_UNIT_BYTES: usize = 1024;

/// What one request may cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) body_bytes_max: usize,
    /// Longest time a body may take to arrive.
    pub(crate) body_time: Duration,
    pub(crate) events_per_request_max: usize,
    pub(crate) requests_max: usize,
    /// Bytes of all bodies together; as much again for all messages of streams, and for all answers.
    pub(crate) request_bytes_max: usize,
    pub(crate) streams_max: usize,
    /// A stream may hold so much of a message at any time.
    pub(crate) stream_message_bytes_max: usize,
}

impl Limits {
    /// How many streams there may be: nobody sees how much of a message has come, so that each counts as
    /// a whole one, and together they hold no more than all bodies may.
    fn streams(&self) -> usize {
        self.streams_max.min((self.request_bytes_max / self.stream_message_bytes_max).max(1))
    }
}

/// What every handler shares.
#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    ingest: Ingest,
    limits: Limits,
    requests: Arc<Semaphore>,
    /// Room for bodies, in units of [`ROOM_UNIT_BYTES`].
    room: Arc<Semaphore>,
    answers: AnswerRoom,
    streams: Arc<Semaphore>,
    ready: Arc<AtomicBool>,
    kafka: watch::Receiver<health::Problem>,
    durability: &'static str,
    hosts: Arc<Hosts>,
    /// Of this process, for `/metrics`.
    connections: Option<Arc<Connections>>,
    /// Of the embedded broker, for `/metrics`. It is stopped by its last holder, which is not the gateway.
    broker: Option<Weak<BrokerServer>>,
    /// To Kafka, for `/metrics`. It is closed by others.
    producer: Option<Weak<Producer>>,
}

impl Gateway {
    /// `/ready` answers 200 while `ready` is set, which the caller clears when it begins to stop, and
    /// `kafka` tells of no problem ([`health::watch_kafka`]). `durability` is what `/stats` says of it.
    pub(crate) fn new(
        ingest: Ingest,
        limits: Limits,
        ready: Arc<AtomicBool>,
        kafka: watch::Receiver<health::Problem>,
        durability: &'static str,
    ) -> Self {
        let semaphore =
            |permits: usize| Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        Self {
            ingest,
            limits,
            requests: semaphore(limits.requests_max),
            room: semaphore(
                limits.request_bytes_max.max(limits.body_bytes_max) / ROOM_UNIT_BYTES + 1,
            ),
            answers: AnswerRoom::new(limits.request_bytes_max),
            streams: semaphore(limits.streams()),
            ready,
            kafka,
            durability,
            hosts: Arc::new(Hosts::only(&[])),
            connections: None,
            broker: None,
            producer: None,
        }
    }

    /// It answers to these names.
    pub(crate) fn for_hosts(self, hosts: Hosts) -> Self {
        Self { hosts: Arc::new(hosts), ..self }
    }

    /// `/metrics` tells of these connections too.
    pub(crate) fn with_connections(self, connections: &Arc<Connections>) -> Self {
        Self { connections: Some(Arc::clone(connections)), ..self }
    }

    /// `/metrics` tells of this broker too.
    pub(crate) fn with_broker(self, broker: Option<&Arc<BrokerServer>>) -> Self {
        Self { broker: broker.map(Arc::downgrade), ..self }
    }

    /// `/metrics` tells of this producer too.
    pub(crate) fn with_producer(self, producer: &Arc<Producer>) -> Self {
        Self { producer: Some(Arc::downgrade(producer)), ..self }
    }

    /// Units of room for so many bytes.
    const fn room_units(bytes: usize) -> usize {
        bytes / ROOM_UNIT_BYTES + 1
    }

    /// Reserves memory for bodies, until the permit is dropped.
    fn take_room_units(&self, units: usize) -> Option<SemaphorePermit<'_>> {
        self.room.try_acquire_many(u32::try_from(units).ok()?).ok()
    }

    pub(crate) fn router(self) -> Router {
        let check = middleware::from_fn_with_state(self.clone(), origin::check);
        Router::new()
            .route("/v1/events", post(events::post))
            .route("/v1/stream", get(stream::upgrade))
            .route("/v1/schemas", get(status::schemas))
            .route("/v1/schemas/{event_type}", get(status::schema))
            .route("/stats", get(status::stats))
            .route("/health", get(status::health))
            .route("/ready", get(status::ready))
            .route("/metrics", get(status::metrics))
            .fallback(status::not_found)
            .method_not_allowed_fallback(status::method_not_allowed)
            .layer(check)
            .with_state(self)
    }
}

//! What the gateway says of itself.

use std::sync::atomic::Ordering;
use std::sync::Weak;

use axum::extract::{Path, State};
use axum::http::{header, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::Json;
use serde::Serialize;
use serde_json::json;
use weir_traffic::ledger::Account;
use weir_traffic::{BreakerState, TrafficStats};

use super::events::refused;
use super::metrics::TrafficGauges;
use super::outcome::Rejection;
use super::{health, Gateway};

#[derive(Serialize)]
struct Stats {
    #[serde(flatten)]
    traffic: TrafficStats,
    /// Of the embedded broker, or `cluster`.
    durability: &'static str,
}

/// The JSON of spec 000, then lanes, breaker, limits, the ledger, and the embedded broker's durability.
pub(super) async fn stats(State(gateway): State<Gateway>) -> Response {
    let (traffic, durability) = (gateway.ingest.traffic().stats(), gateway.durability);
    Json(Stats { traffic, durability }).into_response()
}

/// The process is alive: it answers.
pub(super) async fn health() -> Response {
    Json(json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") })).into_response()
}

/// Events are taken: the start is over, the stop has not begun, and Kafka takes them.
pub(super) async fn ready(State(gateway): State<Gateway>) -> Response {
    let stats = gateway.ingest.traffic().stats();
    let reason = match gateway.ready.load(Ordering::Acquire) {
        true => health::problem(&gateway.kafka.borrow(), &stats),
        false => Some("weir is starting or stopping".to_owned()),
    };
    match reason {
        None => Json(json!({ "status": "ready" })).into_response(),
        Some(why) => {
            let body = json!({ "status": "not ready", "code": "WEIR-0913", "message": why });
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}

pub(super) async fn metrics(State(gateway): State<Gateway>) -> Response {
    let stats = gateway.ingest.traffic().stats();
    let gauges = TrafficGauges {
        ledger: ledger_entries(&stats.ledger.total()),
        lanes: stats.lanes.iter().map(|lane| (lane.lane, lane.depth)).collect(),
        throughput_per_sec: stats.throughput_per_sec,
        breaker_open: stats.breaker.state != BreakerState::Closed,
        connections: gateway.connections.as_ref().map_or(0, |all| all.open()),
        connections_refused: gateway.connections.as_ref().map_or(0, |all| all.refused()),
        producer: gateway
            .producer
            .as_ref()
            .and_then(Weak::upgrade)
            .map(|producer| producer.stats()),
    };
    let broker = gateway.broker.as_ref().and_then(Weak::upgrade).map(|broker| broker.stats());
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let text = gateway.ingest.metrics().render(&gauges, broker.as_ref());
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

/// The ledger's entries by name; drops by their reason.
fn ledger_entries(account: &Account) -> Vec<(String, u64)> {
    let mut entries = vec![
        ("offered".to_owned(), account.offered),
        ("accepted".to_owned(), account.accepted()),
        ("queued".to_owned(), account.queued),
        ("in_flight".to_owned(), account.in_flight),
        ("spilled".to_owned(), account.spilled),
        ("delivered".to_owned(), account.delivered),
    ];
    let by_reason = [
        ("rejected", &account.rejected),
        ("refused", &account.refused),
        ("dropped", &account.dropped),
    ];
    for (name, counts) in by_reason {
        entries.extend(
            counts.iter().map(|(reason, count)| (format!("{name}_{}", reason.name()), count)),
        );
    }
    entries
}

/// Event types that have a schema.
pub(super) async fn schemas() -> Response {
    let types: Vec<_> = weir_fleet::event_types().collect();
    Json(json!({ "types": types })).into_response()
}

pub(super) async fn schema(Path(event_type): Path<String>) -> Response {
    match weir_fleet::schema(&event_type) {
        Some(schema) => {
            ([(header::CONTENT_TYPE, "application/schema+json")], schema).into_response()
        }
        None => {
            let message =
                format!("type \"{event_type}\" has no schema; /v1/schemas lists those that have");
            let rejection = Rejection::bad("WEIR-0903", message).status(StatusCode::NOT_FOUND);
            refused(rejection)
        }
    }
}

/// What there is, for those who asked for something else.
const PATHS: &str =
    "POST /v1/events, GET /v1/stream, /v1/schemas, /stats, /health, /ready and /metrics exist";

pub(super) async fn not_found(uri: Uri) -> Response {
    let message = format!("there is nothing at {}; {PATHS}", uri.path());
    refused(Rejection::bad("WEIR-0910", message).status(StatusCode::NOT_FOUND))
}

/// axum adds the header `Allow`.
pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    let message = format!("{} does not take {method}; {PATHS}", uri.path());
    refused(Rejection::bad("WEIR-0911", message).status(StatusCode::METHOD_NOT_ALLOWED))
}

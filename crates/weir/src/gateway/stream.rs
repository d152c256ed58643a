//! `GET /v1/stream`: a WebSocket for devices.
//!
//! Each text or binary message is a body as `POST /v1/events` takes it, and is answered by one
//! message with the same JSON. Messages are handled in order, one at a time: the answer is the
//! device's credit to send the next one.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::events::refused;
use super::outcome::{EventOutcome, Rejection, Summary};
use super::{body, origin, Gateway};

/// A connection that says nothing for so long is closed.
const IDLE: Duration = Duration::from_secs(600);

pub(super) async fn upgrade(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    if !origin::is_ours(&headers) {
        return origin::refusal().into_response();
    }
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(error) => {
            let rejection = Rejection::bad("WEIR-0914", error.body_text());
            return refused(rejection.status(error.status()));
        }
    };
    let Ok(seat) = Arc::clone(&gateway.streams).try_acquire_owned() else {
        let message = "too many WebSocket connections are open";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let rejection = Rejection::later("WEIR-0908", message, status, 1_000);
        return refused(rejection);
    };
    upgrade.max_message_size(gateway.limits.body_bytes_max).on_upgrade(move |socket| async move {
        serve(socket, gateway).await;
        drop(seat);
    })
}

async fn serve(mut socket: WebSocket, gateway: Gateway) {
    while let Ok(Some(Ok(message))) = tokio::time::timeout(IDLE, socket.recv()).await {
        let bytes = match message {
            Message::Text(text) => Bytes::from(text),
            Message::Binary(bytes) => bytes,
            Message::Close(_) => return,
            // axum answers pings itself.
            Message::Ping(_) | Message::Pong(_) => continue,
        };
        // A device waits for its turn where a request would be refused: it is connected already.
        let Ok(slot) = gateway.requests.acquire().await else { return };
        let answer = answer(&gateway, &bytes).await;
        drop(slot);
        if socket.send(Message::Text(answer.into())).await.is_err() {
            return;
        }
    }
}

async fn answer(gateway: &Gateway, bytes: &Bytes) -> String {
    let refused = |rejection| to_json(&EventOutcome::Rejected(rejection));
    let body = match body::split(bytes, false) {
        Ok(body) => body,
        Err(why) => {
            return refused(Rejection::bad("WEIR-0901", format!("the message is no JSON: {why}")))
        }
    };
    let count_max = gateway.limits.events_per_request_max;
    if body.events.len() > count_max {
        let message =
            format!("{} events in one message, {count_max} is the limit", body.events.len());
        return refused(Rejection::bad("WEIR-0906", message));
    }
    let single = body.single;
    let mut outcomes = gateway.ingest.accept(body.events, None).await;
    match (single, outcomes.pop()) {
        (true, Some(outcome)) => to_json(&outcome),
        (_, last) => {
            outcomes.extend(last);
            to_json(&Summary::new(outcomes, false))
        }
    }
}

/// The answer types hold nothing that JSON cannot say.
fn to_json(answer: &impl serde::Serialize) -> String {
    serde_json::to_string(answer).unwrap_or_default()
}

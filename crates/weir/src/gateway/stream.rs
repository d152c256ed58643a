//! `GET /v1/stream`: a WebSocket for devices.
//!
//! Each text or binary message is a body as `POST /v1/events` takes it, and is answered by one
//! message with the same JSON. Messages are handled in order, one at a time: the answer is the
//! device's credit to send the next one.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{close_code, CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use tungstenite::error::{CapacityError, Error as WsError, ProtocolError};

use super::answer_room::Held;
use super::body::Fault;
use super::events::refused;
use super::outcome::{EventOutcome, Rejection, Summary};
use super::{body, Gateway};

/// A connection that says nothing for so long is closed.
const IDLE: Duration = Duration::from_secs(600);
/// What a stream reads at once.
const READ_BUFFER_BYTES: usize = 4096;
/// Longest reason of a Close frame (RFC 6455 §5.5).
const REASON_BYTES_MAX: usize = 123;
/// A device that does not take its answer for so long is gone.
const SEND_TIME: Duration = Duration::from_secs(30);

pub(super) async fn upgrade(
    State(gateway): State<Gateway>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
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
    let bytes_max = gateway.limits.stream_message_bytes_max;
    // A frame has the limit of a message: memory is reserved by the word of the frame's header. The
    // buffer is there from the start, and most devices send little.
    let upgrade = upgrade
        .max_message_size(bytes_max)
        .max_frame_size(bytes_max)
        .read_buffer_size(READ_BUFFER_BYTES.min(bytes_max));
    upgrade.on_upgrade(move |socket| async move {
        serve(socket, gateway).await;
        drop(seat);
    })
}

async fn serve(mut socket: WebSocket, gateway: Gateway) {
    loop {
        let message = match tokio::time::timeout(IDLE, socket.recv()).await {
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(error))) => return say_goodbye(&mut socket, goodbye(error)).await,
            Ok(None) => return,
            Err(_) => {
                let reason = format!("nothing came for {} s", IDLE.as_secs());
                return say_goodbye(&mut socket, Some((close_code::AWAY, reason))).await;
            }
        };
        let bytes = match message {
            Message::Text(text) => Bytes::from(text),
            Message::Binary(bytes) => bytes,
            Message::Close(_) => return,
            // axum answers pings itself.
            Message::Ping(_) | Message::Pong(_) => continue,
        };
        // A device waits for its turn where a request would be refused: it is connected already.
        let Ok(slot) = gateway.requests.acquire().await else { return };
        let (answer, _room) = answer(&gateway, bytes).await;
        drop(slot);
        let sending = socket.send(Message::Text(answer.into()));
        if !matches!(tokio::time::timeout(SEND_TIME, sending).await, Ok(Ok(()))) {
            return;
        }
    }
}

/// Ends the connection with a reason, as far as the device still listens.
async fn say_goodbye(socket: &mut WebSocket, goodbye: Option<(u16, String)>) {
    if let Some((code, reason)) = goodbye {
        let frame = CloseFrame { code, reason: reason.into() };
        let _ = tokio::time::timeout(SEND_TIME, socket.send(Message::Close(Some(frame)))).await;
    }
}

/// The code of RFC 6455 §7.4.1 and the reason for what could not be read; `None`: nobody is there.
fn goodbye(error: axum::Error) -> Option<(u16, String)> {
    let error = error.into_inner().downcast::<WsError>().ok()?;
    let code = match *error {
        WsError::Capacity(CapacityError::MessageTooLong { .. }) => close_code::SIZE,
        WsError::Utf8(_) => close_code::INVALID,
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return None,
        WsError::Protocol(_) => close_code::PROTOCOL,
        _ => return None,
    };
    // A control frame carries 125 bytes, two of them the code.
    let mut reason = error.to_string();
    while reason.len() > REASON_BYTES_MAX {
        reason.pop();
    }
    Some((code, reason))
}

/// The answer, and its room, to be held until it is sent.
async fn answer(gateway: &Gateway, bytes: Bytes) -> (String, Option<Held>) {
    let refused = |rejection| (to_json(&EventOutcome::Rejected(rejection)), None);
    let events_max = gateway.limits.events_per_request_max;
    let body = match body::split(&bytes, false, events_max) {
        Ok(body) => body,
        Err(Fault::Json(why)) => {
            return refused(Rejection::bad("WEIR-0901", format!("the message is no JSON: {why}")))
        }
        Err(Fault::TooMany(count)) => {
            let message = format!("{count} events in one message, {events_max} is the limit");
            return refused(Rejection::bad("WEIR-0906", message));
        }
    };
    drop(bytes);
    // A device waits for this too; whoever holds it is cut off after SEND_TIME.
    let Some(mut room) = gateway.answers.hold(body.events.len()).await else {
        return (String::new(), None);
    };
    let single = body.single;
    let mut outcomes = gateway.ingest.accept(body.events, None).await;
    match (single, outcomes.pop()) {
        (true, Some(outcome)) => (to_json(&outcome), Some(room)),
        (_, last) => {
            outcomes.extend(last);
            let json = room.json_of(&mut Summary::new(outcomes, false));
            (String::from_utf8(json).unwrap_or_default(), Some(room))
        }
    }
}

/// The answer types hold nothing that JSON cannot say.
fn to_json(answer: &impl serde::Serialize) -> String {
    serde_json::to_string(answer).unwrap_or_default()
}

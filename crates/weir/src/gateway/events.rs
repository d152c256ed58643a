//! `POST /v1/events`.

use axum::body::Body as HttpBody;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{header, HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::Json;
use bytes::Bytes;
use serde::Deserialize;

use super::body::{self, Fault};
use super::outcome::{EventOutcome, Rejection, Summary};
use super::receive::receive;
use super::trace::TraceId;
use super::Gateway;

#[derive(Debug, Default, Deserialize)]
pub(super) struct Options {
    /// `refused`: leave accepted events out of the answer.
    results: Option<String>,
}

/// One event, an array, or NDJSON. A single event is answered by its own outcome and status.
pub(super) async fn post(
    State(gateway): State<Gateway>,
    options: Result<Query<Options>, QueryRejection>,
    headers: HeaderMap,
    request_body: HttpBody,
) -> Response {
    let Query(options) = match options {
        Ok(options) => options,
        Err(error) => return refused(Rejection::bad("WEIR-0912", error.body_text())),
    };
    let (bytes, _room) = match receive(&gateway, &headers, request_body).await {
        Ok(received) => received,
        Err(rejection) => return refused(rejection),
    };
    let Ok(_slot) = gateway.requests.try_acquire() else {
        let message = "too many requests are being handled";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        return refused(Rejection::later("WEIR-0908", message, status, 100));
    };
    let events_max = gateway.limits.events_per_request_max;
    let body = match body::split(&bytes, is_ndjson(&headers), events_max) {
        Ok(body) => body,
        Err(Fault::Json(why)) => {
            return refused(Rejection::bad("WEIR-0901", format!("the body is no JSON: {why}")))
        }
        Err(Fault::TooMany(count)) => {
            let message = format!("{count} events in one request, {events_max} is the limit");
            let rejection = Rejection::bad("WEIR-0906", message);
            return refused(rejection.status(StatusCode::PAYLOAD_TOO_LARGE));
        }
    };
    let Some(mut room) = gateway.answers.try_hold(body.events.len()) else {
        let message = "the answers that wait to be read take all the memory they may";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        return refused(Rejection::later("WEIR-0908", message, status, 100));
    };
    // What the events need of it they hold themselves.
    drop(bytes);
    // Who asks for a certain form of results can read a list of one.
    let single = body.single && options.results.is_none();
    let mut outcomes = gateway.ingest.accept(body.events, TraceId::of_request(&headers)).await;
    match (single, outcomes.pop()) {
        (true, Some(outcome)) => answer_one(outcome),
        (_, last) => {
            outcomes.extend(last);
            let refused_only = options.results.as_deref() == Some("refused");
            let mut summary = Summary::new(outcomes, refused_only);
            let json = room.json_of(&mut summary);
            answer_many(&summary, room.bytes(json))
        }
    }
}

fn is_ndjson(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.contains("ndjson") || kind.contains("jsonl"))
}

/// The answer of every request that is refused as a whole.
pub(super) fn refused(rejection: Rejection) -> Response {
    answer_one(EventOutcome::Rejected(rejection))
}

fn answer_one(outcome: EventOutcome) -> Response {
    let (status, retry_after_ms) = match &outcome {
        EventOutcome::Rejected(rejection) => (rejection.http_status, rejection.retry_after_ms),
        _ => (StatusCode::OK, None),
    };
    let mut response = (status, Json(outcome)).into_response();
    if status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        let identity = HeaderValue::from_static("identity");
        response.headers_mut().insert(header::ACCEPT_ENCODING, identity);
    }
    with_retry_after(response, retry_after_ms)
}

fn answer_many(summary: &Summary, json: Bytes) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    with_retry_after((summary.status(), kind, json).into_response(), summary.retry_after_ms())
}

/// RFC 9110 §10.2.3: whole seconds; the exact figure is in the body.
fn with_retry_after(mut response: Response, retry_after_ms: Option<u64>) -> Response {
    if let Some(ms) = retry_after_ms {
        let seconds = HeaderValue::from(ms.div_ceil(1000).max(1));
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

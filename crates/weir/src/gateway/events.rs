//! `POST /v1/events`.

use std::time::Duration;

use axum::body::Body as HttpBody;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{header, HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::Json;
use serde::Deserialize;

use super::body;
use super::outcome::{EventOutcome, Rejection, Summary};
use super::trace::TraceId;
use super::Gateway;

/// Longest time a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);

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
    let Ok(_slot) = gateway.requests.try_acquire() else {
        let message = "too many requests are being handled";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        return refused(Rejection::later("WEIR-0908", message, status, 100));
    };
    let body_bytes_max = gateway.limits.body_bytes_max;
    let Some(_room) = gateway.take_room(content_length(&headers).unwrap_or(body_bytes_max)) else {
        let message = "the bodies being handled take all the memory they may";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        return refused(Rejection::later("WEIR-0908", message, status, 100));
    };
    let reading = axum::body::to_bytes(request_body, body_bytes_max);
    let bytes = match tokio::time::timeout(BODY_TIME, reading).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => return refused(unreadable(&error, body_bytes_max)),
        Err(_) => {
            let message = format!("the body did not arrive within {} s", BODY_TIME.as_secs());
            return refused(
                Rejection::bad("WEIR-0901", message).status(StatusCode::REQUEST_TIMEOUT),
            );
        }
    };
    let body = match body::split(&bytes, is_ndjson(&headers)) {
        Ok(body) => body,
        Err(why) => {
            return refused(Rejection::bad("WEIR-0901", format!("the body is no JSON: {why}")))
        }
    };
    let count_max = gateway.limits.events_per_request_max;
    if body.events.len() > count_max {
        let message =
            format!("{} events in one request, {count_max} is the limit", body.events.len());
        return refused(Rejection::bad("WEIR-0906", message).status(StatusCode::PAYLOAD_TOO_LARGE));
    }
    // Who asks for a certain form of results can read a list of one.
    let single = body.single && options.results.is_none();
    let mut outcomes = gateway.ingest.accept(body.events, TraceId::of_request(&headers)).await;
    match (single, outcomes.pop()) {
        (true, Some(outcome)) => answer_one(outcome),
        (_, last) => {
            outcomes.extend(last);
            let refused_only = options.results.as_deref() == Some("refused");
            answer_many(&Summary::new(outcomes, refused_only))
        }
    }
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn is_ndjson(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.contains("ndjson") || kind.contains("jsonl"))
}

fn unreadable(error: &axum::Error, bytes_max: usize) -> Rejection {
    let source = std::error::Error::source(error);
    if source.is_some_and(|source| source.is::<http_body_util::LengthLimitError>()) {
        Rejection::bad("WEIR-0906", format!("the body has more than {bytes_max} bytes"))
            .status(StatusCode::PAYLOAD_TOO_LARGE)
    } else {
        Rejection::bad("WEIR-0901", format!("the body could not be read: {error}"))
    }
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
    with_retry_after((status, Json(outcome)).into_response(), retry_after_ms)
}

fn answer_many(summary: &Summary) -> Response {
    with_retry_after((summary.status(), Json(summary)).into_response(), summary.retry_after_ms())
}

/// RFC 9110 §10.2.3: whole seconds; the exact figure is in the body.
fn with_retry_after(mut response: Response, retry_after_ms: Option<u64>) -> Response {
    if let Some(ms) = retry_after_ms {
        let seconds = HeaderValue::from(ms.div_ceil(1000).max(1));
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

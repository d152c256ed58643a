//! `POST /v1/events`.

use axum::body::Body as HttpBody;
use axum::extract::{Query, State};
use axum::http::{header, HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::Json;
use serde::Deserialize;

use super::body;
use super::outcome::{EventOutcome, Rejection, Summary};
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
    Query(options): Query<Options>,
    headers: HeaderMap,
    request_body: HttpBody,
) -> Response {
    let Ok(_slot) = gateway.requests.try_acquire() else {
        let message = "too many requests are being handled";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        return refused(Rejection::later("WEIR-0908", message, status, 100));
    };
    let bytes = match axum::body::to_bytes(request_body, gateway.limits.body_bytes_max).await {
        Ok(bytes) => bytes,
        Err(error) => return refused(unreadable(&error, gateway.limits.body_bytes_max)),
    };
    let body = match body::split(&bytes) {
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
    let single = body.single;
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

fn unreadable(error: &axum::Error, bytes_max: usize) -> Rejection {
    let source = std::error::Error::source(error);
    if source.is_some_and(|source| source.is::<http_body_util::LengthLimitError>()) {
        Rejection::bad("WEIR-0906", format!("the body has more than {bytes_max} bytes"))
            .status(StatusCode::PAYLOAD_TOO_LARGE)
    } else {
        Rejection::bad("WEIR-0901", format!("the body could not be read: {error}"))
    }
}

fn refused(rejection: Rejection) -> Response {
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

//! What the gateway answers for one event, and how a list of answers becomes one response.

use axum::http::StatusCode;
use serde::Serialize;

/// The answer for one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub(crate) enum EventOutcome {
    /// Safe: Kafka has acknowledged it.
    Accepted(Place),
    /// Its id was accepted before, within the dedup window; nothing was written again.
    Duplicate(Place),
    /// Not taken.
    Rejected(Rejection),
}

/// Where an accepted event lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Place {
    pub(crate) id: String,
    pub(crate) topic: String,
    pub(crate) partition: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) offset: Option<i64>,
}

/// Bytes of a message: whatever it repeats of what came, an answer is bounded.
const MESSAGE_BYTES_MAX: usize = 1_024;
/// What stands for a message when the answers that wait to be read take all the memory they may.
const NO_MESSAGE: &str = "see weir explain";

/// Why an event was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Rejection {
    /// `WEIR-nnnn`, explained by `weir explain`.
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// The field at fault, if one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) field: Option<String>,
    /// Set if sending it again later may succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after_ms: Option<u64>,
    /// The HTTP status of this event alone.
    #[serde(rename = "http_status", serialize_with = "as_number")]
    pub(crate) http_status: StatusCode,
}

fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Rejection {
    /// Wrong for good: the sender must change the event.
    pub(crate) fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: bounded(message.into()),
            field: None,
            retry_after_ms: None,
            http_status: StatusCode::BAD_REQUEST,
        }
    }

    pub(crate) fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    pub(crate) fn status(mut self, status: StatusCode) -> Self {
        self.http_status = status;
        self
    }

    /// Refused for now.
    pub(crate) fn later(
        code: &'static str,
        message: impl Into<String>,
        status: StatusCode,
        retry_after_ms: u64,
    ) -> Self {
        let retry_after_ms = Some(retry_after_ms);
        Self { code, message: message.into(), field: None, retry_after_ms, http_status: status }
    }
}

/// Counts and answers of a request with several events.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) accepted: u64,
    pub(crate) duplicate: u64,
    pub(crate) rejected: u64,
    pub(crate) results: Vec<Indexed>,
}

/// One answer with the place of its event in the request.
#[derive(Debug, Serialize)]
pub(crate) struct Indexed {
    pub(crate) index: usize,
    #[serde(flatten)]
    pub(crate) outcome: EventOutcome,
}

impl Summary {
    /// `refused_only` leaves accepted events out of the list, for senders of many.
    pub(crate) fn new(outcomes: Vec<EventOutcome>, refused_only: bool) -> Self {
        let count = |wanted: fn(&EventOutcome) -> bool| {
            outcomes.iter().filter(|outcome| wanted(outcome)).count() as u64
        };
        let accepted = count(|outcome| matches!(outcome, EventOutcome::Accepted(_)));
        let duplicate = count(|outcome| matches!(outcome, EventOutcome::Duplicate(_)));
        let rejected = count(|outcome| matches!(outcome, EventOutcome::Rejected(_)));
        let results = outcomes
            .into_iter()
            .enumerate()
            .filter(|(_, outcome)| !refused_only || matches!(outcome, EventOutcome::Rejected(_)))
            .map(|(index, outcome)| Indexed { index, outcome })
            .collect();
        Self { accepted, duplicate, rejected, results }
    }

    /// Leaves the messages out; codes and fields stay.
    pub(crate) fn shorten(&mut self) {
        for result in &mut self.results {
            if let EventOutcome::Rejected(rejection) = &mut result.outcome {
                NO_MESSAGE.clone_into(&mut rejection.message);
            }
        }
    }

    /// 200 if all were taken, 207 if some were, else the status of the first refusal; a refusal
    /// for now outranks one for good, so that a sender sees that trying again makes sense.
    pub(crate) fn status(&self) -> StatusCode {
        if self.rejected == 0 {
            return StatusCode::OK;
        }
        if self.accepted + self.duplicate > 0 {
            return StatusCode::MULTI_STATUS;
        }
        let rejections = || self.results.iter().filter_map(|result| rejection(&result.outcome));
        let later = rejections().find(|rejection| rejection.retry_after_ms.is_some());
        later.or(rejections().next()).map_or(StatusCode::BAD_REQUEST, |found| found.http_status)
    }

    /// The longest wait asked for by a refusal.
    pub(crate) fn retry_after_ms(&self) -> Option<u64> {
        let rejections = self.results.iter().filter_map(|result| rejection(&result.outcome));
        rejections.filter_map(|rejection| rejection.retry_after_ms).max()
    }
}

fn bounded(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        let is_end = |at: &usize| message.is_char_boundary(*at);
        let end = (0..=MESSAGE_BYTES_MAX).rev().find(is_end).unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    message
}

fn rejection(outcome: &EventOutcome) -> Option<&Rejection> {
    match outcome {
        EventOutcome::Rejected(rejection) => Some(rejection),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted() -> EventOutcome {
        let place = Place { id: "1".into(), topic: "t".into(), partition: 0, offset: Some(1) };
        EventOutcome::Accepted(place)
    }

    fn bad() -> EventOutcome {
        EventOutcome::Rejected(Rejection::bad("WEIR-0901", "no JSON"))
    }

    fn later(ms: u64) -> EventOutcome {
        let status = StatusCode::TOO_MANY_REQUESTS;
        EventOutcome::Rejected(Rejection::later("WEIR-0501", "full", status, ms))
    }

    fn check(outcomes: Vec<EventOutcome>, status: u16, retry_after_ms: Option<u64>) {
        let summary = Summary::new(outcomes, true);
        assert_eq!((summary.status().as_u16(), summary.retry_after_ms()), (status, retry_after_ms));
    }

    #[test]
    fn status_of_many_says_whether_all_some_or_none_were_taken() {
        check(vec![accepted(), accepted()], 200, None);
        check(vec![], 200, None);
        check(vec![accepted(), bad()], 207, None);
        check(vec![accepted(), later(5), later(9)], 207, Some(9));
        check(vec![bad(), bad()], 400, None);
        check(vec![bad(), later(7)], 429, Some(7));
    }

    #[test]
    fn refused_only_keeps_the_index_in_the_request() {
        let summary = Summary::new(vec![accepted(), bad(), accepted()], true);
        assert_eq!((summary.accepted, summary.rejected), (2, 1));
        let json = serde_json::to_value(&summary.results).unwrap();
        assert_eq!(json[0]["index"], 1);
        assert_eq!(json[0]["status"], "rejected");
        assert_eq!(json[0]["http_status"], 400);
    }
}

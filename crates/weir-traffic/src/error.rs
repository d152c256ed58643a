//! Why an event was not taken, and what is wrong with a configuration, each with its code.

use serde::{Serialize, Serializer};

/// Why an event was refused. Being refused is an outcome, not an error of the manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Its lane holds as many events as it may.
    LaneFull,
    /// Its lane holds as many bytes as it may.
    LaneBytesFull,
    /// It is larger than a whole lane may be.
    EventTooLarge,
    /// The sink was away for as long as an event may wait.
    SinkAway,
    /// The manager is stopping.
    ShuttingDown,
    /// The sink refused this event for good.
    SinkRefused,
    /// It was sent, and the sink did not say whether it was written: the sender decides whether it
    /// rather has it twice or never.
    OutcomeUnknown,
    /// The same id is on its way already, and too many callers wait for its outcome.
    TooManyRepeats,
    /// At the rate that is configured it would wait for longer than an event may.
    WaitTooLong,
}

impl Reason {
    /// All of them, in the order of [`Reason::index`].
    pub const ALL: [Reason; 9] = [
        Reason::LaneFull,
        Reason::LaneBytesFull,
        Reason::EventTooLarge,
        Reason::SinkAway,
        Reason::ShuttingDown,
        Reason::SinkRefused,
        Reason::OutcomeUnknown,
        Reason::TooManyRepeats,
        Reason::WaitTooLong,
    ];

    /// Its place in [`Reason::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Its name in `/stats` and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Reason::LaneFull => "lane_full",
            Reason::LaneBytesFull => "lane_bytes_full",
            Reason::EventTooLarge => "event_too_large",
            Reason::SinkAway => "sink_away",
            Reason::ShuttingDown => "shutting_down",
            Reason::SinkRefused => "sink_refused",
            Reason::OutcomeUnknown => "outcome_unknown",
            Reason::TooManyRepeats => "too_many_repeats",
            Reason::WaitTooLong => "wait_too_long",
        }
    }

    /// The code a person can look up with `weir explain`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Reason::LaneFull => "WEIR-0501",
            Reason::LaneBytesFull => "WEIR-0502",
            Reason::EventTooLarge => "WEIR-0503",
            Reason::SinkAway => "WEIR-0504",
            Reason::ShuttingDown => "WEIR-0505",
            Reason::SinkRefused => "WEIR-0506",
            Reason::OutcomeUnknown => "WEIR-0507",
            Reason::TooManyRepeats => "WEIR-0508",
            Reason::WaitTooLong => "WEIR-0509",
        }
    }

    /// Whether the same event may be taken later.
    #[must_use]
    pub const fn is_retriable(self) -> bool {
        !matches!(self, Reason::EventTooLarge | Reason::SinkRefused)
    }

    /// A sentence for the caller.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Reason::LaneFull => "the lane of this priority is full",
            Reason::LaneBytesFull => "the lane of this priority holds as many bytes as it may",
            Reason::EventTooLarge => "the event is larger than a lane may be",
            Reason::SinkAway => "Kafka could not be reached for as long as an event may wait",
            Reason::ShuttingDown => "weir is shutting down",
            Reason::SinkRefused => "Kafka refused the event",
            Reason::OutcomeUnknown => {
                "the event was sent, but Kafka did not confirm it: it may or may not be written, \
                 and may be written twice if it is sent again"
            }
            Reason::TooManyRepeats => {
                "the same id is on its way already, and too many callers wait for it"
            }
            Reason::WaitTooLong => {
                "at max_rate what waits already takes longer than an event may wait"
            }
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// An event its caller gets back: it was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("{reason}{}", .detail.as_ref().map(|text| format!(": {text}")).unwrap_or_default())]
pub struct Refused {
    /// Why.
    pub reason: Reason,
    /// The code of `reason`.
    pub code: &'static str,
    /// When to try again; `None` if that cannot help.
    pub retry_after_ms: Option<u64>,
    /// What the sink said, if it did.
    pub detail: Option<String>,
}

impl Refused {
    /// A refusal; `retry_after_ms` is kept only where trying again can help.
    #[must_use]
    pub fn new(reason: Reason, retry_after_ms: u64) -> Self {
        let retry_after_ms = reason.is_retriable().then_some(retry_after_ms);
        Self { reason, code: reason.code(), retry_after_ms, detail: None }
    }

    /// With the sink's own words.
    #[must_use]
    pub fn with_detail(mut self, detail: Option<String>) -> Self {
        self.detail = detail;
        self
    }
}

/// What is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrafficError {
    /// A value out of its bounds.
    #[error("{key}: {value} is not allowed, it must be {expected}")]
    Config {
        /// The key as written in YAML.
        key: &'static str,
        /// What was found.
        value: String,
        /// What would do.
        expected: String,
    },
    /// An entry of `message_priorities` that cannot be.
    #[error("message_priorities.{class}: \"{entry}\" {problem}")]
    Priorities {
        /// The class it stands in.
        class: &'static str,
        /// The entry as written.
        entry: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl TrafficError {
    /// The code a person can look up with `weir explain`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            TrafficError::Config { .. } => "WEIR-0510",
            TrafficError::Priorities { .. } => "WEIR-0511",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_found_at_its_index() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), index);
        }
    }

    #[test]
    fn every_code_has_its_page() {
        let configs = [
            TrafficError::Config { key: "k", value: String::new(), expected: String::new() }.code(),
            TrafficError::Priorities { class: "low", entry: String::new(), problem: String::new() }
                .code(),
        ];
        for code in Reason::ALL.map(Reason::code).into_iter().chain(configs) {
            let page = format!("{}/../../docs/errors/{code}.md", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(&page).unwrap_or_default();
            assert!(text.starts_with(&format!("# {code}: ")), "{page}");
        }
    }

    #[test]
    fn what_cannot_be_mended_by_waiting_has_no_retry_after() {
        assert_eq!(Refused::new(Reason::EventTooLarge, 5).retry_after_ms, None);
        assert_eq!(Refused::new(Reason::LaneFull, 5).retry_after_ms, Some(5));
    }
}

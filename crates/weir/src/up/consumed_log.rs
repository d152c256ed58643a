//! The line `Consumed message, trace_id=..., offset=...` (spec 003), which is stable.
//!
//! A line per message is for a person who follows one: the level `debug`. At `info` it is a sample, with
//! how many messages there were since the last one: ten thousand lines a second would be a fault of
//! their own.

use std::time::{Duration, Instant};

use weir_client::event::HEADER_TRACE_ID;
use weir_client::ConsumedRecord;

/// Shortest time between two lines at `info`.
const INTERVAL: Duration = Duration::from_secs(10);

/// When the last line at `info` was.
#[derive(Debug, Default)]
pub(super) struct ConsumedLog {
    told: Option<Instant>,
    messages: u64,
}

impl ConsumedLog {
    /// Tells of one record.
    pub(super) fn tell(&mut self, record: &ConsumedRecord, now: Instant) {
        let trace_id = record.header(HEADER_TRACE_ID).and_then(|id| std::str::from_utf8(id).ok());
        let (trace_id, offset) = (trace_id.unwrap_or("-"), record.offset);
        let (topic, partition) = (&record.topic, record.partition);
        match self.is_due(now) {
            Some(messages) => tracing::info!(
                %topic, %partition, messages,
                "Consumed message, trace_id={trace_id}, offset={offset}"
            ),
            None => tracing::debug!(
                %topic, %partition,
                "Consumed message, trace_id={trace_id}, offset={offset}"
            ),
        }
    }

    /// How many messages a line at `info` stands for, if it is time for one.
    fn is_due(&mut self, now: Instant) -> Option<u64> {
        self.messages += 1;
        if self.told.is_some_and(|told| now.saturating_duration_since(told) < INTERVAL) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.messages))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn a_line_at_info_stands_for_all_since_the_last() {
        let (mut log, start) = (ConsumedLog::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let lines: Vec<_> = [0, 1, 9_999, 10_000, 10_001, 30_000]
            .into_iter()
            .map(|ms| log.is_due(at(ms)))
            .collect();
        assert_eq!(lines, [Some(1), None, None, Some(3), None, Some(2)]);
    }
}

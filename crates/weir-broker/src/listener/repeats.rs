//! [`Repeats`]: says the same thing once, and then how often.
//!
//! Whoever connects can make a broker log a line per connection, as fast as it connects. So of each reason the first line
//! is written at once, and what follows within [`WINDOW_MS`] is counted and written as one.

use std::collections::HashMap;

/// How long lines of one reason are counted before they are written as one.
const WINDOW_MS: u64 = 10_000;

#[derive(Debug)]
struct Window {
    begun_ms: u64,
    more: u64,
}

/// Reasons that were written lately. Reasons are words of ours, so there are few.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    windows: HashMap<&'static str, Window>,
}

impl Repeats {
    /// Whether to write this one. If not it is counted.
    pub(super) fn is_first(&mut self, reason: &'static str, now_ms: u64) -> bool {
        match self.windows.get_mut(reason) {
            Some(window) => {
                window.more += 1;
                false
            }
            None => {
                self.windows.insert(reason, Window { begun_ms: now_ms, more: 0 });
                true
            }
        }
    }

    /// What was counted in windows that are over. A reason that goes on has its next window, so that it stays one line
    /// for each.
    pub(super) fn take_due(&mut self, now_ms: u64) -> Vec<(&'static str, u64)> {
        let mut due = Vec::new();
        self.windows.retain(|reason, window| {
            if now_ms.saturating_sub(window.begun_ms) < WINDOW_MS {
                return true;
            }
            let more = std::mem::take(&mut window.more);
            window.begun_ms = now_ms;
            if more > 0 {
                due.push((*reason, more));
            }
            more > 0
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_flood_there_is_a_line_at_once_and_one_for_each_window() {
        let mut repeats = Repeats::default();
        let mut lines = Vec::new();
        for now_ms in 0..35_000 {
            lines.extend(repeats.take_due(now_ms).into_iter().map(|(_, more)| (now_ms, more)));
            if repeats.is_first("garbage", now_ms) {
                lines.push((now_ms, 1));
            }
        }
        assert_eq!(lines, [(0, 1), (10_000, 9_999), (20_000, 10_000), (30_000, 10_000)]);
        assert_eq!(repeats.take_due(40_000), [("garbage", 5_000)]);
        assert_eq!(repeats.take_due(50_000), []);
        assert!(repeats.is_first("garbage", 50_001), "it is news again");
    }

    #[test]
    fn reasons_do_not_hide_each_other() {
        let mut repeats = Repeats::default();
        assert!(repeats.is_first("garbage", 0));
        assert!(repeats.is_first("too many", 1));
        assert!(!repeats.is_first("garbage", 2));
    }
}

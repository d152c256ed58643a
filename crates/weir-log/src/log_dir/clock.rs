//! [`LogDir::clock_set`]: what waits, or is held for a time, keeps the time it had left.

use super::LogDir;
use crate::log::Log;

impl LogDir {
    /// The clock that `now` comes from was set by `by_ms`, forward or back.
    ///
    /// The next checkpoint, retention check and cleaning come when they would have come, deleted files stay for their delay,
    /// and a producer is not forgotten before its time. How old records are still goes by their timestamps.
    pub fn clock_set(&mut self, by_ms: i64) {
        for due in [&mut self.next_checkpoint, &mut self.next_retention, &mut self.next_expiry] {
            *due = due.plus_ms(by_ms);
        }
        self.upkeep.cleaner.shift(by_ms);
        for graveyard in self.graveyards() {
            graveyard.iter_mut().for_each(|(due, _)| *due = due.plus_ms(by_ms));
        }
        self.logs.iter_mut().flatten().for_each(|log| log.shift(by_ms));
    }
}

impl Log {
    fn shift(&mut self, by_ms: i64) {
        self.opened = self.opened.plus_ms(by_ms);
        self.producers.shift(by_ms);
        self.segments.iter_mut().for_each(|segment| segment.shift(by_ms));
    }
}

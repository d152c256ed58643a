//! [`ProducerRoom`]: how many producers a directory remembers, and each of its logs.
//!
//! A producer writes an id that nobody has to have given out, so without a bound whoever may write decides how much memory
//! goes to them for a day. Those that have been silent for longest are forgotten first; one with an open transaction is
//! never. What it costs: a retry of a forgotten producer's batch would be written twice, and that producer is one that has
//! been silent while tens of thousands of others wrote.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use weir_protocol::{Offset, ProducerId, TimestampMs};

use super::ProducerStates;

/// So many a log may keep whatever the others have.
const LOG_MIN: usize = 100;
/// One in so many is forgotten at once: to find the oldest costs a look at all.
const SHARE: usize = 16;

/// The bounds, and how near they are.
#[derive(Debug)]
pub(crate) struct ProducerRoom {
    per_log_max: usize,
    total_max: usize,
    /// Never less than there are: it is set right by [`ProducerRoom::recount`].
    count: AtomicUsize,
    /// Forgotten for want of room since they were last told of.
    forgotten: AtomicU64,
}

impl Default for ProducerRoom {
    fn default() -> Self {
        Self::new(usize::MAX, usize::MAX)
    }
}

impl ProducerRoom {
    pub(crate) const fn new(per_log_max: usize, total_max: usize) -> Self {
        let (count, forgotten) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self { per_log_max, total_max, count, forgotten }
    }

    /// A log that had `before` producers may have taken some in: makes it forget what is too much.
    ///
    /// Cost: nothing, unless there is too much; then a look at all its producers, which makes room for one in 16.
    pub(crate) fn bound(&self, states: &mut ProducerStates, before: usize) {
        let added = states.len().saturating_sub(before);
        if added == 0 {
            return;
        }
        let total = self.count.fetch_add(added, Ordering::Relaxed).saturating_add(added);
        let idle = states.len() - states.ongoing.len();
        let keep = match () {
            () if idle > self.per_log_max => self.per_log_max,
            () if total > self.total_max && idle > LOG_MIN => idle,
            () => return,
        };
        let surplus = idle - keep + (keep / SHARE).max(1);
        // Not the one that has just come.
        let forgotten = states.forget_oldest(surplus.min(idle.saturating_sub(1)));
        self.count.fetch_sub(forgotten, Ordering::Relaxed);
        self.forgotten.fetch_add(forgotten as u64, Ordering::Relaxed);
    }

    /// There are so many, in all logs.
    pub(crate) fn recount(&self, count: usize) {
        self.count.store(count, Ordering::Relaxed);
    }

    pub(crate) fn take_forgotten(&self) -> u64 {
        self.forgotten.swap(0, Ordering::Relaxed)
    }
}

impl ProducerStates {
    /// Forgets the `count` producers that have been silent for longest, of those without an open transaction. Returns how
    /// many.
    fn forget_oldest(&mut self, count: usize) -> usize {
        let idle = self.entries.iter().filter(|(_, entry)| entry.txn_first_offset.is_none());
        let mut idle: Vec<(TimestampMs, Option<Offset>, ProducerId)> = idle
            .map(|(id, entry)| (entry.last_seen, entry.last().map(|last| last.last_offset), *id))
            .collect();
        if count < idle.len() {
            idle.select_nth_unstable(count);
        }
        let oldest = idle.iter().take(count);
        oldest.filter(|(.., id)| self.entries.remove(id).is_some()).count()
    }
}

//! The line `Batch processed`, at most once a second: what was processed since the last one.

use crate::manager::{Batch, Outcome};
use crate::time::{Nanos, NS_PER_MS};

/// The shortest time between two lines.
const INTERVAL_MS: u64 = 1_000;

/// Batches since the last line.
#[derive(Debug, Default)]
pub(super) struct BatchLog {
    written: Option<Nanos>,
    since: Sums,
}

#[derive(Debug, Default)]
struct Sums {
    batches: u64,
    events: u64,
    not_delivered: u64,
    /// Events by lane, urgent first.
    lanes: [u64; 4],
    total_ns: u64,
    max_ns: u64,
}

impl BatchLog {
    pub(super) fn add<T>(&mut self, batch: &Batch<T>, outcomes: &[Outcome], now: Nanos) {
        let events = batch.len() as u64;
        let delivered = outcomes.iter().filter(|outcome| **outcome == Outcome::Delivered).count();
        let took_ns = now.since_ns(batch.sent());
        let sums = &mut self.since;
        sums.batches += 1;
        sums.events += events;
        sums.not_delivered += events.saturating_sub(delivered as u64);
        sums.lanes[batch.priority().index()] += events;
        sums.total_ns += took_ns;
        sums.max_ns = sums.max_ns.max(took_ns);
    }

    /// When a line is due, if there is something to say.
    pub(super) fn next_deadline(&self) -> Option<Nanos> {
        let written = self.written.unwrap_or_default();
        (self.since.batches > 0).then(|| written.plus_ms(INTERVAL_MS))
    }

    /// Writes a line if one is due, or if `now_or_never`.
    pub(super) fn write(&mut self, now: Nanos, now_or_never: bool) {
        let due = self.written.is_none_or(|written| written.plus_ms(INTERVAL_MS) <= now);
        if self.since.batches == 0 || !(due || now_or_never) {
            return;
        }
        let sums = std::mem::take(&mut self.since);
        self.written = Some(now);
        let [urgent, high, normal, low] = sums.lanes;
        let ms = |ns: u64| (ns / (NS_PER_MS / 100)) as f64 / 100.0;
        tracing::info!(
            target: "weir_traffic",
            batches = sums.batches,
            events = sums.events,
            batch_size = sums.events / sums.batches,
            ms_avg = ms(sums.total_ns / sums.batches),
            ms_max = ms(sums.max_ns),
            urgent,
            high,
            normal,
            low,
            not_delivered = sums.not_delivered,
            "Batch processed"
        );
    }
}

//! A histogram of durations with a bounded error, and a rate over the last seconds.

use crate::time::{Nanos, NS_PER_MS};

/// Buckets per doubling: a value is known to 1/16, about 6 %.
const SUB_BUCKETS: usize = 16;
/// From 1 µs (bucket 0) to 2^26 µs, over a minute; longer ones count in the last.
const DOUBLINGS: usize = 26;
const BUCKETS: usize = SUB_BUCKETS * (DOUBLINGS + 1);
/// Percentiles are of the last one to two of these.
const WINDOW_MS: u64 = 10_000;

/// Durations of the last ten to twenty seconds: two halves, the older dropped as a whole.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: [Box<[u32; BUCKETS]>; 2],
    sum_ns: [u64; 2],
    started: Nanos,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: [Box::new([0; BUCKETS]), Box::new([0; BUCKETS])],
            sum_ns: [0; 2],
            started: Nanos(0),
        }
    }
}

impl Histogram {
    /// Adds a duration.
    pub fn record(&mut self, ns: u64, now: Nanos) {
        self.rotate(now);
        let count = &mut self.counts[0][bucket(ns)];
        *count = count.saturating_add(1);
        self.sum_ns[0] = self.sum_ns[0].saturating_add(ns);
    }

    /// How many durations it holds.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().flat_map(|half| half.iter()).map(|n| u64::from(*n)).sum()
    }

    /// The mean in ms; 0 without durations.
    #[must_use]
    pub fn mean_ms(&self) -> f64 {
        let sum: u64 = self.sum_ns.iter().sum();
        let count = self.count().max(1);
        ns_to_ms(sum) / count as f64
    }

    /// The least duration, in ms, that so many percent do not exceed; `None` without durations.
    #[must_use]
    pub fn percentile_ms(&self, percent: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((percent / 100.0 * count as f64).ceil() as u64).clamp(1, count);
        let mut seen = 0;
        for index in 0..BUCKETS {
            seen += self.counts.iter().map(|half| u64::from(half[index])).sum::<u64>();
            if seen >= rank {
                return Some(ns_to_ms(upper_us(index) * 1_000));
            }
        }
        None
    }

    /// Drops what is too old.
    pub fn rotate(&mut self, now: Nanos) {
        let passed = now.since_ms(self.started) / WINDOW_MS;
        for _ in 0..passed.min(2) {
            self.counts.swap(0, 1);
            self.counts[0].fill(0);
            self.sum_ns = [0, self.sum_ns[0]];
        }
        self.started = self.started.plus_ms(passed * WINDOW_MS);
    }
}

fn ns_to_ms(ns: u64) -> f64 {
    ns as f64 / NS_PER_MS as f64
}

fn bucket(ns: u64) -> usize {
    let us = ns / 1_000;
    if us < SUB_BUCKETS as u64 {
        return us as usize;
    }
    let doubling = us.ilog2() as usize - 4;
    let sub = (us >> doubling) as usize - SUB_BUCKETS;
    ((doubling + 1) * SUB_BUCKETS + sub).min(BUCKETS - 1)
}

/// The largest value of a bucket, in µs.
fn upper_us(bucket: usize) -> u64 {
    let (doubling, sub) = (bucket / SUB_BUCKETS, (bucket % SUB_BUCKETS) as u64);
    match doubling.checked_sub(1) {
        None => sub,
        Some(shift) => ((SUB_BUCKETS as u64 + sub + 1) << shift) - 1,
    }
}

/// Slots of a quarter of a second each.
const RATE_SLOTS: usize = 17;
const SLOT_MS: u64 = 250;

/// Events per second over the last four seconds.
#[derive(Debug, Clone, Default)]
pub struct RateMeter {
    slots: [u64; RATE_SLOTS],
    /// The number of the slot written last.
    at: u64,
    /// When the first event came.
    first: Option<Nanos>,
}

impl RateMeter {
    /// Counts events.
    pub fn add(&mut self, events: u64, now: Nanos) {
        self.first.get_or_insert(now);
        self.advance(now);
        self.slots[(self.at % RATE_SLOTS as u64) as usize] += events;
    }

    /// Events per second; over a shorter time if the first came less than four seconds ago, but not
    /// over less than a quarter of one.
    #[must_use]
    pub fn per_second(&self, now: Nanos) -> f64 {
        let Some(first) = self.first else { return 0.0 };
        let mut copy = self.clone();
        copy.advance(now);
        let events: u64 = copy.slots.iter().sum();
        // The slots hold the running quarter and the sixteen before it.
        let covered_ms = (RATE_SLOTS as u64 - 1) * SLOT_MS + now.get() / NS_PER_MS % SLOT_MS;
        let span_ms = now.since_ms(first).clamp(SLOT_MS, covered_ms);
        events as f64 * 1_000.0 / span_ms as f64
    }

    fn advance(&mut self, now: Nanos) {
        let slot = now.get() / NS_PER_MS / SLOT_MS;
        let stale = slot.saturating_sub(self.at).min(RATE_SLOTS as u64);
        for step in 1..=stale {
            self.slots[((self.at + step) % RATE_SLOTS as u64) as usize] = 0;
        }
        if stale == RATE_SLOTS as u64 {
            self.slots = [0; RATE_SLOTS];
        }
        self.at = self.at.max(slot);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percentiles_and_mean_are_those_of_what_was_recorded() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile_ms(50.0), None);
        for ms in 1..=100 {
            histogram.record(ms * NS_PER_MS, Nanos(0));
        }
        let near = |value: f64, expected: f64| (value - expected).abs() / expected < 0.07;
        assert!(near(histogram.percentile_ms(50.0).unwrap(), 50.0));
        assert!(near(histogram.percentile_ms(99.0).unwrap(), 99.0));
        assert!(near(histogram.mean_ms(), 50.5));
    }

    #[test]
    fn what_is_older_than_two_windows_is_gone() {
        let mut histogram = Histogram::default();
        histogram.record(NS_PER_MS, Nanos::from_ms(9_999));
        histogram.rotate(Nanos::from_ms(19_999));
        assert_eq!(histogram.count(), 1);
        histogram.rotate(Nanos::from_ms(20_000));
        assert_eq!(histogram.count(), 0);
        histogram.record(NS_PER_MS, Nanos::from_ms(1_000_000));
        assert_eq!(histogram.count(), 1);
    }

    #[test]
    fn a_steady_rate_reads_as_it_is_and_fades_to_nothing() {
        let mut meter = RateMeter::default();
        for ms in 0..10_000 {
            meter.add(1, Nanos::from_ms(ms));
            if ms > 500 {
                let rate = meter.per_second(Nanos::from_ms(ms));
                assert!((rate - 1_000.0).abs() < 5.0, "{rate} at {ms} ms");
            }
        }
        assert!(meter.per_second(Nanos::from_ms(20_000)).abs() < f64::EPSILON);
    }

    proptest! {
        #[test]
        fn a_duration_lies_in_its_bucket(us in 0u64..60_000_000) {
            let index = bucket(us * 1_000);
            prop_assert!(us <= upper_us(index));
            prop_assert!(index == 0 || us > upper_us(index - 1));
            prop_assert!(upper_us(index) - us <= us / 16);
        }
    }
}

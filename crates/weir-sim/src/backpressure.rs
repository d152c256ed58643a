//! The backpressure controller of spec 004: what a sender does when the records it has not had answered
//! fill its queue.

use crate::random::Random;

/// The part of the queue above which it acts; the specification's.
pub const UTILIZATION_MAX: f64 = 0.8;
/// The longest that a throttled sender rests between two batches.
const REST_MS_MAX: f64 = 20.0;

/// Decides about records by how full the queue is. Without rates it does nothing: a full queue is waited for.
#[derive(Debug, Clone)]
pub struct BackpressureController {
    /// Records that the queue holds at most.
    max_queue_size: u64,
    /// Chance that a record is dropped while the queue is too full.
    drop_rate: f64,
    /// How much the sender slows down then: 1 is a rest of 20 ms after each batch.
    throttle_rate: f64,
    utilization: f64,
    random: Random,
    dropped: u64,
}

impl BackpressureController {
    /// Of a queue of so many records, with chances and slowness from 0 to 1.
    pub fn new(max_queue_size: u64, drop_rate: f64, throttle_rate: f64, seed: u64) -> Self {
        let random = Random::new(seed, 0x6261_636b); // "back"
        Self { max_queue_size, drop_rate, throttle_rate, utilization: 0.0, random, dropped: 0 }
    }

    /// Takes note of how many records are in the queue.
    pub fn observe(&mut self, queued: u64) {
        self.utilization = queued as f64 / self.max_queue_size.max(1) as f64;
    }

    /// Whether the next record is dropped; counts those that are.
    #[inline]
    pub fn should_drop(&mut self) -> bool {
        let drops = self.utilization > UTILIZATION_MAX
            && self.drop_rate > 0.0
            && self.random.chance(self.drop_rate);
        self.dropped += u64::from(drops);
        drops
    }

    /// How long the sender rests after this batch, in milliseconds; `None`: not at all.
    pub fn rest_ms(&self) -> Option<u64> {
        let rests = self.utilization > UTILIZATION_MAX && self.throttle_rate > 0.0;
        rests.then(|| (REST_MS_MAX * self.throttle_rate).ceil() as u64)
    }

    /// Records dropped.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_drops_its_share_above_four_fifths_and_nothing_below() {
        let mut controller = BackpressureController::new(1_000, 0.3, 0.5, 1);
        let mut drops = |queued: u64| {
            controller.observe(queued);
            (0..10_000).filter(|_| controller.should_drop()).count()
        };
        assert_eq!(drops(800), 0);
        let dropped = drops(801);
        assert!((2_770..3_230).contains(&dropped), "{dropped}");
        assert_eq!(drops(0), 0);
        assert_eq!(controller.dropped(), dropped as u64);
    }

    #[test]
    fn without_rates_it_waits_and_drops_nothing() {
        let mut controller = BackpressureController::new(10, 0.0, 0.0, 1);
        controller.observe(1_000);
        assert!(!(0..1_000).any(|_| controller.should_drop()));
        assert_eq!(controller.rest_ms(), None);
        let mut slow = BackpressureController::new(10, 0.0, 0.5, 1);
        slow.observe(9);
        assert_eq!(slow.rest_ms(), Some(10));
        slow.observe(8);
        assert_eq!(slow.rest_ms(), None);
    }
}

//! GCRA, the generic cell rate algorithm (ITU-T I.371): a rate limit kept in one timestamp.
//!
//! A fixed window passes twice its limit around its edge; a token bucket needs refilling. GCRA keeps
//! the *theoretical arrival time* (TAT) of the next cell and lets a cell through if the TAT is at most
//! `burst` cells ahead of now.
//!
//! # The bound
//! In any window of `w` seconds at most `rate * w + burst` cells pass. Tested at 1, 999, 1,001, 5,000
//! and 1,000,000 per second.
//!
//! Time is kept in units of `1 / events` nanoseconds, so that the interval between two cells is a
//! whole number for every rate: the limiter rounds nothing, at no rate.

use crate::time::Nanos;

/// So many events per so much time, and how many may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Events per `window_ns`; at least 1.
    pub events: u64,
    /// The window in nanoseconds; at least 1.
    pub window_ns: u64,
    /// Cells that pass at once after a pause; at least 1.
    pub burst: u64,
}

/// A limiter of one rate.
#[derive(Debug, Clone)]
pub struct RateLimiter {
    rate: Rate,
    /// TAT in units of `1 / rate.events` ns.
    tat: u128,
}

impl RateLimiter {
    /// A limiter that has let nothing through yet. Zeros in `rate` count as 1.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate: at_least_one(rate), tat: 0 }
    }

    /// The rate it keeps.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// How many cells conform now, at most `rate().burst`.
    #[must_use]
    pub fn available(&self, now: Nanos) -> u64 {
        let ahead = self.tat.saturating_sub(self.scaled(now));
        let room = self.tolerance().saturating_sub(ahead);
        u64::try_from(room / u128::from(self.rate.window_ns))
            .unwrap_or(u64::MAX)
            .min(self.rate.burst)
    }

    /// Lets `cells` through if all of them conform, else none.
    pub fn try_take(&mut self, cells: u64, now: Nanos) -> bool {
        if cells > self.available(now) {
            return false;
        }
        let now = self.scaled(now);
        self.tat = self.tat.max(now) + u128::from(cells) * u128::from(self.rate.window_ns);
        debug_assert!(self.tat - now <= self.tolerance(), "more than a burst ahead");
        true
    }

    /// The first moment at which `cells` conform; more than a burst never do at once, so they count as one burst.
    #[must_use]
    pub fn when(&self, cells: u64, now: Nanos) -> Nanos {
        let cells = u128::from(cells.min(self.rate.burst));
        let need = self.tat + cells * u128::from(self.rate.window_ns);
        let at = need.saturating_sub(self.tolerance()).div_ceil(u128::from(self.rate.events));
        Nanos(u64::try_from(at).unwrap_or(u64::MAX)).max(now)
    }

    /// Changes the rate from now on. What has passed stays charged at the old rate, up to the new burst.
    pub fn set_rate(&mut self, rate: Rate, now: Nanos) {
        let rate = at_least_one(rate);
        let debt = self.tat.saturating_sub(self.scaled(now)) / u128::from(self.rate.window_ns);
        self.rate = rate;
        let debt = debt.min(u128::from(rate.burst));
        self.tat = self.scaled(now) + debt * u128::from(rate.window_ns);
    }

    fn scaled(&self, at: Nanos) -> u128 {
        u128::from(at.get()) * u128::from(self.rate.events)
    }

    /// How far the TAT may run ahead of now: `burst` intervals.
    fn tolerance(&self) -> u128 {
        u128::from(self.rate.burst) * u128::from(self.rate.window_ns)
    }
}

fn at_least_one(rate: Rate) -> Rate {
    Rate { events: rate.events.max(1), window_ns: rate.window_ns.max(1), burst: rate.burst.max(1) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;
    const RATES: [u64; 5] = [1, 999, 1_001, 5_000, 1_000_000];

    fn limiter(events: u64, burst: u64) -> RateLimiter {
        RateLimiter::new(Rate { events, window_ns: SECOND_NS, burst })
    }

    /// Asks for a cell at every moment of `asks`; the moments at which one passed.
    fn passed(limiter: &mut RateLimiter, asks: impl Iterator<Item = u64>) -> Vec<u64> {
        asks.filter(|&at| limiter.try_take(1, Nanos(at))).collect()
    }

    /// Panics if some window holds more than `rate * w + burst`: only windows from one pass to another matter.
    fn check_windows(passed: &[u64], events: u64, burst: u64) {
        for (first, &start) in passed.iter().enumerate() {
            for (last, &end) in passed.iter().enumerate().skip(first) {
                let count = u128::try_from(last - first + 1).unwrap();
                let allowed = u128::from(end - start) * u128::from(events) / u128::from(SECOND_NS);
                assert!(count <= allowed + u128::from(burst), "{count} in {} ns", end - start);
            }
        }
    }

    #[test]
    fn a_greedy_caller_gets_the_rate_to_the_nanosecond() {
        for events in RATES {
            let mut limiter = limiter(events, 1);
            let mut now = Nanos(0);
            for _ in 0..2_000 {
                now = limiter.when(1, now);
                assert!(limiter.try_take(1, now), "{events}/s at {now:?}");
            }
            // 2,000 cells, the first at 0: the last at 1,999 intervals. A caller that comes at a whole
            // ns comes late by less than one each time, and with a burst of one that is lost.
            let exact = 1_999 * u128::from(SECOND_NS) / u128::from(events);
            let late = u128::from(now.get()).checked_sub(exact);
            assert!(late.is_some_and(|ns| ns <= 2_000), "{events}/s: {late:?} ns");
        }
    }

    #[test]
    fn a_cell_before_its_time_does_not_pass() {
        for events in RATES {
            let mut limiter = limiter(events, 1);
            assert!(limiter.try_take(1, Nanos(SECOND_NS)));
            let next = limiter.when(1, Nanos(SECOND_NS));
            assert!(!limiter.try_take(1, Nanos(next.get() - 1)), "{events}/s");
            assert!(limiter.try_take(1, next), "{events}/s");
        }
    }

    #[test]
    fn a_fixed_windows_edge_passes_no_double_load() {
        let mut limiter = limiter(1_000, 1);
        let around_the_edge = (0..20_000).map(|step| SECOND_NS - 10_000_000 + step * 1_000);
        let count = passed(&mut limiter, around_the_edge).len();
        assert!((20..=21).contains(&count), "20 ms at 1,000/s: {count}");
    }

    #[test]
    fn more_than_a_burst_never_conforms() {
        let mut limiter = limiter(1_000, 50);
        assert_eq!(limiter.available(Nanos(u64::MAX)), 50);
        assert!(!limiter.try_take(51, Nanos(u64::MAX)));
        assert!(limiter.try_take(50, Nanos(0)));
        assert_eq!(limiter.when(50, Nanos(0)), Nanos::from_ms(50));
        assert_eq!(limiter.when(500, Nanos(0)), Nanos::from_ms(50));
    }

    #[test]
    fn a_new_rate_holds_from_now_and_forgives_nothing_of_a_burst() {
        let mut limiter = limiter(10, 5);
        assert!(limiter.try_take(5, Nanos(0)));
        limiter.set_rate(Rate { events: 1_000, window_ns: SECOND_NS, burst: 5 }, Nanos(0));
        assert_eq!(limiter.available(Nanos(0)), 0);
        assert_eq!(limiter.when(1, Nanos(0)), Nanos::from_ms(1));
        limiter.set_rate(Rate { events: 1, window_ns: SECOND_NS, burst: 2 }, Nanos::from_ms(5));
        assert_eq!(limiter.available(Nanos::from_ms(5)), 2);
    }

    proptest! {
        #[test]
        fn no_window_holds_more_than_rate_and_burst(
            rate in prop::sample::select(RATES.to_vec()),
            burst in 1u64..20,
            gaps in prop::collection::vec(0u64..4_000, 1..300),
            scale in 1u64..2_000,
        ) {
            let mut limiter = limiter(rate, burst);
            let mut now = 0;
            // Gaps are in 1/1000 of the rate's own interval, so that every rate is both met and missed.
            let unit = (SECOND_NS / rate / 1_000).max(1) * scale / 500;
            let asks = gaps.into_iter().map(|gap| { now += gap * unit / 4; now });
            let passed = passed(&mut limiter, asks);
            check_windows(&passed, rate, burst);
        }

        #[test]
        fn when_is_the_first_moment_that_conforms(
            rate in prop::sample::select(RATES.to_vec()),
            burst in 1u64..100,
            takes in prop::collection::vec((1u64..100, 0u64..3_000_000), 1..50),
        ) {
            let mut limiter = limiter(rate, burst);
            let mut now = Nanos(0);
            for (cells, gap) in takes {
                now = now.plus_ns(gap);
                let cells = cells.min(burst);
                let at = limiter.when(cells, now);
                if at > now {
                    prop_assert!(limiter.available(Nanos(at.get() - 1)) < cells);
                }
                now = at;
                prop_assert!(limiter.try_take(cells, now));
            }
        }
    }
}

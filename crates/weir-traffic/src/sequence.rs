//! Numbers events in the order in which they are admitted.

/// Microseconds since 1970, or one more than the last number: strictly rising within a process and,
/// while the clock does not go back, over restarts. So a reader sees from the numbers of one device
/// whether an urgent event overtook others, without a counter per device in memory.
///
/// It belongs under the lock under which events are admitted: within a key and class, records then lie
/// in the order of their numbers.
#[derive(Debug, Default)]
pub struct Sequence {
    last: i64,
}

impl Sequence {
    /// The number of an event taken at this time.
    pub fn next(&mut self, timestamp_ms: i64) -> i64 {
        self.last = timestamp_ms.saturating_mul(1_000).max(self.last.saturating_add(1));
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_strictly_even_when_the_clock_stands_or_goes_back() {
        let mut sequence = Sequence::default();
        let numbers = [5, 5, 5, 4, 9].map(|ms| sequence.next(ms));
        assert_eq!(numbers, [5_000, 5_001, 5_002, 5_003, 9_000]);
    }
}

//! A histogram of latencies: counts in buckets 1/32 of a doubling wide, so a quantile is off by 3 % at most.

/// Buckets of one doubling.
const STEPS: usize = 32;
const STEP_BITS: u32 = 5;
/// Enough for any 64-bit value.
const BUCKETS: usize = (64 - STEP_BITS as usize + 1) * STEPS;

/// Counts of values in microseconds. 15 kB.
#[derive(Debug, Clone)]
pub struct Latencies {
    buckets: Vec<u64>,
    count: u64,
    sum_us: u128,
    max_us: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0, sum_us: 0, max_us: 0 }
    }
}

impl Latencies {
    /// Counts `count` values of `us` microseconds.
    pub fn record(&mut self, us: u64, count: u64) {
        self.buckets[bucket(us)] += count;
        self.count += count;
        self.sum_us += u128::from(us) * u128::from(count);
        self.max_us = self.max_us.max(if count > 0 { us } else { 0 });
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(mine, theirs)| *mine += theirs);
        self.count += other.count;
        self.sum_us += other.sum_us;
        self.max_us = self.max_us.max(other.max_us);
    }

    /// How many values.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The greatest.
    pub const fn max_us(&self) -> u64 {
        self.max_us
    }

    /// Their mean; `None` if there are none.
    pub fn mean_us(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum_us as f64 / self.count as f64)
    }

    /// How many values are at most `us`, to the width of a bucket.
    pub fn at_most(&self, us: u64) -> u64 {
        self.buckets[..=bucket(us)].iter().sum()
    }

    /// The value that this share of all is not above, 0 to 1; `None` if there are none.
    pub fn quantile_us(&self, share: f64) -> Option<u64> {
        let rank = (share.clamp(0.0, 1.0) * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let at = self.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(upper_bound(at).min(self.max_us))
    }
}

fn bucket(us: u64) -> usize {
    if us < STEPS as u64 {
        return us as usize;
    }
    let doubling = us.ilog2() - STEP_BITS;
    (doubling as usize + 1) * STEPS + (us >> doubling) as usize - STEPS
}

/// The greatest value of a bucket.
fn upper_bound(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let (doubling, step) = (bucket / STEPS - 1, bucket % STEPS);
    let low = ((STEPS + step) as u64) << doubling;
    low + ((1_u64 << doubling) - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_quantile_is_off_by_a_thirtieth_at_most(
            mut values in proptest::collection::vec(any::<u64>().prop_map(|v| v >> (v % 64)), 1..200),
            share in 0.0_f64..=1.0,
        ) {
            let (mut whole, mut half) = (Latencies::default(), Latencies::default());
            for (n, value) in values.iter().enumerate() {
                if n % 2 == 0 { whole.record(*value, 1) } else { half.record(*value, 1) }
            }
            whole.merge(&half);
            values.sort_unstable();
            let rank = ((share * values.len() as f64).ceil() as usize).max(1);
            let exact = values[rank - 1];
            let told = whole.quantile_us(share).unwrap();
            prop_assert!(told >= exact && told - exact <= exact / 32, "{told} for {exact}");
            prop_assert_eq!(whole.count(), values.len() as u64);
            prop_assert_eq!(whole.at_most(u64::MAX), values.len() as u64);
            prop_assert!(whole.at_most(exact) >= rank as u64);
            prop_assert_eq!(whole.max_us(), values[values.len() - 1]);
        }
    }

    #[test]
    fn without_values_there_is_no_quantile() {
        assert_eq!(Latencies::default().quantile_us(0.5), None);
        assert_eq!(Latencies::default().mean_us(), None);
    }
}

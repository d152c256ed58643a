//! Random messages for tests, from a seed.

use bytes::Bytes;

use crate::primitive::Layout;
use crate::types::{Str, Uuid};

/// SplitMix64: enough for test data, and the same everywhere from the same seed.
#[derive(Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// A random value of a field.
pub(crate) trait Sample: Sized {
    fn sample(random: &mut Random, layout: Layout) -> Self;
}

macro_rules! sample_numbers {
    ($($type:ty)+) => {$(
        impl Sample for $type {
            /// Mostly small, sometimes any, and the values that Kafka has as defaults.
            fn sample(random: &mut Random, _: Layout) -> Self {
                match random.below(8) {
                    0 | 1 => random.next() as i64 as $type,
                    2 => -1_i8 as $type,
                    3 => <$type>::MAX,
                    _ => random.below(300) as $type,
                }
            }
        }
    )+};
}

sample_numbers! { i8 i16 u16 i32 i64 f64 }

impl Sample for bool {
    fn sample(random: &mut Random, _: Layout) -> Self {
        random.below(2) == 1
    }
}

impl Sample for Uuid {
    fn sample(random: &mut Random, _: Layout) -> Self {
        let id = u128::from(random.next()) << 64 | u128::from(random.next());
        Self(id.to_be_bytes())
    }
}

impl Sample for Str {
    fn sample(random: &mut Random, _: Layout) -> Self {
        const LETTERS: [&str; 6] = ["a", "B", "7", ".", "é", "流"];
        let count = if random.below(8) == 0 { 150 } else { random.below(12) };
        let text: String = (0..count).map(|_| LETTERS[random.below(LETTERS.len())]).collect();
        Self::from(text)
    }
}

impl Sample for Bytes {
    /// Sometimes long enough to become a segment of its own.
    fn sample(random: &mut Random, _: Layout) -> Self {
        let count = if random.below(4) == 0 { 1024 + random.below(9) } else { random.below(40) };
        (0..count).map(|_| random.next() as u8).collect()
    }
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(random: &mut Random, layout: Layout) -> Self {
        let count = random.below(4);
        (0..count).map(|_| T::sample(random, Layout { nullable: false, ..layout })).collect()
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(random: &mut Random, layout: Layout) -> Self {
        (!layout.nullable || random.below(3) > 0).then(|| T::sample(random, layout))
    }
}

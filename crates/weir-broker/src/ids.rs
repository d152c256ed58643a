//! [`IdSource`]: unique ids without reading the machine's randomness in the core.

use weir_protocol::Uuid;

/// Makes ids from a seed: SplitMix64 twice (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
///
/// Ids are unique, not secret: as unique as the seeds of all starts are.
#[derive(Debug)]
pub(crate) struct IdSource {
    low: u64,
    high: u64,
}

impl IdSource {
    /// The ids of this seed.
    #[must_use]
    pub(crate) fn new(seed: u128) -> Self {
        Self { low: seed as u64, high: (seed >> 64) as u64 }
    }

    /// A version 4 UUID. Never one that Kafka reserves (its first 100), and never one whose text begins with `-`, which
    /// tools would take for an option, as Kafka's `Uuid.randomUuid`.
    pub(crate) fn uuid(&mut self) -> Uuid {
        loop {
            let bits = (u128::from(split_mix(&mut self.high)) << 64)
                | u128::from(split_mix(&mut self.low));
            let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
            let id = Uuid(bits.to_be_bytes());
            if !id.to_string().starts_with('-') {
                return id;
            }
        }
    }

    /// Any number.
    pub(crate) fn number(&mut self) -> u64 {
        split_mix(&mut self.low)
    }

    /// A UUID as Java's `UUID.toString` writes it, which member ids end with.
    pub(crate) fn java_uuid(&mut self) -> String {
        let hex: String = self.uuid().0.iter().map(|byte| format!("{byte:02x}")).collect();
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
        format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
    }
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_differ_and_are_version_4() {
        let mut ids = IdSource::new(7);
        let made: BTreeSet<Uuid> = (0..10_000).map(|_| ids.uuid()).collect();
        assert_eq!(made.len(), 10_000);
        assert!(made.iter().all(|id| id.0[6] >> 4 == 4 && id.0[8] >> 6 == 2));
        let text = ids.java_uuid();
        assert_eq!((text.len(), text.as_bytes()[14]), (36, b'4'));
    }
}

//! Which partition a record goes to.
//!
//! All producers of a topic must agree, or order per key is lost between them: murmur2 is what Java,
//! Kafka Streams and others use; FNV-1a is Sarama's.

/// How a record without an explicit partition finds one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Partitioner {
    /// Java's default: murmur2 of the key; null keys stick to one partition per batch (KIP-480).
    #[default]
    Murmur2,
    /// Sarama's `HashPartitioner`: 32-bit FNV-1a of the key, negative turned positive; null keys as
    /// above.
    Fnv1a,
    /// Each record to the next partition, whatever its key: no order per key.
    RoundRobin,
}

impl Partitioner {
    /// The partition of a record with this key, or `None` if the key does not decide.
    ///
    /// `partitions` must be positive.
    pub fn partition(self, key: Option<&[u8]>, partitions: i32) -> Option<i32> {
        debug_assert!(partitions > 0, "a topic has partitions");
        match (self, key) {
            (Partitioner::Murmur2, Some(key)) => Some(to_positive(murmur2(key)) % partitions),
            (Partitioner::Fnv1a, Some(key)) => Some(fnv1a_partition(key, partitions)),
            (_, None) | (Partitioner::RoundRobin, _) => None,
        }
    }
}

/// Kafka's murmur2 (`org.apache.kafka.common.utils.Utils.murmur2`), with its seed.
pub fn murmur2(data: &[u8]) -> i32 {
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    const SEED: u32 = 0x9747_b28c;
    // Java's length is an int; a key is far smaller.
    let mut hash = SEED ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        k = k.wrapping_mul(M);
        k ^= k >> R;
        k = k.wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let tail = words.remainder();
    if let [_, _, c] = tail {
        hash ^= u32::from(*c) << 16;
    }
    if let [_, b, ..] = tail {
        hash ^= u32::from(*b) << 8;
    }
    if let [a, ..] = tail {
        hash ^= u32::from(*a);
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^= hash >> 15;
    hash as i32
}

/// Java's `Utils.toPositive`: clears the sign bit, which is not the absolute value.
pub const fn to_positive(hash: i32) -> i32 {
    hash & 0x7fff_ffff
}

/// 32-bit FNV-1a, as Go's `hash/fnv.New32a`.
pub fn fnv1a(data: &[u8]) -> u32 {
    data.iter().fold(0x811c_9dc5, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Sarama's `hashPartitioner.Partition`: the remainder of the hash as a signed number, negated if
/// negative.
pub fn fnv1a_partition(key: &[u8], partitions: i32) -> i32 {
    let partition = (fnv1a(key) as i32).wrapping_rem(partitions);
    if partition < 0 {
        -partition
    } else {
        partition
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The vectors of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_equals_java() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        }
    }

    /// `to_positive(murmur2(key)) % n` of librdkafka's test 0048 and Java alike.
    #[test]
    fn murmur2_partitions_are_those_of_java() {
        let check = |key: &[u8], n, expect| {
            assert_eq!(Partitioner::Murmur2.partition(Some(key), n), Some(expect));
        };
        check(b"foobar", 1_000, (-790_332_482_i32 & 0x7fff_ffff) % 1_000);
        check(b"abc", 12, 479_470_107 % 12);
        check(b"", 3, to_positive(murmur2(b"")) % 3);
        assert_eq!(murmur2(b""), 275_646_681);
    }

    /// Vectors of the FNV reference (isthe.com/chongo/src/fnv/test_fnv.c).
    #[test]
    fn fnv1a_equals_the_reference() {
        for (key, hash) in
            [("", 0x811c_9dc5_u32), ("a", 0xe40c_292c), ("b", 0xe70c_2de5), ("foobar", 0xbf9c_f968)]
        {
            assert_eq!(fnv1a(key.as_bytes()), hash, "{key}");
        }
    }

    /// 0xbf9cf968 as a signed number is -1,080,231,576: Go's remainder keeps the sign, Sarama turns
    /// it. An unsigned remainder would give another partition.
    #[test]
    fn fnv1a_partitions_are_those_of_sarama() {
        assert_eq!(fnv1a_partition(b"foobar", 12), 1_080_231_576 % 12);
        assert_eq!(fnv1a_partition(b"foobar", 7), 1_080_231_576 % 7);
        assert_ne!(fnv1a_partition(b"foobar", 7), (0xbf9c_f968_u32 % 7) as i32);
        // From Sarama's partitioner_test.go, TestHashPartitionerMinInt32: a hash of exactly -2^31.
        let min_int32 = b"1468509572224";
        assert_eq!(fnv1a(min_int32), 1 << 31);
        assert_eq!(fnv1a_partition(min_int32, 50), 48);
    }

    #[test]
    fn null_keys_do_not_decide() {
        assert_eq!(Partitioner::Murmur2.partition(None, 3), None);
        assert_eq!(Partitioner::Fnv1a.partition(None, 3), None);
        assert_eq!(Partitioner::RoundRobin.partition(Some(b"k"), 3), None);
    }

    proptest! {
        #[test]
        fn partitions_are_in_range(key: Vec<u8>, n in 1..10_000_i32) {
            for partitioner in [Partitioner::Murmur2, Partitioner::Fnv1a] {
                let partition = partitioner.partition(Some(&key), n);
                prop_assert!(partition.is_some_and(|p| (0..n).contains(&p)));
            }
        }
    }
}

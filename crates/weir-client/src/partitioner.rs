//! Which partition a record goes to.
//!
//! All producers of a topic must agree, or order per key is lost between them: murmur2 is what Java,
//! Kafka Streams and others use; FNV-1a is Sarama's; CRC-32 is librdkafka's.
//!
//! Where the key decides, it decides alone: a partition without a leader is waited for. Only records
//! whose key does not decide pass over partitions that are out of reach or full. When partitions are
//! added, keys map to the new number from the next record on; see [`PartitionGrowth`].

use std::fmt;
use std::sync::Arc;

use crate::record::Record;

/// How a record without an explicit partition finds one.
#[derive(Debug, Clone, Default)]
pub enum Partitioner {
    /// Java's default: murmur2 of the key; null keys stick to one partition per batch (KIP-480).
    #[default]
    Murmur2,
    /// Sarama's `HashPartitioner`: 32-bit FNV-1a of the key, negative turned positive; null keys as
    /// above.
    Fnv1a,
    /// librdkafka's default, `consistent_random`: CRC-32 of the key; null and empty keys as null keys
    /// above.
    Crc32,
    /// Each record to the next partition, whatever its key: no order per key.
    RoundRobin,
    /// One partition per batch, whatever the key (`partitioner.ignore.keys`): no order per key.
    Sticky,
    /// murmur2 of the last header of this name, so that a tenant's records stay together; records
    /// without it as `Murmur2`.
    Header(Arc<str>),
    /// The program's own.
    Custom(Arc<dyn Partition>),
}

/// A partitioner of the program.
pub trait Partition: Send + Sync + fmt::Debug {
    /// The partition of the record, from 0 up to `partitions`, or `None` if any will do; then one that
    /// has a leader and room is taken. One that does not exist is refused
    /// ([`crate::ProduceError::NoSuchPartition`]). A value that is written in place is not there yet: it
    /// sees none. Called again if the topic gets more partitions meanwhile. No lock of the producer is
    /// held.
    fn partition(&self, record: &Record<'_>, partitions: i32) -> Option<i32>;
}

/// What happens to keys when a topic gets more partitions while a producer runs. They map to the new
/// number from the next record on either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PartitionGrowth {
    /// Records appended before the change are answered before any appended after it is sent, so that
    /// the records of a key are written in order though they are in two partitions. A partition that
    /// stands still at that time holds back the topic, at most for the delivery timeout.
    #[default]
    KeepOrder,
    /// Later records are sent at once, as Java and librdkafka do.
    AtOnce,
}

impl Partitioner {
    /// The partition of a record, or `None` if any will do. `partitions` must be positive.
    #[inline]
    pub fn choose(&self, record: &Record<'_>, partitions: i32) -> Option<i32> {
        match self {
            Partitioner::Murmur2
            | Partitioner::Fnv1a
            | Partitioner::Crc32
            | Partitioner::RoundRobin
            | Partitioner::Sticky => self.partition(record.key, partitions),
            Partitioner::Header(name) => by_header(record, name, partitions),
            Partitioner::Custom(custom) => custom.partition(record, partitions),
        }
    }

    /// The partition of a record with this key and no header, or `None` if the key does not decide.
    ///
    /// `partitions` must be positive.
    #[inline]
    pub fn partition(&self, key: Option<&[u8]>, partitions: i32) -> Option<i32> {
        debug_assert!(partitions > 0, "a topic has partitions");
        match (self, key) {
            (Partitioner::Murmur2 | Partitioner::Header(_), Some(key)) => {
                Some(to_positive(murmur2(key)) % partitions)
            }
            (Partitioner::Fnv1a, Some(key)) => Some(fnv1a_partition(key, partitions)),
            (Partitioner::Crc32, Some(key)) if !key.is_empty() => {
                // The remainder of a positive `i32` fits in one.
                Some((crc32(key) % partitions.unsigned_abs()) as i32)
            }
            (Partitioner::Custom(custom), key) => {
                custom.partition(&Record { key, ..Record::default() }, partitions)
            }
            _ => None,
        }
    }

    /// Whether it is the program's own.
    pub(crate) fn custom(&self) -> Option<&Arc<dyn Partition>> {
        match self {
            Partitioner::Custom(custom) => Some(custom),
            _ => None,
        }
    }

    /// Whether each record moves on to the next partition.
    pub(crate) fn takes_turns(&self) -> bool {
        matches!(self, Partitioner::RoundRobin)
    }

    /// The partitioner of this name: `murmur2`, `fnv1a`, `crc32`, `round_robin`, `sticky`, or
    /// `header:NAME`.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "murmur2" => Partitioner::Murmur2,
            "fnv1a" => Partitioner::Fnv1a,
            "crc32" => Partitioner::Crc32,
            "round_robin" => Partitioner::RoundRobin,
            "sticky" => Partitioner::Sticky,
            other => Partitioner::Header(
                other.strip_prefix("header:").filter(|name| !name.is_empty())?.into(),
            ),
        })
    }
}

fn by_header(record: &Record<'_>, name: &str, partitions: i32) -> Option<i32> {
    let header = record.headers.iter().rev().find(|header| header.key == name);
    let deciding = header.and_then(|header| header.value).or(record.key)?;
    Some(to_positive(murmur2(deciding)) % partitions)
}

/// Kafka's murmur2 (`org.apache.kafka.common.utils.Utils.murmur2`), with its seed.
#[inline]
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

/// CRC-32 of zlib and of Ethernet, reflected, as librdkafka's `rd_crc32`.
pub fn crc32(data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut crc = byte as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
                bit += 1;
            }
            table[byte] = crc;
            byte += 1;
        }
        table
    };
    !data
        .iter()
        .fold(!0, |crc, &byte| TABLE[((crc ^ u32::from(byte)) & 0xff) as usize] ^ (crc >> 8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use weir_protocol::batch::Header;

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

    /// The vectors of librdkafka's test 0048 for `consistent_random` and `murmur2_random`, which leave
    /// null and empty keys to chance; `murmur2` is Java's, where only null keys are.
    #[test]
    fn crc32_and_murmur2_partitions_are_those_of_librdkafka() {
        let long: &[u8] = b"this is another string with more length to it perhaps";
        for (key, crc, murmur) in [
            (&b"23456"[..], 0xb1b4_51d7_u32, 0x058d_780f),
            (long, 0xb015_0df7, 0x4f77_03da),
            (b"hejsan", 0xd077_037e, 0x5ec1_9395),
        ] {
            assert_eq!(crc32(key), crc);
            for count in [7, 17] {
                let expected = Some((crc % count as u32) as i32);
                assert_eq!(Partitioner::Crc32.partition(Some(key), count), expected);
                let expected = Some(murmur % count);
                assert_eq!(Partitioner::Murmur2.partition(Some(key), count), expected);
            }
        }
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926, "the check value of CRC-32/ISO-HDLC");
        assert_eq!(Partitioner::Crc32.partition(Some(b""), 3), None);
    }

    #[test]
    fn null_keys_do_not_decide() {
        for name in ["murmur2", "fnv1a", "crc32", "sticky", "round_robin", "header:tenant"] {
            let partitioner = Partitioner::from_name(name).unwrap();
            assert_eq!(partitioner.partition(None, 3), None, "{name}");
        }
        assert_eq!(Partitioner::RoundRobin.partition(Some(b"k"), 3), None);
        assert_eq!(Partitioner::Sticky.partition(Some(b"k"), 3), None);
        assert!(Partitioner::from_name("header:").is_none());
        assert!(Partitioner::from_name("random").is_none());
    }

    #[test]
    fn a_header_decides_before_the_key_and_the_key_where_there_is_none() {
        let tenant = [Header { key: "tenant", value: Some(b"acme") }];
        let other = [Header { key: "Tenant", value: Some(b"acme") }];
        let partitioner = Partitioner::Header("tenant".into());
        let by_key = |key: &[u8]| Partitioner::Murmur2.partition(Some(key), 12);
        let record = Record::new("t", b"v");
        assert_eq!(partitioner.choose(&record.with_headers(&tenant), 12), by_key(b"acme"));
        let keyed = record.with_key(b"k").with_headers(&tenant);
        assert_eq!(partitioner.choose(&keyed, 12), by_key(b"acme"));
        assert_eq!(partitioner.choose(&keyed.with_headers(&other), 12), by_key(b"k"));
        assert_eq!(partitioner.choose(&record.with_headers(&other), 12), None);
    }

    #[derive(Debug)]
    struct ByLength;

    impl Partition for ByLength {
        fn partition(&self, record: &Record<'_>, partitions: i32) -> Option<i32> {
            let bytes = i32::try_from(record.value?.len()).ok()?;
            Some(bytes % partitions)
        }
    }

    #[test]
    fn a_program_may_choose_by_anything() {
        let partitioner = Partitioner::Custom(Arc::new(ByLength));
        assert_eq!(partitioner.choose(&Record::new("t", b"four"), 3), Some(1));
        assert_eq!(partitioner.choose(&Record { topic: "t", ..Record::default() }, 3), None);
    }

    proptest! {
        #[test]
        fn partitions_are_in_range(key: Vec<u8>, n in 1..10_000_i32) {
            for partitioner in [Partitioner::Murmur2, Partitioner::Fnv1a, Partitioner::Crc32] {
                let partition = partitioner.partition(Some(&key), n);
                let is_empty_crc = key.is_empty() && matches!(partitioner, Partitioner::Crc32);
                prop_assert!(is_empty_crc || partition.is_some_and(|p| (0..n).contains(&p)));
            }
        }
    }
}

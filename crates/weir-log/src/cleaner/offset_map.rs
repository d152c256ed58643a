//! [`OffsetMap`]: from a key to the last offset it was written at.
//!
//! It holds hashes of 128 bits instead of keys, so an entry takes 24 bytes whatever the key, as in
//! Kafka's `SkimpyOffsetMap`. That two keys of a log share a hash is as likely as a wrong bit in its
//! memory: with 2^32 keys, 2^-65.

use weir_protocol::Offset;

use super::sip_hash::sip_hash_128;

const ENTRY_BYTES: usize = size_of::<Entry>();
/// Kafka's `log.cleaner.io.buffer.load.factor`, in tenths.
const LOAD_TENTHS: usize = 9;
const ENTRIES_MIN: usize = 16;

/// The hash, and the offset plus one: a table that is all zeros is empty, and costs no memory before
/// it is used.
type Entry = [u64; 3];

/// Last offsets of keys, in a table that does not grow.
#[derive(Debug)]
pub(crate) struct OffsetMap {
    entries: Vec<Entry>,
    hash_key: [u64; 2],
    count: usize,
    count_max: usize,
}

/// The map holds as many keys as it may.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl OffsetMap {
    /// A map with room for `keys`, or for as many as go into `bytes_max`.
    pub(crate) fn new(keys: u64, bytes_max: u64, hash_key: [u64; 2]) -> Self {
        let limit = usize::try_from(bytes_max).unwrap_or(usize::MAX) / ENTRY_BYTES;
        let wanted = usize::try_from(keys).unwrap_or(usize::MAX);
        let wanted = wanted.saturating_mul(10).div_ceil(LOAD_TENTHS);
        let size = wanted.saturating_add(1).min(limit).max(ENTRIES_MIN);
        let count_max = size / 10 * LOAD_TENTHS + size % 10 * LOAD_TENTHS / 10;
        Self { entries: vec![[0; 3]; size], hash_key, count: 0, count_max }
    }

    /// How many keys it can hold.
    pub(crate) const fn keys_max(bytes_max: u64) -> u64 {
        bytes_max / ENTRY_BYTES as u64 * LOAD_TENTHS as u64 / 10
    }

    /// Notes that `key` was written at `offset`. The larger offset counts.
    pub(crate) fn put(&mut self, key: &[u8], offset: Offset) -> Result<(), Full> {
        let hash = sip_hash_128(self.hash_key, key);
        let at = self.find(hash);
        let is_full = self.count >= self.count_max;
        let Some(entry) = self.entries.get_mut(at) else { return Err(Full) };
        let stored = offset.next().get().unsigned_abs();
        if entry[2] == 0 {
            if is_full {
                return Err(Full);
            }
            *entry = [hash[0], hash[1], stored];
            self.count += 1;
        } else {
            entry[2] = entry[2].max(stored);
        }
        Ok(())
    }

    /// The last offset of `key`, if it is known.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Offset> {
        if self.count == 0 {
            return None;
        }
        let entry = self.entries.get(self.find(sip_hash_128(self.hash_key, key)))?;
        let stored = i64::try_from(entry[2]).unwrap_or(i64::MAX);
        (stored > 0).then(|| Offset(stored - 1))
    }

    /// Where the hash stands, or would. There is always a free place.
    fn find(&self, hash: [u64; 2]) -> usize {
        let size = self.entries.len();
        // Multiply and shift: as even as a remainder, without the division.
        let mut at = ((u128::from(hash[0]) * size as u128) >> 64) as usize;
        while let Some(entry) = self.entries.get(at) {
            if entry[2] == 0 || entry[..2] == hash {
                break;
            }
            at = if at + 1 == size { 0 } else { at + 1 };
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn it_is_a_map_until_it_is_full() {
        for (bytes_max, wanted) in [(0, 5), (24 * 100, 1000), (1 << 20, 3000)] {
            let mut map = OffsetMap::new(wanted, bytes_max, [1, 2]);
            let mut model: HashMap<Vec<u8>, i64> = HashMap::new();
            assert_eq!(map.get(b"k"), None);
            for n in 0..5000_i64 {
                let key = format!("key-{}", n * 7919 % 3001).into_bytes();
                match map.put(&key, Offset(n)) {
                    Ok(()) => drop(model.insert(key, n)),
                    Err(Full) => assert!(!model.contains_key(&key), "a known key always fits"),
                }
            }
            let full = u64::try_from(model.len()).unwrap();
            let keys_max = OffsetMap::keys_max(bytes_max).max(14).min(wanted.max(14));
            assert!(full + 2 >= keys_max.min(3001), "{full} of {keys_max}");
            for n in 0..3001 {
                let key = format!("key-{n}").into_bytes();
                assert_eq!(map.get(&key), model.get(&key).map(|n| Offset(*n)), "{n}");
            }
        }
    }

    #[test]
    fn the_larger_offset_counts() {
        let mut map = OffsetMap::new(1, 1 << 10, [0, 0]);
        map.put(b"a", Offset(0)).unwrap();
        assert_eq!(map.get(b"a"), Some(Offset(0)));
        map.put(b"a", Offset(9)).unwrap();
        map.put(b"a", Offset(3)).unwrap();
        assert_eq!(map.get(b"a"), Some(Offset(9)));
    }
}

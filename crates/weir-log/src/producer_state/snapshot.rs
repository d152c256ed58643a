//! Producer snapshots, Kafka's `ProducerSnapshot.json`: what stands in `<offset>.snapshot`.
//!
//! | bytes | field |
//! |---|---|
//! | 2 | version = 1 |
//! | 4 | CRC-32C of all that follows |
//! | 4 | number of producers |
//! | 8, 2 | producer id, epoch |
//! | 4 | last sequence |
//! | 8, 4 | last offset, last offset minus first of the last batch |
//! | 8 | when it last wrote |
//! | 4 | coordinator epoch |
//! | 8 | first offset of its open transaction, or −1 |
//!
//! It covers all offsets below the one in its name. Only the last batch of a producer is in it;
//! a clean stop writes the ones before beside it (`remembered.rs`), and any other start reads them from
//! the log (`recovery/last_batches.rs`).

use weir_protocol::{Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};

use super::{ProducerEntry, ProducerStates, WrittenBatch};

const VERSION: u16 = 1;
const CRC_END: usize = 6;
const ENTRY_BYTES: usize = 46;

/// The bytes of a snapshot. Producers stand in the order of their ids.
pub(crate) fn encode(states: &ProducerStates) -> Vec<u8> {
    let mut bytes = encode_unfinished(states);
    finish(&mut bytes);
    bytes
}

/// The bytes of a snapshot but for order and checksum, which [`finish`] gives it: under a lock there is only copying.
pub(crate) fn encode_unfinished(states: &ProducerStates) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(CRC_END + 4 + states.len() * ENTRY_BYTES);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    let count = i32::try_from(states.len()).unwrap_or(i32::MAX);
    bytes.extend_from_slice(&count.to_be_bytes());
    for (id, entry) in &states.entries {
        bytes.extend_from_slice(&encode_entry(*id, entry));
    }
    bytes
}

/// In one piece: the log's lock is held.
fn encode_entry(id: ProducerId, entry: &ProducerEntry) -> [u8; ENTRY_BYTES] {
    let last = entry.last();
    let mut bytes = [0; ENTRY_BYTES];
    let mut rest = &mut bytes[..];
    put(&mut rest, id.get().to_be_bytes());
    put(&mut rest, entry.epoch.get().to_be_bytes());
    put(&mut rest, last.map_or(-1, |last| last.last_sequence.get()).to_be_bytes());
    put(&mut rest, last.map_or(-1, |last| last.last_offset.get()).to_be_bytes());
    put(&mut rest, last.map_or(0, |last| last.offset_delta).to_be_bytes());
    put(&mut rest, entry.last_seen.get().to_be_bytes());
    put(&mut rest, entry.coordinator_epoch.to_be_bytes());
    put(&mut rest, entry.txn_first_offset.map_or(-1, Offset::get).to_be_bytes());
    debug_assert!(rest.is_empty(), "an entry has its fields");
    bytes
}

fn put<const N: usize>(rest: &mut &mut [u8], value: [u8; N]) {
    if let Some((place, after)) = std::mem::take(rest).split_first_chunk_mut() {
        *place = value;
        *rest = after;
    }
}

/// Makes a snapshot of what [`encode_unfinished`] gave.
pub(crate) fn finish(bytes: &mut [u8]) {
    if let Some(entries) = bytes.get_mut(CRC_END + 4..) {
        let (entries, rest) = entries.as_chunks_mut::<ENTRY_BYTES>();
        debug_assert!(rest.is_empty(), "a snapshot is made of whole entries");
        entries.sort_unstable_by_key(|entry| entry.first_chunk().copied().map(i64::from_be_bytes));
    }
    let crc = crc32c::crc32c(&bytes[CRC_END..]);
    bytes[2..CRC_END].copy_from_slice(&crc.to_be_bytes());
}

/// Whether a whole snapshot can have so many bytes. One that cannot was cut, or never written.
pub(crate) fn is_size(bytes: u64) -> bool {
    let entries = bytes.checked_sub(CRC_END as u64 + 4);
    entries.is_some_and(|entries| entries.is_multiple_of(ENTRY_BYTES as u64))
}

/// Reads a snapshot. `Err` says in words what is wrong with it.
pub(crate) fn decode(bytes: &[u8]) -> Result<ProducerStates, &'static str> {
    let mut rest = bytes;
    let version = take(&mut rest).map(u16::from_be_bytes).ok_or("it is cut")?;
    if version != VERSION {
        return Err("its version is not 1");
    }
    let crc = take(&mut rest).map(u32::from_be_bytes).ok_or("it is cut")?;
    if crc32c::crc32c(rest) != crc {
        return Err("its checksum is wrong");
    }
    let count = take(&mut rest).map(i32::from_be_bytes).ok_or("it is cut")?;
    if usize::try_from(count).ok().and_then(|count| count.checked_mul(ENTRY_BYTES))
        != Some(rest.len())
    {
        return Err("its size does not fit its number of producers");
    }
    let mut states = ProducerStates::default();
    for _ in 0..count {
        let (id, entry) = decode_entry(&mut rest).ok_or("it is cut")?;
        if let Some(first_offset) = entry.txn_first_offset {
            states.ongoing.insert(first_offset, id);
        }
        states.entries.insert(id, entry);
    }
    Ok(states)
}

fn decode_entry(rest: &mut &[u8]) -> Option<(ProducerId, ProducerEntry)> {
    let id = ProducerId(i64::from_be_bytes(take(rest)?));
    let mut entry = ProducerEntry::new(ProducerEpoch(i16::from_be_bytes(take(rest)?)));
    let last = WrittenBatch {
        last_sequence: Sequence(i32::from_be_bytes(take(rest)?)),
        last_offset: Offset(i64::from_be_bytes(take(rest)?)),
        offset_delta: i32::from_be_bytes(take(rest)?),
    };
    if last.last_offset >= Offset(0) {
        entry.add_batch(last);
    }
    entry.last_seen = TimestampMs(i64::from_be_bytes(take(rest)?));
    entry.coordinator_epoch = i32::from_be_bytes(take(rest)?);
    let txn_first_offset = i64::from_be_bytes(take(rest)?);
    entry.txn_first_offset = (txn_first_offset >= 0).then_some(Offset(txn_first_offset));
    Some((id, entry))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*taken)
}

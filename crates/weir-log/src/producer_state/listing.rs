//! A producer snapshot as a list: for those who look at the file and keep no state.

use weir_protocol::{Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};

use super::decode;

/// One producer in a snapshot file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotEntry {
    /// The producer.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// The last sequence it wrote, or [`Sequence::NONE`].
    pub last_sequence: Sequence,
    /// The offset of its last record, −1 if its last batch is not known.
    pub last_offset: Offset,
    /// `last_offset` minus the first offset of that batch.
    pub offset_delta: i32,
    /// When it last wrote.
    pub timestamp: TimestampMs,
    /// Of the transaction coordinator that last wrote a marker; −1 if none did.
    pub coordinator_epoch: i32,
    /// Where its open transaction begins, if one is open.
    pub txn_first_offset: Option<Offset>,
}

/// The producers in the bytes of a snapshot, by id. `Err` says in words what is wrong with them.
pub(crate) fn list(bytes: &[u8]) -> Result<Vec<SnapshotEntry>, &'static str> {
    let states = decode(bytes)?;
    let mut entries: Vec<SnapshotEntry> = states
        .entries
        .iter()
        .map(|(id, entry)| {
            let last = entry.last();
            SnapshotEntry {
                producer_id: *id,
                producer_epoch: entry.epoch,
                last_sequence: last.map_or(Sequence::NONE, |last| last.last_sequence),
                last_offset: last.map_or(Offset(-1), |last| last.last_offset),
                offset_delta: last.map_or(0, |last| last.offset_delta),
                timestamp: entry.last_seen,
                coordinator_epoch: entry.coordinator_epoch,
                txn_first_offset: entry.txn_first_offset,
            }
        })
        .collect();
    entries.sort_unstable_by_key(|entry| entry.producer_id);
    Ok(entries)
}

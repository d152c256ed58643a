//! Changing a batch in place.

use super::{
    crc_of, BatchError, BatchView, CRC_AT, CRC_FROM, LENGTH_END, LOG_APPEND_TIME_BIT,
    MAX_TIMESTAMP_AT, PRODUCER_AT,
};
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};

/// Gives the batch at the front of `bytes` its place in the log. Its CRC stays valid.
///
/// # Errors
/// As [`BatchView::parse`]; then nothing is changed.
pub fn assign(
    bytes: &mut [u8],
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
) -> Result<(), BatchError> {
    BatchView::parse(bytes)?;
    put(bytes, 0, base_offset.get().to_be_bytes());
    put(bytes, LENGTH_END, leader_epoch.get().to_be_bytes());
    Ok(())
}

/// Dates the batch at the front of `bytes`, and so each of its records, as appended `now`
/// (`message.timestamp.type=LogAppendTime`). Makes a new CRC.
///
/// # Errors
/// As [`BatchView::parse`]; then nothing is changed.
pub fn set_append_time(bytes: &mut [u8], now: TimestampMs) -> Result<(), BatchError> {
    let view = BatchView::parse(bytes)?;
    let (attributes, size_bytes) = (view.attributes() | LOG_APPEND_TIME_BIT, view.size_bytes());
    put(bytes, CRC_FROM, attributes.to_be_bytes());
    put(bytes, MAX_TIMESTAMP_AT, now.get().to_be_bytes());
    renew_crc(bytes, size_bytes);
    Ok(())
}

/// Puts the batch at the front of `bytes` under another producer identity, as a producer must after
/// its epoch was raised (KIP-360). Makes a new CRC.
///
/// # Errors
/// As [`BatchView::parse`]; then nothing is changed.
pub fn set_producer(
    bytes: &mut [u8],
    id: ProducerId,
    epoch: ProducerEpoch,
    base_sequence: Sequence,
) -> Result<(), BatchError> {
    let size_bytes = BatchView::parse(bytes)?.size_bytes();
    put(bytes, PRODUCER_AT, id.get().to_be_bytes());
    put(bytes, PRODUCER_AT + 8, epoch.get().to_be_bytes());
    put(bytes, PRODUCER_AT + 10, base_sequence.get().to_be_bytes());
    renew_crc(bytes, size_bytes);
    Ok(())
}

/// Makes the CRC that of the first `size_bytes` of `bytes`, which are one batch.
pub(super) fn renew_crc(bytes: &mut [u8], size_bytes: usize) {
    let crc = crc_of(bytes.get(..size_bytes).unwrap_or_default());
    put(bytes, CRC_AT, crc.to_be_bytes());
}

/// Overwrites `N` bytes at `at`. The callers have seen a whole header.
pub(super) fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    let place = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut);
    debug_assert!(place.is_some(), "a parsed batch has its header");
    if let Some(place) = place {
        *place = value;
    }
}

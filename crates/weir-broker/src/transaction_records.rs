//! The records of `__transaction_state`, byte for byte as Kafka 4.1 writes them, so that `kafka-dump-log
//! --transaction-log-decoder` reads them.
//!
//! | part | layout |
//! |---|---|
//! | key | `i16` 0, transactional id |
//! | value | `i16` version, producer id, epoch, timeout, state, partitions (null if none), last update, start |
//!
//! Version 0 is as plain as that. Version 1 is flexible: compact strings and arrays, and the tagged fields previous
//! producer id (0), next producer id (1), transaction version of the client (2) and next epoch (3, KIP-939, which nobody
//! writes yet). A key without value is a tombstone. Schemas: `TransactionLogKey`, `TransactionLogValue` in Kafka's
//! `transaction-coordinator/src/main/resources/common/message`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes};
use weir_protocol::{DecodeError, Decoder, ProducerEpoch, ProducerId, Str, TimestampMs};

/// The one type of record there is.
const KEY_TRANSACTION: i16 = 0;
/// What is written: that of `transaction.version` 1 and above.
const VALUE_VERSION: i16 = 1;

const TAG_PREVIOUS_ID: u32 = 0;
const TAG_NEXT_ID: u32 = 1;
const TAG_CLIENT_VERSION: u32 = 2;

/// Partitions by topic.
pub type Partitions = BTreeMap<Str, BTreeSet<i32>>;

/// The state of a transaction as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionLogValue {
    /// The producer.
    pub producer_id: ProducerId,
    /// What it was before its epochs were used up.
    pub previous_producer_id: ProducerId,
    /// What it will be once this transaction has ended, as its epochs are used up.
    pub next_producer_id: ProducerId,
    /// The producer's epoch.
    pub producer_epoch: ProducerEpoch,
    /// After so long an open transaction is aborted.
    pub timeout_ms: i32,
    /// Kafka's number of the state.
    pub status: i8,
    /// What it writes to.
    pub partitions: Partitions,
    /// When it last changed.
    pub last_update: TimestampMs,
    /// When it began; −1 if none is open.
    pub start: TimestampMs,
    /// `transaction.version` of the client, as far as it is known.
    pub client_version: i16,
}

/// The key of a transactional id.
#[must_use]
pub fn encode_key(transactional_id: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + transactional_id.len());
    out.put_i16(KEY_TRANSACTION);
    put_string(&mut out, transactional_id);
    out
}

/// Reads a key; `None` if it is of a kind that is not known here.
///
/// # Errors
/// If the bytes are not one.
pub fn decode_key(key: Bytes) -> Result<Option<Str>, DecodeError> {
    let mut decoder = Decoder::new(key);
    match decoder.i16()? {
        KEY_TRANSACTION => string(&mut decoder, false).map(Some),
        _ => Ok(None),
    }
}

impl TransactionLogValue {
    /// The bytes of the value, version 1.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        out.put_i16(VALUE_VERSION);
        out.put_i64(self.producer_id.get());
        out.put_i16(self.producer_epoch.get());
        out.put_i32(self.timeout_ms);
        out.put_i8(self.status);
        // Kafka writes null in the state Empty, which is 0, and a count elsewhere.
        let is_null = self.status == 0 && self.partitions.is_empty();
        put_uvarint(&mut out, if is_null { 0 } else { self.partitions.len() + 1 });
        for (topic, partitions) in &self.partitions {
            put_uvarint(&mut out, topic.len() + 1);
            out.put_slice(topic.as_bytes());
            put_uvarint(&mut out, partitions.len() + 1);
            partitions.iter().for_each(|partition| out.put_i32(*partition));
            put_uvarint(&mut out, 0); // no tagged fields
        }
        out.put_i64(self.last_update.get());
        out.put_i64(self.start.get());
        self.put_tagged(&mut out);
        out
    }

    fn put_tagged(&self, out: &mut Vec<u8>) {
        let ids =
            [(TAG_PREVIOUS_ID, self.previous_producer_id), (TAG_NEXT_ID, self.next_producer_id)];
        let ids: Vec<_> = ids.into_iter().filter(|(_, id)| *id != ProducerId::NONE).collect();
        let has_version = self.client_version != 0;
        put_uvarint(out, ids.len() + usize::from(has_version));
        for (tag, id) in ids {
            put_uvarint(out, tag as usize);
            put_uvarint(out, 8);
            out.put_i64(id.get());
        }
        if has_version {
            put_uvarint(out, TAG_CLIENT_VERSION as usize);
            put_uvarint(out, 2);
            out.put_i16(self.client_version);
        }
    }

    /// Reads a value of version 0 or 1.
    ///
    /// # Errors
    /// If the bytes are not one.
    pub fn decode(value: Bytes) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(value);
        let flexible = decoder.i16()? >= 1;
        let mut read = Self {
            producer_id: ProducerId(decoder.i64()?),
            previous_producer_id: ProducerId::NONE,
            next_producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch(decoder.i16()?),
            timeout_ms: decoder.i32()?,
            status: decoder.i8()?,
            partitions: partitions(&mut decoder, flexible)?,
            last_update: TimestampMs(decoder.i64()?),
            start: TimestampMs(decoder.i64()?),
            client_version: 0,
        };
        if flexible {
            decoder.tagged_fields(|field, tag| {
                match tag {
                    TAG_PREVIOUS_ID => read.previous_producer_id = ProducerId(field.i64()?),
                    TAG_NEXT_ID => read.next_producer_id = ProducerId(field.i64()?),
                    TAG_CLIENT_VERSION => read.client_version = field.i16()?,
                    _ => return Ok(false),
                }
                Ok(true)
            })?;
        }
        Ok(read)
    }
}

/// Reads element by element, so that a count that lies allocates nothing.
fn partitions(decoder: &mut Decoder, flexible: bool) -> Result<Partitions, DecodeError> {
    let mut partitions = Partitions::new();
    for _ in 0..count(decoder, flexible)? {
        let topic = string(decoder, flexible)?;
        let of_topic = partitions.entry(topic).or_default();
        for _ in 0..count(decoder, flexible)? {
            of_topic.insert(decoder.i32()?);
        }
        if flexible {
            decoder.tagged_fields(|_, _| Ok(false))?;
        }
    }
    Ok(partitions)
}

/// The count of a nullable array; null is none.
fn count(decoder: &mut Decoder, flexible: bool) -> Result<u32, DecodeError> {
    match flexible {
        true => Ok(decoder.uvarint()?.saturating_sub(1)),
        false => Ok(u32::try_from(decoder.i32()?).unwrap_or(0)),
    }
}

fn string(decoder: &mut Decoder, flexible: bool) -> Result<Str, DecodeError> {
    // Copied, so that what is kept of a record does not keep its whole batch in memory.
    let text = decoder.nullable_string(flexible)?;
    Ok(text.map(|text| Str::copy_from(&text)).unwrap_or_default())
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    debug_assert!(i16::try_from(text.len()).is_ok(), "the coordinator refuses longer ids");
    out.put_i16(text.len() as i16);
    out.put_slice(text.as_bytes());
}

fn put_uvarint(out: &mut Vec<u8>, value: usize) {
    let mut left = value;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value() -> TransactionLogValue {
        TransactionLogValue {
            producer_id: ProducerId(7),
            previous_producer_id: ProducerId::NONE,
            next_producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch(3),
            timeout_ms: 60_000,
            status: 1,
            partitions: [("t".into(), [0, 5].into())].into(),
            last_update: TimestampMs(9),
            start: TimestampMs(8),
            client_version: 2,
        }
    }

    #[test]
    fn value_bytes_are_those_of_kafka() {
        let mut expected = vec![0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 3, 0, 0, 0xea, 0x60, 1];
        expected.extend([2, 2, b't', 3, 0, 0, 0, 0, 0, 0, 0, 5, 0]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 8]);
        expected.extend([1, 2, 2, 0, 2]);
        assert_eq!(value().encode(), expected);
        assert_eq!(encode_key("tx"), [0, 0, 0, 2, b't', b'x']);
        assert_eq!(decode_key(encode_key("tx").into()).unwrap().unwrap(), "tx");
    }

    #[test]
    fn values_come_back() {
        let rotating = TransactionLogValue {
            previous_producer_id: ProducerId(1),
            next_producer_id: ProducerId(1 << 40),
            partitions: Partitions::new(),
            client_version: 0,
            start: TimestampMs(-1),
            ..value()
        };
        for value in [value(), rotating] {
            assert_eq!(TransactionLogValue::decode(value.encode().into()).unwrap(), value);
        }
    }

    #[test]
    fn version_0_is_read() {
        let mut bytes = vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 3, 0, 0, 0xea, 0x60, 1];
        bytes.extend([0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 5]);
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 8]);
        let read = TransactionLogValue::decode(bytes.into()).unwrap();
        assert_eq!(read, TransactionLogValue { client_version: 0, ..value() });
    }

    #[test]
    fn a_count_that_lies_is_an_error() {
        let mut bytes = value().encode();
        bytes[17] = 0xff;
        bytes.splice(18..18, [0xff, 0xff, 0xff, 0x0f]);
        assert!(TransactionLogValue::decode(bytes.into()).is_err());
    }
}

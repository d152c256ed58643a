//! [`BatchBuilder`]: records written once, into the batch that goes to the socket.

mod pool;

use std::convert::Infallible;
use std::mem;

use bytes::Bytes;

use super::edit::renew_crc;
use super::{Header, CONTROL_BIT, CRC_FROM, HEADER_BYTES, LENGTH_END, MAGIC, TRANSACTIONAL_BIT};
use crate::compression::Codec;
use crate::types::{ProducerEpoch, ProducerId, Sequence, TimestampMs};

pub use pool::BatchPool;

/// Builds one batch after another.
///
/// A record is encoded straight into the batch: its length is computed from its parts before the
/// first byte is written, key and value are copied once (or written in place,
/// [`append_with`](Self::append_with)), and nothing is allocated but the growth of the buffer. The
/// buffer itself comes back through a [`BatchPool`] when the built [`Bytes`] are dropped.
#[derive(Debug)]
pub struct BatchBuilder {
    codec: Codec,
    pool: BatchPool,
    /// Room for the header, then the records, uncompressed. Empty before the first record.
    buffer: Vec<u8>,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    producer: Producer,
    transactional: bool,
    /// Of the last value written in place: what the next one's most likely are.
    widths: Widths,
}

#[derive(Debug, Clone, Copy)]
struct Producer {
    id: ProducerId,
    epoch: ProducerEpoch,
    base_sequence: Sequence,
}

impl Producer {
    const NONE: Self =
        Self { id: ProducerId::NONE, epoch: ProducerEpoch::NONE, base_sequence: Sequence::NONE };
}

/// Bytes of the two varints before a value that depend on its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Widths {
    record_length: usize,
    value_length: usize,
}

impl BatchBuilder {
    /// A builder with a pool of its own.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        Self::with_pool(codec, &BatchPool::default())
    }

    /// A builder that shares buffers and compressors with others. Costs no allocation, so a builder
    /// per batch is fine.
    #[must_use]
    pub fn with_pool(codec: Codec, pool: &BatchPool) -> Self {
        Self {
            codec,
            pool: pool.clone(),
            buffer: Vec::new(),
            count: 0,
            base_timestamp: 0,
            max_timestamp: 0,
            producer: Producer::NONE,
            transactional: false,
            widths: Widths { record_length: 2, value_length: 2 },
        }
    }

    /// How many records it holds.
    #[must_use]
    pub fn count(&self) -> usize {
        usize::try_from(self.count).unwrap_or(0)
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the batch, header included, before compression. What [`build`](Self::build) returns
    /// is never longer.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.buffer.len().max(HEADER_BYTES)
    }

    /// What [`size_bytes`](Self::size_bytes) would be with this record too, exactly.
    #[must_use]
    pub fn size_bytes_with(
        &self,
        timestamp: TimestampMs,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> usize {
        let head = self.head(timestamp, key);
        let body = head.bytes() + field_bytes(value.map(<[u8]>::len)) + headers_bytes(headers);
        self.size_bytes() + varint_bytes(body as i64) + body
    }

    /// The idempotent producer, and the sequence of the batch's first record.
    pub fn set_producer(&mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: Sequence) {
        self.producer = Producer { id, epoch, base_sequence };
    }

    /// Whether the batch belongs to a transaction.
    pub fn set_transactional(&mut self, transactional: bool) {
        self.transactional = transactional;
    }

    /// Forgets the records and the producer; keeps the buffer.
    pub fn reset(&mut self) {
        self.buffer.clear();
        self.count = 0;
        self.producer = Producer::NONE;
        self.transactional = false;
    }

    /// Adds a record and returns its index in the batch. The batch's base timestamp is the first
    /// record's.
    ///
    /// The caller watches [`size_bytes`](Self::size_bytes): a batch of 2 GiB cannot be built.
    pub fn append(
        &mut self,
        timestamp: TimestampMs,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> usize {
        let head = self.head(timestamp, key);
        let value_len = value.map(<[u8]>::len);
        let body_bytes = head.bytes() + field_bytes(value_len) + headers_bytes(headers);
        self.open(body_bytes);
        let buffer = &mut self.buffer;
        head.write(buffer, body_bytes, key);
        put_varint(buffer, length(value_len));
        buffer.extend_from_slice(value.unwrap_or_default());
        put_headers(buffer, headers);
        self.added(&head)
    }

    /// As [`append`](Self::append), for a value that is serialised straight into the batch: `write`
    /// appends it to the buffer it is given.
    ///
    /// Two varints before the value depend on its length, which is not known yet. They get the room
    /// that the last value's took, and only if this one's take another, the value is moved (200
    /// bytes: some nanoseconds). So callers need no exact length, and no byte is reserved in vain.
    ///
    /// # Panics
    /// If `write` takes bytes away.
    pub fn append_with(
        &mut self,
        timestamp: TimestampMs,
        key: Option<&[u8]>,
        headers: &[Header<'_>],
        write: impl FnOnce(&mut Vec<u8>),
    ) -> usize {
        let written = self.try_append_with(timestamp, key, headers, |buffer| {
            write(buffer);
            Ok::<(), Infallible>(())
        });
        match written {
            Ok(index) => index,
            Err(never) => match never {},
        }
    }

    /// As [`append_with`](Self::append_with), for a value that may not serialise.
    ///
    /// # Errors
    /// That of `write`; then the batch is as before.
    ///
    /// # Panics
    /// If `write` takes bytes away.
    pub fn try_append_with<E>(
        &mut self,
        timestamp: TimestampMs,
        key: Option<&[u8]>,
        headers: &[Header<'_>],
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let head = self.head(timestamp, key);
        let fixed_bytes = head.bytes() + headers_bytes(headers);
        self.open(fixed_bytes);
        let start = self.buffer.len();
        let guess = self.widths;
        let mut value_at = start + guess.record_length + head.bytes() + guess.value_length;
        self.buffer.resize(value_at, 0);

        let outcome = write(&mut self.buffer);
        assert!(self.buffer.len() >= value_at, "a value writer took bytes out of the batch");
        if let Err(error) = outcome {
            self.buffer.truncate(if self.count == 0 { 0 } else { start });
            return Err(error);
        }

        let value_len = self.buffer.len() - value_at;
        let body_bytes = fixed_bytes + field_bytes(Some(value_len));
        self.widths = Widths {
            record_length: varint_bytes(body_bytes as i64),
            value_length: varint_bytes(value_len as i64),
        };
        if self.widths != guess {
            let moved_to =
                start + self.widths.record_length + head.bytes() + self.widths.value_length;
            move_tail(&mut self.buffer, value_at, moved_to);
            value_at = moved_to;
        }
        if let Some(before) = self.buffer.get_mut(start..value_at) {
            let mut before = Slots { rest: before };
            head.put(&mut before, body_bytes, key);
            before.varint(value_len as i64);
        }
        put_headers(&mut self.buffer, headers);
        Ok(self.added(&head))
    }

    /// Finishes the batch: header, compression, CRC. The builder is then as after
    /// [`reset`](Self::reset).
    ///
    /// Records that the codec does not make smaller go uncompressed, as the header then says.
    ///
    /// # Panics
    /// If it holds no record, or 2 GiB.
    pub fn build(&mut self) -> Bytes {
        assert!(self.count > 0, "a batch holds at least one record");
        let mut batch = mem::take(&mut self.buffer);
        let mut codec = self.codec;
        if codec != Codec::None {
            match self.pool.compressed(codec, &batch) {
                Some(compressed) => self.pool.give(mem::replace(&mut batch, compressed)),
                None => codec = Codec::None,
            }
        }
        let transactional = if self.transactional { TRANSACTIONAL_BIT } else { 0 };
        let header = BatchHeader {
            attributes: i16::from(codec.id()) | transactional,
            last_offset_delta: self.count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer: self.producer,
        };
        header.write(&mut batch);
        self.reset();
        self.pool.lend(batch)
    }

    /// Makes room for a record of `body_bytes` and, before the first, for the batch's header.
    #[inline]
    fn open(&mut self, body_bytes: usize) {
        if self.buffer.is_empty() {
            if self.buffer.capacity() == 0 {
                self.buffer = self.pool.take();
            }
            self.buffer.resize(HEADER_BYTES, 0);
        }
        // Two varints before the value, and what `Head::write` pads.
        self.buffer.reserve(body_bytes + HEAD_PADDED_BYTES);
    }

    #[inline]
    fn head(&self, timestamp: TimestampMs, key: Option<&[u8]>) -> Head {
        let base = if self.count == 0 { timestamp.get() } else { self.base_timestamp };
        Head {
            timestamp: timestamp.get(),
            // Wraps, as the reader's addition does.
            timestamp_delta: timestamp.get().wrapping_sub(base),
            offset_delta: self.count,
            key_len: key.map(<[u8]>::len),
        }
    }

    #[inline]
    fn added(&mut self, head: &Head) -> usize {
        if self.count == 0 {
            self.base_timestamp = head.timestamp;
            self.max_timestamp = head.timestamp;
        } else {
            self.max_timestamp = self.max_timestamp.max(head.timestamp);
        }
        // 2^31 records take more than the 2 GiB that `build` refuses.
        self.count += 1;
        head.offset_delta as usize
    }
}

/// A record up to its value's length.
#[derive(Debug)]
struct Head {
    timestamp: i64,
    timestamp_delta: i64,
    offset_delta: i32,
    key_len: Option<usize>,
}

/// The longest head without its key: length 5, attributes 1, timestamp 10, offset 5, key length 5.
const HEAD_BYTES_MAX: usize = 26;

/// A head is copied as so many bytes, of which those too many are cut off: a copy whose length the
/// compiler knows is two stores, one it does not know is a call.
const HEAD_PADDED_BYTES: usize = 32;

const _: () = assert!(HEAD_BYTES_MAX <= HEAD_PADDED_BYTES);

impl Head {
    /// Its bytes without the record's length before it, but with the key.
    #[inline]
    fn bytes(&self) -> usize {
        1 + varint_bytes(self.timestamp_delta)
            + varint_bytes(i64::from(self.offset_delta))
            + field_bytes(self.key_len)
    }

    #[inline]
    fn write(&self, buffer: &mut Vec<u8>, body_bytes: usize, key: Option<&[u8]>) {
        let mut padded = [0; HEAD_PADDED_BYTES];
        let mut slots = Slots { rest: &mut padded };
        self.put(&mut slots, body_bytes, None);
        let unused = slots.rest.len();
        buffer.extend_from_slice(&padded);
        buffer.truncate(buffer.len() - unused);
        if let Some(key) = key {
            buffer.extend_from_slice(key);
        }
    }

    #[inline]
    fn put(&self, slots: &mut Slots<'_>, body_bytes: usize, key: Option<&[u8]>) {
        slots.varint(body_bytes as i64);
        slots.byte(0);
        slots.varint(self.timestamp_delta);
        slots.varint(i64::from(self.offset_delta));
        slots.varint(length(self.key_len));
        if let Some(key) = key {
            slots.slice(key);
        }
    }
}

/// Places to fill from the front. Every user has made exactly the room it needs.
#[derive(Debug)]
struct Slots<'a> {
    rest: &'a mut [u8],
}

impl Slots<'_> {
    #[inline]
    fn byte(&mut self, byte: u8) {
        if let Some((slot, rest)) = mem::take(&mut self.rest).split_first_mut() {
            *slot = byte;
            self.rest = rest;
        }
    }

    #[inline]
    fn varint(&mut self, value: i64) {
        let mut left = zigzag(value);
        while left >= 0x80 {
            self.byte(left as u8 | 0x80);
            left >>= 7;
        }
        self.byte(left as u8);
    }

    fn slice(&mut self, bytes: &[u8]) {
        if let Some((slots, rest)) = mem::take(&mut self.rest).split_at_mut_checked(bytes.len()) {
            slots.copy_from_slice(bytes);
            self.rest = rest;
        }
    }
}

/// Makes what began at `from` begin at `to`, to the end of the buffer.
#[cold]
fn move_tail(buffer: &mut Vec<u8>, from: usize, to: usize) {
    let end = buffer.len();
    if to > from {
        buffer.resize(end + (to - from), 0);
    }
    buffer.copy_within(from..end, to);
    buffer.truncate(to + (end - from));
}

#[inline]
fn put_headers(buffer: &mut Vec<u8>, headers: &[Header<'_>]) {
    put_varint(buffer, headers.len() as i64);
    for Header { key, value } in headers {
        put_varint(buffer, key.len() as i64);
        buffer.extend_from_slice(key.as_bytes());
        put_varint(buffer, length(value.map(<[u8]>::len)));
        buffer.extend_from_slice(value.unwrap_or_default());
    }
}

#[inline]
pub(super) fn put_varint(buffer: &mut Vec<u8>, value: i64) {
    let mut left = zigzag(value);
    while left >= 0x80 {
        buffer.push(left as u8 | 0x80);
        left >>= 7;
    }
    buffer.push(left as u8);
}

/// A length as it is written: −1 is null.
#[inline]
fn length(len: Option<usize>) -> i64 {
    len.map_or(-1, |len| len as i64)
}

/// Bytes of a nullable field with its length.
#[inline]
fn field_bytes(len: Option<usize>) -> usize {
    varint_bytes(length(len)) + len.unwrap_or(0)
}

#[inline]
fn headers_bytes(headers: &[Header<'_>]) -> usize {
    let each = headers.iter().map(|Header { key, value }| {
        field_bytes(Some(key.len())) + field_bytes(value.map(<[u8]>::len))
    });
    varint_bytes(headers.len() as i64) + each.sum::<usize>()
}

#[inline]
const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Bytes of a zigzag varint: 7 bits each, at least one.
#[inline]
const fn varint_bytes(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// What of the header the builder decides; the rest is the broker's, or follows.
#[derive(Debug)]
struct BatchHeader {
    attributes: i16,
    last_offset_delta: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    producer: Producer,
}

impl BatchHeader {
    /// Fills the first bytes of `batch`, whose records are complete.
    fn write(&self, batch: &mut [u8]) {
        let size_bytes = batch.len();
        let length = i32::try_from(size_bytes - LENGTH_END);
        assert!(length.is_ok(), "a batch of {size_bytes} bytes does not fit its length field");
        let mut slots = Slots { rest: batch };
        // Base offset and leader epoch: the broker assigns them. Kafka's producers write 0 and −1.
        slots.slice(&0_i64.to_be_bytes());
        slots.slice(&length.unwrap_or_default().to_be_bytes());
        slots.slice(&(-1_i32).to_be_bytes());
        slots.slice(&MAGIC.to_be_bytes());
        slots.slice(&[0; CRC_FROM - super::CRC_AT]);
        slots.slice(&self.attributes.to_be_bytes());
        slots.slice(&self.last_offset_delta.to_be_bytes());
        slots.slice(&self.base_timestamp.to_be_bytes());
        slots.slice(&self.max_timestamp.to_be_bytes());
        slots.slice(&self.producer.id.get().to_be_bytes());
        slots.slice(&self.producer.epoch.get().to_be_bytes());
        slots.slice(&self.producer.base_sequence.get().to_be_bytes());
        slots.slice(&(self.last_offset_delta + 1).to_be_bytes());
        renew_crc(batch, size_bytes);
    }
}

/// How a transaction ended in a partition (Kafka's `ControlRecordType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlMarker {
    /// Its records do not count.
    Abort,
    /// They do.
    Commit,
}

impl ControlMarker {
    /// What the key of a control record says: version, type. `None` for types that are not markers
    /// (KRaft has its own) and for keys that are cut.
    #[must_use]
    pub const fn from_key(key: &[u8]) -> Option<Self> {
        match key {
            [_, _, 0, 0, ..] => Some(Self::Abort),
            [_, _, 0, 1, ..] => Some(Self::Commit),
            _ => None,
        }
    }

    const fn id(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
        }
    }
}

/// The control batch that ends a producer's transaction in a partition. Takes one offset, has no
/// sequence.
#[must_use]
pub fn build_control(
    marker: ControlMarker,
    id: ProducerId,
    epoch: ProducerEpoch,
    coordinator_epoch: i32,
    now: TimestampMs,
) -> Bytes {
    const VERSION: i16 = 0;
    let [key_0, key_1] = VERSION.to_be_bytes();
    let [key_2, key_3] = marker.id().to_be_bytes();
    let [value_2, value_3, value_4, value_5] = coordinator_epoch.to_be_bytes();
    let key = [key_0, key_1, key_2, key_3];
    let value = [key_0, key_1, value_2, value_3, value_4, value_5];

    let mut builder = BatchBuilder::new(Codec::None);
    builder.append(now, Some(&key), Some(&value), &[]);
    let mut batch = mem::take(&mut builder.buffer);
    let header = BatchHeader {
        attributes: TRANSACTIONAL_BIT | CONTROL_BIT,
        last_offset_delta: 0,
        base_timestamp: now.get(),
        max_timestamp: now.get(),
        producer: Producer { id, epoch, base_sequence: Sequence::NONE },
    };
    header.write(&mut batch);
    Bytes::from(batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_takes_the_bytes_that_were_counted_for_it() {
        let edges = (0..63).flat_map(|bits| [(1_i64 << bits) - 1, 1 << bits]);
        for value in edges.flat_map(|edge| [edge, -edge]).chain([i64::MAX, i64::MIN]) {
            let mut written = Vec::new();
            put_varint(&mut written, value);
            assert_eq!(written.len(), varint_bytes(value), "{value}");
            let mut padded = [0; HEAD_PADDED_BYTES];
            let mut slots = Slots { rest: &mut padded };
            slots.varint(value);
            let used = HEAD_PADDED_BYTES - slots.rest.len();
            assert_eq!(padded.get(..used), Some(&*written), "{value}");
        }
    }
}

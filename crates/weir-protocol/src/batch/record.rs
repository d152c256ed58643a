//! One record inside a batch.
//!
//! `length varint | attributes i8 | timestamp delta varlong | offset delta varint | key length varint,
//! key | value length varint, value | header count varint, headers`; all varints zigzag, −1 is null
//! (Kafka's `DefaultRecord`). The length counts what follows it.

use std::fmt;

use bytes::Bytes;

use super::{BatchError, BatchView, RecordError, TimestampType};
use crate::types::{Offset, Str, TimestampMs};

/// Bytes of the longest varint of 32 and of 64 bits.
const VARINT_BYTES_MAX: usize = 5;
const VARLONG_BYTES_MAX: usize = 10;

/// A header to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its name; names may repeat.
    pub key: &'a str,
    /// Its value, or null.
    pub value: Option<&'a [u8]>,
}

/// A record with bytes of its own right: each part shares the batch's buffer.
///
/// One small part keeps the whole buffer in memory; copy out what is stored for long.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its place in the partition.
    pub offset: Offset,
    /// Its own, or the batch's if a broker dated it.
    pub timestamp: TimestampMs,
    /// The key, or null.
    pub key: Option<Bytes>,
    /// The value, or null: a tombstone where the topic is compacted.
    pub value: Option<Bytes>,
    /// The headers in order.
    pub headers: Headers,
}

/// A record in borrowed bytes: what costs nothing but the walk over it.
#[derive(Debug, Clone, Copy)]
pub struct RecordView<'a> {
    /// Its place in the partition.
    pub offset: Offset,
    /// Offset minus the batch's base offset.
    pub offset_delta: i32,
    /// Its own, or the batch's if a broker dated it.
    pub timestamp: TimestampMs,
    /// The key, or null.
    pub key: Option<&'a [u8]>,
    /// The value, or null.
    pub value: Option<&'a [u8]>,
    /// The headers in order.
    pub headers: HeadersView<'a>,
}

/// The headers of a [`Record`]; decoded when looked at.
#[derive(Clone, Default)]
pub struct Headers {
    count: usize,
    /// From the first header to the end of the record; walked once already.
    bytes: Bytes,
}

impl Headers {
    /// How many.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Each name and value, sharing the record's bytes. A name that is not UTF-8 is shown with
    /// replacement characters, as Java's client does.
    pub fn iter(&self) -> impl Iterator<Item = (Str, Option<Bytes>)> + '_ {
        self.view().iter().map(|(key, value)| {
            let name = Str::from_utf8(self.bytes.slice_ref(key))
                .unwrap_or_else(|_| Str::from(String::from_utf8_lossy(key)));
            (name, value.map(|value| self.bytes.slice_ref(value)))
        })
    }

    /// The value of the last header of this name, as Java's `lastHeader`: `Some(None)` is null.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Option<&[u8]>> {
        self.view().get(name)
    }

    /// The same without sharing.
    #[must_use]
    pub fn view(&self) -> HeadersView<'_> {
        HeadersView { count: self.count, bytes: &self.bytes }
    }
}

impl PartialEq for Headers {
    /// By names and values: the same header may be written with longer varints.
    fn eq(&self, other: &Self) -> bool {
        self.view().iter().eq(other.view().iter())
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

/// The headers of a [`RecordView`].
#[derive(Clone, Copy, Default)]
pub struct HeadersView<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> HeadersView<'a> {
    /// How many.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Each name and value. Names should be UTF-8; the format does not force them.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let mut cursor = Cursor { rest: self.bytes };
        // The walk over the record has read them once, so none fails.
        (0..self.count).map_while(move |_| cursor.header().ok())
    }

    /// The value of the last header of this name: `Some(None)` is null.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Option<&'a [u8]>> {
        let named = self.iter().filter(|(key, _)| *key == name.as_bytes());
        named.map(|(_, value)| value).last()
    }
}

impl fmt::Debug for HeadersView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &'_ [u8]| -> String { String::from_utf8_lossy(bytes).into_owned() };
        let pairs = self.iter().map(|(key, value)| (text(key), value.map(text)));
        f.debug_map().entries(pairs).finish()
    }
}

/// The records of one batch; see [`BatchView::records`]. Ends after the first error.
#[derive(Debug, Clone)]
pub struct RecordIter {
    walk: Walk,
    bytes: Bytes,
}

impl RecordIter {
    pub(super) const fn new(walk: Walk, bytes: Bytes) -> Self {
        Self { walk, bytes }
    }

    /// The next record without sharing the buffer: no reference count is touched.
    pub fn next_view(&mut self) -> Option<Result<RecordView<'_>, BatchError>> {
        self.walk.next(&self.bytes)
    }
}

impl Iterator for RecordIter {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let view = match self.walk.next(&self.bytes)? {
            Ok(view) => view,
            Err(error) => return Some(Err(error)),
        };
        let headers = match view.headers {
            HeadersView { count: 0, .. } => Headers::default(),
            HeadersView { count, bytes } => Headers { count, bytes: self.bytes.slice_ref(bytes) },
        };
        Some(Ok(Record {
            offset: view.offset,
            timestamp: view.timestamp,
            key: view.key.map(|key| self.bytes.slice_ref(key)),
            value: view.value.map(|value| self.bytes.slice_ref(value)),
            headers,
        }))
    }
}

/// The way through the (inflated) records of a batch. Holds no bytes: owner and borrower share it.
#[derive(Debug, Clone)]
pub(super) struct Walk {
    position: usize,
    /// Index of the next record.
    index: i32,
    count: i32,
    base_offset: i64,
    base_timestamp: i64,
    append_time: Option<TimestampMs>,
    done: bool,
}

impl Walk {
    pub(super) fn new(batch: &BatchView<'_>) -> Self {
        let append_time = match batch.timestamp_type() {
            TimestampType::CreateTime => None,
            TimestampType::LogAppendTime => Some(batch.max_timestamp()),
        };
        Self {
            position: 0,
            index: 0,
            count: batch.record_count(),
            base_offset: batch.base_offset().get(),
            base_timestamp: batch.base_timestamp().get(),
            append_time,
            done: false,
        }
    }

    /// Where the next record begins.
    pub(super) const fn position(&self) -> usize {
        self.position
    }

    /// The next record of `bytes`, which must be the same at each call.
    pub(super) fn next<'b>(
        &mut self,
        bytes: &'b [u8],
    ) -> Option<Result<RecordView<'b>, BatchError>> {
        if self.done {
            return None;
        }
        let rest = bytes.get(self.position..).unwrap_or_default();
        if self.index >= self.count || rest.is_empty() {
            return self.end(rest.len()).map(Err);
        }
        let mut cursor = Cursor { rest };
        match self.record(&mut cursor) {
            Ok(record) => {
                self.position = bytes.len() - cursor.rest.len();
                self.index += 1;
                Some(Ok(record))
            }
            Err(cause) => {
                self.done = true;
                Some(Err(BatchError::Record { index: self.index, cause }))
            }
        }
    }

    /// No further record: checks that this is where the batch says it ends.
    #[cold]
    fn end(&mut self, left_bytes: usize) -> Option<BatchError> {
        self.done = true;
        if self.index != self.count {
            Some(BatchError::Count { announced: self.count, held: i64::from(self.index) })
        } else if left_bytes > 0 {
            Some(BatchError::Trailing { left_bytes })
        } else {
            None
        }
    }

    fn record<'b>(&self, outer: &mut Cursor<'b>) -> Result<RecordView<'b>, RecordError> {
        let mut record = Cursor { rest: outer.sized()? };
        // No attribute of a record is defined.
        record.byte()?;
        let timestamp_delta = record.varlong()?;
        let offset_delta = record.varint()?;
        let key = record.nullable()?;
        let value = record.nullable()?;
        let headers = record.headers()?;
        let own = TimestampMs(self.base_timestamp.wrapping_add(timestamp_delta));
        Ok(RecordView {
            offset: Offset(self.base_offset.saturating_add(i64::from(offset_delta))),
            offset_delta,
            timestamp: self.append_time.unwrap_or(own),
            key,
            value,
            headers,
        })
    }
}

/// Reads fields off the front of bytes.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, RecordError> {
        let (byte, rest) = self.rest.split_first().ok_or(RecordError::End)?;
        self.rest = rest;
        Ok(*byte)
    }

    #[inline]
    fn varint(&mut self) -> Result<i32, RecordError> {
        // Deltas and lengths of most records fit a byte.
        if let Some((byte, rest)) = self.rest.split_first() {
            if *byte < 0x80 {
                self.rest = rest;
                return Ok(unzigzag_32(u32::from(*byte)));
            }
        }
        let value = self.unsigned(VARINT_BYTES_MAX)?;
        u32::try_from(value).map(unzigzag_32).map_err(|_| RecordError::Varint)
    }

    #[inline]
    pub(super) fn varlong(&mut self) -> Result<i64, RecordError> {
        let value = self.unsigned(VARLONG_BYTES_MAX)?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    #[inline]
    fn unsigned(&mut self, bytes_max: usize) -> Result<u64, RecordError> {
        let mut value = 0_u64;
        for index in 0..bytes_max {
            let byte = self.byte()?;
            // The tenth byte has room for bit 63 only.
            if index == VARLONG_BYTES_MAX - 1 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(RecordError::Varint)
    }

    fn take(&mut self, length: i32) -> Result<&'a [u8], RecordError> {
        let wrong = RecordError::Length { length, left_bytes: self.rest.len() };
        let len = usize::try_from(length).map_err(|_| wrong)?;
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(wrong)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Bytes behind their length; null is not allowed.
    pub(super) fn sized(&mut self) -> Result<&'a [u8], RecordError> {
        let length = self.varint()?;
        self.take(length)
    }

    /// Bytes behind their length; −1 is null.
    fn nullable(&mut self) -> Result<Option<&'a [u8]>, RecordError> {
        match self.varint()? {
            -1 => Ok(None),
            length => self.take(length).map(Some),
        }
    }

    fn header(&mut self) -> Result<(&'a [u8], Option<&'a [u8]>), RecordError> {
        Ok((self.sized()?, self.nullable()?))
    }

    /// The headers, which fill the rest of the record exactly.
    fn headers(&mut self) -> Result<HeadersView<'a>, RecordError> {
        let length = self.varint()?;
        let wrong = RecordError::Length { length, left_bytes: self.rest.len() };
        // Each header takes a byte for either length at least, so the walk below is bounded.
        let count = usize::try_from(length).map_err(|_| wrong)?;
        if count > self.rest.len() / 2 {
            return Err(wrong);
        }
        let bytes = self.rest;
        for _ in 0..count {
            self.header()?;
        }
        match self.rest.len() {
            0 => Ok(HeadersView { count, bytes }),
            left_bytes => Err(RecordError::Trailing { left_bytes }),
        }
    }
}

const fn unzigzag_32(value: u32) -> i32 {
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

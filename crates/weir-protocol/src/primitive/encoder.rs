//! [`Encoder`]: writes values to the end of a message.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::EncodeError;
use crate::types::Uuid;

/// Byte fields at least this long are not copied into the message while it is written: 1 KiB. Below
/// that a copy is cheaper than one more segment of a vectored write.
pub const SEGMENT_BYTES_MIN: usize = 1 << 10;

/// Where a message grows.
///
/// Long byte fields (record batches) are kept beside the small ones and joined at the end:
/// [`Encoder::finish_segments`] hands them out as they came, for a vectored write, and
/// [`Encoder::finish`] copies each once into a buffer of exactly the right size.
#[derive(Debug, Default)]
pub struct Encoder {
    /// All that is not a long byte field.
    small: BytesMut,
    /// Long byte fields, each with the length of `small` when it was put.
    long: Vec<(usize, Bytes)>,
    long_bytes: usize,
    /// Byte fields that are left out.
    absent: Option<Absent>,
    /// The first thing that could not be written.
    error: Option<EncodeError>,
}

/// Byte fields whose bytes the caller has elsewhere.
#[derive(Debug)]
struct Absent {
    /// What stands for such a field in the message. It is known by its address.
    stand_in: Bytes,
    /// Their lengths, in order.
    lens: std::vec::IntoIter<usize>,
}

impl Absent {
    fn next_len(&mut self, value: &Bytes) -> Option<usize> {
        let is_absent =
            value.as_ptr() == self.stand_in.as_ptr() && value.len() == self.stand_in.len();
        is_absent.then(|| self.lens.next()).flatten()
    }
}

impl Encoder {
    /// An empty message.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(256)
    }

    /// An empty message with room for `bytes` bytes beside long byte fields.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { small: BytesMut::with_capacity(bytes), ..Self::default() }
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.small.len() + self.long_bytes
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The message in one piece.
    ///
    /// # Errors
    /// The first thing that could not be written.
    pub fn finish(self) -> Result<BytesMut, EncodeError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        if self.long.is_empty() {
            return Ok(self.small);
        }
        let mut whole = BytesMut::with_capacity(self.small.len() + self.long_bytes);
        let mut small = self.small;
        let mut cut = 0;
        for (position, long) in self.long {
            whole.extend_from_slice(&small.split_to(position - cut));
            whole.extend_from_slice(&long);
            cut = position;
        }
        whole.extend_from_slice(&small);
        Ok(whole)
    }

    /// The message in pieces: long byte fields as they came, the rest between them. No piece is
    /// empty.
    ///
    /// # Errors
    /// The first thing that could not be written.
    pub fn finish_segments(self) -> Result<Vec<Bytes>, EncodeError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut segments = Vec::with_capacity(2 * self.long.len() + 1);
        let mut small = self.small.freeze();
        let mut cut = 0;
        for (position, long) in self.long {
            let before = small.split_to(position - cut);
            if !before.is_empty() {
                segments.push(before);
            }
            segments.push(long);
            cut = position;
        }
        if !small.is_empty() {
            segments.push(small);
        }
        Ok(segments)
    }

    /// From now on a byte field that is `stand_in` itself, not an equal one, is written with the next of
    /// `lens` for its length and left out: an empty piece of [`Encoder::finish_segments`] is its place.
    pub(crate) fn leave_out(&mut self, stand_in: Bytes, lens: Vec<usize>) {
        self.absent = Some(Absent { stand_in, lens: lens.into_iter() });
    }

    /// Makes `finish` fail with `error`, unless something failed before.
    pub(crate) fn fail(&mut self, error: EncodeError) {
        self.error.get_or_insert(error);
    }

    /// Writes the number of bytes after the first four into those four.
    pub(crate) fn set_frame_length(&mut self) {
        let length = self.len().saturating_sub(4);
        match i32::try_from(length) {
            Err(_) => self.fail(EncodeError::TooLong { length, length_max: i32::MAX as usize }),
            Ok(prefix) => {
                if let Some(slot) = self.small.get_mut(..4) {
                    slot.copy_from_slice(&prefix.to_be_bytes());
                }
            }
        }
    }

    /// A big-endian `i8`.
    pub fn i8(&mut self, value: i8) {
        self.small.put_i8(value);
    }

    /// A big-endian `i16`.
    pub fn i16(&mut self, value: i16) {
        self.small.put_i16(value);
    }

    /// A big-endian `u16`.
    pub fn u16(&mut self, value: u16) {
        self.small.put_u16(value);
    }

    /// A big-endian `i32`.
    pub fn i32(&mut self, value: i32) {
        self.small.put_i32(value);
    }

    /// A big-endian `i64`.
    pub fn i64(&mut self, value: i64) {
        self.small.put_i64(value);
    }

    /// A big-endian `f64`.
    pub fn f64(&mut self, value: f64) {
        self.small.put_f64(value);
    }

    /// One byte, 0 or 1.
    pub fn bool(&mut self, value: bool) {
        self.small.put_u8(u8::from(value));
    }

    /// 16 bytes.
    pub fn uuid(&mut self, value: Uuid) {
        self.small.put_slice(&value.0);
    }

    /// An unsigned varint of 32 bits.
    pub fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.small.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.small.put_u8(value as u8);
    }

    /// Bytes without a length.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.small.put_slice(bytes);
    }

    /// Bytes without a length, not copied now if they are long.
    pub fn shared(&mut self, bytes: &Bytes) {
        if bytes.len() < SEGMENT_BYTES_MIN {
            return self.raw(bytes);
        }
        self.long_bytes += bytes.len();
        self.long.push((self.small.len(), bytes.clone()));
    }

    /// The length of a byte field or array: `None` is null.
    pub(super) fn len32(&mut self, len: Option<usize>, flexible: bool) {
        if flexible {
            return self.compact_len(len);
        }
        match len.map(i32::try_from) {
            None => self.i32(-1),
            Some(Ok(len)) => self.i32(len),
            Some(Err(_)) => self.fail_too_long(len, i32::MAX as usize),
        }
    }

    /// The length of a string: `None` is null.
    pub(super) fn len16(&mut self, len: Option<usize>, flexible: bool) {
        if flexible {
            return self.compact_len(len);
        }
        match len.map(i16::try_from) {
            None => self.i16(-1),
            Some(Ok(len)) => self.i16(len),
            Some(Err(_)) => self.fail_too_long(len, i16::MAX as usize),
        }
    }

    fn compact_len(&mut self, len: Option<usize>) {
        match len.map(i32::try_from) {
            None => self.uvarint(0),
            Some(Ok(len)) => self.uvarint(len as u32 + 1),
            Some(Err(_)) => self.fail_too_long(len, i32::MAX as usize),
        }
    }

    fn fail_too_long(&mut self, len: Option<usize>, length_max: usize) {
        self.fail(EncodeError::TooLong { length: len.unwrap_or(0), length_max });
    }

    /// A string; `None` is null.
    pub fn nullable_string(&mut self, value: Option<&str>, flexible: bool) {
        self.len16(value.map(str::len), flexible);
        if let Some(text) = value {
            self.raw(text.as_bytes());
        }
    }

    /// Bytes; `None` is null.
    pub fn nullable_bytes(&mut self, value: Option<&Bytes>, flexible: bool) {
        let absent = self.absent.as_mut().zip(value);
        if let Some(len) = absent.and_then(|(absent, value)| absent.next_len(value)) {
            self.len32(Some(len), flexible);
            self.long_bytes += len;
            self.long.push((self.small.len(), Bytes::new()));
            return;
        }
        self.len32(value.map(Bytes::len), flexible);
        if let Some(bytes) = value {
            self.shared(bytes);
        }
    }

    /// One tagged field: tag, size, and what `write` writes. The caller has written their count.
    pub fn tagged_field(&mut self, tag: u32, write: impl FnOnce(&mut Self)) {
        let mut field = Self::with_capacity(64);
        write(&mut field);
        match field.finish() {
            Err(error) => self.fail(error),
            Ok(bytes) => {
                self.uvarint(tag);
                self.uvarint(bytes.len() as u32);
                self.raw(&bytes);
            }
        }
    }
}

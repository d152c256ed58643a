//! [`Decoder`]: reads values from the front of a [`Bytes`].

use bytes::Bytes;

use crate::error::DecodeError;
use crate::types::{Str, Uuid};

/// Memory that the decoded form of one message may take beside its bytes, unless
/// [`Decoder::with_heap_bytes_max`] says otherwise: 64 MiB. The metadata of 300,000 partitions
/// fits.
pub const HEAP_BYTES_MAX_DEFAULT: usize = 64 << 20;

/// Bytes of the longest unsigned varint of 32 bits.
const UVARINT_BYTES_MAX: usize = 5;

/// A cursor over one message.
///
/// After an error its position is somewhere inside the value that failed: give it up.
#[derive(Debug, Clone)]
pub struct Decoder {
    bytes: Bytes,
    position: usize,
    heap_bytes_left: usize,
}

impl Decoder {
    /// Reads from the first byte of `bytes`, with [`HEAP_BYTES_MAX_DEFAULT`].
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        Self::with_heap_bytes_max(bytes, HEAP_BYTES_MAX_DEFAULT)
    }

    /// Reads from the first byte of `bytes`; decoded arrays may take `heap_bytes_max` together.
    #[must_use]
    pub fn with_heap_bytes_max(bytes: Bytes, heap_bytes_max: usize) -> Self {
        Self { bytes, position: 0, heap_bytes_left: heap_bytes_max }
    }

    /// Bytes read so far.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// Memory that decoded arrays may still take.
    #[must_use]
    pub fn heap_bytes_left(&self) -> usize {
        self.heap_bytes_left
    }

    /// The bytes not read yet, without copying them.
    #[must_use]
    pub fn rest(&self) -> Bytes {
        self.bytes.slice(self.position..)
    }

    /// Ends the message.
    ///
    /// # Errors
    /// If bytes are left.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            left_bytes => Err(DecodeError::TrailingBytes { left_bytes }),
        }
    }

    /// Takes `len` bytes, shared with the message.
    ///
    /// # Errors
    /// If fewer are left.
    pub fn take(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        self.need(len)?;
        let taken = self.bytes.slice(self.position..self.position + len);
        self.position += len;
        Ok(taken)
    }

    /// Passes over `len` bytes.
    ///
    /// # Errors
    /// If fewer are left.
    pub fn skip(&mut self, len: usize) -> Result<(), DecodeError> {
        self.need(len)?;
        self.position += len;
        Ok(())
    }

    fn need(&self, len: usize) -> Result<(), DecodeError> {
        match self.remaining() {
            left_bytes if left_bytes < len => {
                Err(DecodeError::EndOfInput { needed_bytes: len, left_bytes })
            }
            _ => Ok(()),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let end = self.position.saturating_add(N);
        let found =
            self.bytes.get(self.position..end).and_then(|slice| <[u8; N]>::try_from(slice).ok());
        let array = found
            .ok_or(DecodeError::EndOfInput { needed_bytes: N, left_bytes: self.remaining() })?;
        self.position = end;
        Ok(array)
    }

    /// A big-endian `i8`.
    ///
    /// # Errors
    /// At the end of the message, as all that follow.
    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    /// A big-endian `i16`.
    #[allow(clippy::missing_errors_doc)]
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    /// A big-endian `u16`.
    #[allow(clippy::missing_errors_doc)]
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// A big-endian `i32`.
    #[allow(clippy::missing_errors_doc)]
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// A big-endian `i64`.
    #[allow(clippy::missing_errors_doc)]
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// A big-endian `f64`.
    #[allow(clippy::missing_errors_doc)]
    pub fn f64(&mut self) -> Result<f64, DecodeError> {
        Ok(f64::from_be_bytes(self.array()?))
    }

    /// One byte; anything but 0 is true, as in Kafka.
    #[allow(clippy::missing_errors_doc)]
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.i8()? != 0)
    }

    /// 16 bytes.
    #[allow(clippy::missing_errors_doc)]
    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        Ok(Uuid(self.array()?))
    }

    /// An unsigned varint of 32 bits, 7 bits a byte, lowest first.
    ///
    /// # Errors
    /// At the end of the message, and if it does not fit 32 bits.
    pub fn uvarint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0_u32;
        for index in 0..UVARINT_BYTES_MAX {
            let [byte] = self.array::<1>()?;
            let bits = u32::from(byte & 0x7f);
            // The fifth byte holds bits 28 to 31.
            if index == UVARINT_BYTES_MAX - 1 && byte > 0x0f {
                break;
            }
            value |= bits << (7 * index);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Varint { bytes_max: UVARINT_BYTES_MAX })
    }

    /// The length of a byte field or array: `None` is null.
    pub(super) fn len32(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if flexible {
            return self.compact_len();
        }
        let length = self.i32()?;
        self.checked_len(i64::from(length))
    }

    /// The length of a string: `None` is null.
    pub(super) fn len16(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if flexible {
            return self.compact_len();
        }
        let length = self.i16()?;
        self.checked_len(i64::from(length))
    }

    fn compact_len(&mut self) -> Result<Option<usize>, DecodeError> {
        let length = i64::from(self.uvarint()?) - 1;
        self.checked_len(length)
    }

    /// No element of anything is shorter than a byte, so a length beyond the bytes left is a lie.
    fn checked_len(&self, length: i64) -> Result<Option<usize>, DecodeError> {
        if length == -1 {
            return Ok(None);
        }
        let left_bytes = self.remaining();
        match usize::try_from(length) {
            Ok(len) if len <= left_bytes => Ok(Some(len)),
            _ => Err(DecodeError::Length { length, left_bytes }),
        }
    }

    /// A string; `None` is null.
    ///
    /// # Errors
    /// At the end of the message, and if it is not UTF-8.
    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<Str>, DecodeError> {
        match self.len16(flexible)? {
            None => Ok(None),
            Some(len) => Ok(Some(Str::from_utf8(self.take(len)?).map_err(|_| DecodeError::Utf8)?)),
        }
    }

    /// Bytes, shared with the message; `None` is null.
    ///
    /// # Errors
    /// At the end of the message.
    pub fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<Bytes>, DecodeError> {
        match self.len32(flexible)? {
            None => Ok(None),
            Some(len) => Ok(Some(self.take(len)?)),
        }
    }

    /// An empty vector with room for `count` elements, charged to the heap budget before it is
    /// made.
    ///
    /// `wire_bytes_min` is what an element takes on the wire at least.
    pub(super) fn vec<T>(
        &mut self,
        count: usize,
        wire_bytes_min: usize,
    ) -> Result<Vec<T>, DecodeError> {
        let left_bytes = self.remaining();
        if count.saturating_mul(wire_bytes_min) > left_bytes {
            return Err(DecodeError::Length { length: count as i64, left_bytes });
        }
        let needed_bytes = count.saturating_mul(size_of::<T>());
        let heap_left = self.heap_bytes_left;
        self.heap_bytes_left = heap_left
            .checked_sub(needed_bytes)
            .ok_or(DecodeError::HeapBudget { needed_bytes, left_bytes: heap_left })?;
        Ok(Vec::with_capacity(count))
    }

    /// Reads the tagged fields at the end of a flexible struct.
    ///
    /// `known` reads the field of a tag and says so, or returns false; then the field is passed
    /// over. It sees a decoder that ends with the field.
    ///
    /// # Errors
    /// Of `known`; if a known field does not fill its size; at the end of the message.
    pub fn tagged_fields(
        &mut self,
        mut known: impl FnMut(&mut Self, u32) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        // Each takes at least two bytes, so the message ends before a count that lies does.
        for _ in 0..self.uvarint()? {
            let tag = self.uvarint()?;
            let size = self.uvarint()? as usize;
            let heap_bytes_left = self.heap_bytes_left;
            let mut field = Self { bytes: self.take(size)?, position: 0, heap_bytes_left };
            if known(&mut field, tag)? {
                self.heap_bytes_left = field.heap_bytes_left;
                let left_bytes = field.remaining();
                if left_bytes > 0 {
                    return Err(DecodeError::TaggedField { tag, left_bytes });
                }
            }
        }
        Ok(())
    }
}

//! The values every message is made of, and the two cursors that read and write them.
//!
//! | value | classic versions | flexible versions (KIP-482) |
//! |---|---|---|
//! | integers, `bool`, `f64`, uuid | big endian, fixed size | the same |
//! | string | `i16` length, −1 is null | unsigned varint of length + 1, 0 is null |
//! | bytes, records, array | `i32` length, −1 is null | unsigned varint of length + 1, 0 is null |
//! | end of a struct | nothing | tagged fields: count, then per field tag, size, bytes |
//!
//! # Limits
//! A message says how long its parts are, and a hostile one lies. So a length is checked against
//! the bytes left before anything is done with it, a count against the bytes its elements take at
//! least, and the memory of each decoded array is charged to the decoder's heap budget before it is
//! allocated: a struct of 100 bytes in memory can be 1 byte on the wire, and a frame of 100 MiB
//! must not become 10 GB.
#![deny(clippy::indexing_slicing)]

mod decoder;
mod encoder;
mod field;

pub use decoder::{Decoder, HEAP_BYTES_MAX_DEFAULT};
pub use encoder::{Encoder, SEGMENT_BYTES_MIN};
pub(crate) use field::{Field, Layout, Struct};

pub use crate::error::{DecodeError, EncodeError};

/// A message, or a part of one, whose form depends on the version of the API.
pub trait Wire: Sized {
    /// Writes this value as `version` has it. Fields that this version does not have are not
    /// written.
    ///
    /// What cannot be written (a null where none may be, a string that is too long) makes the
    /// encoder's `finish` fail.
    fn encode(&self, encoder: &mut Encoder, version: i16);

    /// Reads a value as `version` has it. Fields that this version does not have get Kafka's
    /// default.
    ///
    /// # Errors
    /// If the bytes are not such a value. What was read is dropped.
    fn decode(decoder: &mut Decoder, version: i16) -> Result<Self, DecodeError>;
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests;

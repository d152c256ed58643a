//! Frames: a 4-byte length, a header, a body.
//!
//! ```text
//! request   length i32 | api key i16 | api version i16 | correlation id i32
//!           | client id nullable string | [tags] | body
//! response  length i32 | correlation id i32 | [tags] | body
//! ```
//! The tags are there from header version 2 (request) and 1 (response) on. The client id is a
//! classic string in every version, so that a broker can read the front of a header whose version
//! it does not know.
//!
//! Reading is two steps without a buffer in between: [`frame_len`] of the first four bytes, then
//! that many bytes into a [`Decoder`].
#![deny(clippy::indexing_slicing)]

use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};

use crate::api::Request;
use crate::api_key::ApiKey;
use crate::error::{DecodeError, EncodeError};
use crate::primitive::{Decoder, Encoder, Wire};
use crate::types::Str;

/// Kafka's `socket.request.max.bytes`: 100 MiB.
pub const FRAME_BYTES_MAX_DEFAULT: usize = 100 << 20;

/// The header of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API as the client names it; [`ApiKey::try_from`] tells whether Kafka has it.
    pub api_key: i16,
    /// The version of the request.
    pub api_version: i16,
    /// What the response must carry.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<Str>,
}

/// The bytes of the frame after its length prefix.
///
/// # Errors
/// If that is not between 1 and `frame_bytes_max`: the connection is of no use any more.
pub fn frame_len(prefix: &[u8; 4], frame_bytes_max: usize) -> Result<usize, DecodeError> {
    let length = i32::from_be_bytes(*prefix);
    match usize::try_from(length) {
        Ok(len) if len > 0 && len <= frame_bytes_max => Ok(len),
        _ => Err(DecodeError::FrameLength { length, frame_bytes_max }),
    }
}

/// Reads the header of a request; the body is next.
///
/// Of an API or version that Kafka does not have, the front is read (it is the same in all header
/// versions) and the decoder is left there, so that ApiVersions can be answered with error 35 and
/// anything else refused by name (KIP-511).
///
/// # Errors
/// If the bytes are not a header.
pub fn decode_request_header(decoder: &mut Decoder) -> Result<RequestHeader, DecodeError> {
    let header = RequestHeader {
        api_key: decoder.i16()?,
        api_version: decoder.i16()?,
        correlation_id: decoder.i32()?,
        client_id: decoder.nullable_string(false)?,
    };
    if let Ok(api_key) = ApiKey::try_from(header.api_key) {
        let known = api_key.versions().contains(&header.api_version);
        if known && api_key.header_versions(header.api_version).0 >= 2 {
            decoder.tagged_fields(|_, _| Ok(false))?;
        }
    }
    Ok(header)
}

/// Reads the header of a response to `api_key` in `version` and returns its correlation id; the
/// body is next.
///
/// # Errors
/// If the bytes are not a header.
pub fn decode_response_header(
    decoder: &mut Decoder,
    api_key: ApiKey,
    version: i16,
) -> Result<i32, DecodeError> {
    let correlation_id = decoder.i32()?;
    if api_key.header_versions(version).1 >= 1 {
        decoder.tagged_fields(|_, _| Ok(false))?;
    }
    Ok(correlation_id)
}

/// Reads a request whose header was read. Bytes after it are passed over, as Kafka does.
///
/// # Errors
/// If the bytes are not such a request, or the version is none of [`Request::VERSIONS`].
pub fn decode_request<R: Request>(mut decoder: Decoder, version: i16) -> Result<R, DecodeError> {
    R::decode(&mut decoder, version)
}

/// Reads a response frame (without its length) to a request `R` of `version`: correlation id and
/// response. Bytes after it are passed over, as Kafka's clients do.
///
/// # Errors
/// If the bytes are not such a response, or the version is none of [`Request::VERSIONS`].
pub fn decode_response<R: Request>(
    frame: Bytes,
    version: i16,
) -> Result<(i32, R::Response), DecodeError> {
    let mut decoder = Decoder::new(frame);
    let correlation_id = decode_response_header(&mut decoder, R::API_KEY, version)?;
    let response = R::Response::decode(&mut decoder, version)?;
    Ok((correlation_id, response))
}

/// A request frame in one piece, length in front.
///
/// # Errors
/// If the request cannot be written in this version.
pub fn encode_request<R: Request>(
    correlation_id: i32,
    client_id: Option<&str>,
    version: i16,
    request: &R,
) -> Result<BytesMut, EncodeError> {
    request_encoder(correlation_id, client_id, version, request).finish()
}

/// A request frame in pieces for a vectored write, length in front: record batches are pieces of
/// their own, not copied.
///
/// # Errors
/// If the request cannot be written in this version.
pub fn encode_request_segments<R: Request>(
    correlation_id: i32,
    client_id: Option<&str>,
    version: i16,
    request: &R,
) -> Result<Vec<Bytes>, EncodeError> {
    request_encoder(correlation_id, client_id, version, request).finish_segments()
}

/// A response frame in one piece, length in front.
///
/// # Errors
/// If the response cannot be written in this version.
pub fn encode_response<T: Wire>(
    api_key: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &T,
) -> Result<BytesMut, EncodeError> {
    response_encoder(api_key, version, correlation_id, response).finish()
}

/// A response frame in pieces for a vectored write, length in front: record batches are pieces of
/// their own, not copied.
///
/// # Errors
/// If the response cannot be written in this version.
pub fn encode_response_segments<T: Wire>(
    api_key: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &T,
) -> Result<Vec<Bytes>, EncodeError> {
    response_encoder(api_key, version, correlation_id, response).finish_segments()
}

/// As [`encode_response_segments`], for an answer with byte fields that are still elsewhere, as the
/// records of a fetch in their files. Such a field holds `stand_in` (itself, not an equal one) in the
/// message; it is written as if it had the next of `lens` bytes, and an empty piece marks its place.
///
/// # Errors
/// As [`encode_response_segments`].
pub fn encode_response_around<T: Wire>(
    api_key: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &T,
    stand_in: Bytes,
    lens: Vec<usize>,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut encoder = Encoder::new();
    encoder.leave_out(stand_in, lens);
    write_response(&mut encoder, api_key, version, correlation_id, response);
    encoder.finish_segments()
}

fn request_encoder<R: Request>(
    correlation_id: i32,
    client_id: Option<&str>,
    version: i16,
    request: &R,
) -> Encoder {
    let mut encoder = Encoder::new();
    encoder.i32(0); // The length, once it is known.
    encoder.i16(R::API_KEY.get());
    encoder.i16(version);
    encoder.i32(correlation_id);
    encoder.nullable_string(client_id, false);
    if R::API_KEY.header_versions(version).0 >= 2 {
        encoder.uvarint(0);
    }
    request.encode(&mut encoder, version);
    encoder.set_frame_length();
    encoder
}

fn response_encoder<T: Wire>(
    api_key: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &T,
) -> Encoder {
    let mut encoder = Encoder::new();
    write_response(&mut encoder, api_key, version, correlation_id, response);
    encoder
}

fn write_response<T: Wire>(
    encoder: &mut Encoder,
    api_key: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &T,
) {
    encoder.i32(0); // The length, once it is known.
    encoder.i32(correlation_id);
    if api_key.header_versions(version).1 >= 1 {
        encoder.uvarint(0);
    }
    response.encode(encoder, version);
    encoder.set_frame_length();
}

/// The versions both sides have, highest last; `None` if there is none.
#[must_use]
pub fn common_versions(
    ours: &RangeInclusive<i16>,
    theirs: &RangeInclusive<i16>,
) -> Option<RangeInclusive<i16>> {
    let first = *ours.start().max(theirs.start());
    let last = *ours.end().min(theirs.end());
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests;

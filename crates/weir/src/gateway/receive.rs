//! The body of a request, read within its bounds of size, time and memory.

use std::time::Duration;

use axum::body::Body;
use axum::http::{header, HeaderMap, StatusCode};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::SemaphorePermit;

use super::outcome::Rejection;
use super::Gateway;

/// What a body holds of the memory for bodies, until it is dropped.
pub(super) type Room<'a> = SemaphorePermit<'a>;

/// Reads a body to its end. What its headers tell is refused before a byte of it is read.
///
/// Memory is reserved as bytes arrive, so that a sender who announces much and sends nothing holds
/// nothing; and a body that is slow to come holds no place among the requests being handled.
pub(super) async fn receive<'a>(
    gateway: &'a Gateway,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Bytes, Room<'a>), Rejection> {
    check_coding(headers)?;
    let bytes_max = gateway.limits.body_bytes_max;
    if content_length(headers).is_some_and(|length| length > bytes_max as u64) {
        return Err(too_large(bytes_max));
    }
    let body_time = gateway.limits.body_time;
    match tokio::time::timeout(body_time, read(gateway, body)).await {
        Ok(read) => read,
        Err(_) => Err(too_slow(body_time)),
    }
}

async fn read(gateway: &Gateway, mut body: Body) -> Result<(Bytes, Room<'_>), Rejection> {
    let bytes_max = gateway.limits.body_bytes_max;
    let mut room = gateway.take_room_units(1).ok_or_else(no_room)?;
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&error))?;
        // Trailers say nothing that is used here.
        let Ok(chunk) = frame.into_data() else { continue };
        let length = bytes.len() + chunk.len();
        if length > bytes_max {
            return Err(too_large(bytes_max));
        }
        let held = room.num_permits();
        if let Some(more) = Gateway::room_units(length).checked_sub(held).filter(|more| *more > 0) {
            room.merge(gateway.take_room_units(more).ok_or_else(no_room)?);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok((bytes.freeze(), room))
}

/// RFC 9110 §15.5.16: the answer says which codings would have been taken; `events.rs` adds it.
fn check_coding(headers: &HeaderMap) -> Result<(), Rejection> {
    for value in headers.get_all(header::CONTENT_ENCODING) {
        let text = String::from_utf8_lossy(value.as_bytes());
        let mut codings = text.split(',').map(str::trim);
        let is_plain = |coding: &str| coding.is_empty() || coding.eq_ignore_ascii_case("identity");
        if let Some(coding) = codings.find(|coding| !is_plain(coding)) {
            let shown: String = coding.chars().take(32).collect();
            let message =
                format!("Content-Encoding {shown:?} is not taken: send the body uncompressed");
            return Err(
                Rejection::bad("WEIR-0915", message).status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
            );
        }
    }
    Ok(())
}

/// A length that is no number never comes here: hyper refuses it.
fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large(bytes_max: usize) -> Rejection {
    Rejection::bad("WEIR-0906", format!("the body has more than {bytes_max} bytes"))
        .status(StatusCode::PAYLOAD_TOO_LARGE)
}

fn too_slow(body_time: Duration) -> Rejection {
    let message = format!("the body did not arrive within {} s", body_time.as_secs_f64());
    Rejection::bad("WEIR-0916", message).status(StatusCode::REQUEST_TIMEOUT)
}

fn broken(error: &axum::Error) -> Rejection {
    Rejection::bad("WEIR-0916", format!("the body could not be read to its end: {error}"))
}

fn no_room() -> Rejection {
    let message = "the bodies being handled take all the memory they may";
    Rejection::later("WEIR-0908", message, StatusCode::SERVICE_UNAVAILABLE, 100)
}

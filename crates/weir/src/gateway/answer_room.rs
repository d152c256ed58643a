//! Memory of answers, until they are written.
//!
//! An answer can be many times its request, and who asked may be slow to read it. So there is room for as
//! many bytes of answers as of bodies. It is reserved before events are taken, since afterwards each must
//! have its answer; one that came out larger, and finds no more room, says less.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::outcome::Summary;
use super::ROOM_UNIT_BYTES;

/// Of the answer to one event without its message; what it repeats of the event is short.
const EVENT_BYTES: usize = 256;

/// Room for answers.
#[derive(Debug, Clone)]
pub(super) struct AnswerRoom {
    free: Arc<Semaphore>,
    units: usize,
}

/// What an answer holds of it, until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    permit: OwnedSemaphorePermit,
    free: Arc<Semaphore>,
}

impl AnswerRoom {
    pub(super) fn new(bytes_max: usize) -> Self {
        let units = (bytes_max / ROOM_UNIT_BYTES + 1).min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(units)), units }
    }

    /// Never more than there is: one request alone is always answered.
    fn units_for(&self, events: usize) -> u32 {
        let units = (events * EVENT_BYTES).div_ceil(ROOM_UNIT_BYTES).min(self.units);
        u32::try_from(units).unwrap_or(u32::MAX)
    }

    /// Room for the answers to so many events; `None` if others take it.
    pub(super) fn try_hold(&self, events: usize) -> Option<Held> {
        let free = Arc::clone(&self.free);
        let permit = Arc::clone(&free).try_acquire_many_owned(self.units_for(events)).ok()?;
        Some(Held { permit, free })
    }

    /// As [`AnswerRoom::try_hold`], once there is room.
    pub(super) async fn hold(&self, events: usize) -> Option<Held> {
        let free = Arc::clone(&self.free);
        let permit = Arc::clone(&free).acquire_many_owned(self.units_for(events)).await.ok()?;
        Some(Held { permit, free })
    }
}

impl Held {
    /// The JSON of a summary, with room for all of it, or with less to say.
    pub(super) fn json_of(&mut self, summary: &mut Summary) -> Vec<u8> {
        let json = to_json(summary);
        let more = json.len().div_ceil(ROOM_UNIT_BYTES).saturating_sub(self.permit.num_permits());
        if more == 0 {
            return json;
        }
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        match Arc::clone(&self.free).try_acquire_many_owned(more) {
            Ok(permit) => {
                self.permit.merge(permit);
                json
            }
            Err(_) => {
                drop(json);
                summary.shorten();
                to_json(summary)
            }
        }
    }

    /// The text as bytes that hold the room as long as any of them is there.
    pub(super) fn bytes(self, json: Vec<u8>) -> Bytes {
        Bytes::from_owner(Answer { json, _held: self })
    }
}

struct Answer {
    json: Vec<u8>,
    _held: Held,
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        &self.json
    }
}

/// The answer types hold nothing that JSON cannot say.
fn to_json(answer: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(answer).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::outcome::{EventOutcome, Rejection};
    use super::*;

    fn summary(events: usize) -> Summary {
        let rejection = Rejection::bad("WEIR-0901", "x".repeat(900));
        Summary::new(vec![EventOutcome::Rejected(rejection); events], true)
    }

    #[test]
    fn an_answer_holds_its_room_until_its_last_byte_is_gone() {
        let room = AnswerRoom::new(100 * ROOM_UNIT_BYTES);
        let mut held = room.try_hold(40).unwrap();
        let json = held.json_of(&mut summary(40));
        assert!(json.len() > 36_000, "the messages have room");
        let mut bytes = held.bytes(json);
        let last = bytes.split_off(30_000);
        drop(bytes);
        assert!(room.try_hold(300).is_none());
        drop(last);
        assert!(room.try_hold(300).is_some());
    }

    #[test]
    fn an_answer_without_room_for_its_messages_has_the_codes() {
        let room = AnswerRoom::new(100 * ROOM_UNIT_BYTES);
        let _other = room.try_hold(360).unwrap();
        let mut held = room.try_hold(40).unwrap();
        let json = String::from_utf8(held.json_of(&mut summary(40))).unwrap();
        assert!(json.len() < 40 * EVENT_BYTES, "{} bytes", json.len());
        assert_eq!(json.matches("WEIR-0901").count(), 40);
    }

    #[test]
    fn the_largest_request_has_room_when_it_is_alone() {
        let room = AnswerRoom::new(1_024);
        assert!(room.try_hold(10_000).is_some());
    }
}

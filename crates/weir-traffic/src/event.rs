//! An event on its way out, in as few bytes as it can be held: a full lane is many of them.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use weir_client::event::{
    HEADER_EVENT_ID, HEADER_EVENT_TYPE, HEADER_SEQ, HEADER_SOURCE, HEADER_TRACE_ID,
};
use weir_client::Priority;

/// What is sent: a record for a topic, and what the manager needs to know of it.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The topic it goes to. Shared, since there are few topics and many events.
    pub topic: Arc<str>,
    /// The record value, as it came in.
    pub value: Bytes,
    /// The record key and headers.
    packed: Box<[u8]>,
    /// Its class; the sink says it in a header of its own.
    pub priority: Priority,
    /// Create time of the record, in ms since 1970.
    pub timestamp_ms: i64,
    /// The event's id, if the sender gave one; repeats of it are found by it.
    ///
    /// It must be unique over all senders: where senders choose their own, put the sender's name
    /// before it (and U+0000 between). Its length does not matter, 16 bytes of it are kept.
    pub id: Option<Box<str>>,
    /// Its number in the order of admission; the sink says it in a header of its own.
    pub(crate) seq: i64,
}

impl Outgoing {
    /// A normal event without key, headers or id.
    #[must_use]
    pub fn new(topic: impl Into<Arc<str>>, value: impl Into<Bytes>, timestamp_ms: i64) -> Self {
        Self {
            topic: topic.into(),
            value: value.into(),
            packed: Box::default(),
            priority: Priority::Normal,
            timestamp_ms,
            id: None,
            seq: 0,
        }
    }

    /// Its number in the order of admission ([`crate::sequence`]); 0 before that.
    #[must_use]
    pub const fn seq(&self) -> i64 {
        self.seq
    }

    /// With this key and these headers, which [`Headers::with_capacity`] has packed without waste.
    #[must_use]
    pub fn with_headers(mut self, headers: Headers) -> Self {
        self.packed = headers.packed.into_boxed_slice();
        self
    }

    /// With this key and no headers.
    #[must_use]
    pub fn with_key(self, key: impl AsRef<[u8]>) -> Self {
        let key = key.as_ref();
        let headers = Headers::with_capacity(Headers::entry_bytes("", key.len())).with_key(key);
        self.with_headers(headers)
    }

    /// The record key; `None` is a null key, and then no order is kept.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        entries(&self.packed).find(|(name, _)| matches!(name, Name::Key)).map(|(_, key)| key)
    }

    /// The record headers, in the order they were added.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        headers_of(&self.packed)
    }

    /// With this class.
    #[must_use]
    pub fn with_priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// With this id.
    #[must_use]
    pub fn with_id(mut self, id: &str) -> Self {
        self.id = Some(id.into());
        self
    }

    /// What it takes in a lane: its own bytes, without the manager's.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.value.len() + self.packed.len()
    }
}

/// Key and headers of a record, packed into one allocation: an event in a lane costs its bytes, not a
/// tree of vectors.
///
/// Each entry is a tag (1 byte: [`KEY`], the place in [`KNOWN`], or [`OTHER`]), for another name its
/// length (1 byte) and itself, the length of the value (1 byte, or 255 and 4 bytes, big endian), the
/// value.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    packed: Vec<u8>,
}

/// Names that every event has take one byte.
const KNOWN: [&str; 5] =
    [HEADER_EVENT_ID, HEADER_EVENT_TYPE, HEADER_SOURCE, HEADER_TRACE_ID, HEADER_SEQ];
const KEY: u8 = 254;
const OTHER: u8 = 255;
/// A value of so many bytes or more has its length in four bytes more.
const LONG: usize = 255;

enum Name<'a> {
    Key,
    Header(&'a str),
}

impl Headers {
    /// Room for so many bytes, as [`Headers::entry_bytes`] counts them. What is filled to the byte
    /// needs no second allocation.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { packed: Vec::with_capacity(bytes) }
    }

    /// What an entry takes; the name of the key is empty.
    #[must_use]
    pub fn entry_bytes(name: &str, value_bytes: usize) -> usize {
        let known = name.is_empty() || KNOWN.contains(&name);
        let name_bytes = if known { 1 } else { 2 + name_end(name) };
        name_bytes + if value_bytes < LONG { 1 } else { 5 } + value_bytes
    }

    /// Adds a header. Of a name longer than 255 bytes the beginning is kept (names are constants of
    /// the program), and a value over 4 GiB cannot reach this place, since bodies are bounded.
    pub fn push(&mut self, name: &'static str, value: &[u8]) {
        if let Some(place) = KNOWN.iter().position(|known| *known == name) {
            self.packed.push(u8::try_from(place).unwrap_or(OTHER));
        } else {
            let end = name_end(name);
            self.packed.push(OTHER);
            self.packed.push(u8::try_from(end).unwrap_or_default());
            self.packed.extend_from_slice(&name.as_bytes()[..end]);
        }
        self.push_value(value);
    }

    /// Sets the key. Once.
    pub fn push_key(&mut self, key: &[u8]) {
        self.packed.push(KEY);
        self.push_value(key);
    }

    fn push_value(&mut self, value: &[u8]) {
        let value_len = u32::try_from(value.len()).unwrap_or(u32::MAX);
        let value = value.get(..value_len as usize).unwrap_or_default();
        match u8::try_from(value_len) {
            Ok(short) if usize::from(short) < LONG => self.packed.push(short),
            _ => {
                self.packed.push(u8::MAX);
                self.packed.extend_from_slice(&value_len.to_be_bytes());
            }
        }
        self.packed.extend_from_slice(value);
    }

    /// With one header more.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        self.push(name, value.as_ref());
        self
    }

    /// With this key.
    #[must_use]
    pub fn with_key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.push_key(key.as_ref());
        self
    }

    /// Names and values, in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        headers_of(&self.packed)
    }

    /// The value of the first header of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

/// How much of a name is kept.
fn name_end(name: &str) -> usize {
    let mut end = name.len().min(usize::from(u8::MAX));
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    end
}

fn headers_of(packed: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    entries(packed).filter_map(|(name, value)| match name {
        Name::Key => None,
        Name::Header(name) => Some((name, value)),
    })
}

fn entries(packed: &[u8]) -> impl Iterator<Item = (Name<'_>, &[u8])> {
    let mut rest = packed;
    std::iter::from_fn(move || {
        let (&tag, mut tail) = rest.split_first()?;
        let name = match tag {
            KEY => Name::Key,
            OTHER => {
                let (&name_len, after) = tail.split_first()?;
                let (name, after) = after.split_at_checked(usize::from(name_len))?;
                tail = after;
                Name::Header(std::str::from_utf8(name).ok()?)
            }
            known => Name::Header(KNOWN.get(usize::from(known))?),
        };
        let (&short, mut tail) = tail.split_first()?;
        let mut value_len = usize::from(short);
        if value_len == LONG {
            let (long, after) = tail.split_first_chunk::<4>()?;
            (value_len, tail) = (u32::from_be_bytes(*long) as usize, after);
        }
        let (value, tail) = tail.split_at_checked(value_len)?;
        rest = tail;
        Some((name, value))
    })
}

impl<V: AsRef<[u8]>> FromIterator<(&'static str, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (&'static str, V)>>(headers: I) -> Self {
        headers.into_iter().fold(Self::default(), |all, (name, value)| all.with(name, value))
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self.iter().map(|(name, value)| (name, String::from_utf8_lossy(value)));
        f.debug_map().entries(pairs).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_out_as_they_went_in() {
        let headers: Headers = [("event-type", "drone.heartbeat"), ("empty", ""), ("source", "s")]
            .into_iter()
            .collect();
        let pairs: Vec<_> = headers.iter().collect();
        assert_eq!(
            pairs,
            [("event-type", &b"drone.heartbeat"[..]), ("empty", &b""[..]), ("source", &b"s"[..])]
        );
        assert_eq!(headers.get("source"), Some(&b"s"[..]));
        assert_eq!(Headers::default().iter().count(), 0);
    }

    #[test]
    fn key_and_headers_of_any_length_fill_the_room_asked_for_to_the_byte() {
        for bytes in [0, 1, 254, 255, 256, 70_000] {
            let text = vec![b'v'; bytes];
            let names = ["trace_id", "a-name-of-its-own", "source"];
            let room: usize = ["", names[0], names[1], names[2]]
                .map(|n| Headers::entry_bytes(n, bytes))
                .iter()
                .sum();
            let mut headers = Headers::with_capacity(room).with_key(&text);
            for name in names {
                headers.push(name, &text);
            }
            assert_eq!((headers.packed.len(), headers.packed.capacity()), (room, room), "{bytes}");
            let event = Outgoing::new("t", "v", 0).with_headers(headers);
            assert_eq!(event.key(), Some(&text[..]));
            let read: Vec<_> = event.headers().map(|(name, value)| (name, value.len())).collect();
            assert_eq!(read, names.map(|name| (name, bytes)));
        }
        assert_eq!(Outgoing::new("t", "v", 0).key(), None, "a null key is not an empty one");
        assert_eq!(Outgoing::new("t", "v", 0).with_key("").key(), Some(&b""[..]));
    }

    #[test]
    fn an_event_in_a_lane_takes_no_more_than_136_bytes_beside_its_own() {
        assert!(std::mem::size_of::<crate::lane::Entry<Outgoing>>() <= 136);
    }
}

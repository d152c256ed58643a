//! An event on its way out.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use weir_client::Priority;

/// What is sent: a record for a topic, and what the manager needs to know of it.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The topic it goes to. Shared, since there are few topics and many events.
    pub topic: Arc<str>,
    /// The record key; `None` is a null key, and then no order is kept.
    pub key: Option<Bytes>,
    /// The record value, as it came in.
    pub value: Bytes,
    /// The record headers.
    pub headers: Headers,
    /// Its class.
    pub priority: Priority,
    /// Create time of the record, in ms since 1970.
    pub timestamp_ms: i64,
    /// The event's id, if the sender gave one; repeats of it are found by it.
    ///
    /// It must be unique over all senders: where senders choose their own, put the sender's name
    /// before it (and U+0000 between). Its length does not matter, 16 bytes of it are kept.
    pub id: Option<Box<str>>,
}

impl Outgoing {
    /// A normal event without key, headers or id.
    #[must_use]
    pub fn new(topic: impl Into<Arc<str>>, value: impl Into<Bytes>, timestamp_ms: i64) -> Self {
        Self {
            topic: topic.into(),
            key: None,
            value: value.into(),
            headers: Headers::default(),
            priority: Priority::Normal,
            timestamp_ms,
            id: None,
        }
    }

    /// With this key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
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
        self.value.len() + self.key.as_ref().map_or(0, Bytes::len) + self.headers.packed.len()
    }
}

/// Record headers, packed into one allocation: an event in a lane costs its bytes, not a tree of vectors.
///
/// Each header is the length of its name (1 byte), the name, the length of its value (4 bytes, big
/// endian), the value.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    packed: Vec<u8>,
}

impl Headers {
    /// Room for so many bytes of names and values.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { packed: Vec::with_capacity(bytes) }
    }

    /// Adds a header. Of a name longer than 255 bytes the beginning is kept (names are constants of
    /// the program), and a value over 4 GiB cannot reach this place, since bodies are bounded.
    pub fn push(&mut self, name: &'static str, value: &[u8]) {
        let mut end = name.len().min(usize::from(u8::MAX));
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        let value_len = u32::try_from(value.len()).unwrap_or(u32::MAX);
        let value = value.get(..value_len as usize).unwrap_or_default();
        self.packed.push(u8::try_from(end).unwrap_or_default());
        self.packed.extend_from_slice(&name.as_bytes()[..end]);
        self.packed.extend_from_slice(&value_len.to_be_bytes());
        self.packed.extend_from_slice(value);
    }

    /// With one header more.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        self.push(name, value.as_ref());
        self
    }

    /// Names and values, in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut rest = self.packed.as_slice();
        std::iter::from_fn(move || {
            let (&name_len, tail) = rest.split_first()?;
            let (name, tail) = tail.split_at_checked(usize::from(name_len))?;
            let (value_len, tail) = tail.split_first_chunk::<4>()?;
            let (value, tail) = tail.split_at_checked(u32::from_be_bytes(*value_len) as usize)?;
            rest = tail;
            Some((std::str::from_utf8(name).ok()?, value))
        })
    }

    /// The value of the first header of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }
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
}

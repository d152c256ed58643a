//! Interceptors: the place to change a record's topic, key or headers before its partition is chosen.
//!
//! With none configured a record costs nothing more than before. With some, each record pays for what
//! they look at: nothing is copied until an interceptor changes it.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use weir_protocol::batch::Header;
use weir_protocol::types::{PartitionId, TimestampMs};

use crate::record::Record;

/// Sees every record of a producer before it is encoded.
pub trait Interceptor: Send + Sync + fmt::Debug {
    /// May change the record. Called once per record, however long `send_wait` waits with it, in the order
    /// of the configuration, each with what the one before left. No lock of the producer is held: it may
    /// send records itself, which go through the interceptors too.
    fn on_send(&self, record: &mut Intercepted<'_>);
}

/// A record on its way through the interceptors.
#[derive(Debug, Clone)]
pub struct Intercepted<'a> {
    topic: Cow<'a, str>,
    partition: Option<PartitionId>,
    key: Option<Cow<'a, [u8]>>,
    value: Option<&'a [u8]>,
    timestamp: Option<TimestampMs>,
    original_headers: &'a [Header<'a>],
    /// Only once a header was changed.
    headers: Option<Vec<OwnedHeader>>,
}

#[derive(Debug, Clone)]
struct OwnedHeader {
    key: String,
    value: Option<Vec<u8>>,
}

impl<'a> Intercepted<'a> {
    /// What the interceptors make of a record.
    pub(crate) fn new(interceptors: &[Arc<dyn Interceptor>], record: &Record<'a>) -> Self {
        let mut intercepted = Intercepted {
            topic: Cow::Borrowed(record.topic),
            partition: record.partition,
            key: record.key.map(Cow::Borrowed),
            value: record.value,
            timestamp: record.timestamp,
            original_headers: record.headers,
            headers: None,
        };
        for interceptor in interceptors {
            interceptor.on_send(&mut intercepted);
        }
        intercepted
    }

    /// Its headers, if one of them was changed.
    pub(crate) fn changed_headers(&self) -> Option<Vec<Header<'_>>> {
        let headers = self.headers.as_ref()?.iter();
        Some(
            headers
                .map(|OwnedHeader { key, value }| Header { key, value: value.as_deref() })
                .collect(),
        )
    }

    /// The record to send, with its changed headers.
    pub(crate) fn record<'b>(&'b self, headers: Option<&'b [Header<'b>]>) -> Record<'b> {
        Record {
            topic: &self.topic,
            partition: self.partition,
            key: self.key.as_deref(),
            value: self.value,
            headers: headers.unwrap_or(self.original_headers),
            timestamp: self.timestamp,
        }
    }

    /// The topic it goes to.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The partition it was given; `None` where the partitioner will choose.
    pub fn partition(&self) -> Option<PartitionId> {
        self.partition
    }

    /// The key.
    pub fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    /// The value; `None` for a tombstone, and for a value that is written in place later.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }

    /// The value of the last header of this name; `None` if there is none or it is null.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        match &self.headers {
            Some(headers) => {
                headers.iter().rev().find(|header| header.key == name)?.value.as_deref()
            }
            None => self.original_headers.iter().rev().find(|header| header.key == name)?.value,
        }
    }

    /// Sends it to this topic. A partition it was given was one of the old topic's and is forgotten.
    pub fn set_topic(&mut self, topic: impl Into<String>) {
        let topic = topic.into();
        if *topic != *self.topic {
            self.topic = Cow::Owned(topic);
            self.partition = None;
        }
    }

    /// Gives it this key.
    pub fn set_key(&mut self, key: Option<Vec<u8>>) {
        self.key = key.map(Cow::Owned);
    }

    /// Adds a header at the end; names may repeat.
    pub fn add_header(&mut self, name: impl Into<String>, value: Option<Vec<u8>>) {
        self.headers_mut().push(OwnedHeader { key: name.into(), value });
    }

    /// Takes all headers of this name away.
    pub fn remove_header(&mut self, name: &str) {
        if self.has_header(name) {
            self.headers_mut().retain(|header| header.key != name);
        }
    }

    fn has_header(&self, name: &str) -> bool {
        match &self.headers {
            Some(headers) => headers.iter().any(|header| header.key == name),
            None => self.original_headers.iter().any(|header| header.key == name),
        }
    }

    fn headers_mut(&mut self) -> &mut Vec<OwnedHeader> {
        let original = self.original_headers;
        self.headers.get_or_insert_with(|| {
            let owned = |header: &Header<'_>| OwnedHeader {
                key: header.key.to_owned(),
                value: header.value.map(<[u8]>::to_vec),
            };
            original.iter().map(owned).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Look;

    impl Interceptor for Look {
        fn on_send(&self, record: &mut Intercepted<'_>) {
            assert_eq!(record.header("a"), Some(&b"1"[..]));
            record.remove_header("nobody has it");
        }
    }

    /// Routes by the header `target_topic`, as the router of spec 003.
    #[derive(Debug)]
    struct Route;

    impl Interceptor for Route {
        fn on_send(&self, record: &mut Intercepted<'_>) {
            let target =
                record.header("target_topic").map(|t| String::from_utf8_lossy(t).into_owned());
            if let Some(target) = target {
                record.set_topic(target);
                record.remove_header("target_topic");
                record.set_key(Some(b"new".to_vec()));
                record.add_header("routed", None);
            }
        }
    }

    fn chain(interceptors: Vec<Arc<dyn Interceptor>>, record: &Record<'_>) -> String {
        let intercepted = Intercepted::new(&interceptors, record);
        let headers = intercepted.changed_headers();
        format!("{:?}", intercepted.record(headers.as_deref()))
    }

    #[test]
    fn what_is_only_looked_at_stays_as_it_is() {
        let headers = [Header { key: "a", value: Some(b"1") }];
        let record = Record::new("t", b"v").with_key(b"k").with_headers(&headers);
        assert_eq!(chain(vec![Arc::new(Look)], &record), format!("{record:?}"));
    }

    #[test]
    fn each_interceptor_sees_what_the_one_before_left() {
        let headers = [
            Header { key: "target_topic", value: Some(b"other") },
            Header { key: "a", value: Some(b"1") },
        ];
        let record = Record::new("t", b"v").with_partition(PartitionId(4)).with_headers(&headers);
        let after = [Header { key: "a", value: Some(b"1") }, Header { key: "routed", value: None }];
        let expected = Record::new("other", b"v").with_key(b"new").with_headers(&after);
        assert_eq!(
            chain(vec![Arc::new(Route), Arc::new(Look)], &record),
            format!("{expected:?}"),
            "the partition was one of the old topic's"
        );
    }
}

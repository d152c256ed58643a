//! What goes in and what comes out: a record to send and a record consumed.

use bytes::Bytes;
use weir_protocol::batch::{Header, Headers, HeadersView};
use weir_protocol::types::{Offset, PartitionId, Str, TimestampMs};

/// One record to send. Everything is borrowed: the producer copies it once, into the open batch of
/// its partition.
#[derive(Debug, Clone, Copy, Default)]
pub struct Record<'a> {
    /// The topic it goes to.
    pub topic: &'a str,
    /// The partition, or `None` to let the topic's partitioner choose by key.
    pub partition: Option<PartitionId>,
    /// The key; `None` is a null key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers, in order; names may repeat.
    pub headers: &'a [Header<'a>],
    /// Create time, or `None` for the producer's clock at the moment of `send`.
    pub timestamp: Option<TimestampMs>,
}

impl<'a> Record<'a> {
    /// A record with a value and neither key nor headers.
    pub const fn new(topic: &'a str, value: &'a [u8]) -> Self {
        Record {
            topic,
            partition: None,
            key: None,
            value: Some(value),
            headers: &[],
            timestamp: None,
        }
    }

    /// With this key.
    #[must_use]
    pub const fn with_key(mut self, key: &'a [u8]) -> Self {
        self.key = Some(key);
        self
    }

    /// With these headers.
    #[must_use]
    pub const fn with_headers(mut self, headers: &'a [Header<'a>]) -> Self {
        self.headers = headers;
        self
    }

    /// To this partition, whatever the key.
    #[must_use]
    pub const fn with_partition(mut self, partition: PartitionId) -> Self {
        self.partition = Some(partition);
        self
    }

    /// With this create time.
    #[must_use]
    pub const fn with_timestamp(mut self, timestamp: TimestampMs) -> Self {
        self.timestamp = Some(timestamp);
        self
    }
}

/// One record read from a partition. Its bytes are slices of the fetched batch: cloning is cheap, and
/// keeping one record keeps its whole batch in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumedRecord {
    /// The topic it was read from.
    pub topic: Str,
    /// The partition it was read from.
    pub partition: PartitionId,
    /// Its place in the partition.
    pub offset: Offset,
    /// Create time, or append time where the topic says so.
    pub timestamp: TimestampMs,
    /// The key; `None` is a null key.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Headers, in order; names may repeat. Decoded when looked at.
    pub headers: Headers,
}

/// One record as [`crate::Consumer::poll_each`] shows it: borrowed, for the time of one call.
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'a> {
    /// The topic it was read from.
    pub topic: &'a Str,
    /// The partition it was read from.
    pub partition: PartitionId,
    /// Its place in the partition.
    pub offset: Offset,
    /// Create time, or append time where the topic says so.
    pub timestamp: TimestampMs,
    /// The key; `None` is a null key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers, in order; names may repeat.
    pub headers: HeadersView<'a>,
}

impl ConsumedRecord {
    pub(crate) fn as_ref(&self) -> RecordRef<'_> {
        RecordRef {
            topic: &self.topic,
            partition: self.partition,
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: self.headers.view(),
        }
    }

    /// The value of the last header of this name, as Java's `Headers.lastHeader`; `None` if there is
    /// none or it is null.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.get(name).flatten()
    }
}

//! One partition's log with Kafka's rules for idempotent producers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use weir_protocol::batch::{self, BatchView};
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// A record as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: Option<String>,
    pub(crate) value: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) producer: i64,
    pub(crate) sequence: i32,
    /// Of a record in a transaction: whether it was committed, once that is decided.
    pub(crate) committed: Option<bool>,
    pub(crate) transactional: bool,
    /// Counts what was written anywhere: which of two records was written first.
    pub(crate) written: u64,
}

#[derive(Debug, Default)]
pub(crate) struct PartitionLog {
    entries: Vec<Entry>,
    /// Batches with their base offset, as a fetch serves them.
    batches: Vec<(i64, i64, Bytes)>,
    end: i64,
    pub(crate) start: i64,
    producers: BTreeMap<ProducerId, ProducerState>,
    pub(crate) aborted: Vec<(i64, i64)>,
}

#[derive(Debug)]
struct ProducerState {
    epoch: ProducerEpoch,
    next: Sequence,
    /// First and last sequence, base offset.
    recent: VecDeque<(Sequence, Sequence, i64)>,
}

impl PartitionLog {
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn end(&self) -> i64 {
        self.end
    }

    /// As after a restart without its producer snapshots.
    pub(crate) fn forget_producers(&mut self) {
        self.producers.clear();
    }

    /// Appends a batch; its base offset, or why not.
    pub(crate) fn append(&mut self, bytes: &Bytes) -> Result<i64, ErrorCode> {
        let view = BatchView::parse(bytes).map_err(|_| ErrorCode::CorruptMessage)?;
        assert_eq!(view.size_bytes(), bytes.len(), "one batch for a partition");
        view.verify_crc().expect("a client's batch has a right checksum");
        assert_eq!(view.record_count(), view.last_offset_delta() + 1);
        if let Some(duplicate_of) = self.check_sequence(&view)? {
            return Ok(duplicate_of);
        }
        let base = self.end;
        for record in view.records(1 << 20).unwrap() {
            let record = record.unwrap();
            let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
            let header = |(name, value): (_, Option<Bytes>)| {
                let _: &weir_protocol::types::Str = &name;
                (name.to_string(), value.map(text).unwrap_or_default())
            };
            self.entries.push(Entry {
                key: record.key.map(text),
                value: record.value.map(text).unwrap_or_default(),
                headers: record.headers.iter().map(header).collect(),
                producer: view.producer_id().get(),
                sequence: view.base_sequence().get() + record.offset.get() as i32,
                committed: None,
                transactional: view.is_transactional(),
                written: WRITTEN.fetch_add(1, Ordering::Relaxed),
            });
        }
        self.push_batch(bytes.to_vec(), view.last_offset_delta());
        Ok(base)
    }

    /// A marker: what the producer has open is decided. With an epoch, the old one is fenced.
    pub(crate) fn decide(&mut self, producer: i64, commit: bool, raised: Option<i16>) {
        let open = self.entries.iter_mut().filter(|entry| {
            entry.transactional && entry.producer == producer && entry.committed.is_none()
        });
        open.for_each(|entry| entry.committed = Some(commit));
        if let (Some(epoch), Some(state)) = (raised, self.producers.get_mut(&ProducerId(producer)))
        {
            state.epoch = ProducerEpoch(epoch);
            state.next = Sequence(0);
            state.recent.clear();
        }
    }

    /// Puts a batch at the end without any check.
    pub(crate) fn push_batch(&mut self, mut bytes: Vec<u8>, last_delta: i32) {
        let base = self.end;
        batch::assign(&mut bytes, Offset(base), LeaderEpoch(1)).unwrap();
        self.end = base + i64::from(last_delta) + 1;
        self.batches.push((base, self.end, bytes.into()));
    }

    /// The first batch with a record of this time or later.
    pub(crate) fn first_since(&self, time: i64) -> Option<i64> {
        let is_since =
            |bytes: &Bytes| BatchView::parse(bytes).unwrap().max_timestamp().get() >= time;
        self.batches.iter().find(|(.., bytes)| is_since(bytes)).map(|(base, ..)| *base)
    }

    /// Damages a batch in place.
    pub(crate) fn damage(&mut self, index: usize) {
        let mut bytes = self.batches[index].2.to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        self.batches[index].2 = bytes.into();
    }

    /// Whole batches from the one that holds `offset`, at least one.
    pub(crate) fn read(&self, offset: i64, bytes_max: usize) -> Bytes {
        let mut out = Vec::new();
        for (_, end, bytes) in &self.batches {
            if *end <= offset {
                continue;
            }
            if !out.is_empty() && out.len() + bytes.len() > bytes_max {
                break;
            }
            out.extend_from_slice(bytes);
        }
        out.into()
    }

    fn check_sequence(&mut self, view: &BatchView<'_>) -> Result<Option<i64>, ErrorCode> {
        if view.producer_id() == ProducerId::NONE {
            return Ok(None);
        }
        let (first, last) = (view.base_sequence(), view.last_sequence());
        let known = self.producers.entry(view.producer_id()).or_insert(ProducerState {
            epoch: view.producer_epoch(),
            next: Sequence(0),
            recent: VecDeque::new(),
        });
        if view.producer_epoch() < known.epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if view.producer_epoch() > known.epoch {
            known.epoch = view.producer_epoch();
            known.next = Sequence(0);
            known.recent.clear();
        }
        let same = known.recent.iter().find(|(from, to, _)| (*from, *to) == (first, last));
        if let Some((_, _, base)) = same {
            return Ok(Some(*base));
        }
        if first != known.next {
            return Err(ErrorCode::OutOfOrderSequenceNumber);
        }
        known.next = last.plus(1);
        known.recent.push_back((first, last, self.end));
        if known.recent.len() > 5 {
            known.recent.pop_front();
        }
        Ok(None)
    }
}

//! [`Ring`]: which part of the journal is in use.
//!
//! ```text
//! | header | header |   free   | tail ... records ... head |   free   |
//! 0                 RING_START                                         end
//! ```
//!
//! A record is never split: one that does not fit before the end of the file begins at `RING_START`.
//! Nothing on file says so. Who reads looks for the next sequence number behind the record before it,
//! and then at `RING_START`; so the file may grow at any time.

use crate::disk::BLOCK_BYTES;

/// Where the first record may stand: behind the two header blocks.
pub const RING_START: u64 = 2 * BLOCK_BYTES as u64;

/// A place in the ring, and the sequence number of the record that stands there or will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Bytes from the beginning of the file.
    pub position: u64,
    /// Rises by one with each record for as long as the directory lives, also through restarts: so a
    /// record of an earlier lap is told from the one that is looked for.
    pub sequence: u64,
}

/// The part in use, from the oldest record that is needed to the place of the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ring {
    tail: Mark,
    head: Mark,
    end: u64,
}

impl Ring {
    /// An empty ring in a file of `end` bytes, whose next record has `sequence`.
    #[must_use]
    pub const fn new(end: u64, sequence: u64) -> Self {
        let start = Mark { position: RING_START, sequence };
        Self { tail: start, head: start, end }
    }

    /// The oldest record that is needed.
    #[must_use]
    pub const fn tail(&self) -> Mark {
        self.tail
    }

    /// Behind the newest record.
    #[must_use]
    pub const fn head(&self) -> Mark {
        self.head
    }

    /// Bytes of the file that it may use.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// Whether no record is needed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.tail.sequence == self.head.sequence
    }

    /// Where a record of `len` bytes may be written now. `None` if there is no room.
    #[must_use]
    pub fn place_for(&self, len: u64) -> Option<u64> {
        let (head, tail) = (self.head.position, self.tail.position);
        let fits = |from: u64, to: u64| from.checked_add(len).is_some_and(|end| end <= to);
        if !self.is_empty() && head <= tail {
            return fits(head, tail).then_some(head);
        }
        if fits(head, self.end) {
            return Some(head);
        }
        let free_to = if self.is_empty() { self.end } else { tail };
        fits(RING_START, free_to).then_some(RING_START)
    }

    /// Takes a record in that was written at `position`, which [`Ring::place_for`] gave.
    pub fn advance(&mut self, position: u64, len: u64) {
        debug_assert!(
            position == self.head.position || position == RING_START,
            "a ring has no holes"
        );
        if self.is_empty() {
            // It may have gone to the beginning.
            self.tail.position = position;
        }
        self.head = Mark { position: position + len, sequence: self.head.sequence + 1 };
    }

    /// Frees everything before `mark`, which was the head once.
    pub fn free_to(&mut self, mark: Mark) {
        debug_assert!(
            (self.tail.sequence..=self.head.sequence).contains(&mark.sequence),
            "the tail only moves on, and not beyond the head"
        );
        self.tail = mark;
    }

    /// Frees everything, and goes back to the beginning: a directory with little to commit uses
    /// little of its journal.
    pub fn clear(&mut self) {
        *self = Self::new(self.end, self.head.sequence);
    }

    /// The file has become longer.
    pub fn grow_to(&mut self, end: u64) {
        self.end = self.end.max(end);
    }

    /// Bytes in use, with what is left free at the end of a lap.
    #[must_use]
    pub const fn used_bytes(&self) -> u64 {
        let (head, tail) = (self.head.position, self.tail.position);
        if self.is_empty() {
            0
        } else if head > tail {
            head - tail
        } else {
            self.end.saturating_sub(tail) + head.saturating_sub(RING_START)
        }
    }

    /// Bytes that records can have, if all is free.
    #[must_use]
    pub const fn capacity_bytes(&self) -> u64 {
        self.end.saturating_sub(RING_START)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Op {
        Append { blocks: u64 },
        Free { records: usize },
        Clear,
        Grow { blocks: u64 },
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => (1..9_u64).prop_map(|blocks| Op::Append { blocks }),
            3 => (0..6_usize).prop_map(|records| Op::Free { records }),
            1 => Just(Op::Clear),
            1 => (1..20_u64).prop_map(|blocks| Op::Grow { blocks }),
        ]
    }

    const BLOCK: u64 = BLOCK_BYTES as u64;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Records that are needed never overlap, and each is found from the one before it.
        #[test]
        fn records_in_use_never_overlap_and_can_be_followed(
            ops in prop::collection::vec(op(), 1..200),
            blocks in 0..30_u64,
        ) {
            let mut ring = Ring::new(RING_START + blocks * BLOCK, 7);
            let mut live: VecDeque<(u64, u64)> = VecDeque::new();
            for op in ops {
                match op {
                    Op::Append { blocks } => {
                        let len = blocks * BLOCK;
                        let Some(position) = ring.place_for(len) else {
                            prop_assert!(len > ring.capacity_bytes() || !live.is_empty());
                            continue;
                        };
                        prop_assert!(position >= RING_START && position + len <= ring.end());
                        for (from, to) in &live {
                            prop_assert!(position + len <= *from || position >= *to);
                        }
                        let expected = live.back().map_or(ring.tail().position, |last| last.1);
                        prop_assert!(position == expected || position == RING_START);
                        ring.advance(position, len);
                        live.push_back((position, position + len));
                    }
                    Op::Free { records } => {
                        let records = records.min(live.len());
                        let freed: Vec<_> = live.drain(..records).collect();
                        let Some(last) = freed.last() else { continue };
                        let sequence = ring.tail().sequence + records as u64;
                        ring.free_to(Mark { position: last.1, sequence });
                    }
                    Op::Clear => {
                        ring.clear();
                        live.clear();
                    }
                    Op::Grow { blocks } => ring.grow_to(ring.end() + blocks * BLOCK),
                }
                prop_assert_eq!(ring.is_empty(), live.is_empty());
                prop_assert_eq!(ring.head().sequence - ring.tail().sequence, live.len() as u64);
                let used: u64 = live.iter().map(|(from, to)| to - from).sum();
                prop_assert!(ring.used_bytes() >= used);
                prop_assert!(ring.used_bytes() <= ring.capacity_bytes());
            }
        }
    }
}

//! Transactions, followed through a log, to know what its transaction indexes should say.

use std::collections::{BTreeSet, HashMap};

use weir_protocol::batch::BatchView;
use weir_protocol::{Offset, ProducerId};

use crate::recovery::end_marker;
use crate::txn_index::AbortedTxn;

/// Open transactions that are followed. More than this a broker does not have.
const OPEN_MAX: usize = 1 << 20;

/// The transactions of a partition, and the aborts of the segment at hand.
#[derive(Debug, Default)]
pub(super) struct TxnCheck {
    open: HashMap<ProducerId, Offset>,
    firsts: BTreeSet<(Offset, ProducerId)>,
    aborted: Vec<AbortedTxn>,
    /// Something was not seen: a damaged batch, or more than can be followed.
    is_blind: bool,
}

impl TxnCheck {
    pub(super) fn batch(&mut self, batch: &BatchView<'_>) {
        let producer = batch.producer_id();
        // What it held is gone: by the cleaner, or by a repair.
        self.is_blind |= batch.record_count() == 0;
        if !batch.is_transactional() || producer < ProducerId(0) {
            return;
        }
        if !batch.is_control() {
            if self.open.len() >= OPEN_MAX {
                self.is_blind = true;
            } else {
                let first = *self.open.entry(producer).or_insert(batch.base_offset());
                self.firsts.insert((first, producer));
            }
            return;
        }
        let Some(marker) = end_marker(batch) else { return };
        // Without a beginning it began before the log does, or had no records here.
        let Some(first_offset) = self.open.remove(&producer) else { return };
        self.firsts.remove(&(first_offset, producer));
        if !marker.commit {
            let last_offset = batch.last_offset();
            let undecided = self.firsts.first().map(|(first, _)| *first);
            self.aborted.push(AbortedTxn {
                producer_id: producer,
                first_offset,
                last_offset,
                last_stable_offset: undecided.unwrap_or(last_offset.next()),
            });
        }
    }

    pub(super) fn blind(&mut self) {
        self.is_blind = true;
    }

    /// Ends a segment of offsets `[base, end)`: what is wrong with its index, what it should say, and whether
    /// it stays so at the next start, which writes the records of markers from `kept_to` on again.
    pub(super) fn finish(
        &mut self,
        stored: Result<Vec<AbortedTxn>, String>,
        base: Offset,
        end: Offset,
        kept_to: Offset,
        is_cleaned: bool,
    ) -> Option<(String, Vec<AbortedTxn>, bool)> {
        let seen = std::mem::take(&mut self.aborted);
        let stored = match stored {
            Ok(stored) => stored,
            Err(what) => {
                let stays = seen.iter().any(|txn| txn.last_offset < kept_to);
                return Some((what, seen, stays));
            }
        };
        let problem = self.problem(&stored, &seen, base, end, is_cleaned)?;
        let kept = |txns: &[AbortedTxn]| -> Vec<AbortedTxn> {
            txns.iter().filter(|txn| txn.last_offset < kept_to).copied().collect()
        };
        let stays = self.problem(&kept(&stored), &kept(&seen), base, end, is_cleaned).is_some();
        // What began before the log does is only known from the index itself.
        let is_known = |txn: &AbortedTxn| seen.iter().any(|one| one.last_offset == txn.last_offset);
        let in_segment = |txn: &AbortedTxn| txn.last_offset >= base && txn.last_offset < end;
        let older = stored.into_iter().filter(|txn| in_segment(txn) && !is_known(txn));
        let mut right: Vec<AbortedTxn> = older.filter(|txn| txn.first_offset < base).collect();
        right.extend(&seen);
        right.sort_unstable_by_key(|txn| txn.last_offset);
        Some((problem, right, stays))
    }

    fn problem(
        &self,
        stored: &[AbortedTxn],
        seen: &[AbortedTxn],
        base: Offset,
        end: Offset,
        is_cleaned: bool,
    ) -> Option<String> {
        let mut last = Offset(i64::MIN);
        for txn in stored {
            let (first, marker) = (txn.first_offset, txn.last_offset);
            if marker < base || marker >= end || first > marker || marker <= last {
                return Some(format!(
                    "it names an abort at offset {marker} of a transaction from {first}, which cannot be"
                ));
            }
            if txn.last_stable_offset > marker.next() {
                return Some(format!(
                    "it says that all before offset {} was decided by the abort at {marker}, which cannot be",
                    txn.last_stable_offset
                ));
            }
            last = marker;
        }
        if self.is_blind || is_cleaned {
            return None;
        }
        let lacks = seen.iter().find(|txn| {
            let same = |one: &&AbortedTxn| {
                (one.last_offset, one.producer_id) == (txn.last_offset, txn.producer_id)
            };
            stored.iter().find(same).is_none_or(|one| one.first_offset != txn.first_offset)
        });
        if let Some(txn) = lacks {
            return Some(format!(
                "it lacks the abort at offset {} of producer {}, from {}",
                txn.last_offset, txn.producer_id, txn.first_offset
            ));
        }
        let invented = stored.iter().find(|txn| {
            txn.first_offset >= base && !seen.iter().any(|one| one.last_offset == txn.last_offset)
        });
        invented
            .map(|txn| format!("it names an abort at offset {} that is not there", txn.last_offset))
    }
}

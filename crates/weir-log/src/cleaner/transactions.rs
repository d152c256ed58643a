//! [`Transactions`]: which batches belong to aborted transactions, and which markers are still needed.
//!
//! Follows Kafka's `CleanedTransactionMetadata`. The data of an aborted transaction goes at once. Its
//! marker stays as long as any batch of it does, and then for as long as a tombstone: a reader that has
//! seen the data must see the marker. A commit marker likewise.

use std::collections::{HashMap, VecDeque};

use weir_protocol::batch::ControlMarker;
use weir_protocol::{Offset, ProducerId};

use crate::header::BatchHeader;
use crate::txn_index::AbortedTxn;

/// The transactions along a walk over a log.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    /// Aborted ones that the walk has not come to, by first offset.
    upcoming: VecDeque<AbortedTxn>,
    /// Aborted ones under way, and whether a batch of theirs was seen.
    aborted: HashMap<ProducerId, (AbortedTxn, bool)>,
    /// Producers with a batch of a transaction that is not aborted, and whether one of them has records.
    committed: HashMap<ProducerId, bool>,
}

/// Records were taken for committed, and then the marker says that they are not: the transaction index does not know of
/// their transaction. To clean by it would drop older values for theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnknownAbort;

impl std::fmt::Display for UnknownAbort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            "it aborts records of a transaction that the transaction index does not know; with the broker stopped, \
             `weir log verify --repair` writes the index again",
        )
    }
}

/// What a marker means for the walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MarkerFate {
    /// No batch of its transaction is left: it may go once its delete horizon is past.
    pub(crate) is_obsolete: bool,
    /// The transaction that readers must still be told of.
    pub(crate) aborted: Option<AbortedTxn>,
}

impl Transactions {
    /// For a walk that begins at `from`, with the aborted transactions of the log.
    pub(crate) fn new(aborted: &[AbortedTxn], from: Offset) -> Self {
        let mut upcoming: Vec<AbortedTxn> =
            aborted.iter().filter(|txn| txn.last_offset >= from).copied().collect();
        upcoming.sort_unstable_by_key(|txn| txn.first_offset);
        Self { upcoming: upcoming.into(), ..Self::default() }
    }

    /// Whether a batch of records belongs to an aborted transaction.
    pub(crate) fn is_aborted(&mut self, batch: &BatchHeader) -> bool {
        self.advance(batch.last_offset());
        if !batch.is_transactional {
            return false;
        }
        match self.aborted.get_mut(&batch.producer_id) {
            Some((_, seen)) => {
                *seen = true;
                true
            }
            None => {
                *self.committed.entry(batch.producer_id).or_default() |= batch.record_count > 0;
                false
            }
        }
    }

    /// Takes a control batch in. `marker` is what its record says, if it is a marker.
    pub(crate) fn marker(
        &mut self,
        batch: &BatchHeader,
        marker: Option<ControlMarker>,
    ) -> Result<MarkerFate, UnknownAbort> {
        self.advance(batch.last_offset());
        let producer = batch.producer_id;
        Ok(match marker {
            // Emptied before, and kept for its producer's epoch alone.
            _ if batch.record_count == 0 => MarkerFate { is_obsolete: true, aborted: None },
            Some(ControlMarker::Abort) => match self.aborted.remove(&producer) {
                Some((txn, true)) => MarkerFate { is_obsolete: false, aborted: Some(txn) },
                None if self.committed.get(&producer) == Some(&true) => return Err(UnknownAbort),
                Some((_, false)) | None => MarkerFate { is_obsolete: true, aborted: None },
            },
            Some(ControlMarker::Commit) => {
                let is_obsolete = self.committed.remove(&producer).is_none();
                MarkerFate { is_obsolete, aborted: None }
            }
            // Not ours to judge.
            None => MarkerFate { is_obsolete: false, aborted: None },
        })
    }

    fn advance(&mut self, offset: Offset) {
        while self.upcoming.front().is_some_and(|txn| txn.first_offset <= offset) {
            let Some(txn) = self.upcoming.pop_front() else { break };
            self.aborted.entry(txn.producer_id).or_insert((txn, false));
        }
    }
}

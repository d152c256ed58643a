//! [`Transactions`]: what a transactional producer may do, as a pure state machine.
//!
//! ```text
//!                     init               begin            commit            ended
//!  Uninitialised ──▶ Initialising ──▶ Ready ──▶ Open ──────────▶ Committing ─────▶ Ready
//!                                                │  ╲ failure        │ failure before EndTxn
//!                                                │   ╲──▶ Failed ◀───╯
//!                                                │           │ abort
//!                                                ╰──────────▶ Aborting ─────▶ Ready
//!  from each: fenced, refused for good ──▶ Dead
//! ```
//!
//! # What holds
//! - Records are taken in `Open` only.
//! - A record that failed, or whose fate is unknown, fails its transaction: it can only be aborted.
//! - The end is asked for once nothing is under way, so that no late batch falls into a later
//!   transaction of the same epoch. With version 2 the broker holds that too (KIP-890).
//! - `Dead` is final: another producer has the transactional id, or the cluster refuses this one.
//!
//! The two versions: with [`TxnVersion::V1`] each partition is added by name before the first write to
//! it, and the epoch stays. With [`TxnVersion::V2`] a write adds its partition and each end raises the
//! epoch. `transaction.version` of the cluster tells which.

mod error;
mod group_metadata;
mod judge;

use std::collections::VecDeque;

use weir_protocol::types::Str;

use crate::accumulator::Slot;
use crate::error::ProduceError;

pub use error::TransactionError;
pub use group_metadata::GroupMetadata;
pub(crate) use judge::{judge, Call, Judgement};

/// Which protocol is spoken: the feature `transaction.version` of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TxnVersion {
    /// Partitions are added by AddPartitionsToTxn; the epoch stays from one transaction to the next.
    V1,
    /// KIP-890: partitions are added by writing to them; each end raises the epoch.
    V2,
}

/// What is asked of the coordinator to end a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Nothing: it has not heard of the transaction.
    Nothing,
    /// EndTxn.
    End {
        /// Or abort.
        commit: bool,
    },
    /// InitProducerId with the present identity: a sequence may be missing (KIP-360), or something that was
    /// meant for this transaction may still arrive.
    Bump,
}

/// Why a producer can do nothing any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Death {
    /// Another has its transactional id, or the coordinator took its transaction away.
    Fenced,
    /// Refused for good.
    Refused(TransactionError),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Uninitialised,
    Initialising,
    Ready,
    Open,
    Committing,
    Aborting,
    Failed(String),
    Dead(Death),
}

impl Phase {
    const fn name(&self) -> &'static str {
        match self {
            Phase::Uninitialised => "uninitialised",
            Phase::Initialising => "initialising",
            Phase::Ready => "ready",
            Phase::Open => "open",
            Phase::Committing => "committing",
            Phase::Aborting => "aborting",
            Phase::Failed(_) => "failed",
            Phase::Dead(_) => "dead",
        }
    }
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Transactions {
    transactional_id: Str,
    version_max: TxnVersion,
    version: TxnVersion,
    phase: Phase,
    /// Of the present transaction, from 1.
    number: u64,
    /// The coordinator may have heard of it.
    started: bool,
    /// EndTxn is being asked for: whether it is carried out is open.
    end_asked: bool,
    /// EndTxn was answered; only the bump is missing.
    end_answered: bool,
    /// A sequence may be missing on a broker.
    must_bump: bool,
    /// Calls that add offsets and are not answered.
    offsets_pending: usize,
    /// Requests that would add something to the transaction and were not answered: one may arrive when the
    /// next transaction is open. Version 2 tells it by its epoch.
    unanswered: usize,
    /// Version 1: partitions with something to send, not added yet.
    to_add: VecDeque<Slot>,
    /// What was not sent is to be discarded.
    must_discard: bool,
}

impl Transactions {
    pub(crate) fn new(transactional_id: &str, version_max: TxnVersion) -> Self {
        Transactions {
            transactional_id: Str::copy_from(transactional_id),
            version_max,
            version: TxnVersion::V1,
            phase: Phase::Uninitialised,
            number: 0,
            started: false,
            end_asked: false,
            end_answered: false,
            must_bump: false,
            offsets_pending: 0,
            unanswered: 0,
            to_add: VecDeque::new(),
            must_discard: false,
        }
    }

    pub(crate) fn transactional_id(&self) -> &Str {
        &self.transactional_id
    }

    pub(crate) fn version(&self) -> TxnVersion {
        self.version
    }

    /// The present transaction's number, or the last one's.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether a commit was asked for: only the same call can say how it went.
    pub(crate) fn is_commit_asked(&self) -> bool {
        self.phase == Phase::Committing && self.end_asked
    }

    /// Whether a transaction is open or waits for its abort.
    pub(crate) fn is_unfinished(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Committing | Phase::Aborting | Phase::Failed(_))
    }

    /// Why no record is taken; `None`: one is.
    pub(crate) fn refusal(&self) -> Option<ProduceError> {
        match &self.phase {
            Phase::Open => None,
            Phase::Failed(reason) => {
                Some(ProduceError::TransactionFailed { reason: reason.clone() })
            }
            Phase::Dead(Death::Fenced) => Some(ProduceError::Fenced),
            Phase::Dead(Death::Refused(error)) => {
                Some(ProduceError::TransactionFailed { reason: error.to_string() })
            }
            _ => Some(ProduceError::NoTransaction { state: self.phase.name() }),
        }
    }

    /// What failed, if the transaction can only be aborted or the producer is dead.
    pub(crate) fn failure(&self) -> Option<TransactionError> {
        match &self.phase {
            Phase::Failed(reason) => Some(TransactionError::MustAbort { reason: reason.clone() }),
            Phase::Dead(Death::Fenced) => Some(self.fenced()),
            Phase::Dead(Death::Refused(error)) => Some(error.clone()),
            _ => None,
        }
    }

    fn fenced(&self) -> TransactionError {
        TransactionError::Fenced { transactional_id: self.transactional_id.to_string() }
    }

    fn wrong(&self, call: &'static str) -> TransactionError {
        self.failure().unwrap_or(TransactionError::WrongState { call, state: self.phase.name() })
    }
}

/// Calls.
impl Transactions {
    /// `true`: InitProducerId is to be asked. `false`: that was done before.
    pub(crate) fn begin_init(&mut self) -> Result<bool, TransactionError> {
        match self.phase {
            Phase::Uninitialised | Phase::Initialising => {
                self.phase = Phase::Initialising;
                Ok(true)
            }
            Phase::Ready => Ok(false),
            _ => Err(self.wrong("init_transactions")),
        }
    }

    pub(crate) fn initialised(&mut self) {
        if self.phase == Phase::Initialising {
            self.phase = Phase::Ready;
        }
    }

    /// Opens a transaction by the version the cluster offers now: it may have changed, but not within
    /// one.
    pub(crate) fn begin(&mut self, offered: TxnVersion) -> Result<(), TransactionError> {
        if self.phase != Phase::Ready {
            return Err(self.wrong("begin_transaction"));
        }
        debug_assert!(
            self.offsets_pending == 0 && self.to_add.is_empty(),
            "the last one has ended"
        );
        self.version = offered.min(self.version_max);
        self.number += 1;
        self.started = false;
        self.end_asked = false;
        self.end_answered = false;
        self.must_bump = false;
        self.unanswered = 0;
        self.must_discard = false;
        self.phase = Phase::Open;
        Ok(())
    }

    /// May be called again where an earlier call gave up waiting.
    pub(crate) fn begin_commit(&mut self) -> Result<(), TransactionError> {
        match self.phase {
            Phase::Open if self.offsets_pending > 0 => Err(TransactionError::WrongState {
                call: "commit_transaction",
                state: "adding offsets",
            }),
            Phase::Open | Phase::Committing => {
                self.phase = Phase::Committing;
                Ok(())
            }
            _ => Err(self.wrong("commit_transaction")),
        }
    }

    /// May be called again where an earlier call gave up waiting, and instead of a commit that has not
    /// been asked for yet.
    pub(crate) fn begin_abort(&mut self) -> Result<(), TransactionError> {
        match self.phase {
            Phase::Aborting => Ok(()),
            Phase::Open | Phase::Failed(_) | Phase::Committing if !self.end_asked => {
                self.must_discard = true;
                self.phase = Phase::Aborting;
                self.to_add.clear();
                Ok(())
            }
            _ => Err(self.wrong("abort_transaction")),
        }
    }

    /// What is to be asked now, once nothing is under way.
    pub(crate) fn ending(&self) -> Option<Ending> {
        let commit = match self.phase {
            Phase::Committing => true,
            Phase::Aborting => false,
            _ => return None,
        };
        Some(match self.started {
            false => Ending::Nothing,
            true if !self.end_answered => Ending::End { commit },
            true if self.version == TxnVersion::V1 && (self.must_bump || self.unanswered > 0) => {
                Ending::Bump
            }
            true => Ending::Nothing,
        })
    }

    /// EndTxn goes out now.
    pub(crate) fn end_asked(&mut self) {
        self.end_asked = true;
    }

    /// EndTxn was answered.
    pub(crate) fn end_answered(&mut self) {
        self.end_answered = true;
    }

    /// The coordinator knows of no transaction it could abort (version 1): what was sent to add a
    /// partition never reached it. Under a new epoch nothing of it can.
    pub(crate) fn nothing_to_abort(&mut self) {
        self.end_answered = true;
        self.must_bump = true;
    }

    /// Nothing is left to be asked.
    pub(crate) fn ended(&mut self) {
        if matches!(self.phase, Phase::Committing | Phase::Aborting) {
            self.phase = Phase::Ready;
            self.to_add.clear();
        }
    }

    /// Offsets are on their way into the transaction.
    pub(crate) fn begin_offsets(&mut self) -> Result<(), TransactionError> {
        if self.phase != Phase::Open {
            return Err(self.wrong("send_offsets_to_transaction"));
        }
        self.offsets_pending += 1;
        self.started = true;
        Ok(())
    }

    /// A request that adds something to this transaction goes out.
    pub(crate) fn addition_asked(&mut self, transaction: u64) {
        if self.number == transaction {
            self.unanswered += 1;
        }
    }

    /// It was answered.
    pub(crate) fn addition_answered(&mut self, transaction: u64) {
        if self.number == transaction {
            self.unanswered = self.unanswered.saturating_sub(1);
        }
    }

    /// Their call is over. `failure`: they may be in the transaction, or not.
    pub(crate) fn end_offsets(&mut self, failure: Option<String>) {
        self.offsets_pending = self.offsets_pending.saturating_sub(1);
        if let Some(reason) = failure {
            self.fail(reason);
        }
    }

    /// The producer starts again after a stop.
    pub(crate) fn restart(&mut self) {
        let is_final = matches!(self.phase, Phase::Dead(_));
        if !is_final {
            self.phase = Phase::Uninitialised;
        }
        self.to_add.clear();
        self.offsets_pending = 0;
        self.must_discard = false;
    }
}

/// Events.
impl Transactions {
    /// The partition is about to be written to. `false`: it is not in the transaction yet, and has been
    /// put down to be added.
    pub(crate) fn may_write(&mut self, slot: Slot) -> bool {
        if !self.may_retry() {
            return false;
        }
        if self.version == TxnVersion::V2 {
            self.started = true;
            return true;
        }
        if !self.to_add.contains(&slot) {
            self.to_add.push_back(slot);
        }
        false
    }

    /// Partitions to be added now; they stay until [`Transactions::added`].
    pub(crate) fn additions(&mut self) -> Vec<Slot> {
        if !self.may_retry() {
            self.to_add.clear();
        }
        // The request may be carried out though its answer is lost.
        self.started |= !self.to_add.is_empty();
        self.to_add.iter().copied().collect()
    }

    pub(crate) fn wants_to_add(&self) -> bool {
        self.may_retry() && !self.to_add.is_empty()
    }

    /// The coordinator has these.
    pub(crate) fn added(&mut self, slots: &[Slot]) {
        self.to_add.retain(|slot| !slots.contains(slot));
    }

    /// Something of the transaction is lost: it can only be aborted.
    pub(crate) fn fail(&mut self, reason: String) {
        // The coordinator refused to commit: the abort has not been asked for.
        self.end_asked = false;
        if matches!(self.phase, Phase::Open | Phase::Committing) {
            self.phase = Phase::Failed(reason);
            self.must_discard = true;
            self.to_add.clear();
        }
    }

    /// A batch was not written, or nobody knows whether it was. `was_sent`: it had a sequence.
    pub(crate) fn batch_failed(&mut self, error: &ProduceError, was_sent: bool) {
        self.must_bump |= was_sent;
        self.fail(error.to_string());
    }

    pub(crate) fn die(&mut self, death: Death) {
        if !matches!(self.phase, Phase::Dead(_)) {
            self.phase = Phase::Dead(death);
            self.must_discard = true;
            self.to_add.clear();
        }
    }

    /// Whether what was not sent must go now; once.
    pub(crate) fn take_discard(&mut self) -> bool {
        std::mem::take(&mut self.must_discard)
    }

    /// What the senders of records are told that go down with their transaction.
    pub(crate) fn discard_error(&self) -> ProduceError {
        match &self.phase {
            Phase::Failed(_) | Phase::Dead(_) => self.refusal(),
            _ => None,
        }
        .unwrap_or(ProduceError::TransactionAborted)
    }

    /// Whether what waits may go, for the first time or again.
    pub(crate) fn may_retry(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Committing)
    }
}

#[cfg(test)]
mod tests;

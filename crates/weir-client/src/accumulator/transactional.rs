//! What transactions change in the core: who may send, and what a failure takes with it.

use weir_protocol::types::{PartitionId, Str};

use super::{Accumulator, Effects, Identity, Life, Slot};
use crate::delivery::Outcome;
use crate::error::ProduceError;
use crate::transaction::{Death, Transactions};

/// Partitions to be added to the transaction, as the shell asks for them.
#[derive(Debug)]
pub(crate) struct Additions {
    pub(crate) identity: Identity,
    /// The transaction they are for.
    pub(crate) transaction: u64,
    pub(crate) partitions: Vec<(Slot, Str, PartitionId)>,
}

impl Accumulator {
    pub(crate) fn transactions(&self) -> Option<&Transactions> {
        self.transactions.as_ref()
    }

    /// Runs a call or an event of the transactional producer, and what follows from it.
    pub(crate) fn with_transactions<R>(
        &mut self,
        run: impl FnOnce(&mut Transactions) -> R,
    ) -> Option<(R, Effects)> {
        let result = run(self.transactions.as_mut()?);
        let mut effects = Effects::default();
        self.discard_if_failed(&mut effects);
        self.renew_admits();
        Some((result, effects))
    }

    /// The identity of the transactional producer, once it has one.
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// What waits to be added to the transaction (version 1).
    pub(crate) fn take_additions(&mut self) -> Option<Additions> {
        let identity = self.identity?;
        let transactions = self.transactions.as_mut()?;
        let slots = transactions.additions();
        let transaction = transactions.number();
        let place = |slot: Slot| {
            let partition = &self.partitions[slot.0];
            (slot, self.topics[partition.topic].name.clone(), partition.partition)
        };
        let partitions: Vec<_> = slots.into_iter().map(place).collect();
        (!partitions.is_empty()).then_some(Additions { identity, transaction, partitions })
    }

    /// Whether the transaction they are for still takes them.
    pub(crate) fn stands(&self, additions: &Additions) -> bool {
        self.transactions.as_ref().is_some_and(|transactions| {
            transactions.number() == additions.transaction && transactions.wants_to_add()
        })
    }

    pub(crate) fn wants_additions(&self) -> bool {
        self.transactions.as_ref().is_some_and(Transactions::wants_to_add)
    }

    /// The coordinator has these partitions in this transaction.
    pub(crate) fn set_added(&mut self, transaction: u64, slots: &[Slot]) {
        let Some(transactions) = self.transactions.as_mut() else { return };
        if transactions.number() != transaction {
            return;
        }
        transactions.added(slots);
        for slot in slots {
            self.partitions[slot.0].transaction = transaction;
            self.list(*slot);
            if let Some(leader) = self.partitions[slot.0].leader {
                self.wake(leader);
            }
        }
    }

    /// Another producer has taken over. What follows from it is done when all answers are in.
    pub(super) fn die_fenced(&mut self) -> ProduceError {
        if let Some(transactions) = &mut self.transactions {
            transactions.die(Death::Fenced);
        }
        ProduceError::Fenced
    }

    /// Whether lost sequences are met by renumbering under a new identity. In a transaction they fail
    /// it instead: a part of it may be in the log.
    pub(super) fn renumbers(&self) -> bool {
        self.config.idempotent && self.transactions.is_none()
    }

    pub(super) fn renew_admits(&mut self) {
        let is_open = self.transactions.as_ref().is_none_or(Transactions::is_open);
        self.admits = self.life == Life::Running && is_open;
    }

    /// Why no record is taken.
    #[cold]
    pub(super) fn refusal(&self) -> ProduceError {
        let of_transaction = || self.transactions.as_ref().and_then(Transactions::refusal);
        match self.life {
            Life::Running => of_transaction().unwrap_or(ProduceError::NotRunning),
            Life::Draining => ProduceError::ShuttingDown,
            Life::Stopped => ProduceError::NotRunning,
        }
    }

    /// Whether a batch of the partition may be sent now. Version 1 asks for the partition to be added
    /// first. What is under way under the last epoch must come back before anything goes under this.
    pub(super) fn may_write_in_transaction(&mut self, slot: Slot, current: Identity) -> bool {
        let Some(transactions) = self.transactions.as_mut() else { return true };
        let partition = &mut self.partitions[slot.0];
        if !partition.has_work()
            || (partition.identity != current && !partition.in_flight.is_empty())
        {
            return false;
        }
        if partition.transaction != transactions.number() {
            if !transactions.may_write(slot) {
                return false;
            }
            partition.transaction = transactions.number();
        }
        true
    }

    /// A failed batch fails its transaction.
    pub(super) fn note_outcome(&mut self, outcome: &Outcome, was_sent: bool) {
        let (Some(transactions), Outcome::Failed(error)) = (self.transactions.as_mut(), outcome)
        else {
            return;
        };
        transactions.batch_failed(error, was_sent);
    }

    /// What those are told that do not go again since their transaction is over.
    pub(super) fn discarded_with(&self) -> Option<ProduceError> {
        let transactions = self.transactions.as_ref()?;
        if transactions.may_retry() {
            return None;
        }
        Some(transactions.discard_error())
    }

    /// Fails all that is not under way once the transaction cannot be committed any more.
    pub(super) fn discard_if_failed(&mut self, effects: &mut Effects) {
        let Some(transactions) = self.transactions.as_mut() else { return };
        if transactions.take_discard() {
            let error = transactions.discard_error();
            for index in 0..self.partitions.len() {
                self.discard(Slot(index), &error, effects);
            }
            // Whoever waits for the end of the transaction is to look.
            effects.freed_room = true;
        }
        self.renew_admits();
    }

    fn discard(&mut self, slot: Slot, error: &ProduceError, effects: &mut Effects) {
        self.seal(slot);
        while !self.partitions[slot.0].sealed.is_empty() {
            self.fail_unsent(slot, error.clone(), effects);
        }
        let mut index = 0;
        while let Some(batch) = self.partitions[slot.0].in_flight.get(index) {
            if batch.waiting.is_none() {
                index += 1;
                continue;
            }
            self.finish(slot, index, Outcome::Failed(error.clone()), effects);
        }
        self.settle(slot);
    }

    pub(super) fn restart_transactions(&mut self) {
        if let Some(transactions) = &mut self.transactions {
            transactions.restart();
            self.identity = None;
        }
    }
}

#[cfg(test)]
mod tests;

//! [`Transaction`]: what one transactional id may do, as a pure state machine.
//!
//! ```text
//!            add                end                 markers written
//!  Empty ──────────▶ Ongoing ─────────▶ PrepareCommit ─────────▶ CompleteCommit ──┐ add: Ongoing again
//!    ▲                  │                                                         │
//!    │                  └─────────────▶ PrepareAbort ──────────▶ CompleteAbort ───┤
//!    └────────────────────────────────── init ────────────────────────────────────┘
//! ```
//!
//! Follows Kafka's `TransactionMetadata` and `TransactionCoordinator` of 4.1, with KIP-360 (recovery under the next epoch)
//! and KIP-890 (each end raises the epoch; [`TxnVersion::V2`]).
//!
//! The machine decides; it neither waits nor writes. Each method that returns a change has made it: the caller works on a
//! clone, stores the record of the clone, and keeps it in place of the original. So a record that cannot be written
//! changes nothing. What must be on disk before the next step is the caller's business too: the coordinator says
//! [`Transaction::complete`] only once all markers are.

use weir_protocol::{ErrorCode, ProducerEpoch, ProducerId, Str, TimestampMs};

use crate::transaction_records::{Partitions, TransactionLogValue};

/// From this epoch on a producer id is used up: one more end must fit.
const EPOCH_EXHAUSTED: i16 = i16::MAX - 1;

/// Where a transaction stands. The numbers are those of the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TxnState {
    /// Its producer is known, and has not begun one yet.
    Empty = 0,
    /// Open.
    Ongoing = 1,
    /// It is decided that its records count; markers are being written.
    PrepareCommit = 2,
    /// It is decided that they do not.
    PrepareAbort = 3,
    /// All markers are written.
    CompleteCommit = 4,
    /// All markers are written.
    CompleteAbort = 5,
}

impl TxnState {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
    ];

    /// Kafka's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }

    fn from_status(status: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as i8 == status)
    }

    const fn is_ending(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }
}

/// Which protocol a client follows: `transaction.version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TxnVersion {
    /// Partitions are added by name; the epoch stays from one transaction to the next.
    V1,
    /// KIP-890: partitions are added by writing to them; each end raises the epoch, so that a late request of an
    /// earlier transaction is told from one of this.
    V2,
}

/// A producer under one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Producer {
    /// Its id.
    pub id: ProducerId,
    /// Its incarnation.
    pub epoch: ProducerEpoch,
}

impl Producer {
    /// None.
    pub const NONE: Self = Self { id: ProducerId::NONE, epoch: ProducerEpoch::NONE };

    /// Whether its next end gives it another id.
    #[must_use]
    pub fn is_exhausted(self) -> bool {
        self.epoch.get() >= EPOCH_EXHAUSTED
    }

    fn next(self) -> Self {
        Self { epoch: ProducerEpoch(self.epoch.get().saturating_add(1)), ..self }
    }
}

/// What InitProducerId has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initialised {
    /// A change to store: the producer goes on under [`Transaction::producer`].
    Ready,
    /// A change to store: the open transaction is being aborted, and its producer fenced. The client is to come again.
    Aborting,
}

/// What EndTxn has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// A change to store, and then markers to write.
    Prepared,
    /// It was done before: an answer was lost.
    Already,
}

/// What a client wants of the end of its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Who.
    pub producer: Producer,
    /// Commit or abort.
    pub commit: bool,
    /// By which protocol.
    pub version: TxnVersion,
}

/// The transactions of one transactional id, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    producer: Producer,
    /// The id before, if its epochs were used up.
    previous_id: ProducerId,
    /// The id to go on with after this end.
    next_id: ProducerId,
    /// The epoch whose holder was given the present one: it may ask again (KIP-360). Not stored, as in Kafka.
    last_epoch: ProducerEpoch,
    timeout_ms: i32,
    state: TxnState,
    partitions: Partitions,
    /// When the open transaction began.
    started: Option<TimestampMs>,
    updated: TimestampMs,
    client: TxnVersion,
}

impl Transaction {
    /// A transactional id nobody has used yet. It is of use after [`Transaction::init`].
    #[must_use]
    pub fn new(id: ProducerId, timeout_ms: i32, now: TimestampMs) -> Self {
        Self {
            producer: Producer { id, epoch: ProducerEpoch::NONE },
            previous_id: ProducerId::NONE,
            next_id: ProducerId::NONE,
            last_epoch: ProducerEpoch::NONE,
            timeout_ms,
            state: TxnState::Empty,
            partitions: Partitions::new(),
            started: None,
            updated: now,
            client: TxnVersion::V1,
        }
    }

    /// InitProducerId: fences whoever had this transactional id, and says who has it now.
    ///
    /// `expected` is who the client was, if it wants to go on after an error. `fresh` gives a producer id for the case
    /// that the epochs are used up.
    ///
    /// # Errors
    /// The code to answer with; nothing has changed.
    pub fn init(
        &mut self,
        timeout_ms: i32,
        expected: Option<Producer>,
        fresh: impl FnOnce() -> Option<ProducerId>,
        now: TimestampMs,
    ) -> Result<Initialised, ErrorCode> {
        if let Some(expected) = expected {
            self.check_expected(expected)?;
        }
        match self.state {
            TxnState::PrepareCommit | TxnState::PrepareAbort => {
                return Err(ErrorCode::ConcurrentTransactions)
            }
            TxnState::Ongoing => {
                if expected.is_some_and(|expected| expected != self.producer) {
                    return Err(ErrorCode::ProducerFenced);
                }
                let before = self.producer.epoch;
                self.fence(now);
                // Whoever proved to be the holder may go on; anybody else gets yet another epoch.
                self.last_epoch = expected.map_or(ProducerEpoch::NONE, |_| before);
                return Ok(Initialised::Aborting);
            }
            TxnState::Empty | TxnState::CompleteCommit | TxnState::CompleteAbort => {}
        }
        self.raise_epoch(expected, fresh)?;
        self.timeout_ms = timeout_ms;
        self.state = TxnState::Empty;
        self.updated = now;
        Ok(Initialised::Ready)
    }

    fn check_expected(&self, expected: Producer) -> Result<(), ErrorCode> {
        let rotated = expected.id == self.previous_id && expected.is_exhausted();
        let fine = self.producer.epoch == ProducerEpoch::NONE
            || expected.id == self.producer.id
            || rotated;
        if fine {
            Ok(())
        } else {
            Err(ErrorCode::ProducerFenced)
        }
    }

    fn raise_epoch(
        &mut self,
        expected: Option<Producer>,
        fresh: impl FnOnce() -> Option<ProducerId>,
    ) -> Result<(), ErrorCode> {
        let current = self.producer;
        let is_holder = expected.is_none_or(|expected| expected == current);
        if current.epoch == ProducerEpoch::NONE {
            self.producer = current.next();
        } else if is_holder && current.is_exhausted() {
            let id = fresh().ok_or(ErrorCode::CoordinatorNotAvailable)?;
            self.previous_id = current.id;
            self.producer = Producer { id, epoch: ProducerEpoch(0) };
        } else if is_holder {
            self.producer = current.next();
        } else if expected.is_some_and(|expected| expected.epoch == self.last_epoch) {
            // After the last epoch there is none to end a transaction under; only a fence takes that one.
            if current.epoch.get() > EPOCH_EXHAUSTED {
                let id = fresh().ok_or(ErrorCode::CoordinatorNotAvailable)?;
                self.previous_id = current.id;
                self.producer = Producer { id, epoch: ProducerEpoch(0) };
            }
            return Ok(()); // It asks again: the answer was lost.
        } else {
            return Err(ErrorCode::ProducerFenced);
        }
        self.last_epoch = expected.map_or(ProducerEpoch::NONE, |_| current.epoch);
        Ok(())
    }

    /// AddPartitionsToTxn, AddOffsetsToTxn, and the first write of a [`TxnVersion::V2`] client to a partition. Returns
    /// whether there is a change to store.
    ///
    /// # Errors
    /// The code to answer with; nothing has changed.
    pub fn add<'a>(
        &mut self,
        producer: Producer,
        partitions: impl Iterator<Item = (&'a Str, i32)>,
        version: TxnVersion,
        now: TimestampMs,
    ) -> Result<bool, ErrorCode> {
        self.check(producer)?;
        if self.state.is_ending() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        let is_open = self.state == TxnState::Ongoing;
        let mut changed = false;
        for (topic, partition) in partitions {
            if self.includes(topic, partition) {
                continue;
            }
            self.partitions.entry(Str::copy_from(topic)).or_default().insert(partition);
            changed = true;
        }
        if !changed {
            return Ok(false);
        }
        if !is_open {
            self.state = TxnState::Ongoing;
            self.started = Some(now);
        }
        self.client = version;
        self.updated = now;
        Ok(true)
    }

    /// Whether the producer has a transaction open that includes the partition.
    ///
    /// # Errors
    /// The code to answer with: INVALID_TXN_STATE if it does not include it.
    pub fn verify(&self, producer: Producer, topic: &str, partition: i32) -> Result<(), ErrorCode> {
        self.check(producer)?;
        if self.state.is_ending() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        match self.state == TxnState::Ongoing && self.includes(topic, partition) {
            true => Ok(()),
            false => Err(ErrorCode::InvalidTxnState),
        }
    }

    /// EndTxn: decides.
    ///
    /// # Errors
    /// The code to answer with; nothing has changed.
    pub fn end(
        &mut self,
        end: End,
        fresh: impl FnOnce() -> Option<ProducerId>,
        now: TimestampMs,
    ) -> Result<Ended, ErrorCode> {
        let is_v2 = end.version == TxnVersion::V2;
        let is_repeat = is_v2 && self.was(end.producer);
        if !is_repeat {
            self.check(end.producer)?;
        }
        match (self.state, end.commit) {
            (TxnState::Ongoing, _) if is_repeat => Err(ErrorCode::ProducerFenced),
            (TxnState::Ongoing, _) => self.prepare(end, fresh, now),
            (TxnState::PrepareCommit, true) | (TxnState::PrepareAbort, false) => {
                Err(ErrorCode::ConcurrentTransactions)
            }
            (TxnState::CompleteCommit, true) | (TxnState::CompleteAbort, false)
                if is_repeat || !is_v2 =>
            {
                Ok(Ended::Already)
            }
            // A client of version 2 cannot know whether what it wrote has begun a transaction, so it may abort none. The
            // epoch rises all the same: a write of it that is under way must not begin one afterwards.
            (TxnState::Empty | TxnState::CompleteCommit | TxnState::CompleteAbort, false)
                if is_v2 && !is_repeat =>
            {
                self.prepare(end, fresh, now)
            }
            _ => Err(ErrorCode::InvalidTxnState),
        }
    }

    fn prepare(
        &mut self,
        end: End,
        fresh: impl FnOnce() -> Option<ProducerId>,
        now: TimestampMs,
    ) -> Result<Ended, ErrorCode> {
        if end.version == TxnVersion::V2 {
            if self.producer.is_exhausted() {
                self.next_id = fresh().ok_or(ErrorCode::CoordinatorNotAvailable)?;
            }
            self.last_epoch = self.producer.epoch;
            // Markers go under the new epoch, and fence the old one in every partition.
            self.producer = self.producer.next();
        }
        self.client = end.version;
        self.state = match end.commit {
            true => TxnState::PrepareCommit,
            false => TxnState::PrepareAbort,
        };
        self.updated = now;
        Ok(Ended::Prepared)
    }

    /// Aborts the open transaction under the next epoch, which nobody is given: its producer is fenced.
    pub fn fence(&mut self, now: TimestampMs) {
        debug_assert!(self.state == TxnState::Ongoing, "only an open transaction is fenced");
        self.producer = self.producer.next();
        self.last_epoch = ProducerEpoch::NONE;
        self.state = TxnState::PrepareAbort;
        self.updated = now;
    }

    /// All markers are on disk.
    pub fn complete(&mut self, now: TimestampMs) {
        self.state = match self.state {
            TxnState::PrepareCommit => TxnState::CompleteCommit,
            TxnState::PrepareAbort => TxnState::CompleteAbort,
            other => {
                debug_assert!(false, "{other:?} has no markers to wait for");
                return;
            }
        };
        self.partitions.clear();
        self.started = None;
        self.updated = now;
        if self.next_id != ProducerId::NONE {
            self.previous_id = self.producer.id;
            self.producer = self.successor();
            self.next_id = ProducerId::NONE;
        }
    }

    /// How the transaction that is ending was decided; `None` if none is ending.
    #[must_use]
    pub fn decision(&self) -> Option<bool> {
        self.state.is_ending().then_some(self.state == TxnState::PrepareCommit)
    }

    /// Whether what a partition has open under `epoch` belongs to the transaction that is ending, and not to the next one
    /// of its producer, whose beginning was lost in a crash.
    #[must_use]
    pub fn ends(&self, epoch: ProducerEpoch) -> bool {
        debug_assert!(self.state.is_ending(), "asked while markers are written");
        let own = self.producer.epoch;
        epoch < own || (epoch == own && self.client == TxnVersion::V1)
    }

    /// Whether the open transaction has taken longer than it may.
    #[must_use]
    pub fn deadline(&self) -> Option<TimestampMs> {
        let started = self.started.filter(|_| self.state == TxnState::Ongoing)?;
        Some(started.plus_ms(i64::from(self.timeout_ms)))
    }

    /// Whether it has not been used for `unused_ms_max` (`transactional.id.expiration.ms`).
    #[must_use]
    pub fn is_expired(&self, unused_ms_max: i64, now: TimestampMs) -> bool {
        let is_idle = !self.state.is_ending() && self.state != TxnState::Ongoing;
        is_idle && now.since(self.updated) >= unused_ms_max
    }

    /// The clock was set: what has a deadline keeps the time it had left.
    pub fn shift(&mut self, by_ms: i64) {
        self.started = self.started.map(|started| started.plus_ms(by_ms));
        self.updated = self.updated.plus_ms(by_ms);
    }

    /// Who has the transactional id.
    #[must_use]
    pub fn producer(&self) -> Producer {
        self.producer
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> TxnState {
        self.state
    }

    /// What the transaction writes to.
    #[must_use]
    pub fn partitions(&self) -> &Partitions {
        &self.partitions
    }

    /// Whether the transaction writes to the partition.
    #[must_use]
    pub fn includes(&self, topic: &str, partition: i32) -> bool {
        self.partitions.get(topic).is_some_and(|of_topic| of_topic.contains(&partition))
    }

    /// How many partitions that is.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.partitions.values().map(std::collections::BTreeSet::len).sum()
    }

    /// After so long an open transaction is aborted.
    #[must_use]
    pub fn timeout_ms(&self) -> i32 {
        self.timeout_ms
    }

    /// By which protocol the open transaction, or the last one, was.
    #[must_use]
    pub fn version(&self) -> TxnVersion {
        self.client
    }

    /// Who goes on once the transaction that is ending has ended.
    #[must_use]
    pub fn successor(&self) -> Producer {
        match self.next_id {
            ProducerId::NONE => self.producer,
            id => Producer { id, epoch: ProducerEpoch(0) },
        }
    }

    /// When the open transaction began.
    #[must_use]
    pub fn started(&self) -> Option<TimestampMs> {
        self.started
    }

    /// As it is stored.
    #[must_use]
    pub fn record(&self) -> TransactionLogValue {
        TransactionLogValue {
            producer_id: self.producer.id,
            previous_producer_id: self.previous_id,
            next_producer_id: self.next_id,
            producer_epoch: self.producer.epoch,
            timeout_ms: self.timeout_ms,
            status: self.state as i8,
            partitions: self.partitions.clone(),
            last_update: self.updated,
            start: self.started.unwrap_or(TimestampMs(-1)),
            client_version: match self.client {
                TxnVersion::V1 => 0,
                TxnVersion::V2 => 2,
            },
        }
    }

    /// As it was stored; `None` if the record has a state that is not kept (Dead, and Kafka's passing ones).
    #[must_use]
    pub fn restore(record: TransactionLogValue) -> Option<Self> {
        let state = TxnState::from_status(record.status)?;
        let is_open = state == TxnState::Ongoing || state.is_ending();
        Some(Self {
            producer: Producer { id: record.producer_id, epoch: record.producer_epoch },
            previous_id: record.previous_producer_id,
            next_id: record.next_producer_id,
            last_epoch: ProducerEpoch::NONE,
            timeout_ms: record.timeout_ms,
            state,
            partitions: if is_open { record.partitions } else { Partitions::new() },
            started: is_open.then_some(record.start),
            updated: record.last_update,
            client: if record.client_version >= 2 { TxnVersion::V2 } else { TxnVersion::V1 },
        })
    }

    /// Whether it is this producer's turn.
    fn check(&self, producer: Producer) -> Result<(), ErrorCode> {
        if producer.id != self.producer.id {
            return Err(ErrorCode::InvalidProducerIdMapping);
        }
        if producer.epoch != self.producer.epoch {
            return Err(ErrorCode::ProducerFenced);
        }
        Ok(())
    }

    /// Whether the producer is the present one as it was before its last end, by version 2.
    fn was(&self, producer: Producer) -> bool {
        if self.client != TxnVersion::V2 || self.state == TxnState::Empty {
            return false;
        }
        let raised = producer.next() == self.producer;
        let rotated = producer.id == self.previous_id
            && producer.epoch.get() == EPOCH_EXHAUSTED
            && self.producer.epoch == ProducerEpoch(0);
        raised || rotated
    }
}

#[cfg(test)]
mod tests;

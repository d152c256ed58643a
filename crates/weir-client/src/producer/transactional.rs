//! Transactions of a producer with a `transactional_id`: all of their records are seen, or none.

use std::time::Duration;

use super::Producer;
use crate::consumer::PartitionOffset;
use crate::transaction::{GroupMetadata, TransactionError};
use crate::transactor::Limit;

/// Transactions. A call that answers [`TransactionError::Timeout`], or whose future is dropped, is gone
/// on with by calling it again.
impl Producer {
    /// Takes the transactional id over: a producer that had it is fenced, and a transaction it left open
    /// is aborted. To be called once, before the first [`Producer::begin_transaction`]. Waits at most
    /// `max_block_ms`.
    ///
    /// # Errors
    /// [`TransactionError::Timeout`], [`TransactionError::Refused`], and
    /// [`TransactionError::NotTransactional`] for a producer without `transactional_id`.
    pub async fn init_transactions(&self) -> Result<(), TransactionError> {
        let limit = self.limit("init_transactions");
        let _turn = self.shared.transactor.turn(&limit).await?;
        let wanted = self.transition(|transactions| transactions.begin_init())?;
        if !wanted {
            return Ok(());
        }
        let done = self.shared.take_over(&limit).await;
        self.concluded(done)
    }

    /// Opens a transaction. What is sent from now on belongs to it.
    ///
    /// # Errors
    /// [`TransactionError::WrongState`] if one is open or `init_transactions` has not succeeded,
    /// [`TransactionError::Fenced`].
    pub fn begin_transaction(&self) -> Result<(), TransactionError> {
        let offered = self.shared.transactor.offered();
        self.transition(|transactions| transactions.begin(offered))
    }

    /// Commits a consumer's offsets with the transaction: the next offset to read per partition. Waits
    /// at most `max_block_ms`.
    ///
    /// # Errors
    /// [`TransactionError::MustAbort`] if they could not be, or nobody knows; so a member that has lost
    /// its partitions cannot commit. [`TransactionError::Fenced`], [`TransactionError::WrongState`].
    pub async fn send_offsets_to_transaction(
        &self,
        offsets: &[PartitionOffset],
        group: &GroupMetadata,
    ) -> Result<(), TransactionError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let limit = self.limit("send_offsets_to_transaction");
        let _turn = self.shared.transactor.turn(&limit).await?;
        self.transition(|transactions| transactions.begin_offsets())?;
        let mut pending = PendingOffsets { producer: self, failure: Some("offsets were given up") };
        let done =
            self.shared.send_offsets(offsets, group, &limit).await.map_err(|error| match error {
                // They may be in the transaction: nobody can tell which offsets a commit would commit.
                TransactionError::Timeout { .. } | TransactionError::Client(_) => {
                    TransactionError::MustAbort { reason: error.to_string() }
                }
                other => other,
            });
        pending.failure = None;
        drop(pending);
        self.concluded(done)
    }

    /// Sends what is left and commits. Waits at most `max_block_ms`.
    ///
    /// # Errors
    /// [`TransactionError::MustAbort`] if a record of it has failed, [`TransactionError::Fenced`];
    /// [`TransactionError::Timeout`]: whether it is committed is unknown until a later call says it.
    pub async fn commit_transaction(&self) -> Result<(), TransactionError> {
        let limit = self.limit("commit_transaction");
        let _turn = self.shared.transactor.turn(&limit).await?;
        self.transition(|transactions| transactions.begin_commit())?;
        drop(self.shared.core().seal_all());
        self.shared.wake_brokers();
        let done = self.finish_transaction(&limit).await;
        self.concluded(done)
    }

    /// Aborts: what was sent is never seen by those who read committed records only, what was not sent
    /// yet fails with [`crate::ProduceError::TransactionAborted`]. Waits at most `max_block_ms`.
    ///
    /// # Errors
    /// [`TransactionError::Fenced`], [`TransactionError::Timeout`], [`TransactionError::WrongState`].
    pub async fn abort_transaction(&self) -> Result<(), TransactionError> {
        let limit = self.limit("abort_transaction");
        self.abort_within(&limit).await
    }

    async fn abort_within(&self, limit: &Limit) -> Result<(), TransactionError> {
        let _turn = self.shared.transactor.turn(limit).await?;
        self.transition(|transactions| transactions.begin_abort())?;
        self.shared.wake_brokers();
        let done = self.finish_transaction(limit).await;
        self.concluded(done)
    }

    /// Whether a commit was asked for: only the same call can say how it went.
    pub(crate) fn is_commit_asked(&self) -> bool {
        let core = self.shared.core();
        core.transactions().is_some_and(|transactions| transactions.is_commit_asked())
    }

    /// Whether a transaction has begun and not ended.
    pub(crate) fn is_in_transaction(&self) -> bool {
        let core = self.shared.core();
        core.transactions().is_some_and(|transactions| transactions.is_unfinished())
    }

    /// Leaves no transaction open behind a closed producer, if that can be had in time.
    pub(super) async fn abort_unfinished(&self, deadline: Duration) {
        if !self.is_in_transaction() {
            return;
        }
        let limit = Limit::new("close", u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX));
        let aborted = tokio::time::timeout_at(limit.deadline, self.abort_within(&limit)).await;
        if !matches!(aborted, Ok(Ok(()))) {
            tracing::debug!(?aborted, "a transaction stays open until its timeout");
        }
    }

    async fn finish_transaction(&self, limit: &Limit) -> Result<(), TransactionError> {
        self.shared.quiesce(limit).await?;
        self.shared.end(limit).await
    }

    /// `transactional.id`, if it has one.
    pub fn transactional_id(&self) -> Option<&str> {
        self.shared.config.transactional_id.as_deref()
    }

    fn limit(&self, call: &'static str) -> Limit {
        Limit::new(call, self.shared.config.max_block_ms)
    }

    /// Runs a step of the state machine and announces what it discards.
    fn transition<R>(
        &self,
        run: impl FnOnce(&mut crate::transaction::Transactions) -> Result<R, TransactionError>,
    ) -> Result<R, TransactionError> {
        let ran = self.shared.core().with_transactions(run);
        let (result, effects) = ran.ok_or(TransactionError::NotTransactional)?;
        self.shared.announce(effects);
        result
    }

    fn concluded(&self, done: Result<(), TransactionError>) -> Result<(), TransactionError> {
        if let Err(error) = &done {
            self.shared.conclude(error);
        }
        done
    }
}

/// Offsets on their way. If the call is given up, nobody knows whether they are in the transaction.
struct PendingOffsets<'a> {
    producer: &'a Producer,
    failure: Option<&'static str>,
}

impl Drop for PendingOffsets<'_> {
    fn drop(&mut self) {
        let failure = self.failure.map(str::to_owned);
        let _ = self.producer.transition(|transactions| {
            transactions.end_offsets(failure);
            Ok(())
        });
    }
}

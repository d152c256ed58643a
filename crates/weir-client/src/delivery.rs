//! What became of a record: futures that cost no allocation per record.
//!
//! All records of a batch share its fate, so they share one `Completion`; a [`Delivery`] is a
//! counted reference to it and the record's index in the batch.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use weir_protocol::types::{Offset, PartitionId, TimestampMs};

use crate::error::ProduceError;

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordMetadata {
    /// Its partition.
    pub partition: PartitionId,
    /// Its offset, or `None` where the broker did not say: with acks none, or for a duplicate that it
    /// no longer remembers.
    pub offset: Option<Offset>,
    /// The broker's append time, where the topic uses that.
    pub append_time: Option<TimestampMs>,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Acknowledged.
    Acked {
        /// Offset of its first record, where known.
        base_offset: Option<Offset>,
        /// The broker's append time, where the topic uses that.
        append_time: Option<TimestampMs>,
    },
    /// Failed for good.
    Failed(ProduceError),
    /// The batch was too large and went in parts: the index of each part's first record, in order.
    Parts(Arc<[(u32, Outcome)]>),
}

impl Outcome {
    /// The first error in it.
    fn error(&self) -> Option<&ProduceError> {
        match self {
            Outcome::Acked { .. } => None,
            Outcome::Failed(error) => Some(error),
            Outcome::Parts(parts) => parts.iter().find_map(|(_, part)| part.error()),
        }
    }
}

/// The shared fate of the records of one batch.
#[derive(Debug)]
pub(crate) struct Completion {
    partition: PartitionId,
    outcome: OnceLock<Outcome>,
    waiters: Mutex<Vec<Waker>>,
    /// [`HELD`], [`WRITTEN`] or [`WITHDRAWN`].
    on_wire: AtomicU8,
    /// Of a part: the whole, and the index there of its first record.
    part_of: Option<(Arc<Whole>, u32)>,
}

/// A batch that went in parts: decided when all of them are.
#[derive(Debug)]
struct Whole {
    completion: Arc<Completion>,
    parts: Mutex<Vec<(u32, Outcome)>>,
}

/// A batch is halved.
const PARTS: usize = 2;

/// The batch has never been handed to a connection.
const HELD: u8 = 0;
/// It has, so it may be in the log.
const WRITTEN: u8 = 1;
/// It was failed before that, and must not be written any more.
const WITHDRAWN: u8 = 2;

impl Completion {
    pub(crate) fn new(partition: PartitionId) -> Arc<Self> {
        Arc::new(Completion {
            partition,
            outcome: OnceLock::new(),
            waiters: Mutex::new(Vec::new()),
            on_wire: AtomicU8::new(HELD),
            part_of: None,
        })
    }

    /// Completions of two parts, of which the first has so many records. Where the whole was handed to a
    /// connection, so were they.
    pub(crate) fn split(whole: Arc<Self>, first_count: u32) -> [Arc<Self>; PARTS] {
        let partition = whole.partition;
        let on_wire = whole.on_wire.load(Ordering::Acquire);
        let whole = Arc::new(Whole { completion: whole, parts: Mutex::default() });
        [0, first_count].map(|first| {
            Arc::new(Completion {
                partition,
                outcome: OnceLock::new(),
                waiters: Mutex::default(),
                on_wire: AtomicU8::new(on_wire),
                part_of: Some((Arc::clone(&whole), first)),
            })
        })
    }

    /// The batch is about to be handed to a connection. `false`: it was withdrawn, and its sender
    /// may have been told that it is not written.
    pub(crate) fn begin_writing(&self) -> bool {
        let begun =
            self.on_wire.compare_exchange(HELD, WRITTEN, Ordering::AcqRel, Ordering::Acquire);
        begun.is_ok() || begun == Err(WRITTEN)
    }

    /// The batch is given up. `true`: it was never handed to a connection, and never will be.
    pub(crate) fn withdraw(&self) -> bool {
        let withdrawn =
            self.on_wire.compare_exchange(HELD, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire);
        withdrawn.is_ok() || withdrawn == Err(WITHDRAWN)
    }

    /// Whether it has been handed to a connection.
    pub(crate) fn may_be_written(&self) -> bool {
        self.on_wire.load(Ordering::Acquire) == WRITTEN
    }

    /// Of a part of a batch that was too large.
    pub(crate) fn is_part(&self) -> bool {
        self.part_of.is_some()
    }

    /// Sets the outcome and wakes everybody. Only the first call counts.
    pub(crate) fn complete(&self, outcome: Outcome) {
        let of_whole = self.part_of.as_ref().map(|(whole, first)| (whole, *first, outcome.clone()));
        if self.outcome.set(outcome).is_err() {
            return;
        }
        if let Some((whole, first, outcome)) = of_whole {
            whole.take_part(first, outcome);
        }
        let waiters =
            std::mem::take(&mut *self.waiters.lock().unwrap_or_else(PoisonError::into_inner));
        waiters.into_iter().for_each(Waker::wake);
    }

    /// The outcome, or the waker is kept and woken when it is there.
    fn poll(&self, cx: &Context<'_>) -> Poll<&Outcome> {
        if let Some(outcome) = self.outcome.get() {
            return Poll::Ready(outcome);
        }
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        // Set between the first look and the lock: its waker list was taken already.
        if let Some(outcome) = self.outcome.get() {
            return Poll::Ready(outcome);
        }
        // A task that awaits many records of a batch registers once, not once per record.
        if !waiters.iter().rev().take(4).any(|waker| waker.will_wake(cx.waker())) {
            waiters.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn of_record(&self, outcome: &Outcome, index: u32) -> Result<RecordMetadata, ProduceError> {
        match outcome {
            Outcome::Acked { base_offset, append_time } => Ok(RecordMetadata {
                partition: self.partition,
                offset: base_offset.map(|base| base.plus(i64::from(index))),
                append_time: *append_time,
            }),
            Outcome::Failed(error) => Err(error.clone()),
            Outcome::Parts(parts) => {
                let after = parts.partition_point(|(first, _)| *first <= index);
                match parts.get(after.wrapping_sub(1)) {
                    Some((first, part)) => self.of_record(part, index - first),
                    None => Err(ProduceError::Abandoned),
                }
            }
        }
    }
}

impl Whole {
    fn take_part(&self, first: u32, outcome: Outcome) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.push((first, outcome));
        if parts.len() < PARTS {
            return;
        }
        let mut parts = std::mem::take(&mut *parts);
        parts.sort_by_key(|(first, _)| *first);
        self.completion.complete(Outcome::Parts(parts.into()));
    }
}

/// The fate of one record: await it. Dropping it does not stop the record.
#[derive(Debug, Clone)]
pub struct Delivery {
    completion: Arc<Completion>,
    index: u32,
}

impl Delivery {
    pub(crate) fn new(completion: Arc<Completion>, index: u32) -> Self {
        Delivery { completion, index }
    }

    /// The partition the record went to.
    pub fn partition(&self) -> PartitionId {
        self.completion.partition
    }

    /// The outcome, if it is known by now.
    pub fn try_result(&self) -> Option<Result<RecordMetadata, ProduceError>> {
        let outcome = self.completion.outcome.get()?;
        Some(self.completion.of_record(outcome, self.index))
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata, ProduceError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.completion.poll(cx).map(|outcome| self.completion.of_record(outcome, self.index))
    }
}

/// The fate of all records of one `send_batch`: await [`BatchDelivery::wait`].
#[derive(Debug, Default)]
pub struct BatchDelivery {
    pub(crate) completions: Vec<Arc<Completion>>,
    pub(crate) count: usize,
}

impl BatchDelivery {
    /// How many records it stands for.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Waits for all of them.
    ///
    /// # Errors
    /// The first error met, once all are decided; others may have been delivered.
    pub async fn wait(self) -> Result<(), ProduceError> {
        let mut first_error = None;
        for completion in self.completions {
            let outcome = std::future::poll_fn(|cx| completion.poll(cx).map(Outcome::clone)).await;
            if let Some(error) = outcome.error() {
                first_error.get_or_insert_with(|| error.clone());
            }
        }
        first_error.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn records_of_a_batch_get_consecutive_offsets() {
        let completion = Completion::new(PartitionId(3));
        let deliveries: Vec<Delivery> =
            (0..3).map(|index| Delivery::new(Arc::clone(&completion), index)).collect();
        assert_eq!(deliveries[0].try_result(), None);
        let waiting = tokio::spawn(deliveries[2].clone());
        tokio::task::yield_now().await;
        completion.complete(Outcome::Acked { base_offset: Some(Offset(40)), append_time: None });
        assert_eq!(waiting.await.unwrap().unwrap().offset, Some(Offset(42)));
        assert_eq!(deliveries[1].clone().await.unwrap().offset, Some(Offset(41)));
        assert_eq!(deliveries[0].partition(), PartitionId(3));
    }

    #[test]
    fn a_batch_is_written_or_withdrawn_but_never_both() {
        let completion = Completion::new(PartitionId(0));
        assert!(completion.begin_writing() && completion.begin_writing());
        assert!(!completion.withdraw());
        let completion = Completion::new(PartitionId(0));
        assert!(completion.withdraw() && completion.withdraw());
        assert!(!completion.begin_writing());
    }

    #[tokio::test]
    async fn a_batch_in_parts_is_decided_when_all_of_them_are() {
        let completion = Completion::new(PartitionId(0));
        let record = |index| Delivery::new(Arc::clone(&completion), index);
        let acked = |base| Outcome::Acked { base_offset: Some(Offset(base)), append_time: None };
        let [first, second] = Completion::split(Arc::clone(&completion), 4);
        let [third, fourth] = Completion::split(Arc::clone(&second), 3);
        fourth.complete(acked(90));
        first.complete(acked(10));
        assert_eq!(record(0).try_result(), None, "a part is open");
        third.complete(Outcome::Failed(ProduceError::Abandoned));
        assert_eq!(record(3).await.unwrap().offset, Some(Offset(13)));
        assert_eq!(record(4).await, Err(ProduceError::Abandoned));
        assert_eq!(record(8).await.unwrap().offset, Some(Offset(91)));
        let all = BatchDelivery { completions: vec![completion], count: 9 };
        assert_eq!(all.wait().await, Err(ProduceError::Abandoned));
    }

    #[tokio::test]
    async fn only_the_first_outcome_counts() {
        let completion = Completion::new(PartitionId(0));
        completion.complete(Outcome::Failed(ProduceError::Abandoned));
        completion.complete(Outcome::Acked { base_offset: None, append_time: None });
        assert_eq!(Delivery::new(completion, 0).await, Err(ProduceError::Abandoned));
    }

    #[tokio::test]
    async fn one_task_registers_once_for_many_records() {
        let completion = Completion::new(PartitionId(0));
        let mut waiting: Vec<_> =
            (0..100).map(|index| Box::pin(Delivery::new(Arc::clone(&completion), index))).collect();
        std::future::poll_fn(|cx| {
            for delivery in &mut waiting {
                assert!(delivery.as_mut().poll(cx).is_pending());
            }
            Poll::Ready(())
        })
        .await;
        assert_eq!(completion.waiters.lock().unwrap().len(), 1);
    }
}

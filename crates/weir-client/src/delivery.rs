//! API skeleton, being filled in.
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use weir_protocol::types::{Offset, PartitionId, TimestampMs};
use crate::error::ProduceError;

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordMetadata {
    /// Its partition.
    pub partition: PartitionId,
    /// Its offset, or `None` where the broker did not say (acks none, or a duplicate long past).
    pub offset: Option<Offset>,
    /// The broker's append time, where the topic uses that.
    pub append_time: Option<TimestampMs>,
}
/// The fate of one record: await it. Dropping it does not stop the record.
#[derive(Debug)]
pub struct Delivery {}
impl Delivery {
    /// The partition the record went to.
    pub fn partition(&self) -> PartitionId { todo!() }
    /// The outcome, if it is known by now.
    pub fn try_result(&self) -> Option<Result<RecordMetadata, ProduceError>> { todo!() }
}
impl Future for Delivery {
    type Output = Result<RecordMetadata, ProduceError>;
    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Self::Output> { todo!() }
}
/// The fate of all records of one `send_batch`: await `wait`.
#[derive(Debug)]
pub struct BatchDelivery {}
impl BatchDelivery {
    /// How many records it stands for.
    pub fn count(&self) -> usize { todo!() }
    /// Waits for all; the first error if any failed.
    pub async fn wait(self) -> Result<(), ProduceError> { todo!() }
}

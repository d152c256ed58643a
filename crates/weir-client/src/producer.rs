//! API skeleton, being filled in.
use std::sync::Arc;
use std::time::Duration;
use crate::client::Client;
use crate::config::ProducerConfig;
use crate::delivery::{BatchDelivery, Delivery};
use crate::error::{ClientError, ProduceError};
use crate::record::Record;

/// Figures of a producer since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProducerStats {
    /// Records taken by `send`.
    pub records_sent: u64,
    /// Records acknowledged.
    pub records_acked: u64,
    /// Records failed for good.
    pub records_failed: u64,
    /// Batches sent again.
    pub retries: u64,
    /// Produce requests written.
    pub requests: u64,
    /// Bytes of record batches written.
    pub bytes: u64,
    /// Bytes of records not answered yet.
    pub buffered_bytes: usize,
    /// Records not answered yet.
    pub buffered_records: u64,
}

/// Sends records, batched per partition, idempotent by default. Cheap to share by `Arc`; all methods take `&self`.
/// Must be made inside a tokio runtime.
#[derive(Debug)]
pub struct Producer {}
impl Producer {
    /// Makes a producer and starts it.
    pub fn new(client: Arc<Client>, config: ProducerConfig) -> Result<Producer, ClientError> { let _ = (client, config); todo!() }
    /// Starts again after `close`.
    pub fn start(&self) -> Result<(), ProduceError> { todo!() }
    /// Waits until the topic's partitions are known (creating it where the cluster allows), so that `send` takes records for it.
    pub async fn ready(&self, topic: &str) -> Result<(), ProduceError> { let _ = topic; todo!() }
    /// How many partitions the topic has, if known.
    pub fn partition_count(&self, topic: &str) -> Option<i32> { let _ = topic; todo!() }
    /// Encodes the record into the open batch of its partition. Never waits, never allocates per record.
    pub fn send(&self, record: Record<'_>) -> Result<Delivery, ProduceError> { let _ = record; todo!() }
    /// Like `send`, but waits for metadata and room, up to `max_block_ms`. Returns when the record is taken, not when it is delivered.
    pub async fn send_wait(&self, record: Record<'_>) -> Result<Delivery, ProduceError> { let _ = record; todo!() }
    /// Takes the lock once for many records: `f` appends as many as it likes. Its value comes back with one delivery for all.
    pub fn send_batch<R>(&self, f: impl FnOnce(&mut Appender<'_>) -> R) -> (R, BatchDelivery) { let _ = f; todo!() }
    /// Waits until there is room again after `BufferFull` (at most `max_block_ms`).
    pub async fn wait_for_room(&self) -> Result<(), ProduceError> { todo!() }
    /// Waits until everything sent before this call is delivered or failed.
    pub async fn flush(&self) { todo!() }
    /// Takes no more records, delivers what is there until the deadline, then fails the rest with `Abandoned`.
    pub async fn close(&self, deadline: Duration) -> Result<(), ProduceError> { let _ = deadline; todo!() }
    /// Figures since start.
    pub fn stats(&self) -> ProducerStats { todo!() }
}
/// Holds the producer's lock for many appends.
#[derive(Debug)]
pub struct Appender<'a> { _p: &'a Producer }
impl Appender<'_> {
    /// As `Producer::send`, without a future for the single record.
    pub fn append(&mut self, record: &Record<'_>) -> Result<(), ProduceError> { let _ = record; todo!() }
    /// As `append`, with a future for this record.
    pub fn append_tracked(&mut self, record: &Record<'_>) -> Result<Delivery, ProduceError> { let _ = record; todo!() }
    /// As `append`; `write` puts the value in place, behind `value_bytes_hint` reserved. `record.value` is ignored.
    pub fn append_with(&mut self, record: &Record<'_>, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), ProduceError> { let _ = (record, write); todo!() }
}

//! Kafka's wire messages and record batches, without I/O.

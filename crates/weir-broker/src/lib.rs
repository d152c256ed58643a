//! A single-node Kafka broker over weir-log.

//! Tests of the public behaviour against a small scripted broker in memory, in virtual time.

mod connection;
mod consumer;
mod fake;
mod lifecycle;
mod order;
mod producer;

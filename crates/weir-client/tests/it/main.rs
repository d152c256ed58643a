//! Tests of the public behaviour against a small scripted broker in memory, in virtual time.

// Futures of the client within those of helpers: deeper than the default when their size is computed.
#![recursion_limit = "256"]
// clippy.toml allows these in tests, but sees only functions marked #[test].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod administration;
mod bad_brokers;
mod cluster;
mod connection;
mod consumer;
mod exactly_once;
mod fake;
mod group;
mod lifecycle;
mod membership;
mod order;
mod positions;
mod producer;
mod reading;
mod seeded;
mod topics;
mod transactions;

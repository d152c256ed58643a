//! Tests of the public behaviour against a small scripted broker in memory, in virtual time.

// clippy.toml allows these in tests, but sees only functions marked #[test].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod connection;
mod consumer;
mod fake;
mod group;
mod lifecycle;
mod order;
mod producer;
mod topics;

//! Tests of the public behaviour, one binary for the crate.

// Helpers of tests, too, may fail the test they are called from.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod fake;
mod kafka;
mod shell;

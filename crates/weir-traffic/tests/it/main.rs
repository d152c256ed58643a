//! Tests of the public behaviour, one binary for the crate.
mod fake;
mod shell;

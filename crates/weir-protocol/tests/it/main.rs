//! Tests of the public behaviour, one binary for the crate.

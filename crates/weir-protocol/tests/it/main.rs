//! Tests of the public behaviour, one binary for the crate.

mod batch;
mod compression;
mod hostile;

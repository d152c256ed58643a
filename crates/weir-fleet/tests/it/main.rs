//! Tests of the public behaviour, one binary for the crate.

mod events;
mod trajectory;

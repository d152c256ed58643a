//! Tests of the public behaviour, one binary for the crate.

// clippy.toml allows it in tests; helpers outside #[test] functions are not seen as such.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod events;
mod trajectory;

//! The demonstration as a closed loop: fleet, validation, location handler, tasks, orders.

// clippy.toml allows it in tests; helpers outside #[test] functions are not seen as such.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod closed_loop;
mod run;

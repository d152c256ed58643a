//! Black-box tests: the binary as its user meets it, and the documents against the truth.

// Helpers of tests are tests, which the lints of the house cannot see. Deadlines are real ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod architecture;
mod care;
mod console_truth;
mod damage;
mod doors;
mod error_pages;
mod fleet_store;
mod main_job;
mod newcomer;
mod outage;
mod process;
mod promises;
mod refusals;
mod security;
mod sim;
mod topics;
mod transactions;

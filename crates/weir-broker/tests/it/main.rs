//! Tests of the public behaviour, one binary for the crate.
//!
//! `core`, `compaction`, `groups` and `consumer_groups` drive the pure core by hand: frames in, effects out, commits and time turned by the
//! test, on a disk in memory.
//! `stored` looks at the files of the broker itself, `slow_disk` at who waits for a disk. `server` goes through the shell, over pipes and sockets; `secured` over those with TLS and logins.

#![allow(clippy::unwrap_used, clippy::expect_used)] // Helpers of tests are tests.

mod as_kafka;
mod clock;
mod compaction;
mod configs;
mod consumer_groups;
mod core;
mod fetch_sessions;
mod group_room;
mod groups;
mod harness;
mod keys;
mod made_again;
mod many_names;
mod promises;
mod recoding;
mod secured;
mod server;
mod settings;
mod shared_memory;
mod single_node;
mod slow_disk;
mod stored;
mod transactions;
mod transactions_model;
mod transactions_on_bad_disks;

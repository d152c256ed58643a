//! Tests of the public behaviour, one binary for the crate.
//!
//! `core` drives the pure core by hand: frames in, effects out, commits and time turned by the test, on a disk in memory.
//! `server` goes through the shell, over pipes and sockets.

mod core;
mod groups;
mod harness;
mod server;

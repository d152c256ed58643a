//! Tests of the public behaviour, one binary for the crate.

// Helpers of tests are no tests to clippy.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod commit;
mod compaction;
mod compaction_model;
mod damage;
mod damage_scenes;
mod format;
mod journal;
mod log_dir;
mod model;
mod producer_room;
mod producers;
mod read;
mod recovery;
mod retention;
mod rig;
mod time_walk;
mod verify;

//! Tests of the public behaviour, one binary for the crate.

mod commit;
mod format;
mod log_dir;
mod model;
mod producers;
mod read;
mod recovery;
mod retention;
mod rig;

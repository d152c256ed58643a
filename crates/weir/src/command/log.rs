//! `weir log`: the files of a log directory, weir's or Apache Kafka's, looked at and cleaned without a broker.

mod clean;
mod clean_running;
mod dump;
mod nothing;
mod render;
mod verify;

use std::path::{Path, PathBuf};

use weir_log::disk::lock_holder;
use weir_log::{inspect, LogError, ReadOnlyDisk};

use crate::cli::{DataDir, LogArgs, LogCommand};
use crate::config::Values;
use crate::error::{Outcome, UserError};

pub(crate) fn run(args: &LogArgs) -> Outcome {
    match &args.command {
        LogCommand::Clean(args) => clean::run(args),
        LogCommand::Dump(args) => dump::run(args),
        LogCommand::Verify(args) => verify::run(args),
    }
}

/// The data directory that is meant.
pub(super) fn data_dir(args: &DataDir) -> Outcome<PathBuf> {
    if let Some(dir) = &args.data_dir {
        return Ok(dir.clone());
    }
    let values = Values::load(args.file.config.as_deref(), std::env::vars())?;
    Ok(values.get("data_dir").map_or_else(|| PathBuf::from("weir-data"), PathBuf::from))
}

/// The log directory in a data directory: weir's is `kafka` in it, Kafka's is itself.
pub(super) fn log_dir(data_dir: &Path) -> Outcome<PathBuf> {
    let candidates = [data_dir.join("kafka"), data_dir.to_owned()];
    let is_log_dir = |dir: &&PathBuf| {
        dir.join("meta.properties").exists()
            || inspect::partitions(&ReadOnlyDisk, dir).is_ok_and(|found| !found.is_empty())
    };
    candidates.iter().find(is_log_dir).cloned().ok_or_else(|| nothing::explain(data_dir))
}

/// The process that uses a log directory, if one does.
pub(super) fn holder(log_dir: &Path) -> Option<u32> {
    // Who may not look at the lock is not told of it either.
    lock_holder(&log_dir.join(".lock")).ok().flatten()
}

fn failed(what: &str, error: &LogError) -> UserError {
    UserError::new(error.code(), what).why(error)
}

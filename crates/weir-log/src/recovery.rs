//! What an unclean stop leaves, and what is done about it.
use std::path::PathBuf;

use weir_protocol::Offset;

/// What opening a directory found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The last stop was clean: nothing was scanned.
    pub clean: bool,
    /// Logs in the directory.
    pub logs: usize,
    /// Logs of which something was scanned.
    pub logs_recovered: usize,
    /// Bytes scanned.
    pub bytes_scanned: u64,
    /// Records cut off with torn tails and damage (as far as headers tell).
    pub records_cut: u64,
    /// Bytes cut off.
    pub bytes_cut: u64,
    /// Indexes rebuilt.
    pub indexes_rebuilt: usize,
    /// Damage that is no torn tail. Its bytes were kept aside.
    pub damage: Vec<Damage>,
}

/// Bytes inside a log that are no valid batch though valid batches follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The segment file.
    pub segment: PathBuf,
    /// Where in it.
    pub position: u64,
    /// The offset that should be there.
    pub offset: Offset,
    /// Bytes from there to the end, which were cut and kept.
    pub bytes_cut: u64,
    /// Where they are now.
    pub kept_in: PathBuf,
    /// What is wrong.
    pub what: String,
}

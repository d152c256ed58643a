//! What a repair is going to do, found while verifying.

use std::collections::BTreeMap;
use std::path::PathBuf;

use weir_protocol::{LeaderEpoch, Offset};

use crate::header::HEADER_BYTES;
use crate::txn_index::AbortedTxn;

/// For a directory.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Files of the directory to be set aside.
    pub(crate) bad_files: Vec<PathBuf>,
    /// Partitions about which something is to be done.
    pub(crate) partitions: Vec<PartitionPlan>,
}

/// For one partition.
#[derive(Debug)]
pub(crate) struct PartitionPlan {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) dir: PathBuf,
    /// By base offset.
    pub(crate) segments: BTreeMap<Offset, SegmentPlan>,
    /// What `leader-epoch-checkpoint` should say, if it is wrong.
    pub(crate) epochs: Option<Vec<(LeaderEpoch, Offset)>>,
    /// Files to be set aside.
    pub(crate) bad_files: Vec<PathBuf>,
}

/// For one segment.
#[derive(Debug, Default)]
pub(crate) struct SegmentPlan {
    /// By position; they do not overlap.
    pub(crate) changes: Vec<Change>,
    /// Where a torn tail is cut.
    pub(crate) cut_at: Option<u64>,
    /// Both indexes are built again.
    pub(crate) rebuild_indexes: bool,
    /// What the transaction index should say, if it is wrong.
    pub(crate) txns: Option<Vec<AbortedTxn>>,
}

/// Other bytes for `[from, to)` of a segment; the range is empty where something is put in between.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) action: Action,
}

#[derive(Debug)]
pub(crate) enum Action {
    /// The batch gets this header; its records are intact.
    Mend { header: [u8; HEADER_BYTES], fields: String, offset: Offset, last_offset: Offset },
    /// An empty batch takes the place of these offsets, so that the log has no hole.
    Fill { from: Offset, to: Offset, epoch: LeaderEpoch },
    /// They hold no offset of this log.
    Drop,
}

impl PartitionPlan {
    pub(crate) fn is_empty(&self) -> bool {
        self.epochs.is_none() && self.bad_files.is_empty() && self.segments.is_empty()
    }
}

impl SegmentPlan {
    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
            && self.cut_at.is_none()
            && !self.rebuild_indexes
            && self.txns.is_none()
    }
}

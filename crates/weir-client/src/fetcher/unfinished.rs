//! Records that were handed over and are not done: what a commit must not pass. Pure.

use std::collections::BTreeSet;

use weir_protocol::types::Offset;

/// Records of one partition under work.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    offsets: BTreeSet<Offset>,
}

impl Unfinished {
    pub(super) fn begin(&mut self, offsets: impl Iterator<Item = Offset>) {
        self.offsets.extend(offsets);
    }

    /// `false` if it was not under work.
    pub(super) fn finish(&mut self, offset: Offset) -> bool {
        self.offsets.remove(&offset)
    }

    /// Forgets those from here on.
    pub(super) fn keep_before(&mut self, offset: Offset) {
        self.offsets.split_off(&offset);
    }

    /// The lowest.
    pub(super) fn first(&self) -> Option<Offset> {
        self.offsets.first().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.offsets.len()
    }
}

//! What was refused for now within one call: later events of the same key and class are refused with it.

use std::collections::HashMap;

use crate::error::Refused;
use crate::manager::Meta;

/// Per class and key the first event refused for now.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    first: HashMap<(usize, u64), (u32, Refused)>,
}

impl Refusals {
    /// The event at `index` of its call was refused.
    pub(super) fn note(&mut self, meta: &Meta, index: u32, refused: &Refused) {
        if !refused.reason.is_retriable() {
            return;
        }
        if let Some(key) = meta.key {
            let first = || (index, refused.clone());
            self.first.entry((meta.priority.index(), key)).or_insert_with(first);
        }
    }

    /// With what the event at `index` is refused, if an earlier one of its key and class was.
    pub(super) fn before(&self, meta: &Meta, index: u32) -> Option<Refused> {
        let (first, refused) = self.first.get(&(meta.priority.index(), meta.key?))?;
        (*first < index).then(|| refused.clone())
    }
}

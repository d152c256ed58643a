//! How a cleaned segment takes the place of those it was made of, so that a crash at any point leaves
//! the old ones or the new one.
//!
//! 1. Its index files are renamed from `.cleaned` to `.swap`, its log last: from there on the swap is
//!    decided, and a start completes it ([`crate::recovery`]); before, a start drops it.
//! 2. The old files are renamed `.deleted`, in the order of their offsets.
//! 3. The new files get their names, the log last.
//!
//! Kafka's `LocalLog.replaceSegments` and `LogLoader` do the same, so either completes what the other
//! began. The renames of a directory reach the disk in their order.

use crate::error::LogError;
use crate::files;
use crate::index::Place;
use crate::log::{Log, LogPosition};

use super::group::CleanedGroup;
use super::run::Source;

use weir_protocol::TimestampMs;

impl Log {
    /// Puts a cleaned group in place, unless its segments are not what they were. Returns whether it
    /// did. Durable with the next commit.
    ///
    /// # Errors
    /// Before the swap was decided, nothing has changed; after that the directory is offline.
    pub(crate) fn swap_in(
        &mut self,
        group: CleanedGroup,
        now: TimestampMs,
    ) -> Result<bool, LogError> {
        let CleanedGroup { sources, mut segment, has_txn_index } = group;
        let Some(at) = self.place_of(&sources) else { return Ok(false) };
        let base = segment.base;
        let mut suffixes = vec![files::OFFSET_INDEX, files::TIME_INDEX];
        suffixes.extend(has_txn_index.then_some(files::TXN_INDEX));
        suffixes.push(files::LOG);
        let (own, cleaned) = (self.place.clone(), self.place.staged(files::CLEANED));
        let swap = self.place.staged(files::SWAP);
        let rename = |from: &Place, to: &Place| {
            for suffix in &suffixes {
                let path = from.path(base, suffix);
                let renamed = own.disk.rename(&path, &to.path(base, suffix));
                renamed.map_err(|error| LogError::io("rename", path, error))?;
            }
            Ok(())
        };
        if let Err(error) = rename(&cleaned, &swap) {
            let halves = suffixes.iter().map(|suffix| (now, swap.path(base, suffix)));
            self.graveyard.extend(halves);
            self.note_dir();
            return Err(error);
        }
        let mut place = || {
            sources.iter().try_for_each(|source| self.bury(source.base, now))?;
            rename(&swap, &own)
        };
        // Files have other names than memory knows; the next start completes it. Also if it was only room for a name.
        let placed: Result<(), LogError> = place();
        placed.inspect_err(|error| {
            self.shared.fail(&error.to_string());
        })?;
        segment.set_place(&own);
        segment.has_aborts = has_txn_index;
        self.segments.drain(at..at + sources.len());
        self.segments.insert(at, segment);
        self.settle_after_swap(&sources);
        Ok(true)
    }

    /// Where the segments that a run began with stand, if they are all there and unchanged.
    fn place_of(&self, sources: &[Source]) -> Option<usize> {
        let (first, last) = (sources.first()?, sources.last()?);
        let at = self.segments.binary_search_by_key(&first.base, |segment| segment.base).ok()?;
        let next = self.segments.get(at + sources.len())?;
        let mut pairs = self.segments.iter().skip(at).zip(sources);
        let same = pairs.all(|(segment, source)| {
            segment.base == source.base && segment.size_bytes == source.size_bytes
        });
        (same && next.base == last.end).then_some(at)
    }

    /// Forgets positions in the segments that are gone.
    fn settle_after_swap(&mut self, sources: &[Source]) {
        let is_gone = sources.iter().any(|source| source.base == self.synced.base);
        if let Some(last) = sources.last().filter(|_| is_gone) {
            // Only what is synced is cleaned, so the synced offset is where the next segment begins.
            debug_assert_eq!(self.synced.offset, last.end, "cleaned beyond the synced offset");
            self.synced = LogPosition { offset: self.synced.offset, base: last.end, position: 0 };
        }
        self.clear_hints();
        self.note_dir();
    }
}

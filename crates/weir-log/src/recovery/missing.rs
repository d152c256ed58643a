//! Segments that are gone, or empty, though what stands beside them says that there was more.
//!
//! What lies below the recovery point is not read at a start, so this looks at names and sizes alone. Each
//! segment has index files from its first moment to its last, and the log goes before them when it is
//! deleted: an index without its log, and without a log that is on its way out, is what remains of one that
//! somebody or something has removed.

use weir_protocol::Offset;

use super::open::Listing;
use super::{Damage, RecoveryReport};
use crate::files;
use crate::index::Place;
use crate::log::Log;
use crate::segment::Segment;

const INDEXES: [&str; 2] = [files::OFFSET_INDEX, files::TIME_INDEX];

/// Base offsets of index files without a log.
pub(super) fn orphans(listing: &Listing) -> Vec<Offset> {
    let mut found: Vec<Offset> = INDEXES
        .into_iter()
        .flat_map(|suffix| listing.offsets_of(suffix))
        .filter(|base| listing.size(*base, files::LOG).is_none())
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Whether the log of a segment was being deleted: the next that goes are its indexes.
pub(super) fn is_on_its_way_out(place: &Place, listing: &Listing, base: Offset) -> bool {
    let mut name = place.path(base, files::LOG).into_os_string();
    name.push(".");
    name.push(files::DELETED);
    listing.graveyard.iter().any(|path| path.as_os_str() == name)
}

/// Tells of those below `scanned_from`; what a scan reads tells by itself. Readers go on behind the hole.
pub(super) fn report(
    log: &Log,
    listing: &Listing,
    scanned_from: Offset,
    report: &mut RecoveryReport,
) {
    let mut tell = |base: Offset, what: String| {
        let segment = log.place.path(base, files::LOG);
        report.damage.push(Damage {
            topic: log.topic.to_string(),
            partition: log.partition.get(),
            position: 0,
            offset: base,
            bytes_cut: 0,
            kept_in: segment.clone(),
            segment,
            what,
        });
    };
    for base in orphans(listing) {
        tell(base, "the segment is gone, its indexes are there".to_owned());
    }
    let last = log.segments.back().map(|segment| segment.base);
    let is_empty = |segment: &&Segment| segment.size_bytes == 0 && segment.base < scanned_from;
    for segment in log.segments.iter().filter(is_empty) {
        let entries = |suffix| listing.size(segment.base, suffix).is_some_and(|bytes| bytes > 0);
        // Compaction may leave nothing of one.
        let is_followed = Some(segment.base) != last && segment.base >= log.gaps_to;
        if is_followed || INDEXES.into_iter().any(entries) {
            tell(segment.base, "the segment is empty, there was something in it".to_owned());
        }
    }
}

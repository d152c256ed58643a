//! Completing what the cleaner was at when the process ended; see [`crate::cleaner`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use weir_protocol::Offset;

use crate::disk::{DirEntry, OpenMode};
use crate::error::LogError;
use crate::files::{self, FileKind};
use crate::header::HeaderWalk;
use crate::index::Place;

/// The files of a segment; the log last, as its name decides.
const SUFFIXES: [&str; 4] = [files::OFFSET_INDEX, files::TIME_INDEX, files::TXN_INDEX, files::LOG];

/// Completes each swap that was decided, and drops the others. `entries` are those of the directory,
/// which are others afterwards.
pub(super) fn complete(place: &Place, entries: &[DirEntry]) -> Result<(), LogError> {
    let mut swaps: BTreeMap<Offset, BTreeSet<&'static str>> = BTreeMap::new();
    let mut logs: BTreeSet<Offset> = BTreeSet::new();
    let mut cleaned: Option<Offset> = None;
    let staged = |name: &str, stage: &str| {
        let name = name.strip_suffix(stage)?.strip_suffix('.')?;
        match files::kind_of(name) {
            FileKind::AtOffset(base, suffix) => Some((base, suffix)),
            _ => None,
        }
    };
    for entry in entries {
        if let Some((base, suffix)) = staged(&entry.name, files::SWAP) {
            swaps.entry(base).or_default().insert(suffix);
        }
        if let Some((base, _)) = staged(&entry.name, files::CLEANED) {
            cleaned = Some(cleaned.map_or(base, |least| least.min(base)));
        }
        if let FileKind::AtOffset(base, files::LOG) = files::kind_of(&entry.name) {
            logs.insert(base);
        }
    }
    for (base, suffixes) in &swaps {
        // While a part is not renamed yet the old segments are all there (KAFKA-6264), the first of
        // them too, so that nothing is lost.
        let has_old = logs.contains(base);
        let is_partial = has_old && cleaned.is_some_and(|least| least <= *base);
        if suffixes.contains(files::LOG) && !is_partial {
            complete_one(place, *base, suffixes)?;
        } else {
            for suffix in suffixes {
                remove(place, *base, suffix)?;
            }
        }
    }
    remove_orphans(place)
}

fn remove(place: &Place, base: Offset, suffix: &str) -> Result<(), LogError> {
    let path = place.staged(files::SWAP).path(base, suffix);
    place.disk.remove(&path).map_err(|error| LogError::io("remove", path, error))
}

fn complete_one(
    place: &Place,
    base: Offset,
    suffixes: &BTreeSet<&'static str>,
) -> Result<(), LogError> {
    let swap = place.staged(files::SWAP);
    let end = end_of(&swap, base)?;
    let rename = |from: PathBuf, to: PathBuf| {
        let renamed = place.disk.rename(&from, &to);
        renamed.map_err(|error| LogError::io("rename", from, error))
    };
    // Old segments that begin behind its last record are as good as gone: all they hold was written
    // again later. The next cleaning takes them away.
    for (old, suffix) in listed(place)? {
        let is_old = if old == base { suffixes.contains(suffix) } else { old > base && old < end };
        if is_old && SUFFIXES.contains(&suffix) {
            let path = place.path(old, suffix);
            let mut to = path.clone().into_os_string();
            to.push(".");
            to.push(files::DELETED);
            rename(path, to.into())?;
        }
    }
    for suffix in SUFFIXES.into_iter().filter(|suffix| suffixes.contains(suffix)) {
        rename(swap.path(base, suffix), place.path(base, suffix))?;
    }
    Ok(())
}

/// One past the last offset in a segment that was synced before its name was given.
fn end_of(swap: &Place, base: Offset) -> Result<Offset, LogError> {
    let path = swap.path(base, files::LOG);
    let file = swap.open(&path, OpenMode::Existing)?;
    let len_bytes = file.len_bytes().map_err(|error| LogError::io("read", &path, error))?;
    let mut walk = HeaderWalk::new(&*file, &path, 0, len_bytes);
    let mut end = base;
    loop {
        match walk.next() {
            Ok(Some((_, header))) => end = header.last_offset().next(),
            // Readers are told of damage when they come to it.
            Ok(None) | Err(LogError::Damaged { .. }) => return Ok(end),
            Err(error) => return Err(error),
        }
    }
}

/// Indexes whose log was taken away belong to nothing.
fn remove_orphans(place: &Place) -> Result<(), LogError> {
    let listed = listed(place)?;
    let logs: BTreeSet<Offset> =
        listed.iter().filter(|(_, suffix)| *suffix == files::LOG).map(|(base, _)| *base).collect();
    for (base, suffix) in listed {
        if suffix == files::SNAPSHOT || logs.contains(&base) {
            continue;
        }
        let path = place.path(base, suffix);
        match place.disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(LogError::io("remove", path, error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn listed(place: &Place) -> Result<Vec<(Offset, &'static str)>, LogError> {
    let entries = place.disk.list(&place.dir);
    let entries = entries.map_err(|error| LogError::io("list", &*place.dir, error))?;
    let kinds = entries.iter().map(|entry| files::kind_of(&entry.name));
    Ok(kinds
        .filter_map(|kind| match kind {
            FileKind::AtOffset(base, suffix) => Some((base, suffix)),
            _ => None,
        })
        .collect())
}

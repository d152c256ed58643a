//! Opening a journal: what it holds is brought into the segments, and it is empty.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use weir_protocol::Uuid;

use super::apply::Applier;
use super::buffer::BlockBuffer;
use super::format::BadHeader;
use super::replay::{find_header, find_records, next_sequence, read_record, HeaderFound, Source};
use super::ring::{Mark, Ring, RING_START};
use super::{write_zeros, Journal, Settling, State, BYTES_AT_FIRST};
use crate::disk::{read_exact_at, Disk, DiskFile, OpenMode, BLOCK_BYTES};
use crate::error::{is_passing, LogError};
use crate::files;
use crate::recovery::{unused_name, RecoveryReport};

/// Which journal to open, and what the directory knows of it.
#[derive(Debug)]
pub(crate) struct OpenJournal<'a> {
    pub(crate) disk: &'a Arc<dyn Disk>,
    pub(crate) dir: &'a Path,
    pub(crate) directory_id: Uuid,
    /// `None`: commits go the straight way.
    pub(crate) bytes_max: Option<u64>,
    pub(crate) group_bytes_max: u64,
    /// The last stop was clean.
    pub(crate) clean: bool,
    /// `meta.properties` says that there is one; `None` if there is no `meta.properties` yet.
    pub(crate) expected: Option<bool>,
}

/// The file of a journal, as it is found.
struct FileSource {
    file: Arc<dyn DiskFile>,
    len_bytes: u64,
}

impl Source for FileSource {
    fn read(&self, buf: &mut [u8], position: u64) -> io::Result<bool> {
        let fits = position.checked_add(buf.len() as u64).is_some_and(|end| end <= self.len_bytes);
        if fits {
            read_exact_at(&*self.file, buf, position)?;
        }
        Ok(fits)
    }

    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }
}

/// Refuses a journal that belongs to another directory or to a later version, before anything is
/// changed.
pub(crate) fn refuse_foreign(
    disk: &dyn Disk,
    dir: &Path,
    directory_id: Uuid,
) -> Result<(), LogError> {
    let path = dir.join(files::JOURNAL);
    let refuse = |what: String| Err(LogError::ForeignJournal { path: path.clone(), what });
    let Some(source) = open_source(disk, &path)? else { return Ok(()) };
    match find_header(&source).map_err(|error| LogError::io("read", &path, error))? {
        Err(BadHeader::Version(version)) => {
            refuse(format!("it has version {version}, and this weir knows version 1"))
        }
        Ok(found) if found.header.directory_id != directory_id => refuse(format!(
            "it belongs to the directory with id {}, and this one has {directory_id}",
            found.header.directory_id
        )),
        Ok(_) | Err(BadHeader::Invalid) => Ok(()),
    }
}

/// Whether a start after an unclean stop has something to write from the journal. One whose header
/// cannot be read may have.
pub(crate) fn is_needed(disk: &dyn Disk, dir: &Path) -> Result<bool, LogError> {
    let path = dir.join(files::JOURNAL);
    let failed = |error| LogError::io("read", &path, error);
    let Some(source) = open_source(disk, &path)? else { return Ok(false) };
    match find_header(&source).map_err(failed)? {
        Ok(found) => Ok(!find_records(&source, &found).map_err(failed)?.records.is_empty()),
        Err(_) => Ok(true),
    }
}

fn open_source(disk: &dyn Disk, path: &Path) -> Result<Option<FileSource>, LogError> {
    let open = || -> io::Result<FileSource> {
        let file = disk.open(path, OpenMode::Existing)?;
        let len_bytes = file.len_bytes()?;
        Ok(FileSource { file, len_bytes })
    };
    match open() {
        Ok(source) => Ok(Some(source)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LogError::io("open", path, error)),
    }
}

/// Opens the journal of a directory, after bringing what it holds into the segments; makes one if there
/// is none. `None` if there is to be none, or no room for it.
///
/// Logs must not have been opened yet.
pub(crate) fn open(
    request: &OpenJournal<'_>,
    report: &mut RecoveryReport,
) -> Result<Option<Journal>, LogError> {
    let path = request.dir.join(files::JOURNAL);
    let failed = |action| {
        let path = path.clone();
        move |error| LogError::io(action, path, error)
    };
    let source = open_source(&**request.disk, &path)?;
    let existing = match &source {
        None => {
            if request.expected == Some(true) && !request.clean {
                report.warnings.push(format!(
                    "{} is missing after an unclean stop; what was committed only there is lost",
                    path.display()
                ));
            }
            None
        }
        Some(source) => take_in(request, &path, source, report)?,
    };
    let Some(bytes_max) = request.bytes_max else {
        if existing.is_some() {
            remove(&**request.disk, request.dir, &path).map_err(failed("remove"))?;
        }
        return Ok(None);
    };
    let bytes_max = bytes_max.max(RING_START) / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
    let source = source.filter(|_| existing.is_some());
    let Some(end) = prepare(request, &path, source.as_ref(), bytes_max, report)? else {
        return Ok(None);
    };
    let next = existing.unwrap_or(Next { header_number: 0, sequence: 1 });
    let journal = Journal {
        disk: Arc::clone(request.disk),
        file: request.disk.open_direct(&path).map_err(failed("open"))?,
        path: path.clone(),
        directory_id: request.directory_id,
        bytes_max,
        group_bytes_max: request.group_bytes_max,
        state: Mutex::new(State {
            ring: Ring::new(end, next.sequence),
            short_for: None,
            segments: std::collections::HashMap::new(),
            data_bytes: 0,
        }),
        settling: Mutex::new(Settling { header_number: next.header_number, failed: false }),
        buffer: Mutex::new(BlockBuffer::default()),
        flushing: AtomicBool::new(false),
    };
    let tail = Mark { position: RING_START, sequence: next.sequence };
    let write = |settling: &mut Settling| journal.write_header(settling, tail, false);
    journal.settling(write).map_err(failed("write"))?;
    if existing.is_none() {
        let dir = request.dir;
        request.disk.sync_dir(dir).map_err(|error| LogError::io("sync", dir, error))?;
    }
    Ok(Some(journal))
}

/// Makes the file, or brings that of an empty journal between the bounds. Returns what may be used of
/// it; `None` if there is no room for one.
fn prepare(
    request: &OpenJournal<'_>,
    path: &Path,
    source: Option<&FileSource>,
    bytes_max: u64,
    report: &mut RecoveryReport,
) -> Result<Option<u64>, LogError> {
    let prepared = match source {
        Some(source) => resize(source, bytes_max),
        None => create(request, path, bytes_max),
    };
    match prepared {
        Ok(end) => Ok(Some(end)),
        Err(error) if is_passing(&error) => {
            report.warnings.push(format!(
                "there is no commit journal, as {} cannot be made: {error}; commits go to the \
                 segments",
                path.display()
            ));
            match remove(&**request.disk, request.dir, path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(LogError::io("remove", path, error))
                }
                _ => Ok(None),
            }
        }
        Err(error) => Err(LogError::io("write", path, error)),
    }
}

/// Numbers that the file has not seen.
#[derive(Debug, Clone, Copy)]
struct Next {
    header_number: u64,
    sequence: u64,
}

/// Brings what a journal holds into the segments. `None` if it is none, and is to be made anew.
fn take_in(
    request: &OpenJournal<'_>,
    path: &Path,
    source: &FileSource,
    report: &mut RecoveryReport,
) -> Result<Option<Next>, LogError> {
    let failed = |error| LogError::io("read", path, error);
    let found = match find_header(source).map_err(failed)? {
        Ok(found) => found,
        Err(_) => {
            // One that was being made is no loss; after a clean stop nothing was in it.
            if request.expected == Some(true) && !request.clean {
                let kept_in = keep_aside(&**request.disk, path)?;
                report.bad_files.push(format!(
                    "the header of the commit journal is damaged, and what was committed only there \
                     is lost; it is kept in {}",
                    kept_in.display()
                ));
            }
            return Ok(None);
        }
    };
    if request.expected.is_none() {
        // Without meta.properties there is no telling whose it is.
        if !find_records(source, &found).map_err(failed)?.records.is_empty() {
            let kept_in = keep_aside(&**request.disk, path)?;
            report.bad_files.push(format!(
                "there was a commit journal without meta.properties; it is kept in {}",
                kept_in.display()
            ));
        }
        return Ok(None);
    }
    let sequence = if request.clean {
        pass_over(source, &found, report).map_err(failed)?
    } else {
        replay(request, path, source, &found, report)?
    };
    Ok(Some(Next { header_number: found.header.number, sequence }))
}

/// After a clean stop: nothing is needed. Returns a sequence number that was not used.
fn pass_over(
    source: &FileSource,
    found: &HeaderFound,
    report: &mut RecoveryReport,
) -> io::Result<u64> {
    if found.header.closed && !found.other_is_bad {
        return Ok(found.header.tail.sequence);
    }
    if !found.header.closed {
        report.warnings.push(
            "another program has stopped the directory cleanly since weir had it last; the commit \
             journal is not applied"
                .to_owned(),
        );
    }
    next_sequence(source, found)
}

/// After any other: what is in the journal is written to the segments, and synced.
fn replay(
    request: &OpenJournal<'_>,
    path: &Path,
    source: &FileSource,
    found: &HeaderFound,
    report: &mut RecoveryReport,
) -> Result<u64, LogError> {
    let failed = |error| LogError::io("read", path, error);
    let records = find_records(source, found).map_err(failed)?;
    let mut applier = Applier::new(request.disk, request.dir);
    for mark in &records.records {
        let record = read_record(source, request.directory_id, *mark).map_err(failed)?;
        if let Some(record) = record {
            applier.record(&record)?;
        }
    }
    applier.sync().map_err(|error| LogError::io("sync", request.dir, error))?;
    if records.missing > 0 {
        report.bad_files.push(format!(
            "{} records of the commit journal are damaged; what was committed only there is lost",
            records.missing
        ));
    }
    report.journal_records = records.records.len() as u64;
    report.journal_bytes = applier.bytes_written;
    report.bad_files.append(&mut applier.problems);
    report.warnings.append(&mut applier.warnings);
    Ok(records.next_sequence)
}

/// The file under a name that nothing else has.
fn keep_aside(disk: &dyn Disk, path: &Path) -> Result<PathBuf, LogError> {
    let kept_in = unused_name(disk, path, 0);
    disk.rename(path, &kept_in).map_err(|error| LogError::io("rename", path, error))?;
    Ok(kept_in)
}

fn remove(disk: &dyn Disk, dir: &Path, path: &Path) -> io::Result<()> {
    disk.remove(path)?;
    disk.sync_dir(dir)
}

/// Makes the file, full of zeros. Returns its length.
fn create(request: &OpenJournal<'_>, path: &Path, bytes_max: u64) -> io::Result<u64> {
    let file = request.disk.open(path, OpenMode::Truncate)?;
    let end = bytes_max.min(BYTES_AT_FIRST);
    write_zeros(&*file, 0, end)?;
    Ok(end)
}

/// Brings the file of an empty journal between the bounds. Returns what may be used of it.
fn resize(source: &FileSource, bytes_max: u64) -> io::Result<u64> {
    let len_bytes = source.len_bytes;
    let bytes_min = bytes_max.min(BYTES_AT_FIRST);
    if len_bytes < bytes_min {
        write_zeros(&*source.file, len_bytes, bytes_min)?;
        return Ok(bytes_min);
    }
    if len_bytes > bytes_max {
        source.file.set_len(bytes_max)?;
        source.file.sync_data()?;
        return Ok(bytes_max);
    }
    Ok(len_bytes / BLOCK_BYTES as u64 * BLOCK_BYTES as u64)
}

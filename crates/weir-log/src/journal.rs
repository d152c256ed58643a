//! The commit journal: one sequential write makes appends to many segments durable.
//!
//! A sync of a segment that has grown also writes metadata of the file system, and waits for it, once
//! for each segment. So the bytes of a commit are written a second time, all in one record, into a file
//! that never grows: one direct write, and nothing but data ([`format`] says what stands where). The
//! segments follow in the background; then their records are needed no more, and the room is free again
//! ([`ring`]). After a crash the records that were still needed are found ([`replay`]) and what is
//! missing in the segments is written ([`apply`]), before anything else looks at them.
//!
//! PostgreSQL's WAL and BookKeeper's journal do the same. Kafka has none, and knows nothing of this one:
//! a plain file in a log directory is none of its logs.
//!
//! # What holds
//! - A record holds appends to segments whose names and whose bytes before it are durable, or in a
//!   record before it. Only what follows the last commit of the same segment goes into one.
//! - Everything else a commit may have to do (new or rolled segments, truncations, deletions, log
//!   starts, checkpoints) goes the *straight way*: the files themselves are synced. The segments in the
//!   journal are synced with them, and then the journal is empty. So no record ever precedes a change of
//!   another kind that was answered, and no replay undoes one.
//! - Room is used again only after a header that frees it is durable. So the tail that a start finds is
//!   either the last one, or one from which all records are still there.
//! - A sequence number is used once. So a record of an earlier lap is not taken for one of this.
//! - What a crash leaves of a commit that was not answered may be replayed or not, as a segment's
//!   unsynced tail may be there or not.
//! - A failed write or sync takes the directory offline ([`crate::CommitError`]).
//!
//! # Which way a commit goes
//! Up to `journal_group_bytes_max` ([`GROUP_BYTES_MAX`]) it goes into the journal, and so does a larger
//! one that is little for each of its segments. Above, the data is what takes the time, and writing it
//! twice costs more than the metadata. Bytes are read back from the page cache when the record is made,
//! on the commit's thread: an append costs nothing more, not even under the lock.

pub(crate) mod apply;
mod buffer;
pub mod format;
mod open;
pub mod replay;
pub mod ring;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_protocol::{Offset, Uuid};

use crate::disk::{read_exact_at, Disk, DiskFile, OpenMode, BLOCK_BYTES};
use crate::error::{lacks_handle, CommitError};
use crate::log_dir::LogId;
use crate::shared::Shared;

use buffer::BlockBuffer;
use format::{record_bytes, round_up, Header, RecordWriter, RECORD_BYTES_MAX};
use ring::{Mark, Ring, RING_START};

pub(crate) use open::{is_needed, open, refuse_foreign, OpenJournal};

/// A larger commit goes to its segments, unless they are many.
pub const GROUP_BYTES_MAX: u64 = 1 << 20;

/// So many bytes are written twice in the time that the metadata of one more segment takes, about.
/// Measured: `syncfs` takes 20 to 30 µs for each of 1,000 segments.
const SEGMENT_WORTH_BYTES: u64 = 16 << 10;

/// What the journal has at first, so that the first start of a directory is not held up by zeros, and an
/// idle one costs little. It doubles while it is found half full, up to `journal_bytes_max`.
pub(crate) const BYTES_AT_FIRST: u64 = 1 << 20;

/// Segments are synced once so much of theirs is in the journal, however much room there is: the disk
/// writes that at once, and a commit that comes meanwhile waits behind it.
const FLUSH_DATA_BYTES_MAX: u64 = 4 << 20;

/// Zeros that are written at once when the file grows.
const ZEROS_BYTES: usize = 256 << 10;

/// The journal of an open directory.
#[derive(Debug)]
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    directory_id: Uuid,
    bytes_max: u64,
    group_bytes_max: u64,
    /// Whose writes are durable when they return.
    file: Arc<dyn DiskFile>,
    state: Mutex<State>,
    /// Held while segments are synced and the tail moves. Taken before `state`.
    settling: Mutex<Settling>,
    buffer: Mutex<BlockBuffer>,
    /// A [`Flush`] was given out.
    flushing: AtomicBool,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    /// A record of this length found the whole file too short.
    short_for: Option<u64>,
    /// Segments that records between tail and head belong to.
    segments: HashMap<(LogId, Offset), Arc<dyn DiskFile>>,
    /// What of theirs was not yet given to a sync.
    data_bytes: u64,
}

impl State {
    /// What is to be synced from here on.
    fn take_segments(&mut self) -> Vec<Arc<dyn DiskFile>> {
        self.data_bytes = 0;
        std::mem::take(&mut self.segments).into_values().collect()
    }

    const fn is_half_full(&self) -> bool {
        self.ring.used_bytes() >= self.ring.capacity_bytes() / 2
    }
}

#[derive(Debug)]
struct Settling {
    /// The number of the last header.
    header_number: u64,
    /// A sync or a write of a header failed: what is in the journal may be nowhere else, so that it must
    /// not be emptied any more.
    failed: bool,
}

/// What was appended to one segment since the last commit.
#[derive(Debug, Clone)]
pub(crate) struct Appended {
    pub(crate) id: LogId,
    /// The partition's directory.
    pub(crate) dir: Arc<Path>,
    pub(crate) topic_id: Uuid,
    pub(crate) base: Offset,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) file: Arc<dyn DiskFile>,
}

impl Appended {
    fn dir_name(&self) -> &str {
        self.dir.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    fn len(&self) -> usize {
        usize::try_from(self.to - self.from).unwrap_or(usize::MAX)
    }
}

/// Segments that are to be synced in the background, so that the journal has room.
///
/// [`crate::Committed::take_flush`] gives it; run it on a thread of its own. If it is dropped, commits do
/// its work themselves once the journal is full.
#[derive(Debug)]
#[must_use = "the journal has room again only by run()"]
pub struct Flush {
    journal: Arc<Journal>,
    shared: Arc<Shared>,
    /// The journal is short of room.
    grow: bool,
}

impl Flush {
    /// Does the blocking I/O. Commits and appends go on meanwhile.
    ///
    /// # Errors
    /// When a sync or write failed. The directory is offline then.
    pub fn run(self) -> Result<(), CommitError> {
        let run = || -> io::Result<()> {
            self.journal.flush()?;
            if self.grow {
                self.journal.grow()?;
            }
            Ok(())
        };
        run().map_err(|error| self.shared.fail(&format!("cannot flush the segments: {error}")))
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        self.journal.flushing.store(false, Ordering::Release);
    }
}

impl Journal {
    /// Makes appends durable by one record. `false` if they must go the straight way: they are too
    /// many, or a log was truncated meanwhile.
    pub(crate) fn commit(&self, appends: &[Appended]) -> io::Result<bool> {
        let sizes = || appends.iter().map(|append| (append.dir_name().len(), append.len()));
        let data_bytes: u64 = sizes().map(|(_, bytes)| bytes as u64).sum();
        let is_small_each = data_bytes <= appends.len() as u64 * SEGMENT_WORTH_BYTES;
        let len = round_up(record_bytes(sizes()));
        if data_bytes > self.group_bytes_max && !is_small_each || len > RECORD_BYTES_MAX {
            return Ok(false);
        }
        if data_bytes == 0 {
            return Ok(true);
        }
        let Some((position, sequence)) = self.place_for(len)? else { return Ok(false) };
        let mut buffer = lock(&self.buffer);
        let buf = buffer.get(len);
        let mut writer = RecordWriter::new(buf);
        for append in appends {
            let name = append.dir_name();
            let bytes =
                writer.append(name, append.topic_id, append.base, append.from, append.len());
            match read_exact_at(&*append.file, bytes, append.from) {
                // Cut meanwhile. The log will not hear that this was committed.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                outcome => outcome?,
            }
        }
        let written = writer.finish(sequence, self.directory_id);
        debug_assert_eq!(written, len, "the record has the length it was given room for");
        match self.file.write_at(buf, position) {
            Ok(()) => {}
            // Where blocks are never written in place. What is there of it says nothing wrong, but its
            // number is used; the straight way empties the ring.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                self.state().ring.advance(position, len as u64);
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        buffer.shrink();
        let mut state = self.state();
        state.ring.advance(position, len as u64);
        for append in appends {
            let key = (append.id, append.base);
            state.segments.entry(key).or_insert_with(|| Arc::clone(&append.file));
        }
        state.data_bytes += data_bytes;
        Ok(true)
    }

    /// Where a record of `len` bytes goes, and its sequence number. Waits for room.
    fn place_for(&self, len: usize) -> io::Result<Option<(u64, u64)>> {
        let len = len as u64;
        let place = |ring: &Ring| Some((ring.place_for(len)?, ring.head().sequence));
        let ring = self.state().ring;
        if len > ring.capacity_bytes() {
            self.state().short_for = Some(len);
            return Ok(None);
        }
        if let Some(found) = place(&ring) {
            return Ok(Some(found));
        }
        self.flush()?;
        let ring = self.state().ring;
        Ok(place(&ring))
    }

    /// Syncs `files`, `dirs` and every segment that is in the journal, by `sync`, and empties the
    /// journal.
    pub(crate) fn settle(
        &self,
        files: &mut Vec<Arc<dyn DiskFile>>,
        sync: impl FnOnce(&[Arc<dyn DiskFile>]) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.state().ring.is_empty() {
            return sync(files);
        }
        self.settling(|settling| {
            let segments = self.state().take_segments();
            let address = |file: &Arc<dyn DiskFile>| Arc::as_ptr(file).cast::<()>();
            let known: HashSet<_> = files.iter().map(address).collect();
            files.extend(segments.into_iter().filter(|file| !known.contains(&address(file))));
            sync(files)?;
            // Nobody commits meanwhile: this is the commit.
            let sequence = self.state().ring.head().sequence;
            let tail = Mark { position: RING_START, sequence };
            self.write_header(settling, tail, false)?;
            self.state().ring.clear();
            Ok(())
        })
    }

    fn settling(&self, run: impl FnOnce(&mut Settling) -> io::Result<()>) -> io::Result<()> {
        let mut settling = lock(&self.settling);
        if settling.failed {
            return Err(io::Error::other("an earlier sync failed"));
        }
        // Also if it panics.
        settling.failed = true;
        let outcome = run(&mut settling);
        settling.failed = outcome.is_err();
        outcome
    }

    /// Syncs the segments that are in the journal by now, and frees their room.
    fn flush(&self) -> io::Result<()> {
        self.settling(|settling| {
            let (files, head) = {
                let mut state = self.state();
                (state.take_segments(), state.ring.head())
            };
            if files.is_empty() {
                return Ok(());
            }
            self.disk.sync_many(&files, &[])?;
            self.write_header(settling, head, false)?;
            self.state().ring.free_to(head);
            Ok(())
        })
    }

    /// Says that no record is needed, and that the next start need not look.
    pub(crate) fn close(&self) -> io::Result<()> {
        self.settling(|settling| {
            let ring = self.state().ring;
            if !ring.is_empty() {
                return Err(io::Error::other("the commit journal is not empty"));
            }
            let tail = Mark { position: RING_START, sequence: ring.head().sequence };
            self.write_header(settling, tail, true)
        })
    }

    /// Both blocks, so that one that rots tells nothing else than the other.
    fn write_header(&self, settling: &mut Settling, tail: Mark, closed: bool) -> io::Result<()> {
        let mut buffer = BlockBuffer::default();
        for position in [0, BLOCK_BYTES as u64] {
            settling.header_number += 1;
            let (number, directory_id) = (settling.header_number, self.directory_id);
            let block = buffer.get(BLOCK_BYTES);
            Header { number, directory_id, tail, closed }.encode(block);
            self.file.write_at(block, position)?;
        }
        Ok(())
    }

    /// A flush, if it is time for one and none is under way.
    pub(crate) fn take_flush(self: &Arc<Self>, shared: &Arc<Shared>) -> Option<Flush> {
        let (grow, is_due) = {
            let state = self.state();
            let is_short = state.short_for.is_some() && state.ring.end() < self.bytes_max;
            let grow = is_short || state.is_half_full();
            (grow, grow || state.data_bytes >= FLUSH_DATA_BYTES_MAX)
        };
        (is_due && !self.flushing.swap(true, Ordering::AcqRel)).then(|| Flush {
            journal: Arc::clone(self),
            shared: Arc::clone(shared),
            grow,
        })
    }

    /// Doubles the file, unless it is large enough. Finding no room for it is no failure.
    fn grow(&self) -> io::Result<()> {
        let (end, short_for) = {
            let mut state = self.state();
            (state.ring.end(), state.short_for.take())
        };
        // Two of them: one while the segments of the other are synced.
        let for_two = RING_START + 2 * short_for.unwrap_or(0);
        let wanted = for_two.next_power_of_two().max(2 * end).min(self.bytes_max);
        if wanted <= end {
            return Ok(());
        }
        let file = match self.disk.open(&self.path, OpenMode::Existing) {
            // As if there were no room.
            Err(error) if lacks_handle(&error) => return Ok(()),
            opened => opened?,
        };
        match write_zeros(&*file, end, wanted) {
            Ok(()) => {
                self.state().ring.grow_to(wanted);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// Zeros, and not just room for them: a block that was never written costs a write of metadata at its
/// first use. Measured: 0.23 to 0.36 ms for such a block, 0.11 to 0.15 for one that was.
fn write_zeros(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS_BYTES];
    let mut position = from;
    while position < to {
        let len = usize::try_from(to - position).unwrap_or(ZEROS_BYTES).min(ZEROS_BYTES);
        file.write_at(zeros.get(..len).unwrap_or(&zeros), position)?;
        position += len as u64;
    }
    file.sync_data()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

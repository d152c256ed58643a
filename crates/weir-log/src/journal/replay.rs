//! What a journal holds: finding its records again after an unclean stop.
//!
//! Records are followed from the tail, each at the end of the one before it or at the beginning of the
//! ring. The first place where none stands is the end: the record that was being written when the power
//! went may be there in part, and nobody was told of it. It is looked at a little further, so that a
//! record that has rotted is not taken for the end while whole ones stand behind it; then, or if one of
//! the two headers is bad, the whole file is searched.

use std::io;

use weir_protocol::Uuid;

use super::format::{is_whole, round_up, BadHeader, Header, RecordHead, RECORD_BYTES_MAX};
use super::ring::{Mark, RING_START};
use crate::disk::BLOCK_BYTES;

/// Bytes that are read at once when searching.
const WINDOW_BYTES: usize = 1 << 20;

/// Bytes of a journal's file.
pub trait Source {
    /// Fills `buf` from `position`. `false` if the file ends before.
    ///
    /// # Errors
    /// What the system says.
    fn read(&self, buf: &mut [u8], position: u64) -> io::Result<bool>;

    /// Bytes in the file.
    fn len_bytes(&self) -> u64;
}

impl Source for [u8] {
    fn read(&self, buf: &mut [u8], position: u64) -> io::Result<bool> {
        let rest = usize::try_from(position).ok().and_then(|position| self.get(position..));
        Ok(rest.and_then(|rest| rest.get(..buf.len())).is_some_and(|bytes| {
            buf.copy_from_slice(bytes);
            true
        }))
    }

    fn len_bytes(&self) -> u64 {
        self.len() as u64
    }
}

/// The header that counts, and whether the other one is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderFound {
    /// The newest one.
    pub header: Header,
    /// A power cut came in the middle of a header, or it has rotted: a later tail may be lost.
    pub other_is_bad: bool,
}

/// Reads both header blocks.
///
/// # Errors
/// The source's, or within that what is wrong with both of them.
pub fn find_header(source: &(impl Source + ?Sized)) -> io::Result<Result<HeaderFound, BadHeader>> {
    let mut block = vec![0; BLOCK_BYTES];
    let mut found = [Err(BadHeader::Invalid); 2];
    for (at, found) in found.iter_mut().enumerate() {
        if source.read(&mut block, (at * BLOCK_BYTES) as u64)? {
            *found = Header::decode(&block);
        }
    }
    Ok(match found {
        // A later version may have written one of them only.
        [Err(bad @ BadHeader::Version(_)), _] | [_, Err(bad @ BadHeader::Version(_))] => Err(bad),
        [Err(bad), Err(_)] => Err(bad),
        [Ok(header), Err(_)] | [Err(_), Ok(header)] => {
            Ok(HeaderFound { header, other_is_bad: true })
        }
        [Ok(one), Ok(two)] => {
            let header = if one.number > two.number { one } else { two };
            Ok(HeaderFound { header, other_is_bad: false })
        }
    })
}

/// The records of a journal that may be missing in the segments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Where they stand, by rising sequence number.
    pub records: Vec<Mark>,
    /// How many there should be as well, but are damaged.
    pub missing: u64,
    /// A number that no record in the file has reached, nor one that was being written.
    pub next_sequence: u64,
}

/// Finds the records from the header's tail on.
///
/// # Errors
/// The source's.
pub fn find_records(source: &(impl Source + ?Sized), found: &HeaderFound) -> io::Result<Found> {
    let (tail, directory_id) = (found.header.tail, found.header.directory_id);
    let mut reader = Reader { source, directory_id, bytes: Vec::new() };
    let mut records = Vec::new();
    let mut at = tail;
    loop {
        let (len, position) = match reader.whole(at)? {
            Some(len) => (len, at.position),
            None => match reader.whole(Mark { position: RING_START, ..at })? {
                Some(len) => (len, RING_START),
                None => break,
            },
        };
        records.push(Mark { position, ..at });
        at = Mark { position: position + round_up(len) as u64, sequence: at.sequence + 1 };
    }
    // One record at most was being written.
    let mut next_sequence = at.sequence + 1;
    let mut missing = 0;
    let behind = (RECORD_BYTES_MAX + BLOCK_BYTES) as u64;
    if found.other_is_bad
        || reader.has_later(at.sequence, at.position, at.position.saturating_add(behind))?
        || reader.has_later(at.sequence, RING_START, RING_START + behind)?
    {
        records = reader.all_from(tail.sequence)?;
        if let Some(last) = records.last() {
            missing = (last.sequence - tail.sequence + 1).saturating_sub(records.len() as u64);
            next_sequence = next_sequence.max(last.sequence.saturating_add(2));
        }
    }
    Ok(Found { records, missing, next_sequence })
}

/// A number that no record in the file has reached: for a journal whose records are not wanted.
///
/// # Errors
/// The source's.
pub fn next_sequence(source: &(impl Source + ?Sized), found: &HeaderFound) -> io::Result<u64> {
    let mut reader = Reader { source, directory_id: found.header.directory_id, bytes: Vec::new() };
    let records = reader.all_from(found.header.tail.sequence)?;
    let last = records.last().map_or(found.header.tail.sequence, |last| last.sequence);
    Ok(last.saturating_add(2))
}

/// Reads the record at `mark`, which [`find_records`] gave. `None` if it is not there any more.
///
/// # Errors
/// The source's.
pub fn read_record(
    source: &(impl Source + ?Sized),
    directory_id: Uuid,
    mark: Mark,
) -> io::Result<Option<Vec<u8>>> {
    let mut reader = Reader { source, directory_id, bytes: Vec::new() };
    Ok(reader.whole(mark)?.map(|_| reader.bytes))
}

struct Reader<'a, S: Source + ?Sized> {
    source: &'a S,
    directory_id: Uuid,
    /// The record that was looked at last.
    bytes: Vec<u8>,
}

impl<S: Source + ?Sized> Reader<'_, S> {
    /// The length of the record at `mark`, if it is there and whole.
    fn whole(&mut self, mark: Mark) -> io::Result<Option<usize>> {
        let mut block = [0; BLOCK_BYTES];
        if !self.source.read(&mut block, mark.position)? {
            return Ok(None);
        }
        match RecordHead::decode(&block) {
            Some(head) if head.sequence == mark.sequence => self.verify(head, mark.position),
            _ => Ok(None),
        }
    }

    /// Reads a record of which only the head is known.
    fn verify(&mut self, head: RecordHead, position: u64) -> io::Result<Option<usize>> {
        // Before memory is taken on its word.
        if position.saturating_add(head.len as u64) > self.source.len_bytes() {
            return Ok(None);
        }
        self.bytes.resize(head.len, 0);
        let is_there = self.source.read(&mut self.bytes, position)?;
        Ok((is_there && is_whole(&self.bytes, self.directory_id)).then_some(head.len))
    }

    /// Whether a whole record with a number above `sequence` begins in `from..to`.
    fn has_later(&mut self, sequence: u64, from: u64, to: u64) -> io::Result<bool> {
        let mut any = false;
        self.search(from, to, &mut |head, _| {
            any |= head.sequence > sequence;
            !any
        })?;
        Ok(any)
    }

    /// All whole records in the file that are not below `sequence`, by number.
    fn all_from(&mut self, sequence: u64) -> io::Result<Vec<Mark>> {
        let mut marks = Vec::new();
        self.search(RING_START, u64::MAX, &mut |head, position| {
            if head.sequence >= sequence {
                marks.push(Mark { position, sequence: head.sequence });
            }
            true
        })?;
        marks.sort_unstable_by_key(|mark| mark.sequence);
        marks.dedup_by_key(|mark| mark.sequence);
        Ok(marks)
    }

    /// Shows each whole record that begins in `from..to`, until `visit` says no.
    fn search(
        &mut self,
        from: u64,
        to: u64,
        visit: &mut dyn FnMut(RecordHead, u64) -> bool,
    ) -> io::Result<()> {
        let end = to.min(self.source.len_bytes());
        let mut window = Vec::new();
        let mut window_at = 0;
        let mut position = from;
        while position + BLOCK_BYTES as u64 <= end {
            let held = usize::try_from(position.saturating_sub(window_at)).unwrap_or(usize::MAX);
            if position < window_at || held >= window.len() {
                let len = (end - position).min(WINDOW_BYTES as u64) / BLOCK_BYTES as u64;
                window.resize(len as usize * BLOCK_BYTES, 0);
                if !self.source.read(&mut window, position)? {
                    return Ok(());
                }
                window_at = position;
            }
            let at = usize::try_from(position - window_at).unwrap_or(0);
            let block = window.get(at..).unwrap_or_default();
            let mut step = BLOCK_BYTES as u64;
            if let Some(head) = RecordHead::decode(block) {
                if let Some(len) = self.verify(head, position)? {
                    if !visit(head, position) {
                        return Ok(());
                    }
                    // What a record holds is not looked at.
                    step = round_up(len) as u64;
                }
            }
            position += step;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! What is in the journal's file, byte by byte. All numbers are big-endian, as in Kafka's files.
//!
//! ```text
//! block 0 and 1: header, one written after the other; of the valid ones the higher number counts
//!   0  8  "WEIRJRNL"
//!   8  2  version: 1
//!  10  2  1 if the directory was closed cleanly, 0 else
//!  12  4  CRC-32C of bytes 0..12 and 16..64
//!  16  8  number: rises with each header that is written
//!  24 16  directory.id of meta.properties
//!  40  8  position of the oldest record that is needed
//!  48  8  its sequence number
//!  56  8  0
//!
//! record, from a multiple of 4,096 on, filled up to the next
//!   0  4  "WJR1"
//!   4  4  CRC-32C of directory.id and bytes 8..length
//!   8  8  sequence number
//!  16  4  length in bytes, with these 24
//!  20  4  number of appends
//! append, one after the other
//!   0 16  topic id of partition.metadata
//!  16  8  base offset of the segment
//!  24  8  position in the segment
//!  32  4  length of the batches
//!  36  2  length of the directory's name
//!  38  .  the directory's name, then the batches as they stand in the segment
//! ```
//!
//! That the directory's id goes into the CRC makes records of another directory invalid ones.

use weir_protocol::{Offset, Uuid};

use super::ring::{Mark, RING_START};
use crate::disk::BLOCK_BYTES;

const HEADER_MAGIC: &[u8; 8] = b"WEIRJRNL";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 64;
const RECORD_MAGIC: &[u8; 4] = b"WJR1";

/// Bytes of a record before its appends.
pub const RECORD_HEAD_BYTES: usize = 24;
const APPEND_HEAD_BYTES: usize = 38;

/// A record is never longer. So much memory a start takes on the word of a file, and a commit for its
/// record.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// No directory lives to see it; a file that says so lies.
const SEQUENCE_MAX: u64 = 1 << 62;

/// What stands in a header block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Rises with each header.
    pub number: u64,
    /// The directory it belongs to.
    pub directory_id: Uuid,
    /// The oldest record that is needed; the next one if none is.
    pub tail: Mark,
    /// The directory was closed cleanly: no record is needed.
    pub closed: bool,
}

/// Why a block is not a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadHeader {
    /// Torn, damaged, or never written.
    Invalid,
    /// Whole, but of a version that is not known here.
    Version(u16),
}

impl Header {
    /// Writes it into the first bytes of a block, and zeros into the rest.
    pub fn encode(&self, block: &mut [u8]) {
        block.fill(0);
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(HEADER_MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_be_bytes());
        bytes[10..12].copy_from_slice(&u16::from(self.closed).to_be_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_be_bytes());
        bytes[24..40].copy_from_slice(&self.directory_id.0);
        bytes[40..48].copy_from_slice(&self.tail.position.to_be_bytes());
        bytes[48..56].copy_from_slice(&self.tail.sequence.to_be_bytes());
        let crc = header_crc(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_be_bytes());
        block[..HEADER_BYTES].copy_from_slice(&bytes);
    }

    /// Reads it from a block.
    ///
    /// # Errors
    /// [`BadHeader`].
    pub fn decode(block: &[u8]) -> Result<Self, BadHeader> {
        let bytes: &[u8; HEADER_BYTES] = block.first_chunk().ok_or(BadHeader::Invalid)?;
        if !bytes.starts_with(HEADER_MAGIC) || read_u32(bytes, 12) != Some(header_crc(bytes)) {
            return Err(BadHeader::Invalid);
        }
        let parse = || {
            let number = read_u64(bytes, 16)?;
            let directory_id = Uuid(*bytes.get(24..)?.first_chunk()?);
            let tail = Mark { position: read_u64(bytes, 40)?, sequence: read_u64(bytes, 48)? };
            let closed = read_u16(bytes, 10)? != 0;
            Some(Self { number, directory_id, tail, closed })
        };
        let version = read_u16(bytes, 8).unwrap_or(0);
        if version != VERSION {
            return Err(BadHeader::Version(version));
        }
        let is_mark = |mark: Mark| {
            mark.position >= RING_START
                && mark.position.is_multiple_of(BLOCK_BYTES as u64)
                && mark.sequence <= SEQUENCE_MAX
        };
        let is_possible = |header: &Self| is_mark(header.tail) && header.number <= SEQUENCE_MAX;
        parse().filter(is_possible).ok_or(BadHeader::Invalid)
    }
}

fn header_crc(bytes: &[u8; HEADER_BYTES]) -> u32 {
    let (before, after) = bytes.split_at(16);
    let before = before.first_chunk::<12>().copied().unwrap_or_default();
    crc32c::crc32c_append(crc32c::crc32c(&before), after)
}

/// The length to the next block.
pub(crate) const fn round_up(len: usize) -> usize {
    len.next_multiple_of(BLOCK_BYTES)
}

/// The batches that were appended to one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Append<'a> {
    /// The name of the partition's directory.
    pub dir: &'a str,
    /// The id of the topic: a later one of the same name has another.
    pub topic_id: Uuid,
    /// Base offset of the segment.
    pub base: Offset,
    /// Where in the segment the bytes begin.
    pub position: u64,
    /// Whole batches.
    pub bytes: &'a [u8],
}

/// Bytes of a record with appends of these sizes: of the name, and of the batches.
pub(crate) fn record_bytes(appends: impl Iterator<Item = (usize, usize)>) -> usize {
    appends.map(|(name, bytes)| APPEND_HEAD_BYTES + name + bytes).sum::<usize>() + RECORD_HEAD_BYTES
}

/// Writes a record, append by append, into memory that is long enough ([`record_bytes`]).
#[derive(Debug)]
pub(crate) struct RecordWriter<'a> {
    buf: &'a mut [u8],
    len: usize,
    count: u32,
}

impl<'a> RecordWriter<'a> {
    pub(crate) fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, len: RECORD_HEAD_BYTES, count: 0 }
    }

    /// Writes the head of an append, and gives the place for its `len` bytes.
    pub(crate) fn append(
        &mut self,
        dir: &str,
        topic_id: Uuid,
        base: Offset,
        position: u64,
        len: usize,
    ) -> &mut [u8] {
        let (to_u32, to_u16) = (|len| u32::try_from(len).ok(), |len| u16::try_from(len).ok());
        self.put(&topic_id.0);
        self.put(&base.get().to_be_bytes());
        self.put(&position.to_be_bytes());
        self.put(&to_u32(len).unwrap_or(u32::MAX).to_be_bytes());
        self.put(&to_u16(dir.len()).unwrap_or(u16::MAX).to_be_bytes());
        self.put(dir.as_bytes());
        self.count += 1;
        let from = self.len;
        self.len += len;
        &mut self.buf[from..from + len]
    }

    fn put(&mut self, bytes: &[u8]) {
        self.buf[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Completes the record: its head, its CRC, and zeros up to the next block. Returns how many bytes
    /// are to be written.
    pub(crate) fn finish(self, sequence: u64, directory_id: Uuid) -> usize {
        let Self { buf, len, count } = self;
        seal(&mut buf[..len], sequence, count, directory_id);
        let padded = round_up(len);
        buf[len..padded].fill(0);
        padded
    }
}

/// Writes the head of a record, of at least [`RECORD_HEAD_BYTES`], before `append_count` appends that
/// stand in it, and its CRC.
pub fn seal(record: &mut [u8], sequence: u64, append_count: u32, directory_id: Uuid) {
    let len = u32::try_from(record.len()).unwrap_or(u32::MAX);
    record[..4].copy_from_slice(RECORD_MAGIC);
    record[8..16].copy_from_slice(&sequence.to_be_bytes());
    record[16..20].copy_from_slice(&len.to_be_bytes());
    record[20..24].copy_from_slice(&append_count.to_be_bytes());
    let crc = record_crc(&record[8..], directory_id);
    record[4..8].copy_from_slice(&crc.to_be_bytes());
}

fn record_crc(bytes: &[u8], directory_id: Uuid) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&directory_id.0), bytes)
}

/// A record with `appends`, in whole blocks.
#[must_use]
pub fn encode_record(appends: &[Append<'_>], sequence: u64, directory_id: Uuid) -> Vec<u8> {
    let len = record_bytes(appends.iter().map(|append| (append.dir.len(), append.bytes.len())));
    let mut buf = vec![0; round_up(len)];
    let mut writer = RecordWriter::new(&mut buf);
    for append in appends {
        let Append { dir, topic_id, base, position, bytes } = *append;
        writer.append(dir, topic_id, base, position, bytes.len()).copy_from_slice(bytes);
    }
    writer.finish(sequence, directory_id);
    buf
}

/// What the first bytes of a record say, not checked by any CRC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHead {
    /// Its sequence number.
    pub sequence: u64,
    /// Its length without what fills the last block.
    pub len: usize,
}

impl RecordHead {
    /// Reads it. `None` if no record begins here.
    #[must_use]
    pub fn decode(block: &[u8]) -> Option<Self> {
        if !block.starts_with(RECORD_MAGIC) {
            return None;
        }
        let (sequence, len) = (read_u64(block, 8)?, read_u32(block, 16)? as usize);
        let is_possible =
            (RECORD_HEAD_BYTES..=RECORD_BYTES_MAX).contains(&len) && sequence <= SEQUENCE_MAX;
        is_possible.then_some(Self { sequence, len })
    }
}

/// Whether `record`, of the length that its head says, is whole and of this directory.
#[must_use]
pub fn is_whole(record: &[u8], directory_id: Uuid) -> bool {
    let after_crc = record.get(8..).unwrap_or_default();
    record.len() >= RECORD_HEAD_BYTES
        && read_u32(record, 4) == Some(record_crc(after_crc, directory_id))
}

/// The appends of a record that [`is_whole`].
///
/// # Errors
/// What is wrong, if the record was written so: then none of it is used.
pub fn appends(record: &[u8]) -> Result<Vec<Append<'_>>, &'static str> {
    let count = read_u32(record, 20).ok_or("it is too short")?;
    let mut rest = record.get(RECORD_HEAD_BYTES..).ok_or("it is too short")?;
    let mut appends = Vec::new();
    for _ in 0..count {
        let (append, after) = split_append(rest).ok_or("an append does not fit it")?;
        if append.base < Offset(0)
            || append.position.checked_add(append.bytes.len() as u64).is_none()
        {
            return Err("an append has an impossible place");
        }
        appends.push(append);
        rest = after;
    }
    if rest.is_empty() {
        Ok(appends)
    } else {
        Err("it has bytes behind its appends")
    }
}

fn split_append(bytes: &[u8]) -> Option<(Append<'_>, &[u8])> {
    let topic_id = Uuid(*bytes.first_chunk()?);
    let base = Offset(i64::from_be_bytes(*bytes.get(16..)?.first_chunk()?));
    let position = read_u64(bytes, 24)?;
    let (len, name_len) = (read_u32(bytes, 32)? as usize, usize::from(read_u16(bytes, 36)?));
    let rest = bytes.get(APPEND_HEAD_BYTES..)?;
    let (name, rest) = rest.split_at_checked(name_len)?;
    let (bytes, rest) = rest.split_at_checked(len)?;
    let dir = std::str::from_utf8(name).ok()?;
    Some((Append { dir, topic_id, base, position, bytes }, rest))
}

fn read_u64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid([5; 16]);

    fn header() -> Header {
        let tail = Mark { position: RING_START + 4096, sequence: 77 };
        Header { number: 3, directory_id: ID, tail, closed: true }
    }

    #[test]
    fn a_header_is_read_back_and_any_flipped_bit_is_seen() {
        let mut block = vec![1; BLOCK_BYTES];
        header().encode(&mut block);
        assert_eq!(Header::decode(&block), Ok(header()));
        for at in 0..HEADER_BYTES {
            let mut bad = block.clone();
            bad[at] ^= 0x10;
            assert_eq!(Header::decode(&bad), Err(BadHeader::Invalid), "byte {at}");
        }
        assert_eq!(Header::decode(&block[..63]), Err(BadHeader::Invalid));
    }

    #[test]
    fn a_header_of_a_later_version_is_told_from_a_damaged_one() {
        let mut block = vec![0; BLOCK_BYTES];
        header().encode(&mut block);
        block[9] = 2;
        let crc = header_crc(block.first_chunk().unwrap());
        block[12..16].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(Header::decode(&block), Err(BadHeader::Version(2)));
    }

    #[test]
    fn a_record_is_read_back_and_any_flipped_bit_is_seen() {
        let one =
            Append { dir: "a-0", topic_id: ID, base: Offset(9), position: 5, bytes: b"batch" };
        let two = Append { dir: "b-1", base: Offset(0), position: 0, bytes: b"", ..one };
        let record = encode_record(&[one, two], 42, ID);
        let head = RecordHead::decode(&record).unwrap();
        assert_eq!((head.sequence, record.len()), (42, BLOCK_BYTES));
        let whole = &record[..head.len];
        assert!(is_whole(whole, ID));
        assert!(!is_whole(whole, Uuid([6; 16])), "another directory's");
        assert_eq!(appends(whole), Ok(vec![one, two]));
        for at in 4..head.len {
            let mut bad = whole.to_vec();
            bad[at] ^= 0x10;
            assert!(!is_whole(&bad, ID), "byte {at}");
        }
    }

    #[test]
    fn a_record_that_contradicts_itself_is_refused() {
        let one =
            Append { dir: "a-0", topic_id: ID, base: Offset(9), position: 5, bytes: b"batch" };
        let record = encode_record(&[one], 42, ID);
        let len = RecordHead::decode(&record).unwrap().len;
        for (at, byte) in [(23, 2), (23, 0), (24 + 33, 200), (24 + 36, 200), (24 + 16, 0x80)] {
            let mut bad = record[..len].to_vec();
            bad[at] = byte;
            assert!(appends(&bad).is_err(), "byte {at}");
        }
    }
}

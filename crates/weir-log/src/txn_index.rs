//! The transaction index: which transactions were aborted, for `read_committed`.
//!
//! A record is 34 bytes: int16 version 0, int64 producer id, first offset, last offset (the abort
//! marker's), last stable offset (Kafka's `AbortedTxn`). The file exists only in segments that hold
//! an abort marker.

use std::io;
use std::path::PathBuf;

use weir_protocol::{Offset, ProducerId};

use crate::disk::{read_all, read_exact_at, OpenMode};
use crate::error::LogError;
use crate::files;
use crate::index::Place;

const RECORD_BYTES: usize = 34;
/// Records that are read at once.
const BLOCK_RECORDS: u64 = 120;

/// A transaction that was aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTxn {
    /// The producer.
    pub producer_id: ProducerId,
    /// Its first offset in this partition.
    pub first_offset: Offset,
    /// The offset of its abort marker.
    pub last_offset: Offset,
    /// The last stable offset once it was aborted.
    pub last_stable_offset: Offset,
}

/// Appends a record to the index of the segment at `base`.
pub(crate) fn append(place: &Place, base: Offset, txn: &AbortedTxn) -> Result<(), LogError> {
    let path = place.path(base, files::TXN_INDEX);
    let file = place.open(&path, OpenMode::Create)?;
    let write = || {
        let whole = file.len_bytes()? / RECORD_BYTES as u64;
        file.write_at(&encode(txn), whole * RECORD_BYTES as u64)
    };
    write().map_err(|error| LogError::io("write", path, error))
}

/// Makes the index of the segment at `base` anew. Returns its path.
pub(crate) fn create(
    place: &Place,
    base: Offset,
    txns: &[AbortedTxn],
) -> Result<PathBuf, LogError> {
    let path = place.path(base, files::TXN_INDEX);
    let file = place.open(&path, OpenMode::Truncate)?;
    let bytes: Vec<u8> = txns.iter().flat_map(encode).collect();
    if !bytes.is_empty() {
        file.write_at(&bytes, 0).map_err(|error| LogError::io("write", &path, error))?;
    }
    Ok(path)
}

/// All records of the segment at `base`, in the order of their markers.
pub(crate) fn read(place: &Place, base: Offset) -> Result<Vec<AbortedTxn>, LogError> {
    let path = place.path(base, files::TXN_INDEX);
    let bytes = match read_all(&*place.disk, &path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(LogError::io("read", path, error)),
    };
    bytes
        .chunks_exact(RECORD_BYTES)
        .map(|record| {
            decode(record).ok_or_else(|| LogError::BadFile {
                path: path.clone(),
                what: "a record has a version that is not 0".to_owned(),
            })
        })
        .collect()
}

/// Adds the transactions in the index of the segment at `base` that overlap `[from, up_to)`. Returns
/// whether later segments have none.
///
/// Records stand in the order of their markers, so those that end before `from` are not read.
pub(crate) fn overlapping(
    place: &Place,
    base: Offset,
    from: Offset,
    up_to: Offset,
    found: &mut Vec<AbortedTxn>,
) -> Result<bool, LogError> {
    let path = place.path(base, files::TXN_INDEX);
    let file = match place.disk.open(&path, OpenMode::Existing) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(LogError::io("open", path, error)),
    };
    let bad = || LogError::BadFile {
        path: path.clone(),
        what: "a record has a version that is not 0, or names an abort that cannot be".to_owned(),
    };
    let failed = |error| LogError::io("read", &path, error);
    let count = file.len_bytes().map_err(failed)? / RECORD_BYTES as u64;
    let (mut low, mut high) = (0, count);
    while high - low > BLOCK_RECORDS {
        let middle = low + (high - low) / 2;
        let mut record = [0; RECORD_BYTES];
        read_exact_at(&*file, &mut record, middle * RECORD_BYTES as u64).map_err(failed)?;
        match decode(&record).ok_or_else(bad)?.last_offset < from {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    let mut block = Vec::new();
    while low < count {
        let records = (count - low).min(BLOCK_RECORDS);
        block.resize(usize::try_from(records).unwrap_or(0) * RECORD_BYTES, 0);
        read_exact_at(&*file, &mut block, low * RECORD_BYTES as u64).map_err(failed)?;
        for record in block.chunks_exact(RECORD_BYTES) {
            // One that says that more is decided than can be would hide all aborts behind it.
            let txn = decode(record).filter(can_be).ok_or_else(bad)?;
            if txn.last_offset >= from && txn.first_offset < up_to {
                found.push(txn);
            }
            if txn.last_stable_offset >= up_to {
                return Ok(true);
            }
        }
        low += records;
    }
    Ok(false)
}

/// Keeps the records of markers below `end`.
///
/// Returns the file, if there is one: it must be synced before the recovery point passes `end`. Else a power cut could bring
/// back what was cut, under offsets that other records have by then.
pub(crate) fn truncate(
    place: &Place,
    base: Offset,
    end: Offset,
) -> Result<Option<PathBuf>, LogError> {
    let path = place.path(base, files::TXN_INDEX);
    let kept = match read(place, base) {
        Ok(records) => count_whole(&records, end),
        // Damage: what follows is written again from the markers.
        Err(LogError::BadFile { .. }) => 0,
        Err(error) => return Err(error),
    };
    let cut = || match place.disk.open(&path, OpenMode::Existing) {
        Ok(file) => file.set_len((kept * RECORD_BYTES) as u64).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    };
    match cut() {
        Ok(is_there) => Ok(is_there.then_some(path)),
        Err(error) => Err(LogError::io("truncate", path, error)),
    }
}

/// How many records from the front are of markers below `end`, and whole: what a power cut has left of later ones may be
/// zeros, which are a record too, by their version.
fn count_whole(records: &[AbortedTxn], end: Offset) -> usize {
    let mut before = Offset(-1);
    let is_kept = |txn: &&AbortedTxn| {
        let follows = txn.last_offset > before && txn.first_offset < txn.last_offset;
        before = txn.last_offset;
        follows && txn.last_offset < end
    };
    records.iter().take_while(is_kept).count()
}

/// The records in the bytes of a file. `Err` says in words what is wrong with them.
pub(crate) fn decode_all(bytes: &[u8]) -> Result<Vec<AbortedTxn>, &'static str> {
    if !bytes.len().is_multiple_of(RECORD_BYTES) {
        return Err("its size is no multiple of a record's");
    }
    let records = bytes.chunks_exact(RECORD_BYTES).map(decode);
    records.collect::<Option<_>>().ok_or("a record has a version that is not 0")
}

/// The bytes of a file with these records.
pub(crate) fn encode_all(txns: &[AbortedTxn]) -> Vec<u8> {
    txns.iter().flat_map(encode).collect()
}

/// Whether there may be such a transaction: the last stable offset is that of its first record, of an earlier
/// transaction's, or the one after its marker.
fn can_be(txn: &AbortedTxn) -> bool {
    txn.first_offset >= Offset(0)
        && txn.first_offset <= txn.last_offset
        && txn.last_stable_offset <= txn.last_offset.next()
}

fn encode(txn: &AbortedTxn) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    let fields = [
        txn.producer_id.get(),
        txn.first_offset.get(),
        txn.last_offset.get(),
        txn.last_stable_offset.get(),
    ];
    for (place, field) in bytes[2..].chunks_exact_mut(8).zip(fields) {
        place.copy_from_slice(&field.to_be_bytes());
    }
    bytes
}

fn decode(record: &[u8]) -> Option<AbortedTxn> {
    let (version, fields) = record.split_first_chunk::<2>()?;
    let mut fields = fields
        .chunks_exact(8)
        .map(|field| i64::from_be_bytes(field.try_into().unwrap_or_default()));
    Some(AbortedTxn {
        producer_id: ProducerId(fields.next()?),
        first_offset: Offset(fields.next()?),
        last_offset: Offset(fields.next()?),
        last_stable_offset: Offset(fields.next()?),
    })
    .filter(|_| *version == [0, 0])
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::disk::{Disk, MemDisk};

    fn txn(n: i64) -> AbortedTxn {
        AbortedTxn {
            producer_id: ProducerId(7),
            first_offset: Offset(n),
            last_offset: Offset(n + 5),
            last_stable_offset: Offset(n + 6),
        }
    }

    #[test]
    fn records_are_read_back_and_cut() {
        let disk = MemDisk::new();
        disk.create_dir_all(Path::new("/d")).unwrap();
        let place = Place::new(Arc::new(disk.clone()), Path::new("/d").into());
        assert!(read(&place, Offset(0)).unwrap().is_empty());
        for n in [0, 10, 20] {
            append(&place, Offset(0), &txn(n)).unwrap();
        }
        assert_eq!(read(&place, Offset(0)).unwrap(), [txn(0), txn(10), txn(20)]);
        truncate(&place, Offset(0), Offset(25)).unwrap().unwrap();
        assert_eq!(read(&place, Offset(0)).unwrap(), [txn(0), txn(10)]);
        let bytes = &disk.files()[Path::new("/d/00000000000000000000.txnindex")];
        assert_eq!(bytes.len(), 68);
        assert_eq!(bytes[..10], [0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    }

    #[test]
    fn only_what_overlaps_is_read() {
        let disk = MemDisk::new();
        disk.create_dir_all(Path::new("/d")).unwrap();
        let place = Place::new(Arc::new(disk.clone()), Path::new("/d").into());
        let all: Vec<AbortedTxn> = (0..2_000).map(|n| txn(n * 10)).collect();
        let path = create(&place, Offset(0), &all).unwrap();
        for (from, up_to) in [(0, 1), (0, 30_000), (703, 704), (3_000, 3_500), (19_998, 19_999)] {
            let (from, up_to) = (Offset(from), Offset(up_to));
            let is_wanted = |t: &&AbortedTxn| t.last_offset >= from && t.first_offset < up_to;
            let wanted: Vec<AbortedTxn> = all.iter().filter(is_wanted).copied().collect();
            let mut found = Vec::new();
            let is_all = overlapping(&place, Offset(0), from, up_to, &mut found).unwrap();
            assert_eq!(found, wanted, "{from}..{up_to}");
            assert_eq!(is_all, all[1_999].last_stable_offset >= up_to);
        }
        // What is far from it may be anything.
        disk.damage(&path, |bytes| {
            bytes[34..340].fill(0xff);
            bytes[34 * 1_500..].fill(0xff);
        })
        .unwrap();
        let mut found = Vec::new();
        assert!(overlapping(&place, Offset(0), Offset(900), Offset(910), &mut found).unwrap());
        assert_eq!(found, [txn(900)]);
        assert_eq!(read(&place, Offset(0)).unwrap_err().code(), "WEIR-0206");
        // A record that says that more is decided than there was ends no search.
        disk.damage(&path, |bytes| bytes[34 * 91 + 27] = 1).unwrap();
        let found = overlapping(&place, Offset(0), Offset(900), Offset(1_200), &mut Vec::new());
        assert_eq!(found.unwrap_err().code(), "WEIR-0206");
    }

    #[test]
    fn zeros_that_a_power_cut_left_are_no_record() {
        let disk = MemDisk::new();
        disk.create_dir_all(Path::new("/d")).unwrap();
        let place = Place::new(Arc::new(disk.clone()), Path::new("/d").into());
        assert!(truncate(&place, Offset(0), Offset(25)).unwrap().is_none(), "there is no file");
        append(&place, Offset(0), &txn(0)).unwrap();
        let path = place.path(Offset(0), files::TXN_INDEX);
        let file = place.open(&path, OpenMode::Existing).unwrap();
        file.set_len(3 * RECORD_BYTES as u64).unwrap();
        assert_eq!(read(&place, Offset(0)).unwrap().len(), 3);
        truncate(&place, Offset(0), Offset(25)).unwrap();
        assert_eq!(read(&place, Offset(0)).unwrap(), [txn(0)]);
    }
}

//! The transaction index: which transactions were aborted, for `read_committed`.
//!
//! A record is 34 bytes: int16 version 0, int64 producer id, first offset, last offset (the abort
//! marker's), last stable offset (Kafka's `AbortedTxn`). The file exists only in segments that hold
//! an abort marker.

use std::io;
use std::path::PathBuf;

use weir_protocol::{Offset, ProducerId};

use crate::disk::{read_all, OpenMode};
use crate::error::LogError;
use crate::files;
use crate::index::Place;

const RECORD_BYTES: usize = 34;

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

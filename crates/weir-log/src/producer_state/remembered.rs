//! The batches of producers that a snapshot has no room for, written down by a clean stop.
//!
//! ```text
//! 0                                        version
//! drone-events 0 1042 8 0 2 7:1020:1 9:1041:1
//! crc 1a2b3c4d                             CRC-32C of all before
//! ```
//!
//! One line for each log with producers: topic, partition, and the offset that it ends at; then for each
//! producer its id, its epoch, how many batches, and of each, oldest first, the last sequence, the last
//! offset, and how far the first is before it. Kafka passes over the file, which is no checkpoint of
//! its own. Without it, or if it is about another end, the log is read back (`recovery/last_batches.rs`).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use weir_protocol::{Offset, ProducerEpoch, ProducerId, Sequence};

use super::{ProducerEntry, ProducerStates, WrittenBatch, BATCHES_MAX};

const VERSION_LINE: &str = "0\n";

/// What is remembered of each log: where it ended, and its producers.
pub(crate) type Remembered = BTreeMap<(String, i32), (Offset, ProducerStates)>;

/// The bytes of the file.
pub(crate) fn encode<'a>(
    logs: impl Iterator<Item = (&'a str, i32, Offset, &'a ProducerStates)>,
) -> Vec<u8> {
    let mut text = VERSION_LINE.to_owned();
    // Writing to a string cannot fail.
    for (topic, partition, end, states) in logs.filter(|(.., states)| states.len() > 0) {
        let _ = write!(text, "{topic} {partition} {}", end.get());
        let mut entries: Vec<_> = states.entries.iter().collect();
        entries.sort_unstable_by_key(|(id, _)| **id);
        for (id, entry) in entries {
            let _ = write!(text, " {} {} {}", id.get(), entry.epoch.get(), entry.batch_count);
            for batch in entry.batches() {
                let WrittenBatch { last_sequence, last_offset, offset_delta } = batch;
                let (sequence, offset) = (last_sequence.get(), last_offset.get());
                let _ = write!(text, " {sequence}:{offset}:{offset_delta}");
            }
        }
        text.push('\n');
    }
    let crc = crc32c::crc32c(text.as_bytes());
    let _ = writeln!(text, "crc {crc:08x}");
    text.into_bytes()
}

/// Reads the file. `None` if it is cut, damaged or of another version.
pub(crate) fn decode(bytes: &[u8]) -> Option<Remembered> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let at = text.rfind('\n')? + 1;
    let (body, last) = text.split_at(at);
    let crc = u32::from_str_radix(last.strip_prefix("crc ")?, 16).ok()?;
    if crc32c::crc32c(body.as_bytes()) != crc {
        return None;
    }
    body.strip_prefix(VERSION_LINE)?.lines().map(decode_line).collect()
}

fn decode_line(line: &str) -> Option<((String, i32), (Offset, ProducerStates))> {
    let mut words = line.split(' ');
    let key = (words.next()?.to_owned(), words.next()?.parse().ok()?);
    let end = Offset(words.next()?.parse().ok()?);
    let mut states = ProducerStates::default();
    while let Some(id) = words.next() {
        let id = ProducerId(id.parse().ok()?);
        let mut entry = ProducerEntry::new(ProducerEpoch(words.next()?.parse().ok()?));
        let count: usize = words.next()?.parse().ok().filter(|count| *count <= BATCHES_MAX)?;
        for _ in 0..count {
            let mut numbers = words.next()?.split(':');
            entry.add_batch(WrittenBatch {
                last_sequence: Sequence(numbers.next()?.parse().ok()?),
                last_offset: Offset(numbers.next()?.parse().ok()?),
                offset_delta: numbers.next()?.parse().ok()?,
            });
        }
        states.entries.insert(id, entry);
    }
    Some((key, (end, states)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(producers: i64) -> ProducerStates {
        let mut states = ProducerStates::default();
        for id in 0..producers {
            let mut entry = ProducerEntry::new(ProducerEpoch(3));
            for n in 0..id {
                entry.add_batch(WrittenBatch {
                    last_sequence: Sequence(i32::try_from(n).unwrap()),
                    last_offset: Offset(n * 100 + id),
                    offset_delta: 2,
                });
            }
            states.entries.insert(ProducerId(id), entry);
        }
        states
    }

    #[test]
    fn what_is_written_is_read_back_and_nothing_else() {
        let (none, some) = (states(0), states(8));
        let logs = [("a-b.c", 0, Offset(7), &some), ("b", 1, Offset(0), &none)];
        let bytes = encode(logs.into_iter());
        let read = decode(&bytes).unwrap();
        assert_eq!(read.len(), 1, "a log without producers has no line");
        assert_eq!(read[&("a-b.c".to_owned(), 0)], (Offset(7), some));
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_none(), "{cut}");
            let mut flipped = bytes.clone();
            flipped[cut] ^= 1;
            assert!(decode(&flipped).is_none(), "{cut}");
        }
    }
}

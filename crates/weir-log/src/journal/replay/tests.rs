use weir_protocol::Offset;

use super::super::format::{encode_record, Append};
use super::*;

const ID: Uuid = Uuid([5; 16]);
const BLOCK: u64 = BLOCK_BYTES as u64;

/// A file of `blocks` blocks behind the headers, whose tail is at `tail`.
fn file(blocks: usize, tail: Mark) -> Vec<u8> {
    let mut file = vec![0; RING_START as usize + blocks * BLOCK_BYTES];
    for number in [0, 1] {
        let header = Header { number, directory_id: ID, tail, closed: false };
        header.encode(&mut file[number as usize * BLOCK_BYTES..][..BLOCK_BYTES]);
    }
    file
}

fn put(file: &mut [u8], block: u64, sequence: u64, bytes: usize) {
    let bytes = vec![7; bytes];
    let append = Append { dir: "a-0", topic_id: ID, base: Offset(0), position: 0, bytes: &bytes };
    let record = encode_record(&[append], sequence, ID);
    file[at(block) as usize..][..record.len()].copy_from_slice(&record);
}

fn at(block: u64) -> u64 {
    RING_START + block * BLOCK
}

fn mark(block: u64, sequence: u64) -> Mark {
    Mark { position: at(block), sequence }
}

fn records(file: &[u8]) -> Found {
    let header = find_header(file).unwrap().unwrap();
    find_records(file, &header).unwrap()
}

#[test]
fn records_are_followed_until_there_is_none() {
    let mut file = file(8, mark(1, 10));
    put(&mut file, 0, 9, 10);
    put(&mut file, 1, 10, 5000);
    put(&mut file, 3, 11, 10);
    // One of an earlier lap.
    put(&mut file, 4, 5, 10);
    let found = records(&file);
    assert_eq!(found.records, [mark(1, 10), mark(3, 11)]);
    assert_eq!((found.missing, found.next_sequence), (0, 13));
}

#[test]
fn a_record_that_did_not_fit_is_found_at_the_beginning() {
    let mut file = file(4, mark(2, 10));
    put(&mut file, 2, 10, 10);
    put(&mut file, 0, 11, 10);
    put(&mut file, 1, 12, 10);
    assert_eq!(records(&file).records, [mark(2, 10), mark(0, 11), mark(1, 12)]);
}

#[test]
fn a_torn_last_record_ends_it_and_its_number_is_not_given_again() {
    let mut file = file(8, mark(0, 10));
    put(&mut file, 0, 10, 10);
    put(&mut file, 1, 11, 9000);
    file[at(3) as usize..][..BLOCK_BYTES].fill(0);
    let found = records(&file);
    assert_eq!(found.records, [mark(0, 10)]);
    assert_eq!((found.missing, found.next_sequence), (0, 12));
}

#[test]
fn a_damaged_record_before_others_is_counted_and_they_are_found() {
    for damaged in [0, 1, 2] {
        let mut file = file(8, mark(0, 10));
        for n in 0..4 {
            put(&mut file, n, 10 + n, 10);
        }
        file[at(damaged) as usize + 30] ^= 1;
        let found = records(&file);
        let expect: Vec<Mark> = (0..4).filter(|n| *n != damaged).map(|n| mark(n, 10 + n)).collect();
        assert_eq!(found.records, expect, "{damaged}");
        assert_eq!((found.missing, found.next_sequence), (1, 15));
    }
}

#[test]
fn one_bad_header_is_enough_and_the_newer_good_one_counts() {
    let mut one = file(8, mark(0, 10));
    put(&mut one, 0, 10, 10);
    let mut newer = one.clone();
    let tail = mark(1, 11);
    let header = Header { number: 9, directory_id: ID, tail, closed: false };
    header.encode(&mut newer[..BLOCK_BYTES]);
    assert_eq!(find_header(&*newer).unwrap().unwrap().header.tail, tail);
    newer[20] ^= 1;
    let found = find_header(&*newer).unwrap().unwrap();
    assert!(found.other_is_bad);
    assert_eq!(records(&newer).records, [mark(0, 10)]);
    newer[BLOCK_BYTES + 20] ^= 1;
    assert_eq!(find_header(&*newer).unwrap(), Err(BadHeader::Invalid));
}

#[test]
fn a_copy_of_the_journal_inside_a_record_is_data() {
    let mut inner = file(2, mark(0, 10));
    put(&mut inner, 0, 99, 10);
    let mut outer = file(16, mark(0, 10));
    let bytes = &inner[at(0) as usize..];
    // Aligned so that the copy begins at a block.
    let mut padded = vec![0; BLOCK_BYTES - 24 - 38 - 3];
    padded.extend_from_slice(bytes);
    let append = Append { dir: "a-0", topic_id: ID, base: Offset(0), position: 0, bytes: &padded };
    let record = encode_record(&[append], 10, ID);
    outer[at(0) as usize..][..record.len()].copy_from_slice(&record);
    assert_eq!(RecordHead::decode(&outer[at(1) as usize..]).unwrap().sequence, 99);
    assert_eq!(records(&outer).records, [mark(0, 10)]);
}

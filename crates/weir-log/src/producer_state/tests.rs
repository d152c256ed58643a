use super::*;
use weir_protocol::LeaderEpoch;

const NOW: TimestampMs = TimestampMs(1_000);

/// `count` records of producer 7 at `offset`, from `sequence` on.
fn batch(epoch: i16, sequence: i32, count: i32, offset: i64) -> BatchHeader {
    BatchHeader {
        base_offset: Offset(offset),
        size_bytes: 100,
        leader_epoch: LeaderEpoch(0),
        is_transactional: false,
        is_control: false,
        last_offset_delta: count - 1,
        max_timestamp: TimestampMs(0),
        producer_id: ProducerId(7),
        producer_epoch: ProducerEpoch(epoch),
        base_sequence: Sequence(sequence),
        record_count: count,
    }
}

fn txn_batch(epoch: i16, sequence: i32, offset: i64) -> BatchHeader {
    BatchHeader { is_transactional: true, ..batch(epoch, sequence, 1, offset) }
}

fn marker_batch(epoch: i16, offset: i64) -> BatchHeader {
    BatchHeader { is_control: true, ..txn_batch(epoch, -1, offset) }
}

const COMMIT: EndMarker = EndMarker { commit: true, coordinator_epoch: 3 };

/// A state after the given batches, each of which is checked.
fn after(batches: &[BatchHeader]) -> ProducerStates {
    let mut states = ProducerStates::default();
    for batch in batches {
        assert_eq!(states.check(batch, AppendOrigin::Client).unwrap(), Verdict::Append);
        states.add(batch, NOW);
    }
    states
}

fn check(states: &ProducerStates, batch: &BatchHeader) -> String {
    match states.check(batch, AppendOrigin::Client) {
        Ok(Verdict::Append) => "append".to_owned(),
        Ok(Verdict::Duplicate { base_offset, last_offset }) => {
            format!("duplicate {base_offset}-{last_offset}")
        }
        Err(error) => error.code().to_owned(),
    }
}

#[test]
fn an_unknown_producer_may_begin_anywhere() {
    assert_eq!(check(&ProducerStates::default(), &batch(0, 1234, 5, 0)), "append");
}

#[test]
fn the_last_five_batches_are_answered_with_their_offsets() {
    let written: Vec<_> = (0..6).map(|n| batch(0, n * 10, 10, i64::from(n) * 100)).collect();
    let states = after(&written);
    assert_eq!(check(&states, &batch(0, 0, 10, 999)), "WEIR-0213");
    for n in 1..6 {
        let expect = format!("duplicate {}-{}", n * 100, n * 100 + 9);
        assert_eq!(check(&states, &batch(0, n * 10, 10, 999)), expect);
    }
    assert_eq!(check(&states, &batch(0, 60, 1, 999)), "append");
}

#[test]
fn a_gap_and_a_partial_repeat_are_out_of_order() {
    let states = after(&[batch(0, 0, 10, 0)]);
    assert_eq!(check(&states, &batch(0, 11, 1, 10)), "WEIR-0213");
    assert_eq!(check(&states, &batch(0, 5, 5, 10)), "WEIR-0213");
}

#[test]
fn zero_follows_the_largest_sequence() {
    let states = after(&[batch(0, i32::MAX - 1, 2, 0)]);
    assert_eq!(check(&states, &batch(0, 0, 3, 2)), "append");
    // A batch that crosses the wrap is known again by both ends.
    let states = after(&[batch(0, i32::MAX, 3, 0)]);
    assert_eq!(check(&states, &batch(0, i32::MAX, 3, 9)), "duplicate 0-2");
    assert_eq!(check(&states, &batch(0, 2, 1, 3)), "append");
}

#[test]
fn a_lower_epoch_is_fenced_and_a_higher_one_begins_at_zero() {
    let states = after(&[batch(1, 0, 10, 0)]);
    assert_eq!(check(&states, &batch(0, 10, 1, 10)), "WEIR-0214");
    assert_eq!(check(&states, &batch(2, 10, 1, 10)), "WEIR-0213");
    assert_eq!(check(&states, &batch(2, 0, 1, 10)), "append");
}

#[test]
fn an_open_transaction_holds_the_stable_offset_until_its_marker_is_synced() {
    let mut states = after(&[txn_batch(0, 0, 5), txn_batch(0, 1, 6)]);
    assert_eq!(states.first_unstable(), Some(Offset(5)));
    assert_eq!(check(&states, &batch(0, 2, 1, 7)), "WEIR-0215");
    assert_eq!(states.ended_by(ProducerId(7), Offset(8)), Some((Offset(5), Offset(8))));
    states.add_marker(&marker_batch(0, 7), COMMIT, NOW);
    assert_eq!(states.first_unstable(), Some(Offset(5)));
    states.set_synced(Offset(7));
    assert_eq!(states.first_unstable(), Some(Offset(5)));
    states.set_synced(Offset(8));
    assert_eq!(states.first_unstable(), None);
    assert_eq!(states.ended_by(ProducerId(7), Offset(9)), None);
}

#[test]
fn a_marker_of_an_old_coordinator_is_fenced() {
    let mut states = after(&[txn_batch(0, 0, 5)]);
    states.add_marker(&marker_batch(0, 7), COMMIT, NOW);
    let old = EndMarker { coordinator_epoch: 2, ..COMMIT };
    let error = states.check_marker(&marker_batch(0, 8), old).unwrap_err();
    assert_eq!(error.code(), "WEIR-0214");
    states.check_marker(&marker_batch(0, 8), COMMIT).unwrap();
}

#[test]
fn silent_producers_are_forgotten_unless_a_transaction_is_open() {
    let mut states = after(&[batch(0, 0, 1, 0)]);
    states.expire(TimestampMs(999), NOW);
    assert_eq!(states.len(), 1);
    states.expire(NOW, NOW);
    assert_eq!(states.len(), 0);
    let mut states = after(&[txn_batch(0, 0, 0)]);
    states.expire(NOW, NOW);
    assert_eq!(states.len(), 1);
}

#[test]
fn a_snapshot_keeps_the_last_batch_and_the_open_transaction() {
    let states = after(&[batch(0, 0, 10, 0), txn_batch(0, 10, 10)]);
    let bytes = encode(&states);
    assert_eq!(bytes.len(), 6 + 4 + 46);
    let read = decode(&bytes).unwrap();
    assert_eq!(read.first_unstable(), Some(Offset(10)));
    assert_eq!(check(&read, &txn_batch(0, 10, 99)), "duplicate 10-10");
    assert_eq!(check(&read, &txn_batch(0, 11, 11)), "append");
    assert_eq!(encode(&read), bytes);
}

/// The bytes were worked out by hand from Kafka's `ProducerSnapshot.json`.
#[test]
fn snapshot_bytes_are_those_of_kafka() {
    let bytes = encode(&after(&[batch(2, 5, 3, 40)]));
    let body = [
        &1_i32.to_be_bytes()[..],
        &7_i64.to_be_bytes(),
        &2_i16.to_be_bytes(),
        &7_i32.to_be_bytes(),
        &42_i64.to_be_bytes(),
        &2_i32.to_be_bytes(),
        &1000_i64.to_be_bytes(),
        &(-1_i32).to_be_bytes(),
        &(-1_i64).to_be_bytes(),
    ]
    .concat();
    assert_eq!(bytes[..2], [0, 1]);
    assert_eq!(bytes[2..6], crc32c::crc32c(&body).to_be_bytes());
    assert_eq!(bytes[6..], body);
}

#[test]
fn damaged_snapshots_are_refused() {
    let bytes = encode(&after(&[batch(0, 0, 10, 0)]));
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x40;
        assert!(decode(&damaged).is_err(), "byte {at}");
        assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn a_producer_seen_by_a_clock_that_was_ahead_is_taken_to_be_seen_now() {
    let mut states = after(&[batch(0, 0, 1, 0)]);
    let wrong_ms = 1_000_000;
    states.shift(wrong_ms);
    states.expire(TimestampMs(0), NOW);
    assert_eq!(states.len(), 1);
    states.expire(NOW, NOW.plus_ms(1));
    assert_eq!(states.len(), 0);
}

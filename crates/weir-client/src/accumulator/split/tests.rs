//! Halves: their records, their sequences, and how many are under way.

use weir_protocol::batch::BatchPool;
use weir_protocol::compression::Codec;
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::TimestampMs;

use super::super::tests::{accumulator, answer, append, config, lose, sent};
use super::super::{Identity, MonoMs, Outgoing, Payload};
use super::*;
use crate::config::ProducerConfig;
use crate::delivery::Outcome;
use crate::error::ProduceError;
use weir_protocol::types::{ProducerEpoch, ProducerId};

/// A core with a batch of four records that was sent.
fn one_sent() -> (Accumulator, Vec<Outgoing>) {
    let mut core = accumulator(ProducerConfig { linger_ms: 0, ..config() }, 1);
    for value in [b"a", b"b", b"c", b"d"] {
        append(&mut core, 0, value).unwrap();
    }
    let outgoing = sent(&mut core, 0);
    outgoing[0].completion.begin_writing();
    (core, outgoing)
}

/// As the shell does before it writes.
fn built(outgoing: Vec<Outgoing>) -> Vec<Outgoing> {
    let build = |mut out: Outgoing| {
        out.completion.begin_writing();
        out.payload = match out.payload {
            Payload::Open(mut builder) => Payload::Built(builder.build()),
            Payload::Part(part) => Payload::Built(part.fill().unwrap().build()),
            built @ Payload::Built(_) => built,
        };
        out
    };
    outgoing.into_iter().map(build).collect()
}

fn sequences(outgoing: &[Outgoing]) -> Vec<i32> {
    outgoing.iter().map(|out| out.base_sequence.get()).collect()
}

/// What is sent now, one request after the other, as long as there is something.
fn all_sent(core: &mut Accumulator, now: u64) -> Vec<Outgoing> {
    let mut all = Vec::new();
    while let super::super::Step::Send(outgoing) =
        core.step(super::super::BrokerIndex(0), MonoMs(now))
    {
        all.extend(built(outgoing));
    }
    all
}

#[test]
fn halves_have_all_records_in_order_with_keys_headers_and_times() {
    for codec in Codec::ALL {
        let mut builder = BatchBuilder::new(codec);
        for number in 0..7_u8 {
            let headers = [Header { key: "h", value: Some(&[number]) }];
            let time = TimestampMs(100 + i64::from(number));
            builder.append(time, Some(&[number]), Some(&[number; 50]), &headers);
        }
        let whole = builder.build();
        let read = |bytes: &Bytes| -> Vec<_> {
            let view = BatchView::parse(bytes).unwrap();
            view.verify_crc().unwrap();
            view.records(1 << 20)
                .unwrap()
                .map(|record| {
                    let record = record.unwrap();
                    (record.timestamp, record.key, record.value, record.headers)
                })
                .collect()
        };
        let part = |first, count| {
            let builder = BatchBuilder::with_pool(codec, &BatchPool::default());
            let part = Part { whole: whole.clone(), first, count, builder };
            read(&part.fill().unwrap().build())
        };
        let (first, second) = (part(0, 3), part(3, 4));
        assert_eq!((first.len(), second.len()), (3, 4));
        assert_eq!([first, second].concat(), read(&whole), "{codec}");
    }
}

#[test]
fn what_cannot_be_read_again_is_given_back() {
    let whole = Bytes::from_static(b"no batch");
    let builder = BatchBuilder::new(Codec::None);
    let part = Part { whole: whole.clone(), first: 0, count: 1, builder };
    assert_eq!(part.fill().unwrap_err(), whole);
}

#[test]
fn halves_are_not_built_by_the_core_and_keep_the_sequences_of_the_whole() {
    let (mut core, outgoing) = one_sent();
    let bytes = core.buffered_bytes();
    answer(&mut core, outgoing, ErrorCode::MessageTooLarge, 1);
    assert_eq!(core.buffered_bytes(), bytes);
    let first = sent(&mut core, 1);
    assert!(matches!(first[0].payload, Payload::Part(_)), "under the lock nothing is compressed");
    let second = sent(&mut core, 1);
    assert_eq!((sequences(&first), sequences(&second)), (vec![0], vec![2]));
    answer(&mut core, built(first), ErrorCode::None, 2);
    answer(&mut core, built(second), ErrorCode::None, 2);
    assert_eq!((core.buffered_bytes(), core.buffered_records()), (0, 0));
}

#[test]
fn no_more_is_sent_past_a_half_than_the_broker_knows_again() {
    for in_flight_max in 1..=5 {
        let config = ProducerConfig { linger_ms: 0, in_flight_max, ..config() };
        let mut core = accumulator(config, 1);
        for value in [b"a", b"b", b"c", b"d"] {
            append(&mut core, 0, value).unwrap();
        }
        let whole = sent(&mut core, 0);
        let mut behind = Vec::new();
        for number in 0..10_u64 {
            append(&mut core, 0, &[b'x'; 400]).unwrap();
            behind.extend(all_sent(&mut core, number));
        }
        assert_eq!(behind.len(), in_flight_max - 1);
        answer(&mut core, whole, ErrorCode::MessageTooLarge, 20);
        if !behind.is_empty() {
            answer_each(&mut core, behind, ErrorCode::OutOfOrderSequenceNumber);
        }
        // The first half is written, and its answer lost: all behind it must be known to the broker.
        let under_way = all_sent(&mut core, 2_000);
        assert_eq!(under_way.len(), in_flight_max, "the window counts each half");
        assert_eq!(sequences(&under_way)[0], 0);
    }
}

#[test]
fn a_half_written_without_an_acknowledgement_is_among_the_last_five_when_it_goes_again() {
    let (mut core, outgoing) = one_sent();
    answer(&mut core, outgoing, ErrorCode::MessageTooLarge, 1);
    let mut under_way = all_sent(&mut core, 2);
    for number in 3..10 {
        append(&mut core, 0, &[b'x'; 400]).unwrap();
        under_way.extend(all_sent(&mut core, number));
    }
    assert_eq!(sequences(&under_way), [0, 2, 4, 5, 6], "five with the halves");
    let behind = under_way.split_off(1);
    answer_each(&mut core, under_way, ErrorCode::NotEnoughReplicasAfterAppend);
    answer_each(&mut core, behind, ErrorCode::None);
    // The broker knows the five. One more, and it would not know the half again.
    assert_eq!(sequences(&all_sent(&mut core, 5_000)), [0]);
}

fn answer_each(core: &mut Accumulator, outgoing: Vec<Outgoing>, code: ErrorCode) {
    for out in outgoing {
        answer(core, vec![out], code, 30);
    }
}

#[test]
fn a_half_of_what_may_be_in_the_log_is_not_written_under_a_new_identity() {
    let (mut core, outgoing) = one_sent();
    lose(&mut core, outgoing, 1);
    let again = built(sent(&mut core, 2_000));
    append(&mut core, 0, b"behind").unwrap();
    // It was written, then the topic's limit was lowered.
    answer(&mut core, again, ErrorCode::MessageTooLarge, 2_001);
    let first = built(sent(&mut core, 2_001));
    assert_eq!(first[0].base_sequence.get(), 0);
    let second = built(sent(&mut core, 2_001));
    let effects = answer(&mut core, first, ErrorCode::OutOfOrderSequenceNumber, 2_002);
    let unknown = |effects: &super::super::Effects| {
        effects.completed.iter().all(|(_, outcome)| {
            matches!(outcome, Outcome::Failed(ProduceError::DeliveryTimeout { .. }))
        })
    };
    assert!(effects.completed.len() == 1 && unknown(&effects), "{effects:?}");
    let effects = answer(&mut core, second, ErrorCode::OutOfOrderSequenceNumber, 2_003);
    assert!(effects.completed.len() == 1 && unknown(&effects), "{effects:?}");
    // What comes behind is not in the log: it goes on under a new identity.
    assert!(core.wants_identity().is_some());
    core.set_identity(Identity { id: ProducerId(1), epoch: ProducerEpoch(1) });
    let behind = sent(&mut core, 10_000);
    assert_eq!((behind[0].identity.epoch, sequences(&behind)), (ProducerEpoch(1), vec![0]));
}

#[test]
fn a_second_half_that_waits_is_not_renumbered_when_the_first_turns_out_to_be_in_the_log() {
    let config = ProducerConfig { linger_ms: 0, in_flight_max: 1, ..config() };
    let mut core = accumulator(config, 1);
    for value in [b"a", b"b", b"c", b"d"] {
        append(&mut core, 0, value).unwrap();
    }
    let outgoing = built(sent(&mut core, 0));
    lose(&mut core, outgoing, 1);
    let again = built(sent(&mut core, 2_000));
    answer(&mut core, again, ErrorCode::MessageTooLarge, 2_001);
    let first = built(sent(&mut core, 2_001));
    answer(&mut core, first, ErrorCode::OutOfOrderSequenceNumber, 2_002);
    assert_eq!(core.wants_identity(), None, "the second half goes as it was");
    let second = built(sent(&mut core, 2_003));
    assert_eq!((second[0].identity.epoch, sequences(&second)), (ProducerEpoch(0), vec![2]));
    let effects = answer(&mut core, second, ErrorCode::OutOfOrderSequenceNumber, 2_004);
    assert_eq!(effects.completed.len(), 1);
    assert!(core.wants_identity().is_some());
}

#[test]
fn a_half_of_what_was_only_refused_is_renumbered_as_any_batch() {
    let (mut core, outgoing) = one_sent();
    answer(&mut core, outgoing, ErrorCode::MessageTooLarge, 1);
    let first = built(sent(&mut core, 1));
    let effects = answer(&mut core, first, ErrorCode::OutOfOrderSequenceNumber, 2);
    assert!(effects.completed.is_empty(), "{effects:?}");
    assert!(core.wants_identity().is_some());
}

#[test]
fn a_half_never_says_that_it_is_certainly_not_in_the_log() {
    let (mut core, outgoing) = one_sent();
    answer(&mut core, outgoing, ErrorCode::MessageTooLarge, 1);
    let effects = core.recall_unsent(MonoMs(2));
    assert!(effects.completed.is_empty(), "{effects:?}");
    let timeout_ms = u64::from(ProducerConfig::default().delivery_timeout_ms);
    let effects = core.expire(MonoMs(timeout_ms));
    assert_eq!(effects.completed.len(), 2);
    for (_, outcome) in &effects.completed {
        assert!(matches!(outcome, Outcome::Failed(ProduceError::DeliveryTimeout { .. })));
    }
}

#[test]
fn a_record_too_large_for_itself_does_not_make_all_batches_small_for_ever() {
    let mut core = accumulator(ProducerConfig { linger_ms: 0, ..config() }, 1);
    let mut now = 0;
    for _ in 0..2 {
        for _ in 0..8 {
            append(&mut core, 0, &[b'x'; 50]).unwrap();
        }
        // All parts of it are too large, down to the single records.
        loop {
            now += 2_000;
            let outgoing = all_sent(&mut core, now);
            if outgoing.is_empty() {
                break;
            }
            answer_each(&mut core, outgoing, ErrorCode::MessageTooLarge);
        }
    }
    let narrow = core.partitions[0].batch_bytes_max;
    assert!(narrow >= 250, "each whole batch halves it once: {narrow}");
    let identity = |epoch| Identity { id: ProducerId(1), epoch: ProducerEpoch(epoch) };
    core.set_identity(identity(1));
    for _ in 0..2_000 {
        now += 10;
        for _ in 0..20 {
            append(&mut core, 0, &[b'x'; 50]).unwrap();
        }
        let outgoing = all_sent(&mut core, now);
        answer_each(&mut core, outgoing, ErrorCode::None);
    }
    assert_eq!(core.partitions[0].batch_bytes_max, config().batch_bytes_max);
}

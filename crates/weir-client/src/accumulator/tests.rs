//! The core without I/O: bounds, turns, sequences, waiting.

use super::*;

pub(super) const TOPIC: &str = "t";
pub(super) const NODE: NodeId = NodeId(1);

const IDENTITY: Identity = Identity { id: ProducerId(1), epoch: ProducerEpoch(0) };

pub(super) fn config() -> ProducerConfig {
    ProducerConfig { batch_bytes_max: 1_000, linger_ms: 10, ..ProducerConfig::default() }
}

/// Of a producer that the broker knows in each partition.
pub(super) fn accumulator(config: ProducerConfig, partitions: usize) -> Accumulator {
    let mut core = unknown(config, partitions);
    for partition in &mut core.partitions {
        partition.identity = IDENTITY;
        partition.is_known = true;
    }
    core
}

/// Of a producer that has written nothing yet.
fn unknown(config: ProducerConfig, partitions: usize) -> Accumulator {
    let mut core = Accumulator::new(config, 50, 1_000);
    core.update_topic(&Str::from(TOPIC), Uuid::ZERO, &vec![Some(NODE); partitions]);
    core.set_identity(IDENTITY);
    core.take_wakes();
    core
}

pub(super) fn append(
    core: &mut Accumulator,
    partition: i32,
    value: &[u8],
) -> Result<Slot, ProduceError> {
    let record = Record::new(TOPIC, value).with_partition(PartitionId(partition));
    core.append(&record, TimestampMs(1), 0).map(|taken| taken.slot)
}

fn step(core: &mut Accumulator, now: u64) -> Step {
    core.step(BrokerIndex(0), MonoMs(now))
}

pub(super) fn sent(core: &mut Accumulator, now: u64) -> Vec<Outgoing> {
    match step(core, now) {
        Step::Send(outgoing) => outgoing,
        other => panic!("{other:?}"),
    }
}

/// What is sent once it has waited for company, while a request is under way.
pub(super) fn lingered(core: &mut Accumulator, now: u64) -> Vec<Outgoing> {
    assert!(matches!(step(core, now), Step::WaitUntil(_)));
    sent(core, now + 10)
}

pub(super) fn answer(
    core: &mut Accumulator,
    outgoing: Vec<Outgoing>,
    code: ErrorCode,
    now: u64,
) -> Effects {
    let answer = match code {
        ErrorCode::None => Answer::Acked { base_offset: Some(Offset(0)), append_time: None },
        code => Answer::Refused { code, message: None },
    };
    let answers = outgoing
        .into_iter()
        .map(|out| {
            let bytes = match out.payload {
                Payload::Open(mut builder) => builder.build(),
                Payload::Built(bytes) => bytes,
                Payload::Part(part) => part.fill().unwrap().build(),
            };
            (out.slot, out.batch, bytes, answer.clone())
        })
        .collect();
    core.on_answers(BrokerIndex(0), 0, answers, MonoMs(now))
}

/// No answer came.
pub(super) fn lose(core: &mut Accumulator, outgoing: Vec<Outgoing>, now: u64) {
    let lost = |out: Outgoing| {
        let bytes = match out.payload {
            Payload::Open(mut builder) => builder.build(),
            Payload::Built(bytes) => bytes,
            Payload::Part(part) => part.fill().unwrap().build(),
        };
        (out.slot, out.batch, bytes, Answer::Lost { reason: "cut".to_owned() })
    };
    let answers = outgoing.into_iter().map(lost).collect();
    core.on_answers(BrokerIndex(0), 0, answers, MonoMs(now));
}

fn sequences(outgoing: &[Outgoing]) -> Vec<i32> {
    outgoing.iter().map(|out| out.base_sequence.get()).collect()
}

#[test]
fn an_append_to_an_idle_broker_wakes_it_and_later_ones_do_not() {
    let mut core = accumulator(config(), 1);
    assert!(matches!(step(&mut core, 0), Step::Idle));
    append(&mut core, 0, b"a").unwrap();
    assert_eq!(core.take_wakes(), [BrokerIndex(0)]);
    append(&mut core, 0, b"b").unwrap();
    assert_eq!(core.take_wakes(), []);
    assert_eq!(sent(&mut core, 0).len(), 1);
}

#[test]
fn while_a_request_is_unanswered_records_wait_for_company_up_to_linger() {
    let mut core = accumulator(config(), 1);
    append(&mut core, 0, b"a").unwrap();
    let first = sent(&mut core, 0);
    append(&mut core, 0, b"b").unwrap();
    assert!(matches!(step(&mut core, 1), Step::WaitUntil(MonoMs(11))));
    append(&mut core, 0, b"c").unwrap();
    assert_eq!(sequences(&sent(&mut core, 11)), [1], "b and c together, after linger");
    answer(&mut core, first, ErrorCode::None, 12);
}

#[test]
fn an_answer_sends_what_waits_at_once() {
    let mut core = accumulator(config(), 1);
    append(&mut core, 0, b"a").unwrap();
    let first = sent(&mut core, 0);
    append(&mut core, 0, b"b").unwrap();
    assert!(matches!(step(&mut core, 1), Step::WaitUntil(_)));
    answer(&mut core, first, ErrorCode::None, 2);
    assert_eq!(core.take_wakes(), [BrokerIndex(0)]);
    assert_eq!(sequences(&sent(&mut core, 2)), [1]);
}

#[test]
fn fast_records_wait_even_for_an_idle_broker() {
    let config = ProducerConfig { linger_ms: 5, ..ProducerConfig::default() };
    let mut core = accumulator(config, 1);
    let value = vec![b'x'; 10_000];
    // 50 kB in a millisecond: linger would bring 250 kB.
    for now in 0..5 {
        for _ in 0..5 {
            append(&mut core, 0, &value).unwrap();
        }
        if let Step::Send(outgoing) = step(&mut core, now) {
            answer(&mut core, outgoing, ErrorCode::None, now);
        }
    }
    for _ in 0..5 {
        append(&mut core, 0, &value).unwrap();
    }
    assert!(matches!(step(&mut core, 5), Step::WaitUntil(until) if until > MonoMs(5)));
    // A pause forgets the rate.
    if let Step::Send(outgoing) = step(&mut core, 100) {
        answer(&mut core, outgoing, ErrorCode::None, 100);
    }
    append(&mut core, 0, &value).unwrap();
    assert_eq!(sent(&mut core, 200).len(), 1);
}

#[test]
fn a_full_batch_goes_without_waiting() {
    let mut core = accumulator(config(), 1);
    append(&mut core, 0, b"a").unwrap();
    let _under_way = sent(&mut core, 0);
    for _ in 0..6 {
        append(&mut core, 0, &[b'x'; 200]).unwrap();
    }
    let outgoing = sent(&mut core, 1);
    let Payload::Open(builder) = &outgoing[0].payload else { panic!("never sent before") };
    assert!(builder.size_bytes() <= 1_000, "{}", builder.size_bytes());
}

#[test]
fn no_more_than_five_requests_are_in_flight() {
    let mut core = accumulator(config(), 8);
    for partition in 0..8 {
        append(&mut core, partition, b"a").unwrap();
        let now = u64::try_from(partition).unwrap() * 100;
        let _ = step(&mut core, now);
        match step(&mut core, now + 50) {
            Step::Send(_) | Step::Idle | Step::WaitUntil(_) => {}
            Step::Stop => panic!("runs"),
        }
    }
    assert_eq!(core.brokers[0].in_flight, 5);
}

#[test]
fn sequences_follow_each_other_per_partition() {
    let mut core = accumulator(config(), 2);
    for now in 0..3 {
        append(&mut core, 0, b"a").unwrap();
        append(&mut core, 0, b"b").unwrap();
        append(&mut core, 1, b"c").unwrap();
        let outgoing = sent(&mut core, now);
        let expected = i32::try_from(now).unwrap();
        assert_eq!(sequences(&outgoing), [expected * 2, expected]);
        answer(&mut core, outgoing, ErrorCode::None, now);
    }
}

#[test]
fn failed_batches_go_again_in_order_and_nothing_passes_them() {
    let mut core = accumulator(config(), 1);
    append(&mut core, 0, b"a").unwrap();
    let first = sent(&mut core, 0);
    append(&mut core, 0, b"b").unwrap();
    let second = lingered(&mut core, 20);
    append(&mut core, 0, b"c").unwrap();
    let effects = answer(&mut core, first, ErrorCode::NotLeaderOrFollower, 21);
    assert!(effects.refresh_metadata);
    // The second is under way still.
    assert!(!matches!(step(&mut core, 500), Step::Send(_)));
    answer(&mut core, second, ErrorCode::OutOfOrderSequenceNumber, 501);
    assert_eq!(core.wants_identity(), None, "it only followed from the first");
    let again = sent(&mut core, 2_000);
    assert_eq!(sequences(&again), [0]);
    let behind = sent(&mut core, 2_001);
    assert_eq!(sequences(&behind), [1]);
    answer(&mut core, again, ErrorCode::None, 2_002);
    answer(&mut core, behind, ErrorCode::None, 2_003);
    assert_eq!(sequences(&sent(&mut core, 2_004)), [2]);
}

#[test]
fn no_batch_is_sent_more_than_five_past_one_that_is_not_answered() {
    let mut core = accumulator(config(), 1);
    append(&mut core, 0, b"oldest").unwrap();
    let mut oldest = sent(&mut core, 0);
    let mut now = 0;
    for _ in 0..4 {
        now += 100;
        append(&mut core, 0, b"later").unwrap();
        let later = lingered(&mut core, now);
        answer(&mut core, later, ErrorCode::None, now);
    }
    append(&mut core, 0, b"sixth").unwrap();
    assert!(!matches!(step(&mut core, now + 100), Step::Send(_)));
    // Refused or not, it stays the oldest.
    answer(&mut core, oldest, ErrorCode::NotEnoughReplicas, now + 100);
    oldest = sent(&mut core, now + 5_000);
    assert_eq!(sequences(&oldest), [0]);
    assert!(!matches!(step(&mut core, now + 5_100), Step::Send(_)));
    answer(&mut core, oldest, ErrorCode::None, now + 5_200);
    assert_eq!(sequences(&sent(&mut core, now + 5_200)), [5]);
}

#[test]
fn after_a_loss_batches_are_renumbered_under_the_next_identity() {
    let mut core = accumulator(config(), 1);
    append(&mut core, 0, b"a").unwrap();
    let first = sent(&mut core, 0);
    answer(&mut core, first, ErrorCode::None, 1);
    append(&mut core, 0, b"b").unwrap();
    let second = sent(&mut core, 2);
    answer(&mut core, second, ErrorCode::OutOfOrderSequenceNumber, 3);
    let old = Identity { id: ProducerId(1), epoch: ProducerEpoch(0) };
    assert_eq!(core.wants_identity(), Some(old));
    assert!(!matches!(step(&mut core, 5_000), Step::Send(_)), "not under the old identity");
    let new = Identity { id: ProducerId(1), epoch: ProducerEpoch(1) };
    core.set_identity(new);
    let again = sent(&mut core, 5_001);
    assert_eq!((sequences(&again), again[0].identity), (vec![0], new));
}

#[test]
fn bounds_hold_in_total_and_per_partition() {
    let config =
        ProducerConfig { partition_buffer_bytes_max: 2_000, buffer_bytes_max: 3_000, ..config() };
    let mut core = accumulator(config, 3);
    let fill = |core: &mut Accumulator, partition| loop {
        if let Err(error) = append(core, partition, &[b'x'; 300]) {
            break error;
        }
    };
    let own = fill(&mut core, 0);
    assert!(
        matches!(own, ProduceError::BufferFull { partition: Some(PartitionId(0)), .. }),
        "{own}"
    );
    let total = fill(&mut core, 1);
    assert!(matches!(total, ProduceError::BufferFull { partition: None, .. }), "{total}");
    assert!(core.buffered_bytes() <= 3_000);
    assert!(!core.has_freed_room());
    let outgoing = sent(&mut core, 0);
    answer(&mut core, outgoing, ErrorCode::None, 1);
    assert!(core.has_freed_room());
    append(&mut core, 2, b"fits again").unwrap();
}

#[test]
fn all_bytes_and_records_are_given_back() {
    let mut core = accumulator(config(), 2);
    for number in 0..50_u8 {
        append(&mut core, i32::from(number % 2), &[number; 100]).unwrap();
    }
    let mut now = 0;
    while core.buffered_records() > 0 {
        now += 20;
        match step(&mut core, now) {
            Step::Send(outgoing) => {
                let code = if now % 60 == 0 { ErrorCode::InvalidRecord } else { ErrorCode::None };
                answer(&mut core, outgoing, code, now);
            }
            _ if core.wants_identity().is_some() => {
                let epoch = ProducerEpoch(i16::try_from(now / 20).unwrap());
                core.set_identity(Identity { id: ProducerId(1), epoch });
            }
            _ => {}
        }
        assert!(now < 100_000, "stuck");
    }
    assert_eq!((core.buffered_bytes(), core.brokers[0].pending_bytes), (0, 0));
    assert_eq!(core.counters.records_acked + core.counters.records_failed, 50);
}

#[test]
fn a_request_takes_no_more_than_its_bound_and_turns_go_round() {
    let config = ProducerConfig { request_bytes_max: 1_500, ..config() };
    let mut core = accumulator(config, 3);
    for partition in 0..3 {
        for _ in 0..3 {
            append(&mut core, partition, &[b'x'; 250]).unwrap();
        }
    }
    let mut served = Vec::new();
    for now in 0..3 {
        let outgoing = sent(&mut core, now * 100);
        assert_eq!(outgoing.len(), 1, "two would pass the bound");
        served.push(outgoing[0].partition.get());
        answer(&mut core, outgoing, ErrorCode::None, now * 100);
    }
    served.sort_unstable();
    assert_eq!(served, [0, 1, 2]);
}

#[test]
fn unsent_records_expire_without_a_leader_too() {
    let config = ProducerConfig { delivery_timeout_ms: 1_000, ..config() };
    let mut core = Accumulator::new(config, 50, 1_000);
    core.update_topic(&Str::from(TOPIC), Uuid::ZERO, &[None]);
    append(&mut core, 0, b"a").unwrap();
    assert!(core.expire(MonoMs(10)).completed.is_empty());
    let effects = core.expire(MonoMs(1_010));
    let Outcome::Failed(error) = &effects.completed[0].1 else { panic!("expired") };
    assert_eq!(error.to_string(), "not sent within 1000 ms: partition has no leader");
    assert_eq!(core.buffered_bytes(), 0);
}

#[test]
fn a_batch_under_way_times_out_once_and_its_late_answer_settles_the_sequence() {
    let config = ProducerConfig { delivery_timeout_ms: 1_000, ..config() };
    let mut core = accumulator(config, 1);
    append(&mut core, 0, b"a").unwrap();
    let outgoing = sent(&mut core, 0);
    assert_eq!(core.expire(MonoMs(1_000)).completed.len(), 1);
    assert_eq!(core.expire(MonoMs(1_100)).completed.len(), 0);
    assert!(core.buffered_bytes() > 0, "the bytes are still held");
    let effects = answer(&mut core, outgoing, ErrorCode::None, 1_200);
    assert!(effects.completed.is_empty());
    assert_eq!((core.buffered_bytes(), core.wants_identity()), (0, None));
    append(&mut core, 0, b"b").unwrap();
    assert_eq!(sequences(&sent(&mut core, 1_201)), [1]);
}

#[test]
fn a_batch_waits_while_its_partition_has_batches_at_another_broker() {
    let mut core = accumulator(config(), 1);
    append(&mut core, 0, b"a").unwrap();
    let first = sent(&mut core, 0);
    core.update_topic(&Str::from(TOPIC), Uuid::ZERO, &[Some(NodeId(2))]);
    append(&mut core, 0, b"b").unwrap();
    let second = BrokerIndex(1);
    assert!(!matches!(core.step(second, MonoMs(100)), Step::Send(_)));
    core.take_wakes();
    answer(&mut core, first, ErrorCode::NotLeaderOrFollower, 101);
    assert!(core.take_wakes().contains(&second));
    let Step::Send(again) = core.step(second, MonoMs(5_000)) else { panic!("must be sent") };
    assert_eq!(sequences(&again), [0]);
}

#[test]
fn round_robin_takes_turns_and_sticky_moves_with_the_batch() {
    let turns = |partitioner| {
        let mut core = accumulator(ProducerConfig { partitioner, ..config() }, 3);
        let mut slots = Vec::new();
        for now in 0..3 {
            for _ in 0..2 {
                let taken = core.append(&Record::new(TOPIC, b"v"), TimestampMs(1), 0).unwrap();
                slots.push(taken.slot.0);
            }
            let outgoing = sent(&mut core, now * 100);
            answer(&mut core, outgoing, ErrorCode::None, now * 100);
        }
        slots
    };
    assert_eq!(turns(Partitioner::RoundRobin), [0, 1, 2, 0, 1, 2]);
    assert_eq!(turns(Partitioner::Murmur2), [0, 0, 1, 1, 2, 2]);
}

#[test]
fn answers_of_an_earlier_run_change_nothing() {
    let mut core = accumulator(config(), 1);
    append(&mut core, 0, b"a").unwrap();
    let outgoing = sent(&mut core, 0);
    assert_eq!(core.abandon_all().completed.len(), 1);
    core.restart().unwrap();
    let effects = answer(&mut core, outgoing, ErrorCode::None, 1);
    assert!(effects.completed.is_empty());
    assert_eq!(core.restart(), Err(ProduceError::AlreadyRunning));
}

#[test]
fn a_late_answer_that_only_frees_bytes_tells_of_the_room() {
    let config = ProducerConfig { delivery_timeout_ms: 1_000, ..config() };
    let mut core = accumulator(config, 1);
    append(&mut core, 0, b"a").unwrap();
    let outgoing = sent(&mut core, 0);
    assert!(!core.expire(MonoMs(1_000)).freed_room);
    let effects = answer(&mut core, outgoing, ErrorCode::None, 1_200);
    assert_eq!((effects.completed.len(), effects.freed_room), (0, true));
}

#[test]
fn a_batch_of_unknown_fate_keeps_its_sequence_when_a_later_one_is_refused_for_good() {
    let mut core = accumulator(config(), 1);
    append(&mut core, 0, b"a").unwrap();
    let first = sent(&mut core, 0);
    append(&mut core, 0, b"b").unwrap();
    let second = lingered(&mut core, 20);
    let old = first[0].identity;
    lose(&mut core, first, 40);
    answer(&mut core, second, ErrorCode::InvalidRecord, 41);
    assert_eq!(core.wants_identity(), None, "the first may be in the log under this identity");
    let again = sent(&mut core, 2_000);
    assert_eq!((sequences(&again), again[0].identity), (vec![0], old));
    answer(&mut core, again, ErrorCode::None, 2_001);
    // The gap is met by what comes next: out of order, and then under a new identity.
    append(&mut core, 0, b"c").unwrap();
    let third = sent(&mut core, 2_100);
    assert_eq!(sequences(&third), [2]);
    answer(&mut core, third, ErrorCode::OutOfOrderSequenceNumber, 2_101);
    assert_eq!(core.wants_identity(), Some(old));
}

#[test]
fn a_batch_that_never_reached_a_connection_is_told_so_and_is_not_written_later() {
    let config = ProducerConfig { delivery_timeout_ms: 1_000, ..config() };
    let mut core = accumulator(config, 1);
    append(&mut core, 0, b"held").unwrap();
    let held = sent(&mut core, 0);
    let effects = core.expire(MonoMs(1_000));
    let Outcome::Failed(error) = &effects.completed[0].1 else { panic!("expired") };
    assert!(matches!(error, ProduceError::NotSent { .. }), "{error}");
    assert!(!held[0].completion.begin_writing(), "its sender was told that it is not written");

    append(&mut core, 0, b"written").unwrap();
    answer(&mut core, held, ErrorCode::NotLeaderOrFollower, 1_000);
    let mut now = 1_000;
    let written = loop {
        now += 10;
        if core.wants_identity().is_some() {
            core.set_identity(Identity { id: ProducerId(2), epoch: ProducerEpoch(0) });
        }
        if let Step::Send(outgoing) = step(&mut core, now) {
            break outgoing;
        }
        assert!(now < 1_500, "never sent");
    };
    assert!(written[0].completion.begin_writing());
    let effects = core.expire(MonoMs(3_000));
    let Outcome::Failed(error) = &effects.completed[0].1 else { panic!("expired") };
    assert!(matches!(error, ProduceError::DeliveryTimeout { .. }), "{error}");
}

#[test]
fn recalled_are_all_batches_that_never_reached_a_connection_and_no_others() {
    let mut core = accumulator(config(), 3);
    append(&mut core, 0, b"written").unwrap();
    let written = sent(&mut core, 0);
    assert!(written[0].completion.begin_writing());
    let mut next = |partition: i32| {
        append(&mut core, partition, b"held").unwrap();
        let Step::WaitUntil(until) = step(&mut core, 500) else { panic!("it lingers") };
        sent(&mut core, until.0)
    };
    let (connecting, refused) = (next(1), next(2));
    answer(&mut core, refused, ErrorCode::NotLeaderOrFollower, 1_000);
    append(&mut core, 0, b"open").unwrap();
    let recalled = core.recall_unsent(MonoMs(1_010)).completed;
    assert_eq!(recalled.len(), 3);
    for (_, outcome) in recalled {
        let Outcome::Failed(error) = outcome else { panic!("recalled") };
        assert!(matches!(error, ProduceError::NotSent { .. }), "{error}");
    }
    assert!(!connecting[0].completion.begin_writing());
    assert!(core.recall_unsent(MonoMs(1_020)).completed.is_empty(), "once");
    answer(&mut core, connecting, ErrorCode::NotLeaderOrFollower, 1_030);
    answer(&mut core, written, ErrorCode::None, 1_040);
    assert_eq!((core.buffered_bytes(), core.buffered_records()), (0, 0));
    assert_eq!((core.counters.records_acked, core.counters.records_failed), (1, 3));
}

#[test]
fn until_the_broker_knows_a_producer_one_batch_goes_at_a_time() {
    let mut core = unknown(config(), 1);
    for _ in 0..3 {
        append(&mut core, 0, &[b'x'; 900]).unwrap();
        append(&mut core, 0, &[b'x'; 900]).unwrap();
    }
    let first = sent(&mut core, 0);
    assert_eq!((first.len(), first[0].base_sequence.get()), (1, 0));
    assert!(!matches!(step(&mut core, 1), Step::Send(_)), "any sequence would be its first");
    // Refused: the broker knows nothing yet.
    answer(&mut core, first, ErrorCode::TopicAuthorizationFailed, 2);
    assert!(core.wants_identity().is_some());
    core.set_identity(Identity { id: ProducerId(2), epoch: ProducerEpoch(0) });
    let next = sent(&mut core, 3);
    assert_eq!((next.len(), next[0].base_sequence.get()), (1, 0));
    assert!(!matches!(step(&mut core, 4), Step::Send(_)));
    answer(&mut core, next, ErrorCode::None, 5);
    let (mut together, mut under_way) = (0, Vec::new());
    while let Step::Send(outgoing) = step(&mut core, 100) {
        together += outgoing.len();
        under_way.push(outgoing);
    }
    assert!(together > 1, "{together}");
}

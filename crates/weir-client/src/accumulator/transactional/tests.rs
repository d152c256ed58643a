//! Transactions in the core: what is sent when, and what goes down with a failure.

use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{NodeId, ProducerEpoch, ProducerId, TimestampMs, Uuid};

use super::*;
use crate::accumulator::{Answer, BrokerIndex, MonoMs, Outgoing, Payload, Step};
use crate::config::ProducerConfig;
use crate::record::Record;
use crate::transaction::TxnVersion;

fn identity(epoch: i16) -> Identity {
    Identity { id: ProducerId(7), epoch: ProducerEpoch(epoch) }
}

fn core(partitions: usize) -> Accumulator {
    let config =
        ProducerConfig { transactional_id: Some("tx".to_owned()), ..ProducerConfig::default() };
    core_with(config, partitions)
}

fn core_with(config: ProducerConfig, partitions: usize) -> Accumulator {
    let mut core = Accumulator::new(config, 50, 1_000);
    core.update_topic(&Str::from("t"), Uuid::ZERO, &vec![Some(NodeId(1)); partitions]);
    core.with_transactions(|machine| machine.begin_init()).unwrap().0.unwrap();
    core.set_identity(identity(0));
    core.with_transactions(|machine| machine.initialised()).unwrap();
    core
}

fn begin(core: &mut Accumulator, version: TxnVersion) {
    core.with_transactions(|machine| machine.begin(version)).unwrap().0.unwrap();
}

fn append(core: &mut Accumulator, partition: i32) -> Result<(), ProduceError> {
    let record = Record::new("t", b"v").with_partition(PartitionId(partition));
    core.append(&record, TimestampMs(1), 0).map(drop)
}

fn step(core: &mut Accumulator, now: u64) -> Option<Vec<Outgoing>> {
    match core.step(BrokerIndex(0), MonoMs(now)) {
        Step::Send(outgoing) => Some(outgoing),
        _ => None,
    }
}

fn answer(core: &mut Accumulator, sent: Vec<Outgoing>, code: ErrorCode, now: u64) -> Effects {
    let answers = sent
        .into_iter()
        .map(|out| {
            let bytes = match out.payload {
                Payload::Open(mut builder) => builder.build(),
                Payload::Built(bytes) => bytes,
                Payload::Part(part) => part.fill().unwrap().build(),
            };
            let answer = match code {
                ErrorCode::None => Answer::Acked { base_offset: None, append_time: None },
                code => Answer::Refused { code, message: None },
            };
            (out.slot, out.batch, bytes, answer)
        })
        .collect();
    core.on_answers(BrokerIndex(0), core.incarnation(), answers, MonoMs(now))
}

fn failures(effects: &Effects) -> Vec<ProduceError> {
    let failed = effects.completed.iter().filter_map(|(_, outcome)| match outcome {
        Outcome::Failed(error) => Some(error.clone()),
        Outcome::Acked { .. } | Outcome::Parts(_) => None,
    });
    failed.collect()
}

#[test]
fn no_record_is_taken_outside_a_transaction() {
    let mut core = core(1);
    assert!(matches!(append(&mut core, 0), Err(ProduceError::NoTransaction { .. })));
    begin(&mut core, TxnVersion::V2);
    append(&mut core, 0).unwrap();
    core.with_transactions(|machine| machine.begin_commit()).unwrap().0.unwrap();
    assert!(matches!(append(&mut core, 0), Err(ProduceError::NoTransaction { .. })));
}

#[test]
fn batches_are_marked_as_of_the_transaction() {
    let mut core = core(1);
    begin(&mut core, TxnVersion::V2);
    append(&mut core, 0).unwrap();
    let sent = step(&mut core, 0).unwrap();
    assert!(sent[0].transactional);
    answer(&mut core, sent, ErrorCode::NotEnoughReplicas, 1);
    assert!(step(&mut core, 2_000).unwrap()[0].transactional, "again too");
}

#[test]
fn version_1_holds_a_partition_until_it_is_added_and_the_next_transaction_adds_it_again() {
    let mut core = core(2);
    for transaction in 1..3 {
        begin(&mut core, TxnVersion::V1);
        append(&mut core, 0).unwrap();
        append(&mut core, 1).unwrap();
        let now = transaction * 1_000;
        assert!(step(&mut core, now).is_none());
        let additions = core.take_additions().unwrap();
        assert_eq!((additions.transaction, additions.partitions.len()), (transaction, 2));
        core.take_wakes();
        let slots: Vec<Slot> = additions.partitions.iter().map(|(slot, ..)| *slot).collect();
        core.set_added(additions.transaction, &slots);
        assert_eq!(core.take_wakes(), [BrokerIndex(0)]);
        assert!(core.take_additions().is_none());
        let sent = step(&mut core, now + 1).unwrap();
        assert_eq!(sent.len(), 2);
        assert_eq!(
            sent[0].base_sequence.get(),
            i32::try_from(transaction).unwrap() - 1,
            "one epoch"
        );
        answer(&mut core, sent, ErrorCode::None, now + 2);
        core.with_transactions(|machine| {
            machine.begin_commit().unwrap();
            machine.end_asked();
            machine.end_answered();
            machine.ended();
        });
    }
}

#[test]
fn an_answer_to_an_addition_of_an_earlier_transaction_adds_nothing() {
    let mut core = core(1);
    begin(&mut core, TxnVersion::V1);
    append(&mut core, 0).unwrap();
    assert!(step(&mut core, 0).is_none());
    let old = core.take_additions().unwrap();
    core.with_transactions(|machine| {
        machine.begin_abort().unwrap();
        machine.end_asked();
        machine.end_answered();
        machine.ended();
    });
    begin(&mut core, TxnVersion::V1);
    append(&mut core, 0).unwrap();
    core.set_added(old.transaction, &[old.partitions[0].0]);
    assert!(step(&mut core, 100).is_none(), "it is not in this transaction");
}

#[test]
fn a_failed_batch_takes_all_with_it_that_is_not_under_way() {
    let mut core = core(2);
    begin(&mut core, TxnVersion::V2);
    append(&mut core, 0).unwrap();
    let sent = step(&mut core, 0).unwrap();
    append(&mut core, 1).unwrap();
    let effects = answer(&mut core, sent, ErrorCode::OutOfOrderSequenceNumber, 1);
    let failed = failures(&effects);
    assert!(matches!(failed[0], ProduceError::Refused { .. }), "{failed:?}");
    assert!(matches!(failed[1], ProduceError::TransactionFailed { .. }), "{failed:?}");
    assert_eq!(core.buffered_bytes(), 0);
    assert_eq!(core.wants_identity(), None, "the end of the transaction brings the next epoch");
    assert!(matches!(append(&mut core, 0), Err(ProduceError::TransactionFailed { .. })));
}

#[test]
fn what_comes_back_retriable_after_the_failure_does_not_go_again() {
    let mut core = core(2);
    begin(&mut core, TxnVersion::V2);
    append(&mut core, 0).unwrap();
    let first = step(&mut core, 0).unwrap();
    append(&mut core, 1).unwrap();
    let second = (1..100).find_map(|now| step(&mut core, now)).unwrap();
    core.with_transactions(|machine| machine.begin_abort()).unwrap().0.unwrap();
    answer(&mut core, first, ErrorCode::None, 100);
    assert!(core.buffered_records() > 0, "one is under way: the end must wait");
    let effects = answer(&mut core, second, ErrorCode::NotLeaderOrFollower, 101);
    assert_eq!(failures(&effects), [ProduceError::TransactionAborted]);
    assert_eq!((core.buffered_records(), core.buffered_bytes()), (0, 0));
}

#[test]
fn the_next_epoch_waits_for_what_is_under_way_under_the_last_one() {
    let mut core = core(1);
    begin(&mut core, TxnVersion::V2);
    append(&mut core, 0).unwrap();
    let late = step(&mut core, 0).unwrap();
    // Its delivery times out; its answer has not come.
    let timeout_ms = u64::from(ProducerConfig::default().delivery_timeout_ms);
    assert_eq!(core.expire(MonoMs(timeout_ms)).completed.len(), 1);
    core.with_transactions(|machine| {
        machine.begin_abort().unwrap();
        machine.end_asked();
        machine.end_answered();
        machine.ended();
    });
    core.set_identity(identity(1));
    begin(&mut core, TxnVersion::V2);
    append(&mut core, 0).unwrap();
    assert!(step(&mut core, timeout_ms + 100).is_none());
    answer(&mut core, late, ErrorCode::InvalidProducerEpoch, timeout_ms + 101);
    let sent = (1..200).find_map(|ms| step(&mut core, timeout_ms + 1_200 + ms)).unwrap();
    assert_eq!((sent[0].identity, sent[0].base_sequence.get()), (identity(1), 0));
}

#[test]
fn a_fenced_producer_takes_nothing_any_more() {
    let mut core = core(1);
    begin(&mut core, TxnVersion::V2);
    append(&mut core, 0).unwrap();
    let sent = step(&mut core, 0).unwrap();
    append(&mut core, 0).unwrap();
    let effects = answer(&mut core, sent, ErrorCode::ProducerFenced, 1);
    assert_eq!(failures(&effects), [ProduceError::Fenced, ProduceError::Fenced]);
    assert_eq!(append(&mut core, 0), Err(ProduceError::Fenced));
    let aborted = core.with_transactions(|machine| machine.begin_abort()).unwrap().0;
    assert!(matches!(aborted, Err(crate::TransactionError::Fenced { .. })));
}

#[test]
fn markers_of_the_last_transaction_are_waited_for_briefly() {
    let mut core = core(1);
    begin(&mut core, TxnVersion::V2);
    append(&mut core, 0).unwrap();
    let sent = step(&mut core, 0).unwrap();
    let effects = answer(&mut core, sent, ErrorCode::ConcurrentTransactions, 1);
    assert!(!effects.refresh_metadata);
    assert!(step(&mut core, 20).is_none());
    assert_eq!(step(&mut core, 21).map(|sent| sent.len()), Some(1));
}

#[test]
fn waiting_for_markers_is_no_delivery_attempt() {
    let config = ProducerConfig {
        transactional_id: Some("tx".to_owned()),
        retries_max: 0,
        ..ProducerConfig::default()
    };
    let mut core = core_with(config, 1);
    begin(&mut core, TxnVersion::V2);
    append(&mut core, 0).unwrap();
    let mut now = 0;
    for _ in 0..50 {
        let sent = step(&mut core, now).unwrap();
        let effects = answer(&mut core, sent, ErrorCode::ConcurrentTransactions, now);
        assert_eq!(failures(&effects), []);
        // It does not grow either.
        now += 20;
    }
    let sent = step(&mut core, now).unwrap();
    let effects = answer(&mut core, sent, ErrorCode::NotEnoughReplicas, now);
    assert_eq!(failures(&effects).len(), 1, "the one attempt it had");
}

#[test]
fn partitions_that_are_gone_take_the_transaction_with_them() {
    let mut core = core(2);
    core.update_topic(&Str::from("t"), Uuid([1; 16]), &[Some(NodeId(1)); 2]);
    begin(&mut core, TxnVersion::V2);
    append(&mut core, 0).unwrap();
    append(&mut core, 1).unwrap();
    let effects = core.update_topic(&Str::from("t"), Uuid([2; 16]), &[Some(NodeId(1)); 1]);
    let failed = failures(&effects);
    assert!(
        matches!(
            failed[..],
            [ProduceError::PartitionGone { .. }, ProduceError::TransactionFailed { .. }]
        ),
        "{failed:?}"
    );
    assert!(append(&mut core, 0).is_err());
}

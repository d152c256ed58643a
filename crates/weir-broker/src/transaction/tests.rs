#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const NOW: TimestampMs = TimestampMs(1_000);

fn fresh() -> Option<ProducerId> {
    Some(ProducerId(99))
}

fn begin(epoch: i16) -> Transaction {
    let mut txn = Transaction::new(ProducerId(7), 60_000, NOW);
    for _ in 0..=epoch {
        assert_eq!(txn.init(60_000, None, fresh, NOW), Ok(Initialised::Ready));
    }
    txn
}

fn producer(id: i64, epoch: i16) -> Producer {
    Producer { id: ProducerId(id), epoch: ProducerEpoch(epoch) }
}

fn add(txn: &mut Transaction, producer: Producer, version: TxnVersion) -> Result<bool, ErrorCode> {
    let topic = Str::from("t");
    txn.add(producer, [(&topic, 0)].into_iter(), version, NOW)
}

fn end(
    txn: &mut Transaction,
    producer: Producer,
    commit: bool,
    version: TxnVersion,
) -> Result<Ended, ErrorCode> {
    txn.end(End { producer, commit, version }, fresh, NOW)
}

#[test]
fn version_1_keeps_its_epoch() {
    let mut txn = begin(0);
    let me = producer(7, 0);
    assert_eq!(add(&mut txn, me, TxnVersion::V1), Ok(true));
    assert_eq!(add(&mut txn, me, TxnVersion::V1), Ok(false));
    assert_eq!(txn.verify(me, "t", 0), Ok(()));
    assert_eq!(txn.verify(me, "t", 1), Err(ErrorCode::InvalidTxnState));
    assert_eq!(end(&mut txn, me, true, TxnVersion::V1), Ok(Ended::Prepared));
    assert_eq!((txn.producer(), txn.decision()), (me, Some(true)));
    assert_eq!(end(&mut txn, me, true, TxnVersion::V1), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(end(&mut txn, me, false, TxnVersion::V1), Err(ErrorCode::InvalidTxnState));
    assert_eq!(add(&mut txn, me, TxnVersion::V1), Err(ErrorCode::ConcurrentTransactions));
    txn.complete(NOW);
    assert_eq!(end(&mut txn, me, true, TxnVersion::V1), Ok(Ended::Already));
    assert_eq!(end(&mut txn, me, false, TxnVersion::V1), Err(ErrorCode::InvalidTxnState));
    assert_eq!(add(&mut txn, me, TxnVersion::V1), Ok(true));
}

#[test]
fn version_2_raises_the_epoch_with_each_end() {
    let mut txn = begin(0);
    assert_eq!(add(&mut txn, producer(7, 0), TxnVersion::V2), Ok(true));
    assert_eq!(end(&mut txn, producer(7, 0), true, TxnVersion::V2), Ok(Ended::Prepared));
    assert_eq!(txn.producer(), producer(7, 1));
    let again = end(&mut txn, producer(7, 0), true, TxnVersion::V2);
    assert_eq!(again, Err(ErrorCode::ConcurrentTransactions));
    txn.complete(NOW);
    assert_eq!(end(&mut txn, producer(7, 0), true, TxnVersion::V2), Ok(Ended::Already));
    // The repeat of an end must not end what was begun since.
    assert_eq!(add(&mut txn, producer(7, 1), TxnVersion::V2), Ok(true));
    let late = end(&mut txn, producer(7, 0), true, TxnVersion::V2);
    assert_eq!(late, Err(ErrorCode::ProducerFenced));
    assert_eq!(add(&mut txn, producer(7, 0), TxnVersion::V2), Err(ErrorCode::ProducerFenced));
}

#[test]
fn version_2_may_abort_nothing_but_not_commit_it() {
    let mut txn = begin(0);
    let commit = end(&mut txn, producer(7, 0), true, TxnVersion::V2);
    assert_eq!(commit, Err(ErrorCode::InvalidTxnState));
    assert_eq!(end(&mut txn, producer(7, 0), false, TxnVersion::V2), Ok(Ended::Prepared));
    txn.complete(NOW);
    assert_eq!((txn.producer(), txn.state()), (producer(7, 1), TxnState::CompleteAbort));
    let v1 = end(&mut begin(0), producer(7, 0), false, TxnVersion::V1);
    assert_eq!(v1, Err(ErrorCode::InvalidTxnState));
}

#[test]
fn a_second_producer_fences_the_first_and_aborts_what_it_had_open() {
    let mut txn = begin(0);
    add(&mut txn, producer(7, 0), TxnVersion::V1).unwrap();
    assert_eq!(txn.init(60_000, None, fresh, NOW), Ok(Initialised::Aborting));
    assert_eq!(txn.init(60_000, None, fresh, NOW), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(txn.decision(), Some(false));
    txn.complete(NOW);
    assert_eq!(txn.init(60_000, None, fresh, NOW), Ok(Initialised::Ready));
    assert_eq!(txn.producer(), producer(7, 2));
    for old in [producer(7, 0), producer(7, 1)] {
        assert_eq!(add(&mut txn, old, TxnVersion::V1), Err(ErrorCode::ProducerFenced));
        assert_eq!(end(&mut txn, old, true, TxnVersion::V2), Err(ErrorCode::ProducerFenced));
        let init = txn.init(60_000, Some(old), fresh, NOW);
        assert_eq!(init, Err(ErrorCode::ProducerFenced));
    }
    let stranger = add(&mut txn, producer(8, 2), TxnVersion::V1);
    assert_eq!(stranger, Err(ErrorCode::InvalidProducerIdMapping));
}

/// KIP-360.
#[test]
fn a_producer_goes_on_after_an_error() {
    let mut txn = begin(0);
    let expected = Some(producer(7, 0));
    assert_eq!(txn.init(60_000, expected, fresh, NOW), Ok(Initialised::Ready));
    assert_eq!(txn.producer(), producer(7, 1));
    // The answer was lost.
    assert_eq!(txn.init(60_000, expected, fresh, NOW), Ok(Initialised::Ready));
    assert_eq!(txn.producer(), producer(7, 1));
    // Somebody else came.
    assert_eq!(txn.init(60_000, None, fresh, NOW), Ok(Initialised::Ready));
    assert_eq!(txn.init(60_000, expected, fresh, NOW), Err(ErrorCode::ProducerFenced));
    let next = Some(producer(7, 1));
    assert_eq!(txn.init(60_000, next, fresh, NOW), Err(ErrorCode::ProducerFenced));
}

#[test]
fn a_timeout_fences_the_producer() {
    let mut txn = begin(0);
    add(&mut txn, producer(7, 0), TxnVersion::V1).unwrap();
    assert_eq!(txn.deadline(), Some(NOW.plus_ms(60_000)));
    txn.fence(NOW.plus_ms(60_000));
    txn.complete(NOW.plus_ms(60_000));
    assert_eq!((txn.state(), txn.deadline()), (TxnState::CompleteAbort, None));
    let late = end(&mut txn, producer(7, 0), true, TxnVersion::V1);
    assert_eq!(late, Err(ErrorCode::ProducerFenced));
}

#[test]
fn used_up_epochs_give_a_new_id() {
    let mut txn = begin(0);
    txn.producer.epoch = ProducerEpoch(i16::MAX - 1);
    let old = txn.producer();
    let mut by_init = txn.clone();
    assert_eq!(by_init.init(60_000, Some(old), fresh, NOW), Ok(Initialised::Ready));
    assert_eq!(by_init.producer(), producer(99, 0));
    assert_eq!(by_init.init(60_000, Some(old), || None, NOW), Ok(Initialised::Ready));
    assert_eq!(by_init.producer(), producer(99, 0), "the repeat gets the same");

    add(&mut txn, old, TxnVersion::V2).unwrap();
    let mut nothing_fresh = txn.clone();
    let refused = nothing_fresh.end(
        End { producer: old, commit: true, version: TxnVersion::V2 },
        || None,
        NOW,
    );
    assert_eq!(refused, Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(end(&mut txn, old, true, TxnVersion::V2), Ok(Ended::Prepared));
    assert_eq!(txn.producer(), producer(7, i16::MAX), "markers fence the old epoch");
    txn.complete(NOW);
    assert_eq!(txn.producer(), producer(99, 0));
    assert_eq!(end(&mut txn, old, true, TxnVersion::V2), Ok(Ended::Already));
}

#[test]
fn what_is_stored_comes_back() {
    let mut txn = begin(3);
    for step in 0..4 {
        match step {
            0 => {}
            1 => drop(add(&mut txn, producer(7, 3), TxnVersion::V2).unwrap()),
            2 => drop(end(&mut txn, producer(7, 3), true, TxnVersion::V2).unwrap()),
            _ => txn.complete(NOW),
        }
        let restored = Transaction::restore(txn.record()).unwrap();
        let last_epoch = restored.last_epoch;
        assert_eq!(restored, Transaction { last_epoch, ..txn.clone() });
    }
    assert!(Transaction::restore(TransactionLogValue { status: 6, ..txn.record() }).is_none());
}

/// What may be asked of the machine.
#[derive(Debug, Clone)]
enum Op {
    Init { who: usize, recover: bool },
    Add { who: usize },
    End { who: usize, commit: bool },
    Markers,
    Timeout,
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let who = 0..3_usize;
    prop_oneof![
        2 => (who.clone(), any::<bool>()).prop_map(|(who, recover)| Op::Init { who, recover }),
        4 => who.clone().prop_map(|who| Op::Add { who }),
        4 => (who, any::<bool>()).prop_map(|(who, commit)| Op::End { who, commit }),
        4 => Just(Op::Markers),
        1 => Just(Op::Timeout),
        1 => Just(Op::Restart),
    ]
}

/// Three clients that share a transactional id, each by the version of its number's parity. The model knows who is
/// the holder: the last one that was given a producer. What it demands:
///
/// - only the holder adds, and only the holder's end decides anything;
/// - an epoch is never given to two clients, and none that was given before is the present one again;
/// - a decision stays until its markers are written.
fn check(ops: Vec<Op>, first_epoch: i16) -> Result<(), TestCaseError> {
    let mut txn = Transaction::new(ProducerId(7), 60_000, NOW);
    txn.producer.epoch = ProducerEpoch(first_epoch);
    let mut next_id = 100;
    let mut clients = [Producer::NONE; 3];
    let mut given: BTreeSet<(Producer, usize)> = BTreeSet::new();
    let version = |who: usize| if who.is_multiple_of(2) { TxnVersion::V2 } else { TxnVersion::V1 };
    for op in ops {
        let before = txn.clone();
        let mut fresh = || {
            next_id += 1;
            Some(ProducerId(next_id))
        };
        match op {
            Op::Init { who, recover } => {
                let expected = Some(clients[who]).filter(|me| recover && *me != Producer::NONE);
                match txn.init(60_000, expected, &mut fresh, NOW) {
                    Ok(Initialised::Ready) => {
                        clients[who] = txn.producer();
                        given.insert((txn.producer(), who));
                    }
                    Ok(Initialised::Aborting) => prop_assert_eq!(txn.decision(), Some(false)),
                    Err(_) => prop_assert_eq!(&txn, &before),
                }
            }
            Op::Add { who } => {
                let added = add(&mut txn, clients[who], version(who));
                prop_assert!(added.is_err() || clients[who] == before.producer());
                prop_assert!(added.is_ok() || txn == before);
            }
            Op::End { who, commit } => {
                let result = txn.end(
                    End { producer: clients[who], commit, version: version(who) },
                    &mut fresh,
                    NOW,
                );
                match result {
                    Ok(Ended::Prepared) => {
                        prop_assert_eq!(clients[who], before.producer());
                        prop_assert_eq!(txn.decision(), Some(commit));
                    }
                    Ok(Ended::Already) => {
                        prop_assert_eq!(&txn, &before);
                        let state =
                            if commit { TxnState::CompleteCommit } else { TxnState::CompleteAbort };
                        prop_assert_eq!(txn.state(), state);
                        clients[who] = txn.producer();
                        given.insert((txn.producer(), who));
                    }
                    Err(_) => prop_assert_eq!(&txn, &before),
                }
            }
            Op::Markers if txn.decision().is_some() => txn.complete(NOW),
            Op::Timeout if txn.state() == TxnState::Ongoing => txn.fence(NOW),
            Op::Restart => txn = Transaction::restore(txn.record()).unwrap(),
            Op::Markers | Op::Timeout => {}
        }
        if before.decision().is_some() && txn.decision().is_some() {
            prop_assert_eq!(before.decision(), txn.decision());
        }
        let key = |producer: Producer| (producer.id, producer.epoch);
        prop_assert!(key(txn.producer()) >= key(before.producer()), "identities only rise");
    }
    // Version 1 goes on under one epoch, which only its holder has; nobody else was ever given it.
    let mut owners: Vec<Producer> = given.iter().map(|(producer, _)| *producer).collect();
    owners.dedup();
    prop_assert_eq!(owners.len(), given.len(), "two clients have one epoch: {:?}", given);
    Ok(())
}

proptest! {
    #[test]
    fn one_holder_at_a_time(ops in prop::collection::vec(op(), 1..60)) {
        check(ops, -1)?;
    }

    #[test]
    fn one_holder_at_a_time_where_epochs_end(ops in prop::collection::vec(op(), 1..60)) {
        check(ops, i16::MAX - 4)?;
    }
}

#[test]
fn who_goes_on_after_an_error_under_the_last_epoch_gets_a_fresh_id() {
    let mut txn = begin(EPOCH_EXHAUSTED);
    let me = producer(7, EPOCH_EXHAUSTED);
    assert_eq!(add(&mut txn, me, TxnVersion::V2), Ok(true));
    assert_eq!(txn.init(60_000, Some(me), fresh, NOW), Ok(Initialised::Aborting));
    txn.complete(NOW);
    assert_eq!(txn.init(60_000, Some(me), fresh, NOW), Ok(Initialised::Ready));
    let now_me = txn.producer();
    assert_eq!(add(&mut txn, now_me, TxnVersion::V2), Ok(true));
    assert_eq!(end(&mut txn, now_me, true, TxnVersion::V2), Ok(Ended::Prepared), "{now_me:?}");
    assert_eq!(now_me, producer(99, 0));
}

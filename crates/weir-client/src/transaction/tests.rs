//! The machine against what must hold of it, by any order of calls and events.

use proptest::prelude::*;

use super::*;
use crate::error::ErrorClass;

fn ready(version: TxnVersion) -> Transactions {
    let mut machine = Transactions::new("tx", TxnVersion::V2);
    assert_eq!(machine.begin_init(), Ok(true));
    machine.initialised();
    machine.begin(version).unwrap();
    machine
}

fn slot(number: usize) -> Slot {
    Slot::test(number)
}

#[test]
fn records_are_taken_between_begin_and_end_only() {
    let mut machine = Transactions::new("tx", TxnVersion::V2);
    let refused = |machine: &Transactions| {
        matches!(machine.refusal(), Some(ProduceError::NoTransaction { .. }))
    };
    assert!(refused(&machine));
    assert!(matches!(machine.begin(TxnVersion::V2), Err(TransactionError::WrongState { .. })));
    machine.begin_init().unwrap();
    machine.initialised();
    assert!(refused(&machine));
    machine.begin(TxnVersion::V2).unwrap();
    assert_eq!(machine.refusal(), None);
    machine.begin_commit().unwrap();
    assert!(refused(&machine));
    machine.ended();
    assert!(refused(&machine));
    assert_eq!(machine.begin_init(), Ok(false), "it was done before");
}

#[test]
fn an_empty_transaction_asks_the_coordinator_for_nothing() {
    for version in [TxnVersion::V1, TxnVersion::V2] {
        for commit in [true, false] {
            let mut machine = ready(version);
            if commit {
                machine.begin_commit().unwrap()
            } else {
                machine.begin_abort().unwrap()
            }
            assert_eq!(machine.ending(), Some(Ending::Nothing));
        }
    }
}

#[test]
fn version_1_writes_to_a_partition_once_it_is_added() {
    let mut machine = ready(TxnVersion::V1);
    assert!(!machine.may_write(slot(3)) && !machine.may_write(slot(3)));
    assert_eq!(machine.additions(), [slot(3)]);
    assert_eq!(machine.additions(), [slot(3)], "until it is answered");
    machine.added(&[slot(3)]);
    assert!(!machine.wants_to_add());
    machine.begin_commit().unwrap();
    assert_eq!(machine.ending(), Some(Ending::End { commit: true }));
}

#[test]
fn the_newest_version_both_sides_allow_is_spoken() {
    for (max, offered, spoken) in [
        (TxnVersion::V2, TxnVersion::V2, TxnVersion::V2),
        (TxnVersion::V2, TxnVersion::V1, TxnVersion::V1),
        (TxnVersion::V1, TxnVersion::V2, TxnVersion::V1),
    ] {
        let mut machine = Transactions::new("tx", max);
        machine.begin_init().unwrap();
        machine.initialised();
        machine.begin(offered).unwrap();
        assert_eq!(machine.version(), spoken);
    }
}

#[test]
fn a_lost_record_leaves_the_abort_only_and_version_1_then_raises_the_epoch() {
    for (version, after_end) in [(TxnVersion::V1, Ending::Bump), (TxnVersion::V2, Ending::Nothing)]
    {
        let mut machine = ready(version);
        machine.may_write(slot(0));
        machine.additions();
        machine.batch_failed(&ProduceError::Abandoned, true);
        assert!(machine.take_discard() && !machine.take_discard(), "once");
        let error = machine.begin_commit().unwrap_err();
        assert_eq!(error.class(), ErrorClass::Abortable, "{error}");
        assert!(matches!(machine.refusal(), Some(ProduceError::TransactionFailed { .. })));
        machine.begin_abort().unwrap();
        assert_eq!(machine.ending(), Some(Ending::End { commit: false }));
        machine.end_asked();
        machine.end_answered();
        assert_eq!(machine.ending(), Some(after_end));
        machine.ended();
        machine.begin(version).unwrap();
    }
}

#[test]
fn a_commit_asked_for_cannot_be_taken_back_and_one_not_asked_for_can() {
    let mut machine = ready(TxnVersion::V2);
    machine.may_write(slot(0));
    machine.begin_commit().unwrap();
    machine.begin_abort().unwrap();
    assert_eq!(machine.ending(), Some(Ending::End { commit: false }));

    let mut machine = ready(TxnVersion::V2);
    machine.may_write(slot(0));
    machine.begin_commit().unwrap();
    machine.end_asked();
    assert!(matches!(machine.begin_abort(), Err(TransactionError::WrongState { .. })));
    machine.begin_commit().unwrap();
    assert_eq!(machine.ending(), Some(Ending::End { commit: true }), "the same again");
}

#[test]
fn offsets_of_unknown_fate_fail_the_transaction() {
    let mut machine = ready(TxnVersion::V2);
    machine.begin_offsets().unwrap();
    assert!(matches!(machine.begin_commit(), Err(TransactionError::WrongState { .. })));
    machine.end_offsets(Some("given up".to_owned()));
    assert_eq!(machine.begin_commit().unwrap_err().class(), ErrorClass::Abortable);
    machine.begin_abort().unwrap();
    assert_eq!(machine.ending(), Some(Ending::End { commit: false }));
}

#[test]
fn version_1_raises_the_epoch_where_an_addition_was_not_answered() {
    for (version, answered, after_end) in [
        (TxnVersion::V1, false, Ending::Bump),
        (TxnVersion::V1, true, Ending::Nothing),
        (TxnVersion::V2, false, Ending::Nothing),
    ] {
        let mut machine = ready(version);
        machine.begin_offsets().unwrap();
        machine.addition_asked(1);
        machine.addition_asked(1);
        machine.addition_answered(1);
        if answered {
            machine.addition_answered(1);
        }
        machine.end_offsets(None);
        machine.begin_commit().unwrap();
        machine.end_asked();
        machine.end_answered();
        assert_eq!(machine.ending(), Some(after_end), "{version:?} {answered}");
        machine.ended();
        machine.begin(version).unwrap();
        // An answer that comes later is not this transaction's.
        machine.addition_asked(2);
        machine.addition_answered(1);
        machine.begin_commit().unwrap();
        assert_eq!(machine.unanswered, 1);
    }
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Init,
    Initialised,
    Begin,
    Commit,
    Abort,
    Write(usize),
    Add,
    Fail,
    EndAsked,
    EndAnswered,
    Ended,
    Offsets(bool),
    Die,
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => Just(Act::Init),
        2 => Just(Act::Initialised),
        4 => Just(Act::Begin),
        3 => Just(Act::Commit),
        3 => Just(Act::Abort),
        4 => (0..3_usize).prop_map(Act::Write),
        3 => Just(Act::Add),
        2 => Just(Act::Fail),
        3 => Just(Act::EndAsked),
        3 => Just(Act::EndAnswered),
        3 => Just(Act::Ended),
        2 => any::<bool>().prop_map(Act::Offsets),
        1 => Just(Act::Die),
        1 => Just(Act::Restart),
    ]
}

/// What a reader of the log cares about, kept beside the machine.
#[derive(Debug, Default)]
struct Model {
    open: bool,
    /// Something of the present transaction is lost.
    lost: bool,
    commit_asked: bool,
    dead: bool,
}

/// The shell's side of the bargain: it asks for an end only as the machine says, and tells of answers
/// only when it has asked.
fn run(version: TxnVersion, acts: Vec<Act>) -> Result<(), TestCaseError> {
    let mut machine = Transactions::new("tx", TxnVersion::V2);
    let mut model = Model::default();
    for act in acts {
        let number = machine.number();
        match act {
            Act::Init => drop(machine.begin_init()),
            Act::Initialised => machine.initialised(),
            Act::Begin => {
                let begun = machine.begin(version);
                if begun.is_ok() {
                    prop_assert!(!model.open && !model.dead, "two at once");
                    prop_assert_eq!(machine.number(), number + 1);
                    model = Model { open: true, ..Model::default() };
                }
            }
            Act::Commit => {
                let begun = machine.begin_commit();
                prop_assert!(begun.is_err() || (model.open && !model.lost), "{begun:?}");
            }
            Act::Abort => {
                let begun = machine.begin_abort();
                prop_assert!(begun.is_err() || (model.open && !model.commit_asked), "{begun:?}");
                prop_assert!(begun.is_ok() || !model.open || model.commit_asked || model.dead);
            }
            Act::Write(number) if machine.is_open() => drop(machine.may_write(slot(number))),
            Act::Add => {
                let slots = machine.additions();
                machine.added(&slots);
            }
            Act::Fail if machine.may_retry() && !model.commit_asked => {
                machine.batch_failed(&ProduceError::Abandoned, true);
                model.lost = true;
            }
            Act::EndAsked => match machine.ending() {
                Some(Ending::End { commit }) => {
                    prop_assert!(!(commit && model.lost), "a loss must not be committed");
                    machine.end_asked();
                    model.commit_asked |= commit;
                }
                Some(Ending::Bump) => prop_assert!(!model.commit_asked, "no loss, no bump"),
                _ => {}
            },
            Act::EndAnswered => {
                if let Some(Ending::End { commit }) = machine.ending() {
                    machine.end_asked();
                    machine.end_answered();
                    model.commit_asked |= commit;
                }
            }
            Act::Ended if matches!(machine.ending(), Some(Ending::Nothing | Ending::Bump)) => {
                machine.ended();
                model = Model { dead: model.dead, ..Model::default() };
            }
            Act::Offsets(known) => {
                let begun = machine.begin_offsets();
                if begun.is_ok() {
                    model.lost |= !known;
                    machine.end_offsets((!known).then(|| "unknown".to_owned()));
                }
            }
            Act::Die => {
                machine.die(Death::Fenced);
                model = Model { dead: true, ..Model::default() };
            }
            Act::Restart => {
                machine.restart();
                model = Model { dead: model.dead, ..Model::default() };
            }
            _ => {}
        }
        if model.dead {
            let fatal = machine.failure().map(|error| error.class());
            prop_assert_eq!(fatal, Some(ErrorClass::Fatal), "fenced is for good");
        }
        prop_assert!(machine.refusal().is_some() || (model.open && !model.lost && !model.dead));
        prop_assert!(machine.number() >= number);
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_loss_is_committed_and_fencing_is_for_good(
        is_v2: bool,
        acts in prop::collection::vec(act(), 0..60),
    ) {
        run(if is_v2 { TxnVersion::V2 } else { TxnVersion::V1 }, acts)?;
    }
}

//! Transactions whose time ends while the disk is full or gone.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use weir_broker::Ticket;
use weir_log::disk::{Fault, FaultKind};
use weir_protocol::api::end_txn::EndTxnRequest;
use weir_protocol::ErrorCode;

use crate::harness::*;
use crate::transactions::*;

/// Of real time. A tick takes microseconds; one that takes this long never ends.
const HANGS_AFTER: Duration = Duration::from_secs(20);

/// A broker with an open transaction of `tx`, which has written to `a`.
fn with_open_transaction() -> (Harness, Who) {
    let mut h = Harness::new();
    h.create("a", 1, &[]);
    h.create("b", 1, &[]);
    let who = h.init("tx", None).unwrap();
    assert_eq!(h.add("tx", who, &[("a", 0)]), [ErrorCode::None; 1]);
    assert_eq!(h.write(10, "tx", "a", transactional(who, 0, &["a1"])).error_code, 0);
    h.commit_all();
    (h, who)
}

fn ends(run: impl FnOnce() + Send + 'static) -> bool {
    let (done, is_done) = mpsc::channel();
    thread::spawn(move || {
        run();
        let _ = done.send(());
    });
    is_done.recv_timeout(HANGS_AFTER).is_ok()
}

#[test]
fn a_tick_ends_though_an_abort_cannot_be_written() {
    for kind in [FaultKind::Full, FaultKind::SyncError] {
        let run = move || {
            let (mut h, _) = with_open_transaction();
            h.disk.inject(Fault { after: 0, kind });
            assert_ne!(h.produce("b", 0, batch(&["x"])).error_code, 0);
            for _ in 0..10 {
                h.pass_ms(60_001);
            }
        };
        assert!(ends(run), "{kind:?}: the core hangs");
    }
}

#[test]
fn an_abort_that_found_no_room_comes_when_there_is() {
    let (mut h, _) = with_open_transaction();
    h.disk.inject(Fault { after: 0, kind: FaultKind::Full });
    h.pass_ms(60_001);
    h.commit_all();
    h.disk.clear_fault();
    for _ in 0..3 {
        h.pass_ms(250);
        h.commit_all();
    }
    assert_eq!(h.read("a", 0, 0).len(), 2, "the record, and one marker");
    assert!(h.committed("a").is_empty());
    assert_eq!(h.broker.stats().transactions.timed_out, 1);
    assert_eq!(h.broker.stats().transactions.ongoing, 0);
}

/// The end takes the place of the abort that is to be tried again.
#[test]
fn an_end_is_answered_while_an_abort_waits_to_be_tried_again() {
    for is_committed_before_the_retry in [false, true] {
        let (mut h, who) = with_open_transaction();
        h.disk.inject(Fault { after: 0, kind: FaultKind::Full });
        h.pass_ms(60_001);
        h.disk.clear_fault();
        let ticket: Ticket = h.call(3, &end_request("tx", who, true)).ticket();
        if is_committed_before_the_retry {
            h.commit_all();
        }
        h.pass_ms(250);
        for _ in 0..5 {
            h.commit_all();
            h.pass_ms(250);
        }
        let answer = h.answer::<EndTxnRequest>(ticket).expect("the end is answered");
        assert_eq!(code(answer.error_code), ErrorCode::None);
        assert_eq!(h.committed("a"), ["a1"]);
        assert_eq!(h.read("a", 0, 0).len(), 2, "the record, and one marker");
    }
}

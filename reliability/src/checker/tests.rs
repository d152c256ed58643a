//! A good history is good, and each way of breaking it is found as just that.

use super::*;

/// Sends of two producers to two partitions, read by two members of a group with one rebalance.
///
/// Partition 0 holds `a:0..8` at offsets 0..8 with keys `even` and `odd` by turns; partition 1 holds
/// `b:0..6`, all of one key, where `b:2` and `b:3` are in the log though nobody was told. `b:6` failed
/// for certain, and `b:7` is of unknown outcome and not in the log. `b:4` and `b:5` are one transaction.
fn good() -> Vec<Event> {
    let mut events = Vec::new();
    for seq in 0..8 {
        let key = if seq % 2 == 0 { "even" } else { "odd" };
        events.push(send("a", seq, 0, key, Outcome::Acked, Some(seq as i64)));
    }
    for seq in 0..8 {
        let (outcome, offset) = match seq {
            2 | 3 | 7 => (Outcome::Unknown, None),
            6 => (Outcome::Failed, None),
            _ => (Outcome::Acked, Some(seq as i64)),
        };
        let mut event = send("b", seq, 1, "only", outcome, offset);
        if let (Event::Send(send), 4 | 5) = (&mut event, seq) {
            send.txn = Some(1);
        }
        events.push(event);
    }
    events.push(assign("c0", &[0, 1]));
    events.push(poll("c0", 0, "a", 0..3));
    events.push(poll("c0", 0, "a", 3..5));
    events.push(poll("c0", 1, "b", 0..2));
    events.push(commit("c0", 0, 3));
    events.push(Event::Restart { kind: "kill".to_owned() });
    // A rebalance: c1 gets partition 0 and reads again what was not committed.
    events.push(assign("c1", &[0]));
    events.push(poll("c1", 0, "a", 3..8));
    events.push(commit("c1", 0, 5));
    events.push(assign("c0", &[1]));
    events.push(poll("c0", 1, "b", 0..6));
    for (partition, offset) in [(0, 5), (1, -1)] {
        events.push(Event::Committed { group: "g".to_owned(), partition, offset });
    }
    events.push(Event::Final { partition: 0, records: records("a", 0..4) });
    events.push(Event::Final { partition: 0, records: records("a", 4..8) });
    events.push(Event::Final { partition: 1, records: records("b", 0..6) });
    events.push(Event::End { partition: 0, offset: 8, read_to: None });
    events.push(Event::End { partition: 1, offset: 6, read_to: None });
    events
}

fn send(
    client: &str,
    seq: u64,
    partition: i32,
    key: &str,
    outcome: Outcome,
    offset: Option<i64>,
) -> Event {
    let (client, key) = (client.to_owned(), key.to_owned());
    Event::Send(Send { client, seq, partition, key, txn: None, outcome, offset })
}

fn assign(consumer: &str, partitions: &[i32]) -> Event {
    let (consumer, group) = (consumer.to_owned(), "g".to_owned());
    Event::Assign { consumer, group, partitions: partitions.to_vec() }
}

fn commit(consumer: &str, partition: i32, offset: i64) -> Event {
    Event::Commit { consumer: consumer.to_owned(), group: "g".to_owned(), partition, offset }
}

/// Offset and sequence are the same in the good history.
fn records(client: &str, offsets: std::ops::Range<i64>) -> Vec<(i64, String)> {
    offsets.map(|offset| (offset, format!("{client}:{offset}"))).collect()
}

fn poll(consumer: &str, partition: i32, client: &str, offsets: std::ops::Range<i64>) -> Event {
    let (consumer, group) = (consumer.to_owned(), "g".to_owned());
    Event::Poll { consumer, group, partition, records: records(client, offsets) }
}

fn verdict(events: Vec<Event>) -> Verdict {
    let mut checker = Checker::new();
    events.into_iter().for_each(|event| checker.add(event));
    checker.verdict()
}

/// Breaks the good history, and expects that to be found, once, and nothing else.
fn check(class: Class, break_it: impl FnOnce(&mut Vec<Event>)) {
    let mut events = good();
    break_it(&mut events);
    let verdict = verdict(events);
    assert_eq!(verdict.anomalies, BTreeMap::from([(class, 1)]), "{:?}", verdict.examples);
    assert_eq!(verdict.incomplete, Vec::<String>::new());
    assert!(verdict.examples[0].starts_with(&class.to_string()), "{:?}", verdict.examples);
}

/// Every list of records that was read of one partition: polls, then the final reads.
fn reads(events: &mut [Event], of: i32) -> Vec<&mut Vec<(i64, String)>> {
    all_of(events, of, |event| match event {
        Event::Poll { partition, records, .. } | Event::Final { partition, records } => {
            Some((*partition, records))
        }
        _ => None,
    })
}

fn finals(events: &mut [Event], of: i32) -> Vec<&mut Vec<(i64, String)>> {
    all_of(events, of, |event| match event {
        Event::Final { partition, records } => Some((*partition, records)),
        _ => None,
    })
}

fn all_of<T>(
    events: &mut [Event],
    of: i32,
    pick: impl FnMut(&mut Event) -> Option<(i32, &mut T)>,
) -> Vec<&mut T> {
    let of_it = |(partition, found)| (partition == of).then_some(found);
    events.iter_mut().filter_map(pick).filter_map(of_it).collect()
}

fn set_end(events: &mut [Event], of: i32, end: i64) {
    for event in events {
        if let Event::End { partition, offset, .. } = event {
            if *partition == of {
                *offset = end;
            }
        }
    }
}

fn sent<'a>(events: &'a mut [Event], who: &str, number: u64) -> &'a mut Send {
    for event in events {
        if let Event::Send(send) = event {
            if send.client == who && send.seq == number {
                return send;
            }
        }
    }
    panic!("{who}:{number} was not sent");
}

#[test]
fn a_good_history_is_good() {
    let verdict = verdict(good());
    assert!(verdict.is_good(), "{verdict:?}");
    let figures = Figures {
        sent: 16,
        acked: 12,
        failed: 1,
        unknown: 3,
        in_log: 14,
        polled: 18,
        commits: 2,
        restarts: 1,
    };
    assert_eq!(verdict.figures, figures);
}

#[test]
fn an_acked_record_missing_in_the_middle_is_a_lost_write() {
    check(Class::LostWrite, |events| {
        for records in reads(events, 0) {
            records.retain(|(offset, _)| *offset != 2);
        }
    });
}

#[test]
fn a_record_that_was_only_read_and_then_goes_is_a_lost_write() {
    check(Class::LostWrite, |events| {
        for records in finals(events, 1) {
            records.retain(|(offset, _)| *offset != 3);
        }
    });
}

#[test]
fn an_ack_without_an_offset_can_be_lost() {
    check(Class::LostWrite, |events| {
        sent(events, "a", 2).offset = None;
        for records in reads(events, 0) {
            records.retain(|(offset, _)| *offset != 2);
        }
    });
}

#[test]
fn an_acked_record_behind_the_end_is_unseen() {
    check(Class::Unseen, |events| {
        for records in reads(events, 0) {
            records.retain(|(offset, _)| *offset != 7);
        }
        set_end(events, 0, 7);
    });
}

#[test]
fn a_value_at_two_offsets_is_a_duplicate() {
    check(Class::Duplicate, |events| {
        finals(events, 0)[1].push((8, "a:1".to_owned()));
        set_end(events, 0, 9);
    });
}

#[test]
fn an_ack_that_names_another_offset_is_a_duplicate() {
    check(Class::Duplicate, |events| {
        let send = sent(events, "a", 7);
        send.offset = Some(9);
    });
}

#[test]
fn two_values_at_one_offset_are_inconsistent() {
    check(Class::InconsistentOffsets, |events| {
        let polls = reads(events, 1);
        // b:7 is of unknown outcome: it may have been there for a moment.
        *polls.into_iter().next().unwrap().last_mut().unwrap() = (1, "b:7".to_owned());
    });
}

#[test]
fn a_failed_send_that_is_read_is_an_aborted_read() {
    check(Class::AbortedRead, |events| {
        finals(events, 1)[0].push((6, "b:6".to_owned()));
        set_end(events, 1, 7);
    });
}

#[test]
fn an_unknown_send_may_be_read() {
    let mut events = good();
    finals(&mut events, 1)[0].push((6, "b:7".to_owned()));
    set_end(&mut events, 1, 7);
    assert!(verdict(events).is_good());
}

#[test]
fn a_value_nobody_sent_is_an_unsent_read() {
    for value in ["b:99", "stranger:0", "\u{fffd}"] {
        check(Class::UnsentRead, |events| {
            finals(events, 1)[0].push((6, value.to_owned()));
            set_end(events, 1, 7);
        });
    }
}

#[test]
fn records_of_a_key_in_another_order_are_a_reorder() {
    check(Class::Reorder, |events| {
        for records in reads(events, 1) {
            for (_, value) in records {
                match value.as_str() {
                    "b:2" => *value = "b:3".to_owned(),
                    "b:3" => *value = "b:2".to_owned(),
                    _ => {}
                }
            }
        }
    });
}

/// Swaps two acked neighbours wherever they are seen.
fn swap(events: &mut [Event], client: &str, partition: i32, first: u64) {
    let (one, two) = (format!("{client}:{first}"), format!("{client}:{}", first + 1));
    for records in reads(events, partition) {
        for (_, value) in records {
            if *value == one {
                value.clone_from(&two);
            } else if *value == two {
                value.clone_from(&one);
            }
        }
    }
    let offset = sent(events, client, first).offset;
    sent(events, client, first).offset = sent(events, client, first + 1).offset;
    sent(events, client, first + 1).offset = offset;
}

#[test]
fn a_later_send_at_a_lower_offset_is_nonmonotonic() {
    // Of two keys, so that it is no reorder.
    check(Class::NonmonotonicSend, |events| swap(events, "a", 0, 4));
}

#[test]
fn inside_a_transaction_it_is_an_internal_nonmonotonic_send() {
    check(Class::IntNonmonotonicSend, |events| {
        sent(events, "b", 5).key = "other".to_owned();
        swap(events, "b", 1, 4);
    });
}

#[test]
fn a_poll_that_goes_back_is_nonmonotonic() {
    check(Class::NonmonotonicPoll, |events| {
        let second = reads(events, 0).into_iter().nth(1).unwrap();
        *second = records("a", 2..5);
    });
}

#[test]
fn going_back_inside_a_poll_is_an_internal_nonmonotonic_poll() {
    check(Class::IntNonmonotonicPoll, |events| {
        let first = reads(events, 0).into_iter().next().unwrap();
        first.insert(2, (1, "a:1".to_owned()));
    });
}

#[test]
fn a_poll_that_leaves_out_what_others_read_is_a_skip() {
    check(Class::PollSkip, |events| {
        let second = reads(events, 0).into_iter().nth(1).unwrap();
        *second = records("a", 4..5);
    });
}

#[test]
fn leaving_out_inside_a_poll_is_an_internal_skip() {
    check(Class::IntPollSkip, |events| {
        let third = reads(events, 0).into_iter().nth(2).unwrap();
        third.remove(2);
    });
}

#[test]
fn a_gap_in_which_nobody_read_anything_is_no_skip() {
    let mut events = good();
    // A control record, say.
    for records in reads(&mut events, 1) {
        for (offset, _) in records.iter_mut() {
            *offset += i64::from(*offset >= 3);
        }
    }
    for (number, offset) in [(4, 5), (5, 6)] {
        sent(&mut events, "b", number).offset = Some(offset);
    }
    set_end(&mut events, 1, 7);
    let verdict = verdict(events);
    assert!(verdict.is_good(), "{verdict:?}");
}

#[test]
fn a_commit_past_what_no_member_read_is_a_group_skip() {
    check(Class::GroupSkip, |events| {
        // c0 stops before 3, and c1 begins at 4.
        for event in events {
            if let Event::Poll { consumer, partition: 0, records, .. } = event {
                let last_of_c0 = |offset: i64| consumer == "c0" && offset >= 3;
                records.retain(|(offset, _)| *offset != 3 && !last_of_c0(*offset));
            }
        }
    });
}

#[test]
fn a_commit_behind_the_end_is_found() {
    check(Class::CommitBeyondEnd, |events| {
        for event in events {
            if let Event::Committed { partition: 1, offset, .. } = event {
                *offset = 7;
            }
        }
    });
}

#[test]
fn a_commit_that_went_back_is_lost() {
    check(Class::LostCommit, |events| {
        for event in events {
            if let Event::Committed { partition: 0, offset, .. } = event {
                *offset = 4;
            }
        }
    });
}

#[test]
fn a_transaction_of_which_one_record_is_there_is_torn() {
    check(Class::TornTransaction, |events| {
        // Nobody was told of either: b:2 is in the log, b:7 is not.
        sent(events, "b", 2).txn = Some(2);
        sent(events, "b", 7).txn = Some(2);
    });
}

#[test]
fn a_transaction_of_unknown_outcome_may_be_there_or_not() {
    let mut events = good();
    for number in [2, 3] {
        sent(&mut events, "b", number).txn = Some(2);
    }
    for number in [6, 7] {
        sent(&mut events, "b", number).txn = Some(3);
    }
    assert!(verdict(events).is_good());
}

#[test]
fn control_records_may_end_a_partition() {
    let mut events = good();
    for event in &mut events {
        if let Event::End { partition: 1, offset, read_to } = event {
            (*offset, *read_to) = (8, Some(8));
        }
    }
    assert!(verdict(events).is_good());
}

#[test]
fn without_a_final_read_to_the_end_there_is_no_verdict() {
    let without = |unwanted: fn(&Event) -> bool| {
        let mut events = good();
        events.retain(|event| !unwanted(event));
        let verdict = verdict(events);
        assert!(!verdict.is_good());
        verdict.incomplete
    };
    let ends = without(|event| matches!(event, Event::End { partition: 1, .. }));
    assert_eq!(ends, ["partition 1 has no end"]);
    let asked = without(|event| matches!(event, Event::Committed { .. }));
    assert_eq!(asked.len(), 2, "{asked:?}");
    let mut events = good();
    set_end(&mut events, 0, 9);
    assert_eq!(verdict(events).incomplete, ["partition 0 ends at 9, and was read to 8"]);
    assert!(!verdict(Vec::new()).is_good(), "an empty history proves nothing");
}

#[test]
fn each_class_has_its_mutation() {
    let tests = include_str!("tests.rs");
    for class in Class::ALL {
        let check = format!("check(Class::{class:?}, ");
        assert!(tests.contains(&check), "no test breaks a history by {class}");
    }
}

#[test]
fn a_history_is_read_as_it_was_written() {
    let lines: Vec<String> =
        good().iter().map(|event| serde_json::to_string(event).unwrap()).collect();
    let mut read = Vec::new();
    crate::history::read(lines.join("\n").as_bytes(), |event| read.push(event)).unwrap();
    assert_eq!(read, good());
    assert_eq!(
        lines[2],
        r#"{"op":"send","client":"a","seq":2,"partition":0,"key":"even","outcome":"acked","offset":2}"#
    );
    let error = crate::history::read("{\"op\":\"end\"}".as_bytes(), |_| {}).unwrap_err();
    assert!(error.to_string().starts_with("line 1: missing field"), "{error}");
}

#[test]
fn names_of_classes_are_the_same_in_text_and_json() {
    for class in Class::ALL {
        assert_eq!(serde_json::to_string(&class).unwrap(), format!("\"{class}\""));
    }
}

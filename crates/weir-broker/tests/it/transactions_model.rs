//! Transactions against a small model: producers of both versions that take each other's transactional id, requests that are
//! sent before the answer to the last one is there, power cuts between any append and its sync, restarts.
//!
//! The model knows of each transaction what was written and how its end was answered. A reader of what is committed must
//! see, at the end, when nothing is open any more:
//!
//! - all of a transaction whose EndTxn(commit) was answered, once and in order;
//! - nothing of one whose EndTxn(abort) was answered, or whose end was never asked for;
//! - all or nothing of one whose commit was asked for and not answered. Its records and its offset alike.

use std::collections::BTreeMap;

use proptest::prelude::*;
use weir_broker::Ticket;
use weir_protocol::api::end_txn::EndTxnRequest;
use weir_protocol::api::produce::ProduceRequest;
use weir_protocol::{ErrorCode, Str};

use crate::harness::*;
use crate::transactions::*;

const TOPICS: [&str; 3] = ["t0", "t1", "t2"];
/// Which transactional id each client uses: the first two fight for one.
const IDS: [&str; 4] = ["shared", "shared", "two", "three"];

#[derive(Debug, Clone)]
enum Op {
    /// A transaction: writes to these topics, perhaps an offset, and an end.
    Transaction {
        who: usize,
        topics: Vec<usize>,
        offset: bool,
        end: Option<bool>,
        commits: usize,
    },
    /// The client begins anew.
    Init {
        who: usize,
    },
    /// The client repeats the end that was not answered.
    Repeat {
        who: usize,
    },
    /// A late write of a client that thinks its transaction is open.
    Late {
        who: usize,
    },
    Commit,
    PowerCut {
        seed: u64,
    },
    Reopen,
    Wait,
}

fn op() -> impl Strategy<Value = Op> {
    let who = 0..IDS.len();
    let topics = prop::collection::vec(0..TOPICS.len(), 1..4);
    let end = prop_oneof![3 => Just(Some(true)), 1 => Just(Some(false)), 1 => Just(None)];
    prop_oneof![
        10 => (who.clone(), topics, any::<bool>(), end, 0..4_usize).prop_map(
            |(who, topics, offset, end, commits)| Op::Transaction { who, topics, offset, end, commits }
        ),
        2 => who.clone().prop_map(|who| Op::Init { who }),
        3 => who.clone().prop_map(|who| Op::Repeat { who }),
        1 => who.prop_map(|who| Op::Late { who }),
        4 => Just(Op::Commit),
        3 => any::<u64>().prop_map(|seed| Op::PowerCut { seed }),
        1 => Just(Op::Reopen),
        1 => Just(Op::Wait),
    ]
}

/// What may have become of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Committed,
    NotCommitted,
    /// Its commit was asked for, and not answered.
    Either,
}

#[derive(Debug)]
struct Written {
    /// Topic and value of each record that was acknowledged.
    records: Vec<(usize, String)>,
    /// The group and the offset that were acknowledged.
    offset: Option<(String, i64)>,
    fate: Fate,
}

#[derive(Debug, Default, Clone)]
struct Client {
    producer: Option<Who>,
    /// The next sequence in each topic.
    sequences: [i32; TOPICS.len()],
    /// The transaction that is open, or whose end was not answered.
    open: Option<usize>,
    /// The end that was asked for, and not answered.
    asked: Option<bool>,
}

struct Model {
    h: Harness,
    clients: Vec<Client>,
    transactions: Vec<Written>,
}

impl Model {
    fn new() -> Self {
        let mut h = Harness::new();
        for topic in TOPICS {
            h.create(topic, 1, &[]);
        }
        Self { h, clients: vec![Client::default(); IDS.len()], transactions: Vec::new() }
    }

    /// Every client of an odd number follows version 1.
    fn is_v2(who: usize) -> bool {
        who.is_multiple_of(2)
    }

    fn init(&mut self, who: usize) {
        for _ in 0..3 {
            let answer = self.h.ask(5, &init_request(IDS[who], None));
            match code(answer.error_code) {
                ErrorCode::None => {
                    let producer = Some((answer.producer_id, answer.producer_epoch));
                    self.clients[who] = Client { producer, ..Client::default() };
                    return;
                }
                ErrorCode::ConcurrentTransactions => self.h.commit_all(),
                error => panic!("{error}"),
            }
        }
        panic!("a transaction does not end");
    }

    fn transaction(
        &mut self,
        who: usize,
        topics: &[usize],
        offset: bool,
        end: Option<bool>,
        commits: usize,
    ) {
        if self.clients[who].asked.is_some() {
            self.repeat(who);
        }
        if self.clients[who].producer.is_none() {
            self.init(who);
        }
        if self.clients[who].open.is_none() {
            self.clients[who].open = Some(self.transactions.len());
            let fate = Fate::NotCommitted;
            self.transactions.push(Written { records: Vec::new(), offset: None, fate });
        }
        for topic in topics {
            if !self.write(who, *topic) {
                return;
            }
        }
        if offset && !self.write_offset(who) {
            return;
        }
        if let Some(commit) = end {
            self.end(who, commit, commits);
        }
    }

    /// Writes one record and waits for its answer. False if the client has to begin anew.
    fn write(&mut self, who: usize, topic: usize) -> bool {
        let Client { producer: Some(producer), open: Some(open), sequences, .. } =
            self.clients[who].clone()
        else {
            return false;
        };
        let added = Self::is_v2(who)
            || self.h.add(IDS[who], producer, &[(TOPICS[topic], 0)]) == [ErrorCode::None];
        let value = format!("{open}-{}", self.transactions[open].records.len());
        let version = if Self::is_v2(who) { 12 } else { 10 };
        let batch = transactional(producer, sequences[topic], &[&value]);
        if !added || self.h.write(version, IDS[who], TOPICS[topic], batch).error_code != 0 {
            self.clients[who] = Client::default(); // Fenced, or timed out.
            return false;
        }
        self.clients[who].sequences[topic] += 1;
        self.transactions[open].records.push((topic, value));
        true
    }

    fn write_offset(&mut self, who: usize) -> bool {
        let Client { producer: Some(producer), open: Some(open), .. } = self.clients[who].clone()
        else {
            return false;
        };
        let group = format!("group-{who}");
        let offset = open as i64 + 1;
        let request = offsets_request(IDS[who], producer, &group, TOPICS[0], offset);
        let version = if Self::is_v2(who) { 5 } else { 3 };
        let added = Self::is_v2(who) || {
            let add = weir_protocol::api::add_offsets_to_txn::AddOffsetsToTxnRequest {
                transactional_id: Str::from_static(IDS[who]),
                producer_id: producer.0,
                producer_epoch: producer.1,
                group_id: Str::copy_from(&group),
            };
            self.h.ask(3, &add).error_code == 0
        };
        if !added || self.h.ask(version, &request).topics[0].partitions[0].error_code != 0 {
            self.clients[who] = Client::default();
            return false;
        }
        self.transactions[open].offset = Some((group, offset));
        true
    }

    /// Asks for the end, and lets so many commits run. The answer may come with them or not at all.
    fn end(&mut self, who: usize, commit: bool, commits: usize) {
        let Client { producer: Some(producer), open: Some(open), .. } = self.clients[who].clone()
        else {
            return;
        };
        if commit {
            self.transactions[open].fate = Fate::Either;
        }
        self.clients[who].asked = Some(commit);
        let version = if Self::is_v2(who) { 5 } else { 3 };
        let ticket: Ticket = match self.h.call(version, &end_request(IDS[who], producer, commit)) {
            Called::Answered(answer) => {
                let next = (answer.producer_id, answer.producer_epoch);
                return self.ended(who, commit, code(answer.error_code), next);
            }
            Called::Parked(ticket) => ticket,
            other => panic!("{other:?}"),
        };
        for _ in 0..commits {
            self.h.commit();
        }
        if let Some(answer) = self.h.answer::<EndTxnRequest>(ticket) {
            let next = (answer.producer_id, answer.producer_epoch);
            self.ended(who, commit, code(answer.error_code), next);
        }
    }

    fn ended(&mut self, who: usize, commit: bool, error: ErrorCode, next: Who) {
        let Some(open) = self.clients[who].open else { return };
        match error {
            ErrorCode::None => {
                self.transactions[open].fate =
                    if commit { Fate::Committed } else { Fate::NotCommitted };
                let client = &mut self.clients[who];
                (client.open, client.asked) = (None, None);
                if Self::is_v2(who) {
                    (client.producer, client.sequences) = (Some(next), Default::default());
                }
            }
            ErrorCode::ConcurrentTransactions => {}
            // Fenced, or a timeout has aborted it: the client cannot know which, and begins anew.
            _ => self.clients[who] = Client::default(),
        }
    }

    fn repeat(&mut self, who: usize) {
        for _ in 0..3 {
            let Some(commit) = self.clients[who].asked else { return };
            self.end(who, commit, 4);
            self.h.commit_all();
        }
        assert!(self.clients[who].asked.is_none(), "an end does not end");
    }

    /// What is not answered: the client loses its ticket with the broker.
    fn restarted(&mut self, restart: impl FnOnce(Harness) -> Harness) {
        let h = std::mem::replace(&mut self.h, Harness::new());
        self.h = restart(h);
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Transaction { who, topics, offset, end, commits } => {
                self.transaction(who, &topics, offset, end, commits);
            }
            Op::Init { who } => self.init(who),
            Op::Repeat { who } => self.repeat(who),
            Op::Late { who } => {
                // Sent without waiting for anything, and never repeated; so it is no part of what was acknowledged. If it
                // is taken, it belongs to the open transaction, whose end then decides.
                let Client { producer: Some(producer), open: Some(open), sequences, .. } =
                    self.clients[who].clone()
                else {
                    return;
                };
                if self.clients[who].asked.is_some() {
                    return;
                }
                let value = format!("{open}-late");
                let version = if Self::is_v2(who) { 12 } else { 10 };
                let batch = transactional(producer, sequences[0], &[&value]);
                let mut request: ProduceRequest = produce_request(TOPICS[0], 0, 1, batch);
                request.transactional_id = Some(Str::from_static(IDS[who]));
                let answer = first(self.h.call(version, &request).answer());
                if answer.error_code == 0 {
                    self.clients[who].sequences[0] += 1;
                    self.transactions[open].records.push((0, value));
                }
            }
            Op::Commit => self.h.commit(),
            Op::PowerCut { seed } => {
                self.restarted(|h| h.after_power_cut(seed));
                // What was answered at acks=1 may be gone, and its client begins anew.
                for client in &mut self.clients {
                    let late = client.open.is_some_and(|open| {
                        self.transactions[open].records.iter().any(|(_, v)| v.ends_with("late"))
                    });
                    if late && client.asked.is_none() {
                        *client = Client::default();
                    }
                }
            }
            Op::Reopen => self.restarted(Harness::reopened),
            Op::Wait => self.h.pass_ms(20_000),
        }
    }

    /// Ends all that is open, and compares.
    fn check(mut self) -> Result<(), TestCaseError> {
        self.h.commit_all();
        for who in 0..IDS.len() {
            self.repeat(who);
            self.init(who);
        }
        self.h.commit_all();
        let mut seen: BTreeMap<usize, Vec<(usize, String)>> = BTreeMap::new();
        for (topic, name) in TOPICS.iter().enumerate() {
            for value in self.h.committed(name) {
                let transaction = value.split('-').next().unwrap().parse().unwrap();
                seen.entry(transaction).or_default().push((topic, value));
            }
        }
        let mut groups: BTreeMap<String, i64> = BTreeMap::new();
        for (number, transaction) in self.transactions.iter().enumerate() {
            let mut wanted = transaction.records.clone();
            wanted.sort_by_key(|(topic, _)| *topic);
            let got = seen.remove(&number).unwrap_or_default();
            let is_there = match transaction.fate {
                Fate::Committed => true,
                Fate::NotCommitted => false,
                Fate::Either => !got.is_empty(),
            };
            let wanted = if is_there { wanted } else { Vec::new() };
            prop_assert_eq!(&got, &wanted, "transaction {} {:?}", number, transaction);
            if let Some((group, offset)) = transaction.offset.as_ref().filter(|_| is_there) {
                groups.insert(group.clone(), *offset);
            }
        }
        prop_assert!(seen.is_empty(), "nobody wrote {seen:?}");
        for who in 0..IDS.len() {
            let group = format!("group-{who}");
            let (error, offset) = self.h.offset_of(&group, TOPICS[0], true);
            let wanted = groups.get(&group).copied().unwrap_or(-1);
            prop_assert_eq!((error, offset), (ErrorCode::None, wanted), "{}", group);
        }
        Ok(())
    }
}

fn check(ops: Vec<Op>) -> Result<(), TestCaseError> {
    let mut model = Model::new();
    for op in ops {
        model.run(op);
    }
    model.check()
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 400, ..ProptestConfig::default() })]
    #[test]
    fn readers_see_all_or_nothing_of_a_transaction(ops in prop::collection::vec(op(), 1..40)) {
        check(ops)?;
    }
}

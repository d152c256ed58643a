//! The checker: which promises a history breaks.
//!
//! The classes are those of Jepsen's `kafka` workload, without its cycles over transactions, plus
//! five of our own about groups, stray records and torn transactions. Two rules keep it honest: a send of unknown outcome
//! is neither lost nor aborted, and a gap in the offsets is no fault by itself (a log may have
//! gaps), only a gap where somebody has read a record.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use serde::Serialize;

use crate::history::{Event, Outcome, Send};

mod intern;
#[cfg(test)]
mod tests;

use intern::{Names, Value};

/// How many examples of each class are kept.
const EXAMPLES_MAX: usize = 5;

/// A way to break a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Acknowledged, or read by somebody, and not in the log at the end, though later records are.
    LostWrite,
    /// Acknowledged, and the log ends before it.
    Unseen,
    /// One value at two offsets.
    Duplicate,
    /// Two values at one offset.
    InconsistentOffsets,
    /// Failed for certain, and read.
    AbortedRead,
    /// Read, and sent by nobody.
    UnsentRead,
    /// Records of one producer and key that lie in another order than they were sent.
    Reorder,
    /// One producer's later send was acknowledged at a lower offset of the same partition.
    NonmonotonicSend,
    /// The same inside one transaction.
    IntNonmonotonicSend,
    /// A poll went back, without a new assignment.
    NonmonotonicPoll,
    /// The same inside one poll.
    IntNonmonotonicPoll,
    /// A poll left out records that others have read, without a new assignment.
    PollSkip,
    /// The same inside one poll.
    IntPollSkip,
    /// A group has committed past a record that none of its members was given.
    GroupSkip,
    /// A committed offset is beyond the end of the log.
    CommitBeyondEnd,
    /// A group's committed offset is lower at the end than one that was acknowledged.
    LostCommit,
    /// Some records of a transaction are in the log for readers of what is committed, and some are not.
    TornTransaction,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 17] = [
        Class::LostWrite,
        Class::Unseen,
        Class::Duplicate,
        Class::InconsistentOffsets,
        Class::AbortedRead,
        Class::UnsentRead,
        Class::Reorder,
        Class::NonmonotonicSend,
        Class::IntNonmonotonicSend,
        Class::NonmonotonicPoll,
        Class::IntNonmonotonicPoll,
        Class::PollSkip,
        Class::IntPollSkip,
        Class::GroupSkip,
        Class::CommitBeyondEnd,
        Class::LostCommit,
        Class::TornTransaction,
    ];
}

/// What was done, for judging what the verdict is worth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Records sent.
    pub sent: u64,
    /// Of them acknowledged.
    pub acked: u64,
    /// Of them failed for certain.
    pub failed: u64,
    /// Of them without a known outcome.
    pub unknown: u64,
    /// Records in the log at the end.
    pub in_log: u64,
    /// Records that consumers of groups were given, repeats included.
    pub polled: u64,
    /// Commits acknowledged.
    pub commits: u64,
    /// Times the broker was ended and started again.
    pub restarts: u64,
}

/// What a history shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// What was done.
    pub figures: Figures,
    /// How often each class was met; a class that was not is not there.
    pub anomalies: BTreeMap<Class, u64>,
    /// Some of them in words.
    pub examples: Vec<String>,
    /// What the history lacks for a verdict. Without a final read to the end nothing is proved.
    pub incomplete: Vec<String>,
}

impl Verdict {
    /// Whether nothing was found, and nothing was missing for finding it.
    pub fn is_good(&self) -> bool {
        self.anomalies.is_empty() && self.incomplete.is_empty()
    }

    /// How often a class was met.
    pub fn count(&self, class: Class) -> u64 {
        self.anomalies.get(&class).copied().unwrap_or(0)
    }
}

type Place = (i32, i64);

#[derive(Debug)]
struct Sent {
    partition: i32,
    key: u32,
    txn: Option<u64>,
    outcome: Outcome,
    offset: Option<i64>,
}

/// Polls of one partition by one group.
#[derive(Debug, Default)]
struct Progress {
    polled: Vec<i64>,
    /// The highest commit that was acknowledged.
    acked_commit: Option<i64>,
    committed: Option<i64>,
}

/// Offsets that a consumer passed over.
#[derive(Debug)]
struct Gap {
    consumer: u32,
    partition: i32,
    from: i64,
    to: i64,
    is_internal: bool,
}

/// Takes events in and gives the verdict at the end. Memory: some 150 bytes per record.
#[derive(Debug, Default)]
pub struct Checker {
    names: Names,
    figures: Figures,
    sent: HashMap<Value, Sent>,
    /// The value first seen at a place, and the place at which a value was first seen.
    value_at: HashMap<Place, Value>,
    place_of: HashMap<Value, Place>,
    /// Values that some consumer or the final read saw.
    read: HashSet<Value>,
    logs: HashMap<i32, Vec<(i64, Value)>>,
    ends: HashMap<i32, i64>,
    /// How far the final read came, where it says so.
    read_to: HashMap<i32, i64>,
    positions: HashMap<(u32, i32), i64>,
    gaps: Vec<Gap>,
    progress: BTreeMap<(u32, i32), Progress>,
    inconsistent: HashSet<Place>,
    duplicated: HashSet<Value>,
    found: Found,
}

impl Checker {
    /// A checker that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one event. Events of one client must come in its order.
    pub fn add(&mut self, event: Event) {
        match event {
            Event::Send(send) => self.add_send(&send),
            Event::Assign { consumer, .. } => {
                let consumer = self.names.id(&consumer);
                self.positions.retain(|(who, _), _| *who != consumer);
            }
            Event::Poll { consumer, group, partition, records } => {
                self.add_poll(&consumer, &group, partition, &records);
            }
            Event::Commit { group, partition, offset, .. } => {
                self.figures.commits += 1;
                let commit = &mut self.progress(&group, partition).acked_commit;
                *commit = (*commit).max(Some(offset));
            }
            Event::Committed { group, partition, offset } => {
                self.progress(&group, partition).committed = Some(offset);
            }
            Event::Final { partition, records } => {
                for (offset, value) in records {
                    let value = self.names.value(&value);
                    self.see((partition, offset), value);
                    self.read.insert(value);
                    self.logs.entry(partition).or_default().push((offset, value));
                    self.figures.in_log += 1;
                }
            }
            Event::End { partition, offset, read_to } => {
                self.ends.insert(partition, offset);
                if let Some(read_to) = read_to {
                    self.read_to.insert(partition, read_to);
                }
            }
            Event::Restart { .. } => self.figures.restarts += 1,
        }
    }

    fn progress(&mut self, group: &str, partition: i32) -> &mut Progress {
        let group = self.names.id(group);
        self.progress.entry((group, partition)).or_default()
    }

    fn add_send(&mut self, send: &Send) {
        let value = Value { client: self.names.id(&send.client), seq: send.seq };
        let figure = match send.outcome {
            Outcome::Acked => &mut self.figures.acked,
            Outcome::Failed => &mut self.figures.failed,
            Outcome::Unknown => &mut self.figures.unknown,
        };
        *figure += 1;
        self.figures.sent += 1;
        if let (Outcome::Acked, Some(offset)) = (send.outcome, send.offset) {
            self.see((send.partition, offset), value);
        }
        let sent = Sent {
            partition: send.partition,
            key: self.names.id(&send.key),
            txn: send.txn,
            outcome: send.outcome,
            offset: send.offset,
        };
        self.sent.insert(value, sent);
    }

    fn add_poll(&mut self, consumer: &str, group: &str, partition: i32, records: &[(i64, String)]) {
        let who = self.names.id(consumer);
        self.figures.polled += records.len() as u64;
        self.progress(group, partition).polled.extend(records.iter().map(|(offset, _)| *offset));
        let mut last = self.positions.get(&(who, partition)).copied();
        for (index, (offset, value)) in records.iter().enumerate() {
            let value = self.names.value(value);
            self.see((partition, *offset), value);
            self.read.insert(value);
            let is_internal = index > 0;
            match last {
                Some(last) if *offset <= last => {
                    let class = match is_internal {
                        true => Class::IntNonmonotonicPoll,
                        false => Class::NonmonotonicPoll,
                    };
                    self.found.add(class, || {
                        format!(
                            "{consumer} read offset {offset} of partition {partition} after {last}"
                        )
                    });
                }
                Some(last) if *offset > last + 1 => {
                    let (from, to) = (last + 1, *offset);
                    self.gaps.push(Gap { consumer: who, partition, from, to, is_internal });
                }
                _ => {}
            }
            last = Some(*offset);
        }
        if let Some(last) = last {
            self.positions.insert((who, partition), last);
        }
    }

    /// A value was seen at a place: by its producer, a consumer, or the final read.
    fn see(&mut self, place: Place, value: Value) {
        let first = *self.value_at.entry(place).or_insert(value);
        let (partition, offset) = place;
        let names = &self.names;
        if first != value && self.inconsistent.insert(place) {
            self.found.add(Class::InconsistentOffsets, || {
                let (first, value) = (names.show(first), names.show(value));
                format!("offset {offset} of partition {partition} was {first} and {value}")
            });
        }
        let first = *self.place_of.entry(value).or_insert(place);
        if first != place && self.duplicated.insert(value) {
            self.found.add(Class::Duplicate, || {
                let value = names.show(value);
                format!("{value} at {}:{} and at {partition}:{offset}", first.0, first.1)
            });
        }
    }

    /// The verdict on everything added.
    pub fn verdict(mut self) -> Verdict {
        for log in self.logs.values_mut() {
            log.sort_unstable_by_key(|(offset, _)| *offset);
        }
        let incomplete = self.incomplete();
        self.check_losses();
        self.check_reads();
        self.check_transactions();
        self.check_order_in_log();
        self.check_order_of_acks();
        self.check_gaps();
        self.check_groups();
        let Found { counts, mut examples } = self.found;
        examples.sort();
        Verdict {
            figures: self.figures,
            anomalies: counts,
            examples: examples.into_iter().map(|(_, text)| text).collect(),
            incomplete,
        }
    }

    fn incomplete(&self) -> Vec<String> {
        let mut lacks = Vec::new();
        if self.figures.acked == 0 {
            lacks.push("no send was acknowledged".to_owned());
        }
        let mut partitions: Vec<i32> = self.sent.values().map(|sent| sent.partition).collect();
        partitions.sort_unstable();
        partitions.dedup();
        for partition in partitions {
            let last_read =
                self.logs.get(&partition).and_then(|log| log.last()).map_or(0, |(at, _)| at + 1);
            let read_to = self.read_to.get(&partition).copied().unwrap_or(last_read);
            match self.ends.get(&partition) {
                None => lacks.push(format!("partition {partition} has no end")),
                Some(end) if read_to < *end => {
                    lacks.push(format!(
                        "partition {partition} ends at {end}, and was read to {read_to}"
                    ));
                }
                Some(_) => {}
            }
        }
        for (group, partition) in self.progress.keys() {
            let is_known = self
                .progress
                .iter()
                .any(|((of, _), progress)| of == group && progress.committed.is_some());
            if !is_known {
                let group = self.names.name(*group);
                lacks.push(format!(
                    "what {group} has committed in partition {partition} was not asked"
                ));
            }
        }
        lacks
    }

    fn check_losses(&mut self) {
        let in_log: HashSet<Value> =
            self.logs.values().flatten().map(|(_, value)| *value).collect();
        let occupied: HashSet<Place> = self
            .logs
            .iter()
            .flat_map(|(partition, log)| log.iter().map(|(offset, _)| (*partition, *offset)))
            .collect();
        for (value, sent) in &self.sent {
            if in_log.contains(value) {
                continue;
            }
            let is_acked = sent.outcome == Outcome::Acked;
            let place = match sent.offset {
                Some(offset) if is_acked => Some((sent.partition, offset)),
                _ => self.place_of.get(value).copied(),
            };
            // Read, never acknowledged, and something else in its place: that is told as such.
            let is_replaced = place.is_some_and(|place| occupied.contains(&place));
            if !is_acked && (!self.read.contains(value) || is_replaced) {
                continue;
            }
            let last = self.logs.get(&sent.partition).and_then(|log| log.last()).map(|(at, _)| *at);
            let is_after_end =
                place.is_some_and(|(_, offset)| last.is_none_or(|last| offset > last));
            let class = if is_after_end { Class::Unseen } else { Class::LostWrite };
            let names = &self.names;
            self.found.add(class, || {
                let how = if is_acked { "acknowledged" } else { "read" };
                format!("{} was {how} at {place:?} (partition, offset)", names.show(*value))
            });
        }
    }

    fn check_reads(&mut self) {
        for value in &self.read {
            let class = match self.sent.get(value) {
                None => Class::UnsentRead,
                Some(sent) if sent.outcome == Outcome::Failed => Class::AbortedRead,
                Some(_) => continue,
            };
            let names = &self.names;
            self.found.add(class, || format!("{} was read", names.show(*value)));
        }
    }

    /// Whatever became of a transaction, all of it did.
    fn check_transactions(&mut self) {
        let mut transactions: BTreeMap<(u32, u64), (u64, u64)> = BTreeMap::new();
        let in_log: HashSet<Value> =
            self.logs.values().flatten().map(|(_, value)| *value).collect();
        for (value, sent) in &self.sent {
            let Some(txn) = sent.txn else { continue };
            let (all, there) = transactions.entry((value.client, txn)).or_default();
            *all += 1;
            *there += u64::from(in_log.contains(value));
        }
        for ((client, txn), (all, there)) in transactions {
            if there > 0 && there < all {
                let client = self.names.name(client);
                self.found.add(Class::TornTransaction, || {
                    format!(
                        "{there} of {all} records of transaction {txn} of {client} are in the log"
                    )
                });
            }
        }
    }

    /// Records of one producer and key, as they lie in the log. A repeat of a value is a duplicate, no reorder.
    fn check_order_in_log(&mut self) {
        let mut seen = HashSet::new();
        for (partition, log) in &self.logs {
            let mut last: HashMap<(u32, u32), u64> = HashMap::new();
            for (offset, value) in log {
                let Some(sent) = self.sent.get(value) else { continue };
                if !seen.insert(*value) {
                    continue;
                }
                let before = last.entry((value.client, sent.key)).or_insert(value.seq);
                if value.seq < *before {
                    let (names, before) = (&self.names, *before);
                    self.found.add(Class::Reorder, || {
                        let value = names.show(*value);
                        format!("{value} at {partition}:{offset} lies behind number {before} of its key")
                    });
                }
                *before = (*before).max(value.seq);
            }
        }
    }

    fn check_order_of_acks(&mut self) {
        let mut acked: Vec<(u32, i32, u64, i64, Option<u64>)> = self
            .sent
            .iter()
            .filter(|(_, sent)| sent.outcome == Outcome::Acked)
            .filter_map(|(value, sent)| {
                Some((value.client, sent.partition, value.seq, sent.offset?, sent.txn))
            })
            .collect();
        acked.sort_unstable();
        for pair in acked.windows(2) {
            let [(client, partition, seq, offset, txn), (client2, partition2, seq2, offset2, txn2)] =
                pair
            else {
                continue;
            };
            if (client, partition) != (client2, partition2) || offset < offset2 {
                continue;
            }
            let class = match txn.is_some() && txn == txn2 {
                true => Class::IntNonmonotonicSend,
                false => Class::NonmonotonicSend,
            };
            let client = self.names.name(*client);
            self.found.add(class, || {
                format!("{client}:{seq} got {partition}:{offset}, and then {client}:{seq2} got {partition}:{offset2}")
            });
        }
    }

    fn check_gaps(&mut self) {
        let mut read: HashMap<i32, Vec<i64>> = HashMap::new();
        if self.gaps.is_empty() {
            return;
        }
        for ((_, partition), progress) in &self.progress {
            read.entry(*partition).or_default().extend(&progress.polled);
        }
        for (partition, log) in &self.logs {
            read.entry(*partition).or_default().extend(log.iter().map(|(offset, _)| *offset));
        }
        read.values_mut().for_each(|offsets| offsets.sort_unstable());
        for Gap { consumer, partition, from, to, is_internal } in &self.gaps {
            let Some(offsets) = read.get(partition) else { continue };
            let next = offsets.partition_point(|offset| offset < from);
            if offsets.get(next).is_none_or(|offset| offset >= to) {
                continue;
            }
            let class = if *is_internal { Class::IntPollSkip } else { Class::PollSkip };
            let consumer = self.names.name(*consumer);
            self.found.add(class, || {
                format!("{consumer} went from {partition}:{} to {partition}:{to}", from - 1)
            });
        }
    }

    fn check_groups(&mut self) {
        for ((group, partition), progress) in &mut self.progress {
            let group = self.names.name(*group);
            let Progress { polled, acked_commit, committed } = progress;
            if *acked_commit > *committed {
                self.found.add(Class::LostCommit, || {
                    format!("{group} committed {acked_commit:?} in partition {partition}, and has {committed:?}")
                });
            }
            let Some(committed) = (*committed).max(*acked_commit) else { continue };
            if let Some(end) = self.ends.get(partition).filter(|end| committed > **end) {
                self.found.add(Class::CommitBeyondEnd, || {
                    format!("{group} has committed {committed} in partition {partition}, which ends at {end}")
                });
            }
            polled.sort_unstable();
            let log = self.logs.get(partition).map(Vec::as_slice).unwrap_or_default();
            for (offset, _) in log.iter().take_while(|(offset, _)| *offset < committed) {
                if polled.binary_search(offset).is_err() {
                    self.found.add(Class::GroupSkip, || {
                        format!("{group} has committed {committed} in partition {partition} without reading {offset}")
                    });
                }
            }
        }
    }
}

/// What was found so far.
#[derive(Debug, Default)]
struct Found {
    counts: BTreeMap<Class, u64>,
    examples: Vec<(Class, String)>,
}

impl Found {
    fn add(&mut self, class: Class, describe: impl FnOnce() -> String) {
        let count = self.counts.entry(class).or_default();
        *count += 1;
        if *count <= EXAMPLES_MAX as u64 {
            self.examples.push((class, format!("{class}: {}", describe())));
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As in JSON: kebab-case of the name.
        for (index, c) in format!("{self:?}").chars().enumerate() {
            match (index, c.is_uppercase()) {
                (0, _) | (_, false) => write!(f, "{}", c.to_ascii_lowercase())?,
                (_, true) => write!(f, "-{}", c.to_ascii_lowercase())?,
            }
        }
        Ok(())
    }
}

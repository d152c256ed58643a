//! Finds positions in the background: where partitions start, and whether what was read is there still.
//!
//! # What holds
//! - Each broker is asked by itself, and each partition has an answer of its own: one that cannot be
//!   found holds up no other.
//! - A question that is under way is not asked again. A partition that was sought meanwhile, or whose
//!   leader has moved, is another question.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use tokio::task::JoinSet;
use weir_protocol::api::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition,
    OffsetForLeaderTopic,
};
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{NodeId, Offset, TimestampMs};

use super::{Inner, TopicPartition};
use crate::admin::{offsets_of_leader, Each, OffsetSpec};
use crate::client::Lane;
use crate::clock::{Clock, SystemClock};
use crate::config::AutoOffsetReset;
use crate::error::ClientError;
use crate::fetcher::{Check, Start};

/// Whom to ask, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Target {
    /// The coordinator, for committed offsets.
    Coordinator,
    /// A leader, for offsets by time or at an end.
    Offsets(NodeId),
    /// A leader, for the ends of epochs (KIP-320).
    Epochs(NodeId),
    /// Nobody leads the partition now.
    Nobody,
}

#[derive(Debug)]
struct Question {
    partition: TopicPartition,
    /// That of the partition when it was asked.
    epoch: u64,
    about: About,
}

#[derive(Debug)]
enum About {
    Committed,
    Offset(OffsetSpec),
    End(Check),
    Leader,
}

type Key = (Target, TopicPartition, u64);

/// Asks what there is to ask, for ever.
pub(super) async fn find(inner: Arc<Inner>) {
    let mut work = inner.work.subscribe();
    let mut asked: HashSet<Key> = HashSet::new();
    let mut failures: BTreeMap<Target, u32> = BTreeMap::new();
    let mut calls = JoinSet::new();
    loop {
        work.mark_unchanged();
        for (target, questions) in questions(&inner, &asked) {
            let key = |question: &Question| (target, question.partition.clone(), question.epoch);
            let keys: Vec<Key> = questions.iter().map(key).collect();
            asked.extend(keys.iter().cloned());
            let failed = failures.get(&target).copied().unwrap_or(0);
            let inner = Arc::clone(&inner);
            calls.spawn(async move {
                let is_answered = ask(&inner, target, &questions, failed).await;
                (target, keys, is_answered)
            });
        }
        tokio::select! {
            changed = work.changed() => if changed.is_err() { return },
            Some(Ok((target, keys, is_answered))) = calls.join_next() => {
                keys.iter().for_each(|key| { asked.remove(key); });
                match is_answered {
                    true => { failures.remove(&target); }
                    false => *failures.entry(target).or_default() += 1,
                }
            }
        }
    }
}

/// What is to be asked and is not being asked, by whom to ask.
fn questions(inner: &Inner, asked: &HashSet<Key>) -> BTreeMap<Target, Vec<Question>> {
    let view = inner.client.view();
    let mut questions: BTreeMap<Target, Vec<Question>> = BTreeMap::new();
    let mut add = |target, question: Question| {
        if !asked.contains(&(target, question.partition.clone(), question.epoch)) {
            questions.entry(target).or_default().push(question);
        }
    };
    let mut state = inner.state();
    for (partition, epoch, start) in state.unresolved() {
        if start == Start::Committed {
            let about = About::Committed;
            add(Target::Coordinator, Question { partition, epoch, about });
            continue;
        }
        let Some(spec) = spec(start) else {
            state.no_committed(&partition, epoch);
            inner.arrived.notify_waiters();
            continue;
        };
        let known = view.topics.get(&partition.topic);
        match known.and_then(|topic| topic.partition(partition.partition)?.leader) {
            Some(leader) => {
                let about = About::Offset(spec);
                add(Target::Offsets(leader), Question { partition, epoch, about });
            }
            None => add(Target::Nobody, Question { partition, epoch, about: About::Leader }),
        }
    }
    for check in state.to_check(&view) {
        let (partition, epoch) = (check.partition.clone(), check.epoch);
        match check.leader {
            Some(leader) => {
                let about = About::End(check);
                add(Target::Epochs(leader), Question { partition, epoch, about });
            }
            None => add(Target::Nobody, Question { partition, epoch, about: About::Leader }),
        }
    }
    questions
}

/// None where nothing says where to start.
fn spec(start: Start) -> Option<OffsetSpec> {
    match start {
        Start::Committed | Start::Reset(AutoOffsetReset::None) => None,
        Start::Reset(AutoOffsetReset::Latest) => Some(OffsetSpec::Latest),
        Start::Reset(AutoOffsetReset::Earliest) => Some(OffsetSpec::Earliest),
        Start::Reset(AutoOffsetReset::ByDuration(age)) => {
            let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            let since = SystemClock.now().get().saturating_sub(age_ms);
            Some(OffsetSpec::AtTime(TimestampMs(since.max(0))))
        }
        Start::Time(time) => Some(OffsetSpec::AtTime(time)),
    }
}

/// Asks once, and takes what was answered; after a failure it waits. Returns whether all was answered.
async fn ask(inner: &Inner, target: Target, questions: &[Question], failures: u32) -> bool {
    let asked = match target {
        Target::Coordinator => find_committed(inner, questions).await,
        Target::Offsets(leader) => find_offsets(inner, leader, questions).await,
        Target::Epochs(leader) => check_epochs(inner, leader, questions).await,
        Target::Nobody => Err(no_leader(questions)),
    };
    inner.arrived.notify_waiters();
    // Also after an error: some may have been answered.
    inner.work_changed();
    let Err(error) = asked else { return true };
    tracing::debug!(%error, ?target, "positions not found yet");
    inner.client.refresh_soon();
    tokio::time::sleep(inner.client.retry_wait(failures)).await;
    false
}

fn no_leader(questions: &[Question]) -> ClientError {
    let (topic, partition) = match questions.first() {
        Some(Question { partition, .. }) => (partition.topic.to_string(), partition.partition),
        None => (String::new(), weir_protocol::types::PartitionId(0)),
    };
    ClientError::NoLeader { topic, partition }
}

/// # Errors
/// What passes, if some are to be asked again. What does not pass is told to `poll`.
async fn find_committed(inner: &Inner, questions: &[Question]) -> Result<(), ClientError> {
    let partitions: Vec<TopicPartition> =
        questions.iter().map(|question| question.partition.clone()).collect();
    let found = match inner.membership() {
        Ok(membership) => membership.committed_of_each(&partitions).await,
        Err(error) => Err(error),
    };
    take_each(inner, questions, in_order(found, "OffsetFetch", questions), |question, found| {
        let mut state = inner.state();
        let (partition, epoch) = (&question.partition, question.epoch);
        match found {
            Some(found) => state.resolve(partition, epoch, found.offset, found.leader_epoch),
            None => state.no_committed(partition, epoch),
        }
    })
}

/// # Errors
/// As [`find_committed`].
async fn find_offsets(
    inner: &Inner,
    leader: NodeId,
    questions: &[Question],
) -> Result<(), ClientError> {
    let entry = |question: &Question| match &question.about {
        About::Offset(spec) => Some((question.partition.clone(), *spec)),
        About::Committed | About::End(_) | About::Leader => None,
    };
    let asked: Vec<(TopicPartition, OffsetSpec)> = questions.iter().filter_map(entry).collect();
    let found = offsets_or_ends(inner, leader, &asked).await;
    let found = in_order(found, "ListOffsets", questions).into_iter().zip(questions);
    let found = found
        .map(|(found, question)| found?.ok_or_else(|| omitted("ListOffsets", question)))
        .collect();
    take_each(inner, questions, found, |question, offset| {
        inner.state().resolve(&question.partition, question.epoch, offset, None);
    })
}

/// Where no record is of the time or later: the end.
async fn offsets_or_ends(
    inner: &Inner,
    leader: NodeId,
    asked: &[(TopicPartition, OffsetSpec)],
) -> Result<Each<Offset>, ClientError> {
    let isolation = inner.config.isolation;
    let by_time = asked.iter().filter(|(_, spec)| matches!(spec, OffsetSpec::AtTime(_)));
    let ends: Vec<(TopicPartition, OffsetSpec)> =
        by_time.map(|(partition, _)| (partition.clone(), OffsetSpec::Latest)).collect();
    let mut found_ends = HashMap::new();
    if !ends.is_empty() {
        // Before the times: a record that comes in between may be of the time.
        let ends: Vec<_> = ends.iter().collect();
        let found = offsets_of_leader(&inner.client, leader, &ends, isolation).await?;
        found_ends.extend(found.into_iter().filter_map(|(place, end)| Some((place, end.ok()??))));
    }
    let asked: Vec<_> = asked.iter().collect();
    let mut found = offsets_of_leader(&inner.client, leader, &asked, isolation).await?;
    for (partition, offset) in &mut found {
        if let Ok(offset @ None) = offset {
            *offset = found_ends.get(partition).copied();
        }
    }
    Ok(found)
}

/// Asks a leader that has changed where the epoch ends in which we read last (KIP-320).
///
/// # Errors
/// As [`find_committed`].
async fn check_epochs(
    inner: &Inner,
    leader: NodeId,
    questions: &[Question],
) -> Result<(), ClientError> {
    let check = |question: &Question| match &question.about {
        About::End(check) => Some(check.clone()),
        About::Committed | About::Offset(_) | About::Leader => None,
    };
    let checks: Vec<Check> = questions.iter().filter_map(check).collect();
    let answer = match ask_epochs(inner, leader, &checks).await {
        // A broker that cannot tell has nothing to say against it.
        Err(ClientError::UnsupportedVersion { .. }) => OffsetForLeaderEpochResponse::default(),
        // What was read stays unchecked, and is not read on, until somebody has looked at it.
        Err(error) if !error.is_retriable() => {
            checks.iter().for_each(|check| inner.state().uncheckable(check, error.clone()));
            return Err(error);
        }
        other => other?,
    };
    let mut passing = Ok(());
    for check in &checks {
        let TopicPartition { topic, partition } = &check.partition;
        let of_topic = answer.topics.iter().filter(|found| found.topic == *topic);
        let mut ends = of_topic.flat_map(|found| &found.partitions);
        let end = ends.find(|end| end.partition == partition.get());
        let code = end.map_or(ErrorCode::None, |end| ErrorCode::from_code(end.error_code));
        if code.is_retriable() {
            let (api, message) = ("OffsetForLeaderEpoch", Some(check.partition.to_string()));
            passing = Err(ClientError::Broker { api, code, message });
            continue;
        }
        // Who may not ask goes on unchecked.
        let end = end.filter(|end| code.is_none() && end.end_offset >= 0);
        inner.state().checked(check, end.map(|end| Offset(end.end_offset)));
    }
    passing
}

async fn ask_epochs(
    inner: &Inner,
    leader: NodeId,
    checks: &[Check],
) -> Result<OffsetForLeaderEpochResponse, ClientError> {
    let topics = checks.iter().map(question).collect();
    let request = OffsetForLeaderEpochRequest { replica_id: -1, topics };
    let connection = inner.client.connection(leader, Lane::SHARED).await?;
    connection.request(&request, i16::MAX, inner.client.config().request_timeout_ms).await
}

fn question(check: &Check) -> OffsetForLeaderTopic {
    OffsetForLeaderTopic {
        topic: check.partition.topic.clone(),
        partitions: vec![OffsetForLeaderPartition {
            partition: check.partition.partition.get(),
            current_leader_epoch: check.leader_epoch.get(),
            leader_epoch: check.read_epoch.get(),
        }],
    }
}

/// The answer to each question, in their order.
fn in_order<T>(
    found: Result<Each<T>, ClientError>,
    api: &'static str,
    questions: &[Question],
) -> Vec<Result<Option<T>, ClientError>> {
    let found = match found {
        Ok(found) => found,
        Err(error) => return questions.iter().map(|_| Err(error.clone())).collect(),
    };
    let mut found: HashMap<TopicPartition, Result<Option<T>, ClientError>> =
        found.into_iter().collect();
    let answer = |question: &Question| {
        found.remove(&question.partition).unwrap_or_else(|| Err(omitted(api, question)))
    };
    questions.iter().map(answer).collect()
}

fn omitted(api: &'static str, question: &Question) -> ClientError {
    let reason = format!("it has nothing of {}", question.partition);
    ClientError::MalformedAnswer { api, broker: "the broker asked".to_owned(), reason }
}

/// Takes what was found of each partition; one that was refused waits for a seek, and `poll` tells.
///
/// # Errors
/// What passes, if some are to be asked again.
fn take_each<T>(
    inner: &Inner,
    questions: &[Question],
    found: Vec<Result<T, ClientError>>,
    mut take: impl FnMut(&Question, T),
) -> Result<(), ClientError> {
    let mut passing = Ok(());
    for (question, found) in questions.iter().zip(found) {
        match found {
            Ok(found) => take(question, found),
            Err(error) if error.is_retriable() => passing = Err(error),
            Err(error) => {
                let (partition, epoch) = (&question.partition, question.epoch);
                inner.state().unresolvable(partition, epoch, &error);
            }
        }
    }
    passing
}

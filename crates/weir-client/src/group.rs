//! Membership in a group, around the state machine that decides.
//!
//! The consumer drives it from `poll`, so that partitions change hands only between polls. Calls to the
//! coordinator run beside it; heartbeats go out in the background all the time, as they are how a
//! member learns that it must join again.
//!
//! Join and sync wait on the broker for other members, so they have a lane of their own; heartbeats
//! and commits must not stand behind them.

mod calls;
mod classic;
mod commits;
mod consumer_member;
mod holdings;
mod machine;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{watch, Notify};
use tokio::task::JoinSet;
use tokio::time::Instant;

use weir_protocol::api::offset_commit::OffsetCommitRequest;
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{GenerationId, NodeId, Str, Uuid};

use crate::accumulator::MonoMs;
use crate::admin::{fetch_offsets_of_each, Each};
use crate::client::{Client, Lane};
use crate::config::GroupConfig;
use crate::consumer::{PartitionOffset, TopicPartition};
use crate::error::ClientError;
use crate::fetcher::topic_partition;
use crate::transaction::GroupMetadata;

use calls::check;
use classic::{JoinCall, JoinFailed, Joined};
use commits::{CommitOrder, CommitTicket};
use consumer_member::{Beat, BeatFailed, Beaten};
use holdings::Tenure;
use machine::Machine;

pub(crate) use commits::commit_topics;
pub(crate) use holdings::{Step, StepId};

/// The longest sleep of the task that ticks.
const TICK_MAX: Duration = Duration::from_secs(3_600);

/// What a member wants to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Interest {
    /// Topics by name.
    pub(crate) topics: Vec<Str>,
    /// All topics whose whole name this regular expression matches, beside those by name (RE2).
    pub(crate) pattern: Option<Str>,
}

/// What has happened to a member.
#[derive(Debug)]
pub(crate) enum Event {
    /// This is wanted from now on.
    Subscribed(Interest),
    /// The program polls, or has been given what it polled for.
    Polled,
    /// The program waits in `poll`: that may take as long as it likes.
    Waiting,
    /// `poll` has done this step.
    StepDone(StepId),
    /// Topics that this member dealt from have more partitions.
    Grown,
    /// A join has ended.
    Joined { attempt: u64, result: Result<Joined, JoinFailed> },
    /// A heartbeat has ended.
    HeartbeatAnswered { attempt: u64, result: Result<(), ClientError> },
    /// A heartbeat of KIP-848 has ended.
    Beaten { attempt: u64, result: Result<Beaten, BeatFailed> },
    /// These topics have these names.
    Named(BTreeMap<Uuid, Str>),
    /// The coordinator did not take a commit of this generation or member epoch.
    CommitRefused { epoch: i32, error: ClientError },
    /// The deadline is over.
    Tick,
    /// The consumer closes: everything is to be given up.
    Closing,
    /// The consumer is closed.
    Left,
}

/// What the shell does for a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Join and sync.
    Join(JoinCall),
    Heartbeat {
        attempt: u64,
        member_id: Str,
        generation: GenerationId,
    },
    Leave {
        member_id: Str,
    },
    /// The heartbeat of KIP-848, which also joins and leaves.
    Beat(Beat),
    /// Look for the coordinator again.
    ForgetCoordinator,
    /// There is something for `poll`.
    WakePoll,
}

/// Whether this is an answer of the coordinator itself, which has heard the member then. Others say that
/// it is not they, or not yet.
fn is_of_coordinator(code: ErrorCode) -> bool {
    !matches!(
        code,
        ErrorCode::NotCoordinator
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::CoordinatorLoadInProgress
    )
}

/// As whom offsets are committed: member id, and generation or member epoch.
type Committer = (Str, i32);

/// One consumer's place in its group.
#[derive(Debug)]
pub(crate) struct Membership {
    client: Arc<Client>,
    config: GroupConfig,
    lane: Lane,
    origin: Instant,
    machine: Mutex<Machine>,
    effects: Mutex<Vec<Effect>>,
    /// The machine's deadline may be another, or there are effects.
    changed: Notify,
    coordinator: Mutex<Option<NodeId>>,
    /// What the leader dealt from: topic to partition count; empty for others.
    dealt: Mutex<BTreeMap<Str, i32>>,
    is_subscribed: Mutex<bool>,
    /// Calls failed in a row.
    failures: AtomicU32,
    /// Held while a commit is under way: two at once could land in either order.
    commit_turn: tokio::sync::Mutex<()>,
    order: Mutex<CommitOrder>,
    /// Commits in the background that are not answered.
    in_background: watch::Sender<usize>,
}

/// While it lives a commit in the background is not answered.
#[derive(Debug)]
pub(crate) struct InBackground(Arc<Membership>);

impl Drop for InBackground {
    fn drop(&mut self) {
        self.0.in_background.send_modify(|count| *count -= 1);
    }
}

/// Stays of partitions with a member, as of some time.
#[derive(Debug)]
pub(crate) struct Stays(Vec<(Option<Tenure>, TopicPartition)>);

/// While it lives the program waits in `poll`.
#[derive(Debug)]
pub(crate) struct Waiting<'a>(&'a Membership);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.handle(Event::Polled);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Membership {
    pub(crate) fn new(client: Arc<Client>, config: GroupConfig) -> Self {
        let lane = client.new_lane();
        Membership {
            client,
            lane,
            origin: Instant::now(),
            machine: Mutex::new(Machine::new(&config)),
            config,
            effects: Mutex::default(),
            changed: Notify::new(),
            coordinator: Mutex::default(),
            dealt: Mutex::default(),
            is_subscribed: Mutex::new(false),
            failures: AtomicU32::new(0),
            commit_turn: tokio::sync::Mutex::default(),
            order: Mutex::default(),
            in_background: watch::Sender::new(0),
        }
    }

    pub(crate) fn config(&self) -> &GroupConfig {
        &self.config
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        lock(&self.machine)
    }

    /// Who commits offsets in a transaction; `None` without a place in the group.
    pub(crate) fn metadata(&self) -> Option<GroupMetadata> {
        self.metadata_of(&self.machine())
    }

    /// The present stays of these partitions with this member.
    pub(crate) fn stays(&self, partitions: impl Iterator<Item = TopicPartition>) -> Stays {
        let machine = self.machine();
        let stay = |partition| (machine.holdings().tenure(&partition), partition);
        Stays(partitions.map(stay).collect())
    }

    /// As [`Membership::metadata`]; `None` also if one of the stays has ended: the member may have come
    /// back, but what it read before is somebody else's.
    pub(crate) fn metadata_during(&self, stays: &Stays) -> Option<GroupMetadata> {
        let machine = self.machine();
        let goes_on = |(tenure, partition): &(Option<Tenure>, TopicPartition)| {
            tenure.is_some() && machine.holdings().tenure(partition) == *tenure
        };
        let all_go_on = stays.0.iter().all(goes_on);
        all_go_on.then(|| self.metadata_of(&machine)).flatten()
    }

    fn metadata_of(&self, machine: &Machine) -> Option<GroupMetadata> {
        Some(GroupMetadata {
            group_id: self.config.group_id.clone(),
            generation_id: machine.epoch()?,
            member_id: machine.member_id().to_string(),
            instance_id: self.config.instance_id.clone(),
        })
    }

    fn dealt(&self) -> MutexGuard<'_, BTreeMap<Str, i32>> {
        lock(&self.dealt)
    }

    fn known_coordinator(&self) -> MutexGuard<'_, Option<NodeId>> {
        lock(&self.coordinator)
    }

    fn order(&self) -> MutexGuard<'_, CommitOrder> {
        lock(&self.order)
    }

    fn now(&self) -> MonoMs {
        MonoMs(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Tells the machine, and has its effects carried out.
    fn handle(&self, event: Event) {
        self.handle_in(self.machine(), event);
    }

    fn handle_in(&self, mut machine: MutexGuard<'_, Machine>, event: Event) {
        let before = machine.deadline();
        let effects = machine.handle(event, self.now());
        let is_news = !effects.is_empty() || machine.deadline() != before;
        // Under the machine's lock, so that effects stay in order.
        lock(&self.effects).extend(effects);
        drop(machine);
        if is_news {
            self.changed.notify_one();
        }
    }

    /// This is wanted from now on; the next poll joins for it.
    pub(crate) fn subscribe(&self, interest: Interest) {
        *lock(&self.is_subscribed) = true;
        self.handle(Event::Subscribed(interest));
    }

    /// The program polls: partitions may change hands.
    pub(crate) fn polled(&self) {
        if self.has_grown() {
            self.handle(Event::Grown);
        }
        self.handle(Event::Polled);
    }

    /// The program waits in `poll` until this is dropped.
    pub(crate) fn waiting(&self) -> Waiting<'_> {
        self.handle(Event::Waiting);
        Waiting(self)
    }

    /// What `poll` does next about its partitions.
    pub(crate) fn next_step(&self) -> Option<(StepId, Step)> {
        self.machine().holdings().next_step()
    }

    /// The step is done. Returns whether it was of use still: while it was being done the group may have
    /// gone on without this member.
    pub(crate) fn step_done(&self, step: StepId) -> bool {
        let machine = self.machine();
        let is_next = machine.holdings().is_next(step);
        self.handle_in(machine, Event::StepDone(step));
        is_next
    }

    /// See [`Machine::made_again_as`].
    pub(crate) fn made_again_as(&self, partition: &TopicPartition) -> Option<Uuid> {
        self.machine().made_again_as(partition)
    }

    /// Leaves the steps that give everything up.
    pub(crate) fn closing(&self) {
        self.handle(Event::Closing);
    }

    /// Topics the leader dealt from; others than its own must stay in view too.
    pub(crate) fn dealt_topics(&self) -> Vec<Str> {
        self.dealt().keys().cloned().collect()
    }

    /// The leader watches the partition counts it dealt from: a topic has more now, or was made again.
    fn has_grown(&self) -> bool {
        let dealt = self.dealt();
        if dealt.is_empty() {
            return false;
        }
        let view = self.client.view();
        dealt.iter().any(|(topic, count)| {
            let now = view.topics.get(topic).map_or(0, |topic| topic.partitions.len());
            // 0: not known now.
            i32::try_from(now).is_ok_and(|now| now > 0 && now != *count)
        })
    }

    /// Carries out what the machine wants, for ever; `wake_poll` is called when there is something for
    /// `poll`.
    pub(crate) async fn run(self: Arc<Self>, wake_poll: impl Fn()) {
        let mut calls = JoinSet::new();
        loop {
            let effects = std::mem::take(&mut *lock(&self.effects));
            for effect in effects {
                match effect {
                    Effect::WakePoll => wake_poll(),
                    Effect::ForgetCoordinator => *self.known_coordinator() = None,
                    call => {
                        calls.spawn(Arc::clone(&self).call(call));
                    }
                }
            }
            let deadline = Duration::from_millis(self.machine().deadline().0);
            let wait = deadline.saturating_sub(self.origin.elapsed()).min(TICK_MAX);
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep(wait) => self.handle(Event::Tick),
                Some(_) = calls.join_next() => {}
            }
        }
    }

    async fn call(self: Arc<Self>, call: Effect) {
        match call {
            Effect::Join(call) => {
                let mut given = None;
                let joined = self.join(&call, &mut given).await;
                let wait_ms = self.note_outcome("join", joined.as_ref().err());
                let result =
                    joined.map_err(|error| JoinFailed { error, member_id: given, wait_ms });
                self.handle(Event::Joined { attempt: call.attempt, result });
            }
            Effect::Heartbeat { attempt, member_id, generation } => {
                let result = self.heartbeat(member_id, generation).await;
                if let Err(error) = &result {
                    tracing::debug!(%error, group = %self.config.group_id, "heartbeat");
                }
                self.handle(Event::HeartbeatAnswered { attempt, result });
            }
            Effect::Leave { member_id } => {
                if let Err(error) = self.leave_group(member_id).await {
                    tracing::debug!(%error, group = %self.config.group_id, "leave");
                }
            }
            Effect::Beat(beat) => {
                let beaten = self.beat(&beat).await;
                let wait_ms = self.note_outcome("heartbeat", beaten.as_ref().err());
                let result = beaten.map_err(|error| BeatFailed { error, wait_ms });
                self.handle(Event::Beaten { attempt: beat.attempt, result });
                self.name_topics().await;
            }
            Effect::ForgetCoordinator | Effect::WakePoll => {}
        }
    }

    /// How long to wait before the next call, if this one failed.
    fn note_outcome(&self, what: &str, error: Option<&ClientError>) -> u64 {
        let Some(error) = error else {
            self.failures.store(0, Ordering::Relaxed);
            return 0;
        };
        tracing::debug!(%error, group = %self.config.group_id, what, "group call failed");
        let failures = self.failures.fetch_add(1, Ordering::Relaxed);
        let wait = self.client.retry_wait(failures);
        u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
    }

    /// Leaves, so that others need not wait for the session to end. A static member stays: it will be
    /// back.
    pub(crate) async fn leave(&self) -> Result<(), ClientError> {
        let effects = self.machine().handle(Event::Left, self.now());
        self.dealt().clear();
        self.client.drop_lane(self.lane);
        for effect in effects {
            match effect {
                Effect::Leave { member_id } => self.leave_group(member_id).await?,
                Effect::Beat(goodbye) => match self.beat(&goodbye).await {
                    // The coordinator has not taken it in, or not any more.
                    Err(error)
                        if matches!(
                            error.broker_code(),
                            Some(ErrorCode::UnknownMemberId | ErrorCode::GroupIdNotFound)
                        ) => {}
                    left => {
                        left?;
                    }
                },
                _ => {}
            }
        }
        Ok(())
    }
}

/// Offsets.
impl Membership {
    /// Notes who asks for a commit, and when: it is fenced by that, however late it goes out.
    pub(crate) fn commit_ticket(
        &self,
        offsets: &[PartitionOffset],
        in_background: bool,
    ) -> CommitTicket {
        let member = {
            let machine = self.machine();
            let tenure_of = |entry: &PartitionOffset| machine.holdings().tenure(&entry.partition);
            let tenures: Vec<Option<Tenure>> = offsets.iter().map(tenure_of).collect();
            (machine.epoch(), tenures)
        };
        self.order().ticket(offsets, in_background, member)
    }

    /// Commits offsets, one commit at a time; without a generation for a consumer that only keeps its
    /// offsets here. What the coordinator refuses of one partition holds up no other.
    pub(crate) async fn commit(
        &self,
        offsets: &[PartitionOffset],
        ticket: &CommitTicket,
    ) -> Result<(), ClientError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let _turn = self.commit_turn.lock().await;
        let timeout_ms = self.client.config().api_timeout_ms;
        let deadline = Instant::now() + Duration::from_millis(timeout_ms.into());
        let mut failures = 0;
        let mut refused = BTreeMap::new();
        loop {
            let error = match self.commit_once(offsets, ticket, &mut refused).await {
                Ok(()) => return refused.into_values().next().map_or(Ok(()), Err),
                Err(error) if error.is_retriable() || self.awaits_epoch(&error) => error,
                Err(error) => return Err(error),
            };
            let wait = self.client.retry_wait(failures);
            failures += 1;
            if Instant::now() + wait >= deadline {
                let last = error.to_string();
                return Err(ClientError::ApiTimeout { what: "commit", timeout_ms, last });
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Notes a commit in the background, until this is dropped.
    pub(crate) fn begin_in_background(self: Arc<Self>) -> InBackground {
        self.in_background.send_modify(|count| *count += 1);
        InBackground(self)
    }

    /// Waits until all commits in the background are answered or given up.
    pub(crate) async fn background_done(&self) {
        // The sender lives as long as this.
        let _ = self.in_background.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Whether it has ever been a member of the group, or wanted to be.
    pub(crate) fn is_subscribed(&self) -> bool {
        *lock(&self.is_subscribed)
    }

    fn awaits_epoch(&self, error: &ClientError) -> bool {
        error.broker_code().is_some_and(|code| self.machine().awaits_epoch(code))
    }

    /// Which of the offsets are those of a stay that goes on, and as whom they are committed now.
    ///
    /// # Errors
    /// If none are.
    fn still_good(
        &self,
        offsets: &[PartitionOffset],
        ticket: &CommitTicket,
    ) -> Result<(Vec<PartitionOffset>, Option<Committer>), ClientError> {
        let machine = self.machine();
        let present = machine.epoch();
        if ticket.epoch.is_none() {
            return match present {
                None if !*lock(&self.is_subscribed) => Ok((offsets.to_vec(), None)),
                _ => Err(gone_on()),
            };
        }
        let Some(present) = present else { return Err(gone_on()) };
        // Of the same generation is not enough: what is not held is another's to commit.
        let is_good = |(entry, tenure): &(&PartitionOffset, &Option<Tenure>)| {
            tenure.is_some() && machine.holdings().tenure(&entry.partition) == **tenure
        };
        let entries = offsets.iter().zip(&ticket.tenures);
        let good: Vec<PartitionOffset> =
            entries.filter(is_good).map(|(entry, _)| entry.clone()).collect();
        if good.is_empty() {
            return Err(gone_on());
        }
        Ok((good, Some((machine.member_id().clone(), present))))
    }

    /// Sends what is neither committed nor refused for good.
    async fn commit_once(
        &self,
        offsets: &[PartitionOffset],
        ticket: &CommitTicket,
        refused: &mut BTreeMap<TopicPartition, ClientError>,
    ) -> Result<(), ClientError> {
        let (mut good, member) = self.still_good(offsets, ticket)?;
        let all_are_good = good.len() == offsets.len();
        {
            let order = self.order();
            good.retain(|entry| order.is_wanted(entry, ticket));
        }
        good.retain(|entry| !refused.contains_key(&entry.partition));
        if !good.is_empty() {
            let answered = self.send_commit(&good, member).await?;
            let mut passing = None;
            good.retain(|entry| {
                let code = answered.get(&entry.partition).copied();
                let error = match code.map(|code| check("OffsetCommit", code)) {
                    Some(Ok(())) => return true,
                    Some(Err(error)) => error,
                    None => self.malformed("OffsetCommit", &format!("no {}", entry.partition)),
                };
                // A topic that is gone would have the others wait for nothing.
                let is_gone = error.broker_code() == Some(ErrorCode::UnknownTopicOrPartition);
                if !is_gone && (error.is_retriable() || self.awaits_epoch(&error)) {
                    passing = Some(error);
                } else {
                    refused.insert(entry.partition.clone(), error);
                }
                false
            });
            self.order().note_done(&good, ticket);
            if let Some(error) = passing {
                return Err(error);
            }
        }
        if all_are_good {
            Ok(())
        } else {
            Err(gone_on())
        }
    }

    /// Returns the code of each partition.
    async fn send_commit(
        &self,
        offsets: &[PartitionOffset],
        member: Option<Committer>,
    ) -> Result<BTreeMap<TopicPartition, i16>, ClientError> {
        let epoch = member.as_ref().map(|(_, epoch)| *epoch);
        let request = OffsetCommitRequest {
            group_id: self.group_id(),
            group_instance_id: member.as_ref().and_then(|_| self.instance_id()),
            generation_id_or_member_epoch: epoch.unwrap_or(-1),
            member_id: member.map(|(id, _)| id).unwrap_or_default(),
            topics: commit_topics(offsets),
            ..OffsetCommitRequest::default()
        };
        let response = self.ask(&request, Lane::SHARED, self.request_timeout_ms()).await?;
        let mut codes = BTreeMap::new();
        for topic in response.topics {
            for partition in topic.partitions {
                let place = topic_partition(&topic.name, partition.partition_index);
                codes.insert(place, partition.error_code);
            }
        }
        // What concerns the member is said of every partition.
        for code in codes.values().copied().collect::<BTreeSet<i16>>() {
            if let Err(error) = check("OffsetCommit", code) {
                self.after_commit_error(&error, epoch);
            }
        }
        Ok(codes)
    }

    fn after_commit_error(&self, error: &ClientError, epoch: Option<i32>) {
        match (error.broker_code(), epoch) {
            (Some(ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable), _) => {
                *self.known_coordinator() = None;
            }
            (
                Some(
                    ErrorCode::RebalanceInProgress
                    | ErrorCode::UnknownMemberId
                    | ErrorCode::IllegalGeneration
                    | ErrorCode::FencedInstanceId
                    | ErrorCode::FencedMemberEpoch
                    | ErrorCode::StaleMemberEpoch,
                ),
                Some(epoch),
            ) => self.handle(Event::CommitRefused { epoch, error: error.clone() }),
            _ => {}
        }
    }

    /// Committed offsets of these partitions, in their order.
    pub(crate) async fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Option<PartitionOffset>>, ClientError> {
        let group = self.config.group_id.as_str();
        let found = self
            .client
            .with_retries("fetch committed offsets", || async {
                let coordinator = self.coordinator().await?;
                let asked = Some(partitions);
                let result = crate::admin::fetch_offsets(&self.client, coordinator, group, asked);
                result.await.inspect_err(|_| *self.known_coordinator() = None)
            })
            .await?;
        let offset_of = |partition: &TopicPartition| {
            found.iter().find(|entry| entry.partition == *partition).cloned()
        };
        Ok(partitions.iter().map(offset_of).collect())
    }

    /// As [`Membership::committed`], with what the coordinator says of each partition. One attempt.
    pub(crate) async fn committed_of_each(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Each<PartitionOffset>, ClientError> {
        let coordinator = self.coordinator().await?;
        let (group, asked) = (self.config.group_id.as_str(), Some(partitions));
        let found = fetch_offsets_of_each(&self.client, coordinator, group, asked).await;
        found.inspect_err(|_| *self.known_coordinator() = None)
    }
}

fn gone_on() -> ClientError {
    ClientError::Broker {
        api: "OffsetCommit",
        code: ErrorCode::IllegalGeneration,
        message: Some("the group has gone on without this member".to_owned()),
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.client.drop_lane(self.lane);
    }
}

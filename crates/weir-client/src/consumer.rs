//! The consumer: assigned partitions or a group's share, read with prefetch.
//!
//! Fetching runs in the background, one loop per broker; `poll` decodes and hands over. Partitions
//! change hands only inside `poll` and `close`, so a program that polls, works and polls again never
//! loses a partition in the middle of its work.

mod positions;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{watch, Notify};
use tokio::task::JoinSet;
use tokio::time::Instant;
use weir_protocol::api::fetch::FetchRequest;
use weir_protocol::types::{LeaderEpoch, NodeId, Offset, PartitionId, Str, TimestampMs};

use crate::accumulator::MonoMs;
use crate::client::{Client, Lane};
use crate::config::{AutoOffsetReset, ConsumerConfig, DoneBy, GroupConfig, GroupProtocol};
use crate::error::ClientError;
use crate::fetcher::{FetchState, Fetching, Plan, Start};
use crate::group::{Interest, Membership, Stays, Step, StepId};
use crate::record::{ConsumedRecord, RecordRef};
use crate::transaction::GroupMetadata;

/// Fetch v13 names topics by id only (KIP-516).
const FETCH_VERSION_BY_NAME_MAX: i16 = 12;

/// How long a commit before a rebalance may hold up `poll`.
const REVOKE_COMMIT: Duration = Duration::from_millis(REVOKE_COMMIT_MS as u64);
const REVOKE_COMMIT_MS: u32 = 5_000;

/// One partition of one topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Str,
    /// The partition's number.
    pub partition: PartitionId,
}

impl TopicPartition {
    /// From its parts.
    pub fn new(topic: &str, partition: PartitionId) -> Self {
        TopicPartition { topic: Str::copy_from(topic), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// An offset in a partition: for commits, the next one to read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PartitionOffset {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset.
    pub offset: Offset,
    /// The leader's epoch of the last record before it, if known: with it a reader finds out whether
    /// that record has been lost (KIP-320).
    pub leader_epoch: Option<LeaderEpoch>,
}

impl PartitionOffset {
    /// Of an offset whose leader epoch is not known.
    pub const fn new(partition: TopicPartition, offset: Offset) -> Self {
        PartitionOffset { partition, offset, leader_epoch: None }
    }
}

/// Told of partitions given and taken, from inside `poll` and `close`.
pub trait RebalanceHook: Send + Sync + fmt::Debug {
    /// These partitions go away; what is returned is committed before they do.
    fn revoked(&self, partitions: &[TopicPartition]) -> Vec<PartitionOffset> {
        let _ = partitions;
        Vec::new()
    }

    /// These partitions are ours now.
    fn assigned(&self, partitions: &[TopicPartition]) {
        let _ = partitions;
    }

    /// These partitions are somebody else's already: it is too late to commit.
    fn lost(&self, partitions: &[TopicPartition]) {
        let _ = partitions;
    }
}

/// Reads records. All methods take `&self`; one task polls. Dropping it leaves the group without a
/// word, so that the others wait for its session to end: `close` it.
#[derive(Debug)]
pub struct Consumer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Arc<Client>,
    config: ConsumerConfig,
    lane: Lane,
    state: Mutex<FetchState>,
    mode: Mutex<Mode>,
    membership: Option<Arc<Membership>>,
    /// Told when there is something for `poll`.
    arrived: Notify,
    /// Counts what may let a fetch loop go on.
    work: watch::Sender<u64>,
    tasks: Mutex<JoinSet<()>>,
    loops: Mutex<HashSet<NodeId>>,
    origin: Instant,
}

#[derive(Debug)]
struct Mode {
    kind: Kind,
    /// What a revocation under way commits, and its step (none without a group that deals): for one step
    /// the hook is asked once, however often `poll` is dropped.
    revoking: Option<(Option<StepId>, Vec<PartitionOffset>)>,
    committed_at: Instant,
    /// Records returned since the last commit by count or interval.
    returned: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Idle,
    Assigned,
    Subscribed(Vec<Str>),
    Closed,
}

impl Consumer {
    /// Makes a consumer without partitions. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`ClientError::Config`] for settings that cannot be.
    pub fn new(client: Arc<Client>, config: ConsumerConfig) -> Result<Consumer, ClientError> {
        let refuse =
            |key, reason: &str| Err(ClientError::Config { key, reason: reason.to_owned() });
        // With none of these nothing would ever be fetched or returned.
        let bounds = [
            ("prefetch_bytes_max", config.prefetch_bytes_max),
            ("partition_fetch_bytes_max", config.partition_fetch_bytes_max as usize),
            ("unfinished_records_max", config.unfinished_records_max),
        ];
        if let Some((key, _)) = bounds.into_iter().find(|(_, bound)| *bound == 0) {
            return refuse(key, "must be at least 1");
        }
        if let Some(group) = &config.group {
            if group.group_id.is_empty() {
                return refuse("group_id", "is empty");
            }
            if group.assignors.is_empty() && group.protocol == GroupProtocol::Classic {
                return refuse("assignors", "is empty");
            }
            if group.session_timeout_ms == 0 {
                return refuse("session_timeout_ms", "must be at least 1");
            }
        }
        let member = |group| Arc::new(Membership::new(Arc::clone(&client), group));
        let membership = config.group.clone().map(member);
        let inner = Arc::new(Inner {
            lane: client.new_lane(),
            client,
            state: Mutex::new(FetchState::new(config.clone())),
            config,
            mode: Mutex::new(Mode {
                kind: Kind::Idle,
                revoking: None,
                committed_at: Instant::now(),
                returned: 0,
            }),
            membership,
            arrived: Notify::new(),
            work: watch::Sender::new(0),
            tasks: Mutex::default(),
            loops: Mutex::default(),
            origin: Instant::now(),
        });
        inner.spawn(positions::find(Arc::clone(&inner)));
        // From here on: a change before the task first runs must not be missed.
        let changes = inner.client.changes();
        inner.spawn(follow_metadata(Arc::clone(&inner), changes));
        if inner.membership.is_some() {
            inner.spawn(keep_membership(Arc::clone(&inner)));
        }
        Ok(Consumer { inner })
    }

    /// Joins the group for these topics, at the next poll. Replaces an earlier subscription.
    ///
    /// # Errors
    /// [`ClientError::WrongMode`] without a group or after `assign`.
    pub fn subscribe(&self, topics: &[&str]) -> Result<(), ClientError> {
        let topics = topics.iter().map(|topic| Str::copy_from(topic)).collect();
        self.want(Interest { topics, pattern: None })
    }

    /// As `subscribe`, for all topics whose whole name matches this regular expression, also those made
    /// later. The coordinator matches them; the syntax is RE2's.
    ///
    /// # Errors
    /// [`ClientError::WrongMode`] also without [`GroupProtocol::Consumer`].
    pub fn subscribe_pattern(&self, pattern: &str) -> Result<(), ClientError> {
        let protocol = self.inner.config.group.as_ref().map(|group| group.protocol);
        if protocol != Some(GroupProtocol::Consumer) {
            let what = "subscribe_pattern needs a group of the consumer protocol";
            return Err(ClientError::WrongMode { what });
        }
        self.want(Interest { topics: Vec::new(), pattern: Some(Str::copy_from(pattern)) })
    }

    fn want(&self, interest: Interest) -> Result<(), ClientError> {
        let Some(membership) = &self.inner.membership else {
            return Err(ClientError::WrongMode { what: "subscribe needs a group" });
        };
        let mut mode = self.inner.mode();
        match mode.kind {
            Kind::Assigned => {
                return Err(ClientError::WrongMode { what: "assign was called before subscribe" });
            }
            Kind::Closed => return Err(ClientError::Closed),
            Kind::Idle | Kind::Subscribed(_) => {}
        }
        self.inner.client.track(interest.topics.iter().map(|topic| &**topic));
        mode.kind = Kind::Subscribed(interest.topics.clone());
        drop(mode);
        membership.subscribe(interest);
        Ok(())
    }

    /// Reads exactly these partitions, from the group's committed offset if there is a group, else by
    /// `auto_offset_reset`. Partitions that were assigned before keep their place.
    ///
    /// # Errors
    /// [`ClientError::WrongMode`] after `subscribe`.
    pub fn assign(&self, partitions: &[TopicPartition]) -> Result<(), ClientError> {
        let mut mode = self.inner.mode();
        match mode.kind {
            Kind::Subscribed(_) => {
                return Err(ClientError::WrongMode { what: "subscribe was called before assign" });
            }
            Kind::Closed => return Err(ClientError::Closed),
            Kind::Idle | Kind::Assigned => mode.kind = Kind::Assigned,
        }
        drop(mode);
        self.inner.take_assignment(partitions);
        Ok(())
    }

    /// What is assigned now.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.inner.state().assignment()
    }

    /// The next poll reads from here.
    ///
    /// # Errors
    /// [`ClientError::WrongMode`] if the partition is not assigned.
    pub fn seek(&self, partition: &TopicPartition, offset: Offset) -> Result<(), ClientError> {
        if !self.inner.state().seek(partition, offset) {
            return Err(ClientError::WrongMode { what: "seek of a partition not assigned" });
        }
        self.inner.work_changed();
        Ok(())
    }

    /// The next polls read this partition from its first record of this time or later; where there is
    /// none, from the end.
    ///
    /// # Errors
    /// [`ClientError::WrongMode`] if the partition is not assigned.
    pub fn seek_partition_to_time(
        &self,
        partition: &TopicPartition,
        time: TimestampMs,
    ) -> Result<(), ClientError> {
        if !self.inner.state().seek_by(partition, Start::Time(time)) {
            return Err(ClientError::WrongMode { what: "seek of a partition not assigned" });
        }
        self.inner.work_changed();
        Ok(())
    }

    /// The next polls read every assigned partition from its first record of this time or later; where
    /// there is none, from the end.
    pub fn seek_to_time(&self, time: TimestampMs) {
        self.seek_all(Start::Time(time));
    }

    /// The next polls read every assigned partition from its first record.
    pub fn seek_to_beginning(&self) {
        self.seek_all(Start::Reset(AutoOffsetReset::Earliest));
    }

    /// The next polls read only what comes from now on.
    pub fn seek_to_end(&self) {
        self.seek_all(Start::Reset(AutoOffsetReset::Latest));
    }

    fn seek_all(&self, start: Start) {
        let mut state = self.inner.state();
        for partition in state.assignment() {
            state.seek_by(&partition, start);
        }
        drop(state);
        self.inner.work_changed();
    }

    /// The next offset `poll` would return, if known.
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        self.inner.state().position(partition)
    }

    /// Its place in its group, for [`crate::Producer::send_offsets_to_transaction`]: a transaction must
    /// not commit offsets of a member that has lost its partitions. Take it when the records have been
    /// polled, not when they have been worked on: the member may have come back by then.
    ///
    /// # Errors
    /// [`ClientError::WrongMode`] without a group, or while it has no place in it.
    pub fn group_metadata(&self) -> Result<GroupMetadata, ClientError> {
        let Some(membership) = &self.inner.membership else {
            return Err(ClientError::WrongMode { what: "group metadata needs a group" });
        };
        if self.inner.mode().kind == Kind::Assigned {
            return Ok(GroupMetadata::new(membership.config().group_id.clone()));
        }
        membership
            .metadata()
            .ok_or(ClientError::WrongMode { what: "group metadata needs a place in the group" })
    }

    /// The stays in which records of these partitions were just read; `None` where a program assigned
    /// them itself.
    pub(crate) fn stays(&self, partitions: impl Iterator<Item = TopicPartition>) -> Option<Stays> {
        if self.inner.mode().kind == Kind::Assigned {
            return None;
        }
        Some(self.inner.membership.as_ref()?.stays(partitions))
    }

    /// As `group_metadata`, if the stays go on.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn metadata_during(
        &self,
        stays: Option<&Stays>,
    ) -> Result<GroupMetadata, ClientError> {
        let (Some(stays), Some(membership)) = (stays, &self.inner.membership) else {
            return self.group_metadata();
        };
        let gone = ClientError::WrongMode { what: "partitions were lost after they were read" };
        membership.metadata_during(stays).ok_or(gone)
    }

    /// Its place in a group, if it is made for one.
    pub(crate) fn group_config(&self) -> Option<&GroupConfig> {
        self.inner.config.group.as_ref()
    }

    /// Records between position and end per partition, as of its last fetch.
    pub fn lag(&self) -> Vec<(TopicPartition, i64)> {
        self.inner.state().lag()
    }

    /// How old the next record is at `now`, in milliseconds, per partition where that is known: 0 where
    /// all is read. To the precision of a batch.
    pub fn lag_ms(&self, now: TimestampMs) -> Vec<(TopicPartition, i64)> {
        self.inner.state().lag_ms(now)
    }

    /// With [`DoneBy::Record`]: this record is dealt with. In any order, from any task. Returns whether it
    /// was under work: not after the partition has gone, or has been sought to a place before the record.
    pub fn done(&self, partition: &TopicPartition, offset: Offset) -> bool {
        let was_under_work = self.inner.state().finish(partition, offset);
        self.inner.arrived.notify_waiters();
        was_under_work
    }

    /// Returns no more records of these partitions, keeping what is fetched as long as there is room for
    /// what others wait for.
    pub fn pause(&self, partitions: &[TopicPartition]) {
        self.inner.state().set_paused(partitions, true);
        // What they hold may make room for the others.
        self.inner.work_changed();
    }

    /// Undoes `pause`.
    pub fn resume(&self, partitions: &[TopicPartition]) {
        self.inner.state().set_paused(partitions, false);
        self.inner.work_changed();
        self.inner.arrived.notify_waiters();
    }

    /// Records, as soon as there are any, at most `poll_records_max`; none after `timeout`.
    ///
    /// By calling it a program says that it has dealt with what earlier polls returned. Cancel safe:
    /// dropping the future loses no record.
    ///
    /// # Errors
    /// What a person must look at: no offset to start from, a damaged batch, access denied, a group
    /// that does not take this member. What passes is retried in the background. An error met together
    /// with records comes first at the next poll. Polling again goes on with the other partitions; one
    /// without a place to start from, or before a damaged batch, stands still until a seek.
    pub async fn poll(&self, timeout: Duration) -> Result<Vec<ConsumedRecord>, ClientError> {
        let mut records = Vec::new();
        self.wait_for(timeout, || {
            records = self.take_records()?;
            Ok(!records.is_empty())
        })
        .await?;
        self.inner.mode().returned += records.len();
        Ok(records)
    }

    /// As `poll`, but shows each record to `see` instead of making an object of it, which costs about
    /// half. Returns how many it showed: at least one fetched chunk if there is any, and no more chunks
    /// once `poll_records_max` is passed.
    ///
    /// # Errors
    /// As `poll`.
    pub async fn poll_each(
        &self,
        timeout: Duration,
        mut see: impl FnMut(RecordRef<'_>),
    ) -> Result<usize, ClientError> {
        let mut count = 0;
        self.wait_for(timeout, || {
            count = self.show_records(&mut see)?;
            Ok(count > 0)
        })
        .await?;
        self.inner.mode().returned += count;
        Ok(count)
    }

    /// Until `look` finds something, or the time is over.
    async fn wait_for(
        &self,
        timeout: Duration,
        mut look: impl FnMut() -> Result<bool, ClientError>,
    ) -> Result<(), ClientError> {
        // None: so far away that it never comes.
        let deadline = Instant::now().checked_add(timeout);
        self.inner.state().note_consumed();
        self.auto_commit();
        loop {
            // Made before the look, so that what comes in between is not missed.
            let arrived = self.inner.arrived.notified();
            self.drive_membership().await?;
            if look()? {
                return Ok(());
            }
            let waiting = self.inner.membership.as_ref().map(|member| member.waiting());
            let is_over = match deadline {
                Some(deadline) => tokio::time::timeout_at(deadline, arrived).await.is_err(),
                None => {
                    arrived.await;
                    false
                }
            };
            drop(waiting);
            if is_over {
                // A program that polls without a timeout must still let others run.
                tokio::task::yield_now().await;
                return Ok(());
            }
        }
    }

    fn show_records(&self, see: &mut impl FnMut(RecordRef<'_>)) -> Result<usize, ClientError> {
        let inner = &self.inner;
        // First: behind the records of busy partitions it would wait for ever.
        if let Some(error) = inner.state().take_error() {
            return Err(error);
        }
        let mut count = 0;
        while count < inner.config.poll_records_max.max(1) {
            let Some(mut chunk) = inner.state().take_chunk() else { break };
            let (partition, epoch) = (chunk.partition().clone(), chunk.epoch());
            let shown = if inner.is_done_by_record() {
                chunk.show(&inner.config, &mut |record: RecordRef<'_>| {
                    // Before the program sees it: it may be done at once.
                    inner.state().begin_work(&partition, epoch, std::iter::once(record.offset));
                    see(record);
                })
            } else {
                chunk.show(&inner.config, see)
            };
            count += shown.count;
            let mut state = inner.state();
            state.shown(chunk, shown.next, shown.leader_epoch);
            if let Some(error) = shown.damaged {
                state.damaged(&partition, epoch, error);
            }
            drop(state);
            inner.work_changed();
        }
        // An error met beside records waits for the next poll.
        let error = if count == 0 { inner.state().take_error() } else { None };
        error.map_or(Ok(count), Err)
    }

    fn take_records(&self) -> Result<Vec<ConsumedRecord>, ClientError> {
        let inner = &self.inner;
        if let Some(error) = inner.state().take_error() {
            return Err(error);
        }
        let records_max = inner.config.poll_records_max.max(1);
        let mut records: Vec<ConsumedRecord> = Vec::new();
        while records.len() < records_max {
            let Some(mut chunk) = inner.state().take_chunk() else { break };
            let (partition, epoch) = (chunk.partition().clone(), chunk.epoch());
            let taken = chunk.take(records_max - records.len(), &inner.config);
            let mut state = inner.state();
            if state.hand_over(chunk, taken.next, taken.leader_epoch, taken.is_done) {
                if inner.is_done_by_record() {
                    let offsets = taken.records.iter().map(|record| record.offset);
                    state.begin_work(&partition, epoch, offsets);
                }
                if records.is_empty() {
                    records = taken.records;
                } else {
                    records.extend(taken.records);
                }
            }
            if let Some(error) = taken.damaged {
                state.damaged(&partition, epoch, error);
            }
            drop(state);
            inner.work_changed();
        }
        if records.is_empty() {
            if let Some(error) = inner.state().take_error() {
                return Err(error);
            }
        }
        Ok(records)
    }

    /// Commits these offsets (each the next to read). Commits go out one at a time, and none undoes a
    /// later one. What was read in a generation that is over is not committed, and a member commits
    /// only what it holds.
    ///
    /// # Errors
    /// The broker's, once retries are over; [`ClientError::WrongMode`] without a group.
    pub async fn commit(&self, offsets: &[PartitionOffset]) -> Result<(), ClientError> {
        let membership = self.inner.membership()?;
        let ticket = membership.commit_ticket(offsets, false);
        membership.commit(offsets, &ticket).await
    }

    /// Commits everything returned by polls so far.
    ///
    /// # Errors
    /// As `commit`.
    pub async fn commit_consumed(&self) -> Result<(), ClientError> {
        let positions = self.inner.state().positions();
        self.commit(&positions).await
    }

    /// Commits in the background; errors are logged. Only the newest waits its turn per partition. What
    /// is under way when partitions are given up, or the consumer is closed, is waited for.
    pub fn commit_async(&self, offsets: Vec<PartitionOffset>) {
        let Some(membership) = self.inner.membership.clone() else { return };
        if offsets.is_empty() {
            return;
        }
        let ticket = membership.commit_ticket(&offsets, true);
        let in_background = Arc::clone(&membership).begin_in_background();
        self.inner.spawn(async move {
            let _in_background = in_background;
            if let Err(error) = membership.commit(&offsets, &ticket).await {
                tracing::warn!(%error, code = error.code(), "commit failed");
            }
        });
    }

    /// Committed offsets of these partitions, in their order; `None` where there is none.
    ///
    /// # Errors
    /// As `commit`.
    pub async fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Option<Offset>>, ClientError> {
        let committed = self.inner.membership()?.committed(partitions).await?;
        Ok(committed.into_iter().map(|entry| Some(entry?.offset)).collect())
    }

    fn auto_commit(&self) {
        let Some(membership) = &self.inner.membership else { return };
        let config = membership.config();
        let mut mode = self.inner.mode();
        let elapsed = mode.committed_at.elapsed();
        let is_time = |ms: u32| elapsed >= Duration::from_millis(ms.into());
        let is_much = |records: usize| mode.returned >= records.max(1);
        if !config.auto_commit_interval_ms.is_some_and(is_time)
            && !config.auto_commit_records.is_some_and(is_much)
        {
            return;
        }
        mode.committed_at = Instant::now();
        mode.returned = 0;
        drop(mode);
        let consumed = self.inner.state().consumed();
        self.commit_async(consumed);
    }

    /// Gives partitions up and takes them as the group wants it.
    async fn drive_membership(&self) -> Result<(), ClientError> {
        let Some(membership) = &self.inner.membership else { return self.inner.open() };
        match &self.inner.mode().kind {
            Kind::Closed => return Err(ClientError::Closed),
            Kind::Idle | Kind::Assigned => return Ok(()),
            Kind::Subscribed(_) => {}
        }
        membership.polled();
        while let Some((id, step)) = membership.next_step() {
            self.take_step(membership, id, step).await?;
        }
        Ok(())
    }

    async fn take_step(
        &self,
        membership: &Membership,
        id: StepId,
        step: Step,
    ) -> Result<(), ClientError> {
        let hook = membership.config().hook.as_ref();
        match step {
            Step::Revoke(partitions) => {
                if let Err(error) = self.give_up(membership, Some(id), &partitions).await {
                    tracing::warn!(%error, code = error.code(), "commit before a rebalance failed");
                }
                membership.step_done(id);
            }
            Step::Lose(partitions) => {
                self.inner.mode().revoking = None;
                self.inner.state().unassign(&partitions);
                membership.step_done(id);
                if let Some(hook) = hook {
                    hook.lost(&partitions);
                }
            }
            Step::Assign(partitions) => {
                // First: if they are lost from here on, a step that gives them up follows.
                if membership.step_done(id) {
                    self.inner.add_partitions(&partitions);
                    if let Some(hook) = hook {
                        hook.assigned(&partitions);
                    }
                }
            }
            Step::Fail(error) => {
                membership.step_done(id);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Commits what is to be committed of these, waits for what is being committed, then lets go.
    ///
    /// # Errors
    /// If the commit failed or took too long; they are given up all the same.
    async fn give_up(
        &self,
        membership: &Membership,
        step: Option<StepId>,
        partitions: &[TopicPartition],
    ) -> Result<(), ClientError> {
        let begun = self.inner.mode().revoking.take().filter(|(of, _)| *of == step);
        let begun = begun.map(|(_, offsets)| offsets);
        let offsets = begun.unwrap_or_else(|| self.last_offsets(membership, partitions));
        self.inner.mode().revoking = Some((step, offsets.clone()));
        let ticket = membership.commit_ticket(&offsets, false);
        let committing = async {
            let committed = membership.commit(&offsets, &ticket).await;
            membership.background_done().await;
            committed
        };
        let committed = tokio::time::timeout(REVOKE_COMMIT, committing).await;
        self.inner.state().unassign(partitions);
        self.inner.mode().revoking = None;
        committed.unwrap_or_else(|_| {
            let (what, last) = ("commit before partitions go", "no answer yet".to_owned());
            Err(ClientError::ApiTimeout { what, timeout_ms: REVOKE_COMMIT_MS, last })
        })
    }

    /// What is committed before these go: what has been dealt with where configured so, and what the
    /// hook says.
    fn last_offsets(
        &self,
        membership: &Membership,
        partitions: &[TopicPartition],
    ) -> Vec<PartitionOffset> {
        let mut offsets = Vec::new();
        if partitions.is_empty() {
            return offsets;
        }
        if membership.config().commit_on_revoke {
            let gone: HashSet<&TopicPartition> = partitions.iter().collect();
            let view = self.inner.client.view();
            let state = self.inner.state();
            offsets = state.consumed();
            offsets.retain(|PartitionOffset { partition, .. }| {
                // Commits go by name: what was read of an earlier topic is nothing to a new one.
                let assigned = membership.made_again_as(partition);
                let known = view.topics.get(&partition.topic).map(|topic| topic.id);
                let mut ids = assigned.into_iter().chain(known);
                gone.contains(partition) && !ids.any(|id| state.is_of_another(partition, id))
            });
        }
        if let Some(hook) = &membership.config().hook {
            for chosen in hook.revoked(partitions) {
                offsets.retain(|entry| entry.partition != chosen.partition);
                offsets.push(chosen);
            }
        }
        offsets
    }

    /// Commits where configured so, leaves the group, stops fetching. What earlier polls returned
    /// counts as dealt with.
    ///
    /// # Errors
    /// If the last commit failed, so that others read again what was dealt with, or the group could not be
    /// told; the consumer is closed all the same. Dropped midway, it is to be called again.
    pub async fn close(&self) -> Result<(), ClientError> {
        self.inner.mode().kind = Kind::Closed;
        self.inner.state().note_consumed();
        let mut result = Ok(());
        match &self.inner.membership {
            Some(membership) if membership.is_subscribed() => {
                membership.closing();
                while let Some((id, step)) = membership.next_step() {
                    if let Step::Revoke(partitions) = step {
                        let given_up = self.give_up(membership, Some(id), &partitions).await;
                        membership.step_done(id);
                        result = result.and(given_up);
                        continue;
                    }
                    // What else fails now is of no use to anybody.
                    let _ = self.take_step(membership, id, step).await;
                }
                let left = membership.leave().await;
                result = result.and(left);
            }
            Some(membership) => {
                result = self.give_up(membership, None, &self.assignment()).await;
            }
            None => {}
        }
        self.inner.stop();
        result
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.inner.stop();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A fetch that was ending when the lane was dropped may have opened it again.
        self.client.drop_lane(self.lane);
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, FetchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mode(&self) -> MutexGuard<'_, Mode> {
        self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn membership(&self) -> Result<&Arc<Membership>, ClientError> {
        let missing = ClientError::WrongMode { what: "commits need a group" };
        self.membership.as_ref().ok_or(missing)
    }

    fn is_done_by_record(&self) -> bool {
        self.config.group.as_ref().is_some_and(|group| group.done_by == DoneBy::Record)
    }

    fn open(&self) -> Result<(), ClientError> {
        if self.mode().kind == Kind::Closed {
            return Err(ClientError::Closed);
        }
        Ok(())
    }

    fn now(&self) -> MonoMs {
        MonoMs(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn spawn(&self, task: impl std::future::Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        // Commits come and go; their handles must not pile up.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    fn stop(&self) {
        self.mode().kind = Kind::Closed;
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.abort_all();
        *tasks = JoinSet::new();
        drop(tasks);
        self.client.drop_lane(self.lane);
        self.arrived.notify_waiters();
    }

    fn work_changed(&self) {
        self.work.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn take_assignment(self: &Arc<Self>, partitions: &[TopicPartition]) {
        self.client.track(partitions.iter().map(|partition| &*partition.topic));
        self.state().assign(partitions, self.start());
        self.ensure_loops();
        self.work_changed();
    }

    fn add_partitions(self: &Arc<Self>, partitions: &[TopicPartition]) {
        self.client.track(partitions.iter().map(|partition| &*partition.topic));
        self.state().add(partitions, self.start());
        self.ensure_loops();
        self.work_changed();
    }

    fn start(&self) -> Start {
        match self.membership {
            Some(_) => Start::Committed,
            None => Start::Reset(self.config.auto_offset_reset),
        }
    }

    /// Topics that do not exist go out of view after a while; those of use here must not.
    fn keep_tracked(&self) {
        if let Kind::Subscribed(topics) = &self.mode().kind {
            self.client.track(topics.iter().map(|topic| &**topic));
        }
        let assigned = self.state().assignment();
        self.client.track(assigned.iter().map(|partition| &*partition.topic));
        if let Some(membership) = &self.membership {
            self.client.track(membership.dealt_topics().iter().map(|topic| &**topic));
        }
    }

    fn ensure_loops(self: &Arc<Self>) {
        let leaders = self.state().leaders(&self.client.view());
        let mut loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        for node in leaders {
            if loops.insert(node) {
                self.spawn(fetch_from(Arc::clone(self), node));
            }
        }
    }
}

async fn keep_membership(inner: Arc<Inner>) {
    let Some(membership) = inner.membership.clone() else { return };
    membership.run(|| inner.arrived.notify_waiters()).await;
}

/// Starts fetch loops for new leaders, and the loops after each change.
async fn follow_metadata(inner: Arc<Inner>, mut changes: watch::Receiver<u64>) {
    while changes.changed().await.is_ok() {
        inner.keep_tracked();
        inner.ensure_loops();
        inner.work_changed();
        // The leader of a group looks for new partitions in `poll`.
        inner.arrived.notify_waiters();
    }
}

/// Fetches from one broker, one request at a time.
async fn fetch_from(inner: Arc<Inner>, node: NodeId) {
    let mut work = inner.work.subscribe();
    loop {
        work.mark_unchanged();
        let planned = inner.state().plan(node, &inner.client.view(), inner.now());
        if planned.is_unresolved {
            inner.work_changed();
        }
        match planned.plan {
            Plan::Fetch { request, ids_known, partitions } => {
                let version_max = if ids_known { i16::MAX } else { FETCH_VERSION_BY_NAME_MAX };
                fetch_once(&inner, node, &request, version_max, &partitions).await;
            }
            Plan::WaitUntil(at) => {
                let at = inner.origin + Duration::from_millis(at.0);
                let _ = tokio::time::timeout_at(at, work.changed()).await;
            }
            Plan::Wait => {
                if work.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn fetch_once(
    inner: &Arc<Inner>,
    node: NodeId,
    request: &FetchRequest,
    version_max: i16,
    partitions: &[Fetching],
) {
    let timeout_ms =
        inner.client.config().request_timeout_ms.saturating_add(inner.config.fetch_wait_ms_max);
    let asked = async {
        let connection = inner.client.connection(node, inner.lane).await?;
        connection.request(request, version_max, timeout_ms).await
    };
    match asked.await {
        Ok(response) => {
            let effects = inner.state().on_fetched(node, partitions, response, inner.now());
            if effects.refresh_metadata {
                inner.client.refresh_soon();
            }
            if effects.arrived {
                inner.arrived.notify_waiters();
            }
            if effects.unresolved {
                inner.work_changed();
            }
        }
        Err(error) => {
            tracing::debug!(%error, "fetch got no answer");
            let is_told = inner.state().on_lost(node, partitions, error, inner.now());
            if is_told {
                inner.arrived.notify_waiters();
            }
            inner.client.refresh_soon();
        }
    }
}

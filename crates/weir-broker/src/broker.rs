//! [`Broker`]: the core. `handle(request, now)` gives effects; what must wait is parked and comes out of a later call.
//!
//! No tokio, no clock, no randomness, and no I/O but through weir-log. Requests of one API live in a file of their own;
//! here is what they share: dispatch, tickets, time, commits.
//!
//! ```text
//! connection ── handle() ──▶ Effects { reply: Now | Parked(ticket) | Silent | Close, woken: [(ticket, answer)] }
//! timer      ── tick()   ──▶ woken: long polls, joins, sessions whose time has come
//! commits    ── begin_commit(), PendingCommit::run() without the lock, finish_commit() ──▶ woken: produces, fetches
//! ```

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use weir_log::{
    CommitError, CommitGroup, Committed, Disk, Flush, LogConfig, LogDirOptions, LogError, LogId,
    RecoveryReport, Upkeep, UpkeepDone,
};
use weir_protocol::frame::RequestHeader;
use weir_protocol::{ErrorCode, NodeId, PartitionId, Str, TimestampMs, Uuid};

use crate::api_table;
use crate::commit_queue::{CommitQueue, Due, PutAside};
use crate::config::BrokerConfig;
use crate::coordinator::{Coordinator, RequestMeta};
use crate::dynamic_configs::{self, cleaner_options};
use crate::effects::{CommitNeed, ConnId, Connection, Effects, Reply, Ticket};
use crate::error::BrokerError;
use crate::failed::fail;
use crate::fetch_session::FetchSessions;
use crate::files::{self, PendingFiles, WriteFailed};
use crate::group_configs;
use crate::ids::IdSource;
use crate::kafka_metadata::{self, KafkaTopics};
use crate::logs::Logs;
use crate::producer_ids::ProducerIds;
use crate::purgatory::Purgatory;
use crate::request::{Request, Response};
use crate::scram_users::ScramUsers;
use crate::security::authenticator;
use crate::settings::ClusterSettings;
use crate::staged::Staged;
use crate::stats::{BrokerStats, GroupStats, TopicStats};
use crate::topics::{self, log_config, Topic, Topics};
use crate::transaction_coordinator::Transactions;

/// This node. It is always alone, and always the controller.
pub(crate) const NODE_ID: i32 = 0;

/// How often the logs' own housekeeping is looked at.
const HOUSEKEEPING_INTERVAL_MS: i64 = 1_000;
/// `offsets.retention.check.interval.ms`
const OFFSETS_CHECK_INTERVAL_MS: i64 = 600_000;
/// `producer.id.expiration.ms`
const PRODUCER_ID_EXPIRATION_MS: i64 = 86_400_000;
/// How often recovery point and log start are written down (design: every 60 s or 1 GB).
const CHECKPOINT_INTERVAL_MS: i64 = 60_000;
const CHECKPOINT_BYTES: u64 = 1 << 30;

/// What an API makes of its request.
#[derive(Debug)]
pub enum Step {
    /// Answered.
    Answer(Response),
    /// Waits; or its answer is already among those woken.
    Parked,
    /// Gets no answer.
    Silent,
    /// Its connection is to be closed.
    Close,
    /// A produce that is not taken yet: [`crate::produce::Produce::look_inside`] first, without the lock.
    LookInside,
}

/// A single-node Kafka broker.
#[derive(Debug)]
pub struct Broker {
    /// What holds: [`Broker::start_config`] under what was set since.
    pub(crate) config: BrokerConfig,
    pub(crate) start_config: Arc<BrokerConfig>,
    /// What admin clients have set beside topics.
    pub(crate) settings: ClusterSettings,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) logs: Logs,
    pub(crate) topics: Topics,
    pub(crate) coordinator: Coordinator,
    pub(crate) transactions: Transactions,
    pub(crate) purgatory: Purgatory,
    pub(crate) commit_queue: CommitQueue,
    pub(crate) producer_ids: ProducerIds,
    pub(crate) scram_users: ScramUsers,
    /// Changes of the broker's own files that are not on disk yet.
    pub(crate) staged: Staged,
    /// Partitions of new topics that have no log yet.
    pub(crate) unmade_logs: VecDeque<(Str, PartitionId)>,
    pub(crate) ids: IdSource,
    pub(crate) fetch_sessions: FetchSessions,
    /// Counts fetches, so that each begins at another partition.
    pub(crate) fetch_turn: usize,
    cluster_id: Str,
    recovery: RecoveryReport,
    next_ticket: u64,
    next_housekeeping: TimestampMs,
    next_offsets_check: TimestampMs,
}

/// A commit on its way: run it without any lock.
#[derive(Debug)]
#[must_use = "answers wait until it has run and finish_commit was called"]
pub struct PendingCommit {
    files: PendingFiles,
    work: Result<Option<CommitGroup>, CommitError>,
}

/// A commit that has run.
#[derive(Debug)]
#[must_use = "answers wait until finish_commit was called"]
pub struct CommitDone {
    /// What became of the broker's own files.
    files: Result<(), WriteFailed>,
    result: Result<Option<Committed>, CommitError>,
}

impl CommitDone {
    /// What is to be done in the background, on another thread than the commits'.
    pub fn take_flush(&mut self) -> Option<Flush> {
        self.result.as_mut().ok()?.as_mut()?.take_flush()
    }
}

impl PendingCommit {
    /// Does the blocking I/O.
    pub fn run(self) -> CommitDone {
        let files = match &self.work {
            Ok(_) => self.files.run(),
            // Offline: nothing is written any more.
            Err(error) => Err(WriteFailed {
                error: BrokerError::Log(LogError::Offline { reason: Arc::clone(&error.reason) }),
                is_unchanged: true,
            }),
        };
        let result = match (self.work, &files) {
            (Ok(_), Err(failed)) if !failed.is_unchanged => {
                Err(CommitError { reason: Arc::from(failed.error.to_string()) })
            }
            (Ok(None), _) => Ok(None),
            (Ok(Some(group)), _) => group.run().map(Some),
            (Err(error), _) => Err(error),
        };
        CommitDone { files, result }
    }
}

impl Broker {
    /// Opens the data directory and reads what it has. `seed` makes ids unique: it must differ from start to start.
    ///
    /// # Errors
    /// If the configuration contradicts itself, the directory is in use or of another cluster, or a file is damaged.
    pub fn open(
        config: BrokerConfig,
        disk: Arc<dyn Disk>,
        seed: u128,
        now: TimestampMs,
    ) -> Result<Self, BrokerError> {
        check_config(&config)?;
        let mut ids = IdSource::new(seed);
        files::make_dir(&*disk, &config.data_dir)?;
        let settings = ClusterSettings::open(&*disk, &config.data_dir)?;
        let start_config = Arc::new(config);
        let config = dynamic_configs::effective(&start_config, &settings);
        let catalog = files::read(&*disk, &config.data_dir, topics::FILE)?;
        let topics = catalog.as_deref().map(topics::parse).transpose()?;
        let known = topics.is_some();
        let mut topics = topics.unwrap_or_default();
        topics.set_defaults(config.topic_defaults.clone());
        let kafka = if known { None } else { kafka_metadata::read(&*disk, &config.data_dir) };
        let options = log_dir_options(&config, known.then_some(&topics), &mut ids);
        let (logs, recovery) =
            Logs::open(disk.clone(), &config.data_dir, options, config.inflate_bytes_max, now)?;
        report_recovery(&recovery);
        let known_id = |end| logs.iter().filter_map(|(_, log)| log.producer_id_max(end)).max();
        let producer_ids = ProducerIds::open(&*disk, &config.data_dir, known_id)?;
        let scram_users = ScramUsers::open(&*disk, &config.data_dir)?;
        let mut broker = Self {
            cluster_id: Str::copy_from(logs.cluster_id()),
            disk,
            logs,
            topics,
            coordinator: Coordinator::default(),
            transactions: Transactions::default(),
            purgatory: Purgatory::default(),
            commit_queue: CommitQueue::default(),
            producer_ids,
            scram_users,
            staged: Staged::default(),
            unmade_logs: VecDeque::new(),
            ids,
            fetch_sessions: FetchSessions::new(
                config.fetch_session_slots_max,
                config.fetch_session_partitions_max,
            ),
            fetch_turn: 0,
            recovery,
            next_ticket: 1,
            next_housekeeping: now.plus_ms(HOUSEKEEPING_INTERVAL_MS),
            next_offsets_check: now.plus_ms(OFFSETS_CHECK_INTERVAL_MS),
            config,
            start_config,
            settings,
        };
        if known {
            broker.link_logs(now);
        } else {
            broker.adopt_logs(kafka.as_ref())?;
        }
        broker.replay_transactions()?;
        broker.replay_offsets(now)?;
        broker.reconcile_transactions(now);
        if broker.logs.has_dirty() {
            broker.commit_queue.appended(false);
        }
        Ok(broker)
    }

    /// Gives the topics of the catalog their logs, and carries out deletions that a crash has interrupted.
    fn link_logs(&mut self, now: TimestampMs) {
        let found: Vec<(LogId, Str, PartitionId, Uuid)> = self
            .logs
            .iter()
            .map(|(id, log)| (id, Str::copy_from(log.topic()), log.partition(), log.topic_id()))
            .collect();
        let mut kept = HashSet::new();
        for (id, name, partition, topic_id) in found {
            let topic = self.topics.get_mut(&name);
            let ours = topic.filter(|topic| {
                let in_range = topic.existing_log(partition).is_ok();
                in_range && (topic.id() == topic_id || topic_id.is_zero())
            });
            if let Some(topic) = ours {
                topic.set_log(partition, id);
            } else if self.topics.deleting.iter().any(|gone| gone.id == topic_id) {
                if let Err(error) = self.logs.delete(id, now) {
                    kept.insert(topic_id);
                    tracing::warn!(topic = %name, %partition, %error, "the log of a deleted topic is still there");
                }
            } else {
                tracing::warn!(topic = %name, %partition, "a log belongs to no topic; it is left alone");
            }
        }
        if !self.topics.deleting.is_empty() {
            self.commit_queue.appended(false);
        }
        let mark = self.commit_queue.mark();
        for gone in &self.topics.deleting {
            let id = (!kept.contains(&gone.id)).then_some(gone.id);
            self.staged.settle(gone.name.clone(), id, mark);
        }
    }

    /// The directory has no catalog: its topics are those of its logs, with the configurations that Kafka knew.
    ///
    /// Of a topic whose configuration is not known nothing is deleted until it is given one: it may be one that is
    /// compacted, or kept for good.
    fn adopt_logs(&mut self, kafka: Option<&KafkaTopics>) -> Result<(), BrokerError> {
        let mut found: BTreeMap<Str, (Uuid, Vec<(PartitionId, LogId)>)> = BTreeMap::new();
        for (id, log) in self.logs.iter() {
            let entry = found.entry(Str::copy_from(log.topic())).or_default();
            if entry.0.is_zero() {
                entry.0 = log.topic_id();
            }
            entry.1.push((log.partition(), id));
        }
        if found.is_empty() {
            return Ok(());
        }
        for (name, (id, logs)) in found {
            let told = kafka.and_then(|kafka| kafka.configs_of(&name, id));
            let configs = kafka_metadata::configs_to_adopt(&name, told);
            let id = if id.is_zero() { self.ids.uuid() } else { id };
            let last = logs.iter().map(|(partition, _)| partition.get()).max().unwrap_or(0);
            let partitions = usize::try_from(last).unwrap_or(0) + 1;
            self.topics.insert(Topic::new(name.clone(), id, partitions, configs));
            let Some(topic) = self.topics.get_mut(&name) else { continue };
            let log_config = topic.log_config();
            for (partition, log) in logs {
                topic.set_log(partition, log);
                self.logs.set_config(log, log_config.clone());
            }
        }
        self.save_topics()
    }

    /// The id of the cluster.
    #[must_use]
    pub fn cluster_id(&self) -> &Str {
        &self.cluster_id
    }

    /// Takes one request of a connection.
    ///
    /// `request` comes back emptied, but for the memory of its frame.
    pub fn handle(
        &mut self,
        connection: &Connection,
        header: &RequestHeader,
        request: &mut Request,
        now: TimestampMs,
    ) -> Effects {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let mut woken = Vec::new();
        let step = self.dispatch(connection, ticket, header, request, now, &mut woken);
        let reply = match step {
            Step::Answer(response) => Reply::Now(Box::new(response)),
            Step::Silent => Reply::Silent,
            Step::Close => Reply::Close,
            Step::LookInside => Reply::LookInside,
            // A group may have answered at once.
            Step::Parked => match woken.iter().position(|(woken, _)| *woken == ticket) {
                Some(at) => Reply::Now(Box::new(woken.swap_remove(at).1)),
                None => Reply::Parked(ticket),
            },
        };
        Effects { reply, woken }
    }

    pub(crate) fn dispatch(
        &mut self,
        connection: &Connection,
        ticket: Ticket,
        header: &RequestHeader,
        request: &mut Request,
        now: TimestampMs,
        woken: &mut Vec<(Ticket, Response)>,
    ) -> Step {
        if self.must_wait(request) {
            let request = std::mem::replace(request, Request::ApiVersions);
            let (connection, header) = (connection.clone(), header.clone());
            let put_aside = PutAside { ticket, connection, header, request };
            self.commit_queue.push(Due::Again(Box::new(put_aside)));
            return Step::Parked;
        }
        let version = header.api_version;
        let meta = RequestMeta { version, client_id: header.client_id.as_ref(), now };
        match request {
            Request::Produce(produce) => self.produce(ticket, produce, now),
            Request::Fetch(fetch) => self.fetch(connection.id, ticket, fetch, version, now, woken),
            Request::ApiVersions => {
                Step::Answer(Response::ApiVersions(api_table::api_versions(version)))
            }
            Request::BadApiVersions => {
                Step::Answer(Response::ApiVersions(api_table::to_bad_software()))
            }
            Request::Metadata(metadata) => self.metadata(connection, metadata, version),
            Request::ListOffsets(list) => self.list_offsets(list, version),
            Request::OffsetForLeaderEpoch(epochs) => self.offset_for_leader_epoch(epochs),
            Request::OffsetCommit(commit) => self.offset_commit(ticket, commit, version, now),
            Request::OffsetFetch(fetch) => self.offset_fetch(fetch, version),
            Request::OffsetDelete(delete) => self.offset_delete(ticket, delete, now),
            Request::FindCoordinator(find) => {
                self.find_coordinator(connection, std::mem::take(&mut **find), version)
            }
            Request::JoinGroup(join) => {
                self.join_group(connection, ticket, std::mem::take(&mut **join), meta, woken)
            }
            Request::SyncGroup(sync) => self.sync_group(ticket, sync, version, now, woken),
            Request::Heartbeat(heartbeat) => self.heartbeat(heartbeat, now),
            Request::LeaveGroup(leave) => self.leave_group(leave, version, now, woken),
            Request::DescribeGroups(describe) => self.describe_groups(describe, version),
            Request::ListGroups(list) => self.list_groups(list),
            Request::ConsumerGroupHeartbeat(beat) => {
                self.consumer_group_heartbeat(connection, ticket, beat, meta, woken)
            }
            Request::ConsumerGroupDescribe(describe) => {
                self.consumer_group_describe(describe, version)
            }
            Request::DeleteGroups(delete) => self.delete_groups(ticket, delete, now),
            Request::CreateTopics(create) => self.create_topics(ticket, create),
            Request::DeleteTopics(delete) => self.delete_topics(ticket, delete, version),
            Request::CreatePartitions(create) => self.create_partitions(ticket, create),
            Request::IncrementalAlterConfigs(alter) => {
                self.incremental_alter_configs(ticket, alter)
            }
            Request::AlterConfigs(alter) => self.alter_configs(ticket, alter),
            Request::ListConfigResources(list) => self.list_config_resources(list, version),
            Request::DescribeAcls(describe) => self.describe_acls(describe),
            Request::CreateAcls(create) => self.create_acls(ticket, create),
            Request::DeleteAcls(delete) => self.delete_acls(ticket, delete),
            Request::DescribeClientQuotas(describe) => self.describe_client_quotas(describe),
            Request::AlterClientQuotas(alter) => self.alter_client_quotas(ticket, alter),
            Request::ElectLeaders(elect) => self.elect_leaders(elect, version),
            Request::AlterPartitionReassignments(alter) => {
                self.alter_partition_reassignments(alter)
            }
            Request::ListPartitionReassignments(_) => Self::list_partition_reassignments(),
            Request::AlterReplicaLogDirs(alter) => self.alter_replica_log_dirs(alter),
            Request::DescribeQuorum(describe) => self.describe_quorum(connection, describe, now),
            Request::UpdateFeatures(update) => Self::update_features(update, version),
            Request::UnregisterBroker(unregister) => Self::unregister_broker(unregister),
            Request::DescribeTopicPartitions(describe) => self.describe_topic_partitions(describe),
            Request::DeleteRecords(delete) => self.delete_records(ticket, delete, now),
            Request::DescribeLogDirs(describe) => self.describe_log_dirs(describe),
            Request::DescribeUserScramCredentials(describe) => {
                self.describe_user_scram_credentials(describe)
            }
            Request::AlterUserScramCredentials(alter) => {
                self.alter_user_scram_credentials(ticket, alter)
            }
            // A login is the listener's: who gets here has no business with one.
            Request::SaslHandshake(_) => Step::Answer(authenticator::answer_to_handshake()),
            Request::SaslAuthenticate(_) => Step::Answer(authenticator::answer_to_authenticate()),
            Request::InitProducerId(init) => self.init_producer_id(ticket, init, version, now),
            Request::AddPartitionsToTxn(add) => {
                self.add_partitions_to_txn(ticket, add, version, now)
            }
            Request::AddOffsetsToTxn(add) => self.add_offsets_to_txn(ticket, add, version, now),
            Request::EndTxn(end) => self.end_txn(ticket, end, version, now),
            Request::TxnOffsetCommit(commit) => {
                self.txn_offset_commit(ticket, commit, version, now)
            }
            Request::WriteTxnMarkers(write) => self.write_txn_markers(ticket, write, now),
            Request::ListTransactions(list) => self.list_transactions(list, now),
            Request::DescribeTransactions(describe) => self.describe_transactions(describe),
            Request::DescribeProducers(describe) => self.describe_producers(describe),
            Request::DescribeConfigs(describe) => self.describe_configs(connection, describe),
            Request::DescribeCluster(describe) => self.describe_cluster(connection, describe),
        }
    }

    /// A connection is gone. Returns the tickets that will not be answered any more.
    ///
    /// Its members stay until their sessions end, as in Kafka.
    pub fn disconnect(&mut self, connection: ConnId) -> Vec<Ticket> {
        self.purgatory.drop_connection(connection)
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: TimestampMs) -> Vec<(Ticket, Response)> {
        let mut woken = Vec::new();
        self.expire_fetches(now, &mut woken);
        self.tick_groups(now, &mut woken);
        self.tick_transactions(now);
        if now >= self.next_housekeeping {
            self.next_housekeeping = now.plus_ms(HOUSEKEEPING_INTERVAL_MS);
            if self.logs.failure().is_none() {
                if let Err(error) = self.logs.tick(now) {
                    tracing::warn!(%error, "housekeeping of the logs failed");
                }
            }
            self.note_housekeeping();
        }
        if now >= self.next_offsets_check {
            self.next_offsets_check = now.plus_ms(OFFSETS_CHECK_INTERVAL_MS);
            self.expire_offsets(now);
        }
        woken
    }

    /// Begins what upkeep is due: run it without any lock. `None` if nothing is, or while one runs.
    pub fn begin_upkeep(&mut self, now: TimestampMs) -> Option<Upkeep> {
        let upkeep = self.logs.begin_upkeep(now);
        self.note_housekeeping();
        upkeep
    }

    /// Takes an upkeep in that has run. Returns whether it got on, so that more may be due at once.
    pub fn finish_upkeep(&mut self, done: UpkeepDone, now: TimestampMs) -> bool {
        let progress = self.logs.finish_upkeep(done, now);
        self.note_housekeeping();
        progress
    }

    /// Cleans a compacted partition soon, however little of it is dirty. Returns whether it is compacted.
    ///
    /// # Errors
    /// If there is no such topic or partition, or it has not been written to.
    pub fn request_clean(
        &mut self,
        topic: &str,
        partition: PartitionId,
    ) -> Result<bool, ErrorCode> {
        let found = self.topics.get(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let log = found.existing_log(partition)?.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        self.logs.request_clean(log)
    }

    /// An upkeep was begun and will never end, as its thread has panicked.
    pub fn abandon_upkeep(&mut self) {
        tracing::error!("the upkeep thread has panicked; what it was at is left alone");
        self.logs.abandon_upkeep();
    }

    /// The clock that `now` comes from was set, forward or back: what has a deadline keeps the time it had left.
    pub fn clock_set(&mut self, by_ms: i64) {
        self.purgatory.shift(by_ms);
        self.fetch_sessions.shift(by_ms);
        self.coordinator.shift(by_ms);
        self.transactions.shift(by_ms);
        self.logs.clock_set(by_ms);
        self.next_housekeeping = self.next_housekeeping.plus_ms(by_ms);
        self.next_offsets_check = self.next_offsets_check.plus_ms(by_ms);
    }

    /// Checkpoints and the like also go with a commit, a few logs at a time.
    fn note_housekeeping(&mut self) {
        if self.logs.failure().is_none() && self.logs.has_dirty() {
            self.commit_queue.appended(false);
        }
    }

    /// When [`Broker::tick`] is needed next.
    #[must_use]
    pub fn next_deadline(&self) -> TimestampMs {
        let transactions = self.transactions.next_deadline();
        [self.purgatory.next_deadline(), self.coordinator.next_deadline(), transactions]
            .into_iter()
            .flatten()
            .fold(self.next_housekeeping, TimestampMs::min)
    }

    /// How soon a commit must begin.
    #[must_use]
    pub fn commit_need(&self) -> CommitNeed {
        self.commit_queue.need()
    }

    /// Begins the commit of all that was appended so far; `None` if there is nothing to do. One at a time.
    pub fn begin_commit(&mut self) -> Option<PendingCommit> {
        if self.commit_queue.need() == CommitNeed::None {
            return None;
        }
        self.commit_queue.begin();
        let writes = self.staged.begin(&self.topics, &self.scram_users, &self.settings);
        let (disk, dir) = (self.disk.clone(), self.config.data_dir.clone());
        let files = PendingFiles { disk, dir, writes };
        let group = self.logs.begin_commit();
        let work = match (group, self.logs.failure()) {
            (Some(group), _) => Ok(Some(group)),
            (None, None) => Ok(None),
            (None, Some(error)) => Err(error),
        };
        Some(PendingCommit { files, work })
    }

    /// Takes in a commit that has run: what it covers is seen and answered from now on. After a failed one everything
    /// that waited for it gets an error, and every later append too: the directory is offline until the next start.
    pub fn finish_commit(&mut self, done: CommitDone, now: TimestampMs) -> Vec<(Ticket, Response)> {
        let mut woken = Vec::new();
        let synced = match done.result {
            Ok(committed) => Ok(committed
                .map(|committed| self.logs.finish_commit(committed))
                .unwrap_or_default()),
            Err(error) => {
                tracing::error!(%error, "commit failed; the log directory is offline");
                self.logs.take_offline(&error.reason);
                Err(error)
            }
        };
        if let Err(failed) = &done.files {
            tracing::error!(error = %failed.error, "the broker could not write its files");
        }
        let outcome = CommitOutcome { synced: synced.is_ok(), stored: done.files.is_ok() };
        self.finish_staged(outcome.stored, now, &mut woken);
        self.make_some_logs(now);
        let due = self.commit_queue.finish();
        self.finish_deletions();
        for due in due {
            self.carry_out(due, outcome, now, &mut woken);
        }
        let synced = synced.unwrap_or_default();
        self.wake_fetches(synced.into_iter().map(|(log, _)| log), now, &mut woken);
        self.note_housekeeping();
        woken
    }

    /// A commit was begun and will never end, as its thread has panicked: nobody knows what is on disk. Takes the
    /// directory offline and answers all that waits.
    pub fn abandon_commits(&mut self, now: TimestampMs) -> Vec<(Ticket, Response)> {
        tracing::error!("the commit thread has panicked; the log directory is offline");
        self.logs.take_offline("the commit thread has panicked");
        let mut woken = Vec::new();
        let outcome = CommitOutcome { synced: false, stored: false };
        self.finish_staged(outcome.stored, now, &mut woken);
        for due in self.commit_queue.abandon() {
            self.carry_out(due, outcome, now, &mut woken);
        }
        woken
    }

    fn carry_out(
        &mut self,
        due: Due,
        outcome: CommitOutcome,
        now: TimestampMs,
        woken: &mut Vec<(Ticket, Response)>,
    ) {
        let CommitOutcome { synced, stored } = outcome;
        let failed = ErrorCode::KafkaStorageError;
        match due {
            Due::Answer(ticket, response) if synced => woken.push((ticket, response)),
            Due::Answer(ticket, response) => woken.push((ticket, fail(response))),
            Due::Stored(ticket, response) if stored => woken.push((ticket, response)),
            Due::Stored(ticket, response) => woken.push((ticket, fail(response))),
            Due::Again(put_aside) => self.again(*put_aside, stored, now, woken),
            Due::Offsets { ticket, response, group, offsets } => {
                self.offsets_stored(ticket, &group, offsets, synced);
                let response = if synced { response } else { fail(response) };
                woken.push((ticket, response));
            }
            Due::Assignment { group, generation } => {
                let result = if synced { Ok(()) } else { Err(failed) };
                self.assignment_stored(&group, generation, result, now, woken);
            }
            Due::Transaction(due) => self.transaction_due(due, synced, now, woken),
        }
    }

    /// What there is, for people.
    #[must_use]
    pub fn stats(&self) -> BrokerStats {
        let topics = self.topics.iter().map(|topic| {
            let bounds = |(_, log)| self.logs.bounds_or_empty(log);
            let size = |(_, log): (_, Option<LogId>)| {
                log.and_then(|log| self.logs.get(log)).map_or(0, weir_log::Log::size_bytes)
            };
            let sizes_bytes: Vec<u64> = topic.partitions().map(size).collect();
            TopicStats {
                name: topic.name().to_string(),
                internal: topic.is_internal(),
                partitions: topic.partition_count(),
                size_bytes: sizes_bytes.iter().sum(),
                sizes_bytes,
                start_offsets: topic
                    .partitions()
                    .map(bounds)
                    .map(|bounds| bounds.start.get())
                    .collect(),
                end_offsets: topic
                    .partitions()
                    .map(bounds)
                    .map(|bounds| bounds.high_watermark.get())
                    .collect(),
            }
        });
        let groups = self.coordinator.iter().map(|(name, entry)| GroupStats {
            name: name.to_string(),
            state: entry.group.state_name(),
            members: entry.group.member_count(),
            generation: entry.group.generation(),
            offsets: entry
                .offsets
                .iter()
                .map(|(topic, partitions)| {
                    let offsets = partitions
                        .iter()
                        .map(|(index, committed)| (*index, committed.offset))
                        .collect();
                    (topic.to_string(), offsets)
                })
                .collect(),
        });
        BrokerStats {
            cluster_id: self.cluster_id.to_string(),
            topics: topics.collect(),
            groups: groups.collect(),
            transactions: self.transactions.stats(),
            clean_start: self.recovery.clean,
            partitions_recovered: self.recovery.logs_recovered,
            records_cut: self.recovery.records_cut,
            fetches_waiting: self.purgatory.len(),
            commits_waiting: self.commit_queue.len(),
            failure: self.logs.failure().map(|error| error.to_string()),
            disk_full: self.logs.disk_full().map(str::to_owned),
            connections: 0,
            cleaner: self.logs.cleaner_stats(),
        }
    }

    /// Commits everything and leaves the directory so that the next start need not look for damage.
    ///
    /// # Errors
    /// If that fails; the next start then recovers.
    pub fn close(self) -> Result<(), BrokerError> {
        self.logs.close().map_err(BrokerError::from)
    }
}

/// What a commit has brought.
#[derive(Debug, Clone, Copy)]
struct CommitOutcome {
    /// What was appended is on disk.
    synced: bool,
    /// So are the broker's own files.
    stored: bool,
}

pub(crate) fn check_config(config: &BrokerConfig) -> Result<(), BrokerError> {
    if config.num_partitions < 1 {
        let value = config.num_partitions.to_string();
        return Err(BrokerError::Config {
            key: "num_partitions",
            value,
            expected: "a number above 0",
        });
    }
    if config.request_bytes_total_max < config.request_bytes_max {
        let value = config.request_bytes_total_max.to_string();
        let expected = "at least request_bytes_max";
        return Err(BrokerError::Config { key: "request_bytes_total_max", value, expected });
    }
    check_listeners(config)?;
    group_configs::check(config)
}

fn check_listeners(config: &BrokerConfig) -> Result<(), BrokerError> {
    for (at, listener) in config.listeners.iter().enumerate() {
        let bad = |reason| BrokerError::Listener { name: listener.name.clone(), reason };
        listener.check().map_err(bad)?;
        if config.listeners[..at].iter().any(|other| other.name == listener.name) {
            return Err(bad("is there twice"));
        }
    }
    Ok(())
}

fn log_dir_options(
    config: &BrokerConfig,
    catalog: Option<&Topics>,
    ids: &mut IdSource,
) -> LogDirOptions {
    let topics = catalog.into_iter().flat_map(Topics::iter);
    let topic_configs: HashMap<_, _> =
        topics.map(|topic| (topic.name().to_string(), topic.log_config())).collect();
    let default_config = match catalog {
        // A log that is not in it is somebody's data: what topics obey by default is not for it.
        Some(_) => LogConfig::default(),
        // Each was checked when it was set.
        None => log_config(&BTreeMap::new(), &config.topic_defaults).unwrap_or_default(),
    };
    LogDirOptions {
        cluster_id: config.cluster_id.clone(),
        new_cluster_id: ids.uuid(),
        new_directory_id: ids.uuid(),
        node_id: NodeId(NODE_ID),
        default_config,
        topic_configs,
        producer_id_expiration_ms: PRODUCER_ID_EXPIRATION_MS,
        producers_per_log_max: config.producers_per_partition_max,
        producers_max: config.producers_max,
        checkpoint_interval_ms: CHECKPOINT_INTERVAL_MS,
        checkpoint_bytes: CHECKPOINT_BYTES,
        retention_check_interval_ms: config.retention_check_interval_ms,
        journal_bytes_max: Some(config.journal_bytes_max),
        journal_group_bytes_max: weir_log::journal::GROUP_BYTES_MAX,
        cleaner: cleaner_options(config),
        recovery_watch: config.recovery_watch.clone(),
    }
}

fn report_recovery(report: &RecoveryReport) {
    if !report.clean && report.logs_recovered > 0 {
        tracing::info!(
            partitions = report.logs_recovered,
            bytes = report.bytes_scanned,
            records_cut = report.records_cut,
            "recovered after an unclean stop"
        );
    }
    if report.journal_records > 0 {
        tracing::info!(
            commits = report.journal_records,
            bytes = report.journal_bytes,
            "the commit journal was replayed"
        );
    }
    for warning in &report.warnings {
        tracing::warn!("{warning}");
    }
    for what in &report.bad_files {
        tracing::error!("{what}");
    }
    for damage in &report.damage {
        let said = match damage.bytes_cut {
            0 => "records of a log are missing or cannot be read",
            _ => "damage inside a log was cut out and kept aside",
        };
        tracing::error!(
            topic = damage.topic,
            partition = damage.partition,
            offset = damage.offset.get(),
            bytes = damage.bytes_cut,
            kept_in = %damage.kept_in.display(),
            what = damage.what,
            "{said}"
        );
    }
}

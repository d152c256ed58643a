//! [`Staged`]: changes of the broker's own files that are on their way to the disk.
//!
//! The catalog of topics, the settings and the block of producer ids are small files that are replaced whole. Their syncs belong to the
//! commit, as those of the logs do: the core never waits for one under its lock. A change is staged, goes with the next
//! commit, and is seen by clients once it is on disk, with the answers that wait for it. So a topic gets its logs only
//! when the catalog names it for good, and loses them only when the catalog names it no more.
//!
//! A request that needs what is staged, or would change it again, is put aside and comes again after that commit
//! ([`crate::commit_queue::Due::Again`]).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::mem;

use weir_log::check_topic_name;
use weir_protocol::api::delete_topics::DeleteTopicsRequest;
use weir_protocol::api::metadata::MetadataRequest;
use weir_protocol::{ErrorCode, Str, TimestampMs, Uuid};

use crate::broker::{Broker, Step};
use crate::commit_queue::{Due, Mark};
use crate::effects::Ticket;
use crate::files::FileWrite;
use crate::metadata::{KEY_TYPE_GROUP, KEY_TYPE_TRANSACTION};
use crate::producer_ids;
use crate::request::{distinct, Request, Response};
use crate::scram_users::{ScramChange, ScramUsers};
use crate::settings::{self, ClusterSettings, ConfigOwner, SettingsChange};
use crate::topic_requests::Refused;
use crate::topics::{
    self, is_internal, plain_name, Deleting, Topic, Topics, OFFSETS_TOPIC, TRANSACTIONS_TOPIC,
};

/// One change.
#[derive(Debug)]
pub enum Change {
    /// A topic is made.
    Create(Topic),
    /// A topic goes, and then its logs.
    Delete {
        /// Its name.
        name: Str,
        /// Its id.
        id: Uuid,
    },
    /// A topic gets more partitions.
    Grow {
        /// Its name.
        name: Str,
        /// How many it has then.
        partitions: usize,
    },
    /// A topic gets another configuration.
    Configure {
        /// Its name.
        name: Str,
        /// All of it, without defaults.
        configs: BTreeMap<String, String>,
    },
    /// Producer ids below this may be given.
    ProducerIds {
        /// The first that may not.
        block_end: i64,
    },
    /// SCRAM credentials are set or removed.
    ScramUsers {
        /// Each user at most once.
        changes: Vec<ScramChange>,
    },
    /// What admin clients set beside topics changes.
    Settings {
        /// How.
        change: SettingsChange,
        /// How many bytes their file grows by, at most.
        more_bytes: usize,
    },
}

impl Change {
    fn topic(&self) -> Option<&Str> {
        match self {
            Self::Create(topic) => Some(topic.name()),
            Self::Delete { name, .. } | Self::Grow { name, .. } | Self::Configure { name, .. } => {
                Some(name)
            }
            Self::ProducerIds { .. } | Self::ScramUsers { .. } | Self::Settings { .. } => None,
        }
    }
}

/// Changes that are on their way.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    /// They go with the next commit.
    waiting: Vec<Change>,
    /// They go with the commit that runs.
    running: Vec<Change>,
    /// A commit of such changes has just failed, and those who waited for it are being told.
    failing: bool,
    /// Topics that are deleted, by name, until that is on disk whole.
    settling: HashMap<Str, Settling>,
    /// Topics that changes are about, and how many: what is staged may be as much as one request can name.
    touched: HashMap<Str, usize>,
    /// [`plain_name`] → the name of a topic that is being made.
    created: HashMap<String, Str>,
    waiting_more: More,
    running_more: More,
}

/// What changes add to what there is.
#[derive(Debug, Default, Clone, Copy)]
struct More {
    partitions: usize,
    settings_bytes: usize,
}

/// A deletion whose renames and tombstones are not on disk yet. Until they are the catalog says that it is under way, and
/// there is no other topic of the name: after a power cut that one would have the logs and the committed offsets of this one.
#[derive(Debug)]
struct Settling {
    /// The commit that brings them.
    mark: Mark,
    /// Its line in the catalog that goes then; `None` if there is none, or its logs are not gone.
    id: Option<Uuid>,
}

impl Staged {
    fn iter(&self) -> impl Iterator<Item = &Change> {
        self.running.iter().chain(&self.waiting)
    }

    fn push(&mut self, change: Change, topics: &Topics) {
        if let Some(name) = change.topic() {
            *self.touched.entry(name.clone()).or_default() += 1;
        }
        match &change {
            Change::Create(topic) => {
                self.created.insert(plain_name(topic.name()), topic.name().clone());
                self.waiting_more.partitions += topic.partition_count();
            }
            Change::Grow { name, partitions } => {
                let now = topics.get(name).map_or(0, Topic::partition_count);
                self.waiting_more.partitions += partitions.saturating_sub(now);
            }
            Change::Settings { more_bytes, .. } => self.waiting_more.settings_bytes += more_bytes,
            _ => {}
        }
        self.waiting.push(change);
    }

    /// Whether a change of this topic is on its way, or its end is not on disk yet.
    pub(crate) fn touches(&self, name: &str) -> bool {
        self.settling.contains_key(name) || self.touched.contains_key(name)
    }

    /// A topic was deleted; the commit of `mark` brings its end to disk.
    pub(crate) fn settle(&mut self, name: Str, id: Option<Uuid>, mark: Mark) {
        let id = id.or_else(|| self.settling.get(&name).and_then(|settling| settling.id));
        self.settling.insert(name, Settling { mark, id });
    }

    /// Takes out what has come to disk. Returns the ids of topics whose lines may leave the catalog.
    fn take_settled(&mut self, is_synced: impl Fn(Mark) -> bool) -> HashSet<Uuid> {
        let mut settled = HashSet::new();
        self.settling.retain(|_, settling| {
            let is_settled = is_synced(settling.mark);
            settled.extend(settling.id.filter(|_| is_settled));
            !is_settled
        });
        settled
    }

    /// The topic that is being made of this name, or of one that differs in dots and underscores alone.
    pub(crate) fn created_like(&self, name: &str) -> Option<&Str> {
        self.created.get(&plain_name(name))
    }

    /// Partitions that there will be more than there are. What is being deleted still counts.
    pub(crate) fn more_partitions(&self) -> usize {
        self.running_more.partitions + self.waiting_more.partitions
    }

    /// Whether producer ids are on their way.
    pub(crate) fn has_producer_ids(&self) -> bool {
        self.iter().any(|change| matches!(change, Change::ProducerIds { .. }))
    }

    /// SCRAM credentials that are on their way.
    fn scram_changes(changes: &[Change]) -> impl Iterator<Item = &ScramChange> {
        changes.iter().flat_map(|change| match change {
            Change::ScramUsers { changes } => changes.as_slice(),
            _ => &[],
        })
    }

    /// Whether any are.
    fn has_scram_users(&self) -> bool {
        self.iter().any(|change| matches!(change, Change::ScramUsers { .. }))
    }

    fn settings(&self) -> impl Iterator<Item = &SettingsChange> {
        self.iter().filter_map(|change| match change {
            Change::Settings { change, .. } => Some(change),
            _ => None,
        })
    }

    /// Whether a change of the settings is on its way.
    pub(crate) fn has_settings(&self) -> bool {
        self.settings().next().is_some()
    }

    /// How many bytes the file of settings will grow by, at most.
    pub(crate) fn more_settings_bytes(&self) -> usize {
        self.running_more.settings_bytes + self.waiting_more.settings_bytes
    }

    /// A commit begins: what waits goes with it. Returns the files to write.
    pub(crate) fn begin(
        &mut self,
        topics: &Topics,
        scram_users: &ScramUsers,
        settings: &ClusterSettings,
    ) -> Vec<FileWrite> {
        debug_assert!(self.running.is_empty(), "one commit at a time");
        self.running = mem::take(&mut self.waiting);
        self.running_more = mem::take(&mut self.waiting_more);
        let mut writes = Vec::new();
        if self.running.iter().any(|change| change.topic().is_some()) {
            let text = topics::print(topics, &self.running);
            writes.push(FileWrite { file: topics::FILE, text });
        }
        let block_ends = self.running.iter().filter_map(|change| match change {
            Change::ProducerIds { block_end } => Some(*block_end),
            _ => None,
        });
        if let Some(block_end) = block_ends.max() {
            writes.push(FileWrite { file: producer_ids::FILE, text: format!("{block_end}\n") });
        }
        if Self::scram_changes(&self.running).next().is_some() {
            writes.push(scram_users.write(Self::scram_changes(&self.running)));
        }
        if self.has_settings() {
            let mut after = settings.clone();
            self.settings().for_each(|change| after.apply(change));
            writes.push(FileWrite { file: settings::FILE, text: settings::print(&after) });
        }
        writes
    }

    /// The commit has ended: what went with it.
    fn finish(&mut self) -> Vec<Change> {
        self.running_more = More::default();
        for change in &self.running {
            let Some(name) = change.topic() else { continue };
            if let Some(count) = self.touched.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.touched.remove(name);
                }
            }
            if let Change::Create(_) = change {
                self.created.remove(&plain_name(name));
            }
        }
        mem::take(&mut self.running)
    }
}

impl Broker {
    /// Stages a change, which goes with the next commit.
    ///
    /// # Errors
    /// If nothing can be written.
    pub(crate) fn stage(&mut self, change: Change) -> Result<(), Refused> {
        if let Some(failure) = self.logs.failure() {
            return Err((ErrorCode::KafkaStorageError, failure.to_string()));
        }
        if self.staged.failing {
            let words = "The broker could not write its files.".to_owned();
            return Err((ErrorCode::KafkaStorageError, words));
        }
        self.staged.push(change, &self.topics);
        self.commit_queue.appended(true);
        Ok(())
    }

    /// Answers at once where nothing was staged, else as [`Self::answer_when_stored`] does.
    pub(crate) fn answer_staged(
        &mut self,
        ticket: Ticket,
        response: Response,
        is_staged: bool,
    ) -> Step {
        match is_staged {
            true => self.answer_when_stored(ticket, response),
            false => Step::Answer(response),
        }
    }

    /// Parks the answer to a request that has staged something, until that is on disk.
    pub(crate) fn answer_when_stored(&mut self, ticket: Ticket, response: Response) -> Step {
        self.commit_queue.push(Due::Stored(ticket, response));
        Step::Parked
    }

    /// Whether a request must wait for what is on its way to the disk. What it needs and is not there yet is staged.
    pub(crate) fn must_wait(&mut self, request: &Request) -> bool {
        if self.staged.failing || self.logs.failure().is_some() {
            return false;
        }
        match request {
            Request::Metadata(metadata) => self.stage_wanted_topics(metadata),
            Request::FindCoordinator(find) => match find.key_type {
                KEY_TYPE_GROUP => self.stage_offsets_topic(),
                KEY_TYPE_TRANSACTION => self.stage_transactions_topic(),
                _ => false,
            },
            Request::JoinGroup(join) => {
                !join.group_id.is_empty() && join.member_id.is_empty() && self.stage_offsets_topic()
            }
            Request::ConsumerGroupHeartbeat(beat) => {
                !beat.group_id.is_empty() && beat.member_epoch == 0 && self.stage_offsets_topic()
            }
            Request::OffsetCommit(commit) => {
                !commit.topics.is_empty() && self.stage_offsets_topic()
            }
            Request::InitProducerId(init) => {
                let has_transactions = init.transactional_id.is_some();
                let waits = has_transactions && self.stage_transactions_topic();
                self.stage_next_producer_ids() || waits
            }
            Request::AddOffsetsToTxn(_) | Request::TxnOffsetCommit(_) => self.stage_offsets_topic(),
            Request::EndTxn(end) => self.end_must_wait(end),
            // Whether a user is there must be known.
            Request::AlterUserScramCredentials(_) => self.staged.has_scram_users(),
            Request::CreateTopics(create) => {
                create.topics.iter().any(|topic| self.staged.touches(&topic.name))
            }
            Request::DeleteTopics(delete) => self.touches_deleted(delete),
            Request::CreatePartitions(create) => {
                create.topics.iter().any(|topic| self.staged.touches(&topic.name))
            }
            Request::IncrementalAlterConfigs(alter) => {
                self.staged.has_settings()
                    || alter.resources.iter().any(|one| self.staged.touches(&one.resource_name))
            }
            Request::AlterConfigs(alter) => {
                self.staged.has_settings()
                    || alter.resources.iter().any(|one| self.staged.touches(&one.resource_name))
            }
            Request::CreateAcls(_) | Request::DeleteAcls(_) | Request::AlterClientQuotas(_) => {
                self.staged.has_settings()
            }
            _ => false,
        }
    }

    fn touches_deleted(&self, request: &DeleteTopicsRequest) -> bool {
        let by_id = |id: Uuid| self.topics.get_by_id(id).map(Topic::name);
        let named = request.topics.iter().filter_map(|one| one.name.as_ref());
        let ids = request.topics.iter().filter_map(|one| by_id(one.topic_id));
        named.chain(&request.topic_names).chain(ids).any(|name| self.staged.touches(name))
    }

    /// Stages the topics that come of themselves. Whether one of them is on its way.
    fn stage_wanted_topics(&mut self, request: &MetadataRequest) -> bool {
        if !request.allow_auto_topic_creation || !self.config.auto_create_topics {
            return false;
        }
        let mut waits = false;
        let wanted = request.topics.as_deref().unwrap_or_default();
        let wanted = distinct(wanted, |wanted| (&wanted.name, wanted.topic_id));
        if wanted.len() > self.config.request_names_max {
            return false;
        }
        for name in wanted.into_iter().filter_map(|wanted| wanted.name.as_ref()) {
            if self.topics.get(name).is_some() || check_topic_name(name).is_err() {
                continue;
            }
            waits |= match &**name {
                OFFSETS_TOPIC => self.stage_offsets_topic(),
                TRANSACTIONS_TOPIC => self.stage_transactions_topic(),
                _ => self.stage_topic_with_defaults(name),
            };
        }
        waits
    }

    /// Takes in what a commit has brought of the broker's own files.
    pub(crate) fn finish_staged(
        &mut self,
        stored: bool,
        now: TimestampMs,
        woken: &mut Vec<(Ticket, Response)>,
    ) {
        let changes = self.staged.finish();
        if changes.is_empty() || !stored {
            return;
        }
        let deleted = changes.iter().filter_map(|change| match change {
            Change::Delete { name, .. } if *name != OFFSETS_TOPIC => Some(name.clone()),
            _ => None,
        });
        self.forget_offsets_of(&deleted.collect(), now);
        for change in changes {
            self.apply(change, now);
        }
        self.wake_all_fetches(now, woken);
    }

    /// A commit has ended: deletions that it has brought to disk are over.
    pub(crate) fn finish_deletions(&mut self) {
        if self.staged.settling.is_empty() {
            return;
        }
        let settled = self.staged.take_settled(|mark| self.commit_queue.is_synced(mark));
        // The lines leave the file with the next write of it. A line too many does no harm: ids are not used again.
        self.topics.deleting.retain(|gone| !settled.contains(&gone.id));
    }

    fn apply(&mut self, change: Change, now: TimestampMs) {
        match change {
            Change::Create(topic) => {
                let (name, partitions) = (topic.name().clone(), topic.partition_count());
                self.topics.insert(topic);
                // The partitions of internal topics get their logs when they are written to.
                if !is_internal(&name) {
                    self.make_logs(&name, 0..partitions);
                }
            }
            Change::Delete { name, id } => {
                let Some(topic) = self.topics.remove(&name) else { return };
                debug_assert_eq!(topic.id(), id, "a topic that is being deleted does not change");
                self.topics.deleting.push(Deleting { name, id });
                self.delete_with_offsets(&topic, now);
            }
            Change::Grow { name, partitions } => {
                let Some(before) = self.topics.grow(&name, partitions) else { return };
                self.make_logs(&name, before..partitions);
            }
            Change::Configure { name, configs } => {
                let Some(topic) = self.topics.get_mut(&name) else { return };
                topic.set_configs(configs);
                let log_config = topic.log_config();
                for (_, log) in topic.logs() {
                    self.logs.set_config(log, log_config.clone());
                }
            }
            Change::ProducerIds { block_end } => self.producer_ids.extend(block_end),
            Change::ScramUsers { changes } => {
                changes.iter().for_each(|change| self.scram_users.apply(change));
            }
            Change::Settings { change, .. } => {
                self.settings.apply(&change);
                match change {
                    SettingsChange::Configs { owner: ConfigOwner::Broker, .. } => {
                        self.apply_broker_configs();
                    }
                    SettingsChange::Configs { owner: ConfigOwner::Group, name, .. } => {
                        self.apply_group_configs(&name);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Lets a request that was put aside come again. If what it waited for was not `stored` it is not put aside again, and
    /// its own answer says that there is no storage.
    pub(crate) fn again(
        &mut self,
        due: crate::commit_queue::PutAside,
        stored: bool,
        now: TimestampMs,
        woken: &mut Vec<(Ticket, Response)>,
    ) {
        let crate::commit_queue::PutAside { ticket, connection, header, mut request } = due;
        self.staged.failing = !stored;
        let step = self.dispatch(&connection, ticket, &header, &mut request, now, woken);
        self.staged.failing = false;
        match step {
            Step::Answer(response) => woken.push((ticket, response)),
            Step::Parked => {}
            Step::Silent | Step::Close | Step::LookInside => {
                debug_assert!(false, "only requests with an answer are put aside");
            }
        }
    }
}

//! CreateTopics and DeleteTopics, and topics that come of themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use weir_log::{check_topic_name, LogId};
use weir_protocol::api::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse,
};
use weir_protocol::api::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};
use weir_protocol::{ErrorCode, PartitionId, Str, TimestampMs, Uuid};

use crate::broker::{Broker, Step};
use crate::config::{OFFSETS_PARTITIONS, TRANSACTIONS_PARTITIONS};
use crate::configs::check_topic_value;
use crate::effects::Ticket;
use crate::error::BrokerError;
use crate::files::{FileWrite, PendingFiles};
use crate::logs::error_of;
use crate::request::{distinct, Response};
use crate::single_node::METADATA_TOPIC;
use crate::staged::Change;
use crate::topics::{self, log_config, Topic, OFFSETS_TOPIC, TRANSACTIONS_TOPIC};

/// Why a topic is not made or deleted: the code, and words for a person.
pub(crate) type Refused = (ErrorCode, String);

/// Logs that are made in one go, under the lock: about five small files each.
pub(crate) const LOGS_MADE_MAX: usize = 32;

/// A topic that may be made.
struct Plan {
    partitions: usize,
    configs: BTreeMap<String, String>,
}

impl Broker {
    pub(crate) fn create_topics(&mut self, ticket: Ticket, request: &CreateTopicsRequest) -> Step {
        let mut seen = BTreeSet::new();
        let mut twice = BTreeSet::new();
        for topic in &request.topics {
            if !seen.insert(&topic.name) {
                twice.insert(&topic.name);
            }
        }
        // A name that comes twice is answered once.
        let asked = distinct(&request.topics, |topic| &topic.name);
        if let Err(refused) = self.check_names(asked.len()) {
            let asked = asked.into_iter().take(self.config.request_names_max);
            let refused = asked.map(|topic| self.creation_result(topic, Err(refused.clone())));
            return Step::Answer(Response::CreateTopics(CreateTopicsResponse {
                throttle_time_ms: 0,
                topics: refused.collect(),
            }));
        }
        let mut outcomes = Vec::with_capacity(asked.len());
        for topic in &asked {
            outcomes.push(if twice.contains(&topic.name) {
                Err((ErrorCode::InvalidRequest, "Duplicate topic name.".to_owned()))
            } else {
                self.create_topic(topic, request.validate_only)
            });
        }
        let is_staged = !request.validate_only && outcomes.iter().any(Result::is_ok);
        let topics = asked.into_iter().zip(outcomes);
        let response = Response::CreateTopics(CreateTopicsResponse {
            throttle_time_ms: 0,
            topics: topics.map(|(topic, outcome)| self.creation_result(topic, outcome)).collect(),
        });
        self.answer_staged(ticket, response, is_staged)
    }

    fn creation_result(
        &self,
        topic: &CreatableTopic,
        outcome: Result<(Uuid, Plan), Refused>,
    ) -> CreatableTopicResult {
        match outcome {
            Ok((topic_id, plan)) => CreatableTopicResult {
                name: topic.name.clone(),
                topic_id,
                error_message: None,
                num_partitions: i32::try_from(plan.partitions).unwrap_or(i32::MAX),
                replication_factor: 1,
                configs: Some(self.created_configs(&plan.configs)),
                ..CreatableTopicResult::default()
            },
            Err((error, words)) => CreatableTopicResult {
                name: topic.name.clone(),
                error_code: error.code(),
                error_message: Some(words.into()),
                ..CreatableTopicResult::default()
            },
        }
    }

    /// Whether one request may name so many topics, groups or rules.
    pub(crate) fn check_names(&self, names: usize) -> Result<(), Refused> {
        let names_max = self.config.request_names_max;
        if names > names_max {
            let words = format!("More than {names_max} names in one request.");
            return Err((ErrorCode::InvalidRequest, words));
        }
        Ok(())
    }

    /// Stages a topic.
    fn create_topic(
        &mut self,
        wanted: &CreatableTopic,
        validate_only: bool,
    ) -> Result<(Uuid, Plan), Refused> {
        let plan = self.plan_topic(wanted)?;
        if validate_only {
            return Ok((Uuid::ZERO, plan));
        }
        let name = Str::copy_from(&wanted.name);
        let id = self.ids.uuid();
        let topic = Topic::new(name, id, plan.partitions, plan.configs.clone());
        self.stage(Change::Create(topic))?;
        Ok((id, plan))
    }

    fn plan_topic(&self, wanted: &CreatableTopic) -> Result<Plan, Refused> {
        if wanted.name == METADATA_TOPIC {
            let words = format!("{METADATA_TOPIC} is the name of the cluster's own log.");
            return Err((ErrorCode::InvalidRequest, words));
        }
        check_topic_name(&wanted.name)
            .map_err(|words| (ErrorCode::InvalidTopicException, words))?;
        let staged = self.staged.created_like(&wanted.name);
        if self.topics.get(&wanted.name).is_some() || staged == Some(&wanted.name) {
            return Err((
                ErrorCode::TopicAlreadyExists,
                format!("Topic '{}' already exists.", wanted.name),
            ));
        }
        if let Some(other) = self.topics.colliding(&wanted.name).map(Topic::name).or(staged) {
            let words = format!("Topic '{}' collides with existing topic: {}", wanted.name, other);
            return Err((ErrorCode::InvalidTopicException, words));
        }
        let partitions = match wanted.assignments.is_empty() {
            true => self.plan_counts(wanted)?,
            false => plan_assignments(wanted)?,
        };
        if self.partitions_planned().saturating_add(partitions) > self.config.partitions_max {
            let words =
                format!("This broker takes {} partitions at most.", self.config.partitions_max);
            return Err((ErrorCode::PolicyViolation, words));
        }
        self.refuse_strays(&wanted.name, 0..partitions)?;
        let mut configs = BTreeMap::new();
        for config in &wanted.configs {
            let value = config.value.as_ref().ok_or_else(|| {
                let words = format!("Null value not supported for topic configs: {}", config.name);
                (ErrorCode::InvalidConfig, words)
            })?;
            check_topic_value(&config.name, value)
                .map_err(|words| (ErrorCode::InvalidConfig, words))?;
            configs.insert(config.name.to_string(), value.to_string());
        }
        let defaults = &self.config.topic_defaults;
        log_config(&configs, defaults).map_err(|words| (ErrorCode::InvalidConfig, words))?;
        Ok(Plan { partitions, configs })
    }

    /// Logs of an earlier topic of this name that no catalog knows are somebody's data. The new topic would have to begin
    /// in their place, so there is none until they were moved away.
    pub(crate) fn refuse_strays(
        &self,
        name: &str,
        partitions: Range<usize>,
    ) -> Result<(), Refused> {
        for partition in partitions.filter_map(|index| i32::try_from(index).ok()).map(PartitionId) {
            if self.stray(name, partition).is_some_and(|(_, deleting)| !deleting) {
                let words = format!(
                    "The data directory has a log {name}-{partition} of an earlier topic, which is left alone. Move it \
                     away while the broker is stopped."
                );
                return Err((ErrorCode::InvalidTopicException, words));
            }
        }
        Ok(())
    }

    /// The log that lies where that of a partition without one would be made, and whether its deletion is under way.
    fn stray(&self, name: &str, partition: PartitionId) -> Option<(LogId, bool)> {
        let log = self.logs.find(name, partition)?;
        let id = self.logs.get(log)?.topic_id();
        Some((log, self.topics.deleting.iter().any(|gone| gone.id == id)))
    }

    fn plan_counts(&self, wanted: &CreatableTopic) -> Result<usize, Refused> {
        match wanted.replication_factor {
            -1 | 1 => {}
            0 | i16::MIN..=-2 => {
                let words =
                    "Replication factor must be larger than 0, or -1 to use the default value.";
                return Err((ErrorCode::InvalidReplicationFactor, words.to_owned()));
            }
            wanted => {
                let words = format!(
                    "Unable to replicate the partition {wanted} time(s): The target replication factor of {wanted} \
                     cannot be reached because only 1 broker(s) are registered."
                );
                return Err((ErrorCode::InvalidReplicationFactor, words));
            }
        }
        match wanted.num_partitions {
            -1 => Ok(usize::try_from(self.config.num_partitions).unwrap_or(1)),
            count => usize::try_from(count).ok().filter(|count| *count > 0).ok_or_else(|| {
                let words = "Number of partitions was set to an invalid non-positive value.";
                (ErrorCode::InvalidPartitions, words.to_owned())
            }),
        }
    }

    /// Partitions there are, and will be once all is on disk that is on its way.
    pub(crate) fn partitions_planned(&self) -> usize {
        self.topics.partition_count() + self.staged.more_partitions()
    }

    fn plan_with_defaults(&self, name: &Str) -> Result<Plan, Refused> {
        let known = self.config.known_topics.get(&**name);
        let configs = known.into_iter().flat_map(|known| &known.configs);
        self.plan_topic(&CreatableTopic {
            name: name.clone(),
            num_partitions: known.map_or(-1, |known| known.partitions),
            replication_factor: -1,
            configs: configs
                .map(|(name, value)| CreatableTopicConfig {
                    name: Str::copy_from(name),
                    value: Some(Str::copy_from(value)),
                })
                .collect(),
            ..CreatableTopic::default()
        })
    }

    /// Stages a topic as an auto-created one is. Whether it is on its way.
    pub(crate) fn stage_topic_with_defaults(&mut self, name: &Str) -> bool {
        if self.staged.touches(name) {
            return true;
        }
        let Ok(plan) = self.plan_with_defaults(name) else { return false };
        let id = self.ids.uuid();
        let topic = Topic::new(Str::copy_from(name), id, plan.partitions, plan.configs);
        self.stage(Change::Create(topic)).is_ok()
    }

    /// Why a topic that comes of itself has not come.
    pub(crate) fn why_not_made(&self, name: &Str) -> ErrorCode {
        match self.plan_with_defaults(name) {
            Err((error, _)) => error,
            Ok(_) => ErrorCode::KafkaStorageError,
        }
    }

    /// Stages `__consumer_offsets` if there is none. Whether it is on its way.
    pub(crate) fn stage_offsets_topic(&mut self) -> bool {
        self.stage_internal_topic(OFFSETS_TOPIC, OFFSETS_PARTITIONS, "producer")
    }

    /// Stages `__transaction_state` if there is none. Whether it is on its way.
    pub(crate) fn stage_transactions_topic(&mut self) -> bool {
        self.stage_internal_topic(TRANSACTIONS_TOPIC, TRANSACTIONS_PARTITIONS, "uncompressed")
    }

    fn stage_internal_topic(&mut self, name: &str, partitions: i32, compression: &str) -> bool {
        if self.topics.get(name).is_some() {
            return false;
        }
        if self.staged.touches(name) {
            return true;
        }
        let configs = [
            ("cleanup.policy", "compact"),
            ("compression.type", compression),
            ("segment.bytes", "104857600"),
        ];
        let configs = configs.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let partitions = usize::try_from(partitions).unwrap_or(1);
        debug_assert!(
            log_config(&configs, &self.config.topic_defaults).is_ok(),
            "{name} has a configuration of its own"
        );
        let topic = Topic::new(Str::copy_from(name), self.ids.uuid(), partitions, configs);
        self.stage(Change::Create(topic)).is_ok()
    }

    /// The topic of committed offsets, which is staged by the first who asks for a coordinator.
    ///
    /// # Errors
    /// If it is not on disk yet.
    pub(crate) fn offsets_topic(&self) -> Result<&Topic, ErrorCode> {
        self.topics.get(OFFSETS_TOPIC).ok_or(ErrorCode::CoordinatorNotAvailable)
    }

    /// Has the logs of new partitions made, a few with each commit, so that many hold nobody up. The topic is there for good;
    /// a log that is not made yet is made by the first append.
    pub(crate) fn make_logs(&mut self, name: &Str, partitions: Range<usize>) {
        let partitions = partitions.filter_map(|index| i32::try_from(index).ok()).map(PartitionId);
        self.unmade_logs.extend(partitions.map(|partition| (name.clone(), partition)));
    }

    /// Makes some of the logs that are to be made. The commit that makes them durable asks for the next.
    pub(crate) fn make_some_logs(&mut self, now: TimestampMs) {
        for _ in 0..LOGS_MADE_MAX {
            let Some((name, partition)) = self.unmade_logs.pop_front() else { return };
            // Its topic may be gone again.
            if self.topics.get(&name).is_none() {
                continue;
            }
            if let Err(error) = self.log_for_append(&name, partition, now) {
                tracing::warn!(topic = %name, %partition, %error, "the log of a new partition could not be made");
                self.unmade_logs.retain(|(unmade, _)| *unmade != name);
            }
        }
        if !self.unmade_logs.is_empty() {
            self.commit_queue.appended(false);
        }
    }

    /// Writes the catalog, at the start.
    pub(crate) fn save_topics(&mut self) -> Result<(), BrokerError> {
        let text = topics::print(&self.topics, &[]);
        let writes = vec![FileWrite { file: topics::FILE, text }];
        let dir = self.config.data_dir.clone();
        let pending = PendingFiles { disk: self.disk.clone(), dir, writes };
        pending.run().map_err(|failed| failed.error)
    }

    /// The log of a partition, made if it has none.
    pub(crate) fn log_for_append(
        &mut self,
        name: &str,
        partition: PartitionId,
        now: TimestampMs,
    ) -> Result<LogId, ErrorCode> {
        let topic = self.topics.get(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        if let Some(log) = topic.existing_log(partition)? {
            return Ok(log);
        }
        match self.stray(name, partition) {
            None => {}
            // Its deletion was not carried out yet.
            Some((stray, true)) => {
                self.logs.delete(stray, now).map_err(|error| error_of(&error))?;
            }
            Some((_, false)) => {
                tracing::error!(topic = name, %partition, "a log of an earlier topic is in the way, and is left alone");
                return Err(ErrorCode::KafkaStorageError);
            }
        }
        let topic = self.topics.get_mut(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let config = topic.log_config();
        let made = self.logs.create(name, topic.id(), partition, config, now);
        let log = made.map_err(|error| error_of(&error))?;
        topic.set_log(partition, log);
        self.commit_queue.appended(false);
        Ok(log)
    }

    pub(crate) fn delete_topics(
        &mut self,
        ticket: Ticket,
        request: &DeleteTopicsRequest,
        version: i16,
    ) -> Step {
        let named =
            |name: &Str| DeleteTopicState { name: Some(name.clone()), topic_id: Uuid::ZERO };
        let wanted: Vec<DeleteTopicState> = match version {
            6.. => request.topics.clone(),
            _ => request.topic_names.iter().map(named).collect(),
        };
        if let Err(refused) = self.check_names(wanted.len()) {
            let wanted = wanted.into_iter().take(self.config.request_names_max);
            let responses = wanted.map(|state| deletion_result(state, Err(refused.clone())));
            return Step::Answer(Response::DeleteTopics(DeleteTopicsResponse {
                throttle_time_ms: 0,
                responses: responses.collect(),
            }));
        }
        let wanted = self.told_apart(wanted);
        let mut responses = Vec::with_capacity(wanted.len());
        let mut is_staged = false;
        for (state, count) in wanted {
            let outcome = match count {
                1 => self.delete_topic(&state),
                _ => Err((ErrorCode::InvalidRequest, "The topic is named twice.".to_owned())),
            };
            is_staged |= outcome.is_ok();
            responses.push(deletion_result(state, outcome));
        }
        let response =
            Response::DeleteTopics(DeleteTopicsResponse { throttle_time_ms: 0, responses });
        self.answer_staged(ticket, response, is_staged)
    }

    /// The topics that are named, each once, and how often: by its name, by its id, or by both in two entries.
    fn told_apart(&self, wanted: Vec<DeleteTopicState>) -> Vec<(DeleteTopicState, usize)> {
        let mut apart: Vec<(DeleteTopicState, usize)> = Vec::with_capacity(wanted.len());
        let mut at = BTreeMap::new();
        for state in wanted {
            let topic = match &state.name {
                Some(name) if state.topic_id.is_zero() => self.topics.get(name),
                None => self.topics.get_by_id(state.topic_id),
                Some(_) => None,
            };
            let key = match topic {
                Some(topic) => (Some(topic.name().clone()), topic.id()),
                None => (state.name.clone(), state.topic_id),
            };
            match at.get(&key).and_then(|index: &usize| apart.get_mut(*index)) {
                None => {
                    at.insert(key, apart.len());
                    apart.push((state, 1));
                }
                Some((first, count)) => {
                    *count += 1;
                    first.name = first.name.take().or(state.name);
                    if first.topic_id.is_zero() {
                        first.topic_id = state.topic_id;
                    }
                }
            }
        }
        apart
    }

    /// Stages the end of a topic.
    fn delete_topic(&mut self, wanted: &DeleteTopicState) -> Result<(Str, Uuid), Refused> {
        let topic = match &wanted.name {
            Some(_) if !wanted.topic_id.is_zero() => {
                let words = "Both topic name and topic id were given.".to_owned();
                return Err((ErrorCode::InvalidRequest, words));
            }
            Some(name) => {
                self.topics.get(name).ok_or_else(|| unknown(ErrorCode::UnknownTopicOrPartition))?
            }
            None if wanted.topic_id.is_zero() => {
                let words = "Neither topic name nor topic id was given.".to_owned();
                return Err((ErrorCode::InvalidRequest, words));
            }
            None => self
                .topics
                .get_by_id(wanted.topic_id)
                .ok_or_else(|| unknown(ErrorCode::UnknownTopicId))?,
        };
        let (name, id) = (topic.name().clone(), topic.id());
        if name == TRANSACTIONS_TOPIC {
            let words = "Open transactions could never end without this topic.".to_owned();
            return Err((ErrorCode::InvalidTopicException, words));
        }
        if self.staged.touches(&name) {
            // This request has named it before.
            return Err(unknown(ErrorCode::UnknownTopicOrPartition));
        }
        self.stage(Change::Delete { name: name.clone(), id })?;
        Ok((name, id))
    }

    /// Removes the logs of a topic that the catalog does not name any more. Its offsets are forgotten with those of all that
    /// go by the same commit, or here if it is their own.
    pub(crate) fn delete_with_offsets(&mut self, topic: &Topic, now: TimestampMs) {
        if *topic.name() == OFFSETS_TOPIC {
            self.coordinator.forget_all_offsets();
        }
        let all_gone = self.delete_logs(topic, now);
        self.commit_queue.appended(false);
        let (id, mark) = (all_gone.then(|| topic.id()), self.commit_queue.mark());
        self.staged.settle(topic.name().clone(), id, mark);
    }

    /// Returns whether all are gone.
    fn delete_logs(&mut self, topic: &Topic, now: TimestampMs) -> bool {
        let mut all_gone = true;
        for (partition, log) in topic.logs() {
            if let Err(error) = self.logs.delete(log, now) {
                all_gone = false;
                tracing::warn!(topic = %topic.name(), %partition, %error, "the log of a deleted topic is still there");
            }
        }
        all_gone
    }
}

fn unknown(error: ErrorCode) -> Refused {
    (error, "This server does not host this topic-partition.".to_owned())
}

/// A manual assignment: partition 0 to n − 1, each on this node alone.
fn plan_assignments(wanted: &CreatableTopic) -> Result<usize, Refused> {
    if wanted.num_partitions != -1 || wanted.replication_factor != -1 {
        let words = "Both numPartitions or replicationFactor and replicasAssignments were set.";
        return Err((ErrorCode::InvalidRequest, words.to_owned()));
    }
    let partitions: BTreeSet<i32> =
        wanted.assignments.iter().map(|one| one.partition_index).collect();
    let expected: BTreeSet<i32> = (0..).take(wanted.assignments.len()).collect();
    let fine = partitions == expected
        && wanted.assignments.iter().all(|one| one.broker_ids == [crate::broker::NODE_ID]);
    match fine {
        true => Ok(partitions.len()),
        false => {
            let words = "The manual partition assignment must name each partition from 0 once, on broker 0 alone.";
            Err((ErrorCode::InvalidReplicaAssignment, words.to_owned()))
        }
    }
}

fn deletion_result(
    wanted: DeleteTopicState,
    outcome: Result<(Str, Uuid), Refused>,
) -> DeletableTopicResult {
    match outcome {
        Ok((name, topic_id)) => {
            DeletableTopicResult { name: Some(name), topic_id, error_code: 0, error_message: None }
        }
        Err((error, words)) => DeletableTopicResult {
            // Before version 6 the name may not be null, and was not.
            name: wanted.name,
            topic_id: wanted.topic_id,
            error_code: error.code(),
            error_message: Some(words.into()),
        },
    }
}

//! What changes topics that are there: CreatePartitions, DeleteRecords.

use std::collections::BTreeSet;

use weir_protocol::api::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResult,
};
use weir_protocol::api::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use weir_protocol::{ErrorCode, Offset, PartitionId, Str, TimestampMs};

use crate::broker::{Broker, Step, NODE_ID};
use crate::effects::Ticket;
use crate::request::{distinct, Response};
use crate::staged::Change;
use crate::topic_requests::Refused;
use crate::topics::Topic;

/// DeleteRecords up to the high watermark.
const TO_HIGH_WATERMARK: i64 = -1;

impl Broker {
    pub(crate) fn create_partitions(
        &mut self,
        ticket: Ticket,
        request: &CreatePartitionsRequest,
    ) -> Step {
        let mut is_staged = false;
        let mut results = Vec::with_capacity(request.topics.len());
        let allowed = self.check_names(request.topics.len());
        // A name that comes twice is refused, and answered once.
        let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
        for wanted in &request.topics {
            if !seen.insert(&wanted.name) {
                twice.insert(&wanted.name);
            }
        }
        for wanted in distinct(&request.topics, |wanted| &wanted.name) {
            let outcome = match twice.contains(&wanted.name) {
                _ if allowed.is_err() => allowed.clone(),
                false => self.grow_topic(wanted, request.validate_only),
                true => Err((ErrorCode::InvalidRequest, "Duplicate topic name.".to_owned())),
            };
            is_staged |= outcome.is_ok() && !request.validate_only;
            let (error, words) = split(outcome);
            let name = wanted.name.clone();
            results.push(CreatePartitionsTopicResult {
                name,
                error_code: error.code(),
                error_message: words,
            });
        }
        let response = CreatePartitionsResponse { throttle_time_ms: 0, results };
        self.answer_staged(ticket, Response::CreatePartitions(response), is_staged)
    }

    fn grow_topic(
        &mut self,
        wanted: &CreatePartitionsTopic,
        validate_only: bool,
    ) -> Result<(), Refused> {
        let topic = self.topics.get(&wanted.name).ok_or_else(unknown_topic)?;
        let (name, before) = (topic.name().clone(), topic.partition_count());
        let count = planned_count(wanted, topic)?;
        if self.partitions_planned() - before + count > self.config.partitions_max {
            let words =
                format!("This broker takes {} partitions at most.", self.config.partitions_max);
            return Err((ErrorCode::PolicyViolation, words));
        }
        self.refuse_strays(&name, before..count)?;
        if validate_only {
            return Ok(());
        }
        self.stage(Change::Grow { name, partitions: count })
    }

    /// The answer waits until the new start of each log is on disk.
    pub(crate) fn delete_records(
        &mut self,
        ticket: Ticket,
        request: &DeleteRecordsRequest,
        now: TimestampMs,
    ) -> Step {
        let count: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
        let too_many = count > self.config.request_partitions_max;
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for wanted in &topic.partitions {
                let outcome = match too_many {
                    true => Err(ErrorCode::InvalidRequest),
                    false => self.delete_partition_records(&topic.name, wanted, now),
                };
                partitions.push(DeleteRecordsPartitionResult {
                    partition_index: wanted.partition_index,
                    low_watermark: outcome.map_or(-1, Offset::get),
                    error_code: outcome.err().unwrap_or(ErrorCode::None).code(),
                });
            }
            topics.push(DeleteRecordsTopicResult { name: topic.name.clone(), partitions });
        }
        let response =
            Response::DeleteRecords(DeleteRecordsResponse { throttle_time_ms: 0, topics });
        self.commit_queue.answer_when_synced(ticket, response)
    }

    fn delete_partition_records(
        &mut self,
        topic: &str,
        wanted: &DeleteRecordsPartition,
        now: TimestampMs,
    ) -> Result<Offset, ErrorCode> {
        let topic = self.topics.get(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        if topic.is_internal() {
            return Err(ErrorCode::InvalidTopicException);
        }
        if !topic.value("cleanup.policy").contains("delete") {
            return Err(ErrorCode::PolicyViolation);
        }
        let log = topic.existing_log(PartitionId(wanted.partition_index))?;
        let bounds = self.logs.bounds_or_empty(log);
        let before = match wanted.offset {
            TO_HIGH_WATERMARK => bounds.high_watermark,
            offset => Offset(offset),
        };
        if before < Offset(0) || before > bounds.high_watermark {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        let Some(log) = log.filter(|_| before > bounds.start) else { return Ok(bounds.start) };
        let start = self.logs.delete_records(log, before, now)?;
        self.commit_queue.appended(true);
        Ok(start)
    }
}

fn unknown_topic() -> Refused {
    (
        ErrorCode::UnknownTopicOrPartition,
        "This server does not host this topic-partition.".to_owned(),
    )
}

fn split(outcome: Result<(), Refused>) -> (ErrorCode, Option<Str>) {
    match outcome {
        Ok(()) => (ErrorCode::None, None),
        Err((error, words)) => (error, Some(words.into())),
    }
}

fn planned_count(wanted: &CreatePartitionsTopic, topic: &Topic) -> Result<usize, Refused> {
    let before = topic.partition_count();
    let count = usize::try_from(wanted.count).unwrap_or(0);
    if topic.is_internal() {
        // Whose partition holds what depends on their number.
        let words = "The partitions of an internal topic cannot be changed.".to_owned();
        return Err((ErrorCode::InvalidRequest, words));
    }
    if count == before {
        return Err((
            ErrorCode::InvalidPartitions,
            format!("Topic already has {before} partition(s)."),
        ));
    }
    if count < before {
        let words = format!(
            "The topic {} currently has {before} partition(s); {} would not be an increase.",
            topic.name(),
            wanted.count
        );
        return Err((ErrorCode::InvalidPartitions, words));
    }
    let Some(assignments) = &wanted.assignments else { return Ok(count) };
    let fine = assignments.len() == count - before
        && assignments.iter().all(|one| one.broker_ids == [NODE_ID]);
    match fine {
        true => Ok(count),
        false => {
            let words =
                "The assignment must name each new partition once, on broker 0 alone.".to_owned();
            Err((ErrorCode::InvalidReplicaAssignment, words))
        }
    }
}

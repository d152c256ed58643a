//! OffsetDelete: forgets committed offsets of partitions that the group does not read.

use weir_protocol::api::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
};
use weir_protocol::{ErrorCode, PartitionId, Str, TimestampMs};

use crate::broker::{Broker, Step};
use crate::effects::Ticket;
use crate::offsets::tombstones;
use crate::request::Response;

impl Broker {
    /// Deletes offsets, and answers once their tombstones are on disk.
    pub(crate) fn offset_delete(
        &mut self,
        ticket: Ticket,
        request: &OffsetDeleteRequest,
        now: TimestampMs,
    ) -> Step {
        let count: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
        let checked = match count > self.config.request_partitions_max {
            true => Err(ErrorCode::InvalidRequest),
            false => self.check_offset_delete(&request.group_id),
        };
        let mut response = OffsetDeleteResponse::default();
        if let Err(error) = checked {
            response.error_code = error.code();
            return Step::Answer(Response::OffsetDelete(response));
        }
        let group = Str::copy_from(&request.group_id);
        let mut goes = Vec::new();
        for topic in &request.topics {
            let refused = self.offsets_must_stay(&group, &topic.name);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let index = partition.partition_index;
                let refused = refused.or_else(|| self.is_no_partition(&topic.name, index));
                partitions.push(OffsetDeleteResponsePartition {
                    partition_index: index,
                    error_code: refused.unwrap_or(ErrorCode::None).code(),
                });
                if refused.is_none() {
                    goes.push((Str::copy_from(&topic.name), index));
                }
            }
            response
                .topics
                .push(OffsetDeleteResponseTopic { name: topic.name.clone(), partitions });
        }
        match self.forget_offsets(&group, &goes, now) {
            Ok(()) => {
                self.commit_queue.answer_when_synced(ticket, Response::OffsetDelete(response))
            }
            Err(error) => Step::Answer(Response::OffsetDelete(failed(error))),
        }
    }

    fn check_offset_delete(&self, group: &str) -> Result<(), ErrorCode> {
        if group.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        let entry = self.coordinator.get(group).ok_or(ErrorCode::GroupIdNotFound)?;
        // What members of another kind than consumers read, nobody here knows.
        match entry.group.is_empty() || entry.group.has_consumers() {
            true => Ok(()),
            false => Err(ErrorCode::NonEmptyGroup),
        }
    }

    fn is_no_partition(&self, topic: &str, index: i32) -> Option<ErrorCode> {
        let topic = self.topics.get(topic)?;
        topic.existing_log(PartitionId(index)).err()
    }

    fn offsets_must_stay(&self, group: &str, topic: &Str) -> Option<ErrorCode> {
        if self.topics.get(topic).is_none() {
            return Some(ErrorCode::UnknownTopicOrPartition);
        }
        let subscribed =
            self.coordinator.get(group).is_some_and(|entry| entry.group.subscribes_to(topic));
        subscribed.then_some(ErrorCode::GroupSubscribedToTopic)
    }

    /// Writes tombstones for those of the partitions that have an offset, and forgets them.
    fn forget_offsets(
        &mut self,
        group: &Str,
        partitions: &[(Str, i32)],
        now: TimestampMs,
    ) -> Result<(), ErrorCode> {
        let Some(entry) = self.coordinator.get(group) else { return Ok(()) };
        let known = entry.offset_keys();
        let goes: Vec<&(Str, i32)> = partitions.iter().filter(|key| known.contains(*key)).collect();
        if goes.is_empty() {
            return Ok(());
        }
        let keys = goes.iter().map(|(topic, partition)| (&**topic, *partition));
        self.write_offset_records(group, &tombstones(group, keys), now)?;
        self.commit_queue.appended(true);
        if let Some(entry) = self.coordinator.get_mut(group) {
            goes.into_iter().for_each(|key| entry.forget(key));
        }
        Ok(())
    }
}

/// The answer when nothing could be deleted.
pub(crate) fn failed(error: ErrorCode) -> OffsetDeleteResponse {
    OffsetDeleteResponse { error_code: error.code(), ..OffsetDeleteResponse::default() }
}

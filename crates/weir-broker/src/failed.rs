//! What a request is answered whose commit has failed.

use weir_protocol::{ErrorCode, Str, Uuid};

use crate::consumer_group::Refusal;
use crate::consumer_groups;
use crate::coordinator::{joined_response, synced_response};
use crate::group::{Joined, Synced};
use crate::offset_delete;
use crate::offsets::fail_commit;
use crate::produce::storage_failed;
use crate::request::Response;
use crate::scram_users;
use crate::transaction_coordinator::fail_transactional;

/// What a change is answered that could not be written.
const NOT_STORED: Str = Str::from_static("the broker could not write its files");

/// Those of the results that went well were not stored.
macro_rules! fail_results {
    ($results:expr) => {
        for one in $results.iter_mut().filter(|one| one.error_code == 0) {
            one.error_code = ErrorCode::KafkaStorageError.code();
            one.error_message = Some(NOT_STORED);
        }
    };
}

/// The answer of a request whose commit failed.
pub(crate) fn fail(response: Response) -> Response {
    match response {
        Response::Produce(response) => Response::Produce(storage_failed(response)),
        Response::DeleteRecords(mut response) => {
            let partitions = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            for partition in partitions.filter(|partition| partition.error_code == 0) {
                partition.error_code = ErrorCode::KafkaStorageError.code();
                partition.low_watermark = -1;
            }
            Response::DeleteRecords(response)
        }
        other => fail_of_group(other),
    }
}

/// Answers of the group coordinator: it is asked again.
fn fail_of_group(response: Response) -> Response {
    let error = ErrorCode::CoordinatorNotAvailable;
    match response {
        Response::OffsetCommit(mut response) => {
            fail_commit(&mut response, error);
            Response::OffsetCommit(response)
        }
        Response::JoinGroup(response) => {
            Response::JoinGroup(joined_response(Joined::failed(error, response.member_id)))
        }
        Response::DeleteGroups(mut response) => {
            for result in response.results.iter_mut().filter(|result| result.error_code == 0) {
                result.error_code = error.code();
            }
            Response::DeleteGroups(response)
        }
        Response::ConsumerGroupHeartbeat(_) => {
            let refusal = Refusal::new(error, "The group could not be stored.");
            Response::ConsumerGroupHeartbeat(consumer_groups::refused(&refusal))
        }
        Response::SyncGroup(_) => Response::SyncGroup(synced_response(Synced::failed(error))),
        Response::OffsetDelete(_) => Response::OffsetDelete(offset_delete::failed(error)),
        other => fail_of_settings(other),
    }
}

/// Answers about topics, and what else admin clients set.
fn fail_of_settings(mut response: Response) -> Response {
    match &mut response {
        Response::CreateTopics(response) => {
            let fine = response.topics.iter_mut().filter(|topic| topic.error_code == 0);
            fine.for_each(|topic| (topic.topic_id, topic.configs) = (Uuid::ZERO, None));
            fail_results!(response.topics);
        }
        Response::DeleteTopics(response) => fail_results!(response.responses),
        Response::CreatePartitions(response) => fail_results!(response.results),
        Response::AlterConfigs(response) => fail_results!(response.responses),
        Response::IncrementalAlterConfigs(response) => fail_results!(response.responses),
        Response::CreateAcls(response) => fail_results!(response.results),
        Response::DeleteAcls(response) => {
            let fine = response.filter_results.iter_mut().filter(|one| one.error_code == 0);
            fine.for_each(|one| one.matching_acls.clear());
            fail_results!(response.filter_results);
        }
        Response::AlterClientQuotas(response) => fail_results!(response.entries),
        Response::AlterUserScramCredentials(response) => {
            scram_users::fail(response, ErrorCode::KafkaStorageError, &NOT_STORED);
        }
        _ => return fail_transactional(response),
    }
    response
}

//! What a coordinator's error code means for a transaction. Follows the handlers of Kafka 4.1's
//! `TransactionManager`.

use weir_protocol::error_code::ErrorCode;

/// The request that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Init,
    AddPartitions,
    AddOffsets,
    CommitOffsets,
    End,
}

impl Call {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Call::Init => "InitProducerId",
            Call::AddPartitions => "AddPartitionsToTxn",
            Call::AddOffsets => "AddOffsetsToTxn",
            Call::CommitOffsets => "TxnOffsetCommit",
            Call::End => "EndTxn",
        }
    }
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    Done,
    /// The same again, a little later: the last transaction's markers are being written.
    Soon,
    /// The same again after a backoff.
    Again,
    /// The same, from the coordinator as it is then.
    Elsewhere,
    /// The transaction can only be aborted.
    Abort,
    /// Another producer has the transactional id.
    Fenced,
    /// Nothing helps.
    Refused,
}

pub(crate) fn judge(call: Call, code: ErrorCode) -> Judgement {
    match code {
        ErrorCode::None => Judgement::Done,
        ErrorCode::ConcurrentTransactions => Judgement::Soon,
        ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable => Judgement::Elsewhere,
        // INVALID_PRODUCER_EPOCH is what older versions of the requests call it.
        ErrorCode::ProducerFenced | ErrorCode::InvalidProducerEpoch => Judgement::Fenced,
        code if code.is_retriable() => Judgement::Again,
        ErrorCode::TransactionAbortable => Judgement::Abort,
        ErrorCode::TransactionalIdAuthorizationFailed | ErrorCode::UnsupportedForMessageFormat => {
            Judgement::Refused
        }
        code => match call {
            Call::Init => Judgement::Refused,
            Call::AddPartitions | Call::AddOffsets => match code {
                ErrorCode::InvalidTxnState | ErrorCode::InvalidProducerIdMapping => {
                    Judgement::Refused
                }
                _ => Judgement::Abort,
            },
            // Of the group: a member that is none any more has lost its partitions, no more.
            Call::CommitOffsets => match code {
                ErrorCode::InvalidTxnState => Judgement::Refused,
                _ => Judgement::Abort,
            },
            Call::End => match code {
                ErrorCode::UnknownProducerId | ErrorCode::InvalidProducerIdMapping => {
                    Judgement::Abort
                }
                _ => Judgement::Refused,
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLS: [Call; 5] =
        [Call::Init, Call::AddPartitions, Call::AddOffsets, Call::CommitOffsets, Call::End];

    #[test]
    fn what_any_call_may_be_told_means_the_same_for_each() {
        for call in CALLS {
            for (code, expected) in [
                (ErrorCode::None, Judgement::Done),
                (ErrorCode::ConcurrentTransactions, Judgement::Soon),
                (ErrorCode::NotCoordinator, Judgement::Elsewhere),
                (ErrorCode::CoordinatorNotAvailable, Judgement::Elsewhere),
                (ErrorCode::CoordinatorLoadInProgress, Judgement::Again),
                (ErrorCode::RequestTimedOut, Judgement::Again),
                (ErrorCode::ProducerFenced, Judgement::Fenced),
                (ErrorCode::InvalidProducerEpoch, Judgement::Fenced),
                (ErrorCode::TransactionAbortable, Judgement::Abort),
                (ErrorCode::TransactionalIdAuthorizationFailed, Judgement::Refused),
            ] {
                assert_eq!(judge(call, code), expected, "{call:?} {code}");
            }
        }
    }

    #[test]
    fn what_only_concerns_the_group_or_the_topic_costs_the_transaction_and_not_the_producer() {
        for (call, code) in [
            (Call::CommitOffsets, ErrorCode::IllegalGeneration),
            (Call::CommitOffsets, ErrorCode::UnknownMemberId),
            (Call::CommitOffsets, ErrorCode::FencedInstanceId),
            (Call::CommitOffsets, ErrorCode::GroupAuthorizationFailed),
            (Call::AddOffsets, ErrorCode::GroupAuthorizationFailed),
            (Call::AddPartitions, ErrorCode::TopicAuthorizationFailed),
            (Call::AddPartitions, ErrorCode::OperationNotAttempted),
        ] {
            assert_eq!(judge(call, code), Judgement::Abort, "{call:?} {code}");
        }
    }

    #[test]
    fn a_state_that_cannot_be_is_the_end() {
        for call in CALLS {
            assert_eq!(judge(call, ErrorCode::InvalidTxnState), Judgement::Refused, "{call:?}");
        }
    }
}

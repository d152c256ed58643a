//! What can go wrong with a transaction, by what is to be done about it.

use weir_protocol::error_code::ErrorCode;

use crate::error::{ClientError, ErrorClass};

/// An error of a call about transactions. Its class says what to do: call again, abort, or make
/// another producer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransactionError {
    /// The producer was made without `transactional_id`.
    #[error("the producer has no transactional id")]
    NotTransactional,
    /// The call does not fit what was called before.
    #[error("{call} while the transaction is {state}")]
    WrongState {
        /// The call.
        call: &'static str,
        /// Where the producer stands.
        state: &'static str,
    },
    /// Another producer with this transactional id has taken over, or the coordinator has aborted the
    /// transaction since it took too long. This producer can write no more.
    #[error("fenced: transactional id {transactional_id} belongs to a newer producer, or its transaction took too long")]
    Fenced {
        /// The id.
        transactional_id: String,
    },
    /// Something of the transaction was lost. Abort it, then do its work again.
    #[error("the transaction must be aborted: {reason}")]
    MustAbort {
        /// What was lost.
        reason: String,
    },
    /// Not done in time. The same call goes on with it; no other is possible before.
    #[error("{call} did not succeed within {timeout_ms} ms: {last}")]
    Timeout {
        /// The call.
        call: &'static str,
        /// `max_block_ms`.
        timeout_ms: u32,
        /// The last error seen, or what it waits for.
        last: String,
    },
    /// The cluster refuses this producer for good.
    #[error("{call}: {}", .code.name())]
    Refused {
        /// The call.
        call: &'static str,
        /// Kafka's error code.
        code: ErrorCode,
    },
    /// The cluster could not be asked: access denied, or no version in common.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl TransactionError {
    /// The code a person can look up with `weir explain`.
    pub const fn code(&self) -> &'static str {
        match self {
            TransactionError::NotTransactional => "WEIR-0450",
            TransactionError::WrongState { .. } => "WEIR-0451",
            TransactionError::Fenced { .. } => "WEIR-0452",
            TransactionError::MustAbort { .. } => "WEIR-0453",
            TransactionError::Timeout { .. } => "WEIR-0454",
            TransactionError::Refused { .. } => "WEIR-0455",
            TransactionError::Client(error) => error.code(),
        }
    }

    /// What a caller can do about it: make the same call again, abort, or give this producer up.
    pub fn class(&self) -> ErrorClass {
        match self {
            TransactionError::Timeout { .. } => ErrorClass::Retriable,
            TransactionError::MustAbort { .. } => ErrorClass::Abortable,
            TransactionError::Client(error) => error.class(),
            TransactionError::NotTransactional
            | TransactionError::WrongState { .. }
            | TransactionError::Fenced { .. }
            | TransactionError::Refused { .. } => ErrorClass::Fatal,
        }
    }
}

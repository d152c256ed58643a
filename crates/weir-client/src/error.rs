//! What can go wrong, as types a caller can branch on, each with its code.

use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{Offset, PartitionId};

/// What a caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The same call may succeed later.
    Retriable,
    /// The running transaction must be aborted; then go on.
    Abortable,
    /// Trying again cannot help: the call, the configuration or this instance is at fault.
    Fatal,
}

/// An error of the client, the consumer or the admin calls.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No broker of the list answered.
    #[error("connect to any of {brokers}: {reason}")]
    Unreachable {
        /// The addresses tried.
        brokers: String,
        /// Why the last one failed.
        reason: String,
    },
    /// A request was not answered in time; its connection is closed.
    #[error("no answer to {api} from {broker} within {timeout_ms} ms")]
    RequestTimeout {
        /// The API's name.
        api: &'static str,
        /// `host:port`.
        broker: String,
        /// How long it was waited for.
        timeout_ms: u32,
    },
    /// The connection ended before the answer came; whether the request was carried out is unknown.
    #[error("connection to {broker} lost: {reason}")]
    ConnectionLost {
        /// `host:port`.
        broker: String,
        /// What ended it.
        reason: String,
    },
    /// Client and broker have no version of this API in common.
    #[error("{broker} offers {api} versions {broker_min}-{broker_max}, this client needs {client_min}-{client_max}")]
    UnsupportedVersion {
        /// The API's name.
        api: &'static str,
        /// `host:port`.
        broker: String,
        /// The broker's lowest; -1 if it does not have the API.
        broker_min: i16,
        /// The broker's highest; -1 if it does not have the API.
        broker_max: i16,
        /// Our lowest.
        client_min: i16,
        /// Our highest.
        client_max: i16,
    },
    /// The broker answered with an error code.
    #[error("{api}: {}{}", code.name(), detail(message))]
    Broker {
        /// The API's name.
        api: &'static str,
        /// Kafka's error code.
        code: ErrorCode,
        /// The broker's own words, if it had any.
        message: Option<String>,
    },
    /// An answer that is not Kafka's format.
    #[error("answer to {api} from {broker} cannot be read: {reason}")]
    MalformedAnswer {
        /// The API's name.
        api: &'static str,
        /// `host:port`.
        broker: String,
        /// What was wrong.
        reason: String,
    },
    /// The cluster does not have this topic (yet).
    #[error("topic {topic} is not known to the cluster")]
    UnknownTopic {
        /// Its name.
        topic: String,
    },
    /// The partition has no leader now, or no such partition exists.
    #[error("partition {topic}-{partition} has no leader")]
    NoLeader {
        /// Its topic.
        topic: String,
        /// Its number.
        partition: PartitionId,
    },
    /// A setting that cannot be.
    #[error("setting {key}: {reason}")]
    Config {
        /// The setting.
        key: &'static str,
        /// Why it cannot be.
        reason: String,
    },
    /// A partition without committed offset, and `auto_offset_reset` is `None`.
    #[error("no committed offset for {topic}-{partition}, and auto_offset_reset is none")]
    NoOffset {
        /// Its topic.
        topic: String,
        /// Its number.
        partition: PartitionId,
    },
    /// The position lies outside the partition, and `auto_offset_reset` is `None`.
    #[error(
        "offset {offset} of {topic}-{partition} does not exist, and auto_offset_reset is none"
    )]
    OffsetOutOfRange {
        /// Its topic.
        topic: String,
        /// Its number.
        partition: PartitionId,
        /// The position asked for.
        offset: Offset,
    },
    /// The log was cut below the position, as when a leader that had not everything took over, and
    /// `auto_offset_reset` is `None` (KIP-320).
    #[error(
        "{topic}-{partition} was truncated to offset {end}: what was read up to {offset} is not in it any more"
    )]
    LogTruncated {
        /// Its topic.
        topic: String,
        /// Its number.
        partition: PartitionId,
        /// The position.
        offset: Offset,
        /// The first offset that is not as it was read.
        end: Offset,
    },
    /// A fetched batch that fails its checksum or cannot be decoded.
    #[error("batch at offset {offset} of {topic}-{partition} is damaged: {reason}")]
    CorruptBatch {
        /// Its topic.
        topic: String,
        /// Its number.
        partition: PartitionId,
        /// The position asked for.
        offset: Offset,
        /// Where its own header says that the next batch begins, if the header can be read. The header
        /// may be what is damaged.
        next: Option<Offset>,
        /// What was wrong.
        reason: String,
    },
    /// The program did not poll for longer than `poll_interval_ms_max`, so the member has left its group
    /// and its partitions are lost. The next poll joins again.
    #[error("no poll for {interval_ms} ms: left the group, and its partitions are lost")]
    PollTooLate {
        /// `poll_interval_ms_max`.
        interval_ms: u64,
    },
    /// The call needs a group, and the consumer has none (or the other way round).
    #[error("{what}")]
    WrongMode {
        /// What was asked and why it cannot be.
        what: &'static str,
    },
    /// The broker does not let us in, or is not to be trusted itself.
    #[error("log in at {broker}: {reason}")]
    Authentication {
        /// `host:port`.
        broker: String,
        /// The broker's words, or ours.
        reason: String,
    },
    /// The call took longer than its bound, retries included.
    #[error("{what} did not succeed within {timeout_ms} ms: {last}")]
    ApiTimeout {
        /// What was attempted.
        what: &'static str,
        /// The bound.
        timeout_ms: u32,
        /// The last error seen.
        last: String,
    },
    /// The client, consumer or producer is closed.
    #[error("closed")]
    Closed,
}

fn detail(message: &Option<String>) -> String {
    message.as_ref().map(|text| format!(": {text}")).unwrap_or_default()
}

impl ClientError {
    /// The code a person can look up with `weir explain`.
    pub const fn code(&self) -> &'static str {
        match self {
            ClientError::Unreachable { .. } => "WEIR-0400",
            ClientError::RequestTimeout { .. } => "WEIR-0401",
            ClientError::ConnectionLost { .. } => "WEIR-0402",
            ClientError::UnsupportedVersion { .. } => "WEIR-0403",
            ClientError::Broker { .. } => "WEIR-0404",
            ClientError::MalformedAnswer { .. } => "WEIR-0405",
            ClientError::UnknownTopic { .. } => "WEIR-0406",
            ClientError::NoLeader { .. } => "WEIR-0407",
            ClientError::Config { .. } => "WEIR-0408",
            ClientError::ApiTimeout { .. } => "WEIR-0409",
            ClientError::NoOffset { .. } => "WEIR-0420",
            ClientError::OffsetOutOfRange { .. } => "WEIR-0421",
            ClientError::CorruptBatch { .. } => "WEIR-0422",
            ClientError::WrongMode { .. } => "WEIR-0423",
            ClientError::Closed => "WEIR-0424",
            ClientError::PollTooLate { .. } => "WEIR-0435",
            ClientError::LogTruncated { .. } => "WEIR-0436",
            ClientError::Authentication { .. } => "WEIR-0440",
        }
    }

    /// What a caller can do about it.
    pub fn class(&self) -> ErrorClass {
        match self {
            ClientError::Unreachable { .. }
            | ClientError::RequestTimeout { .. }
            | ClientError::ConnectionLost { .. }
            | ClientError::UnknownTopic { .. }
            | ClientError::NoLeader { .. }
            | ClientError::PollTooLate { .. }
            | ClientError::ApiTimeout { .. } => ErrorClass::Retriable,
            ClientError::Broker { code, .. } if code.is_retriable() => ErrorClass::Retriable,
            _ => ErrorClass::Fatal,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_retriable(&self) -> bool {
        self.class() == ErrorClass::Retriable
    }

    /// The broker's error code, if it was the broker that refused.
    pub const fn broker_code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Broker { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// Why a record was not sent or not delivered.
///
/// The first four are named as in the specification of the device data producer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProduceError {
    /// No room: the bound in total or of this partition is reached. Try again, or use `send_wait`.
    #[error("message buffer is full: {used_bytes} of {limit_bytes} bytes wait for their answer{}", .partition.map(|p| format!(" in partition {p}")).unwrap_or_default())]
    BufferFull {
        /// Bytes not answered yet.
        used_bytes: usize,
        /// The bound that was met.
        limit_bytes: usize,
        /// The partition, if it was its own bound.
        partition: Option<PartitionId>,
    },
    /// `start` on a producer that runs.
    #[error("producer is already running")]
    AlreadyRunning,
    /// The producer was closed.
    #[error("producer is not running")]
    NotRunning,
    /// `close` has begun; what was sent before is still delivered.
    #[error("producer is shutting down")]
    ShuttingDown,
    /// Nothing is known of the topic yet; a lookup has been started. `send_wait` waits for it, and so
    /// does [`crate::Producer::ready`].
    #[error("metadata of topic {topic} is not there yet")]
    TopicNotReady {
        /// Its name.
        topic: String,
    },
    /// The cluster says that the topic does not exist or has an illegal name.
    #[error("topic {topic}: {}", .code.name())]
    TopicRefused {
        /// Its name.
        topic: String,
        /// Kafka's error code.
        code: ErrorCode,
    },
    /// The topic has no such partition.
    #[error("topic {topic} has {partitions} partitions, there is no {partition}")]
    NoSuchPartition {
        /// Its name.
        topic: String,
        /// The partition asked for.
        partition: PartitionId,
        /// How many there are.
        partitions: i32,
    },
    /// The record alone is larger than a batch may be.
    #[error("record of {record_bytes} bytes is larger than a batch may be ({limit_bytes} bytes)")]
    RecordTooLarge {
        /// Its size as encoded.
        record_bytes: usize,
        /// `batch_bytes_max`.
        limit_bytes: usize,
    },
    /// Not acknowledged within the delivery timeout; it may or may not be in the log.
    #[error("not acknowledged within {timeout_ms} ms: {last}")]
    DeliveryTimeout {
        /// `delivery_timeout_ms`.
        timeout_ms: u32,
        /// The last error seen.
        last: String,
    },
    /// Given up before it was sent, at the delivery timeout or by [`crate::Producer::recall_unsent`]: it
    /// is certainly not in the log.
    #[error("not sent within {timeout_ms} ms: {last}")]
    NotSent {
        /// `delivery_timeout_ms`.
        timeout_ms: u32,
        /// The last error seen.
        last: String,
    },
    /// The record waited for a partition, and the topic was deleted, or made again with fewer. It is not in
    /// the topic.
    #[error("topic {topic} was deleted or made again, and has the record's partition no more")]
    PartitionGone {
        /// Its name.
        topic: String,
    },
    /// The broker refused the batch.
    #[error("broker refused the batch: {}{}", code.name(), detail(message))]
    Refused {
        /// Kafka's error code.
        code: ErrorCode,
        /// The broker's own words, if it had any.
        message: Option<String>,
    },
    /// A transactional producer takes records within a transaction only.
    #[error("no transaction is open: the producer is {state}")]
    NoTransaction {
        /// Where the producer stands.
        state: &'static str,
    },
    /// The record's transaction has failed and can only be aborted; the record goes with it.
    #[error("the transaction must be aborted: {reason}")]
    TransactionFailed {
        /// What has failed it.
        reason: String,
    },
    /// The record was not sent, as its transaction was aborted before.
    #[error("the record's transaction was aborted")]
    TransactionAborted,
    /// Another producer with the same transactional id has taken over.
    #[error("fenced by a newer producer with the same transactional id")]
    Fenced,
    /// The producer was closed before the answer came; the record may or may not be in the log.
    #[error("producer closed before the answer came")]
    Abandoned,
}

impl ProduceError {
    /// The code a person can look up with `weir explain`.
    pub const fn code(&self) -> &'static str {
        match self {
            ProduceError::BufferFull { .. } => "WEIR-0410",
            ProduceError::AlreadyRunning => "WEIR-0411",
            ProduceError::NotRunning => "WEIR-0412",
            ProduceError::ShuttingDown => "WEIR-0413",
            ProduceError::TopicNotReady { .. } => "WEIR-0414",
            ProduceError::TopicRefused { .. } => "WEIR-0415",
            ProduceError::NoSuchPartition { .. } => "WEIR-0416",
            ProduceError::RecordTooLarge { .. } => "WEIR-0417",
            ProduceError::DeliveryTimeout { .. } => "WEIR-0418",
            ProduceError::Refused { .. } => "WEIR-0419",
            ProduceError::Abandoned => "WEIR-0425",
            ProduceError::NotSent { .. } => "WEIR-0426",
            ProduceError::PartitionGone { .. } => "WEIR-0427",
            ProduceError::Fenced => "WEIR-0452",
            ProduceError::TransactionFailed { .. } => "WEIR-0453",
            ProduceError::NoTransaction { .. } => "WEIR-0456",
            ProduceError::TransactionAborted => "WEIR-0457",
        }
    }

    /// What a caller can do about it. Sending again after [`ProduceError::DeliveryTimeout`] may write
    /// the record twice; after the other retriable ones it cannot.
    pub fn class(&self) -> ErrorClass {
        match self {
            ProduceError::BufferFull { .. }
            | ProduceError::TopicNotReady { .. }
            | ProduceError::NotSent { .. }
            | ProduceError::PartitionGone { .. }
            | ProduceError::DeliveryTimeout { .. } => ErrorClass::Retriable,
            ProduceError::Refused { code, .. } | ProduceError::TopicRefused { code, .. }
                if code.is_retriable() =>
            {
                ErrorClass::Retriable
            }
            // Only a transactional producer hears of these: others go on under a new identity.
            ProduceError::Refused {
                code:
                    ErrorCode::TransactionAbortable
                    | ErrorCode::InvalidProducerEpoch
                    | ErrorCode::OutOfOrderSequenceNumber
                    | ErrorCode::UnknownProducerId,
                ..
            }
            | ProduceError::TransactionFailed { .. }
            | ProduceError::TransactionAborted => ErrorClass::Abortable,
            _ => ErrorClass::Fatal,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_retriable(&self) -> bool {
        self.class() == ErrorClass::Retriable
    }
}

//! Kafka's wire messages and record batches, without I/O.
//!
//! Bytes in, values out, and back. No socket, no file, no clock, no tokio and no serde: whoever
//! talks to Kafka, or plays Kafka, brings those. Follows the message schemas of Apache Kafka 4.1.0.
//!
//! | module | what it holds |
//! |---|---|
//! | [`types`] | newtypes (`Offset`, `PartitionId`, ...), [`Uuid`] and the shared string [`Str`] |
//! | [`clock`] | the one trait through which time comes in, and its settable twin |
//! | [`error_code`] | Kafka's error codes by name |
//! | [`primitive`] | [`Decoder`], [`Encoder`], [`Wire`]: lengths, counts, varints, tagged fields |
//! | [`error`] | [`DecodeError`] and [`EncodeError`] |
//! | [`api_key`] | [`ApiKey`]: every key of Kafka 4.1 with its versions and header versions |
//! | [`api`] | the messages, one module per API, each declared once with its version ranges |
//! | [`frame`] | length prefix, request and response headers, whole frames |
//! | [`batch`] | record batch format v2: views, records, the builder |
//! | [`compression`] | none, gzip, snappy, lz4, zstd, with a cap on what comes out |
//! | [`scram`] | keys, proofs and messages of SCRAM (RFC 5802) |
//!
//! # What holds for every decoder here
//! - No input makes it panic, and none makes it allocate more than the input is worth: each length
//!   and count is checked against the bytes left, and the memory of decoded arrays is charged to a
//!   budget ([`primitive`]).
//! - Strings and record bytes are slices of the input [`bytes::Bytes`]; nothing is copied.

pub mod api;
pub mod api_key;
pub mod batch;
pub mod clock;
pub mod compression;
pub mod error;
pub mod error_code;
pub mod frame;
pub mod primitive;
pub mod scram;
pub mod types;

pub use api::Request;
pub use api_key::ApiKey;
pub use clock::{Clock, ManualClock};
pub use error::{DecodeError, EncodeError};
pub use error_code::ErrorCode;
pub use primitive::{Decoder, Encoder, Wire};
pub use types::{
    GenerationId, LeaderEpoch, NodeId, Offset, PartitionId, ProducerEpoch, ProducerId, Sequence,
    Str, TimestampMs, Uuid,
};

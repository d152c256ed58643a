//! Producer, consumer and admin for Kafka, batch first.
//!
//! A record is encoded once, straight into the open batch of its partition; from there its bytes go
//! to the socket without another copy. That is why this producer costs about a tenth of the CPU per
//! record of a library that queues record objects.
//!
//! What this crate never knows: a broker's insides or a log. It speaks the Kafka protocol only,
//! which is the proof that everything above it also runs on Apache Kafka.
//!
//! - [`Client`]: metadata and connections, shared by everything below.
//! - [`Producer`], [`Consumer`], [`Admin`]: what programs use.
//! - [`event`]: the event envelope, a view of a record.
//! - [`transport`]: the one I/O seam, with its in-memory twin; [`tls`] over TCP.
//! - [`security`]: TLS and logins.

pub mod accumulator;
pub mod admin;
pub mod assignor;
pub mod client;
pub mod clock;
pub mod config;
pub mod connection;
pub mod consumer;
pub mod delivery;
pub mod error;
pub mod event;
pub mod exactly_once;
pub mod group;
pub mod interceptor;
pub mod metadata;
pub mod partitioner;
pub mod producer;
pub mod profile;
pub mod record;
pub mod security;
pub mod spelling;
pub mod timestamp;
pub mod tls;
pub mod transaction;
pub mod transport;

mod attempts;
mod fetcher;
mod sasl;
mod sender;
mod transactor;

pub use admin::Admin;
pub use attempts::Attempts;
pub use client::Client;
pub use clock::SystemClock;
pub use config::{
    Acks, AutoOffsetReset, ClientConfig, ConsumerConfig, DoneBy, GroupConfig, GroupProtocol,
    IsolationLevel, ProducerConfig,
};
pub use consumer::{Consumer, PartitionOffset, RebalanceHook, TopicPartition};
pub use delivery::{BatchDelivery, Delivery, RecordMetadata};
pub use error::{ClientError, ErrorClass, ProduceError};
pub use event::{Event, EventBuilder, EventError, Priority};
pub use exactly_once::{ExactlyOnce, Outbox, StepError};
pub use interceptor::{Intercepted, Interceptor};
pub use partitioner::{Partition, PartitionGrowth, Partitioner};
pub use producer::{Appender, Producer, ProducerStats};
pub use profile::Profile;
pub use record::{ConsumedRecord, Record, RecordRef};
pub use security::{
    ClientCertificate, Password, SaslMechanism, SaslSettings, Security, TlsSettings,
};
pub use tls::TlsTransport;
pub use transaction::{GroupMetadata, TransactionError, TxnVersion};
pub use transport::{MemTransport, TcpTransport, Transport};

/// A record header: a name and a value that may be null.
pub use weir_protocol::batch::{Header, Headers};
pub use weir_protocol::compression::Codec;

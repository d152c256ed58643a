//! Traffic shaping: holds a flood of events, lets it pass at the pace the sink can take, accounts for each one.
//!
//! The core is pure: [`TrafficManager`] decides, `now` is passed in, nothing is awaited or read from
//! outside. The shell ([`run`]) brings tasks, timers and the [`Sink`].
//!
//! | module | what it decides |
//! |---|---|
//! | [`manager`] | the deep door: admit, next batch, outcome, expiry |
//! | [`lane`] | events of one priority class in order, bounded, order per key |
//! | [`share`] | which lane goes next: weights and aging, with a bound on waiting |
//! | [`batcher`] | when a lane sends: adaptive linger |
//! | [`rate_limiter`] | GCRA |
//! | [`circuit_breaker`] | whether the sink is tried at all |
//! | [`ledger`] | where every event offered is now |
//! | [`stats`] | what `/stats` shows |
//! | [`priority_table`] | event type to priority class |
//! | [`sequence`] | the number of each event in the order of admission |
//! | [`dedup`] | event ids seen in the last ten minutes |
//!
//! # What always holds
//! - Every event offered is in exactly one place: rejected, queued, in flight, spilled, delivered,
//!   refused or dropped ([`ledger`]).
//! - An event told accepted has been acknowledged by the sink.
//! - No event overtakes an earlier one of the same key and class, also when a batch fails ([`lane`]).
//! - An urgent event never waits for an event of another class.
//! - Memory is bounded by [`TrafficConfig`].
//!
//! What this crate never knows: HTTP, the broker, the disk. The durable spool comes behind
//! [`Admission::Spilled`]; until then nothing is spilled.

pub mod batcher;
pub mod circuit_breaker;
pub mod config;
pub mod dedup;
pub mod error;
pub mod event;
pub mod histogram;
pub mod lane;
pub mod ledger;
pub mod manager;
pub mod priority_table;
pub mod rate_limiter;
pub mod run;
pub mod sequence;
pub mod share;
pub mod sink;
pub mod stats;
pub mod time;

pub use circuit_breaker::BreakerState;
pub use config::TrafficConfig;
pub use error::{Reason, Refused, TrafficError};
pub use event::{Headers, Outgoing};
pub use ledger::Ledger;
pub use manager::{Admission, Meta, TrafficManager};
pub use priority_table::{MessagePriorities, PriorityTable};
pub use run::{ShutdownReport, TrafficHandle};
pub use sink::{Accepted, ProducerSink, Sink, SinkError};
pub use stats::TrafficStats;
pub use time::Nanos;
pub use weir_client::Priority;

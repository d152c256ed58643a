//! The device simulator.
//!
//! [`DemoFleet`] is pure: a seed and a time make it, [`DemoFleet::step`] gives the events up to a time,
//! and the same seed, start and orders give the same bytes. [`run`] drives one by the clock into a sink.
//!
//! [`sensor`] holds the five sensor kinds of the device data specification. Fleets of any size, trends,
//! anomalies with their ground truth and scenarios build on the same [`random`] streams.

pub mod demo;
mod error;
pub mod random;
pub mod run;
pub mod sensor;

pub use demo::{demo_zones, DemoFleet, Obeyed, SimEvent, DEMO_ZONES_GEOJSON};
pub use error::SimError;
pub use run::{run, EventSink, RunReport};

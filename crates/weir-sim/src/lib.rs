//! The device simulator.
//!
//! A [`Generator`] makes the records of a part of a fleet when they are due. It is pure: what a device sends
//! follows from a [`FleetSpec`] and the device's number, byte for byte, whatever else is made where.
//!
//! [`sensor`] holds the five sensor kinds of the device data specification, [`trend`] what moves them,
//! [`anomaly`] what goes wrong with them, [`channel`] all of it together: a sensor of a device.
//! [`scenario`] says what devices there are and what happens to them, [`record`] how records are written.
//!
//! [`DemoFleet`] is the fleet of the demonstration: a seed and a time make it, [`DemoFleet::step`] gives the
//! events up to a time, and the same seed, start and orders give the same bytes. [`run`] drives one by the
//! clock into a sink.

pub mod anomaly;
pub mod backpressure;
pub mod channel;
pub mod demo;
mod disturb;
mod error;
pub mod fleet;
pub mod generator;
pub mod latency;
pub mod mission;
pub mod normal;
pub mod place;
pub mod random;
pub mod record;
pub mod run;
pub mod scenario;
pub mod sensor;
pub mod trend;
mod truth;
pub mod verify;
pub mod warp;

pub use anomaly::{AnomalyKind, Label};
pub use backpressure::BackpressureController;
pub use channel::{Channel, Reading};
pub use demo::{demo_zones, DemoFleet, Obeyed, SimEvent, DEMO_ZONES_GEOJSON};
pub use error::SimError;
pub use fleet::{FleetSpec, Part};
pub use generator::{Draft, Filled, Generator, RecordSink, Stream};
pub use latency::Latencies;
pub use record::Format;
pub use run::{run, EventSink, RunReport};
pub use scenario::{Scenario, ScenarioError};
pub use sensor::SensorKind;
pub use trend::Trends;
pub use verify::{Report, Verifier};

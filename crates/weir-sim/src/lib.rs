//! The device simulator.
//!
//! [`sensor`] holds the five sensor kinds of the device data specification, [`trend`] what moves them,
//! [`anomaly`] what goes wrong with them, [`channel`] all of it together: a sensor of a device.
//!
//! [`DemoFleet`] is the fleet of the demonstration: a seed and a time make it, [`DemoFleet::step`] gives the
//! events up to a time, and the same seed, start and orders give the same bytes. [`run`] drives one by the
//! clock into a sink.

pub mod anomaly;
pub mod channel;
pub mod demo;
mod error;
pub mod normal;
pub mod random;
pub mod run;
pub mod sensor;
pub mod trend;

pub use anomaly::{AnomalyKind, Label};
pub use channel::{Channel, Reading};
pub use demo::{demo_zones, DemoFleet, Obeyed, SimEvent, DEMO_ZONES_GEOJSON};
pub use error::SimError;
pub use run::{run, EventSink, RunReport};
pub use sensor::SensorKind;
pub use trend::Trends;

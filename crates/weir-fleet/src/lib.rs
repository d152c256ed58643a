//! Devices, geofences, trajectories, alerts: the domain of a fleet.
//!
//! Everything that decides is pure: [`LocationHandler`] takes a fix and gives effects, the
//! [`AlertEngine`] and the [`TaskBook`] take events and give changes. Time comes from the events.
//! Only [`TrajectoryStore`] touches a disk, through SQLite.
//!
//! What a worker does with a `drone.location.updated` record:
//!
//! ```text
//! validate -> Fix -> LocationHandler::handle -> effects
//!                                                |- Push   to the console
//!                                                |- Store  into a Commit \
//!                                                |- Alert  into a Commit  > one transaction with
//!                                                   (consumed offset)    /  TrajectoryStore::commit
//! ```
//!
//! After the commit the unpublished alerts are sent to `alert-events` and marked. On start
//! [`TrajectoryStore::offsets`] says where to resume, and [`LocationHandler::restore`] takes the
//! last positions and open alerts, so that neither a crash nor a replay raises an alert twice.

pub mod alert;
mod error;
pub mod events;
pub mod geofence;
pub mod location;
pub mod schema;
pub mod task;
pub mod trajectory;

pub use alert::{Alert, AlertChange, AlertEngine, AutoAction, Order, Rule};
pub use error::{EventError, FleetError};
pub use events::{validate, AlertLevel, Checked, Id};
pub use geofence::{Zone, ZoneIndex, ZoneKind, ZoneSet};
pub use location::{Effect, Fix, LiveMap, LivePosition, LocationHandler, RecordRef};
pub use schema::{event_types, schema};
pub use task::{TaskBook, TaskChange, TaskRecord, TaskState};
pub use trajectory::{
    Commit, Committed, ConsumedOffset, TopicIdentity, TrackPoint, TrajectoryStore,
};

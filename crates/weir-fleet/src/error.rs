//! What can go wrong in a fleet, with the codes that `weir explain` has pages for.

use std::borrow::Cow;

/// A field of an event's `data` that is not as its schema says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field {field:?}: {message}")]
pub struct EventError {
    /// Path of the field inside `data`, e.g. `location.latitude`; `data` when it is the whole.
    pub field: Cow<'static, str>,
    /// What was expected and what was found.
    pub message: String,
}

impl EventError {
    /// The page of `weir explain` about it.
    pub const fn code(&self) -> &'static str {
        "WEIR-0601"
    }

    pub(crate) fn new(field: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// An operation on zones or trajectories that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// The zone file is not JSON.
    #[error("zones: not GeoJSON: {reason}")]
    ZonesMalformed {
        /// What the parser said, with line and column.
        reason: String,
    },
    /// One feature of the zone file is unusable.
    #[error("zones: feature {feature}: {reason}")]
    ZoneInvalid {
        /// Index in `features`, from 0.
        feature: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// SQLite refused.
    #[error("trajectory store: {operation}: {source}")]
    Store {
        /// What was attempted.
        operation: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The file was written by a newer weir.
    #[error("trajectory store has schema version {found}, this weir knows up to {known}")]
    StoreTooNew {
        /// `user_version` in the file.
        found: i64,
        /// The newest this build can read.
        known: i64,
    },
}

impl FleetError {
    /// The page of `weir explain` about it.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::ZonesMalformed { .. } | Self::ZoneInvalid { .. } => "WEIR-0602",
            Self::Store { .. } => "WEIR-0603",
            Self::StoreTooNew { .. } => "WEIR-0604",
        }
    }
}

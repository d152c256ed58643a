//! The commands that do one thing and end; `up` and its roles are in [`crate::up`].

pub(crate) mod config;
pub(crate) mod groups;
pub(crate) mod ingest;
mod kafka;
mod lines;
pub(crate) mod produce;
pub(crate) mod sim;
pub(crate) mod tail;
pub(crate) mod topics;

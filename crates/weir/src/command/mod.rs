//! The commands that do one thing and end; `up` and its roles are in [`crate::up`].

pub(crate) mod config;
pub(crate) mod doctor;
mod gateway;
pub(crate) mod groups;
pub(crate) mod ingest;
mod kafka;
mod lines;
pub(crate) mod log;
pub(crate) mod ops;
pub(crate) mod produce;
pub(crate) mod sim;
pub(crate) mod tail;
pub(crate) mod topics;

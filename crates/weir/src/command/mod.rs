//! The commands that do one thing and end; `up` and its roles are in [`crate::up`].

pub(crate) mod config;
mod gateway;
pub(crate) mod groups;
pub(crate) mod ingest;
mod kafka;
mod lines;
pub(crate) mod produce;
pub(crate) mod sim;
pub(crate) mod tail;
pub(crate) mod topics;

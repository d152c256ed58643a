//! Configuration: defaults, then `weir.yaml`, then `WEIR_*` variables, then flags.
//!
//! Every key is declared once in [`keys`]. A value keeps the place it came from, so that
//! `weir config show --origin` can say it, and an unknown key is an error with a suggestion.

mod document;
mod duration;
mod keys;
mod load;
mod security;
mod settings;
mod shape;

pub(crate) use duration::parse_bytes as size;
pub(crate) use keys::{meaning, KEYS};
pub(crate) use load::{Origin, Values};
pub(crate) use security::KafkaSecurity;
pub(crate) use settings::{Settings, TopicSettings, Validation};
pub(crate) use shape::{brokers, topic_name, topic_of_alias};

#[cfg(test)]
mod tests;

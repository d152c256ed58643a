//! Configuration: defaults, then `weir.yaml`, then `WEIR_*` variables, then flags.
//!
//! Every key is declared once in [`keys`]. A value keeps the place it came from, so that
//! `weir config show --origin` can say it, and an unknown key is an error with a suggestion.

mod duration;
mod keys;
mod load;
mod settings;

pub(crate) use duration::parse_bytes as size;
pub(crate) use keys::KEYS;
pub(crate) use load::{Origin, Values};
pub(crate) use settings::{Settings, TopicSettings, Validation};

#[cfg(test)]
mod tests;

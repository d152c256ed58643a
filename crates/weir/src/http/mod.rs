//! What the HTTP doors of weir share: how connections are taken, and who may come in.

pub(crate) mod guard;
pub(crate) mod server;

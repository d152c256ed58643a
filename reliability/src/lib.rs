//! Whether records survive what kills a broker.
//!
//! - [`history`]: what clients did and saw.
//! - [`checker`]: which promises that breaks. Pure.
//! - [`load`]: clients on weir-client that write a history, and stay alive while the broker is killed.
//!
//! The rig around it is `scripts/reliability.py`.

pub mod checker;
pub mod history;
pub mod load;

//! What can go wrong between the simulator and where its events go.

/// A sink could not take events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SimError {
    /// Nobody takes events any more; the simulator stops.
    #[error("send simulated events: the receiver is gone")]
    SinkClosed,
    /// These events were refused; the simulator goes on with the next.
    #[error("send {events} simulated events: {reason}")]
    SinkRefused {
        /// How many.
        events: usize,
        /// Why.
        reason: String,
    },
}

impl SimError {
    /// The page of `weir explain` about it.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::SinkClosed => "WEIR-0701",
            Self::SinkRefused { .. } => "WEIR-0702",
        }
    }
}

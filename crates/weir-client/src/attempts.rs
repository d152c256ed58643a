//! How the last attempts to reach brokers went.
//!
//! A delivery is decided late: a producer tries until its delivery timeout. Whoever wants to know
//! early that a cluster is away (a circuit breaker) counts attempts instead.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::watch;

use crate::connection::Connection;

/// Attempts of a producer to get something to a broker, as counted by [`crate::Producer::attempts`].
///
/// One attempt is one connect, one produce request or one request for a producer id. It fails when
/// the connection cannot be made or is lost, when the answer does not come in time, and when the
/// broker refuses all of it for now. Requests lost with one connection count once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Failed since the producer was made.
    pub failed: u64,
    /// Failed since the last one that succeeded.
    pub failed_in_row: u64,
    /// Why the last one failed; `None` once one has succeeded.
    pub last_error: Option<Arc<str>>,
}

/// Counts attempts and tells whoever watches: of each failure, and of the first success after one.
#[derive(Debug, Default)]
pub(crate) struct AttemptCounter {
    news: watch::Sender<Attempts>,
    /// Whether the last one failed: spares successes, which are many, the lock of `news`.
    failing: AtomicBool,
    /// The connection whose loss was counted last. A weak reference, so that its address is not used again.
    lost: Mutex<Weak<Connection>>,
}

impl AttemptCounter {
    pub(crate) fn subscribe(&self) -> watch::Receiver<Attempts> {
        self.news.subscribe()
    }

    pub(crate) fn failed(&self, error: &dyn std::fmt::Display) {
        self.failing.store(true, Ordering::Release);
        self.news.send_modify(|attempts| {
            attempts.failed += 1;
            attempts.failed_in_row += 1;
            attempts.last_error = Some(error.to_string().into());
        });
    }

    /// A request got no answer on this connection.
    pub(crate) fn failed_on(&self, connection: &Arc<Connection>, error: &dyn std::fmt::Display) {
        let this = Arc::downgrade(connection);
        let before = {
            let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *lost, this.clone())
        };
        if !before.ptr_eq(&this) {
            self.failed(error);
        }
    }

    pub(crate) fn succeeded(&self) {
        if self.failing.load(Ordering::Acquire) && self.failing.swap(false, Ordering::AcqRel) {
            self.news.send_modify(|attempts| {
                attempts.failed_in_row = 0;
                attempts.last_error = None;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_each_and_successes_only_after_a_failure() {
        let counter = AttemptCounter::default();
        let mut news = counter.subscribe();
        counter.succeeded();
        assert!(!news.has_changed().unwrap(), "nothing was wrong");
        counter.failed(&"refused");
        counter.failed(&"refused again");
        let seen = news.borrow_and_update().clone();
        assert_eq!((seen.failed, seen.failed_in_row), (2, 2));
        assert_eq!(seen.last_error.as_deref(), Some("refused again"));
        counter.succeeded();
        assert!(news.has_changed().unwrap());
        let seen = news.borrow_and_update().clone();
        assert_eq!((seen.failed, seen.failed_in_row, seen.last_error), (2, 0, None));
        counter.succeeded();
        assert!(!news.has_changed().unwrap());
    }
}

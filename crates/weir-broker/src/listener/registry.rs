//! [`Registry`]: which connections there are, and who goes when there are too many.
//!
//! Before its first request nobody can tell who a client is, so no place can be kept for some. Instead whoever does
//! nothing makes room: first the connections that have never sent a request, then those that wait for nothing, the longest
//! idle first. A flood of silent connections so takes its own places, and weir's worker, gateway and console get in. A
//! client that is closed while it is idle comes back with its next request.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

use crate::effects::ConnId;

/// A new connection has so long for its first request before it may be closed for another.
const FIRST_REQUEST_MS: u64 = 1_000;
/// And after each answer for the next request.
const NEXT_REQUEST_MS: u64 = 5_000;
/// Silent connections closed at once, as a share of the most there may be: looking for them costs a look at all.
const SILENT_SHARE: usize = 64;

/// What one connection is doing.
#[derive(Debug)]
pub(super) struct Activity {
    /// It has sent a request.
    has_asked: AtomicBool,
    /// Requests whose answers are not out.
    under_way: AtomicUsize,
    /// When it was accepted, or last sent a request or got an answer, on the clock of the caller.
    last_ms: AtomicU64,
}

impl Activity {
    fn new(now_ms: u64) -> Self {
        Self {
            has_asked: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
            last_ms: AtomicU64::new(now_ms),
        }
    }

    /// A request has come.
    pub(super) fn begin(&self, now_ms: u64) {
        self.has_asked.store(true, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.last_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Its answer is out, or there is none.
    pub(super) fn end(&self, now_ms: u64) {
        self.last_ms.store(now_ms, Ordering::Relaxed);
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    /// Since when it has been idle, if it may be closed for that.
    fn idle_since_ms(&self, now_ms: u64) -> Option<u64> {
        let last_ms = self.last_ms.load(Ordering::Relaxed);
        let patience_ms = if self.is_silent() { FIRST_REQUEST_MS } else { NEXT_REQUEST_MS };
        let is_idle = self.under_way.load(Ordering::Relaxed) == 0
            && now_ms.saturating_sub(last_ms) >= patience_ms;
        is_idle.then_some(last_ms)
    }

    fn is_silent(&self) -> bool {
        !self.has_asked.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Entry {
    /// `None` for one that is no socket.
    peer: Option<IpAddr>,
    activity: Arc<Activity>,
    /// Ends its task. Not there yet just after it was accepted.
    task: Option<AbortHandle>,
}

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Registry {
    entries: Mutex<HashMap<ConnId, Entry>>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, HashMap<ConnId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Enters a connection.
    pub(super) fn add(&self, id: ConnId, peer: Option<IpAddr>, now_ms: u64) -> Arc<Activity> {
        let activity = Arc::new(Activity::new(now_ms));
        let entry = Entry { peer, activity: activity.clone(), task: None };
        self.lock().insert(id, entry);
        activity
    }

    /// Notes how to end it.
    pub(super) fn set_task(&self, id: ConnId, task: AbortHandle) {
        if let Some(entry) = self.lock().get_mut(&id) {
            entry.task = Some(task);
        }
    }

    pub(super) fn remove(&self, id: ConnId) {
        self.lock().remove(&id);
    }

    /// Connections of one address.
    pub(super) fn count_of(&self, peer: IpAddr) -> usize {
        self.lock().values().filter(|entry| entry.peer == Some(peer)).count()
    }

    /// Closes what does nothing, so that another may come. Returns how many.
    pub(super) fn make_room(&self, connections_max: usize, now_ms: u64) -> usize {
        let chosen = self.choose(connections_max, now_ms);
        let mut entries = self.lock();
        let mut closed = 0;
        for id in chosen {
            // Their places are free at once, though their tasks end a little later.
            if let Some(task) = entries.remove(&id).and_then(|entry| entry.task) {
                task.abort();
                closed += 1;
            }
        }
        closed
    }

    fn choose(&self, connections_max: usize, now_ms: u64) -> Vec<ConnId> {
        let entries = self.lock();
        let idle = |entry: &Entry| {
            entry.task.as_ref().filter(|_| entry.peer.is_some())?;
            entry.activity.idle_since_ms(now_ms)
        };
        let mut silent: Vec<(u64, ConnId)> = Vec::new();
        let mut longest: Option<(u64, ConnId)> = None;
        for (id, entry) in entries.iter() {
            let Some(since_ms) = idle(entry) else { continue };
            if entry.activity.is_silent() {
                silent.push((since_ms, *id));
            } else if longest.is_none_or(|longest| (since_ms, *id) < longest) {
                longest = Some((since_ms, *id));
            }
        }
        if silent.is_empty() {
            return longest.into_iter().map(|(_, id)| id).collect();
        }
        silent.sort_unstable();
        silent.truncate((connections_max / SILENT_SHARE).max(1));
        silent.into_iter().map(|(_, id)| id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    /// Connections that were accepted at the given times, with tasks that end when they are aborted.
    fn registry(accepted_ms: &[u64]) -> (Registry, Vec<Arc<Activity>>) {
        let registry = Registry::default();
        let add = |(id, at): (u64, &u64)| {
            let activity = registry.add(ConnId(id), Some(PEER), *at);
            let task = tokio::spawn(std::future::pending::<()>());
            registry.set_task(ConnId(id), task.abort_handle());
            activity
        };
        let activities = (0..).zip(accepted_ms).map(add).collect();
        (registry, activities)
    }

    fn left(registry: &Registry) -> Vec<u64> {
        let mut left: Vec<u64> = registry.lock().keys().map(|id| id.0).collect();
        left.sort_unstable();
        left
    }

    #[tokio::test]
    async fn who_never_asked_goes_first_then_the_longest_idle() {
        let (registry, activities) = registry(&[0, 10, 20, 30]);
        for (at, activity) in [(100, &activities[0]), (40, &activities[2])] {
            activity.begin(at);
            activity.end(at);
        }
        for (closed, expect) in [(1, vec![0, 2, 3]), (1, vec![0, 2]), (1, vec![0]), (1, vec![])] {
            assert_eq!(registry.make_room(4, 100_000), closed);
            assert_eq!(left(&registry), expect);
        }
        assert_eq!(registry.make_room(4, 100_000), 0);
    }

    #[tokio::test]
    async fn who_waits_for_an_answer_or_has_just_come_stays() {
        let (registry, activities) = registry(&[0, 99_500, 0]);
        activities[0].begin(1);
        activities[2].begin(95_500);
        activities[2].end(95_500);
        assert_eq!(registry.make_room(3, 100_000), 0);
        assert_eq!(registry.make_room(3, 100_500), 1);
        assert_eq!(left(&registry), [0, 2]);
        assert_eq!(registry.make_room(3, 100_500), 1);
        assert_eq!(left(&registry), [0], "a long poll is no idleness");
    }

    #[tokio::test]
    async fn a_flood_of_silent_connections_is_closed_in_bulk() {
        let (registry, activities) = registry(&(0..1_000).collect::<Vec<_>>());
        activities[0].begin(0);
        activities[0].end(0);
        assert_eq!(registry.make_room(1_000, 10_000), 15);
        assert_eq!(registry.count_of(PEER), 985);
        assert!(left(&registry).contains(&0) && !left(&registry).contains(&1));
    }
}

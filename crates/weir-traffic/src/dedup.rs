//! Event ids seen in the last ten minutes: a repeat is answered, not sent again.
//!
//! An id counts as seen once its event was accepted; while the event is on its way the id is *pending*,
//! and a repeat waits for the same outcome. If the event is refused the id is forgotten, so that the
//! caller can send it again.
//!
//! An event whose callers were told "outcome unknown" while the sink has still not answered stays
//! pending ([`DedupWindow::doubt`]), so that a repeat gets the late answer instead of being written a
//! second time. Once the sink itself says that it will never know, the id is forgotten like a refused
//! one: a repeat may then be written twice.
//!
//! Ids are compared as they are: they must be unique over all senders. A caller whose senders choose
//! their own ids puts the sender into the id.
//!
//! In memory for now: after a restart every id is new. The durable form comes with the spool.
//!
//! Bounded by ids (1 M by default): when more are accepted within the window, the oldest go early, and
//! [`DedupStats::evicted_early`] counts them. An id costs about 85 bytes when the window is full.
//!
//! Ids are kept as 128 bits of a keyed hash. Two different ids of a full window meet with a probability
//! of 10^-27, and nobody outside can make them meet, as the key is secret.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::num::NonZeroU64;

use serde::Serialize;

use crate::lane::Identity;
use crate::sink::Accepted;
use crate::time::Nanos;

/// Bounds of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DedupConfig {
    /// How long an id is remembered.
    pub window_ms: u64,
    /// How many ids are remembered.
    pub ids_max: usize,
    /// How many repeats of one id may wait for its outcome. [`TrafficHandle`](crate::TrafficHandle)
    /// counts the repeats within one call as one.
    pub waiters_max: usize,
}

impl Default for DedupConfig {
    fn default() -> Self {
        Self { window_ms: 600_000, ids_max: 1_000_000, waiters_max: 16 }
    }
}

/// An id as the window knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdKey {
    high: NonZeroU64,
    low: u64,
}

impl std::hash::Hash for IdKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.low);
    }
}

/// The secret of a window's hash: random, from the shell.
#[derive(Debug, Clone, Copy)]
pub struct DedupSecret(pub [u64; 2]);

/// What is known of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Nothing: it is pending from now on. Settle it with [`DedupWindow::accept`] or
    /// [`DedupWindow::forget`].
    New,
    /// Its event was accepted, there.
    Duplicate(Accepted),
    /// Its event is on its way; the waiter will be given back with the outcome.
    Pending,
    /// Its event is on its way, and no more waiters are taken.
    Busy,
}

/// Figures of a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DedupStats {
    /// Ids remembered.
    pub ids: usize,
    /// Ids on their way.
    pub pending: usize,
    /// Repeats found.
    pub duplicates: u64,
    /// Ids forgotten before their time because the window was full.
    pub evicted_early: u64,
}

/// A window of ids; `W` is whoever waits for a pending one.
#[derive(Debug)]
pub struct DedupWindow<W> {
    config: DedupConfig,
    secret: DedupSecret,
    accepted: HashMap<IdKey, Accepted, BuildHasherDefault<Identity>>,
    /// In order of acceptance.
    order: VecDeque<(Nanos, IdKey)>,
    pending: HashMap<IdKey, Vec<W>, BuildHasherDefault<Identity>>,
    duplicates: u64,
    evicted_early: u64,
}

impl<W> DedupWindow<W> {
    /// An empty window.
    #[must_use]
    pub fn new(config: DedupConfig, secret: DedupSecret) -> Self {
        Self {
            config,
            secret,
            accepted: HashMap::default(),
            order: VecDeque::new(),
            pending: HashMap::default(),
            duplicates: 0,
            evicted_early: 0,
        }
    }

    /// The key of an id.
    #[must_use]
    pub fn key(&self, id: &str) -> IdKey {
        let half = |secret: u64| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u64(secret);
            hasher.write(id.as_bytes());
            hasher.finish()
        };
        let [first, second] = self.secret.0;
        IdKey { high: NonZeroU64::new(half(first)).unwrap_or(NonZeroU64::MIN), low: half(second) }
    }

    /// Looks an id up; a new one becomes pending. A waiter is made, and kept, only for [`Seen::Pending`].
    pub fn begin(&mut self, key: IdKey, waiter: impl FnOnce() -> W, now: Nanos) -> Seen {
        self.expire(now);
        if let Some(accepted) = self.accepted.get(&key) {
            self.duplicates += 1;
            return Seen::Duplicate(*accepted);
        }
        let Some(waiters) = self.pending.get_mut(&key) else {
            self.pending.insert(key, Vec::new());
            return Seen::New;
        };
        if waiters.len() >= self.config.waiters_max {
            return Seen::Busy;
        }
        self.duplicates += 1;
        waiters.push(waiter());
        Seen::Pending
    }

    /// A repeat was found by the caller itself, of an id it has begun.
    pub fn count_repeat(&mut self) {
        self.duplicates += 1;
    }

    /// The outcome of a pending id does not come in time. It stays pending; gives back who waited.
    pub fn doubt(&mut self, key: IdKey) -> Vec<W> {
        self.pending.get_mut(&key).map(std::mem::take).unwrap_or_default()
    }

    /// The event of an id was accepted, also when it was forgotten before. Gives back who waited.
    pub fn accept(&mut self, key: IdKey, accepted: Accepted, now: Nanos) -> Vec<W> {
        self.expire(now);
        let waiters = self.pending.remove(&key);
        let is_new = !self.accepted.contains_key(&key);
        if is_new && self.accepted.len() >= self.config.ids_max.max(1) {
            self.evict();
            self.evicted_early += 1;
        }
        if self.accepted.insert(key, accepted).is_none() {
            self.order.push_back((now, key));
        }
        debug_assert_eq!(self.accepted.len(), self.order.len());
        waiters.unwrap_or_default()
    }

    /// The event of a pending id was refused: the id is new again. Gives back who waited.
    pub fn forget(&mut self, key: IdKey) -> Vec<W> {
        self.pending.remove(&key).unwrap_or_default()
    }

    /// Forgets ids older than the window.
    pub fn expire(&mut self, now: Nanos) {
        while let Some((accepted, _)) = self.order.front() {
            if accepted.plus_ms(self.config.window_ms) > now {
                break;
            }
            self.evict();
        }
    }

    /// Figures.
    #[must_use]
    pub fn stats(&self) -> DedupStats {
        DedupStats {
            ids: self.accepted.len(),
            pending: self.pending.len(),
            duplicates: self.duplicates,
            evicted_early: self.evicted_early,
        }
    }

    fn evict(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.accepted.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONFIG: DedupConfig = DedupConfig { window_ms: 1_000, ids_max: 4, waiters_max: 2 };

    fn window() -> DedupWindow<u32> {
        DedupWindow::new(CONFIG, DedupSecret([1, 2]))
    }

    fn at(offset: i64) -> Accepted {
        Accepted { partition: 0, offset: Some(offset), duplicate: false }
    }

    #[test]
    fn an_id_is_seen_only_once_its_event_was_accepted() {
        let mut window = window();
        let key = window.key("a");
        assert_eq!(window.begin(key, || 1, Nanos(0)), Seen::New);
        assert_eq!(window.begin(key, || 2, Nanos(0)), Seen::Pending);
        assert_eq!(window.begin(key, || 3, Nanos(0)), Seen::Pending);
        assert_eq!(window.begin(key, || 4, Nanos(0)), Seen::Busy);
        assert_eq!(window.forget(key), [2, 3]);
        assert_eq!(window.begin(key, || 5, Nanos(0)), Seen::New, "a refused event may come again");
        assert_eq!(window.begin(key, || 6, Nanos(0)), Seen::Pending);
        assert_eq!(window.accept(key, at(9), Nanos(0)), [6]);
        assert_eq!(window.begin(key, || 7, Nanos(0)), Seen::Duplicate(at(9)));
    }

    #[test]
    fn an_id_in_doubt_stays_pending_until_its_late_answer() {
        let mut window = window();
        let key = window.key("a");
        window.begin(key, || 1, Nanos(0));
        window.begin(key, || 2, Nanos(0));
        assert_eq!(window.doubt(key), [2]);
        assert_eq!(window.begin(key, || 3, Nanos(0)), Seen::Pending);
        assert_eq!(window.forget(key), [3]);
        assert_eq!(window.begin(key, || 4, Nanos(0)), Seen::New, "nobody waits for ever");
        assert!(window.accept(key, at(7), Nanos(0)).is_empty(), "the first, after all");
        assert!(window.accept(key, at(8), Nanos(0)).is_empty(), "and its repeat");
        assert_eq!(window.begin(key, || 5, Nanos(0)), Seen::Duplicate(at(8)));
        assert_eq!((window.stats().ids, window.stats().pending), (1, 0));
    }

    #[test]
    fn long_ids_that_differ_in_their_sender_alone_are_different() {
        let window = window();
        let tail = "x".repeat(300);
        let id = |sender: char| format!("{}\u{0}{tail}", String::from(sender).repeat(300));
        assert_eq!(window.key(&id('a')), window.key(&id('a')));
        assert_ne!(window.key(&id('a')), window.key(&id('b')));
        assert_ne!(window.key("a\u{0}bc"), window.key("ab\u{0}c"));
    }

    #[test]
    fn an_id_is_forgotten_when_its_time_is_over() {
        let mut window = window();
        let key = window.key("a");
        window.begin(key, || 0, Nanos(0));
        window.accept(key, at(1), Nanos::from_ms(5));
        assert_eq!(window.begin(key, || 0, Nanos::from_ms(1_004)), Seen::Duplicate(at(1)));
        assert_eq!(window.begin(key, || 0, Nanos::from_ms(1_005)), Seen::New);
        assert_eq!(window.stats().ids, 0);
    }

    proptest! {
        /// The model: a list of (id, time accepted), newest last.
        #[test]
        fn it_remembers_the_newest_ids_of_the_window(
            steps in prop::collection::vec((0u8..12, 0u64..400, any::<bool>()), 1..200),
        ) {
            let mut window = window();
            let mut model: Vec<(u8, Nanos)> = Vec::new();
            let mut now = Nanos(0);
            for (id, gap_ms, accepted) in steps {
                now = now.plus_ms(gap_ms);
                model.retain(|(_, at)| at.plus_ms(CONFIG.window_ms) > now);
                let key = window.key(&id.to_string());
                let seen = model.iter().any(|(known, _)| *known == id);
                let answer = window.begin(key, || 0, now);
                prop_assert_eq!(matches!(answer, Seen::Duplicate(_)), seen);
                if answer == Seen::New {
                    if accepted {
                        window.accept(key, at(0), now);
                        model.push((id, now));
                        if model.len() > CONFIG.ids_max {
                            model.remove(0);
                        }
                    } else {
                        window.forget(key);
                    }
                }
                prop_assert_eq!(window.stats().ids, model.len());
            }
        }
    }
}

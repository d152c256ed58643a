//! A lane: the events of one priority class, in order, none overtaking an earlier one of its key.
//!
//! # Order per key
//! While a batch holds an event of a key, later events of that key stay here until the batch has come
//! back: only then is it certain that a failed event can go before them. Events of other keys go on.
//! So order per key and class holds for any sink that keeps the order *within* one batch, however many
//! batches are on their way. The price: one key passes at most one batch per round trip.
//!
//! # Two deques
//! `main` is the lane in order of admission. `front` holds what left it without being sent: events
//! found waiting for their key, and events of a failed batch. Invariant: both are in order of `seq`, and
//! every event of a key in `front` is older than those of that key in `main`. So a batch takes from
//! `front` first, then from `main`.
//!
//! # Order per key for a sender that sends again
//! Events of one request are admitted at the same moment. When one of them is given back for now, those
//! of its key that were admitted with it and still wait go with it ([`Lane::take_followers`]): else
//! they would be written, and it would come after them when it is sent again.
//!
//! An event is moved to `front` at most once per failure, and `front` is scanned only after a batch has
//! come back, so filling a batch costs constant time per event.

use std::collections::hash_map::{Entry as Slot, HashMap};
use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::num::{NonZeroU32, NonZeroU64};

use crate::time::{earliest, Nanos};

/// The number of a batch. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

/// An event in a lane or in a batch.
#[derive(Debug)]
pub struct Entry<T> {
    /// Order of admission, over all lanes.
    pub seq: u64,
    /// Hash of topic and key; `None`: no order to keep. Not zero, so that `None` takes no room.
    pub key: Option<NonZeroU64>,
    /// What it is charged.
    pub bytes: u32,
    /// When it was admitted.
    pub admitted: Nanos,
    /// When its first send failed, if one did: ms after its admission, plus 1.
    failed: Option<NonZeroU32>,
    /// The event itself.
    pub payload: T,
}

impl<T> Entry<T> {
    /// An event just admitted.
    pub fn new(seq: u64, key: Option<u64>, bytes: u32, admitted: Nanos, payload: T) -> Self {
        let key = key.map(|hash| NonZeroU64::new(hash).unwrap_or(NonZeroU64::MAX));
        Self { seq, key, bytes, admitted, failed: None, payload }
    }

    /// When its first send failed, if one did; less than a millisecond early.
    pub fn failed(&self) -> Option<Nanos> {
        self.failed.map(|ms| self.admitted.plus_ms(u64::from(ms.get()) - 1))
    }

    /// A send failed now.
    #[must_use]
    pub fn failed_at(mut self, now: Nanos) -> Self {
        let ms = u32::try_from(now.since_ms(self.admitted)).unwrap_or(u32::MAX);
        self.failed = self.failed.or(NonZeroU32::new(ms.saturating_add(1)));
        self
    }

    /// Its key and when it was admitted, which events of one key of one request have in common.
    pub(crate) fn identity(&self) -> Option<(NonZeroU64, Nanos)> {
        self.key.map(|key| (key, self.admitted))
    }
}

/// How much a batch may hold. One event is always taken, however large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimit {
    /// Events.
    pub events: usize,
    /// Bytes.
    pub bytes: usize,
    /// The most events that may be set aside in `front` because their key is on its way.
    pub aside_max: usize,
}

/// Keys are hashes already: hashing them again would only cost time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Key and moment of admission of events given back for now: later ones of the same follow them.
pub type Broken = HashSet<(NonZeroU64, Nanos)>;

/// Which batch holds events of a key, and how many.
type Owners = HashMap<NonZeroU64, (BatchId, u32), BuildHasherDefault<Identity>>;

/// A lane.
#[derive(Debug)]
pub struct Lane<T> {
    front: VecDeque<Entry<T>>,
    main: VecDeque<Entry<T>>,
    bytes: usize,
    owners: Owners,
    /// Every event of `front` waits for a batch to come back.
    front_waits: bool,
    /// The head of `main` waits for a batch to come back, and `front` is full.
    main_waits: bool,
    /// The first moment an event of `front` may have waited too long since its failure. May be early.
    front_deadline: Option<Nanos>,
}

/// What a new lane reserves at most, so that admission does not allocate. Reserved is not used: the
/// system gives the pages when they are first written.
const RESERVED_MAX: usize = 131_072;

impl<T> Lane<T> {
    /// An empty lane for so many events.
    #[must_use]
    pub fn new(events_max: usize) -> Self {
        Self {
            front: VecDeque::new(),
            main: VecDeque::with_capacity(events_max.min(RESERVED_MAX)),
            bytes: 0,
            owners: Owners::default(),
            front_waits: false,
            main_waits: false,
            front_deadline: None,
        }
    }

    /// Events in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.front.len() + self.main.len()
    }

    /// Whether it holds no event.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in it.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// When its oldest event was admitted.
    #[must_use]
    pub fn oldest(&self) -> Option<Nanos> {
        earliest(
            self.front.front().map(|entry| entry.admitted),
            self.main.front().map(|entry| entry.admitted),
        )
    }

    /// How many events a batch might take now: those not known to wait for a batch to come back.
    #[must_use]
    pub fn ready_len(&self) -> usize {
        let front = if self.front_waits { 0 } else { self.front.len() };
        let main = if self.main_waits { 0 } else { self.main.len() };
        front + main
    }

    /// When the oldest event that might be taken was admitted.
    #[must_use]
    pub fn ready_since(&self) -> Option<Nanos> {
        let head = |deque: &VecDeque<Entry<T>>, waits: bool| {
            deque.front().filter(|_| !waits).map(|entry| entry.admitted)
        };
        earliest(head(&self.front, self.front_waits), head(&self.main, self.main_waits))
    }

    /// Appends an event.
    pub fn push(&mut self, entry: Entry<T>) {
        debug_assert!(self.main.back().is_none_or(|last| last.seq < entry.seq), "seq grows");
        self.bytes += entry.bytes as usize;
        self.main.push_back(entry);
    }

    /// Moves events into `out` for this batch, in order, until `limit` or until the rest waits for a
    /// batch to come back. May move none.
    pub fn fill(&mut self, batch: BatchId, limit: BatchLimit, out: &mut Vec<Entry<T>>) {
        let mut room = Room { events: limit.events, bytes: limit.bytes, taken: 0 };
        if !self.front_waits && !self.front.is_empty() {
            self.front_waits = self.fill_from_front(batch, &mut room, out);
        }
        while !self.main_waits {
            let Some(head) = self.main.front() else { break };
            if !room.fits(head.bytes) {
                break;
            }
            let free = claim(&mut self.owners, head.key, batch);
            if !free && self.front.len() >= limit.aside_max {
                self.main_waits = true;
                break;
            }
            let Some(entry) = self.main.pop_front() else { break };
            if free {
                self.bytes -= entry.bytes as usize;
                room.take(entry.bytes);
                out.push(entry);
            } else {
                self.front.push_back(entry);
                // The front was scanned before `main`, or known to wait: this one waits too.
                self.front_waits = true;
            }
        }
    }

    /// Whether the whole front was seen: then what is left there waits.
    fn fill_from_front(
        &mut self,
        batch: BatchId,
        room: &mut Room,
        out: &mut Vec<Entry<T>>,
    ) -> bool {
        let mut full = false;
        for _ in 0..self.front.len() {
            let Some(entry) = self.front.pop_front() else { break };
            full = full || !room.fits(entry.bytes);
            if !full && claim(&mut self.owners, entry.key, batch) {
                self.bytes -= entry.bytes as usize;
                room.take(entry.bytes);
                out.push(entry);
            } else {
                self.front.push_back(entry);
            }
        }
        if full {
            room.events = 0;
        }
        !full
    }

    /// Lets the keys of a batch that came back go on.
    pub fn release(&mut self, batch: BatchId, keys: impl Iterator<Item = Option<NonZeroU64>>) {
        for key in keys.flatten() {
            let Slot::Occupied(mut slot) = self.owners.entry(key) else {
                debug_assert!(false, "a key in flight has an owner");
                continue;
            };
            debug_assert_eq!(slot.get().0, batch, "a key is in one batch at a time");
            slot.get_mut().1 -= 1;
            if slot.get().1 == 0 {
                slot.remove();
            }
        }
        self.front_waits = false;
        self.main_waits = false;
    }

    /// Puts events of a failed batch back where they were, before all later ones of their keys.
    /// Their keys have been released. `deadline` is when the first of them has waited too long.
    pub fn give_back(&mut self, mut entries: Vec<Entry<T>>, deadline: Nanos) {
        self.bytes += entries.iter().map(|entry| entry.bytes as usize).sum::<usize>();
        self.front_deadline = earliest(self.front_deadline, Some(deadline));
        if self.front.is_empty() {
            entries.sort_unstable_by_key(|entry| entry.seq);
            self.front = entries.into();
        } else {
            self.front.extend(entries);
            self.front.make_contiguous().sort_unstable_by_key(|entry| entry.seq);
        }
        self.front_waits = false;
    }

    /// When an event of this lane has waited too long for a sink that is away since `away`.
    #[must_use]
    pub fn deadline(&self, away: Option<Nanos>, wait_ms_max: u64) -> Option<Nanos> {
        let by_absence = away.and_then(|since| {
            self.oldest().map(|admitted| admitted.max(since).plus_ms(wait_ms_max))
        });
        earliest(by_absence, self.front_deadline)
    }

    /// Removes the events that have waited too long: `wait_ms_max` since the sink went away (or since
    /// their admission, if later), or since their own first failure.
    pub fn expire(
        &mut self,
        now: Nanos,
        away: Option<Nanos>,
        wait_ms_max: u64,
        out: &mut Vec<Entry<T>>,
    ) {
        let before = out.len();
        let over = |entry: &Entry<T>| {
            let by_absence =
                away.is_some_and(|since| entry.admitted.max(since).plus_ms(wait_ms_max) <= now);
            by_absence || entry.failed().is_some_and(|failed| failed.plus_ms(wait_ms_max) <= now)
        };
        // Events of one request are over together by the absence, but not by a failure of one.
        let mut broken = Broken::default();
        for _ in 0..self.front.len() {
            let Some(entry) = self.front.pop_front() else { break };
            if over(&entry) {
                broken.extend(entry.identity().filter(|_| entry.failed.is_some()));
                out.push(entry);
            } else {
                self.front.push_back(entry);
            }
        }
        // In order of admission: the first that has not waited too long ends it.
        while self.main.front().is_some_and(over) {
            out.extend(self.main.pop_front());
        }
        self.forget(&out[before..]);
        self.take_followers(&broken, out);
        self.front_deadline = self
            .front
            .iter()
            .filter_map(|entry| entry.failed().map(|failed| failed.plus_ms(wait_ms_max)))
            .min();
    }

    /// Removes the events that were admitted together with an earlier one of their key that is given
    /// back.
    pub fn take_followers(&mut self, broken: &Broken, out: &mut Vec<Entry<T>>) {
        let moments = || broken.iter().map(|(_, admitted)| *admitted);
        let (Some(first), Some(last)) = (moments().min(), moments().max()) else { return };
        let before = out.len();
        let follows =
            |entry: &Entry<T>| entry.identity().is_some_and(|identity| broken.contains(&identity));
        for _ in 0..self.front.len() {
            let Some(entry) = self.front.pop_front() else { break };
            if follows(&entry) {
                out.push(entry);
            } else {
                self.front.push_back(entry);
            }
        }
        let begin = self.main.partition_point(|entry| entry.admitted < first);
        let end = self.main.partition_point(|entry| entry.admitted <= last);
        if self.main.range(begin..end).any(follows) {
            for entry in self.main.split_off(begin) {
                if follows(&entry) {
                    out.push(entry);
                } else {
                    self.main.push_back(entry);
                }
            }
        }
        self.forget(&out[before..]);
    }

    /// Removes everything.
    pub fn drain(&mut self, out: &mut Vec<Entry<T>>) {
        let before = out.len();
        out.extend(self.front.drain(..));
        out.extend(self.main.drain(..));
        self.front_deadline = None;
        self.forget(&out[before..]);
        debug_assert_eq!(self.bytes, 0);
    }

    fn forget(&mut self, removed: &[Entry<T>]) {
        self.bytes -= removed.iter().map(|entry| entry.bytes as usize).sum::<usize>();
    }
}

/// What a batch still has room for.
struct Room {
    events: usize,
    bytes: usize,
    taken: usize,
}

impl Room {
    fn fits(&self, bytes: u32) -> bool {
        self.taken < self.events && (self.taken == 0 || bytes as usize <= self.bytes)
    }

    fn take(&mut self, bytes: u32) {
        self.taken += 1;
        self.bytes = self.bytes.saturating_sub(bytes as usize);
    }
}

/// Makes `batch` the owner of `key`, unless another is.
fn claim(owners: &mut Owners, key: Option<NonZeroU64>, batch: BatchId) -> bool {
    let Some(key) = key else { return true };
    let (owner, count) = owners.entry(key).or_insert((batch, 0));
    let free = *owner == batch;
    *count += u32::from(free);
    free
}

#[cfg(test)]
mod tests;

//! Memory that all connections share: of requests that are read, and of answers that wait to be written.
//!
//! Whoever is slow holds a part of it for long. While there is enough that harms nobody. Once somebody waits, a pace is
//! asked of all who hold some, and it rises as long as the waiting gives nothing: the slowest go first.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{timeout, Instant};

use super::shared::PERMIT_BYTES;
use crate::config::BrokerConfig;

/// What a frame may take beside the shared memory. A small one is covered by the number of connections.
pub(super) const FREE_BYTES: usize = 64 << 10;
/// As above, of who has not logged in: a token is far smaller.
pub(super) const STRANGER_FREE_BYTES: usize = 4 << 10;
/// From here on a frame is large: all large ones together leave room for others.
const LARGE_BYTES: usize = 1 << 20;
/// Strangers have this part of the memory of requests, beside it: what they take is nobody else's.
const STRANGERS_PART: usize = 16;
/// Who holds memory looks so often whether others wait for it.
pub(super) const LOOK: Duration = Duration::from_millis(500);
/// The pace, in bytes a second, that is asked at first when memory is short.
const PACE_MIN: u64 = 16 << 10;
/// The most that is asked. A client that is faster than this is never cut, however many wait.
const PACE_MAX: u64 = 1 << 20;
/// Nobody is judged before.
const PACE_GRACE: Duration = Duration::from_secs(1);

/// Whether somebody waits for memory, and since when nobody has got any.
#[derive(Debug)]
struct Pressure {
    begun: Instant,
    waiting: Mutex<usize>,
    /// Milliseconds from `begun` to the last time that somebody got what he waited for, or began to wait; 0: nobody waits.
    since_ms: AtomicU64,
}

impl Pressure {
    fn new() -> Self {
        Self { begun: Instant::now(), waiting: Mutex::new(0), since_ms: AtomicU64::new(0) }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    fn wait(&self) -> Waiting<'_> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting += 1;
        if *waiting == 1 {
            self.since_ms.store(self.now_ms(), Ordering::Relaxed);
        }
        Waiting { pressure: self, is_served: false }
    }

    /// Whether who has moved `bytes` in `elapsed` has to go, so that others can.
    fn is_too_slow(&self, bytes: usize, elapsed: Duration) -> bool {
        let since_ms = self.since_ms.load(Ordering::Relaxed);
        if since_ms == 0 || elapsed < PACE_GRACE {
            return false;
        }
        let pressed_s = self.now_ms().saturating_sub(since_ms) / 1_000;
        let asked = pace_asked(pressed_s);
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        (bytes as u64).saturating_mul(1_000) / millis < asked
    }
}

/// Bytes a second, when nobody has got memory for so long.
fn pace_asked(pressed_s: u64) -> u64 {
    let doublings = u32::try_from(pressed_s).unwrap_or(u32::MAX).min(PACE_MAX.ilog2());
    (PACE_MIN << doublings).min(PACE_MAX)
}

#[derive(Debug)]
struct Waiting<'a> {
    pressure: &'a Pressure,
    is_served: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let pressure = self.pressure;
        let mut waiting = pressure.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting -= 1;
        if *waiting == 0 {
            pressure.since_ms.store(0, Ordering::Relaxed);
        } else if self.is_served {
            pressure.since_ms.store(pressure.now_ms(), Ordering::Relaxed);
        }
    }
}

/// Memory of requests that are read.
#[derive(Debug)]
pub(super) struct RequestMemory {
    all: Arc<Semaphore>,
    /// What large frames may take of `all`.
    large: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    pressure: Pressure,
}

/// What a frame holds of it.
#[derive(Debug)]
pub(super) struct Held {
    memory: OwnedSemaphorePermit,
    large: Option<OwnedSemaphorePermit>,
}

impl RequestMemory {
    pub(super) fn new(config: &BrokerConfig) -> Self {
        let total_bytes = config.request_bytes_total_max;
        let large_bytes = (total_bytes / 4 * 3).max(config.request_bytes_max.min(total_bytes));
        let strangers_bytes =
            (total_bytes / STRANGERS_PART).max(config.unauthenticated_request_bytes_max);
        Self {
            all: semaphore(total_bytes),
            large: semaphore(large_bytes),
            strangers: semaphore(strangers_bytes),
            pressure: Pressure::new(),
        }
    }

    /// Charges a frame of `len` bytes for `bytes` of memory in all. `None` if others have not left enough for `patience`.
    pub(super) async fn charge(
        &self,
        held: &mut Option<Held>,
        bytes: usize,
        len: usize,
        is_stranger: bool,
        patience: Duration,
    ) -> Option<()> {
        let free_bytes = if is_stranger { STRANGER_FREE_BYTES } else { FREE_BYTES };
        let has = held.as_ref().map_or(0, |held| held.memory.num_permits());
        let wanted = bytes / PERMIT_BYTES;
        if bytes <= free_bytes || wanted <= has {
            return Some(());
        }
        let more = u32::try_from(wanted - has).ok()?;
        let pool = if is_stranger { &self.strangers } else { &self.all };
        let is_large = len > LARGE_BYTES;
        let got = match take_now(pool, is_large.then_some(&self.large), more) {
            Some(got) => got,
            None if is_stranger => timeout(patience, take(pool, None, more)).await.ok()??,
            None => {
                let mut waiting = self.pressure.wait();
                let taken = take(pool, is_large.then_some(&self.large), more);
                // Half-read frames may hold all of it and wait for each other; the time limit lets some go.
                let got = timeout(patience, taken).await.ok()??;
                waiting.is_served = true;
                got
            }
        };
        match held {
            None => *held = Some(got),
            Some(held) => held.merge(got),
        }
        Some(())
    }

    /// Whether a frame has to go that holds memory, as it has brought so few bytes in the time it was read and others wait.
    pub(super) fn is_too_slow(&self, bytes: usize, elapsed: Duration) -> bool {
        self.pressure.is_too_slow(bytes, elapsed)
    }
}

impl Held {
    fn merge(&mut self, more: Self) {
        self.memory.merge(more.memory);
        match (&mut self.large, more.large) {
            (Some(large), Some(more)) => large.merge(more),
            (large, more) => *large = large.take().or(more),
        }
    }
}

fn semaphore(bytes: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new((bytes / PERMIT_BYTES).clamp(1, Semaphore::MAX_PERMITS)))
}

fn take_now(all: &Arc<Semaphore>, large: Option<&Arc<Semaphore>>, permits: u32) -> Option<Held> {
    let take = |of: &Arc<Semaphore>| of.clone().try_acquire_many_owned(permits).ok();
    let large = match large {
        Some(large) => Some(take(large)?),
        None => None,
    };
    Some(Held { memory: take(all)?, large })
}

async fn take(all: &Arc<Semaphore>, large: Option<&Arc<Semaphore>>, permits: u32) -> Option<Held> {
    let large = match large {
        Some(large) => Some(large.clone().acquire_many_owned(permits).await.ok()?),
        None => None,
    };
    Some(Held { memory: all.clone().acquire_many_owned(permits).await.ok()?, large })
}

/// Memory of answers that wait to be written. What is made is charged though there is no room, by one answer for each
/// thread at most: nothing more is made then, until there is.
#[derive(Debug)]
pub(super) struct AnswerMemory {
    bytes: AtomicUsize,
    bytes_max: usize,
    freed: Notify,
    pressure: Pressure,
}

impl AnswerMemory {
    pub(super) fn new(bytes_max: usize) -> Self {
        let (bytes, freed) = (AtomicUsize::new(0), Notify::new());
        Self { bytes, bytes_max, freed, pressure: Pressure::new() }
    }

    pub(super) fn has_room(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) < self.bytes_max
    }

    /// Waits until there is room for more.
    pub(super) async fn room(&self) {
        if self.has_room() {
            return;
        }
        let mut waiting = self.pressure.wait();
        loop {
            // Before the look, so that what is freed between the two is not missed.
            let freed = self.freed.notified();
            if self.has_room() {
                waiting.is_served = true;
                return;
            }
            freed.await;
        }
    }

    pub(super) fn charge(self: &Arc<Self>, bytes: usize) -> AnswerCharge {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        AnswerCharge { memory: self.clone(), bytes }
    }

    /// Whether a reader has to go that holds answers, as it has taken so few bytes in this time and others wait.
    pub(super) fn is_too_slow(&self, bytes: usize, elapsed: Duration) -> bool {
        self.pressure.is_too_slow(bytes, elapsed)
    }
}

/// What a connection's answers hold of it.
#[derive(Debug)]
pub(super) struct AnswerCharge {
    memory: Arc<AnswerMemory>,
    bytes: usize,
}

impl Drop for AnswerCharge {
    fn drop(&mut self) {
        let before = self.memory.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        if before >= self.memory.bytes_max && before - self.bytes < self.memory.bytes_max {
            self.memory.freed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;
    /// Of those that wait in vain.
    const PATIENCE: Duration = Duration::from_millis(20);

    fn memory(total_bytes: usize) -> RequestMemory {
        RequestMemory::new(&BrokerConfig {
            request_bytes_max: total_bytes / 4,
            request_bytes_total_max: total_bytes,
            ..BrokerConfig::default()
        })
    }

    async fn charged(memory: &RequestMemory, len: usize, is_stranger: bool) -> Option<Held> {
        let mut held = None;
        memory.charge(&mut held, len, len, is_stranger, PATIENCE).await?;
        held
    }

    #[tokio::test]
    async fn large_frames_leave_a_quarter_to_others() {
        let memory = memory(8 * MIB);
        let large = [
            charged(&memory, 2 * MIB, false).await.unwrap(),
            charged(&memory, 2 * MIB, false).await.unwrap(),
            charged(&memory, 2 * MIB, false).await.unwrap(),
        ];
        assert!(charged(&memory, 2 * MIB, false).await.is_none(), "large ones have had their part");
        let small = charged(&memory, MIB, false).await.unwrap();
        let other = charged(&memory, MIB, false).await.unwrap();
        assert!(charged(&memory, MIB, false).await.is_none(), "all is taken");
        drop((small, other, large));
        assert_eq!(memory.all.available_permits(), 8 * MIB / PERMIT_BYTES);
        assert_eq!(memory.large.available_permits(), 6 * MIB / PERMIT_BYTES);
    }

    #[tokio::test]
    async fn strangers_take_nothing_of_what_others_have() {
        let memory = memory(8 * MIB);
        let mut held = Vec::new();
        while let Some(one) = charged(&memory, FREE_BYTES, true).await {
            held.push(one);
        }
        assert_eq!(held.len(), 8 * MIB / STRANGERS_PART / FREE_BYTES);
        assert_eq!(memory.all.available_permits(), 8 * MIB / PERMIT_BYTES);
        assert!(!memory.is_too_slow(0, Duration::from_secs(60)), "nor do they press anybody");
    }

    #[tokio::test]
    async fn the_slowest_go_first_when_somebody_waits() {
        let mut memory = memory(2 * MIB);
        memory.pressure.begun -= Duration::from_secs(60);
        let memory = Arc::new(memory);
        let elapsed = Duration::from_secs(20);
        let holds = charged(&memory, MIB, false).await.unwrap();
        let also = charged(&memory, MIB, false).await.unwrap();
        assert!(!memory.is_too_slow(1, elapsed), "nobody waits");
        let waits = tokio::spawn({
            let memory = memory.clone();
            async move {
                let mut held = None;
                let patience = Duration::from_secs(60);
                memory.charge(&mut held, MIB, MIB, false, patience).await
            }
        });
        while memory.pressure.since_ms.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(memory.is_too_slow(1, elapsed));
        assert!(!memory.is_too_slow(1, PACE_GRACE / 2), "it has just begun");
        assert!(!memory.is_too_slow(20 * 100_000, elapsed), "100 kB/s are enough at first");
        memory.pressure.since_ms.fetch_sub(4_000, Ordering::Relaxed);
        assert!(memory.is_too_slow(20 * 100_000, elapsed));
        memory.pressure.since_ms.fetch_sub(50_000, Ordering::Relaxed);
        assert!(!memory.is_too_slow(20 * MIB, elapsed), "as fast as anybody must be");
        drop(holds);
        assert!(waits.await.unwrap().is_some());
        assert!(!memory.is_too_slow(1, elapsed), "nobody waits any more");
        drop(also);
    }

    #[tokio::test]
    async fn nothing_more_is_made_while_answers_take_all_and_then_it_goes_on() {
        let memory = Arc::new(AnswerMemory::new(1_000));
        let first = memory.charge(900);
        memory.room().await;
        let second = memory.charge(900);
        assert!(timeout(PATIENCE, memory.room()).await.is_err());
        let waits = tokio::spawn({
            let memory = memory.clone();
            async move { memory.room().await }
        });
        while memory.pressure.since_ms.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(memory.is_too_slow(1_000, Duration::from_secs(3)));
        drop(second);
        waits.await.unwrap();
        assert!(!memory.is_too_slow(0, Duration::from_secs(60)));
        drop(first);
        assert_eq!(memory.bytes.load(Ordering::Relaxed), 0);
    }
}

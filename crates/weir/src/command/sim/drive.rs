//! One worker of `weir sim`: a thread that makes what is due and hands it on.

// A shell: it reads the clock.
#![allow(clippy::disallowed_methods)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use weir_sim::generator::Counts;
use weir_sim::{Filled, Generator, Latencies, Trends};

use super::plan::{Pace, Plan};

/// Longest rest, so that a stop or a change is seen soon.
const REST_MAX: Duration = Duration::from_millis(50);
/// Shortest rest: what is due meanwhile travels together.
const REST_MIN: Duration = Duration::from_millis(1);

/// From the fleet's time to the clock's and back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pacer {
    started: Instant,
    started_ms: i64,
    pace: Pace,
}

impl Pacer {
    pub(super) fn start(pace: Pace) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_ms: since.as_millis() as i64, pace }
    }

    /// What is due now, in nanoseconds of the fleet's time.
    fn due_ns(&self) -> u64 {
        match self.pace {
            Pace::Times(times) => (self.started.elapsed().as_nanos() as f64 * times) as u64,
            Pace::Max => u64::MAX,
        }
    }

    /// When something due is due by the clock, since the start; at the fastest pace, now.
    pub(super) fn wall(&self, due_ns: u64) -> Duration {
        match self.pace {
            Pace::Times(times) => Duration::from_nanos((due_ns as f64 / times) as u64),
            Pace::Max => self.started.elapsed(),
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// As milliseconds since 1970.
    pub(super) fn wall_ms(&self, due_ns: u64) -> i64 {
        self.started_ms + self.wall(due_ns).as_millis() as i64
    }
}

/// What may be changed while it runs.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// From the configuration.
    Rates { anomaly_rate: f64, trends: Trends },
    /// A device that was not there, by its number.
    Add(u32),
    /// A device that goes, by its id.
    Remove(Arc<str>),
}

/// Changes of one run at most.
pub(super) const CHANGES_MAX: usize = 100_000;

/// What the workers tell and are told.
#[derive(Debug, Default)]
pub(super) struct Shared {
    stop: AtomicBool,
    /// Records handed on, ground truth included.
    pub(super) handed: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) failed: AtomicU64,
    /// Nanoseconds spent making records and putting them into batches.
    pub(super) busy_ns: AtomicU64,
    latencies: Mutex<Measured>,
    /// All of the run: each worker takes those it has not seen.
    changes: Mutex<Vec<Change>>,
    changes_count: AtomicU64,
    first_error: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct Measured {
    /// From when a record was due to its answer.
    send: Latencies,
    /// From when a record was due to when it was handed on: how well intervals are kept.
    lateness: Latencies,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(super) fn answered(&self, latency: Duration, records: u64) {
        locked(&self.latencies).send.record(latency.as_micros() as u64, records);
    }

    fn late_by(&self, late: Duration, records: u64) {
        locked(&self.latencies).lateness.record(late.as_micros() as u64, records);
    }

    /// From due to answered, and from due to handed on.
    pub(super) fn measured(&self) -> (Latencies, Latencies) {
        let measured = locked(&self.latencies);
        (measured.send.clone(), measured.lateness.clone())
    }

    /// False if there have been too many.
    pub(super) fn change(&self, change: Change) -> bool {
        let mut changes = locked(&self.changes);
        let fits = changes.len() < CHANGES_MAX;
        if fits {
            changes.push(change);
            self.changes_count.store(changes.len() as u64, Ordering::Release);
        }
        fits
    }

    pub(super) fn fail(&self, records: u64, why: impl FnOnce() -> String) {
        self.failed.fetch_add(records, Ordering::Relaxed);
        locked(&self.first_error).get_or_insert_with(why);
    }

    pub(super) fn first_error(&self) -> Option<String> {
        locked(&self.first_error).clone()
    }
}

/// Where a worker's records go.
pub(super) trait Target {
    /// Takes what is due. An error ends the run.
    fn fill(
        &mut self,
        generator: &mut Generator,
        until_ns: u64,
        records_max: usize,
        pacer: Pacer,
    ) -> Result<Filled, String>;
    /// Waits until there may be room again, not for long.
    fn wait_for_room(&mut self) -> Result<(), String>;
    /// Sends the last record of the ground truth.
    fn total(&mut self, key: &str, text: &str) -> Result<(), String>;
    /// Waits until all is answered.
    fn close(&mut self) -> Result<(), String>;
}

/// Runs a worker to its end.
pub(super) fn drive(
    mut generator: Generator,
    target: &mut dyn Target,
    plan: &Plan,
    pacer: Pacer,
    shared: &Arc<Shared>,
) -> Result<Counts, String> {
    let end_ns = plan.duration_ns.map_or(u64::MAX, |ns| ns - 1);
    let mut changes_seen = 0;
    while !shared.is_stopping() {
        if shared.changes_count.load(Ordering::Acquire) != changes_seen {
            changes_seen = take_changes(&mut generator, plan, shared, changes_seen);
        }
        let due_ns = pacer.due_ns().min(end_ns);
        let first_ns = generator.next_due_ns();
        let began = Instant::now();
        let filled = target.fill(&mut generator, due_ns, plan.records_per_fill, pacer)?;
        shared.busy_ns.fetch_add(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
        tell(&filled, first_ns, pacer, shared);
        if filled.full {
            target.wait_for_room()?;
        } else if filled.records < plan.records_per_fill {
            match generator.next_due_ns() {
                Some(next_ns) if next_ns <= end_ns => rest(pacer, next_ns),
                _ if plan.duration_ns.is_some() => break,
                _ => std::thread::sleep(REST_MAX),
            }
        }
    }
    generator.finish();
    loop {
        let filled = target.fill(&mut generator, u64::MAX, plan.records_per_fill, pacer)?;
        tell(&filled, None, pacer, shared);
        if filled.full {
            target.wait_for_room()?;
        } else if filled.records == 0 {
            break;
        }
    }
    target.total(&generator.part_name(), &generator.total())?;
    target.close()?;
    Ok(generator.counts())
}

fn rest(pacer: Pacer, next_ns: u64) {
    let ahead = pacer.wall(next_ns).saturating_sub(pacer.elapsed());
    std::thread::sleep(ahead.clamp(REST_MIN, REST_MAX));
}

/// Returns how many have been seen then.
fn take_changes(generator: &mut Generator, plan: &Plan, shared: &Shared, seen: u64) -> u64 {
    let changes: Vec<Change> =
        locked(&shared.changes).iter().skip(seen as usize).cloned().collect();
    let count = changes.len() as u64;
    for change in changes {
        match change {
            Change::Rates { anomaly_rate, trends } => {
                generator.set_anomaly_rate(anomaly_rate);
                generator.set_trends(trends);
            }
            // One of the workers has it; the others pass.
            Change::Add(index) => {
                generator.add(&plan.spec, index);
            }
            Change::Remove(device_id) => {
                generator.remove(&device_id);
            }
        }
    }
    seen + count
}

fn tell(filled: &Filled, first_ns: Option<u64>, pacer: Pacer, shared: &Shared) {
    let records = filled.records as u64;
    if records == 0 {
        return;
    }
    shared.handed.fetch_add(records, Ordering::Relaxed);
    if let (Some(first_ns), Pace::Times(_)) = (first_ns.filter(|ns| *ns > 0), pacer.pace) {
        shared.late_by(pacer.elapsed().saturating_sub(pacer.wall(first_ns)), records);
    }
}

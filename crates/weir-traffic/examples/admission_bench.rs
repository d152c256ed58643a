//! What admission costs: ns per event, and allocations.
//!
//! `cargo run --release -p weir-traffic --example admission_bench`
//!
//! Prints, for the pure core and one thread:
//! - admission: p50, p99 and p99.9 of the mean of 64 events (one event is below what a clock can
//!   resolve), and allocations while admitting;
//! - lane to batch to outcome: million events per second through all three, in batches of 100, over
//!   10,000 keys, and allocations per event;
//! - memory of 100,000 events: in the core, and through the shell with ids, callers that wait and the
//!   window of ids, as allocated and resident.
//!
//! Allocations are counted by a global allocator that passes everything on.

#![allow(unsafe_code, clippy::print_stdout, clippy::disallowed_methods)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Instant;

use weir_traffic::manager::Outcome;
use weir_traffic::{
    Accepted, Admission, Headers, Meta, Nanos, Outgoing, Priority, Sink, SinkError, TrafficConfig,
    TrafficHandle, TrafficManager,
};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
/// Bytes asked for and not given back.
static LIVE_BYTES: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        LIVE_BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        System.alloc(layout)
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        System.dealloc(ptr, layout);
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const KEYS: u64 = 10_000;
const CHUNK: u64 = 64;

/// Fibonacci hashing: keys as well mixed as the shell's.
fn key(n: u64) -> u64 {
    (n % KEYS).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn meta(n: u64) -> Meta {
    let priority = Priority::ALL[1 + (n % 3) as usize];
    Meta { priority, bytes: 200, key: Some(key(n)) }
}

fn manager(config: TrafficConfig) -> TrafficManager<[u64; 8]> {
    TrafficManager::new(config).expect("valid")
}

/// Sends all that is in the lanes.
fn drain(manager: &mut TrafficManager<[u64; 8]>, outcomes: &[Outcome], now: Nanos) -> u64 {
    let mut sent = 0;
    while let Some(batch) = manager.next_batch(now) {
        sent += batch.len() as u64;
        let outcomes = &outcomes[..batch.len()];
        black_box(manager.on_batch_done(batch, outcomes, now));
    }
    sent
}

fn admission() {
    let mut manager = manager(TrafficConfig::default());
    let outcomes = [Outcome::Delivered; 100];
    let (mut chunks, mut allocations) = (Vec::new(), 0);
    let (origin, mut n) = (Instant::now(), 0);
    for _ in 0..400 {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let first = chunks.len();
        chunks.reserve(400);
        let reserved = ALLOCATIONS.load(Ordering::Relaxed) - before;
        for _ in 0..400 {
            let begun = Instant::now();
            for _ in 0..CHUNK {
                // The payload is 64 bytes, as an event's handles are.
                black_box(manager.admit(meta(n), [n; 8], Nanos(n * 100)));
                n += 1;
            }
            chunks.push(begun.elapsed().as_nanos() as u64 / CHUNK);
        }
        assert_eq!(chunks.len(), first + 400);
        allocations += ALLOCATIONS.load(Ordering::Relaxed) - before - reserved;
        drain(&mut manager, &outcomes, Nanos(n * 100));
    }
    let rejected = manager.ledger().total().rejected.total();
    assert_eq!(rejected, 0, "a rejection is cheaper");
    chunks.sort_unstable();
    let at = |per_mille: usize| chunks[chunks.len() * per_mille / 1_000];
    println!(
        "admission            p50 {} ns, p99 {} ns, p99.9 {} ns ({n} events in {:.1} s), {allocations} allocations",
        at(500),
        at(990),
        at(999),
        origin.elapsed().as_secs_f64(),
    );
}

fn throughput(name: &str, config: TrafficConfig, in_flight: usize) {
    let mut manager = manager(config);
    let outcomes = [Outcome::Delivered; 100];
    let rounds = 600_u64;
    let per_round = 9_000;
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let begun = Instant::now();
    let (mut n, mut done, mut batches) = (0, 0, Vec::new());
    let mut sending = std::time::Duration::ZERO;
    for _ in 0..rounds {
        for _ in 0..per_round {
            if matches!(manager.admit(meta(n), [n; 8], Nanos(n * 300)), Admission::Queued) {
                n += 1;
            }
        }
        let now = Nanos(n * 300);
        let sending_begun = Instant::now();
        loop {
            while batches.len() < in_flight {
                let Some(batch) = manager.next_batch(now) else { break };
                batches.push(batch);
            }
            if batches.is_empty() {
                break;
            }
            let batch = batches.remove(0);
            done += batch.len() as u64;
            let outcomes = &outcomes[..batch.len()];
            black_box(manager.on_batch_done(batch, outcomes, now));
        }
        sending += sending_begun.elapsed();
    }
    let all = begun.elapsed();
    assert_eq!(done, n);
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    println!(
        "{name:20} lane to batch to outcome {:.1} M events/s, with admission {:.1} M events/s, {:.3} allocations per event",
        done as f64 / sending.as_secs_f64() / 1e6,
        done as f64 / all.as_secs_f64() / 1e6,
        allocations as f64 / done as f64,
    );
}

/// From /proc; 0 where there is none.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4_096
}

const BUFFERED: u64 = 100_000;

/// 200 bytes with the key and headers of a device's event.
fn buffered_event(n: u64, topic: &Arc<str>) -> Outgoing {
    let key = n.to_string();
    let headers = [("event-type", "drone.location.updated"), ("source", "drone-control-service")];
    let room: usize = headers.iter().map(|(name, v)| Headers::entry_bytes(name, v.len())).sum();
    let mut packed =
        Headers::with_capacity(room + Headers::entry_bytes("", key.len())).with_key(&key);
    for (name, value) in headers {
        packed.push(name, value.as_bytes());
    }
    Outgoing::new(Arc::clone(topic), vec![b'x'; 200], 0).with_headers(packed)
}

fn print_memory(what: &str, (live, resident): (u64, u64)) {
    let live = LIVE_BYTES.load(Ordering::Relaxed) - live;
    let resident = resident_bytes().saturating_sub(resident);
    println!(
        "memory               {BUFFERED} events of 200 bytes with key and headers, {what}: {:.1} MB allocated, {:.1} MB resident",
        live as f64 / 1e6,
        resident as f64 / 1e6
    );
}

fn memory_of_the_core() {
    let resident = resident_bytes();
    let config = TrafficConfig { buffer_size: BUFFERED as usize, ..TrafficConfig::default() };
    let mut manager: TrafficManager<Outgoing> = TrafficManager::new(config).expect("valid");
    // Lanes reserve their entries at once, and pages are used when they are written: what the events
    // of this lane use is counted, what the others reserve is not.
    let entries = BUFFERED * size_of::<weir_traffic::lane::Entry<Outgoing>>() as u64;
    let before = (LIVE_BYTES.load(Ordering::Relaxed) - entries, resident);
    let topic: Arc<str> = "drone-events".into();
    for n in 0..BUFFERED {
        let event = buffered_event(n, &topic);
        let meta =
            Meta { priority: Priority::Normal, bytes: event.size_bytes(), key: Some(key(n)) };
        assert!(matches!(manager.admit(meta, event, Nanos(n)), Admission::Queued));
    }
    print_memory("in the core", before);
    assert!(LIVE_BYTES.load(Ordering::Relaxed) - before.0 < 40_000_000, "the bar of the design");
}

/// A sink nothing comes back from.
struct Stuck;

impl Sink for Stuck {
    async fn send(&self, _: &[&Outgoing]) -> Vec<Result<Accepted, SinkError>> {
        std::future::pending().await
    }
}

/// In requests of 100 events with ids, as the gateway has them, whose callers wait.
fn memory_of_the_shell() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config =
            TrafficConfig { buffer_size: 2 * BUFFERED as usize, ..TrafficConfig::default() };
        let resident = resident_bytes();
        let traffic = TrafficHandle::start(config, Stuck).expect("valid");
        let before = (LIVE_BYTES.load(Ordering::Relaxed), resident);
        let topic: Arc<str> = "drone-events".into();
        for request in 0..BUFFERED / 100 {
            let id = |n: u64| format!("drone-control-service\u{0}{n:032}");
            let events = (0..100).map(|n| request * 100 + n);
            let events = events.map(|n| buffered_event(n, &topic).with_id(&id(n))).collect();
            let caller = traffic.clone();
            tokio::spawn(async move { caller.publish_many(events).await });
            tokio::task::yield_now().await;
        }
        assert!(traffic.stats().current_queue_size > BUFFERED - 1_000);
        print_memory("with ids and waiting callers, without the lane", before);
    });
}

fn main() {
    // First, while the heap has no freed room that would be used again.
    memory_of_the_core();
    memory_of_the_shell();
    admission();
    throughput("one batch at a time", TrafficConfig::default(), 1);
    throughput("five in flight", TrafficConfig::default(), 5);
    let limited = TrafficConfig { max_rate: Some(1_000_000_000), ..TrafficConfig::default() };
    throughput("with a rate limit", limited, 5);
}

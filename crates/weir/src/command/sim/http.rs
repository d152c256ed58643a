//! The door of a running `weir sim`: health, the metrics of spec 004, and its devices, to list, add and remove.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{json, Value};
use tokio::sync::watch;
use weir_client::Producer;
use weir_sim::scenario::DEVICES_MAX;
use weir_sim::{FleetSpec, Latencies};

use super::drive::{Change, Shared};
use super::plan::Plan;
use super::summary::{cpu_seconds, rss_bytes};
use crate::error::{Outcome, UserError};
use crate::http::guard::{host_of, same_origin, Hosts};
use crate::http::server::{serve, Connections};

const CONNECTIONS_MAX: usize = 256;
/// Devices in one answer.
const LISTED_MAX: usize = 1_000;
/// Bounds of the latency histograms, in seconds.
const BOUNDS: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 10.0];

/// Open as long as it is kept.
pub(super) struct Door {
    stop: watch::Sender<bool>,
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
    }
}

#[derive(Clone)]
struct Desk {
    spec: Arc<FleetSpec>,
    shared: Arc<Shared>,
    producers: Arc<[Arc<Producer>]>,
    /// Numbers given so far.
    numbers: Arc<AtomicU32>,
    removed: Arc<Mutex<HashSet<String>>>,
}

impl Door {
    pub(super) async fn open(
        address: &str,
        plan: &Plan,
        producers: &[Arc<Producer>],
        shared: &Arc<Shared>,
    ) -> Outcome<Self> {
        let wrong = |fault: &str| {
            UserError::new("WEIR-0803", format!("--listen: \"{address}\" {fault}"))
                .why("in --listen")
                .help("for example 127.0.0.1:8080")
        };
        let parsed: SocketAddr =
            address.parse().map_err(|_| wrong("is not an IP address with a port"))?;
        if !parsed.ip().is_loopback() {
            return Err(wrong("is open to other machines, and this door has no login"));
        }
        let listener = tokio::net::TcpListener::bind(parsed).await;
        let listener = listener.map_err(|error| wrong("is not free").why(error))?;
        let desk = Desk {
            spec: Arc::new(plan.spec.clone()),
            shared: Arc::clone(shared),
            producers: producers.into(),
            numbers: Arc::new(AtomicU32::new(plan.spec.devices_total())),
            removed: Arc::default(),
        };
        let (stop, stopped) = watch::channel(false);
        let connections = Arc::new(Connections::new(CONNECTIONS_MAX, None));
        if let Ok(address) = listener.local_addr() {
            eprintln!("health, metrics and devices on http://{address}");
        }
        tokio::spawn(serve(listener, router(desk), connections, stopped));
        Ok(Self { stop })
    }
}

fn router(desk: Desk) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(health))
        .route("/metrics", get(metrics))
        .route("/devices", get(list).post(add))
        .route("/devices/{id}", delete(remove))
        .layer(middleware::from_fn(from_here))
        .with_state(desk)
}

/// A page of another origin, or one that a stranger's name led here, is none of ours.
async fn from_here(request: Request, next: Next) -> Response {
    let host = host_of(request.headers(), request.uri());
    if !host.is_none_or(|host| Hosts::only(&[]).has(host)) || !same_origin(request.headers()) {
        return StatusCode::FORBIDDEN.into_response();
    }
    next.run(request).await
}

async fn health(State(desk): State<Desk>) -> Response {
    let (status, word) = match desk.shared.is_stopping() {
        true => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        false => (StatusCode::OK, "ok"),
    };
    let handed = desk.shared.handed.load(Ordering::Relaxed);
    let body = json!({"status": word, "devices": desk.count(), "records": handed, "error": desk.shared.first_error()});
    (status, Json(body)).into_response()
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    from: u32,
}

impl Desk {
    fn count(&self) -> usize {
        let removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner).len();
        self.numbers.load(Ordering::Relaxed) as usize - removed
    }
}

async fn list(State(desk): State<Desk>, Query(page): Query<Page>) -> Json<Value> {
    let removed = desk.removed.lock().unwrap_or_else(PoisonError::into_inner);
    let numbers = page.from..desk.numbers.load(Ordering::Relaxed);
    let next = numbers.start.saturating_add(LISTED_MAX as u32);
    let more = next < numbers.end;
    let ids = numbers.take(LISTED_MAX).map(|index| desk.spec.device_id(index));
    let ids: Vec<String> = ids.filter(|id| !removed.contains(id)).collect();
    drop(removed);
    Json(json!({"total": desk.count(), "devices": ids, "next": more.then_some(next)}))
}

#[derive(Deserialize)]
struct Wanted {
    count: u32,
}

async fn add(State(desk): State<Desk>, Json(wanted): Json<Wanted>) -> Response {
    let room = |numbers: u32| {
        let more = numbers.checked_add(wanted.count)?;
        (wanted.count > 0 && more <= DEVICES_MAX).then_some(more)
    };
    let Ok(first) = desk.numbers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room) else {
        let fault =
            json!({"code": "WEIR-0803", "message": "count: a fleet has 1 to 100000 devices"});
        return (StatusCode::BAD_REQUEST, Json(fault)).into_response();
    };
    let new = first..first + wanted.count;
    if !new.clone().all(|index| desk.shared.change(Change::Add(index))) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let ids: Vec<String> = new.take(LISTED_MAX).map(|index| desk.spec.device_id(index)).collect();
    Json(json!({"added": ids, "count": wanted.count})).into_response()
}

async fn remove(State(desk): State<Desk>, Path(id): Path<String>) -> Response {
    let numbers = desk.numbers.load(Ordering::Relaxed);
    // The number of a device ends its id.
    let index = id.rsplit(['D', '-']).next().and_then(|number| number.parse::<u32>().ok());
    let index = index.and_then(|number| number.checked_sub(1)).filter(|index| *index < numbers);
    let known = index.is_some_and(|index| desk.spec.device_id(index) == id);
    let mut removed = desk.removed.lock().unwrap_or_else(PoisonError::into_inner);
    if !known || removed.contains(&id) {
        let fault = json!({"message": "there is no such device"});
        return (StatusCode::NOT_FOUND, Json(fault)).into_response();
    }
    if !desk.shared.change(Change::Remove(Arc::from(id.as_str()))) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    removed.insert(id.clone());
    Json(json!({"removed": id})).into_response()
}

async fn metrics(State(desk): State<Desk>) -> String {
    let mut text = String::with_capacity(4_096);
    let stats = || desk.producers.iter().map(|producer| producer.stats());
    let sum = |of: fn(&weir_client::ProducerStats) -> u64| {
        stats().map(|stats| of(&stats)).sum::<u64>() as f64
    };
    let (send, lateness) = desk.shared.measured();
    let failed =
        sum(|stats| stats.records_failed) + desk.shared.failed.load(Ordering::Relaxed) as f64;
    let acked = sum(|stats| stats.records_acked);
    let dropped = desk.shared.dropped.load(Ordering::Relaxed) as f64;
    let busy_s = desk.shared.busy_ns.load(Ordering::Relaxed) as f64 / 1e9;
    let error_rate = failed / (acked + failed).max(1.0);
    // Names of spec 004; those that end in per_second count, as its counters do: a query takes their rate.
    for (name, kind, help, value) in [
        ("messages_per_second", "counter", "records answered", acked),
        ("bytes_per_second", "counter", "bytes of record batches sent", sum(|stats| stats.bytes)),
        ("batches_per_second", "counter", "produce requests", sum(|stats| stats.requests)),
        ("serialization_seconds", "counter", "time spent making records", busy_s),
        ("send_errors", "counter", "records that failed", failed),
        ("retry_attempts", "counter", "batches sent again", sum(|stats| stats.retries)),
        ("dropped_messages", "counter", "records dropped by backpressure", dropped),
        ("error_rate", "gauge", "failed records of all that were decided", error_rate),
        ("goroutine_count", "gauge", "workers", desk.producers.len() as f64),
        ("memory_usage", "gauge", "resident bytes", rss_bytes() as f64),
        ("cpu_usage", "counter", "seconds of CPU", cpu_seconds()),
        ("device_count", "gauge", "devices", desk.count() as f64),
        ("active_connections", "gauge", "producers", desk.producers.len() as f64),
        ("queue_depth", "gauge", "records not answered yet", sum(|stats| stats.buffered_records)),
    ] {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "# HELP kafka_producer_{name} {help}\n# TYPE kafka_producer_{name} {kind}\nkafka_producer_{name} {value}\n"
        );
    }
    histogram(&mut text, "send_latency_histogram", "seconds from due to answered", &send);
    histogram(&mut text, "lateness_histogram", "seconds from due to handed on", &lateness);
    text
}

fn histogram(text: &mut String, name: &str, help: &str, latencies: &Latencies) {
    let name = format!("kafka_producer_{name}");
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} histogram\n");
    for bound in BOUNDS {
        let below = latencies.at_most((bound * 1e6) as u64);
        let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {below}");
    }
    let (count, sum) = (latencies.count(), latencies.mean_us().unwrap_or(0.0) / 1e6);
    let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {count}");
    let _ = writeln!(text, "{name}_sum {}\n{name}_count {count}", sum * count as f64);
}

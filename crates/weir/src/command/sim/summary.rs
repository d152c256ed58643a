//! The end of a `weir sim` run: what was reached, beside what spec 004 asks for.

use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{json, Value};
use weir_client::{Producer, ProducerStats};
use weir_sim::generator::Counts;
use weir_sim::Latencies;

use super::drive::Shared;
use super::plan::{Destination, Plan};
use crate::output::{bytes, grouped};

/// The targets of spec 004, by the names of the fields.
const SEND_LATENCY_MS: f64 = 10.0;
const SUCCESS_RATE: f64 = 0.999;
const RECORDS_PER_SECOND: f64 = 10_000.0;
const BYTES_PER_SECOND: f64 = 10e6;
const DEVICE_MS: f64 = 1.0;
const MEMORY_BYTES: f64 = 2e9;

/// A rate is kept if 99 of 100 records are answered within this time of when they were due: beyond it they
/// pile up.
const KEPT_WITHIN_US: u64 = 200_000;

/// See the module's head.
pub(super) struct Summary {
    counts: Counts,
    devices: u32,
    of_producers: Option<ProducerStats>,
    handed: u64,
    dropped: u64,
    failed: u64,
    send: Latencies,
    lateness: Latencies,
    elapsed: Duration,
    busy_ns: u64,
    cpu_seconds: f64,
    rss_peak_bytes: u64,
}

impl Summary {
    pub(super) fn new(
        plan: &Plan,
        counts: Counts,
        producers: &[Arc<Producer>],
        shared: &Shared,
        elapsed: Duration,
        cpu_before: f64,
    ) -> Self {
        let (send, lateness) = shared.measured();
        let mut total = ProducerStats::default();
        for stats in producers.iter().map(|producer| producer.stats()) {
            total.records_sent += stats.records_sent;
            total.records_acked += stats.records_acked;
            total.records_failed += stats.records_failed;
            total.retries += stats.retries;
            total.requests += stats.requests;
            total.bytes += stats.bytes;
        }
        Self {
            counts,
            devices: plan.spec.devices_total(),
            of_producers: (plan.destination == Destination::Kafka).then_some(total),
            handed: shared.handed.load(Ordering::Relaxed),
            dropped: shared.dropped.load(Ordering::Relaxed),
            failed: shared.failed.load(Ordering::Relaxed),
            send,
            lateness,
            elapsed,
            busy_ns: shared.busy_ns.load(Ordering::Relaxed),
            cpu_seconds: cpu_seconds() - cpu_before,
            rss_peak_bytes: rss_peak_bytes(),
        }
    }

    /// Whether everything that was handed on has arrived.
    pub(super) fn is_whole(&self) -> bool {
        self.unsent() == 0
    }

    /// Records that did not arrive and were not dropped by backpressure.
    pub(super) fn unsent(&self) -> u64 {
        match &self.of_producers {
            Some(stats) => stats.records_sent.saturating_sub(stats.records_acked).max(self.failed),
            None => self.failed,
        }
    }

    /// Whether the schedule was kept: all answered, and in time.
    pub(super) fn keeps_up(&self) -> bool {
        let in_time = |latencies: &Latencies| {
            latencies.quantile_us(0.99).is_some_and(|us| us <= KEPT_WITHIN_US)
        };
        self.is_whole() && self.dropped == 0 && in_time(&self.send) && in_time(&self.lateness)
    }

    /// The latencies, for a line of a trial.
    pub(super) fn in_short(&self) -> String {
        let ms = |share| self.send.quantile_us(share).unwrap_or(0) as f64 / 1e3;
        format!("answered within {:.1} ms (p50), {:.1} ms (p99)", ms(0.5), ms(0.99))
    }

    fn acked(&self) -> u64 {
        match &self.of_producers {
            Some(stats) => stats.records_acked,
            None => self.handed.saturating_sub(self.failed),
        }
    }

    fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Milliseconds of one thread that a device's readings took, on average, per reading.
    fn device_ms(&self) -> f64 {
        self.busy_ns as f64 / 1e6 / self.handed.max(1) as f64
    }

    fn success_rate(&self) -> f64 {
        let tried = self.acked() + self.unsent() + self.dropped;
        if tried == 0 {
            1.0
        } else {
            self.acked() as f64 / tried as f64
        }
    }

    fn json(&self) -> Value {
        let quantiles = |latencies: &Latencies| {
            let ms = |share| latencies.quantile_us(share).map(|us| us as f64 / 1e3);
            json!({
                "mean": latencies.mean_us().map(|us| us / 1e3),
                "p50": ms(0.5), "p99": ms(0.99), "p999": ms(0.999),
                "max": (latencies.count() > 0).then(|| latencies.max_us() as f64 / 1e3),
            })
        };
        let stats = self.of_producers.unwrap_or_default();
        json!({
            "devices": self.devices,
            "records": self.counts.records,
            "copies": self.counts.copies,
            "held_back": self.counts.held,
            "left_out": self.counts.silent,
            "anomalies": self.counts.anomalies,
            "acked": self.acked(),
            "failed": self.unsent(),
            "dropped": self.dropped,
            "retries": stats.retries,
            "requests": stats.requests,
            "bytes": stats.bytes,
            "seconds": self.elapsed.as_secs_f64(),
            "records_per_second": self.per_second(self.acked()),
            "bytes_per_second": self.per_second(stats.bytes),
            "success_rate": self.success_rate(),
            "send_latency_ms": quantiles(&self.send),
            "jitter_ms": quantiles(&self.lateness),
            "device_ms": self.device_ms(),
            "cpu_seconds": self.cpu_seconds,
            "cpu_seconds_per_million": self.cpu_seconds * 1e6 / self.handed.max(1) as f64,
            "rss_peak_bytes": self.rss_peak_bytes,
            "targets": {
                "records_per_second": RECORDS_PER_SECOND,
                "bytes_per_second": BYTES_PER_SECOND,
                "send_latency_ms": SEND_LATENCY_MS,
                "success_rate": SUCCESS_RATE,
                "device_ms": DEVICE_MS,
                "rss_peak_bytes": MEMORY_BYTES,
            },
        })
    }

    pub(super) fn print(&self, as_json: bool) {
        if as_json {
            outln!("{}", self.json());
            return;
        }
        let Counts { records, copies, held, silent, anomalies, .. } = self.counts;
        let ms =
            |latencies: &Latencies, share| latencies.quantile_us(share).unwrap_or(0) as f64 / 1e3;
        eprintln!(
            "{} records made ({} copies, {} held back, {} left out, {} anomalies), {} answered, {} failed, {} dropped",
            grouped(records),
            grouped(copies),
            grouped(held),
            grouped(silent),
            grouped(anomalies),
            grouped(self.acked()),
            grouped(self.unsent()),
            grouped(self.dropped),
        );
        let stats = self.of_producers.unwrap_or_default();
        eprintln!(
            "{} records/s (spec 004: {}), {}/s (10 MB/s), {:.2} % answered (99.9 %)",
            grouped(self.per_second(self.acked()) as u64),
            grouped(RECORDS_PER_SECOND as u64),
            bytes(self.per_second(stats.bytes) as u64),
            self.success_rate() * 100.0,
        );
        eprintln!(
            "answered within {:.1} ms (p50), {:.1} ms (p99), {:.1} ms (p99.9) of when due (10 ms); sent {:.1} ms late (p99)",
            ms(&self.send, 0.5),
            ms(&self.send, 0.99),
            ms(&self.send, 0.999),
            ms(&self.lateness, 0.99),
        );
        eprintln!(
            "{:.6} ms for a reading (1 ms), {:.2} CPU s per million, {} of memory (2 GB)",
            self.device_ms(),
            self.cpu_seconds * 1e6 / self.handed.max(1) as f64,
            bytes(self.rss_peak_bytes),
        );
    }
}

/// User and system time of this process. Clock ticks are 1/100 s on Linux.
pub(super) fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let field = |at: usize| fields.get(at).and_then(|text| text.parse().ok()).unwrap_or(0.0);
    (field(11) + field(12)) / 100.0
}

fn rss_peak_bytes() -> u64 {
    status_bytes("VmHWM:")
}

/// Memory of this process that is in use.
pub(super) fn rss_bytes() -> u64 {
    status_bytes("VmRSS:")
}

fn status_bytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let kib = line.split_whitespace().next().and_then(|text| text.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

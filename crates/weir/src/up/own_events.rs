//! weir's own events: it says of itself what a service should, on the same topics.

use std::time::Duration;

use serde_json::{json, Value};
use tokio::sync::watch;
use weir_client::EventBuilder;
use weir_protocol::clock::Clock;
use weir_protocol::types::TimestampMs;

use crate::gateway::ingest::Ingest;
use crate::gateway::outcome::EventOutcome;

const SOURCE: &str = "weir";
/// How often the figures are reported.
const INTERVAL: Duration = Duration::from_secs(5);

/// Reports the start, then figures at an interval, then the stop.
pub(super) async fn run(
    ingest: Ingest,
    clock: std::sync::Arc<dyn Clock>,
    mut stop: watch::Receiver<bool>,
) {
    let version = env!("CARGO_PKG_VERSION");
    let started = json!({ "service": SOURCE, "version": version });
    send(&ingest, "system.started", started, clock.now()).await;
    log(&ingest, "info", &format!("weir {version} started"), clock.now()).await;
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            _ = ticks.tick() => {}
        }
        let stats = ingest.traffic().stats();
        for (name, value, unit) in [
            ("weir.throughput", stats.throughput_per_sec, "events/s"),
            ("weir.queue_size", stats.current_queue_size as f64, "events"),
            ("weir.processing_time", stats.avg_processing_time_ms, "ms"),
        ] {
            let metric = json!({ "name": name, "value": value, "unit": unit, "service": SOURCE });
            send(&ingest, "metric.reported", metric, clock.now()).await;
        }
    }
    send(&ingest, "system.stopped", json!({ "service": SOURCE }), clock.now()).await;
}

async fn log(ingest: &Ingest, level: &str, message: &str, now: TimestampMs) {
    let line = json!({ "level": level, "message": message, "service": SOURCE });
    send(ingest, "log.written", line, now).await;
}

async fn send(ingest: &Ingest, event_type: &str, data: Value, now: TimestampMs) {
    let built = EventBuilder::new(event_type, SOURCE).data(&data);
    let event = match built {
        Ok(builder) => builder.build(now),
        Err(error) => {
            tracing::error!(%error, event_type, "own event");
            return;
        }
    };
    if let EventOutcome::Rejected(rejection) = ingest.accept_one(event).await {
        tracing::warn!(code = rejection.code, message = %rejection.message, event_type, "own event");
    }
}

//! What `weir sim` is to do: flags over variables over the configuration, checked before anything starts.

use std::path::PathBuf;

use weir_client::timestamp::parse_rfc3339;
use weir_client::{Acks, Codec};
use weir_protocol::types::TimestampMs;
use weir_sim::record::RECORD_BYTES_HINT;
use weir_sim::scenario::parse_duration;
use weir_sim::{FleetSpec, Part, Scenario};

use crate::cli::SimFleetArgs;
use crate::config::{topic_name, Values};
use crate::error::{Outcome, UserError};

/// Most a fleet may send per second by `--rate`.
const RATE_MAX: f64 = 100e6;

/// How the fleet's time goes by the clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pace {
    /// So many times as fast.
    Times(f64),
    /// As fast as records are taken.
    Max,
}

/// Where records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Destination {
    Kafka,
    Gateway(String),
    File(PathBuf),
}

/// Of the producer.
#[derive(Debug, Clone)]
pub(super) struct Sending {
    pub(super) brokers: String,
    pub(super) client_id: String,
    pub(super) topic: String,
    pub(super) truth_topic: Option<String>,
    pub(super) acks: Acks,
    pub(super) codec: Codec,
    pub(super) linger_ms: u32,
    pub(super) retries_max: Option<u32>,
    pub(super) retry_backoff_ms: u32,
    pub(super) buffer_bytes_max: usize,
}

/// Of the backpressure controller.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pressure {
    pub(super) queue_records_max: u64,
    pub(super) drop_rate: f64,
    pub(super) throttle_rate: f64,
}

/// Everything.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) spec: FleetSpec,
    pub(super) shard: (u32, u32),
    pub(super) workers: u32,
    pub(super) pace: Pace,
    /// Of the fleet's time.
    pub(super) duration_ns: Option<u64>,
    pub(super) records_per_fill: usize,
    pub(super) destination: Destination,
    pub(super) sending: Sending,
    pub(super) pressure: Pressure,
    pub(super) json: bool,
}

impl Plan {
    /// # Errors
    /// A [`UserError`] that names the flag or key that is wrong.
    pub(super) fn new(args: &SimFleetArgs, values: &Values, now: TimestampMs) -> Outcome<Self> {
        let scenario = scenario(args)?;
        let strength = values.ratio("device_simulation.trend_strength");
        let count = |name: &str, default: u64| values.count(name).unwrap_or(default);
        let spec = FleetSpec {
            seed: args.seed,
            start: start(args, now)?,
            devices: count("device_simulation.device_count", 100) as u32,
            interval: std::time::Duration::from_millis(
                values.duration_ms("device_simulation.sample_interval").unwrap_or(5_000),
            ),
            rate: rate(args)?,
            anomaly_rate: values.ratio("device_simulation.anomaly_rate"),
            trend_strength: match values.flag("device_simulation.trend_enabled") {
                true => strength,
                false => 0.0,
            },
            data_variation: values.ratio("device_simulation.data_variation"),
            format: super::format_of(args.format),
            scenario,
        };
        let queue = count("device_simulation.queue_buffer_size", 100_000);
        let queue = count("kafka_producer.channel_buffer_size", queue);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = count("device_simulation.worker_pool_size", (processors / 2).max(1) as u64);
        let workers = (workers as u32).clamp(1, spec.devices_total().max(1));
        let pressure = Pressure {
            queue_records_max: count("backpressure.max_queue_size", queue),
            drop_rate: values.ratio("backpressure.drop_rate"),
            throttle_rate: values.ratio("backpressure.throttle_rate"),
        };
        Ok(Self {
            shard: shard(args)?,
            workers,
            pace: pace(args)?,
            duration_ns: duration_ns(args)?,
            records_per_fill: count("kafka_producer.batch_size", 2_000) as usize,
            destination: destination(args)?,
            sending: sending(args, values, queue)?,
            pressure,
            json: args.json,
            spec,
        })
    }

    /// The part of one of the workers.
    pub(super) const fn part(&self, worker: u32) -> Part {
        Part { shard: self.shard.0, shards: self.shard.1, worker, workers: self.workers }
    }
}

fn wrong(flag: &'static str, fault: impl std::fmt::Display, help: &str) -> UserError {
    UserError::new("WEIR-0803", format!("{flag}: {fault}")).why(format!("in {flag}")).help(help)
}

fn scenario(args: &SimFleetArgs) -> Outcome<Scenario> {
    let Some(path) = &args.scenario else { return Ok(Scenario::default()) };
    let text = std::fs::read_to_string(path).map_err(|error| {
        UserError::new("WEIR-0804", format!("cannot read {}", path.display()))
            .why(error)
            .help("name a scenario file that exists and that you may read")
    })?;
    Scenario::from_yaml(&text).map_err(|error| {
        UserError::new(error.code(), error.to_string())
            .why(format!("in {}", path.display()))
            .help("weir explain WEIR-0703 has every section with its keys")
    })
}

/// The same for all shards: with a start of its own each would be another run.
fn start(args: &SimFleetArgs, now: TimestampMs) -> Outcome<TimestampMs> {
    let Some(text) = &args.start else {
        return match shard(args)? {
            (_, 1) => Ok(now),
            _ => Err(wrong(
                "--shard",
                "needs --start, too",
                "give each process the same, for example --start 2025-08-03T10:30:00Z",
            )),
        };
    };
    let fault = || {
        wrong(
            "--start",
            format!("\"{text}\" is no RFC 3339 time"),
            "for example 2025-08-03T10:30:00Z",
        )
    };
    parse_rfc3339(text).ok_or_else(fault)
}

fn rate(args: &SimFleetArgs) -> Outcome<Option<f64>> {
    match args.rate {
        Some(rate) if !(0.001..=RATE_MAX).contains(&rate) => {
            let fault = format!("{rate} is not a number from 0.001 to {RATE_MAX}");
            Err(wrong("--rate", fault, "records per second of all devices together"))
        }
        rate => Ok(rate),
    }
}

fn pace(args: &SimFleetArgs) -> Outcome<Pace> {
    match (args.speed.as_str(), args.speed.parse::<f64>()) {
        ("max", _) => Ok(Pace::Max),
        (_, Ok(times)) if (0.001..=1_000.0).contains(&times) => Ok(Pace::Times(times)),
        (text, _) => {
            let fault = format!("\"{text}\" is not a number from 0.001 to 1000, nor max");
            Err(wrong("--speed", fault, "1 is the clock's own"))
        }
    }
}

fn duration_ns(args: &SimFleetArgs) -> Outcome<Option<u64>> {
    let Some(text) = &args.duration else { return Ok(None) };
    match parse_duration(text).and_then(|duration| u64::try_from(duration.as_nanos()).ok()) {
        Some(ns) if ns > 0 => Ok(Some(ns)),
        _ => Err(wrong(
            "--duration",
            format!("\"{text}\" is no duration"),
            "for example 90s, 10m or 2h",
        )),
    }
}

fn shard(args: &SimFleetArgs) -> Outcome<(u32, u32)> {
    let parsed = args.shard.split_once('/').and_then(|(shard, shards)| {
        let (shard, shards): (u32, u32) = (shard.parse().ok()?, shards.parse().ok()?);
        ((1..=shards).contains(&shard) && shards <= 10_000).then(|| (shard - 1, shards))
    });
    let fault = || format!("\"{}\" is not a number of so many, such as 1/3", args.shard);
    parsed.ok_or_else(|| wrong("--shard", fault(), "three processes: 1/3, 2/3 and 3/3"))
}

fn destination(args: &SimFleetArgs) -> Outcome<Destination> {
    Ok(match (&args.gateway, &args.output) {
        (Some(url), _) => Destination::Gateway(super::super::gateway::events_url(url)?),
        (None, Some(path)) => Destination::File(path.clone()),
        (None, None) => Destination::Kafka,
    })
}

fn sending(args: &SimFleetArgs, values: &Values, queue: u64) -> Outcome<Sending> {
    let named = args.topic.clone().filter(|topic| !topic.is_empty());
    let topic = named.or_else(|| values.get("kafka_producer.topic").map(str::to_owned));
    let topic = topic.unwrap_or_else(|| "iot-sensor-data".to_owned());
    let truth = super::truth_topic(&topic, args.truth_topic.as_deref());
    for (flag, topic) in [("--topic", &topic), ("--truth-topic", &truth)] {
        if let Err(fault) = topic_name(topic) {
            let help = "name the topic of the sensors' readings, or leave it out: iot-sensor-data";
            return Err(wrong(flag, format!("\"{topic}\" {fault}"), help));
        }
    }
    let brokers = super::super::kafka::named(args.brokers.as_deref());
    let brokers = brokers.or_else(|| values.get("kafka_producer.brokers")).map(str::to_owned);
    let ms = |name: &str| values.duration_ms(name).map(|ms| ms.min(u64::from(u32::MAX)) as u32);
    let linger_ms = ms("kafka_producer.batch_timeout").unwrap_or(5);
    Ok(Sending {
        brokers: brokers.unwrap_or_else(|| super::super::kafka::configured(values)),
        client_id: values.get("kafka_producer.client_id").unwrap_or("weir-sim").to_owned(),
        topic,
        truth_topic: (!args.no_truth).then_some(truth),
        acks: match values.get("kafka_producer.required_acks") {
            Some("0") => Acks::None,
            Some("1") => Acks::Leader,
            _ => Acks::All,
        },
        codec: values
            .get("kafka_producer.compression")
            .and_then(Codec::from_name)
            .unwrap_or_default(),
        linger_ms: ms("kafka_producer.flush_frequency").unwrap_or(linger_ms).min(linger_ms),
        retries_max: values.count("kafka_producer.max_retries").map(|retries| retries as u32),
        retry_backoff_ms: ms("kafka_producer.retry_backoff").unwrap_or(50),
        buffer_bytes_max: (queue as usize)
            .saturating_mul(RECORD_BYTES_HINT)
            .clamp(4 << 20, 4 << 30),
    })
}

//! `weir sim` itself: workers, progress, changes while it runs, and the end.

// A shell: it reads the clock.
#![allow(clippy::disallowed_methods)]

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{signal, Signal, SignalKind};
use weir_client::{Client, ClientConfig, Producer, SystemClock};
use weir_protocol::clock::Clock;
use weir_sim::generator::Counts;
use weir_sim::{FleetSpec, Generator, Trends};

use super::drive::{drive, Change, Pacer, Shared, Target};
use super::http::Door;
use super::kafka_target::{make_topics, KafkaTarget};
use super::other_targets::{FileTarget, GatewayTarget};
use super::plan::{Destination, Pace, Plan, Sending};
use super::summary::{cpu_seconds, Summary};
use crate::cli::SimFleetArgs;
use crate::config::Values;
use crate::error::{Outcome, UserError};
use crate::output::grouped;

/// Threads that talk to Kafka.
const SENDERS_MAX: usize = 4;
/// A trial of `--max-rate`.
const TRIAL: Duration = Duration::from_secs(5);
const TRIALS_MAX: usize = 20;
/// The rate of the first, unless one is given.
const TRIAL_RATE: f64 = 10_000.0;
/// How near the rates kept and not kept come to each other.
const TRIAL_PRECISION: f64 = 1.06;
/// Seconds between two lines of progress where nobody watches.
const QUIET_S: u64 = 10;

pub(super) fn run(args: &SimFleetArgs) -> Outcome {
    let values = load(args)?;
    let plan = Plan::new(args, &values, SystemClock.now())?;
    let senders = (plan.workers as usize).min(SENDERS_MAX);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(senders)
        .enable_all()
        .build()
        .map_err(|error| UserError::new("WEIR-0808", "cannot start the runtime").why(error))?;
    runtime.block_on(run_plan(args, &plan, &values))
}

/// The configuration with the flags that are keys of it.
fn load(args: &SimFleetArgs) -> Outcome<Values> {
    let mut values = Values::load(args.file.config.as_deref(), std::env::vars())?;
    let flags = [
        ("--devices", "device_simulation.device_count", &args.devices),
        ("--interval", "device_simulation.sample_interval", &args.interval),
        ("--workers", "device_simulation.worker_pool_size", &args.workers),
        ("--anomaly-rate", "device_simulation.anomaly_rate", &args.anomaly_rate),
        ("--compression", "kafka_producer.compression", &args.compression),
        ("--acks", "kafka_producer.required_acks", &args.acks),
    ];
    for (flag, key, value) in flags {
        if let Some(value) = value {
            let value = if value == "all" && flag == "--acks" { "-1" } else { value };
            values.set_flag(flag, key, value)?;
        }
    }
    Ok(values)
}

async fn connect(plan: &Plan, values: &Values) -> Outcome<Arc<Client>> {
    let Sending { brokers, client_id, retry_backoff_ms, .. } = &plan.sending;
    let set = |config: &mut ClientConfig| {
        config.client_id.clone_from(client_id);
        config.retry_backoff_ms = *retry_backoff_ms;
    };
    super::super::kafka::connect_with(values, brokers, set).await
}

type Worker = JoinHandle<Result<Counts, String>>;

struct Running {
    workers: Vec<Worker>,
    producers: Vec<Arc<Producer>>,
    pacer: Pacer,
}

async fn run_plan(args: &SimFleetArgs, plan: &Plan, values: &Values) -> Outcome {
    let client = match plan.destination {
        Destination::Kafka => {
            let client = connect(plan, values).await?;
            make_topics(&client, plan).await?;
            Some(client)
        }
        _ => None,
    };
    if args.max_rate {
        return find_max_rate(args, plan, client).await;
    }
    say(plan);
    let Ended { summary, fault, .. } = once(args, plan, client).await?;
    summary.print(plan.json);
    match (fault, summary.is_whole()) {
        (None, true) => Ok(()),
        (fault, _) => {
            let what = format!("{} records were not delivered", grouped(summary.unsent()));
            Err(UserError::new("WEIR-0705", what)
                .why(fault.unwrap_or_else(|| "no answer came before the end".to_owned()))
                .help("is the cluster well? `weir sim verify` tells what arrived"))
        }
    }
}

/// A run that is over.
struct Ended {
    summary: Summary,
    /// The first thing that went wrong.
    fault: Option<String>,
    /// By a signal, or by what went wrong.
    stopped: bool,
}

/// One run to its end.
async fn once(args: &SimFleetArgs, plan: &Plan, client: Option<Arc<Client>>) -> Outcome<Ended> {
    let listen = |kind| {
        let fault = |error| UserError::new("WEIR-0808", "cannot listen for signals").why(error);
        signal(kind).map_err(fault)
    };
    let signals = [listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?];
    let shared = Arc::new(Shared::default());
    let cpu_before = cpu_seconds();
    let running = start(plan, client, &shared).await?;
    let pacer = running.pacer;
    let door = match &args.listen {
        Some(address) => Some(Door::open(address, plan, &running.producers, &shared).await?),
        None => None,
    };
    watch(plan, &running, pacer, &shared, Reload::new(args), signals).await;
    drop(door);
    let mut counts = Counts::default();
    let mut fault = None;
    for worker in running.workers {
        match tokio::task::spawn_blocking(move || worker.join()).await {
            Ok(Ok(Ok(of_worker))) => counts.add(&of_worker),
            Ok(Ok(Err(error))) => fault = fault.or(Some(error)),
            _ => fault = fault.or_else(|| Some("a worker has failed".to_owned())),
        }
    }
    let summary =
        Summary::new(plan, counts, &running.producers, &shared, pacer.elapsed(), cpu_before);
    let fault = fault.or_else(|| shared.first_error());
    Ok(Ended { summary, fault, stopped: shared.is_stopping() })
}

/// Doubles the rate until it is not kept any more, then closes in on it, each time with a run of its own.
async fn find_max_rate(args: &SimFleetArgs, plan: &Plan, client: Option<Arc<Client>>) -> Outcome {
    let (mut kept, mut missed): (Option<f64>, Option<f64>) = (None, None);
    let mut rate = plan.spec.rate.unwrap_or(TRIAL_RATE);
    for _ in 0..TRIALS_MAX {
        let start = SystemClock.now();
        let trial = Plan {
            spec: FleetSpec { rate: Some(rate), start, ..plan.spec.clone() },
            pace: Pace::Times(1.0),
            duration_ns: Some(TRIAL.as_nanos() as u64),
            ..plan.clone()
        };
        let Ended { summary, stopped, .. } = once(args, &trial, client.clone()).await?;
        if stopped {
            break;
        }
        let keeps_up = summary.keeps_up();
        let word = if keeps_up { "kept" } else { "not kept" };
        eprintln!("{} records/s: {word}, {}", grouped(rate as u64), summary.in_short());
        *(if keeps_up { &mut kept } else { &mut missed }) = Some(rate);
        rate = match (kept, missed) {
            (Some(kept), Some(missed)) if missed / kept < TRIAL_PRECISION => break,
            (Some(kept), Some(missed)) => (kept * missed).sqrt(),
            (Some(kept), None) => kept * 2.0,
            (None, _) => rate / 4.0,
        };
    }
    match kept {
        Some(kept) => {
            outln!("{}", serde_json::json!({"max_records_per_second": kept as u64}));
            Ok(())
        }
        None => Err(UserError::new("WEIR-0705", "no rate was kept")
            .why(format!("down to {rate:.0} records/s"))
            .help("is the cluster well? weir doctor")),
    }
}

async fn start(plan: &Plan, client: Option<Arc<Client>>, shared: &Arc<Shared>) -> Outcome<Running> {
    let mut producers = Vec::new();
    let truth = plan.sending.truth_topic.is_some();
    let file = match &plan.destination {
        Destination::File(path) => Some(FileTarget::create(path, plan.spec.format, truth)?),
        _ => None,
    };
    let mut ready: Vec<(u32, Generator, Box<dyn Target + Send>)> = Vec::new();
    for worker in 0..plan.workers {
        let generator = Generator::new(&plan.spec, plan.part(worker));
        let shared = Arc::clone(shared);
        let target: Box<dyn Target + Send> = match (&plan.destination, &client, &file) {
            (Destination::Kafka, Some(client), _) => {
                let client = Arc::clone(client);
                let target = KafkaTarget::new(client, plan, worker, &generator, shared).await?;
                producers.push(target.producer());
                Box::new(target)
            }
            (Destination::Gateway(url), ..) => Box::new(GatewayTarget::new(url.clone(), shared)),
            (_, _, Some(file)) => Box::new(file.clone()),
            _ => continue,
        };
        ready.push((worker, generator, target));
    }
    // Only now: what making the fleet takes is no lateness of its records.
    let pacer = Pacer::start(plan.pace);
    let workers = ready.into_iter().map(|(worker, generator, target)| {
        spawn(generator, target, plan, pacer, Arc::clone(shared), worker)
    });
    Ok(Running { workers: workers.collect::<Outcome<_>>()?, producers, pacer })
}

fn spawn(
    generator: Generator,
    mut target: Box<dyn Target + Send>,
    plan: &Plan,
    pacer: Pacer,
    shared: Arc<Shared>,
    worker: u32,
) -> Outcome<Worker> {
    let plan = plan.clone();
    std::thread::Builder::new()
        .name(format!("sim-{worker}"))
        .spawn(move || {
            let result = drive(generator, target.as_mut(), &plan, pacer, &shared);
            if let Err(error) = &result {
                // One that fails ends all: half a fleet would look like losses.
                shared.fail(0, || error.clone());
                shared.stop();
            }
            result
        })
        .map_err(|error| UserError::new("WEIR-0808", "cannot start a thread").why(error))
}

/// Shows how it goes, until the workers are done; a signal asks them to end.
async fn watch(
    plan: &Plan,
    running: &Running,
    pacer: Pacer,
    shared: &Arc<Shared>,
    mut reload: Reload<'_>,
    [mut interrupt, mut terminate]: [Signal; 2],
) {
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    let on_terminal = std::io::stderr().is_terminal();
    let (mut said_s, mut looked_s, mut handed_before) = (0, 0, 0);
    loop {
        let asked = tokio::select! {
            _ = ticks.tick() => false,
            _ = interrupt.recv() => true,
            _ = terminate.recv() => true,
        };
        if asked && shared.is_stopping() {
            // Asked twice: what is not answered is given up.
            std::process::exit(130);
        } else if asked {
            shared.stop();
        }
        let second = pacer.elapsed().as_secs();
        let every_s = if on_terminal { 1 } else { QUIET_S };
        if second >= said_s + every_s {
            let handed = shared.handed.load(Ordering::Relaxed);
            let rate = (handed - handed_before) / (second - said_s);
            (said_s, handed_before) = (second, handed);
            progress(second, rate, shared, on_terminal);
        }
        if second > looked_s {
            looked_s = second;
            if let Some(change) = reload.changed(plan) {
                shared.change(change);
            }
        }
        if running.workers.iter().all(Worker::is_finished) {
            if on_terminal {
                eprint!("\r\x1b[K");
            }
            return;
        }
    }
}

fn progress(second: u64, rate: u64, shared: &Shared, on_terminal: bool) {
    let (send, _) = shared.measured();
    let ms = |share: f64| send.quantile_us(share).unwrap_or(0) as f64 / 1e3;
    let failed = shared.failed.load(Ordering::Relaxed) + shared.dropped.load(Ordering::Relaxed);
    let line = format!(
        "{second} s · {} records/s · answered within {:.1} ms (p50), {:.1} ms (p99) · {failed} errors",
        grouped(rate),
        ms(0.5),
        ms(0.99)
    );
    match on_terminal {
        true => eprint!("\r\x1b[K{line}"),
        false => eprintln!("{line}"),
    }
}

fn say(plan: &Plan) {
    let Plan { spec, shard, pace, .. } = plan;
    let to = match &plan.destination {
        Destination::Kafka => format!("{} on {}", plan.sending.topic, plan.sending.brokers),
        Destination::Gateway(url) => url.split("/v1/").next().unwrap_or_default().to_owned(),
        Destination::File(path) => path.display().to_string(),
    };
    let speed = match pace {
        Pace::Times(times) if (*times - 1.0).abs() < 1e-9 => String::new(),
        Pace::Times(times) => format!(", {times} times as fast"),
        Pace::Max => ", as fast as it is taken".to_owned(),
    };
    let part = match shard {
        (_, 1) => String::new(),
        (shard, shards) => format!(", part {}/{shards}", shard + 1),
    };
    eprintln!(
        "{} devices, {} records/s{speed}{part}, to {to} as {} (Ctrl-C stops)",
        grouped(u64::from(spec.devices_total())),
        grouped(spec.records_per_second().round() as u64),
        spec.source(),
    );
}

/// Looks whether the configuration file has changed.
struct Reload<'a> {
    args: &'a SimFleetArgs,
    path: PathBuf,
    modified: Option<SystemTime>,
}

impl<'a> Reload<'a> {
    fn new(args: &'a SimFleetArgs) -> Self {
        let path = args.file.config.clone().unwrap_or_else(|| PathBuf::from("weir.yaml"));
        let modified = modified(&path);
        Self { args, path, modified }
    }

    /// What is new, if the file is and is right.
    fn changed(&mut self, plan: &Plan) -> Option<Change> {
        let modified = modified(&self.path);
        if modified == self.modified {
            return None;
        }
        self.modified = modified;
        let fresh =
            load(self.args).and_then(|values| Plan::new(self.args, &values, plan.spec.start));
        match fresh {
            Ok(fresh) => {
                let spec = &fresh.spec;
                eprintln!(
                    "{} read again: anomaly_rate {}, trend_strength {}, data_variation {}",
                    self.path.display(),
                    spec.anomaly_rate,
                    spec.trend_strength,
                    spec.data_variation
                );
                let trends = Trends::new(spec.seed, spec.trend_strength, spec.data_variation);
                Some(Change::Rates { anomaly_rate: spec.anomaly_rate, trends })
            }
            Err(error) => {
                eprintln!(
                    "{} is not obeyed, what held goes on holding:\n{error}",
                    self.path.display()
                );
                None
            }
        }
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

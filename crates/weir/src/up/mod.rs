//! `weir up` and `weir broker`: the roles, started, watched, and stopped.

mod banner;
mod consumed_log;
mod damage;
mod demo;
mod feed;
pub(crate) mod instance;
mod kafka;
mod node;
mod own_events;
pub(crate) mod port_holder;
mod progress;
mod security;
mod topics;
mod views;
mod worker;
mod worker_words;

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::signal::unix::{signal, Signal, SignalKind};

use self::banner::headline;
use self::instance::{Holder, Instance};
pub(crate) use self::kafka::broker_config;
use self::node::Node;
use crate::cli::{BrokerArgs, ConfigFile, UpArgs};
use crate::config::{Settings, Values};
use crate::error::{Outcome, UserError};
use crate::text::Language;

/// Signals within this time are one.
const SAME_SIGNAL: Duration = Duration::from_millis(300);
/// How long tasks that ignore the stop may hold the process back.
const RUNTIME_STOP: Duration = Duration::from_millis(200);

/// Starts everything in one process and runs until it is told to stop.
pub(crate) fn run(args: &UpArgs) -> Outcome {
    let started = now();
    let values = values(args)?;
    let settings = Settings::from_values(&values)?;
    let language = Language::of_environment();
    let mut instance = begin(&values, &settings, language, settings.brokers.is_empty())?;
    let runtime = runtime()?;
    // Before anything is started, so that a stop during a long recovery is not lost.
    let mut signals = runtime.block_on(async { Signals::listen() })?;
    let Some(node) = runtime.block_on(start_node(&settings, &mut signals))? else {
        say(language.pick("stopped before it was ready", "就绪之前已停止"));
        return Ok(());
    };
    instance.tell(&node.holder());
    say(&node.banner(&settings, started.elapsed()).render(language));
    runtime.block_on(signals.wait());
    say(language.pick(
        "stopping: finishing what was accepted (again to force)",
        "正在停止：完成已接收的事件（再按一次强制退出）",
    ));
    force_on_second_signal(&runtime, signals);
    let stopping = now();
    runtime.block_on(node.stop());
    runtime.shutdown_timeout(RUNTIME_STOP);
    say(&format!(
        "{} {} ms",
        language.pick("stopped in", "已停止，用时"),
        stopping.elapsed().as_millis()
    ));
    Ok(())
}

/// Starts everything; `None`: it was told to stop meanwhile. Whatever ends a start, what it opened is
/// closed as after a stop, so that the next start has nothing to recover.
async fn start_node(settings: &Settings, signals: &mut Signals) -> Outcome<Option<Node>> {
    let plan = node::Plan::new(settings)?;
    let ports = node::Ports::bind(settings).await?;
    let broker = match settings.brokers.is_empty() {
        true => tokio::select! {
            broker = kafka::start_broker(settings, settings.http_connections_max) => Some(Arc::new(broker?)),
            () = signals.wait() => return Ok(None),
        },
        false => None,
    };
    let node = tokio::select! {
        node = Node::start(settings, plan, ports, broker.clone()) => node.map(Some),
        () = signals.wait() => Ok(None),
    };
    if let (Ok(None) | Err(_), Some(broker)) = (&node, broker) {
        kafka::stop_shared_broker(broker).await;
    }
    node
}

/// Starts the embedded broker alone.
pub(crate) fn run_broker(args: BrokerArgs) -> Outcome {
    let started = now();
    let mut values = load(&args.file)?;
    let flags = [
        ("--data-dir", "data_dir", args.data_dir.map(|dir| dir.display().to_string())),
        ("--log-file", "logging.file", args.log_file.map(|file| file.display().to_string())),
        (
            "--insecure-listen",
            "broker.insecure_listen",
            args.insecure_listen.then(|| "true".to_owned()),
        ),
    ];
    set_flags(&mut values, flags)?;
    set_port(&mut values, "--kafka-port", "broker.listen", args.kafka_port)?;
    let settings = Settings::from_values(&values)?;
    let language = Language::of_environment();
    let mut instance = begin(&values, &settings, language, true)?;
    let runtime = runtime()?;
    let mut signals = runtime.block_on(async { Signals::listen() })?;
    let starting = async {
        tokio::select! {
            broker = kafka::start_broker(&settings, 0) => broker.map(Some),
            () = signals.wait() => Ok(None),
        }
    };
    let Some(broker) = runtime.block_on(starting)? else { return Ok(()) };
    let address = broker.local_addr();
    instance.tell(&Holder {
        pid: std::process::id(),
        kafka: Some(address.to_string()),
        ..Holder::default()
    });
    let ready = started.elapsed();
    let network = kafka::network_listeners(&broker);
    say(&banner::broker(
        language,
        address,
        &network,
        settings.broker_durability,
        ready,
        &broker.stats(),
    ));
    runtime.block_on(signals.wait());
    force_on_second_signal(&runtime, signals);
    runtime.block_on(kafka::stop_broker(broker));
    runtime.shutdown_timeout(RUNTIME_STOP);
    Ok(())
}

/// The configuration of `weir up` with these flags.
pub(crate) fn values(args: &UpArgs) -> Outcome<Values> {
    let mut values = load(&args.file)?;
    let flags = [
        ("--data-dir", "data_dir", args.data_dir.as_ref().map(|dir| dir.display().to_string())),
        ("--brokers", "kafka.brokers", args.brokers.clone()),
        (
            "--log-file",
            "logging.file",
            args.log_file.as_ref().map(|file| file.display().to_string()),
        ),
        ("--demo", "layers.demo", args.demo.then(|| "true".to_owned())),
        (
            "--insecure-listen",
            "broker.insecure_listen",
            args.insecure_listen.then(|| "true".to_owned()),
        ),
    ];
    set_flags(&mut values, flags)?;
    set_port(&mut values, "--kafka-port", "broker.listen", args.kafka_port)?;
    set_port(&mut values, "--gateway-port", "gateway.listen", args.gateway_port)?;
    set_port(&mut values, "--console-port", "console.listen", args.console_port)?;
    Ok(values)
}

/// What a start would refuse of the settings, without starting anything.
pub(crate) fn check(settings: &Settings) -> Outcome {
    security::check_exposure(settings)?;
    let config = broker_config(settings)?;
    weir_broker::BrokerServer::check(&config)
        .map_err(|error| UserError::new(error.code(), "cannot start the broker").why(&error))?;
    settings.kafka_security.resolve()?;
    node::Plan::new(settings).map(|_| ())
}

fn load(file: &ConfigFile) -> Outcome<Values> {
    Values::load(file.config.as_deref(), std::env::vars())
}

fn set_flags<const N: usize>(
    values: &mut Values,
    flags: [(&'static str, &'static str, Option<String>); N],
) -> Outcome {
    for (flag, name, value) in flags {
        if let Some(value) = value {
            values.set_flag(flag, name, &value)?;
        }
    }
    Ok(())
}

/// Replaces the port of a `*.listen` key.
fn set_port(values: &mut Values, flag: &'static str, name: &str, port: Option<u16>) -> Outcome {
    let Some(port) = port else { return Ok(()) };
    let host = values.get(name).and_then(|address| address.rsplit_once(':')).map(|(host, _)| host);
    let address = format!("{}:{port}", host.unwrap_or("127.0.0.1"));
    values.set_flag(flag, name, &address)
}

/// What comes before anything slow: the log, the first line, the data directory.
fn begin(
    values: &Values,
    settings: &Settings,
    language: Language,
    embedded: bool,
) -> Outcome<Instance> {
    check(settings)?;
    crate::logging::start(values)?;
    let unused: Vec<&str> = values.unused_variables().collect();
    if !unused.is_empty() {
        let (variables, dir) = (unused.join(", "), settings.data_dir.display());
        tracing::warn!("{variables} not used: trajectories are kept in SQLite under {dir}");
    }
    let passed_over: Vec<&str> = values.passed_over_variables().collect();
    if !passed_over.is_empty() {
        let variables = passed_over.join(", ");
        tracing::warn!("{variables} passed over: Kubernetes sets them for a Service named weir");
    }
    for (key, why) in values.without_effect() {
        tracing::warn!("{key} is known and has no effect: {why}");
    }
    if !embedded && !settings.broker_log_keys.is_empty() {
        tracing::warn!(
            "the log.* and group.* keys are the embedded broker's; the cluster keeps its own"
        );
    }
    let kept = directory_bytes(&settings.data_dir);
    let instance = Instance::take(&settings.data_dir)?;
    say(&headline(language, embedded, &settings.data_dir, kept));
    Ok(instance)
}

/// Bytes in a data directory; `None` if it is new. Two levels deep, as the layout is.
fn directory_bytes(dir: &Path) -> Option<u64> {
    let mut total = 0;
    let mut pending = vec![dir.to_owned()];
    let mut found = false;
    while let Some(dir) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(dir) else { continue };
        for entry in entries.flatten() {
            found = true;
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => pending.push(entry.path()),
                Ok(metadata) => total += metadata.len(),
                Err(_) => {}
            }
        }
    }
    found.then_some(total)
}

fn runtime() -> Outcome<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("weir")
        .build()
        .map_err(|error| UserError::new("WEIR-0808", "cannot start the runtime").why(error))
}

/// The two ways to ask a process to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Outcome<Self> {
        let failed = |error| UserError::new("WEIR-0808", "cannot wait for signals").why(error);
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn force_on_second_signal(runtime: &Runtime, mut signals: Signals) {
    runtime.spawn(async move {
        // `timeout`, `cargo run` and terminals may deliver one wish to stop twice.
        let same = tokio::time::sleep(SAME_SIGNAL);
        tokio::pin!(same);
        loop {
            tokio::select! {
                () = &mut same => break,
                () = signals.wait() => {}
            }
        }
        signals.wait().await;
        std::process::exit(130);
    });
}

/// Prints for a person who may have gone away: a closed pipe is no reason to stop.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

fn cannot_listen(
    name: &str,
    flag: &str,
    address: SocketAddr,
    error: &dyn std::fmt::Display,
) -> UserError {
    let error =
        UserError::new("WEIR-0807", format!("{name} cannot listen on {address}")).why(error);
    let other = format!("choose another port: {flag} 0 takes any free one");
    match port_holder::port_holder(address) {
        Some(holder) if holder.pid == std::process::id() => {
            error.why(format!("another part of this weir has port {}", address.port())).help(other)
        }
        Some(holder) => error
            .why(format!("process {} ({}) listens there", holder.pid, holder.name))
            .help(format!("stop that process, or {other}")),
        None => error.help(other),
    }
}

/// The process is a shell: it tells how long its start took.
#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

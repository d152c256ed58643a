//! One process with all roles: how they are started, joined, and stopped.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use weir_broker::{BrokerServer, Durability};
use weir_client::{Client, Producer, SystemClock};
use weir_fleet::{Order, ZoneSet};
use weir_protocol::clock::Clock;
use weir_traffic::{MessagePriorities, PriorityTable, ProducerSink, TrafficConfig, TrafficHandle};

use super::banner::Banner;
use super::demo::IngestSink;
use super::feed::Feed;
use super::instance::Holder;
use super::views::Views;
use super::worker::{Worker, WorkerParts};
use super::{cannot_listen, kafka, own_events};
use crate::config::Settings;
use crate::console::hub::{About, ConsoleHub, Layer, Mode};
use crate::console::{self, ConsoleConfig};
use crate::error::{Outcome, UserError};
use crate::gateway::health;
use crate::gateway::ingest::Ingest;
use crate::gateway::metrics::Metrics;
use crate::gateway::prepare::Rules;
use crate::gateway::route::RouteTable;
use crate::gateway::{Gateway, Limits};
use crate::http::guard::Hosts;
use crate::http::server::{self, Connections};

/// How long each part may take to finish what it holds.
const DRAIN: Duration = Duration::from_millis(500);
/// How long all of them may take, so that a stop takes less than two seconds.
const STOP_MAX: Duration = Duration::from_millis(1_400);
/// How long the body of a request may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);
/// Orders that wait for the demo fleet.
const ORDERS_MAX: usize = 256;
/// The demo fleet is the same at every start, but for its start time.
const DEMO_SEED: u64 = 1;

/// Everything that runs.
#[derive(Debug)]
pub(super) struct Node {
    broker: Option<Arc<BrokerServer>>,
    brokers: Vec<String>,
    producer: Arc<Producer>,
    traffic: TrafficHandle,
    worker: Option<Worker>,
    ready: Arc<AtomicBool>,
    gateway: Served,
    console: Option<Served>,
    /// Tasks that make events; stopped first.
    sources: Tasks,
    /// Tasks that read; stopped last.
    readers: Tasks,
}

/// An HTTP server.
#[derive(Debug)]
struct Served {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Tasks with a common stop.
#[derive(Debug)]
struct Tasks {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// What the parts share.
#[derive(Debug, Clone)]
struct Shared {
    client: Arc<Client>,
    ingest: Ingest,
    hub: ConsoleHub,
    clock: Arc<dyn Clock>,
    zones: Arc<ZoneSet>,
}

/// What can be wrong in the settings, built before anything starts.
#[derive(Debug)]
pub(super) struct Plan {
    traffic: TrafficConfig,
    priorities: PriorityTable,
    zones: Arc<ZoneSet>,
    /// The zones as GeoJSON, for the console.
    geojson: String,
}

impl Plan {
    pub(super) fn new(settings: &Settings) -> Outcome<Self> {
        let traffic = settings.traffic.clone();
        traffic
            .validate()
            .map_err(|error| UserError::new(error.code(), "traffic_control").why(error))?;
        let (zones, geojson) = zones(settings)?;
        Ok(Self { traffic, priorities: priorities(settings)?, zones, geojson })
    }
}

/// The ports of HTTP, taken before anything is written: a start that cannot have them leaves no trace.
#[derive(Debug)]
pub(super) struct Ports {
    gateway: Port,
    console: Option<Port>,
}

#[derive(Debug)]
struct Port {
    listener: TcpListener,
    address: SocketAddr,
}

impl Ports {
    pub(super) async fn bind(settings: &Settings) -> Outcome<Self> {
        let gateway = Port::bind("the gateway", "--gateway-port", settings.gateway_listen).await?;
        let console = match settings.layers.console {
            true => {
                Some(Port::bind("the console", "--console-port", settings.console_listen).await?)
            }
            false => None,
        };
        Ok(Self { gateway, console })
    }
}

impl Port {
    /// Binds a listener, or names the process that is in the way.
    async fn bind(name: &str, flag: &str, address: SocketAddr) -> Outcome<Self> {
        let failed = |error: std::io::Error| cannot_listen(name, flag, address, &error);
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }
}

impl Node {
    /// Starts the roles in the order in which they need one another.
    ///
    /// What it has opened when it fails, or is dropped, closes itself; the broker is the caller's.
    pub(super) async fn start(
        settings: &Settings,
        plan: Plan,
        ports: Ports,
        broker: Option<Arc<BrokerServer>>,
    ) -> Outcome<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let brokers = match &broker {
            Some(broker) => vec![broker.local_addr().to_string()],
            None => settings.brokers.clone(),
        };
        let client = kafka::connect(settings, &brokers).await?;
        let producer = kafka::producer(settings, Arc::clone(&client))?;
        let traffic = traffic(plan.traffic, &producer, &client)?;
        let ingest = ingest(settings, plan.priorities, &traffic, &clock);
        let hub = hub(&clock, plan.geojson);
        let shared = Shared { client, ingest, hub, clock, zones: plan.zones };
        // The last part that can fail; from here on there is nothing to undo, and nothing to wait for.
        let worker = start_worker(settings, &shared)?;
        let ready = Arc::new(AtomicBool::new(false));
        let kafka_health = watch::Sender::new(None);
        let health = (&ready, kafka_health.subscribe());
        // The broker has raised it, if there is one.
        let files_max = weir_broker::raise_file_limit();
        let connections = Arc::new(Connections::new(settings.http_connections_max, files_max));
        let gateway = gateway(settings, &shared, health)
            .with_connections(&connections)
            .with_broker(broker.as_ref())
            .with_producer(&producer);
        let gateway = serve(ports.gateway, gateway.router(), &connections);
        tell_hub(settings, &shared.hub, &brokers, broker.is_some(), gateway.address);
        let (sources, mut readers) = start_tasks(settings, &shared, broker.clone());
        watch_kafka(&mut readers, &shared, broker.as_ref(), kafka_health);
        let console = ports.console.map(|port| {
            let router = console::router(shared.hub.clone(), console_config(settings));
            serve(port, router, &connections)
        });
        ready.store(true, Ordering::Release);
        Ok(Self {
            broker,
            brokers,
            producer,
            traffic,
            worker,
            ready,
            gateway,
            console,
            sources,
            readers,
        })
    }

    /// Stops in the order of the flow, so that what was accepted arrives: sources, gateway, lanes,
    /// producer, readers, broker. A part that does not end in time is left behind: what it holds is
    /// either not accepted or stored already.
    pub(super) async fn stop(mut self) {
        self.ready.store(false, Ordering::Release);
        let broker = self.broker.take();
        if tokio::time::timeout(STOP_MAX, self.stop_all_but_the_broker()).await.is_err() {
            tracing::warn!("some parts did not stop in time");
        }
        if let Some(broker) = broker {
            kafka::stop_shared_broker(broker).await;
        }
    }

    async fn stop_all_but_the_broker(self) {
        // Leaving a group waits for Kafka: meanwhile the others stop. What it has not read it reads next time.
        if let Some(worker) = &self.worker {
            worker.begin_stop();
        }
        self.sources.stop().await;
        self.gateway.stop().await;
        let report = self.traffic.shutdown(DRAIN).await;
        let (in_flight, given_back) = (report.in_flight, report.given_back);
        tracing::info!(in_flight, given_back, "lanes are drained");
        if let Err(error) = self.producer.close(DRAIN).await {
            tracing::warn!(%error, "closing the producer");
        }
        if let Some(worker) = self.worker {
            // It blocks on SQLite; joining it must not hold up the tasks it waits for.
            let _ = tokio::task::spawn_blocking(move || worker.stop()).await;
        }
        self.readers.stop().await;
        if let Some(console) = self.console {
            console.stop().await;
        }
    }

    /// What a second process on the same directory is told.
    pub(super) fn holder(&self) -> Holder {
        Holder {
            pid: std::process::id(),
            kafka: Some(self.brokers.join(",")),
            gateway: Some(format!("http://{}", self.gateway.address)),
            console: self.console.as_ref().map(|console| format!("http://{}", console.address)),
        }
    }

    pub(super) fn banner(&self, settings: &Settings, since_start: Duration) -> Banner {
        let stats = self.broker.as_ref().map(|broker| broker.stats());
        let traffic = &settings.traffic;
        Banner {
            embedded: self.broker.as_ref().map(|broker| broker.local_addr()),
            network: self.broker.as_deref().map(kafka::network_listeners).unwrap_or_default(),
            durability: settings.broker_durability,
            brokers: self.brokers.join(","),
            gateway: Some(self.gateway.address),
            console: self.console.as_ref().map(|console| console.address),
            max_rate: traffic.max_rate.map(|rate| (rate, traffic.rate_window_ms)),
            lane_events_max: traffic.buffer_size,
            loopback_only: loopback_only(settings),
            ready_ms: u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX),
            recovered_partitions: stats.as_ref().map_or(0, |stats| stats.partitions_recovered),
            records_cut: stats.as_ref().map_or(0, |stats| stats.records_cut),
        }
    }
}

impl Served {
    /// No new connections; those that are open finish their request, or are dropped at the deadline.
    async fn stop(self) {
        let _ = self.stop.send(true);
        let mut task = self.task;
        if tokio::time::timeout(DRAIN / 2, &mut task).await.is_err() {
            task.abort();
        }
    }
}

impl Tasks {
    fn new() -> Self {
        Self { stop: watch::Sender::new(false), tasks: Vec::new() }
    }

    fn spawn<F>(&mut self, task: impl FnOnce(watch::Receiver<bool>) -> F)
    where
        F: std::future::Future<Output = ()> + Send + 'static,
    {
        let task = task(self.stop.subscribe());
        self.tasks.push(tokio::spawn(task));
    }

    async fn stop(self) {
        let _ = self.stop.send(true);
        let deadline = tokio::time::Instant::now() + DRAIN;
        for mut task in self.tasks {
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                task.abort();
                // So that what it holds is let go of before the next step.
                let _ = task.await;
            }
        }
    }
}

fn loopback_only(settings: &Settings) -> bool {
    let listeners = &settings.broker_security.listeners;
    [settings.broker_listen, settings.gateway_listen, settings.console_listen]
        .iter()
        .all(|address| address.ip().is_loopback())
        && listeners.iter().all(|listener| listener.exposure().is_none())
}

fn serve(port: Port, router: axum::Router, connections: &Arc<Connections>) -> Served {
    let Port { listener, address } = port;
    let stop = watch::Sender::new(false);
    let serving = server::serve(listener, router, Arc::clone(connections), stop.subscribe());
    Served { address, stop, task: tokio::spawn(serving) }
}

fn gateway(
    settings: &Settings,
    shared: &Shared,
    (ready, kafka): (&Arc<AtomicBool>, watch::Receiver<health::Problem>),
) -> Gateway {
    let limits = Limits {
        body_bytes_max: settings.body_bytes_max,
        body_time: BODY_TIME,
        events_per_request_max: settings.events_per_request_max,
        requests_max: settings.requests_max,
        request_bytes_max: settings.request_bytes_max,
        streams_max: settings.streams_max,
        stream_message_bytes_max: settings.stream_message_bytes_max,
    };
    let durability = match (settings.brokers.is_empty(), settings.broker_durability) {
        (false, _) => "cluster",
        (true, Durability::Strict) => "strict",
        (true, Durability::Relaxed) => "relaxed",
    };
    let hosts = match &settings.gateway_hosts[..] {
        // Whoever opens it to other machines trusts the network, where it has names of all kinds.
        [] if !settings.gateway_listen.ip().is_loopback() => Hosts::any(),
        names => Hosts::only(names),
    };
    Gateway::new(shared.ingest.clone(), limits, Arc::clone(ready), kafka, durability)
        .for_hosts(hosts)
}

fn traffic(
    config: TrafficConfig,
    producer: &Arc<Producer>,
    client: &Arc<Client>,
) -> Outcome<TrafficHandle> {
    let sink = ProducerSink::new(Arc::clone(producer)).with_client(Arc::clone(client));
    TrafficHandle::start(config, sink).map_err(|error| {
        UserError::new(error.code(), "cannot start the traffic manager").why(error)
    })
}

fn priorities(settings: &Settings) -> Outcome<PriorityTable> {
    let [urgent, high, normal, low] = settings.priorities.clone();
    PriorityTable::new(&MessagePriorities { urgent, high, normal, low })
        .map_err(|error| UserError::new(error.code(), "message_priorities").why(error))
}

fn ingest(
    settings: &Settings,
    table: PriorityTable,
    traffic: &TrafficHandle,
    clock: &Arc<dyn Clock>,
) -> Ingest {
    let rules = Rules {
        routes: RouteTable::new(&settings.routes),
        priority_of: Arc::new(move |event_type| table.priority(event_type)),
        validation: settings.validation,
        event_bytes_max: settings.event_bytes_max,
        key_fields: settings
            .topics
            .iter()
            .filter(|topic| !topic.key_fields.is_empty())
            .map(|topic| (topic.name.clone(), topic.key_fields.clone()))
            .collect(),
    };
    Ingest::new(rules, traffic.clone(), Arc::new(Metrics::new()), Arc::clone(clock))
}

/// The zones and their GeoJSON: those of the configuration, else those of the demo.
fn zones(settings: &Settings) -> Outcome<(Arc<ZoneSet>, String)> {
    let text = match &settings.zones_file {
        Some(path) => read_zones(path)?,
        None if settings.layers.demo => weir_sim::DEMO_ZONES_GEOJSON.to_owned(),
        None => {
            return Ok((
                Arc::new(ZoneSet::empty()),
                r#"{"type":"FeatureCollection","features":[]}"#.to_owned(),
            ))
        }
    };
    let zones = ZoneSet::from_geojson(&text).map_err(|error| {
        let file = settings.zones_file.as_deref().unwrap_or(Path::new("the demo's zones"));
        UserError::new(error.code(), format!("cannot use the zones of {}", file.display()))
            .why(error)
    })?;
    Ok((Arc::new(zones), text))
}

fn read_zones(path: &Path) -> Outcome<String> {
    std::fs::read_to_string(path).map_err(|error| {
        UserError::new("WEIR-0804", format!("cannot read {}", path.display()))
            .why(error)
            .help("fleet.zones names a GeoJSON file; a relative path starts where weir was started")
    })
}

fn console_config(settings: &Settings) -> ConsoleConfig {
    ConsoleConfig {
        hosts: settings.console_hosts.clone(),
        clients_max: settings.console_clients_max,
    }
}

fn hub(clock: &Arc<dyn Clock>, zones: String) -> ConsoleHub {
    let clock = Arc::clone(clock);
    let hub = ConsoleHub::new(Arc::new(move || clock.now().get()));
    match serde_json::from_str(&zones) {
        Ok(zones) => hub.zones(zones),
        Err(error) => tracing::error!(%error, "zones for the console"),
    }
    hub
}

fn tell_hub(
    settings: &Settings,
    hub: &ConsoleHub,
    brokers: &[String],
    embedded: bool,
    gateway: SocketAddr,
) {
    let traffic = &settings.traffic;
    hub.about(About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        mode: if embedded { Mode::Embedded } else { Mode::Cluster },
        brokers: brokers.to_vec(),
        gateway: format!("http://{gateway}"),
        durable: !embedded || settings.broker_durability == Durability::Strict,
        data_dir: Some(settings.data_dir.display().to_string()),
        rate_max_per_s: traffic
            .max_rate
            .map(|rate| rate as f64 * 1000.0 / traffic.rate_window_ms as f64),
        lane_events_max: traffic.buffer_size as u64,
        loopback_only: loopback_only(settings),
    });
    let layer = |id: &str, on: bool, turn_on: &str| Layer {
        id: id.to_owned(),
        on,
        turn_on: turn_on.to_owned(),
    };
    hub.layers(vec![
        layer("kafka", true, ""),
        layer("traffic", true, ""),
        layer("fleet", settings.layers.fleet, "layers:\n  fleet: true"),
        layer("demo", settings.layers.demo, "weir up --demo"),
    ]);
}

fn start_worker(settings: &Settings, shared: &Shared) -> Outcome<Option<Worker>> {
    if !settings.layers.fleet {
        return Ok(None);
    }
    let parts = WorkerParts {
        client: Arc::clone(&shared.client),
        ingest: shared.ingest.clone(),
        hub: shared.hub.clone(),
        zones: Arc::clone(&shared.zones),
        clock: Arc::clone(&shared.clock),
    };
    Worker::start(settings, parts, Handle::current()).map(Some)
}

fn start_tasks(
    settings: &Settings,
    shared: &Shared,
    broker: Option<Arc<BrokerServer>>,
) -> (Tasks, Tasks) {
    let (mut sources, mut readers) = (Tasks::new(), Tasks::new());
    let (ingest, clock) = (shared.ingest.clone(), Arc::clone(&shared.clock));
    sources.spawn(|stop| own_events::run(ingest, clock, stop));
    let orders = settings.layers.demo.then(|| {
        let (sender, receiver) = mpsc::channel(ORDERS_MAX);
        let (sink, clock) = (IngestSink(shared.ingest.clone()), Arc::clone(&shared.clock));
        sources.spawn(|stop| fly(sink, clock, receiver, stop));
        sender
    });
    let views = Views {
        client: Arc::clone(&shared.client),
        hub: shared.hub.clone(),
        clock: Arc::clone(&shared.clock),
        orders,
    };
    if settings.layers.fleet {
        readers.spawn(|stop| views.run(stop));
    }
    let feed = Feed {
        client: Arc::clone(&shared.client),
        ingest: shared.ingest.clone(),
        hub: shared.hub.clone(),
        clock: Arc::clone(&shared.clock),
        broker: broker.as_ref().map(Arc::downgrade),
    };
    // Without a console too: `/metrics` has its figures.
    readers.spawn(|stop| feed.run(stop));
    (sources, readers)
}

fn watch_kafka(
    readers: &mut Tasks,
    shared: &Shared,
    broker: Option<&Arc<BrokerServer>>,
    health: watch::Sender<health::Problem>,
) {
    let broker = broker.map(Arc::downgrade);
    let storage = move || {
        let stats = broker.as_ref()?.upgrade()?.stats();
        let offline = |why| format!("the broker's log directory is offline: {why}");
        stats.failure.map(offline).or(stats.disk_full)
    };
    let (client, traffic) = (Arc::clone(&shared.client), shared.ingest.traffic().clone());
    readers.spawn(|stop| health::watch_kafka(client, traffic, storage, health, stop));
}

async fn fly(
    sink: IngestSink,
    clock: Arc<dyn Clock>,
    orders: mpsc::Receiver<Order>,
    mut stop: watch::Receiver<bool>,
) {
    let fleet = weir_sim::DemoFleet::new(DEMO_SEED, clock.now());
    let stopped = async move {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let report = weir_sim::run(fleet, clock, sink, orders, stopped).await;
    let weir_sim::RunReport { events_sent, events_refused, orders_obeyed } = report;
    tracing::info!(events_sent, events_refused, orders_obeyed, "the demo fleet has landed");
}

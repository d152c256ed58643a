//! Metadata and connections, shared by producers, consumers and admin calls.
//!
//! One task refreshes metadata: when somebody found it stale, when it is old, and when a new topic is
//! asked for. Connections are made on demand, one per broker and *lane*: a long poll or a parked join
//! must not stand before a produce, as Kafka answers each connection in order.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use tokio::sync::{watch, Notify};
use tokio::time::Instant;
use weir_protocol::api::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use weir_protocol::api::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{NodeId, Str, Uuid};
use weir_protocol::Request;

use crate::config::ClientConfig;
use crate::connection::{Connection, Endpoint};
use crate::error::ClientError;
use crate::metadata::{ClusterView, TopicView};
use crate::tls::TlsTransport;
use crate::transport::{TcpTransport, Transport};

/// The most topics in view at once; what is beyond is not known until others go.
const TRACKED_TOPICS_MAX: usize = 20_000;

/// How long a topic that does not exist stays in view, as Kafka's producer keeps idle ones
/// (`metadata.max.idle.ms`).
const MISSING_KEPT: Duration = Duration::from_secs(300);

/// How often a topic that does not exist is looked for.
const MISSING_LOOK: Duration = Duration::from_secs(1);

/// FindCoordinator's key type of a group.
const GROUP_COORDINATOR: i8 = 0;

/// FindCoordinator's key type of a transactional id.
const TRANSACTION_COORDINATOR: i8 = 1;

/// A topic somebody uses.
#[derive(Debug, Clone, Copy, Default)]
struct Tracked {
    /// Somebody wants to send to it and it has not been seen: the next lookup may create it. Only that
    /// one: a topic deleted later must stay deleted.
    may_create: bool,
    missing_since: Option<Instant>,
}

/// A stream of requests that may wait for each other. Lane 0 is for short calls of anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Lane(u64);

impl Lane {
    pub(crate) const SHARED: Lane = Lane(0);
}

/// Metadata and connections of one cluster. Share it by `Arc`.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    transport: Arc<dyn Transport>,
    bootstrap: Vec<Endpoint>,
    view: RwLock<Arc<ClusterView>>,
    /// Topics somebody uses: what a refresh asks for.
    tracked: Mutex<BTreeMap<Str, Tracked>>,
    refresh_wanted: Notify,
    /// Counts answers taken over.
    generation: watch::Sender<u64>,
    slots: Mutex<HashMap<(Endpoint, Lane), Arc<ConnectionSlot>>>,
    next_lane: AtomicU64,
}

/// One connection, made when first used and again after it is lost.
#[derive(Debug)]
struct ConnectionSlot {
    endpoint: Endpoint,
    state: tokio::sync::Mutex<SlotState>,
}

#[derive(Debug, Default)]
struct SlotState {
    connection: Option<Arc<Connection>>,
    failures: u32,
    retry_at: Option<Instant>,
}

impl Client {
    /// Connects to the first bootstrap broker that answers and learns the cluster from it.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] if none answers, [`ClientError::Config`] for an address that is none.
    pub async fn connect(
        config: ClientConfig,
        transport: Arc<dyn Transport>,
    ) -> Result<Arc<Client>, ClientError> {
        let bootstrap = parse_bootstrap(&config.bootstrap)?;
        let client = Arc::new(Client {
            config,
            transport,
            bootstrap,
            view: RwLock::default(),
            tracked: Mutex::default(),
            refresh_wanted: Notify::new(),
            generation: watch::Sender::new(0),
            slots: Mutex::default(),
            next_lane: AtomicU64::new(1),
        });
        client.refresh().await?;
        tokio::spawn(keep_metadata_fresh(Arc::downgrade(&client)));
        Ok(client)
    }

    /// As [`Client::connect`], over TCP, with TLS if [`ClientConfig::security`] says so.
    ///
    /// # Errors
    /// As there.
    pub async fn connect_tcp(config: ClientConfig) -> Result<Arc<Client>, ClientError> {
        let transport: Arc<dyn Transport> = match &config.security.tls {
            None => Arc::new(TcpTransport),
            Some(tls) => Arc::new(TlsTransport::new(tls)?),
        };
        Self::connect(config, transport).await
    }

    /// The settings.
    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// The cluster as last seen.
    pub fn view(&self) -> Arc<ClusterView> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a broker of the cluster answers now.
    ///
    /// # Errors
    /// Why none does.
    pub async fn ping(&self) -> Result<(), ClientError> {
        self.refresh().await
    }

    /// Asks for fresh metadata, soon and in the background.
    pub fn refresh_soon(&self) {
        self.refresh_wanted.notify_one();
    }

    /// Told of every metadata answer.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    fn tracked(&self) -> MutexGuard<'_, BTreeMap<Str, Tracked>> {
        self.tracked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Includes these topics in every refresh from now on, without creating any. One that does not
    /// exist is left out again after a while: track it again as long as it is of use.
    pub(crate) fn track<'a>(&self, topics: impl IntoIterator<Item = &'a str>) {
        let mut tracked = self.tracked();
        let mut is_new = false;
        for topic in topics {
            is_new |= admit(&mut tracked, topic);
        }
        drop(tracked);
        if is_new {
            self.refresh_soon();
        }
    }

    /// Tracks a topic somebody sends to, and lets the next lookup create it.
    pub(crate) fn want_topic(&self, topic: &str) {
        let mut tracked = self.tracked();
        admit(&mut tracked, topic);
        if let Some(entry) = tracked.get_mut(topic) {
            entry.may_create = true;
        }
        drop(tracked);
        self.refresh_soon();
    }

    pub(crate) fn is_tracked(&self, topic: &str) -> bool {
        self.tracked().contains_key(topic)
    }

    /// The topic once it is known to exist. Does not create it.
    ///
    /// # Errors
    /// What the broker says of the topic, or that nothing was heard within the time.
    pub async fn topic(&self, name: &str, timeout: Duration) -> Result<TopicView, ClientError> {
        let deadline = Instant::now() + timeout;
        let mut changes = self.changes();
        self.track([name]);
        loop {
            changes.mark_unchanged();
            let error = match self.view().topics.get(name) {
                Some(topic) if !topic.partitions.is_empty() && topic.error.is_none() => {
                    return Ok(topic.clone());
                }
                Some(topic) if !topic.error.is_none() && !topic.error.is_retriable() => {
                    let code = topic.error;
                    return Err(ClientError::Broker { api: "Metadata", code, message: None });
                }
                _ => ClientError::UnknownTopic { topic: name.to_owned() },
            };
            let waited = tokio::time::timeout_at(deadline, changes.changed()).await;
            if waited.is_err() {
                return Err(error);
            }
            self.refresh_soon();
        }
    }

    /// A new lane of connections.
    pub(crate) fn new_lane(&self) -> Lane {
        Lane(self.next_lane.fetch_add(1, Ordering::Relaxed))
    }

    /// Closes the connections of a lane.
    pub(crate) fn drop_lane(&self, lane: Lane) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|(_, of), _| *of != lane);
    }

    /// The connection to this node in this lane, made if need be.
    pub(crate) async fn connection(
        &self,
        node: NodeId,
        lane: Lane,
    ) -> Result<Arc<Connection>, ClientError> {
        let endpoint = self.view().brokers.get(&node).cloned();
        let Some(endpoint) = endpoint else {
            self.refresh_soon();
            return Err(ClientError::ConnectionLost {
                broker: format!("node {node}"),
                reason: "its address is not known".to_owned(),
            });
        };
        self.connection_to(&endpoint, lane).await
    }

    async fn connection_to(
        &self,
        endpoint: &Endpoint,
        lane: Lane,
    ) -> Result<Arc<Connection>, ClientError> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            let slot = slots.entry((endpoint.clone(), lane)).or_insert_with(|| {
                let endpoint = endpoint.clone();
                Arc::new(ConnectionSlot { endpoint, state: tokio::sync::Mutex::default() })
            });
            Arc::clone(slot)
        };
        slot.get(self.transport.as_ref(), &self.config).await
    }

    /// A connection to any broker: known ones first, then the bootstrap list again (KIP-899).
    pub(crate) async fn any_connection(&self) -> Result<Arc<Connection>, ClientError> {
        let view = self.view();
        let mut endpoints: Vec<&Endpoint> = view.brokers.values().collect();
        let start = usize::try_from(random()).unwrap_or(0) % endpoints.len().max(1);
        endpoints.rotate_left(start);
        // One that is connected already costs nothing.
        endpoints.sort_by_key(|endpoint| !self.is_connected(endpoint));
        endpoints.extend(self.bootstrap.iter().filter(|e| !view.brokers.values().any(|b| b == *e)));
        let mut reason = String::new();
        for endpoint in &endpoints {
            match self.connection_to(endpoint, Lane::SHARED).await {
                Ok(connection) => return Ok(connection),
                // Others would not let us in either, and some lock out who tries too often.
                Err(error @ ClientError::Authentication { .. }) => return Err(error),
                Err(error) => reason = error.to_string(),
            }
        }
        let brokers: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
        Err(ClientError::Unreachable { brokers: brokers.join(", "), reason })
    }

    fn is_connected(&self, endpoint: &Endpoint) -> bool {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(slot) = slots.get(&(endpoint.clone(), Lane::SHARED)) else { return false };
        let state = slot.state.try_lock();
        state.is_ok_and(|state| state.connection.as_ref().is_some_and(|c| c.is_open()))
    }

    /// Asks any broker.
    pub(crate) async fn ask_any<R: Request>(
        &self,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        let connection = self.any_connection().await?;
        connection.request(request, i16::MAX, self.config.request_timeout_ms).await
    }

    /// Asks the controller, or any broker where there is none (those forward).
    pub(crate) async fn ask_controller<R: Request>(
        &self,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        let connection = match self.view().controller {
            Some(node) => self.connection(node, Lane::SHARED).await?,
            None => self.any_connection().await?,
        };
        connection.request(request, i16::MAX, self.config.request_timeout_ms).await
    }

    /// Which broker keeps this group.
    pub(crate) async fn find_group_coordinator(&self, group: &str) -> Result<NodeId, ClientError> {
        self.find_coordinator(group, GROUP_COORDINATOR).await
    }

    /// Which broker keeps the transactions of this id.
    pub(crate) async fn find_transaction_coordinator(
        &self,
        transactional_id: &str,
    ) -> Result<NodeId, ClientError> {
        self.find_coordinator(transactional_id, TRANSACTION_COORDINATOR).await
    }

    async fn find_coordinator(&self, key: &str, key_type: i8) -> Result<NodeId, ClientError> {
        let request = FindCoordinatorRequest {
            key: Str::copy_from(key),
            key_type,
            coordinator_keys: vec![Str::copy_from(key)],
        };
        let response = self.ask_any(&request).await?;
        let (code, message, node, endpoint) = coordinator(response);
        if !code.is_none() {
            return Err(ClientError::Broker { api: "FindCoordinator", code, message });
        }
        // The answer is newer than the metadata where the broker is not known there.
        if let (false, Some(endpoint)) = (self.view().brokers.contains_key(&node), endpoint) {
            self.edit_view(|view| {
                view.brokers.insert(node, endpoint);
            });
        }
        Ok(node)
    }

    /// Fetches metadata of the tracked topics now.
    pub(crate) async fn refresh(&self) -> Result<(), ClientError> {
        let (mut wanted, mut known) = (Vec::new(), Vec::new());
        for (topic, entry) in self.tracked().iter() {
            let list = if entry.may_create { &mut wanted } else { &mut known };
            list.push(topic.clone());
        }
        // The request says for all of its topics at once whether they may be created.
        if !wanted.is_empty() {
            let may_create = self.config.auto_create_topics;
            let response = self.fetch_metadata(Some(wanted), may_create).await?;
            self.take_over(response);
        }
        let response = self.fetch_metadata(Some(known), false).await?;
        self.take_over(response);
        self.generation.send_modify(|generation| *generation += 1);
        Ok(())
    }

    fn take_over(&self, response: MetadataResponse) {
        let gone = self.note_missing(&response, Instant::now());
        self.edit_view(|view| {
            view.update(response);
            for topic in &gone {
                view.topics.remove(topic);
            }
        });
    }

    /// Notes which topics there are; those missing for long are tracked no more, and returned.
    fn note_missing(&self, response: &MetadataResponse, now: Instant) -> Vec<Str> {
        let mut tracked = self.tracked();
        let mut gone = Vec::new();
        for topic in &response.topics {
            let Some(name) = &topic.name else { continue };
            let Some(entry) = tracked.get_mut(name) else { continue };
            match ErrorCode::from_code(topic.error_code) {
                ErrorCode::None => *entry = Tracked::default(),
                ErrorCode::UnknownTopicOrPartition | ErrorCode::InvalidTopicException => {
                    let since = *entry.missing_since.get_or_insert(now);
                    if now.duration_since(since) >= MISSING_KEPT {
                        tracked.remove(name);
                        gone.push(name.clone());
                    }
                }
                _ => {}
            }
        }
        gone
    }

    fn misses_topics(&self) -> bool {
        self.tracked().values().any(|entry| entry.missing_since.is_some())
    }

    /// Names of topics by their ids; of those that the broker asked knows.
    pub(crate) async fn topic_names(
        &self,
        ids: impl IntoIterator<Item = Uuid>,
    ) -> Result<BTreeMap<Uuid, Str>, ClientError> {
        let by_id = |topic_id| MetadataRequestTopic { topic_id, name: None };
        let request = MetadataRequest {
            topics: Some(ids.into_iter().map(by_id).collect()),
            ..MetadataRequest::default()
        };
        let response = self.ask_any(&request).await?;
        let named = response.topics.into_iter().filter(|topic| topic.error_code == 0);
        Ok(named.filter_map(|topic| Some((topic.topic_id, topic.name?))).collect())
    }

    /// Forgets the brokers it knows, and their connections: the bootstrap list says where to begin again
    /// (KIP-1102). For a cluster that has moved, or whose brokers are others now.
    fn rebootstrap(&self) {
        tracing::warn!(
            "no metadata from the brokers known: beginning again with the bootstrap list"
        );
        self.edit_view(|view| {
            view.brokers.clear();
            view.controller = None;
        });
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.clear();
    }

    /// Metadata of these topics, or of all, without taking it over.
    pub(crate) async fn fetch_metadata(
        &self,
        topics: Option<Vec<Str>>,
        may_create: bool,
    ) -> Result<MetadataResponse, ClientError> {
        let by_name =
            |name| MetadataRequestTopic { name: Some(name), ..MetadataRequestTopic::default() };
        let request = MetadataRequest {
            topics: topics.map(|names| names.into_iter().map(by_name).collect()),
            allow_auto_topic_creation: may_create,
            ..MetadataRequest::default()
        };
        let response = self.ask_any(&request).await?;
        match ErrorCode::from_code(response.error_code) {
            ErrorCode::None => Ok(response),
            code => {
                if code == ErrorCode::RebootstrapRequired {
                    self.rebootstrap();
                }
                Err(ClientError::Broker { api: "Metadata", code, message: None })
            }
        }
    }

    fn edit_view(&self, edit: impl FnOnce(&mut ClusterView)) {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        edit(Arc::make_mut(&mut view));
    }

    /// Repeats `attempt` while it fails retriably, up to `api_timeout_ms`, with metadata refreshed in
    /// between.
    pub(crate) async fn with_retries<T, F>(
        &self,
        what: &'static str,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let timeout_ms = self.config.api_timeout_ms;
        let deadline = Instant::now() + Duration::from_millis(timeout_ms.into());
        let mut failures = 0;
        loop {
            let error = match attempt().await {
                Err(error) if error.is_retriable() => error,
                done => return done,
            };
            let wait = self.retry_wait(failures);
            failures += 1;
            if Instant::now() + wait >= deadline {
                return Err(ClientError::ApiTimeout { what, timeout_ms, last: error.to_string() });
            }
            self.refresh_soon();
            tokio::time::sleep(wait).await;
        }
    }

    /// How long to wait after so many failures in a row.
    pub(crate) fn retry_wait(&self, failures: u32) -> Duration {
        backoff(self.config.retry_backoff_ms, self.config.retry_backoff_max_ms, failures)
    }
}

/// Makes room for a topic and takes it in; `true` if it was not there.
fn admit(tracked: &mut BTreeMap<Str, Tracked>, topic: &str) -> bool {
    if tracked.contains_key(topic) {
        return false;
    }
    if tracked.len() >= TRACKED_TOPICS_MAX {
        // Any name can be asked for; names that lead nowhere must not push out those that do.
        tracked.retain(|_, entry| entry.missing_since.is_none());
        if tracked.len() >= TRACKED_TOPICS_MAX {
            tracing::warn!(topic, topics = tracked.len(), "too many topics in use");
            return false;
        }
    }
    tracked.insert(Str::copy_from(topic), Tracked::default());
    true
}

impl ConnectionSlot {
    async fn get(
        &self,
        transport: &dyn Transport,
        config: &ClientConfig,
    ) -> Result<Arc<Connection>, ClientError> {
        // Those who come while one connects wait here and share its connection.
        let mut state = self.state.lock().await;
        if let Some(connection) = state.connection.as_ref().filter(|open| open.is_open()) {
            return Ok(Arc::clone(connection));
        }
        state.connection = None;
        if let Some(retry_at) = state.retry_at {
            tokio::time::sleep_until(retry_at).await;
        }
        // Boxed: it runs seldom, and every call's future would carry its state, so deep that a caller's compiler gives up.
        match Box::pin(Connection::open(self.endpoint.clone(), transport, config)).await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                *state =
                    SlotState { connection: Some(Arc::clone(&connection)), ..SlotState::default() };
                Ok(connection)
            }
            Err(error) => {
                let wait = backoff(
                    config.reconnect_backoff_ms,
                    config.reconnect_backoff_max_ms,
                    state.failures,
                );
                state.failures = state.failures.saturating_add(1);
                state.retry_at = Some(Instant::now() + wait);
                Err(error)
            }
        }
    }
}

/// Doubling from `first_ms` up to `max_ms`, plus or minus 20 % so that clients do not come in step.
fn backoff(first_ms: u32, max_ms: u32, failures: u32) -> Duration {
    let ms = (u64::from(first_ms) << failures.min(16)).min(max_ms.into());
    let jitter_percent = 80 + random() % 41;
    Duration::from_millis(ms * jitter_percent / 100)
}

/// A random number; the standard library's hash keys are random, so no dependency is needed.
pub(crate) fn random() -> u64 {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    RandomState::new().hash_one(CALLS.fetch_add(1, Ordering::Relaxed))
}

fn parse_bootstrap(addresses: &[String]) -> Result<Vec<Endpoint>, ClientError> {
    let parse = |address: &String| {
        let (host, port) = address.trim().rsplit_once(':')?;
        // An IPv6 address stands in brackets before its port.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().ok()?;
        (!host.is_empty()).then(|| Endpoint { host: Str::copy_from(host), port })
    };
    let endpoints: Result<Vec<Endpoint>, ClientError> = addresses
        .iter()
        .map(|address| {
            parse(address).ok_or_else(|| ClientError::Config {
                key: "bootstrap",
                reason: format!("{address:?} is not host:port"),
            })
        })
        .collect();
    match endpoints {
        Ok(list) if list.is_empty() => {
            Err(ClientError::Config { key: "bootstrap", reason: "is empty".to_owned() })
        }
        other => other,
    }
}

fn coordinator(
    response: FindCoordinatorResponse,
) -> (ErrorCode, Option<String>, NodeId, Option<Endpoint>) {
    let (code, message, node, host, port) = match response.coordinators.into_iter().next() {
        Some(found) => {
            (found.error_code, found.error_message, found.node_id, found.host, found.port)
        }
        None => (
            response.error_code,
            response.error_message,
            response.node_id,
            response.host,
            response.port,
        ),
    };
    let message = message.filter(|text| !text.is_empty()).map(String::from);
    let endpoint = u16::try_from(port).ok().map(|port| Endpoint { host, port });
    (ErrorCode::from_code(code), message, NodeId(node), endpoint)
}

/// Refreshes when asked, and when metadata is old, until the client is dropped.
async fn keep_metadata_fresh(client: Weak<Client>) {
    let mut failures = 0;
    let mut refreshed_at = Instant::now();
    loop {
        let Some(strong) = client.upgrade() else { return };
        let mut max_age = Duration::from_millis(strong.config.metadata_max_age_ms.into());
        if strong.misses_topics() {
            max_age = max_age.min(MISSING_LOOK);
        }
        // The strong reference must not keep the client alive while this waits.
        let waited = wait_for_refresh(strong, max_age).await;
        let Some(strong) = client.upgrade() else { return };
        if !waited {
            continue;
        }
        match strong.refresh().await {
            Ok(()) => {
                failures = 0;
                refreshed_at = Instant::now();
            }
            Err(error) => {
                tracing::debug!(%error, "metadata refresh failed");
                failures += 1;
                let rebootstrap_after =
                    Duration::from_millis(strong.config.rebootstrap_after_ms.into());
                // Since the first of the failures: before it nobody asked.
                if failures == 1 {
                    refreshed_at = Instant::now();
                } else if refreshed_at.elapsed() >= rebootstrap_after {
                    refreshed_at = Instant::now();
                    strong.rebootstrap();
                }
                strong.refresh_soon();
            }
        }
        // No storm: however many ask, refreshes keep this distance.
        let pause = strong.retry_wait(failures);
        drop(strong);
        tokio::time::sleep(pause).await;
    }
}

/// `true` when a refresh is due, `false` to look again whether the client still lives.
async fn wait_for_refresh(client: Arc<Client>, max_age: Duration) -> bool {
    const LOOK_AGAIN: Duration = Duration::from_secs(1);
    let due = Instant::now() + max_age;
    let weak = Arc::downgrade(&client);
    let mut held = Some(client);
    loop {
        let Some(strong) = held.take().or_else(|| weak.upgrade()) else { return false };
        tokio::select! {
            () = strong.refresh_wanted.notified() => return true,
            () = tokio::time::sleep_until(due) => return true,
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
        // The last user may have gone meanwhile: then this was the last reference.
        if Arc::strong_count(&strong) == 1 {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_parse_and_bad_ones_are_named() {
        let parsed = parse_bootstrap(&["a:1".to_owned(), " [::1]:9092 ".to_owned()]).unwrap();
        assert_eq!(parsed[0].to_string(), "a:1");
        assert_eq!((&*parsed[1].host, parsed[1].port), ("::1", 9092));
        for bad in ["a", "a:", ":1", "a:x", "a:70000"] {
            let error = parse_bootstrap(&[bad.to_owned()]).unwrap_err();
            assert_eq!(error.code(), "WEIR-0408", "{bad}");
            assert!(error.to_string().contains(bad));
        }
        assert!(parse_bootstrap(&[]).is_err());
    }

    #[test]
    fn backoff_doubles_up_to_its_bound_with_jitter() {
        for (failures, ms) in [(0, 50), (1, 100), (2, 200), (10, 1_000), (60, 1_000)] {
            for _ in 0..20 {
                let wait = backoff(50, 1_000, failures).as_millis();
                assert!((ms * 8 / 10..=ms * 12 / 10).contains(&wait), "{failures}: {wait}");
            }
        }
    }
}

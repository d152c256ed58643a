//! A scripted Kafka cluster in memory: a few nodes, topics with leaders, an idempotent log.
//!
//! What a test can do to it: move leaders, and per produce request of a partition one [`Fault`]. The
//! log keeps Kafka's rules for idempotent producers, strictly: an unknown producer must begin at
//! sequence 0. So whatever a client does wrong shows as a refusal, a duplicate or a gap.

mod group;
mod log;
mod serve;
mod transaction;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use weir_client::{Client, ClientConfig, ClientError, MemTransport};
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::Uuid;
use weir_protocol::ApiKey;

pub(crate) use group::{FakeGroup, SeenCommit};
pub(crate) use log::{Entry, PartitionLog};
pub(crate) use transaction::{FakeTransactions, TxnFault};

/// What happens to one produce of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Refused, not written.
    Refuse(ErrorCode),
    /// The leader moves to the next node; refused as not leader.
    MoveLeader,
    /// The connection ends, nothing written.
    CutBefore,
    /// Written, and the connection ends before the answer.
    CutAfter,
    /// Written, but answered with this code.
    WriteAndRefuse(ErrorCode),
    /// Handled after so long; what comes behind on the connection waits.
    Delay(Duration),
    /// Never answered, and nothing more is read; the connection stays open.
    Stall,
    /// Never answered; the connection stays open.
    Swallow,
}

/// Chooses the fault of a produce: topic, partition, how many produces the partition has seen.
pub(crate) type Script = Box<dyn FnMut(&str, i32, usize) -> Fault + Send>;

/// Changes a frame before it is sent.
pub(crate) type Mangle = Box<dyn FnMut(&mut Vec<u8>) + Send>;

pub(crate) struct State {
    pub(crate) topics: BTreeMap<String, Vec<FakePartition>>,
    pub(crate) script: Script,
    pub(crate) node_count: i32,
    pub(crate) next_producer_id: i64,
    /// Produce requests by node, as (topic, partition) lists.
    pub(crate) produces: Vec<(i32, Vec<(String, i32)>)>,
    /// New connections are made, and get no answer.
    pub(crate) mute_new: bool,
    /// Nobody is given a producer id.
    pub(crate) hold_ids: bool,
    /// Nodes that refuse connections.
    pub(crate) down: Vec<i32>,
    pub(crate) connects: usize,
    /// Connections whose other end is there still.
    pub(crate) open_connections: usize,
    pub(crate) group: FakeGroup,
    pub(crate) transactions: FakeTransactions,
    /// What FindCoordinator says.
    pub(crate) coordinator_error: ErrorCode,
    /// APIs that the nodes do not have.
    pub(crate) without: Vec<ApiKey>,
    /// ApiVersions is answered with UNSUPPORTED_VERSION above this version.
    pub(crate) api_versions_max: i16,
    /// Raw bytes sent instead of the next answer.
    pub(crate) garbage: Option<Vec<u8>>,
    pub(crate) auto_create_partitions: Option<i32>,
    /// What is done to the frames of produce answers.
    pub(crate) mangle: Option<Mangle>,
    /// What produce answers say of the quota.
    pub(crate) throttle_ms: i32,
    /// `max.message.bytes` of every topic.
    pub(crate) batch_bytes_max: usize,
    pub(crate) metadata_requests: usize,
    pub(crate) fetches: usize,
    /// ListOffsets is answered so long after it was looked up.
    pub(crate) list_delay: Duration,
}

pub(crate) struct FakePartition {
    pub(crate) leader: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) log: PartitionLog,
    pub(crate) produces: usize,
    /// What ListOffsets answers for it.
    pub(crate) list_refusal: Option<ErrorCode>,
}

/// A handle on the cluster; clones are the same cluster.
#[derive(Clone)]
pub(crate) struct FakeCluster {
    state: Arc<Mutex<State>>,
}

impl FakeCluster {
    /// So many nodes, ids from 1, with no topic. Produces succeed until a script says else.
    pub(crate) fn new(node_count: i32) -> Self {
        let state = State {
            topics: BTreeMap::new(),
            script: Box::new(|_, _, _| Fault::None),
            node_count,
            next_producer_id: 1_000,
            produces: Vec::new(),
            mute_new: false,
            hold_ids: false,
            down: Vec::new(),
            connects: 0,
            open_connections: 0,
            group: FakeGroup::default(),
            transactions: FakeTransactions::default(),
            coordinator_error: ErrorCode::None,
            without: Vec::new(),
            api_versions_max: 4,
            garbage: None,
            auto_create_partitions: None,
            mangle: None,
            throttle_ms: 0,
            batch_bytes_max: usize::MAX,
            metadata_requests: 0,
            fetches: 0,
            list_delay: Duration::ZERO,
        };
        FakeCluster { state: Arc::new(Mutex::new(state)) }
    }

    pub(crate) fn with_topic(self, name: &str, partitions: i32) -> Self {
        self.state().add_topic(name, partitions);
        self
    }

    pub(crate) fn script(&self, script: impl FnMut(&str, i32, usize) -> Fault + Send + 'static) {
        self.state().script = Box::new(script);
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What was written to a partition.
    pub(crate) fn entries(&self, topic: &str, partition: usize) -> Vec<Entry> {
        self.state().topics[topic][partition].log.entries().to_vec()
    }

    /// Values of a partition, as text.
    pub(crate) fn values(&self, topic: &str, partition: usize) -> Vec<String> {
        self.entries(topic, partition).into_iter().map(|entry| entry.value).collect()
    }

    pub(crate) fn transport(&self) -> Arc<MemTransport> {
        let cluster = self.clone();
        Arc::new(MemTransport::new(move |host, _port, stream| {
            let node: i32 = host.trim_start_matches("node").parse().map_err(io::Error::other)?;
            let mut state = cluster.state();
            if state.down.contains(&node) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            state.connects += 1;
            state.open_connections += 1;
            drop(state);
            let cluster = cluster.clone();
            tokio::spawn(async move {
                serve::serve(cluster.clone(), node, stream).await;
                cluster.state().open_connections -= 1;
            });
            Ok(())
        }))
    }

    pub(crate) async fn client(&self) -> Arc<Client> {
        self.client_with(|_| {}).await.unwrap()
    }

    pub(crate) async fn client_with(
        &self,
        edit: impl FnOnce(&mut ClientConfig),
    ) -> Result<Arc<Client>, ClientError> {
        let mut config = ClientConfig::new(["node1:9092"]);
        edit(&mut config);
        Client::connect(config, self.transport()).await
    }
}

impl State {
    fn add_topic(&mut self, name: &str, partitions: i32) {
        let node_count = self.node_count;
        let partition = |number| FakePartition {
            leader: number % node_count + 1,
            leader_epoch: 1,
            log: PartitionLog::default(),
            produces: 0,
            list_refusal: None,
        };
        self.topics.insert(name.to_owned(), (0..partitions).map(partition).collect());
    }

    pub(crate) fn grow_topic(&mut self, name: &str, more: i32) {
        let node_count = self.node_count;
        let partitions = self.topics.get_mut(name).unwrap();
        for _ in 0..more {
            let number = i32::try_from(partitions.len()).unwrap();
            partitions.push(FakePartition {
                leader: number % node_count + 1,
                leader_epoch: 1,
                log: PartitionLog::default(),
                produces: 0,
                list_refusal: None,
            });
        }
    }

    pub(crate) fn topic_id(&self, name: &str) -> Uuid {
        let place = self.topics.keys().position(|known| known == name);
        place.map_or(Uuid::ZERO, |place| Uuid([place as u8 + 1; 16]))
    }

    pub(crate) fn topic_of_id(&self, id: Uuid) -> Option<String> {
        self.topics.keys().find(|name| self.topic_id(name) == id).cloned()
    }

    pub(crate) fn move_leader(&mut self, topic: &str, partition: i32) {
        let node_count = self.node_count;
        let partition = &mut self.topics.get_mut(topic).unwrap()[partition as usize];
        partition.leader = partition.leader % node_count + 1;
        partition.leader_epoch += 1;
    }
}

//! The shell: connections, the commit thread, the upkeep thread, the timer, around one [`Broker`] behind a mutex.
//!
//! Connection tasks lock the core themselves; there is no channel on the way in. What is dear stands outside the lock:
//! decoding and batch checks before it, reading files and encoding after it, syncs and upkeep on threads of their own.

mod admin;
mod commits;
mod connection;
mod endpoint;
mod file_limit;
mod frame_reader;
mod jump;
mod login;
mod memory;
mod pace;
mod recovery_log;
mod registry;
mod repeats;
mod shared;
mod tls;
mod upkeep;
mod users;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{watch, OwnedSemaphorePermit};
use tokio::task::{JoinHandle, JoinSet};
use weir_log::{Disk, FileDisk};
use weir_protocol::{Clock, ErrorCode, PartitionId, Str};

use crate::broker::Broker;
use crate::config::BrokerConfig;
use crate::dynamic_configs::ConnectionLimits;
use crate::effects::ConnId;
use crate::error::BrokerError;
use crate::scram_users;
use crate::security::SecurityProtocol;
use crate::stats::BrokerStats;
use admin::AdminSocket;
use commits::CommitThread;
pub use connection::ConnectionEnd;
use endpoint::Endpoint;
pub use file_limit::raise as raise_file_limit;
use login::Login;
use pace::{Rates, Turn};
use shared::{Registered, Shared};
use tls::HandshakeEnd;
use upkeep::UpkeepThread;

/// How long connections may take to get their answers out when the broker stops.
const DRAIN_MS: u64 = 400;
/// Pause after an accept that failed, which is most often "too many open files".
const ACCEPT_PAUSE_MS: u64 = 50;
/// The longest sleep of the timer, in case the machine's clock is set.
const TIMER_MS_MAX: i64 = 1_000;

/// A broker with its listener.
#[derive(Debug)]
pub struct BrokerServer {
    shared: Arc<Shared>,
    /// The first is that of [`BrokerConfig::listen`].
    endpoints: Vec<Arc<Endpoint>>,
    stop: watch::Sender<bool>,
    accepting: Vec<JoinHandle<JoinSet<()>>>,
    timer: JoinHandle<()>,
    commits: CommitThread,
    upkeep: UpkeepThread,
    admin: Option<AdminSocket>,
}

impl BrokerServer {
    /// Opens the data directory and listens.
    ///
    /// # Errors
    /// If the directory cannot be opened, or the address not be listened on; the error has the address.
    pub async fn start(config: BrokerConfig, clock: Arc<dyn Clock>) -> Result<Self, BrokerError> {
        let mut server = Self::start_on(config, Arc::new(FileDisk), clock).await?;
        server.admin = AdminSocket::start(server.shared.clone(), server.stop.subscribe());
        Ok(server)
    }

    /// As [`BrokerServer::start`], on another disk, and without the admin socket.
    ///
    /// # Errors
    /// As [`BrokerServer::start`].
    pub async fn start_on(
        mut config: BrokerConfig,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BrokerError> {
        // The addresses first: whoever finds one taken has not touched the directory.
        let bound = endpoint::bind_all(&config).await?;
        let endpoints: Vec<Arc<Endpoint>> =
            bound.iter().map(|(_, endpoint)| endpoint.clone()).collect();
        config.listen = endpoints[0].local_addr;
        let files = file_limit::for_connections(file_limit::raise(), config.other_connections_max);
        config.connections_max = file_limit::connections_max(config.connections_max, files);
        if config.recovery_watch.is_none() {
            config.recovery_watch = recovery_log::watch();
        }
        let mut broker = Broker::open(config.clone(), disk, seed(), clock.now())?;
        let mut secret = [0; scram_users::SECRET_BYTES];
        if !tls::fill_random(&mut secret) {
            return Err(BrokerError::Randomness);
        }
        broker.scram_users.give_secret(secret);
        let shared = Arc::new(Shared::new(broker, config, clock));
        let commits = CommitThread::start(shared.clone())?;
        let upkeep = match UpkeepThread::start(shared.clone()) {
            Ok(upkeep) => upkeep,
            Err(error) => {
                commits.stop();
                return Err(error);
            }
        };
        let (stop, stopped) = watch::channel(false);
        let timer = tokio::spawn(run_timer(shared.clone(), stopped.clone()));
        let accepting = bound
            .into_iter()
            .enumerate()
            .map(|(at, (socket, endpoint))| {
                let (shared, stopped) = (shared.clone(), stopped.clone());
                let door = Door { endpoint, is_paced: at > 0 || endpoints.len() == 1 };
                tokio::spawn(accept(socket, door, shared, stopped))
            })
            .collect();
        Ok(Self { shared, endpoints, stop, accepting, timer, commits, upkeep, admin: None })
    }

    /// What [`BrokerServer::start`] would refuse of a configuration, without starting anything: it looks at certificates, not
    /// at addresses and the data directory.
    ///
    /// # Errors
    /// As [`BrokerServer::start`].
    pub fn check(config: &BrokerConfig) -> Result<(), BrokerError> {
        crate::broker::check_config(config)?;
        endpoint::check_exposure(config)?;
        config.listeners.iter().filter_map(|one| one.tls.as_ref()).try_for_each(tls::check)
    }

    /// Where it listens for those of this machine ([`BrokerConfig::listen`]).
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.endpoints[0].local_addr
    }

    /// Name, address and protocol of every listener, that of [`BrokerServer::local_addr`] first.
    pub fn listeners(&self) -> impl Iterator<Item = (&str, SocketAddr, SecurityProtocol)> {
        self.endpoints.iter().map(|one| (one.name.as_str(), one.local_addr, one.protocol))
    }

    /// What there is.
    #[must_use]
    pub fn stats(&self) -> BrokerStats {
        self.shared.stats()
    }

    /// Cleans a compacted partition soon, however little of it is dirty. Returns whether it is compacted.
    ///
    /// # Errors
    /// If there is no such topic or partition, or it has not been written to.
    pub fn request_clean(&self, topic: &str, partition: i32) -> Result<bool, ErrorCode> {
        self.shared.request_clean(topic, PartitionId(partition))
    }

    /// Serves a connection that is no socket of this listener: one end of a pipe in memory. Ends with the connection.
    pub async fn serve_connection<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &self,
        stream: S,
    ) -> ConnectionEnd {
        let (reader, writer) = tokio::io::split(stream);
        let (shared, stopped) = (self.shared.clone(), self.stop.subscribe());
        let address = self.local_addr();
        let id = ConnId(shared.next_connection());
        let connection = self.endpoints[0].connection(id, address.ip(), address);
        let registered = shared.register(connection.id, None);
        connection::serve(shared, connection, registered, None, reader, writer, stopped).await
    }

    /// Stops: no new connections, answers out, a last commit, the mark of a clean stop.
    ///
    /// # Errors
    /// If the last commit fails; the next start then recovers.
    pub async fn shutdown(self) -> Result<(), BrokerError> {
        // No receiver left means that everything has ended already.
        let _ = self.stop.send(true);
        if let Some(admin) = self.admin {
            admin.stop();
        }
        let deadline = tokio::time::Instant::now() + Duration::from_millis(DRAIN_MS + 100);
        for accepting in self.accepting {
            let Ok(mut connections) = accepting.await else { continue };
            let drained = async { while connections.join_next().await.is_some() {} };
            if tokio::time::timeout_at(deadline, drained).await.is_err() {
                connections.shutdown().await;
            }
        }
        self.timer.abort();
        self.upkeep.stop();
        self.commits.stop();
        self.shared.close()
    }
}

/// Different at each start: the hasher keys of the standard library come from the system's randomness.
fn seed() -> u128 {
    use std::hash::{BuildHasher, RandomState};
    let part = || u128::from(RandomState::new().hash_one(std::process::id()));
    (part() << 64) | part()
}

/// An endpoint, and whether the rate of all new connections counts for it. It does not for the first where there are
/// others: weir's own clients come there, as to Kafka's listener between brokers.
struct Door {
    endpoint: Arc<Endpoint>,
    is_paced: bool,
}

async fn accept(
    listener: TcpListener,
    door: Door,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
) -> JoinSet<()> {
    let Door { endpoint, is_paced } = door;
    let mut connections = JoinSet::new();
    if let Some(tls) = &endpoint.tls {
        // Ends when the broker stops.
        connections.spawn(tls.clone().watch(endpoint.name.clone(), stopped.clone()));
    }
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => return connections,
        };
        // Those that have ended.
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer)) => {
                let limits = shared.connection_limits(peer.ip());
                match pace(&shared, peer, &limits, is_paced) {
                    Turn::Now => {}
                    Turn::After(wait) => tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        _ = stopped.wait_for(|stopped| *stopped) => return connections,
                    },
                    Turn::Never(after) => {
                        let held = shared.held_back.clone().try_acquire_owned().ok();
                        // Without a place to wait in, it is closed at once.
                        if let Some(held) = held {
                            connections.spawn(hold_back(stream, after, held, stopped.clone()));
                        }
                        continue;
                    }
                }
                if let Some(registered) = admit(&shared, peer, &limits) {
                    let id = registered.id;
                    let guest = Guest { registered, stream, peer };
                    let served = guest.serve(shared.clone(), endpoint.clone(), stopped.clone());
                    shared.registry.set_task(id, connections.spawn(served));
                }
            }
            Err(error) => {
                if shared.is_news("accept failed") {
                    tracing::warn!(%error, "accept failed");
                }
                tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            }
        }
    }
}

/// Whether a new connection comes too fast.
fn pace(shared: &Shared, peer: SocketAddr, limits: &ConnectionLimits, is_paced: bool) -> Turn {
    let all = limits.rate_max.filter(|_| is_paced);
    let rates = Rates { all, address: limits.ip_rate_max };
    let turn = shared.turn(peer.ip().to_canonical(), rates);
    match turn {
        Turn::Now => {}
        Turn::After(_) if shared.is_news("connections come faster than they may") => {
            tracing::warn!(%peer, rate_max = all, "connections come faster than they may, and wait");
        }
        Turn::Never(_)
            if shared.is_news("connections of one address come faster than they may") =>
        {
            tracing::warn!(%peer, rate_max = limits.ip_rate_max, "connection refused, they come faster from its address than they may");
        }
        Turn::After(_) | Turn::Never(_) => {}
    }
    turn
}

/// Closes a connection that came too fast, a little later: its client would be back at once.
async fn hold_back(
    stream: TcpStream,
    after: Duration,
    held: OwnedSemaphorePermit,
    mut stopped: watch::Receiver<bool>,
) {
    tokio::select! {
        () = tokio::time::sleep(after) => {}
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    drop((stream, held));
}

/// Gives a new connection a place, if there is one or can be made.
fn admit(shared: &Arc<Shared>, peer: SocketAddr, limits: &ConnectionLimits) -> Option<Registered> {
    let ip = peer.ip().to_canonical();
    let connections_max = limits.connections_max;
    if let Some(max) = limits.per_ip_max {
        if shared.registry.count_of(ip) >= max {
            if shared.is_news("too many connections from one address") {
                tracing::warn!(%peer, max, "connection refused, there are too many from its address");
            }
            return None;
        }
    }
    if shared.registry.len() >= connections_max {
        if shared.registry.make_room(connections_max, shared.steady_ms()) == 0 {
            if shared.is_news("too many connections") {
                tracing::warn!(%peer, max = connections_max, "connection refused, there are too many and none is idle");
            }
            return None;
        }
        if shared.is_news("idle connections made room for others") {
            tracing::warn!(%peer, max = connections_max, "there are too many connections, an idle one was closed for a new one");
        }
    }
    Some(shared.register(ConnId(shared.next_connection()), Some(ip)))
}

/// Somebody who has been given a place.
struct Guest {
    registered: Registered,
    stream: TcpStream,
    peer: SocketAddr,
}

impl Guest {
    async fn serve(
        self,
        shared: Arc<Shared>,
        endpoint: Arc<Endpoint>,
        stopped: watch::Receiver<bool>,
    ) {
        let peer = self.peer;
        let end = self.serve_to_the_end(shared.clone(), &endpoint, stopped).await;
        let listener = endpoint.name.as_str();
        match end.reason() {
            Some(reason) if shared.is_news(reason) => {
                tracing::warn!(listener, %peer, reason = %end, "connection closed");
            }
            _ => tracing::debug!(listener, %peer, reason = %end, "connection ended"),
        }
    }

    async fn serve_to_the_end(
        self,
        shared: Arc<Shared>,
        endpoint: &Endpoint,
        mut stopped: watch::Receiver<bool>,
    ) -> ConnectionEnd {
        let Self { registered, stream, peer } = self;
        let patience = Duration::from_millis(shared.config.authentication_ms_max);
        let deadline = tokio::time::Instant::now() + patience;
        // Answers are written whole; waiting for more (Nagle) would only add its delay. Failing that, they come later.
        let _ = stream.set_nodelay(true);
        let local = match stream.local_addr() {
            Ok(local) => local,
            Err(error) => return ConnectionEnd::Io(error),
        };
        let mut connection = endpoint.connection(registered.id, peer.ip(), local);
        let login = endpoint.authenticator().map(|one| Login::new(one, deadline));
        let Some(tls) = &endpoint.tls else {
            let (reader, writer) = stream.into_split();
            return connection::serve(
                shared, connection, registered, login, reader, writer, stopped,
            )
            .await;
        };
        let shaken = tokio::select! {
            shaken = tokio::time::timeout_at(deadline, tls.accept(stream)) => shaken,
            _ = stopped.wait_for(|stopped| *stopped) => return ConnectionEnd::Stopped,
        };
        let stream = match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(HandshakeEnd::NotTls)) => return ConnectionEnd::NotTls,
            Ok(Err(HandshakeEnd::Closed)) => return ConnectionEnd::Closed,
            Ok(Err(HandshakeEnd::Refused(error))) => return ConnectionEnd::Tls(error.to_string()),
            Err(_) => return ConnectionEnd::NoLogin,
        };
        if login.is_none() {
            connection.principal = Str::from(tls::principal(&stream));
        }
        let (reader, writer) = tokio::io::split(stream);
        connection::serve(shared, connection, registered, login, reader, writer, stopped).await
    }
}

/// Wakes the core when something is due.
async fn run_timer(shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    loop {
        let Some(left_ms) = shared.tick() else { return };
        shared.log_repeats();
        let sleep_ms = left_ms.clamp(1, TIMER_MS_MAX);
        let sleep = tokio::time::sleep(Duration::from_millis(sleep_ms.unsigned_abs()));
        tokio::select! {
            () = sleep => {}
            () = shared.earlier_deadline.notified() => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_log::MemDisk;
    use weir_protocol::ManualClock;

    use super::*;

    fn shared(config: BrokerConfig) -> Arc<Shared> {
        let clock = ManualClock::new(weir_protocol::TimestampMs(0));
        let broker =
            Broker::open(config.clone(), Arc::new(MemDisk::new()), 1, clock.now()).unwrap();
        Arc::new(Shared::new(broker, config, Arc::new(clock)))
    }

    #[test]
    fn an_address_has_its_limit_but_this_machine_has_none() {
        let data_dir = std::path::PathBuf::from("/d");
        let config =
            BrokerConfig { data_dir, connections_per_ip_max: Some(2), ..BrokerConfig::default() };
        let shared = shared(config);
        let admit = |shared: &Arc<Shared>, peer: SocketAddr| {
            admit(shared, peer, &shared.connection_limits(peer.ip()))
        };
        let peer = |text: &str| text.parse::<SocketAddr>().unwrap();
        let one = admit(&shared, peer("10.0.0.1:1"));
        let two = admit(&shared, peer("[::ffff:10.0.0.1]:2"));
        assert!(one.is_some() && two.is_some());
        assert!(admit(&shared, peer("10.0.0.1:3")).is_none());
        let other = admit(&shared, peer("10.0.0.2:1"));
        assert!(other.is_some());
        let ours: Vec<_> =
            (1..9).map(|port| admit(&shared, peer(&format!("127.0.0.1:{port}")))).collect();
        assert!(ours.iter().all(Option::is_some));
        drop(one);
        assert!(admit(&shared, peer("10.0.0.1:3")).is_some(), "a place is free again");
    }
}

//! [`Endpoint`]: one address that is listened on, and what its clients must do before they are served.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpListener;
use weir_protocol::Str;

use super::tls::Tls;
use crate::config::BrokerConfig;
use crate::effects::{ConnId, Connection};
use crate::error::BrokerError;
use crate::security::authenticator::{Authenticator, SaslOptions};
use crate::security::{ListenerConfig, SecurityProtocol, ANONYMOUS};

/// One address that is listened on.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// What people call it.
    pub(super) name: String,
    pub(super) local_addr: SocketAddr,
    pub(super) protocol: SecurityProtocol,
    advertised: Option<(String, u16)>,
    sasl: Option<SaslOptions>,
    pub(super) tls: Option<Arc<Tls>>,
}

/// The name of [`BrokerConfig::listen`].
pub(super) const MAIN: &str = "main";

/// Binds every listener of the configuration; the first is that of [`BrokerConfig::listen`].
pub(super) async fn bind_all(
    config: &BrokerConfig,
) -> Result<Vec<(TcpListener, Arc<Endpoint>)>, BrokerError> {
    check_exposure(config)?;
    let mut bound = Vec::with_capacity(1 + config.listeners.len());
    bound.push(bind(&main_listener(config), config).await?);
    for listener in &config.listeners {
        bound.push(bind(listener, config).await?);
    }
    Ok(bound)
}

fn main_listener(config: &BrokerConfig) -> ListenerConfig {
    ListenerConfig {
        name: MAIN.to_owned(),
        listen: config.listen,
        advertised: config.advertised.clone(),
        protocol: SecurityProtocol::Plaintext,
        sasl_mechanisms: Vec::new(),
        tls: None,
    }
}

/// Whether others than this machine reach what is not for them.
pub(super) fn check_exposure(config: &BrokerConfig) -> Result<(), BrokerError> {
    let main = main_listener(config);
    for listener in std::iter::once(&main).chain(&config.listeners) {
        if let (Some(why), false) = (listener.exposure(), config.insecure_listen) {
            return Err(BrokerError::InsecureListen { address: listener.listen, why });
        }
    }
    Ok(())
}

async fn bind(
    listener: &ListenerConfig,
    config: &BrokerConfig,
) -> Result<(TcpListener, Arc<Endpoint>), BrokerError> {
    let tls = listener.tls.as_ref().map(Tls::load).transpose()?;
    let failed = |source| BrokerError::Bind { address: listener.listen, source };
    let socket = TcpListener::bind(listener.listen).await.map_err(failed)?;
    let local_addr = socket.local_addr().map_err(failed)?;
    let sasl = listener.protocol.has_sasl().then(|| SaslOptions {
        mechanisms: listener.sasl_mechanisms.clone(),
        session_ms_max: config.session_ms_max,
    });
    if let Some(why) = listener.exposure() {
        tracing::warn!(listener = listener.name, address = %local_addr, why, "this address is open to other machines");
    }
    let endpoint = Endpoint {
        name: listener.name.clone(),
        local_addr,
        protocol: listener.protocol,
        advertised: listener.advertised.clone(),
        sasl,
        tls,
    };
    Ok((socket, Arc::new(endpoint)))
}

impl Endpoint {
    /// A new connection: clients are told to come back to where they came to, unless the configuration says otherwise.
    pub(super) fn connection(&self, id: ConnId, peer: IpAddr, local: SocketAddr) -> Connection {
        let advertised = match &self.advertised {
            Some((host, port)) => (Str::copy_from(host), *port),
            None => (Str::from(local.ip().to_canonical().to_string()), local.port()),
        };
        Connection {
            id,
            client_host: Str::from(format!("/{}", peer.to_canonical())),
            advertised,
            principal: Str::from_static(ANONYMOUS),
        }
    }

    /// What a new connection must pass; `None`: whoever is here may ask.
    pub(super) fn authenticator(&self) -> Option<Authenticator> {
        self.sasl.clone().map(Authenticator::new)
    }
}

//! API skeleton, being filled in.
use std::sync::Arc;
use crate::config::ClientConfig;
use crate::error::ClientError;
use crate::transport::Transport;

/// Metadata and connections, shared by producers, consumers and admin calls.
#[derive(Debug)]
pub struct Client {}
impl Client {
    /// Connects to the first bootstrap broker that answers and learns the cluster from it.
    pub async fn connect(config: ClientConfig, transport: Arc<dyn Transport>) -> Result<Arc<Client>, ClientError> { let _ = (config, transport); todo!() }
    /// Over TCP.
    pub async fn connect_tcp(config: ClientConfig) -> Result<Arc<Client>, ClientError> { Self::connect(config, Arc::new(crate::TcpTransport)).await }
    /// The settings.
    pub fn config(&self) -> &ClientConfig { todo!() }
    /// Whether a broker of the cluster can be reached now (asks for metadata).
    pub async fn ping(&self) -> Result<(), ClientError> { todo!() }
}

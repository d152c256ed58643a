//! [`Tls`]: the certificate of a listener, and TLS connections under it.
//!
//! Certificate and key are read again when their files change, so that one that is renewed needs no restart; those that
//! cannot be used are told of in the log, and the old ones stay. Connections keep what they began with.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::rustls::crypto::{ring, CryptoProvider};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{Error, InvalidMessage, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;
use tokio_rustls::TlsAcceptor;

use crate::error::BrokerError;
use crate::security::{subject, ClientAuth, TlsConfig, ANONYMOUS};

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// What tells one content of a file from another: its inode, size and time.
type Stamp = Option<(u64, u64, i64, i64)>;

/// The certificate of a listener.
#[derive(Debug)]
pub(super) struct Tls {
    config: TlsConfig,
    current: RwLock<Arc<ServerConfig>>,
}

/// Why there is no TLS connection.
#[derive(Debug)]
pub(super) enum HandshakeEnd {
    /// The client speaks something else.
    NotTls,
    /// It has gone.
    Closed,
    /// Something of the two sides does not fit, or a certificate is not valid.
    Refused(io::Error),
}

impl Tls {
    /// Reads the files.
    pub(super) fn load(config: &TlsConfig) -> Result<Arc<Self>, BrokerError> {
        let current = RwLock::new(Arc::new(server_config(config)?));
        Ok(Arc::new(Self { config: config.clone(), current }))
    }

    /// Makes a TLS connection. The caller bounds the time.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, HandshakeEnd> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        TlsAcceptor::from(current).accept(stream).await.map_err(|error| {
            match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
                Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
                    HandshakeEnd::NotTls
                }
                None => HandshakeEnd::Closed,
                Some(_) => HandshakeEnd::Refused(error),
            }
        })
    }

    /// Reads the files again whenever they change.
    pub(super) async fn watch(self: Arc<Self>, name: String, mut stopped: watch::Receiver<bool>) {
        let mut seen = self.stamps();
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
            let tls = self.clone();
            let looked = tokio::task::spawn_blocking(move || {
                let stamps = tls.stamps();
                let loaded = (stamps != seen).then(|| server_config(&tls.config));
                (stamps, loaded)
            });
            let Ok((stamps, loaded)) = looked.await else { return };
            seen = stamps;
            match loaded {
                None => {}
                Some(Ok(config)) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) =
                        Arc::new(config);
                    tracing::info!(listener = name, "the certificate was read again");
                }
                // Half of them may be written; when the rest is, they change again.
                Some(Err(error)) => {
                    tracing::warn!(listener = name, %error, "the changed certificate is not used");
                }
            }
        }
    }

    fn stamps(&self) -> [Stamp; 3] {
        let TlsConfig { certificate_file, key_file, client_ca_file, .. } = &self.config;
        let stamp = |path: &Path| -> Stamp {
            let file = std::fs::metadata(path).ok()?;
            Some((file.ino(), file.len(), file.mtime(), file.mtime_nsec()))
        };
        [stamp(certificate_file), stamp(key_file), client_ca_file.as_deref().and_then(stamp)]
    }
}

/// Who a client is by its certificate.
pub(super) fn principal(stream: &TlsStream<TcpStream>) -> String {
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let name = certificates.first().and_then(|certificate| subject::subject(certificate));
    name.map_or_else(|| ANONYMOUS.to_owned(), |name| format!("User:{name}"))
}

/// Whether the files can be used.
pub(super) fn check(config: &TlsConfig) -> Result<(), BrokerError> {
    server_config(config).map(|_| ())
}

/// Fills `bytes` with what nobody can foresee. Whether the system could.
pub(super) fn fill_random(bytes: &mut [u8]) -> bool {
    ring::default_provider().secure_random.fill(bytes).is_ok()
}

fn server_config(config: &TlsConfig) -> Result<ServerConfig, BrokerError> {
    let provider = Arc::new(ring::default_provider());
    let bad = |path: &Path, reason: String| BrokerError::Tls { file: path.to_owned(), reason };
    let chain = certificates(&config.certificate_file)?;
    let key = PrivateKeyDer::from_pem_file(&config.key_file)
        .map_err(|error| bad(&config.key_file, format!("no private key can be read: {error}")))?;
    // TLS 1.2 and 1.3, as `ssl.enabled.protocols` of Kafka.
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(&config.certificate_file, error.to_string()))?;
    let builder = match &config.client_ca_file {
        Some(file) if config.client_auth != ClientAuth::None => {
            let verifier = client_verifier(file, config.client_auth, provider);
            builder.with_client_cert_verifier(verifier?)
        }
        _ => builder.with_no_client_auth(),
    };
    builder
        .with_single_cert(chain, key)
        .map_err(|error| bad(&config.certificate_file, format!("it cannot be used: {error}")))
}

fn client_verifier(
    file: &Path,
    client_auth: ClientAuth,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn tokio_rustls::rustls::server::danger::ClientCertVerifier>, BrokerError> {
    let bad = |reason: String| BrokerError::Tls { file: file.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| bad(format!("no authority: {error}")))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match client_auth {
        ClientAuth::Required => builder,
        ClientAuth::Requested | ClientAuth::None => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| bad(error.to_string()))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, BrokerError> {
    let bad = |reason: String| BrokerError::Tls { file: file.to_owned(), reason };
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let found: Vec<_> =
        read.map_err(|error| bad(format!("no certificate can be read: {error}")))?;
    if found.is_empty() {
        return Err(bad("there is no certificate in it".to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tokio::net::TcpListener;
    use tokio_rustls::rustls::pki_types::ServerName;
    use tokio_rustls::rustls::ClientConfig;
    use tokio_rustls::TlsConnector;

    use super::*;

    fn file(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
    }

    /// Who a client with this certificate is.
    async fn principal_of(certificate: Option<&str>) -> String {
        let tls = Tls::load(&TlsConfig {
            certificate_file: file("server.pem"),
            key_file: file("server.key"),
            client_ca_file: Some(file("ca.pem")),
            client_auth: ClientAuth::Requested,
        })
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(file("ca.pem")).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match certificate {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let chain = certificates(&file(&format!("{name}.pem"))).unwrap();
                let key = PrivateKeyDer::from_pem_file(file(&format!("{name}.key"))).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let connecting = tokio::spawn(async move {
            let stream = TcpStream::connect(address).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
        });
        let (stream, _) = listener.accept().await.unwrap();
        let accepted = tls.accept(stream).await.unwrap();
        connecting.await.unwrap();
        principal(&accepted)
    }

    #[tokio::test]
    async fn a_client_is_who_its_certificate_says() {
        assert_eq!(principal_of(None).await, ANONYMOUS);
        let name = r"User:CN=pump-7,OU=\#Pümpen,L=Ulm+OU=Plant\;7,O=Acme\, Inc.,C=DE";
        assert_eq!(principal_of(Some("client")).await, name);
    }
}

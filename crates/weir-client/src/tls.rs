//! [`TlsTransport`]: TLS over TCP.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::error::ClientError;
use crate::security::TlsSettings;
use crate::transport::{BoxedRead, BoxedWrite, Connecting, Transport};

/// Where systems keep the authorities they trust, the first that is there.
const SYSTEM_CA_FILES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// TLS over TCP, without Nagle's delay.
#[derive(Clone)]
pub struct TlsTransport {
    connector: TlsConnector,
}

impl std::fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsTransport").finish_non_exhaustive()
    }
}

impl TlsTransport {
    /// Reads the files of the settings.
    ///
    /// # Errors
    /// [`ClientError::Config`] for a file that cannot be used.
    pub fn new(settings: &TlsSettings) -> Result<Self, ClientError> {
        let bad = |key, reason: String| ClientError::Config { key, reason };
        let file = match &settings.ca_file {
            Some(file) => file.as_path(),
            None => SYSTEM_CA_FILES
                .iter()
                .map(Path::new)
                .find(|file| file.exists())
                .ok_or_else(|| bad("ssl_ca_file", "the system has no authorities".to_owned()))?,
        };
        let mut roots = RootCertStore::empty();
        // Of a system's authorities some may be of a form that is not known.
        let (taken, _) = roots.add_parsable_certificates(certificates("ssl_ca_file", file)?);
        if taken == 0 {
            return Err(bad("ssl_ca_file", format!("{} has no authority", file.display())));
        }
        let builder =
            rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| bad("security_protocol", error.to_string()))?
                .with_root_certificates(roots);
        let config = match &settings.certificate {
            None => builder.with_no_client_auth(),
            Some(ours) => {
                let chain = certificates("ssl_certificate_file", &ours.certificate_file)?;
                let key = PrivateKeyDer::from_pem_file(&ours.key_file).map_err(|error| {
                    bad("ssl_key_file", format!("{}: {error}", ours.key_file.display()))
                })?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| bad("ssl_certificate_file", error.to_string()))?
            }
        };
        Ok(TlsTransport { connector: TlsConnector::from(Arc::new(config)) })
    }
}

fn certificates(
    key: &'static str,
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    read.map_err(|error| ClientError::Config {
        key,
        reason: format!("{}: {error}", file.display()),
    })
}

/// Fills `bytes` with what nobody can foresee. Whether the system could.
pub(crate) fn fill_random(bytes: &mut [u8]) -> bool {
    ring::default_provider().secure_random.fill(bytes).is_ok()
}

impl Transport for TlsTransport {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> Connecting<'a> {
        Box::pin(async move {
            let name = ServerName::try_from(host.to_owned())
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            let stream = self.connector.connect(name, stream).await?;
            let (read, write) = tokio::io::split(stream);
            Ok((Box::new(read) as BoxedRead, Box::new(write) as BoxedWrite))
        })
    }
}

//! What holds between this client and its brokers: TLS, and how it logs in.

use std::fmt;
use std::path::PathBuf;

use weir_protocol::scram::ScramMechanism;

/// What holds between this client and its brokers. Nothing, unless it is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Security {
    /// `security.protocol` with SSL: how certificates are checked.
    pub tls: Option<TlsSettings>,
    /// `security.protocol` with SASL: who we are.
    pub sasl: Option<SaslSettings>,
}

/// TLS 1.2 or 1.3. A broker's certificate must come from one of the authorities and name the host that was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// PEM: the authorities that certificates of brokers come from; `None`: those of the system.
    pub ca_file: Option<PathBuf>,
    /// PEM: our own certificate with the key in a file of its own, for brokers that ask for one.
    pub certificate: Option<ClientCertificate>,
}

/// A certificate of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// PEM: the certificate, and those between it and its authority.
    pub certificate_file: PathBuf,
    /// PEM: its private key.
    pub key_file: PathBuf,
}

/// How to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaslSettings {
    /// `sasl.mechanism`
    pub mechanism: SaslMechanism,
    /// Who we are.
    pub username: String,
    /// How we prove it.
    pub password: Password,
}

/// `sasl.mechanism`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaslMechanism {
    /// The password goes to the broker as it is: over TLS only, unless the network is trusted.
    Plain,
    /// A proof goes to the broker, and one comes back.
    Scram(ScramMechanism),
}

impl SaslMechanism {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::Scram(mechanism) => mechanism.name(),
        }
    }

    /// The mechanism of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "PLAIN" => Some(SaslMechanism::Plain),
            name => ScramMechanism::from_name(name).map(SaslMechanism::Scram),
        }
    }
}

/// A password. It is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Password(text.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

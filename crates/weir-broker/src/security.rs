//! Who may connect: listeners with their security, users from the configuration, and the two pure halves of a login.
//!
//! | module | what it holds |
//! |---|---|
//! | [`sasl`] | one exchange of PLAIN or SCRAM as a pure state machine |
//! | [`authenticator`] | what a connection may ask before, during and after its login |
//! | [`subject`] | the name in a client's certificate, as Kafka writes it |

pub mod authenticator;
pub mod sasl;
pub mod subject;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use weir_protocol::scram::ScramMechanism;

/// What nobody is asked for is anybody.
pub const ANONYMOUS: &str = "User:ANONYMOUS";

/// `security.protocol`: whether bytes are encrypted, and who must say who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecurityProtocol {
    /// Neither.
    Plaintext,
    /// TLS; certificates of clients as [`TlsConfig::client_auth`] says.
    Ssl,
    /// SASL, and every byte can be read on the way.
    SaslPlaintext,
    /// SASL over TLS.
    SaslSsl,
}

impl SecurityProtocol {
    /// All there are, by Kafka's names.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("PLAINTEXT", Self::Plaintext),
        ("SSL", Self::Ssl),
        ("SASL_PLAINTEXT", Self::SaslPlaintext),
        ("SASL_SSL", Self::SaslSsl),
    ];

    /// The protocol of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, protocol)| protocol)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }

    /// Whether clients log in.
    #[must_use]
    pub fn has_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }

    /// Whether bytes are encrypted.
    #[must_use]
    pub fn has_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }
}

/// How a client logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SaslMechanism {
    /// Name and password as they are (RFC 4616).
    Plain,
    /// A proof that the client knows the password (RFC 5802).
    Scram(ScramMechanism),
}

impl SaslMechanism {
    /// All there are.
    pub const ALL: [Self; 3] =
        [Self::Plain, Self::Scram(ScramMechanism::Sha256), Self::Scram(ScramMechanism::Sha512)];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Scram(mechanism) => mechanism.name(),
        }
    }

    /// The mechanism of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }
}

/// `ssl.client.auth`: what is asked of clients in the TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// Nothing.
    #[default]
    None,
    /// A certificate if the client has one; a bad one ends the handshake.
    Requested,
    /// A certificate.
    Required,
}

/// What a listener with TLS has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// PEM: the broker's certificate, and those between it and its authority.
    pub certificate_file: PathBuf,
    /// PEM: the private key of the first certificate.
    pub key_file: PathBuf,
    /// PEM: the authorities that certificates of clients must come from.
    pub client_ca_file: Option<PathBuf>,
    /// What is asked of clients.
    pub client_auth: ClientAuth,
}

/// A listener beside [`crate::BrokerConfig::listen`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    /// What people call it.
    pub name: String,
    /// Where to listen. Port 0 takes any.
    pub listen: SocketAddr,
    /// The address that its clients are told to come back to; `None`: the one they came to.
    pub advertised: Option<(String, u16)>,
    /// What holds between it and its clients.
    pub protocol: SecurityProtocol,
    /// `sasl.enabled.mechanisms`, in the order in which clients are told.
    pub sasl_mechanisms: Vec<SaslMechanism>,
    /// There if `protocol` has TLS.
    pub tls: Option<TlsConfig>,
}

impl ListenerConfig {
    /// Why others than this machine must not reach it, if they can: nobody would know who they are, or everybody on the way
    /// could read their passwords.
    #[must_use]
    pub fn exposure(&self) -> Option<&'static str> {
        if self.listen.ip().is_loopback() {
            return None;
        }
        match self.protocol {
            SecurityProtocol::Plaintext => Some("there is no authentication"),
            SecurityProtocol::Ssl => {
                let certified = self.tls.as_ref().map(|tls| tls.client_auth);
                (certified != Some(ClientAuth::Required))
                    .then_some("there is no authentication: client certificates are not required")
            }
            SecurityProtocol::SaslPlaintext => self
                .sasl_mechanisms
                .contains(&SaslMechanism::Plain)
                .then_some("PLAIN sends passwords that anybody on the way can read"),
            SecurityProtocol::SaslSsl => None,
        }
    }

    /// What contradicts itself, in words that follow the listener's name.
    ///
    /// # Errors
    /// The contradiction.
    pub fn check(&self) -> Result<(), &'static str> {
        let Self { protocol, tls, sasl_mechanisms, .. } = self;
        if protocol.has_tls() != tls.is_some() {
            return Err(match tls {
                None => "has TLS and needs a certificate and a key",
                Some(_) => "has a certificate and no TLS",
            });
        }
        if protocol.has_sasl() == sasl_mechanisms.is_empty() {
            return Err(match protocol.has_sasl() {
                true => "has SASL and needs a mechanism",
                false => "has SASL mechanisms and no SASL",
            });
        }
        match tls {
            Some(tls) if tls.client_auth != ClientAuth::None && tls.client_ca_file.is_none() => {
                Err("asks for certificates of clients and needs a file of their authorities")
            }
            Some(tls) if tls.client_auth == ClientAuth::None && tls.client_ca_file.is_some() => {
                Err("has authorities of clients and asks for no certificates of clients")
            }
            _ => Ok(()),
        }
    }
}

/// A text that is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// A user of the configuration, who may log in by every mechanism that a listener has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfiguredUser {
    /// The name.
    pub name: String,
    /// The password.
    pub password: Secret,
}

#[cfg(test)]
mod tests;

//! [`BrokerError`]: why a broker does not start, or stops.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a broker does not start, or stops. What a client did wrong is an answer to the client, not one of these.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The address cannot be listened on.
    #[error("listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// An address that others can reach, with nobody asked who they are.
    #[error("listen on {address}: it can be reached from other machines and {why}; allow it with insecure_listen")]
    InsecureListen {
        /// The address.
        address: SocketAddr,
        /// What makes it unsafe.
        why: &'static str,
    },
    /// A certificate, or its key, that no TLS can be spoken with.
    #[error("{}: {reason}", file.display())]
    Tls {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A listener that contradicts itself, or another.
    #[error("listener \"{name}\" {reason}")]
    Listener {
        /// Which.
        name: String,
        /// What is wrong with it, to follow its name.
        reason: &'static str,
    },
    /// The logs.
    #[error(transparent)]
    Log(#[from] weir_log::LogError),
    /// A file of the broker's own (topics, producer ids) cannot be read or written.
    #[error("{action} {file}: {source}")]
    File {
        /// What was attempted.
        action: &'static str,
        /// The file, in the data directory.
        file: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// A file of the broker's own does not say what it should.
    #[error("read {file}, line {line}: {reason}")]
    DamagedFile {
        /// The file, in the data directory.
        file: &'static str,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A value of the configuration.
    #[error("broker configuration: {key} is {value}, which is not {expected}")]
    Config {
        /// The field.
        key: &'static str,
        /// What it says.
        value: String,
        /// What it may say.
        expected: &'static str,
    },
    /// The system gives no random bytes, and what is made of others can be foreseen.
    #[error("the system gives no random bytes")]
    Randomness,
    /// The thread that syncs could not be started.
    #[error("start the commit thread: {0}")]
    CommitThread(io::Error),
    /// The thread that removes files and cleans logs could not be started.
    #[error("start the upkeep thread: {0}")]
    UpkeepThread(io::Error),
}

impl BrokerError {
    /// The code of the page that explains it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Bind { .. } => "WEIR-0301",
            Self::InsecureListen { .. } => "WEIR-0302",
            Self::Log(error) => error.code(),
            Self::File { .. } => "WEIR-0303",
            Self::DamagedFile { .. } => "WEIR-0304",
            Self::Config { .. } => "WEIR-0305",
            Self::CommitThread(_) | Self::UpkeepThread(_) => "WEIR-0306",
            Self::Tls { .. } => "WEIR-0310",
            Self::Listener { .. } => "WEIR-0311",
            Self::Randomness => "WEIR-0312",
        }
    }
}

//! The one I/O seam: how bytes reach a broker. [`TcpTransport`] and its in-memory twin.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpStream;

/// The reading half of a connection.
pub type BoxedRead = Box<dyn AsyncRead + Send + Unpin>;
/// The writing half of a connection.
pub type BoxedWrite = Box<dyn AsyncWrite + Send + Unpin>;
/// A connect in progress.
pub type Connecting<'a> =
    Pin<Box<dyn Future<Output = io::Result<(BoxedRead, BoxedWrite)>> + Send + 'a>>;

/// Opens connections. Both halves must move independently: one task reads while others write.
pub trait Transport: Send + Sync + fmt::Debug {
    /// Connects to `host:port`.
    ///
    /// # Errors
    /// Whatever the network says; the caller retries with backoff and bounds the time.
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> Connecting<'a>;
}

/// TCP, without Nagle's delay: a produce request must not wait for the answer to the one before.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpTransport;

impl Transport for TcpTransport {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> Connecting<'a> {
        Box::pin(async move {
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            let (read, write) = stream.into_split();
            Ok((Box::new(read) as BoxedRead, Box::new(write) as BoxedWrite))
        })
    }
}

/// What answers a connect in memory: it gets `host`, `port` and the server's end of the pipe, or
/// refuses.
pub type Acceptor = dyn Fn(&str, u16, DuplexStream) -> io::Result<()> + Send + Sync;

/// Connections as byte pipes in memory; the bytes are those of TCP.
#[derive(Clone)]
pub struct MemTransport {
    acceptor: Arc<Acceptor>,
    pipe_bytes_max: usize,
}

impl MemTransport {
    /// Each connect makes a pipe and hands its other end to `acceptor`, which typically spawns the
    /// serving task.
    pub fn new(
        acceptor: impl Fn(&str, u16, DuplexStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        MemTransport { acceptor: Arc::new(acceptor), pipe_bytes_max: 256 << 10 }
    }
}

impl fmt::Debug for MemTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemTransport")
            .field("pipe_bytes_max", &self.pipe_bytes_max)
            .finish_non_exhaustive()
    }
}

impl Transport for MemTransport {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> Connecting<'a> {
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(self.pipe_bytes_max);
            (self.acceptor)(host, port, theirs)?;
            let (read, write) = tokio::io::split(ours);
            Ok((Box::new(read) as BoxedRead, Box::new(write) as BoxedWrite))
        })
    }
}

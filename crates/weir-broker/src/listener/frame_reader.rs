//! [`FrameReader`]: frames from a connection, within limits.
//!
//! The announced size is not believed: memory grows with what has come, and is charged to the memory all requests share.
//! A frame has its memory for itself, so that a Produce can write offsets into it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{timeout, Instant};
use weir_protocol::{frame, DecodeError};

use super::connection::BUFFER_IDLE;
use super::shared::PERMIT_BYTES;
use crate::config::BrokerConfig;

/// Small requests are read several at once through a buffer of this size.
const HEAD_BYTES: usize = 2 << 10;
/// What a frame gets at first, unless the connection has sent larger ones before.
const FIRST_BYTES: usize = 64 << 10;
/// Larger buffers are not kept for the next frame.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// A frame with the memory it is charged for.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) bytes: BytesMut,
    pub(super) memory: Option<OwnedSemaphorePermit>,
}

/// Why there is no further frame.
#[derive(Debug)]
pub(super) enum ReadEnd {
    /// The client has closed the connection.
    Closed,
    /// It has sent nothing for too long.
    Idle,
    /// It has stopped inside a frame.
    Stalled,
    /// Requests together take too much memory.
    NoMemory,
    /// A length that no request has.
    Length(DecodeError),
    /// The beginning of TLS, which is no request either.
    Tls,
    /// The system.
    Io(io::Error),
}

#[derive(Debug)]
pub(super) struct FrameReader<R> {
    reader: R,
    head: BytesMut,
    /// Memory of an earlier frame.
    spare: BytesMut,
    /// The largest frame so far: so much a new one gets at once.
    proven_bytes: usize,
    frame_bytes_max: usize,
    idle: Duration,
    stall: Duration,
    patience: Duration,
    memory: Arc<Semaphore>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(reader: R, config: &BrokerConfig, memory: Arc<Semaphore>) -> Self {
        Self {
            reader,
            head: BytesMut::new(),
            spare: BytesMut::new(),
            proven_bytes: 0,
            frame_bytes_max: config.request_bytes_max,
            idle: Duration::from_millis(config.connection_idle_ms_max),
            stall: Duration::from_millis(config.request_stall_ms_max),
            patience: Duration::from_millis(config.request_read_ms_max),
            memory,
        }
    }

    /// How large frames may be from now on.
    pub(super) fn set_frame_bytes_max(&mut self, frame_bytes_max: usize) {
        self.frame_bytes_max = frame_bytes_max;
    }

    /// Takes back the memory of a frame.
    pub(super) fn recycle(&mut self, mut bytes: BytesMut) {
        if bytes.capacity() <= KEPT_BYTES_MAX && bytes.capacity() > self.spare.capacity() {
            bytes.clear();
            self.spare = bytes;
        }
    }

    /// The next frame, without its length.
    pub(super) async fn next(&mut self) -> Result<Frame, ReadEnd> {
        let len = self.length().await?;
        let mut bytes = std::mem::take(&mut self.spare);
        bytes.reserve(len.min(FIRST_BYTES.max(self.proven_bytes).min(KEPT_BYTES_MAX)));
        let mut memory = None;
        let buffered = self.head.len().min(len);
        bytes.extend_from_slice(&self.head[..buffered]);
        self.head.advance(buffered);
        // What is waited for memory is not the client's.
        let mut patience = self.patience;
        while bytes.len() < len {
            let left = len - bytes.len();
            if bytes.len() == bytes.capacity() {
                bytes.reserve(left.min(bytes.len()));
            }
            self.charge(&mut memory, bytes.capacity().min(len)).await?;
            let read = (&mut self.reader).take(left as u64);
            tokio::pin!(read);
            let begun = Instant::now();
            match timeout(self.stall.min(patience), read.read_buf(&mut bytes)).await {
                Err(_) => return Err(ReadEnd::Stalled),
                Ok(Err(error)) => return Err(ReadEnd::Io(error)),
                Ok(Ok(0)) => return Err(ReadEnd::Closed),
                Ok(Ok(_)) => {}
            }
            patience = patience.saturating_sub(begun.elapsed());
        }
        self.proven_bytes = self.proven_bytes.max(len);
        Ok(Frame { bytes, memory })
    }

    async fn length(&mut self) -> Result<usize, ReadEnd> {
        while self.head.len() < 4 {
            let wait = if self.head.is_empty() { self.idle } else { self.stall };
            self.head.reserve(HEAD_BYTES);
            if self.spare.capacity() > FIRST_BYTES && self.head.is_empty() && wait > BUFFER_IDLE {
                // A connection that is quiet gives its memory back.
                let read = timeout(BUFFER_IDLE, self.reader.read_buf(&mut self.head)).await;
                match read {
                    Err(_) => self.spare = BytesMut::new(),
                    Ok(Err(error)) => return Err(ReadEnd::Io(error)),
                    Ok(Ok(0)) => return Err(ReadEnd::Closed),
                    Ok(Ok(_)) => {}
                }
                continue;
            }
            match timeout(wait, self.reader.read_buf(&mut self.head)).await {
                Err(_) if self.head.is_empty() => return Err(ReadEnd::Idle),
                Err(_) => return Err(ReadEnd::Stalled),
                Ok(Err(error)) => return Err(ReadEnd::Io(error)),
                Ok(Ok(0)) => return Err(ReadEnd::Closed),
                Ok(Ok(_)) => {}
            }
        }
        let prefix = [self.head[0], self.head[1], self.head[2], self.head[3]];
        self.head.advance(4);
        frame::frame_len(&prefix, self.frame_bytes_max).map_err(|error| match prefix {
            // A handshake record of TLS (RFC 8446, 5.1), which read as a length is 369 MB.
            [0x16, 3, ..] => ReadEnd::Tls,
            _ => ReadEnd::Length(error),
        })
    }

    /// Charges the memory of a large frame. A small one is covered by the number of connections.
    async fn charge(
        &self,
        memory: &mut Option<OwnedSemaphorePermit>,
        bytes: usize,
    ) -> Result<(), ReadEnd> {
        let held = memory.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let wanted = bytes / PERMIT_BYTES;
        if bytes <= FIRST_BYTES || wanted <= held {
            return Ok(());
        }
        let more = u32::try_from(wanted - held).map_err(|_| ReadEnd::NoMemory)?;
        // Half-read frames may hold all of it and wait for each other; the time limit lets some go.
        match timeout(self.stall, self.memory.clone().acquire_many_owned(more)).await {
            Ok(Ok(permit)) => match memory {
                Some(held) => held.merge(permit),
                None => *memory = Some(permit),
            },
            _ => return Err(ReadEnd::NoMemory),
        }
        Ok(())
    }
}

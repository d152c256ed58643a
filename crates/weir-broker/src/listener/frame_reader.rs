//! [`FrameReader`]: frames from a connection, within limits.
//!
//! The announced size is not believed: memory grows with what has come, and is charged to the memory all requests share.
//! A frame has its memory for itself, so that a Produce can write offsets into it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{timeout, Instant};
use weir_protocol::{frame, DecodeError};

use super::connection::BUFFER_IDLE;
use super::memory::{Held, RequestMemory, FREE_BYTES, LOOK, STRANGER_FREE_BYTES};
use crate::config::BrokerConfig;

/// Small requests are read several at once through a buffer of this size.
const HEAD_BYTES: usize = 2 << 10;
/// What a frame gets at first, unless the connection has sent larger ones before.
const FIRST_BYTES: usize = FREE_BYTES;
/// Larger buffers are not kept for the next frame.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// A frame with the memory it is charged for.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) bytes: BytesMut,
    pub(super) memory: Option<Held>,
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
    memory: Arc<RequestMemory>,
    /// Has not logged in, where one must.
    is_stranger: bool,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(reader: R, config: &BrokerConfig, memory: Arc<RequestMemory>) -> Self {
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
            is_stranger: false,
        }
    }

    /// How large frames may be from now on, and whether they come from somebody who has not logged in.
    pub(super) fn set_frame_bytes_max(&mut self, frame_bytes_max: usize, is_stranger: bool) {
        self.frame_bytes_max = frame_bytes_max;
        self.is_stranger = is_stranger;
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
        let first_bytes = if self.is_stranger { STRANGER_FREE_BYTES } else { FIRST_BYTES };
        bytes.reserve(len.min(first_bytes.max(self.proven_bytes).min(KEPT_BYTES_MAX)));
        let mut memory = None;
        let buffered = self.head.len().min(len);
        bytes.extend_from_slice(&self.head[..buffered]);
        self.head.advance(buffered);
        // What is waited for memory is not the client's.
        let mut reading = Duration::ZERO;
        while bytes.len() < len {
            let left = len - bytes.len();
            if bytes.len() == bytes.capacity() {
                bytes.reserve(left.min(bytes.len()));
            }
            let charged = self.memory.charge(
                &mut memory,
                bytes.capacity().min(len),
                len,
                self.is_stranger,
                self.stall,
            );
            // A client that others wait for is closed as they would be.
            charged.await.ok_or(ReadEnd::NoMemory)?;
            reading = self.read_some(&mut bytes, left, reading, memory.is_some()).await?;
        }
        self.proven_bytes = self.proven_bytes.max(len);
        Ok(Frame { bytes, memory })
    }

    /// Reads what has come of a frame that was read for `reading` so far; returns for how long by now.
    async fn read_some(
        &mut self,
        bytes: &mut BytesMut,
        left: usize,
        mut reading: Duration,
        is_charged: bool,
    ) -> Result<Duration, ReadEnd> {
        let mut quiet = Duration::ZERO;
        loop {
            let limit = self.stall.saturating_sub(quiet).min(self.patience.saturating_sub(reading));
            let wait = if is_charged { limit.min(LOOK) } else { limit };
            let read = (&mut self.reader).take(left as u64);
            tokio::pin!(read);
            let begun = Instant::now();
            let read = timeout(wait, read.read_buf(bytes)).await;
            let elapsed = begun.elapsed();
            quiet += elapsed;
            reading += elapsed;
            let has_come = match read {
                Err(_) if wait == limit => return Err(ReadEnd::Stalled),
                Err(_) => false,
                Ok(Err(error)) => return Err(ReadEnd::Io(error)),
                Ok(Ok(0)) => return Err(ReadEnd::Closed),
                Ok(Ok(_)) => true,
            };
            if is_charged && self.memory.is_too_slow(bytes.len(), reading) {
                return Err(ReadEnd::NoMemory);
            }
            if has_come {
                return Ok(reading);
            }
        }
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
}

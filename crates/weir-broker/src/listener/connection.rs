//! One connection: requests in, answers out in the order of their requests.
//!
//! Reading goes on while earlier requests wait for their answers, up to `answers_waiting_max`. Answers that are ready
//! together leave in one write.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use weir_protocol::{ApiKey, DecodeError};

use super::frame_reader::{FrameReader, ReadEnd};
use super::shared::{Answer, Shared};
use super::DRAIN_MS;
use crate::effects::Connection;
use crate::request::{self, Request, Response};

/// Answers are gathered up to this before they are written.
const GATHER_BYTES: usize = 256 << 10;
/// Pieces of one vectored write.
const PIECES_MAX: usize = 64;

/// Why a connection has ended.
#[derive(Debug)]
pub enum ConnectionEnd {
    /// The client has closed it.
    Closed,
    /// Nothing came for too long.
    Idle,
    /// The client has stopped inside a request, or does not take its answers.
    Stalled,
    /// Requests together take too much memory.
    NoMemory,
    /// What came is no request that is served.
    BadRequest(DecodeError),
    /// A produce with acks=0 failed, which can be said in no other way.
    ProduceFailed,
    /// An answer could not be written in its version, or not be read from its files.
    BadAnswer(String),
    /// The broker stops.
    Stopped,
    /// The system.
    Io(io::Error),
}

/// What an answer's frame needs.
#[derive(Debug, Clone, Copy)]
struct Head {
    key: ApiKey,
    version: i16,
    correlation_id: i32,
}

#[derive(Debug)]
enum Outgoing {
    Ready(Head, Box<Response>),
    Waiting(Head, oneshot::Receiver<Response>),
}

/// Serves one connection to its end.
pub(super) async fn serve<R, W>(
    shared: Arc<Shared>,
    connection: Connection,
    reader: R,
    writer: W,
    stopped: watch::Receiver<bool>,
) -> ConnectionEnd
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let _counted = shared.count_connection();
    let (answers, outgoing) = mpsc::channel(shared.config.answers_waiting_max.max(1));
    let idle = Duration::from_millis(shared.config.connection_idle_ms_max);
    let writing = Writer { writer, outgoing, buffer: BytesMut::new(), stall: idle }.run();
    let reading = read(&shared, &connection, reader, answers, stopped);
    tokio::pin!(reading, writing);
    let end = tokio::select! {
        end = &mut reading => {
            shared.disconnect(connection.id);
            // Answers that are under way still go out.
            match timeout(Duration::from_millis(DRAIN_MS), &mut writing).await {
                Ok(Err(failed)) if matches!(end, ConnectionEnd::Closed) => failed,
                _ => end,
            }
        }
        ended = &mut writing => {
            shared.disconnect(connection.id);
            ended.err().unwrap_or(ConnectionEnd::Closed)
        }
    };
    end
}

async fn read<R: AsyncRead + Unpin>(
    shared: &Arc<Shared>,
    connection: &Connection,
    reader: R,
    answers: mpsc::Sender<Outgoing>,
    mut stopped: watch::Receiver<bool>,
) -> ConnectionEnd {
    let mut frames = FrameReader::new(reader, &shared.config, shared.request_memory.clone());
    loop {
        let frame = tokio::select! {
            biased;
            frame = frames.next() => frame,
            _ = stopped.wait_for(|stopped| *stopped) => return ConnectionEnd::Stopped,
        };
        let frame = match frame {
            Ok(frame) => frame,
            Err(end) => return end.into(),
        };
        let mut decoded = match request::decode(frame.bytes, shared.config.request_heap_bytes_max) {
            Ok(decoded) => decoded,
            Err(error) => return ConnectionEnd::BadRequest(error),
        };
        let head = Head {
            key: decoded.key,
            version: decoded.header.api_version,
            correlation_id: decoded.header.correlation_id,
        };
        let outgoing = match shared.handle(connection, &mut decoded) {
            Answer::Ready(response) => Some(Outgoing::Ready(head, response)),
            Answer::Waiting(receiver) => Some(Outgoing::Waiting(head, receiver)),
            Answer::None => None,
            Answer::Close => return ConnectionEnd::ProduceFailed,
        };
        if let Request::Produce(produce) = decoded.request {
            frames.recycle(produce.into_frame());
        }
        drop(frame.memory);
        if let Some(outgoing) = outgoing {
            if answers.send(outgoing).await.is_err() {
                return ConnectionEnd::Closed;
            }
        }
    }
}

impl From<ReadEnd> for ConnectionEnd {
    fn from(end: ReadEnd) -> Self {
        match end {
            ReadEnd::Closed => Self::Closed,
            ReadEnd::Idle => Self::Idle,
            ReadEnd::Stalled => Self::Stalled,
            ReadEnd::NoMemory => Self::NoMemory,
            ReadEnd::Length(error) => Self::BadRequest(error),
            ReadEnd::Io(error) => broken(error),
        }
    }
}

struct Writer<W> {
    writer: W,
    outgoing: mpsc::Receiver<Outgoing>,
    /// Memory that record bytes are read into.
    buffer: BytesMut,
    stall: Duration,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// Writes answers until the reading side has ended and all are out.
    async fn run(mut self) -> Result<(), ConnectionEnd> {
        let mut pieces: VecDeque<Bytes> = VecDeque::new();
        let mut gathered_bytes = 0;
        while let Some(outgoing) = self.outgoing.recv().await {
            let mut outgoing = outgoing;
            loop {
                let (head, response) = match outgoing {
                    Outgoing::Ready(head, response) => (head, *response),
                    Outgoing::Waiting(head, mut receiver) => match receiver.try_recv() {
                        Ok(response) => (head, response),
                        Err(TryRecvError::Closed) => return Err(ConnectionEnd::Stopped),
                        Err(TryRecvError::Empty) => {
                            // What is gathered must not wait for this one.
                            self.write(&mut pieces).await?;
                            gathered_bytes = 0;
                            // The core drops a ticket only with its connection, or when the broker closes.
                            (head, receiver.await.map_err(|_| ConnectionEnd::Stopped)?)
                        }
                    },
                };
                gathered_bytes += self.encode(head, response, &mut pieces)?;
                if gathered_bytes >= GATHER_BYTES {
                    break;
                }
                match self.outgoing.try_recv() {
                    Ok(next) => outgoing = next,
                    Err(_) => break,
                }
            }
            self.write(&mut pieces).await?;
            gathered_bytes = 0;
        }
        Ok(())
    }

    /// Appends the frame of an answer to `pieces` and returns its size.
    fn encode(
        &mut self,
        head: Head,
        mut response: Response,
        pieces: &mut VecDeque<Bytes>,
    ) -> Result<usize, ConnectionEnd> {
        if let Response::Fetch(answer) = &mut response {
            answer
                .read(&mut self.buffer)
                .map_err(|error| ConnectionEnd::BadAnswer(error.to_string()))?;
        }
        let encoded =
            response.encode(head.key, head.version, head.correlation_id).map_err(|error| {
                ConnectionEnd::BadAnswer(format!("{} v{}: {error}", head.key, head.version))
            })?;
        let bytes = encoded.iter().map(Bytes::len).sum();
        pieces.extend(encoded);
        Ok(bytes)
    }

    async fn write(&mut self, pieces: &mut VecDeque<Bytes>) -> Result<(), ConnectionEnd> {
        while !pieces.is_empty() {
            let slices: Vec<IoSlice<'_>> =
                pieces.iter().take(PIECES_MAX).map(|piece| IoSlice::new(piece)).collect();
            let written = match timeout(self.stall, self.writer.write_vectored(&slices)).await {
                Err(_) => return Err(ConnectionEnd::Stalled),
                Ok(Err(error)) => return Err(broken(error)),
                Ok(Ok(0)) => return Err(ConnectionEnd::Closed),
                Ok(Ok(written)) => written,
            };
            drop_front(pieces, written);
        }
        Ok(())
    }
}

/// A client that goes without a word is no event.
fn broken(error: io::Error) -> ConnectionEnd {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ConnectionEnd::Closed,
        _ => ConnectionEnd::Io(error),
    }
}

fn drop_front(pieces: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(front) = pieces.front_mut() {
        if written < front.len() {
            front.advance(written);
            return;
        }
        written -= front.len();
        pieces.pop_front();
    }
}

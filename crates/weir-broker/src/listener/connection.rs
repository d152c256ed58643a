//! One connection: requests in, answers out in the order of their requests.
//!
//! Reading goes on while earlier requests wait for their answers, up to `answers_waiting_max` and
//! `answer_bytes_waiting_max`. Answers that are ready
//! together leave in one write.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot, watch, OwnedSemaphorePermit, Semaphore};
use tokio::time::{timeout, timeout_at, Instant};
use weir_log::FileSlice;
use weir_protocol::{ApiKey, DecodeError, EncodeError};

use super::frame_reader::{self, FrameReader, ReadEnd};
use super::login::{Login, Taken};
use super::memory::{AnswerCharge, AnswerMemory, Held, FREE_BYTES, LOOK};
use super::shared::{Answer, Registered, Shared, UnderWay, PERMIT_BYTES};
use super::DRAIN_MS;
use crate::effects::Connection;
use crate::fetch::Piece;
use crate::request::{self, Request, RequestFrame, Response};
use crate::security::authenticator::Refusal;

/// Answers are gathered up to this before they are written.
const GATHER_BYTES: usize = 256 << 10;
/// Answers with more records than this are sent piece by piece, as their files are read on a thread that may wait.
///
/// Measured (`examples/fetch_probe`, 2 cores): a hop to such a thread and back 11 to 22 µs; reading 64 KiB of page cache 3,
/// 256 KiB 14, 1 MiB 125 to 150.
const READ_INLINE_BYTES: usize = 256 << 10;
/// So much of a file is read at once, and held by one connection. Throughput of fetches of 50 MB, median of 15: 951 MB/s,
/// with 1 MiB 963, read whole beforehand 835.
const CHUNK_BYTES: usize = 256 << 10;
/// Pieces of one vectored write.
const PIECES_MAX: usize = 64;

/// How long records wait for room in the memory of all answers.
const ROOM_PATIENCE: Duration = Duration::from_secs(10);

/// What a waiting request keeps in memory, for each of its bytes: a partition of a fetch takes 33 bytes on the wire, and
/// some 150 in its answer.
const KEPT_PER_REQUEST_BYTE: usize = 4;
/// What a waiting produce keeps for each of its partitions: its records are in the log by then.
const KEPT_PER_PRODUCED_BYTES: usize = 200;
/// After so long without an answer a connection gives its buffers back.
pub(super) const BUFFER_IDLE: Duration = Duration::from_secs(5);

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
    /// No TLS connection came about.
    Tls(String),
    /// The client speaks no TLS, where nothing else is spoken.
    NotTls,
    /// It speaks TLS, where none is spoken.
    UnexpectedTls,
    /// It took too long to say who it is.
    NoLogin,
    /// It is not who it says, or does not say it.
    Refused(Refusal),
    /// Its login has ended, and it did not renew it (KIP-368).
    Expired,
    /// The broker stops.
    Stopped,
    /// The system.
    Io(io::Error),
}

impl ConnectionEnd {
    /// Why, in words without particulars; `None` if it is no event.
    pub(super) fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Closed | Self::Idle | Self::Stopped => None,
            Self::Stalled => {
                Some("the client stopped inside a request, or does not take its answers")
            }
            Self::NoMemory => Some("requests together take too much memory"),
            Self::BadRequest(_) => Some("what came is no request that is served"),
            Self::Tls(_) => Some("no TLS connection came about"),
            Self::NotTls => Some("a client speaks no TLS on a listener with TLS"),
            Self::UnexpectedTls => Some("a client speaks TLS on a listener without it"),
            Self::NoLogin => Some("a client took too long to say who it is"),
            Self::Refused(refusal) => Some(refusal.words()),
            Self::Expired => Some("a client did not renew its login in time"),
            Self::ProduceFailed => Some("a produce with acks=0 failed"),
            Self::BadAnswer(_) => Some("an answer could not be made"),
            Self::Io(_) => Some("the connection broke"),
        }
    }
}

impl fmt::Display for ConnectionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the client closed it"),
            Self::Idle => f.write_str("nothing came for too long"),
            Self::Stopped => f.write_str("the broker stops"),
            _ => f.write_str(self.reason().unwrap_or_default()),
        }?;
        match self {
            Self::BadRequest(error) => write!(f, ": {error}"),
            Self::BadAnswer(error) | Self::Tls(error) => write!(f, ": {error}"),
            Self::Io(error) => write!(f, ": {error}"),
            _ => Ok(()),
        }
    }
}

/// What an answer's frame needs.
#[derive(Debug, Clone, Copy)]
struct Head {
    key: ApiKey,
    version: i16,
    correlation_id: i32,
}

/// An answer in its place among the answers, with the memory it is charged for until it is written.
#[derive(Debug)]
struct Outgoing {
    what: What,
    charge: Charge,
}

/// What an answer that is not out keeps.
#[derive(Debug)]
struct Charge {
    _memory: OwnedSemaphorePermit,
    _shared: Option<AnswerCharge>,
    _under_way: Option<UnderWay>,
    _request: Option<Held>,
}

#[derive(Debug)]
enum What {
    Encoded(Vec<Bytes>),
    /// Files are read for it when it is its turn.
    Unread(Head, Box<Response>),
    Waiting(Head, oneshot::Receiver<Response>),
}

/// An answer with what it is charged for.
struct Ready {
    what: What,
    bytes: usize,
    /// That a request is under way.
    under_way: Option<UnderWay>,
    /// The memory of a request that was put aside.
    request: Option<Held>,
}

impl Ready {
    fn encoded(pieces: Vec<Bytes>) -> Self {
        let bytes = pieces.iter().map(Bytes::len).sum();
        Self { what: What::Encoded(pieces), bytes, under_way: None, request: None }
    }
}

/// Serves one connection to its end. `login`: what it must pass first.
pub(super) async fn serve<R, W>(
    shared: Arc<Shared>,
    connection: Connection,
    registered: Registered,
    login: Option<Login>,
    reader: R,
    writer: W,
    stopped: watch::Receiver<bool>,
) -> ConnectionEnd
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (answers, outgoing) = mpsc::channel(shared.config.answers_waiting_max.max(1));
    let idle = Duration::from_millis(shared.config.connection_idle_ms_max);
    let buffer = BytesMut::new();
    let (reads, memory) = (shared.file_reads.clone(), shared.answer_memory.clone());
    let writing = Writer {
        writer,
        outgoing,
        buffer,
        charged: Vec::new(),
        charged_records: Vec::new(),
        stall: idle,
        reads,
        memory,
    }
    .run();
    let id = connection.id;
    let mut frames = FrameReader::new(reader, &shared.config, shared.request_memory.clone());
    if login.is_some() {
        let unauthenticated = shared.config.unauthenticated_request_bytes_max;
        frames.set_frame_bytes_max(unauthenticated.min(shared.config.request_bytes_max), true);
    }
    let budget = Budget::new(shared.config.answer_bytes_waiting_max);
    let registered = &registered;
    let reading =
        Reading { shared: &shared, connection, registered, frames, login, budget, answers }
            .run(stopped);
    tokio::pin!(reading, writing);
    let end = tokio::select! {
        end = &mut reading => {
            shared.disconnect(id);
            // Answers that are under way still go out.
            match timeout(Duration::from_millis(DRAIN_MS), &mut writing).await {
                Ok(Err(failed)) if matches!(end, ConnectionEnd::Closed) => failed,
                _ => end,
            }
        }
        ended = &mut writing => {
            shared.disconnect(id);
            ended.err().unwrap_or(ConnectionEnd::Closed)
        }
    };
    end
}

/// The reading side of a connection.
struct Reading<'a, R> {
    shared: &'a Arc<Shared>,
    connection: Connection,
    registered: &'a Registered,
    frames: FrameReader<R>,
    login: Option<Login>,
    budget: Budget,
    answers: mpsc::Sender<Outgoing>,
}

impl<R: AsyncRead + Unpin> Reading<'_, R> {
    /// Reads requests until there is a reason to end.
    async fn run(mut self, mut stopped: watch::Receiver<bool>) -> ConnectionEnd {
        loop {
            let frame = tokio::select! {
                biased;
                frame = self.next() => frame,
                _ = stopped.wait_for(|stopped| *stopped) => return ConnectionEnd::Stopped,
            };
            let taken = match frame {
                Ok(frame) => tokio::select! {
                    biased;
                    taken = self.take(frame) => taken,
                    _ = stopped.wait_for(|stopped| *stopped) => return ConnectionEnd::Stopped,
                },
                Err(end) => return end,
            };
            let outgoing = match taken {
                Ok(Some(outgoing)) => outgoing,
                Ok(None) => continue,
                Err(end) => return end,
            };
            tokio::select! {
                biased;
                queued = self.queue(outgoing) => if queued.is_none() { return ConnectionEnd::Closed },
                _ = stopped.wait_for(|stopped| *stopped) => return ConnectionEnd::Stopped,
            }
        }
    }

    /// The next frame. Who has not logged in has little time for it, and little room.
    async fn next(&mut self) -> Result<frame_reader::Frame, ConnectionEnd> {
        let Some(deadline) = self.login.as_ref().and_then(Login::deadline) else {
            return self.frames.next().await.map_err(ConnectionEnd::from);
        };
        match timeout_at(deadline, self.frames.next()).await {
            Ok(frame) => frame.map_err(ConnectionEnd::from),
            Err(_) => Err(ConnectionEnd::NoLogin),
        }
    }

    async fn queue(&self, ready: Ready) -> Option<()> {
        let Ready { what, bytes, under_way, request } = ready;
        // First: while it waits for its place it takes its memory already.
        let is_shared = self.budget.waiting_bytes() + bytes > FREE_BYTES;
        let shared = is_shared.then(|| self.shared.answer_memory.charge(bytes));
        let memory = self.budget.charge(bytes).await?;
        let charge =
            Charge { _memory: memory, _shared: shared, _under_way: under_way, _request: request };
        self.answers.send(Outgoing { what, charge }).await.ok()
    }

    /// What a frame is answered; `None`: nothing.
    async fn take(&mut self, frame: frame_reader::Frame) -> Result<Option<Ready>, ConnectionEnd> {
        if let Some(login) = self.login.as_mut().filter(|login| login.wants_raw_token()) {
            let principal = &mut self.connection.principal;
            let taken = login.raw_token(self.shared, &frame.bytes, principal);
            return self.log_in(None, taken).await;
        }
        let frame_bytes = frame.bytes.len();
        let decoded = request::decode(frame.bytes, self.shared.config.request_heap_bytes_max)
            .map_err(ConnectionEnd::BadRequest)?;
        let head = Head {
            key: decoded.key,
            version: decoded.header.api_version,
            correlation_id: decoded.header.correlation_id,
        };
        if let Some(login) = &mut self.login {
            let principal = &mut self.connection.principal;
            match login.request(self.shared, head.version, &decoded.request, principal) {
                Taken::Pass => {}
                taken => return self.log_in(Some(head), taken).await,
            }
        }
        self.serve(head, decoded, frame_bytes, frame.memory).await
    }

    /// Goes on with a login. What is asked before one is no activity: such connections go first when there are too many.
    async fn log_in(
        &mut self,
        head: Option<Head>,
        taken: Taken,
    ) -> Result<Option<Ready>, ConnectionEnd> {
        let pieces = |response: &Response| head.map(|head| encode(head, response)).transpose();
        if let Some(login) = self.login.as_ref().filter(|login| login.is_in()) {
            debug_assert!(login.deadline().is_none());
            self.frames.set_frame_bytes_max(self.shared.config.request_bytes_max, false);
        }
        let pieces = match taken {
            Taken::Pass => None,
            Taken::Answer(response) => pieces(&response)?,
            Taken::Bare(bytes) => Some(vec![bytes]),
            Taken::Expire => return Err(ConnectionEnd::Expired),
            Taken::Refuse(response, refusal) => {
                // Whoever guesses passwords has to wait.
                let delay_ms = self.shared.config.failed_authentication_delay_ms;
                tokio::time::sleep(Duration::from_millis(delay_ms)).await;
                if let Some(pieces) = response.as_ref().map(pieces).transpose()?.flatten() {
                    self.queue(Ready::encoded(pieces)).await;
                }
                return Err(ConnectionEnd::Refused(refusal));
            }
        };
        Ok(pieces.map(Ready::encoded))
    }

    /// Hands a request to the core.
    async fn serve(
        &mut self,
        head: Head,
        mut decoded: RequestFrame,
        frame_bytes: usize,
        memory: Option<Held>,
    ) -> Result<Option<Ready>, ConnectionEnd> {
        let is_known = self.login.as_ref().is_none_or(Login::is_in);
        let under_way = is_known.then(|| self.registered.request());
        // What waits keeps about as much as its request says, without records; of an answer that is there the size is
        // known.
        let kept_bytes = match &decoded.request {
            Request::Produce(produce) => produce.partition_count() * KEPT_PER_PRODUCED_BYTES,
            _ => frame_bytes.saturating_mul(KEPT_PER_REQUEST_BYTE),
        };
        if may_be_answered_at_length(head.key) {
            self.shared.answer_memory.room().await;
        }
        let mut answer = self.shared.handle(&self.connection, &mut decoded);
        while let Answer::LookInside = answer {
            let checked = look_inside(self.shared, decoded).await;
            decoded = checked.ok_or(ConnectionEnd::Stopped)?;
            answer = self.shared.handle(&self.connection, &mut decoded);
        }
        let outgoing = match answer {
            Answer::Ready(response) if is_unread(&response) => {
                let what = What::Unread(head, response);
                Some(Ready { what, bytes: kept_bytes, under_way, request: None })
            }
            Answer::Ready(response) => {
                Some(Ready { under_way, ..Ready::encoded(encode(head, &response)?) })
            }
            Answer::Waiting(receiver) => {
                let what = What::Waiting(head, receiver);
                // What the core has put aside is taken out of its frame; of what it has handled it keeps little.
                let is_aside = matches!(decoded.request, Request::ApiVersions);
                let request = memory.filter(|_| is_aside);
                Some(Ready { what, bytes: kept_bytes, under_way, request })
            }
            Answer::None => None,
            Answer::Close | Answer::LookInside => return Err(ConnectionEnd::ProduceFailed),
        };
        if let Request::Produce(produce) = decoded.request {
            self.frames.recycle(produce.into_frame());
        }
        Ok(outgoing)
    }
}

/// Looks inside the batches of a produce. What must be inflated or compressed for it goes to a thread that may wait, as a
/// few bytes may become many.
async fn look_inside(shared: &Arc<Shared>, mut frame: RequestFrame) -> Option<RequestFrame> {
    let Request::Produce(produce) = &mut frame.request else { return Some(frame) };
    let inflate_bytes_max = shared.config.inflate_bytes_max;
    if !produce.is_dear_to_look_inside() {
        produce.look_inside(inflate_bytes_max);
        return Some(frame);
    }
    let turn = shared.inflates.clone().acquire_owned().await.ok()?;
    let check = move || {
        if let Request::Produce(produce) = &mut frame.request {
            produce.look_inside(inflate_bytes_max);
        }
        drop(turn);
        frame
    };
    tokio::task::spawn_blocking(check).await.ok()
}

/// Whether the answer may be so much longer than its request that it is not made before there is room for it. The records
/// of a fetch are read when it is their turn.
fn may_be_answered_at_length(key: ApiKey) -> bool {
    !matches!(
        key,
        ApiKey::Produce
            | ApiKey::Fetch
            | ApiKey::ListOffsets
            | ApiKey::OffsetCommit
            | ApiKey::FindCoordinator
            | ApiKey::JoinGroup
            | ApiKey::Heartbeat
            | ApiKey::LeaveGroup
            | ApiKey::SyncGroup
            | ApiKey::ApiVersions
            | ApiKey::InitProducerId
            | ApiKey::AddPartitionsToTxn
            | ApiKey::AddOffsetsToTxn
            | ApiKey::EndTxn
            | ApiKey::TxnOffsetCommit
            | ApiKey::ConsumerGroupHeartbeat
    )
}

/// The memory that what waits on one connection may take.
#[derive(Debug)]
struct Budget {
    permits: Arc<Semaphore>,
    permits_max: u32,
}

impl Budget {
    fn new(bytes_max: usize) -> Self {
        let permits_max = u32::try_from(bytes_max / PERMIT_BYTES).unwrap_or(u32::MAX >> 4).max(1);
        Self { permits: Arc::new(Semaphore::new(permits_max as usize)), permits_max }
    }

    /// What is charged by now.
    fn waiting_bytes(&self) -> usize {
        (self.permits_max as usize).saturating_sub(self.permits.available_permits()) * PERMIT_BYTES
    }

    /// Waits until there is room. What is larger than all of it waits until it is alone.
    async fn charge(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let wanted = u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX);
        self.permits.clone().acquire_many_owned(wanted.min(self.permits_max)).await.ok()
    }
}

/// Whether files are still to be read, or the volume to be asked, for an answer.
fn is_unread(response: &Response) -> bool {
    match response {
        Response::Fetch(_) => true,
        Response::ListOffsets(answer) => answer.is_searching(),
        Response::DescribeLogDirs(answer) => answer.is_unasked(),
        _ => false,
    }
}

/// The frame of an answer in pieces.
fn encode(head: Head, response: &Response) -> Result<Vec<Bytes>, ConnectionEnd> {
    let encoded = response.encode(head.key, head.version, head.correlation_id);
    encoded.map_err(|error| bad_answer(head, &error))
}

fn bad_answer(head: Head, error: &EncodeError) -> ConnectionEnd {
    ConnectionEnd::BadAnswer(format!("{} v{}: {error}", head.key, head.version))
}

impl From<ReadEnd> for ConnectionEnd {
    fn from(end: ReadEnd) -> Self {
        match end {
            ReadEnd::Closed => Self::Closed,
            ReadEnd::Idle => Self::Idle,
            ReadEnd::Stalled => Self::Stalled,
            ReadEnd::NoMemory => Self::NoMemory,
            ReadEnd::Length(error) => Self::BadRequest(error),
            ReadEnd::Tls => Self::UnexpectedTls,
            ReadEnd::Io(error) => broken(error),
        }
    }
}

struct Writer<W> {
    writer: W,
    outgoing: mpsc::Receiver<Outgoing>,
    /// Memory that record bytes are read into.
    buffer: BytesMut,
    /// What the gathered answers are charged for.
    charged: Vec<Charge>,
    charged_records: Vec<AnswerCharge>,
    stall: Duration,
    /// Turns to read on a thread that may wait.
    reads: Arc<Semaphore>,
    memory: Arc<AnswerMemory>,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// Writes answers until the reading side has ended and all are out.
    async fn run(mut self) -> Result<(), ConnectionEnd> {
        let mut pieces: VecDeque<Bytes> = VecDeque::new();
        let mut gathered_bytes = 0;
        while let Some(next) = self.next().await {
            let mut outgoing = next;
            loop {
                let Outgoing { what, charge } = outgoing;
                let encoded = match what {
                    What::Encoded(pieces) => Frame::Whole(pieces),
                    What::Unread(head, response) => {
                        self.encode(head, *response, &mut pieces).await?
                    }
                    What::Waiting(head, mut receiver) => {
                        let response = match receiver.try_recv() {
                            Ok(response) => response,
                            Err(TryRecvError::Closed) => return Err(ConnectionEnd::Stopped),
                            Err(TryRecvError::Empty) => {
                                // What is gathered must not wait for this one.
                                self.write(&mut pieces).await?;
                                gathered_bytes = 0;
                                self.wait(receiver).await?
                            }
                        };
                        self.encode(head, response, &mut pieces).await?
                    }
                };
                self.charged.push(charge);
                match encoded {
                    Frame::Whole(encoded) => {
                        gathered_bytes += encoded.iter().map(Bytes::len).sum::<usize>();
                        pieces.extend(encoded);
                    }
                    Frame::Around(encoded) => {
                        self.stream(&mut pieces, encoded).await?;
                        gathered_bytes = pieces.iter().map(Bytes::len).sum::<usize>();
                    }
                }
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
        // TLS says that it ends; whoever does not take it is gone.
        let _ = timeout(Duration::from_millis(DRAIN_MS), self.writer.shutdown()).await;
        Ok(())
    }

    /// The next answer. The buffer goes if there is none for a while: most connections are idle most of the time.
    async fn next(&mut self) -> Option<Outgoing> {
        match timeout(BUFFER_IDLE, self.outgoing.recv()).await {
            Ok(next) => next,
            Err(_) => {
                self.buffer = BytesMut::new();
                self.outgoing.recv().await
            }
        }
    }

    /// An answer that is not there yet; the buffer goes meanwhile as in [`Writer::next`].
    async fn wait(
        &mut self,
        mut receiver: oneshot::Receiver<Response>,
    ) -> Result<Response, ConnectionEnd> {
        let received = match timeout(BUFFER_IDLE, &mut receiver).await {
            Ok(received) => received,
            Err(_) => {
                self.buffer = BytesMut::new();
                receiver.await
            }
        };
        // The core drops a ticket only with its connection, or when the broker closes.
        received.map_err(|_| ConnectionEnd::Stopped)
    }

    /// The frame of an answer. The files of a fetch are read here if that is little.
    async fn encode(
        &mut self,
        head: Head,
        response: Response,
        gathered: &mut VecDeque<Bytes>,
    ) -> Result<Frame, ConnectionEnd> {
        match response {
            Response::ListOffsets(mut answer) => {
                // What is gathered must not wait for the searches.
                if answer.is_searching() {
                    self.write_pieces(gathered).await?;
                }
                while answer.is_searching() {
                    answer = self
                        .off_thread(move || {
                            answer.search_next();
                            answer
                        })
                        .await?;
                }
                encode(head, &Response::ListOffsets(answer)).map(Frame::Whole)
            }
            Response::DescribeLogDirs(mut answer) => {
                if answer.is_unasked() {
                    self.write_pieces(gathered).await?;
                    let ask = move || {
                        answer.ask_volume();
                        answer
                    };
                    answer = self.off_thread(ask).await?;
                }
                encode(head, &Response::DescribeLogDirs(answer)).map(Frame::Whole)
            }
            Response::Fetch(answer) if answer.record_bytes() > READ_INLINE_BYTES => {
                let around = answer.encode_around(head.key, head.version, head.correlation_id);
                around.map(Frame::Around).map_err(|error| bad_answer(head, &error))
            }
            Response::Fetch(mut answer) => {
                if answer.record_bytes() > FREE_BYTES {
                    let charge = self.charge_records(answer.record_bytes(), gathered).await?;
                    self.charged_records.push(charge);
                }
                answer
                    .read(&mut self.buffer)
                    .map_err(|error| ConnectionEnd::BadAnswer(error.to_string()))?;
                encode(head, &Response::Fetch(answer)).map(Frame::Whole)
            }
            response => encode(head, &response).map(Frame::Whole),
        }
    }

    /// Writes a large answer as its files are read, a chunk at a time. What comes last is left in `pieces`, for what
    /// follows it.
    async fn stream(
        &mut self,
        pieces: &mut VecDeque<Bytes>,
        frame: Vec<Piece>,
    ) -> Result<(), ConnectionEnd> {
        // What is gathered must not wait for a disk.
        self.write_pieces(pieces).await?;
        let _chunk = self.charge_records(CHUNK_BYTES, pieces).await?;
        for piece in frame {
            let mut slice = match piece {
                Piece::Bytes(bytes) => {
                    pieces.push_back(bytes);
                    continue;
                }
                Piece::Records(slice) => slice,
            };
            while slice.len_bytes() > 0 {
                let chunk = self.read(slice.split_to(CHUNK_BYTES)).await?;
                pieces.push_back(chunk);
                self.write_pieces(pieces).await?;
            }
        }
        Ok(())
    }

    /// Waits for room for records. What is gathered must not wait for it.
    async fn charge_records(
        &mut self,
        bytes: usize,
        gathered: &mut VecDeque<Bytes>,
    ) -> Result<AnswerCharge, ConnectionEnd> {
        let memory = self.memory.clone();
        if !memory.has_room() {
            self.write_pieces(gathered).await?;
            // Those whose answers take it may wait here themselves, so the wait has an end.
            timeout(ROOM_PATIENCE, memory.room()).await.map_err(|_| ConnectionEnd::NoMemory)?;
        }
        Ok(memory.charge(bytes))
    }

    /// Reads on a thread that may wait for a disk.
    async fn read(&mut self, slice: FileSlice) -> Result<Bytes, ConnectionEnd> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = move || {
            buffer.clear();
            // The chunk before is written, so its memory is used again.
            buffer.resize(slice.len_bytes(), 0);
            slice.read_into(&mut buffer).map(|()| {
                let chunk = buffer.split().freeze();
                (buffer, chunk)
            })
        };
        let read = self.off_thread(read).await?;
        let (buffer, chunk) = read.map_err(|error| ConnectionEnd::BadAnswer(error.to_string()))?;
        self.buffer = buffer;
        Ok(chunk)
    }

    /// Does what may wait for a disk, or take long, on a thread for that, once it is its turn.
    async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ConnectionEnd> {
        let turn = self.reads.clone().acquire_owned().await;
        let work = move || {
            // Kept until it has ended, though the connection may go first.
            let _turn = turn;
            work()
        };
        let ended = tokio::task::spawn_blocking(work).await;
        ended.map_err(|_| ConnectionEnd::BadAnswer("the reading of its files ended early".into()))
    }

    async fn write(&mut self, pieces: &mut VecDeque<Bytes>) -> Result<(), ConnectionEnd> {
        self.write_pieces(pieces).await?;
        self.charged.clear();
        self.charged_records.clear();
        Ok(())
    }

    async fn write_pieces(&mut self, pieces: &mut VecDeque<Bytes>) -> Result<(), ConnectionEnd> {
        // Once the socket has not taken all at once: since when, and how much since then.
        let mut slow: Option<(Instant, usize)> = None;
        while !pieces.is_empty() {
            let slices: Vec<IoSlice<'_>> =
                pieces.iter().take(PIECES_MAX).map(|piece| IoSlice::new(piece)).collect();
            let is_rest = slices.len() == pieces.len();
            let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
            let writer = &mut self.writer;
            let write = async {
                let written = writer.write_vectored(&slices).await?;
                if is_rest && written == bytes {
                    // TLS keeps what the socket does not take at once.
                    writer.flush().await?;
                }
                Ok(written)
            };
            tokio::pin!(write);
            let mut quiet = Duration::ZERO;
            let written = loop {
                let wait = self.stall.saturating_sub(quiet).min(LOOK);
                if let Ok(written) = timeout(wait, &mut write).await {
                    break written;
                }
                quiet += wait;
                let (since, bytes) = *slow.get_or_insert_with(|| (Instant::now() - wait, 0));
                if quiet >= self.stall || self.memory.is_too_slow(bytes, since.elapsed()) {
                    return Err(ConnectionEnd::Stalled);
                }
            };
            let written = match written {
                Err(error) => return Err(broken(error)),
                Ok(0) => return Err(ConnectionEnd::Closed),
                Ok(written) => written,
            };
            drop_front(pieces, written);
            if written < bytes {
                let (since, bytes) = slow.get_or_insert_with(|| (Instant::now(), 0));
                *bytes += written;
                if self.memory.is_too_slow(*bytes, since.elapsed()) {
                    return Err(ConnectionEnd::Stalled);
                }
            }
        }
        Ok(())
    }
}

/// The frame of an answer.
#[derive(Debug)]
enum Frame {
    /// All of it.
    Whole(Vec<Bytes>),
    /// Its records are still in their files.
    Around(Vec<Piece>),
}

/// A client that goes without a word is no event.
fn broken(error: io::Error) -> ConnectionEnd {
    match error.kind() {
        // The last: TLS without the end that the protocol asks for.
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => ConnectionEnd::Closed,
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

//! One connection to one broker: requests pipelined by correlation id, versions negotiated.
//!
//! Whoever sends writes to the socket itself, under a lock, so that a request costs no extra hop
//! between tasks; one task per connection reads answers and hands each to whom it belongs.
//!
//! # What holds
//! - Kafka answers a connection's requests in order, so the oldest unanswered request is the one an
//!   answer must name; any other correlation id ends the connection.
//! - Each request is answered exactly once: with the frame, or with the error that ended the
//!   connection.
//! - Nobody waits past a request's deadline to write it: neither for the turn nor for a broker that
//!   takes no bytes. A write cut off ends the connection.
//! - A request unanswered past its deadline ends the connection: what the broker does with it is
//!   unknown, and nothing behind it can be answered first.

mod login;

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{watch, Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use weir_protocol::api::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::Str;
use weir_protocol::{frame, ApiKey, Decoder, Request, Wire};

use crate::config::ClientConfig;
use crate::error::ClientError;
use crate::security::SaslSettings;
use crate::transport::{BoxedRead, BoxedWrite, Transport};

/// Requests unanswered at once on one connection; more wait. Producers and fetchers keep far below.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 64;

/// An answer up to this size gets its room at once: a fetch of several partitions.
const READ_BYTES_USUAL: usize = 16 << 20;

/// Room in the read buffer for small answers; a larger answer gets its exact room.
const READ_BYTES_MIN: usize = 64 << 10;

/// Where a broker listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Name or address.
    pub host: Str,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// An answer's frame without its length, or why there is none.
pub(crate) type Reply = Result<Bytes, ClientError>;
/// Called with the reply on the reading task: it must be short and must not block.
pub(crate) type OnReply = Box<dyn FnOnce(Reply) + Send>;

/// A request ready to be written.
pub(crate) struct Frame {
    pub(crate) api: &'static str,
    pub(crate) correlation_id: i32,
    pub(crate) segments: Vec<Bytes>,
    pub(crate) timeout_ms: u32,
}

/// An open connection. Dropping the last reference closes it.
#[derive(Debug)]
pub struct Connection {
    shared: Arc<Shared>,
    writer: tokio::sync::Mutex<Writer>,
    in_flight: Arc<Semaphore>,
    next_correlation_id: AtomicI32,
    client_id: String,
    offered: Offered,
    /// Who we are, if the broker is to know.
    sasl: Option<SaslSettings>,
    login_timeout_ms: u32,
}

/// What the broker says it can do.
#[derive(Debug, Default)]
struct Offered {
    /// By API key: its versions.
    versions: Vec<Option<RangeInclusive<i16>>>,
    /// The finalized level of `transaction.version`; 0 where it names none.
    transaction_version: i16,
}

/// Until when a request must have been written, and what to say if it is not.
#[derive(Debug, Clone, Copy)]
struct WriteLimit {
    api: &'static str,
    timeout_ms: u32,
    deadline: Instant,
}

impl WriteLimit {
    fn of(frame: &Frame) -> Self {
        let timeout_ms = frame.timeout_ms;
        let deadline = Instant::now() + Duration::from_millis(timeout_ms.into());
        WriteLimit { api: frame.api, timeout_ms, deadline }
    }
}

struct Writer {
    half: BoxedWrite,
    /// A write was cut off: what follows would be read as part of it.
    torn: bool,
    /// When to log in, for the first time or again; `None`: not at all.
    log_in_at: Option<Instant>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("torn", &self.torn).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Shared {
    endpoint: Endpoint,
    state: Mutex<State>,
    closing: Notify,
    /// Becomes true once: what waits to write must not outlive the connection.
    closed: watch::Sender<bool>,
    open: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    pending: VecDeque<Pending>,
    closed: Option<ClientError>,
}

struct Pending {
    api: &'static str,
    correlation_id: i32,
    timeout_ms: u32,
    deadline: Instant,
    on_reply: OnReply,
    /// Given back when the reply has been handed over.
    _permit: Option<OwnedSemaphorePermit>,
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("api", &self.api)
            .field("correlation_id", &self.correlation_id)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects and learns the broker's versions.
    pub(crate) async fn open(
        endpoint: Endpoint,
        transport: &dyn Transport,
        config: &ClientConfig,
    ) -> Result<Connection, ClientError> {
        let timeout_ms = config.connect_timeout_ms;
        let opening = Self::open_unbounded(endpoint.clone(), transport, config);
        let timeout = Duration::from_millis(timeout_ms.into());
        tokio::time::timeout(timeout, opening).await.unwrap_or_else(|_| {
            Err(ClientError::RequestTimeout {
                api: "connect",
                broker: endpoint.to_string(),
                timeout_ms,
            })
        })
    }

    async fn open_unbounded(
        endpoint: Endpoint,
        transport: &dyn Transport,
        config: &ClientConfig,
    ) -> Result<Connection, ClientError> {
        let (read, write) = transport
            .connect(&endpoint.host, endpoint.port)
            .await
            .map_err(|error| lost(&endpoint, error.to_string()))?;
        let shared = Arc::new(Shared {
            endpoint,
            state: Mutex::default(),
            closing: Notify::new(),
            closed: watch::Sender::new(false),
            open: AtomicBool::new(true),
        });
        let tick_ms = (config.request_timeout_ms / 8).clamp(5, 500);
        tokio::spawn(read_answers(Arc::clone(&shared), read, config.response_bytes_max, tick_ms));
        let mut connection = Connection {
            shared,
            writer: tokio::sync::Mutex::new(Writer { half: write, torn: false, log_in_at: None }),
            in_flight: Arc::new(Semaphore::new(REQUESTS_IN_FLIGHT_MAX)),
            next_correlation_id: AtomicI32::new(0),
            client_id: config.client_id.clone(),
            offered: Offered::default(),
            sasl: config.security.sasl.clone(),
            login_timeout_ms: config.request_timeout_ms,
        };
        connection.offered = connection.negotiate(config.request_timeout_ms).await?;
        let mut writer = connection.writer.lock().await;
        writer.log_in_at = connection.sasl.is_some().then(Instant::now);
        connection.log_in_if_due(&mut writer).await?;
        drop(writer);
        Ok(connection)
    }

    /// Where it leads.
    pub fn endpoint(&self) -> &Endpoint {
        &self.shared.endpoint
    }

    /// Whether it can still be used, as far as is known.
    pub fn is_open(&self) -> bool {
        self.shared.open.load(Ordering::Acquire)
    }

    /// The highest version of this API that both sides have and that is at most `version_max`.
    ///
    /// # Errors
    /// [`ClientError::UnsupportedVersion`] if there is none.
    pub fn version<R: Request>(&self, version_max: i16) -> Result<i16, ClientError> {
        let ours = *R::VERSIONS.start()..=(*R::VERSIONS.end()).min(version_max);
        let theirs = usize::try_from(R::API_KEY.get())
            .ok()
            .and_then(|key| self.offered.versions.get(key))
            .and_then(Option::as_ref);
        let common = theirs.and_then(|theirs| frame::common_versions(&ours, theirs));
        common.map(|range| *range.end()).ok_or_else(|| ClientError::UnsupportedVersion {
            api: R::API_KEY.name(),
            broker: self.shared.endpoint.to_string(),
            broker_min: theirs.map_or(-1, |range| *range.start()),
            broker_max: theirs.map_or(-1, |range| *range.end()),
            client_min: *ours.start(),
            client_max: *ours.end(),
        })
    }

    /// Sends a request in the highest common version and awaits its answer.
    ///
    /// # Errors
    /// If the connection ends first, or the answer cannot be read. Error codes inside the answer are
    /// the caller's.
    pub async fn request<R: Request>(
        &self,
        request: &R,
        version_max: i16,
        timeout_ms: u32,
    ) -> Result<R::Response, ClientError> {
        let version = self.version::<R>(version_max)?;
        let frame = self.frame(request, version, timeout_ms)?;
        let bytes = self.exchange(frame).await?;
        self.decode::<R>(bytes, version)
    }

    /// A frame for [`Connection::send`].
    pub(crate) fn frame<R: Request>(
        &self,
        request: &R,
        version: i16,
        timeout_ms: u32,
    ) -> Result<Frame, ClientError> {
        let correlation_id = self.next_correlation_id.fetch_add(1, Ordering::Relaxed);
        let client_id = Some(self.client_id.as_str());
        let segments = frame::encode_request_segments(correlation_id, client_id, version, request)
            .map_err(|error| ClientError::MalformedAnswer {
                api: R::API_KEY.name(),
                broker: self.shared.endpoint.to_string(),
                reason: format!("the request cannot be written in version {version}: {error}"),
            })?;
        Ok(Frame { api: R::API_KEY.name(), correlation_id, segments, timeout_ms })
    }

    /// Reads an answer.
    pub(crate) fn decode<R: Request>(
        &self,
        bytes: Bytes,
        version: i16,
    ) -> Result<R::Response, ClientError> {
        match frame::decode_response::<R>(bytes, version) {
            Ok((_, response)) => Ok(response),
            Err(error) => {
                let malformed = ClientError::MalformedAnswer {
                    api: R::API_KEY.name(),
                    broker: self.shared.endpoint.to_string(),
                    reason: error.to_string(),
                };
                // Whatever comes next on this connection deserves no trust either.
                self.shared.close(malformed.clone());
                Err(malformed)
            }
        }
    }

    async fn exchange(&self, frame: Frame) -> Reply {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.send(
            frame,
            Box::new(move |reply| {
                // The asker may have gone.
                let _ = sender.send(reply);
            }),
        )
        .await;
        receiver.await.unwrap_or(Err(ClientError::Closed))
    }

    /// Writes a frame. `on_reply` is called exactly once, also when the connection is or gets lost.
    ///
    /// Cancel: if the future is dropped in the middle of a write, the connection closes.
    pub(crate) async fn send(&self, frame: Frame, on_reply: OnReply) {
        let limit = WriteLimit::of(&frame);
        let permit = self.until(&limit, Arc::clone(&self.in_flight).acquire_owned()).await;
        let permit = match permit {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return on_reply(Err(ClientError::Closed)),
            Err(error) => return on_reply(Err(error)),
        };
        let mut writer = match self.until(&limit, self.writer.lock()).await {
            Ok(writer) => writer,
            Err(error) => return on_reply(Err(error)),
        };
        if let Err(error) = self.log_in_if_due(&mut writer).await {
            return on_reply(Err(error));
        }
        let pending = Pending {
            api: frame.api,
            correlation_id: frame.correlation_id,
            timeout_ms: frame.timeout_ms,
            deadline: limit.deadline,
            on_reply,
            _permit: Some(permit),
        };
        if writer.torn {
            self.shared.close(lost(&self.shared.endpoint, "a write was cut off".to_owned()));
        }
        if !self.shared.expect(pending) {
            return;
        }
        // Closing has answered the request if this fails.
        let _ = self.write(&mut writer, frame.segments, &limit).await;
    }

    /// Writes a frame that gets no answer (acks none).
    pub(crate) async fn send_unanswered(&self, frame: Frame) -> Result<(), ClientError> {
        let limit = WriteLimit::of(&frame);
        let mut writer = self.until(&limit, self.writer.lock()).await?;
        self.log_in_if_due(&mut writer).await?;
        if writer.torn || !self.is_open() {
            return Err(lost(&self.shared.endpoint, "closed".to_owned()));
        }
        self.write(&mut writer, frame.segments, &limit).await
    }

    /// Writes all of it, or closes the connection.
    async fn write(
        &self,
        writer: &mut Writer,
        segments: Vec<Bytes>,
        limit: &WriteLimit,
    ) -> Result<(), ClientError> {
        writer.torn = true;
        let written = self.until(limit, write_segments(&mut writer.half, segments)).await;
        let error = match written {
            Ok(Ok(())) => {
                writer.torn = false;
                return Ok(());
            }
            Ok(Err(error)) => lost(&self.shared.endpoint, error.to_string()),
            Err(error) => error,
        };
        self.shared.close(error.clone());
        Err(error)
    }

    /// What `work` gives, unless the deadline or the end of the connection comes first.
    async fn until<T>(
        &self,
        limit: &WriteLimit,
        work: impl Future<Output = T>,
    ) -> Result<T, ClientError> {
        let ended = async {
            // The sender lives as long as this connection.
            let _ = self.shared.closed.subscribe().wait_for(|closed| *closed).await;
        };
        tokio::select! {
            // Work first: it seldom waits, and then no timer is made.
            biased;
            done = work => Ok(done),
            () = ended => Err(self.shared.closed_by()),
            () = tokio::time::sleep_until(limit.deadline) => Err(ClientError::RequestTimeout {
                api: limit.api,
                broker: self.shared.endpoint.to_string(),
                timeout_ms: limit.timeout_ms,
            }),
        }
    }

    /// The level of `transaction.version` the cluster has finalized (KIP-890), as this broker knew it
    /// when the connection was made.
    pub(crate) fn transaction_version(&self) -> i16 {
        self.offered.transaction_version
    }

    async fn negotiate(&self, timeout_ms: u32) -> Result<Offered, ClientError> {
        let newest = *ApiVersionsRequest::VERSIONS.end();
        let mut response = self.ask_versions(newest, timeout_ms).await?;
        if response.error_code == ErrorCode::UnsupportedVersion.code() {
            // KIP-511: an older broker answers in version 0 and names its range.
            let offered =
                response.api_keys.iter().find(|api| api.api_key == ApiKey::ApiVersions.get());
            let version = offered.map_or(0, |api| api.max_version.min(newest)).max(0);
            response = self.ask_versions(version, timeout_ms).await?;
        }
        let code = ErrorCode::from_code(response.error_code);
        if !code.is_none() {
            return Err(ClientError::Broker { api: "ApiVersions", code, message: None });
        }
        let features = response.finalized_features.iter();
        let level = |name| features.clone().find(|feature| &*feature.name == name);
        let transaction_version =
            level("transaction.version").map_or(0, |feature| feature.max_version_level);
        let mut versions = Vec::new();
        for api in response.api_keys {
            let Ok(key) = usize::try_from(api.api_key) else { continue };
            if versions.len() <= key {
                versions.resize(key + 1, None);
            }
            versions[key] = Some(api.min_version..=api.max_version);
        }
        Ok(Offered { versions, transaction_version })
    }

    async fn ask_versions(
        &self,
        version: i16,
        timeout_ms: u32,
    ) -> Result<ApiVersionsResponse, ClientError> {
        let request = ApiVersionsRequest {
            client_software_name: Str::from("weir"),
            client_software_version: Str::from(env!("CARGO_PKG_VERSION")),
        };
        let bytes = self.exchange(self.frame(&request, version, timeout_ms)?).await?;
        // The answer to an unknown version is in version 0, whose first field is the error code.
        let unsupported = ErrorCode::UnsupportedVersion.code().to_be_bytes();
        if version > 0 && bytes.get(4..6) == Some(&unsupported[..]) {
            let mut decoder = Decoder::new(bytes.slice(4..));
            let read = ApiVersionsResponse::decode(&mut decoder, 0);
            return read.map_err(|error| ClientError::MalformedAnswer {
                api: "ApiVersions",
                broker: self.shared.endpoint.to_string(),
                reason: error.to_string(),
            });
        }
        self.decode::<ApiVersionsRequest>(bytes, version)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.close(ClientError::Closed);
    }
}

impl Shared {
    /// Queues the request, or answers it at once if the connection is closed.
    fn expect(&self, pending: Pending) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(error) = state.closed.clone() else {
            state.pending.push_back(pending);
            return true;
        };
        drop(state);
        (pending.on_reply)(Err(error));
        false
    }

    /// Ends the connection and answers everything unanswered with the error. Only the first counts.
    fn close(&self, error: ClientError) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed.is_some() {
            return;
        }
        self.open.store(false, Ordering::Release);
        state.closed = Some(error.clone());
        let pending = std::mem::take(&mut state.pending);
        drop(state);
        self.closing.notify_one();
        self.closed.send_replace(true);
        for request in pending {
            (request.on_reply)(Err(error.clone()));
        }
    }

    /// The error that ended the connection.
    fn closed_by(&self) -> ClientError {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.closed.clone().unwrap_or(ClientError::Closed)
    }

    /// Hands a frame to the oldest request, which must be the one it answers.
    fn deliver(&self, frame: Bytes) {
        let named = frame.get(..4).and_then(|id| id.try_into().ok()).map(i32::from_be_bytes);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let expected = state.pending.front().map(|request| request.correlation_id);
        if named.is_none() || named != expected {
            drop(state);
            let reason = format!("answer {named:?} came where {expected:?} was due");
            return self.close(lost(&self.endpoint, reason));
        }
        let request = state.pending.pop_front();
        drop(state);
        if let Some(request) = request {
            (request.on_reply)(Ok(frame));
        }
    }

    fn close_if_overdue(&self, now: Instant) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(oldest) = state.pending.front().filter(|request| request.deadline <= now) else {
            return;
        };
        let error = ClientError::RequestTimeout {
            api: oldest.api,
            broker: self.endpoint.to_string(),
            timeout_ms: oldest.timeout_ms,
        };
        drop(state);
        self.close(error);
    }
}

fn lost(endpoint: &Endpoint, reason: String) -> ClientError {
    ClientError::ConnectionLost { broker: endpoint.to_string(), reason }
}

async fn write_segments(half: &mut BoxedWrite, segments: Vec<Bytes>) -> io::Result<()> {
    let mut segments = VecDeque::from(segments);
    while let Some(first) = segments.front_mut() {
        if first.is_empty() {
            segments.pop_front();
            continue;
        }
        // The kernel takes 1,024 pieces at most; 64 are plenty for one call.
        let mut slices = [IoSlice::new(&[]); 64];
        let count = segments.len().min(slices.len());
        for (slice, segment) in slices.iter_mut().zip(&segments) {
            *slice = IoSlice::new(segment);
        }
        let mut written = half.write_vectored(&slices[..count]).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while let Some(first) = segments.front_mut() {
            if written < first.len() {
                first.advance(written);
                break;
            }
            written -= first.len();
            segments.pop_front();
        }
    }
    half.flush().await
}

async fn read_answers(shared: Arc<Shared>, mut half: BoxedRead, bytes_max: usize, tick_ms: u32) {
    let mut tick = tokio::time::interval(Duration::from_millis(tick_ms.into()));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut buffer = BytesMut::with_capacity(READ_BYTES_MIN);
    let reason = loop {
        match next_frame(&mut buffer, bytes_max) {
            Ok(Some(frame)) => {
                shared.deliver(frame);
                continue;
            }
            Ok(None) => {}
            Err(error) => break error,
        }
        tokio::select! {
            read = half.read_buf(&mut buffer) => match read {
                Ok(0) => break "closed by the broker".to_owned(),
                Ok(_) => {}
                Err(error) => break error.to_string(),
            },
            _ = tick.tick() => shared.close_if_overdue(Instant::now()),
            () = shared.closing.notified() => return,
        }
    };
    shared.close(lost(&shared.endpoint, reason));
}

/// Takes one frame off the buffer; else makes room for the rest of it.
fn next_frame(buffer: &mut BytesMut, bytes_max: usize) -> Result<Option<Bytes>, String> {
    let Some(prefix) = buffer.first_chunk::<4>() else {
        buffer.reserve(READ_BYTES_MIN);
        return Ok(None);
    };
    let length = frame::frame_len(prefix, bytes_max).map_err(|error| error.to_string())?;
    if buffer.len() < 4 + length {
        // Beyond the usual size room grows with what has come, so that a false length costs nothing by
        // itself; below it one exact allocation spares the copies of growing.
        let missing = 4 + length - buffer.len();
        buffer.reserve(missing.min(buffer.len().max(READ_BYTES_USUAL)));
        return Ok(None);
    }
    buffer.advance(4);
    Ok(Some(buffer.split_to(length).freeze()))
}

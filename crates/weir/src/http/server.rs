//! The accept loop of every HTTP door: connections are counted over all doors, and none may idle.
//!
//! Every connection holds a file descriptor, and the embedded broker's logs need theirs. So all doors
//! together take a bounded number of connections; more are refused in words at once, and a connection
//! that does not finish a request's head in time is closed.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::task::{ready, Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{watch, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Sleep;

/// The longest time from one answer, or the begin, to the end of the next request's head.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Bytes of a request's head, which is also what is read at once of a body.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// The longest time a peer may take nothing of what is written to it.
const STALL_TIME: Duration = Duration::from_secs(30);
/// Pause after an accept that failed, which is most often "too many open files".
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The connections of all doors.
#[derive(Debug)]
pub(crate) struct Connections {
    seats: Arc<Semaphore>,
    connections_max: usize,
    refused: AtomicU64,
}

impl Connections {
    /// As many as wanted, but at most a quarter of the files that may be open: the broker's logs have a
    /// quarter, and its connections the rest.
    pub(crate) fn new(wanted: usize, files_max: Option<u64>) -> Self {
        let quarter = files_max.map_or(usize::MAX, |files| usize::try_from(files / 4).unwrap_or(0));
        let connections_max = wanted.min(quarter.max(1)).min(Semaphore::MAX_PERMITS);
        if connections_max < wanted {
            tracing::info!(
                wanted,
                connections_max,
                "the limit of open files allows fewer HTTP connections than configured"
            );
        }
        let seats = Arc::new(Semaphore::new(connections_max));
        Self { seats, connections_max, refused: AtomicU64::new(0) }
    }

    /// Connections that are open, WebSockets included.
    pub(crate) fn open(&self) -> usize {
        self.connections_max.saturating_sub(self.seats.available_permits())
    }

    /// Connections refused since the start, for want of a seat or of a file descriptor.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn take_seat(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.seats).try_acquire_owned().ok()
    }

    fn refuse(&self, why: &str) {
        let before = self.refused.fetch_add(1, Ordering::Relaxed);
        // The first, the second, the fourth: a flood is told without one of lines.
        if (before + 1).is_power_of_two() {
            let (max, refused) = (self.connections_max, before + 1);
            tracing::warn!(max, refused, "HTTP connection refused: {why}");
        }
    }
}

/// Serves `router` until it is told to stop. Then no new connections; those that are open finish their
/// request. Dropping the future drops them. WebSockets end by themselves, or with the runtime.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    connections: Arc<Connections>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stop| *stop) => break,
        };
        while open.try_join_next().is_some() {}
        match (accepted, connections.take_seat()) {
            (Ok((stream, _)), Some(seat)) => {
                let stream = Seated { stream, stalled: None, _seat: seat };
                open.spawn(converse(stream, router.clone(), HEAD_TIME, stopped.clone()));
            }
            (Ok((stream, _)), None) => {
                connections.refuse("there are too many");
                turn_away(&stream);
            }
            // That client is gone again; the next one is not.
            (Err(error), _) if is_of_one_connection(&error) => {}
            (Err(error), _) => {
                connections.refuse(&error.to_string());
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn converse(
    stream: Seated,
    router: Router,
    head_time: Duration,
    mut stopped: watch::Receiver<bool>,
) {
    // Answers are written whole; waiting for more (Nagle) would only add its delay.
    let _ = stream.stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_time)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = stopped.wait_for(|stop| *stop) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "HTTP connection ended");
    }
}

/// One try: a connection without a seat is not waited for.
fn turn_away(stream: &TcpStream) {
    let body = concat!(
        r#"{"status":"rejected","code":"WEIR-0918","message":"there are too many HTTP connections","#,
        r#""retry_after_ms":1000,"http_status":503}"#
    );
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.try_write(answer.as_bytes());
}

/// A stream that holds its seat as long as it is open, also as a WebSocket, and fails when its peer
/// takes nothing for [`STALL_TIME`].
#[derive(Debug)]
struct Seated {
    stream: TcpStream,
    stalled: Option<Pin<Box<Sleep>>>,
    _seat: OwnedSemaphorePermit,
}

impl Seated {
    fn watch<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL_TIME)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Seated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Seated {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    struct Door {
        address: std::net::SocketAddr,
        connections: Arc<Connections>,
        _stop: watch::Sender<bool>,
    }

    async fn door(connections_max: usize) -> Door {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(Connections::new(connections_max, None));
        let (stop, stopped) = watch::channel(false);
        let router = Router::new().route("/", get(|| async { "here" }));
        tokio::spawn(serve(listener, router, Arc::clone(&connections), stopped));
        Door { address, connections, _stop: stop }
    }

    async fn read(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text).await;
        text
    }

    async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
        let asking = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), asking)
            .await
            .unwrap_or_else(|_| panic!("{what}"));
    }

    #[tokio::test]
    async fn more_connections_than_seats_are_refused_in_words_and_counted() {
        let door = door(2).await;
        let mut held = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(door.address).await.unwrap();
            stream.write_all(b"GET / HT").await.unwrap();
            held.push(stream);
        }
        until("both are open", || door.connections.open() == 2).await;
        let mut third = TcpStream::connect(door.address).await.unwrap();
        let answer = read(&mut third).await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("WEIR-0918"), "{answer}");
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap()["http_status"], 503);
        assert_eq!((door.connections.open(), door.connections.refused()), (2, 1));
        drop(held);
        until("both are closed", || door.connections.open() == 0).await;
        let mut fourth = TcpStream::connect(door.address).await.unwrap();
        fourth.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        assert!(read(&mut fourth).await.ends_with("here"));
    }

    #[tokio::test]
    async fn a_head_that_does_not_end_costs_its_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connections = Connections::new(1, None);
        let (_stop, stopped) = watch::channel(false);
        for begun in [&b""[..], b"GET / HTTP/1.1\r\nhost: x\r\n"] {
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            client.write_all(begun).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let seat = connections.take_seat().unwrap();
            let stream = Seated { stream, stalled: None, _seat: seat };
            let head_time = Duration::from_millis(50);
            tokio::spawn(converse(stream, Router::new(), head_time, stopped.clone()));
            let closed = tokio::time::timeout(Duration::from_secs(10), read(&mut client)).await;
            assert!(closed.is_ok(), "it is closed");
            until("its seat is free", || connections.open() == 0).await;
        }
    }

    #[tokio::test]
    async fn a_head_over_its_bound_is_431() {
        let door = door(2).await;
        let mut client = TcpStream::connect(door.address).await.unwrap();
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n", "x".repeat(HEAD_BYTES_MAX));
        client.write_all(long.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        let reading = client.read_exact(&mut answer);
        tokio::time::timeout(Duration::from_secs(10), reading).await.unwrap().unwrap();
        assert_eq!(&answer, b"HTTP/1.1 431");
    }

    #[tokio::test]
    async fn a_stop_waits_for_nobody_silent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(Connections::new(2, None));
        let (stop, stopped) = watch::channel(false);
        let serving = serve(listener, Router::new(), Arc::clone(&connections), stopped);
        let serving = tokio::spawn(serving);
        let silent = TcpStream::connect(address).await.unwrap();
        until("it is open", || connections.open() == 1).await;
        stop.send(true).unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(10), serving).await;
        ended.expect("it ends").unwrap();
        drop(silent);
    }

    #[test]
    fn the_broker_keeps_three_quarters_of_the_files() {
        assert_eq!(Connections::new(8_192, Some(1_024)).connections_max, 256);
        assert_eq!(Connections::new(10, Some(1_024)).connections_max, 10);
        assert_eq!(Connections::new(8_192, None).connections_max, 8_192);
        assert_eq!(Connections::new(8_192, Some(0)).connections_max, 1);
    }
}

//! An HTTP server whose connections have bounds: how many there are, and how long one may be silent.
//!
//! axum's own server has neither, so that clients that connect and say nothing could take every file
//! descriptor of the process, those of the log among them.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{watch, OwnedSemaphorePermit, Semaphore};

/// Bounds of a server. A connection that became a WebSocket is no longer among them: those are
/// counted, and timed, where they are served.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Further ones wait to be accepted.
    pub(super) connections_max: u32,
    /// Longest time from the beginning of a connection, or the end of an answer, to the end of the
    /// next request's head.
    pub(super) head_time: Duration,
}

/// Bytes of a request's head, which is also what is read at once of a body.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Pause after an accept that failed for want of something, usually file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stopped`, then takes no more connections and returns when those that are open have
/// finished their request.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    bounds: Bounds,
    stopped: impl Future<Output = ()>,
) {
    let seats = Arc::new(Semaphore::new(bounds.connections_max as usize));
    let stop = watch::Sender::new(false);
    tokio::pin!(stopped);
    loop {
        let next = async {
            let seat = Arc::clone(&seats).acquire_owned().await.ok()?;
            Some((accept(&listener).await, seat))
        };
        let (stream, seat) = tokio::select! {
            () = &mut stopped => break,
            Some(next) = next => next,
        };
        tokio::spawn(connection(stream, router.clone(), bounds, stop.subscribe(), seat));
    }
    drop(listener);
    let _ = stop.send(true);
    let _ = seats.acquire_many(bounds.connections_max).await;
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // That client is gone again; the next one is not.
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "HTTP server: no connection can be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn connection(
    stream: TcpStream,
    router: Router,
    bounds: Bounds,
    mut stop: watch::Receiver<bool>,
    _seat: OwnedSemaphorePermit,
) {
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head_time)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let stopped = async move {
        // An error means that the server is gone, which is a stop too.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "HTTP connection");
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinHandle;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn start(bounds: Bounds) -> (SocketAddr, watch::Sender<bool>, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(async || "here"));
        let stop = watch::Sender::new(false);
        let mut stopped = stop.subscribe();
        let stopped = async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        (address, stop, tokio::spawn(serve(listener, router, bounds, stopped)))
    }

    async fn ask(address: SocketAddr, request: &str) -> TcpStream {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        socket
    }

    async fn rest(mut socket: TcpStream) -> String {
        let mut text = String::new();
        let reading = socket.read_to_string(&mut text);
        tokio::time::timeout(PATIENCE, reading).await.expect("it is closed").unwrap();
        text
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_or_half_a_head_is_closed() {
        let bounds = Bounds { connections_max: 9, head_time: Duration::from_millis(200) };
        let (address, _stop, _task) = start(bounds).await;
        for said in ["", "GET / HTTP/1.1\r\nHost: a"] {
            let answer = rest(ask(address, said).await).await;
            assert!(!answer.contains("200 OK"), "{answer}");
        }
        let idle = rest(ask(address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await).await;
        assert!(idle.ends_with("here"), "{idle}");
    }

    #[tokio::test]
    async fn connections_have_a_bound_and_the_next_is_served_when_one_leaves() {
        let bounds = Bounds { connections_max: 2, head_time: Duration::from_secs(60) };
        let (address, stop, task) = start(bounds).await;
        let silent = [ask(address, "").await, ask(address, "").await];
        let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let third = tokio::spawn(rest(ask(address, request).await));
        let waited = tokio::time::timeout(Duration::from_millis(200), rest(ask(address, "").await));
        assert!(waited.await.is_err(), "it waits");
        assert!(!third.is_finished());
        drop(silent);
        let answer = third.await.unwrap();
        assert!(answer.contains("200 OK") && answer.ends_with("here"), "{answer}");
        let open = ask(address, "").await;
        stop.send(true).unwrap();
        tokio::time::timeout(PATIENCE, task)
            .await
            .expect("a stop waits for nobody silent")
            .unwrap();
        drop(open);
    }

    #[tokio::test]
    async fn a_head_over_its_bound_is_431() {
        let bounds = Bounds { connections_max: 2, head_time: Duration::from_secs(60) };
        let (address, _stop, _task) = start(bounds).await;
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n", "x".repeat(HEAD_BYTES_MAX));
        let mut socket = ask(address, &long).await;
        let mut answer = [0; 12];
        tokio::time::timeout(PATIENCE, socket.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, b"HTTP/1.1 431");
    }
}

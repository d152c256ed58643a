//! The admin socket: who may open it is whom the log directory belongs to.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{watch, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::shared::Shared;
use crate::admin::{
    parse_request, print_answer, CleanAnswer, CleanRefused, CleanRequest, REQUEST_BYTES_MAX, SOCKET,
};

/// Connections that are served at once.
const CONNECTIONS_MAX: usize = 8;
/// How long a request, and the taking of an answer, may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at a cleaning that goes on.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Looks in a row at which nothing was being cleaned, after which what is not clean stays so: 20 s.
const IDLE_LOOKS_MAX: u32 = 1_000;

/// The socket and its task; the file goes with them.
#[derive(Debug)]
pub(super) struct AdminSocket {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl AdminSocket {
    /// Listens in the log directory, whose lock this process has. `None`, and a line in the log, if that cannot be: a broker
    /// does its work without.
    pub(super) fn start(shared: Arc<Shared>, stopped: watch::Receiver<bool>) -> Option<Self> {
        let path = shared.config.data_dir.join(SOCKET);
        match listen(&path) {
            Ok(listener) => {
                Some(Self { path, task: tokio::spawn(accept(listener, shared, stopped)) })
            }
            Err(error) => {
                let path = path.display();
                tracing::warn!(%error, %path, "there is no admin socket; weir log clean will not reach this broker");
                None
            }
        }
    }

    pub(super) fn stop(self) {
        self.task.abort();
        let _ = fs::remove_file(&self.path);
    }
}

/// A socket at `path` that nobody else may connect to. What an earlier process left there goes.
fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The path of a socket has 107 bytes at most; by way of its directory's handle any will do.
    let dir = File::open(path.parent().unwrap_or(Path::new(".")))?;
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()))
        .or_else(|_| UnixListener::bind(path))?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn accept(listener: UnixListener, shared: Arc<Shared>, stopped: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            sleep(LOOK_INTERVAL).await;
            continue;
        };
        // Between the binding and the mode of the file others may have come.
        let ours = rustix::process::geteuid().as_raw();
        let is_ours = stream.peer_cred().is_ok_and(|peer| peer.uid() == ours || peer.uid() == 0);
        if !is_ours {
            continue;
        }
        let (shared, mut stopped) = (shared.clone(), stopped.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = serve(&shared, stream) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
            drop(place);
        });
    }
}

async fn serve(shared: &Shared, stream: UnixStream) {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(reader.take(REQUEST_BYTES_MAX as u64));
    if !matches!(timeout(PATIENCE, reader.read_line(&mut line)).await, Ok(Ok(_))) {
        return;
    }
    let answer = match parse_request(&line) {
        Some(request) => clean(shared, &request).await,
        None => Err(CleanRefused::Unknown),
    };
    let answer = print_answer(&answer);
    // Who has gone does not want it.
    let _ = timeout(PATIENCE, writer.write_all(answer.as_bytes())).await;
}

/// Asks for a cleaning and waits until it is done, or nothing more comes of it.
async fn clean(shared: &Shared, request: &CleanRequest) -> CleanAnswer {
    let mut asked = shared.begin_clean(request)?;
    let mut idle_looks = 0;
    while idle_looks < IDLE_LOOKS_MAX {
        sleep(LOOK_INTERVAL).await;
        let progress = shared.look_at_clean(&mut asked)?;
        if progress.is_done {
            break;
        }
        idle_looks = if progress.is_running { 0 } else { idle_looks + 1 };
    }
    Ok(asked.into_cleaned())
}

//! A disk that takes its time holds up those alone who wait for it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use weir_log::disk::{DirEntry, DiskFile, DiskLock, LockFailure, OpenMode, VolumeBytes};
use weir_log::{Disk, MemDisk};
use weir_protocol::api::describe_log_dirs::DescribeLogDirsRequest;
use weir_protocol::api::fetch::FetchRequest;
use weir_protocol::api::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use weir_protocol::api::metadata::MetadataRequest;
use weir_protocol::batch::batches;

use crate::harness::{batch_at, create_request, fetch_request, first, produce_request, START_MS};
use crate::server::{ask, config, connect, receive, send, start_on_disk};

/// Reads at least so long wait while the gate is shut. What the core reads is shorter.
const GATED_BYTES: usize = 64 << 10;

#[derive(Debug, Default)]
struct Gate {
    shut: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn set(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let patience = Duration::from_secs(10);
        let guard = self.shut.lock().unwrap();
        let (_guard, waited) =
            self.opened.wait_timeout_while(guard, patience, |shut| *shut).unwrap();
        assert!(!waited.timed_out(), "nobody has opened the gate");
    }
}

#[derive(Debug, Default)]
struct GateDisk {
    disk: MemDisk,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct GateFile {
    file: Arc<dyn DiskFile>,
    gate: Arc<Gate>,
}

impl DiskFile for GateFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        if buf.len() >= GATED_BYTES {
            self.gate.pass();
        }
        self.file.read_at(buf, position)
    }

    fn write_at(&self, buf: &[u8], position: u64) -> io::Result<()> {
        self.file.write_at(buf, position)
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        self.file.set_len(len_bytes)
    }

    fn len_bytes(&self) -> io::Result<u64> {
        self.file.len_bytes()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

impl Disk for GateDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(GateFile { file: self.disk.open(path, mode)?, gate: self.gate.clone() }))
    }

    fn open_direct(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open_direct(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn sync_many(&self, files: &[Arc<dyn DiskFile>], dirs: &[PathBuf]) -> io::Result<()> {
        files.iter().try_for_each(|file| file.sync_data())?;
        dirs.iter().try_for_each(|dir| match self.disk.sync_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
    }

    fn volume_bytes(&self, path: &Path) -> io::Result<VolumeBytes> {
        self.gate.pass();
        self.disk.volume_bytes(path)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DiskLock>, LockFailure> {
        self.disk.lock(path)
    }
}

/// 40 batches of 100 kB, each a second later than the one before.
async fn fill(stream: &mut tokio::net::TcpStream) {
    ask(stream, 7, &create_request("t", 1, &[])).await;
    let value = "x".repeat(1_000);
    let values = vec![value.as_str(); 100];
    for n in 0..40 {
        let batch = batch_at(START_MS + n * 1_000, &values);
        let answer = ask(stream, 9, &produce_request("t", 0, -1, batch)).await;
        assert_eq!(first(answer).error_code, 0);
    }
}

fn large_fetch() -> FetchRequest {
    let mut request = fetch_request("t", 0, 0, 0);
    request.max_bytes = 64 << 20;
    request.topics[0].partitions[0].partition_max_bytes = 64 << 20;
    request
}

/// One thread serves all connections here: what waits on it holds up everybody.
#[tokio::test(flavor = "current_thread")]
async fn a_large_fetch_from_a_slow_disk_holds_up_nobody_else() {
    let disk = Arc::new(GateDisk::default());
    let server = start_on_disk(disk.clone(), config()).await;
    let (mut reader, mut other) = (connect(&server).await, connect(&server).await);
    fill(&mut reader).await;
    disk.gate.set(true);
    send(&mut reader, 5, 12, &large_fetch()).await;
    send(&mut reader, 6, 12, &MetadataRequest::default()).await;
    ask(&mut other, 12, &MetadataRequest::default()).await;
    disk.gate.set(false);
    let (id, answer) = receive::<FetchRequest>(&mut reader, 12).await;
    assert_eq!(id, 5);
    let data = &answer.responses[0].partitions[0];
    let records = data.records.as_ref().unwrap();
    let mut next = 0;
    for view in batches(records) {
        let view = view.unwrap();
        view.verify_crc().unwrap();
        assert_eq!(view.base_offset().get(), next);
        next = view.last_offset().get() + 1;
    }
    assert_eq!(next, 4_000);
    assert_eq!(receive::<MetadataRequest>(&mut reader, 12).await.0, 6);
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn a_search_by_time_on_a_slow_disk_holds_up_nobody_else() {
    let disk = Arc::new(GateDisk::default());
    let server = start_on_disk(disk.clone(), config()).await;
    let (mut reader, mut other) = (connect(&server).await, connect(&server).await);
    fill(&mut reader).await;
    disk.gate.set(true);
    let timestamp = START_MS + 17_500;
    let partitions = vec![ListOffsetsPartition { timestamp, ..Default::default() }];
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic { name: "t".into(), partitions }],
        ..ListOffsetsRequest::default()
    };
    send(&mut reader, 5, 7, &request).await;
    ask(&mut other, 12, &MetadataRequest::default()).await;
    ask(&mut other, 9, &produce_request("t", 0, -1, batch_at(START_MS, &["y"]))).await;
    disk.gate.set(false);
    let (_, answer) = receive::<ListOffsetsRequest>(&mut reader, 7).await;
    assert_eq!(answer.topics[0].partitions[0].offset, 1_800);
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn a_volume_that_does_not_answer_holds_up_nobody_else() {
    let disk = Arc::new(GateDisk::default());
    let server = start_on_disk(disk.clone(), config()).await;
    let (mut asking, mut other) = (connect(&server).await, connect(&server).await);
    fill(&mut asking).await;
    disk.gate.set(true);
    send(&mut asking, 5, 4, &DescribeLogDirsRequest { topics: None }).await;
    ask(&mut other, 9, &produce_request("t", 0, -1, batch_at(START_MS, &["y"]))).await;
    disk.gate.set(false);
    let (_, answer) = receive::<DescribeLogDirsRequest>(&mut asking, 4).await;
    let dir = &answer.results[0];
    assert!(dir.usable_bytes > 0 && dir.usable_bytes < dir.total_bytes - 4_000_000, "{dir:?}");
    server.shutdown().await.unwrap();
}

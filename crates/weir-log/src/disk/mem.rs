//! [`MemDisk`]: a disk in memory that can lose power.
//!
//! It keeps apart what the running process sees and what a power cut would leave. Writes and names
//! become durable only by syncs; [`MemDisk::crash`] gives an image in which what was not synced is
//! there, missing or torn, drawn by a seed. Operations can be made to fail, and the power can be
//! cut after the n-th.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{DirEntry, Disk, DiskFile, DiskLock, LockFailure, OpenMode, VolumeBytes};

/// The unit a disk writes whole: a torn write ends at such a boundary.
const SECTOR_BYTES: u64 = 512;

/// What [`Disk::volume_bytes`] says this volume has. It is full when a fault says so ([`FaultKind::Full`]).
const VOLUME_BYTES: u64 = 1 << 40;

/// A disk in memory. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
}

/// An operation that is to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// How many changing operations (writes, syncs, creations, renames, removals) still succeed.
    pub after: u64,
    /// How it fails.
    pub kind: FaultKind,
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// EIO, once. If it hits a sync, what it should have made durable never will be, though later
    /// syncs succeed: as Linux does it.
    IoError,
    /// ENOSPC for each write and creation, until [`MemDisk::clear_fault`].
    Full,
    /// As [`FaultKind::IoError`], but only syncs count and fail.
    SyncError,
    /// ENOSPC for each renaming, as where a directory would need a block more, until [`MemDisk::clear_fault`].
    /// Only those count.
    NoRoomForNames,
    /// EMFILE for each opening of a file, until [`MemDisk::clear_fault`]. Only those count.
    TooManyOpen,
    /// Everything fails from here on: the power is off.
    PowerOff,
}

#[derive(Debug, Default)]
struct State {
    /// What the process sees.
    live: BTreeMap<PathBuf, Node>,
    /// What a power cut leaves for certain.
    durable: BTreeMap<PathBuf, Node>,
    /// Changes of names since the last sync of their directory, oldest first.
    unsynced_names: Vec<NameChange>,
    locks: HashSet<PathBuf>,
    fault: Option<Fault>,
    operations: u64,
}

#[derive(Debug, Clone)]
enum Node {
    Dir,
    File(Arc<Mutex<Inode>>),
}

#[derive(Debug, Clone)]
enum NameChange {
    Add { path: PathBuf, node: Node },
    Remove { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf },
}

#[derive(Debug, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write {
        position: u64,
        bytes: Vec<u8>,
    },
    /// A direct write. The disk writes its sectors in any order, each whole.
    Blocks {
        position: u64,
        bytes: Vec<u8>,
    },
    SetLen(u64),
}

/// What an operation does to the disk, as far as faults care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Grow,
    Sync,
    Rename,
    Other,
}

impl MemDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets an operation fail; replaces an earlier fault.
    pub fn inject(&self, fault: Fault) {
        self.state().fault = Some(fault);
    }

    /// Lets operations succeed again.
    pub fn clear_fault(&self) {
        self.state().fault = None;
    }

    /// Changing operations so far: the range to draw [`Fault::after`] from.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// The disk as a power cut now would leave it, with no locks and no faults.
    ///
    /// Each unsynced write is there, missing, or torn at a sector; of the unsynced changes of names
    /// in a directory the first few are there. The image is durable as a whole.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        let state = self.state();
        let mut random = Random(seed);
        let mut names = state.durable.clone();
        let mut cut: BTreeMap<PathBuf, bool> = BTreeMap::new();
        let mut missing: Vec<&Path> = Vec::new();
        for change in &state.unsynced_names {
            let dir = parent_of(change.path());
            let stopped = cut.entry(dir.to_owned()).or_insert(false);
            *stopped = *stopped || random.below(3) == 0;
            // What was done in a directory that is not there is not done in an older one of its name.
            if *stopped || missing.iter().any(|missing| dir.starts_with(missing)) {
                missing.push(change.path());
            } else {
                apply(&mut names, change);
            }
        }
        let image = Self::new();
        {
            let mut after = image.state();
            for (path, node) in names {
                let node = match node {
                    Node::Dir => Node::Dir,
                    Node::File(inode) => {
                        let bytes = lock(&inode).after_power_cut(&mut random);
                        let durable = bytes.clone();
                        Node::File(Arc::new(Mutex::new(Inode {
                            live: bytes,
                            durable,
                            unsynced: Vec::new(),
                        })))
                    }
                };
                if parent_of(&path).parent().is_none() || after.is_dir(parent_of(&path)) {
                    after.live.insert(path.clone(), node.clone());
                    after.durable.insert(path, node);
                }
            }
        }
        image
    }

    /// A copy of the disk as a killed process leaves it. Unlike [`MemDisk::kill`] it leaves this one as
    /// it is.
    #[must_use]
    pub fn crash_as_kill(&self) -> Self {
        let state = self.state();
        let image = Self::new();
        {
            let mut after = image.state();
            for (path, node) in &state.live {
                let node = match node {
                    Node::Dir => Node::Dir,
                    Node::File(inode) => {
                        let bytes = lock(inode).live.clone();
                        let durable = bytes.clone();
                        let inode = Inode { live: bytes, durable, unsynced: Vec::new() };
                        Node::File(Arc::new(Mutex::new(inode)))
                    }
                };
                after.live.insert(path.clone(), node.clone());
                after.durable.insert(path.clone(), node);
            }
        }
        image
    }

    /// The disk as a killed process leaves it: all that was written is there, the locks are free.
    pub fn kill(&self) {
        let mut state = self.state();
        state.locks.clear();
        state.fault = None;
    }

    /// Changes bytes of a file behind everybody's back, durably: bit rot.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let inode = self.state().file(path)?;
        let mut inode = lock(&inode);
        change(&mut inode.live);
        inode.durable = inode.live.clone();
        inode.unsynced.clear();
        Ok(())
    }

    /// The paths of all files, and what is in them.
    #[must_use]
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.state();
        let file = |(path, node): (&PathBuf, &Node)| match node {
            Node::Dir => None,
            Node::File(inode) => Some((path.clone(), lock(inode).live.clone())),
        };
        state.live.iter().filter_map(file).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl NameChange {
    fn path(&self) -> &Path {
        match self {
            Self::Add { path, .. } | Self::Remove { path } => path,
            Self::Rename { to, .. } => to,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn apply(names: &mut BTreeMap<PathBuf, Node>, change: &NameChange) {
    match change {
        NameChange::Add { path, node } => {
            names.insert(path.clone(), node.clone());
        }
        NameChange::Remove { path } => names.retain(|known, _| !known.starts_with(path)),
        NameChange::Rename { from, to } => {
            let moved: Vec<PathBuf> =
                names.keys().filter(|known| known.starts_with(from)).cloned().collect();
            for old in moved {
                let Some(node) = names.remove(&old) else { continue };
                let rest = old.strip_prefix(from).unwrap_or(Path::new(""));
                let new = if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
                names.insert(new, node);
            }
        }
    }
}

impl State {
    /// Counts an operation, and fails it if it is its turn.
    fn operate(&mut self, kind: Kind) -> io::Result<()> {
        self.operations += 1;
        let Some(fault) = &mut self.fault else { return Ok(()) };
        let counts = match fault.kind {
            FaultKind::TooManyOpen => return Ok(()),
            FaultKind::SyncError => kind == Kind::Sync,
            FaultKind::NoRoomForNames => kind == Kind::Rename,
            _ => true,
        };
        if counts && fault.after > 0 {
            fault.after -= 1;
            return Ok(());
        }
        match fault.kind {
            FaultKind::Full if kind == Kind::Grow => Err(io::ErrorKind::StorageFull.into()),
            FaultKind::NoRoomForNames if kind == Kind::Rename => {
                Err(io::ErrorKind::StorageFull.into())
            }
            FaultKind::IoError => {
                self.fault = None;
                Err(io::Error::other("injected I/O error"))
            }
            FaultKind::SyncError if kind == Kind::Sync => {
                self.fault = None;
                Err(io::Error::other("injected sync error"))
            }
            FaultKind::PowerOff => Err(io::Error::other("the power is off")),
            FaultKind::Full
            | FaultKind::SyncError
            | FaultKind::NoRoomForNames
            | FaultKind::TooManyOpen => Ok(()),
        }
    }

    /// Fails an opening if it is its turn.
    fn take_handle(&mut self) -> io::Result<()> {
        match &mut self.fault {
            Some(Fault { after: 0, kind: FaultKind::TooManyOpen }) => {
                Err(rustix::io::Errno::MFILE.into())
            }
            Some(Fault { after, kind: FaultKind::TooManyOpen }) => {
                *after -= 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn has_power(&self) -> bool {
        self.fault.is_none_or(|fault| fault.kind != FaultKind::PowerOff || fault.after > 0)
    }

    fn is_dir(&self, path: &Path) -> bool {
        matches!(self.live.get(path), Some(Node::Dir))
    }

    fn file(&self, path: &Path) -> io::Result<Arc<Mutex<Inode>>> {
        match self.live.get(path) {
            Some(Node::File(inode)) => Ok(Arc::clone(inode)),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn change_names(&mut self, change: NameChange) {
        apply(&mut self.live, &change);
        self.unsynced_names.push(change);
    }

    /// Makes the changes of names in `dir` durable.
    fn sync_names(&mut self, dir: &Path) {
        let (mine, others): (Vec<NameChange>, Vec<NameChange>) =
            std::mem::take(&mut self.unsynced_names)
                .into_iter()
                .partition(|change| parent_of(change.path()) == dir);
        self.unsynced_names = others;
        for change in &mine {
            apply(&mut self.durable, change);
        }
    }
}

impl Inode {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.unsynced.push(change);
    }

    fn sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            change.apply(&mut self.durable);
        }
    }

    fn after_power_cut(&self, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for change in &self.unsynced {
            match (random.below(3), change) {
                (0, _) => {}
                (1, Change::Write { position, bytes: written }) => {
                    let sectors = written.len() as u64 / SECTOR_BYTES + 1;
                    // A write rarely begins at a sector; what matters is that it ends early.
                    let kept = (random.below(sectors) * SECTOR_BYTES + random.below(SECTOR_BYTES))
                        .min(written.len() as u64) as usize;
                    let torn = Change::Write {
                        position: *position,
                        bytes: written.get(..kept).unwrap_or_default().to_vec(),
                    };
                    torn.apply(&mut bytes);
                }
                (1, Change::Blocks { position, bytes: written }) => {
                    let sectors = written.chunks(SECTOR_BYTES as usize);
                    for (at, sector) in sectors.enumerate().filter(|_| random.below(2) == 0) {
                        let position = position + at as u64 * SECTOR_BYTES;
                        Change::Write { position, bytes: sector.to_vec() }.apply(&mut bytes);
                    }
                }
                (_, change) => change.apply(&mut bytes),
            }
        }
        bytes
    }
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Self::SetLen(len_bytes) => file.resize(*len_bytes as usize, 0),
            Self::Write { position, bytes } | Self::Blocks { position, bytes } => {
                let from = *position as usize;
                let to = from + bytes.len();
                if bytes.is_empty() {
                    return;
                }
                if file.len() < to {
                    file.resize(to, 0);
                }
                file[from..to].copy_from_slice(bytes);
            }
        }
    }
}

/// An open file of a [`MemDisk`].
#[derive(Debug)]
struct MemFile {
    disk: MemDisk,
    inode: Arc<Mutex<Inode>>,
}

/// As [`MemFile`], but a write is durable when it returns.
#[derive(Debug)]
struct MemDirectFile(MemFile);

/// A lock of a [`MemDisk`].
#[derive(Debug)]
struct MemLock {
    disk: MemDisk,
    path: PathBuf,
}

impl DiskLock for MemLock {}

impl Drop for MemLock {
    fn drop(&mut self) {
        self.disk.state().locks.remove(&self.path);
    }
}

impl Disk for MemDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.take_handle()?;
        let inode = match (state.file(path), mode) {
            (Ok(inode), OpenMode::Truncate | OpenMode::TruncatePrivate) => {
                state.operate(Kind::Other)?;
                lock(&inode).change(Change::SetLen(0));
                inode
            }
            (Ok(inode), _) => inode,
            (Err(error), OpenMode::Create | OpenMode::Truncate | OpenMode::TruncatePrivate)
                if error.kind() == io::ErrorKind::NotFound =>
            {
                state.operate(Kind::Grow)?;
                let parent = parent_of(path);
                if !state.is_dir(parent) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                let inode = Arc::new(Mutex::new(Inode::default()));
                let node = Node::File(Arc::clone(&inode));
                state.change_names(NameChange::Add { path: path.to_owned(), node });
                inode
            }
            (Err(error), _) => return Err(error),
        };
        Ok(Arc::new(MemFile { disk: self.clone(), inode }))
    }

    fn open_direct(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.take_handle()?;
        let inode = state.file(path)?;
        Ok(Arc::new(MemDirectFile(MemFile { disk: self.clone(), inode })))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let mut missing: Vec<PathBuf> = path
            .ancestors()
            .take_while(|dir| !state.is_dir(dir))
            .map(Path::to_owned)
            .filter(|dir| !dir.as_os_str().is_empty())
            .collect();
        missing.reverse();
        for dir in missing {
            state.operate(Kind::Grow)?;
            state.change_names(NameChange::Add { path: dir, node: Node::Dir });
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operate(Kind::Other)?;
        if !state.live.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_names(NameChange::Remove { path: path.to_owned() });
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operate(Kind::Rename)?;
        if !state.live.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_names(NameChange::Rename { from: from.to_owned(), to: to.to_owned() });
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let state = self.state();
        if !state.is_dir(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut entries = Vec::new();
        for (path, node) in state.live.range(dir.to_owned()..) {
            if !path.starts_with(dir) {
                break;
            }
            if path == dir || parent_of(path) != dir {
                continue;
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            entries.push(match node {
                Node::Dir => DirEntry { name, is_dir: true, len_bytes: 0 },
                Node::File(inode) => {
                    DirEntry { name, is_dir: false, len_bytes: lock(inode).live.len() as u64 }
                }
            });
        }
        Ok(entries)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.is_dir(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let outcome = state.operate(Kind::Sync);
        match &outcome {
            Ok(()) => state.sync_names(dir),
            Err(_) if state.has_power() => {
                state.unsynced_names.retain(|change| parent_of(change.path()) != dir);
            }
            Err(_) => {}
        }
        outcome
    }

    fn sync_many(&self, files: &[Arc<dyn DiskFile>], dirs: &[PathBuf]) -> io::Result<()> {
        files.iter().try_for_each(|file| file.sync_data())?;
        for dir in dirs {
            match self.sync_dir(dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                outcome => outcome?,
            }
        }
        Ok(())
    }

    fn volume_bytes(&self, path: &Path) -> io::Result<VolumeBytes> {
        let state = self.state();
        if !state.has_power() {
            return Err(io::Error::other("the power is off"));
        }
        if !state.live.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let used = state.live.values().map(|node| match node {
            Node::Dir => 0,
            Node::File(inode) => lock(inode).live.len() as u64,
        });
        let is_full = state.fault == Some(Fault { after: 0, kind: FaultKind::Full });
        let usable = if is_full { 0 } else { VOLUME_BYTES.saturating_sub(used.sum()) };
        Ok(VolumeBytes { total: VOLUME_BYTES, usable })
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DiskLock>, LockFailure> {
        let mut state = self.state();
        state.operate(Kind::Other).map_err(LockFailure::Io)?;
        if !state.locks.insert(path.to_owned()) {
            return Err(LockFailure::Held { pid: std::process::id().to_string() });
        }
        Ok(Box::new(MemLock { disk: self.clone(), path: path.to_owned() }))
    }
}

impl DiskFile for MemFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let inode = lock(&self.inode);
        let from = usize::try_from(position).unwrap_or(usize::MAX).min(inode.live.len());
        let there = inode.live.get(from..).unwrap_or_default();
        let count = there.len().min(buf.len());
        buf[..count].copy_from_slice(&there[..count]);
        Ok(count)
    }

    fn write_at(&self, buf: &[u8], position: u64) -> io::Result<()> {
        self.disk.state().operate(Kind::Grow)?;
        lock(&self.inode).change(Change::Write { position, bytes: buf.to_vec() });
        Ok(())
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        self.disk.state().operate(Kind::Other)?;
        lock(&self.inode).change(Change::SetLen(len_bytes));
        Ok(())
    }

    fn len_bytes(&self) -> io::Result<u64> {
        Ok(lock(&self.inode).live.len() as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        let (outcome, powered) = {
            let mut state = self.disk.state();
            (state.operate(Kind::Sync), state.has_power())
        };
        let mut inode = lock(&self.inode);
        match &outcome {
            Ok(()) => inode.sync(),
            // The pages are marked clean all the same (Rebello et al., ATC 2020).
            Err(_) if powered => inode.unsynced.clear(),
            Err(_) => {}
        }
        outcome
    }
}

impl DiskFile for MemDirectFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.0.read_at(buf, position)
    }

    /// Two operations: a fault between them finds the write on its way.
    fn write_at(&self, buf: &[u8], position: u64) -> io::Result<()> {
        let in_place = position + buf.len() as u64 <= self.0.len_bytes()?;
        let kind = if in_place { Kind::Other } else { Kind::Grow };
        self.0.disk.state().operate(kind)?;
        lock(&self.0.inode).change(Change::Blocks { position, bytes: buf.to_vec() });
        self.0.sync_data()
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        self.0.set_len(len_bytes)
    }

    fn len_bytes(&self) -> io::Result<u64> {
        self.0.len_bytes()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): enough to draw what a power cut leaves.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

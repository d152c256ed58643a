//! Small files of the broker's own in the data directory: read whole, replaced whole.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_log::disk::{
    place_replacements, write_private_replacements, write_replacements, OpenMode,
};
use weir_log::{is_passing, Disk};

use crate::error::BrokerError;
use crate::scram_users;
use crate::topics;

/// Makes the data directory if it is not there, so that a power cut does not take it away with all that is in it: the
/// names of its parents must be durable too.
pub(crate) fn make_dir(disk: &dyn Disk, dir: &Path) -> Result<(), BrokerError> {
    if disk.list(dir).is_ok() {
        return Ok(());
    }
    let failed = |source| BrokerError::File {
        action: "create the data directory of",
        file: topics::FILE,
        source,
    };
    disk.create_dir_all(dir).map_err(failed)?;
    for parent in dir.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
        // Not every parent may be opened, and one that is not ours was there before.
        if disk.sync_dir(parent).is_err() {
            break;
        }
    }
    Ok(())
}

/// Reads a file; `None` if there is none.
pub(crate) fn read(
    disk: &dyn Disk,
    dir: &Path,
    file: &'static str,
) -> Result<Option<String>, BrokerError> {
    let failed = |source| BrokerError::File { action: "read", file, source };
    let handle = match disk.open(&dir.join(file), OpenMode::Existing) {
        Ok(handle) => handle,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let len = usize::try_from(handle.len_bytes().map_err(failed)?).unwrap_or(0);
    let mut bytes = vec![0; len];
    let read = handle.read_at(&mut bytes, 0).map_err(failed)?;
    bytes.truncate(read);
    let text = String::from_utf8(bytes).map_err(|_| failed(io::ErrorKind::InvalidData.into()))?;
    Ok(Some(text))
}

/// A file that is to be replaced.
#[derive(Debug)]
pub(crate) struct FileWrite {
    /// Its name in the data directory.
    pub(crate) file: &'static str,
    /// All of it.
    pub(crate) text: String,
}

impl FileWrite {
    /// Whether only its owner may read it.
    fn is_private(&self) -> bool {
        self.file == scram_users::FILE
    }
}

/// Files that are to be replaced, for a thread that may wait.
#[derive(Debug)]
pub(crate) struct PendingFiles {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) writes: Vec<FileWrite>,
}

/// Why files were not replaced.
#[derive(Debug)]
pub(crate) struct WriteFailed {
    pub(crate) error: BrokerError,
    /// There was no room for the new text, or no file could be opened for it; the old one stands as before. Otherwise
    /// nobody knows what is on disk.
    pub(crate) is_unchanged: bool,
}

impl PendingFiles {
    /// Replaces the files, each so that a crash leaves the old or the new text; on return the new ones are there for good.
    ///
    /// # Errors
    /// After a failed sync or rename nobody knows what is on disk, and nobody may go on with what memory says. A full disk
    /// and a lack of file handles are met before the files themselves are touched.
    pub(crate) fn run(&self) -> Result<(), WriteFailed> {
        let Some(first) = self.writes.first() else { return Ok(()) };
        let (private, mut files): (Vec<&FileWrite>, Vec<&FileWrite>) =
            self.writes.iter().partition(|write| write.is_private());
        let paths = |writes: &[&FileWrite]| -> Vec<(PathBuf, Vec<u8>)> {
            let path = |write: &FileWrite| self.dir.join(write.file);
            writes.iter().map(|write| (path(write), write.text.clone().into_bytes())).collect()
        };
        let failed = |source| BrokerError::File { action: "write", file: first.file, source };
        let written =
            write_private_replacements(&*self.disk, &paths(&private)).and_then(|mut all| {
                all.extend(write_replacements(&*self.disk, &paths(&files))?);
                Ok(all)
            });
        let written = written.map_err(|source| WriteFailed {
            is_unchanged: is_passing(&source),
            error: failed(source),
        })?;
        files.extend(private);
        place_replacements(&*self.disk, &paths(&files), &written)
            .map_err(|source| WriteFailed { is_unchanged: false, error: failed(source) })
    }
}

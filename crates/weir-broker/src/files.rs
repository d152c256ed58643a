//! Small files of the broker's own in the data directory: read whole, replaced whole.

use std::io;
use std::path::Path;
use std::sync::Arc;

use weir_log::disk::OpenMode;
use weir_log::Disk;

use crate::error::BrokerError;
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

/// Replaces a file so that a crash leaves the old or the new text, and on return the new one for good: temporary file,
/// sync, rename, sync of the directory (ALICE, OSDI 2014).
pub(crate) fn replace(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    file: &'static str,
    text: &str,
) -> Result<(), BrokerError> {
    let write = || {
        let temporary = dir.join(format!("{file}.tmp"));
        let handle = disk.open(&temporary, OpenMode::Truncate)?;
        handle.write_at(text.as_bytes(), 0)?;
        handle.sync_data()?;
        disk.rename(&temporary, &dir.join(file))?;
        disk.sync_dir(dir)
    };
    write().map_err(|source| BrokerError::File { action: "write", file, source })
}

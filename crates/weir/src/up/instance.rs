//! One process per data directory: the lock, and what it tells the second one.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Outcome, UserError};

pub(crate) const LOCK_FILE: &str = "weir.lock";
const ID_FILE: &str = "instance.id";

/// A name of this data directory that no other has and that restarts keep. As `group.instance.id`
/// it lets the worker take its partitions again at once after a crash, instead of waiting for the
/// session of its dead predecessor to end (KIP-345).
pub(super) fn instance_id(dir: &Path) -> Outcome<String> {
    let path = dir.join(ID_FILE);
    let failed = |error: std::io::Error| {
        UserError::new("WEIR-0813", format!("cannot use {}", path.display())).why(error)
    };
    match fs::read_to_string(&path) {
        Ok(id) if !id.trim().is_empty() => Ok(id.trim().to_owned()),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(error)),
        _ => {
            let id = format!("weir-{}", uuid::Uuid::new_v4());
            fs::write(&path, &id).map_err(failed)?;
            Ok(id)
        }
    }
}

/// What the holder of a data directory says of itself, kept in its lock file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) pid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kafka: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gateway: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) console: Option<String>,
}

/// A held data directory; dropping it, or the end of the process by any cause, frees it.
#[derive(Debug)]
pub(crate) struct Instance {
    file: File,
}

impl Instance {
    /// Takes `dir`, creating it if need be, or says who has it.
    pub(crate) fn take(dir: &Path) -> Outcome<Self> {
        let unusable = |error: std::io::Error| {
            UserError::new("WEIR-0813", format!("cannot use the data directory {}", dir.display()))
                .why(error)
                .help("give another with --data-dir, or make this one writable")
        };
        if dir.exists() && !dir.is_dir() {
            return Err(unusable(std::io::Error::other("it is a file, not a directory")));
        }
        fs::create_dir_all(dir).map_err(unusable)?;
        let path = dir.join(LOCK_FILE);
        let options =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = options.map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {
                let mut instance = Self { file };
                instance.tell(&Holder { pid: std::process::id(), ..Holder::default() });
                Ok(instance)
            }
            Err(TryLockError::WouldBlock) => Err(taken(dir, &mut file)),
            Err(TryLockError::Error(error)) => Err(unusable(error)),
        }
    }

    /// Writes what a second process is told. Failing to write costs only that information.
    pub(crate) fn tell(&mut self, holder: &Holder) {
        let text = serde_json::to_string(holder).unwrap_or_default();
        let written = self
            .file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .and_then(|()| self.file.write_all(text.as_bytes()));
        if let Err(error) = written {
            tracing::warn!(%error, "cannot write the lock file");
        }
    }
}

fn taken(dir: &Path, file: &mut File) -> UserError {
    let mut text = String::new();
    // The lock decides; a file that cannot be read only makes the message poorer.
    let _ = file.read_to_string(&mut text);
    let holder: Holder = serde_json::from_str(&text).unwrap_or_default();
    let mut why = match holder.pid {
        0 => "another process holds it".to_owned(),
        pid => format!("process {pid} holds it"),
    };
    for (name, address) in
        [("Kafka", &holder.kafka), ("gateway", &holder.gateway), ("console", &holder.console)]
    {
        if let Some(address) = address {
            why.push_str(&format!(" · {name} {address}"));
        }
    }
    UserError::new("WEIR-0814", format!("weir is already running on {}", dir.display()))
        .why(why)
        .help("use that one, stop it, or give another directory with --data-dir")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instance_id_is_kept_and_differs_between_directories() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let id = instance_id(one.path()).unwrap();
        assert_eq!(instance_id(one.path()).unwrap(), id);
        assert_ne!(instance_id(other.path()).unwrap(), id);
    }

    #[test]
    fn lock_file_left_by_a_dead_process_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let left = r#"{"pid":1,"kafka":"127.0.0.1:9092","console":"http://127.0.0.1:8090"}"#;
        fs::write(dir.path().join(LOCK_FILE), left).unwrap();
        let _held = Instance::take(dir.path()).unwrap();
        let now: Holder =
            serde_json::from_str(&fs::read_to_string(dir.path().join(LOCK_FILE)).unwrap()).unwrap();
        assert_eq!(now, Holder { pid: std::process::id(), ..Holder::default() });
    }

    #[test]
    fn of_many_takers_at_one_moment_one_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let start = std::sync::Barrier::new(8);
        let taken: Vec<_> = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        Instance::take(dir.path())
                    })
                })
                .collect();
            takers.into_iter().map(|taker| taker.join().unwrap()).collect()
        });
        assert_eq!(taken.iter().filter(|taken| taken.is_ok()).count(), 1);
        for error in taken.into_iter().filter_map(Result::err) {
            assert_eq!(error.code, "WEIR-0814");
        }
    }

    #[test]
    fn second_taker_is_told_pid_and_addresses_and_the_directory_is_free_after_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Instance::take(dir.path()).unwrap();
        first.tell(&Holder {
            pid: 4711,
            console: Some("http://127.0.0.1:8090".to_owned()),
            ..Holder::default()
        });
        let error = Instance::take(dir.path()).unwrap_err();
        assert_eq!(error.code, "WEIR-0814");
        let text = error.to_string();
        assert!(text.contains("process 4711"), "{text}");
        assert!(text.contains("console http://127.0.0.1:8090"), "{text}");
        drop(first);
        Instance::take(dir.path()).unwrap();
    }
}

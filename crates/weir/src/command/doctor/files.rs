//! The data directory: who has it, how it was left, and whether this version reads its files.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use weir_log::{inspect, ReadOnlyDisk};

use super::Check;
use crate::command::log::{holder, log_dir};
use crate::config::Settings;
use crate::up::instance::{Holder, LOCK_FILE};

/// What runs on the data directory, if something does.
pub(super) fn running(settings: &Settings) -> Option<Holder> {
    let path = settings.data_dir.join(LOCK_FILE);
    let inode = fs::metadata(&path).ok()?.ino();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let pid = locked_by(&locks, inode)?;
    let text = fs::read_to_string(&path).unwrap_or_default();
    let told: Holder = serde_json::from_str(&text).unwrap_or_default();
    Some(Holder { pid, ..told })
}

/// The process that has an flock on an inode, from proc(5)'s table of locks.
fn locked_by(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_flock = fields.get(1) == Some(&"FLOCK");
        let found = fields.get(5)?.rsplit(':').next()?.parse::<u64>().ok()?;
        (is_flock && found == inode).then(|| fields.get(4)?.parse().ok())?
    })
}

pub(super) fn checks(settings: &Settings, running: Option<&Holder>) -> Vec<Check> {
    let mut checks = vec![lock(settings, running)];
    if !settings.brokers.is_empty() {
        return checks;
    }
    match log_dir(&settings.data_dir) {
        Err(_) => checks.push(Check::ok("log files", "none yet")),
        Ok(dir) => {
            checks.push(last_stop(&dir, running.is_some()));
            checks.push(versions(&dir));
            checks.extend(kept_damage(&dir));
        }
    }
    checks
}

fn lock(settings: &Settings, running: Option<&Holder>) -> Check {
    let name = "directory lock";
    if let Some(running) = running {
        return Check::ok(name, format!("weir runs on it, process {}", running.pid));
    }
    let by_another = log_dir(&settings.data_dir).ok().and_then(|dir| holder(&dir));
    match by_another {
        Some(pid) => Check::problem(
            name,
            format!("process {pid} has the log directory open"),
            format!("stop process {pid} before weir starts"),
        ),
        None => Check::ok(name, "nobody uses the data directory"),
    }
}

fn last_stop(dir: &Path, is_running: bool) -> Check {
    let name = "last stop";
    match inspect::has_clean_mark(&ReadOnlyDisk, dir) {
        _ if is_running => Check::ok(name, "it runs"),
        Ok(true) => Check::ok(name, "clean"),
        Ok(false) => Check::warning(
            name,
            "not clean: a crash, kill -9, or a power cut",
            "nothing: the next start recovers; `weir log verify` looks first",
        ),
        Err(error) => Check::problem(name, error.to_string(), "make the files readable"),
    }
}

/// Whether this version understands what is there.
fn versions(dir: &Path) -> Check {
    let name = "file versions";
    let mut wrong = Vec::new();
    let meta = fs::read_to_string(dir.join("meta.properties")).unwrap_or_default();
    let version = meta.lines().find_map(|line| line.strip_prefix("version="));
    if !matches!(version.map(str::trim), Some("1")) {
        wrong.push(format!("meta.properties has version {}", version.unwrap_or("none")));
    }
    let catalog = dir.join(weir_broker::topics::FILE);
    if let Ok(text) = fs::read_to_string(catalog) {
        wrong.extend(weir_broker::topics::parse(&text).err().map(|error| error.to_string()));
    }
    for name in ["recovery-point-offset-checkpoint", "replication-offset-checkpoint"] {
        let read = inspect::offset_checkpoint(&ReadOnlyDisk, &dir.join(name));
        wrong.extend(read.err().map(|error| error.to_string()));
    }
    let unread = inspect::partitions(&ReadOnlyDisk, dir).map(|partitions| {
        let topic_id = |files: &inspect::PartitionFiles| {
            inspect::topic_id(&ReadOnlyDisk, &files.dir).err().map(|error| error.to_string())
        };
        partitions.iter().filter_map(topic_id).collect::<Vec<_>>()
    });
    match unread {
        Ok(unread) => wrong.extend(unread),
        Err(error) => wrong.push(error.to_string()),
    }
    match wrong.first() {
        None => Check::ok(name, "this version reads them"),
        Some(first) => {
            let more = wrong.len() - 1;
            let what = if more == 0 { first.clone() } else { format!("{first}; {more} more") };
            Check::problem(name, what, "weir log verify says what can be done")
        }
    }
}

fn kept_damage(dir: &Path) -> Option<Check> {
    let partitions = inspect::partitions(&ReadOnlyDisk, dir).ok()?;
    let kept: Vec<String> = partitions
        .iter()
        .flat_map(|files| files.others.iter().map(move |name| (files, name)))
        .filter(|(_, name)| name.contains(".damaged"))
        .map(|(files, name)| files.dir.join(name).display().to_string())
        .collect();
    let first = kept.first()?;
    Some(Check::warning(
        "kept damage",
        format!("{} files with bytes of an earlier damage, the first is {first}", kept.len()),
        "check the disk; remove them once nobody needs their records",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_an_flock_is_found_by_inode() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 08:01:42 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 4711 08:01:42 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 5 08:01:43 0 EOF\n";
        assert_eq!(locked_by(locks, 42), Some(4711));
        assert_eq!(locked_by(locks, 44), None);
    }

    #[test]
    fn a_directory_that_is_held_is_running() {
        let dir = tempfile::tempdir().unwrap();
        let settings = |dir: &Path| {
            let mut values = crate::config::Values::load(None, std::iter::empty()).unwrap();
            values.set_flag("--data-dir", "data_dir", &dir.display().to_string()).unwrap();
            Settings::from_values(&values).unwrap()
        };
        assert!(running(&settings(dir.path())).is_none());
        let held = crate::up::instance::Instance::take(dir.path()).unwrap();
        assert_eq!(running(&settings(dir.path())).unwrap().pid, std::process::id());
        drop(held);
        assert!(running(&settings(dir.path())).is_none());
    }
}

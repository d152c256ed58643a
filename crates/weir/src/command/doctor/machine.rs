//! The machine: disk, descriptors, clock, ports.

use std::fs::{self, File};
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{getrlimit, Resource};

use super::Check;
use crate::config::Settings;
use crate::output::bytes;
use crate::up::port_holder::port_holder;

/// Less than this is a problem, whatever the disk's size.
const FREE_BYTES_MIN: u64 = 1_000_000_000;
/// Descriptors below which a broker runs out early: one per connection, some per partition.
const FILES_MIN: u64 = 256;
const FILES_ENOUGH: u64 = 4096;
/// 2024-01-01: no machine that runs this has an earlier date.
const YEAR_2024_S: u64 = 1_704_067_200;
const WRITES: usize = 20;
const WRITE_BYTES: usize = 4096;
/// A sync slower than this makes every acks=all wait.
const SYNC_SLOW: Duration = Duration::from_millis(20);
/// A sync faster than this has not reached a disk.
const SYNC_TOO_FAST: Duration = Duration::from_micros(20);

pub(super) fn checks(data_dir: &Path) -> Vec<Check> {
    let mut checks = vec![open_files(), clock(data_dir)];
    checks.extend(directory(data_dir));
    checks
}

fn open_files() -> Check {
    let name = "open files";
    let limit = getrlimit(Resource::Nofile);
    let soft = limit.current.unwrap_or(u64::MAX);
    let hard = limit.maximum.map_or_else(|| "any number".to_owned(), |hard| hard.to_string());
    let what = match limit.current {
        None => "no limit".to_owned(),
        Some(soft) => format!("at most {soft}, up to {hard} may be asked for"),
    };
    let help = format!("raise it before the start: ulimit -n {hard}, or LimitNOFILE in the unit");
    match soft {
        soft if soft < FILES_MIN => Check::problem(name, what, help),
        soft if soft < FILES_ENOUGH => Check::warning(name, what, help),
        _ => Check::ok(name, what),
    }
}

/// A clock that is wrong makes retention delete too much or nothing.
fn clock(data_dir: &Path) -> Check {
    let name = "clock";
    let help = "set the clock, and keep it with NTP (timedatectl set-ntp true)";
    let now = now();
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    if since.as_secs() < YEAR_2024_S {
        return Check::problem(name, "it shows a time before 2024", help);
    }
    match newest(data_dir).and_then(|newest| newest.duration_since(now).ok()) {
        Some(ahead) if ahead > Duration::from_secs(60) => Check::problem(
            name,
            format!("files of the data directory are {} s in the future", ahead.as_secs()),
            help,
        ),
        _ => Check::ok(name, "it is not behind what was written"),
    }
}

/// When something in the data directory was last written; two levels deep.
fn newest(dir: &Path) -> Option<SystemTime> {
    let mut newest = None;
    let mut pending = vec![(dir.to_owned(), 0)];
    while let Some((dir, depth)) = pending.pop() {
        for entry in fs::read_dir(dir).ok().into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() && depth < 2 {
                pending.push((entry.path(), depth + 1));
            }
            newest = newest.max(metadata.modified().ok());
        }
    }
    newest
}

fn directory(data_dir: &Path) -> Vec<Check> {
    let name = "data directory";
    let exists = data_dir.is_dir();
    let absolute = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    let Some(there) = absolute.ancestors().find(|dir| dir.is_dir()) else {
        let what = format!("{} is nowhere", data_dir.display());
        return vec![Check::problem(name, what, "give another with --data-dir")];
    };
    let mut checks = vec![free_space(there)];
    match sync_times(there) {
        Ok(times) => {
            let what = match exists {
                true => format!("{} can be written", data_dir.display()),
                false => {
                    format!("{} is not there yet; the first start makes it", data_dir.display())
                }
            };
            checks.insert(0, Check::ok(name, what));
            checks.push(sync_check(times));
        }
        Err(error) => {
            let what = format!("{} cannot be written: {error}", there.display());
            let help = "give another with --data-dir, or make this one writable for this user";
            checks.insert(0, Check::problem(name, what, help));
        }
    }
    checks
}

fn free_space(dir: &Path) -> Check {
    let name = "free space";
    let found = match rustix::fs::statvfs(dir) {
        Ok(found) => found,
        Err(error) => {
            let what = format!("it cannot be asked for: {error}");
            return Check::warning(name, what, "look yourself: df -h");
        }
    };
    let (free, all) = (found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize);
    let what = format!("{} of {} on the disk of {}", bytes(free), bytes(all), dir.display());
    let help = "weir ops monitor-size shows what takes it; weir ops cleanup frees it";
    match free {
        free if free < FREE_BYTES_MIN || free < all / 20 => Check::problem(name, what, help),
        free if free < all / 10 => Check::warning(name, what, help),
        _ => Check::ok(name, what),
    }
}

/// Removes the probe whatever happens.
struct Probe(PathBuf);

impl Drop for Probe {
    fn drop(&mut self) {
        // What cannot be removed is a few bytes.
        let _ = fs::remove_file(&self.0);
    }
}

fn sync_times(dir: &Path) -> std::io::Result<Vec<Duration>> {
    let probe = Probe(dir.join(format!(".weir-doctor-{}", std::process::id())));
    let mut file = File::create(&probe.0)?;
    let block = [0x5a; WRITE_BYTES];
    let mut times = Vec::with_capacity(WRITES);
    for _ in 0..WRITES {
        let started = instant();
        file.write_all(&block)?;
        file.sync_data()?;
        times.push(started.elapsed());
    }
    Ok(times)
}

fn sync_check(mut times: Vec<Duration>) -> Check {
    let name = "sync latency";
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let what =
        format!("{:.2} ms for 4 kB, the median of {}", median.as_secs_f64() * 1e3, times.len());
    if median > SYNC_SLOW {
        let help = "acks=all waits for it: use a faster disk for the data directory";
        Check::warning(name, what, help)
    } else if median < SYNC_TOO_FAST {
        let help =
            "no disk is so fast: it is memory (tmpfs), or a device that answers before it has \
                    written; a power cut would take what was acknowledged";
        Check::warning(name, what, help)
    } else {
        Check::ok(name, what)
    }
}

/// The ports of the configuration: free, or held by this very weir.
pub(super) fn ports(settings: &Settings, running: Option<u32>) -> Vec<Check> {
    let mut wanted = vec![("gateway port", settings.gateway_listen)];
    if settings.layers.console {
        wanted.push(("console port", settings.console_listen));
    }
    if settings.brokers.is_empty() {
        wanted.insert(0, ("kafka port", settings.broker_listen));
    }
    wanted.into_iter().map(|(name, address)| port(name, address, running)).collect()
}

fn port(name: &'static str, address: SocketAddr, running: Option<u32>) -> Check {
    match TcpListener::bind(address) {
        Ok(_) => Check::ok(name, format!("{address} is free")),
        Err(error) => match port_holder(address) {
            Some(holder) if Some(holder.pid) == running => {
                Check::ok(name, format!("weir (process {}) listens on {address}", holder.pid))
            }
            Some(holder) => Check::problem(
                name,
                format!("process {} ({}) listens on {address}", holder.pid, holder.name),
                "stop it, or choose another port",
            ),
            None => Check::problem(name, format!("{address}: {error}"), "choose another address"),
        },
    }
}

/// The command is a shell: it asks for the time.
#[allow(clippy::disallowed_methods)]
fn now() -> SystemTime {
    SystemTime::now()
}

/// The command is a shell: it measures.
#[allow(clippy::disallowed_methods)]
fn instant() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn a_sync_is_judged_by_its_median() {
        let check = |micros: [u64; 3], expect| {
            let times = micros.map(Duration::from_micros).to_vec();
            assert_eq!(sync_check(times).state, expect, "{micros:?}");
        };
        check([100, 200, 90_000], State::Ok);
        check([100, 21_000, 30_000], State::Warning);
        check([1, 5, 300], State::Warning);
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_a_problem_and_a_probe_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let states: Vec<_> = directory(dir.path()).iter().map(|check| check.name).collect();
        assert_eq!(states, ["data directory", "free space", "sync latency"]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(sync_times(&file).unwrap_err().kind(), std::io::ErrorKind::NotADirectory);
    }

    #[test]
    fn a_port_is_free_or_names_who_has_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let own = std::process::id();
        assert_eq!(port("x", address, Some(own)).state, State::Ok);
        let taken = port("x", address, None);
        assert_eq!(taken.state, State::Problem);
        assert!(taken.what.contains(&own.to_string()), "{taken:?}");
        drop(listener);
        assert_eq!(port("x", address, None).state, State::Ok);
    }
}

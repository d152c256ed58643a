//! Where log lines go: text on a terminal, JSON elsewhere, or a file that is rotated.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::EnvFilter;

use crate::config::Values;
use crate::error::{Outcome, UserError};

/// Starts logging as `logging.*` says. Called once, by the roles that run for long.
pub(crate) fn start(values: &Values) -> Outcome {
    let to_terminal = values.get("logging.file").is_none() && io::stderr().is_terminal();
    let asked = values.iter().any(|(name, _, origin)| {
        name == "logging.level" && *origin != crate::config::Origin::Default
    });
    // A terminal shows the banner; what goes well is in the file, the JSON or the console.
    let level = match to_terminal && !asked {
        true => "warn",
        false => values.get("logging.level").unwrap_or("info"),
    };
    let filter = EnvFilter::try_new(level).map_err(|error| {
        UserError::new("WEIR-0803", format!("logging.level: \"{level}\" is not a filter"))
            .why(error)
    })?;
    let target = match values.get("logging.file") {
        Some(path) => Target::File(Arc::new(Mutex::new(RotatingFile::open(path, values)?))),
        None => Target::Stderr,
    };
    let json = match values.get("logging.format") {
        Some("json") => true,
        Some("text") => false,
        _ => !to_terminal,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(to_terminal && std::env::var_os("NO_COLOR").is_none())
        .log_internal_errors(false)
        .with_writer(target);
    let started = if json { builder.json().try_init() } else { builder.try_init() };
    started.map_err(|error| UserError::new("WEIR-0806", "cannot start logging").why(error))
}

/// Where a line is written.
#[derive(Clone)]
enum Target {
    Stderr,
    File(Arc<Mutex<RotatingFile>>),
}

impl<'a> MakeWriter<'a> for Target {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Target {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // A log that cannot be written (its reader is gone, the disk is full) must not stop what it
        // tells of; reporting the failure would only fail again.
        let _ = match self {
            Self::Stderr => io::stderr().write_all(line),
            Self::File(file) => {
                file.lock().unwrap_or_else(PoisonError::into_inner).write_line(line)
            }
        };
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `weir.log`, then `weir.log.1` (newest) to `weir.log.N` (oldest).
struct RotatingFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
    files_max: u64,
}

impl RotatingFile {
    fn open(path: &str, values: &Values) -> Outcome<Self> {
        let path = PathBuf::from(path);
        let file = append_to(&path).map_err(|error| {
            UserError::new("WEIR-0806", format!("cannot write the log to {}", path.display()))
                .why(error)
                .help("give another file with --log-file, or none: the log then goes to stderr")
        })?;
        let bytes = file.metadata().map_or(0, |metadata| metadata.len());
        let number = |name| values.get(name).and_then(crate::config::size).unwrap_or(u64::MAX);
        let bytes_max = number("logging.file_bytes_max");
        Ok(Self { path, file, bytes, bytes_max, files_max: number("logging.files_max") })
    }

    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.bytes > 0 && self.bytes + line.len() as u64 > self.bytes_max {
            self.rotate()?;
        }
        self.file.write_all(line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for n in (1..self.files_max).rev() {
            let from = self.numbered(n);
            if from.exists() {
                std::fs::rename(from, self.numbered(n + 1))?;
            }
        }
        std::fs::rename(&self.path, self.numbered(1))?;
        self.file = append_to(&self.path)?;
        self.bytes = 0;
        Ok(())
    }

    fn numbered(&self, n: u64) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{n}"));
        name.into()
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_file_is_rotated_and_the_oldest_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weir.log");
        let mut file = RotatingFile {
            file: append_to(&path).unwrap(),
            path: path.clone(),
            bytes: 0,
            bytes_max: 10,
            files_max: 2,
        };
        for n in 0..5 {
            file.write_line(format!("line {n}..\n").as_bytes()).unwrap();
        }
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
        assert_eq!(read(path), "line 4..\n");
        assert_eq!(read(file.numbered(1)), "line 3..\n");
        assert_eq!(read(file.numbered(2)), "line 2..\n");
        assert!(!file.numbered(3).exists());
    }
}

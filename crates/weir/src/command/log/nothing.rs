//! What a directory is in which there is no log, and what to do about it.

use std::fs;
use std::io;
use std::path::Path;

use crate::error::UserError;

/// What `weir up` writes besides the log: the lock, and the fleet worker's files.
const OF_WEIR: [&str; 3] = ["weir.lock", "instance.id", "fleet.db"];
/// Names of strangers that are told.
const SHOWN_MAX: usize = 5;

/// Why `data_dir` is no log directory and has none.
pub(super) fn explain(data_dir: &Path) -> UserError {
    let shown = data_dir.display();
    let failure = UserError::new("WEIR-0222", format!("there is no log directory in {shown}"));
    let names = match names(data_dir) {
        Ok(names) => names,
        Err(error) => return unreadable(failure, &error),
    };
    let has = |name: &str| names.iter().any(|found| found == name);
    let of_weir: Vec<&str> = OF_WEIR.into_iter().filter(|name| has(name)).collect();
    if names.iter().any(|name| is_segment(name)) {
        let parent = data_dir.parent().unwrap_or(data_dir).display();
        return failure
            .why("it has the files of one partition; a log directory holds those of all")
            .help(format!("name the directory above it: --data-dir {parent}"));
    }
    if has("kafka") {
        return failure
            .why("its directory kafka is empty: an embedded broker has never run to the end of its start")
            .help("start it once: weir up --data-dir DIR; then it has a log to look at");
    }
    if !of_weir.is_empty() {
        let found = of_weir.join(", ");
        return failure
            .why(format!(
                "it is the data directory of a weir that runs without a broker of its own (it has {found}): \
                 the gateway and the worker keep no log, their events are on the Kafka that --brokers named"
            ))
            .help(
                "verify the log directories of those brokers, on their machines: weir log verify --data-dir LOG_DIR; \
                 a weir with a broker of its own has its log in DIR/kafka",
            );
    }
    if names.is_empty() {
        return failure.why("it is empty").help(NAME_ANOTHER);
    }
    let some = names.iter().take(SHOWN_MAX).map(|name| format!("{name:?}"));
    let some = some.collect::<Vec<_>>().join(", ");
    failure.why(format!("nothing in it is weir's or Kafka's; it has {some}")).help(NAME_ANOTHER)
}

const NAME_ANOTHER: &str = "name weir's data directory or Kafka's log directory with --data-dir; \
                            `weir config show --origin` says which one the configuration has";

fn unreadable(failure: UserError, error: &io::Error) -> UserError {
    match error.kind() {
        io::ErrorKind::NotFound => failure.why("it does not exist").help(NAME_ANOTHER),
        io::ErrorKind::NotADirectory => failure
            .why("it is a file")
            .help("one file of a log is shown by: weir log dump --file FILE"),
        _ => failure.why(error).help(NAME_ANOTHER),
    }
}

/// Sorted. At most as many as say what the directory is.
fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(dir)?.take(10_000).flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// A segment's name is its first offset in twenty digits.
fn is_segment(name: &str) -> bool {
    let offset = name.strip_suffix(".log");
    offset.is_some_and(|text| text.len() == 20 && text.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::super::log_dir;
    use super::*;

    fn check(files: &[&str], why: &str, help: &str) {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            match file.strip_suffix('/') {
                Some(name) => fs::create_dir(dir.path().join(name)).unwrap(),
                None => fs::write(dir.path().join(file), "").unwrap(),
            }
        }
        check_path(dir.path(), why, help);
    }

    fn check_path(path: &Path, why: &str, help: &str) {
        let error = log_dir(path).unwrap_err();
        assert_eq!(error.code, "WEIR-0222");
        let said = (error.why.unwrap(), error.help.unwrap());
        assert!(said.0.contains(why) && said.1.contains(help), "{said:?}");
    }

    #[test]
    fn a_directory_without_a_log_is_told_for_what_it_is() {
        check(
            &["weir.lock", "instance.id", "fleet.db"],
            "without a broker of its own",
            "DIR/kafka",
        );
        check(&["weir.lock", "spool/"], "it has weir.lock", "LOG_DIR");
        check(&["weir.lock", "kafka/"], "kafka is empty", "weir up");
        check(&["00000000000000000000.log", "leader-epoch-checkpoint"], "one partition", "above");
        check(&[], "it is empty", "--data-dir");
        check(&["photo.jpg", "a\nb"], "\"a\\nb\", \"photo.jpg\"", "weir config show");
        check_path(Path::new("/no/such/directory"), "does not exist", "--data-dir");
        let file = tempfile::NamedTempFile::new().unwrap();
        check_path(file.path(), "it is a file", "weir log dump --file");
    }
}

//! Names of files and directories, as Kafka's `LogFileUtils` and `UnifiedLog`.

use std::path::{Path, PathBuf};

use weir_protocol::Offset;

pub(crate) const LOG: &str = "log";
pub(crate) const OFFSET_INDEX: &str = "index";
pub(crate) const TIME_INDEX: &str = "timeindex";
pub(crate) const TXN_INDEX: &str = "txnindex";
pub(crate) const SNAPSHOT: &str = "snapshot";
/// A file that is to be removed once its readers are done.
pub(crate) const DELETED: &str = "deleted";
/// Behind the name of a file that is being made to take the place of another. A start drops it.
pub(crate) const CLEANED: &str = "cleaned";
/// Behind the name of an index that is being built again. A start drops it. Not [`CLEANED`]: the cleaner may be making a
/// segment of the same offset meanwhile.
pub(crate) const REBUILT: &str = "tmp";
/// Behind the name of a whole file that takes the place of others. A start completes that.
pub(crate) const SWAP: &str = "swap";

pub(crate) const PARTITION_METADATA: &str = "partition.metadata";
pub(crate) const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";
pub(crate) const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
pub(crate) const LOG_STARTS: &str = "log-start-offset-checkpoint";
pub(crate) const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
pub(crate) const CLEANED_OFFSETS: &str = "cleaner-offset-checkpoint";
pub(crate) const META_PROPERTIES: &str = "meta.properties";
pub(crate) const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
pub(crate) const LOCK: &str = ".lock";
/// Kafka passes over files in a log directory whose names it does not know.
pub(crate) const JOURNAL: &str = "weir-commit-journal";

/// Which batches producers wrote last, beyond what Kafka's snapshots hold.
pub(crate) const PRODUCER_BATCHES: &str = "weir-producer-batches";

/// End of the name of a partition's directory that is to be removed.
pub(crate) const DELETE_DIR: &str = "-delete";
/// Kafka's log of its own metadata, which lies beside its topics' logs. It is KRaft's alone to write: its segments, epochs
/// and snapshots follow other rules.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// Ends of names of directories that are no partitions of ours.
const FOREIGN_DIRS: [&str; 3] = [DELETE_DIR, "-future", "-stray"];

/// Characters of a topic's name, as Kafka's `Topic.MAX_NAME_LENGTH`: with `-partition` and a suffix
/// it must fit 255.
const TOPIC_CHARS_MAX: usize = 249;

/// `dir/00000000000000000042.log`, and so on.
pub(crate) fn at_offset(dir: &Path, offset: Offset, suffix: &str) -> PathBuf {
    dir.join(format!("{:020}.{suffix}", offset.get()))
}

/// What a file in a partition's directory is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// One of the five kinds that carry an offset; the suffix says which.
    AtOffset(Offset, &'static str),
    /// Renamed before its removal.
    Deleted,
    /// Left by a crash in the middle of something that is done again.
    Leftover,
    /// Left by a crash in the middle of something that is completed.
    Swap,
    /// Anything else.
    Other,
}

/// Sorts a file by its name.
pub(crate) fn kind_of(name: &str) -> FileKind {
    if name.ends_with(".deleted") {
        return FileKind::Deleted;
    }
    if name.ends_with(".tmp") || name.ends_with(".cleaned") {
        return FileKind::Leftover;
    }
    if name.ends_with(".swap") {
        return FileKind::Swap;
    }
    let Some((stem, suffix)) = name.split_once('.') else { return FileKind::Other };
    let known = [LOG, OFFSET_INDEX, TIME_INDEX, TXN_INDEX, SNAPSHOT];
    let Some(suffix) = known.into_iter().find(|known| *known == suffix) else {
        return FileKind::Other;
    };
    if stem.len() != 20 || !stem.bytes().all(|byte| byte.is_ascii_digit()) {
        return FileKind::Other;
    }
    match stem.parse() {
        Ok(offset) => FileKind::AtOffset(Offset(offset), suffix),
        Err(_) => FileKind::Other,
    }
}

/// `<topic>-<partition>`.
pub(crate) fn partition_dir(topic: &str, partition: i32) -> String {
    format!("{topic}-{partition}")
}

/// Topic and partition of a directory, unless it is none of ours.
pub(crate) fn parse_partition_dir(name: &str) -> Option<(&str, i32)> {
    if FOREIGN_DIRS.iter().any(|suffix| name.ends_with(suffix)) {
        return None;
    }
    let (topic, partition) = name.rsplit_once('-')?;
    let partition: i32 = partition.parse().ok().filter(|partition| *partition >= 0)?;
    check_topic_name(topic).ok().map(|()| (topic, partition))
}

/// Whether a topic may be called so.
///
/// # Errors
/// Why not, in Kafka's words (`Topic.validate`).
pub fn check_topic_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("Topic name is invalid: the empty string is not allowed".to_owned());
    }
    if name == METADATA_TOPIC {
        return Err(format!("Topic name is invalid: '{name}' is Kafka's own"));
    }
    if name == "." || name == ".." {
        return Err(format!("Topic name is invalid: '{name}' is not allowed"));
    }
    if name.len() > TOPIC_CHARS_MAX {
        return Err(format!(
            "Topic name is invalid: the length of '{name}' is longer than the max allowed length {TOPIC_CHARS_MAX}"
        ));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    {
        return Err(format!(
            "Topic name is invalid: '{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_sorted_by_name() {
        let check = |name: &str, kind: FileKind| assert_eq!(kind_of(name), kind, "{name}");
        check("00000000000000000042.log", FileKind::AtOffset(Offset(42), LOG));
        check("00000000000000000042.timeindex", FileKind::AtOffset(Offset(42), TIME_INDEX));
        check("00000000000000000042.log.deleted", FileKind::Deleted);
        check("00000000000000000042.log.cleaned", FileKind::Leftover);
        check("00000000000000000042.log.swap", FileKind::Swap);
        check("00000000000000000042.log.damaged-17", FileKind::Other);
        check("42.log", FileKind::Other);
        check("leader-epoch-checkpoint", FileKind::Other);
        check("leader-epoch-checkpoint.tmp", FileKind::Leftover);
        check("99999999999999999999.log", FileKind::Other);
    }

    #[test]
    fn names_that_are_no_directory_are_refused() {
        for name in ["", ".", "..", "a/b", "日志", "a b", "a\n"] {
            assert!(check_topic_name(name).is_err(), "{name:?}");
        }
        assert!(check_topic_name(&"x".repeat(250)).is_err());
        assert!(check_topic_name(&"x".repeat(249)).is_ok());
        assert!(check_topic_name("drone-events_1.a").is_ok());
    }

    #[test]
    fn a_topic_may_contain_dashes_and_dots() {
        assert_eq!(parse_partition_dir("a-b.c-12"), Some(("a-b.c", 12)));
        assert_eq!(parse_partition_dir("a--1"), Some(("a-", 1)));
        for name in [
            "a",
            "a-",
            "-1",
            "a-b",
            "a-0.0123-delete",
            "a-0-future",
            "..-0",
            "ä-0",
            "__cluster_metadata-0",
        ] {
            assert_eq!(parse_partition_dir(name), None, "{name}");
        }
    }
}

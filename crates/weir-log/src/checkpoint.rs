//! Small text files: offset checkpoints, leader epochs, `partition.metadata`, `meta.properties`.
//!
//! An offset checkpoint, as Kafka's `OffsetCheckpointFile`:
//!
//! ```text
//! 0                    version
//! 2                    number of lines
//! drone-events 0 1042  topic partition offset
//! drone-events 1 977
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use weir_protocol::{LeaderEpoch, NodeId, Offset, Uuid};

use crate::disk::{read_all, Disk};
use crate::error::LogError;
use crate::files;

/// Offset per topic and partition.
pub(crate) type Offsets = BTreeMap<(String, i32), Offset>;

/// The bytes of an offset checkpoint.
pub(crate) fn encode_offsets<'a>(lines: impl Iterator<Item = (&'a str, i32, Offset)>) -> Vec<u8> {
    let (mut body, mut count) = (String::new(), 0);
    for (topic, partition, offset) in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(body, "{topic} {partition} {offset}");
        count += 1;
    }
    format!("0\n{count}\n{body}").into_bytes()
}

/// Reads an offset checkpoint; none if there is no file.
pub(crate) fn read_offsets(disk: &dyn Disk, path: &Path) -> Result<Offsets, LogError> {
    let mut offsets = Offsets::new();
    for line in read_lines(disk, path)?.unwrap_or_default() {
        let parsed = (|| {
            let mut words = line.rsplitn(3, ' ');
            let offset: i64 = words.next()?.parse().ok()?;
            let partition: i32 = words.next()?.parse().ok()?;
            Some(((words.next()?.to_owned(), partition), Offset(offset)))
        })();
        let (key, offset) = parsed.ok_or_else(|| bad_line(path, &line))?;
        offsets.insert(key, offset);
    }
    Ok(offsets)
}

/// The bytes of a `leader-epoch-checkpoint`.
pub(crate) fn encode_epochs(epochs: &[(LeaderEpoch, Offset)]) -> Vec<u8> {
    let mut text = format!("0\n{}\n", epochs.len());
    for (epoch, start) in epochs {
        let _ = writeln!(text, "{epoch} {start}");
    }
    text.into_bytes()
}

/// Reads a `leader-epoch-checkpoint`. `None` if there is no file.
pub(crate) fn read_epochs(
    disk: &dyn Disk,
    path: &Path,
) -> Result<Option<Vec<(LeaderEpoch, Offset)>>, LogError> {
    let Some(lines) = read_lines(disk, path)? else { return Ok(None) };
    let parse = |line: &String| {
        let (epoch, start) = line.split_once(' ')?;
        Some((LeaderEpoch(epoch.parse().ok()?), Offset(start.parse().ok()?)))
    };
    let epochs = lines.iter().map(|line| parse(line).ok_or_else(|| bad_line(path, line)));
    epochs.collect::<Result<_, _>>().map(Some)
}

/// The lines after version and count, or `None` without a file.
fn read_lines(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<String>>, LogError> {
    let Some(text) = read_text(disk, path)? else { return Ok(None) };
    let bad = |what: &str| LogError::BadFile { path: path.to_owned(), what: what.to_owned() };
    let mut lines = text.lines();
    if lines.next() != Some("0") {
        return Err(bad("its version is not 0"));
    }
    let count: usize = lines
        .next()
        .and_then(|count| count.parse().ok())
        .ok_or_else(|| bad("its second line is not a number"))?;
    let lines: Vec<String> = lines.filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if lines.len() != count {
        return Err(bad("it has more or fewer lines than it says"));
    }
    Ok(Some(lines))
}

fn read_text(disk: &dyn Disk, path: &Path) -> Result<Option<String>, LogError> {
    match read_all(disk, path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => {
                Err(LogError::BadFile { path: path.to_owned(), what: "it is not text".to_owned() })
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LogError::io("read", path, error)),
    }
}

fn bad_line(path: &Path, line: &str) -> LogError {
    LogError::BadFile { path: path.to_owned(), what: format!("malformed line {line:?}") }
}

/// The bytes of a `partition.metadata`, as Kafka's `PartitionMetadata.encode`.
pub(crate) fn encode_partition_metadata(topic_id: Uuid) -> Vec<u8> {
    format!("version: 0\ntopic_id: {topic_id}").into_bytes()
}

/// The topic id in the directory of a partition. `None` if there is no file.
pub(crate) fn read_partition_metadata(
    disk: &dyn Disk,
    dir: &Path,
) -> Result<Option<Uuid>, LogError> {
    let path = dir.join(files::PARTITION_METADATA);
    let Some(text) = read_text(disk, &path)? else { return Ok(None) };
    let id = text.lines().find_map(|line| line.strip_prefix("topic_id: "));
    match id.and_then(|id| id.trim().parse().ok()) {
        Some(id) => Ok(Some(id)),
        None => Err(LogError::BadFile { path, what: "it holds no topic id".to_owned() }),
    }
}

/// What `meta.properties` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MetaProperties {
    pub(crate) cluster_id: String,
    pub(crate) node_id: NodeId,
    pub(crate) directory_id: Uuid,
    /// There is a commit journal: one that is missing was lost. Kafka passes over the key.
    pub(crate) has_journal: bool,
}

impl MetaProperties {
    /// As Java's `Properties.store` without the date, in the order Kafka's has by chance.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let journal = if self.has_journal { "weir.commit.journal=true\n" } else { "" };
        format!(
            "#\nnode.id={}\ndirectory.id={}\nversion=1\ncluster.id={}\n{journal}",
            self.node_id, self.directory_id, self.cluster_id
        )
        .into_bytes()
    }

    /// Reads the file; `None` if there is none.
    pub(crate) fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Self>, LogError> {
        let Some(text) = read_text(disk, path)? else { return Ok(None) };
        let bad = |what: &str| LogError::BadFile { path: path.to_owned(), what: what.to_owned() };
        let value = |key: &str| {
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines
                .filter_map(|line| line.split_once('='))
                .find_map(|(name, value)| (name.trim() == key).then(|| value.trim().to_owned()))
        };
        // As Kafka: what a later version means by these names, or adds to the directory, is not known.
        if let Some(version) = value("version").filter(|v| !matches!(v.as_str(), "0" | "1")) {
            return Err(bad(&format!("its version is {version}; 0 and 1 can be read")));
        }
        let node_id = value("node.id").or_else(|| value("broker.id"));
        Ok(Some(Self {
            cluster_id: value("cluster.id").ok_or_else(|| bad("it has no cluster.id"))?,
            node_id: node_id
                .and_then(|id| id.parse().ok())
                .map(NodeId)
                .ok_or_else(|| bad("it has no node.id"))?,
            // Directories older than KIP-858 have none.
            directory_id: value("directory.id")
                .map_or(Ok(Uuid::ZERO), |id| id.parse())
                .map_err(|_| bad("its directory.id is no id"))?,
            has_journal: value("weir.commit.journal").is_some_and(|value| value == "true"),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{replace_files, MemDisk};

    fn disk_with(name: &str, text: &[u8]) -> (MemDisk, std::path::PathBuf) {
        let disk = MemDisk::new();
        disk.create_dir_all(Path::new("/d")).unwrap();
        let path = Path::new("/d").join(name);
        replace_files(&disk, &[(path.clone(), text.to_vec())]).unwrap();
        (disk, path)
    }

    #[test]
    fn offset_checkpoints_are_those_of_kafka() {
        let bytes = encode_offsets([("a", 0, Offset(5)), ("b-c", 11, Offset(0))].into_iter());
        assert_eq!(bytes, b"0\n2\na 0 5\nb-c 11 0\n");
        let (disk, path) = disk_with("x", &bytes);
        let offsets = read_offsets(&disk, &path).unwrap();
        assert_eq!(offsets[&("b-c".to_owned(), 11)], Offset(0));
        assert!(read_offsets(&disk, Path::new("/d/none")).unwrap().is_empty());
    }

    #[test]
    fn damaged_checkpoints_are_refused() {
        for text in
            ["", "1\n0\n", "0\nx\n", "0\n2\na 0 5\n", "0\n1\na 0\n", "0\n1\na 0 x\n", "\u{0}"]
        {
            let (disk, path) = disk_with("x", text.as_bytes());
            let error = read_offsets(&disk, &path).unwrap_err();
            assert_eq!(error.code(), "WEIR-0206", "{text:?}");
        }
    }

    #[test]
    fn epochs_and_topic_id_are_read_back() {
        let epochs = vec![(LeaderEpoch(0), Offset(0)), (LeaderEpoch(3), Offset(17))];
        assert_eq!(encode_epochs(&epochs), b"0\n2\n0 0\n3 17\n");
        let (disk, path) = disk_with(files::LEADER_EPOCHS, &encode_epochs(&epochs));
        assert_eq!(read_epochs(&disk, &path).unwrap(), Some(epochs));

        let id = Uuid([7; 16]);
        let (disk, _) = disk_with(files::PARTITION_METADATA, &encode_partition_metadata(id));
        assert_eq!(read_partition_metadata(&disk, Path::new("/d")).unwrap(), Some(id));
    }

    #[test]
    fn meta_properties_of_a_later_version_are_refused() {
        for (version, read) in [("0", true), ("1", true), ("2", false), ("x", false)] {
            let text = format!("version={version}\nnode.id=1\ncluster.id=c\n");
            let (disk, path) = disk_with("meta.properties", text.as_bytes());
            assert_eq!(MetaProperties::read(&disk, &path).is_ok(), read, "{version}");
        }
    }

    #[test]
    fn meta_properties_of_kafka_are_read() {
        let text =
            "#\n#Fri Nov 21 10:00:00 UTC 2025\nnode.id=1\ndirectory.id=AAAAAAAAAAAAAAAAAAAAAQ\n\
                    version=1\ncluster.id=vRbsGB4lS9m6lg7VJz1tXQ\n";
        let (disk, path) = disk_with("m", text.as_bytes());
        let meta = MetaProperties::read(&disk, &path).unwrap().unwrap();
        assert_eq!((meta.node_id, meta.cluster_id.as_str()), (NodeId(1), "vRbsGB4lS9m6lg7VJz1tXQ"));
        let (disk, path) = disk_with("m", &meta.encode());
        assert_eq!(MetaProperties::read(&disk, &path).unwrap(), Some(meta));
    }
}

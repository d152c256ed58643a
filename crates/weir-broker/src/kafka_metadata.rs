//! What a directory that Apache Kafka wrote says of its topics: their configurations.
//!
//! Kafka keeps them in a log of its own beside the logs of its topics, `__cluster_metadata-0` (KIP-500), of which weir has
//! no other use: it is read once, when a directory without a catalog is taken over, and never written, opened as a log or
//! listed as a topic. Without it a compacted topic would become one that is deleted from, after `retention.ms`.
//!
//! ```text
//! 00000000000000000000.log                     batches of records; control batches are KRaft's
//! 00000000000000001234-0000000003.checkpoint   a snapshot: the same, and all that was before offset 1234
//! record value: frame version (1), key of the record's kind, its version, as uvarints; then its fields, flexible
//!   2 TopicRecord         name, topic id
//!   4 ConfigRecord        type of the resource (2: topic), its name, key, value or null
//!   9 RemoveTopicRecord   topic id
//! ```
//!
//! Bytes that are no valid batch end a file, as for Kafka; a record that is not understood is left out.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;

use bytes::Bytes;
use weir_log::disk::OpenMode;
use weir_log::Disk;
use weir_protocol::batch;
use weir_protocol::{DecodeError, Decoder, Str, Uuid};

use crate::configs::check_topic_value;
use crate::topics::is_internal;

const DIR: &str = "__cluster_metadata-0";
/// A file of more is not read: it would be a cluster of millions of partitions.
const FILE_BYTES_MAX: u64 = 256 << 20;
const INFLATE_BYTES_MAX: usize = 16 << 20;

const FRAME_VERSION: u32 = 1;
const TOPIC_RECORD: u32 = 2;
const CONFIG_RECORD: u32 = 4;
const REMOVE_TOPIC_RECORD: u32 = 9;
const TOPIC_RESOURCE: i8 = 2;

/// Topics as Kafka's controller knew them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct KafkaTopics {
    names: HashMap<Uuid, Str>,
    configs: HashMap<Str, BTreeMap<String, String>>,
}

impl KafkaTopics {
    /// Reads what there is in a log directory. `None` if Kafka has left nothing there.
    ///
    /// # Errors
    /// What the disk says, or that a file is too large.
    pub(crate) fn read(disk: &dyn Disk, data_dir: &Path) -> io::Result<Option<Self>> {
        let dir = data_dir.join(DIR);
        let mut names: Vec<String> = match disk.list(&dir) {
            Ok(entries) => entries.into_iter().map(|entry| entry.name).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // Twenty digits come first, so that this is the order of offsets.
        names.sort_unstable();
        let snapshot = names.iter().rfind(|name| name.ends_with(".checkpoint"));
        let snapshot_end = snapshot.and_then(|name| name.get(..20)?.parse().ok());
        let mut topics = Self::default();
        if let Some(name) = snapshot {
            topics.apply_file(read_file(disk, &dir.join(name))?, 0);
        }
        for name in names.iter().filter(|name| name.ends_with(".log")) {
            topics.apply_file(read_file(disk, &dir.join(name))?, snapshot_end.unwrap_or(0));
        }
        Ok(Some(topics))
    }

    /// The configuration of a topic, without defaults. `None` if Kafka knew no such topic.
    pub(crate) fn configs_of(&self, name: &str, id: Uuid) -> Option<BTreeMap<String, String>> {
        self.names.get(&id).filter(|known| **known == *name)?;
        Some(self.configs.get(name).cloned().unwrap_or_default())
    }

    fn apply_file(&mut self, bytes: Vec<u8>, from: i64) {
        let bytes = Bytes::from(bytes);
        let whole = batch::batches(&bytes).map_while(Result::ok);
        for view in whole.take_while(|view| view.verify_crc().is_ok()) {
            if view.is_control() {
                continue;
            }
            let Ok(records) = view.records(INFLATE_BYTES_MAX) else { continue };
            for record in records.map_while(Result::ok) {
                if record.offset.get() >= from {
                    // One of a kind or version that is not known says nothing of configurations.
                    let _ = record.value.map(|value| self.apply(value));
                }
            }
        }
    }

    fn apply(&mut self, value: Bytes) -> Result<(), DecodeError> {
        let mut decoder = Decoder::new(value);
        if decoder.uvarint()? != FRAME_VERSION {
            return Ok(());
        }
        let (kind, _version) = (decoder.uvarint()?, decoder.uvarint()?);
        match kind {
            TOPIC_RECORD => {
                let name = decoder.nullable_string(true)?.unwrap_or_default();
                self.names.insert(decoder.uuid()?, name);
            }
            REMOVE_TOPIC_RECORD => {
                if let Some(name) = self.names.remove(&decoder.uuid()?) {
                    self.configs.remove(&name);
                }
            }
            CONFIG_RECORD if decoder.i8()? == TOPIC_RESOURCE => {
                let name = decoder.nullable_string(true)?.unwrap_or_default();
                let key = decoder.nullable_string(true)?.unwrap_or_default().to_string();
                let configs = self.configs.entry(name).or_default();
                match decoder.nullable_string(true)? {
                    Some(value) => configs.insert(key, value.to_string()),
                    None => configs.remove(&key),
                };
            }
            _ => {}
        }
        Ok(())
    }
}

/// What Kafka's controller has left in the directory, if it can be read.
pub(crate) fn read(disk: &dyn Disk, data_dir: &Path) -> Option<KafkaTopics> {
    match KafkaTopics::read(disk, data_dir) {
        Ok(topics) => topics,
        Err(error) => {
            tracing::error!(%error, "what Kafka knew of its topics cannot be read: they are taken over without configurations");
            None
        }
    }
}

/// The configuration of a topic that is taken over: what weir knows of what Kafka `told`.
pub(crate) fn configs_to_adopt(
    name: &str,
    told: Option<BTreeMap<String, String>>,
) -> BTreeMap<String, String> {
    let Some(told) = told else {
        let (key, value) = match is_internal(name) {
            true => ("cleanup.policy", "compact"),
            false => {
                tracing::warn!(topic = %name, "a topic is taken over whose configuration is not known: nothing of it is deleted until retention.ms is set");
                ("retention.ms", "-1")
            }
        };
        return BTreeMap::from([(key.to_owned(), value.to_owned())]);
    };
    let is_known = |key: &String, value: &mut String| match check_topic_value(key, value) {
        Ok(()) => true,
        Err(why) => {
            tracing::warn!(topic = %name, %key, %value, %why, "a configuration of Kafka's is left out");
            false
        }
    };
    let mut configs = told;
    configs.retain(is_known);
    configs
}

fn read_file(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Existing)?;
    let len_bytes = file.len_bytes()?;
    if len_bytes > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("{} has {len_bytes} bytes", path.display())));
    }
    let mut bytes = vec![0; usize::try_from(len_bytes).unwrap_or(0)];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use weir_log::MemDisk;
    use weir_protocol::batch::BatchBuilder;
    use weir_protocol::compression::Codec;
    use weir_protocol::TimestampMs;

    use super::*;

    fn string(bytes: &mut Vec<u8>, text: Option<&str>) {
        bytes.push(text.map_or(0, |text| u8::try_from(text.len() + 1).unwrap()));
        bytes.extend_from_slice(text.unwrap_or_default().as_bytes());
    }

    fn topic(name: &str, id: u8) -> Vec<u8> {
        let mut bytes = vec![1, 2, 0];
        string(&mut bytes, Some(name));
        bytes.extend_from_slice(&[id; 16]);
        bytes.push(0);
        bytes
    }

    fn config(resource: u8, name: &str, key: &str, value: Option<&str>) -> Vec<u8> {
        let mut bytes = vec![1, 4, 0, resource];
        string(&mut bytes, Some(name));
        string(&mut bytes, Some(key));
        string(&mut bytes, value);
        bytes.push(0);
        bytes
    }

    fn removed(id: u8) -> Vec<u8> {
        [&[1, 9, 0][..], &[id; 16], &[0]].concat()
    }

    fn file(disk: &MemDisk, name: &str, base: i64, records: &[Vec<u8>]) {
        let mut builder = BatchBuilder::new(Codec::None);
        for record in records {
            builder.append(TimestampMs(1), None, Some(record), &[]);
        }
        let mut bytes = builder.build().to_vec();
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        let dir = Path::new("/data").join(DIR);
        disk.create_dir_all(&dir).unwrap();
        disk.open(&dir.join(name), OpenMode::Create).unwrap().write_at(&bytes, 0).unwrap();
    }

    fn read(disk: &MemDisk) -> KafkaTopics {
        KafkaTopics::read(disk, Path::new("/data")).unwrap().unwrap()
    }

    fn pairs(topics: &KafkaTopics, name: &str, id: u8) -> Option<Vec<(String, String)>> {
        Some(topics.configs_of(name, Uuid([id; 16]))?.into_iter().collect())
    }

    #[test]
    fn configurations_are_those_after_the_last_record() {
        let disk = MemDisk::new();
        assert!(KafkaTopics::read(&disk, Path::new("/data")).unwrap().is_none());
        let records = [
            topic("a", 7),
            config(2, "a", "cleanup.policy", Some("compact")),
            config(2, "a", "retention.ms", Some("1")),
            config(2, "a", "retention.ms", None),
            config(4, "a", "log.retention.ms", Some("1")),
            topic("b", 8),
            config(2, "b", "retention.ms", Some("1")),
            removed(8),
            topic("b", 9),
            vec![1, 200, 1, 0, 5, 5],
            vec![1, 2, 0, 90],
        ];
        file(&disk, "00000000000000000000.log", 0, &records);
        let topics = read(&disk);
        let compact = ("cleanup.policy".to_owned(), "compact".to_owned());
        assert_eq!(pairs(&topics, "a", 7), Some(vec![compact]));
        assert_eq!(pairs(&topics, "b", 9), Some(Vec::new()));
        assert_eq!(pairs(&topics, "b", 8), None, "it was deleted");
        assert_eq!(pairs(&topics, "a", 9), None);
    }

    #[test]
    fn a_snapshot_stands_for_what_was_before_it() {
        let disk = MemDisk::new();
        let before = [topic("old", 1), config(2, "a", "retention.ms", Some("1"))];
        file(&disk, "00000000000000000000.log", 8, &before);
        let snapshot = [topic("a", 7), config(2, "a", "retention.ms", Some("2"))];
        file(&disk, "00000000000000000010-0000000001.checkpoint", 0, &snapshot);
        file(&disk, "00000000000000000010.log", 10, &[config(2, "a", "segment.ms", Some("3"))]);
        let topics = read(&disk);
        let values: Vec<String> =
            pairs(&topics, "a", 7).unwrap().into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, ["2", "3"]);
        assert_eq!(pairs(&topics, "old", 1), None);
    }

    #[test]
    fn any_bytes_are_survived() {
        let disk = MemDisk::new();
        file(&disk, "00000000000000000000.log", 0, &[topic("a", 7), removed(7), topic("a", 8)]);
        let path = Path::new("/data").join(DIR).join("00000000000000000000.log");
        let sound = disk.files()[&path].clone();
        for at in 0..sound.len() {
            disk.damage(&path, |bytes| bytes[at] ^= 0x81).unwrap();
            read(&disk);
            disk.damage(&path, |bytes| {
                bytes.clone_from(&sound);
                bytes.truncate(at);
            })
            .unwrap();
            read(&disk);
            disk.damage(&path, |bytes| bytes.clone_from(&sound)).unwrap();
        }
    }
}

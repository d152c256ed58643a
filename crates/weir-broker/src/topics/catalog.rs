//! The text of the file `weir-topics`; its form is described in [`super`].

use std::collections::BTreeMap;

use weir_log::check_topic_name;
use weir_protocol::{Str, Uuid};

use super::{Topic, Topics};
use crate::config::OFFSETS_PARTITIONS;
use crate::error::BrokerError;
use crate::staged::Change;

/// The name of the file.
pub const FILE: &str = "weir-topics";

/// Most partitions a line may claim: what a catalog can say must not make the broker allocate without bound.
const TOPIC_PARTITIONS_MAX: usize = 1_000_000;
const _: () = assert!(OFFSETS_PARTITIONS > 0);

/// A topic that is gone for clients, whose logs may still be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deleting {
    /// Its name.
    pub name: Str,
    /// Its id.
    pub id: Uuid,
}

/// What the file says of one topic.
#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    id: Uuid,
    partitions: usize,
    configs: &'a BTreeMap<String, String>,
}

impl<'a> Entry<'a> {
    fn of(topic: &'a Topic) -> Self {
        Self { id: topic.id, partitions: topic.logs.len(), configs: &topic.configs }
    }
}

/// The file that says `topics` after `changes`.
#[must_use]
pub fn print(topics: &Topics, changes: &[Change]) -> String {
    use std::fmt::Write as _;
    let mut entries: BTreeMap<&Str, Entry<'_>> =
        topics.iter().map(|topic| (&topic.name, Entry::of(topic))).collect();
    let mut deleting: Vec<(&Str, Uuid)> =
        topics.deleting.iter().map(|gone| (&gone.name, gone.id)).collect();
    for change in changes {
        match change {
            Change::Create(topic) => {
                entries.insert(&topic.name, Entry::of(topic));
            }
            Change::Delete { name, id } => {
                entries.remove(name);
                deleting.push((name, *id));
            }
            Change::Grow { name, partitions } => {
                if let Some(entry) = entries.get_mut(name) {
                    entry.partitions = *partitions;
                }
            }
            Change::Configure { name, configs } => {
                if let Some(entry) = entries.get_mut(name) {
                    entry.configs = configs;
                }
            }
            Change::ProducerIds { .. } | Change::ScramUsers { .. } | Change::Settings { .. } => {}
        }
    }
    let mut text = String::from("0\n");
    for (name, entry) in entries {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "topic {name} {} {}", entry.id, entry.partitions);
        for (key, value) in entry.configs {
            let _ = writeln!(text, "config {name} {key}={value}");
        }
    }
    for (name, id) in deleting {
        let _ = writeln!(text, "deleting {name} {id}");
    }
    text
}

/// Reads the file.
///
/// # Errors
/// [`BrokerError::DamagedFile`] with the line.
pub fn parse(text: &str) -> Result<Topics, BrokerError> {
    let mut topics = Topics::default();
    let mut open: Option<Topic> = None;
    for (index, line) in text.lines().enumerate() {
        let damaged = |reason| BrokerError::DamagedFile { file: FILE, line: index + 1, reason };
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "0" if index == 0 => {}
            _ if index == 0 => return Err(damaged("this version of the file is not known")),
            "topic" => {
                let next = topic_line(rest).map_err(damaged)?;
                open.replace(next).into_iter().for_each(|topic| topics.insert(topic));
            }
            "config" => {
                let topic = open.as_mut().ok_or_else(|| damaged("no topic before it"))?;
                let (key, value) = config_line(rest, &topic.name).map_err(damaged)?;
                let mut configs = topic.configs.clone();
                configs.insert(key, value);
                topic.set_configs(configs);
            }
            "deleting" => {
                let (name, id) = rest.split_once(' ').ok_or_else(|| damaged("no id"))?;
                let id = id.parse().map_err(|_| damaged("the id is none"))?;
                topics.deleting.push(Deleting { name: Str::copy_from(name), id });
            }
            _ => return Err(damaged("begins with none of topic, config, deleting")),
        }
    }
    open.into_iter().for_each(|topic| topics.insert(topic));
    Ok(topics)
}

fn topic_line(rest: &str) -> Result<Topic, &'static str> {
    let mut words = rest.split(' ');
    let name =
        words.next().filter(|name| check_topic_name(name).is_ok()).ok_or("the name is none")?;
    let id = words.next().and_then(|id| id.parse().ok()).ok_or("the id is none")?;
    let partitions =
        words.next().and_then(|count| count.parse::<usize>().ok()).ok_or("no partition count")?;
    if partitions == 0 || partitions > TOPIC_PARTITIONS_MAX {
        return Err("the partition count is out of range");
    }
    Ok(Topic::new(Str::copy_from(name), id, partitions, BTreeMap::new()))
}

fn config_line(rest: &str, topic: &Str) -> Result<(String, String), &'static str> {
    let (name, pair) = rest.split_once(' ').ok_or("no key")?;
    if *topic != *name {
        return Err("it is not about the topic before it");
    }
    let (key, value) = pair.split_once('=').ok_or("no value")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_back() {
        let mut topics = Topics::default();
        let configs = BTreeMap::from([
            ("retention.ms".to_owned(), "1000".to_owned()),
            ("cleanup.policy".to_owned(), "delete, compact=x".to_owned()),
        ]);
        topics.insert(Topic::new("a".into(), Uuid([7; 16]), 3, configs.clone()));
        topics.insert(Topic::new("b.c".into(), Uuid([9; 16]), 1, BTreeMap::new()));
        topics.deleting.push(Deleting { name: "old".into(), id: Uuid([3; 16]) });
        let read = parse(&print(&topics, &[])).unwrap();
        assert_eq!(read.get("a").unwrap().configs(), &configs);
        assert_eq!(read.get("a").unwrap().partition_count(), 3);
        assert_eq!(read.get_by_id(Uuid([9; 16])).unwrap().name(), &"b.c");
        assert_eq!(read.deleting, topics.deleting);
    }

    #[test]
    fn damage_is_named_by_its_line() {
        let check = |text: &str, expect: usize| match parse(text) {
            Err(BrokerError::DamagedFile { line, .. }) => assert_eq!(line, expect, "{text:?}"),
            other => panic!("{text:?} gave {other:?}"),
        };
        check("1\n", 1);
        check("0\ntopic a AAAAAAAAAAAAAAAAAAAAAQ\n", 2);
        check("0\ntopic a AAAAAAAAAAAAAAAAAAAAAQ 99999999999\n", 2);
        check("0\nconfig a b=c\n", 2);
        check("0\ntopic a AAAAAAAAAAAAAAAAAAAAAQ 1\nconfig b x=y\n", 3);
        check("0\ntopic ../x AAAAAAAAAAAAAAAAAAAAAQ 1\n", 2);
        check("0\nhello\n", 2);
    }
}

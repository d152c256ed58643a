//! Ids for lines that have none, so that a line sent twice is written once.

use std::collections::HashMap;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::path::Path;

use serde::de::IgnoredAny;

/// Gives ids to the lines of one input.
///
/// An id is made of the input, the line's number and its text. A file is told by its path, length and
/// time of change: read again unchanged, as after a run that was interrupted, its lines have the ids
/// they had, and written anew they have others. Standard input is another one at each run.
#[derive(Debug, Clone, Copy)]
pub(super) struct LineIds {
    input: u64,
}

impl LineIds {
    pub(super) fn of(path: &Path) -> Self {
        let file = (path != Path::new("-")).then(|| std::fs::metadata(path).ok()).flatten();
        // A pipe with a name has no contents that could be read again.
        let changed = file.filter(std::fs::Metadata::is_file).and_then(|file| {
            let since_1970 = file.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
            Some((file.len(), since_1970))
        });
        let Some(changed) = changed else {
            return Self { input: RandomState::new().hash_one(std::process::id()) };
        };
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        // Without a key, so that the next run makes the same.
        let mut hasher = DefaultHasher::new();
        (path, changed).hash(&mut hasher);
        Self { input: hasher.finish() }
    }

    /// The line with an id, if it is an object without one, and not longer than `bytes_max` with it.
    pub(super) fn give(self, text: String, number: u64, bytes_max: usize) -> String {
        // What is no object, or names a field twice, is the gateway's to refuse.
        let fields: Option<HashMap<&str, IgnoredAny>> = serde_json::from_str(&text).ok();
        if fields.is_none_or(|fields| fields.is_empty() || fields.contains_key("id")) {
            return text;
        }
        let Some(rest) = text.strip_prefix('{') else { return text };
        let mut hasher = DefaultHasher::new();
        (self.input, &text).hash(&mut hasher);
        let with_id = format!(r#"{{"id":"line-{number}-{:016x}",{rest}"#, hasher.finish());
        if with_id.len() > bytes_max {
            return text;
        }
        with_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"type":"drone.heartbeat","data":{"id":1}}"#;

    fn id(ids: LineIds, number: u64) -> String {
        let text = ids.give(LINE.to_owned(), number, 1_000);
        assert!(text.ends_with(&LINE[1..]), "{text}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        value["id"].as_str().unwrap().to_owned()
    }

    #[test]
    fn an_unchanged_file_gives_the_same_ids_and_another_one_others() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        std::fs::write(&one, LINE).unwrap();
        std::fs::write(&two, LINE).unwrap();
        assert_eq!(id(LineIds::of(&one), 1), id(LineIds::of(&one), 1));
        assert_ne!(id(LineIds::of(&one), 1), id(LineIds::of(&one), 2));
        assert_ne!(id(LineIds::of(&one), 1), id(LineIds::of(&two), 1));
        let before = id(LineIds::of(&one), 1);
        let changed = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1);
        std::fs::File::options().write(true).open(&one).unwrap().set_modified(changed).unwrap();
        assert_ne!(id(LineIds::of(&one), 1), before);
        let input = Path::new("-");
        assert_ne!(id(LineIds::of(input), 1), id(LineIds::of(input), 1));
    }

    #[test]
    fn what_has_an_id_or_is_no_event_is_sent_as_it_is() {
        let ids = LineIds::of(Path::new("-"));
        for text in [r#"{"id":"a","x":1}"#, r#"{"x":1,"id":null}"#, "{}", "[1]", "7", "{\"x\":"] {
            assert_eq!(ids.give(text.to_owned(), 1, 1_000), text);
        }
        assert_eq!(ids.give(LINE.to_owned(), 1, LINE.len() + 5), LINE);
    }
}

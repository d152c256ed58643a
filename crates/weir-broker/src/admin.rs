//! What is said on the admin socket: a file in the log directory through which `weir log clean` reaches the broker that
//! runs there (`docs/adr/2026-11-21-admin-socket.md`).
//!
//! One request and its answer per connection, in lines of ASCII:
//!
//! ```text
//! → weir-admin 1 clean device-state -          (or a partition)
//! ← partition 0 1048576 4096 5120 clean        bytes before, bytes after, records dropped; or `dirty`
//! ← end
//! ```
//!
//! or, if nothing is begun, one line `refused <why>`.

use std::fmt;

use weir_log::check_topic_name;

/// The socket's name in the log directory. Kafka looks at nothing there but directories and its own files.
pub const SOCKET: &str = "weir-admin.sock";
/// The longest request: a topic has 249 characters at most.
pub const REQUEST_BYTES_MAX: usize = 512;

const GREETING: &str = "weir-admin 1";

/// A request to clean a compacted topic now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CleanRequest {
    /// The topic.
    pub topic: String,
    /// Only this partition.
    pub partition: Option<i32>,
}

/// Why nothing is cleaned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CleanRefused {
    /// There is no such topic.
    NoTopic,
    /// There is no such partition, or it has no record yet.
    NoPartition,
    /// Its `cleanup.policy` is not `compact`.
    NotCompacted,
    /// `log.cleaner.enable` is false.
    CleanerDisabled,
    /// The log directory is offline.
    Offline,
    /// The broker does not know this request.
    Unknown,
}

const REFUSALS: [(CleanRefused, &str); 6] = [
    (CleanRefused::NoTopic, "no-topic"),
    (CleanRefused::NoPartition, "no-partition"),
    (CleanRefused::NotCompacted, "not-compacted"),
    (CleanRefused::CleanerDisabled, "cleaner-disabled"),
    (CleanRefused::Offline, "offline"),
    (CleanRefused::Unknown, "unknown-request"),
];

/// What became of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanedNow {
    /// The partition.
    pub partition: i32,
    /// Bytes of its log when it was asked for.
    pub bytes_before: u64,
    /// The same without what cleaning has taken away since; what was appended meanwhile is not in it.
    pub bytes_after: u64,
    /// Records that were left out.
    pub records_dropped: u64,
    /// All that was asked for was looked at.
    pub is_clean: bool,
}

/// What the broker says to a request.
pub type CleanAnswer = Result<Vec<CleanedNow>, CleanRefused>;

impl fmt::Display for CleanRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{GREETING} clean {} ", self.topic)?;
        match self.partition {
            Some(partition) => writeln!(f, "{partition}"),
            None => writeln!(f, "-"),
        }
    }
}

/// Reads a request; `None` if it is none that is known.
#[must_use]
pub fn parse_request(line: &str) -> Option<CleanRequest> {
    let rest = line.trim_end().strip_prefix(GREETING)?.strip_prefix(" clean ")?;
    let (topic, partition) = rest.split_once(' ')?;
    check_topic_name(topic).ok()?;
    let partition = match partition {
        "-" => None,
        number => Some(number.parse().ok()?),
    };
    Some(CleanRequest { topic: topic.to_owned(), partition })
}

/// The text of an answer.
#[must_use]
pub fn print_answer(answer: &CleanAnswer) -> String {
    let partitions = match answer {
        Ok(partitions) => partitions,
        Err(refused) => {
            let word = REFUSALS.iter().find(|(one, _)| one == refused).map_or("", |(_, word)| word);
            return format!("refused {word}\n");
        }
    };
    let line = |one: &CleanedNow| {
        let state = if one.is_clean { "clean" } else { "dirty" };
        let CleanedNow { partition, bytes_before, bytes_after, records_dropped, .. } = one;
        format!("partition {partition} {bytes_before} {bytes_after} {records_dropped} {state}\n")
    };
    partitions.iter().map(line).chain(["end\n".to_owned()]).collect()
}

/// Reads an answer; `None` if it is cut or is none.
#[must_use]
pub fn parse_answer(text: &str) -> Option<CleanAnswer> {
    if let Some(word) = text.strip_prefix("refused ") {
        let word = word.trim_end();
        let known = REFUSALS.iter().find(|(_, known)| *known == word);
        return Some(Err(known.map_or(CleanRefused::Unknown, |(refused, _)| *refused)));
    }
    let lines = text.strip_suffix("end\n")?.lines();
    let partition = |line: &str| {
        let mut words = line.strip_prefix("partition ")?.split(' ');
        let one = CleanedNow {
            partition: words.next()?.parse().ok()?,
            bytes_before: words.next()?.parse().ok()?,
            bytes_after: words.next()?.parse().ok()?,
            records_dropped: words.next()?.parse().ok()?,
            is_clean: words.next()? == "clean",
        };
        words.next().is_none().then_some(one)
    };
    lines.map(partition).collect::<Option<Vec<_>>>().map(Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_are_read_back() {
        for partition in [None, Some(7)] {
            let request = CleanRequest { topic: "a-b.c_1".to_owned(), partition };
            assert_eq!(parse_request(&request.to_string()), Some(request));
        }
        let one = CleanedNow {
            partition: 3,
            bytes_before: 10,
            bytes_after: 4,
            records_dropped: 2,
            is_clean: true,
        };
        let answers = [
            Ok(vec![]),
            Ok(vec![one, CleanedNow { is_clean: false, ..one }]),
            Err(CleanRefused::NotCompacted),
            Err(CleanRefused::Offline),
        ];
        for answer in answers {
            assert_eq!(parse_answer(&print_answer(&answer)), Some(answer));
        }
    }

    #[test]
    fn what_is_cut_or_strange_is_none() {
        for line in [
            "",
            "weir-admin 2 clean t -\n",
            "weir-admin 1 drop t -\n",
            "weir-admin 1 clean t\n",
            "weir-admin 1 clean ../t -\n",
            "weir-admin 1 clean t x\n",
            "GET / HTTP/1.1\r\n",
        ] {
            assert_eq!(parse_request(line), None, "{line:?}");
        }
        for text in ["", "end", "partition 0 1\nend\n", "partition 0 1 2 3 clean\n"] {
            assert_eq!(parse_answer(text), None, "{text:?}");
        }
        assert_eq!(parse_answer("refused something-new\n"), Some(Err(CleanRefused::Unknown)));
    }
}

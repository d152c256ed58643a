//! Event type to priority class: `message_priorities` of the specification, and what holds without it.
//!
//! # The rule
//! Names are compared in lower case, with `.`, `-` and `_` the same and a new word where a capital
//! follows a small letter: `battery.low`, `battery_low` and `BatteryLow` are one name. An entry matches
//! a type if it is the whole name or its last words: `heartbeat` matches `drone.heartbeat`,
//! `emergency_landing` matches `emergency.landing`, and `landing` would match both that and
//! `drone.landing`, but not `belanding`.
//!
//! 1. The longest entry that matches decides.
//! 2. Else the longest entry of the form `prefix.*` whose words begin the name.
//! 3. Else the built-in prefixes: `emergency.*` and `collision.*` urgent; `alert.*`, `battery.*` and
//!    `signal.*` high; `log.*`, `metric.*` and `statistics.*` low.
//! 4. Else normal.
//!
//! An event that names its own `priority` does not come here.

use std::collections::HashMap;

use weir_client::Priority;

use crate::error::TrafficError;

/// `message_priorities`: event types by class. The defaults are those of the specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessagePriorities {
    /// Overtake everything.
    pub urgent: Vec<String>,
    /// Handled first.
    pub high: Vec<String>,
    /// Handled in batches.
    pub normal: Vec<String>,
    /// May wait.
    pub low: Vec<String>,
}

impl Default for MessagePriorities {
    fn default() -> Self {
        let owned = |names: [&str; 2]| names.map(str::to_owned).to_vec();
        Self {
            urgent: owned(["emergency_landing", "collision_alert"]),
            high: owned(["low_battery_alert", "signal_lost_alert"]),
            normal: owned(["heartbeat", "status_update"]),
            low: owned(["log_data", "statistics"]),
        }
    }
}

/// What holds for a type no entry matches, by its first word.
const BUILT_IN: [(&str, Priority); 8] = [
    ("emergency", Priority::Urgent),
    ("collision", Priority::Urgent),
    ("alert", Priority::High),
    ("battery", Priority::High),
    ("signal", Priority::High),
    ("log", Priority::Low),
    ("metric", Priority::Low),
    ("statistics", Priority::Low),
];

/// Names are compared in a buffer of this many bytes on the stack; of a longer one, its end counts.
const NAME_BYTES_MAX: usize = 256;

/// Decides the class of an event type.
#[derive(Debug, Clone)]
pub struct PriorityTable {
    names: HashMap<Box<[u8]>, Priority>,
    prefixes: HashMap<Box<[u8]>, Priority>,
}

impl PriorityTable {
    /// Builds the table.
    ///
    /// # Errors
    /// [`TrafficError::Priorities`] if an entry is empty, too long, or stands in two classes.
    pub fn new(priorities: &MessagePriorities) -> Result<Self, TrafficError> {
        let mut table = Self { names: HashMap::new(), prefixes: HashMap::new() };
        for (word, class) in BUILT_IN {
            table.prefixes.insert(word.as_bytes().into(), class);
        }
        let classes = [
            (Priority::Urgent, &priorities.urgent),
            (Priority::High, &priorities.high),
            (Priority::Normal, &priorities.normal),
            (Priority::Low, &priorities.low),
        ];
        let mut prefixes = HashMap::new();
        for (class, entries) in classes {
            for entry in entries {
                let (pattern, into) = match entry.strip_suffix(".*") {
                    Some(prefix) => (prefix, &mut prefixes),
                    None => (entry.as_str(), &mut table.names),
                };
                insert(into, pattern, class).map_err(|problem| TrafficError::Priorities {
                    class: class.name(),
                    entry: entry.clone(),
                    problem,
                })?;
            }
        }
        table.prefixes.extend(prefixes);
        Ok(table)
    }

    /// The class of `event_type`. Does not allocate.
    #[must_use]
    pub fn priority(&self, event_type: &str) -> Priority {
        let mut buffer = [0; NAME_BYTES_MAX];
        let name = normalise(event_type, &mut buffer);
        self.by_last_words(name).or_else(|| self.by_first_words(name)).unwrap_or_default()
    }

    /// The longest entry first: the whole name, then without its first word, and so on.
    fn by_last_words(&self, name: &[u8]) -> Option<Priority> {
        let mut rest = name;
        loop {
            if let Some(class) = self.names.get(rest) {
                return Some(*class);
            }
            let word_end = rest.iter().position(|b| *b == b'_')?;
            rest = rest.get(word_end + 1..)?;
        }
    }

    /// The longest prefix first; the whole name is not a prefix of itself.
    fn by_first_words(&self, name: &[u8]) -> Option<Priority> {
        let mut rest = name;
        loop {
            let word_start = rest.iter().rposition(|b| *b == b'_')?;
            rest = rest.get(..word_start)?;
            if let Some(class) = self.prefixes.get(rest) {
                return Some(*class);
            }
        }
    }
}

impl Default for PriorityTable {
    fn default() -> Self {
        // The defaults are not user input: a test holds that they make a table.
        Self::new(&MessagePriorities::default())
            .unwrap_or_else(|_| Self { names: HashMap::new(), prefixes: HashMap::new() })
    }
}

fn insert(
    table: &mut HashMap<Box<[u8]>, Priority>,
    entry: &str,
    class: Priority,
) -> Result<(), String> {
    if entry.len() * 2 > NAME_BYTES_MAX {
        return Err(format!("is longer than {} bytes", NAME_BYTES_MAX / 2));
    }
    let mut buffer = [0; NAME_BYTES_MAX];
    let name = normalise(entry, &mut buffer);
    if name.is_empty() || name.starts_with(b"_") || name.ends_with(b"_") {
        return Err("is not the name of an event type".to_owned());
    }
    match table.insert(name.into(), class) {
        Some(before) if before != class => {
            Err(format!("stands in {before} too", before = before.name()))
        }
        _ => Ok(()),
    }
}

/// Writes the name to the end of `buffer`, from its last byte on, so that of a long one the end is kept.
fn normalise<'b>(text: &str, buffer: &'b mut [u8; NAME_BYTES_MAX]) -> &'b [u8] {
    let mut at = NAME_BYTES_MAX;
    let bytes = text.as_bytes();
    for (index, byte) in bytes.iter().enumerate().rev() {
        let before = index.checked_sub(1).and_then(|i| bytes.get(i));
        let starts_word = byte.is_ascii_uppercase()
            && before.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if at < 2 {
            break;
        }
        at -= 1;
        buffer[at] = match byte {
            b'.' | b'-' => b'_',
            other => other.to_ascii_lowercase(),
        };
        if starts_word {
            at -= 1;
            buffer[at] = b'_';
        }
    }
    &buffer[at..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(table: &PriorityTable, expected: &[(&str, Priority)]) {
        for (event_type, class) in expected {
            assert_eq!(table.priority(event_type), *class, "{event_type}");
        }
    }

    #[test]
    fn types_of_the_specification_find_their_class() {
        use Priority::{High, Low, Normal, Urgent};
        check(
            &PriorityTable::new(&MessagePriorities::default()).unwrap(),
            &[
                ("emergency.landing", Urgent),
                ("emergency_landing", Urgent),
                ("drone.emergency-landing", Urgent),
                ("EmergencyLanding", Urgent),
                ("alert.collision_alert", Urgent),
                ("emergency.motor.failure", Urgent),
                ("battery.low", High),
                ("drone.low_battery_alert", High),
                ("alert.created", High),
                ("alert.heartbeat", Normal),
                ("drone.heartbeat", Normal),
                ("drone.location.updated", Normal),
                ("OrderCreated", Normal),
                ("log.entry", Low),
                ("log_data", Low),
                ("metric.cpu", Low),
                ("flight.statistics", Low),
                ("emergency", Normal),
                ("catalog.entry", Normal),
                ("", Normal),
                ("___", Normal),
            ],
        );
    }

    #[test]
    fn the_longest_entry_wins_and_words_are_whole() {
        let priorities = MessagePriorities {
            urgent: vec!["landing".into()],
            low: vec!["soft.landing".into(), "battery.*".into(), "a.b.*".into()],
            high: vec!["a.*".into()],
            normal: Vec::new(),
        };
        check(
            &PriorityTable::new(&priorities).unwrap(),
            &[
                ("drone.landing", Priority::Urgent),
                ("drone.soft.landing", Priority::Low),
                ("drone.belanding", Priority::Normal),
                ("battery.low", Priority::Low),
                ("a.c", Priority::High),
                ("a.b.c", Priority::Low),
            ],
        );
    }

    #[test]
    fn an_entry_in_two_classes_is_refused() {
        let mut priorities = MessagePriorities::default();
        priorities.low.push("Collision.Alert".to_owned());
        let error = PriorityTable::new(&priorities).unwrap_err();
        assert_eq!(
            error.to_string(),
            "message_priorities.low: \"Collision.Alert\" stands in urgent too"
        );
        for entry in ["", "_", ".*", &"x".repeat(300)] {
            let priorities =
                MessagePriorities { low: vec![entry.to_owned()], ..MessagePriorities::default() };
            assert_eq!(PriorityTable::new(&priorities).unwrap_err().code(), "WEIR-0511");
        }
    }

    #[test]
    fn of_a_very_long_type_the_end_counts() {
        let long = format!("{}.heartbeat.log_data", "x.Y".repeat(1_000));
        assert_eq!(PriorityTable::default().priority(&long), Priority::Low);
    }
}

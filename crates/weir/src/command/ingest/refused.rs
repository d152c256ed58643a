//! Which lines were refused for good, as a command that picks them out of their file.

use std::path::Path;

/// Ranges that are kept: more do not fit a command that a person would paste.
const RANGES_MAX: usize = 50;

/// Numbers of lines, in ranges.
#[derive(Debug, Default)]
pub(super) struct RefusedLines {
    ranges: Vec<(u64, u64)>,
    /// There were more than are kept.
    is_cut: bool,
}

impl RefusedLines {
    pub(super) fn add(&mut self, number: u64) {
        let follows = self.ranges.last_mut().filter(|(_, last)| *last + 1 == number);
        if let Some((_, last)) = follows {
            *last = number;
        } else if self.ranges.len() < RANGES_MAX {
            self.ranges.push((number, number));
        } else {
            self.is_cut = true;
        }
    }

    /// What to do about them. Only they are to be sent again: an accepted line is known again by an id of its own alone,
    /// and not for long.
    ///
    /// The command writes to a file that is not there yet, as `is_there` tells: it takes nothing away.
    pub(super) fn advice(&self, file: &Path, is_there: impl Fn(&Path) -> bool) -> String {
        if file == Path::new("-") {
            return "see the lines above; mend them, and send only them again".to_owned();
        }
        let mut ranges = self.ranges.clone();
        ranges.sort_unstable();
        let prints: Vec<String> = ranges
            .iter()
            .map(|(first, last)| match first == last {
                true => format!("{first}p"),
                false => format!("{first},{last}p"),
            })
            .collect();
        let more = if self.is_cut { " takes the first of them out" } else { " takes them out" };
        let target = (1_u32..).map(name_of).find(|name| !is_there(Path::new(name)));
        format!(
            "sed -n '{}' {} > {}{more}; mend them there, and ingest that file alone",
            prints.join(";"),
            quoted(&file.display().to_string()),
            target.unwrap_or_default(),
        )
    }
}

fn name_of(number: u32) -> String {
    match number {
        1 => "refused.ndjson".to_owned(),
        number => format!("refused-{number}.ndjson"),
    }
}

/// A word for a shell of POSIX.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_-./".contains(c);
    match !word.is_empty() && !word.starts_with('-') && word.chars().all(is_plain) {
        true => word.to_owned(),
        // A name that begins with a dash is no option.
        false => {
            let dash = if word.starts_with('-') { "./" } else { "" };
            format!("'{dash}{}'", word.replace('\'', "'\\''"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_side_by_side_are_one_range() {
        let mut lines = RefusedLines::default();
        [6, 7, 8, 2, 12].into_iter().for_each(|number| lines.add(number));
        assert_eq!(
            lines.advice(Path::new("a.ndjson"), |_| false),
            "sed -n '2p;6,8p;12p' a.ndjson > refused.ndjson takes them out; mend them there, and ingest that file alone"
        );
        assert!(!lines.advice(Path::new("-"), |_| false).contains("sed"));
    }

    #[test]
    fn the_command_overwrites_no_file() {
        let mut lines = RefusedLines::default();
        lines.add(2);
        let there = ["refused.ndjson", "refused-2.ndjson"];
        let is_there = |path: &Path| there.iter().any(|name| path == Path::new(name));
        let advice = lines.advice(Path::new("refused.ndjson"), is_there);
        assert!(advice.contains("refused.ndjson > refused-3.ndjson "), "{advice}");
    }

    #[test]
    fn odd_names_are_quoted() {
        for (name, word) in [
            ("a/b-1.ndjson", "a/b-1.ndjson"),
            ("my file", "'my file'"),
            ("it's", r"'it'\''s'"),
            ("-n", "'./-n'"),
            ("$(x)", "'$(x)'"),
        ] {
            assert_eq!(quoted(name), word);
        }
    }

    #[test]
    fn more_ranges_than_a_person_would_paste_are_not_kept() {
        let mut lines = RefusedLines::default();
        (0..10_000).for_each(|number| lines.add(2 * number));
        assert_eq!(lines.ranges.len(), RANGES_MAX);
        assert!(lines.advice(Path::new("a"), |_| false).contains("the first of them"));
    }
}

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
    pub(super) fn advice(&self, file: &Path) -> String {
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
        format!(
            "sed -n '{}' {} > refused.ndjson{more}; mend them there, and ingest that file alone",
            prints.join(";"),
            file.display()
        )
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
            lines.advice(Path::new("a.ndjson")),
            "sed -n '2p;6,8p;12p' a.ndjson > refused.ndjson takes them out; mend them there, and ingest that file alone"
        );
        assert!(!lines.advice(Path::new("-")).contains("sed"));
    }

    #[test]
    fn more_ranges_than_a_person_would_paste_are_not_kept() {
        let mut lines = RefusedLines::default();
        (0..10_000).for_each(|number| lines.add(2 * number));
        assert_eq!(lines.ranges.len(), RANGES_MAX);
        assert!(lines.advice(Path::new("a")).contains("the first of them"));
    }
}

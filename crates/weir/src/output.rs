//! Tables and figures on a terminal: no boxes, numbers to the right.

use std::io::{IsTerminal, Write};

/// Whether colour and progress may be written to standard output.
pub(crate) fn is_terminal() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Columns of the terminal that standard output is; `None`: it is none.
pub(crate) fn terminal_columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// What `out!` and `outln!` do.
pub(crate) fn write(text: std::fmt::Arguments<'_>) {
    // Nobody reads any more: there is nothing to do about it, and nothing wrong.
    let _ = std::io::stdout().write_fmt(text);
}

/// Between two columns.
const GAP: &str = "  ";
/// Columns below which a text is not wrapped further.
const WRAPPED_MIN: usize = 12;

/// How a column is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// A table: headers with their alignment, then rows of the same width.
#[derive(Debug)]
pub(crate) struct Table {
    head: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &[(&'static str, Align)]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.head.len());
        self.rows.push(cells);
    }

    /// Writes the table to standard output, as wide as the terminal if it is one.
    pub(crate) fn print(&self) {
        write(format_args!("{}", self.render_within(is_terminal(), terminal_columns())));
    }

    /// The table as text; `dim` marks the header for a terminal.
    pub(crate) fn render(&self, dim: bool) -> String {
        self.render_within(dim, None)
    }

    /// As [`Table::render`], in at most `columns_max` columns if they are enough for the first
    /// column, the numbers, and a few words of the others, whose cells go on in the next lines.
    fn render_within(&self, dim: bool, columns_max: Option<usize>) -> String {
        let widths = self.widths(columns_max);
        let head: Vec<String> = self.head.iter().map(|(name, _)| (*name).to_owned()).collect();
        let head = self.line(&head, &widths);
        let mut text = if dim { format!("\x1b[2m{head}\x1b[0m\n") } else { format!("{head}\n") };
        for row in &self.rows {
            let cells: Vec<Vec<String>> =
                row.iter().zip(&widths).map(|(cell, width)| wrapped(cell, *width)).collect();
            for n in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
                let part = |cell: &Vec<String>| cell.get(n).cloned().unwrap_or_default();
                text.push_str(&self.line(&cells.iter().map(part).collect::<Vec<_>>(), &widths));
                text.push('\n');
            }
        }
        text
    }

    fn widths(&self, columns_max: Option<usize>) -> Vec<usize> {
        let mut widths: Vec<usize> = (0..self.head.len())
            .map(|column| {
                let cells = self.rows.iter().map(|row| width(&row[column]));
                cells.chain([width(self.head[column].0)]).max().unwrap_or(0)
            })
            .collect();
        let gaps = GAP.len() * widths.len().saturating_sub(1);
        while columns_max.is_some_and(|max| widths.iter().sum::<usize>() + gaps > max) {
            let texts = (1..widths.len()).filter(|at| self.head[*at].1 == Align::Left);
            match texts.max_by_key(|at| widths[*at]).filter(|at| widths[*at] > WRAPPED_MIN) {
                Some(widest) => widths[widest] -= 1,
                None => break,
            }
        }
        widths
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, width_max), (_, align)) in cells.iter().zip(widths).zip(&self.head) {
            if !line.is_empty() {
                line.push_str(GAP);
            }
            let pad = " ".repeat(width_max.saturating_sub(width(cell)));
            match align {
                Align::Left => line.extend([cell.as_str(), &pad]),
                Align::Right => line.extend([pad.as_str(), cell]),
            }
        }
        line.trim_end().to_owned()
    }
}

/// Lines of at most `columns`, cut after a space or comma where there is one.
pub(crate) fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_inclusive([' ', ',']) {
        let mut line_width = lines.last().map_or(0, |line| width(line));
        if line_width > 0 && line_width + width(word.trim_end()) > columns {
            lines.push(String::new());
            line_width = 0;
        }
        for c in word.chars() {
            if line_width >= columns && c != ' ' {
                lines.push(String::new());
                line_width = 0;
            }
            line_width += width(c.encode_utf8(&mut [0; 4]));
            if let Some(line) = lines.last_mut() {
                line.push(c);
            }
        }
    }
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
}

/// Columns a text takes; CJK characters take two.
fn width(text: &str) -> usize {
    text.chars().map(|c| if ('\u{1100}'..='\u{ffe6}').contains(&c) { 2 } else { 1 }).sum()
}

/// `12,345,678`.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes with an SI unit and three significant digits: `1.20 GB`.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{n} B"),
        _ if value < 10.0 => format!("{value:.2} {}", UNITS[unit]),
        _ if value < 100.0 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.0} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_set_to_the_right_and_cjk_counts_double() {
        let mut table = Table::new(&[("TOPIC", Align::Left), ("RECORDS", Align::Right)]);
        table.row(vec!["无人机".into(), "7".into()]);
        table.row(vec!["a".into(), grouped(1_234_567)]);
        assert_eq!(
            table.render(false),
            "TOPIC     RECORDS\n无人机          7\na       1,234,567\n"
        );
    }

    #[test]
    fn a_wide_table_goes_on_in_the_next_line_and_keeps_key_and_numbers_whole() {
        let head = [("KEY", Align::Left), ("N", Align::Right), ("MEANING", Align::Left)];
        let mut table = Table::new(&head);
        let meaning = "what it is for, said in a sentence";
        table.row(vec!["gateway.listen".into(), "8084".into(), meaning.into()]);
        table.row(vec!["x".into(), "7".into(), "x".repeat(40)]);
        let text = table.render_within(false, Some(40));
        assert_eq!(
            text,
            "KEY                N  MEANING\n\
             gateway.listen  8084  what it is for,\n\
             \u{20}                     said in a sentence\n\
             x                  7  xxxxxxxxxxxxxxxxxx\n\
             \u{20}                     xxxxxxxxxxxxxxxxxx\n\
             \u{20}                     xxxx\n"
        );
        assert!(table.render(false).contains(meaning));
        assert!(!table.render_within(false, Some(5)).is_empty());
    }

    #[test]
    fn bytes_have_three_significant_digits() {
        let shown: Vec<_> = [0, 999, 1000, 12_345, 999_600, 1_200_000_000].map(bytes).into();
        assert_eq!(shown, ["0 B", "999 B", "1.00 kB", "12.3 kB", "1.00 MB", "1.20 GB"]);
    }
}

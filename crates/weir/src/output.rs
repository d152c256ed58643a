//! Tables and figures on a terminal: no boxes, numbers to the right.

use std::io::{IsTerminal, Write};

/// Whether colour and progress may be written to standard output.
pub(crate) fn is_terminal() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// What `out!` and `outln!` do.
pub(crate) fn write(text: std::fmt::Arguments<'_>) {
    // Nobody reads any more: there is nothing to do about it, and nothing wrong.
    let _ = std::io::stdout().write_fmt(text);
}

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

    /// The table as text; `dim` marks the header for a terminal.
    pub(crate) fn render(&self, dim: bool) -> String {
        let widths: Vec<usize> = (0..self.head.len())
            .map(|column| {
                let cells = self.rows.iter().map(|row| width(&row[column]));
                cells.chain([width(self.head[column].0)]).max().unwrap_or(0)
            })
            .collect();
        let head: Vec<String> = self.head.iter().map(|(name, _)| (*name).to_owned()).collect();
        let head = self.line(&head, &widths);
        let mut text = if dim { format!("\x1b[2m{head}\x1b[0m\n") } else { format!("{head}\n") };
        for row in &self.rows {
            text.push_str(&self.line(row, &widths));
            text.push('\n');
        }
        text
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, width_max), (_, align)) in cells.iter().zip(widths).zip(&self.head) {
            if !line.is_empty() {
                line.push_str("  ");
            }
            let pad = " ".repeat(width_max - width(cell));
            match align {
                Align::Left => line.extend([cell.as_str(), &pad]),
                Align::Right => line.extend([pad.as_str(), cell]),
            }
        }
        line.trim_end().to_owned()
    }
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
    fn bytes_have_three_significant_digits() {
        let shown: Vec<_> = [0, 999, 1000, 12_345, 999_600, 1_200_000_000].map(bytes).into();
        assert_eq!(shown, ["0 B", "999 B", "1.00 kB", "12.3 kB", "1.00 MB", "1.20 GB"]);
    }
}

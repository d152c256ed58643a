//! `weir explain CODE`: the page of an error, from `docs/errors/`, carried in the binary.

use rust_embed::RustEmbed;

use crate::error::{Outcome, UserError};
use crate::output;

/// Lines longer than this are hard to read.
const TEXT_COLUMNS_MAX: usize = 100;

#[derive(RustEmbed)]
#[folder = "../../docs/errors/"]
struct Pages;

/// Prints one page, or the list of codes with their titles.
pub(crate) fn run(code: Option<&str>) -> Outcome {
    match code {
        Some(code) => {
            let page = page(code).ok_or_else(|| unknown(code))?;
            match output::terminal_columns() {
                Some(columns) => out!("{}", for_terminal(&page, columns, output::is_terminal())),
                None => out!("{page}"),
            }
        }
        None => {
            for (code, title) in titles() {
                outln!("{code}  {title}");
            }
        }
    }
    Ok(())
}

/// The page of a code written as `WEIR-0801`, `weir-801` or `801`.
pub(crate) fn page(code: &str) -> Option<String> {
    let digits = code.trim().trim_start_matches(|c: char| !c.is_ascii_digit());
    let number: u16 = digits.parse().ok()?;
    let file = Pages::get(&format!("WEIR-{number:04}.md"))?;
    Some(String::from_utf8_lossy(&file.data).into_owned())
}

/// Every code with the title of its page, by code.
pub(crate) fn titles() -> Vec<(String, String)> {
    let mut titles: Vec<_> = Pages::iter()
        .filter_map(|name| {
            let code = name.strip_suffix(".md")?.to_owned();
            let page = page(&code)?;
            let title = page.lines().next()?.split_once(": ")?.1.to_owned();
            Some((code, title))
        })
        .collect();
    titles.sort();
    titles
}

/// A page without its Markdown marks, in lines that fit; `bold` for what was between two asterisks.
fn for_terminal(page: &str, columns: usize, bold: bool) -> String {
    let mut text = String::new();
    for line in page.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line).replace('`', "");
        // The marks of bold take no room, so they are set after the cut.
        for part in output::wrapped(&line.replace("**", ""), columns.min(TEXT_COLUMNS_MAX)) {
            text.push_str(&part);
            text.push('\n');
        }
    }
    if bold {
        for head in ["What happened.", "Why.", "What to do."] {
            text = text.replacen(&format!("\n{head}"), &format!("\n\x1b[1m{head}\x1b[0m"), 1);
        }
    }
    text
}

fn unknown(code: &str) -> UserError {
    UserError::new("WEIR-0805", format!("there is no error code {code}"))
        .help("weir explain lists all codes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_fits_an_80_column_terminal_without_marks() {
        for (code, title) in titles() {
            let shown = for_terminal(&page(&code).unwrap(), 80, false);
            assert!(shown.starts_with(&format!("{code}: ")), "{code}");
            assert!(shown.contains(title.split(' ').next().unwrap()), "{code}");
            assert!(!shown.contains("**") && !shown.contains('`'), "{shown}");
            let long: Vec<_> = shown.lines().filter(|line| line.chars().count() > 80).collect();
            assert!(long.is_empty(), "{code}: {long:?}");
        }
    }
}

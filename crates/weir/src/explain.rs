//! `weir explain CODE`: the page of an error, from `docs/errors/`, carried in the binary.

use rust_embed::RustEmbed;

use crate::error::{Outcome, UserError};

#[derive(RustEmbed)]
#[folder = "../../docs/errors/"]
struct Pages;

/// Prints one page, or the list of codes with their titles.
pub(crate) fn run(code: Option<&str>) -> Outcome {
    match code {
        Some(code) => {
            let page = page(code).ok_or_else(|| unknown(code))?;
            out!("{page}");
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

fn unknown(code: &str) -> UserError {
    UserError::new("WEIR-0805", format!("there is no error code {code}"))
        .help("weir explain lists all codes")
}

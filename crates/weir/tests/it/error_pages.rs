//! Every code has a page and every page a code.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn codes_in(text: &str) -> impl Iterator<Item = String> + '_ {
    text.match_indices("WEIR-").filter_map(|(at, _)| {
        let digits = text.get(at + 5..at + 9)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| format!("WEIR-{digits}"))
    })
}

/// Codes in the sources of all crates, without those of tests.
fn used(dir: &Path, codes: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if !matches!(name.as_str(), "tests" | "examples" | "ui" | "target") {
                used(&path, codes);
            }
        } else if name.ends_with(".rs") && name != "tests.rs" {
            let text = fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            codes.extend(codes_in(text));
        }
    }
}

fn pages() -> BTreeSet<String> {
    let entries = fs::read_dir(root().join("docs/errors")).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter_map(|name| name.strip_suffix(".md").map(str::to_owned)).collect()
}

#[test]
fn every_code_in_the_sources_has_a_page_and_every_page_a_code() {
    let mut codes = BTreeSet::new();
    used(&root().join("crates"), &mut codes);
    let pages = pages();
    let without_page: Vec<_> = codes.difference(&pages).collect();
    let without_code: Vec<_> = pages.difference(&codes).collect();
    assert!(without_page.is_empty(), "no page: {without_page:?}");
    assert!(without_code.is_empty(), "no code: {without_code:?}");
}

#[test]
fn every_page_says_what_happened_and_what_to_do() {
    for code in pages() {
        let page = fs::read_to_string(root().join(format!("docs/errors/{code}.md"))).unwrap();
        assert!(page.starts_with(&format!("# {code}: ")), "{code} has no title");
        let paragraphs = page.split("\n\n").filter(|part| !part.trim().is_empty()).count();
        assert!(paragraphs >= 3, "{code} has {paragraphs} paragraphs");
    }
}

//! The table of promises in both READMEs: each row names its tests, and each of those is there.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All Rust sources of the workspace's crates, as one text.
fn sources(dir: &Path, text: &mut String) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("node_modules") {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

/// The rows of the table under a heading, without its head.
fn rows<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
    let section = page.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    section.lines().filter(|line| line.starts_with("| ")).skip(1).collect()
}

/// What stands in backquotes and looks like a test: a function of many words, or a script.
fn tests(row: &str) -> Vec<&str> {
    let quoted = row.split('`').skip(1).step_by(2);
    let is_test = |name: &&str| name.starts_with("scripts/") || name.matches('_').count() >= 3;
    quoted.filter(is_test).collect()
}

#[test]
fn each_promise_of_the_readmes_names_a_test_that_is_there() {
    let mut code = String::new();
    sources(&root().join("crates"), &mut code);
    let mut named: Vec<Vec<Vec<String>>> = Vec::new();
    for (file, heading, not_yet) in
        [("README.md", "What it promises", "not there yet"), ("README.zh.md", "承诺", "尚未实现")]
    {
        let page = fs::read_to_string(root().join(file)).unwrap();
        let rows = rows(&page, heading);
        assert!(rows.len() >= 8, "{file}: {rows:?}");
        for row in &rows {
            let tests = tests(row);
            assert!(!tests.is_empty() || row.contains(not_yet), "{file} names no test: {row}");
            for test in tests {
                let is_there = match test.strip_prefix("scripts/") {
                    Some(script) => {
                        let script = script.split(' ').next().unwrap();
                        root().join("scripts").join(script).is_file()
                    }
                    None => code.contains(&format!("fn {test}(")),
                };
                assert!(is_there, "{file} names {test}, which is not there");
            }
        }
        let owned = |row: &&str| tests(row).into_iter().map(str::to_owned).collect();
        named.push(rows.iter().map(owned).collect());
    }
    assert_eq!(named[0], named[1], "both languages name the same tests");
}

//! ARCHITECTURE.md against the truth: `cargo metadata` and the tree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page() -> String {
    std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap()
}

/// One row of the table of crates.
struct Row {
    may_use: BTreeSet<String>,
    must_never_use: BTreeSet<String>,
}

fn table(page: &str) -> BTreeMap<String, Row> {
    let names = |cell: &str| {
        cell.split(',').map(|name| name.trim().to_owned()).filter(|name| name != "-").collect()
    };
    page.lines()
        .filter(|line| line.starts_with("| `weir"))
        .filter_map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let row = Row { may_use: names(cells[2]), must_never_use: names(cells[3]) };
            (cells.len() == 6).then(|| (cells[1].trim_matches('`').to_owned(), row))
        })
        .collect()
}

/// Direct dependencies of each crate of the workspace, without those of its tests.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap();
            let normal = dependencies.iter().filter(|dependency| dependency["kind"].is_null());
            let names = normal.map(|dependency| dependency["name"].as_str().unwrap().to_owned());
            (package["name"].as_str().unwrap().to_owned(), names.collect())
        })
        .collect()
}

/// What breaks the table, in words; empty if it holds.
fn violations(
    table: &BTreeMap<String, Row>,
    dependencies: &BTreeMap<String, BTreeSet<String>>,
) -> Vec<String> {
    let mut found = Vec::new();
    for name in table.keys().filter(|name| !dependencies.contains_key(*name)) {
        found.push(format!("{name} is on the page but not in the workspace"));
    }
    for (name, used) in dependencies {
        let Some(row) = table.get(name) else {
            found.push(format!("{name} is not on the page"));
            continue;
        };
        for other in used.iter().filter(|other| dependencies.contains_key(*other)) {
            if !row.may_use.contains(other) {
                found.push(format!("{name} uses {other}, which the page does not allow"));
            }
        }
        for banned in row.must_never_use.intersection(used) {
            found.push(format!("{name} uses {banned}, which the page forbids"));
        }
    }
    found
}

#[test]
fn page_agrees_with_cargo_metadata() {
    let found = violations(&table(&page()), &dependencies());
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn guard_bites_when_an_arrow_is_added() {
    let mut dependencies = dependencies();
    dependencies.get_mut("weir-client").unwrap().insert("weir-broker".to_owned());
    dependencies.get_mut("weir-log").unwrap().insert("tokio".to_owned());
    dependencies.insert("weir-common".to_owned(), BTreeSet::new());
    let found = violations(&table(&page()), &dependencies);
    assert_eq!(found.len(), 3, "{found:#?}");
}

#[test]
fn every_path_on_the_page_exists() {
    let page = page();
    let mut folder = String::new();
    let mut missing = Vec::new();
    for quoted in page.split('`').skip(1).step_by(2) {
        let is_path = quoted.ends_with(".rs") || quoted.ends_with('/') || quoted.ends_with(".md");
        if !is_path || quoted.contains('<') {
            continue;
        }
        let base = if quoted.starts_with("weir-") { "crates/" } else { "" };
        let candidates = [
            format!("{base}{quoted}"),
            format!("{folder}/{quoted}"),
            format!("crates/weir/src/{quoted}"),
        ];
        let Some(path) = candidates.iter().find(|path| root().join(path).exists()) else {
            // Names that describe a kind of file are not paths of this tree.
            if quoted.contains('/') {
                missing.push(quoted.to_owned());
            }
            continue;
        };
        folder = path.rsplit_once('/').map_or(String::new(), |(folder, _)| folder.to_owned());
    }
    assert!(missing.is_empty(), "not in the tree: {missing:?}");
}

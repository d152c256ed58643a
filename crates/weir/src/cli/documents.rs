//! Commands that the documents name are commands that the parser knows.

use std::fs;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use super::Cli;

/// What follows `weir` in each piece of code of a Markdown or source text: between backticks, or in
/// a fenced block. Prose says "weir does this" and is no command.
fn commands_in(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let code: Vec<&str> = match fenced {
            true => vec![line.split(" #").next().unwrap_or(line)],
            false => line.split('`').skip(1).step_by(2).collect(),
        };
        for code in code {
            for (at, _) in code.match_indices("weir ") {
                let before = &code[..at];
                let starts = before.is_empty() || before.ends_with(['/', ' ', '\t']);
                // `cargo test -p weir --test it` is cargo's command.
                if starts && !before.ends_with("-p ") {
                    let rest = &code[at + 5..];
                    let end = rest.find(['|', '&', ';', '#']).unwrap_or(rest.len());
                    found.push(rest[..end].to_owned());
                }
            }
        }
    }
    found
}

/// `Err` says what the parser does not know. Words that stand for something (`TOPIC`, `N`), and what
/// is left out, are no faults.
fn check(words: &str) -> Result<(), String> {
    let words = words.split_whitespace().map(|word| word.trim_end_matches([',', '.', ')']));
    match Cli::try_parse_from(std::iter::once("weir").chain(words)) {
        Err(error) => match error.kind() {
            ErrorKind::InvalidSubcommand
            | ErrorKind::UnknownArgument
            | ErrorKind::ArgumentConflict => {
                Err(error.to_string().lines().next().unwrap_or_default().to_owned())
            }
            _ => Ok(()),
        },
        Ok(_) => Ok(()),
    }
}

fn files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files: Vec<PathBuf> =
        ["README.md", "README.zh.md", "CHANGELOG.md", "ARCHITECTURE.md", "docs/benchmarks.md"]
            .map(|name| root.join(name))
            .into();
    let mut pending = vec![root.join("docs/errors"), root.join("crates/weir/src")];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            match entry.path() {
                path if path.is_dir() => pending.push(path),
                path => files.push(path),
            }
        }
    }
    // This file says what no command is.
    files.retain(|path| !path.ends_with("cli/documents.rs"));
    files
}

#[test]
fn every_command_and_flag_that_a_document_names_exists() {
    let (mut seen, mut wrong) = (0, Vec::new());
    for path in files() {
        let text = fs::read_to_string(&path).unwrap();
        for command in commands_in(&text) {
            seen += 1;
            if let Err(fault) = check(&command) {
                wrong.push(format!("{}: weir {command}: {fault}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 40, "only {seen} commands were found: the search is broken");
}

#[test]
fn the_help_of_every_command_fits_80_columns() {
    fn long_lines(command: &mut clap::Command, found: &mut Vec<String>) {
        let help = command.render_help().to_string();
        found.extend(help.lines().filter(|line| line.chars().count() > 80).map(str::to_owned));
        command.get_subcommands_mut().for_each(|command| long_lines(command, found));
    }
    let (mut command, mut found) = (Cli::command(), Vec::new());
    command.build();
    long_lines(&mut command, &mut found);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_search_finds_commands_and_the_check_knows_right_from_wrong() {
    let text =
        "weir does it. `weir up --demo | cat` or\n```sh\n./weir topicz\n  weir tail t # weir reads\n```\n";
    assert_eq!(commands_in(text), ["up --demo ", "topicz", "tail t"]);
    for good in ["up --demo", "tail TOPIC -n 2", "config show --origin", "ingest -", "--help"] {
        assert_eq!(check(good), Ok(()), "{good}");
    }
    for bad in
        ["topicz", "up --dmeo", "topics create NAME", "config shew", "is running", "tail t -z"]
    {
        assert!(check(bad).is_err(), "{bad}");
    }
}

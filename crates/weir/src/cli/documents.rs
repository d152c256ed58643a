//! Commands that the documents name are commands that the parser knows.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};

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
            true => vec![line],
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

/// `Err` says what the parser does not know.
fn check(words: &str) -> Result<(), String> {
    let mut command: Command = Cli::command();
    command.build();
    let mut words = words.split_whitespace().map(|word| word.trim_end_matches([',', '.', ')']));
    let mut word = words.next();
    while command.has_subcommands() {
        let Some(name) = word.filter(|name| !name.starts_with('-')) else { break };
        command = command
            .find_subcommand(name)
            .ok_or_else(|| format!("no command \"{name}\" in \"{}\"", command.get_name()))?
            .clone();
        word = words.next();
    }
    for flag in word.into_iter().chain(words).filter(|word| word.starts_with('-') && *word != "-") {
        let name = flag.split('=').next().unwrap_or(flag);
        let known = command.get_arguments().any(|argument| match name.strip_prefix("--") {
            Some(long) => argument.get_long() == Some(long),
            None => argument.get_short() == name.chars().nth(1),
        });
        if !known {
            return Err(format!("\"{}\" has no {name}", command.get_name()));
        }
    }
    Ok(())
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
fn the_search_finds_commands_and_the_check_knows_right_from_wrong() {
    let text =
        "weir does it. `weir up --demo | cat` or\n```sh\n./weir topicz\n  weir tail t\n```\n";
    assert_eq!(commands_in(text), ["up --demo ", "topicz", "tail t"]);
    for good in ["up --demo", "tail TOPIC -n 2", "config show --origin", "ingest -", "--help"] {
        assert_eq!(check(good), Ok(()), "{good}");
    }
    for bad in ["topicz", "up --dmeo", "config shew", "is running", "tail t -z"] {
        assert!(check(bad).is_err(), "{bad}");
    }
}

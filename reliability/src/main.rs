//! What the rig of `scripts/reliability.py` runs beside the broker; see `reliability help`.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::process::ExitCode;

use anyhow::{bail, Context, Result};
use reliability::checker::Checker;
use reliability::history;
use reliability::load::{self, Load};

const USAGE: &str = "\
reliability load  --brokers HOST:PORT,... --topic T --partitions N --name NAME --history FILE
                  [--producers 2] [--consumers 2] [--rate 1000]
    produces and consumes until told on standard input to stop and to finish

reliability read  --brokers HOST:PORT,... --topic T --partitions N --groups A,B --history FILE
    reads the topic to its ends, and what the groups have committed

reliability check FILE...
    prints the verdict on histories as one JSON line; exit code 1 if a promise was broken";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("reliability: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &[String]) -> Result<ExitCode> {
    match args.split_first() {
        Some((command, rest)) if command == "load" => run_load(&Options::parse(rest)?),
        Some((command, rest)) if command == "read" => run_read(&Options::parse(rest)?),
        Some((command, files)) if command == "check" && !files.is_empty() => run_check(files),
        _ => {
            println!("{USAGE}");
            Ok(ExitCode::from(2))
        }
    }
}

fn run_load(options: &Options) -> Result<ExitCode> {
    let load = Load {
        brokers: options.text("brokers")?,
        topic: options.text("topic")?,
        partitions: options.number("partitions", None)?,
        name: options.text("name")?,
        producers: options.number("producers", Some(2))?,
        consumers: options.number("consumers", Some(2))?,
        rate: options.number("rate", Some(1_000))?,
        history: options.text("history")?.into(),
    };
    runtime()?.block_on(load::run(load))?;
    // Reading standard input holds a thread that the runtime would wait for.
    std::process::exit(0)
}

fn run_read(options: &Options) -> Result<ExitCode> {
    let (brokers, topic) = (options.text("brokers")?, options.text("topic")?);
    let (groups, history) = (options.text("groups")?, options.text("history")?);
    let partitions = options.number("partitions", None)?;
    let groups: Vec<&str> = groups.split(',').collect();
    runtime()?.block_on(load::read_all(&brokers, &topic, partitions, &groups, history.as_ref()))?;
    Ok(ExitCode::SUCCESS)
}

fn run_check(files: &[String]) -> Result<ExitCode> {
    let mut checker = Checker::new();
    for file in files {
        let reader = BufReader::new(File::open(file).with_context(|| file.clone())?);
        history::read(reader, |event| checker.add(event)).with_context(|| file.clone())?;
    }
    let verdict = checker.verdict();
    println!("{}", serde_json::to_string(&verdict)?);
    Ok(if verdict.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// `--name value` pairs.
struct Options(HashMap<String, String>);

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut options = HashMap::new();
        for pair in args.chunks(2) {
            let [name, value] = pair else { bail!("{pair:?} has no value\n{USAGE}") };
            let Some(name) = name.strip_prefix("--") else { bail!("{name:?}?\n{USAGE}") };
            options.insert(name.to_owned(), value.clone());
        }
        Ok(Self(options))
    }

    fn text(&self, name: &str) -> Result<String> {
        self.0.get(name).cloned().with_context(|| format!("--{name} is missing\n{USAGE}"))
    }

    fn number<T: std::str::FromStr>(&self, name: &str, default: Option<T>) -> Result<T> {
        match (self.0.get(name), default) {
            (None, Some(default)) => Ok(default),
            (None, None) => bail!("--{name} is missing\n{USAGE}"),
            (Some(text), _) => {
                text.parse().ok().with_context(|| format!("--{name} {text} is no number"))
            }
        }
    }
}

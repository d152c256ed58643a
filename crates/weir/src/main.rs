//! weir: the event backbone for device fleets on Apache Kafka.
//!
//! This crate is the binary: configuration, wiring, HTTP, console and commands. What it wires
//! lives in the library crates; ARCHITECTURE.md is the map.

// A command's result belongs on standard output.
#![allow(clippy::print_stdout, clippy::print_stderr)]

/// Writes to standard output. A reader that went away (`weir topics | head -1`) is the end of the
/// output, not a failure.
macro_rules! out {
    ($($text:tt)*) => { crate::output::write(format_args!($($text)*)) };
}

/// As `out!`, with a line end.
macro_rules! outln {
    ($($text:tt)*) => { crate::output::write(format_args!("{}\n", format_args!($($text)*))) };
}

mod cli;
mod command;
mod config;
mod console;
mod error;
mod explain;
mod gateway;
mod http;
mod logging;
mod output;
mod text;
mod up;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::error::Outcome;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(error::exit_code(&error))
        }
    }
}

fn run(command: Command) -> Outcome {
    match command {
        Command::Up(args) => up::run(&args),
        Command::Broker(args) => up::run_broker(args),
        Command::Sim(args) => command::sim::run(&args),
        Command::Ingest(args) => command::ingest::run(&args),
        Command::Produce(args) => command::produce::run(&args),
        Command::Tail(args) => command::tail::run(&args),
        Command::Topics(args) => command::topics::run(&args),
        Command::Groups(args) => command::groups::run(&args),
        Command::Log(args) => command::log::run(&args),
        Command::Ops(args) => command::ops::run(&args),
        Command::Doctor(args) => command::doctor::run(&args),
        Command::Config(args) => command::config::run(args),
        Command::Explain { code } => explain::run(code.as_deref()),
    }
}

//! `weir doctor`: what goes wrong on real machines, looked at one by one.
//!
//! Nothing is changed: one probe file is written into the data directory, and removed.

mod cluster;
mod files;
mod machine;

use serde_json::json;

use crate::cli::DoctorArgs;
use crate::config::{Settings, Values};
use crate::error::{Outcome, UserError};

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Ok,
    Warning,
    Problem,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }

    const fn mark(self) -> &'static str {
        match self {
            Self::Ok => "●",
            Self::Warning => "▲",
            Self::Problem => "■",
        }
    }
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    name: &'static str,
    state: State,
    what: String,
    help: Option<String>,
}

impl Check {
    fn ok(name: &'static str, what: impl Into<String>) -> Self {
        Self { name, state: State::Ok, what: what.into(), help: None }
    }

    fn warning(name: &'static str, what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { name, state: State::Warning, what: what.into(), help: Some(help.into()) }
    }

    fn problem(name: &'static str, what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { name, state: State::Problem, what: what.into(), help: Some(help.into()) }
    }
}

pub(crate) fn run(args: &DoctorArgs) -> Outcome {
    let mut values = Values::load(args.dir.file.config.as_deref(), std::env::vars())?;
    if let Some(dir) = &args.dir.data_dir {
        values.set_flag("--data-dir", "data_dir", &dir.display().to_string())?;
    }
    if let Some(brokers) = &args.brokers {
        values.set_flag("--brokers", "kafka.brokers", brokers)?;
    }
    let settings = Settings::from_values(&values)?;
    let mut report = Report { json: args.json, checks: Vec::new() };
    report.add([configuration(&values, &settings)]);
    report.add(machine::checks(&settings.data_dir));
    let running = files::running(&settings);
    report.add(files::checks(&settings, running.as_ref()));
    report.add(machine::ports(&settings, running.as_ref().map(|holder| holder.pid)));
    report.add(cluster::checks(&settings, running.as_ref(), args.brokers.is_some()));
    report.end()
}

fn configuration(values: &Values, settings: &Settings) -> Check {
    match crate::up::check(settings) {
        Ok(()) => {
            let set = values.iter().filter(|(.., o)| **o != crate::config::Origin::Default).count();
            Check::ok("configuration", format!("{set} values set, the rest are defaults"))
        }
        Err(error) => Check::problem(
            "configuration",
            format!("{} ({})", error.what, error.code),
            error.help.unwrap_or_else(|| "weir config check".to_owned()),
        ),
    }
}

/// Prints each check as soon as it is known, as some take a moment.
struct Report {
    json: bool,
    checks: Vec<Check>,
}

impl Report {
    fn add(&mut self, checks: impl IntoIterator<Item = Check>) {
        for check in checks {
            if !self.json {
                outln!(
                    "{} {:<8} {:<18} {}",
                    check.state.mark(),
                    check.state.name(),
                    check.name,
                    check.what
                );
                if let Some(help) = &check.help {
                    outln!("    help: {help}");
                }
            }
            self.checks.push(check);
        }
    }

    fn end(self) -> Outcome {
        if self.json {
            let check = |check: &Check| {
                json!({"name": check.name, "state": check.state.name(), "what": check.what,
                       "help": check.help})
            };
            outln!("{}", json!(self.checks.iter().map(check).collect::<Vec<_>>()));
        }
        let problems = self.checks.iter().filter(|check| check.state == State::Problem).count();
        match problems {
            0 => Ok(()),
            1 => Err(UserError::new("WEIR-0821", "1 problem was found")),
            count => Err(UserError::new("WEIR-0821", format!("{count} problems were found"))),
        }
    }
}

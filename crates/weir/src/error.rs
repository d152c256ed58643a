//! What a person is told when something cannot be done: what, why, and the command that mends it.

use std::fmt;

/// A failure as a user meets it, in four parts: code and sentence, reason, help, page.
///
/// Printed on stderr by `main`. The code has a page under `docs/errors/`, shown by
/// `weir explain CODE`.
#[derive(Debug)]
pub(crate) struct UserError {
    /// `WEIR-nnnn`.
    pub(crate) code: &'static str,
    /// What could not be done, one lower-case sentence without a full stop.
    pub(crate) what: String,
    /// Why, if it is known beyond `what`.
    pub(crate) why: Option<String>,
    /// What to do now, preferably a command.
    pub(crate) help: Option<String>,
}

impl UserError {
    pub(crate) fn new(code: &'static str, what: impl Into<String>) -> Self {
        Self { code, what: what.into(), why: None, help: None }
    }

    pub(crate) fn why(mut self, why: impl fmt::Display) -> Self {
        self.why = Some(why.to_string());
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error[{}]: {}", self.code, self.what)?;
        if let Some(why) = &self.why {
            writeln!(f, "  {why}")?;
        }
        if let Some(help) = &self.help {
            writeln!(f, "help: {help}")?;
        }
        write!(f, "      weir explain {}", self.code)
    }
}

impl std::error::Error for UserError {}

/// Result of a command.
pub(crate) type Outcome<T = ()> = Result<T, UserError>;

/// Exit codes, part of the interface (`weir --help` says them): 1 = it failed, 2 = it was asked
/// wrongly: usage, configuration, a file or a code that is not there.
pub(crate) fn exit_code(error: &UserError) -> u8 {
    match error.code {
        "WEIR-0510" | "WEIR-0511" | "WEIR-0703" | "WEIR-0801" | "WEIR-0802" | "WEIR-0803"
        | "WEIR-0804" | "WEIR-0805" | "WEIR-0815" => 2,
        _ => 1,
    }
}

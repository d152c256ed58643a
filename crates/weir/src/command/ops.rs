//! `weir ops`: the operations script of the specification, without a shell around Kafka's tools.
//!
//! On a terminal a table, what is worst first; elsewhere the lines that the script printed; JSON if asked.

mod check_groups;
mod cleanup;
mod monitor_size;
mod reset_offset;

use weir_client::timestamp::parse_rfc3339;
use weir_protocol::TimestampMs;

use crate::cli::{OpsArgs, OpsCommand};
use crate::error::{Outcome, UserError};

pub(crate) fn run(args: &OpsArgs) -> Outcome {
    match &args.command {
        OpsCommand::CheckGroups(args) => check_groups::run(args),
        OpsCommand::ResetOffset(args) => reset_offset::run(args),
        OpsCommand::MonitorSize(args) => monitor_size::run(args),
        OpsCommand::Cleanup(args) => cleanup::run(args),
    }
}

/// A time as a person writes it: RFC 3339, or a date alone, which is its midnight in UTC.
fn time(text: &str) -> Outcome<TimestampMs> {
    parse_rfc3339(text).or_else(|| parse_rfc3339(&format!("{text}T00:00:00Z"))).ok_or_else(|| {
        UserError::new("WEIR-0823", format!("\"{text}\" is no time"))
            .help("write it as 2025-08-03T10:30:00Z or 2025-08-03")
    })
}

/// A number of bytes as a person writes it: `500MB`, `1.5GiB`, `1048576`.
fn size(text: &str) -> Outcome<u64> {
    crate::config::size(text).ok_or_else(|| {
        UserError::new("WEIR-0823", format!("\"{text}\" is no size"))
            .help("write it as 500MB or 10GB")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_its_midnight_and_nonsense_is_refused_with_an_example() {
        assert_eq!(time("1970-01-02").unwrap(), TimestampMs(86_400_000));
        assert_eq!(time("1970-01-01T00:00:01Z").unwrap(), TimestampMs(1000));
        assert_eq!(time("yesterday").unwrap_err().code, "WEIR-0823");
        assert_eq!(size("lots").unwrap_err().code, "WEIR-0823");
    }
}

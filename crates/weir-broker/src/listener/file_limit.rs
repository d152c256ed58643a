//! The limit of open files: raised as far as it goes, and what it leaves for connections.
//!
//! Shells and service managers often set a soft limit of 1,024, for programs that still use `select`. A broker whose
//! connections take the last file can open no segment any more, and that takes its log directory offline.

use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};

/// Raises the soft limit of open files to the hard one. Returns how many may be open; `None` if there is no limit.
pub fn raise() -> Option<u64> {
    let before = getrlimit(Resource::Nofile);
    if before.current == before.maximum {
        return before.current;
    }
    let wanted = Rlimit { current: before.maximum, maximum: before.maximum };
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => before.maximum,
        // Some systems refuse "no limit" here.
        Err(error) => {
            tracing::debug!(%error, "the limit of open files was not raised");
            before.current
        }
    }
}

/// How many connections the limit of open files allows now.
pub(super) fn for_connections_now(others_max: usize) -> usize {
    for_connections(getrlimit(Resource::Nofile).current, others_max)
}

/// How many of the files connections may take: all but a quarter for the logs, and what the rest of the process needs for
/// connections of its own, `others_max`, which is a quarter at most.
pub(super) fn for_connections(files_max: Option<u64>, others_max: usize) -> usize {
    let Some(files) = files_max else { return usize::MAX };
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    let quarter = files / 4;
    (files - quarter - others_max.min(quarter)).max(1)
}

/// How many connections there may be: as many as wanted, if there are `files` for them.
pub(super) fn connections_max(wanted: usize, files: usize) -> usize {
    let connections_max = wanted.min(files);
    if connections_max < wanted {
        tracing::info!(
            wanted,
            connections_max,
            "the limit of open files (ulimit -n) allows fewer connections than configured"
        );
    }
    connections_max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let hard = getrlimit(Resource::Nofile).maximum;
        assert_eq!(raise(), hard);
        assert_eq!(getrlimit(Resource::Nofile).current, hard);
    }

    #[test]
    fn connections_leave_files_for_logs_and_for_who_needs_them() {
        assert_eq!(for_connections(Some(20_000), 0), 15_000);
        assert_eq!(for_connections(Some(20_000), 1_000), 14_000);
        assert_eq!(for_connections(Some(20_000), 8_192), 10_000);
        assert_eq!(for_connections(Some(1_024), 8_192), 512);
        assert_eq!(for_connections(Some(0), 5), 1);
        assert_eq!(for_connections(None, 8_192), usize::MAX);
        assert_eq!((connections_max(10, 512), connections_max(10_000, 512)), (10, 512));
    }
}

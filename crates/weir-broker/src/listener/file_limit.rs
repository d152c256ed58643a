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

/// How many connections the limit of open files allows now: half of them. The other half is for logs.
pub(super) fn connections_of_files() -> usize {
    half(getrlimit(Resource::Nofile).current)
}

fn half(files_max: Option<u64>) -> usize {
    files_max.map_or(usize::MAX, |files| usize::try_from(files / 2).unwrap_or(usize::MAX)).max(1)
}

/// How many connections there may be: as many as wanted, but at most half of the files.
pub(super) fn connections_max(wanted: usize, files_max: Option<u64>) -> usize {
    let connections_max = wanted.min(half(files_max));
    if connections_max < wanted {
        tracing::warn!(
            wanted,
            connections_max,
            "the limit of open files allows fewer connections than configured"
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
    fn connections_leave_files_for_logs() {
        assert_eq!(connections_max(10_000, Some(1_024)), 512);
        assert_eq!(connections_max(10, Some(1_024)), 10);
        assert_eq!(connections_max(10_000, None), 10_000);
        assert_eq!(connections_max(10_000, Some(0)), 1);
    }
}

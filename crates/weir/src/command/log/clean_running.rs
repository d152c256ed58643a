//! `weir log clean` beside a running broker: asked for through its admin socket.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use weir_broker::admin::{parse_answer, CleanRefused, CleanRequest, CleanedNow, SOCKET};

use crate::error::{Outcome, UserError};

/// An answer has some 60 bytes for each partition, of which there are 20,000 at most.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// Has the broker that process `pid` runs in `dir` clean a topic, and waits until it has.
pub(super) fn clean(dir: &Path, pid: u32, request: &CleanRequest) -> Outcome<Vec<CleanedNow>> {
    let mut stream = connect(dir).map_err(|error| {
        UserError::new("WEIR-0202", format!("process {pid} uses {}", dir.display()))
            .why(format!("it is reached through {SOCKET} in there: {error}"))
            .help(
                "run this as the user that the broker runs as; if that process is Apache Kafka or an earlier weir, stop it \
                 first, or have it clean soon: set min.cleanable.dirty.ratio=0 and segment.ms=1000 on the topic, write one \
                 record, and delete both settings once it is done",
            )
    })?;
    let mut text = String::new();
    let asked = stream
        .write_all(request.to_string().as_bytes())
        .and_then(|()| stream.take(ANSWER_BYTES_MAX).read_to_string(&mut text));
    let broken = |why: &str| {
        Err(UserError::new("WEIR-0223", "the broker did not say what came of it")
            .why(why)
            .help("if it still runs it goes on cleaning; run this again"))
    };
    if let Err(error) = asked {
        return broken(&error.to_string());
    }
    match parse_answer(&text) {
        Some(Ok(cleaned)) => Ok(cleaned),
        Some(Err(refused)) => Err(why_refused(refused, request)),
        None => broken("its answer is cut, as when it stops"),
    }
}

/// By way of the directory's handle, as the path of a socket has 107 bytes at most.
fn connect(dir: &Path) -> std::io::Result<UnixStream> {
    let handle = File::open(dir)?;
    let short = format!("/proc/self/fd/{}/{SOCKET}", handle.as_raw_fd());
    UnixStream::connect(short).or_else(|_| UnixStream::connect(dir.join(SOCKET)))
}

fn why_refused(refused: CleanRefused, request: &CleanRequest) -> UserError {
    let topic = &request.topic;
    match refused {
        CleanRefused::NoTopic => super::clean::no_topic(topic),
        CleanRefused::NoPartition => {
            super::clean::no_partition(topic, request.partition.unwrap_or(0))
        }
        CleanRefused::NotCompacted => super::clean::not_compacted(topic),
        CleanRefused::CleanerDisabled => {
            UserError::new("WEIR-0223", "the running broker does not clean")
                .why("log.cleaner.enable is false in its configuration")
                .help("take that line out and start it again, or stop it and run this command")
        }
        CleanRefused::Offline => {
            UserError::new("WEIR-0223", "the broker's log directory is offline")
                .why("a write or a sync has failed, or it is stopping")
                .help("weir doctor says more; it goes on with the next start")
        }
        CleanRefused::Unknown => {
            UserError::new("WEIR-0223", "the broker does not know the request")
                .why("it is of another version than this command")
                .help("use the command of the weir that runs there")
        }
    }
}

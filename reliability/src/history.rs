//! A history: what clients did and saw, one JSON object per line.
//!
//! Lines of one client are in the order in which it did things, except that a send is written when
//! its outcome is known; its `seq` says when it was made. Lines of different clients are in no order.
//! Times are not written: nothing the checker says rests on comparing clocks.
//!
//! ```text
//! {"op":"send","client":"rust-0","seq":7,"partition":2,"key":"rust-0-k3","outcome":"acked","offset":31}
//! {"op":"assign","consumer":"rust-c0","group":"rust","partitions":[0,1]}
//! {"op":"poll","consumer":"rust-c0","group":"rust","partition":2,"records":[[30,"rust-1:4"],[31,"rust-0:7"]]}
//! {"op":"commit","consumer":"rust-c0","group":"rust","partition":2,"offset":32}
//! {"op":"committed","group":"rust","partition":2,"offset":32}
//! {"op":"final","partition":2,"records":[[0,"rust-0:1"]]}
//! {"op":"end","partition":2,"offset":812}
//! {"op":"end","partition":3,"offset":812,"read_to":812}
//! {"op":"restart","kind":"kill"}
//! ```

use std::io::BufRead;

use serde::{Deserialize, Serialize};

/// Something a client did or saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Event {
    /// A record sent, once its outcome is known.
    Send(Send),
    /// A consumer starts anew with these partitions: from here on it may read again what was read
    /// before, by it or by others of its group.
    Assign {
        /// The consumer.
        consumer: String,
        /// Its group.
        group: String,
        /// All its partitions from now on.
        partitions: Vec<i32>,
    },
    /// Records of one partition that one poll returned, in the order returned.
    Poll {
        /// The consumer.
        consumer: String,
        /// Its group.
        group: String,
        /// The partition.
        partition: i32,
        /// Offset and value of each.
        records: Vec<(i64, String)>,
    },
    /// A commit that the broker has acknowledged.
    Commit {
        /// The consumer.
        consumer: String,
        /// Its group.
        group: String,
        /// The partition.
        partition: i32,
        /// The next offset to read.
        offset: i64,
    },
    /// What the broker says at the end that a group has committed.
    Committed {
        /// The group.
        group: String,
        /// The partition.
        partition: i32,
        /// The next offset to read.
        offset: i64,
    },
    /// Records of one partition as read at the very end, from its start; may come in several pieces.
    Final {
        /// The partition.
        partition: i32,
        /// Offset and value of each.
        records: Vec<(i64, String)>,
    },
    /// The end offset of a partition at the very end.
    End {
        /// The partition.
        partition: i32,
        /// One more than its last offset.
        offset: i64,
        /// How far the final read came, where that is not the last record it returned: behind it may be
        /// aborted and control records.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        read_to: Option<i64>,
    },
    /// The broker was ended and started again.
    Restart {
        /// How: `kill`, `cut` or `stop`.
        kind: String,
    },
}

/// A record sent. Its value is `client:seq`, so that no two are the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Send {
    /// The producer.
    pub client: String,
    /// Counts the producer's sends in the order it made them.
    pub seq: u64,
    /// Where it was sent.
    pub partition: i32,
    /// Records of one key keep their order.
    pub key: String,
    /// Sends of one transaction; `None` outside of any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub txn: Option<u64>,
    /// What became of it.
    pub outcome: Outcome,
    /// Where it lies, if it was acknowledged and the broker said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
}

/// What became of a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The broker said that it is safe.
    Acked,
    /// It will certainly never be seen: refused, or part of an aborted transaction.
    Failed,
    /// Nobody knows: it may be in the log or not. Neither lost nor aborted.
    Unknown,
}

/// The value of a record: who sent it, and as which of its sends.
pub fn value(client: &str, seq: u64) -> String {
    format!("{client}:{seq}")
}

/// Reads events until the end.
///
/// # Errors
/// What the reader says, or the first line that is no event, with its number.
pub fn read(reader: impl BufRead, mut see: impl FnMut(Event)) -> anyhow::Result<()> {
    for (number, line) in reader.lines().enumerate() {
        let line = line?;
        let event = serde_json::from_str(&line)
            .map_err(|error| anyhow::anyhow!("line {}: {error}: {line}", number + 1))?;
        see(event);
    }
    Ok(())
}

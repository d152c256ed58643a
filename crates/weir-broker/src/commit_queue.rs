//! [`CommitQueue`]: what waits for a commit.
//!
//! Commits are numbered. What is appended while commit n runs belongs to commit n + 1, and waits in order. When a commit
//! ends, everything that waited for it, or for one before, is due.

use std::collections::VecDeque;

use weir_protocol::frame::RequestHeader;
use weir_protocol::{Str, Uuid};

use crate::broker::Step;
use crate::effects::{CommitNeed, Connection, Ticket};
use crate::offset_records::CommittedOffset;
use crate::request::{Request, Response};
use crate::transaction_coordinator::TxnDue;

/// One offset on its way to being committed.
#[derive(Debug)]
pub struct PendingOffset {
    /// The topic.
    pub topic: Str,
    /// Its id at the time: the offset is not for a later topic of the same name.
    pub topic_id: Uuid,
    /// The partition.
    pub partition: i32,
    /// What is committed.
    pub committed: CommittedOffset,
}

/// A request that comes again once what it needs is on disk.
#[derive(Debug)]
pub struct PutAside {
    /// Whom to answer.
    pub ticket: Ticket,
    /// Where it came from.
    pub connection: Connection,
    /// Its header.
    pub header: RequestHeader,
    /// The request.
    pub request: Request,
}

/// What is due when a commit ends.
#[derive(Debug)]
pub enum Due {
    /// Answer a produce, or another request whose record is appended.
    Answer(Ticket, Response),
    /// Answer a change of the broker's own files ([`crate::staged`]).
    Stored(Ticket, Response),
    /// Handle a request that had to wait for such a change.
    Again(Box<PutAside>),
    /// Make offsets visible, and answer their commit.
    Offsets {
        /// Whom to answer.
        ticket: Ticket,
        /// What to answer.
        response: Response,
        /// The group.
        group: Str,
        /// Its offsets.
        offsets: Vec<PendingOffset>,
    },
    /// Tell a group that its assignment is stored.
    Assignment {
        /// The group.
        group: Str,
        /// Of the assignment.
        generation: i32,
    },
    /// Go on with a transaction.
    Transaction(TxnDue),
}

/// A commit: what was appended before is on disk once it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u64);

/// What waits for a commit.
#[derive(Debug)]
pub struct CommitQueue {
    /// The commit that what is appended now belongs to.
    filling: u64,
    in_flight: bool,
    need: CommitNeed,
    due: VecDeque<(u64, Due)>,
}

impl Default for CommitQueue {
    fn default() -> Self {
        Self { filling: 1, in_flight: false, need: CommitNeed::None, due: VecDeque::new() }
    }
}

impl CommitQueue {
    /// Something was appended; `waited_for` if somebody's answer depends on it.
    pub fn appended(&mut self, waited_for: bool) {
        let need = if waited_for { CommitNeed::Now } else { CommitNeed::Soon };
        self.need = self.need.max(need);
    }

    /// How soon the next commit must begin.
    #[must_use]
    pub fn need(&self) -> CommitNeed {
        self.need
    }

    /// Parks the answer until all that was appended so far is synced, which may be now.
    pub fn answer_when_synced(&mut self, ticket: Ticket, response: Response) -> Step {
        match self.covering() {
            None => Step::Answer(response),
            Some(_) => {
                self.push(Due::Answer(ticket, response));
                Step::Parked
            }
        }
    }

    /// Queues `due` behind all that was appended so far.
    pub fn push(&mut self, due: Due) {
        let number = match self.covering() {
            Some(number) => number,
            None => {
                // Nothing is unsynced; the next commit, though empty, hands it out.
                self.need = CommitNeed::Now;
                self.filling
            }
        };
        if number == self.filling {
            self.need = CommitNeed::Now;
        }
        self.due.push_back((number, due));
    }

    /// The commit after which all that was appended so far is synced; `None` if it is already.
    fn covering(&self) -> Option<u64> {
        if self.need > CommitNeed::None {
            return Some(self.filling);
        }
        self.in_flight.then(|| self.filling - 1)
    }

    /// The commit that covers all that was appended so far.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(self.covering().unwrap_or(0))
    }

    /// Whether that commit has ended.
    #[must_use]
    pub fn is_synced(&self, mark: Mark) -> bool {
        mark.0 < self.filling - u64::from(self.in_flight)
    }

    /// A commit begins, of all that was appended so far. Returns its number.
    pub fn begin(&mut self) -> u64 {
        debug_assert!(!self.in_flight, "commits of one directory run one after the other");
        let number = self.filling;
        self.filling += 1;
        self.in_flight = true;
        self.need = CommitNeed::None;
        number
    }

    /// The commit that was begun has ended. Returns what is due, in order.
    pub fn finish(&mut self) -> Vec<Due> {
        debug_assert!(self.in_flight, "a commit that ends has begun");
        self.in_flight = false;
        let done = self.filling - 1;
        let count = self.due.partition_point(|(number, _)| *number <= done);
        self.due.drain(..count).map(|(_, due)| due).collect()
    }

    /// No commit will end any more. Returns all that waits, in order.
    pub fn abandon(&mut self) -> Vec<Due> {
        self.in_flight = false;
        self.need = CommitNeed::None;
        self.due.drain(..).map(|(_, due)| due).collect()
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use weir_protocol::api::produce::ProduceResponse;

    use super::*;

    fn response() -> Response {
        Response::Produce(ProduceResponse::default())
    }

    fn tickets(due: Vec<Due>) -> Vec<u64> {
        let ticket = |due| match due {
            Due::Answer(Ticket(ticket), _) => Some(ticket),
            _ => None,
        };
        due.into_iter().filter_map(ticket).collect()
    }

    #[test]
    fn what_comes_during_a_commit_waits_for_the_next() {
        let mut queue = CommitQueue::default();
        queue.appended(true);
        assert!(matches!(queue.answer_when_synced(Ticket(1), response()), Step::Parked));
        queue.begin();
        queue.appended(true);
        assert!(matches!(queue.answer_when_synced(Ticket(2), response()), Step::Parked));
        assert_eq!(tickets(queue.finish()), [1]);
        assert_eq!(queue.need(), CommitNeed::Now);
        queue.begin();
        assert_eq!(tickets(queue.finish()), [2]);
        assert_eq!(queue.need(), CommitNeed::None);
    }

    #[test]
    fn a_duplicate_waits_for_the_commit_that_covers_the_original() {
        let mut queue = CommitQueue::default();
        queue.appended(true);
        queue.begin();
        // Nothing new is appended for it.
        assert!(matches!(queue.answer_when_synced(Ticket(1), response()), Step::Parked));
        assert_eq!(queue.need(), CommitNeed::None);
        assert_eq!(tickets(queue.finish()), [1]);
        assert!(matches!(queue.answer_when_synced(Ticket(2), response()), Step::Answer(_)));
    }

    #[test]
    fn a_mark_is_reached_by_the_commit_that_covers_it() {
        let mut queue = CommitQueue::default();
        assert!(queue.is_synced(queue.mark()), "nothing is unsynced");
        queue.appended(false);
        let first = queue.mark();
        queue.begin();
        assert_eq!(queue.mark(), first);
        queue.appended(false);
        let second = queue.mark();
        assert!(!queue.is_synced(first));
        queue.finish();
        assert!(queue.is_synced(first) && !queue.is_synced(second));
    }

    #[test]
    fn an_unwaited_append_is_not_urgent_until_somebody_waits() {
        let mut queue = CommitQueue::default();
        queue.appended(false);
        assert_eq!(queue.need(), CommitNeed::Soon);
        queue.push(Due::Answer(Ticket(1), response()));
        assert_eq!(queue.need(), CommitNeed::Now);
    }
}

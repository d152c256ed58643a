//! [`Purgatory`]: fetches that wait for data or for their deadline.
//!
//! Named after Kafka's. Waiting joins and syncs live in their [`crate::group::Group`], waiting produces in
//! [`crate::commit_queue`].

use std::collections::{BTreeMap, BTreeSet, HashMap};

use weir_log::LogId;
use weir_protocol::TimestampMs;

use crate::effects::{ConnId, Ticket};
use crate::fetch::FetchPlan;

/// One waiting fetch.
#[derive(Debug)]
pub struct ParkedFetch {
    /// Whose it is.
    pub conn: ConnId,
    /// What it asks for.
    pub plan: FetchPlan,
    /// When it is answered with what there is.
    pub deadline: TimestampMs,
}

/// Fetches that wait.
#[derive(Debug, Default)]
pub struct Purgatory {
    fetches: HashMap<Ticket, ParkedFetch>,
    by_log: HashMap<LogId, BTreeSet<Ticket>>,
    by_conn: BTreeMap<ConnId, BTreeSet<Ticket>>,
    by_deadline: BTreeSet<(TimestampMs, Ticket)>,
}

impl Purgatory {
    /// Parks a fetch until one of `logs` grows or its deadline comes.
    pub fn park(&mut self, ticket: Ticket, fetch: ParkedFetch) {
        for log in fetch.plan.logs() {
            self.by_log.entry(log).or_default().insert(ticket);
        }
        self.by_conn.entry(fetch.conn).or_default().insert(ticket);
        self.by_deadline.insert((fetch.deadline, ticket));
        let before = self.fetches.insert(ticket, fetch);
        debug_assert!(before.is_none(), "a ticket is used once");
    }

    /// Takes a fetch out.
    pub fn take(&mut self, ticket: Ticket) -> Option<ParkedFetch> {
        let fetch = self.fetches.remove(&ticket)?;
        for log in fetch.plan.logs() {
            if let Some(waiting) = self.by_log.get_mut(&log) {
                waiting.remove(&ticket);
                if waiting.is_empty() {
                    self.by_log.remove(&log);
                }
            }
        }
        if let Some(waiting) = self.by_conn.get_mut(&fetch.conn) {
            waiting.remove(&ticket);
            if waiting.is_empty() {
                self.by_conn.remove(&fetch.conn);
            }
        }
        self.by_deadline.remove(&(fetch.deadline, ticket));
        Some(fetch)
    }

    /// The fetch of this ticket, still parked.
    #[must_use]
    pub fn get(&self, ticket: Ticket) -> Option<&ParkedFetch> {
        self.fetches.get(&ticket)
    }

    /// Who waits for `log`.
    #[must_use]
    pub fn waiting_for(&self, log: LogId) -> Vec<Ticket> {
        self.by_log.get(&log).map(|waiting| waiting.iter().copied().collect()).unwrap_or_default()
    }

    /// Who waits at all.
    #[must_use]
    pub fn tickets(&self) -> Vec<Ticket> {
        self.fetches.keys().copied().collect()
    }

    /// Takes out a fetch whose deadline is not after `now`.
    pub fn take_due(&mut self, now: TimestampMs) -> Option<(Ticket, ParkedFetch)> {
        let (deadline, ticket) = *self.by_deadline.first()?;
        if deadline > now {
            return None;
        }
        self.take(ticket).map(|fetch| (ticket, fetch))
    }

    /// Moves all deadlines.
    pub fn shift(&mut self, by_ms: i64) {
        for fetch in self.fetches.values_mut() {
            fetch.deadline = fetch.deadline.plus_ms(by_ms);
        }
        self.by_deadline =
            self.fetches.iter().map(|(ticket, fetch)| (fetch.deadline, *ticket)).collect();
    }

    /// The first deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<TimestampMs> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    /// Forgets the fetches of a connection that is gone, and says which.
    pub fn drop_connection(&mut self, conn: ConnId) -> Vec<Ticket> {
        let tickets: Vec<Ticket> = self.by_conn.get(&conn).into_iter().flatten().copied().collect();
        for ticket in &tickets {
            self.take(*ticket);
        }
        tickets
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fetches.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fetches.is_empty()
    }
}

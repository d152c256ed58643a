//! The ledger: where every event ever offered is now.
//!
//! | place | meaning |
//! |---|---|
//! | rejected | refused at the door: its lane was full, it was too large, weir was stopping |
//! | queued | in a lane |
//! | in flight | handed to the sink, not answered |
//! | spilled | in the durable spool; 0 as long as there is none |
//! | delivered | acknowledged by the sink |
//! | refused | taken into a lane and given back to its caller, who was never told "accepted" |
//! | dropped | lost after its caller was told "accepted"; 0 as long as accepted means acknowledged |
//!
//! At every instant, per class and in total:
//!
//! `offered = rejected + refused + accepted`
//! `accepted = delivered + queued + in flight + spilled + dropped`
//!
//! An event in a lane counts as accepted until it is given back, so `accepted` goes down when events
//! are refused after waiting; all else but queued, in flight and spilled only grows.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use weir_client::Priority;

use crate::error::Reason;

/// Counts by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ByReason([u64; Reason::ALL.len()]);

impl ByReason {
    /// The sum over all reasons.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The count of one reason.
    #[must_use]
    pub fn get(&self, reason: Reason) -> u64 {
        self.0[reason.index()]
    }

    /// Reasons that occurred, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        Reason::ALL.into_iter().map(|reason| (reason, self.get(reason))).filter(|(_, n)| *n > 0)
    }

    fn add(&mut self, reason: Reason) {
        self.0[reason.index()] += 1;
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

impl Serialize for ByReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (reason, count) in self.iter() {
            map.serialize_entry(reason.name(), &count)?;
        }
        map.end()
    }
}

/// The account of one class, or of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Account {
    /// Offered in all.
    pub offered: u64,
    /// Refused at the door.
    pub rejected: ByReason,
    /// In a lane.
    pub queued: u64,
    /// At the sink, not answered.
    pub in_flight: u64,
    /// In the durable spool.
    pub spilled: u64,
    /// Acknowledged by the sink.
    pub delivered: u64,
    /// Given back to the caller after waiting.
    pub refused: ByReason,
    /// Lost after the caller was told "accepted".
    pub dropped: ByReason,
}

impl Account {
    /// What weir answers for: everything offered that was not given back.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.offered - self.rejected.total() - self.refused.total()
    }

    /// Whether every event is in exactly one place.
    #[must_use]
    pub fn balances(&self) -> bool {
        let given_back = self.rejected.total() + self.refused.total();
        let kept =
            self.delivered + self.queued + self.in_flight + self.spilled + self.dropped.total();
        self.offered == given_back + kept
    }

    fn merge(&mut self, other: &Self) {
        self.offered += other.offered;
        self.queued += other.queued;
        self.in_flight += other.in_flight;
        self.spilled += other.spilled;
        self.delivered += other.delivered;
        self.rejected.merge(&other.rejected);
        self.refused.merge(&other.refused);
        self.dropped.merge(&other.dropped);
    }
}

impl Serialize for Account {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(10))?;
        map.serialize_entry("offered", &self.offered)?;
        map.serialize_entry("rejected", &self.rejected)?;
        map.serialize_entry("accepted", &self.accepted())?;
        map.serialize_entry("queued", &self.queued)?;
        map.serialize_entry("in_flight", &self.in_flight)?;
        map.serialize_entry("spilled", &self.spilled)?;
        map.serialize_entry("delivered", &self.delivered)?;
        map.serialize_entry("refused", &self.refused)?;
        map.serialize_entry("dropped", &self.dropped)?;
        map.serialize_entry("balanced", &self.balances())?;
        map.end()
    }
}

/// The accounts of all classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ledger {
    classes: [Account; 4],
}

impl Ledger {
    /// The account of one class.
    #[must_use]
    pub fn class(&self, priority: Priority) -> &Account {
        &self.classes[priority.index()]
    }

    /// The sum over all classes.
    #[must_use]
    pub fn total(&self) -> Account {
        self.classes.iter().fold(Account::default(), |mut total, class| {
            total.merge(class);
            total
        })
    }

    /// Whether every account balances.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.classes.iter().all(Account::balances)
    }

    pub(crate) fn reject(&mut self, priority: Priority, reason: Reason) {
        let class = &mut self.classes[priority.index()];
        class.offered += 1;
        class.rejected.add(reason);
    }

    pub(crate) fn queue(&mut self, priority: Priority) {
        let class = &mut self.classes[priority.index()];
        class.offered += 1;
        class.queued += 1;
    }

    pub(crate) fn send(&mut self, priority: Priority, events: u64) {
        let class = &mut self.classes[priority.index()];
        class.queued -= events;
        class.in_flight += events;
    }

    pub(crate) fn deliver(&mut self, priority: Priority) {
        let class = &mut self.classes[priority.index()];
        class.in_flight -= 1;
        class.delivered += 1;
    }

    pub(crate) fn give_back_to_lane(&mut self, priority: Priority) {
        let class = &mut self.classes[priority.index()];
        class.in_flight -= 1;
        class.queued += 1;
    }

    pub(crate) fn refuse_in_flight(&mut self, priority: Priority, reason: Reason) {
        let class = &mut self.classes[priority.index()];
        class.in_flight -= 1;
        class.refused.add(reason);
    }

    pub(crate) fn refuse_queued(&mut self, priority: Priority, reason: Reason) {
        let class = &mut self.classes[priority.index()];
        class.queued -= 1;
        class.refused.add(reason);
    }
}

/// The total, then each class under its name.
impl Serialize for Ledger {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(5))?;
        map.serialize_entry("total", &self.total())?;
        for priority in Priority::ALL {
            map.serialize_entry(priority.name(), self.class(priority))?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_movement_keeps_the_balance_of_its_class_and_of_the_total() {
        let mut ledger = Ledger::default();
        let low = Priority::Low;
        for _ in 0..5 {
            ledger.queue(low);
        }
        ledger.reject(Priority::High, Reason::LaneFull);
        ledger.send(low, 4);
        ledger.deliver(low);
        ledger.give_back_to_lane(low);
        ledger.refuse_in_flight(low, Reason::SinkRefused);
        ledger.refuse_queued(low, Reason::SinkAway);
        assert!(ledger.balances() && ledger.total().balances());
        let account = ledger.class(low);
        assert_eq!((account.queued, account.in_flight, account.delivered), (1, 1, 1));
        assert_eq!((account.offered, account.accepted()), (5, 3));
        assert_eq!(ledger.total().rejected.get(Reason::LaneFull), 1);
    }

    #[test]
    fn an_event_in_two_places_is_seen() {
        let account = Account { offered: 1, queued: 1, in_flight: 1, ..Account::default() };
        assert!(!account.balances());
    }
}

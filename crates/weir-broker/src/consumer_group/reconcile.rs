//! Reconciliation: from what a member has to what it is to have. What it must give up goes first, and nobody gets a
//! partition that another one still holds.

use std::collections::BTreeSet;

use weir_protocol::{Str, TimestampMs};

use super::changes::Change;
use super::member::{each, gather, Current, MemberState, Partitions};
use super::ConsumerGroup;

impl ConsumerGroup {
    /// Brings a member nearer to its target. `owned` is what it says it has, if it says so.
    pub(super) fn reconcile(
        &mut self,
        id: &Str,
        owned: Option<&Partitions>,
        now: TimestampMs,
        out: &mut Vec<Change>,
    ) {
        let Some(member) = self.members.get(id) else { return };
        let current = &member.current;
        if current.state == MemberState::Stable && current.epoch == self.target_epoch {
            return;
        }
        let next = match current.state {
            MemberState::UnrevokedPartitions => {
                if owned.is_none_or(|owned| overlaps(owned, &current.pending_revocation)) {
                    return; // It has not given up what it was asked to.
                }
                self.next(id, current, owned)
            }
            MemberState::Unknown => match owned {
                None => return,
                Some(owned) if owned.is_empty() => self.next(id, &Current::default(), Some(owned)),
                Some(_) => return,
            },
            MemberState::Stable | MemberState::UnreleasedPartitions => {
                self.next(id, current, owned)
            }
        };
        if next == *current {
            return;
        }
        let deadline = match next.state {
            MemberState::UnrevokedPartitions => {
                let timeout_ms = i64::from(member.rebalance_timeout_ms).max(1);
                Some((next.epoch, now.plus_ms(timeout_ms)))
            }
            _ => None,
        };
        self.emit(Change::Current(id.clone(), Some(next.record())), now, out);
        if let Some(member) = self.members.get_mut(id) {
            member.rebalance_deadline = deadline;
        }
    }

    /// The next step of a member towards its target.
    fn next(&self, id: &Str, current: &Current, owned: Option<&Partitions>) -> Current {
        let target: BTreeSet<_> = self.target.get(id).map(each).into_iter().flatten().collect();
        let has: BTreeSet<_> = each(&current.assigned).collect();
        let keeps: BTreeSet<_> = has.intersection(&target).copied().collect();
        let revokes = gather(has.difference(&target).copied());
        // What it says it does not have, it need not give up.
        if !revokes.is_empty() && owned.is_none_or(|owned| overlaps(owned, &revokes)) {
            return Current {
                // It stays in its epoch, so that it can commit what it has read.
                epoch: current.epoch,
                previous_epoch: current.epoch,
                state: MemberState::UnrevokedPartitions,
                assigned: gather(keeps.into_iter()),
                pending_revocation: revokes,
            };
        }
        let is_free = |place: &&(_, _)| self.owners.get(place).is_none_or(|owner| owner == id);
        let gets: Vec<_> = target.difference(&keeps).filter(is_free).copied().collect();
        let waits = keeps.len() + gets.len() < target.len();
        let state = match waits {
            true => MemberState::UnreleasedPartitions,
            false => MemberState::Stable,
        };
        // A step that changes nothing is none: else its previous epoch would be forgotten.
        let is_same = current.epoch == self.target_epoch && current.state == state;
        if is_same && gets.is_empty() && revokes.is_empty() {
            return current.clone();
        }
        Current {
            epoch: self.target_epoch,
            previous_epoch: current.epoch,
            state,
            assigned: gather(keeps.into_iter().chain(gets)),
            pending_revocation: Partitions::new(),
        }
    }
}

fn overlaps(one: &Partitions, other: &Partitions) -> bool {
    each(one).any(|(topic, index)| other.get(&topic).is_some_and(|set| set.contains(&index)))
}

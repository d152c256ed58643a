//! A classic group that becomes a consumer group, or was one.

use std::collections::BTreeMap;

use weir_protocol::{ErrorCode, Str, TimestampMs};

use super::members::Members;
use super::{Group, GroupEffect, GroupLimits, Joined, Protocol, Synced};
use crate::offset_records::GroupMetadataValue;

impl Group {
    /// Answers all who wait: they are to join again, in what the group becomes.
    pub fn release(&mut self, out: &mut Vec<GroupEffect>) {
        let error = ErrorCode::RebalanceInProgress;
        for member in self.members.values_mut() {
            if let Some(ticket) = member.join_waiter.take() {
                out.push(GroupEffect::Joined(ticket, Joined::failed(error, member.id.clone())));
            }
            if let Some(ticket) = member.sync_waiter.take() {
                out.push(GroupEffect::Synced(ticket, Synced::failed(error)));
            }
        }
    }

    /// The classic group that a consumer group becomes whose last member of the consumer protocol has gone. Those that are
    /// left have to join again.
    #[must_use]
    pub fn downgraded(
        limits: GroupLimits,
        record: GroupMetadataValue,
        mut protocols: BTreeMap<Str, Vec<Protocol>>,
        now: TimestampMs,
        out: &mut Vec<GroupEffect>,
    ) -> Self {
        let mut group = Self::restore(limits, record, now);
        let mut members = Members::default();
        for mut member in std::mem::take(&mut group.members).into_values() {
            member.protocols = protocols.remove(&member.id).unwrap_or_default();
            members.insert(member);
        }
        group.members = members;
        // The members have protocols in common; which one they like best is worked out anew.
        group.protocol = group.choose_protocol();
        out.push(GroupEffect::Store);
        group.rebalance(now, out);
        group
    }
}

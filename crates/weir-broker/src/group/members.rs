//! [`Members`]: the members of a group, and how many of them know each protocol.

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;

use weir_protocol::Str;

use super::{Join, Member};
use crate::request::distinct;

/// Members by id. What they know is counted as they come and go: a look at all protocols of all members at each join
/// would grow with the square of what clients send.
#[derive(Debug, Default)]
pub(super) struct Members {
    by_id: BTreeMap<Str, Member>,
    /// Protocol → how many members know it, never 0.
    knowing: HashMap<Str, usize>,
}

impl Members {
    /// Whether all members know it.
    pub(super) fn all_know(&self, protocol: &Str) -> bool {
        self.knowing.get(protocol).copied().unwrap_or(0) == self.by_id.len()
    }

    pub(super) fn insert(&mut self, member: Member) {
        self.remove(&member.id.clone());
        count(&mut self.knowing, &member);
        self.by_id.insert(member.id.clone(), member);
    }

    pub(super) fn remove(&mut self, id: &Str) -> Option<Member> {
        let member = self.by_id.remove(id)?;
        uncount(&mut self.knowing, &member);
        Some(member)
    }

    pub(super) fn retain(&mut self, stays: impl Fn(&Member) -> bool) {
        let knowing = &mut self.knowing;
        self.by_id.retain(|_, member| {
            let stays = stays(member);
            if !stays {
                uncount(knowing, member);
            }
            stays
        });
    }

    /// A member takes over what a new JoinGroup says.
    pub(super) fn update(&mut self, id: &Str, join: Join) {
        let Some(member) = self.by_id.get_mut(id) else { return };
        uncount(&mut self.knowing, member);
        member.update(join);
        count(&mut self.knowing, member);
    }

    pub(super) fn into_values(self) -> impl Iterator<Item = Member> {
        self.by_id.into_values()
    }

    /// For all but the protocols: those are counted.
    pub(super) fn get_mut(&mut self, id: &Str) -> Option<&mut Member> {
        self.by_id.get_mut(id)
    }

    /// As [`Members::get_mut`].
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.by_id.values_mut()
    }
}

impl Deref for Members {
    type Target = BTreeMap<Str, Member>;

    fn deref(&self) -> &Self::Target {
        &self.by_id
    }
}

fn count(knowing: &mut HashMap<Str, usize>, member: &Member) {
    for protocol in distinct(&member.protocols, |protocol| &protocol.name) {
        *knowing.entry(protocol.name.clone()).or_default() += 1;
    }
}

fn uncount(knowing: &mut HashMap<Str, usize>, member: &Member) {
    for protocol in distinct(&member.protocols, |protocol| &protocol.name) {
        if let Some(count) = knowing.get_mut(&protocol.name) {
            *count -= 1;
            if *count == 0 {
                knowing.remove(&protocol.name);
            }
        }
    }
}

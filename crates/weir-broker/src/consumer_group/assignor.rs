//! The assignors of the server: `uniform` and `range`.

use std::collections::{BTreeMap, BTreeSet};

use weir_protocol::{Str, Uuid};

use super::member::Partitions;

/// A way to share partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assignor {
    /// As even as subscriptions allow, and with as few moves as that allows.
    Uniform,
    /// Partition n of each topic to the same member, where subscriptions are the same.
    Range,
}

impl Assignor {
    /// The assignor of Kafka's name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "uniform" => Some(Self::Uniform),
            "range" => Some(Self::Range),
            _ => None,
        }
    }

    /// Kafka's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }
}

/// What an assignor knows of a member.
#[derive(Debug, Clone)]
pub(super) struct AssignedMember {
    pub(super) id: Str,
    pub(super) instance_id: Option<Str>,
    /// The topics it reads, with the number of their partitions.
    pub(super) topics: BTreeMap<Uuid, i32>,
    /// What it was to have before.
    pub(super) target: Partitions,
}

/// Shares the partitions of all topics that are read. Each goes to exactly one member that reads its topic.
pub(super) fn assign(assignor: Assignor, members: &[AssignedMember]) -> BTreeMap<Str, Partitions> {
    match assignor {
        Assignor::Uniform => uniform(members),
        Assignor::Range => range(members),
    }
}

/// Topic by topic: members in order, static ones by their instance first, get runs of partitions whose lengths differ by
/// one at most. So a topic with as many partitions as another is shared in the same way.
fn range(members: &[AssignedMember]) -> BTreeMap<Str, Partitions> {
    let mut ordered: Vec<&AssignedMember> = members.iter().collect();
    // None is less than Some, so it is turned round.
    ordered.sort_by_key(|m| (m.instance_id.is_none(), m.instance_id.clone(), m.id.clone()));
    let mut shares: BTreeMap<Str, Partitions> =
        members.iter().map(|m| (m.id.clone(), Partitions::new())).collect();
    let topics: BTreeMap<Uuid, i32> =
        members.iter().flat_map(|m| m.topics.iter().map(|(id, count)| (*id, *count))).collect();
    for (topic, count) in topics {
        let readers: Vec<&&AssignedMember> =
            ordered.iter().filter(|member| member.topics.contains_key(&topic)).collect();
        let readers_count = i32::try_from(readers.len()).unwrap_or(i32::MAX);
        let (each, extra) = (count / readers_count, count % readers_count);
        let mut next = 0;
        for (place, reader) in (0..).zip(readers) {
            let end = next + each + i32::from(place < extra);
            if next < end {
                if let Some(share) = shares.get_mut(&reader.id) {
                    share.insert(topic, (next..end).collect());
                }
            }
            next = end;
        }
    }
    shares
}

type Place = (Uuid, i32);

/// The work of [`uniform`].
struct Shares<'a> {
    members: &'a [AssignedMember],
    /// By the index of the member.
    shares: Vec<BTreeSet<Place>>,
}

/// Everybody keeps what it may, free partitions go to who has least, and then partitions move from who has more to who has
/// less until no move makes it more even.
///
/// Cost: O(p · m) for p partitions and m members, after the first time mostly less.
fn uniform(members: &[AssignedMember]) -> BTreeMap<Str, Partitions> {
    if members.is_empty() {
        return BTreeMap::new();
    }
    let mut work = Shares { members, shares: vec![BTreeSet::new(); members.len()] };
    let free = work.keep();
    work.give(free);
    work.even_out();
    let named = members.iter().zip(work.shares);
    named.map(|(m, share)| (m.id.clone(), super::member::gather(share.into_iter()))).collect()
}

impl Shares<'_> {
    fn reads(&self, member: usize, topic: &Uuid) -> bool {
        self.members.get(member).is_some_and(|member| member.topics.contains_key(topic))
    }

    fn size(&self, member: usize) -> usize {
        self.shares.get(member).map_or(0, BTreeSet::len)
    }

    /// Everybody keeps what it had and still reads. Returns what nobody has.
    fn keep(&mut self) -> Vec<Place> {
        let mut free: BTreeSet<Place> = BTreeSet::new();
        for member in self.members {
            for (topic, count) in &member.topics {
                free.extend((0..*count).map(|index| (*topic, index)));
            }
        }
        for (share, member) in self.shares.iter_mut().zip(self.members) {
            for place in super::member::each(&member.target) {
                if member.topics.contains_key(&place.0) && free.remove(&place) {
                    share.insert(place);
                }
            }
        }
        free.into_iter().collect()
    }

    /// Gives free partitions to who has least. Topics that few read go first, as they leave least choice.
    fn give(&mut self, mut free: Vec<Place>) {
        let mut readers: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
        for (index, member) in self.members.iter().enumerate() {
            for topic in member.topics.keys() {
                readers.entry(*topic).or_default().push(index);
            }
        }
        free.sort_by_key(|(topic, index)| (readers.get(topic).map_or(0, Vec::len), *topic, *index));
        // Per topic an ordered set of (size, member) would do less work, but sizes change across topics.
        for place in free {
            let candidates = readers.get(&place.0).map(Vec::as_slice).unwrap_or_default();
            let least = candidates.iter().copied().min_by_key(|member| self.size(*member));
            if let Some(share) = least.and_then(|member| self.shares.get_mut(member)) {
                share.insert(place);
            }
        }
    }

    /// Moves partitions from larger shares to smaller ones. Each move takes one from a share that is larger by two or more,
    /// so the sum of squares falls and there is an end.
    fn even_out(&mut self) {
        loop {
            let mut by_size: Vec<usize> = (0..self.members.len()).collect();
            by_size.sort_by_key(|member| self.size(*member));
            let mut moved = false;
            for small in &by_size {
                for large in by_size.iter().rev() {
                    moved |= self.move_between(*large, *small);
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn move_between(&mut self, large: usize, small: usize) -> bool {
        let mut moved = false;
        while self.size(large) >= self.size(small) + 2 {
            let share = self.shares.get(large);
            let place = share.and_then(|share| {
                share.iter().rev().find(|(topic, _)| self.reads(small, topic)).copied()
            });
            let Some(place) = place else { break };
            if let Some(share) = self.shares.get_mut(large) {
                share.remove(&place);
            }
            if let Some(share) = self.shares.get_mut(small) {
                share.insert(place);
            }
            moved = true;
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(number: u8) -> Uuid {
        Uuid([number; 16])
    }

    fn member(id: &str, topics: &[(u8, i32)]) -> AssignedMember {
        AssignedMember {
            id: Str::copy_from(id),
            instance_id: None,
            topics: topics.iter().map(|(number, count)| (topic(*number), *count)).collect(),
            target: Partitions::new(),
        }
    }

    fn sizes(shares: &BTreeMap<Str, Partitions>) -> Vec<usize> {
        shares.values().map(|share| share.values().map(BTreeSet::len).sum()).collect()
    }

    fn check_complete(members: &[AssignedMember], shares: &BTreeMap<Str, Partitions>) {
        let mut seen = BTreeSet::new();
        for member in members {
            for (topic, index) in super::super::member::each(&shares[&member.id]) {
                assert!(member.topics.contains_key(&topic), "{} does not read it", member.id);
                assert!(seen.insert((topic, index)), "two have {topic} {index}");
            }
        }
        let all: BTreeSet<Place> = members
            .iter()
            .flat_map(|m| m.topics.iter().flat_map(|(t, n)| (0..*n).map(move |i| (*t, i))))
            .collect();
        assert_eq!(seen, all);
    }

    #[test]
    fn range_gives_runs_of_the_same_partitions_of_each_topic() {
        let members = ["a", "b", "c"].map(|id| member(id, &[(1, 4), (2, 4)]));
        let shares = assign(Assignor::Range, &members);
        check_complete(&members, &shares);
        let expected = |indexes: &[i32]| -> Partitions {
            [1, 2].map(|number| (topic(number), indexes.iter().copied().collect())).into()
        };
        assert_eq!(shares["a"], expected(&[0, 1]));
        assert_eq!(shares["b"], expected(&[2]));
        assert_eq!(shares["c"], expected(&[3]));
    }

    #[test]
    fn range_orders_static_members_by_their_instance() {
        let mut members = vec![member("a", &[(1, 2)]), member("z", &[(1, 2)])];
        members[1].instance_id = Some("i".into());
        let shares = assign(Assignor::Range, &members);
        assert_eq!(shares["z"][&topic(1)], BTreeSet::from([0]));
        assert_eq!(shares["a"][&topic(1)], BTreeSet::from([1]));
    }

    #[test]
    fn uniform_is_even_and_moves_little() {
        let mut members: Vec<_> = ["a", "b"].map(|id| member(id, &[(1, 7)])).into();
        let before = assign(Assignor::Uniform, &members);
        check_complete(&members, &before);
        for member in &mut members {
            member.target = before[&member.id].clone();
        }
        members.push(member("c", &[(1, 7)]));
        let after = assign(Assignor::Uniform, &members);
        check_complete(&members, &after);
        let mut even = sizes(&after);
        even.sort_unstable();
        assert_eq!(even, [2, 2, 3]);
        for id in ["a", "b"] {
            let kept = &after[id][&topic(1)];
            assert!(kept.is_subset(&before[id][&topic(1)]), "{id} gets nothing new");
        }
    }

    #[test]
    fn uniform_respects_who_reads_what() {
        let members =
            [member("a", &[(1, 6)]), member("b", &[(1, 6), (2, 2)]), member("c", &[(2, 2)])];
        let shares = assign(Assignor::Uniform, &members);
        check_complete(&members, &shares);
        let sizes = sizes(&shares);
        assert!(sizes[0] - sizes[1] <= 1 && sizes[2] == 2, "{sizes:?}");
    }

    #[test]
    fn a_member_that_reads_nothing_gets_nothing() {
        for assignor in [Assignor::Uniform, Assignor::Range] {
            let members = [member("a", &[]), member("b", &[(1, 1)])];
            let shares = assign(assignor, &members);
            check_complete(&members, &shares);
            assert!(shares["a"].is_empty());
        }
        assert!(assign(Assignor::Uniform, &[]).is_empty());
    }
}

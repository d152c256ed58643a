//! `cooperative-sticky` (KIP-429): balanced, few moves, and nothing dealt to a new owner before the
//! old one has let go.
//!
//! Balanced means what it means in Kafka's sticky assignor (KIP-54): no partition can go to a taker
//! that has two or more fewer than its owner. With equal subscriptions the shares then differ by one
//! at most.
//!
//! A partition that changes hands takes two rebalances. In the first nobody gets it, so its owner
//! gives it up and joins again; in the second nobody claims it any more.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use weir_protocol::types::{PartitionId, Str};

use super::Member;
use crate::consumer::TopicPartition;

/// Deals the partitions, what moves left out.
pub(super) fn assign(
    members: &[Member],
    order: &[usize],
    partitions: &BTreeMap<Str, i32>,
) -> Vec<Vec<TopicPartition>> {
    let dealt = target(members, order, partitions);
    let claims = claims(members);
    let is_free = |taker: usize, partition: &TopicPartition| {
        let owners = claims.get(partition).map_or(&[][..], Vec::as_slice);
        owners.iter().all(|owner| *owner == taker)
    };
    let without_moves = |(taker, mut list): (usize, Vec<TopicPartition>)| {
        list.retain(|partition| is_free(taker, partition));
        list
    };
    dealt.into_iter().enumerate().map(without_moves).collect()
}

/// Who says that it owns what, of whatever generation: what it says it may be reading.
fn claims(members: &[Member]) -> HashMap<&TopicPartition, Vec<usize>> {
    let mut claims: HashMap<&TopicPartition, Vec<usize>> = HashMap::new();
    for (index, member) in members.iter().enumerate() {
        for partition in &member.owned {
            claims.entry(partition).or_default().push(index);
        }
    }
    claims
}

/// The assignment that the group is on its way to.
fn target(
    members: &[Member],
    order: &[usize],
    partitions: &BTreeMap<Str, i32>,
) -> Vec<Vec<TopicPartition>> {
    let mut deal = Deal::new(members, order, partitions);
    deal.keep_owned(members, partitions);
    deal.hand_out(partitions);
    deal.balance();
    deal.into_lists()
}

struct Deal<'a> {
    /// Topic to the members that want it, in order.
    takers: BTreeMap<&'a Str, Vec<usize>>,
    held: Vec<BTreeMap<&'a Str, BTreeSet<i32>>>,
    /// How many partitions each holds.
    loads: Vec<usize>,
    kept: HashMap<(&'a Str, i32), usize>,
}

impl<'a> Deal<'a> {
    fn new(members: &[Member], order: &[usize], partitions: &'a BTreeMap<Str, i32>) -> Self {
        let wants = |index: &usize, topic: &Str| members[*index].topics.contains(topic);
        let takers = partitions.keys().map(|topic| {
            (topic, order.iter().copied().filter(|index| wants(index, topic)).collect())
        });
        Deal {
            takers: takers.collect(),
            held: vec![BTreeMap::new(); members.len()],
            loads: vec![0; members.len()],
            kept: HashMap::new(),
        }
    }

    /// Leaves with each member what it owned in the newest generation that anyone owned it in. What two
    /// own in one generation neither keeps: it is not known who is right.
    fn keep_owned(&mut self, members: &[Member], partitions: &'a BTreeMap<Str, i32>) {
        let mut newest: BTreeMap<(&'a Str, i32), (i32, Option<usize>)> = BTreeMap::new();
        for (index, member) in members.iter().enumerate() {
            for TopicPartition { topic, partition } in &member.owned {
                let known = partitions.get_key_value(topic);
                let Some((topic, count)) = known else { continue };
                let exists = (0..*count).contains(&partition.get());
                if !exists || !self.takers[topic].contains(&index) {
                    continue;
                }
                let claim = newest.entry((topic, partition.get())).or_insert((i32::MIN, None));
                if member.generation > claim.0 {
                    *claim = (member.generation, Some(index));
                } else if member.generation == claim.0 && claim.1 != Some(index) {
                    claim.1 = None;
                }
            }
        }
        for (place, (_, owner)) in newest {
            if let Some(owner) = owner {
                self.kept.insert(place, owner);
                self.give(owner, place.0, place.1);
            }
        }
    }

    /// Gives what nobody keeps to whoever has least; what few can take first.
    fn hand_out(&mut self, partitions: &'a BTreeMap<Str, i32>) {
        let mut topics: Vec<(&Str, i32)> =
            partitions.iter().map(|(t, count)| (t, *count)).collect();
        topics.sort_by_key(|(topic, _)| self.takers[topic].len());
        for (topic, count) in topics {
            for number in 0..count {
                if self.kept.contains_key(&(topic, number)) {
                    continue;
                }
                if let Some(taker) = self.lightest(topic) {
                    self.give(taker, topic, number);
                }
            }
        }
    }

    /// The first in order of those with the fewest partitions.
    fn lightest(&self, topic: &Str) -> Option<usize> {
        self.takers[topic].iter().copied().min_by_key(|taker| self.loads[*taker])
    }

    /// Moves single partitions while that makes the group more even. Each move lowers the sum of the
    /// squares of the loads, so it ends.
    fn balance(&mut self) {
        while let Some((from, to, topic)) = self.next_move() {
            let numbers = &self.held[from][topic];
            let is_new = |number: &&i32| self.kept.get(&(topic, **number)) != Some(&from);
            // What it has not read yet costs nothing to move.
            let chosen = numbers.iter().rev().find(is_new).or_else(|| numbers.last()).copied();
            let Some(number) = chosen else { return };
            self.take(from, topic, number);
            self.give(to, topic, number);
        }
    }

    /// From the member that has most to the one that has least, where they share a topic.
    fn next_move(&self) -> Option<(usize, usize, &'a Str)> {
        let mut heaviest: Vec<usize> = (0..self.loads.len()).collect();
        heaviest.sort_by_key(|index| Reverse(self.loads[*index]));
        heaviest.into_iter().find_map(|from| {
            let best = self.held[from].keys().filter_map(|topic| {
                let to = self.lightest(topic)?;
                (self.loads[to] + 1 < self.loads[from]).then_some((from, to, *topic))
            });
            best.min_by_key(|(_, to, _)| self.loads[*to])
        })
    }

    fn give(&mut self, to: usize, topic: &'a Str, number: i32) {
        self.held[to].entry(topic).or_default().insert(number);
        self.loads[to] += 1;
    }

    fn take(&mut self, from: usize, topic: &'a Str, number: i32) {
        if let Some(numbers) = self.held[from].get_mut(topic) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.held[from].remove(topic);
            }
        }
        self.loads[from] -= 1;
    }

    fn into_lists(self) -> Vec<Vec<TopicPartition>> {
        let list = |held: BTreeMap<&Str, BTreeSet<i32>>| {
            let of_topic = |(topic, numbers): (&Str, BTreeSet<i32>)| {
                let topic = topic.clone();
                numbers.into_iter().map(move |number| TopicPartition {
                    topic: topic.clone(),
                    partition: PartitionId(number),
                })
            };
            held.into_iter().flat_map(of_topic).collect()
        };
        self.held.into_iter().map(list).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assignor::Assignor;
    use proptest::prelude::*;

    const TOPICS: [&str; 4] = ["a", "b", "c", "d"];

    fn counts(counts: &[i32]) -> BTreeMap<Str, i32> {
        TOPICS.iter().map(|topic| Str::from(*topic)).zip(counts.iter().copied()).collect()
    }

    /// A group of this assignor, with what each member may read at any time.
    #[derive(Debug, Default)]
    struct Group {
        members: BTreeMap<usize, Member>,
        generation: i32,
        made: usize,
    }

    impl Group {
        fn join(&mut self, topics: &BTreeSet<usize>) -> usize {
            self.made += 1;
            let topics = topics.iter().map(|topic| Str::from(TOPICS[*topic])).collect();
            let member_id = Str::copy_from(&format!("m{}", self.made));
            let member =
                Member { member_id, instance_id: None, topics, owned: Vec::new(), generation: -1 };
            self.members.insert(self.made, member);
            self.made
        }

        /// One rebalance; returns whether somebody had to give something up. Members take over their
        /// new assignments in this order, and at no time may two have one partition.
        fn rebalance(&mut self, counts: &BTreeMap<Str, i32>, first: usize) -> bool {
            self.generation += 1;
            let list: Vec<Member> = self.members.values().cloned().collect();
            let assigned = Assignor::CooperativeSticky.assign(&list, counts);
            let mut gave_up = false;
            let ids: Vec<usize> = self.members.keys().copied().collect();
            let count = ids.len().max(1);
            for step in 0..ids.len() {
                let place = (step + first) % count;
                let member = self.members.get_mut(&ids[place]).unwrap();
                gave_up |= member.owned.iter().any(|p| !assigned[place].contains(p));
                member.owned.clone_from(&assigned[place]);
                member.generation = self.generation;
                self.check_owners();
            }
            gave_up
        }

        fn check_owners(&self) {
            let mut seen = BTreeSet::new();
            for member in self.members.values() {
                for partition in &member.owned {
                    assert!(seen.insert(partition.clone()), "two own {partition}");
                }
            }
        }

        /// Rebalances until nobody gives anything up; two are enough.
        fn settle(&mut self, counts: &BTreeMap<Str, i32>, first: usize) {
            if self.rebalance(counts, first) {
                assert!(!self.rebalance(counts, first + 1), "two rebalances are enough");
            }
            self.check_balanced(counts);
        }

        fn check_balanced(&self, counts: &BTreeMap<Str, i32>) {
            let wanted: i32 = counts
                .iter()
                .filter(|(topic, _)| self.members.values().any(|m| m.topics.contains(topic)))
                .map(|(_, count)| *count)
                .sum();
            let owned: usize = self.members.values().map(|member| member.owned.len()).sum();
            assert_eq!(owned, wanted as usize, "all that is wanted is read");
            for from in self.members.values() {
                for to in self.members.values() {
                    let movable = from.owned.iter().any(|p| to.topics.contains(&p.topic));
                    assert!(!movable || from.owned.len() <= to.owned.len() + 1, "{from:?} {to:?}");
                }
            }
        }

        fn owned(&self) -> BTreeMap<TopicPartition, usize> {
            let of = |(id, member): (&usize, &Member)| {
                let id = *id;
                member.owned.clone().into_iter().map(move |partition| (partition, id))
            };
            self.members.iter().flat_map(of).collect()
        }
    }

    #[test]
    fn a_partition_changes_hands_in_two_rebalances() {
        let counts = counts(&[4, 0, 0, 0]);
        let mut group = Group::default();
        let first = group.join(&BTreeSet::from([0]));
        group.settle(&counts, 0);
        let second = group.join(&BTreeSet::from([0]));
        assert!(group.rebalance(&counts, 0));
        assert_eq!(group.members[&first].owned.len(), 2);
        assert_eq!(group.members[&second].owned.len(), 0, "the first may be reading still");
        assert!(!group.rebalance(&counts, 0));
        assert_eq!(group.members[&second].owned.len(), 2);
    }

    #[test]
    fn an_owner_of_an_old_generation_gives_way() {
        let partition = TopicPartition::new("a", PartitionId(0));
        let member = |id: &str, generation| Member {
            member_id: Str::copy_from(id),
            instance_id: None,
            topics: vec![Str::from("a")],
            owned: vec![partition.clone()],
            generation,
        };
        let members = [member("x", 3), member("y", 5)];
        let counts = counts(&[1, 0, 0, 0]);
        assert_eq!(target(&members, &[0, 1], &counts), [vec![], vec![partition.clone()]]);
        // It says that it reads it: so nobody may, until it has joined without it.
        assert_eq!(assign(&members, &[0, 1], &counts), [vec![], vec![]]);
    }

    #[derive(Debug, Clone)]
    enum Change {
        Join(BTreeSet<usize>),
        Leave(usize),
        Grow(usize, i32),
        Resubscribe(usize, BTreeSet<usize>),
    }

    fn change() -> impl Strategy<Value = Change> {
        let topics = || proptest::collection::btree_set(0..4_usize, 1..4);
        prop_oneof![
            3 => topics().prop_map(Change::Join),
            2 => (0..8_usize).prop_map(Change::Leave),
            1 => (0..4_usize, 1..5_i32).prop_map(|(topic, more)| Change::Grow(topic, more)),
            1 => (0..8_usize, topics()).prop_map(|(who, to)| Change::Resubscribe(who, to)),
        ]
    }

    proptest! {
        #[test]
        fn a_group_that_changes_is_balanced_again_and_nothing_has_two_owners(
            first in proptest::collection::vec(0..9_i32, 4),
            changes in proptest::collection::vec((change(), 0..5_usize), 1..12),
        ) {
            let mut counts = counts(&first);
            let mut group = Group::default();
            for (change, turn) in changes {
                let nth = |group: &Group, at: usize| {
                    let ids: Vec<usize> = group.members.keys().copied().collect();
                    ids.get(at % ids.len().max(1)).copied()
                };
                match change {
                    Change::Join(topics) => { group.join(&topics); }
                    Change::Leave(at) => {
                        if let Some(id) = nth(&group, at) { group.members.remove(&id); }
                    }
                    Change::Grow(topic, more) => {
                        *counts.get_mut(TOPICS[topic]).unwrap() += more;
                    }
                    Change::Resubscribe(at, topics) => {
                        if let Some(id) = nth(&group, at) {
                            let member = group.members.get_mut(&id).unwrap();
                            member.topics = topics.iter().map(|t| Str::from(TOPICS[*t])).collect();
                            // A member gives up by itself what it does not want any more.
                            let topics = member.topics.clone();
                            member.owned.retain(|p| topics.contains(&p.topic));
                        }
                    }
                }
                group.settle(&counts, turn);
                let before = group.owned();
                prop_assert!(!group.rebalance(&counts, turn), "nothing has changed");
                prop_assert_eq!(group.owned(), before);
            }
        }

        #[test]
        fn no_more_moves_than_a_newcomer_needs_and_none_when_one_leaves(
            partitions in 1..40_i32,
            members in 1..8_usize,
            leaver in 0..8_usize,
        ) {
            let counts = counts(&[partitions, 0, 0, 0]);
            let all = BTreeSet::from([0]);
            let mut group = Group::default();
            for _ in 0..members {
                group.join(&all);
            }
            group.settle(&counts, 0);
            let before = group.owned();
            let newcomer = group.join(&all);
            group.settle(&counts, 0);
            let after = group.owned();
            let moved = before.iter().filter(|(partition, id)| after[partition] != **id).count();
            prop_assert_eq!(moved, group.members[&newcomer].owned.len());

            let ids: Vec<usize> = group.members.keys().copied().collect();
            let gone = ids[leaver % ids.len()];
            group.members.remove(&gone);
            group.settle(&counts, 0);
            for (partition, id) in group.owned() {
                prop_assert!(after[&partition] == gone || after[&partition] == id);
            }
        }
    }
}

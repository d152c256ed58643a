//! Who reads which partition: the assignors of the classic protocol, pure.
//!
//! The leader of a group runs the assignor all members support, so these must agree with Java's
//! `RangeAssignor` and `RoundRobinAssignor` for a group of mixed clients to make sense; of
//! `CooperativeStickyAssignor` the rules must be the same, not the choice.

mod sticky;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use weir_protocol::api::consumer_protocol::{
    self, ConsumerProtocolAssignment, ConsumerProtocolSubscription,
};
use weir_protocol::types::{PartitionId, Str};
use weir_protocol::{DecodeError, EncodeError};

use crate::consumer::TopicPartition;

/// The version written of assignments. Version 0 says all, and every client reads it.
const ASSIGNMENT_VERSION: i16 = 0;

/// The version written of subscriptions: the first with the generation in which the partitions were
/// owned (KIP-792). Who knows only older ones reads it as those.
const SUBSCRIPTION_VERSION: i16 = 2;

/// How partitions are dealt to the members of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Assignor {
    /// `range`: per topic, neighbouring partitions to each member; the same numbers of several topics
    /// go to the same member.
    Range,
    /// `roundrobin`: all partitions of all topics in turn.
    RoundRobin,
    /// `cooperative-sticky`: balanced, with few moves; members keep what they keep through a rebalance
    /// (KIP-429). Incremental only where all assignors of a member are.
    CooperativeSticky,
}

/// How partitions change hands (KIP-429).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebalanceProtocol {
    /// Everything is given up before each join.
    Eager,
    /// Only what moves is given up, after the join that says so.
    Cooperative,
}

/// A member as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub member_id: Str,
    /// Its static id, if any.
    pub instance_id: Option<Str>,
    /// The topics it wants.
    pub topics: Vec<Str>,
    /// The partitions it says it reads.
    pub owned: Vec<TopicPartition>,
    /// The generation in which it got them; -1 if it does not say.
    pub generation: i32,
}

impl RebalanceProtocol {
    /// What a member with these assignors speaks: cooperative only if all of them are, as a group moves
    /// from eager ones in two rolling restarts.
    pub fn of(assignors: &[Assignor]) -> RebalanceProtocol {
        if assignors.iter().all(|assignor| *assignor == Assignor::CooperativeSticky) {
            RebalanceProtocol::Cooperative
        } else {
            RebalanceProtocol::Eager
        }
    }
}

impl Assignor {
    const ALL: [Assignor; 3] = [Assignor::Range, Assignor::RoundRobin, Assignor::CooperativeSticky];

    /// Kafka's name.
    pub const fn name(self) -> &'static str {
        match self {
            Assignor::Range => "range",
            Assignor::RoundRobin => "roundrobin",
            Assignor::CooperativeSticky => "cooperative-sticky",
        }
    }

    /// The assignor of this name.
    pub fn parse(name: &str) -> Option<Assignor> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    /// Deals the partitions (topic to count) to the members; in the order of `members`.
    pub fn assign(
        self,
        members: &[Member],
        partitions: &BTreeMap<Str, i32>,
    ) -> Vec<Vec<TopicPartition>> {
        let mut assigned = vec![Vec::new(); members.len()];
        let order = ordered(members);
        match self {
            Assignor::Range => range(members, &order, partitions, &mut assigned),
            Assignor::RoundRobin => round_robin(members, &order, partitions, &mut assigned),
            Assignor::CooperativeSticky => return sticky::assign(members, &order, partitions),
        }
        assigned
    }
}

/// Members in Java's order (`MemberInfo.compareTo`): static ones first, by instance id; then by id.
fn ordered(members: &[Member]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|index| {
        let member = &members[*index];
        (member.instance_id.is_none(), member.instance_id.clone(), member.member_id.clone())
    });
    order
}

fn range(
    members: &[Member],
    order: &[usize],
    partitions: &BTreeMap<Str, i32>,
    assigned: &mut [Vec<TopicPartition>],
) {
    for (topic, count) in partitions {
        let takers: Vec<usize> =
            order.iter().copied().filter(|index| members[*index].topics.contains(topic)).collect();
        let Ok(taker_count) = i32::try_from(takers.len()) else { continue };
        if taker_count == 0 {
            continue;
        }
        let (each, extra) = (count / taker_count, count % taker_count);
        let mut next = 0;
        for (place, taker) in (0..).zip(takers) {
            let end = next + each + i32::from(place < extra);
            let numbers = next..end;
            assigned[taker].extend(numbers.map(|number| TopicPartition {
                topic: topic.clone(),
                partition: PartitionId(number),
            }));
            next = end;
        }
    }
}

fn round_robin(
    members: &[Member],
    order: &[usize],
    partitions: &BTreeMap<Str, i32>,
    assigned: &mut [Vec<TopicPartition>],
) {
    let wanted: BTreeSet<&Str> = members.iter().flat_map(|member| &member.topics).collect();
    let mut turn = order.iter().copied().cycle();
    for (topic, count) in partitions.iter().filter(|(topic, _)| wanted.contains(topic)) {
        for number in 0..*count {
            // Somebody wants the topic, so the turn comes to a taker.
            let taker = turn.find(|index| members[*index].topics.contains(topic));
            if let Some(taker) = taker {
                assigned[taker]
                    .push(TopicPartition { topic: topic.clone(), partition: PartitionId(number) });
            }
        }
    }
}

/// What a member says of itself in JoinGroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Subscription {
    /// The topics it wants.
    pub(crate) topics: Vec<Str>,
    /// The partitions it keeps through the rebalance.
    pub(crate) owned: Vec<TopicPartition>,
    /// The generation in which it got them; -1 for none.
    pub(crate) generation: i32,
}

/// The subscription bytes of JoinGroup, for this assignor.
pub(crate) fn encode_subscription(
    assignor: Assignor,
    subscription: &Subscription,
) -> Result<Bytes, EncodeError> {
    // Java before 3.2 reads the generation from here.
    let user_data = (assignor == Assignor::CooperativeSticky && subscription.generation >= 0)
        .then(|| Bytes::copy_from_slice(&subscription.generation.to_be_bytes()));
    let subscription = ConsumerProtocolSubscription {
        topics: subscription.topics.clone(),
        user_data,
        owned_partitions: by_topic(&subscription.owned),
        generation_id: subscription.generation,
        rack_id: None,
    };
    consumer_protocol::encode(&subscription, SUBSCRIPTION_VERSION)
}

/// A member's subscription bytes, of any version.
pub(crate) fn decode_subscription(bytes: Bytes) -> Result<Subscription, DecodeError> {
    let (_, subscription) = consumer_protocol::decode::<ConsumerProtocolSubscription>(bytes)?;
    let in_user_data = || {
        let data = subscription.user_data.as_deref()?;
        Some(i32::from_be_bytes(data.try_into().ok()?))
    };
    let generation = match subscription.generation_id {
        -1 => in_user_data().unwrap_or(-1),
        generation => generation,
    };
    let owned = partitions_of(subscription.owned_partitions);
    Ok(Subscription { topics: subscription.topics, owned, generation })
}

fn by_topic(partitions: &[TopicPartition]) -> Vec<consumer_protocol::TopicPartition> {
    let mut topics: BTreeMap<Str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(partition.topic.clone()).or_default().push(partition.partition.get());
    }
    let entry = |(topic, partitions)| consumer_protocol::TopicPartition { topic, partitions };
    topics.into_iter().map(entry).collect()
}

fn partitions_of(topics: Vec<consumer_protocol::TopicPartition>) -> Vec<TopicPartition> {
    let of_topic = |topic: consumer_protocol::TopicPartition| {
        let name = topic.topic;
        topic.partitions.into_iter().map(move |number| TopicPartition {
            topic: name.clone(),
            partition: PartitionId(number),
        })
    };
    topics.into_iter().flat_map(of_topic).collect()
}

/// The assignment bytes of SyncGroup.
pub(crate) fn encode_assignment(partitions: &[TopicPartition]) -> Result<Bytes, EncodeError> {
    let assignment =
        ConsumerProtocolAssignment { assigned_partitions: by_topic(partitions), user_data: None };
    consumer_protocol::encode(&assignment, ASSIGNMENT_VERSION)
}

/// The partitions in assignment bytes; none if there are no bytes.
pub(crate) fn decode_assignment(bytes: Bytes) -> Result<Vec<TopicPartition>, DecodeError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let (_, assignment) = consumer_protocol::decode::<ConsumerProtocolAssignment>(bytes)?;
    Ok(partitions_of(assignment.assigned_partitions))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(id: &str, topics: &[&str]) -> Member {
        Member {
            member_id: Str::copy_from(id),
            instance_id: None,
            topics: topics.iter().map(|topic| Str::copy_from(topic)).collect(),
            owned: Vec::new(),
            generation: -1,
        }
    }

    fn check(
        assignor: Assignor,
        members: &[Member],
        counts: &[(&'static str, i32)],
        expect: &[&str],
    ) {
        let counts = counts.iter().map(|(topic, count)| (Str::from(*topic), *count)).collect();
        let shown: Vec<String> = assignor
            .assign(members, &counts)
            .iter()
            .map(|list| {
                let shown: Vec<String> =
                    list.iter().map(|p| format!("{}{}", p.topic, p.partition)).collect();
                shown.join(" ")
            })
            .collect();
        assert_eq!(shown, expect);
    }

    /// The examples of the Javadoc of `RangeAssignor` and `RoundRobinAssignor`.
    #[test]
    fn javadoc_examples_come_out() {
        let both = [member("C0", &["t", "u"]), member("C1", &["t", "u"])];
        let three_each = [("t", 3), ("u", 3)];
        check(Assignor::Range, &both, &three_each, &["t0 t1 u0 u1", "t2 u2"]);
        check(Assignor::RoundRobin, &both, &three_each, &["t0 t2 u1", "t1 u0 u2"]);
        let uneven =
            [member("C0", &["a"]), member("C1", &["a", "b"]), member("C2", &["a", "b", "c"])];
        check(
            Assignor::RoundRobin,
            &uneven,
            &[("a", 1), ("b", 2), ("c", 3)],
            &["a0", "b0", "b1 c0 c1 c2"],
        );
    }

    #[test]
    fn static_members_come_first() {
        let mut second = member("A", &["t"]);
        let mut first = member("B", &["t"]);
        first.instance_id = Some(Str::from("i1"));
        second.instance_id = Some(Str::from("i2"));
        let members = [member("0", &["t"]), second, first];
        check(Assignor::Range, &members, &[("t", 3)], &["t2", "t1", "t0"]);
    }

    #[test]
    fn more_members_than_partitions_leaves_some_idle() {
        let members = [member("a", &["t"]), member("b", &["t"]), member("c", &["t"])];
        check(Assignor::Range, &members, &[("t", 2)], &["t0", "t1", ""]);
        check(Assignor::RoundRobin, &members, &[("t", 2)], &["t0", "t1", ""]);
    }

    #[test]
    fn subscriptions_of_all_versions_are_read() {
        for version in [0, 1, 2, 3, 7] {
            let subscription = ConsumerProtocolSubscription {
                topics: vec![Str::from("t"), Str::from("u")],
                ..ConsumerProtocolSubscription::default()
            };
            let mut bytes =
                consumer_protocol::encode(&subscription, version.min(3)).unwrap().to_vec();
            bytes[..2].copy_from_slice(&version.to_be_bytes());
            let read = decode_subscription(bytes.into()).unwrap();
            assert_eq!(read.topics, ["t", "u"], "version {version}");
            assert_eq!((read.owned, read.generation), (Vec::new(), -1), "version {version}");
        }
        assert!(decode_subscription(Bytes::from_static(&[0, 0, 0x7f, 0xff, 0xff, 0xff])).is_err());
        assert_eq!(decode_assignment(Bytes::new()).unwrap(), []);
    }

    #[test]
    fn what_is_owned_travels_with_its_generation() {
        let owned = vec![TopicPartition::new("t", PartitionId(2))];
        let said = Subscription { topics: vec![Str::from("t")], owned, generation: 7 };
        for assignor in Assignor::ALL {
            let bytes = encode_subscription(assignor, &said).unwrap();
            assert_eq!(decode_subscription(bytes).unwrap(), said);
        }
        // Version 1 says it in the user data alone.
        let old = ConsumerProtocolSubscription {
            topics: said.topics.clone(),
            user_data: Some(Bytes::from_static(&[0, 0, 0, 7])),
            owned_partitions: by_topic(&said.owned),
            ..ConsumerProtocolSubscription::default()
        };
        let bytes = consumer_protocol::encode(&old, 1).unwrap();
        assert_eq!(decode_subscription(bytes).unwrap(), said);
    }

    #[test]
    fn cooperative_is_who_has_no_eager_assignor() {
        let both = [Assignor::CooperativeSticky, Assignor::Range];
        assert_eq!(RebalanceProtocol::of(&both), RebalanceProtocol::Eager);
        assert_eq!(RebalanceProtocol::of(&both[..1]), RebalanceProtocol::Cooperative);
        for assignor in Assignor::ALL {
            assert_eq!(Assignor::parse(assignor.name()), Some(assignor));
        }
    }

    proptest! {
        #[test]
        fn every_wanted_partition_goes_to_exactly_one_taker(
            wants in proptest::collection::vec(proptest::collection::btree_set(0..4_usize, 0..4), 1..6),
            counts in proptest::collection::vec(0..7_i32, 4),
        ) {
            const TOPICS: [&str; 4] = ["a", "b", "c", "d"];
            let members: Vec<Member> = wants
                .iter()
                .enumerate()
                .map(|(index, topics)| {
                    let topics: Vec<&str> = topics.iter().map(|topic| TOPICS[*topic]).collect();
                    member(&index.to_string(), &topics)
                })
                .collect();
            let counts: BTreeMap<Str, i32> =
                TOPICS.iter().map(|topic| Str::from(*topic)).zip(counts).collect();
            for assignor in Assignor::ALL {
                let assigned = assignor.assign(&members, &counts);
                let mut seen = BTreeSet::new();
                for (member, list) in members.iter().zip(&assigned) {
                    for partition in list {
                        prop_assert!(member.topics.contains(&partition.topic));
                        prop_assert!(seen.insert(partition.clone()), "{partition:?} twice");
                    }
                    let bytes = encode_assignment(list).unwrap();
                    let read: BTreeSet<_> = decode_assignment(bytes).unwrap().into_iter().collect();
                    prop_assert_eq!(read, list.iter().cloned().collect());
                }
                let wanted: i32 = counts
                    .iter()
                    .filter(|(topic, _)| members.iter().any(|m| m.topics.contains(topic)))
                    .map(|(_, count)| *count)
                    .sum();
                prop_assert_eq!(seen.len(), wanted as usize);
            }
        }
    }
}

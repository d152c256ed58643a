//! Random lives of a consumer group against clients that are a model: what they have, nobody else may have.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use weir_protocol::{Str, Uuid};

use super::member::{each, gather};
use super::tests::{FakeTopics, Fixture};
use super::*;

const CLIENTS: usize = 4;
const TOPICS: [&str; 3] = ["a", "b", "ab"];

/// A consumer, as an application has it.
#[derive(Debug, Clone, Default)]
struct Client {
    member_id: Str,
    instance_id: Option<Str>,
    /// 0: it has to join.
    epoch: i32,
    joined: bool,
    /// What it reads.
    owned: Partitions,
    /// What it was told to have, and has not carried out.
    told: Option<Partitions>,
    topics: BTreeSet<Str>,
    regex: Option<Str>,
    said_subscription: bool,
}

#[derive(Debug, Clone)]
enum Action {
    /// A heartbeat; its answer may be lost.
    Beat {
        client: usize,
        lost: bool,
    },
    /// The client carries out what it was told.
    Obey {
        client: usize,
    },
    Leave {
        client: usize,
        for_a_while: bool,
    },
    /// The process dies, and comes back under another member id.
    Restart {
        client: usize,
    },
    Subscribe {
        client: usize,
        topics: u8,
        regex: bool,
    },
    Pass {
        ms: i64,
    },
    Topic {
        topic: usize,
        partitions: i32,
    },
}

fn action() -> impl Strategy<Value = Action> {
    let client = 0..CLIENTS;
    prop_oneof![
        8 => (client.clone(), prop::bool::weighted(0.2))
            .prop_map(|(client, lost)| Action::Beat { client, lost }),
        6 => client.clone().prop_map(|client| Action::Obey { client }),
        1 => (client.clone(), any::<bool>())
            .prop_map(|(client, for_a_while)| Action::Leave { client, for_a_while }),
        1 => client.clone().prop_map(|client| Action::Restart { client }),
        1 => (client, 0_u8..8, any::<bool>())
            .prop_map(|(client, topics, regex)| Action::Subscribe { client, topics, regex }),
        1 => (0_i64..50_000).prop_map(|ms| Action::Pass { ms }),
        1 => (0..TOPICS.len(), 0..5).prop_map(|(topic, partitions)| Action::Topic { topic, partitions }),
    ]
}

struct World {
    fixture: Fixture,
    clients: Vec<Client>,
    now: i64,
    incarnations: usize,
    epochs: BTreeMap<Str, i32>,
    group_epochs: (i32, i32),
}

impl World {
    fn new(assignor: Assignor) -> Self {
        let mut topics = FakeTopics::default();
        topics.set("a", 3);
        topics.set("b", 2);
        let mut fixture = Fixture::new(topics);
        fixture.group.limits.assignors = vec![assignor];
        let client = |index: usize| Client {
            member_id: format!("m{index}").into(),
            // Half of them are static.
            instance_id: (index % 2 == 1).then(|| format!("i{index}").into()),
            topics: BTreeSet::from(["a".into()]),
            ..Client::default()
        };
        Self {
            fixture,
            clients: (0..CLIENTS).map(client).collect(),
            now: 0,
            incarnations: CLIENTS,
            epochs: BTreeMap::new(),
            group_epochs: (0, 0),
        }
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Beat { client, lost } => self.beat(*client, *lost),
            Action::Obey { client } => self.obey(*client),
            Action::Leave { client, for_a_while } => self.leave(*client, *for_a_while),
            Action::Restart { client } => self.restart(*client),
            Action::Subscribe { client, topics, regex } => {
                let wanted = (0..TOPICS.len()).filter(|index| topics & (1 << index) != 0);
                let client = &mut self.clients[*client];
                client.topics = wanted.map(|index| TOPICS[index].into()).collect();
                client.regex = Some(if *regex { "a.*".into() } else { Str::new() });
                client.said_subscription = false;
            }
            Action::Pass { ms } => {
                self.now += ms;
                self.fixture.tick(self.now);
                self.notice_removals();
            }
            Action::Topic { topic, partitions } => {
                self.fixture.topics.set(TOPICS[*topic], *partitions);
            }
        }
    }

    fn beat(&mut self, index: usize, lost: bool) {
        let client = self.clients[index].clone();
        let is_full = client.epoch == 0 || (!client.said_subscription && client.told.is_none());
        // While it carries out what it was told, a client says nothing of it: the group would take what it does not have
        // yet for given up.
        let owned = match client.epoch {
            0 => Some(Partitions::new()),
            _ => client.told.is_none().then(|| client.owned.clone()),
        };
        let beat = Heartbeat {
            member_id: client.member_id.clone(),
            epoch: client.epoch,
            instance_id: client.instance_id.clone(),
            rebalance_timeout_ms: is_full.then_some(20_000),
            topics: is_full.then(|| client.topics.clone()),
            regex: client.regex.clone().filter(|_| is_full),
            owned,
            ..Heartbeat::default()
        };
        let answer = self.fixture.heartbeat(beat, self.now);
        let client = &mut self.clients[index];
        match answer {
            // It hears nothing, and so says all again, and wants to hear all again.
            _ if lost => (client.said_subscription, client.told) = (false, None),
            Ok(beat) => {
                client.epoch = beat.epoch;
                client.joined = true;
                client.said_subscription = true;
                if beat.assignment.is_some() {
                    client.told = beat.assignment;
                }
            }
            Err(_) => client.lose_all(),
        }
    }

    fn obey(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if let Some(told) = client.told.take() {
            client.owned = told;
        }
    }

    fn leave(&mut self, index: usize, for_a_while: bool) {
        let client = self.clients[index].clone();
        let for_a_while = for_a_while && client.instance_id.is_some();
        let beat = Heartbeat {
            member_id: client.member_id,
            epoch: if for_a_while { EPOCH_STATIC_GONE } else { EPOCH_GONE },
            instance_id: client.instance_id,
            ..Heartbeat::default()
        };
        // It gives up first what it has.
        self.clients[index].lose_all();
        let _ = self.fixture.heartbeat(beat, self.now);
    }

    fn restart(&mut self, index: usize) {
        self.incarnations += 1;
        let id = Str::from(format!("m{}", self.incarnations));
        let client = &mut self.clients[index];
        client.lose_all();
        client.member_id = id;
    }

    /// A client that is no member any more finds out, by its own clock if not by an answer.
    fn notice_removals(&mut self) {
        for client in &mut self.clients {
            let is_in = self.fixture.group.members.contains_key(&client.member_id);
            if client.joined && !is_in {
                client.lose_all();
            }
        }
    }

    fn check(&mut self) {
        let group = &self.fixture.group;
        let mut seen = BTreeSet::new();
        for client in &self.clients {
            for place in each(&client.owned) {
                assert!(seen.insert(place), "two clients read {place:?}");
            }
        }
        let mut held = BTreeMap::new();
        for member in group.members() {
            for place in member.current.held() {
                let before = held.insert(place, member.id.clone());
                assert!(before.is_none(), "{before:?} and {} hold {place:?}", member.id);
            }
        }
        assert_eq!(held, group.owners);
        assert!(group.epoch >= self.group_epochs.0 && group.target_epoch >= self.group_epochs.1);
        assert!(group.target_epoch <= group.epoch);
        self.group_epochs = (group.epoch, group.target_epoch);
        let epochs = group.members().map(|member| (member.id.clone(), member.current.epoch));
        let epochs: BTreeMap<Str, i32> = epochs.collect();
        for (id, epoch) in &epochs {
            let before = self.epochs.get(id).copied().unwrap_or(0);
            let gone = *epoch == EPOCH_STATIC_GONE;
            assert!(gone || *epoch >= before, "{id} goes from {before} back to {epoch}");
        }
        self.epochs = epochs;
    }

    /// With nothing lost and nothing new, everybody soon has its share.
    fn settle(&mut self) {
        // Members that never come back are out by then.
        for _ in 0..4 {
            self.now += 15_000;
            self.fixture.tick(self.now);
            self.notice_removals();
            for index in 0..CLIENTS {
                self.beat(index, false);
                self.obey(index);
            }
            self.check();
        }
        for _ in 0..20 {
            for index in 0..CLIENTS {
                self.beat(index, false);
                self.obey(index);
                self.check();
            }
        }
        let group = &self.fixture.group;
        assert_eq!(group.state(), ConsumerGroupState::Stable, "{group:#?}");
        assert_eq!(group.member_count(), CLIENTS);
        let read: BTreeSet<(Uuid, i32)> =
            self.clients.iter().flat_map(|client| each(&client.owned)).collect();
        let subscribed = group.subscribed_topics(&self.fixture.topics);
        let all: BTreeSet<(Uuid, i32)> = subscribed
            .into_values()
            .flat_map(|(topic, count)| (0..count).map(move |index| (topic, index)))
            .collect();
        assert_eq!(read, all);
        for client in &self.clients {
            let member = &group.members[&client.member_id];
            assert_eq!(client.owned, member.current.assigned);
            assert_eq!(client.epoch, group.epoch);
        }
    }
}

impl Client {
    fn lose_all(&mut self) {
        (self.epoch, self.joined, self.said_subscription) = (0, false, false);
        self.owned.clear();
        self.told = None;
    }
}

proptest! {
    #[test]
    fn no_partition_has_two_readers_and_all_are_read_in_the_end(
        is_range in any::<bool>(),
        actions in prop::collection::vec(action(), 0..120),
    ) {
        let assignor = if is_range { Assignor::Range } else { Assignor::Uniform };
        let mut world = World::new(assignor);
        for (count, action) in actions.iter().enumerate() {
            world.act(action);
            world.check();
            if count % 16 == 0 {
                world.fixture.check_replay();
            }
        }
        world.settle();
        world.fixture.check_replay();
    }
}

#[test]
fn the_model_sees_a_partition_that_is_given_away_too_early() {
    // What would happen if the group forgot who holds what: the check must say so.
    let seen = std::panic::catch_unwind(|| {
        let mut world = World::new(Assignor::Uniform);
        world.beat(0, false);
        world.obey(0);
        world.beat(2, false);
        world.fixture.group.owners.clear();
        world.beat(2, false);
        world.check();
    });
    assert!(seen.is_err());
}

#[test]
fn gathered_partitions_are_each_of_them() {
    let places = [(Uuid([1; 16]), 0), (Uuid([1; 16]), 2), (Uuid([2; 16]), 1)];
    assert_eq!(each(&gather(places.into_iter())).collect::<Vec<_>>(), places);
}

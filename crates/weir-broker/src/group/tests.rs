use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use weir_protocol::{ErrorCode, Str, TimestampMs};

use super::*;

const LIMITS: GroupLimits = GroupLimits { members_max: 5, initial_rebalance_delay_ms: 0 };
const SESSION_MS: i32 = 10_000;
const REBALANCE_MS: i32 = 30_000;

fn at(ms: i64) -> TimestampMs {
    TimestampMs(ms)
}

fn join(id: &str, fresh: &str) -> Join {
    Join {
        member_id: Str::copy_from(id),
        instance_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: REBALANCE_MS,
        protocol_type: "consumer".into(),
        protocols: vec![protocol("range", b"sub")],
        knows_member_id_required: false,
        knows_skip_assignment: true,
        fresh_member_id: Str::copy_from(fresh),
    }
}

fn protocol(name: &str, metadata: &'static [u8]) -> Protocol {
    Protocol { name: Str::copy_from(name), metadata: Bytes::from_static(metadata) }
}

fn sync_of(id: &str, generation: i32, assignments: &[(&str, &str)]) -> Sync {
    Sync {
        member_id: Str::copy_from(id),
        instance_id: None,
        generation,
        protocol_type: Some("consumer".into()),
        protocol: Some("range".into()),
        assignments: assignments
            .iter()
            .map(|(id, share)| (Str::copy_from(id), Bytes::copy_from_slice(share.as_bytes())))
            .collect(),
    }
}

/// A group with the answers it gave, by ticket.
struct Fixture {
    group: Group,
    joined: BTreeMap<u64, Joined>,
    synced: BTreeMap<u64, Synced>,
    stores: usize,
    to_store: Vec<i32>,
}

impl Fixture {
    fn new(limits: GroupLimits) -> Self {
        Self {
            group: Group::new(limits, at(0)),
            joined: BTreeMap::new(),
            synced: BTreeMap::new(),
            stores: 0,
            to_store: Vec::new(),
        }
    }

    fn take(&mut self, effects: Vec<GroupEffect>) {
        for effect in effects {
            match effect {
                GroupEffect::Joined(ticket, joined) => {
                    assert!(self.joined.insert(ticket.0, joined).is_none(), "answered once");
                }
                GroupEffect::Synced(ticket, synced) => {
                    assert!(self.synced.insert(ticket.0, synced).is_none(), "answered once");
                }
                GroupEffect::StoreThenJoined(ticket, joined) => {
                    self.stores += 1;
                    assert!(self.joined.insert(ticket.0, joined).is_none(), "answered once");
                }
                GroupEffect::Store => self.stores += 1,
                GroupEffect::StoreAssignment { generation } => self.to_store.push(generation),
            }
        }
    }

    fn join(&mut self, join: Join, ticket: u64, now: i64) {
        let mut out = Vec::new();
        self.group.join(join, Ticket(ticket), at(now), &mut out);
        self.take(out);
    }

    fn sync(&mut self, sync: Sync, ticket: u64, now: i64) {
        let mut out = Vec::new();
        self.group.sync(sync, Ticket(ticket), at(now), &mut out);
        self.take(out);
    }

    fn store(&mut self, now: i64) {
        for generation in std::mem::take(&mut self.to_store) {
            let mut out = Vec::new();
            self.group.stored(generation, Ok(()), at(now), &mut out);
            self.take(out);
        }
    }

    fn tick(&mut self, now: i64) {
        let mut out = Vec::new();
        self.group.tick(at(now), &mut out);
        self.take(out);
    }

    fn leave(&mut self, id: &str, now: i64) -> ErrorCode {
        let mut out = Vec::new();
        let error = self.group.leave(&Str::copy_from(id), None, at(now), &mut out);
        self.take(out);
        error
    }

    fn heartbeat(&mut self, id: &str, generation: i32, now: i64) -> ErrorCode {
        self.group.heartbeat(&Str::copy_from(id), None, generation, at(now))
    }

    /// Members a and b, Stable in generation 2, a leads. Tickets below 100.
    fn stable_pair() -> Self {
        let mut f = Self::new(LIMITS);
        f.join(join("", "a"), 1, 0);
        f.join(join("", "b"), 2, 0);
        f.join(join("a", ""), 3, 0);
        assert_eq!(f.group.state(), GroupState::CompletingRebalance);
        f.sync(sync_of("b", 2, &[]), 4, 0);
        f.sync(sync_of("a", 2, &[("a", "A"), ("b", "B")]), 5, 0);
        f.store(0);
        assert_eq!((f.group.state(), f.group.generation()), (GroupState::Stable, 2));
        f
    }
}

#[test]
fn a_first_member_leads_at_once() {
    let mut f = Fixture::new(LIMITS);
    f.join(join("", "a"), 1, 0);
    let joined = &f.joined[&1];
    assert_eq!((joined.error, joined.generation, &*joined.leader), (ErrorCode::None, 1, "a"));
    assert_eq!(joined.members, [(Str::from("a"), None, Bytes::from_static(b"sub"))]);
    assert_eq!(joined.protocol, Some("range".into()));
}

#[test]
fn nobody_has_an_assignment_before_it_is_stored() {
    let mut f = Fixture::new(LIMITS);
    f.join(join("", "a"), 1, 0);
    f.sync(sync_of("a", 1, &[("a", "A")]), 2, 0);
    assert!(f.synced.is_empty());
    assert_eq!(f.to_store, [1]);
    assert_eq!(f.group.record().members[0].assignment, "A");
    f.store(1);
    assert_eq!(f.synced[&2].assignment, "A");
    assert_eq!(f.group.state(), GroupState::Stable);
}

#[test]
fn an_assignment_that_cannot_be_stored_starts_over() {
    let mut f = Fixture::new(LIMITS);
    f.join(join("", "a"), 1, 0);
    f.sync(sync_of("a", 1, &[("a", "A")]), 2, 0);
    let mut out = Vec::new();
    f.group.stored(1, Err(ErrorCode::CoordinatorNotAvailable), at(1), &mut out);
    f.take(out);
    assert_eq!(f.synced[&2].error, ErrorCode::CoordinatorNotAvailable);
    assert_eq!(f.group.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_rebalance_overtakes_an_assignment_on_its_way() {
    let mut f = Fixture::new(LIMITS);
    f.join(join("", "a"), 1, 0);
    f.sync(sync_of("a", 1, &[("a", "A")]), 2, 0);
    f.join(join("", "b"), 3, 0);
    assert_eq!(f.synced[&2].error, ErrorCode::RebalanceInProgress);
    f.store(1);
    assert_eq!(f.group.state(), GroupState::PreparingRebalance);
    assert!(f.group.members().all(|member| member.assignment.is_empty()));
}

#[test]
fn a_follower_that_rejoins_unchanged_gets_its_generation() {
    let mut f = Fixture::stable_pair();
    f.join(join("b", ""), 100, 1);
    assert_eq!((f.joined[&100].generation, f.group.state()), (2, GroupState::Stable));
    assert!(f.joined[&100].members.is_empty());
}

#[test]
fn a_leader_that_rejoins_asks_for_a_rebalance() {
    let mut f = Fixture::stable_pair();
    f.join(join("a", ""), 100, 1);
    assert_eq!(f.group.state(), GroupState::PreparingRebalance);
    assert_eq!(f.heartbeat("b", 2, 1), ErrorCode::RebalanceInProgress);
    f.join(join("b", ""), 101, 2);
    assert_eq!((f.joined[&100].generation, f.joined[&101].generation), (3, 3));
}

#[test]
fn who_does_not_rejoin_in_time_is_out() {
    let mut f = Fixture::stable_pair();
    f.join(join("a", ""), 100, 0);
    // b's heartbeats go on, but it never joins.
    for now in [5_000, 10_000, 15_000, 20_000, 25_000] {
        assert_eq!(f.heartbeat("b", 2, now), ErrorCode::RebalanceInProgress);
        f.tick(now);
    }
    assert!(!f.joined.contains_key(&100));
    f.tick(i64::from(REBALANCE_MS));
    assert_eq!(f.joined[&100].generation, 3);
    assert_eq!(f.heartbeat("b", 3, 30_001), ErrorCode::UnknownMemberId);
}

#[test]
fn a_session_without_heartbeats_ends() {
    let mut f = Fixture::stable_pair();
    assert_eq!(f.heartbeat("a", 2, 9_000), ErrorCode::None);
    f.tick(i64::from(SESSION_MS));
    assert_eq!(f.group.member_count(), 1);
    assert_eq!(f.heartbeat("a", 2, 10_001), ErrorCode::RebalanceInProgress);
}

#[test]
fn a_session_rests_while_the_broker_owes_an_answer() {
    let mut f = Fixture::stable_pair();
    f.join(join("a", ""), 100, 0);
    f.heartbeat("b", 2, 15_000);
    f.tick(20_000);
    assert!(f.group.members().any(|member| member.id == "a"), "a waits for b, nobody waits for a");
}

#[test]
fn who_never_syncs_is_out() {
    let mut f = Fixture::stable_pair();
    f.join(join("a", ""), 100, 0);
    f.join(join("b", ""), 101, 0);
    f.sync(sync_of("b", 3, &[]), 102, 0);
    for now in [9_000, 18_000, 27_000] {
        assert_eq!(f.heartbeat("a", 3, now), ErrorCode::None);
        f.tick(now);
    }
    f.tick(i64::from(REBALANCE_MS));
    assert_eq!(f.synced[&102].error, ErrorCode::RebalanceInProgress);
    let ids: Vec<&str> = f.group.members().map(|member| &*member.id).collect();
    assert_eq!(ids, ["b"]);
}

#[test]
fn a_client_that_knows_kip_394_is_told_its_id_first() {
    let mut f = Fixture::new(LIMITS);
    f.join(Join { knows_member_id_required: true, ..join("", "a") }, 1, 0);
    assert_eq!((f.joined[&1].error, &*f.joined[&1].member_id), (ErrorCode::MemberIdRequired, "a"));
    assert_eq!(f.group.state(), GroupState::Empty);
    f.join(join("a", ""), 2, 1);
    assert_eq!(f.joined[&2].error, ErrorCode::None);
    // One that never comes back is forgotten.
    f.join(Join { knows_member_id_required: true, ..join("", "z") }, 3, 1);
    f.tick(1 + i64::from(SESSION_MS));
    f.join(join("z", ""), 4, 20_000);
    assert_eq!(f.joined[&4].error, ErrorCode::UnknownMemberId);
}

#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    let with_instance =
        |id: &str, fresh: &str| Join { instance_id: Some("i".into()), ..join(id, fresh) };
    let mut f = Fixture::new(LIMITS);
    f.join(with_instance("", "i-1"), 1, 0);
    f.sync(Sync { instance_id: Some("i".into()), ..sync_of("i-1", 1, &[("i-1", "A")]) }, 2, 0);
    f.store(0);
    f.join(with_instance("", "i-2"), 3, 1);
    let joined = &f.joined[&3];
    assert_eq!((joined.generation, &*joined.member_id, joined.skip_assignment), (1, "i-2", true));
    assert_eq!((f.group.state(), f.stores), (GroupState::Stable, 1));
    let fenced = f.group.heartbeat(&"i-1".into(), Some(&"i".into()), 1, at(2));
    assert_eq!(fenced, ErrorCode::FencedInstanceId);
    f.sync(Sync { instance_id: Some("i".into()), ..sync_of("i-2", 1, &[]) }, 4, 2);
    assert_eq!(f.synced[&4].assignment, "A");
}

#[test]
fn a_heartbeat_is_fine_while_the_leader_assigns() {
    let mut f = Fixture::stable_pair();
    f.join(join("a", ""), 100, 1);
    assert_eq!(f.heartbeat("b", 2, 1), ErrorCode::RebalanceInProgress);
    f.join(join("b", ""), 101, 1);
    assert_eq!(f.group.state(), GroupState::CompletingRebalance);
    assert_eq!(f.heartbeat("b", 3, 2), ErrorCode::None);
    assert_eq!(f.heartbeat("b", 2, 2), ErrorCode::IllegalGeneration);
}

#[test]
fn an_operator_removes_a_static_member_by_its_instance_alone() {
    let mut f = Fixture::new(LIMITS);
    f.join(Join { instance_id: Some("i".into()), ..join("", "i-1") }, 1, 0);
    let mut out = Vec::new();
    let unknown = f.group.leave(&Str::new(), Some(&"x".into()), at(1), &mut out);
    assert_eq!(unknown, ErrorCode::UnknownMemberId);
    let fenced = f.group.leave(&"i-0".into(), Some(&"i".into()), at(1), &mut out);
    assert_eq!(fenced, ErrorCode::FencedInstanceId);
    let gone = f.group.leave(&Str::new(), Some(&"i".into()), at(1), &mut out);
    assert_eq!((gone, f.group.member_count()), (ErrorCode::None, 0));
}

/// Times as a Kafka 4.1.0 node kept them: the session of the one that stays away does not matter.
#[test]
fn a_static_member_that_does_not_rejoin_has_the_rebalance_timeout_once_more() {
    let mut f = Fixture::new(LIMITS);
    let long = Join { session_timeout_ms: 600_000, ..join("", "i-1") };
    f.join(Join { instance_id: Some("i".into()), ..long }, 1, 0);
    f.join(join("", "b"), 2, 1);
    let joined = 1 + i64::from(REBALANCE_MS);
    f.tick(joined);
    assert_eq!(f.joined[&2].generation, 2, "the rebalance does not wait for ever");
    assert_eq!(f.group.member_count(), 2, "the static one is still in");
    assert_eq!(&*f.joined[&2].leader, "b");
    f.sync(sync_of("b", 2, &[("b", "B")]), 3, joined + 1);
    f.store(joined + 1);
    let out = joined + i64::from(REBALANCE_MS);
    for now in (joined + 1..out).step_by(5_000) {
        f.tick(now);
        assert_eq!(f.heartbeat("b", 2, now), ErrorCode::None);
    }
    f.tick(out - 1);
    assert_eq!(f.group.member_count(), 2);
    f.tick(out);
    assert_eq!(f.group.member_count(), 1);
    assert_eq!(f.heartbeat("b", 2, out), ErrorCode::RebalanceInProgress);
}

#[test]
fn the_longest_rebalance_timeout_counts_and_who_does_not_rejoin_in_it_is_out() {
    let mut f = Fixture::stable_pair();
    f.join(Join { rebalance_timeout_ms: 40_000, ..join("", "c") }, 100, 0);
    f.join(Join { rebalance_timeout_ms: 1_000, ..join("a", "") }, 101, 0);
    for now in (5_000..40_000).step_by(5_000) {
        assert_eq!(f.heartbeat("b", 2, now), ErrorCode::RebalanceInProgress);
        f.tick(now);
    }
    assert!(!f.joined.contains_key(&100));
    f.tick(40_000);
    assert_eq!((f.joined[&100].generation, f.joined[&101].generation), (3, 3));
    assert_eq!(f.heartbeat("b", 3, 40_001), ErrorCode::UnknownMemberId);
}

#[test]
fn a_client_that_cannot_skip_the_assignment_is_not_told_that_it_leads() {
    let with_instance = |fresh: &str| Join {
        instance_id: Some("i".into()),
        knows_skip_assignment: false,
        ..join("", fresh)
    };
    let mut f = Fixture::new(LIMITS);
    f.join(with_instance("i-1"), 1, 0);
    f.sync(Sync { instance_id: Some("i".into()), ..sync_of("i-1", 1, &[("i-1", "A")]) }, 2, 0);
    f.store(0);
    f.join(with_instance("i-2"), 3, 1);
    let joined = &f.joined[&3];
    assert_eq!((&*joined.leader, joined.skip_assignment), ("i-1", false), "KAFKA-6995");
}

#[test]
fn the_last_one_to_leave_empties_the_group() {
    let mut f = Fixture::stable_pair();
    assert_eq!(f.leave("a", 1), ErrorCode::None);
    f.join(join("b", ""), 100, 1);
    assert_eq!(&*f.joined[&100].leader, "b");
    assert_eq!(f.leave("b", 2), ErrorCode::None);
    assert_eq!((f.group.state(), f.group.generation(), f.stores), (GroupState::Empty, 4, 1));
    assert_eq!(f.leave("b", 3), ErrorCode::UnknownMemberId);
}

#[test]
fn protocols_must_have_one_in_common() {
    let mut f = Fixture::new(LIMITS);
    f.join(
        Join { protocols: vec![protocol("x", b""), protocol("range", b"")], ..join("", "a") },
        1,
        0,
    );
    f.join(Join { protocols: vec![protocol("y", b"")], ..join("", "b") }, 2, 0);
    assert_eq!(f.joined[&2].error, ErrorCode::InconsistentGroupProtocol);
    f.join(Join { protocol_type: "connect".into(), ..join("", "b") }, 3, 0);
    assert_eq!(f.joined[&3].error, ErrorCode::InconsistentGroupProtocol);
    f.join(join("", "b"), 4, 0);
    f.join(
        Join { protocols: vec![protocol("x", b""), protocol("range", b"")], ..join("a", "") },
        5,
        0,
    );
    assert_eq!(f.joined[&5].protocol, Some("range".into()));
}

#[test]
fn a_full_group_refuses() {
    let mut f = Fixture::new(GroupLimits { members_max: 1, ..LIMITS });
    f.join(join("", "a"), 1, 0);
    f.join(join("", "b"), 2, 0);
    assert_eq!(f.joined[&2].error, ErrorCode::GroupMaxSizeReached);
}

#[test]
fn a_group_over_its_size_keeps_those_who_come_back_first() {
    let mut f = Fixture::stable_pair();
    f.join(join("", "c"), 100, 1);
    f.join(join("a", ""), 101, 1);
    f.join(join("b", ""), 102, 1);
    f.sync(sync_of("a", 3, &[]), 103, 1);
    f.store(1);
    // Its limit was lowered, and the broker started again.
    let limits = GroupLimits { members_max: 2, ..LIMITS };
    f.group = Group::restore(limits, f.group.record(), at(50));
    assert_eq!(f.heartbeat("a", 3, 51), ErrorCode::RebalanceInProgress);
    f.join(join("b", ""), 110, 52);
    f.join(join("c", ""), 111, 53);
    f.join(join("b", ""), 112, 54);
    assert_eq!(f.joined[&110].error, ErrorCode::UnknownMemberId, "it asked again");
    f.join(join("a", ""), 113, 55);
    assert_eq!(f.joined[&113].error, ErrorCode::GroupMaxSizeReached);
    assert_eq!((f.joined[&111].generation, f.joined[&112].generation), (4, 4));
    assert_eq!(f.heartbeat("a", 4, 56), ErrorCode::UnknownMemberId);
    f.join(join("", "d"), 114, 57);
    assert_eq!(f.joined[&114].error, ErrorCode::GroupMaxSizeReached);
}

#[test]
fn who_never_was_in_the_group_waits_five_minutes_at_most() {
    let mut f = Fixture::stable_pair();
    let patient = |id: &str, fresh: &str| Join {
        rebalance_timeout_ms: 3_600_000,
        session_timeout_ms: 1_000_000,
        ..join(id, fresh)
    };
    f.join(patient("a", ""), 100, 0);
    f.join(patient("", "c"), 101, 1);
    for now in (5_000..300_001).step_by(5_000) {
        assert_eq!(f.heartbeat("b", 2, now), ErrorCode::RebalanceInProgress);
        f.tick(now);
    }
    assert!(!f.joined.contains_key(&101));
    f.tick(300_001);
    assert_eq!(f.joined[&101].error, ErrorCode::UnknownMemberId, "else each try would be one more");
    assert!(!f.joined.contains_key(&100), "a member waits as long as it said");
}

#[test]
fn the_first_rebalance_can_wait_for_more_members() {
    let mut f = Fixture::new(GroupLimits { initial_rebalance_delay_ms: 3_000, ..LIMITS });
    f.join(join("", "a"), 1, 0);
    f.join(join("", "b"), 2, 1_000);
    assert!(f.joined.is_empty());
    // b came in the first wait, so there is a second.
    f.tick(3_000);
    assert!(f.joined.is_empty());
    f.tick(6_000);
    assert_eq!((f.joined[&1].generation, f.joined[&2].generation), (1, 1));
}

#[test]
fn offsets_are_taken_while_preparing_and_refused_while_completing() {
    let mut f = Fixture::stable_pair();
    let check = |f: &mut Fixture, id: &str, generation| {
        f.group.check_commit(&Str::copy_from(id), None, generation, at(1))
    };
    assert_eq!(check(&mut f, "a", 2), Ok(()));
    assert_eq!(check(&mut f, "a", 1), Err(ErrorCode::IllegalGeneration));
    assert_eq!(check(&mut f, "", -1), Err(ErrorCode::UnknownMemberId));
    f.join(join("a", ""), 100, 1);
    assert_eq!(check(&mut f, "b", 2), Ok(()));
    f.join(join("b", ""), 101, 1);
    assert_eq!(check(&mut f, "b", 3), Err(ErrorCode::RebalanceInProgress));
    let mut empty = Fixture::new(LIMITS);
    assert_eq!(check(&mut empty, "", -1), Ok(()));
}

#[test]
fn a_stored_group_comes_back() {
    let mut f = Fixture::stable_pair();
    let mut restored = Group::restore(LIMITS, f.group.record(), at(50));
    assert_eq!(
        (restored.state(), restored.generation(), restored.member_count()),
        (GroupState::Stable, 2, 2)
    );
    assert_eq!(restored.heartbeat(&"b".into(), None, 2, at(51)), ErrorCode::None);
    f.group = restored;
    f.sync(sync_of("b", 2, &[]), 100, 52);
    assert_eq!(f.synced[&100].assignment, "B");
}

#[test]
fn timeouts_of_0_leave_nothing_due() {
    let in_no_time = |id: &str, fresh: &str, instance: &'static str| Join {
        instance_id: Some(instance.into()),
        rebalance_timeout_ms: 0,
        ..join(id, fresh)
    };
    let mut f = Fixture::new(LIMITS);
    f.join(in_no_time("", "a", "i"), 1, 0);
    f.join(in_no_time("", "b", "j"), 2, 0);
    f.tick(1);
    assert_eq!(f.leave("a", 2), ErrorCode::None);
    // Only a static member is left, and it does not come back.
    for _ in 0..100 {
        let Some(deadline) = f.group.next_deadline() else { break };
        f.tick(deadline.get());
        assert!(f.group.next_deadline().is_none_or(|next| next > deadline));
    }
    assert_eq!(f.group.state(), GroupState::Empty);
    let mut record = Fixture::stable_pair().group.record();
    record.members.iter_mut().for_each(|member| member.session_timeout_ms = -1);
    let restored = Group::restore(LIMITS, record, at(50));
    assert!(restored.next_deadline().is_some_and(|deadline| deadline > at(50)));
}

/// One thing that happens to a group of up to four clients.
#[derive(Debug, Clone)]
enum Action {
    Join(usize),
    /// With a rebalance timeout of 0.
    JoinInNoTime(usize),
    Sync(usize),
    Heartbeat(usize),
    Leave(usize),
    Forget(usize),
    Stored,
    Pass(i64),
}

fn action() -> impl Strategy<Value = Action> {
    let who = 0..4_usize;
    prop_oneof![
        4 => who.clone().prop_map(Action::Join),
        1 => who.clone().prop_map(Action::JoinInNoTime),
        4 => who.clone().prop_map(Action::Sync),
        2 => who.clone().prop_map(Action::Heartbeat),
        1 => who.clone().prop_map(Action::Leave),
        1 => who.prop_map(Action::Forget),
        3 => Just(Action::Stored),
        2 => (1..20_000_i64).prop_map(Action::Pass),
    ]
}

/// What a client believes.
#[derive(Debug, Clone, Default)]
struct Client {
    member_id: String,
    generation: i32,
    leads: Vec<String>,
    waits: Option<u64>,
}

/// Clients as a model: each knows what it was told, and what all were told must fit together.
#[derive(Default)]
struct Model {
    clients: Vec<Client>,
    /// Ticket → client, and who it was in which generation when it asked.
    tickets: BTreeMap<u64, (usize, String, i32)>,
    /// Generation → who led it.
    leaders: BTreeMap<i32, String>,
    generation_max: i32,
}

impl Model {
    fn asks(&mut self, who: usize, ticket: u64) {
        let client = &mut self.clients[who];
        client.waits = Some(ticket);
        self.tickets.insert(ticket, (who, client.member_id.clone(), client.generation));
    }

    fn learn(&mut self, f: &mut Fixture) {
        for (ticket, joined) in std::mem::take(&mut f.joined) {
            let client = &mut self.clients[self.tickets[&ticket].0];
            // An answer to a connection that was given up is not heard.
            if client.waits != Some(ticket) {
                continue;
            }
            client.waits = None;
            match joined.error {
                ErrorCode::None => {
                    assert!(joined.generation >= client.generation, "a generation went back");
                    client.member_id = joined.member_id.to_string();
                    client.generation = joined.generation;
                    client.leads = joined.members.iter().map(|(id, _, _)| id.to_string()).collect();
                    if !joined.members.is_empty() {
                        assert!(
                            client.leads.contains(&client.member_id),
                            "a leader is one of its members"
                        );
                        let leader = self
                            .leaders
                            .entry(joined.generation)
                            .or_insert_with(|| client.member_id.clone());
                        assert_eq!(*leader, client.member_id, "one leader per generation");
                    }
                }
                ErrorCode::MemberIdRequired => client.member_id = joined.member_id.to_string(),
                _ => *client = Client::default(),
            }
        }
        for (ticket, synced) in std::mem::take(&mut f.synced) {
            let (who, member_id, generation) = &self.tickets[&ticket];
            if synced.error == ErrorCode::None {
                let share = String::from_utf8(synced.assignment.to_vec()).unwrap();
                assert_eq!(
                    share,
                    format!("{generation}/{member_id}"),
                    "the share of its generation"
                );
            }
            let client = &mut self.clients[*who];
            if client.waits == Some(ticket) {
                client.waits = None;
            }
        }
    }

    fn check(&mut self, f: &Fixture) {
        let group = &f.group;
        assert!(group.generation() >= self.generation_max, "the generation went back");
        self.generation_max = group.generation();
        let ids: Vec<&Str> = group.members().map(|member| &member.id).collect();
        assert_eq!(ids.len(), group.member_count());
        for name in ["range", "a", "b", "unheard"] {
            let knows = |member: &Member| member.protocols.iter().any(|one| one.name == *name);
            let counted = group.members.all_know(&name.into());
            assert_eq!(counted, group.members().all(knows), "what is counted of {name}");
        }
        assert!(ids.len() + group.pending.len() <= LIMITS.members_max);
        assert!(group.pending.keys().all(|id| !ids.contains(&id)), "pending and joined at once");
        assert_eq!(group.state() == GroupState::Empty, ids.is_empty());
        match group.state() {
            GroupState::Empty => assert!(group.leader().is_none() && group.protocol().is_none()),
            GroupState::PreparingRebalance => {
                assert!(group.join_deadline.is_some(), "nothing would ever end the join phase");
                let all = group.members().all(|member| member.join_waiter.is_some());
                assert!(!all || !group.pending.is_empty(), "all are there and nobody is answered");
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                assert!(group.members().all(|member| member.join_waiter.is_none()));
                assert!(ids.contains(&group.leader().unwrap()));
            }
        }
        if group.state() == GroupState::Stable {
            let generation = group.generation();
            for member in group.members() {
                let share = String::from_utf8(member.assignment.to_vec()).unwrap();
                assert_eq!(share, format!("{generation}/{}", member.id), "one assignment for all");
                assert!(member.sync_waiter.is_none(), "a Stable group owes nobody an assignment");
            }
        }
        for member in group.members() {
            let parked = member.join_waiter.is_some() || member.sync_waiter.is_some();
            let rests = member.session_deadline.is_none();
            // A new member has five minutes for its first join.
            let may_be_new = member.join_waiter.is_some();
            assert!(rests == parked || may_be_new, "a session rests exactly while it is parked");
        }
    }
}

fn run(actions: &[Action], two_step: bool) {
    let mut f = Fixture::new(LIMITS);
    let mut model = Model { clients: vec![Client::default(); 4], ..Model::default() };
    let mut now = 0;
    let mut fresh = 0;
    for (ticket, action) in (1_u64..).zip(actions) {
        match action {
            Action::Join(who) | Action::JoinInNoTime(who) => {
                fresh += 1;
                model.asks(*who, ticket);
                let id = model.clients[*who].member_id.clone();
                let mut request = join(&id, &format!("m{fresh}"));
                request.knows_member_id_required = two_step;
                // Some know more, and say it twice.
                for name in ["a", "b", "a"].iter().skip(fresh % 4) {
                    request.protocols.push(protocol(name, b"more"));
                }
                if matches!(action, Action::JoinInNoTime(_)) {
                    request.rebalance_timeout_ms = 0;
                }
                f.join(request, ticket, now);
            }
            Action::Sync(who) => {
                if model.clients[*who].member_id.is_empty() {
                    continue;
                }
                model.asks(*who, ticket);
                let client = &model.clients[*who];
                let generation = client.generation;
                let shares: Vec<(String, String)> = client
                    .leads
                    .iter()
                    .map(|id| (id.clone(), format!("{generation}/{id}")))
                    .collect();
                let shares: Vec<(&str, &str)> =
                    shares.iter().map(|(id, share)| (&**id, &**share)).collect();
                f.sync(sync_of(&client.member_id.clone(), generation, &shares), ticket, now);
            }
            Action::Heartbeat(who) => {
                let client = model.clients[*who].clone();
                f.heartbeat(&client.member_id, client.generation, now);
            }
            Action::Leave(who) => {
                let id = std::mem::take(&mut model.clients[*who]).member_id;
                f.leave(&id, now);
            }
            Action::Forget(who) => model.clients[*who] = Client::default(),
            Action::Stored => f.store(now),
            Action::Pass(ms) => {
                now += ms;
                f.tick(now);
                assert!(
                    f.group.next_deadline().is_none_or(|deadline| deadline > at(now)),
                    "a tick left something due"
                );
            }
        }
        model.learn(&mut f);
        model.check(&f);
    }
    // Left alone, a group ends empty: nobody is stuck, and everybody who waited was answered.
    for _ in 0..20 {
        f.store(now);
        let Some(deadline) = f.group.next_deadline() else { break };
        now = deadline.get();
        f.tick(now);
        model.learn(&mut f);
        model.check(&f);
    }
    assert_eq!(f.group.state(), GroupState::Empty);
    assert!(f.group.next_deadline().is_none());
}

proptest! {
    #[test]
    fn members_generations_and_assignments_fit_together(
        actions in prop::collection::vec(action(), 1..80),
        two_step in any::<bool>(),
    ) {
        run(&actions, two_step);
    }
}

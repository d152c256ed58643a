use std::collections::{BTreeMap, BTreeSet};

use weir_protocol::{ErrorCode, Str, TimestampMs, Uuid};

use super::member::{each, EPOCH_STATIC_GONE};
use super::*;
use crate::offset_records::OffsetKey;

pub(super) const SESSION_MS: i64 = 45_000;

pub(super) fn at(ms: i64) -> TimestampMs {
    TimestampMs(ms)
}

pub(super) fn limits() -> ConsumerGroupLimits {
    ConsumerGroupLimits {
        members_max: 5,
        session_timeout_ms: SESSION_MS as i32,
        heartbeat_interval_ms: 5_000,
        assignors: vec![Assignor::Uniform, Assignor::Range],
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct FakeTopics {
    version: u64,
    made: u8,
    topics: BTreeMap<Str, (Uuid, i32)>,
}

impl FakeTopics {
    /// 0 partitions: there is no such topic. One that comes back has another id.
    pub(super) fn set(&mut self, name: &str, partitions: i32) {
        self.version += 1;
        let before = self.topics.remove(name);
        if partitions > 0 {
            let kept = before.filter(|(_, count)| *count <= partitions).map(|(id, _)| id);
            self.made += u8::from(kept.is_none());
            let id = kept.unwrap_or(Uuid([self.made; 16]));
            self.topics.insert(Str::copy_from(name), (id, partitions));
        }
    }

    fn id(&self, name: &str) -> Uuid {
        self.topics[name].0
    }
}

impl TopicLookup for FakeTopics {
    fn version(&self) -> u64 {
        self.version
    }

    fn find(&self, name: &str) -> Option<(Uuid, i32)> {
        self.topics.get(name).copied()
    }

    fn name_of(&self, id: Uuid) -> Option<Str> {
        let found = self.topics.iter().find(|(_, (of, _))| *of == id);
        found.map(|(name, _)| name.clone())
    }

    fn for_each_name(&self, then: &mut dyn FnMut(&Str)) {
        self.topics.keys().for_each(then);
    }
}

impl ConsumerGroup {
    /// What the log has to make again.
    fn durable(&self) -> impl PartialEq + std::fmt::Debug {
        let members: Vec<Member> = self
            .members
            .values()
            .cloned()
            .map(|mut member| {
                (member.session_deadline, member.rebalance_deadline) = (None, None);
                (member.join_deadline, member.sync_deadline) = (None, None);
                member
            })
            .collect();
        let epochs = (self.epoch, self.target_epoch, self.metadata_hash);
        let maps = (self.static_members.clone(), self.target.clone(), self.owners.clone());
        (epochs, members, maps, self.regexes.clone())
    }
}

/// A group with its log.
pub(super) struct Fixture {
    pub(super) group: ConsumerGroup,
    pub(super) topics: FakeTopics,
    log: Vec<Change>,
}

impl Fixture {
    pub(super) fn new(topics: FakeTopics) -> Self {
        Self { group: ConsumerGroup::new(limits(), at(0)), topics, log: Vec::new() }
    }

    fn with_topic(partitions: i32) -> Self {
        let mut topics = FakeTopics::default();
        topics.set("t", partitions);
        Self::new(topics)
    }

    pub(super) fn heartbeat(&mut self, beat: Heartbeat, now: i64) -> Result<Beat, Refusal> {
        self.group.heartbeat(beat, &self.topics, at(now), &mut self.log)
    }

    pub(super) fn tick(&mut self, now: i64) {
        self.group.tick(&self.topics, at(now), &mut self.log);
    }

    /// What is read back from the bytes of the log is the same group.
    pub(super) fn check_replay(&self) {
        let mut again = ConsumerGroup::new(limits(), at(0));
        for change in &self.log {
            let key = OffsetKey::Consumer { group: "g".into(), key: change.key() };
            let Ok(OffsetKey::Consumer { key, .. }) = OffsetKey::decode(key.encode().into()) else {
                panic!("{change:?} has a key of its own");
            };
            let read = Change::decode(key, change.value().map(Into::into)).unwrap().unwrap();
            assert_eq!(read, *change);
            again.apply(read, at(0));
        }
        assert_eq!(again.durable(), self.group.durable());
    }

    fn join(&mut self, id: &str) -> Beat {
        self.heartbeat(joining(id), 0).unwrap()
    }

    /// A heartbeat of a client that has `indexes` of topic t.
    fn beat(&mut self, id: &str, epoch: i32, indexes: &[i32]) -> Beat {
        let beat = owning(id, epoch, self.owned(indexes));
        self.heartbeat(beat, 0).unwrap()
    }

    fn owned(&self, indexes: &[i32]) -> Partitions {
        match indexes.is_empty() {
            true => Partitions::new(),
            false => [(self.topics.id("t"), indexes.iter().copied().collect())].into(),
        }
    }

    fn refused(&mut self, beat: Heartbeat) -> ErrorCode {
        let before = self.log.len();
        let error = self.heartbeat(beat, 0).unwrap_err().error;
        assert_eq!(self.log.len(), before, "a refusal writes nothing");
        error
    }

    fn state_of(&self, id: &str) -> MemberState {
        self.group.members[id].current.state
    }
}

fn joining(id: &str) -> Heartbeat {
    Heartbeat {
        member_id: Str::copy_from(id),
        rebalance_timeout_ms: Some(20_000),
        topics: Some(BTreeSet::from(["t".into()])),
        owned: Some(Partitions::new()),
        ..Heartbeat::default()
    }
}

fn owning(id: &str, epoch: i32, owned: Partitions) -> Heartbeat {
    Heartbeat { member_id: Str::copy_from(id), epoch, owned: Some(owned), ..Heartbeat::default() }
}

fn indexes(partitions: Option<Partitions>) -> Vec<i32> {
    each(&partitions.expect("an assignment")).map(|(_, index)| index).collect()
}

#[test]
fn one_member_gets_all_at_once() {
    let mut f = Fixture::with_topic(3);
    let beat = f.join("a");
    assert_eq!((beat.epoch, indexes(beat.assignment)), (1, vec![0, 1, 2]));
    assert_eq!(f.group.state(), ConsumerGroupState::Stable);
    assert_eq!(f.beat("a", 1, &[0, 1, 2]).assignment, None, "nothing has changed");
    f.check_replay();
}

#[test]
fn a_partition_is_given_up_before_another_gets_it() {
    let mut f = Fixture::with_topic(2);
    f.join("a");
    let joined = f.join("b");
    assert_eq!((joined.epoch, indexes(joined.assignment)), (2, vec![]));
    assert_eq!(f.state_of("b"), MemberState::UnreleasedPartitions);
    // a hears of it, stays in its epoch, and says that it still has both.
    let told = f.beat("a", 1, &[0, 1]);
    assert_eq!((told.epoch, indexes(told.assignment)), (1, vec![0]));
    assert_eq!(f.beat("a", 1, &[0, 1]).epoch, 1);
    assert_eq!(f.beat("b", 2, &[]).assignment, None, "a has not given it up");
    assert_eq!(f.group.state(), ConsumerGroupState::Reconciling);
    // Now it has.
    assert_eq!(f.beat("a", 1, &[0]).epoch, 2);
    assert_eq!(indexes(f.beat("b", 2, &[]).assignment), [1]);
    assert_eq!(f.group.state(), ConsumerGroupState::Stable);
    f.check_replay();
}

#[test]
fn a_member_that_never_gives_up_is_out_at_the_rebalance_timeout() {
    let mut f = Fixture::with_topic(2);
    f.join("a");
    f.join("b");
    f.beat("a", 1, &[0, 1]);
    f.heartbeat(owning("a", 1, f.owned(&[0, 1])), 19_999).unwrap();
    f.heartbeat(owning("b", 2, Partitions::new()), 19_999).unwrap();
    f.tick(19_999);
    assert_eq!(f.group.member_count(), 2);
    f.tick(20_000);
    let left: Vec<&str> = f.group.members().map(|member| &*member.id).collect();
    assert_eq!(left, ["b"]);
    let owned = f.owned(&[0, 1]);
    assert_eq!(f.refused(owning("a", 1, owned)), ErrorCode::UnknownMemberId);
    assert_eq!(indexes(f.beat("b", 2, &[]).assignment), [0, 1]);
    f.check_replay();
}

#[test]
fn a_member_that_is_not_heard_of_is_out_at_the_session_timeout() {
    let mut f = Fixture::with_topic(1);
    f.join("a");
    assert_eq!(f.group.next_deadline(), Some(at(SESSION_MS)));
    f.tick(SESSION_MS - 1);
    assert_eq!(f.group.member_count(), 1);
    f.tick(SESSION_MS);
    assert_eq!(f.group.state(), ConsumerGroupState::Empty);
    assert_eq!(f.group.empty_since(), Some(at(SESSION_MS)));
    assert_eq!(f.group.next_deadline(), None);
    f.check_replay();
}

#[test]
fn a_lost_answer_does_no_harm() {
    let mut f = Fixture::with_topic(2);
    f.join("a");
    f.join("b");
    f.beat("a", 1, &[0, 1]);
    assert_eq!(f.beat("a", 1, &[0]).epoch, 2);
    // The answer with epoch 2 was lost.
    assert_eq!(f.beat("a", 1, &[0]).epoch, 2);
    let too_much = f.owned(&[0, 1]);
    assert_eq!(f.refused(owning("a", 1, too_much)), ErrorCode::FencedMemberEpoch);
    assert_eq!(f.refused(owning("a", 3, Partitions::new())), ErrorCode::FencedMemberEpoch);
    let joined_again = joining("a");
    assert_eq!(f.refused(joined_again), ErrorCode::FencedMemberEpoch);
}

#[test]
fn the_answer_to_a_join_can_be_lost_too() {
    let mut f = Fixture::with_topic(2);
    let first = f.join("a");
    assert_eq!(f.join("a"), first);
}

#[test]
fn strangers_and_surplus_members_are_refused() {
    let mut f = Fixture::with_topic(1);
    assert_eq!(f.refused(owning("x", 1, Partitions::new())), ErrorCode::UnknownMemberId);
    for id in ["a", "b", "c", "d", "e"] {
        f.join(id);
    }
    assert_eq!(f.refused(joining("f")), ErrorCode::GroupMaxSizeReached);
    let gone = Heartbeat { epoch: EPOCH_GONE, ..owning("x", 0, Partitions::new()) };
    assert_eq!(f.refused(gone), ErrorCode::UnknownMemberId);
}

#[test]
fn who_leaves_frees_its_partitions_at_once() {
    let mut f = Fixture::with_topic(2);
    f.join("a");
    f.join("b");
    let left = f.beat("a", EPOCH_GONE, &[]);
    assert_eq!((left.epoch, left.assignment), (EPOCH_GONE, None));
    assert_eq!(indexes(f.beat("b", 2, &[]).assignment), [0, 1]);
    f.check_replay();
}

fn static_joining(id: &str) -> Heartbeat {
    Heartbeat { instance_id: Some("i".into()), ..joining(id) }
}

#[test]
fn a_static_member_keeps_its_partitions_while_it_is_away() {
    let mut f = Fixture::with_topic(2);
    f.heartbeat(static_joining("a"), 0).unwrap();
    f.join("b");
    f.heartbeat(Heartbeat { instance_id: Some("i".into()), ..owning("a", 1, f.owned(&[0, 1])) }, 0)
        .unwrap();
    let beat = owning("a", 1, f.owned(&[0]));
    f.heartbeat(Heartbeat { instance_id: Some("i".into()), ..beat }, 0).unwrap();
    assert_eq!(indexes(f.beat("b", 2, &[]).assignment), [1]);
    assert_eq!(f.refused(static_joining("z")), ErrorCode::UnreleasedInstanceId);
    let away = Heartbeat {
        instance_id: Some("i".into()),
        ..owning("a", EPOCH_STATIC_GONE, Partitions::new())
    };
    assert_eq!(f.heartbeat(away, 0).unwrap().epoch, EPOCH_STATIC_GONE);
    assert_eq!(f.group.state(), ConsumerGroupState::Reconciling);
    assert_eq!(f.beat("b", 2, &[1]).assignment, None, "the place of a is kept");
    // It comes back under another id, to what it had, and no epoch begins.
    let back = f.heartbeat(static_joining("z"), 1).unwrap();
    assert_eq!((back.epoch, indexes(back.assignment), f.group.epoch()), (2, vec![0], 2));
    let old = Heartbeat { instance_id: Some("i".into()), ..owning("a", 2, Partitions::new()) };
    assert_eq!(f.refused(old), ErrorCode::FencedInstanceId);
    f.check_replay();
}

#[test]
fn a_static_member_that_stays_away_is_out_when_its_session_ends() {
    let mut f = Fixture::with_topic(2);
    f.heartbeat(static_joining("a"), 0).unwrap();
    f.join("b");
    let away = Heartbeat { epoch: EPOCH_STATIC_GONE, ..static_joining("a") };
    f.heartbeat(away, 30_000).unwrap();
    f.heartbeat(owning("b", 2, Partitions::new()), 30_000).unwrap();
    f.tick(SESSION_MS);
    let beat = f.heartbeat(owning("b", 2, Partitions::new()), SESSION_MS).unwrap();
    assert_eq!(indexes(beat.assignment), [0, 1]);
    let unknown = Heartbeat { instance_id: Some("i".into()), ..owning("a", 1, Partitions::new()) };
    assert_eq!(f.refused(unknown), ErrorCode::UnknownMemberId);
}

#[test]
fn partitions_that_are_added_and_topics_that_come_begin_an_epoch() {
    let mut f = Fixture::with_topic(1);
    let mut beat = joining("a");
    beat.topics = Some(BTreeSet::from(["t".into(), "later".into()]));
    assert_eq!(f.heartbeat(beat, 0).unwrap().epoch, 1);
    f.topics.set("t", 2);
    assert_eq!(f.beat("a", 1, &[0]).epoch, 2);
    f.topics.set("unread", 1);
    assert_eq!(f.beat("a", 2, &[0, 1]).epoch, 2, "nobody reads it");
    f.topics.set("later", 1);
    let got = f.beat("a", 2, &[0, 1]);
    assert_eq!((got.epoch, each(&got.assignment.unwrap()).count()), (3, 3));
    f.topics.set("t", 0);
    let got = f.beat("a", 3, &[]);
    assert_eq!((got.epoch, each(&got.assignment.unwrap()).count()), (4, 1));
    f.check_replay();
}

fn matching(id: &str, regex: &str) -> Heartbeat {
    Heartbeat { topics: None, regex: Some(Str::copy_from(regex)), ..joining(id) }
}

#[test]
fn a_pattern_means_whole_names_and_topics_that_come_later() {
    let mut f = Fixture::with_topic(1);
    f.topics.set("tt", 1);
    f.topics.set("ta", 1);
    let beat = f.heartbeat(matching("a", "t|ta"), 0).unwrap();
    let got = each(&beat.assignment.unwrap()).map(|(topic, _)| topic).collect::<BTreeSet<_>>();
    assert_eq!(got, BTreeSet::from([f.topics.id("t"), f.topics.id("ta")]));
    assert!(f.group.subscribes_to("ta") && !f.group.subscribes_to("tt"));
    let later = f.heartbeat(matching("b", "new.*"), 0).unwrap();
    assert_eq!(indexes(later.assignment), [0; 0]);
    f.topics.set("new-1", 1);
    let got = f.heartbeat(owning("b", later.epoch, Partitions::new()), 0).unwrap();
    assert_eq!((got.epoch, indexes(got.assignment)), (3, vec![0]));
    // It names topics now, and the pattern goes.
    let mut named = matching("b", "");
    (named.epoch, named.topics) = (3, Some(BTreeSet::new()));
    named.owned = Some([(f.topics.id("new-1"), BTreeSet::from([0]))].into());
    f.heartbeat(named, 0).unwrap();
    assert!(!f.group.subscribes_to("new-1"));
    assert_eq!(f.group.regexes.len(), 1);
    f.check_replay();
}

#[test]
fn patterns_that_are_none_or_too_large_are_refused() {
    let mut f = Fixture::with_topic(1);
    let long = "a".repeat(5_000);
    for regex in ["(", "a)|(b", "(?=x)", "(.{1000}){1000}", &long] {
        assert_eq!(f.refused(matching("a", regex)), ErrorCode::InvalidRegularExpression, "{regex}");
    }
    assert_eq!(f.group.member_count(), 0);
}

#[test]
fn the_assignor_is_the_one_most_members_like() {
    let mut f = Fixture::with_topic(4);
    assert_eq!(f.group.assignor(), Assignor::Uniform);
    let like =
        |id: &str, name: &str| Heartbeat { assignor: Some(Str::copy_from(name)), ..joining(id) };
    f.heartbeat(like("a", "range"), 0).unwrap();
    f.heartbeat(like("b", "range"), 0).unwrap();
    f.heartbeat(like("c", "uniform"), 0).unwrap();
    assert_eq!(f.group.assignor(), Assignor::Range);
}

#[test]
fn offsets_are_taken_from_the_epoch_that_holds() {
    let mut f = Fixture::with_topic(1);
    let operator = f.group.check_commit(&Str::new(), -1, 9);
    assert_eq!(operator, Ok(()), "the group is empty");
    f.join("a");
    let check =
        |id: &str, epoch, version| f.group.check_commit(&Str::copy_from(id), epoch, version).err();
    assert_eq!(check("a", 1, 9), None);
    assert_eq!(check("a", 0, 9), Some(ErrorCode::StaleMemberEpoch));
    assert_eq!(check("a", 1, 8), Some(ErrorCode::UnsupportedVersion));
    assert_eq!(check("x", 1, 9), Some(ErrorCode::UnknownMemberId));
    assert_eq!(check("", -1, 9), Some(ErrorCode::UnknownMemberId));
    let id = Str::from("a");
    assert_eq!(f.group.check_fetch(None, -1), Ok(()));
    assert_eq!(f.group.check_fetch(Some(&id), 1), Ok(()));
    assert_eq!(f.group.check_fetch(Some(&id), 2), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(f.group.check_txn_commit(&Str::new(), None, -1), Ok(()));
    assert_eq!(f.group.check_txn_commit(&id, None, 1), Ok(()));
    assert_eq!(f.group.check_txn_commit(&id, None, 2), Err(ErrorCode::IllegalGeneration));
}

#[test]
fn a_restored_group_gives_its_members_a_whole_session_and_begins_no_epoch() {
    let mut f = Fixture::with_topic(2);
    f.join("a");
    f.join("b");
    f.beat("a", 1, &[0, 1]);
    f.group.seen_topics = None;
    f.group.restored(at(1_000_000));
    assert_eq!(f.group.next_deadline(), Some(at(1_020_000)), "a must still give one up");
    let beat = owning("b", 2, Partitions::new());
    f.heartbeat(beat, 1_000_000).unwrap();
    assert_eq!(f.group.epoch(), 2);
    f.group.shift(500);
    assert_eq!(f.group.next_deadline(), Some(at(1_020_500)));
}

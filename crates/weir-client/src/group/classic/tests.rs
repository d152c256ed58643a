//! One member step by step, and whole groups against a small model of a coordinator.

use super::*;
use crate::assignor::{Assignor, Member};
use crate::group::holdings::Step;
use crate::group::Interest;
use proptest::prelude::*;
use std::collections::BTreeMap;
use weir_protocol::types::PartitionId;

fn config(assignor: Assignor) -> GroupConfig {
    let mut config = GroupConfig::new("g");
    config.assignors = vec![assignor];
    config.session_timeout_ms = 10_000;
    config.poll_interval_ms_max = 60_000;
    config
}

fn at(partition: i32) -> TopicPartition {
    TopicPartition::new("t", PartitionId(partition))
}

fn subscribed(topic: &'static str) -> Event {
    Event::Subscribed(Interest { topics: vec![Str::from(topic)], pattern: None })
}

fn broker(code: ErrorCode) -> ClientError {
    ClientError::Broker { api: "Test", code, message: None }
}

fn joined(generation: i32, partitions: &[i32]) -> Result<Joined, JoinFailed> {
    Ok(Joined {
        member_id: Str::from("m"),
        generation: GenerationId(generation),
        assigned: partitions.iter().map(|partition| at(*partition)).collect(),
    })
}

fn refused(error: ClientError) -> Result<Joined, JoinFailed> {
    Err(JoinFailed { error, member_id: None, wait_ms: 100 })
}

/// The join among the effects.
fn join(effects: &[Effect]) -> JoinCall {
    match effects {
        [Effect::Join(call)] => call.clone(),
        other => panic!("{other:?}"),
    }
}

/// Does all steps, as `poll` does; returns them.
fn settle(member: &mut ClassicMember, now: MonoMs) -> (Vec<Step>, Vec<Effect>) {
    let (mut steps, mut effects) = (Vec::new(), member.handle(Event::Polled, now));
    while let Some((id, step)) = member.holdings().next_step() {
        steps.push(step);
        effects.extend(member.handle(Event::StepDone(id), now));
    }
    effects.retain(|effect| *effect != Effect::WakePoll);
    (steps, effects)
}

fn next_step(member: &ClassicMember) -> Option<Step> {
    member.holdings().next_step().map(|(_, step)| step)
}

fn step_done(member: &mut ClassicMember, now: MonoMs) -> Vec<Effect> {
    let (id, _) = member.holdings().next_step().unwrap();
    member.handle(Event::StepDone(id), now)
}

/// A member of generation 1 that owns partitions 0 and 1.
fn stable(assignor: Assignor) -> ClassicMember {
    let mut member = ClassicMember::new(&config(assignor));
    assert_eq!(member.handle(subscribed("t"), MonoMs(0)), []);
    let call = join(&member.handle(Event::Polled, MonoMs(0)));
    assert_eq!((call.attempt, &*call.member_id, call.subscription.generation), (1, "", -1));
    member.handle(Event::Joined { attempt: 1, result: joined(1, &[0, 1]) }, MonoMs(0));
    let (steps, effects) = settle(&mut member, MonoMs(0));
    assert_eq!((steps, effects), (vec![Step::Assign(vec![at(0), at(1)])], vec![]));
    member
}

fn heartbeat(member: &mut ClassicMember, now: MonoMs, result: Result<(), ClientError>) {
    let effects = member.handle(Event::Tick, now);
    let [Effect::Heartbeat { attempt, .. }] = effects[..] else { panic!("{effects:?}") };
    member.handle(Event::HeartbeatAnswered { attempt, result }, now);
}

#[test]
fn an_eager_member_gives_everything_up_before_it_joins_again() {
    let mut member = stable(Assignor::Range);
    heartbeat(&mut member, MonoMs(3_000), Err(broker(ErrorCode::RebalanceInProgress)));
    let effects = member.handle(Event::Polled, MonoMs(3_100));
    assert_eq!(effects, [], "not before poll has let go");
    assert_eq!(next_step(&member), Some(Step::Revoke(vec![at(0), at(1)])));
    assert_eq!(member.generation(), Some(GenerationId(1)), "the commit is of this generation");
    let call = join(&step_done(&mut member, MonoMs(3_200)));
    assert_eq!((&*call.member_id, call.subscription.owned), ("m", vec![]));
    assert_eq!(member.generation(), None);
}

#[test]
fn a_cooperative_member_keeps_what_it_keeps() {
    let mut member = stable(Assignor::CooperativeSticky);
    let tenure = member.holdings().tenure(&at(0));
    heartbeat(&mut member, MonoMs(3_000), Err(broker(ErrorCode::RebalanceInProgress)));
    let call = join(&member.handle(Event::Polled, MonoMs(3_100)));
    assert_eq!(call.subscription.owned, [at(0), at(1)]);
    assert_eq!((call.subscription.generation, member.generation()), (1, Some(GenerationId(1))));
    member.handle(Event::Joined { attempt: 2, result: joined(2, &[0, 5]) }, MonoMs(3_200));
    let (steps, effects) = settle(&mut member, MonoMs(3_300));
    assert_eq!(steps, [Step::Revoke(vec![at(1)]), Step::Assign(vec![at(5)])]);
    // What was given up is handed on by one more join.
    let call = join(&effects);
    assert_eq!(call.subscription.owned, [at(0), at(5)]);
    assert_eq!((call.subscription.generation, call.attempt), (2, 3));
    assert_eq!(member.holdings().tenure(&at(0)), tenure, "it never went");
    member.handle(Event::Joined { attempt: 3, result: joined(3, &[0, 5]) }, MonoMs(3_400));
    assert_eq!(settle(&mut member, MonoMs(3_500)), (vec![Step::Assign(vec![])], vec![]));
}

#[test]
fn a_topic_that_is_not_wanted_any_more_is_given_up_before_the_join() {
    let mut member = stable(Assignor::CooperativeSticky);
    member.handle(subscribed("u"), MonoMs(1));
    assert_eq!(member.handle(Event::Polled, MonoMs(1)), []);
    assert_eq!(next_step(&member), Some(Step::Revoke(vec![at(0), at(1)])));
    let call = join(&step_done(&mut member, MonoMs(2)));
    assert_eq!((call.subscription.topics, call.subscription.owned), (vec![Str::from("u")], vec![]));
}

#[test]
fn an_expelled_member_has_lost_everything_at_once_and_joins_as_a_new_one() {
    for assignor in [Assignor::Range, Assignor::CooperativeSticky] {
        let mut member = stable(assignor);
        heartbeat(&mut member, MonoMs(3_000), Err(broker(ErrorCode::UnknownMemberId)));
        assert!(member.holdings().is_empty(), "before poll knows");
        let (steps, effects) = settle(&mut member, MonoMs(3_100));
        assert_eq!(steps, [Step::Lose(vec![at(0), at(1)])]);
        let call = join(&effects);
        assert_eq!((&*call.member_id, call.subscription.owned.len()), ("", 0));
    }
}

#[test]
fn answers_to_earlier_attempts_change_nothing() {
    let mut member = stable(Assignor::CooperativeSticky);
    let effects = member.handle(Event::Tick, MonoMs(3_000));
    let [Effect::Heartbeat { attempt, .. }] = effects[..] else { panic!("{effects:?}") };
    member.handle(subscribed("t"), MonoMs(3_000));
    join(&member.handle(Event::Polled, MonoMs(3_000)));
    let late =
        Event::HeartbeatAnswered { attempt, result: Err(broker(ErrorCode::IllegalGeneration)) };
    assert_eq!(member.handle(late, MonoMs(3_100)), []);
    let late = Event::Joined { attempt: 1, result: refused(broker(ErrorCode::UnknownMemberId)) };
    assert_eq!(member.handle(late, MonoMs(3_100)), []);
    assert_eq!(member.holdings().owned_list(), [at(0), at(1)]);
}

#[test]
fn a_member_that_does_not_poll_leaves_and_says_so() {
    let mut member = stable(Assignor::Range);
    member.handle(Event::Polled, MonoMs(0));
    let mut now = 0;
    let left = loop {
        now += 1_000;
        let effects = member.handle(Event::Tick, MonoMs(now));
        if let [Effect::Heartbeat { attempt, .. }] = effects[..] {
            member.handle(Event::HeartbeatAnswered { attempt, result: Ok(()) }, MonoMs(now));
        } else if !effects.is_empty() {
            break effects;
        }
        assert!(now < 70_000, "it never left");
    };
    assert_eq!(now, 60_000);
    assert_eq!(left[0], Effect::Leave { member_id: Str::from("m") });
    let (steps, effects) = settle(&mut member, MonoMs(now + 1));
    let told = Step::Fail(ClientError::PollTooLate { interval_ms: 60_000 });
    assert_eq!(steps, [Step::Lose(vec![at(0), at(1)]), told]);
    join(&effects);
}

#[test]
fn waiting_in_poll_is_polling() {
    let mut member = stable(Assignor::Range);
    member.handle(Event::Waiting, MonoMs(0));
    for now in (3_000..200_000).step_by(3_000) {
        heartbeat(&mut member, MonoMs(now), Ok(()));
    }
    assert!(member.holdings().is_settled());
}

#[test]
fn the_deadline_is_that_of_the_next_heartbeat_the_session_or_the_poll() {
    let mut member = stable(Assignor::Range);
    assert_eq!(member.deadline(), MonoMs(3_000));
    member.handle(Event::Tick, MonoMs(3_000));
    member.handle(Event::Tick, MonoMs(6_000));
    member.handle(Event::Tick, MonoMs(9_000));
    assert_eq!(member.deadline(), MonoMs(10_000), "nobody has answered");
    let effects = member.handle(Event::Tick, MonoMs(10_000));
    assert_eq!(effects, [Effect::WakePoll]);
    assert_eq!(member.deadline(), MonoMs::MAX, "the next poll joins");
}

#[test]
fn a_member_that_closes_begins_no_join() {
    let mut member = stable(Assignor::Range);
    heartbeat(&mut member, MonoMs(3_000), Err(broker(ErrorCode::RebalanceInProgress)));
    member.handle(Event::Closing, MonoMs(3_100));
    assert_eq!(next_step(&member), Some(Step::Revoke(vec![at(0), at(1)])));
    assert_eq!(member.generation(), Some(GenerationId(1)), "for the last commit");
    assert_eq!(step_done(&mut member, MonoMs(3_200)), []);
    let left = member.handle(Event::Left, MonoMs(3_300));
    assert_eq!(left, [Effect::Leave { member_id: Str::from("m") }]);
}

#[test]
fn a_fenced_static_member_says_so() {
    let mut member = stable(Assignor::Range);
    heartbeat(&mut member, MonoMs(3_000), Err(broker(ErrorCode::FencedInstanceId)));
    let (steps, effects) = settle(&mut member, MonoMs(3_001));
    let told = Step::Fail(broker(ErrorCode::FencedInstanceId));
    assert_eq!((steps, effects), (vec![Step::Lose(vec![at(0), at(1)]), told], vec![]));
    // It does not put out the one that has its id now.
    let (steps, effects) = settle(&mut member, MonoMs(4_000));
    assert_eq!((steps, effects), (vec![Step::Fail(fenced())], vec![]), "each poll says so");
    assert_eq!(member.deadline(), MonoMs::MAX);
    member.handle(subscribed("t"), MonoMs(5_000));
    join(&settle(&mut member, MonoMs(5_000)).1);
}

#[test]
fn a_member_fenced_in_a_join_does_not_join_again() {
    let mut member = ClassicMember::new(&config(Assignor::Range));
    member.handle(subscribed("t"), MonoMs(0));
    member.handle(Event::Polled, MonoMs(0));
    let error = broker(ErrorCode::FencedInstanceId);
    member.handle(Event::Joined { attempt: 1, result: refused(error.clone()) }, MonoMs(1));
    assert_eq!(settle(&mut member, MonoMs(2)), (vec![Step::Fail(error)], vec![]));
}

#[test]
fn a_join_answered_while_it_closes_gives_it_nothing_but_the_id_to_leave_with() {
    let mut member = ClassicMember::new(&config(Assignor::CooperativeSticky));
    member.handle(subscribed("t"), MonoMs(0));
    member.handle(Event::Polled, MonoMs(0));
    member.handle(Event::Closing, MonoMs(1));
    member.handle(Event::Joined { attempt: 1, result: joined(1, &[0, 1]) }, MonoMs(2));
    assert!(member.holdings().is_settled() && member.generation().is_none());
    let left = member.handle(Event::Left, MonoMs(3));
    assert_eq!(left, [Effect::Leave { member_id: Str::from("m") }]);
}

#[test]
fn a_cooperative_member_nobody_answers_while_it_joins_loses_everything_after_its_session() {
    let mut member = stable(Assignor::CooperativeSticky);
    member.handle(subscribed("t"), MonoMs(1_000));
    let mut call = join(&member.handle(Event::Polled, MonoMs(1_000)));
    let lost = || ClientError::ConnectionLost { broker: String::new(), reason: String::new() };
    for now in [2_000, 9_000] {
        let failed = Event::Joined { attempt: call.attempt, result: refused(lost()) };
        assert_eq!(member.handle(failed, MonoMs(now)), [Effect::ForgetCoordinator]);
        assert_eq!(member.deadline(), MonoMs(now + 100));
        call = join(&member.handle(Event::Tick, MonoMs(now + 100)));
        assert_eq!(call.subscription.owned.len(), 2);
    }
    member.handle(Event::Joined { attempt: call.attempt, result: refused(lost()) }, MonoMs(11_000));
    assert!(member.holdings().is_empty());
}

#[test]
fn a_join_that_cannot_be_is_told_and_tried_again_by_the_next_poll() {
    let mut member = ClassicMember::new(&config(Assignor::Range));
    member.handle(subscribed("t"), MonoMs(0));
    member.handle(Event::Polled, MonoMs(0));
    let error = broker(ErrorCode::InconsistentGroupProtocol);
    member.handle(Event::Joined { attempt: 1, result: refused(error.clone()) }, MonoMs(1));
    assert_eq!(next_step(&member), Some(Step::Fail(error)));
    assert_eq!(join(&step_done(&mut member, MonoMs(2))).attempt, 2);
}

/// A coordinator of Kafka's rules: a rebalance ends when all members have joined.
#[derive(Debug, Default)]
struct Coordinator {
    generation: i32,
    made: usize,
    /// Member id to what it joined with, if it has joined in the rebalance under way.
    members: BTreeMap<Str, Option<(usize, JoinCall)>>,
    is_rebalancing: bool,
}

impl Coordinator {
    fn join(&mut self, from: usize, mut call: JoinCall) -> Result<(), ErrorCode> {
        if call.member_id.is_empty() {
            self.made += 1;
            call.member_id = Str::copy_from(&format!("m{}", self.made));
        } else if !self.members.contains_key(&call.member_id) {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.is_rebalancing = true;
        self.members.insert(call.member_id.clone(), Some((from, call)));
        Ok(())
    }

    /// Returns who waits in a join for its answer.
    fn remove(&mut self, member_id: &Str) -> Option<(usize, Event)> {
        let parked = self.members.remove(member_id)?;
        self.is_rebalancing = true;
        let (from, call) = parked?;
        let result = refused(broker(ErrorCode::UnknownMemberId));
        Some((from, Event::Joined { attempt: call.attempt, result }))
    }

    fn heartbeat(&self, member_id: &Str, generation: GenerationId) -> Result<(), ClientError> {
        match self.members.get(member_id) {
            None => Err(broker(ErrorCode::UnknownMemberId)),
            Some(None) if self.is_rebalancing => Err(broker(ErrorCode::RebalanceInProgress)),
            Some(_) if generation.get() != self.generation => {
                Err(broker(ErrorCode::IllegalGeneration))
            }
            Some(_) => Ok(()),
        }
    }

    /// If all have joined: answers, by who asked.
    fn complete(&mut self, assignor: Assignor, counts: &BTreeMap<Str, i32>) -> Vec<(usize, Event)> {
        if !self.is_rebalancing || self.members.values().any(Option::is_none) {
            return Vec::new();
        }
        self.is_rebalancing = false;
        self.generation += 1;
        let calls: Vec<(usize, JoinCall)> =
            self.members.values_mut().filter_map(Option::take).collect();
        let members: Vec<Member> = calls
            .iter()
            .map(|(_, call)| Member {
                member_id: call.member_id.clone(),
                instance_id: None,
                topics: call.subscription.topics.clone(),
                owned: call.subscription.owned.clone(),
                generation: call.subscription.generation,
            })
            .collect();
        let assigned = assignor.assign(&members, counts);
        let generation = GenerationId(self.generation);
        let answer = |((from, call), assigned): ((usize, JoinCall), Vec<TopicPartition>)| {
            let member_id = call.member_id;
            let result = Ok(Joined { member_id, generation, assigned });
            (from, Event::Joined { attempt: call.attempt, result })
        };
        calls.into_iter().zip(assigned).map(answer).collect()
    }
}

/// Members and coordinator, with answers that take their time.
#[derive(Debug)]
struct World {
    assignor: Assignor,
    counts: BTreeMap<Str, i32>,
    members: Vec<Option<ClassicMember>>,
    coordinator: Coordinator,
    answers: Vec<(usize, Event)>,
    now: MonoMs,
}

#[derive(Debug, Clone)]
enum Act {
    Start,
    Poll(usize),
    /// One step only: the program is in the middle of `poll`.
    OneStep(usize),
    Answer(usize),
    Second,
    Close(usize),
    Expel(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => Just(Act::Start),
        8 => (0..6_usize).prop_map(Act::Poll),
        4 => (0..6_usize).prop_map(Act::OneStep),
        8 => (0..8_usize).prop_map(Act::Answer),
        6 => Just(Act::Second),
        1 => (0..6_usize).prop_map(Act::Close),
        1 => (0..6_usize).prop_map(Act::Expel),
    ]
}

impl World {
    fn act(&mut self, act: Act) {
        let live: Vec<usize> =
            (0..self.members.len()).filter(|index| self.members[*index].is_some()).collect();
        let pick = |at: usize| live.get(at % live.len().max(1)).copied();
        match act {
            Act::Start if live.len() < 6 => {
                let mut member = ClassicMember::new(&config(self.assignor));
                member.handle(subscribed("t"), self.now);
                self.members.push(Some(member));
            }
            Act::Start => {}
            Act::Poll(at) => {
                let Some(index) = pick(at) else { return };
                self.tell(index, Event::Polled);
                while self.has_step(index) {
                    self.step_done(index);
                    self.check();
                }
            }
            Act::OneStep(at) => {
                let Some(index) = pick(at) else { return };
                match self.has_step(index) {
                    true => self.step_done(index),
                    false => self.tell(index, Event::Polled),
                }
            }
            Act::Answer(at) if !self.answers.is_empty() => {
                let (index, event) = self.answers.remove(at % self.answers.len());
                self.tell(index, event);
            }
            Act::Answer(_) => {}
            Act::Second => {
                self.now = self.now.plus_ms(1_000);
                live.into_iter().for_each(|index| self.tell(index, Event::Tick));
            }
            Act::Close(at) => {
                let Some(index) = pick(at) else { return };
                self.tell(index, Event::Closing);
                while self.has_step(index) {
                    self.step_done(index);
                }
                self.tell(index, Event::Left);
                self.members[index] = None;
            }
            Act::Expel(at) => {
                let Some(index) = pick(at) else { return };
                let id = self.members[index].as_ref().unwrap().member_id().clone();
                self.answers.extend(self.coordinator.remove(&id));
            }
        }
        let done = self.coordinator.complete(self.assignor, &self.counts);
        self.answers.extend(done);
        self.check();
    }

    fn step_done(&mut self, index: usize) {
        let member = self.members[index].as_ref();
        if let Some((id, _)) = member.and_then(|member| member.holdings().next_step()) {
            self.tell(index, Event::StepDone(id));
        }
    }

    fn has_step(&self, index: usize) -> bool {
        self.members[index].as_ref().is_some_and(|m| !m.holdings().is_settled())
    }

    fn tell(&mut self, index: usize, event: Event) {
        let Some(member) = self.members[index].as_mut() else { return };
        for effect in member.handle(event, self.now) {
            match effect {
                Effect::Join(call) => {
                    let attempt = call.attempt;
                    if let Err(code) = self.coordinator.join(index, call) {
                        let result = refused(broker(code));
                        self.answers.push((index, Event::Joined { attempt, result }));
                    }
                }
                Effect::Heartbeat { attempt, member_id, generation } => {
                    let result = self.coordinator.heartbeat(&member_id, generation);
                    self.answers.push((index, Event::HeartbeatAnswered { attempt, result }));
                }
                Effect::Leave { member_id } => {
                    self.answers.extend(self.coordinator.remove(&member_id));
                }
                Effect::Beat(_) | Effect::ForgetCoordinator | Effect::WakePoll => {}
            }
        }
    }

    /// No two members of the group hold one partition. Who was expelled may not know it yet.
    fn check(&self) {
        let mut seen = BTreeSet::new();
        for member in self.members.iter().flatten() {
            if member.phase == Phase::Joining && self.assignor != Assignor::CooperativeSticky {
                assert!(member.holdings().is_empty(), "an eager member owns while it joins");
            }
            if !self.coordinator.members.contains_key(member.member_id()) {
                continue;
            }
            for partition in member.holdings().owned() {
                assert!(seen.insert(partition.clone()), "two own {partition}");
            }
        }
    }

    /// Who is gone without a word is out when its session is over.
    fn end_sessions(&mut self) {
        let live: BTreeSet<Str> =
            self.members.iter().flatten().map(|member| member.member_id().clone()).collect();
        let ids: Vec<Str> = self.coordinator.members.keys().cloned().collect();
        for id in ids.iter().filter(|id| !live.contains(*id)) {
            // A parked join keeps its member; it does not know its id yet.
            let parked = self.coordinator.members[id].as_ref();
            if parked.is_none_or(|(from, _)| self.members[*from].is_none()) {
                self.answers.extend(self.coordinator.remove(id));
            }
        }
    }

    /// Everybody polls and everything is answered, until nothing changes.
    fn calm(&mut self) {
        for _ in 0..40 {
            while !self.answers.is_empty() {
                self.act(Act::Answer(0));
            }
            self.end_sessions();
            (0..self.members.len()).for_each(|index| self.act(Act::Poll(index)));
            self.act(Act::Second);
        }
    }
}

proptest! {
    #[test]
    fn a_group_settles_with_every_partition_at_one_member(
        cooperative: bool,
        partitions in 0..12_i32,
        acts in proptest::collection::vec(act(), 1..120),
    ) {
        let assignor =
            if cooperative { Assignor::CooperativeSticky } else { Assignor::Range };
        let mut world = World {
            assignor,
            counts: BTreeMap::from([(Str::from("t"), partitions)]),
            members: Vec::new(),
            coordinator: Coordinator::default(),
            answers: Vec::new(),
            now: MonoMs(0),
        };
        for act in acts {
            world.act(act);
        }
        world.calm();
        let live: Vec<&ClassicMember> = world.members.iter().flatten().collect();
        let owned: usize = live.iter().map(|member| member.holdings().owned().count()).sum();
        let expected = if live.is_empty() { 0 } else { partitions as usize };
        prop_assert_eq!(owned, expected);
        prop_assert!(live.iter().all(|member| member.phase == Phase::Stable));
    }
}

//! One member step by step, and whole groups against a small model of a KIP-848 coordinator.

use super::*;
use crate::config::GroupProtocol;
use crate::group::holdings::Step;
use proptest::prelude::*;

const TOPIC: Uuid = Uuid([7; 16]);

fn config() -> GroupConfig {
    let mut config = GroupConfig::new("g");
    config.protocol = GroupProtocol::Consumer;
    config.session_timeout_ms = 45_000;
    config.poll_interval_ms_max = 60_000;
    config
}

fn new_member(id: &str) -> ConsumerMember {
    let mut member = ConsumerMember::new(&config(), Str::copy_from(id));
    let interest = Interest { topics: vec![Str::from("t")], pattern: None };
    member.handle(Event::Subscribed(interest), MonoMs(0));
    member.handle(Event::Named(BTreeMap::from([(TOPIC, Str::from("t"))])), MonoMs(0));
    member
}

fn at(partition: i32) -> TopicPartition {
    TopicPartition::new("t", PartitionId(partition))
}

fn broker(code: ErrorCode) -> ClientError {
    ClientError::Broker { api: "Test", code, message: None }
}

fn answer(attempt: u64, epoch: i32, assigned: Option<&[i32]>) -> Event {
    let places = |list: &[i32]| list.iter().map(|number| (TOPIC, *number)).collect();
    let (member_id, interval_ms) = (None, 5_000);
    let assigned = assigned.map(places);
    Event::Beaten { attempt, result: Ok(Beaten { member_id, epoch, interval_ms, assigned }) }
}

fn failed(attempt: u64, error: ClientError) -> Event {
    Event::Beaten { attempt, result: Err(BeatFailed { error, wait_ms: 100 }) }
}

fn beat(effects: &[Effect]) -> Beat {
    let beats: Vec<&Beat> = effects
        .iter()
        .filter_map(|effect| if let Effect::Beat(beat) = effect { Some(beat) } else { None })
        .collect();
    assert_eq!(beats.len(), 1, "{effects:?}");
    beats[0].clone()
}

fn held(partitions: &[i32]) -> Option<BTreeMap<Uuid, Vec<i32>>> {
    let held = (!partitions.is_empty()).then(|| (TOPIC, partitions.to_vec()));
    Some(held.into_iter().collect())
}

fn steps(member: &mut ConsumerMember, now: MonoMs) -> (Vec<Step>, Vec<Effect>) {
    let (mut steps, mut effects) = (Vec::new(), Vec::new());
    while let Some((id, step)) = member.holdings().next_step() {
        steps.push(step);
        effects.extend(member.handle(Event::StepDone(id), now));
    }
    (steps, effects)
}

fn next_step(member: &ConsumerMember) -> Option<Step> {
    member.holdings().next_step().map(|(_, step)| step)
}

/// A member of epoch 1 that holds 0 and 1 and has said so.
fn stable() -> ConsumerMember {
    let mut member = new_member("m");
    let joining = beat(&member.handle(Event::Polled, MonoMs(0)));
    assert_eq!((joining.epoch, joining.held), (JOIN_EPOCH, held(&[])));
    assert!(joining.interest.is_some());
    member.handle(answer(1, 1, Some(&[0, 1])), MonoMs(10));
    let (taken, effects) = steps(&mut member, MonoMs(20));
    assert_eq!(taken, [Step::Assign(vec![at(0), at(1)])]);
    let report = beat(&effects);
    assert_eq!((report.epoch, report.held, report.interest), (1, held(&[0, 1]), None));
    member.handle(answer(report.attempt, 1, None), MonoMs(30));
    member
}

#[test]
fn what_goes_is_reported_once_poll_has_let_go() {
    let mut member = stable();
    assert_eq!(member.deadline(), MonoMs(5_030));
    let idle = beat(&member.handle(Event::Tick, MonoMs(5_030)));
    assert_eq!((idle.held, idle.interest), (None, None), "nothing is new");
    assert_eq!(
        member.handle(answer(idle.attempt, 1, Some(&[1])), MonoMs(5_040)),
        [Effect::WakePoll]
    );
    assert_eq!(next_step(&member), Some(Step::Revoke(vec![at(0)])));
    let (_, effects) = steps(&mut member, MonoMs(5_050));
    assert_eq!(beat(&effects).held, held(&[1]));
}

#[test]
fn a_fenced_member_has_lost_everything_and_joins_again_with_its_id() {
    for code in [ErrorCode::FencedMemberEpoch, ErrorCode::UnknownMemberId] {
        let mut member = stable();
        let idle = beat(&member.handle(Event::Tick, MonoMs(5_030)));
        member.handle(failed(idle.attempt, broker(code)), MonoMs(5_040));
        assert!(member.holdings().is_empty() && member.epoch().is_none());
        let (taken, _) = steps(&mut member, MonoMs(5_050));
        assert_eq!(taken, [Step::Lose(vec![at(0), at(1)])]);
        let again = beat(&member.handle(Event::Tick, MonoMs(5_150)));
        assert_eq!((again.epoch, &*again.member_id, again.held), (0, "m", held(&[])));
    }
}

#[test]
fn after_a_lost_answer_it_says_all_but_not_at_once() {
    let mut member = stable();
    let idle = beat(&member.handle(Event::Tick, MonoMs(5_030)));
    let lost = ClientError::ConnectionLost { broker: String::new(), reason: String::new() };
    member.handle(failed(idle.attempt, lost), MonoMs(5_040));
    assert_eq!(member.handle(Event::Polled, MonoMs(5_050)), [], "it waits a while");
    assert_eq!(member.deadline(), MonoMs(5_140));
    let again = beat(&member.handle(Event::Tick, MonoMs(5_140)));
    assert_eq!((again.epoch, again.held), (1, held(&[0, 1])));
    assert!(again.interest.is_some());
}

#[test]
fn an_assignment_lost_while_poll_has_steps_to_do_is_asked_for_after_them() {
    let mut member = stable();
    let idle = beat(&member.handle(Event::Tick, MonoMs(5_030)));
    member.handle(answer(idle.attempt, 1, Some(&[1])), MonoMs(5_040));
    // The next takes 1 too, and its answer is lost.
    let second = beat(&member.handle(Event::Tick, MonoMs(10_040)));
    let lost = ClientError::ConnectionLost { broker: String::new(), reason: String::new() };
    member.handle(failed(second.attempt, lost), MonoMs(10_050));
    let third = beat(&member.handle(Event::Tick, MonoMs(10_150)));
    assert_eq!(third.held, None, "0 is on its way out");
    member.handle(answer(third.attempt, 1, None), MonoMs(10_160));
    let all = beat(&steps(&mut member, MonoMs(10_170)).1);
    assert!(all.interest.is_some() && all.held == held(&[1]), "{all:?}");
    member.handle(answer(all.attempt, 1, Some(&[])), MonoMs(10_180));
    let report = beat(&steps(&mut member, MonoMs(10_190)).1);
    assert_eq!((report.interest, report.held), (None, held(&[])));
}

#[test]
fn a_member_that_does_not_poll_leaves_and_says_so() {
    let mut member = stable();
    member.handle(Event::Polled, MonoMs(1_000));
    let mut now = 1_000;
    let left = loop {
        now += 1_000;
        let effects = member.handle(Event::Tick, MonoMs(now));
        match effects.first() {
            Some(Effect::Beat(beat)) if beat.epoch == 1 => {
                member.handle(answer(beat.attempt, 1, None), MonoMs(now));
            }
            Some(Effect::Beat(goodbye)) => break goodbye.clone(),
            _ => {}
        }
        assert!(now < 70_000);
    };
    assert_eq!((left.epoch, now), (LEAVE_EPOCH, 61_000));
    let (taken, _) = steps(&mut member, MonoMs(now));
    let told = Step::Fail(ClientError::PollTooLate { interval_ms: 60_000 });
    assert_eq!(taken, [Step::Lose(vec![at(0), at(1)]), told]);
}

#[test]
fn a_static_member_says_that_it_will_be_back_and_waits_for_its_id() {
    let config = GroupConfig { instance_id: Some("i".to_owned()), ..config() };
    let mut member = ConsumerMember::new(&config, Str::from("m"));
    member.handle(Event::Subscribed(Interest::default()), MonoMs(0));
    let joining = beat(&member.handle(Event::Polled, MonoMs(0)));
    let taken = || broker(ErrorCode::UnreleasedInstanceId);
    assert_eq!(member.handle(failed(joining.attempt, taken()), MonoMs(1)), []);
    assert!(member.holdings().is_settled(), "it may come free");
    let joining = beat(&member.handle(Event::Tick, MonoMs(101)));
    member.handle(answer(joining.attempt, 3, Some(&[])), MonoMs(102));
    assert_eq!(beat(&member.handle(Event::Left, MonoMs(200))).epoch, LEAVE_STATIC_EPOCH);

    let mut other = ConsumerMember::new(&config, Str::from("n"));
    other.handle(Event::Subscribed(Interest::default()), MonoMs(0));
    let joining = beat(&other.handle(Event::Polled, MonoMs(0)));
    other.handle(failed(joining.attempt, taken()), MonoMs(1));
    let joining = beat(&other.handle(Event::Tick, MonoMs(70_000)));
    other.handle(failed(joining.attempt, taken()), MonoMs(70_001));
    assert_eq!(next_step(&other), Some(Step::Fail(taken())), "not for ever");
}

#[test]
fn a_topic_made_again_is_given_up_and_taken() {
    let mut member = stable();
    let new_id = Uuid([8; 16]);
    member.handle(Event::Named(BTreeMap::from([(new_id, Str::from("t"))])), MonoMs(40));
    let idle = beat(&member.handle(Event::Tick, MonoMs(5_030)));
    let assigned = Some(BTreeSet::from([(new_id, 0)]));
    let beaten = Beaten { member_id: None, epoch: 2, interval_ms: 5_000, assigned };
    assert_eq!(member.made_again_as(&at(0)), None);
    member.handle(Event::Beaten { attempt: idle.attempt, result: Ok(beaten) }, MonoMs(5_040));
    assert_eq!(member.made_again_as(&at(1)), Some(new_id), "what was read of it is not committed");
    let (taken, effects) = steps(&mut member, MonoMs(5_050));
    assert_eq!(taken, [Step::Revoke(vec![at(0), at(1)]), Step::Assign(vec![at(0)])]);
    assert_eq!(member.made_again_as(&at(0)), None);
    assert_eq!(beat(&effects).held, Some(BTreeMap::from([(new_id, vec![0])])));
}

#[test]
fn a_topic_without_a_name_waits_for_it() {
    let mut member = ConsumerMember::new(&config(), Str::from("m"));
    let pattern = Some(Str::from("t.*"));
    member.handle(Event::Subscribed(Interest { topics: vec![], pattern }), MonoMs(0));
    let joining = beat(&member.handle(Event::Polled, MonoMs(0)));
    member.handle(answer(joining.attempt, 1, Some(&[0])), MonoMs(1));
    assert_eq!(member.unnamed(), BTreeSet::from([TOPIC]));
    let (taken, _) = steps(&mut member, MonoMs(2));
    assert_eq!(taken, [Step::Assign(vec![])]);
    member.handle(Event::Named(BTreeMap::from([(TOPIC, Str::from("t"))])), MonoMs(3));
    assert_eq!(steps(&mut member, MonoMs(4)).0, [Step::Assign(vec![at(0)])]);
}

#[test]
fn a_commit_of_a_stale_epoch_has_the_new_one_asked_for() {
    let mut member = stable();
    let stale = broker(ErrorCode::StaleMemberEpoch);
    beat(&member.handle(Event::CommitRefused { epoch: 1, error: stale }, MonoMs(40)));
    assert_eq!(member.holdings().owned_list(), [at(0), at(1)]);
}

#[test]
fn a_broker_that_is_not_the_coordinator_does_not_keep_a_session() {
    let mut member = stable();
    let mut now = 5_030;
    while member.epoch().is_some() {
        let effects = member.handle(Event::Tick, MonoMs(now));
        if let Some(Effect::Beat(beat)) = effects.first() {
            member.handle(failed(beat.attempt, broker(ErrorCode::NotCoordinator)), MonoMs(now));
        }
        now += 1_000;
        assert!(now < 60_000, "others read its partitions by now");
    }
    assert_eq!(steps(&mut member, MonoMs(now)).0, [Step::Lose(vec![at(0), at(1)])]);
}

#[test]
fn a_member_that_closes_has_no_heartbeat_due() {
    let mut member = stable();
    member.handle(Event::Closing, MonoMs(40));
    assert!(member.deadline() > MonoMs(5_030), "it would be due for ever: {:?}", member.deadline());
}

#[test]
fn an_interval_that_is_none_changes_nothing() {
    let mut member = stable();
    let idle = beat(&member.handle(Event::Tick, MonoMs(5_030)));
    let beaten = Beaten { member_id: None, epoch: 1, interval_ms: 0, assigned: None };
    member.handle(Event::Beaten { attempt: idle.attempt, result: Ok(beaten) }, MonoMs(5_040));
    assert_eq!(member.deadline(), MonoMs(10_040));
}

/// A coordinator by KIP-848's rules, for one topic.
#[derive(Debug, Default)]
struct Coordinator {
    epoch: i32,
    partitions: i32,
    members: BTreeMap<Str, Seat>,
}

#[derive(Debug, Default)]
struct Seat {
    epoch: i32,
    previous: i32,
    assigned: BTreeSet<Place>,
    /// What the last answer had.
    told: Option<BTreeSet<Place>>,
    /// Taken away and not yet reported as given up.
    leaving: BTreeSet<Place>,
}

impl Coordinator {
    fn target(&self, of: &Str) -> BTreeSet<Place> {
        let index = self.members.keys().position(|id| id == of).unwrap();
        let share = (0..self.partitions).filter(|number| {
            // By epoch, so that each change of the group moves something.
            (*number + self.epoch) as usize % self.members.len() == index
        });
        share.map(|number| (TOPIC, number)).collect()
    }

    fn beat(&mut self, beat: &Beat) -> Result<Beaten, ClientError> {
        let id = beat.member_id.clone();
        if beat.epoch < 0 {
            self.remove(&id);
            return Ok(Beaten {
                member_id: None,
                epoch: beat.epoch,
                interval_ms: 5_000,
                assigned: None,
            });
        }
        if beat.epoch == JOIN_EPOCH {
            assert!(beat.interest.is_some() && beat.held == Some(BTreeMap::new()), "{beat:?}");
            self.members.insert(id.clone(), Seat::default());
            self.epoch += 1;
        }
        let Some(seat) = self.members.get_mut(&id) else {
            return Err(broker(ErrorCode::UnknownMemberId));
        };
        if beat.epoch != JOIN_EPOCH && beat.epoch != seat.epoch && beat.epoch != seat.previous {
            return Err(broker(ErrorCode::FencedMemberEpoch));
        }
        if let Some(held) = &beat.held {
            let held: BTreeSet<Place> = held
                .iter()
                .flat_map(|(topic, numbers)| numbers.iter().map(|number| (*topic, *number)))
                .collect();
            seat.leaving.retain(|place| held.contains(place));
        }
        let target = self.target(&id);
        let taken: BTreeSet<Place> = self
            .members
            .iter()
            .filter(|(other, _)| **other != id)
            .flat_map(|(_, seat)| seat.assigned.union(&seat.leaving).copied())
            .collect();
        let epoch = self.epoch;
        let seat = self.members.get_mut(&id).unwrap();
        let going: Vec<Place> = seat.assigned.difference(&target).copied().collect();
        for place in going {
            seat.assigned.remove(&place);
            seat.leaving.insert(place);
        }
        if seat.leaving.is_empty() {
            seat.assigned = target.difference(&taken).copied().collect();
            if seat.epoch != epoch {
                seat.previous = std::mem::replace(&mut seat.epoch, epoch);
            }
        } else {
            seat.assigned.retain(|place| target.contains(place));
        }
        // To those that say all, and to others where it has changed.
        let says_all = beat.interest.is_some() && beat.held.is_some();
        let is_new = says_all || seat.told.as_ref() != Some(&seat.assigned);
        seat.told = Some(seat.assigned.clone());
        let assigned = is_new.then(|| seat.assigned.clone());
        let epoch = seat.epoch.max(1);
        seat.epoch = epoch;
        Ok(Beaten { member_id: None, epoch, interval_ms: 5_000, assigned })
    }

    fn remove(&mut self, id: &Str) {
        if self.members.remove(id).is_some() {
            self.epoch += 1;
        }
    }
}

#[derive(Debug, Clone)]
enum Act {
    Start,
    Poll(usize),
    OneStep(usize),
    Answer(usize),
    LoseAnswer(usize),
    Second,
    Close(usize),
    Expel(usize),
    Grow,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => Just(Act::Start),
        8 => (0..6_usize).prop_map(Act::Poll),
        4 => (0..6_usize).prop_map(Act::OneStep),
        8 => (0..8_usize).prop_map(Act::Answer),
        1 => (0..8_usize).prop_map(Act::LoseAnswer),
        6 => Just(Act::Second),
        1 => (0..6_usize).prop_map(Act::Close),
        1 => (0..6_usize).prop_map(Act::Expel),
        1 => Just(Act::Grow),
    ]
}

#[derive(Debug, Default)]
struct World {
    members: Vec<Option<ConsumerMember>>,
    coordinator: Coordinator,
    answers: Vec<(usize, u64, Result<Beaten, ClientError>)>,
    now: MonoMs,
}

impl World {
    fn tell(&mut self, index: usize, event: Event) {
        let Some(member) = self.members[index].as_mut() else { return };
        for effect in member.handle(event, self.now) {
            if let Effect::Beat(beat) = effect {
                let result = self.coordinator.beat(&beat);
                if beat.epoch >= 0 {
                    self.answers.push((index, beat.attempt, result));
                }
            }
        }
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

    fn act(&mut self, act: Act) {
        let live: Vec<usize> =
            (0..self.members.len()).filter(|index| self.members[*index].is_some()).collect();
        let pick = |at: usize| live.get(at % live.len().max(1)).copied();
        match act {
            Act::Start if live.len() < 6 => {
                let id = format!("m{}", self.members.len());
                self.members.push(Some(new_member(&id)));
            }
            Act::Start => {}
            Act::Poll(at) => {
                let Some(index) = pick(at) else { return };
                self.tell(index, Event::Polled);
                while self.has_step(index) {
                    self.step_done(index);
                }
            }
            Act::OneStep(at) => {
                let Some(index) = pick(at) else { return };
                match self.has_step(index) {
                    true => self.step_done(index),
                    false => self.tell(index, Event::Polled),
                }
            }
            Act::Answer(at) | Act::LoseAnswer(at) if !self.answers.is_empty() => {
                let (index, attempt, mut result) = self.answers.remove(at % self.answers.len());
                if matches!(act, Act::LoseAnswer(_)) {
                    let (broker, reason) = (String::new(), String::new());
                    result = Err(ClientError::ConnectionLost { broker, reason });
                }
                let result = result.map_err(|error| BeatFailed { error, wait_ms: 100 });
                self.tell(index, Event::Beaten { attempt, result });
            }
            Act::Answer(_) | Act::LoseAnswer(_) => {}
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
                self.coordinator.remove(&id);
            }
            Act::Grow => {
                self.coordinator.partitions += 1;
                self.coordinator.epoch += 1;
            }
        }
    }

    /// Who is gone without a word is out when its session is over.
    fn end_sessions(&mut self) {
        let live: BTreeSet<Str> =
            self.members.iter().flatten().map(|member| member.member_id().clone()).collect();
        let ids: Vec<Str> = self.coordinator.members.keys().cloned().collect();
        for id in ids.iter().filter(|id| !live.contains(*id)) {
            self.coordinator.remove(id);
        }
    }

    /// No two hold one partition. Who was expelled, or is joining anew, may not know it yet.
    fn check(&self) {
        let mut seen = BTreeSet::new();
        for member in self.members.iter().flatten() {
            let seat = self.coordinator.members.get(member.member_id());
            let is_known = seat.is_some_and(|seat| {
                [Some(seat.epoch), Some(seat.previous)].contains(&member.epoch())
            });
            for partition in member.holdings().owned().filter(|_| is_known) {
                assert!(seen.insert(partition.clone()), "two hold {partition}");
            }
        }
    }
}

proptest! {
    #[test]
    fn a_group_settles_with_every_partition_at_one_member(
        partitions in 0..10_i32,
        acts in proptest::collection::vec(act(), 1..120),
    ) {
        let mut world = World::default();
        world.coordinator.partitions = partitions;
        for act in acts {
            world.act(act);
        }
        for _ in 0..80 {
            while !world.answers.is_empty() {
                world.act(Act::Answer(0));
            }
            world.end_sessions();
            (0..world.members.len()).for_each(|index| world.act(Act::Poll(index)));
            world.act(Act::Second);
        }
        let live: Vec<&ConsumerMember> = world.members.iter().flatten().collect();
        let held: usize = live.iter().map(|member| member.holdings().owned().count()).sum();
        let expected = if live.is_empty() { 0 } else { world.coordinator.partitions as usize };
        prop_assert_eq!(held, expected);
    }
}

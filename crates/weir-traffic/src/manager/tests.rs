use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

fn at(ms: u64) -> Nanos {
    Nanos::from_ms(ms)
}

fn config() -> TrafficConfig {
    TrafficConfig::default()
}

fn manager(config: TrafficConfig) -> TrafficManager<u64> {
    TrafficManager::new(config).unwrap()
}

fn meta(priority: Priority, key: u64) -> Meta {
    Meta { priority, bytes: 200, key: Some(key) }
}

/// Admits `count` normal events of different keys.
fn admit(manager: &mut TrafficManager<u64>, priority: Priority, count: u64, now: Nanos) {
    for id in 0..count {
        assert_eq!(manager.admit(meta(priority, id), id, now), Admission::Queued);
    }
}

fn succeed(manager: &mut TrafficManager<u64>, batch: Batch<u64>, now: Nanos) -> usize {
    let outcomes = vec![Outcome::Delivered; batch.len()];
    manager.on_batch_done(batch, &outcomes, now).len()
}

fn fail(manager: &mut TrafficManager<u64>, batch: Batch<u64>, now: Nanos) {
    let outcomes = vec![Outcome::NotSent; batch.len()];
    assert!(manager.on_batch_done(batch, &outcomes, now).is_empty());
}

/// Fails batches until the breaker opens; the moment it did.
fn open_breaker(manager: &mut TrafficManager<u64>) -> Nanos {
    let mut now = manager.now;
    while manager.breaker_state() == BreakerState::Closed {
        match manager.next_batch(now) {
            Some(batch) => fail(manager, batch, now),
            None => now = manager.next_deadline(now).unwrap(),
        }
    }
    now
}

#[test]
fn an_idle_sink_gets_an_event_at_once_and_a_busy_one_gets_full_batches() {
    let mut manager = manager(config());
    admit(&mut manager, Priority::Normal, 1, at(5));
    let first = manager.next_batch(at(5)).unwrap();
    assert_eq!(first.len(), 1);
    for id in 0..99 {
        manager.admit(meta(Priority::Normal, 100 + id), id, at(6));
        assert!(manager.next_batch(at(6)).is_none());
    }
    assert_eq!(manager.next_deadline(at(6)), Some(at(56)), "no longer than the flush interval");
    manager.admit(meta(Priority::Normal, 999), 0, at(7));
    assert_eq!(manager.next_batch(at(7)).unwrap().len(), 100);
    manager.admit(meta(Priority::Normal, 1_000), 0, at(8));
    assert!(manager.next_batch(at(57)).is_none());
    assert_eq!(manager.next_batch(at(58)).unwrap().len(), 1);
    manager.admit(meta(Priority::Normal, 1_001), 0, at(60));
    assert_eq!(succeed(&mut manager, first, at(61)), 1);
    assert!(manager.next_batch(at(61)).is_none(), "two are still on their way");
}

#[test]
fn urgent_overtakes_all_ignores_the_rate_and_has_a_window_of_its_own() {
    let limited = TrafficConfig { max_rate: Some(1), in_flight_max: 1, ..config() };
    let mut manager = manager(limited);
    admit(&mut manager, Priority::High, 10, at(0));
    let high = manager.next_batch(at(0)).unwrap();
    assert_eq!(high.len(), 1, "one cell");
    admit(&mut manager, Priority::Urgent, 250, at(0));
    let urgent = manager.next_batch(at(0)).unwrap();
    assert_eq!((urgent.priority(), urgent.len()), (Priority::Urgent, 100));
    assert!(manager.next_batch(at(0)).is_none());
    succeed(&mut manager, high, at(1));
    succeed(&mut manager, urgent, at(2_000));
    let next = manager.next_batch(at(2_000)).unwrap();
    assert_eq!(next.priority(), Priority::Urgent, "before what came earlier");
    assert_eq!(manager.next_batch(at(2_000)).unwrap().priority(), Priority::High);
}

#[test]
fn a_full_lane_refuses_and_says_when_to_come_again() {
    let small =
        TrafficConfig { buffer_size: 3, batch_size: 2, buffer_bytes_max: 1_024, ..config() };
    let mut manager = manager(small);
    admit(&mut manager, Priority::Low, 3, at(0));
    let check = |answer: Admission<u64>, reason: Reason, retry: bool| match answer {
        Admission::Rejected { event: 7, refused } => {
            assert_eq!((refused.reason, refused.retry_after_ms.is_some()), (reason, retry));
        }
        other => panic!("{other:?}"),
    };
    check(manager.admit(meta(Priority::Low, 9), 7, at(0)), Reason::LaneFull, true);
    let batch = manager.next_batch(at(0)).unwrap();
    check(manager.admit(meta(Priority::Low, 9), 7, at(0)), Reason::LaneFull, true);
    succeed(&mut manager, batch, at(1));
    admit(&mut manager, Priority::Low, 2, at(1));
    let large = |bytes| Meta { priority: Priority::High, bytes, key: None };
    check(manager.admit(large(1_025), 7, at(1)), Reason::EventTooLarge, false);
    assert_eq!(manager.admit(large(1_000), 7, at(1)), Admission::Queued);
    check(manager.admit(large(25), 7, at(1)), Reason::LaneBytesFull, true);
    let stats = manager.stats(at(1));
    assert_eq!((stats.dropped_messages, stats.ledger.total().dropped.total()), (4, 0));
}

#[test]
fn a_burst_leaves_at_the_limit_within_one_percent_of_every_tenth_of_a_second() {
    let limited = TrafficConfig { max_rate: Some(1_000), ..config() };
    let mut manager = manager(limited);
    admit(&mut manager, Priority::Normal, 10_000, at(0));
    let mut now = at(0);
    let mut per_tenth = vec![0; 110];
    while manager.queued() > 0 {
        match manager.next_batch(now) {
            Some(batch) => {
                per_tenth[(now.get() / 100_000_000) as usize] += batch.len();
                succeed(&mut manager, batch, now);
            }
            None => now = manager.next_deadline(now).unwrap(),
        }
    }
    assert!((100..=150).contains(&per_tenth[0]), "a burst of 50 at once, then the rate");
    assert!(per_tenth[1..98].iter().all(|count| (99..=101).contains(count)), "{per_tenth:?}");
    assert!(now >= at(9_900) && now <= at(10_000), "{now:?}");
    assert!(manager.stats(now).sink.batches_done <= 210, "in batches, not one by one");
}

#[test]
fn a_trickling_lane_does_not_take_the_cells_another_gathers() {
    let limited = TrafficConfig { max_rate: Some(1_000), ..config() };
    let mut manager = manager(limited);
    admit(&mut manager, Priority::High, 5_000, at(0));
    let mut sent = BTreeMap::new();
    for ms in 0..1_000 {
        manager.admit(meta(Priority::Normal, ms), ms, at(ms));
        while let Some(batch) = manager.next_batch(at(ms)) {
            *sent.entry(batch.priority()).or_insert(0) += batch.len();
            succeed(&mut manager, batch, at(ms));
        }
    }
    assert!(sent[&Priority::High] > 700, "{sent:?}");
}

#[test]
fn failures_back_off_open_the_breaker_and_three_probes_close_it() {
    let mut manager = manager(config());
    admit(&mut manager, Priority::Normal, 1, at(0));
    let opened = open_breaker(&mut manager);
    assert_eq!(opened, at(100 + 200 + 400 + 800), "backoff doubles");
    let refused = Meta { bytes: usize::MAX, ..meta(Priority::Low, 0) };
    assert!(matches!(manager.admit(refused, 0, opened), Admission::Rejected { .. }));
    let probe_at = opened.plus_ms(10_000);
    admit(&mut manager, Priority::High, 1, opened);
    admit(&mut manager, Priority::Low, 1, opened);
    let waited = manager.next_deadline(opened);
    assert_eq!(waited, Some(at(10_000)), "the first event's time is over before");
    assert!(manager.next_batch(Nanos(probe_at.get() - 1)).is_none());
    let probes: Vec<_> = std::iter::from_fn(|| manager.next_batch(probe_at)).collect();
    assert_eq!(probes.len(), 3);
    for probe in probes {
        succeed(&mut manager, probe, probe_at);
    }
    assert_eq!(manager.breaker_state(), BreakerState::Closed);
    let changes: Vec<_> = manager.take_breaker_changes().iter().map(|change| change.to).collect();
    assert_eq!(changes, [BreakerState::Open, BreakerState::HalfOpen, BreakerState::Closed]);
    assert_eq!(manager.ledger().total().delivered, 3);
}

#[test]
fn events_wait_for_an_absent_sink_up_to_the_deadline_and_go_back_to_their_callers() {
    let mut manager = manager(config());
    admit(&mut manager, Priority::Normal, 2, at(0));
    let opened = open_breaker(&mut manager);
    admit(&mut manager, Priority::Low, 3, opened);
    assert!(manager.expire(at(9_999)).is_empty());
    let first = manager.expire(at(10_000));
    assert_eq!(first.len(), 2);
    let refused = &first[0].refused;
    assert_eq!((refused.reason, refused.code), (Reason::SinkAway, "WEIR-0504"));
    assert_eq!(refused.retry_after_ms, Some(opened.since_ms(at(0)) + 10_000 - 10_000));
    assert!(manager.expire(at(11_499)).is_empty());
    assert_eq!(manager.expire(at(11_500)).len(), 3);
    let total = manager.ledger().total();
    assert_eq!((total.offered, total.accepted(), total.refused.total()), (5, 0, 5));
}

#[test]
fn no_event_is_given_back_for_waiting_while_the_sink_works() {
    let slow = TrafficConfig { batch_size: 1, in_flight_max: 1, ..config() };
    let mut manager = manager(slow);
    admit(&mut manager, Priority::Normal, 100, at(0));
    let mut now = at(0);
    while manager.queued() > 0 {
        let batch = manager.next_batch(now).unwrap();
        now = now.plus_ms(1_000);
        assert!(manager.expire(now).is_empty());
        succeed(&mut manager, batch, now);
    }
    assert_eq!(now, at(100_000));
}

#[test]
fn what_would_wait_too_long_at_the_rate_is_refused_at_the_door() {
    let limited = TrafficConfig { max_rate: Some(5), wait_max_ms: 2_000, ..config() };
    let mut manager = manager(limited.clone());
    // One may go at once; ten take two seconds, and then the eleventh has that long to wait.
    let taken = |manager: &mut TrafficManager<u64>, priority, now| {
        (0..1_000)
            .take_while(|key| match manager.admit(meta(priority, *key), *key, now) {
                Admission::Queued => true,
                Admission::Rejected { refused, .. } => {
                    assert_eq!(refused.reason, Reason::WaitTooLong);
                    assert!(refused.retry_after_ms.is_some());
                    false
                }
                Admission::Spilled => panic!("there is no spool"),
            })
            .count()
    };
    assert_eq!(taken(&mut manager, Priority::Normal, at(0)), 11);
    admit(&mut manager, Priority::Urgent, 100, at(0));
    // A lane of its own has its share, however full the others are.
    assert_eq!(taken(&mut manager, Priority::High, at(0)), 6);
    let (mut now, mut admitted_at) = (at(0), at(0));
    while manager.queued() > 0 {
        match manager.next_batch(now) {
            Some(batch) => _ = succeed(&mut manager, batch, now),
            None => now = manager.next_deadline(now).unwrap(),
        }
        if now > admitted_at && now < at(3_000) {
            admitted_at = now;
            taken(&mut manager, Priority::Low, now);
        }
    }
    let ledger = manager.ledger();
    assert!(ledger.balances());
    assert!(ledger.total().rejected.get(Reason::WaitTooLong) >= 3);
    assert_eq!(ledger.total().refused.total(), 0, "what is taken is sent");
    let unlimited = TrafficConfig { max_rate: None, ..limited };
    manager.set_config(unlimited, now).unwrap();
    admit(&mut manager, Priority::Normal, 1_000, now);
}

#[test]
fn a_sink_that_hangs_counts_as_away_and_its_late_answer_still_counts() {
    let mut manager = manager(config());
    admit(&mut manager, Priority::Normal, 1, at(0));
    let hung = manager.next_batch(at(0)).unwrap();
    assert_eq!(manager.next_deadline(at(0)), Some(at(5_000)));
    assert!(manager.expire(at(5_000)).is_empty(), "its outcome is unknown, it stays in flight");
    manager.admit(meta(Priority::Normal, 0), 1, at(5_000));
    assert_eq!(manager.expire(at(15_000)).len(), 1);
    assert_eq!(manager.stats(at(15_000)).breaker.consecutive_failures, 1);
    assert_eq!(succeed(&mut manager, hung, at(20_000)), 1);
    let total = manager.ledger().total();
    assert_eq!((total.delivered, total.refused.total(), total.in_flight), (1, 1, 0));
    assert_eq!(manager.stats(at(20_000)).sink.away_ms, None);
}

#[test]
fn an_event_refused_for_good_does_not_count_against_the_sink() {
    let mut manager = manager(TrafficConfig { max_failures: 1, ..config() });
    admit(&mut manager, Priority::Normal, 1, at(0));
    let batch = manager.next_batch(at(0)).unwrap();
    let settled = manager.on_batch_done(batch, &[Outcome::Refused(Reason::SinkRefused)], at(1));
    assert_eq!(settled[0].fate.as_ref().unwrap_err().retry_after_ms, None);
    assert_eq!(manager.breaker_state(), BreakerState::Closed);
    admit(&mut manager, Priority::Normal, 1, at(2));
    let batch = manager.next_batch(at(2)).unwrap();
    let settled = manager.on_batch_done(batch, &[], at(3));
    assert_eq!(settled[0].fate.as_ref().unwrap_err().reason, Reason::OutcomeUnknown);
    assert_eq!(manager.breaker_state(), BreakerState::Open);
}

#[test]
fn an_event_its_successor_has_overtaken_is_given_back_not_sent_late() {
    let mut manager = manager(config());
    for id in [1, 2, 3] {
        manager.admit(meta(Priority::Normal, id % 2), id, at(0));
    }
    let batch = manager.next_batch(at(0)).unwrap();
    let outcomes = [Outcome::NotSent, Outcome::NotSent, Outcome::Delivered];
    let settled = manager.on_batch_done(batch, &outcomes, at(1));
    let ids: Vec<_> = settled.iter().map(|event| (event.payload, event.fate.is_ok())).collect();
    assert_eq!(ids, [(1, false), (3, true)]);
    assert_eq!(manager.queued(), 1);
}

#[test]
fn an_event_is_not_sent_behind_a_successor_that_may_have_been_written() {
    let mut manager = manager(config());
    manager.admit(meta(Priority::Normal, 9), 0, at(0));
    let first = manager.next_batch(at(0)).unwrap();
    manager.admit(meta(Priority::Normal, 1), 1, at(1));
    manager.admit(meta(Priority::Normal, 1), 2, at(2));
    succeed(&mut manager, first, at(3));
    let batch = manager.next_batch(at(3)).unwrap();
    assert_eq!(batch.len(), 2);
    let outcomes = [Outcome::NotSent, Outcome::Refused(Reason::OutcomeUnknown)];
    let settled = manager.on_batch_done(batch, &outcomes, at(4));
    let ids: Vec<_> = settled.iter().map(|event| (event.payload, event.fate.is_ok())).collect();
    assert_eq!(ids, [(1, false), (2, false)]);
    assert_eq!(manager.queued(), 0);
}

#[test]
fn a_failed_event_that_expires_takes_those_of_its_key_and_request_along() {
    let mut manager = manager(TrafficConfig { batch_size: 2, ..config() });
    for (id, key) in [(1, 1), (2, 2), (3, 1), (4, 3)] {
        manager.admit(meta(Priority::Normal, key), id, at(0));
    }
    manager.admit(meta(Priority::Normal, 1), 5, at(1));
    let batch = manager.next_batch(at(1)).unwrap();
    let outcomes = [Outcome::NotSent, Outcome::Delivered];
    assert_eq!(manager.on_batch_done(batch, &outcomes, at(2)).len(), 1);
    assert!(manager.expire(at(10_001)).is_empty());
    let given_back = manager.expire(at(10_002));
    assert_eq!(given_back.iter().map(|event| event.payload).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(given_back[0].refused, given_back[1].refused);
    assert_eq!(manager.queued(), 2, "another key, and another request");
}

#[test]
fn events_behind_an_unknown_outcome_are_given_back_with_it() {
    let mut manager = manager(TrafficConfig { batch_size: 3, ..config() });
    for (id, key) in [(1, 1), (2, 1), (3, 2), (4, 1), (5, 2)] {
        manager.admit(meta(Priority::Normal, key), id, at(0));
    }
    let batch = manager.next_batch(at(0)).unwrap();
    let unknown = Outcome::Refused(Reason::OutcomeUnknown);
    let settled =
        manager.on_batch_done(batch, &[unknown, Outcome::NotSent, Outcome::Delivered], at(1));
    let left: Vec<_> =
        settled.iter().map(|event| (event.payload, event.index, event.fate.is_ok())).collect();
    assert_eq!(
        left,
        [(1, Some(0), false), (2, Some(1), false), (3, Some(2), true), (4, None, false)]
    );
    assert_eq!(settled[1].fate.as_ref().unwrap_err().reason, Reason::SinkAway, "not written");
    assert_eq!((manager.queued(), manager.lanes[2].lane.bytes()), (1, 200));
}

#[test]
fn an_event_without_a_place_for_now_does_not_count_against_the_sink() {
    let mut manager = manager(TrafficConfig { max_failures: 1, ..config() });
    admit(&mut manager, Priority::Normal, 1, at(0));
    let batch = manager.next_batch(at(0)).unwrap();
    let settled = manager.on_batch_done(batch, &[Outcome::Refused(Reason::SinkAway)], at(1));
    assert!(settled[0].fate.as_ref().unwrap_err().retry_after_ms.is_some());
    assert_eq!(manager.breaker_state(), BreakerState::Closed);
    assert_eq!(manager.stats(at(1)).sink.away_ms, None);
}

#[test]
fn a_manager_that_stops_takes_nothing_and_sends_without_lingering() {
    let mut manager = manager(config());
    admit(&mut manager, Priority::Normal, 1, at(0));
    let first = manager.next_batch(at(0)).unwrap();
    manager.admit(meta(Priority::Normal, 9), 9, at(0));
    assert!(manager.next_batch(at(0)).is_none(), "it lingers while one is on its way");
    manager.stop();
    let last = manager.next_batch(at(0)).unwrap();
    assert!(matches!(
        manager.admit(meta(Priority::Urgent, 1), 1, at(0)),
        Admission::Rejected { refused: Refused { reason: Reason::ShuttingDown, .. }, .. }
    ));
    succeed(&mut manager, last, at(1));
    fail(&mut manager, first, at(1));
    let given_back = manager.give_back_all(at(2));
    assert_eq!(given_back.len(), 1);
    assert_eq!(given_back[0].refused.code, "WEIR-0505");
    assert_eq!(manager.ledger().total().accepted(), 1);
}

#[test]
fn new_limits_hold_from_now_and_lose_nothing() {
    let mut manager = manager(config());
    admit(&mut manager, Priority::Normal, 500, at(0));
    let smaller = TrafficConfig { buffer_size: 10, batch_size: 5, max_rate: Some(100), ..config() };
    manager.set_config(smaller.clone(), at(1)).unwrap();
    let full = manager.admit(meta(Priority::Normal, 0), 0, at(1));
    assert!(matches!(full, Admission::Rejected { .. }));
    let wrong = TrafficConfig { batch_size: 0, ..smaller.clone() };
    assert_eq!(manager.set_config(wrong, at(1)).unwrap_err().code(), "WEIR-0510");
    assert_eq!(manager.config(), &smaller);
    let mut now = at(1);
    while manager.queued() > 0 {
        match manager.next_batch(now) {
            Some(batch) => {
                assert!(batch.len() <= 5);
                succeed(&mut manager, batch, now);
            }
            None => now = manager.next_deadline(now).unwrap(),
        }
    }
    assert_eq!(manager.ledger().total().delivered, 500);
    assert!(now >= at(4_900), "{now:?}");
}

#[test]
fn stats_have_the_six_fields_of_the_specification_and_the_ledger() {
    let mut manager = manager(config());
    admit(&mut manager, Priority::Urgent, 1, at(0));
    admit(&mut manager, Priority::Normal, 3, at(0));
    let urgent = manager.next_batch(at(0)).unwrap();
    succeed(&mut manager, urgent, at(12));
    let json = serde_json::to_value(manager.stats(at(1_000))).unwrap();
    let field = |name: &str| json[name].as_f64().unwrap();
    assert!((field("total_messages") - 4.0).abs() < f64::EPSILON);
    assert!((field("buffered_messages") - 3.0).abs() < f64::EPSILON);
    assert!((field("dropped_messages")).abs() < f64::EPSILON);
    assert!((field("current_queue_size") - 3.0).abs() < f64::EPSILON);
    assert!((field("avg_processing_time_ms") - 12.0).abs() < 0.001);
    assert!(field("throughput_per_sec") > 0.0);
    assert_eq!(json["ledger"]["total"]["accepted"], 4);
    assert_eq!(json["ledger"]["total"]["balanced"], true);
    assert_eq!(json["lanes"][2]["lane"], "normal");
    assert_eq!(json["lanes"][2]["oldest_age_ms"], 1_000);
    assert_eq!(json["breaker"]["state"], "closed");
    assert_eq!(json["limits"]["flush_interval"], "50ms");
}

#[derive(Debug, Clone)]
enum Step {
    Admit {
        class: usize,
        key: Option<u64>,
        bytes: usize,
    },
    Send,
    Done {
        which: usize,
        fates: Vec<u8>,
    },
    /// The callers of a batch on its way are told that nothing is known.
    Doubt {
        which: usize,
    },
    AttemptsFail {
        count: u64,
    },
    AttemptSucceeds,
    Pass {
        ms: u64,
    },
    Reload {
        rate: Option<u64>,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0usize..4, prop::option::weighted(0.9, 0u64..5), 1usize..700)
            .prop_map(|(class, key, bytes)| Step::Admit { class, key, bytes }),
        4 => Just(Step::Send),
        4 => (any::<usize>(), prop::collection::vec(0u8..10, 4))
            .prop_map(|(which, fates)| Step::Done { which, fates }),
        1 => any::<usize>().prop_map(|which| Step::Doubt { which }),
        1 => (0u64..4).prop_map(|count| Step::AttemptsFail { count }),
        1 => Just(Step::AttemptSucceeds),
        2 => (0u64..400).prop_map(|ms| Step::Pass { ms }),
        1 => prop::option::of(1u64..500).prop_map(|rate| Step::Reload { rate }),
    ];
    prop::collection::vec(step, 1..250)
}

fn small() -> TrafficConfig {
    TrafficConfig {
        buffer_size: 12,
        batch_size: 4,
        buffer_bytes_max: 4_000,
        batch_bytes_max: 1_500,
        in_flight_max: 3,
        wait_max_ms: 900,
        circuit_timeout_ms: 500,
        send_timeout_ms: 300,
        max_failures: 2,
        ..config()
    }
}

/// The model of the world outside: what was offered, what is where, and per class and key what may be
/// delivered next.
#[derive(Debug, Default)]
struct World {
    ids: u64,
    rejected: u64,
    delivered: u64,
    given_back: u64,
    waiting: BTreeMap<(usize, u64), VecDeque<u64>>,
    /// In which request each event was offered: what is admitted without a step between is of one.
    offered: Vec<u64>,
    request: u64,
    /// Class, key and request of events given back for now, with the id of the oldest.
    broken: BTreeMap<(usize, u64, u64), u64>,
}

/// The event: its id, class, key.
type Item = (u64, usize, Option<u64>);

impl World {
    /// All that leaves with one call.
    fn leave(&mut self, left: Vec<(Item, Option<Reason>)>) -> Result<(), TestCaseError> {
        let request = |world: &Self, (id, class, key): Item| {
            Some((class, key?, world.offered[usize::try_from(id).unwrap()]))
        };
        for (item, _) in left.iter().filter(|(_, refused)| refused.is_none()) {
            let broken = request(self, *item)
                .is_some_and(|at| self.broken.get(&at).is_some_and(|oldest| *oldest < item.0));
            prop_assert!(!broken, "{:?} was sent after an earlier one was given back", item);
        }
        for (item, refused) in left {
            if refused.is_some_and(Reason::is_retriable) {
                if let Some(at) = request(self, item) {
                    let oldest = self.broken.entry(at).or_insert(item.0);
                    *oldest = item.0.min(*oldest);
                }
            }
            self.leaves(item, refused.is_none())?;
        }
        Ok(())
    }

    fn leaves(&mut self, (id, class, key): Item, delivered: bool) -> Result<(), TestCaseError> {
        self.delivered += u64::from(delivered);
        self.given_back += u64::from(!delivered);
        let Some(key) = key else { return Ok(()) };
        let order = self.waiting.entry((class, key)).or_default();
        let at = order.iter().position(|other| *other == id);
        prop_assert!(at.is_some(), "{} left twice", id);
        if delivered {
            prop_assert_eq!(at, Some(0), "{} overtook {:?}", id, order);
        }
        order.retain(|other| *other != id);
        Ok(())
    }
}

/// What a sink may say: from the first event of a key that fails on, all later ones of that key fail.
fn outcomes(batch: &Batch<Item>, fates: &[u8]) -> Vec<Outcome> {
    let mut failed = Vec::new();
    let whole = fates[0] < 2;
    batch
        .events()
        .zip(fates.iter().cycle())
        .map(|((_, _, key), fate)| {
            let after_a_failure = key.is_some() && failed.contains(key);
            match fate {
                _ if whole || after_a_failure => Outcome::NotSent,
                2..=3 => {
                    failed.push(*key);
                    Outcome::NotSent
                }
                4 => Outcome::Refused(Reason::SinkRefused),
                5 => Outcome::Refused(Reason::OutcomeUnknown),
                _ => Outcome::Delivered,
            }
        })
        .collect()
}

fn settled(
    manager: &mut TrafficManager<Item>,
    batch: Batch<Item>,
    said: &[Outcome],
    now: Nanos,
) -> Vec<(Item, Option<Reason>)> {
    let settled = manager.on_batch_done(batch, said, now).into_iter();
    settled.map(|event| (event.payload, event.fate.err().map(|refused| refused.reason))).collect()
}

fn given_back(back: Vec<GivenBack<Item>>) -> Vec<(Item, Option<Reason>)> {
    back.into_iter().map(|event| (event.payload, Some(event.refused.reason))).collect()
}

fn check_bounds(manager: &mut TrafficManager<Item>, world: &World) -> Result<(), TestCaseError> {
    let now = manager.now;
    let total = manager.ledger().total();
    prop_assert_eq!(total.offered, world.ids);
    prop_assert_eq!(total.rejected.total(), world.rejected);
    prop_assert_eq!(total.delivered, world.delivered);
    prop_assert_eq!(total.refused.total(), world.given_back);
    prop_assert_eq!(total.accepted(), total.delivered + total.queued + total.in_flight);
    for lane in manager.stats(now).lanes {
        prop_assert!(lane.depth + lane.in_flight <= 12);
        prop_assert!(lane.bytes <= 4_000);
    }
    Ok(())
}

/// A manager, the world outside, and the batches that are on their way between them.
struct Run {
    manager: TrafficManager<Item>,
    world: World,
    out: Vec<Batch<Item>>,
    now: Nanos,
}

impl Run {
    fn new() -> Self {
        let manager = TrafficManager::new(small()).unwrap();
        Self { manager, world: World::default(), out: Vec::new(), now: at(0) }
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        self.world.request += u64::from(!matches!(step, Step::Admit { .. }));
        let now = self.now;
        match step {
            Step::Admit { class, key, bytes } => self.admit(class, key, bytes)?,
            Step::Send => self.send()?,
            Step::Done { which, fates } if !self.out.is_empty() => {
                let batch = self.out.swap_remove(which % self.out.len());
                let said = outcomes(&batch, &fates);
                self.world.leave(settled(&mut self.manager, batch, &said, now))?;
            }
            Step::Doubt { which } if !self.out.is_empty() => {
                let batch = &self.out[which % self.out.len()];
                let back = self.manager.on_batch_in_doubt(batch, now);
                self.world.leave(given_back(back))?;
            }
            Step::Done { .. } | Step::Doubt { .. } => {}
            Step::AttemptsFail { count } => self.manager.on_attempts_failed(count, now),
            Step::AttemptSucceeds => self.manager.on_attempt_succeeded(now),
            Step::Pass { ms } => {
                self.now = now.plus_ms(ms);
                self.world.leave(given_back(self.manager.expire(self.now)))?;
            }
            Step::Reload { rate } => {
                let config = TrafficConfig { max_rate: rate, ..small() };
                self.manager.set_config(config, now).unwrap();
            }
        }
        check_bounds(&mut self.manager, &self.world)
    }

    fn admit(&mut self, class: usize, key: Option<u64>, bytes: usize) -> Result<(), TestCaseError> {
        let world = &mut self.world;
        let item = (world.ids, class, key);
        world.ids += 1;
        world.offered.push(world.request);
        let priority = Priority::ALL[class];
        match self.manager.admit(Meta { priority, bytes, key }, item, self.now) {
            Admission::Queued => {
                if let Some(key) = key {
                    world.waiting.entry((class, key)).or_default().push_back(item.0);
                }
            }
            Admission::Rejected { event, .. } => {
                prop_assert_eq!(event, item);
                world.rejected += 1;
            }
            Admission::Spilled => prop_assert!(false),
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), TestCaseError> {
        let urgent_is_due = self.manager.due(URGENT).is_some_and(|due| due <= self.now);
        if let Some(batch) = self.manager.next_batch(self.now) {
            let urgent_waits = self.manager.lanes[URGENT].lane.ready_len() > 0;
            let is_urgent = batch.priority() == Priority::Urgent;
            prop_assert!(!urgent_is_due || is_urgent || !urgent_waits);
            self.out.push(batch);
        }
        Ok(())
    }

    /// The sink works again: everything that is left goes out by the deadlines alone.
    fn finish(&mut self) -> Result<(), TestCaseError> {
        let mut rounds = 0;
        loop {
            for batch in std::mem::take(&mut self.out) {
                let said = vec![Outcome::Delivered; batch.len()];
                self.world.leave(settled(&mut self.manager, batch, &said, self.now))?;
            }
            self.world.leave(given_back(self.manager.expire(self.now)))?;
            let (manager, now) = (&mut self.manager, self.now);
            self.out.extend(std::iter::from_fn(|| manager.next_batch(now)));
            if self.out.is_empty() {
                match self.manager.next_deadline(now) {
                    Some(deadline) if self.manager.queued() > 0 => {
                        prop_assert!(deadline > now, "a deadline that does nothing");
                        self.now = deadline;
                    }
                    _ => break,
                }
            }
            rounds += 1;
            prop_assert!(rounds < 1_000, "stuck");
        }
        prop_assert_eq!(self.manager.queued() + self.manager.batches_in_flight(), 0);
        check_bounds(&mut self.manager, &self.world)
    }
}

proptest! {
    /// Any interleaving: the ledger balances after every step, lanes keep their bounds, an urgent event
    /// that could go goes first, nothing overtakes within key and class, nothing is stuck for ever.
    #[test]
    fn whatever_happens_every_event_is_accounted_for_and_in_order(steps in steps()) {
        let mut run = Run::new();
        for step in steps {
            run.step(step)?;
        }
        run.finish()?;
    }
}

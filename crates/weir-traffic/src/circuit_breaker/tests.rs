use proptest::prelude::*;

use super::*;

const CONFIG: BreakerConfig =
    BreakerConfig { failures_max: 5, open_ms: 10_000, probes: 3, probe_ms_max: 2_000 };

fn at(ms: u64) -> Nanos {
    Nanos::from_ms(ms)
}

/// One send that returns at once.
fn send(breaker: &mut CircuitBreaker, succeeds: bool, now: Nanos) {
    let permit = breaker.try_acquire(now).unwrap();
    breaker.on_result(permit, succeeds, now);
}

fn opened_at(ms: u64) -> CircuitBreaker {
    let mut breaker = CircuitBreaker::new(CONFIG);
    for _ in 0..5 {
        send(&mut breaker, false, at(ms));
    }
    assert_eq!(breaker.state(), BreakerState::Open);
    breaker
}

#[test]
fn five_failures_in_a_row_open_it_and_a_success_between_does_not() {
    let mut breaker = CircuitBreaker::new(CONFIG);
    for succeeds in [false, false, false, false, true, false, false, false, false] {
        send(&mut breaker, succeeds, at(0));
        assert_eq!(breaker.state(), BreakerState::Closed);
    }
    send(&mut breaker, false, at(0));
    assert_eq!(breaker.state(), BreakerState::Open);
    assert_eq!(breaker.opened(), 1);
}

#[test]
fn open_lets_nothing_through_for_its_time() {
    let mut breaker = opened_at(7);
    assert!(breaker.try_acquire(at(10_006)).is_none());
    assert_eq!(breaker.next_deadline(), Some(at(10_007)));
    assert!(breaker.try_acquire(at(10_007)).is_some());
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
}

#[test]
fn half_open_lets_three_probes_through_and_closes_when_all_succeed() {
    let mut breaker = opened_at(0);
    let probes: Vec<_> = (0..3).map(|_| breaker.try_acquire(at(10_000)).unwrap()).collect();
    assert!(breaker.try_acquire(at(10_000)).is_none());
    for probe in &probes[..2] {
        breaker.on_result(*probe, true, at(10_001));
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert!(breaker.try_acquire(at(10_001)).is_none(), "a returned probe makes no room");
    }
    breaker.on_result(probes[2], true, at(10_002));
    assert_eq!(breaker.state(), BreakerState::Closed);
    let states: Vec<_> = breaker.take_changes().into_iter().map(|change| change.to).collect();
    assert_eq!(states, [BreakerState::Open, BreakerState::HalfOpen, BreakerState::Closed]);
}

#[test]
fn a_failed_probe_opens_again_and_the_others_count_no_more() {
    let mut breaker = opened_at(0);
    let first = breaker.try_acquire(at(10_000)).unwrap();
    let second = breaker.try_acquire(at(10_000)).unwrap();
    breaker.on_result(first, false, at(10_100));
    assert_eq!(breaker.state(), BreakerState::Open);
    breaker.on_result(second, true, at(10_200));
    assert_eq!(breaker.state(), BreakerState::Open);
    assert_eq!(breaker.open_until(), Some(at(20_100)));
}

#[test]
fn a_hung_probe_times_out_and_cannot_wedge_it() {
    let mut breaker = opened_at(0);
    let hung = breaker.try_acquire(at(10_000)).unwrap();
    assert_eq!(breaker.next_deadline(), Some(at(12_000)));
    breaker.tick(at(11_999));
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    breaker.tick(at(12_000));
    assert_eq!(breaker.state(), BreakerState::Open);
    assert_eq!(breaker.probes_hung(), 1);
    breaker.on_result(hung, true, at(12_500));
    assert_eq!(breaker.state(), BreakerState::Open, "a late result says nothing about now");
    for _ in 0..3 {
        send(&mut breaker, true, at(22_000));
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn attempts_open_it_and_one_that_succeeds_ends_the_wait() {
    let mut breaker = CircuitBreaker::new(CONFIG);
    breaker.on_attempts_failed(4, at(0));
    breaker.on_attempt_succeeded(at(0));
    breaker.on_attempts_failed(4, at(0));
    assert_eq!(breaker.state(), BreakerState::Closed, "not in a row");
    breaker.on_attempts_failed(1, at(5));
    assert_eq!((breaker.state(), breaker.opened()), (BreakerState::Open, 1));
    breaker.on_attempts_failed(100, at(6));
    assert_eq!((breaker.open_until(), breaker.opened()), (Some(at(10_005)), 1), "not longer");
    breaker.on_attempt_succeeded(at(2_000));
    let probe = breaker.try_acquire(at(2_000)).unwrap();
    assert_eq!(breaker.state(), BreakerState::HalfOpen, "an attempt alone does not close it");
    breaker.on_attempts_failed(1, at(2_001));
    assert_eq!(breaker.open_until(), Some(at(12_001)), "and one that fails opens it again");
    breaker.on_result(probe, true, at(2_002));
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[test]
fn a_result_reported_twice_counts_once() {
    let mut breaker = opened_at(0);
    let probe = breaker.try_acquire(at(10_000)).unwrap();
    for _ in 0..5 {
        breaker.on_result(probe, true, at(10_000));
    }
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
}

#[test]
fn failures_of_an_earlier_round_do_not_open_a_closed_breaker() {
    let mut breaker = CircuitBreaker::new(CONFIG);
    let late: Vec<_> = (0..20).map(|_| breaker.try_acquire(at(0)).unwrap()).collect();
    for permit in &late[..5] {
        breaker.on_result(*permit, false, at(0));
    }
    for _ in 0..3 {
        send(&mut breaker, true, at(10_000));
    }
    for permit in &late[5..] {
        breaker.on_result(*permit, false, at(10_001));
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
    assert_eq!(breaker.failures(), 0);
}

#[derive(Debug, Clone)]
enum Step {
    Acquire,
    Return { which: usize, succeeds: bool },
    Pass { ms: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Acquire),
        3 => (any::<usize>(), prop::bool::weighted(0.4))
            .prop_map(|(which, succeeds)| Step::Return { which, succeeds }),
        1 => (0u64..12_000).prop_map(|ms| Step::Pass { ms }),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    /// Between two changes of state no more than three sends pass unless it is closed, and it is never
    /// stuck: when all is quiet for long enough, a send passes.
    #[test]
    fn never_more_probes_than_three_and_never_stuck(steps in steps()) {
        let mut breaker = CircuitBreaker::new(CONFIG);
        let (mut now, mut out, mut probes) = (at(0), Vec::new(), 0);
        for step in steps {
            match step {
                Step::Acquire => {
                    let before = breaker.state();
                    if let Some(permit) = breaker.try_acquire(now) {
                        probes = match (before, breaker.state()) {
                            (_, BreakerState::Closed) => 0,
                            (BreakerState::Open, _) => 1,
                            _ => probes + 1,
                        };
                        prop_assert!(probes <= 3);
                        out.push(permit);
                    }
                }
                Step::Return { which, succeeds } if !out.is_empty() => {
                    let permit = out.swap_remove(which % out.len());
                    breaker.on_result(permit, succeeds, now);
                }
                Step::Return { .. } => {}
                Step::Pass { ms } => {
                    now = now.plus_ms(ms);
                    breaker.tick(now);
                }
            }
        }
        now = now.plus_ms(2_000);
        breaker.tick(now);
        now = now.plus_ms(10_000);
        prop_assert!(breaker.try_acquire(now).is_some());
    }
}

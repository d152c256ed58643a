//! The shell over a fake sink, in virtual time: tokio's clock moves on when nothing else can happen.

use std::time::Duration;

use tokio::time::Instant;
use weir_traffic::dedup::DedupConfig;
use weir_traffic::{
    Accepted, BreakerState, Outgoing, Priority, Refused, Sink, SinkError, TrafficConfig,
    TrafficHandle,
};

use crate::fake::{Fake, Lines, Mood};

const MS: Duration = Duration::from_millis(1);
const WORKS: Mood = Mood::Works(Duration::from_millis(1));

fn event(key: u64, value: impl ToString) -> Outgoing {
    Outgoing::new("drone-events", value.to_string(), 0).with_key(key.to_string())
}

fn start(mood: Mood, config: TrafficConfig) -> (TrafficHandle, Fake) {
    let fake = Fake::new(mood);
    (TrafficHandle::start(config, fake.clone()).unwrap(), fake)
}

fn config() -> TrafficConfig {
    TrafficConfig::default()
}

fn code(answer: Result<Accepted, Refused>) -> &'static str {
    answer.unwrap_err().code
}

/// Waits in virtual time until it is so; 100 s at most.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + 100_000 * MS;
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(MS).await;
    }
}

#[tokio::test(start_paused = true)]
async fn accepted_means_the_sink_has_acknowledged() {
    let (traffic, fake) = start(Mood::Works(20 * MS), config());
    let begun = Instant::now();
    let accepted = traffic.publish(event(1, "a")).await.unwrap();
    assert_eq!(accepted, Accepted { partition: 0, offset: Some(0), duplicate: false });
    assert!(begun.elapsed() >= 20 * MS && begun.elapsed() < 25 * MS, "{:?}", begun.elapsed());
    assert_eq!(fake.values(), ["a"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn events_of_one_device_lie_in_the_order_of_their_numbers_whoever_sends_them() {
    let (traffic, fake) = start(Mood::Works(Duration::ZERO), config());
    let sender = |n: u64| {
        let traffic = traffic.clone();
        tokio::spawn(async move {
            for value in 0..300 {
                traffic.publish(event(7, n * 1_000 + value)).await.unwrap();
            }
        })
    };
    let senders: Vec<_> = (0..8).map(sender).collect();
    for sender in senders {
        sender.await.unwrap();
    }
    let seqs = fake.written.lock().unwrap().seqs.clone();
    assert_eq!(seqs.len(), 2_400);
    assert!(seqs.is_sorted_by(|a, b| a < b), "strictly");
}

#[tokio::test(start_paused = true)]
async fn answers_of_many_come_in_the_order_of_the_events() {
    let (traffic, fake) = start(WORKS, config());
    let mut events: Vec<_> = (0..350).map(|n| event(n % 7, n)).collect();
    events[100].value = vec![b'x'; 70 << 20].into();
    let answers = traffic.publish_many(events).await;
    assert_eq!(answers.len(), 350);
    for (index, answer) in answers.into_iter().enumerate() {
        match index {
            100 => assert_eq!(code(answer), "WEIR-0503"),
            _ => {
                let offset = usize::try_from(answer.unwrap().offset.unwrap()).unwrap();
                assert_eq!(fake.values()[offset], index.to_string());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_sink_opens_the_breaker_and_three_probes_close_it_again() {
    let lines = Lines::default();
    let guard = tracing::subscriber::set_default(lines.clone());
    let (traffic, fake) = start(Mood::Away, config());
    let begun = Instant::now();
    let refused = traffic.publish(event(1, "lost?")).await.unwrap_err();
    assert_eq!(refused.code, "WEIR-0504");
    assert_eq!(begun.elapsed().as_millis(), 10_000, "wait_max after the first failure");
    let retry_after = Duration::from_millis(refused.retry_after_ms.unwrap());
    assert_eq!(traffic.stats().breaker.state, BreakerState::Open);
    assert_eq!(fake.calls(), 5);
    fake.set(WORKS);
    tokio::time::sleep(retry_after).await;
    for n in 0..3 {
        traffic.publish(event(n, n)).await.unwrap();
    }
    assert_eq!(traffic.stats().breaker.state, BreakerState::Closed);
    traffic.shutdown(MS).await;
    for line in ["opened", "half-open", "closed"] {
        assert_eq!(lines.count(&format!("Circuit breaker {line}")), 1, "{line}");
    }
    for line in ["Traffic manager started", "Traffic manager stopped"] {
        assert_eq!(lines.count(line), 1, "{line}");
    }
    drop(guard);
}

#[tokio::test(start_paused = true)]
async fn attempts_that_fail_open_the_breaker_long_before_their_batches_come_back() {
    let config = TrafficConfig { circuit_timeout_ms: 30_000, ..config() };
    let (traffic, fake) = start(Mood::Hangs, config);
    let publish = |key: u64| {
        let caller = traffic.clone();
        tokio::spawn(async move { caller.publish(event(key, key)).await })
    };
    let stuck = publish(1);
    for n in 0..5 {
        tokio::time::sleep(100 * MS).await;
        assert_eq!(traffic.stats().breaker.state, BreakerState::Closed, "after {n}");
        fake.attempt(Some("connection refused"));
    }
    tokio::time::sleep(MS).await;
    let stats = traffic.stats();
    assert_eq!(stats.breaker.state, BreakerState::Open);
    assert_eq!(stats.sink.last_error.as_deref(), Some("connection refused"));
    assert_eq!(stats.sink.away_ms, Some(401), "since the first that failed");

    let begun = Instant::now();
    let refused = publish(2).await.unwrap().unwrap_err();
    assert_eq!((begun.elapsed().as_secs(), fake.calls()), (10, 1), "it waited in its lane");
    assert_eq!(refused.code, "WEIR-0504");
    assert!(refused.retry_after_ms.is_some());
    assert_eq!(refused.detail.as_deref(), Some("the circuit breaker is open; connection refused"));
    assert!(traffic.ledger().balances());

    // The sink is back in the middle of the wait.
    let waits = publish(3);
    tokio::time::sleep(500 * MS).await;
    assert_eq!(traffic.stats().breaker.state, BreakerState::Open);
    fake.set(WORKS);
    let begun = Instant::now();
    fake.attempt(None);
    let after: Vec<_> = (4..8).map(publish).collect();
    for caller in after {
        caller.await.unwrap().unwrap();
    }
    assert!(begun.elapsed() < 200 * MS, "nobody waits out circuit_timeout: {:?}", begun.elapsed());
    assert_eq!(traffic.stats().sink.last_error, None);
    assert!(traffic.ledger().balances());
    waits.await.unwrap().unwrap();
    publish(8).await.unwrap().unwrap();
    assert_eq!(traffic.stats().breaker.state, BreakerState::Closed, "three probes");
    assert_eq!(fake.recalls(), 1);
    drop(stuck);
}

#[tokio::test(start_paused = true)]
async fn an_outage_shorter_than_the_deadline_costs_no_event_and_no_order() {
    let (traffic, fake) = start(WORKS, TrafficConfig { circuit_timeout_ms: 3_000, ..config() });
    let mut callers = Vec::new();
    for n in 0..2_000_u64 {
        if n == 500 {
            fake.set(Mood::Away);
        }
        if n == 1_500 {
            fake.set(WORKS);
        }
        let mut event = event(n % 10, n);
        event.priority = [Priority::High, Priority::Normal][usize::from(n % 20 >= 10)];
        let caller = traffic.clone();
        callers.push(tokio::spawn(async move { caller.publish(event).await }));
        tokio::time::sleep(MS).await;
    }
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    let written = fake.written.lock().unwrap();
    assert_eq!(written.values.len(), 2_000);
    for values in written.by_key.values() {
        let numbers: Vec<u64> = values.iter().map(|value| value.parse().unwrap()).collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
    }
    let total = traffic.ledger().total();
    assert_eq!((total.offered, total.delivered), (2_000, 2_000));
}

#[tokio::test(start_paused = true)]
async fn under_partial_failures_each_event_is_written_once_and_in_order_per_key() {
    let (traffic, fake) =
        start(Mood::Flaky, TrafficConfig { retry_backoff_ms: 1, wait_max_ms: 60_000, ..config() });
    let mut callers = Vec::new();
    for n in 0..3_000_u64 {
        let mut event = event(n % 25, n);
        event.priority = Priority::ALL[usize::try_from(n % 25 % 4).unwrap()];
        let caller = traffic.clone();
        callers.push(tokio::spawn(async move { caller.publish(event).await }));
        if n % 40 == 0 {
            tokio::time::sleep(MS).await;
            assert!(traffic.ledger().balances());
        }
    }
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    let written = fake.written.lock().unwrap();
    assert_eq!(written.values.len(), 3_000);
    for values in written.by_key.values() {
        let numbers: Vec<u64> = values.iter().map(|value| value.parse().unwrap()).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    }
    assert!(written.at_once_max > 1, "batches overlapped, or this shows nothing");
    assert!(traffic.stats().sink.events_retried > 100);
}

#[tokio::test(start_paused = true)]
async fn shutdown_sends_what_waits_and_gives_back_what_it_cannot() {
    let (traffic, fake) = start(Mood::Works(10 * MS), config());
    let publishing = tokio::spawn({
        let traffic = traffic.clone();
        async move { traffic.publish_many((0..1_000).map(|n| event(n, n)).collect()).await }
    });
    until("all admitted", || traffic.ledger().total().offered == 1_000).await;
    let report = traffic.shutdown(1_000 * MS).await;
    assert_eq!((report.given_back, report.in_flight), (0, 0));
    assert!(publishing.await.unwrap().iter().all(Result::is_ok));
    assert_eq!(fake.values().len(), 1_000);
    assert_eq!(code(traffic.publish(event(1, "late")).await), "WEIR-0505");

    let (traffic, _fake) = start(Mood::Away, config());
    let publishing = tokio::spawn({
        let traffic = traffic.clone();
        async move { traffic.publish_many((0..150).map(|n| event(n, n)).collect()).await }
    });
    until("all admitted", || traffic.ledger().total().offered == 150).await;
    let begun = Instant::now();
    let report = traffic.shutdown(500 * MS).await;
    assert_eq!(begun.elapsed(), 500 * MS);
    assert_eq!((report.given_back, report.in_flight), (150, 0));
    assert_eq!(report.ledger.total().queued, 0);
    assert!(publishing.await.unwrap().into_iter().all(|answer| code(answer) == "WEIR-0505"));
}

#[tokio::test(start_paused = true)]
async fn a_repeat_waits_for_the_first_and_later_ones_are_told_where_it_lies() {
    let (traffic, fake) = start(Mood::Works(50 * MS), config());
    let first = tokio::spawn({
        let traffic = traffic.clone();
        async move { traffic.publish(event(1, "a").with_id("id-1")).await }
    });
    until("the first is on its way", || fake.calls() == 1).await;
    let begun = Instant::now();
    let repeat = traffic.publish(event(1, "a").with_id("id-1")).await.unwrap();
    assert!(begun.elapsed() > 40 * MS);
    assert_eq!(repeat, Accepted { partition: 0, offset: Some(0), duplicate: true });
    assert!(!first.await.unwrap().unwrap().duplicate);
    let both = traffic
        .publish_many(vec![event(1, "a").with_id("id-1"), event(1, "b").with_id("id-2")])
        .await;
    assert!(both[0].as_ref().unwrap().duplicate && !both[1].as_ref().unwrap().duplicate);
    let twice = vec![event(1, "c").with_id("id-3"), event(1, "c").with_id("id-3")];
    let twice = traffic.publish_many(twice).await;
    assert_eq!(twice.iter().filter(|answer| answer.as_ref().unwrap().duplicate).count(), 1);
    assert_eq!(fake.values(), ["a", "b", "c"]);
    let dedup = traffic.stats().dedup.unwrap();
    assert_eq!((dedup.ids, dedup.pending, dedup.duplicates), (3, 0, 3));
}

#[tokio::test(start_paused = true)]
async fn a_refused_id_may_come_again() {
    let (traffic, fake) = start(Mood::Refuses, config());
    let refused = traffic.publish(event(1, "a").with_id("x")).await.unwrap_err();
    assert_eq!((refused.code, refused.retry_after_ms), ("WEIR-0506", None));
    assert_eq!(refused.detail.as_deref(), Some("too large"));
    fake.set(WORKS);
    let again = tokio::time::timeout(1_000 * MS, traffic.publish(event(1, "a").with_id("x"))).await;
    assert!(!again.expect("it does not wait for the first").unwrap().duplicate);
}

#[tokio::test(start_paused = true)]
async fn urgent_overtakes_a_backlog_and_the_rate_limit() {
    let limited = TrafficConfig { max_rate: Some(100), in_flight_max: 1, ..config() };
    let (traffic, _fake) = start(WORKS, limited);
    let flood = tokio::spawn({
        let traffic = traffic.clone();
        async move { traffic.publish_many((0..500).map(|n| event(n, n)).collect()).await }
    });
    until("the flood is in", || traffic.ledger().total().offered == 500).await;
    let begun = Instant::now();
    traffic.publish(event(1, "mayday").with_priority(Priority::Urgent)).await.unwrap();
    assert!(begun.elapsed() <= 3 * MS, "{:?}", begun.elapsed());
    assert!(traffic.ledger().class(Priority::Normal).queued > 400);
    flood.await.unwrap();
    assert!(begun.elapsed() > 4_900 * MS && begun.elapsed() < 5_100 * MS, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn new_limits_take_effect_while_events_wait() {
    let slow = TrafficConfig { max_rate: Some(10), wait_max_ms: 100_000, ..config() };
    let (traffic, _fake) = start(WORKS, slow);
    let flood = tokio::spawn({
        let traffic = traffic.clone();
        async move { traffic.publish_many((0..1_000).map(|n| event(n, n)).collect()).await }
    });
    until("the flood is in", || traffic.ledger().total().offered == 1_000).await;
    assert_eq!(
        traffic.reload(TrafficConfig { batch_size: 0, ..config() }).unwrap_err().code(),
        "WEIR-0510"
    );
    assert_eq!(traffic.config().max_rate, Some(10));
    let begun = Instant::now();
    traffic.reload(config()).unwrap();
    assert!(flood.await.unwrap().iter().all(Result::is_ok));
    assert!(begun.elapsed() < 100 * MS, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_panics_loses_nothing_from_the_ledger_and_no_caller_hangs() {
    let (traffic, fake) = start(Mood::Panics, config());
    assert_eq!(code(traffic.publish(event(1, "a")).await), "WEIR-0507");
    let total = traffic.ledger().total();
    assert_eq!((total.in_flight, total.refused.total()), (0, 1));
    fake.set(WORKS);
    traffic.publish(event(1, "b")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_hangs_holds_up_nobody_for_longer_than_the_deadline() {
    let (traffic, _fake) = start(Mood::Hangs, TrafficConfig { in_flight_max: 1, ..config() });
    let stuck = tokio::spawn({
        let traffic = traffic.clone();
        async move { traffic.publish(event(1, "a")).await }
    });
    until("the first is on its way", || traffic.ledger().total().in_flight == 1).await;
    let begun = Instant::now();
    assert_eq!(code(traffic.publish(event(2, "b")).await), "WEIR-0504");
    assert!(begun.elapsed() <= 15_000 * MS, "send_timeout and wait_max: {:?}", begun.elapsed());
    let report = traffic.shutdown(10 * MS).await;
    assert_eq!(report.in_flight, 1);
    assert_eq!(code(stuck.await.unwrap()), "WEIR-0507", "told, though it is still on its way");
}

fn codes(answers: Vec<Result<Accepted, Refused>>) -> Vec<&'static str> {
    answers.into_iter().map(|answer| answer.map_or_else(|refused| refused.code, |_| "ok")).collect()
}

#[tokio::test(start_paused = true)]
async fn after_an_event_is_refused_for_now_later_ones_of_its_key_in_the_request_are_too() {
    let tight = TrafficConfig { buffer_bytes_max: 1_024, ..config() };
    let (traffic, fake) = start(WORKS, tight);
    let sized = |key, size: usize| event(key, "x".repeat(size));
    let events = vec![
        sized(1, 700),
        sized(2, 2_000),
        sized(1, 400),
        sized(1, 10),
        sized(1, 10).with_priority(Priority::High),
        sized(2, 10),
        sized(3, 10),
    ];
    let answers = traffic.publish_many(events).await;
    let (second, third) = (answers[2].clone().unwrap_err(), answers[3].clone().unwrap_err());
    assert_eq!(second, third, "with the same reason and retry_after");
    let expected = ["ok", "WEIR-0503", "WEIR-0502", "WEIR-0502", "ok", "ok", "ok"];
    assert_eq!(codes(answers), expected, "what will never be taken holds up nobody");
    assert_eq!(fake.values().len(), 4);
    let total = traffic.ledger().total();
    assert_eq!((total.offered, total.rejected.total(), total.delivered), (7, 3, 4));
    assert!(traffic.ledger().balances());
    traffic.publish(sized(1, 400)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn after_a_repeat_too_many_later_events_of_its_key_in_the_request_are_refused_too() {
    let fake = Fake::new(Mood::Works(50 * MS));
    let no_waiters = DedupConfig { waiters_max: 0, ..DedupConfig::default() };
    let traffic = TrafficHandle::start_with(config(), no_waiters, fake.clone()).unwrap();
    let first = tokio::spawn({
        let traffic = traffic.clone();
        async move { traffic.publish(event(1, "a").with_id("a")).await }
    });
    until("the first is on its way", || fake.calls() == 1).await;
    let events = vec![
        event(1, "0"),
        event(1, "a").with_id("a"),
        event(1, "b").with_id("b"),
        event(1, "c"),
        event(2, "d").with_id("d"),
    ];
    let answers = traffic.publish_many(events).await;
    assert_eq!(codes(answers), ["ok", "WEIR-0508", "WEIR-0508", "WEIR-0508", "ok"]);
    first.await.unwrap().unwrap();
    let again = traffic.publish(event(1, "b").with_id("b")).await.unwrap();
    assert!(!again.duplicate, "a refused id is new");
}

#[tokio::test(start_paused = true)]
async fn any_number_of_repeats_in_one_request_share_the_outcome_of_the_first() {
    let (traffic, fake) = start(Mood::Works(50 * MS), config());
    let repeats = || (0..301).map(|n| event(1, n).with_id(["x", "y"][n % 2])).collect::<Vec<_>>();
    let calls = [0, 1].map(|_| {
        let (traffic, events) = (traffic.clone(), repeats());
        tokio::spawn(async move { traffic.publish_many(events).await })
    });
    for (call, answers) in calls.into_iter().enumerate() {
        for (index, answer) in answers.await.unwrap().into_iter().enumerate() {
            let accepted = answer.unwrap();
            let offset = i64::try_from(index % 2).unwrap();
            assert_eq!(accepted.duplicate, call > 0 || index > 1, "{call} {index}");
            assert_eq!(accepted.offset, Some(offset), "{call} {index}");
        }
    }
    assert_eq!(fake.values(), ["0", "1"]);
    assert_eq!(traffic.stats().dedup.unwrap().duplicates, 600);
    let total = traffic.ledger().total();
    assert_eq!((total.offered, total.delivered), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn repeats_in_a_request_whose_first_is_refused_or_in_doubt_are_told_the_same() {
    for (mood, told) in [(Mood::Away, "WEIR-0504"), (Mood::Hangs, "WEIR-0507")] {
        let (traffic, _fake) = start(mood, config());
        let events = (0..40).map(|n| event(1, n).with_id("x")).collect();
        let answers = traffic.publish_many(events).await;
        assert_eq!(codes(answers), [told; 40]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeat_of_an_unknown_outcome_gets_the_late_answer_and_is_written_once() {
    let (traffic, fake) = start(Mood::Works(20_000 * MS), config());
    let begun = Instant::now();
    let unknown = traffic.publish(event(1, "a").with_id("x")).await.unwrap_err();
    assert_eq!((unknown.code, begun.elapsed()), ("WEIR-0507", 15_000 * MS));
    assert!(unknown.to_string().contains("waits for its outcome"), "{unknown}");
    let repeat = traffic.publish(event(1, "a").with_id("x")).await.unwrap();
    assert!(repeat.duplicate && begun.elapsed() <= 20_010 * MS, "{:?}", begun.elapsed());
    assert_eq!(fake.values(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_without_a_late_answer_is_forgotten() {
    let (traffic, fake) = start(Mood::Works(60_000 * MS), config());
    let begun = Instant::now();
    assert_eq!(code(traffic.publish(event(1, "a").with_id("x")).await), "WEIR-0507");
    assert_eq!(code(traffic.publish(event(1, "a").with_id("x")).await), "WEIR-0507");
    assert_eq!(begun.elapsed(), 45_000 * MS, "twice as long again");
    assert_eq!(traffic.stats().dedup.unwrap().pending, 0);
    until("the answer comes after all", || !fake.values().is_empty()).await;
    until("it counts", || traffic.ledger().total().delivered == 1).await;
    assert!(traffic.publish(event(1, "a").with_id("x")).await.unwrap().duplicate);
}

#[tokio::test(start_paused = true)]
async fn events_behind_one_in_doubt_are_given_back_with_it() {
    let (traffic, fake) =
        start(Mood::Hangs, TrafficConfig { batch_size: 1, send_timeout_ms: 20_000, ..config() });
    let begun = Instant::now();
    let both = tokio::spawn({
        let traffic = traffic.clone();
        async move { traffic.publish_many(vec![event(1, "a"), event(1, "b")]).await }
    });
    until("the first is on its way", || fake.calls() == 1).await;
    fake.set(WORKS);
    tokio::time::sleep(25_000 * MS).await;
    traffic.publish(event(2, "c")).await.unwrap();
    assert_eq!(traffic.stats().sink.away_ms, None, "so the second does not expire by itself");
    let answers = tokio::time::timeout(60_000 * MS, both).await.expect("answered").unwrap();
    assert_eq!(codes(answers), ["WEIR-0507", "WEIR-0504"]);
    assert_eq!((begun.elapsed(), fake.values()), (30_000 * MS, vec!["c".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_changes_nothing_for_its_event() {
    let (traffic, fake) = start(Mood::Works(50 * MS), config());
    let given_up = tokio::time::timeout(10 * MS, traffic.publish(event(1, "a"))).await;
    assert!(given_up.is_err());
    until("it is delivered", || traffic.ledger().total().delivered == 1).await;
    assert_eq!(fake.values(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn batches_are_logged_at_most_once_a_second() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    let (traffic, fake) = start(WORKS, config());
    for n in 0..2_500 {
        traffic.publish(event(1, n)).await.unwrap();
    }
    assert!(fake.calls() == 2_500);
    let count = lines.count("Batch processed");
    assert!((3..=7).contains(&count), "2,500 batches in about 5 s: {count} lines");
    tokio::time::sleep(1_100 * MS).await;
    let flushed = lines.count("Batch processed");
    tokio::time::sleep(5_000 * MS).await;
    assert_eq!(lines.count("Batch processed"), flushed, "nothing to say, nothing said");
    assert!(flushed > count || count > 5);
}

/// What it takes to write a sink: one function.
#[tokio::test(start_paused = true)]
async fn any_type_can_be_a_sink() {
    struct Null;
    impl Sink for Null {
        async fn send(&self, batch: &[&Outgoing]) -> Vec<Result<Accepted, SinkError>> {
            vec![Ok(Accepted { partition: 0, offset: None, duplicate: false }); batch.len()]
        }
    }
    let traffic = TrafficHandle::start(config(), Null).unwrap();
    assert_eq!(traffic.publish(event(1, "a")).await.unwrap().offset, None);
}

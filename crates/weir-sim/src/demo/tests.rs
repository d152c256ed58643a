use super::*;
use proptest::prelude::*;

const START: TimestampMs = TimestampMs(1_754_217_000_000);

/// The whole stream of `seconds`, stepped as given.
fn stream(seed: u64, seconds: i64, step_ms: impl Fn(i64) -> i64) -> Vec<SimEvent> {
    let mut fleet = DemoFleet::new(seed, START);
    let (mut at, mut calls, mut events) = (0, 0, Vec::new());
    while at < seconds * 1_000 {
        at = (at + step_ms(calls).max(1)).min(seconds * 1_000);
        calls += 1;
        events.extend(fleet.step(START.plus_ms(at)));
    }
    events
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let first = stream(1, 40, |_| 500);
    assert_eq!(first, stream(1, 40, |_| 500));
    assert_ne!(first, stream(2, 40, |_| 500));
    assert!(first.len() > 2_000, "{}", first.len());
}

#[test]
fn ids_differ_within_a_run_and_between_starts() {
    let mut ids: Vec<String> = stream(1, 20, |_| 500).into_iter().map(|e| id_of(&e)).collect();
    let mut later = DemoFleet::new(1, START.plus_ms(1));
    ids.extend(later.step(START.plus_ms(20_000)).iter().map(id_of));
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

fn id_of(event: &SimEvent) -> String {
    let json: serde_json::Value = serde_json::from_str(&event.json).unwrap();
    json["id"].as_str().unwrap().to_owned()
}

#[test]
fn events_come_in_order_and_none_before_its_time() {
    let mut fleet = DemoFleet::new(5, START);
    let mut last = START;
    for at in 1..200 {
        let now = START.plus_ms(at * 100);
        for event in fleet.step(now) {
            assert!(last <= event.at && event.at <= now, "{event:?}");
            last = event.at;
        }
    }
    assert!(fleet.step(START).is_empty(), "time that goes back gives nothing");
}

#[test]
fn a_long_sleep_is_not_made_up_for() {
    let mut fleet = DemoFleet::new(5, START);
    fleet.step(START.plus_ms(1_000));
    let woken = fleet.step(START.plus_ms(8 * 3_600_000));
    assert!(woken.len() < 500, "{} events", woken.len());
    assert!(!fleet.step(START.plus_ms(8 * 3_600_000 + 1_000)).is_empty());
}

#[test]
fn an_order_is_obeyed_once_whatever_comes_between_its_repeats() {
    let mut fleet = DemoFleet::new(5, START);
    fleet.step(START.plus_ms(1_000));
    let order = |alert_id: &str| Order {
        alert_id: alert_id.to_owned(),
        device: "1".to_owned(),
        action: weir_fleet::AutoAction::ReturnToBase,
    };
    let obeyed: Vec<Obeyed> =
        ["A1", "A2", "A1", "A2"].into_iter().map(|alert_id| fleet.obey(&order(alert_id))).collect();
    assert_eq!(obeyed[2..], [Obeyed::Repeat, Obeyed::Repeat], "{obeyed:?}");
    assert!(!obeyed[..2].contains(&Obeyed::Repeat), "{obeyed:?}");
}

#[test]
fn the_shipped_zones_are_whole() {
    let zones = ZoneSet::from_geojson(DEMO_ZONES_GEOJSON).unwrap();
    assert_eq!(zones.len(), 4);
    for zone in zones.zones() {
        assert!(zone.name_zh != zone.name_en && zone.upper_m.is_some(), "{zone:?}");
    }
    // The hole of the stadium is free.
    assert!(zones.hits(22.5180, 113.9460, Some(100.0)).is_empty());
    assert_eq!(zones.hits(22.5160, 113.9460, Some(100.0)).len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.min(16), ..ProptestConfig::default() })]

    #[test]
    fn how_often_it_is_stepped_does_not_matter(
        seed in any::<u64>(), steps in proptest::collection::vec(1_i64..3_000, 1..20),
    ) {
        let regular = stream(seed, 15, |_| 500);
        let irregular = stream(seed, 15, |call| steps[call as usize % steps.len()]);
        prop_assert_eq!(regular, irregular);
    }
}

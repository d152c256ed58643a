use super::*;
use crate::events::{validate, Altitude, Latitude, Longitude};
use proptest::prelude::*;

const ZONES: &str = r#"{"type":"FeatureCollection","features":[
  {"type":"Feature","properties":{"id":"z","name":"Z","upper_m":100},"geometry":{"type":"Polygon",
   "coordinates":[[[8.0,47.0],[9.0,47.0],[9.0,48.0],[8.0,48.0],[8.0,47.0]]]}}]}"#;

fn handler() -> LocationHandler {
    LocationHandler::new(Arc::new(ZoneSet::from_geojson(ZONES).unwrap()))
}

fn fix(device: &'static str, at: i64, latitude: f64, offset: i64) -> Fix<'static> {
    Fix {
        device: Id::Text(device.into()),
        at: TimestampMs(at),
        received: TimestampMs(at),
        location: Location {
            latitude: Latitude::new(latitude).unwrap(),
            longitude: Longitude::new(8.5).unwrap(),
            altitude: Altitude::new(50.0),
        },
        heading: None,
        speed: None,
        battery: None,
        status: None,
        record: RecordRef { partition: PartitionId(0), offset: Offset(offset) },
    }
}

fn run(handler: &mut LocationHandler, fixes: &[Fix<'_>]) -> Vec<Effect> {
    let mut effects = Vec::new();
    for fix in fixes {
        handler.handle(fix, &mut effects);
    }
    effects
}

/// Effects in short: `push`, `store`, `in`, `out`, `raise`, `clear`.
fn words(effects: &[Effect]) -> Vec<&'static str> {
    effects
        .iter()
        .map(|effect| match effect {
            Effect::Push(_) => "push",
            Effect::Store(_) => "store",
            Effect::Zone(transition) if transition.entered => "in",
            Effect::Zone(_) => "out",
            Effect::Alert(AlertChange::Raised(_)) => "raise",
            Effect::Alert(AlertChange::Cleared(..)) => "clear",
        })
        .collect()
}

#[test]
fn a_fix_goes_through_the_four_steps() {
    let mut handler = handler();
    let effects = run(&mut handler, &[fix("a", 1, 47.5, 0)]);
    assert_eq!(words(&effects), ["in", "raise", "push", "store"]);
    let live = handler.live().get("a").unwrap();
    assert_eq!((live.latitude, live.zones_inside, live.seq), (47.5, 1, 1));
    let Effect::Alert(change) = &effects[1] else { panic!("no alert") };
    assert_eq!(change.alert().alert_id, "zone_breach:a:z:1-0-0");
    assert_eq!(change.alert().level, crate::events::AlertLevel::Critical);
}

#[test]
fn jitter_on_a_border_is_one_entry_and_three_fixes_outside_end_it() {
    let mut handler = handler();
    let outside_and_in = [47.5, 46.9, 46.9, 47.5, 46.9, 46.9, 47.5];
    let fixes: Vec<Fix<'_>> =
        outside_and_in.iter().zip(0..).map(|(latitude, at)| fix("a", at, *latitude, at)).collect();
    let raised = words(&run(&mut handler, &fixes)).iter().filter(|word| **word == "raise").count();
    assert_eq!(raised, 1);
    let leaving: Vec<Fix<'_>> = (10..13).map(|at| fix("a", at, 46.9, at)).collect();
    let effects = run(&mut handler, &leaving);
    assert_eq!(
        words(&effects),
        ["push", "store", "push", "store", "out", "clear", "push", "store"]
    );
    let again = run(&mut handler, &[fix("a", 20, 47.5, 20)]);
    let Effect::Alert(change) = &again[1] else { panic!("no alert") };
    assert_eq!(change.alert().alert_id, "zone_breach:a:z:20-0-20");
}

#[test]
fn a_late_fix_is_stored_and_moves_nothing() {
    let mut handler = handler();
    run(&mut handler, &[fix("a", 100, 46.0, 5)]);
    let effects = run(&mut handler, &[fix("a", 50, 47.5, 6)]);
    assert_eq!(words(&effects), ["store"]);
    assert_eq!(handler.live().get("a").map(|live| live.latitude), Some(46.0));
    assert_eq!(handler.alerts().open_alerts().count(), 0);
}

#[test]
fn two_fixes_of_one_time_go_by_their_offsets() {
    let mut handler = handler();
    run(&mut handler, &[fix("a", 100, 46.0, 5), fix("a", 100, 46.1, 6)]);
    assert_eq!(handler.live().get("a").map(|live| live.latitude), Some(46.1));
    run(&mut handler, &[fix("a", 100, 46.0, 5)]);
    assert_eq!(handler.live().get("a").map(|live| live.latitude), Some(46.1));
}

#[test]
fn a_fix_from_the_future_does_not_freeze_its_device() {
    let mut handler = handler();
    let mut wrong = fix("a", 10_000_000_000, 46.5, 1);
    wrong.received = TimestampMs(10);
    let effects = run(&mut handler, &[fix("a", 10, 46.0, 0), wrong, fix("a", 20, 46.1, 2)]);
    assert_eq!(words(&effects), ["push", "store", "store", "push", "store"]);
    assert_eq!(handler.live().get("a").map(|live| live.latitude), Some(46.1));
}

fn handler_of(devices_max: usize) -> LocationHandler {
    let zones = Arc::new(ZoneSet::from_geojson(ZONES).unwrap());
    LocationHandler::with_devices_max(zones, devices_max)
}

#[test]
fn a_device_beyond_the_limit_takes_the_place_of_the_one_silent_the_longest() {
    let mut handler = handler_of(2);
    // `a` is inside the zone and speaks again before `c` comes, so `b` goes.
    let fixes =
        [fix("a", 1, 47.5, 0), fix("b", 2, 46.0, 1), fix("a", 3, 47.5, 2), fix("c", 4, 47.5, 3)];
    let effects = run(&mut handler, &fixes);
    assert_eq!(
        words(&effects),
        [
            "in", "raise", "push", "store", "push", "store", "push", "store", "in", "raise",
            "push", "store"
        ]
    );
    assert_eq!((handler.live().len(), handler.live().evicted()), (2, 1));
    assert!(handler.live().get("b").is_none() && handler.live().get("c").is_some());
}

#[test]
fn alerts_of_a_device_that_gives_way_are_cleared_when_it_last_spoke() {
    let mut handler = handler_of(1);
    let effects =
        run(&mut handler, &[fix("a", 1, 47.5, 0), fix("a", 7, 47.6, 1), fix("b", 9, 46.0, 2)]);
    let Some(Effect::Alert(AlertChange::Cleared(alert, at))) =
        effects.iter().find(|effect| matches!(effect, Effect::Alert(AlertChange::Cleared(..))))
    else {
        panic!("nothing is cleared: {effects:?}")
    };
    assert_eq!((alert.device.to_string().as_str(), at.get()), ("a", 7));
    assert_eq!(handler.alerts().open_alerts().count(), 0);
}

fn heartbeat(handler: &mut LocationHandler, device: &str, at: i64, percent: f64) -> Vec<Effect> {
    let data = format!(r#"{{"drone_id":"{device}","battery":{percent}}}"#);
    let event = validate("drone.heartbeat", &data).unwrap();
    let record = RecordRef { partition: PartitionId(0), offset: Offset(at) };
    let mut effects = Vec::new();
    handler.handle_event(&event, TimestampMs(at), TimestampMs(at), record, &mut effects);
    effects
}

#[test]
fn alerts_of_devices_without_a_position_are_bounded_and_go_by_the_order_of_time() {
    let mut handler = handler_of(10);
    for number in 0..1_000 {
        let raised = heartbeat(&mut handler, &format!("junk{number}"), number, 5.0);
        assert!(words(&raised).contains(&"raise"), "{raised:?}");
    }
    assert_eq!(handler.alerts().open_alerts().count(), 10);
    assert_eq!(handler.live().iter().count(), 0, "none has said where it is");
    // What was said before is not news: the battery of `junk999` is low since 999.
    assert_eq!(heartbeat(&mut handler, "junk999", 500, 90.0), []);
    assert_eq!(words(&heartbeat(&mut handler, "junk999", 1_500, 90.0)), ["clear"]);
}

#[test]
fn a_restored_handler_has_no_more_devices_than_it_may_have() {
    let mut before = handler_of(10);
    for number in 0..10 {
        heartbeat(&mut before, &format!("junk{number}"), number, 5.0);
    }
    let open: Vec<Alert> = before.alerts().open_alerts().cloned().collect();
    let mut after = handler_of(3);
    let orphans = after.restore([], open);
    assert_eq!((after.alerts().open_alerts().count(), orphans.len()), (3, 7));
    assert_eq!(after.live().len(), 3);
}

#[test]
fn heartbeats_and_status_events_change_the_state_and_raise_battery_alerts() {
    let mut handler = handler();
    run(&mut handler, &[fix("7", 1, 46.0, 0)]);
    let mut effects = Vec::new();
    for (offset, event_type, data) in [
        (1, "drone.status.changed", r#"{"drone_id":7,"old_status":"idle","new_status":"flying"}"#),
        (2, "drone.heartbeat", r#"{"drone_id":7,"battery":19.5}"#),
        (3, "battery.low", r#"{"drone_id":7,"battery":19.0}"#),
    ] {
        let event = validate(event_type, data).unwrap();
        let record = RecordRef { partition: PartitionId(0), offset: Offset(offset) };
        let at = TimestampMs(10 + offset);
        handler.handle_event(&event, at, at, record, &mut effects);
    }
    assert_eq!(words(&effects), ["push", "raise", "push", "push"]);
    let live = handler.live().get("7").unwrap();
    assert_eq!((live.status.as_deref(), live.battery), (Some("flying"), Some(19.0)));
    assert_eq!(live.seq, handler.live().seq(), "the last change is this one");
}

#[test]
fn a_restored_handler_goes_on_as_if_it_had_not_stopped() {
    let walk: Vec<Fix<'_>> = [46.9, 47.5, 47.6, 47.7, 46.9, 46.9, 46.9]
        .iter()
        .zip(0..)
        .map(|(latitude, at)| {
            let mut fix = fix("a", at, *latitude, at);
            fix.battery = Some(if at < 2 { 30.0 } else { 15.0 });
            fix
        })
        .collect();
    let mut whole = handler();
    let mut expect = run(&mut whole, &walk[..4]);
    let stored = expect.iter().rev().find_map(|effect| match effect {
        Effect::Store(point) => Some(point.clone()),
        _ => None,
    });
    expect = run(&mut whole, &walk[4..]);

    let mut first = handler();
    run(&mut first, &walk[..4]);
    let mut second = handler();
    assert_eq!(second.restore(stored.clone(), first.alerts().open_alerts().cloned()), []);
    let mut without_zones = LocationHandler::new(Arc::new(ZoneSet::empty()));
    let orphans = without_zones.restore(stored, first.alerts().open_alerts().cloned());
    assert_eq!(orphans.iter().map(AlertChange::event_type).collect::<Vec<_>>(), ["alert.cleared"]);
    // What was consumed before the stop comes once more, and changes nothing.
    let replayed = words(&run(&mut second, &walk[..4]));
    assert!(replayed.iter().all(|word| *word == "store"), "{replayed:?}");
    let effects = run(&mut second, &walk[4..]);
    let important = |effects: &[Effect]| -> Vec<Effect> {
        effects.iter().filter(|effect| !matches!(effect, Effect::Push(_))).cloned().collect()
    };
    assert_eq!(important(&effects), important(&expect));
}

fn arbitrary_fix() -> impl Strategy<Value = Fix<'static>> {
    let device = prop_oneof![Just("a"), Just("b"), Just("c")];
    (device, 0_i64..40, 46.8_f64..47.4, 0.0_f64..40.0).prop_map(
        |(device, at, latitude, battery)| {
            let mut fix = fix(device, at, latitude, 0);
            fix.battery = Some(battery);
            fix
        },
    )
}

proptest! {
    #[test]
    fn the_same_records_give_the_same_effects_and_a_replay_raises_nothing(
        mut fixes in proptest::collection::vec(arbitrary_fix(), 1..120),
    ) {
        for (offset, fix) in fixes.iter_mut().enumerate() {
            fix.record.offset = Offset(offset as i64);
        }
        let (mut first, mut second) = (handler(), handler());
        let effects = run(&mut first, &fixes);
        prop_assert_eq!(&effects, &run(&mut second, &fixes));

        // Every record once more, on the same handler: points are stored again (and ignored by the
        // store), but no device moves and nothing is told.
        let replayed = run(&mut first, &fixes);
        prop_assert!(replayed.iter().all(|effect| matches!(effect, Effect::Store(_))));
        prop_assert_eq!(replayed.len(), fixes.len());

        // Each alert is raised once, and an episode ends before the next of its kind begins.
        let mut ids = std::collections::HashSet::new();
        let mut open = std::collections::HashSet::new();
        for effect in &effects {
            let Effect::Alert(change) = effect else { continue };
            let alert = change.alert();
            let episode = (alert.device.to_string(), alert.rule, alert.subject.clone());
            match change {
                AlertChange::Raised(_) => {
                    prop_assert!(ids.insert(alert.alert_id.clone()));
                    prop_assert!(open.insert(episode));
                }
                AlertChange::Cleared(..) => prop_assert!(open.remove(&episode)),
            }
        }
        prop_assert_eq!(open.len(), first.alerts().open_alerts().count());
    }
}

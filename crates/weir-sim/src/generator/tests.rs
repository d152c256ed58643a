use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::scenario::Scenario;

const START: TimestampMs = TimestampMs(1_754_217_000_000);
const SECOND: u64 = 1_000_000_000;

/// Streams by device, truth apart.
#[derive(Debug, Default, PartialEq)]
struct Streams {
    records: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
    truths: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
    due_ns: Vec<u64>,
    /// Takes this many of each 7, to be offered the rest again.
    reluctant: Option<u64>,
    offered: u64,
}

impl RecordSink for Streams {
    fn take(&mut self, draft: &Draft<'_>) -> bool {
        self.offered += 1;
        if self.reluctant.is_some_and(|of_seven| self.offered % 7 >= of_seven) {
            return false;
        }
        let mut value = Vec::new();
        draft.write(&mut value);
        let streams = match draft.stream() {
            Stream::Truth => &mut self.truths,
            _ => &mut self.records,
        };
        streams.entry(draft.key().to_vec()).or_default().push(value);
        self.due_ns.push(draft.due_ns());
        true
    }
}

fn spec(seed: u64, devices: u32, yaml: &str) -> FleetSpec {
    let interval = Duration::from_millis(500);
    let scenario = Scenario::from_yaml(yaml).unwrap();
    FleetSpec {
        seed,
        start: START,
        devices,
        interval,
        anomaly_rate: 0.02,
        scenario,
        ..FleetSpec::default()
    }
}

const ALL_AT_ONCE: &str = "
profiles:
  - {name: a, devices: 13, interval: 300ms, sensors: [temperature, switch, current]}
  - {name: b, devices: 9, interval: 1s, sensors: [pressure], anomaly_rate: 0.1}
  - {name: c, devices: 4, interval: 700ms, drones: true}
phases: [{duration: 5s, rate: 3, easing: ease-in}, {duration: 5s, rate: 0.5}]
bursts: [{at: 3s, duration: 1s, factor: 4}]
outages: [{at: 6s, duration: 2s, share: 0.4, after: resend}, {at: 2s, duration: 1s, share: 0.5}]
late: {share: 0.1, delay: 1s, delay_max: 4s}
duplicates: {share: 0.1, delay: 2s}
out_of_order: {share: 0.2}
clock_skew: {share: 0.5, offset_max: 1m, drift_ppm: 1000}
";

/// Runs a part to `seconds`, `step_ns` at a time.
fn run(spec: &FleetSpec, part: Part, seconds: u64, step_ns: u64, streams: &mut Streams) -> Counts {
    let mut generator = Generator::new(spec, part);
    let mut until_ns = 0;
    while until_ns < seconds * SECOND {
        until_ns = (until_ns + step_ns).min(seconds * SECOND);
        loop {
            let filled = generator.fill(until_ns, 50, streams);
            if filled.records < 50 && !filled.full {
                break;
            }
        }
    }
    generator.finish();
    while generator.fill(u64::MAX, 1_000, streams) != Filled::default() {}
    generator.counts()
}

fn whole(spec: &FleetSpec, seconds: u64) -> Streams {
    let mut streams = Streams::default();
    run(spec, Part::WHOLE, seconds, SECOND, &mut streams);
    streams
}

fn in_parts(spec: &FleetSpec, shards: u32, workers: u32, seconds: u64, step_ns: u64) -> Streams {
    let mut streams = Streams::default();
    for shard in 0..shards {
        for worker in 0..workers {
            let part = Part { shard, shards, worker, workers };
            run(spec, part, seconds, step_ns, &mut streams);
        }
    }
    streams
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn each_device_sends_at_its_interval_from_its_place_in_the_round() {
    let spec = FleetSpec { anomaly_rate: 0.0, ..spec(1, 10, "") };
    let streams = whole(&spec, 60);
    assert_eq!(streams.records.len(), 10);
    for (n, stream) in streams.records.values().enumerate() {
        // Up to and with the 60th second.
        assert_eq!(stream.len(), if n == 0 { 121 } else { 120 });
        let sent: Vec<i64> =
            stream.iter().map(|v| json(v)["data"]["sent"].as_i64().unwrap()).collect();
        assert_eq!(sent[0], START.get() + 50 * n as i64);
        assert!(sent.windows(2).all(|pair| pair[1] - pair[0] == 500));
        let seqs = stream.iter().map(|v| json(v)["data"]["seq"].as_u64().unwrap());
        assert!(seqs.eq(0..stream.len() as u64));
    }
    assert!(streams.due_ns.is_sorted());
}

#[test]
fn a_rate_is_shared_by_all_devices_alike() {
    let spec = FleetSpec { rate: Some(1_000.0), ..spec(1, 50, "") };
    assert!((spec.records_per_second() - 1_000.0).abs() < 1e-6);
    let streams = whole(&FleetSpec { anomaly_rate: 0.0, ..spec }, 3);
    for stream in streams.records.values() {
        assert!((60..=61).contains(&stream.len()), "{}", stream.len());
    }
}

#[test]
fn what_is_done_to_readings_is_told() {
    let spec = spec(4, 26, ALL_AT_ONCE);
    let mut streams = Streams::default();
    let counts = run(&spec, Part::WHOLE, 30, SECOND, &mut streams);
    let mut told: HashMap<String, u64> = HashMap::new();
    for truth in streams.truths.values().flatten() {
        *told.entry(json(truth)["kind"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(told["duplicate"], counts.copies);
    assert_eq!(told["late"] + told["out_of_order"] + told["outage"], counts.held);
    assert!(told["clock_skew"] > 3 && counts.anomalies > 10 && counts.silent > 0);
    let sent: u64 = streams.records.values().map(|stream| stream.len() as u64).sum();
    assert_eq!(sent, counts.records + counts.copies);
    // Every sequence is there, whatever its way.
    for (device, stream) in &streams.records {
        let mut seqs: Vec<u64> =
            stream.iter().map(|value| json(value)["data"]["seq"].as_u64().unwrap()).collect();
        assert!(!seqs.is_sorted(), "{}: in order", String::from_utf8_lossy(device));
        seqs.sort_unstable();
        seqs.dedup();
        assert!(seqs.iter().copied().eq(0..seqs.len() as u64), "{seqs:?}");
    }
}

#[test]
fn nothing_comes_before_its_time_and_the_next_is_known() {
    let spec = FleetSpec { anomaly_rate: 0.0, ..spec(1, 10, "") };
    let mut generator = Generator::new(&spec, Part::WHOLE);
    let mut streams = Streams::default();
    assert_eq!(generator.fill(0, 100, &mut streams).records, 1);
    assert_eq!(generator.next_due_ns(), Some(50_000_000));
    assert_eq!(generator.fill(49_999_999, 100, &mut streams).records, 0);
    assert_eq!(generator.fill(50_000_000, 100, &mut streams).records, 1);
}

#[test]
fn another_seed_or_start_is_another_run() {
    let one = whole(&spec(1, 10, ""), 5);
    assert_ne!(one.records, whole(&spec(2, 10, ""), 5).records);
    assert_ne!(spec(1, 10, "").source(), spec(2, 10, "").source());
    let later = FleetSpec { start: START.plus_ms(1), ..spec(1, 10, "") };
    assert_ne!(later.source(), spec(1, 10, "").source());
}

#[test]
fn rates_and_trends_change_live_and_ids_stay() {
    let spec = FleetSpec { anomaly_rate: 0.0, ..spec(1, 10, "") };
    let mut generator = Generator::new(&spec, Part::WHOLE);
    let mut streams = Streams::default();
    generator.fill(30 * SECOND, usize::MAX, &mut streams);
    assert_eq!(generator.counts().anomalies, 0);
    generator.set_anomaly_rate(0.1);
    generator.set_trends(Trends::new(1, 0.0, 0.0));
    generator.fill(120 * SECOND, usize::MAX, &mut streams);
    assert!(generator.counts().anomalies > 10);
    assert_eq!(streams.records.len(), 10);
    // No variation, no trend: what is no anomaly is the mean.
    let last = streams
        .records
        .values()
        .map(|stream| json(&stream[stream.len() - 1])["data"]["value"].clone());
    assert!(last.filter(|value| *value == 25.0 || *value == 60.0 || *value == 2.5).count() >= 2);
}

#[test]
fn devices_come_and_go_and_the_others_do_not_notice() {
    let spec = FleetSpec { anomaly_rate: 0.0, ..spec(1, 10, "") };
    let still = whole(&spec, 60);
    for at_ms in [0_u64, 1_000, 1_010, 1_449, 1_450, 7_777] {
        let mut generator = Generator::new(&spec, Part::WHOLE);
        let mut streams = Streams::default();
        generator.fill(at_ms * 1_000_000, usize::MAX, &mut streams);
        assert!(generator.add(&spec, 10));
        let (gone, new) = (spec.device_id(3), spec.device_id(10));
        assert!(generator.remove(&gone) && !generator.remove(&gone));
        generator.fill(60 * SECOND, usize::MAX, &mut streams);
        assert!(streams.due_ns.is_sorted(), "after {at_ms} ms");
        for (id, stream) in &still.records {
            // One that goes before its first turn has sent nothing.
            let now = streams.records.get(id).map_or(&[][..], Vec::as_slice);
            if *id == gone.as_bytes() {
                assert_eq!(*now, stream[..now.len()]);
                assert!((now.len() as i64 - at_ms as i64 / 500).abs() <= 1, "{}", now.len());
            } else {
                assert_eq!(now, *stream, "after {at_ms} ms");
            }
        }
        let added = streams.records[new.as_bytes()].len() as i64;
        assert!((added - (60_000 - at_ms as i64) / 500).abs() <= 1, "{added} after {at_ms} ms");
    }
    let part = Part { shard: 1, shards: 2, ..Part::WHOLE };
    assert!(!Generator::new(&spec, part).add(&spec, 10), "of the other part");
}

#[test]
fn partitions_are_as_even_as_a_hash_makes_them() {
    // Chi-square of 11 degrees of freedom: above 31.3 in one of 1,000.
    let generator = Generator::new(&spec(1, 10_000, ""), Part::WHOLE);
    let mut counts = [0.0; 12];
    for id in generator.device_ids() {
        counts[weir_client::partitioner::fnv1a_partition(id, 12) as usize] += 1.0;
    }
    let expected = 10_000.0 / 12.0;
    let square = |count: &f64| (count - expected) * (count - expected) / expected;
    let chi_square: f64 = counts.iter().map(square).sum();
    assert!(chi_square < 31.3, "{chi_square}: {counts:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.min(12), ..ProptestConfig::default() })]

    #[test]
    fn streams_are_the_same_for_any_workers_shards_steps_and_sinks(
        seed: u64, shards in 1_u32..5, workers in 1_u32..5, step_ns in 1_000_000_u64..3_000_000_000,
        reluctant in 1_u64..7,
    ) {
        for yaml in ["", ALL_AT_ONCE] {
            let spec = spec(seed, 26, yaml);
            let one = whole(&spec, 20);
            let many = in_parts(&spec, shards, workers, 20, step_ns);
            prop_assert_eq!(&one.records, &many.records);
            prop_assert_eq!(&one.truths, &many.truths);
            let mut slowly = Streams { reluctant: Some(reluctant), ..Streams::default() };
            run(&spec, Part::WHOLE, 20, step_ns, &mut slowly);
            prop_assert_eq!(&one.records, &slowly.records);
        }
    }
}

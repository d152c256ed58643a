use std::time::Duration;

use proptest::prelude::*;
use weir_protocol::types::TimestampMs;

use super::*;
use crate::fleet::{FleetSpec, Part};
use crate::generator::{Draft, Filled, Generator, RecordSink, Stream};
use crate::scenario::Scenario;

type Sent = Vec<(Stream, Vec<u8>, Vec<u8>)>;

struct All(Sent);

impl RecordSink for All {
    fn take(&mut self, draft: &Draft<'_>) -> bool {
        let mut value = Vec::new();
        draft.write(&mut value);
        self.0.push((draft.stream(), draft.key().to_vec(), value));
        true
    }
}

fn sent(format: Format, yaml: &str) -> Sent {
    let spec = FleetSpec {
        start: TimestampMs(1_754_217_000_000),
        devices: 20,
        interval: Duration::from_millis(200),
        anomaly_rate: 0.01,
        format,
        scenario: Scenario::from_yaml(yaml).unwrap(),
        ..FleetSpec::default()
    };
    let mut all = All(Vec::new());
    for worker in 0..2 {
        let part = Part { worker, workers: 2, ..Part::WHOLE };
        let mut generator = Generator::new(&spec, part);
        generator.fill(20_000_000_000, usize::MAX, &mut all);
        generator.finish();
        while generator.fill(u64::MAX, 1_000, &mut all) != Filled::default() {}
        all.0.push((Stream::Truth, generator.part_name().into(), generator.total().into()));
    }
    all.0
}

fn verified(format: Format, sent: &Sent) -> Report {
    let mut verifier = Verifier::default();
    for (stream, key, value) in sent {
        match stream {
            Stream::Truth => {
                assert!(verifier.see_truth(value), "{}", String::from_utf8_lossy(value))
            }
            _ => {
                verifier.see(format, Some(key), value);
            }
        }
    }
    verifier.report()
}

const ROUGH: &str = "
profiles:
  - {name: a, devices: 16, interval: 200ms, sensors: [current]}
  - {name: b, devices: 4, interval: 300ms, drones: true}
late: {share: 0.1, delay: 1s, delay_max: 4s}
duplicates: {share: 0.1, delay: 2s}
out_of_order: {share: 0.2}
outages: [{at: 6s, duration: 2s, share: 0.4, after: resend}]
";

#[test]
fn what_the_simulator_does_on_purpose_is_no_fault() {
    for format in [Format::Json, Format::Protobuf] {
        let smooth = verified(format, &sent(format, ""));
        assert!(smooth.is_clean() && smooth.records > 1_500, "{smooth:?}");
        assert_eq!((smooth.duplicates_injected, smooth.out_of_order_injected), (0, 0));
        assert_eq!((smooth.devices, smooth.runs, smooth.open_runs), (20, 1, 0));
        let mut rough = sent(format, ROUGH);
        if format == Format::Protobuf {
            // Fixes are JSON always, and in another topic.
            rough.retain(|(stream, ..)| *stream != Stream::Fixes);
        }
        let rough = verified(format, &rough);
        assert!(rough.is_clean(), "{rough:?}");
        assert!(rough.duplicates_injected > 100 && rough.out_of_order_injected > 200, "{rough:?}");
    }
}

#[test]
fn a_run_without_an_end_says_so_and_a_lost_tail_is_seen_with_one() {
    let mut sent = sent(Format::Json, "");
    let last = sent.iter().rposition(|(stream, ..)| *stream == Stream::Readings).unwrap();
    sent.remove(last);
    assert_eq!(verified(Format::Json, &sent).lost, 1);
    sent.pop();
    let report = verified(Format::Json, &sent);
    assert_eq!((report.lost, report.open_runs), (0, 1));
}

#[test]
fn damage_and_strangers_are_told_apart() {
    let all = sent(Format::Json, "");
    let (_, key, value) = all.iter().find(|(stream, ..)| *stream == Stream::Readings).unwrap();
    let mut verifier = Verifier::default();
    let mut damaged = value.clone();
    damaged[value.len() / 2] ^= 1;
    assert_eq!(verifier.see(Format::Json, Some(key), &damaged), Verdict::Damaged);
    assert_eq!(verifier.see(Format::Json, Some(key), value), Verdict::InOrder);
    assert_eq!(verifier.see(Format::Json, Some(key), value), Verdict::Duplicate);
    for foreign in [&b""[..], b"{}", br#"{"type":"sensor.reading","source":"me"}"#] {
        assert_eq!(verifier.see(Format::Json, Some(key), foreign), Verdict::Foreign);
        assert_eq!(verifier.see(Format::Protobuf, Some(key), foreign), Verdict::Foreign);
    }
}

/// A reading with a CRC that is right, of any sequence.
fn forged(device: &str, seq: u64) -> Vec<u8> {
    let with_crc = |crc: &str| {
        let id =
            format!("{{\"device_id\":\"{device}\",\"seq\":{seq},\"sent\":1,\"crc\":\"{crc}\"}}");
        let end = format!("\"timestamp\":\"2025-08-03T10:30:00.000Z\",\"id\":\"D1-{seq}\"");
        format!("{{\"type\":\"sensor.reading\",\"source\":\"forged\",\"data\":{id},{end}}}")
    };
    let crc = crc32c::crc32c(with_crc("00000000").as_bytes());
    with_crc(&format!("{crc:08x}")).into_bytes()
}

#[test]
fn forged_sequences_and_totals_overflow_nothing() {
    let mut verifier = Verifier::default();
    let mut see =
        |key: &str, seq: u64| verifier.see(Format::Json, Some(key.as_bytes()), &forged(key, seq));
    assert_eq!(see("a", 0), Verdict::InOrder);
    assert_eq!(see("a", u64::MAX), Verdict::Foreign);
    assert_eq!(see("a", u64::MAX - 1), Verdict::InOrder);
    assert_eq!(see("a", u64::MAX - 2), Verdict::OutOfOrder);
    assert_eq!(see("b", u64::MAX - 1), Verdict::InOrder);
    assert_eq!(verifier.report().lost, u64::MAX);
    for part in ["part-1/2-1/1", "part-2/2-1/1"] {
        let total = format!(
            r#"{{"kind":"run","source":"forged","device_id":"{part}","readings":{0},"fixes":{0}}}"#,
            u64::MAX
        );
        assert!(verifier.see_truth(total.as_bytes()));
    }
    let report = verifier.report();
    assert_eq!((report.lost, report.foreign, report.open_runs), (u64::MAX, 1, 0));
}

proptest! {
    #[test]
    fn the_verdicts_are_those_of_a_set(seqs in proptest::collection::vec(0_u64..40, 0..120)) {
        let (mut seen, mut model) = (Seen::default(), HashSet::new());
        for seq in &seqs {
            let wanted = match (model.contains(seq), model.iter().any(|other| other > seq)) {
                (true, _) => Verdict::Duplicate,
                (false, true) => Verdict::OutOfOrder,
                (false, false) => Verdict::InOrder,
            };
            prop_assert_eq!(seen.see(*seq), wanted);
            model.insert(*seq);
        }
        let missing: u64 = seen.missing.iter().map(|(from, to)| to - from).sum();
        prop_assert_eq!(seen.distinct, model.len() as u64);
        prop_assert_eq!(missing, seen.next - seen.distinct);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), cut in 0_usize..400) {
        let mut verifier = Verifier::default();
        verifier.see(Format::Json, Some(b"d"), &bytes);
        verifier.see(Format::Protobuf, Some(b"d"), &bytes);
        verifier.see_truth(&bytes);
        for format in [Format::Json, Format::Protobuf] {
            let whole = &sent_one(format);
            verifier.see(format, Some(b"d"), &whole[..cut.min(whole.len())]);
        }
    }

    #[test]
    fn loss_repeats_and_disorder_are_counted_exactly(
        lost in proptest::collection::hash_set(0_usize..1_500, 0..20),
        twice in proptest::collection::hash_set(0_usize..1_500, 0..20),
    ) {
        let all = sent_json();
        let mut changed = Sent::new();
        let mut readings = 0;
        let (mut dropped, mut repeated) = (0, 0);
        for entry in all {
            if entry.0 != Stream::Truth {
                readings += 1;
                if lost.contains(&readings) {
                    dropped += 1;
                    continue;
                }
                if twice.contains(&readings) {
                    repeated += 1;
                    changed.push(entry.clone());
                }
            }
            changed.push(entry.clone());
        }
        let report = verified(Format::Json, &changed);
        prop_assert_eq!((report.lost, report.duplicates, report.out_of_order), (dropped, repeated, 0));
    }
}

fn sent_json() -> &'static Sent {
    static ALL: std::sync::OnceLock<Sent> = std::sync::OnceLock::new();
    ALL.get_or_init(|| sent(Format::Json, ""))
}

fn sent_one(format: Format) -> Vec<u8> {
    static ALL: std::sync::OnceLock<[Vec<u8>; 2]> = std::sync::OnceLock::new();
    let first = |format| {
        sent(format, "").into_iter().find(|(stream, ..)| *stream == Stream::Readings).unwrap().2
    };
    let all = ALL.get_or_init(|| [first(Format::Json), first(Format::Protobuf)]);
    all[usize::from(format == Format::Protobuf)].clone()
}

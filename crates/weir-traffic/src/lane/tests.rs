use proptest::prelude::*;

use super::*;

const LIMIT: BatchLimit = BatchLimit { events: 4, bytes: 1_000, aside_max: 8 };

fn entry(seq: u64, key: u64) -> Entry<()> {
    Entry::new(seq, Some(key), 10, Nanos::from_ms(seq), ())
}

fn lane(keys: &[u64]) -> Lane<()> {
    let mut lane = Lane::new(100);
    for (seq, key) in (0..).zip(keys) {
        lane.push(entry(seq, *key));
    }
    lane
}

fn fill(lane: &mut Lane<()>, batch: u64) -> Vec<Entry<()>> {
    let mut out = Vec::new();
    lane.fill(BatchId(batch), LIMIT, &mut out);
    out
}

fn seqs(entries: &[Entry<()>]) -> Vec<u64> {
    entries.iter().map(|entry| entry.seq).collect()
}

fn release(lane: &mut Lane<()>, batch: u64, entries: &[Entry<()>]) {
    lane.release(BatchId(batch), entries.iter().map(|entry| entry.key));
}

#[test]
fn a_key_on_its_way_holds_back_its_own_events_only() {
    let mut lane = lane(&[1, 2, 1, 3, 1, 4, 5]);
    let first = fill(&mut lane, 1);
    assert_eq!(seqs(&first), [0, 1, 2, 3], "a batch may hold many of one key");
    let second = fill(&mut lane, 2);
    assert_eq!(seqs(&second), [5, 6], "seq 4 waits for key 1");
    assert_eq!(lane.ready_len(), 0);
    assert!(fill(&mut lane, 3).is_empty());
    release(&mut lane, 1, &first);
    assert_eq!(seqs(&fill(&mut lane, 4)), [4]);
}

#[test]
fn a_failed_batch_goes_back_before_later_events_of_its_keys() {
    let mut lane = lane(&[1, 1, 2, 2, 1, 2]);
    let first = fill(&mut lane, 1);
    assert!(fill(&mut lane, 2).is_empty(), "both keys are on their way");
    release(&mut lane, 1, &first);
    lane.give_back(first, Nanos::from_ms(9));
    assert_eq!(seqs(&fill(&mut lane, 3)), [0, 1, 2, 3]);
    assert_eq!(lane.len(), 2);
    assert_eq!(lane.bytes(), 20);
}

#[test]
fn so_many_events_are_set_aside_and_then_the_lane_waits() {
    let mut keys = vec![7; 20];
    keys.push(8);
    let mut lane = lane(&keys);
    let first = fill(&mut lane, 1);
    assert!(fill(&mut lane, 2).is_empty());
    assert_eq!(lane.ready_len(), 0, "eight aside, the rest behind them");
    lane.push(entry(100, 9));
    assert!(fill(&mut lane, 3).is_empty());
    release(&mut lane, 1, &first);
    assert_eq!(seqs(&fill(&mut lane, 4)), [4, 5, 6, 7]);
}

#[test]
fn an_event_larger_than_a_batch_goes_alone() {
    let mut lane = lane(&[1, 2]);
    lane.push(Entry { bytes: 5_000, ..entry(2, 3) });
    lane.push(entry(3, 4));
    assert_eq!(seqs(&fill(&mut lane, 1)), [0, 1]);
    assert_eq!(seqs(&fill(&mut lane, 2)), [2]);
    assert_eq!(seqs(&fill(&mut lane, 3)), [3]);
}

#[test]
fn expiry_counts_from_the_absence_or_from_the_own_failure() {
    let mut lane = lane(&[1, 2, 3, 4, 5]);
    let first = fill(&mut lane, 1);
    release(&mut lane, 1, &first);
    let failed = first.into_iter().map(|e| e.failed_at(Nanos::from_ms(20))).collect();
    lane.give_back(failed, Nanos::from_ms(120));
    let mut out = Vec::new();
    lane.expire(Nanos::from_ms(119), None, 100, &mut out);
    assert!(out.is_empty());
    assert_eq!(lane.deadline(None, 100), Some(Nanos::from_ms(120)));
    lane.expire(Nanos::from_ms(120), None, 100, &mut out);
    assert_eq!(seqs(&out), [0, 1, 2, 3]);
    assert_eq!(lane.deadline(Some(Nanos::from_ms(50)), 100), Some(Nanos::from_ms(150)));
    lane.expire(Nanos::from_ms(150), Some(Nanos::from_ms(50)), 100, &mut out);
    assert_eq!(seqs(&out), [0, 1, 2, 3, 4]);
    assert_eq!((lane.len(), lane.bytes()), (0, 0));
}

#[derive(Debug, Clone)]
enum Step {
    Push { key: Option<u64>, bytes: u32 },
    Fill,
    Done { which: usize, failed: Vec<bool> },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (prop::option::weighted(0.9, 0u64..6), 1u32..600)
            .prop_map(|(key, bytes)| Step::Push { key, bytes }),
        2 => Just(Step::Fill),
        2 => (any::<usize>(), prop::collection::vec(prop::bool::weighted(0.3), 4))
            .prop_map(|(which, failed)| Step::Done { which, failed }),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    /// The model: per key, the events not yet delivered, oldest first. Whatever is delivered must be
    /// the oldest of its key. From the first failure of a key in a batch on, all its later events in
    /// that batch fail, as a sink promises.
    #[test]
    fn what_is_delivered_is_the_oldest_of_its_key(steps in steps()) {
        let mut lane = Lane::new(64);
        let mut model: HashMap<u64, VecDeque<u64>> = HashMap::new();
        let (mut seq, mut batch, mut bytes) = (0, 0, 0_usize);
        let mut out: Vec<(u64, Vec<Entry<()>>)> = Vec::new();
        for step in steps {
            match step {
                Step::Push { key, bytes: size } => {
                    lane.push(Entry::new(seq, key, size, Nanos::from_ms(seq), ()));
                    bytes += size as usize;
                    if let Some(key) = key {
                        model.entry(if key == 0 { u64::MAX } else { key }).or_default().push_back(seq);
                    }
                    seq += 1;
                }
                Step::Fill => {
                    batch += 1;
                    let could = lane.ready_len();
                    let entries = fill(&mut lane, batch);
                    prop_assert!(entries.len() <= LIMIT.events.min(could));
                    let size: usize = entries.iter().map(|e| e.bytes as usize).sum();
                    prop_assert!(entries.len() <= 1 || size <= LIMIT.bytes);
                    bytes -= size;
                    if !entries.is_empty() {
                        out.push((batch, entries));
                    }
                }
                Step::Done { which, failed } if !out.is_empty() => {
                    let (batch, entries) = out.swap_remove(which % out.len());
                    release(&mut lane, batch, &entries);
                    let mut back: Vec<Entry<()>> = Vec::new();
                    for (entry, fails) in entries.into_iter().zip(failed) {
                        let after_a_failure = entry.key.is_some() && back.iter().any(|e| e.key == entry.key);
                        if fails || after_a_failure {
                            bytes += entry.bytes as usize;
                            back.push(entry);
                        } else if let Some(key) = entry.key {
                            prop_assert_eq!(model.get_mut(&key.get()).and_then(VecDeque::pop_front), Some(entry.seq));
                        }
                    }
                    lane.give_back(back, Nanos(u64::MAX));
                }
                Step::Done { .. } => {}
            }
            prop_assert_eq!(lane.bytes(), bytes);
            // Something can go on unless a batch is out: no event is ever stuck.
            prop_assert!(!out.is_empty() || lane.ready_len() == lane.len());
        }
    }
}

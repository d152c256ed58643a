//! Damage to any byte of any file: an error or a report, never a panic, never wrong bytes.

use std::path::PathBuf;

use proptest::prelude::*;
use weir_log::{LogConfig, LogError, MemDisk};
use weir_protocol::batch;

use crate::rig::{batch_of, open, producer_batch, read_all, txn_batch, Rig, T0};

/// What happens to a file.
#[derive(Debug, Clone)]
enum Damage {
    Flip { at: usize, mask: u8 },
    Cut { at: usize },
    Zero { at: usize, len: usize },
    Grow { bytes: Vec<u8> },
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<usize>(), 1..=255_u8).prop_map(|(at, mask)| Damage::Flip { at, mask }),
        1 => any::<usize>().prop_map(|at| Damage::Cut { at }),
        1 => (any::<usize>(), 1..200_usize).prop_map(|(at, len)| Damage::Zero { at, len }),
        1 => prop::collection::vec(any::<u8>(), 1..100).prop_map(|bytes| Damage::Grow { bytes }),
    ]
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        match self {
            Self::Flip { at, mask } if len > 0 => bytes[at % len] ^= mask,
            Self::Cut { at } if len > 0 => bytes.truncate(at % len),
            Self::Zero { at, len: count } if len > 0 => {
                let from = at % len;
                bytes[from..(from + count).min(len)].fill(0);
            }
            Self::Grow { bytes: more } => bytes.extend_from_slice(more),
            _ => {}
        }
    }
}

/// A directory with all kinds of files, after a clean stop or a kill.
fn filled(clean: bool) -> (MemDisk, LogConfig, Vec<Vec<u8>>) {
    let mut rig = Rig::with(&[("segment.bytes", "1500"), ("index.interval.bytes", "200")]);
    let mut sequence = 0;
    for n in 0..40 {
        rig.append(batch_of(1 + n % 7)).unwrap();
        rig.append(producer_batch(7, 0, sequence, 2)).unwrap();
        sequence += 2;
        if n % 10 == 5 {
            rig.append(txn_batch(8, i32::try_from(n / 10).unwrap())).unwrap();
            let abort = batch::build_control(
                batch::ControlMarker::Abort,
                weir_protocol::ProducerId(8),
                weir_protocol::ProducerEpoch(0),
                0,
                T0,
            );
            let log = rig.log_mut();
            log.append(&mut abort.to_vec(), weir_log::AppendOrigin::Coordinator, T0).unwrap();
        }
    }
    rig.commit();
    let read = rig.log().read(weir_protocol::Offset(0), usize::MAX, rig.log().synced_offset());
    let bytes = read_all(&read.unwrap().slices);
    let batches = batch::batches(&bytes).map(|view| view.unwrap().bytes().to_vec()).collect();
    let (disk, config) = (rig.disk.clone(), rig.config.clone());
    if clean {
        rig.dir.close().unwrap();
    } else {
        drop(rig);
        disk.kill();
    }
    (disk, config, batches)
}

/// Reads all that can be read. Each batch must be one of those written, unless a disk may return
/// other bytes below the recovery point, which the reader's CRC check finds.
fn check_served(disk: &MemDisk, config: &LogConfig, written: &[Vec<u8>], scanned: bool) {
    let (mut dir, report) = match open(disk, config) {
        Ok(opened) => opened,
        Err(error) => {
            assert!(error.code().starts_with("WEIR-02"), "{error}");
            return;
        }
    };
    let Some((id, log)) = dir.logs().next() else { return };
    let mut at = log.log_start_offset();
    while at < log.synced_offset() {
        let read = match log.read(at, 600, log.synced_offset()) {
            Ok(read) => read,
            Err(LogError::Damaged { .. }) if !scanned => break,
            Err(error) => panic!("{error}"),
        };
        let bytes = read_all(&read.slices);
        for view in batch::batches(&bytes) {
            let Ok(view) = view else {
                assert!(!scanned);
                break;
            };
            let is_written =
                written.iter().any(|batch| without_epoch(batch) == without_epoch(view.bytes()));
            assert!(is_written || !scanned, "wrong bytes at {}; {report:?}", view.base_offset());
        }
        if read.next_offset <= at {
            break;
        }
        at = read.next_offset;
    }
    for time in [0, T0.get(), T0.get() + 1] {
        let _ = log.offset_for_timestamp(weir_protocol::TimestampMs(time));
    }
    let _ = log.max_timestamp().and_then(|max| max.find());
    let _ = log.aborted_txns(log.log_start_offset(), log.log_end_offset());
    dir.tick(T0).unwrap();
    crate::rig::upkeep(&mut dir, T0);
    dir.get_mut(id).unwrap().append(&mut batch_of(1), weir_log::AppendOrigin::Client, T0).unwrap();
    while let Some(group) = dir.begin_commit() {
        let committed = group.run().unwrap();
        dir.finish_commit(committed);
    }
    dir.close().unwrap();
}

/// The leader epoch is the one field that neither the CRC nor its neighbours give away.
fn without_epoch(batch: &[u8]) -> (&[u8], &[u8]) {
    (&batch[..12], &batch[16..])
}

fn cases() -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 300;
    }
    config.failure_persistence = None;
    config
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn damage_anywhere_is_survived(
        clean in any::<bool>(),
        file in any::<prop::sample::Index>(),
        damage in damage(),
    ) {
        let (disk, config, written) = filled(clean);
        let paths: Vec<PathBuf> = disk.files().into_keys().collect();
        let path = file.get(&paths);
        disk.damage(path, |bytes| damage.apply(bytes)).unwrap();
        // After a kill everything is scanned, as there was no checkpoint of this log.
        check_served(&disk, &config, &written, !clean);
    }
}

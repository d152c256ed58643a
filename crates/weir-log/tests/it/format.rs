//! The bytes on disk, as Kafka writes them.

use std::path::Path;

use weir_protocol::TimestampMs;

use crate::rig::{batch_at, batch_of, exists, Rig, DIR, TOPIC};

fn text(rig: &Rig, name: &str) -> String {
    let path = Path::new(DIR).join(name);
    String::from_utf8(rig.disk.files().remove(&path).unwrap()).unwrap()
}

#[test]
fn a_new_log_has_the_files_of_kafka() {
    let rig = Rig::with(&[]);
    let names: Vec<String> = rig
        .disk
        .files()
        .into_keys()
        .map(|path| path.strip_prefix(DIR).unwrap().to_str().unwrap().to_owned())
        .collect();
    let expect = [
        "drone-events-0/00000000000000000000.index",
        "drone-events-0/00000000000000000000.log",
        "drone-events-0/00000000000000000000.timeindex",
        "drone-events-0/leader-epoch-checkpoint",
        "drone-events-0/partition.metadata",
    ];
    for name in expect {
        assert!(names.iter().any(|found| found == name), "{name} in {names:?}");
    }
    assert_eq!(
        text(&rig, "drone-events-0/partition.metadata"),
        "version: 0\ntopic_id: AwMDAwMDAwMDAwMDAwMDAw"
    );
    assert_eq!(text(&rig, "drone-events-0/leader-epoch-checkpoint"), "0\n1\n0 0\n");
    assert_eq!(
        text(&rig, "meta.properties"),
        "#\nnode.id=0\ndirectory.id=AgICAgICAgICAgICAgICAg\nversion=1\n\
         cluster.id=AQEBAQEBAQEBAQEBAQEBAQ\nweir.commit.journal=true\n"
    );
}

#[test]
fn a_clean_stop_leaves_mark_and_checkpoints() {
    let mut rig = Rig::with(&[]);
    rig.append(batch_of(5)).unwrap();
    let disk = rig.disk.clone();
    rig.commit();
    rig.log_mut().delete_records(weir_protocol::Offset(2), crate::rig::T0).unwrap();
    rig.dir.close().unwrap();
    let text = |name: &str| {
        String::from_utf8(disk.files().remove(&Path::new(DIR).join(name)).unwrap()).unwrap()
    };
    assert_eq!(text(".kafka_cleanshutdown"), "{\"version\":0,\"brokerEpoch\":-1}");
    assert_eq!(text("recovery-point-offset-checkpoint"), format!("0\n1\n{TOPIC} 0 5\n"));
    assert_eq!(text("replication-offset-checkpoint"), format!("0\n1\n{TOPIC} 0 5\n"));
    assert_eq!(text("log-start-offset-checkpoint"), format!("0\n1\n{TOPIC} 0 2\n"));
}

#[test]
fn batches_stand_back_to_back_with_offset_and_epoch_assigned() {
    let mut rig = Rig::with(&[]);
    let batch = batch_of(5);
    rig.append(batch.clone()).unwrap();
    rig.append(batch.clone()).unwrap();
    let file = rig.file(0, "log");
    assert_eq!(file.len(), 2 * batch.len(), "nothing is preallocated");
    let second = &file[batch.len()..];
    assert_eq!(second[..8], 5_i64.to_be_bytes());
    assert_eq!(second[12..16], 0_i32.to_be_bytes());
    assert_eq!(second[16..], batch[16..], "what the CRC covers is as it came");
}

/// What `LogSegment.append` of Kafka does, written down a second time.
#[test]
fn indexes_are_those_of_kafka() {
    let mut rig = Rig::with(&[("index.interval.bytes", "200")]);
    let (mut offsets, mut times) = (Vec::new(), Vec::new());
    let (mut since, mut position, mut next) = (0, 0, 0_i32);
    let (mut latest, mut last_time) = ((-1_i64, 0_i32), -1_i64);
    for n in 0..50_i32 {
        let count = 1 + n % 4;
        let time = 1000 + i64::from(n) * 7 - if n % 5 == 0 { 100 } else { 0 };
        let batch = batch_at(usize::try_from(count).unwrap(), 10, TimestampMs(time));
        let last = next + count - 1;
        if time > latest.0 {
            latest = (time, last);
        }
        if since > 200 {
            offsets.extend_from_slice(&last.to_be_bytes());
            offsets.extend_from_slice(&i32::try_from(position).unwrap().to_be_bytes());
            if latest.0 > last_time {
                times.extend_from_slice(&latest.0.to_be_bytes());
                times.extend_from_slice(&latest.1.to_be_bytes());
                last_time = latest.0;
            }
            since = 0;
        }
        since += batch.len();
        position += batch.len();
        next += count;
        rig.append(batch).unwrap();
    }
    if latest.0 > last_time {
        times.extend_from_slice(&latest.0.to_be_bytes());
        times.extend_from_slice(&latest.1.to_be_bytes());
    }
    let (rig, report) = rig.close_and_reopen();
    assert!(report.clean, "{report:?}");
    assert_eq!(rig.file(0, "index"), offsets);
    assert_eq!(rig.file(0, "timeindex"), times);
    assert!(!offsets.is_empty() && !times.is_empty());
    // The same after the indexes were lost.
    let (disk, config) = (rig.disk.clone(), rig.config.clone());
    rig.dir.close().unwrap();
    for suffix in ["index", "timeindex"] {
        weir_log::Disk::remove(&disk, &crate::rig::path(0, suffix)).unwrap();
    }
    let (_dir, report) = crate::rig::open(&disk, &config).unwrap();
    assert_eq!((report.clean, report.indexes_rebuilt), (true, 1));
    let files = disk.files();
    assert_eq!(files[&crate::rig::path(0, "index")], offsets);
    assert_eq!(files[&crate::rig::path(0, "timeindex")], times);
}

#[test]
fn deleted_segments_are_renamed_first() {
    let mut rig = Rig::with(&[("segment.bytes", "500"), ("retention.bytes", "500")]);
    for _ in 0..10 {
        rig.append(batch_of(5)).unwrap();
    }
    rig.commit();
    assert!(rig.dir.enforce_retention(crate::rig::T0).unwrap() > 0);
    for suffix in ["log", "index", "timeindex"] {
        assert!(!exists(&rig.disk, &rig.path(0, suffix)));
        assert!(exists(&rig.disk, &rig.path(0, &format!("{suffix}.deleted"))));
    }
    rig.upkeep(crate::rig::T0.plus_ms(59_999));
    assert!(exists(&rig.disk, &rig.path(0, "log.deleted")));
    rig.upkeep(crate::rig::T0.plus_ms(60_000));
    assert!(!exists(&rig.disk, &rig.path(0, "log.deleted")));
}

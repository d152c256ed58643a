//! Care, as its user meets it: `weir log`, `weir ops`, `weir doctor`, on a running weir and on what it leaves.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::process::{cluster, command, eventually, get, Weir};

fn run(args: &[&str]) -> Output {
    command().args(args).output().unwrap()
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

fn ok(args: &[&str]) -> String {
    let output = run(args);
    let (out, err) = text(&output);
    assert!(output.status.success(), "{args:?}: {out}\n{err}");
    out
}

fn json(args: &[&str]) -> Value {
    let out = ok(args);
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error}: {out}"))
}

/// A log directory of a weir that took `count` drone events and stopped cleanly.
fn stopped(dir: &Path, count: usize) {
    let weir = Weir::up(dir, &[]);
    post(&weir, count);
    weir.terminate();
}

fn post(weir: &Weir, count: usize) {
    let event = |n: usize| {
        format!(
            r#"{{"type":"drone.heartbeat","source":"care","data":{{"drone_id":{n},"count":{n}}}}}"#
        )
    };
    let body: Vec<String> = (0..count).map(event).collect();
    let (status, answer) = weir.post(&body.join("\n"));
    assert_eq!(status, 200, "{answer}");
}

fn largest_segment(dir: &Path) -> PathBuf {
    let of_topic = fs::read_dir(dir.join("kafka")).unwrap().flatten().map(|entry| entry.path());
    let of_topic = of_topic.filter(|path| path.to_string_lossy().contains("drone-events-"));
    let segments = of_topic.map(|path| path.join("00000000000000000000.log"));
    segments.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

#[test]
fn dump_prints_every_batch_and_record_and_verify_finds_them_sound_beside_a_broker_and_after_it() {
    if cluster().is_some() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().to_str().unwrap();
    let weir = Weir::up(dir.path(), &[]);
    post(&weir, 30);
    let output = run(&["log", "verify", "--deep", "--data-dir", data_dir]);
    let (out, err) = text(&output);
    assert!(output.status.success() && out.contains("● no problem"), "{out}{err}");
    assert!(err.contains(&format!("process {} uses", weir.pid())), "{err}");
    weir.terminate();

    let lines = ok(&[
        "log",
        "dump",
        "--data-dir",
        data_dir,
        "--topic",
        "drone-events",
        "--records",
        "--json",
    ]);
    let objects: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let records: Vec<&Value> = objects.iter().filter(|one| one["kind"] == "record").collect();
    assert_eq!(records.len(), 30);
    assert!(records.iter().all(|one| one["value"].as_str().unwrap().contains("drone.heartbeat")));
    let counted: i64 = objects.iter().filter_map(|one| one["records"].as_i64()).sum();
    assert_eq!(counted, 30);
    let segment = largest_segment(dir.path());
    let table = ok(&["log", "dump", "--file", segment.to_str().unwrap()]);
    assert!(table.contains("POSITION") && table.contains(" ok"), "{table}");
    let report = json(&["log", "verify", "--json", "--data-dir", data_dir]);
    assert_eq!((report["clean"].as_bool(), report["problems"].as_u64()), (Some(true), Some(0)));
}

#[test]
fn damage_is_named_repaired_and_the_broker_serves_the_rest_under_the_same_offsets() {
    if cluster().is_some() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().to_str().unwrap();
    stopped(dir.path(), 40);
    // A second and third batch behind what is damaged.
    stopped(dir.path(), 40);
    let segment = largest_segment(dir.path());
    let before = fs::read(&segment).unwrap();
    let mut bytes = before.clone();
    bytes[100] ^= 1;
    fs::write(&segment, &bytes).unwrap();

    let output = run(&["log", "verify", "--data-dir", data_dir]);
    let (out, err) = text(&output);
    assert_eq!(output.status.code(), Some(1), "{out}");
    assert!(out.contains("damaged batch") && out.contains("byte 0"), "{out}");
    assert!(err.contains("error[WEIR-0220]") && err.contains("--repair"), "{err}");
    let mut locked = Weir::up(dir.path(), &[]);
    let refused = run(&["log", "verify", "--repair", "--data-dir", data_dir]);
    assert!(text(&refused).1.contains("WEIR-0202"), "{refused:?}");
    locked.terminate();

    let report = json(&["log", "verify", "--repair", "--json", "--data-dir", data_dir]);
    assert_eq!(report["after"]["problems"], 0, "{report}");
    let action = &report["actions"][0];
    assert!(action["lost_to"].as_i64() > action["lost_from"].as_i64(), "{report}");
    let kept = fs::read(action["kept_in"].as_str().unwrap()).unwrap();
    assert_eq!(&kept[..before.len()], &bytes[..], "the old bytes are kept");
    let lost = action["lost_to"].as_i64().unwrap() - action["lost_from"].as_i64().unwrap();

    locked = Weir::up(dir.path(), &[]);
    let tail = ["tail", "drone-events", "--from-beginning", "--exit", "--json", "--brokers"];
    let read = ok(&[&tail[..], &[&locked.kafka]].concat());
    assert_eq!(read.lines().count() as i64, 80 - lost, "{report}");
    locked.terminate();
}

#[test]
fn cleanup_says_first_what_it_deletes_and_then_moves_the_log_start() {
    let dir = tempfile::tempdir().unwrap();
    let weir = Weir::up(dir.path(), &[]);
    let topic = format!("cleanup-{}", uuid::Uuid::new_v4());
    ok(&["topics", "--brokers", &weir.kafka, "--create", &topic, "--partitions", "1"]);
    let mut produce = command();
    let produce = produce.args(["produce", &topic, "--brokers", &weir.kafka]);
    feed(produce, "a\nb\nc\nd\n");
    let args =
        ["ops", "cleanup", "--brokers", &weir.kafka, "--topic", &topic, "--before", "2999-01-01"];
    let dry = json(&[&args[..], &["--json"]].concat());
    assert_eq!(dry["done"], false);
    let row = &dry["partitions"][0];
    assert_eq!((row["log_start"].as_i64(), row["new_log_start"].as_i64()), (Some(0), Some(4)));
    assert!(ok(&args).contains("--yes does it"));
    ok(&[&args[..], &["--yes"]].concat());
    let after = json(&[&args[..], &["--json"]].concat());
    assert_eq!(after["partitions"][0]["log_start"], 4, "{after}");
    assert!(
        ok(&["ops", "cleanup", "--brokers", &weir.kafka, "--topic", &topic]).contains("nothing")
    );
}

fn feed(command: &mut Command, lines: &str) {
    use std::io::Write as _;
    let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn sizes_and_groups_are_printed_as_the_script_of_the_specification_did() {
    let dir = tempfile::tempdir().unwrap();
    let weir = Weir::up(dir.path(), &[]);
    post(&weir, 20);
    let sizes = ok(&["ops", "monitor-size", "--brokers", &weir.kafka]);
    assert!(sizes.starts_with("=== Topic Sizes ===\n"), "{sizes}");
    let line = sizes.lines().find(|line| line.starts_with("drone-events-0: ")).unwrap();
    assert!(line.ends_with(" bytes"), "{line}");
    let lines: Vec<&str> = sizes.lines().skip(1).collect();
    assert!(lines.is_sorted(), "{sizes}");
    let output = run(&[
        "ops",
        "monitor-size",
        "--brokers",
        &weir.kafka,
        "--topic",
        "drone-events",
        "--threshold",
        "1",
    ]);
    assert!(text(&output).1.contains("warning: topic drone-events has"), "{output:?}");

    let groups = eventually("the worker commits", 30, || {
        let groups = ok(&["ops", "check-groups", "--brokers", &weir.kafka]);
        groups.contains("drone-events").then_some(groups)
    });
    assert!(groups.starts_with("=== Consumer Groups Status ===\nGroup: "), "{groups}");
    for column in [
        "TOPIC",
        "PARTITION",
        "CURRENT-OFFSET",
        "LOG-END-OFFSET",
        "LAG",
        "CONSUMER-ID",
        "HOST",
        "CLIENT-ID",
    ] {
        assert!(groups.contains(column), "{column} in {groups}");
    }
    assert!(groups.contains("\n---\n"), "{groups}");
}

#[test]
fn offsets_of_a_group_are_reset_after_a_dry_run_and_not_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let weir = Weir::up(dir.path(), &[]);
    post(&weir, 20);
    let group = format!("reset-{}", uuid::Uuid::new_v4());
    let args = ["ops", "reset-offset", &group, "drone-events", "latest", "--brokers", &weir.kafka];
    let dry = ok(&args);
    assert!(
        dry.contains(&format!("would reset the offset for group {group} on topic drone-events")),
        "{dry}"
    );
    let done = ok(&[&args[..], &["--yes"]].concat());
    assert!(
        done.contains(&format!(
            "Resetting offset for group {group} on topic drone-events to latest"
        )),
        "{done}"
    );
    let again = json(&[&args[..], &["--json"]].concat());
    for row in again["partitions"].as_array().unwrap() {
        assert!(
            row["old_offset"].is_i64() && row["old_offset"].as_i64() <= row["new_offset"].as_i64(),
            "{again}"
        );
    }
    let beyond = [
        "ops",
        "reset-offset",
        &group,
        "drone-events",
        "999999999",
        "--json",
        "--brokers",
        &weir.kafka,
    ];
    let clamped = json(&beyond);
    assert!(clamped["partitions"][0]["new_offset"].as_i64().unwrap() < 999_999_999, "{clamped}");

    let own = eventually("the worker has a group", 30, || {
        let listed = json(&["groups", "--json", "--brokers", &weir.kafka]);
        let own = listed.as_array()?.iter().find(|one| one["members"].as_u64() > Some(0))?;
        Some(own["group"].as_str()?.to_owned())
    });
    let refused =
        run(&["ops", "reset-offset", &own, "drone-events", "0", "--yes", "--brokers", &weir.kafka]);
    assert!(text(&refused).1.contains("WEIR-0824"), "{refused:?}");
}

#[test]
fn doctor_finds_a_running_weir_well_and_a_dead_cluster_a_problem() {
    if cluster().is_some() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().to_str().unwrap();
    let state = |report: &Value, name: &str| {
        let checks = report.as_array().unwrap();
        let check = checks.iter().find(|check| check["name"] == name);
        check.unwrap_or_else(|| panic!("{name} in {report}"))["state"].as_str().unwrap().to_owned()
    };
    let weir = Weir::up(dir.path(), &[]);
    let output = run(&["doctor", "--json", "--data-dir", data_dir]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for name in
        ["directory lock", "file versions", "kafka", "topics", "groups", "gateway", "console"]
    {
        assert_eq!(state(&report, name), "ok", "{name}: {report}");
    }
    weir.kill();
    let output = run(&["doctor", "--json", "--data-dir", data_dir, "--brokers", "127.0.0.1:1"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(state(&report, "kafka"), "problem", "{report}");
    assert_eq!(output.status.code(), Some(1));
    let output = run(&["doctor", "--json", "--data-dir", data_dir]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(state(&report, "last stop"), "warning", "{report}");
    assert_eq!(state(&report, "kafka"), "warning", "weir is not running: {report}");
}

#[test]
fn a_compacted_topic_of_a_running_broker_is_cleaned_now() {
    if cluster().is_some() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (data_dir, config) = (dir.path().to_str().unwrap(), dir.path().join("weir.yaml"));
    fs::write(&config, "log.cleanup.policy: compact\n").unwrap();
    let weir = Weir::up(dir.path(), &["--config", config.to_str().unwrap()]);
    for _ in 0..5 {
        post(&weir, 40);
    }
    let socket = dir.path().join("kafka/weir-admin.sock");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&socket).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // The configuration is the broker's: the command needs none.
    let clean = ["log", "clean", "--topic", "drone-events", "--data-dir", data_dir];
    let report: Value = serde_json::from_str(&ok(&[&clean[..], &["--json"]].concat())).unwrap();
    let partitions = report.as_array().unwrap();
    let sum = |key: &str| partitions.iter().map(|one| one[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!(sum("records_dropped"), 160, "{report}");
    assert!(sum("bytes_after") < sum("bytes_before"), "{report}");
    assert!(partitions.iter().all(|one| one["clean"] == true), "{report}");
    let tail = ["tail", "drone-events", "--from-beginning", "--exit", "--json", "--brokers"];
    assert_eq!(ok(&[&tail[..], &[&weir.kafka]].concat()).lines().count(), 40);
    let again = ok(&clean);
    assert!(again.contains("drone-events-0") && again.contains("DROPPED"), "{again}");
    let metrics = get(&format!("{}/metrics", weir.gateway)).1;
    let cleaned =
        format!("kafka_logs_cleaned_bytes_total {}", sum("bytes_before") - sum("bytes_after"));
    assert!(metrics.contains(&cleaned), "{cleaned} is not in\n{metrics}");
    for (topic, partition, why) in
        [("nope", None, "no topic"), ("drone-events", Some("99"), "does not exist")]
    {
        let mut args = vec!["log", "clean", "--topic", topic, "--data-dir", data_dir];
        args.extend(partition.into_iter().flat_map(|partition| ["--partition", partition]));
        let err = text(&run(&args)).1;
        assert!(err.contains("WEIR-0223") && err.contains(why), "{err}");
    }
    // One that cannot be reached.
    fs::remove_file(&socket).unwrap();
    let err = text(&run(&clean)).1;
    assert!(err.contains("WEIR-0202") && err.contains("min.cleanable.dirty.ratio=0"), "{err}");
    weir.terminate();

    let weir = Weir::up(dir.path(), &[]);
    let err = text(&run(&clean)).1;
    assert!(err.contains("WEIR-0223") && err.contains("is not compacted"), "{err}");
    weir.terminate();
    assert!(!socket.exists(), "it goes with the broker");
}

#[test]
fn a_compacted_topic_of_a_stopped_broker_is_cleaned_now_and_keeps_the_newest_of_each_key() {
    if cluster().is_some() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (data_dir, config) = (dir.path().to_str().unwrap(), dir.path().join("weir.yaml"));
    fs::write(&config, "log.cleanup.policy: compact\n").unwrap();
    let up = ["--config", config.to_str().unwrap()];
    let clean = |more: &[&str]| {
        let topic = ["log", "clean", "--topic", "drone-events", "--data-dir", data_dir];
        [&topic[..], &up, more].concat().iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>()
    };
    let asked = |more: &[&str]| command().args(clean(more)).output().unwrap();
    let weir = Weir::up(dir.path(), &up);
    for _ in 0..5 {
        post(&weir, 40);
    }
    let metrics = get(&format!("{}/metrics", weir.gateway)).1;
    for name in
        ["kafka_logs_cleaned_bytes_total 0", "weir_cleaner_dirty_ratio_max ", "weir_transactions{"]
    {
        assert!(metrics.contains(name), "{name} is not in\n{metrics}");
    }
    weir.terminate();

    let output = asked(&["--json"]);
    let (out, err) = text(&output);
    assert!(output.status.success(), "{out}\n{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    let sum = |key: &str| {
        let partitions = report.as_array().unwrap().iter();
        partitions.map(|one| one[key].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(sum("records_dropped"), 160, "{report}");
    assert!(sum("bytes_after") < sum("bytes_before"), "{report}");
    let on_disk: u64 = fs::read_dir(dir.path().join("kafka"))
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("drone-events-"))
        .flat_map(|entry| fs::read_dir(entry.path()).unwrap().flatten())
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.contains(".log") // `.log.deleted` as well: they are gone.
        })
        .map(|entry| entry.metadata().unwrap().len())
        .sum();
    assert_eq!(on_disk, sum("bytes_after"), "what was replaced is gone: {report}");
    ok(&[&["log", "verify", "--data-dir", data_dir][..], &up].concat());
    let again = text(&asked(&[])).0;
    assert!(again.contains("drone-events-0") && again.contains("DROPPED"), "{again}");

    let weir = Weir::up(dir.path(), &up);
    let tail = ["tail", "drone-events", "--from-beginning", "--exit", "--json", "--brokers"];
    assert_eq!(ok(&[&tail[..], &[&weir.kafka]].concat()).lines().count(), 40);
    weir.terminate();
    // Without the line the topic is none that is compacted.
    let plain = text(&run(&["log", "clean", "--topic", "drone-events", "--data-dir", data_dir])).1;
    assert!(plain.contains("WEIR-0223") && plain.contains("is not compacted"), "{plain}");
    let absent = text(&run(&["log", "clean", "--topic", "nope", "--data-dir", data_dir])).1;
    assert!(absent.contains("WEIR-0223") && absent.contains("no topic"), "{absent}");
}

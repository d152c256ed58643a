//! What a newcomer does wrong, and what is left behind by a start that fails.

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use crate::process::{cluster, command, up_fails, Weir};

fn run(args: &[&str]) -> Output {
    command().args(args).output().unwrap()
}

/// Standard output, error and exit code.
fn said(output: &Output) -> (String, String, i32) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap_or(-1))
}

fn write(dir: &Path, name: &str, text: &[u8]) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_start_that_fails_leaves_nothing_for_the_next_one_to_recover() {
    if cluster().is_some() {
        return; // There is no log of ours to recover.
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data with space");
    std::fs::create_dir(&data).unwrap();
    Weir::up(&data, &[]).terminate();

    // A fault of the settings: nothing is started.
    let zones = write(dir.path(), "zones.yaml", b"fleet: {zones: nowhere.geojson}");
    let (out, err, code) = said(&up_fails(&data, &["--config", &zones]));
    assert!(err.contains("WEIR-0804") && err.contains("nowhere.geojson"), "{err}");
    assert_eq!((out.as_str(), code), ("", 2), "nothing is said of a start that cannot be");
    let classes = "message_priorities: {urgent: [a], low: [a]}";
    let classes = write(dir.path(), "classes.yaml", classes.as_bytes());
    let (out, err, code) = said(&up_fails(&data, &["--config", &classes]));
    assert!(err.contains("message_priorities") && out.is_empty(), "{out} {err}");
    assert_eq!(code, 2, "{err}");

    // A fault that shows after the broker has started.
    let (store, aside) = (data.join("fleet.db"), dir.path().join("fleet.db"));
    std::fs::rename(&store, &aside).unwrap();
    std::fs::create_dir(&store).unwrap();
    let (_, err, _) = said(&up_fails(&data, &[]));
    assert!(err.contains("fleet.db"), "{err}");
    // Kafka's mark of a log directory that was closed.
    assert!(data.join("kafka/.kafka_cleanshutdown").exists(), "the broker was not closed");
    std::fs::remove_dir(&store).unwrap();
    std::fs::rename(&aside, &store).unwrap();

    let weir = Weir::up(&data, &[]);
    assert!(weir.banner.contains("recovered 0 partitions, 0 records cut"), "{}", weir.banner);
    weir.terminate();
}

#[test]
fn ingest_counts_lines_that_are_no_text_or_too_long_and_sends_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let weir = Weir::up(dir.path(), &[]);
    let good = br#"{"type":"log.written","source":"n","data":{"level":"info","message":"m"}}"#;
    let mut text = Vec::new();
    for part in [&good[..], b"{\"type\":\"\xff\"}", &vec![b'x'; 1_500_000], &good[..]] {
        text.extend(part);
        text.push(b'\n');
    }
    let file = write(dir.path(), "events.ndjson", &text);
    let (out, err, code) = said(&run(&["ingest", &file, "--json", "--gateway", &weir.gateway]));
    let result: serde_json::Value = serde_json::from_str(&out).unwrap();
    let events = &result["events"];
    let counts = ["accepted", "refused", "sent"].map(|name| events[name].as_u64());
    assert_eq!(counts, [Some(2), Some(2), Some(2)], "{out} {err}");
    assert!(err.contains("line 2: WEIR-0901 the line is not UTF-8 from byte 10 on"), "{err}");
    assert!(err.contains("line 3: WEIR-0906 the line has 1,500,000 bytes"), "{err}");
    assert_eq!(code, 1);
}

#[test]
fn internal_topics_are_not_deleted_and_others_only_with_yes() {
    let dir = tempfile::tempdir().unwrap();
    let weir = Weir::up(dir.path(), &[]);
    let topics =
        |args: &[&str]| said(&run(&[&["topics", "--brokers", weir.kafka.as_str()], args].concat()));
    let name = format!("doomed-{}", uuid::Uuid::new_v4());
    assert!(topics(&["--create", &name]).0.contains("created"));
    // The fleet's group has made it by now, or makes it with its first commit.
    crate::process::eventually("the offsets topic", 30, || {
        topics(&["--all"]).0.contains("__consumer_offsets").then_some(())
    });
    let (_, err, code) = topics(&["--delete", "__consumer_offsets", "--yes"]);
    assert!(err.contains("WEIR-0820") && code == 1, "{err}");
    assert!(topics(&["--all"]).0.contains("__consumer_offsets"));
    let (out, _, _) = topics(&["--delete", &name]);
    assert!(out.contains("would delete") && out.contains(&weir.kafka), "{out}");
    assert!(topics(&[]).0.contains(&name));
    assert!(topics(&["--delete", &name, "--yes"]).0.contains("deleted"));
    assert!(!topics(&[]).0.contains(&name));
}

#[test]
fn config_show_has_each_key_once_with_the_origin_that_won_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let yaml = "gateway: {listen: \"127.0.0.1:1\"}\ndata_dir: from-file\n\
                kafka: {group_id: from-file}\nroutes: {\"pump.*\": pumps}\n";
    let file = write(dir.path(), "weir.yaml", yaml.as_bytes());
    let ran = command()
        .args(["config", "show", "--json", "--config", &file, "--data-dir", "from-flag"])
        .args(["--gateway-port", "7"])
        .envs([("WEIR_KAFKA_GROUP_ID", "from-env"), ("WEIR_DATA_DIR", "from-env")])
        .envs([("KAFKA_BROKERS", "a:1"), ("DB_PASSWORD", "geheim")])
        .output()
        .unwrap();
    let (out, err, _) = said(&ran);
    assert!(!out.contains("geheim"), "{out}");
    let rows: Vec<serde_json::Value> =
        serde_json::from_str(&out).unwrap_or_else(|_| panic!("{err}"));
    let mut keys: Vec<&str> = rows.iter().map(|row| row["key"].as_str().unwrap()).collect();
    for (key, value, origin) in [
        ("data_dir", "from-flag", "--data-dir"),
        ("gateway.listen", "127.0.0.1:7", "--gateway-port"),
        ("kafka.group_id", "from-env", "WEIR_KAFKA_GROUP_ID"),
        ("kafka.brokers", "a:1", "KAFKA_BROKERS"),
        ("routes.pump.*", "pumps", file.as_str()),
        ("console.listen", "127.0.0.1:8090", "default"),
        ("DB_PASSWORD", "***", "environment"),
    ] {
        let row = rows.iter().find(|row| row["key"] == key).unwrap();
        assert_eq!((row["value"].as_str(), row["origin"].as_str()), (Some(value), Some(origin)));
    }
    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), count, "a key is there twice");
}

#[test]
fn a_stop_of_ingest_says_what_was_sent_and_where_to_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let weir = Weir::up(dir.path(), &[]);
    let line = br#"{"type":"log.written","source":"n","data":{"level":"info","message":"m"}}"#;
    let file = write(dir.path(), "events.ndjson", &[&line[..], b"\n"].concat().repeat(1_000));
    let mut child = command()
        .args(["ingest", &file, "--gateway", &weir.gateway, "--rate", "20", "--batch", "10"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    crate::process::eventually("some events are accepted", 30, || {
        (weir.get("/stats")["total_messages"].as_u64() > Some(20)).then_some(())
    });
    let interrupted = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupted.success());
    child.stdin.take();
    let (out, err, code) = said(&child.wait_with_output().unwrap());
    assert!(out.contains(" accepted, 0 duplicate, 0 refused"), "{out}");
    assert!(err.contains("WEIR-0819") && err.contains("tail -n +"), "{err}");
    assert_eq!(code, 1);
    let accepted: u64 = out.split(' ').next().unwrap().replace(',', "").parse().unwrap();
    assert!(err.contains(&format!("before line {}", accepted + 1)), "{out} {err}");
}

#[test]
fn produce_takes_bytes_as_they_are_and_says_at_once_that_a_topic_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let weir = Weir::up(dir.path(), &[]);
    let produce = |topic: &str, text: &[u8]| {
        let mut child = command()
            .args(["produce", topic, "--brokers", &weir.kafka])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that refuses at once does not read.
        let _ = child.stdin.take().unwrap().write_all(text);
        said(&child.wait_with_output().unwrap())
    };
    let (_, err, code) = produce("nowhere", b"x\n");
    assert!(err.contains("WEIR-0406") && err.contains("weir topics --create nowhere"), "{err}");
    assert_eq!(code, 1);
    let (out, err, code) = produce("order-events", b"\xff\xfe\nplain\n");
    assert_eq!((out.as_str(), code), ("2 records acknowledged in order-events\n", 0), "{err}");
}

use std::path::Path;

use super::*;

/// The file of spec 000, as written there.
const SPEC_000: &str = "
traffic_control:
  buffer_size: 10000          # 消息缓冲池大小
  batch_size: 100             # 批处理大小
  flush_interval: 50ms        # 刷新间隔
  max_rate: 1000              # 最大速率 (消息/秒)
  rate_window: 1s             # 限流窗口
  max_failures: 5             # 最大失败次数
  circuit_timeout: 10s        # 熔断恢复时间

message_priorities:
  urgent:                     # 紧急消息
    - emergency_landing
    - collision_alert
  high:                      # 高优先级
    - low_battery_alert
    - signal_lost_alert
  normal:                    # 普通消息
    - heartbeat
    - status_update
  low:                       # 低优先级
    - log_data
    - statistics
";

/// The `kafka` section of spec 001, as written there.
const SPEC_001: &str = "
# config.yaml
kafka:
  brokers:
    - \"localhost:9092\"
  group_id: \"drone-control-system\"
  auto_offset_reset: \"earliest\"
  session_timeout: 10s
  commit_interval: 1s
  compression_codec: \"snappy\"
";

fn values(yaml: &str) -> Result<Values, crate::error::UserError> {
    let mut values = Values::load(Some(Path::new("/dev/null")), [])?;
    values.add_yaml(Path::new("weir.yaml"), yaml)?;
    Ok(values)
}

fn settings(yaml: &str) -> Settings {
    Settings::from_values(&values(yaml).unwrap()).unwrap()
}

#[test]
fn traffic_config_of_spec_000_loads_as_written() {
    let settings = settings(SPEC_000);
    assert_eq!(settings.traffic.buffer_size, 10_000);
    assert_eq!(settings.traffic.batch_size, 100);
    assert_eq!(settings.traffic.flush_interval_ms, 50);
    assert_eq!(settings.traffic.max_rate, Some(1000));
    assert_eq!(settings.traffic.rate_window_ms, 1000);
    assert_eq!(settings.traffic.max_failures, 5);
    assert_eq!(settings.traffic.circuit_timeout_ms, 10_000);
    assert_eq!(settings.priorities[0], ["emergency_landing", "collision_alert"]);
    assert_eq!(settings.priorities[3], ["log_data", "statistics"]);
}

#[test]
fn kafka_section_of_spec_001_loads_as_written() {
    let settings = settings(SPEC_001);
    assert_eq!(settings.brokers, ["localhost:9092"]);
    assert_eq!(settings.compression, "snappy");
    assert!(settings.from_earliest);
    assert_eq!(settings.session_timeout_ms, 10_000);
}

#[test]
fn unknown_key_names_its_line_and_the_key_that_was_meant() {
    let error = values("traffic_control:\n  bufer_size: 5\n").unwrap_err();
    assert_eq!(error.code, "WEIR-0802");
    let text = error.to_string();
    assert!(text.contains("line 2"), "{text}");
    assert!(text.contains("did you mean traffic_control.buffer_size?"), "{text}");
}

#[test]
fn values_out_of_range_say_what_is_expected() {
    for yaml in [
        "traffic_control: {batch_size: 0}",
        "traffic_control: {flush_interval: soon}",
        "gateway: {body_bytes_max: 1TBB}",
        "layers: {fleet: perhaps}",
    ] {
        let error = values(yaml).unwrap_err();
        assert_eq!(error.code, "WEIR-0803", "{yaml}");
        assert!(error.to_string().contains("is not"), "{error}");
    }
}

#[test]
fn environment_overrides_the_file_and_flags_override_both() {
    let environment = [("WEIR_TRAFFIC_CONTROL_BATCH_SIZE".to_owned(), "7".to_owned())];
    let mut values = Values::load(Some(Path::new("/dev/null")), environment).unwrap();
    assert_eq!(Settings::from_values(&values).unwrap().traffic.batch_size, 7);
    values.set_flag("--batch", "traffic_control.batch_size", "9").unwrap();
    let (_, value, origin) =
        values.iter().find(|(name, ..)| *name == "traffic_control.batch_size").unwrap();
    assert_eq!((value, origin), ("9", &Origin::Flag("--batch")));
}

#[test]
fn weir_variable_wins_over_the_variable_of_the_specification() {
    for order in [["WEIR_KAFKA_BROKERS", "KAFKA_BROKERS"], ["KAFKA_BROKERS", "WEIR_KAFKA_BROKERS"]]
    {
        let environment = order.map(|name| (name.to_owned(), format!("{}:1", name.to_lowercase())));
        let values = Values::load(Some(Path::new("/dev/null")), environment).unwrap();
        let brokers = Settings::from_values(&values).unwrap().brokers;
        assert_eq!(brokers, ["weir_kafka_brokers:1"], "{order:?}");
    }
}

#[test]
fn topics_and_routes_extend_the_built_in_tables() {
    let settings = settings(
        "routes: {\"pump.*\": pump-events}\ntopics: {pump-events: {partitions: 6, retention: 2d}}",
    );
    assert_eq!(settings.routes, [("pump.*".to_owned(), "pump-events".to_owned())]);
    let topic = settings.topics.iter().find(|topic| topic.name == "pump-events").unwrap();
    assert_eq!((topic.partitions, topic.retention_ms), (6, Some(2 * 86_400_000)));
    assert!(settings.topics.iter().any(|topic| topic.name == "iot-sensor-data" && topic.fnv1a));
}

#[test]
fn every_default_is_valid_for_its_own_key() {
    let values = Values::load(Some(Path::new("/dev/null")), []).unwrap();
    for key in KEYS.iter().filter(|key| key.default.is_some()) {
        let value = values.get(key.name).unwrap().to_owned();
        let mut again = values.clone();
        again.set_flag("--test", key.name, &value).unwrap();
    }
    Settings::from_values(&values).unwrap();
}

#[test]
fn a_value_that_would_fail_later_is_an_error_with_its_key_its_line_and_what_to_do() {
    for (yaml, name, line, fault, help) in [
        (
            "logging:\n  level: inof",
            "logging.level",
            2,
            "\"inof\" is neither",
            "info,weir_broker=debug",
        ),
        ("kafka:\n  brokers: a:b:c", "kafka.brokers", 2, "more than one colon", "kafka-1:9092"),
        ("kafka:\n  brokers: [\":9092\"]", "kafka.brokers", 2, "no host", "kafka-1:9092"),
        ("kafka:\n  brokers: a:0", "kafka.brokers", 2, "from 1 to 65535", "kafka-1:9092"),
        ("kafka:\n  brokers: a:65536", "kafka.brokers", 2, "from 1 to 65535", "kafka-1:9092"),
        ("kafka:\n  brokers: \"a:1,\"", "kafka.brokers", 2, "a comma too many", "kafka-1:9092"),
        ("kafka:\n  brokers: []", "kafka.brokers", 2, "names no broker", "kafka-1:9092"),
        ("\nroutes:\n  \"pump.*\": pump events", "routes.pump.*", 3, "' ' in it", "drone-events"),
        ("routes:\n  x: __consumer_offsets", "routes.x", 2, "internal to Kafka", "drone-events"),
        ("routes:\n  a*b: t", "routes.a*b", 2, "at its end only", "drone-events"),
        ("topics:\n  a b: {partitions: 3}", "topics.a b.partitions", 2, "' ' in it", "partitions"),
        ("topics:\n  t:\n    key: [a, \"\"]", "topics.t.key", 3, "list of field names", "pump_id"),
        ("topics:\n  t:\n    key: []", "topics.t.key", 3, "list of field names", "pump_id"),
        ("data_dir: [a, b]", "data_dir", 1, "is a list", "where the log"),
        ("data_dir:", "data_dir", 1, "has no value", "where the log"),
        ("data_dir: ''", "data_dir", 1, "is empty", "where the log"),
        ("broker:\n  listen: localhost", "broker.listen", 2, "not an IP address", "127.0.0.1"),
        ("broker:\n  advertised: host", "broker.advertised", 2, "has no port", "edge-7"),
        ("gateway: 8084", "gateway", 1, "is a section", "gateway.listen"),
    ] {
        let error = values(yaml).unwrap_err();
        assert_eq!(error.code, "WEIR-0803", "{yaml}");
        assert!(error.what.starts_with(name), "{yaml}: {}", error.what);
        assert!(error.what.contains(fault), "{yaml}: {}", error.what);
        let place = format!("in weir.yaml, line {line}");
        assert_eq!(error.why.as_deref(), Some(place.as_str()), "{yaml}");
        assert!(error.help.as_deref().unwrap().contains(help), "{yaml}: {:?}", error.help);
    }
}

#[test]
fn a_file_that_is_no_map_says_so() {
    for yaml in ["- a\n- b\n", "just text", "42"] {
        let error = values(yaml).unwrap_err();
        assert_eq!((error.code, &*error.what), ("WEIR-0801", "the file must be a map of keys"));
    }
    values("").unwrap();
    values("# nothing\n").unwrap();
    values("kafka:\nrouting:\n").unwrap_err();
    values("kafka:\n  # brokers: a:1\ngateway:\n").unwrap();
}

#[test]
fn a_flag_and_a_variable_are_checked_as_the_file_is() {
    let mut values = values("").unwrap();
    let error = values.set_flag("--brokers", "kafka.brokers", "").unwrap_err();
    assert!(error.to_string().contains("names no broker"), "{error}");
    let environment = |value: &str| {
        let variable = ("KAFKA_BROKERS".to_owned(), value.to_owned());
        Values::load(Some(Path::new("/dev/null")), [variable])
    };
    let error = environment("a:9092,").unwrap_err();
    assert!(error.to_string().contains("in the variable KAFKA_BROKERS"), "{error}");
    let unset = environment("").unwrap();
    assert_eq!(unset.get("kafka.brokers"), None);
}

#[test]
fn database_variables_are_known_by_name_and_their_values_are_not_kept() {
    let environment = [("DB_PASSWORD", "geheim"), ("DB_HOST", "db:5432"), ("DB_USER", "")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let values = Values::load(Some(Path::new("/dev/null")), environment).unwrap();
    assert_eq!(values.unused_variables().collect::<Vec<_>>(), ["DB_HOST", "DB_PASSWORD"]);
    assert!(!format!("{values:?}").contains("geheim"));
}

#[test]
fn app_logs_is_application_logs_in_routes_and_topics_and_a_topic_has_its_key() {
    let settings = settings(
        "routes: {\"trace.*\": app_logs}\ntopics: {app_logs: {retention: 1d, key: [host, pid]}}",
    );
    assert_eq!(settings.routes[0].1, "application-logs");
    assert!(settings.topics.iter().all(|topic| topic.name != "app_logs"));
    let topic = settings.topics.iter().find(|topic| topic.name == "application-logs").unwrap();
    assert_eq!(topic.retention_ms, Some(86_400_000));
    assert_eq!(topic.key_fields, ["host", "pid"]);
}

#[test]
fn a_key_that_is_not_given_has_the_default_of_the_traffic_manager() {
    assert_eq!(settings("").traffic, weir_traffic::TrafficConfig::default());
}

#[test]
fn every_limit_of_the_traffic_manager_has_a_key() {
    let limits = serde_json::to_value(weir_traffic::TrafficConfig::default()).unwrap();
    for name in limits.as_object().unwrap().keys() {
        let key = format!("traffic_control.{name}");
        assert!(super::keys::find(&key).is_some(), "{key}");
    }
    let given = settings(
        "traffic_control: {send_timeout: 2s, in_flight_max: 9, retry_backoff: 7ms, \
         aging_interval: 3s, batch_bytes_max: 2MiB}",
    )
    .traffic;
    assert_eq!((given.send_timeout_ms, given.in_flight_max), (2_000, 9));
    assert_eq!((given.retry_backoff_ms, given.aging_interval_ms), (7, 3_000));
    assert_eq!(given.batch_bytes_max, 2 << 20);
}

#[test]
fn the_production_profile_of_spec_000_loads_as_written() {
    let traffic = settings(
        "
traffic_control:
  buffer_size: 50000          # 增大缓冲池
  batch_size: 200             # 增大批次
  flush_interval: 30ms        # 减少刷新间隔
  max_rate: 2000              # 提高限流阈值
  max_failures: 3             # 降低熔断阈值
  circuit_timeout: 5s         # 缩短恢复时间
",
    )
    .traffic;
    assert_eq!((traffic.buffer_size, traffic.batch_size), (50_000, 200));
    assert_eq!((traffic.flush_interval_ms, traffic.circuit_timeout_ms), (30, 5_000));
    assert_eq!((traffic.max_rate, traffic.max_failures), (Some(2_000), 3));
    traffic.validate().unwrap();
}

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
    assert!(settings
        .topics
        .iter()
        .any(|topic| topic.name == "iot-sensor-data" && topic.partitioner == "fnv1a"));
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
fn what_kubernetes_sets_for_a_service_named_weir_does_not_stop_the_start() {
    let load = |variables: &[(&str, &str)]| {
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Values::load(Some(Path::new("/dev/null")), variables.collect::<Vec<_>>())
    };
    let of_services = [
        ("WEIR_PORT", "tcp://10.43.0.7:8084"),
        ("WEIR_PORT_8084_TCP", "tcp://10.43.0.7:8084"),
        ("WEIR_PORT_8084_TCP_ADDR", "10.43.0.7"),
        ("WEIR_PORT_8084_TCP_PORT", "8084"),
        ("WEIR_PORT_8084_TCP_PROTO", "tcp"),
        ("WEIR_SERVICE_HOST", "10.43.0.7"),
        ("WEIR_SERVICE_PORT", "8084"),
        ("WEIR_SERVICE_PORT_HTTP", "8084"),
        ("WEIR_WEB_CONSOLE_PORT", "tcp://10.43.0.8:8090"),
        ("WEIR_WEB_CONSOLE_SERVICE_HOST", "10.43.0.8"),
    ];
    let values = load(&of_services).unwrap();
    let passed_over: Vec<_> = values.passed_over_variables().collect();
    assert_eq!(passed_over, of_services.map(|(name, _)| name));
    // A slip of a person is told as ever.
    for slip in ["WEIR_GATEWAY_LISTN", "WEIR_PORT", "WEIR_GATEWAY_PORT", "WEIR_PORT_X_TCP"] {
        let error = load(&[(slip, "8084")]).unwrap_err();
        assert!(error.to_string().contains("unknown key"), "{slip}: {error}");
    }
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

/// The keys of spec 003, as its tables write them.
const SPEC_003: &str = "
log.retention.ms: 604800000
log.retention.bytes: 1073741824
log.cleanup.policy: delete,compact
log.segment.bytes: 1073741824
log.roll.ms: 604800000
log.cleaner.backoff.ms: 15000
log.cleaner.min.dirty.ratio: 0.5
log.cleaner.min.compaction.lag.ms: 86400000
log.cleaner.threads: 1
";

fn broker_config(yaml: &str) -> weir_broker::BrokerConfig {
    crate::up::broker_config(&settings(yaml)).unwrap()
}

#[test]
fn log_keys_of_spec_003_load_as_written_and_are_defaults_of_topics() {
    let config = broker_config(SPEC_003);
    for (key, value) in [
        ("retention.ms", "604800000"),
        ("retention.bytes", "1073741824"),
        ("cleanup.policy", "delete,compact"),
        ("segment.bytes", "1073741824"),
        ("segment.ms", "604800000"),
        ("min.cleanable.dirty.ratio", "0.5"),
        ("min.compaction.lag.ms", "86400000"),
    ] {
        assert_eq!(config.topic_defaults.value(key), Some(value), "{key}");
    }
    assert_eq!(config.cleaner_backoff_ms, 15_000);
    let values = values(SPEC_003).unwrap();
    let idle: Vec<_> = values.without_effect().collect();
    assert_eq!(idle, [("log.cleaner.threads", "there is one cleaner")]);
}

#[test]
fn log_keys_take_units_and_sections_and_no_limit() {
    let config = broker_config(
        "log:\n  retention: {ms: -1, bytes: 2GiB, minutes: 5}\n  cleanup: {policy: [compact, delete]}\n  \
         segment: {bytes: 16MiB}\n  cleaner: {enable: false, backoff: {ms: 2s}, io: {max: {bytes: \
         {per: {second: 1MiB}}}}}\n",
    );
    for (key, value) in [
        ("retention.ms", "-1"),
        ("retention.bytes", "2147483648"),
        ("cleanup.policy", "compact,delete"),
        ("segment.bytes", "16777216"),
    ] {
        assert_eq!(config.topic_defaults.value(key), Some(value), "{key}");
    }
    assert!(!config.cleaner_enabled);
    assert_eq!(config.cleaner_backoff_ms, 2_000);
    assert_eq!(config.cleaner_io_bytes_per_second_max, Some(1 << 20));
    let no_limit = broker_config("log.cleaner.io.max.bytes.per.second: 1.7976931348623157E308");
    assert_eq!(no_limit.cleaner_io_bytes_per_second_max, None);
    let both = "log.cleaner.min.cleanable.ratio: 0.1\nlog.cleaner.min.dirty.ratio: 0.9";
    let defaults = broker_config(both).topic_defaults;
    assert_eq!(defaults.value("min.cleanable.dirty.ratio"), Some("0.1"), "Kafka's own name counts");
    assert_eq!(broker_config("").topic_defaults, weir_broker::TopicDefaults::default());
}

#[test]
fn a_log_key_that_cannot_be_is_an_error_with_its_line_and_what_to_do() {
    for (yaml, name, fault, help) in [
        ("\nlog.retention.ms: soon", "log.retention.ms", "nor -1", "default 7d"),
        ("log:\n  retention: {ms: -2}", "log.retention.ms", "nor -1", "default 7d"),
        ("\nlog.segment.bytes: 1KiB", "log.segment.bytes", "from 1048576", "default 1GiB"),
        ("\nlog.cleanup.policy: shred", "log.cleanup.policy", "delete, compact", "both"),
        ("\nlog.cleaner.min.dirty.ratio: 50", "log.cleaner.min.dirty.ratio", "0 to 1", "name of"),
        ("\nlog.cleaner.threads: 0", "log.cleaner.threads", "from 1", "without effect"),
        ("\nlog.cleaner.enable: yes!", "log.cleaner.enable", "true or false", "default true"),
    ] {
        let error = values(yaml).unwrap_err();
        assert_eq!((error.code, error.why.as_deref()), ("WEIR-0803", Some("in weir.yaml, line 2")));
        assert!(error.what.starts_with(name) && error.what.contains(fault), "{}", error.what);
        assert!(error.help.as_deref().unwrap().contains(help), "{yaml}: {:?}", error.help);
    }
    let error = values("log.retention.mss: 1").unwrap_err();
    assert_eq!(
        (error.code, error.help.as_deref()),
        ("WEIR-0802", Some("did you mean log.retention.ms?"))
    );
}

#[test]
fn what_a_log_keys_check_lets_pass_the_broker_takes() {
    use super::keys::Kind;
    for key in
        KEYS.iter().filter(|key| key.name.starts_with("log.") || key.name.starts_with("group."))
    {
        let mut texts: Vec<String> = match key.kind {
            Kind::Bool => vec!["true".to_owned(), "false".to_owned()],
            Kind::OneOf(words) => words.iter().map(|&word| word.to_owned()).collect(),
            Kind::Words(words) => vec![words[0].to_owned(), words.join(", ")],
            Kind::Ratio => vec!["0.001".to_owned(), "1".to_owned()],
            Kind::RatioTo(_) => vec!["0".to_owned(), "0.001".to_owned()],
            Kind::Rate => vec!["0.5".to_owned(), "1e300".to_owned(), "64GiB".to_owned()],
            Kind::Count(low, high) | Kind::Duration(low, high) | Kind::Bytes(low, high) => {
                vec![low.to_string(), high.to_string()]
            }
            Kind::CountOrNone(low, high)
            | Kind::DurationOrNone(low, high)
            | Kind::BytesOrNone(low, high) => {
                vec![low.to_string(), high.to_string(), "-1".to_owned()]
            }
            other => panic!("{}: {other:?}", key.name),
        };
        for text in texts.drain(..) {
            let settings = settings(&format!("{}: \"{text}\"", key.name));
            let [(name, value)] = &settings.broker_log_keys[..] else { panic!("{}", key.name) };
            let mut config = weir_broker::BrokerConfig::default();
            assert_eq!(
                config.set_log_key(name, value).ok().zip(config.set_group_key(name, value).ok()),
                Some((name.starts_with("log."), name.starts_with("group."))),
                "{name}: {text} as {value}"
            );
        }
    }
}

/// The structs of spec 004 by their YAML names, with values that their rules allow.
const SPEC_004: &str = "
kafka_producer:
  brokers: [\"kafka-cluster:9092\"]
  topic: iot-sensor-data
  client_id: iot-producer
  batch_size: 1000
  batch_timeout: 50ms
  compression: gzip
  max_retries: 5
  retry_backoff: 100ms
  required_acks: -1
  flush_frequency: 10ms
  channel_buffer_size: 10000
device_simulation:
  device_count: 10000
  sample_interval: 5s
  data_variation: 0.5
  anomaly_rate: 0.01
  trend_enabled: true
  trend_strength: 0.2
  worker_pool_size: 100
  queue_buffer_size: 10000
";

#[test]
fn the_structs_of_spec_004_load_as_written() {
    let values = values(SPEC_004).unwrap();
    assert_eq!(values.count("device_simulation.device_count"), Some(10_000));
    assert_eq!(values.duration_ms("device_simulation.sample_interval"), Some(5_000));
    assert!((values.ratio("device_simulation.anomaly_rate") - 0.01).abs() < 1e-12);
    assert_eq!(values.list("kafka_producer.brokers"), ["kafka-cluster:9092"]);
    assert_eq!(values.duration_ms("kafka_producer.flush_frequency"), Some(10));
}

#[test]
fn every_validation_rule_of_spec_004_is_kept_and_names_its_key() {
    // Key, the values at its limits, the values beyond, and words of the message.
    let rules: &[(&str, &[&str], &[&str], &str)] = &[
        ("kafka_producer.brokers", &["[\"a:1\"]"], &["[]", "\"\""], "names no broker"),
        ("kafka_producer.topic", &["t"], &["\"\""], "empty"),
        ("kafka_producer.client_id", &["c"], &["\"\""], "empty"),
        ("kafka_producer.batch_size", &["1", "1000000"], &["0", "1000001"], "from 1 to 1000000"),
        ("kafka_producer.batch_timeout", &["1ms"], &["0ms"], "in ms from 1 to"),
        (
            "kafka_producer.compression",
            &["none", "gzip", "snappy", "lz4", "zstd"],
            &["brotli"],
            "none, gzip, snappy, lz4, zstd",
        ),
        ("kafka_producer.max_retries", &["0", "10"], &["11", "-1"], "from 0 to 10"),
        ("kafka_producer.retry_backoff", &["1ms"], &["0"], "in ms from 1 to"),
        ("kafka_producer.required_acks", &["-1", "0", "1"], &["2"], "one of -1, 0, 1"),
        ("kafka_producer.flush_frequency", &["1ms"], &["0s"], "in ms from 1 to"),
        ("kafka_producer.channel_buffer_size", &["1"], &["0"], "from 1 to"),
        ("device_simulation.device_count", &["1", "100000"], &["0", "100001"], "from 1 to 100000"),
        ("device_simulation.sample_interval", &["100ms"], &["99ms"], "in ms from 100 to"),
        ("device_simulation.data_variation", &["0", "1"], &["-0.1", "1.1"], "from 0 to 1"),
        ("device_simulation.anomaly_rate", &["0", "0.1"], &["-0.1", "0.11"], "from 0 to 0.1"),
        ("device_simulation.trend_enabled", &["true", "false"], &["maybe"], "true or false"),
        ("device_simulation.trend_strength", &["0", "1"], &["-0.1", "1.1"], "from 0 to 1"),
        ("device_simulation.worker_pool_size", &["1", "1000"], &["0", "1001"], "from 1 to 1000"),
        ("device_simulation.queue_buffer_size", &["100"], &["99"], "from 100 to"),
    ];
    let yaml = |key: &str, value: &str| {
        let (section, name) = key.split_once('.').unwrap();
        format!("{section}:\n  {name}: {value}\n")
    };
    for (key, good, bad, words) in rules {
        for value in *good {
            values(&yaml(key, value)).unwrap_or_else(|error| panic!("{key}: {value}: {error}"));
        }
        for value in *bad {
            let error = values(&yaml(key, value)).expect_err(&format!("{key}: {value}"));
            let text = error.to_string();
            assert!(text.contains(key) && text.contains(words), "{key}: {value}: {text}");
            assert_eq!(error.code, "WEIR-0803", "{text}");
        }
    }
    let error = values("device_simulation:\n  device_cont: 5\n").unwrap_err();
    assert!(error.to_string().contains("device_simulation.device_count"), "{error}");
}

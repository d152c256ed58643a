//! Configurations that admin clients change while the broker runs.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use weir_broker::BrokerConfig;
use weir_log::{Disk, MemDisk};
use weir_protocol::api::alter_configs::{self, AlterConfigsRequest};
use weir_protocol::api::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResult,
};
use weir_protocol::api::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use weir_protocol::api::list_config_resources::ListConfigResourcesRequest;
use weir_protocol::{ErrorCode, Str};

use crate::harness::*;

pub(crate) const TOPIC: i8 = 2;
pub(crate) const BROKER: i8 = 4;
const LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

fn resource(kind: i8, name: &str, changes: &[(&str, i8, Option<&str>)]) -> AlterConfigsResource {
    let change = |(name, config_operation, value): &(&str, i8, Option<&str>)| AlterableConfig {
        name: Str::copy_from(name),
        config_operation: *config_operation,
        value: value.map(Str::copy_from),
    };
    AlterConfigsResource {
        resource_type: kind,
        resource_name: Str::copy_from(name),
        configs: changes.iter().map(change).collect(),
    }
}

fn change(
    h: &mut Harness,
    kind: i8,
    name: &str,
    changes: &[(&str, i8, Option<&str>)],
) -> (ErrorCode, String) {
    let resources = vec![resource(kind, name, changes)];
    let request = IncrementalAlterConfigsRequest { resources, validate_only: false };
    let answer = h.ask(1, &request).responses.remove(0);
    let words = answer.error_message.unwrap_or_default().to_string();
    (ErrorCode::from_code(answer.error_code), words)
}

pub(crate) fn set(h: &mut Harness, kind: i8, name: &str, key: &str, value: &str) {
    let (error, words) = change(h, kind, name, &[(key, SET, Some(value))]);
    assert!(error.is_none(), "{key}={value}: {words}");
}

fn replace(h: &mut Harness, kind: i8, name: &str, configs: &[(&str, Option<&str>)]) -> ErrorCode {
    let config = |(name, value): &(&str, Option<&str>)| alter_configs::AlterableConfig {
        name: Str::copy_from(name),
        value: value.map(Str::copy_from),
    };
    let resources = vec![alter_configs::AlterConfigsResource {
        resource_type: kind,
        resource_name: Str::copy_from(name),
        configs: configs.iter().map(config).collect(),
    }];
    let answer = h.ask(2, &AlterConfigsRequest { resources, validate_only: false });
    ErrorCode::from_code(answer.responses[0].error_code)
}

fn describe_all(h: &mut Harness, kind: i8, name: &str) -> DescribeConfigsResult {
    let resource = DescribeConfigsResource {
        resource_type: kind,
        resource_name: Str::copy_from(name),
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        ..DescribeConfigsRequest::default()
    };
    h.ask(4, &request).results.remove(0)
}

fn find(h: &mut Harness, kind: i8, name: &str, key: &str) -> DescribeConfigsResourceResult {
    let configs = describe_all(h, kind, name).configs;
    configs.into_iter().find(|config| config.name == key).unwrap()
}

/// Value, source, and key@source of each synonym.
fn describe(h: &mut Harness, kind: i8, name: &str, key: &str) -> (String, i8, Vec<String>) {
    let config = find(h, kind, name, key);
    let synonyms = config.synonyms.iter();
    let synonyms = synonyms.map(|one| {
        format!("{}={}@{}", one.name, one.value.as_deref().unwrap_or_default(), one.source)
    });
    let synonyms = synonyms.collect();
    (config.value.unwrap_or_default().to_string(), config.config_source, synonyms)
}

fn segments(h: &Harness, dir: &str) -> usize {
    let files = h.disk.list(Path::new(dir)).unwrap();
    files.iter().filter(|file| file.name.ends_with(".log")).count()
}

fn start_offset(h: &Harness) -> i64 {
    h.broker.stats().topics[0].start_offsets[0]
}

#[test]
fn retention_takes_effect_at_once() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    h.produce("t", 0, batch(&["a", "b"]));
    h.pass_ms(300_000);
    assert_eq!(start_offset(&h), 0, "it is not a week old");
    set(&mut h, TOPIC, "t", "retention.ms", "1000");
    h.pass_ms(300_000);
    assert_eq!(start_offset(&h), 2);
    h.produce("t", 0, batch_at(h.now.get(), &["c"]));
    set(&mut h, TOPIC, "t", "retention.ms", "-1");
    h.pass_ms(3_000_000);
    assert_eq!(start_offset(&h), 2);
}

#[test]
fn segment_ms_takes_effect_at_once() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    for turn in 0..4 {
        if turn == 2 {
            assert_eq!(segments(&h, "/weir/data/t-0"), 1);
            set(&mut h, TOPIC, "t", "segment.ms", "100");
        }
        h.pass_ms(200);
        h.produce("t", 0, batch_at(h.now.get(), &["a"]));
    }
    assert_eq!(segments(&h, "/weir/data/t-0"), 3);
}

#[test]
fn segment_bytes_takes_effect_at_once() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    let half = "x".repeat(600_000);
    h.produce("t", 0, batch(&[&half]));
    h.produce("t", 0, batch(&[&half]));
    assert_eq!(segments(&h, "/weir/data/t-0"), 1);
    set(&mut h, TOPIC, "t", "segment.bytes", "1048576");
    h.produce("t", 0, batch(&[&half]));
    h.produce("t", 0, batch(&[&half]));
    assert_eq!(segments(&h, "/weir/data/t-0"), 3);
}

#[test]
fn cleanup_policy_takes_effect_at_once() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    let keyless = || idempotent(-1, -1, -1, &["x"]);
    assert_eq!(h.produce("t", 0, keyless()).error_code, 0);
    set(&mut h, TOPIC, "t", "cleanup.policy", "compact");
    assert_eq!(h.produce("t", 0, keyless()).error_code, ErrorCode::InvalidRecord.code());
    let (error, _) = change(&mut h, TOPIC, "t", &[("cleanup.policy", DELETE, None)]);
    assert!(error.is_none());
    assert_eq!(h.produce("t", 0, keyless()).error_code, 0);
}

#[test]
fn max_message_bytes_takes_effect_at_once_of_a_topic_and_of_all() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    let too_large = ErrorCode::MessageTooLarge.code();
    let produce = |h: &mut Harness| h.produce("t", 0, batch(&["more than 80 bytes"])).error_code;
    set(&mut h, TOPIC, "t", "max.message.bytes", "80");
    assert_eq!(produce(&mut h), too_large);
    let (error, _) = change(&mut h, TOPIC, "t", &[("max.message.bytes", DELETE, None)]);
    assert!(error.is_none());
    assert_eq!(produce(&mut h), 0);
    set(&mut h, BROKER, "", "message.max.bytes", "80");
    assert_eq!(produce(&mut h), too_large);
    set(&mut h, BROKER, "0", "message.max.bytes", "1000");
    assert_eq!(produce(&mut h), 0);
    let mut h = h.after_power_cut(3);
    assert_eq!(produce(&mut h), 0);
    let (error, _) = change(&mut h, BROKER, "0", &[("message.max.bytes", DELETE, None)]);
    assert!(error.is_none());
    assert_eq!(produce(&mut h), too_large);
}

#[test]
fn a_default_of_topics_is_set_for_all_brokers_and_for_one() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    h.create("own", 1, &[("retention.ms", "5")]);
    set(&mut h, BROKER, "0", "log.retention.ms", "7000");
    set(&mut h, BROKER, "", "log.retention.ms", "8000");
    let both = [
        "log.retention.ms=7000@2".to_owned(),
        "log.retention.ms=8000@3".to_owned(),
        "log.retention.hours=168@5".to_owned(),
    ];
    let of_topic = describe(&mut h, TOPIC, "t", "retention.ms");
    assert_eq!(of_topic, ("7000".to_owned(), 2, both.to_vec()));
    let of_broker = describe(&mut h, BROKER, "0", "log.retention.ms");
    assert_eq!(of_broker, ("7000".to_owned(), 2, both.to_vec()));
    let of_all = describe(&mut h, BROKER, "", "log.retention.ms");
    assert_eq!(of_all, ("8000".to_owned(), 3, vec![both[1].clone()]));
    assert_eq!(describe(&mut h, TOPIC, "own", "retention.ms").0, "5");
    h.produce("t", 0, batch(&["a"]));
    h.pass_ms(300_000);
    let topics = h.broker.stats().topics;
    assert_eq!(topics[1].start_offsets, [1], "seven seconds are over");
    assert_eq!(describe_all(&mut h, BROKER, "").configs.len(), 1);
    assert_eq!(replace(&mut h, BROKER, "0", &[]), ErrorCode::None);
    assert_eq!(describe(&mut h, TOPIC, "t", "retention.ms").1, 3);
    assert_eq!(replace(&mut h, BROKER, "", &[]), ErrorCode::None);
    let (_, source, synonyms) = describe(&mut h, TOPIC, "t", "retention.ms");
    assert_eq!((source, synonyms), (5, vec![]));
}

#[test]
fn the_cleaner_and_the_limits_of_connections_obey_what_is_set() {
    let mut h = Harness::new();
    set(&mut h, BROKER, "0", "max.connections", "7");
    set(&mut h, BROKER, "0", "max.connections.per.ip", "3");
    set(&mut h, BROKER, "", "max.connection.creation.rate", "9");
    let overrides = "10.0.0.9:1, 2001:db8::7:50";
    set(&mut h, BROKER, "0", "max.connections.per.ip.overrides", overrides);
    set(&mut h, BROKER, "", "log.cleaner.io.max.bytes.per.second", "1000000");
    let check = |h: &Harness| {
        let limits = h.broker.connection_limits(IpAddr::from([10, 0, 0, 1]));
        assert_eq!((limits.connections_max, limits.per_ip_max), (7, Some(3)));
        assert_eq!((limits.rate_max, limits.ip_rate_max), (Some(9.0), None));
        let own = h.broker.connection_limits(IpAddr::from([127, 0, 0, 1]));
        assert_eq!(
            (own.per_ip_max, own.rate_max),
            (None, Some(9.0)),
            "this machine is not counted"
        );
        let six = h.broker.connection_limits("2001:db8:0::7".parse().unwrap());
        assert_eq!(six.per_ip_max, Some(50), "a limit of its own");
        assert_eq!(h.broker.cleaner_io_bytes_per_second_max(), Some(1_000_000));
    };
    check(&h);
    check(&h.reopened());
}

#[test]
fn the_limits_of_connections_are_described_as_they_are() {
    let start = BrokerConfig { connections_max: 77, ..config() };
    let told = |config: BrokerConfig| {
        let mut h = Harness::on(Arc::new(MemDisk::new()), config);
        ["max.connections", "max.connections.per.ip", "max.connection.creation.rate"].map(|key| {
            let (value, source, _) = describe(&mut h, BROKER, "0", key);
            (value.parse::<i32>().unwrap(), source)
        })
    };
    let (given, default) = (4, 5);
    assert_eq!(told(start.clone()), [(77, given), (i32::MAX, default), (i32::MAX, default)]);
    let all = BrokerConfig {
        connections_per_ip_max: Some(5),
        connection_creation_rate_max: Some(6),
        ..start
    };
    assert_eq!(told(all), [(77, given), (5, given), (6, given)]);
}

#[test]
fn each_change_is_checked_as_by_kafka() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    use ErrorCode as E;
    let one = |key: &'static str, operation: i8, value: Option<&'static str>| {
        vec![(key, operation, value)]
    };
    for (kind, name, changes, expect) in [
        (TOPIC, "t", one("no.such.key", DELETE, None), E::None),
        (TOPIC, "t", one("no.such.key", SET, Some("1")), E::InvalidConfig),
        (TOPIC, "t", one("retention.ms", APPEND, Some("1")), E::InvalidConfig),
        (TOPIC, "t", one("retention.ms", SET, None), E::InvalidRequest),
        (TOPIC, "t", one("retention.ms", 9, Some("1")), E::InvalidRequest),
        (TOPIC, "t", one("retention.ms", SET, Some("soon")), E::InvalidConfig),
        (TOPIC, "t", one("segment.bytes", SET, Some("1")), E::InvalidConfig),
        (
            TOPIC,
            "t",
            vec![("retention.ms", SET, Some("1")), ("retention.ms", SET, Some("2"))],
            E::InvalidRequest,
        ),
        (TOPIC, "nope", one("retention.ms", SET, Some("1")), E::UnknownTopicOrPartition),
        (TOPIC, "no/pe", one("retention.ms", SET, Some("1")), E::InvalidTopicException),
        (TOPIC, "", one("retention.ms", SET, Some("1")), E::InvalidRequest),
        (BROKER, "0", one("log.dirs", SET, Some("/x")), E::InvalidRequest),
        (BROKER, "0", one("log.dirs", DELETE, None), E::None),
        (BROKER, "", one("node.id", SET, Some("4")), E::InvalidRequest),
        (BROKER, "0", one("log.retention.ms", SET, Some("soon")), E::InvalidRequest),
        (BROKER, "0", one("log.retention.ms", APPEND, Some("1")), E::InvalidConfig),
        (BROKER, "5", one("log.retention.ms", SET, Some("1")), E::InvalidRequest),
        (BROKER, "x", one("log.retention.ms", SET, Some("1")), E::InvalidRequest),
        (BROKER, "0", one("leader.replication.throttled.rate", SET, Some("1")), E::None),
        (LOGGER, "0", one("kafka", SET, Some("DEBUG")), E::InvalidRequest),
        (GROUP, "g", one("consumer.session.timeout.ms", SET, Some("50")), E::InvalidConfig),
        (GROUP, "", one("consumer.session.timeout.ms", SET, Some("50000")), E::InvalidRequest),
        (CLIENT_METRICS, "m", one("interval.ms", SET, Some("5")), E::InvalidRequest),
        (CLIENT_METRICS, "", one("interval.ms", SET, Some("5000")), E::InvalidRequest),
        (7, "x", one("a", SET, Some("b")), E::InvalidRequest),
    ] {
        let (error, words) = change(&mut h, kind, name, &changes);
        assert_eq!(error, expect, "{kind} {name} {changes:?}: {words}");
        assert_eq!(error.is_none(), words.is_empty());
    }
    let both = vec![resource(TOPIC, "t", &[]), resource(TOPIC, "t", &[])];
    let request = IncrementalAlterConfigsRequest { resources: both, validate_only: false };
    let twice = h.ask(1, &request);
    assert!(twice.responses.iter().all(|one| one.error_code == E::InvalidRequest.code()));
    assert_eq!(describe(&mut h, TOPIC, "t", "retention.ms").1, 5, "nothing was changed");
}

#[test]
fn lists_are_added_to_and_taken_from() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    let policy = |h: &mut Harness| describe(h, TOPIC, "t", "cleanup.policy").0;
    let (error, _) = change(&mut h, TOPIC, "t", &[("cleanup.policy", APPEND, Some("compact"))]);
    assert!(error.is_none());
    assert_eq!(policy(&mut h), "delete,compact");
    let (error, _) = change(&mut h, TOPIC, "t", &[("cleanup.policy", SUBTRACT, Some("delete"))]);
    assert!(error.is_none());
    assert_eq!(policy(&mut h), "compact");
    let (error, _) =
        change(&mut h, BROKER, "0", &[("log.cleanup.policy", APPEND, Some("compact"))]);
    assert!(error.is_none());
    let (value, source, _) = describe(&mut h, BROKER, "0", "log.cleanup.policy");
    assert_eq!((value.as_str(), source), ("delete,compact", 2));
}

#[test]
fn a_replacement_takes_what_it_does_not_name_away() {
    let mut h = Harness::new();
    h.create("t", 1, &[("cleanup.policy", "compact"), ("retention.ms", "9")]);
    assert_eq!(replace(&mut h, TOPIC, "t", &[("retention.ms", Some("5"))]), ErrorCode::None);
    assert_eq!(describe(&mut h, TOPIC, "t", "retention.ms").0, "5");
    assert_eq!(describe(&mut h, TOPIC, "t", "cleanup.policy").1, 5);
    let null = replace(&mut h, TOPIC, "t", &[("retention.ms", None)]);
    assert_eq!(null, ErrorCode::InvalidRequest);
    let unknown = replace(&mut h, TOPIC, "t", &[("no.such.key", Some("1"))]);
    assert_eq!(unknown, ErrorCode::InvalidConfig);
    assert_eq!(replace(&mut h, LOGGER, "0", &[]), ErrorCode::InvalidRequest);
    let mut h = h.after_power_cut(5);
    assert_eq!(describe(&mut h, TOPIC, "t", "retention.ms").0, "5");
}

#[test]
fn what_is_only_validated_changes_nothing() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    for (kind, name, key) in [(TOPIC, "t", "retention.ms"), (BROKER, "0", "log.retention.ms")] {
        let resources = vec![resource(kind, name, &[(key, SET, Some("5"))])];
        let request = IncrementalAlterConfigsRequest { resources, validate_only: true };
        assert_eq!(h.call(1, &request).answer().responses[0].error_code, 0, "at once");
        assert_eq!(describe(&mut h, kind, name, key).1, 5);
    }
}

#[test]
fn a_change_is_seen_once_it_is_on_disk_and_the_next_waits_for_it() {
    let mut h = Harness::new();
    let request = |value: &str| {
        let changes = [("message.max.bytes", SET, Some(value))];
        let resources = vec![resource(BROKER, "0", &changes)];
        IncrementalAlterConfigsRequest { resources, validate_only: false }
    };
    let first = h.call(1, &request("100")).ticket();
    let second = h.call(1, &request("200")).ticket();
    assert_eq!(describe(&mut h, BROKER, "0", "message.max.bytes").1, 5);
    h.commit();
    assert!(h.answer::<IncrementalAlterConfigsRequest>(first).is_some());
    assert!(h.answer::<IncrementalAlterConfigsRequest>(second).is_none());
    assert_eq!(describe(&mut h, BROKER, "0", "message.max.bytes").0, "100");
    h.commit_all();
    assert!(h.answer::<IncrementalAlterConfigsRequest>(second).is_some());
    assert_eq!(describe(&mut h, BROKER, "0", "message.max.bytes").0, "200");
}

#[test]
fn groups_and_metrics_subscriptions_have_configurations() {
    let mut h = Harness::new();
    let (session, heartbeat) = ("consumer.session.timeout.ms", "consumer.heartbeat.interval.ms");
    set(&mut h, GROUP, "my group", session, "50000");
    let own = format!("{session}=50000@8");
    assert_eq!(describe(&mut h, GROUP, "my group", session), ("50000".to_owned(), 8, vec![own]));
    let default = format!("{heartbeat}=5000@5");
    let told = describe(&mut h, GROUP, "my group", heartbeat);
    assert_eq!(told, ("5000".to_owned(), 5, vec![default]));
    set(&mut h, CLIENT_METRICS, "m", "interval.ms", "5000");
    let told = describe(&mut h, CLIENT_METRICS, "m", "interval.ms");
    assert_eq!(told, ("5000".to_owned(), 7, vec!["interval.ms=5000@7".to_owned()]));
    let default = describe(&mut h, CLIENT_METRICS, "other", "interval.ms");
    assert_eq!(default, ("300000".to_owned(), 5, vec![]));
    for kind in [GROUP, CLIENT_METRICS, LOGGER] {
        let nameless = describe_all(&mut h, kind, "");
        assert_eq!(nameless.error_code, ErrorCode::InvalidRequest.code());
    }
    let mut h = h.after_power_cut(9);
    assert_eq!(describe(&mut h, GROUP, "my group", session).1, 8);
    assert_eq!(replace(&mut h, GROUP, "my group", &[]), ErrorCode::None);
    assert_eq!(describe(&mut h, GROUP, "my group", session).1, 5);
}

#[test]
fn what_a_group_is_given_lies_within_the_bounds_of_the_broker() {
    let mut given = config();
    for (key, value) in [
        ("group.consumer.min.session.timeout.ms", "10000"),
        ("group.consumer.session.timeout.ms", "20000"),
        ("group.consumer.max.session.timeout.ms", "30000"),
        ("group.consumer.min.heartbeat.interval.ms", "1000"),
        ("group.consumer.heartbeat.interval.ms", "2000"),
        ("group.consumer.max.heartbeat.interval.ms", "3000"),
    ] {
        assert!(given.set_group_key(key, value).unwrap());
    }
    let mut h = Harness::on(Arc::new(MemDisk::new()), given);
    assert_eq!(describe(&mut h, BROKER, "0", "group.consumer.min.session.timeout.ms").0, "10000");
    let (session, heartbeat) = ("consumer.session.timeout.ms", "consumer.heartbeat.interval.ms");
    assert_eq!(describe(&mut h, GROUP, "g", session).0, "20000");
    for (key, value, bound) in [
        (session, "9999", "must be greater than or equal to group.consumer.min.session.timeout.ms"),
        (session, "30001", "must be less than or equal to group.consumer.max.session.timeout.ms"),
        (heartbeat, "999", "group.consumer.min.heartbeat.interval.ms"),
        (heartbeat, "3001", "group.consumer.max.heartbeat.interval.ms"),
    ] {
        let (error, words) = change(&mut h, GROUP, "g", &[(key, SET, Some(value))]);
        assert_eq!(error, ErrorCode::InvalidConfig, "{key}={value}");
        assert!(words.contains(bound), "{words}");
    }
    set(&mut h, GROUP, "g", session, "10000");
    set(&mut h, GROUP, "g", heartbeat, "3000");
    let live = [("group.consumer.max.session.timeout.ms", SET, Some("90000"))];
    assert_eq!(change(&mut h, BROKER, "0", &live).0, ErrorCode::InvalidRequest, "as in Kafka");
}

#[test]
fn resources_are_listed_by_type() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    set(&mut h, GROUP, "g", "consumer.session.timeout.ms", "50000");
    set(&mut h, CLIENT_METRICS, "m", "interval.ms", "5000");
    let list = |h: &mut Harness, version: i16, resource_types: &[i8]| {
        let resource_types = resource_types.to_vec();
        let answer = h.ask(version, &ListConfigResourcesRequest { resource_types });
        let resources = answer.config_resources.iter();
        let resources = resources.map(|one| (one.resource_type, one.resource_name.to_string()));
        (answer.error_code, resources.collect::<Vec<_>>())
    };
    let named = |pairs: &[(i8, &str)]| {
        let named = pairs.iter().map(|(kind, name)| (*kind, (*name).to_owned()));
        (0, named.collect::<Vec<_>>())
    };
    let all = [(GROUP, "g"), (CLIENT_METRICS, "m"), (LOGGER, "0"), (BROKER, "0"), (TOPIC, "t")];
    assert_eq!(list(&mut h, 1, &[]), named(&all));
    assert_eq!(list(&mut h, 1, &[TOPIC, GROUP]), named(&[all[0], all[4]]));
    assert_eq!(list(&mut h, 1, &[7]), (ErrorCode::UnsupportedVersion.code(), vec![]));
    assert_eq!(list(&mut h, 0, &[]), named(&[all[1]]));
}

#[test]
fn keys_of_the_start_are_read_only() {
    let mut h = Harness::new();
    for (key, read_only) in [
        ("log.dirs", true),
        ("num.partitions", true),
        ("ssl.keystore.location", true),
        ("listeners", true),
        ("log.retention.ms", false),
        ("message.max.bytes", false),
        ("log.retention.hours", true),
    ] {
        assert_eq!(find(&mut h, BROKER, "0", key).read_only, read_only, "{key}");
    }
    assert_eq!(find(&mut h, BROKER, "0", "ssl.keystore.password").value, None);
}

//! ACLs and quotas: created, described, deleted, and durable.

use weir_log::disk::{Fault, FaultKind};
use weir_log::Disk;
use weir_protocol::api::alter_client_quotas::{
    AlterClientQuotasRequest, EntityData, EntryData, OpData,
};
use weir_protocol::api::create_acls::{AclCreation, CreateAclsRequest};
use weir_protocol::api::delete_acls::{DeleteAclsFilter, DeleteAclsRequest};
use weir_protocol::api::describe_acls::DescribeAclsRequest;
use weir_protocol::api::describe_client_quotas::{ComponentData, DescribeClientQuotasRequest};
use weir_protocol::{ErrorCode, Str};

use crate::harness::*;

const ANY: i8 = 1;
const MATCH: i8 = 2;
const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;

fn acl(name: &str, pattern: i8, principal: &str) -> AclCreation {
    AclCreation {
        resource_type: 2,
        resource_name: Str::copy_from(name),
        resource_pattern_type: pattern,
        principal: Str::copy_from(principal),
        host: "*".into(),
        operation: 3,
        permission_type: 3,
    }
}

fn create(h: &mut Harness, creations: Vec<AclCreation>) -> Vec<i16> {
    let answer = h.ask(3, &CreateAclsRequest { creations });
    answer.results.iter().map(|result| result.error_code).collect()
}

fn everything() -> DescribeAclsRequest {
    DescribeAclsRequest {
        resource_type_filter: ANY,
        resource_name_filter: None,
        pattern_type_filter: ANY,
        principal_filter: None,
        host_filter: None,
        operation: ANY,
        permission_type: ANY,
    }
}

/// Name, pattern and principal of each rule.
fn described(h: &mut Harness, request: &DescribeAclsRequest) -> Vec<String> {
    let answer = h.ask(3, request);
    assert_eq!(answer.error_code, 0);
    let rules = answer.resources.iter().flat_map(|resource| {
        resource.acls.iter().map(move |acl| {
            format!("{}/{} {}", resource.resource_name, resource.pattern_type, acl.principal)
        })
    });
    rules.collect()
}

fn with_rules() -> Harness {
    let mut h = Harness::new();
    let rules = vec![
        acl("orders", LITERAL, "User:a"),
        acl("ord", PREFIXED, "User:b"),
        acl("*", LITERAL, "User:c"),
        acl("other", LITERAL, "User:a"),
        acl("other", LITERAL, "User:b"),
    ];
    assert_eq!(create(&mut h, rules), [0; 5]);
    h
}

#[test]
fn rules_are_kept_once_and_survive_a_power_cut() {
    let mut h = with_rules();
    let all = described(&mut h, &everything());
    assert_eq!(all.len(), 5);
    assert_eq!(create(&mut h, vec![acl("orders", LITERAL, "User:a")]), [0], "it is there");
    let mut h = h.after_power_cut(2);
    assert_eq!(described(&mut h, &everything()), all);
    let mut h = h.reopened();
    assert_eq!(described(&mut h, &everything()), all);
}

#[test]
fn rules_are_found_by_name_pattern_and_principal() {
    let mut h = with_rules();
    let by_name = |pattern: i8, name: &str| DescribeAclsRequest {
        resource_type_filter: 2,
        pattern_type_filter: pattern,
        resource_name_filter: Some(Str::copy_from(name)),
        ..everything()
    };
    assert_eq!(described(&mut h, &by_name(LITERAL, "orders")), ["orders/3 User:a"]);
    assert_eq!(described(&mut h, &by_name(PREFIXED, "ord")), ["ord/4 User:b"]);
    let mut matching = described(&mut h, &by_name(MATCH, "orders"));
    matching.sort();
    assert_eq!(matching, ["*/3 User:c", "ord/4 User:b", "orders/3 User:a"]);
    let of_a = DescribeAclsRequest { principal_filter: Some("User:a".into()), ..everything() };
    assert_eq!(described(&mut h, &of_a).len(), 2);
    assert!(described(&mut h, &DescribeAclsRequest { operation: 4, ..everything() }).is_empty());
    assert!(
        described(&mut h, &DescribeAclsRequest { permission_type: 2, ..everything() }).is_empty()
    );
    let unknown = h.ask(3, &DescribeAclsRequest { operation: 0, ..everything() });
    assert_eq!(unknown.error_code, ErrorCode::InvalidRequest.code());
}

#[test]
fn rules_are_deleted_by_filter_and_told() {
    let mut h = with_rules();
    let filter = |pattern: i8, name: Option<&str>| DeleteAclsFilter {
        resource_type_filter: 2,
        resource_name_filter: name.map(Str::copy_from),
        pattern_type_filter: pattern,
        principal_filter: None,
        host_filter: None,
        operation: ANY,
        permission_type: ANY,
    };
    let filters = vec![filter(MATCH, Some("orders")), filter(LITERAL, Some("orders"))];
    let answer = h.ask(3, &DeleteAclsRequest { filters });
    let counts: Vec<usize> =
        answer.filter_results.iter().map(|result| result.matching_acls.len()).collect();
    assert_eq!(counts, [3, 0], "what the first has taken is gone for the second");
    let mut h = h.after_power_cut(4);
    assert_eq!(described(&mut h, &everything()), ["other/3 User:a", "other/3 User:b"]);
    let none = h.call(3, &DeleteAclsRequest { filters: vec![filter(ANY, Some("x"))] }).answer();
    assert_eq!(none.filter_results[0].error_code, 0);
    assert!(none.filter_results[0].matching_acls.is_empty());
}

#[test]
fn bad_rules_are_refused_one_by_one() {
    let mut h = Harness::new();
    let invalid = ErrorCode::InvalidRequest.code();
    let good = acl("t", LITERAL, "User:a");
    for bad in [
        acl("", LITERAL, "User:a"),
        acl("t", MATCH, "User:a"),
        acl("t", ANY, "User:a"),
        acl("t", LITERAL, "a"),
        AclCreation { resource_type: ANY, ..good.clone() },
        AclCreation { resource_type: 4, ..good.clone() },
        AclCreation { operation: ANY, ..good.clone() },
        AclCreation { operation: 77, ..good.clone() },
        AclCreation { permission_type: ANY, ..good.clone() },
    ] {
        assert_eq!(create(&mut h, vec![bad.clone()]), [invalid], "{bad:?}");
    }
    let cluster =
        AclCreation { resource_type: 4, resource_name: "kafka-cluster".into(), ..good.clone() };
    assert_eq!(create(&mut h, vec![acl("", LITERAL, "User:a"), good, cluster]), [invalid, 0, 0]);
    assert_eq!(described(&mut h, &everything()).len(), 2);
}

#[test]
fn rules_are_seen_once_they_are_on_disk() {
    let mut h = Harness::new();
    let creations = vec![acl("t", LITERAL, "User:a")];
    let ticket = h.call(3, &CreateAclsRequest { creations }).ticket();
    assert!(described(&mut h, &everything()).is_empty());
    h.commit();
    assert_eq!(h.answer::<CreateAclsRequest>(ticket).unwrap().results[0].error_code, 0);
    assert_eq!(described(&mut h, &everything()).len(), 1);
}

#[test]
fn a_failed_write_keeps_no_rule() {
    let mut h = Harness::new();
    h.disk.inject(Fault { after: 0, kind: FaultKind::SyncError });
    let offline = ErrorCode::KafkaStorageError.code();
    assert_eq!(create(&mut h, vec![acl("t", LITERAL, "User:a")]), [offline]);
    assert!(described(&mut h, &everything()).is_empty());
    assert_eq!(create(&mut h, vec![acl("u", LITERAL, "User:a")]), [offline]);
}

#[test]
fn there_is_room_for_so_many_rules() {
    let mut h = Harness::new();
    let rules = (0..500).map(|index| acl(&format!("{index:0>8000}"), LITERAL, "User:a"));
    assert!(create(&mut h, rules.collect()).iter().all(|error| *error == 0));
    let more = (500..600).map(|index| acl(&format!("{index:0>8000}"), LITERAL, "User:a"));
    let full = ErrorCode::PolicyViolation.code();
    assert!(create(&mut h, more.collect()).iter().all(|error| *error == full));
    let filters = vec![DeleteAclsFilter {
        resource_type_filter: ANY,
        pattern_type_filter: ANY,
        operation: ANY,
        permission_type: ANY,
        resource_name_filter: None,
        principal_filter: None,
        host_filter: None,
    }];
    assert_eq!(h.ask(3, &DeleteAclsRequest { filters }).filter_results[0].matching_acls.len(), 500);
    assert_eq!(create(&mut h, vec![acl("t", LITERAL, "User:a")]), [0]);
}

#[test]
fn damaged_settings_stop_the_start() {
    let h = with_rules();
    let path = h.config.data_dir.join("weir-settings");
    let file = h.disk.open(&path, weir_log::disk::OpenMode::Existing).unwrap();
    file.write_at(b"9", 0).unwrap();
    let (config, disk, now) = (h.config.clone(), h.disk.clone(), h.now);
    h.broker.close().unwrap();
    let error = weir_broker::Broker::open(config, disk, 9, now).unwrap_err();
    assert_eq!(error.code(), "WEIR-0304");
    assert!(error.to_string().contains("weir-settings, line 1"), "{error}");
}

type Parts<'a> = &'a [(&'a str, Option<&'a str>)];

fn entry(parts: Parts<'_>, ops: &[(&str, Option<f64>)]) -> EntryData {
    let part = |(kind, name): &(&str, Option<&str>)| EntityData {
        entity_type: Str::copy_from(kind),
        entity_name: name.map(Str::copy_from),
    };
    let op = |(key, value): &(&str, Option<f64>)| OpData {
        key: Str::copy_from(key),
        value: value.unwrap_or_default(),
        remove: value.is_none(),
    };
    EntryData { entity: parts.iter().map(part).collect(), ops: ops.iter().map(op).collect() }
}

fn alter(h: &mut Harness, entries: Vec<EntryData>) -> Vec<i16> {
    let request = AlterClientQuotasRequest { entries, validate_only: false };
    h.ask(1, &request).entries.iter().map(|entry| entry.error_code).collect()
}

fn quotas(h: &mut Harness, components: &[(&str, i8, Option<&str>)], strict: bool) -> Vec<String> {
    let component = |(kind, match_type, name): &(&str, i8, Option<&str>)| ComponentData {
        entity_type: Str::copy_from(kind),
        match_type: *match_type,
        r#match: name.map(Str::copy_from),
    };
    let components = components.iter().map(component).collect();
    let answer = h.ask(1, &DescribeClientQuotasRequest { components, strict });
    assert_eq!(answer.error_code, 0);
    let entries = answer.entries.unwrap().into_iter().map(|entry| {
        let parts = entry.entity.iter().map(|part| {
            format!("{}={}", part.entity_type, part.entity_name.as_deref().unwrap_or("<default>"))
        });
        let values = entry.values.iter().map(|value| format!("{}:{}", value.key, value.value));
        let (parts, values): (Vec<_>, Vec<_>) = (parts.collect(), values.collect());
        format!("{} {}", parts.join(","), values.join(","))
    });
    entries.collect()
}

fn with_quotas() -> Harness {
    let mut h = Harness::new();
    let rate = [("producer_byte_rate", Some(1024.0))];
    let entries = vec![
        entry(&[("user", Some("a"))], &rate),
        entry(&[("user", None)], &[("request_percentage", Some(50.5))]),
        entry(&[("user", Some("a")), ("client-id", None)], &rate),
        entry(&[("client-id", Some("c 1"))], &rate),
        entry(&[("ip", Some("10.0.0.1"))], &[("connection_creation_rate", Some(9.0))]),
    ];
    assert_eq!(alter(&mut h, entries), [0; 5]);
    h
}

#[test]
fn quotas_are_found_by_entity_strictly_and_not() {
    let mut h = with_quotas();
    let (exact, default, any) = (0, 1, 2);
    assert_eq!(quotas(&mut h, &[], false).len(), 5);
    assert!(quotas(&mut h, &[], true).is_empty());
    let a = "user=a producer_byte_rate:1024";
    let a_default_client = "user=a,client-id=<default> producer_byte_rate:1024";
    assert_eq!(quotas(&mut h, &[("user", exact, Some("a"))], false), [a, a_default_client]);
    assert_eq!(quotas(&mut h, &[("user", exact, Some("a"))], true), [a]);
    let user_default = "user=<default> request_percentage:50.5";
    assert_eq!(quotas(&mut h, &[("user", default, None)], false), [user_default]);
    assert_eq!(quotas(&mut h, &[("user", any, None)], true), [user_default, a]);
    let both = [("client-id", default, None), ("user", exact, Some("a"))];
    assert_eq!(quotas(&mut h, &both, true), [a_default_client]);
    let address = "ip=10.0.0.1 connection_creation_rate:9";
    assert_eq!(quotas(&mut h, &[("ip", any, None)], true), [address]);
}

#[test]
fn quotas_are_changed_key_by_key_and_survive_a_power_cut() {
    let mut h = with_quotas();
    let a = [("user", Some("a"))];
    let ops = [("producer_byte_rate", None), ("consumer_byte_rate", Some(7.0))];
    assert_eq!(alter(&mut h, vec![entry(&a, &ops)]), [0]);
    let mut h = h.after_power_cut(8);
    let exact = [("user", 0, Some("a"))];
    assert_eq!(quotas(&mut h, &exact, true), ["user=a consumer_byte_rate:7"]);
    assert_eq!(alter(&mut h, vec![entry(&a, &[("consumer_byte_rate", None)])]), [0]);
    assert!(quotas(&mut h, &exact, true).is_empty());
    assert_eq!(alter(&mut h, vec![entry(&a, &[("no_such_rate", None)])]), [0], "it is not there");
}

#[test]
fn bad_quotas_are_refused_one_by_one() {
    let mut h = Harness::new();
    let invalid = ErrorCode::InvalidRequest.code();
    let rate = [("producer_byte_rate", Some(1.0))];
    let entries = vec![
        entry(&[], &rate),
        entry(&[("planet", Some("a"))], &rate),
        entry(&[("user", Some(""))], &rate),
        entry(&[("ip", None), ("user", None)], &rate),
        entry(&[("user", Some("a"))], &[("producer_byte_rate", Some(1.5))]),
        entry(&[("user", Some("b"))], &[("no_such_rate", Some(1.0))]),
        entry(&[("user", Some("twice"))], &rate),
        entry(&[("user", Some("twice"))], &rate),
        entry(&[("user", Some("c"))], &[rate[0], rate[0]]),
        entry(&[("user", Some("good"))], &rate),
    ];
    let mut expect = [invalid; 10];
    expect[9] = 0;
    assert_eq!(alter(&mut h, entries), expect);
    assert_eq!(quotas(&mut h, &[], false).len(), 1);
    let request = AlterClientQuotasRequest {
        entries: vec![entry(&[("user", Some("dry"))], &rate)],
        validate_only: true,
    };
    assert_eq!(h.call(1, &request).answer().entries[0].error_code, 0);
    assert_eq!(quotas(&mut h, &[], false).len(), 1);
}

#[test]
fn bad_filters_of_quotas_are_refused_by_name() {
    let mut h = Harness::new();
    let mut check = |components: &[(&str, i8, Option<&str>)], expect: ErrorCode| {
        let component = |(kind, match_type, name): &(&str, i8, Option<&str>)| ComponentData {
            entity_type: Str::copy_from(kind),
            match_type: *match_type,
            r#match: name.map(Str::copy_from),
        };
        let components = components.iter().map(component).collect();
        let answer = h.ask(1, &DescribeClientQuotasRequest { components, strict: false });
        assert_eq!(ErrorCode::from_code(answer.error_code), expect, "{:?}", answer.error_message);
        assert!(answer.entries.is_none());
    };
    check(&[("planet", 2, None)], ErrorCode::UnsupportedVersion);
    check(&[("", 2, None)], ErrorCode::InvalidRequest);
    check(&[("user", 9, None)], ErrorCode::InvalidRequest);
    check(&[("user", 0, None)], ErrorCode::InvalidRequest);
    check(&[("user", 1, Some("a"))], ErrorCode::InvalidRequest);
    check(&[("user", 2, Some("a"))], ErrorCode::InvalidRequest);
    check(&[("user", 2, None), ("user", 0, Some("a"))], ErrorCode::InvalidRequest);
    check(&[("user", 2, None), ("ip", 2, None)], ErrorCode::InvalidRequest);
}

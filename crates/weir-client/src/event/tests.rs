//! The envelope: a table of what is taken and what is refused, and round trips.

use super::*;
use proptest::prelude::*;

const DRONE: &str = r#"{
  "id": "event-uuid",
  "type": "drone.status.changed",
  "source": "drone-control-service",
  "timestamp": "2025-08-03T10:30:00Z",
  "data": {
    "drone_id": 1,
    "old_status": "idle",
    "new_status": "flying",
    "location": {"latitude": 40.7128, "longitude": -74.0060, "altitude": 100.5},
    "battery": 85
  }
}"#;
const TASK: &str = r#"{"id":"event-uuid","type":"task.progress","source":"task-service",
  "timestamp":"2025-08-03T10:35:00Z","data":{"task_id":123,"drone_id":1,"progress":75,
  "current_step":"巡检点位3","estimated_completion":"2025-08-03T11:00:00Z"}}"#;
const ALERT: &str = r#"{"id":"event-uuid","type":"alert.created","source":"monitoring-service",
  "timestamp":"2025-08-03T10:40:00Z","data":{"alert_id":456,"type":"battery_low","level":"warning",
  "message":"无人机电量低于20%","drone_id":1,"auto_action":"return_to_base"}}"#;

#[test]
fn samples_of_the_specification_parse() {
    for (json, event_type, key) in [
        (DRONE, "drone.status.changed", "1"),
        (TASK, "task.progress", "1"),
        (ALERT, "alert.created", "1"),
    ] {
        let event = Event::parse(json.as_bytes()).unwrap();
        assert_eq!(event.event_type, event_type);
        assert_eq!(event.id.as_deref(), Some("event-uuid"));
        assert_eq!(event.key(), key);
        assert!(matches!(event.event_type, Cow::Borrowed(_)), "borrowed");
        assert!(event.timestamp.is_some());
    }
}

#[test]
fn id_and_timestamp_may_be_absent() {
    let json = br#"{"type":"drone.heartbeat","source":"t","data":{"drone_id":1}}"#;
    let event = Event::parse(json).unwrap();
    assert_eq!((event.id, event.timestamp, event.topic), (None, None, None));
    assert_eq!(event.priority, None);
    assert_eq!(event.data.get(), r#"{"drone_id":1}"#);
}

#[test]
fn topic_and_priority_are_obeyed_when_given() {
    let json = br#"{"type":"a","source":"b","data":{},"topic":"t","priority":"URGENT","id":null}"#;
    let event = Event::parse(json).unwrap();
    assert_eq!(event.topic.as_deref(), Some("t"));
    assert_eq!(event.priority, Some(Priority::Urgent));
    assert_eq!(event.id, None);
}

fn check_error(json: &str, code: &str, words: &str) {
    let error = Event::parse(json.as_bytes()).unwrap_err();
    assert_eq!(error.code(), code, "{json}: {error}");
    assert!(error.to_string().contains(words), "{json}: {error} lacks {words:?}");
}

#[test]
fn wrong_envelopes_are_refused_in_words() {
    check_error("", "WEIR-0430", "EOF");
    check_error("[]", "WEIR-0430", "event object");
    check_error("7", "WEIR-0430", "event object");
    check_error(r#"{"type":"a""#, "WEIR-0430", "EOF");
    check_error(r#"{"type":"a","source":"b","data":{}} x"#, "WEIR-0430", "trailing");
    check_error(
        r#"{"type":"a","source":"b","data":{},"dta":1}"#,
        "WEIR-0431",
        r#"did you mean "data""#,
    );
    check_error(
        r#"{"type":"a","source":"b","data":{},"Tpye":1}"#,
        "WEIR-0431",
        r#"did you mean "type""#,
    );
    check_error(
        r#"{"type":"a","source":"b","data":{},"zzz":1}"#,
        "WEIR-0431",
        r#"unknown field "zzz""#,
    );
    check_error(r#"{"source":"b","data":{}}"#, "WEIR-0432", r#""type" is missing"#);
    check_error(r#"{"type":"a","data":{}}"#, "WEIR-0432", r#""source" is missing"#);
    check_error(r#"{"type":"a","source":"b"}"#, "WEIR-0432", r#""data" is missing"#);
    check_error(r#"{"type":"a","source":"b","data":null}"#, "WEIR-0432", r#""data" is missing"#);
    check_error(r#"{"type":1,"source":"b","data":{}}"#, "WEIR-0433", "must be a string");
    check_error(r#"{"type":"","source":"b","data":{}}"#, "WEIR-0433", "must not be empty");
    check_error(r#"{"type":"a","source":"b","data":[1]}"#, "WEIR-0433", "must be an object");
    check_error(r#"{"type":"a","source":"b","data":{},"priority":"asap"}"#, "WEIR-0433", "asap");
    check_error(
        r#"{"type":"a","source":"b","data":{},"timestamp":"noon"}"#,
        "WEIR-0433",
        "RFC 3339",
    );
    check_error(r#"{"type":"a","type":"b","source":"b","data":{}}"#, "WEIR-0433", "twice");
    let not_utf8 = b"{\"type\":\"a\xff\",\"source\":\"b\",\"data\":{}}";
    assert_eq!(Event::parse(not_utf8).unwrap_err().code(), "WEIR-0430");
}

#[test]
fn deep_nesting_in_data_is_only_bytes() {
    let deep = format!(
        r#"{{"type":"a","source":"b","data":{{"x":{}{}}}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    // Either answer is fine; overflowing the stack is not.
    let _ = Event::parse(deep.as_bytes()).map(|event| event.key().into_owned());
}

fn check_key(data: &str, expect: &str) {
    let json = format!(r#"{{"type":"a","source":"from","data":{data}}}"#);
    assert_eq!(Event::parse(json.as_bytes()).unwrap().key(), expect, "{data}");
}

#[test]
fn the_first_key_field_there_is_becomes_the_key() {
    check_key(r#"{"device_id":"dev-1","drone_id":2}"#, "dev-1");
    check_key(r#"{"user_id":5,"task_id":4,"order_id":"o","drone_id":2}"#, "2");
    check_key(r#"{"user_id":5,"task_id":4,"order_id":"o"}"#, "o");
    check_key(r#"{"user_id":5,"task_id":4}"#, "4");
    check_key(r#"{"user_id":-5.50}"#, "-5.50");
    check_key(r#"{"drone_id":12345678901234567890123}"#, "12345678901234567890123");
    check_key(r#"{"device_id":"a\u0062\""}"#, "ab\"");
    check_key(
        r#"{"device_id":null,"drone_id":"","order_id":{"a":1},"task_id":true,"user_id":9}"#,
        "9",
    );
    check_key(r#"{"nested":{"device_id":"inner"}}"#, "from");
    check_key("{}", "from");
}

#[test]
fn built_events_parse_with_new_ids_that_sort_by_time() {
    let build = |at| {
        EventBuilder::new("drone.heartbeat", "sim \"1\"\n\u{1}")
            .data_json(r#"{"drone_id":1}"#)
            .unwrap()
            .priority(Priority::High)
            .topic("t")
            .build(TimestampMs(at))
    };
    let (first, second) = (build(1_754_217_000_000), build(1_754_217_000_001));
    let (first, second) =
        (Event::parse(first.as_bytes()).unwrap(), Event::parse(second.as_bytes()).unwrap());
    assert_eq!(first.source, "sim \"1\"\n\u{1}");
    assert_eq!(first.timestamp, Some(TimestampMs(1_754_217_000_000)));
    assert_eq!(first.priority, Some(Priority::High));
    assert!(first.id < second.id);
    assert_eq!(first.id.as_deref().map(str::len), Some(36));
    assert_eq!(&first.id.as_deref().unwrap()[14..15], "7", "UUID version 7");
}

#[test]
fn a_builder_without_data_sends_an_empty_object() {
    let json = EventBuilder::new("a", "b").id("1").build(TimestampMs(0));
    assert_eq!(
        json,
        r#"{"id":"1","type":"a","source":"b","timestamp":"1970-01-01T00:00:00.000Z","data":{}}"#
    );
    assert_eq!(EventBuilder::new("a", "b").data_json("[1]").unwrap_err().code(), "WEIR-0433");
    assert_eq!(EventBuilder::new("a", "b").data(&7).unwrap_err().code(), "WEIR-0433");
}

#[test]
fn priorities_order_by_urgency() {
    assert!(Priority::Urgent < Priority::Low);
    for (index, class) in Priority::ALL.into_iter().enumerate() {
        assert_eq!((class.index(), Priority::parse(class.name())), (index, Some(class)));
    }
    assert_eq!(Priority::parse("nope"), None);
}

proptest! {
    #[test]
    fn any_text_survives_a_round_trip(kind in "\\PC{1,20}", source in ".{1,20}", id in ".{1,20}") {
        let json = EventBuilder::new(kind.clone(), source.clone()).id(id.clone()).build(TimestampMs(1));
        let event = Event::parse(json.as_bytes()).unwrap();
        prop_assert_eq!(&*event.event_type, kind.as_str());
        prop_assert_eq!(&*event.source, source.as_str());
        prop_assert_eq!(event.id.as_deref(), Some(id.as_str()));
        prop_assert_eq!(event.to_json(), json);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Event::parse(&bytes);
    }
}

#[test]
fn errors_repeat_the_beginning_of_what_came_and_no_more() {
    let long = "\u{7f}".repeat(900_000);
    for text in [
        format!(r#"{{"type":"a.b","source":"t","data":{{}},"priority":"{long}"}}"#),
        format!(r#"{{"type":"a.b","source":"t","data":{{}},"timestamp":"{long}"}}"#),
        format!(r#"{{"type":"a.b","source":"t","data":{{}},"{long}":1}}"#),
        format!(r#""{long}""#),
    ] {
        let said = Event::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(said.len() < 1_000, "{} bytes", said.len());
    }
    let short = r#"{"type":"a.b","source":"t","data":{},"priority":"asap"}"#;
    assert!(Event::parse(short.as_bytes()).unwrap_err().to_string().contains(r#""asap" is none"#));
    let whole = Event::parse(format!(r#""{long}""#).as_bytes()).unwrap_err().to_string();
    assert!(whole.ends_with("column 900002"), "{whole}");
}

//! Events against the specification's own samples, a table of faults, and the schema against the types.

use proptest::prelude::*;
use serde_json::{json, Map, Value};
use weir_fleet::events::validate;
use weir_fleet::schema::{first_fault, Field, Kind, Shape};
use weir_fleet::{event_types, schema, Checked, Id};

/// The three samples of spec 001, as written there.
const SAMPLES: [&str; 3] = [
    r#"{
  "id": "event-uuid",
  "type": "drone.status.changed",
  "source": "drone-control-service",
  "timestamp": "2025-08-03T10:30:00Z",
  "data": {
    "drone_id": 1,
    "old_status": "idle",
    "new_status": "flying",
    "location": {
      "latitude": 40.7128,
      "longitude": -74.0060,
      "altitude": 100.5
    },
    "battery": 85
  }
}"#,
    r#"{
  "id": "event-uuid",
  "type": "task.progress",
  "source": "task-service",
  "timestamp": "2025-08-03T10:35:00Z",
  "data": {
    "task_id": 123,
    "drone_id": 1,
    "progress": 75,
    "current_step": "巡检点位3",
    "estimated_completion": "2025-08-03T11:00:00Z"
  }
}"#,
    r#"{
  "id": "event-uuid",
  "type": "alert.created",
  "source": "monitoring-service",
  "timestamp": "2025-08-03T10:40:00Z",
  "data": {
    "alert_id": 456,
    "type": "battery_low",
    "level": "warning",
    "message": "无人机电量低于20%",
    "drone_id": 1,
    "auto_action": "return_to_base"
  }
}"#,
];

#[test]
fn the_samples_of_the_specification_are_valid() {
    for sample in SAMPLES {
        let event: Value = serde_json::from_str(sample).unwrap();
        let data = event["data"].to_string();
        let checked = validate(event["type"].as_str().unwrap(), &data).unwrap();
        match checked {
            Checked::DroneStatusChanged(e) => {
                assert_eq!(e.drone_id, Some(Id::Number(1)));
                assert_eq!(e.location.unwrap().longitude.get(), -74.006);
                assert_eq!(e.battery.unwrap().get(), 85.0);
            }
            Checked::TaskProgress(e) => {
                assert_eq!(&*e.current_step.unwrap(), "巡检点位3");
                assert_eq!(e.estimated_completion.unwrap().0.get(), 1_754_218_800_000);
            }
            Checked::AlertCreated(e) => {
                assert_eq!(&*e.kind, "battery_low");
                assert_eq!(e.auto_action.as_deref(), Some("return_to_base"));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[track_caller]
fn refused(event_type: &str, data: &str, field: &str, needle: &str) {
    let error = validate(event_type, data).unwrap_err();
    assert_eq!(error.field, field, "{error}");
    assert!(error.message.contains(needle), "{error}");
    assert_eq!(error.code(), "WEIR-0601");
}

#[test]
fn the_wrong_field_is_named() {
    refused("drone.heartbeat", "{}", "drone_id", "one of drone_id, device_id");
    refused("drone.heartbeat", r#"{"drone_id":null}"#, "drone_id", "one of");
    refused("drone.heartbeat", r#"{"drone_id":-1}"#, "drone_id", "unsigned integer");
    refused("drone.heartbeat", r#"{"drone_id":1.5}"#, "drone_id", "unsigned integer");
    refused("drone.heartbeat", r#"{"drone_id":""}"#, "drone_id", "unsigned integer");
    refused("drone.heartbeat", r#"{"drone_id":{}}"#, "drone_id", "an object");
    refused("drone.heartbeat", r#"{"drone_id":1,"battery":101}"#, "battery", "from 0 to 100");
    refused("drone.heartbeat", "[1]", "data", "must be an object");
    refused("drone.heartbeat", "{", "data", "not JSON");
    refused("drone.heartbeat", r#"{"drone_id":1,"drone_id":2}"#, "data", "duplicate field");
    let place = |latitude: &str, longitude: &str| {
        format!(r#"{{"drone_id":1,"location":{{"latitude":{latitude},"longitude":{longitude}}}}}"#)
    };
    let located = "drone.location.updated";
    refused(located, r#"{"drone_id":1}"#, "location", "an object is needed");
    refused(located, &place("90.1", "0"), "location.latitude", "from -90 to 90");
    refused(located, &place("0", "-180.5"), "location.longitude", "from -180 to 180");
    refused(located, &place("\"47\"", "8"), "location.latitude", "not \"47\"");
    refused(located, &place("1e999", "8"), "data", "not JSON");
    refused(located, &place("NaN", "8"), "data", "not JSON");
    refused(
        "task.progress",
        r#"{"task_id":1,"drone_id":1,"progress":100.5}"#,
        "progress",
        "0 to 100",
    );
    refused(
        "task.progress",
        r#"{"task_id":1,"drone_id":1,"progress":1,"estimated_completion":"soon"}"#,
        "estimated_completion",
        "RFC 3339",
    );
    refused(
        "alert.created",
        r#"{"alert_id":1,"type":"x","level":"loud","message":"m","drone_id":1}"#,
        "level",
        "info, warning, error, critical",
    );
    refused("sensor.reading", r#"{"device_id":"a","value":1}"#, "sensor", "sensor_type, type");
    refused("sensor.reading", r#"{"device_id":"a","sensor":"switch","value":"on"}"#, "value", "ON");
    refused("metric.reported", r#"{"name":"x","value":"1"}"#, "value", "a number");
}

#[test]
fn what_devices_may_send_is_accepted() {
    for (event_type, data) in [
        ("drone.heartbeat", r#"{"drone_id":1}"#),
        ("drone.heartbeat", r#"{"drone_id":"dr\u00f6hne-1","mood":{"fine":[1,2]}}"#),
        (
            "drone.location.updated",
            r#"{"device_id":"4b1815","location":{"latitude":-90,"longitude":180,"altitude":null}}"#,
        ),
        ("sensor.reading", r#"{"device_id":"a","type":"temperature","value":21.5,"unit":"°C"}"#),
        ("sensor.reading", r#"{"device_id":"a","sensor":"switch","value":"ON"}"#),
        ("sensor.reading", r#"{"device_id":"a","sensor":"switch","value":false}"#),
        ("user.login", r#"{"user_id":"op-1"}"#),
        ("log.written", r#"{"level":"info","message":"a \"quoted\" line\n"}"#),
    ] {
        let checked = validate(event_type, data);
        assert!(checked.is_ok(), "{event_type} {data}: {checked:?}");
        assert_ne!(checked.unwrap(), Checked::Untyped);
    }
    assert_eq!(validate("metric.anything", "{}"), Ok(Checked::Untyped));
    assert!(schema("metric.anything").is_none());
}

#[test]
fn strings_without_escapes_are_borrowed() {
    let data = r#"{"user_id":"op-1","name":"a\nb"}"#.to_owned();
    let Checked::UserLogin(login) = validate("user.login", &data).unwrap() else { panic!() };
    let Id::Text(std::borrow::Cow::Borrowed(id)) = login.user_id else { panic!("copied") };
    assert!(data.as_bytes().as_ptr_range().contains(&id.as_ptr()));
    assert_eq!(&*login.name.unwrap(), "a\nb");
}

#[test]
fn every_type_has_a_schema_that_lists_its_fields() {
    assert!(event_types().count() >= 18);
    for event_type in event_types() {
        let text = schema(event_type).unwrap();
        let schema: Value = serde_json::from_str(text).unwrap();
        assert_eq!(schema["title"], event_type);
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        let properties = schema["properties"].as_object().unwrap();
        for required in schema["required"].as_array().unwrap() {
            assert!(properties.contains_key(required.as_str().unwrap()), "{event_type} {required}");
        }
        for (name, property) in properties {
            assert!(property["description"].as_str().is_some_and(|text| text.len() > 3), "{name}");
        }
    }
}

/// A value for a field: mostly one that fits, sometimes anything.
fn value_of(kind: Kind) -> BoxedStrategy<Value> {
    let fitting: BoxedStrategy<Value> = match kind {
        Kind::Id => prop_oneof![
            any::<u64>().prop_map(|number| json!(number)),
            "[a-z0-9\"\\\\]{1,8}".prop_map(|text| json!(text)),
        ]
        .boxed(),
        Kind::Text => "\\PC{0,6}".prop_map(|text| json!(text)).boxed(),
        Kind::Time => prop_oneof![
            Just(json!("2025-08-03T10:30:00Z")),
            Just(json!("2025-08-03T10:30:00.5+08:00")),
            Just(json!("2025-08-33T10:30:00Z")),
        ]
        .boxed(),
        Kind::Number { min, max } => {
            let edges = [min, max].into_iter().filter(|edge| edge.unsigned_abs() < 1 << 40);
            let mut choices: Vec<BoxedStrategy<Value>> = vec![
                (-200.0_f64..200.0).prop_map(|number| json!(number)).boxed(),
                (-10_i64..120).prop_map(|number| json!(number)).boxed(),
                any::<u64>().prop_map(|number| json!(number)).boxed(),
            ];
            for edge in edges {
                choices.push(Just(json!(edge)).boxed());
                choices.push(Just(json!(edge as f64 + 0.001)).boxed());
                choices.push(Just(json!(edge as f64 - 0.001)).boxed());
            }
            proptest::strategy::Union::new(choices).boxed()
        }
        Kind::OneOf(words) => {
            proptest::sample::select(words.to_vec()).prop_map(|word| json!(word)).boxed()
        }
        Kind::Reading => prop_oneof![
            any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(|number| json!(number)),
            any::<bool>().prop_map(|on| json!(on)),
            proptest::sample::select(vec!["ON", "OFF", "on"]).prop_map(|word| json!(word)),
        ]
        .boxed(),
        Kind::Object(fields) => object_of(fields).prop_map(Value::Object).boxed(),
    };
    prop_oneof![
        12 => fitting,
        1 => Just(Value::Null),
        1 => any::<i64>().prop_map(|number| json!(number)),
        1 => "[a-z]{0,3}".prop_map(|text| json!(text)),
        1 => Just(json!([1])),
        1 => Just(json!({"info": null})),
        1 => any::<bool>().prop_map(|value| json!(value)),
    ]
    .boxed()
}

fn object_of(fields: &'static [Field]) -> BoxedStrategy<Map<String, Value>> {
    let values: Vec<_> = fields
        .iter()
        .map(|field| {
            let present = if field.required { 0.97 } else { 0.6 };
            let name = field.name.to_owned();
            proptest::option::weighted(present, value_of(field.kind))
                .prop_map(move |value| value.map(|value| (name.clone(), value)))
        })
        .collect();
    (values, proptest::option::weighted(0.3, Just(("extra".to_owned(), json!([{}])))))
        .prop_map(|(values, extra)| values.into_iter().flatten().chain(extra).collect())
        .boxed()
}

fn shapes() -> Vec<&'static Shape> {
    event_types().map(|name| weir_fleet::schema::shape(name).unwrap()).collect()
}

proptest! {
    /// The typed parse and the table behind the schema accept the same values.
    #[test]
    fn types_and_schemas_agree(
        (shape, data) in proptest::sample::select(shapes())
            .prop_flat_map(|shape| (Just(shape), object_of(shape.fields))),
    ) {
        let value = Value::Object(data);
        let text = value.to_string();
        let typed = validate(shape.event_type, &text);
        let table = first_fault(shape, &value);
        match (typed, table) {
            (Ok(_), None) => {}
            (Err(error), Some(fault)) => prop_assert_eq!(error, fault),
            (typed, table) => prop_assert!(
                false, "{} {}: type says {:?}, schema says {:?}", shape.event_type, text, typed, table
            ),
        }
    }

    #[test]
    fn no_text_can_make_validation_panic(data in "\\PC{0,60}") {
        for event_type in event_types() {
            let _ = validate(event_type, &data);
        }
    }
}

//! Requests that are no events: each is refused in the shape events are refused in.

use serde_json::Value;

use crate::process::{agent, Weir};

#[test]
fn wrong_path_method_query_and_upgrade_are_refused_with_a_code_like_events() {
    let directory = tempfile::tempdir().unwrap();
    let weir = Weir::up(directory.path(), &[]);
    let event = r#"{"type":"drone.heartbeat","source":"t","data":{"drone_id":"d"}}"#;
    for (method, path, status, code) in [
        ("GET", "/v1/event", 404, "WEIR-0910"),
        ("GET", "/v1/events", 405, "WEIR-0911"),
        ("POST", "/stats", 405, "WEIR-0911"),
        ("POST", "/v1/events?results=refused&results=all", 400, "WEIR-0912"),
        ("GET", "/v1/stream", 400, "WEIR-0914"),
        ("GET", "/v1/schemas/no.such", 404, "WEIR-0903"),
    ] {
        let url = format!("{}{path}", weir.gateway);
        let mut response = match method {
            "POST" => agent().post(&url).send(event).unwrap(),
            _ => agent().get(&url).call().unwrap(),
        };
        let text = response.body_mut().read_to_string().unwrap();
        let answer: Value =
            serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {text}"));
        assert_eq!(response.status().as_u16(), status, "{path}: {text}");
        assert_eq!(
            (&answer["code"], &answer["status"]),
            (&code.into(), &"rejected".into()),
            "{path}"
        );
        assert_eq!(answer["http_status"], status, "{path}");
        assert!(answer["message"].as_str().is_some_and(|text| text.len() > 10), "{path}: {text}");
        let allow = response.headers().get("allow");
        assert_eq!(allow.is_some(), status == 405, "{path}: {allow:?}");
    }
}

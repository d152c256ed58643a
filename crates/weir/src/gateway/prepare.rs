//! From an event's text to what the traffic manager takes: checked, routed, keyed. Pure.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use axum::http::StatusCode;
use bytes::Bytes;
use weir_client::event::new_event_id;
use weir_client::{Event, EventError, Priority};
use weir_protocol::types::TimestampMs;

use super::bounds;
use super::outcome::Rejection;
use super::route::RouteTable;
use crate::config::{topic_name, topic_of_alias, Validation};

/// An event that may be admitted. `value` is the text as it came; what weir adds goes into headers.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) id: String,
    pub(crate) event_type: String,
    pub(crate) source: String,
    pub(crate) topic: String,
    pub(crate) key: String,
    pub(crate) priority: Priority,
    /// When it was taken: the record's timestamp. The event's own time stays in its text, since a
    /// device's clock must decide neither how long Kafka keeps a record nor whether it takes a batch.
    pub(crate) taken: TimestampMs,
    pub(crate) value: Bytes,
}

/// Decides the priority of an event type that names none itself.
pub(crate) type PriorityOf = Arc<dyn Fn(&str) -> Priority + Send + Sync>;

/// The rules of the gateway.
#[derive(Clone)]
pub(crate) struct Rules {
    pub(crate) routes: RouteTable,
    pub(crate) priority_of: PriorityOf,
    pub(crate) validation: Validation,
    pub(crate) event_bytes_max: usize,
    /// Fields of `data` that are the key, for topics that have their own.
    pub(crate) key_fields: HashMap<String, Vec<String>>,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { routes, validation, event_bytes_max, .. } = self;
        let mut shown = f.debug_struct("Rules");
        shown.field("routes", routes).field("validation", validation);
        shown.field("event_bytes_max", event_bytes_max).finish_non_exhaustive()
    }
}

/// Characters of a wrong topic that an answer repeats.
const TOPIC_SHOWN_MAX: usize = 80;

impl Rules {
    /// Checks one event. `now` stamps an event that has no timestamp and makes its id.
    pub(crate) fn prepare(&self, text: Bytes, now: TimestampMs) -> Result<Prepared, Rejection> {
        if text.len() > self.event_bytes_max {
            let (size, max) = (text.len(), self.event_bytes_max);
            return Err(Rejection::bad(
                "WEIR-0906",
                format!("the event has {size} bytes, {max} is the limit"),
            )
            .status(StatusCode::PAYLOAD_TOO_LARGE));
        }
        let event = Event::parse(&text).map_err(envelope)?;
        bounds::check(&event)?;
        let event_type = event.event_type.to_string();
        let topic = self.topic(&event)?;
        self.check_data(&event)?;
        let key = self.key(&event, &topic)?.into_owned();
        let id = event.id.as_ref().map_or_else(|| new_event_id(now), ToString::to_string);
        let priority = event.priority.unwrap_or_else(|| (self.priority_of)(&event_type));
        Ok(Prepared {
            id,
            source: event.source.to_string(),
            key,
            priority,
            taken: now,
            topic,
            event_type,
            value: text.clone(),
        })
    }

    fn key<'a>(&self, event: &Event<'a>, topic: &str) -> Result<Cow<'a, str>, Rejection> {
        let (key, checked) = match self.key_fields.get(topic) {
            Some(fields) => {
                let key = event.key_by(fields);
                let checked = bounds::check_key(event, &key, fields);
                (key, checked)
            }
            None => {
                let key = event.key();
                let checked = bounds::check_default_key(event, &key);
                (key, checked)
            }
        };
        checked.map(|()| key)
    }

    fn topic(&self, event: &Event<'_>) -> Result<String, Rejection> {
        if let Some(topic) = &event.topic {
            check_topic(topic)?;
            return Ok(topic_of_alias(topic).to_owned());
        }
        self.routes.topic(&event.event_type).map(str::to_owned).ok_or_else(|| {
            let (event_type, known) = (&event.event_type, self.routes.known());
            let message = format!("no topic for type \"{event_type}\"; known are {known}");
            Rejection::bad("WEIR-0903", message).field("type")
        })
    }

    fn check_data(&self, event: &Event<'_>) -> Result<(), Rejection> {
        let Err(error) = weir_fleet::validate(&event.event_type, event.data.get()) else {
            return Ok(());
        };
        if self.validation == Validation::Warn {
            tracing::warn!(event_type = %event.event_type, source = %event.source, %error, "schema");
            return Ok(());
        }
        // What is wrong with the whole of it has no field of its own.
        let field = match &*error.field {
            "data" => "data".to_owned(),
            field => format!("data.{field}"),
        };
        let message = format!("{} of type \"{}\": {error}", field, event.event_type);
        Err(Rejection::bad("WEIR-0905", message).field(field))
    }
}

/// Kafka's rule for names, and no internal topic.
fn check_topic(topic: &str) -> Result<(), Rejection> {
    topic_name(topic).map_err(|fault| {
        let shown: String = topic.chars().take(TOPIC_SHOWN_MAX).collect();
        Rejection::bad("WEIR-0907", format!("topic \"{shown}\" {fault}")).field("topic")
    })
}

fn envelope(error: EventError) -> Rejection {
    let field = match &error {
        EventError::UnknownField { field, .. } => Some(field.clone()),
        EventError::MissingField { field } | EventError::InvalidField { field, .. } => {
            Some((*field).to_owned())
        }
        _ => None,
    };
    Rejection { field, ..Rejection::bad(error.code(), error.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: TimestampMs = TimestampMs(1_790_000_000_000);

    fn rules(validation: Validation) -> Rules {
        Rules {
            routes: RouteTable::new(&[]),
            priority_of: Arc::new(|event_type| match event_type {
                "emergency.landing" => Priority::Urgent,
                _ => Priority::Normal,
            }),
            validation,
            event_bytes_max: 1000,
            key_fields: HashMap::from([(
                "order-events".to_owned(),
                vec!["shop_id".to_owned(), "order_id".to_owned()],
            )]),
        }
    }

    fn prepare(text: &str) -> Result<Prepared, Rejection> {
        rules(Validation::Strict).prepare(Bytes::copy_from_slice(text.as_bytes()), NOW)
    }

    #[test]
    fn smallest_event_gets_id_time_topic_key_and_priority_and_keeps_its_bytes() {
        let text = r#"{"type":"drone.heartbeat","source":"t","data":{"drone_id":1}}"#;
        let prepared = prepare(text).unwrap();
        assert_eq!(prepared.value, text.as_bytes());
        assert_eq!((prepared.topic.as_str(), prepared.key.as_str()), ("drone-events", "1"));
        assert_eq!((prepared.priority, prepared.taken), (Priority::Normal, NOW));
        let id: uuid::Uuid = prepared.id.parse().unwrap();
        assert_eq!(id.get_version_num(), 7);
        assert_ne!(prepare(text).unwrap().id, prepared.id);
    }

    #[test]
    fn topic_and_priority_in_the_event_are_obeyed() {
        let prepared = prepare(
            r#"{"type":"any.thing","source":"t","data":{},"topic":"my.topic","priority":"low"}"#,
        )
        .unwrap();
        assert_eq!((prepared.topic.as_str(), prepared.priority), ("my.topic", Priority::Low));
        assert_eq!(prepared.key, "t");
    }

    #[test]
    fn a_topic_may_have_its_own_key_fields() {
        for (data, key) in [
            (r#"{"order_id":7,"user_id":1,"shop_id":"s3"}"#, "s3"),
            (r#"{"shop_id":null,"order_id":7,"device_id":2}"#, "7"),
            (r#"{"device_id":2}"#, "t"),
        ] {
            let text = format!(r#"{{"type":"order.noted","source":"t","data":{data}}}"#);
            assert_eq!(prepare(&text).unwrap().key, key, "{data}");
        }
    }

    #[test]
    fn topic_app_logs_of_the_specification_is_application_logs() {
        let text = r#"{"type":"any.thing","source":"t","data":{},"topic":"app_logs"}"#;
        assert_eq!(prepare(text).unwrap().topic, "application-logs");
    }

    #[test]
    fn each_fault_has_its_code_and_field() {
        let long =
            format!(r#"{{"type":"drone.x","source":"t","data":{{"x":"{}"}}}}"#, "x".repeat(1000));
        let long_key = format!(
            r#"{{"type":"drone.x","source":"t","data":{{"user_id":"u","task_id":"{}"}}}}"#,
            "k".repeat(257)
        );
        let long_type =
            format!(r#"{{"type":"drone.{}","source":"t","data":{{}}}}"#, "x".repeat(251));
        for (text, code, field) in [
            ("{\"type\":", "WEIR-0430", None),
            (r#"{"type":"drone.x","source":"t","data":{},"prio":1}"#, "WEIR-0431", Some("prio")),
            (r#"{"source":"t","data":{}}"#, "WEIR-0432", Some("type")),
            (
                r#"{"type":"drone.x","source":"t","data":{},"priority":"asap"}"#,
                "WEIR-0433",
                Some("priority"),
            ),
            (r#"{"type":"nothing.known","source":"t","data":{}}"#, "WEIR-0903", Some("type")),
            (
                r#"{"type":"drone.heartbeat","source":"t","data":{}}"#,
                "WEIR-0905",
                Some("data.drone_id"),
            ),
            (
                r#"{"type":"drone.heartbeat","source":"t","data":{"drone_id":1,"drone_id":2}}"#,
                "WEIR-0905",
                Some("data"),
            ),
            (
                r#"{"type":"x","source":"t","data":{},"topic":"__consumer_offsets"}"#,
                "WEIR-0907",
                Some("topic"),
            ),
            (r#"{"type":"x","source":"t","data":{},"topic":"../etc"}"#, "WEIR-0907", Some("topic")),
            (long.as_str(), "WEIR-0906", None),
            (long_key.as_str(), "WEIR-0433", Some("data.task_id")),
            (long_type.as_str(), "WEIR-0433", Some("type")),
        ] {
            let rejection = prepare(text).unwrap_err();
            assert_eq!((rejection.code, rejection.field.as_deref()), (code, field), "{text}");
            assert!(rejection.http_status.is_client_error());
        }
    }

    #[test]
    fn schema_can_be_set_to_warn() {
        let text = r#"{"type":"drone.heartbeat","source":"t","data":{"drone_id":{}}}"#;
        assert!(prepare(text).is_err());
        rules(Validation::Warn).prepare(Bytes::copy_from_slice(text.as_bytes()), NOW).unwrap();
    }
}

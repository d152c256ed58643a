//! What an event's `data` may hold: one table per type, made from the Rust type itself.
//!
//! The tables serve three ends: the JSON schema (draft 2020-12) that is shown to users, the words
//! that say which field is wrong when the fast typed parse fails, and the test that both agree.

use std::borrow::Cow;
use std::sync::OnceLock;

use serde_json::{json, Map, Value};
use weir_client::timestamp::parse_rfc3339;

use crate::error::EventError;
use crate::events::SHAPES;

/// Longest id in bytes: ids become record keys and file names of people's own tools.
pub const ID_BYTES_MAX: usize = 128;

/// What values a field takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// An unsigned integer or a non-empty string of at most [`ID_BYTES_MAX`] bytes.
    Id,
    /// Any string.
    Text,
    /// An RFC 3339 time.
    Time,
    /// A finite number from `min` to `max`; `i64::MIN` and `i64::MAX` mean no bound.
    Number {
        /// Smallest value allowed.
        min: i64,
        /// Largest value allowed.
        max: i64,
    },
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A number, a boolean, or `ON` / `OFF`: what a sensor measures.
    Reading,
    /// An object with these fields; others are allowed beside them.
    Object(&'static [Field]),
}

/// One field of an event's `data`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Field {
    /// Its name in JSON.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Whether it must be there and not null.
    pub required: bool,
    /// What it means, for people.
    pub about: &'static str,
}

/// The shape of one event type's `data`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// The event type, e.g. `drone.heartbeat`.
    pub event_type: &'static str,
    /// What it says, for people.
    pub about: &'static str,
    /// Its fields; others are allowed beside them.
    pub fields: &'static [Field],
    /// Groups of fields of which at least one must be there.
    pub any_of: &'static [&'static [&'static str]],
}

/// A Rust type that can stand in an event.
pub trait FieldType {
    /// What JSON it takes.
    const KIND: Kind;
    /// False for `Option`.
    const REQUIRED: bool = true;
    /// Whether there is a value.
    fn is_present(&self) -> bool {
        true
    }
}

impl<T: FieldType> FieldType for Option<T> {
    const KIND: Kind = T::KIND;
    const REQUIRED: bool = false;
    fn is_present(&self) -> bool {
        self.is_some()
    }
}

/// The JSON schema of an event type's `data`, or `None` for a type that weir does not know.
pub fn schema(event_type: &str) -> Option<&'static str> {
    static TEXTS: OnceLock<Vec<(&'static str, String)>> = OnceLock::new();
    let texts = TEXTS.get_or_init(|| {
        SHAPES.iter().map(|shape| (shape.event_type, format!("{:#}", shape_json(shape)))).collect()
    });
    texts.iter().find(|(name, _)| *name == event_type).map(|(_, text)| text.as_str())
}

/// The event types that have a schema, grouped as the topics are.
pub fn event_types() -> impl Iterator<Item = &'static str> {
    SHAPES.iter().map(|shape| shape.event_type)
}

/// The table of an event type, from which its schema is made.
pub fn shape(event_type: &str) -> Option<&'static Shape> {
    SHAPES.iter().copied().find(|shape| shape.event_type == event_type)
}

/// Says which field of `data` is not as `shape` wants it.
///
/// Only called after the typed parse has failed with `fallback`, so it may be slow. What the table
/// cannot see (a field given twice) is reported in the parser's words.
pub(crate) fn explain(shape: &Shape, data: &str, fallback: &serde_json::Error) -> EventError {
    match serde_json::from_str::<Value>(data) {
        Err(error) => EventError::new("data", format!("not JSON: {error}")),
        Ok(value) => first_fault(shape, &value)
            .unwrap_or_else(|| EventError::new("data", fallback.to_string())),
    }
}

/// The first field of `value` that breaks `shape`.
pub fn first_fault(shape: &Shape, value: &Value) -> Option<EventError> {
    let Some(object) = value.as_object() else {
        return Some(EventError::new("data", format!("must be an object, not {}", noun(value))));
    };
    fault_in_object(shape.fields, "", object).or_else(|| {
        shape.any_of.iter().find_map(|group| {
            let present = group.iter().any(|name| object.get(*name).is_some_and(|v| !v.is_null()));
            (!present).then(|| missing_any(group))
        })
    })
}

pub(crate) fn missing_any(group: &'static [&'static str]) -> EventError {
    EventError::new(group[0], format!("missing: one of {} is needed", group.join(", ")))
}

fn fault_in_object(
    fields: &[Field],
    prefix: &str,
    object: &Map<String, Value>,
) -> Option<EventError> {
    fields.iter().find_map(|field| {
        let path = || -> Cow<'static, str> {
            if prefix.is_empty() {
                Cow::Borrowed(field.name)
            } else {
                Cow::Owned(format!("{prefix}.{}", field.name))
            }
        };
        match object.get(field.name) {
            None if field.required => {
                Some(EventError::new(path(), format!("missing: {} is needed", field.kind.noun())))
            }
            None => None,
            Some(Value::Null) if !field.required => None,
            Some(value) => match (field.kind, value) {
                (Kind::Object(inner), Value::Object(object)) => {
                    fault_in_object(inner, &path(), object)
                }
                (kind, value) if kind.accepts(value) => None,
                (kind, value) => Some(EventError::new(
                    path(),
                    format!("must be {}, not {}", kind.noun(), noun(value)),
                )),
            },
        }
    })
}

impl Kind {
    fn accepts(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Id, Value::Number(number)) => number.is_u64(),
            (Self::Id, Value::String(text)) => !text.is_empty() && text.len() <= ID_BYTES_MAX,
            (Self::Text, Value::String(_)) => true,
            (Self::Time, Value::String(text)) => parse_rfc3339(text).is_some(),
            (Self::Number { min, max }, Value::Number(number)) => {
                number.as_f64().is_some_and(|number| in_range(number, min, max))
            }
            (Self::OneOf(words), Value::String(text)) => words.contains(&text.as_str()),
            (Self::Reading, Value::Number(_) | Value::Bool(_)) => true,
            (Self::Reading, Value::String(text)) => text == "ON" || text == "OFF",
            _ => false,
        }
    }

    fn noun(self) -> String {
        match self {
            Self::Id => {
                format!("an unsigned integer or a string of 1 to {ID_BYTES_MAX} bytes")
            }
            Self::Text => "a string".to_owned(),
            Self::Time => "an RFC 3339 time such as 2025-08-03T10:30:00Z".to_owned(),
            Self::Number { min: i64::MIN, max: i64::MAX } => "a number".to_owned(),
            Self::Number { min, max: i64::MAX } => format!("a number from {min} up"),
            Self::Number { min, max } => format!("a number from {min} to {max}"),
            Self::OneOf(words) => format!("one of {}", words.join(", ")),
            Self::Reading => "a number, a boolean, \"ON\" or \"OFF\"".to_owned(),
            Self::Object(_) => "an object".to_owned(),
        }
    }

    fn json(self) -> Map<String, Value> {
        let value = match self {
            Self::Id => json!({"anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "minLength": 1, "maxLength": ID_BYTES_MAX},
            ]}),
            Self::Text => json!({"type": "string"}),
            Self::Time => json!({"type": "string", "format": "date-time"}),
            Self::Number { min, max } => {
                let mut number = json!({"type": "number"});
                if min != i64::MIN {
                    number["minimum"] = json!(min);
                }
                if max != i64::MAX {
                    number["maximum"] = json!(max);
                }
                number
            }
            Self::OneOf(words) => json!({"enum": words}),
            Self::Reading => json!({"anyOf": [
                {"type": "number"}, {"type": "boolean"}, {"enum": ["ON", "OFF"]},
            ]}),
            Self::Object(fields) => object_json(fields),
        };
        match value {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }
}

/// Whether a number is finite and within whole-number bounds.
pub(crate) fn in_range(number: f64, min: i64, max: i64) -> bool {
    number.is_finite()
        && (min == i64::MIN || number >= min as f64)
        && (max == i64::MAX || number <= max as f64)
}

fn noun(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.len() <= 40 => format!("{text:?}"),
        Value::String(text) => format!("a string of {} bytes", text.len()),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

fn shape_json(shape: &Shape) -> Value {
    let mut schema = object_json(shape.fields);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!(shape.event_type);
    schema["description"] = json!(shape.about);
    let groups = shape.any_of.iter().map(|group| {
        json!({"anyOf": group.iter().map(|name| json!({
            "required": [*name],
            "properties": {*name: {"not": {"type": "null"}}},
        })).collect::<Vec<_>>()})
    });
    let groups: Vec<Value> = groups.collect();
    if !groups.is_empty() {
        schema["allOf"] = Value::Array(groups);
    }
    schema
}

fn object_json(fields: &[Field]) -> Value {
    let mut properties = Map::new();
    for field in fields {
        let mut property = field.kind.json();
        if !field.required {
            property = match json!({"anyOf": [property, {"type": "null"}]}) {
                Value::Object(map) => map,
                _ => Map::new(),
            };
        }
        property.insert("description".to_owned(), json!(field.about));
        properties.insert(field.name.to_owned(), Value::Object(property));
    }
    let required: Vec<&str> =
        fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    json!({"type": "object", "properties": properties, "required": required})
}

//! The event envelope `{id, type, source, timestamp, data}` with optional `topic` and `priority`.
//!
//! An [`Event`] borrows from the JSON it was parsed from: `data` stays the bytes that came, so that
//! nothing is parsed twice or serialised again between a device and the log. What weir knows besides
//! travels in record headers, named here.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;
use weir_protocol::types::TimestampMs;

use crate::spelling::edit_distance;
use crate::timestamp::{parse_rfc3339, write_rfc3339};

/// Header: the event's type.
pub const HEADER_EVENT_TYPE: &str = "event-type";
/// Header: the event's id.
pub const HEADER_EVENT_ID: &str = "event-id";
/// Header: the event's source.
pub const HEADER_SOURCE: &str = "source";
/// Header: the trace it belongs to.
pub const HEADER_TRACE_ID: &str = "trace_id";
/// Header: a number that rises in the order in which the events of a device were taken.
pub const HEADER_SEQ: &str = "seq";
/// Header: its priority class.
pub const HEADER_PRIORITY: &str = "priority";

/// Fields of `data` that name the device, in order of preference; the first there is becomes the key.
pub const KEY_FIELDS: [&str; 5] = ["device_id", "drone_id", "order_id", "task_id", "user_id"];

const FIELDS: [&str; 7] = ["id", "type", "source", "timestamp", "data", "topic", "priority"];

/// The class of an event, which chooses its lane. Ordered: the most urgent is the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// Never waits behind others.
    Urgent,
    /// Goes before normal.
    High,
    /// What an event is that says nothing.
    #[default]
    Normal,
    /// The first to be shed.
    Low,
}

impl Priority {
    /// All classes, most urgent first.
    pub const ALL: [Priority; 4] =
        [Priority::Urgent, Priority::High, Priority::Normal, Priority::Low];

    /// `urgent`, `high`, `normal` or `low`.
    pub const fn name(self) -> &'static str {
        match self {
            Priority::Urgent => "urgent",
            Priority::High => "high",
            Priority::Normal => "normal",
            Priority::Low => "low",
        }
    }

    /// 0 for urgent to 3 for low.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The class of this name, in any case of letters.
    pub fn parse(text: &str) -> Option<Priority> {
        Priority::ALL.into_iter().find(|class| class.name().eq_ignore_ascii_case(text))
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An event, borrowed from its JSON.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    /// `id`, if the sender gave one.
    pub id: Option<Cow<'a, str>>,
    /// `type`, e.g. `drone.location.updated`.
    pub event_type: Cow<'a, str>,
    /// `source`.
    pub source: Cow<'a, str>,
    /// `timestamp`, if the sender gave one.
    pub timestamp: Option<TimestampMs>,
    /// `data` as it came; always a JSON object.
    pub data: &'a RawValue,
    /// `topic`, if the sender chose one.
    pub topic: Option<Cow<'a, str>>,
    /// `priority`, if the sender chose one.
    pub priority: Option<Priority>,
}

impl<'a> Event<'a> {
    /// Parses one event. Nothing of `json` is copied, unless a string has escapes.
    ///
    /// `type`, `source` and `data` must be there; `data` must be an object. A field that is `null`
    /// counts as absent.
    ///
    /// # Errors
    /// [`EventError`], which names the field.
    pub fn parse(json: &'a [u8]) -> Result<Event<'a>, EventError> {
        let mut parser = serde_json::Deserializer::from_slice(json);
        let fields = parser.deserialize_map(EnvelopeVisitor).map_err(malformed)?;
        parser.end().map_err(malformed)?;
        let fields = fields?;
        let required =
            |index: usize| fields[index].ok_or(EventError::MissingField { field: FIELDS[index] });
        let (event_type, source, data) = (required(1)?, required(2)?, required(4)?);
        if !data.get().starts_with('{') {
            return Err(EventError::InvalidField {
                field: "data",
                reason: "must be an object".to_owned(),
            });
        }
        Ok(Event {
            id: fields[0].map(|raw| text("id", raw)).transpose()?,
            event_type: text("type", event_type)?,
            source: text("source", source)?,
            timestamp: fields[3].map(timestamp).transpose()?,
            data,
            topic: fields[5].map(|raw| text("topic", raw)).transpose()?,
            priority: fields[6].map(priority).transpose()?,
        })
    }

    /// The record key: the first of [`KEY_FIELDS`] in `data` that is a string or a number, as text
    /// (a number as it is written); else the source.
    pub fn key(&self) -> Cow<'a, str> {
        self.key_by(&KEY_FIELDS)
    }

    /// As [`Event::key`], by other fields of `data`.
    pub fn key_by<S: AsRef<str>>(&self, fields: &[S]) -> Cow<'a, str> {
        key_of_data(self.data, fields).unwrap_or_else(|| self.source.clone())
    }

    /// The event as JSON, its fields in the order of the envelope.
    pub fn to_json(&self) -> String {
        let mut out = String::with_capacity(self.data.get().len() + 160);
        out.push('{');
        if let Some(id) = &self.id {
            push_text_field(&mut out, "id", id);
        }
        push_text_field(&mut out, "type", &self.event_type);
        push_text_field(&mut out, "source", &self.source);
        if let Some(at) = self.timestamp {
            push_name(&mut out, "timestamp");
            out.push('"');
            write_rfc3339(&mut out, at);
            out.push('"');
        }
        push_name(&mut out, "data");
        out.push_str(self.data.get());
        if let Some(topic) = &self.topic {
            push_text_field(&mut out, "topic", topic);
        }
        if let Some(priority) = self.priority {
            push_text_field(&mut out, "priority", priority.name());
        }
        out.push('}');
        out
    }
}

/// The text of the first of `fields` in this JSON object that is a string or a number.
pub fn key_of_data<'a, S: AsRef<str>>(data: &'a RawValue, fields: &[S]) -> Option<Cow<'a, str>> {
    let mut parser = serde_json::Deserializer::from_str(data.get());
    let found = parser.deserialize_map(KeyVisitor { fields }).ok()?;
    found.map(|(_, text)| text)
}

/// A new event id: UUID version 7 (RFC 9562), whose text sorts by time.
pub fn new_event_id(now: TimestampMs) -> String {
    let ms = u64::try_from(now.get()).unwrap_or(0);
    let at = uuid::Timestamp::from_unix_time(ms / 1_000, (ms % 1_000) as u32 * 1_000_000, 0, 0);
    Uuid::new_v7(at).to_string()
}

/// Makes events.
#[derive(Debug, Clone)]
pub struct EventBuilder {
    event_type: String,
    source: String,
    id: Option<String>,
    timestamp: Option<TimestampMs>,
    topic: Option<String>,
    priority: Option<Priority>,
    data: Option<Box<RawValue>>,
}

impl EventBuilder {
    /// Of this type, from this source, with empty data.
    pub fn new(event_type: impl Into<String>, source: impl Into<String>) -> Self {
        EventBuilder {
            event_type: event_type.into(),
            source: source.into(),
            id: None,
            timestamp: None,
            topic: None,
            priority: None,
            data: None,
        }
    }

    /// With this id instead of a new one.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// With this time instead of that of `build`.
    #[must_use]
    pub fn timestamp(mut self, at: TimestampMs) -> Self {
        self.timestamp = Some(at);
        self
    }

    /// To this topic, whatever the type says.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// In this class, whatever the type says.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// With this data, which must serialise to an object.
    ///
    /// # Errors
    /// [`EventError::InvalidField`] if it does not.
    pub fn data<T: serde::Serialize>(self, data: &T) -> Result<Self, EventError> {
        let raw = serde_json::value::to_raw_value(data).map_err(invalid_data)?;
        self.raw_data(raw)
    }

    /// With this JSON text as data, which must be an object.
    ///
    /// # Errors
    /// [`EventError::InvalidField`] if it is not.
    pub fn data_json(self, json: &str) -> Result<Self, EventError> {
        let raw = serde_json::from_str::<Box<RawValue>>(json).map_err(invalid_data)?;
        self.raw_data(raw)
    }

    fn raw_data(mut self, raw: Box<RawValue>) -> Result<Self, EventError> {
        if !raw.get().starts_with('{') {
            return Err(invalid_data("must be an object"));
        }
        self.data = Some(raw);
        Ok(self)
    }

    /// The event's JSON, with a new id and this time where none were given.
    pub fn build(self, now: TimestampMs) -> String {
        let empty: &RawValue = empty_object();
        Event {
            id: Some(self.id.map_or_else(|| Cow::Owned(new_event_id(now)), Cow::Owned)),
            event_type: Cow::Owned(self.event_type),
            source: Cow::Owned(self.source),
            timestamp: Some(self.timestamp.unwrap_or(now)),
            data: self.data.as_deref().unwrap_or(empty),
            topic: self.topic.map(Cow::Owned),
            priority: self.priority,
        }
        .to_json()
    }
}

fn empty_object() -> &'static RawValue {
    // Two bytes of valid JSON; `NULL` only stands in because the type wants an answer.
    serde_json::from_str("{}").unwrap_or(RawValue::NULL)
}

/// Characters of a wrong name or value that an error repeats.
const SHOWN_CHARS_MAX: usize = 64;
/// Characters of what the parser says, which has parts of what it read.
const REASON_CHARS_MAX: usize = 200;

/// What is wrong with an event's envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// Not JSON, or not an object.
    #[error("not a JSON event: {reason}")]
    Malformed {
        /// What the parser said, with line and column.
        reason: String,
    },
    /// A field the envelope does not have.
    #[error("unknown field {field:?}{}", suggestion.map(|name| format!(", did you mean {name:?}?")).unwrap_or_default())]
    UnknownField {
        /// As written.
        field: String,
        /// The nearest field there is.
        suggestion: Option<&'static str>,
    },
    /// A field that must be there is not.
    #[error("field {field:?} is missing")]
    MissingField {
        /// Which.
        field: &'static str,
    },
    /// A field of the wrong type or with a value that cannot be.
    #[error("field {field:?}: {reason}")]
    InvalidField {
        /// Which.
        field: &'static str,
        /// Why.
        reason: String,
    },
}

impl EventError {
    /// The code a person can look up with `weir explain`.
    pub const fn code(&self) -> &'static str {
        match self {
            EventError::Malformed { .. } => "WEIR-0430",
            EventError::UnknownField { .. } => "WEIR-0431",
            EventError::MissingField { .. } => "WEIR-0432",
            EventError::InvalidField { .. } => "WEIR-0433",
        }
    }

    /// The field at fault, where it is one.
    pub fn field(&self) -> Option<&str> {
        match self {
            EventError::Malformed { .. } => None,
            EventError::UnknownField { field, .. } => Some(field),
            EventError::MissingField { field } | EventError::InvalidField { field, .. } => {
                Some(field)
            }
        }
    }
}

fn malformed(error: serde_json::Error) -> EventError {
    // A body that is one long text is repeated whole by the parser; its place is at the end.
    let reason = error.to_string();
    let count = reason.chars().count();
    if count <= REASON_CHARS_MAX {
        return EventError::Malformed { reason };
    }
    let head: String = reason.chars().take(REASON_CHARS_MAX / 2).collect();
    let tail: String = reason.chars().skip(count - REASON_CHARS_MAX / 2).collect();
    EventError::Malformed { reason: format!("{head} … {tail}") }
}

/// What came, for an error's text: its beginning and, where that is not all, its length.
fn shown(content: &str) -> String {
    match content.char_indices().nth(SHOWN_CHARS_MAX) {
        None => format!("{content:?}"),
        Some((end, _)) => format!("{:?}… ({} bytes)", &content[..end], content.len()),
    }
}

fn invalid_data(reason: impl fmt::Display) -> EventError {
    EventError::InvalidField { field: "data", reason: reason.to_string() }
}

type RawFields<'a> = [Option<&'a RawValue>; FIELDS.len()];

/// Collects the raw fields. The envelope's own errors travel inside `Ok`, so that a wrong field is
/// told apart from broken JSON, which is reported first.
struct EnvelopeVisitor;

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = Result<RawFields<'de>, EventError>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields: RawFields<'de> = [None; FIELDS.len()];
        let mut problem = None;
        while let Some(name) = map.next_key::<FieldName<'de>>()? {
            let raw: &'de RawValue = map.next_value()?;
            let Some(index) = FIELDS.iter().position(|field| *field == name.0) else {
                problem.get_or_insert_with(|| unknown_field(&name.0));
                continue;
            };
            if fields[index].is_some() {
                problem.get_or_insert_with(|| EventError::InvalidField {
                    field: FIELDS[index],
                    reason: "is given twice".to_owned(),
                });
            }
            if raw.get() != "null" {
                fields[index] = Some(raw);
            }
        }
        Ok(problem.map_or(Ok(fields), Err))
    }
}

/// The rank and text of the first of `fields` that can be a key.
struct KeyVisitor<'f, S> {
    fields: &'f [S],
}

impl<'de, S: AsRef<str>> Visitor<'de> for KeyVisitor<'_, S> {
    type Value = Option<(usize, Cow<'de, str>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut best: Self::Value = None;
        while let Some(name) = map.next_key::<FieldName<'de>>()? {
            let rank = self.fields.iter().position(|field| field.as_ref() == name.0);
            match rank.filter(|rank| best.as_ref().is_none_or(|(known, _)| rank <= known)) {
                Some(rank) => {
                    best = key_text(map.next_value()?).map(|text| (rank, text)).or(best);
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(best)
    }
}

/// A field name, borrowed unless it has escapes.
struct FieldName<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for FieldName<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = FieldName<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name")
            }
            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(FieldName(Cow::Borrowed(name)))
            }
            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(FieldName(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

/// The content of a JSON string, borrowed unless it has escapes; `None` for any other value.
fn string_content(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(raw.get()).ok().map(Cow::Owned)
}

fn key_text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let text = match raw.get().as_bytes().first() {
        Some(b'"') => string_content(raw)?,
        Some(b'-' | b'0'..=b'9') => Cow::Borrowed(raw.get()),
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

fn text<'a>(field: &'static str, raw: &'a RawValue) -> Result<Cow<'a, str>, EventError> {
    let invalid = |reason: &str| EventError::InvalidField { field, reason: reason.to_owned() };
    let content = string_content(raw).ok_or_else(|| invalid("must be a string"))?;
    if content.is_empty() {
        return Err(invalid("must not be empty"));
    }
    Ok(content)
}

fn timestamp(raw: &RawValue) -> Result<TimestampMs, EventError> {
    let content = text("timestamp", raw)?;
    parse_rfc3339(&content).ok_or_else(|| EventError::InvalidField {
        field: "timestamp",
        reason: format!("{} is not a time like 2025-08-03T10:30:00Z (RFC 3339)", shown(&content)),
    })
}

fn priority(raw: &RawValue) -> Result<Priority, EventError> {
    let content = text("priority", raw)?;
    Priority::parse(&content).ok_or_else(|| EventError::InvalidField {
        field: "priority",
        reason: format!("{} is none of urgent, high, normal, low", shown(&content)),
    })
}

fn unknown_field(name: &str) -> EventError {
    // A typing slip is one or two edits; more is another word. Long names are cut before the
    // quadratic comparison; letter case is ignored.
    let written: String = name.chars().take(16).map(|letter| letter.to_ascii_lowercase()).collect();
    let nearest = FIELDS
        .into_iter()
        .map(|field| (edit_distance(field, &written), field))
        .filter(|(distance, field)| *distance <= 2 && *distance < field.len())
        .min_by_key(|(distance, _)| *distance);
    EventError::UnknownField {
        field: name.chars().take(SHOWN_CHARS_MAX).collect(),
        suggestion: nearest.map(|(_, field)| field),
    }
}

fn push_name(out: &mut String, name: &str) {
    if !out.ends_with('{') {
        out.push(',');
    }
    out.push('"');
    out.push_str(name);
    out.push_str("\":");
}

fn push_text_field(out: &mut String, name: &str, value: &str) {
    push_name(out, name);
    push_json_string(out, value);
}

/// JSON string escaping as RFC 8259 §7 requires it: quote, backslash, control characters.
fn push_json_string(out: &mut String, value: &str) {
    out.push('"');
    for letter in value.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            control if u32::from(control) < 0x20 => {
                out.push_str("\\u00");
                let code = u32::from(control) as usize;
                out.push(char::from(b"0123456789abcdef"[code >> 4]));
                out.push(char::from(b"0123456789abcdef"[code & 15]));
            }
            plain => out.push(plain),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests;

//! The bounds of an event beside its size: lengths of its texts, depth of its data. Pure.

use weir_client::event::{key_of_data, KEY_FIELDS};
use weir_client::Event;

use super::outcome::Rejection;

/// Longest `id`, `type`, `source` and record key. They are kept in headers, in the dedup window's
/// input and in log lines, and a device's name is nowhere longer.
pub(super) const TEXT_BYTES_MAX: usize = 256;
/// Deepest nesting of an event, its own braces counted: what serde_json, which reads events here and
/// in many a consumer, takes by default (its limit of 128 refuses the 128th level).
pub(super) const DEPTH_MAX: usize = 127;

/// Checks the texts of the envelope and the depth of `data`.
pub(super) fn check(event: &Event<'_>) -> Result<(), Rejection> {
    check_text("type", &event.event_type)?;
    check_text("source", &event.source)?;
    if let Some(id) = &event.id {
        check_text("id", id)?;
    }
    check_depth(event)
}

/// `fields`: those of `data` that can be the key.
pub(super) fn check_key<S: AsRef<str>>(
    event: &Event<'_>,
    key: &str,
    fields: &[S],
) -> Result<(), Rejection> {
    if key.len() <= TEXT_BYTES_MAX {
        return Ok(());
    }
    let is_key = |field: &&S| key_of_data(event.data, &[*field]).is_some();
    let name = fields.iter().find(is_key).map_or("", |field| field.as_ref());
    Err(too_long(&format!("data.{name}"), key.len(), "is the record key, which has"))
}

/// As [`check_key`], for topics without key fields of their own.
pub(super) fn check_default_key(event: &Event<'_>, key: &str) -> Result<(), Rejection> {
    check_key(event, key, &KEY_FIELDS)
}

/// Control characters would write lines of their own into logs and terminals, and one of them
/// separates source and id where ids are compared.
fn check_text(field: &'static str, text: &str) -> Result<(), Rejection> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(too_long(field, text.len(), "has"));
    }
    match text.chars().find(|letter| letter.is_control()) {
        Some(control) => {
            let message = format!("field {field:?} has the control character {control:?} in it");
            Err(Rejection::bad("WEIR-0433", message).field(field))
        }
        None => Ok(()),
    }
}

fn too_long(field: &str, bytes: usize, verb: &str) -> Rejection {
    let message = format!("field {field:?} {verb} {bytes} bytes, {TEXT_BYTES_MAX} is the limit");
    Rejection::bad("WEIR-0433", message).field(field)
}

fn check_depth(event: &Event<'_>) -> Result<(), Rejection> {
    let depth = 1 + depth_of(event.data.get());
    if depth <= DEPTH_MAX {
        return Ok(());
    }
    let message = format!("the event is nested {depth} levels deep, {DEPTH_MAX} is the limit");
    Err(Rejection::bad("WEIR-0917", message).field("data"))
}

/// How deep objects and arrays are nested in `json`, which must be valid.
fn depth_of(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_text, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<(), Rejection> {
        check(&Event::parse(text.as_bytes()).unwrap())
    }

    fn nested(levels: usize) -> String {
        let (open, close) = ("[".repeat(levels - 2), "]".repeat(levels - 2));
        format!(r#"{{"type":"x.y","source":"t","data":{{"a":{open}{close}}}}}"#)
    }

    #[test]
    fn an_event_is_as_deep_as_serde_json_reads_and_no_deeper() {
        for (levels, ok) in [(3, true), (DEPTH_MAX, true), (DEPTH_MAX + 1, false), (100_000, false)]
        {
            let text = nested(levels);
            assert_eq!(checked(&text).is_ok(), ok, "{levels}");
            if levels < 1_000 {
                let read = serde_json::from_str::<serde_json::Value>(&text);
                assert_eq!(read.is_ok(), ok, "{levels}");
            }
        }
        let refused = checked(&nested(200)).unwrap_err();
        assert_eq!((refused.code, refused.field.as_deref()), ("WEIR-0917", Some("data")));
        assert!(refused.message.contains("200") && refused.message.contains("127"));
    }

    #[test]
    fn brackets_in_texts_nest_nothing() {
        for (json, depth) in [
            ("{}", 1),
            (r#"{"[[[":"]{\"[[["}"#, 1),
            (r#"{"a":"\\","b":[{}]}"#, 3),
            (r#"{"a":[[],[]],"b":[[[]]]}"#, 4),
        ] {
            assert_eq!(depth_of(json), depth, "{json}");
        }
    }

    #[test]
    fn texts_over_256_bytes_and_control_characters_are_refused_by_field() {
        let (long, most) = ("ü".repeat(129), "ü".repeat(128));
        let event = |field: &str, value: &str| {
            let mut event =
                serde_json::json!({"id": "i", "type": "x.y", "source": "t", "data": {}});
            event[field] = value.into();
            event.to_string()
        };
        for field in ["id", "type", "source"] {
            checked(&event(field, &most)).unwrap();
            for wrong in [long.as_str(), "a\nb", "a\u{0}b", "\u{1b}[31m", "a\u{9b}b"] {
                let refused = checked(&event(field, wrong)).unwrap_err();
                let said = (refused.code, refused.field.as_deref());
                assert_eq!(said, ("WEIR-0433", Some(field)), "{wrong:?}");
                assert!(!refused.message.contains(char::is_control), "{}", refused.message);
            }
        }
    }
}

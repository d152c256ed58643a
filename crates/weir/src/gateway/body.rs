//! From a request body to the texts of its events, without changing a byte of them.

use bytes::Bytes;
use serde::de::{Deserializer as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Why a body is refused whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No JSON, and the parser's words.
    Json(String),
    /// More events than a body may hold; how many there are.
    TooMany(usize),
}

/// The events of one body: the text of each, or why a line is no JSON.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) events: Vec<Result<Bytes, String>>,
    /// Whether the body was one event, which is answered by an object instead of a list.
    pub(crate) single: bool,
}

/// Splits a body that is one object, an array, or one object per line (NDJSON).
///
/// The first byte decides: `[` is an array, and a broken array is refused whole because where an
/// element ends is then unknown. Else the body is one value if it parses as one, and lines if not.
/// A text that is most of `body` is a slice of it, and others are copies: an event that waits in its
/// lane, where its own bytes are counted, must not keep the whole of a large body in memory.
///
/// `lines`: the sender said that it is NDJSON, so each line is an event whatever it looks like.
/// Beyond `events_max` events are counted and not kept, since a list of them takes many times the
/// bytes of a body of the shortest ones.
pub(crate) fn split(body: &Bytes, lines: bool, events_max: usize) -> Result<Body, Fault> {
    let start = body.iter().position(|byte| !byte.is_ascii_whitespace());
    let Some(start) = start else { return Err(Fault::Json("the body is empty".to_owned())) };
    if lines {
        let lines = lines_of(body, events_max)?;
        return Ok(Body { events: events_of(body, &lines), single: false });
    }
    if body.get(start) == Some(&b'[') {
        let elements = elements_of(body, events_max)?;
        let events = elements.iter().map(|raw| Ok(slice_of(body, raw.get().as_bytes()))).collect();
        return Ok(Body { events, single: false });
    }
    if let Ok(raw) = serde_json::from_slice::<&RawValue>(body) {
        let event = slice_of(body, raw.get().as_bytes());
        return Ok(Body { events: vec![Ok(event)], single: true });
    }
    let lines = lines_of(body, events_max)?;
    let single = lines.len() == 1 || pretty_printed(&lines);
    if single {
        let error = serde_json::from_slice::<&RawValue>(body).err();
        let why = error.map_or_else(String::new, |error| error.to_string());
        return Ok(Body { events: vec![Err(why)], single });
    }
    Ok(Body { events: events_of(body, &lines), single })
}

fn lines_of(body: &[u8], events_max: usize) -> Result<Vec<&[u8]>, Fault> {
    let lines = || {
        let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        lines.filter(|line| !line.is_empty())
    };
    match lines().count() {
        count if count > events_max => Err(Fault::TooMany(count)),
        _ => Ok(lines().collect()),
    }
}

fn elements_of(body: &[u8], events_max: usize) -> Result<Vec<&RawValue>, Fault> {
    let json = |error: serde_json::Error| Fault::Json(error.to_string());
    let mut parser = serde_json::Deserializer::from_slice(body);
    let (elements, count) = parser.deserialize_seq(Elements { events_max }).map_err(json)?;
    parser.end().map_err(json)?;
    if count > events_max {
        return Err(Fault::TooMany(count));
    }
    Ok(elements)
}

/// The first elements of an array, and how many there are.
struct Elements {
    events_max: usize,
}

impl<'de> Visitor<'de> for Elements {
    type Value = (Vec<&'de RawValue>, usize);

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while elements.len() < self.events_max {
            match seq.next_element()? {
                Some(element) => elements.push(element),
                None => break,
            }
        }
        let mut count = elements.len();
        // After the end it says again that there is none.
        while seq.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok((elements, count))
    }
}

fn events_of(body: &Bytes, lines: &[&[u8]]) -> Vec<Result<Bytes, String>> {
    let event = |line: &&[u8]| match serde_json::from_slice::<&RawValue>(line) {
        Ok(_) => Ok(slice_of(body, line)),
        Err(error) => Err(error.to_string()),
    };
    lines.iter().map(event).collect()
}

/// One broken object over several lines rather than NDJSON: no line is a value by itself.
fn pretty_printed(lines: &[&[u8]]) -> bool {
    lines.iter().all(|line| serde_json::from_slice::<&RawValue>(line).is_err())
}

fn slice_of(body: &Bytes, part: &[u8]) -> Bytes {
    match part.len() > body.len() / 2 {
        true => body.slice_ref(part),
        false => Bytes::copy_from_slice(part),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS_MAX: usize = 3;

    fn check(body: &str, expect: &[Option<&str>], single: bool) {
        let split = split(&Bytes::copy_from_slice(body.as_bytes()), false, EVENTS_MAX).unwrap();
        let got: Vec<Option<String>> = split
            .events
            .iter()
            .map(|event| event.as_ref().ok().map(|text| String::from_utf8(text.to_vec()).unwrap()))
            .collect();
        let expect: Vec<Option<String>> =
            expect.iter().map(|text| text.map(str::to_owned)).collect();
        assert_eq!((got, split.single), (expect, single), "{body}");
    }

    #[test]
    fn one_object_an_array_and_lines_keep_their_bytes() {
        check("{\"a\": 1}", &[Some("{\"a\": 1}")], true);
        check(" {\n \"a\": 1\n}\n", &[Some("{\n \"a\": 1\n}")], true);
        check("[{\"a\":1}, {\"b\": [2]}]", &[Some("{\"a\":1}"), Some("{\"b\": [2]}")], false);
        check("{\"a\":1}\r\n\n{\"b\":2}\n", &[Some("{\"a\":1}"), Some("{\"b\":2}")], false);
        check("[]", &[], false);
    }

    #[test]
    fn broken_line_leaves_the_other_lines_alone() {
        check(
            "{\"a\":1}\n{\"b\":\n{\"c\":3}",
            &[Some("{\"a\":1}"), None, Some("{\"c\":3}")],
            false,
        );
    }

    #[test]
    fn broken_object_is_one_refusal_however_many_lines_it_has() {
        check("{\"a\":", &[None], true);
        check("{\n\"a\":\n", &[None], true);
    }

    #[test]
    fn ndjson_is_split_by_line_even_if_it_is_one_line_or_all_broken() {
        for (body, events) in [("{\"a\":1}\n", 1), ("{\n}\n{", 3), ("[1]\n[2]", 2)] {
            let split = split(&Bytes::copy_from_slice(body.as_bytes()), true, EVENTS_MAX).unwrap();
            assert_eq!((split.events.len(), split.single), (events, false), "{body}");
        }
    }

    #[test]
    fn broken_array_and_empty_body_are_refused_whole() {
        for body in ["[{\"a\":1}, {", "", "  \n "] {
            let fault = split(&Bytes::copy_from_slice(body.as_bytes()), false, EVENTS_MAX);
            assert!(matches!(fault, Err(Fault::Json(_))), "{body}");
        }
    }

    #[test]
    fn a_body_of_too_many_events_is_counted_and_refused_whole() {
        for (body, lines, count) in [
            ("[1,2,3,4]", false, 4),
            ("1\n2\n\n3\n4\n5", false, 5),
            ("[1]\n[2]\n[3]\n[4]", true, 4),
        ] {
            let fault = split(&Bytes::copy_from_slice(body.as_bytes()), lines, EVENTS_MAX);
            assert_eq!(fault.unwrap_err(), Fault::TooMany(count), "{body}");
        }
        for body in ["[1,2,3,4", "[1,2,3] 4", "[1,2,3,4,]"] {
            let fault = split(&Bytes::copy_from_slice(body.as_bytes()), false, EVENTS_MAX);
            assert!(matches!(fault, Err(Fault::Json(_))), "{body}");
        }
        check("[1,2,3]", &[Some("1"), Some("2"), Some("3")], false);
    }

    #[test]
    fn a_small_event_does_not_keep_a_large_body_in_memory() {
        let body = Bytes::from(format!("[{{\"a\":1}},{{\"b\":\"{}\"}}]", "x".repeat(1000)));
        let within = |text: &Bytes| body.as_ptr_range().contains(&text.as_ptr());
        let events = split(&body, false, EVENTS_MAX).unwrap().events;
        let [small, large] = &events[..] else { panic!("{events:?}") };
        assert!(!within(small.as_ref().unwrap()) && within(large.as_ref().unwrap()));
    }
}

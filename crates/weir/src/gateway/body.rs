//! From a request body to the texts of its events, without changing a byte of them.

use bytes::Bytes;
use serde_json::value::RawValue;

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
/// The texts are slices of `body`. `Err` says why nothing can be handled.
///
/// `lines`: the sender said that it is NDJSON, so each line is an event whatever it looks like.
pub(crate) fn split(body: &Bytes, lines: bool) -> Result<Body, String> {
    let start = body.iter().position(|byte| !byte.is_ascii_whitespace());
    let Some(start) = start else { return Err("the body is empty".to_owned()) };
    if lines {
        return Ok(Body { events: events_of(body, &lines_of(body)), single: false });
    }
    if body.get(start) == Some(&b'[') {
        let elements: Vec<&RawValue> =
            serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let events = elements.iter().map(|raw| Ok(slice_of(body, raw.get().as_bytes()))).collect();
        return Ok(Body { events, single: false });
    }
    if let Ok(raw) = serde_json::from_slice::<&RawValue>(body) {
        let event = slice_of(body, raw.get().as_bytes());
        return Ok(Body { events: vec![Ok(event)], single: true });
    }
    let lines = lines_of(body);
    let single = lines.len() == 1 || pretty_printed(&lines);
    if single {
        let error = serde_json::from_slice::<&RawValue>(body).err();
        let why = error.map_or_else(String::new, |error| error.to_string());
        return Ok(Body { events: vec![Err(why)], single });
    }
    Ok(Body { events: events_of(body, &lines), single })
}

fn lines_of(body: &[u8]) -> Vec<&[u8]> {
    let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.filter(|line| !line.is_empty()).collect()
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
    body.slice_ref(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expect: &[Option<&str>], single: bool) {
        let split = split(&Bytes::copy_from_slice(body.as_bytes()), false).unwrap();
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
            let split = split(&Bytes::copy_from_slice(body.as_bytes()), true).unwrap();
            assert_eq!((split.events.len(), split.single), (events, false), "{body}");
        }
    }

    #[test]
    fn broken_array_and_empty_body_are_refused_whole() {
        for body in ["[{\"a\":1}, {", "", "  \n "] {
            assert!(split(&Bytes::copy_from_slice(body.as_bytes()), false).is_err(), "{body}");
        }
    }
}

//! A YAML document as dotted names with their values and lines.

use serde_yaml_ng::Value;

/// One value of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Written {
    /// A plain value, as text.
    Plain(String),
    /// A list of plain values.
    List(Vec<String>),
    /// Nothing, or `~`.
    Nothing,
}

/// Dotted names and values of a document; nothing at all for an empty one.
///
/// # Errors
/// What no configuration file can have, in a sentence.
pub(super) fn flatten(document: &Value) -> Result<Vec<(String, Written)>, String> {
    let mut out = Vec::new();
    match document {
        Value::Null => {}
        Value::Mapping(_) => below("", document, &mut out)?,
        _ => return Err("the file must be a map of keys".to_owned()),
    }
    Ok(out)
}

/// Turns nested maps into dotted names. Maps under a list are refused: no key takes them.
fn below(prefix: &str, value: &Value, out: &mut Vec<(String, Written)>) -> Result<(), String> {
    match value {
        Value::Mapping(map) => {
            for (key, value) in map {
                let key = match scalar(key) {
                    Some(key) => key,
                    None if prefix.is_empty() => return Err("a key is no plain text".to_owned()),
                    None => return Err(format!("a key under {prefix} is no plain text")),
                };
                let name = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
                below(&name, value, out)?;
            }
        }
        Value::Sequence(items) => {
            let items: Option<Vec<String>> = items.iter().map(scalar).collect();
            let items = items.ok_or_else(|| format!("{prefix} must be a list of plain values"))?;
            out.push((prefix.to_owned(), Written::List(items)));
        }
        Value::Null => out.push((prefix.to_owned(), Written::Nothing)),
        other => {
            let text = scalar(other).ok_or_else(|| format!("{prefix} must be a plain value"))?;
            out.push((prefix.to_owned(), Written::Plain(text)));
        }
    }
    Ok(())
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(on) => Some(on.to_string()),
        _ => None,
    }
}

/// The line, from 1, that sets `name`, or the nearest section around it; the parser keeps no
/// positions, so this follows the indentation.
pub(super) fn line_of(text: &str, name: &str) -> Option<usize> {
    let mut open: Vec<(usize, String)> = Vec::new();
    let mut nearest: Option<(usize, usize)> = None;
    for (index, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let Some(key) = key_of_line(line.trim_start()) else { continue };
        open.retain(|(outer, _)| *outer < indent);
        let path = match open.last() {
            Some((_, outer)) => format!("{outer}.{key}"),
            None => key.to_owned(),
        };
        if path == name {
            return Some(index + 1);
        }
        let around = name.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('.'));
        if around && nearest.is_none_or(|(bytes, _)| bytes < path.len()) {
            nearest = Some((path.len(), index + 1));
        }
        open.push((indent, path));
    }
    nearest.map(|(_, line)| line)
}

/// The key of `key: value` or `"key": value`.
fn key_of_line(line: &str) -> Option<&str> {
    for quote in ['"', '\''] {
        if let Some(rest) = line.strip_prefix(quote) {
            let (key, rest) = rest.split_once(quote)?;
            return rest.trim_start().starts_with(':').then_some(key);
        }
    }
    let end = line.find(": ").or_else(|| line.ends_with(':').then(|| line.len() - 1))?;
    let key = line[..end].trim_end();
    (!key.is_empty() && !key.starts_with(['#', '-', '{', '['])).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_that_of_the_whole_name_not_of_another_with_the_same_end() {
        let text =
            "broker:\n  listen: a\n# gateway:\ngateway:\n  limits: {x: 1}\n\n  \"listen\": b\n";
        assert_eq!(line_of(text, "broker.listen"), Some(2));
        assert_eq!(line_of(text, "gateway.listen"), Some(7));
        assert_eq!(line_of(text, "gateway.limits.x"), Some(5), "the section around it");
        assert_eq!(line_of(text, "console.listen"), None);
        assert_eq!(line_of("a.b: 1\n", "a.b"), Some(1));
    }
}

//! From file, environment and flags to checked values with their origins.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_yaml_ng::Value;

use super::duration::{parse_bytes, parse_duration_ms};
use super::keys::{self, Key, Kind, KEYS};
use crate::error::{Outcome, UserError};

/// The file read when `--config` names none.
const DEFAULT_FILE: &str = "weir.yaml";

/// Where a value came from; later ones override earlier ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    Default,
    File(PathBuf),
    Environment(String),
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "{name}"),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// Checked values by dotted name. Lists are kept as text with commas.
#[derive(Debug, Clone, Default)]
pub(crate) struct Values {
    map: BTreeMap<String, (String, Origin)>,
}

impl Values {
    /// Defaults, then the file, then the environment. Flags are added with [`Values::set_flag`].
    ///
    /// `file`: `None` reads `weir.yaml` if there is one.
    pub(crate) fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Outcome<Self> {
        let mut values = Self::defaults();
        if let Some((path, text)) = read_file(file)? {
            values.add_yaml(&path, &text)?;
        }
        values.add_environment(environment)?;
        Ok(values)
    }

    fn defaults() -> Self {
        let map = KEYS
            .iter()
            .filter_map(|key| {
                Some((key.name.to_owned(), (key.default?.to_owned(), Origin::Default)))
            })
            .collect();
        Self { map }
    }

    /// Adds what a YAML document says, over what is there.
    pub(super) fn add_yaml(&mut self, path: &Path, text: &str) -> Outcome {
        let document: Value = serde_yaml_ng::from_str(text).map_err(|error| {
            UserError::new("WEIR-0801", format!("{} is not YAML", path.display())).why(error)
        })?;
        if document.is_null() {
            return Ok(());
        }
        let mut flat = Vec::new();
        flatten("", &document, &mut flat).map_err(|what| UserError::new("WEIR-0801", what))?;
        for (name, value) in flat {
            let place = || format!("{}{}", path.display(), line_of(text, &name));
            let key = keys::find(&name).ok_or_else(|| unknown(&name, &place()))?;
            self.set(key, &name, &value, Origin::File(path.to_owned()), &place())?;
        }
        Ok(())
    }

    fn add_environment(
        &mut self,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Outcome {
        for (variable, value) in environment {
            let Some(name) = key_of_variable(&variable) else { continue };
            let Some(key) = keys::find(&name) else {
                return Err(unknown(&name, &format!("the environment variable {variable}")));
            };
            let overrides_weir = variable == "KAFKA_BROKERS"
                && matches!(self.map.get(&name), Some((_, Origin::Environment(_))));
            if !overrides_weir {
                let origin = Origin::Environment(variable.clone());
                self.set(key, &name, &value, origin, &format!("the variable {variable}"))?;
            }
        }
        Ok(())
    }

    /// Sets one value from a command line flag.
    pub(crate) fn set_flag(&mut self, flag: &'static str, name: &str, value: &str) -> Outcome {
        let key = keys::find(name).ok_or_else(|| unknown(name, flag))?;
        self.set(key, name, value, Origin::Flag(flag), flag)
    }

    fn set(&mut self, key: &Key, name: &str, value: &str, origin: Origin, place: &str) -> Outcome {
        check(key.kind, value).map_err(|expected| {
            UserError::new("WEIR-0803", format!("{name}: \"{value}\" is not {expected}"))
                .why(format!("in {place}"))
                .help(format!("{name} is {}", key.doc))
        })?;
        self.map.insert(name.to_owned(), (value.to_owned(), origin));
        Ok(())
    }

    /// The text of a value, if it is set.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        debug_assert!(keys::find(name).is_some(), "undeclared key {name}");
        self.map.get(name).map(|(value, _)| value.as_str())
    }

    /// Name, value and origin of everything that is set, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str, &Origin)> {
        self.map.iter().map(|(name, (value, origin))| (name.as_str(), value.as_str(), origin))
    }

    pub(super) fn duration_ms(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(parse_duration_ms)
    }

    pub(super) fn bytes(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(parse_bytes)
    }

    pub(super) fn count(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(|value| value.parse().ok())
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }

    pub(super) fn list(&self, name: &str) -> Vec<String> {
        let text = self.get(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }
}

fn read_file(file: Option<&Path>) -> Outcome<Option<(PathBuf, String)>> {
    let path = file.unwrap_or(Path::new(DEFAULT_FILE));
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some((path.to_owned(), text))),
        Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(UserError::new("WEIR-0804", format!("cannot read {}", path.display())).why(error))
        }
    }
}

/// `WEIR_GATEWAY_LISTEN` and the names the specification uses without the prefix.
fn key_of_variable(variable: &str) -> Option<String> {
    if variable == "KAFKA_BROKERS" {
        return Some("kafka.brokers".to_owned());
    }
    let wanted = variable.strip_prefix("WEIR_")?;
    let known = KEYS.iter().find(|key| variable_of_key(key.name) == wanted);
    Some(known.map_or_else(|| wanted.to_ascii_lowercase(), |key| key.name.to_owned()))
}

fn variable_of_key(name: &str) -> String {
    name.replace('.', "_").to_ascii_uppercase()
}

fn unknown(name: &str, place: &str) -> UserError {
    let error =
        UserError::new("WEIR-0802", format!("unknown key {name}")).why(format!("in {place}"));
    match keys::suggest(name) {
        Some(known) => error.help(format!("did you mean {known}?")),
        None => error.help("weir config show lists every key"),
    }
}

/// Turns nested maps into dotted names. Maps under a list are refused: no key takes them.
fn flatten(prefix: &str, value: &Value, out: &mut Vec<(String, String)>) -> Result<(), String> {
    match value {
        Value::Mapping(map) => {
            for (key, value) in map {
                let key =
                    scalar(key).ok_or_else(|| format!("a key under \"{prefix}\" is no text"))?;
                let name = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
                flatten(&name, value, out)?;
            }
        }
        Value::Sequence(items) => {
            let items: Option<Vec<String>> = items.iter().map(scalar).collect();
            let items = items.ok_or_else(|| format!("{prefix} must be a list of plain values"))?;
            out.push((prefix.to_owned(), items.join(",")));
        }
        other => {
            let text = scalar(other).ok_or_else(|| format!("{prefix} must be a plain value"))?;
            out.push((prefix.to_owned(), text));
        }
    }
    Ok(())
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(on) => Some(on.to_string()),
        Value::Null => Some(String::new()),
        _ => None,
    }
}

/// `, line N` of the first line that sets the last segment of `name`; the parser keeps no positions.
fn line_of(text: &str, name: &str) -> String {
    let segment = name.rsplit('.').next().unwrap_or(name);
    let wanted = |line: &str| {
        let line = line.trim_start().trim_start_matches(['"', '\'']);
        line.strip_prefix(segment)
            .is_some_and(|rest| rest.trim_start_matches(['"', '\'']).trim_start().starts_with(':'))
    };
    match text.lines().position(wanted) {
        Some(index) => format!(", line {}", index + 1),
        None => String::new(),
    }
}

/// `Err` says what was expected.
fn check(kind: Kind, value: &str) -> Result<(), String> {
    let within = |parsed: Option<u64>, low: u64, high: u64, what: &str| match parsed {
        Some(n) if (low..=high).contains(&n) => Ok(()),
        _ => Err(format!("{what} from {low} to {high}")),
    };
    match kind {
        Kind::Text | Kind::List => Ok(()),
        Kind::OneOf(words) if words.contains(&value) => Ok(()),
        Kind::OneOf(words) => Err(format!("one of {}", words.join(", "))),
        Kind::Bool if value == "true" || value == "false" => Ok(()),
        Kind::Bool => Err("true or false".to_owned()),
        Kind::Count(low, high) => within(value.parse().ok(), low, high, "a whole number"),
        Kind::Duration(low, high) => {
            within(parse_duration_ms(value), low, high, "a duration such as 50ms or 10s, in ms")
        }
        Kind::Bytes(low, high) => {
            within(parse_bytes(value), low, high, "a size such as 16MiB, in bytes")
        }
    }
}

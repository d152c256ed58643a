//! From file, environment and flags to checked values with their origins.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde_yaml_ng::Value;

use super::document::{self, Written};
use super::duration::{parse_bytes, parse_duration_ms, parse_rate};
use super::keys::{self, Key, Kind, KEYS};
use super::shape;
use crate::error::{Outcome, UserError};

/// The file read when `--config` names none.
const DEFAULT_FILE: &str = "weir.yaml";
/// Variables of the specification for a PostgreSQL, which nothing here uses yet.
const UNUSED_VARIABLES: [&str; 3] = ["DB_HOST", "DB_USER", "DB_PASSWORD"];
const SHOW: &str = "weir config show lists every key";

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
    unused: BTreeSet<String>,
    passed_over: BTreeSet<String>,
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
        Self { map, unused: BTreeSet::new(), passed_over: BTreeSet::new() }
    }

    /// Adds what a YAML document says, over what is there.
    pub(super) fn add_yaml(&mut self, path: &Path, text: &str) -> Outcome {
        let bad = |what: String| UserError::new("WEIR-0801", what);
        let document: Value = serde_yaml_ng::from_str(text)
            .map_err(|error| bad(format!("{} is not YAML", path.display())).why(error))?;
        let written = document::flatten(&document)
            .map_err(|what| bad(what).why(format!("in {}", path.display())).help(SHOW))?;
        for (name, value) in written {
            let line = document::line_of(text, &name).map(|line| format!(", line {line}"));
            let place = format!("{}{}", path.display(), line.unwrap_or_default());
            let Some(key) = keys::find(&name) else {
                let inside = keys::under(&name);
                match (value, inside.is_empty()) {
                    // A section of which every key is left out, or commented out.
                    (Written::Nothing, false) => continue,
                    (_, false) => return Err(section(&name, &inside, &place)),
                    (_, true) => return Err(unknown(&name, &place)),
                }
            };
            let value = match value {
                Written::Plain(text) => text,
                Written::List(items) if key.kind.takes_list() => items.join(","),
                Written::List(_) => {
                    return Err(invalid(key, &name, "is a list; it takes one value", &place))
                }
                Written::Nothing => return Err(invalid(key, &name, "has no value", &place)),
            };
            self.set(key, &name, &value, Origin::File(path.to_owned()), &place)?;
        }
        Ok(())
    }

    fn add_environment(
        &mut self,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Outcome {
        for (variable, value) in environment {
            if UNUSED_VARIABLES.contains(&variable.as_str()) && !value.is_empty() {
                self.unused.insert(variable);
                continue;
            }
            let Some(name) = key_of_variable(&variable) else { continue };
            let Some(key) = keys::find(&name) else {
                if is_of_a_kubernetes_service(&variable, &value) {
                    self.passed_over.insert(variable);
                    continue;
                }
                return Err(unknown(&name, &format!("the environment variable {variable}")));
            };
            let of_specification = variable == "KAFKA_BROKERS";
            let overrides_weir = of_specification
                && matches!(self.map.get(&name), Some((_, Origin::Environment(_))));
            // Compose files and shells set a variable to nothing when they mean not to set it.
            let unset = of_specification && value.is_empty();
            if !overrides_weir && !unset {
                let origin = Origin::Environment(variable.clone());
                self.set(key, &name, &value, origin, &format!("the variable {variable}"))?;
            }
        }
        Ok(())
    }

    /// Variables of the specification that are set and that nothing here uses, by name. Their values
    /// are not kept: one is a password.
    pub(crate) fn unused_variables(&self) -> impl Iterator<Item = &str> {
        self.unused.iter().map(String::as_str)
    }

    /// Variables that Kubernetes sets for a Service whose name begins with `weir`: no configuration.
    pub(crate) fn passed_over_variables(&self) -> impl Iterator<Item = &str> {
        self.passed_over.iter().map(String::as_str)
    }

    /// Sets one value from a command line flag.
    pub(crate) fn set_flag(&mut self, flag: &'static str, name: &str, value: &str) -> Outcome {
        let key = keys::find(name).ok_or_else(|| unknown(name, flag))?;
        self.set(key, name, value, Origin::Flag(flag), flag)
    }

    fn set(&mut self, key: &Key, name: &str, value: &str, origin: Origin, place: &str) -> Outcome {
        let named = check_name(name).map_err(|fault| invalid(key, name, &fault, place));
        named.and_then(|()| {
            check(key.kind, value).map_err(|fault| invalid(key, name, &fault, place))
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

    /// Keys that are set, known, and do nothing here, and why.
    pub(crate) fn without_effect(&self) -> impl Iterator<Item = (&str, &'static str)> {
        let set = self.map.keys();
        set.filter_map(|name| Some((name.as_str(), keys::without_effect(name)?)))
    }

    /// Kafka's `log.*` and `group.*` keys that are set, each value in the unit that Kafka has it in.
    pub(super) fn log_keys(&self) -> Vec<(String, String)> {
        let is_kafkas = |name: &str| name.starts_with("log.") || name.starts_with("group.");
        let set = self.map.iter().filter(|(name, _)| is_kafkas(name));
        let mut set: Vec<_> = set
            .map(|(name, (value, _))| {
                let kind = keys::find(name).map(|key| key.kind);
                (
                    name.clone(),
                    kind.map_or_else(|| value.clone(), |kind| in_kafkas_unit(kind, value)),
                )
            })
            .collect();
        // Kafka's own name is set over the specification's.
        set.sort_by_key(|(name, _)| name != "log.cleaner.min.dirty.ratio");
        set
    }

    pub(crate) fn duration_ms(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(parse_duration_ms)
    }

    pub(super) fn bytes(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(parse_bytes)
    }

    pub(crate) fn count(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(|value| value.parse().ok())
    }

    /// The value of a [`Kind::Ratio`] or [`Kind::RatioTo`], 0 if it is not set.
    pub(crate) fn ratio(&self, name: &str) -> f64 {
        self.get(name).and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }

    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let text = self.get(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }
}

fn read_file(file: Option<&Path>) -> Outcome<Option<(PathBuf, String)>> {
    let path = file.unwrap_or(Path::new(DEFAULT_FILE));
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some((path.to_owned(), text))),
        Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(UserError::new("WEIR-0804", format!("cannot read {}", path.display()))
            .why(error)
            .help("name a file that exists and that you may read; without one the defaults hold")),
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

/// Kubernetes tells every container of a pod where the Services of its namespace are: for one named
/// `weir` by `WEIR_SERVICE_HOST`, `WEIR_SERVICE_PORT`, `WEIR_PORT=tcp://10.0.0.1:8084` and
/// `WEIR_PORT_8084_TCP` with `_PROTO`, `_PORT` and `_ADDR`; one named `weir-x` has `X_` in between.
fn is_of_a_kubernetes_service(variable: &str, value: &str) -> bool {
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    if variable.ends_with("_PORT") && is_url {
        return true;
    }
    if variable.ends_with("_SERVICE_HOST") || variable.ends_with("_SERVICE_PORT") {
        return true;
    }
    let named_port =
        variable.split_once("_SERVICE_PORT_").is_some_and(|(_, name)| !name.is_empty());
    let of_one_port = variable.split_once("_PORT_").is_some_and(|(_, rest)| {
        let mut parts = rest.split('_');
        let is_number = parts.next().is_some_and(|port| port.parse::<u16>().is_ok());
        let is_protocol = parts.next().is_some_and(|name| ["TCP", "UDP", "SCTP"].contains(&name));
        let what = parts.next();
        let is_known = what.is_none_or(|what| ["PROTO", "PORT", "ADDR"].contains(&what));
        is_number && is_protocol && is_known && parts.next().is_none()
    });
    named_port || of_one_port
}

fn variable_of_key(name: &str) -> String {
    name.replace('.', "_").to_ascii_uppercase()
}

fn unknown(name: &str, place: &str) -> UserError {
    let error =
        UserError::new("WEIR-0802", format!("unknown key {name}")).why(format!("in {place}"));
    match keys::suggest(name) {
        Some(known) => error.help(format!("did you mean {known}?")),
        None => error.help(SHOW),
    }
}

fn invalid(key: &Key, name: &str, fault: &str, place: &str) -> UserError {
    let example = key.kind.example().map(|text| format!("; for example {text}"));
    UserError::new("WEIR-0803", format!("{name}: {fault}"))
        .why(format!("in {place}"))
        .help(format!("{name} is {}{}", key.doc, example.unwrap_or_default()))
}

fn section(name: &str, inside: &[&str], place: &str) -> UserError {
    UserError::new("WEIR-0803", format!("{name} is a section, not a value"))
        .why(format!("in {place}"))
        .help(format!("it has keys such as {}", inside.join(", ")))
}

/// `Err` says what is wrong with the part of a name that the file chose.
fn check_name(name: &str) -> Result<(), String> {
    if let Some(pattern) = name.strip_prefix("routes.") {
        let prefix = pattern.strip_suffix('*').unwrap_or(pattern);
        return match prefix.contains('*') || prefix.is_empty() {
            true => Err("is no event type or prefix; a * stands at its end only".to_owned()),
            false => Ok(()),
        };
    }
    let listener = name.strip_prefix("broker.listeners.").and_then(|rest| rest.rsplit_once('.'));
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if let Some((listener, _)) = listener.filter(|(name, _)| !name.chars().all(legal)) {
        return Err(format!("the listener \"{listener}\" has more than letters, digits, _ and -"));
    }
    let topic = name.strip_prefix("topics.").and_then(|rest| rest.rsplit_once('.'));
    match topic {
        Some((topic, _)) => {
            shape::topic_name(topic).map_err(|fault| format!("the topic \"{topic}\" {fault}"))
        }
        None => Ok(()),
    }
}

/// A checked value without units of people: milliseconds, bytes, a plain list.
fn in_kafkas_unit(kind: Kind, value: &str) -> String {
    let number = match kind {
        Kind::Duration(..) | Kind::DurationOrNone(..) => parse_duration_ms(value),
        Kind::Bytes(..) | Kind::BytesOrNone(..) => parse_bytes(value),
        Kind::Rate => return parse_rate(value).map_or_else(String::new, |rate| rate.to_string()),
        Kind::Words(_) => {
            return value.split(',').map(str::trim).collect::<Vec<_>>().join(",");
        }
        _ => None,
    };
    // -1 is no number of either.
    number.map_or_else(|| value.trim().to_owned(), |number| number.to_string())
}

/// `Err` says what is wrong.
fn check(kind: Kind, value: &str) -> Result<(), String> {
    let is_not = |expected: &str| format!("\"{value}\" is not {expected}");
    let within = |parsed: Option<u64>, low: u64, high: u64, what: &str| match parsed {
        Some(n) if (low..=high).contains(&n) => Ok(()),
        _ => Err(is_not(&format!("{what} from {low} to {high}"))),
    };
    let quoted = |fault: String| format!("\"{value}\" {fault}");
    let or_none = |kind: Kind| match value.trim() {
        "-1" => Ok(()),
        _ => check(kind, value).map_err(|fault| format!("{fault}, nor -1 for no limit")),
    };
    match kind {
        Kind::Text if value.trim().is_empty() => Err("is empty".to_owned()),
        Kind::Text | Kind::List => Ok(()),
        Kind::Fields if value.split(',').any(|field| field.trim().is_empty()) => {
            Err(is_not("a list of field names"))
        }
        Kind::Fields => Ok(()),
        Kind::Address => {
            shape::address(value).map(|_| ()).ok_or_else(|| is_not("an IP address with a port"))
        }
        Kind::HostPort => shape::host_port(value).map(|_| ()).map_err(quoted),
        Kind::Brokers => shape::brokers(value).map(|_| ()),
        Kind::LogFilter => shape::log_filter(value),
        Kind::Topic => shape::topic_name(value).map_err(quoted),
        Kind::OneOf(words) if words.contains(&value) => Ok(()),
        Kind::OneOf(words) => Err(is_not(&format!("one of {}", words.join(", ")))),
        Kind::Bool if value == "true" || value == "false" => Ok(()),
        Kind::Bool => Err(is_not("true or false")),
        Kind::Count(low, high) => within(value.parse().ok(), low, high, "a whole number"),
        Kind::Duration(low, high) => {
            within(parse_duration_ms(value), low, high, "a duration such as 50ms or 10s, in ms")
        }
        Kind::Bytes(low, high) => {
            within(parse_bytes(value), low, high, "a size such as 16MiB, in bytes")
        }
        Kind::CountOrNone(low, high) => or_none(Kind::Count(low, high)),
        Kind::DurationOrNone(low, high) => or_none(Kind::Duration(low, high)),
        Kind::BytesOrNone(low, high) => or_none(Kind::Bytes(low, high)),
        Kind::Words(words) if value.split(',').all(|word| words.contains(&word.trim())) => Ok(()),
        Kind::Words(words) => Err(is_not(&format!("a list of {}", words.join(", ")))),
        Kind::Ratio => match value.trim().parse::<f64>() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(()),
            _ => Err(is_not("a number from 0 to 1")),
        },
        Kind::RatioTo(hundredths) => {
            let most = hundredths as f64 / 100.0;
            match value.trim().parse::<f64>() {
                Ok(ratio) if (0.0..=most).contains(&ratio) => Ok(()),
                _ => Err(is_not(&format!("a number from 0 to {most}"))),
            }
        }
        Kind::Rate => parse_rate(value).map(|_| ()).ok_or_else(|| {
            is_not("a size such as 16MiB, or a number above 0, in bytes per second")
        }),
    }
}

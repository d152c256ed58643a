//! The shapes of texts that mean something: addresses, broker lists, log filters, topic names.

use std::net::SocketAddr;

/// Longest topic name Kafka takes, in bytes.
const TOPIC_BYTES_MAX: usize = 249;
/// The name of the specification for the topic of log events.
const TOPIC_ALIASES: &[(&str, &str)] = &[("app_logs", "application-logs")];

/// `127.0.0.1:8084`, `[::1]:8084` or `localhost:8084`.
pub(super) fn address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}").parse().ok(),
        None => text.parse().ok(),
    }
}

/// Host and port of `kafka-1:9092` or `[::1]:9092`.
///
/// # Errors
/// What is wrong with it, to follow the text itself.
pub(crate) fn host_port(text: &str) -> Result<(String, u16), String> {
    let (host, port) = text.rsplit_once(':').ok_or("has no port")?;
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or("has a bracket that is not closed")?,
        None if host.contains(':') => return Err("has more than one colon".to_owned()),
        None => host,
    };
    if bare.is_empty() {
        return Err("has no host before the colon".to_owned());
    }
    let legal = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    if let Some(bad) = bare.chars().find(|c| !legal(*c)) {
        return Err(format!("has {bad:?} in its host"));
    }
    match port.parse() {
        Ok(0) | Err(_) => Err("has no port from 1 to 65535 after its colon".to_owned()),
        Ok(port) => Ok((bare.to_owned(), port)),
    }
}

/// The items of `kafka-1:9092,kafka-2:9092`.
///
/// # Errors
/// The item that is no `host:port`, and why.
pub(crate) fn brokers(text: &str) -> Result<Vec<String>, String> {
    if text.trim().is_empty() {
        return Err("names no broker".to_owned());
    }
    let check = |item: &str| match item {
        "" => Err("has an empty item: a comma too many".to_owned()),
        item => match host_port(item) {
            Ok(_) => Ok(item.to_owned()),
            Err(fault) => Err(format!("\"{item}\" {fault}")),
        },
    };
    text.split(',').map(|item| check(item.trim())).collect()
}

/// Checks `info`, or `info,weir_broker=debug`.
///
/// # Errors
/// The directive that is none. The filter's own parser would take a misspelt level for the name of
/// a module, and then log that module alone: nothing.
pub(super) fn log_filter(text: &str) -> Result<(), String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    let is_target = |word: &str| {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-');
        !word.is_empty() && word.chars().all(legal)
    };
    for directive in text.split(',').map(str::trim) {
        let fine = match directive.split_once('=') {
            Some((target, level)) => is_target(target.trim()) && is_level(level.trim()),
            None => is_level(directive),
        };
        if !fine {
            return Err(format!("\"{directive}\" is neither a level nor module=level"));
        }
    }
    Ok(())
}

/// Whether weir may write to a topic of this name.
///
/// # Errors
/// What is wrong with it, to follow the name itself. The rules are those of Kafka's `Topic.validate`;
/// names with two underscores before them are Kafka's own.
pub(crate) fn topic_name(name: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match name {
        "" => Err("is empty".to_owned()),
        "." | ".." => Err("is no name".to_owned()),
        name if name.len() > TOPIC_BYTES_MAX => {
            Err(format!("has {} bytes, {TOPIC_BYTES_MAX} are allowed", name.len()))
        }
        name if name.starts_with("__") => Err("is internal to Kafka".to_owned()),
        name => match name.chars().find(|c| !legal(*c)) {
            Some(bad) => Err(format!("has {bad:?} in it; letters, digits, . _ - are allowed")),
            None => Ok(()),
        },
    }
}

/// The topic that `name` means: itself, unless it is an alias.
pub(crate) fn topic_of_alias(name: &str) -> &str {
    TOPIC_ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, topic)| topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broker_lists_are_host_and_port_with_commas_and_nothing_else() {
        for good in ["a:1", "kafka-1:9092, kafka-2:65535", "[::1]:9092", "10.0.0.1:9092"] {
            assert!(brokers(good).is_ok(), "{good}: {:?}", brokers(good));
        }
        for (bad, fault) in [
            ("", "names no broker"),
            ("a", "has no port"),
            ("a:b:c", "more than one colon"),
            ("::1:9092", "more than one colon"),
            (":9092", "no host"),
            ("a:0", "no port from 1 to 65535"),
            ("a:65536", "no port from 1 to 65535"),
            ("a:-1", "no port from 1 to 65535"),
            ("a:9092,", "a comma too many"),
            ("a:9092,,b:9092", "a comma too many"),
            ("a b:9092", "' ' in its host"),
            ("http://a:9092", "more than one colon"),
            ("[::1:9092", "bracket"),
        ] {
            let error = brokers(bad).unwrap_err();
            assert!(error.contains(fault), "{bad}: {error}");
        }
    }

    #[test]
    fn a_misspelt_level_is_no_filter() {
        for good in ["info", "WARN", "info,weir_broker=debug", "off, weir::up=trace"] {
            assert_eq!(log_filter(good), Ok(()), "{good}");
        }
        for bad in
            ["", "verbose", "inof", "info,", "weir_broker", "weir=loud", "=debug", "a b=info"]
        {
            assert!(log_filter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn topic_names_follow_kafka() {
        for good in ["a", "drone-events", "app_logs", "a.b"] {
            assert_eq!(topic_name(good), Ok(()), "{good}");
        }
        let long = "x".repeat(250);
        for bad in ["", ".", "..", "a b", "a/b", "主题", "__consumer_offsets", long.as_str()] {
            assert!(topic_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn app_logs_means_application_logs() {
        assert_eq!(topic_of_alias("app_logs"), "application-logs");
        assert_eq!(topic_of_alias("drone-events"), "drone-events");
    }
}

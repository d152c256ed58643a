//! Event type to topic: a table, longest match first.

/// The built-in table. An entry ending in `.*` takes every type with that prefix.
const BUILT_IN: &[(&str, &str)] = &[
    ("drone.*", "drone-events"),
    ("emergency.*", "drone-events"),
    ("battery.*", "drone-events"),
    ("task.*", "task-events"),
    ("user.*", "user-events"),
    ("alert.*", "alert-events"),
    ("system.*", "system-events"),
    ("metric.*", "monitoring-data"),
    ("log.*", "application-logs"),
    ("sensor.*", "iot-sensor-data"),
    ("order.*", "order-events"),
    ("Order*", "order-events"),
];

/// Decides the topic of an event type.
#[derive(Debug, Clone)]
pub(crate) struct RouteTable {
    /// Prefix (or whole type) and topic, longest first, so that the first match is the nearest.
    prefixes: Vec<(String, String)>,
    exact: Vec<(String, String)>,
}

impl RouteTable {
    /// `extra` comes first: it may override the built-in table.
    pub(crate) fn new(extra: &[(String, String)]) -> Self {
        let mut table = Self { prefixes: Vec::new(), exact: Vec::new() };
        let built_in = BUILT_IN.iter().map(|(pattern, topic)| (*pattern, *topic));
        let extra = extra.iter().map(|(pattern, topic)| (pattern.as_str(), topic.as_str()));
        for (pattern, topic) in extra.chain(built_in) {
            match pattern.strip_suffix('*') {
                Some(prefix) => table.prefixes.push((prefix.to_owned(), topic.to_owned())),
                None => table.exact.push((pattern.to_owned(), topic.to_owned())),
            }
        }
        // Stable: at equal length the configured entry stays before the built-in one.
        table.prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        table
    }

    /// The topic of `event_type`; `None`: the type is unknown.
    pub(crate) fn topic(&self, event_type: &str) -> Option<&str> {
        let exact = self.exact.iter().find(|(name, _)| name == event_type);
        let found = exact.or_else(|| {
            self.prefixes.iter().find(|(prefix, _)| {
                event_type.strip_prefix(prefix.as_str()).is_some_and(|rest| !rest.is_empty())
            })
        });
        found.map(|(_, topic)| topic.as_str())
    }

    /// The known prefixes, for an error message.
    pub(crate) fn known(&self) -> String {
        let mut names: Vec<String> =
            self.prefixes.iter().map(|(prefix, _)| format!("{prefix}*")).collect();
        names.sort();
        names.dedup();
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_the_specification_have_their_topics() {
        let table = RouteTable::new(&[]);
        for (event_type, topic) in [
            ("drone.status.changed", Some("drone-events")),
            ("emergency.landing", Some("drone-events")),
            ("battery.low", Some("drone-events")),
            ("task.progress", Some("task-events")),
            ("user.login", Some("user-events")),
            ("alert.created", Some("alert-events")),
            ("metric.cpu", Some("monitoring-data")),
            ("log.line", Some("application-logs")),
            ("sensor.reading", Some("iot-sensor-data")),
            ("OrderCreated", Some("order-events")),
            ("drone.", None),
            ("drones.x", None),
            ("payment.made", None),
        ] {
            assert_eq!(table.topic(event_type), topic, "{event_type}");
        }
    }

    #[test]
    fn configured_route_overrides_and_the_longest_prefix_wins() {
        let extra = [("drone.*", "fleet"), ("drone.debug.*", "debug"), ("drone.debug.x", "x")];
        let extra = extra.map(|(pattern, topic)| (pattern.to_owned(), topic.to_owned()));
        let table = RouteTable::new(&extra);
        assert_eq!(table.topic("drone.heartbeat"), Some("fleet"));
        assert_eq!(table.topic("drone.debug.y"), Some("debug"));
        assert_eq!(table.topic("drone.debug.x"), Some("x"));
    }
}

//! DescribeClientQuotas, AlterClientQuotas: rates of users, clients and addresses, kept and told. Those of addresses are
//! enforced by the listener; the others not yet: nobody is slowed down, whatever they say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use weir_protocol::api::alter_client_quotas::{
    self, AlterClientQuotasRequest, AlterClientQuotasResponse, EntryDataResponse, OpData,
};
use weir_protocol::api::describe_client_quotas::{
    ComponentData, DescribeClientQuotasRequest, DescribeClientQuotasResponse, EntityData,
    EntryData, ValueData,
};
use weir_protocol::{ErrorCode, Str};

use crate::broker::{Broker, Step};
use crate::effects::Ticket;
use crate::request::Response;
use crate::settings::{ClusterSettings, SettingsChange};
use crate::topic_requests::Refused;

/// The quota of an address (KIP-612).
const CONNECTION_CREATION_RATE: &str = "connection_creation_rate";

const MATCH_EXACT: i8 = 0;
const MATCH_DEFAULT: i8 = 1;
const MATCH_SPECIFIED: i8 = 2;

/// How far from a whole number a rate may be, in Kafka's `ClientQuotaControlManager`.
const WHOLE_EPSILON: f64 = 1e-6;

/// What a part of an entity is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntityKind {
    /// `user`
    User,
    /// `client-id`
    ClientId,
    /// `ip`
    Ip,
}

impl EntityKind {
    /// Kafka's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::ClientId => "client-id",
            Self::Ip => "ip",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::User, Self::ClientId, Self::Ip].into_iter().find(|kind| kind.name() == name)
    }
}

/// Whose quota it is: a user, a client id, both, or an address. Without a name it is the default of its kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct QuotaEntity(BTreeMap<EntityKind, Option<String>>);

impl QuotaEntity {
    /// The entity of these kinds and names.
    ///
    /// # Errors
    /// What Kafka answers to a bad one.
    pub(crate) fn new(
        parts: impl IntoIterator<Item = (String, Option<String>)>,
    ) -> Result<Self, Refused> {
        let invalid = |words: String| (ErrorCode::InvalidRequest, words);
        let mut entity = BTreeMap::new();
        for (kind, name) in parts {
            let known = EntityKind::from_name(&kind)
                .ok_or_else(|| invalid(format!("Unhandled client quota entity type: {kind}")))?;
            if name.as_deref() == Some("") {
                return Err(invalid(format!("Empty {kind} not supported")));
            }
            let name = name.map(|name| match known {
                EntityKind::Ip => canonical(&name),
                EntityKind::User | EntityKind::ClientId => name,
            });
            entity.insert(known, name);
        }
        if entity.is_empty() {
            return Err(invalid("Invalid empty client quota entity".to_owned()));
        }
        if entity.len() > 1 && entity.contains_key(&EntityKind::Ip) {
            let words = "Invalid quota entity combination, IP entity should not be combined with User or ClientId";
            return Err(invalid(words.to_owned()));
        }
        if let Some(Some(address)) = entity.get(&EntityKind::Ip) {
            if !is_address(address) {
                let words = format!("{address} is not a valid IP or resolvable host.");
                return Err(invalid(words));
            }
        }
        Ok(Self(entity))
    }

    /// An address, or the default of all.
    fn of_address(address: Option<IpAddr>) -> Self {
        let name = address.map(|address| address.to_string());
        Self(BTreeMap::from([(EntityKind::Ip, name)]))
    }

    /// Its kinds and names.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (EntityKind, &Option<String>)> {
        self.0.iter().map(|(kind, name)| (*kind, name))
    }

    /// Memory that its names take.
    pub(crate) fn len_bytes(&self) -> usize {
        self.0.values().flatten().map(String::len).sum()
    }
}

/// Whether it is an address, or may be the name of a host. Names are not looked up: the core asks no network.
fn is_address(text: &str) -> bool {
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let last = text.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    text.parse::<IpAddr>().is_ok()
        || (text.bytes().all(is_name_byte) && !last.is_empty() && !is_number(last))
}

/// An address has many spellings, one of which stands for it here. A name stays what it is.
fn canonical(text: &str) -> String {
    let address = text.parse::<IpAddr>();
    address.map_or_else(|_| text.to_owned(), |address| address.to_canonical().to_string())
}

impl ClusterSettings {
    /// How many connections per second may come from an address: its own quota, or the default of all, which does not
    /// count for loopback (`BrokerConfig::connections_per_ip_max` says why).
    #[must_use]
    pub fn connection_rate_of(&self, address: IpAddr) -> Option<f64> {
        let quotas = self.quotas();
        if quotas.is_empty() {
            return None;
        }
        let rate = |address| {
            quotas.get(&QuotaEntity::of_address(address))?.get(CONNECTION_CREATION_RATE).copied()
        };
        let default = || if address.is_loopback() { None } else { rate(None) };
        rate(Some(address)).or_else(default)
    }
}

/// Kafka's `QuotaConfig`: what each key may be set to.
fn check_value(entity: &QuotaEntity, key: &str, value: f64) -> Result<(), Refused> {
    let invalid = |words: String| Err((ErrorCode::InvalidRequest, words));
    let is_ip = entity.0.contains_key(&EntityKind::Ip);
    let whole_max = match (key, is_ip) {
        ("producer_byte_rate" | "consumer_byte_rate", false) => Some((i64::MAX as f64, "a LONG")),
        ("request_percentage" | "controller_mutation_rate", false) => None,
        (CONNECTION_CREATION_RATE, true) => Some((f64::from(i32::MAX), "an INT")),
        _ => return invalid(format!("Invalid configuration key {key}")),
    };
    if !value.is_finite() || value <= 0.0 {
        return invalid(format!("Quota {key} must be greater than 0"));
    }
    if let Some((max, kind)) = whole_max {
        if value > max {
            return invalid(format!("Proposed value for {key} is too large for {kind}."));
        }
        if (value - (value + WHOLE_EPSILON).floor()).abs() > WHOLE_EPSILON {
            return invalid(format!("{key} cannot be a fractional value."));
        }
    }
    Ok(())
}

/// A component of a filter.
struct Component {
    kind: EntityKind,
    wanted: Wanted,
}

enum Wanted {
    Name(Str),
    Default,
    Any,
}

impl Component {
    fn new(data: &ComponentData) -> Result<Self, Refused> {
        let invalid = |words: &str| Err((ErrorCode::InvalidRequest, words.to_owned()));
        if data.entity_type.is_empty() {
            return invalid("Invalid empty entity type.");
        }
        let wanted = match (data.match_type, &data.r#match) {
            (MATCH_EXACT, Some(name)) if data.entity_type == EntityKind::Ip.name() => {
                Wanted::Name(canonical(name).into())
            }
            (MATCH_EXACT, Some(name)) => Wanted::Name(name.clone()),
            (MATCH_EXACT, None) => {
                return invalid("Request specified MATCH_TYPE_EXACT, but set match string to null.")
            }
            (MATCH_DEFAULT, None) => Wanted::Default,
            (MATCH_DEFAULT, Some(_)) => {
                return invalid(
                    "Request specified MATCH_TYPE_DEFAULT, but also specified a match string.",
                )
            }
            (MATCH_SPECIFIED, None) => Wanted::Any,
            (MATCH_SPECIFIED, Some(_)) => {
                return invalid(
                    "Request specified MATCH_TYPE_SPECIFIED, but also specified a match string.",
                )
            }
            (other, _) => return invalid(&format!("Unknown match type {other}")),
        };
        let kind = EntityKind::from_name(&data.entity_type).ok_or_else(|| {
            let words = format!("Unsupported entity type {}", data.entity_type);
            (ErrorCode::UnsupportedVersion, words)
        })?;
        Ok(Self { kind, wanted })
    }

    fn matches(&self, entity: &QuotaEntity) -> bool {
        match (entity.0.get(&self.kind), &self.wanted) {
            (Some(Some(name)), Wanted::Name(wanted)) => *name == **wanted,
            (Some(None), Wanted::Default) | (Some(_), Wanted::Any) => true,
            _ => false,
        }
    }
}

fn components(request: &DescribeClientQuotasRequest) -> Result<Vec<Component>, Refused> {
    let invalid = |words: String| Err((ErrorCode::InvalidRequest, words));
    let mut seen = BTreeSet::new();
    let mut components = Vec::with_capacity(request.components.len());
    for data in &request.components {
        let component = Component::new(data)?;
        if !seen.insert(component.kind) {
            let kind = component.kind.name();
            return invalid(format!(
                "Entity type {kind} cannot appear more than once in the filter."
            ));
        }
        components.push(component);
    }
    if seen.len() > 1 && seen.contains(&EntityKind::Ip) {
        let words = "Invalid entity filter component combination. IP filter component should not be used with user or \
                     clientId filter component.";
        return invalid(words.to_owned());
    }
    Ok(components)
}

impl Broker {
    pub(crate) fn describe_client_quotas(&self, request: &DescribeClientQuotasRequest) -> Step {
        let components = match components(request) {
            Ok(components) => components,
            Err((error, words)) => {
                return Step::Answer(Response::DescribeClientQuotas(DescribeClientQuotasResponse {
                    throttle_time_ms: 0,
                    error_code: error.code(),
                    error_message: Some(words.into()),
                    entries: None,
                }))
            }
        };
        let matches = |entity: &QuotaEntity| {
            (!request.strict || entity.0.len() == components.len())
                && components.iter().all(|component| component.matches(entity))
        };
        let entries = self.settings.quotas().iter().filter(|(entity, _)| matches(entity));
        let entries = entries.map(|(entity, values)| EntryData {
            entity: entity
                .parts()
                .map(|(kind, name)| EntityData {
                    entity_type: Str::from_static(kind.name()),
                    entity_name: name.as_deref().map(Str::copy_from),
                })
                .collect(),
            values: values
                .iter()
                .map(|(key, value)| ValueData { key: Str::copy_from(key), value: *value })
                .collect(),
        });
        Step::Answer(Response::DescribeClientQuotas(DescribeClientQuotasResponse {
            entries: Some(entries.collect()),
            ..DescribeClientQuotasResponse::default()
        }))
    }

    pub(crate) fn alter_client_quotas(
        &mut self,
        ticket: Ticket,
        request: &AlterClientQuotasRequest,
    ) -> Step {
        let entity = |entry: &alter_client_quotas::EntryData| {
            QuotaEntity::new(entry.entity.iter().map(|part| {
                (part.entity_type.to_string(), part.entity_name.as_ref().map(Str::to_string))
            }))
        };
        let entities: Vec<_> = request.entries.iter().map(entity).collect();
        let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
        for entity in entities.iter().flatten() {
            if !seen.insert(entity) {
                twice.insert(entity.clone());
            }
        }
        let mut is_staged = false;
        let allowed = self.check_names(request.entries.len());
        let mut entries = Vec::with_capacity(request.entries.len());
        for (entry, entity) in request.entries.iter().zip(entities) {
            let outcome = entity.and_then(|entity| match twice.contains(&entity) {
                _ if allowed.is_err() => allowed.clone().map(|()| false),
                true => Err(duplicate()),
                false => self.alter_quotas(entity, &entry.ops, request.validate_only),
            });
            is_staged |= outcome == Ok(true);
            let (error, words) = match outcome {
                Ok(_) => (ErrorCode::None, None),
                Err((error, words)) => (error, Some(words.into())),
            };
            entries.push(EntryDataResponse {
                error_code: error.code(),
                error_message: words,
                entity: entry.entity.clone(),
            });
        }
        let response = AlterClientQuotasResponse { throttle_time_ms: 0, entries };
        let response = Response::AlterClientQuotas(response);
        self.answer_staged(ticket, response, is_staged)
    }

    /// Stages what an entry changes. Whether it is anything.
    fn alter_quotas(
        &mut self,
        entity: QuotaEntity,
        ops: &[OpData],
        validate_only: bool,
    ) -> Result<bool, Refused> {
        let before = self.settings.quotas().get(&entity).cloned().unwrap_or_default();
        let mut values = before.clone();
        let mut seen = BTreeSet::new();
        for op in ops {
            if !seen.insert(&op.key) {
                return Err(duplicate());
            }
            if op.remove {
                values.remove(&*op.key);
                continue;
            }
            check_value(&entity, &op.key, op.value)?;
            values.insert(op.key.to_string(), op.value);
        }
        if validate_only || values == before {
            return Ok(false);
        }
        self.stage_settings(SettingsChange::Quotas { entity, values })
    }
}

fn duplicate() -> Refused {
    let words = "An entity or a key appears more than once in the request.".to_owned();
    (ErrorCode::InvalidRequest, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(parts: &[(&str, Option<&str>)]) -> Result<QuotaEntity, Refused> {
        let part =
            |(kind, name): &(&str, Option<&str>)| ((*kind).to_owned(), name.map(str::to_owned));
        QuotaEntity::new(parts.iter().map(part))
    }

    #[test]
    fn entities_are_users_clients_both_or_addresses() {
        assert!(entity(&[("user", Some("a")), ("client-id", None)]).is_ok());
        for address in ["127.0.0.1", "::1", "localhost", "a-1.example.org", "host."] {
            assert!(entity(&[("ip", Some(address))]).is_ok(), "{address}");
        }
        for bad in [
            &[][..],
            &[("user", Some(""))],
            &[("planet", Some("a"))],
            &[("ip", None), ("user", None)],
            &[("ip", Some("300.1.1.1"))],
            &[("ip", Some("no host"))],
        ] {
            let (error, words) = entity(bad).unwrap_err();
            assert_eq!(error, ErrorCode::InvalidRequest, "{bad:?}: {words}");
        }
    }

    #[test]
    fn an_address_has_its_own_rate_or_that_of_all_however_it_is_spelled() {
        let mut settings = ClusterSettings::default();
        let mut set = |name: Option<&str>, rate: f64| {
            let entity = entity(&[("ip", name)]).unwrap();
            let values = BTreeMap::from([(CONNECTION_CREATION_RATE.to_owned(), rate)]);
            settings.apply(&SettingsChange::Quotas { entity, values });
            settings.clone()
        };
        let rate = |settings: &ClusterSettings, address: &str| {
            settings.connection_rate_of(address.parse().unwrap())
        };
        let own = set(Some("2001:db8:0:0:0:0:0:7"), 5.0);
        assert_eq!(rate(&own, "2001:db8::7"), Some(5.0));
        assert_eq!((rate(&own, "10.0.0.1"), rate(&own, "127.0.0.1")), (None, None));
        let all = set(None, 2.0);
        assert_eq!((rate(&all, "2001:db8::7"), rate(&all, "10.0.0.1")), (Some(5.0), Some(2.0)));
        assert_eq!(rate(&all, "127.0.0.1"), None, "the default is not for this machine");
        assert_eq!(rate(&set(Some("127.0.0.1"), 9.0), "127.0.0.1"), Some(9.0));
    }

    #[test]
    fn values_are_checked_by_key_and_entity() {
        let user = entity(&[("user", None)]).unwrap();
        let ip = entity(&[("ip", None)]).unwrap();
        let fine = |entity: &QuotaEntity, key: &str, value: f64| {
            assert_eq!(check_value(entity, key, value), Ok(()), "{key}={value}");
        };
        let bad = |entity: &QuotaEntity, key: &str, value: f64| {
            assert!(check_value(entity, key, value).is_err(), "{key}={value}");
        };
        fine(&user, "producer_byte_rate", 1024.0);
        fine(&user, "request_percentage", 0.5);
        fine(&user, "controller_mutation_rate", 2.5);
        fine(&ip, "connection_creation_rate", 10.0);
        for value in [0.0, -1.0, 1.5, 1e30, f64::NAN, f64::INFINITY] {
            bad(&user, "producer_byte_rate", value);
        }
        bad(&ip, "connection_creation_rate", 3e9);
        bad(&user, "connection_creation_rate", 10.0);
        bad(&ip, "producer_byte_rate", 10.0);
        bad(&user, "no_such_rate", 10.0);
    }
}

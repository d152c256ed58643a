//! What the configuration says of who may connect to the embedded broker, and of how weir connects to a cluster.

use std::collections::BTreeSet;
use std::path::PathBuf;

use weir_broker::security::{
    ClientAuth, ListenerConfig, SaslMechanism, SecurityProtocol, TlsConfig,
};

use super::load::Values;
use super::settings::{bytes, duration, missing, number};
use super::shape;
use crate::error::{Outcome, UserError};

const LISTENERS: &str = "broker.listeners.";
const USERS: &str = "broker.users.";

/// Listeners, users and limits of the embedded broker.
#[derive(Debug, Clone)]
pub(crate) struct BrokerSecurity {
    pub(crate) listeners: Vec<ListenerConfig>,
    pub(crate) users: Vec<UserSettings>,
    pub(crate) connections_max: usize,
    pub(crate) connections_per_ip_max: Option<usize>,
    pub(crate) connection_creation_rate_max: Option<u32>,
    pub(crate) connections_max_idle_ms: u64,
    pub(crate) connections_max_reauth_ms: Option<u64>,
    pub(crate) authentication_timeout_ms: u64,
    pub(crate) failed_authentication_delay_ms: u64,
    pub(crate) request_bytes_max: usize,
    pub(crate) request_bytes_total_max: usize,
}

/// How weir connects to a cluster.
#[derive(Debug, Clone)]
pub(crate) struct KafkaSecurity {
    protocol: SecurityProtocol,
    mechanism: weir_client::SaslMechanism,
    username: Option<String>,
    password: Option<PasswordSource>,
    ca_file: Option<PathBuf>,
    /// The certificate and its key.
    certificate: Option<(PathBuf, PathBuf)>,
}

/// A user, and where its password is. The password itself is read when it is needed and kept nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserSettings {
    pub(crate) name: String,
    pub(crate) password: PasswordSource,
}

/// Where a password is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PasswordSource {
    /// The first line of this file.
    File(PathBuf),
    /// This environment variable.
    Variable(String),
}

impl BrokerSecurity {
    pub(super) fn from_values(values: &Values) -> Outcome<Self> {
        Ok(Self {
            listeners: names(values, LISTENERS)
                .iter()
                .map(|name| listener(values, name))
                .collect::<Outcome<_>>()?,
            users: names(values, USERS)
                .iter()
                .map(|name| user(values, name))
                .collect::<Outcome<_>>()?,
            connections_max: number(values, "broker.connections_max")?,
            connections_per_ip_max: values
                .count("broker.connections_per_ip_max")
                .and_then(|count| usize::try_from(count).ok()),
            connection_creation_rate_max: values
                .count("broker.connection_creation_rate_max")
                .and_then(|count| u32::try_from(count).ok()),
            connections_max_idle_ms: duration(values, "broker.connections_max_idle")?,
            connections_max_reauth_ms: values.duration_ms("broker.connections_max_reauth"),
            authentication_timeout_ms: duration(values, "broker.authentication_timeout")?,
            failed_authentication_delay_ms: duration(values, "broker.failed_authentication_delay")?,
            request_bytes_max: bytes(values, "broker.request_bytes_max")?,
            request_bytes_total_max: bytes(values, "broker.request_bytes_total_max")?,
        })
    }
}

impl KafkaSecurity {
    pub(crate) fn from_values(values: &Values) -> Outcome<Self> {
        let protocol = values.get("kafka.security_protocol").and_then(SecurityProtocol::from_name);
        let mechanism =
            values.get("kafka.sasl_mechanism").and_then(weir_client::SaslMechanism::from_name);
        let file = |name: &str| values.get(name).map(PathBuf::from);
        let certificate = match (file("kafka.ssl_certificate_file"), file("kafka.ssl_key_file")) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate, key)),
            _ => {
                return Err(incomplete(
                    "kafka has one of ssl_certificate_file and ssl_key_file".to_owned(),
                )
                .help("give both, or neither"))
            }
        };
        let password =
            match (values.get("kafka.sasl_password_file"), values.get("kafka.sasl_password_env")) {
                (None, None) => None,
                (Some(file), None) => Some(PasswordSource::File(file.into())),
                (None, Some(variable)) => Some(PasswordSource::Variable(variable.to_owned())),
                _ => {
                    return Err(incomplete("kafka has two passwords".to_owned())
                        .help("give it sasl_password_file or sasl_password_env, not both"))
                }
            };
        let security = Self {
            protocol: protocol.ok_or_else(|| missing("kafka.security_protocol"))?,
            mechanism: mechanism.ok_or_else(|| missing("kafka.sasl_mechanism"))?,
            username: values.get("kafka.sasl_username").map(str::to_owned),
            password,
            ca_file: file("kafka.ssl_ca_file"),
            certificate,
        };
        let name = security.protocol.name();
        let has_name = security.username.is_some() && security.password.is_some();
        if security.protocol.has_sasl() && !has_name {
            return Err(incomplete(format!(
                "kafka.security_protocol is {name}, and nobody is named"
            ))
            .help(
                "add kafka.sasl_username, and kafka.sasl_password_file or kafka.sasl_password_env",
            ));
        }
        Ok(security)
    }

    /// What the client is told; reads the password.
    pub(crate) fn resolve(&self) -> Outcome<weir_client::Security> {
        let tls = self.protocol.has_tls().then(|| weir_client::TlsSettings {
            ca_file: self.ca_file.clone(),
            certificate: self.certificate.clone().map(|(certificate_file, key_file)| {
                weir_client::ClientCertificate { certificate_file, key_file }
            }),
        });
        let sasl = match (&self.username, &self.password) {
            (Some(username), Some(password)) if self.protocol.has_sasl() => {
                let password = password.read("weir at the cluster (kafka.sasl_password_*)")?;
                Some(weir_client::SaslSettings {
                    mechanism: self.mechanism,
                    username: username.clone(),
                    password: weir_client::Password::new(password),
                })
            }
            _ => None,
        };
        Ok(weir_client::Security { tls, sasl })
    }
}

/// What stands for `*` in the keys under a prefix that are set.
fn names(values: &Values, prefix: &str) -> BTreeSet<String> {
    let names = values.iter().filter_map(|(key, ..)| {
        let (name, _) = key.strip_prefix(prefix)?.rsplit_once('.')?;
        Some(name.to_owned())
    });
    names.collect()
}

fn listener(values: &Values, name: &str) -> Outcome<ListenerConfig> {
    let get = |field: &str| values.get(&format!("{LISTENERS}{name}.{field}"));
    let need = |field: &str| {
        get(field).ok_or_else(|| {
            incomplete(format!("the listener \"{name}\" has no {field}"))
                .help(format!("add {LISTENERS}{name}.{field}"))
        })
    };
    let listen = shape::address(need("listen")?).ok_or_else(|| missing("listen"))?;
    let protocol = SecurityProtocol::from_name(need("security_protocol")?)
        .ok_or_else(|| missing("security_protocol"))?;
    let advertised = get("advertised").map(shape::host_port).transpose();
    let mechanisms = values.list(&format!("{LISTENERS}{name}.sasl_mechanisms"));
    let sasl_mechanisms: Vec<SaslMechanism> =
        mechanisms.iter().filter_map(|name| SaslMechanism::from_name(name)).collect();
    let tls_fields =
        ["ssl_certificate_file", "ssl_key_file", "ssl_client_ca_file", "ssl_client_auth"];
    let tls = match protocol.has_tls() || tls_fields.iter().any(|field| get(field).is_some()) {
        false => None,
        true => Some(TlsConfig {
            certificate_file: need("ssl_certificate_file")?.into(),
            key_file: need("ssl_key_file")?.into(),
            client_ca_file: get("ssl_client_ca_file").map(PathBuf::from),
            client_auth: match get("ssl_client_auth") {
                Some("required") => ClientAuth::Required,
                Some("requested") => ClientAuth::Requested,
                _ => ClientAuth::None,
            },
        }),
    };
    let listener = ListenerConfig {
        name: name.to_owned(),
        listen,
        advertised: advertised.map_err(|_| missing("advertised"))?,
        protocol,
        sasl_mechanisms,
        tls,
    };
    listener.check().map_err(|fault| {
        incomplete(format!("the listener \"{name}\" {fault}"))
            .help(format!("see {LISTENERS}{name} in the configuration"))
    })?;
    Ok(listener)
}

fn user(values: &Values, name: &str) -> Outcome<UserSettings> {
    let get = |field: &str| values.get(&format!("{USERS}{name}.{field}"));
    let password = match (get("password_file"), get("password_env")) {
        (Some(file), None) => PasswordSource::File(file.into()),
        (None, Some(variable)) => PasswordSource::Variable(variable.to_owned()),
        _ => {
            return Err(incomplete(format!("the user \"{name}\" has two passwords"))
                .help(format!("give {USERS}{name} a password_file or a password_env, not both")))
        }
    };
    Ok(UserSettings { name: name.to_owned(), password })
}

fn incomplete(what: String) -> UserError {
    UserError::new("WEIR-0831", what)
}

impl PasswordSource {
    /// Reads it.
    pub(crate) fn read(&self, whose: &str) -> Outcome<String> {
        let failed = |why: String| {
            UserError::new("WEIR-0830", format!("the password of {whose} cannot be read"))
                .why(why)
                .help("passwords are not written into the configuration: name a file that holds one, or a variable")
        };
        let (text, place) = match self {
            Self::File(file) => (
                std::fs::read_to_string(file)
                    .map_err(|error| failed(format!("{}: {error}", file.display())))?,
                file.display().to_string(),
            ),
            Self::Variable(name) => (
                std::env::var(name).map_err(|error| failed(format!("{name}: {error}")))?,
                name.clone(),
            ),
        };
        match text.lines().next() {
            Some(line) if !line.is_empty() => Ok(line.to_owned()),
            _ => Err(failed(format!("{place} is empty"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn values(yaml: &str) -> Values {
        let mut values = Values::load(None, []).unwrap();
        values.add_yaml(Path::new("weir.yaml"), yaml).unwrap();
        values
    }

    const NETWORK: &str = "broker: {listeners: {net: {listen: '0.0.0.0:9093', \
         security_protocol: SASL_SSL, sasl_mechanisms: [SCRAM-SHA-512, PLAIN], \
         ssl_certificate_file: c.pem, ssl_key_file: c.key, advertised: 'edge:9093'}}}";

    #[test]
    fn a_listener_is_read_with_all_it_has() {
        let security = BrokerSecurity::from_values(&values(NETWORK)).unwrap();
        let [listener] = &security.listeners[..] else { panic!("{:?}", security.listeners) };
        assert_eq!((&*listener.name, listener.listen.port()), ("net", 9093));
        assert_eq!(listener.advertised, Some(("edge".to_owned(), 9093)));
        assert_eq!(listener.protocol, SecurityProtocol::SaslSsl);
        let mechanisms: Vec<&str> = listener.sasl_mechanisms.iter().map(|one| one.name()).collect();
        assert_eq!(mechanisms, ["SCRAM-SHA-512", "PLAIN"]);
        assert_eq!(listener.tls.as_ref().unwrap().client_auth, ClientAuth::None);
        assert_eq!(security.connections_per_ip_max, None);
        assert_eq!(security.connection_creation_rate_max, None);
        let yaml = "broker: {connections_per_ip_max: 7, connection_creation_rate_max: 90, connections_max_reauth: 1h}";
        let security = BrokerSecurity::from_values(&values(yaml)).unwrap();
        assert_eq!(security.connection_creation_rate_max, Some(90));
        assert_eq!(security.connections_per_ip_max, Some(7));
        assert_eq!(security.connections_max_reauth_ms, Some(3_600_000));
    }

    #[test]
    fn what_is_not_complete_is_refused_by_its_name() {
        for (old, new, word) in [
            ("security_protocol: SASL_SSL, ", "", "security_protocol"),
            ("listen: '0.0.0.0:9093', ", "", "no listen"),
            ("ssl_key_file: c.key, ", "", "ssl_key_file"),
            ("sasl_mechanisms: [SCRAM-SHA-512, PLAIN], ", "", "mechanism"),
            ("SASL_SSL", "PLAINTEXT", "no TLS"),
            ("ssl_key_file", "ssl_client_auth: required, ssl_key_file", "authorities"),
        ] {
            let yaml = NETWORK.replace(old, new);
            let error = BrokerSecurity::from_values(&values(&yaml)).unwrap_err();
            let text = format!("{error:?}");
            assert!(text.contains("WEIR-0831") && text.contains(word), "{yaml}: {text}");
        }
        for yaml in [
            "broker: {users: {ann: {password_file: a, password_env: B}}}",
            "kafka: {security_protocol: SASL_SSL}",
            "kafka: {security_protocol: SASL_SSL, sasl_username: a}",
            "kafka: {sasl_password_file: a, sasl_password_env: b}",
            "kafka: {ssl_key_file: a}",
        ] {
            let values = values(yaml);
            let read = BrokerSecurity::from_values(&values).map(|_| ());
            let both = read.and_then(|()| KafkaSecurity::from_values(&values).map(|_| ()));
            assert!(format!("{:?}", both.unwrap_err()).contains("WEIR-0831"), "{yaml}");
        }
    }

    #[test]
    fn a_password_is_the_first_line_of_its_file_and_never_empty() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        let source = PasswordSource::File(file.clone());
        assert!(source.read("ann").is_err(), "no file");
        std::fs::write(&file, "s3cret \nnot this\n").unwrap();
        assert_eq!(source.read("ann").unwrap(), "s3cret ");
        std::fs::write(&file, "\n").unwrap();
        assert!(source.read("ann").is_err());
        let yaml = format!(
            "kafka: {{security_protocol: SASL_SSL, sasl_username: ann, sasl_password_file: {}}}",
            file.display()
        );
        std::fs::write(&file, "s3cret").unwrap();
        let kafka = KafkaSecurity::from_values(&values(&yaml)).unwrap();
        let security = kafka.resolve().unwrap();
        assert!(security.tls.is_some() && security.sasl.is_some());
        assert!(!format!("{security:?} {kafka:?}").contains("s3cret"));
    }
}

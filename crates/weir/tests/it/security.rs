//! weir's client on weir's broker, with TLS and logins: the two sides that must understand each other, and each of which is
//! also tested against others.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_broker::security::{
    ClientAuth, ConfiguredUser, ListenerConfig, SaslMechanism, Secret, SecurityProtocol, TlsConfig,
};
use weir_broker::{BrokerConfig, BrokerServer};
use weir_client::admin::NewTopic;
use weir_client::transport::Connecting;
use weir_client::{
    Admin, Client, ClientCertificate, ClientConfig, ClientError, Password, Producer,
    ProducerConfig, Record, SaslSettings, Security, SystemClock, TlsSettings, TlsTransport,
    Transport,
};
use weir_protocol::scram::ScramMechanism;
use weir_protocol::Offset;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../weir-broker/tests/tls").join(name)
}

struct Broker {
    server: BrokerServer,
    _directory: tempfile::TempDir,
}

impl Broker {
    /// With one listener of this kind beside the open one.
    async fn start(
        protocol: SecurityProtocol,
        client_auth: ClientAuth,
        session_ms_max: Option<u64>,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mechanisms = [SaslMechanism::Plain, SaslMechanism::Scram(ScramMechanism::Sha512)];
        let listener = ListenerConfig {
            name: "network".to_owned(),
            listen: "127.0.0.1:0".parse().unwrap(),
            advertised: None,
            protocol,
            sasl_mechanisms: if protocol.has_sasl() { mechanisms.to_vec() } else { Vec::new() },
            tls: protocol.has_tls().then(|| TlsConfig {
                certificate_file: file("server.pem"),
                key_file: file("server.key"),
                client_ca_file: (client_auth != ClientAuth::None).then(|| file("ca.pem")),
                client_auth,
            }),
        };
        let ann = ConfiguredUser { name: "ann".to_owned(), password: Secret::new("s3cret") };
        let config = BrokerConfig {
            data_dir: directory.path().to_owned(),
            listen: "127.0.0.1:0".parse().unwrap(),
            listeners: vec![listener],
            users: vec![ann],
            session_ms_max,
            ..BrokerConfig::default()
        };
        let server = BrokerServer::start(config, Arc::new(SystemClock)).await.unwrap();
        Self { server, _directory: directory }
    }

    async fn connect(&self, security: Security) -> Result<Arc<Client>, ClientError> {
        let (_, address, _) = self.server.listeners().nth(1).unwrap();
        let config = ClientConfig { security, ..ClientConfig::new([address.to_string()]) };
        Client::connect_tcp(config).await
    }
}

fn trusting(authority: &str) -> TlsSettings {
    TlsSettings { ca_file: Some(file(authority)), certificate: None }
}

fn login(mechanism: &str, password: &str) -> SaslSettings {
    SaslSettings {
        mechanism: weir_client::SaslMechanism::from_name(mechanism).unwrap(),
        username: "ann".to_owned(),
        password: Password::new(password),
    }
}

#[tokio::test]
async fn the_client_logs_in_by_every_mechanism_over_tls() {
    let broker = Broker::start(SecurityProtocol::SaslSsl, ClientAuth::None, None).await;
    let tls = Some(trusting("ca.pem"));
    for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
        let security = Security { tls: tls.clone(), sasl: Some(login(mechanism, "s3cret")) };
        let client = broker.connect(security).await.unwrap();
        assert_eq!(Admin::new(client).describe_cluster().await.unwrap().brokers.len(), 1);
        let security = Security { tls: tls.clone(), sasl: Some(login(mechanism, "wrong")) };
        let begun = Instant::now();
        let refused = broker.connect(security).await.unwrap_err();
        assert!(matches!(refused, ClientError::Authentication { .. }), "{refused}");
        assert!(!refused.is_retriable() && begun.elapsed() < Duration::from_secs(5));
    }
    let sasl = Some(login("SCRAM-SHA-256", "s3cret"));
    let refused = broker.connect(Security { tls: tls.clone(), sasl }).await.unwrap_err();
    assert!(refused.to_string().contains("it offers PLAIN, SCRAM-SHA-512"), "{refused}");
    let refused = broker.connect(Security { tls, sasl: None }).await.unwrap_err();
    assert!(refused.is_retriable(), "a broker that closes may be any: {refused}");
    broker.server.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_client_trusts_no_strange_broker_and_shows_its_certificate() {
    let broker = Broker::start(SecurityProtocol::Ssl, ClientAuth::Required, None).await;
    let ours =
        ClientCertificate { certificate_file: file("client.pem"), key_file: file("client.key") };
    let with = |authority: &str, certificate: Option<&ClientCertificate>| Security {
        tls: Some(TlsSettings { certificate: certificate.cloned(), ..trusting(authority) }),
        sasl: None,
    };
    broker.connect(with("ca.pem", Some(&ours))).await.unwrap();
    let refused = broker.connect(with("other-ca.pem", Some(&ours))).await.unwrap_err();
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
    broker.connect(with("ca.pem", None)).await.unwrap_err();
    broker.connect(Security::default()).await.unwrap_err();
    let missing = broker.connect(with("missing.pem", None)).await.unwrap_err();
    assert!(matches!(missing, ClientError::Config { key: "ssl_ca_file", .. }), "{missing}");
    broker.server.shutdown().await.unwrap();
}

/// Counts connections.
#[derive(Debug)]
struct Counting {
    inner: TlsTransport,
    connects: AtomicUsize,
}

impl Transport for Counting {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> Connecting<'a> {
        self.connects.fetch_add(1, Ordering::Relaxed);
        self.inner.connect(host, port)
    }
}

/// Sessions of a second: the producer renews its own again and again between its batches, on the same connection.
#[tokio::test]
async fn a_session_is_renewed_while_records_flow() {
    let broker = Broker::start(SecurityProtocol::SaslSsl, ClientAuth::None, Some(1_200)).await;
    let (_, address, _) = broker.server.listeners().nth(1).unwrap();
    let sasl = Some(login("SCRAM-SHA-512", "s3cret"));
    let security = Security { tls: Some(trusting("ca.pem")), sasl };
    let config = ClientConfig { security, ..ClientConfig::new([address.to_string()]) };
    let inner = TlsTransport::new(&trusting("ca.pem")).unwrap();
    let transport = Arc::new(Counting { inner, connects: AtomicUsize::new(0) });
    let client =
        Client::connect(config, Arc::clone(&transport) as Arc<dyn Transport>).await.unwrap();
    let admin = Admin::new(Arc::clone(&client));
    admin.create_topics(&[NewTopic::new("t", 1)]).await.unwrap().remove(0).unwrap();
    let producer = Producer::new(Arc::clone(&client), ProducerConfig::default()).unwrap();
    let first = producer.send_wait(Record::new("t", b"x")).await.unwrap().await.unwrap();
    assert_eq!(first.offset, Some(Offset(0)));
    let connects = transport.connects.load(Ordering::Relaxed);
    let begun = Instant::now();
    let mut sent = 1;
    while begun.elapsed() < Duration::from_secs(5) {
        let mut deliveries = Vec::new();
        for _ in 0..20 {
            deliveries.push(producer.send_wait(Record::new("t", b"x")).await.unwrap());
        }
        for delivery in deliveries {
            assert_eq!(delivery.await.unwrap().offset, Some(Offset(sent)));
            sent += 1;
        }
    }
    assert_eq!(transport.connects.load(Ordering::Relaxed), connects, "a session has ended");
    producer.close(Duration::from_secs(5)).await.unwrap();
    broker.server.shutdown().await.unwrap();
}

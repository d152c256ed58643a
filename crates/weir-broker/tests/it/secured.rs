//! Listeners with TLS and SASL, over sockets: who is let in, and what those who are not can do.

#![allow(clippy::disallowed_methods)] // Deadlines of tests that wait for a real server.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, RootCertStore, SupportedProtocolVersion};
use tokio_rustls::TlsConnector;
use weir_broker::security::{
    ClientAuth, ConfiguredUser, ListenerConfig, SaslMechanism, Secret, SecurityProtocol, TlsConfig,
};
use weir_broker::{BrokerConfig, BrokerError, BrokerServer};
use weir_log::{Disk, FileDisk, MemDisk};
use weir_protocol::api::alter_user_scram_credentials::{
    AlterUserScramCredentialsRequest, ScramCredentialDeletion, ScramCredentialUpsertion,
};
use weir_protocol::api::api_versions::ApiVersionsRequest;
use weir_protocol::api::describe_user_scram_credentials::{
    DescribeUserScramCredentialsRequest, UserName,
};
use weir_protocol::api::metadata::MetadataRequest;
use weir_protocol::api::sasl_authenticate::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use weir_protocol::api::sasl_handshake::SaslHandshakeRequest;
use weir_protocol::scram::{ClientFinal, ClientFirst, ClientProof, ScramMechanism, ServerFirst};
use weir_protocol::Str;

use crate::server::{ask, config, receive, send, start_on_disk};

const SHA_256: ScramMechanism = ScramMechanism::Sha256;
const SHA_512: ScramMechanism = ScramMechanism::Sha512;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

fn tls(client_auth: ClientAuth) -> TlsConfig {
    TlsConfig {
        certificate_file: file("server.pem"),
        key_file: file("server.key"),
        client_ca_file: (client_auth != ClientAuth::None).then(|| file("ca.pem")),
        client_auth,
    }
}

fn listener(protocol: SecurityProtocol) -> ListenerConfig {
    ListenerConfig {
        name: "network".to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
        advertised: None,
        protocol,
        sasl_mechanisms: match protocol.has_sasl() {
            true => vec![
                SaslMechanism::Plain,
                SaslMechanism::Scram(SHA_256),
                SaslMechanism::Scram(SHA_512),
            ],
            false => Vec::new(),
        },
        tls: protocol.has_tls().then(|| tls(ClientAuth::None)),
    }
}

fn secured(listener: ListenerConfig) -> BrokerConfig {
    let ann = ConfiguredUser { name: "ann".to_owned(), password: Secret::new("s3cret") };
    BrokerConfig { listeners: vec![listener], users: vec![ann], ..config() }
}

async fn start(config: BrokerConfig) -> BrokerServer {
    start_on_disk(Arc::new(MemDisk::new()), config).await
}

/// A connection to the second listener.
async fn connect(server: &BrokerServer) -> TcpStream {
    let (_, address, _) = server.listeners().nth(1).unwrap();
    TcpStream::connect(address).await.unwrap()
}

fn connector(
    certificate: Option<&str>,
    version: &'static SupportedProtocolVersion,
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let config = match certificate {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let chain = CertificateDer::from_pem_file(file(&format!("{name}.pem"))).unwrap();
            let key = PrivateKeyDer::from_pem_file(file(&format!("{name}.key"))).unwrap();
            builder.with_client_auth_cert(vec![chain], key).unwrap()
        }
    };
    TlsConnector::from(Arc::new(config))
}

async fn connect_tls(server: &BrokerServer) -> TlsStream<TcpStream> {
    let stream = connect(server).await;
    let name = ServerName::try_from("localhost").unwrap();
    connector(None, &rustls::version::TLS13).connect(name, stream).await.unwrap()
}

/// Whether the other side ends the connection, with how many bytes before.
async fn ends(stream: &mut (impl AsyncRead + Unpin)) -> usize {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest));
    // A reset ends it too.
    let _ = read.await.expect("it ends in time");
    rest.len()
}

async fn handshake(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    mechanism: &'static str,
) -> i16 {
    let request = SaslHandshakeRequest { mechanism: mechanism.into() };
    ask(stream, 1, &request).await.error_code
}

async fn token(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    token: impl Into<Vec<u8>>,
) -> SaslAuthenticateResponse {
    let request = SaslAuthenticateRequest { auth_bytes: Bytes::from(token.into()) };
    ask(stream, 2, &request).await
}

async fn plain(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    user: &str,
    password: &str,
) -> SaslAuthenticateResponse {
    assert_eq!(handshake(stream, "PLAIN").await, 0);
    token(stream, format!("\0{user}\0{password}")).await
}

async fn scram(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    mechanism: ScramMechanism,
    user: &str,
    password: &str,
) -> i16 {
    assert_eq!(handshake(stream, mechanism.name()).await, 0);
    let bare = ClientFirst::write_bare(user, "nonce");
    let answer = token(stream, format!("n,,{bare}")).await;
    let first = String::from_utf8(answer.auth_bytes.to_vec()).unwrap();
    let server = ServerFirst::parse(first.as_bytes()).unwrap();
    let without_proof = ClientFinal::write_without_proof(server.nonce);
    let signed = [&*bare, ",", &*first, ",", &*without_proof].map(str::as_bytes);
    let salted = mechanism.salted_password(password.as_bytes(), &server.salt, server.iterations);
    let proof = ClientProof::new(mechanism, &salted, &signed);
    token(stream, ClientFinal::write(&without_proof, &proof.proof)).await.error_code
}

async fn is_served(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let answer = ask(stream, 12, &MetadataRequest::default()).await;
    assert_eq!(answer.brokers.len(), 1);
}

fn upsert(user: &str, mechanism: ScramMechanism, password: &str) -> ScramCredentialUpsertion {
    let salted = mechanism.salted_password(password.as_bytes(), b"salt", 4_096);
    ScramCredentialUpsertion {
        name: Str::copy_from(user),
        mechanism: mechanism.code(),
        iterations: 4_096,
        salt: Bytes::from_static(b"salt"),
        salted_password: Bytes::from(salted),
    }
}

#[tokio::test]
async fn tls_1_2_and_1_3_carry_requests_and_large_answers() {
    let server = start(secured(listener(SecurityProtocol::Ssl))).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let name = ServerName::try_from("localhost").unwrap();
        let stream = connect(&server).await;
        let mut stream = connector(None, version).connect(name, stream).await.unwrap();
        let answer = ask(&mut stream, 12, &MetadataRequest::default()).await;
        let (_, address, _) = server.listeners().nth(1).unwrap();
        assert_eq!(answer.brokers[0].port, i32::from(address.port()), "its own listener");
        // More answers than a socket's buffer holds: TLS must hand on what it kept back.
        for id in 0..2_000 {
            send(&mut stream, id, 3, &ApiVersionsRequest::default()).await;
        }
        for id in 0..2_000 {
            assert_eq!(receive::<ApiVersionsRequest>(&mut stream, 3).await.0, id);
        }
    }
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_certificate_is_asked_for_as_configured() {
    for (client_auth, certificate, is_in) in [
        (ClientAuth::None, None, true),
        (ClientAuth::Requested, None, true),
        (ClientAuth::Requested, Some("client"), true),
        (ClientAuth::Requested, Some("stranger"), false),
        (ClientAuth::Required, None, false),
        (ClientAuth::Required, Some("client"), true),
        (ClientAuth::Required, Some("stranger"), false),
    ] {
        let asking =
            ListenerConfig { tls: Some(tls(client_auth)), ..listener(SecurityProtocol::Ssl) };
        let server = start(secured(asking)).await;
        let name = ServerName::try_from("localhost").unwrap();
        let stream = connect(&server).await;
        let connector = connector(certificate, &rustls::version::TLS13);
        let mut stream = connector.connect(name, stream).await.unwrap();
        if is_in {
            is_served(&mut stream).await;
        } else {
            assert_eq!(ends(&mut stream).await, 0, "{client_auth:?} {certificate:?}");
        }
        server.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn who_speaks_another_protocol_is_closed_at_once() {
    let server = start(secured(listener(SecurityProtocol::Ssl))).await;
    let begun = Instant::now();
    let mut stream = connect(&server).await;
    send(&mut stream, 1, 3, &ApiVersionsRequest::default()).await;
    ends(&mut stream).await;
    let mut stream = crate::server::connect(&server).await;
    // The beginning of a ClientHello.
    stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await.unwrap();
    assert_eq!(ends(&mut stream).await, 0);
    assert!(begun.elapsed() < Duration::from_secs(5));
    is_served(&mut connect_tls(&server).await).await;
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn every_mechanism_lets_in_who_knows_the_password() {
    let server = start(secured(listener(SecurityProtocol::SaslSsl))).await;
    let mut stream = connect_tls(&server).await;
    assert_eq!(plain(&mut stream, "ann", "s3cret").await.error_code, 0);
    is_served(&mut stream).await;
    for mechanism in ScramMechanism::ALL {
        let mut stream = connect_tls(&server).await;
        assert_eq!(scram(&mut stream, mechanism, "ann", "s3cret").await, 0);
        is_served(&mut stream).await;
        for (user, password) in [("ann", "wrong"), ("bob", "s3cret")] {
            let mut stream = connect_tls(&server).await;
            let begun = Instant::now();
            assert_eq!(scram(&mut stream, mechanism, user, password).await, 58);
            assert!(begun.elapsed() >= Duration::from_millis(100), "guessing takes time");
            assert_eq!(ends(&mut stream).await, 0);
        }
    }
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn nothing_but_a_login_is_answered_before_it() {
    let server = start(secured(listener(SecurityProtocol::SaslPlaintext))).await;
    let mut stream = connect(&server).await;
    ask(&mut stream, 3, &ApiVersionsRequest::default()).await;
    send(&mut stream, 1, 12, &MetadataRequest::default()).await;
    assert_eq!(ends(&mut stream).await, 0);
    let mut stream = connect(&server).await;
    assert_eq!(handshake(&mut stream, "GSSAPI").await, 33);
    assert_eq!(ends(&mut stream).await, 0);
    let mut stream = connect(&server).await;
    handshake(&mut stream, "PLAIN").await;
    assert_eq!(handshake(&mut stream, "PLAIN").await, 34);
    assert_eq!(ends(&mut stream).await, 0);
    // Where there is no login there is nothing to log in to.
    let mut open = crate::server::connect(&server).await;
    assert_eq!(handshake(&mut open, "PLAIN").await, 34);
    assert_eq!(token(&mut open, "\0ann\0s3cret").await.error_code, 34);
    is_served(&mut open).await;
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn tokens_of_old_clients_have_no_headers() {
    let server = start(secured(listener(SecurityProtocol::SaslPlaintext))).await;
    let mut stream = connect(&server).await;
    ask(&mut stream, 0, &SaslHandshakeRequest { mechanism: "PLAIN".into() }).await;
    let bare = b"\0ann\0s3cret";
    stream.write_i32(bare.len() as i32).await.unwrap();
    stream.write_all(bare).await.unwrap();
    assert_eq!(stream.read_i32().await.unwrap(), 0, "an empty token");
    is_served(&mut stream).await;
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_session_that_is_not_renewed_ends() {
    let config = BrokerConfig {
        session_ms_max: Some(300),
        ..secured(listener(SecurityProtocol::SaslPlaintext))
    };
    let server = start(config).await;
    let mut stream = connect(&server).await;
    assert_eq!(plain(&mut stream, "ann", "s3cret").await.session_lifetime_ms, 300);
    assert_eq!(plain(&mut stream, "ann", "s3cret").await.error_code, 0, "renewed");
    let begun = Instant::now();
    loop {
        send(&mut stream, 1, 12, &MetadataRequest::default()).await;
        let mut len = [0; 4];
        match tokio::time::timeout(Duration::from_secs(20), stream.read_exact(&mut len)).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => break,
            Err(_) => panic!("no answer"),
        }
        let mut body = vec![0; u32::from_be_bytes(len) as usize];
        stream.read_exact(&mut body).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10), "the session goes on");
    }
    assert!(begun.elapsed() >= Duration::from_millis(250));
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn users_that_clients_make_log_in_and_outlive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let config = BrokerConfig {
        data_dir: directory.path().join("data"),
        ..secured(listener(SecurityProtocol::SaslPlaintext))
    };
    let file_disk = || Arc::new(FileDisk) as Arc<dyn Disk>;
    let server = start_on_disk(file_disk(), config.clone()).await;
    let mut admin = crate::server::connect(&server).await;
    let upsertions = vec![upsert("bob", SHA_512, "h1dden"), upsert("ann", SHA_256, "changed")];
    let request = AlterUserScramCredentialsRequest { upsertions, ..Default::default() };
    let answer = ask(&mut admin, 0, &request).await;
    assert!(answer.results.iter().all(|result| result.error_code == 0), "{answer:?}");
    let check = async |server: &BrokerServer| {
        let mut stream = connect(server).await;
        assert_eq!(scram(&mut stream, SHA_512, "bob", "h1dden").await, 0);
        let mut stream = connect(server).await;
        assert_eq!(scram(&mut stream, SHA_256, "bob", "h1dden").await, 58, "not that mechanism");
        let mut stream = connect(server).await;
        assert_eq!(scram(&mut stream, SHA_256, "ann", "s3cret").await, 58, "it was changed");
        let mut stream = connect(server).await;
        assert_eq!(scram(&mut stream, SHA_256, "ann", "changed").await, 0);
    };
    check(&server).await;
    server.shutdown().await.unwrap();
    let path = directory.path().join("data/weir-scram-users");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("h1dden") && text.contains("bob"), "{text}");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let server = start_on_disk(file_disk(), config).await;
    check(&server).await;
    let mut admin = crate::server::connect(&server).await;
    let deletions = vec![ScramCredentialDeletion { name: "bob".into(), mechanism: 2 }];
    let request = AlterUserScramCredentialsRequest { deletions, ..Default::default() };
    assert_eq!(ask(&mut admin, 0, &request).await.results[0].error_code, 0);
    let mut stream = connect(&server).await;
    assert_eq!(scram(&mut stream, SHA_512, "bob", "h1dden").await, 58);
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn scram_users_are_altered_and_described_as_by_kafka() {
    let server = start(config()).await;
    let mut admin = crate::server::connect(&server).await;
    let mut alter = async |deletions, upsertions| {
        let request = AlterUserScramCredentialsRequest { deletions, upsertions };
        let answer = ask(&mut admin, 0, &request).await;
        let of = |result: &weir_protocol::api::alter_user_scram_credentials::AlterUserScramCredentialsResult| {
            (result.user.to_string(), result.error_code)
        };
        answer.results.iter().map(of).collect::<Vec<_>>()
    };
    let with = |iterations, mechanism| ScramCredentialUpsertion {
        iterations,
        mechanism,
        ..upsert("ann", SHA_256, "p")
    };
    let gone = |name: &str| ScramCredentialDeletion { name: Str::copy_from(name), mechanism: 1 };
    let ann = |code| vec![("ann".to_owned(), code)];
    assert_eq!(alter(vec![], vec![with(4_095, 1)]).await, ann(93));
    assert_eq!(alter(vec![], vec![with(16_385, 1)]).await, ann(93));
    assert_eq!(alter(vec![], vec![with(4_096, 3)]).await, ann(33));
    assert_eq!(alter(vec![], vec![with(4_096, 1), with(4_096, 2)]).await, ann(92));
    assert_eq!(alter(vec![gone("ann")], vec![]).await, ann(91));
    assert_eq!(alter(vec![], vec![upsert("", SHA_256, "p")]).await, [(String::new(), 93)]);
    assert_eq!(alter(vec![], vec![with(8_192, 1)]).await, ann(0));
    assert_eq!(alter(vec![], vec![with(4_096, 2), upsert("bob", SHA_512, "p")]).await.len(), 2);
    let mut describe = async |names: Option<Vec<&str>>| {
        let users = names.map(|names| {
            names.iter().map(|name| UserName { name: Str::copy_from(name) }).collect()
        });
        ask(&mut admin, 0, &DescribeUserScramCredentialsRequest { users }).await.results
    };
    let all = describe(None).await;
    assert_eq!(all.len(), 2);
    let infos: Vec<_> =
        all[0].credential_infos.iter().map(|one| (one.mechanism, one.iterations)).collect();
    assert_eq!((&*all[0].user, infos), ("ann", vec![(1, 8_192), (2, 4_096)]));
    let some = describe(Some(vec!["bob", "zoe", "bob"])).await;
    let codes: Vec<_> = some.iter().map(|one| (one.user.to_string(), one.error_code)).collect();
    assert_eq!(codes, [("bob".to_owned(), 92), ("zoe".to_owned(), 91)]);
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_address_that_others_reach_needs_a_login_or_a_word() {
    let open: Vec<ListenerConfig> =
        [SecurityProtocol::Plaintext, SecurityProtocol::Ssl, SecurityProtocol::SaslPlaintext]
            .map(|protocol| ListenerConfig {
                listen: "0.0.0.0:0".parse().unwrap(),
                ..listener(protocol)
            })
            .into();
    for listener in open {
        let config = secured(listener);
        let refused = BrokerServer::check(&config).unwrap_err();
        assert!(matches!(refused, BrokerError::InsecureListen { .. }), "{refused}");
        let allowed = BrokerConfig { insecure_listen: true, ..config };
        BrokerServer::check(&allowed).unwrap();
        start(allowed).await.shutdown().await.unwrap();
    }
    let listen = "0.0.0.0:0".parse().unwrap();
    let closed = secured(ListenerConfig { listen, ..listener(SecurityProtocol::SaslSsl) });
    BrokerServer::check(&closed).unwrap();
}

#[tokio::test]
async fn files_that_are_no_certificate_are_named() {
    for (certificate, key) in [
        ("missing.pem", "server.key"),
        ("server.key", "server.key"),
        ("server.pem", "client.key"),
        ("server.pem", "server.pem"),
    ] {
        let tls = TlsConfig {
            certificate_file: file(certificate),
            key_file: file(key),
            ..tls(ClientAuth::None)
        };
        let bad = ListenerConfig { tls: Some(tls), ..listener(SecurityProtocol::Ssl) };
        let error = BrokerServer::check(&secured(bad)).unwrap_err();
        assert_eq!(error.code(), "WEIR-0310", "{certificate} {key}: {error}");
    }
}

#[tokio::test]
async fn a_certificate_that_changes_is_taken_while_connections_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| {
        for (from, to) in [("pem", "c.pem"), ("key", "c.key")] {
            std::fs::copy(file(&format!("{name}.{from}")), directory.path().join(to)).unwrap();
        }
    };
    place("server");
    let tls = TlsConfig {
        certificate_file: directory.path().join("c.pem"),
        key_file: directory.path().join("c.key"),
        ..tls(ClientAuth::None)
    };
    let server =
        start(secured(ListenerConfig { tls: Some(tls), ..listener(SecurityProtocol::Ssl) })).await;
    let certificate = |stream: &TlsStream<TcpStream>| {
        stream.get_ref().1.peer_certificates().unwrap()[0].as_ref().to_vec()
    };
    let mut before = connect_tls(&server).await;
    let old = certificate(&before);
    // Half of it: the old one stays.
    std::fs::write(directory.path().join("c.key"), "nothing").unwrap();
    place("server-2");
    let deadline = Instant::now() + Duration::from_secs(30);
    while certificate(&connect_tls(&server).await) == old {
        assert!(Instant::now() < deadline, "the new certificate is not taken");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    is_served(&mut before).await;
    server.shutdown().await.unwrap();
}

/// Nobody who is not in can hold a place, memory or the time of others.
#[tokio::test]
async fn who_does_not_log_in_is_closed_in_time() {
    let config = BrokerConfig {
        authentication_ms_max: 1_500,
        ..secured(listener(SecurityProtocol::SaslSsl))
    };
    let server = start(config).await;
    let mut known = connect_tls(&server).await;
    plain(&mut known, "ann", "s3cret").await;
    let begun = Instant::now();
    let mut silent = connect(&server).await;
    let mut shaken = connect_tls(&server).await;
    let mut asking = connect_tls(&server).await;
    handshake(&mut asking, "PLAIN").await;
    // Half a frame.
    let mut trickling = connect_tls(&server).await;
    trickling.write_all(&[0, 0, 1, 0, 0]).await.unwrap();
    trickling.flush().await.unwrap();
    assert_eq!(ends(&mut silent).await, 0);
    assert_eq!(ends(&mut shaken).await, 0);
    assert_eq!(ends(&mut asking).await, 0);
    assert_eq!(ends(&mut trickling).await, 0);
    assert!(begun.elapsed() < Duration::from_secs(10));
    is_served(&mut known).await;
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn requests_before_a_login_are_small() {
    let server = start(secured(listener(SecurityProtocol::SaslPlaintext))).await;
    let mut stream = connect(&server).await;
    stream.write_i32((64 << 10) + 1).await.unwrap();
    assert_eq!(ends(&mut stream).await, 0);
    // Once in, the usual bound holds.
    let mut stream = connect(&server).await;
    plain(&mut stream, "ann", "s3cret").await;
    let topic = weir_protocol::api::metadata::MetadataRequestTopic {
        name: Some("x".repeat(30_000).into()),
        ..Default::default()
    };
    let large = MetadataRequest { topics: Some(vec![topic; 40]), ..Default::default() };
    assert!(ask(&mut stream, 12, &large).await.topics.len() <= 40);
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_request_that_trickles_is_cut_and_others_go_on() {
    let config = BrokerConfig { request_read_ms_max: 500, ..config() };
    let server = start(config).await;
    let mut other = crate::server::connect(&server).await;
    let (mut reading, mut writing) = crate::server::connect(&server).await.into_split();
    let begun = Instant::now();
    let trickle = tokio::spawn(async move {
        let _ = writing.write_all(&1_000_i32.to_be_bytes()).await;
        // Never still for long.
        while writing.write_all(&[0]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert_eq!(ends(&mut reading).await, 0);
    assert!(begun.elapsed() < Duration::from_secs(10));
    trickle.abort();
    is_served(&mut other).await;
    server.shutdown().await.unwrap();
}

/// Connections that ask and do not log in make room; one that has logged in keeps its place.
#[tokio::test]
async fn a_flood_of_strangers_takes_no_place_of_who_is_known() {
    let config =
        BrokerConfig { connections_max: 8, ..secured(listener(SecurityProtocol::SaslPlaintext)) };
    let server = start(config).await;
    let mut known = connect(&server).await;
    plain(&mut known, "ann", "s3cret").await;
    is_served(&mut known).await;
    let mut strangers = Vec::new();
    for _ in 0..7 {
        let mut stranger = connect(&server).await;
        ask(&mut stranger, 3, &ApiVersionsRequest::default()).await;
        strangers.push(stranger);
    }
    // Newcomers get in as soon as a stranger has had its second.
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut newcomer = loop {
        let mut stream = connect(&server).await;
        send(&mut stream, 1, 1, &SaslHandshakeRequest { mechanism: "PLAIN".into() }).await;
        let answer = tokio::time::timeout(Duration::from_secs(1), stream.read_i32()).await;
        if matches!(answer, Ok(Ok(_))) {
            break stream;
        }
        assert!(Instant::now() < deadline, "no room is made");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let mut rest = vec![0; 64];
    let _ = newcomer.read(&mut rest).await.unwrap();
    assert_eq!(token(&mut newcomer, "\0ann\0s3cret").await.error_code, 0);
    is_served(&mut known).await;
    server.shutdown().await.unwrap();
}

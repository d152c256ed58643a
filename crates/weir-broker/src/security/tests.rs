use super::*;

fn listener(address: &str, protocol: SecurityProtocol) -> ListenerConfig {
    let tls = protocol.has_tls().then(|| TlsConfig {
        certificate_file: "c".into(),
        key_file: "k".into(),
        client_ca_file: None,
        client_auth: ClientAuth::None,
    });
    let mechanism = SaslMechanism::Scram(ScramMechanism::Sha256);
    ListenerConfig {
        name: "n".to_owned(),
        listen: address.parse().unwrap(),
        advertised: None,
        protocol,
        sasl_mechanisms: if protocol.has_sasl() { vec![mechanism] } else { Vec::new() },
        tls,
    }
}

#[test]
fn only_who_must_say_who_they_are_may_come_from_elsewhere() {
    for (protocol, is_exposed) in [
        (SecurityProtocol::Plaintext, true),
        (SecurityProtocol::Ssl, true),
        (SecurityProtocol::SaslPlaintext, false),
        (SecurityProtocol::SaslSsl, false),
    ] {
        assert_eq!(SecurityProtocol::from_name(protocol.name()), Some(protocol));
        assert!(listener("127.0.0.1:1", protocol).exposure().is_none());
        assert!(listener("[::1]:1", protocol).exposure().is_none());
        assert_eq!(listener("0.0.0.0:1", protocol).exposure().is_some(), is_exposed);
    }
    let mut plain = listener("10.0.0.1:1", SecurityProtocol::SaslPlaintext);
    plain.sasl_mechanisms.push(SaslMechanism::Plain);
    assert!(plain.exposure().is_some(), "a password that everybody can read");
    let mut certified = listener("10.0.0.1:1", SecurityProtocol::Ssl);
    for (client_auth, is_exposed) in [(ClientAuth::Requested, true), (ClientAuth::Required, false)]
    {
        certified.tls.as_mut().unwrap().client_auth = client_auth;
        assert_eq!(certified.exposure().is_some(), is_exposed);
    }
}

#[test]
fn a_listener_that_contradicts_itself_is_refused() {
    let all = SecurityProtocol::NAMES.map(|(_, protocol)| listener("127.0.0.1:1", protocol));
    assert!(all.iter().all(|listener| listener.check().is_ok()));
    let [plaintext, ssl, sasl, both] = all;
    let mut bad = ssl.clone();
    bad.tls = None;
    assert!(bad.check().is_err());
    let mut bad = plaintext.clone();
    bad.tls = ssl.tls.clone();
    assert!(bad.check().is_err());
    let mut bad = both.clone();
    bad.sasl_mechanisms.clear();
    assert!(bad.check().is_err());
    let mut bad = plaintext;
    bad.sasl_mechanisms = sasl.sasl_mechanisms;
    assert!(bad.check().is_err());
    let mut certified = ssl;
    certified.tls.as_mut().unwrap().client_auth = ClientAuth::Required;
    assert!(certified.check().is_err());
    certified.tls.as_mut().unwrap().client_ca_file = Some("ca".into());
    assert!(certified.check().is_ok());
    certified.tls.as_mut().unwrap().client_auth = ClientAuth::None;
    assert!(certified.check().is_err(), "authorities that nobody is asked for");
}

#[test]
fn a_secret_is_not_printed() {
    let user = ConfiguredUser { name: "ann".to_owned(), password: Secret::new("s3cret") };
    let text = format!("{user:?}");
    assert!(!text.contains("s3cret") && text.contains("ann"), "{text}");
}

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use proptest::prelude::*;

use super::*;

const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_FIRST: &str =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const WITHOUT_PROOF: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";

/// Both sides of one exchange of `pencil`'s owner.
fn check(mechanism: ScramMechanism, proof: &str, signature: &str) {
    let first = ClientFirst::parse(CLIENT_FIRST.as_bytes()).unwrap();
    let server = ServerFirst::parse(SERVER_FIRST.as_bytes()).unwrap();
    let signed = [first.bare, ",", SERVER_FIRST, ",", WITHOUT_PROOF].map(str::as_bytes);
    let salted = mechanism.salted_password(b"pencil", &server.salt, server.iterations);
    let client = ClientProof::new(mechanism, &salted, &signed);
    assert_eq!(STANDARD.encode(&client.proof), proof);
    let salt = server.salt.clone();
    let kept = ScramCredential::from_password(mechanism, b"pencil", salt, server.iterations);
    assert!(kept.is_proved(&signed, &client.proof));
    assert_eq!(STANDARD.encode(kept.server_signature(&signed)), signature);
    assert!(client.is_from_server(&kept.server_signature(&signed)));
    for at in 0..client.proof.len() {
        let mut wrong = client.proof.clone();
        wrong[at] ^= 1;
        assert!(!kept.is_proved(&signed, &wrong), "byte {at}");
    }
    assert!(!kept.is_proved(&signed, b""));
    assert!(!kept.is_proved(&signed[..4], &client.proof));
}

/// The example of RFC 7677, section 3.
#[test]
fn the_example_of_the_rfc_holds() {
    let proof = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let signature = "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
    check(ScramMechanism::Sha256, proof, signature);
}

/// The same with SHA-512, of which there is no RFC; figures of Python's hashlib and hmac.
#[test]
fn sha_512_agrees_with_python() {
    check(ScramMechanism::Sha512, PROOF_512, SIGNATURE_512);
}

const PROOF_512: &str =
    "gMGXRcevScNtxZ6/8lQYpGtnsNAc3mGcmNomv+xnoOMw+3R2xNJdMNnzMlTN8PPC6wdp6dybEmDYXYTxwnYPJQ==";
const SIGNATURE_512: &str =
    "ZQnYEgWQMFmmsM8aQMF0nDDCy/AgCzkwk8CmMZYcMg0vSVlKDanekLtifDSeVGT4+5ZxXnJq199RVG2rR7N7Zw==";

#[test]
fn messages_are_written_as_they_are_read() {
    let bare = ClientFirst::write_bare("a=b,c", "xyz");
    assert_eq!(bare, "n=a=3Db=2Cc,r=xyz");
    let message = format!("n,,{bare}");
    let first = ClientFirst::parse(message.as_bytes()).unwrap();
    assert_eq!((first.username.as_str(), first.nonce, first.bare), ("a=b,c", "xyz", &*bare));
    assert_eq!((first.gs2_header, first.authorization_id), ("n,,", None));
    let message = ServerFirst::write("xyz123", b"salt", 4096);
    let server = ServerFirst::parse(message.as_bytes()).unwrap();
    assert_eq!((server.nonce, &*server.salt, server.iterations), ("xyz123", &b"salt"[..], 4096));
    let without_proof = ClientFinal::write_without_proof("xyz123");
    let message = ClientFinal::write(&without_proof, b"proof");
    let last = ClientFinal::parse(message.as_bytes()).unwrap();
    assert_eq!((&*last.channel_binding, last.nonce), (&b"n,,"[..], "xyz123"));
    assert_eq!((&*last.proof, last.without_proof), (&b"proof"[..], &*without_proof));
    let message = ServerFinal::write(b"sig");
    assert_eq!(ServerFinal::parse(message.as_bytes()), Ok(ServerFinal::Signature(b"sig".to_vec())));
    let refused = ServerFinal::Error("invalid-proof".to_owned());
    assert_eq!(ServerFinal::parse(b"e=invalid-proof"), Ok(refused));
}

#[test]
fn an_authorization_id_and_extensions_are_read() {
    let first = ClientFirst::parse(b"y,a=some=2Cone,n=u,r=n,tokenauth=true").unwrap();
    assert_eq!(first.authorization_id.as_deref(), Some("some,one"));
    assert_eq!((first.gs2_header, first.username.as_str()), ("y,a=some=2Cone,", "u"));
}

#[test]
fn what_is_no_message_is_refused_with_its_reason() {
    for (bytes, error) in [
        ("", ScramError::Attribute("channel flag")),
        ("x,,n=u,r=n", ScramError::Attribute("channel flag")),
        ("p=tls-unique,,n=u,r=n", ScramError::ChannelBinding),
        ("n,n=u,r=n", ScramError::Attribute("authorization id")),
        ("n,a=,n=u,r=n", ScramError::Attribute("authorization id")),
        ("n,,m=x,n=u,r=n", ScramError::MandatoryExtension),
        ("n,,n=,r=n", ScramError::Attribute("user name")),
        ("n,,n=u=2,r=n", ScramError::Attribute("user name")),
        ("n,,n=u=2c,r=n", ScramError::Attribute("user name")),
        ("n,,n=u", ScramError::Attribute("nonce")),
        ("n,,n=u,r=", ScramError::Attribute("nonce")),
        ("n,,n=u,r=a b", ScramError::Attribute("nonce")),
    ] {
        assert_eq!(ClientFirst::parse(bytes.as_bytes()), Err(error), "{bytes}");
    }
    assert_eq!(ClientFirst::parse(b"n,,n=\xff,r=n"), Err(ScramError::NotText));
    let long = vec![b'n'; MESSAGE_BYTES_MAX + 1];
    assert_eq!(ClientFirst::parse(&long), Err(ScramError::TooLong));
    for bytes in ["r=n,s=c2FsdA==,i=0", "r=n,s=c2FsdA==,i=-1", "r=n,s=!,i=4096", "r=n,i=4096"] {
        assert!(ServerFirst::parse(bytes.as_bytes()).is_err(), "{bytes}");
    }
    for bytes in ["c=biws,r=n", "c=biws,r=n,p=!", "r=n,p=cA==", "c=biws,p=cA==", "p=cA=="] {
        assert!(ClientFinal::parse(bytes.as_bytes()).is_err(), "{bytes}");
    }
    for bytes in ["", "v=", "v=!", "x=1"] {
        assert_eq!(ServerFinal::parse(bytes.as_bytes()).is_err(), bytes != "v=", "{bytes}");
    }
}

#[test]
fn keys_are_not_printed() {
    let kept = ScramCredential::from_password(ScramMechanism::Sha256, b"p", vec![115; 4], 4096);
    let text = format!("{kept:?}");
    assert_eq!(text, "ScramCredential { mechanism: Sha256, iterations: 4096, .. }");
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = ClientFirst::parse(&bytes);
        let _ = ServerFirst::parse(&bytes);
        let _ = ClientFinal::parse(&bytes);
        let _ = ServerFinal::parse(&bytes);
    }

    #[test]
    fn almost_messages_never_panic(text in "[npy]?,?(a=)?[a=2CD3,]{0,6},?[mnrscipve=,a-c]{0,40}") {
        let _ = ClientFirst::parse(text.as_bytes());
        let _ = ServerFirst::parse(text.as_bytes());
        let _ = ClientFinal::parse(text.as_bytes());
        let _ = ServerFinal::parse(text.as_bytes());
    }

    #[test]
    fn any_name_comes_back(name in "[^\u{0}]{1,40}", nonce in "[!-+--~]{1,40}") {
        let message = format!("n,,{}", ClientFirst::write_bare(&name, &nonce));
        let read = ClientFirst::parse(message.as_bytes()).unwrap();
        prop_assert_eq!((read.username, read.nonce), (name, nonce.as_str()));
    }
}

use proptest::prelude::*;
use weir_protocol::api::metadata::MetadataRequest;
use weir_protocol::scram::ScramMechanism;

use super::super::sasl::tests::{Client, Known, SEVENS};
use super::*;

fn options(session_ms_max: Option<u64>) -> SaslOptions {
    let scram = SaslMechanism::Scram(ScramMechanism::Sha256);
    SaslOptions { mechanisms: vec![scram, SaslMechanism::Plain], session_ms_max }
}

struct Login {
    authenticator: Authenticator,
    users: Known,
    now_ms: u64,
}

impl Login {
    fn new(session_ms_max: Option<u64>) -> Self {
        let users = Known::new(&[("ann", "s3cret"), ("bob", "h1dden")]);
        Self { authenticator: Authenticator::new(options(session_ms_max)), users, now_ms: 1_000 }
    }

    fn ask(&mut self, version: i16, request: &Request) -> Verdict {
        let context = Context { users: &self.users, random: SEVENS, now_ms: self.now_ms };
        self.authenticator.request(version, request, &context)
    }

    fn raw(&mut self, token: &[u8]) -> RawVerdict {
        let context = Context { users: &self.users, random: SEVENS, now_ms: self.now_ms };
        self.authenticator.raw_token(token, &context)
    }

    fn plain(&mut self, user: &str, password: &str) -> Verdict {
        let shaken = self.ask(1, &handshake("PLAIN"));
        assert_eq!(error_of(&shaken), Some(0), "{shaken:?}");
        self.ask(2, &token(format!("\0{user}\0{password}").as_bytes()))
    }
}

fn handshake(mechanism: &str) -> Request {
    let mechanism = Str::copy_from(mechanism);
    Request::SaslHandshake(Box::new(SaslHandshakeRequest { mechanism }))
}

fn token(bytes: &[u8]) -> Request {
    let auth_bytes = Bytes::copy_from_slice(bytes);
    Request::SaslAuthenticate(Box::new(SaslAuthenticateRequest { auth_bytes }))
}

fn metadata() -> Request {
    Request::Metadata(Box::<MetadataRequest>::default())
}

fn response(verdict: &Verdict) -> Option<&Response> {
    match verdict {
        Verdict::Answer(response) | Verdict::Enter(response) => Some(response),
        Verdict::Refuse(response, _) => response.as_ref(),
        Verdict::Pass | Verdict::Expire => None,
    }
}

fn error_of(verdict: &Verdict) -> Option<i16> {
    match response(verdict)? {
        Response::SaslHandshake(response) => Some(response.error_code),
        Response::SaslAuthenticate(response) => Some(response.error_code),
        Response::ApiVersions(response) => Some(response.error_code),
        other => panic!("{other:?}"),
    }
}

fn authenticated(verdict: &Verdict) -> &SaslAuthenticateResponse {
    match response(verdict) {
        Some(Response::SaslAuthenticate(response)) => response,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_but_a_login_passes_before_it() {
    for request in [metadata(), token(b"\0ann\0s3cret")] {
        let mut login = Login::new(None);
        let verdict = login.ask(1, &request);
        assert!(matches!(verdict, Verdict::Refuse(None, Refusal::NotAuthenticated)), "{verdict:?}");
        assert!(!login.authenticator.is_in());
    }
    let mut login = Login::new(None);
    assert!(matches!(login.ask(3, &Request::ApiVersions), Verdict::Pass));
    assert!(matches!(login.plain("ann", "s3cret"), Verdict::Enter(_)));
    assert_eq!(login.authenticator.principal().as_deref(), Some("User:ann"));
    assert!(matches!(login.ask(1, &metadata()), Verdict::Pass));
}

#[test]
fn a_login_by_scram_takes_two_tokens() {
    let mut login = Login::new(None);
    login.ask(1, &handshake("SCRAM-SHA-256"));
    let client = Client::new("bob", "h1dden");
    let verdict = login.ask(2, &token(&client.first()));
    assert!(matches!(verdict, Verdict::Answer(_)));
    assert!(!login.authenticator.is_in());
    let (last, _) = client.last(&authenticated(&verdict).auth_bytes);
    let verdict = login.ask(2, &token(&last));
    assert!(matches!(verdict, Verdict::Enter(_)), "{verdict:?}");
    assert_eq!(authenticated(&verdict).session_lifetime_ms, 0);
    assert_eq!(login.authenticator.principal().as_deref(), Some("User:bob"));
}

#[test]
fn a_wrong_password_ends_it() {
    let mut login = Login::new(None);
    let verdict = login.plain("ann", "wrong");
    assert!(matches!(verdict, Verdict::Refuse(_, Refusal::Credentials)), "{verdict:?}");
    assert_eq!(error_of(&verdict), Some(58));
    assert!(matches!(login.ask(1, &handshake("PLAIN")), Verdict::Refuse(None, _)));
    assert!(!login.authenticator.is_in());
    let mut login = Login::new(None);
    login.ask(1, &handshake("SCRAM-SHA-256"));
    let verdict = login.ask(2, &token(b"nonsense"));
    let words = authenticated(&verdict).error_message.as_deref().unwrap();
    assert_eq!(
        words,
        "Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-256"
    );
}

#[test]
fn a_mechanism_that_is_not_enabled_is_refused_with_those_that_are() {
    for name in ["GSSAPI", "SCRAM-SHA-512", "", "plain"] {
        let mut login = Login::new(None);
        let verdict = login.ask(1, &handshake(name));
        assert_eq!(error_of(&verdict), Some(33), "{name}");
        let Some(Response::SaslHandshake(answer)) = response(&verdict) else { panic!() };
        assert_eq!(answer.mechanisms, ["SCRAM-SHA-256", "PLAIN"]);
        assert!(matches!(verdict, Verdict::Refuse(..)));
    }
}

#[test]
fn other_requests_between_tokens_get_illegal_sasl_state() {
    for (request, code) in
        [(handshake("PLAIN"), Some(34)), (Request::ApiVersions, Some(34)), (metadata(), None)]
    {
        let mut login = Login::new(None);
        login.ask(1, &handshake("PLAIN"));
        let verdict = login.ask(1, &request);
        assert_eq!(error_of(&verdict), code);
        assert!(matches!(verdict, Verdict::Refuse(..)));
        assert!(matches!(login.ask(2, &token(b"\0ann\0s3cret")), Verdict::Refuse(..)));
    }
}

#[test]
fn old_clients_send_tokens_without_headers() {
    let mut login = Login::new(None);
    assert!(!login.authenticator.wants_raw_token());
    login.ask(0, &handshake("SCRAM-SHA-256"));
    assert!(login.authenticator.wants_raw_token());
    let client = Client::new("ann", "s3cret");
    let RawVerdict::Answer(first) = login.raw(&client.first()) else { panic!() };
    let (last, _) = client.last(&first);
    assert!(matches!(login.raw(&last), RawVerdict::Enter(_)));
    assert!(login.authenticator.is_in() && !login.authenticator.wants_raw_token());
    let mut login = Login::new(None);
    login.ask(0, &handshake("PLAIN"));
    assert!(matches!(login.raw(b"\0ann\0no"), RawVerdict::Refuse(Refusal::Credentials)));
    assert!(!login.authenticator.is_in());
}

#[test]
fn a_session_ends_unless_it_is_renewed() {
    let mut login = Login::new(Some(10_000));
    let verdict = login.plain("ann", "s3cret");
    assert_eq!(authenticated(&verdict).session_lifetime_ms, 10_000);
    login.now_ms = 10_999;
    assert!(matches!(login.ask(1, &metadata()), Verdict::Pass));
    assert!(matches!(login.plain("ann", "s3cret"), Verdict::Enter(_)));
    login.now_ms = 20_998;
    assert!(matches!(login.ask(1, &metadata()), Verdict::Pass));
    login.now_ms = 20_999;
    assert!(matches!(login.ask(1, &metadata()), Verdict::Expire));
    // Late is not too late, as in Kafka.
    assert!(matches!(login.plain("ann", "s3cret"), Verdict::Enter(_)));
    assert!(matches!(login.ask(1, &metadata()), Verdict::Pass));
}

#[test]
fn a_session_is_renewed_by_its_own_user_and_mechanism_once_a_second() {
    let mut login = Login::new(Some(10_000));
    login.plain("ann", "s3cret");
    let verdict = login.plain("bob", "h1dden");
    assert!(matches!(verdict, Verdict::Refuse(_, Refusal::Changed)), "{verdict:?}");
    assert_eq!(error_of(&verdict), Some(58));
    let mut login = Login::new(Some(10_000));
    login.plain("ann", "s3cret");
    assert_eq!(error_of(&login.ask(1, &handshake("SCRAM-SHA-256"))), Some(0));
    assert!(matches!(
        login.ask(2, &token(b"n,,n=ann,r=x")),
        Verdict::Refuse(None, Refusal::Changed)
    ));
    let mut login = Login::new(Some(10_000));
    login.plain("ann", "s3cret");
    login.plain("ann", "s3cret");
    login.now_ms += 999;
    assert!(matches!(login.ask(1, &handshake("PLAIN")), Verdict::Pass), "the broker says 34");
    login.now_ms += 1;
    assert!(matches!(login.plain("ann", "s3cret"), Verdict::Enter(_)));
    let mut login = Login::new(None);
    login.plain("ann", "s3cret");
    assert!(matches!(login.ask(1, &handshake("PLAIN")), Verdict::Pass), "sessions do not end");
}

#[derive(Debug, Clone)]
enum Asked {
    Versions,
    Handshake(&'static str, i16),
    Token(&'static str),
    Metadata,
    Wait(u64),
}

proptest! {
    /// A request reaches the broker only after the right password, and not after the session's end.
    #[test]
    fn what_passes_is_from_somebody(
        is_limited in any::<bool>(),
        asked in prop::collection::vec(prop_oneof![
            Just(Asked::Versions),
            Just(Asked::Metadata),
            prop::sample::select(vec![("PLAIN", 1), ("PLAIN", 0), ("SCRAM-SHA-256", 1), ("X", 1)])
                .prop_map(|(name, version)| Asked::Handshake(name, version)),
            prop::sample::select(vec!["\0ann\0s3cret", "\0ann\0no", "\0bob\0h1dden", "junk"])
                .prop_map(Asked::Token),
            (0..3_000_u64).prop_map(Asked::Wait),
        ], 1..30),
    ) {
        let mut login = Login::new(is_limited.then_some(5_000));
        // The model: who is in, and until when.
        let mut user: Option<(&str, u64)> = None;
        for asked in asked {
            let request = match asked {
                Asked::Wait(ms) => {
                    login.now_ms += ms;
                    continue;
                }
                Asked::Versions => Request::ApiVersions,
                Asked::Metadata => metadata(),
                Asked::Handshake(name, _) => handshake(name),
                Asked::Token(text) => token(text.as_bytes()),
            };
            let version = if let Asked::Handshake(_, version) = asked { version } else { 1 };
            let words = if let Asked::Token(text) = asked { text } else { "" };
            let owner = match words {
                "\0ann\0s3cret" => Some("ann"),
                "\0bob\0h1dden" => Some("bob"),
                _ => None,
            };
            let entered = if login.authenticator.wants_raw_token() {
                match login.raw(words.as_bytes()) {
                    RawVerdict::Enter(_) => true,
                    RawVerdict::Answer(_) => false,
                    RawVerdict::Refuse(_) => break,
                }
            } else {
                let is_free = matches!(request, Request::ApiVersions);
                match login.ask(version, &request) {
                    Verdict::Enter(_) => true,
                    Verdict::Answer(_) => false,
                    Verdict::Refuse(..) | Verdict::Expire => break,
                    Verdict::Pass => {
                        let renews = matches!(request, Request::SaslHandshake(_));
                        match user {
                            None => prop_assert!(is_free, "{request:?} before a login"),
                            Some((_, ends)) => prop_assert!(login.now_ms < ends || renews),
                        }
                        false
                    }
                }
            };
            if entered {
                prop_assert!(owner.is_some(), "let in by {words:?}");
                let ends = if is_limited { login.now_ms + 5_000 } else { u64::MAX };
                let owner = owner.unwrap_or_default();
                prop_assert!(user.is_none_or(|(before, _)| before == owner));
                user = Some((owner, ends));
            }
        }
        let principal = login.authenticator.principal();
        prop_assert_eq!(principal, user.map(|(name, _)| Str::from(format!("User:{name}"))));
    }
}

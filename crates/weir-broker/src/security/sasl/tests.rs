use std::collections::BTreeMap;

use proptest::prelude::*;
use weir_protocol::scram::ClientProof;

use super::*;

const SHA_256: ScramMechanism = ScramMechanism::Sha256;

/// Users with their passwords.
pub(crate) struct Known {
    passwords: BTreeMap<String, String>,
    credentials: BTreeMap<String, Arc<ScramCredential>>,
}

impl Known {
    pub(crate) fn new(users: &[(&str, &str)]) -> Self {
        let keep = |user: &str, password: &str| {
            let salt = format!("salt of {user}").into_bytes();
            // Few, as it is no password of anybody.
            ScramCredential::from_password(SHA_256, password.as_bytes(), salt, 16)
        };
        Self {
            passwords: users.iter().map(|(u, p)| ((*u).into(), (*p).into())).collect(),
            credentials: users.iter().map(|(u, p)| ((*u).into(), Arc::new(keep(u, p)))).collect(),
        }
    }
}

impl Users for Known {
    fn is_password(&self, user: &str, password: &str) -> bool {
        self.passwords.get(user).is_some_and(|known| known == password)
    }

    fn credential(&self, mechanism: ScramMechanism, user: &str) -> Option<Arc<ScramCredential>> {
        self.credentials.get(user).filter(|kept| kept.mechanism == mechanism).cloned()
    }

    fn salt_of_unknown(&self, _: ScramMechanism, user: &str) -> Vec<u8> {
        format!("salt of {user}").into_bytes()
    }
}

pub(crate) const SEVENS: Nonce = [7; NONCE_BYTES];
const EIGHTS: Nonce = [8; NONCE_BYTES];

/// The other side, as the RFC says.
pub(crate) struct Client {
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) nonce: String,
}

impl Client {
    pub(crate) fn new(user: &str, password: &str) -> Self {
        let nonce = "its-nonce".to_owned();
        Self { user: user.to_owned(), password: password.to_owned(), nonce }
    }

    pub(crate) fn first(&self) -> Vec<u8> {
        format!("n,,{}", ClientFirst::write_bare(&self.user, &self.nonce)).into_bytes()
    }

    /// The last message and the proof behind it.
    pub(crate) fn last(&self, server_first: &[u8]) -> (Vec<u8>, ClientProof) {
        let server = ServerFirst::parse(server_first).unwrap();
        let bare = ClientFirst::write_bare(&self.user, &self.nonce);
        let without_proof = ClientFinal::write_without_proof(server.nonce);
        let server_text = std::str::from_utf8(server_first).unwrap();
        let signed = [&*bare, ",", server_text, ",", &*without_proof].map(str::as_bytes);
        let salted =
            SHA_256.salted_password(self.password.as_bytes(), &server.salt, server.iterations);
        let proof = ClientProof::new(SHA_256, &salted, &signed);
        (ClientFinal::write(&without_proof, &proof.proof).into_bytes(), proof)
    }
}

fn scram() -> Sasl {
    Sasl::new(SaslMechanism::Scram(SHA_256))
}

fn continued(step: Step) -> Vec<u8> {
    match step {
        Step::Continue(token) => token,
        other => panic!("{other:?}"),
    }
}

#[test]
fn whoever_knows_the_password_is_let_in_and_learns_that_the_server_does_too() {
    let users = Known::new(&[("ann,=", "s3cret")]);
    let client = Client::new("ann,=", "s3cret");
    let mut sasl = scram();
    let first = continued(sasl.handle(&client.first(), &users, SEVENS));
    assert!(first.starts_with(b"r=its-nonce"), "the client's nonce comes first");
    let (last, proof) = client.last(&first);
    let Step::Done { token, user } = sasl.handle(&last, &users, SEVENS) else { panic!() };
    assert_eq!(user, "ann,=");
    let ServerFinal::Signature(signature) = ServerFinal::parse(&token).unwrap() else { panic!() };
    assert!(proof.is_from_server(&signature));
    let again = sasl.handle(&last, &users, SEVENS);
    assert_eq!(again, Step::Failed(Failure::Credentials), "an exchange ends once");
}

#[test]
fn an_unknown_user_is_treated_as_one_with_a_wrong_password() {
    let users = Known::new(&[("ann", "s3cret")]);
    let ends = ["ann", "bob"].map(|user| {
        let client = Client::new(user, "wrong");
        let mut sasl = scram();
        let first = continued(sasl.handle(&client.first(), &users, SEVENS));
        let (last, _) = client.last(&first);
        let shape = String::from_utf8(first).unwrap().replace(user, "");
        (shape.split(",s=").next().map(str::to_owned), sasl.handle(&last, &users, SEVENS))
    });
    assert_eq!(ends[0], ends[1]);
    assert_eq!(ends[0].1, Step::Failed(Failure::Credentials));
}

/// CVE-2024-56128.
#[test]
fn what_was_overheard_lets_nobody_in() {
    let users = Known::new(&[("ann", "s3cret")]);
    let client = Client::new("ann", "s3cret");
    let mut sasl = scram();
    let first = continued(sasl.handle(&client.first(), &users, SEVENS));
    let (last, _) = client.last(&first);
    assert!(matches!(sasl.handle(&last, &users, SEVENS), Step::Done { .. }));
    let mut later = scram();
    continued(later.handle(&client.first(), &users, EIGHTS));
    assert_eq!(later.handle(&last, &users, EIGHTS), Step::Failed(Failure::Credentials));
    // A proof that is right, over a nonce in the last message that is not the server's.
    for nonce in ["its-nonce", "its-nonce-and-mine", ""] {
        let mut third = scram();
        let first = continued(third.handle(&client.first(), &users, EIGHTS));
        let last = last_over(&client, &first, nonce);
        assert_eq!(third.handle(&last, &users, EIGHTS), Step::Failed(Failure::Credentials));
    }
}

/// The last message with this nonce in it, signed as it stands.
fn last_over(client: &Client, first: &[u8], nonce: &str) -> Vec<u8> {
    let server = ServerFirst::parse(first).unwrap();
    let without_proof = ClientFinal::write_without_proof(nonce);
    let bare = ClientFirst::write_bare(&client.user, &client.nonce);
    let server_text = std::str::from_utf8(first).unwrap();
    let signed = [&*bare, ",", server_text, ",", &*without_proof].map(str::as_bytes);
    let salted =
        SHA_256.salted_password(client.password.as_bytes(), &server.salt, server.iterations);
    let proof = ClientProof::new(SHA_256, &salted, &signed).proof;
    ClientFinal::write(&without_proof, &proof).into_bytes()
}

#[test]
fn librdkafka_says_its_nonce_twice() {
    let users = Known::new(&[("ann", "s3cret")]);
    let client = Client::new("ann", "s3cret");
    let mut sasl = scram();
    let first = continued(sasl.handle(&client.first(), &users, SEVENS));
    let server = ServerFirst::parse(&first).unwrap();
    let last = last_over(&client, &first, &format!("{}{}", client.nonce, server.nonce));
    assert!(matches!(sasl.handle(&last, &users, SEVENS), Step::Done { .. }));
}

#[test]
fn the_header_must_come_again_as_it_came() {
    let users = Known::new(&[("ann", "s3cret")]);
    let client = Client::new("ann", "s3cret");
    let mut sasl = scram();
    let with_id = String::from_utf8(client.first()).unwrap().replacen("n,,", "n,a=ann,", 1);
    let first = continued(sasl.handle(with_id.as_bytes(), &users, SEVENS));
    // Its last message says `n,,`: somebody has taken the id out, or put it in.
    let (last, _) = client.last(&first);
    assert_eq!(sasl.handle(&last, &users, SEVENS), Step::Failed(Failure::Credentials));
}

#[test]
fn plain_says_what_kafka_says() {
    let users = Known::new(&[("ann", "s3cret")]);
    let said = |words| Step::Failed(Failure::Said(words));
    let done = Step::Done { token: Vec::new(), user: "ann".to_owned() };
    for (token, expected) in [
        ("\0ann\0s3cret", done.clone()),
        ("ann\0ann\0s3cret", done),
        ("\0ann\0wrong", said("Authentication failed: Invalid username or password")),
        ("\0bob\0s3cret", said("Authentication failed: Invalid username or password")),
        ("bob\0ann\0s3cret", said(OTHER_AUTHORIZATION_ID)),
        ("\0\0s3cret", said("Authentication failed: username not specified")),
        ("\0ann\0", said("Authentication failed: password not specified")),
        ("ann\0s3cret", Step::Failed(Failure::Credentials)),
        ("\0ann\0s3cret\0", Step::Failed(Failure::Credentials)),
        ("", Step::Failed(Failure::Credentials)),
    ] {
        let mut sasl = Sasl::new(SaslMechanism::Plain);
        assert_eq!(sasl.handle(token.as_bytes(), &users, SEVENS), expected, "{token:?}");
    }
    let mut sasl = Sasl::new(SaslMechanism::Plain);
    assert_eq!(sasl.handle(b"\0\xff\0s3cret", &users, SEVENS), Step::Failed(Failure::Credentials));
}

#[test]
fn a_nonce_has_letters_only_and_all_its_bits() {
    assert_eq!(printable(&[0; 3]), "AAAA");
    assert_eq!(printable(&[255; 18]).len(), 24);
    assert_ne!(printable(&[0, 0, 1]), printable(&[0, 0, 2]));
}

proptest! {
    /// Whatever comes, nobody is let in but by the password.
    #[test]
    fn no_tokens_but_the_right_ones_let_anybody_in(
        is_plain in any::<bool>(),
        tokens in prop::collection::vec(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            "(n|y),(a=ann)?,n=ann,r=[a-z]{1,8}(,x=y)?".prop_map(String::into_bytes),
            "c=biws,r=[a-zH-]{1,40},p=[A-Za-z0-9]{43}=".prop_map(String::into_bytes),
            "\u{0}ann\u{0}[a-z]{1,8}".prop_map(String::into_bytes),
        ], 1..6),
    ) {
        let users = Known::new(&[("ann", "S3CRET")]);
        let mechanism = if is_plain { SaslMechanism::Plain } else { SaslMechanism::Scram(SHA_256) };
        let mut sasl = Sasl::new(mechanism);
        for (at, token) in tokens.iter().enumerate() {
            match sasl.handle(token, &users, SEVENS) {
                Step::Done { .. } => prop_assert!(false, "let in by {token:?}"),
                Step::Continue(_) => prop_assert_eq!(at, 0),
                Step::Failed(_) => {}
            }
        }
    }

    /// One changed byte of the proof, or of the nonce, is enough.
    #[test]
    fn a_changed_last_message_lets_nobody_in(at in any::<prop::sample::Index>(), bit in 0..7_u8) {
        let users = Known::new(&[("ann", "s3cret")]);
        let client = Client::new("ann", "s3cret");
        let mut sasl = scram();
        let first = continued(sasl.handle(&client.first(), &users, SEVENS));
        let (mut last, _) = client.last(&first);
        let at = at.index(last.len());
        last[at] ^= 1 << bit;
        let step = sasl.handle(&last, &users, SEVENS);
        prop_assert_eq!(step, Step::Failed(Failure::Credentials));
    }
}

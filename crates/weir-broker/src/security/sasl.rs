//! [`Sasl`]: one exchange of PLAIN or SCRAM, from the broker's side.
//!
//! `handle(token, users, random) -> Step`, without I/O. What is sent to whoever fails tells nothing of the users there
//! are: an unknown name gets a salt and a number of iterations as others do, and fails where a wrong password does.

use std::sync::Arc;

use weir_protocol::scram::{
    ClientFinal, ClientFirst, ScramCredential, ScramMechanism, ServerFinal, ServerFirst,
    ITERATIONS_MIN,
};

use super::SaslMechanism;

/// Random bytes of a nonce: 24 characters of it, as most servers have.
const NONCE_BYTES: usize = 18;
/// What the broker's half of a nonce is made of.
pub type Nonce = [u8; NONCE_BYTES];

/// Who may log in.
pub trait Users {
    /// Whether it is this user's password. Takes as long for a user that is not there.
    fn is_password(&self, user: &str, password: &str) -> bool;

    /// What is kept of a user's password; `None`: there is no such user, or not with this mechanism.
    fn credential(&self, mechanism: ScramMechanism, user: &str) -> Option<Arc<ScramCredential>>;

    /// The salt that an unknown user is told, always the same for a name and one that nobody can tell from another.
    fn salt_of_unknown(&self, mechanism: ScramMechanism, user: &str) -> Vec<u8>;
}

/// What comes of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The client is to answer this.
    Continue(Vec<u8>),
    /// The client is this user; a last token goes to it.
    Done {
        /// The last token.
        token: Vec<u8>,
        /// The name.
        user: String,
    },
    /// It is nobody.
    Failed(Failure),
}

/// Why nobody was logged in, as far as a client may know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Words of Kafka's for this very case.
    Said(&'static str),
    /// Wrong name, wrong password, or no message of this mechanism.
    Credentials,
}

#[derive(Debug)]
enum State {
    First,
    Challenged(Box<Challenge>),
    Ended,
}

/// What the proof of a client is checked against.
#[derive(Debug)]
struct Challenge {
    user: String,
    credential: Option<Arc<ScramCredential>>,
    gs2_header: String,
    client_first_bare: String,
    server_first: String,
    /// The client's nonce and ours.
    nonce: String,
}

/// One exchange.
#[derive(Debug)]
pub struct Sasl {
    mechanism: SaslMechanism,
    state: State,
}

impl Sasl {
    /// One that awaits the client's first token.
    #[must_use]
    pub fn new(mechanism: SaslMechanism) -> Self {
        Self { mechanism, state: State::First }
    }

    /// The mechanism.
    #[must_use]
    pub fn mechanism(&self) -> SaslMechanism {
        self.mechanism
    }

    /// Takes the next token. Nobody must be able to foresee `random`.
    pub fn handle(&mut self, token: &[u8], users: &dyn Users, random: Nonce) -> Step {
        let state = std::mem::replace(&mut self.state, State::Ended);
        match (self.mechanism, state) {
            (SaslMechanism::Plain, State::First) => plain(token, users),
            (SaslMechanism::Scram(mechanism), State::First) => {
                match challenge(mechanism, token, users, random) {
                    Ok(challenge) => {
                        let answer = challenge.server_first.clone().into_bytes();
                        self.state = State::Challenged(Box::new(challenge));
                        Step::Continue(answer)
                    }
                    Err(failure) => Step::Failed(failure),
                }
            }
            (_, State::Challenged(challenge)) => challenge.check(token),
            (_, State::Ended) => Step::Failed(Failure::Credentials),
        }
    }
}

/// `[authorization id] NUL user NUL password`; the words are Kafka's.
fn plain(token: &[u8], users: &dyn Users) -> Step {
    let failed = |words| Step::Failed(Failure::Said(words));
    let Ok(text) = std::str::from_utf8(token) else { return Step::Failed(Failure::Credentials) };
    let parts: Vec<&str> = text.splitn(4, '\0').collect();
    let [authorization_id, user, password] = parts[..] else {
        return Step::Failed(Failure::Credentials);
    };
    if user.is_empty() {
        return failed("Authentication failed: username not specified");
    }
    if password.is_empty() {
        return failed("Authentication failed: password not specified");
    }
    if !users.is_password(user, password) {
        return failed("Authentication failed: Invalid username or password");
    }
    if !authorization_id.is_empty() && authorization_id != user {
        return failed(OTHER_AUTHORIZATION_ID);
    }
    Step::Done { token: Vec::new(), user: user.to_owned() }
}

/// CVE-2017-12610: who a client is comes of its password, never of what else it says.
const OTHER_AUTHORIZATION_ID: &str =
    "Authentication failed: Client requested an authorization id that is different from username";

fn challenge(
    mechanism: ScramMechanism,
    token: &[u8],
    users: &dyn Users,
    random: Nonce,
) -> Result<Challenge, Failure> {
    let first = ClientFirst::parse(token).map_err(|_| Failure::Credentials)?;
    if first.authorization_id.as_ref().is_some_and(|id| *id != first.username) {
        return Err(Failure::Said(OTHER_AUTHORIZATION_ID));
    }
    let nonce = format!("{}{}", first.nonce, printable(&random));
    let credential = users.credential(mechanism, &first.username);
    let server_first = match &credential {
        Some(kept) => ServerFirst::write(&nonce, &kept.salt, kept.iterations),
        None => {
            let salt = users.salt_of_unknown(mechanism, &first.username);
            ServerFirst::write(&nonce, &salt, ITERATIONS_MIN)
        }
    };
    Ok(Challenge {
        user: first.username,
        credential,
        gs2_header: first.gs2_header.to_owned(),
        client_first_bare: first.bare.to_owned(),
        server_first,
        nonce,
    })
}

/// 6 bits to a character, of those that a nonce may have.
fn printable(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let letter = |bits: u32| char::from(LETTERS[(bits & 63) as usize]);
    let words = bytes
        .chunks(3)
        .map(|chunk| chunk.iter().fold(0_u32, |word, byte| (word << 8) | u32::from(*byte)));
    words.flat_map(|word| [18, 12, 6, 0].map(|shift| letter(word >> shift))).collect()
}

impl Challenge {
    fn check(&self, token: &[u8]) -> Step {
        match self.signature(token) {
            Some(signature) => Step::Done {
                token: ServerFinal::write(&signature).into_bytes(),
                user: self.user.clone(),
            },
            None => Step::Failed(Failure::Credentials),
        }
    }

    /// The server's signature, if the client's proof holds.
    fn signature(&self, token: &[u8]) -> Option<Vec<u8>> {
        let last = ClientFinal::parse(token).ok()?;
        // CVE-2024-56128: a proof over another nonce is one that was overheard. librdkafka before 2.6.1 puts its own
        // nonce before the one that it was sent, and signs it so. Kafka 4.1 refuses those; what is proved is the same.
        let is_answer =
            last.nonce.ends_with(&self.nonce) && last.channel_binding == self.gs2_header.as_bytes();
        let kept = self.credential.as_ref()?;
        let signed = [&self.client_first_bare, ",", &self.server_first, ",", last.without_proof]
            .map(str::as_bytes);
        (kept.is_proved(&signed, &last.proof) && is_answer).then(|| kept.server_signature(&signed))
    }
}

#[cfg(test)]
pub(super) mod tests;

//! [`Exchange`]: the client's side of a login, without I/O.
//!
//! What a broker says is not believed: a nonce that is not ours, too few iterations (which would make a password that was
//! overheard easy to guess), so many that they would keep us busy, and a broker that does not know the password, each end
//! the login.

use weir_protocol::scram::{
    ClientFinal, ClientFirst, ClientProof, ScramMechanism, ServerFinal, ServerFirst, ITERATIONS_MIN,
};

use crate::security::{SaslMechanism, SaslSettings};

/// Ten times what Kafka allows: a broker cannot make a client hash for minutes.
const ITERATIONS_MAX: u32 = 163_840;

/// What comes of a token of the broker.
#[derive(Debug)]
pub(crate) enum Next {
    /// The password is to be hashed, which takes milliseconds: call [`Challenge::answer`] where that disturbs nobody.
    Hash(Box<Challenge>),
    /// We are in.
    Done,
}

/// One login.
#[derive(Debug)]
pub(crate) struct Exchange {
    settings: SaslSettings,
    nonce: String,
    proof: Option<ClientProof>,
}

/// What the broker wants proved.
#[derive(Debug)]
pub(crate) struct Challenge {
    mechanism: ScramMechanism,
    password: crate::security::Password,
    client_first_bare: String,
    server_first: String,
    nonce: String,
    salt: Vec<u8>,
    iterations: u32,
}

impl Exchange {
    /// `nonce`: printable characters without a comma that were never used before.
    pub(crate) fn new(settings: SaslSettings, nonce: String) -> Self {
        Exchange { settings, nonce, proof: None }
    }

    /// What is sent first.
    pub(crate) fn first(&self) -> Vec<u8> {
        let SaslSettings { mechanism, username, password } = &self.settings;
        match mechanism {
            SaslMechanism::Plain => format!("\0{username}\0{}", password.expose()).into_bytes(),
            SaslMechanism::Scram(_) => format!("n,,{}", self.first_bare()).into_bytes(),
        }
    }

    fn first_bare(&self) -> String {
        ClientFirst::write_bare(&self.settings.username, &self.nonce)
    }

    /// Takes a token of the broker.
    ///
    /// # Errors
    /// Why it is not to be trusted.
    pub(crate) fn take(&self, token: &[u8]) -> Result<Next, String> {
        let SaslMechanism::Scram(mechanism) = self.settings.mechanism else {
            return Ok(Next::Done);
        };
        if let Some(proof) = &self.proof {
            return match ServerFinal::parse(token).map_err(|error| error.to_string())? {
                ServerFinal::Signature(signature) if proof.is_from_server(&signature) => {
                    Ok(Next::Done)
                }
                ServerFinal::Signature(_) => Err("it does not know the password itself".to_owned()),
                ServerFinal::Error(error) => Err(error),
            };
        }
        let first = ServerFirst::parse(token).map_err(|error| error.to_string())?;
        let is_longer = first.nonce.len() > self.nonce.len();
        if !is_longer || !first.nonce.starts_with(&self.nonce) {
            return Err("its nonce does not begin with ours".to_owned());
        }
        if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&first.iterations) {
            return Err(format!("it wants {} iterations", first.iterations));
        }
        Ok(Next::Hash(Box::new(Challenge {
            mechanism,
            password: self.settings.password.clone(),
            client_first_bare: self.first_bare(),
            nonce: first.nonce.to_owned(),
            salt: first.salt,
            iterations: first.iterations,
            server_first: String::from_utf8_lossy(token).into_owned(),
        })))
    }

    /// What is sent in answer to a challenge, and what is expected then.
    pub(crate) fn answered(&mut self, answer: Answer) -> Vec<u8> {
        self.proof = Some(answer.proof);
        answer.token
    }
}

/// A challenge that is met.
#[derive(Debug)]
pub(crate) struct Answer {
    token: Vec<u8>,
    proof: ClientProof,
}

impl Challenge {
    /// Hashes the password as often as the broker wants.
    pub(crate) fn answer(&self) -> Answer {
        let password = self.password.expose().as_bytes();
        let salted = self.mechanism.salted_password(password, &self.salt, self.iterations);
        let without_proof = ClientFinal::write_without_proof(&self.nonce);
        let signed = [&self.client_first_bare, ",", &self.server_first, ",", &*without_proof]
            .map(str::as_bytes);
        let proof = ClientProof::new(self.mechanism, &salted, &signed);
        let token = ClientFinal::write(&without_proof, &proof.proof).into_bytes();
        Answer { token, proof }
    }
}

#[cfg(test)]
mod tests {
    use weir_protocol::scram::ScramCredential;

    use super::*;
    use crate::security::Password;

    fn exchange(mechanism: SaslMechanism) -> Exchange {
        let settings = SaslSettings {
            mechanism,
            username: "user".to_owned(),
            password: Password::new("pencil"),
        };
        Exchange::new(settings, "rOprNGfwEbeRWgbNEkqO".to_owned())
    }

    const SHA_256: SaslMechanism = SaslMechanism::Scram(ScramMechanism::Sha256);
    const SERVER_FIRST: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn hashed(exchange: &mut Exchange, token: &str) -> Vec<u8> {
        match exchange.take(token.as_bytes()).unwrap() {
            Next::Hash(challenge) => exchange.answered(challenge.answer()),
            other => panic!("{other:?}"),
        }
    }

    /// The example of RFC 7677, section 3.
    #[test]
    fn the_example_of_the_rfc_is_said_word_for_word() {
        let mut exchange = exchange(SHA_256);
        assert_eq!(exchange.first(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let last = hashed(&mut exchange, SERVER_FIRST);
        assert_eq!(
            String::from_utf8(last).unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        let signature = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert!(matches!(exchange.take(signature), Ok(Next::Done)));
    }

    #[test]
    fn a_broker_that_does_not_know_the_password_is_not_trusted() {
        let mut exchange = exchange(SHA_256);
        hashed(&mut exchange, SERVER_FIRST);
        let other =
            ScramCredential::from_password(ScramMechanism::Sha256, b"guess", vec![1], 4_096);
        let forged = ServerFinal::write(&other.server_signature(&[b"anything"]));
        for token in [forged.as_bytes(), b"v=", b"e=invalid-proof", b"", b"\xff"] {
            assert!(exchange.take(token).is_err(), "{token:?}");
        }
    }

    #[test]
    fn a_challenge_that_is_a_trap_is_not_answered() {
        let exchange = exchange(SHA_256);
        for (token, word) in [
            ("r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "nonce"),
            ("r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "nonce"),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4095", "iterations"),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4294967295", "iterations"),
            ("r=rOprNGfwEbeRWgbNEkqOx,i=4096", "salt"),
        ] {
            let error = exchange.take(token.as_bytes()).unwrap_err();
            assert!(error.contains(word), "{token}: {error}");
        }
    }

    #[test]
    fn plain_is_one_token() {
        let exchange = exchange(SaslMechanism::Plain);
        assert_eq!(exchange.first(), b"\0user\0pencil");
        assert!(matches!(exchange.take(b""), Ok(Next::Done)));
    }

    #[test]
    fn a_password_is_not_printed() {
        let mut exchange = exchange(SHA_256);
        hashed(&mut exchange, SERVER_FIRST);
        let Next::Hash(challenge) = self::exchange(SHA_256).take(SERVER_FIRST.as_bytes()).unwrap()
        else {
            panic!()
        };
        for text in [format!("{exchange:?}"), format!("{challenge:?}")] {
            assert!(!text.contains("pencil"), "{text}");
        }
    }
}

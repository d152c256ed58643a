//! SCRAM (RFC 5802, RFC 7677): keys, proofs and messages of both sides, without state and without I/O.
//!
//! ```text
//! client first   n,,n=<user>,r=<client nonce>
//! server first   r=<client nonce><server nonce>,s=<salt>,i=<iterations>
//! client final   c=biws,r=<both nonces>,p=<proof>
//! server final   v=<server signature>
//! ```
//!
//! # What holds
//! - A server keeps [`ScramCredential`]s: with one nobody can log in, but guess passwords.
//! - Proofs and signatures are compared in constant time (CVE-2021-38153).
//! - Names and passwords are the UTF-8 they come as. Kafka does no SASLprep, and so its tools make keys without it.
//! - A message larger than [`MESSAGE_BYTES_MAX`] is none.

mod message;

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;

pub use message::{ClientFinal, ClientFirst, ScramError, ServerFinal, ServerFirst};

/// Fewer iterations protect a stolen file too little; Kafka's bound too (`ScramMechanism`).
pub const ITERATIONS_MIN: u32 = 4_096;
/// Kafka's bound (`ScramControlManager`).
pub const ITERATIONS_MAX: u32 = 16_384;
/// Longer messages are refused unread.
pub const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// Which hash a user's keys are made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScramMechanism {
    /// `SCRAM-SHA-256`
    Sha256,
    /// `SCRAM-SHA-512`
    Sha512,
}

impl ScramMechanism {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The name of SASL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }

    /// The mechanism of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }

    /// The number in Kafka's requests (KIP-554).
    #[must_use]
    pub const fn code(self) -> i8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha512 => 2,
        }
    }

    /// The mechanism of this number.
    #[must_use]
    pub fn from_code(code: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.code() == code)
    }

    /// Bytes of a hash, and so of each key.
    #[must_use]
    pub const fn hash_bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// HMAC over the pieces of a message.
    #[must_use]
    pub fn hmac(self, key: &[u8], message: &[&[u8]]) -> Vec<u8> {
        match self {
            Self::Sha256 => hmac::<Hmac<Sha256>>(key, message),
            Self::Sha512 => hmac::<Hmac<Sha512>>(key, message),
        }
    }

    /// The hash H.
    #[must_use]
    pub fn hash(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    /// `Hi(password, salt, i)`, which is PBKDF2 with one block. Dear by intent: 4,096 iterations take a millisecond or
    /// more.
    #[must_use]
    pub fn salted_password(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        match self {
            Self::Sha256 => salted::<Hmac<Sha256>>(password, salt, iterations),
            Self::Sha512 => salted::<Hmac<Sha512>>(password, salt, iterations),
        }
    }
}

impl fmt::Display for ScramMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// HMAC takes keys of any length, so there is always one.
fn keyed<M: Mac + KeyInit>(key: &[u8]) -> M {
    match M::new_from_slice(key) {
        Ok(mac) => mac,
        Err(_) => unreachable!("HMAC takes keys of any length (RFC 2104)"),
    }
}

fn hmac<M: Mac + KeyInit>(key: &[u8], message: &[&[u8]]) -> Vec<u8> {
    let mut mac = keyed::<M>(key);
    message.iter().for_each(|piece| mac.update(piece));
    mac.finalize().into_bytes().to_vec()
}

fn salted<M: Mac + KeyInit + Clone>(password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
    // The key's own blocks are hashed once, not once for each iteration.
    let keyed = keyed::<M>(password);
    let round = |message: &[&[u8]]| {
        let mut mac = keyed.clone();
        message.iter().for_each(|piece| mac.update(piece));
        mac.finalize().into_bytes()
    };
    let mut last = round(&[salt, &1_u32.to_be_bytes()]);
    let mut sum = last.to_vec();
    for _ in 1..iterations {
        last = round(&[&last]);
        sum.iter_mut().zip(&last).for_each(|(sum, byte)| *sum ^= byte);
    }
    sum
}

/// What a server keeps of a user's password.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramCredential {
    /// Its hash.
    pub mechanism: ScramMechanism,
    /// Random bytes, so that equal passwords have unequal keys.
    pub salt: Vec<u8>,
    /// How often the password was hashed.
    pub iterations: u32,
    /// What a client's proof is checked with.
    pub stored_key: Vec<u8>,
    /// What the server proves itself with.
    pub server_key: Vec<u8>,
}

impl fmt::Debug for ScramCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mechanism, iterations) = (self.mechanism, self.iterations);
        f.debug_struct("ScramCredential")
            .field("mechanism", &mechanism)
            .field("iterations", &iterations)
            .finish_non_exhaustive()
    }
}

impl ScramCredential {
    /// Of a password. As dear as [`ScramMechanism::salted_password`].
    #[must_use]
    pub fn from_password(
        mechanism: ScramMechanism,
        password: &[u8],
        salt: Vec<u8>,
        iterations: u32,
    ) -> Self {
        let salted = mechanism.salted_password(password, &salt, iterations);
        Self::from_salted_password(mechanism, &salted, salt, iterations)
    }

    /// Of what a client has made of a password already.
    #[must_use]
    pub fn from_salted_password(
        mechanism: ScramMechanism,
        salted_password: &[u8],
        salt: Vec<u8>,
        iterations: u32,
    ) -> Self {
        let client_key = mechanism.hmac(salted_password, &[CLIENT_KEY]);
        let stored_key = mechanism.hash(&client_key);
        let server_key = mechanism.hmac(salted_password, &[SERVER_KEY]);
        Self { mechanism, salt, iterations, stored_key, server_key }
    }

    /// Whether `proof` was made by somebody who knows the password, over this `auth_message`.
    #[must_use]
    pub fn is_proved(&self, auth_message: &[&[u8]], proof: &[u8]) -> bool {
        if proof.len() != self.mechanism.hash_bytes() {
            return false;
        }
        let mut client_key = self.mechanism.hmac(&self.stored_key, auth_message);
        client_key.iter_mut().zip(proof).for_each(|(byte, proof)| *byte ^= proof);
        self.mechanism.hash(&client_key).ct_eq(&self.stored_key).into()
    }

    /// How the server proves that it knows the user's keys.
    #[must_use]
    pub fn server_signature(&self, auth_message: &[&[u8]]) -> Vec<u8> {
        self.mechanism.hmac(&self.server_key, auth_message)
    }
}

const CLIENT_KEY: &[u8] = b"Client Key";
const SERVER_KEY: &[u8] = b"Server Key";

/// What a client sends and expects at the end.
#[derive(Clone)]
pub struct ClientProof {
    /// Goes to the server.
    pub proof: Vec<u8>,
    server_signature: Vec<u8>,
}

impl fmt::Debug for ClientProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientProof").finish_non_exhaustive()
    }
}

impl ClientProof {
    /// Of a salted password, over this `auth_message`.
    #[must_use]
    pub fn new(mechanism: ScramMechanism, salted_password: &[u8], auth_message: &[&[u8]]) -> Self {
        let mut proof = mechanism.hmac(salted_password, &[CLIENT_KEY]);
        let stored_key = mechanism.hash(&proof);
        let signature = mechanism.hmac(&stored_key, auth_message);
        proof.iter_mut().zip(&signature).for_each(|(byte, signature)| *byte ^= signature);
        let server_key = mechanism.hmac(salted_password, &[SERVER_KEY]);
        Self { proof, server_signature: mechanism.hmac(&server_key, auth_message) }
    }

    /// Whether the server has proved that it knows the user's keys too.
    #[must_use]
    pub fn is_from_server(&self, server_signature: &[u8]) -> bool {
        self.server_signature.ct_eq(server_signature).into()
    }
}

/// Compares two secrets in a time that does not tell where they differ. It tells whether their lengths do.
#[must_use]
pub fn is_same_secret(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

#[cfg(test)]
mod tests;

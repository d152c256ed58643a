//! SCRAM users that clients make: DescribeUserScramCredentials and AlterUserScramCredentials (KIP-554), durable in the file
//! `weir-scram-users`, which only its owner may read.
//!
//! ```text
//! 0
//! secret <base64>
//! user <mechanism> <iterations> <salt> <stored key> <server key> <name>
//! ```
//!
//! Keys are in base64; the name is the rest of the line, with `\n`, `\r` and `\\` for what would end or escape it. The
//! secret makes the salts of users that are not there: it must outlive a restart, or a changed salt would tell them apart.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use weir_log::Disk;
use weir_protocol::api::alter_user_scram_credentials::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse,
    AlterUserScramCredentialsResult, ScramCredentialUpsertion,
};
use weir_protocol::api::describe_user_scram_credentials::{
    CredentialInfo, DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
    DescribeUserScramCredentialsResult,
};
use weir_protocol::scram::{ScramCredential, ScramMechanism, ITERATIONS_MAX, ITERATIONS_MIN};
use weir_protocol::{ErrorCode, Str};

use crate::broker::{Broker, Step};
use crate::effects::Ticket;
use crate::error::BrokerError;
use crate::files::{self, FileWrite};
use crate::request::{distinct, Response};
use crate::staged::Change;

/// The name of the file.
pub(crate) const FILE: &str = "weir-scram-users";

/// Bytes of the secret that makes salts.
pub(crate) const SECRET_BYTES: usize = 32;
/// Bytes of a salt that is made of it, as many as Kafka's tools make.
const SALT_BYTES: usize = 16;
/// Credentials at once.
const CREDENTIALS_MAX: usize = 100_000;
/// Bytes of a name, and of a salt. Kafka has no such bounds; here each name is in memory and in the file.
const NAME_BYTES_MAX: usize = 1_024;

/// Users by name and mechanism.
#[derive(Clone, Default)]
pub(crate) struct ScramUsers {
    /// None until it was given, or read.
    secret: Option<[u8; SECRET_BYTES]>,
    credentials: BTreeMap<(Str, ScramMechanism), Arc<ScramCredential>>,
}

impl fmt::Debug for ScramUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramUsers").field("credentials", &self.credentials).finish_non_exhaustive()
    }
}

/// One credential that is set, or removed if there is none.
#[derive(Debug, Clone)]
pub struct ScramChange {
    /// Whose.
    pub user: Str,
    /// For which mechanism.
    pub mechanism: ScramMechanism,
    /// What it is from now on.
    pub credential: Option<Arc<ScramCredential>>,
}

impl ScramUsers {
    /// Reads the file; without one there is nobody.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path) -> Result<Self, BrokerError> {
        let text = files::read(disk, dir, FILE)?;
        text.as_deref().map(parse).transpose().map(Option::unwrap_or_default)
    }

    /// Gives it the secret that salts are made of, unless the file has one.
    pub(crate) fn give_secret(&mut self, secret: [u8; SECRET_BYTES]) {
        self.secret.get_or_insert(secret);
    }

    pub(crate) fn get(
        &self,
        mechanism: ScramMechanism,
        user: &str,
    ) -> Option<Arc<ScramCredential>> {
        self.credentials.get(&(Str::copy_from(user), mechanism)).cloned()
    }

    /// A salt that belongs to a name: for users of the configuration, and for those that are not there.
    pub(crate) fn salt(&self, mechanism: ScramMechanism, user: &str) -> Vec<u8> {
        let mut salt = mechanism.hmac(&self.secret.unwrap_or_default(), &[user.as_bytes()]);
        salt.truncate(SALT_BYTES);
        salt
    }

    /// Takes a change in that is on disk.
    pub(crate) fn apply(&mut self, change: &ScramChange) {
        let key = (change.user.clone(), change.mechanism);
        match &change.credential {
            Some(credential) => self.credentials.insert(key, credential.clone()),
            None => self.credentials.remove(&key),
        };
    }

    /// The file after these changes.
    pub(crate) fn write<'a>(&self, changes: impl Iterator<Item = &'a ScramChange>) -> FileWrite {
        use fmt::Write as _;
        let mut after = self.clone();
        changes.for_each(|change| after.apply(change));
        let mut text = format!("0\nsecret {}\n", STANDARD.encode(after.secret.unwrap_or_default()));
        for ((user, mechanism), kept) in &after.credentials {
            let [salt, stored, server] =
                [&kept.salt, &kept.stored_key, &kept.server_key].map(|key| STANDARD.encode(key));
            let user = user.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "user {mechanism} {} {salt} {stored} {server} {user}",
                kept.iterations
            );
        }
        FileWrite { file: FILE, text }
    }
}

fn parse(text: &str) -> Result<ScramUsers, BrokerError> {
    let mut users = ScramUsers::default();
    for (index, line) in text.lines().enumerate() {
        let damaged = |reason| BrokerError::DamagedFile { file: FILE, line: index + 1, reason };
        match index {
            0 if line == "0" => {}
            0 => return Err(damaged("its version is not known")),
            1 => {
                let secret = line.strip_prefix("secret ").and_then(|key| STANDARD.decode(key).ok());
                let secret = secret.and_then(|secret| secret.try_into().ok());
                users.secret = Some(secret.ok_or_else(|| damaged("it is not a secret"))?);
            }
            _ => {
                let change = parse_user(line).ok_or_else(|| damaged("it is not a user"))?;
                users.apply(&change);
            }
        }
    }
    if text.lines().count() < 2 {
        return Err(BrokerError::DamagedFile { file: FILE, line: 2, reason: "it is not there" });
    }
    Ok(users)
}

fn parse_user(line: &str) -> Option<ScramChange> {
    let mut fields = line.strip_prefix("user ")?.splitn(6, ' ');
    let mechanism = ScramMechanism::from_name(fields.next()?)?;
    let iterations = fields.next()?.parse().ok()?;
    let mut key = || STANDARD.decode(fields.next()?).ok();
    let (salt, stored_key, server_key) = (key()?, key()?, key()?);
    let is_hash = |key: &Vec<u8>| key.len() == mechanism.hash_bytes();
    if !is_hash(&stored_key) || !is_hash(&server_key) {
        return None;
    }
    let mut user = String::new();
    let mut letters = fields.next()?.chars();
    while let Some(letter) = letters.next() {
        user.push(match letter {
            '\\' => match letters.next()? {
                'n' => '\n',
                'r' => '\r',
                '\\' => '\\',
                _ => return None,
            },
            letter => letter,
        });
    }
    let credential = ScramCredential { mechanism, salt, iterations, stored_key, server_key };
    let credential = Some(Arc::new(credential));
    Some(ScramChange { user: Str::from(user), mechanism, credential })
}

/// What a user of an AlterUserScramCredentials gets, words included as Kafka's.
type Outcome = Result<ScramChange, (ErrorCode, &'static str)>;

impl Broker {
    /// Answers as `ScramControlManager` of Kafka 4.1: one alteration of a user per request.
    pub(crate) fn alter_user_scram_credentials(
        &mut self,
        ticket: Ticket,
        request: &AlterUserScramCredentialsRequest,
    ) -> Step {
        let outcomes = self.scram_outcomes(request);
        let changes: Vec<ScramChange> =
            outcomes.values().filter_map(|outcome| outcome.as_ref().ok().cloned()).collect();
        let mut response = AlterUserScramCredentialsResponse {
            results: outcomes.into_iter().map(|(user, outcome)| result(user, outcome)).collect(),
            ..AlterUserScramCredentialsResponse::default()
        };
        if changes.is_empty() {
            return Step::Answer(Response::AlterUserScramCredentials(response));
        }
        match self.stage(Change::ScramUsers { changes }) {
            Ok(()) => {
                self.answer_when_stored(ticket, Response::AlterUserScramCredentials(response))
            }
            Err((error, words)) => {
                fail(&mut response, error, &Str::from(words));
                Step::Answer(Response::AlterUserScramCredentials(response))
            }
        }
    }

    fn scram_outcomes(&self, request: &AlterUserScramCredentialsRequest) -> BTreeMap<Str, Outcome> {
        let AlterUserScramCredentialsRequest { deletions, upsertions } = request;
        let names = deletions.iter().map(|one| &one.name);
        let names = names.chain(upsertions.iter().map(|one| &one.name));
        if deletions.len() + upsertions.len() > self.config.request_names_max {
            let refused = (ErrorCode::InvalidRequest, "Too many users in one request");
            return names.map(|name| (name.clone(), Err(refused))).collect();
        }
        let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
        for name in names {
            if !seen.insert(name) {
                twice.insert(name.clone());
            }
        }
        let deleted = deletions.iter().map(|one| {
            let change = self.deletion(&one.name, one.mechanism);
            (one.name.clone(), change)
        });
        let room = CREDENTIALS_MAX.saturating_sub(self.scram_users.credentials.len());
        let upserted = upsertions.iter().enumerate().map(|(at, one)| {
            let full = (ErrorCode::PolicyViolation, "Too many user credentials");
            (one.name.clone(), if at < room { upsertion(one) } else { Err(full) })
        });
        let mut outcomes: BTreeMap<Str, Outcome> = BTreeMap::new();
        for (name, outcome) in deleted.chain(upserted) {
            let duplicate = Err((
                ErrorCode::DuplicateResource,
                "A user credential cannot be altered twice in the same request",
            ));
            // What is wrong by itself is said first.
            let outcome =
                if twice.contains(&name) && outcome.is_ok() { duplicate } else { outcome };
            outcomes.entry(name).or_insert(outcome);
        }
        outcomes
    }

    fn deletion(&self, user: &Str, mechanism: i8) -> Outcome {
        let mechanism = check_user(user, mechanism)?;
        if self.scram_users.get(mechanism, user).is_none() {
            let words = "Attempt to delete a user credential that does not exist";
            return Err((ErrorCode::ResourceNotFound, words));
        }
        Ok(ScramChange { user: Str::copy_from(user), mechanism, credential: None })
    }

    /// Answers as `ScramImage` of Kafka 4.1.
    pub(crate) fn describe_user_scram_credentials(
        &self,
        request: &DescribeUserScramCredentialsRequest,
    ) -> Step {
        let asked = request.users.as_deref().unwrap_or_default();
        let names: Vec<&Str> = match asked {
            [] => {
                let all: BTreeSet<&Str> =
                    self.scram_users.credentials.keys().map(|(user, _)| user).collect();
                all.into_iter().collect()
            }
            asked => distinct(asked, |one| &one.name).into_iter().map(|one| &one.name).collect(),
        };
        if names.len() > self.config.request_names_max && !asked.is_empty() {
            return Step::Answer(Response::DescribeUserScramCredentials(
                DescribeUserScramCredentialsResponse {
                    error_code: ErrorCode::InvalidRequest.code(),
                    error_message: Some(Str::from_static("Too many users in one request")),
                    ..DescribeUserScramCredentialsResponse::default()
                },
            ));
        }
        let mut seen = BTreeSet::new();
        let twice: BTreeSet<&Str> =
            asked.iter().map(|one| &one.name).filter(|name| !seen.insert(*name)).collect();
        let results = names.into_iter().map(|name| self.described(name, twice.contains(name)));
        Step::Answer(Response::DescribeUserScramCredentials(DescribeUserScramCredentialsResponse {
            results: results.collect(),
            ..DescribeUserScramCredentialsResponse::default()
        }))
    }

    fn described(&self, user: &Str, is_twice: bool) -> DescribeUserScramCredentialsResult {
        let failed = |error: ErrorCode, words: &str| DescribeUserScramCredentialsResult {
            user: user.clone(),
            error_code: error.code(),
            error_message: Some(Str::from(format!("{words}: {user}"))),
            credential_infos: Vec::new(),
        };
        if is_twice {
            let words =
                "Cannot describe SCRAM credentials for the same user twice in a single request";
            return failed(ErrorCode::DuplicateResource, words);
        }
        let kept = ScramMechanism::ALL.iter().filter_map(|one| self.scram_users.get(*one, user));
        let credential_infos: Vec<CredentialInfo> = kept
            .map(|kept| CredentialInfo {
                mechanism: kept.mechanism.code(),
                iterations: i32::try_from(kept.iterations).unwrap_or(i32::MAX),
            })
            .collect();
        if credential_infos.is_empty() {
            let words = "Attempt to describe a user credential that does not exist";
            return failed(ErrorCode::ResourceNotFound, words);
        }
        DescribeUserScramCredentialsResult {
            user: user.clone(),
            credential_infos,
            ..DescribeUserScramCredentialsResult::default()
        }
    }
}

fn check_user(user: &Str, mechanism: i8) -> Result<ScramMechanism, (ErrorCode, &'static str)> {
    if user.is_empty() {
        return Err((ErrorCode::UnacceptableCredential, "Username must not be empty"));
    }
    if user.len() > NAME_BYTES_MAX {
        return Err((ErrorCode::UnacceptableCredential, "Username is too long"));
    }
    ScramMechanism::from_code(mechanism)
        .ok_or((ErrorCode::UnsupportedSaslMechanism, "Unknown SCRAM mechanism"))
}

fn upsertion(one: &ScramCredentialUpsertion) -> Outcome {
    let mechanism = check_user(&one.name, one.mechanism)?;
    let unacceptable = |words| (ErrorCode::UnacceptableCredential, words);
    let iterations = u32::try_from(one.iterations).unwrap_or(0);
    if iterations < ITERATIONS_MIN {
        return Err(unacceptable("Too few iterations"));
    }
    if iterations > ITERATIONS_MAX {
        return Err(unacceptable("Too many iterations"));
    }
    if one.salt.len() > NAME_BYTES_MAX {
        return Err(unacceptable("Salt is too long"));
    }
    if one.salted_password.is_empty() {
        return Err(unacceptable("Salted password must not be empty"));
    }
    let kept = ScramCredential::from_salted_password(
        mechanism,
        &one.salted_password,
        one.salt.to_vec(),
        iterations,
    );
    let credential = Some(Arc::new(kept));
    Ok(ScramChange { user: Str::copy_from(&one.name), mechanism, credential })
}

fn result(user: Str, outcome: Outcome) -> AlterUserScramCredentialsResult {
    let (error, words) = outcome.err().unzip();
    AlterUserScramCredentialsResult {
        user,
        error_code: error.unwrap_or(ErrorCode::None).code(),
        error_message: words.map(Str::from_static),
    }
}

/// What was fine is not stored.
pub(crate) fn fail(
    response: &mut AlterUserScramCredentialsResponse,
    error: ErrorCode,
    words: &Str,
) {
    for result in response.results.iter_mut().filter(|result| result.error_code == 0) {
        result.error_code = error.code();
        result.error_message = Some(words.clone());
    }
}

#[cfg(test)]
mod tests;

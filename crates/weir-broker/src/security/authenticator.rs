//! [`Authenticator`]: what a connection to a listener with SASL may ask, and who it is.
//!
//! ```text
//! Handshake ── SaslHandshake ──▶ Tokens ── tokens ──▶ Done ── SaslHandshake, if sessions end (KIP-368) ──▶ Tokens
//! ```
//!
//! Before the login there are ApiVersions, SaslHandshake and SaslAuthenticate, and nothing else: the rest of the broker
//! does not see what an unknown client sends. Answers and error codes are those of Kafka 4.1 (`SaslServerAuthenticator`).
//! A failure is final: its answer leaves after a delay, and the connection is closed.

use std::sync::Arc;

use bytes::Bytes;
use weir_protocol::api::api_versions::ApiVersionsResponse;
use weir_protocol::api::sasl_authenticate::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use weir_protocol::api::sasl_handshake::{SaslHandshakeRequest, SaslHandshakeResponse};
use weir_protocol::{ErrorCode, Str};

use super::sasl::{Failure, Nonce, Sasl, Step, Users};
use super::SaslMechanism;
use crate::request::{Request, Response};

/// A session can be renewed once in this time, as in Kafka.
const REAUTHENTICATION_INTERVAL_MS: u64 = 1_000;

/// What a listener asks for.
#[derive(Debug, Clone)]
pub struct SaslOptions {
    /// `sasl.enabled.mechanisms`
    pub mechanisms: Vec<SaslMechanism>,
    /// `connections.max.reauth.ms`: how long a login holds; `None`: as long as the connection.
    pub session_ms_max: Option<u64>,
}

/// What a login needs beside its messages.
pub struct Context<'a> {
    /// Who may log in.
    pub users: &'a dyn Users,
    /// Bytes that nobody can foresee, and nobody had before.
    pub random: Nonce,
    /// On a clock that nobody sets.
    pub now_ms: u64,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("now_ms", &self.now_ms).finish_non_exhaustive()
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Verdict {
    /// The broker answers it.
    Pass,
    /// This is its answer.
    Answer(Response),
    /// This is its answer, and the client is in from now on.
    Enter(Response),
    /// The connection ends, after a delay and this answer.
    Refuse(Option<Response>, Refusal),
    /// The connection ends at once: its session is over.
    Expire,
}

/// What becomes of a token without a header.
#[derive(Debug)]
pub enum RawVerdict {
    /// This goes back, as bare as it.
    Answer(Vec<u8>),
    /// As above, and the client is in from now on.
    Enter(Vec<u8>),
    /// The connection ends, after a delay.
    Refuse(Refusal),
}

/// Why a connection is refused, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It asked for something else than a login.
    NotAuthenticated,
    /// For a mechanism that is not enabled.
    Mechanism,
    /// Wrong name or password.
    Credentials,
    /// It renews its session as somebody else, or another way.
    Changed,
}

impl Refusal {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::NotAuthenticated => "a client did not log in before its requests",
            Self::Mechanism => "a client wants a SASL mechanism that is not enabled",
            Self::Credentials => "a client failed to log in",
            Self::Changed => "a client changed its name or mechanism when it renewed its session",
        }
    }
}

#[derive(Debug)]
enum State {
    Handshake,
    /// `is_raw`: tokens have no headers, as after SaslHandshake v0.
    Tokens {
        sasl: Sasl,
        is_raw: bool,
    },
    Done,
    Failed,
}

/// A session that holds.
#[derive(Debug, Clone)]
struct Session {
    user: Arc<str>,
    mechanism: SaslMechanism,
    ends_ms: Option<u64>,
    renewed_ms: Option<u64>,
}

/// The login of one connection.
#[derive(Debug)]
pub struct Authenticator {
    options: SaslOptions,
    state: State,
    session: Option<Session>,
}

impl Authenticator {
    /// One for a new connection.
    #[must_use]
    pub fn new(options: SaslOptions) -> Self {
        Self { options, state: State::Handshake, session: None }
    }

    /// `User:` and the name of who has logged in.
    #[must_use]
    pub fn principal(&self) -> Option<Str> {
        self.session.as_ref().map(|session| Str::from(format!("User:{}", session.user)))
    }

    /// Whether the client has logged in once.
    #[must_use]
    pub fn is_in(&self) -> bool {
        self.session.is_some()
    }

    /// Whether the next frame is a token without a header.
    #[must_use]
    pub fn wants_raw_token(&self) -> bool {
        matches!(self.state, State::Tokens { is_raw: true, .. })
    }

    /// Takes a request.
    pub fn request(&mut self, version: i16, request: &Request, context: &Context<'_>) -> Verdict {
        match (&mut self.state, request) {
            (State::Failed, _) => Verdict::Refuse(None, Refusal::Changed),
            (State::Done, Request::SaslHandshake(handshake)) => {
                self.renew(version, handshake, context.now_ms)
            }
            (State::Done, _) => match self.session.as_ref().and_then(|session| session.ends_ms) {
                Some(ends_ms) if context.now_ms >= ends_ms => Verdict::Expire,
                _ => Verdict::Pass,
            },
            (State::Handshake, Request::ApiVersions | Request::BadApiVersions) => Verdict::Pass,
            (State::Handshake, Request::SaslHandshake(handshake)) => {
                self.handshake(version, handshake)
            }
            (State::Handshake, _) => Verdict::Refuse(None, Refusal::NotAuthenticated),
            (State::Tokens { .. }, Request::SaslAuthenticate(authenticate)) => {
                self.authenticate(authenticate, context)
            }
            (State::Tokens { .. }, request) => {
                self.state = State::Failed;
                Verdict::Refuse(illegal_state(request), Refusal::NotAuthenticated)
            }
        }
    }

    /// Takes a token without a header.
    pub fn raw_token(&mut self, token: &[u8], context: &Context<'_>) -> RawVerdict {
        let State::Tokens { sasl, is_raw: true } = &mut self.state else {
            return RawVerdict::Refuse(Refusal::NotAuthenticated);
        };
        match sasl.handle(token, context.users, context.random) {
            Step::Continue(token) => RawVerdict::Answer(token),
            Step::Done { token, user } => match self.enter(&user, context.now_ms) {
                Ok(_) => RawVerdict::Enter(token),
                Err(_) => RawVerdict::Refuse(Refusal::Changed),
            },
            Step::Failed(_) => {
                self.state = State::Failed;
                RawVerdict::Refuse(Refusal::Credentials)
            }
        }
    }

    fn handshake(&mut self, version: i16, request: &SaslHandshakeRequest) -> Verdict {
        let wanted = SaslMechanism::from_name(&request.mechanism);
        match wanted.filter(|wanted| self.options.mechanisms.contains(wanted)) {
            Some(mechanism) => {
                self.state = State::Tokens { sasl: Sasl::new(mechanism), is_raw: version == 0 };
                Verdict::Answer(self.mechanisms(ErrorCode::None))
            }
            None => {
                self.state = State::Failed;
                let answer = self.mechanisms(ErrorCode::UnsupportedSaslMechanism);
                Verdict::Refuse(Some(answer), Refusal::Mechanism)
            }
        }
    }

    fn mechanisms(&self, error: ErrorCode) -> Response {
        let names = self.options.mechanisms.iter().map(|one| Str::from_static(one.name()));
        Response::SaslHandshake(SaslHandshakeResponse {
            error_code: error.code(),
            mechanisms: names.collect(),
        })
    }

    /// A handshake of who is in: the beginning of a new login if sessions end, else an error as in Kafka.
    fn renew(&mut self, version: i16, request: &SaslHandshakeRequest, now_ms: u64) -> Verdict {
        let Some(session) = &mut self.session else { return Verdict::Pass };
        let renewed_lately = session
            .renewed_ms
            .is_some_and(|at| now_ms.saturating_sub(at) < REAUTHENTICATION_INTERVAL_MS);
        if session.ends_ms.is_none() || renewed_lately {
            return Verdict::Pass;
        }
        session.renewed_ms = Some(now_ms);
        let before = session.mechanism;
        let verdict = self.handshake(version, request);
        if matches!(&self.state, State::Tokens { sasl, .. } if sasl.mechanism() != before) {
            // Kafka says yes to the handshake, and fails at what follows.
            self.state = State::Failed;
        }
        verdict
    }

    fn authenticate(
        &mut self,
        request: &SaslAuthenticateRequest,
        context: &Context<'_>,
    ) -> Verdict {
        let State::Tokens { sasl, .. } = &mut self.state else {
            return Verdict::Refuse(None, Refusal::NotAuthenticated);
        };
        let mechanism = sasl.mechanism();
        match sasl.handle(&request.auth_bytes, context.users, context.random) {
            Step::Continue(token) => Verdict::Answer(token_answer(token, 0)),
            Step::Done { token, user } => match self.enter(&user, context.now_ms) {
                Ok(lifetime_ms) => Verdict::Enter(token_answer(token, lifetime_ms)),
                Err(words) => Verdict::Refuse(Some(failed(words)), Refusal::Changed),
            },
            Step::Failed(failure) => {
                self.state = State::Failed;
                let words = match failure {
                    Failure::Said(words) => Str::from_static(words),
                    Failure::Credentials => {
                        let again =
                            if self.is_in() { "re-authentication" } else { "authentication" };
                        let mechanism = mechanism.name();
                        Str::from(format!("Authentication failed during {again} due to invalid credentials with SASL mechanism {mechanism}"))
                    }
                };
                Verdict::Refuse(Some(failed(words)), Refusal::Credentials)
            }
        }
    }

    /// Somebody has logged in. How long that holds in milliseconds, 0: as long as the connection.
    fn enter(&mut self, user: &str, now_ms: u64) -> Result<i64, Str> {
        let State::Tokens { sasl, .. } = &self.state else { return Err(Str::default()) };
        let mechanism = sasl.mechanism();
        let changed = |before: &&Session| *before.user != *user;
        if let Some(before) = self.session.as_ref().filter(changed) {
            let words = format!(
                "Cannot change principals during re-authentication from User:{} to User:{user}",
                before.user
            );
            self.state = State::Failed;
            return Err(Str::from(words));
        }
        let renewed_ms = self.session.as_ref().and_then(|session| session.renewed_ms);
        let lifetime_ms = self.options.session_ms_max;
        self.session = Some(Session {
            user: Arc::from(user),
            mechanism,
            ends_ms: lifetime_ms.map(|lifetime_ms| now_ms.saturating_add(lifetime_ms)),
            renewed_ms,
        });
        self.state = State::Done;
        Ok(lifetime_ms.map_or(0, |ms| i64::try_from(ms).unwrap_or(i64::MAX)))
    }
}

fn token_answer(token: Vec<u8>, session_lifetime_ms: i64) -> Response {
    Response::SaslAuthenticate(SaslAuthenticateResponse {
        auth_bytes: Bytes::from(token),
        session_lifetime_ms,
        ..SaslAuthenticateResponse::default()
    })
}

fn failed(words: Str) -> Response {
    Response::SaslAuthenticate(SaslAuthenticateResponse {
        error_code: ErrorCode::SaslAuthenticationFailed.code(),
        error_message: Some(words),
        ..SaslAuthenticateResponse::default()
    })
}

/// The answer to a request that has no place between the tokens of a login, if it is one that has an answer here.
fn illegal_state(request: &Request) -> Option<Response> {
    let error_code = ErrorCode::IllegalSaslState.code();
    match request {
        Request::SaslHandshake(_) => Some(Response::SaslHandshake(SaslHandshakeResponse {
            error_code,
            ..Default::default()
        })),
        Request::ApiVersions | Request::BadApiVersions => {
            Some(Response::ApiVersions(ApiVersionsResponse { error_code, ..Default::default() }))
        }
        _ => None,
    }
}

/// The answers of a listener without SASL, and to who has logged in already, as Kafka's.
pub(crate) fn answer_to_handshake() -> Response {
    Response::SaslHandshake(SaslHandshakeResponse {
        error_code: ErrorCode::IllegalSaslState.code(),
        mechanisms: Vec::new(),
    })
}

/// As [`answer_to_handshake`].
pub(crate) fn answer_to_authenticate() -> Response {
    Response::SaslAuthenticate(SaslAuthenticateResponse {
        error_code: ErrorCode::IllegalSaslState.code(),
        error_message: Some(Str::from_static(
            "SaslAuthenticate request received after successful authentication",
        )),
        ..SaslAuthenticateResponse::default()
    })
}

#[cfg(test)]
mod tests;

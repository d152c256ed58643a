//! [`Login`]: the shell around an [`Authenticator`]: time, randomness, users, and what becomes of its verdicts.

use bytes::{BufMut, Bytes, BytesMut};
use tokio::time::Instant;
use weir_protocol::Str;

use super::shared::Shared;
use super::tls::fill_random;
use crate::request::{Request, Response};
use crate::security::authenticator::{Authenticator, Context, RawVerdict, Refusal, Verdict};
use crate::security::sasl::Nonce;

/// The login of one connection.
#[derive(Debug)]
pub(super) struct Login {
    authenticator: Authenticator,
    /// When it must be done.
    deadline: Instant,
}

/// What becomes of a frame.
#[derive(Debug)]
pub(super) enum Taken {
    /// The broker answers it.
    Pass,
    /// This is its answer.
    Answer(Response),
    /// As above, for a frame without a header.
    Bare(Bytes),
    /// This answer leaves after a delay, and the connection ends.
    Refuse(Option<Response>, Refusal),
    /// The connection ends.
    Expire,
}

impl Login {
    pub(super) fn new(authenticator: Authenticator, deadline: Instant) -> Self {
        Self { authenticator, deadline }
    }

    /// When it must be done; `None` once it is.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (!self.authenticator.is_in()).then_some(self.deadline)
    }

    /// Whether the client has logged in.
    pub(super) fn is_in(&self) -> bool {
        self.authenticator.is_in()
    }

    /// Whether the next frame is a token without a header.
    pub(super) fn wants_raw_token(&self) -> bool {
        self.authenticator.wants_raw_token()
    }

    /// Takes a request. Who logs in by it is named in `principal`.
    pub(super) fn request(
        &mut self,
        shared: &Shared,
        version: i16,
        request: &Request,
        principal: &mut Str,
    ) -> Taken {
        let Some(context) = context(shared) else {
            return Taken::Refuse(None, Refusal::Credentials);
        };
        match self.authenticator.request(version, request, &context) {
            Verdict::Pass => Taken::Pass,
            Verdict::Answer(response) => Taken::Answer(response),
            Verdict::Enter(response) => {
                *principal = self.authenticator.principal().unwrap_or_default();
                Taken::Answer(response)
            }
            Verdict::Refuse(response, refusal) => Taken::Refuse(response, refusal),
            Verdict::Expire => Taken::Expire,
        }
    }

    /// Takes a token without a header.
    pub(super) fn raw_token(
        &mut self,
        shared: &Shared,
        token: &[u8],
        principal: &mut Str,
    ) -> Taken {
        let Some(context) = context(shared) else {
            return Taken::Refuse(None, Refusal::Credentials);
        };
        match self.authenticator.raw_token(token, &context) {
            RawVerdict::Answer(token) => Taken::Bare(framed(&token)),
            RawVerdict::Enter(token) => {
                *principal = self.authenticator.principal().unwrap_or_default();
                Taken::Bare(framed(&token))
            }
            RawVerdict::Refuse(refusal) => Taken::Refuse(None, refusal),
        }
    }
}

/// `None` if the system gives no randomness: nobody logs in by a nonce that can be foreseen.
fn context(shared: &Shared) -> Option<Context<'_>> {
    let mut random = Nonce::default();
    let is_random = fill_random(&mut random);
    is_random.then(|| Context { users: shared, random, now_ms: shared.steady_ms() })
}

fn framed(token: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(4 + token.len());
    frame.put_u32(u32::try_from(token.len()).unwrap_or(u32::MAX));
    frame.put_slice(token);
    frame.freeze()
}

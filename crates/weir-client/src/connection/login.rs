//! SASL on a connection: before its first request, and again before the session ends (KIP-368).
//!
//! Nothing else may be written between the messages of a login, so the writer is held meanwhile. What was written before is
//! answered before.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use weir_protocol::api::sasl_authenticate::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use weir_protocol::api::sasl_handshake::SaslHandshakeRequest;
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::Str;
use weir_protocol::{ApiKey, Request};

use super::{Connection, Pending, WriteLimit, Writer};
use crate::error::ClientError;
use crate::sasl::{Exchange, Next};
use crate::tls::fill_random;

/// A session is renewed after so much of its time, as the Java client does at the earliest.
const RENEW_AT_PERCENT: u64 = 85;
/// Random bytes of a nonce.
const NONCE_BYTES: usize = 16;

impl Connection {
    /// Logs in, if that is asked for and due.
    ///
    /// # Errors
    /// [`ClientError::Authentication`] if the broker refuses, or is not to be trusted; the connection is closed then.
    pub(super) async fn log_in_if_due(&self, writer: &mut Writer) -> Result<(), ClientError> {
        if writer.log_in_at.is_none_or(|at| Instant::now() < at) {
            return Ok(());
        }
        // Boxed: it runs seldom, and every request's future would carry its state.
        let logged_in = Box::pin(self.log_in(writer)).await;
        if let Err(error) = &logged_in {
            self.shared.close(error.clone());
        }
        logged_in
    }

    async fn log_in(&self, writer: &mut Writer) -> Result<(), ClientError> {
        writer.log_in_at = None;
        let Some(sasl) = self.sasl.clone() else { return Ok(()) };
        let mut random = [0; NONCE_BYTES];
        if !fill_random(&mut random) {
            return Err(self.refused("the system gives no random bytes".to_owned()));
        }
        let nonce: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mechanism = sasl.mechanism.name();
        self.shake_hands(writer, mechanism).await?;
        let mut exchange = Exchange::new(sasl, nonce);
        let mut token = exchange.first();
        loop {
            let answer = self.authenticate(writer, token).await?;
            let next = exchange.take(&answer.auth_bytes);
            token = match next.map_err(|why| self.refused(format!("the broker failed: {why}")))? {
                Next::Hash(challenge) => {
                    let hashing = tokio::task::spawn_blocking(move || challenge.answer());
                    let answer = hashing.await.map_err(|error| self.refused(error.to_string()))?;
                    exchange.answered(answer)
                }
                Next::Done => {
                    if let Ok(lifetime_ms @ 1..) = u64::try_from(answer.session_lifetime_ms) {
                        let wait = Duration::from_millis(lifetime_ms / 100 * RENEW_AT_PERCENT);
                        writer.log_in_at = Some(Instant::now() + wait);
                    }
                    return Ok(());
                }
            };
        }
    }

    async fn shake_hands(
        &self,
        writer: &mut Writer,
        mechanism: &'static str,
    ) -> Result<(), ClientError> {
        let request = SaslHandshakeRequest { mechanism: Str::from_static(mechanism) };
        // Version 0 means tokens without headers, which only brokers before Kafka 1.0 need.
        let answer = self.exchange_on(writer, &request, 1).await?;
        match ErrorCode::from_code(answer.error_code) {
            ErrorCode::None => Ok(()),
            ErrorCode::UnsupportedSaslMechanism => {
                let offered = answer.mechanisms.join(", ");
                let words = match offered.is_empty() {
                    true => "it has no SASL there".to_owned(),
                    false => format!("it offers {offered}"),
                };
                Err(self.refused(format!("{mechanism} is not enabled: {words}")))
            }
            code => Err(self.refused(code.name().to_owned())),
        }
    }

    async fn authenticate(
        &self,
        writer: &mut Writer,
        token: Vec<u8>,
    ) -> Result<SaslAuthenticateResponse, ClientError> {
        let request = SaslAuthenticateRequest { auth_bytes: Bytes::from(token) };
        let version = self.version::<SaslAuthenticateRequest>(i16::MAX)?;
        let answer = self.exchange_on(writer, &request, version).await?;
        match ErrorCode::from_code(answer.error_code) {
            ErrorCode::None => Ok(answer),
            code => {
                let said = answer.error_message.map(|words| words.to_string());
                Err(self.refused(said.unwrap_or_else(|| code.name().to_owned())))
            }
        }
    }

    fn refused(&self, reason: String) -> ClientError {
        ClientError::Authentication { broker: self.shared.endpoint.to_string(), reason }
    }

    /// Writes a request while the writer is held, and awaits its answer.
    async fn exchange_on<R: Request>(
        &self,
        writer: &mut Writer,
        request: &R,
        version: i16,
    ) -> Result<R::Response, ClientError> {
        let frame = self.frame(request, version, self.login_timeout_ms)?;
        let limit = WriteLimit::of(&frame);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let pending = Pending {
            api: frame.api,
            correlation_id: frame.correlation_id,
            timeout_ms: frame.timeout_ms,
            deadline: limit.deadline,
            // The asker may have gone.
            on_reply: Box::new(move |reply| drop(sender.send(reply))),
            // Those who wait for the writer may have all of them.
            _permit: None,
        };
        if self.shared.expect(pending) {
            self.write(writer, frame.segments, &limit).await?;
        }
        match receiver.await.unwrap_or(Err(ClientError::Closed)) {
            Ok(bytes) => self.decode::<R>(bytes, version),
            // A broker before KIP-152 just closes.
            Err(ClientError::ConnectionLost { reason, .. })
                if R::API_KEY == ApiKey::SaslAuthenticate =>
            {
                Err(self.refused(format!("the broker closed the connection: {reason}")))
            }
            Err(error) => Err(error),
        }
    }
}

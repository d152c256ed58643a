//! What the core gives back: [`Effects`], and the names of connections and parked requests.

use weir_protocol::Str;

use crate::request::Response;

/// One connection, for as long as the process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// One parked request: it will be answered by exactly one [`Effects::woken`] entry, unless its connection goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What the core knows of the connection a request came from.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Its number.
    pub id: ConnId,
    /// Where the client is, in Kafka's form: `/127.0.0.1`.
    pub client_host: Str,
    /// The host and port that this client is told to connect to.
    pub advertised: (Str, u16),
    /// Who the client is, in Kafka's form: `User:ann`, `User:CN=pump-7,O=Acme`, `User:ANONYMOUS`.
    pub principal: Str,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Reply {
    /// Here is its answer.
    Now(Box<Response>),
    /// The answer comes later, under this ticket.
    Parked(Ticket),
    /// It gets none (acks=0).
    Silent,
    /// It gets none and its connection is to be closed, as Kafka does when acks=0 fails.
    Close,
    /// It was not taken yet: look inside its batches ([`crate::produce::Produce::look_inside`]), without the lock, and hand it
    /// in again.
    LookInside,
}

/// What a call of the core has brought about.
#[derive(Debug)]
pub struct Effects {
    /// What becomes of the request of this call.
    pub reply: Reply,
    /// Answers to requests that were parked before.
    pub woken: Vec<(Ticket, Response)>,
}

/// How soon what was appended must be synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CommitNeed {
    /// Nothing to sync.
    None,
    /// Within `sync_lag_ms_max`: nobody waits for an answer, but readers wait for the data.
    Soon,
    /// At once: an answer waits for it.
    Now,
}

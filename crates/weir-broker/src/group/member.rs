//! [`Member`]: one member of a classic group.

use bytes::Bytes;
use weir_protocol::{Str, TimestampMs};

use super::Join;
use crate::effects::Ticket;
use crate::offset_records::MemberRecord;

/// A way of assigning partitions that a member knows, with what it has to say under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    /// `range`, `cooperative-sticky`, ...
    pub name: Str,
    /// Opaque: the subscription.
    pub metadata: Bytes,
}

/// How long a client that has never been in the group may wait for a rebalance. It knows no member id yet, so it cannot say
/// that it is alive; and who gives up and asks again would be one more each time (Kafka's
/// `classicGroupNewMemberJoinTimeoutMs`).
const NEW_MEMBER_JOIN_MS: i64 = 300_000;

/// One member.
#[derive(Debug, Clone)]
pub struct Member {
    /// Given by the broker.
    pub id: Str,
    /// Given by the operator, of a static member (KIP-345).
    pub instance_id: Option<Str>,
    /// Of its request header.
    pub client_id: Str,
    /// Where it is.
    pub client_host: Str,
    /// Without a heartbeat for so long, it is out.
    pub session_timeout_ms: i32,
    /// How long it may take to join a rebalance.
    pub rebalance_timeout_ms: i32,
    /// In the order of preference.
    pub protocols: Vec<Protocol>,
    /// Opaque: its share of the current generation.
    pub assignment: Bytes,
    /// Its parked JoinGroup.
    pub(super) join_waiter: Option<Ticket>,
    /// Its parked SyncGroup.
    pub(super) sync_waiter: Option<Ticket>,
    /// When its session ends; `None` while it rests. A new member's is [`NEW_MEMBER_JOIN_MS`].
    pub(super) session_deadline: Option<TimestampMs>,
}

impl Member {
    pub(super) fn new(id: Str, join: Join, ticket: Ticket, now: TimestampMs) -> Self {
        Self {
            id,
            instance_id: join.instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            session_timeout_ms: join.session_timeout_ms,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            protocols: join.protocols,
            assignment: Bytes::new(),
            join_waiter: Some(ticket),
            sync_waiter: None,
            session_deadline: Some(now.plus_ms(NEW_MEMBER_JOIN_MS)),
        }
    }

    pub(super) fn restore(record: MemberRecord, protocol: Str, now: TimestampMs) -> Self {
        let mut member = Self {
            id: record.member_id,
            instance_id: record.instance_id,
            client_id: record.client_id,
            client_host: record.client_host,
            session_timeout_ms: record.session_timeout_ms,
            rebalance_timeout_ms: record.rebalance_timeout_ms,
            protocols: vec![Protocol { name: protocol, metadata: record.subscription }],
            assignment: record.assignment,
            join_waiter: None,
            sync_waiter: None,
            session_deadline: None,
        };
        member.restart_session(now);
        member
    }

    /// Takes over what a new JoinGroup says.
    pub(super) fn update(&mut self, join: Join) {
        self.client_id = join.client_id;
        self.client_host = join.client_host;
        self.session_timeout_ms = join.session_timeout_ms;
        self.rebalance_timeout_ms = join.rebalance_timeout_ms;
        self.protocols = join.protocols;
    }

    pub(super) fn metadata(&self, protocol: &Str) -> Option<Bytes> {
        self.protocols
            .iter()
            .find(|known| known.name == *protocol)
            .map(|known| known.metadata.clone())
    }

    /// A stored member may say anything: a session of no time would be over before it begins.
    pub(super) fn restart_session(&mut self, now: TimestampMs) {
        let timeout_ms = i64::from(self.session_timeout_ms).max(1);
        self.session_deadline = Some(now.plus_ms(timeout_ms));
    }
}

//! [`ProducerIds`]: ids for idempotent producers, never given twice.
//!
//! Ids are taken from disk in blocks, as in Kafka: the file `weir-producer-ids` says the first id that no block covers,
//! and is on disk before an id of a new block is given. After a crash the rest of a block is lost, which costs nothing.
//! The next block is taken when half of one is given, so that hardly anybody waits for it.
//!
//! Where the file is lost, or the directory was Kafka's, ids go on above the largest that a log remembers: a producer that
//! got the id of another would have its first batches taken for that one's.
//!
//! A batch may carry any id, as in Kafka, which asks nobody whether it was given. So a log may remember ids that never were,
//! and one near the end of all would leave none to give. What is [`GIVEN_AHEAD_MAX`] or more ahead of the file does not
//! count, and whoever names such an id to get its next epoch gets a new one.

use std::path::Path;

use weir_log::Disk;
use weir_protocol::api::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use weir_protocol::{ErrorCode, ProducerEpoch, ProducerId, TimestampMs};

use crate::broker::{Broker, Step};
use crate::config::PRODUCER_ID_BLOCK;
use crate::effects::Ticket;
use crate::error::BrokerError;
use crate::files;
use crate::request::Response;
use crate::staged::Change;

/// The name of the file.
pub(crate) const FILE: &str = "weir-producer-ids";

/// How far ahead of the file the ids in the logs are taken for ones that were given: 2^48, which a broker that gives a
/// million a second has given after nine years. There are 32,768 times as many.
const GIVEN_AHEAD_MAX: i64 = 1 << 48;

/// Ids for idempotent producers.
#[derive(Debug)]
pub(crate) struct ProducerIds {
    next: i64,
    /// The first id that is not ours to give.
    block_end: i64,
}

impl ProducerIds {
    /// `known` gives the largest id below another that a log remembers.
    pub(crate) fn open(
        disk: &dyn Disk,
        dir: &Path,
        known: impl FnOnce(ProducerId) -> Option<ProducerId>,
    ) -> Result<Self, BrokerError> {
        let stored = match files::read(disk, dir, FILE)? {
            None => 0,
            Some(text) => text.trim().parse::<i64>().ok().filter(|next| *next >= 0).ok_or(
                BrokerError::DamagedFile { file: FILE, line: 1, reason: "it is not a producer id" },
            )?,
        };
        let known = known(ProducerId(stored.saturating_add(GIVEN_AHEAD_MAX)));
        let next = known.map_or(0, |known| known.get().saturating_add(1)).max(stored);
        Ok(Self { next, block_end: next })
    }

    /// An id that nobody had before; `None` if the block is used up.
    pub(crate) fn take(&mut self) -> Option<ProducerId> {
        let id = self.next;
        (id < self.block_end).then(|| {
            self.next += 1;
            ProducerId(id)
        })
    }

    /// Where the next block ends, if it is time to take it.
    fn wanted_end(&self) -> Option<i64> {
        let is_low = self.block_end - self.next <= PRODUCER_ID_BLOCK / 2;
        is_low.then(|| self.block_end.saturating_add(PRODUCER_ID_BLOCK))
    }

    fn is_used_up(&self) -> bool {
        self.next >= self.block_end
    }

    /// A block is on disk.
    pub(crate) fn extend(&mut self, block_end: i64) {
        self.block_end = self.block_end.max(block_end);
    }
}

impl Broker {
    pub(crate) fn init_producer_id(
        &mut self,
        ticket: Ticket,
        request: &InitProducerIdRequest,
        version: i16,
        now: TimestampMs,
    ) -> Step {
        if let Some(id) = &request.transactional_id {
            return self.init_transactional(ticket, id, request, version, now);
        }
        let answer = |error: ErrorCode, id: ProducerId, epoch: ProducerEpoch| {
            Step::Answer(Response::InitProducerId(InitProducerIdResponse {
                throttle_time_ms: 0,
                error_code: error.code(),
                producer_id: id.get(),
                producer_epoch: epoch.get(),
            }))
        };
        if (request.producer_id < 0) != (request.producer_epoch < 0) {
            return answer(ErrorCode::InvalidRequest, ProducerId::NONE, ProducerEpoch::NONE);
        }
        // Whoever it says it was: nobody has proved that an id is his, and two under one id and epoch would take each other's
        // batches for their own, sent twice.
        match self.producer_ids.take() {
            Some(id) => answer(ErrorCode::None, id, ProducerEpoch(0)),
            None => {
                answer(ErrorCode::CoordinatorNotAvailable, ProducerId::NONE, ProducerEpoch::NONE)
            }
        }
    }

    /// Stages the next block if it is time. Whether there is no id until it is on disk.
    pub(crate) fn stage_next_producer_ids(&mut self) -> bool {
        let wanted = self.producer_ids.wanted_end().filter(|_| !self.staged.has_producer_ids());
        if let Some(block_end) = wanted {
            if let Err((_, words)) = self.stage(Change::ProducerIds { block_end }) {
                tracing::error!(words, "no producer ids could be taken");
                return false;
            }
        }
        self.producer_ids.is_used_up()
    }
}

//! [`ProducerIds`]: ids for idempotent producers, never given twice.
//!
//! Ids are taken from disk in blocks, as in Kafka: the file `weir-producer-ids` says the first id that no block covers,
//! and is written before an id of a new block is given. After a crash the rest of a block is lost, which costs nothing.
//!
//! # Limits
//! A file that is lost, or of a directory that was Kafka's, begins again at 0, though the logs may remember producers with
//! such ids: weir-log does not say yet which ids it knows.

use std::path::Path;
use std::sync::Arc;

use weir_log::Disk;
use weir_protocol::api::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use weir_protocol::{ErrorCode, ProducerEpoch, ProducerId};

use crate::broker::{Broker, Step};
use crate::config::PRODUCER_ID_BLOCK;
use crate::error::BrokerError;
use crate::files;
use crate::request::Response;

/// The name of the file.
const FILE: &str = "weir-producer-ids";

/// Ids for idempotent producers.
#[derive(Debug)]
pub(crate) struct ProducerIds {
    next: i64,
    /// The first id that is not ours to give.
    block_end: i64,
}

impl ProducerIds {
    pub(crate) fn open(disk: &dyn Disk, dir: &Path) -> Result<Self, BrokerError> {
        let next = match files::read(disk, dir, FILE)? {
            None => 0,
            Some(text) => text.trim().parse::<i64>().ok().filter(|next| *next >= 0).ok_or(
                BrokerError::DamagedFile { file: FILE, line: 1, reason: "it is not a producer id" },
            )?,
        };
        Ok(Self { next, block_end: next })
    }

    /// An id that nobody had before.
    pub(crate) fn take(
        &mut self,
        disk: &Arc<dyn Disk>,
        dir: &Path,
    ) -> Result<ProducerId, BrokerError> {
        if self.next >= self.block_end {
            let block_end = self.next.saturating_add(PRODUCER_ID_BLOCK);
            files::replace(disk, dir, FILE, &format!("{block_end}\n"))?;
            self.block_end = block_end;
        }
        let id = self.next;
        self.next += 1;
        Ok(ProducerId(id))
    }
}

impl Broker {
    pub(crate) fn init_producer_id(&mut self, request: &InitProducerIdRequest) -> Step {
        let answer = |error: ErrorCode, id: ProducerId, epoch: ProducerEpoch| {
            Step::Answer(Response::InitProducerId(InitProducerIdResponse {
                throttle_time_ms: 0,
                error_code: error.code(),
                producer_id: id.get(),
                producer_epoch: epoch.get(),
            }))
        };
        if request.transactional_id.is_some() {
            // FindCoordinator has already said that there are no transactions; this is for who did not ask.
            return answer(ErrorCode::InvalidRequest, ProducerId::NONE, ProducerEpoch::NONE);
        }
        if request.producer_id >= 0 && (0..i16::MAX).contains(&request.producer_epoch) {
            // KIP-360: a producer that lost its sequence goes on under the next epoch.
            let epoch = ProducerEpoch(request.producer_epoch + 1);
            return answer(ErrorCode::None, ProducerId(request.producer_id), epoch);
        }
        let dir = self.config.data_dir.clone();
        match self.producer_ids.take(&self.disk, &dir) {
            Ok(id) => answer(ErrorCode::None, id, ProducerEpoch(0)),
            Err(error) => {
                tracing::error!(%error, "no producer id could be taken");
                answer(ErrorCode::CoordinatorNotAvailable, ProducerId::NONE, ProducerEpoch::NONE)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use weir_log::MemDisk;

    use super::*;

    #[test]
    fn no_id_is_given_twice_across_a_power_cut() {
        let memory = Arc::new(MemDisk::new());
        let disk: Arc<dyn Disk> = memory.clone();
        let dir = PathBuf::from("/d");
        disk.create_dir_all(&dir).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let mut ids = ProducerIds::open(&*disk, &dir).unwrap();
        let last = (0..1_500).map(|_| ids.take(&disk, &dir).unwrap()).last().unwrap();
        assert_eq!(last, ProducerId(1_499));
        let disk: Arc<dyn Disk> = Arc::new(memory.crash(7));
        let mut ids = ProducerIds::open(&*disk, &dir).unwrap();
        assert_eq!(ids.take(&disk, &dir).unwrap(), ProducerId(2_000));
    }
}

//! Batches that cannot be read: when to read again, when to go past, and where to.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_client::admin::OffsetSpec;
use weir_client::{Admin, Client, ClientError, TopicPartition};
use weir_protocol::types::Offset;

/// `weir explain` of a damaged batch.
pub(super) const DAMAGED: &str = "WEIR-0422";
/// A batch that was found damaged so often stays damaged.
const DAMAGE_SURE: u32 = 3;

/// A batch that cannot be read.
#[derive(Debug)]
pub(super) struct Damage {
    pub(super) place: TopicPartition,
    pub(super) offset: Offset,
    /// Where its header says that the next one begins.
    next: Option<Offset>,
    pub(super) reason: String,
}

impl Damage {
    /// The damage that a poll met; any other error comes back.
    pub(super) fn of(error: ClientError) -> Result<Self, ClientError> {
        match error {
            ClientError::CorruptBatch { topic, partition, offset, next, reason } => {
                Ok(Self { place: TopicPartition::new(&topic, partition), offset, next, reason })
            }
            other => Err(other),
        }
    }

    /// The first offset after it.
    ///
    /// The end its header gives may be damaged too: so it is not back, and not past the end of the log.
    pub(super) async fn resume(&self, client: &Arc<Client>) -> Result<Offset, ClientError> {
        let asked = [(self.place.clone(), OffsetSpec::Latest)];
        let ends = Admin::new(Arc::clone(client)).list_offsets(&asked).await?;
        let end = ends.into_iter().find_map(|(_, end)| end).unwrap_or(self.offset.next());
        Ok(self.next.unwrap_or(self.offset.next()).min(end).max(self.offset.next()))
    }
}

/// How often the batch before which each partition stands was found damaged.
#[derive(Debug, Default)]
pub(super) struct DamageCount {
    met: BTreeMap<TopicPartition, (Offset, u32)>,
}

impl DamageCount {
    /// Counts, and says so in the log. True: it is sure to stay damaged, and the count is over.
    pub(super) fn is_sure(&mut self, who: &'static str, damage: &Damage) -> bool {
        let Damage { place, offset, reason, .. } = damage;
        let met = self.met.entry(place.clone()).or_insert((*offset, 0));
        if met.0 != *offset {
            *met = (*offset, 0);
        }
        met.1 += 1;
        let attempt = met.1;
        tracing::error!(
            code = DAMAGED, topic = %place.topic, partition = %place.partition, %offset, attempt,
            %reason, "{who}: the batch is damaged"
        );
        let sure = attempt >= DAMAGE_SURE;
        if sure {
            self.met.remove(place);
        }
        sure
    }
}

/// Says in the log which records nobody will see.
pub(super) fn tell_skipped(who: &'static str, damage: &Damage, resume: Offset) {
    let Damage { place, offset, .. } = damage;
    tracing::error!(
        code = DAMAGED, topic = %place.topic, partition = %place.partition,
        from = %offset, until = %resume, "{who}: records are skipped, they cannot be read"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_protocol::types::PartitionId;

    #[test]
    fn a_batch_is_surely_damaged_when_it_was_three_times_whatever_others_are() {
        let damage = |partition, offset| Damage {
            place: TopicPartition::new("t", PartitionId(partition)),
            offset: Offset(offset),
            next: None,
            reason: String::new(),
        };
        let mut count = DamageCount::default();
        let sure: Vec<bool> = [(0, 5), (1, 5), (0, 5), (1, 5), (1, 5), (0, 5), (0, 9), (0, 5)]
            .into_iter()
            .map(|(partition, offset)| count.is_sure("test", &damage(partition, offset)))
            .collect();
        assert_eq!(sure, [false, false, false, false, true, true, false, false]);
    }
}

//! Partitions that are no more: their topic was deleted, or made again with fewer.
//!
//! What waits for one would wait in vain, until its delivery timeout, and whoever waits beside it with it. It is
//! not in the topic, whatever became of it in the one before, so that it is failed at once.

use weir_protocol::types::{Str, Uuid};

use super::{Accumulator, Effects, MonoMs, Slot};
use crate::delivery::Outcome;
use crate::error::ProduceError;

/// How long a topic is known to be missing before it is given up. Where topics are made by the first record, it is
/// there again by then; and a node of a cluster may be the last to hear of one.
const MISSING_MS_MAX: u64 = 2_000;

impl Accumulator {
    /// Metadata says that the topic does not exist.
    pub(crate) fn note_missing(&mut self, name: &str, now: MonoMs) {
        if let Some(index) = self.topic_by_name.get(name) {
            self.topics[*index].missing_since.get_or_insert(now);
        }
    }

    /// Gives up topics that stay missing.
    pub(super) fn retire_missing(&mut self, now: MonoMs, effects: &mut Effects) {
        for topic in 0..self.topics.len() {
            let is_over = |since: MonoMs| now.since(since) >= MISSING_MS_MAX;
            if self.topics[topic].missing_since.is_some_and(is_over) {
                self.retire_from(topic, 0, effects);
            }
        }
    }

    /// What is known of a topic now. Of one that was made again, partitions may be gone; fewer partitions of
    /// the same topic are only old news.
    pub(super) fn renew_topic(
        &mut self,
        topic: usize,
        id: Uuid,
        partitions: usize,
        effects: &mut Effects,
    ) {
        let known = std::mem::replace(&mut self.topics[topic].id, id);
        self.topics[topic].missing_since = None;
        if known != id && known != Uuid::ZERO && id != Uuid::ZERO {
            self.retire_from(topic, partitions, effects);
        }
    }

    fn retire_from(&mut self, topic: usize, first: usize, effects: &mut Effects) {
        let slots = &self.topics[topic].slots;
        let retired: Vec<Slot> = slots.get(first..).unwrap_or_default().to_vec();
        for slot in retired {
            self.partitions[slot.0].retired = true;
            self.seal(slot);
            while !self.partitions[slot.0].sealed.is_empty() {
                self.fail_unsent(slot, self.gone(topic), effects);
            }
            // What is under way is failed by its answer.
            let is_waiting = |batch: &super::SentBatch| batch.waiting.is_some();
            while let Some(at) = self.partitions[slot.0].in_flight.iter().position(is_waiting) {
                self.finish(slot, at, Outcome::Failed(self.gone(topic)), effects);
            }
            self.settle(slot);
        }
        self.topics[topic].slots.truncate(first);
    }

    pub(super) fn gone(&self, topic: usize) -> ProduceError {
        let name: &Str = &self.topics[topic].name;
        ProduceError::PartitionGone { topic: name.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use weir_protocol::error_code::ErrorCode;
    use weir_protocol::types::NodeId;

    use super::super::tests::{
        accumulator, answer, append, config, lingered, lose, sent, NODE, TOPIC,
    };
    use super::*;

    fn update(core: &mut Accumulator, id: u8, partitions: usize) -> Effects {
        let leaders: Vec<Option<NodeId>> = vec![Some(NODE); partitions];
        core.update_topic(&Str::from(TOPIC), Uuid([id; 16]), &leaders)
    }

    fn gone(effects: &Effects) -> usize {
        let is_gone = |outcome: &Outcome| {
            matches!(outcome, Outcome::Failed(ProduceError::PartitionGone { .. }))
        };
        effects.completed.iter().filter(|(_, outcome)| is_gone(outcome)).count()
    }

    #[test]
    fn what_waits_for_partitions_that_a_topic_made_again_has_not_is_failed_at_once() {
        let mut core = accumulator(config(), 0);
        update(&mut core, 1, 3);
        append(&mut core, 2, b"under way").unwrap();
        let under_way = sent(&mut core, 0);
        append(&mut core, 1, b"comes back").unwrap();
        let back = lingered(&mut core, 20);
        lose(&mut core, back, 31);
        append(&mut core, 2, b"unsent").unwrap();
        append(&mut core, 0, b"stays").unwrap();
        assert_eq!(gone(&update(&mut core, 1, 1)), 0, "fewer of the same topic are old news");
        assert_eq!(gone(&update(&mut core, 2, 1)), 2);
        assert_eq!(gone(&answer(&mut core, under_way, ErrorCode::UnknownTopicId, 40)), 1);
        assert!(append(&mut core, 2, b"new").is_err() && append(&mut core, 0, b"new").is_ok());
        let stays = sent(&mut core, 2_000);
        assert_eq!(answer(&mut core, stays, ErrorCode::None, 2_001).completed.len(), 1);
        assert_eq!((core.buffered_bytes(), core.buffered_records()), (0, 0));
        assert_eq!(core.wants_identity(), None, "no sequence is missing where records still go");
        // And back again.
        update(&mut core, 3, 3);
        append(&mut core, 2, b"again").unwrap();
        let again = sent(&mut core, 2_100);
        assert_eq!(answer(&mut core, again, ErrorCode::None, 2_101).completed.len(), 1);
    }

    #[test]
    fn a_topic_that_stays_missing_is_given_up_and_one_that_comes_back_is_not() {
        let mut core = accumulator(config(), 0);
        update(&mut core, 1, 1);
        append(&mut core, 0, b"a").unwrap();
        core.note_missing(TOPIC, MonoMs(100));
        core.note_missing(TOPIC, MonoMs(1_900));
        assert_eq!(gone(&core.expire(MonoMs(2_099))), 0);
        update(&mut core, 1, 1);
        assert_eq!(gone(&core.expire(MonoMs(2_100))), 0, "it was there meanwhile");
        core.note_missing(TOPIC, MonoMs(3_000));
        assert_eq!(gone(&core.expire(MonoMs(5_000))), 1);
        let refused = append(&mut core, 0, b"b");
        assert!(matches!(refused, Err(ProduceError::TopicNotReady { .. })), "{refused:?}");
        update(&mut core, 2, 1);
        append(&mut core, 0, b"c").unwrap();
    }
}

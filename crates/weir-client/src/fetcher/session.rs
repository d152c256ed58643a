//! Fetch sessions (KIP-227): what a broker remembers of our fetches, so that each says only what has
//! changed. Pure.
//!
//! # What holds
//! - A request within a session means exactly the partitions that are wanted: what has changed is
//!   named, what is not wanted any more is forgotten, the rest the broker knows.
//! - After any doubt (a lost answer, a refusal) the next request names all.

use std::collections::BTreeMap;

use weir_protocol::api::fetch::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{Offset, Str, Uuid};

use crate::consumer::TopicPartition;

/// A partition to fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) topic_id: Uuid,
    pub(super) from: Offset,
    /// -1 where it is not known.
    pub(super) leader_epoch: i32,
    pub(super) bytes_max: i32,
}

/// See the module's head. One per broker.
#[derive(Debug, Default)]
pub(super) struct FetchSession {
    /// The broker's number of it; 0 for none.
    id: i32,
    /// That of the next request; 0 begins a session, and ends the one of `id`.
    epoch: i32,
    known: BTreeMap<TopicPartition, Wanted>,
    by_id: bool,
}

impl FetchSession {
    /// Fills in what a request for these partitions says of the session. `by_id`: topics are named by
    /// their ids, which all or none are.
    pub(super) fn fill(
        &mut self,
        request: &mut FetchRequest,
        wanted: &[(&TopicPartition, Wanted)],
        by_id: bool,
    ) {
        if by_id != self.by_id {
            self.by_id = by_id;
            self.epoch = 0;
        }
        request.session_id = self.id;
        request.session_epoch = self.epoch;
        if self.epoch == 0 {
            self.known.clear();
        }
        let mut gone = std::mem::take(&mut self.known);
        for (partition, wanted) in wanted {
            let before = gone.remove(partition);
            if let Some(before) = before.filter(|before| before.topic_id != wanted.topic_id) {
                forget(request, partition, before.topic_id);
            }
            if before != Some(*wanted) {
                name(request, partition, wanted);
            }
            self.known.insert((*partition).clone(), *wanted);
        }
        for (partition, before) in &gone {
            forget(request, partition, before.topic_id);
        }
    }

    /// Takes an answer's head; `false` if the request has to be made again, in full.
    pub(super) fn on_answer(&mut self, code: ErrorCode, session_id: i32) -> bool {
        match code {
            ErrorCode::None if self.epoch == 0 => {
                // 0: the broker has no room, or knows no sessions; the next request names all again.
                self.id = session_id;
                self.epoch = i32::from(session_id != 0);
                true
            }
            ErrorCode::None => {
                self.epoch = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 };
                true
            }
            ErrorCode::FetchSessionIdNotFound => {
                *self = FetchSession::default();
                false
            }
            _ => {
                self.on_lost();
                false
            }
        }
    }

    /// No answer came: the broker may be a request ahead.
    pub(super) fn on_lost(&mut self) {
        self.epoch = 0;
    }
}

fn name(request: &mut FetchRequest, partition: &TopicPartition, wanted: &Wanted) {
    let data = FetchPartition {
        partition: partition.partition.get(),
        current_leader_epoch: wanted.leader_epoch,
        fetch_offset: wanted.from.get(),
        partition_max_bytes: wanted.bytes_max,
        ..FetchPartition::default()
    };
    // They come sorted by topic, so mostly it is the last.
    match request.topics.last_mut().filter(|last| last.topic == partition.topic) {
        Some(topic) => topic.partitions.push(data),
        None => request.topics.push(FetchTopic {
            topic: partition.topic.clone(),
            topic_id: wanted.topic_id,
            partitions: vec![data],
        }),
    }
}

fn forget(request: &mut FetchRequest, partition: &TopicPartition, topic_id: Uuid) {
    let number = partition.partition.get();
    let is_last =
        |last: &&mut ForgottenTopic| last.topic == partition.topic && last.topic_id == topic_id;
    match request.forgotten_topics_data.last_mut().filter(is_last) {
        Some(topic) => topic.partitions.push(number),
        None => {
            let topic: Str = partition.topic.clone();
            let forgotten = ForgottenTopic { topic, topic_id, partitions: vec![number] };
            request.forgotten_topics_data.push(forgotten);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use weir_protocol::types::PartitionId;

    /// A broker's side: what it would read for a request.
    #[derive(Debug, Default)]
    struct Broker {
        id: i32,
        epoch: i32,
        next_id: i32,
        has_room: bool,
        partitions: BTreeMap<(Uuid, i32), i64>,
    }

    impl Broker {
        fn answer(&mut self, request: &FetchRequest) -> (ErrorCode, i32) {
            if request.session_epoch == 0 {
                self.partitions.clear();
                self.next_id += 1;
                self.id = if self.has_room { self.next_id } else { 0 };
                self.epoch = 1;
            } else if request.session_id != self.id {
                return (ErrorCode::FetchSessionIdNotFound, 0);
            } else if request.session_epoch != self.epoch {
                return (ErrorCode::InvalidFetchSessionEpoch, 0);
            } else {
                self.epoch += 1;
            }
            for topic in &request.forgotten_topics_data {
                for number in &topic.partitions {
                    assert!(self.partitions.remove(&(topic.topic_id, *number)).is_some());
                }
            }
            for topic in &request.topics {
                for partition in &topic.partitions {
                    let place = (topic.topic_id, partition.partition);
                    self.partitions.insert(place, partition.fetch_offset);
                }
            }
            (ErrorCode::None, self.id)
        }
    }

    #[derive(Debug, Clone)]
    enum Act {
        /// Fetches these partitions of two topics, from these offsets.
        Fetch(BTreeMap<(u8, i32), i64>),
        LoseAnswer(BTreeMap<(u8, i32), i64>),
        BrokerForgets,
        Room(bool),
        MadeAgain(u8),
    }

    fn act() -> impl Strategy<Value = Act> {
        let wanted = || proptest::collection::btree_map((0..2_u8, 0..4_i32), 0..3_i64, 1..6);
        prop_oneof![
            8 => wanted().prop_map(Act::Fetch),
            1 => wanted().prop_map(Act::LoseAnswer),
            1 => Just(Act::BrokerForgets),
            1 => any::<bool>().prop_map(Act::Room),
            1 => (0..2_u8).prop_map(Act::MadeAgain),
        ]
    }

    proptest! {
        #[test]
        fn the_broker_reads_exactly_what_is_wanted(
            acts in proptest::collection::vec(act(), 1..60),
        ) {
            let mut broker = Broker { has_room: true, ..Broker::default() };
            let mut session = FetchSession::default();
            let mut ids = [1_u8, 101];
            for act in acts {
                let (wanted, is_lost) = match act {
                    Act::Fetch(wanted) => (wanted, false),
                    Act::LoseAnswer(wanted) => (wanted, true),
                    Act::BrokerForgets => { broker.id = -1; continue }
                    Act::Room(has_room) => { broker.has_room = has_room; continue }
                    Act::MadeAgain(topic) => { ids[usize::from(topic)] += 1; continue }
                };
                let list: Vec<(TopicPartition, Wanted)> = wanted
                    .iter()
                    .map(|((topic, number), from)| {
                        let name = if *topic == 0 { "a" } else { "b" };
                        let partition = TopicPartition::new(name, PartitionId(*number));
                        let topic_id = Uuid([ids[usize::from(*topic)]; 16]);
                        let from = Offset(*from);
                        (partition, Wanted { topic_id, from, leader_epoch: 1, bytes_max: 1 })
                    })
                    .collect();
                let list: Vec<(&TopicPartition, Wanted)> =
                    list.iter().map(|(partition, wanted)| (partition, *wanted)).collect();
                let expected: BTreeMap<(Uuid, i32), i64> = list
                    .iter()
                    .map(|(p, wanted)| ((wanted.topic_id, p.partition.get()), wanted.from.get()))
                    .collect();
                let mut attempts = 0;
                loop {
                    let mut request = FetchRequest::default();
                    session.fill(&mut request, &list, true);
                    let (code, id) = broker.answer(&request);
                    if is_lost && attempts == 0 {
                        session.on_lost();
                    } else if session.on_answer(code, id) {
                        break;
                    }
                    attempts += 1;
                    prop_assert!(attempts < 4);
                }
                prop_assert_eq!(&broker.partitions, &expected);
            }
        }
    }
}

//! [`FetchSessions`]: incremental fetches (KIP-227) as a pure state machine.
//!
//! A client names its partitions once, in a full fetch (epoch 0), and gets a session. Each later fetch of the session
//! carries the next epoch and names only what changes: partitions to add, to read from elsewhere, to forget. Its answer
//! has only partitions with news: records, another high watermark or log start, an error.
//!
//! ```text
//! begin(request) ──▶ Sessionless | Full | Incremental { the session's partitions, with what was told of each }
//!                    … the caller reads the logs, perhaps after a wait …
//! create(…)      ──▶ the new session's id, 0 if there is no room          (after Full)
//! answered(…)    ──▶ Ok, or INVALID_FETCH_SESSION_EPOCH if it was overtaken (after Incremental)
//! ```
//!
//! # Bounds
//! At most `slots_max` sessions (Kafka's `max.incremental.fetch.session.cache.slots`) with at most `partitions_max`
//! partitions together. Where there is no room, a session makes some if it was not used for two minutes, or if it is older
//! than that and has fewer partitions than the new one; else the client gets session 0 and goes on naming all its
//! partitions. One fetch of a session waits at a time: the next one answers it. A session outlives its connection, as in
//! Kafka: its client may come back on another.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use weir_protocol::{ErrorCode, LeaderEpoch, Offset, Str, TimestampMs, Uuid};

use crate::effects::Ticket;

/// Not a session.
pub const NO_SESSION: i32 = 0;
/// Asks for a new session.
const INITIAL_EPOCH: i32 = 0;
/// Asks for none, and ends the one that is named.
const FINAL_EPOCH: i32 = -1;
/// A session not used for so long makes room, and one that is so old may be pushed out by a larger one:
/// Kafka's `FetchSessionCacheShard`.
pub const EVICTION_MS: i64 = 120_000;

/// A topic as a session's requests name it: by name up to version 12, by id from 13 on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TopicRef {
    /// By name.
    Name(Str),
    /// By id.
    Id(Uuid),
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    /// Its topic.
    pub topic: TopicRef,
    /// Its number.
    pub index: i32,
}

/// What a client wants of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Where to read.
    pub offset: Offset,
    /// `partition_max_bytes`
    pub bytes_max: usize,
    /// The leader epoch the client knows.
    pub current_leader_epoch: LeaderEpoch,
    /// The epoch of the last record the client has read (KIP-595).
    pub last_fetched_epoch: LeaderEpoch,
}

/// What a client was told of a partition last. An answer says it again only if it has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// `high_watermark`
    pub high_watermark: Offset,
    /// `log_start_offset`
    pub log_start: Offset,
}

/// A partition of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionPartition {
    /// Which.
    pub key: PartitionKey,
    /// What the client wants of it.
    pub position: Position,
    /// What the client knows of it; `None` if it must be told.
    pub told: Option<Told>,
}

/// What an answer has said of a partition.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Which.
    pub key: PartitionKey,
    /// `None` after an error: its end is news too.
    pub told: Option<Told>,
    /// There were records, so that it is the others' turn next time.
    pub has_records: bool,
}

/// What a request says of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionHead {
    /// `session_id`
    pub id: i32,
    /// `session_epoch`
    pub epoch: i32,
    /// Its topics are ids: the version is 13 or more.
    pub by_id: bool,
}

/// What kind of fetch it is.
#[derive(Debug)]
pub enum Begun {
    /// No session, and none wanted.
    Sessionless,
    /// A session is to be made for it.
    Full,
    /// It belongs to a session.
    Incremental {
        /// All partitions of the session, those first whose turn it is.
        partitions: Vec<SessionPartition>,
        /// An earlier fetch of it, which is still waiting and is to be answered
        /// [`ErrorCode::InvalidFetchSessionEpoch`].
        overtaken: Option<Ticket>,
    },
}

#[derive(Debug)]
struct Session {
    by_id: bool,
    /// Of the next request.
    epoch: i32,
    created: TimestampMs,
    last_used: TimestampMs,
    /// By turn.
    partitions: BTreeMap<u64, SessionPartition>,
    turns: HashMap<PartitionKey, u64>,
    next_turn: u64,
    /// What its topics were called when their ids were first known.
    names: HashMap<Uuid, Str>,
    /// The place in [`FetchSessions::evictable`].
    evictable_as: Option<usize>,
    /// The fetch that waits for data.
    waiting: Option<Ticket>,
}

impl Session {
    fn put_last(&mut self, partition: SessionPartition) {
        let turn = self.next_turn;
        self.next_turn += 1;
        if let Some(before) = self.turns.insert(partition.key.clone(), turn) {
            self.partitions.remove(&before);
        }
        self.partitions.insert(turn, partition);
    }

    /// What is known of a partition stays known where the client reads on elsewhere.
    fn want(&mut self, key: PartitionKey, position: Position) {
        let turn = self.turns.get(&key);
        match turn.and_then(|turn| self.partitions.get_mut(turn)) {
            Some(known) => known.position = position,
            None => self.put_last(SessionPartition { key, position, told: None }),
        }
    }

    fn forget(&mut self, key: &PartitionKey) {
        if let Some(turn) = self.turns.remove(key) {
            self.partitions.remove(&turn);
        }
    }

    fn answered(&mut self, answered: Answered) {
        let Some(turn) = self.turns.get(&answered.key) else { return };
        if let Some(known) = self.partitions.get_mut(turn) {
            known.told = answered.told;
            if answered.has_records {
                let last = known.clone();
                self.put_last(last);
            }
        }
    }
}

/// The sessions of all clients.
#[derive(Debug)]
pub struct FetchSessions {
    slots_max: usize,
    partitions_max: usize,
    sessions: HashMap<i32, Session>,
    by_last_use: BTreeSet<(TimestampMs, i32)>,
    /// Sessions that larger ones may push out, by partitions.
    evictable: BTreeSet<(usize, i32)>,
    partition_count: usize,
}

impl FetchSessions {
    /// No sessions yet. With `slots_max` 0 there will be none.
    #[must_use]
    pub fn new(slots_max: usize, partitions_max: usize) -> Self {
        Self {
            slots_max,
            partitions_max,
            sessions: HashMap::new(),
            by_last_use: BTreeSet::new(),
            evictable: BTreeSet::new(),
            partition_count: 0,
        }
    }

    /// A fetch has come. `wanted` and `forgotten` are looked at only if it is incremental.
    ///
    /// # Errors
    /// - [`ErrorCode::FetchSessionIdNotFound`]: it never was, was pushed out, or outgrew its bounds;
    /// - [`ErrorCode::InvalidFetchSessionEpoch`]: not the next request of it;
    /// - [`ErrorCode::FetchSessionTopicIdError`]: it names topics in the other way.
    pub fn begin(
        &mut self,
        head: SessionHead,
        wanted: impl IntoIterator<Item = (PartitionKey, Position)>,
        forgotten: impl IntoIterator<Item = PartitionKey>,
        session_partitions_max: usize,
        now: TimestampMs,
    ) -> Result<Begun, ErrorCode> {
        if matches!(head.epoch, INITIAL_EPOCH | FINAL_EPOCH) {
            self.remove(head.id);
            return Ok(if head.epoch == FINAL_EPOCH { Begun::Sessionless } else { Begun::Full });
        }
        let session = self.sessions.get_mut(&head.id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.epoch != head.epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.by_id != head.by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        let before = session.partitions.len();
        let room = self.partitions_max.saturating_sub(self.partition_count - before);
        let partitions_max = session_partitions_max.min(room);
        let mut outgrown = false;
        for (key, position) in wanted {
            session.want(key, position);
            outgrown = session.partitions.len() > partitions_max;
            if outgrown {
                break;
            }
        }
        forgotten.into_iter().for_each(|key| session.forget(&key));
        self.partition_count = self.partition_count - before + session.partitions.len();
        if outgrown {
            self.remove(head.id);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        session.epoch = next_epoch(session.epoch);
        let overtaken = session.waiting.take();
        let partitions: Vec<SessionPartition> = session.partitions.values().cloned().collect();
        match partitions.is_empty() {
            true => self.remove(head.id),
            false => self.touch(head.id, now),
        }
        Ok(Begun::Incremental { partitions, overtaken })
    }

    /// The fetch of a session waits for data.
    pub fn wait(&mut self, id: i32, ticket: Ticket) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.waiting = Some(ticket);
        }
    }

    /// Makes the session of a full fetch that is being answered. [`NO_SESSION`] if there is no room.
    ///
    /// `new_id` gives random numbers.
    pub fn create(
        &mut self,
        by_id: bool,
        partitions: Vec<(SessionPartition, bool)>,
        mut new_id: impl FnMut() -> u64,
        now: TimestampMs,
    ) -> i32 {
        let count = partitions.len();
        if count == 0 || self.slots_max == 0 || count > self.partitions_max {
            return NO_SESSION;
        }
        while self.sessions.len() >= self.slots_max
            || self.partition_count + count > self.partitions_max
        {
            if !self.make_room(count, now) {
                return NO_SESSION;
            }
        }
        let id = loop {
            let id = (new_id() & 0x7fff_ffff) as i32;
            if id != NO_SESSION && !self.sessions.contains_key(&id) {
                break id;
            }
        };
        let mut session = Session {
            by_id,
            epoch: next_epoch(INITIAL_EPOCH),
            created: now,
            last_used: now,
            partitions: BTreeMap::new(),
            turns: HashMap::new(),
            next_turn: 0,
            names: HashMap::new(),
            evictable_as: None,
            waiting: None,
        };
        let (with_records, without): (Vec<_>, Vec<_>) =
            partitions.into_iter().partition(|(_, has_records)| *has_records);
        for (partition, _) in without.into_iter().chain(with_records) {
            session.put_last(partition);
        }
        self.partition_count += session.partitions.len();
        self.by_last_use.insert((now, id));
        self.sessions.insert(id, session);
        id
    }

    /// An incremental fetch is being answered, which came as `epoch`.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidFetchSessionEpoch`] if a later one has come meanwhile: this one's news must not be taken for
    /// told.
    pub fn answered(
        &mut self,
        id: i32,
        epoch: i32,
        news: impl IntoIterator<Item = Answered>,
    ) -> Result<(), ErrorCode> {
        // One that was removed meanwhile is answered all the same; the next request learns of it.
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        if session.epoch != next_epoch(epoch) {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        session.waiting = None;
        news.into_iter().for_each(|answered| session.answered(answered));
        Ok(())
    }

    /// What a topic of a session was called when its id was first known. The id of a topic that is gone is known by it.
    #[must_use]
    pub fn name_of(&self, id: i32, topic: Uuid) -> Option<&Str> {
        self.sessions.get(&id)?.names.get(&topic)
    }

    /// Notes what topics of a session are called.
    pub fn learn(&mut self, id: i32, names: impl IntoIterator<Item = (Uuid, Str)>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.names.extend(names);
        if session.names.len() > session.partitions.len() {
            let used: HashSet<&TopicRef> =
                session.partitions.values().map(|partition| &partition.key.topic).collect();
            session.names.retain(|topic, _| used.contains(&TopicRef::Id(*topic)));
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Partitions of all of them.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// The clock was set: ages stay.
    pub fn shift(&mut self, by_ms: i64) {
        for session in self.sessions.values_mut() {
            session.created = session.created.plus_ms(by_ms);
            session.last_used = session.last_used.plus_ms(by_ms);
        }
        self.by_last_use = self.sessions.iter().map(|(id, one)| (one.last_used, *id)).collect();
    }

    /// Removes one session that may go for a new one of `count` partitions.
    fn make_room(&mut self, count: usize, now: TimestampMs) -> bool {
        let stale = self.by_last_use.first().filter(|(used, _)| now.since(*used) > EVICTION_MS);
        let smaller = || self.evictable.first().filter(|(partitions, _)| *partitions < count);
        let Some((_, id)) = stale.map(|(_, id)| (0, *id)).or_else(|| smaller().copied()) else {
            return false;
        };
        self.remove(id);
        true
    }

    fn touch(&mut self, id: i32, now: TimestampMs) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        self.by_last_use.remove(&(session.last_used, id));
        session.last_used = now;
        self.by_last_use.insert((now, id));
        if let Some(count) = session.evictable_as.take() {
            self.evictable.remove(&(count, id));
        }
        if now.since(session.created) > EVICTION_MS {
            let count = session.partitions.len();
            session.evictable_as = Some(count);
            self.evictable.insert((count, id));
        }
    }

    fn remove(&mut self, id: i32) {
        let Some(session) = self.sessions.remove(&id) else { return };
        self.by_last_use.remove(&(session.last_used, id));
        if let Some(count) = session.evictable_as {
            self.evictable.remove(&(count, id));
        }
        self.partition_count -= session.partitions.len();
    }
}

/// 1 follows the largest epoch: 0 would ask for a new session.
fn next_epoch(epoch: i32) -> i32 {
    match epoch {
        i32::MIN..=FINAL_EPOCH => FINAL_EPOCH,
        i32::MAX => 1,
        epoch => epoch + 1,
    }
}

#[cfg(test)]
mod tests;

//! Rules one by one, and a model: a client that merges answers knows what the logs say, whatever came in between.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const NOW: TimestampMs = TimestampMs(1_000_000);

fn key(index: i32) -> PartitionKey {
    PartitionKey { topic: TopicRef::Name("t".into()), index }
}

fn position(offset: i64) -> Position {
    let none = LeaderEpoch::NONE;
    let (current_leader_epoch, last_fetched_epoch) = (none, none);
    Position { offset: Offset(offset), bytes_max: 100, current_leader_epoch, last_fetched_epoch }
}

fn told(high_watermark: i64) -> Option<Told> {
    Some(Told { high_watermark: Offset(high_watermark), log_start: Offset(0) })
}

fn head(id: i32, epoch: i32) -> SessionHead {
    SessionHead { id, epoch, by_id: false }
}

fn begin(sessions: &mut FetchSessions, id: i32, epoch: i32) -> Result<Begun, ErrorCode> {
    sessions.begin(head(id, epoch), [], [], usize::MAX, NOW)
}

/// A session of partitions 0 to `count`, made at `now`.
fn create(sessions: &mut FetchSessions, seed: u64, count: i32, now: TimestampMs) -> i32 {
    let partition = |index| {
        let known = SessionPartition { key: key(index), position: position(0), told: told(0) };
        (known, false)
    };
    let mut number = seed;
    let new_id = || {
        number += 1;
        number
    };
    sessions.create(false, (0..count).map(partition).collect(), new_id, now)
}

fn order(begun: Begun) -> Vec<i32> {
    match begun {
        Begun::Incremental { partitions, .. } => {
            partitions.iter().map(|partition| partition.key.index).collect()
        }
        other => panic!("not incremental but {other:?}"),
    }
}

#[test]
fn requests_out_of_turn_are_refused_by_name() {
    let mut sessions = FetchSessions::new(10, 100);
    let id = create(&mut sessions, 4, 2, NOW);
    let check = |sessions: &mut FetchSessions, head: SessionHead, expect: ErrorCode| {
        assert_eq!(sessions.begin(head, [], [], 100, NOW).unwrap_err(), expect, "{head:?}");
    };
    check(&mut sessions, head(id + 1, 1), ErrorCode::FetchSessionIdNotFound);
    check(&mut sessions, head(0, 1), ErrorCode::FetchSessionIdNotFound);
    check(&mut sessions, head(id, 2), ErrorCode::InvalidFetchSessionEpoch);
    check(&mut sessions, head(id, -2), ErrorCode::InvalidFetchSessionEpoch);
    let by_id = SessionHead { by_id: true, ..head(id, 1) };
    check(&mut sessions, by_id, ErrorCode::FetchSessionTopicIdError);
    assert_eq!(order(begin(&mut sessions, id, 1).unwrap()), [0, 1], "none of them has cost it");
    check(&mut sessions, head(id, 1), ErrorCode::InvalidFetchSessionEpoch);
}

#[test]
fn a_full_fetch_ends_the_session_it_names() {
    let mut sessions = FetchSessions::new(10, 100);
    let one = create(&mut sessions, 4, 2, NOW);
    assert!(matches!(begin(&mut sessions, one, INITIAL_EPOCH), Ok(Begun::Full)));
    assert!(sessions.is_empty());
    let two = create(&mut sessions, 9, 2, NOW);
    assert!(matches!(begin(&mut sessions, two, FINAL_EPOCH), Ok(Begun::Sessionless)));
    assert_eq!((sessions.len(), sessions.partition_count()), (0, 0));
}

#[test]
fn one_follows_the_last_epoch() {
    let mut sessions = FetchSessions::new(10, 100);
    let id = create(&mut sessions, 4, 1, NOW);
    sessions.sessions.get_mut(&id).unwrap().epoch = i32::MAX;
    begin(&mut sessions, id, i32::MAX).unwrap();
    assert_eq!(sessions.answered(id, i32::MAX, []), Ok(()));
    begin(&mut sessions, id, 1).unwrap();
}

#[test]
fn partitions_with_records_wait_for_the_others() {
    let mut sessions = FetchSessions::new(10, 100);
    let id = create(&mut sessions, 4, 3, NOW);
    assert_eq!(order(begin(&mut sessions, id, 1).unwrap()), [0, 1, 2]);
    let news = Answered { key: key(0), told: told(5), has_records: true };
    sessions.answered(id, 1, [news]).unwrap();
    assert_eq!(order(begin(&mut sessions, id, 2).unwrap()), [1, 2, 0]);
}

#[test]
fn a_fetch_that_was_overtaken_has_told_nothing() {
    let mut sessions = FetchSessions::new(10, 100);
    let id = create(&mut sessions, 4, 1, NOW);
    begin(&mut sessions, id, 1).unwrap();
    sessions.wait(id, Ticket(7));
    let Begun::Incremental { overtaken, .. } = begin(&mut sessions, id, 2).unwrap() else {
        panic!("it is incremental")
    };
    assert_eq!(overtaken, Some(Ticket(7)));
    let news = Answered { key: key(0), told: told(5), has_records: false };
    let answered = sessions.answered(id, 1, [news]);
    assert_eq!(answered, Err(ErrorCode::InvalidFetchSessionEpoch));
    let Begun::Incremental { partitions, .. } = begin(&mut sessions, id, 3).unwrap() else {
        panic!("it is incremental")
    };
    assert_eq!(partitions[0].told, told(0));
}

#[test]
fn a_session_without_partitions_ends() {
    let mut sessions = FetchSessions::new(10, 100);
    let id = create(&mut sessions, 4, 1, NOW);
    let begun = sessions.begin(head(id, 1), [], [key(0)], 100, NOW).unwrap();
    assert!(order(begun).is_empty());
    assert!(sessions.is_empty());
}

#[test]
fn room_is_made_by_the_stale_and_then_by_the_old_and_smaller() {
    let mut sessions = FetchSessions::new(2, 100);
    let small = create(&mut sessions, 10, 2, NOW);
    let large = create(&mut sessions, 20, 5, NOW);
    assert_eq!(create(&mut sessions, 30, 9, NOW), NO_SESSION, "both are in use");
    let later = NOW.plus_ms(EVICTION_MS + 1);
    sessions.begin(head(small, 1), [], [], 100, later).unwrap();
    sessions.begin(head(large, 1), [], [], 100, later).unwrap();
    assert_eq!(create(&mut sessions, 40, 2, later), NO_SESSION, "not larger than the smallest");
    let third = create(&mut sessions, 50, 3, later);
    assert_ne!(third, NO_SESSION);
    assert!(!sessions.sessions.contains_key(&small) && sessions.sessions.contains_key(&large));
    let much_later = later.plus_ms(EVICTION_MS + 1);
    sessions.begin(head(third, 1), [], [], 100, much_later).unwrap();
    assert_ne!(create(&mut sessions, 60, 1, much_later), NO_SESSION, "the large one was not used");
    assert!(!sessions.sessions.contains_key(&large) && sessions.sessions.contains_key(&third));
}

#[test]
fn all_sessions_together_have_a_bound_of_partitions() {
    let mut sessions = FetchSessions::new(10, 10);
    assert_eq!(create(&mut sessions, 4, 11, NOW), NO_SESSION);
    let id = create(&mut sessions, 5, 7, NOW);
    assert_eq!(create(&mut sessions, 6, 4, NOW), NO_SESSION);
    let other = create(&mut sessions, 7, 3, NOW);
    assert_ne!(other, NO_SESSION);
    let more = [(key(7), position(0))];
    let outgrown = sessions.begin(head(id, 1), more, [], 100, NOW).unwrap_err();
    assert_eq!(outgrown, ErrorCode::FetchSessionIdNotFound);
    assert_eq!((sessions.len(), sessions.partition_count()), (1, 3));
    let swapped = sessions.begin(head(other, 1), [(key(3), position(0))], [key(0)], 3, NOW);
    assert_eq!(swapped.unwrap_err(), ErrorCode::FetchSessionIdNotFound, "its own bound");
    assert!(sessions.is_empty() && sessions.partition_count() == 0);
}

#[test]
fn a_clock_that_is_set_makes_nobody_stale() {
    let mut sessions = FetchSessions::new(1, 10);
    let id = create(&mut sessions, 4, 2, NOW);
    sessions.shift(EVICTION_MS * 9);
    let set = NOW.plus_ms(EVICTION_MS * 9);
    assert_eq!(create(&mut sessions, 5, 5, set), NO_SESSION);
    sessions.begin(head(id, 1), [], [], 100, set).unwrap();
}

const CLIENTS: usize = 4;
const PARTITIONS: usize = 6;
const SLOTS: usize = 3;
const CAPACITY: usize = 14;

#[derive(Debug, Clone)]
enum Op {
    /// A log moves: its high watermark and start, and whether it is broken.
    Log { partition: usize, by: i64, start: bool, broken: bool },
    /// A client begins anew with these partitions (a bit each).
    Full { client: usize, partitions: u8 },
    /// A client adds and forgets partitions (a bit each); its answer may get lost, and may come after the next request.
    Next { client: usize, add: u8, forget: u8, lost: bool },
    /// A request that is out of turn.
    Astray { client: usize, epoch: i32 },
    /// Time passes.
    Wait { ms: i64 },
}

fn op() -> impl Strategy<Value = Op> {
    let (client, bits) = (0..CLIENTS, 0_u8..1 << PARTITIONS);
    prop_oneof![
        3 => (0..PARTITIONS, 0_i64..3, any::<bool>(), prop::bool::weighted(0.2)).prop_map(
            |(partition, by, start, broken)| Op::Log { partition, by, start, broken }
        ),
        2 => (client.clone(), bits.clone())
            .prop_map(|(client, partitions)| Op::Full { client, partitions }),
        6 => (client.clone(), bits.clone(), bits, prop::bool::weighted(0.1)).prop_map(
            |(client, add, forget, lost)| Op::Next { client, add, forget, lost }
        ),
        1 => (client, -3..9).prop_map(|(client, epoch)| Op::Astray { client, epoch }),
        1 => (1..EVICTION_MS).prop_map(|ms| Op::Wait { ms }),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct LogState {
    high_watermark: i64,
    start: i64,
    broken: bool,
}

impl LogState {
    fn told(self) -> Option<Told> {
        let (high_watermark, log_start) = (Offset(self.high_watermark), Offset(self.start));
        (!self.broken).then_some(Told { high_watermark, log_start })
    }
}

/// What a client has learnt from its answers.
#[derive(Debug)]
struct Client {
    id: i32,
    epoch: i32,
    used: i64,
    created: i64,
    known: BTreeMap<usize, LogState>,
}

impl Client {
    fn new() -> Self {
        Self { id: NO_SESSION, epoch: 1, used: 0, created: 0, known: BTreeMap::new() }
    }
}

struct World {
    sessions: FetchSessions,
    logs: [LogState; PARTITIONS],
    clients: [Client; CLIENTS],
    now: TimestampMs,
    numbers: u64,
}

fn bits(bits: u8) -> impl Iterator<Item = usize> {
    (0..PARTITIONS).filter(move |bit| bits & (1 << bit) != 0)
}

fn partition(index: usize) -> PartitionKey {
    key(i32::try_from(index).unwrap())
}

impl World {
    fn full(&mut self, client: usize, wanted: u8) {
        let id = self.clients[client].id;
        let begun = self.sessions.begin(head(id, INITIAL_EPOCH), [], [], 100, self.now).unwrap();
        assert!(matches!(begun, Begun::Full));
        let known: BTreeMap<usize, LogState> =
            bits(wanted).map(|index| (index, self.logs[index])).collect();
        let partitions = known.iter().map(|(index, log)| {
            let key = partition(*index);
            (SessionPartition { key, position: position(0), told: log.told() }, false)
        });
        let partitions: Vec<_> = partitions.collect();
        self.clients[client].id = NO_SESSION;
        let may_go = self.may_make_room(partitions.len());
        let has_room = self.sessions.len() < SLOTS
            && self.sessions.partition_count() + partitions.len() <= CAPACITY;
        let numbers = &mut self.numbers;
        let new_id = || {
            *numbers += 1;
            *numbers
        };
        let count = partitions.len();
        let id = self.sessions.create(false, partitions, new_id, self.now);
        if count == 0 {
            assert_eq!(id, NO_SESSION);
        } else if has_room {
            assert_ne!(id, NO_SESSION, "there was room");
        } else if !may_go {
            assert_eq!(id, NO_SESSION, "nobody had to go");
        }
        let now = self.now.get();
        self.clients[client] = Client { id, epoch: 1, used: now, created: now, known };
    }

    /// Whether some session is stale, or old and smaller.
    fn may_make_room(&self, count: usize) -> bool {
        self.clients.iter().filter(|one| self.sessions.sessions.contains_key(&one.id)).any(|one| {
            let now = self.now.get();
            let old = one.used - one.created > EVICTION_MS && one.known.len() < count;
            now - one.used > EVICTION_MS || old
        })
    }

    fn next(&mut self, client: usize, add: u8, forget: u8, lost: bool) {
        let Client { id, epoch, .. } = self.clients[client];
        let lives = self.sessions.sessions.contains_key(&id);
        let wanted = bits(add).map(|index| (partition(index), position(0)));
        let forgotten = bits(forget).map(partition);
        let begun = self.sessions.begin(head(id, epoch), wanted, forgotten, 100, self.now);
        let partitions = match begun {
            Ok(Begun::Incremental { partitions, overtaken: None }) => partitions,
            Err(ErrorCode::FetchSessionIdNotFound) => {
                let grown = self.clients[client].known.len() + bits(add).count();
                assert!(!lives || grown + self.others(client) > CAPACITY);
                assert!(!self.sessions.sessions.contains_key(&id));
                self.clients[client] = Client::new();
                return;
            }
            other => panic!("{other:?}"),
        };
        let me = &mut self.clients[client];
        (me.used, me.epoch) = (self.now.get(), next_epoch(epoch));
        bits(add).for_each(|index| {
            me.known.entry(index).or_insert(LogState { high_watermark: -1, ..LogState::default() });
        });
        bits(forget).for_each(|index| {
            me.known.remove(&index);
        });
        let mut of_session: Vec<_> = partitions.iter().map(|one| one.key.index).collect();
        of_session.sort_unstable();
        let of_client = me.known.keys().map(|index| i32::try_from(*index).unwrap());
        assert_eq!(of_session, of_client.collect::<Vec<_>>());
        if lost {
            // The client cannot know what it was told: it begins anew.
            let begun = self.sessions.begin(head(id, FINAL_EPOCH), [], [], 100, self.now);
            assert!(matches!(begun, Ok(Begun::Sessionless)));
            *me = Client::new();
            return;
        }
        let news = partitions.into_iter().filter_map(|one| {
            let index = usize::try_from(one.key.index).unwrap();
            let told = self.logs[index].told();
            if one.told.is_some() && one.told == told {
                return None;
            }
            me.known.insert(index, self.logs[index]);
            Some(Answered { key: one.key, told, has_records: index % 2 == 0 })
        });
        let news: Vec<_> = news.collect();
        assert_eq!(self.sessions.answered(id, epoch, news), Ok(()));
        for (index, known) in &me.known {
            assert_eq!(*known, self.logs[*index], "partition {index} as the client knows it");
        }
        if me.known.is_empty() {
            *me = Client::new();
        }
    }

    fn others(&self, client: usize) -> usize {
        let others = self.clients.iter().enumerate().filter(|(index, one)| {
            *index != client && self.sessions.sessions.contains_key(&one.id)
        });
        others.map(|(_, one)| one.known.len()).sum()
    }

    fn astray(&mut self, client: usize, epoch: i32) {
        let Client { id, epoch: expected, .. } = self.clients[client];
        if matches!(epoch, INITIAL_EPOCH | FINAL_EPOCH) || epoch == expected {
            return;
        }
        let lives = self.sessions.sessions.contains_key(&id);
        let error = match lives {
            true => ErrorCode::InvalidFetchSessionEpoch,
            false => ErrorCode::FetchSessionIdNotFound,
        };
        let begun = self.sessions.begin(head(id, epoch), [], [], 100, self.now);
        assert_eq!(begun.unwrap_err(), error);
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Log { partition, by, start, broken } => {
                let log = &mut self.logs[partition];
                log.high_watermark += by;
                log.start = if start { log.high_watermark } else { log.start };
                log.broken = broken;
            }
            Op::Full { client, partitions } => self.full(client, partitions),
            Op::Next { client, add, forget, lost } => self.next(client, add, forget, lost),
            Op::Astray { client, epoch } => self.astray(client, epoch),
            Op::Wait { ms } => self.now = self.now.plus_ms(ms),
        }
        assert!(self.sessions.len() <= SLOTS && self.sessions.partition_count() <= CAPACITY);
        let counted: usize =
            self.sessions.sessions.values().map(|session| session.partitions.len()).sum();
        assert_eq!(counted, self.sessions.partition_count());
        assert_eq!(self.sessions.by_last_use.len(), self.sessions.len());
        let turns = |session: &Session| session.turns.len() == session.partitions.len();
        assert!(self.sessions.sessions.values().all(turns));
    }
}

proptest! {
    #[test]
    fn a_client_that_merges_its_answers_knows_the_logs(ops in prop::collection::vec(op(), 1..80)) {
        let mut world = World {
            sessions: FetchSessions::new(SLOTS, CAPACITY),
            logs: [LogState::default(); PARTITIONS],
            clients: std::array::from_fn(|_| Client::new()),
            now: NOW,
            numbers: 0,
        };
        for op in ops {
            world.run(op);
        }
    }
}

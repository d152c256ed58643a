//! Fetch: what there is up to the high watermark, or a wait for it.
//!
//! The high watermark of a partition is its synced offset, so nobody reads what a power cut can take back. The core
//! decides which bytes of which files are sent; reading them is left to the shell, outside the lock: little at once
//! ([`FetchAnswer::read`]), much a chunk at a time while the frame is being sent ([`FetchAnswer::encode_around`]).
//!
//! Of a fetch session (KIP-227, [`crate::fetch_session`]) an answer has only the partitions with news.

use std::collections::{BTreeSet, HashMap};
use std::io;

use bytes::{Bytes, BytesMut};
use weir_log::{FileSlice, LogId};
use weir_protocol::api::fetch::{
    EpochEndOffset, FetchPartition, FetchRequest, FetchResponse, FetchTopic,
    FetchableTopicResponse, ForgottenTopic, PartitionData,
};
use weir_protocol::compression::Codec;
use weir_protocol::{
    frame, ApiKey, EncodeError, ErrorCode, LeaderEpoch, Offset, PartitionId, Str, TimestampMs, Uuid,
};

use crate::broker::{Broker, Step};
use crate::effects::{ConnId, Ticket};
use crate::fetch_session::{
    Answered, Begun, PartitionKey, Position, SessionHead, SessionPartition, Told, TopicRef,
    NO_SESSION,
};
use crate::purgatory::ParkedFetch;
use crate::request::Response;
use crate::topics::Topic;

/// Before this version of Fetch a client need not know zstd (KIP-110).
const ZSTD_FETCH_VERSION_MIN: i16 = 10;

/// Isolation level of a request: only what is committed.
pub(crate) const READ_COMMITTED: i8 = 1;

/// What a fetch asks for.
#[derive(Debug)]
pub struct FetchPlan {
    read_committed: bool,
    /// The client may know zstd.
    reads_zstd: bool,
    min_bytes: usize,
    bytes_max: usize,
    session: PlanSession,
    topics: Vec<PlanTopic>,
    /// The partitions as places in `topics`, in the order they are read: whoever comes last may find no room.
    order: Vec<(usize, usize)>,
    /// The logs it waits for, while it is parked.
    logs: Vec<LogId>,
}

/// What becomes of the session when a fetch is answered.
#[derive(Debug, Clone, Copy)]
enum PlanSession {
    /// Nothing.
    None,
    /// One is made.
    New { by_id: bool },
    /// Its partitions are told.
    Goes(SessionHead),
}

#[derive(Debug)]
struct PlanTopic {
    topic: TopicRef,
    /// What a topic named by its id is called, or was; `None` if nobody knows the id.
    name: Option<Str>,
    partitions: Vec<PlanPartition>,
}

#[derive(Debug)]
struct PlanPartition {
    index: i32,
    position: Position,
    /// What the client knows of it; `None` if it must be told.
    told: Option<Told>,
}

/// An answer whose record bytes are still in their files.
#[derive(Debug)]
pub struct FetchAnswer {
    /// The answer, without record bytes until [`FetchAnswer::read`].
    pub response: FetchResponse,
    slices: Vec<PartitionSlices>,
    bytes: usize,
}

/// A piece of an answer's frame.
#[derive(Debug)]
pub enum Piece {
    /// Here it is.
    Bytes(Bytes),
    /// Records that are still in their file.
    Records(FileSlice),
}

/// What stands for records that are left out while the rest is encoded; known by its address.
static STAND_IN: [u8; 1] = [0];

#[derive(Debug)]
struct PartitionSlices {
    topic: usize,
    partition: usize,
    slices: Vec<FileSlice>,
}

impl FetchPlan {
    /// A plan of `request` without its partitions.
    fn new(
        request: &FetchRequest,
        version: i16,
        session: PlanSession,
        fetch_bytes_max: usize,
    ) -> Self {
        Self {
            read_committed: request.isolation_level == READ_COMMITTED,
            reads_zstd: version >= ZSTD_FETCH_VERSION_MIN,
            // More than may be sent would never come.
            min_bytes: size(request.min_bytes).min(size(request.max_bytes)).min(fetch_bytes_max),
            bytes_max: size(request.max_bytes).min(fetch_bytes_max),
            session,
            topics: Vec::new(),
            order: Vec::new(),
            logs: Vec::new(),
        }
    }

    /// Takes the partitions of a request. Each fetch begins to read at another one.
    fn add_topics(&mut self, topics: &[FetchTopic], by_id: bool, turn: usize) {
        for topic in topics {
            let partitions = topic.partitions.iter().map(|partition| PlanPartition {
                index: partition.partition,
                position: position(partition),
                told: None,
            });
            let partitions: Vec<_> = partitions.collect();
            let place = self.topics.len();
            self.order.extend((0..partitions.len()).map(|partition| (place, partition)));
            let topic = topic_ref(&topic.topic, topic.topic_id, by_id);
            self.topics.push(PlanTopic { topic, name: None, partitions });
        }
        if !self.order.is_empty() {
            let turn = turn % self.order.len();
            self.order.rotate_left(turn);
        }
    }

    /// Takes the partitions of a session, in its order.
    fn add_partitions(&mut self, partitions: Vec<SessionPartition>) {
        let mut places: HashMap<TopicRef, usize> = HashMap::new();
        for SessionPartition { key, position, told } in partitions {
            let place = *places.entry(key.topic).or_insert_with_key(|topic| {
                let (topic, name) = (topic.clone(), None);
                self.topics.push(PlanTopic { topic, name, partitions: Vec::new() });
                self.topics.len() - 1
            });
            let Some(topic) = self.topics.get_mut(place) else { continue };
            self.order.push((place, topic.partitions.len()));
            topic.partitions.push(PlanPartition { index: key.index, position, told });
        }
    }

    /// The logs it waits for.
    pub fn logs(&self) -> impl Iterator<Item = LogId> + '_ {
        self.logs.iter().copied()
    }

    fn at(&self, (topic, partition): (usize, usize)) -> Option<(&PlanTopic, &PlanPartition)> {
        let topic = self.topics.get(topic)?;
        Some((topic, topic.partitions.get(partition)?))
    }
}

fn size(bytes: i32) -> usize {
    usize::try_from(bytes).unwrap_or(0)
}

fn position(partition: &FetchPartition) -> Position {
    Position {
        offset: Offset(partition.fetch_offset),
        bytes_max: size(partition.partition_max_bytes),
        current_leader_epoch: LeaderEpoch(partition.current_leader_epoch),
        last_fetched_epoch: LeaderEpoch(partition.last_fetched_epoch),
    }
}

fn topic_ref(name: &Str, id: Uuid, by_id: bool) -> TopicRef {
    match by_id {
        true => TopicRef::Id(id),
        false => TopicRef::Name(Str::copy_from(name)),
    }
}

fn wanted_partitions(
    topics: &[FetchTopic],
    by_id: bool,
) -> impl Iterator<Item = (PartitionKey, Position)> + '_ {
    topics.iter().flat_map(move |topic| {
        let named = topic_ref(&topic.topic, topic.topic_id, by_id);
        topic.partitions.iter().map(move |partition| {
            let key = PartitionKey { topic: named.clone(), index: partition.partition };
            (key, position(partition))
        })
    })
}

fn forgotten_partitions(
    topics: &[ForgottenTopic],
    by_id: bool,
) -> impl Iterator<Item = PartitionKey> + '_ {
    topics.iter().flat_map(move |topic| {
        let named = topic_ref(&topic.topic, topic.topic_id, by_id);
        let key = move |index: &i32| PartitionKey { topic: named.clone(), index: *index };
        topic.partitions.iter().map(key)
    })
}

/// What was found for one partition.
#[derive(Debug)]
struct Found {
    place: (usize, usize),
    data: PartitionData,
    slices: Vec<FileSlice>,
}

/// What there is for a plan.
#[derive(Debug, Default)]
struct Evaluation {
    found: Vec<Found>,
    bytes: usize,
    /// There is an error or a diverging epoch, which is told at once.
    is_urgent: bool,
}

impl FetchAnswer {
    /// Reads the files into the answer. `buffer` is kept for the next one: once its pieces are sent, its memory is used
    /// again.
    ///
    /// # Errors
    /// If a file cannot be read. The connection is then to be closed: the client asks again.
    pub fn read(&mut self, buffer: &mut BytesMut) -> io::Result<()> {
        buffer.clear();
        buffer.reserve(self.bytes);
        for part in std::mem::take(&mut self.slices) {
            let len: usize = part.slices.iter().map(|slice| slice.len_bytes()).sum();
            buffer.resize(len, 0);
            let mut bytes = buffer.split();
            let mut at = 0;
            for slice in &part.slices {
                let Some(room) = bytes.get_mut(at..at + slice.len_bytes()) else { continue };
                slice.read_into(room)?;
                at += slice.len_bytes();
            }
            let topic = self.response.responses.get_mut(part.topic);
            if let Some(partition) =
                topic.and_then(|topic| topic.partitions.get_mut(part.partition))
            {
                partition.records = Some(bytes.freeze());
            }
        }
        Ok(())
    }

    /// The frame of this answer in pieces, with the records left in their files: its length is known from theirs.
    ///
    /// # Errors
    /// If it cannot be written in this version.
    pub fn encode_around(
        mut self,
        key: ApiKey,
        version: i16,
        correlation_id: i32,
    ) -> Result<Vec<Piece>, EncodeError> {
        let stand_in = Bytes::from_static(&STAND_IN);
        let mut lens = Vec::with_capacity(self.slices.len());
        for part in &self.slices {
            let topic = self.response.responses.get_mut(part.topic);
            let partition = topic.and_then(|topic| topic.partitions.get_mut(part.partition));
            if let Some(partition) = partition {
                partition.records = Some(stand_in.clone());
                lens.push(part.slices.iter().map(|slice| slice.len_bytes()).sum());
            }
        }
        debug_assert_eq!(lens.len(), self.slices.len(), "each slice has its place");
        let encoded = frame::encode_response_around(
            key,
            version,
            correlation_id,
            &self.response,
            stand_in,
            lens,
        )?;
        let mut slices = self.slices.into_iter();
        let mut pieces = Vec::with_capacity(encoded.len());
        for piece in encoded {
            match piece.is_empty() {
                false => pieces.push(Piece::Bytes(piece)),
                true => {
                    let part = slices.next().into_iter().flat_map(|part| part.slices);
                    pieces.extend(part.map(Piece::Records));
                }
            }
        }
        Ok(pieces)
    }

    /// Bytes of records it will have.
    #[must_use]
    pub fn record_bytes(&self) -> usize {
        self.bytes
    }

    fn error(error: ErrorCode, session_id: i32) -> Self {
        let error_code = error.code();
        let response = FetchResponse { error_code, session_id, ..FetchResponse::default() };
        Self { response, slices: Vec::new(), bytes: 0 }
    }

    /// The answer of these partitions, which lie in the order of their places.
    fn new(plan: &FetchPlan, found: Vec<Found>, session_id: i32) -> Self {
        let mut answer = Self {
            response: FetchResponse { session_id, ..FetchResponse::default() },
            slices: Vec::new(),
            bytes: 0,
        };
        let mut last = None;
        for Found { place, data, slices } in found {
            let Some(planned) = plan.topics.get(place.0) else { continue };
            let responses = &mut answer.response.responses;
            if last.replace(place.0) != Some(place.0) {
                let (topic, topic_id) = match &planned.topic {
                    TopicRef::Name(name) => (name.clone(), Uuid::ZERO),
                    TopicRef::Id(id) => (Str::new(), *id),
                };
                let partitions = Vec::new();
                responses.push(FetchableTopicResponse { topic, topic_id, partitions });
            }
            let topic = responses.len() - 1;
            let Some(place) = responses.get_mut(topic) else { continue };
            if !slices.is_empty() {
                answer.bytes += slices.iter().map(|slice| slice.len_bytes()).sum::<usize>();
                let partition = place.partitions.len();
                answer.slices.push(PartitionSlices { topic, partition, slices });
            }
            place.partitions.push(data);
        }
        answer
    }
}

impl Broker {
    pub(crate) fn fetch(
        &mut self,
        conn: ConnId,
        ticket: Ticket,
        request: &FetchRequest,
        version: i16,
        now: TimestampMs,
        woken: &mut Vec<(Ticket, Response)>,
    ) -> Step {
        let refused = |error| Step::Answer(Response::Fetch(FetchAnswer::error(error, NO_SESSION)));
        if request.replica_id >= 0 || request.replica_state.replica_id >= 0 {
            // Replicas read beyond the high watermark, and there are none (CVE-2018-1288).
            return refused(ErrorCode::InvalidRequest);
        }
        let named: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
        if named > self.config.request_partitions_max {
            return refused(ErrorCode::InvalidRequest);
        }
        let plan = match self.plan_fetch(request, version, now, woken) {
            Ok(plan) => plan,
            Err(error) => return refused(error),
        };
        self.answer_or_park(conn, ticket, request.max_wait_ms, plan, now)
    }

    /// The plan of a fetch: of the partitions it names, or of its session.
    fn plan_fetch(
        &mut self,
        request: &FetchRequest,
        version: i16,
        now: TimestampMs,
        woken: &mut Vec<(Ticket, Response)>,
    ) -> Result<FetchPlan, ErrorCode> {
        let by_id = version >= 13;
        let (id, epoch) = (request.session_id, request.session_epoch);
        let head = SessionHead { id, epoch, by_id };
        let begun = self.fetch_sessions.begin(
            head,
            wanted_partitions(&request.topics, by_id),
            forgotten_partitions(&request.forgotten_topics_data, by_id),
            self.config.request_partitions_max,
            now,
        )?;
        let fetch_bytes_max = self.config.fetch_bytes_max;
        let session = match &begun {
            Begun::Sessionless => PlanSession::None,
            Begun::Full => PlanSession::New { by_id },
            Begun::Incremental { partitions, .. } if partitions.is_empty() => PlanSession::None,
            Begun::Incremental { .. } => PlanSession::Goes(head),
        };
        let mut plan = FetchPlan::new(request, version, session, fetch_bytes_max);
        match begun {
            Begun::Sessionless | Begun::Full => {
                self.fetch_turn = self.fetch_turn.wrapping_add(1);
                plan.add_topics(&request.topics, by_id, self.fetch_turn);
            }
            Begun::Incremental { partitions, overtaken } => {
                plan.add_partitions(partitions);
                if let Some(overtaken) = overtaken.filter(|one| self.purgatory.take(*one).is_some())
                {
                    let error = ErrorCode::InvalidFetchSessionEpoch;
                    woken.push((overtaken, Response::Fetch(FetchAnswer::error(error, id))));
                }
            }
        }
        self.name_topics(&mut plan, id);
        Ok(plan)
    }

    /// Gives the topics of a plan that are named by their ids the names they have, or had when their session met them.
    fn name_topics(&mut self, plan: &mut FetchPlan, session: i32) {
        let in_session = matches!(plan.session, PlanSession::Goes(_));
        let mut learnt = Vec::new();
        for topic in &mut plan.topics {
            let TopicRef::Id(id) = topic.topic else { continue };
            let known = self.fetch_sessions.name_of(session, id).filter(|_| in_session).cloned();
            topic.name = known.or_else(|| {
                let name = self.topics.get_by_id(id)?.name().clone();
                learnt.push((id, name.clone()));
                Some(name)
            });
        }
        if in_session && !learnt.is_empty() {
            self.fetch_sessions.learn(session, learnt);
        }
    }

    fn answer_or_park(
        &mut self,
        conn: ConnId,
        ticket: Ticket,
        wait_ms_max: i32,
        mut plan: FetchPlan,
        now: TimestampMs,
    ) -> Step {
        let wait_ms = wait_ms_max.clamp(0, self.config.fetch_wait_ms_max);
        let evaluation = self.evaluate(&plan);
        if evaluation.is_urgent
            || evaluation.bytes >= plan.min_bytes
            || wait_ms == 0
            || plan.order.is_empty()
        {
            return Step::Answer(self.fetch_response(&plan, evaluation, now));
        }
        if let PlanSession::Goes(head) = plan.session {
            self.fetch_sessions.wait(head.id, ticket);
        }
        plan.logs = self.logs_of(&plan);
        let deadline = now.plus_ms(i64::from(wait_ms));
        self.purgatory.park(ticket, ParkedFetch { conn, plan, deadline });
        Step::Parked
    }

    fn logs_of(&self, plan: &FetchPlan) -> Vec<LogId> {
        let partitions =
            plan.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |p| (topic, p)));
        let mut logs: Vec<LogId> = partitions
            .filter_map(|(topic, partition)| {
                self.fetched_topic(topic).ok()?.log(PartitionId(partition.index))
            })
            .collect();
        logs.sort_unstable();
        logs.dedup();
        logs
    }

    /// Answers those who wait for one of `logs` and now have enough. Each is looked at once, however many of its logs
    /// have grown.
    pub(crate) fn wake_fetches(
        &mut self,
        logs: impl Iterator<Item = LogId>,
        now: TimestampMs,
        woken: &mut Vec<(Ticket, Response)>,
    ) {
        let tickets: BTreeSet<Ticket> =
            logs.flat_map(|log| self.purgatory.waiting_for(log)).collect();
        for ticket in tickets {
            self.wake_fetch_if_ready(ticket, now, woken);
        }
    }

    /// Looks at all that wait: a topic was made or deleted.
    pub(crate) fn wake_all_fetches(
        &mut self,
        now: TimestampMs,
        woken: &mut Vec<(Ticket, Response)>,
    ) {
        for ticket in self.purgatory.tickets() {
            self.wake_fetch_if_ready(ticket, now, woken);
        }
    }

    fn wake_fetch_if_ready(
        &mut self,
        ticket: Ticket,
        now: TimestampMs,
        woken: &mut Vec<(Ticket, Response)>,
    ) {
        let Some(parked) = self.purgatory.get(ticket) else { return };
        let evaluation = self.evaluate(&parked.plan);
        if evaluation.is_urgent || evaluation.bytes >= parked.plan.min_bytes {
            if let Some(parked) = self.purgatory.take(ticket) {
                woken.push((ticket, self.fetch_response(&parked.plan, evaluation, now)));
            }
        }
    }

    /// Answers those whose time is up with what there is.
    pub(crate) fn expire_fetches(&mut self, now: TimestampMs, woken: &mut Vec<(Ticket, Response)>) {
        while let Some((ticket, parked)) = self.purgatory.take_due(now) {
            let evaluation = self.evaluate(&parked.plan);
            woken.push((ticket, self.fetch_response(&parked.plan, evaluation, now)));
        }
    }

    /// What there is now for `plan`, but for partitions without news.
    fn evaluate(&self, plan: &FetchPlan) -> Evaluation {
        let mut evaluation = Evaluation::default();
        for place in &plan.order {
            let Some((topic, wanted)) = plan.at(*place) else { continue };
            let left_bytes = plan.bytes_max.saturating_sub(evaluation.bytes);
            let first = evaluation.bytes == 0;
            let read = self.read_partition(plan, topic, wanted, left_bytes, first);
            let (data, slices) = read.unwrap_or_else(|error| {
                evaluation.is_urgent = true;
                (failed_partition(wanted.index, error), Vec::new())
            });
            evaluation.bytes += slices.iter().map(|slice| slice.len_bytes()).sum::<usize>();
            let diverges = data.diverging_epoch.epoch >= 0;
            evaluation.is_urgent |= diverges;
            if !slices.is_empty() || diverges || wanted.told.is_none() || wanted.told != told(&data)
            {
                evaluation.found.push(Found { place: *place, data, slices });
            }
        }
        evaluation
    }

    /// The answer to a fetch, whose session takes note of it.
    fn fetch_response(
        &mut self,
        plan: &FetchPlan,
        mut evaluation: Evaluation,
        now: TimestampMs,
    ) -> Response {
        evaluation.found.sort_unstable_by_key(|found| found.place);
        let found = evaluation.found;
        let session_id = match plan.session {
            PlanSession::None => NO_SESSION,
            PlanSession::New { by_id } => self.make_session(plan, by_id, &found, now),
            PlanSession::Goes(head) => {
                let key = |found: &Found| {
                    let (topic, partition) = plan.at(found.place)?;
                    Some(PartitionKey { topic: topic.topic.clone(), index: partition.index })
                };
                let news = found.iter().filter_map(|found| {
                    let (told, has_records) = (told(&found.data), !found.slices.is_empty());
                    Some(Answered { key: key(found)?, told, has_records })
                });
                if let Err(error) = self.fetch_sessions.answered(head.id, head.epoch, news) {
                    return Response::Fetch(FetchAnswer::error(error, head.id));
                }
                head.id
            }
        };
        Response::Fetch(FetchAnswer::new(plan, found, session_id))
    }

    /// Makes the session of a full fetch, of which every partition is answered.
    fn make_session(
        &mut self,
        plan: &FetchPlan,
        by_id: bool,
        found: &[Found],
        now: TimestampMs,
    ) -> i32 {
        let partitions = found.iter().filter_map(|found| {
            let (topic, partition) = plan.at(found.place)?;
            let key = PartitionKey { topic: topic.topic.clone(), index: partition.index };
            let (position, told) = (partition.position, told(&found.data));
            Some((SessionPartition { key, position, told }, !found.slices.is_empty()))
        });
        let partitions = partitions.collect();
        let ids = &mut self.ids;
        let session = self.fetch_sessions.create(by_id, partitions, || ids.number(), now);
        let named = plan.topics.iter().filter_map(|topic| match topic.topic {
            TopicRef::Id(id) => Some((id, topic.name.clone()?)),
            TopicRef::Name(_) => None,
        });
        self.fetch_sessions.learn(session, named);
        session
    }

    /// The topic as it is now. Of one that is gone, and was known by its id, the error says whether its name is used again.
    fn fetched_topic(&self, topic: &PlanTopic) -> Result<&Topic, ErrorCode> {
        let id = match &topic.topic {
            TopicRef::Id(id) => *id,
            TopicRef::Name(name) => {
                return self.topics.get(name).ok_or(ErrorCode::UnknownTopicOrPartition)
            }
        };
        self.topics.get_by_id(id).ok_or_else(|| match &topic.name {
            None => ErrorCode::UnknownTopicId,
            Some(name) if self.topics.get(name).is_some() => ErrorCode::InconsistentTopicId,
            Some(_) => ErrorCode::UnknownTopicOrPartition,
        })
    }

    fn read_partition(
        &self,
        plan: &FetchPlan,
        topic: &PlanTopic,
        wanted: &PlanPartition,
        left_bytes: usize,
        first: bool,
    ) -> Result<(PartitionData, Vec<FileSlice>), ErrorCode> {
        let topic = self.fetched_topic(topic)?;
        let is_zstd = topic.limits.recoding.is_some_and(|recoding| recoding.codec == Codec::Zstd);
        if is_zstd && !plan.reads_zstd {
            return Err(ErrorCode::UnsupportedCompressionType);
        }
        let log = topic.existing_log(PartitionId(wanted.index))?;
        let bounds = self.logs.bounds_or_empty(log);
        let Position { offset, bytes_max, current_leader_epoch, .. } = wanted.position;
        bounds.check_epoch(current_leader_epoch)?;
        let diverging = self.diverging_epoch(log, wanted.position)?;
        if offset < bounds.start || (offset > bounds.end && diverging.is_none()) {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        let bound = if plan.read_committed { bounds.last_stable } else { bounds.high_watermark };
        let mut data = PartitionData {
            partition_index: wanted.index,
            high_watermark: bounds.high_watermark.get(),
            last_stable_offset: bounds.last_stable.get(),
            log_start_offset: bounds.start.get(),
            aborted_transactions: plan.read_committed.then(Vec::new),
            // No records is zero bytes, not null.
            records: Some(bytes::Bytes::new()),
            ..PartitionData::default()
        };
        if let Some(diverging) = diverging {
            data.diverging_epoch = diverging;
            return Ok((data, Vec::new()));
        }
        let room_bytes = left_bytes.min(bytes_max);
        let Some(log) = log.filter(|_| offset < bound && (first || room_bytes > 0)) else {
            return Ok((data, Vec::new()));
        };
        let (slices, next_offset) = self.logs.read(log, offset, room_bytes, bound)?;
        // A log gives its first batch whatever its size, or a reader would never get past it. That holds for the first
        // partition with data only; the others wait for their turn.
        let bytes: usize = slices.iter().map(|slice| slice.len_bytes()).sum();
        if !first && bytes > room_bytes {
            return Ok((data, Vec::new()));
        }
        if plan.read_committed && !slices.is_empty() {
            data.aborted_transactions = Some(self.logs.aborted(log, offset, next_offset)?);
        }
        Ok((data, slices))
    }
}

impl Broker {
    /// Where the log parts from what a client has read (KIP-595): it says under which epoch the record before its offset was
    /// written. `None` if it does not, or if they agree.
    ///
    /// # Errors
    /// [`ErrorCode::OffsetOutOfRange`] if the log cannot tell, as it knows no such epoch.
    fn diverging_epoch(
        &self,
        log: Option<LogId>,
        position: Position,
    ) -> Result<Option<EpochEndOffset>, ErrorCode> {
        let read = position.last_fetched_epoch;
        if read == LeaderEpoch::NONE {
            return Ok(None);
        }
        let (epoch, end) = self.logs.epoch_end(log, read).ok_or(ErrorCode::OffsetOutOfRange)?;
        let diverges = epoch < read || end < position.offset;
        let (epoch, end_offset) = (epoch.get(), end.get());
        Ok(diverges.then_some(EpochEndOffset { epoch, end_offset }))
    }
}

/// What an answer says of a partition beside its records; `None` for an error.
fn told(data: &PartitionData) -> Option<Told> {
    let high_watermark = Offset(data.high_watermark);
    let log_start = Offset(data.log_start_offset);
    (data.error_code == 0).then_some(Told { high_watermark, log_start })
}

fn failed_partition(index: i32, error: ErrorCode) -> PartitionData {
    PartitionData {
        partition_index: index,
        error_code: error.code(),
        high_watermark: -1,
        aborted_transactions: None,
        records: Some(Bytes::new()),
        ..PartitionData::default()
    }
}

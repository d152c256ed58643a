//! The producer's shell: one loop per broker that writes, one task that keeps the core informed.
//!
//! The core ([`crate::accumulator`]) decides; here is the I/O. Batches are built (compressed, summed)
//! outside its lock. Answers are taken in on the reading task of the connection, so that a record's
//! way is: caller, broker loop, socket, reading task, caller.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use weir_protocol::api::init_producer_id::InitProducerIdRequest;
use weir_protocol::api::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceData,
};
use weir_protocol::batch::{self, BatchBuilder, BatchView};
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{
    Offset, PartitionId, ProducerEpoch, ProducerId, Sequence, Str, TimestampMs, Uuid,
};

use crate::accumulator::{
    Accumulator, Answer, BrokerIndex, Effects, Identity, MonoMs, Outgoing, Payload, Slot, Step,
};
use crate::attempts::AttemptCounter;
use crate::client::{Client, Lane};
use crate::config::{Acks, ProducerConfig};
use crate::connection::{Connection, Reply};
use crate::delivery::Completion;
use crate::error::ClientError;
use crate::transaction::TxnVersion;
use crate::transactor::{add_partitions, Transactor};

/// How often the delivery timeout is looked at.
const EXPIRY_TICK: Duration = Duration::from_millis(50);

/// Produce v13 names topics by id only (KIP-516).
const PRODUCE_VERSION_BY_NAME_MAX: i16 = 12;

/// From v12 on a write adds its partition to the transaction (KIP-890).
const PRODUCE_VERSION_TXN_V1_MAX: i16 = 11;

/// What the producer's tasks share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) client: Arc<Client>,
    pub(crate) config: ProducerConfig,
    /// Whether the program has a say in each record: by interceptors, or a partitioner of its own.
    pub(crate) asks_program: bool,
    core: Mutex<Accumulator>,
    /// By broker index.
    wakes: RwLock<Vec<Arc<Notify>>>,
    identity_wanted: Notify,
    /// Partitions wait to be added to the transaction.
    pub(crate) additions_wanted: Notify,
    pub(crate) transactor: Transactor,
    /// Told when bytes are freed.
    pub(crate) room: Notify,
    pub(crate) attempts: AttemptCounter,
    /// Topics somebody tried to send to.
    wanted: Mutex<BTreeSet<Str>>,
    lane: Lane,
    /// Where monotonic time starts.
    origin: Instant,
    tasks: Mutex<JoinSet<()>>,
}

/// A batch under way, as the answer finds it.
#[derive(Debug)]
struct SentBatch {
    slot: Slot,
    batch: u64,
    topic: Str,
    topic_id: Uuid,
    partition: PartitionId,
    bytes: Bytes,
    completion: Arc<Completion>,
}

/// An answer with the bytes of its batch, for a retry.
type Answered = (Slot, u64, Bytes, Answer);

/// The batches of one request.
#[derive(Debug, Default)]
struct ToSend {
    batches: Vec<SentBatch>,
    /// What does not go with it, and why.
    aside: Vec<Answered>,
}

impl ToSend {
    fn add(&mut self, outgoing: Outgoing) {
        match build(outgoing) {
            Ok(batch) => self.batches.push(batch),
            Err(aside) => self.aside.push(aside),
        }
    }

    /// Takes out what was failed while the connection was made: it must not be written any more, as its
    /// sender may have been told that it is not.
    fn set_withdrawn_aside(&mut self) {
        let withdrawn =
            self.batches.extract_if(.., |batch| !batch.completion.begin_writing()).map(|batch| {
                let reason = "not sent in time".to_owned();
                (batch.slot, batch.batch, batch.bytes, Answer::Lost { reason })
            });
        self.aside.extend(withdrawn);
    }

    /// The same answer for each that was to go.
    fn answered(self, answer: &Answer) -> Vec<Answered> {
        let mut answers = self.aside;
        let same = |batch: SentBatch| (batch.slot, batch.batch, batch.bytes, answer.clone());
        answers.extend(self.batches.into_iter().map(same));
        answers
    }
}

impl Shared {
    pub(crate) fn new(client: Arc<Client>, config: ProducerConfig) -> Arc<Self> {
        let (first, max) = (client.config().retry_backoff_ms, client.config().retry_backoff_max_ms);
        let mut partitioners = config.topic_partitioners.iter().map(|(_, partitioner)| partitioner);
        let asks_program = !config.interceptors.is_empty()
            || config.partitioner.custom().is_some()
            || partitioners.any(|partitioner| partitioner.custom().is_some());
        Arc::new(Shared {
            core: Mutex::new(Accumulator::new(config.clone(), first, max)),
            lane: client.new_lane(),
            client,
            config,
            asks_program,
            wakes: RwLock::default(),
            identity_wanted: Notify::new(),
            additions_wanted: Notify::new(),
            transactor: Transactor::default(),
            room: Notify::new(),
            attempts: AttemptCounter::default(),
            wanted: Mutex::default(),
            origin: Instant::now(),
            tasks: Mutex::default(),
        })
    }

    pub(crate) fn core(&self) -> MutexGuard<'_, Accumulator> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> MonoMs {
        let elapsed_ms = self.origin.elapsed().as_millis();
        MonoMs(u64::try_from(elapsed_ms).unwrap_or(u64::MAX))
    }

    /// Starts the tasks. Must be called inside a tokio runtime.
    pub(crate) fn start(self: &Arc<Self>) {
        let brokers = self.core().broker_count();
        self.wakes.write().unwrap_or_else(PoisonError::into_inner).clear();
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.spawn(supervise(Arc::clone(self)));
        if self.config.transactional_id.is_some() {
            tasks.spawn(add_partitions(Arc::clone(self)));
        } else {
            tasks.spawn(obtain_identities(Arc::clone(self)));
        }
        drop(tasks);
        self.ensure_loops(brokers);
        self.identity_wanted.notify_one();
    }

    /// Ends the tasks and their connections.
    pub(crate) fn stop(&self) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.abort_all();
        *tasks = JoinSet::new();
        drop(tasks);
        self.client.drop_lane(self.lane);
    }

    /// Starts lookups of a topic that a send found unknown.
    pub(crate) fn want_topic(&self, topic: &str) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if !wanted.contains(topic) {
            wanted.insert(Str::copy_from(topic));
        }
        drop(wanted);
        self.client.want_topic(topic);
    }

    /// Takes over what metadata says now of the topics in use.
    pub(crate) fn update_topics(self: &Arc<Self>) {
        let view = self.client.view();
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        // A name given up, as it leads nowhere, comes back with the next record for it.
        wanted.retain(|name| self.client.is_tracked(name));
        let mut names = wanted.clone();
        drop(wanted);
        let now = self.now();
        let mut gone = Vec::new();
        let mut core = self.core();
        names.extend(core.topic_names().cloned());
        for name in &names {
            let Some(topic) = view.topics.get(name) else { continue };
            if topic.error == ErrorCode::UnknownTopicOrPartition {
                core.note_missing(name, now);
            } else if !topic.partitions.is_empty() {
                gone.push(core.update_topic(name, topic.id, &topic.leaders()));
            }
        }
        let brokers = core.broker_count();
        drop(core);
        gone.into_iter().for_each(|effects| self.announce(effects));
        self.ensure_loops(brokers);
        self.wake_brokers();
    }

    fn ensure_loops(self: &Arc<Self>, brokers: usize) {
        let mut wakes = self.wakes.write().unwrap_or_else(PoisonError::into_inner);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while wakes.len() < brokers {
            let broker = BrokerIndex(wakes.len());
            let wake = Arc::new(Notify::new());
            wakes.push(Arc::clone(&wake));
            tasks.spawn(serve_broker(Arc::clone(self), broker, wake));
        }
    }

    /// Wakes the loops the core asked to wake.
    pub(crate) fn wake_brokers(&self) {
        let brokers = self.core().take_wakes();
        self.wake(&brokers);
    }

    pub(crate) fn wake(&self, brokers: &[BrokerIndex]) {
        if brokers.is_empty() {
            return;
        }
        let wakes = self.wakes.read().unwrap_or_else(PoisonError::into_inner);
        for broker in brokers {
            if let Some(wake) = wakes.get(broker.0) {
                wake.notify_one();
            }
        }
    }

    /// Announces outcomes. The core's lock must be free: a woken task may want it at once.
    pub(crate) fn announce(&self, effects: Effects) {
        for (completion, outcome) in effects.completed {
            completion.complete(outcome);
        }
        if effects.freed_room {
            self.room.notify_waiters();
        }
        if effects.refresh_metadata {
            self.client.refresh_soon();
        }
        let core = self.core();
        if core.wants_identity().is_some() {
            self.identity_wanted.notify_one();
        }
    }

    /// A topic deleted while records are on their way is made again where the cluster does that, as
    /// with any producer of Kafka.
    fn want_deleted(&self, response: &ProduceResponse, batches: &[SentBatch]) {
        for topic in &response.responses {
            let is_gone = topic.partition_responses.iter().any(|partition| {
                let code = ErrorCode::from_code(partition.error_code);
                matches!(code, ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId)
            });
            if !is_gone {
                continue;
            }
            let is_meant = |batch: &&SentBatch| {
                let by_id = topic.topic_id != Uuid::ZERO && topic.topic_id == batch.topic_id;
                by_id || topic.name == batch.topic
            };
            if let Some(batch) = batches.iter().find(is_meant) {
                self.want_topic(&batch.topic);
            }
        }
    }

    /// A broker that refuses everything for now is as one that is away; a clear no shows that it works.
    fn count_attempt(&self, answers: &[(Slot, u64, Bytes, Answer)]) {
        let for_now = |answer: &Answer| match answer {
            Answer::Acked { .. } => None,
            // One topic that is gone says nothing about the others, and the markers of a transaction
            // are written by a broker that works.
            Answer::Refused {
                code:
                    ErrorCode::UnknownTopicOrPartition
                    | ErrorCode::UnknownTopicId
                    | ErrorCode::ConcurrentTransactions,
                ..
            } => None,
            Answer::Refused { code, message } => code.is_retriable().then(|| match message {
                Some(text) => format!("{}: {text}", code.name()),
                None => code.name().to_owned(),
            }),
            Answer::Lost { reason } => Some(reason.clone()),
        };
        let mut last = None;
        for (_, _, _, answer) in answers {
            match for_now(answer) {
                Some(reason) => last = Some(reason),
                None => return self.attempts.succeeded(),
            }
        }
        if let Some(reason) = last {
            self.attempts.failed(&reason);
        }
    }

    fn take_answers(
        &self,
        broker: BrokerIndex,
        incarnation: u32,
        answers: Vec<(Slot, u64, Bytes, Answer)>,
    ) {
        let now = self.now();
        let (effects, wakes) = {
            let mut core = self.core();
            let effects = core.on_answers(broker, incarnation, answers, now);
            (effects, core.take_wakes())
        };
        self.announce(effects);
        self.wake(&wakes);
    }
}

/// Writes what the core has for one broker, until the producer stops.
async fn serve_broker(shared: Arc<Shared>, broker: BrokerIndex, wake: Arc<Notify>) {
    loop {
        let (step, node, incarnation) = {
            let mut core = shared.core();
            let step = core.step(broker, shared.now());
            if core.wants_additions() {
                shared.additions_wanted.notify_one();
            }
            (step, core.node(broker), core.incarnation())
        };
        match step {
            Step::Send(outgoing) => {
                let mut request = ToSend::default();
                outgoing.into_iter().for_each(|batch| request.add(batch));
                match shared.client.connection(node, shared.lane).await {
                    Ok(connection) => {
                        send(&shared, broker, incarnation, connection, request).await;
                    }
                    Err(error) => {
                        shared.attempts.failed(&error);
                        lose(&shared, broker, incarnation, request, &error);
                    }
                }
            }
            Step::WaitUntil(until) => {
                let at = shared.origin + Duration::from_millis(until.0);
                tokio::select! {
                    () = wake.notified() => {}
                    () = tokio::time::sleep_until(at) => {}
                }
            }
            Step::Idle => wake.notified().await,
            Step::Stop => return,
        }
    }
}

async fn send(
    shared: &Arc<Shared>,
    broker: BrokerIndex,
    incarnation: u32,
    connection: Arc<Connection>,
    mut request: ToSend,
) {
    // First: what is not to be written must not get into the request.
    request.set_withdrawn_aside();
    if request.batches.is_empty() {
        return shared.take_answers(broker, incarnation, request.aside);
    }
    let batches = &request.batches;
    // An answer later than the delivery timeout is of no use to anybody.
    let timeout_ms =
        shared.client.config().request_timeout_ms.min(shared.config.delivery_timeout_ms);
    let ids_known = batches.iter().all(|batch| batch.topic_id != Uuid::ZERO);
    let mut version_max = if ids_known { i16::MAX } else { PRODUCE_VERSION_BY_NAME_MAX };
    let mut produce = produce_request(shared.config.acks, timeout_ms, batches);
    if shared.config.transactional_id.is_some() {
        let core = shared.core();
        if let Some(transactions) = core.transactions() {
            produce.transactional_id = Some(transactions.transactional_id().clone());
            if transactions.version() == TxnVersion::V1 {
                version_max = version_max.min(PRODUCE_VERSION_TXN_V1_MAX);
            }
        }
    }
    let frame = connection.version::<ProduceRequest>(version_max).and_then(|version| {
        let frame = connection.frame(&produce, version, timeout_ms)?;
        Ok((frame, version))
    });
    let (frame, version) = match frame {
        Ok(ready) => ready,
        Err(error) => {
            shared.attempts.failed(&error);
            return lose(shared, broker, incarnation, request, &error);
        }
    };
    if shared.config.acks == Acks::None {
        match connection.send_unanswered(frame).await {
            Ok(()) => {
                let acked = Answer::Acked { base_offset: None, append_time: None };
                shared.attempts.succeeded();
                shared.take_answers(broker, incarnation, request.answered(&acked));
            }
            Err(error) => {
                shared.attempts.failed_on(&connection, &error);
                lose(shared, broker, incarnation, request, &error);
            }
        }
        return;
    }
    let (keep, answering) = (Arc::clone(shared), Arc::clone(&connection));
    let written_at = Instant::now();
    let on_reply = move |reply: Reply| {
        let response = reply.and_then(|bytes| answering.decode::<ProduceRequest>(bytes, version));
        match response {
            Ok(response) => {
                let latency_us =
                    u64::try_from(written_at.elapsed().as_micros()).unwrap_or(u64::MAX);
                let (now, throttle_ms) = (keep.now(), response.throttle_time_ms);
                keep.core().note_request(broker, latency_us, throttle_ms, now);
                keep.want_deleted(&response, &request.batches);
                let mut answers = match_answers(response, request.batches);
                keep.count_attempt(&answers);
                answers.extend(request.aside);
                keep.take_answers(broker, incarnation, answers);
            }
            Err(error) => {
                keep.attempts.failed_on(&answering, &error);
                lose(&keep, broker, incarnation, request, &error);
            }
        }
    };
    connection.send(frame, Box::new(on_reply)).await;
}

fn produce_request(acks: Acks, timeout_ms: u32, batches: &[SentBatch]) -> ProduceRequest {
    let mut topics: Vec<TopicProduceData> = Vec::new();
    for batch in batches {
        let data = PartitionProduceData {
            index: batch.partition.get(),
            records: Some(batch.bytes.clone()),
        };
        match topics.iter_mut().find(|topic| topic.name == batch.topic) {
            Some(topic) => topic.partition_data.push(data),
            None => topics.push(TopicProduceData {
                name: batch.topic.clone(),
                topic_id: batch.topic_id,
                partition_data: vec![data],
            }),
        }
    }
    ProduceRequest {
        transactional_id: None,
        acks: acks.code(),
        timeout_ms: i32::try_from(timeout_ms).unwrap_or(i32::MAX),
        topic_data: topics,
    }
}

/// No answer: whether the batches are in the log is unknown.
fn lose(
    shared: &Shared,
    broker: BrokerIndex,
    incarnation: u32,
    request: ToSend,
    error: &ClientError,
) {
    tracing::debug!(%error, batches = request.batches.len(), "produce request got no answer");
    let lost = Answer::Lost { reason: error.to_string() };
    shared.take_answers(broker, incarnation, request.answered(&lost));
}

/// Gives each batch the broker's word about its partition.
fn match_answers(
    response: ProduceResponse,
    batches: Vec<SentBatch>,
) -> Vec<(Slot, u64, Bytes, Answer)> {
    let mut answers: Vec<Option<Answer>> = batches.iter().map(|_| None).collect();
    // Brokers answer in the order of the request, so the search begins where the last one ended.
    let mut cursor = 0;
    for topic in response.responses {
        for partition in topic.partition_responses {
            let is_meant = |batch: &SentBatch| {
                let by_id = topic.topic_id != Uuid::ZERO && topic.topic_id == batch.topic_id;
                batch.partition.get() == partition.index && (by_id || topic.name == batch.topic)
            };
            let places = (cursor..batches.len()).chain(0..cursor);
            if let Some(found) = places.into_iter().find(|index| is_meant(&batches[*index])) {
                cursor = found + 1;
                answers[found] = Some(answer(partition));
            }
        }
    }
    let missing = || Answer::Lost { reason: "the answer lacks the partition".to_owned() };
    batches
        .into_iter()
        .zip(answers)
        .map(|(batch, answer)| {
            (batch.slot, batch.batch, batch.bytes, answer.unwrap_or_else(missing))
        })
        .collect()
}

fn answer(partition: PartitionProduceResponse) -> Answer {
    let code = ErrorCode::from_code(partition.error_code);
    if code.is_none() {
        let (base, append_ms) = (partition.base_offset, partition.log_append_time_ms);
        return Answer::Acked {
            base_offset: (base >= 0).then_some(Offset(base)),
            append_time: (append_ms >= 0).then_some(TimestampMs(append_ms)),
        };
    }
    let of_records =
        partition.record_errors.into_iter().find_map(|record| record.batch_index_error_message);
    let message = partition.error_message.or(of_records).filter(|text| !text.is_empty());
    Answer::Refused { code, message: message.map(String::from) }
}

/// Compresses and sums a new batch; a retried one is only stamped again if its identity changed.
fn build(outgoing: Outgoing) -> Result<SentBatch, Answered> {
    let Outgoing {
        slot,
        batch,
        topic,
        topic_id,
        partition,
        identity,
        base_sequence,
        transactional,
        payload,
        completion,
    } = outgoing;
    let finish = |mut builder: BatchBuilder| {
        builder.set_transactional(transactional);
        builder.set_producer(identity.id, identity.epoch, base_sequence);
        builder.build()
    };
    let bytes = match payload {
        Payload::Open(builder) => finish(builder),
        Payload::Built(bytes) => restamp(bytes, identity, base_sequence),
        Payload::Part(part) => match part.fill() {
            Ok(builder) => finish(builder),
            Err(whole) => {
                let message = "too large, and cannot be read again to be halved";
                let answer = Answer::Refused {
                    code: ErrorCode::UnknownServerError,
                    message: Some(message.to_owned()),
                };
                return Err((slot, batch, whole, answer));
            }
        },
    };
    Ok(SentBatch { slot, batch, topic, topic_id, partition, bytes, completion })
}

/// Puts a finished batch under another identity. Copies it, which happens after losses only.
fn restamp(bytes: Bytes, identity: Identity, base_sequence: Sequence) -> Bytes {
    let is_same = BatchView::parse(&bytes).is_ok_and(|view| {
        view.producer_id() == identity.id
            && view.producer_epoch() == identity.epoch
            && view.base_sequence() == base_sequence
    });
    if is_same {
        return bytes;
    }
    let mut copy = BytesMut::from(&bytes[..]);
    let stamped = batch::set_producer(&mut copy, identity.id, identity.epoch, base_sequence);
    debug_assert!(stamped.is_ok(), "a batch built here parses");
    copy.freeze()
}

/// Brings metadata into the core and expires what is too old.
async fn supervise(shared: Arc<Shared>) {
    let mut changes = shared.client.changes();
    let mut tick = tokio::time::interval(EXPIRY_TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                shared.update_topics();
            }
            _ = tick.tick() => {
                let now = shared.now();
                let effects = shared.core().expire(now);
                shared.announce(effects);
                shared.wake_brokers();
            }
        }
    }
}

/// Gets a producer id whenever the core wants one.
async fn obtain_identities(shared: Arc<Shared>) {
    let mut failures = 0;
    loop {
        let wanted = shared.core().wants_identity();
        let Some(current) = wanted else {
            shared.identity_wanted.notified().await;
            continue;
        };
        match init_producer_id(&shared.client, current).await {
            Ok(identity) => {
                failures = 0;
                shared.attempts.succeeded();
                tracing::debug!(id = %identity.id, epoch = %identity.epoch, "producer identity");
                shared.core().set_identity(identity);
                shared.wake_brokers();
            }
            Err(error) => {
                tracing::debug!(%error, "no producer identity yet");
                shared.attempts.failed(&error);
                shared.core().set_identity_error(error.to_string());
                tokio::time::sleep(shared.client.retry_wait(failures)).await;
                failures += 1;
            }
        }
    }
}

/// With an identity given (version 3 on), the broker may answer with its next epoch (KIP-360).
async fn init_producer_id(client: &Client, current: Identity) -> Result<Identity, ClientError> {
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        producer_id: current.id.get(),
        producer_epoch: current.epoch.get(),
    };
    let response = client.ask_any(&request).await?;
    match ErrorCode::from_code(response.error_code) {
        ErrorCode::None => Ok(Identity {
            id: ProducerId(response.producer_id),
            epoch: ProducerEpoch(response.producer_epoch),
        }),
        code => Err(ClientError::Broker { api: "InitProducerId", code, message: None }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_protocol::batch::BatchBuilder;
    use weir_protocol::compression::Codec;

    #[test]
    fn a_restamped_batch_keeps_its_records_and_has_a_right_checksum() {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.append(TimestampMs(5), Some(b"k"), Some(b"value"), &[]);
        builder.set_producer(ProducerId(7), ProducerEpoch(0), Sequence(40));
        let first = builder.build();
        let identity = Identity { id: ProducerId(8), epoch: ProducerEpoch(3) };
        let second = restamp(first.clone(), identity, Sequence(0));
        let view = BatchView::parse(&second).unwrap();
        view.verify_crc().unwrap();
        assert_eq!(view.producer_id(), ProducerId(8));
        assert_eq!(view.producer_epoch(), ProducerEpoch(3));
        assert_eq!(view.base_sequence(), Sequence(0));
        assert_eq!(second[61..], first[61..]);
        let same = restamp(second.clone(), identity, Sequence(0));
        assert_eq!(same.as_ptr(), second.as_ptr(), "unchanged batches are not copied");
    }

    /// As the core hands it out, and as it goes to the socket.
    fn built(transactional: bool, payload: Payload) -> Bytes {
        let outgoing = Outgoing {
            slot: Slot::test(0),
            batch: 0,
            topic: Str::from("t"),
            topic_id: Uuid::ZERO,
            partition: PartitionId(0),
            identity: Identity { id: ProducerId(8), epoch: ProducerEpoch(3) },
            base_sequence: Sequence(0),
            transactional,
            payload,
            completion: Completion::new(PartitionId(0)),
        };
        build(outgoing).unwrap().bytes
    }

    #[test]
    fn batches_of_a_transaction_carry_its_bit_and_others_do_not() {
        for transactional in [true, false] {
            let mut builder = BatchBuilder::new(Codec::Lz4);
            builder.append(TimestampMs(5), Some(b"k"), Some(b"value"), &[]);
            let first = built(transactional, Payload::Open(builder));
            let again = built(transactional, Payload::Built(first.clone()));
            for bytes in [first, again] {
                let view = BatchView::parse(&bytes).unwrap();
                view.verify_crc().unwrap();
                assert_eq!(view.is_transactional(), transactional);
            }
        }
    }

    #[test]
    fn answers_find_their_batches_in_any_order() {
        let batch = |topic: &'static str, partition, number| SentBatch {
            slot: Slot::test(number),
            batch: number as u64,
            topic: Str::from(topic),
            topic_id: Uuid::ZERO,
            partition: PartitionId(partition),
            bytes: Bytes::new(),
            completion: Completion::new(PartitionId(partition)),
        };
        let said = |index, base_offset| PartitionProduceResponse {
            index,
            base_offset,
            ..PartitionProduceResponse::default()
        };
        let topic = |name: &'static str, partition_responses| {
            weir_protocol::api::produce::TopicProduceResponse {
                name: Str::from(name),
                partition_responses,
                ..Default::default()
            }
        };
        let response = ProduceResponse {
            responses: vec![
                topic("b", vec![said(0, 30)]),
                topic("a", vec![said(1, 20), said(0, 10)]),
            ],
            ..ProduceResponse::default()
        };
        let sent = vec![batch("a", 0, 0), batch("a", 1, 1), batch("b", 0, 2), batch("b", 1, 3)];
        let offsets: Vec<Option<i64>> = match_answers(response, sent)
            .into_iter()
            .map(|(_, _, _, answer)| match answer {
                Answer::Acked { base_offset, .. } => base_offset.map(Offset::get),
                _ => None,
            })
            .collect();
        assert_eq!(offsets, [Some(10), Some(20), Some(30), None]);
    }
}

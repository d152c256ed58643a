//! A core that is driven by hand, through the same bytes that a socket would carry.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use weir_broker::request::{self, Response};
use weir_broker::{Broker, BrokerConfig, CommitNeed, ConnId, Connection, Reply, Ticket};
use weir_log::{Disk, MemDisk};
use weir_protocol::api::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use weir_protocol::api::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use weir_protocol::api::find_coordinator::FindCoordinatorRequest;
use weir_protocol::api::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceData,
};
use weir_protocol::batch::{batches, BatchBuilder};
use weir_protocol::compression::Codec;
use weir_protocol::{
    frame, ApiKey, Offset, ProducerEpoch, ProducerId, Request, Sequence, Str, TimestampMs, Wire,
};

pub(crate) const START_MS: i64 = 1_700_000_000_000;

pub(crate) struct Harness {
    pub(crate) broker: Broker,
    pub(crate) disk: Arc<MemDisk>,
    pub(crate) config: BrokerConfig,
    pub(crate) now: TimestampMs,
    versions: HashMap<Ticket, (ApiKey, i16)>,
    answers: HashMap<Ticket, Bytes>,
    seed: u128,
}

/// What came back at once.
#[derive(Debug)]
pub(crate) enum Called<T> {
    Answered(T),
    Parked(Ticket),
    Silent,
    Closed,
}

impl<T: std::fmt::Debug> Called<T> {
    pub(crate) fn answer(self) -> T {
        match self {
            Self::Answered(answer) => answer,
            other => panic!("no answer but {other:?}"),
        }
    }

    pub(crate) fn ticket(self) -> Ticket {
        match self {
            Self::Parked(ticket) => ticket,
            other => panic!("not parked but {other:?}"),
        }
    }
}

pub(crate) fn config() -> BrokerConfig {
    BrokerConfig { data_dir: PathBuf::from("/weir/data"), ..BrokerConfig::default() }
}

impl Harness {
    pub(crate) fn new() -> Self {
        Self::on(Arc::new(MemDisk::new()), config())
    }

    /// One whose clients have asked for their coordinator before, as they do.
    pub(crate) fn with_coordinator() -> Self {
        let mut harness = Self::new();
        let find =
            FindCoordinatorRequest { key: "any".into(), ..FindCoordinatorRequest::default() };
        assert_eq!(harness.ask(3, &find).error_code, 0);
        harness
    }

    pub(crate) fn on(disk: Arc<MemDisk>, config: BrokerConfig) -> Self {
        let now = TimestampMs(START_MS);
        let broker = Broker::open(config.clone(), disk.clone() as Arc<dyn Disk>, 1, now).unwrap();
        Self {
            broker,
            disk,
            config,
            now,
            versions: HashMap::new(),
            answers: HashMap::new(),
            seed: 1,
        }
    }

    /// A power cut, and a new start on what it left.
    pub(crate) fn after_power_cut(self, seed: u64) -> Self {
        let disk = Arc::new(self.disk.crash(seed));
        drop(self.broker);
        let now = self.now.plus_ms(1_000);
        let broker =
            Broker::open(self.config.clone(), disk.clone() as Arc<dyn Disk>, self.seed + 1, now)
                .unwrap();
        Self {
            broker,
            disk,
            now,
            seed: self.seed + 1,
            versions: HashMap::new(),
            answers: HashMap::new(),
            ..self
        }
    }

    /// A clean stop, and a new start.
    pub(crate) fn reopened(self) -> Self {
        let now = self.now.plus_ms(1_000);
        self.broker.close().unwrap();
        let broker = Broker::open(
            self.config.clone(),
            self.disk.clone() as Arc<dyn Disk>,
            self.seed + 1,
            now,
        )
        .unwrap();
        Self {
            broker,
            now,
            seed: self.seed + 1,
            versions: HashMap::new(),
            answers: HashMap::new(),
            ..self
        }
    }

    pub(crate) fn call<R: Request>(&mut self, version: i16, request: &R) -> Called<R::Response>
    where
        R::Response: std::fmt::Debug,
    {
        self.call_on(1, version, request)
    }

    pub(crate) fn call_on<R: Request>(
        &mut self,
        conn: u64,
        version: i16,
        request: &R,
    ) -> Called<R::Response> {
        let mut frame = frame::encode_request(7, Some("tester"), version, request).unwrap();
        frame.advance(4);
        let mut decoded = request::decode(frame, 16 << 20).unwrap();
        let connection = Connection {
            id: ConnId(conn),
            client_host: "/127.0.0.1".into(),
            advertised: (Str::from("localhost"), 9092),
            principal: "User:ANONYMOUS".into(),
        };
        let mut effects =
            self.broker.handle(&connection, &decoded.header, &mut decoded.request, self.now);
        if let Reply::LookInside = effects.reply {
            let request::Request::Produce(produce) = &mut decoded.request else { panic!() };
            produce.look_inside(self.config.inflate_bytes_max);
            effects =
                self.broker.handle(&connection, &decoded.header, &mut decoded.request, self.now);
        }
        self.take(effects.woken);
        match effects.reply {
            Reply::LookInside => panic!("its keys were looked at"),
            Reply::Now(response) => {
                let bytes = encode(*response, R::API_KEY, version);
                Called::Answered(decode::<R>(bytes, version))
            }
            Reply::Parked(ticket) => {
                self.versions.insert(ticket, (R::API_KEY, version));
                Called::Parked(ticket)
            }
            Reply::Silent => Called::Silent,
            Reply::Close => Called::Closed,
        }
    }

    fn take(&mut self, woken: Vec<(Ticket, Response)>) {
        for (ticket, response) in woken {
            let (key, version) = self.versions[&ticket];
            let before = self.answers.insert(ticket, encode(response, key, version));
            assert!(before.is_none(), "{ticket:?} was answered twice");
        }
    }

    /// The answer to a parked request, if it has come.
    pub(crate) fn answer<R: Request>(&mut self, ticket: Ticket) -> Option<R::Response> {
        let bytes = self.answers.remove(&ticket)?;
        let (key, version) = self.versions[&ticket];
        assert_eq!(key, R::API_KEY);
        Some(decode::<R>(bytes, version))
    }

    /// One commit, from beginning to end.
    pub(crate) fn commit(&mut self) {
        if let Some(pending) = self.broker.begin_commit() {
            let mut done = pending.run();
            let flush = done.take_flush();
            let woken = self.broker.finish_commit(done, self.now);
            self.take(woken);
            flush.map_or(Ok(()), weir_log::Flush::run).unwrap();
        }
    }

    pub(crate) fn commit_all(&mut self) {
        while self.broker.commit_need() > CommitNeed::None {
            self.commit();
        }
    }

    pub(crate) fn pass_ms(&mut self, ms: i64) {
        self.now = self.now.plus_ms(ms);
        let woken = self.broker.tick(self.now);
        self.take(woken);
    }

    /// Calls, and commits until there is an answer.
    pub(crate) fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        match self.call_on(1, version, request) {
            Called::Answered(answer) => answer,
            Called::Parked(ticket) => {
                self.commit_all();
                self.answer::<R>(ticket).expect("an answer after the commit")
            }
            _ => panic!("no answer"),
        }
    }

    pub(crate) fn create(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let answer = self.ask(7, &create_request(name, partitions, configs));
        assert_eq!(answer.topics[0].error_code, 0, "{:?}", answer.topics[0].error_message);
    }

    pub(crate) fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        batch: Bytes,
    ) -> PartitionProduceResponse {
        first(self.ask(9, &produce_request(topic, partition, -1, batch)))
    }

    /// Values that a reader sees from `offset` on.
    pub(crate) fn read(&mut self, topic: &str, partition: i32, offset: i64) -> Vec<String> {
        let answer = self.ask(12, &fetch_request(topic, partition, offset, 0));
        let data = &answer.responses[0].partitions[0];
        assert_eq!(data.error_code, 0);
        values(data.records.as_ref().unwrap(), offset)
    }
}

pub(crate) fn first(response: ProduceResponse) -> PartitionProduceResponse {
    response.responses[0].partition_responses[0].clone()
}

pub(crate) fn create_request(
    name: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> CreateTopicsRequest {
    let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
        name: Str::copy_from(name),
        value: Some(Str::copy_from(value)),
    };
    CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: Str::copy_from(name),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.iter().map(config).collect(),
            ..CreatableTopic::default()
        }],
        ..CreateTopicsRequest::default()
    }
}

pub(crate) fn produce_request(
    topic: &str,
    partition: i32,
    acks: i16,
    batch: Bytes,
) -> ProduceRequest {
    ProduceRequest {
        acks,
        timeout_ms: 1_000,
        topic_data: vec![TopicProduceData {
            name: Str::copy_from(topic),
            partition_data: vec![PartitionProduceData { index: partition, records: Some(batch) }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

pub(crate) fn fetch_request(
    topic: &str,
    partition: i32,
    offset: i64,
    wait_ms: i32,
) -> FetchRequest {
    FetchRequest {
        max_wait_ms: wait_ms,
        min_bytes: 1,
        max_bytes: 1 << 20,
        topics: vec![FetchTopic {
            topic: Str::copy_from(topic),
            partitions: vec![FetchPartition {
                partition,
                fetch_offset: offset,
                partition_max_bytes: 1 << 20,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    }
}

pub(crate) fn batch(values: &[&str]) -> Bytes {
    batch_at(START_MS, values)
}

pub(crate) fn batch_at(timestamp: i64, values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    for value in values {
        builder.append(TimestampMs(timestamp), Some(b"k"), Some(value.as_bytes()), &[]);
    }
    builder.build()
}

pub(crate) fn idempotent(id: i64, epoch: i16, sequence: i32, values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    for value in values {
        builder.append(TimestampMs(START_MS), None, Some(value.as_bytes()), &[]);
    }
    builder.set_producer(ProducerId(id), ProducerEpoch(epoch), Sequence(sequence));
    builder.build()
}

pub(crate) fn values(records: &Bytes, from: i64) -> Vec<String> {
    let mut values = Vec::new();
    for view in batches(records) {
        for record in view.unwrap().records(1 << 20).unwrap() {
            let record = record.unwrap();
            if record.offset >= Offset(from) {
                values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
            }
        }
    }
    values
}

pub(crate) fn fetched(response: &FetchResponse) -> Vec<String> {
    values(response.responses[0].partitions[0].records.as_ref().unwrap(), 0)
}

fn encode(mut response: Response, key: ApiKey, version: i16) -> Bytes {
    if let Response::Fetch(answer) = &mut response {
        answer.read(&mut BytesMut::new()).unwrap();
    }
    if let Response::ListOffsets(answer) = &mut response {
        while answer.is_searching() {
            answer.search_next();
        }
    }
    if let Response::DescribeLogDirs(answer) = &mut response {
        answer.ask_volume();
    }
    let pieces = response.encode(key, version, 7).unwrap();
    let mut whole = BytesMut::new();
    for piece in pieces {
        whole.extend_from_slice(&piece);
    }
    let len = frame::frame_len(&[whole[0], whole[1], whole[2], whole[3]], 1 << 30).unwrap();
    assert_eq!(len, whole.len() - 4);
    whole.split_off(4).freeze()
}

fn decode<R: Request>(bytes: Bytes, version: i16) -> R::Response
where
    R::Response: Wire,
{
    let (correlation_id, response) = frame::decode_response::<R>(bytes, version).unwrap();
    assert_eq!(correlation_id, 7);
    response
}

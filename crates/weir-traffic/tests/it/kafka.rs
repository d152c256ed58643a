//! `ProducerSink` over a broker of four APIs in memory, whose topics misbehave by their name.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::Instant;
use weir_client::{Client, ClientConfig, MemTransport, Producer, ProducerConfig};
use weir_protocol::api::api_versions::{ApiVersion, ApiVersionsResponse};
use weir_protocol::api::init_producer_id::InitProducerIdResponse;
use weir_protocol::api::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use weir_protocol::api::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use weir_protocol::{batch, frame, ApiKey, Decoder, ErrorCode, Wire};
use weir_traffic::{
    Accepted, BreakerState, Headers, Outgoing, ProducerSink, Refused, Sink, SinkError,
    TrafficConfig, TrafficHandle,
};

/// The APIs it speaks; versions in which topics go by name.
const APIS: [(ApiKey, i16, i16); 4] = [
    (ApiKey::ApiVersions, 0, 3),
    (ApiKey::Metadata, 0, 9),
    (ApiKey::InitProducerId, 0, 4),
    (ApiKey::Produce, 3, 9),
];

/// Each value written to topic `good`, with its headers `source` and `seq`, in order.
type Log = Arc<Mutex<Vec<(String, String, i64)>>>;

async fn serve(mut pipe: DuplexStream, log: Log) -> Option<()> {
    loop {
        let mut prefix = [0; 4];
        pipe.read_exact(&mut prefix).await.ok()?;
        let mut body = vec![0; frame::frame_len(&prefix, 64 << 20).ok()?];
        pipe.read_exact(&mut body).await.ok()?;
        let mut decoder = Decoder::new(Bytes::from(body));
        let header = frame::decode_request_header(&mut decoder).ok()?;
        let (version, id) = (header.api_version, header.correlation_id);
        let key = ApiKey::try_from(header.api_key).ok()?;
        let answer = match key {
            ApiKey::ApiVersions => encode(key, version, id, &api_versions()),
            ApiKey::Metadata => {
                encode(key, version, id, &metadata(&frame::decode_request(decoder, version).ok()?))
            }
            ApiKey::InitProducerId => {
                let identity = InitProducerIdResponse { producer_id: 7, ..Default::default() };
                encode(key, version, id, &identity)
            }
            _ => match produce(&frame::decode_request(decoder, version).ok()?, &log) {
                Some(response) => encode(key, version, id, &response),
                None => continue,
            },
        };
        pipe.write_all(&answer).await.ok()?;
    }
}

fn encode<T: Wire>(key: ApiKey, version: i16, id: i32, response: &T) -> BytesMut {
    frame::encode_response(key, version, id, response).unwrap()
}

fn api_versions() -> ApiVersionsResponse {
    let api = |(key, min_version, max_version)| ApiVersion {
        api_key: key as i16,
        min_version,
        max_version,
    };
    ApiVersionsResponse { api_keys: APIS.map(api).into(), ..Default::default() }
}

fn metadata(request: &MetadataRequest) -> MetadataResponse {
    let names = request.topics.iter().flatten().filter_map(|topic| topic.name.clone());
    let topics = names.map(|name| {
        let error = match &*name {
            "missing" => ErrorCode::UnknownTopicOrPartition,
            "bad name" => ErrorCode::InvalidTopicException,
            "slow" => ErrorCode::LeaderNotAvailable,
            _ => ErrorCode::None,
        };
        let partition = MetadataResponsePartition {
            leader_id: 1,
            leader_epoch: 0,
            replica_nodes: vec![1],
            isr_nodes: vec![1],
            ..Default::default()
        };
        let partitions = if error == ErrorCode::None { vec![partition] } else { Vec::new() };
        MetadataResponseTopic {
            error_code: error.code(),
            name: Some(name),
            partitions,
            ..Default::default()
        }
    });
    MetadataResponse {
        brokers: vec![MetadataResponseBroker {
            node_id: 1,
            host: "broker".into(),
            port: 9092,
            rack: None,
        }],
        controller_id: 1,
        topics: topics.collect(),
        ..Default::default()
    }
}

/// `None`: no answer, ever.
fn produce(request: &ProduceRequest, log: &Log) -> Option<ProduceResponse> {
    let mut responses = Vec::new();
    for topic in &request.topic_data {
        let mut partition_responses = Vec::new();
        for partition in &topic.partition_data {
            let mut answer =
                PartitionProduceResponse { index: partition.index, ..Default::default() };
            match &*topic.name {
                "silent" => return None,
                "small" => answer.error_code = ErrorCode::TopicAuthorizationFailed.code(),
                _ => {
                    let mut log = log.lock().unwrap();
                    answer.base_offset = i64::try_from(log.len()).unwrap();
                    write(partition.records.as_ref().unwrap(), &mut log);
                }
            }
            partition_responses.push(answer);
        }
        responses.push(TopicProduceResponse {
            name: topic.name.clone(),
            partition_responses,
            ..Default::default()
        });
    }
    Some(ProduceResponse { responses, ..Default::default() })
}

fn write(records: &Bytes, log: &mut Vec<(String, String, i64)>) {
    for view in batch::batches(records) {
        for record in view.unwrap().records(1 << 20).unwrap() {
            let record = record.unwrap();
            let text = |bytes: Option<Bytes>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
            let header =
                |name: &str| record.headers.get(name).flatten().map(Bytes::copy_from_slice);
            let seq = text(header("seq")).parse().unwrap();
            log.push((text(record.value), text(header("source")), seq));
        }
    }
}

async fn sink() -> (ProducerSink, Log) {
    let log = Log::default();
    let served = Arc::clone(&log);
    let transport = MemTransport::new(move |_, _, pipe| {
        tokio::spawn(serve(pipe, Arc::clone(&served)));
        Ok(())
    });
    let client =
        Client::connect(ClientConfig::new(["broker:9092"]), Arc::new(transport)).await.unwrap();
    let config = ProducerConfig {
        max_block_ms: 500,
        delivery_timeout_ms: 1_000,
        batch_bytes_max: 2_000,
        record_bytes_max: 2_000,
        ..ProducerConfig::default()
    };
    let producer = Producer::new(Arc::clone(&client), config).unwrap();
    (ProducerSink::new(Arc::new(producer)).with_client(client), log)
}

fn event(topic: &str, value: impl ToString) -> Outgoing {
    let headers = Headers::default().with_key("d").with("source", "test");
    Outgoing::new(topic, value.to_string(), 1_000).with_headers(headers)
}

#[tokio::test(start_paused = true)]
async fn events_reach_kafka_in_order_with_their_headers_and_offsets() {
    let (sink, log) = sink().await;
    let traffic = TrafficHandle::start(TrafficConfig::default(), sink).unwrap();
    let answers = traffic.publish_many((0..1_000).map(|n| event("good", n)).collect()).await;
    for (index, answer) in answers.into_iter().enumerate() {
        let offset = Some(i64::try_from(index).unwrap());
        assert_eq!(answer.unwrap(), Accepted { partition: 0, offset, duplicate: false });
    }
    let log = log.lock().unwrap();
    assert_eq!(log.len(), 1_000);
    for (index, (value, source, seq)) in log.iter().enumerate() {
        assert_eq!((value.as_str(), source.as_str()), (index.to_string().as_str(), "test"));
        assert_eq!(*seq, 1_000_000 + i64::try_from(index).unwrap());
    }
}

fn kinds(results: &[Result<Accepted, SinkError>]) -> Vec<&'static str> {
    let kind = |result: &Result<Accepted, SinkError>| match result {
        Ok(_) => "ok",
        Err(SinkError::NotSent(_)) => "not sent",
        Err(SinkError::Unknown(_)) => "unknown",
        Err(SinkError::NotReady(_)) => "not ready",
        Err(SinkError::Refused(_)) => "refused",
    };
    results.iter().map(kind).collect()
}

#[tokio::test(start_paused = true)]
async fn each_failure_means_what_it_is() {
    let (sink, log) = sink().await;
    let large = event("good", "x".repeat(5_000));
    let topics = ["good", "missing", "good", "bad name", "small", "missing", "good"];
    let mut events: Vec<_> = topics.iter().map(|topic| event(topic, topic)).collect();
    events.insert(3, large);
    let batch: Vec<&Outgoing> = events.iter().collect();
    let expected = ["ok", "refused", "ok", "refused", "refused", "refused", "refused", "ok"];
    assert_eq!(kinds(&sink.send(&batch).await), expected);
    // By itself, since one request carries the batches of several topics, and this one is never answered.
    assert_eq!(kinds(&sink.send(&[&event("silent", 1)]).await), ["unknown"]);
    assert_eq!(log.lock().unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_does_not_exist_is_refused_alone_and_soon_and_the_breaker_stays_closed() {
    let (sink, _log) = sink().await;
    let traffic = TrafficHandle::start(TrafficConfig::default(), sink).unwrap();
    traffic.publish(event("good", "first")).await.unwrap();
    let begun = Instant::now();
    let refused: Refused = traffic.publish(event("missing", "a")).await.unwrap_err();
    assert_eq!((refused.code, refused.retry_after_ms), ("WEIR-0506", None));
    assert_eq!(refused.detail.as_deref(), Some("topic missing does not exist"));
    assert!(begun.elapsed() <= Duration::from_millis(1_100), "{:?}", begun.elapsed());
    for n in 0..20 {
        let begun = Instant::now();
        let both = vec![event("missing", n), event("good", n)];
        let [missing, good]: [_; 2] = traffic.publish_many(both).await.try_into().unwrap();
        assert_eq!(missing.unwrap_err().code, "WEIR-0506");
        good.unwrap();
        assert!(begun.elapsed() < Duration::from_millis(100), "it is remembered: {n}");
    }
    let stats = traffic.stats();
    assert_eq!(
        (stats.breaker.state, stats.breaker.consecutive_failures),
        (BreakerState::Closed, 0)
    );
    assert_eq!((stats.sink.batches_failed, stats.sink.away_ms), (0, None));
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_not_ready_is_refused_for_now_without_the_breaker() {
    let (sink, _log) = sink().await;
    let traffic = TrafficHandle::start(TrafficConfig::default(), sink).unwrap();
    for _ in 0..10 {
        let refused: Refused = traffic.publish(event("slow", "a")).await.unwrap_err();
        assert_eq!(refused.code, "WEIR-0504");
        assert!(refused.retry_after_ms.is_some());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(traffic.stats().breaker.consecutive_failures, 0);
    traffic.publish(event("good", "a")).await.unwrap();
}

//! Fetch sessions (KIP-227) through the broker.

use std::sync::Arc;

use weir_broker::BrokerConfig;
use weir_log::MemDisk;
use weir_protocol::api::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use weir_protocol::api::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic,
};
use weir_protocol::{ErrorCode, Uuid};

use crate::harness::*;

/// Partitions of `t` with their offsets, for a session.
fn request(id: i32, epoch: i32, partitions: &[(i32, i64)]) -> FetchRequest {
    let partition = |(partition, fetch_offset): &(i32, i64)| FetchPartition {
        partition: *partition,
        fetch_offset: *fetch_offset,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    let topic = FetchTopic {
        topic: "t".into(),
        partitions: partitions.iter().map(partition).collect(),
        ..FetchTopic::default()
    };
    FetchRequest {
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_id: id,
        session_epoch: epoch,
        topics: if partitions.is_empty() { Vec::new() } else { vec![topic] },
        ..FetchRequest::default()
    }
}

/// Partition, error and values of each partition in an answer.
fn news(answer: &FetchResponse) -> Vec<(i32, i16, Vec<String>)> {
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    let mut news: Vec<_> = partitions
        .map(|data| {
            let values = values(data.records.as_ref().unwrap(), 0);
            (data.partition_index, data.error_code, values)
        })
        .collect();
    news.sort();
    news
}

fn texts(values: &[&str]) -> Vec<String> {
    values.iter().map(|text| (*text).to_owned()).collect()
}

/// A session of all three partitions of `t`, from their first offset.
fn session(h: &mut Harness) -> i32 {
    h.create("t", 3, &[]);
    let full = h.ask(12, &request(0, 0, &[(0, 0), (1, 0), (2, 0)]));
    assert_eq!(news(&full).len(), 3, "the first answer has all partitions");
    assert_ne!(full.session_id, 0);
    full.session_id
}

#[test]
fn an_incremental_answer_has_partitions_with_news_alone() {
    let mut h = Harness::new();
    let id = session(&mut h);
    let quiet = h.ask(12, &request(id, 1, &[]));
    assert_eq!((quiet.session_id, quiet.error_code, quiet.responses.len()), (id, 0, 0));
    h.produce("t", 1, batch(&["a"]));
    let grown = h.ask(12, &request(id, 2, &[]));
    assert_eq!(news(&grown), [(1, 0, texts(&["a"]))]);
    let at_end = h.ask(12, &request(id, 3, &[(1, 1)]));
    assert_eq!(news(&at_end), [], "the high watermark was told with the record");
    h.produce("t", 0, batch(&["b"]));
    let back = h.ask(12, &request(id, 4, &[(1, 0)]));
    assert_eq!(news(&back), [(0, 0, texts(&["b"])), (1, 0, texts(&["a"]))]);
}

#[test]
fn records_that_are_deleted_are_news() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    h.produce("t", 0, batch(&["a", "b"]));
    let id = h.ask(12, &request(0, 0, &[(0, 2)])).session_id;
    assert!(h.ask(12, &request(id, 1, &[])).responses.is_empty());
    let delete = weir_protocol::api::delete_records::DeleteRecordsRequest {
        topics: vec![weir_protocol::api::delete_records::DeleteRecordsTopic {
            name: "t".into(),
            partitions: vec![weir_protocol::api::delete_records::DeleteRecordsPartition {
                partition_index: 0,
                offset: 1,
            }],
        }],
        ..Default::default()
    };
    assert_eq!(h.ask(2, &delete).topics[0].partitions[0].error_code, 0);
    let told = h.ask(12, &request(id, 2, &[]));
    assert_eq!(told.responses[0].partitions[0].log_start_offset, 1);
    assert!(h.ask(12, &request(id, 3, &[])).responses.is_empty());
}

#[test]
fn an_error_is_told_each_time_and_its_end_too() {
    let mut h = Harness::new();
    let id = session(&mut h);
    for epoch in 1..3 {
        let far = h.ask(12, &request(id, epoch, &[(2, 99)]));
        assert_eq!(news(&far), [(2, ErrorCode::OffsetOutOfRange.code(), vec![])]);
    }
    let back = h.ask(12, &request(id, 3, &[(2, 0)]));
    assert_eq!(news(&back), [(2, 0, vec![])]);
    assert_eq!(news(&h.ask(12, &request(id, 4, &[]))), []);
}

#[test]
fn partitions_come_and_go() {
    let mut h = Harness::new();
    h.create("t", 3, &[]);
    let id = h.ask(12, &request(0, 0, &[(0, 0)])).session_id;
    assert_eq!(news(&h.ask(12, &request(id, 1, &[(1, 0)]))), [(1, 0, vec![])]);
    let mut forget = request(id, 2, &[]);
    let partitions = vec![0];
    forget.forgotten_topics_data =
        vec![ForgottenTopic { topic: "t".into(), partitions, ..ForgottenTopic::default() }];
    h.produce("t", 0, batch(&["a"]));
    h.produce("t", 1, batch(&["b"]));
    assert_eq!(news(&h.ask(12, &forget)), [(1, 0, texts(&["b"]))]);
    let mut rest = request(id, 3, &[]);
    let partitions = vec![1];
    rest.forgotten_topics_data =
        vec![ForgottenTopic { topic: "t".into(), partitions, ..ForgottenTopic::default() }];
    assert_eq!(h.ask(12, &rest).session_id, 0, "nothing is left of it");
    let gone = h.ask(12, &request(id, 4, &[])).error_code;
    assert_eq!(gone, ErrorCode::FetchSessionIdNotFound.code());
}

#[test]
fn requests_out_of_turn_are_refused_by_name() {
    let mut h = Harness::new();
    let id = session(&mut h);
    let check = |h: &mut Harness, version, request: &FetchRequest, expect: ErrorCode| {
        let answer = h.ask(version, request);
        assert_eq!((answer.error_code, answer.session_id), (expect.code(), 0));
    };
    check(&mut h, 12, &request(id ^ 1, 1, &[]), ErrorCode::FetchSessionIdNotFound);
    check(&mut h, 12, &request(id, 2, &[]), ErrorCode::InvalidFetchSessionEpoch);
    check(&mut h, 13, &request(id, 1, &[]), ErrorCode::FetchSessionTopicIdError);
    assert_eq!(h.ask(12, &request(id, 1, &[])).error_code, 0);
    let closed = h.ask(12, &request(id, -1, &[(0, 0)]));
    assert_eq!((closed.error_code, closed.session_id, news(&closed).len()), (0, 0, 1));
    check(&mut h, 12, &request(id, 2, &[]), ErrorCode::FetchSessionIdNotFound);
}

#[test]
fn versions_without_sessions_get_none() {
    let mut h = Harness::new();
    h.create("t", 1, &[]);
    assert_eq!(h.ask(6, &request(0, 0, &[(0, 0)])).responses.len(), 1);
    assert_eq!(h.ask(7, &request(0, -1, &[(0, 0)])).session_id, 0);
    assert_ne!(h.ask(7, &request(0, 0, &[(0, 0)])).session_id, 0);
}

#[test]
fn a_waiting_fetch_of_a_session_wakes_with_its_news() {
    let mut h = Harness::new();
    let id = session(&mut h);
    let mut wait = request(id, 1, &[]);
    wait.max_wait_ms = 500;
    let ticket = h.call(12, &wait).ticket();
    h.produce("t", 2, batch(&["a"]));
    let woken = h.answer::<FetchRequest>(ticket).unwrap();
    assert_eq!((woken.session_id, news(&woken)), (id, vec![(2, 0, texts(&["a"]))]));
    let mut wait = request(id, 2, &[(2, 1)]);
    wait.max_wait_ms = 500;
    let ticket = h.call(12, &wait).ticket();
    h.pass_ms(500);
    let nothing = h.answer::<FetchRequest>(ticket).unwrap();
    assert_eq!((nothing.session_id, news(&nothing)), (id, vec![]));
}

#[test]
fn a_waiting_fetch_is_answered_when_the_next_overtakes_it() {
    let mut h = Harness::new();
    let id = session(&mut h);
    let mut wait = request(id, 1, &[]);
    wait.max_wait_ms = 60_000;
    let first = h.call(12, &wait).ticket();
    wait.session_epoch = 2;
    let second = h.call(12, &wait).ticket();
    let overtaken = h.answer::<FetchRequest>(first).unwrap();
    let error = ErrorCode::InvalidFetchSessionEpoch.code();
    assert_eq!((overtaken.error_code, overtaken.session_id), (error, id));
    h.produce("t", 0, batch(&["a"]));
    assert_eq!(news(&h.answer::<FetchRequest>(second).unwrap()), [(0, 0, texts(&["a"]))]);
}

#[test]
fn a_session_goes_on_over_another_connection() {
    let mut h = Harness::new();
    let id = session(&mut h);
    h.broker.disconnect(weir_broker::ConnId(1));
    h.produce("t", 0, batch(&["a"]));
    let answer = h.call_on(2, 12, &request(id, 1, &[])).answer();
    assert_eq!(news(&answer), [(0, 0, texts(&["a"]))]);
}

#[test]
fn no_partition_of_a_session_starves_under_max_bytes() {
    let mut h = Harness::new();
    let id = session(&mut h);
    for partition in 0..3 {
        h.produce("t", partition, batch(&["some text that fills the answer"]));
    }
    let mut seen = Vec::new();
    for epoch in 1..4 {
        let mut small = request(id, epoch, &[]);
        small.max_bytes = 10;
        let answer = h.ask(12, &small);
        let full = news(&answer).into_iter().filter(|(_, _, values)| !values.is_empty());
        seen.extend(full.map(|(partition, _, _)| partition));
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2]);
}

/// Partition 0 of a topic that is named by its id.
fn by_id(id: i32, epoch: i32, topic_id: Uuid) -> FetchRequest {
    let mut request = request(id, epoch, &[(0, 0)]);
    request.topics[0].topic_id = topic_id;
    request
}

fn delete(h: &mut Harness) {
    let topics = vec![DeleteTopicState { name: Some("t".into()), topic_id: Uuid::ZERO }];
    h.ask(6, &DeleteTopicsRequest { topics, ..DeleteTopicsRequest::default() });
}

/// Errors as a Kafka 4.1.0 node gave them, asked the same.
#[test]
fn who_asks_for_a_topic_by_the_id_it_had_learns_what_has_become_of_it() {
    let mut h = Harness::new();
    let topic_id = h.ask(7, &create_request("t", 1, &[])).topics[0].topic_id;
    let errors = |answer: FetchResponse| {
        assert_eq!(answer.error_code, 0);
        let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
        partitions.map(|data| ErrorCode::from_code(data.error_code)).collect::<Vec<_>>()
    };
    let session = h.ask(13, &by_id(0, 0, topic_id)).session_id;
    let unknown = Uuid([7; 16]);
    let stranger = h.ask(13, &by_id(0, 0, unknown)).session_id;
    assert_eq!(errors(h.ask(13, &request(session, 1, &[]))), []);
    let mut waiting = by_id(0, -1, topic_id);
    waiting.max_wait_ms = 5_000;
    let parked = h.call(13, &waiting).ticket();
    delete(&mut h);
    let gone = h.answer::<FetchRequest>(parked).expect("a topic that goes wakes its readers");
    assert_eq!(errors(gone), [ErrorCode::UnknownTopicOrPartition]);
    let in_session = h.ask(13, &request(session, 2, &[]));
    assert_eq!(in_session.responses[0].topic_id, topic_id);
    assert_eq!(errors(in_session), [ErrorCode::UnknownTopicOrPartition]);
    assert_eq!(errors(h.ask(13, &by_id(0, -1, topic_id))), [ErrorCode::UnknownTopicId]);
    h.create("t", 1, &[]);
    for epoch in 3..5 {
        let again = h.ask(13, &request(session, epoch, &[]));
        assert_eq!(errors(again), [ErrorCode::InconsistentTopicId], "the name is another's now");
    }
    assert_eq!(errors(h.ask(13, &by_id(0, -1, topic_id))), [ErrorCode::UnknownTopicId]);
    assert_eq!(errors(h.ask(13, &request(stranger, 1, &[]))), [ErrorCode::UnknownTopicId]);
}

#[test]
fn a_full_cache_gives_session_0() {
    let config = BrokerConfig { fetch_session_slots_max: 2, ..config() };
    let mut h = Harness::on(Arc::new(MemDisk::new()), config);
    h.create("t", 1, &[]);
    let full = request(0, 0, &[(0, 0)]);
    assert_ne!(h.ask(12, &full).session_id, 0);
    assert_ne!(h.ask(12, &full).session_id, 0);
    let third = h.ask(12, &full);
    assert_eq!((third.session_id, third.error_code, third.responses.len()), (0, 0, 1));
    h.pass_ms(120_001);
    assert_ne!(h.ask(12, &full).session_id, 0, "one of them was not used for two minutes");
}

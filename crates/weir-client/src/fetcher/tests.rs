//! Planning and staleness; what is read is tested against the scripted broker.

use super::fetching::{FetchEffects, HURRIED_WAIT_MS, RETRY_MS};
use super::*;
use crate::connection::Endpoint;
use crate::metadata::{PartitionView, TopicView};
use bytes::Bytes;
use weir_protocol::api::fetch::{
    FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use weir_protocol::batch::BatchBuilder;
use weir_protocol::compression::Codec;
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::Uuid;

const NODE: NodeId = NodeId(1);

fn view(partitions: usize) -> ClusterView {
    let partition = PartitionView {
        leader: Some(NODE),
        leader_epoch: LeaderEpoch(3),
        replicas: Vec::new(),
        in_sync: Vec::new(),
        offline: Vec::new(),
    };
    let topic = TopicView {
        id: Uuid([7; 16]),
        internal: false,
        error: ErrorCode::None,
        partitions: vec![partition; partitions],
    };
    let mut view = ClusterView::default();
    view.brokers.insert(NODE, Endpoint { host: Str::from("h"), port: 1 });
    view.topics.insert(Str::from("t"), topic);
    view
}

fn at(partition: i32) -> TopicPartition {
    topic_partition(&Str::from("t"), partition)
}

fn state(partitions: i32, config: ConsumerConfig) -> FetchState {
    let mut state = FetchState::new(config);
    let all: Vec<TopicPartition> = (0..partitions).map(at).collect();
    state.assign(&all, Start::Reset(AutoOffsetReset::Earliest));
    for (partition, epoch, _) in state.unresolved() {
        state.resolve(&partition, epoch, Offset(0), None);
    }
    state
}

fn batch(records: u8) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    for number in 0..records {
        builder.append(TimestampMs(1), None, Some(&[number]), &[]);
    }
    builder.build()
}

fn response(partition: i32, code: ErrorCode, records: Bytes) -> FetchResponse {
    let data = PartitionData {
        partition_index: partition,
        error_code: code.code(),
        high_watermark: 10,
        records: Some(records),
        ..PartitionData::default()
    };
    FetchResponse {
        responses: vec![FetchableTopicResponse {
            topic_id: Uuid([7; 16]),
            partitions: vec![data],
            ..FetchableTopicResponse::default()
        }],
        ..FetchResponse::default()
    }
}

fn fetch(state: &mut FetchState, partitions: usize) -> (FetchRequest, Vec<Fetching>) {
    match state.plan(NODE, &view(partitions), MonoMs(0)) {
        Plan::Fetch { request, partitions, ids_known: true } => (request, partitions),
        other => panic!("{other:?}"),
    }
}

fn deliver(state: &mut FetchState, records_max: usize) -> (Vec<i64>, bool) {
    let Some(mut chunk) = state.take_chunk() else { return (Vec::new(), false) };
    let taken = chunk.take(records_max, &ConsumerConfig::default());
    let offsets = taken.records.iter().map(|record| record.offset.get()).collect();
    let is_current = state.hand_over(chunk, taken.next, taken.leader_epoch, taken.is_done);
    (offsets, is_current)
}

fn offsets(list: &[PartitionOffset]) -> Vec<(TopicPartition, Offset)> {
    list.iter().map(|entry| (entry.partition.clone(), entry.offset)).collect()
}

#[test]
fn a_partition_is_fetched_by_one_request_at_a_time() {
    let mut state = state(2, ConsumerConfig::default());
    let (request, partitions) = fetch(&mut state, 2);
    assert_eq!(request.topics[0].partitions.len(), 2);
    assert_eq!(request.topics[0].partitions[0].current_leader_epoch, 3);
    assert!(matches!(state.plan(NODE, &view(2), MonoMs(0)), Plan::Wait));
    state.on_lost(&partitions, MonoMs(0));
    assert!(matches!(state.plan(NODE, &view(2), MonoMs(1)), Plan::WaitUntil(MonoMs(RETRY_MS))));
    assert!(matches!(state.plan(NODE, &view(2), MonoMs(RETRY_MS)), Plan::Fetch { .. }));
}

#[test]
fn the_position_moves_with_what_is_handed_over() {
    let mut state = state(1, ConsumerConfig::default());
    let (_, partitions) = fetch(&mut state, 1);
    let effects = state.on_fetched(&partitions, response(0, ErrorCode::None, batch(10)), MonoMs(0));
    assert!(effects.arrived);
    assert_eq!(state.position(&at(0)), Some(Offset(0)), "fetched is not handed over");
    assert_eq!(deliver(&mut state, 4), ((0..4).collect(), true));
    assert_eq!(state.position(&at(0)), Some(Offset(4)));
    assert_eq!(offsets(&state.consumed()), [(at(0), Offset(0))]);
    state.note_consumed();
    assert_eq!(offsets(&state.consumed()), [(at(0), Offset(4))]);
    assert!(state.buffered_bytes > 0);
    assert_eq!(deliver(&mut state, 100), ((4..10).collect(), true));
    assert_eq!((state.buffered_bytes, state.lag()), (0, vec![(at(0), 0)]));
}

#[test]
fn what_was_fetched_before_a_seek_is_dropped() {
    let mut state = state(1, ConsumerConfig::default());
    let (_, partitions) = fetch(&mut state, 1);
    assert!(state.seek(&at(0), Offset(5)));
    state.on_fetched(&partitions, response(0, ErrorCode::None, batch(10)), MonoMs(0));
    assert!(state.take_chunk().is_none());
    let (request, partitions) = fetch(&mut state, 1);
    assert_eq!(request.topics[0].partitions[0].fetch_offset, 5);
    state.on_fetched(&partitions, response(0, ErrorCode::None, batch(10)), MonoMs(0));
    let chunk = state.take_chunk().unwrap();
    state.seek(&at(0), Offset(2));
    assert!(!state.hand_over(chunk, Offset(10), None, true), "a seek came in between");
    assert_eq!((state.position(&at(0)), state.buffered_bytes), (Some(Offset(2)), 0));
}

#[test]
fn full_partitions_are_left_out_and_the_others_do_not_wait_long() {
    let config = ConsumerConfig { partition_fetch_bytes_max: 50, ..ConsumerConfig::default() };
    let mut state = state(2, config);
    let (request, partitions) = fetch(&mut state, 2);
    assert_eq!(request.max_wait_ms, 500);
    state.on_fetched(&partitions, response(0, ErrorCode::None, batch(10)), MonoMs(0));
    let (request, _) = fetch(&mut state, 2);
    assert_eq!(request.topics[0].partitions.len(), 1);
    assert_eq!(request.max_wait_ms, HURRIED_WAIT_MS);
}

#[test]
fn prefetch_stops_at_its_bound() {
    let config = ConsumerConfig { prefetch_bytes_max: 50, ..ConsumerConfig::default() };
    let mut state = state(2, config);
    let (_, partitions) = fetch(&mut state, 2);
    state.on_fetched(&partitions, response(0, ErrorCode::None, batch(10)), MonoMs(0));
    assert!(matches!(state.plan(NODE, &view(2), MonoMs(0)), Plan::Wait));
    deliver(&mut state, 100);
    assert!(matches!(state.plan(NODE, &view(2), MonoMs(0)), Plan::Fetch { .. }));
}

#[test]
fn errors_refresh_reset_or_are_told() {
    let check = |code, reset, expect: FetchEffects| {
        let config = ConsumerConfig { auto_offset_reset: reset, ..ConsumerConfig::default() };
        let mut state = state(1, config);
        let (_, partitions) = fetch(&mut state, 1);
        let answer = response(0, code, Bytes::new());
        assert_eq!(state.on_fetched(&partitions, answer, MonoMs(0)), expect, "{code}");
        state
    };
    let refresh = FetchEffects { refresh_metadata: true, ..FetchEffects::default() };
    let told = || FetchEffects { arrived: true, ..FetchEffects::default() };
    let unresolved = FetchEffects { unresolved: true, ..FetchEffects::default() };
    check(ErrorCode::NotLeaderOrFollower, AutoOffsetReset::Latest, refresh);
    let mut refused = check(ErrorCode::TopicAuthorizationFailed, AutoOffsetReset::Latest, told());
    assert_eq!(refused.take_error().unwrap().code(), "WEIR-0404");
    let reset = check(ErrorCode::OffsetOutOfRange, AutoOffsetReset::Latest, unresolved);
    let (.., start) = reset.unresolved()[0].clone();
    assert_eq!(start, Start::Reset(AutoOffsetReset::Latest));
    let mut none = check(ErrorCode::OffsetOutOfRange, AutoOffsetReset::None, told());
    assert_eq!(none.take_error().unwrap().code(), "WEIR-0421");
    assert!(matches!(none.plan(NODE, &view(1), MonoMs(9_999)), Plan::Wait), "until a seek");
}

#[test]
fn partitions_in_both_assignments_keep_their_place() {
    let mut state = state(2, ConsumerConfig::default());
    let (_, partitions) = fetch(&mut state, 2);
    state.on_fetched(&partitions, response(0, ErrorCode::None, batch(3)), MonoMs(0));
    deliver(&mut state, 100);
    state.assign(&[at(0), at(5)], Start::Committed);
    assert_eq!(state.position(&at(0)), Some(Offset(3)));
    assert_eq!(state.position(&at(1)), None);
    assert_eq!(state.unresolved().len(), 1);
}

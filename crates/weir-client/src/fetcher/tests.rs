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

fn plan(state: &mut FetchState, view: &ClusterView, now: MonoMs) -> Plan {
    state.plan(NODE, view, now).plan
}

fn fetch(state: &mut FetchState, partitions: usize) -> (FetchRequest, Vec<Fetching>) {
    match plan(state, &view(partitions), MonoMs(0)) {
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
    assert!(matches!(plan(&mut state, &view(2), MonoMs(0)), Plan::Wait));
    let lost = ClientError::ConnectionLost { broker: String::new(), reason: String::new() };
    assert!(!state.on_lost(NODE, &partitions, lost, MonoMs(0)));
    assert!(matches!(plan(&mut state, &view(2), MonoMs(1)), Plan::WaitUntil(MonoMs(RETRY_MS))));
    assert!(matches!(plan(&mut state, &view(2), MonoMs(RETRY_MS)), Plan::Fetch { .. }));
}

#[test]
fn the_position_moves_with_what_is_handed_over() {
    let mut state = state(1, ConsumerConfig::default());
    let (_, partitions) = fetch(&mut state, 1);
    let effects =
        state.on_fetched(NODE, &partitions, response(0, ErrorCode::None, batch(10)), MonoMs(0));
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
    state.on_fetched(NODE, &partitions, response(0, ErrorCode::None, batch(10)), MonoMs(0));
    assert!(state.take_chunk().is_none());
    let (request, partitions) = fetch(&mut state, 1);
    assert_eq!(request.topics[0].partitions[0].fetch_offset, 5);
    state.on_fetched(NODE, &partitions, response(0, ErrorCode::None, batch(10)), MonoMs(0));
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
    state.on_fetched(NODE, &partitions, response(0, ErrorCode::None, batch(10)), MonoMs(0));
    let (request, _) = fetch(&mut state, 2);
    assert_eq!(request.topics[0].partitions.len(), 1);
    assert_eq!(request.max_wait_ms, HURRIED_WAIT_MS);
}

#[test]
fn prefetch_stops_at_its_bound() {
    let config = ConsumerConfig { prefetch_bytes_max: 50, ..ConsumerConfig::default() };
    let mut state = state(2, config);
    let (_, partitions) = fetch(&mut state, 2);
    state.on_fetched(NODE, &partitions, response(0, ErrorCode::None, batch(10)), MonoMs(0));
    assert!(matches!(plan(&mut state, &view(2), MonoMs(0)), Plan::Wait));
    deliver(&mut state, 100);
    assert!(matches!(plan(&mut state, &view(2), MonoMs(0)), Plan::Fetch { .. }));
}

#[test]
fn errors_refresh_reset_or_are_told() {
    let check = |code, reset, expect: FetchEffects| {
        let config = ConsumerConfig { auto_offset_reset: reset, ..ConsumerConfig::default() };
        let mut state = state(1, config);
        let (_, partitions) = fetch(&mut state, 1);
        let answer = response(0, code, Bytes::new());
        assert_eq!(state.on_fetched(NODE, &partitions, answer, MonoMs(0)), expect, "{code}");
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
    assert!(matches!(plan(&mut none, &view(1), MonoMs(9_999)), Plan::Wait), "until a seek");
}

#[test]
fn partitions_in_both_assignments_keep_their_place() {
    let mut state = state(2, ConsumerConfig::default());
    let (_, partitions) = fetch(&mut state, 2);
    state.on_fetched(NODE, &partitions, response(0, ErrorCode::None, batch(3)), MonoMs(0));
    deliver(&mut state, 100);
    state.assign(&[at(0), at(5)], Start::Committed);
    assert_eq!(state.position(&at(0)), Some(Offset(3)));
    assert_eq!(state.position(&at(1)), None);
    assert_eq!(state.unresolved().len(), 1);
}

/// A view whose partitions have this leader epoch and topic id.
fn view_of(leader_epoch: i32, id: u8) -> ClusterView {
    let mut view = view(1);
    let topic = view.topics.get_mut("t").unwrap();
    topic.id = Uuid([id; 16]);
    topic.partitions[0].leader_epoch = LeaderEpoch(leader_epoch);
    view
}

/// A batch of an epoch, at an offset.
fn batch_at(base: i64, records: u8, leader_epoch: i32) -> Bytes {
    let mut bytes = batch(records).to_vec();
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    // Behind base offset and length.
    bytes[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
    bytes.into()
}

/// A consumer that has been given offsets 0 to 3 of epoch 3, and has fetched up to 10.
fn read_in_epoch_three(reset: AutoOffsetReset) -> FetchState {
    let config = ConsumerConfig { auto_offset_reset: reset, ..ConsumerConfig::default() };
    let mut state = state(1, config);
    let (_, partitions) = fetch(&mut state, 1);
    let answer = response(0, ErrorCode::None, batch_at(0, 10, 3));
    state.on_fetched(NODE, &partitions, answer, MonoMs(0));
    assert_eq!(deliver(&mut state, 4).0, [0, 1, 2, 3]);
    state
}

/// Has the leader of epoch 5 asked, and answers that epoch 3 ends at `end`.
fn check(state: &mut FetchState, end: i64) {
    let newer = view_of(5, 7);
    let planned = state.plan(NODE, &newer, MonoMs(0));
    assert!(planned.is_unresolved && matches!(planned.plan, Plan::Wait));
    assert!(!state.plan(NODE, &newer, MonoMs(0)).is_unresolved, "asked for once");
    let checks = state.to_check(&newer);
    assert_eq!((checks[0].read_epoch, checks[0].leader_epoch), (LeaderEpoch(3), LeaderEpoch(5)));
    state.checked(&checks[0], Some(Offset(end)));
    assert_eq!(state.to_check(&newer).len(), 0);
}

fn next_fetch(state: &mut FetchState) -> i64 {
    match state.plan(NODE, &view_of(5, 7), MonoMs(0)).plan {
        Plan::Fetch { request, .. } => request.topics[0].partitions[0].fetch_offset,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_new_leader_that_has_what_was_read_is_read_on_from() {
    let mut state = read_in_epoch_three(AutoOffsetReset::None);
    check(&mut state, 10);
    assert_eq!(next_fetch(&mut state), 10);
    assert_eq!(deliver(&mut state, 100).0, (4..10).collect::<Vec<i64>>());
    let committed = state.positions();
    assert_eq!(
        (committed[0].offset, committed[0].leader_epoch),
        (Offset(10), Some(LeaderEpoch(3)))
    );
}

#[test]
fn what_was_fetched_and_is_not_in_the_log_any_more_is_not_handed_over() {
    let mut state = read_in_epoch_three(AutoOffsetReset::None);
    check(&mut state, 6);
    assert!(state.take_chunk().is_none());
    assert_eq!(next_fetch(&mut state), 4);
    assert!(state.take_error().is_none());
}

#[test]
fn a_log_truncated_below_the_position_is_told_or_reset() {
    let mut told = read_in_epoch_three(AutoOffsetReset::None);
    check(&mut told, 2);
    let error = told.take_error().unwrap();
    assert!(
        matches!(error, ClientError::LogTruncated { offset: Offset(4), end: Offset(2), .. }),
        "{error}"
    );
    assert_eq!(error.code(), "WEIR-0436");
    assert!(matches!(plan(&mut told, &view_of(5, 7), MonoMs(0)), Plan::Wait), "until a seek");
    let mut reset = read_in_epoch_three(AutoOffsetReset::Latest);
    check(&mut reset, 2);
    assert_eq!((next_fetch(&mut reset), reset.position(&at(0))), (2, Some(Offset(2))));
}

#[test]
fn a_topic_made_again_is_read_from_its_beginning_or_told() {
    let mut state = read_in_epoch_three(AutoOffsetReset::Latest);
    assert!(
        state.is_of_another(&at(0), Uuid([8; 16])) && !state.is_of_another(&at(0), Uuid([7; 16]))
    );
    assert!(state.plan(NODE, &view_of(0, 8), MonoMs(0)).is_unresolved);
    let (.., start) = state.unresolved()[0].clone();
    assert_eq!(start, Start::Reset(AutoOffsetReset::Earliest));
    assert!(state.take_chunk().is_none(), "nothing of the old one");
    let mut told = read_in_epoch_three(AutoOffsetReset::None);
    told.plan(NODE, &view_of(0, 8), MonoMs(0));
    assert_eq!(told.take_error().unwrap().code(), "WEIR-0421");
}

#[test]
fn paused_partitions_give_their_room_to_those_that_wait() {
    let config = ConsumerConfig { prefetch_bytes_max: 50, ..ConsumerConfig::default() };
    let mut state = state(2, config);
    let (_, partitions) = fetch(&mut state, 2);
    state.on_fetched(NODE, &partitions, response(0, ErrorCode::None, batch(10)), MonoMs(0));
    state.set_paused(&[at(0)], true);
    let (request, _) = fetch(&mut state, 2);
    let fetched = &request.topics[0].partitions;
    assert_eq!((fetched.len(), fetched[0].partition), (1, 1));
    assert_eq!(state.buffered_bytes, 0);
    assert_eq!(state.position(&at(0)), Some(Offset(0)), "it is fetched again in its turn");
    state.set_paused(&[at(0)], false);
    let (request, _) = fetch(&mut state, 2);
    assert_eq!(request.topics[0].partitions[0].fetch_offset, 0);
}

#[test]
fn within_a_session_only_news_are_said() {
    let mut state = state(2, ConsumerConfig::default());
    let (request, partitions) = fetch(&mut state, 2);
    assert_eq!((request.session_id, request.session_epoch), (0, 0));
    let answer = |records| FetchResponse { session_id: 9, ..response(0, ErrorCode::None, records) };
    state.on_fetched(NODE, &partitions, answer(batch(3)), MonoMs(0));
    let (request, partitions) = fetch(&mut state, 2);
    assert_eq!((request.session_id, request.session_epoch), (9, 1));
    assert_eq!(request.topics[0].partitions.len(), 1, "the other is as it was");
    state.set_paused(&[at(1)], true);
    state.on_fetched(NODE, &partitions, answer(Bytes::new()), MonoMs(0));
    let (request, partitions) = fetch(&mut state, 2);
    assert_eq!((request.topics.len(), request.forgotten_topics_data[0].partitions[0]), (0, 1));
    let refused = FetchResponse {
        error_code: ErrorCode::FetchSessionIdNotFound.code(),
        ..FetchResponse::default()
    };
    state.on_fetched(NODE, &partitions, refused, MonoMs(0));
    match plan(&mut state, &view(2), MonoMs(RETRY_MS)) {
        Plan::Fetch { request, .. } => {
            assert_eq!((request.session_id, request.session_epoch), (0, 0));
            assert_eq!(request.topics[0].partitions.len(), 1);
        }
        other => panic!("{other:?}"),
    }
}

/// Offsets 0 to 3 are under work.
fn begin_work(state: &mut FetchState) {
    let epoch = state.partitions[&at(0)].epoch;
    state.begin_work(&at(0), epoch, (0..4).map(Offset));
}

#[test]
fn no_commit_passes_the_lowest_record_that_is_not_done() {
    let mut state = read_in_epoch_three(AutoOffsetReset::Latest);
    begin_work(&mut state);
    state.note_consumed();
    let committed = |state: &FetchState| offsets(&state.consumed())[0].1.get();
    assert_eq!(committed(&state), 0);
    assert!(state.finish(&at(0), Offset(1)) && !state.finish(&at(0), Offset(1)));
    assert_eq!(committed(&state), 0);
    state.finish(&at(0), Offset(0));
    assert_eq!(committed(&state), 2);
    state.finish(&at(0), Offset(3));
    assert_eq!(committed(&state), 2);
    state.finish(&at(0), Offset(2));
    assert_eq!(state.consumed()[0].leader_epoch, Some(LeaderEpoch(3)), "all is done");
    assert_eq!((committed(&state), offsets(&state.positions())[0].1), (4, Offset(4)));
}

#[test]
fn a_partition_with_too_many_records_under_work_rests() {
    let config = ConsumerConfig { unfinished_records_max: 4, ..ConsumerConfig::default() };
    let mut state = state(1, config);
    let (_, partitions) = fetch(&mut state, 1);
    state.on_fetched(NODE, &partitions, response(0, ErrorCode::None, batch(10)), MonoMs(0));
    assert_eq!(deliver(&mut state, 4).0.len(), 4);
    begin_work(&mut state);
    assert!(state.take_chunk().is_none());
    state.finish(&at(0), Offset(2));
    assert!(state.take_chunk().is_some());
}

#[test]
fn the_next_record_has_an_age() {
    let mut state = read_in_epoch_three(AutoOffsetReset::Latest);
    assert_eq!(state.lag_ms(TimestampMs(5_001)), [(at(0), 5_000)]);
    deliver(&mut state, 100);
    assert_eq!(state.lag_ms(TimestampMs(5_001)), [(at(0), 0)]);
}

#[test]
fn what_is_under_work_holds_back_commits_wherever_the_position_goes() {
    let committed =
        |state: &FetchState| offsets(&state.consumed()).first().map(|(_, offset)| offset.get());
    let worked = || {
        let mut state = read_in_epoch_three(AutoOffsetReset::Latest);
        begin_work(&mut state);
        state.finish(&at(0), Offset(0));
        state
    };
    let mut truncated = worked();
    check(&mut truncated, 3);
    assert_eq!(committed(&truncated), Some(1));
    let mut sought = worked();
    sought.seek(&at(0), Offset(50));
    assert_eq!(committed(&sought), Some(1), "past what cannot be read");
    assert!(sought.finish(&at(0), Offset(1)));
    sought.seek(&at(0), Offset(3));
    assert_eq!(committed(&sought), Some(2), "3 comes again");
    assert!(!sought.finish(&at(0), Offset(3)));
    let mut reset = worked();
    reset.seek_by(&at(0), Start::Reset(AutoOffsetReset::Latest));
    assert_eq!(committed(&reset), None);
    let (partition, epoch, _) = reset.unresolved()[0].clone();
    reset.resolve(&partition, epoch, Offset(90), None);
    assert_eq!(committed(&reset), Some(1));
    let mut again = worked();
    again.plan(NODE, &view_of(0, 8), MonoMs(0));
    let (partition, epoch, _) = again.unresolved()[0].clone();
    again.resolve(&partition, epoch, Offset(5), None);
    assert_eq!(committed(&again), Some(5), "of another topic");
}

#[test]
fn what_is_fetched_is_returned_before_the_place_after_it_is_reset() {
    for reset in [AutoOffsetReset::Latest, AutoOffsetReset::None] {
        let mut state = read_in_epoch_three(reset);
        let (request, partitions) = fetch(&mut state, 1);
        assert_eq!(request.topics[0].partitions[0].fetch_offset, 10);
        let gone = || response(0, ErrorCode::OffsetOutOfRange, Bytes::new());
        let effects = state.on_fetched(NODE, &partitions, gone(), MonoMs(0));
        assert_eq!(effects, FetchEffects::default());
        assert!(matches!(plan(&mut state, &view(1), MonoMs(0)), Plan::Wait), "not asked again yet");
        assert_eq!(deliver(&mut state, 3).0, [4, 5, 6]);
        assert!(matches!(plan(&mut state, &view(1), MonoMs(0)), Plan::Wait));
        assert_eq!(deliver(&mut state, 100).0, [7, 8, 9]);
        let (_, partitions) = fetch(&mut state, 1);
        state.on_fetched(NODE, &partitions, gone(), MonoMs(0));
        let told = state.take_error().map(|error| error.code());
        let unresolved = state.unresolved().len();
        match reset {
            AutoOffsetReset::None => assert_eq!((told, unresolved), (Some("WEIR-0421"), 0)),
            _ => assert_eq!((told, unresolved), (None, 1)),
        }
    }
}

#[test]
fn a_partition_evicted_while_it_is_checked_is_fetched_again() {
    // The position has no epoch; what is fetched after it has.
    let config = ConsumerConfig { prefetch_bytes_max: 50, ..ConsumerConfig::default() };
    let mut state = state(2, config);
    let (_, partitions) = fetch(&mut state, 2);
    let answer = response(0, ErrorCode::None, batch_at(0, 10, 3));
    state.on_fetched(NODE, &partitions, answer, MonoMs(0));
    let mut newer = view(2);
    let topic = newer.topics.get_mut("t").unwrap();
    topic.partitions.iter_mut().for_each(|known| known.leader_epoch = LeaderEpoch(5));
    assert!(state.plan(NODE, &newer, MonoMs(0)).is_unresolved);
    state.set_paused(&[at(0)], true);
    assert!(matches!(plan(&mut state, &newer, MonoMs(0)), Plan::Fetch { .. }), "it made room");
    state.set_paused(&[at(0)], false);
    match plan(&mut state, &newer, MonoMs(0)) {
        Plan::Fetch { partitions, .. } => assert_eq!(partitions.len(), 1),
        other => panic!("{other:?}, and {:?}", state.to_check(&newer)),
    }
}

#[test]
fn a_fetch_that_fails_for_good_is_told_once_and_tried_again_later() {
    let mut state = state(2, ConsumerConfig::default());
    let (_, partitions) = fetch(&mut state, 2);
    let (broker, reason) = (String::new(), "no".to_owned());
    let refused = ClientError::Authentication { broker, reason };
    assert!(state.on_lost(NODE, &partitions, refused.clone(), MonoMs(0)));
    assert_eq!((state.take_error(), state.take_error()), (Some(refused), None));
    assert!(matches!(plan(&mut state, &view(2), MonoMs(999)), Plan::WaitUntil(MonoMs(1_000))));
    let Plan::Fetch { partitions, .. } = plan(&mut state, &view(2), MonoMs(1_000)) else {
        panic!()
    };
    let refused = FetchResponse {
        error_code: ErrorCode::ClusterAuthorizationFailed.code(),
        ..FetchResponse::default()
    };
    assert!(state.on_fetched(NODE, &partitions, refused, MonoMs(1_000)).arrived);
    let told = state.take_error().and_then(|error| error.broker_code());
    assert_eq!(told, Some(ErrorCode::ClusterAuthorizationFailed));
}

#[test]
fn what_was_shown_is_not_shown_again_though_it_was_fetched_again_meanwhile() {
    let shown = |meanwhile: &dyn Fn(&mut FetchState)| {
        let mut state = state(1, ConsumerConfig::default());
        let (_, partitions) = fetch(&mut state, 1);
        let answer = || response(0, ErrorCode::None, batch(10));
        state.on_fetched(NODE, &partitions, answer(), MonoMs(0));
        let chunk = state.take_chunk().unwrap();
        let epoch = chunk.epoch();
        meanwhile(&mut state);
        let (_, partitions) = fetch(&mut state, 1);
        state.begin_work(&at(0), epoch, std::iter::once(Offset(9)));
        state.shown(chunk, Offset(10), None);
        state.on_fetched(NODE, &partitions, answer(), MonoMs(0));
        (state.position(&at(0)), state.chunks.len(), state.finish(&at(0), Offset(9)))
    };
    let again = |state: &mut FetchState| assert!(state.refetch(&at(0)));
    assert_eq!(shown(&again), (Some(Offset(10)), 0, true));
    let sought = |state: &mut FetchState| assert!(state.seek(&at(0), Offset(0)));
    assert_eq!(shown(&sought), (Some(Offset(0)), 1, false));
    let both = |state: &mut FetchState| {
        assert!(state.seek(&at(0), Offset(0)) && state.refetch(&at(0)));
    };
    assert_eq!(shown(&both), (Some(Offset(0)), 1, false));
}

#[test]
fn of_a_chunk_only_the_batches_that_are_taken_are_decoded() {
    let mut state = state(1, ConsumerConfig::default());
    let (_, partitions) = fetch(&mut state, 1);
    let mut bytes = Vec::new();
    for base in [0, 4, 8] {
        bytes.extend_from_slice(&batch_at(base, 4, 3));
    }
    // The last is damaged, which whoever decodes it finds out.
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    state.on_fetched(NODE, &partitions, response(0, ErrorCode::None, bytes.into()), MonoMs(0));
    let mut seen = Vec::new();
    for (records_max, expected) in [(3, 3), (3, 1), (2, 2), (1, 1), (1, 1)] {
        let mut chunk = state.take_chunk().unwrap();
        let taken = chunk.take(records_max, &ConsumerConfig::default());
        assert_eq!((taken.records.len(), taken.is_done), (expected, false));
        assert!(taken.damaged.is_none());
        assert_eq!(taken.leader_epoch, Some(LeaderEpoch(3)));
        seen.extend(taken.records.iter().map(|record| record.offset.get()));
        assert_eq!(taken.next.get(), seen.len() as i64);
        state.hand_over(chunk, taken.next, taken.leader_epoch, taken.is_done);
    }
    assert_eq!(seen, (0..8).collect::<Vec<i64>>());
    let mut chunk = state.take_chunk().unwrap();
    let taken = chunk.take(10, &ConsumerConfig::default());
    assert!(taken.records.is_empty() && taken.is_done && taken.damaged.is_some());
}

#[test]
fn a_partition_with_too_much_under_work_gives_its_room_to_those_that_wait() {
    let config = ConsumerConfig {
        prefetch_bytes_max: 50,
        unfinished_records_max: 4,
        ..ConsumerConfig::default()
    };
    let mut state = state(2, config);
    let (_, partitions) = fetch(&mut state, 2);
    state.on_fetched(NODE, &partitions, response(0, ErrorCode::None, batch(10)), MonoMs(0));
    assert_eq!(deliver(&mut state, 4).0.len(), 4);
    begin_work(&mut state);
    match plan(&mut state, &view(2), MonoMs(0)) {
        Plan::Fetch { request, .. } => {
            let asked: Vec<i32> =
                request.topics[0].partitions.iter().map(|p| p.partition).collect();
            assert!(asked.contains(&1), "{asked:?}");
        }
        other => panic!("{other:?}"),
    }
}

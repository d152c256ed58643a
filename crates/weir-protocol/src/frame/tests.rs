//! Frames and headers, byte by byte.

use super::*;
use crate::api::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use crate::api::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
use crate::api::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use crate::api::metadata::{MetadataRequest, MetadataRequestTopic};
use crate::api::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};

/// `request` is the frame `bytes`, both ways.
fn check_request<R: Request + PartialEq + std::fmt::Debug>(
    request: R,
    version: i16,
    header: &[u8],
    body: &[u8],
) {
    let frame = encode_request(258, Some("w"), version, &request).unwrap().freeze();
    let length = i32::try_from(header.len() + body.len()).unwrap().to_be_bytes();
    assert_eq!(frame, [&length[..], header, body].concat());
    let segments = encode_request_segments(258, Some("w"), version, &request).unwrap();
    assert_eq!(segments.concat(), frame);

    let mut decoder = Decoder::new(frame.slice(4..));
    let decoded = decode_request_header(&mut decoder).unwrap();
    let expected = RequestHeader {
        api_key: R::API_KEY.get(),
        api_version: version,
        correlation_id: 258,
        client_id: Some("w".into()),
    };
    assert_eq!(decoded, expected);
    assert_eq!(decoder.rest(), body);
    assert_eq!(decode_request::<R>(decoder, version), Ok(request));
}

fn check_response<R: Request>(response: R::Response, version: i16, header: &[u8], body: &[u8])
where
    R::Response: PartialEq + std::fmt::Debug,
{
    let frame = encode_response(R::API_KEY, version, 258, &response).unwrap().freeze();
    let length = i32::try_from(header.len() + body.len()).unwrap().to_be_bytes();
    assert_eq!(frame, [&length[..], header, body].concat());
    let segments = encode_response_segments(R::API_KEY, version, 258, &response).unwrap();
    assert_eq!(segments.concat(), frame);
    assert_eq!(decode_response::<R>(frame.slice(4..), version), Ok((258, response)));
}

#[test]
fn metadata_request_v0_empty() {
    let request = MetadataRequest { topics: Some(vec![]), ..MetadataRequest::default() };
    check_request(request, 0, &[0, 3, 0, 0, 0, 0, 1, 2, 0, 1, b'w'], &[0, 0, 0, 0]);
}

#[test]
fn metadata_request_v1_all_topics() {
    let request = MetadataRequest { topics: None, ..MetadataRequest::default() };
    check_request(request, 1, &[0, 3, 0, 1, 0, 0, 1, 2, 0, 1, b'w'], &[0xff; 4]);
}

#[test]
fn metadata_request_v12_by_name() {
    let topic = MetadataRequestTopic { name: Some("t".into()), ..MetadataRequestTopic::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), ..MetadataRequest::default() };
    let body = [&[2][..], &[0; 16], &[2, b't', 0, 1, 0, 0]].concat();
    check_request(request, 12, &[0, 3, 0, 12, 0, 0, 1, 2, 0, 1, b'w', 0], &body);
}

#[test]
fn api_versions_request_v3() {
    let request = ApiVersionsRequest {
        client_software_name: "weir".into(),
        client_software_version: "1".into(),
    };
    let body = [5, b'w', b'e', b'i', b'r', 2, b'1', 0];
    check_request(request, 3, &[0, 18, 0, 3, 0, 0, 1, 2, 0, 1, b'w', 0], &body);
}

/// Flexible body behind a header that is not (KIP-511).
#[test]
fn api_versions_response_v3_has_a_classic_header() {
    let fetch = ApiVersion { api_key: 1, min_version: 4, max_version: 18 };
    let response = ApiVersionsResponse { api_keys: vec![fetch], ..ApiVersionsResponse::default() };
    let body = [0, 0, 2, 0, 1, 0, 4, 0, 18, 0, 0, 0, 0, 0, 0];
    check_response::<ApiVersionsRequest>(response, 3, &[0, 0, 1, 2], &body);
}

#[test]
fn heartbeat_response_v4_has_a_flexible_header() {
    let response = HeartbeatResponse { throttle_time_ms: 0, error_code: 27 };
    check_response::<HeartbeatRequest>(response, 4, &[0, 0, 1, 2, 0], &[0, 0, 0, 0, 0, 27, 0]);
}

#[test]
fn produce_request_v9_one_partition() {
    let data = PartitionProduceData { index: 2, records: Some(Bytes::from_static(b"rec")) };
    let topic = TopicProduceData {
        name: "t".into(),
        partition_data: vec![data],
        ..TopicProduceData::default()
    };
    let request = ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 1_000,
        topic_data: vec![topic],
    };
    let body = [
        &[0, 0xff, 0xff, 0, 0, 3, 0xe8, 2, 2, b't', 2][..],
        &[0, 0, 0, 2, 4, b'r', b'e', b'c', 0, 0, 0],
    ]
    .concat();
    check_request(request, 9, &[0, 0, 0, 9, 0, 0, 1, 2, 0, 1, b'w', 0], &body);
}

#[test]
fn fetch_response_v12_empty() {
    let body = [0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 1, 0];
    let response = FetchResponse { session_id: 9, ..FetchResponse::default() };
    check_response::<FetchRequest>(response, 12, &[0, 0, 1, 2, 0], &body);
}

#[test]
fn fetched_records_are_a_segment_of_their_own() {
    let records = Bytes::from(vec![1; 5_000]);
    let partition = |index, records| PartitionData {
        partition_index: index,
        records,
        ..PartitionData::default()
    };
    let topic = FetchableTopicResponse {
        topic: "t".into(),
        partitions: vec![partition(0, Some(records.clone())), partition(1, None)],
        ..FetchableTopicResponse::default()
    };
    let response = FetchResponse { responses: vec![topic], ..FetchResponse::default() };
    let segments = encode_response_segments(ApiKey::Fetch, 12, 258, &response).unwrap();
    assert_eq!(segments.len(), 3);
    assert_eq!(segments[1].as_ptr(), records.as_ptr());
    let length = segments.iter().map(Bytes::len).sum::<usize>() - 4;
    assert_eq!(segments[0][..4], i32::try_from(length).unwrap().to_be_bytes());
    let frame = Bytes::from(segments.concat()).slice(4..);
    assert_eq!(decode_response::<FetchRequest>(frame, 12), Ok((258, response)));
}

#[test]
fn a_prefix_that_is_no_length_is_refused() {
    assert_eq!(frame_len(&[0, 0, 1, 0], 1_000), Ok(256));
    for prefix in [*b"GET ", [0x16, 3, 1, 2], [0; 4], [0xff; 4], [0, 0, 4, 0]] {
        assert!(frame_len(&prefix, 1_000).is_err(), "{prefix:?}");
    }
    let error = frame_len(b"GET ", 1_000).unwrap_err();
    assert_eq!(error.code(), "WEIR-0101");
}

/// A newer client's ApiVersions must be answered, so its header must be read (KIP-511).
#[test]
fn the_header_of_an_unknown_version_is_read_up_to_the_client_id() {
    for (key, version) in [(18_i16, 5_i16), (18, i16::MAX), (0, 99), (4_000, 0)] {
        let mut frame = key.to_be_bytes().to_vec();
        frame.extend(version.to_be_bytes());
        frame.extend([0, 0, 0, 9, 0xff, 0xff, 0xfe]);
        let mut decoder = Decoder::new(frame.into());
        let header = decode_request_header(&mut decoder).unwrap();
        assert_eq!((header.api_key, header.api_version), (key, version));
        assert_eq!((header.correlation_id, header.client_id), (9, None));
        assert_eq!(decoder.remaining(), 1);
    }
}

/// Kafka does so too: a client that sends more than it must is answered.
#[test]
fn bytes_after_a_request_are_passed_over() {
    let decoder = Decoder::new(Bytes::from_static(&[0, 0, 0, 0, 1, 2, 3]));
    let request = MetadataRequest { topics: Some(vec![]), ..MetadataRequest::default() };
    assert_eq!(decode_request::<MetadataRequest>(decoder, 1), Ok(request));
}

#[test]
fn a_null_that_a_version_lacks_fails_the_frame() {
    let request = MetadataRequest { topics: None, ..MetadataRequest::default() };
    assert_eq!(encode_request(1, None, 0, &request).err(), Some(EncodeError::Null { version: 0 }));
    assert!(encode_request_segments(1, None, 0, &request).is_err());
}

#[test]
fn common_versions_are_those_of_both() {
    assert_eq!(common_versions(&(3..=13), &(0..=9)), Some(3..=9));
    assert_eq!(common_versions(&(3..=13), &(0..=2)), None);
}

//! A transaction coordinator, strict: who writes without being in the transaction, or under an old epoch,
//! is refused, and what was decided shows on the entries of the logs.

use std::collections::{BTreeMap, BTreeSet};

use weir_protocol::api::add_offsets_to_txn::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};
use weir_protocol::api::add_partitions_to_txn::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    AddPartitionsToTxnTopicResult,
};
use weir_protocol::api::end_txn::{EndTxnRequest, EndTxnResponse};
use weir_protocol::api::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use weir_protocol::api::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
};
use weir_protocol::batch::BatchView;
use weir_protocol::error_code::ErrorCode;
use weir_protocol::frame::{self, RequestHeader};
use weir_protocol::{ApiKey, Decoder};

use super::serve::{answer, Reply};
use super::{FakeCluster, State};

/// From these versions on the request is of KIP-890.
const PRODUCE_V2: i16 = 12;
const V2: i16 = 5;

/// What happens to a request to the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TxnFault {
    None,
    Refuse(ErrorCode),
    /// The connection ends, nothing done.
    CutBefore,
    /// Done, and the connection ends before the answer.
    CutAfter,
    /// Never answered, and nothing more is read.
    Stall,
    /// The connection ends; what was asked is done so many requests to the coordinator later.
    Late(usize),
}

/// Chooses the fault of a request: its API, how many of it there were.
pub(crate) type TxnScript = Box<dyn FnMut(ApiKey, usize) -> TxnFault + Send>;

pub(crate) struct FakeTransactions {
    /// The finalized `transaction.version`; 0: none is named.
    pub(crate) version: i16,
    pub(crate) script: TxnScript,
    /// So many writes to a new transaction are refused while markers are "written".
    pub(crate) slow_markers: usize,
    pub(crate) calls: BTreeMap<&'static str, usize>,
    ids: BTreeMap<String, Txn>,
    /// By group, topic and partition.
    pub(crate) committed: BTreeMap<(String, String, i32), i64>,
    /// A request that is under way longer than its connection.
    late: Option<(usize, RequestHeader, ApiKey, Decoder)>,
}

impl Default for FakeTransactions {
    fn default() -> Self {
        FakeTransactions {
            version: 2,
            script: Box::new(|_, _| TxnFault::None),
            slow_markers: 0,
            calls: BTreeMap::new(),
            ids: BTreeMap::new(),
            committed: BTreeMap::new(),
            late: None,
        }
    }
}

#[derive(Debug)]
struct Txn {
    producer: i64,
    epoch: i16,
    /// Who was given the present epoch.
    last_epoch: Option<i16>,
    /// Of the last end.
    decided: Option<bool>,
    ongoing: bool,
    partitions: BTreeSet<(String, i32)>,
    groups: BTreeSet<String>,
    offsets: BTreeMap<(String, String, i32), i64>,
    markers_pending: usize,
}

impl State {
    /// As a coordinator does with a transaction open for too long.
    pub(crate) fn time_out_transaction(&mut self, id: &str) {
        let txn = self.transactions.ids.get_mut(id).unwrap();
        assert!(txn.ongoing, "nothing to time out");
        txn.epoch += 1;
        txn.last_epoch = None;
        self.end_transaction(id, false, true);
    }

    fn end_transaction(&mut self, id: &str, commit: bool, raises_epoch: bool) {
        let slow = self.transactions.slow_markers;
        let txn = self.transactions.ids.get_mut(id).unwrap();
        for (topic, partition) in std::mem::take(&mut txn.partitions) {
            let log = &mut self.topics.get_mut(&topic).unwrap()[partition as usize].log;
            log.decide(txn.producer, commit, raises_epoch.then_some(txn.epoch));
        }
        let offsets = std::mem::take(&mut txn.offsets);
        if commit {
            self.transactions.committed.extend(offsets);
        }
        txn.groups.clear();
        txn.ongoing = false;
        txn.decided = Some(commit);
        txn.markers_pending = slow;
    }

    /// Whether the batch may be written, as a broker asks its coordinator (KIP-890).
    pub(crate) fn check_transactional_write(
        &mut self,
        topic: &str,
        partition: i32,
        version: i16,
        records: &[u8],
    ) -> Result<(), ErrorCode> {
        let view = BatchView::parse(records).unwrap();
        if !view.is_transactional() {
            return Ok(());
        }
        let mut ids = self.transactions.ids.values_mut();
        let txn = ids.find(|txn| txn.producer == view.producer_id().get());
        let txn = txn.ok_or(ErrorCode::InvalidProducerIdMapping)?;
        if view.producer_epoch().get() != txn.epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        let place = (topic.to_owned(), partition);
        if txn.partitions.contains(&place) {
            return Ok(());
        }
        if version < PRODUCE_V2 {
            return Err(ErrorCode::InvalidTxnState);
        }
        txn.begin_write()?;
        txn.partitions.insert(place);
        Ok(())
    }
}

impl Txn {
    fn begin_write(&mut self) -> Result<(), ErrorCode> {
        if self.markers_pending > 0 {
            self.markers_pending -= 1;
            return Err(ErrorCode::ConcurrentTransactions);
        }
        self.ongoing = true;
        Ok(())
    }

    fn check(&self, producer: i64, epoch: i16) -> Result<(), ErrorCode> {
        if producer != self.producer {
            return Err(ErrorCode::InvalidProducerIdMapping);
        }
        if epoch != self.epoch {
            return Err(ErrorCode::ProducerFenced);
        }
        Ok(())
    }
}

pub(super) fn handle(
    cluster: &FakeCluster,
    header: &RequestHeader,
    key: ApiKey,
    decoder: Decoder,
) -> Reply {
    let mut state = cluster.state();
    let count = state.transactions.calls.entry(key.name()).or_default();
    *count += 1;
    let count = *count;
    let fault = (state.transactions.script)(key, count);
    match fault {
        TxnFault::CutBefore => return Reply::Cut,
        TxnFault::Stall => return Reply::Stall,
        TxnFault::Late(after) => {
            state.transactions.late = Some((after, header.clone(), key, decoder));
            return Reply::Cut;
        }
        _ => {}
    }
    if let Some((after, header, key, decoder)) = state.transactions.late.take() {
        match after {
            0 => drop(dispatch(&mut state, &header, key, decoder, None)),
            _ => state.transactions.late = Some((after - 1, header, key, decoder)),
        }
    }
    let refused = match fault {
        TxnFault::Refuse(code) => Some(code),
        _ => None,
    };
    let reply = dispatch(&mut state, header, key, decoder, refused);
    match fault {
        TxnFault::CutAfter => Reply::Cut,
        _ => reply,
    }
}

fn dispatch(
    state: &mut State,
    header: &RequestHeader,
    key: ApiKey,
    decoder: Decoder,
    refused: Option<ErrorCode>,
) -> Reply {
    let version = header.api_version;
    match key {
        ApiKey::InitProducerId => {
            let request = frame::decode_request(decoder, version).unwrap();
            let done = refused.map_or_else(|| init(state, &request), Err);
            let (code, producer, epoch) = match done {
                Ok((producer, epoch)) => (ErrorCode::None, producer, epoch),
                Err(code) => (code, -1, -1),
            };
            let response = InitProducerIdResponse {
                error_code: code.code(),
                producer_id: producer,
                producer_epoch: epoch,
                ..InitProducerIdResponse::default()
            };
            answer(header, &response)
        }
        ApiKey::AddPartitionsToTxn => {
            let request = frame::decode_request(decoder, version).unwrap();
            let done = refused.map_or_else(|| add_partitions(state, &request), Err);
            answer(header, &added(&request, done.err().unwrap_or(ErrorCode::None)))
        }
        ApiKey::AddOffsetsToTxn => {
            let request: AddOffsetsToTxnRequest = frame::decode_request(decoder, version).unwrap();
            let done = refused.map_or_else(|| add_offsets(state, &request), Err);
            let error_code = done.err().unwrap_or(ErrorCode::None).code();
            answer(
                header,
                &AddOffsetsToTxnResponse { error_code, ..AddOffsetsToTxnResponse::default() },
            )
        }
        ApiKey::TxnOffsetCommit => {
            let request = frame::decode_request(decoder, version).unwrap();
            let done = refused.map_or_else(|| commit_offsets(state, &request, version), Err);
            answer(header, &committed(&request, done.err().unwrap_or(ErrorCode::None)))
        }
        ApiKey::EndTxn => {
            let request = frame::decode_request(decoder, version).unwrap();
            let done = refused.map_or_else(|| end(state, &request, version), Err);
            let (code, producer, epoch) = match done {
                Ok((producer, epoch)) => (ErrorCode::None, producer, epoch),
                Err(code) => (code, -1, -1),
            };
            let response = EndTxnResponse {
                error_code: code.code(),
                producer_id: producer,
                producer_epoch: epoch,
                ..EndTxnResponse::default()
            };
            answer(header, &response)
        }
        other => panic!("the fake coordinator has no {}", other.name()),
    }
}

fn init(state: &mut State, request: &InitProducerIdRequest) -> Result<(i64, i16), ErrorCode> {
    let id = request.transactional_id.as_ref().unwrap().to_string();
    let Some(txn) = state.transactions.ids.get_mut(&id) else {
        state.next_producer_id += 1;
        let producer = state.next_producer_id;
        let txn = Txn {
            producer,
            epoch: 0,
            last_epoch: None,
            decided: None,
            ongoing: false,
            partitions: BTreeSet::new(),
            groups: BTreeSet::new(),
            offsets: BTreeMap::new(),
            markers_pending: 0,
        };
        state.transactions.ids.insert(id, txn);
        return Ok((producer, 0));
    };
    let expected = (request.producer_id >= 0).then_some(request.producer_epoch);
    if expected.is_some_and(|_| request.producer_id != txn.producer) {
        return Err(ErrorCode::ProducerFenced);
    }
    if expected.is_some() && expected == txn.last_epoch && !txn.ongoing {
        return Ok((txn.producer, txn.epoch));
    }
    if expected.is_some_and(|expected| expected != txn.epoch) {
        return Err(ErrorCode::ProducerFenced);
    }
    if txn.ongoing {
        txn.last_epoch = expected;
        txn.epoch += 1;
        state.end_transaction(&id, false, true);
        return Err(ErrorCode::ConcurrentTransactions);
    }
    txn.last_epoch = expected;
    txn.epoch += 1;
    txn.decided = None;
    Ok((txn.producer, txn.epoch))
}

fn add_partitions(state: &mut State, request: &AddPartitionsToTxnRequest) -> Result<(), ErrorCode> {
    let id = &*request.v3_and_below_transactional_id;
    let txn = state.transactions.ids.get_mut(id).unwrap();
    txn.check(request.v3_and_below_producer_id, request.v3_and_below_producer_epoch)?;
    txn.begin_write()?;
    for topic in &request.v3_and_below_topics {
        for partition in &topic.partitions {
            txn.partitions.insert((topic.name.to_string(), *partition));
        }
    }
    Ok(())
}

fn added(request: &AddPartitionsToTxnRequest, code: ErrorCode) -> AddPartitionsToTxnResponse {
    let results = request.v3_and_below_topics.iter().map(|topic| AddPartitionsToTxnTopicResult {
        name: topic.name.clone(),
        results_by_partition: topic
            .partitions
            .iter()
            .map(|index| AddPartitionsToTxnPartitionResult {
                partition_index: *index,
                partition_error_code: code.code(),
            })
            .collect(),
    });
    AddPartitionsToTxnResponse {
        results_by_topic_v3_and_below: results.collect(),
        ..AddPartitionsToTxnResponse::default()
    }
}

fn add_offsets(state: &mut State, request: &AddOffsetsToTxnRequest) -> Result<(), ErrorCode> {
    let txn = state.transactions.ids.get_mut(&*request.transactional_id).unwrap();
    txn.check(request.producer_id, request.producer_epoch)?;
    txn.begin_write()?;
    txn.groups.insert(request.group_id.to_string());
    Ok(())
}

fn commit_offsets(
    state: &mut State,
    request: &TxnOffsetCommitRequest,
    version: i16,
) -> Result<(), ErrorCode> {
    let group = request.group_id.to_string();
    if !request.member_id.is_empty() && *request.member_id != *state.group.member {
        return Err(ErrorCode::UnknownMemberId);
    }
    if request.generation_id >= 0 && request.generation_id != state.group.generation {
        return Err(ErrorCode::IllegalGeneration);
    }
    let txn = state.transactions.ids.get_mut(&*request.transactional_id).unwrap();
    txn.check(request.producer_id, request.producer_epoch)?;
    if !txn.groups.contains(&group) {
        if version < V2 {
            return Err(ErrorCode::InvalidTxnState);
        }
        txn.begin_write()?;
        txn.groups.insert(group.clone());
    }
    for topic in &request.topics {
        for partition in &topic.partitions {
            let place = (group.clone(), topic.name.to_string(), partition.partition_index);
            txn.offsets.insert(place, partition.committed_offset);
        }
    }
    Ok(())
}

fn committed(request: &TxnOffsetCommitRequest, code: ErrorCode) -> TxnOffsetCommitResponse {
    let topics = request.topics.iter().map(|topic| TxnOffsetCommitResponseTopic {
        name: topic.name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|partition| TxnOffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: code.code(),
            })
            .collect(),
    });
    TxnOffsetCommitResponse { topics: topics.collect(), ..TxnOffsetCommitResponse::default() }
}

fn end(state: &mut State, request: &EndTxnRequest, version: i16) -> Result<(i64, i16), ErrorCode> {
    let id = request.transactional_id.to_string();
    let is_v2 = version >= V2;
    let txn = state.transactions.ids.get_mut(&id).unwrap();
    let is_repeat = is_v2 && !txn.ongoing && txn.last_epoch == Some(request.producer_epoch);
    if is_repeat {
        let same = txn.decided == Some(request.committed);
        return if same { Ok((txn.producer, txn.epoch)) } else { Err(ErrorCode::InvalidTxnState) };
    }
    txn.check(request.producer_id, request.producer_epoch)?;
    if !txn.ongoing {
        let was_done = !is_v2 && txn.decided == Some(request.committed);
        if was_done {
            return Ok((txn.producer, txn.epoch));
        }
        if !is_v2 || request.committed {
            return Err(ErrorCode::InvalidTxnState);
        }
    }
    if is_v2 {
        txn.last_epoch = Some(txn.epoch);
        txn.epoch += 1;
    }
    let result = (txn.producer, txn.epoch);
    state.end_transaction(&id, request.committed, is_v2);
    Ok(result)
}

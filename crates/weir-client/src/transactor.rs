//! The shell of transactions: what is asked of the coordinators, again and again until they answer.
//!
//! [`crate::transaction::Transactions`] says what may be asked and what an answer means. The calls run in
//! the caller's task, one at a time; a call that was given up is gone on with by the same call later.

use std::future::Future;
use std::sync::atomic::{AtomicI16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use weir_protocol::api::add_offsets_to_txn::AddOffsetsToTxnRequest;
use weir_protocol::api::add_partitions_to_txn::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, AddPartitionsToTxnTopic,
};
use weir_protocol::api::end_txn::EndTxnRequest;
use weir_protocol::api::init_producer_id::InitProducerIdRequest;
use weir_protocol::api::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
    TxnOffsetCommitResponse,
};
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{LeaderEpoch, NodeId, ProducerEpoch, ProducerId, Str};
use weir_protocol::Request;

use crate::accumulator::{Additions, Identity, Slot};
use crate::client::Lane;
use crate::consumer::PartitionOffset;
use crate::error::ClientError;
use crate::sender::Shared;
use crate::transaction::{
    judge, Call, Death, Ending, GroupMetadata, Judgement, TransactionError, TxnVersion,
};

/// How long to wait for the markers of the last transaction, as Java's producer does.
const SOON: Duration = Duration::from_millis(20);

/// AddPartitionsToTxn v4 is between brokers (KIP-890).
const ADD_PARTITIONS_VERSION_MAX: i16 = 3;

/// With v5 of EndTxn the epoch rises; with v5 of TxnOffsetCommit a commit adds its partition.
const VERSION_TXN_V1_MAX: i16 = 4;

/// What is known of the coordinator.
#[derive(Debug, Default)]
pub(crate) struct Transactor {
    coordinator: Mutex<Option<NodeId>>,
    /// The cluster's `transaction.version` as the coordinator last told it.
    version: AtomicI16,
    /// One call at a time.
    turn: tokio::sync::Mutex<()>,
    /// Held while partitions are being added: an end must not overtake them, or they would be added to
    /// the next transaction.
    adding: tokio::sync::Mutex<()>,
}

impl Transactor {
    /// The version the cluster offers now.
    pub(crate) fn offered(&self) -> TxnVersion {
        match self.version.load(Ordering::Relaxed) {
            ..=1 => TxnVersion::V1,
            _ => TxnVersion::V2,
        }
    }

    /// Waits for its turn: an earlier call may be held without being polled.
    pub(crate) async fn turn(
        &self,
        limit: &Limit,
    ) -> Result<tokio::sync::MutexGuard<'_, ()>, TransactionError> {
        let turn = tokio::time::timeout_at(limit.deadline, self.turn.lock()).await;
        turn.map_err(|_| limit.passed("another call is under way".to_owned()))
    }

    /// Waits until no partitions are being added.
    async fn none_added(&self, limit: &Limit) -> Result<(), TransactionError> {
        match tokio::time::timeout_at(limit.deadline, self.adding.lock()).await {
            Ok(adding) => drop(adding),
            Err(_) => return Err(limit.passed("partitions are being added".to_owned())),
        }
        Ok(())
    }
}

/// A request that adds something to a transaction, until it is answered. One that is lost or given up is
/// never answered.
struct Unanswered<'a> {
    shared: &'a Shared,
    transaction: u64,
}

impl<'a> Unanswered<'a> {
    fn asked(shared: &'a Shared) -> Self {
        let mut core = shared.core();
        let asked = core.with_transactions(|transactions| {
            let transaction = transactions.number();
            transactions.addition_asked(transaction);
            transaction
        });
        Unanswered { shared, transaction: asked.map_or(0, |(transaction, _)| transaction) }
    }

    fn answered(self) {
        let Unanswered { shared, transaction } = self;
        let _ = shared.core().with_transactions(|transactions| {
            transactions.addition_answered(transaction);
        });
    }
}

/// The bound on a call, and what to say when it is reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    call: &'static str,
    timeout_ms: u32,
    pub(crate) deadline: Instant,
}

impl Limit {
    pub(crate) fn new(call: &'static str, timeout_ms: u32) -> Self {
        let deadline = Instant::now() + Duration::from_millis(timeout_ms.into());
        Limit { call, timeout_ms, deadline }
    }

    pub(crate) fn passed(&self, last: String) -> TransactionError {
        TransactionError::Timeout { call: self.call, timeout_ms: self.timeout_ms, last }
    }
}

fn locked(place: &Mutex<Option<NodeId>>) -> MutexGuard<'_, Option<NodeId>> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Repeats a request until it is done, by what [`judge`] says of its answers. `place` is where the
/// coordinator is remembered.
async fn insist<T, F>(
    shared: &Shared,
    (call, place): (Call, &Mutex<Option<NodeId>>),
    limit: &Limit,
    mut attempt: impl FnMut() -> F,
) -> Result<T, TransactionError>
where
    F: Future<Output = Result<(ErrorCode, T), ClientError>>,
{
    let mut failures = 0;
    loop {
        let tried = tokio::time::timeout_at(limit.deadline, attempt()).await;
        let (judgement, code, last) = match tried {
            Err(_) => return Err(limit.passed(format!("no answer to {}", call.name()))),
            Ok(Ok((code, answer))) => match judge(call, code) {
                Judgement::Done => return Ok(answer),
                other => (other, code, format!("{}: {}", call.name(), code.name())),
            },
            // By the time a coordinator can be reached again it may be another.
            Ok(Err(error)) if error.is_retriable() => {
                (Judgement::Elsewhere, ErrorCode::NetworkException, error.to_string())
            }
            // The coordinator could not be found out, which is as good as its own word.
            Ok(Err(ClientError::Broker { api, code, message })) => {
                let detail = message.map(|text| format!(": {text}")).unwrap_or_default();
                (judge(call, code), code, format!("{api}: {}{detail}", code.name()))
            }
            Ok(Err(error)) => return Err(error.into()),
        };
        let wait = match judgement {
            Judgement::Done | Judgement::Soon => SOON,
            Judgement::Again => shared.client.retry_wait(failures),
            Judgement::Elsewhere => {
                *locked(place) = None;
                shared.client.retry_wait(failures)
            }
            Judgement::Abort => return Err(TransactionError::MustAbort { reason: last }),
            Judgement::Fenced => {
                let transactional_id = shared.config.transactional_id.clone().unwrap_or_default();
                return Err(TransactionError::Fenced { transactional_id });
            }
            Judgement::Refused => {
                return Err(TransactionError::Refused { call: call.name(), code });
            }
        };
        tracing::debug!(%last, "a transaction waits");
        failures += 1;
        if Instant::now() + wait >= limit.deadline {
            return Err(limit.passed(last));
        }
        tokio::time::sleep(wait).await;
    }
}

/// Requests.
impl Shared {
    async fn ask_coordinator<R: Request>(
        &self,
        request: &R,
        version_max: i16,
    ) -> Result<R::Response, ClientError> {
        let place = &self.transactor.coordinator;
        let known = *locked(place);
        let node = match known {
            Some(node) => node,
            None => {
                let id = self.config.transactional_id.as_deref().unwrap_or_default();
                let found = self.client.find_transaction_coordinator(id).await?;
                *locked(place) = Some(found);
                found
            }
        };
        let connection = self.client.connection(node, Lane::SHARED).await?;
        self.transactor.version.store(connection.transaction_version(), Ordering::Relaxed);
        let timeout_ms = self.client.config().request_timeout_ms;
        connection.request(request, version_max, timeout_ms).await
    }

    /// Gets the next identity. With the present one given the epoch rises only for its holder; else
    /// whoever has the transactional id is fenced.
    async fn init_transactional(
        &self,
        current: Identity,
        limit: &Limit,
    ) -> Result<Identity, TransactionError> {
        let id = self.config.transactional_id.as_deref().unwrap_or_default();
        let request = &InitProducerIdRequest {
            transactional_id: Some(Str::copy_from(id)),
            transaction_timeout_ms: i32::try_from(self.config.transaction_timeout_ms)
                .unwrap_or(i32::MAX),
            producer_id: current.id.get(),
            producer_epoch: current.epoch.get(),
        };
        insist(self, (Call::Init, &self.transactor.coordinator), limit, || async {
            let response = self.ask_coordinator(request, i16::MAX).await?;
            let identity = Identity {
                id: ProducerId(response.producer_id),
                epoch: ProducerEpoch(response.producer_epoch),
            };
            Ok((ErrorCode::from_code(response.error_code), identity))
        })
        .await
    }

    /// Takes the transactional id over: whoever had it is fenced, its open transaction aborted.
    pub(crate) async fn take_over(&self, limit: &Limit) -> Result<(), TransactionError> {
        let identity = self.init_transactional(Identity::NONE, limit).await?;
        tracing::debug!(id = %identity.id, epoch = %identity.epoch, "transactional identity");
        let mut core = self.core();
        core.set_identity(identity);
        let _ = core.with_transactions(|transactions| transactions.initialised());
        drop(core);
        self.wake_brokers();
        Ok(())
    }

    /// Waits until nothing of the transaction is under way or waits to be sent, or it has failed.
    pub(crate) async fn quiesce(&self, limit: &Limit) -> Result<(), TransactionError> {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            {
                let core = self.core();
                let failure = core.transactions().and_then(|transactions| transactions.failure());
                if let Some(failure) = failure {
                    return Err(failure);
                }
                if core.buffered_records() == 0 {
                    return Ok(());
                }
            }
            if tokio::time::timeout_at(limit.deadline, room).await.is_err() {
                return Err(limit.passed("records are not answered yet".to_owned()));
            }
        }
    }

    /// Asks for what ends the transaction, as the core says, until it has ended.
    pub(crate) async fn end(&self, limit: &Limit) -> Result<(), TransactionError> {
        loop {
            let (ending, version, identity) = {
                let core = self.core();
                let Some(transactions) = core.transactions() else { return Ok(()) };
                let Some(ending) = transactions.ending() else { return Ok(()) };
                (ending, transactions.version(), core.identity().unwrap_or(Identity::NONE))
            };
            match ending {
                Ending::Nothing => {
                    let _ = self.core().with_transactions(|transactions| transactions.ended());
                    return Ok(());
                }
                Ending::Bump => {
                    let next = self.init_transactional(identity, limit).await?;
                    let mut core = self.core();
                    core.set_identity(next);
                    let _ = core.with_transactions(|transactions| transactions.ended());
                    return Ok(());
                }
                Ending::End { commit } => self.ask_end(commit, version, identity, limit).await?,
            }
        }
    }

    async fn ask_end(
        &self,
        commit: bool,
        version: TxnVersion,
        identity: Identity,
        limit: &Limit,
    ) -> Result<(), TransactionError> {
        let id = self.config.transactional_id.as_deref().unwrap_or_default();
        let request = &EndTxnRequest {
            transactional_id: Str::copy_from(id),
            producer_id: identity.id.get(),
            producer_epoch: identity.epoch.get(),
            committed: commit,
        };
        let version_max = if version == TxnVersion::V1 { VERSION_TXN_V1_MAX } else { i16::MAX };
        let place = &self.transactor.coordinator;
        self.transactor.none_added(limit).await?;
        let _ = self.core().with_transactions(|transactions| transactions.end_asked());
        let answered = insist(self, (Call::End, place), limit, || async {
            let response = self.ask_coordinator(request, version_max).await?;
            let next = Identity {
                id: ProducerId(response.producer_id),
                epoch: ProducerEpoch(response.producer_epoch),
            };
            Ok((ErrorCode::from_code(response.error_code), next))
        })
        .await;
        let mut core = self.core();
        match answered {
            Ok(next) => {
                if version == TxnVersion::V2 && next.id != ProducerId::NONE {
                    core.set_identity(next);
                }
                let _ = core.with_transactions(|transactions| transactions.end_answered());
                match commit {
                    true => core.counters.transactions_committed += 1,
                    false => core.counters.transactions_aborted += 1,
                }
                Ok(())
            }
            Err(TransactionError::Refused { code: ErrorCode::InvalidTxnState, .. })
                if version == TxnVersion::V1 && !commit =>
            {
                let _ = core.with_transactions(|transactions| transactions.nothing_to_abort());
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Puts offsets of a group into the transaction.
    pub(crate) async fn send_offsets(
        &self,
        offsets: &[PartitionOffset],
        group: &GroupMetadata,
        limit: &Limit,
    ) -> Result<(), TransactionError> {
        let (identity, version) = {
            let core = self.core();
            let version = core.transactions().map_or(TxnVersion::V1, |t| t.version());
            (core.identity().unwrap_or(Identity::NONE), version)
        };
        if version == TxnVersion::V1 {
            self.add_offsets(group, identity, limit).await?;
        }
        let request = &self.txn_offset_commit(offsets, group, identity);
        let version_max = if version == TxnVersion::V1 { VERSION_TXN_V1_MAX } else { i16::MAX };
        let place = &Mutex::new(None);
        insist(self, (Call::CommitOffsets, place), limit, || async {
            let known = *locked(place);
            let node = match known {
                Some(node) => node,
                None => self.client.find_group_coordinator(&group.group_id).await?,
            };
            *locked(place) = Some(node);
            let connection = self.client.connection(node, Lane::SHARED).await?;
            let timeout_ms = self.client.config().request_timeout_ms;
            let asked = Unanswered::asked(self);
            let response = connection.request(request, version_max, timeout_ms).await?;
            asked.answered();
            Ok((worst_of_offsets(&response), ()))
        })
        .await
    }

    async fn add_offsets(
        &self,
        group: &GroupMetadata,
        identity: Identity,
        limit: &Limit,
    ) -> Result<(), TransactionError> {
        let id = self.config.transactional_id.as_deref().unwrap_or_default();
        let request = &AddOffsetsToTxnRequest {
            transactional_id: Str::copy_from(id),
            producer_id: identity.id.get(),
            producer_epoch: identity.epoch.get(),
            group_id: Str::copy_from(&group.group_id),
        };
        insist(self, (Call::AddOffsets, &self.transactor.coordinator), limit, || async {
            let asked = Unanswered::asked(self);
            let response = self.ask_coordinator(request, i16::MAX).await?;
            asked.answered();
            Ok((ErrorCode::from_code(response.error_code), ()))
        })
        .await
    }

    fn txn_offset_commit(
        &self,
        offsets: &[PartitionOffset],
        group: &GroupMetadata,
        identity: Identity,
    ) -> TxnOffsetCommitRequest {
        let mut topics: Vec<TxnOffsetCommitRequestTopic> = Vec::new();
        for PartitionOffset { partition, offset, leader_epoch } in offsets {
            let committed = TxnOffsetCommitRequestPartition {
                partition_index: partition.partition.get(),
                committed_offset: offset.get(),
                committed_leader_epoch: leader_epoch.map_or(-1, LeaderEpoch::get),
                committed_metadata: Some(Str::from("")),
            };
            match topics.iter_mut().find(|topic| topic.name == partition.topic) {
                Some(topic) => topic.partitions.push(committed),
                None => topics.push(TxnOffsetCommitRequestTopic {
                    name: partition.topic.clone(),
                    partitions: vec![committed],
                }),
            }
        }
        let id = self.config.transactional_id.as_deref().unwrap_or_default();
        TxnOffsetCommitRequest {
            transactional_id: Str::copy_from(id),
            group_id: Str::copy_from(&group.group_id),
            producer_id: identity.id.get(),
            producer_epoch: identity.epoch.get(),
            generation_id: group.generation_id,
            member_id: Str::copy_from(&group.member_id),
            group_instance_id: group.instance_id.as_deref().map(Str::copy_from),
            topics,
        }
    }

    /// Lets the core know what an error means for the transaction.
    pub(crate) fn conclude(&self, error: &TransactionError) {
        let effects = self.core().with_transactions(|transactions| match error {
            TransactionError::MustAbort { reason } => transactions.fail(reason.clone()),
            TransactionError::Fenced { .. } => transactions.die(Death::Fenced),
            TransactionError::Refused { .. } => transactions.die(Death::Refused(error.clone())),
            TransactionError::NotTransactional
            | TransactionError::WrongState { .. }
            | TransactionError::Timeout { .. }
            | TransactionError::Client(_) => {}
        });
        if let Some(((), effects)) = effects {
            self.announce(effects);
        }
    }
}

/// The first error among partitions; one that only needs time comes last.
fn worst_of_offsets(response: &TxnOffsetCommitResponse) -> ErrorCode {
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    worst(partitions.map(|partition| ErrorCode::from_code(partition.error_code)))
}

fn worst(codes: impl Iterator<Item = ErrorCode>) -> ErrorCode {
    let rank = |code: ErrorCode| match code {
        ErrorCode::None => 0,
        // What was not attempted follows from another partition's error.
        ErrorCode::OperationNotAttempted => 1,
        code if code.is_retriable() => 2,
        _ => 3,
    };
    codes.fold(ErrorCode::None, |worst, code| if rank(code) > rank(worst) { code } else { worst })
}

/// Adds partitions to the transaction as the core asks for them (version 1), until the producer stops.
pub(crate) async fn add_partitions(shared: Arc<Shared>) {
    let mut failures = 0;
    loop {
        let additions = shared.core().take_additions();
        let Some(additions) = additions else {
            failures = 0;
            shared.additions_wanted.notified().await;
            continue;
        };
        // The delivery timeout of the records that wait for it ends it, as it fails the transaction.
        let limit = Limit::new("AddPartitionsToTxn", u32::MAX);
        let request = &additions_request(&shared, &additions);
        let place = &shared.transactor.coordinator;
        let added = insist(&shared, (Call::AddPartitions, place), &limit, || async {
            let _adding = shared.transactor.adding.lock().await;
            if !shared.core().stands(&additions) {
                return Ok((ErrorCode::None, false));
            }
            let asked = Unanswered::asked(&shared);
            let response = shared.ask_coordinator(request, ADD_PARTITIONS_VERSION_MAX).await?;
            asked.answered();
            Ok((worst_of_additions(&response), true))
        })
        .await;
        match added {
            Ok(false) => {}
            Ok(true) => {
                failures = 0;
                let slots: Vec<Slot> =
                    additions.partitions.iter().map(|(slot, ..)| *slot).collect();
                shared.core().set_added(additions.transaction, &slots);
                shared.wake_brokers();
            }
            Err(error) => {
                shared.conclude(&of_additions(error));
                tokio::time::sleep(shared.client.retry_wait(failures)).await;
                failures += 1;
            }
        }
    }
}

/// What cannot be asked now will not be later: the records that wait for it must not wait for their delivery
/// timeout.
fn of_additions(error: TransactionError) -> TransactionError {
    match error {
        TransactionError::Client(error) => {
            TransactionError::MustAbort { reason: format!("AddPartitionsToTxn: {error}") }
        }
        other => other,
    }
}

fn additions_request(shared: &Shared, additions: &Additions) -> AddPartitionsToTxnRequest {
    let mut topics: Vec<AddPartitionsToTxnTopic> = Vec::new();
    for (_, name, partition) in &additions.partitions {
        match topics.iter_mut().find(|topic| topic.name == *name) {
            Some(topic) => topic.partitions.push(partition.get()),
            None => topics.push(AddPartitionsToTxnTopic {
                name: name.clone(),
                partitions: vec![partition.get()],
            }),
        }
    }
    let id = shared.config.transactional_id.as_deref().unwrap_or_default();
    AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: Str::copy_from(id),
        v3_and_below_producer_id: additions.identity.id.get(),
        v3_and_below_producer_epoch: additions.identity.epoch.get(),
        v3_and_below_topics: topics,
        ..AddPartitionsToTxnRequest::default()
    }
}

fn worst_of_additions(response: &AddPartitionsToTxnResponse) -> ErrorCode {
    let topics = response.results_by_topic_v3_and_below.iter();
    let partitions = topics.flat_map(|topic| &topic.results_by_partition);
    worst(partitions.map(|partition| ErrorCode::from_code(partition.partition_error_code)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_answers_the_one_that_cannot_heal_counts() {
        let worst_of = |codes: &[ErrorCode]| worst(codes.iter().copied());
        assert_eq!(worst_of(&[]), ErrorCode::None);
        assert_eq!(
            worst_of(&[
                ErrorCode::OperationNotAttempted,
                ErrorCode::TopicAuthorizationFailed,
                ErrorCode::ConcurrentTransactions,
            ]),
            ErrorCode::TopicAuthorizationFailed
        );
        assert_eq!(
            worst_of(&[ErrorCode::None, ErrorCode::ConcurrentTransactions]),
            ErrorCode::ConcurrentTransactions
        );
    }
}

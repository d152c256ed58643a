//! Finds positions in the background: where partitions start, and whether what was read is there still.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_protocol::api::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition,
    OffsetForLeaderTopic,
};
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{NodeId, Offset, TimestampMs};

use super::{Inner, TopicPartition};
use crate::admin::{list_offsets, OffsetSpec};
use crate::client::Lane;
use crate::clock::{Clock, SystemClock};
use crate::config::AutoOffsetReset;
use crate::error::ClientError;
use crate::fetcher::{Check, Start};

/// Finds where partitions start: committed offsets first, then by time or at an end.
pub(super) async fn find(inner: Arc<Inner>) {
    let mut work = inner.work.subscribe();
    let mut failures = 0;
    loop {
        work.mark_unchanged();
        let unresolved = inner.state().unresolved();
        let checks = inner.state().to_check(&inner.client.view());
        if unresolved.is_empty() && checks.is_empty() {
            failures = 0;
            if work.changed().await.is_err() {
                return;
            }
            continue;
        }
        let found = async {
            find_some(&inner, &unresolved).await?;
            check_epochs(&inner, &checks).await
        };
        match found.await {
            Ok(()) => inner.work_changed(),
            Err(error) if error.is_retriable() => {
                tracing::debug!(%error, "positions not found yet");
                inner.client.refresh_soon();
                tokio::time::sleep(inner.client.retry_wait(failures)).await;
                failures += 1;
            }
            Err(error) => {
                let mut state = inner.state();
                for (partition, epoch, _) in &unresolved {
                    state.unresolvable(partition, *epoch, &error);
                }
                // Who may not ask goes on unchecked.
                checks.iter().for_each(|check| state.checked(check, None));
                drop(state);
                inner.arrived.notify_waiters();
            }
        }
    }
}

async fn find_some(
    inner: &Arc<Inner>,
    unresolved: &[(TopicPartition, u64, Start)],
) -> Result<(), ClientError> {
    if unresolved.is_empty() {
        return Ok(());
    }
    let committed: Vec<_> =
        unresolved.iter().filter(|(_, _, start)| *start == Start::Committed).collect();
    if !committed.is_empty() {
        let partitions: Vec<TopicPartition> = committed.iter().map(|(p, ..)| p.clone()).collect();
        let offsets = inner.membership()?.committed(&partitions).await?;
        let mut state = inner.state();
        for ((partition, epoch, _), offset) in committed.into_iter().zip(offsets) {
            match offset {
                Some(found) => state.resolve(partition, *epoch, found.offset, found.leader_epoch),
                None => state.no_committed(partition, *epoch),
            }
        }
        drop(state);
        inner.arrived.notify_waiters();
        return Ok(());
    }
    let spec = |start| match start {
        Start::Committed | Start::Reset(AutoOffsetReset::Latest) => Some(OffsetSpec::Latest),
        Start::Reset(AutoOffsetReset::Earliest) => Some(OffsetSpec::Earliest),
        Start::Reset(AutoOffsetReset::None) => None,
        Start::Reset(AutoOffsetReset::ByDuration(age)) => {
            let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            let since = SystemClock.now().get().saturating_sub(age_ms);
            Some(OffsetSpec::AtTime(TimestampMs(since.max(0))))
        }
        Start::Time(time) => Some(OffsetSpec::AtTime(time)),
    };
    let mut asked = Vec::new();
    for (partition, epoch, start) in unresolved {
        match spec(*start) {
            Some(spec) => asked.push((partition.clone(), spec)),
            None => inner.state().no_committed(partition, *epoch),
        }
    }
    let view = inner.client.view();
    let found = list_offsets(&inner.client, &view, &asked, inner.config.isolation).await?;
    let mut state = inner.state();
    for (partition, offset) in found {
        let epoch = unresolved.iter().find(|(known, ..)| *known == partition).map(|(_, e, _)| *e);
        match (epoch, offset) {
            (Some(epoch), Some(offset)) => state.resolve(&partition, epoch, offset, None),
            // No record of that time or later: from the end.
            (Some(_), None) => {
                state.seek_by(&partition, Start::Reset(AutoOffsetReset::Latest));
            }
            (None, _) => {}
        }
    }
    drop(state);
    inner.arrived.notify_waiters();
    Ok(())
}

/// Asks leaders that have changed where the epoch ends in which we read last (KIP-320).
async fn check_epochs(inner: &Arc<Inner>, checks: &[Check]) -> Result<(), ClientError> {
    let mut by_leader: BTreeMap<NodeId, Vec<&Check>> = BTreeMap::new();
    for check in checks {
        let Some(leader) = check.leader else {
            let TopicPartition { topic, partition } = &check.partition;
            return Err(ClientError::NoLeader { topic: topic.to_string(), partition: *partition });
        };
        by_leader.entry(leader).or_default().push(check);
    }
    for (leader, checks) in by_leader {
        let request = OffsetForLeaderEpochRequest {
            replica_id: -1,
            topics: checks.iter().map(|check| question(check)).collect(),
        };
        let timeout_ms = inner.client.config().request_timeout_ms;
        let connection = inner.client.connection(leader, Lane::SHARED).await?;
        let answer = match connection.request(&request, i16::MAX, timeout_ms).await {
            // A broker that cannot tell has nothing to say against it.
            Err(ClientError::UnsupportedVersion { .. }) => OffsetForLeaderEpochResponse::default(),
            other => other?,
        };
        for check in checks {
            let TopicPartition { topic, partition } = &check.partition;
            let of_topic = answer.topics.iter().filter(|found| found.topic == *topic);
            let mut ends = of_topic.flat_map(|found| &found.partitions);
            let end = ends.find(|end| end.partition == partition.get());
            let code = end.map_or(ErrorCode::None, |end| ErrorCode::from_code(end.error_code));
            if code.is_retriable() {
                let (api, message) = ("OffsetForLeaderEpoch", Some(check.partition.to_string()));
                return Err(ClientError::Broker { api, code, message });
            }
            let end = end.filter(|end| end.end_offset >= 0).map(|end| Offset(end.end_offset));
            inner.state().checked(check, end);
        }
    }
    inner.arrived.notify_waiters();
    Ok(())
}

fn question(check: &Check) -> OffsetForLeaderTopic {
    OffsetForLeaderTopic {
        topic: check.partition.topic.clone(),
        partitions: vec![OffsetForLeaderPartition {
            partition: check.partition.partition.get(),
            current_leader_epoch: check.leader_epoch.get(),
            leader_epoch: check.read_epoch.get(),
        }],
    }
}

//! DescribeLogDirs: what the logs take, and what room there is.
//!
//! The volume is asked by the shell, outside the lock ([`LogDirsAnswer::ask_volume`]): one that lies on a network may take
//! its time.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use weir_log::{Disk, Log};
use weir_protocol::api::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic,
};
use weir_protocol::{ErrorCode, PartitionId};

use crate::broker::{Broker, Step};
use crate::request::Response;

/// An answer whose volume may still be to be asked (KIP-827).
#[derive(Debug)]
pub struct LogDirsAnswer {
    /// The answer. Total and usable bytes are -1, unknown, until [`LogDirsAnswer::ask_volume`].
    pub response: DescribeLogDirsResponse,
    volume: Option<(Arc<dyn Disk>, PathBuf)>,
}

impl LogDirsAnswer {
    /// Whether [`LogDirsAnswer::ask_volume`] has something to do.
    #[must_use]
    pub fn is_unasked(&self) -> bool {
        self.volume.is_some()
    }

    /// Asks the volume for its room. It stays unknown if the volume does not say it.
    pub fn ask_volume(&mut self) {
        let Some((disk, dir)) = self.volume.take() else { return };
        let bytes = match disk.volume_bytes(&dir) {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "the volume does not say what room it has");
                return;
            }
        };
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        for result in &mut self.response.results {
            result.total_bytes = signed(bytes.total);
            result.usable_bytes = signed(bytes.usable);
        }
    }
}

impl Broker {
    pub(crate) fn describe_log_dirs(&self, request: &DescribeLogDirsRequest) -> Step {
        let named = request.topics.as_ref().map(|topics| {
            let pairs =
                topics.iter().flat_map(|one| one.partitions.iter().map(|p| (&*one.topic, *p)));
            pairs.collect::<HashSet<(&str, i32)>>()
        });
        let wanted = |topic: &str, partition: PartitionId| {
            named.as_ref().is_none_or(|named| named.contains(&(topic, partition.get())))
        };
        let mut topics = Vec::new();
        for topic in self.topics.iter() {
            let partitions: Vec<DescribeLogDirsPartition> = topic
                .logs()
                .filter(|(partition, _)| wanted(topic.name(), *partition))
                .map(|(partition, log)| DescribeLogDirsPartition {
                    partition_index: partition.get(),
                    partition_size: self
                        .logs
                        .get(log)
                        .map_or(0, Log::size_bytes)
                        .try_into()
                        .unwrap_or(i64::MAX),
                    offset_lag: 0,
                    is_future_key: false,
                })
                .collect();
            if !partitions.is_empty() {
                topics.push(DescribeLogDirsTopic { name: topic.name().clone(), partitions });
            }
        }
        let offline = self.logs.failure().is_some();
        let error = if offline { ErrorCode::KafkaStorageError } else { ErrorCode::None };
        let results = vec![DescribeLogDirsResult {
            error_code: error.code(),
            log_dir: self.config.data_dir.display().to_string().into(),
            topics,
            ..DescribeLogDirsResult::default()
        }];
        let response = DescribeLogDirsResponse { throttle_time_ms: 0, error_code: 0, results };
        let volume = (!offline).then(|| (self.disk.clone(), self.config.data_dir.clone()));
        Step::Answer(Response::DescribeLogDirs(LogDirsAnswer { response, volume }))
    }
}

//! The three profiles of spec 003 as bases that a configuration refines.
//!
//! Where a template of the specification contradicts itself, the profile takes the safe reading, and
//! [`Profile::deviations`] says which setting and why.

use weir_protocol::compression::Codec;

use crate::config::{
    Acks, AutoOffsetReset, ClientConfig, ConsumerConfig, GroupConfig, IsolationLevel,
    ProducerConfig,
};

/// A named set of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// Large batches, a little wait, LZ4.
    HighThroughput,
    /// Each record at once.
    LowLatency,
    /// Nothing lost, nothing twice, order kept, small on disk.
    HighReliability,
}

/// A setting that the profile has otherwise than the template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deviation {
    /// Kafka's name of the setting.
    pub key: &'static str,
    /// What the template says.
    pub template: &'static str,
    /// What the profile has.
    pub taken: &'static str,
    /// Why.
    pub reason: &'static str,
}

impl Profile {
    /// All of them.
    pub const ALL: [Profile; 3] =
        [Profile::HighThroughput, Profile::LowLatency, Profile::HighReliability];

    /// Its name in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Profile::HighThroughput => "high-throughput",
            Profile::LowLatency => "low-latency",
            Profile::HighReliability => "high-reliability",
        }
    }

    /// The profile of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name() == name)
    }

    /// Its producer.
    pub fn producer(self) -> ProducerConfig {
        let base = ProducerConfig::default();
        match self {
            Profile::HighThroughput => ProducerConfig {
                acks: Acks::All,
                idempotent: true,
                retries_max: 3,
                batch_bytes_max: 65_536,
                linger_ms: 20,
                buffer_bytes_max: 134_217_728,
                partition_buffer_bytes_max: 134_217_728 / 4,
                compression: Codec::Lz4,
                in_flight_max: 5,
                ..base
            },
            Profile::LowLatency => ProducerConfig {
                acks: Acks::Leader,
                idempotent: false,
                delivery_timeout_ms: 10_000,
                batch_bytes_max: 1_024,
                linger_ms: 0,
                buffer_bytes_max: 33_554_432,
                partition_buffer_bytes_max: 33_554_432 / 4,
                compression: Codec::None,
                in_flight_max: 1,
                ..base
            },
            Profile::HighReliability => ProducerConfig {
                acks: Acks::All,
                idempotent: true,
                retries_max: u32::MAX,
                batch_bytes_max: 16_384,
                linger_ms: 100,
                buffer_bytes_max: 67_108_864,
                partition_buffer_bytes_max: 67_108_864 / 4,
                compression: Codec::Gzip,
                in_flight_max: 1,
                ..base
            },
        }
    }

    /// Its consumer, in this group or in none. Its commits are the group's: with
    /// [`Profile::group`] they are the template's too.
    pub fn consumer(self, group: Option<GroupConfig>) -> ConsumerConfig {
        let base = ConsumerConfig { group, ..ConsumerConfig::default() };
        match self {
            Profile::HighThroughput => ConsumerConfig {
                auto_offset_reset: AutoOffsetReset::Latest,
                poll_records_max: 1_000,
                fetch_bytes_min: 50_000,
                fetch_wait_ms_max: 500,
                ..base
            },
            Profile::LowLatency => ConsumerConfig {
                auto_offset_reset: AutoOffsetReset::Latest,
                poll_records_max: 100,
                fetch_bytes_min: 1,
                fetch_wait_ms_max: 10,
                ..base
            },
            Profile::HighReliability => ConsumerConfig {
                auto_offset_reset: AutoOffsetReset::Earliest,
                isolation: IsolationLevel::ReadCommitted,
                poll_records_max: 100,
                ..base
            },
        }
    }

    /// Its place in a group.
    pub fn group(self, group_id: impl Into<String>) -> GroupConfig {
        let base = GroupConfig::new(group_id);
        let (session_timeout_ms, heartbeat_interval_ms) = match self {
            Profile::HighThroughput => (30_000, 10_000),
            Profile::LowLatency => (10_000, 3_000),
            Profile::HighReliability => (45_000, 15_000),
        };
        let group = GroupConfig { session_timeout_ms, heartbeat_interval_ms, ..base };
        match self {
            Profile::LowLatency => group.with_auto_commit(1_000),
            Profile::HighThroughput | Profile::HighReliability => group,
        }
    }

    /// Its waits and bounds that producer and consumer share.
    pub fn refine_client(self, client: ClientConfig) -> ClientConfig {
        match self {
            Profile::HighThroughput | Profile::LowLatency => client,
            Profile::HighReliability => ClientConfig {
                retry_backoff_ms: 1_000,
                retry_backoff_max_ms: client.retry_backoff_max_ms.max(1_000),
                request_timeout_ms: 60_000,
                ..client
            },
        }
    }

    /// What it has otherwise than the template.
    pub const fn deviations(self) -> &'static [Deviation] {
        match self {
            Profile::HighThroughput => &[Deviation {
                key: "acks",
                template: "1",
                taken: "all",
                reason: "enable.idempotence, which the template sets too, needs acks=all",
            }],
            Profile::LowLatency => &[Deviation {
                key: "retries",
                template: "0",
                taken: "until delivery.timeout.ms, 10 s",
                reason:
                    "a retry costs nothing to a record that gets through, and without one each \
                         move of a leader loses records; one request in flight keeps their order",
            }],
            Profile::HighReliability => &[Deviation {
                key: "transactional.id",
                template: "tx-producer-1",
                taken: "none",
                reason: "two producers with one id fence each other: each instance needs its own",
            }],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_again() {
        for profile in Profile::ALL {
            assert_eq!(Profile::from_name(profile.name()), Some(profile));
        }
        assert_eq!(Profile::from_name("fast"), None);
    }

    #[test]
    fn every_profile_is_a_configuration_that_can_be() {
        for profile in Profile::ALL {
            crate::producer::check(&profile.producer()).unwrap();
            let group = profile.group("g");
            assert!(group.heartbeat_interval_ms * 3 <= group.session_timeout_ms + 1);
        }
    }

    #[test]
    fn a_profile_is_a_base_that_a_configuration_refines() {
        let refined = ProducerConfig { linger_ms: 7, ..Profile::HighThroughput.producer() };
        assert_eq!((refined.linger_ms, refined.compression), (7, Codec::Lz4));
    }

    /// What the templates contradict themselves in is said, and nothing else is.
    #[test]
    fn deviations_are_real() {
        let throughput = Profile::HighThroughput.producer();
        assert!(throughput.idempotent && throughput.acks == Acks::All);
        assert_eq!(Profile::HighThroughput.deviations()[0].key, "acks");
        assert!(Profile::LowLatency.producer().retries_max > 0);
        assert_eq!(Profile::LowLatency.deviations()[0].key, "retries");
        assert_eq!(Profile::HighReliability.producer().transactional_id, None);
        assert_eq!(Profile::HighReliability.deviations()[0].key, "transactional.id");
    }
}

//! Metadata, DescribeCluster and FindCoordinator: who is there. It is always this one node.

use weir_log::check_topic_name;
use weir_protocol::api::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use weir_protocol::api::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use weir_protocol::api::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use weir_protocol::{ErrorCode, Str};

use crate::broker::{Broker, Step, NODE_ID};
use crate::effects::Connection;
use crate::request::{distinct, Response};
use crate::topics::{is_internal, Topic, TRANSACTIONS_TOPIC};

/// Operations on a topic, as bits: without an authorizer everybody may do all of them.
pub(crate) const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
/// Operations on the cluster, as bits.
const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

/// From this version on a topic may be asked for by its id; versions 10 and 11 have the field, and no use for it.
const TOPICS_BY_ID: i16 = 12;

pub(crate) const KEY_TYPE_GROUP: i8 = 0;
pub(crate) const KEY_TYPE_TRANSACTION: i8 = 1;

/// Whether a topic is asked for by its id.
fn names_by_id(request: &MetadataRequest) -> bool {
    let mut topics = request.topics.iter().flatten();
    topics.any(|topic| topic.name.is_none() || !topic.topic_id.is_zero())
}

/// The answer to a request that a version does not allow. The name may not be null there.
fn refused(request: &MetadataRequest) -> MetadataResponse {
    let topics = request.topics.iter().flatten();
    let topics = topics.map(|wanted| {
        let failed = failed_topic(wanted, ErrorCode::InvalidRequest);
        MetadataResponseTopic { name: Some(wanted.name.clone().unwrap_or_default()), ..failed }
    });
    MetadataResponse { topics: topics.collect(), ..MetadataResponse::default() }
}

impl Broker {
    pub(crate) fn metadata(
        &self,
        connection: &Connection,
        request: &MetadataRequest,
        version: i16,
    ) -> Step {
        if version < TOPICS_BY_ID && names_by_id(request) {
            return Step::Answer(Response::Metadata(refused(request)));
        }
        let with_operations = request.include_topic_authorized_operations;
        let topics = match &request.topics {
            // Version 0 has no null: there empty means all.
            Some(topics) if version > 0 || !topics.is_empty() => {
                let create = request.allow_auto_topic_creation;
                let topics = distinct(topics, |wanted| (&wanted.name, wanted.topic_id));
                let names_max = self.config.request_names_max;
                if topics.len() > names_max {
                    let refused = topics.into_iter().take(names_max);
                    refused.map(|wanted| failed_topic(wanted, ErrorCode::InvalidRequest)).collect()
                } else {
                    topics
                        .into_iter()
                        .map(|wanted| self.wanted_topic(wanted, create, with_operations))
                        .collect()
                }
            }
            _ => self
                .topics
                .iter()
                .map(|topic| self.topic_metadata(topic, with_operations))
                .collect(),
        };
        let (host, port) = connection.advertised.clone();
        let operations = if request.include_cluster_authorized_operations {
            CLUSTER_OPERATIONS
        } else {
            i32::MIN
        };
        Step::Answer(Response::Metadata(MetadataResponse {
            throttle_time_ms: 0,
            brokers: vec![MetadataResponseBroker {
                node_id: NODE_ID,
                host,
                port: i32::from(port),
                rack: None,
            }],
            cluster_id: Some(self.cluster_id().clone()),
            controller_id: NODE_ID,
            topics,
            cluster_authorized_operations: operations,
            error_code: 0,
        }))
    }

    fn wanted_topic(
        &self,
        wanted: &MetadataRequestTopic,
        may_create: bool,
        with_operations: bool,
    ) -> MetadataResponseTopic {
        let failed = |error: ErrorCode| failed_topic(wanted, error);
        let Some(name) = wanted.name.as_ref() else {
            return match self.topics.get_by_id(wanted.topic_id) {
                Some(topic) => self.topic_metadata(topic, with_operations),
                None => failed(ErrorCode::UnknownTopicId),
            };
        };
        if let Some(topic) = self.topics.get(name) {
            return self.topic_metadata(topic, with_operations);
        }
        if check_topic_name(name).is_err() {
            return failed(ErrorCode::InvalidTopicException);
        }
        if !may_create || !self.config.auto_create_topics {
            return failed(ErrorCode::UnknownTopicOrPartition);
        }
        // It was to be made before this request was looked at.
        failed(self.why_not_made(name))
    }

    fn topic_metadata(&self, topic: &Topic, with_operations: bool) -> MetadataResponseTopic {
        let partitions = topic
            .partitions()
            .map(|(partition, log)| MetadataResponsePartition {
                error_code: 0,
                partition_index: partition.get(),
                leader_id: NODE_ID,
                leader_epoch: self.logs.bounds_or_empty(log).leader_epoch.get(),
                replica_nodes: vec![NODE_ID],
                isr_nodes: vec![NODE_ID],
                offline_replicas: Vec::new(),
            })
            .collect();
        MetadataResponseTopic {
            error_code: 0,
            name: Some(topic.name().clone()),
            topic_id: topic.id(),
            is_internal: topic.is_internal(),
            partitions,
            topic_authorized_operations: if with_operations { TOPIC_OPERATIONS } else { i32::MIN },
        }
    }

    pub(crate) fn describe_cluster(
        &self,
        connection: &Connection,
        request: &DescribeClusterRequest,
    ) -> Step {
        let (host, port) = connection.advertised.clone();
        let broker = DescribeClusterBroker {
            broker_id: NODE_ID,
            host,
            port: i32::from(port),
            rack: None,
            is_fenced: false,
        };
        let mut response = DescribeClusterResponse {
            cluster_id: self.cluster_id().clone(),
            controller_id: NODE_ID,
            brokers: vec![broker],
            ..DescribeClusterResponse::default()
        };
        if request.include_cluster_authorized_operations {
            response.cluster_authorized_operations = CLUSTER_OPERATIONS;
        }
        if request.endpoint_type != 1 {
            // 2 asks for controllers, which is another listener's business.
            let (error, words) = match request.endpoint_type {
                2 => (ErrorCode::MismatchedEndpointType, "This is an endpoint for brokers."),
                _ => (ErrorCode::UnsupportedEndpointType, "There is no such type of endpoint."),
            };
            response = DescribeClusterResponse {
                error_code: error.code(),
                error_message: Some(words.into()),
                ..DescribeClusterResponse::default()
            };
        }
        Step::Answer(Response::DescribeCluster(response))
    }

    /// Every group's coordinator is here; asking for it makes its topic, as in Kafka.
    pub(crate) fn find_coordinator(
        &self,
        connection: &Connection,
        request: FindCoordinatorRequest,
        version: i16,
    ) -> Step {
        let keys = if version >= 4 { request.coordinator_keys } else { vec![request.key] };
        let keys: Vec<Str> = distinct(&keys, |key| key)
            .into_iter()
            .take(self.config.request_names_max)
            .cloned()
            .collect();
        let mut coordinators = Vec::with_capacity(keys.len());
        for key in keys {
            let found = self.coordinator_of(request.key_type);
            let (error, message) = found.err().unwrap_or((ErrorCode::None, ""));
            let (host, port) = connection.advertised.clone();
            let here = error.is_none();
            coordinators.push(Coordinator {
                key,
                node_id: if here { NODE_ID } else { -1 },
                host: if here { host } else { Str::new() },
                port: if here { i32::from(port) } else { -1 },
                error_code: error.code(),
                error_message: Some(Str::from_static(message)),
            });
        }
        let mut response =
            FindCoordinatorResponse { error_message: None, ..FindCoordinatorResponse::default() };
        if version >= 4 {
            response.coordinators = coordinators;
        } else if let Some(only) = coordinators.pop() {
            response.error_code = only.error_code;
            response.error_message = only.error_message;
            response.node_id = only.node_id;
            response.host = only.host;
            response.port = only.port;
        }
        Step::Answer(Response::FindCoordinator(response))
    }

    fn coordinator_of(&self, kind: i8) -> Result<(), (ErrorCode, &'static str)> {
        match kind {
            KEY_TYPE_GROUP => self.offsets_topic().map(|_| ()).map_err(|_| {
                (
                    ErrorCode::CoordinatorNotAvailable,
                    "the topic of committed offsets could not be made",
                )
            }),
            KEY_TYPE_TRANSACTION => match self.topics.get(TRANSACTIONS_TOPIC) {
                Some(_) => Ok(()),
                None => {
                    let words = "the topic of transactions could not be made";
                    Err((ErrorCode::CoordinatorNotAvailable, words))
                }
            },
            _ => Err((ErrorCode::InvalidRequest, "this type of coordinator is not known")),
        }
    }
}

fn failed_topic(wanted: &MetadataRequestTopic, error: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code: error.code(),
        name: wanted.name.clone(),
        topic_id: wanted.topic_id,
        is_internal: wanted.name.as_ref().is_some_and(|name| is_internal(name)),
        ..MetadataResponseTopic::default()
    }
}

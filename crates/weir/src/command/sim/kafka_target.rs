//! Records of `weir sim` to Kafka: from the generator straight into the open batches of a producer.

use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use weir_client::admin::NewTopic;
use weir_client::partitioner::fnv1a_partition;
use weir_client::{
    Acks, Admin, Appender, Client, Partitioner, ProduceError, Producer, ProducerConfig, Record,
};
use weir_protocol::types::{PartitionId, TimestampMs};
use weir_sim::record::RECORD_BYTES_HINT;
use weir_sim::{BackpressureController, Draft, Filled, Generator, RecordSink, Stream};

use super::super::kafka::failed;
use super::drive::{Pacer, Shared, Target};
use super::plan::{Plan, Sending};
use crate::error::Outcome;

const FIXES: &str = "drone-events";
const READINGS_PARTITIONS: i32 = 12;
const OTHER_PARTITIONS: i32 = 3;
/// Replicas of topics on a cluster.
const REPLICATION_MAX: usize = 3;
/// How long the end of a run waits for answers.
const CLOSE: Duration = Duration::from_secs(120);
/// How often the number of partitions is looked at: a topic may grow.
const FILLS_PER_LOOK: u32 = 1_000;

/// Makes the topics that are not there.
pub(super) async fn make_topics(client: &Arc<Client>, plan: &Plan) -> Outcome {
    let admin = Admin::new(Arc::clone(client));
    let what = "cannot create the topics";
    let brokers =
        admin.describe_cluster().await.map_err(|error| failed(what, &error))?.brokers.len();
    let replication = i16::try_from(brokers.clamp(1, REPLICATION_MAX)).unwrap_or(1);
    let new =
        |name: &str, partitions| NewTopic::new(name, partitions).with_replication(replication);
    let mut topics = vec![new(&plan.sending.topic, READINGS_PARTITIONS)];
    if plan.spec.scenario.profiles.iter().any(|profile| profile.drones) {
        topics.push(new(FIXES, OTHER_PARTITIONS));
    }
    topics.extend(plan.sending.truth_topic.as_deref().map(|name| new(name, OTHER_PARTITIONS)));
    let made = admin.create_topics(&topics).await.map_err(|error| failed(what, &error))?;
    for (result, topic) in made.into_iter().zip(&topics) {
        result
            .map_err(|error| failed(format!("cannot create topic \"{}\"", topic.name), &error))?;
    }
    for topic in &topics {
        let described = super::super::kafka::described(&admin, &topic.name).await;
        described
            .map_err(|error| failed(format!("cannot use topic \"{}\"", topic.name), &error))?;
    }
    Ok(())
}

/// The settings of each worker's producer.
fn producer_config(plan: &Plan) -> ProducerConfig {
    let Sending { acks, codec, linger_ms, retries_max, buffer_bytes_max, .. } = plan.sending;
    let defaults = ProducerConfig::default();
    let buffer_bytes_max = (buffer_bytes_max / plan.workers as usize).max(4 << 20);
    ProducerConfig {
        acks,
        idempotent: acks == Acks::All,
        compression: codec,
        linger_ms,
        retries_max: retries_max.unwrap_or(defaults.retries_max),
        buffer_bytes_max,
        partition_buffer_bytes_max: defaults.partition_buffer_bytes_max.min(buffer_bytes_max),
        partitioner: Partitioner::Fnv1a,
        topic_partitioners: vec![(FIXES.to_owned(), Partitioner::Murmur2)],
        ..defaults
    }
}

/// Of one worker: a producer of its own, so that workers share no lock.
pub(super) struct KafkaTarget {
    producer: Arc<Producer>,
    runtime: Handle,
    shared: Arc<Shared>,
    topic: String,
    truth_topic: Option<String>,
    partitions: i32,
    /// By device: computed once, for the key never changes.
    partition_of: Vec<PartitionId>,
    pressure: BackpressureController,
    fills: u32,
}

impl KafkaTarget {
    pub(super) async fn new(
        client: Arc<Client>,
        plan: &Plan,
        worker: u32,
        generator: &Generator,
        shared: Arc<Shared>,
    ) -> Outcome<Self> {
        let producer = Producer::new(client, producer_config(plan))
            .map_err(|error| failed("cannot send", &error))?;
        let flies = plan.spec.scenario.profiles.iter().any(|profile| profile.drones);
        let topics = [
            Some(plan.sending.topic.as_str()),
            flies.then_some(FIXES),
            plan.sending.truth_topic.as_deref(),
        ];
        for topic in topics.into_iter().flatten() {
            producer.ready(topic).await.map_err(|error| {
                crate::error::UserError::new(error.code(), format!("cannot send to \"{topic}\""))
                    .why(error)
            })?;
        }
        let seed = plan.spec.seed ^ u64::from(worker);
        let pressure = plan.pressure;
        let mut target = Self {
            producer: Arc::new(producer),
            runtime: Handle::current(),
            shared,
            topic: plan.sending.topic.clone(),
            truth_topic: plan.sending.truth_topic.clone(),
            partitions: 0,
            partition_of: Vec::new(),
            pressure: BackpressureController::new(
                (pressure.queue_records_max / u64::from(plan.workers)).max(1),
                pressure.drop_rate,
                pressure.throttle_rate,
                seed,
            ),
            fills: 0,
        };
        target.look(generator);
        Ok(target)
    }

    pub(super) fn producer(&self) -> Arc<Producer> {
        Arc::clone(&self.producer)
    }

    /// Takes note of how many partitions there are.
    fn look(&mut self, generator: &Generator) {
        let partitions = self.producer.partition_count(&self.topic).unwrap_or(READINGS_PARTITIONS);
        if partitions != self.partitions {
            self.partitions = partitions;
            let of_key = |key: &[u8]| PartitionId(fnv1a_partition(key, partitions));
            self.partition_of = generator.device_ids().map(of_key).collect();
        }
    }
}

/// Puts drafts into the open batches.
struct Appending<'a, 'b> {
    appender: &'a mut Appender<'b>,
    topic: &'a str,
    truth_topic: Option<&'a str>,
    partition_of: &'a [PartitionId],
    pressure: &'a mut BackpressureController,
    pacer: Pacer,
    /// The last due time and what it is by the clock: records of one millisecond share it.
    due: (u64, TimestampMs),
    first_due_ns: Option<u64>,
    error: Option<ProduceError>,
}

impl RecordSink for Appending<'_, '_> {
    #[inline]
    fn take(&mut self, draft: &Draft<'_>) -> bool {
        let stream = draft.stream();
        let topic = match stream {
            Stream::Readings => self.topic,
            Stream::Fixes => FIXES,
            Stream::Truth => match self.truth_topic {
                Some(topic) => topic,
                None => return true,
            },
        };
        if stream != Stream::Truth && self.pressure.should_drop() {
            return true;
        }
        let due_ns = draft.due_ns();
        if due_ns.abs_diff(self.due.0) > 500_000 {
            self.due = (due_ns, TimestampMs(self.pacer.wall_ms(due_ns)));
        }
        self.first_due_ns.get_or_insert(due_ns);
        let partition = match stream {
            Stream::Readings => self.partition_of.get(draft.device()).copied(),
            _ => None,
        };
        let record = Record {
            topic,
            partition,
            key: Some(draft.key()),
            timestamp: Some(self.due.1),
            ..Record::default()
        };
        match self.appender.append_with(&record, RECORD_BYTES_HINT, |out| draft.write(out)) {
            Ok(()) => true,
            Err(error) => {
                self.error = Some(error);
                false
            }
        }
    }
}

impl Target for KafkaTarget {
    fn fill(
        &mut self,
        generator: &mut Generator,
        until_ns: u64,
        records_max: usize,
        pacer: Pacer,
    ) -> Result<Filled, String> {
        if self.fills.is_multiple_of(FILLS_PER_LOOK) {
            self.look(generator);
        }
        self.fills = self.fills.wrapping_add(1);
        self.pressure.observe(self.producer.stats().buffered_records);
        let (topic, truth_topic) = (self.topic.as_str(), self.truth_topic.as_deref());
        let dropped_before = self.pressure.dropped();
        let (partition_of, pressure) = (&self.partition_of, &mut self.pressure);
        let due = (0, TimestampMs(pacer.wall_ms(0)));
        let ((filled, first_due_ns, error), delivery) = self.producer.send_batch(|appender| {
            let mut sink = Appending {
                appender,
                topic,
                truth_topic,
                partition_of,
                pressure,
                pacer,
                due,
                first_due_ns: None,
                error: None,
            };
            let filled = generator.fill(until_ns, records_max, &mut sink);
            (filled, sink.first_due_ns, sink.error)
        });
        let dropped = self.pressure.dropped() - dropped_before;
        self.shared.dropped.fetch_add(dropped, Ordering::Relaxed);
        if delivery.count() > 0 {
            let (shared, records) = (Arc::clone(&self.shared), delivery.count() as u64);
            // From when the first of them was due: what waits in this program counts, too.
            let due = pacer.wall(first_due_ns.unwrap_or(0)).min(pacer.elapsed());
            self.runtime.spawn(async move {
                match delivery.wait().await {
                    Ok(()) => shared.answered(pacer.elapsed().saturating_sub(due), records),
                    Err(error) => shared.fail(0, || error.to_string()),
                }
            });
        }
        if let Some(rest_ms) = self.pressure.rest_ms() {
            std::thread::sleep(Duration::from_millis(rest_ms));
        }
        match error {
            None | Some(ProduceError::BufferFull { .. }) => Ok(filled),
            Some(error) => Err(error.to_string()),
        }
    }

    fn wait_for_room(&mut self) -> Result<(), String> {
        // A cluster that is away is waited for: the records have their own time limit.
        let _ = self.runtime.block_on(self.producer.wait_for_room());
        Ok(())
    }

    fn total(&mut self, key: &str, text: &str) -> Result<(), String> {
        let Some(topic) = &self.truth_topic else { return Ok(()) };
        let record = Record::new(topic, text.as_bytes()).with_key(key.as_bytes());
        let sent = self.runtime.block_on(self.producer.send_wait(record));
        sent.map(drop).map_err(|error| error.to_string())
    }

    fn close(&mut self) -> Result<(), String> {
        self.runtime.block_on(async {
            let _ = tokio::time::timeout(CLOSE, self.producer.flush()).await;
            self.producer.close(CLOSE).await.map_err(|error| error.to_string())
        })
    }
}

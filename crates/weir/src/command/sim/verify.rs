//! `weir sim verify`: the consumer's side of a simulated fleet.

// A shell: it reads the clock.
#![allow(clippy::disallowed_methods)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use weir_client::admin::OffsetSpec;
use weir_client::{
    Admin, AutoOffsetReset, Client, ClientError, Consumer, ConsumerConfig, SystemClock,
    TopicPartition,
};
use weir_protocol::clock::Clock;
use weir_protocol::types::{Offset, TimestampMs};
use weir_sim::verify::Verdict;
use weir_sim::{Latencies, Report, Verifier};

use super::super::kafka::{block_on, connect, failed, offsets};
use crate::cli::SimVerifyArgs;
use crate::error::{Outcome, UserError};
use crate::output::grouped;

const POLL: Duration = Duration::from_millis(200);
/// Without a record for so long, before the ends are reached, reading is given up.
const SILENCE_MAX: Duration = Duration::from_secs(30);

pub(super) fn run(args: &SimVerifyArgs) -> Outcome {
    block_on(async {
        let client = connect(args.brokers.brokers.as_deref()).await?;
        let admin = Admin::new(Arc::clone(&client));
        let truth_topic = super::truth_topic(&args.topic, args.truth_topic.as_deref());
        let mut partitions = partitions_of(&admin, &args.topic).await?;
        match partitions_of(&admin, &truth_topic).await {
            Ok(of_truth) => partitions.extend(of_truth),
            Err(error) if args.truth_topic.is_some() => return Err(error),
            Err(_) => eprintln!(
                "there is no topic \"{truth_topic}\": losses at the end of a run are not seen"
            ),
        }
        let ends = offsets(&admin, &partitions, OffsetSpec::Latest).await?;
        let mut reading = Reading::new(client, args, partitions, ends)?;
        reading.read_to_the_ends().await?;
        if let Some(seconds) = args.follow {
            reading.follow(Duration::from_secs(seconds)).await?;
        }
        let report = reading.verifier.report();
        tell(args, &report, &reading.latencies);
        match report.is_clean() {
            true => Ok(()),
            false => Err(UserError::new("WEIR-0704", faults(&report)).why(format!(
                "among {} records of topic \"{}\"",
                grouped(report.records),
                args.topic
            ))),
        }
    })
}

async fn partitions_of(admin: &Admin, topic: &str) -> Outcome<Vec<TopicPartition>> {
    let described = admin.describe_topic(topic).await;
    let described = described.map_err(|error| match error {
        ClientError::UnknownTopic { .. } => {
            UserError::new(error.code(), format!("there is no topic \"{topic}\""))
                .help("send something first: weir sim --duration 10s")
        }
        error => failed(format!("cannot read topic \"{topic}\""), &error),
    })?;
    let numbers = described.partitions.iter().map(|partition| partition.partition);
    Ok(numbers.map(|partition| TopicPartition::new(topic, partition)).collect())
}

struct Reading<'a> {
    consumer: Consumer,
    args: &'a SimVerifyArgs,
    ends: Vec<(TopicPartition, Offset)>,
    verifier: Verifier,
    latencies: Latencies,
    /// Records sent before that were not waited for, so nothing is known about their latency.
    began: TimestampMs,
}

impl<'a> Reading<'a> {
    fn new(
        client: Arc<Client>,
        args: &'a SimVerifyArgs,
        partitions: Vec<TopicPartition>,
        ends: Vec<Offset>,
    ) -> Outcome<Self> {
        let config = ConsumerConfig {
            auto_offset_reset: AutoOffsetReset::Earliest,
            ..ConsumerConfig::default()
        };
        let cannot =
            |error: &ClientError| failed(format!("cannot read topic \"{}\"", args.topic), error);
        let consumer = Consumer::new(client, config).map_err(|error| cannot(&error))?;
        consumer.assign(&partitions).map_err(|error| cannot(&error))?;
        Ok(Self {
            consumer,
            args,
            ends: partitions.into_iter().zip(ends).collect(),
            verifier: Verifier::default(),
            latencies: Latencies::default(),
            began: SystemClock.now(),
        })
    }

    async fn read_to_the_ends(&mut self) -> Outcome {
        let mut heard = Instant::now();
        while !self.is_at_the_ends() {
            if self.read().await? > 0 {
                heard = Instant::now();
            } else if heard.elapsed() > SILENCE_MAX {
                let what = format!("topic \"{}\" cannot be read to its end", self.args.topic);
                return Err(UserError::new("WEIR-0704", what).why("nothing has come for 30 s"));
            }
        }
        Ok(())
    }

    async fn follow(&mut self, time: Duration) -> Outcome {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.read().await?;
        }
        Ok(())
    }

    fn is_at_the_ends(&self) -> bool {
        self.ends.iter().all(|(partition, end)| {
            end.0 == 0 || self.consumer.position(partition).is_some_and(|position| position >= *end)
        })
    }

    async fn read(&mut self) -> Outcome<usize> {
        let format = super::format_of(self.args.format);
        let (verifier, latencies) = (&mut self.verifier, &mut self.latencies);
        let (topic, began) = (self.args.topic.as_str(), self.began);
        let mut now = None;
        let shown = self.consumer.poll_each(POLL, |record| {
            let Some(value) = record.value else { return };
            if &**record.topic != topic {
                verifier.see_truth(value);
                return;
            }
            let verdict = verifier.see(format, record.key, value);
            if record.timestamp >= began && verdict != Verdict::Foreign {
                // One look at the clock for all that came together.
                let now = *now.get_or_insert_with(|| SystemClock.now());
                latencies.record(now.since(record.timestamp).max(0) as u64 * 1_000, 1);
            }
        });
        shown.await.map_err(|error| failed(format!("cannot read topic \"{topic}\""), &error))
    }
}

fn faults(report: &Report) -> String {
    let faults = [
        (report.lost, "lost"),
        (report.duplicates, "twice"),
        (report.out_of_order, "out of order"),
        (report.damaged, "damaged"),
    ];
    let faults = faults.iter().filter(|(count, _)| *count > 0);
    let faults: Vec<String> =
        faults.map(|(count, what)| format!("{} {what}", grouped(*count))).collect();
    faults.join(", ")
}

fn tell(args: &SimVerifyArgs, report: &Report, latencies: &Latencies) {
    let ms = |share: f64| latencies.quantile_us(share).map(|us| us as f64 / 1e3);
    if args.json {
        outln!(
            "{}",
            json!({
                "records": report.records, "devices": report.devices, "runs": report.runs,
                "open_runs": report.open_runs, "lost": report.lost,
                "duplicates": report.duplicates, "duplicates_injected": report.duplicates_injected,
                "out_of_order": report.out_of_order,
                "out_of_order_injected": report.out_of_order_injected,
                "damaged": report.damaged, "foreign": report.foreign,
                "latency_ms": {"p50": ms(0.5), "p99": ms(0.99), "p999": ms(0.999), "records": latencies.count()},
            })
        );
        return;
    }
    outln!(
        "{} records of {} devices in {} runs; {} other records",
        grouped(report.records),
        grouped(report.devices),
        grouped(report.runs),
        grouped(report.foreign)
    );
    outln!("lost          {}", grouped(report.lost));
    let on_purpose = |count: u64| format!("and {} on purpose", grouped(count));
    outln!(
        "twice         {}  {}",
        grouped(report.duplicates),
        on_purpose(report.duplicates_injected)
    );
    outln!(
        "out of order  {}  {}",
        grouped(report.out_of_order),
        on_purpose(report.out_of_order_injected)
    );
    outln!("damaged       {}", grouped(report.damaged));
    if let (Some(p50), Some(p99)) = (ms(0.5), ms(0.99)) {
        outln!(
            "read within   {p50:.1} ms (p50), {p99:.1} ms (p99) of when due, {} records",
            grouped(latencies.count())
        );
    }
    if report.open_runs > 0 {
        outln!(
            "{} runs have not ended: what is lost at their end is not known yet",
            report.open_runs
        );
    }
}

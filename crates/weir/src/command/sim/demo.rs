//! `weir sim demo`: the demo fleet through a gateway's HTTP, as real devices would come.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use weir_client::admin::OffsetSpec;
use weir_client::{
    Admin, AutoOffsetReset, Client, Consumer, ConsumerConfig, Event, SystemClock, TopicPartition,
};
use weir_fleet::{validate, Checked, Order};
use weir_protocol::clock::Clock;
use weir_sim::{DemoFleet, EventSink, SimError, SimEvent};

use super::super::gateway;
use super::super::kafka::{block_on, connect, failed, offsets};
use crate::cli::SimDemoArgs;
use crate::config::topic_name;
use crate::error::{Outcome, UserError};
use crate::output::grouped;

const ALERTS: &str = "alert-events";
const POLL: Duration = Duration::from_millis(200);
const ORDERS_MAX: usize = 256;

pub(super) fn run(args: &SimDemoArgs) -> Outcome {
    let topic = args.topic.clone().filter(|topic| !topic.is_empty());
    if let Some(Err(fault)) = topic.as_deref().map(topic_name) {
        let what = format!("--topic: \"{}\" {fault}", topic.unwrap_or_default());
        return Err(UserError::new("WEIR-0803", what)
            .why("in --topic, or the variable KAFKA_TOPIC")
            .help("name the topic of the sensors' readings, or leave it out: iot-sensor-data"));
    }
    let url = gateway::events_url(&args.gateway)?;
    block_on(async {
        let client = connect(args.brokers.as_deref()).await?;
        let consumer = alerts(&client).await?;
        let (orders, received) = mpsc::channel(ORDERS_MAX);
        let listening = tokio::spawn(listen(consumer, orders));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let fleet = DemoFleet::new(args.seed, clock.now());
        let sink = HttpSink::new(url, topic);
        let seconds = args.seconds;
        outln!("24 drones and 40 sensors to {} (Ctrl-C stops)", args.gateway);
        let stop = async move {
            let limit = async {
                match seconds {
                    Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = limit => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        };
        let report = weir_sim::run(fleet, clock, sink, received, stop).await;
        listening.abort();
        outln!(
            "{} events taken, {} refused, {} orders obeyed",
            grouped(report.events_sent),
            grouped(report.events_refused),
            grouped(report.orders_obeyed)
        );
        match report.events_sent {
            0 => Err(UserError::new("WEIR-0811", "the gateway took no event")
                .help("is `weir up` running? see its /health and /stats")),
            _ => Ok(()),
        }
    })
}

/// A consumer of the alerts from now on.
async fn alerts(client: &Arc<Client>) -> Outcome<Consumer> {
    let what = format!("cannot read topic \"{ALERTS}\"");
    let admin = Admin::new(Arc::clone(client));
    let topic = admin.describe_topic(ALERTS).await.map_err(|error| failed(&what, &error))?;
    let partitions: Vec<_> =
        topic.partitions.iter().map(|p| TopicPartition::new(ALERTS, p.partition)).collect();
    let ends = offsets(&admin, &partitions, OffsetSpec::Latest).await?;
    let config =
        ConsumerConfig { auto_offset_reset: AutoOffsetReset::Latest, ..Default::default() };
    let consumer =
        Consumer::new(Arc::clone(client), config).map_err(|error| failed(&what, &error))?;
    consumer.assign(&partitions).map_err(|error| failed(&what, &error))?;
    for (partition, end) in partitions.iter().zip(ends) {
        consumer.seek(partition, end).map_err(|error| failed(&what, &error))?;
    }
    Ok(consumer)
}

/// Ends when nobody takes orders any more; an absent Kafka is waited for.
async fn listen(consumer: Consumer, orders: mpsc::Sender<Order>) {
    loop {
        let records = match consumer.poll(POLL).await {
            Ok(records) => records,
            Err(error) => {
                eprintln!("alerts cannot be read, trying again: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        for order in records.iter().filter_map(|record| order(record.value.as_deref())) {
            if orders.send(order).await.is_err() {
                return;
            }
        }
    }
}

fn order(value: Option<&[u8]>) -> Option<Order> {
    let event = Event::parse(value?).ok()?;
    match validate(&event.event_type, event.data.get()).ok()? {
        Checked::AlertCreated(alert) => Order::from_event(&alert),
        _ => None,
    }
}

/// Posts each step as one NDJSON request; a gateway that asks to wait is obeyed.
struct HttpSink {
    agent: ureq::Agent,
    url: String,
    /// Where the sensors' readings go; `None`: where their type says.
    topic: Option<String>,
    /// Whether the last request was refused: a person is told when that begins and ends.
    refused: bool,
}

impl HttpSink {
    fn new(url: String, topic: Option<String>) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .build()
            .new_agent();
        Self { agent, url, topic, refused: false }
    }
}

impl EventSink for HttpSink {
    async fn send(&mut self, events: Vec<SimEvent>) -> Result<(), SimError> {
        let sent = self.post_all(&events).await;
        match (&sent, std::mem::replace(&mut self.refused, sent.is_err())) {
            (Err(error), false) => eprintln!("events are refused: {error}"),
            (Ok(()), true) => eprintln!("events are taken again"),
            _ => {}
        }
        sent
    }
}

impl HttpSink {
    async fn post_all(&self, events: &[SimEvent]) -> Result<(), SimError> {
        let (agent, url) = (self.agent.clone(), self.url.clone());
        let count = events.len();
        let mut body = String::new();
        for event in events {
            push_event(&mut body, event, self.topic.as_deref());
            body.push('\n');
        }
        let refused = |reason: String| SimError::SinkRefused { events: count, reason };
        let posted = tokio::task::spawn_blocking(move || post(&agent, &url, &body)).await;
        let (status, wait, text) = match posted {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => return Err(refused(why)),
            Err(error) => return Err(refused(error.to_string())),
        };
        if let Some(wait) = wait {
            tokio::time::sleep(wait).await;
        }
        match status {
            200 => Ok(()),
            // Some or all were refused; the answer counts them, unless it is of the request as a whole.
            _ => {
                let answer: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
                let rejected = answer["rejected"].as_u64().and_then(|n| usize::try_from(n).ok());
                let (events, reason) =
                    (rejected.unwrap_or(count), format!("HTTP {status}: {text}"));
                Err(SimError::SinkRefused { events, reason })
            }
        }
    }
}

/// The event as it was made; a reading names the topic, if there is one to name.
fn push_event(body: &mut String, event: &SimEvent, topic: Option<&str>) {
    match (topic, event.json.strip_prefix('{')) {
        (Some(topic), Some(rest)) if event.event_type.starts_with("sensor.") => {
            body.extend(["{\"topic\":\"", topic, "\",", rest]);
        }
        _ => body.push_str(&event.json),
    }
}

fn post(
    agent: &ureq::Agent,
    url: &str,
    body: &str,
) -> Result<(u16, Option<Duration>, String), String> {
    let sent = agent.post(url).content_type("application/x-ndjson").send(body);
    let mut response = sent.map_err(|error| format!("{url}: {error}"))?;
    let wait = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
    let wait = wait.and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let status = response.status().as_u16();
    let text = response.body_mut().read_to_string().map_err(|error| error.to_string())?;
    Ok((status, wait, text))
}

#[cfg(test)]
mod tests {
    use weir_client::Priority;
    use weir_protocol::types::TimestampMs;

    use super::*;

    #[test]
    fn a_named_topic_takes_the_readings_and_nothing_else() {
        let event = |event_type: &'static str| SimEvent {
            event_type,
            key: "d1".to_owned(),
            json: format!(r#"{{"type":"{event_type}","source":"s","data":{{}}}}"#),
            priority: Priority::Normal,
            at: TimestampMs(0),
        };
        let topic_of = |event_type: &'static str, topic: Option<&str>| {
            let mut body = String::new();
            push_event(&mut body, &event(event_type), topic);
            Event::parse(body.as_bytes()).unwrap().topic.map(|topic| topic.into_owned())
        };
        assert_eq!(topic_of("sensor.reading", Some("readings")).as_deref(), Some("readings"));
        assert_eq!(topic_of("sensor.reading", None), None);
        assert_eq!(topic_of("drone.heartbeat", Some("readings")), None);
    }
}

//! Views that are rebuilt from their topics at every start: tasks and alerts.
//!
//! They read without a group, from the last day on, so that a restart shows what was there and the
//! truth stays in Kafka. Alerts of others than weir's own worker are shown too, and orders in them
//! (`auto_action`) go to whoever flies the devices.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use weir_client::{
    Admin, AutoOffsetReset, Client, ClientError, ConsumedRecord, Consumer, ConsumerConfig, Event,
    TopicPartition,
};
use weir_fleet::events::{AlertCleared, AlertCreated};
use weir_fleet::{validate, Checked, Id, Order, TaskBook, TaskRecord};
use weir_protocol::clock::Clock;
use weir_protocol::types::TimestampMs;

use super::consumed_log::ConsumedLog;
use super::damage::{tell_skipped, Damage, DamageCount};
use crate::console::hub::{Alert, ConsoleHub, Level, Task, ALERTS_MAX};

const TOPICS: [&str; 2] = ["task-events", "alert-events"];
const POLL: Duration = Duration::from_millis(200);
const RETRY: Duration = Duration::from_millis(500);
/// How far back a start reads.
const HISTORY_MS: i64 = 86_400_000;
/// Ids of alerts that are remembered, so that none is an order twice; some 50 bytes each.
const KNOWN_ALERTS_MAX: usize = 100_000;
/// How it names itself in the log.
const WHO: &str = "views of tasks and alerts";

/// What the views write to.
#[derive(Debug)]
pub(super) struct Views {
    pub(super) client: Arc<Client>,
    pub(super) hub: ConsoleHub,
    pub(super) clock: Arc<dyn Clock>,
    /// Orders found in new alerts; `None`: nobody here flies anything.
    pub(super) orders: Option<mpsc::Sender<Order>>,
}

impl Views {
    /// Runs until `stop` turns true.
    pub(super) async fn run(self, mut stop: watch::Receiver<bool>) {
        let started = self.clock.now();
        let mut state = State::new(started);
        let mut consumer = None;
        while !*stop.borrow_and_update() {
            let turn = async {
                if consumer.is_none() {
                    consumer = Some(self.read_back(started).await?);
                }
                match &consumer {
                    Some(consumer) => self.turn(consumer, &mut state).await,
                    None => Ok(()),
                }
            };
            if let Err(error) = turn.await {
                tracing::warn!(%error, "{WHO}: trying again");
                // The consumer is kept, for a new one reads the last day again; but not one that has
                // found no place to start from: it would not look again.
                consumer = consumer.filter(has_places);
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn read_back(&self, started: TimestampMs) -> Result<Consumer, ClientError> {
        let admin = Admin::new(Arc::clone(&self.client));
        let mut partitions = Vec::new();
        for topic in TOPICS {
            let description = admin.describe_topic(topic).await?;
            partitions.extend(
                description.partitions.iter().map(|p| TopicPartition::new(topic, p.partition)),
            );
        }
        let config =
            ConsumerConfig { auto_offset_reset: AutoOffsetReset::Earliest, ..Default::default() };
        let consumer = Consumer::new(Arc::clone(&self.client), config)?;
        consumer.assign(&partitions)?;
        consumer.seek_to_time(started.plus_ms(-HISTORY_MS));
        Ok(consumer)
    }

    /// One poll.
    async fn turn(&self, consumer: &Consumer, state: &mut State) -> Result<(), ClientError> {
        let records = match consumer.poll(POLL).await.map_err(Damage::of) {
            Ok(records) => records,
            Err(Ok(damage)) => return self.meet_damage(consumer, state, &damage).await,
            Err(Err(error)) => return Err(error),
        };
        let now = now();
        for record in records {
            state.consumed.tell(&record, now);
            let order = state.take(&record, &self.hub);
            if let (Some(order), Some(orders)) = (order, &self.orders) {
                // A full channel means that the fleet is stuck; the alert stays in its topic.
                if orders.try_send(order).is_err() {
                    tracing::warn!("an order of an alert was not delivered");
                }
            }
        }
        Ok(())
    }

    /// Reads a damaged batch again, and goes past it once it is sure that it stays damaged.
    async fn meet_damage(
        &self,
        consumer: &Consumer,
        state: &mut State,
        damage: &Damage,
    ) -> Result<(), ClientError> {
        if !state.damage.is_sure(WHO, damage) {
            return consumer.seek(&damage.place, damage.offset);
        }
        match damage.resume(&self.client).await {
            Ok(resume) => {
                tell_skipped(WHO, damage, resume);
                consumer.seek(&damage.place, resume)
            }
            Err(error) => {
                // Else it would stand still: to meet it again is to ask again.
                consumer.seek(&damage.place, damage.offset)?;
                Err(error)
            }
        }
    }
}

/// What the views know.
#[derive(Debug)]
struct State {
    tasks: TaskBook,
    /// Open and lately cleared alerts, to be completed when a clear comes.
    alerts: HashMap<String, Alert>,
    known: KnownAlerts,
    damage: DamageCount,
    consumed: ConsumedLog,
    started: TimestampMs,
}

/// Ids of alerts that were seen, the oldest forgotten first.
#[derive(Debug, Default)]
struct KnownAlerts {
    ids: HashSet<Arc<str>>,
    by_age: VecDeque<Arc<str>>,
}

impl KnownAlerts {
    /// Whether this id is seen for the first time.
    fn is_new(&mut self, id: &str, ids_max: usize) -> bool {
        if self.ids.contains(id) {
            return false;
        }
        while self.by_age.len() >= ids_max {
            let Some(oldest) = self.by_age.pop_front() else { break };
            self.ids.remove(&oldest);
        }
        let id: Arc<str> = Arc::from(id);
        self.ids.insert(Arc::clone(&id));
        self.by_age.push_back(id);
        true
    }
}

impl State {
    fn new(started: TimestampMs) -> Self {
        Self {
            tasks: TaskBook::new(),
            alerts: HashMap::new(),
            known: KnownAlerts::default(),
            damage: DamageCount::default(),
            consumed: ConsumedLog::default(),
            started,
        }
    }

    /// Takes one record in. Returns an order if a new alert carries one: not those of old alerts,
    /// which were obeyed or void before this start, and not those of an alert that is told again, as a
    /// node does that takes partitions over.
    fn take(&mut self, record: &ConsumedRecord, hub: &ConsoleHub) -> Option<Order> {
        let event = Event::parse(record.value.as_deref()?).ok()?;
        let checked = validate(&event.event_type, event.data.get()).ok()?;
        let at = event.timestamp.unwrap_or(record.timestamp);
        match &checked {
            Checked::AlertCreated(alert) => {
                self.raise(alert, event.data.get(), at, hub);
                let is_new = self.known.is_new(&alert.alert_id.to_string(), KNOWN_ALERTS_MAX);
                let orders = is_new && record.timestamp >= self.started;
                orders.then(|| Order::from_event(alert)).flatten()
            }
            Checked::AlertCleared(alert) => {
                self.clear(alert, at, hub);
                None
            }
            task => {
                let change = self.tasks.handle(task, at)?;
                hub.task(task_row(&change.task));
                None
            }
        }
    }

    fn raise(&mut self, alert: &AlertCreated<'_>, data: &str, at: TimestampMs, hub: &ConsoleHub) {
        if self.alerts.len() > 2 * ALERTS_MAX {
            // Cleared ones first, then the oldest: the console shows the newest only.
            let mut times: Vec<i64> = self.alerts.values().map(|alert| alert.at_ms).collect();
            times.sort_unstable();
            let middle = times.get(times.len() / 2).copied().unwrap_or(i64::MIN);
            self.alerts.retain(|_, alert| alert.cleared_ms.is_none() && alert.at_ms > middle);
        }
        let in_english = serde_json::from_str::<serde_json::Value>(data).ok();
        let in_english =
            in_english.and_then(|data| Some(data.get("message_en")?.as_str()?.to_owned()));
        let device = alert.device_id.as_ref().or(alert.drone_id.as_ref());
        let row = Alert {
            id: alert.alert_id.to_string(),
            kind: alert.kind.to_string(),
            level: Level::of(alert.level.name()),
            message: alert.message.to_string(),
            message_zh: in_english.is_some().then(|| alert.message.to_string()),
            message_en: in_english,
            device: device.map(Id::to_string),
            auto_action: alert.auto_action.as_deref().map(str::to_owned),
            at_ms: at.get(),
            cleared_ms: None,
        }
        .shortened();
        hub.alert(row.clone());
        self.alerts.insert(row.id.clone(), row);
    }

    fn clear(&mut self, alert: &AlertCleared<'_>, at: TimestampMs, hub: &ConsoleHub) {
        if let Some(known) = self.alerts.get_mut(&alert.alert_id.to_string()) {
            known.cleared_ms = Some(at.get());
            hub.alert(known.clone());
        }
    }
}

fn task_row(task: &TaskRecord) -> Task {
    Task {
        id: task.task_id.to_string(),
        device: task.drone_id.as_ref().map(Id::to_string).unwrap_or_default(),
        progress_percent: task.progress,
        current_step: task.current_step.clone().unwrap_or_else(|| task.state.name().to_owned()),
        estimated_completion_ms: task.completion.map(TimestampMs::get),
        at_ms: task.updated.get(),
    }
}

/// Whether it stands somewhere in each of its partitions.
fn has_places(consumer: &Consumer) -> bool {
    consumer.assignment().iter().all(|partition| consumer.position(partition).is_some())
}

/// Reads a clock, to space lines of the log.
#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_new_once_and_the_oldest_are_forgotten_first() {
        let mut known = KnownAlerts::default();
        let new: Vec<bool> =
            ["a", "b", "a", "c", "b", "a"].into_iter().map(|id| known.is_new(id, 2)).collect();
        assert_eq!(new, [true, true, false, true, false, true], "`a` made room for `c`");
        assert_eq!((known.ids.len(), known.by_age.len()), (2, 2));
    }
}

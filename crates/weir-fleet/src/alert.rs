//! The alert engine: one episode per device, rule and subject, told once.
//!
//! An episode opens when a rule first holds and closes when it has clearly ceased to, so a value that
//! swings around a limit gives one alert. Rules:
//!
//! | rule | opens | closes | level | auto action |
//! |---|---|---|---|---|
//! | `zone_breach` | a device enters a zone | it has left ([`crate::location`]) | the zone's | none |
//! | `battery_low` | battery < 20 % | battery >= 25 % | warning | `return_to_base` |
//!
//! The id of an alert is made of the rule, the device, its subject, and event time, partition and
//! offset of the record that opened it. So the same records give the same ids, whoever reads them and how often: a consumer that knows an id
//! may drop it, and a command with it is obeyed once.

use std::collections::HashMap;

use serde_json::{json, Value};
use weir_client::timestamp::format_rfc3339;
use weir_protocol::types::TimestampMs;

use crate::events::{AlertCreated, AlertLevel, Id};
use crate::geofence::{Zone, ZoneKind};
use crate::location::RecordRef;

/// Percent below which `battery_low` opens (spec 001).
pub const BATTERY_LOW_PERCENT: f64 = 20.0;
/// Percent from which it closes: five above, more than a battery regains when a load is taken off it.
pub const BATTERY_CLEAR_PERCENT: f64 = 25.0;

/// Source of the events made here, as in the sample of spec 001.
pub const ALERT_SOURCE: &str = "monitoring-service";

/// What raised an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// A device is in a zone.
    ZoneBreach,
    /// A battery is low.
    BatteryLow,
}

impl Rule {
    /// The `type` of its alerts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ZoneBreach => "zone_breach",
            Self::BatteryLow => "battery_low",
        }
    }

    /// Reads what [`Self::name`] writes.
    pub fn from_name(text: &str) -> Option<Self> {
        [Self::ZoneBreach, Self::BatteryLow].into_iter().find(|rule| rule.name() == text)
    }
}

/// What a device shall do by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AutoAction {
    /// Go home and land.
    ReturnToBase,
}

impl AutoAction {
    /// As in spec 001.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReturnToBase => "return_to_base",
        }
    }

    /// Reads what [`Self::name`] writes.
    pub fn from_name(text: &str) -> Option<Self> {
        (text == "return_to_base").then_some(Self::ReturnToBase)
    }
}

/// An alert, open or closed.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// The same on every replay.
    pub alert_id: String,
    /// What raised it.
    pub rule: Rule,
    /// How bad it is.
    pub level: AlertLevel,
    /// What happened, in Chinese as in the specification.
    pub message: String,
    /// What happened, in English.
    pub message_en: String,
    /// Which device, as it names itself.
    pub device: Id<'static>,
    /// The zone's id, for a breach.
    pub subject: Option<String>,
    /// What the device shall do.
    pub auto_action: Option<AutoAction>,
    /// Event time of what opened it.
    pub opened: TimestampMs,
    /// Where the device was then: latitude, longitude, altitude.
    pub location: Option<(f64, f64, Option<f64>)>,
}

/// A step in the life of an alert.
#[derive(Debug, Clone, PartialEq)]
pub enum AlertChange {
    /// It is new.
    Raised(Alert),
    /// It is over, since this event time.
    Cleared(Alert, TimestampMs),
}

impl AlertChange {
    /// The alert.
    pub const fn alert(&self) -> &Alert {
        match self {
            Self::Raised(alert) | Self::Cleared(alert, _) => alert,
        }
    }

    /// `alert.created` or `alert.cleared`.
    pub const fn event_type(&self) -> &'static str {
        match self {
            Self::Raised(_) => "alert.created",
            Self::Cleared(..) => "alert.cleared",
        }
    }

    /// Event time of the change.
    pub const fn at(&self) -> TimestampMs {
        match self {
            Self::Raised(alert) => alert.opened,
            Self::Cleared(_, at) => *at,
        }
    }

    /// Id of the event: made of the alert's id, so that a repeat can be recognised.
    pub fn event_id(&self) -> String {
        format!("{}:{}", self.event_type(), self.alert().alert_id)
    }

    /// The whole event for `alert-events`, in the shape of spec 001 with a few fields more.
    pub fn to_event_json(&self) -> String {
        let alert = self.alert();
        let mut data = json!({
            "alert_id": alert.alert_id,
            "type": alert.rule.name(),
            "level": alert.level.name(),
            "message": alert.message,
            "message_en": alert.message_en,
            "drone_id": alert.device,
            "auto_action": alert.auto_action.map(AutoAction::name),
            "opened_at": format_rfc3339(alert.opened),
        });
        if let Some(zone) = &alert.subject {
            data["zone_id"] = json!(zone);
        }
        if let Some((latitude, longitude, altitude)) = alert.location {
            data["location"] =
                json!({"latitude": latitude, "longitude": longitude, "altitude": altitude});
        }
        if alert.auto_action.is_none() {
            if let Value::Object(fields) = &mut data {
                fields.remove("auto_action");
            }
        }
        if let Self::Cleared(_, at) = self {
            data["cleared_at"] = json!(format_rfc3339(*at));
        }
        json!({
            "id": self.event_id(),
            "type": self.event_type(),
            "source": ALERT_SOURCE,
            "timestamp": format_rfc3339(self.at()),
            "data": data,
        })
        .to_string()
    }
}

/// What an alert tells one device to do: a command, obeyed once per alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The alert; the command's identity.
    pub alert_id: String,
    /// The device, as text.
    pub device: String,
    /// What it shall do.
    pub action: AutoAction,
}

impl Order {
    /// The order in an alert, if there is one.
    pub fn from_alert(alert: &Alert) -> Option<Self> {
        Some(Self {
            alert_id: alert.alert_id.clone(),
            device: alert.device.to_string(),
            action: alert.auto_action?,
        })
    }

    /// The order in an `alert.created` event, if there is one that weir knows.
    pub fn from_event(alert: &AlertCreated<'_>) -> Option<Self> {
        Some(Self {
            alert_id: alert.alert_id.to_string(),
            device: alert.device_id.as_ref().or(alert.drone_id.as_ref())?.to_string(),
            action: AutoAction::from_name(alert.auto_action.as_deref()?)?,
        })
    }
}

/// Where and when something happened to a device.
#[derive(Debug, Clone, Copy)]
pub struct Occasion<'a> {
    /// The device.
    pub device: &'a Id<'a>,
    /// Event time.
    pub at: TimestampMs,
    /// The record that says so; two episodes may begin in one millisecond, but not in one record.
    pub record: RecordRef,
    /// Latitude, longitude, altitude.
    pub location: Option<(f64, f64, Option<f64>)>,
}

/// Keeps the open episodes. Event times must not go backwards per device; the caller sees to it.
#[derive(Debug, Default)]
pub struct AlertEngine {
    /// Open alerts by device: a device has few.
    open: HashMap<String, Vec<Alert>>,
}

impl AlertEngine {
    /// Without open episodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes up an episode that was open when the worker stopped; nothing is raised again.
    pub fn restore(&mut self, alert: Alert) {
        let alerts = self.open.entry(alert.device.to_string()).or_default();
        if !alerts.iter().any(|open| open.alert_id == alert.alert_id) {
            alerts.push(alert);
        }
    }

    /// Every open alert, in no order.
    pub fn open_alerts(&self) -> impl Iterator<Item = &Alert> {
        self.open.values().flatten()
    }

    /// Open alerts of one device.
    pub fn open_of(&self, device: &str) -> &[Alert] {
        self.open.get(device).map_or(&[], Vec::as_slice)
    }

    /// A device has entered a zone.
    pub fn on_zone_enter(&mut self, zone: &Zone, occasion: Occasion<'_>) -> Option<AlertChange> {
        let device = occasion.device;
        self.raise(Rule::ZoneBreach, Some(&zone.id), occasion, |alert| {
            alert.level = zone.level;
            let (kind_zh, kind_en) = match zone.kind {
                ZoneKind::NoFly => ("禁飞区", "no-fly zone"),
                ZoneKind::Notice => ("提示区", "notice zone"),
            };
            alert.message = format!("无人机{device}进入{kind_zh}「{}」", zone.name_zh);
            alert.message_en = format!("drone {device} is in the {kind_en} {}", zone.name_en);
        })
    }

    /// A device has left a zone.
    pub fn on_zone_exit(&mut self, zone: &Zone, occasion: Occasion<'_>) -> Option<AlertChange> {
        self.clear(Rule::ZoneBreach, Some(&zone.id), occasion)
    }

    /// A device has said how full its battery is.
    pub fn on_battery(&mut self, percent: f64, occasion: Occasion<'_>) -> Option<AlertChange> {
        if percent < BATTERY_LOW_PERCENT {
            self.raise(Rule::BatteryLow, None, occasion, |alert| {
                alert.level = AlertLevel::Warning;
                alert.message = "无人机电量低于20%".to_owned();
                alert.message_en = format!("drone {} battery is below 20%", alert.device);
                alert.auto_action = Some(AutoAction::ReturnToBase);
            })
        } else if percent >= BATTERY_CLEAR_PERCENT {
            self.clear(Rule::BatteryLow, None, occasion)
        } else {
            None
        }
    }

    /// Closes every episode of a device that is no longer followed, at `last`, or where each began.
    pub fn forget(
        &mut self,
        device: &str,
        last: Option<TimestampMs>,
    ) -> impl Iterator<Item = AlertChange> {
        let closed = move |alert: Alert| {
            let at = last.map_or(alert.opened, |last| last.max(alert.opened));
            AlertChange::Cleared(alert, at)
        };
        self.open.remove(device).unwrap_or_default().into_iter().map(closed)
    }

    fn raise(
        &mut self,
        rule: Rule,
        subject: Option<&str>,
        occasion: Occasion<'_>,
        fill: impl FnOnce(&mut Alert),
    ) -> Option<AlertChange> {
        let device = occasion.device.as_text();
        if self.position(&device, rule, subject).is_some() {
            return None;
        }
        let mut alert = Alert {
            alert_id: alert_id(rule, &device, subject, occasion),
            rule,
            level: AlertLevel::Warning,
            message: String::new(),
            message_en: String::new(),
            device: occasion.device.clone().into_owned(),
            subject: subject.map(str::to_owned),
            auto_action: None,
            opened: occasion.at,
            location: occasion.location,
        };
        fill(&mut alert);
        self.open.entry(device.into_owned()).or_default().push(alert.clone());
        Some(AlertChange::Raised(alert))
    }

    fn clear(
        &mut self,
        rule: Rule,
        subject: Option<&str>,
        occasion: Occasion<'_>,
    ) -> Option<AlertChange> {
        let device = occasion.device.as_text();
        let at = self.position(&device, rule, subject)?;
        let alerts = self.open.get_mut(device.as_ref())?;
        let alert = alerts.swap_remove(at);
        if alerts.is_empty() {
            self.open.remove(device.as_ref());
        }
        Some(AlertChange::Cleared(alert, occasion.at))
    }

    fn position(&self, device: &str, rule: Rule, subject: Option<&str>) -> Option<usize> {
        self.open_of(device)
            .iter()
            .position(|alert| alert.rule == rule && alert.subject.as_deref() == subject)
    }
}

fn alert_id(rule: Rule, device: &str, subject: Option<&str>, occasion: Occasion<'_>) -> String {
    let (rule, at) = (rule.name(), occasion.at.get());
    let (partition, offset) = (occasion.record.partition.get(), occasion.record.offset.get());
    match subject {
        Some(subject) => format!("{rule}:{device}:{subject}:{at}-{partition}-{offset}"),
        None => format!("{rule}:{device}:{at}-{partition}-{offset}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{validate, Checked};
    use weir_protocol::types::{Offset, PartitionId};

    fn battery(engine: &mut AlertEngine, at: i64, percent: f64) -> Option<AlertChange> {
        let device = Id::Number(7);
        let record = RecordRef { partition: PartitionId(0), offset: Offset(at) };
        let occasion = Occasion { device: &device, at: TimestampMs(at), record, location: None };
        engine.on_battery(percent, occasion)
    }

    #[test]
    fn a_battery_swinging_around_the_limit_is_one_episode() {
        let mut engine = AlertEngine::new();
        assert_eq!(battery(&mut engine, 1, 20.0), None, "20 % is not below 20 %");
        let raised = battery(&mut engine, 2, 19.9).unwrap();
        assert_eq!(raised.alert().alert_id, "battery_low:7:2-0-2");
        for (at, percent) in [(3, 20.5), (4, 19.0), (5, 24.9), (6, 10.0)] {
            assert_eq!(battery(&mut engine, at, percent), None);
        }
        let cleared = battery(&mut engine, 7, 25.0).unwrap();
        assert_eq!(cleared.event_type(), "alert.cleared");
        assert_eq!(cleared.alert().alert_id, "battery_low:7:2-0-2");
        assert_eq!(battery(&mut engine, 8, 100.0), None);
        assert_eq!(battery(&mut engine, 9, 5.0).unwrap().alert().alert_id, "battery_low:7:9-0-9");
    }

    #[test]
    fn two_episodes_of_one_millisecond_have_two_ids() {
        let mut engine = AlertEngine::new();
        let device = Id::Number(7);
        let mut ids = Vec::new();
        for (offset, percent) in [(0, 10.0), (1, 30.0), (2, 10.0)] {
            let record = RecordRef { partition: PartitionId(0), offset: Offset(offset) };
            let occasion = Occasion { device: &device, at: TimestampMs(5), record, location: None };
            if let Some(AlertChange::Raised(alert)) = engine.on_battery(percent, occasion) {
                ids.push(alert.alert_id);
            }
        }
        assert_eq!(ids, ["battery_low:7:5-0-0", "battery_low:7:5-0-2"]);
    }

    #[test]
    fn an_alert_event_has_the_shape_of_the_specification() {
        let raised = battery(&mut AlertEngine::new(), 1_754_217_600_000, 19.0).unwrap();
        let event: Value = serde_json::from_str(&raised.to_event_json()).unwrap();
        assert_eq!(event["type"], "alert.created");
        assert_eq!(event["source"], "monitoring-service");
        assert_eq!(event["timestamp"], "2025-08-03T10:40:00.000Z");
        let data = &event["data"];
        assert_eq!(data["type"], "battery_low");
        assert_eq!(data["level"], "warning");
        assert_eq!(data["message"], "无人机电量低于20%");
        assert_eq!(data["drone_id"], 7);
        assert_eq!(data["auto_action"], "return_to_base");
        let text = data.to_string();
        let Checked::AlertCreated(alert) = validate("alert.created", &text).unwrap() else {
            panic!("not an alert");
        };
        assert_eq!(Order::from_event(&alert), Order::from_alert(raised.alert()));
    }

    #[test]
    fn a_restored_episode_is_not_raised_again_and_can_be_cleared() {
        let mut before = AlertEngine::new();
        let raised = battery(&mut before, 5, 10.0).unwrap();
        let mut after = AlertEngine::new();
        after.restore(raised.alert().clone());
        assert_eq!(battery(&mut after, 6, 9.0), None);
        let cleared = battery(&mut after, 7, 90.0).unwrap();
        assert_eq!(cleared.alert(), raised.alert());
        assert_eq!(after.open_alerts().count(), 0);
    }
}

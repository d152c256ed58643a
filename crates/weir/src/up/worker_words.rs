//! What the fleet worker says of events and of damage, for people.

use weir_client::timestamp::format_rfc3339;
use weir_fleet::Checked;
use weir_protocol::types::{Offset, TimestampMs};

use super::damage::{Damage, DAMAGED};

/// An event in a few words, for a person.
pub(super) fn summary(event: &Checked<'_>) -> String {
    let percent = |battery: f64| format!("{battery:.0} %");
    let reason = |text: &Option<weir_fleet::events::Text<'_>>| text.as_deref().map(str::to_owned);
    match event {
        Checked::DroneStatusChanged(event) => {
            let states = format!("{} → {}", &*event.old_status, &*event.new_status);
            reason(&event.reason).map_or(states.clone(), |reason| format!("{states}: {reason}"))
        }
        Checked::EmergencyLanding(event) => reason(&event.reason).unwrap_or_default(),
        Checked::BatteryLow(event) => percent(event.battery.get()),
        _ => String::new(),
    }
}

/// The event for system-events.
pub(super) fn damage_event(damage: &Damage, resume: Offset, now: TimestampMs) -> String {
    let Damage { place, offset, reason, .. } = damage;
    let data = serde_json::json!({
        "service": "weir",
        "status": "degraded",
        "code": DAMAGED,
        "reason": format!(
            "records {offset} to {resume} (exclusive) of {}-{} cannot be read and were skipped: {reason}",
            place.topic, place.partition
        ),
    });
    serde_json::json!({
        "id": format!("damaged-{}-{}-{offset}", place.topic, place.partition),
        "type": "system.health", "source": "weir", "timestamp": format_rfc3339(now), "data": data,
    })
    .to_string()
}

//! Alerts in the file: an outbox until they are in Kafka, then the memory of which are open.

use rusqlite::{params, Connection, Row, Transaction};
use weir_protocol::types::TimestampMs;

use super::{failed, limit, TrajectoryStore};
use crate::alert::{Alert, AlertChange, AutoAction, Rule};
use crate::error::FleetError;
use crate::events::{AlertLevel, Id};

/// The columns that [`alert_of`] reads.
const COLUMNS: &str =
    "alert_id, rule, level, device, device_is_number, subject, auto_action, message,
    message_en, opened_ms, cleared_ms, lat, lon, alt_m";

struct StoredAlert {
    alert: Alert,
    cleared: Option<TimestampMs>,
}

impl TrajectoryStore {
    /// Alerts that are open, the latest `alerts_max` of them.
    ///
    /// # Errors
    /// [`FleetError::Store`].
    pub fn open_alerts(&self, alerts_max: usize) -> Result<Vec<Alert>, FleetError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM alert WHERE cleared_ms IS NULL ORDER BY opened_ms DESC LIMIT ?1"
        );
        let stored = self.query("read alerts", &sql, params![limit(alerts_max)], alert_of)?;
        Ok(stored.into_iter().flatten().map(|stored| stored.alert).collect())
    }

    /// Stores changes that no record has brought.
    ///
    /// # Errors
    /// [`FleetError::Store`]; then none of them is stored.
    pub fn store_alerts(
        &mut self,
        changes: &[AlertChange],
        now: TimestampMs,
    ) -> Result<(), FleetError> {
        let keep = |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            for change in changes {
                store(&transaction, change, now)?;
            }
            transaction.commit()
        };
        keep(&mut self.connection).map_err(failed("store alerts"))
    }

    /// Closes open alerts but for the latest `alerts_max`; says how many. What is closed here is told
    /// as cleared like any other.
    ///
    /// # Errors
    /// [`FleetError::Store`].
    pub fn clear_open_beyond(&mut self, alerts_max: usize) -> Result<usize, FleetError> {
        self.connection
            .execute(
                "UPDATE alert SET cleared_ms = opened_ms WHERE alert_id IN (
                   SELECT alert_id FROM alert WHERE cleared_ms IS NULL
                   ORDER BY opened_ms DESC LIMIT -1 OFFSET ?1)",
                params![limit(alerts_max)],
            )
            .map_err(failed("close alerts beyond the limit"))
    }

    /// Alert events that are stored but not yet known to be in Kafka, in order of event time, raised
    /// before cleared; at most `changes_max`.
    ///
    /// # Errors
    /// [`FleetError::Store`].
    pub fn unpublished(&self, changes_max: usize) -> Result<Vec<AlertChange>, FleetError> {
        let sql = format!(
            "SELECT {COLUMNS}, 0 AS clears, opened_ms AS at FROM alert WHERE raised_published = 0
             UNION ALL
             SELECT {COLUMNS}, 1 AS clears, cleared_ms AS at FROM alert
             WHERE cleared_ms IS NOT NULL AND cleared_published = 0
             ORDER BY at, clears LIMIT ?1"
        );
        let change = |row: &Row<'_>| {
            let clears: bool = row.get(14)?;
            Ok(alert_of(row)?.map(|stored| match (clears, stored.cleared) {
                (true, Some(at)) => AlertChange::Cleared(stored.alert, at),
                _ => AlertChange::Raised(stored.alert),
            }))
        };
        let changes =
            self.query("read alerts to publish", &sql, params![limit(changes_max)], change)?;
        Ok(changes.into_iter().flatten().collect())
    }

    /// Marks alert events as being in Kafka.
    ///
    /// # Errors
    /// [`FleetError::Store`].
    pub fn mark_published(&mut self, changes: &[AlertChange]) -> Result<(), FleetError> {
        let mark = |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            for change in changes {
                let sql = match change {
                    AlertChange::Raised(_) => {
                        "UPDATE alert SET raised_published = 1 WHERE alert_id = ?1"
                    }
                    AlertChange::Cleared(..) => {
                        "UPDATE alert SET cleared_published = 1 WHERE alert_id = ?1"
                    }
                };
                transaction.prepare_cached(sql)?.execute(params![change.alert().alert_id])?;
            }
            transaction.commit()
        };
        mark(&mut self.connection).map_err(failed("mark alerts published"))
    }

    /// Deletes alerts that are over, published, and stored before this time, and of the others that are
    /// over and published all but the latest `alerts_max`; says how many went.
    ///
    /// # Errors
    /// [`FleetError::Store`].
    pub fn delete_finished_alerts(
        &mut self,
        stored: TimestampMs,
        alerts_max: usize,
    ) -> Result<usize, FleetError> {
        const FINISHED: &str =
            "cleared_ms IS NOT NULL AND raised_published = 1 AND cleared_published = 1";
        let delete = |connection: &Connection| {
            let old = connection.execute(
                &format!("DELETE FROM alert WHERE stored_ms < ?1 AND {FINISHED}"),
                params![stored.get()],
            )?;
            let many = connection.execute(
                &format!(
                    "DELETE FROM alert WHERE alert_id IN (
                       SELECT alert_id FROM alert WHERE {FINISHED}
                       ORDER BY stored_ms DESC LIMIT -1 OFFSET ?1)"
                ),
                params![limit(alerts_max)],
            )?;
            Ok(old + many)
        };
        delete(&self.connection).map_err(failed("delete old alerts"))
    }
}

pub(super) fn store(
    transaction: &Transaction<'_>,
    change: &AlertChange,
    now: TimestampMs,
) -> rusqlite::Result<()> {
    let alert = change.alert();
    let (latitude, longitude, altitude) = match alert.location {
        Some((latitude, longitude, altitude)) => (Some(latitude), Some(longitude), altitude),
        None => (None, None, None),
    };
    transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO alert (alert_id, rule, level, device, device_is_number, subject,
               auto_action, message, message_en, opened_ms, lat, lon, alt_m, stored_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            alert.alert_id,
            alert.rule.name(),
            alert.level.name(),
            alert.device.as_text(),
            matches!(alert.device, Id::Number(_)),
            alert.subject,
            alert.auto_action.map(AutoAction::name),
            alert.message,
            alert.message_en,
            alert.opened.get(),
            latitude,
            longitude,
            altitude,
            now.get(),
        ])?;
    if let AlertChange::Cleared(_, at) = change {
        transaction
            .prepare_cached(
                "UPDATE alert SET cleared_ms = ?2 WHERE alert_id = ?1 AND cleared_ms IS NULL",
            )?
            .execute(params![alert.alert_id, at.get()])?;
    }
    Ok(())
}

/// `None` for a rule or level that this build does not know.
fn alert_of(row: &Row<'_>) -> rusqlite::Result<Option<StoredAlert>> {
    let rule = Rule::from_name(&row.get::<_, String>(1)?);
    let level = AlertLevel::from_name(&row.get::<_, String>(2)?);
    let (Some(rule), Some(level)) = (rule, level) else { return Ok(None) };
    let device: String = row.get(3)?;
    let device = match device.parse() {
        Ok(number) if row.get(4)? => Id::Number(number),
        _ => Id::Text(device.into()),
    };
    let action: Option<String> = row.get(6)?;
    let location = match (row.get(11)?, row.get(12)?) {
        (Some(latitude), Some(longitude)) => Some((latitude, longitude, row.get(13)?)),
        _ => None,
    };
    Ok(Some(StoredAlert {
        alert: Alert {
            alert_id: row.get(0)?,
            rule,
            level,
            message: row.get(7)?,
            message_en: row.get(8)?,
            device,
            subject: row.get(5)?,
            auto_action: action.as_deref().and_then(AutoAction::from_name),
            opened: TimestampMs(row.get(9)?),
            location,
        },
        cleared: row.get::<_, Option<i64>>(10)?.map(TimestampMs),
    }))
}

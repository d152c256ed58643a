//! Trajectories in SQLite, with the consumed offsets in the same transaction.
//!
//! The truth about how far a worker has come is here, not in Kafka's group offsets: a commit stores
//! points, alerts and the next offsets together or not at all, and the worker resumes from
//! [`TrajectoryStore::offsets`]. The primary key of a point ends in its record's partition and offset,
//! so the same record read again is ignored, whatever the offsets say.
//!
//! `synchronous = NORMAL` under WAL: a power cut may take back the last commits as a whole, never half
//! of one. The records are still in Kafka and are read again. A process that dies loses nothing.
//!
//! Alerts wait in the same file until they are published (a transactional outbox), so that none is
//! lost between the commit and Kafka, and open ones survive a restart.
//!
//! People query the view `track`: `SELECT * FROM track WHERE device = '7' ORDER BY ts_ms`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{params, Connection, Row, Transaction};
use weir_protocol::types::{Offset, PartitionId, TimestampMs};

use crate::alert::{Alert, AlertChange, AutoAction, Rule};
use crate::error::FleetError;
use crate::events::{AlertLevel, Altitude, Id, Latitude, Location, Longitude};
use crate::location::{Fix, RecordRef};

/// `user_version` of the file as this build writes it.
const SCHEMA_VERSION: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE device (no INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, is_number INTEGER NOT NULL);
CREATE TABLE topic (no INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE point (
  device_no INTEGER NOT NULL, ts_ms INTEGER NOT NULL,
  topic_no INTEGER NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
  lat REAL NOT NULL, lon REAL NOT NULL, alt_m REAL, heading REAL, speed REAL, battery REAL,
  PRIMARY KEY (device_no, ts_ms, topic_no, partition, offset)
) WITHOUT ROWID;
CREATE TABLE consumed (
  group_id TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL,
  next_offset INTEGER NOT NULL, PRIMARY KEY (group_id, topic, partition)
) WITHOUT ROWID;
CREATE TABLE alert (
  alert_id TEXT PRIMARY KEY, rule TEXT NOT NULL, level TEXT NOT NULL, device TEXT NOT NULL,
  device_is_number INTEGER NOT NULL, subject TEXT, auto_action TEXT, message TEXT NOT NULL,
  message_en TEXT NOT NULL, opened_ms INTEGER NOT NULL, cleared_ms INTEGER,
  lat REAL, lon REAL, alt_m REAL,
  raised_published INTEGER NOT NULL DEFAULT 0, cleared_published INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX alert_pending ON alert (opened_ms)
  WHERE raised_published = 0 OR (cleared_ms IS NOT NULL AND cleared_published = 0);
CREATE INDEX alert_open ON alert (opened_ms) WHERE cleared_ms IS NULL;
CREATE VIEW track AS
  SELECT d.id AS device, p.ts_ms, p.lat, p.lon, p.alt_m, p.heading, p.speed, p.battery,
         t.name AS topic, p.partition, p.offset
  FROM point p JOIN device d ON d.no = p.device_no JOIN topic t ON t.no = p.topic_no;
PRAGMA user_version = 1;
";

/// One point of a trajectory.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackPoint {
    /// The device, as text.
    pub device: Arc<str>,
    /// Whether the device writes its id as a number.
    pub device_is_number: bool,
    /// Event time.
    pub at: TimestampMs,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// Metres.
    pub altitude_m: Option<f64>,
    /// Degrees clockwise from north.
    pub heading: Option<f64>,
    /// Metres per second.
    pub speed: Option<f64>,
    /// Percent.
    pub battery: Option<f64>,
    /// The record it came in.
    pub record: RecordRef,
}

impl TrackPoint {
    pub(crate) fn from_fix(device: Arc<str>, fix: &Fix<'_>) -> Self {
        Self {
            device,
            device_is_number: matches!(fix.device, Id::Number(_)),
            at: fix.at,
            latitude: fix.location.latitude.get(),
            longitude: fix.location.longitude.get(),
            altitude_m: fix.location.altitude.map(|altitude| altitude.get()),
            heading: fix.heading,
            speed: fix.speed,
            battery: fix.battery,
            record: fix.record,
        }
    }

    /// Where it is; `None` if the file holds what is no place.
    pub fn location(&self) -> Option<Location> {
        Some(Location {
            latitude: Latitude::new(self.latitude)?,
            longitude: Longitude::new(self.longitude)?,
            altitude: self.altitude_m.and_then(Altitude::new),
        })
    }
}

/// How far a group has come in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumedOffset {
    /// The partition.
    pub partition: PartitionId,
    /// The next offset to read.
    pub next: Offset,
}

/// What one batch of records amounts to; stored whole or not at all.
#[derive(Debug, Clone, Copy)]
pub struct Commit<'a> {
    /// The consumer group.
    pub group: &'a str,
    /// The topic that was read.
    pub topic: &'a str,
    /// Where to go on in it.
    pub offsets: &'a [ConsumedOffset],
    /// Points to store.
    pub points: &'a [TrackPoint],
    /// Alerts to store until they are published.
    pub alerts: &'a [AlertChange],
}

/// What a commit did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Committed {
    /// Points that are new.
    pub points_stored: u64,
    /// Points that were there already: a replay.
    pub points_known: u64,
}

/// The file of trajectories.
#[derive(Debug)]
pub struct TrajectoryStore {
    connection: Connection,
    devices: HashMap<Arc<str>, i64>,
    topics: HashMap<String, i64>,
}

impl TrajectoryStore {
    /// Opens or makes the file.
    ///
    /// # Errors
    /// [`FleetError::Store`], or [`FleetError::StoreTooNew`] for a file of a newer weir.
    pub fn open(path: &Path) -> Result<Self, FleetError> {
        let connection = Connection::open(path).map_err(failed("open"))?;
        Self::over(connection)
    }

    /// One that lives in memory.
    ///
    /// # Errors
    /// [`FleetError::Store`].
    pub fn in_memory() -> Result<Self, FleetError> {
        Self::over(Connection::open_in_memory().map_err(failed("open"))?)
    }

    fn over(connection: Connection) -> Result<Self, FleetError> {
        let prepare = |connection: &Connection| {
            connection.busy_timeout(std::time::Duration::from_secs(5))?;
            connection.execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
                 PRAGMA journal_size_limit = 67108864;",
            )
        };
        prepare(&connection).map_err(failed("open"))?;
        if check_version(&connection)? == 0 {
            connection
                .execute_batch(&format!("BEGIN IMMEDIATE;{SCHEMA}COMMIT;"))
                .map_err(failed("make tables"))?;
        }
        Ok(Self { connection, devices: HashMap::new(), topics: HashMap::new() })
    }

    /// Stores points, alerts and offsets in one transaction.
    ///
    /// # Errors
    /// [`FleetError::Store`]; then nothing of it is stored and the worker may try again.
    pub fn commit(&mut self, commit: &Commit<'_>) -> Result<Committed, FleetError> {
        let result =
            Self::commit_in(&mut self.connection, &mut self.devices, &mut self.topics, commit);
        if result.is_err() {
            // Numbers given in a transaction that was rolled back do not exist.
            self.devices.clear();
            self.topics.clear();
        }
        result.map_err(failed("commit"))
    }

    fn commit_in(
        connection: &mut Connection,
        devices: &mut HashMap<Arc<str>, i64>,
        topics: &mut HashMap<String, i64>,
        commit: &Commit<'_>,
    ) -> rusqlite::Result<Committed> {
        let transaction = connection.transaction()?;
        let mut committed = Committed::default();
        if !commit.points.is_empty() {
            let topic_no = topic_no(&transaction, topics, commit.topic)?;
            let mut insert = transaction.prepare_cached(
                "INSERT INTO point (device_no, ts_ms, topic_no, partition, offset,
                   lat, lon, alt_m, heading, speed, battery)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
                 ON CONFLICT (device_no, ts_ms, topic_no, partition, offset) DO NOTHING",
            )?;
            for point in commit.points {
                let device_no = device_no(&transaction, devices, point)?;
                let stored = insert.execute(params![
                    device_no,
                    point.at.get(),
                    topic_no,
                    point.record.partition.get(),
                    point.record.offset.get(),
                    point.latitude,
                    point.longitude,
                    point.altitude_m,
                    point.heading,
                    point.speed,
                    point.battery,
                ])? as u64;
                committed.points_stored += stored;
                committed.points_known += 1 - stored;
            }
        }
        for change in commit.alerts {
            store_alert(&transaction, change)?;
        }
        let mut consumed = transaction.prepare_cached(
            "INSERT INTO consumed (group_id, topic, partition, next_offset) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET next_offset = excluded.next_offset",
        )?;
        for offset in commit.offsets {
            let (partition, next) = (offset.partition.get(), offset.next.get());
            consumed.execute(params![commit.group, commit.topic, partition, next])?;
        }
        drop(consumed);
        transaction.commit()?;
        Ok(committed)
    }

    /// Where a group goes on in a topic, by partition. A partition that is not in it: from the start.
    ///
    /// # Errors
    /// [`FleetError::Store`].
    pub fn offsets(&self, group: &str, topic: &str) -> Result<Vec<ConsumedOffset>, FleetError> {
        self.query(
            "read offsets",
            "SELECT partition, next_offset FROM consumed WHERE group_id = ?1 AND topic = ?2
             ORDER BY partition",
            params![group, topic],
            |row| {
                Ok(ConsumedOffset {
                    partition: PartitionId(row.get(0)?),
                    next: Offset(row.get(1)?),
                })
            },
        )
    }

    /// A device's points from `from` to `to`, both included, oldest first, at most `points_max`.
    ///
    /// # Errors
    /// [`FleetError::Store`].
    pub fn points(
        &self,
        device: &str,
        from: TimestampMs,
        to: TimestampMs,
        points_max: usize,
    ) -> Result<Vec<TrackPoint>, FleetError> {
        self.query(
            "read points",
            "SELECT d.id, d.is_number, ts_ms, lat, lon, alt_m, heading, speed, battery, partition, offset
             FROM point JOIN device d ON d.no = device_no
             WHERE d.id = ?1 AND ts_ms BETWEEN ?2 AND ?3
             ORDER BY ts_ms, partition, offset LIMIT ?4",
            params![device, from.get(), to.get(), points_max as i64],
            point_of,
        )
    }

    /// The last point of each device.
    ///
    /// # Errors
    /// [`FleetError::Store`].
    pub fn last_points(&self, not_after: TimestampMs) -> Result<Vec<TrackPoint>, FleetError> {
        // One descent of the primary key per device, not a scan of all points.
        self.query(
            "read last points",
            "SELECT d.id, d.is_number, p.ts_ms, p.lat, p.lon, p.alt_m, p.heading, p.speed, p.battery,
                    p.partition, p.offset
             FROM device d JOIN point p ON p.device_no = d.no
              AND (p.ts_ms, p.topic_no, p.partition, p.offset) = (
                SELECT ts_ms, topic_no, partition, offset FROM point
                WHERE device_no = d.no AND ts_ms <= ?1
                ORDER BY ts_ms DESC, topic_no DESC, partition DESC, offset DESC LIMIT 1)
             ORDER BY d.no",
            params![not_after.get()],
            point_of,
        )
    }

    /// How many points each device has, by device.
    ///
    /// # Errors
    /// [`FleetError::Store`].
    pub fn counts(&self) -> Result<Vec<(String, u64)>, FleetError> {
        self.query(
            "count points",
            "SELECT d.id, count(*) FROM point JOIN device d ON d.no = device_no
             GROUP BY device_no ORDER BY d.id",
            params![],
            |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())),
        )
    }

    /// Deletes points before this event time; says how many went.
    ///
    /// # Errors
    /// [`FleetError::Store`].
    pub fn delete_before(&mut self, at: TimestampMs) -> Result<u64, FleetError> {
        self.connection
            .execute(
                "DELETE FROM point WHERE device_no IN (SELECT no FROM device) AND ts_ms < ?1",
                params![at.get()],
            )
            .map(|count| count as u64)
            .map_err(failed("delete old points"))
    }

    /// Alerts that are open.
    ///
    /// # Errors
    /// [`FleetError::Store`].
    pub fn open_alerts(&self) -> Result<Vec<Alert>, FleetError> {
        let changes = self.alerts_where("cleared_ms IS NULL", i64::MAX)?;
        Ok(changes.into_iter().map(|stored| stored.alert).collect())
    }

    /// Alert events that are stored but not yet known to be in Kafka, oldest first.
    ///
    /// # Errors
    /// [`FleetError::Store`].
    pub fn unpublished(&self) -> Result<Vec<AlertChange>, FleetError> {
        let pending = self.alerts_where(
            "raised_published = 0 OR (cleared_ms IS NOT NULL AND cleared_published = 0)",
            i64::MAX,
        )?;
        let mut changes = Vec::new();
        for stored in pending {
            if let (Some(cleared), false) = (stored.cleared, stored.cleared_published) {
                changes.push(AlertChange::Cleared(stored.alert.clone(), cleared));
            }
            if !stored.raised_published {
                changes.push(AlertChange::Raised(stored.alert));
            }
        }
        // Raised before cleared when both happened at one time.
        changes.sort_by_key(|change| (change.at(), matches!(change, AlertChange::Cleared(..))));
        Ok(changes)
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

    fn alerts_where(
        &self,
        condition: &str,
        alerts_max: i64,
    ) -> Result<Vec<StoredAlert>, FleetError> {
        let sql = format!(
            "SELECT alert_id, rule, level, device, device_is_number, subject, auto_action, message,
                    message_en, opened_ms, cleared_ms, lat, lon, alt_m, raised_published,
                    cleared_published
             FROM alert WHERE {condition} ORDER BY opened_ms DESC LIMIT ?1"
        );
        self.query("read alerts", &sql, params![alerts_max], alert_of)
            .map(|alerts| alerts.into_iter().flatten().collect())
    }

    fn query<T>(
        &self,
        operation: &'static str,
        sql: &str,
        params: impl rusqlite::Params,
        row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, FleetError> {
        let read = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            let rows = statement.query_map(params, row)?;
            rows.collect::<rusqlite::Result<Vec<T>>>()
        };
        read().map_err(failed(operation))
    }
}

struct StoredAlert {
    alert: Alert,
    cleared: Option<TimestampMs>,
    raised_published: bool,
    cleared_published: bool,
}

fn failed(operation: &'static str) -> impl Fn(rusqlite::Error) -> FleetError {
    move |source| FleetError::Store { operation, source }
}

fn check_version(connection: &Connection) -> Result<i64, FleetError> {
    let found: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(failed("read schema version"))?;
    if found > SCHEMA_VERSION {
        return Err(FleetError::StoreTooNew { found, known: SCHEMA_VERSION });
    }
    Ok(found)
}

fn device_no(
    transaction: &Transaction<'_>,
    devices: &mut HashMap<Arc<str>, i64>,
    point: &TrackPoint,
) -> rusqlite::Result<i64> {
    if let Some(no) = devices.get(&point.device) {
        return Ok(*no);
    }
    let device: &str = &point.device;
    transaction.execute(
        "INSERT OR IGNORE INTO device (id, is_number) VALUES (?1, ?2)",
        params![device, point.device_is_number],
    )?;
    let no =
        transaction
            .query_row("SELECT no FROM device WHERE id = ?1", params![device], |row| row.get(0))?;
    devices.insert(Arc::clone(&point.device), no);
    Ok(no)
}

fn topic_no(
    transaction: &Transaction<'_>,
    topics: &mut HashMap<String, i64>,
    topic: &str,
) -> rusqlite::Result<i64> {
    if let Some(no) = topics.get(topic) {
        return Ok(*no);
    }
    transaction.execute("INSERT OR IGNORE INTO topic (name) VALUES (?1)", params![topic])?;
    let no =
        transaction
            .query_row("SELECT no FROM topic WHERE name = ?1", params![topic], |row| row.get(0))?;
    topics.insert(topic.to_owned(), no);
    Ok(no)
}

fn store_alert(transaction: &Transaction<'_>, change: &AlertChange) -> rusqlite::Result<()> {
    let alert = change.alert();
    let (latitude, longitude, altitude) = match alert.location {
        Some((latitude, longitude, altitude)) => (Some(latitude), Some(longitude), altitude),
        None => (None, None, None),
    };
    transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO alert (alert_id, rule, level, device, device_is_number, subject,
               auto_action, message, message_en, opened_ms, lat, lon, alt_m)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
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

fn point_of(row: &Row<'_>) -> rusqlite::Result<TrackPoint> {
    Ok(TrackPoint {
        device: Arc::from(row.get::<_, String>(0)?),
        device_is_number: row.get(1)?,
        at: TimestampMs(row.get(2)?),
        latitude: row.get(3)?,
        longitude: row.get(4)?,
        altitude_m: row.get(5)?,
        heading: row.get(6)?,
        speed: row.get(7)?,
        battery: row.get(8)?,
        record: RecordRef { partition: PartitionId(row.get(9)?), offset: Offset(row.get(10)?) },
    })
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
        raised_published: row.get(14)?,
        cleared_published: row.get(15)?,
    }))
}

//! Trajectories in SQLite, with the consumed offsets in the same transaction.
//!
//! The truth about how far a worker has come is here, not in Kafka's group offsets: a commit stores
//! points, alerts and the next offsets together or not at all, and the worker resumes from
//! [`TrajectoryStore::offsets`]. Offsets belong to one topic of one cluster ([`TopicIdentity`]). The
//! primary key of a point is its device, its event time and its record's topic, partition and offset, so
//! the same record read again is ignored, whatever the offsets say.
//!
//! `synchronous = NORMAL` under WAL: a power cut may take back the last commits as a whole, never half
//! of one. The records are still in Kafka and are read again. A process that dies loses nothing.
//!
//! Alerts wait in the same file until they are published (a transactional outbox), so that none is
//! lost between the commit and Kafka, and open ones survive a restart.
//!
//! People query the view `track`: `SELECT * FROM track WHERE device = '7' ORDER BY ts_ms`.

mod alerts;
mod schema;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{params, Connection, OptionalExtension, Row, Transaction};
use weir_protocol::types::{Offset, PartitionId, TimestampMs};

use crate::alert::AlertChange;
use crate::error::FleetError;
use crate::events::{Altitude, Id, Latitude, Location, Longitude};
use crate::location::{Fix, RecordRef};

/// Devices whose number is remembered; with more of them it is looked up again.
const DEVICE_NUMBERS_MAX: usize = 200_000;

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
    /// When weir took it: its record's timestamp. Retention counts from here.
    pub received: TimestampMs,
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
            received: fix.received,
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

/// A topic of one cluster, from its making to its deletion: offsets mean nothing beyond it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TopicIdentity {
    /// The cluster, as Metadata says it.
    pub cluster_id: String,
    /// The topic's id as text.
    pub topic_id: String,
    /// Its name.
    pub name: String,
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
    pub topic: &'a TopicIdentity,
    /// Where to go on in it.
    pub offsets: &'a [ConsumedOffset],
    /// Points to store.
    pub points: &'a [TrackPoint],
    /// Alerts to store until they are published.
    pub alerts: &'a [AlertChange],
    /// When: alerts that are over are kept from here on.
    pub now: TimestampMs,
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
    topics: HashMap<TopicIdentity, i64>,
}

impl TrajectoryStore {
    /// Opens or makes the file. One of an earlier weir is brought up to date; `now` is what its points
    /// count as taken at, for the time was not noted.
    ///
    /// # Errors
    /// [`FleetError::Store`], or [`FleetError::StoreTooNew`] for a file of a newer weir.
    pub fn open(path: &Path, now: TimestampMs) -> Result<Self, FleetError> {
        let connection = Connection::open(path).map_err(failed("open"))?;
        Self::over(connection, now)
    }

    /// One that lives in memory.
    ///
    /// # Errors
    /// [`FleetError::Store`].
    pub fn in_memory() -> Result<Self, FleetError> {
        Self::over(Connection::open_in_memory().map_err(failed("open"))?, TimestampMs(0))
    }

    fn over(mut connection: Connection, now: TimestampMs) -> Result<Self, FleetError> {
        let prepare = |connection: &Connection| {
            connection.busy_timeout(std::time::Duration::from_secs(5))?;
            connection.execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
                 PRAGMA journal_size_limit = 67108864;",
            )
        };
        prepare(&connection).map_err(failed("open"))?;
        schema::prepare(&mut connection, now)?;
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
        topics: &mut HashMap<TopicIdentity, i64>,
        commit: &Commit<'_>,
    ) -> rusqlite::Result<Committed> {
        let transaction = connection.transaction()?;
        let mut committed = Committed::default();
        if !commit.points.is_empty() {
            let topic_no = topic_no(&transaction, topics, commit.topic)?;
            if devices.len() > DEVICE_NUMBERS_MAX {
                devices.clear();
            }
            let mut insert = transaction.prepare_cached(
                "INSERT INTO point (device_no, ts_ms, topic_no, partition, offset,
                   lat, lon, alt_m, heading, speed, battery, received_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
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
                    point.received.get(),
                ])? as u64;
                committed.points_stored += stored;
                committed.points_known += 1 - stored;
            }
        }
        for change in commit.alerts {
            alerts::store(&transaction, change, commit.now)?;
        }
        if !commit.offsets.is_empty() {
            let topic_no = topic_no(&transaction, topics, commit.topic)?;
            let mut consumed = transaction.prepare_cached(
                "INSERT INTO consumed (group_id, topic_no, partition, next_offset)
                 VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET next_offset = excluded.next_offset",
            )?;
            for offset in commit.offsets {
                let (partition, next) = (offset.partition.get(), offset.next.get());
                consumed.execute(params![commit.group, topic_no, partition, next])?;
            }
        }
        transaction.commit()?;
        Ok(committed)
    }

    /// Where a group goes on in a topic, by partition. A partition that is not in it: the store knows
    /// nothing of it.
    ///
    /// # Errors
    /// [`FleetError::Store`].
    pub fn offsets(
        &self,
        group: &str,
        topic: &TopicIdentity,
    ) -> Result<Vec<ConsumedOffset>, FleetError> {
        self.query(
            "read offsets",
            "SELECT partition, next_offset FROM consumed JOIN topic ON no = topic_no
             WHERE group_id = ?1 AND name = ?2 AND cluster_id = ?3 AND topic_id = ?4
             ORDER BY partition",
            params![group, topic.name, topic.cluster_id, topic.topic_id],
            |row| {
                Ok(ConsumedOffset {
                    partition: PartitionId(row.get(0)?),
                    next: Offset(row.get(1)?),
                })
            },
        )
    }

    /// Whether there are offsets in topics of this name that are others: of another cluster, or deleted
    /// since.
    ///
    /// # Errors
    /// [`FleetError::Store`].
    pub fn has_offsets_of_another(&self, topic: &TopicIdentity) -> Result<bool, FleetError> {
        let found = self.query(
            "read offsets",
            "SELECT 1 FROM consumed JOIN topic ON no = topic_no
             WHERE name = ?1 AND (cluster_id <> ?2 OR topic_id <> ?3) LIMIT 1",
            params![topic.name, topic.cluster_id, topic.topic_id],
            |_| Ok(()),
        )?;
        Ok(!found.is_empty())
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
            "SELECT d.id, d.is_number, ts_ms, lat, lon, alt_m, heading, speed, battery, partition, offset,
                    received_ms
             FROM point JOIN device d ON d.no = device_no
             WHERE d.id = ?1 AND ts_ms BETWEEN ?2 AND ?3
             ORDER BY ts_ms, partition, offset LIMIT ?4",
            params![device, from.get(), to.get(), points_max as i64],
            point_of,
        )
    }

    /// The last point of each device, of the `devices_max` that were heard of last, the latest at the
    /// end.
    ///
    /// # Errors
    /// [`FleetError::Store`].
    pub fn last_points(
        &self,
        not_after: TimestampMs,
        devices_max: usize,
    ) -> Result<Vec<TrackPoint>, FleetError> {
        // One descent of the primary key per device, not a scan of all points.
        let mut points = self.query(
            "read last points",
            "SELECT d.id, d.is_number, p.ts_ms, p.lat, p.lon, p.alt_m, p.heading, p.speed, p.battery,
                    p.partition, p.offset, p.received_ms
             FROM device d JOIN point p ON p.device_no = d.no
              AND (p.ts_ms, p.topic_no, p.partition, p.offset) = (
                SELECT ts_ms, topic_no, partition, offset FROM point
                WHERE device_no = d.no AND ts_ms <= ?1
                ORDER BY ts_ms DESC, topic_no DESC, partition DESC, offset DESC LIMIT 1)
             ORDER BY p.received_ms DESC, d.no DESC LIMIT ?2",
            params![not_after.get(), limit(devices_max)],
            point_of,
        )?;
        points.reverse();
        Ok(points)
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

    /// Deletes points that weir took before this time, at most `points_max`, so that nobody waits long;
    /// says how many went.
    ///
    /// # Errors
    /// [`FleetError::Store`].
    pub fn delete_before(
        &mut self,
        received: TimestampMs,
        points_max: usize,
    ) -> Result<usize, FleetError> {
        self.connection
            .execute(
                "DELETE FROM point WHERE (device_no, ts_ms, topic_no, partition, offset) IN (
                   SELECT device_no, ts_ms, topic_no, partition, offset FROM point
                   WHERE received_ms < ?1 ORDER BY received_ms LIMIT ?2)",
                params![received.get(), limit(points_max)],
            )
            .map_err(failed("delete old points"))
    }

    /// Forgets devices without a point; says how many there were.
    ///
    /// # Errors
    /// [`FleetError::Store`].
    pub fn delete_empty_devices(&mut self) -> Result<usize, FleetError> {
        self.devices.clear();
        self.connection
            .execute(
                "DELETE FROM device
                 WHERE NOT EXISTS (SELECT 1 FROM point WHERE device_no = device.no)",
                [],
            )
            .map_err(failed("delete devices without points"))
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

fn limit(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn failed(operation: &'static str) -> impl Fn(rusqlite::Error) -> FleetError {
    move |source| FleetError::Store { operation, source }
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
    topics: &mut HashMap<TopicIdentity, i64>,
    topic: &TopicIdentity,
) -> rusqlite::Result<i64> {
    if let Some(no) = topics.get(topic) {
        return Ok(*no);
    }
    let ids = params![topic.name, topic.cluster_id, topic.topic_id];
    let known = "SELECT no FROM topic WHERE name = ?1 AND cluster_id = ?2 AND topic_id = ?3";
    let no = match transaction.query_row(known, ids, |row| row.get(0)).optional()? {
        Some(no) => no,
        None => {
            // Points of a weir that did not note the ids are taken to be of the first topic of their
            // name, so that a record read again is still recognised.
            let adopted = transaction.execute(
                "UPDATE topic SET cluster_id = ?2, topic_id = ?3
                 WHERE name = ?1 AND cluster_id = '' AND topic_id = ''",
                ids,
            )?;
            if adopted == 0 {
                transaction.execute(
                    "INSERT INTO topic (name, cluster_id, topic_id) VALUES (?1, ?2, ?3)",
                    ids,
                )?;
            }
            transaction.query_row(known, ids, |row| row.get(0))?
        }
    };
    topics.insert(topic.clone(), no);
    Ok(no)
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
        received: TimestampMs(row.get(11)?),
    })
}

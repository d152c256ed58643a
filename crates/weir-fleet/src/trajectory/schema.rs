//! The tables of the file, and how a file of an earlier weir becomes one of this.

use rusqlite::{params, Connection};
use weir_protocol::types::TimestampMs;

use super::failed;
use crate::error::FleetError;

/// `user_version` of the file as this build writes it.
const SCHEMA_VERSION: i64 = 2;

/// A topic is one of a cluster, by its id: made again under its name it is another. Empty ids: written
/// by a weir that did not note them.
const SCHEMA: &str = "
CREATE TABLE device (no INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, is_number INTEGER NOT NULL);
CREATE TABLE topic (
  no INTEGER PRIMARY KEY, name TEXT NOT NULL, cluster_id TEXT NOT NULL, topic_id TEXT NOT NULL,
  UNIQUE (name, cluster_id, topic_id)
);
CREATE TABLE point (
  device_no INTEGER NOT NULL, ts_ms INTEGER NOT NULL,
  topic_no INTEGER NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
  lat REAL NOT NULL, lon REAL NOT NULL, alt_m REAL, heading REAL, speed REAL, battery REAL,
  received_ms INTEGER NOT NULL,
  PRIMARY KEY (device_no, ts_ms, topic_no, partition, offset)
) WITHOUT ROWID;
CREATE TABLE alert (
  alert_id TEXT PRIMARY KEY, rule TEXT NOT NULL, level TEXT NOT NULL, device TEXT NOT NULL,
  device_is_number INTEGER NOT NULL, subject TEXT, auto_action TEXT, message TEXT NOT NULL,
  message_en TEXT NOT NULL, opened_ms INTEGER NOT NULL, cleared_ms INTEGER,
  lat REAL, lon REAL, alt_m REAL,
  raised_published INTEGER NOT NULL DEFAULT 0, cleared_published INTEGER NOT NULL DEFAULT 0,
  stored_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX alert_open ON alert (opened_ms) WHERE cleared_ms IS NULL;
";

/// What version 2 has more than version 1, but for columns.
const SINCE_VERSION_2: &str = "
CREATE TABLE consumed (
  group_id TEXT NOT NULL, topic_no INTEGER NOT NULL, partition INTEGER NOT NULL,
  next_offset INTEGER NOT NULL, PRIMARY KEY (group_id, topic_no, partition)
) WITHOUT ROWID;
CREATE INDEX point_received ON point (received_ms);
CREATE INDEX alert_stored ON alert (stored_ms);
CREATE INDEX alert_to_raise ON alert (opened_ms) WHERE raised_published = 0;
CREATE INDEX alert_to_clear ON alert (cleared_ms)
  WHERE cleared_ms IS NOT NULL AND cleared_published = 0;
CREATE VIEW track AS
  SELECT d.id AS device, p.ts_ms, p.lat, p.lon, p.alt_m, p.heading, p.speed, p.battery,
         t.name AS topic, p.partition, p.offset
  FROM point p JOIN device d ON d.no = p.device_no JOIN topic t ON t.no = p.topic_no;
PRAGMA user_version = 2;
";

/// Version 1 did not say which cluster its positions are of, so that none of them can be trusted: the
/// group's offsets in Kafka, set from them, say the same. Points and alerts stay, and are as old as
/// the upgrade, for nobody noted when they came.
const FROM_VERSION_1: &str = "
DROP TABLE consumed;
DROP VIEW track;
DROP INDEX alert_pending;
ALTER TABLE topic RENAME TO topic_1;
CREATE TABLE topic (
  no INTEGER PRIMARY KEY, name TEXT NOT NULL, cluster_id TEXT NOT NULL, topic_id TEXT NOT NULL,
  UNIQUE (name, cluster_id, topic_id)
);
INSERT INTO topic SELECT no, name, '', '' FROM topic_1;
DROP TABLE topic_1;
ALTER TABLE point ADD COLUMN received_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE alert ADD COLUMN stored_ms INTEGER NOT NULL DEFAULT 0;
";

/// Makes the tables, or brings those of an earlier version up to date, in one transaction.
pub(super) fn prepare(connection: &mut Connection, now: TimestampMs) -> Result<(), FleetError> {
    let found = version(connection)?;
    let make = |connection: &mut Connection| {
        let transaction = connection.transaction()?;
        if found == 0 {
            transaction.execute_batch(SCHEMA)?;
        } else {
            transaction.execute_batch(FROM_VERSION_1)?;
            transaction.execute("UPDATE point SET received_ms = ?1", params![now.get()])?;
            transaction.execute("UPDATE alert SET stored_ms = ?1", params![now.get()])?;
        }
        transaction.execute_batch(SINCE_VERSION_2)?;
        transaction.commit()
    };
    match found {
        SCHEMA_VERSION => Ok(()),
        0 => make(connection).map_err(failed("make tables")),
        _ => make(connection).map_err(failed("bring the tables up to date")),
    }
}

fn version(connection: &Connection) -> Result<i64, FleetError> {
    let found: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(failed("read schema version"))?;
    if found > SCHEMA_VERSION {
        return Err(FleetError::StoreTooNew { found, known: SCHEMA_VERSION });
    }
    Ok(found)
}

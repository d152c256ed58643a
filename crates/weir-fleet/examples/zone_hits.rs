//! Which zones each position lies in, one line per event, for a second opinion on the geometry.
//!
//! `zone_hits ZONES.geojson < EVENTS.ndjson`
//!
//! Prints the id of each `drone.location.updated` event and the ids of the zones that hold it, in the
//! order of the file, separated by spaces. An event that does not validate ends the run.
//! `scripts/adsb_test.py` holds the output against a loop of its own.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::io::{BufRead, BufWriter, Write};

use weir_client::Event;
use weir_fleet::{validate, Checked, ZoneSet};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: zone_hits ZONES.geojson < EVENTS.ndjson")?;
    let zones = ZoneSet::from_geojson(&std::fs::read_to_string(path)?)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut hits = Vec::new();
    for (index, line) in std::io::stdin().lock().lines().enumerate() {
        let line = line?;
        let fault = |what: String| format!("line {}: {what}", index + 1);
        let event = Event::parse(line.as_bytes()).map_err(|error| fault(error.to_string()))?;
        let checked = validate(&event.event_type, event.data.get());
        let Checked::DroneLocationUpdated(fix) =
            checked.map_err(|error| fault(error.to_string()))?
        else {
            return Err(fault(format!("type {} has no position", event.event_type)).into());
        };
        let place = fix.location;
        let altitude_m = place.altitude.map(|altitude| altitude.get());
        zones.hits_into(place.latitude.get(), place.longitude.get(), altitude_m, &mut hits);
        write!(out, "{}", event.id.as_deref().ok_or_else(|| fault("no id".to_owned()))?)?;
        for zone in hits.iter().filter_map(|hit| zones.get(*hit)) {
            write!(out, " {}", zone.id)?;
        }
        writeln!(out)?;
    }
    out.flush()?;
    Ok(())
}

//! Zones from GeoJSON (RFC 7946).

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::Value;

use super::{Edge, Point, Polygon, Zone, ZoneKind, EDGES_MAX};
use crate::error::FleetError;
use crate::events::AlertLevel;

#[derive(Deserialize)]
struct Collection<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    features: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Feature {
    id: Option<Value>,
    #[serde(default)]
    properties: Option<Properties>,
    geometry: Geometry,
}

#[derive(Deserialize, Default)]
struct Properties {
    id: Option<Value>,
    name: Option<Name>,
    lower_m: Option<f64>,
    upper_m: Option<f64>,
    lower: Option<f64>,
    upper: Option<f64>,
    kind: Option<String>,
    severity: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Name {
    Both { zh: String, en: String },
    One(String),
}

type Ring = Vec<Vec<f64>>;

#[derive(Deserialize)]
#[serde(tag = "type", content = "coordinates")]
enum Geometry {
    Polygon(Vec<Ring>),
    MultiPolygon(Vec<Vec<Ring>>),
}

pub(super) fn read(text: &str) -> Result<(Vec<Zone>, Vec<Polygon>), FleetError> {
    let malformed = |reason: String| FleetError::ZonesMalformed { reason };
    let collection: Collection<'_> =
        serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
    if collection.kind != "FeatureCollection" {
        return Err(malformed(format!("type is {:?}, not \"FeatureCollection\"", collection.kind)));
    }
    let (mut zones, mut polygons) = (Vec::new(), Vec::new());
    let mut ids = HashSet::new();
    let mut edge_count = 0;
    for (index, raw) in collection.features.iter().enumerate() {
        let invalid = |reason: String| FleetError::ZoneInvalid { feature: index, reason };
        let feature: Feature =
            serde_json::from_str(raw.get()).map_err(|error| invalid(error.to_string()))?;
        let properties = feature.properties.unwrap_or_default();
        let zone = zone(feature.id, properties, index).map_err(invalid)?;
        if !ids.insert(zone.id.clone()) {
            return Err(invalid(format!("id {:?} is given twice", zone.id)));
        }
        let parts = match feature.geometry {
            Geometry::Polygon(rings) => vec![rings],
            Geometry::MultiPolygon(parts) => parts,
        };
        let number = zones.len() as u32;
        zones.push(zone);
        for rings in parts {
            let edges = edges(&rings).map_err(invalid)?;
            edge_count += edges.len();
            if edge_count > EDGES_MAX {
                return Err(invalid(format!("more than {EDGES_MAX} edges so far")));
            }
            polygons.extend(Polygon::new(number, edges));
        }
    }
    Ok((zones, polygons))
}

fn zone(id: Option<Value>, properties: Properties, index: usize) -> Result<Zone, String> {
    let id = match properties.id.or(id) {
        None | Some(Value::Null) => (index + 1).to_string(),
        Some(Value::String(text)) => text,
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => return Err("id must be a string or a number".to_owned()),
    };
    let (name_zh, name_en) = match properties.name {
        Some(Name::Both { zh, en }) => (zh, en),
        Some(Name::One(name)) => (name.clone(), name),
        None => (id.clone(), id.clone()),
    };
    let kind = match properties.kind.as_deref() {
        None | Some("no_fly" | "no-fly" | "prohibited" | "restricted") => ZoneKind::NoFly,
        Some("notice" | "advisory") => ZoneKind::Notice,
        Some(other) => return Err(format!("kind {other:?} is not one of no_fly, notice")),
    };
    let level = match properties.severity.as_deref() {
        None if kind == ZoneKind::NoFly => AlertLevel::Critical,
        None => AlertLevel::Warning,
        Some(text) => AlertLevel::from_name(text).ok_or_else(|| {
            format!("severity {text:?} is not one of info, warning, error, critical")
        })?,
    };
    let lower_m = properties.lower_m.or(properties.lower);
    let upper_m = properties.upper_m.or(properties.upper);
    if let (Some(lower), Some(upper)) = (lower_m, upper_m) {
        if lower > upper {
            return Err(format!("lower limit {lower} m is above upper limit {upper} m"));
        }
    }
    Ok(Zone { id, name_zh, name_en, kind, level, lower_m, upper_m })
}

fn edges(rings: &[Ring]) -> Result<Vec<Edge>, String> {
    let mut edges = Vec::new();
    for ring in rings {
        let points = ring.iter().map(|position| point(position)).collect::<Result<Vec<_>, _>>()?;
        let before = edges.len();
        edges.extend(points.windows(2).filter_map(|pair| Edge::new(pair[0], pair[1])));
        // RFC 7946 wants rings closed; files that leave the last edge out mean the same.
        if let (Some(first), Some(last)) = (points.first(), points.last()) {
            edges.extend(Edge::new(*last, *first));
        }
        if edges.len() - before < 3 {
            return Err("a ring needs at least three different corners".to_owned());
        }
    }
    if edges.is_empty() {
        return Err("a polygon needs a ring".to_owned());
    }
    Ok(edges)
}

fn point(position: &[f64]) -> Result<Point, String> {
    match position {
        [longitude, latitude, ..] => Point::from_degrees(*latitude, *longitude).ok_or_else(|| {
            format!("[{longitude}, {latitude}] is not [longitude, latitude] in degrees")
        }),
        _ => Err("a position needs longitude and latitude".to_owned()),
    }
}

//! No-fly zones: which of them hold a point, in about a hundred nanoseconds for thousands of zones.
//!
//! # Coordinates
//! Degrees become integers of 1e-7 degree (1.1 cm), as in MAVLink and ADS-B decoders. All geometry
//! after that is exact integer arithmetic, so a point on a border is decided the same way by the
//! index and by the plain loop over all edges, on every machine.
//!
//! # What is inside
//! A border belongs to its zone, also the border of a hole. Rings are even-odd within one polygon;
//! polygons of a MultiPolygon are united, so parts that overlap do not cancel out. Altitude limits
//! belong to the zone. A point without an altitude is taken to be within the limits: for a no-fly
//! zone the safe reading. Zones over the antimeridian must be split, as RFC 7946 §3.1.9 says.
//!
//! # Index
//! A uniform grid of square cells. A cell knows the polygons that cover it whole and, for each
//! polygon whose border crosses it, those edges and whether its south-west corner is inside. A point
//! in a border cell counts the edges crossed on the way north then east from that corner. Cells are
//! 2^k units, so the cell of a point is a subtraction and a shift; lists lie end to end in four flat
//! arrays (compressed rows), because the cost of a lookup is the cache lines it touches.

mod geojson;
mod grid;

use grid::{Grid, CELLS_MAX};

use crate::error::FleetError;
use crate::events::AlertLevel;

/// Units per degree: 1e-7 degree each.
const UNITS_PER_DEGREE: f64 = 1e7;

/// Most edges of one file, so that a wrong file cannot take all memory.
pub const EDGES_MAX: usize = 20_000_000;

/// A zone's place in its [`ZoneSet`], from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZoneIndex(pub u32);

/// What a zone is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ZoneKind {
    /// Nobody may be in it.
    #[default]
    NoFly,
    /// One may be in it; entering is worth a notice.
    Notice,
}

impl ZoneKind {
    /// As in GeoJSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoFly => "no_fly",
            Self::Notice => "notice",
        }
    }
}

/// A zone, without its border.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone {
    /// Its id, unique in the set.
    pub id: String,
    /// Its Chinese name.
    pub name_zh: String,
    /// Its English name.
    pub name_en: String,
    /// What it is for.
    pub kind: ZoneKind,
    /// How bad it is to be in it.
    pub level: AlertLevel,
    /// It begins at this altitude, in metres; `None`: at the ground.
    pub lower_m: Option<f64>,
    /// It ends at this altitude, in metres; `None`: nowhere.
    pub upper_m: Option<f64>,
}

/// Zones and the index over them. Immutable: to change a zone, build a new set and swap it in.
#[derive(Debug)]
pub struct ZoneSet {
    zones: Vec<Zone>,
    /// Altitude limits in centimetres, beside the zones so that a check touches 8 bytes of each.
    bands: Vec<(i32, i32)>,
    /// Kept for the plain loop and for drawing.
    polygons: Vec<Polygon>,
    grid: Grid,
}

/// One polygon of one zone; its rings as edges.
#[derive(Debug, Clone)]
struct Polygon {
    zone: u32,
    edges: Vec<Edge>,
    min: Point,
    max: Point,
}

/// A point in units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    x: i32,
    y: i32,
}

/// An edge that goes up (north), or east if it is level: `a.y < b.y`, or `a.y == b.y && a.x < b.x`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    a: Point,
    b: Point,
}

impl ZoneSet {
    /// A set without zones.
    pub fn empty() -> Self {
        Self::build(Vec::new(), Vec::new(), CELLS_MAX)
    }

    /// Reads a GeoJSON FeatureCollection of Polygons and MultiPolygons.
    ///
    /// Properties: `id` (else the feature's id, else its number), `name` (text or `{zh, en}`),
    /// `lower_m` / `lower`, `upper_m` / `upper` (metres), `kind` (`no_fly`, `notice`), `severity`.
    ///
    /// # Errors
    /// [`FleetError`] says which feature is unusable and why; nothing is skipped in silence.
    pub fn from_geojson(text: &str) -> Result<Self, FleetError> {
        let (zones, polygons) = geojson::read(text)?;
        Ok(Self::build(zones, polygons, CELLS_MAX))
    }

    fn build(zones: Vec<Zone>, polygons: Vec<Polygon>, cells_max: i64) -> Self {
        let bands = zones
            .iter()
            .map(|zone| {
                (
                    zone.lower_m.map_or(i32::MIN, centimetres),
                    zone.upper_m.map_or(i32::MAX, centimetres),
                )
            })
            .collect();
        let grid = Grid::build(&polygons, cells_max);
        Self { zones, bands, polygons, grid }
    }

    /// The zones in order of their index.
    pub fn zones(&self) -> &[Zone] {
        &self.zones
    }

    /// One zone.
    pub fn get(&self, index: ZoneIndex) -> Option<&Zone> {
        self.zones.get(index.0 as usize)
    }

    /// How many zones there are.
    pub fn len(&self) -> usize {
        self.zones.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.zones.is_empty()
    }

    /// What the index takes: cells, entries, edges and bytes.
    pub fn index_size(&self) -> IndexSize {
        self.grid.size()
    }

    /// The zones that hold this point, in ascending order, each once.
    pub fn hits(&self, latitude: f64, longitude: f64, altitude_m: Option<f64>) -> Vec<ZoneIndex> {
        let mut hits = Vec::new();
        self.hits_into(latitude, longitude, altitude_m, &mut hits);
        hits
    }

    /// As [`Self::hits`], into a list that is cleared first: nothing is allocated once it has room.
    pub fn hits_into(
        &self,
        latitude: f64,
        longitude: f64,
        altitude_m: Option<f64>,
        hits: &mut Vec<ZoneIndex>,
    ) {
        hits.clear();
        let Some(point) = Point::from_degrees(latitude, longitude) else { return };
        match altitude_m.filter(|altitude| !altitude.is_nan()).map(centimetres) {
            None => self.grid.visit(point, |_| true, |zone| hits.push(ZoneIndex(zone))),
            Some(altitude) => self.grid.visit(
                point,
                |zone| {
                    let (lower, upper) = self.bands[zone as usize];
                    // Not `&&`: the limits are as good as random, and a branch on them is not.
                    (lower <= altitude) & (altitude <= upper)
                },
                |zone| hits.push(ZoneIndex(zone)),
            ),
        }
        // Both lists of a cell are in order, so this is nearly always so already.
        if !hits.windows(2).all(|pair| pair[0] < pair[1]) {
            hits.sort_unstable();
            hits.dedup();
        }
    }

    /// As [`Self::hits`], by a loop over every edge of every zone: what the index is held against.
    pub fn hits_by_brute_force(
        &self,
        latitude: f64,
        longitude: f64,
        altitude_m: Option<f64>,
    ) -> Vec<ZoneIndex> {
        let Some(point) = Point::from_degrees(latitude, longitude) else { return Vec::new() };
        let altitude = altitude_m.filter(|altitude| !altitude.is_nan()).map(centimetres);
        let mut hits: Vec<ZoneIndex> = self
            .polygons
            .iter()
            .filter(|polygon| {
                let (lower, upper) = self.bands[polygon.zone as usize];
                altitude.is_none_or(|altitude| lower <= altitude && altitude <= upper)
                    && polygon.holds(point)
            })
            .map(|polygon| ZoneIndex(polygon.zone))
            .collect();
        hits.dedup();
        hits
    }
}

/// What an index takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexSize {
    /// Cells of the grid.
    pub cells: usize,
    /// Polygons listed as covering a cell whole.
    pub inside_entries: usize,
    /// Polygons listed as crossing a cell.
    pub border_entries: usize,
    /// Edges kept in border cells, repeats counted.
    pub edges: usize,
    /// Memory of all these.
    pub bytes: usize,
}

impl Point {
    fn from_degrees(latitude: f64, longitude: f64) -> Option<Self> {
        let on_earth = (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude);
        on_earth.then(|| Self { x: units(longitude), y: units(latitude) })
    }
}

impl Edge {
    fn new(from: Point, to: Point) -> Option<Self> {
        let upwards = (from.y, from.x) < (to.y, to.x);
        (from != to).then_some(if upwards {
            Self { a: from, b: to }
        } else {
            Self { a: to, b: from }
        })
    }

    /// The two products whose order says on which side of the edge `(x, y)` lies: the first is
    /// greater to the west, the second to the east, and they are equal on the line.
    ///
    /// Each is at most 3.6e9 * 1.8e9 < 2^63, so none can overflow; their difference could.
    fn sides(&self, x: i64, y: i64) -> (i64, i64) {
        let (ax, ay) = (i64::from(self.a.x), i64::from(self.a.y));
        let (dx, dy) = (i64::from(self.b.x) - ax, i64::from(self.b.y) - ay);
        (dx * (y - ay), dy * (x - ax))
    }

    /// Whether a level line at `y`, taken a hair north, crosses this edge.
    fn straddles_y(&self, y: i64) -> bool {
        i64::from(self.a.y) <= y && y < i64::from(self.b.y)
    }

    /// Whether a vertical line at `x`, taken a hair east, crosses this edge.
    fn straddles_x(&self, x: i64) -> bool {
        (i64::from(self.a.x) <= x) != (i64::from(self.b.x) <= x)
    }

    /// Whether the point lies on this edge, ends included.
    fn holds(&self, point: Point) -> bool {
        let (west, east) = (self.a.x.min(self.b.x), self.a.x.max(self.b.x));
        self.a.y <= point.y && point.y <= self.b.y && west <= point.x && point.x <= east && {
            let (left, right) = self.sides(i64::from(point.x), i64::from(point.y));
            left == right
        }
    }
}

impl Polygon {
    fn new(zone: u32, edges: Vec<Edge>) -> Option<Self> {
        let first = edges.first()?.a;
        let (min, max) =
            edges.iter().flat_map(|edge| [edge.a, edge.b]).fold((first, first), |(min, max), p| {
                (
                    Point { x: min.x.min(p.x), y: min.y.min(p.y) },
                    Point { x: max.x.max(p.x), y: max.y.max(p.y) },
                )
            });
        Some(Self { zone, edges, min, max })
    }

    /// Even-odd by a ray to the east, borders included: the plain loop.
    fn holds(&self, point: Point) -> bool {
        let (x, y) = (i64::from(point.x), i64::from(point.y));
        let mut inside = false;
        for edge in &self.edges {
            if edge.holds(point) {
                return true;
            }
            let (west, east) = edge.sides(x, y);
            inside ^= edge.straddles_y(y) && west > east;
        }
        inside
    }
}

/// Degrees to units, the nearest one. `as` cuts towards zero, so half a unit is added away from it.
fn units(degrees: f64) -> i32 {
    (degrees * UNITS_PER_DEGREE + 0.5_f64.copysign(degrees)) as i32
}

/// Metres to centimetres, the nearest one; `as` saturates far beyond any altitude.
fn centimetres(metres: f64) -> i32 {
    (metres * 100.0 + 0.5_f64.copysign(metres)) as i32
}

#[cfg(test)]
mod tests;

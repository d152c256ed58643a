//! A flat piece of Earth in metres, good to a few per mille over the thirty kilometres of the demo.

use weir_fleet::ZoneSet;

const ORIGIN: (f64, f64) = (22.53, 113.95);
const METRES_PER_DEGREE_NORTH: f64 = 111_195.0;
/// cos(22.53 degrees) times the above; a constant, so that no libm has a say.
const METRES_PER_DEGREE_EAST: f64 = 102_708.6;

/// A point on the plane: metres east and north of the origin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spot {
    pub(super) east_m: f64,
    pub(super) north_m: f64,
}

impl Spot {
    pub(super) fn from_degrees(latitude: f64, longitude: f64) -> Self {
        Self {
            east_m: (longitude - ORIGIN.1) * METRES_PER_DEGREE_EAST,
            north_m: (latitude - ORIGIN.0) * METRES_PER_DEGREE_NORTH,
        }
    }

    pub(super) fn latitude(self) -> f64 {
        ORIGIN.0 + self.north_m / METRES_PER_DEGREE_NORTH
    }

    pub(super) fn longitude(self) -> f64 {
        ORIGIN.1 + self.east_m / METRES_PER_DEGREE_EAST
    }

    pub(super) fn distance_m(self, other: Self) -> f64 {
        let (east, north) = (other.east_m - self.east_m, other.north_m - self.north_m);
        (east * east + north * north).sqrt()
    }

    /// Degrees clockwise from north, 0 to 360.
    pub(super) fn bearing_to(self, other: Self) -> f64 {
        let (east, north) = (other.east_m - self.east_m, other.north_m - self.north_m);
        east.atan2(north).to_degrees().rem_euclid(360.0)
    }

    pub(super) fn moved(self, bearing: f64, metres: f64) -> Self {
        let (east, north) = bearing.to_radians().sin_cos();
        Self { east_m: self.east_m + east * metres, north_m: self.north_m + north * metres }
    }

    pub(super) fn towards(self, other: Self, part: f64) -> Self {
        Self {
            east_m: self.east_m + (other.east_m - self.east_m) * part,
            north_m: self.north_m + (other.north_m - self.north_m) * part,
        }
    }
}

/// Where missions may lead: land and water north of the bay's middle.
const FLY_BOX: [f64; 4] = [113.855, 22.503, 114.085, 22.600];
/// Kept from zones, for turns are arcs.
const MARGIN_M: f64 = 180.0;

/// Whether a drone may be here: in the box and clear of every zone at any height.
pub(super) fn is_free(spot: Spot, zones: &ZoneSet) -> bool {
    let [west, south, east, north] = FLY_BOX;
    let in_box =
        (west..=east).contains(&spot.longitude()) && (south..=north).contains(&spot.latitude());
    in_box
        && [(0.0, 0.0), (1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)].iter().all(
            |(east, north)| {
                let near = Spot {
                    east_m: spot.east_m + east * MARGIN_M,
                    north_m: spot.north_m + north * MARGIN_M,
                };
                zones.hits(near.latitude(), near.longitude(), None).is_empty()
            },
        )
}

/// Whether the straight way between two spots is free, looked at every 100 m.
pub(super) fn way_is_free(from: Spot, to: Spot, zones: &ZoneSet) -> bool {
    let pieces = (from.distance_m(to) / 100.0).ceil().max(1.0) as u32;
    (0..=pieces).all(|piece| is_free(from.towards(to, f64::from(piece) / f64::from(pieces)), zones))
}

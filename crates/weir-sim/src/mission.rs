//! Drones on missions: where one is, and its battery, as a function of seed, drone and time.
//!
//! A drone flies one mission per cycle: it climbs, passes its points, comes back, lands, and charges until
//! the next cycle begins. All of a cycle follows from its number, so any time can be asked for.

use crate::random::{mix, Random};

/// One cycle: flight and charging.
const CYCLE_S: f64 = 2_400.0;
/// The longest flight there is; the rest of a cycle is for charging.
const FLIGHT_S_MAX: f64 = 1_400.0;
const CLIMB_S: f64 = 20.0;
const SPEED_MPS: f64 = 12.0;
/// Percent of charge that a second in the air takes: 1,400 s leave 16 %.
const DRAIN_PER_S: f64 = 0.06;
/// Percent below which a battery is low.
pub const LOW_PERCENT: f64 = 20.0;
const METERS_PER_DEGREE: f64 = 111_195.0;
/// South-west corner and extent of the area, in degrees: the bay of the demonstration.
const AREA: [f64; 4] = [22.47, 113.80, 0.2, 0.26];
const POINTS_MAX: usize = 6;

/// What a drone is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// On the ground, at its charger.
    Charging,
    /// Going up.
    TakingOff,
    /// On its way along the points.
    Flying,
    /// On its way home.
    Returning,
    /// Coming down.
    Landing,
}

impl Status {
    /// Its word in events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Charging => "charging",
            Self::TakingOff => "taking_off",
            Self::Flying => "flying",
            Self::Returning => "returning",
            Self::Landing => "landing",
        }
    }
}

/// Where a drone is at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fix {
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// Metres above the ground.
    pub altitude_m: f64,
    /// Degrees clockwise from true north, under 360.
    pub heading: f64,
    /// Ground speed.
    pub speed_mps: f64,
    /// Percent of charge left.
    pub battery: f64,
    /// What it is doing.
    pub status: Status,
    /// Which mission, from 0.
    pub mission: u64,
}

/// A drone with its base.
#[derive(Debug, Clone)]
pub struct Drone {
    seed: u64,
    /// Metres east and north of the area's corner.
    base: [f64; 2],
    /// Seconds into its first cycle at the start.
    phase_s: f64,
}

impl Drone {
    /// Drone `index` of a seed.
    pub fn new(seed: u64, index: u32) -> Self {
        let seed = mix(seed ^ mix(u64::from(index) ^ 0x6472_6f6e_6573)); // "drones"
        let mut random = Random::new(seed, 0);
        let base = [random.between(0.2, 0.8), random.between(0.2, 0.8)];
        let base = [base[0] * AREA[3] * east_m_per_degree(), base[1] * AREA[2] * METERS_PER_DEGREE];
        Self { seed, base, phase_s: random.between(0.0, CYCLE_S) }
    }

    /// Where it is so many seconds after the start.
    pub fn at(&self, elapsed_s: f64) -> Fix {
        let time_s = elapsed_s + self.phase_s;
        let mission = (time_s / CYCLE_S).floor();
        let within_s = time_s - mission * CYCLE_S;
        let mission = mission as u64;
        let path = Path::new(self.seed, mission);
        let flight_s = path.length_m() / SPEED_MPS + 2.0 * CLIMB_S;
        let drained = DRAIN_PER_S * within_s.min(flight_s);
        let cruise_s = within_s - CLIMB_S;
        let (offset, heading, homeward) = path.along(cruise_s.max(0.0) * SPEED_MPS);
        let left_s = flight_s - within_s;
        let status = match () {
            () if left_s <= 0.0 => Status::Charging,
            () if cruise_s < 0.0 => Status::TakingOff,
            () if left_s < CLIMB_S => Status::Landing,
            () if homeward => Status::Returning,
            () => Status::Flying,
        };
        let up = (within_s.min(left_s) / CLIMB_S).clamp(0.0, 1.0);
        let charged = match status {
            Status::Charging => DRAIN_PER_S * flight_s * (-left_s / (CYCLE_S - flight_s)),
            _ => 0.0,
        };
        let cruising = matches!(status, Status::Flying | Status::Returning);
        Fix {
            latitude: AREA[0] + (self.base[1] + offset[1]) / METERS_PER_DEGREE,
            longitude: AREA[1] + (self.base[0] + offset[0]) / east_m_per_degree(),
            altitude_m: path.altitude_m * up,
            heading,
            speed_mps: if cruising { SPEED_MPS } else { 0.0 },
            battery: (100.0 - drained + charged).clamp(0.0, 100.0),
            status,
            mission,
        }
    }
}

fn east_m_per_degree() -> f64 {
    METERS_PER_DEGREE * (AREA[0] + 0.5 * AREA[2]).to_radians().cos()
}

/// The points of one mission, in metres from the base, which is its first and last.
struct Path {
    points: [[f64; 2]; POINTS_MAX + 2],
    count: usize,
    altitude_m: f64,
}

impl Path {
    fn new(seed: u64, mission: u64) -> Self {
        let mut random = Random::new(seed, mission + 1);
        let count = 3 + random.below(POINTS_MAX - 2);
        let mut path = Self { points: [[0.0; 2]; 8], count: count + 2, altitude_m: 0.0 };
        path.altitude_m = random.between(50.0, 118.0);
        for point in &mut path.points[1..=count] {
            let (radius, angle) =
                (random.between(300.0, 4_000.0), random.between(0.0, std::f64::consts::TAU));
            *point = [radius * angle.sin(), radius * angle.cos()];
        }
        // As long as the battery allows, whatever was drawn.
        let length_max = (FLIGHT_S_MAX - 2.0 * CLIMB_S) * SPEED_MPS;
        let scale = (length_max / path.length_m()).min(1.0);
        path.points.iter_mut().flatten().for_each(|metres| *metres *= scale);
        path
    }

    fn legs(&self) -> impl Iterator<Item = ([f64; 2], [f64; 2], f64)> + '_ {
        self.points[..self.count].windows(2).map(|pair| {
            let length = (pair[1][0] - pair[0][0]).hypot(pair[1][1] - pair[0][1]);
            (pair[0], pair[1], length)
        })
    }

    fn length_m(&self) -> f64 {
        self.legs().map(|(_, _, length)| length).sum()
    }

    /// Place, heading, and whether it is on the last leg, so many metres along.
    fn along(&self, metres: f64) -> ([f64; 2], f64, bool) {
        let mut left = metres;
        let last = self.count - 2;
        for (leg, (from, to, length)) in self.legs().enumerate() {
            if left < length || leg == last {
                let part = (left / length.max(1.0)).min(1.0);
                let [east, north] = [to[0] - from[0], to[1] - from[1]];
                let heading = east.atan2(north).to_degrees().rem_euclid(360.0);
                let at = [from[0] + east * part, from[1] + north * part];
                return (at, heading, leg == last);
            }
            left -= length;
        }
        ([0.0; 2], 0.0, true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_drone_flies_low_on_battery_sometimes_and_is_full_at_each_start() {
        let mut low = 0;
        for index in 0..200 {
            let drone = Drone::new(1, index);
            let least = (0..2_400).map(|s| drone.at(f64::from(s)).battery).fold(100.0, f64::min);
            assert!(least > 10.0, "{index}: {least}");
            low += u32::from(least < LOW_PERCENT);
            let fresh = drone.at(CYCLE_S - drone.phase_s + 0.001);
            assert!(fresh.battery > 99.9 && fresh.status == Status::TakingOff, "{fresh:?}");
        }
        assert!(low > 10, "{low} of 200 came under {LOW_PERCENT} %");
    }

    #[test]
    fn every_status_comes_in_its_order() {
        let drone = Drone::new(3, 5);
        let from = CYCLE_S - drone.phase_s;
        let mut seen: Vec<Status> =
            (0..2_400).map(|s| drone.at(from + f64::from(s) + 0.5).status).collect();
        seen.dedup();
        use Status::{Charging, Flying, Landing, Returning, TakingOff};
        assert_eq!(seen, [TakingOff, Flying, Returning, Landing, Charging]);
    }

    proptest! {
        #[test]
        fn a_drone_moves_without_jumps_inside_the_ranges(seed: u64, index in 0..1_000_u32, at in 0.0..1e6) {
            let drone = Drone::new(seed, index);
            let (one, next) = (drone.at(at), drone.at(at + 0.5));
            let north = (one.latitude - next.latitude) * METERS_PER_DEGREE;
            let east = (one.longitude - next.longitude) * east_m_per_degree();
            prop_assert!(north.hypot(east) < SPEED_MPS * 0.5 + 0.01, "{one:?} {next:?}");
            prop_assert!((one.altitude_m - next.altitude_m).abs() < 118.0 * 0.5 / CLIMB_S + 0.01);
            for fix in [one, next] {
                prop_assert!((0.0..360.0).contains(&fix.heading) && (0.0..=100.0).contains(&fix.battery));
                prop_assert!((0.0..120.0).contains(&fix.altitude_m));
            }
        }
    }
}

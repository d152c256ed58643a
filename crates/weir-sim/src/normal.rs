//! The normal distribution cut to a range: its distribution function, and the map that makes it.

use std::sync::LazyLock;

use crate::sensor::{Normal, SensorKind};

/// Upper tail of the standard normal, to about 1e-15 of its value.
///
/// The series of Marsaglia ("Evaluating the normal distribution", J. Stat. Soft. 11(4), 2004) near the
/// centre, the continued fraction of Laplace beyond.
pub fn upper_tail(x: f64) -> f64 {
    if x < 0.0 {
        return 1.0 - upper_tail(-x);
    }
    let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if x < 2.5 {
        let (mut term, mut sum, mut odd) = (x, x, 1.0);
        while term > 1e-17 * sum {
            odd += 2.0;
            term *= x * x / odd;
            sum += term;
        }
        return 0.5 - density * sum;
    }
    let fraction = (1..=80).rev().fold(x, |below, level| x + f64::from(level) / below);
    density / fraction
}

impl Normal {
    /// The share of readings above `value`.
    pub fn above(&self, value: f64) -> f64 {
        let tail = |value: f64| upper_tail((value - self.mean) / self.sigma);
        if value <= self.min {
            return 1.0;
        }
        if value >= self.max {
            return 0.0;
        }
        let beyond = tail(self.max);
        (tail(value) - beyond) / (tail(self.min) - beyond)
    }
}

/// Latent values beyond this are as good as at it: one in 10^15.
const LATENT_MAX: f64 = 8.0;
const STEPS_PER_UNIT: f64 = 32.0;
const POINTS: usize = 513;

/// Maps a standard normal to the distribution of a sensor, rising: the inverse of its distribution
/// function after that of the normal. Straight lines between points 1/32 apart; what they miss is
/// under 0.002 hPa for pressure and less for the others.
pub(crate) struct Marginal {
    points: [f64; POINTS],
}

impl Marginal {
    /// That of a kind; `None` for the switch. Computed once, for all kinds together.
    pub(crate) fn of(kind: SensorKind) -> Option<&'static Marginal> {
        static ALL: LazyLock<[Option<Marginal>; 5]> = LazyLock::new(|| {
            SensorKind::ALL.map(|kind| kind.normal().map(|normal| Marginal::new(&normal)))
        });
        ALL[kind as usize].as_ref()
    }

    fn new(normal: &Normal) -> Self {
        let tail = |value: f64| upper_tail((value - normal.mean) / normal.sigma);
        // As `Normal::above`, with the tails of the range computed once: most of the work.
        let beyond = tail(normal.max);
        let within = tail(normal.min) - beyond;
        let mut points = [0.0; POINTS];
        let mut low = normal.min;
        for (at, point) in points.iter_mut().enumerate() {
            let latent = at as f64 / STEPS_PER_UNIT - LATENT_MAX;
            let share = upper_tail(latent);
            // Rising, so the last point bounds this one from below.
            let mut high = normal.max;
            for _ in 0..48 {
                let middle = 0.5 * (low + high);
                if (tail(middle) - beyond) / within > share {
                    low = middle;
                } else {
                    high = middle;
                }
            }
            *point = 0.5 * (low + high);
        }
        Self { points }
    }

    pub(crate) fn value(&self, latent: f64) -> f64 {
        let at = (latent.clamp(-LATENT_MAX, LATENT_MAX) + LATENT_MAX) * STEPS_PER_UNIT;
        let below = (at as usize).min(POINTS - 2);
        let (low, high) = (self.points[below], self.points[below + 1]);
        low + (high - low) * (at - below as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_tail_is_that_of_the_tables() {
        // Abramowitz and Stegun, table 26.1 and 26.2.
        for (x, tail) in [
            (0.0, 0.5),
            (1.0, 0.158_655_253_931_457),
            (1.96, 0.024_997_895_148_220),
            (2.5, 0.006_209_665_325_776),
            (3.0, 0.001_349_898_031_630),
            (5.0, 2.866_515_718_791_94e-7),
            (8.0, 6.220_960_574_271_78e-16),
        ] {
            assert!((upper_tail(x) / tail - 1.0).abs() < 1e-11, "{x}: {}", upper_tail(x));
            assert!((upper_tail(-x) - (1.0 - tail)).abs() < 1e-14);
        }
    }

    #[test]
    fn a_marginal_rises_from_end_to_end_of_its_range_and_inverts() {
        for kind in SensorKind::ALL {
            let (Some(normal), Some(marginal)) = (kind.normal(), Marginal::of(kind)) else {
                continue;
            };
            let mut last = normal.min;
            for step in -900..=900 {
                let latent = f64::from(step) / 100.0;
                let value = marginal.value(latent);
                assert!(value >= last && value <= normal.max, "{kind:?} {latent} {value}");
                last = value;
                if latent.abs() < 4.0 {
                    let (wanted, got) = (upper_tail(latent), normal.above(value));
                    assert!((wanted - got).abs() < 2e-5, "{kind:?} {latent}: {wanted} {got}");
                }
            }
        }
    }
}

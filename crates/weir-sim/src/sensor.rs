//! The five sensor kinds of spec 004: distributions, ranges, alarms.
//!
//! | kind | distribution | range | alarm |
//! |---|---|---|---|
//! | temperature | normal, 25 °C, 5 | -10 to 60 | > 50 |
//! | humidity | normal, 60 %, 10 | 0 to 100 | < 20 |
//! | pressure | normal, 1013 hPa, 20 | 950 to 1050 | > 1040 |
//! | switch | Bernoulli, 0.8 | OFF, ON | toggles too often |
//! | current | normal, 2.5 A, 0.5 | 0 to 10 | > 8 |
//!
//! Values are smooth in time and still have the specified distribution: each is
//! `mean + r (last - mean) + sigma sqrt(1 - r²) e`, whose stationary deviation is `sigma` for every `r`.
//! (Smoothing as the specification's Go code does it would shrink sigma to 0.42 of it.) What leaves the
//! range is drawn again. A switch keeps its state and is drawn anew in one reading of twenty.

use crate::random::Random;

/// How much of its last value a sensor keeps from reading to reading.
const KEEP: f64 = 0.95;
/// How often a switch is drawn anew.
const SWITCH_REDRAW: f64 = 0.05;
/// Draws outside the range before the value is put to its end. Pressure leaves it most often: a third
/// of the draws at worst, so 32 in a row practically never.
const REDRAWS_MAX: u32 = 32;

/// What a sensor measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SensorKind {
    /// Air temperature.
    Temperature,
    /// Relative humidity.
    Humidity,
    /// Air pressure.
    Pressure,
    /// A switch.
    Switch,
    /// Electric current.
    Current,
}

/// The parameters of a sensor with a normal distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normal {
    /// Centre.
    pub mean: f64,
    /// Standard deviation.
    pub sigma: f64,
    /// Least value.
    pub min: f64,
    /// Greatest value.
    pub max: f64,
}

impl SensorKind {
    /// All five.
    pub const ALL: [Self; 5] =
        [Self::Temperature, Self::Humidity, Self::Pressure, Self::Switch, Self::Current];

    /// The `sensor` of its readings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Temperature => "temperature",
            Self::Humidity => "humidity",
            Self::Pressure => "pressure",
            Self::Switch => "switch",
            Self::Current => "current",
        }
    }

    /// The unit of its values; a switch has none.
    pub const fn unit(self) -> Option<&'static str> {
        match self {
            Self::Temperature => Some("°C"),
            Self::Humidity => Some("%"),
            Self::Pressure => Some("hPa"),
            Self::Switch => None,
            Self::Current => Some("A"),
        }
    }

    /// Its distribution; `None` for the switch.
    pub const fn normal(self) -> Option<Normal> {
        match self {
            Self::Temperature => Some(Normal { mean: 25.0, sigma: 5.0, min: -10.0, max: 60.0 }),
            Self::Humidity => Some(Normal { mean: 60.0, sigma: 10.0, min: 0.0, max: 100.0 }),
            Self::Pressure => Some(Normal { mean: 1013.0, sigma: 20.0, min: 950.0, max: 1050.0 }),
            Self::Switch => None,
            Self::Current => Some(Normal { mean: 2.5, sigma: 0.5, min: 0.0, max: 10.0 }),
        }
    }

    /// Probability that a switch is on.
    pub const SWITCH_ON: f64 = 0.8;

    /// Whether this value is one to be told about.
    pub fn is_alarm(self, value: f64) -> bool {
        match self {
            Self::Temperature => value > 50.0,
            Self::Humidity => value < 20.0,
            Self::Pressure => value > 1040.0,
            Self::Switch => false,
            Self::Current => value > 8.0,
        }
    }
}

/// One sensor and its last value.
#[derive(Debug, Clone)]
pub struct Sensor {
    kind: SensorKind,
    random: Random,
    /// 1 or 0 for a switch.
    value: f64,
}

impl Sensor {
    /// A sensor whose first value already has the stationary distribution.
    pub fn new(kind: SensorKind, mut random: Random) -> Self {
        let value = match kind.normal() {
            Some(normal) => draw(&mut random, normal, normal.mean, normal.sigma),
            None => f64::from(u8::from(random.chance(SensorKind::SWITCH_ON))),
        };
        Self { kind, random, value }
    }

    /// What it measures.
    pub const fn kind(&self) -> SensorKind {
        self.kind
    }

    /// Measures; a switch gives 1 or 0.
    pub fn read(&mut self) -> f64 {
        match self.kind.normal() {
            Some(normal) => {
                let centre = normal.mean + KEEP * (self.value - normal.mean);
                let sigma = normal.sigma * (1.0 - KEEP * KEEP).sqrt();
                self.value = draw(&mut self.random, normal, centre, sigma);
            }
            None if self.random.chance(SWITCH_REDRAW) => {
                self.value = f64::from(u8::from(self.random.chance(SensorKind::SWITCH_ON)));
            }
            None => {}
        }
        self.value
    }
}

fn draw(random: &mut Random, normal: Normal, centre: f64, sigma: f64) -> f64 {
    let range = normal.min..=normal.max;
    let drawn = (0..REDRAWS_MAX)
        .map(|_| centre + sigma * random.normal())
        .find(|value| range.contains(value));
    drawn.unwrap_or_else(|| centre.clamp(normal.min, normal.max))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and deviation over many sensors, each read a few times: independent samples.
    fn moments(kind: SensorKind) -> (f64, f64, f64, f64) {
        let values: Vec<f64> = (0..20_000)
            .map(|stream| {
                let mut sensor = Sensor::new(kind, Random::new(3, stream));
                (0..20).fold(0.0, |_, _| sensor.read())
            })
            .collect();
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        let fold = |start: f64, pick: fn(f64, f64) -> f64| values.iter().copied().fold(start, pick);
        (mean, variance.sqrt(), fold(f64::MAX, f64::min), fold(f64::MIN, f64::max))
    }

    #[test]
    fn sensors_have_the_specified_distribution_and_stay_in_range() {
        for kind in SensorKind::ALL {
            let (mean, deviation, least, greatest) = moments(kind);
            match kind.normal() {
                Some(normal) => {
                    // Pressure loses its upper tail to the range, so its bounds are wider.
                    let slack = if kind == SensorKind::Pressure { 0.15 } else { 0.04 };
                    assert!((mean - normal.mean).abs() < slack * normal.sigma, "{kind:?} {mean}");
                    assert!((deviation / normal.sigma - 1.0).abs() < slack, "{kind:?} {deviation}");
                    assert!(least >= normal.min && greatest <= normal.max, "{kind:?}");
                }
                None => assert!((mean - SensorKind::SWITCH_ON).abs() < 0.015, "{mean}"),
            }
        }
    }

    #[test]
    fn alarms_are_those_of_the_specification() {
        for (kind, quiet, alarm) in [
            (SensorKind::Temperature, 50.0, 50.1),
            (SensorKind::Humidity, 20.0, 19.9),
            (SensorKind::Pressure, 1040.0, 1040.1),
            (SensorKind::Current, 8.0, 8.1),
        ] {
            assert!(!kind.is_alarm(quiet) && kind.is_alarm(alarm), "{kind:?}");
        }
    }
}

//! Trends of spec 004: day and night for temperature, season for humidity, weather for pressure, use for
//! switches, load for current.
//!
//! Each is a curve with mean 0 and deviation 1 over its periods. Of strength `s`, it makes `s²` of the
//! variance and leaves `1 - s²` to the sensor, so that mean and deviation over whole periods are the
//! specification's with trends as without. Hours are UTC, 15:00 is the warmest.

use std::f64::consts::{PI, SQRT_2};

use weir_protocol::types::TimestampMs;

use crate::random::Random;
use crate::sensor::{Influence, SensorKind};

const HOUR_MS: f64 = 3_600_000.0;
/// Days after 1 January at which it is the most humid.
const HUMID_DAY: f64 = 200.0;
const YEAR_DAYS: f64 = 365.242_5;
/// Days that a weather takes to pass: of no common measure, so it does not repeat.
const WEATHER_DAYS: [f64; 3] = [2.3, 5.7, 11.9];
/// The two humps of a working day: `a²/2 + b²/2 = 1`.
const LOAD: [f64; 2] = [1.2, 0.748_331_477_354_788_3];

/// The trends of a site.
#[derive(Debug, Clone)]
pub struct Trends {
    strength: f64,
    own: f64,
    weather_phase: [f64; 3],
}

impl Trends {
    /// Trends of this strength, 0 to 1, over sensors of this variation, 0 to 1. The seed makes the weather.
    pub fn new(seed: u64, strength: f64, variation: f64) -> Self {
        let mut random = Random::new(seed, u64::MAX);
        let weather_phase = [0; 3].map(|_| random.between(0.0, 2.0 * PI));
        Self { strength, own: variation * (1.0 - strength * strength).sqrt(), weather_phase }
    }

    /// The curve of a kind at a time, in deviations.
    pub fn curve(&self, kind: SensorKind, at: TimestampMs) -> f64 {
        let hours = at.get() as f64 / HOUR_MS;
        let days = hours / 24.0;
        let day = |hour: f64| 2.0 * PI * (hours - hour) / 24.0;
        match kind {
            SensorKind::Temperature => SQRT_2 * day(9.0).sin(),
            SensorKind::Humidity => SQRT_2 * (2.0 * PI * (days - HUMID_DAY) / YEAR_DAYS).cos(),
            SensorKind::Pressure => {
                let wave =
                    |(days_long, phase): (&f64, &f64)| (2.0 * PI * days / days_long + phase).sin();
                let waves = WEATHER_DAYS.iter().zip(&self.weather_phase).map(wave);
                (2.0_f64 / 3.0).sqrt() * waves.sum::<f64>()
            }
            SensorKind::Switch => SQRT_2 * day(8.0).sin(),
            SensorKind::Current => LOAD[0] * day(8.0).sin() + LOAD[1] * (2.0 * day(7.0)).sin(),
        }
    }

    /// What they do to a sensor of this kind.
    pub fn influence(&self, kind: SensorKind, at: TimestampMs) -> Influence {
        let shift = if self.strength > 0.0 { self.strength * self.curve(kind, at) } else { 0.0 };
        Influence { own: self.own, shift }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_curve_has_mean_zero_and_deviation_one() {
        let trends = Trends::new(3, 1.0, 1.0);
        // 40 years in steps that meet every hour of the day.
        for kind in SensorKind::ALL {
            let count = 350_000;
            let values: Vec<f64> =
                (0..count).map(|step| trends.curve(kind, TimestampMs(step * 3_607_000))).collect();
            let mean = values.iter().sum::<f64>() / count as f64;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count as f64;
            assert!(mean.abs() < 0.02, "{kind:?} {mean}");
            assert!((variance - 1.0).abs() < 0.02, "{kind:?} {variance}");
        }
    }

    #[test]
    fn trends_are_seen_and_strength_zero_is_none() {
        let trends = Trends::new(3, 0.6, 1.0);
        let midnight = TimestampMs(1_754_179_200_000);
        let at = |hour: i64| midnight.plus_ms(hour * 3_600_000);
        let warm = trends.influence(SensorKind::Temperature, at(15)).shift;
        let cold = trends.influence(SensorKind::Temperature, at(3)).shift;
        assert!(warm > 0.8 && cold < -0.8, "{warm} {cold}");
        assert!((trends.influence(SensorKind::Current, at(3)).own - 0.8).abs() < 1e-12);
        assert_eq!(Trends::new(3, 0.0, 1.0).influence(SensorKind::Current, at(3)), Influence::NONE);
    }
}

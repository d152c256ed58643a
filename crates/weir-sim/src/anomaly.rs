//! Injected anomalies, each labelled: the truth that detectors are measured against.
//!
//! An anomaly is laid over the readings of a healthy sensor, after smoothing, and does not touch its
//! state. So every alarm of the specification can be reached, values leave their range only while an
//! anomaly lasts, and the readings around it are those that would have come without it.
//!
//! | kind | readings | what it does | magnitude |
//! |---|---|---|---|
//! | spike | 1 | value times 2 to 5; humidity divided | the factor |
//! | drift | 20 to 60 | moves away from the value, towards the alarm, evenly | deviations at its end, 4 to 8 |
//! | stuck | 10 to 40 | repeats its first value | that value |
//! | gap | 3 to 20 | no reading is sent | readings left out |
//! | noise | 10 to 40 | more deviation | added deviations, 3 to 6 |
//! | toggling | 10 to 30 | a switch changes with every reading | 1 |

use weir_protocol::types::TimestampMs;

use crate::random::Random;
use crate::sensor::SensorKind;

/// What goes wrong with a sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnomalyKind {
    /// One value far off.
    Spike,
    /// A slow departure.
    Drift,
    /// The same value again and again.
    Stuck,
    /// Silence.
    Gap,
    /// Scatter.
    Noise,
    /// A switch that never rests.
    Toggling,
}

impl AnomalyKind {
    /// All six.
    pub const ALL: [Self; 6] =
        [Self::Spike, Self::Drift, Self::Stuck, Self::Gap, Self::Noise, Self::Toggling];

    /// Its name in labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Spike => "spike",
            Self::Drift => "drift",
            Self::Stuck => "stuck",
            Self::Gap => "gap",
            Self::Noise => "noise",
            Self::Toggling => "toggling",
        }
    }

    fn of_sensor(kind: SensorKind) -> &'static [Self] {
        match kind {
            SensorKind::Switch => &[Self::Stuck, Self::Gap, Self::Toggling],
            _ => &[Self::Spike, Self::Drift, Self::Stuck, Self::Gap, Self::Noise],
        }
    }

    /// Least and most readings that one lasts.
    const fn readings(self) -> (u32, u32) {
        match self {
            Self::Spike => (1, 1),
            Self::Drift => (20, 60),
            Self::Stuck | Self::Noise => (10, 40),
            Self::Gap => (3, 20),
            Self::Toggling => (10, 30),
        }
    }
}

/// What the ground truth says about one anomaly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Label {
    /// What went wrong.
    pub kind: AnomalyKind,
    /// Event time of the first reading concerned.
    pub start: TimestampMs,
    /// Event time of the last.
    pub end: TimestampMs,
    /// How strong; the unit depends on the kind.
    pub magnitude: f64,
    /// How many readings, sent or left out.
    pub readings: u32,
}

/// One that is on.
#[derive(Debug, Clone)]
struct Active {
    label: Label,
    left: u32,
    /// The value that sticks, or toggles.
    held: f64,
}

/// Decides when a sensor has an anomaly, and lays it over its readings.
#[derive(Debug, Clone)]
pub(crate) struct Injector {
    random: Random,
    /// Boxed, for most sensors are healthy at most times and there are many sensors.
    active: Option<Box<Active>>,
    /// Healthy readings until the next begins; `u32::MAX`: none ever.
    wait: u32,
}

/// What an injector made of a reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Overlaid {
    /// `None`: not sent.
    pub(crate) value: Option<f64>,
    /// An anomaly of which this is the last reading.
    pub(crate) ended: Option<Label>,
}

impl Injector {
    /// `rate` is the chance of a healthy reading that an anomaly begins with it.
    pub(crate) fn new(mut random: Random, rate: f64) -> Self {
        let wait = wait(&mut random, rate);
        Self { random, active: None, wait }
    }

    /// Takes another rate from now on; what is on goes on.
    pub(crate) fn set_rate(&mut self, rate: f64) {
        self.wait = wait(&mut self.random, rate);
    }

    #[inline]
    pub(crate) fn overlay(
        &mut self,
        sensor: SensorKind,
        rate: f64,
        value: f64,
        at: TimestampMs,
    ) -> Overlaid {
        if self.active.is_none() {
            if self.wait > 0 {
                // At no rate the wait stays for ever.
                self.wait -= u32::from(self.wait != u32::MAX);
                return Overlaid { value: Some(value), ended: None };
            }
            self.wait = wait(&mut self.random, rate);
            self.active = Some(Box::new(self.begin(sensor, value, at)));
        }
        self.go_on(sensor, value, at)
    }

    fn begin(&mut self, sensor: SensorKind, value: f64, at: TimestampMs) -> Active {
        let kinds = AnomalyKind::of_sensor(sensor);
        let kind = kinds[self.random.below(kinds.len())];
        let (least, most) = kind.readings();
        let readings = least + self.random.below((most - least + 1) as usize) as u32;
        let magnitude = match kind {
            AnomalyKind::Spike => self.random.between(2.0, 5.0),
            AnomalyKind::Drift => self.random.between(4.0, 8.0),
            AnomalyKind::Stuck => value,
            AnomalyKind::Gap => f64::from(readings),
            AnomalyKind::Noise => self.random.between(3.0, 6.0),
            AnomalyKind::Toggling => 1.0,
        };
        Active {
            label: Label { kind, start: at, end: at, magnitude, readings },
            left: readings,
            held: value,
        }
    }

    fn go_on(&mut self, sensor: SensorKind, value: f64, at: TimestampMs) -> Overlaid {
        let Some(active) = self.active.as_deref_mut() else {
            return Overlaid { value: Some(value), ended: None };
        };
        active.left -= 1;
        active.label.end = at;
        let Label { magnitude, readings, .. } = active.label;
        let sigma = sensor.normal().map_or(0.0, |normal| normal.sigma);
        let downwards = sensor == SensorKind::Humidity;
        let value = match active.label.kind {
            AnomalyKind::Spike if downwards => Some(value / magnitude),
            AnomalyKind::Spike => Some(value * magnitude),
            AnomalyKind::Drift => {
                let way = f64::from(readings - active.left) / f64::from(readings);
                let offset = magnitude * sigma * way;
                Some(if downwards { value - offset } else { value + offset })
            }
            AnomalyKind::Stuck => Some(active.held),
            AnomalyKind::Gap => None,
            AnomalyKind::Noise => Some(value + magnitude * sigma * self.random.gaussian()),
            AnomalyKind::Toggling => {
                active.held = 1.0 - active.held;
                Some(active.held)
            }
        };
        let ended = (active.left == 0).then_some(active.label);
        if ended.is_some() {
            self.active = None;
        }
        Overlaid { value, ended }
    }

    /// The anomaly that is on, as far as it has come, for the end of a run.
    pub(crate) fn unfinished(&self) -> Option<Label> {
        let active = self.active.as_deref()?;
        let readings = active.label.readings - active.left;
        Some(Label { readings, ..active.label })
    }
}

/// How many healthy readings come before one that is not: geometric, drawn at once.
fn wait(random: &mut Random, rate: f64) -> u32 {
    if rate <= 0.0 {
        return u32::MAX;
    }
    let readings = (1.0 - random.unit()).ln() / (1.0 - rate.min(0.999_999)).ln();
    readings.min(f64::from(u32::MAX - 1)) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn anomalies_begin_at_the_rate() {
        let mut random = Random::new(1, 0);
        for rate in [0.1, 0.01, 0.001] {
            let waits = (0..20_000).map(|_| f64::from(wait(&mut random, rate)));
            let mean = waits.sum::<f64>() / 20_000.0;
            let expected = (1.0 - rate) / rate;
            // Five standard errors; a geometric deviates by about its mean.
            assert!((mean / expected - 1.0).abs() < 0.036, "{rate}: {mean}");
        }
        assert_eq!(wait(&mut random, 0.0), u32::MAX);
    }

    #[test]
    fn every_kind_of_a_sensor_comes_and_lasts_as_long_as_it_says() {
        for sensor in SensorKind::ALL {
            let mut injector = Injector::new(Random::new(2, sensor as u64), 0.05);
            let mut seen: BTreeMap<AnomalyKind, u32> = BTreeMap::new();
            for reading in 0..50_000_i64 {
                let at = TimestampMs(reading);
                if let Some(label) = injector.overlay(sensor, 0.05, 1.0, at).ended {
                    *seen.entry(label.kind).or_default() += 1;
                    let (least, most) = label.kind.readings();
                    assert!((least..=most).contains(&label.readings), "{label:?}");
                    assert_eq!(label.end.since(label.start) + 1, i64::from(label.readings));
                }
            }
            let kinds: Vec<_> = seen.keys().copied().collect();
            let mut wanted = AnomalyKind::of_sensor(sensor).to_vec();
            wanted.sort();
            assert_eq!(kinds, wanted, "{sensor:?}");
        }
    }

    #[test]
    fn a_rate_can_be_changed_and_none_stays_none() {
        let mut injector = Injector::new(Random::new(2, 0), 0.0);
        let begun = |injector: &mut Injector, rate: f64| {
            let readings = (0..1_000).map(|at| {
                injector.overlay(SensorKind::Temperature, rate, 20.0, TimestampMs(at)).value
            });
            readings.filter(|value| *value != Some(20.0)).count()
        };
        assert_eq!(begun(&mut injector, 0.0), 0);
        injector.set_rate(0.1);
        assert!(begun(&mut injector, 0.1) > 100);
    }
}

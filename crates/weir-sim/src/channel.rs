//! One sensor of one device, with its anomalies: what a reading comes from.

use weir_protocol::types::TimestampMs;

use crate::anomaly::{Injector, Label};
use crate::random::Random;
use crate::sensor::{Influence, Sensor, SensorKind, TOGGLES_ALARM};

/// What a channel gives at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// The value; of a switch 1 or 0. `None`: an anomaly keeps it silent.
    pub value: Option<f64>,
    /// Whether it is an alarm of the specification.
    pub alarm: bool,
    /// An anomaly that ended with this reading.
    pub ended: Option<Label>,
}

/// A sensor and what goes wrong with it. The same numbers come whatever other channels do; the anomaly
/// rate changes the readings that are anomalous and no others.
#[derive(Debug, Clone)]
pub struct Channel {
    sensor: Sensor,
    injector: Injector,
    /// Of the last 8 readings of a switch, which were changes; bit 0 is the newest.
    changes: u8,
    was_on: bool,
}

impl Channel {
    /// Channel number `stream` of `seed`, whose anomalies begin with this chance per healthy reading.
    pub fn new(kind: SensorKind, seed: u64, stream: u64, anomaly_rate: f64) -> Self {
        // Two streams each: anomalies draw nothing from the sensor.
        let injector = Injector::new(Random::new(seed, 2 * stream + 1), anomaly_rate);
        let sensor = Sensor::new(kind, Random::new(seed, 2 * stream));
        Self { sensor, injector, changes: 0, was_on: false }
    }

    /// What it measures.
    pub const fn kind(&self) -> SensorKind {
        self.sensor.kind()
    }

    /// Takes another anomaly rate from now on.
    pub fn set_anomaly_rate(&mut self, rate: f64) {
        self.injector.set_rate(rate);
    }

    /// The reading at `at`.
    #[inline]
    pub fn read(&mut self, influence: Influence, anomaly_rate: f64, at: TimestampMs) -> Reading {
        let kind = self.sensor.kind();
        let healthy = self.sensor.read_under(influence);
        let overlaid = self.injector.overlay(kind, anomaly_rate, healthy, at);
        let alarm = match overlaid.value {
            None => false,
            Some(value) if kind == SensorKind::Switch => self.toggles(value > 0.5),
            Some(value) => kind.is_alarm(value),
        };
        Reading { value: overlaid.value, alarm, ended: overlaid.ended }
    }

    /// The anomaly that is on, as far as it has come.
    pub fn unfinished(&self) -> Option<Label> {
        self.injector.unfinished()
    }

    fn toggles(&mut self, on: bool) -> bool {
        self.changes = self.changes << 1 | u8::from(on != self.was_on);
        self.was_on = on;
        self.changes.count_ones() >= TOGGLES_ALARM
    }
}

/// How many of so many readings are alarms, over as many channels as there are thousands.
pub fn alarms_among(kind: SensorKind, seed: u64, readings: u64, anomaly_rate: f64) -> u64 {
    let channels = readings.div_ceil(1_000);
    let of_one = |stream: u64| {
        let mut channel = Channel::new(kind, seed, stream, anomaly_rate);
        let at = |reading: i64| TimestampMs(reading * 5_000);
        let read = |n: i64| channel.read(Influence::NONE, anomaly_rate, at(n)).alarm;
        (0..1_000).map(read).filter(|alarm| *alarm).count() as u64
    };
    (0..channels).map(of_one).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn readings(seed: u64, kind: SensorKind, rate: f64, count: i64) -> Vec<Reading> {
        let mut channel = Channel::new(kind, seed, 1, rate);
        (0..count).map(|n| channel.read(Influence::NONE, rate, TimestampMs(n))).collect()
    }

    // For a person to read: `cargo test -- --nocapture`.
    #[allow(clippy::print_stdout)]
    #[test]
    fn without_anomalies_alarms_have_the_share_of_the_distribution() {
        for kind in SensorKind::ALL {
            let count = 400_000;
            let alarms = alarms_among(kind, 1, count, 0.0);
            let share = alarms as f64 / count as f64;
            println!("{}: {:.4} % alarms at anomaly_rate 0", kind.name(), share * 100.0);
            let expected = kind.alarm_share().unwrap_or(4e-6);
            // Six deviations, widened by 2.4 because neighbours are alike: (1 + 0.7) / (1 - 0.7) = 5.7.
            let slack = 6.0 * 2.4 * (expected / count as f64).sqrt() + 2e-5;
            assert!((share - expected).abs() < slack, "{kind:?}: {share} of {expected}");
        }
    }

    #[test]
    fn every_alarm_is_reached_by_an_anomaly() {
        for kind in SensorKind::ALL {
            let count = 40_000;
            let (quiet, loud) =
                (alarms_among(kind, 1, count, 0.0), alarms_among(kind, 1, count, 0.02));
            // Current has the rarest: a spike of 3.2 and more.
            assert!(loud > quiet + 40, "{kind:?}: {quiet} and {loud} of {count}");
        }
    }

    #[test]
    fn an_alarm_of_a_quiet_sensor_or_a_value_out_of_range_is_always_labelled() {
        for kind in SensorKind::ALL {
            let plain = readings(3, kind, 0.0, 30_000);
            let marked = readings(3, kind, 0.02, 30_000);
            let mut labelled = vec![false; marked.len()];
            for label in marked.iter().filter_map(|reading| reading.ended) {
                for at in label.start.get()..=label.end.get() {
                    labelled[at as usize] = true;
                }
            }
            // The run may end within one.
            let last = labelled.iter().rposition(|is| *is).unwrap();
            let (min, max) = kind.normal().map_or((0.0, 1.0), |normal| (normal.min, normal.max));
            for at in 0..last {
                let value = marked[at].value;
                if !labelled[at] {
                    assert_eq!(value, plain[at].value, "{kind:?} at {at}");
                }
                assert!(
                    labelled[at] || value.is_some_and(|value| (min..=max).contains(&value)),
                    "{kind:?} {value:?} without a label"
                );
                let lone = kind != SensorKind::Switch && marked[at].alarm && !plain[at].alarm;
                assert!(!lone || labelled[at], "{kind:?}: an alarm without a label at {at}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_channel_is_a_function_of_seed_stream_and_rate(seed: u64, rate in 0.0..0.1) {
            let kind = SensorKind::ALL[(seed % 5) as usize];
            prop_assert_eq!(readings(seed, kind, rate, 200), readings(seed, kind, rate, 200));
            prop_assert_ne!(readings(seed, SensorKind::Current, rate, 50), readings(seed ^ 1, SensorKind::Current, rate, 50));
        }
    }
}

use super::*;
use crate::trend::Trends;
use weir_protocol::types::TimestampMs;

/// Readings so far apart that they are as good as independent: 0.7^20 is under 0.001.
const THIN: usize = 20;

fn thinned(kind: SensorKind, count: usize, seed: u64) -> Vec<f64> {
    let mut sensor = Sensor::new(kind, Random::new(seed, kind as u64));
    (0..count).map(|_| (0..THIN).fold(0.0, |_, _| sensor.read())).collect()
}

/// Kolmogorov and Smirnov's statistic times the root of the count; above 1.95 in one of 1,000.
fn ks(mut values: Vec<f64>, normal: &Normal) -> f64 {
    values.sort_by(f64::total_cmp);
    let count = values.len() as f64;
    let gap = |(at, value): (usize, &f64)| {
        let below = 1.0 - normal.above(*value);
        (below - at as f64 / count).abs().max(((at + 1) as f64 / count - below).abs())
    };
    values.iter().enumerate().map(gap).fold(0.0, f64::max) * count.sqrt()
}

#[test]
fn readings_have_the_specified_normal_cut_to_its_range() {
    for kind in SensorKind::ALL {
        let Some(normal) = kind.normal() else { continue };
        for seed in [1, 2, 3] {
            let statistic = ks(thinned(kind, 20_000, seed), &normal);
            assert!(statistic < 1.95, "{kind:?}, seed {seed}: {statistic:.2}");
        }
    }
}

#[test]
fn the_test_of_distributions_bites() {
    // What the specification's code makes of temperature: its smoothing shrinks sigma to 0.42 of it.
    let mut random = Random::new(5, 0);
    let mut smoothed = 25.0;
    let mut shrunk = Vec::new();
    for _ in 0..2_000 {
        for _ in 0..THIN {
            smoothed = 0.7 * smoothed + 0.3 * (25.0 + 5.0 * random.gaussian());
        }
        shrunk.push(smoothed);
    }
    let deviation = (shrunk.iter().map(|v| (v - 25.0).powi(2)).sum::<f64>() / 2_000.0).sqrt();
    assert!((deviation - 2.1).abs() < 0.2, "{deviation}");
    let normal = SensorKind::Temperature.normal().unwrap();
    assert!(ks(shrunk, &normal) > 5.0);
    // And a mean that is wrong by a tenth of sigma.
    let off: Vec<f64> = thinned(SensorKind::Current, 20_000, 1).iter().map(|v| v + 0.05).collect();
    assert!(ks(off, &SensorKind::Current.normal().unwrap()) > 5.0);
}

#[test]
fn a_first_reading_is_already_a_draw() {
    for kind in [SensorKind::Temperature, SensorKind::Pressure] {
        let normal = kind.normal().unwrap();
        let first = (0..5_000).map(|stream| Sensor::new(kind, Random::new(9, stream)).read());
        assert!(ks(first.collect(), &normal) < 1.95, "{kind:?}");
    }
}

#[test]
fn readings_are_smooth_by_the_specifications_weight() {
    for kind in [SensorKind::Temperature, SensorKind::Humidity, SensorKind::Current] {
        let normal = kind.normal().unwrap();
        let mut sensor = Sensor::new(kind, Random::new(4, 0));
        let scaled: Vec<f64> =
            (0..100_000).map(|_| (sensor.read() - normal.mean) / normal.sigma).collect();
        let products = scaled.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>();
        let correlation = products / scaled.iter().map(|v| v * v).sum::<f64>();
        assert!((correlation - KEEP).abs() < 0.015, "{kind:?}: {correlation}");
    }
}

#[test]
fn a_switch_is_on_four_times_of_five() {
    // Chi-square of one degree of freedom, 10.8 in one of 1,000; 200 readings apart.
    let mut sensor = Sensor::new(SensorKind::Switch, Random::new(6, 0));
    let on = (0..5_000).filter(|_| (0..200).fold(0.0, |_, _| sensor.read()) > 0.5).count() as f64;
    let square = (on - 4_000.0).powi(2);
    let chi_square = square / 4_000.0 + square / 1_000.0;
    assert!(chi_square < 10.8, "{on} of 5,000 on, {chi_square:.1}");
}

#[test]
fn no_reading_leaves_its_range_whatever_the_trend() {
    for kind in SensorKind::ALL {
        let (min, max) = kind.normal().map_or((0.0, 1.0), |normal| (normal.min, normal.max));
        for strength in [0.0, 0.3, 1.0] {
            let trends = Trends::new(7, strength, 1.0);
            let mut sensor = Sensor::new(kind, Random::new(2, 1));
            for hour in 0..24 * 400 {
                let at = TimestampMs(1_754_217_000_000).plus_ms(hour * 3_600_000);
                let value = sensor.read_under(trends.influence(kind, at));
                assert!((min..=max).contains(&value), "{kind:?} {value}");
            }
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

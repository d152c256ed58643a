//! How many points a second one core checks against thousands of zones.
//!
//! `cargo run --release -p weir-fleet --example geofence_bench [zones] [points]`
//!
//! Zones are irregular rings of 60 to 120 corners, 5 to 60 km wide, over central Europe, a tenth of
//! them large regions; points are spread as aircraft are, anywhere among them. Both are made from a
//! fixed seed, so figures of two builds can be set side by side. A sample is held against the plain loop.
#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::unwrap_used)]

use std::fmt::Write as _;
use std::time::Instant;

use weir_fleet::ZoneSet;

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + self.unit() * (high - low)
    }
}

const AREA: (f64, f64, f64, f64) = (-4.0, 42.0, 16.0, 55.0);

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>().unwrap());
    let zone_count = arguments.next().unwrap_or(2_700);
    let point_count = arguments.next().unwrap_or(1_000_000);
    let mut random = Random(2025);

    let text = zones(&mut random, zone_count);
    let start = Instant::now();
    let set = ZoneSet::from_geojson(&text).unwrap();
    println!(
        "zones      {} in {:.2} s, {:?}",
        set.len(),
        start.elapsed().as_secs_f64(),
        set.index_size()
    );

    let points: Vec<(f64, f64, f64)> = (0..point_count)
        .map(|_| {
            let (west, south, east, north) = AREA;
            (
                random.between(south, north),
                random.between(west, east),
                random.between(0.0, 12_000.0),
            )
        })
        .collect();
    for point in points.iter().step_by(point_count / 500 + 1) {
        let (by_index, by_loop) = (
            set.hits(point.0, point.1, Some(point.2)),
            set.hits_by_brute_force(point.0, point.1, Some(point.2)),
        );
        assert_eq!(by_index, by_loop, "{point:?}");
    }

    let mut hits = Vec::with_capacity(64);
    for _ in 0..5 {
        let (start, mut hit_count) = (Instant::now(), 0_usize);
        for (latitude, longitude, altitude) in &points {
            set.hits_into(*latitude, *longitude, Some(*altitude), &mut hits);
            hit_count += hits.len();
        }
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{:.2} M points/s, {:.0} ns each, {:.2} zones hit per point",
            point_count as f64 / seconds / 1e6,
            seconds / point_count as f64 * 1e9,
            hit_count as f64 / point_count as f64
        );
    }
    let mut each: Vec<u128> = points
        .iter()
        .take(200_000)
        .map(|(latitude, longitude, altitude)| {
            let start = Instant::now();
            set.hits_into(*latitude, *longitude, Some(*altitude), &mut hits);
            start.elapsed().as_nanos()
        })
        .collect();
    each.sort_unstable();
    println!(
        "each with the clock read around it: p50 {} ns, p99 {} ns, p99.9 {} ns",
        each[each.len() / 2],
        each[each.len() * 99 / 100],
        each[each.len() * 999 / 1000]
    );
}

fn zones(random: &mut Random, count: usize) -> String {
    let (west, south, east, north) = AREA;
    let mut features = Vec::with_capacity(count);
    for id in 0..count {
        let radius =
            if id % 10 == 0 { random.between(0.5, 2.0) } else { random.between(0.02, 0.3) };
        let (longitude, latitude) = (random.between(west, east), random.between(south, north));
        let corners = 60 + (random.unit() * 60.0) as usize;
        let mut ring = String::new();
        for corner in 0..=corners {
            let angle = (corner % corners) as f64 / corners as f64 * std::f64::consts::TAU;
            let wobble = 1.0 + 0.2 * (angle * 5.0 + id as f64).sin();
            let _ = write!(
                ring,
                "{}[{:.6},{:.6}]",
                if corner == 0 { "" } else { "," },
                longitude + radius * 1.4 * wobble * angle.cos(),
                latitude + radius * wobble * angle.sin(),
            );
        }
        let upper = random.between(300.0, 12_000.0);
        features.push(format!(
            r#"{{"type":"Feature","properties":{{"id":"z{id}","upper_m":{upper:.0}}},"geometry":{{"type":"Polygon","coordinates":[[{ring}]]}}}}"#
        ));
    }
    format!(r#"{{"type":"FeatureCollection","features":[{}]}}"#, features.join(","))
}

use super::*;
use proptest::prelude::*;

fn square(name: &str, extra: &str, west: f64, south: f64, side: f64) -> String {
    let (east, north) = (west + side, south + side);
    format!(
        r#"{{"type":"Feature","properties":{{"id":"{name}"{extra}}},"geometry":{{"type":"Polygon",
        "coordinates":[[[{west},{south}],[{east},{south}],[{east},{north}],[{west},{north}],[{west},{south}]]]}}}}"#
    )
}

fn collection(features: &[String]) -> String {
    format!(r#"{{"type":"FeatureCollection","features":[{}]}}"#, features.join(","))
}

fn set(features: &[String]) -> ZoneSet {
    ZoneSet::from_geojson(&collection(features)).unwrap()
}

fn check(set: &ZoneSet, at: (f64, f64), altitude: Option<f64>, expect: &[u32]) {
    let expect: Vec<ZoneIndex> = expect.iter().copied().map(ZoneIndex).collect();
    assert_eq!(set.hits(at.0, at.1, altitude), expect, "index at {at:?} {altitude:?}");
    assert_eq!(
        set.hits_by_brute_force(at.0, at.1, altitude),
        expect,
        "loop at {at:?} {altitude:?}"
    );
}

#[test]
fn borders_and_corners_belong_to_the_zone() {
    let set = set(&[square("a", "", 8.0, 47.0, 0.5)]);
    for at in [(47.0, 8.0), (47.5, 8.5), (47.0, 8.25), (47.25, 8.5), (47.25, 8.25)] {
        check(&set, at, None, &[0]);
    }
    for at in [(46.999_999_9, 8.25), (47.25, 8.500_000_1), (0.0, 0.0), (-90.0, -180.0)] {
        check(&set, at, None, &[]);
    }
}

#[test]
fn altitude_limits_are_inclusive_and_unknown_altitude_counts_as_inside() {
    let set = set(&[
        square("low", r#","upper_m":120"#, 8.0, 47.0, 0.5),
        square("high", r#","lower":100,"upper":300"#, 8.2, 47.2, 0.5),
    ]);
    let at = (47.3, 8.3);
    check(&set, at, Some(-5.0), &[0]);
    check(&set, at, Some(100.0), &[0, 1]);
    check(&set, at, Some(120.0), &[0, 1]);
    check(&set, at, Some(120.02), &[1]);
    check(&set, at, Some(301.0), &[]);
    check(&set, at, None, &[0, 1]);
    check(&set, at, Some(f64::NAN), &[0, 1]);
}

#[test]
fn holes_are_outside_and_overlapping_parts_are_united() {
    let text = r#"{"type":"FeatureCollection","features":[
      {"type":"Feature","properties":{"name":{"zh":"环","en":"ring"}},"geometry":{"type":"Polygon","coordinates":[
        [[0,0],[4,0],[4,4],[0,4],[0,0]], [[1,1],[3,1],[3,3],[1,3],[1,1]]]}},
      {"type":"Feature","id":"two","geometry":{"type":"MultiPolygon","coordinates":[
        [[[10,0],[12,0],[12,2],[10,2],[10,0]]], [[[11,1],[13,1],[13,3],[11,3]]]]}}]}"#;
    let set = ZoneSet::from_geojson(text).unwrap();
    check(&set, (2.0, 2.0), None, &[]);
    check(&set, (0.5, 2.0), None, &[0]);
    check(&set, (1.0, 2.0), None, &[0]);
    check(&set, (1.5, 11.5), None, &[1]);
    check(&set, (2.5, 10.5), None, &[]);
    assert_eq!(set.get(ZoneIndex(0)).map(|zone| zone.name_zh.as_str()), Some("环"));
    assert_eq!(set.get(ZoneIndex(1)).map(|zone| zone.id.as_str()), Some("two"));
}

#[test]
fn points_off_the_earth_hit_nothing() {
    let set = set(&[square("a", "", -180.0, -90.0, 90.0)]);
    for (latitude, longitude) in [(f64::NAN, 0.0), (0.0, f64::INFINITY), (90.1, 0.0), (0.0, -180.1)]
    {
        assert!(set.hits(latitude, longitude, None).is_empty());
    }
    check(&set, (-90.0, -180.0), None, &[0]);
    assert!(ZoneSet::empty().hits(0.0, 0.0, None).is_empty());
}

#[test]
fn a_bad_feature_is_named() {
    for (feature, needle) in [
        (square("a", r#","lower":5,"upper":1"#, 0.0, 0.0, 1.0), "lower limit"),
        (square("a", r#","kind":"picnic""#, 0.0, 0.0, 1.0), "picnic"),
        (square("a", r#","severity":"bad""#, 0.0, 0.0, 1.0), "severity"),
        (square("a", "", 100.0, 100.0, 1.0), "is not [longitude, latitude]"),
        (square("ok", "", 0.0, 0.0, 1.0), "twice"),
        (r#"{"type":"Feature","geometry":{"type":"Polygon","coordinates":[[[0,0],[1,1],[0,0]]]}}"#
            .to_owned(), "three different corners"),
        (r#"{"type":"Feature","geometry":{"type":"Point","coordinates":[0,0]}}"#.to_owned(), "Point"),
        (r#"{"type":"Feature","geometry":{"type":"Polygon","coordinates":[]}}"#.to_owned(), "ring"),
    ] {
        let text = collection(&[square("ok", "", 5.0, 5.0, 1.0), feature]);
        let error = ZoneSet::from_geojson(&text).unwrap_err();
        assert!(matches!(error, FleetError::ZoneInvalid { feature: 1, .. }), "{error}");
        assert!(error.to_string().contains(needle), "{error}");
        assert_eq!(error.code(), "WEIR-0602");
    }
    for text in ["", "[]", r#"{"type":"Feature","features":[]}"#] {
        assert!(matches!(ZoneSet::from_geojson(text), Err(FleetError::ZonesMalformed { .. })));
    }
}

/// Polygons straight from points, so that vertices can be put anywhere, also on cell borders.
fn polygons(rings: &[Vec<(i32, i32)>]) -> (Vec<Zone>, Vec<Polygon>) {
    let zone = |id: usize| Zone {
        id: id.to_string(),
        name_zh: String::new(),
        name_en: String::new(),
        kind: ZoneKind::NoFly,
        level: AlertLevel::Critical,
        lower_m: None,
        upper_m: None,
    };
    let mut zones = Vec::new();
    let mut polygons = Vec::new();
    for ring in rings {
        let points: Vec<Point> = ring.iter().map(|(x, y)| Point { x: *x, y: *y }).collect();
        let edges: Vec<Edge> = (0..points.len())
            .filter_map(|at| Edge::new(points[at], points[(at + 1) % points.len()]))
            .collect();
        if let Some(polygon) = Polygon::new(zones.len() as u32, edges) {
            polygons.push(polygon);
            zones.push(zone(zones.len()));
        }
    }
    (zones, polygons)
}

/// The index and the loop must agree at every point given.
fn agree(rings: &[Vec<(i32, i32)>], points: impl IntoIterator<Item = Point>) {
    let (zones, polygons) = polygons(rings);
    // Few cells, so that a case over the whole Earth is built in a moment.
    let set = ZoneSet::build(zones, polygons, 20_000);
    for point in points {
        let mut by_index = Vec::new();
        set.grid.visit(point, |_| true, |zone| by_index.push(zone));
        by_index.sort_unstable();
        let by_loop: Vec<u32> = set
            .polygons
            .iter()
            .filter(|polygon| polygon.holds(point))
            .map(|polygon| polygon.zone)
            .collect();
        assert_eq!(by_index, by_loop, "at {point:?} of {rings:?}");
    }
}

/// Small multiples of the smallest cell (2^12 units): vertices, edges and points fall on cell
/// borders and on each other all the time, and rings cross themselves.
fn coarse() -> impl Strategy<Value = i32> {
    prop_oneof![
        (-6_i32..6).prop_map(|at| at * 4096),
        (-12_i32..12).prop_map(|at| at * 2048),
        (-6_i32..6, -2_i32..3).prop_map(|(at, off)| at * 4096 + off),
        -30_000_i32..30_000,
    ]
}

fn ring<S: Strategy<Value = i32>>(at: impl Fn() -> S) -> impl Strategy<Value = Vec<(i32, i32)>> {
    proptest::collection::vec((at(), at()), 3..9)
}

proptest! {
    #[test]
    fn index_equals_loop_where_everything_touches(
        rings in proptest::collection::vec(ring(coarse), 1..5),
        points in proptest::collection::vec((coarse(), coarse()), 200),
    ) {
        let corners: Vec<(i32, i32)> = rings.iter().flatten().copied().collect();
        let all = points.iter().chain(&corners).map(|(x, y)| Point { x: *x, y: *y });
        agree(&rings, all);
    }

    #[test]
    fn index_equals_loop_over_the_whole_earth(
        rings in proptest::collection::vec(
            proptest::collection::vec(
                (-1_800_000_000_i32..=1_800_000_000, -900_000_000_i32..=900_000_000), 3..12),
            1..4),
        points in proptest::collection::vec(
            (-1_800_000_000_i32..=1_800_000_000, -900_000_000_i32..=900_000_000), 100),
        along in proptest::collection::vec(0.0_f64..1.0, 20),
    ) {
        let corners: Vec<(i32, i32)> = rings.iter().flatten().copied().collect();
        // Points beside and on long edges, where rounding would show.
        let beside = rings.iter().flat_map(|ring| along.iter().map(|t| {
            let (from, to) = (ring[0], ring[1]);
            (
                (f64::from(from.0) + t * (f64::from(to.0) - f64::from(from.0))) as i32,
                (f64::from(from.1) + t * (f64::from(to.1) - f64::from(from.1))) as i32,
            )
        }));
        let all: Vec<Point> = points.iter().copied().chain(corners).chain(beside)
            .map(|(x, y)| Point { x, y }).collect();
        agree(&rings, all);
    }
}

#[test]
fn cells_stay_bounded_over_the_whole_earth() {
    let set = set(&[square("a", "", -180.0, -90.0, 1.0), square("b", "", 179.0, 89.0, 1.0)]);
    assert!(set.index_size().cells <= 4_000_000, "{:?}", set.index_size());
    check(&set, (89.5, 179.5), None, &[1]);
}

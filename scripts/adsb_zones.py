"""Zones over Switzerland, and what they mean, written a second time.

The zones are the test's own, around real airports and with the shapes that make geometry hard: a
hole, two parts that overlap, a dent, one without a floor, one without a ceiling. The altitudes are
those at which the aircraft of the sample fly (9 to 14 km).

`hits` and `zone_alerts` follow the documentation of weir-fleet (src/geofence.rs, src/location.rs)
and share no code with it: whole numbers of 1e-7 degree and of centimetres, a ray to the north where
weir's goes east, every edge of every zone for every point.
"""
import math

EARTH_KM_PER_DEGREE = 111.195
UNITS_PER_DEGREE = 1e7
EXIT_FIXES = 3


def ring(latitude: float, longitude: float, radii_km: list) -> list:
    """A closed ring around a place: one corner per radius, anticlockwise from the east."""
    corners = []
    for number, radius in enumerate(radii_km):
        angle = 2 * math.pi * number / len(radii_km)
        north, east = radius * math.sin(angle), radius * math.cos(angle)
        width = EARTH_KM_PER_DEGREE * math.cos(math.radians(latitude))
        corners.append([round(longitude + east / width, 6), round(latitude + north / EARTH_KM_PER_DEGREE, 6)])
    return [*corners, corners[0]]


def feature(zone: str, zh: str, en: str, geometry: str, coordinates: list, **limits) -> dict:
    properties = {"id": zone, "name": {"zh": zh, "en": en}, "kind": "no_fly", **limits}
    return {"type": "Feature", "properties": properties,
            "geometry": {"type": geometry, "coordinates": coordinates}}


def geojson() -> dict:
    zuerich = [ring(47.4582, 8.5481, [38, 31, 42, 27, 35, 44, 29, 36, 40, 25, 33, 37]),
               ring(47.4582, 8.5481, [9, 6, 8, 7, 10, 5, 9])]
    geneve = [ring(46.2381, 6.1089, [45, 40, 12, 38, 30, 26, 22, 35, 41, 33])]
    basel = [ring(47.5896, 7.5299, [28, 33, 24, 30, 36, 21, 27, 31])]
    payerne = [[ring(46.8432, 6.9151, [52, 44, 57, 49, 61, 55])],
               [ring(46.9141, 7.4971, [40, 32, 27, 38, 30, 25, 34])]]
    return {"type": "FeatureCollection", "features": [
        feature("zuerich", "苏黎世", "Zürich", "Polygon", zuerich, lower_m=9500, upper_m=11000),
        feature("geneve", "日内瓦", "Genève", "Polygon", geneve, lower_m=10000, upper_m=11582.4),
        feature("basel", "巴塞尔", "Basel", "Polygon", basel, upper_m=10700),
        feature("payerne", "帕耶讷", "Payerne", "MultiPolygon", payerne, lower_m=11000),
    ]}


def rounded(value: float) -> int:
    """To the nearest whole number, halves away from zero."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def units(position: list) -> tuple:
    return rounded(position[0] * UNITS_PER_DEGREE), rounded(position[1] * UNITS_PER_DEGREE)


class Zone:
    def __init__(self, properties: dict, parts: list):
        self.id = properties["id"]
        self.lower_cm = rounded(properties["lower_m"] * 100) if "lower_m" in properties else None
        self.upper_cm = rounded(properties["upper_m"] * 100) if "upper_m" in properties else None
        self.parts = [[[units(corner) for corner in ring] for ring in rings] for rings in parts]

    def holds(self, x: int, y: int, altitude_cm: int) -> bool:
        if self.lower_cm is not None and altitude_cm < self.lower_cm:
            return False
        if self.upper_cm is not None and altitude_cm > self.upper_cm:
            return False
        return any(in_polygon(rings, x, y) for rings in self.parts)


def in_polygon(rings: list, x: int, y: int) -> bool:
    """Even-odd over all rings, by a ray to the north; every border belongs to the polygon."""
    inside = False
    for corners in rings:
        for (x1, y1), (x2, y2) in zip(corners, corners[1:]):
            # Twice the area of the triangle: zero on the line, its sign the side.
            side = (x2 - x1) * (y - y1) - (y2 - y1) * (x - x1)
            if side == 0 and min(x1, x2) <= x <= max(x1, x2) and min(y1, y2) <= y <= max(y1, y2):
                return True
            if (x1 <= x) != (x2 <= x) and (side < 0 if x2 > x1 else side > 0):
                inside = not inside
    return inside


def zones_of(collection: dict) -> list:
    zones = []
    for item in collection["features"]:
        geometry = item["geometry"]
        parts = geometry["coordinates"]
        zones.append(Zone(item["properties"], [parts] if geometry["type"] == "Polygon" else parts))
    return zones


def hits(zones: list, location: dict) -> list:
    x, y = units([location["longitude"], location["latitude"]])
    altitude_cm = rounded(location["altitude"] * 100)
    return [zone.id for zone in zones if zone.holds(x, y, altitude_cm)]


def zone_alerts(fixes: list) -> list:
    """What weir says of zones, for the fixes of one device in the order of its partition.

    `fixes` are (event time in ms, zones hit, record) each. Returns (what, zone, event time, opening
    fix) in order. A fix that is older than one before it moves nothing; one fix inside enters,
    three newer ones outside in a row leave.
    """
    alerts, inside, last_ms = [], {}, None
    for fix in fixes:
        at_ms, hit, _ = fix
        if last_ms is not None and at_ms < last_ms:
            continue
        last_ms = at_ms
        for zone in list(inside):
            opened, outside = inside[zone]
            outside = 0 if zone in hit else outside + 1
            inside[zone] = (opened, outside)
            if outside == EXIT_FIXES:
                del inside[zone]
                alerts.append(("alert.cleared", zone, at_ms, opened))
        for zone in hit:
            if zone not in inside:
                inside[zone] = (fix, 0)
                alerts.append(("alert.created", zone, at_ms, fix))
    return alerts

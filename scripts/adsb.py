#!/usr/bin/env python3
"""Real ADS-B tracks as weir events: 139,098 points of 842 aircraft over Switzerland.

Fetches the PyPI wheel `traffic` 2.13 (the wheel alone: nothing is installed), takes its sample
`switzerland`, and writes one drone.location.updated event per line, in the order of the sample,
with the aircraft's icao24 as device id.

    scripts/adsb.py OUT.ndjson

Altitudes are feet and speeds knots in the sample; the events have metres and metres per second.
"""
import gzip
import json
import pathlib
import subprocess
import sys
import zipfile
from datetime import datetime, timezone

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "traffic"
WHEEL = "traffic==2.13"
SAMPLE = "traffic/data/samples/collections/switzerland.json.gz"
POINTS = 139_098
METRES_PER_FOOT = 0.3048
METRES_PER_SECOND_PER_KNOT = 0.514444


def wheel() -> pathlib.Path:
    """The wheel, downloaded once."""
    found = sorted(CACHE.glob("traffic-*.whl"))
    if not found:
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", WHEEL, "-d", CACHE],
            check=True,
        )
        found = sorted(CACHE.glob("traffic-*.whl"))
    return found[0]


def event(index: int, point: dict) -> dict:
    """One point as an event. Fields the receiver did not have are left out."""
    time = datetime.fromtimestamp(point["timestamp"] / 1000, timezone.utc)
    data = {
        "device_id": point["icao24"],
        "callsign": point.get("callsign"),
        "location": {
            "latitude": point["latitude"],
            "longitude": point["longitude"],
            "altitude": round(point["altitude"] * METRES_PER_FOOT, 2),
        },
    }
    if point.get("track") is not None:
        data["heading"] = point["track"] % 360
    if point.get("groundspeed") is not None:
        data["speed"] = round(point["groundspeed"] * METRES_PER_SECOND_PER_KNOT, 3)
    return {
        "id": f"adsb-{index:06d}-{point['icao24']}",
        "type": "drone.location.updated",
        "source": "adsb-switzerland",
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "data": {key: value for key, value in data.items() if value is not None},
    }


def main() -> None:
    out = pathlib.Path(sys.argv[1])
    with zipfile.ZipFile(wheel()) as archive:
        points = json.loads(gzip.decompress(archive.read(SAMPLE)))
    if len(points) != POINTS:
        sys.exit(f"the sample has {len(points)} points, not {POINTS}")
    with out.open("w", encoding="utf-8") as file:
        for index, point in enumerate(points):
            json.dump(event(index, point), file, separators=(",", ":"))
            file.write("\n")
    print(f"{len(points)} events of {len({p['icao24'] for p in points})} aircraft in {out}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main()

#!/usr/bin/env python3
"""139,098 real aircraft positions through the gateway: none lost, none twice, in order, zones right.

    scripts/adsb_test.py --weir target/release/weir                              the embedded broker
    scripts/adsb_test.py --weir target/release/weir --brokers 127.0.0.1:19092    a Kafka to throw away:
                                                                                 its topics are deleted

Runs `weir up` and `weir ingest`, once with small lanes and a low rate so that the gateway refuses
(429, Retry-After) again and again, and once as it is by default. After each run:

1. every event is in drone-events exactly once, byte for byte, and in the order of the file per aircraft;
2. ingesting the same file again changes nothing (default run);
3. every trajectory in fleet.db is complete and equal to the file, also after a start that deletes what is old;
4. the zones of every position, by weir's index, equal a brute-force check written in Python;
5. the alerts in alert-events and in fleet.db equal a model of the documented rules over those zones.

Needs confluent-kafka (scripts/setup.sh). Exits with 1 at the first difference.
"""
import argparse
import collections
import json
import pathlib
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from datetime import datetime

import adsb
import adsb_zones
from weirtest import ROOT, WeirUp, check, until, use_venv

use_venv()
from confluent_kafka import Consumer, TopicPartition  # noqa: E402
from confluent_kafka.admin import AdminClient  # noqa: E402

TOPIC, ALERT_TOPIC = "drone-events", "alert-events"
# Lanes smaller than one request of `weir ingest` (500 events), and a rate that takes seconds.
PACED = """
traffic_control:
  buffer_size: 200
  max_rate: 20000
"""
# Of a device that is in no zone: a sign that the worker has read so far.
SIGN = '{"type":"drone.location.updated","source":"adsb-test","data":{"device_id":"sign","location":{"latitude":0,"longitude":0}}}'
SETTLE_SECONDS_MAX = 120
FILLER = b'{"type":"system.startup","source":"adsb-test","data":{"service":"adsb-test"}}'


class Events:
    """The file: its lines, and what is in them."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.lines = path.read_bytes().splitlines()
        self.parsed = [json.loads(line) for line in self.lines]
        self.index = {event["id"]: number for number, event in enumerate(self.parsed)}
        self.by_device = collections.defaultdict(list)
        for event in self.parsed:
            self.by_device[event["data"]["device_id"]].append(event["id"])
        check(len(self.lines) == len(self.index) == adsb.POINTS, f"{adsb.POINTS} events with an id each")


def milliseconds(timestamp: str) -> int:
    return round(datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp() * 1000)


def differing(what: str, expected: collections.Counter, found: collections.Counter) -> None:
    """Fails with a few examples unless both are the same."""
    missing, extra = expected - found, found - expected
    for name, items in (("missing", missing), ("not expected", extra)):
        for item in list(items)[:3]:
            print(f"    {name}: {item}")
    check(not missing and not extra, f"{what} ({sum(expected.values())})")


def check_hits(events: Events, zones_file: pathlib.Path, example: "str | None") -> dict:
    """The zones of every position, by Python, once they are known to equal those of weir's index."""
    zones = adsb_zones.zones_of(json.loads(zones_file.read_text()))
    by_loop = {event["id"]: adsb_zones.hits(zones, event["data"]["location"]) for event in events.parsed}
    cargo = ["cargo", "run", "--quiet", "--release", "-p", "weir-fleet", "--example", "zone_hits", "--"]
    with events.path.open("rb") as stdin:
        output = subprocess.run([*([example] if example else cargo), zones_file], stdin=stdin, cwd=ROOT,
                                capture_output=True, text=True)
    check(output.returncode == 0, f"zone_hits reads every event {output.stderr[-300:]}".strip())
    by_index = {}
    for line in output.stdout.splitlines():
        event_id, *hit = line.split(" ")
        by_index[event_id] = hit
    wrong = [event_id for event_id in by_loop if by_index.get(event_id) != by_loop[event_id]]
    for event_id in wrong[:3]:
        print(f"    {event_id}: the index says {by_index.get(event_id)}, the loop {by_loop[event_id]}")
    check(len(by_index) == len(by_loop) and not wrong, "the zones of every position equal the brute-force check")
    counts = collections.Counter(zone for hit in by_loop.values() for zone in hit)
    check(all(counts[zone.id] > 100 for zone in zones), f"every zone is flown through: {dict(counts)}")
    check(any(len(hit) > 1 for hit in by_loop.values()), "some positions are in two zones")
    return by_loop


def delete_topics(address: str) -> None:
    admin = AdminClient({"bootstrap.servers": address})
    ours = [name for name in (TOPIC, ALERT_TOPIC) if name in admin.list_topics(timeout=30).topics]
    if ours:
        for deleted in admin.delete_topics(ours).values():
            deleted.result(30)
    until("the topics are deleted", 30, lambda: not set(ours) & set(admin.list_topics(timeout=30).topics))


def refusal(gateway: str) -> "str | None":
    """The Retry-After of a 429, if the gateway answers one event with that now."""
    request = urllib.request.Request(f"{gateway}/v1/events", FILLER, {"content-type": "application/json"})
    try:
        urllib.request.urlopen(request, timeout=30).read()
    except urllib.error.HTTPError as error:
        if error.code == 429:
            return error.headers.get("retry-after", "")
        sys.exit(f"FAILED: the gateway answered {error.code}: {error.read()[:300]}")
    return None


def ingest(weir: str, up: WeirUp, events: Events) -> tuple:
    """Runs `weir ingest`; returns its tally and the Retry-After headers another client saw meanwhile."""
    command = [weir, "ingest", str(events.path), "--gateway", up.gateway, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    refusals = []
    while process.poll() is None:
        seen = refusal(up.gateway)
        if seen is not None:
            refusals.append(seen)
        time.sleep(0.02)
    out, err = process.communicate()
    check(process.returncode == 0, f"weir ingest ends well {err[-300:] if process.returncode else ''}".strip())
    result = json.loads(out)
    print(f"    {result['events']} in {result['seconds']:.1f} s")
    return result["events"], refusals


def read_topic(address: str, topic: str) -> list:
    """Every record: (partition, offset, key, value, headers), in offset order per partition."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "adsb-test", "enable.auto.commit": False,
                         "check.crcs": True})
    partitions = consumer.list_topics(topic, 30).topics[topic].partitions
    at_start = [TopicPartition(topic, partition, 0) for partition in partitions]
    missing = sum(consumer.get_watermark_offsets(partition, 30, cached=False)[1] for partition in at_start)
    consumer.assign(at_start)
    records, deadline = [], time.monotonic() + SETTLE_SECONDS_MAX
    while missing > 0 and time.monotonic() < deadline:
        for message in consumer.consume(10_000, 1.0):
            check_quietly(message.error() is None, f"reading {topic}: {message.error()}")
            records.append((message.partition(), message.offset(), message.key(), message.value(),
                            dict(message.headers() or [])))
            missing -= 1
    consumer.close()
    check(missing == 0, f"{topic} is read to its end ({len(records)} records)")
    return records


def check_quietly(condition: bool, what: str) -> None:
    if not condition:
        check(condition, what)


def check_topic(events: Events, records: list) -> dict:
    """Facts about drone-events; returns where each event lies."""
    places, orders, partitions = {}, collections.defaultdict(list), collections.defaultdict(set)
    found = collections.Counter()
    for partition, offset, key, value, headers in records:
        event_id = json.loads(value)["id"]
        number = events.index.get(event_id)
        check_quietly(number is not None, f"nothing else is in {TOPIC} ({event_id})")
        check_quietly(value == events.lines[number], f"the bytes of {event_id} are as they were sent")
        device = events.parsed[number]["data"]["device_id"]
        check_quietly(key == device.encode(), f"the key of {event_id} is its aircraft ({key})")
        types = headers.get("event-type")
        check_quietly(types == b"drone.location.updated", f"{event_id} has its headers ({headers})")
        found[event_id] += 1
        places[event_id] = (partition, offset)
        orders[device].append(event_id)
        partitions[device].add(partition)
    differing(f"every event is in {TOPIC} exactly once, byte for byte", collections.Counter(events.index.keys()), found)
    check(all(len(of) == 1 for of in partitions.values()), "every aircraft stays in one partition")
    check(orders == events.by_device, f"every aircraft's events are in the order of the file ({len(orders)} aircraft)")
    return places


def stored_row(event: dict, place: tuple) -> tuple:
    data = event["data"]
    where = data["location"]
    return (data["device_id"], milliseconds(event["timestamp"]), where["latitude"], where["longitude"],
            where["altitude"], data.get("heading"), data.get("speed"), None, TOPIC, *place)


def check_trajectories(events: Events, places: dict, database: sqlite3.Connection) -> None:
    rows = database.execute(
        "SELECT device, ts_ms, lat, lon, alt_m, heading, speed, battery, topic, partition, offset FROM track "
        "WHERE device <> 'sign'")
    expected = collections.Counter(stored_row(event, places[event["id"]]) for event in events.parsed)
    differing("every trajectory is complete and equal to the file", expected, collections.Counter(rows))


def expected_alerts(events: Events, places: dict, hits: dict) -> dict:
    """By device, in order: (event id, what, zone, event time, opening time, opening location)."""
    expected = {}
    for device, ids in events.by_device.items():
        fixes = [(milliseconds(events.parsed[events.index[i]]["timestamp"]), hits[i], i) for i in ids]
        alerts = []
        for what, zone, at_ms, (opened_ms, _, opening) in adsb_zones.zone_alerts(fixes):
            partition, offset = places[opening]
            alert_id = f"zone_breach:{device}:{zone}:{opened_ms}-{partition}-{offset}"
            location = events.parsed[events.index[opening]]["data"]["location"]
            alerts.append((f"{what}:{alert_id}", what, zone, at_ms, opened_ms, tuple(sorted(location.items()))))
        if alerts:
            expected[device] = alerts
    return expected


def check_alerts(expected: dict, records: list) -> None:
    found = collections.defaultdict(list)
    for _, _, key, value, _ in records:
        event = json.loads(value)
        data = event["data"]
        check_quietly(data["type"] == "zone_breach" and data["level"] == "critical", f"only zone breaches: {event}")
        check_quietly(key == str(data["drone_id"]).encode(), f"the key of an alert is its aircraft: {event}")
        location = tuple(sorted(data["location"].items()))
        found[data["drone_id"]].append((event["id"], event["type"], data["zone_id"], milliseconds(event["timestamp"]),
                                        milliseconds(data["opened_at"]), location))
    flat = lambda alerts: collections.Counter(alert for of in alerts.values() for alert in of)  # noqa: E731
    differing(f"the alerts in {ALERT_TOPIC} equal the model", flat(expected), flat(found))
    # Alerts of one fix may stand in any order; so sort those of one time, and nothing else.
    by_time = lambda alerts: [alert[3] for alert in alerts]  # noqa: E731
    check(all(by_time(found[device]) == by_time(alerts) for device, alerts in expected.items()),
          f"and are in order per aircraft ({len(expected)} aircraft)")


def check_stored_alerts(expected: dict, database: sqlite3.Connection) -> None:
    opened, cleared = {}, {}
    for device, alerts in expected.items():
        for event_id, what, zone, at_ms, opened_ms, _ in alerts:
            alert_id = event_id.split(":", 1)[1]
            opened[alert_id] = (device, zone, opened_ms)
            if what == "alert.cleared":
                cleared[alert_id] = at_ms
    rows = database.execute("SELECT alert_id, device, subject, opened_ms, cleared_ms, raised_published, "
                            "cleared_published FROM alert")
    wanted = collections.Counter(
        (alert_id, *facts, cleared.get(alert_id), 1, int(alert_id in cleared)) for alert_id, facts in opened.items())
    differing("the episodes in fleet.db equal the model, all published", wanted, collections.Counter(rows))


def count_signs(path: pathlib.Path) -> int:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        return database.execute("SELECT count(*) FROM track WHERE device = 'sign'").fetchone()[0]


def settled(path: pathlib.Path):
    """Whether the worker has stored every point and published every alert."""
    def look() -> bool:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            points = database.execute("SELECT count(*) FROM point").fetchone()[0]
            waiting = database.execute("SELECT count(*) FROM alert WHERE raised_published = 0 OR "
                                       "(cleared_ms IS NOT NULL AND cleared_published = 0)").fetchone()[0]
            return points >= adsb.POINTS and waiting == 0
    return look


def run(args, name: str, config: str, events: Events, zones_file: pathlib.Path, hits: dict) -> None:
    print(f"-- {name}", flush=True)
    if args.brokers:
        delete_topics(args.brokers)
    extra = ["--brokers", args.brokers] if args.brokers else []
    up = WeirUp(args.weir, *extra, config=f"fleet:\n  zones: {zones_file}\n{config}")
    try:
        tally, refusals = ingest(args.weir, up, events)
        check(tally["accepted"] == adsb.POINTS and tally["refused"] == 0, "every event was accepted")
        if config:
            check(tally["retried"] > 0, f"refused ones were sent again ({tally['retried']})")
            check(len(refusals) > 0 and all(re.fullmatch(r"[1-9]\d*", after) for after in refusals),
                  f"another client saw 429 with Retry-After ({len(refusals)} times)")
        else:
            check(tally["retried"] == 0 and not refusals, "nothing was refused")
        database_file = up.directory / "data" / "fleet.db"
        until("the worker has stored and published everything", SETTLE_SECONDS_MAX, settled(database_file))
        places = check_topic(events, read_topic(up.kafka, TOPIC))
        if not config:
            again, _ = ingest(args.weir, up, events)
            check(again["duplicate"] == adsb.POINTS and again["accepted"] == 0, "a second ingest is all duplicates")
            check(len(read_topic(up.kafka, TOPIC)) == adsb.POINTS, "and adds nothing")
        expected = expected_alerts(events, places, hits)
        check_alerts(expected, read_topic(up.kafka, ALERT_TOPIC))
        print(f"    weir stopped in {up.stop():.2f} s")
        # The tracks are of 2018, but taken now: a start, which deletes what is old, must keep them.
        up = WeirUp(args.weir, *extra, config=f"fleet:\n  zones: {zones_file}\n{config}",
                    directory=str(up.directory))
        for signs in (1, 2):  # the first turn deletes; the second sign comes after it
            request = urllib.request.Request(f"{up.gateway}/v1/events", SIGN.encode())
            urllib.request.urlopen(request, timeout=30).read()
            until("the worker reads on", SETTLE_SECONDS_MAX, lambda: count_signs(database_file) == signs)
        up.stop()
        with sqlite3.connect(f"file:{database_file}?mode=ro", uri=True) as database:
            check_trajectories(events, places, database)
            check_stored_alerts(expected, database)
    except BaseException:
        up.process.kill()
        print(f"kept: {up.directory}", file=sys.stderr)
        raise
    up.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--weir", default="target/release/weir")
    parser.add_argument("--brokers")
    parser.add_argument("--zone-hits", help="the example zone_hits, built; default: cargo builds and runs it")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="weir-adsb-") as directory:
        path = pathlib.Path(directory) / "switzerland.ndjson"
        subprocess.run([sys.executable, ROOT / "scripts" / "adsb.py", path], check=True)
        events = Events(path)
        zones_file = pathlib.Path(directory) / "zones.geojson"
        zones_file.write_text(json.dumps(adsb_zones.geojson()))
        hits = check_hits(events, zones_file, args.zone_hits)
        run(args, "small lanes, 20,000 events a second", PACED, events, zones_file, hits)
        run(args, "as it is by default", "", events, zones_file, hits)
    print("all facts hold")


if __name__ == "__main__":
    main()

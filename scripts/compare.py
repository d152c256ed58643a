#!/usr/bin/env python3
"""Compares the answers of weir's broker with those of Apache Kafka 4.1, field by field.

    scripts/compare.py [--weir target/release/weir]      starts a fresh node of each, and runs every case on both
    scripts/compare.py --only 'fetch*' --show            some cases only; --show prints every difference, listed or not
    scripts/compare.py --write-table                     only makes the table of docs/compatibility.md from the list

Every API that is served, at every version, with good and bad input: scripts/comparison/cases. Requests are written and
answers read with Kafka's own message classes (scripts/comparison/Codec.java). What must differ is put into the same words
(normal.py has the table of it). A difference that scripts/comparison/differences.toml does not list with a reason is a
fault, and so is a listed one that no longer occurs; docs/compatibility.md shows the list. Exits with 1 on any fault.

Needs Java 17 and Maven (scripts/kafka.sh install brings Kafka's jars).
"""
import argparse
import atexit
import fnmatch
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from comparison import listed
from comparison.cases import versions
from comparison.codec import Codec
from comparison.normal import differences
from comparison.registry import CASES, instances, run_all
from comparison.side import Node, Side
from weirtest import ROOT, free_port, free_server_port, wait_until_serves

PAGE = ROOT / "docs" / "compatibility.md"
# What Kafka's node is configured to (scripts/kafka.sh), and weir's defaults are not.
WEIR_CONFIG = ""


class Weir:
    """A fresh `weir broker`, gone at the end unless it failed."""

    def __init__(self, binary: str):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="weir-compare-"))
        self.log = self.directory / "broker.log"
        config = self.directory / "weir.yaml"
        config.write_text(WEIR_CONFIG)
        port = free_port()
        command = [binary, "broker", "--config", str(config), "--data-dir", str(self.directory / "data"), "--kafka-port", str(port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        atexit.register(self.process.kill)
        self.address = f"127.0.0.1:{port}"
        if not wait_until_serves(self.address, 30, self.process):
            sys.exit(f"weir broker does not serve: see {self.log}")

    def close(self) -> None:
        if self.process.poll() is not None:
            sys.exit(f"FAILED: weir broker has ended with {self.process.returncode}; see {self.log}")
        self.process.terminate()
        self.process.wait(30)
        shutil.rmtree(self.directory)


class Kafka:
    """A fresh Kafka node."""

    def __init__(self):
        self.port = str(free_server_port())
        self.script = str(ROOT / "scripts" / "kafka.sh")
        atexit.register(self.close)
        self.address = subprocess.run([self.script, "start", self.port], check=True, capture_output=True, text=True).stdout.strip()

    def close(self) -> None:
        subprocess.run([self.script, "stop", self.port], check=True)


def seen_differences(results: list) -> list:
    seen = []
    for result in results:
        kafka, weir = result.steps["kafka"], result.steps["weir"]
        if len(kafka) != len(weir):
            # It has broken off on one of them; what is missing then is no news.
            at = min(len(kafka), len(weir)) - 1
            kafka, weir = kafka[:at + 1], weir[:at + 1]
        for left, right in zip(kafka, weir):
            found = [] if left[0] == right[0] else [("step", left[0], right[0])]
            found += [("outcome", left[1], right[1])] if left[1] != right[1] else differences(left[2], right[2])
            seen += [listed.Difference(result.case, result.version, left[0], path, listed.as_text(a), listed.as_text(b)) for path, a, b in found]
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weir", default=str(ROOT / "target" / "release" / "weir"))
    parser.add_argument("--kafka", help="address of a Kafka 4.1 that is fresh and runs")
    parser.add_argument("--only", help="cases of this name, with * for anything")
    parser.add_argument("--show", action="store_true", help="print every difference, listed or not")
    parser.add_argument("--write-table", action="store_true", help="make the table of docs/compatibility.md, and nothing else")
    args = parser.parse_args()
    if args.write_table:
        sys.exit("\n".join(listed.document(PAGE, True)) or None)

    began = time.monotonic()
    subprocess.run([str(ROOT / "scripts" / "kafka.sh"), "install"], check=True)
    codec = Codec(ROOT)
    kafka = None if args.kafka else Kafka()
    weir = Weir(args.weir)
    nodes = (Node("kafka", args.kafka or kafka.address, codec), Node("weir", weir.address, codec))
    for node in nodes:
        Side(node, "start", None).coordinators()
    advertised = versions.advertised(nodes)
    work = [(one, version) for one, version in instances(advertised) if not args.only or fnmatch.fnmatch(one.name, args.only)]
    results = run_all(nodes, work)

    seen = seen_differences(results)
    if args.show:
        for result in sorted(results, key=lambda r: -max(r.seconds.values()))[:40]:
            print(f"{result.case} v{result.version}: {result.seconds}, {len(result.steps['kafka'])} steps")
        for one in seen:
            print(one)
    faults = listed.judge(seen, {one.name for one, _ in work} if args.only else None) + listed.document(PAGE, False)
    if not args.only:
        faults += versions.not_covered(advertised, results)
    for fault in faults:
        print(f"FAULT: {fault}")
    steps = sum(len(result.steps["kafka"]) for result in results)
    covered = set().union(*(result.covered for result in results))
    print(f"{len(CASES)} cases, {len(results)} with their versions, {steps} answers of {len(covered)} API versions compared in "
          f"{time.monotonic() - began:.0f} s: {len(seen)} differences, {len(listed.entries())} reasons, {len(faults)} faults")
    codec.close()
    weir.close()
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""What the simulator reaches: into batches, and end to end on the embedded broker with 10,000 devices.

usage: sim_bench.py [--weir target/release/weir] [--runs 5] [--seconds 10] [--brokers LIST]

Needs: cargo build --release -p weir && cargo build --release --examples -p weir-sim -p weir-client
One after the other, nothing else running: records into batches without a network (generate_bench), the
bare client with 200-byte records (produce_bench), `weir sim` as fast as it is taken, then `weir sim` at
100,000 records/s. Each run has a topic of its own; any record that is not answered fails the whole. Then
`weir sim verify` reads one of them back. Medians of the runs; one JSON line at the end.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
# The fleet's time that makes so many records is independent of the clock at the fastest pace.
RATE = 1_000_000


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, cwd=tempfile.gettempdir())
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1]), done.stderr


def start_broker(weir, data_dir):
    child = subprocess.Popen(
        [weir, "broker", "--kafka-port", "0", "--data-dir", data_dir],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=data_dir)
    for line in child.stdout:
        found = re.search(r"Kafka\s+(\S+:\d+)", line)
        if found:
            return child, found.group(1)
    sys.exit("the broker does not start")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--weir", default=ROOT / "target/release/weir")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=10, help="of a run, at a million records a second")
    parser.add_argument("--brokers", help="another Kafka than the embedded broker")
    args = parser.parse_args()
    weir = pathlib.Path(args.weir).resolve()
    examples = weir.parent / "examples"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WEIR_", "KAFKA_"))}
    os.environ.clear()
    os.environ.update(environment)
    records = RATE * args.seconds
    batches, bare, sim, paced = [], [], [], []
    with tempfile.TemporaryDirectory() as data_dir:
        child, brokers = (None, args.brokers) if args.brokers else start_broker(weir, data_dir)
        try:
            for n in range(args.runs):
                os.sync()
                line, words = run([examples / "generate_bench", "10000", "4000000"])
                batches.append(line["records_per_second"])
                print(words.strip(), file=sys.stderr)
                os.sync()
                line, _ = run([examples / "produce_bench", brokers, f"bare-{n}", "12", str(records), "5000"])
                bare.append(line["records"] / line["seconds"])
                os.sync()
                fleet = [weir, "sim", "--brokers", brokers, "--devices", "10000", "--json"]
                line, _ = run([*fleet, "--topic", f"sim-{n}", "--rate", str(RATE), "--speed", "max",
                               "--duration", f"{args.seconds}s"])
                sim.append(line)
                os.sync()
                line, _ = run([*fleet, "--topic", f"paced-{n}", "--rate", "100000", "--duration", "5s"])
                paced.append(line)
                print(f"run {n + 1}: batches {batches[-1]:,.0f}/s, bare {bare[-1]:,.0f}/s, "
                      f"sim {sim[-1]['records_per_second']:,.0f}/s "
                      f"({sim[-1]['bytes'] / max(sim[-1]['records'], 1):.0f} B, "
                      f"{sim[-1]['cpu_seconds_per_million']:.2f} CPU s per million, "
                      f"RSS {sim[-1]['rss_peak_bytes'] / 1e6:.0f} MB), at 100,000/s: "
                      f"{paced[-1]['cpu_seconds'] / paced[-1]['seconds'] * 100:.1f} % of a core, "
                      f"p99 {paced[-1]['send_latency_ms']['p99']} ms", file=sys.stderr)
            verified, _ = run([weir, "sim", "verify", "--brokers", brokers, "--topic", "sim-0", "--json"])
        finally:
            if child:
                child.terminate()
                child.wait()
    median = statistics.median
    print(json.dumps({
        "bench": "simulator", "devices": 10_000, "runs": args.runs,
        "into_batches_per_second": median(batches),
        "bare_client_per_second": median(bare),
        "records_per_second": median(line["records_per_second"] for line in sim),
        "bytes_per_record": sim[0]["bytes"] / max(sim[0]["records"], 1),
        "cpu_seconds_per_million": median(line["cpu_seconds_per_million"] for line in sim),
        "rss_peak_bytes": max(line["rss_peak_bytes"] for line in sim),
        "at_100k": {
            "core_share": median(line["cpu_seconds"] / line["seconds"] for line in paced),
            "send_latency_p99_ms": median(line["send_latency_ms"]["p99"] for line in paced),
            "jitter_p99_ms": median(line["jitter_ms"]["p99"] for line in paced),
        },
        "verified": verified,
    }))


if __name__ == "__main__":
    main()

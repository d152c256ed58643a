#!/usr/bin/env python3
"""How long `weir broker` takes until it serves, and what memory it has then: empty, with many partitions, and after
kill -9 with many gigabytes of log.

    cargo build --release -p weir && cargo build --release -p weir-log --example fill_dir
    scripts/restart_bench.py [--partitions 1000] [--gigabytes 10] [--unchecked-gigabytes 1] [--rounds 5]

Each line is one start, as JSON; the last lines are medians beside their bars (ready 50 ms, 25 MB; with 1,000 partitions
250 ms, 60 MB; after kill -9 1 s and 1 s for each gigabyte behind the recovery point). Ready is the first answer to
Metadata. Run it on a machine that does nothing else. It needs room for the gigabytes, and Python 3 alone.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

from weirtest import ROOT, free_server_port, wait_until_serves

TARGET = pathlib.Path(os.environ.get("BENCH_TARGET", ROOT / "target")) / "release"
IDLE_SECONDS = 1.0
START_SECONDS_MAX = 600


def fill(data: pathlib.Path, partitions: int, megabytes: int, unchecked_megabytes: int) -> None:
    """A fresh directory; its writer is killed while it writes, unless there is nothing to write."""
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    numbers = [str(number) for number in (partitions, megabytes, unchecked_megabytes)]
    command = [str(TARGET / "examples/fill_dir"), str(data / "kafka"), *numbers]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        line = writer.stdout.readline().strip()
        if line not in ("filled", "closed"):
            sys.exit(f"{command} says {line!r}")
        if line == "filled":
            time.sleep(0.2)
            writer.kill()
        writer.wait()


def memory_mb(pid: int) -> float:
    pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def start(data: pathlib.Path) -> dict:
    """One start of the broker, which is killed again."""
    os.sync()
    port = free_server_port()
    command = [str(TARGET / "weir"), "broker", "--data-dir", str(data), "--kafka-port", str(port)]
    log = data / "log.txt"
    with log.open("wb") as out:
        started = time.monotonic()
        broker = subprocess.Popen(command, stdout=out, stderr=out)
        serves = wait_until_serves(f"127.0.0.1:{port}", START_SECONDS_MAX, broker)
        ready_ms = (time.monotonic() - started) * 1e3
    if not serves:
        sys.exit(f"weir broker does not serve: {log.read_text(errors='replace')[-1000:]}")
    time.sleep(IDLE_SECONDS)
    facts = {"ready_ms": round(ready_ms, 1), "rss_mb": round(memory_mb(broker.pid), 1)}
    broker.kill()
    broker.wait()
    text = log.read_text(errors="replace")
    if "ERROR" in text:
        sys.exit(f"the start reports errors: {text[-2000:]}")
    return facts


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--partitions", type=int, default=1_000)
    arguments.add_argument("--gigabytes", type=float, default=10)
    arguments.add_argument("--unchecked-gigabytes", type=float, default=1)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--dir", type=pathlib.Path, default=ROOT / ".cache" / "restart-bench")
    options = arguments.parse_args()
    megabytes, unchecked = (round(number * 1_000) for number in (options.gigabytes, options.unchecked_gigabytes))
    recovery_ms_max = 1_000 + options.unchecked_gigabytes * 1_000
    # Name, partitions, megabytes, bars of design.md section 5 (None: there is none).
    cases = [
        ("empty, clean", 1, 0, 50, 25),
        ("partitions, clean", options.partitions, 0, 250, 60),
        ("12 partitions, kill -9", 12, megabytes, recovery_ms_max, None),
        ("partitions, kill -9", options.partitions, megabytes, recovery_ms_max, None),
    ]
    lines = []
    for name, partitions, size, *_ in cases:
        for number in range(options.rounds):
            fill(options.dir, partitions, size, unchecked)
            facts = start(options.dir)
            again = start(options.dir)
            line = {"case": name, "round": number, "partitions": partitions, "megabytes": size, **facts,
                    "again_ready_ms": again["ready_ms"]}
            lines.append(line)
            print(json.dumps(line), flush=True)
    shutil.rmtree(options.dir, ignore_errors=True)
    for name, _, _, ready_ms_max, rss_mb_max in cases:
        of_case = [line for line in lines if line["case"] == name]
        medians = {key: statistics.median(line[key] for line in of_case) for key in ("ready_ms", "again_ready_ms", "rss_mb")}
        print(json.dumps({"case": name, **medians, "ready_ms_max": ready_ms_max, "rss_mb_max": rss_mb_max}))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Runs the benches that scripts/bench.sh has built, and writes docs/benchmarks.{json,md}.

One system at a time: it starts fresh, is measured, and is gone before the next starts; `sync` before
every run. Systems alternate in every round, and the order turns round with each. A run that reports
an error ends everything. Each line of docs/benchmarks.json is one run; the document shows medians.
"""
import argparse
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import time
from datetime import date

from bench_report import render
from weirtest import ROOT, free_port, use_venv, wait_until_serves

use_venv()
from confluent_kafka import KafkaException, TopicPartition  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec  # noqa: E402

JSON_FILE, DOCUMENT = ROOT / "docs" / "benchmarks.json", ROOT / "docs" / "benchmarks.md"
SCRATCH = ROOT / ".cache" / "bench"
TARGET = pathlib.Path(os.environ.get("BENCH_TARGET", ROOT / "target"))
PARTITIONS = 12
# (bytes of a record, records of a batch): records of a run; a broker that is slower at small batches gets fewer, so that
# each takes about as long, half a second to three.
SHAPES = {(200, 5000): {"weir": 4_000_000, "kafka": 4_000_000, "kafka-flush": 2_000_000},
          (200, 100): {"weir": 1_000_000, "kafka": 1_000_000, "kafka-flush": 300_000},
          (200, 1): {"weir": 60_000, "kafka": 30_000, "kafka-flush": 6_000},
          (1_000, 1000): {"weir": 800_000, "kafka": 800_000, "kafka-flush": 400_000},
          (1_000, 100): {"weir": 500_000, "kafka": 400_000, "kafka-flush": 100_000},
          (1_000, 1): {"weir": 30_000, "kafka": 20_000, "kafka-flush": 3_000},
          (10_000, 100): {"weir": 80_000, "kafka": 80_000, "kafka-flush": 40_000},
          (10_000, 1): {"weir": 20_000, "kafka": 20_000, "kafka-flush": 3_000}}
# What a record of 200 bytes is by itself; the longer ones are filled up to this many less for key and framing.
PLAIN_RECORD_BYTES, FRAMING_BYTES = 200, 22
# Before anything is measured: a JVM compiles what runs often.
WARM_UP_RECORDS = {5000: 1_000_000, 100: 200_000, 1: 5_000}
# Half of what this shape reached with acks=all, for so long.
HALF_LOAD_SHAPE, HALF_LOAD_SECONDS = (200, 100), 4
# Commits of the disk probe: at most so many batches, and so many bytes.
DISK_BATCHES_MAX, DISK_BYTES_MAX = 4_000, 400_000_000
# So many that what a client allocates once is a small part.
CLIENT_RECORDS = {"weir": 8_000_000, "weir-single": 8_000_000, "rdkafka": 2_000_000, "franz-go": 3_000_000}
CONSUMED_RECORDS = 2_500_000
LATENCY_RATE, LATENCY_SECONDS, LATENCY_ONE_RECORDS = 10_000, 5, 1_000
IDLE_SECONDS = 1.0
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class System:
    """A broker process under measurement."""

    def __init__(self, name: str, port: int, command: list, log: pathlib.Path, environment: dict):
        self.name, self.address = name, f"127.0.0.1:{port}"
        with log.open("wb") as out:
            started = time.monotonic()
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **environment})
        if not wait_until_serves(self.address, 60, self.process):
            sys.exit(f"{name} does not serve: {log.read_text(errors='replace')[-1000:]}")
        self.ready_ms = (time.monotonic() - started) * 1e3

    def cpu_seconds(self) -> float:
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS

    def rss_mb(self) -> float:
        pages = int(pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * PAGE_BYTES / 1e6

    def rss_max_mb(self) -> float:
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"^VmHWM:\s*(\d+) kB$", status, re.M)[1]) * 1024 / 1e6

    def create_topic(self, name: str) -> None:
        admin = AdminClient({"bootstrap.servers": self.address, "log_level": 3})
        admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result(30)
        # Kafka names leaders before they lead; one that answers for its offsets does.
        for partition in range(PARTITIONS):
            until_led(admin, TopicPartition(name, partition))

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def until_led(admin: AdminClient, partition: TopicPartition) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            admin.list_offsets({partition: OffsetSpec.latest()})[partition].result(30)
            return
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def start(name: str) -> System:
    os.sync()
    if name == "weir":
        data, port = SCRATCH / "weir", free_port()
        shutil.rmtree(data, ignore_errors=True)
        command = [str(TARGET / "release/weir"), "broker", "--data-dir", str(data), "--kafka-port", str(port)]
        return System(name, port, command, SCRATCH / "weir.log", {})
    port = 39192
    environment = {"KAFKA_FLUSH": "1"} if name == "kafka-flush" else {"KAFKA_FLUSH": ""}
    script = str(ROOT / "scripts/kafka.sh")
    subprocess.run([script, "prepare", str(port)], check=True, env={**os.environ, **environment})
    return System(name, port, [script, "run", str(port)], SCRATCH / "kafka.log", environment)


def stop(system: System) -> None:
    system.stop()
    shutil.rmtree(SCRATCH / "weir", ignore_errors=True)
    if system.name != "weir":
        subprocess.run([ROOT / "scripts/kafka.sh", "stop", system.address.rpartition(":")[2]], check=True)


class Bench:
    def __init__(self, rounds: int, share: float):
        self.rounds, self.share = rounds, share
        self.lines, self.topics, self.started = [], 0, time.monotonic()
        self.rates = {}

    def count(self, records: int) -> int:
        """As many records in a quick run as its share says."""
        return max(100, round(records * self.share))

    def keep(self, test: str, round_number: int, system: str, **facts) -> None:
        line = {"test": test, "round": round_number, "system": system, **facts}
        self.lines.append(line)
        print(f"{time.monotonic() - self.started:6.0f} s  {json.dumps(line)}", flush=True)

    def run(self, command: list) -> dict:
        """Runs a client; its last line on standard output is its result."""
        os.sync()
        result = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300)
        if result.returncode != 0:
            sys.exit(f"{command} ended with {result.returncode}: {result.stderr[-1000:]}")
        facts = json.loads(result.stdout.splitlines()[-1])
        if facts.get("errors", 0) != 0:
            sys.exit(f"{command} had errors: {facts}")
        return facts

    def topic(self, system: System) -> str:
        self.topics += 1
        name = f"bench-{self.topics}"
        system.create_topic(name)
        return name

    def round(self, number: int) -> None:
        self.disk(number)
        systems = ["weir", "kafka", "kafka-flush"]
        for name in systems if number % 2 == 1 else reversed(systems):
            system = start(name)
            try:
                time.sleep(IDLE_SECONDS)
                self.keep("start", number, name, ready_ms=round(system.ready_ms, 1), rss_mb=round(system.rss_mb(), 1))
                self.warm_up(system)
                self.throughput(number, system, "all")
                self.half_load(number, system)
                if name != "kafka-flush":
                    self.throughput(number, system, "1")
                    self.clients(number, system)
                    self.latency(number, system)
                self.keep("loaded", number, name, rss_max_mb=round(system.rss_max_mb(), 1))
            finally:
                stop(system)

    def disk(self, number: int) -> None:
        self.keep("disk", number, "disk", **self.run([TARGET / "bench/release/probe", "disk", SCRATCH]))
        for size, batch in SHAPES:
            batches = max(8, round(min(DISK_BATCHES_MAX, DISK_BYTES_MAX // (size * batch)) * self.share))
            facts = self.run([TARGET / "bench/release/probe", "disk-log", SCRATCH, PARTITIONS, size * batch, batches])
            self.keep("disk-log", number, "disk", size=size, batch=batch, **facts)

    def probe(self, system: System, mode: str, shape: tuple, *amount, acks: str = "all") -> dict:
        size, batch = shape
        filled = [] if size == PLAIN_RECORD_BYTES else [f"value={size - FRAMING_BYTES}"]
        command = [TARGET / "bench/release/probe", mode, system.address, self.topic(system), PARTITIONS, batch, *amount, f"acks={acks}"]
        return self.run(command + filled)

    def warm_up(self, system: System) -> None:
        for batch, records in WARM_UP_RECORDS.items():
            self.probe(system, "produce", (PLAIN_RECORD_BYTES, batch), self.count(records))

    def throughput(self, number: int, system: System, acks: str) -> None:
        for (size, batch), records in SHAPES.items():
            count = self.count(records[system.name])
            cpu = system.cpu_seconds()
            facts = self.probe(system, "produce", (size, batch), count, acks=acks)
            cpu = (system.cpu_seconds() - cpu) * 1e6 / count
            self.rates[number, system.name, acks, size, batch] = facts["records"] / facts["seconds"]
            self.keep("throughput", number, system.name, acks=acks, size=size, batch=batch,
                      broker_cpu_seconds_per_million=round(cpu, 4), **facts)

    def half_load(self, number: int, system: System) -> None:
        rate = round(self.rates[number, system.name, "all", *HALF_LOAD_SHAPE] / 2)
        seconds = max(1, round(HALF_LOAD_SECONDS * self.share))
        facts = self.probe(system, "load", HALF_LOAD_SHAPE, rate, seconds)
        self.keep("half-load", number, system.name, **facts)

    def clients(self, number: int, system: System) -> None:
        address, examples = system.address, TARGET / "release/examples"
        for name, records in CLIENT_RECORDS.items():
            topic, count = self.topic(system), self.count(records)
            facts = self.run({
                "weir": [examples / "produce_bench", address, topic, PARTITIONS, count, 500],
                "weir-single": [examples / "produce_bench", address, topic, PARTITIONS, count, 1, "single"],
                "rdkafka": [TARGET / "bench/release/rdkafka-bench", "produce", address, topic, count],
                "franz-go": [TARGET / "bench/franz-go-bench", "produce", address, topic, count],
            }[name])
            self.keep("produce", number, system.name, **{**facts, "client": name})
            if name == "weir":
                full = topic
        count = self.count(CONSUMED_RECORDS)
        for name, command in {
            "weir": [examples / "consume_bench", address, full, count],
            "weir-objects": ["env", "OBJECTS=1", examples / "consume_bench", address, full, count],
            "rdkafka": [TARGET / "bench/release/rdkafka-bench", "consume", address, full, PARTITIONS, count],
            "franz-go": [TARGET / "bench/franz-go-bench", "consume", address, full, count],
        }.items():
            facts = self.run(command)
            self.keep("consume", number, system.name, **{**facts, "client": name})

    def latency(self, number: int, system: System) -> None:
        bench = TARGET / "release/examples/latency_bench"
        seconds = max(2, round(LATENCY_SECONDS * self.share))
        for mode in (["open", LATENCY_RATE, seconds], ["one", self.count(LATENCY_ONE_RECORDS)]):
            facts = self.run([bench, system.address, self.topic(system), *mode])
            self.keep("latency", number, system.name, **facts)


def output(*command: str) -> str:
    try:
        result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    except FileNotFoundError:
        return "unknown"
    return (result.stdout.strip() or result.stderr.strip()).splitlines()[0] if result.returncode == 0 else "unknown"


def machine() -> dict:
    cpu = re.search(r"^model name\s*:\s*(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    memory = re.search(r"^MemTotal:\s*(\d+) kB$", pathlib.Path("/proc/meminfo").read_text(), re.M)
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(int(memory[1]) * 1024 / 1e9) if memory else None,
        "kernel": platform.release(),
        "disk": f"{output('findmnt', '-no', 'FSTYPE', '-T', str(ROOT))} on {output('findmnt', '-no', 'SOURCE', '-T', str(ROOT))}",
    }


def versions() -> dict:
    """Of everything that is compared, from where each is pinned."""
    def locked(file: str, crate: str) -> str:
        found = re.search(rf'name = "{crate}"\nversion = "([^"]+)"', (ROOT / file).read_text())
        return found[1] if found else "unknown"
    pom = (ROOT / "scripts/kafka/pom.xml").read_text()
    go_mod = (ROOT / "bench/franz-go/go.mod").read_text()
    return {
        "weir": f"{locked('Cargo.lock', 'weir')} ({output('git', 'rev-parse', '--short', 'HEAD')})",
        "rustc": output("rustc", "--version").split()[1],
        "kafka": re.search(r"<kafka.version>(.*?)</kafka.version>", pom)[1],
        "java": output("java", "--version"),
        "librdkafka": locked("bench/Cargo.lock", "rdkafka-sys").partition("+")[2] or "unknown",
        "franz-go": re.search(r"franz-go v(\S+)", go_mod)[1],
        "go": output("go", "env", "GOVERSION").removeprefix("go"),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one short round, written to .cache/bench instead of docs")
    parser.add_argument("--render", action="store_true", help="only write the document again")
    args = parser.parse_args()
    json_file, document = JSON_FILE, DOCUMENT
    if args.quick:
        json_file, document = SCRATCH / "benchmarks.json", SCRATCH / "benchmarks.md"
    if not args.render:
        SCRATCH.mkdir(parents=True, exist_ok=True)
        bench = Bench(1 if args.quick else args.rounds, 0.02 if args.quick else 1.0)
        about = {"test": "about", "date": date.today().isoformat(), "rounds": bench.rounds,
                 "command": "scripts/bench.sh" + (" --quick" if args.quick else ""),
                 "machine": machine(), "versions": versions()}
        for number in range(1, bench.rounds + 1):
            bench.round(number)
        about["seconds"] = round(time.monotonic() - bench.started)
        json_file.write_text("".join(json.dumps(line) + "\n" for line in [about, *bench.lines]))
    lines = [json.loads(line) for line in json_file.read_text().splitlines()]
    document.write_text(render(lines))
    print(f"written: {document.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

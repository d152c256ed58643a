#!/usr/bin/env python3
"""weir log dump says of a directory what Kafka's own DumpLogSegments says, line by line; weir log verify finds it sound.

    scripts/log_tools_test.py --dir DIR BIN     compare over every file of a log directory that nobody has open
    scripts/log_tools_test.py --kafka BIN       let an Apache Kafka node write one (transactions, every codec, a compacted
                                                topic), stop it, and compare over that
"""
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import weirtest
from weirtest import ROOT, check

KAFKA = str(ROOT / "scripts" / "kafka.sh")
SUFFIXES = (".log", ".index", ".timeindex", ".txnindex", ".snapshot")
PORT = "19292"
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


def optional(value) -> str:
    return "OptionalLong.empty" if value is None else f"OptionalLong[{value}]"


def as_kafka(one: dict) -> str | None:
    """An object of `weir log dump --json` as DumpLogSegments prints it; None if it prints nothing like it."""
    kind = one["kind"]
    if kind == "batch":
        flags = {True: "true", False: "false"}
        return (
            f"baseOffset: {one['base_offset']} lastOffset: {one['last_offset']} count: {one['records']}"
            f" baseSequence: {one['base_sequence']} lastSequence: {one['last_sequence']} producerId: {one['producer_id']}"
            f" producerEpoch: {one['producer_epoch']} partitionLeaderEpoch: {one['leader_epoch']}"
            f" isTransactional: {flags[one['transactional']]} isControl: {flags[one['control']]}"
            f" deleteHorizonMs: {optional(one['delete_horizon_ms'])} position: {one['position']}"
            f" {one['timestamp_type']}: {one['max_timestamp_ms']} size: {one['size_bytes']} magic: {one['magic']}"
            f" compresscodec: {one['codec']} crc: {one['crc']} isvalid: {flags[one['crc_ok']]}"
        )
    if kind == "offset_index":
        return f"offset: {one['offset']} position: {one['position']}"
    if kind == "time_index":
        return f"timestamp: {one['timestamp_ms']} offset: {one['offset']}"
    if kind == "aborted_transaction":
        return (
            f"version: 0 producerId: {one['producer_id']} firstOffset: {one['first_offset']}"
            f" lastOffset: {one['last_offset']} lastStableOffset: {one['last_stable_offset']}"
        )
    if kind == "producer":
        return f"producerId: {one['producer_id']} producerEpoch: {one['producer_epoch']} coordinatorEpoch: {one['coordinator_epoch']} currentTxnFirstOffset: {optional(one['txn_first_offset'])}"
    return None


def of_weir(weir: str, directory: pathlib.Path) -> dict[str, list[str]]:
    output = subprocess.run([weir, "log", "dump", "--json", "--data-dir", directory], check=True, capture_output=True, text=True)
    found: dict[str, list[str]] = {}
    for line in output.stdout.splitlines():
        one = json.loads(line)
        text = as_kafka(one)
        if text is not None:
            found.setdefault(str(pathlib.Path(one["file"]).resolve()), []).append(text)
    return found


def of_kafka(files: list[pathlib.Path]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for at in range(0, len(files), 200):
        names = ",".join(str(file) for file in files[at : at + 200])
        output = subprocess.run([KAFKA, "tool", "kafka.tools.DumpLogSegments", "--files", names], check=True, capture_output=True, text=True)
        file = ""
        for line in output.stdout.splitlines():
            if line.startswith("Dumping "):
                file = str(pathlib.Path(line.removeprefix("Dumping ").strip()).resolve())
            elif line.startswith("producerId: ") and file.endswith(".snapshot"):
                # What follows are fields of the last batch alone, which a fresh producer has not.
                found.setdefault(file, []).append(line.split(" lastTimestamp:")[0])
            elif line.startswith(("baseOffset: ", "offset: ", "timestamp: ", "version: ")):
                found.setdefault(file, []).append(line.strip())
    return found


def compare(weir: str, directory: pathlib.Path) -> None:
    files = sorted(file.resolve() for file in directory.glob("*/*") if file.suffix in SUFFIXES and not file.parent.name.startswith("__cluster_metadata"))
    check(bool(files), f"{directory} holds {len(files)} files of logs")
    weirs, kafkas = of_weir(weir, directory), of_kafka(files)
    lines = 0
    for file in map(str, files):
        ours, theirs = weirs.get(file, []), kafkas.get(file, [])
        if file.endswith((".index", ".timeindex")):
            # Kafka's tool prints an empty index as one entry of zeros.
            zero = {"offset: 0 position: 0", "timestamp: 0 offset: 0"}
            base = int(pathlib.Path(file).name.split(".")[0])
            zero |= {f"offset: {base} position: 0", f"timestamp: 0 offset: {base}"}
            ours, theirs = [[line for line in side if line not in zero] for side in (ours, theirs)]
        if file.endswith(".snapshot"):
            ours, theirs = sorted(ours), sorted(theirs)
        for number, (our, their) in enumerate(zip(ours, theirs)):
            check(our == their, f"{file} line {number}\n  weir  {our}\n  kafka {their}") if our != their else None
        check(len(ours) == len(theirs), f"{file}: weir {len(ours)} lines, Kafka {len(theirs)}") if len(ours) != len(theirs) else None
        lines += len(ours)
    check(lines > 0, f"weir log dump and DumpLogSegments agree on {lines} lines of {len(files)} files")
    verified = subprocess.run([weir, "log", "verify", "--deep", "--json", "--data-dir", directory], capture_output=True, text=True)
    report = json.loads(verified.stdout)
    problems = [one for one in report["findings"] if one["problem"]]
    check(verified.returncode == 0 and not problems, f"weir log verify finds {report['batches']} batches in {report['segments']} segments sound {problems[:3]}")


def tool(name: str, *args: str) -> None:
    subprocess.run([KAFKA, "tool", name, *args], check=True, capture_output=True)


def fill(brokers: str) -> None:
    """Topics with small segments: plain ones with every codec, transactions with aborts, and one that the cleaner works on."""
    from confluent_kafka import Producer

    create = ["--bootstrap-server", brokers, "--create", "--partitions", "2", "--topic"]
    small = ["--config", "segment.bytes=1048576"]
    tool("org.apache.kafka.tools.TopicCommand", *create, "plain", *small)
    tool("org.apache.kafka.tools.TopicCommand", *create, "txn", *small)
    compact = ["cleanup.policy=compact", "segment.bytes=1048576", "min.cleanable.dirty.ratio=0.01", "segment.ms=1000", "delete.retention.ms=100"]
    tool("org.apache.kafka.tools.TopicCommand", *create, "compacted", *(word for config in compact for word in ("--config", config)))
    rng = random.Random(1)
    for codec in CODECS:
        producer = Producer({"bootstrap.servers": brokers, "compression.type": codec, "enable.idempotence": True, "linger.ms": 5})
        for n in range(20_000):
            producer.produce("plain", key=f"k{n % 97}", value=rng.randbytes(150).hex()[: rng.randrange(300)], headers={"n": str(n)})
            producer.produce("compacted", key=f"k{n % 97}", value=None if n % 13 == 0 else f"{codec} {n}")
            producer.poll(0)
        check(producer.flush(60) == 0, f"20,000 records with {codec} to each of two topics")
    producers = []
    for number in range(3):
        producer = Producer({"bootstrap.servers": brokers, "transactional.id": f"t{number}", "log_level": 2})
        producer.init_transactions()
        producers.append(producer)
    for turn in range(20):
        for producer in producers:
            producer.begin_transaction()
        for n in range(30):
            for producer in producers:
                producer.produce("txn", key=str(n), value=rng.randbytes(200))
        for number, producer in enumerate(producers):
            # An abort would throw away what has not been sent.
            producer.flush(30)
            producer.abort_transaction() if (turn + number) % 3 == 0 else producer.commit_transaction()
    check(True, "20 rounds of three transactions side by side, a third of them aborted")


def with_kafka(weir: str) -> None:
    weirtest.use_venv()
    subprocess.run([KAFKA, "start", PORT], check=True, stdout=subprocess.DEVNULL)
    node = ROOT / ".cache" / "kafka" / f"node-{PORT}"
    with tempfile.TemporaryDirectory() as copy:
        try:
            fill(f"127.0.0.1:{PORT}")
            cleaned = node / "data" / "cleaner-offset-checkpoint"
            weirtest.until("the cleaner has been at work", 90, lambda: cleaned.exists() and "compacted" in cleaned.read_text())
            live = subprocess.run([weir, "log", "verify", "--deep", "--data-dir", node / "data"], capture_output=True, text=True)
            if live.returncode != 0:
                print(live.stdout, live.stderr)
            check(live.returncode == 0, f"weir log verify finds the directory of the running Kafka sound: {live.stdout.splitlines()[-1]}")
            pid = int((node / "pid").read_text())
            subprocess.run(["kill", "-TERM", str(pid)], check=True)
            weirtest.until("Kafka stops", 60, lambda: not pathlib.Path(f"/proc/{pid}").exists() or not pathlib.Path(f"/proc/{pid}/cmdline").read_bytes())
            check((node / "data" / ".kafka_cleanshutdown").exists(), "Kafka has stopped cleanly")
            data = pathlib.Path(copy) / "data"
            subprocess.run(["cp", "-a", node / "data", data], check=True)
        finally:
            subprocess.run([KAFKA, "stop", PORT], check=False, stdout=subprocess.DEVNULL)
        compare(weir, data)


def main() -> None:
    match sys.argv[1:]:
        case ["--dir", directory, weir]:
            compare(weir, pathlib.Path(directory))
        case ["--kafka", weir]:
            with_kafka(weir)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()

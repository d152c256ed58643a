#!/usr/bin/env python3
"""Transactions of real clients against weir's broker, or against any Kafka.

    scripts/transactions.py [--weir target/release/weir] [--kills 100]     starts `weir broker` itself
    scripts/transactions.py --brokers 127.0.0.1:19092                      uses a running Kafka; no kill

1. librdkafka (transactions version 1): a read-process-write loop over three topics with send_offsets_to_transaction;
   commits are seen whole, aborts not at all, offsets with them.
2. A second producer of the same transactional id fences the first.
3. kill -9 of the broker in the middle of transactions: of none a part is seen, and none that was committed is lost.
4. The Java client of Kafka 4.1 (transactions version 2), if scripts/kafka.sh has installed it: commit, abort, fencing.
5. Kafka's dump tool decodes __transaction_state, and reads every file that weir wrote: as the last kill -9 left them, and
   after transactions were compacted and weir was stopped. If it is installed.

Needs the PyPI package confluent-kafka (scripts/setup.sh installs it). Exits with 1 on any fault.
"""
import argparse
import collections
import pathlib
import random
import shutil
import subprocess
import sys
import threading
import time

from librdkafka import Weir
from weirtest import ROOT, check, use_venv

use_venv()
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402

OUTPUTS = 3
TIMEOUT_SECONDS = 60


def create(address: str, *topics: str) -> None:
    # The client must outlive its futures.
    admin = AdminClient({"bootstrap.servers": address})
    for future in admin.create_topics([NewTopic(topic, 2, 1) for topic in topics]).values():
        future.result(30)


def transactional(address: str, name: str) -> Producer:
    producer = Producer({"bootstrap.servers": address, "transactional.id": name, "linger.ms": 1,
                         "transaction.timeout.ms": 60_000, "log_level": 0,
                         "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200})
    producer.init_transactions(TIMEOUT_SECONDS)
    return producer


def consumer(address: str, group: str, isolation: str) -> Consumer:
    return Consumer({"bootstrap.servers": address, "group.id": group, "isolation.level": isolation,
                     "enable.auto.commit": False, "auto.offset.reset": "earliest", "log_level": 0,
                     "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200})


def read_all(address: str, topics: list[str], isolation: str) -> list[tuple[str, str]]:
    """Topic and value of every record up to the end that this isolation level sees."""
    reader = consumer(address, f"reader-{time.time_ns()}", isolation)
    parts = [TopicPartition(topic, part, 0) for topic in topics for part in range(2)]
    ends = {(p.topic, p.partition): reader.get_watermark_offsets(p, 30, cached=False)[1] for p in parts}
    reader.assign(parts)
    seen, deadline = [], time.monotonic() + 120
    while time.monotonic() < deadline:
        for message in reader.consume(1000, 0.3):
            if message.error():
                sys.exit(f"FAILED: consume: {message.error()}")
            seen.append((message.topic(), message.value().decode()))
        # Markers and aborted records are no messages, but the position passes them.
        at = {(p.topic, p.partition): p.offset for p in reader.position(parts)}
        if all(ends[key] == 0 or at[key] >= ends[key] for key in ends):
            break
    else:
        sys.exit(f"FAILED: the reader does not come to the end: at {at}, ends {ends}")
    reader.close()
    return seen


def committed(address: str, group: str, topic: str) -> int:
    """The sum of the committed offsets of a group, or the number of records it has consumed."""
    reader = consumer(address, group, "read_committed")
    parts = reader.committed([TopicPartition(topic, part) for part in range(2)], TIMEOUT_SECONDS)
    reader.close()
    return sum(max(part.offset, 0) for part in parts)


def process_scenario(address: str) -> None:
    stamp = time.time_ns()
    source, outputs = f"in-{stamp}", [f"out-{stamp}-{n}" for n in range(OUTPUTS)]
    create(address, source, *outputs)
    plain = Producer({"bootstrap.servers": address})
    for n in range(100):
        plain.produce(source, str(n), partition=n % 2)
    check(plain.flush(30) == 0, "100 records to process are there")

    group = f"processors-{stamp}"
    reader, writer = consumer(address, group, "read_committed"), transactional(address, f"processor-{stamp}")
    reader.subscribe([source])
    done, rounds, wanted = 0, 0, []
    deadline = time.monotonic() + 120
    while done < 100 and time.monotonic() < deadline:
        messages = [m for m in reader.consume(10, 1.0) if not m.error()]
        if not messages:
            continue
        rounds += 1
        writer.begin_transaction()
        for message in messages:
            for output in outputs:
                writer.produce(output, f"{message.value().decode()}", partition=message.partition())
        offsets = [TopicPartition(m.topic(), m.partition(), m.offset() + 1) for m in messages]
        writer.send_offsets_to_transaction(offsets, reader.consumer_group_metadata(), TIMEOUT_SECONDS)
        if rounds % 3 == 0:
            writer.flush(TIMEOUT_SECONDS)  # An abort drops what has not been sent.
            writer.abort_transaction(TIMEOUT_SECONDS)
            for partition in reader.committed(reader.assignment(), TIMEOUT_SECONDS):
                reader.seek(TopicPartition(partition.topic, partition.partition, max(partition.offset, 0)))
        else:
            writer.commit_transaction(TIMEOUT_SECONDS)
            done += len(messages)
            wanted += [m.value().decode() for m in messages]
    reader.close()
    check(done >= 100, f"100 records are processed in {rounds} transactions")
    seen = read_all(address, outputs, "read_committed")
    by_topic = collections.Counter(seen)
    right = all(by_topic[output, str(n)] == 1 for output in outputs for n in range(100))
    check(right and len(seen) == 300, f"each is in each of 3 topics once ({len(seen)} records)")
    everything = read_all(address, outputs, "read_uncommitted")
    check(len(everything) > 300, f"who reads what is not committed also sees aborts ({len(everything)} records)")
    check(committed(address, group, source) == 100, "the group's offsets went with the transactions")


def fencing_scenario(address: str) -> None:
    topic, name = f"fenced-{time.time_ns()}", f"holder-{time.time_ns()}"
    create(address, topic)
    old = transactional(address, name)
    old.begin_transaction()
    old.produce(topic, "zombie", partition=0)
    old.flush(30)
    new = transactional(address, name)
    new.begin_transaction()
    new.produce(topic, "new", partition=0)
    new.commit_transaction(TIMEOUT_SECONDS)
    try:
        old.commit_transaction(TIMEOUT_SECONDS)
        fenced = False
    except KafkaException as error:
        fenced = error.args[0].fatal()
    check(fenced, "the first producer is fenced")
    check(read_all(address, [topic], "read_committed") == [(topic, "new")], "nothing of it is seen")


class Load(threading.Thread):
    """Runs numbered transactions over three topics, and remembers how each ended."""

    def __init__(self, address: str, name: str, topics: list[str]):
        super().__init__(daemon=True)
        self.address, self.id, self.topics = address, name, topics
        self.fates: dict[str, str] = {}
        self.stopping, self.number, self.fault = False, 0, ""

    def run(self) -> None:
        producer = None
        try:
            while not self.stopping:
                try:
                    producer = producer or transactional(self.address, self.id)
                    self.transaction(producer)
                except KafkaException as error:
                    producer = self.after(producer, error.args[0])
        except Exception as error:  # noqa: BLE001  The main thread reports it.
            self.fault = repr(error)

    def transaction(self, producer: Producer) -> None:
        self.number += 1
        key = f"{self.id}:{self.number}"
        self.fates[key] = "open"
        producer.begin_transaction()
        for topic in self.topics:
            for part in range(2):
                producer.produce(topic, key, partition=part)
        abort = self.number % 5 == 0
        while True:
            self.fates[key] = "aborting" if abort else "committing"
            try:
                (producer.abort_transaction if abort else producer.commit_transaction)(TIMEOUT_SECONDS)
                self.fates[key] = "aborted" if abort else "committed"
                return
            except KafkaException as error:
                if not error.args[0].retriable():
                    raise

    def after(self, producer: "Producer | None", error) -> "Producer | None":
        key = f"{self.id}:{self.number}"
        if producer and error.txn_requires_abort():
            try:
                producer.abort_transaction(TIMEOUT_SECONDS)
                self.fates[key] = "aborted"
                return producer
            except KafkaException:
                pass
        return None  # Begins anew, which aborts what was open.


def kill_scenario(weir: Weir, kills: int) -> None:
    topics = [f"killed-{time.time_ns()}-{n}" for n in range(OUTPUTS)]
    create(weir.address, *topics)
    loads = [Load(weir.address, f"load-{n}-{time.time_ns()}", topics) for n in range(3)]
    for load in loads:
        load.start()
    seed = time.time_ns()
    print(f"    seed {seed}")
    moments = random.Random(seed)
    for number in range(kills):
        time.sleep(0.05 + 0.4 * moments.random())  # The load runs on its own; the moment is what is random.
        weir.kill()
        if number == kills - 1:
            # Its socket is none of its files.
            shutil.copytree(data_of(weir), killed_data_of(weir), ignore=shutil.ignore_patterns("*.sock"))
        weir.start()
    time.sleep(1)
    for load in loads:
        load.stopping = True
    for load in loads:
        load.join(180)
        check(not load.is_alive() and not load.fault, f"{load.id} came to its end {load.fault}")
        transactional(weir.address, load.id)  # Aborts what is still open.
    seen = collections.Counter(value for _, value in read_all(weir.address, topics, "read_committed"))
    fates = {key: fate for load in loads for key, fate in load.fates.items()}
    counts = collections.Counter(fates.values())
    whole = OUTPUTS * 2
    halves = {key: count for key, count in seen.items() if count != whole}
    check(not halves, f"no transaction is half done ({len(seen)} seen; {dict(counts)}) {dict(list(halves.items())[:5])}")
    lost = [key for key, fate in fates.items() if fate == "committed" and key not in seen]
    check(not lost, f"no committed one of {counts['committed']} is lost after {kills} kills -9 {lost[:5]}")
    ghosts = [key for key, fate in fates.items() if fate in ("aborted", "aborting") and key in seen]
    check(not ghosts, f"nothing of {counts['aborted']} aborted ones is seen {ghosts[:5]}")
    check(len(fates) >= 10 * kills, f"{len(fates)} transactions ran, at least {10 * kills} are wanted")


def java_scenario(address: str) -> None:
    libs = ROOT / ".cache" / "kafka" / "libs"
    if not shutil.which("java") or not list(libs.glob("kafka-clients-*.jar")):
        print("SKIPPED: the Java client is not installed (scripts/kafka.sh install)")
        return
    source = pathlib.Path(__file__).with_name("Transactions.java")
    command = ["java", "-Xmx256m", "-cp", f"{libs}/*", str(source), address]
    result = subprocess.run(command, capture_output=True, text=True, timeout=240)
    sys.stdout.write("".join(line + "\n" for line in result.stdout.splitlines() if line.startswith("ok: ")))
    check(result.returncode == 0, f"the Java client finds all as it should be {result.stdout[-400:]}{result.stderr[-1500:]}"
          if result.returncode else "the Java client finds all as it should be")


def data_of(weir: Weir) -> pathlib.Path:
    return pathlib.Path(weir.dir)


def killed_data_of(weir: Weir) -> pathlib.Path:
    """What the last kill -9 left."""
    return pathlib.Path(f"{weir.dir}-killed")


def compact_scenario(weir: Weir) -> None:
    """Keys that are written over and over, by transactions of which every third is aborted, and cleaned."""
    topic, keys, rounds = "compacted-transactions", 10, 120
    config = {"cleanup.policy": "compact", "segment.bytes": "1048576", "min.cleanable.dirty.ratio": "0.01"}
    admin = AdminClient({"bootstrap.servers": weir.address})
    admin.create_topics([NewTopic(topic, 1, 1, config=config)])[topic].result(30)
    producer, wanted = transactional(weir.address, "compacting"), {}
    for number in range(rounds):
        producer.begin_transaction()
        values = {f"key-{(number + n) % keys}": f"{number} {'x' * 5_000}" for n in range(keys // 2)}
        for key, value in values.items():
            producer.produce(topic, key=key, value=value)
        producer.flush(TIMEOUT_SECONDS)
        if number % 3 == 0:
            producer.abort_transaction(TIMEOUT_SECONDS)
        else:
            producer.commit_transaction(TIMEOUT_SECONDS)
            wanted |= values
    cleaned = subprocess.run([weir.binary, "log", "clean", "--data-dir", str(data_of(weir) / "data"), "--topic", topic],
                             capture_output=True, text=True, timeout=120)
    check(cleaned.returncode == 0, f"a topic of transactions is cleaned {cleaned.stdout[-200:]}{cleaned.stderr[-300:]}".strip())
    reader = consumer(weir.address, "compacted-reader", "read_committed")
    reader.assign([TopicPartition(topic, 0, 0)])
    found, end = {}, reader.get_watermark_offsets(TopicPartition(topic, 0), 30, cached=False)[1]
    records, deadline = 0, time.monotonic() + 60
    while reader.position([TopicPartition(topic, 0)])[0].offset < end and time.monotonic() < deadline:
        for message in reader.consume(500, 0.3):
            found[message.key().decode()] = message.value().decode()
            records += 1
    check(found == wanted, f"the last committed value of each of {keys} keys is there")
    check(records < rounds * keys // 4, f"and most of the others are not ({records} records are left)")


def dump_scenario(weir: Weir) -> None:
    libs = ROOT / ".cache" / "kafka" / "libs"
    if not shutil.which("java") or not list(libs.glob("kafka_2*.jar")):
        print("SKIPPED: Kafka's dump tool is not installed (scripts/kafka.sh install)")
        return
    weir.process.terminate()
    weir.process.wait(10)
    logs = [str(path) for path in pathlib.Path(weir.dir).glob("**/__transaction_state-*/*.log") if path.stat().st_size]
    command = ["java", "-Xmx256m", "-cp", f"{libs}/*", "kafka.tools.DumpLogSegments", "--transaction-log-decoder"]
    result = subprocess.run([*command, "--files", ",".join(logs)], capture_output=True, text=True, timeout=120)
    decoded = result.stdout.count('"transactionStatus"')
    fine = result.returncode == 0 and decoded > 100 and "isvalid: false" not in result.stdout
    check(fine, f"Kafka's dump tool decodes the log of transactions ({decoded} records) {result.stderr[-300:]}".strip())
    for state, directory in [("stopped", data_of(weir)), ("killed", killed_data_of(weir))]:
        aborts = [path for path in directory.glob("**/*.txnindex") if path.stat().st_size]
        check(len(aborts) > 3, f"{len(aborts)} transaction indexes have aborts, {state}")
        dumped = subprocess.run([str(ROOT / "scripts/dump_log_test.sh"), f"--{state}", str(directory / "data")], capture_output=True,
                                text=True, timeout=300)
        check(dumped.returncode == 0, f"all files, {state}: {dumped.stdout.strip()} {dumped.stderr[-500:]}".strip())
    shutil.rmtree(killed_data_of(weir))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--weir", default="target/release/weir")
    parser.add_argument("--brokers")
    parser.add_argument("--kills", type=int, default=100)
    args = parser.parse_args()
    weir = None if args.brokers else Weir(args.weir)
    address = args.brokers or weir.address
    process_scenario(address)
    fencing_scenario(address)
    java_scenario(address)
    if weir:
        kill_scenario(weir, args.kills)
        compact_scenario(weir)
        dump_scenario(weir)
        weir.close()


if __name__ == "__main__":
    main()

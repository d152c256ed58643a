#!/usr/bin/env python3
"""weir serves a data directory that Apache Kafka wrote: the same records, and everything goes on where it was.

    scripts/kafka_dir_test.py BIN [--keep]

An Apache Kafka node is filled through librdkafka: every codec, headers, null keys and values, both kinds of timestamps,
segments by the dozen, transactions committed, aborted and still open, a compacted topic, deleted records, groups with committed
offsets. What a consumer reads of it is written down. Then Kafka is stopped, once by SIGTERM and once by kill -9, its
log.dirs is copied to DIR/kafka, `weir broker --data-dir DIR` starts on it, and the same consumer must read the same: offsets, timestamps
and their type, keys, values, headers, order; without aborted records where only what is committed is asked for.

Then it goes on: new records get the next offsets, groups read on from what they had committed, a transactional id of Kafka's
fences its old self, and weir starts again on its own directory. Configurations of topics are those that Kafka's controller knew; its
own log, `__cluster_metadata-0`, is read for them, and is no topic.
"""
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import weirtest
from weirtest import ROOT, check

KAFKA = str(ROOT / "scripts" / "kafka.sh")
PORT = "19294"
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
SMALL = {"segment.bytes": "1048576"}
TOPICS = {
    "plain": (3, SMALL),
    "stamped": (1, {"message.timestamp.type": "LogAppendTime", "segment.bytes": "1048576"}),
    "txn": (2, {"segment.bytes": "1048576"}),
    "compacted": (1, {"cleanup.policy": "compact", "segment.bytes": "1048576", "min.cleanable.dirty.ratio": "0.01",
                      "segment.ms": "1000", "delete.retention.ms": "100"}),
    "trimmed": (1, {"segment.bytes": "1048576"}),
    "empty": (2, {"retention.ms": "123456789"}),
}
TRIMMED_TO = 777


def fill(brokers: str) -> list:
    """Returns the producers whose transactions are open."""
    from confluent_kafka import Producer, TopicPartition
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": brokers})
    made = admin.create_topics([NewTopic(name, count, 1, config=config) for name, (count, config) in TOPICS.items()])
    for future in made.values():
        future.result(30)
    rng = random.Random(7)
    for codec in CODECS:
        producer = Producer({"bootstrap.servers": brokers, "compression.type": codec, "enable.idempotence": True, "linger.ms": 5})
        now = int(time.time() * 1000)
        for n in range(12_000):
            headers = [("n", str(n)), ("empty", b""), ("null", None)] if n % 3 else None
            key = None if n % 5 == 0 else f"k{n % 97}"
            value = None if n % 101 == 0 else rng.randbytes(rng.randrange(200)).hex()
            producer.produce("plain", key=key, value=value, headers=headers, timestamp=now - rng.randrange(3_600_000))
            if n % 4 == 0:
                producer.produce("stamped", key=key, value=value, timestamp=1)
                producer.produce("trimmed", key=key, value=value)
            producer.produce("compacted", key=f"k{n % 97}", value=None if n % 13 == 0 else f"{codec} {n}")
            producer.poll(0)
        check(producer.flush(60) == 0, f"12,000 records with {codec}")
    admin.delete_records([TopicPartition("trimmed", 0, TRIMMED_TO)])
    producers = [Producer({"bootstrap.servers": brokers, "transactional.id": f"t{n}", "transaction.timeout.ms": 600_000, "log_level": 2}) for n in range(3)]
    for producer in producers:
        producer.init_transactions()
    for turn in range(20):
        for producer in producers:
            producer.begin_transaction()
        for n in range(30):
            for producer in producers:
                producer.produce("txn", key=str(n), value=rng.randbytes(200))
        for number, producer in enumerate(producers):
            producer.flush(30)
            producer.abort_transaction() if (turn + number) % 3 == 0 else producer.commit_transaction()
    # The first stays open, and what comes behind it is not read until that is decided.
    for producer, value in zip(producers, ("in doubt", "behind it")):
        producer.begin_transaction()
        for partition in range(2):
            producer.produce("txn", key="last", value=value, partition=partition)
        producer.flush(30)
    producers[1].commit_transaction()
    check(True, "20 rounds of three transactions side by side, a third of them aborted; one stays open")
    return producers


def commit_offsets(brokers: str) -> dict:
    """Groups with offsets, with metadata, and one that is far back."""
    from confluent_kafka import Consumer, TopicPartition

    committed = {}
    for group, share in (("readers", 3), ("slow-readers", 10)):
        consumer = Consumer({"bootstrap.servers": brokers, "group.id": group, "enable.auto.commit": False})
        offsets = []
        for topic in ("plain", "txn"):
            for partition in range(TOPICS[topic][0]):
                _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=20)
                offsets.append(TopicPartition(topic, partition, end // share, metadata=f"by {group}"))
        weirtest.until("Kafka's coordinator takes a commit", 60, lambda: is_committed(consumer, offsets))
        consumer.close()
        committed[group] = sorted((one.topic, one.partition, one.offset, one.metadata) for one in offsets)
    return committed


def is_committed(consumer, offsets: list) -> bool:
    """Kafka's coordinator may still be on its way."""
    from confluent_kafka import KafkaException

    try:
        consumer.commit(offsets=offsets, asynchronous=False)
        return True
    except KafkaException:
        return False


def committed_offsets(brokers: str, groups) -> dict:
    from confluent_kafka import ConsumerGroupTopicPartitions
    from confluent_kafka.admin import AdminClient

    admin, found = AdminClient({"bootstrap.servers": brokers}), {}
    for group in groups:
        told = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(30)
        found[group] = sorted((one.topic, one.partition, one.offset, one.metadata) for one in told.topic_partitions)
    return found


def read_all(brokers: str, isolation: str) -> dict:
    """Everything a consumer gets, by topic and partition, with the watermarks."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "nobody", "isolation.level": isolation, "check.crcs": True,
                         "enable.partition.eof": True, "enable.auto.commit": False, "auto.offset.reset": "error"})
    found: dict = {}
    for topic, (count, _) in TOPICS.items():
        for partition in range(count):
            here = TopicPartition(topic, partition, OFFSET_BEGINNING)
            records = []
            consumer.assign([here])
            deadline = time.monotonic() + 60
            while True:
                check(time.monotonic() < deadline, f"{topic}-{partition} ends") if time.monotonic() >= deadline else None
                for message in consumer.consume(10_000, 1):
                    if message.error():
                        check(message.error().code() == KafkaError._PARTITION_EOF, str(message.error())) if message.error().code() != KafkaError._PARTITION_EOF else None
                        deadline = 0
                        continue
                    headers = [(name, None if value is None else value.hex()) for name, value in message.headers() or []]
                    records.append((message.offset(), message.timestamp(), message.key(), message.value(), headers))
                if deadline == 0:
                    break
            found[topic, partition] = (records, consumer.get_watermark_offsets(here, timeout=20))
    consumer.close()
    return found


def same(seen: dict, wanted: dict, what: str) -> None:
    for place, (records, marks) in wanted.items():
        theirs, their_marks = seen[place]
        for one, other in zip(theirs, records):
            check(one == other, f"{what} {place}\n  weir  {one}\n  kafka {other}") if one != other else None
        check(len(theirs) == len(records), f"{what} {place}: weir {len(theirs)} records, Kafka {len(records)}") if len(theirs) != len(records) else None
        check(their_marks == marks, f"{what} {place}: weir {their_marks}, Kafka {marks}") if their_marks != marks else None
    check(True, f"{what}: the same {sum(len(records) for records, _ in wanted.values())} records of {len(wanted)} partitions")


class Weir:
    def __init__(self, binary: str, directory: pathlib.Path):
        self.port, self.log = weirtest.free_server_port(), directory / "weir.log"
        command = [binary, "broker", "--data-dir", str(directory / "data"), "--kafka-port", str(self.port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "LC_ALL": "C", "LANG": "C"})
        self.address = f"127.0.0.1:{self.port}"
        if not weirtest.wait_until_serves(self.address, 30, self.process):
            print(self.log.read_text()[-4000:], file=sys.stderr)
            sys.exit("FAILED: weir does not start on Kafka's directory")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        check(self.process.wait(20) == 0, "weir stops cleanly")


def go_on(weir: Weir, before: dict) -> None:
    """Produces, and looks where it lands."""
    from confluent_kafka import Producer

    ends, landed = {place: marks[1] for place, (_, marks) in before.items()}, {}

    def note(error, message):
        check(error is None, f"produced to {message.topic()}: {error}") if error else None
        landed.setdefault((message.topic(), message.partition()), []).append(message.offset())

    producer = Producer({"bootstrap.servers": weir.address, "enable.idempotence": True})
    for place in ends:
        if place[0] != "txn":
            for n in range(10):
                producer.produce(place[0], key=f"new-{n}", value="new", partition=place[1], on_delivery=note)
    check(producer.flush(30) == 0, "an idempotent producer writes to each of Kafka's topics")
    for place, offsets in landed.items():
        wanted = list(range(ends[place], ends[place] + 10))
        check(sorted(offsets) == wanted, f"{place} goes on at {ends[place]}, not {offsets}") if sorted(offsets) != wanted else None
    check(True, "each partition goes on at the offset that was next")


def fence(weir: Weir) -> None:
    """Kafka's open transaction is aborted by the new owner of its id; what waited behind it is read."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": weir.address, "transactional.id": "t0", "log_level": 2})
    producer.init_transactions(30)
    producer.begin_transaction()
    for partition in range(2):
        producer.produce("txn", key="first", value="after", partition=partition)
    producer.commit_transaction(30)
    read = read_all(weir.address, "read_committed")
    for partition in range(2):
        values = [value for _, _, _, value, _ in read["txn", partition][0]]
        check(b"in doubt" not in values, f"txn-{partition}: Kafka's open transaction is aborted")
        check(values[-2:] == [b"behind it", b"after"], f"txn-{partition}: what was committed behind it, and after it, is read ({values[-2:]})")


def read_on(weir: Weir, committed: dict, before: dict) -> None:
    """A group goes on where it had committed under Kafka."""
    from confluent_kafka import Consumer

    consumer = Consumer({"bootstrap.servers": weir.address, "group.id": "readers", "enable.auto.commit": False,
                         "auto.offset.reset": "error"})
    consumer.subscribe(["plain"])
    wanted = {partition: offset for topic, partition, offset, _ in committed["readers"] if topic == "plain"}
    first: dict = {}
    deadline = time.monotonic() + 60
    while len(first) < len(wanted) and time.monotonic() < deadline:
        for message in consumer.consume(1000, 1):
            check(not message.error(), str(message.error())) if message.error() else None
            first.setdefault(message.partition(), message.offset())
    consumer.close()
    check(first == wanted, f"the group reads on from what it had committed: {first}")


def judge(binary: str, directory: pathlib.Path, told: dict, how: str) -> None:
    files_before = metadata_files(directory)
    weir = Weir(binary, directory)
    try:
        print(f"    Kafka was ended by {how}; weir says:")
        for line in weir.log.read_text().splitlines():
            print(f"      {line[:300]}")
        same(read_all(weir.address, "read_uncommitted"), told["all"], "everything")
        same(read_all(weir.address, "read_committed"), told["committed"], "what is committed")
        offsets = committed_offsets(weir.address, told["offsets"])
        check(offsets == told["offsets"], f"the committed offsets of {len(offsets)} groups, with their metadata")
        judge_topics(weir, told)
        read_on(weir, told["offsets"], told["all"])
        go_on(weir, told["all"])
        fence(weir)
        before = read_all(weir.address, "read_uncommitted")
        weir.stop()
        check(metadata_files(directory) == files_before, "the log of Kafka's own metadata is as it was, byte for byte")
        verified = subprocess.run([binary, "log", "verify", "--deep", "--json", "--data-dir", directory / "data"], capture_output=True, text=True)
        report = json.loads(verified.stdout)
        problems = [one for one in report["findings"] if one["problem"]]
        check(verified.returncode == 0 and not problems, f"weir log verify finds {report['batches']} batches sound {problems[:3]}")
        weir = Weir(binary, directory)
        same(read_all(weir.address, "read_uncommitted"), before, "after another start")
        weir.stop()
    finally:
        if weir.process.poll() is None:
            weir.process.kill()
            weir.process.wait()


def judge_topics(weir: Weir, told: dict) -> None:
    from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

    admin = AdminClient({"bootstrap.servers": weir.address})
    topics = {name: len(topic.partitions) for name, topic in admin.list_topics(timeout=20).topics.items()}
    wanted = {name: count for name, (count, _) in TOPICS.items()}
    found = {name: count for name, count in topics.items() if not name.startswith("__")}
    check(found == wanted, f"the topics and their partitions: {found}")
    check("__cluster_metadata" not in topics, "Kafka's log of its own metadata is no topic")
    for name, (_, config) in TOPICS.items():
        resource = ConfigResource(ResourceType.TOPIC, name)
        told_now = admin.describe_configs([resource])[resource].result(20)
        kept = {key: told_now[key].value for key in config}
        check(kept == config, f"{name} has the configuration it had: {kept}")


def metadata_files(directory: pathlib.Path) -> dict:
    place = directory / "data" / "kafka" / "__cluster_metadata-0"
    return {file.name: file.read_bytes() for file in sorted(place.iterdir())}


def run(binary: str, how: int, directory: pathlib.Path) -> None:
    subprocess.run([KAFKA, "start", PORT], check=True, stdout=subprocess.DEVNULL)
    node, brokers = ROOT / ".cache" / "kafka" / f"node-{PORT}", f"127.0.0.1:{PORT}"
    try:
        producers = fill(brokers)
        cleaned = node / "data" / "cleaner-offset-checkpoint"
        weirtest.until("the cleaner has been at work", 90, lambda: cleaned.exists() and "compacted" in cleaned.read_text())
        time.sleep(2)  # What it removes after file.delete.delay.ms is not asked for.
        offsets = commit_offsets(brokers)
        told = {"all": read_all(brokers, "read_uncommitted"), "committed": read_all(brokers, "read_committed"), "offsets": offsets}
        pid = int((node / "pid").read_text())
        os.kill(pid, how)
        weirtest.until("Kafka ends", 60, lambda: not pathlib.Path(f"/proc/{pid}").exists() or not pathlib.Path(f"/proc/{pid}/cmdline").read_bytes())
        check((node / "data" / ".kafka_cleanshutdown").exists() == (how == signal.SIGTERM), f"Kafka has ended by {how.name}")
        del producers
        (directory / "data").mkdir()
        subprocess.run(["cp", "-a", node / "data", directory / "data" / "kafka"], check=True)
    finally:
        subprocess.run([KAFKA, "stop", PORT], check=False, stdout=subprocess.DEVNULL)
    judge(binary, directory, told, how.name)


def main() -> None:
    args = [word for word in sys.argv[1:] if word != "--keep"]
    if len(args) != 1:
        sys.exit(__doc__)
    weirtest.use_venv()
    for how in (signal.SIGTERM, signal.SIGKILL):
        directory = pathlib.Path(tempfile.mkdtemp(prefix="weir-kafka-dir-"))
        run(args[0], how, directory)
        if "--keep" in sys.argv:
            print(f"    kept: {directory}")
        else:
            shutil.rmtree(directory)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""A Kafka Streams application on weir's broker, or on any Kafka: killed over and over, its result is exact.

    scripts/streams_test.py [--weir target/release/weir]      starts `weir broker` itself, and kills that too
    scripts/streams_test.py --brokers 127.0.0.1:19092         uses a running Kafka; only the application is killed

scripts/clients/streams/WordCount.java counts words, in all and in windows of ten seconds, with exactly_once_v2, RocksDB
stores, changelogs and a repartition topic. Lines are written while it runs. It is killed with SIGKILL and started again
with the same state directory, then with an empty one (as on another machine), and the broker is killed and restarted.
A reader of what is committed must see each word's counts as 1, 2, 3... up to the number of times it was written, in both
results: none missing, none twice. At the end the application stops by itself when asked to. Exits with 1 on any fault.

Needs Java 17, Maven, and the PyPI package confluent-kafka (scripts/clients/setup.sh installs what is missing).
"""
import argparse
import collections
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from weirtest import ROOT, check, use_venv

use_venv()
from confluent_kafka import Consumer, Producer, TopicPartition  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402
from librdkafka import Weir  # noqa: E402

BUILT = ROOT / ".cache" / "clients"
PARTITIONS = 2
WORDS = 40
WORDS_PER_LINE = 5
WINDOW_MS = 10_000
SECONDS_MAX = 90


class Application:
    """A process of the word count, with a state directory of its own choice."""

    def __init__(self, address: str, name: str, directory: pathlib.Path, state: str):
        self.log = directory / "application.log"
        log = self.log.open("ab")
        classes = f"{BUILT / 'streams'}:{BUILT / 'streams-libs'}/*"
        command = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", classes, "WordCount"]
        self.process = subprocess.Popen([*command, address, name, str(directory / state)], stdout=log, stderr=log)

    def check_alive(self) -> None:
        if self.process.poll() is not None:
            sys.exit(f"FAILED: the application ended with {self.process.returncode}; see {self.log}")

    def kill(self) -> None:
        self.check_alive()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(30)


class Feed(threading.Thread):
    """Writes lines of random words at a steady pace, and remembers what must be counted."""

    def __init__(self, address: str, name: str, seed: int, lines: int, seconds: float):
        super().__init__(daemon=True)
        self.producer = Producer({"bootstrap.servers": address, "enable.idempotence": True, "linger.ms": 5, "log_level": 0,
                                  "reconnect.backoff.max.ms": 200})
        self.topic, self.random, self.lines, self.pause = f"{name}-lines", random.Random(seed), lines, seconds / lines
        self.words: collections.Counter = collections.Counter()
        self.windows: collections.Counter = collections.Counter()
        self.fault = ""

    def run(self) -> None:
        begin, due = int(time.time() * 1000) // WINDOW_MS * WINDOW_MS, time.monotonic()
        for n in range(self.lines):
            words = [f"word-{self.random.randrange(WORDS)}" for _ in range(WORDS_PER_LINE)]
            stamp = begin + n * 20
            for word in words:
                self.words[word] += 1
                self.windows[f"{word}@{stamp // WINDOW_MS * WINDOW_MS}"] += 1
            self.producer.produce(self.topic, " ".join(words), partition=n % PARTITIONS, timestamp=stamp,
                                  on_delivery=self.settled)
            self.producer.poll(0)
            due += self.pause
            time.sleep(max(0, due - time.monotonic()))
        if self.producer.flush(SECONDS_MAX):
            self.fault = "lines are not delivered"

    def settled(self, error, _message) -> None:
        if error:
            self.fault = str(error)


class Results:
    """What a reader of what is committed has seen of both results so far."""

    def __init__(self, address: str, name: str):
        self.reader = Consumer({"bootstrap.servers": address, "group.id": f"{name}-results", "enable.auto.commit": False,
                                "isolation.level": "read_committed", "log_level": 0, "reconnect.backoff.max.ms": 200})
        self.topics = {f"{name}-counts": collections.defaultdict(list), f"{name}-windows": collections.defaultdict(list)}
        self.reader.assign([TopicPartition(topic, part, 0) for topic in self.topics for part in range(PARTITIONS)])

    def updates(self) -> int:
        """How many updates have come, of both results."""
        for message in self.reader.consume(10_000, 0.2):
            if not message.error():
                self.topics[message.topic()][message.key().decode()].append(int(message.value()))
        return sum(len(counts) for seen in self.topics.values() for counts in seen.values())

    def wait_for(self, updates: int, application: Application) -> None:
        deadline = time.monotonic() + SECONDS_MAX
        while (seen := self.updates()) < updates:
            application.check_alive()
            if time.monotonic() > deadline:
                sys.exit(f"FAILED: {seen} updates of {updates} within {SECONDS_MAX} s; see {application.log}")


def check_exact(seen: dict, wanted: collections.Counter, what: str) -> None:
    wrong = [word for word in wanted.keys() | seen.keys() if seen.get(word) != list(range(1, wanted[word] + 1))]
    first = f"; {wrong[0]}: {seen.get(wrong[0])} for 1 to {wanted[wrong[0]]}" if wrong else ""
    check(not wrong, f"{what}: {len(wanted)} keys, {sum(wanted.values())} updates, each once and in order{first}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--weir", default="target/release/weir")
    parser.add_argument("--brokers")
    parser.add_argument("--lines", type=int, default=3000)
    parser.add_argument("--seconds", type=float, default=30, help="how long the lines take to come")
    parser.add_argument("--seed", type=int, default=time.time_ns())
    args = parser.parse_args()
    subprocess.run([str(ROOT / "scripts" / "clients" / "setup.sh")], check=True)
    print(f"    seed {args.seed}")
    weir = None if args.brokers else Weir(args.weir)
    address = args.brokers or weir.address
    directory = pathlib.Path(tempfile.mkdtemp(prefix="weir-streams-"))
    name = f"words-{time.time_ns()}"
    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    for future in admin.create_topics([NewTopic(f"{name}-{topic}", PARTITIONS, 1) for topic in ("lines", "counts", "windows")]).values():
        future.result(30)

    feed, results = Feed(address, name, args.seed, args.lines, args.seconds), Results(address, name)
    application = Application(address, name, directory, "state")
    feed.start()
    updates = 2 * args.lines * WORDS_PER_LINE
    for part, state in ((0.1, "state"), (0.3, "state"), (0.5, "elsewhere")):
        results.wait_for(int(updates * part), application)
        application.kill()
        print(f"ok: killed after {results.updates()} of {updates} updates; goes on in {state}")
        application = Application(address, name, directory, state)
    if weir:
        results.wait_for(int(updates * 0.7), application)
        weir.kill()
        weir.start()
        print("ok: the broker was killed and restarted under it")
    feed.join()
    check(not feed.fault, f"all {args.lines} lines are written {feed.fault}".strip())
    results.wait_for(updates, application)
    # Reads on until the application has stopped: nothing may come after the last update.
    check(application.stop() == 143, "the application stops when asked to")
    results.updates()
    check_exact(results.topics[f"{name}-counts"], feed.words, "counts over all time")
    check_exact(results.topics[f"{name}-windows"], feed.windows, "counts in windows")
    topics = {topic for topic in admin.list_topics(timeout=30).topics if topic.startswith(f"{name}-") and topic.count("-") > 2}
    wanted = {f"{name}-counts-changelog", f"{name}-windows-changelog", f"{name}-words-repartition"}
    check(wanted <= topics, f"the application made its internal topics {sorted(topic[len(name):] for topic in topics)}")
    low = sum(results.reader.get_watermark_offsets(TopicPartition(f"{name}-words-repartition", part), 30, cached=False)[0]
              for part in range(PARTITIONS))
    check(low > 0, f"it deleted {low} records of its repartition topic that it was done with")
    if weir:
        weir.close()
    shutil.rmtree(directory)


if __name__ == "__main__":
    main()
